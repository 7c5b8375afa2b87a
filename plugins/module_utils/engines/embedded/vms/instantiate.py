# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes new machines: ids, UUIDs, hosts, leases, ports and images for a whole batch, or an error and nothing."""

from __future__ import annotations

import functools
import uuid as uuids
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ....dataclass import dataclass, replace
from ....errors import Conflict, InUse, InvalidValue, NebulaError, NoCapacity, Unsupported, WrongState
from ....model import hypervisor_rules
from ....model.host import Host
from ....model.instantiate.demands import Demands
from ....model.instantiate.host_placement import HostPlace
from ....model.instantiate.host_wants import HostWants, wants_of
from ....model.network import Network
from ....model.object_ids import id_of
from ....model.object_names import check_name
from ....model.states import LcmState, VmState
from ....model.template import Template
from ...ports import VmRecord, VmRequest
from ..networks.network_hosts import spread
from . import vm_records
from .assemble import Blueprint
from .capacity import counted, overhead
from .decision_parts import DecisionParts
from .host_places import with_processors
from .scheduler import Homes, Scheduler
from .template_references import References

# Why a hypervisor does not get a machine that another one is asked for first.
_ELSEWHERE = Unsupported("this machine", "it wants something of its host to itself", "Set HYPERVISOR in its template")


@dataclass(frozen=True)
class _Placed:
    """Holds a machine with its id, and the host that has room for it."""

    vm_id: int
    request: VmRequest
    demands: Demands
    host: Host
    place: HostPlace | None = None


def instantiate(
    parts: DecisionParts, requests: Sequence[VmRequest], hosts: Sequence[str] | None = None
) -> list[VmRecord]:
    """Make a machine of each request, all of them or none; see VmsPort."""
    if not requests:
        return []
    now = parts.now()
    references = References(parts.images, parts.networks)
    placed = _placed(parts, requests, hosts, references)
    identities = _identities(parts, placed)
    parts.rows.insert([_row(parts, each, identities[each.vm_id], references, now) for each in placed])
    leased = parts.nics.lease([(each.vm_id, each.request.name, each.demands, None) for each in placed], references)
    ports = parts.ports.choose([(each.vm_id, each.request.name, each.demands, each.host) for each in placed])
    warnings, bodies = {}, {}
    for each in placed:
        request = each.request
        images = references.images_of(request.name, request.template, each.demands)
        parts.images.uses.acquire_all(each.vm_id, request.name, images)
        blueprint = Blueprint(
            each.vm_id,
            identities[each.vm_id],
            request.name,
            each.host.hypervisor,
            request.template,
            images,
            leased[each.vm_id].nics,
            leased[each.vm_id].aliases,
            ports.get(each.vm_id),
            request.owner,
            hotplug_slots=request.hotplug_slots,
            place=each.place,
        )
        vm, warnings[each.vm_id] = parts.assembler.assemble(blueprint, references)
        bodies[each.vm_id] = parts.rows.write_body(each.vm_id, vm)
        parts.capacity.promise(each.host, each.demands)
    parts.rows.remember([(each.vm_id, each.host.name, "PROLOG", "instantiate", "") for each in placed], now)
    return [replace(record, warnings=warnings[id_of(record)]) for record in vm_records.of_new(parts, bodies)]


def _placed(
    parts: DecisionParts, requests: Sequence[VmRequest], hosts: Sequence[str] | None, references: References
) -> list[_Placed]:
    """Return each machine with a new id, on the host that the scheduler finds for it."""
    scheduler = parts.capacity.scheduler(hosts)
    hypervisors = scheduler.hypervisors
    homes = Homes()
    placed = []
    for vm_id, request in zip(_new_ids(parts, len(requests)), requests):
        check_name("VM", request.name)
        demands = references.demands(request.name, request.template)
        hypervisor = request.template.get("HYPERVISOR").lower()
        wanted = {each for each in hypervisors if hypervisor_rules.makes_same_machines(hypervisor, each)} or {
            hypervisor
        }
        networks = references.networks_of(request.name, demands)
        networks += references.networks_of_aliases(request.name, demands)
        kinds = wanted if hypervisor else hypervisors
        growths = references.growths(request.name, request.template, kinds)
        refusals = dict(references.refusals(request.name, request.template, kinds))
        wants = _wants_of(request, kinds, refusals)
        limits = (
            homes.of(networks, functools.partial(_hosts_of, parts)),
            parts.polls.without_bridge(networks),
            growths,
            functools.partial(_lacking, parts, wants) if wants else None,
        )
        host = _host_of(scheduler, request, hypervisor, demands, refusals, wants, limits)
        homes.take(networks, host.name)
        own = wants.get(host.hypervisor)
        place = parts.host_places.take(host, own, vm_id, f"VM {request.name}") if own is not None else None
        demands = with_processors(demands, own)
        placed.append(_Placed(vm_id, request, counted(demands, growths.get(host.hypervisor)), host, place))
    return placed


def _host_of(
    scheduler: Scheduler,
    request: VmRequest,
    hypervisor: str,
    demands: Demands,
    refusals: Mapping[str, NebulaError],
    wants: Mapping[str, HostWants],
    limits: tuple[Any, ...],
) -> Host:
    """Return the host that the scheduler finds for a machine: of hypervisors where it wants something to itself, which
    counts otherwise there, before the others.
    wants: by hypervisor.
    limits: the scheduler's further arguments."""
    others = [each for each in scheduler.hypervisors if each not in wants]
    turns = [*dict.fromkeys(wants.values()), *([None] if others or not wants else [])]
    failed: NebulaError | None = None
    for turn in turns:
        asked = with_processors(demands, turn)
        elsewhere = {each: _ELSEWHERE for each in scheduler.hypervisors if wants.get(each) != turn}
        try:
            return scheduler.place(
                request.name,
                asked.cpu,
                asked.memory,
                asked.vcpu,
                hypervisor,
                request.host,
                {**refusals, **(elsewhere if len(turns) > 1 else {})},
                *limits,
            )
        except (InUse, NoCapacity, WrongState) as error:
            failed = failed or error
    raise failed or WrongState(f"VM {request.name}: a host", "there is none")


def _wants_of(request: VmRequest, hypervisors: Iterable[str], refusals: dict[str, NebulaError]) -> dict[str, HostWants]:
    """Return by hypervisor what the machine wants of its host to itself there, of those where it wants anything.
    refusals: by hypervisor, why it can't have the machine; what is read here is added."""
    found = {}
    for hypervisor in hypervisors:
        try:
            wants = wants_of(request.template, hypervisor, f"VM {request.name}")
        except InvalidValue as error:
            refusals.setdefault(hypervisor, error)
        else:
            found.update({} if wants is None or hypervisor in refusals else {hypervisor: wants})
    return found


def _lacking(parts: DecisionParts, wants: Mapping[str, HostWants], host: Host) -> str:
    own = wants.get(host.hypervisor)
    return parts.host_places.lacking(host, own) if own is not None else ""


def _row(parts: DecisionParts, placed: _Placed, identity: str, references: References, now: int) -> dict[str, object]:
    request = placed.request
    return {
        "id": placed.vm_id,
        "name": request.name,
        "uuid": identity,
        "pattern": request.pattern,
        "position": request.position,
        "template": request.template_name,
        "state": VmState.ACTIVE,
        "lcm_state": LcmState.PROLOG,
        "host_id": placed.host.id,
        "wanted": request.wanted,
        "cpu": placed.demands.cpu,
        "memory": placed.demands.memory,
        "overhead": overhead(placed.host, placed.demands),
        "request": references.as_json(request.template),
        "body": "",
        "stime": now,
    }


def _hosts_of(parts: DecisionParts, network: Network) -> Iterable[str]:
    found = spread(parts.store, network).get(id_of(network))
    return [] if found is None else found.hosts


def _new_ids(parts: DecisionParts, count: int) -> list[int]:
    """Return new ids, without those that a host uses for machines of others: none of ours could start there."""
    ids: list[int] = []
    while len(ids) < count:
        lacking = count - len(ids)
        first = parts.store.take_ids("vms", lacking)
        ids += [vm_id for vm_id in range(first, first + lacking) if vm_id not in parts.polls.foreign_ids]
    return ids


def _identities(parts: DecisionParts, placed: Sequence[_Placed]) -> dict[int, str]:
    """Return a UUID for each machine, by its id: what OS/UUID fixes, else a new one."""
    identities: dict[int, str] = {}
    for each in placed:
        request = each.request
        fixed = fixed_uuid(request.template)
        if fixed:
            row = parts.store.row("SELECT name FROM vms WHERE uuid = ? AND state != 6", fixed)
            if row is not None or fixed in identities.values():
                raise Conflict(
                    f"VM {request.name}: OS/UUID {fixed}",
                    f"VM {row['name'] if row else request.pattern or request.name} has it",
                    "Leave UUID out where more than one machine is made from the template",
                )
        identities[each.vm_id] = fixed or str(uuids.uuid4())
    return identities


def fixed_uuid(template: Template) -> str:
    """Return OS/UUID, which fixes the machine's own; "" if there is none."""
    return template.vector("OS").get("UUID", "").lower()
