# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine moves to a host that can have it, or nothing is changed; both hosts get it in their plans."""

from __future__ import annotations

import json
import ssl
from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.vms.vm_rows import vm_of
from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmOrders, VmRequest
from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    HypervisorError,
    InUse,
    InvalidValue,
    MissingDependency,
    NoCapacity,
    NotFound,
    Unsupported,
    WrongState,
)
from ansible_collections.nebula.provision.plugins.module_utils.host import run_certificates
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.datastore import Datastore, DatastoreType
from ansible_collections.nebula.provision.plugins.module_utils.model.disk_snapshots import Snapshot
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host, HostHardware, HostNode, Overhead
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.host_wants import wants_of
from ansible_collections.nebula.provision.plugins.module_utils.model.move import (
    COLD,
    COMING,
    LEAVING,
    LEFT,
    LIVE,
    OVER,
    SOURCE,
    STAGES,
    TARGET,
    Leftover,
    MeetingPlace,
    MoveSeen,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed, ObservedVm, VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState, ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.plugins.module_utils.model.transfer import BASE, SSH
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import HostDevice, MemoryEncryption, Tpm
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.conftest import (
    decide,
    obey,
    row,
)
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.vms.conftest import (
    ERROR,
    FIRST,
    PLACES,
    PLAIN,
    WEB,
    everything,
    move_of,
    on_xen,
    poll,
    promised,
    record,
)


# -- what is decided ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("state", "asked", "way", "on_the_way", "action"),
    [
        ("running", "", LIVE, "MIGRATE", "live-migrate"),
        ("running", LIVE, LIVE, "MIGRATE", "live-migrate"),
        ("running", COLD, COLD, "PROLOG_MIGRATE", "migrate"),
        ("poweroff", "", COLD, "PROLOG_MIGRATE_POWEROFF", "migrate"),
    ],
)
def test_it_goes_in_the_way_that_its_state_asks_for(fleet, state, asked, way, on_the_way, action):
    obey(fleet, decide(fleet, dict(FIRST, state=state)))
    before = record(fleet)
    after = fleet.vms.move(0, "node2", asked)
    assert (after.state, after.host, after.moving, after.wanted) == (on_the_way, "node1", "node2", before.wanted)
    assert after.generation == before.generation + 1
    found = move_of(fleet)
    assert (found.source, found.target, found.way, found.generation) == ("node1", "node2", way, after.generation)
    assert not found.asked
    assert fleet.vms.history(0)[-1]["action"] == action


def test_a_machine_is_powered_off_for_its_move_as_it_is_asked(fleet):
    fleet.vms.move(0, "node2", COLD, orders=VmOrders(hard=True, shutdown_timeout=7, operation="reboot"))
    for plan in fleet.vms.plans(places=PLACES).values():
        (planned,) = plan.vms
        assert (planned.wanted, planned.hard, planned.shutdown_timeout, planned.operation) == ("RUNNING", True, 7, "")


def test_each_move_has_a_token_of_its_own(fleet):
    first = fleet.vms.move(0, "node2") and move_of(fleet).token
    fleet.vms.record("node1", [VmOutcome(0, record(fleet).generation, "RUNNING", moved="stayed")])
    fleet.vms.move(0, "node2")
    assert len(first) == 32
    assert move_of(fleet).token != first


def test_both_hosts_hold_what_it_needs(fleet):
    fleet.hosts.update("node2", overhead=Overhead(fixed=70))
    before = promised(fleet)
    fleet.vms.move(0, "node2")
    assert promised(fleet)["node1"] == before["node1"] == (128, 0, 0.5, 1)
    assert promised(fleet)["node2"] == (128, 70, 0.5, 1)
    # Each has a port for its console, and the machine listens where it is.
    hosts = {host.name: host.id for host in fleet.hosts.pool()}
    rows = [tuple(each) for each in fleet.store.rows("SELECT host_id, port, vm_id FROM vnc_ports ORDER BY host_id")]
    assert rows == [(hosts["node1"], 5900, 0), (hosts["node2"], move_of(fleet).port, 0)]
    assert record(fleet).graphics["port"] == 5900
    # The books are right, and the machine is told to be unfinished.
    assert [finding.kind for finding in fleet.ledger().findings] == ["machine-unfinished"]
    assert [(vm.host, vm.moving) for vm in fleet.ledger().vms] == [("node1", "node2")]
    assert fleet.repair() == []


def test_a_port_that_is_taken_at_the_target_is_not_used_there(fleet):
    fleet.vms.observe([poll("node1", 0), poll("node2", ports=(5900,))])
    fleet.vms.move(0, "node2")
    assert move_of(fleet).port == 5901


def test_the_room_that_is_held_is_given_to_nobody_else(fleet):
    fleet.hosts.update("node2", memory=200)
    fleet.vms.move(0, "node2")
    with pytest.raises(NoCapacity, match="node2 has 72 MiB left"):
        fleet.vms.instantiate([VmRequest("second", PLAIN, host="node2")])


def test_a_new_overhead_of_the_target_counts_for_what_comes_too(fleet):
    fleet.vms.move(0, "node2")
    fleet.hosts.update("node2", overhead=Overhead(fixed=30))
    assert (move_of(fleet).overhead, promised(fleet)["node2"]) == (30, (128, 30, 0.5, 1))
    assert fleet.repair() == []


def test_the_scheduler_chooses_the_host_with_most_room(fleet):
    fleet.hosts.allocate(Host(None, "node3", state=HostState.MONITORED, memory=8192, cpu=16.0))
    assert fleet.vms.move(0).moving == "node3"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"state": HostState.DISABLED}, "node3 is DISABLED"),
        ({"hypervisor": "lxc"}, "node3 runs lxc"),
        ({"memory": 100}, "node3 has 100 MiB left of 100"),
    ],
)
def test_the_scheduler_passes_over_hosts_that_can_not_have_it(fleet, changes, why):
    fleet.hosts.allocate(Host(None, "node3", state=HostState.MONITORED, memory=8192, cpu=16.0))
    fleet.hosts.update("node3", **changes)
    if "memory" in changes:
        fleet.hosts.update("node2", memory=100)
        with pytest.raises(NoCapacity, match=why):
            fleet.vms.move(0)
        return
    assert fleet.vms.move(0).moving == "node2"
    fleet.vms.record("node1", [VmOutcome(0, record(fleet).generation, "RUNNING", moved="stayed")])
    fleet.hosts.update("node2", state=HostState.DISABLED)
    with pytest.raises(WrongState) as caught:
        fleet.vms.move(0)
    assert "node2 is DISABLED" in str(caught.value)
    assert why in str(caught.value)


def test_it_stays_in_the_state_in_which_its_guest_has_brought_it(fleet):
    fleet.vms.observe([poll("node1", 0, state="POWEROFF"), poll("node2")])
    assert (record(fleet).wanted, record(fleet).state) == ("RUNNING", "POWEROFF")
    after = fleet.vms.move(0, "node2")
    assert (after.wanted, move_of(fleet).way) == ("POWEROFF", COLD)


@pytest.mark.parametrize(
    ("away", "second", "home"), [("", "", ""), ("node1", "", "node1"), ("node1", "node2", "node1")]
)
def test_it_is_away_from_the_host_that_it_left_first(fleet, away, second, home):
    fleet.hosts.allocate(Host(None, "node3", state=HostState.MONITORED, memory=4096, cpu=16.0))
    go(fleet, "node2", away=away)
    assert (record(fleet).host, record(fleet).away) == ("node2", away)
    if second:
        go(fleet, "node3", away=second)
    assert record(fleet).away == home
    # A user's word ends it, and so does its return.
    go(fleet, "node1")
    assert record(fleet).away == ""


def test_it_is_at_home_again_where_it_was_away_from(fleet):
    go(fleet, "node2", away="node1")
    go(fleet, "node1", away="node2")
    assert record(fleet).away == ""


def test_it_may_be_said_to_stay_where_it_is(fleet):
    go(fleet, "node2", away="node1")
    assert fleet.vms.stay(0).away == ""


# -- what is refused ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("given", "error", "found"),
    [
        ({"target": "node1"}, InvalidValue, "it is there already"),
        ({"target": "node7"}, NotFound, "the catalog has no host 'node7'. Did you mean 'node"),
        ({"target": "node2", "way": "warm"}, InvalidValue, "there is no such way to move"),
        ({"target": "node2", "hosts": ["node1"]}, WrongState, "host node2 is not part of this run"),
        ({"target": "node2", "hosts": ["node2"]}, WrongState, "host node1 is not part of this run"),
        ({"target": "node2", "peers": ["node1"]}, WrongState, "host node2 has no address at which others meet it"),
        ({"target": "", "peers": []}, WrongState, "node2 has no address at which others meet it"),
    ],
)
def test_a_move_that_can_not_be_meant_changes_nothing(fleet, given, error, found):
    before = everything(fleet)
    with pytest.raises(error) as caught:
        fleet.vms.move(0, **given)
    assert found in str(caught.value)
    assert "VM web (id 0): move to " in str(caught.value)
    assert everything(fleet) == before


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"state": HostState.DISABLED}, "host node2 is DISABLED"),
        ({"hypervisor": "lxc"}, "host node2 runs lxc, and it is a machine of kvm"),
    ],
)
def test_a_host_that_can_not_have_it_is_refused_by_name(fleet, changes, found):
    fleet.hosts.update("node2", **changes)
    before = everything(fleet)
    with pytest.raises(WrongState, match=found):
        fleet.vms.move(0, "node2")
    assert everything(fleet) == before


def test_a_target_without_room_is_refused(fleet):
    fleet.hosts.update("node2", memory=100)
    before = everything(fleet)
    with pytest.raises(NoCapacity, match="node2 has 100 MiB left of 100"):
        fleet.vms.move(0, "node2")
    assert everything(fleet) == before


def test_a_target_with_room_only_once_others_have_ended_is_refused(fleet):
    obey(fleet, decide(fleet, dict(WEB, name="other", host="node2")))
    fleet.hosts.update("node2", memory=200)
    fleet.vms.action(1, "DONE", VmOrders())
    with pytest.raises(NoCapacity, match="node2 has 72 MiB left"):
        fleet.vms.move(0, "node2")


@pytest.mark.parametrize("silent", ["node1", "node2"])
@pytest.mark.parametrize("asked", [True, False])
def test_a_host_that_does_not_answer_takes_part_in_no_move(fleet, silent, asked):
    other = {"node1": "node2", "node2": "node1"}[silent]
    polls = [poll(other, *([0] if other == "node1" else []))]
    fleet.vms.observe([*polls, Observed(silent, reached=False)] if asked else polls)
    if silent == "node1" and asked:
        # All that is on it is UNKNOWN then.
        with pytest.raises(WrongState, match=r"it is UNKNOWN \(host node1 did not answer\)"):
            fleet.vms.move(0, "node2")
        return
    with pytest.raises(WrongState, match=f"host {silent} did not answer in this run"):
        fleet.vms.move(0, "node2")


def test_a_target_without_the_bridge_of_its_network_is_refused(fleet):
    (public,) = fleet.networks.pool()
    fleet.vms.observe([poll("node1", 0, networks=(public.uuid,)), poll("node2", networks=())])
    with pytest.raises(WrongState, match="host node2 has no bridge of network Public"):
        fleet.vms.move(0, "node2")


def in_ovn(fleet, bridge="br-int"):
    fleet.store.db.execute("UPDATE networks SET vn_mad = 'ovn', bridge = ?", (bridge,))
    fleet.store.drop()


@pytest.mark.parametrize("has_ovn", [True, None])
@pytest.mark.parametrize("way", [LIVE, COLD])
def test_a_machine_in_a_network_of_ovn_goes_to_hosts_of_ovn(fleet, has_ovn, way):
    in_ovn(fleet)
    fleet.vms.observe([poll("node1", 0, has_ovn=True), poll("node2", has_ovn=has_ovn)])
    assert fleet.vms.move(0, "node2", way).moving == "node2"


def test_a_target_that_is_no_host_of_ovn_is_refused(fleet):
    in_ovn(fleet)
    fleet.vms.observe([poll("node1", 0, has_ovn=True), poll("node2", has_ovn=False)])
    before = everything(fleet)
    with pytest.raises(WrongState, match="host node2 is no host of OVN, in which network Public is") as caught:
        fleet.vms.move(0, "node2")
    assert "nebula_ovn: true" in caught.value.remedy
    assert everything(fleet) == before


def test_a_host_without_ovn_can_have_a_machine_of_other_networks_or_of_another_bridge(fleet):
    fleet.vms.observe([poll("node1", 0), poll("node2", has_ovn=False)])
    in_ovn(fleet, "br-own")
    assert fleet.vms.move(0, "node2").moving == "node2"


@pytest.mark.parametrize(
    ("node", "found"),
    [
        ({"foreign_ids": (0,)}, "has a machine of somebody else's that is called like machine 0"),
        ({"moves": (MoveSeen(0, "a" * 32, COMING),)}, "still has what a former move left of it"),
        ({"moves": (MoveSeen(0, "a" * 32, LEFT),)}, "still has what a former move left of it"),
        ({"vms": (ObservedVm(0, "u", "POWEROFF"),)}, "has a machine 0 of this catalog, and nobody knows why"),
    ],
)
def test_a_target_that_has_something_under_its_number_is_refused(fleet, node, found):
    fleet.vms.observe([poll("node1", 0), Observed("node2", **node)])
    with pytest.raises(WrongState, match=found):
        fleet.vms.move(0, "node2")


@pytest.mark.parametrize("stage", OVER)
def test_what_a_former_move_only_has_noted_keeps_none_from_coming(fleet, stage):
    fleet.vms.observe([poll("node1", 0), poll("node2", moves=(MoveSeen(0, "a" * 32, stage),))])
    assert fleet.vms.move(0, "node2").moving == "node2"


@pytest.mark.parametrize(
    ("state", "found"),
    [
        ("SUSPENDED", "it is SUSPENDED: its memory is in a file of its host"),
        ("UNKNOWN", "it is UNKNOWN"),
        ("BOOT_FAILURE", "it is BOOT_FAILURE"),
    ],
)
@pytest.mark.parametrize("way", ["", LIVE, COLD])
def test_a_machine_in_such_a_state_moves_nowhere(fleet, state, found, way):
    fleet.vms.action(0, "SUSPENDED", VmOrders())
    error = None if state == "SUSPENDED" else ERROR
    fleet.vms.record("node1", [VmOutcome(0, record(fleet).generation, state, True, error)])
    with pytest.raises(WrongState, match=found):
        fleet.vms.move(0, "node2", way)


def test_a_machine_with_open_orders_moves_once_these_are_done(fleet):
    fleet.vms.action(0, "POWEROFF", VmOrders())
    with pytest.raises(WrongState, match=r"what was decided about it is not done yet.*Run again once it is done"):
        fleet.vms.move(0, "node2")
    obey(fleet, fleet.vms.plans())
    assert fleet.vms.move(0, "node2").moving == "node2"


def test_a_machine_that_ends_moves_nowhere(fleet):
    fleet.vms.action(0, "DONE", VmOrders())
    with pytest.raises(WrongState, match="it is being ended"):
        fleet.vms.move(0, "node2")


def test_a_machine_that_is_off_does_not_move_live(fleet):
    obey(fleet, decide(fleet, dict(FIRST, state="poweroff")))
    with pytest.raises(WrongState, match=r"it is POWEROFF\. Set move: all, and it moves as it is, or move: cold"):
        fleet.vms.move(0, "node2", LIVE)


def test_a_machine_that_is_to_be_made_anew_moves_once_it_is(fleet):
    plans = decide(fleet, dict(FIRST, memory=192, recreate=True))
    outcome = VmOutcome(0, plans["node1"].vms[0].generation, "RUNNING", True, ERROR)
    fleet.vms.record("node1", [outcome])
    with pytest.raises(WrongState, match="it is to be made anew"):
        fleet.vms.move(0, "node2")


def test_machines_of_other_hypervisors_do_not_move(fleet):
    on_xen(fleet, "box")
    fleet.hosts.update("xen1", hypervisor="xen_libvirt")
    fleet.hosts.allocate(Host(None, "xen2", "xen_libvirt", state=HostState.MONITORED, memory=4096, cpu=16.0))
    before = everything(fleet)
    with pytest.raises(Unsupported, match="machines of xen_libvirt move to no other host"):
        fleet.vms.move(1, "xen2", COLD)
    assert everything(fleet) == before


def test_a_machine_of_xen_moves_cold(fleet):
    on_xen(fleet, "box")
    fleet.hosts.allocate(Host(None, "xen2", "xen", state=HostState.MONITORED, memory=4096, cpu=16.0))
    assert fleet.vms.move(1, "", COLD).moving == "xen2"


def with_container(fleet, hypervisor):
    """Machine 1, a container on the first of two hosts."""
    image = fleet.images.allocate(Image(None, "debian-12"))
    fleet.images.update(image.id, state=ImageState.READY, size=16, format="tar")
    for name in ("one", "other"):
        fleet.hosts.allocate(Host(None, name, hypervisor, state=HostState.MONITORED, memory=4096, cpu=8.0))
    item = {"name": "box", "template": "web", "disks": [{"IMAGE": "debian-12"}], "memory": 32, "cpu": 0.1}
    obey(fleet, decide(fleet, {**item, "host": "one"}))


def test_a_container_of_lxc_moves_cold_only(fleet):
    with_container(fleet, "lxc")
    before = everything(fleet)
    for way in ("", LIVE):
        with pytest.raises(Unsupported, match="machines of lxc move only cold") as caught:
            fleet.vms.move(1, "other", way)
        assert "move: cold" in caught.value.remedy
    assert everything(fleet) == before
    assert fleet.vms.move(1, "", COLD).moving == "other"


@pytest.mark.parametrize("way", ["", LIVE, COLD])
def test_a_container_of_openvz_moves_as_a_machine_does(fleet, way):
    with_container(fleet, "openvz")
    assert fleet.vms.move(1, "other", way).moving == "other"


def test_a_machine_that_installs_moves_nowhere(fleet):
    image = fleet.images.allocate(Image(None, "installed", type=ImageType.OS))
    fleet.images.update(image.id, state=ImageState.READY, size=16, unfinished="installing")
    change(fleet, lambda vm: replace(vm, attributes={"INSTALLS": "installed"}))
    with pytest.raises(WrongState, match="it installs image installed"):
        fleet.vms.move(0, "node2")
    fleet.images.update(image.id, unfinished="")
    assert fleet.vms.move(0, "node2").moving == "node2"


def with_disk(**changes):
    return lambda vm: replace(vm, disks=(replace(vm.disks[0], **changes),))


@pytest.mark.parametrize(
    ("alter", "found"),
    [
        (lambda vm: replace(vm, host_devices=(HostDevice("0000:01:00.0"),)), "it has devices of its host"),
        (with_disk(type="FILESYSTEM", source="/srv"), "its disk 0 is directory /srv of its host"),
    ],
)
@pytest.mark.parametrize("way", [LIVE, COLD])
def test_what_does_not_come_along_is_said_by_name(fleet, alter, found, way):
    change(fleet, alter)
    before = everything(fleet)
    with pytest.raises(Unsupported, match=found):
        fleet.vms.move(0, "node2", way)
    assert everything(fleet) == before


@pytest.mark.parametrize("way", [LIVE, COLD])
def test_a_machine_with_a_tpm_moves(fleet, way):
    change(fleet, lambda vm: replace(vm, tpm=Tpm()))
    assert fleet.vms.move(0, "node2", way).moving == "node2"


# -- processors and memory that a machine has to itself ----------------------------------------------------------------
# The first host has two cores, and the second one three, one of which no machine gets.
FIRST_NODE = HostNode(0, 4096, ((0,), (1,)), {"2": 64}, (10,))
SECOND_NODE = HostNode(0, 4096, ((4,), (5,), (6,)), {"2": 64}, (10,))


def template_of(topology, vcpu):
    return parse(f'CPU = 0.1 VCPU = {vcpu} MEMORY = 32 DISK = [ IMAGE = "demo" ] TOPOLOGY = [ {topology} ]')


def pinned(fleet, topology='PIN_POLICY = "CORE"', second=SECOND_NODE, vcpu=1):
    """A machine that has of its host what its template says, and runs."""
    fleet.hosts.update("node1", hardware=HostHardware((FIRST_NODE,)))
    fleet.hosts.update("node2", hardware=HostHardware((second,)), attributes={"ISOLCPUS": "4"})
    (made,) = fleet.vms.instantiate([VmRequest("pinned", template_of(topology, vcpu), host="node1")])
    obey(fleet, fleet.vms.plans())
    return made.id


def cpus(engine, vm_id):
    return vm_of(row(engine, vm_id)).numa.nodes[0].cpus


def free(engine, host, count):
    """Whether a host still has so many cores for a machine of them."""
    wants = wants_of(template_of('PIN_POLICY = "CORE"', count), "kvm", "x")
    return not engine.vms.host_places.lacking(engine.hosts.info(host), wants)


@pytest.mark.parametrize("way", [LIVE, COLD])
def test_the_processors_on_the_new_host_are_its_own_choice(fleet, way):
    vm_id = pinned(fleet)
    had = cpus(fleet, vm_id)
    fleet.vms.move(vm_id, "node2", way)
    # Each host has its own in the plan; the processor that no machine gets is none of them.
    planned = {name: plan.vms[0].vm for name, plan in fleet.vms.plans(places=PLACES).items()}
    assert {name: vm.numa.nodes[0].cpus for name, vm in planned.items()} == {"node1": had, "node2": (5,)}
    assert planned["node2"].topology == planned["node1"].topology
    assert (cpus(fleet, vm_id), free(fleet, "node1", 2), free(fleet, "node2", 2)) == (had, False, False)
    fleet.vms.record("node2", [VmOutcome(vm_id, record(fleet, vm_id).generation, "RUNNING", moved="arrived")])
    assert (cpus(fleet, vm_id), free(fleet, "node1", 2), free(fleet, "node2", 2)) == ((5,), True, False)


def test_the_old_host_keeps_its_processors_until_it_was_found_on_the_new_one(fleet):
    vm_id = pinned(fleet)
    had = cpus(fleet, vm_id)
    fleet.vms.move(vm_id, "node2", LIVE)
    fleet.vms.plans(places=PLACES)
    generation = record(fleet, vm_id).generation
    fleet.vms.record("node1", [VmOutcome(vm_id, generation, "UNKNOWN", moved="left")])
    assert (record(fleet, vm_id).host, cpus(fleet, vm_id)) == ("node2", (5,))
    assert not free(fleet, "node1", 2)
    # It is not there: what it had is its own again.
    fleet.vms.record("node2", [VmOutcome(vm_id, generation, "UNKNOWN", moved="absent")])
    assert (record(fleet, vm_id).host, cpus(fleet, vm_id)) == ("node1", had)
    assert (free(fleet, "node1", 2), free(fleet, "node2", 2)) == (False, True)


def test_the_old_hosts_processors_are_free_once_it_was_found_on_the_new_one(fleet):
    vm_id = pinned(fleet)
    fleet.vms.move(vm_id, "node2", LIVE)
    fleet.vms.plans(places=PLACES)
    fleet.vms.record("node1", [VmOutcome(vm_id, record(fleet, vm_id).generation, "UNKNOWN", moved="left")])
    assert not free(fleet, "node1", 2)
    fleet.vms.record("node2", [VmOutcome(vm_id, record(fleet, vm_id).generation, "RUNNING")])
    assert (record(fleet, vm_id).state, free(fleet, "node1", 2)) == ("RUNNING", True)


@pytest.mark.parametrize("first", ["left", "arrived"])
def test_the_old_hosts_processors_are_free_though_the_first_start_on_the_new_one_failed(fleet, first):
    vm_id = pinned(fleet)
    fleet.vms.move(vm_id, "node2", COLD)
    fleet.vms.plans(places=PLACES)
    generation, failed = record(fleet, vm_id).generation, HypervisorError("start", "no").as_dict()
    if first == "left":
        fleet.vms.record("node1", [VmOutcome(vm_id, generation, "UNKNOWN", moved="left")])
    else:
        fleet.vms.record("node2", [VmOutcome(vm_id, generation, "UNKNOWN", error=failed, moved="arrived")])
    assert (record(fleet, vm_id).host, free(fleet, "node1", 2)) == ("node2", False)
    fleet.vms.record("node2", [VmOutcome(vm_id, record(fleet, vm_id).generation, "BOOT_FAILURE", error=failed)])
    assert not free(fleet, "node1", 2)
    fleet.vms.action(vm_id, "RUNNING", VmOrders())
    fleet.vms.record("node2", [VmOutcome(vm_id, record(fleet, vm_id).generation, "RUNNING")])
    assert (record(fleet, vm_id).state, free(fleet, "node1", 2)) == ("RUNNING", True)


def test_what_came_whole_to_a_host_that_is_gone_since_is_its_old_hosts_with_what_it_had_there(fleet):
    """Whether that has its disks still, nobody says."""
    vm_id = pinned(fleet)
    had = cpus(fleet, vm_id)
    fleet.vms.move(vm_id, "node2", COLD)
    fleet.vms.plans(places=PLACES)
    failed = HypervisorError("start", "no").as_dict()
    generation = record(fleet, vm_id).generation
    fleet.vms.record("node2", [VmOutcome(vm_id, generation, "UNKNOWN", error=failed, moved="arrived")])
    fleet.hosts.forget("node2", gone=True)
    there = record(fleet, vm_id)
    assert (there.host, cpus(fleet, vm_id), free(fleet, "node1", 2)) == ("node1", had, False)
    assert "it may have removed what arrived on host node2" in there.error


def test_a_move_that_is_given_up_holds_nothing_on_the_other_host(fleet):
    vm_id = pinned(fleet)
    had = cpus(fleet, vm_id)
    fleet.vms.move(vm_id, "node2", LIVE)
    fleet.vms.plans(places=PLACES)
    fleet.vms.record("node1", [VmOutcome(vm_id, record(fleet, vm_id).generation, "RUNNING", moved="stayed")])
    assert (cpus(fleet, vm_id), free(fleet, "node1", 2), free(fleet, "node2", 2)) == (had, False, True)


@pytest.mark.parametrize(
    ("topology", "second", "lacks"),
    [
        ("HUGEPAGE_SIZE = 2", replace(SECOND_NODE, pages={}), "of huge pages of 2 MB, of which 16 are asked for"),
        ('PIN_POLICY = "CORE"', replace(SECOND_NODE, cores=((4,),)), "of whole cores that no other machine has, it"),
        ("NODE_AFFINITY = 0", replace(SECOND_NODE, number=1), "it has no node 0: it has 1"),
    ],
)
def test_what_the_new_host_lacks_is_said_by_name(fleet, topology, second, lacks):
    vm_id = pinned(fleet, topology, second)
    before = everything(fleet)
    for target in ("node2", ""):
        with pytest.raises(WrongState, match=lacks):
            fleet.vms.move(vm_id, target, COLD)
    assert everything(fleet) == before


def test_what_it_sees_of_its_processors_does_not_change_while_it_runs(fleet):
    """Two processors are two cores on its host, and two threads of one on the other."""
    vm_id = pinned(fleet, 'PIN_POLICY = "THREAD"', replace(SECOND_NODE, cores=((5, 6),)), vcpu=2)
    with pytest.raises(WrongState, match=r"has cores of another number of threads.*set move: cold for it"):
        fleet.vms.move(vm_id, "node2", LIVE)
    fleet.vms.move(vm_id, "node2", COLD)
    planned = fleet.vms.plans(places=PLACES)["node2"].vms[0].vm
    assert (planned.numa.nodes[0].cpus, planned.topology.threads) == ((5, 6), 2)


def test_encrypted_memory_moves_while_it_is_off_to_a_host_that_has_such(fleet):
    change(fleet, lambda vm: replace(vm, encryption=MemoryEncryption("SEV", 0)))
    with pytest.raises(Unsupported, match=r"its memory is encrypted \(SEV\).*Set move: cold"):
        fleet.vms.move(0, "node2", LIVE)
    with pytest.raises(WrongState, match="it encrypts no memory by SEV"):
        fleet.vms.move(0, "node2", COLD)
    fleet.hosts.update("node2", hardware=HostHardware(encryption=("SEV",)))
    assert fleet.vms.move(0, "node2", COLD).moving == "node2"


def test_a_machine_that_runs_with_other_processors_than_it_is_to_have_is_started_anew_first(fleet):
    vm_id = pinned(fleet, vcpu=2)
    fleet.vms.update(vm_id, template_of('PIN_POLICY = "CORE"', 1))
    obey(fleet, fleet.vms.plans())
    with pytest.raises(WrongState, match="it runs with other processors or memory of its host"):
        fleet.vms.move(vm_id, "node2", COLD)


@pytest.mark.parametrize("firmware", ["BIOS", "UEFI", "/usr/share/OVMF/OVMF_CODE.fd"])
@pytest.mark.parametrize("way", [LIVE, COLD])
def test_a_machine_moves_whatever_firmware_it_starts_by(fleet, firmware, way):
    change(fleet, lambda vm: replace(vm, os=replace(vm.os, firmware=firmware)))
    assert fleet.vms.move(0, "node2", way).moving == "node2"


@pytest.mark.parametrize("way", [LIVE, COLD])
def test_a_machine_with_an_encrypted_disk_moves(fleet, way):
    """Whether its secret is there, and its disk has to be copied, its new host sees."""
    change(fleet, with_disk(luks_secret="u"))
    assert fleet.vms.move(0, "node2", way).moving == "node2"


def test_snapshots_come_along_while_it_is_off(fleet):
    change(fleet, with_disk(snapshots=(Snapshot(0, "s", date=1, size=16),)))
    for way in ("", LIVE):
        with pytest.raises(Unsupported, match=r"its disk 0 has snapshots.*Set move: cold"):
            fleet.vms.move(0, "node2", way)
    assert fleet.vms.move(0, "node2", COLD).moving == "node2"


# -- a datastore that both hosts share ---------------------------------------------------------------------------------
@pytest.fixture
def common(fleet):
    """Both hosts show the same shared datastore. Returns what they show."""
    shared = Datastore(None, "nfs", DatastoreType.SYSTEM, shared=True, hosts=("node1", "node2"))
    fleet.datastores.allocate(shared)
    return f"{fleet.catalog()}.{'a' * 32}"


def shows(fleet, first, second):
    fleet.vms.observe([poll("node1", 0, datastore=first), poll("node2", datastore=second)])


@pytest.mark.parametrize("way", [LIVE, COLD])
def test_both_plans_say_that_its_files_stay(fleet, common, way):
    shows(fleet, common, common)
    change(fleet, with_disk(snapshots=(Snapshot(0, "s", date=1, size=16),)))
    fleet.vms.move(0, "node2", way)
    plans = fleet.vms.plans(places=PLACES)
    assert {host: plan.vms[0].move.shared for host, plan in plans.items()} == {"node1": True, "node2": True}
    assert {(plan.datastore.name, plan.datastore.mark) for plan in plans.values()} == {("nfs", common)}


def test_without_a_common_datastore_nothing_says_so(fleet):
    fleet.vms.move(0, "node2")
    plans = fleet.vms.plans(places=PLACES).values()
    assert {(plan.vms[0].move.shared, plan.datastore) for plan in plans} == {(False, None)}


def test_snapshots_need_a_host_of_the_same_datastore(fleet, common):
    fleet.hosts.allocate(Host(None, "node3", state=HostState.MONITORED, memory=9999, cpu=16.0))
    fleet.vms.observe([poll("node1", 0, datastore=common), poll("node2", datastore=common), poll("node3")])
    change(fleet, with_disk(snapshots=(Snapshot(0, "s", date=1, size=16),)))
    with pytest.raises(WrongState, match=r"host node3 has no shared datastore with node1, and snapshots"):
        fleet.vms.move(0, "node3", LIVE)
    # The scheduler would prefer the larger one.
    assert fleet.vms.move(0, "", LIVE).moving == "node2"


def test_a_host_that_does_not_show_the_datastore_gets_and_gives_nothing(fleet, common):
    for first, second, host in ((common, "", "node2"), ("", common, "node1")):
        shows(fleet, first, second)
        before = everything(fleet)
        with pytest.raises(WrongState, match=f"host {host} does not show shared datastore nfs.*Mount the shared"):
            fleet.vms.move(0, "node2")
        assert everything(fleet) == before


def test_no_machine_is_made_on_a_host_that_does_not_show_the_datastore(fleet, common):
    shows(fleet, common, "")
    outcomes, _warnings = reconcile(fleet, [dict(FIRST, name="new", host="node2")])
    assert "node2 does not show shared datastore nfs: its system datastore has no mark" in str(outcomes[0].error)
    assert "mount the shared datastore there" in str(outcomes[0].error)
    # Where none is pinned, it is made where the datastore is.
    outcomes, _warnings = reconcile(fleet, [{"name": "free", "template": "web"}])
    assert outcomes[0].after.host == "node1"


def test_a_plan_names_the_datastore_also_where_nobody_has_shown_it_yet(fleet, common):
    fleet.vms.action(0, "poweroff", VmOrders())
    datastore = fleet.vms.plans()["node1"].datastore
    assert (datastore.name, datastore.mark) == ("nfs", "")


def test_devices_that_wait_for_a_restart_come_along_while_it_is_off(fleet):
    orders = json.dumps({"refitted": True})
    fleet.store.db.execute("UPDATE vms SET orders = ?", (orders,))
    with pytest.raises(WrongState, match="it runs with other disks or NICs than it is to have"):
        fleet.vms.move(0, "node2")
    assert fleet.vms.move(0, "node2", COLD).moving == "node2"


@pytest.mark.parametrize(
    ("network", "found"),
    [
        ({"attributes": json.dumps({"ONE_NODE": "YES"})}, r"its network Public keeps to one node \(one_node\)"),
    ],
)
def test_networks_that_do_not_go_with_it_are_named(fleet, network, found):
    for column, value in network.items():
        fleet.store.db.execute(f"UPDATE networks SET {column} = ?", (value,))
    fleet.store.drop()
    with pytest.raises(Unsupported, match=found):
        fleet.vms.move(0, "node2")


DATA = [{"IMAGE": "demo"}, {"IMAGE": "data"}]


@pytest.mark.parametrize("shared", [True, False])
def test_a_persistent_image_has_to_be_seen_by_both_hosts(fleet, shared):
    image = fleet.images.allocate(Image(None, "data", type=ImageType.DATABLOCK, persistent=True))
    fleet.images.update(image.id, state=ImageState.READY, size=16, format="qcow2")
    obey(fleet, decide(fleet, {"name": "db", "template": "web", "host": "node1", "disks": DATA}))
    if not shared:
        fleet.hosts.update("node2", transfer=SSH)
        with pytest.raises(WrongState, match="host node2 does not see the file of persistent image data"):
            fleet.vms.move(1, "node2")
        return
    assert fleet.vms.move(1, "node2").moving == "node2"


def test_disks_on_a_former_content_of_their_image_go_where_that_is_seen(fleet):
    fleet.store.db.execute("UPDATE images SET generation = 4")
    fleet.hosts.allocate(Host(None, "far", state=HostState.MONITORED, memory=4096, cpu=16.0, transfer=SSH))
    with pytest.raises(WrongState, match="the image has another content by now"):
        fleet.vms.move(0, "far")
    assert fleet.vms.move(0, "node2").moving == "node2"


# -- nothing else is decided meanwhile ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "verb",
    [
        lambda vms: vms.action(0, "POWEROFF", VmOrders()),
        lambda vms: vms.action(0, "DONE", VmOrders()),
        lambda vms: vms.action(0, "RUNNING", VmOrders(operation="reboot")),
        lambda vms: vms.rename(0, "other"),
        lambda vms: vms.update(0, Template()),
        lambda vms: vms.recreate(0, Template()),
        lambda vms: vms.disk_save_as(0, 0, Image(None, "saved"), ""),
        lambda vms: vms.disk_snapshot(0, 0, "s", "present"),
        lambda vms: vms.move(0, "node2"),
        lambda vms: vms.move(0),
    ],
)
def test_nothing_is_decided_about_a_machine_that_moves(fleet, verb):
    fleet.vms.move(0, "node2")
    before = everything(fleet)
    with pytest.raises(WrongState, match=r"it moves from host node1 to host node2.*Run again, with both hosts"):
        verb(fleet.vms)
    assert everything(fleet) == before


@pytest.mark.parametrize("host", ["node1", "node2"])
@pytest.mark.parametrize("verb", ["delete", "forget"])
def test_a_host_with_an_open_move_stays(fleet, host, verb):
    fleet.vms.move(0, "node2")
    before = everything(fleet)
    with pytest.raises(InUse, match=r"web \(id 0\)"):
        getattr(fleet.hosts, verb)(host)
    assert everything(fleet) == before


def test_a_renamed_host_takes_its_moves_along(fleet):
    fleet.vms.move(0, "node2", away="node1")
    fleet.hosts.rename("node2", "b")
    fleet.hosts.rename("node1", "a")
    assert (move_of(fleet).source, move_of(fleet).target, move_of(fleet).away) == ("a", "b", "a")
    assert record(fleet).moving == "b"
    fleet.vms.record("b", [VmOutcome(0, record(fleet).generation, "RUNNING", moved="arrived")])
    assert (record(fleet).host, record(fleet).away) == ("b", "a")
    fleet.hosts.rename("a", "c")
    assert record(fleet).away == "c"
    fleet.hosts.delete("c")
    assert record(fleet).away == ""


# -- what plans say ----------------------------------------------------------------------------------------------------
def parts(plans):
    return {host: [(each.move.role, each.move.asks) for each in plan.vms] for host, plan in plans.items()}


def test_both_hosts_get_it_in_plans_of_one_number(fleet):
    fleet.hosts.update("node2", overhead=Overhead(fixed=1))
    fleet.vms.observe([poll("node1", 0), poll("node2", ports=(5900,))])
    fleet.vms.move(0, "node2")
    plans = fleet.vms.plans(places=PLACES, move_seconds=77)
    assert parts(plans) == {"node1": [(SOURCE, False)], "node2": [(TARGET, False)]}
    assert len({plan.number for plan in plans.values()}) == 1
    (here,), (there,) = plans["node1"].vms, plans["node2"].vms
    token = move_of(fleet).token
    assert {here.move.token, there.move.token} == {token}
    assert plans["node1"].moving == plans["node2"].moving == (token,)
    assert (here.generation, there.generation) == (record(fleet).generation,) * 2
    assert (here.move.peer, here.move.address, here.move.port, here.move.limit) == ("node2", "10.0.0.2", 4711, 77)
    # The target listens on all of its addresses, and the machine's console on another port there.
    assert (there.move.peer, there.move.address, there.move.port) == ("node1", "", 4711)
    assert (here.vm.graphics.port, there.vm.graphics.port) == (5900, 5901)
    assert replace(there.vm, graphics=here.vm.graphics) == here.vm
    assert (here.operation, there.operation, here.wanted, there.wanted) == ("", "", "RUNNING", "RUNNING")


def test_each_host_is_known_by_a_certificate_of_these_plans(fleet):
    fleet.vms.move(0, "node2")
    plans = fleet.vms.plans(places=PLACES)
    here, there = plans["node1"], plans["node2"]
    assert here.vms[0].move.certificate == there.certificate
    assert there.vms[0].move.certificate == here.certificate
    assert here.certificate != there.certificate
    for plan in plans.values():
        assert plan.key.startswith("-----BEGIN PRIVATE KEY-----\n")
        assert plan.key not in repr(plan)
        assert ssl.PEM_cert_to_DER_cert(plan.certificate)


def test_such_certificates_serve_both_ends_of_a_connection(fleet, tmp_path):
    fleet.vms.move(0, "node2")
    plans = fleet.vms.plans(places=PLACES)
    ends = []
    for host, kind in (("node1", ssl.PROTOCOL_TLS_CLIENT), ("node2", ssl.PROTOCOL_TLS_SERVER)):
        plan, context = plans[host], ssl.SSLContext(kind)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_verify_locations(cadata=plan.vms[0].move.certificate)
        (tmp_path / host).write_text(plan.key + plan.certificate)
        context.load_cert_chain(tmp_path / host)
        ends.append((context, ssl.MemoryBIO(), ssl.MemoryBIO()))
    (client, from_server, from_client), (server, _b, _c) = ends
    one = client.wrap_bio(from_server, from_client)
    other = server.wrap_bio(from_client, from_server, server_side=True)
    left = [one, other]
    for _round in range(6):
        for end in tuple(left):
            try:
                end.do_handshake()
                left.remove(end)
            except ssl.SSLWantReadError:
                pass
    assert left == []


def test_plans_without_moves_that_begin_hold_no_key(fleet, monkeypatch):
    monkeypatch.setattr(run_certificates, "key_pair", lambda _name: pytest.fail("nobody needs it"))
    fleet.vms.move(0, "node2")
    plans = fleet.vms.plans()
    assert parts(plans) == {"node1": [(SOURCE, True)], "node2": [(TARGET, True)]}
    assert {(plan.key, plan.certificate, plan.vms[0].move.certificate) for plan in plans.values()} == {("", "", "")}


def test_a_front_end_without_openssl_is_told_so(fleet, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda *_given, **_named: None)
    fleet.vms.move(0, "node2")
    with pytest.raises(MissingDependency, match="openssl"):
        fleet.vms.plans(places=PLACES)


def test_a_move_begins_once_and_is_asked_for_by_the_same_token_ever_after(fleet):
    fleet.vms.move(0, "node2")
    first = fleet.vms.plans(places=PLACES)
    again = fleet.vms.plans(places=PLACES)
    assert parts(again) == {"node1": [(SOURCE, True)], "node2": [(TARGET, True)]}
    assert again["node1"].number == first["node1"].number + 1
    for host in ("node1", "node2"):
        assert again[host].vms[0].move.token == first[host].vms[0].move.token
        assert again[host].vms[0].generation == first[host].vms[0].generation


@pytest.mark.parametrize(("hosts", "role"), [(["node1"], SOURCE), (["node2"], TARGET)])
def test_a_move_does_not_begin_with_one_host_alone(fleet, hosts, role):
    fleet.vms.move(0, "node2")
    assert parts(fleet.vms.plans(hosts, places=PLACES)) == {hosts[0]: [(role, True)]}
    # That host may have said by then that it is not there, and never will be.
    assert parts(fleet.vms.plans(places=PLACES)) == {"node1": [(SOURCE, True)], "node2": [(TARGET, True)]}


def test_a_move_does_not_begin_while_a_host_is_silent(fleet):
    fleet.vms.move(0, "node2")
    fleet.vms.observe([poll("node1", 0), Observed("node2", reached=False)])
    assert parts(fleet.vms.plans(places=PLACES)) == {"node1": [(SOURCE, True)], "node2": [(TARGET, True)]}


def test_other_hosts_get_no_plan_for_it(fleet):
    fleet.hosts.allocate(Host(None, "node3", state=HostState.MONITORED, memory=1024, cpu=16.0))
    fleet.vms.move(0, "node2")
    assert fleet.vms.plans(["node3"], places=PLACES) == {}


def test_the_target_gets_what_its_disks_rest_on(fleet):
    for name in ("node1", "node2"):
        fleet.store.db.execute("UPDATE hosts SET transfer = ? WHERE name = ?", (SSH, name))
    fleet.store.drop()
    fleet.vms.move(0, "node2")
    plans = fleet.vms.plans(places=PLACES)
    assert [(each.kind, each.image) for each in plans["node2"].images] == [(BASE, "demo")]
    assert plans["node1"].images == plans["node2"].images
    # Nobody is sent anything who is only asked.
    assert [plan.images for plan in fleet.vms.plans(places=PLACES).values()] == [(), ()]


def test_the_target_gets_the_files_of_its_context(fleet, tmp_path):
    script = tmp_path / "init.sh"
    script.write_bytes(b"#!/bin/sh\n")
    obey(fleet, decide(fleet, dict(WEB, name="files", host="node1", context={"FILES": str(script)})))
    fleet.vms.move(1, "node2")
    plans = fleet.vms.plans(places=PLACES)
    assert (list(plans["node1"].sources), list(plans["node2"].sources)) == ([], [str(script)])
    assert [list(plan.sources) for plan in fleet.vms.plans(places=PLACES).values()] == [[], []]


def test_both_hosts_filter_what_it_sends(fleet):
    filtering = json.dumps({"FILTERS_ON_NODE": "YES", "FILTER_MAC_SPOOFING": "YES"})
    fleet.store.db.execute("UPDATE networks SET attributes = ?", (filtering,))
    obey(fleet, decide(fleet, dict(WEB, name="beside", host="node2")))
    plans = go(fleet, "node2")
    assert guards(plans) == {"node1": {0}, "node2": {0, 1}}
    assert {host: set(plan.machines) for host, plan in plans.items()} == {"node1": {0}, "node2": {0, 1}}
    # The one that it has left hears of all that it has; the other has all of it already.
    after = decide(fleet, dict(WEB, name="new", host="node1"), dict(WEB, name="other", host="node2"))
    assert guards(after) == {"node1": {2}, "node2": {3} if after["node2"].guards_since is not None else {0, 1, 3}}
    assert after["node1"].guards_since is None
    assert set(after["node1"].machines) == {2}


def test_a_host_that_was_given_only_some_filters_is_given_that_of_what_comes(fleet):
    filtering = json.dumps({"FILTERS_ON_NODE": "YES", "FILTER_MAC_SPOOFING": "YES"})
    fleet.store.db.execute("UPDATE networks SET attributes = ?", (filtering,))
    decide(fleet, dict(WEB, name="beside", host="node2"))
    finish(fleet, fleet.vms.plans())
    finish(fleet, decide(fleet, dict(WEB, name="further", host="node2")))
    fleet.vms.move(0, "node2")
    plans = fleet.vms.plans(places=PLACES)
    assert plans["node2"].guards_since is not None
    assert (guards(plans), plans["node2"].machines) == ({"node1": {0}, "node2": {0}}, (0,))
    assert fleet.networks.machines() == {"node1": [0], "node2": [0, 1, 2]}


def test_a_host_that_was_given_no_filters_yet_is_given_all_with_that_of_what_comes(fleet):
    filtering = json.dumps({"FILTERS_ON_NODE": "YES", "FILTER_MAC_SPOOFING": "YES"})
    fleet.store.db.execute("UPDATE networks SET attributes = ?", (filtering,))
    obey(fleet, decide(fleet, dict(WEB, name="beside", host="node2")))
    finish(fleet, decide(fleet, dict(WEB, name="further", host="node1")))
    fleet.vms.move(0, "node2")
    plans = fleet.vms.plans(places=PLACES)
    assert {host: plan.guards_since is None for host, plan in plans.items()} == {"node1": False, "node2": True}
    assert guards(plans) == {"node1": {0}, "node2": {0, 1}}


# -- what is left of moves ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("host", ["node1", "node2"])
@pytest.mark.parametrize("where", ["open", "arrived", "stayed", "done"])
def test_a_host_clears_away_what_is_left_of_a_decided_move(fleet, stage, host, where):
    fleet.vms.move(0, "node2")
    token, uuid = move_of(fleet).token, record(fleet).uuid
    generation = record(fleet).generation
    if where == "arrived":
        fleet.vms.record("node2", [VmOutcome(0, generation, "RUNNING", moved="arrived")])
    elif where in ("stayed", "done"):
        fleet.vms.record("node1", [VmOutcome(0, generation, "RUNNING", moved="stayed")])
    if where == "done":
        fleet.vms.action(0, "DONE", VmOrders())
        fleet.vms.record("node1", [VmOutcome(0, record(fleet).generation, "DONE")])
    own = "node2" if where == "arrived" else "node1"
    fleet.vms.observe([poll(each, *([0] if own == each else [])) for each in ("node1", "node2")])
    before = fleet.vms.plans(places=PLACES)
    fleet.vms.observe([poll(host, moves=(MoveSeen(0, token, stage),))])
    plans = fleet.vms.plans(places=PLACES)
    kept = stage in OVER or where == "open" or (where != "done" and host == own)
    leftovers = {name: plan.leftovers for name, plan in plans.items() if plan.leftovers}
    assert leftovers == ({} if kept else {host: (Leftover(0, uuid, token),)})
    if where != "open":
        assert before == {}
        assert {name: plan.vms for name, plan in plans.items()} == ({} if kept else {host: ()})


def test_what_has_left_is_kept_until_it_was_found_where_it_went(fleet):
    fleet.vms.move(0, "node2")
    token, generation = move_of(fleet).token, record(fleet).generation
    fleet.vms.record("node1", [VmOutcome(0, generation, "UNKNOWN", moved="left")])
    fleet.vms.observe(
        [poll("node1", moves=(MoveSeen(0, token, LEFT),)), poll("node2", moves=(MoveSeen(0, token, COMING),))]
    )
    plans = fleet.vms.plans()
    assert {host: (plan.leftovers, plan.moving) for host, plan in plans.items()} == {"node2": ((), (token,))}
    finish(fleet, plans)
    plans = fleet.vms.plans()
    assert {host: plan.leftovers for host, plan in plans.items()} == {
        "node1": (Leftover(0, record(fleet).uuid, token),)
    }


def test_what_no_machine_of_the_catalog_has_left_is_left_alone(fleet):
    fleet.vms.observe([poll("node1", 0), poll("node2", moves=(MoveSeen(77, "a" * 32, COMING),))])
    assert fleet.vms.plans() == {}


def test_a_copy_of_another_move_than_the_open_one_is_cleared_away(fleet):
    fleet.vms.move(0, "node2")
    fleet.vms.observe([poll("node1", 0), poll("node2", moves=(MoveSeen(0, "a" * 32, COMING),))])
    plans = fleet.vms.plans(places=PLACES)
    assert plans["node2"].leftovers == (Leftover(0, record(fleet).uuid, "a" * 32),)


# -- polls -------------------------------------------------------------------------------------------------------------
def test_a_machine_that_moves_is_unknown_on_neither_host_and_missing_on_none(fleet):
    fleet.vms.move(0, "node2")
    seen_there = ObservedVm(0, record(fleet).uuid, "RUNNING", memory=128)
    moved = fleet.vms.observe([poll("node1"), Observed("node2", vms=(seen_there,))])
    assert moved == []
    assert fleet.vms.polls.unknown == {"node1": [], "node2": []}
    assert record(fleet).error == ""


@pytest.mark.parametrize("known", [True, False])
def test_what_a_move_left_is_no_unknown_machine(fleet, known):
    go(fleet, "node2")
    left = ObservedVm(0, record(fleet).uuid if known else "another", "POWEROFF", memory=128)
    moves = (MoveSeen(0, move_of(fleet).token, LEFT),)
    fleet.vms.observe([poll("node2", 0), Observed("node1", vms=(left,), moves=moves)])
    assert fleet.vms.polls.unknown["node1"] == ([] if known else [left])
    fleet.vms.observe([poll("node2", 0), Observed("node1", vms=(left,))])
    assert fleet.vms.polls.unknown["node1"] == [left]


@pytest.mark.parametrize("stage", [*STAGES, ""])
@pytest.mark.parametrize("runs", [True, False])
def test_a_machine_that_its_former_host_still_runs_is_an_error_until_one_of_both_has_ended(fleet, stage, runs):
    go(fleet, "node2")
    still = ObservedVm(0, record(fleet).uuid, "RUNNING", memory=128)
    moves = (MoveSeen(0, move_of(fleet).token, stage),) if stage else ()
    at_first = Observed("node1", vms=(still,), moves=moves)
    at_second = poll("node2", 0, state="RUNNING" if runs else "POWEROFF")
    (shown,) = fleet.vms.observe([at_second, at_first])
    assert shown.error == record(fleet).error == shown.runs_elsewhere
    assert ("as well as on host node2" if runs else "while the catalog has it on host node2") in shown.error
    assert "nothing is done about it until then" in shown.error
    assert shown.state == ("RUNNING" if runs else "POWEROFF")
    # It takes memory there, and nothing is cleared away or decided.
    assert fleet.vms.polls.unknown_memory["node1"] == 128
    assert fleet.vms.plans() == {}
    for verb in (
        lambda: fleet.vms.action(0, "POWEROFF", VmOrders()),
        lambda: fleet.vms.action(0, "DONE", VmOrders()),
        lambda: fleet.vms.move(0, "node1"),
    ):
        with pytest.raises(WrongState, match="find out which of both is to have it"):
            verb()
    outcomes, _warnings = reconcile(fleet, [WEB])
    assert "it runs on host node1" in str(next(each.error for each in outcomes if each.error))
    # It is the same once more, and as long as that host does not answer.
    assert fleet.vms.observe([at_second, at_first]) == []
    assert fleet.vms.observe([at_second, Observed("node1", reached=False)]) == []
    assert list(fleet.vms.polls.doubled) == [0]
    steps = len(fleet.vms.history(0))
    fleet.vms.observe([at_second, poll("node1", moves=moves)])
    assert (record(fleet).error, fleet.vms.polls.doubled) == ("", {})
    assert len(fleet.vms.history(0)) == steps + 1
    assert fleet.vms.action(0, "DONE", VmOrders()).wanted == "DONE"


def test_a_machine_that_waits_for_its_target_is_not_started_there_while_its_source_runs_it(fleet):
    fleet.vms.move(0, "node2")
    token, generation = move_of(fleet).token, record(fleet).generation
    fleet.vms.record("node1", [VmOutcome(0, generation, "UNKNOWN", moved="left")])
    still = Observed("node1", vms=(ObservedVm(0, record(fleet).uuid, "RUNNING"),), moves=(MoveSeen(0, token, LEFT),))
    target = poll("node2", moves=(MoveSeen(0, token, COMING),))
    fleet.vms.observe([still, target])
    assert fleet.vms.plans() == {}
    assert "it runs on host node1 while the catalog has it on host node2" in record(fleet).error
    # A host that is given up says nothing more.
    fleet.vms.observe([poll("node1", moves=(MoveSeen(0, token, LEFT),)), target])
    assert record(fleet).error == ""
    assert list(fleet.vms.plans()) == ["node2"]


@pytest.mark.parametrize(
    ("stage", "state", "hidden"),
    [
        (COMING, "POWEROFF", True),
        (COMING, "UNKNOWN", True),
        (COMING, "RUNNING", False),
        (LEAVING, "POWEROFF", True),
        (LEAVING, "UNKNOWN", False),
        (LEFT, "UNKNOWN", False),
        (LEFT, "RUNNING", False),
    ],
)
def test_only_what_stands_still_is_hidden_as_what_a_move_leaves(fleet, stage, state, hidden):
    go(fleet, "node2")
    left = ObservedVm(0, record(fleet).uuid, state, memory=128)
    there = Observed("node1", vms=(left,), moves=(MoveSeen(0, move_of(fleet).token, stage),))
    fleet.vms.observe([poll("node2", 0), there])
    assert fleet.vms.polls.unknown["node1"] == ([] if hidden else [left])


def test_a_run_without_moves_asks_the_catalog_nothing_about_them(fleet):
    counted = []
    fleet.store.db.set_trace_callback(counted.append)
    fleet.vms.observe([poll("node1", 0), poll("node2")])
    assert fleet.vms.plans() == {}
    fleet.store.db.set_trace_callback(None)
    assert [text for text in counted if "move_host" in text and "UNION ALL" not in text] == []


# -- short forms -------------------------------------------------------------------------------------------------------
def change(engine, alter):
    """Make the machine another one, as if it had been made so."""
    body = json.dumps(to_plain(alter(vm_of(row(engine)))))
    engine.store.db.execute("UPDATE vms SET body = ? WHERE id = 0", (body,))


def go(engine, target, **values):
    """Have the machine arrive, and return its plans."""
    engine.vms.move(0, target, **values)
    plans = engine.vms.plans(places={name: MeetingPlace(name) for name in ("node1", "node2", "node3")})
    for host, plan in plans.items():
        outcomes = [
            VmOutcome(
                each.vm.vm_id, each.generation, "RUNNING", moved="arrived" if each.move.role == TARGET else "left"
            )
            for each in plan.vms
        ]
        engine.vms.record(host, outcomes, plan.number)
    return plans


def finish(engine, plans):
    """What nodes report that carry out all of their plans."""
    for host, plan in plans.items():
        outcomes = [VmOutcome(each.vm.vm_id, each.generation, each.wanted, True) for each in plan.vms]
        engine.vms.record(host, outcomes, plan.number)


def guards(plans):
    return {host: {guard.vm_id for guard in plan.guards} for host, plan in plans.items()}
