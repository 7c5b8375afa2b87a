# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host is forgotten, and comes back with its machines: nobody gets what they use, and nobody ends what the catalog
does not know."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.copies import raise_numbers
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host, Overhead
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed, ObservedVm, VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState, ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.model.transfer import SSH
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.conftest import (
    decide,
    obey,
    row,
)

OLD = {"name": "old-%i", "count": 2, "template": "web"}
NEW = {"name": "new-%i", "count": 2, "template": "web"}
FIRST = ("10.66.0.10", "10.66.0.11")
NEXT = ("10.66.0.12", "10.66.0.13")


def add(engine, name, **values):
    values = {"memory": 4096, "cpu": 16.0, **values}
    engine.hosts.allocate(Host(None, name, state=HostState.MONITORED, **values))


@pytest.fixture
def lost(inside):
    """Two machines run on node1, which was forgotten; there is another host."""
    obey(inside, decide(inside, OLD))
    inside.hosts.forget("node1")
    add(inside, "node2")
    return inside


def addresses(engine):
    return tuple(nic["ip"] for record in engine.vms.pool() for nic in record.nics)


def used(engine):
    return engine.networks.info("Public").address_ranges[0].used


def back(engine, *states, **values):
    """What node1 answers that has these two machines again."""
    vms = tuple(
        ObservedVm(vm_id, row(engine, vm_id)["uuid"], state, memory=0 if state == "POWEROFF" else 128)
        for vm_id, state in enumerate(states)
    )
    return Observed("node1", **{"catalog": engine.catalog(), "vms": vms, **values})


def other(engine):
    """What node2 answers of the machines that the catalog has there."""
    vms = tuple(
        ObservedVm(record.id, record.uuid, "RUNNING") for record in engine.vms.pool() if record.state == "RUNNING"
    )
    return Observed("node2", catalog=engine.catalog(), vms=vms)


def returns(engine, *states):
    add(engine, "node1")
    engine.vms.observe([back(engine, *states), other(engine)])


def test_machines_of_a_host_that_is_given_up_keep_their_addresses(lost):
    assert used(lost) == 2
    obey(lost, decide(lost, NEW))
    assert addresses(lost) == NEXT
    # A poll of the others tells nothing of it, however complete.
    lost.vms.observe([other(lost)])
    assert used(lost) == 4 and lost.ledger().findings == ()


def test_an_audit_knows_with_which_host_they_were_given_up_as_long_as_they_may_run_on(lost):
    assert lost.ledger().given_up == {0: "node1", 1: "node1"}
    lost.hosts.gone("node1")
    assert lost.ledger().given_up == {}


def test_they_are_free_once_the_host_was_seen_without_them(lost):
    add(lost, "node1")
    for answer in (
        Observed("node1", reached=False),
        # One that does not know whom it follows can't know which machines are its own.
        Observed("node1", catalog=""),
        Observed("node3", catalog=lost.catalog()),
    ):
        lost.vms.observe([answer, other(lost)])
        assert used(lost) == 2, answer
    # They came to another host.
    lost.vms.observe([Observed("node1", catalog=lost.catalog()), replace(back(lost, "RUNNING"), host="node2")])
    assert used(lost) == 1
    lost.vms.observe([Observed("node1", catalog=lost.catalog())])
    assert used(lost) == 1, "it was on node2, when it was seen last"
    lost.vms.observe([Observed("node2", catalog=lost.catalog())])
    assert used(lost) == 0 and lost.ledger().findings == ()
    obey(lost, decide(lost, NEW))
    assert addresses(lost) == FIRST


def test_a_poll_that_is_older_than_what_was_recorded_tells_nothing_of_them(lost):
    add(lost, "node1")
    lost.store.db.execute("UPDATE meta SET value = '7' WHERE key = 'plan'")
    lost.vms.record("node1", [], 7)
    lost.vms.observe([Observed("node1", catalog=lost.catalog(), done_number=6)])
    assert used(lost) == 2
    lost.vms.observe([back(lost, "RUNNING", done_number=6)])
    assert lost.vms.given_up() == []


def test_a_host_that_is_gone_for_good_leaves_nothing_behind(inside):
    obey(inside, decide(inside, OLD))
    inside.hosts.forget("node1", gone=True)
    assert used(inside) == 0 and inside.hosts.gone("node1") == []


def test_that_it_is_gone_for_good_can_be_said_later(lost):
    assert lost.hosts.gone("node2") == []
    assert lost.hosts.gone("node1") == [f"{address} of network Public" for address in FIRST]
    assert used(lost) == 0 and lost.hosts.gone("node1") == []


def test_machines_that_come_back_are_named_and_left_alone(lost):
    obey(lost, decide(lost, NEW))
    returns(lost, "RUNNING", "POWEROFF")
    assert [(each.name, each.host, each.state, each.addresses, each.doubles) for each in lost.vms.given_up()] == [
        ("old-0", "node1", "RUNNING", FIRST[:1], ()),
        ("old-1", "node1", "POWEROFF", FIRST[1:], ()),
    ]
    assert lost.vms.plans() == {}
    assert used(lost) == 4
    # What they hold of their host nobody else has.
    lost.hosts.update("node1", memory=256, overhead=Overhead(fixed=20))
    lost.hosts.update("node2", state=HostState.DISABLED)
    lost.vms.observe([back(lost, "RUNNING", "POWEROFF")])
    ((outcome,), _) = reconcile(lost, [{"name": "web", "template": "web", "memory": 100}])
    assert "node1 has 108 MiB left of 256, less 148 of machines that are not this catalog's" in str(outcome.error)
    lost.vms.observe([Observed("node1", catalog=lost.catalog())])
    ((outcome,), _) = reconcile(lost, [{"name": "web", "template": "web", "memory": 100}])
    assert outcome.error is None


def test_they_are_powered_off_where_that_is_wanted_and_then_all_is_free(lost):
    returns(lost, "RUNNING", "POWEROFF")
    assert lost.vms.plans(["node2"], end_given_up=True) == {}
    (plan,) = lost.vms.plans(end_given_up=True).values()
    assert (plan.host, plan.vms, [each.name for each in plan.given_up]) == ("node1", (), ["old-0", "old-1"])
    failed = {"kind": "TimedOut", "asked": "the lock", "found": "it is held", "remedy": ""}
    lost.vms.record("node1", [VmOutcome(0, 0, "UNKNOWN", False, failed), VmOutcome(1, 0, "POWEROFF", True)])
    assert used(lost) == 1
    # A late word about the machine as it was is none about this.
    lost.vms.record("node1", [VmOutcome(0, row(lost)["generation"], "RUNNING", True)])
    assert used(lost) == 1
    lost.vms.record("node1", [VmOutcome(0, 0, "POWEROFF", True)])
    assert used(lost) == 0
    # It is there, and off: nobody's concern but the audit's.
    lost.vms.observe([back(lost, "POWEROFF", "POWEROFF"), other(lost)])
    assert lost.vms.given_up() == [] and used(lost) == 0
    # Unless somebody starts it.
    lost.vms.observe([back(lost, "POWEROFF", "RUNNING"), other(lost)])
    assert [each.name for each in lost.vms.given_up()] == ["old-1"] and used(lost) == 1


@pytest.fixture
def doubled(inside):
    """As versions left it that held nothing: new machines have the addresses of those that run on node1, which is back.
    The first of the new ones is off."""
    obey(inside, decide(inside, OLD))
    inside.hosts.forget("node1", gone=True)
    add(inside, "node2")
    obey(inside, decide(inside, NEW))
    obey(inside, decide(inside, dict(NEW, name="new-0", count=1, state="poweroff")))
    assert addresses(inside) == FIRST
    add(inside, "node1")
    return inside


def test_a_machine_is_not_started_that_has_the_address_of_one_that_came_back(doubled):
    off = ObservedVm(2, row(doubled, 2)["uuid"], "POWEROFF")
    on = ObservedVm(3, row(doubled, 3)["uuid"], "RUNNING")
    observed = [back(doubled, "RUNNING", "RUNNING"), Observed("node2", catalog=doubled.catalog(), vms=(off, on))]
    doubled.vms.observe(observed)
    assert [each.doubles for each in doubled.vms.given_up()] == [("new-0 (id 2)",), ("new-1 (id 3)",)]
    # The one that runs goes on.
    (first, _as_it_is, second), _ = reconcile(
        doubled, [{"name": f"new-{index}", "template": "web"} for index in range(2)]
    )
    assert second.error is None
    assert str(first.error) == (
        "VM new-0 (id 2): start: its address 10.66.0.10 is also that of VM old-0 (id 0), which was given up, and is "
        "RUNNING on host node1. Have that one powered off, which keeps its disks, by a run with nebula_end_given_up: "
        "true (end_given_up of nebula_vm), then run again"
    )
    assert doubled.vms.plans() == {}
    # One that is off doubles nothing yet.
    doubled.vms.observe([back(doubled, "POWEROFF", "POWEROFF"), observed[1]])
    assert doubled.vms.given_up()[0].doubles == ("new-0 (id 2)",)
    ((outcome,), _) = reconcile(doubled, [{"name": "new-0", "template": "web"}])
    assert outcome.error is None
    # What was decided by then and not done waits all the same.
    doubled.vms.observe([back(doubled, "RUNNING", "POWEROFF"), observed[1]])
    assert doubled.vms.plans() == {}
    (record,) = doubled.vms.pool(names=["new-0"])
    assert record.error == (
        "it is not started: its address 10.66.0.10 is also that of VM old-0 (id 0), which was given up, and is RUNNING "
        "on host node1"
    )
    (plan,) = doubled.vms.plans(end_given_up=True).values()
    assert (plan.vms, len(plan.given_up)) == ((), 2)
    doubled.vms.record("node1", [VmOutcome(vm_id, 0, "POWEROFF", True) for vm_id in (0, 1)])
    doubled.vms.observe([back(doubled, "POWEROFF", "POWEROFF"), observed[1]])
    (plan,) = doubled.vms.plans().values()
    assert [each.vm.name for each in plan.vms] == ["new-0"]


def test_a_machine_that_the_catalog_does_not_know_is_nobodys_to_end(lost):
    add(lost, "node1")
    strangers = (ObservedVm(77, "u-77", "RUNNING", memory=64), ObservedVm(0, "another", "RUNNING", memory=64))
    lost.vms.observe([Observed("node1", catalog=lost.catalog(), vms=strangers), other(lost)])
    assert lost.vms.given_up() == [] and lost.vms.plans(end_given_up=True) == {}


def test_a_host_takes_over_no_machine_that_another_was_given_up_with(lost):
    add(lost, "node1")
    # It says that it has them, and then that it does not: what they lease is the first host's to free.
    lost.vms.observe([replace(back(lost, "RUNNING", "RUNNING"), host="node2")])
    lost.vms.observe([Observed("node2", catalog=lost.catalog())])
    assert used(lost) == 2
    # Neither where both say so.
    lost.vms.observe([back(lost, "RUNNING", "RUNNING"), replace(back(lost, "RUNNING", "RUNNING"), host="node2")])
    lost.vms.observe([Observed("node2", catalog=lost.catalog())])
    assert used(lost) == 2
    lost.vms.observe([Observed("node1", catalog=lost.catalog())])
    assert used(lost) == 0


def test_a_machine_that_its_host_has_ended_is_not_had_by_saying_so(inside):
    obey(inside, decide(inside, dict(OLD, count=1)))
    old = [ObservedVm(record.id, record.uuid, "RUNNING") for record in inside.vms.pool()]
    obey(inside, decide(inside, dict(OLD, count=1, state="absent")))
    obey(inside, decide(inside, dict(NEW, count=1)))
    assert used(inside) == 1
    for host in ("node1", "node2"):
        inside.vms.observe([Observed(host, catalog=inside.catalog(), vms=tuple(old))])
        assert inside.vms.given_up() == [] and used(inside) == 1
    assert not [record.error for record in inside.vms.pool() if "given up" in record.error]


def test_the_host_may_be_one_that_the_catalog_does_not_have(lost):
    lost.vms.observe([replace(back(lost, "RUNNING"), host="stranger"), other(lost)])
    assert [(each.name, each.host) for each in lost.vms.given_up()] == [("old-0", "stranger")]
    assert lost.vms.plans(end_given_up=True) == {}, "there is nobody who could be told"


def test_a_console_port_that_one_of_them_listens_on_is_taken(inside):
    obey(inside, decide(inside, dict(OLD, count=1, attributes={"GRAPHICS": {"TYPE": "vnc", "PORT": "6000"}})))
    inside.hosts.forget("node1")
    returns(inside, "RUNNING")
    item = {"name": "web", "template": "web", "attributes": {"GRAPHICS": {"TYPE": "vnc", "PORT": "6000"}}}
    ((outcome,), _) = reconcile(inside, [item])
    assert "graphics port 6000 on host node1: it is taken" in str(outcome.error)


def test_who_holds_an_address_is_told_with_the_way_to_have_it(lost):
    wanted = {"name": "web", "template": "web", "nics": [{"NETWORK": "Public", "IP": FIRST[0]}]}
    ((outcome,), _) = reconcile(lost, [wanted])
    assert "VM old-0 (id 0), given up with host node1, has it. Ask for another, or for none" in str(outcome.error)
    assert "nebula.provision.forget_host was told that the host is gone for good" in str(outcome.error)
    lost.hosts.update("node2", memory=99999, cpu=99.0)
    ((outcome,), _) = reconcile(lost, [dict(NEW, count=99)])
    assert "98 free of 100; 2 are held for machines that were given up with their host" in str(outcome.error)
    with pytest.raises(Exception, match=r"leased by VM old-0 \(id 0\), given up with host node1, VM old-1"):
        lost.networks.delete("Public")


def test_an_address_held_for_a_machine_that_the_catalog_does_not_know_is_told_as_that(inside):
    held = "INSERT INTO leases (network_id, ar_id, offset, vm_id, kind) VALUES (0, 0, 0, 77, 'unknown')"
    inside.store.db.execute(held)
    inside.store.db.execute("UPDATE address_ranges SET used = 1")
    wanted = {"name": "web", "template": "web", "nics": [{"NETWORK": "Public", "IP": FIRST[0]}]}
    ((outcome,), _) = reconcile(inside, [wanted])
    said = str(outcome.error)
    assert "it is held for machine 77, which the catalog does not know. Ask for another, or for none." in said
    assert "NIC 77" not in said and "once all hosts were seen without it" in said
    inside.hosts.update("node1", memory=99999, cpu=99.0)
    ((outcome,), _) = reconcile(inside, [dict(NEW, count=100)])
    assert "99 free of 100; 1 are held for machines that the catalog does not know" in str(outcome.error)


def test_a_restore_and_a_repair_leave_what_is_held(lost):
    assert list(raise_numbers._hold(lost.store, [])) == []
    assert lost.repair() == [] and used(lost) == 2
    obey(lost, decide(lost, NEW))
    assert addresses(lost) == NEXT


@pytest.mark.parametrize(
    ("transfer", "gone", "state"),
    [("shared", False, ImageState.DISABLED), ("shared", True, ImageState.READY), (SSH, False, ImageState.ERROR)],
)
def test_a_file_that_one_of_them_may_write_to_is_given_to_nobody(inside, transfer, gone, state):
    add(inside, "node2", transfer=transfer)
    image = inside.images.allocate(Image(None, "data", type=ImageType.DATABLOCK, persistent=True))
    inside.images.update(image.id, state=ImageState.READY, size=16, format="qcow2")
    item = {"name": "db", "template": "web", "host": "node2", "disks": [{"IMAGE": "demo"}, {"IMAGE": "data"}]}
    decide(inside, item)
    inside.hosts.forget("node2", gone=gone)
    assert inside.images.info("data").state == state
    assert inside.images.info("demo").state == ImageState.READY
