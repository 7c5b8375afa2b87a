# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides that a machine moves to another host, and what the plans of both hosts say of it. move_records.py has what
becomes of it then."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from ....dataclass import dataclass, replace
from ....errors import InvalidValue, NebulaError, NotFound, Unsupported, WrongState
from ....model import hypervisor_rules, network_checks, shared_datastores
from ....model.disk import SHARED_DIRECTORY
from ....model.host import Host
from ....model.installation_marks import MARK
from ....model.instantiate.host_placement import HostPlace, taken_by, wants_elsewhere
from ....model.instantiate.host_wants import HostWants
from ....model.instantiate.numa_placement import NoPlaceError, topology_of_place
from ....model.machine_orders import DONE
from ....model.move import (
    ABSENT,
    ARRIVED,
    COLD,
    COMING,
    LIVE,
    OVER,
    SOURCE,
    STAYED,
    TARGET,
    WAYS,
    Leftover,
    MeetingPlace,
    Move,
    MoveSeen,
    PlannedMove,
)
from ....model.network import Network
from ....model.network_drivers import INTEGRATION_BRIDGE, OVN
from ....model.object_ids import id_of
from ....model.plan import Plan, PlannedVm
from ....model.shared_datastores import datastore_of, is_common
from ....model.states import HostState, LcmState, VmState, vm_state_name
from ....model.transfer import SHARED
from ....model.vm import Topology, Vm
from ...ports import VmOrders, VmRecord
from ..references import missing
from . import leaving_devices, vm_records
from .decision import decide, refuse_moving
from .decision_parts import DecisionParts
from .given_up import FORGOTTEN
from .host_places import running
from .move_records import ACTIONS, as_at_target, has_come, is_awaited, is_concluded, move_of, write
from .scheduler import Scheduler
from .template_references import References
from .vm_rows import orders_of, request_of, vm_of

_OFF = "POWEROFF"
# What a machine does meanwhile, by the way in which it moves and the state in which it was found.
_ON_THE_WAY = {
    (LIVE, "RUNNING"): LcmState.MIGRATE,
    (COLD, "RUNNING"): LcmState.PROLOG_MIGRATE,
    (COLD, _OFF): LcmState.PROLOG_MIGRATE_POWEROFF,
}


@dataclass(frozen=True)
class _Asked:
    """Holds a machine that is to move, and for whom.
    on_ovn: names of its networks that are OVN's.
    wants: what it is to have of its new host to itself."""

    row: sqlite3.Row
    vm: Vm
    source: Host
    target: str
    way: str
    hosts: Sequence[str] | None
    peers: Collection[str] | None
    on_ovn: str = ""
    wants: HostWants | None = None

    @property
    def text(self) -> str:
        where = f"host {self.target}" if self.target else "another host"
        return f"VM {self.row['name']} (id {self.row['id']}): move to {where}"


def move(
    parts: DecisionParts,
    vm_id: int,
    target: str = "",
    way: str = "",
    away: str = "",
    hosts: Sequence[str] | None = None,
    peers: Collection[str] | None = None,
    orders: VmOrders | None = None,
) -> VmRecord:
    """Decide that a machine moves; see VmsPort."""
    row = parts.rows.get(vm_id)
    refuse_moving(parts, row)
    source = parts.hosts.by_id().get(row["host_id"])
    state = vm_state_name(row["state"], row["lcm_state"])
    if source is None:
        raise WrongState(f"VM {row['name']} (id {vm_id}): move to another host", f"it is {state}, and on no host")
    way = way or (LIVE if state == "RUNNING" else COLD)
    asked = _Asked(row, vm_of(row), source, target, way, hosts, peers, wants=wants_elsewhere(vm_of(row)))
    _refuse_state(parts, asked, state)
    networks = _networks(parts, asked.vm)
    on_ovn = (each.name for each in networks if each.vn_mad == OVN and each.bridge == INTEGRATION_BRIDGE)
    asked = replace(asked, on_ovn=", ".join(on_ovn))
    _refuse_content(parts, asked, networks)
    host = _host_for(parts, asked, networks)
    vcpu = asked.vm.most_vcpus
    overhead = host.overhead.of(row["memory"], vcpu)
    held = row["memory"] + row["kept_memory"]
    demands = References(parts.images, parts.networks).demands(row["name"], request_of(row))
    demands = demands if asked.vm.graphics is not None else replace(demands, graphics=False)
    port = parts.ports.choose([(vm_id, row["name"], demands, host)]).get(vm_id, 0)
    parts.hosts.promise(id_of(host), held, overhead, row["cpu"], 1)
    leaving_devices.forget(parts, row)
    # It stays in its state, also where its guest has switched it off.
    orders = replace(orders or VmOrders(), operation="")
    decide(parts, row, _ON_THE_WAY[way, state], state, orders, ACTIONS[way])
    home = row["away"] or away if away else ""
    decided = Move(
        secrets.token_hex(16), source.name, host.name, way, row["generation"] + 1, False, port, overhead, home
    )
    if asked.wants is not None:
        decided = _with_place(decided, asked, parts.host_places.take(host, asked.wants, vm_id, asked.text))
    write(parts, vm_id, decided)
    parts.store.db.execute("UPDATE vms SET move_host = ? WHERE id = ?", (host.id, vm_id))
    return vm_records.one(parts, vm_id)


def _with_place(move: Move, asked: _Asked, place: HostPlace) -> Move:
    """Return the move with what the machine is to have of its new host, and what it has of its old one."""
    if place.numa is None:
        return move
    return replace(
        move,
        numa=place.numa.numa,
        topology=_topology_in(place, asked.vm),
        source_numa=asked.vm.numa,
        source_topology=asked.vm.topology,
    )


def _topology_in(place: HostPlace, vm: Vm) -> Topology | None:
    """Return what a machine would see of its processors in this place."""
    return topology_of_place(place.numa) or vm.topology


def stay(parts: DecisionParts, vm_id: int) -> VmRecord:
    """Note that a machine is to return to no host; see VmsPort."""
    parts.store.db.execute("UPDATE vms SET away = '' WHERE id = ?", (vm_id,))
    return vm_records.one(parts, vm_id)


# -- what keeps a machine from moving ----------------------------------------------------------------------------------
def _refuse_state(parts: DecisionParts, asked: _Asked, state: str) -> None:
    """Raise an error for a machine of which something else is to be done or found out first."""
    row, way = asked.row, asked.way
    if way not in WAYS:
        raise InvalidValue(f"{asked.text} ({way})", "there is no such way to move", f"Use {LIVE} or {COLD}")
    if row["wanted"] == "DONE":
        raise WrongState(asked.text, "it is being ended")
    if not row["settled"]:
        found = f"what was decided about it is not done yet ({row['error'] or state})"
        raise WrongState(asked.text, found, "Run again once it is done")
    if orders_of(row).recreates:
        raise WrongState(asked.text, "it is to be made anew", "Run again once it is made (state: recovered)")
    if state == "SUSPENDED":
        raise WrongState(
            asked.text,
            "it is SUSPENDED: its memory is in a file of its host",
            "Let it run (state: running) or power it off (state: poweroff) first",
        )
    if state not in ("RUNNING", _OFF):
        remedy = "Bring it into order first (state: running, poweroff or recovered)"
        raise WrongState(asked.text, f"it is {state}" + (f" ({row['error']})" if row["error"] else ""), remedy)
    if way == LIVE and state != "RUNNING":
        raise WrongState(
            f"{asked.text} ({LIVE})", f"it is {state}", f"Set move: all, and it moves as it is, or move: {COLD}"
        )
    moves = hypervisor_rules.rules_of(asked.source.hypervisor).moves
    if way not in moves:
        can = f"only {' and '.join(moves)}" if moves else "to no other host"
        found = f"machines of {asked.source.hypervisor} move {can} by this collection"
        anew = "Recreate it there, or move it by its hypervisor's own means"
        remedy = f"Set move: {COLD} for it, and it is powered off for its move" if COLD in moves else anew
        raise Unsupported(f"{asked.text} ({way})", found, remedy)
    image = asked.vm.attributes.get(MARK, "")
    if image and parts.store.row("SELECT 1 FROM images WHERE name = ? AND unfinished != ''", image) is not None:
        raise WrongState(
            asked.text, f"it installs image {image}", "Run nebula.provision.install_os again; it goes on from there"
        )
    _refuse_absence(parts, asked, asked.source)
    if asked.source.name in parts.polls.datastores:
        found = f"its host {asked.source.name} {parts.polls.datastores[asked.source.name]}"
        remedy = shared_datastores.remedy_for(parts.datastores.shared(), asked.source.name)
        raise WrongState(asked.text, found, remedy)


def _refuse_absence(parts: DecisionParts, asked: _Asked, host: Host) -> None:
    """Raise WrongState for a host that can't take its part now."""
    why = _absence(parts, asked, host)
    if why:
        raise WrongState(asked.text, f"host {host.name} {why}", "Both hosts of a move take part in the same run")


def _absence(parts: DecisionParts, asked: _Asked, host: Host) -> str:
    if asked.hosts is not None and host.name not in asked.hosts:
        return "is not part of this run"
    if host.name in parts.polls.unreached or (parts.polls.believed and host.name not in parts.polls.believed):
        return "did not answer in this run"
    return ""


def _refuse_content(parts: DecisionParts, asked: _Asked, networks: Iterable[Network]) -> None:
    """Raise Unsupported for a machine that has something which does not come along."""
    vm, row = asked.vm, asked.row
    runs = running(row)
    if vm.host_devices or runs.devices:
        raise Unsupported(
            asked.text,
            "it has devices of its host (PCI), which no other host has",
            "Take PCI out of its template and start it anew first",
        )
    if taken_by(vm) != runs:
        raise WrongState(
            asked.text,
            "it runs with other processors or memory of its host (TOPOLOGY, NUMA_NODE, MEMORY_ENCRYPTION) than it is "
            "to have",
            "Start it anew first (restart: rolling)",
        )
    if vm.encryption is not None and asked.way == LIVE:
        raise Unsupported(
            f"{asked.text} ({LIVE})",
            f"its memory is encrypted ({vm.encryption.type}), with a key that its host's processor keeps",
            f"Set move: {COLD} for it, and it is powered off for its move",
        )
    # A host that has the same files is known by its name, and is looked for below.
    alone = datastore_of(parts.datastores.shared(), asked.source.name) is None
    for disk in vm.disks:
        if disk.type == SHARED_DIRECTORY:
            raise Unsupported(
                asked.text, f"its disk {disk.disk_id} is directory {disk.source} of its host (TYPE = FILESYSTEM)"
            )
        if disk.snapshots and asked.way == LIVE and alone:
            raise Unsupported(
                f"{asked.text} ({LIVE})",
                f"its disk {disk.disk_id} has snapshots, which do not come along while it runs",
                f"Set move: {COLD} for it: they come along while it is off; or delete them first",
            )
    if asked.way == LIVE and orders_of(row).lasting != DONE:
        raise WrongState(
            f"{asked.text} ({LIVE})",
            "it runs with other disks or NICs than it is to have",
            f"Start it anew first (restart: rolling), or set move: {COLD}",
        )
    for network in networks:
        if network_checks.one_node(network):
            raise Unsupported(
                asked.text,
                f"its network {network.name} keeps to one node (one_node), where its other machines are",
                "Connect the network between the nodes (phydev; vn_mad: vxlan or ovn) and set one_node: false on it, "
                "or make a new machine on the other node",
            )


def _networks(parts: DecisionParts, vm: Vm) -> list[Network]:
    ids = dict.fromkeys(each.network_id for each in vm.nics_and_aliases if each.network_id is not None)
    return [parts.networks.uncounted(network_id) for network_id in ids]


# -- where it goes -----------------------------------------------------------------------------------------------------
def _host_for(parts: DecisionParts, asked: _Asked, networks: Sequence[Network]) -> Host:
    """Return the host that is asked for, or the one with most room of those that can have the machine."""
    known = {host.name: host for host in parts.hosts.pool()}
    unbridged = parts.polls.without_bridge(networks)
    if asked.target == asked.source.name:
        raise InvalidValue(asked.text, "it is there already", "Name another host, or none for the scheduler's choice")
    if asked.target and asked.target not in known:
        absent: NotFound = missing(parts.store, "hosts", asked.target)
        raise NotFound(asked.text, f"the catalog has no host {asked.target!r}", absent.remedy)
    others = [known[asked.target]] if asked.target else [host for host in known.values() if host != asked.source]
    reasons = {host.name: _reason_against(parts, asked, host, unbridged) for host in others}
    able = [host for host in others if reasons[host.name] is None]
    if not able:
        refused = [(name, error) for name, error in reasons.items() if error is not None]
        if asked.target:
            raise refused[0][1]
        found = "; ".join(f"{name} {error.found}" for name, error in refused) or "there is no other host"
        raise WrongState(asked.text, found, "Enable a host that can have it, or add one of that kind")
    row = asked.row
    scheduler = Scheduler(able, parts.polls.others_memory())
    return scheduler.place(row["name"], row["cpu"], row["memory"] + row["kept_memory"], asked.vm.most_vcpus)


def _reason_against(
    parts: DecisionParts, asked: _Asked, host: Host, unbridged: Mapping[str, Sequence[str]]
) -> NebulaError | None:
    """Return why the host can't have the machine, None if it can but for room."""
    source, vm_id = asked.source, asked.row["id"]

    def no(found: str, remedy: str = "") -> WrongState:
        # By the scheduler's choice, the errors of several hosts are told together, each behind the host's name.
        return WrongState(asked.text, f"host {host.name} {found}" if asked.target else found, remedy)

    if host.hypervisor != source.hypervisor:
        return no(f"runs {host.hypervisor}, and it is a machine of {source.hypervisor}", "Name a host of that kind")
    if host.state != HostState.MONITORED:
        return no(f"is {host.state.name}", f"Enable it first: nebula_host with state: enabled for {host.name}")
    absence = _absence(parts, asked, host)
    if absence:
        return no(absence, "Both hosts of a move take part in the same run")
    if asked.peers is not None and host.name not in asked.peers:
        return no("has no address at which others meet it", "Set nebula_move_address for it")
    if unbridged.get(host.name):
        networks = ", ".join(unbridged[host.name])
        return no(f"has no bridge of network {networks}", "Run role nebula.provision.network, which makes it there")
    if asked.on_ovn and host.name in parts.polls.without_ovn:
        return no(
            f"is no host of OVN, in which network {asked.on_ovn} is: it has no bridge {INTEGRATION_BRIDGE}",
            "Run role nebula.provision.ovn for it (nebula_ovn: true)",
        )
    if host.name in parts.polls.datastores:
        remedy = shared_datastores.remedy_for(parts.datastores.shared(), host.name)
        return no(parts.polls.datastores[host.name], remedy)
    common = is_common(parts.datastores.shared(), source.name, host.name)
    if asked.way == LIVE and not common and any(disk.snapshots for disk in asked.vm.disks):
        return no(
            f"has no shared datastore with {source.name}, and snapshots of disks do not come along while it runs",
            f"Name a host that has, or set move: {COLD} for it",
        )
    try:
        place = parts.host_places.find(host, asked.wants) if asked.wants is not None else HostPlace()
    except NoPlaceError as error:
        return no(f"has not what it is to have of its host (TOPOLOGY, NUMA_NODE, MEMORY_ENCRYPTION): {error}")
    if asked.way == LIVE and _topology_in(place, asked.vm) != asked.vm.topology:
        return no(
            "has cores of another number of threads, and what it sees of its processors can't change while it runs",
            f"Give THREADS in TOPOLOGY of its template and start it anew, or set move: {COLD} for it",
        )
    if any(disk.save for disk in asked.vm.disks) and {source.transfer, host.transfer} != {SHARED}:
        image = next(disk.image for disk in asked.vm.disks if disk.save)
        return no(
            f"does not see the file of persistent image {image} to which it writes (transfer {host.transfer}; "
            f"{source.name}: {source.transfer})",
            "Machines with persistent images move between hosts that see the front-end's datastores",
        )
    if {source.transfer, host.transfer} != {SHARED} and _rests_on_former(parts, asked):
        return no("can't get what its disks rest on: the image has another content by now")
    node = parts.polls.believed.get(host.name)
    if node is None:
        return None
    if vm_id in node.foreign_ids:
        return no(f"has a machine of somebody else's that is called like machine {vm_id}")
    if any(each.vm_id == vm_id and each.stage not in OVER for each in node.moves):
        return no("still has what a former move left of it", "Run again: this run has that cleared away")
    if any(each.vm_id == vm_id for each in node.vms):
        return no(f"has a machine {vm_id} of this catalog, and nobody knows why", "See playbook nebula.provision.audit")
    return None


def _rests_on_former(parts: DecisionParts, asked: _Asked) -> bool:
    """Return whether a disk rests on a content that its image has no more."""
    rows = parts.store.rows(
        "SELECT disk_id, generation FROM vm_images JOIN images ON images.id = image_id WHERE vm_id = ?",
        asked.row["id"],
    )
    now = {row["disk_id"]: row["generation"] for row in rows}
    return any(disk.generation != now.get(disk.disk_id, disk.generation) for disk in asked.vm.disks if disk.image_uuid)


# -- what plans say of it ----------------------------------------------------------------------------------------------
def planned(
    parts: DecisionParts,
    row: sqlite3.Row,
    machine: PlannedVm,
    hosts: Sequence[str] | None,
    places: Mapping[str, MeetingPlace],
    seconds: int,
) -> Iterator[tuple[str, PlannedVm]]:
    """Yield by host what the plans say of a machine whose move is open, and note that they did. machine: as the plan of
    its source would have it otherwise."""
    move = move_of(row)
    here = [host for host in (move.source, move.target) if hosts is None or host in hosts]
    silent = parts.polls.unreached.intersection(here)
    place = places.get(move.target)
    asks = move.asked or len(here) < 2 or bool(silent) or place is None
    if here and not move.asked:
        # Whoever makes the next plans does not know how far this one has come.
        write(parts, row["id"], replace(move, asked=True))
    shared = is_common(parts.datastores.shared(), move.source, move.target)
    for host in here:
        role = SOURCE if host == move.source else TARGET
        peer = move.target if role == SOURCE else move.source
        part = PlannedMove(move.token, role, move.way, peer, asks, limit=seconds, shared=shared)
        if place is not None:
            part = replace(part, address=place.address if role == SOURCE else "", port=place.port)
        vm = machine.vm
        if role == TARGET:
            vm = as_at_target(vm, move)
        yield host, replace(machine, vm=vm, move=part)


def asked_of_owner(parts: DecisionParts, row: sqlite3.Row) -> PlannedMove | None:
    """Return what the host of a machine is to say of its move, after which it is known to have it, before it brings it
    into its state; None if that can be done at once. The host is only told to start what was seen there: it would make
    the machine anew otherwise."""
    if not is_awaited(row):
        return None
    move = move_of(row)
    role = SOURCE if row["host"] == move.source else TARGET
    node = parts.polls.believed.get(row["host"])
    if node is not None:
        noted = next((each for each in node.moves if (each.vm_id, each.token) == (row["id"], move.token)), None)
        stage = noted.stage if noted is not None else ""
        state = next((each.state for each in node.vms if each.vm_id == row["id"]), "")
        # At the new host it need only start; what its old host has noted, that has to bring to an end itself.
        if role == TARGET and (stage in (COMING, ARRIVED) or (state and stage != ABSENT)):
            return None
        # No move live powers a machine off: its guest did, and it stays so. Or its host went down with it.
        went_down = noted is not None and noted.went_down
        switched_off = move.way == LIVE and state == _OFF and not went_down
        if role == SOURCE and state and stage in ("", STAYED) and not switched_off:
            return None
    return PlannedMove(move.token, role, move.way, move.target if role == SOURCE else move.source, True)


def tokens(rows: Iterable[sqlite3.Row]) -> dict[str, tuple[str, ...]]:
    """Return by host the tokens of the moves in which it takes part, and of which it is to know still. rows: of all
    machines that are not settled."""
    found: dict[str, tuple[str, ...]] = {}
    for row in rows:
        if row["move_host"] is not None or is_awaited(row):
            move = move_of(row)
            for host in (move.source, move.target):
                found[host] = (*found.get(host, ()), move.token)
    return found


def leftovers(parts: DecisionParts, hosts: Sequence[str] | None) -> dict[str, tuple[Leftover, ...]]:
    """Return by host what it is to clear away: of machines that are another host's by now, or have ended."""
    found: dict[str, tuple[Leftover, ...]] = {}
    telling = [node for node in parts.polls.believed.values() if node.moves and (hosts is None or node.host in hosts)]
    ids = {host.name: host.id for host in parts.hosts.pool()} if telling else {}
    for name, seen in ((node.host, each) for node in telling if node.host in ids for each in node.moves):
        row = parts.store.row("SELECT * FROM vms WHERE id = ?", seen.vm_id)
        if row is None or seen.stage in OVER or seen.vm_id in parts.polls.doubled:
            continue
        ended = row["state"] == VmState.DONE
        if _is_of_ended(parts, row, seen, name) if ended else _is_left(row, seen, ids[name]):
            found[name] = (*found.get(name, ()), Leftover(seen.vm_id, row["uuid"], seen.token))
    return found


def _is_left(row: sqlite3.Row, seen: MoveSeen, host_id: int | None) -> bool:
    """Return whether a host is to clear away what it has noted of a machine that has not ended. Where it has noted that
    the machine may be on its way, it first finds out itself whether it has left."""
    if row["move_host"] is not None and move_of(row).token == seen.token:
        return False
    # What has left is all that there is of a machine until it was found where it went.
    return bool(row["host_id"] != host_id and (seen.stage == COMING or has_come(row)))


def _is_of_ended(parts: DecisionParts, row: sqlite3.Row, seen: MoveSeen, host: str) -> bool:
    """Return the same of a machine that has ended. One that ended since its host was given up may have nothing but what
    another host has of it, and nobody has said that this may go."""
    last = parts.store.row("SELECT host, reason FROM history WHERE vm_id = ? ORDER BY step DESC LIMIT 1", row["id"])
    if last is None or not last["reason"].endswith(FORGOTTEN):
        return True
    if last["host"] == host:
        return False
    move = move_of(row) if row["move"] else None
    of_newest = move is not None and move.token == seen.token
    return seen.stage == COMING or not of_newest or is_concluded(parts, row)


def with_keys(plans: Mapping[str, Plan]) -> dict[str, Plan]:
    """Return the plans, in which each host between which machines begin to move has a key and a certificate of its own,
    and the certificate of each of its peers. They are made for these plans alone."""
    # Few decisions come here, and nothing else of them runs programs.
    from ....host.run_certificates import key_pair

    begun = [each.move.peer for plan in plans.values() for each in plan.vms if each.move and not each.move.asks]
    pairs = {host: key_pair("nebula move") for host in dict.fromkeys(begun)}
    return {host: _with_keys(plan, pairs) if host in pairs else plan for host, plan in plans.items()}


def _with_keys(plan: Plan, pairs: Mapping[str, tuple[str, str]]) -> Plan:
    vms = tuple(
        replace(each, move=replace(each.move, certificate=pairs[each.move.peer][1]))
        if each.move is not None and not each.move.asks
        else each
        for each in plan.vms
    )
    key, certificate = pairs[plan.host]
    return replace(plan, vms=vms, key=key, certificate=certificate)
