# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes over from its node a machine that carries this catalog's mark, and that the catalog does not know."""

from __future__ import annotations

from collections.abc import Sequence

from ....dataclass import replace
from ....errors import Conflict, NotFound, WrongState
from ....model import hypervisor_rules, machine_orders
from ....model.host import Host
from ....model.instantiate.demands import Demands
from ....model.instantiate.former_machine import FormerMachine
from ....model.instantiate.growth import growth_of
from ....model.instantiate.host_placement import HostPlace, found_place
from ....model.instantiate.host_wants import HostWants, wants_of
from ....model.instantiate.validate import refusals_by_hypervisor as refusals_of
from ....model.object_ids import id_of
from ....model.object_names import check_name
from ....model.plan import ADOPT
from ....model.states import VmState
from ....model.template import Template
from ....model.template_changes import MAXIMA
from ...ports import VmRecord, VmRequest
from ..hosts import PLACES
from . import plan_guards, unknown_vms, vm_records
from .assemble import Blueprint
from .capacity import counted, overhead
from .decision_parts import DecisionParts
from .host_places import with_processors
from .instantiate import fixed_uuid
from .observe import count_unknown
from .template_references import References
from .vm_rows import numbers_of


def adopt(
    parts: DecisionParts, vm_id: int, request: VmRequest, hosts: Sequence[str] | None = None, foreseen: bool = False
) -> VmRecord:
    """Write a machine that a node has as it is there: nothing of it is decided, and its node has nothing to do."""
    check_name("VM", request.name)
    asked = f"VM {request.name}: adopting machine {vm_id}"
    _refuse_known(parts, asked, vm_id)
    found = unknown_vms.find(asked, vm_id, parts.polls.unknown, parts.polls.believed, parts.store.meta("catalog"))
    host = _home_of(parts, asked, found, request, hosts)
    references = References(parts.images, parts.networks)
    # A machine with a TOPOLOGY or maxima has to have those of the list; one without was made when they did not act.
    former = FormerMachine(
        request.template if found.topology is None else Template(),
        request.template if found.growth is None else Template(),
        Template(),
        request.template,
        found.topology,
        found.growth if any(request.template.get(name).strip() for name in MAXIMA) else None,
        found.hotplug_slots,
        found.hardware_version,
    )
    growth = growth_of(request.template, host.hypervisor, f"VM {request.name}", former)
    wants = wants_of(request.template, host.hypervisor, f"VM {request.name}", former)
    place = _place_of(parts, vm_id, request, host, wants, found) if wants is not None else None
    demands = unknown_vms.with_macs(asked, references.demands(request.name, request.template), found.macs)
    demands = counted(with_processors(demands, wants), growth)
    now = parts.now()
    parts.rows.insert([_row(parts, vm_id, request, found, host, demands, references, now)])
    parts.store.take_ids("vms", 0)
    parts.store.db.execute("UPDATE sequences SET next = max(next, ?) WHERE name = 'vms'", (vm_id + 1,))
    # The addresses that were held for the unknown machine are those that it leases now.
    parts.networks.held_leases.release_given_up(vm_id)
    leased = parts.nics.lease([(vm_id, request.name, demands, None)], references)[vm_id]
    port = parts.ports.adopt(asked, vm_id, host, demands, found.port)
    images = references.images_of(request.name, request.template, demands)
    parts.images.uses.acquire_all(vm_id, request.name, images, adopted=True)
    blueprint = Blueprint(
        vm_id,
        found.uuid,
        request.name,
        host.hypervisor,
        request.template,
        images,
        leased.nics,
        leased.aliases,
        port,
        request.owner,
        adopted=True,
        exact=found.exact,
        former=former,
        place=place,
    )
    vm, warnings = parts.assembler.assemble(blueprint, references)
    if found.compared is None and not foreseen:
        raise NotFound(
            asked,
            f"host {found.host} has not compared it with the list",
            "Role vm has it compared before it decides: run that, with nebula_adopt_unknown",
        )
    if found.compared is not None:
        _refuse_different(parts, asked, found)
        # Its node alone knows a password that was made up; the next decision about the machine makes up another.
        if vm.graphics is not None and vm.graphics.made_up:
            vm = replace(vm, graphics=replace(vm.graphics, password="", made_up=False))
    parts.rows.write_body(vm_id, vm)
    plan_guards.forget(parts.store, id_of(host))
    parts.capacity.promise(host, demands)
    parts.rows.remember([(vm_id, host.name, found.state, ADOPT, "")], now)
    count_unknown(parts)
    return replace(vm_records.one(parts, vm_id), warnings=warnings)


def _place_of(
    parts: DecisionParts, vm_id: int, request: VmRequest, host: Host, wants: HostWants, found: unknown_vms.Found
) -> HostPlace:
    """Return what the machine has of its host to itself: that of its definition, if it is what the list asks for."""
    if found.waits:
        raise Conflict(
            f"VM {request.name}: adopting machine {vm_id}",
            "it waits for its next start, and what it has of its host until then is told by nobody",
            "Start it anew by its hypervisor's own means, then run again",
        )
    place = found_place(wants, found.numa_nodes, found.host_devices, found.topology)
    if place is None:
        return parts.host_places.take(host, wants, vm_id, f"VM {request.name}")
    parts.host_places.refuse_overlap(host, place, vm_id, f"VM {request.name}: adopting machine {vm_id}")
    parts.store.drop(PLACES)
    return place


def _row(
    parts: DecisionParts,
    vm_id: int,
    request: VmRequest,
    found: unknown_vms.Found,
    host: Host,
    demands: Demands,
    references: References,
    now: int,
) -> dict[str, object]:
    state, lcm_state = numbers_of(found.state)
    return {
        "id": vm_id,
        "name": request.name,
        "uuid": found.uuid,
        "pattern": request.pattern,
        "position": request.position,
        "template": request.template_name,
        "state": state,
        "lcm_state": lcm_state,
        "host_id": id_of(host),
        "generation": found.generation,
        "seq": found.seq,
        "wanted": found.state,
        "settled": found.compared is not None,
        "orders": machine_orders.write(machine_orders.after_adoption(found.state, found.compared is not None)),
        "cpu": demands.cpu,
        "memory": demands.memory,
        "overhead": overhead(host, demands),
        "request": references.as_json(request.template),
        "body": "",
        "stime": now,
    }


def _refuse_known(parts: DecisionParts, asked: str, vm_id: int) -> None:
    """Raise Conflict if the catalog has, or had, another machine of that id."""
    row = parts.store.row("SELECT name, state FROM vms WHERE id = ?", vm_id)
    if row is not None:
        over = ", and ended it" if row["state"] == VmState.DONE else ""
        raise Conflict(
            asked,
            f"the catalog had given that id to VM {row['name']}{over}; the machine's domain, its directory and its "
            "mark are called by the id, so that it can't have another",
            "Save its disks as images or copy them, then end it by hand: the audit has the command",
        )


def _home_of(
    parts: DecisionParts, asked: str, found: unknown_vms.Found, request: VmRequest, hosts: Sequence[str] | None
) -> Host:
    """Return the host that has the machine. Raise an error where that contradicts what the item says."""
    host = next((each for each in parts.hosts.pool() if each.name == found.host), None)
    if host is None:
        raise NotFound(asked, f"host {found.host} is not in the catalog", "Add it with nebula_host, as site.yml does")
    if hosts is not None and found.host not in hosts:
        raise WrongState(asked, f"it is on host {found.host}, which is not part of this run", "Run for that host too")
    if request.host not in ("", found.host):
        raise Conflict(
            asked, f"it is on host {found.host}, and the list says {request.host}", f"Set host: {found.host}"
        )
    refusals = refusals_of(request.template, f"VM {request.name}", {host.hypervisor})
    if host.hypervisor in refusals:
        raise refusals[host.hypervisor]
    hypervisor = request.template.get("HYPERVISOR").lower()
    if hypervisor and not hypervisor_rules.makes_same_machines(hypervisor, host.hypervisor):
        raise Conflict(asked, f"host {host.name} runs {host.hypervisor}, and the list says {hypervisor}")
    fixed = fixed_uuid(request.template)
    if fixed and fixed != found.uuid:
        raise Conflict(asked, f"it has the UUID {found.uuid}, and the list says {fixed}", "Leave OS/UUID out")
    row = parts.store.row("SELECT id, name FROM vms WHERE uuid = ? AND state != 6", found.uuid)
    if row is not None:
        raise Conflict(asked, f"VM {row['name']} (id {row['id']}) has its UUID {found.uuid}", "End one of the two")
    return host


def _refuse_different(parts: DecisionParts, asked: str, found: unknown_vms.Found) -> None:
    """Raise Conflict if the machine is not what its item says, or has changed since it was compared."""
    compared = found.compared
    if compared is None or (compared.uuid, compared.generation) != (found.uuid, found.generation):
        raise Conflict(asked, f"it has changed on host {found.host} while it was compared", "Run again")
    if compared.differences:
        raise Conflict(
            asked,
            f"on host {found.host} it is not what the list says: {'; '.join(compared.differences)}",
            "Give the item what the machine has, then run again. Nothing was changed",
        )
