# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that are made anew."""

from __future__ import annotations

import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmOrders
from ansible_collections.nebula.provision.plugins.module_utils.errors import NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed, ObservedVm
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState, ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.conftest import (
    decide,
    obey,
    row,
)
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.vms.conftest import (
    ANEW,
    DB,
    DROPPED,
    ERROR,
    PUBLIC,
    TAKER,
    WAITS,
    on_xen,
    record,
    refused,
    say,
)


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


@pytest.mark.parametrize("in_order", [list, reversed])
def test_an_image_that_a_machine_is_made_anew_without_is_its_own_until_that_is_done(db, in_order):
    (error,) = refused(db, *in_order([DROPPED, TAKER]))
    assert WAITS in error
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
    (error,) = outcomes[0].differs
    assert "was to be made anew by an earlier list, which its host could not" in error
    assert "set recreate: true to have it made anew as the list says now" in error
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
    (error,) = refused(inside, *in_order([dict(item, disks=disks[:1]), dict(TAKER, host="node1")]))
    assert WAITS in error
    obey(inside, inside.vms.plans())
    obey(inside, decide(inside, dict(TAKER, host="node1")))
    assert inside.ledger().findings == ()


def test_an_image_that_nobody_loses_is_told_as_that(db):
    (error,) = refused(db, TAKER, dict(DB, cpu=1))
    assert "end that one, or use another image" in error


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
