# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host with most room left takes a machine, nothing is promised twice, and a refusal tells what each host lacks."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.vms.scheduler import (
    Homes,
    Scheduler,
)
from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    InvalidValue,
    NebulaError,
    NoCapacity,
    NotFound,
    WrongState,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host, Overhead
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_orders import HeldResources
from ansible_collections.nebula.provision.plugins.module_utils.model.network import Network
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState


def host(name="node1", memory=1024, cpu=4.0, **values):
    values.setdefault("state", HostState.MONITORED)
    return Host(0, name, memory=memory, cpu=cpu, **values)


def scheduler(*hosts, foreign=None, **values):
    return Scheduler(hosts or (host(),), foreign or {}, **values)


# -- who takes it ------------------------------------------------------------------------------------------------------


def test_the_host_with_most_memory_left_takes_it():
    made = scheduler(host("a", 1024), host("b", 2048), host("c", 1500))
    assert [made.place("vm", 0.1, 512).name for _ in range(4)] == ["b", "b", "c", "a"]


def test_a_host_without_the_bridge_of_its_network_is_passed_over():
    made = scheduler(host("a", 4096), host("b", 1024))
    assert made.place("vm", 0.1, 64, unbridged={"a": ["Public"]}).name == "b"
    with pytest.raises(WrongState) as caught:
        made.place("vm", 0.1, 64, pinned="a", unbridged={"a": ["Public", "Private"]})
    assert str(caught.value).startswith("VM vm: host a: a has no bridge of network Public, Private. ")
    assert "role nebula.provision.network" in caught.value.remedy


def looked_at_one_by_one(rooms, cpu, memory):
    """The host with most memory left, of those that have room already, else of those that will have it."""
    for held in (1, 0):
        left = [(room[0] - held * room[2], room[1] - held * room[3]) for room in rooms]
        fits = [n for n, (mib, cores) in enumerate(left) if mib >= memory and cores + 1e-6 >= cpu]
        if fits:
            return max(fits, key=lambda n: (left[n][0], -n))
    return None


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 8), st.integers(0, 20), st.integers(0, 4)), min_size=1, max_size=8
    ),
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 12), st.integers(-6, 6)), max_size=30),
)
def test_the_same_host_is_found_as_by_a_look_at_each(given_rooms, asked):
    hosts = [
        Host(n, f"n{n}", memory=mib, cpu=float(cpu), state=HostState.MONITORED)
        for n, (mib, cpu, _m, _c) in enumerate(given_rooms)
    ]
    ending = {f"n{n}": HeldResources(mib, float(cpu)) for n, (_mib, _cpu, mib, cpu) in enumerate(given_rooms)}
    made = Scheduler(hosts, {}, ending=ending)
    rooms = [[mib + held, cpu + cores, held, cores] for mib, cpu, held, cores in given_rooms]
    for cpu, memory, otherwise in asked:
        number = looked_at_one_by_one(rooms, cpu, memory)
        if number is None:
            with pytest.raises(NoCapacity):
                made.place("vm", cpu, memory)
        else:
            assert made.place("vm", cpu, memory).name == f"n{number}"
            rooms[number][:2] = rooms[number][0] - memory, rooms[number][1] - cpu
        # What another verb of the session promises, or gives back.
        made.count(memory % len(rooms), otherwise, float(otherwise > 0))
        rooms[memory % len(rooms)][0] -= otherwise
        rooms[memory % len(rooms)][1] -= float(otherwise > 0)


def test_of_equals_the_first_takes_it():
    assert scheduler(host("b"), host("a")).place("vm", 1, 64).name == "b"


def test_what_is_being_ended_counts_as_free_and_a_place_that_is_free_by_now_comes_first():
    hosts = (host("a", 1024, memory_used=1000, cpu_used=4.0), host("b", 512))
    made = scheduler(*hosts, ending={"a": HeldResources(1000, 4.0)})
    assert [made.place("vm", 1, 256).name for _ in range(3)] == ["b", "b", "a"]
    with pytest.raises(NoCapacity) as caught:
        made.place("vm", 1, 900)
    assert caught.value.found == (
        "a has 768 MiB left of 1024, once the machines that are being ended are gone; b has 0 MiB left of 512"
    )
    with pytest.raises(NoCapacity, match=r"a has 3 CPU left of 4, once the machines that are being ended are gone"):
        made.place("vm", 4, 64)


def test_a_host_that_lacks_processors_is_passed_over():
    made = scheduler(host("a", 4096, cpu=0.5), host("b", 1024))
    assert made.place("vm", 1, 64).name == "b"


@pytest.mark.parametrize(
    ("values", "foreign", "left"),
    [
        ({}, {}, 1000),
        ({"reserved_memory": 100}, {}, 900),
        ({"memory_used": 100}, {}, 900),
        ({"overhead_used": 100}, {}, 900),
        ({}, {"node1": 100}, 900),
        ({}, {"other": 100}, 1000),
        ({"memory_overcommit": 1.5}, {}, 1500),
        # What is reserved and what others have is real, whatever may be promised.
        ({"memory_overcommit": 2.0, "reserved_memory": 100}, {"node1": 100}, 1800),
    ],
)
def test_the_room_of_a_host_is_what_nobody_has(values, foreign, left):
    one = host(memory=1000, **values)
    assert scheduler(one, foreign=foreign).place("vm", 1, left) is one
    with pytest.raises(NoCapacity, match=f"node1 has {left} MiB left of 1000"):
        scheduler(one, foreign=foreign).place("vm", 1, left + 1)


@pytest.mark.parametrize(("values", "left"), [({}, 4), ({"cpu_used": 1.5}, 2.5), ({"cpu_overcommit": 2.0}, 8)])
def test_the_processors_of_a_host_are_promised_once(values, left):
    assert scheduler(host(**values)).place("vm", left, 64)
    with pytest.raises(NoCapacity, match=rf"node1 has {left:g} CPU left of 4\."):
        scheduler(host(**values)).place("vm", left + 0.01, 64)


@pytest.mark.parametrize("tenths", [3, 10])
def test_tenths_of_processors_fill_a_host_to_the_last(tenths):
    """Three times 0.1 is more than 0.3 in binary."""
    made = scheduler(host(cpu=tenths / 10))
    for _ in range(tenths):
        made.place("vm", 0.1, 1)
    with pytest.raises(NoCapacity, match=f"node1 has 0 CPU left of {tenths / 10:g}"):
        made.place("vm", 0.1, 1)


def test_a_machine_takes_what_its_hypervisor_takes_for_it():
    made = scheduler(host(memory=200, overhead=Overhead(fixed=20, vcpu=10, share=0.1)))
    made.place("vm", 0.1, 100, vcpu=2)
    with pytest.raises(NoCapacity, match="node1 has 50 MiB left of 200"):
        made.place("vm", 0.1, 30)
    assert made.place("vm", 0.1, 18)


@given(
    st.lists(st.tuples(st.integers(0, 400), st.floats(0, 4)), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(1, 200), st.floats(0.05, 2)), max_size=12),
    st.integers(0, 30),
)
@settings(max_examples=50, deadline=None)
def test_nothing_is_promised_twice(sizes, machines, fixed):
    hosts = [
        host(str(number), memory, cpu, overhead=Overhead(fixed=fixed)) for number, (memory, cpu) in enumerate(sizes)
    ]
    made = scheduler(*hosts)
    given_away = {each.name: [0, 0.0] for each in hosts}
    for memory, cpu in machines:
        try:
            taken = given_away[made.place("vm", cpu, memory).name]
        except NoCapacity:
            # Nobody could have had it.
            for each in hosts:
                used = given_away[each.name]
                assert used[0] + memory + fixed > each.memory or used[1] + cpu > each.cpu
            continue
        taken[0] += memory + fixed
        taken[1] += cpu
    for each in hosts:
        assert given_away[each.name][0] <= each.memory
        assert given_away[each.name][1] <= each.cpu + 1e-4


def test_what_does_not_fit_takes_nothing():
    made = scheduler(host(memory=100))
    with pytest.raises(NoCapacity):
        made.place("vm", 1, 101)
    assert made.place("vm", 4, 100)


# -- who may take it ---------------------------------------------------------------------------------------------------


def test_a_pinned_machine_comes_to_its_host_or_nowhere():
    made = scheduler(host("a", 4096), host("b", 128))
    assert made.place("vm", 1, 64, pinned="b").name == "b"
    with pytest.raises(NoCapacity) as caught:
        made.place("vm", 1, 128, pinned="b")
    assert "b has 64 MiB left" in caught.value.found
    assert "a has" not in caught.value.found


def test_a_host_that_is_not_there_names_those_that_are():
    with pytest.raises(NotFound) as caught:
        scheduler(host("b"), host("a")).place("web", 1, 64, pinned="c")
    assert str(caught.value) == (
        "VM web: host 'c': there is no such host; there are a, b. Give the name of a host of group nebula_nodes"
    )
    with pytest.raises(NotFound, match="there are none"):
        Scheduler([], {}).place("web", 1, 64, pinned="c")


@pytest.mark.parametrize(
    ("wanted", "runs", "may"),
    [("kvm", "kvm", True), ("qemu", "kvm", True), ("xen", "xen_libvirt", True), ("xen", "kvm", False)],
)
def test_a_machine_for_a_hypervisor_comes_to_hosts_of_its_kind(wanted, runs, may):
    made = scheduler(host("a", hypervisor=runs))
    if may:
        assert made.place("vm", 1, 64, hypervisor=wanted).name == "a"
    else:
        with pytest.raises(WrongState, match=f"VM vm: a host that runs {wanted}: a runs {runs}"):
            made.place("vm", 1, 64, hypervisor=wanted)


@pytest.mark.parametrize(
    ("hosts", "values", "reason"),
    [
        ([host("a")], {"only": ["b"]}, "a is not part of this run"),
        ([host("a")], {"only": []}, "a is not part of this run"),
        ([host("a")], {"unreached": {"a"}}, "a did not answer"),
        ([host("a", state=HostState.DISABLED)], {}, "a is DISABLED"),
        ([host("a", state=HostState.ERROR)], {}, "a is ERROR"),
        ([], {}, "the catalog has no hosts"),
        ([host("a", state=HostState.OFFLINE), host("b")], {"unreached": {"b"}}, "a is OFFLINE; b did not answer"),
    ],
)
def test_where_no_host_may_take_it_each_has_its_reason(hosts, values, reason):
    with pytest.raises(WrongState) as caught:
        Scheduler(hosts, {}, **values).place("web", 1, 64)
    assert (caught.value.asked, caught.value.found) == ("VM web: a host", reason)
    assert "nebula.provision.node" in caught.value.remedy


def test_a_host_that_may_not_take_it_leaves_it_to_the_others():
    made = scheduler(host("a", 4096, state=HostState.DISABLED), host("b", 4096), host("c", 64), unreached={"b"})
    assert made.place("vm", 1, 64).name == "c"


def test_a_pinned_machine_is_told_of_its_own_host():
    made = scheduler(host("a"), host("b", state=HostState.DISABLED))
    with pytest.raises(WrongState, match=r"VM web: host b: b is DISABLED\."):
        made.place("web", 1, 64, pinned="b")


def test_a_hypervisor_that_can_not_have_it_says_why():
    refusal = InvalidValue("VM web: OS", "no such machine type", "Use another")
    made = scheduler(host("a", hypervisor="kvm"), host("x", 64, hypervisor="xen"))
    assert made.place("web", 1, 64, refusals={"kvm": refusal}).name == "x"
    with pytest.raises(InvalidValue) as caught:
        made.place("web", 1, 64, pinned="a", refusals={"kvm": refusal})
    assert caught.value is refusal
    both: dict[str, NebulaError] = {"kvm": refusal, "xen": refusal}
    with pytest.raises(WrongState, match="a runs kvm: VM web: OS: no such machine type"):
        made.place("web", 1, 64, refusals=both)


# -- what a refusal tells ----------------------------------------------------------------------------------------------


def test_a_refusal_tells_what_was_asked_and_what_each_host_lacks():
    made = scheduler(
        host("a", 100, memory_used=60, reserved_memory=10),
        host("b", 4096, cpu=0.25),
        host("c", 100),
        foreign={"c": 120},
    )
    with pytest.raises(NoCapacity) as caught:
        made.place("web", 0.5, 64)
    assert caught.value.asked == "VM web: 64 MiB of memory and 0.5 CPU"
    assert caught.value.found.split("; ") == [
        "a has 30 MiB left of 100, less 10 that are reserved",
        "b has 0.25 CPU left of 0.25",
        "c has 0 MiB left of 100, less 120 of machines that are not this catalog's",
    ]
    assert "memory_overcommit or cpu_overcommit" in caught.value.remedy


def test_a_refusal_tells_the_overhead_of_each_kind_of_host():
    made = scheduler(
        host("a", 64, overhead=Overhead(fixed=16)), host("b", 64, overhead=Overhead(fixed=8)), host("c", 1)
    )
    with pytest.raises(NoCapacity, match=r"VM web: 64 MiB \+ 8 or 16 MiB overhead of memory"):
        made.place("web", 1, 64)


def test_of_many_hosts_five_are_told():
    with pytest.raises(NoCapacity) as caught:
        scheduler(*(host(f"n{number}", 1) for number in range(9))).place("web", 1, 64)
    assert caught.value.found.count(" MiB left") == 5


# -- networks that keep to one node ------------------------------------------------------------------------------------


def test_where_the_machines_of_such_a_network_are_the_others_go():
    made = scheduler(host("a", 4096), host("b", 1024))
    assert made.place("vm", 1, 64, homes={"Public": {"b"}}).name == "b"
    assert made.place("vm", 1, 64).name == "a"


@pytest.mark.parametrize(
    ("pinned", "homes", "told"),
    [
        (
            "a",
            {"Public": {"b"}},
            "VM vm: host a: network Public keeps to one node (one_node), and its machines are on b",
        ),
        (
            "",
            {"Public": {"b"}, "Store": {"a"}},
            "network Store keeps to one node (one_node), and its machines are on a",
        ),
        ("", {"Public": {"c"}}, "a is not where they all are; b is not where they all are"),
    ],
)
def test_nowhere_else_do_they_go(pinned, homes, told):
    with pytest.raises(WrongState) as caught:
        scheduler(host("a"), host("b")).place("vm", 1, 64, pinned=pinned, homes=homes)
    assert told in str(caught.value) and "set one_node: false" in str(caught.value)


def test_where_there_is_no_room_left_it_says_why_no_other_host_takes_it():
    with pytest.raises(NoCapacity) as caught:
        scheduler(host("a", 4096), host("b", 64)).place("vm", 1, 128, homes={"Public": {"b"}})
    assert "b has 64 MiB left of 64; network Public keeps to one node" in str(caught.value)


def test_homes_are_looked_up_once_and_learnt():
    looked = []

    def look(network):
        looked.append(network.name)
        return {"Old": ["a"], "New": []}[network.name]

    old, new = (Network(n, name, attributes={"ONE_NODE": "YES"}) for n, name in enumerate(("Old", "New")))
    free = Network(2, "Free", attributes={"ONE_NODE": "NO"})
    homes = Homes()
    assert homes.of([old, new, free], look) == {"Old": {"a"}}
    homes.take([new, free], "b")
    assert homes.of([old, new, free], look) == {"Old": {"a"}, "New": {"b"}}
    assert looked == ["Old", "New"]
