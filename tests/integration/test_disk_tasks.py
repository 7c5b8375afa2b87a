# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks of machines on a real libvirtd: saved as images, and their snapshots; running and not."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.engines.registry import open_engine
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import (
    CRASH,
    CREATE,
    DELETE,
    REVERT,
    SAVE_AS,
    DiskTask,
    VmOutcome,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.tests.integration.kvm_node import GUEST, Node, a_node
from ansible_collections.nebula.provision.tests.integration.module_flow import HOST, Flow

MIB = 1 << 20
TEMPLATE = """
CPU = 0.01
MEMORY = 32
OS = [ MACHINE = "pc" ]
DISK = [ IMAGE = "base", SIZE = 8, DEV_PREFIX = "vd" ]
"""


def info(path: str | Path, *options: str) -> dict[str, Any]:
    done = subprocess.run(
        ["qemu-img", "info", "--output=json", "-U", *options, str(path)], check=True, capture_output=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def content(path: str | Path, format: str, place: str) -> bytes:
    raw = f"{place}/content.raw"
    subprocess.run(["qemu-img", "convert", "-U", "-f", format, "-O", "raw", str(path), raw], check=True)
    data = Path(raw).read_bytes()
    os.unlink(raw)
    return data


def write(path: str | Path, format: str, offset: int, byte: int, length: int = 65536) -> None:
    command = f"write -P {byte} {offset} {length}"
    subprocess.run(["qemu-io", "-f", format, "-c", command, str(path)], check=True, capture_output=True)


def saving(node: Node, token: str, disk_id: int = 0, **more: Any) -> DiskTask:
    target = f"{node.root}/datastores/1/saved-{token}"
    os.makedirs(os.path.dirname(target), mode=0o711, exist_ok=True)
    facts = {"consistency": CRASH, "image_id": 1, "image": "saved", "target": target, "format": "qcow2", **more}
    return DiskTask(SAVE_AS, token, disk_id, **facts)


def done(outcome: VmOutcome, state: str) -> None:
    assert outcome.error is None, outcome.error
    assert (outcome.state, [each.error for each in outcome.tasks]) == (state, [None] * len(outcome.tasks))


def raw_disk(vm: Vm, size: int = 4) -> Vm:
    disk = Disk(disk_id=1, target="vdb", type="FS", driver="raw", size=size)
    return replace(vm, disks=(*vm.disks, disk), context=replace(vm.context, disk_id=2))


@pytest.mark.parametrize("wanted", ["RUNNING", "POWEROFF"])
@in_world
def test_a_disk_is_saved_and_stands_alone(wanted: str) -> None:
    with a_node() as node:
        vm = raw_disk(node.vm(1))
        vm = replace(vm, disks=(replace(vm.disks[0], size=8), vm.disks[1]))
        node.one(vm, "POWEROFF")
        directory = node.directory(vm)
        write(directory / "disk.0", "qcow2", 2 * MIB, 0x55)
        write(directory / "disk.1", "raw", MIB, 0x66)
        node.one(vm, wanted)
        tasks = (saving(node, "a"), saving(node, "b", 1, format="raw"))
        plan = node.plan(vm, wanted=wanted, tasks=tasks)
        outcome = node.apply(plan)[0]
        done(outcome, wanted)
        assert [(each.token, each.size, each.format) for each in outcome.tasks] == [("a", 8, "qcow2"), ("b", 4, "raw")]
        saved = info(tasks[0].target, "-f", "qcow2")
        assert "backing-filename" not in saved
        data = content(tasks[0].target, "qcow2", node.root)
        assert len(data) == 8 * MIB
        assert data[:512] == GUEST
        assert data[2 * MIB : 2 * MIB + 65536] == b"\x55" * 65536
        assert not data[3 * MIB :].strip(b"\0")
        plain = Path(tasks[1].target).read_bytes()
        assert plain[MIB : MIB + 65536] == b"\x66" * 65536
        assert len(plain) == 4 * MIB
        for task in tasks:
            found = os.stat(task.target)
            assert stat.S_IMODE(found.st_mode) == 0o440
            assert found.st_uid == 0
            # What is empty takes no room.
            assert found.st_blocks * 512 < 2 * MIB, (task.target, found.st_blocks * 512)
        assert sorted(os.listdir(f"{node.root}/datastores/1")) == ["saved-a", "saved-b"]
        # The machine goes on, on its own disks; and what was done is told again, not done again.
        before = {name: os.stat(f"{node.root}/datastores/1/{name}").st_ino for name in ("saved-a", "saved-b")}
        again = node.apply(node.plan(vm, wanted=wanted, tasks=tasks))[0]
        assert (again.changed, again.tasks) == (False, outcome.tasks)
        assert before == {name: os.stat(f"{node.root}/datastores/1/{name}").st_ino for name in before}
        if wanted == "RUNNING":
            assert node.boots(vm) == 1
        assert node.one(vm, wanted).tasks == ()


@in_world
def test_what_can_not_be_saved_says_so_and_hinders_nothing_else() -> None:
    with a_node() as node:
        vm = node.vm(1)
        node.one(vm)
        lost = saving(node, "c", target=f"{node.root}/nowhere/x")
        tasks = (saving(node, "a", consistency="agent"), saving(node, "b", 7), lost, saving(node, "d"))
        outcome = node.apply(node.plan(vm, tasks=tasks))[0]
        assert outcome.state == "RUNNING"
        errors = {each.token: each.error for each in outcome.tasks}
        assert errors["d"] is None
        assert "no guest agent answers" in errors["a"]["found"]
        assert "consistency: crash" in errors["a"]["remedy"]
        assert "no such disk" in errors["b"]["found"]
        assert "datastores" in errors["c"]["remedy"]
        assert outcome.error == errors["a"]
        assert os.listdir(f"{node.root}/datastores/1") == ["saved-d"]


@in_world
def test_a_suspended_machine_is_saved_as_it_is_and_resumed() -> None:
    with a_node() as node:
        vm = node.vm(1)
        node.one(vm)
        node.wait_for_boots(vm, 1)
        done(node.one(vm, "SUSPENDED", tasks=(saving(node, "a"),)), "SUSPENDED")
        assert content(f"{node.root}/datastores/1/saved-a", "qcow2", node.root)[:512] == GUEST
        outcome = node.one(
            vm, "SUSPENDED", tasks=(DiskTask(CREATE, "s", 0, name="s"), saving(node, "b", consistency="agent"))
        )
        assert all("SUSPENDED" in each.error["found"] for each in outcome.tasks)
        assert (node.one(vm).error, node.boots(vm)) == (None, 1)


@in_world
def test_snapshots_are_made_deleted_and_reverted() -> None:
    with a_node() as node:
        vm = node.vm(1)
        vm = replace(vm, disks=(replace(vm.disks[0], size=8),))
        node.one(vm, "POWEROFF")
        disk = node.directory(vm) / "disk.0"

        def tags() -> list[str]:
            return [each["name"] for each in info(disk).get("snapshots", ())]

        def task(kind: str, number: int, token: str) -> DiskTask:
            return DiskTask(kind, token, 0, snapshot_id=number, name=f"s{number}")

        write(disk, "qcow2", 2 * MIB, 0x11)
        done(node.one(vm, "POWEROFF", tasks=(task(CREATE, 0, "1"),)), "POWEROFF")
        write(disk, "qcow2", 2 * MIB, 0x22)
        # While it runs; twice as by a run that was killed before it could say so.
        node.one(vm)
        done(node.one(vm, tasks=(task(CREATE, 1, "2"), task(CREATE, 1, "3"))), "RUNNING")
        assert tags() == ["nebula-0", "nebula-1"]
        refused = node.one(vm, tasks=(task(REVERT, 0, "4"),))
        assert "runs" in refused.error["found"]
        assert refused.state == "RUNNING"
        node.one(vm, "POWEROFF", hard=True)
        write(disk, "qcow2", 2 * MIB, 0x33)
        # Before it starts.
        outcome = node.one(vm, tasks=(task(REVERT, 0, "5"),))
        done(outcome, "RUNNING")
        assert content(disk, "qcow2", node.root)[2 * MIB] == 0x11
        done(node.one(vm, tasks=(task(DELETE, 1, "6"), task(DELETE, 1, "7"))), "RUNNING")
        assert tags() == ["nebula-0"]
        node.one(vm, "POWEROFF", hard=True)
        # A saved disk has none.
        done(node.one(vm, "POWEROFF", tasks=(saving(node, "a"),)), "POWEROFF")
        assert "snapshots" not in info(f"{node.root}/datastores/1/saved-a", "-f", "qcow2")
        # Without the snapshot the machine does not start with a disk that it should not have.
        lost = node.one(vm, tasks=(task(REVERT, 9, "8"),))
        assert "none of that name" in lost.error["found"]
        assert lost.state == "POWEROFF"
        assert node.states() == {1: "POWEROFF"}
        done(node.one(vm, "POWEROFF", tasks=(task(DELETE, 0, "9"),)), "POWEROFF")
        assert tags() == []


@in_world
def test_a_raw_disk_has_no_snapshots() -> None:
    with a_node() as node:
        vm = raw_disk(node.vm(1))
        outcome = node.one(vm, tasks=(DiskTask(CREATE, "1", 1, name="s"),))
        assert outcome.state == "RUNNING"
        assert outcome.error["kind"] == "Unsupported"


@in_world
def test_what_was_saved_stays_and_what_is_not_saved_does_not_go() -> None:
    place = Path(os.environ["NEBULA_WORLD"], "kept")
    root = place / "nebula"
    flow = Flow(root, place)
    try:
        flow.run("nebula_frontend")
        flow.run("nebula_node", accelerator="qemu", manage_services=False)
        flow.run("nebula_host", hosts=[{"name": HOST, "memory": 65536, "cpu": 64}])
        flow.run("nebula_image", images=json.dumps(flow.images()[:1]))
        flow.run("nebula_template", name="web", template=TEMPLATE)
        vm: dict[str, Any] = {"name": "web", "template": "web", "state": "poweroff"}
        disk = Path(flow.bring(vm)["vms"][0]["directory"], "disk.0")
        write(disk, "qcow2", 2 * MIB, 0x11)
        once = dict(vm, save_as=[{"image": "once"}])
        flow.bring(once)
        image = flow.run("nebula_image", name="once")["image"]
        saved = Path(image["source"]).read_bytes()
        assert content(image["source"], "qcow2", str(place))[2 * MIB] == 0x11

        # As a run leaves it that was killed while it prepared the image.
        write(disk, "qcow2", 2 * MIB, 0x22)
        params = {"engine": "embedded", "root": str(root)}
        with closing(open_engine(params, check_mode=False)) as engine, engine.session():
            engine.image_update("once", state=ImageState.LOCKED, operation="prepare READY")
        flow.bring(once)
        assert Path(image["source"]).read_bytes() == saved

        twice = dict(vm, save_as=[{"image": "once"}, {"image": "twice"}])
        for ending in ({"memory": 40, "recreate": True}, {"state": "absent"}):
            refused = flow.attempt("nebula_vm", **flow.decision(dict(twice, **ending)))
            assert refused.get("failed") and "is not saved as image twice" in json.dumps(refused)
            assert content(disk, "qcow2", str(place))[2 * MIB] == 0x22
        flow.bring(twice)
        flow.bring(dict(twice, memory=40, recreate=True))
        assert content(disk, "qcow2", str(place))[2 * MIB] == 0
        source = flow.run("nebula_image", name="twice")["image"]["source"]
        assert content(source, "qcow2", str(place))[2 * MIB] == 0x22
        assert Path(image["source"]).read_bytes() == saved
        flow.bring(dict(twice, state="absent"))
    finally:
        subprocess.run(
            ["sh", "-c", "for d in $(virsh list --name --all); do virsh destroy $d; virsh undefine $d; done"]
        )
        shutil.rmtree(place)
