# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a list may ask of a machine that is there: states that it can be brought to, and devices that come and go."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.reconcile import LONGEST_SHUTDOWN, reconcile
from ansible_collections.nebula.provision.plugins.module_utils.model.changes import HOTPLUG
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState, ImageType

VM = {"name": "web", "template": "web"}
ERROR = {"kind": "HypervisorError", "asked": "VM web", "found": "it broke", "remedy": ""}
PUBLIC = {"NETWORK": "Public"}


def want(engine, *items):
    with engine.session():
        outcomes, _warnings = reconcile(engine, items)
        plans = engine.vm_plans()
    return outcomes, [planned for plan in plans.values() for planned in plan.vms]


def run(engine, item, state="", error=None):
    outcomes, planned = want(engine, item)
    assert [str(outcome.error) for outcome in outcomes if outcome.error] == []
    with engine.session():
        for each in planned:
            outcome = VmOutcome(each.vm.vm_id, each.generation, state or each.wanted, True, error)
            engine.vm_record("node1", [outcome])
    return planned


def refusal(engine, item):
    outcomes, planned = want(engine, item)
    assert planned == []
    (error,) = (str(outcome.error) for outcome in outcomes if outcome.error)
    return error


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


# -- what an item may say ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ({"template": True}, "VM web: template: it is a bool. Give the name or the id of a stored template"),
        ({"template": ["web"]}, "VM web: template: it is a list"),
        ({"attributes": ["A"]}, "VM web: attributes: it is a list. Give a dict"),
        ({"context": "A=b"}, "VM web: context: it is a str. Give a dict"),
        ({"shutdown_timeout": LONGEST_SHUTDOWN + 1}, f"it is not a number of up to {LONGEST_SHUTDOWN}"),
        ({"state": "runing"}, "Did you mean 'running'? Known are running, poweroff"),
        ({"count": 100_001, "name": "w-%i"}, "Give 0 to 100000"),
        ({"count": 2}, "Put %i where the index belongs, as in name: web-%i"),
        ({"hard": "maybe"}, "VM web: hard 'maybe': it is neither true nor false"),
    ],
)
def test_an_item_that_can_not_be_meant_is_refused(engine, item, says):
    assert says in refusal(engine, {**VM, **item})
    assert engine.vm_pool() == []


def test_an_empty_list_of_nics_takes_away_those_of_the_template(engine):
    (planned,) = run(engine, dict(VM, nics=[]))
    assert planned.vm.nics == ()


def test_a_template_may_be_named_by_its_id(engine):
    (planned,) = run(engine, dict(VM, template=engine.template_info("web").id))
    assert planned.vm.name == "web"
    assert engine.vm_pool()[0].template == "web"


# -- devices -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def xen(engine):
    """On a host where disks and NICs come and go while a machine runs: one runs there."""
    with engine.session():
        engine.host_update("node1", hypervisor="xen")
        more = engine.image_allocate(Image(None, "more", type=ImageType.DATABLOCK))
        engine.image_update(more.id, state=ImageState.READY, size=8)
    run(engine, dict(VM, disks=[{"IMAGE": "demo"}, {"IMAGE": "more"}]))
    return engine


def test_a_nic_comes_to_a_machine_that_runs_and_goes(xen):
    item = dict(VM, disks=[{"IMAGE": "demo"}, {"IMAGE": "more"}])
    outcomes, (planned,) = want(xen, dict(item, nics=[PUBLIC, PUBLIC]))
    assert [(change.attribute, change.how) for change in outcomes[0].changes] == [("NIC", HOTPLUG)]
    assert [(nic.nic_id, nic.ip) for nic in planned.vm.nics] == [(0, "10.66.0.10"), (1, "10.66.0.11")]
    run(xen, dict(item, nics=[PUBLIC, PUBLIC]))
    (planned,) = run(xen, dict(item, nics=[PUBLIC]))
    assert [nic.nic_id for nic in planned.vm.nics] == [0]
    assert xen.vn_info("Public").address_ranges[0].used == 1


def test_a_nic_of_a_machine_that_can_not_have_it_so_is_told(engine):
    run(engine, VM)
    outcomes, planned = want(engine, dict(VM, nics=[PUBLIC, PUBLIC]))
    assert planned == []
    (differs,) = outcomes[0].differs
    assert "VM web (id 0) differs in NIC" in differs
    assert "set recreate: true to make it anew" in differs


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
    assert xen.image_info("more").vms == 0
    assert want(xen, item)[1] == []


def test_a_disk_that_is_an_images_own_file_goes_with_nothing_lost(xen):
    with xen.session():
        kept = xen.image_allocate(Image(None, "kept", type=ImageType.DATABLOCK, persistent=True))
        xen.image_update(kept.id, state=ImageState.READY, size=8)
    both = [{"IMAGE": "demo"}, {"IMAGE": "more"}]
    (planned,) = run(xen, dict(VM, disks=[*both, {"IMAGE": "kept"}]))
    assert [disk.image for disk in planned.vm.disks] == ["demo", "more", "kept"]
    (planned,) = run(xen, dict(VM, disks=both))
    assert len(planned.detached) == 1
    assert xen.image_info("kept").vms == 0
