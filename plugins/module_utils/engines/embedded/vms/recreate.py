# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a machine anew under its own id."""

from __future__ import annotations

from ....dataclass import replace
from ....model.instantiate.growth import growth_of
from ....model.instantiate.host_wants import wants_of
from ....model.machine_orders import RECREATE
from ....model.object_ids import id_of
from ....model.owner import Owner
from ....model.states import LcmState
from ....model.template import Template
from ...ports import VmOrders, VmRecord
from . import leaving_devices, vm_records, waiting
from .assemble import Blueprint
from .capacity import counted, overhead
from .decision import decide, refuse_moving
from .decision_parts import DecisionParts
from .device_ids import nics_anew
from .host_places import running, with_processors
from .template_references import References
from .vm_rows import WITH_MEMORY, request_of, vm_of, writes_files_only


def recreate(parts: DecisionParts, vm_id: int, template: Template, owner: Owner | None = None) -> VmRecord:
    row = parts.rows.get(vm_id)
    refuse_moving(parts, row)
    old = vm_of(row)
    host = parts.hosts.by_id()[row["host_id"]]
    references = References(parts.images, parts.networks)
    growth = growth_of(template, host.hypervisor, f"VM {row['name']}")
    # The old machine has it until its node has made the new one.
    holds = running(row) if parts.tasks.found_state(row) in (*WITH_MEMORY, "UNKNOWN") else None
    wants = wants_of(template, host.hypervisor, f"VM {row['name']}")
    place = (
        parts.host_places.take(host, wants, vm_id, f"VM {row['name']}", [holds] if holds else [])
        if wants is not None
        else None
    )
    demands = counted(with_processors(references.demands(row["name"], template), wants), growth)
    gives = parts.capacity.repromise(row, host, demands)
    images = references.images_of(row["name"], template, demands)
    away = parts.disk_hosts.host_with_newest(row)
    # The files of images that the new machine uses too stay on its host.
    stay = {id_of(image) for image in images.values() if image.persistent} if away else ()
    # Images whose files come back from the host are given to nobody before they are here, so nothing need be kept
    # for the old domain; nor need it be where the old domain never opened them.
    unopened = parts.capacity.never_made(row)
    let_go = None if away or unopened else parts.images.uses.keep(vm_id, {id_of(image) for image in images.values()})
    back, files_only = parts.disk_hosts.return_operation(row), writes_files_only(row)
    parts.images.uses.release(vm_id, written=True, back=back, stay=stay, disks=let_go, files_only=files_only)
    parts.images.uses.acquire_all(vm_id, row["name"], images)
    interfaces = nics_anew(
        old,
        request_of(row),
        template,
        list(map(id_of, references.networks_of(row["name"], demands))),
        list(map(id_of, references.networks_of_aliases(row["name"], demands))),
    )
    parts.networks.held_leases.let_go(vm_id, interfaces.gone)
    # The old domain uses its addresses until the node has made the machine anew, and another host may carry out its
    # part of the list earlier. The machine itself may get one of these addresses again.
    held = parts.networks.held_leases.held_by(vm_id)
    parts.networks.held_leases.release_kept(vm_id)
    leased = parts.nics.with_new(row, demands, interfaces, references)
    parts.networks.held_leases.keep(vm_id, held)
    parts.port_rows.hold(vm_id)
    port = parts.ports.choose([(vm_id, row["name"], demands, host)]).get(vm_id)
    blueprint = Blueprint(
        vm_id,
        row["uuid"],
        row["name"],
        host.hypervisor,
        template,
        images,
        leased.nics,
        leased.aliases,
        port,
        owner or old.owner,
        graphics=old.graphics,
        before=old,
        # The variable that says it for machines which are made is not asked again.
        hotplug_slots=old.hotplug_slots,
        place=place,
    )
    body, warnings = parts.assembler.assemble(blueprint, references)
    waiting.write(parts, vm_id, {}, 0)
    leaving_devices.forget(parts, row)
    parts.rows.write_request(body, references.as_json(template), demands.cpu, demands.memory, overhead(host, demands))
    parts.host_places.hold(row, holds, body)
    orders = VmOrders(hard=True, operation=RECREATE)
    decide(parts, row, LcmState.PROLOG, row["wanted"], orders, "recreate", row["seq"] + 1, gives=gives)
    return replace(vm_records.one(parts, vm_id), warnings=warnings)
