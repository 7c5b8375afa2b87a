# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A task of a disk is carried out by the driver while the machine runs, and by qemu-img, a real one, while it does not;
what can't be done is refused before anything is. Whose the files become is put aside here, as only root can give any
away (storage.datastore_layout.protect)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from memory_hypervisor import MemoryDriver
from memory_node import Node, machine, told

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    HypervisorError,
    ImageRefused,
    InvalidValue,
    NebulaError,
    NotFound,
    Unsupported,
    WrongState,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Mark
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import disk_saves_and_snapshots
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk, DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import (
    AGENT,
    CRASH,
    CREATE,
    DELETE,
    REVERT,
    SAVE_AS,
    DiskTask,
    TaskOutcome,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.storage import datastore_layout

needs_qemu_img = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="needs qemu-utils")
MIB = 1 << 20
SECRET = "9a3f5d0e-6a2f-4a57-8f2e-0d5d6f3f8a11"
MARK = Mark("0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10", 1)


class Copying(MemoryDriver):
    """writes: what its machine's disk holds, as bytes of a raw disk."""

    writes = b""

    def copy_disk(self, mark: Mark, disk: Disk, path: str, format: str, consistency: str) -> None:
        self.did(f"copy disk {disk.disk_id} as {format} {consistency}".rstrip(), mark)
        assert os.path.getsize(path) == 2 * MIB, "it is an empty disk of the same size"
        with Path(path).open("r+b") as file:
            # QEMU reserves room for the zeroes too.
            os.posix_fallocate(file.fileno(), 0, 2 * MIB)
            file.write(self.writes)


class Place:
    """A machine with one disk, 2 MiB large, in a directory of its own beside an image datastore."""

    def __init__(self, root: Path) -> None:
        self.images = root / "1"
        self.images.mkdir()
        self.path = root / "disk.0"
        self.target = self.images / "abc"
        self.driver = Copying()
        self.disk: dict[str, Any] = {}

    def carry_out(self, kind: str, state: str, of_file: str = "raw", **task: Any) -> TaskOutcome:
        """of_file: its format; the task has the same unless it says otherwise."""
        vm = Vm(1, "u", "web", "memory", 1.0, 64, disks=(Disk(0, "vda", **self.disk),))
        values = {"image": "golden", "target": str(self.target), "format": of_file, "snapshot_id": 3, "mark": "m"}
        asked = DiskTask(**{"kind": kind, "token": "t1", "disk_id": 0, "name": "before", **values, **task})
        files = {0: DiskFiles(str(self.path), of_file)}
        return disk_saves_and_snapshots.carry_out(asked, vm, MARK, files, state, self.driver)

    def tags(self) -> list[str]:
        told = subprocess.run(
            ["qemu-img", "info", "--output=json", str(self.path)], capture_output=True, text=True, check=True
        ).stdout
        return [each["name"] for each in json.loads(told).get("snapshots", ())]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(datastore_layout, "protect", lambda _path, writable: False)
    monkeypatch.setattr(datastore_layout, "hypervisor_group", lambda: -1)
    return Place(tmp_path)


# -- what is larger than the catalog knows -----------------------------------------------------------------------------
@needs_qemu_img
@pytest.mark.parametrize("of_file", ["raw", "qcow2"])
def test_a_disk_that_was_made_larger_is_told_before_it_is_saved(place: Place, of_file: str) -> None:
    subprocess.run(["qemu-img", "create", "-q", "-f", of_file, place.path, str(5 * MIB)], check=True)
    asked = DiskTask(SAVE_AS, "t1", 0, image="golden", target=str(place.target), format=of_file)
    files = {0: DiskFiles(str(place.path), of_file)}

    def refuse(**disk: Any) -> None:
        vm = Vm(1, "u", "web", "memory", 1.0, 64, disks=(Disk(0, "vda", **disk),))
        disk_saves_and_snapshots.refuse_grown(asked, vm, files)

    with pytest.raises(InvalidValue) as caught:
        refuse(size=4)
    assert str(caught.value) == (
        "virtual machine web: disk 0: save_as golden: it has 5 MiB on this host, and 4 MiB in the catalog, and the "
        "front-end fetches no more; nothing was saved. Somebody has made it larger: set SIZE = 5 for this disk in the "
        "list, then run again"
    )
    for fine in ({"size": 5}, {"size": 6}, {"size": 1, "format": "tar"}, {"size": 1, "by_hypervisor": True}, {}):
        refuse(**fine)


# -- what is refused ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", [SAVE_AS, CREATE, REVERT, DELETE])
def test_a_disk_that_the_machine_does_not_have_is_named(place: Place, kind: str) -> None:
    what = "save_as golden" if kind == SAVE_AS else f"{kind} before"
    with pytest.raises(NotFound, match=f"virtual machine web: disk 4: {what}: the machine has no such disk"):
        place.carry_out(kind, "RUNNING", disk_id=4)


@pytest.mark.parametrize(
    ("kind", "state", "disk", "format", "orders", "error", "words"),
    [
        (CREATE, "RUNNING", {}, "raw", {}, Unsupported, "this disk can't have any.*Only qcow2"),
        (CREATE, "RUNNING", {"luks_secret": SECRET}, "qcow2", {}, Unsupported, "this disk can't have any"),
        (DELETE, "POWEROFF", {"readonly": True}, "qcow2", {}, Unsupported, "this disk can't have any"),
        (CREATE, "SUSPENDED", {}, "qcow2", {}, WrongState, "the machine is SUSPENDED.*Let it run or power it off"),
        (REVERT, "RUNNING", {}, "qcow2", {}, WrongState, "the machine runs.*Power it off first"),
        ("snapshot-praise", "RUNNING", {}, "qcow2", {}, InvalidValue, "snapshot-praise is not known here"),
        (SAVE_AS, "RUNNING", {}, "raw", {"format": "qcow2"}, InvalidValue, "the disk is raw, the image qcow2"),
        (SAVE_AS, "RUNNING", {"luks_secret": SECRET}, "raw", {}, Unsupported, "is encrypted.*Power it off first"),
        (SAVE_AS, "SUSPENDED", {}, "raw", {}, WrongState, "in its memory.*consistency: crash"),
        (SAVE_AS, "SUSPENDED", {}, "raw", {"consistency": AGENT}, WrongState, "in its memory"),
    ],
)
def test_what_can_not_be_done_is_refused_before_anything_is(
    place: Place, kind: str, state: str, disk: Any, format: str, orders: Any, error: type[NebulaError], words: str
) -> None:
    place.disk = disk
    with pytest.raises(error, match=rf"virtual machine web: disk 0: .*{words}"):
        place.carry_out(kind, state, format, **orders)
    assert place.driver.names() == [] and os.listdir(place.images) == [] and not place.path.exists()


# -- snapshots ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("kind", "asked"), [(CREATE, f"snapshot nebula-3-m {AGENT}"), (DELETE, "delete nebula-3-m")])
def test_snapshots_of_a_running_machine_are_its_hypervisors(place: Place, kind: str, asked: str) -> None:
    assert place.carry_out(kind, "RUNNING", "qcow2", consistency=AGENT) == TaskOutcome("t1")
    assert place.driver.names() == [asked]


@needs_qemu_img
def test_snapshots_of_a_machine_that_is_off_are_in_its_file(place: Place) -> None:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(place.path), "2M"], check=True)
    for _ in range(2):
        assert place.carry_out(CREATE, "POWEROFF", "qcow2") == TaskOutcome("t1")
        assert place.tags() == ["nebula-3-m"]
    place.carry_out(REVERT, "POWEROFF", "qcow2")
    with pytest.raises(NotFound, match=r"disk 0: snapshot-revert before: .* holds none of that name"):
        place.carry_out(REVERT, "POWEROFF", "qcow2", snapshot_id=4)
    for _ in range(2):
        place.carry_out(DELETE, "POWEROFF", "qcow2")
        assert place.tags() == []
    assert place.driver.names() == []


# -- images ------------------------------------------------------------------------------------------------------------
@needs_qemu_img
@pytest.mark.parametrize(("state", "consistency"), [("POWEROFF", ""), ("POWEROFF", AGENT), ("SUSPENDED", CRASH)])
def test_the_disk_of_a_machine_that_does_not_run_becomes_an_image(place: Place, state: str, consistency: str) -> None:
    place.path.write_bytes(b"what a guest wrote" + bytes(2 * MIB - 18))
    outcome = place.carry_out(SAVE_AS, state, consistency=consistency)
    assert outcome == TaskOutcome("t1", size=2, format="raw")
    assert place.target.read_bytes() == place.path.read_bytes()
    assert os.listdir(place.images) == ["abc"] and place.driver.names() == []


@needs_qemu_img
def test_the_disk_of_a_running_machine_is_copied_by_its_hypervisor(place: Place) -> None:
    place.path.write_bytes(bytes(2 * MIB))
    place.driver.writes = b"what a guest wrote"
    outcome = place.carry_out(SAVE_AS, "RUNNING", consistency=CRASH)
    assert outcome == TaskOutcome("t1", size=2, format="raw")
    assert place.driver.names() == [f"copy disk 0 as raw {CRASH}"]
    assert place.target.read_bytes() == b"what a guest wrote" + bytes(2 * MIB - 18)
    assert place.target.stat().st_blocks * 512 < MIB


@needs_qemu_img
def test_an_image_is_there_whole_or_not_at_all(place: Place) -> None:
    place.path.write_bytes(bytes(2 * MIB))
    place.driver.fails[f"copy disk 0 as raw {CRASH}"] = HypervisorError("copying it", "QEMU has ended")
    with pytest.raises(HypervisorError, match="QEMU has ended"):
        place.carry_out(SAVE_AS, "RUNNING", consistency=CRASH)
    assert os.listdir(place.images) == []


@needs_qemu_img
def test_a_copy_that_is_smaller_than_its_disk_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.path.write_bytes(bytes(2 * MIB))
    monkeypatch.setattr(place.driver, "copy_disk", lambda _mark, _disk, path, *_more: os.truncate(path, MIB))
    with pytest.raises(ImageRefused, match=f"save_as golden: it has {MIB} bytes, and the disk {2 * MIB}"):
        place.carry_out(SAVE_AS, "RUNNING", consistency=CRASH)
    assert os.listdir(place.images) == []


def test_datastores_that_are_not_here_are_asked_for(place: Place) -> None:
    place.path.write_bytes(bytes(2 * MIB))
    with pytest.raises(NotFound, match=r"directory /nowhere/1 on this node: there is none\. Mount the front-end's"):
        place.carry_out(SAVE_AS, "POWEROFF", target="/nowhere/1/abc")


def test_a_name_under_which_nothing_could_be_made_again_is_refused_first(place: Place) -> None:
    asked: list[str] = []

    def refuse(image: str, what: str) -> None:
        asked.append(image)
        raise InvalidValue(what, f"no machine is made of {image}", "Choose another")

    place.driver.check_saved = refuse  # type: ignore[method-assign]
    with pytest.raises(InvalidValue, match="no machine is made of"):
        place.carry_out(SAVE_AS, "RUNNING")
    assert asked and place.driver.names() == [] and not place.target.exists()


# -- in a plan ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def with_disk(tmp_path: Path) -> Vm:
    image = tmp_path / "image"
    image.write_bytes(b"an image")
    return machine(disks=(Disk(0, "vda", source=str(image), clone=False, format="qcow2"),))


def test_each_task_of_a_running_machine_is_done_once(here: Node, with_disk: Vm) -> None:
    here.one("RUNNING", 1, with_disk)
    here.driver.names()
    tasks = (
        DiskTask(CREATE, "t1", 0, "crash", snapshot_id=1, name="one", mark="m"),
        DiskTask(DELETE, "t2", 0, snapshot_id=0, name="old", mark="n"),
    )
    first = here.one("RUNNING", 2, with_disk, tasks=tasks)
    assert told(first) == ("RUNNING", True, "") and [each.token for each in first.tasks] == ["t1", "t2"]
    assert here.driver.names() == ["adjust", "snapshot nebula-1-m crash", "delete nebula-0-n"]
    again = here.one("RUNNING", 2, with_disk, tasks=tasks)
    assert told(again) == ("RUNNING", False, "") and again.tasks == first.tasks
    assert here.driver.names() == ["adjust"]
    here.one("RUNNING", 3, with_disk, tasks=tasks[1:])
    # Only what plans still name is remembered.
    assert [each.token for each in here.record().tasks] == ["t2"]


def test_a_task_that_fails_is_told_and_the_others_go_on(here: Node, with_disk: Vm) -> None:
    here.one("RUNNING", 1, with_disk)
    here.driver.fails["delete nebula-0-n"] = HypervisorError("deleting it", "no such snapshot")
    tasks = (
        DiskTask(DELETE, "t1", 0, snapshot_id=0, name="old", mark="n"),
        DiskTask(CREATE, "t2", 0, snapshot_id=1, name="one", mark="m"),
    )
    outcome = here.one("RUNNING", 2, with_disk, tasks=tasks)
    assert told(outcome) == ("RUNNING", True, "HypervisorError")
    assert [(each.token, each.error is None) for each in outcome.tasks] == [("t1", False), ("t2", True)]
    assert [each.token for each in here.record().tasks] == ["t2"]
    here.driver.fails.clear()
    here.driver.names()
    assert here.one("RUNNING", 2, with_disk, tasks=tasks).error is None
    assert here.driver.names() == ["adjust", "delete nebula-0-n"]


def test_a_machine_whose_disk_could_not_be_reverted_is_not_started(here: Node, with_disk: Vm) -> None:
    vm = replace(with_disk, disks=(replace(with_disk.disks[0], readonly=True),))
    task = DiskTask("snapshot-revert", "t1", 0, snapshot_id=0, name="old", mark="n")
    outcome = here.one("RUNNING", 1, vm, tasks=(task,))
    assert told(outcome)[::2] == ("POWEROFF", "Unsupported")
    assert "start" not in here.driver.names()
    assert [each.token for each in outcome.tasks] == ["t1"]
