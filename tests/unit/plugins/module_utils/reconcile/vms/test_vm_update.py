# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a list may ask of a machine that is there: states that it can be brought to, and devices that come and go."""

from __future__ import annotations

import json

import changes_of_machines
import pytest

from ansible_collections.nebula.provision.plugins.module_utils.dataclass import replace
from ansible_collections.nebula.provision.plugins.module_utils.model.context import Context, ContextFile
from ansible_collections.nebula.provision.plugins.module_utils.model.device_matching import HOTPLUG, POWEROFF
from ansible_collections.nebula.provision.plugins.module_utils.model.hypervisor_rules import rules_of
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Growth, Topology, Vm
from ansible_collections.nebula.provision.plugins.module_utils.model.waiting_changes import with_context
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.reconcile.vms.conftest import (
    VM,
    failed,
    record,
    refusal,
    run,
    want,
)

NEWEST = rules_of("kvm").hardware_version
ERROR = {"kind": "HypervisorError", "asked": "VM web", "found": "it broke", "remedy": ""}
PUBLIC = {"NETWORK": "Public"}


# -- states ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "state", "says"),
    [
        ("poweroff", "rebooted", "VM web (id 0): state rebooted: it is POWEROFF. Let it run first"),
        ("poweroff", "reset", "VM web (id 0): state reset: it is POWEROFF. Let it run first"),
        ("poweroff", "suspended", "VM web (id 0): state suspended: it is POWEROFF. Let it run first"),
        ("suspended", "poweroff", "what its memory holds would be lost. Let it run first, or set hard: true"),
    ],
)
def test_a_state_that_can_not_be_reached_from_here_says_what_to_do_first(engine, there, state, says):
    run(engine, VM)
    run(engine, dict(VM, state=there))
    assert says in refusal(engine, dict(VM, state=state))


def test_what_memory_holds_may_be_given_up(engine):
    run(engine, VM)
    run(engine, dict(VM, state="suspended"))
    (planned,) = run(engine, dict(VM, state="poweroff", hard=True))
    assert (planned.wanted, planned.hard) == ("POWEROFF", True)


def test_a_machine_that_is_not_there_can_not_be_suspended(engine):
    assert "there is no such machine yet. Let it run first" in refusal(engine, dict(VM, state="suspended"))


@pytest.mark.parametrize("there", ["running", "poweroff", "suspended"])
def test_to_be_present_changes_no_state(engine, there):
    run(engine, VM)
    run(engine, dict(VM, state=there))
    assert want(engine, dict(VM, state="present"))[1] == []


def test_what_did_not_fail_needs_no_recovery(engine):
    run(engine, VM)
    assert want(engine, dict(VM, state="recovered"))[1] == []


def test_what_failed_goes_on_to_what_was_wanted_of_it(engine):
    run(engine, dict(VM, state="poweroff"), "BOOT_FAILURE", ERROR)
    (planned,) = want(engine, dict(VM, state="recovered"))[1]
    assert planned.wanted == "POWEROFF"


@pytest.mark.parametrize("state", ["running", "recovered"])
def test_what_is_where_it_should_be_and_was_not_done_in_full_is_tried_again(engine, state):
    run(engine, VM)
    run(engine, dict(VM, cpu=1), "RUNNING", ERROR)
    assert [each.wanted for each in want(engine, dict(VM, cpu=1, state=state))[1]] == ["RUNNING"]


# -- devices -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def xen(engine):
    """On a host where disks and NICs come and go while a machine runs: one runs there."""
    with engine.session():
        engine.hosts.update("node1", hypervisor="xen")
        more = engine.images.allocate(Image(None, "more", type=ImageType.DATABLOCK))
        engine.images.update(more.id, state=ImageState.READY, size=8)
    run(engine, dict(VM, disks=[{"IMAGE": "demo"}, {"IMAGE": "more"}]))
    return engine


def test_a_nic_comes_to_a_machine_that_runs_and_goes(xen):
    item = dict(VM, disks=[{"IMAGE": "demo"}, {"IMAGE": "more"}])
    outcomes, (planned,) = want(xen, dict(item, nics=[PUBLIC, PUBLIC]))
    assert [(change.attribute, change.how) for change in outcomes[0].changes] == [("NIC", HOTPLUG)]
    assert [(nic.nic_id, nic.ip) for nic in planned.vm.nics] == [(0, "10.66.0.10"), (1, "10.66.0.11")]
    run(xen, dict(item, nics=[PUBLIC, PUBLIC]))
    # Nothing is taken from a running machine unasked.
    assert "Set detach: true in its item, or nebula_live_removal: true" in left(xen, dict(item, nics=[PUBLIC]))
    (planned,) = run(xen, dict(item, nics=[PUBLIC], detach=True))
    assert planned.agreed
    assert [nic.nic_id for nic in planned.vm.nics] == [0]
    assert xen.networks.info("Public").address_ranges[0].used == 1


def test_one_word_lets_all_machines_lose_what_the_list_says_no_more(xen):
    item = dict(VM, disks=[{"IMAGE": "demo"}, {"IMAGE": "more"}])
    run(xen, dict(item, nics=[PUBLIC, PUBLIC]))
    for live_removal in (False, True):
        with xen.session():
            (outcome,), _warnings = reconcile(xen, [dict(item, nics=[PUBLIC])], live_removal=live_removal)
            planned = [each for plan in xen.vms.plans().values() for each in plan.vms]
        assert (len(planned), outcome.differs == ()) == (live_removal, live_removal)
    assert planned[0].agreed and [nic.nic_id for nic in planned[0].vm.nics] == [0]
    # A disk of the machine's own needs its item's word all the same.
    with xen.session():
        (outcome,), _warnings = reconcile(xen, [dict(VM, nics=[PUBLIC])], live_removal=True)
    assert "Set detach: true" in outcome.differs[0]


def test_each_nic_says_when_it_changes(engine):
    run(engine, VM)
    held = dict(PUBLIC, IP="10.66.0.10")
    item = dict(VM, nics=[dict(held, MODEL="e1000"), PUBLIC])
    outcomes, (planned,) = want(engine, item)
    assert outcomes[0].differs == () and planned.waits
    assert [(each.part, each.found, each.wanted, each.when) for each in outcomes[0].parts] == [
        ("NIC 0", "nothing of it", "[ MODEL = e1000 ]", "at its next start"),
        ("NIC of network Public", "nothing", "network Public", "at once"),
    ]
    run(engine, item)
    waiting = [{"part": "NIC 0", "found": "nothing of it", "wanted": "[ MODEL = e1000 ]"}]
    assert engine.vms.pool()[0].waits == waiting
    assert want(engine, item)[1] == []
    # What the machine runs with is no change.
    run(engine, dict(VM, nics=[held, PUBLIC]))
    assert engine.vms.pool()[0].waits == []


def test_a_disk_of_its_own_goes_only_if_that_is_said(xen):
    item = dict(VM, disks=[{"IMAGE": "demo"}])
    outcomes, planned = want(xen, item)
    assert planned == []
    (differs,) = outcomes[0].differs
    assert differs == (
        "VM web (id 0) has a disk that the list does not: disk 1, of image more; left as it is: what it holds is the "
        "machine's own, and would be lost. Set detach: true to have it taken away"
    )
    (difference,) = outcomes[0].differences
    assert (difference.attribute, difference.found) == ("DISK", "disk 1, of image more")
    (planned,) = run(xen, dict(item, detach=True))
    assert ([disk.disk_id for disk in planned.vm.disks], planned.detached) == ([0], (1,))
    assert xen.images.info("more").vms == 0
    assert want(xen, item)[1] == []


def test_a_disk_that_is_an_images_own_file_goes_with_nothing_lost(xen):
    with xen.session():
        kept = xen.images.allocate(Image(None, "kept", type=ImageType.DATABLOCK, persistent=True))
        xen.images.update(kept.id, state=ImageState.READY, size=8)
    both = [{"IMAGE": "demo"}, {"IMAGE": "more"}]
    (planned,) = run(xen, dict(VM, disks=[*both, {"IMAGE": "kept"}]))
    assert [disk.image for disk in planned.vm.disks] == ["demo", "more", "kept"]
    assert "nothing is taken from a running machine unasked" in left(xen, dict(VM, disks=both))
    (planned,) = run(xen, dict(VM, disks=both, detach=True))
    assert len(planned.detached) == 1
    assert xen.images.info("kept").vms == 0


# -- devices of a machine that is off ----------------------------------------------------------------------------------
HYPERVISORS = ("kvm", "xen", "xen_libvirt")
OS, DATA = {"IMAGE": "demo"}, {"IMAGE": "more"}


def empty(size, **more):
    return {"TYPE": "fs", "SIZE": str(size), **more}


@pytest.fixture(params=HYPERVISORS)
def host(engine, request):
    """An engine whose host has that hypervisor."""
    with engine.session():
        engine.hosts.update("node1", hypervisor=request.param)
        more = engine.images.allocate(Image(None, "more", type=ImageType.DATABLOCK))
        engine.images.update(more.id, state=ImageState.READY, size=8)
    return engine


def made(engine, *disks, state="poweroff", **more):
    run(engine, dict(VM, disks=list(disks), **more))
    if state != "running":
        run(engine, dict(VM, disks=list(disks), state=state, **more))


def shown(engine):
    (record,) = engine.vms.pool()
    return [(disk["disk_id"], disk["target"][-1], disk["size"]) for disk in record.disks]


def left(engine, item):
    outcomes, planned = want(engine, item)
    assert planned == []
    assert [str(outcome.error) for outcome in outcomes if outcome.error] == []
    (differs,) = outcomes[0].differs
    return differs


def test_a_nic_comes_to_a_machine_that_is_off_and_goes(host):
    made(host, OS)
    item = dict(VM, disks=[OS], state="poweroff")
    outcomes, (planned,) = want(host, dict(item, nics=[PUBLIC, PUBLIC]))
    assert [change.attribute for change in outcomes[0].changes] == ["NIC"]
    assert (planned.wanted, planned.refitted) == ("POWEROFF", True)
    assert [(nic.nic_id, nic.ip) for nic in planned.vm.nics] == [(0, "10.66.0.10"), (1, "10.66.0.11")]
    assert planned.vm.context.variables["ETH1_IP"] == "10.66.0.11"
    run(host, dict(item, nics=[PUBLIC, PUBLIC]))
    assert want(host, dict(item, nics=[PUBLIC, PUBLIC]))[1] == []
    # The first one goes, and the other stays what it is.
    (planned,) = run(host, dict(item, nics=[{"NETWORK": "Public", "IP": "10.66.0.11"}]))
    assert [(nic.nic_id, nic.ip) for nic in planned.vm.nics] == [(1, "10.66.0.11")]
    assert not [name for name in planned.vm.context.variables if name.startswith("ETH0")]
    assert host.networks.info("Public").address_ranges[0].used == 1


def test_the_start_that_the_list_asks_for_has_the_new_nic(host):
    made(host, OS)
    (planned,) = run(host, dict(VM, disks=[OS], nics=[PUBLIC, PUBLIC]))
    assert (planned.wanted, len(planned.vm.nics)) == ("RUNNING", 2)


def test_a_machine_that_is_to_be_off_gets_it_in_the_same_run(host):
    made(host, OS, state="running")
    (planned,) = run(host, dict(VM, disks=[OS], state="poweroff", nics=[PUBLIC, PUBLIC]))
    assert (planned.wanted, planned.refitted, len(planned.vm.nics)) == ("POWEROFF", True, 2)


def test_a_nic_changes_its_model_and_keeps_its_address(host):
    made(host, OS)
    item = dict(VM, disks=[OS], state="poweroff", nics=[dict(PUBLIC, MODEL="e1000")])
    outcomes, (planned,) = want(host, item)
    assert [(change.attribute, change.how) for change in outcomes[0].changes] == [("NIC", POWEROFF)]
    assert [(nic.nic_id, nic.ip, nic.model) for nic in planned.vm.nics] == [(0, "10.66.0.10", "e1000")]


def test_another_address_is_another_nic_and_the_old_one_stays_held_until_it_is_gone(host):
    made(host, OS)
    item = dict(VM, disks=[OS], state="poweroff", nics=[{"NETWORK": "Public", "IP": "10.66.0.40"}])
    (planned,) = want(host, item)[1]
    assert [(nic.nic_id, nic.ip) for nic in planned.vm.nics] == [(1, "10.66.0.40")]
    assert host.networks.info("Public").address_ranges[0].used == 2
    outcomes, _planned = want(host, dict(VM, name="b", nics=[{"NETWORK": "Public", "IP": "10.66.0.10"}]))
    assert "VM web (id 0) has it until" in str(outcomes[0].error)
    run(host, item)
    assert host.networks.info("Public").address_ranges[0].used == 1


def test_disks_come_grow_and_go_and_the_others_keep_number_and_target(host):
    made(host, OS, empty(5), empty(6), empty(7))
    before = shown(host)
    item = dict(VM, disks=[OS, empty(5), empty(9), DATA], state="poweroff", detach=True)
    outcomes, planned = want(host, item)
    # Which of the two is to be nine?
    assert planned == []
    assert "has disks that nothing tells apart" in outcomes[0].differs[0]
    letter = before[3][1]
    item["disks"][2] = empty(9, TARGET=host.vms.pool()[0].disks[3]["target"])
    (planned,) = run(host, item)
    assert (planned.detached, planned.grown, planned.refitted) == ((2,), (3,), True)
    there = shown(host)
    assert there[:2] == before[:2]
    assert there[2] == (3, letter, 9)
    # The context has number 4.
    assert there[3][0] == 5 and there[3][2] == 8
    assert want(host, item)[1] == []


def test_the_middle_one_of_three_images_disks_goes_and_only_it(host):
    with host.session():
        for name in ("one", "two", "three"):
            found = host.images.allocate(Image(None, name, type=ImageType.DATABLOCK))
            host.images.update(found.id, state=ImageState.READY, size=8)
    data = [{"IMAGE": name} for name in ("one", "two", "three")]
    made(host, OS, *data)
    item = dict(VM, disks=[OS, data[0], data[2]], state="poweroff")
    assert "has a disk that the list does not: disk 2, of image two" in left(host, item)
    (planned,) = run(host, dict(item, detach=True))
    assert planned.detached == (2,)
    assert [disk.image for disk in planned.vm.disks] == ["demo", "one", "three"]
    assert [host.images.info(name).vms for name in ("one", "two", "three")] == [1, 0, 1]


def test_a_cdrom_and_an_images_own_file_go_with_nothing_lost(host):
    """As the ISO does after an installation."""
    with host.session():
        for name, kind, persistent in (("iso", ImageType.CDROM, False), ("kept", ImageType.DATABLOCK, True)):
            found = host.images.allocate(Image(None, name, type=kind, persistent=persistent))
            host.images.update(found.id, state=ImageState.READY, size=8)
    made(host, {"IMAGE": "iso"}, OS, {"IMAGE": "kept"})
    before = {disk["image"]: (disk["disk_id"], disk["target"]) for disk in host.vms.pool()[0].disks}
    (planned,) = run(host, dict(VM, disks=[OS], state="poweroff"))
    assert planned.detached == (0, 2)
    assert [(disk.disk_id, disk.target) for disk in planned.vm.disks] == [before["demo"]]
    assert [host.images.info(name).vms for name in ("iso", "kept")] == [0, 0]


def test_disks_that_nothing_tells_apart_are_named_by_their_targets(host):
    made(host, OS, empty(5), empty(5), empty(5))
    targets = [disk["target"] for disk in host.vms.pool()[0].disks]
    item = dict(VM, disks=[OS, empty(5), empty(5)], state="poweroff", detach=True)
    assert "give those that are to stay their TARGET" in left(host, item)
    item["disks"] = [OS, empty(5, TARGET=targets[1]), empty(5, TARGET=targets[3])]
    (planned,) = run(host, item)
    assert planned.detached == (2,)


@pytest.mark.parametrize("state", ["poweroff", "running"])
@pytest.mark.parametrize("disks", [[], [dict(DATA, TARGET="vda")]])
def test_what_the_machine_boots_from_is_made_anew_or_stays(host, disks, state):
    made(host, OS, DATA, state=state)
    outcomes, planned = want(host, dict(VM, disks=disks, state=state, detach=True))
    assert planned == []
    assert "differs in DISK" in outcomes[0].differs[0] and "set recreate: true" in outcomes[0].differs[0]


@pytest.mark.parametrize("disks", [[dict(DATA, TARGET="vda")], []])
def test_no_machine_loses_what_it_boots_from_while_it_runs(host, disks):
    """Also where that is an image's own file, of which nothing is lost."""
    with host.session():
        host.images.update(host.images.info("demo").id, persistent=True)
    made(host, OS, state="running")
    outcomes, planned = want(host, dict(VM, disks=disks, state="running", detach=True))
    assert planned == [] and "it boots from it" in outcomes[0].differs[0]
    assert "power it off first (state: poweroff)" in outcomes[0].differs[0]


@pytest.mark.parametrize(
    ("more", "without", "says"),
    [
        ({"disks": [{"IMAGE": "live"}]}, {"disks": []}, "no machine loses what it boots from while it runs"),
        (
            {"disks": [], "nics": [dict(PUBLIC, ORDER="1")]},
            {"nics": []},
            "no machine loses what it boots from while it runs",
        ),
        ({"disks": [{"IMAGE": "live"}, empty(5)]}, {"disks": [empty(5)]}, "it has nothing to boot from"),
        ({"disks": [], "nics": [PUBLIC], "attributes": {"OS": [{"BOOT": "nic0"}]}}, {"nics": []}, "nic0"),
    ],
)
def test_nor_the_last_drive_or_nic_from_which_it_could_boot(host, more, without, says):
    with host.session():
        live = host.images.allocate(Image(None, "live", type=ImageType.CDROM))
        host.images.update(live.id, state=ImageState.READY, size=8)
    item = {**VM, **more}
    run(host, item)
    outcomes, planned = want(host, {**item, **without, "detach": True})
    assert planned == [] and says in str([*failed(outcomes), *outcomes[0].differs])


def test_a_drive_goes_from_a_machine_that_boots_from_a_kernel(host):
    with host.session():
        live = host.images.allocate(Image(None, "live", type=ImageType.CDROM))
        host.images.update(live.id, state=ImageState.READY, size=8)
    item = {**VM, "attributes": {"OS": [{"KERNEL": "/boot/vmlinuz"}]}}
    run(host, {**item, "disks": [{"IMAGE": "live"}]})
    outcomes, _planned = want(host, {**item, "disks": [], "detach": True})
    assert list(outcomes[0].differs) == failed(outcomes) == []


def test_a_smaller_disk_is_refused_before_anything_is_done(host):
    made(host, OS, empty(5), state="running")
    assert "VM web (id 0): DISK 1: SIZE = 4: the disk has 5 MB" in refusal(
        host, dict(VM, disks=[OS, empty(4)], state="poweroff", nics=[PUBLIC, PUBLIC])
    )
    assert host.networks.info("Public").address_ranges[0].used == 1


def test_a_disk_that_is_to_be_saved_does_not_go_before_it_is(host):
    made(host, OS, DATA)
    item = dict(VM, disks=[OS], state="poweroff", detach=True, save_as=[{"disk": 1, "image": "kept"}])
    assert "VM web (id 0): detach: its disk 1 is not saved as image kept" in refusal(host, item)


# -- a machine that runs and can not have it ---------------------------------------------------------------------------
def test_a_disk_that_is_being_saved_stays_until_that_is_done(host):
    item = dict(VM, disks=[OS, DATA], state="poweroff")
    run(host, item)
    # Its host does not answer, and the list forgets of it.
    want(host, dict(item, save_as=[{"disk": 1, "image": "kept"}]))
    outcomes, planned = want(host, dict(item, disks=[OS], detach=True))
    (said,) = (str(outcome.error) for outcome in outcomes if outcome.error)
    assert "take away disk 1: it is to be saved as image kept, which was decided before and is not done. " in said
    assert [(each.tasks[0].image, each.detached) for each in planned] == [("kept", ())]


def test_detach_is_never_accepted_and_ignored(engine):
    with engine.session():
        more = engine.images.allocate(Image(None, "more", type=ImageType.DATABLOCK))
        engine.images.update(more.id, state=ImageState.READY, size=8)
    made(engine, OS, DATA, state="running")
    item = dict(VM, disks=[OS])
    assert "Set detach: true to have it taken away" in left(engine, item)
    other = dict(VM, disks=[dict(OS, CACHE="writeback")])
    assert "Set detach: true to have it taken away" in left(engine, other)
    assert len(engine.vms.pool()[0].disks) == 2
    (planned,) = run(engine, dict(other, detach=True))
    assert (planned.detached, planned.agreed, planned.waits) == ((1,), True, True)
    assert [each["part"] for each in engine.vms.pool()[0].waits] == ["DISK 0"]


@pytest.mark.parametrize("hypervisor", ["xen", "xen_libvirt"])
def test_what_can_not_change_while_it_runs_waits_where_devices_come_and_go(engine, hypervisor):
    with engine.session():
        engine.hosts.update("node1", hypervisor=hypervisor)
    made(engine, OS, empty(5), state="running")
    run(engine, dict(VM, disks=[OS, empty(9)], nics=[dict(PUBLIC, MODEL="e1000")]))
    assert engine.vms.pool()[0].waits == [
        {"part": "DISK 1", "found": "[ SIZE = 5 ]", "wanted": "[ SIZE = 9 ]"},
        {"part": "NIC 0", "found": "nothing of it", "wanted": "[ MODEL = e1000 ]"},
    ]


def test_a_machine_that_did_not_go_off_waits_until_it_has_what_it_is_to_have(engine):
    """Its guest ignored the power button: it runs with the NIC that it is to have no more."""
    run(engine, VM)
    item = dict(VM, nics=[{"NETWORK": "Public", "IP": "10.66.0.40"}])
    planned = want(engine, dict(item, state="poweroff"))[1]
    with engine.session():
        (each,) = planned
        engine.vms.record("node1", [VmOutcome(0, each.generation, "RUNNING", True, ERROR, fitted=False)])
    # Nobody else gets the address that it uses.
    assert engine.networks.info("Public").address_ranges[0].used == 2
    for _time in range(2):
        outcomes, planned = want(engine, item)
        assert outcomes[0].differs == ()
        assert outcomes[0].after.waits == [{"part": "NIC 0", "found": "network Public", "wanted": "nothing"}]
        with engine.session():
            for each in planned:
                engine.vms.record("node1", [VmOutcome(0, each.generation, "RUNNING", fitted=False)])
    assert engine.networks.info("Public").address_ranges[0].used == 2
    (planned,) = run(engine, dict(item, state="poweroff"))
    assert planned.refitted
    assert engine.networks.info("Public").address_ranges[0].used == 1
    assert want(engine, dict(item, state="poweroff"))[1] == []


def test_what_it_did_not_lose_yet_comes_back_once_that_is_done(engine):
    """The list has the old address again. As long as nothing is done about the machine, that one is in the way."""
    run(engine, VM)
    planned = want(engine, dict(VM, nics=[{"NETWORK": "Public", "IP": "10.66.0.40"}], state="poweroff"))[1]
    with engine.session():
        engine.vms.record("node1", [VmOutcome(0, planned[0].generation, "RUNNING", True, ERROR, fitted=False)])
    item = dict(VM, nics=[{"NETWORK": "Public", "IP": "10.66.0.10"}], state="poweroff")
    outcomes, (planned,) = want(engine, item)
    assert [str(outcome.error) for outcome in outcomes if outcome.error] == []
    assert "gets first what was decided about its disks and NICs before" in outcomes[0].differs[0]
    assert (planned.wanted, planned.refitted, planned.vm.nics[0].ip) == ("POWEROFF", True, "10.66.0.40")
    with engine.session():
        engine.vms.record("node1", [VmOutcome(0, planned.generation, "POWEROFF", True, fitted=True)])
    (planned,) = run(engine, item)
    assert [nic.ip for nic in planned.vm.nics] == ["10.66.0.10"]
    assert engine.networks.info("Public").address_ranges[0].used == 1


def test_one_that_was_to_end_and_lives_on_has_still_what_it_was_to_lose(engine):
    """Its guest ignored the power button twice: what it has is nobody else's."""
    with engine.session():
        kept = engine.images.allocate(Image(None, "kept", type=ImageType.DATABLOCK, persistent=True))
        engine.images.update(kept.id, state=ImageState.READY, size=8)
    made(engine, OS, {"IMAGE": "kept"}, state="running", nics=[PUBLIC])
    item = dict(VM, disks=[OS], nics=[{"NETWORK": "Public", "IP": "10.66.0.40"}])
    for asked in (dict(item, state="poweroff"), dict(VM, state="absent")):
        (planned,) = want(engine, asked)[1]
        with engine.session():
            engine.vms.record("node1", [VmOutcome(0, planned.generation, "RUNNING", True, ERROR, fitted=False)])
    outcomes, (planned,) = want(engine, item)
    assert (planned.wanted, planned.detached, planned.refitted) == ("RUNNING", (1,), True)
    assert [each["part"] for each in outcomes[0].after.waits] == ["DISK 1", "NIC 0"]
    with engine.session():
        engine.vms.record("node1", [VmOutcome(0, planned.generation, "RUNNING", fitted=False)])
    assert engine.networks.info("Public").address_ranges[0].used == 2
    assert engine.images.info("kept").vms == 1
    assert engine.ledger().findings == ()
    run(engine, dict(item, state="poweroff"))
    assert engine.networks.info("Public").address_ranges[0].used == 1
    assert engine.images.info("kept").vms == 0


def test_a_machine_of_whose_end_nothing_was_heard_waits(engine):
    """The run that was to power it off was killed, and the next list has it running."""
    run(engine, dict(VM, nics=[PUBLIC, PUBLIC]))
    item = dict(VM, nics=[PUBLIC])
    want(engine, dict(item, state="poweroff"))
    outcomes, (planned,) = want(engine, item)
    assert planned.refitted and not planned.agreed
    assert outcomes[0].after.waits == [{"part": "NIC 1", "found": "network Public", "wanted": "nothing"}]
    (planned,) = want(engine, dict(item, state="poweroff"))[1]
    assert (planned.wanted, planned.refitted) == ("POWEROFF", True)


def test_the_image_that_a_disk_writes_to_grows_with_it_once_it_has(engine):
    with engine.session():
        kept = engine.images.allocate(Image(None, "kept", type=ImageType.DATABLOCK, persistent=True))
        engine.images.update(kept.id, state=ImageState.READY, size=8)
    made(engine, OS, {"IMAGE": "kept"})
    item = dict(VM, disks=[OS, {"IMAGE": "kept", "SIZE": "9"}], state="poweroff")
    for fitted, size in ((False, 8), (True, 9)):
        (planned,) = want(engine, item)[1]
        assert planned.grown == (1,)
        with engine.session():
            engine.vms.record("node1", [VmOutcome(0, planned.generation, "POWEROFF", fitted=fitted)])
        assert engine.images.info("kept").size == size


def test_what_was_found_off_gets_it_then(engine):
    run(engine, VM)
    item = dict(VM, nics=[{"NETWORK": "Public", "IP": "10.66.0.40"}])
    with engine.session():
        reconcile(engine, [dict(item, state="poweroff")])
        (planned,) = (each for plan in engine.vms.plans().values() for each in plan.vms)
        engine.vms.record("node1", [VmOutcome(0, planned.generation, "POWEROFF", True, None, fitted=False)])
    (planned,) = run(engine, dict(item, state="present"))
    assert (planned.wanted, planned.refitted) == ("POWEROFF", True)
    assert engine.networks.info("Public").address_ranges[0].used == 1


# -- what an older version made ----------------------------------------------------------------------------------------


def test_a_context_of_an_older_version_goes_on_as_it_was_until_the_machine_is_made_anew(engine):
    item = dict(VM, cpu=0.5, context={"A": "$VCPU", "TOKEN": "YES"})
    (planned,) = run(engine, item)
    assert planned.vm.context.exact
    assert (planned.vm.context.variables["A"], planned.vm.context.variables["VMID"]) == ("", "0")
    with engine.session():
        (body,) = (row["body"] for row in engine.store.rows("SELECT body FROM vms"))
        older = body.replace(',"exact":true', "").replace('"A":""', '"A":"1"').replace('"VMID":"0",', "")
        assert len(older) < len(body) - 20
        engine.store.db.execute("UPDATE vms SET body = ?", (older,))
    assert run(engine, item) == []
    (planned,) = run(engine, dict(item, cpu=1))
    assert planned.vm.context.variables["A"] == "1" and "VMID" not in planned.vm.context.variables
    (planned,) = run(engine, dict(item, cpu=1, memory=96, recreate=True))
    assert planned.vm.context.variables["A"] == "" and planned.vm.context.variables["VMID"] == "0"


def test_lists_of_an_older_context_stay_as_they_were_written_until_they_change(engine):
    said = {"NETWORK": "YES", "ETH0_DNS": "9.9.9.9,8.8.8.8", "SEARCH_DOMAIN": "a.example,b.example"}
    item = dict(VM, nics=[{"NETWORK": "Public"}], cpu=0.5, context=said)
    (planned,) = run(engine, item)
    new = planned.vm.context.variables
    assert (new["ETH0_DNS"], new["ETH0_SEARCH_DOMAIN"]) == ("9.9.9.9 8.8.8.8", "a.example b.example")
    with engine.session():
        (text,) = (row["body"] for row in engine.store.rows("SELECT body FROM vms"))
        body = json.loads(text)
        del body["context"]["exact"]
        body["context"]["variables"] |= {**said, "ETH0_SEARCH_DOMAIN": ""}
        engine.store.db.execute("UPDATE vms SET body = ?", (json.dumps(body),))
    assert run(engine, item) == []
    (planned,) = run(engine, dict(item, cpu=1))
    assert planned.vm.context.variables == body["context"]["variables"]
    (planned,) = run(engine, dict(item, cpu=1, context={**said, "ETH0_DNS": "9.9.9.9,1.1.1.1"}))
    found = planned.vm.context.variables
    assert found["ETH0_DNS"] == "9.9.9.9 1.1.1.1" and found["SEARCH_DOMAIN"] == "a.example,b.example"
    assert found["ETH0_SEARCH_DOMAIN"] == ""
    (planned,) = run(engine, dict(item, cpu=1, context={**said, "SEARCH_DOMAIN": "c.example,d.example"}))
    found = planned.vm.context.variables
    assert found["ETH0_SEARCH_DOMAIN"] == found["SEARCH_DOMAIN"] == "c.example d.example"


# -- processors --------------------------------------------------------------------------------------------------------
WINDOWS = dict(VM, attributes={"FEATURES": {"HYPERV": "YES"}, "VCPU": "4"})


def told(engine, item):
    with engine.session():
        outcomes, warnings = reconcile(engine, [item])
        planned = [each for plan in engine.vms.plans().values() for each in plan.vms]
    return [text for text in warnings if "sockets" in text or "TOPOLOGY" in text], outcomes, planned


def shape(engine):
    (row,) = engine.store.rows("SELECT body FROM vms")
    return json.loads(row["body"])["topology"]


def older(engine):
    """The machine as a version made it that had no word for this."""
    engine.store.db.execute("UPDATE vms SET body = json_remove(body, '$.topology')")


def test_a_new_windows_has_cores_and_nothing_is_said_of_it(engine):
    (planned,) = run(engine, WINDOWS)
    assert planned.vm.topology == Topology(1, 4, 1)
    warned, (outcome,), planned = told(engine, WINDOWS)
    assert (warned, outcome.changes, planned) == ([], [], [])


def test_a_windows_that_was_made_before_stays_and_is_told(engine):
    run(engine, WINDOWS)
    older(engine)
    warned, (outcome,), planned = told(engine, WINDOWS)
    assert planned == [] and not outcome.changes and not outcome.differences
    (text,) = warned
    assert text.startswith("VM web: its 4 processors are 4 sockets") and "CORES = 4" in text
    # A change of something else leaves it so.
    more = dict(WINDOWS, state="poweroff", memory=256)
    run(engine, more)
    assert shape(engine) is None and len(told(engine, more)[0]) == 1
    # What the warning says has it mended.
    mended = dict(
        more, attributes={**WINDOWS["attributes"], "TOPOLOGY": {"SOCKETS": "1", "CORES": "4", "THREADS": "1"}}
    )
    (planned,) = run(engine, mended)
    assert planned.vm.topology == Topology(1, 4, 1) and told(engine, mended)[0] == []


def test_the_image_says_that_it_is_a_windows(engine):
    item = dict(VM, attributes={"VCPU": "4"})
    run(engine, item)
    assert shape(engine) is None and told(engine, item)[0] == []
    image = engine.images.info("demo")
    with engine.session():
        engine.images.update(image.id, attributes={**image.attributes, "GUEST_OS": "windows"})
    assert len(told(engine, item)[0]) == 1


def test_a_topology_that_did_not_act_is_told_until_it_does(engine):
    item = dict(VM, state="poweroff", attributes={"VCPU": "4", "TOPOLOGY": {"SOCKETS": "2"}})
    run(engine, item)
    older(engine)
    (text,) = told(engine, item)[0]
    assert "TOPOLOGY does not act on it" in text
    without = dict(item, attributes={"VCPU": "4"})
    run(engine, without)
    (planned,) = run(engine, item)
    assert planned.vm.topology == Topology(2, 2, 1) and told(engine, item)[0] == []


def test_processors_of_a_machine_that_runs_wait_until_it_is_off(engine):
    run(engine, WINDOWS)
    more = dict(WINDOWS, attributes={**WINDOWS["attributes"], "VCPU": "6"})
    warned, (outcome,), planned = told(engine, more)
    assert outcome.after.waits == [{"part": "VCPU", "found": "4", "wanted": "6"}]
    assert planned[0].waits and not [text for text in warned if "sockets" in text]
    (planned,) = run(engine, dict(more, state="poweroff"))[:1]
    assert planned.vm.topology == Topology(1, 6, 1)


# -- memory and processors that come and go ----------------------------------------------------------------------------
GROWING = dict(VM, memory=256, vcpu=1, attributes={"MEMORY_MAX": "512", "VCPU_MAX": "4"})


def parts_of(outcome):
    return [(each.part, each.found, each.wanted, each.when) for each in outcome.parts]


def without_growth(engine):
    """The machine as a version made it that set nothing aside."""
    engine.store.db.execute("UPDATE vms SET body = json_remove(body, '$.growth'), memory = 256")
    engine.store.db.execute("UPDATE hosts SET memory_used = 256")


def test_a_machine_gets_memory_and_processors_while_it_runs_and_is_counted_with_the_most(engine):
    run(engine, GROWING)
    assert engine.hosts.info("node1").memory_used == 512 and engine.vms.pool()[0].memory == 256
    more = dict(GROWING, memory=512, vcpu=3)
    (outcome,), (planned,) = want(engine, more)
    assert parts_of(outcome) == [("MEMORY", "256", "512", "at once"), ("VCPU", "1", "3", "at once")]
    assert (planned.vm.memory, planned.vm.vcpu, planned.waits) == (512, 3, False)
    record(engine, [planned])
    assert engine.hosts.info("node1").memory_used == 512 and engine.vms.pool()[0].waits == []
    # Nothing is taken from a running machine unasked.
    (outcome,), planned = want(engine, GROWING)
    kept = "left as it is: nothing is taken from a running machine unasked"
    assert planned == [] and [text.split(". ")[0] for text in outcome.differs] == [
        f"VM web (id 0) differs in MEMORY: it has 512, the list says 256, and it runs; {kept}",
        f"VM web (id 0) differs in VCPU: it has 3, the list says 1, and it runs; {kept}",
    ]
    (planned,) = run(engine, dict(GROWING, detach=True))
    assert planned.agreed and planned.vm.memory == 256
    assert want(engine, dict(GROWING, detach=True))[1] == [] and want(engine, GROWING)[1] == []
    assert engine.hosts.info("node1").memory_used == 512
    assert [each for each in engine.ledger().findings if each.kind == "catalog-books"] == []


def test_more_than_it_may_come_to_is_refused_and_a_larger_most_waits(engine):
    run(engine, GROWING)
    assert "VM web: MEMORY = 1024" in refusal(engine, dict(GROWING, memory=1024))
    assert "VCPU_MAX is 4" in refusal(engine, dict(GROWING, vcpu=5))
    larger = dict(GROWING, memory=1024, vcpu=2, attributes={"MEMORY_MAX": "2048", "VCPU_MAX": "4"})
    (outcome,), (planned,) = want(engine, larger)
    assert sorted(parts_of(outcome)) == [
        ("MEMORY", "256", "1024", "at its next start"),
        ("MEMORY_MAX", "512", "2048", "at its next start"),
        ("VCPU", "1", "2", "at once"),
    ]
    assert planned.waits and engine.hosts.info("node1").memory_used == 2048
    record(engine, [planned])
    # While that waits its memory does, too, and its processors don't.
    (outcome,), (planned,) = want(engine, dict(larger, vcpu=3, memory=300))
    assert sorted(parts_of(outcome)) == [("MEMORY", "1024", "300", "at its next start"), ("VCPU", "2", "3", "at once")]
    record(engine, [planned])
    # Back to what it runs with, it waits for nothing.
    run(engine, dict(GROWING, vcpu=3))
    assert engine.vms.pool()[0].waits == []


def test_a_smaller_most_is_kept_until_the_next_start(engine):
    run(engine, GROWING)
    smaller = dict(GROWING, attributes={"MEMORY_MAX": "256", "VCPU_MAX": "4"})
    (planned,) = run(engine, smaller)
    assert engine.hosts.info("node1").memory_used == 512 and planned.gives_memory == 0
    run(engine, dict(smaller, state="poweroff"))
    assert engine.hosts.info("node1").memory_used == 256
    assert [each for each in engine.ledger().findings if each.kind == "catalog-books"] == []


def test_a_machine_that_was_made_before_stays_as_it_is_and_is_told(engine):
    run(engine, GROWING)
    without_growth(engine)

    def said(item):
        with engine.session():
            (outcome,), warnings = reconcile(engine, [item])
            planned = [each for plan in engine.vms.plans().values() for each in plan.vms]
        return outcome, [text for text in warnings if "act on it" in text], planned

    outcome, (text,), planned = said(GROWING)
    assert (outcome.changes, planned) == ([], []) and "MEMORY_MAX and VCPU_MAX do not act on it" in text
    # What changes of it waits, and is counted as before.
    (outcome,), (planned,) = want(engine, dict(GROWING, memory=300))
    assert parts_of(outcome) == [("MEMORY", "256", "300", "at its next start")]
    assert planned.vm.growth is None and engine.hosts.info("node1").memory_used == 300
    record(engine, [planned])
    # What the warning says has it mended, at its next start: it has no room before.
    run(engine, dict(GROWING, memory=300, attributes={}))
    assert [each["part"] for each in engine.vms.pool()[0].waits] == ["MEMORY"]
    (planned,) = run(engine, dict(GROWING, memory=300))
    assert planned.vm.growth == Growth(512, 4) and said(dict(GROWING, memory=300))[1] == []
    waits = {each["part"]: (each["found"], each["wanted"]) for each in engine.vms.pool()[0].waits}
    assert waits == {"MEMORY": ("256", "300"), "MEMORY_MAX": ("nothing", "512"), "VCPU_MAX": ("nothing", "4")}
    (outcome,), _planned = want(engine, dict(GROWING, memory=400))
    assert parts_of(outcome) == [("MEMORY", "300", "400", "at its next start")]


def test_one_that_was_made_before_waits_for_all_maxima_once_one_of_them_comes(engine):
    item = dict(VM, memory=256, attributes={"MEMORY_MAX": "512"})
    run(engine, item)
    without_growth(engine)
    (planned,) = run(engine, dict(item, attributes={"MEMORY_MAX": "512", "VCPU_MAX": "4"}))
    assert planned.vm.growth == Growth(512, 4)
    assert [each["part"] for each in engine.vms.pool()[0].waits] == ["VCPU_MAX", "MEMORY_MAX"]


def test_memory_and_its_most_are_lowered_together_at_the_next_start(engine):
    run(engine, dict(GROWING, memory=400))
    item = dict(GROWING, memory=256, attributes={"MEMORY_MAX": "256", "VCPU_MAX": "4"})
    (outcome,), (planned,) = want(engine, item)
    assert outcome.differs == () and outcome.error is None and planned.waits
    assert {each.when for each in outcome.parts} == {"at its next start"}


def test_a_bad_most_refuses_only_where_it_acts(xen):
    item = dict(VM, name="db", attributes={"HYPERVISOR": "xen", "MEMORY_MAX": "1"})
    assert run(xen, item)[0].vm.growth is None


def test_two_that_grow_never_have_more_than_their_host(engine):
    with engine.session():
        engine.hosts.update("node1", memory=1100, reserved_memory=0)
    growing = dict(GROWING, count=2)
    outcomes, planned = want(engine, dict(growing, name="web-%i"))
    assert failed(outcomes) == [] and len(planned) == 2
    record(engine, planned)
    assert engine.hosts.info("node1").memory_used == 1024
    # A third has room for what it starts with, and not for what it may come to.
    error = failed(want(engine, dict(growing, name="web-%i", count=3))[0])[0]
    assert "512 MiB (MEMORY is 256, and it may grow so far) of memory" in error, error


def test_elsewhere_nothing_is_counted_or_told(xen):
    item = dict(VM, memory=256, attributes={"HYPERVISOR": "xen", "MEMORY_MAX": "512"})
    (planned,) = run(xen, item)
    assert planned.vm.growth is None and xen.hosts.info("node1").memory_used == 256
    (planned,) = run(xen, dict(item, memory=300))
    assert not planned.waits
    assert run(xen, dict(item, memory=300, attributes={"HYPERVISOR": "xen", "MEMORY_MAX": "600"})) == []


# -- room for disks and NICs that come ---------------------------------------------------------------------------------
def test_slots_are_reserved_in_machines_that_are_made_and_stay_in_those_that_are_there(engine):
    (planned,) = run(engine, dict(VM, hotplug_slots=24))
    assert planned.vm.hotplug_slots == 24
    for other in (8, None):
        assert run(engine, dict(VM, hotplug_slots=other)) == []
    (planned,) = run(engine, dict(VM, memory=300))
    assert planned.vm.hotplug_slots == 24
    # Its template says others, which it has from its next start.
    item = dict(VM, memory=300, attributes={"HOTPLUG_SLOTS": "32"})
    (outcome,), (planned,) = want(engine, item)
    assert parts_of(outcome) == [("HOTPLUG_SLOTS", "nothing", "32", "at its next start")]
    assert planned.vm.hotplug_slots == 32 and planned.waits
    record(engine, [planned])
    (planned,) = run(engine, dict(item, recreate=True, attributes={}))
    assert planned.vm.hotplug_slots == 32


@pytest.mark.parametrize("number", [-1, 65])
def test_slots_that_no_machine_can_have_are_refused(engine, number):
    assert "hotplug_slots" in refusal(engine, dict(VM, hotplug_slots=number))


def test_elsewhere_no_slots_are_reserved(xen):
    item = dict(VM, name="db", attributes={"HYPERVISOR": "xen", "HOTPLUG_SLOTS": "8"}, hotplug_slots=9)
    (planned,) = run(xen, item)
    assert planned.vm.hotplug_slots == 0
    assert run(xen, dict(item, attributes={"HYPERVISOR": "xen"})) == []


# -- values of devices that change while a machine runs ----------------------------------------------------------------
def test_limits_change_at_once_and_what_else_changes_of_their_device_waits(engine):
    disk = {"IMAGE": "demo"}
    run(engine, dict(VM, disks=[disk], nics=[PUBLIC]))
    nic = dict(PUBLIC, MODEL="e1000", INBOUND_AVG_BW="100")
    item = dict(VM, disks=[dict(disk, TOTAL_IOPS_SEC="300", CACHE="writeback")], nics=[nic])
    (outcome,), (planned,) = want(engine, item)
    assert outcome.differs == () and planned.waits
    assert parts_of(outcome) == [
        ("DISK 0", "nothing of it", "[ TOTAL_IOPS_SEC = 300 ]", "at once"),
        ("DISK 0", "nothing of it", "[ CACHE = writeback ]", "at its next start"),
        ("NIC 0", "nothing of it", "[ INBOUND_AVG_BW = 100 ]", "at once"),
        ("NIC 0", "nothing of it", "[ MODEL = e1000 ]", "at its next start"),
    ]
    record(engine, [planned])
    waiting = [(each["part"], each["wanted"]) for each in engine.vms.pool()[0].waits]
    assert waiting == [("DISK 0", "[ CACHE = writeback ]"), ("NIC 0", "[ MODEL = e1000 ]")]
    # Back to what it runs with but for the limits, it waits for nothing.
    (planned,) = run(engine, dict(VM, disks=[dict(disk, TOTAL_IOPS_SEC="200")], nics=[PUBLIC]))
    assert engine.vms.pool()[0].waits == [] and not planned.waits
    (planned,) = run(engine, dict(VM, disks=[disk], nics=[PUBLIC]))
    assert not planned.refitted and not planned.waits
    (planned,) = run(engine, dict(VM, disks=[dict(disk, TOTAL_IOPS_SEC="200")], nics=[PUBLIC]))
    assert want(engine, dict(VM, disks=[dict(disk, TOTAL_IOPS_SEC="200")], nics=[PUBLIC]))[1] == []


def test_another_password_of_the_console_is_set_at_once_and_the_first_and_no_more_one_wait(engine):
    def console(**values):
        return dict(VM, attributes={"GRAPHICS": {"TYPE": "vnc", **values}})

    run(engine, console(PASSWD="first"))
    (outcome,), (planned,) = want(engine, console(PASSWD="zweites"))
    assert [(each.part, each.when) for each in outcome.parts] == [("GRAPHICS", "at once")] and not planned.waits
    assert "zweites" not in str(outcome.parts)
    record(engine, [planned])
    assert engine.vms.pool()[0].waits == []
    (outcome,), _planned = want(engine, console(PASSWD="zweites", LISTEN="0.0.0.0"))
    assert [each.when for each in outcome.parts] == ["at its next start"]
    (outcome,), _planned = want(engine, console())
    assert [each.when for each in outcome.parts] == ["at its next start"]
    # While it is to be another console, its password waits with the rest.
    run(engine, console(PASSWD="zweites", KEYMAP="de"))
    (outcome,), (planned,) = want(engine, console(PASSWD="drittes", KEYMAP="de"))
    assert [each.when for each in outcome.parts] == ["at its next start"] and planned.waits
    record(engine, [planned])
    # Nothing else of it waits any more: the node sets the password.
    (planned,) = run(engine, console(PASSWD="drittes"))
    assert engine.vms.pool()[0].waits == [] and not planned.waits


# -- attributes that act on machines that were made since they do ------------------------------------------------------
SHOWN = {"VIDEO": [{"TYPE": "qxl"}], "HYPERV_TIMERS": "<timer name='hpet' present='no'/>", "CPULIMIT": "50"}


def as_made_before(engine):
    with engine.session():
        body = json.loads(engine.store.row("SELECT body FROM vms")["body"])
        body |= {"hardware_version": 0, "video": None, "fragments": {}}
        engine.store.db.execute("UPDATE vms SET body = ?", (json.dumps(body),))


def test_hardware_changes_at_the_next_start_and_a_limit_at_once(engine):
    run(engine, dict(VM, attributes=SHOWN))
    other = {**SHOWN, "VIDEO": [{"TYPE": "virtio"}], "CPULIMIT": "80"}
    (outcome,), (planned,) = want(engine, dict(VM, attributes=other))
    assert {each.part: each.when for each in outcome.parts} == {"VIDEO": "at its next start", "CPULIMIT": "at once"}
    assert (planned.vm.video.type, planned.vm.cpu_limit, planned.waits) == ("virtio", 80, True)


def test_a_machine_keeps_the_hardware_that_it_was_made_with_and_is_told(engine):
    item = dict(VM, attributes=SHOWN)
    run(engine, item)
    as_made_before(engine)

    def said(item):
        with engine.session():
            (outcome,), warnings = reconcile(engine, [item])
            planned = [each for plan in engine.vms.plans().values() for each in plan.vms]
        return outcome, [text for text in warnings if "act on it" in text], planned

    outcome, (text,), planned = said(item)
    assert (outcome.changes, planned) == ([], []) and "CPULIMIT, VIDEO, HYPERV_TIMERS do not act on it" in text
    # What changes of it brings nothing of that.
    (planned,) = run(engine, dict(item, cpu=2))
    assert (planned.vm.hardware_version, planned.vm.video, planned.vm.cpu) == (0, None, 2)
    # Another of these attributes brings all, at its next start, and each is named.
    changed = dict(item, cpu=2, attributes={**SHOWN, "CPULIMIT": "80"})
    (planned,) = run(engine, changed)
    assert (planned.vm.hardware_version, planned.vm.video.type, said(changed)[1]) == (NEWEST, "qxl", [])
    assert sorted(each["part"] for each in engine.vms.pool()[0].waits) == ["HYPERV_TIMERS", "VIDEO"]


def test_one_that_is_made_anew_has_all_that_its_template_says(engine):
    item = dict(VM, attributes=SHOWN)
    run(engine, item)
    as_made_before(engine)
    (planned,) = run(
        engine,
        dict(
            item,
            recreate=True,
            memory=300,
            attributes={**SHOWN, "OS": [{"UUID": "3f9a1c52-8e07-4d6b-b1a4-000000000019"}]},
        ),
    )
    assert (planned.vm.hardware_version, planned.vm.video.type) == (NEWEST, "qxl")


def test_another_secret_opens_a_disk_from_its_next_start_and_one_said_before_does_not(engine):
    first, second = "7b3a5d1c-0f3e-4a52-9a43-1f6a4a0c1d11", "3f9a1c52-8e07-4d6b-b1a4-000000000019"
    with engine.session():
        image = engine.images.pool()[0]
        engine.images.update(image.id, luks_secret=first)

    def item(**keys):
        return dict(VM, attributes={"DISK": [{"IMAGE": image.name, **keys}]})

    (planned,) = run(engine, item())
    assert planned.vm.disks[0].luks_secret == first
    (planned,) = run(engine, item(LUKS_SECRET=second))
    assert (planned.vm.disks[0].luks_secret, planned.waits) == (second, True)
    # The image is encrypted anew; the disk is not.
    with engine.session():
        engine.images.update(image.id, luks_secret=first.replace("7", "8"))
    assert [planned.vm.disks[0].luks_secret for planned in run(engine, dict(item(LUKS_SECRET=second), cpu=2))] == [
        second
    ]


def test_what_is_brought_with_a_newer_version_is_waited_for(engine):
    old = {"OS": [{"FIRMWARE": "UEFI"}], "GRAPHICS": [{"TYPE": "spice"}], "CPULIMIT": "50"}
    old["FEATURES"] = [{"HYPERV": "YES"}]
    run(engine, dict(VM, attributes=old))
    with engine.session():
        body = json.loads(engine.store.row("SELECT body FROM vms")["body"])
        body["hardware_version"] = 0
        body["os"]["suspends"], body["graphics"]["companions"] = True, False
        engine.store.db.execute("UPDATE vms SET body = ?", (json.dumps(body),))
    (planned,) = run(engine, dict(VM, attributes={**old, "CPULIMIT": "80"}))
    assert planned.waits
    assert [each["part"] for each in engine.vms.pool()[0].waits] == ["hardware"]
    # Whatever else comes and goes, only a start brings it.
    other = {**old, "CPULIMIT": "80", "OS": [{"FIRMWARE": "UEFI", "BOOT": "disk0"}]}
    run(engine, dict(VM, attributes=other))
    assert sorted(each["part"] for each in engine.vms.pool()[0].waits) == ["OS", "hardware"]
    run(engine, dict(VM, attributes={**old, "CPULIMIT": "80"}))
    assert [each["part"] for each in engine.vms.pool()[0].waits] == ["hardware"]
    assert run(engine, dict(VM, attributes={**old, "CPULIMIT": "80"})) == []


@pytest.mark.parametrize(
    ("hypervisor", "before", "after"),
    [
        ("xen", {}, {"VIDEO": [{"TYPE": "vga"}]}),
        ("xen", {"VIDEO": [{"TYPE": "cirrus"}], "NIC": [PUBLIC]}, {"VIDEO": [{"TYPE": "vga"}], "NIC": [PUBLIC]}),
        ("xen", {"NIC": [dict(PUBLIC, LINK="up")]}, {"NIC": [dict(PUBLIC, LINK="down")]}),
        ("kvm", {"NIC": [PUBLIC]}, {"NIC": [dict(PUBLIC, TRUST="YES")]}),
        ("kvm", {"SCHED_RANK": "A"}, {"SCHED_RANK": "B"}),
    ],
)
def test_for_what_has_no_effect_no_machine_has_to_be_started_anew(engine, hypervisor, before, after):
    with engine.session():
        engine.hosts.update("node1", hypervisor=hypervisor)
    run(engine, dict(VM, attributes=before))
    for planned in want(engine, dict(VM, attributes=after))[1]:
        assert not planned.waits
        record(engine, [planned])
    assert engine.vms.pool()[0].waits == [] and want(engine, dict(VM, attributes=after))[1] == []


@pytest.mark.parametrize(
    ("state", "item", "until"),
    [
        ("running", {"nics": [PUBLIC]}, "detach: true"),
        ("suspended", {"memory": 300}, "it is off"),
        ("running", {"attributes": {"OS": [{"UUID": "3f9a1c52-8e07-4d6b-b1a4-000000000019"}]}}, "recreate: true"),
        ("running", {"host": "elsewhere"}, "it moves"),
    ],
)
def test_what_is_left_says_what_it_waits_for(engine, state, item, until):
    run(engine, dict(VM, nics=[PUBLIC, PUBLIC]))
    run(engine, dict(VM, nics=[PUBLIC, PUBLIC], state=state))
    (outcome,) = want(engine, {**VM, "nics": [PUBLIC, PUBLIC], "state": state, **item})[0]
    assert [each.until for each in outcome.differences] == [until]


def test_what_has_no_effect_is_never_taken_from_a_machine(engine):
    with engine.session():
        engine.hosts.update("node1", hypervisor="lxc")
        tar = engine.images.allocate(Image(None, "root", type=ImageType.OS, attributes={"TRUSTED": "YES"}))
        engine.images.update(tar.id, state=ImageState.READY, size=16, format="tar", source="/root.tar")
    item = dict(VM, disks=[{"IMAGE": "root"}], attributes={"HYPERVISOR": "lxc"})
    run(engine, dict(item, vcpu=2))
    (outcome,), _planned = want(engine, dict(item, vcpu=1))
    assert (outcome.differs, failed([outcome])) == ((), [])


def test_a_wait_that_a_former_release_noted_for_what_has_no_effect_ends(engine):
    with engine.session():
        engine.hosts.update("node1", hypervisor="xen")
    before, after = ({"CPU_MODEL": [{"MODEL": name}]} for name in ("qemu64", "host-model"))
    run(engine, dict(VM, attributes=before))
    waits = {"CPU_MODEL": {"found": "qemu64", "wanted": "host-model", "had": "[]"}}
    engine.store.db.execute("UPDATE vms SET waits = ?", (json.dumps(waits),))
    run(engine, dict(VM, attributes=after))
    assert engine.vms.pool()[0].waits == []


@pytest.mark.parametrize(
    ("hypervisor", "os_", "waits"),
    [
        ("kvm", {}, False),
        ("lxc", {}, False),
        ("openvz", {}, True),
        ("xen", {"KERNEL": "/boot/vmlinuz"}, True),
        ("xen_libvirt", {"MACHINE": "xenpvh", "KERNEL": "/boot/vmlinuz"}, True),
        ("xen", {"MACHINE": "xenfv"}, False),
        # A disk to the guest.
        ("kvm", None, True),
        ("xen", None, True),
        ("lxc", None, False),
    ],
)
def test_a_context_that_a_running_machine_gets_at_its_next_start_is_waited_for(tmp_path, hypervisor, os_, waits):
    site = changes_of_machines.Site(str(tmp_path), hypervisor)
    more = {"CONTEXT_DEVICE": "disk"} if os_ is None else {"OS": [os_]} if os_ else {}
    item = {**changes_of_machines.BASE, "attributes": more}
    site.bring_running({**item, "context": {"PASSWORD": "first-hidden"}})
    outcome = site.decide({**item, "context": {"PASSWORD": "second-hidden"}})
    (machine,) = site.engine.vms.pool()
    assert [each["part"] for each in machine.waits] == (["CONTEXT"] if waits else [])
    assert {each.when for each in outcome.parts} == {"at its next start" if waits else "at once"}
    assert "hidden" not in str(machine.waits) + str(outcome.parts)
    site.bring_running({**item, "context": {"PASSWORD": "first-hidden"}})
    assert not site.engine.vms.pool()[0].waits
    site.engine.close()


@pytest.mark.parametrize(
    ("hypervisor", "attributes", "waits"),
    [
        ("kvm", {}, False),
        ("kvm", {"CONTEXT_DEVICE": "disk"}, True),
        ("openvz", {}, True),
        ("xen", {"OS": [{"KERNEL": "/boot/vmlinuz"}]}, True),
        ("xen", {"OS": [{"MACHINE": "xenfv"}]}, False),
    ],
)
@pytest.mark.parametrize("change", ["nic", "network", "format"])
def test_a_context_that_is_another_without_its_attribute_is_waited_for(tmp_path, hypervisor, attributes, waits, change):
    """A NIC came, a network tells its machines something else, or it is written in another form."""
    site = changes_of_machines.Site(str(tmp_path), hypervisor)
    item = {**changes_of_machines.BASE, "attributes": attributes}
    site.bring_running(item)
    other = item
    if change == "nic":
        other = {**item, "nics": [*item["nics"], dict(item["nics"][0])]}
    elif change == "format":
        other = {**item, "attributes": {**attributes, "CONTEXT_FORMAT": "nocloud"}}
    name = site.engine.networks.pool()[0].name

    def tell(dns):
        with site.engine.session():
            site.engine.networks.update(name, attributes={"DNS": dns})

    if change == "network":
        tell("10.0.0.53")
    site.bring_running(other)
    found = [each["part"] for each in site.engine.vms.pool()[0].waits]
    expected = {"network": "context", "nic": "context", "format": "CONTEXT_FORMAT"}[change]
    assert (expected in found) is waits
    if not waits:
        assert "context" not in found
    # What it runs with is no wait, whatever it was to be meanwhile.
    if change == "network":
        tell("")
    if change != "nic":
        site.bring_running(item)
        assert site.engine.vms.pool()[0].waits == []
    site.engine.close()


def test_a_disk_that_becomes_a_drive_and_a_disk_again_has_its_former_context(tmp_path):
    """While it is to be a drive a NIC comes, of which the guest is told nothing before it starts anew."""
    site = changes_of_machines.Site(str(tmp_path), "kvm")
    disk = {**changes_of_machines.BASE, "attributes": {"CONTEXT_DEVICE": "disk"}}
    more = [*disk["nics"], dict(disk["nics"][0])]
    site.bring_running(disk)
    for item, waits in (
        ({**disk, "attributes": {}, "nics": more}, ["CONTEXT_DEVICE", "context"]),
        ({**disk, "nics": more}, ["context"]),
        ({**disk, "detach": True}, []),
    ):
        site.bring_running(item)
        assert [each["part"] for each in site.engine.vms.pool()[0].waits] == waits
    site.engine.close()


def test_another_name_of_a_file_is_no_other_context(tmp_path):
    file = ContextFile("/var/lib/nebula/datastores/2/a", "motd", sha256="0" * 64, image="old")
    had = Vm(0, "u", "web", "openvz", 1.0, 64, context=Context(1, "", files=(file,)))
    wanted = replace(had, context=replace(had.context, files=(replace(file, image="new", source="/srv/a"),)))
    assert with_context({}, had, wanted) == {}
    other = replace(had, context=replace(had.context, files=(replace(file, sha256="1" * 64),)))
    assert list(with_context({}, had, other)) == ["context"]
    assert with_context(with_context({}, had, other), other, had) == {}
