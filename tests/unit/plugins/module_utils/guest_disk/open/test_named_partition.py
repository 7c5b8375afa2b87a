# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which file system a user means by a partition, and what is said where none can be meant.

The appliance is a stand-in (tests/tools/appliance_stand_in.py); tests/integration/test_file_injection.py has the real
one."""

from __future__ import annotations

import pytest
from appliance_stand_in import Appliance, Device, made

from ansible_collections.nebula.provision.plugins.module_utils.errors import CommandFailed, ImageRefused, NotFound
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk import file_injection
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.file_injection import Entry
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.inspect.root_file_system import FileSystem
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.open import named_partition

WHAT = "files for image data"
MiB = 1 << 20
EFI = FileSystem("/dev/sda1", "vfat", "EFI", "75A4-DD40", "9A-1", "esp", number=1, size=8 * MiB)
DATA = FileSystem("/dev/sda2", "ext4", "my data", "0a1b", "9a-2", number=2, size=64 * MiB)
SWAP = FileSystem("/dev/sda3", "swap", number=3, size=16 * MiB)
LUKS = FileSystem("/dev/sda5", "crypto_LUKS", number=5, size=16 * MiB)
PHYSICAL = FileSystem("/dev/sda6", "LVM2_member", number=6, size=512 * MiB)
BARE = FileSystem("/dev/sda7", "", number=7, size=MiB)
VOLUME = FileSystem("/dev/my-vg/data", "xfs", size=300 * MiB)
WHOLE = FileSystem("/dev/sda", "")
ALL = (EFI, DATA, SWAP, LUKS, PHYSICAL, BARE, VOLUME, WHOLE)
THERE = (
    "It has 1: vfat, label EFI, 8 MiB; 2: ext4, label my data, 64 MiB; 3: swap, 16 MiB; 5: crypto_LUKS, 16 MiB; "
    "6: LVM2_member, 512 MiB; 7: no known file system, 1 MiB; /dev/my-vg/data: xfs, 300 MiB"
)


@pytest.mark.parametrize(
    ("partition", "system"),
    [
        ("1", EFI),
        ("2", DATA),
        ("LABEL=EFI", EFI),
        ("LABEL=my data", DATA),
        ("UUID=75a4-dd40", EFI),
        ("PARTUUID=9A-2", DATA),
        ("PARTLABEL=esp", EFI),
        ("/dev/my-vg/data", VOLUME),
        ("/dev/mapper/my--vg-data", VOLUME),
    ],
)
def test_what_a_partition_is_named_by(partition, system):
    assert named_partition.find(partition, ALL, WHAT) is system


def test_a_disk_without_partitions_is_0():
    whole = FileSystem("/dev/sda", "ext4", "data")
    assert named_partition.find("0", [whole], WHAT) is named_partition.find("LABEL=data", [whole], WHAT) is whole
    # As a disk of FAT may have what looks like a table.
    fat = FileSystem("/dev/sda", "vfat")
    assert named_partition.find("0", [EFI, fat], WHAT) is fat


@pytest.mark.parametrize(
    "partition", ["4", "14", "0", "LABEL=efi", "LABEL=", "UUID=", "UUID=0", "PARTLABEL=EFI", "/dev/vg/x", "/dev/sda1/x"]
)
def test_one_that_there_is_not_is_told_with_all_there_are(partition):
    with pytest.raises(NotFound) as caught:
        named_partition.find(partition, ALL, WHAT)
    assert caught.value.asked == f"{WHAT}: PARTITION = {partition}"
    assert caught.value.found == f"there is no such one in it. {THERE}"
    assert caught.value.remedy == "Name one of these by its number, LABEL=… or UUID=…"


def test_a_disk_that_has_nothing():
    with pytest.raises(NotFound, match="It has no partition, nor any file system"):
        named_partition.find("1", [WHOLE], WHAT)
    with pytest.raises(NotFound, match=r"no such one in it\. It has 0: ext4, 8 MiB"):
        named_partition.find("1", [FileSystem("/dev/sda", "ext4", size=8 * MiB)], WHAT)
    with pytest.raises(ImageRefused, match=r"no file system that is known here\. It has no partition"):
        named_partition.find("0", [WHOLE], WHAT)


@pytest.mark.parametrize(
    ("partition", "found", "remedy"),
    [
        ("5", "it is encrypted (crypto_LUKS)", "Name another one, or give the guest its file by CONTEXT/FILES"),
        ("3", f"it is swap space. {THERE}", "Name one with a file system"),
        ("7", f"it holds no file system that is known here. {THERE}", "Name one with a file system"),
        ("6", f"it is a physical volume of LVM. {THERE}", "Name the logical volume: /dev/GROUP/VOLUME"),
    ],
)
def test_one_that_no_file_can_be_written_to(partition, found, remedy):
    with pytest.raises(ImageRefused) as caught:
        named_partition.find(partition, ALL, WHAT)
    assert (caught.value.found, caught.value.remedy) == (found, remedy)


def test_logical_volumes_are_for_libguestfs_alone():
    with pytest.raises(NotFound, match="Logical volumes are opened by libguestfs alone: leave inject_via out"):
        named_partition.find("/dev/my-vg/data", [PHYSICAL, WHOLE], WHAT, volumes=False)


def test_what_a_label_holds_does_no_harm():
    with pytest.raises(NotFound) as caught:
        named_partition.find("9", [FileSystem("/dev/sda1", "ext4", "\x1b[2J", number=1)], WHAT)
    assert r"label \x1b[2J" in caught.value.found


# --- in an appliance -------------------------------------------------------------------------------------------------


@pytest.fixture
def talk(tmp_path):
    root = made(tmp_path / "root", {"etc/os-release": "ID=a\n", "etc/fstab": "LABEL=data /srv ext4\n", "srv": None})
    return Appliance(
        {
            "/dev/sda1": Device({"TYPE": "vfat", "LABEL": "EFI", "PART_ENTRY_NUMBER": "1"}, made(tmp_path / "efi", {})),
            "/dev/sda2": Device({"TYPE": "ext4", "LABEL": "root", "PART_ENTRY_NUMBER": "2"}, root),
            "/dev/sda3": Device({"TYPE": "ext4", "LABEL": "data", "PART_ENTRY_NUMBER": "3"}, made(tmp_path / "d", {})),
            "/dev/sda4": Device({"TYPE": "xfs", "PART_ENTRY_NUMBER": "4"}),
            "/dev/sda5": Device({"TYPE": "LVM2_member", "PART_ENTRY_NUMBER": "5"}),
            "/dev/vg/data": Device({"TYPE": "ext4"}, made(tmp_path / "volume", {})),
            "/dev/sda": Device({"PTTYPE": "gpt"}),
        },
        {"lvs": ["/dev/vg/data"]},
    )


def put(talk, monkeypatch, *entries):
    """As by libguestfs, with the stand-in in the place of the appliance."""

    class Session:
        def __enter__(self):
            return talk

        def __exit__(self, *_error):
            pass

    monkeypatch.setattr(file_injection.guestfish, "session", lambda *_words: Session())
    return file_injection._by_guestfs("/disk", "raw", entries, "/scratch", WHAT)


def test_each_file_goes_into_its_own_partition(talk, tmp_path, monkeypatch):
    entries = [
        Entry("/EFI/boot.cfg", b"efi", 0o600, 3, 4, partition="LABEL=EFI"),
        Entry("/etc/motd", b"root"),
        Entry("/a/b", b"data", 0o600, 7, 8, partition="3"),
        Entry("/c", b"again", partition="LABEL=EFI"),
        Entry("/v", b"volume", partition="/dev/vg/data"),
    ]
    assert put(talk, monkeypatch, *entries) == tuple(entries)
    assert (tmp_path / "efi/EFI/boot.cfg").read_bytes() == b"efi" and (tmp_path / "efi/c").read_bytes() == b"again"
    assert (tmp_path / "root/etc/motd").read_bytes() == b"root" and (tmp_path / "d/a/b").read_bytes() == b"data"
    assert (tmp_path / "volume/v").read_bytes() == b"volume"
    # FAT keeps neither owners nor modes, and refuses both.
    assert talk.owners == {"/a/b": (7, 8), "/etc/motd": (0, 0), "/v": (0, 0)}
    # The data disk is mounted by itself; below the root it was where fstab names it.
    assert [words[1:] for words in talk.asked if words[0] == "mount" and words[1] == "/dev/sda3"] == [
        ("/dev/sda3", "/srv"), ("/dev/sda3", "/"),
    ]  # fmt: skip
    assert talk.mounted == {}


def test_a_disk_without_a_system_is_not_searched_for_one(tmp_path, monkeypatch):
    talk = Appliance({"/dev/sda": Device({"TYPE": "ext4"}, made(tmp_path / "data", {}))})
    put(talk, monkeypatch, Entry("/a", b"1", partition="0"))
    assert (tmp_path / "data/a").read_bytes() == b"1"


def test_one_that_can_not_be_mounted(talk, monkeypatch):
    with pytest.raises(CommandFailed) as caught:
        put(talk, monkeypatch, Entry("/a", b"1", partition="4"))
    assert str(caught.value) == (
        f"{WHAT}: PARTITION = 4: its file system (xfs) can't be mounted: mount: wrong fs type, bad superblock. "
        "See whether it is whole, and whether this host knows such file systems"
    )


def test_an_appliance_that_breaks_is_no_finding_about_the_partition(talk, monkeypatch):
    talk.fails["mount"] = "appliance closed the connection unexpectedly"
    with pytest.raises(CommandFailed, match="guestfish: mount: appliance closed"):
        put(talk, monkeypatch, Entry("/a", b"1", partition="4"))


def test_one_that_there_is_not_in_an_appliance(talk, monkeypatch):
    talk.size = 8 * MiB
    with pytest.raises(NotFound) as caught:
        put(talk, monkeypatch, Entry("/a", b"1", partition="6"))
    assert "1: vfat, label EFI, 8 MiB; 2: ext4, label root, 8 MiB" in caught.value.found
    assert caught.value.found.endswith("/dev/vg/data: ext4, 8 MiB") and "mount" not in talk.verbs()
