# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Chooses the machines that are backed up in a run, and says to each host what of it is its own part."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..arguments import parse_json
from ..dataclass import dataclass, replace
from ..engines.base import Engine
from ..engines.ports import VmRecord
from ..engines.registry import open_engine
from ..errors import InvalidValue, NotFound
from ..model import backup_retention
from ..model.dataclass_json import to_plain
from ..model.datastore import DatastoreType
from ..model.installation_marks import MARK
from ..model.machine_backup import FRONTEND, IN_DATASTORE, BackupPassage, BackupRequest, MachineToBackUp
from ..model.meeting import leads_to_itself, read_places
from ..model.object_names import nearest_word
from ..model.plan import Observed
from ..model.template_secrets import part
from ..model.vm import Vm
from ..storage.datastore_layout import image_directory
from ..sync import Result
from .host_identity import without_second_names
from .named_machines import named
from .vms.nodes_answers import polls_of, refused_answers

# In which states a machine's disks are what its guest has written, and nothing else is to be told of it.
_AT_REST = ("RUNNING", "POWEROFF")
# Both hosts of a passage act in one task.
_HOSTS_OF_A_PASSAGE = 2


@dataclass(frozen=True)
class _Left:
    """Names a machine that is not backed up, and says why."""

    vm_id: int
    name: str
    host: str
    reason: str


@dataclass(frozen=True)
class _Run:
    """Holds what a run knows of all its hosts.
    hosts: those that take part; None for all. silent: why, of those that did not answer, "" for no reason given.
    installing: names of the images that machines are being installed into."""

    hosts: Sequence[str] | None
    silent: Mapping[str, str]
    installing: frozenset[str]
    has_key: bool

    def why_not(self, record: VmRecord, vm: Vm) -> str:
        """Return why a machine is not backed up, as the rest of a sentence about it; "" if it is."""
        if record.moving:
            return f"it moves to host {record.moving}. Run again once it is there"
        if vm.attributes.get(MARK, "") in self.installing:
            return f"image {vm.attributes[MARK]} is being installed in it. Run again once that is done"
        if record.wanted == "DONE":
            return "it is being ended"
        if record.runs_elsewhere:
            return record.runs_elsewhere
        if not record.host:
            return f"it is {record.state}, and on no host"
        if self.hosts is not None and record.host not in self.hosts:
            return f"host {record.host} is not part of this run"
        if record.host in self.silent:
            why = f" ({self.silent[record.host]})" if self.silent[record.host] else ""
            return f"host {record.host} did not answer{why}"
        if record.recreates or not record.settled:
            error = f" ({record.error})" if record.error else ""
            return f"what was decided about it is not done yet{error}. Run playbook nebula.provision.site first"
        if record.state == "SUSPENDED":
            return (
                "it is SUSPENDED: its memory is in a file of its host, and its disks alone are not what its guest has. "
                "Let it run (state: running) or power it off (state: poweroff) first"
            )
        if record.state not in _AT_REST:
            error = f" ({record.error})" if record.error else ""
            return f"it is {record.state}{error}. Bring it into order first (state: running, poweroff or recovered)"
        encrypted = [disk.disk_id for disk in vm.disks if disk.luks_secret]
        if encrypted and not self.has_key:
            numbers = ", ".join(map(str, encrypted))
            return (
                f"its disk {numbers} is encrypted, and is backed up under a key alone: else it would lie there for "
                "anybody to read. Set nebula_machine_backup_key"
            )
        return ""


def choose(params: Mapping[str, Any], check_mode: bool) -> Result:
    """Return what each host is asked for, and which machines are not backed up. Nothing is written to the catalog."""
    _refuse_numbers(params)
    # Else it would be refused only when backups are made already.
    backup_retention.checked(params["keep"] or {}, "nebula_machine_backup_keep")
    polls = polls_of(parse_json(params["observed"], "observed") if params["observed"] else [])
    refused = refused_answers(polls)
    with contextlib.closing(open_engine(params, check_mode=True)) as engine, engine.session():
        believed, _second = without_second_names(engine, polls)
        believed = engine.hosts.check(believed)
        engine.vms.observe(believed)
        directory = _directory(engine, params)
        records = _chosen(engine, params)
        vms = engine.vms.described([record.id for record in records if record.id is not None])
        run = _Run(params["hosts"], _silent(believed), _installing(engine), params["encrypted"])
        machines, left = _judged(records, vms, run, params["purpose"] == "verified")
        base = BackupRequest(
            engine.catalog(),
            directory,
            FRONTEND if params["datastore"] else params["at"],
            (),
            full=params["full"],
            consistency=params["consistency"],
            compress=params["compress"],
            rate=params["rate"],
            at_once=params["at_once"],
            stand_still=params["stand_still"],
        )
        everything = params["purpose"] == "verified" and not _selects(params)
        requests, further = _requests(base, machines, params, check_mode, everything)
    left += further
    names = {each.vm.vm_id for request in (r for rs in requests.values() for r in rs) for each in request.machines}
    return Result(
        payload={
            "requests": {host: json.dumps(to_plain(each)) for host, each in requests.items()},
            "machines": [
                {"vm_id": each.vm.vm_id, "name": each.vm.name, "host": each.host}
                for each in machines
                if each.vm.vm_id in names
            ],
            "left_out": [to_plain(each) for each in sorted(left, key=lambda each: each.vm_id)],
            "directory": directory,
            "at": base.at,
            "everything": everything,
            "purpose": params["purpose"],
            "refused_answers": refused,
        },
        warnings=[*refused.values()],
    )


# -- what is asked for -------------------------------------------------------------------------------------------------
def _refuse_numbers(params: Mapping[str, Any]) -> None:
    if params["rate"] < 0:
        found = "it is below 0"
        raise InvalidValue(
            f"nebula_machine_backup_rate {params['rate']}", found, "Give MiB a second, or 0 for no limit"
        )
    if params["at_once"] < 1:
        found = "no machine would be backed up"
        raise InvalidValue(f"nebula_machine_backup_at_once {params['at_once']}", found, "Give 1 or more")


def _directory(engine: Engine, params: Mapping[str, Any]) -> str:
    name = params["datastore"]
    if name:
        where = f"nebula_machine_backup_datastore {name}"
        datastore = engine.datastores.info(name)
        if datastore.type is not DatastoreType.IMAGE or datastore.id is None:
            found = f"it is a datastore of type {datastore.type.name}"
            raise InvalidValue(where, found, "Name one of type IMAGE")
        return os.path.join(image_directory(params["root"], datastore.id), IN_DATASTORE)
    directory = str(params["directory"])
    if not os.path.isabs(directory):
        raise InvalidValue(
            f"nebula_machine_backup_directory {directory!r}",
            "the path is not absolute",
            "Give one from the root of the host's file system, as /var/backups/nebula-machines",
        )
    return directory


def _selects(params: Mapping[str, Any]) -> bool:
    return any(params[name] for name in ("vms", "owner", "of_hosts"))


def _chosen(engine: Engine, params: Mapping[str, Any]) -> list[VmRecord]:
    """Return the machines that are asked for. Raise NotFound for words that name nothing."""
    found = engine.vms.pool()
    if params["vms"]:
        names, problem = named([record.name for record in found], params["vms"])
        if problem:
            raise NotFound("the machines to be backed up", problem)
        found = [record for record in found if record.name in names]
    if params["owner"]:
        owner = params["owner"]
        found = _among(found, "nebula_machine_backup_owner", [owner], lambda record: record.owner.name)
    if params["of_hosts"]:
        found = _among(found, "nebula_machine_backup_host", params["of_hosts"], lambda record: record.host)
    return found


def _among(
    records: Sequence[VmRecord], variable: str, words: Sequence[str], of: Callable[[VmRecord], str]
) -> list[VmRecord]:
    known = sorted({of(record) for record in records} - {""})
    for word in words:
        if not any(fnmatch.fnmatchcase(each, word) for each in known):
            near = nearest_word(word, known)
            meant = f"Did you mean {near!r}?" if near else f"There are: {', '.join(known[:20]) or 'none'}"
            raise NotFound(f"{variable} {word}", "none of these machines is one of it", meant)
    return [record for record in records if any(fnmatch.fnmatchcase(of(record), word) for word in words)]


# -- which of them can be backed up ------------------------------------------------------------------------------------
def _silent(believed: Sequence[Observed]) -> dict[str, str]:
    silent = [node for node in believed if not node.reached]
    return {node.host: " ".join(str(node.facts.get("problem") or "").split()) for node in silent}


def _installing(engine: Engine) -> frozenset[str]:
    return frozenset(image.name for image in engine.images.pool() if image.unfinished)


def _judged(
    records: Sequence[VmRecord], vms: Mapping[int, Vm], run: _Run, all_of_them: bool
) -> tuple[list[MachineToBackUp], list[_Left]]:
    machines: list[MachineToBackUp] = []
    left: list[_Left] = []
    for record in records:
        vm = vms.get(record.id) if record.id is not None else None
        if vm is None or record.request is None:
            continue
        reason = "" if all_of_them else run.why_not(record, vm)
        if reason:
            left.append(_Left(vm.vm_id, record.name, record.host, reason))
            continue
        template, hidden = part(record.request)
        machines.append(
            MachineToBackUp(
                _without_secrets(vm),
                record.generation,
                record.host,
                record.owner.name,
                template.to_mapping(),
                hidden if run.has_key else dict.fromkeys(hidden, ""),
            )
        )
    return machines, left


def _without_secrets(vm: Vm) -> Vm:
    """Return the machine as a host has to know it for a backup: neither its context, nor its console's password."""
    graphics = replace(vm.graphics, password="") if vm.graphics is not None else None
    context = replace(vm.context, variables={}) if vm.context is not None else None
    disks = tuple(replace(disk, inject=()) for disk in vm.disks)
    return replace(vm, graphics=graphics, context=context, disks=disks)


# -- what each host is asked for ---------------------------------------------------------------------------------------
def _requests(
    base: BackupRequest,
    machines: Sequence[MachineToBackUp],
    params: Mapping[str, Any],
    check_mode: bool,
    everything: bool,
) -> tuple[dict[str, list[BackupRequest]], list[_Left]]:
    """Return by host what it is asked for, and the machines whose data the front-end can't get at."""
    by_host: dict[str, list[MachineToBackUp]] = {}
    for each in machines:
        by_host.setdefault(each.host, []).append(each)
    frontend = params["frontend"]
    if params["purpose"] == "verified":
        if everything:
            # Machines that are no more have backups, too.
            places = [frontend] if base.at == FRONTEND else params["hosts"] or list(by_host)
            return {host: [base] for host in places}, []
        if base.at == FRONTEND:
            by_host = {frontend: list(machines)} if machines else {}
        return {host: [replace(base, machines=tuple(own))] for host, own in by_host.items()}, []
    if base.at != FRONTEND:
        return {host: [replace(base, machines=tuple(own))] for host, own in by_host.items()}, []
    requests: dict[str, list[BackupRequest]] = {}
    left: list[_Left] = []
    given = {host: own for host, own in by_host.items() if host != frontend}
    if given:
        _refuse_frontend(params)
    if frontend in by_host:
        requests[frontend] = [replace(base, machines=tuple(by_host[frontend]))]
    places = read_places(parse_json(params["meeting_places"], "meeting_places") if params["meeting_places"] else {})
    pairs: dict[str, tuple[str, str]] = {}
    for host, own in given.items():
        place = places.get(host)
        if place is None or leads_to_itself(place.address):
            reason = (
                f"nothing says where the front-end is to meet host {host}. Set nebula_move_address of it to an address "
                "by which the front-end reaches it"
            )
            left += [_Left(each.vm.vm_id, each.vm.name, host, reason) for each in own]
            continue
        ours = _pair(pairs, frontend, check_mode)
        theirs = _pair(pairs, host, check_mode)
        token = secrets.token_hex(16)
        gives = BackupPassage(
            token, True, frontend, "", place.port, ours[1], theirs[1], theirs[0], encrypted=params["encrypted"]
        )
        takes = BackupPassage(token, False, host, place.address, place.port, theirs[1], ours[1], ours[0])
        # What is a secret stays where it is needed: on the front-end.
        bare = tuple(replace(each, template={}, secrets={}) for each in own)
        requests[host] = [replace(base, directory="", machines=bare, passage=gives)]
        requests.setdefault(frontend, []).append(replace(base, machines=tuple(own), passage=takes))
    return requests, left


def _refuse_frontend(params: Mapping[str, Any]) -> None:
    """Raise InvalidValue where the front-end can't act in one task with other hosts."""
    frontend = params["frontend"]
    where = f"backups of machines in a directory of the front-end {frontend}"
    if params["forks"] < _HOSTS_OF_A_PASSAGE:
        raise InvalidValue(
            where,
            f"it and another host have to act at the same time, and Ansible acts on {params['forks']} host at a time",
            "Set forks to 2 or more (ansible-playbook --forks 2), or nebula_machine_backup_at: node",
        )
    if not params["frontend_acts"]:
        raise InvalidValue(
            where,
            "it is not part of this run, in which it writes what other hosts read",
            "Name it in --limit, too, or see that it answers, or set nebula_machine_backup_at: node",
        )


def _pair(pairs: dict[str, tuple[str, str]], host: str, check_mode: bool) -> tuple[str, str]:
    if host not in pairs:
        from ..host.run_certificates import key_pair

        pairs[host] = ("", "") if check_mode else key_pair("nebula backup")
    return pairs[host]
