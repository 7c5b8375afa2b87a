# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is gathered of a disk for the points of a check, and how few questions that takes.

The appliance is a stand-in (tests/tools/appliance_stand_in.py); tests/integration/test_image_check.py has the real one.
"""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile

import odd_files as odd
import pytest
from appliance_stand_in import Appliance, Device, made
from hostile import bounded
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import CommandFailed, ImageRefused
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.checks.image_facts import (
    DIRECTORY,
    ESP,
    FILE,
    LINK,
    OTHER,
    Facts,
    Node,
    Partition,
)
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.inspect import inspection, root_file_system

WHAT = "image web"
BOOTS = b"\x55\xaa"
SYSTEM = {"etc/os-release": 'PRETTY_NAME="Debian 13"\n', "etc/hostname": "web\n", "root": None, "tmp": None}


def sector(code: bytes = b"", end: bytes = BOOTS) -> bytes:
    return code.ljust(510, b"\0") + end


def guest(tmp_path, files=None, **told):
    """An appliance with this root mounted, and what is known of it."""
    place = made(tmp_path / "root", {**SYSTEM, **(files or {})})
    blkid = {"TYPE": "ext4", "PART_ENTRY_NUMBER": "1", "PART_ENTRY_OFFSET": "2048", "PART_ENTRY_SIZE": "8192",
             "PART_ENTRY_SCHEME": "gpt", "PART_ENTRY_TYPE": "0fc6", **told}  # fmt: skip
    talk = Appliance({"/dev/sda1": Device(blkid, place), "/dev/sda": Device()})
    return talk, root_file_system.mount(talk, WHAT, writable=False)


def look(tmp_path, files=None, **told) -> Facts:
    talk, root = guest(tmp_path, files, **told)
    return inspection.facts(talk, root, str(tmp_path), WHAT, "Europe/Berlin")


class Archive:
    """An appliance that answers with this archive."""

    def __init__(self, data):
        self.data = data

    def read(self, *_words, **_options):
        return self.data


def tarred(place) -> bytes:
    return subprocess.run(["tar", "-C", str(place), "-cf", "-", "."], capture_output=True, check=True).stdout


# --- the disk --------------------------------------------------------------------------------------------------------


def test_the_disk_and_its_partitions(tmp_path):
    found = look(tmp_path, PART_ENTRY_FLAGS="0x4", LABEL="top", UUID="aa")
    assert (found.os, found.name, found.size, found.table) == ("linux", "Debian 13", 8 << 30, "gpt")
    assert found.partitions == (Partition(1, "/dev/sda1", 2048 * 512, 8192 * 512, "0fc6", True),)
    assert (found.root, found.root_type, found.mounted) == ("/dev/sda1", "ext4", {"/": "/dev/sda1"})
    assert (found.systems[0].label, found.systems[0].uuid, found.zone) == ("top", "aa", "Europe/Berlin")


def test_a_disk_without_a_table_has_no_partitions(tmp_path):
    talk = Appliance({"/dev/sda": Device({"TYPE": "ext4"}, made(tmp_path / "root", SYSTEM))})
    found = inspection.facts(talk, root_file_system.mount(talk, WHAT, False), str(tmp_path), WHAT)
    assert (found.table, found.partitions, found.root) == ("", (), "/dev/sda")
    assert len(found.systems) == 1


@pytest.mark.parametrize(
    ("first", "active", "boot"),
    [
        (sector(), sector(), ""),
        (sector(b"\xebGRUB \0"), sector(), "GRUB"),
        (sector(b"\xfaLILO"), sector(), "LILO"),
        # One that starts the active partition tells nothing of itself.
        (sector(b"\x33\xc0Missing operating system"), sector(b"\xebX\x90SYSLINUX"), "SYSLINUX"),
        (sector(b"\x33\xc0"), sector(b"\xebR\x90NTFS BOOTMGR is missing"), "BOOTMGR"),
        (sector(b"\xeb<mkfs.fat: This is not a bootable disk"), sector(b"This is not a bootable disk"), ""),
        (sector(b"\x33\xc0", b"\0\0"), sector(), ""),
        (sector(b"\x33\xc0"), sector(), "a boot loader that is not known here"),
        # What is in the first sector counts before what is in the partition.
        (sector(b"GRUB"), sector(b"SYSLINUX"), "GRUB"),
    ],
)
def test_whose_boot_code_it_is(first, active, boot):
    talk = Appliance({"/dev/sda": Device(sector=first), "/dev/sda2": Device(sector=active)})
    parts = [Partition(1, "/dev/sda1", 0, 1), Partition(2, "/dev/sda2", 0, 1, bootable=True)]
    assert inspection._boot_code(talk, parts) == boot


def test_a_partition_that_is_not_active_is_not_asked():
    talk = Appliance({"/dev/sda": Device(sector=sector(b"code")), "/dev/sda1": Device(sector=sector(b"GRUB"))})
    assert inspection._boot_code(talk, [Partition(1, "/dev/sda1", 0, 1)]) == "a boot loader that is not known here"


# --- files that are none ---------------------------------------------------------------------------------------------

BOOTED = {
    **SYSTEM,
    "usr/lib/os-release": 'PRETTY_NAME="Debian 13"\n', "etc/fstab": "# none\n", "boot/vmlinuz-6.1": "x",
    "boot/initrd.img-6.1": "x", "lib/modules/6.1/modules.builtin": "x", "lib/modules/6.1/modules.dep": "x",
    "boot/grub/grub.cfg": "x", "boot/grub2/grubenv": "x", "boot/loader/entries/a.conf": "x",
    "boot/extlinux/extlinux.conf": "x", "boot/syslinux.cfg": "x", "var/lib/dbus/machine-id": "x",
}  # fmt: skip
OPENED = ("cat", "download", "download-offset", "hivex-open", "upload", "truncate")


def opened(talk) -> set[str]:
    return {words[1] for words in talk.asked if words[0] in OPENED}


def test_which_files_are_opened(tmp_path):
    """So that the next test has all of them."""
    talk, root = guest(tmp_path, BOOTED)
    inspection.facts(talk, root, str(tmp_path), WHAT)
    assert opened(talk) == {f"/{path}" for path in BOOTED if BOOTED[path] is not None} - {
        "/boot/vmlinuz-6.1", "/usr/lib/os-release", "/etc/hostname"
    }  # fmt: skip


@pytest.mark.parametrize("kind", odd.KINDS)
@pytest.mark.parametrize("path", [path for path in BOOTED if BOOTED[path] is not None])
def test_what_is_no_file_is_never_opened(tmp_path, path, kind):
    talk, _root = guest(tmp_path, BOOTED)
    (tmp_path / "root" / path).unlink()
    odd.put(tmp_path / "root" / path, kind)
    talk.mounted.clear()
    root = root_file_system.mount(talk, WHAT, writable=False)
    assert inspection.facts(talk, root, str(tmp_path), WHAT).text(f"/{path}") == ""


def test_what_is_too_large_is_not_begun(tmp_path):
    """The answer would be read to its end, a thousand times as long, to find the next one."""
    talk, root = guest(tmp_path, BOOTED)
    os.truncate(tmp_path / "root/boot/grub/grub.cfg", inspection.LONGEST_TEXT + 1)
    assert inspection.facts(talk, root, str(tmp_path), WHAT).text("/boot/grub/grub.cfg") == ""
    assert "/boot/grub/grub.cfg" not in opened(talk)


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "home/a\nb/.ssh/authorized_keys", "home/a\n/.ssh/authorized_keys", "home/\na/.ssh/authorized_keys",
        "home/a\n\nb/.ssh/authorized_keys", "root/.ssh/id_\n", "root/.\n_history", "tmp/a\nb", "tmp/\n", "tmp/.\n",
        "var/tmp/a\n/b", "var/log/syslog\n", "var/log/journal/x\n/y", "boot/efi/EFI/a\n/b", "tmp/a\n/b/c",
        "boot/loader/entries/\n.conf", "boot/vmlinuz-6.1\n",
    ],
)  # fmt: skip
def test_a_name_with_a_line_end_is_refused_and_does_not_hide(tmp_path, path):
    made(tmp_path / "root", {path: "x"})
    with pytest.raises(CommandFailed, match="has a line end") as caught:
        look(tmp_path)
    assert "Rename or remove" in caught.value.remedy and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["a\rb", "a\x0bb", "a\x1cb", "a\x85b", "a\u2028b", "a b", "a\udcff", "-a", "a'\"", "*", "[a"]
)
def test_any_other_name_is_known_as_it_is(tmp_path, name):
    made(tmp_path / "root", {f"home/{name}/.ssh/authorized_keys": "x"})
    found = look(tmp_path).tree
    assert f"/home/{name}/.ssh/authorized_keys" in found


@pytest.mark.parametrize("version", ["6\u00b2", "\u0663.1", "6.\u00bd", "9" * 200, "6\udcff", "6.1\n2"[:3]])
def test_a_kernel_of_any_version(tmp_path, version):
    found = look(tmp_path, {f"boot/vmlinuz-{version}": "x", "boot/vmlinuz-5.10": "x"})
    assert found.kernel in (version, "5.10")


# --- files -----------------------------------------------------------------------------------------------------------


def test_etc_is_taken_at_once_with_its_texts(tmp_path):
    talk, root = guest(tmp_path, {
        "etc/ssh/sshd_config": "PermitRootLogin no\n", "etc/localtime": "-> /usr/share/zoneinfo/UTC",
        "etc/odd": b"\xff\xfe", "etc/empty": None,
    })  # fmt: skip
    found = inspection.facts(talk, root, str(tmp_path), WHAT).tree
    assert found["/etc/ssh/sshd_config"].text == "PermitRootLogin no\n"
    assert found["/etc/ssh/sshd_config"].size == 19
    assert (found["/etc/localtime"].kind, found["/etc/localtime"].target) == (LINK, "/usr/share/zoneinfo/UTC")
    assert (found["/etc/empty"].kind, found["/etc"].kind) == (DIRECTORY, DIRECTORY)
    # What is written back has to be what it was.
    assert found["/etc/odd"].text.encode("utf-8", "surrogateescape") == b"\xff\xfe"
    assert talk.verbs().count("tar-out") == 1


@pytest.mark.parametrize("target", ["../run/nowhere", "first", "second", "hostname"])
def test_a_second_name_of_a_link_is_that_link_wherever_it_leads(tmp_path, target):
    place = made(tmp_path / "etc", {"hostname": "web\n", "first": f"-> {target}"})
    os.link(place / "first", place / "second", follow_symlinks=False)
    os.link(place / "hostname", place / "name")
    found = dict(inspection._directory(Archive(tarred(place)), "/etc", WHAT))
    assert {found[path].kind for path in ("/etc/first", "/etc/second")} == {LINK}
    assert found["/etc/first"].target == found["/etc/second"].target == target
    assert found["/etc/name"] == found["/etc/hostname"] == Node(FILE, 0o644, 4, text="web\n")


def test_many_names_of_one_file_take_no_longer_than_many_files(tmp_path):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("./first"))
        for number in range(20_000):
            name = tarfile.TarInfo(f"./{number}")
            name.type, name.linkname = tarfile.LNKTYPE, "./first" if number % 2 else "./nowhere"
            archive.addfile(name)
    with bounded("20000 names", 4.0):
        found = dict(inspection._directory(Archive(data.getvalue()), "/etc", WHAT))
    assert (found["/etc/1"].kind, found["/etc/2"].kind) == (FILE, OTHER)


def test_a_file_that_is_too_long_has_no_text(tmp_path):
    found = look(tmp_path, {"etc/long": "x" * (inspection.LONGEST_TEXT + 1), "etc/most": "x" * inspection.LONGEST_TEXT})
    assert found.tree["/etc/long"] == Node(FILE, 0o644, inspection.LONGEST_TEXT + 1)
    assert len(found.text("/etc/most")) == inspection.LONGEST_TEXT


def test_an_archive_that_can_not_be_read_is_told(tmp_path):
    talk, root = guest(tmp_path)
    talk._tar_out = lambda *_words: b"no archive at all".ljust(1024, b"x")
    with pytest.raises(CommandFailed, match=r"image web: reading /etc: it can't be read"):
        inspection.facts(talk, root, str(tmp_path), WHAT)


def test_more_files_than_a_system_has_are_refused(tmp_path, monkeypatch):
    """The limit is lowered for it: fifty thousand files take their time."""
    monkeypatch.setattr(inspection, "_MOST", 2)
    with pytest.raises(ImageRefused, match=r"image web: its /etc holds more than 2 files"):
        look(tmp_path, {"etc/a": "", "etc/b": "", "etc/c": ""})


@pytest.mark.parametrize(
    "path",
    [
        "/usr/sbin/sshd", "/sbin/dropbear", "/usr/local/sbin/nebula-context", "/usr/lib/systemd/system/ssh.service",
        "/usr/lib/systemd/systemd", "/boot/vmlinuz-6.1.0", "/root/.bash_history", "/home/ann/.ssh/authorized_keys",
        "/tmp/.left", "/var/tmp/left", "/var/log/syslog.1", "/var/log/journal/0a/system.journal",
        "/var/lib/dhcp/dhclient.leases", "/var/lib/systemd/random-seed", "/efi/EFI/debian/shimx64.efi",
        "/var/lib/dbus/machine-id",
    ],
)  # fmt: skip
def test_a_file_that_a_point_asks_for_is_seen(tmp_path, path):
    found = look(tmp_path, {path: "content"})
    assert (found.tree[path].kind, found.tree[path].size) == (FILE, 7)


@pytest.mark.parametrize("path", ["/home/ann/private", "/srv/data", "/usr/bin/true", "/var/lib/mysql/ibdata1"])
def test_what_no_point_asks_for_is_not_looked_at(tmp_path, path):
    assert path not in look(tmp_path, {path: "content"}).tree


def test_the_configuration_of_boot_loaders_is_read(tmp_path):
    files = {"boot/grub/grub.cfg": "linux /vmlinuz quiet\n", "boot/loader/entries/a.conf": "options quiet\n",
             "var/lib/dbus/machine-id": "0a\n", "boot/vmlinuz-6.1": "not read"}  # fmt: skip
    found = look(tmp_path, files)
    assert [found.text(f"/{path}") for path in files] == [*list(files.values())[:3], ""]


def test_a_configuration_that_can_not_be_read_is_as_good_as_empty(tmp_path):
    talk, root = guest(tmp_path, {"boot/grub/grub.cfg": "linux /vmlinuz\n"})
    talk.fails["download"] = "download: /boot/grub/grub.cfg: Input/output error"
    assert inspection.facts(talk, root, str(tmp_path), WHAT).text("/boot/grub/grub.cfg") == ""
    talk.fails["download"] = "appliance closed the connection unexpectedly"
    with pytest.raises(CommandFailed):
        inspection.facts(talk, root, str(tmp_path), WHAT)


def test_files_of_a_directory_take_one_question(tmp_path):
    talk, root = guest(tmp_path, {f"tmp/{number}": "x" for number in range(20)})
    inspection.facts(talk, root, str(tmp_path), WHAT)
    assert len([words for words in talk.asked if words[:2] == ("lstatlist", "/tmp")]) == 1


def test_a_name_that_the_question_can_not_hold_is_there_all_the_same(tmp_path):
    talk, _root = guest(tmp_path, {"tmp/plain": "xyz", "tmp/with blank": "", "tmp/dir": None, "tmp/link": "-> /etc"})
    (tmp_path / "root/tmp/plain").chmod(0o4755)
    paths = ["/tmp/with blank", "/tmp/plain", "/tmp/dir/", "/tmp/link", "/tmp/gone", "/tmp/.", "/tmp/.."]
    found = dict(inspection._list_files(talk, paths))
    mode = stat.S_IMODE((tmp_path / "root/tmp/link").lstat().st_mode)
    assert found["/tmp/with blank"] == Node(size=1)
    assert found["/tmp/plain"] == Node(FILE, 0o4755, 3)
    assert (found["/tmp/dir"].kind, found["/tmp/link"].kind, found["/tmp/link"].mode) == (DIRECTORY, LINK, mode)
    assert set(found) == {"/tmp/with blank", "/tmp/plain", "/tmp/dir", "/tmp/link"}


def test_what_is_neither_file_nor_directory_nor_link(tmp_path):
    talk, _root = guest(tmp_path)
    talk._lstatlist = lambda *_words: f"[0] = {{\n  mode: {stat.S_IFSOCK | 0o600}\n  size: 0\n}}\n"
    assert dict(inspection._list_files(talk, ["/tmp/socket"])) == {"/tmp/socket": Node(OTHER, 0o600, 0)}


# --- the kernel ------------------------------------------------------------------------------------------------------


def kernel_files(version, **more):
    return {f"boot/vmlinuz-{version}": "", f"lib/modules/{version}/modules.dep":
            "kernel/net/virtio_net.ko.xz: kernel/x/virtio-ring.ko\n", **more}  # fmt: skip


def test_the_newest_kernel_counts(tmp_path):
    files = {**kernel_files("6.9.1"), **kernel_files("6.10.0"), "boot/vmlinuz-0-rescue-ab": "",
             "boot/vmlinuz-7.0.old": ""}  # fmt: skip
    found = look(tmp_path, files)
    assert (found.kernel, found.modules) == ("6.10.0", frozenset({"virtio_net"}))
    assert (found.initrd, found.initrd_why) == (None, "there is none in /boot")


def test_a_kernel_beside_its_modules(tmp_path):
    assert look(tmp_path, {"usr/lib/modules/6.5-arch/vmlinuz": ""}).kernel == "6.5-arch"


def test_no_kernel_is_no_error(tmp_path):
    found = look(tmp_path)
    assert (found.kernel, found.initrd, found.initrd_why) == ("", None, "")


@pytest.mark.parametrize("name", ["initrd.img-6.1", "initramfs-6.1.img", "initrd-6.1"])
def test_an_initial_ram_disk_is_taken_out_and_not_left(tmp_path, name):
    talk, root = guest(tmp_path, kernel_files("6.1", **{f"boot/{name}": b"no archive"}))
    taken = tmp_path / "taken"
    taken.mkdir()
    found = inspection.facts(talk, root, str(taken), WHAT)
    assert found.initrd is None and found.initrd_why == "its packing is not known here"
    assert ("download-offset", f"/boot/{name}", f"{taken}/initrd", "0", "10") in talk.asked
    assert list(taken.iterdir()) == []


def test_a_driver_of_the_kernel_itself_needs_no_initial_ram_disk(tmp_path):
    files = kernel_files("6.1", **{"lib/modules/6.1/modules.builtin": "kernel/drivers/block/virtio_blk.ko\n",
                                   "boot/initrd.img-6.1": b"no archive"})  # fmt: skip
    found = look(tmp_path, files)
    assert found.builtin == {"virtio_blk"} and (found.initrd, found.initrd_why) == (None, "")


def test_an_initial_ram_disk_that_is_too_large_stays_where_it_is(tmp_path, monkeypatch):
    """The limit is lowered for it."""
    monkeypatch.setattr(inspection, "_LARGEST_INITRD", 9)
    talk, root = guest(tmp_path, kernel_files("6.1", **{"boot/initrd.img-6.1": b"ten bytes!"}))
    assert inspection.facts(talk, root, str(tmp_path), WHAT).initrd_why == "it is too large"
    assert "download-offset" not in talk.verbs()


def test_a_link_to_no_file_is_no_initial_ram_disk(tmp_path):
    found = look(tmp_path, kernel_files("6.1", **{"boot/initrd.img-6.1": "-> /etc"}))
    assert found.initrd_why == "it is no file"


def test_drivers_are_not_asked_for_where_nobody_wants_them(tmp_path):
    talk, root = guest(tmp_path, kernel_files("6.1"))
    assert inspection.facts(talk, root, str(tmp_path), WHAT, drivers=False).kernel == ""
    assert talk.mounted


@pytest.mark.parametrize(
    "ordered", [["5.9", "5.10", "6.0"], ["6.1.0-9-amd64", "6.1.0-10-amd64"], ["6.1-rc1", "6.1.1"], ["4", "4.1"]]
)
def test_versions_are_compared_by_their_numbers(ordered):
    mixed = [ordered[-1], *ordered[:-1]]
    assert sorted(mixed, key=inspection._version_key) == ordered


@given(st.lists(st.from_regex(r"[0-9]+([.~_-]?[0-9a-z]{1,3}){0,4}", fullmatch=True), max_size=4))
@settings(max_examples=50, deadline=None)
def test_any_versions_can_be_compared(versions):
    assert max([*versions, "0"], key=inspection._version_key) in [*versions, "0"]


# --- the partition of EFI --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*ESP, ESP[0].upper()])
def test_loaders_of_a_partition_that_fstab_does_not_mount(tmp_path, kind):
    talk, root = guest(tmp_path)
    efi = made(tmp_path / "efi", {"EFI/BOOT/BOOTX64.EFI": "x"})
    talk.devices["/dev/sda2"] = Device({"TYPE": "vfat", "PART_ENTRY_NUMBER": "2", "PART_ENTRY_TYPE": kind}, efi)
    root = root_file_system.mount(talk, WHAT, False)
    found = inspection.facts(talk, root, str(tmp_path), WHAT)
    assert "/boot/efi/EFI/BOOT/BOOTX64.EFI" in found.tree
    # One that is mounted has been looked at with the others.
    talk.asked.clear()
    talk.mounted = {"/": tmp_path / "root", "/boot/efi": efi}
    mounted = root_file_system.Root("linux", root.device, root.systems, {**root.mounted, "/boot/efi": "/dev/sda2"})
    (tmp_path / "root/boot/efi").mkdir(parents=True)
    inspection.facts(talk, mounted, str(tmp_path), WHAT)
    assert "umount-all" not in talk.verbs()


def test_a_partition_of_efi_that_can_not_be_mounted_is_left_out(tmp_path):
    talk, root = guest(tmp_path)
    talk.devices["/dev/sda2"] = Device({"TYPE": "vfat", "PART_ENTRY_NUMBER": "2", "PART_ENTRY_TYPE": ESP[0]}, None)
    root = root_file_system.mount(talk, WHAT, False)
    found = inspection.facts(talk, root, str(tmp_path), WHAT)
    assert found.has("/etc/hostname") and not found.has("/boot/efi/EFI/BOOT/BOOTX64.EFI")
