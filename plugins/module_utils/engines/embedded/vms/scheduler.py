# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Chooses the host that takes a machine: the one with most memory left, of those that may and can. Nothing is promised
twice, but what machines hold that are being ended: their host ends them before it starts what takes their place."""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from ....dataclass import dataclass
from ....errors import InUse, NebulaError, NoCapacity, NotFound, WrongState
from ....model import hypervisor_rules, network_checks, shared_datastores
from ....model.host import Host
from ....model.instantiate.growth import most_of
from ....model.machine_orders import NOTHING, HeldResources
from ....model.network import Network
from ....model.object_names import did_you_mean, nearest_word
from ....model.states import HostState
from ....model.vm import Growth

REMEDY = (
    "Ask for less, have the host give more, or end machines that have it; what these had is free once they are gone"
)
CPU_ROUNDING = 1e-6


@dataclass
class Room:
    """Describes a host, and the memory (MiB) and CPU left on it, with what machines hold that are being ended.
    number: its place among all hosts: of those with the same room the first one takes a machine"""

    number: int
    host: Host
    memory: float
    cpu: float
    foreign: int
    held: HeldResources

    def has(self, memory: int, cpu: float) -> bool:
        return self.memory >= memory and self.cpu + CPU_ROUNDING >= cpu


@dataclass(frozen=True)
class _Needs:
    """Holds what a machine is to have.
    memory: MiB.
    growths: by hypervisor, how far it may grow there."""

    memory: int
    vcpu: int | None
    growths: Mapping[str, Growth | None]

    def on(self, room: Room) -> tuple[int, int | None]:
        """Return the MiB and processors that it comes to at most on that host."""
        return most_of(self.memory, self.vcpu, self.growths.get(room.host.hypervisor))

    def cost(self, room: Room) -> int:
        """Return the MiB that it takes of that host."""
        memory, vcpu = self.on(room)
        return memory + room.host.overhead.of(memory, vcpu)


class Homes:
    """Knows on which hosts networks have their machines that keep to one node (ONE_NODE), by the networks' ids."""

    def __init__(self) -> None:
        self.known: dict[int | None, set[str]] = {}

    def of(self, networks: Iterable[Network], look: Callable[[Network], Iterable[str]]) -> dict[str, set[str]]:
        """Return the hosts of those of these networks that have any, by the networks' names. look: returns the hosts
        of a network; it is called once for each."""
        found = {}
        for network in networks:
            if network_checks.one_node(network):
                if network.id not in self.known:
                    self.known[network.id] = set(look(network))
                if self.known[network.id]:
                    found[network.name] = self.known[network.id]
        return found

    def take(self, networks: Iterable[Network], host: str) -> None:
        for network in networks:
            if network.id in self.known:
                self.known[network.id].add(host)


class _MostLeft:
    """Finds the room with most memory left that suffices for a machine, without a look at each. Rooms only become
    smaller while this is in use.
    left: returns the memory and the CPU of a room that count."""

    def __init__(self, rooms: Sequence[Room], left: Callable[[Room], tuple[float, float]]) -> None:
        self._left = left
        self._rooms = [(-left(room)[0], room.number, room) for room in rooms]
        heapq.heapify(self._rooms)
        # Rooms whose CPU did not suffice for an earlier machine, those with most CPU first.
        self._short: list[tuple[float, int, Room]] = []

    def first(self, memory: int, cost: Callable[[Room], int], cpu: float) -> Room | None:
        """Return the first room with so much CPU, and memory for the cost. memory: what the cost is at least."""
        while self._short and CPU_ROUNDING - self._short[0][0] >= cpu:
            noted, number, room = self._short[0]
            left, processors = self._left(room)
            if -processors != noted:
                heapq.heapreplace(self._short, (-processors, number, room))
            else:
                heapq.heappop(self._short)
                heapq.heappush(self._rooms, (-left, number, room))
        aside, found = [], None
        while self._rooms and found is None:
            noted, number, room = self._rooms[0]
            left, processors = self._left(room)
            if -left != noted:
                heapq.heapreplace(self._rooms, (-left, number, room))
            elif left < memory:
                break
            elif processors + CPU_ROUNDING < cpu:
                heapq.heappush(self._short, (-processors, number, heapq.heappop(self._rooms)[2]))
            elif left < cost(room):
                aside.append(heapq.heappop(self._rooms))
            else:
                found = room
        for entry in aside:
            heapq.heappush(self._rooms, entry)
        return found


class _Candidates:
    """Holds the rooms of all hosts that may take machines of one kind."""

    def __init__(self, rooms: Sequence[Room]) -> None:
        self.rooms = rooms
        # A host that has room already is better: there the machine need not wait for others to end.
        self._now = _MostLeft(rooms, lambda room: (room.memory - room.held.memory, room.cpu - room.held.cpu))
        self._once_others_ended = _MostLeft(rooms, lambda room: (room.memory, room.cpu))

    def best(self, memory: int, cost: Callable[[Room], int], cpu: float) -> Room | None:
        return self._now.first(memory, cost, cpu) or self._once_others_ended.first(memory, cost, cpu)


class Scheduler:
    """Chooses a host for each new machine. foreign: MiB that running domains of others hold, by host name. ending:
    what machines hold that are being ended, by host name. only: host names to choose from; None for all. unreached:
    hosts that did not answer in this run. datastores: what is wrong with the system datastores of hosts, by name."""

    def __init__(
        self,
        hosts: Iterable[Host],
        foreign: Mapping[str, int],
        only: Collection[str] | None = None,
        unreached: Collection[str] = (),
        ending: Mapping[str, HeldResources] | None = None,
        datastores: Mapping[str, str] | None = None,
    ) -> None:
        self.only = None if only is None else frozenset(only)
        self.unreached = unreached
        self.datastores = datastores or {}
        self.rooms = [
            _room(number, host, foreign.get(host.name, 0), (ending or {}).get(host.name, NOTHING))
            for number, host in enumerate(hosts)
        ]
        self.by_name = {room.host.name: room for room in self.rooms}
        self._by_id = {room.host.id: room for room in self.rooms}
        self.hypervisors = frozenset(room.host.hypervisor for room in self.rooms)
        # By hypervisor, those refused, and which mapping says what lacks bridges.
        self._known: dict[tuple[str, frozenset[str], int], tuple[_Candidates, Mapping[str, Sequence[str]]]] = {}

    def place(
        self,
        vm: str,
        cpu: float,
        memory: int,
        vcpu: int | None = None,
        hypervisor: str = "",
        pinned: str = "",
        refusals: Mapping[str, NebulaError] | None = None,
        homes: Mapping[str, Collection[str]] | None = None,
        unbridged: Mapping[str, Sequence[str]] | None = None,
        growths: Mapping[str, Growth | None] | None = None,
        lacking: Callable[[Host], str] | None = None,
    ) -> Host:
        """Promise room for one machine. Raise NoCapacity, which says what each host lacks.
        refusals: by hypervisor, why it can't have this machine.
        homes: on which hosts its networks are that keep to one node, by name.
        unbridged: by host, the names of its networks whose bridge is not there.
        growths: by hypervisor, how far the machine may grow there: it needs room for all of that.
        lacking: returns what a host lacks for it beside that, "" for nothing; None if it needs nothing of the kind."""
        homes = homes or {}
        needs = _Needs(memory, vcpu, growths or {})
        candidates = self._candidates_for(vm, hypervisor, pinned, refusals or {}, homes, unbridged or {}, lacking)
        best = candidates.best(memory, needs.cost, cpu)
        if best is None:
            rooms = candidates.rooms
            raise NoCapacity(
                f"VM {vm}: {_cost_text(rooms, needs)} of memory and {cpu:g} CPU",
                "; ".join([*(_what_it_lacks(room, cpu, needs) for room in rooms[:5]), *map(_home, homes.items())]),
                "Ask for less, end other machines, add a host, or set the host's memory_overcommit or cpu_overcommit",
            )
        best.memory -= needs.cost(best)
        best.cpu -= cpu
        return best.host

    def count(self, host_id: int, memory: int, cpu: float) -> None:
        """Count what else a host was promised; negative for what it got back."""
        room = self._by_id.get(host_id)
        if room is not None:
            room.memory -= memory
            room.cpu -= cpu
            if memory < 0 or cpu < 0:
                self._known.clear()

    def _candidates_for(
        self,
        vm: str,
        hypervisor: str,
        pinned: str,
        refusals: Mapping[str, NebulaError],
        homes: Mapping[str, Collection[str]],
        unbridged: Mapping[str, Sequence[str]],
        lacking: Callable[[Host], str] | None,
    ) -> _Candidates:
        if pinned and pinned not in self.by_name:
            raise NotFound(
                f"VM {vm}: host {pinned!r}",
                "there is no such host; there are " + (", ".join(sorted(self.by_name)) or "none"),
                "Give the name of a host of group nebula_nodes",
            )
        asked = (vm, hypervisor, pinned, refusals, homes, unbridged, lacking)
        if pinned:
            return _Candidates(self._candidates([self.by_name[pinned]], *asked))
        if homes:
            names = set.intersection(*map(set, homes.values()))
            with contextlib.suppress(WrongState):
                return _Candidates(
                    self._candidates([self.by_name[name] for name in names & self.by_name.keys()], *asked)
                )
            # None of these can: the error names the others, too.
            return _Candidates(self._candidates(self.rooms, *asked))
        if lacking is not None:
            return _Candidates(self._candidates(self.rooms, *asked))
        kind = (hypervisor, frozenset(refusals), id(unbridged) if unbridged else 0)
        if kind not in self._known:
            # What the key names by its id is kept as long as the key.
            self._known[kind] = (_Candidates(self._candidates(self.rooms, *asked)), unbridged)
        return self._known[kind][0]

    def _candidates(
        self,
        among: Iterable[Room],
        vm: str,
        hypervisor: str,
        pinned: str,
        refusals: Mapping[str, NebulaError],
        homes: Mapping[str, Collection[str]],
        unbridged: Mapping[str, Sequence[str]],
        lacking: Callable[[Host], str] | None,
    ) -> list[Room]:
        """Return those of these rooms whose hosts may take the machine. Raise WrongState if there are none."""
        reasons = []
        rooms = []
        bridges = places = mounts = False
        for room in among:
            host = room.host
            if self.only is not None and host.name not in self.only:
                reasons.append(f"{host.name} is not part of this run")
            elif hypervisor and not hypervisor_rules.makes_same_machines(hypervisor, host.hypervisor):
                reasons.append(f"{host.name} runs {host.hypervisor}")
            elif host.hypervisor in refusals:
                if pinned:
                    raise refusals[host.hypervisor]
                reasons.append(f"{host.name} runs {host.hypervisor}: {refusals[host.hypervisor]}")
            elif host.name in self.unreached:
                reasons.append(f"{host.name} did not answer")
            elif host.state != HostState.MONITORED:
                reasons.append(f"{host.name} is {host.state.name}")
            elif host.name in self.datastores:
                reasons.append(f"{host.name} {self.datastores[host.name]}")
                mounts = True
            elif any(host.name not in hosts for hosts in homes.values()):
                reasons.append(f"{host.name} is not where they all are")
            elif unbridged.get(host.name):
                reasons.append(f"{host.name} has no bridge of network {', '.join(unbridged[host.name])}")
                bridges = True
            elif lacking is not None and (lacks := lacking(host)):
                reasons.append(f"{host.name}: {lacks}")
                places = True
            else:
                rooms.append(room)
        if not rooms and places:
            # What machines have of hosts to themselves may become free within this list.
            raise InUse(f"VM {vm}: a host", "; ".join(reasons), REMEDY)
        if not rooms:
            what = f"host {pinned}" if pinned else f"a host that runs {hypervisor}" if hypervisor else "a host"
            raise WrongState(
                f"VM {vm}: {what}",
                "; ".join([*map(_home, homes.items()), *reasons]) or "the catalog has no hosts",
                _remedy_for_unknown(hypervisor)
                or "Run role nebula.provision.node on a host of that kind, enable it, or widen --limit"
                + ("; or end that network's machines where they are, or set one_node: false" if homes else "")
                + (
                    "; or have role nebula.provision.network make the bridge, which says what keeps it from that"
                    if bridges
                    else ""
                )
                + (f"; or {shared_datastores.REMEDY}" if mounts else ""),
            )
        return rooms


def _remedy_for_unknown(hypervisor: str) -> str:
    """Return what to do where there could be no host of that hypervisor; "" where there could be one."""
    if not hypervisor or hypervisor in hypervisor_rules.RULES:
        return ""
    near = nearest_word(hypervisor, sorted(hypervisor_rules.RULES))
    return did_you_mean(near, "HYPERVISOR = {}") + "Known are " + ", ".join(sorted(hypervisor_rules.RULES))


def _home(home: tuple[str, Collection[str]]) -> str:
    return f"network {home[0]} keeps to one node (one_node), and its machines are on {', '.join(sorted(home[1]))}"


def _room(number: int, host: Host, foreign: int, held: HeldResources) -> Room:
    memory = host.memory * host.memory_overcommit - host.reserved_memory - foreign
    return Room(
        number,
        host,
        memory - host.memory_used - host.overhead_used + held.memory,
        host.cpu * host.cpu_overcommit - host.cpu_used + held.cpu,
        foreign,
        held,
    )


def _cost_text(rooms: Sequence[Room], needs: _Needs) -> str:
    memory = max((needs.on(room)[0] for room in rooms[:5]), default=needs.memory)
    overheads = sorted({needs.cost(room) - needs.on(room)[0] for room in rooms[:5]} - {0})
    text = " or ".join(str(overhead) for overhead in overheads)
    most = f" (MEMORY is {needs.memory}, and it may grow so far)" if memory > needs.memory else ""
    return (f"{memory} MiB + {text} MiB overhead" if text else f"{memory} MiB") + most


def _what_it_lacks(room: Room, cpu: float, needs: _Needs) -> str:
    host = room.host
    if room.memory < needs.cost(room):
        reserved = f", less {host.reserved_memory} that are reserved" if host.reserved_memory else ""
        others = f", less {room.foreign} of machines that are not this catalog's" if room.foreign else ""
        left = f"{max(0, int(room.memory))} MiB left of {host.memory}{reserved}{others}"
    else:
        left = f"{max(0.0, round(room.cpu, 6)):g} CPU left of {host.cpu:g}"
    once = ", once the machines that are being ended are gone" if room.held != NOTHING else ""
    return f"{host.name} has {left}{once}"
