# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files are put into a root that this host's kernel has mounted, and none of the guest's links leads out of it.

A directory stands for the mounted root, as mounting one takes root; tests/integration/test_file_injection.py mounts."""

from __future__ import annotations

import contextlib
import os
import stat

import pytest
from appliance_stand_in import made

from ansible_collections.nebula.provision.plugins.module_utils.errors import CommandFailed, ImageRefused
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk import file_injection
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.file_injection import Entry
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.open.kernel_mount import View
from ansible_collections.nebula.provision.plugins.module_utils.host.command import Completed

WHAT = "disk 0 of vm web"
UID, GID = os.geteuid(), os.getegid()


class Mounted(View):
    """A view whose disk is one file system of Linux, which is mounted already."""

    def run(self, *argv, timeout=60.0, check=True):
        return Completed(argv, 0, "ext4\n" if argv[0] == "blkid" else "", "", 0.0)


@pytest.fixture
def outside(tmp_path):
    return made(tmp_path / "outside", {"file": "the host's\n"})


@pytest.fixture
def root(tmp_path, outside):
    return made(tmp_path / "root", {
        "etc/os-release": "ID=a\n", "etc/motd": "old\n", "data": None,
        "absolute": "-> /data", "etc/absolute": "-> /data", "up": "-> ../../../data",
        "out": f"-> {outside}", "around": "-> around2", "around2": "-> around", "etc/link": f"-> {outside}/file",
    })  # fmt: skip


@pytest.fixture
def view(tmp_path, root):
    return Mounted(os.getpid(), str(tmp_path), "/disk")


def entry(path, content=b"new", mode=0o640):
    return Entry(path, content, mode, UID, GID)


def put(view, *entries):
    return [each.path for each in file_injection._write_into_view(view, entries, WHAT)]


def test_a_file_is_written_once(view, root):
    assert put(view, entry("/etc/motd")) == ["/etc/motd"]
    found = (root / "etc/motd").stat()
    assert (root / "etc/motd").read_bytes() == b"new" and stat.S_IMODE(found.st_mode) == 0o640
    assert put(view, entry("/etc/motd")) == []


@pytest.mark.parametrize(
    "other", [entry("/etc/motd", b"older"), entry("/etc/motd", b"nex"), entry("/etc/motd", mode=0o600)]
)
def test_what_differs_is_written_again(view, root, other):
    put(view, other)
    assert put(view, entry("/etc/motd")) == ["/etc/motd"] and (root / "etc/motd").read_bytes() == b"new"


def test_missing_directories_are_made(view, root):
    before = os.umask(0o077)
    try:
        assert put(view, entry("/a/b/c")) == ["/a/b/c"]
    finally:
        os.umask(before)
    assert stat.S_IMODE((root / "a/b").stat().st_mode) == 0o755


@pytest.mark.parametrize("path", ["/absolute/x", "/etc/absolute/x", "/up/x", "/data/../absolute/./x"])
def test_links_lead_to_where_they_do_in_the_guest(view, root, path):
    put(view, Entry(path, b"new", 0o600, UID, GID))
    assert (root / "data/x").read_bytes() == b"new"


def test_a_link_to_the_hosts_own_directory_ends_within_the_guest(view, root, outside):
    put(view, entry("/out/file"))
    assert (outside / "file").read_text() == "the host's\n"
    assert (root / str(outside).lstrip("/") / "file").read_bytes() == b"new"


def test_a_link_in_the_place_of_the_file_is_replaced(view, root, outside):
    put(view, entry("/etc/link"))
    assert (outside / "file").read_text() == "the host's\n" and (root / "etc/link").read_bytes() == b"new"
    assert not (root / "etc/link").is_symlink()


def test_links_that_lead_around(view):
    with pytest.raises(CommandFailed, match=r"writing /around/x: .*leads around in links"):
        put(view, entry("/around/x"))


@pytest.mark.parametrize(("path", "said"), [("/data", "directory"), ("/etc/motd/x", "ot a directory")])
def test_what_is_in_the_way_is_told(view, path, said):
    with pytest.raises(CommandFailed) as caught:
        put(view, entry(path))
    assert str(caught.value).startswith(f"{WHAT}: writing {path}: ") and said in caught.value.found
    assert "See whether a directory is there" in caught.value.remedy


def test_what_another_file_system_would_hide_is_refused(view, root):
    (root / "etc/fstab").write_text("UUID=aa / ext4\nUUID=bb /data ext4\n")
    with pytest.raises(ImageRefused, match=r"its /data is on a file system of its own"):
        put(view, entry("/data/sub/file"))
    assert put(view, entry("/etc/motd")) == ["/etc/motd"]


@pytest.mark.parametrize(("config", "again"), [("SELINUX=enforcing\n", True), ("SELINUX=disabled\n", False)])
def test_a_guest_with_selinux_labels_its_files_anew(view, root, config, again):
    """The mark is root's, and an ordinary user can only make it, not give it away."""
    made(root, {"etc/selinux/config": config})
    with contextlib.nullcontext() if UID == 0 else contextlib.suppress(OSError, CommandFailed):
        put(view, entry("/etc/new"))
    assert (root / ".autorelabel").exists() is again
    # Where nothing was written, nothing is to be labelled.
    (root / ".autorelabel").unlink(missing_ok=True)
    assert put(view, entry("/etc/new")) == [] and not (root / ".autorelabel").exists()


def test_what_is_in_the_way_of_the_mark_for_labels_is_told(view, root):
    made(root, {"etc/selinux/config": "SELINUX=enforcing\n", ".autorelabel": None})
    with pytest.raises(CommandFailed) as caught:
        put(view, entry("/etc/new"))
    assert str(caught.value).startswith(f"{WHAT}: writing /.autorelabel: ") and "directory" in caught.value.found
    assert "or the file system is full" in caught.value.remedy


def test_no_descriptor_is_left_open(view):
    before = len(os.listdir("/proc/self/fd"))
    put(view, entry("/absolute/a/b"), entry("/up/x"))
    with pytest.raises(CommandFailed):
        put(view, entry("/around/x"))
    assert len(os.listdir("/proc/self/fd")) == before
