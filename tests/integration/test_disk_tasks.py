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
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from auditor import refuse
from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmRecord
from ansible_collections.nebula.provision.plugins.module_utils.engines.registry import open_engine
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.batch import Batch
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.forecast import predict
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.node_inventory import observe_all
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.poll import poll
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.image_operations import Prepare
from ansible_collections.nebula.provision.plugins.module_utils.model.network import AddressRange, Network
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import (
    CRASH,
    CREATE,
    DELETE,
    REVERT,
    SAVE_AS,
    DiskTask,
    VmOutcome,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState, ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.audit_findings import compare, finding_view
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile
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
            engine.images.update("once", state=ImageState.LOCKED, operation=Prepare(ImageState.READY))
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


@contextmanager
def a_catalog(node: Node) -> Iterator[Callable[..., VmRecord]]:
    """A catalog with this node alone. Its machine is decided by a list of one item, made, and recorded."""
    with closing(open_engine({"engine": "embedded", "root": node.root}, check_mode=False, create=True)) as engine:
        with engine.session():
            engine.hosts.allocate(Host(None, HOST, state=HostState.MONITORED, memory=65536, cpu=64))
            for name, kind in (("base", ImageType.OS), ("data", ImageType.DATABLOCK)):
                image = engine.images.allocate(Image(None, name, type=kind))
                os.makedirs(os.path.dirname(image.source), mode=0o711, exist_ok=True)
                shutil.copy2(node.base, image.source)
                shutil.chown(image.source, "root", "kvm")
                engine.images.update(image.id, state=ImageState.READY, size=1, format="qcow2")
            place = AddressRange(0, "IP4", 9, ip="10.66.0.10")
            engine.networks.allocate(Network(None, "Public", vn_mad="dummy", bridge="nbrtest", address_ranges=(place,)))
            engine.templates.allocate(
                "web", Template((("CPU", "0.01"), ("MEMORY", "32"), ("OS", (("MACHINE", "pc"),))))
            )

        def bring(item: dict[str, Any], differs: str = "", changed: bool = True) -> VmRecord:
            with engine.session():
                outcomes, _warnings = reconcile(engine, [item])
                for error in filter(None, (each.error for each in outcomes)):
                    raise error
                (outcome,) = outcomes
                plans = engine.vms.plans()
            assert differs in " ".join(outcome.differs) and bool(differs) == bool(outcome.differs), outcome.differs
            assert bool(plans) == changed
            for plan in plans.values():
                forecast = predict(plan, poll(node.driver, node.root, HOST), node.driver, node.root)
                came = Batch(plan, node.driver, node.root).apply()
                assert [each.error for each in came] == [None], came
                assert [each.changed for each in came] == [each.changed for each in forecast]
                with engine.session():
                    engine.vms.record(HOST, came)
            (found,) = engine.vms.pool() or [outcome.after]
            return found

        yield bring
        ledger = engine.ledger()
        found = [*ledger.findings, *compare(ledger, [observe_all(node.driver, node.root, HOST, engine.catalog())])]
        refuse([finding_view(finding) for finding in found])


def fitted(node: Node) -> tuple[dict[str, int], list[str]]:
    """What the running domain has: MB of its disks by their targets, and the addresses of its interfaces."""
    domain = node.driver._connection().lookupByName("one-0")
    devices = ET.fromstring(domain.XMLDesc(0)).find("devices")
    targets = [disk.find("target").get("dev") for disk in devices.findall("disk[@device='disk']")]
    sizes = {target: domain.blockInfo(target)[0] // MIB for target in targets}
    return sizes, [nic.find("mac").get("address") for nic in devices.findall("interface")]


@in_world
def test_disks_and_nics_of_a_machine_that_is_off_come_grow_and_go() -> None:
    system, data, own = {"IMAGE": "base", "DEV_PREFIX": "vd"}, {"IMAGE": "data"}, {"TYPE": "fs", "FORMAT": "qcow2"}
    public, other = {"NETWORK": "Public"}, {"NETWORK": "Public", "MODEL": "e1000"}
    subprocess.run(["ip", "link", "add", "nbrtest", "type", "bridge"], check=True)
    try:
        with a_node(audited=False) as node, a_catalog(node) as bring:
            item = {"name": "web", "template": "web", "hard": True, "context": {"NETWORK": "YES"}}
            item = dict(item, disks=[system, dict(own, SIZE=4, DEV_PREFIX="vd")], nics=[public])
            first = bring(item)
            assert fitted(node)[0] == {"vda": 1, "vdb": 4}

            # What it can't get while it runs waits, and the rest comes at once.
            disks = [dict(system, SIZE=6), dict(own, SIZE=16, DEV_PREFIX="vd"), dict(data, DEV_PREFIX="vd")]
            more = dict(item, disks=disks, nics=[other, public])
            moved = dict(more, disks=[disks[0], dict(disks[1], TARGET="vdx"), disks[2]], nics=[other])
            waits = {each["part"]: each["wanted"] for each in bring(moved).waits}
            # The last disk is to have the target that the second one has until then.
            assert waits == {"DISK 1": "[ TARGET = vdx ]", "DISK 3": "image data", "NIC 0": "[ MODEL = e1000 ]"}
            assert fitted(node)[0] == {"vda": 6, "vdb": 16}
            bring(dict(more, state="poweroff"))
            bring(dict(more, state="poweroff"), changed=False)
            directory = Path(node.root, "datastores", "0", "0")
            write(directory / "disk.3", "qcow2", 0x8000, 0x33)
            second = bring(more)
            assert second.nics[0] == first.nics[0]
            addresses = [nic["mac"] for nic in second.nics]
            assert fitted(node) == ({"vda": 6, "vdx": 16, "vdb": 1}, addresses) and len(addresses) == 2
            bring(more, changed=False)

            # The middle one is the machine's own.
            less = dict(more, disks=[system, disks[2]], nics=[dict(public, MAC=addresses[1])])
            bring(dict(less, state="poweroff"), differs="a disk that the list does not: disk 1, vdx")
            assert (directory / "disk.1").exists()
            bring(dict(less, detach=True))
            assert not (directory / "disk.1").exists()
            assert fitted(node) == ({"vda": 6, "vdb": 1}, addresses[1:])
            assert content(directory / "disk.3", "qcow2", node.root)[0x8000] == 0x33
            bring(dict(less, detach=True), changed=False)
    finally:
        subprocess.run(["ip", "link", "delete", "nbrtest"], check=True)
