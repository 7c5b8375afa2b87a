# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries out on one host what the front-end has chosen to be backed up: its own machines, and on the front-end those
that other hosts give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...arguments import parse_json
from ...errors import InvalidValue, NebulaError
from ...model.dataclass_json import from_plain
from ...model.machine_backup import BackupRequest, MachineToBackUp
from ...sync import Item, Result


def requests_of(params: Mapping[str, Any]) -> list[BackupRequest]:
    """Return what this host is asked for. Raise InvalidValue for what is none; its values are not shown."""
    given = parse_json(params["requests"], "requests")
    if isinstance(given, str):
        given = parse_json(given, "requests")
    if not isinstance(given, list):
        raise InvalidValue("option requests", f"it is a {type(given).__name__}", "Give what state: chosen returned")
    return [from_plain(BackupRequest, each) for each in given]


def reads_machines(params: Mapping[str, Any]) -> bool:
    """Return whether this host reads disks of machines of its own."""
    try:
        return any(request.passage is None or request.passage.gives for request in requests_of(params))
    except NebulaError:
        # What is wrong with the option is told when it is read again.
        return False


def outcome_of(machine: MachineToBackUp, error: NebulaError | None = None, **what: Any) -> dict[str, Any]:
    """Return what became of one machine, as results have it."""
    nothing = {"id": "", "kind": "", "reason": "", "consistency": "", "size": 0, "stored": 0, "seconds": 0.0}
    found = {"vm_id": machine.vm.vm_id, "name": machine.vm.name, "host": machine.host, **nothing, "warnings": []}
    return {**found, **what, "error": str(error) if error is not None else ""}


def result_of(outcomes: Sequence[Mapping[str, Any]]) -> Result:
    """Return the module's answer. A machine that was not backed up is told with the others, and fails nothing here: its
    run reports it once all others are done."""
    items = [Item(each["name"], changed=bool(each["id"])) for each in outcomes]
    return Result(items=items, payload={"backups": [dict(each) for each in outcomes]})


def foretold(requests: Sequence[BackupRequest]) -> Result:
    """Return the machines that would be backed up by who writes them."""
    writing = [request for request in requests if request.passage is None or not request.passage.gives]
    machines = [machine for request in writing for machine in request.machines]
    outcomes = [outcome_of(machine, kind="would") for machine in machines]
    items = [Item(machine.vm.name, changed=True) for machine in machines]
    return Result(items=items, payload={"backups": outcomes})
