# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can't be a file of a guest is refused, and so is a way into a disk that it may not go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, MissingDependency
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk import file_injection
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.file_injection import PREFIX, WAYS, Entry

WHAT = "disk 0 of vm web"


@pytest.mark.parametrize(
    "path",
    ["motd", "", "/", "//", "//etc/motd", "/etc/", "/etc/../motd", "/etc/./motd", "/etc//motd", "/a\0b", "..", "~/a"],
)
def test_a_path_that_is_none(path):
    with pytest.raises(InvalidValue, match=r"disk 0 of vm web: file .*Write it as /etc/motd"):
        file_injection.check([Entry(path, b"")], WHAT)


def test_a_path_may_be_in_two_partitions():
    path = "/a"
    file_injection.check([Entry(path, b""), Entry(path, b"", partition="1")], WHAT)
    with pytest.raises(InvalidValue, match="it is in the list twice"):
        file_injection.check([Entry(path, b"", partition="1"), Entry(path, b"", partition="1")], WHAT)


@pytest.mark.parametrize("path", ["/motd", "/etc/motd", "/etc/..motd", "/etc/a b", "/etc/é\n", "/.x"])
def test_a_path_that_is_one(path):
    file_injection.check([Entry(path, b"")], WHAT)


@given(st.text(st.sampled_from("/.ab\0"), max_size=8))
@settings(max_examples=50, deadline=None)
def test_what_passes_names_one_file_below_the_root(path):
    try:
        file_injection.check([Entry(path, b"")], WHAT)
    except InvalidValue:
        return
    assert path.startswith("/") and not path.endswith("/") and os.path.normpath(path) == path and "\0" not in path


def test_a_file_has_one_entry():
    with pytest.raises(InvalidValue, match=r"it is in the list twice.* Give each file one entry"):
        file_injection.check([Entry("/a", b""), Entry("/b", b""), Entry("/a", b"x")], WHAT)


@pytest.mark.parametrize("mode", [0, 0o644, 0o7777])
def test_modes(mode):
    file_injection.check([Entry("/a", b"", mode)], WHAT)


@pytest.mark.parametrize("mode", [-1, 0o10000])
def test_what_is_no_mode(mode):
    with pytest.raises(InvalidValue, match=r"mode -?[0-7]+: it is no mode. Write it as 0644"):
        file_injection.check([Entry("/a", b"", mode)], WHAT)


@pytest.mark.parametrize(("uid", "gid"), [(-1, 0), (0, -1), (1 << 32, 0), (0, 1 << 32)])
def test_what_is_no_owner(uid, gid):
    with pytest.raises(InvalidValue, match=f"owner {uid}:{gid}: it is no user and group. Give their numbers"):
        file_injection.check([Entry("/a", b"", uid=uid, gid=gid)], WHAT)
    file_injection.check([Entry("/a", b"", uid=(1 << 32) - 1, gid=0)], WHAT)


def test_the_content_is_not_shown():
    assert "secret" not in repr(Entry("/a", b"secret"))


# --- ways ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host that has these programs and no others; the system's directories are not looked into.

    The search path is all that is put in place of the real one."""
    place = tmp_path / "bin"
    place.mkdir()
    monkeypatch.setattr(file_injection.command, "_path", lambda: str(place))

    def has(*names):
        for name in names:
            (place / name).write_text("#!/bin/sh\n")
            (place / name).chmod(0o755)

    return has


def test_a_way_that_there_is_not():
    with pytest.raises(InvalidValue, match=r"via 'ftp': there is no such way. Known are auto, guestfs, nbd, loop"):
        file_injection.choose("ftp", True, WHAT)


@pytest.mark.parametrize("way", WAYS)
def test_a_trusted_disk_goes_the_way_that_was_said(way):
    assert file_injection.choose(way, True, WHAT) == way


@pytest.mark.parametrize("way", ["nbd", "loop"])
def test_the_hosts_kernel_mounts_what_is_trusted_alone(way):
    with pytest.raises(InvalidValue, match=f"via {way}: the image is not said to be trusted.*trusted: true"):
        file_injection.choose(way, False, WHAT)


@pytest.mark.parametrize("trusted", [True, False])
def test_libguestfs_is_the_first_choice(host, trusted):
    host("guestfish")
    assert file_injection.choose("auto", trusted, WHAT) == "guestfs"
    assert file_injection.choose("guestfs", trusted, WHAT) == "guestfs"


def test_without_libguestfs_only_what_is_trusted_is_opened(host):
    with pytest.raises(
        MissingDependency, match=r"program guestfish is not on this host.*Install the package guestfish"
    ):
        file_injection.choose("auto", False, WHAT)


@pytest.mark.parametrize(("obstacle", "way"), [("", "nbd"), ("no module", "loop")])
def test_without_libguestfs_by_what_the_kernel_has(host, monkeypatch, obstacle, way):
    """Whether this kernel has network block devices is what is put in place of the real one."""
    monkeypatch.setattr(file_injection.nbd, "why_unusable", lambda: obstacle)
    assert file_injection.choose("auto", True, WHAT) == way


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("raw", [Entry("motd", b"")]), "it is not an absolute path"),
        (("vmdk", [Entry("/etc/motd", b"")]), "format 'vmdk': it is not known here. Choose one of"),
        (("raw", [Entry("/etc/motd", b"")], "nbd"), "not said to be trusted"),
    ],
)
def test_all_is_refused_before_the_disk_is_touched(tmp_path, arguments, said):
    disk = tmp_path / "disk"
    disk.write_bytes(b"content")
    disk.chmod(0)
    with pytest.raises(InvalidValue, match=said):
        file_injection.inject(str(disk), *arguments[:2], WHAT, *arguments[2:])


def test_no_loop_device_shows_a_new_file(tmp_path):
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(512))
    assert list(file_injection.loop_devices_of(str(disk))) == [] and file_injection.free_devices(str(disk), WHAT) == []


# --- directories of sessions -----------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """The directory of the host in which these are made is put in place of the real one."""
    monkeypatch.setattr(file_injection, "SCRATCH", str(tmp_path))
    return tmp_path


def test_a_directory_is_there_for_one_session(place):
    with file_injection.scratch() as directory:
        Path(directory, "overlay").write_text("x")
        assert Path(directory).parent == place and Path(directory).name.startswith(PREFIX)
        assert Path(directory).stat().st_mode & 0o777 == 0o700
    assert list(place.iterdir()) == []


def test_it_goes_with_an_error_too(place):
    with pytest.raises(ZeroDivisionError), file_injection.scratch() as directory:
        Path(directory, "overlay").write_text("x")
        raise ZeroDivisionError
    assert list(place.iterdir()) == []


def test_what_a_killed_run_left_is_cleared_away_and_nothing_else(place):
    (place / f"{PREFIX}old/sub").mkdir(parents=True)
    (place / f"{PREFIX}file").write_text("x")
    (place / "other").mkdir()
    (place / f"{PREFIX}link").symlink_to(place / "other")
    with file_injection.scratch() as first:
        (place / "other/kept").write_text("x")
        # One that is in use is left alone.
        with file_injection.scratch() as second:
            assert os.path.isdir(first) and first != second
        assert os.path.isdir(first)
    left = {path.name for path in place.iterdir()}
    assert left == {f"{PREFIX}file", f"{PREFIX}link", "other"} and (place / "other/kept").exists()
