# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes new machines: ids, UUIDs, hosts, leases, ports and images for a whole batch, or an error and nothing."""

from __future__ import annotations

import uuid as uuids
from collections.abc import Iterable, Sequence

from ....dataclass import dataclass, replace
from ....errors import Conflict
from ....model import hypervisor_rules
from ....model.host import Host
from ....model.instantiate.demands import Demands
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
from .scheduler import Homes
from .template_references import References


@dataclass(frozen=True)
class _Placed:
    """Holds a machine with its id, and the host that has room for it."""

    vm_id: int
    request: VmRequest
    demands: Demands
    host: Host


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
        host = scheduler.place(
            request.name,
            demands.cpu,
            demands.memory,
            demands.vcpu,
            hypervisor,
            request.host,
            references.refusals(request.name, request.template, kinds),
            homes.of(networks, lambda each: _hosts_of(parts, each)),
            parts.polls.without_bridge(networks),
            growths,
        )
        homes.take(networks, host.name)
        placed.append(_Placed(vm_id, request, counted(demands, growths.get(host.hypervisor)), host))
    return placed


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
