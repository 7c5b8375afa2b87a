# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes what a host says of a machine's backup that it gives to the front-end, and checks it before it is believed:
the front-end asked for one machine, and knows its disks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from ..dataclass import dataclass
from ..errors import InvalidValue, NebulaError
from .dataclass_json import from_plain
from .disk import DISK_FORMATS, TAR, Disk
from .machine_backup import CRASH_CONSISTENT, FROZEN, FURTHER_FILES, OFF, STOOD_STILL
from .vm import Vm

_MIB = 1 << 20
# No disk is larger.
_LARGEST_DISK = 1 << 46
# Bytes of NVRAM, or of the state of a TPM.
LARGEST_FILE = 256 * _MIB
_LONGEST, _MOST_TEXTS = 1000, 256
_CONSISTENCIES = (OFF, FROZEN, CRASH_CONSISTENT, STOOD_STILL)
_STATES = ("RUNNING", "POWEROFF")
_CHECKPOINT = re.compile(r"[A-Za-z0-9.-]{0,128}", re.ASCII)
_SHOWN = re.compile(r"[A-Za-z0-9/._:-]{0,128}", re.ASCII)
_TARGET = re.compile(r"[A-Za-z0-9/._-]{0,255}", re.ASCII)


@dataclass(frozen=True)
class GivenDisk:
    """Describes a disk that can be read now.
    format: of the machine's own file. size: bytes that the guest sees.
    export: its name where it is shown.
    bitmap: what says what was written since the last backup; "" if all of it is to be read.
    holds: bytes that its files take."""

    disk_id: int
    target: str
    format: str
    size: int
    export: str = ""
    bitmap: str = ""
    image: str = ""
    holds: int = 0


@dataclass(frozen=True)
class AskedBackup:
    """Says what the front-end wants to have of one machine.
    checkpoint: the name of what its host is to keep, so that the next backup can go on from there.
    since: that of the last backup, "" for a full one."""

    checkpoint: str
    since: str = ""


@dataclass(frozen=True)
class GivenBackup:
    """Describes a machine whose disks can be read now, all as they are at one moment.
    incremental: what was written since the last backup is known of all of them.
    reason: why that is not so.
    state, consistency, way, unchanged, left_out, checkpoint: as MachineBackup has them.
    files: what else of the machine's is to be kept, with its bytes."""

    state: str
    consistency: str
    way: str
    disks: tuple[GivenDisk, ...]
    incremental: bool = False
    reason: str = ""
    checkpoint: str = ""
    left_out: tuple[str, ...] = ()
    unchanged: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, int] = field(default_factory=dict)


def read(plain: Any, vm: Vm, asked: str) -> GivenBackup:
    """Return what the host says of the machine. Raise InvalidValue for what can't be true of it."""
    try:
        given = from_plain(GivenBackup, plain)
    except (NebulaError, TypeError, ValueError, KeyError) as error:
        raise _refused(asked, "it can't be read") from error
    _check_texts(given, asked)
    known = {disk.disk_id: disk for disk in vm.disks}
    for number, each in enumerate(given.disks):
        disk = known.get(each.disk_id)
        if disk is None or each.disk_id in [other.disk_id for other in given.disks[:number]]:
            raise _refused(asked, f"it has disk {each.disk_id!r} once more, or the machine has none of that number")
        if each.format == TAR and disk.format != TAR and not disk.by_hypervisor:
            raise _refused(asked, f"its disk {each.disk_id} is the root of a container, and the machine's is none")
        least, most = _sizes(disk, each.format == TAR)
        if not _is_number(each.size, most) or each.size < least or each.size % 512:
            between = f"{least} to {most} are known"
            raise _refused(asked, f"its disk {each.disk_id} has {each.size!r} bytes, where {between}")
        if not _is_number(each.holds, _LARGEST_DISK):
            raise _refused(asked, f"its disk {each.disk_id} takes {each.holds!r} bytes")
        if each.format not in (*DISK_FORMATS, TAR) or not _TARGET.fullmatch(each.target):
            raise _refused(asked, f"its disk {each.disk_id} is of a format, or at a place, that no disk has")
        if not _SHOWN.fullmatch(each.export) or not _SHOWN.fullmatch(each.bitmap):
            raise _refused(asked, f"its disk {each.disk_id} is shown by a name that no disk has")
        if each.image not in ("", disk.image):
            raise _refused(asked, f"its disk {each.disk_id} is of another image than is known")
    if given.incremental and not all(each.bitmap for each in given.disks):
        raise _refused(asked, "it does not know of all disks what was written")
    return given


def _sizes(disk: Disk, is_root: bool) -> tuple[int, int]:
    """Return the bytes that a disk has at least and at most: the catalog has them in MiB, and decides how it grows."""
    if is_root:
        return 0, 0
    return disk.size * _MIB, (disk.size + 1) * _MIB if disk.size else _LARGEST_DISK


def read_asked(plain: Any, asked: str) -> AskedBackup:
    """Return what the front-end asks for. Raise InvalidValue for names that no checkpoint has."""
    try:
        found = from_plain(AskedBackup, plain)
    except (NebulaError, TypeError, ValueError, KeyError) as error:
        raise InvalidValue(f"{asked}: what the front-end asks for", "it can't be read") from error
    for name in (found.checkpoint, found.since):
        if not _CHECKPOINT.fullmatch(name):
            raise InvalidValue(f"{asked}: what the front-end asks for", f"no checkpoint is called {name!r}")
    return found


def _check_texts(given: GivenBackup, asked: str) -> None:
    if given.state not in _STATES or given.consistency not in _CONSISTENCIES:
        raise _refused(asked, "its state or consistency is no such word")
    if not _CHECKPOINT.fullmatch(given.checkpoint):
        raise _refused(asked, "its checkpoint has no name of one")
    texts = [given.way, given.reason, *given.left_out, *given.unchanged, *given.unchanged.values()]
    if len(texts) > _MOST_TEXTS or not all(isinstance(each, str) and len(each) <= _LONGEST for each in texts):
        raise _refused(asked, "it says too much")
    if not all(name in FURTHER_FILES and _is_number(size, LARGEST_FILE) for name, size in given.files.items()):
        raise _refused(asked, "it has further files that no machine has")


def _is_number(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def _refused(asked: str, found: str) -> InvalidValue:
    return InvalidValue(f"{asked}: what its host says of it", found, "See that host")
