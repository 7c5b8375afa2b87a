# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nodes report of decisions."""

from __future__ import annotations

import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmOrders, VmRequest
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
