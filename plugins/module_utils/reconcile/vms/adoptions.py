# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes over machines that nodes have with the catalog's mark and that the catalog does not know, if they are what the
list says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from ...dataclass import dataclass
from ...engines.base import Engine
from ...engines.ports import VmRecord, VmRequest
from ...errors import Conflict, InvalidValue, NebulaError, NotFound
from ...model.object_names import check_name
from ...model.whole_numbers import whole

OPTION = "nebula_adopt_unknown"


@dataclass(frozen=True)
class Adoptions:
    """Says which machines are to be taken over in one run.
    ids: by the name that the list has for the machine, its id on its node
    foreseen: the catalog keeps nothing of it, so the machine need not have been compared on its node"""

    ids: Mapping[str, int] = field(default_factory=dict)
    foreseen: bool = False


def ids_of(given: Any) -> dict[str, int]:
    """Return the ids that the option gives, by name of the machine. Raise InvalidValue for what is none."""
    remedy = f"Give names of the list with ids, as in {OPTION}: {{web: 4}} for the machine one-4"
    if not isinstance(given, Mapping):
        raise InvalidValue(f"option {OPTION}", f"it is a {type(given).__name__}", remedy)
    found: dict[str, int] = {}
    for name, value in given.items():
        check_name("VM", name)
        vm_id = whole(value)
        if vm_id is None:
            raise InvalidValue(f"{OPTION}: {name}: {value!r}", "it is not an id", remedy)
        if vm_id in found.values():
            raise InvalidValue(f"{OPTION}: {name}: {value!r}", "another name has that id", "One machine has one name")
        found[name] = vm_id
    return found


def errors_of_missing(adoptions: Adoptions, names: Sequence[str]) -> dict[str, NebulaError]:
    """Return an error for each name to adopt that the list has no machine for."""
    return {
        name: NotFound(
            f"VM {name}: adopting machine {vm_id}",
            "the list has no machine of that name",
            "Write an entry that says what the machine is made of, with the name that it has in its context",
        )
        for name, vm_id in adoptions.ids.items()
        if name not in names
    }


def adopt(engine: Engine, request: VmRequest, adoptions: Adoptions, hosts: Sequence[str] | None) -> VmRecord | None:
    """Take the machine over as the request describes it, and return it; None if that was done before."""
    vm_id = adoptions.ids[request.name]
    there = next(iter(engine.vms.pool(names=[request.name])), None)
    if there is not None and there.id == vm_id:
        return None
    if there is not None:
        raise Conflict(
            f"VM {request.name}: adopting machine {vm_id}",
            f"the catalog has a machine of that name (id {there.id})",
            "Give the one that is to be taken over the name that it has in its context, or rename the other "
            "(renamed_from) or end it (state: absent) before",
        )
    return engine.vms.adopt(vm_id, request, hosts, adoptions.foreseen)


def notes_of(record: VmRecord, wanted: str) -> list[str]:
    """Return warnings about an adopted machine. wanted: the state that the list wants; "" for any."""
    notes = [f"VM {record.name}: {text}" for text in record.warnings]
    if wanted and record.state != wanted:
        notes.append(
            f"VM {record.name} (id {record.id}) was adopted as it is, {record.state}: the next run makes it {wanted}"
        )
    return notes
