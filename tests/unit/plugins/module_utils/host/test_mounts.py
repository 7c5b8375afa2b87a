# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file system that a path is on is found in the kernel's table, and a container is known by its engine's marks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.host import mounts

TABLE = """overlay / overlay rw 0 0
proc /proc proc rw 0 0
/dev/vda /var/lib ext4 rw 0 0
tmpfs /var/lib/nebula\\040two tmpfs rw 0 0
/dev/vdb /srv ext4 rw 0 0
tmpfs /srv tmpfs rw 0 0
/dev/vdc /mnt/back\\134slash xfs rw 0 0
/dev/vdd /mnt/größe\\040zwei btrfs rw 0 0
server:/export/a\\040b /mnt/net nfs4 rw,addr=192.0.2.1 0 0
/dev/vde /mnt/日本\\040x ext4 rw 0 0
/dev/vdf /mnt/a\\134040b ext4 rw 0 0
/dev/vdg /mnt/form\x0cfeed\x85and\u2028more xfs rw 0 0
"""
# As proc(5) has it: no. of the mount, of its parent, the device, the root within it, the mount point, options …
INFO = """21 1 254:0 / / rw shared:1 - ext4 /dev/vda rw
22 21 0:20 / /proc rw - proc proc rw
30 21 7:0 / /mnt/日本\\040x rw - ext4 /dev/loop0 rw
31 21 7:1 / /mnt/form\x0cfeed rw - ext4 /dev/loop1 rw
32 30 7:0 /sub /mnt/日本\\040x/sub\\011tab rw - ext4 /dev/loop0 rw
"""


@pytest.fixture
def table(tmp_path: Path) -> str:
    (tmp_path / "mounts").write_text(TABLE, encoding="utf-8")
    return str(tmp_path / "mounts")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/", ("/", "overlay")),
        ("/opt/x", ("/", "overlay")),
        ("/var/lib", ("/var/lib", "ext4")),
        ("/var/lib/nebula", ("/var/lib", "ext4")),
        ("/var/library", ("/", "overlay")),
        ("/var/lib/nebula two/a", ("/var/lib/nebula two", "tmpfs")),
        ("/srv/a", ("/srv", "tmpfs")),
        ("/mnt/back\\slash/a", ("/mnt/back\\slash", "xfs")),
        ("/mnt/größe zwei/a", ("/mnt/größe zwei", "btrfs")),
        ("/mnt/net/x/../y", ("/mnt/net", "nfs4")),
        ("/mnt/日本 x/a", ("/mnt/日本 x", "ext4")),
        # What looks like a blank's number once its backslash is read is none.
        ("/mnt/a\\040b/a", ("/mnt/a\\040b", "ext4")),
        ("/mnt/form\x0cfeed\x85and\u2028more/a", ("/mnt/form\x0cfeed\x85and\u2028more", "xfs")),
    ],
)
def test_a_path_is_on_the_deepest_and_latest_mount_above_it(path: str, found: tuple[str, str], table: str) -> None:
    assert mounts.file_system(path, table) == found


def test_a_link_is_followed_to_what_it_is_on(tmp_path: Path, table: str) -> None:
    (tmp_path / "link").symlink_to("/srv/a")
    assert mounts.file_system(str(tmp_path / "link" / "b"), table) == ("/srv", "tmpfs")


def test_the_table_of_this_host_is_read(tmp_path: Path) -> None:
    assert mounts.file_system("/proc/self")[1] == "proc"
    assert mounts.file_system(str(tmp_path / "not" / "there"))[0]


def test_without_a_table_nothing_can_be_told(tmp_path: Path) -> None:
    assert mounts.file_system("/", str(tmp_path / "none")) == ("", "")


def test_a_name_that_is_no_utf_8_is_as_python_has_it(tmp_path: Path) -> None:
    (tmp_path / "mounts").write_bytes(b"/dev/vda / ext4 rw 0 0\n/dev/vdb /mnt/\xff\\040x xfs rw 0 0\n")
    assert mounts.file_system(os.fsdecode(b"/mnt/\xff x/a"), str(tmp_path / "mounts"))[1] == "xfs"


def test_where_a_device_is_mounted_in_the_order_in_which_it_was(tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_text(INFO, encoding="utf-8")
    table = str(tmp_path / "mountinfo")
    assert mounts.mount_points_of({"7:0"}, table) == ["/mnt/日本 x", "/mnt/日本 x/sub\ttab"]
    assert mounts.mount_points_of({"7:1", "254:0"}, table) == ["/", "/mnt/form\x0cfeed"]
    assert mounts.mount_points_of(set(), table) == []


def test_mounts_that_others_see_too(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        "1 0 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n2 1 0:5 / /run rw - tmpfs tmpfs rw\n"
        "3 2 0:5 /place /run/place rw master:3 shared:2 - tmpfs tmpfs rw\n",
        encoding="utf-8",
    )
    found = [mounts.is_shared(path, str(table)) for path in ("/srv", "/run/user", "/run/place/3")]
    assert found == [True, False, True]


@pytest.mark.parametrize("sign", ["none", "file", "environment"])
def test_a_container_is_known_by_what_its_engine_leaves(
    sign: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The marks are files of the test's own."""
    monkeypatch.setattr(mounts, "CONTAINER_MARKS", (str(tmp_path / ".dockerenv"), str(tmp_path / ".containerenv")))
    monkeypatch.delenv("container", raising=False)
    if sign == "file":
        (tmp_path / ".containerenv").touch()
    if sign == "environment":
        monkeypatch.setenv("container", "lxc")
    assert mounts.in_container() == (sign != "none")


def test_what_is_mounted_into_a_container_is_not_short_lived(table: str) -> None:
    kinds = {path: mounts.file_system(path, table)[1] in mounts.SHORT_LIVED for path in ("/opt", "/srv", "/var/lib")}
    assert kinds == {"/opt": True, "/srv": True, "/var/lib": False}


def test_a_link_is_no_mount_point_wherever_it_leads(tmp_path: Path) -> None:
    point, link = tmp_path / "a b", tmp_path / "link"
    point.mkdir()
    link.symlink_to(point)
    table = tmp_path / "table"
    table.write_text(f"tmpfs {str(point).replace(' ', chr(92) + '040')} tmpfs rw 0 0\n", encoding="utf-8")
    assert mounts.is_mount_point(str(point), str(table))
    assert not mounts.is_mount_point(str(link), str(table)) and not mounts.is_mount_point(str(point / "x"), str(table))
    # A link above it is the host's own.
    (tmp_path / "above").symlink_to(tmp_path)
    assert mounts.is_mount_point(str(tmp_path / "above/a b"), str(table))
    assert not mounts.is_mount_point(str(point), str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("path", "missing"),
    [
        ("/back ups/machines", "/back ups"),
        ("/back ups", "/back ups"),
        ("/back upsets", ""),
        ("/srv/nas/a", "/srv/nas"),
        ("/srv/nas", "/srv/nas"),
        ("/srv", ""),
        ("/opt/there/a", ""),
        ("/mnt/by hand/a", ""),
        ("/mnt/else", "/mnt"),
        ("/double/b/a", "/double/b"),
        ("/commented/a", ""),
        ("/a", ""),
    ],
)
def test_what_is_to_be_mounted_and_is_not_is_found(path: str, missing: str, tmp_path: Path) -> None:
    table, fstab = tmp_path / "mounts", tmp_path / "fstab"
    table.write_text(
        "/dev/vda / ext4 rw 0 0\n/dev/vdb /opt/there xfs rw 0 0\n/dev/vdd /mnt/by\\040hand ext4 rw 0 0\n",
        encoding="utf-8",
    )
    fstab.write_text(
        "# what is where\n\n/dev/vda / ext4 rw 0 1\n  UUID=1  /back\\040ups\text4   noauto 0 2\n"
        "nas:/a\t/srv/nas/\tnfs\n#/dev/vdc /commented ext4\n"
        "/dev/vdb /opt/there xfs defaults 0 0\nswap none swap\nbroken\n"
        "LABEL=old /mnt ext4 noauto\nnas:/b //double//b nfs\n",
        encoding="utf-8",
    )
    assert mounts.missing_mount(path, str(fstab), str(table)) == missing
    assert mounts.missing_mount(path, str(tmp_path / "none"), str(table)) == ""


def test_where_no_table_can_be_read_nothing_is_missing(tmp_path: Path) -> None:
    fstab = tmp_path / "fstab"
    fstab.write_text("nas:/a /srv nfs\n", encoding="ascii")
    assert mounts.missing_mount("/srv/a", str(fstab), str(tmp_path / "none")) == ""


def test_a_point_that_is_reached_by_a_link_is_the_directory_itself(tmp_path: Path) -> None:
    table, fstab = tmp_path / "mounts", tmp_path / "fstab"
    table.write_text("/dev/vda / ext4 rw 0 0\n", encoding="ascii")
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    fstab.write_text(f"nas:/a {tmp_path}/link/nas nfs\n", encoding="ascii")
    assert mounts.missing_mount(f"{tmp_path}/there/nas/a", str(fstab), str(table)) == f"{tmp_path}/there/nas"
