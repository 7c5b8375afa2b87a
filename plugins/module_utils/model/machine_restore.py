# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes what a host is asked to restore of a machine in its place, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Optional

from ..dataclass import dataclass
from .machine_backup import BackupPassage, MachineBackup
from .vm import Vm


@dataclass(frozen=True)
class MachineToRestore:
    """Describes a machine whose disks are to be again what a backup holds of them.
    catalog, vm: whose it is, and what the catalog has of it.
    generation: the decision that the catalog has of it; its host refuses another one.
    directory: where the backups lie, on the host; "" for a host to which the front-end brings what it needs.
    backup: as backup_search.chosen() takes it.
    disks: ids of those that are to be restored; None for all.
    key: the user's, "" for none.
    passage: how the machine's host and the front-end meet, where the backups are on the front-end; else None.
    brought: what the backup is that the front-end brings. room: bytes, by disk id, that its disks take at most."""

    catalog: str
    vm: Vm
    generation: int
    directory: str
    backup: str
    disks: Optional[tuple[int, ...]] = None
    key: str = field(default="", repr=False)
    passage: Optional[BackupPassage] = None
    brought: Optional[MachineBackup] = None
    room: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class MachineRestored:
    """Describes what became of it.
    disks: ids of those that hold by now what the backup does.
    files: what else was restored: nvram, tpm.
    warnings: what is another than it was in the backup, a sentence each."""

    vm_id: int
    name: str
    backup: str
    disks: tuple[int, ...] = ()
    files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def named_disks(ids: Sequence[int]) -> str:
    """Return how messages and tables call disks: "disk 0", "disks 0, 2". A 0 alone would be read as their number."""
    if not ids:
        return "no disk"
    return f"disk{'s' if len(ids) > 1 else ''} {', '.join(map(str, ids))}"
