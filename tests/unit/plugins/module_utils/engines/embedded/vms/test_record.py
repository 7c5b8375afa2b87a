# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nodes report of decisions."""

from __future__ import annotations

import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmOrders, VmRequest
from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.conftest import (
    decide,
    obey,
    row,
)
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.vms.conftest import (
    ERROR,
    PLAIN,
    PUBLIC,
    on_xen,
    record,
    refused,
    say,
)


def test_an_address_of_a_nic_that_is_taken_away_is_free_when_that_is_done(inside):
    nics = [{"NETWORK": "Public"}, {"NETWORK": "Public"}]
    two = on_xen(inside, "two", nics=nics)
    taker = {"name": "taker", "template": "web", "host": "node1", "nics": [{"NETWORK": "Public", "IP": "10.66.0.11"}]}
    (error,) = refused(inside, dict(two, nics=nics[:1]), taker)
    assert "VM two (id 0) has it until it is made anew, or was off. Run again when that is done" in error
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


def test_what_a_node_reports_of_an_older_decision_is_passed_over(web):
    generation = record(web).generation
    web.vms.action(0, "POWEROFF", VmOrders())
    assert say(web, "POWEROFF", generation=generation) == []
    assert record(web).state == "SHUTDOWN_POWEROFF"
    assert [each.state for each in say(web, "POWEROFF")] == ["POWEROFF"]
    # It is recorded once.
    assert say(web, "RUNNING") == []
    assert record(web).state == "POWEROFF"


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


# -- a host is believed of its own machines only ------------------------------------------------------------------
def everything(engine):
    """All that the catalog holds of machines, leases, images and hosts."""
    tables = [row["name"] for row in engine.store.rows("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {table: [tuple(each) for each in engine.store.rows(f"SELECT * FROM {table}")] for table in tables}


@pytest.mark.parametrize("state", ["DONE", "RUNNING", "POWEROFF"])
@pytest.mark.parametrize("ending", [False, True])
def test_a_host_can_say_nothing_of_another_hosts_machine(web, state, ending):
    web.hosts.allocate(Host(None, "node2", state=HostState.MONITORED, memory=4096, cpu=16.0))
    obey(web, decide(web, {"name": "second", "template": "web", "host": "node2"}))
    web.vms.action(0, "DONE" if ending else "POWEROFF", VmOrders())
    before = everything(web)
    outcomes = [VmOutcome(1, record(web, 1).generation, "RUNNING"), VmOutcome(0, record(web).generation, state)]
    with pytest.raises(ForeignObject) as caught:
        web.vms.record("node2", outcomes)
    assert "host node2: what it says it did: it tells of machine 0, which is on host node1" in str(caught.value)
    assert everything(web) == before


@pytest.mark.parametrize(
    ("vm_id", "generation", "found"),
    [(7, 1, "which the catalog does not have"), (0, 99, "of a decision that nobody has made")],
)
def test_a_host_can_tell_only_of_what_was_decided(web, vm_id, generation, found):
    web.vms.action(0, "POWEROFF", VmOrders())
    before = everything(web)
    with pytest.raises(ForeignObject, match=found):
        say(web, "POWEROFF", vm_id=vm_id, generation=generation)
    assert everything(web) == before


def test_a_host_has_carried_out_no_plan_that_nobody_made(web):
    before = everything(web)
    with pytest.raises(ForeignObject, match="plan 1000000000"):
        web.vms.record("node1", [], done_number=10**9)
    assert everything(web) == before


def test_a_host_ends_no_machine_that_was_given_up_with_another(web):
    web.hosts.forget("node1")
    web.hosts.allocate(Host(None, "node2", state=HostState.MONITORED, memory=4096, cpu=16.0))
    before = everything(web)
    with pytest.raises(ForeignObject, match="was given up with host node1"):
        web.vms.record("node2", [VmOutcome(0, 0, "POWEROFF")])
    assert everything(web) == before
