# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads INJECT: which disk of a machine gets which files before its first boot."""

from __future__ import annotations

from collections.abc import Sequence

from ...dataclass import replace
from ...errors import InvalidValue
from .. import injected_files
from ..disk import SHARED_DIRECTORY, Disk
from ..template import Template


def with_files(disks: tuple[Disk, ...], template: Template, root: int | None, where: str) -> tuple[Disk, ...]:
    """Return the disks with the files to be written into them; raise InvalidValue for a disk not the machine's own."""
    wanted: dict[int, list[injected_files.Injected]] = {}
    for number, entry in injected_files.read_inject(template, where):
        place = root if number is None else number
        if place is None or place >= len(disks):
            raise InvalidValue(
                f"{where}: INJECT: PATH = {entry.path}",
                f"there is no disk {number}" if place is not None else "it has no disk of an image of type OS",
                "Name the DISK by its number, counted from 0",
            )
        disk = disks[place]
        here = f"{where}: DISK {place}: INJECT: PATH = {entry.path}"
        if disk.type == SHARED_DIRECTORY:
            raise InvalidValue(here, f"it is directory {disk.source} of the host", "Put the file there on the host")
        volatile = disk.type in ("FS", "SWAP") and not disk.readonly
        if not volatile and (not disk.clone or disk.readonly or disk.luks_secret):
            found = "its image is persistent, and the file would be in that for ever"
            if disk.type == "CDROM" or disk.readonly:
                found = "nothing is written to it"
            elif disk.luks_secret:
                found = "it is encrypted"
            raise InvalidValue(
                here,
                found,
                "Files are written into a machine's own copy of an image: use a non-persistent one, or CONTEXT/FILES",
            )
        files = wanted.setdefault(place, [])
        files.append(_for_volatile(entry, disk, files, here) if volatile else entry)
    via = injected_files.read_inject_via(template, where)
    return tuple(
        replace(disk, inject=tuple(wanted[index]), inject_via=via) if index in wanted else disk
        for index, disk in enumerate(disks)
    )


def _for_volatile(
    entry: injected_files.Injected, disk: Disk, others: Sequence[injected_files.Injected], where: str
) -> injected_files.Injected:
    """Return the entry for a disk with nothing in it but a file system; raise InvalidValue if it can't be there."""
    if disk.fs in ("", "swap"):
        found = "it is swap space" if disk.fs else "it is empty, and gets no file system"
        raise InvalidValue(where, found, "Have one made: TYPE = fs, FS = ext4")
    if entry.partition not in ("", injected_files.WHOLE_DISK):
        raise InvalidValue(
            f"{where}: PARTITION = {entry.partition}",
            "the disk is made with one file system and no partitions",
            f"Leave PARTITION out, or give {injected_files.WHOLE_DISK}",
        )
    if any(other.path == entry.path for other in others):
        raise InvalidValue(where, "it is there twice", "Give each file one entry")
    return replace(entry, partition=injected_files.WHOLE_DISK)
