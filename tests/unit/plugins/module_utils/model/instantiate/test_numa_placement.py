# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which processors, memory and huge pages of a host a machine gets: as a real oned gives them, and none twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.model.host import HostNode
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.numa_placement import (
    NoPlaceError,
    NumaPlace,
    place,
    topology_of_place,
    with_numbers,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Numa, NumaNode, Topology

# Two nodes with four cores of two threads each.
HOST = (
    HostNode(0, 4096, ((0, 8), (1, 9), (2, 10), (3, 11)), {"2": 512}, (10, 21)),
    HostNode(1, 4096, ((4, 12), (5, 13), (6, 14), (7, 15)), {"2": 256}, (21, 10)),
)


def asked(policy: str, *vcpus: int, memory: int = 512, **values: int) -> Numa:
    return Numa(policy, tuple(NumaNode(each, memory) for each in vcpus), **values)


def given_to(numa: Numa, taken: Sequence[Numa] = (), isolated: Sequence[int] = ()) -> NumaPlace:
    return place(numa, HOST, taken, frozenset(isolated))


def cpus(found: NumaPlace) -> list[tuple[int, ...]]:
    return [node.cpus for node in found.numa.nodes]


def test_whole_cores() -> None:
    first = given_to(asked("core", 2))
    assert (cpus(first), first.threads, first.numa.nodes[0].memory_node) == ([(0, 1)], 1, 0)
    assert topology_of_place(first) == Topology(1, 2, 1)
    second = given_to(asked("core", 4), [first.numa])
    assert cpus(second) == [(4, 5, 6, 7)]
    # The other thread of a core that a machine has as a whole is nobody's.
    with pytest.raises(NoPlaceError, match="of processors that no other machine has, it has 4 on node 0, 0 on node 1"):
        given_to(asked("thread", 8), [first.numa, second.numa])
    with pytest.raises(NoPlaceError, match="of whole cores that no other machine has, it has 2 on node 0, 0 on node 1"):
        given_to(asked("core", 3), [first.numa, second.numa])


def test_threads_keep_together() -> None:
    found = given_to(asked("thread", 4))
    assert (cpus(found), found.threads) == ([(0, 8, 1, 9)], 2)
    assert topology_of_place(found) == Topology(1, 2, 2)
    odd = given_to(asked("thread", 3), [found.numa])
    assert (cpus(odd), odd.threads) == ([(4, 12, 5)], 1)
    # Of a core with one thread left no machine of two threads a core has anything.
    again = given_to(asked("thread", 4, threads=2), [found.numa, odd.numa])
    assert cpus(again) == [(2, 10, 3, 11)]
    whole = given_to(asked("core", 2), [found.numa, odd.numa, again.numa])
    assert cpus(whole) == [(6, 7)]


def test_several_nodes_are_spread_by_what_is_left() -> None:
    found = given_to(asked("shared", 4, 4))
    assert cpus(found) == [(0, 1, 8, 9), (4, 5, 12, 13)]
    assert [node.memory_node for node in found.numa.nodes] == [0, 1]
    assert topology_of_place(found) == Topology(1, 4, 2)
    assert topology_of_place(given_to(asked("core", 2, 2, sockets=2))) == Topology(2, 2, 1)


def test_memory_is_of_the_nearest_node_that_has_it() -> None:
    full = asked("none", 1, memory=4000, affinity=0)
    held = given_to(full).numa
    found = given_to(asked("core", 3, memory=1024), [held])
    assert (cpus(found), found.numa.nodes[0].memory_node) == ([(4, 5, 6)], 1)
    both = [held, given_to(asked("core", 4), [held]).numa]
    away = given_to(asked("core", 3, memory=1024), both)
    assert (cpus(away), away.numa.nodes[0].memory_node) == ([(0, 1, 2)], 1)
    with pytest.raises(NoPlaceError, match="of memory of one node, of which 4096 MB are asked for, it has left: 96 MB"):
        given_to(asked("core", 1, memory=4096), both)


def test_affinity_and_huge_pages() -> None:
    found = given_to(asked("none", 2, affinity=1))
    assert (cpus(found), found.numa.nodes[0].memory_node) == ([(4, 5, 6, 7, 12, 13, 14, 15)], 1)
    assert topology_of_place(found) is None
    pages = given_to(asked("none", 2, page_size=2))
    assert pages.numa.nodes[0].memory_node == 0
    second = given_to(asked("none", 2, page_size=2), [pages.numa])
    assert second.numa.nodes[0].memory_node == 0
    third = given_to(asked("core", 2, page_size=2), [pages.numa, second.numa])
    assert third.numa.nodes[0].memory_node == 1
    with pytest.raises(NoPlaceError, match="of huge pages of 2 MB, of which 256 are asked for, it has left: 0 on node"):
        given_to(asked("none", 2, page_size=2), [pages.numa, second.numa, third.numa])
    with pytest.raises(NoPlaceError, match="of huge pages of 1024 MB"):
        given_to(asked("none", 2, page_size=1024))
    with pytest.raises(NoPlaceError, match="it has no node 7: it has 0, 1"):
        given_to(asked("none", 2, affinity=7))
    # Ordinary memory is not of them.
    assert given_to(asked("none", 1, memory=4096), [pages.numa]).numa.nodes[0].memory_node == 0


def test_processors_that_are_kept_from_machines() -> None:
    assert cpus(given_to(asked("thread", 2), isolated=[0, 1, 2, 3])) == [(4, 12)]
    assert cpus(given_to(asked("core", 4), isolated=[0, 4, 12])) == [(8, 1, 2, 3)]
    assert cpus(given_to(asked("none", 1, affinity=0), isolated=[0, 8])) == [(1, 2, 3, 9, 10, 11)]


def test_more_threads_than_cores_have() -> None:
    with pytest.raises(NoPlaceError, match="in groups of 4"):
        given_to(asked("thread", 4, threads=4))
    with pytest.raises(NoPlaceError):
        given_to(asked("thread", 3, 5, threads=2))


def test_distances_are_those_of_the_hosts_nodes_in_their_order() -> None:
    host = (
        HostNode(0, 64, ((0,),), {}, (10, 40, 20)),
        HostNode(4, 4096, ((1,),), {}, (40, 10, 30)),
        HostNode(8, 4096, ((2,),), {}, (20, 30, 10)),
    )
    taken = [place(asked("core", 1, memory=64), host[1:], [], frozenset()).numa]
    found = place(asked("core", 1, memory=512), host[:1] + host[1:], taken, frozenset({2}))
    assert (cpus(found), found.numa.nodes[0].memory_node) == ([(0,)], 8)


def test_a_host_that_tells_nothing() -> None:
    with pytest.raises(NoPlaceError, match="it gives no machine processors or memory of one place"):
        place(asked("core", 1), (), [], frozenset())


def test_what_a_definition_has() -> None:
    numa = asked("core", 2, 2)
    had = given_to(numa).numa.nodes
    assert with_numbers(numa, had) == given_to(numa).numa
    assert with_numbers(numa, had[:1]) is None
    assert with_numbers(asked("core", 2, 1), had) is None


MACHINES = st.lists(
    st.builds(
        lambda policy, vcpus, memory, page: asked(policy, *vcpus, memory=memory * 64, page_size=page),
        st.sampled_from(["core", "thread", "shared"]),
        st.lists(st.integers(1, 4), min_size=1, max_size=3),
        st.integers(1, 12),
        st.sampled_from([0, 2]),
    ),
    max_size=12,
)
HOSTS = st.builds(
    lambda nodes, threads, cores: tuple(
        HostNode(
            number,
            2048,
            tuple(
                tuple((number * cores + core) * threads + thread for thread in range(threads)) for core in range(cores)
            ),
            {"2": 300},
            tuple(10 if other == number else 20 for other in range(nodes)),
        )
        for number in range(nodes)
    ),
    st.integers(1, 3),
    st.sampled_from([1, 2, 4]),
    st.integers(1, 4),
)


@settings(max_examples=200, deadline=None)
@given(HOSTS, MACHINES, st.sets(st.integers(0, 10)))
def test_nothing_is_given_twice(host: tuple[HostNode, ...], machines: list[Numa], isolated: set[int]) -> None:
    taken: list[Numa] = []
    for numa in machines:
        try:
            taken.append(place(numa, host, taken, frozenset(isolated)).numa)
        except NoPlaceError as error:
            assert str(error)
    used = Counter(cpu for numa in taken for node in numa.nodes for cpu in node.cpus)
    assert not used or max(used.values()) == 1
    assert not isolated.intersection(used)
    cores = {cpu: core for node in host for core in node.cores for cpu in core}
    for numa in taken:
        for node in numa.nodes:
            assert len(node.cpus) == node.vcpus
            if numa.policy == "core":
                assert all([other for other in cores[cpu] if used[other]] == [cpu] for cpu in node.cpus)
    for each in host:
        own = [
            (node.memory, numa.page_size) for numa in taken for node in numa.nodes if node.memory_node == each.number
        ]
        assert sum(memory for memory, page in own if not page) <= each.memory
        assert sum(memory // page for memory, page in own if page) <= each.pages["2"]
