# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits the number of machines whose disks one list may destroy. The user has to allow more."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

from ...dataclass import dataclass
from ...engines.base import Engine
from ...engines.ports import VmRecord
from ...errors import InvalidValue, TooManyDestroyed
from ...model.device_matching import DISK
from ...model.object_ids import id_of
from .vm_outcome import Outcome

# Failed with no domain that runs.
NOT_STARTED = ("PROLOG_FAILURE", "BOOT_FAILURE")
# A message has to stay readable; --diff shows all machines of a list.
_SHOWN = 50


@dataclass(frozen=True)
class DestroyLimit:
    """Holds the limit. number: of machines, or their percentage of the machines that the catalog has."""

    number: int
    is_percentage: bool = False

    def of(self, there: int) -> int:
        """Return the limit as a number of machines. there: how many the catalog has. A percentage is never less than
        one machine, but for 0%: otherwise a small site could not end a single machine."""
        if not self.is_percentage:
            return self.number
        return max(1, there * self.number // 100) if self.number else 0

    def __str__(self) -> str:
        return f"{self.number}%" if self.is_percentage else str(self.number)


def limit_of(text: str) -> DestroyLimit:
    """Read a limit as users write it: 5, or 10%. Raise InvalidValue."""
    found = re.fullmatch(r"([0-9]{1,9})(%?)", text.strip())
    limit = DestroyLimit(int(found[1]), bool(found[2])) if found else None
    if limit is None or (limit.is_percentage and limit.number > 100):
        raise InvalidValue(
            f"nebula_destroy_limit {text!r} (destroy_limit of nebula_vm)",
            "it is neither a number of machines nor a percentage from 0% to 100%",
            "Give one such as 5 or 10%",
        )
    return limit


def never_ran(engine: Engine, record: VmRecord) -> bool:
    """Return whether the machine failed before it ran for the first time: then nothing on its disks can be lost."""
    if record.state not in NOT_STARTED:
        return False
    # An adopted machine may have been SUSPENDED from the first.
    return not any(step["state"] in ("RUNNING", "POWEROFF", "SUSPENDED") for step in engine.vms.history(id_of(record)))


def loses_disks(engine: Engine, record: VmRecord) -> bool:
    """Return whether something is destroyed when the machine ends or is made anew. Nothing is if this has been decided
    before, if the machine never ran, or if all its disks belong to persistent images."""
    if record.wanted == "DONE" or record.recreates or never_ran(engine, record):
        return False
    return any(disk.own for disk in engine.vms.devices(id_of(record)).get(DISK, ()))


def names_of_destroyed(outcomes: Iterable[Outcome]) -> list[str]:
    """Return the names of the machines that lose disks."""
    return [outcome.name for outcome in outcomes if outcome.destroys and outcome.before != outcome.after]


def machines_text(names: Collection[Any]) -> str:
    """Return the number of machines in words."""
    return f"{len(names)} machine" + ("s" if len(names) != 1 else "")


def names_text(names: Collection[str]) -> str:
    """Return the names of machines, as many as a message can have."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(list(names)[:_SHOWN]) + more


def refuse_beyond(limit: DestroyLimit, names: Collection[str], there: int) -> None:
    """Raise TooManyDestroyed if one list may not destroy the disks of so many machines.
    names: machines that would lose disks
    there: how many machines the catalog had before"""
    most = limit.of(there)
    if len(names) <= most:
        return
    may = machines_text(range(most)) + (f" ({limit} of {there})" if limit.is_percentage else "")
    raise TooManyDestroyed(
        f"nebula_vms: destroying the disks of {machines_text(names)} ({names_text(names)})",
        f"one run may do that to {may}, as nebula_destroy_limit says; nothing was done",
        "If they are to go (a lowered count, state: absent, recreate or detach ends their disks with what they hold), "
        f"run again with -e nebula_destroy_limit={len(names)} (destroy_limit of nebula_vm). If not, correct the list",
    )
