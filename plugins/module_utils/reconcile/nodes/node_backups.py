# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries out on one host what the front-end has chosen to be backed up: its own machines, and on the front-end those
that other hosts give. Also what is done with backups that are there: read and compared, or removed by rules."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from ...arguments import parse_json
from ...dataclass import replace
from ...errors import LONGEST, InvalidValue, NebulaError, NotFound
from ...host.progress import Reporter
from ...hypervisors.base import Driver
from ...model import backup_retention
from ...model.dataclass_json import from_plain
from ...model.machine_backup import FRONTEND, NODE, BackupRequest, MachineToBackUp
from ...storage import backup_verification
from ...storage.backup_place import Place
from ...sync import Item, Result
from .node_polls import driver_if_there

_MOST_WARNINGS = 100
_NOTHING: Mapping[str, Any] = {
    "id": "",
    "kind": "",
    "reason": "",
    "consistency": "",
    "size": 0,
    "stored": 0,
    "seconds": 0.0,
    "error": "",
}


def requests_of(params: Mapping[str, Any]) -> list[BackupRequest]:
    """Return what this host is asked for. Raise InvalidValue for what is none; its values are not shown."""
    given = parse_json(params["requests"], "requests")
    if isinstance(given, str):
        given = parse_json(given, "requests")
    if not isinstance(given, list):
        raise InvalidValue("option requests", f"it is a {type(given).__name__}", "Give what state: chosen returned")
    return [_of_this_host(from_plain(BackupRequest, each), params) for each in given]


def _of_this_host(request: BackupRequest, params: Mapping[str, Any]) -> BackupRequest:
    if request.passage is None or not request.passage.gives:
        # In what the front-end returned, Ansible would have put asterisks in its place.
        request = replace(request, key=params["key"] or "")
    # Each node may have a directory of its own.
    return replace(request, directory=str(params["directory"])) if request.at == NODE else request


def reads_machines(params: Mapping[str, Any]) -> bool:
    """Return whether this host reads disks of machines of its own."""
    try:
        return any(request.passage is None or request.passage.gives for request in requests_of(params))
    except NebulaError:
        # What is wrong with the option is told when it is read again.
        return False


def _writing(requests: Sequence[BackupRequest]) -> list[BackupRequest]:
    """Return those of which this host has the directory."""
    return [request for request in requests if request.passage is None or not request.passage.gives]


# -- backups are made --------------------------------------------------------------------------------------------------
def back_up(params: Mapping[str, Any], check_mode: bool) -> Result:
    """Back up what is asked for, and return what became of each machine. A machine that fails is told with the others,
    and fails nothing here: its run reports it when all others are done."""
    requests = requests_of(params)
    keep = backup_retention.checked(params["keep"], "nebula_machine_backup_keep") if params["keep"] else {}
    if check_mode:
        return _foretold(requests, params["root"])
    with contextlib.ExitStack() as held:
        driver: Driver | None = None
        if reads_machines(params):
            driver = held.enter_context(driver_if_there(params["hypervisor"], check_mode))
        for request in requests:
            if request.passage is not None and request.passage.gives and driver is not None:
                _give(request, driver, params["root"])
                return Result(payload={"backups": []})
        outcomes = _taken(requests, driver, params, keep)
    items = [Item(str(each["name"]), changed=bool(each["id"])) for each in outcomes]
    return Result(items=items, payload={"backups": outcomes})


def _foretold(requests: Sequence[BackupRequest], root: str) -> Result:
    """Return which machines would be backed up; or why their directory is refused, as it would be."""
    outcomes: list[dict[str, Any]] = []
    for request in _writing(requests):
        what = {"kind": "would"}
        try:
            Place.look(request.directory, request.catalog, root, in_datastore=request.at == FRONTEND)
        except NebulaError as error:
            what = {"error": _cut(str(error))}
        outcomes += [_outcome_of(machine, **what) for machine in request.machines]
    items = [Item(str(each["name"]), changed=not each["error"]) for each in outcomes]
    return Result(items=items, payload={"backups": outcomes})


def _give(request: BackupRequest, driver: Driver, root: str) -> None:
    # Of TLS, and of what reads machines, which only this state needs.
    from ...hypervisors.backups.giving import Giving
    from ...hypervisors.carry_out import machine_reading

    if request.passage is not None:
        # What goes wrong with a machine the front-end learns, and tells.
        Giving(request, request.passage, functools.partial(machine_reading.readable, request, driver, root)).serve()


def _taken(
    requests: Sequence[BackupRequest], driver: Driver | None, params: Mapping[str, Any], keep: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Back up the machines of this host, and of all hosts that give theirs, so many at a time altogether. Of each that
    has a new backup, remove what the rules do not keep."""
    from ...hypervisors.backups.taking import Activity, Taking
    from ...hypervisors.carry_out import machine_backups, machine_reading

    activity, reporter = Activity(), Reporter(params["_progress_file"])
    total = sum(len(request.machines) for request in requests)
    outcomes: list[dict[str, Any]] = []
    at_once = max([request.at_once for request in requests] or [1])
    shares = Shares(at_once)

    def note(outcome: dict[str, Any]) -> None:
        outcomes.append(_bounded(outcome))
        failed = sum(1 for each in outcomes if each["error"])
        reporter.report(len(outcomes) - failed, failed, total, word="backed up")

    with ThreadPoolExecutor(max(1, len(requests)), "host") as hosts:

        def carried_out(number: int, request: BackupRequest, begin: machine_backups.Begin) -> None:
            try:
                place = machine_backups.open_place(request, params["root"])
            except NebulaError as error:
                for machine in request.machines:
                    note(_outcome_of(machine, error=str(error)))
                return

            def one(machine: MachineToBackUp) -> dict[str, Any]:
                with shares.taken(number), activity.going_on():
                    outcome = machine_backups.back_up(request, place, begin, machine)
                    expired = _pruned(place, request, machine, keep) if keep and outcome["id"] else {}
                    return {**outcome, **expired, "warnings": [*outcome["warnings"], *expired.get("warnings", ())]}

            with ThreadPoolExecutor(max(1, min(at_once, len(request.machines))), "backup") as pool:
                for future in [pool.submit(one, machine) for machine in request.machines]:
                    note(future.result())

        def of_other_host(number: int, request: BackupRequest, taking: Taking) -> None:
            try:
                taking.meet()
            except NebulaError as error:
                for machine in request.machines:
                    note(_outcome_of(machine, error=str(error)))
                return
            with contextlib.closing(taking):
                carried_out(number, request, taking.begin)

        waiting: list[Future[None]] = []
        for number, request in enumerate(requests):
            if request.passage is not None:
                waiting.append(hosts.submit(of_other_host, number, request, Taking(request.passage, activity)))
            elif driver is not None:
                begin = functools.partial(machine_reading.readable, request, driver, params["root"])
                waiting.append(hosts.submit(carried_out, number, request, begin))
        for each in waiting:
            each.result()
    return sorted(outcomes, key=lambda each: each["vm_id"])


class Shares:
    """Lets so many machines be backed up at once, of all hosts together. One whose machines stand still does not keep
    the others waiting: who has none at work comes before who has some."""

    def __init__(self, most: int) -> None:
        self._most = max(1, most)
        self._changed = threading.Condition()
        self._waiting: dict[int, int] = {}
        self._at_work: dict[int, int] = {}

    @contextlib.contextmanager
    def taken(self, host: int) -> Iterator[None]:
        """Wait until one more machine of this host may be backed up, and count it for a block of code."""
        with self._changed:
            self._count(self._waiting, host, 1)
            try:
                self._changed.wait_for(lambda: self._may(host))
            finally:
                self._count(self._waiting, host, -1)
            self._count(self._at_work, host, 1)
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._count(self._at_work, host, -1)
                self._changed.notify_all()

    def _may(self, host: int) -> bool:
        if sum(self._at_work.values()) >= self._most:
            return False
        return host not in self._at_work or all(each == host or each in self._at_work for each in self._waiting)

    @staticmethod
    def _count(numbers: dict[int, int], host: int, more: int) -> None:
        numbers[host] = numbers.get(host, 0) + more
        if not numbers[host]:
            del numbers[host]


def _bounded(outcome: dict[str, Any]) -> dict[str, Any]:
    """Return what became of a machine as answers may have it: one that is too long would hide all others."""
    warnings = [_cut(str(each)) for each in outcome["warnings"]]
    more = len(warnings) - _MOST_WARNINGS
    if more > 0:
        warnings = [*warnings[:_MOST_WARNINGS], f"{more} warnings more"]
    return {**outcome, "error": _cut(str(outcome["error"])), "warnings": warnings}


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} … {text[3 - LONGEST // 2 :]}"


def _outcome_of(machine: MachineToBackUp, **what: Any) -> dict[str, Any]:
    """Return what became of one machine, as results have it."""
    found = {"vm_id": machine.vm.vm_id, "name": machine.vm.name, "host": machine.host}
    return {**found, **_NOTHING, "warnings": [], **what}


# -- backups that are there --------------------------------------------------------------------------------------------
def prune(params: Mapping[str, Any], check_mode: bool) -> Result:
    """Remove what the rules do not keep, of each machine that is asked for."""
    keep = backup_retention.checked(params["keep"] or {}, "nebula_machine_backup_keep")
    outcomes: list[dict[str, Any]] = []
    for request in () if check_mode else _writing(requests_of(params)):
        place = _place_of(request, params, for_writing=True)
        outcomes += [_bounded(_outcome_of(each, **_pruned(place, request, each, keep))) for each in request.machines]
    items = [Item(str(each["name"]), changed=bool(each.get("removed"))) for each in outcomes]
    return Result(items=items, payload={"backups": outcomes})


def _place_of(request: BackupRequest, params: Mapping[str, Any], for_writing: bool) -> Place:
    in_datastore = request.at == FRONTEND
    return Place.open(request.directory, request.catalog, for_writing, root=params["root"], in_datastore=in_datastore)


def _pruned(
    place: Place, request: BackupRequest, machine: MachineToBackUp, keep: Mapping[str, int]
) -> Mapping[str, Any]:
    try:
        with place.machine(machine.vm.vm_id, request.catalog, request.key) as directory:
            expiry = directory.prune(keep)
            warnings = list(directory.warnings)
    except NebulaError as error:
        return {"error": str(error)}
    merged = [each for merge in expiry.merges for each in merge.expired]
    return {"removed": [*expiry.removed, *merged], "warnings": warnings}


def verify(params: Mapping[str, Any], _check_mode: bool) -> Result:
    """Read all backups of the machines that are asked for, or all there are, those of other catalogs with them, and
    compare them with their checksums."""
    outcomes: list[dict[str, Any]] = []
    reporter = Reporter(params["_progress_file"])
    for request in _writing(requests_of(params)):
        try:
            place = _place_of(request, params, for_writing=False)
        except NotFound:
            # A node may never have had a machine.
            if request.at == NODE and not request.machines:
                continue
            raise
        asked = {(machine.vm.vm_id, request.catalog) for machine in request.machines}
        there = [each for each in place.machines() if not asked or each in asked]
        for number, (vm_id, catalog) in enumerate(there):
            outcomes += _verified(place, vm_id, catalog, request.key)
            reporter.report(number + 1, 0, len(there), word="read")
    return Result(payload={"backups": outcomes})


def _verified(place: Place, vm_id: int, catalog: str, key: str) -> list[dict[str, Any]]:
    others = catalog != place.catalog
    # Machines of two catalogs may have the same id and name: theirs are told by their directories.
    name = f"{vm_id}-{catalog}" if others else f"machine {vm_id}"
    wrong = {"vm_id": vm_id, "name": name, "catalog": catalog if others else "", "host": "", **_NOTHING, "warnings": []}
    try:
        with place.machine(vm_id, catalog, key) as directory:
            known = {backup.id: backup for backup in directory.backups()}
            found = backup_verification.verify(directory)
    except NebulaError as error:
        return [{**wrong, "error": _cut(str(error))}]
    outcomes = []
    for each in found:
        backup = known.get(each.id)
        outcome = {**wrong, "id": each.id, "stored": each.read, "error": "; ".join(each.faults)[:LONGEST]}
        if backup is not None:
            outcome.update(host=backup.host, kind=backup.kind, consistency=backup.consistency)
            outcome["name"] = name if others else backup.name
            outcome["size"] = sum(disk.size for disk in backup.disks)
        outcomes.append(outcome)
    return outcomes
