# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks with a machine's disks: decided once for the state that it will be in, and recorded by what came of them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.images.image_verbs import Images
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.vms.disk_task_rows import (
    WAYS,
    DiskTasks,
    text_of,
)
from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    Conflict,
    InvalidValue,
    NotFound,
    Unsupported,
    WrongState,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import from_plain, to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.disk_snapshots import Snapshot, tree_of
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.image_operations import Return, Save
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import (
    CREATE,
    DELETE,
    REVERT,
    SAVE_AS,
    SYSTEM_CREATE,
    SYSTEM_DELETE,
    SYSTEM_REVERT,
    DiskTask,
    TaskOutcome,
    VmOutcome,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.states import (
    ImageState,
    ImageType,
    LcmState,
    VmState,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.system_snapshots import (
    SystemSnapshot,
    definition_of,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Os, Vm

NOW = 1_800_000_000
STATES = {
    "RUNNING": (VmState.ACTIVE, LcmState.RUNNING),
    "BOOT": (VmState.ACTIVE, LcmState.BOOT),
    "BOOT_FAILURE": (VmState.ACTIVE, LcmState.BOOT_FAILURE),
    "UNKNOWN": (VmState.ACTIVE, LcmState.UNKNOWN),
    "POWEROFF": (VmState.POWEROFF, LcmState.LCM_INIT),
    "SUSPENDED": (VmState.SUSPENDED, LcmState.LCM_INIT),
}
SAVED = Image(None, "saved", type=ImageType.CDROM, description="d")
ORIGIN = "vm:u/disk.0"
ERROR = {"asked": "disk 0", "found": "no room", "remedy": "Make some"}


class Catalog:
    """One machine with one image, whose row says what a test wants."""

    def __init__(self, store):
        self.store = store
        self.images = Images(store)
        self.disks = DiskTasks(store, self.images, now=lambda: NOW)
        image = self.images.allocate(Image(None, "demo", type=ImageType.DATABLOCK, firmware="UEFI", bus="virtio"))
        self.demo = self.images.update(image.id, state=ImageState.READY, size=16, format="qcow2")

    def machine(self, *disks, state="RUNNING", wanted=None, settled=True, **orders):
        disks = disks or (Disk(0, "vda", image_id=self.demo.id, image="demo", size=32, format="raw"),)
        vm = Vm(0, "u", "web", "kvm", 1.0, 64, disks=disks)
        number, lcm = STATES[state]
        self.store.db.execute(
            "INSERT OR REPLACE INTO vms (id, name, uuid, state, lcm_state, wanted, settled, generation, orders, cpu,"
            " memory, request, body, stime) VALUES (0, 'web', 'u', ?, ?, ?, ?, 4, ?, 1, 64, '[]', ?, 0)",
            (number, lcm, wanted or state, int(settled), json.dumps(to_plain(orders)), json.dumps(to_plain(vm))),
        )
        return self.row()

    def row(self):
        return self.store.rows("SELECT * FROM vms WHERE id = 0")[0]

    def vm(self):
        return from_plain(Vm, json.loads(self.row()["body"]))

    def came(self, *tasks, error=None, said=None, disk=None, **values):
        """What a node says of these tasks is recorded. said: what it says besides; disk: of the machine."""
        disks = [replace(each, **(disk or {})) for each in self.vm().disks]
        row = self.machine(*disks, settled=False, tasks=tasks)
        outcomes = tuple(
            TaskOutcome(task.token, **{"size": 20, "format": "qcow2", "error": error, **(said or {})}) for task in tasks
        )
        self.disks.record(row, VmOutcome(0, 4, "RUNNING", True, tasks=outcomes), **values)


@pytest.fixture
def catalog(undone):
    return Catalog(undone)


# -- the state in which a task is carried out --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "wanted", "then"),
    [
        ("RUNNING", "RUNNING", "RUNNING"),
        ("RUNNING", "POWEROFF", "POWEROFF"),
        # It runs when the task is carried out, and is suspended after that, or before.
        ("RUNNING", "SUSPENDED", "SUSPENDED"),
        ("SUSPENDED", "SUSPENDED", "SUSPENDED"),
        ("SUSPENDED", "RUNNING", "RUNNING"),
        ("SUSPENDED", "POWEROFF", "POWEROFF"),
        # What does not run has its tasks done before it starts.
        ("POWEROFF", "RUNNING", "POWEROFF"),
        ("BOOT_FAILURE", "RUNNING", "POWEROFF"),
        ("UNKNOWN", "RUNNING", "POWEROFF"),
    ],
)
def test_the_state_of_a_machine_when_its_tasks_are_carried_out(catalog, state, wanted, then):
    assert catalog.disks.state_then(catalog.machine(state=state, wanted=wanted)) == then


def test_what_a_machine_does_meanwhile_does_not_hide_how_it_was_found(catalog):
    assert catalog.disks.found_state(catalog.machine(state="BOOT", settled=False, found="POWEROFF")) == "POWEROFF"
    assert catalog.disks.found_state(catalog.machine(state="BOOT", settled=False)) == "BOOT"
    assert catalog.disks.found_state(catalog.machine(state="RUNNING", found="POWEROFF")) == "RUNNING"


@pytest.mark.parametrize("kind", [SAVE_AS, CREATE, DELETE, REVERT])
@pytest.mark.parametrize("state", ["RUNNING", "POWEROFF", "SUSPENDED"])
def test_what_can_be_decided_has_a_state_of_its_own(kind, state):
    possible = kind == SAVE_AS or state == "POWEROFF" or (state == "RUNNING" and kind != REVERT)
    assert ((kind, state) in WAYS) == possible
    if possible and state != "RUNNING":
        assert WAYS[kind, state].name.endswith(state)


def test_tasks_are_pending_until_they_are_recorded(catalog):
    task = DiskTask(CREATE, "5.0", 0, snapshot_id=3, name="a", mark="m")
    assert catalog.disks.pending(catalog.machine(settled=False, tasks=[task])) == (task,)
    assert catalog.disks.pending(catalog.machine(settled=True, tasks=[task])) == ()
    assert catalog.disks.pending(catalog.machine(settled=False)) == ()


# -- saving ------------------------------------------------------------------------------------------------------------


def test_what_is_saved_is_like_the_disk_and_its_image(catalog):
    task = catalog.disks.save_as(catalog.machine(), 0, SAVED, "agent")
    image = catalog.images.info("saved")
    assert (image.type, image.firmware, image.bus) == (ImageType.DATABLOCK, "UEFI", "virtio")
    assert (image.state, image.size, image.format) == (ImageState.LOCKED, 32, "qcow2")
    assert (image.origin, image.operation, image.description) == (ORIGIN, Save(ORIGIN), "d")
    assert task == DiskTask(
        SAVE_AS, "5.0", 0, "agent", image_id=image.id, image="saved", target=image.source, format="qcow2"
    )


@pytest.mark.parametrize(("facts", "prefix"), [({"dev_prefix": "vd"}, "vd"), ({"target": "sdb"}, "sd"), ({}, "")])
def test_machines_have_what_is_saved_where_they_had_the_image(catalog, facts, prefix):
    """Not at its target: both may be disks of one machine."""
    catalog.images.update(catalog.demo.id, **facts)
    catalog.disks.save_as(catalog.machine(), 0, SAVED, "agent")
    image = catalog.images.info("saved")
    assert (image.dev_prefix, image.target) == (prefix, "")


def test_a_type_that_is_asked_for_goes_before_that_of_the_image(catalog):
    catalog.disks.save_as(catalog.machine(), 0, replace(SAVED, type=ImageType.OS), "agent")
    assert catalog.images.info("saved").type == ImageType.OS


def test_a_disk_without_an_image_is_saved_as_data(catalog):
    row = catalog.machine(Disk(0, "vda", type="FS", driver="raw", size=8))
    assert catalog.disks.save_as(row, 0, SAVED, "agent").format == "raw"
    image = catalog.images.info("saved")
    assert (image.type, image.format, image.firmware) == (ImageType.DATABLOCK, "raw", "")


def test_a_disk_that_is_the_images_own_file_has_its_format(catalog):
    row = catalog.machine(Disk(0, "vda", image_id=0, save=True, format="raw", driver="qcow2"))
    assert catalog.disks.save_as(row, 0, SAVED, "agent").format == "raw"


def test_tasks_of_one_decision_have_names_of_their_own(catalog):
    first = catalog.disks.save_as(catalog.machine(), 0, SAVED, "agent")
    row = catalog.machine(settled=False, tasks=[first])
    assert catalog.disks.save_as(row, 0, SAVED, "agent") is None
    assert catalog.disks.save_as(row, 0, replace(SAVED, name="more"), "agent").token == "5.1"


@pytest.mark.parametrize("state", ["POWEROFF", "RUNNING"])
def test_an_encrypted_disk_is_saved_encrypted_and_so_not_while_its_machine_runs(catalog, state):
    row = catalog.machine(Disk(0, "vda", luks_secret="s"), state=state)
    if state == "POWEROFF":
        catalog.disks.save_as(row, 0, SAVED, "agent")
        assert catalog.images.info("saved").luks_secret == "s"
    else:
        with pytest.raises(
            Unsupported, match=r"VM web \(id 0\): save_as of disk 0: the disk is encrypted.*Power it off"
        ):
            catalog.disks.save_as(row, 0, SAVED, "agent")


def test_what_is_not_there_or_is_a_cdrom_is_not_saved(catalog):
    row = catalog.machine(Disk(0, "hda", type="CDROM", image="iso"))
    with pytest.raises(InvalidValue, match="Image iso is what there is of it"):
        catalog.disks.save_as(row, 0, SAVED, "agent")
    with pytest.raises(NotFound, match="save_as of disk 1: the machine has 1 disks"):
        catalog.disks.save_as(row, 1, SAVED, "agent")


def test_an_image_that_is_being_removed_is_left_to_that(catalog):
    found = catalog.images.allocate(Image(None, "saved", origin=ORIGIN))
    catalog.images.update(found.id, state=ImageState.READY)
    catalog.images.update(found.id, state=ImageState.DELETE)
    with pytest.raises(Conflict, match="as image saved: it is being removed"):
        catalog.disks.save_as(catalog.machine(), 0, SAVED, "agent")


def test_an_image_that_is_on_its_way_back_is_saved(catalog):
    catalog.images.allocate(Image(None, "saved", origin=ORIGIN, operation=Return("node1")))
    assert catalog.disks.save_as(catalog.machine(), 0, SAVED, "agent") is None


def test_an_image_that_failed_is_made_again_under_its_id(catalog):
    found = catalog.images.allocate(Image(None, "saved", origin=ORIGIN))
    catalog.images.update(found.id, state=ImageState.ERROR, error="no room", description="old")
    task = catalog.disks.save_as(catalog.machine(), 0, SAVED, "agent")
    image = catalog.images.info("saved")
    assert (task.image_id, image.id, image.state, image.error) == (found.id, found.id, ImageState.LOCKED, "")
    assert (image.description, image.size) == ("d", 32)


# -- snapshots ---------------------------------------------------------------------------------------------------------


def qcow2(*names, **values):
    tree = tuple(
        Snapshot(number, name, parent=number - 1 if number else None, active=name == names[-1], mark=f"m{number}")
        for number, name in enumerate(names)
    )
    return Disk(0, "vda", driver="qcow2", size=16, snapshots=tree, **values)


def test_a_new_snapshot_has_an_id_and_a_mark_that_none_had(catalog):
    row = catalog.machine(qcow2("a", "b"))
    tasks = [catalog.disks.snapshot(row, 0, name, "present") for name in ("c", "d")]
    assert [(task.kind, task.snapshot_id) for task in tasks] == [(CREATE, 2)] * 2
    assert tasks[0].mark != tasks[1].mark
    assert all(len(task.mark) == 12 for task in tasks)


def test_a_snapshot_that_is_there_is_named_by_its_own_id_and_mark(catalog):
    row = catalog.machine(qcow2("a", "b"), state="POWEROFF")
    task = catalog.disks.snapshot(row, 0, "a", "reverted")
    assert (task.kind, task.snapshot_id, task.mark) == (REVERT, 0, "m0")


@pytest.mark.parametrize(("name", "wanted"), [("a", "present"), ("z", "absent")])
def test_what_is_so_already_is_no_task(catalog, name, wanted):
    assert catalog.disks.snapshot(catalog.machine(qcow2("a")), 0, name, wanted) is None


def test_a_task_is_decided_of_what_there_will_be(catalog):
    pending = [
        DiskTask(REVERT, "5.0", 0, snapshot_id=0, name="a"),
        DiskTask(DELETE, "5.1", 0, snapshot_id=1, name="b"),
        DiskTask(CREATE, "5.2", 0, snapshot_id=1, name="c"),
        DiskTask(CREATE, "5.3", 1, snapshot_id=0, name="of another disk"),
    ]
    row = catalog.machine(qcow2("a", "b"), state="POWEROFF", settled=False, tasks=pending)
    assert catalog.disks.snapshot(row, 0, "c", "present") is None
    assert catalog.disks.snapshot(row, 0, "b", "absent") is None
    assert catalog.disks.snapshot(row, 0, "a", "reverted") is None
    assert catalog.disks.snapshot(row, 0, "of another disk", "present").token == "5.4"
    row = catalog.machine(qcow2("a"), settled=False, tasks=[DiskTask(CREATE, "5.0", 0, snapshot_id=1, name="c")])
    with pytest.raises(WrongState, match="it has children: c"):
        catalog.disks.snapshot(row, 0, "a", "absent")


def reverts(*names):
    """Pending ones of the disk with the snapshots a, b and c, which are told by their order."""
    return [DiskTask(REVERT, f"5.{n}", 0, snapshot_id="abc".index(name), name=name) for n, name in enumerate(names)]


@pytest.mark.parametrize(
    ("pending", "decided"),
    [
        ("a", False),
        ("ba", False),
        # What was reverted since is what the disk would hold.
        ("ab", True),
        ("aba", False),
        ("b", True),
    ],
)
def test_a_revert_is_on_its_way_if_none_to_another_snapshot_follows(catalog, pending, decided):
    row = catalog.machine(qcow2("a", "b", "c"), state="POWEROFF", settled=False, tasks=reverts(*pending))
    task = catalog.disks.snapshot(row, 0, "a", "reverted")
    assert (task is not None) == decided
    if task is not None:
        assert (task.kind, task.token, task.snapshot_id, task.mark) == (REVERT, f"5.{len(pending)}", 0, "m0")


def test_a_revert_of_another_disk_or_of_what_is_saved_first_changes_nothing_of_it(catalog):
    others = [
        DiskTask(REVERT, "5.1", 1, snapshot_id=1, name="b"),
        DiskTask(SAVE_AS, "5.2", 0, image_id=7),
        DiskTask(CREATE, "5.3", 0, snapshot_id=3, name="d"),
    ]
    row = catalog.machine(qcow2("a", "b", "c"), state="POWEROFF", settled=False, tasks=[*reverts("a"), *others])
    assert catalog.disks.snapshot(row, 0, "a", "reverted") is None
    # Another snapshot may have that id by then.
    assert catalog.disks.snapshot(row, 0, "d", "reverted").snapshot_id == 3


def test_what_is_to_be_reverted_to_is_deleted_only_once_it_is_left(catalog):
    disk = replace(qcow2("a", "b"), snapshots=(Snapshot(0, "a", active=True), Snapshot(1, "b")))
    row = catalog.machine(disk, state="POWEROFF", settled=False, tasks=reverts("b", "a"))
    with pytest.raises(WrongState, match="snapshot a of disk 0: delete: it is the active one"):
        catalog.disks.snapshot(row, 0, "a", "absent")
    task = catalog.disks.snapshot(row, 0, "b", "absent")
    assert (task.kind, task.token, task.snapshot_id) == (DELETE, "5.2", 1)


def test_a_snapshot_that_is_needed_is_not_deleted(catalog):
    row = catalog.machine(qcow2("a", "b"))
    for name, why in (("a", "it has children: b"), ("b", "it is the active one")):
        with pytest.raises(WrongState, match=rf"VM web \(id 0\): snapshot {name} of disk 0: delete: {why}"):
            catalog.disks.snapshot(row, 0, name, "absent")


@pytest.mark.parametrize(("names", "told"), [(("a", "b"), "there are: a, b"), ((), "there are: none")])
def test_there_is_nothing_to_revert_to(catalog, names, told):
    with pytest.raises(NotFound, match=told):
        catalog.disks.snapshot(catalog.machine(qcow2(*names), state="POWEROFF"), 0, "z", "reverted")


@pytest.mark.parametrize(
    ("disk", "error", "says"),
    [
        (Disk(0, "hda", type="CDROM"), InvalidValue, "nothing is ever written to it"),
        (Disk(0, "vda", readonly=True), InvalidValue, "nothing is ever written to it"),
        (Disk(0, "vda", luks_secret="s"), Unsupported, "it is encrypted"),
        (Disk(0, "vda", driver="raw"), Unsupported, "DRIVER = qcow2 in this DISK"),
        (Disk(0, "vda", save=True, format="raw"), Unsupported, "nebula_image with format: qcow2"),
    ],
)
def test_disks_that_have_no_snapshots_say_why(catalog, disk, error, says):
    with pytest.raises(error) as caught:
        catalog.disks.snapshot(catalog.machine(disk), 0, "a", "present")
    assert caught.value.asked == "VM web (id 0): snapshot a of disk 0"
    assert says in str(caught.value)


@pytest.mark.parametrize("wanted", ["present", "absent", "reverted"])
def test_the_memory_of_a_suspended_machine_belongs_to_its_disk(catalog, wanted):
    name = "z" if wanted == "present" else "a"
    with pytest.raises(WrongState, match="is SUSPENDED: its memory belongs to the disk"):
        catalog.disks.snapshot(catalog.machine(qcow2("a", "b"), state="SUSPENDED"), 0, name, wanted)


def test_a_running_machine_is_not_reverted(catalog):
    with pytest.raises(WrongState, match=r"revert: the machine runs\. Power it off first \(state: poweroff\)"):
        catalog.disks.snapshot(catalog.machine(qcow2("a")), 0, "a", "reverted")


# -- recording ---------------------------------------------------------------------------------------------------------


def saving(catalog):
    return catalog.disks.save_as(catalog.machine(), 0, SAVED, "agent")


def test_what_was_saved_is_ready(catalog):
    catalog.came(saving(catalog))
    image = catalog.images.info("saved")
    assert (image.state, image.size, image.format, image.operation) == (ImageState.READY, 20, "qcow2", None)


def test_what_was_saved_on_a_host_of_its_own_is_on_its_way(catalog):
    catalog.came(saving(catalog), back=Return("node1"))
    image = catalog.images.info("saved")
    assert (image.state, image.size, image.operation) == (ImageState.LOCKED, 20, Return("node1"))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"size": 33}, "has 33 MiB as qcow2, and the catalog has 32 MiB as qcow2; nothing of it was sent. If somebody"),
        ({"size": 1 << 30}, "set SIZE = 1073741824 for this disk, then run again"),
        ({"format": "raw"}, "20 MiB as raw"),
        ({"format": "tar", "size": 1 << 30}, "as tar"),
    ],
)
def test_no_more_is_believed_of_a_host_than_the_disk_has_in_the_catalog(catalog, said, told):
    """What it says is the limit of what is fetched from there."""
    catalog.came(saving(catalog), back=Return("node1"), said=said)
    image = catalog.images.info("saved")
    assert (image.state, image.operation, image.size) == (ImageState.ERROR, None, 32)
    assert "disk 0 on host node1" in image.error and told in image.error
    # Once the list says so, it is saved again.
    assert catalog.disks.save_as(catalog.machine(), 0, SAVED, "agent").image_id == image.id


@pytest.mark.parametrize("disk", [{"format": "tar"}, {"by_hypervisor": True}])
def test_a_root_is_as_large_as_its_files(catalog, disk):
    task = catalog.disks.save_as(catalog.machine(), 0, SAVED, "agent")
    catalog.came(task, back=Return("node1"), said={"size": 500, "format": "tar"}, disk=disk)
    assert (catalog.images.info("saved").state, catalog.images.info("saved").size) == (ImageState.LOCKED, 500)


def test_what_could_not_be_saved_says_why(catalog):
    catalog.came(saving(catalog), error=ERROR)
    image = catalog.images.info("saved")
    assert (image.state, image.error, image.operation) == (ImageState.ERROR, "disk 0: no room. Make some", None)


@pytest.mark.parametrize(("error", "told"), [(None, "does not say what became of it"), (ERROR, "no room")])
def test_a_task_of_which_nothing_is_said_failed_with_its_machine(catalog, error, told):
    task = saving(catalog)
    row = catalog.machine(settled=False, tasks=[task])
    catalog.disks.record(row, VmOutcome(0, 4, "RUNNING", True, error, tasks=(TaskOutcome("9.9", 20),)))
    assert catalog.images.info("saved").state == ImageState.ERROR
    assert told in catalog.images.info("saved").error


def test_a_snapshot_is_there_once_it_was_made(catalog):
    catalog.machine(qcow2("a", image_id=catalog.demo.id), Disk(1, "vdb"))
    catalog.came(DiskTask(CREATE, "5.0", 0, snapshot_id=1, name="b", mark="m1"))
    assert catalog.vm().disks[0].snapshots == (
        Snapshot(0, "a", mark="m0"),
        Snapshot(1, "b", parent=0, active=True, date=NOW, size=16, mark="m1"),
    )
    assert catalog.vm().disks[1].snapshots == ()
    catalog.came(DiskTask(REVERT, "6.0", 0, snapshot_id=0), DiskTask(DELETE, "6.1", 0, snapshot_id=1))
    assert catalog.vm().disks[0].snapshots == (Snapshot(0, "a", active=True, mark="m0"),)
    # The images of disks that are the machine's own know nothing of it.
    assert catalog.images.info("demo").snapshots == ""


def test_a_snapshot_that_failed_is_none(catalog):
    catalog.machine(qcow2("a"))
    catalog.came(DiskTask(CREATE, "5.0", 0, snapshot_id=1, name="b"), error=ERROR)
    assert [each.name for each in catalog.vm().disks[0].snapshots] == ["a"]


def test_what_is_in_the_images_own_file_goes_with_the_image(catalog):
    catalog.machine(Disk(0, "vda", image_id=catalog.demo.id, save=True, format="qcow2", size=16))
    catalog.came(DiskTask(CREATE, "5.0", 0, snapshot_id=0, name="a", mark="m"))
    assert tree_of(catalog.images.info("demo").snapshots) == catalog.vm().disks[0].snapshots
    catalog.came(DiskTask(DELETE, "6.0", 0, snapshot_id=7), error=ERROR)
    assert len(tree_of(catalog.images.info("demo").snapshots)) == 1


def test_tasks_of_a_machine_that_ends_leave_no_image_that_waits(catalog):
    task = saving(catalog)
    done = catalog.images.allocate(Image(None, "done"))
    catalog.images.update(done.id, state=ImageState.READY)
    others = (DiskTask(SAVE_AS, "1.0", 0, image_id=done.id), DiskTask(SAVE_AS, "1.1", 0, image_id=99))
    catalog.disks.abandon((task, *others, DiskTask(CREATE, "1.2", 0, snapshot_id=0)))
    image = catalog.images.info("saved")
    assert (image.state, image.operation) == (ImageState.ERROR, None)
    assert "ended before the disk was saved" in image.error
    assert catalog.images.info("done").state == ImageState.READY


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (None, ""),
        ({"asked": "disk 0", "found": "no room", "remedy": "Make some"}, "disk 0: no room. Make some"),
        ({"asked": "disk 0", "found": "no room"}, "disk 0: no room"),
        ({"asked": "qemu-img", "found": "it says: full.", "remedy": "Make some"}, "qemu-img: it says: full. Make some"),
    ],
)
def test_an_error_is_told_in_one_sentence_or_two(error, text):
    assert text_of(error) == text


# -- snapshots of the whole machine ------------------------------------------------------------------------------------
def whole(catalog, *names, memory=True, vm=None, **values):
    """The row of a machine with these snapshots. vm: what is different by now."""
    row = catalog.machine(qcow2(), **values)
    was = catalog.vm()
    known = tuple(
        SystemSnapshot(number, name, memory, 1, f"m{number}", (0,), definition_of(was))
        for number, name in enumerate(names)
    )
    body = json.dumps(to_plain(replace(was, system_snapshots=known, **(vm or {}))))
    catalog.store.db.execute("UPDATE vms SET body = ? WHERE id = ?", (body, row["id"]))
    return catalog.row()


@pytest.mark.parametrize(
    ("state", "wanted", "memory"),
    [("RUNNING", "RUNNING", True), ("RUNNING", "POWEROFF", False), ("POWEROFF", "RUNNING", False)],
)
def test_a_machine_that_runs_has_its_memory_in_it(catalog, state, wanted, memory):
    task = catalog.disks.system_snapshot(whole(catalog, "a", state=state, wanted=wanted), "b", "present")
    assert (task.kind, task.snapshot_id, task.memory, len(task.mark)) == (SYSTEM_CREATE, 1, memory, 12)


@pytest.mark.parametrize(("name", "wanted"), [("a", "present"), ("b", "absent")])
def test_nothing_is_done_for_what_is_so(catalog, name, wanted):
    assert catalog.disks.system_snapshot(whole(catalog, "a"), name, wanted) is None


def test_one_that_is_there_is_named_by_its_own_mark(catalog):
    for wanted, kind in (("reverted", SYSTEM_REVERT), ("absent", SYSTEM_DELETE)):
        task = catalog.disks.system_snapshot(whole(catalog, "a"), "a", wanted)
        assert (task.kind, task.snapshot_id, task.mark, task.memory) == (kind, 0, "m0", True)


def test_what_is_on_its_way_is_not_decided_twice(catalog):
    tasks = [
        DiskTask(SYSTEM_CREATE, "5.0", 0, snapshot_id=1, name="b", mark="m", memory=True),
        DiskTask(SYSTEM_REVERT, "5.1", 0, snapshot_id=0, name="a", memory=True),
    ]
    row = whole(catalog, "a", settled=False, tasks=[to_plain(each) for each in tasks])
    assert catalog.disks.system_snapshot(row, "b", "present") is None
    assert catalog.disks.system_snapshot(row, "a", "reverted") is None
    assert catalog.disks.system_snapshot(row, "b", "reverted").token == "5.2"
    # They are in no disk's own list.
    assert catalog.disks.snapshot(row, 0, "b", "present") is not None


@pytest.mark.parametrize(
    ("more", "name", "wanted", "error", "says"),
    [
        ({"state": "SUSPENDED"}, "b", "present", WrongState, "SUSPENDED"),
        ({}, "z", "reverted", NotFound, "there are: a"),
        ({"wanted": "POWEROFF"}, "a", "reverted", WrongState, "Say state: running"),
        ({"memory": False}, "a", "reverted", WrongState, "Power it off first"),
        ({"vm": {"memory": 128}}, "a", "reverted", InvalidValue, "MEMORY was 64 MiB, and is 128 MiB"),
        ({"vm": {"hypervisor": "xen"}}, "b", "present", Unsupported, "machines of hypervisor xen"),
        ({"vm": {"hypervisor": "lxc"}}, "b", "present", Unsupported, "machines of hypervisor lxc"),
        ({"vm": {"hypervisor": "openvz"}}, "b", "present", Unsupported, "machines of hypervisor openvz"),
        ({"vm": {"os": Os(firmware="UEFI")}}, "b", "present", Unsupported, "UEFI"),
        ({"operation": "recreate"}, "b", "present", Conflict, "made anew"),
    ],
)
def test_what_can_not_be_says_why(catalog, more, name, wanted, error, says):
    with pytest.raises(error) as caught:
        catalog.disks.system_snapshot(whole(catalog, "a", **more), name, wanted)
    assert caught.value.asked.startswith(f"VM web (id 0): system snapshot {name}")
    assert says in str(caught.value)


def test_one_that_waits_for_its_next_start_has_none_made(catalog):
    row = whole(catalog)
    catalog.store.db.execute("UPDATE vms SET waits = '{\"CPU_MODEL\":{}}' WHERE id = 0")
    with pytest.raises(WrongState, match="Start it anew first"):
        catalog.disks.system_snapshot(catalog.row(), "a", "present")
    assert row is not None


def test_a_disk_that_it_holds_does_not_go(catalog):
    with pytest.raises(WrongState, match="system snapshots hold it: a"):
        catalog.disks.refuse_tasked(whole(catalog, "a"), [0])
    catalog.disks.refuse_tasked(whole(catalog, "a"), [1])


def test_it_is_there_once_it_was_made_and_no_more_once_it_was_deleted(catalog):
    catalog.machine(qcow2())
    catalog.came(DiskTask(SYSTEM_CREATE, "5.0", 0, snapshot_id=0, name="a", mark="m", memory=True))
    (made,) = catalog.vm().system_snapshots
    assert (made.name, made.memory, made.date, made.disks, made.tag) == ("a", True, NOW, (0,), "nebula-system-0-m")
    assert made.definition["MEMORY"] == "64 MiB"
    row = whole(catalog, "a", "b", settled=False, tasks=[to_plain(DiskTask(SYSTEM_DELETE, "6.0", 0, snapshot_id=0))])
    catalog.disks.record(row, VmOutcome(0, 4, "RUNNING", True, tasks=(TaskOutcome("6.0"),)))
    assert [each.name for each in catalog.vm().system_snapshots] == ["b"]


def test_one_that_failed_is_none(catalog):
    catalog.machine(qcow2())
    catalog.came(DiskTask(SYSTEM_CREATE, "5.0", 0, snapshot_id=0, name="a", mark="m"), error=ERROR)
    assert catalog.vm().system_snapshots == ()
