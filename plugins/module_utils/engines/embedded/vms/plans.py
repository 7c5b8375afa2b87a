# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes plans: of each node, all that was decided about its machines and is not done yet."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from ....dataclass import replace
from ....model import defaults
from ....model.datastore import Datastore
from ....model.host import Host
from ....model.image_operations import returns_from
from ....model.machine_orders import HeldResources
from ....model.move import SOURCE, MeetingPlace
from ....model.network_drivers import OVSWITCH, WITH_BRIDGE
from ....model.owner import Owner
from ....model.plan import SAVE_AS, GivenUp, Plan, PlannedDatastore, PlannedVm
from ....model.shared_datastores import datastore_of
from ....model.states import ImageType
from ....model.transfer import BASE, ENDED, OWN, SAVED, SHARED, PlannedImage, is_outdated, name_of
from ..store import chunks
from . import moving, plan_guards
from .assemble import files_of
from .decision_parts import DecisionParts
from .vm_rows import orders_of
from .waiting import EMPTY

# States in which all of a machine's disks are there.
_WITH_DISKS = ("RUNNING", "POWEROFF", "SUSPENDED")
# States in which a machine's context is not made anew.
_WITHOUT_CONTEXT = ("SUSPENDED", "DONE")


def plans(
    parts: DecisionParts,
    hosts: Sequence[str] | None = None,
    end_given_up: bool = False,
    places: Mapping[str, MeetingPlace] | None = None,
    move_seconds: int = defaults.MOVE_SECONDS,
) -> dict[str, Plan]:
    rows = parts.store.rows(
        # Without this, SQLite would walk through all machines to have them in order.
        "SELECT vms.*, hosts.name AS host FROM vms INDEXED BY vms_unsettled JOIN hosts ON hosts.id = vms.host_id"
        " WHERE settled = 0 ORDER BY vms.id"
    )
    planned: dict[str, list[PlannedVm]] = {}
    unmade = set()
    tokens = moving.tokens(rows)
    for row in rows:
        if row["id"] in parts.polls.doubled:
            continue
        if row["move_host"] is not None:
            machine = _planned(parts, row)
            for host, part in moving.planned(parts, row, machine, hosts, places or {}, move_seconds):
                planned.setdefault(host, []).append(part)
            continue
        if hosts is not None and row["host"] not in hosts:
            continue
        if row["move"] and (asked := moving.asked_of_owner(parts, row)) is not None:
            planned.setdefault(row["host"], []).append(replace(_planned(parts, row), move=asked))
            continue
        if _is_to_wait(parts, row):
            _leave_out(parts, row)
            continue
        if _is_unmade(parts, row):
            unmade.add(row["id"])
        planned.setdefault(row["host"], []).append(_planned(parts, row))
    known = {host.name: host for host in parts.hosts.pool()}
    ending: dict[str, list[GivenUp]] = {}
    for found in parts.given_ups.seen if end_given_up else ():
        if found.host in known and (hosts is None or found.host in hosts):
            ending.setdefault(found.host, []).append(found)
    left = moving.leftovers(parts, hosts)
    if not planned and not ending and not left:
        return {}
    number = parts.hosts.plan_numbers.take()
    proof = parts.hosts.plan_numbers.proof(number)
    catalog = parts.store.meta("catalog")
    # By the catalog of now: machines of older versions do not say which of their files are images.
    names = {
        row["source"]: row["name"]
        for row in parts.store.rows("SELECT source, name FROM images WHERE type = ?", ImageType.CONTEXT)
    }
    plans = {}
    shared = parts.datastores.shared()
    stated = plan_guards.of_plans(
        parts.store,
        {host: [each.vm.vm_id for each in planned.get(host, ())] for host in dict.fromkeys((*planned, *ending, *left))},
        {each.vm.vm_id for vms in planned.values() for each in vms if each.wanted == "DONE"},
        number,
    )
    for host, filtering in stated.items():
        vms = planned.get(host, [])
        sources = parts.sources.planned(
            replace(file, image=names.get(file.source, ""))
            for each in vms
            if each.wanted not in _WITHOUT_CONTEXT and _may_begin_here(each)
            # Disks that are there are not made.
            for file in files_of(each.vm, each.vm.vm_id in unmade)
        )
        lacking = _waits_for(known[host], parts.polls.others_memory().get(host, 0), vms)
        plans[host] = _with_images(
            parts,
            Plan(
                catalog,
                number,
                host,
                tuple(vms),
                memory=int(known[host].memory * known[host].memory_overcommit) - known[host].reserved_memory,
                foreign_memory=parts.polls.foreign_memory.get(host, 0),
                contents=parts.sources.contents(sources, parts.polls.contents.get(host, ())),
                sources=sources,
                lacking_memory=lacking.memory,
                lacking_cpu=lacking.cpu,
                given_up=tuple(ending.get(host, ())),
                bridges=_bridges_of(parts, vms),
                guards=tuple(filtering.guards),
                machines=tuple(filtering.machines),
                guarded_at=filtering.at,
                guards_since=filtering.since,
                switches=_switches_of(parts, vms),
                proof=proof,
                leftovers=left.get(host, ()),
                moving=tokens.get(host, ()),
                datastore=_datastore_of(shared, host),
            ),
            known[host],
        )
    # In check mode nobody meets anybody.
    return plans if parts.store.check_mode else moving.with_keys(plans)


def _datastore_of(datastores: Sequence[Datastore], host: str) -> PlannedDatastore | None:
    found = datastore_of(datastores, host)
    return PlannedDatastore(found.name, found.mark) if found is not None else None


def _may_begin_here(planned: PlannedVm) -> bool:
    """Return whether the machine may be started here by this plan or the next, as where it arrives: what it needs for
    that is to be there."""
    return planned.move is None or not (planned.move.asks or planned.move.role == SOURCE)


def _bridges_of(parts: DecisionParts, vms: Iterable[PlannedVm]) -> dict[str, str]:
    names = {nic.bridge for each in vms if each.wanted == "RUNNING" for nic in each.vm.nics}
    rows = parts.store.rows("SELECT bridge, uuid, vn_mad FROM networks") if names else []
    found: dict[str, str] = {}
    for row in rows:
        if row["bridge"] in names and row["vn_mad"] in WITH_BRIDGE:
            before = found.get(row["bridge"], "")
            found[row["bridge"]] = f"{before},{row['uuid']}" if before else row["uuid"]
    return found


def _switches_of(parts: DecisionParts, vms: Iterable[PlannedVm]) -> dict[str, str]:
    ids = {nic.network_id for each in vms if each.wanted == "RUNNING" for nic in each.vm.nics}
    rows = parts.store.rows("SELECT id, uuid FROM networks WHERE vn_mad = ?", OVSWITCH) if ids else []
    return {str(row["id"]): row["uuid"] for row in rows if row["id"] in ids}


def _is_to_wait(parts: DecisionParts, row: sqlite3.Row) -> bool:
    starts = row["wanted"] == "RUNNING" and parts.tasks.found_state(row) != "RUNNING"
    return starts and row["id"] in parts.given_ups.doubled


def _leave_out(parts: DecisionParts, row: sqlite3.Row) -> None:
    """Note why the machine is not started: it waits until no other has its address."""
    error = f"it is not started: {parts.given_ups.doubled[row['id']]}"
    parts.store.db.execute("UPDATE vms SET error = ? WHERE id = ?", (error, row["id"]))


def _is_unmade(parts: DecisionParts, row: sqlite3.Row) -> bool:
    """Return whether the machine's disks are to be made."""
    return orders_of(row).recreates or parts.tasks.found_state(row) not in _WITH_DISKS


def _planned(parts: DecisionParts, row: sqlite3.Row) -> PlannedVm:
    orders = orders_of(row)
    gives = orders.gives
    if row["wanted"] == "DONE":
        held = row["memory"] + row["overhead"] + row["kept_memory"]
        gives = HeldResources(gives.memory + held, gives.cpu + row["cpu"])
    return PlannedVm(
        # The context says already what it says of the owner; no node needs the rest.
        vm=replace(parts.rows.vm_of(row), owner=Owner()),
        generation=row["generation"],
        wanted=row["wanted"],
        operation=orders.operation if row["wanted"] != "DONE" else "",
        hard=orders.hard,
        shutdown_timeout=orders.shutdown_timeout,
        seq=row["seq"],
        previous=orders.previous,
        tasks=orders.tasks,
        decided=orders.decided,
        detached=orders.detached,
        grown=orders.grown,
        refitted=orders.refitted,
        agreed=orders.agreed,
        waits=row["waits"] != EMPTY or row["held"] != EMPTY,
        gives_memory=gives.memory,
        gives_cpu=gives.cpu,
    )


def _with_images(parts: DecisionParts, plan: Plan, host: Host) -> Plan:
    if host.transfer == SHARED:
        return plan
    known = {row["uuid"]: row["generation"] for row in parts.store.rows("SELECT uuid, generation FROM images")}
    images = {image.path: image for image in _images_of(parts, plan)}
    past = (name for name in parts.polls.written.get(host.name, ()) if is_outdated(name, known))
    return replace(
        plan,
        transfer=host.transfer,
        images=tuple(images.values()),
        current=tuple(name_of(uuid, generation) for uuid, generation in known.items()),
        taken=tuple(sorted(past)),
    )


def _images_of(parts: DecisionParts, plan: Plan) -> Iterable[PlannedImage]:
    """Return the files of images that the plan's machines need or make. Of a file that comes twice the last counts."""
    for row in parts.store.rows(
        "SELECT uuid, generation, name, source FROM images WHERE operation IN (?, ?)", *returns_from(plan.host)
    ):
        yield _planned_image(ENDED, row)
    machines = {each.vm.vm_id: each for each in plan.vms if each.move is None or not each.move.asks}
    ids = sorted(machines)
    for marks, part in chunks(ids):
        for row in parts.store.rows(
            "SELECT vm_id, disk_id, images.uuid, generation, name, source, sha256, writable FROM vm_images"
            f" JOIN images ON images.id = image_id WHERE vm_id IN ({marks}) ORDER BY vm_id",
            *part,
        ):
            planned = machines[row["vm_id"]]
            ends = planned.wanted == "DONE" or row["disk_id"] in planned.detached
            if row["writable"]:
                yield _planned_image(ENDED if ends else OWN, row, row["sha256"])
            elif not ends:
                yield _planned_image(BASE, row, row["sha256"])
    for task in (task for planned in plan.vms for task in planned.tasks if task.kind == SAVE_AS):
        for row in parts.store.rows("SELECT uuid, generation, name, source FROM images WHERE id = ?", task.image_id):
            yield _planned_image(SAVED, row)


def _planned_image(kind: str, row: sqlite3.Row, sha256: str = "") -> PlannedImage:
    return PlannedImage(kind, name_of(row["uuid"], row["generation"]), row["name"], row["source"], sha256)


def _waits_for(host: Host, foreign: int, vms: Sequence[PlannedVm]) -> HeldResources:
    """Return what the host does not have before its machines give back what they are to hold no more. It may have
    promised more than that for other reasons: nobody waits for that."""
    gives = HeldResources(sum(each.gives_memory for each in vms), sum(each.gives_cpu for each in vms))
    smaller = HeldResources(
        sum(each.gives_memory for each in vms if each.wanted != "DONE"),
        sum(each.gives_cpu for each in vms if each.wanted != "DONE"),
    )
    has = host.memory * host.memory_overcommit - host.reserved_memory - foreign
    memory = math.ceil(host.memory_used + host.overhead_used + smaller.memory - has)
    cpu = round(host.cpu_used + smaller.cpu - host.cpu * host.cpu_overcommit, 6)
    return HeldResources(min(max(0, memory), gives.memory), min(max(0.0, cpu), gives.cpu))
