# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of the chain of a machine's backups when the machine is changed: it goes on, or the next backup is full
and says why."""

from __future__ import annotations

import os
import subprocess
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from in_world import in_nodes, in_world

from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import (
    FULL,
    INCREMENTAL,
    NODE,
    BackupRequest,
    MachineToBackUp,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.move import COLD, HAS_ARRIVED, HAS_LEFT, LIVE
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import (
    CRASH,
    CREATE,
    DELETE,
    REVERT,
    SYSTEM_CREATE,
    SYSTEM_DELETE,
    SYSTEM_REVERT,
    DiskTask,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.tests.integration.fleet import (
    ROOT,
    Acting,
    Fleet,
    a_fleet,
    outcomes_of,
    share,
)
from ansible_collections.nebula.provision.tests.integration.kvm_node import Node, a_node
from ansible_collections.nebula.provision.tests.integration.running_machines import a_guest
from ansible_collections.nebula.provision.tests.integration.test_machine_backups import (
    a_machine,
    another,
    back_up,
    content,
    content_of_backup,
    manifests,
    off,
    write,
)


def snapshot(kind: str, number: int) -> DiskTask:
    facts = {"consistency": CRASH} if kind == CREATE else {}
    return DiskTask(kind, uuid.uuid4().hex, 0, snapshot_id=number, mark=f"m{number}", name=f"s{number}", **facts)


def do(node: Node, vm: Vm, wanted: str = "RUNNING", **orders: Any) -> None:
    outcome = node.one(vm, wanted, **orders)
    assert outcome.error is None, outcome.error


def of_machine(kind: str, number: int, memory: bool = True) -> DiskTask:
    return DiskTask(kind, f"{kind}-{number}", 0, snapshot_id=number, name=f"s{number}", mark="ab", memory=memory)


@in_world
def test_what_keeps_the_chain() -> None:
    with a_machine() as (node, made):
        vm = made
        assert back_up(node, vm)["kind"] == FULL
        number = 0

        def goes_on(what: str) -> None:
            nonlocal number
            number += 1
            write(node, vm, f"write -P {number} {number * 64}k 64k")
            outcome = back_up(node, vm)
            assert (outcome["kind"], outcome["reason"]) == (INCREMENTAL, ""), what

        do(node, vm, tasks=(snapshot(CREATE, 1),))
        goes_on("a snapshot was made")
        do(node, vm, tasks=(snapshot(DELETE, 1),))
        goes_on("it was deleted")
        do(node, vm, "POWEROFF", hard=True)
        do(node, vm)
        goes_on("the machine was off")
        do(node, vm, "POWEROFF", hard=True)
        do(node, vm, "POWEROFF", tasks=(snapshot(CREATE, 2),))
        do(node, vm, "POWEROFF", tasks=(snapshot(DELETE, 2),))
        do(node, vm)
        goes_on("a snapshot was made and deleted while it was off")
        do(node, vm, tasks=(of_machine(SYSTEM_CREATE, 3),))
        goes_on("a snapshot of the whole machine was made")
        do(node, vm, tasks=(of_machine(SYSTEM_DELETE, 3),))
        goes_on("it was deleted")
        do(node, vm, "POWEROFF", hard=True)
        do(node, vm, "POWEROFF", tasks=(of_machine(SYSTEM_CREATE, 4, memory=False),))
        do(node, vm, "POWEROFF", tasks=(of_machine(SYSTEM_DELETE, 4, memory=False),))
        do(node, vm)
        goes_on("one was made and deleted while it was off")
        do(node, vm, tasks=(of_machine(SYSTEM_CREATE, 5),))
        do(node, vm, tasks=(of_machine(SYSTEM_REVERT, 5),))
        outcome = back_up(node, vm)
        assert (outcome["kind"], outcome["reason"]) == (FULL, "the machine went back to system snapshot s5")
        do(node, vm, tasks=(of_machine(SYSTEM_DELETE, 5),))
        goes_on("it was deleted after that")
        do(node, vm, operation="reset")
        goes_on("it was reset")
        vm = replace(vm, cpu=0.25, memory=48)
        do(node, vm, waits=True)
        do(node, vm, "POWEROFF", hard=True)
        do(node, vm)
        goes_on("it was defined otherwise")
        do(node, vm, "SUSPENDED")
        do(node, vm)
        goes_on("it was saved, and went on")
        vm = replace(vm, disks=(replace(vm.disks[0], size=24),))
        do(node, vm, grown=(0,))
        write(node, vm, "write -P 99 20M 64k")
        goes_on("its disk has grown while it ran")
        do(node, vm, "POWEROFF", hard=True)
        vm = replace(vm, disks=(replace(vm.disks[0], size=32),))
        do(node, vm, "POWEROFF", grown=(0,))
        assert back_up(node, vm)["kind"] == INCREMENTAL
        do(node, vm)
        write(node, vm, "write -P 98 30M 64k")
        goes_on("its disk has grown while it was off")


@in_world
def test_a_disk_is_reverted() -> None:
    with a_machine() as (node, vm):
        do(node, vm, tasks=(snapshot(CREATE, 1),))
        back_up(node, vm)
        write(node, vm, "write -P 1 1M 64k")
        do(node, vm, "POWEROFF", hard=True)
        do(node, vm, "POWEROFF", tasks=(snapshot(REVERT, 1),))
        outcome = back_up(node, vm)
        assert (outcome["kind"], outcome["reason"]) == (FULL, "disk 0 was reverted to snapshot s1"), outcome
        do(node, vm)
        assert back_up(node, vm)["kind"] == FULL
        write(node, vm, "write -P 1 1M 64k")
        assert back_up(node, vm)["kind"] == INCREMENTAL
        # And with a machine that runs at the next backup.
        do(node, vm, "POWEROFF", hard=True)
        do(node, vm, "POWEROFF", tasks=(snapshot(REVERT, 1),))
        do(node, vm)
        outcome = back_up(node, vm)
        assert (outcome["kind"], outcome["reason"]) == (FULL, "disk 0 was reverted to snapshot s1"), outcome


@in_world
def test_a_disk_is_put_back_while_the_machine_is_off() -> None:
    """Its bitmap says what was written since the backup of its checkpoint, and nothing of what came between."""
    with a_machine() as (node, vm):
        disk = node.directory(vm) / "disk.0"
        full = back_up(node, vm)
        do(node, vm, "POWEROFF", hard=True)
        older = disk.read_bytes()
        off(node, vm, "write -P 7 1M 64k")
        assert back_up(node, vm)["kind"] == INCREMENTAL
        disk.write_bytes(older)
        last = back_up(node, vm)
        assert last["kind"] == INCREMENTAL and manifests(node)[last["id"]]["parent"] == full["id"]
        assert content_of_backup(node, vm, last["id"]) == content(node, vm)


@in_world
def test_a_machine_is_made_anew() -> None:
    with a_machine() as (node, vm):
        back_up(node, vm)
        do(node, vm, operation="recreate")
        outcome = back_up(node, vm)
        assert outcome["kind"] == FULL
        assert "defined anew" in outcome["reason"]


@in_world
def test_disks_come_and_go(image: str) -> None:
    with a_node() as node:
        vm = a_guest(node, image, "q35")
        back_up(node, vm)
        more = replace(vm, disks=(*vm.disks, another(2)))
        do(node, more, refitted=True)
        outcome = back_up(node, more)
        assert (outcome["kind"], outcome["reason"]) == (
            FULL,
            "the machine has other disks than in the backup before",
        )
        write(node, more, "write -P 1 1M 64k", target="vdb")
        assert back_up(node, more)["kind"] == INCREMENTAL
        do(node, vm, refitted=True, detached=(2,), agreed=True)
        outcome = back_up(node, vm)
        assert (outcome["kind"], outcome["reason"]) == (
            FULL,
            "the machine has other disks than in the backup before",
        )
        assert back_up(node, vm)["kind"] == INCREMENTAL


@in_world
def test_a_domain_is_defined_anew_by_others() -> None:
    with a_machine() as (node, vm):
        back_up(node, vm)
        do(node, vm, "POWEROFF", hard=True)
        domain = node.domain(vm)
        text = domain.XMLDesc(0)
        done = subprocess.run(["virsh", "undefine", "one-1"], check=False, capture_output=True, text=True)
        assert "cannot delete inactive domain with 1 checkpoints" in done.stderr
        subprocess.run(["virsh", "undefine", "--checkpoints-metadata", "one-1"], check=True, capture_output=True)
        node.driver._connection().defineXML(text)
        do(node, vm)
        outcome = back_up(node, vm)
        assert outcome["kind"] == FULL
        assert "defined anew" in outcome["reason"]


BACK_UP = """
import json, sys
import libvirt_qemu
from backing_up import back_up_all
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.kvm import KvmDriver
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import from_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import BackupRequest
asked = json.load(sys.stdin)
driver = KvmDriver()
outcomes = back_up_all(from_plain(BackupRequest, asked["request"]), driver, asked["root"])
domain = driver._connection().lookupByName("one-1")
names = [each.getName() for each in domain.listAllCheckpoints()]
nodes = json.loads(libvirt_qemu.qemuMonitorCommand(domain, '{"execute": "query-named-block-nodes"}', 0))["return"]
bitmaps = [bitmap["name"] for node in nodes for bitmap in node.get("dirty-bitmaps", ()) if bitmap.get("name")]
print(json.dumps({"outcome": outcomes[0], "checkpoints": names, "bitmaps": bitmaps}))
"""


def back_up_on(fleet: Fleet, host: str, vm: Vm, place: str) -> dict[str, Any]:
    machine = MachineToBackUp(vm, fleet.number, host)
    asked = {"request": to_plain(BackupRequest(fleet.catalog, place, NODE, (machine,))), "root": ROOT}
    found = Acting(fleet.hosts[host], BACK_UP, asked).result()
    assert found is not None
    assert not found["outcome"]["error"], found
    assert len(found["checkpoints"]) == 1
    assert found["bitmaps"] == found["checkpoints"]
    outcome: dict[str, Any] = found["outcome"]
    return outcome


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("way", "shared"), [(LIVE, False), (COLD, False), (LIVE, True), (COLD, True)])
@in_nodes(2)
def test_a_machine_moves(way: str, shared: bool) -> None:
    """Both hosts see the same directory of backups, as one that is mounted on both."""
    with a_fleet() as fleet:
        backups = Path(os.environ["NEBULA_WORLD"], f"backups-{uuid.uuid4().hex[:8]}")
        backups.mkdir(mode=0o700)
        where = "/var/lib/machine-backups"
        share(backups, fleet.hosts.values(), where)
        if shared:
            place = Path(os.environ["NEBULA_WORLD"], f"shared-{uuid.uuid4().hex[:8]}")
            place.mkdir(mode=0o711)
            place.chmod(0o711)
            share(place, fleet.hosts.values(), f"{ROOT}/datastores/0")
        vm = fleet.vm(1)
        assert fleet.bring("node1", vm)[0].error is None
        back_up_on(fleet, "node1", vm, where)
        assert back_up_on(fleet, "node1", vm, where)["kind"] == INCREMENTAL
        acting = fleet.act(fleet.moves("node1", "node2", vm, way=way, hard=way == COLD))
        left, came = (outcomes_of(acting[name].result())[0] for name in ("node1", "node2"))
        assert (left.error, left.moved) == (None, HAS_LEFT), left
        assert (came.error, came.moved, came.state) == (None, HAS_ARRIVED, "RUNNING")
        kept = fleet.hosts["node1"].run("find", "/var/lib/libvirt/qemu/checkpoint", "-name", "*.xml", check=False)
        assert kept.stdout == ""
        outcome = back_up_on(fleet, "node2", vm, where)
        assert outcome["kind"] == FULL
        assert "another host" in outcome["reason"]
        assert back_up_on(fleet, "node2", vm, where)["kind"] == INCREMENTAL
