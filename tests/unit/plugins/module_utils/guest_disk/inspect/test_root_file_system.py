# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of a disk's file systems is taken for the root, and what is mounted below it.

The appliance is a stand-in (tests/tools/appliance_stand_in.py); tests/integration/test_image_check.py has the real one.
"""

from __future__ import annotations

import pytest
from appliance_stand_in import Appliance, Device, made

from ansible_collections.nebula.provision.plugins.module_utils.errors import CommandFailed, NotFound
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.inspect import root_file_system
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.inspect.root_file_system import (
    FileSystem,
)

WHAT = "image web"


@pytest.fixture
def linux(tmp_path):
    return made(tmp_path / "linux", {"etc/os-release": "ID=debian\n"})


@pytest.fixture
def empty(tmp_path):
    return made(tmp_path / "empty", {"home": None})


@pytest.mark.parametrize("mark", root_file_system.MARKS)
@pytest.mark.parametrize(("writable", "verb"), [(True, "mount"), (False, "mount-ro")])
def test_the_root_has_one_of_the_marks(tmp_path, empty, mark, writable, verb):
    place = made(tmp_path / "root", {mark: "x\n"})
    talk = Appliance({
        "/dev/sda1": Device({"TYPE": "ext4"}, empty),
        "/dev/sda2": Device({"TYPE": "xfs"}, place),
    })  # fmt: skip
    root = root_file_system.mount(talk, WHAT, writable)
    assert (root.os, root.device, root.mounted) == ("linux", "/dev/sda2", {"/": "/dev/sda2"})
    assert talk.mounted == {"/": place}
    assert [words for words in talk.asked if words[0].startswith("mount")] == [
        (verb, "/dev/sda1", "/"),
        (verb, "/dev/sda2", "/"),
    ]


def test_a_mark_may_be_a_link(tmp_path):
    place = made(tmp_path / "root", {"usr/share/release": "ID=a\n", "etc/os-release": "-> /usr/share/release"})
    talk = Appliance({"/dev/sda1": Device({"TYPE": "ext4"}, place)})
    assert root_file_system.mount(talk, WHAT, True).device == "/dev/sda1"


@pytest.mark.parametrize("kind", ["", "swap", "crypto_LUKS", "iso9660", "BitLocker", "vfat", "exfat"])
def test_what_is_no_root_is_not_even_mounted(linux, kind):
    talk = Appliance({"/dev/sda1": Device({"TYPE": kind} if kind else {}, linux)})
    with pytest.raises(NotFound) as caught:
        root_file_system.mount(talk, WHAT, True)
    assert "mount" not in talk.verbs()
    assert "no operating system was found in it, but /dev/sda1: " + (kind or "unknown") in str(caught.value)
    assert str(caught.value).startswith(WHAT) and "Name an image of one" in str(caught.value)


def test_a_disk_without_partitions_is_its_own_file_system(linux):
    talk = Appliance({"/dev/sda": Device({"TYPE": "ext4"}, linux)})
    root = root_file_system.mount(talk, WHAT, True)
    assert (root.device, root.systems[0].number) == ("/dev/sda", 0)


def test_windows_is_known_by_its_hive_and_linux_comes_first(tmp_path, linux, empty):
    windows = made(tmp_path / "windows", {"Windows/System32/config/SYSTEM": "regf"})
    both = {"/dev/sda1": Device({"TYPE": "ntfs"}, windows), "/dev/sda2": Device({"TYPE": "ext4"}, linux)}
    assert root_file_system.mount(Appliance(both), WHAT, True).os == "linux"
    both["/dev/sda2"] = Device({"TYPE": "ext4"}, empty)
    root = root_file_system.mount(Appliance(both), WHAT, True)
    assert (root.os, root.device) == ("windows", "/dev/sda1")


@pytest.mark.parametrize(("writable", "options"), [(True, "subvol=@"), (False, "subvol=@,ro")])
def test_a_root_in_a_subvolume_of_btrfs(linux, empty, writable, options):
    talk = Appliance({"/dev/sda1": Device({"TYPE": "btrfs"}, empty, subvolumes={"@": linux})})
    root = root_file_system.mount(talk, WHAT, writable)
    assert root.subvolume == "@" and ("mount-options", options, "/dev/sda1", "/") in talk.asked
    assert talk.mounted == {"/": linux}


def test_what_can_not_be_mounted_is_no_missing_system(linux):
    talk = Appliance({"/dev/sda1": Device({"TYPE": "ext4"}, None)})
    with pytest.raises(CommandFailed) as caught:
        root_file_system.mount(talk, WHAT, True)
    said = str(caught.value)
    assert "/dev/sda1: mount: wrong fs type" in said and "another disk" in said and said.startswith(WHAT)
    # Another one that can be is taken, and the first is told of.
    found = root_file_system.mount(
        Appliance({"/dev/sda1": Device({"TYPE": "ext4"}, None), "/dev/sda2": Device({"TYPE": "ext4"}, linux)}),
        WHAT, True,
    )  # fmt: skip
    assert found.device == "/dev/sda2" and list(found.failed) == ["/dev/sda1"]


@pytest.mark.parametrize("said", ["appliance closed the connection unexpectedly", "guestfs_launch failed"])
def test_an_appliance_that_breaks_is_no_finding_about_the_disk(linux, said):
    talk = Appliance({"/dev/sda1": Device({"TYPE": "ext4"}, linux)})
    talk.fails["mount"] = said
    with pytest.raises(CommandFailed, match=said):
        root_file_system.mount(talk, WHAT, True)


def test_an_empty_disk_is_told_as_one():
    with pytest.raises(NotFound, match=r"no operating system was found in it, nor any file system\. Name an image"):
        root_file_system.mount(Appliance({}), WHAT, True)


def test_all_that_blkid_tells():
    told = {
        "TYPE": "ext4", "LABEL": "a: b", "UUID": "0a1b", "PART_ENTRY_SCHEME": "gpt", "PART_ENTRY_NAME": "root",
        "PART_ENTRY_UUID": "77", "PART_ENTRY_TYPE": "0fc6", "PART_ENTRY_NUMBER": "2", "PART_ENTRY_OFFSET": "2048",
        "PART_ENTRY_SIZE": "4096", "PART_ENTRY_FLAGS": "0x4",
    }  # fmt: skip
    assert list(root_file_system.file_systems(Appliance({"/dev/sda2": Device(told)}))) == [
        FileSystem("/dev/sda2", "ext4", "a: b", "0a1b", "77", "root", "0fc6", 2, 2048 * 512, 4096 * 512, "gpt", True)
    ]


def test_a_label_with_a_blank_comes_with_a_backslash():
    """So does blkid print it for a shell."""
    told = {"TYPE": "ext4", "LABEL": r"my\ data\$", "PART_ENTRY_NAME": r"a\\b"}
    (found,) = root_file_system.file_systems(Appliance({"/dev/sda1": Device(told)}))
    assert (found.label, found.partition_label) == ("my data$", r"a\b")


@pytest.mark.parametrize(
    ("flags", "bootable"), [("0x80", True), ("0x4", True), ("", False), ("0x0", False), ("0x800000000000000", False)]
)
def test_the_flag_of_an_active_partition(flags, bootable):
    device = Device({"PART_ENTRY_FLAGS": flags, "PART_ENTRY_NUMBER": "no number"})
    (found,) = root_file_system.file_systems(Appliance({"/dev/sda1": device}))
    assert found.bootable is bootable and found.number == 0


@pytest.mark.parametrize(("member", "asked"), [("LVM2_member", True), ("linux_raid_member", True), ("ext4", False)])
def test_volumes_are_asked_for_where_something_holds_them(linux, member, asked):
    volumes = {"lvs": ["/dev/vg/root"], "md": ["/dev/md127"]}
    devices = {
        "/dev/sda1": Device({"TYPE": member}),
        "/dev/vg/root": Device({"TYPE": "xfs"}, linux),
        "/dev/md127": Device({"TYPE": "ext4"}, linux),
    }
    talk = Appliance(devices, volumes)
    found = [each.device for each in root_file_system.file_systems(talk)]
    assert found == (["/dev/sda1", "/dev/vg/root", "/dev/md127"] if asked else ["/dev/sda1"])


# --- fstab -----------------------------------------------------------------------------------------------------------


def with_fstab(tmp_path, text, **devices):
    root = made(tmp_path / "root", {"etc/fstab": text, "boot": None, "var": None, "var/log": None})
    talk = Appliance(
        {
            "/dev/sda1": Device({"TYPE": "ext4", "UUID": "aa"}, root),
            "/dev/sda2": Device({"TYPE": "ext4", "LABEL": "var", "UUID": "bb"}, made(tmp_path / "var", {"log": None})),
            "/dev/sda3": Device({"TYPE": "vfat", "UUID": "AB-CD"}, made(tmp_path / "efi", {})),
            **devices,
        }
    )
    return talk, root_file_system.mount(talk, WHAT, True)


def test_what_fstab_names_is_mounted_from_the_top_down(tmp_path):
    text = """
    UUID=ab-cd /var/log ext4 defaults 0 0
    UUID=bb    /var/    ext4 defaults 0 0
    UUID=aa    /        ext4 defaults 0 1
    """
    talk, root = with_fstab(tmp_path, text)
    assert root.mounted == {"/": "/dev/sda1", "/var": "/dev/sda2", "/var/log": "/dev/sda3"}
    assert [words[1:] for words in talk.asked if words[0] == "mount"] == [
        ("/dev/sda1", "/"), ("/dev/sda2", "/var"), ("/dev/sda3", "/var/log"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        "# LABEL=var /var ext4",
        "tmpfs /var tmpfs",
        "server:/x /var nfs",
        "LABEL=var none swap sw",
        "LABEL=var var ext4 defaults",
        "UUID=elsewhere /var ext4 defaults",
        "/dev/sdb1 /var ext4 defaults",
    ],
)
def test_what_is_not_on_this_disk_stays_out(tmp_path, line):
    _talk, root = with_fstab(tmp_path, line + "\n")
    assert root.mounted == {"/": "/dev/sda1"} and not root.failed


def test_a_subvolume_that_fstab_names(tmp_path):
    data = made(tmp_path / "data", {})
    device = Device({"TYPE": "btrfs", "UUID": "cc"}, data, subvolumes={"@var": data})
    talk, root = with_fstab(
        tmp_path, "UUID=cc /var btrfs noatime,subvol=@var 0 0\n", **{"/dev/sda4": device}
    )  # fmt: skip
    assert root.mounted["/var"] == "/dev/sda4" and ("mount-options", "subvol=@var", "/dev/sda4", "/var") in talk.asked


def test_a_file_system_that_can_not_be_read_is_told_and_the_others_are_mounted(tmp_path):
    broken = Device({"TYPE": "ntfs", "UUID": "dd"}, None)
    _talk, root = with_fstab(
        tmp_path, "UUID=dd /srv xfs defaults\nLABEL=var /var ext4 defaults\n", **{"/dev/sda4": broken}
    )
    assert root.mounted == {"/": "/dev/sda1", "/var": "/dev/sda2"}
    assert "wrong fs type" in root.failed["/dev/sda4"]


def test_what_could_not_be_mounted_is_not_tried_again(tmp_path):
    root = made(tmp_path / "root", {"etc/fstab": "UUID=dd /srv xfs defaults\n"})
    talk = Appliance({"/dev/sda1": Device({"TYPE": "xfs", "UUID": "dd"}), "/dev/sda2": Device({"TYPE": "ext4"}, root)})
    assert list(root_file_system.mount(talk, WHAT, True).failed) == ["/dev/sda1"]
    assert [words for words in talk.asked if words[:2] == ("mount", "/dev/sda1")] == [("mount", "/dev/sda1", "/")]
