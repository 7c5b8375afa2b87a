# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the root file system of a disk and mounts it in an appliance with all that its fstab names.

It goes by the root's marks alone: libguestfs's own inspection takes half as long as the appliance's start."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import field

from ...dataclass import dataclass
from ...errors import CommandFailed, NotFound, harmless
from ...model.whole_numbers import whole
from ..checks import linux_files
from ..checks.image_facts import System
from ..open import guestfish
from ..open.guestfish import Session

DISK = "/dev/sda"
# In which blkid counts, whatever the disk does.
SECTOR = 512
LINUX, WINDOWS = "linux", "windows"
MARKS = ("/etc/os-release", "/usr/lib/os-release", "/etc/fstab")
HIVE = "/windows/system32/config/system"
# Nothing to mount.
_EMPTY = ("", "swap", "crypto_LUKS", "linux_raid_member", "LVM2_member", "iso9660", "BitLocker")
# No root of Linux.
_FOREIGN = ("ntfs", "vfat", "exfat")
_SUBVOLUMES = ("@", "@rootfs", "root", "@/.snapshots/1/snapshot")
# Mounted by their names, not by what is on a disk.
_VIRTUAL = ("swap", "proc", "sysfs", "tmpfs", "devpts", "devtmpfs", "nfs", "nfs4", "cifs", "none")

_MOST = 50
_ESCAPED = re.compile(r"""\\([ \\"'$`<>])""")


@dataclass(frozen=True)
class FileSystem(System):
    """Describes a partition, volume or whole disk, as blkid tells it.
    start, size: bytes, of a partition.
    scheme: of its table, gpt or dos.
    number: 0 for what is no partition."""

    partition_type: str = ""
    number: int = 0
    start: int = 0
    size: int = 0
    scheme: str = ""
    bootable: bool = False


@dataclass(frozen=True)
class Root:
    """Describes what is mounted.
    os: linux or windows.
    device: of the root.
    systems: all file systems there are.
    mounted: mount point → device.
    failed: device → why it can't be mounted.
    subvolume: of btrfs."""

    os: str
    device: str
    systems: tuple[FileSystem, ...]
    mounted: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    subvolume: str = ""


def mount(talk: Session, what: str, writable: bool) -> Root:
    """Mount and return the root. Raise NotFound without one, CommandFailed if what might be it can't be read."""
    systems = tuple(file_systems(talk))
    failed: dict[str, str] = {}
    verb = "mount" if writable else "mount-ro"
    for os_name, candidates in (
        (LINUX, [each for each in systems if each.type not in _EMPTY + _FOREIGN]),
        (WINDOWS, [each for each in systems if each.type == "ntfs"]),
    ):
        for system in candidates:
            for subvolume in ("", *(_SUBVOLUMES if system.type == "btrfs" else ())):
                try:
                    _mount(talk, verb, system.device, "/", subvolume)
                except CommandFailed as error:
                    if guestfish.is_broken(error):
                        raise
                    if not subvolume:
                        failed[system.device] = harmless(error.found, 300)
                        break
                    continue
                if _is_root(talk, os_name):
                    root = Root(os_name, system.device, systems, {"/": system.device}, failed, subvolume)
                    return _mount_others(talk, verb, root) if os_name == LINUX else root
                talk.ask("umount", "/")
    # Without partitions the whole disk is looked at, and may hold nothing.
    there = [each for each in systems if each.type or each.device != DISK]
    shown = ", ".join(f"{each.device}: {each.type or 'unknown'}" for each in there)
    if failed:
        broken = "; ".join(f"{device}: {why}" for device, why in failed.items())
        raise CommandFailed(
            f"{what}: reading its file systems",
            f"they can't be mounted: {broken}",
            "Get a whole copy, or have a machine repair them that boots from another disk",
        )
    raise NotFound(
        f"{what}: its operating system",
        "no operating system was found in it" + (f", but {harmless(shown, 500)}" if shown else ", nor any file system"),
        "Name an image of one",
    )


def file_systems(talk: Session) -> Iterator[FileSystem]:
    devices = talk.lines("list-partitions") or [DISK]
    kinds = []
    for device in devices:
        system = file_system(talk, device)
        kinds.append(system.type)
        yield system
    if any(kind in ("LVM2_member", "linux_raid_member") for kind in kinds):
        for device in [*talk.lines("lvs"), *talk.lines("list-md-devices")]:
            yield file_system(talk, device)


def file_system(talk: Session, device: str) -> FileSystem:
    answer = talk.found("blkid", device) or ""
    pairs = (line.split(": ", 1) for line in answer.splitlines() if ": " in line)
    # What a shell would read otherwise has a backslash before it.
    fields = {name: _ESCAPED.sub(r"\1", value) for name, value in pairs}
    return FileSystem(
        device=device,
        type=fields.get("TYPE", ""),
        label=fields.get("LABEL", ""),
        uuid=fields.get("UUID", ""),
        partition_uuid=fields.get("PART_ENTRY_UUID", ""),
        partition_label=fields.get("PART_ENTRY_NAME", ""),
        partition_type=fields.get("PART_ENTRY_TYPE", ""),
        number=_number(fields.get("PART_ENTRY_NUMBER", "")),
        start=_number(fields.get("PART_ENTRY_OFFSET", "")) * SECTOR,
        size=_number(fields.get("PART_ENTRY_SIZE", "")) * SECTOR,
        scheme=fields.get("PART_ENTRY_SCHEME", ""),
        bootable=fields.get("PART_ENTRY_FLAGS", "") in ("0x80", "0x4"),
    )


def _number(text: str) -> int:
    return whole(text) or 0


def _mount(talk: Session, verb: str, device: str, point: str, subvolume: str = "") -> None:
    if subvolume:
        talk.ask("mount-options", f"subvol={subvolume}" + (",ro" if verb == "mount-ro" else ""), device, point)
    else:
        talk.ask(verb, device, point)


def _is_root(talk: Session, os_name: str) -> bool:
    if os_name == WINDOWS:
        return talk.found("case-sensitive-path", HIVE) is not None
    return any(talk.file_size(mark) is not None for mark in MARKS)


def _mount_others(talk: Session, verb: str, root: Root) -> Root:
    """Return the root, with the file systems of fstab that are on this disk mounted below it."""
    mounted, failed = dict(root.mounted), dict(root.failed)
    lines = list(linux_files.fstab(talk.text("/etc/fstab", 1 << 20)))[:_MOST]
    for source, point, kind, options in sorted(lines, key=_depth):
        if point == "/" or kind in _VIRTUAL or not point.startswith("/"):
            continue
        device = linux_files.device_of(source, root.systems)
        if device is None or device in failed:
            continue
        subvolume = next((each[7:] for each in options.split(",") if each.startswith("subvol=")), "")
        try:
            _mount(talk, verb, device, point, subvolume)
            mounted[point] = device
        except CommandFailed as error:
            if guestfish.is_broken(error):
                raise
            failed[device] = harmless(error.found, 300)
    return Root(root.os, root.device, root.systems, mounted, failed, root.subvolume)


def _depth(line: tuple[str, str, str, str]) -> int:
    return line[1].rstrip("/").count("/")
