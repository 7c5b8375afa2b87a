# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that the catalog does not know become machines of the list, or nothing is changed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.vms.vm_rows import vm_of
from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.audit import Domain, Inventory, VmDirectory, VmFile
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import (
    ADOPT,
    Comparison,
    Observed,
    ObservedVm,
    VmOutcome,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Growth, Topology
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.adoptions import Adoptions, ids_of
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile

UUID = "11111111-8c55-4b0e-9d6a-2f1f3c7d9a10"
MAC = "02:00:0a:42:00:0f"
WEB = {"name": "web", "template": "web"}


def node(engine, vm_id=4, state="RUNNING", differences=(), compared=True, exact=True, **domain):
    """What node1 says that has a machine of this id."""
    catalog = engine.catalog()
    values = {"macs": (MAC,), **domain}
    return Observed(
        "node1",
        catalog=catalog,
        vms=(ObservedVm(vm_id, UUID, state, 3, memory=128),),
        inventory=Inventory(
            domains=(Domain(f"one-{vm_id}", catalog, vm_id, UUID, state, 3, **values),),
            directories=(VmDirectory("d", str(vm_id), catalog, vm_id, UUID, 3, (VmFile("deployment.2"),), exact),),
        ),
        compared=(Comparison(vm_id, UUID, 3, tuple(differences)),) if compared else (),
    )


def adopt(engine, seen, ids, *items, hosts=None, foreseen=False):
    with engine.session():
        engine.vms.observe([seen])
        outcomes, warnings = reconcile(engine, items, hosts, Adoptions(ids, foreseen))
        plans = engine.vms.plans(hosts)
    return outcomes, [planned for plan in plans.values() for planned in plan.vms], warnings


def refusal(engine, seen, ids, *items, **values):
    outcomes, planned, _warnings = adopt(engine, seen, ids, *items, **values)
    assert planned == [] and engine.vms.pool() == [] and engine.networks.info("Public").address_ranges[0].used == 0
    (error,) = (str(outcome.error) for outcome in outcomes if outcome.error)
    return error


@pytest.mark.parametrize("state", ["RUNNING", "POWEROFF", "SUSPENDED"])
def test_it_is_taken_over_as_it_is(engine, state):
    outcomes, planned, warnings = adopt(engine, node(engine, state=state), {"web": 4}, WEB)
    assert planned == [], "its node has nothing to do"
    (record,) = engine.vms.pool()
    assert (record.id, record.name, record.uuid, record.state, record.wanted, record.host, record.generation) == (
        4, "web", UUID, state, state, "node1", 3,
    )  # fmt: skip
    assert [(nic["mac"], nic["ip"]) for nic in record.nics] == [(MAC, "10.66.0.15")]
    assert [(o.before, o.after) for o in outcomes] == [(None, record)]
    said = "VM web (id 4) was adopted as it is, {}: the next run makes it RUNNING"
    assert warnings == ([] if state == "RUNNING" else [said.format(state)])
    assert [step["action"] for step in engine.vms.history(4)] == ["adopt"]
    assert (engine.hosts.info("node1").memory_used, engine.hosts.info("node1").vms) == (128, 1)
    assert engine.images.info("demo").state.name == "USED" and engine.ledger().findings == ()


def test_a_copy_beside_it_is_not_taken_for_it(engine):
    seen = node(engine)
    copy = Domain("a-copy", engine.catalog(), 4, "22222222-8c55-4b0e-9d6a-2f1f3c7d9a10", "POWEROFF", 3)
    both = replace(seen.inventory, domains=(copy, *seen.inventory.domains))
    outcomes, _planned, _warnings = adopt(engine, replace(seen, inventory=both), {"web": 4}, WEB)
    assert [str(each.error) for each in outcomes if each.error] == []
    assert engine.vms.pool()[0].uuid == UUID


def test_afterwards_there_is_nothing_to_do(engine):
    adopt(engine, node(engine), {"web": 4}, WEB)
    for ids in ({}, {"web": 4}):
        outcomes, planned, warnings = adopt(engine, node(engine), ids, WEB)
        assert planned == [] and warnings == [] and [o.before == o.after for o in outcomes] == [True]


def test_it_goes_on_like_any_other(engine):
    adopt(engine, node(engine), {"web": 4}, WEB)
    _outcomes, (planned,), _warnings = adopt(engine, node(engine), {}, dict(WEB, context={"NEW": "1"}))
    assert (planned.vm.vm_id, planned.generation, planned.seq) == (4, 4, 3)
    with engine.session():
        engine.vms.record("node1", [VmOutcome(4, 4, "RUNNING", True)])
    (gone,) = adopt(engine, node(engine), {}, dict(WEB, state="absent"))[1]
    with engine.session():
        engine.vms.record("node1", [VmOutcome(4, gone.generation, "DONE", True)])
    assert engine.vms.pool() == [] and engine.networks.info("Public").address_ranges[0].used == 0
    # Its id is used up.
    adopt(engine, replace(node(engine), vms=()), {}, WEB)
    assert engine.vms.pool()[0].id > 4


@pytest.mark.parametrize(
    ("exact", "vcpu", "vmid", "dns"), [(True, "", "4", "9.9.9.9 8.8.8.8"), (False, "1", None, "9.9.9.9,8.8.8.8")]
)
def test_it_is_compared_with_what_the_release_that_made_it_writes_into_its_context(engine, exact, vcpu, vmid, dns):
    item = dict(WEB, context={"A": "$VCPU", "TOKEN": "YES", "DNS": "9.9.9.9,8.8.8.8"})
    seen = node(engine, exact=exact)
    (compared,) = adopt(engine, replace(seen, compared=()), {"web": 4}, item, foreseen=True)[1]
    found = compared.vm.context
    assert (found.exact, found.variables["A"], found.variables.get("VMID"), found.variables["DNS"]) == (
        exact,
        vcpu,
        vmid,
        dns,
    )


def test_the_image_that_it_writes_to_is_taken_over_with_it(engine):
    """It is DISABLED since the restore. Enabled before, the next run could have given it to another machine."""
    with engine.session():
        data = engine.images.allocate(Image(None, "data", type=ImageType.DATABLOCK, persistent=True))
        engine.images.update(data.id, state=ImageState.READY, size=16, format="qcow2")
        engine.images.update(data.id, state=ImageState.DISABLED)
    disks = [{"IMAGE": "demo"}, {"IMAGE": "data"}]
    outcomes, planned, _warnings = adopt(engine, node(engine), {"web": 4}, dict(WEB, disks=disks))
    assert [str(outcome.error) for outcome in outcomes if outcome.error] == [] and planned == []
    assert (engine.images.info("data").state, engine.images.info("data").vms) == (ImageState.USED_PERS, 1)


def test_one_that_rests_on_a_disabled_image_is_not(engine):
    with engine.session():
        engine.images.update("demo", state=ImageState.DISABLED)
    assert "it is in state DISABLED" in refusal(engine, node(engine), {"web": 4}, WEB)


def test_one_that_was_suspended_has_run(engine):
    """What fails about it is no reason to make it anew without being asked to."""
    adopt(engine, node(engine, state="SUSPENDED"), {"web": 4}, WEB)
    (planned,) = adopt(engine, node(engine, state="SUSPENDED"), {}, WEB)[1]
    error = {"kind": "TimedOut", "asked": "VM web", "found": "it is locked", "remedy": ""}
    with engine.session():
        engine.vms.record("node1", [VmOutcome(4, planned.generation, "PROLOG_FAILURE", False, error)])
    _outcomes, (planned,), _warnings = adopt(engine, node(engine, state="POWEROFF"), {}, dict(WEB, memory=256))
    assert planned.operation == ""


def test_one_of_a_pattern(engine):
    outcomes, planned, _warnings = adopt(
        engine, node(engine), {"web-1": 4}, {"name": "web-%i", "count": 2, "template": "web"}
    )
    assert {record.name: (record.id, record.position) for record in engine.vms.pool()} == {
        "web-0": (5, 0),
        "web-1": (4, 1),
    }
    assert [each.vm.vm_id for each in planned] == [5] and len(outcomes) == 2


def test_foreseen_it_has_a_plan_to_be_compared_with(engine):
    _outcomes, (planned,), _warnings = adopt(engine, node(engine, compared=False), {"web": 4}, WEB, foreseen=True)
    assert (planned.operation, planned.wanted, planned.generation) == (ADOPT, "RUNNING", 3)
    assert (planned.vm.uuid, planned.vm.nics[0].mac, planned.vm.context.variables["HOSTNAME"]) == (UUID, MAC, "web")


@pytest.mark.parametrize(
    ("values", "ids", "item", "says"),
    [
        ({"compared": False}, {"web": 4}, WEB, "host node1 has not compared it with the list"),
        (
            {"differences": ["disk 0 is not there", "x"]},
            {"web": 4},
            WEB,
            "what the list says: disk 0 is not there; x. ",
        ),
        ({"macs": ()}, {"web": 4}, WEB, "it has 0 NICs (none), and the list says 1"),
        ({"macs": ("02:00:0a:43:00:0f",)}, {"web": 4}, WEB, "it is in none of the network's address ranges"),
        ({"port": 5904}, {"web": 4}, WEB, "its graphics have port 5904, and the list says none"),
        ({}, {"web": 5}, WEB, "unknown machines with it: 4 on node1"),
        ({}, {"web": 4}, dict(WEB, host="node2"), "it is on host node1, and the list says node2"),
        ({}, {"web": 4}, dict(WEB, state="absent"), "the list wants it gone"),
        ({}, {"web": 4}, {"name": "web"}, "the list says nothing of what it is to be"),
        ({}, {"web": 4}, dict(WEB, nics=[]), "it has 1 NICs (02:00:0a:42:00:0f), and the list says 0"),
        ({}, {"web": 4}, dict(WEB, attributes={"OS": {"UUID": UUID.replace("1", "2")}}), "the list says"),
    ],
)
def test_what_is_not_so_is_refused(engine, values, ids, item, says):
    error = refusal(engine, node(engine, **values), ids, item)
    assert says in error and "VM web" in error


def test_it_is_not_made_where_the_list_has_no_entry(engine):
    outcomes, planned, _warnings = adopt(engine, node(engine), {"wbe": 4}, WEB)
    (error,) = (str(o.error) for o in outcomes if o.error)
    assert error.startswith("VM wbe: adopting machine 4: the list has no machine of that name. Write an entry")
    assert [each.vm.name for each in planned] == ["web"], "the others are done"


def test_outside_of_the_run_it_is_left_alone(engine):
    assert "which is not part of this run" in refusal(engine, node(engine), {"web": 4}, WEB, hosts=["node2"])


def test_what_somebody_else_has_stays_theirs(engine):
    """By name: the address, the name, the id."""
    adopt(
        engine,
        replace(node(engine), vms=()),
        {},
        {"name": "a", "template": "web", "nics": [{"NETWORK": "Public", "MAC": MAC}]},
    )
    before = engine.vms.pool()
    for ids, item, seen, says in (
        ({"web": 4}, WEB, node(engine), "VM a (id 0) has it, on NIC 0"),
        ({"a": 4}, dict(WEB, name="a"), node(engine), "the catalog has a machine of that name (id 0)"),
        ({"web": 0}, WEB, node(engine, vm_id=0), "the catalog had given that id to VM a"),
    ):
        outcomes, _planned, _warnings = adopt(engine, seen, ids, item)
        (error,) = (str(outcome.error) for outcome in outcomes if outcome.error)
        assert says in error and engine.vms.pool() == before


def test_what_can_not_be_made_beside_it_leaves_it_unknown(engine):
    items = {"name": "web-%i", "count": 200, "template": "web"}
    assert "node1 has 0 MiB left" in refusal(engine, node(engine), {"web-0": 4}, items)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["web"], "it is a list"),
        ({"web": "x"}, "it is not an id"),
        ({"web": -1}, "it is not an id"),
        ({"web": None}, "it is not an id"),
        ({"web": 4, "db": "4"}, "another name has that id"),
        ({"a/b": 4}, "holds a /"),
    ],
)
def test_the_option_says_names_and_ids(given, says):
    with pytest.raises(InvalidValue, match=says):
        ids_of(given)
    assert ids_of({"web": "4", "db": 0}) == {"web": 4, "db": 0}


WINDOWS = dict(WEB, attributes={"FEATURES": {"HYPERV": "YES"}, "VCPU": "4"})


def topology_of(engine):
    (row,) = engine.store.rows("SELECT * FROM vms")
    return vm_of(row).topology


@pytest.mark.parametrize("has", [None, Topology(1, 4, 1)])
def test_the_processors_of_one_that_is_adopted_are_as_it_has_them(engine, has):
    """It was made before they were cores, or since: its definition is compared with what the catalog would make."""
    adopt(engine, node(engine, topology=has), {"web": 4}, WINDOWS)
    assert topology_of(engine) == has


@pytest.mark.parametrize(("has", "wanted"), [(None, None), (Topology(1, 4, 1), Topology(2, 2, 1))])
def test_one_that_has_a_topology_is_held_to_that_of_its_list(engine, has, wanted):
    item = dict(WEB, attributes={"TOPOLOGY": {"SOCKETS": "2"}, "VCPU": "4"})
    adopt(engine, node(engine, topology=has), {"web": 4}, item)
    assert topology_of(engine) == wanted


@pytest.mark.parametrize(("has", "wanted"), [(None, None), (Growth(1024, 4), Growth(2048, 8))])
def test_one_that_may_grow_is_held_to_what_its_list_says_of_that(engine, has, wanted):
    item = dict(WEB, attributes={"MEMORY_MAX": "2048", "VCPU_MAX": "8"})
    adopt(engine, node(engine, growth=has), {"web": 4}, item)
    (row,) = engine.store.rows("SELECT * FROM vms")
    assert vm_of(row).growth == wanted
    assert (row["memory"] == 2048) == (wanted is not None)
