# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what a host answers of backups that it has, and of a machine that it was asked to restore
(nebula_machine_restore's `backups` and `restored`), before it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from ...dataclass import dataclass
from ..machine_backup import FULL, INCREMENTAL
from ..machine_restore import MachineRestored
from . import answer_bounds, by_host
from .backed_up_machines import LONGEST, MOST_BACKUPS, MOST_BYTES, MOST_TEXTS
from .observed import MOST_VMS

MIB = 1 << 20


@dataclass(frozen=True)
class ListedBackup:
    """Describes a backup that a host has, under the names that nebula_machine_restore has for it."""

    machine: str
    vm_id: int
    id: str
    time: str = ""
    kind: str = FULL
    size: int = 0
    disks: str = ""
    consistency: str = ""
    rests_on: str = ""
    encrypted: bool = False
    host: str = ""
    place: str = ""


def read_listed(host: str, answer: Any) -> Optional[tuple[ListedBackup, ...]]:
    """Return which backups a host's registered result lists; None if it is no answer of the module. Raise InvalidValue
    for what no host can mean."""
    what = f"host {host}: what it answered of the backups that it has"
    found = answer.get("backups") if isinstance(answer, Mapping) else None
    if found is None:
        return None
    answer_bounds.check_size(found, what)
    if not isinstance(found, (list, tuple)):
        raise answer_bounds.refusal(what, f"it is a {type(found).__name__}, and not a list")
    listed = by_host.entries(ListedBackup, [*found], what, MOST_VMS + MOST_BACKUPS)
    for each in listed:
        answer_bounds.check_number(each.vm_id, 0, answer_bounds.LARGEST_NUMBER, what, "the id of a machine")
        answer_bounds.check_number(each.size, 0, MOST_BYTES // MIB, what, "size")
        if each.kind not in (FULL, INCREMENTAL):
            raise answer_bounds.refusal(what, "it tells of a kind of backup that there is not")
        texts = (each.machine, each.id, each.time, each.disks, each.consistency, each.rests_on, each.host, each.place)
        _check_texts(texts, what)
    return listed


def read_restored(host: str, answer: Any) -> Optional[MachineRestored]:
    """Return what a host's registered result says that it has restored; None and InvalidValue as above."""
    what = f"host {host}: what it answered of the machine that it was asked to restore"
    found = answer.get("restored") if isinstance(answer, Mapping) else None
    if found is None:
        return None
    answer_bounds.check_size(found, what)
    (restored,) = by_host.entries(MachineRestored, [found], what, 1)
    answer_bounds.check_number(restored.vm_id, 0, answer_bounds.LARGEST_NUMBER, what, "the id of a machine")
    several = (*restored.disks, *restored.files, *restored.warnings)
    answer_bounds.check_count(several, MOST_TEXTS, what, "it tells {} things of a machine")
    for disk_id in restored.disks:
        answer_bounds.check_number(disk_id, 0, answer_bounds.LARGEST_NUMBER, what, "the id of a disk")
    _check_texts((restored.name, restored.backup, *restored.files, *restored.warnings), what)
    return restored


def _check_texts(texts: tuple[str, ...], what: str) -> None:
    if any(len(text) > LONGEST for text in texts):
        raise answer_bounds.refusal(what, f"a text has more than {LONGEST} characters")
