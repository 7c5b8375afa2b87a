# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines of the catalog, verb by verb: what each decision writes, what nodes report, and what goes when one ends."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded import vms
from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmOrders, VmRequest
from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    Conflict,
    InvalidValue,
    NebulaError,
    NoCapacity,
    NotFound,
    WrongState,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.network import AddressRange, Network
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed, ObservedVm, VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.states import (
    HostState,
    ImageState,
    ImageType,
    LcmState,
    VmState,
    vm_state_name,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.plugins.module_utils.model.transfer import SSH, comes_from, surely_comes
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.decide import reconcile
from ansible_collections.nebula.provision.plugins.module_utils.text.template import parse
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.conftest import (
    decide,
    obey,
    row,
)

WEB = {"name": "web", "template": "web"}
PLAIN = parse('CPU = 0.5\nMEMORY = 128\nDISK = [ IMAGE = "demo" ]\nNIC = [ NETWORK = "Public" ]\n')
VNC = replace(PLAIN, attributes=(*PLAIN.attributes, ("GRAPHICS", (("TYPE", "VNC"),))))
ERROR = {"kind": "HypervisorError", "asked": "VM web", "found": "it broke", "remedy": "Mend it"}


@pytest.fixture
def web(inside):
    """A machine that runs."""
    obey(inside, decide(inside, WEB))
    return inside


def record(engine, vm_id=0):
    (found,) = engine.vms.pool(ids=[vm_id], done=True)
    return found


def say(engine, state, error=None, vm_id=0, generation=None, **values):
    """What a node reports of one machine."""
    generation = record(engine, vm_id).generation if generation is None else generation
    return engine.vms.record("node1", [VmOutcome(vm_id, generation, state, True, error)], **values)


# -- making ------------------------------------------------------------------------------------------------------------


def test_of_no_requests_nothing_comes(inside):
    assert inside.vms.instantiate([]) == []
    assert inside.store.rows("SELECT * FROM sequences WHERE name = 'vms'") == []


def test_a_machine_is_stored_as_it_is_asked_for(inside):
    (made,) = inside.vms.instantiate(
        [VmRequest("a-3", PLAIN, template_name="plain", pattern="a-%i", position=3, wanted="POWEROFF")]
    )
    assert (made.id, made.name, made.template, made.pattern, made.position) == (0, "a-3", "plain", "a-%i", 3)
    assert (made.state, made.wanted, made.host, made.hypervisor) == ("PROLOG", "POWEROFF", "node1", "kvm")
    assert (made.cpu, made.memory, made.vcpu, made.generation) == (0.5, 128, None, 1)
    assert made.request == PLAIN
    assert made.disks[0]["image"] == "demo"
    assert (made.nics[0]["ip"], made.nics[0]["network"]) == ("10.66.0.10", "Public")
    # It has no context, and so is told nothing.
    assert (made.hostname, made.addresses) == ("", None)
    assert list(made.warnings) == []
    assert replace(made, warnings=()) == record(inside)
    host = inside.hosts.info("node1")
    assert (host.memory_used, host.cpu_used, host.vms) == (128, 0.5, 1)


def test_ids_that_a_host_has_for_somebody_else_are_passed_over(inside):
    inside.vms.observe([Observed("node1", foreign_ids=(0, 1, 3))])
    made = inside.vms.instantiate([VmRequest(name, PLAIN) for name in "ab"])
    assert [each.id for each in made] == [2, 4]
    assert [each.id for each in inside.vms.instantiate([VmRequest("c", PLAIN)])] == [5]


def test_machines_of_one_network_on_two_nodes_are_told_and_may_be_forbidden(inside):
    inside.hosts.allocate(Host(None, "node2", state=HostState.MONITORED, memory=4096, cpu=16.0))
    inside.vms.instantiate([VmRequest(name, PLAIN, host=host) for name, host in (("a", "node1"), ("b", "node2"))])
    inside.vms.instantiate([VmRequest("c", PLAIN, host="node2")])
    (spread,) = inside.networks.spread_out()
    assert (spread.network, spread.hosts) == ("Public", {"node1": 1, "node2": 2})
    assert str(spread).startswith("network Public: its machines are on 2 nodes (1 on node1, 2 on node2), whose bridges")
    # One that is to end counts no more.
    inside.vms.action(0, "DONE", VmOrders())
    assert inside.networks.spread_out() == []
    network = inside.networks.info("Public")
    inside.networks.update(network.id, attributes={**network.attributes, "ONE_NODE": "YES"})
    assert [each.host for each in inside.vms.instantiate([VmRequest(name, PLAIN) for name in "def"])] == ["node2"] * 3
    with pytest.raises(WrongState, match="network Public keeps to one node"), inside.attempt():
        inside.vms.instantiate([VmRequest("g", PLAIN, host="node1")])
    assert inside.networks.spread_out() == []


def test_a_network_that_keeps_to_one_node_does_so_from_its_first_batch(inside):
    inside.hosts.allocate(Host(None, "node2", state=HostState.MONITORED, memory=4096, cpu=16.0))
    network = inside.networks.info("Public")
    inside.networks.update(network.id, attributes={**network.attributes, "ONE_NODE": "YES"})
    assert len({each.host for each in inside.vms.instantiate([VmRequest(name, PLAIN) for name in "abcd"])}) == 1


def test_a_nic_that_comes_later_keeps_to_the_node_of_its_network(inside):
    inside.hosts.allocate(Host(None, "node2", state=HostState.MONITORED, memory=4096, cpu=16.0))
    network = inside.networks.info("Public")
    inside.networks.update(network.id, attributes={**network.attributes, "ONE_NODE": "YES"})
    inside.vms.instantiate([VmRequest("a", PLAIN, host="node1")])
    bare = PLAIN.without("NIC")
    (made,) = inside.vms.instantiate([VmRequest("b", bare, host="node2", wanted="POWEROFF")])
    for change in (inside.vms.update, inside.vms.recreate):
        with pytest.raises(Conflict, match="network Public: one_node: its machines would be on 2"), inside.attempt():
            change(made.id, PLAIN)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (PLAIN.with_vector("DISK", {"IMAGE": "nosuch"}), "VM a, DISK 0: image 'nosuch'"),
        (PLAIN.with_vector("NIC", {"NETWORK": "nosuch"}), "VM a, NIC 0: network 'nosuch'"),
        (PLAIN.with_vector("CONTEXT", {"FILES_DS": '$FILE[IMAGE="nosuch"]'}), "image 'nosuch'"),
    ],
)
def test_what_a_template_names_has_to_be_there(inside, template, says):
    with pytest.raises(NotFound, match=says), inside.attempt():
        inside.vms.instantiate([VmRequest("a", template)])


def test_an_image_that_no_machine_may_have_names_the_machine_and_the_disk(inside):
    inside.images.update("demo", state=ImageState.DISABLED)
    with pytest.raises(WrongState, match="VM a, disk 0: image demo"), inside.attempt():
        inside.vms.instantiate([VmRequest("a", PLAIN)])


# -- console ports -----------------------------------------------------------------------------------------------------


def ports(engine):
    return [tuple(each) for each in engine.store.rows("SELECT port, vm_id FROM vnc_ports ORDER BY port")]


def test_a_port_follows_the_id_and_steps_aside_for_one_that_is_taken(inside):
    inside.vms.observe([Observed("node1", ports=(5901, 5902))])
    inside.vms.instantiate([VmRequest(name, VNC) for name in "ab"])
    assert ports(inside) == [(5900, 0), (5903, 1)]
    # What the catalog itself gave to a machine is taken too.
    inside.vms.observe([Observed("node1", ports=(5902,))])
    inside.vms.instantiate([VmRequest("c", VNC)])
    assert ports(inside) == [(5900, 0), (5903, 1), (5904, 2)]


def test_after_the_last_port_comes_the_first_and_then_none(inside):
    taken = tuple(range(5901, vms.LAST_VNC_PORT + 1))
    inside.vms.observe([Observed("node1", ports=taken, foreign_ids=(0,))])
    inside.vms.instantiate([VmRequest("a", VNC)])
    assert ports(inside) == [(5900, 1)]
    with pytest.raises(NoCapacity) as caught, inside.attempt():
        inside.vms.instantiate([VmRequest("b", VNC)])
    assert caught.value.asked == "VM b: graphics port above 5900 on host node1"
    assert caught.value.found == "all are taken"
    assert "Leave GRAPHICS/PORT out" in caught.value.remedy


def test_a_port_that_is_asked_for_is_had_or_refused(inside):
    fixed = replace(PLAIN, attributes=(*PLAIN.attributes, ("GRAPHICS", (("TYPE", "VNC"), ("PORT", "6000")))))
    inside.vms.instantiate([VmRequest("a", fixed)])
    assert ports(inside) == [(6000, 0)]
    with pytest.raises(NoCapacity, match="VM b: graphics port 6000 on host node1: it is taken"), inside.attempt():
        inside.vms.instantiate([VmRequest("b", fixed)])
    # On another host it is free.
    inside.hosts.allocate(Host(None, "node2", state=HostState.MONITORED, memory=4096, cpu=16.0))
    inside.vms.instantiate([VmRequest("b", fixed, host="node2")])
    assert ports(inside) == [(6000, 0), (6000, 1)]


# -- acting ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "wanted", "way"),
    [
        ("POWEROFF", "RUNNING", "BOOT_POWEROFF"),
        ("SUSPENDED", "RUNNING", "BOOT_SUSPENDED"),
        ("UNKNOWN", "RUNNING", "BOOT_UNKNOWN"),
        ("BOOT_FAILURE", "RUNNING", "BOOT"),
        ("RUNNING", "POWEROFF", "SHUTDOWN_POWEROFF"),
        ("RUNNING", "SUSPENDED", "SAVE_SUSPEND"),
        ("POWEROFF", "DONE", "EPILOG"),
    ],
)
def test_a_machine_shows_on_which_way_it_is(web, before, wanted, way):
    web.vms.action(0, "POWEROFF", VmOrders())
    say(web, before)
    found = web.vms.action(0, wanted, VmOrders())
    assert (found.state, found.wanted) == (way, wanted)
    orders = json.loads(row(web)["orders"])
    assert (orders["found"], orders["previous"]) == (before, before)


def test_an_operation_leaves_a_machine_running(web):
    found = web.vms.action(0, "RUNNING", VmOrders(operation="reboot"))
    assert (found.state, found.wanted) == ("RUNNING", "RUNNING")
    assert web.vms.history(0)[-1]["action"] == "reboot"


def test_each_decision_is_a_generation_and_clears_the_error(web):
    web.vms.action(0, "POWEROFF", VmOrders())
    say(web, "RUNNING", ERROR)
    before = record(web)
    assert before.error == "VM web: it broke. Mend it"
    after = web.vms.action(0, "POWEROFF", VmOrders())
    assert (after.generation, after.error) == (before.generation + 1, "")


@pytest.mark.parametrize("verb", [
    lambda engine: engine.vms.action(99, "RUNNING", VmOrders()),
    lambda engine: engine.vms.update(99, PLAIN),
    lambda engine: engine.vms.recreate(99, PLAIN),
    lambda engine: engine.vms.disk_snapshot(99, 0, "a", "present"),
    lambda engine: engine.vms.disk_save_as(99, 0, Image(None, "a"), "agent"),
])  # fmt: skip
def test_a_machine_that_is_not_there_is_told(inside, verb):
    with pytest.raises(NotFound, match=r"VM 99: the catalog has none of this id\. List them with"):
        verb(inside)


# -- changing ----------------------------------------------------------------------------------------------------------


def test_what_only_the_catalog_remembers_needs_no_node(web):
    before = record(web)
    described = replace(before.request, attributes=(*before.request.attributes, ("DESCRIPTION", "of the web")))
    after = web.vms.update(0, described)
    assert (after.request, after.generation, after.state) == (described, before.generation, "RUNNING")
    assert web.vms.plans() == {}


def test_what_a_machine_takes_more_of_has_to_be_there(web):
    with pytest.raises(NoCapacity, match="VM web: 5000 MiB"), web.attempt():
        web.vms.update(0, record(web).request.merged(Template.from_mapping({"MEMORY": "5000"})))
    assert web.hosts.info("node1").memory_used == 128
    # What it has itself counts for it.
    web.vms.update(0, record(web).request.merged(Template.from_mapping({"MEMORY": "4096"})))
    assert web.hosts.info("node1").memory_used == 4096
    # It keeps what it has even where that is more than there is by now.
    web.hosts.update("node1", memory=1000)
    web.vms.update(0, record(web).request.merged(Template.from_mapping({"MEMORY": "2000"})))
    assert web.hosts.info("node1").memory_used == 2000


def test_a_console_comes_and_goes_with_its_port(web):
    request = record(web).request
    with_console = web.vms.update(0, request.with_vector("GRAPHICS", {"TYPE": "VNC"}))
    assert with_console.graphics["port"] == 5900
    assert ports(web) == [(5900, 0)]
    moved = web.vms.update(0, request.with_vector("GRAPHICS", {"TYPE": "VNC", "PORT": "6001"}))
    # Its domain may listen on the old one until its node has done that.
    assert (moved.graphics["port"], ports(web)) == (6001, [(-5900, 0), (6001, 0)])
    say(web, "POWEROFF")
    assert ports(web) == [(6001, 0)]
    web.vms.update(0, request)
    assert ports(web) == [(-6001, 0)]
    say(web, "POWEROFF")
    assert ports(web) == []


def console(port):
    return {"attributes": {"GRAPHICS": {"TYPE": "VNC", "PORT": str(port)}}}


def test_a_port_that_a_machine_is_to_have_no_more_is_its_own_until_that_is_done(inside):
    obey(inside, decide(inside, dict(WEB, **console(6000))))
    anew, taker = dict(ANEW, **console(6001)), {"name": "taker", "template": "web", **console(6000)}
    decide(inside, anew)
    # Nobody gets it who did not ask for it, either.
    assert inside.vms._free_port(inside.hosts.info("node1"), 6000, 7) == 6002
    (said,) = refused(inside, taker)
    assert "VM taker: graphics port 6000 on host node1: VM web (id 0) has it until it is made anew, or was off" in said
    assert "Run again when that is done, or leave GRAPHICS/PORT out" in said
    # Books and repair know of it.
    assert [each.kind for each in inside.ledger().findings] == ["machine-unfinished"]
    assert inside.repair() == []
    # A host that failed has the old one yet, whatever it does with it.
    say(inside, "RUNNING", ERROR)
    assert ports(inside) == [(-6000, 0), (6001, 0)]
    # On the way back it is the machine's own.
    decide(inside, dict(ANEW, **console(6000)))
    assert ports(inside) == [(-6001, 0), (6000, 0)]
    plans = decide(inside, anew)
    assert ports(inside) == [(-6000, 0), (6001, 0)]
    obey(inside, plans)
    assert ports(inside) == [(6001, 0)]
    obey(inside, decide(inside, taker))
    assert inside.ledger().findings == ()


def test_a_port_of_one_that_is_to_be_off_is_free_once_it_is(inside):
    obey(inside, decide(inside, dict(WEB, **console(6000))))
    off = dict(WEB, **console(6001), state="poweroff")
    plans = decide(inside, off)
    say(inside, "RUNNING", ERROR)
    assert ports(inside) == [(-6000, 0), (6001, 0)]
    # By itself, as its guest may be told.
    inside.vms.observe([Observed("node1", vms=(ObservedVm(0, record(inside).uuid, "POWEROFF"),))])
    assert ports(inside) == [(6001, 0)] and plans["node1"].vms[0].wanted == "POWEROFF"


def test_a_machine_that_is_made_anew_as_it_was_has_its_port_throughout(inside):
    obey(inside, decide(inside, dict(WEB, **console(6000))))
    plans = decide(inside, dict(ANEW, **console(6000), memory=256))
    assert ports(inside) == [(6000, 0)]
    obey(inside, plans)
    assert ports(inside) == [(6000, 0)]


def test_a_port_goes_with_its_machine_whoever_held_it(inside):
    obey(inside, decide(inside, dict(WEB, **console(6000))))
    decide(inside, dict(ANEW, **console(6001)))
    obey(inside, decide(inside, dict(WEB, state="absent")))
    assert ports(inside) == []


def test_a_disk_that_is_there_stays_as_it_was_made(web):
    """Its image went on since."""
    before = json.loads(row(web)["body"])["disks"][0]
    web.images.update("demo", generation=5, format="raw", source="/elsewhere")
    web.vms.update(0, record(web).request.merged(Template.from_mapping({"CPU": "1"})))
    assert json.loads(row(web)["body"])["disks"][0] == before


def test_a_machine_that_is_made_anew_has_new_disks_and_its_own_addresses(web):
    before = record(web)
    web.images.update("demo", generation=5)
    after = web.vms.recreate(0, before.request.merged(Template.from_mapping({"MEMORY": "256"})))
    assert (after.id, after.uuid, after.state, after.memory) == (before.id, before.uuid, "PROLOG", 256)
    assert after.nics == before.nics
    assert json.loads(row(web)["body"])["disks"][0]["generation"] == 5
    assert row(web)["seq"] == 1
    orders = json.loads(row(web)["orders"])
    assert (orders["operation"], orders["hard"]) == ("recreate", True)


def test_a_disk_grows_by_what_its_machine_asks_for_and_not_with_its_image(web):
    web.images.update("demo", size=500)
    before = record(web).disks[0]
    web.vms.update(0, record(web).request.merged(Template.from_mapping({"CPU": "1"})))
    assert record(web).disks[0] == before
    vector = record(web).request.vectors("DISK")[0]
    web.vms.update(0, record(web).request.with_vectors("DISK", [{**vector, "SIZE": "900"}]))
    assert [disk["size"] for disk in record(web).disks] == [900]
    assert json.loads(row(web)["orders"])["grown"] == [0]
    web.images.update("demo", size=2000)
    web.vms.update(0, record(web).request.merged(Template.from_mapping({"CPU": "2"})))
    assert [disk["size"] for disk in record(web).disks] == [900]
    # It keeps what it has where nothing is asked for any more.
    web.vms.update(0, record(web).request.with_vectors("DISK", [vector]))
    assert [disk["size"] for disk in record(web).disks] == [900]


@pytest.mark.parametrize(
    ("said", "target"),
    [({"TARGET": "sdc"}, "sdc"), ({"DEV_PREFIX": "sd"}, "sdb"), ({"DEV_PREFIX": "vd"}, "vda"), ({}, "vda")],
)
def test_a_disk_is_where_its_list_says_or_stays_where_it_is(web, said, target):
    web.vms.update(0, record(web).request.with_vectors("DISK", [{"IMAGE": "demo", **said}]))
    assert [(disk["disk_id"], disk["target"]) for disk in record(web).disks] == [(0, target)]


def test_what_a_machine_has_of_each_device_is_told_for_its_list(web):
    has = web.vms.devices(0)
    assert [(each.values["IMAGE"], each.own, each.boots) for each in has["DISK"]] == [("demo", True, True)]
    assert [each.values["IP"] for each in has["NIC"]] == ["10.66.0.10"]


def test_a_nic_that_changes_keeps_its_lease_while_others_come(web):
    before = record(web).nics[0]
    nics = [{"NETWORK": "Public", "MODEL": model} for model in ("e1000", "pcnet", "rtl8139")]
    after = web.vms.update(0, record(web).request.with_vectors("NIC", nics)).nics
    assert after[0] == before
    assert [(nic["nic_id"], nic["ip"]) for nic in after] == [(0, "10.66.0.10"), (1, "10.66.0.11"), (2, "10.66.0.12")]


def test_a_machine_with_other_nics_gets_other_addresses(web):
    nic = {"NETWORK": "Public", "IP": "10.66.0.50"}
    after = web.vms.recreate(0, record(web).request.with_vectors("NIC", [nic]))
    assert [each["ip"] for each in after.nics] == ["10.66.0.50"]
    # What it had it has until its node has done so.
    assert web.networks.info("Public").address_ranges[0].used == 2
    obey(web, web.vms.plans())
    assert web.networks.info("Public").address_ranges[0].used == 1


def nics(engine, vm_id=0):
    """Number, network, MAC and IP address of each."""
    return [(nic["nic_id"], nic["network"], nic["mac"], nic["ip"]) for nic in record(engine, vm_id).nics]


PUBLIC = {"NETWORK": "Public"}
ANEW = dict(WEB, recreate=True)


@pytest.fixture
def two(inside):
    """A machine with two NICs that runs, and a second network."""
    ranges = (AddressRange(0, "IP4", 10, ip="10.77.0.10"),)
    inside.networks.allocate(Network(None, "Private", bridge="nbr1", address_ranges=ranges))
    obey(inside, decide(inside, dict(WEB, nics=[PUBLIC, PUBLIC])))
    return inside


def test_a_nic_that_stays_keeps_its_address_while_one_comes(two):
    before = nics(two)
    obey(two, decide(two, dict(ANEW, nics=[{"NETWORK": "Private"}, PUBLIC, PUBLIC])))
    new, *others = nics(two)
    assert others == before and (new[0], new[3]) == (2, "10.77.0.10")
    assert json.loads(row(two)["body"])["next_nic"] == 3
    assert two.ledger().findings == ()


def test_a_nic_that_stays_keeps_its_address_while_the_one_before_goes(two):
    before = nics(two)
    plans = decide(two, dict(ANEW, nics=[dict(PUBLIC, IP="10.66.0.11")]))
    assert nics(two) == before[1:]
    # Its domain has the other until it is made anew.
    assert two.networks.info("Public").address_ranges[0].used == 2
    obey(two, plans)
    assert two.networks.info("Public").address_ranges[0].used == 1
    assert two.ledger().findings == ()


def test_of_two_nics_one_gets_another_network(two):
    before = nics(two)
    plans = decide(two, dict(ANEW, nics=[PUBLIC, {"NETWORK": "Private"}]))
    after = nics(two)
    assert after[0] == before[0] and after[1][:2] == (1, "Private")
    # What the old domain has is nobody's before that ends.
    taker = {"name": "taker", "template": "web", "nics": [dict(PUBLIC, IP="10.66.0.11")]}
    assert "VM web (id 0) has it until it is made anew" in refused(two, taker)[0]
    obey(two, plans)
    obey(two, decide(two, taker))
    assert two.ledger().findings == ()


def test_two_nics_swap_their_addresses(two):
    first, second = nics(two)
    for asked in ([dict(PUBLIC, IP=second[3]), dict(PUBLIC, IP=first[3])], [PUBLIC, dict(PUBLIC, IP=first[3])]):
        plans = decide(two, dict(ANEW, nics=asked))
        assert nics(two) == [second, first]
        assert two.networks.info("Public").address_ranges[0].used == 2
        obey(two, plans)


def test_an_address_that_another_nic_of_the_machine_has_is_that_nics(two):
    """Nothing tells of which NIC it was but the address, and what the list says of the others is what it said."""
    first, second = nics(two)
    plans = decide(two, dict(ANEW, nics=[PUBLIC, PUBLIC, dict(PUBLIC, IP=first[3])]))
    after = nics(two)
    assert after[2] == first and after[0] == second and after[1][3] == "10.66.0.12"
    obey(two, plans)
    assert two.ledger().findings == ()


def test_an_address_that_the_machine_holds_is_its_own_again(two):
    """Neither has the host made it anew, nor is it what the list wants by now."""
    fixed = {"IP": "10.66.0.10", "MAC": nics(two)[0][2]}
    decide(two, dict(ANEW, nics=[{"NETWORK": "Private"}]))
    assert two.networks.info("Public").address_ranges[0].used == 2
    plans = decide(two, dict(ANEW, nics=[dict(PUBLIC, **fixed)]))
    assert nics(two) == [(0, "Public", fixed["MAC"], "10.66.0.10")]
    assert [two.networks.info(name).address_ranges[0].used for name in ("Public", "Private")] == [2, 1]
    obey(two, plans)
    assert [two.networks.info(name).address_ranges[0].used for name in ("Public", "Private")] == [1, 0]
    assert two.ledger().findings == ()


def test_a_network_that_is_called_otherwise_by_now_is_the_same(two):
    before = nics(two)
    two.networks.update("Public", name="Outside")
    two.vms.recreate(0, record(two).request.with_vectors("NIC", [{"NETWORK": "Outside"}, {"NETWORK_ID": "0"}]))
    assert [nic[2:] for nic in nics(two)] == [nic[2:] for nic in before]
    # Another one has the name.
    two.networks.update("Private", name="Public")
    two.vms.recreate(0, record(two).request.with_vectors("NIC", [{"NETWORK": "Public"}, {"NETWORK": "Outside"}]))
    assert [nic[3] for nic in nics(two)] == ["10.77.0.10", "10.66.0.10"]


def test_what_networks_say_by_now_is_in_the_nics_that_stay(two):
    two.networks.update("Public", attributes={**two.networks.info("Public").attributes, "DNS": "10.66.0.53"})
    two.vms.recreate(0, record(two).request.merged(Template.from_mapping({"MEMORY": "256"})))
    assert not record(two).outdated
    assert {nic["network_values"]["DNS"] for nic in json.loads(row(two)["body"])["nics"]} == {"10.66.0.53"}


def test_a_recreation_that_fails_leaves_the_old_domain_what_it_has(two):
    plans = decide(two, dict(ANEW, nics=[{"NETWORK": "Private"}, dict(PUBLIC, IP="10.66.0.11")]))
    decided = plans["node1"].vms[0].operated
    say(two, "RUNNING", ERROR)
    assert two.networks.info("Public").address_ranges[0].used == 2
    # Another list by then: the domain is the first one yet.
    plans = decide(two, dict(ANEW, nics=[{"NETWORK": "Private"}]))
    (planned,) = plans["node1"].vms
    assert planned.operation == "recreate" and planned.operated > decided
    assert two.networks.info("Public").address_ranges[0].used == 2
    taker = {"name": "taker", "template": "web", "nics": [dict(PUBLIC, IP="10.66.0.10")]}
    assert "VM web (id 0) has it until it is made anew" in refused(two, taker)[0]
    obey(two, plans)
    assert two.networks.info("Public").address_ranges[0].used == 0
    assert two.ledger().findings == ()


def on_xen(engine, name, **values):
    """A machine that is off, on a host that adds and takes away disks and NICs."""
    engine.hosts.allocate(Host(None, "xen1", "xen", state=HostState.MONITORED, memory=4096, cpu=16.0))
    item = {
        "name": name,
        "template": "web",
        "host": "xen1",
        "state": "poweroff",
        "attributes": {"OS": {"KERNEL": "/boot/vmlinuz"}},
        "disks": [{"IMAGE": "demo", "DEV_PREFIX": "xvd"}],
        **values,
    }
    obey(engine, decide(engine, item))
    return item


def test_an_address_of_a_nic_that_is_taken_away_is_free_when_that_is_done(inside):
    nics = [{"NETWORK": "Public"}, {"NETWORK": "Public"}]
    two = on_xen(inside, "two", nics=nics)
    taker = {"name": "taker", "template": "web", "host": "node1", "nics": [{"NETWORK": "Public", "IP": "10.66.0.11"}]}
    (said,) = refused(inside, dict(two, nics=nics[:1]), taker)
    assert "VM two (id 0) has it until it is made anew, or was off. Run again when that is done" in said
    obey(inside, inside.vms.plans())
    obey(inside, decide(inside, taker))
    assert inside.ledger().findings == ()


@pytest.mark.parametrize("decided", [False, True])
def test_an_address_that_a_release_before_took_away_is_free_when_that_is_done(inside, decided):
    two = on_xen(inside, "two", nics=[PUBLIC, PUBLIC])
    decide(inside, dict(two, state="running"))
    # It knew the NIC no more, and its lease by its id.
    body = json.loads(row(inside)["body"])
    orders = dict(json.loads(row(inside)["orders"]), detached={"nics": [1]})
    body["nics"] = body["nics"][:1]
    request = json.dumps(record(inside).request.with_vectors("NIC", [PUBLIC]).to_attributes())
    inside.store.db.execute(
        "UPDATE vms SET body = ?, orders = ?, request = ?", (json.dumps(body), json.dumps(orders), request)
    )
    if decided:
        inside.vms.action(0, "POWEROFF", VmOrders())
    assert inside.networks.info("Public").address_ranges[0].used == 2
    obey(inside, inside.vms.plans())
    assert inside.networks.info("Public").address_ranges[0].used == 1
    assert inside.ledger().findings == ()


# -- images of a machine that is made anew -----------------------------------------------------------------------------


@pytest.fixture
def db(inside):
    """A machine on node1 that writes to image data, which node2 sees too."""
    inside.hosts.allocate(Host(None, "node2", state=HostState.MONITORED, memory=4096, cpu=16.0))
    image = inside.images.allocate(Image(None, "data", type=ImageType.DATABLOCK, persistent=True))
    inside.images.update(image.id, state=ImageState.READY, size=16, format="qcow2")
    obey(inside, decide(inside, dict(DB, host="node1")))
    return inside


DB = {"name": "db", "template": "web", "disks": [{"IMAGE": "demo"}, {"IMAGE": "data"}]}
DROPPED = dict(DB, disks=[{"IMAGE": "demo"}], recreate=True)
TAKER = dict(DB, name="taker", host="node2")
WAITS = "it is persistent and used by db (id 0). It is being ended, or loses it: run again when that is done"


def refused(engine, *items):
    outcomes, _warnings = reconcile(engine, items)
    return [str(outcome.error) for outcome in outcomes if outcome.error]


@pytest.mark.parametrize("in_order", [list, reversed])
def test_an_image_that_a_machine_is_made_anew_without_is_its_own_until_that_is_done(db, in_order):
    (said,) = refused(db, *in_order([DROPPED, TAKER]))
    assert WAITS in said
    image = db.images.info("data")
    assert (image.state, image.vms) == (ImageState.USED_PERS, 1)
    assert [each.kind for each in db.ledger().findings] == ["machine-unfinished"]
    assert db.repair() == []
    # What its host said before of it counts for nothing.
    db.vms.observe([Observed("node1", vms=(ObservedVm(0, record(db).uuid, "RUNNING"),))])
    assert WAITS in refused(db, TAKER)[0]
    obey(db, db.vms.plans())
    after = db.images.info("data")
    assert (after.state, after.generation) == (ImageState.READY, image.generation + 1)
    obey(db, decide(db, TAKER))
    assert db.ledger().findings == ()


def test_a_host_that_fails_to_make_a_machine_anew_has_not_ended_the_old_one(db):
    """The next plan has it made anew all the same: another one would be content with the old domain."""
    nic = {"NETWORK": "Public", "IP": "10.66.0.50"}
    plans = decide(db, dict(DROPPED, nics=[nic]))
    decided = plans["node1"].vms[0].operated
    say(db, "RUNNING", ERROR)
    assert WAITS in refused(db, TAKER)[0]
    assert db.networks.info("Public").address_ranges[0].used == 2
    (planned,) = decide(db, dict(DROPPED, nics=[nic]))["node1"].vms
    # By the number of that decision its node knows whether it was done after all.
    assert (planned.operation, planned.operated) == ("recreate", decided)
    say(db, "RUNNING")
    assert row(db)["orders"] == "{}"
    assert db.images.info("data").state == ImageState.READY
    assert db.networks.info("Public").address_ranges[0].used == 1


@pytest.mark.parametrize("state", ["running", "poweroff", "recovered"])
def test_a_list_that_says_something_else_by_now_has_nothing_made_anew_unasked(db, state):
    decide(db, DROPPED)
    say(db, "RUNNING", ERROR)
    back = dict(DROPPED, disks=DB["disks"], recreate=False, state=state)
    outcomes, _warnings = reconcile(db, [back])
    assert db.vms.plans() == {}
    (said,) = outcomes[0].differs
    assert "was to be made anew by an earlier list, which its host could not" in said
    assert "set recreate: true to have it made anew as the list says now" in said
    # Without a word about what it is to be like, it goes on.
    (planned,) = decide(db, {"name": "db", "state": "recovered"})["node1"].vms
    assert planned.operation == "recreate"


def test_one_that_should_have_been_made_anew_and_then_ended_lives_on_with_all_it_had(db):
    nic = {"NETWORK": "Public", "IP": "10.66.0.50"}
    plans = decide(db, dict(DROPPED, nics=[nic]))
    decided = plans["node1"].vms[0].operated
    say(db, "RUNNING", ERROR)
    (planned,) = decide(db, {"name": "db", "state": "absent"})["node1"].vms
    # It ends as its guest wants, and is not made anew before.
    assert (planned.wanted, planned.operation, planned.hard) == ("DONE", "", False)
    say(db, "RUNNING", ERROR)
    db.vms.action(0, "RUNNING", VmOrders())
    (planned,) = db.vms.plans()["node1"].vms
    assert (planned.operation, planned.operated) == ("recreate", decided)
    assert WAITS in refused(db, TAKER)[0]
    assert db.networks.info("Public").address_ranges[0].used == 2


def test_what_a_machine_never_opened_is_free_at_once(inside):
    inside.hosts.allocate(Host(None, "node2", state=HostState.MONITORED, memory=4096, cpu=16.0))
    image = inside.images.allocate(Image(None, "data", type=ImageType.DATABLOCK, persistent=True))
    inside.images.update(image.id, state=ImageState.READY, size=16, format="qcow2")
    decide(inside, dict(DB, host="node1"))
    say(inside, "PROLOG_FAILURE", ERROR)
    decide(inside, DROPPED, TAKER)
    assert inside.images.info("data").vms == 1


@pytest.mark.parametrize("in_order", [list, reversed])
def test_an_image_that_is_taken_away_from_a_machine_is_free_when_that_is_done(inside, in_order):
    """As a list moves it from one to another: what is in the way will be gone."""
    image = inside.images.allocate(Image(None, "data", type=ImageType.DATABLOCK, persistent=True))
    inside.images.update(image.id, state=ImageState.READY, size=16, format="qcow2")
    disks = [{"IMAGE": "demo", "DEV_PREFIX": "xvd"}, {"IMAGE": "data", "DEV_PREFIX": "xvd"}]
    item = on_xen(inside, "db", disks=disks)
    (said,) = refused(inside, *in_order([dict(item, disks=disks[:1]), dict(TAKER, host="node1")]))
    assert WAITS in said
    obey(inside, inside.vms.plans())
    obey(inside, decide(inside, dict(TAKER, host="node1")))
    assert inside.ledger().findings == ()


def test_an_image_that_nobody_loses_is_told_as_that(db):
    (said,) = refused(db, TAKER, dict(DB, cpu=1))
    assert "end that one, or use another image" in said


def test_an_image_that_is_free_at_once_is_had_at_once_wherever_its_machine_stands(inside):
    image = inside.images.allocate(Image(None, "data", type=ImageType.DATABLOCK, persistent=True))
    inside.images.update(image.id, state=ImageState.READY, size=16, format="qcow2")
    decide(inside, DB)
    say(inside, "PROLOG_FAILURE", ERROR)
    decide(inside, dict(TAKER, host="node1"), DROPPED)
    assert inside.images.info("data").vms == 1


def test_it_goes_with_the_machine_too(db):
    decide(db, DROPPED)
    obey(db, decide(db, {"name": "db", "state": "absent"}))
    assert db.images.info("data").state == ImageState.READY
    assert db.store.rows("SELECT * FROM vm_images") == []


def test_a_machine_that_is_to_have_its_image_after_all_gets_it(db):
    decide(db, DROPPED)
    plans = decide(db, dict(DB, recreate=True))
    assert [disk.image for disk in plans["node1"].vms[0].vm.disks] == ["demo", "data"]
    obey(db, plans)
    assert (db.images.info("data").state, db.images.info("data").vms) == (ImageState.USED_PERS, 1)
    assert db.ledger().findings == ()


def test_what_is_dropped_twice_is_kept_once_for_each(db):
    image = db.images.allocate(Image(None, "more", type=ImageType.DATABLOCK, persistent=True))
    db.images.update(image.id, state=ImageState.READY, size=16, format="qcow2")
    decide(db, dict(DB, disks=[{"IMAGE": "demo"}, {"IMAGE": "more"}], recreate=True))
    plans = decide(db, DROPPED)
    assert [db.images.info(name).vms for name in ("data", "more")] == [1, 1]
    obey(db, plans)
    assert [db.images.info(name).vms for name in ("data", "more")] == [0, 0]


def test_a_file_that_disks_rest_on_is_no_machines_to_write_to_meanwhile(db):
    other = db.images.allocate(Image(None, "other", type=ImageType.OS, dev_prefix="vd"))
    db.images.update(other.id, state=ImageState.READY, size=16, format="qcow2")
    plans = decide(db, dict(DB, disks=[{"IMAGE": "other"}, {"IMAGE": "data"}], recreate=True))
    with pytest.raises(NebulaError, match=r"used by db \(id 0\)"):
        db.images.update("demo", persistent=True)
    obey(db, plans)
    db.images.update("demo", persistent=True)


def test_of_a_host_that_is_given_up_meanwhile_it_is_given_to_nobody(db):
    decide(db, DROPPED)
    db.hosts.forget("node1")
    assert db.images.info("data").state == ImageState.DISABLED


# -- what nodes report -------------------------------------------------------------------------------------------------


def test_what_a_node_reports_of_an_older_decision_is_passed_over(web):
    generation = record(web).generation
    web.vms.action(0, "POWEROFF", VmOrders())
    assert say(web, "POWEROFF", generation=generation) == []
    assert record(web).state == "SHUTDOWN_POWEROFF"
    assert [each.state for each in say(web, "POWEROFF")] == ["POWEROFF"]
    # It is recorded once.
    assert say(web, "RUNNING") == []
    assert record(web).state == "POWEROFF"
    assert say(web, "POWEROFF", vm_id=0, generation=99) == []


@pytest.mark.parametrize(
    ("wanted", "state", "left"),
    [
        ("POWEROFF", "RUNNING", "RUNNING"),
        ("SUSPENDED", "RUNNING", "RUNNING"),
        ("RUNNING", "BOOT_FAILURE", "RUNNING"),
        ("DONE", "RUNNING", "RUNNING"),
        ("DONE", "EPILOG_FAILURE", "DONE"),
    ],
)
def test_what_could_not_be_reached_is_not_wanted_for_ever(web, wanted, state, left):
    web.vms.action(0, wanted, VmOrders())
    say(web, state, ERROR)
    assert (record(web).state, record(web).wanted) == (state, left)
    # What is half taken away goes on with every plan.
    assert row(web)["settled"] == (left != "DONE")


def test_a_machine_that_did_not_end_gives_its_name_to_the_one_that_has_it_by_now(web):
    web.vms.action(0, "DONE", VmOrders())
    web.vms.instantiate([VmRequest("web", PLAIN)])
    say(web, "RUNNING", ERROR)
    assert record(web).wanted == "DONE"
    assert [each.id for each in web.vms.pool(names=["web"])] == [1]


def test_a_host_that_is_silent_leaves_all_to_the_next_run(web):
    web.vms.action(0, "POWEROFF", VmOrders())
    assert [each.error for each in web.vms.record("node1", None)] == ["host node1 did not answer"]
    assert (record(web).state, row(web)["settled"]) == ("SHUTDOWN_POWEROFF", 0)
    # It is told once.
    assert web.vms.record("node1", None) == []
    assert web.vms.record("node2", None) == []


def test_the_reason_of_a_failure_outlives_a_poll_that_knows_less(inside):
    decide(inside, WEB)
    say(inside, "BOOT_FAILURE", ERROR)
    uuid = record(inside).uuid
    for seen in ((), (ObservedVm(0, uuid, "POWEROFF"),)):
        assert inside.vms.observe([Observed("node1", vms=seen)]) == []
    assert record(inside).error == "VM web: it broke. Mend it"
    (moved,) = inside.vms.observe([Observed("node1", vms=(ObservedVm(0, uuid, "RUNNING"),))])
    assert (moved.state, moved.error) == ("RUNNING", "")


def test_what_a_host_says_that_the_catalog_does_not_know_is_nothing(web):
    assert web.vms.observe([Observed("stranger", reached=False)]) == []
    assert record(web).state == "RUNNING"
    (_made,) = web.vms.instantiate([VmRequest("a", PLAIN)])


# -- ending ------------------------------------------------------------------------------------------------------------


def test_a_machine_that_ended_gives_back_all_that_it_had(inside):
    before = (inside.hosts.info("node1"), inside.networks.info("Public"), inside.images.info("demo"))
    (made,) = inside.vms.instantiate([VmRequest("a", VNC)])
    inside.vms.action(0, "DONE", VmOrders())
    (ended,) = say(inside, "DONE")
    assert (ended.state, ended.wanted, ended.error, ended.etime >= made.stime) == ("DONE", "DONE", "", True)
    assert (inside.hosts.info("node1"), inside.networks.info("Public"), inside.images.info("demo")) == before
    assert ports(inside) == []
    assert inside.vms.pool() == []
    assert ended.request == Template()
    assert [step["state"] for step in inside.vms.history(0)] == ["PROLOG", "EPILOG", "DONE"]


@pytest.mark.parametrize("ran", [True, False])
def test_what_a_machine_wrote_on_a_host_of_its_own_comes_back_from_there(inside, ran):
    inside.hosts.update("node1", transfer=SSH)
    inside.images.update("demo", persistent=True)
    plans = decide(inside, WEB)
    if ran:
        obey(inside, plans)
    inside.vms.action(0, "DONE", VmOrders())
    say(inside, "DONE")
    operation = inside.images.info("demo").operation
    assert comes_from(operation) == "node1"
    assert surely_comes(operation) == ran


def test_nothing_that_is_secret_outlives_a_machine():
    secret = "s3cr3t"
    body = {
        "context": {"variables": {"PASSWORD": secret}, "files": [{"source": secret}]},
        "graphics": {"type": "vnc", "password": secret},
        "raw": {"kvm": secret},
        "disks": [{"disk_id": 0, "inject": [{"content": secret}]}],
        "name": "web",
    }
    assert secret not in json.dumps(vms._without_secrets(body))
    assert (body["name"], body["graphics"]["type"], body["disks"][0]["disk_id"]) == ("web", "vnc", 0)
    assert vms._without_secrets({"context": None}) == {"context": None, "raw": {}}


# -- finding -----------------------------------------------------------------------------------------------------------


def test_a_name_is_the_machines_that_is_not_on_its_way_out(web):
    web.vms.action(0, "DONE", VmOrders())
    assert web.vms.pool(names=["web"]) == []
    assert [each.id for each in web.vms.pool(ids=[0])] == [0]
    assert [each.id for each in web.vms.pool()] == [0]
    say(web, "DONE")
    assert web.vms.pool() == web.vms.pool(ids=[0]) == web.vms.pool(names=["web"]) == []
    for selected in ({}, {"ids": [0]}, {"names": ["web"]}):
        assert [each.id for each in web.vms.pool(**selected, done=True)] == [0]


def test_more_machines_are_selected_than_one_statement_has_room_for(web):
    wanted = [f"n{number}" for number in range(3 * vms.CHUNK)]
    assert [each.name for each in web.vms.pool(names=[*wanted, "web", "web"])] == ["web"]
    assert [each.name for each in web.vms.pool(ids=range(3 * vms.CHUNK))] == ["web"]


def test_a_machine_is_outdated_where_its_networks_say_something_else_by_now(web):
    assert not record(web).outdated
    attributes = web.networks.info("Public").attributes
    web.networks.update("Public", attributes={**attributes, "DNS": "10.66.0.2"})
    assert record(web).outdated
    web.networks.update("Public", attributes=attributes)
    assert not record(web).outdated


@pytest.mark.parametrize(
    ("context", "told"),
    [
        ({"SET_HOSTNAME": "a", "HOSTNAME": "b"}, "a"),
        ({"HOSTNAME": "b"}, "b"),
        ({"HOSTNAME": ""}, ""),
    ],
)
def test_a_record_tells_what_the_guest_is_told_of_its_name(inside, context, told):
    template = PLAIN.with_vector("CONTEXT", context)
    (made,) = inside.vms.instantiate([VmRequest("a", template)])
    assert made.hostname == told
    assert made.addresses == []


# -- the file of a context ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "state", "says"),
    [
        (ImageType.OS, ImageState.READY, r"\$FILE of image f: it is of type OS. Name an image of type CONTEXT"),
        (ImageType.CONTEXT, ImageState.ERROR, r"\$FILE of image f: it is in state ERROR \(no room\)"),
    ],
)
def test_a_file_of_a_context_is_an_image_for_that_which_is_ready(inside, kind, state, says):
    made = inside.images.allocate(Image(None, "f", type=kind))
    inside.images.update(made.id, state=state, error="no room")
    template = PLAIN.with_vector("CONTEXT", {"FILES_DS": '$FILE[IMAGE="f"]'})
    with pytest.raises((InvalidValue, WrongState), match=says), inside.attempt():
        inside.vms.instantiate([VmRequest("a", template)])


# -- states ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [name for name in (*VmState.__members__, *LcmState.__members__) if name not in ("ACTIVE", "LCM_INIT")]
)
def test_a_states_name_comes_back_from_its_numbers(name):
    state, lcm = vms._numbers(name)
    assert vm_state_name(state, lcm) == name


def test_a_state_that_is_none_is_no_other():
    with pytest.raises(KeyError):
        vms._numbers("NOSUCH")


def test_a_thing_without_an_id_was_not_stored():
    with pytest.raises(NebulaError, match=r"image a: it has no id\. It was not stored"):
        vms._id(Image(None, "a"))
    assert vms._id(Image(0, "a")) == 0


@pytest.mark.parametrize(("given", "uuid"), [({"UUID": "ABCD"}, "abcd"), ({"ARCH": "x86_64"}, ""), (None, "")])
def test_a_template_may_fix_the_uuid(given, uuid):
    template = Template() if given is None else Template((("OS", tuple(given.items())),))
    assert vms.template_uuid(template) == uuid
