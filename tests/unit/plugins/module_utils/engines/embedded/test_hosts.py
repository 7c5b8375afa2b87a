# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of a catalog: what is stored of them, what they have promised to machines, and when they may go."""

from __future__ import annotations

import dataclasses
import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.hosts import Hosts
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.images.image_verbs import Images
from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, InUse, InvalidValue, NotFound
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host, Overhead
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState
from ansible_collections.nebula.provision.plugins.module_utils.model.transfer import SHARED, SSH


@pytest.fixture
def hosts(undone):
    return Hosts(undone, Images(undone))


def host(name="node1", **values):
    return Host(None, name, state=HostState.MONITORED, memory=4096, cpu=4.0, **values)


def machine(store, vm_id, host_id=0, memory=100, vcpu=None, state=3):
    store.db.execute(
        "INSERT INTO vms (id, name, uuid, state, lcm_state, host_id, wanted, cpu, memory, request, body, stime)"
        " VALUES (?, ?, ?, ?, 3, ?, 'RUNNING', 1, ?, '[]', ?, 0)",
        (vm_id, f"vm{vm_id}", str(vm_id), state, host_id, memory, json.dumps({"vcpu": vcpu})),
    )


def test_what_is_stored_is_what_is_read(hosts):
    wanted = host(
        hypervisor="xen",
        reserved_memory=64,
        memory_overcommit=1.5,
        cpu_overcommit=2.0,
        overhead=Overhead(fixed=60, vcpu=8, share=0.25),
        transfer=SSH,
        attributes={"RACK": "7"},
    )
    made = hosts.allocate(wanted)
    assert made.id == 0
    assert Host(**{**vars(made), "id": None}) == wanted
    assert hosts.info("node1") == hosts.info(0) == hosts.info("0") == made
    assert hosts.pool() == [made]


def test_a_host_begins_with_nothing_promised(hosts):
    """Whatever it is said to have promised: only machines are promised anything."""
    made = hosts.allocate(host(memory_used=500, cpu_used=2.0, overhead_used=9, vms=3))
    assert (made.memory_used, made.cpu_used, made.overhead_used, made.vms) == (0, 0, 0, 0)


def test_a_name_is_one_hosts(hosts):
    hosts.allocate(host())
    with pytest.raises(Conflict, match=r"host node1: host 0 has that name\. Update it, or rename this one"):
        hosts.allocate(host())
    with pytest.raises(InvalidValue, match="host 'a/b'"):
        hosts.allocate(host("a/b"))
    assert len(hosts.pool()) == 1


def test_ids_are_never_used_again(hosts):
    hosts.allocate(host("a"))
    hosts.delete("a")
    assert hosts.allocate(host("a")).id == 1


# -- changing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"state": HostState.DISABLED},
        {"memory": 1, "cpu": 0.5},
        {"hypervisor": "xen"},
        {"memory_overcommit": 3.0, "cpu_overcommit": 4.0, "reserved_memory": 7},
        {"attributes": {"A": "b"}},
        {"overhead": Overhead(fixed=1.5)},
        {"transfer": SSH},
        {},
    ],
)
def test_what_is_changed_is_what_is_asked_for_and_nothing_else(hosts, change):
    before = hosts.allocate(host())
    assert hosts.update("node1", **change) == Host(**{**vars(before), **change}) == hosts.info(0)


def test_a_host_with_machines_keeps_its_way_of_transfer(hosts):
    hosts.allocate(host(transfer=SSH))
    hosts.promise(0, 100, 0, 1.0, 1)
    with pytest.raises(InUse) as caught:
        hosts.update("node1", transfer=SHARED, memory=1)
    assert caught.value.asked == "host node1: transfer shared instead of ssh"
    assert "its 1 machines" in caught.value.found
    assert "nebula_transfer: ssh" in caught.value.remedy
    assert hosts.info("node1").memory == 4096
    assert hosts.update("node1", transfer=SSH).transfer == SSH
    hosts.promise(0, -100, 0, -1.0, -1)
    assert hosts.update("node1", transfer=SHARED).transfer == SHARED


def test_what_machines_take_besides_is_counted_anew_when_it_is_known_better(hosts, store):
    for name in ("node1", "node2"):
        hosts.allocate(host(name))
    machine(store, 0, memory=100)
    machine(store, 1, memory=200, vcpu=4)
    machine(store, 2, memory=1000, state=6)
    machine(store, 3, host_id=1, memory=1000)
    hosts.promise(1, 1000, 5, 1, 1)
    assert hosts.update("node1", overhead=Overhead(fixed=10, vcpu=1, share=0.1)).overhead_used == 21 + 34
    assert [row["overhead"] for row in store.rows("SELECT overhead FROM vms ORDER BY id")] == [21, 34, 0, 0]
    assert hosts.info("node2").overhead_used == 5
    assert hosts.update("node1", memory=1).overhead_used == 55
    assert hosts.update("node1", overhead=Overhead()).overhead_used == 0
    # One that may come to more processors takes what these take.
    store.db.execute("UPDATE vms SET body = ? WHERE id = 0", (json.dumps({"vcpu": None, "growth": {"vcpu": 8}}),))
    assert hosts.update("node1", overhead=Overhead(vcpu=1)).overhead_used == 8 + 4


# -- promising ---------------------------------------------------------------------------------------------------------


def test_what_is_promised_is_counted_and_given_back(hosts):
    hosts.allocate(host())
    hosts.promise(0, 128, 20, 0.5, 1)
    hosts.promise(0, 256, 30, 1.5, 2)
    found = hosts.info(0)
    assert (found.memory_used, found.overhead_used, found.cpu_used, found.vms) == (384, 50, 2.0, 3)
    hosts.promise(0, -384, -50, -2.0, -3)
    found = hosts.info(0)
    assert (found.memory_used, found.overhead_used, found.cpu_used, found.vms) == (0, 0, 0.0, 0)


def test_tenths_of_processors_leave_nothing_behind(hosts):
    hosts.allocate(host())
    for step in [0.1, 0.2, 0.7] * 3 + [-0.1, -0.2, -0.7] * 3:
        hosts.promise(0, 0, 0, step, 0)
    assert hosts.info(0).cpu_used == 0.0


# -- removing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "told"), [(1, "vm0 (id 0)"), (6, "vm0 (id 0), vm1 (id 1), vm2 (id 2), vm3 (id 3), vm4 (id 4) …")]
)
def test_a_host_with_machines_stays_and_names_them(hosts, store, count, told):
    hosts.allocate(host())
    for number in range(count):
        machine(store, number)
    with pytest.raises(InUse) as caught:
        hosts.delete("node1")
    assert caught.value.found == f"it has {told}"
    assert caught.value.remedy.startswith("Move them to other hosts (playbook nebula.provision.maintenance")
    assert hosts.pool()


def test_machines_that_ended_stay_without_their_host(hosts, store):
    hosts.allocate(host())
    made = hosts.allocate(host("node2"))
    machine(store, 0, state=6)
    machine(store, 1, host_id=1)
    store.db.execute("INSERT INTO meta VALUES ('recorded/0', '7'), ('recorded/1', '8')")
    assert hosts.delete("node1").name == "node1"
    assert hosts.pool() == [made]
    assert [row["host_id"] for row in store.rows("SELECT host_id FROM vms ORDER BY id")] == [None, 1]
    # A host of the same id in a restored catalog would not be believed.
    assert (store.meta("recorded/0"), store.meta("recorded/1")) == ("", "8")


def test_a_miss_names_what_there_is(hosts):
    for verb in (hosts.info, hosts.delete, hosts.update):
        with pytest.raises(NotFound, match=r"host 'node1'.*There is no host at all"):
            verb("node1")


# -- check mode --------------------------------------------------------------------------------------------------------


def test_one_that_an_earlier_task_would_have_made_is_taken_as_given(hosts):
    hosts.declare({"name": "node1"})
    hosts.declare(
        {
            "name": "node2",
            "hypervisor": "xen",
            "memory": "1024",
            "cpu": 2,
            "reserved_memory": 8,
            "memory_overcommit": 1.5,
            "cpu_overcommit": 2,
            "overhead": {"fixed": 5.0},
            "transfer": SSH,
        }
    )
    assert hosts.pool() == [
        Host(0, "node1", state=HostState.MONITORED),
        Host(
            1,
            "node2",
            hypervisor="xen",
            state=HostState.MONITORED,
            memory=1024,
            cpu=2.0,
            reserved_memory=8,
            memory_overcommit=1.5,
            cpu_overcommit=2.0,
            overhead=Overhead(fixed=5.0),
            transfer=SSH,
        ),
    ]


def test_one_that_is_there_becomes_what_the_earlier_task_would_have_made_of_it(hosts):
    made = hosts.allocate(host())
    hosts.declare({"name": "node1"})
    assert hosts.pool() == [made]
    hosts.declare({"name": "node1", "memory": 1, "hypervisor": "xen", "state": "DISABLED"})
    changed = dataclasses.replace(made, memory=1, hypervisor="xen", state=HostState.DISABLED)
    assert hosts.pool() == [changed]
