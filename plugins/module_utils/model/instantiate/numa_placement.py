# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds for a machine the processors, memory and huge pages of a host that it is to have, by what OpenNebula calls
PIN_POLICY, NODE_AFFINITY and HUGEPAGE_SIZE; nothing is given twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from ...dataclass import dataclass, replace
from ..host import HostNode
from ..vm import Numa, NumaNode, Topology
from .numa_nodes import CORE, NONE, SHARED


class NoPlaceError(Exception):
    """Raised where a host does not have what a machine is to have; says what it lacks."""


@dataclass(frozen=True)
class NumaPlace:
    """Holds the same as asked, with the host's numbers; and the threads of each core."""

    numa: Numa
    threads: int


class _Free:
    """Counts what is left of one node of a host.
    cores: the processors of each core that nobody has, of those that may be had."""

    def __init__(self, node: HostNode, taken: Iterable[Numa], isolated: frozenset[int]) -> None:
        self.number = node.number
        self.distances = node.distances
        self.allowed = [cpu for core in node.cores for cpu in core if cpu not in isolated]
        self.memory, self.pages = node.memory, Counter({int(size): count for size, count in node.pages.items()})
        held: set[int] = set()
        for numa in taken:
            for part in numa.nodes:
                if part.memory_node == node.number:
                    self._take_memory(part.memory, numa.page_size)
                if numa.pins:
                    held.update(part.cpus)
        whole = {cpu for numa in taken if numa.policy == CORE for part in numa.nodes for cpu in part.cpus}
        self.cores = [
            [] if whole.intersection(core) else [cpu for cpu in core if cpu not in held and cpu not in isolated]
            for core in node.cores
        ]
        # Whole cores: of their processors all are free but those that nobody may have.
        self.intact = [not held.intersection(core) for core in node.cores]

    def _take_memory(self, memory: int, page: int) -> None:
        if page:
            self.pages[page] -= memory // page
        else:
            self.memory -= memory

    def has_memory(self, memory: int, page: int) -> bool:
        return self.pages[page] * page >= memory if page else self.memory >= memory

    def vcpus(self, policy: str, threads: int) -> int:
        """Return how many virtual processors could be here."""
        if policy == CORE:
            return sum(1 for core, intact in zip(self.cores, self.intact) if core and intact)
        return sum(len(core) // threads * threads for core in self.cores)

    def take(self, count: int, policy: str, threads: int) -> tuple[int, ...]:
        """Return the numbers of so many processors, and count them as taken."""
        found: list[int] = []
        for index, core in enumerate(self.cores):
            if policy == CORE:
                some = core[:1] if self.intact[index] else []
            else:
                some = core[: min(len(core) // threads * threads, count - len(found))]
            some = some[: count - len(found)]
            found += some
            if some:
                self.intact[index] = False
                self.cores[index] = [] if policy == CORE else [cpu for cpu in core if cpu not in some]
        return tuple(found)

    def near(self, others: Sequence[_Free]) -> list[_Free]:
        """Return all nodes, those that are nearer first."""

        def distance(other: _Free) -> tuple[bool, int, int]:
            known = dict(zip(sorted(each.number for each in others), self.distances))
            return other is not self, known.get(other.number, 0), other.number

        return sorted(others, key=distance)

    def take_memory(self, memory: int, page: int) -> None:
        self._take_memory(memory, page)


def place(numa: Numa, nodes: Sequence[HostNode], taken: Sequence[Numa], isolated: frozenset[int]) -> NumaPlace:
    """Return what the host has for the machine. Raise NoPlaceError if it does not have it.
    nodes: the host's.
    taken: what other machines have of it.
    isolated: processors that no machine gets to itself (ISOLCPUS of the host)."""
    if not nodes:
        raise NoPlaceError("it gives no machine processors or memory of one place")

    def free() -> list[_Free]:
        return [_Free(node, taken, isolated) for node in nodes]

    if numa.policy == NONE:
        return NumaPlace(_bound(numa, free()), 0)
    most = max(len(core) for node in nodes for core in node.cores or ((),))
    for threads in _threads(numa, most):
        parts = _pinned(numa, free(), threads)
        if parts is not None:
            return NumaPlace(replace(numa, nodes=parts), threads)
    raise NoPlaceError(_lacking(numa, free()))


def topology_of_place(place: NumaPlace | None) -> Topology | None:
    """Return what a machine with that place sees of its processors; None where its template alone says it."""
    if place is None or not place.numa.pins:
        return None
    sockets, vcpus = place.numa.sockets, sum(node.vcpus for node in place.numa.nodes)
    return Topology(sockets, vcpus // (sockets * place.threads), place.threads)


def with_numbers(numa: Numa, had: Sequence[NumaNode]) -> Numa | None:
    """Return what a machine asks for with the processors and memory that its definition has; None if that is not what
    it asks for. had: as domain_numa.numa_nodes_of() returns it."""
    if [(node.vcpus, node.memory) for node in had] != [(node.vcpus, node.memory) for node in numa.nodes]:
        return None
    pairs = zip(numa.nodes, had)
    return replace(
        numa, nodes=tuple(replace(node, cpus=each.cpus, memory_node=each.memory_node) for node, each in pairs)
    )


def _bound(numa: Numa, nodes: Sequence[_Free]) -> Numa:
    """Return the place of a machine that shares the processors of a node, with memory or pages of that node."""
    memory = sum(node.memory for node in numa.nodes)
    known = [node for node in nodes if numa.affinity in (-1, node.number)]
    if not known:
        raise NoPlaceError(f"it has no node {numa.affinity}: it has {', '.join(str(node.number) for node in nodes)}")
    fits = [node for node in known if node.has_memory(memory, numa.page_size) and node.allowed]
    if not fits:
        raise NoPlaceError(_lacking_memory(memory, numa.page_size, known))
    best = max(fits, key=lambda node: (node.pages[numa.page_size] if numa.page_size else node.memory, -node.number))
    (part,) = numa.nodes
    return replace(numa, nodes=(replace(part, cpus=tuple(sorted(best.allowed)), memory_node=best.number),))


def _threads(numa: Numa, most: int) -> list[int]:
    """Return the threads of a core that the machine could have, the best first: as many as the host's cores have."""
    if numa.policy == CORE:
        return [1]
    if numa.threads:
        fits = numa.threads <= most and all(node.vcpus % numa.threads == 0 for node in numa.nodes)
        return [numa.threads] if fits else []
    found = [1 << power for power in range(most.bit_length()) if 1 << power <= most]
    vcpus = sum(node.vcpus for node in numa.nodes)
    return [
        number
        for number in reversed(found)
        if all(node.vcpus % number == 0 for node in numa.nodes) and vcpus % (numa.sockets * number) == 0
    ]


def _pinned(numa: Numa, nodes: Sequence[_Free], threads: int) -> tuple[NumaNode, ...] | None:
    found = []
    for part in numa.nodes:
        fits = [node for node in nodes if node.vcpus(numa.policy, threads) >= part.vcpus]
        # Those with most left first, and memory as near as there is any.
        fits.sort(key=lambda node: (-node.vcpus(numa.policy, threads), node.number))
        chosen = next(
            (
                (node, memory)
                for hop in range(len(nodes))
                for node in fits
                for memory in node.near(nodes)[hop : hop + 1]
                if memory.has_memory(part.memory, numa.page_size)
            ),
            None,
        )
        if chosen is None:
            return None
        node, memory = chosen
        memory.take_memory(part.memory, numa.page_size)
        cpus = node.take(part.vcpus, numa.policy, threads)
        if numa.policy == SHARED:
            # As libvirt has them in a definition.
            cpus = tuple(sorted(cpus))
        found.append(replace(part, cpus=cpus, memory_node=memory.number))
    return tuple(found)


def _lacking(numa: Numa, nodes: Sequence[_Free]) -> str:
    memory = max(part.memory for part in numa.nodes)
    if not any(node.has_memory(memory, numa.page_size) for node in nodes):
        return _lacking_memory(memory, numa.page_size, nodes)
    what = "whole cores" if numa.policy == CORE else "processors"
    threads = numa.threads or 1
    left = ", ".join(f"{node.vcpus(numa.policy, threads)} on node {node.number}" for node in nodes)
    groups = f" in groups of {threads}" if numa.policy != CORE and threads > 1 else ""
    return f"of {what}{groups} that no other machine has, it has {left}"


def _lacking_memory(memory: int, page: int, nodes: Sequence[_Free]) -> str:
    if page:
        left = ", ".join(f"{node.pages[page]} on node {node.number}" for node in nodes)
        return f"of huge pages of {page} MB, of which {memory // page} are asked for, it has left: {left}"
    left = ", ".join(f"{max(0, node.memory)} MB on node {node.number}" for node in nodes)
    return f"of memory of one node, of which {memory} MB are asked for, it has left: {left}"
