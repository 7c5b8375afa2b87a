# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest does not let go is its machine's again, with its address, its file and its place in the list. What a
node refuses before it does anything was never the machine's."""

from __future__ import annotations

import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile

OS, DATA, EMPTY = {"IMAGE": "demo"}, {"IMAGE": "more"}, {"TYPE": "fs", "SIZE": 8}
PUBLIC = {"NETWORK": "Public"}
KEPT = {"kind": "TimedOut", "asked": "changing virtual machine 0", "found": "its guest has it", "remedy": ""}
FULL = {"name": "web", "template": "web", "disks": [OS, DATA, EMPTY], "nics": [PUBLIC, PUBLIC]}


def decide(engine, item):
    with engine.session():
        (outcome,), _warnings = reconcile(engine, [item])
        planned = [each for plan in engine.vms.plans().values() for each in plan.vms]
    assert outcome.error is None, outcome.error
    return outcome, planned


def decide_and_answer(engine, item):
    for planned in decide(engine, item)[1]:
        answer(engine, planned)


def answer(engine, planned, error=None, fitted=True, stays=(), untouched=False):
    with engine.session():
        values = {"fitted": fitted, "stays": stays, "untouched": untouched}
        outcome = VmOutcome(0, planned.generation, "RUNNING", not untouched, error, **values)
        engine.vms.record("node1", [outcome])


def books(engine):
    """Leases, uses of images, and what is wrong with either."""
    used = engine.networks.info("Public").address_ranges[0].used
    wrong = [each for each in engine.ledger().findings if each.kind == "catalog-books"]
    return used, {image.name: image.vms for image in engine.images.pool()}, wrong


@pytest.fixture
def site(engine):
    with engine.session():
        more = engine.images.allocate(Image(None, "more", type=ImageType.DATABLOCK))
        engine.images.update(more.id, state=ImageState.READY, size=8)
    _outcome, (planned,) = decide(engine, FULL)
    answer(engine, planned)
    return engine


def shown(engine):
    row = dict(engine.store.row("SELECT request, body, leaving, waits FROM vms"))
    body = json.loads(row["body"])
    # The order of attributes of different names says nothing, and a number is never given twice.
    request = sorted(json.loads(row["request"]), key=lambda pair: pair[0])
    return {**row, "request": request, "body": {key: body[key] for key in body if not key.startswith("next_")}}


def leases(engine):
    rows = engine.store.rows("SELECT * FROM leases ORDER BY network_id, ar_id, offset")
    return [tuple(row) for row in rows]


LISTS = {
    "a NIC": ({"nics": [PUBLIC]}, ("NIC 1",)),
    "a disk": ({"disks": [OS, DATA]}, ("DISK 2",)),
    "an image's disk": ({"disks": [OS, EMPTY]}, ("DISK 1",)),
    "all that can go": ({"disks": [OS], "nics": []}, ("DISK 1", "DISK 2", "NIC 0", "NIC 1")),
}


@pytest.mark.parametrize("what", LISTS)
def test_what_stays_is_as_it_was(site, what):
    less, stays = LISTS[what]
    before, had, held = shown(site), books(site), leases(site)
    item = dict(FULL, **less, detach=True)
    _outcome, (planned,) = decide(site, item)
    assert (planned.agreed and planned.refitted and leases(site) != held) or "nics" not in less
    answer(site, planned, KEPT, False, stays)
    assert (shown(site), books(site), leases(site)) == (before, had, held)
    assert site.vms.pool()[0].error and not site.vms.pool()[0].loses
    # The list that it had before has nothing to do, but for what failed.
    outcome, planned = decide(site, FULL)
    assert not outcome.parts and all(each.detached == () and not each.agreed for each in planned)
    for each in planned:
        answer(site, each)
    # And the other asks for it again.
    _outcome, (planned,) = decide(site, item)
    answer(site, planned)
    assert books(site)[0] == len(item["nics"]) and books(site)[2] == []
    assert (shown(site)["leaving"], site.vms.pool()[0].error) == ("{}", "")


def test_what_went_before_the_refusal_is_gone(site):
    _outcome, (planned,) = decide(site, dict(FULL, disks=[OS, DATA], nics=[PUBLIC], detach=True))
    answer(site, planned, KEPT, False, ("NIC 1",))
    vm = site.vms.pool()[0]
    assert ([disk["disk_id"] for disk in vm.disks], [nic["nic_id"] for nic in vm.nics]) == ([0, 1], [0, 1])
    # The file of the disk goes once all fits.
    _outcome, (planned,) = decide(site, dict(FULL, disks=[OS, DATA], nics=[PUBLIC], detach=True))
    assert planned.detached == (2,)
    answer(site, planned)
    assert books(site)[0] == 1 and shown(site)["leaving"] == "{}"


def test_what_came_with_it_is_not_there_and_comes_with_the_same_list_again(site):
    """It would have come after what goes: its target, its place among what the machine boots from."""
    before, had = shown(site), books(site)
    nics = [PUBLIC, dict(PUBLIC, MODEL="e1000"), PUBLIC]
    item = dict(FULL, disks=[OS, {"IMAGE": "other"}, EMPTY, dict(EMPTY, SIZE=9)], nics=nics, memory=256)
    with site.session():
        other = site.images.allocate(Image(None, "other", type=ImageType.DATABLOCK))
        site.images.update(other.id, state=ImageState.READY, size=8)
    _outcome, (planned,) = decide(site, dict(item, detach=True))
    answer(site, planned, KEPT, False, ("DISK 1",))
    now = shown(site)
    assert (now["body"], now["request"]) == (before["body"], before["request"])
    targets = [disk["target"] for disk in now["body"]["disks"]]
    assert len(set(targets)) == len(targets) and site.hosts.info("node1").memory_used == 128
    # What was made for it goes once all fits, and nothing of it is in the books then.
    _outcome, (planned,) = decide(site, FULL)
    assert planned.detached and planned.refitted
    answer(site, planned)
    assert (books(site), site.vms.pool()[0].awaits) == ((2, {**had[1], "other": 0}, []), False)
    _outcome, (planned,) = decide(site, dict(item, detach=True))
    answer(site, planned)
    assert books(site)[0] == 3 and books(site)[1]["other"] == 1 and books(site)[2] == []


def test_what_was_owed_before_is_still_owed(site):
    """A NIC that is to go with a power-off that the guest ignores."""
    _outcome, (planned,) = decide(site, dict(FULL, nics=[PUBLIC], state="poweroff"))
    answer(site, planned, KEPT, False)
    held = leases(site)
    _outcome, (planned,) = decide(site, dict(FULL, nics=[PUBLIC], disks=[OS, DATA], detach=True))
    answer(site, planned, KEPT, False, ("DISK 2", "NIC 1"))
    assert leases(site) == held and site.vms.pool()[0].awaits
    # The machine has it, so that its address stays taken, whatever succeeds meanwhile.
    _outcome, planned = decide(site, dict(FULL, nics=[PUBLIC], cpu=1))
    for each in planned:
        answer(site, each, None, False)
    assert leases(site) == held


SECOND = ({}, {"nics": [PUBLIC, PUBLIC]}, {"renamed_from": "web", "name": "db"}, {"memory": 256})


@pytest.mark.parametrize("second", SECOND)
def test_of_two_decisions_without_an_answer_nothing_is_undone(site, second):
    """What the node then does is the second, and that is what the machine is to be."""
    decide(site, dict(FULL, nics=[PUBLIC], detach=True))
    _outcome, planned = decide(site, {**FULL, "nics": [PUBLIC], "detach": True, "cpu": 1, **second})
    before = shown(site)
    answer(site, planned[0], KEPT, False, ("NIC 1",))
    after = shown(site)
    assert (after["request"], after["body"], after["leaving"]) == (before["request"], before["body"], "{}")


@pytest.mark.parametrize("silent", [True, False])
@pytest.mark.parametrize("more", [{}, {"attributes": {"MEMORY_MAX": "512", "VCPU_MAX": "4"}}])
def test_the_same_list_again_is_no_other_decision(site, silent, more):
    """Of a run that was killed, and of a host that did not answer."""
    if more:
        _outcome, (planned,) = decide(site, {**FULL, **more, "recreate": True})
        answer(site, planned)
    before, held = shown(site), leases(site)
    item = {**FULL, **more, "nics": [PUBLIC], "detach": True}
    _outcome, planned = decide(site, item)
    if silent:
        with site.session():
            site.vms.record("node1", None)
    _outcome, again = decide(site, item)
    answer(site, (again or planned)[0], KEPT, False, ("NIC 1",))
    assert (shown(site), leases(site)) == (before, held)


@pytest.mark.parametrize(("state", "waits"), [("POWEROFF", None), ("RUNNING", False), ("UNKNOWN", None)])
def test_only_a_machine_that_runs_on_has_anything_still(site, state, waits):
    decide_and_answer(site, dict(FULL, memory=256))
    _outcome, (planned,) = decide(site, dict(FULL, memory=256, nics=[PUBLIC], detach=True))
    with site.session():
        outcome = VmOutcome(0, planned.generation, state, True, KEPT, fitted=False, waits=waits, stays=("NIC 1",))
        site.vms.record("node1", [outcome])
    assert len(site.vms.pool()[0].nics) == 1
    assert books(site)[2] == [] and site.hosts.info("node1").memory_used >= site.vms.pool()[0].memory


def test_what_is_filtered_of_the_host_is_said_again(site):
    _outcome, (planned,) = decide(site, dict(FULL, nics=[PUBLIC], detach=True))
    answer(site, planned, KEPT, False, ("NIC 1",))
    with site.session():
        reconcile(site, [{"name": "db", "template": "web"}])
        (plan,) = site.vms.plans().values()
    # Nothing is said to be there already.
    assert plan.guards_since is None or set(plan.machines) >= {0, 1}


def test_a_machine_that_is_made_anew_has_nothing_to_take_back(site):
    decide(site, dict(FULL, nics=[PUBLIC], detach=True))
    decide(site, dict(FULL, nics=[PUBLIC], memory=300, recreate=True))
    assert shown(site)["leaving"] == "{}"


def test_a_nic_goes_with_its_aliases_and_stays_with_them(site):
    alias = {"NETWORK": "Public", "PARENT": "second"}
    aliased = dict(FULL, nics=[PUBLIC, dict(PUBLIC, NAME="second")], nic_aliases=[alias])
    _outcome, (planned,) = decide(site, aliased)
    answer(site, planned)
    before, held = shown(site), leases(site)
    _outcome, (planned,) = decide(site, dict(aliased, nics=[PUBLIC], nic_aliases=[], detach=True))
    assert leases(site) != held
    answer(site, planned, KEPT, False, ("NIC 1",))
    assert (shown(site), leases(site)) == (before, held)


@pytest.mark.parametrize("stays", [(), ("NIC 7", "CONTEXT", "body", "DISK", "x y z", "")])
def test_what_a_node_does_not_name_or_nobody_took_is_left_as_it_is(site, stays):
    _outcome, (planned,) = decide(site, dict(FULL, nics=[PUBLIC], detach=True))
    before = shown(site)
    answer(site, planned, KEPT, False, stays)
    assert shown(site) == before and site.vms.pool()[0].loses


def test_a_machine_that_is_off_has_lost_it(site):
    _outcome, (planned,) = decide(site, dict(FULL, nics=[PUBLIC], detach=True))
    with site.session():
        site.vms.record("node1", [VmOutcome(0, planned.generation, "POWEROFF", True, KEPT, fitted=None)])
    assert shown(site)["leaving"] == "{}"


def test_nothing_is_kept_of_what_waits(site):
    """It is the machine's until its next start, and its list says nothing of it any more."""
    decide(site, dict(FULL, nics=[PUBLIC]))
    assert shown(site)["leaving"] == "{}"


REFUSED = {"kind": "Unsupported", "asked": "VM web: DISK 3, attached", "found": "no slot is free", "remedy": ""}
MORE = {
    "a disk": {"disks": [OS, DATA, EMPTY, EMPTY]},
    "a NIC": {"nics": [PUBLIC, PUBLIC, PUBLIC]},
    "an image's disk": {"disks": [OS, DATA, EMPTY, DATA]},
    "all, with other sizes": {"disks": [OS, DATA, EMPTY, DATA], "nics": [PUBLIC] * 4, "memory": 256, "cpu": 2},
    "one comes, another one goes": {"disks": [OS, EMPTY, DATA], "nics": [PUBLIC], "detach": True},
}


def whole(engine):
    vm = engine.store.row("SELECT request, body, waits, cpu, memory, overhead, kept_memory, held, orders FROM vms")
    request = sorted(json.loads(vm["request"]), key=lambda pair: pair[0])
    return {**dict(vm), "request": request}, books(engine), leases(engine), engine.hosts.info("node1").memory_used


@pytest.mark.parametrize("what", MORE)
def test_what_a_node_refuses_is_in_no_book(site, what):
    """Nothing holds an address or an image, no number is used up, and the list of before has nothing to do."""
    before = whole(site)
    for _run in range(3):
        _outcome, (planned,) = decide(site, {**FULL, **MORE[what]})
        answer(site, planned, REFUSED, False, untouched=True)
        assert whole(site) == before and site.vms.pool()[0].error
    outcome, planned = decide(site, FULL)
    assert not outcome.parts and not any(each.refitted or each.detached for each in planned)
    for each in planned:
        answer(site, each, fitted=None)
    assert whole(site) == before and not site.vms.pool()[0].error
    # What has a place gets it.
    _outcome, (planned,) = decide(site, {**FULL, **MORE[what]})
    answer(site, planned)
    assert books(site)[2] == [] and shown(site)["leaving"] == "{}"


def test_nor_is_memory_that_a_node_refuses(site):
    room = dict(FULL, attributes={"MEMORY_MAX": "512", "MEMORY_RESIZE_MODE": "HOTPLUG", "VCPU_MAX": "4"}, vcpu=1)
    _outcome, (planned,) = decide(site, dict(room, recreate=True))
    answer(site, planned)
    before = whole(site)
    for more in ({"memory": 256}, {"vcpu": 3}):
        _outcome, (planned,) = decide(site, {**room, **more})
        assert shown(site)["leaving"] != "{}"
        answer(site, planned, REFUSED, None, untouched=True)
        assert whole(site) == before and site.vms.pool()[0].error


def test_a_change_of_the_catalogs_own_keeps_nothing(site):
    """A later refusal of something else would undo it."""
    more = {**FULL, "attributes": {"MEMORY_MAX": "512", "VCPU_MAX": "4"}}
    _outcome, (planned,) = decide(site, {**more, "recreate": True})
    answer(site, planned)
    _outcome, planned = decide(site, {**more, "attributes": {**more["attributes"], "DESCRIPTION": "another"}})
    for each in planned:
        answer(site, each, fitted=None)
    assert shown(site)["leaving"] == "{}"


def test_what_a_broken_off_run_has_begun_is_the_machines(site):
    """Its node does not say that nothing was done."""
    _outcome, (planned,) = decide(site, {**FULL, **MORE["a disk"]})
    answer(site, planned, REFUSED, False)
    assert len(site.vms.pool()[0].disks) == 4


@pytest.mark.parametrize("failed", [True, False])
def test_what_came_before_a_guest_was_asked_stays_with_its_machine(site, failed):
    """A disk came, and a NIC was to go with the next start: that is agreed later, and the guest refuses."""
    more = dict(FULL, nics=[PUBLIC], disks=[OS, DATA, EMPTY, EMPTY])
    _outcome, (planned,) = decide(site, more)
    answer(site, planned, REFUSED if failed else None, False)
    _outcome, planned = decide(site, dict(more, detach=True))
    for each in planned:
        answer(site, each, KEPT, False, ("NIC 1",))
    assert [disk["disk_id"] for disk in site.vms.pool()[0].disks] == [0, 1, 2, 4]
