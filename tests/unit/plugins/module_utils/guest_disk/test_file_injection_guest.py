# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files are put into a root that an appliance has mounted, as the guest's own links and owners want it.

The appliance is a stand-in (tests/tools/appliance_stand_in.py); tests/integration/test_file_injection.py has the real
one."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from appliance_stand_in import Appliance, Device, made

from ansible_collections.nebula.provision.plugins.module_utils.errors import CommandFailed
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk import file_injection, guest_tree
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.file_injection import Entry
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.inspect.root_file_system import Root

WHAT = "disk 0 of vm web"
LINUX = Root("linux", "/dev/sda1", ())
WINDOWS = Root("windows", "/dev/sda1", ())


@pytest.fixture
def talk(tmp_path):
    files = {"etc/motd": "old\n", "etc/target": "kept\n", "etc/link": "-> /etc/target", "srv": "-> /data", "data": None}
    appliance = Appliance({"/dev/sda1": Device({"TYPE": "ext4"}, made(tmp_path / "root", files))})
    appliance.mounted = {"/": tmp_path / "root"}
    return appliance


def test_a_file_comes_with_its_content_mode_and_owner(talk, tmp_path):
    file_injection.write(talk, [Entry("/etc/new", b"a\0\xff", 0o640, 7, 8)], LINUX, WHAT)
    place = tmp_path / "root/etc/new"
    assert place.read_bytes() == b"a\0\xff" and stat.S_IMODE(place.stat().st_mode) == 0o640
    assert talk.owners == {"/etc/new": (7, 8)}
    # A change of owner takes the bits for other users away.
    assert talk.verbs().index("chown") < talk.verbs().index("chmod")


def test_missing_directories_are_made_and_others_left(talk, tmp_path):
    (tmp_path / "root/etc").chmod(0o700)
    file_injection.write(talk, [Entry("/etc/a/b/file", b"")], LINUX, WHAT)
    assert [words[1] for words in talk.asked if words[0] == "mkdir-mode"] == ["/etc/a", "/etc/a/b"]
    assert stat.S_IMODE((tmp_path / "root/etc").stat().st_mode) == 0o700


def test_a_directory_that_is_a_link_is_followed(talk, tmp_path):
    file_injection.write(talk, [Entry("/srv/file", b"x")], LINUX, WHAT)
    assert (tmp_path / "root/data/file").read_bytes() == b"x" and (tmp_path / "root/srv").is_symlink()


def test_a_link_in_the_place_of_the_file_is_replaced(talk, tmp_path):
    file_injection.write(talk, [Entry("/etc/link", b"new")], LINUX, WHAT)
    assert (tmp_path / "root/etc/target").read_text() == "kept\n"
    assert not (tmp_path / "root/etc/link").is_symlink() and (tmp_path / "root/etc/link").read_bytes() == b"new"


def test_windows_has_neither_owners_nor_modes_of_ours(talk):
    file_injection.write(talk, [Entry("/etc/new", b"x", 0o600, 5, 5)], WINDOWS, WHAT)
    assert talk.owners == {} and not {"chmod", "chown", "touch", "cat"} & set(talk.verbs())


@pytest.mark.parametrize(
    ("config", "again"),
    [
        ("SELINUX=enforcing\n", True),
        ("# x\n  SELinux=Permissive  \n", True),
        ("SELINUX=disabled\n", False),
        ("#SELINUX=enforcing\n", False),
        ("", False),
    ],
)
def test_a_guest_with_selinux_labels_its_files_anew(talk, tmp_path, config, again):
    made(tmp_path / "root", {"etc/selinux/config": config})
    file_injection.write(talk, [Entry("/etc/new", b"")], LINUX, WHAT)
    assert (tmp_path / "root/.autorelabel").exists() is again


def test_a_directory_in_the_place_of_the_file_is_an_error(talk):
    with pytest.raises(CommandFailed) as caught:
        file_injection.write(talk, [Entry("/data", b"")], LINUX, WHAT)
    said = str(caught.value)
    assert said.startswith("disk 0 of vm web: writing /data: ") and "Is a directory" in said
    assert "See whether a directory is there" in said


def test_what_is_in_the_way_of_the_mark_for_labels_is_told(talk, tmp_path, monkeypatch):
    made(tmp_path / "root", {"etc/selinux/config": "SELINUX=enforcing\n"})
    ask = talk.ask

    def full(verb, *words, **values):
        if verb == "touch":
            raise CommandFailed("guestfish: touch /.autorelabel", "No space left on device")
        return ask(verb, *words, **values)

    monkeypatch.setattr(talk, "ask", full)
    with pytest.raises(CommandFailed) as caught:
        file_injection.write(talk, [Entry("/etc/new", b"")], LINUX, WHAT)
    assert str(caught.value).startswith(f"{WHAT}: writing /.autorelabel: No space left on device. See whether")


def test_content_is_on_no_disk():
    with file_injection.memory_file(b"secret") as path:
        assert Path(path).read_bytes() == b"secret" and "memfd" in os.readlink(path)
    assert not os.path.exists(path)


def test_a_link_is_followed_from_the_directory_that_it_stands_in(tmp_path):
    (tmp_path / "etc/real").mkdir(parents=True)
    (tmp_path / "etc/link").symlink_to("real")
    (tmp_path / "link").symlink_to("etc")
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        found = guest_tree.open_directory(root, "etc/link", make=False)
        try:
            assert os.path.samestat(os.fstat(found), os.stat(tmp_path / "etc/real"))
        finally:
            os.close(found)
    finally:
        os.close(root)
