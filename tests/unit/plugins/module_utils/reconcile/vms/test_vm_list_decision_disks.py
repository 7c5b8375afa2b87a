# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What engines decide and remember about disks that are saved as images, and about their snapshots."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmOrders
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import from_plain, to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.disk_snapshots import tree_of
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.image_operations import (
    REWRITE,
    Prepare,
    Rewrite,
    Save,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import (
    CREATE,
    DELETE,
    REVERT,
    SAVE_AS,
    Plan,
    TaskOutcome,
    VmOutcome,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images import image_list_decision
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.decided_list import vm_items
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.reconcile.vms.conftest import VM, failed, want

SAVE = [{"image": "saved", "description": "as it was"}]
ERROR = {"kind": "NoSpace", "asked": "disk 0", "found": "no room", "remedy": "Make some"}


def carry_out(engine, planned, error=None, state="", size=20):
    """What a node would report: of each task the same."""
    with engine.session():
        for each in planned:
            tasks = tuple(TaskOutcome(task.token, size, task.format or "qcow2", error) for task in each.tasks)
            outcome = VmOutcome(
                each.vm.vm_id, each.generation, state or each.wanted, bool(tasks), error if tasks else None, tasks=tasks
            )
            engine.vms.record("node1", [outcome])


def run(engine, *items, **came):
    outcomes, planned = want(engine, *items)
    carry_out(engine, planned, **came)
    return outcomes, planned


def machine(engine, name="web"):
    return {record.name: record for record in engine.vms.pool()}[name]


@pytest.fixture
def web(engine):
    """A machine that runs."""
    run(engine, VM)
    return engine


@pytest.fixture
def persistent(engine):
    """A machine that is off, on a persistent image of format qcow2."""
    with engine.session():
        engine.images.update("demo", persistent=True)
    run(engine, dict(VM, state="poweroff"))
    return engine


# -- save_as -----------------------------------------------------------------------------------------------------------


def test_a_disk_becomes_an_image(web):
    outcomes, planned = want(web, dict(VM, save_as=SAVE))
    assert failed(outcomes) == []
    assert outcomes[0].after.state == "HOTPLUG_SAVEAS"
    image = web.images.info("saved")
    assert (image.state, image.type, image.description) == (ImageState.LOCKED, ImageType.OS, "as it was")
    assert image.origin == f"vm:{machine(web).uuid}/disk.0"
    (task,) = planned[0].tasks
    assert (task.kind, task.disk_id, task.consistency, task.target) == (SAVE_AS, 0, "agent", image.source)
    # What travels is what was decided.
    plan = Plan("c", 1, "node1", tuple(planned))
    assert from_plain(Plan, to_plain(plan)) == plan
    carry_out(web, planned)
    image = web.images.info("saved")
    assert (image.state, image.size, image.format, image.persistent) == (ImageState.READY, 20, "qcow2", False)
    assert (machine(web).state, machine(web).error) == ("RUNNING", "")
    # Once, whatever the list goes on to say.
    outcomes, planned = want(web, dict(VM, save_as=SAVE))
    assert planned == []
    assert outcomes[0].before == outcomes[0].after
    with web.session():
        web.images.update("saved", state=ImageState.DISABLED)
    assert want(web, dict(VM, save_as=SAVE))[1] == []
    # Another machine may be made of it.
    with web.session():
        web.images.update("saved", state=ImageState.READY)
    outcomes, _planned = want(web, dict(VM, name="copy", disks=[{"IMAGE": "saved"}]))
    assert failed(outcomes) == []


@pytest.mark.parametrize("state", ["poweroff", "running"])
def test_the_state_in_which_it_is_saved(web, state):
    run(web, dict(VM, state="poweroff"))
    outcomes, planned = want(web, dict(VM, state=state, save_as=SAVE))
    assert failed(outcomes) == []
    assert planned[0].wanted == {"poweroff": "POWEROFF", "running": "RUNNING"}[state]
    assert outcomes[0].after.state == {"poweroff": "HOTPLUG_SAVEAS_POWEROFF", "running": "BOOT_POWEROFF"}[state]
    carry_out(web, planned)
    assert machine(web).state == planned[0].wanted
    assert web.images.info("saved").state == ImageState.READY


def test_a_suspended_machine_is_saved_only_as_a_power_cut_would_leave_it(web):
    run(web, dict(VM, state="suspended"))
    outcomes, planned = want(web, dict(VM, state="present", save_as=SAVE))
    assert "consistency: crash" in failed(outcomes)[0]
    assert planned == []
    outcomes, planned = want(web, dict(VM, state="present", save_as=[dict(SAVE[0], consistency="crash")]))
    assert outcomes[0].after.state == "HOTPLUG_SAVEAS_SUSPENDED"
    carry_out(web, planned)
    assert machine(web).state == "SUSPENDED"


def test_what_failed_says_so_and_is_tried_again(web):
    _outcomes, planned = run(web, dict(VM, save_as=SAVE), error=ERROR)
    image = web.images.info("saved")
    assert (image.state, image.error) == (ImageState.ERROR, "disk 0: no room. Make some")
    record = machine(web)
    assert (record.state, record.wanted, record.error) == ("RUNNING", "RUNNING", "disk 0: no room. Make some")
    outcomes, again = want(web, dict(VM, save_as=SAVE))
    assert failed(outcomes) == []
    assert len(again[0].tasks) == 1
    assert again[0].tasks[0].token != planned[0].tasks[0].token
    carry_out(web, again)
    assert web.images.info("saved").state == ImageState.READY
    assert machine(web).error == ""


def test_what_a_killed_run_decided_is_in_the_next_plan(web):
    _outcomes, first = want(web, dict(VM, save_as=SAVE))
    # The same list, another specification, and somebody else's: each plan still has the task, under its own name.
    for item in (dict(VM, save_as=SAVE), VM, dict(VM, state="poweroff")):
        _outcomes, planned = want(web, item)
        assert planned[0].tasks == first[0].tasks
    carry_out(web, planned)
    assert web.images.info("saved").state == ImageState.READY
    assert machine(web).state == "POWEROFF"


@pytest.mark.parametrize("item", [{"state": "absent"}, {"recreate": True, "cpu": 1, "memory": 256}])
def test_a_machine_that_ends_before_leaves_no_locked_image(web, item):
    want(web, dict(VM, save_as=SAVE))
    _outcomes, planned = want(web, dict(VM, **item))
    assert planned[0].tasks == ()
    image = web.images.info("saved")
    assert image.state == ImageState.ERROR
    assert "ended before" in image.error


def test_a_failure_of_the_machine_is_one_of_its_tasks(web):
    _outcomes, planned = want(web, dict(VM, save_as=SAVE))
    with web.session():
        web.vms.record("node1", [VmOutcome(0, planned[0].generation, "UNKNOWN", True, ERROR)])
    assert web.images.info("saved").state == ImageState.ERROR


def test_an_image_that_was_removed_meanwhile_leaves_no_file(web, tmp_path):
    _outcomes, planned = want(web, dict(VM, save_as=SAVE))
    file = Path(planned[0].tasks[0].target)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    with web.session():
        web.images.delete("saved")
    carry_out(web, planned)
    assert not file.exists()
    assert machine(web).state == "RUNNING"


@pytest.mark.parametrize(
    ("save", "says"),
    [
        ({"image": "demo"}, "there is an image of that name"),
        ({"image": "x", "disk": 3}, "has 1 disks"),
        ({"image": "x", "disk": "one"}, "'one'"),
        ({"image": "a/b"}, "a/b"),
        ({}, "image"),
        ({"image": "x", "type": "CDROM"}, "Known are OS, DATABLOCK"),
        ({"image": "x", "consistency": "agnet"}, "Did you mean 'agent'?"),
        ({"image": "x", "dsik": 1}, "Did you mean 'disk'?"),
    ],
)
def test_a_save_that_can_not_be_is_refused(web, save, says):
    outcomes, planned = want(web, dict(VM, save_as=[save]))
    assert says in failed(outcomes)[0]
    assert planned == []
    assert [image.name for image in web.images.pool()] == ["demo"]


def test_nobody_else_stores_into_an_image_that_a_disk_is_being_saved_as(web, tmp_path):
    _outcomes, planned = want(web, dict(VM, save_as=SAVE))
    image = web.images.info("saved")
    assert image.operation == Save(image.origin)
    other = tmp_path / "other.raw"
    other.write_bytes(bytes(1 << 20))
    (item,), _warnings = image_list_decision.apply(
        web, [{"name": "saved", "path": str(other)}], image_list_decision.Settings()
    )
    assert "is being saved as it" in str(item.error)
    assert web.images.info("saved") == image
    carry_out(web, planned)
    assert (web.images.info("saved").state, web.images.info("saved").operation) == (ImageState.READY, None)


def test_what_an_image_is_by_now_is_not_taken_for_what_was_saved(web):
    _outcomes, planned = want(web, dict(VM, save_as=SAVE))
    with web.session():
        web.images.update("saved", origin="/srv/other.qcow2", operation=None)
    carry_out(web, planned)
    image = web.images.info("saved")
    assert (image.state, image.size) != (ImageState.READY, 20)


@pytest.mark.parametrize("recreate", [True, False])
def test_all_that_is_asked_with_a_recreation_is_done(engine, recreate):
    saves = [{"image": "one"}, {"image": "two"}, {"image": "three"}]
    item = dict(VM, save_as=saves[:1])
    # It never ran: nothing that is on its disks can be lost.
    run(engine, item, state="BOOT_FAILURE", error=ERROR)
    item.update(memory=256, recreate=recreate, save_as=saves, **snapshot("a"))
    for _again in range(2):
        outcomes, planned = want(engine, item)
        assert failed(outcomes) == []
        assert planned[0].operation == "recreate"
        assert sorted(task.image or task.name for task in planned[0].tasks) == ["a", "one", "three", "two"]
    carry_out(engine, planned)
    assert {engine.images.info(each["image"]).state for each in saves} == {ImageState.READY}


# What is done to an image besides, as it stands in the catalog until it is done.
CHANGED = Rewrite(REWRITE, {"format": "qcow2"}, ImageState.READY)


@pytest.mark.parametrize("operation", [CHANGED, Prepare(ImageState.READY)])
def test_an_image_that_was_saved_is_left_alone_while_something_else_is_done_to_it(web, operation):
    item = dict(VM, save_as=SAVE)
    run(web, item)
    with web.session():
        web.images.update("saved", state=ImageState.LOCKED, operation=operation)
    before = web.images.info("saved")
    outcomes, planned = want(web, item)
    assert (failed(outcomes), planned) == ([], [])
    assert web.images.info("saved") == before
    # It is whole, or will be: nothing is lost with the machine's disk.
    outcomes, planned = want(web, dict(item, memory=256, recreate=True))
    assert failed(outcomes) == []
    assert (planned[0].operation, planned[0].tasks) == ("recreate", ())
    assert web.images.info("saved") == before


@pytest.mark.parametrize("state", [ImageState.ERROR, ImageState.INIT])
@pytest.mark.parametrize("sign", [{"generation": 1}, {"sha256": "0" * 64}, {"checksums": {"md5": "0"}}, {}])
def test_what_was_saved_once_is_never_replaced(web, state, sign):
    item = dict(VM, save_as=SAVE)
    run(web, item)
    with web.session():
        web.images.update("saved", state=state, error="no room", **sign)
    before = web.images.info("saved")
    file = Path(before.source)
    if not sign:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    outcomes, planned = want(web, item)
    assert "(no room), and may hold what was saved before" in failed(outcomes)[0]
    assert "state: enabled" in failed(outcomes)[0]
    assert planned == []
    assert web.images.info("saved") == before
    # As the error says.
    with web.session():
        web.images.delete("saved")
    outcomes, planned = want(web, item)
    assert failed(outcomes) == []
    assert len(planned[0].tasks) == 1


def test_a_save_that_nobody_carries_out_any_more_is_decided_anew(web):
    item = dict(VM, save_as=SAVE)
    for saving in (False, True):
        run(web, item, error=ERROR)
        origin = web.images.info("saved").origin
        with web.session():
            web.images.update("saved", state=ImageState.LOCKED, operation=Save(origin) if saving else None)
        outcomes, planned = want(web, item)
        assert failed(outcomes) == []
        assert len(planned[0].tasks) == 1


# What ends a machine's disks, and what the error says to do first.
ENDS = [
    ({"memory": 256, "recreate": True}, "leave recreate out once"),
    ({"state": "absent"}, "say state: present once"),
]


@pytest.mark.parametrize(("ending", "instead"), ENDS)
@pytest.mark.parametrize(
    ("before", "says"),
    [("missing", "none of that name"), ("failed", "in state ERROR (disk 0: no room"), ("pending", "in state LOCKED")],
)
def test_a_disk_does_not_go_before_it_is_saved(web, ending, instead, before, says):
    item = dict(VM, save_as=SAVE)
    if before == "failed":
        run(web, item, error=ERROR)
    elif before == "pending":
        want(web, item)
    there = (machine(web), web.images.pool())
    outcomes, planned = want(web, dict(item, **ending))
    assert "its disk 0 is not saved as image saved: " in failed(outcomes)[0]
    assert says in failed(outcomes)[0] and instead in failed(outcomes)[0]
    # All is as it was: what is on its way is still.
    assert (machine(web), web.images.pool()) == there
    assert [len(each.tasks) for each in planned] == [1] * (before == "pending")
    # As the error says.
    run(web, dict(item, state="present"))
    assert web.images.info("saved").state == ImageState.READY
    outcomes, planned = want(web, dict(item, **ending))
    assert failed(outcomes) == []
    assert (planned[0].operation or planned[0].wanted, planned[0].tasks) in (("recreate", ()), ("DONE", ()))
    carry_out(web, planned)
    assert web.images.info("saved").state == ImageState.READY


@pytest.mark.parametrize(("ending", "_instead"), ENDS)
def test_a_disk_does_not_go_for_an_image_of_something_else(web, ending, _instead):
    outcomes, planned = want(web, dict(VM, save_as=[{"image": "demo"}], **ending))
    assert "there is one of that name (id 0), of something else" in failed(outcomes)[0]
    assert planned == []
    # A name that is another's number.
    outcomes, planned = want(web, dict(VM, save_as=[{"image": "0"}], **ending))
    assert "none of that name" in failed(outcomes)[0]
    # Taken out of the list, it goes.
    assert failed(want(web, dict(VM, **ending))[0]) == []


def test_of_many_machines_the_first_is_the_one_that_is_saved(engine):
    item = {"name": "n-%i", "template": "web", "save_as": SAVE}
    both = dict(item, save_as=[], count=2)
    run(engine, both)
    outcomes, planned = want(engine, dict(item, state="absent"))
    assert "VM n-0 (id 0): state absent" in failed(outcomes)[0]
    assert planned == []
    run(engine, item)
    run(engine, both)
    outcomes, planned = want(engine, dict(item, state="absent"))
    assert failed(outcomes) == []
    assert [each.wanted for each in planned] == ["DONE", "DONE"]


def test_a_machine_that_never_ran_ends_unsaved(engine):
    item = dict(VM, save_as=SAVE)
    run(engine, item, state="PROLOG_FAILURE", error=ERROR)
    outcomes, planned = want(engine, dict(item, state="absent"))
    assert failed(outcomes) == []
    assert planned[0].wanted == "DONE"


def test_a_new_disk_is_not_saved_in_the_place_of_the_one_that_goes(web):
    """That it goes was decided by a run that did not come to it."""
    again = dict(VM, memory=256, recreate=True)
    _outcomes, decided = want(web, again)
    outcomes, planned = want(web, dict(again, save_as=SAVE))
    assert "is to be made anew" in failed(outcomes)[0]
    assert planned == decided
    assert [image.name for image in web.images.pool()] == ["demo"]
    carry_out(web, planned)
    outcomes, planned = want(web, dict(again, save_as=SAVE))
    assert failed(outcomes) == []
    assert len(planned[0].tasks) == 1


def test_one_name_serves_one_disk_of_one_machine(web):
    outcomes, _planned = want(web, dict(VM, name="n-%i", count=2, save_as=SAVE))
    assert "2 machines" in failed(outcomes)[0]
    outcomes, _planned = want(web, dict(VM, save_as=SAVE * 2))
    assert "twice" in failed(outcomes)[0]
    run(web, dict(VM, save_as=SAVE))
    outcomes, _planned = want(web, dict(VM, name="other", save_as=SAVE))
    assert "there is an image of that name" in failed(outcomes)[0]


# -- trust -------------------------------------------------------------------------------------------------------------


def test_what_a_guest_wrote_is_not_trusted(engine):
    """TRUSTED was said of what the image held then; and what is made of it is no better."""
    said = {"TRUSTED": "yes"}

    def is_trusted(name="demo"):
        return engine.images.info(name).is_trusted

    with engine.session():
        engine.images.update("demo", persistent=True, attributes=said)
        # What is done here by us leaves it so.
        engine.images.update("demo", generation=1)
    assert is_trusted()
    run(engine, VM)
    run(engine, {"name": "web", "state": "absent"})
    assert not is_trusted()
    with engine.session():
        engine.images.update("demo", attributes=said, generation=engine.images.info("demo").generation + 1)
        engine.images.clone("demo", Image(None, "clone", type=ImageType.OS, attributes=said))
        assert not is_trusted() and not is_trusted("clone")
        engine.images.update("clone", state=ImageState.READY, operation=None, notes={})
        assert not is_trusted("clone")
        # Until it is said anew.
        engine.images.update("demo", attributes={})
        assert not is_trusted()
        engine.images.update("demo", attributes=said)
        assert is_trusted()


# -- snapshots ---------------------------------------------------------------------------------------------------------


def snapshot(name, state="present", **more):
    return {"disk_snapshots": [{"name": name, "state": state, **more}]}


def tree(engine):
    return [(each["name"], each["parent"], each["active"]) for each in machine(engine).disks[0]["snapshots"]]


def test_a_tree_of_snapshots(web):
    outcomes, planned = want(web, dict(VM, **snapshot("a")))
    assert failed(outcomes) == []
    assert outcomes[0].after.state == "DISK_SNAPSHOT"
    assert [(task.kind, task.snapshot_id, task.name) for task in planned[0].tasks] == [(CREATE, 0, "a")]
    assert tree(web) == []
    carry_out(web, planned)
    assert tree(web) == [("a", None, True)]
    assert want(web, dict(VM, **snapshot("a")))[1] == []
    run(web, dict(VM, **snapshot("b")))
    assert tree(web) == [("a", None, False), ("b", 0, True)]
    for name, why in (("a", "it has children: b"), ("b", "it is the active one")):
        outcomes, planned = want(web, dict(VM, **snapshot(name, "absent")))
        assert why in failed(outcomes)[0]
        assert planned == []
    outcomes, planned = want(web, dict(VM, **snapshot("a", "reverted")))
    assert "Power it off first" in failed(outcomes)[0]
    _outcomes, planned = want(web, dict(VM, state="poweroff", **snapshot("a", "reverted")))
    assert [task.kind for task in planned[0].tasks] == [REVERT]
    carry_out(web, planned)
    assert tree(web) == [("a", None, True), ("b", 0, False)]
    # Asked for again, it is done again.
    assert len(want(web, dict(VM, state="poweroff", **snapshot("a", "reverted")))[1][0].tasks) == 1
    _outcomes, planned = run(web, dict(VM, state="poweroff", **snapshot("b", "absent")))
    assert [task.kind for task in planned[0].tasks] == [REVERT, DELETE]
    assert tree(web) == [("a", None, True)]
    assert want(web, dict(VM, state="poweroff", **snapshot("b", "absent")))[1] == []


def test_snapshots_of_one_list_build_on_each_other(web):
    both = {"disk_snapshots": [{"name": "a"}, {"name": "b"}]}
    _outcomes, planned = want(web, dict(VM, **both))
    assert [(task.name, task.snapshot_id) for task in planned[0].tasks] == [("a", 0), ("b", 1)]
    assert len({task.token for task in planned[0].tasks}) == 2
    # A killed run's: nothing is there twice.
    assert want(web, dict(VM, **both))[1][0].tasks == planned[0].tasks
    carry_out(web, planned)
    assert tree(web) == [("a", None, False), ("b", 0, True)]
    outcomes, _planned = want(web, dict(VM, disk_snapshots=[{"name": "a"}, {"name": "a"}]))
    assert "twice" in failed(outcomes)[0]


def test_a_snapshot_that_was_given_up_is_not_taken_for_the_next(persistent):
    """It may be in the file of the image, and nobody remembers it."""
    _outcomes, lost = want(persistent, dict(VM, state="poweroff", **snapshot("a")))
    run(persistent, {"name": "web", "state": "absent"})
    _outcomes, planned = want(persistent, dict(VM, state="poweroff", **snapshot("a")))
    (before,), (after,) = lost[0].tasks, planned[0].tasks
    assert (before.snapshot_id, before.name) == (after.snapshot_id, after.name)
    assert before.mark and after.mark and before.mark != after.mark
    carry_out(persistent, planned)
    (made,) = tree_of(persistent.images.info("demo").snapshots)
    assert made.tag == f"nebula-0-{after.mark}"
    _outcomes, planned = want(persistent, dict(VM, state="poweroff", **snapshot("a", "reverted")))
    assert planned[0].tasks[0].mark == after.mark


def test_a_snapshot_that_failed_is_none(web):
    run(web, dict(VM, **snapshot("a")), error=ERROR)
    assert tree(web) == []
    assert machine(web).error
    run(web, dict(VM, **snapshot("a")))
    assert tree(web) == [("a", None, True)]


def test_snapshots_outlive_changes_and_not_the_disk(web):
    run(web, dict(VM, **snapshot("a")))
    run(web, dict(VM, cpu=0.7))
    assert tree(web) == [("a", None, True)]
    run(web, dict(VM, memory=256, recreate=True))
    assert tree(web) == []
    run(web, dict(VM, **snapshot("b")))
    run(web, {"name": "web", "state": "absent"})
    assert web.images.info("demo").snapshots == ""


def test_a_persistent_image_keeps_the_tree_for_the_next_machine(persistent):
    run(persistent, dict(VM, state="poweroff", **snapshot("a")))
    assert [each.name for each in tree_of(persistent.images.info("demo").snapshots)] == ["a"]
    run(persistent, {"name": "web", "state": "absent"})
    run(persistent, dict(VM, name="next"))
    found = machine(persistent, "next").disks[0]["snapshots"]
    assert [(each["name"], each["active"]) for each in found] == [("a", True)]


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (snapshot("a", disk=4), "has 1 disks"),
        (snapshot("a", "reverted"), "there is none of that name"),
        (snapshot("a", "presnt"), "Did you mean 'present'?"),
        (snapshot("a/b"), "a/b"),
        ({"disk_snapshots": "a"}, "Give a list"),
        ({"disk_snapshots": ["a"]}, "Give a dict"),
    ],
)
def test_a_snapshot_that_can_not_be_is_refused(web, item, says):
    outcomes, planned = want(web, dict(VM, **item))
    assert says in failed(outcomes)[0]
    assert planned == []


@pytest.mark.parametrize(
    ("disk", "says"),
    [
        ({"IMAGE": "demo", "DRIVER": "raw"}, "raw disk"),
        ({"TYPE": "FS", "SIZE": 4}, "raw disk"),
        ({"IMAGE": "iso"}, "nothing is ever written"),
    ],
)
def test_only_qcow2_disks_that_are_written_to_have_snapshots(engine, disk, says):
    with engine.session():
        iso = engine.images.allocate(Image(None, "iso", type=ImageType.CDROM))
        engine.images.update(iso.id, state=ImageState.READY, size=1)
    item = dict(VM, disks=[{"IMAGE": "demo"}, disk])
    run(engine, item)
    outcomes, _planned = want(engine, dict(item, **snapshot("a", disk=1)))
    assert says in failed(outcomes)[0]
    if "iso" in disk.values():
        outcomes, _planned = want(engine, dict(item, save_as=[{"disk": 1, "image": "x"}]))
        assert "CDROM" in failed(outcomes)[0]


def test_a_new_machine_has_its_snapshot_before_it_starts(engine):
    outcomes, planned = want(engine, dict(VM, **snapshot("pristine")))
    assert failed(outcomes) == []
    assert outcomes[0].after.state == "PROLOG"
    assert [task.kind for task in planned[0].tasks] == [CREATE]
    carry_out(engine, planned)
    assert tree(engine) == [("pristine", None, True)]


def test_check_mode_keeps_nothing(web, reopen):
    dry = reopen(check_mode=True)
    outcomes, planned = want(dry, dict(VM, save_as=SAVE, **snapshot("a")))
    assert len(planned[0].tasks) == 2
    assert outcomes[0].before != outcomes[0].after
    assert [image.name for image in web.images.pool()] == ["demo"]
    assert tree(web) == []


def test_an_action_on_the_machine_keeps_what_is_to_be_done(web):
    want(web, dict(VM, **snapshot("a")))
    with web.session():
        web.vms.action(0, "RUNNING", VmOrders(operation="reset"))
    with web.session():
        (planned,) = next(iter(web.vms.plans().values())).vms
    assert (planned.operation, [task.name for task in planned.tasks]) == ("reset", ["a"])


def test_nor_is_it_where_the_host_failed_to_make_the_machine_anew(web):
    """The next decision about the machine has that done, whatever else it is about."""
    again = dict(VM, memory=256, recreate=True)
    _outcomes, planned = want(web, again)
    with web.session():
        web.vms.record("node1", [VmOutcome(0, planned[0].generation, "RUNNING", False, ERROR)])
    outcomes, planned = want(web, dict(again, state="present", save_as=SAVE))
    assert "is to be made anew" in failed(outcomes)[0]
    assert planned == []


def test_the_new_image_of_a_disk_is_shown_once(web):
    run(web, VM)
    outcomes, planned = want(web, dict(VM, save_as=[dict(SAVE[0], type="DATABLOCK")]))
    (item,) = vm_items(outcomes)
    assert "saved_as" not in item.before
    assert item.after["saved_as"] == [
        {
            "disk_id": 0,
            "image": "saved",
            "type": "DATABLOCK",
            "format": "qcow2",
            "size": outcomes[0].after.disks[0]["size"],
            "description": "as it was",
        }
    ]
    carry_out(web, planned)
    (item,) = vm_items(want(web, dict(VM, save_as=SAVE))[0])
    assert not item.is_changed and "saved_as" not in item.after


def test_the_new_image_of_a_new_machine_is_shown_with_it(web):
    outcomes, _planned = want(web, dict(VM, name="new", state="poweroff", save_as=SAVE))
    (item,) = vm_items(outcomes)
    assert item.before is None and [each["image"] for each in item.after["saved_as"]] == ["saved"]
