# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine gets another name, and stays itself."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed, ObservedVm
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.decided_list import vm_items
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.conftest import WEB as WEB_TEMPLATE
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.reconcile.vms.conftest import (
    decided,
    failed,
    record,
    refusal,
)

OLD = {"name": "old", "template": "web"}
NEW = {"name": "new", "template": "web", "renamed_from": "old"}
WEB = {"name": "web-%i", "count": 3, "template": "web"}


def run(engine, *items):
    outcomes, planned, warnings = decided(engine, *items)
    assert failed(outcomes) == []
    record(engine, planned)
    return outcomes, planned, warnings


def names(engine):
    return {record.name: record.id for record in engine.vms.pool()}


def test_it_is_the_same_machine(engine):
    run(engine, OLD)
    (before,) = engine.vms.pool()
    outcomes, planned, warnings = run(engine, NEW)
    (after,) = engine.vms.pool()
    assert (after.name, after.id, after.uuid, after.nics, after.disks, after.host, after.state) == (
        "new", before.id, before.uuid, before.nics, before.disks, before.host, "RUNNING",
    )  # fmt: skip
    assert (after.hostname, after.former) == ("new", "old")
    (each,) = planned
    assert (each.vm.name, each.vm.context.variables["HOSTNAME"], each.wanted) == ("new", "new", "RUNNING")
    assert [step["action"] for step in engine.vms.history(after.id)].count("rename") == 1
    (warning,) = warnings
    assert warning.startswith("VM new (id 0): its guest goes by the name old until it is started anew (state: rebooted")
    (item,) = vm_items(outcomes)
    assert item.name == "new" and item.is_changed
    assert (item.before["name"], item.after["name"]) == ("old", "new")


def test_again_there_is_nothing_to_do(engine):
    run(engine, OLD)
    run(engine, NEW)
    outcomes, planned, warnings = decided(engine, NEW)
    assert planned == [] and warnings == [] and [o.before == o.after for o in outcomes] == [True]


def test_where_there_is_neither_it_is_made(engine):
    run(engine, NEW)
    assert names(engine) == {"new": 0}
    assert decided(engine, NEW)[1] == []


def test_its_definition_says_the_new_name_though_its_context_says_none(engine):
    run(engine, dict(OLD, context={"HOSTNAME": "mine"}))
    _outcomes, planned, warnings = run(engine, dict(NEW, context={"HOSTNAME": "mine"}))
    assert [each.vm.name for each in planned] == ["new"] and warnings == []
    assert engine.vms.pool()[0].former == ""


@pytest.mark.parametrize("state", ["poweroff", "suspended"])
def test_it_may_be_in_any_state(engine, state):
    run(engine, OLD)
    run(engine, dict(OLD, state=state))
    run(engine, dict(NEW, state="present"))
    (after,) = engine.vms.pool()
    assert (after.name, after.state) == ("new", state.upper())
    # Who is off has forgotten what it was called.
    assert after.former == {"poweroff": "", "suspended": "old"}[state]


def test_it_is_started_with_its_new_name(engine):
    run(engine, OLD)
    run(engine, NEW)
    run(engine, dict(NEW, context={"MORE": "1"}))
    assert engine.vms.pool()[0].former == "old"
    run(engine, dict(NEW, context={"MORE": "1"}, state="rebooted"))
    assert engine.vms.pool()[0].former == ""


def test_who_switched_itself_off_will_be_started_with_it_too(engine):
    run(engine, OLD)
    run(engine, NEW)
    (machine,) = engine.vms.pool()
    seen = ObservedVm(machine.id, machine.uuid, "POWEROFF", machine.generation)
    with engine.session():
        engine.vms.observe([Observed("node1", catalog=engine.catalog(), vms=(seen,))])
    assert engine.vms.pool()[0].former == ""


def test_two_names_later_the_guest_still_has_its_first(engine):
    run(engine, OLD)
    run(engine, NEW)
    run(engine, {"name": "third", "template": "web", "renamed_from": "new"})
    assert (engine.vms.pool()[0].hostname, engine.vms.pool()[0].former) == ("third", "old")
    run(engine, {"name": "old", "template": "web", "renamed_from": "third"})
    assert (engine.vms.pool()[0].hostname, engine.vms.pool()[0].former) == ("old", "")


def test_two_of_one_name_are_refused(engine):
    run(engine, OLD, {"name": "new", "template": "web"})
    error = refusal(engine, NEW)
    assert "both are there: old (id 0) and new (id 1). Leave renamed_from out" in error


@pytest.mark.parametrize(
    "other", [OLD, {"name": "old", "state": "absent"}, {"name": "%i", "count": 5, "template": "web"}]
)
def test_the_list_may_not_want_the_old_name_too(engine, other):
    """Neither is done: one would make or end a machine where the other means that there is none, or another."""
    former = "old" if other["name"] == "old" else "3"
    run(engine, dict(OLD, name=former))
    before = engine.vms.pool()
    outcomes, planned, _warnings = decided(engine, dict(NEW, renamed_from=former), other)
    first, second = (str(outcome.error) for outcome in outcomes)
    assert f"VM new: renamed_from '{former}': the list has a machine {former} too. Run once without that one" in first
    assert second == f"VM {other['name']}: VM new says renamed_from: {former}. Leave one of the two out"
    assert planned == [] and engine.vms.pool() == before


def test_one_machine_gets_one_name(engine):
    run(engine, OLD)
    outcomes, _planned, _warnings = decided(engine, NEW, dict(NEW, name="newer"))
    assert [str(o.error) for o in outcomes] == [
        f"VM {name}: renamed_from 'old': VM new and VM newer say the same. One machine gets one name"
        for name in ("new", "newer")
    ]
    assert names(engine) == {"old": 0}


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (dict(WEB, renamed_from="old"), "are called by their index"),
        (dict(NEW, renamed_from="web-%i"), "are called by their index"),
        (dict(NEW, renamed_from="new"), "that is the name it is to have"),
        (dict(NEW, renamed_from="a/b"), "the name holds a /"),
        (dict(NEW, renamed_from=7), "the name is a int"),
    ],
)
def test_what_can_not_be_meant(engine, item, says):
    assert says in refusal(engine, item)


def test_one_of_a_pattern_counts_for_it_no_more(engine):
    run(engine, WEB)
    outcomes, _planned, _warnings = run(
        engine, {"name": "db", "template": "web", "renamed_from": "web-2"}, dict(WEB, count=2)
    )
    assert names(engine) == {"web-0": 0, "web-1": 1, "db": 2} and len(outcomes) == 3
    run(engine, {"name": "web-%i", "state": "absent"})
    assert names(engine) == {"db": 2}


DB = {"name": "db", "template": "web", "renamed_from": "web-2"}


@pytest.mark.parametrize("others", [dict(WEB, count=2), {"name": "web-%i", "state": "absent"}])
@pytest.mark.parametrize(
    "wrong",
    [
        [dict(DB, template="wbe")],
        [dict(DB, disk_snapshots=[{"disk": 9, "name": "x", "state": "reverted"}])],
        [DB, dict(DB, name="db2")],
        [dict(DB, context={"FILES": "/nowhere/at/all"}, recreate=True)],
    ],
)
def test_one_that_can_not_get_its_name_is_not_ended_under_the_old_one(engine, wrong, others):
    """Whatever is wrong with the item: the list says that the machine goes on."""
    run(engine, WEB)
    outcomes, planned, warnings = decided(engine, *wrong, others)
    assert [outcome.name for outcome in outcomes if outcome.error] == [item["name"] for item in wrong]
    assert names(engine)["web-2"] == 2 and 2 not in [each.vm.vm_id for each in planned]
    assert [text for text in warnings if "web-2" in text] == [
        "VM web-2 (id 2) is not ended: an item says renamed_from: web-2, and the machine did not get the new name"
    ]


def test_both_are_there_and_neither_is_ended(engine):
    run(engine, WEB, {"name": "db", "template": "web"})
    _outcomes, planned, _warnings = decided(engine, DB, dict(WEB, count=2))
    assert planned == [] and names(engine)["web-2"] == 2


def test_one_whose_new_name_ends_is_not_spared(engine):
    run(engine, WEB)
    run(engine, dict(DB, state="absent"), dict(WEB, count=2))
    assert names(engine) == {"web-0": 0, "web-1": 1}


def test_what_can_not_be_otherwise_keeps_its_name(engine):
    run(engine, OLD)
    assert "the machine has 1 disks" in refusal(
        engine, dict(NEW, disk_snapshots=[{"disk": 9, "name": "x", "state": "reverted"}])
    )
    assert names(engine) == {"old": 0}


def test_others_are_renamed_all_the_same(engine):
    run(engine, OLD, {"name": "b", "template": "web"})
    outcomes, planned, _warnings = decided(
        engine, NEW, dict(NEW, name="c", renamed_from="b", nics=[{"NETWORK": "nowhere"}], recreate=True)
    )
    assert [outcome.name for outcome in outcomes if outcome.error] == ["c"]
    assert names(engine) == {"new": 0, "b": 1} and [each.vm.name for each in planned] == ["new"]


def test_what_ends_is_what_has_the_name(engine):
    run(engine, OLD)
    run(engine, dict(NEW, state="absent"))
    assert names(engine) == {"old": 0}
    run(engine, NEW)
    run(engine, dict(NEW, state="absent"))
    assert names(engine) == {}


def test_one_on_a_host_that_is_not_in_the_run_stays(engine):
    run(engine, OLD)
    assert "it is on host node1, which is not part of this run" in refusal(engine, NEW, hosts=["node2"])


# -- a machine whose image was renamed ---------------------------------------------------------------------------------
@pytest.mark.parametrize("taken", [False, True])
def test_a_machine_keeps_its_image_whatever_that_is_called(engine, taken):
    """Also where another image has the old name by then, as docs/images.md has it for the next version of one."""
    run(engine, OLD)
    with engine.session():
        engine.images.update("demo", name="demo-1")
        if taken:
            image = engine.images.allocate(Image(None, "demo", type=ImageType.OS, dev_prefix="vd"))
            engine.images.update(image.id, state=ImageState.READY, size=16, format="qcow2", sha256="1" * 64)
    _outcomes, (planned,), _warnings = run(engine, dict(NEW, cpu=0.6))
    assert (planned.vm.disks[0].image, planned.vm.disks[0].image_id) == ("demo-1", 0)
    assert engine.ledger().findings == ()
    assert decided(engine, dict(NEW, cpu=0.6))[1] == []


def test_a_list_may_follow_the_image(engine):
    """A machine is of the image that it was made of: by its new name it is the same, and another one is another."""
    run(engine, OLD)
    with engine.session():
        engine.images.update("demo", name="demo-1")
        engine.templates.update("web", parse(WEB_TEMPLATE.replace('"demo"', '"demo-1"')))
    outcomes, planned, _warnings = decided(engine, OLD)
    assert planned == [] and outcomes[0].differs == () and outcomes[0].before == outcomes[0].after
    _outcomes, (planned,), _warnings = run(engine, dict(OLD, cpu=0.6))
    assert (planned.vm.disks[0].image, planned.vm.disks[0].image_id) == ("demo-1", 0)
    with engine.session():
        image = engine.images.allocate(Image(None, "demo-2", type=ImageType.OS, dev_prefix="vd"))
        engine.images.update(image.id, state=ImageState.READY, size=16, format="qcow2", sha256="1" * 64)
        engine.templates.update("web", parse(WEB_TEMPLATE.replace('"demo"', '"demo-2"')))
    outcomes, _planned, _warnings = decided(engine, dict(OLD, cpu=0.6))
    assert "differs in DISK" in outcomes[0].differs[0]


def test_the_verb_itself_refuses_a_name_that_somebody_has(engine):
    run(engine, OLD, {"name": "b", "template": "web"})
    with pytest.raises(Conflict, match="id 1 has that name"), engine.session():
        engine.vms.rename(0, "b")
    with pytest.raises(InvalidValue, match="holds a /"), engine.session():
        engine.vms.rename(0, "a/b")
    with engine.session():
        assert dataclasses.replace(engine.vms.rename(0, "old")) == engine.vms.pool()[0]
    (old,) = engine.vms.pool(names=["old"])
    assert old.generation == 1, "it has that name"
