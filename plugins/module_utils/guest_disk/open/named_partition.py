# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the file system that a user names by its partition, among all that a disk has."""

from __future__ import annotations

from collections.abc import Sequence

from ...dataclass import replace
from ...errors import CommandFailed, ImageRefused, NotFound, harmless
from ...model.injected_files import WHOLE_DISK
from ...model.whole_numbers import whole
from ..checks import linux_files
from ..inspect import root_file_system
from ..inspect.root_file_system import DISK, FileSystem
from . import guestfish

ENCRYPTED = ("crypto_LUKS", "BitLocker")
# They keep neither owners nor modes, so that none can be given to their files.
WITHOUT_OWNERS = ("vfat", "msdos", "exfat", "ntfs", "ntfs3")
_NONE = {
    "": "it holds no file system that is known here",
    "swap": "it is swap space",
    "linux_raid_member": "it is a part of a RAID array",
    "iso9660": "it can only be read (iso9660)",
    "squashfs": "it can only be read (squashfs)",
}
_MiB = 1 << 20


def mount(talk: guestfish.Session, partition: str, what: str) -> FileSystem:
    """Mount the partition in an appliance, writable, with nothing of fstab below it, and return it."""
    systems = list(root_file_system.file_systems(talk))
    if all(system.device != DISK for system in systems):
        systems.append(root_file_system.file_system(talk, DISK))
    system = find(partition, [_with_size(talk, system) for system in systems], what)
    try:
        talk.ask("mount", system.device, "/")
    except CommandFailed as error:
        if guestfish.is_broken(error):
            raise
        raise mount_error(partition, system, error.found, what) from error
    return system


def _with_size(talk: guestfish.Session, system: FileSystem) -> FileSystem:
    size = system.size or int((talk.found("blockdev-getsize64", system.device) or "").strip() or 0)
    return replace(system, size=size)


def find(partition: str, systems: Sequence[FileSystem], what: str, volumes: bool = True) -> FileSystem:
    """Return the file system that `partition` names, in the form of injected_files.Injected. Raise NotFound if there is
    none, with all there are, ImageRefused if no file can be written to it.
    systems: all there are, the whole disk among them.
    volumes: logical volumes are among them too."""
    asked = asked_for(partition, what)
    system = _find(partition, systems)
    if system is None or (system.device == DISK and not system.type and _partitions(systems)):
        remedy = "Name one of these by its number, LABEL=… or UUID=…"
        if not volumes and partition.startswith("/"):
            remedy = "Logical volumes are opened by libguestfs alone: leave inject_via out, or say guestfs"
        raise NotFound(asked, f"there is no such one in it. {describe(systems)}", remedy)
    if system.type in ENCRYPTED:
        raise ImageRefused(
            asked, f"it is encrypted ({system.type})", "Name another one, or give the guest its file by CONTEXT/FILES"
        )
    if system.type == "LVM2_member":
        raise ImageRefused(
            asked, f"it is a physical volume of LVM. {describe(systems)}", "Name the logical volume: /dev/GROUP/VOLUME"
        )
    if system.type in _NONE:
        raise ImageRefused(asked, f"{_NONE[system.type]}. {describe(systems)}", "Name one with a file system")
    return system


def asked_for(partition: str, what: str) -> str:
    return f"{what}: PARTITION = {harmless(partition, 200)}"


def mount_error(partition: str, system: FileSystem, reason: str, what: str) -> CommandFailed:
    return CommandFailed(
        asked_for(partition, what),
        f"its file system ({harmless(system.type, 50)}) can't be mounted: {harmless(reason, 300)}",
        "See whether it is whole, and whether this host knows such file systems",
    )


def describe(systems: Sequence[FileSystem]) -> str:
    """Return all file systems in one sentence: the names that each can be given by, its type, label and size."""
    shown = _partitions(systems) or [system for system in systems if system.type]
    if not shown:
        return "It has no partition, nor any file system"
    return harmless(f"It has {'; '.join(_describe(system) for system in shown)}", 2000)


def _describe(system: FileSystem) -> str:
    name = WHOLE_DISK if system.device == DISK else str(system.number) if system.number else system.device
    words = [f"{name}: {system.type or 'no known file system'}"]
    words += [f"label {system.label}"] if system.label else []
    words += [f"{system.size / _MiB:.0f} MiB"] if system.size else []
    return ", ".join(words)


def _partitions(systems: Sequence[FileSystem]) -> list[FileSystem]:
    return [system for system in systems if system.device != DISK]


def _find(partition: str, systems: Sequence[FileSystem]) -> FileSystem | None:
    if partition == WHOLE_DISK:
        return next((system for system in systems if system.device == DISK), None)
    if partition.isdigit():
        return next((system for system in systems if system.number == whole(partition)), None)
    device = linux_files.device_of(partition, systems)
    return next((system for system in systems if system.device == device), None)
