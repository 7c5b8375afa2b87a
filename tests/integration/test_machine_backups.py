# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups of machines of KVM: what a chain holds is what the disk held, whatever happens in between, and nothing of a
run stays."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from backing_up import back_up_all
from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import machine_backups
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import backup_job, disk_jobs
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import (
    FULL,
    INCREMENTAL,
    NODE,
    BackupRequest,
    MachineToBackUp,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.storage import backup_files, disk_exports
from ansible_collections.nebula.provision.plugins.module_utils.storage.backup_place import Place
from ansible_collections.nebula.provision.tests.integration.kvm_node import GUEST, Node, a_node, wait_for
from ansible_collections.nebula.provision.tests.integration.test_encrypted_disks import (
    PHRASE,
    SECRET,
    an_encrypted_node,
)
from ansible_collections.nebula.provision.tests.integration.test_encrypted_disks import keep as keep_secrets

MIB = 1 << 20
# Backs machines up, and ends like a killed process before or after it calls a function.
APPLY = """
import os, sys
sys.path.append("/usr/lib/python3/dist-packages")
import libvirt
from backing_up import back_up_all
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.kvm import KvmDriver
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import from_plain, json_value
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import BackupRequest
from ansible_collections.nebula.provision.plugins.module_utils.storage import backup_files, disk_exports
from ansible_collections.nebula.provision.plugins.module_utils.storage.backup_place import MachineDirectory
root, place, name, when = sys.argv[1:]
of = {"domain": libvirt.virDomain, "checkpoint": libvirt.virDomainCheckpoint, "files": backup_files,
      "directory": MachineDirectory, "exports": disk_exports}[place]
real = getattr(of, name)
def called(*arguments, **named):
    if when == "after":
        real(*arguments, **named)
    os._exit(9)
setattr(of, name, called)
request = from_plain(BackupRequest, json_value(sys.stdin.read()))
print(back_up_all(request, KvmDriver(), root))
"""
# What a run does in its turn: of which module or object, and which function.
RUNNING = (("domain", "backupBegin"), ("files", "store_disk"), ("directory", "write"), ("domain", "abortJob"))
STEPS = [*((*each, when) for each in RUNNING for when in ("before", "after")), ("files", "settled_digest", "before")]
CHECKPOINTS = [("checkpoint", "delete", when) for when in ("before", "after")]


@contextmanager
def a_machine(*disks: Disk, wanted: str = "RUNNING") -> Iterator[tuple[Node, Vm]]:
    with a_node() as node:
        vm = node.vm(1)
        vm = replace(vm, disks=(replace(vm.disks[0], size=16), *disks))
        assert node.one(vm, wanted).error is None
        yield node, vm
        # However it was backed up, it ends as any other.
        assert node.one(vm, "DONE", hard=True).error is None
        assert not os.path.exists(node.directory(vm))
        assert not checkpoints_known()


def another(disk_id: int = 2, size: int = 8) -> Disk:
    return Disk(disk_id=disk_id, target=f"vd{'abcdef'[disk_id - 1]}", type="FS", driver="qcow2", size=size)


def checkpoints_known() -> list[str]:
    place = Path("/var/lib/libvirt/qemu/checkpoint")
    return sorted(path.name for path in place.rglob("*.xml")) if place.is_dir() else []


def directory_of(node: Node) -> str:
    """Where backups of the node are: beside its nebula_root."""
    return f"{node.root}-backups"


def request(node: Node, *vms: Vm, **more: Any) -> BackupRequest:
    machines = tuple(MachineToBackUp(vm, node.ledger[vm.vm_id].generation, "node", template={"CPU": 1}) for vm in vms)
    return BackupRequest(node.catalog, directory_of(node), NODE, machines, **{"compress": False, **more})


def back_up(node: Node, vm: Vm, **more: Any) -> dict[str, Any]:
    outcome = back_up_all(request(node, vm, **more), node.driver, node.root)[0]
    assert not outcome["error"], outcome["error"]
    assert_nothing_left(node, vm)
    assert content_of_backup(node, vm, outcome["id"]) == content(node, vm)
    return outcome


def refused(node: Node, vm: Vm, **more: Any) -> str:
    outcome = back_up_all(request(node, vm, **more), node.driver, node.root)[0]
    assert (outcome["id"], bool(outcome["error"])) == ("", True)
    return str(outcome["error"])


def manifests(node: Node) -> dict[str, Any]:
    found = [json.loads(path.read_text(encoding="utf-8")) for path in Path(directory_of(node)).glob("*-*/*Z-*.json")]
    return {each["id"]: each for each in found}


def content(node: Node, vm: Vm) -> list[str]:
    """Digests of what the machine's disks hold now."""
    digests = []
    for disk in vm.disks:
        raw = f"{node.root}/content.raw"
        path = node.directory(vm) / f"disk.{disk.disk_id}"
        words = ["qemu-img", "convert", "-U", "-f", disk.driver, "-O", "raw", str(path), raw]
        subprocess.run(words, check=True, capture_output=True)
        digests.append(hashlib.sha256(Path(raw).read_bytes()).hexdigest())
        os.unlink(raw)
    return digests


def content_of_backup(node: Node, vm: Vm, id: str) -> list[str]:
    """Digests of what its disks hold, by the commands that the manifest has for people."""
    place = next(Path(directory_of(node)).glob(f"{vm.vm_id}-*"))
    target = f"{node.root}-restored"
    script = "set -e\n" + "\n".join(manifests(node)[id]["by_hand"])
    done = subprocess.run(
        ["sh", "-c", script], cwd=place, env={**os.environ, "TO": target}, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    digests = []
    for disk in vm.disks:
        raw = f"{target}/raw"
        words = ["qemu-img", "convert", "-f", disk.driver, "-O", "raw", f"{target}/disk.{disk.disk_id}", raw]
        subprocess.run(words, check=True, capture_output=True)
        digests.append(hashlib.sha256(Path(raw).read_bytes()).hexdigest())
        os.unlink(raw)
        os.unlink(f"{target}/disk.{disk.disk_id}")
    return digests


def write(node: Node, vm: Vm, *commands: str, target: str = "vda") -> None:
    """Write to a disk of the running machine as its guest could: by its QEMU."""
    # What QEMU has not written down yet is not in the file, with which backups are compared.
    for command in (*commands, "flush"):
        line = f'qemu-io -d /machine/peripheral/{alias(node, vm, target)}/virtio-backend "{command}"'
        text = json.dumps({"execute": "human-monitor-command", "arguments": {"command-line": line}})
        done = subprocess.run(
            ["virsh", "qemu-monitor-command", f"one-{vm.vm_id}", text], check=True, capture_output=True, text=True
        )
        assert json.loads(done.stdout)["return"] == "", done.stdout


def alias(node: Node, vm: Vm, target: str) -> str:
    import xml.etree.ElementTree as ET

    for each in ET.fromstring(node.domain(vm).XMLDesc(0)).iterfind("./devices/disk"):
        if each.find("target").get("dev") == target:  # type: ignore[union-attr]
            return str(each.find("alias").get("name"))  # type: ignore[union-attr]
    raise AssertionError(target)


def assert_nothing_left(node: Node, vm: Vm, checkpoints: int | None = None) -> None:
    """Nothing of a run stays but the checkpoint that the newest manifest names."""
    assert not os.path.exists(disk_jobs.SOCKETS) or not os.listdir(disk_jobs.SOCKETS)
    assert not os.path.exists(disk_exports.PLACE) or not os.listdir(disk_exports.PLACE)
    assert [name for name in os.listdir(node.directory(vm)) if name.startswith(".")] == []
    for place in Path(directory_of(node)).glob(f"{vm.vm_id}-*"):
        assert [path.name for path in place.iterdir() if path.name.endswith(".tmp")] == []
    domain = node.domain(vm)
    known = {each.getName() for each in domain.listAllCheckpoints()}
    newest = max(manifests(node).values(), key=lambda each: each["time"], default=None)
    assert known == ({newest["checkpoint"]} - {""} if newest else set())
    if domain.isActive():
        assert domain.jobStats() == {"type": 0}
    assert set(bitmaps(node, vm)) == known


def bitmaps(node: Node, vm: Vm) -> list[str]:
    if not node.domain(vm).isActive():
        words = ["qemu-img", "info", "--output=json", "-f", "qcow2", str(node.directory(vm) / "disk.0")]
        found = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
        return [each["name"] for each in found["format-specific"]["data"].get("bitmaps", ())]
    done = subprocess.run(
        ["virsh", "qemu-monitor-command", f"one-{vm.vm_id}", '{"execute": "query-named-block-nodes"}'],
        check=True,
        capture_output=True,
    )
    return sorted(
        {
            bitmap["name"]
            for node in json.loads(done.stdout)["return"]
            for bitmap in node.get("dirty-bitmaps", ())
            if bitmap.get("name")
        }
    )


@in_world
def test_a_chain_holds_what_the_disks_held() -> None:
    with a_machine(another()) as (node, vm):
        first = back_up(node, vm)
        assert (first["kind"], first["consistency"]) == (FULL, "crash-consistent")
        write(node, vm, "write -P 7 1M 2M", "write -P 9 9M 64k")
        write(node, vm, "write -P 5 3M 1M", target="vdb")
        second = back_up(node, vm)
        assert (second["kind"], second["reason"]) == (INCREMENTAL, "")
        assert second["stored"] < 4 * MIB
        # What was written and is zeroed by now does not come back.
        write(node, vm, "write -z 1M 1M", "write -P 1 9M 4k")
        third = back_up(node, vm, compress=True)
        assert third["kind"] == INCREMENTAL
        assert manifests(node)[third["id"]]["parent"] == second["id"]
        left_out = manifests(node)[third["id"]]["left_out"]
        assert left_out == ["disk 1 (hda): it is the context, and is made anew"]
        full = back_up(node, vm, full=True)
        assert (full["kind"], full["reason"]) == (FULL, "a full one was asked for")
        assert back_up(node, vm)["kind"] == INCREMENTAL
        assert node.boots(vm) == 1


@in_world
def test_a_machine_that_is_off() -> None:
    with a_machine(wanted="POWEROFF") as (node, vm):
        first = back_up(node, vm)
        assert (first["kind"], first["consistency"], first["reason"]) == (FULL, "off", "it is the first one")
        again = back_up(node, vm)
        assert (again["kind"], again["reason"]) == (INCREMENTAL, "")
        assert again["stored"] < MIB
        off(node, vm, "write -P 3 1M 64k")
        third = back_up(node, vm)
        assert third["kind"] == FULL
        assert "nothing has kept track" in third["reason"]
        # From here on its QEMU keeps track, also of what is read while it is off.
        assert node.one(vm).error is None
        assert back_up(node, vm)["kind"] == FULL
        write(node, vm, "write -P 4 2M 64k")
        assert node.one(vm, "POWEROFF", hard=True).error is None
        while_off = back_up(node, vm)
        assert (while_off["kind"], while_off["consistency"], while_off["reason"]) == (INCREMENTAL, "off", "")
        assert while_off["stored"] < 2 * MIB
        assert back_up(node, vm)["kind"] == INCREMENTAL
        assert back_up(node, vm, full=True)["kind"] == FULL
        assert node.one(vm).error is None
        write(node, vm, "write -P 5 3M 64k")
        assert back_up(node, vm)["kind"] == INCREMENTAL


def off(node: Node, vm: Vm, command: str) -> None:
    """Write to the disk of a machine that is off."""
    words = ["qemu-io", "-f", "qcow2", "-c", command, str(node.directory(vm) / "disk.0")]
    subprocess.run(words, check=True, capture_output=True)


@in_world
def test_raw_disks_are_full_each_time() -> None:
    with a_machine(replace(another(), driver="raw")) as (node, vm):
        assert back_up(node, vm)["kind"] == FULL
        outcome = back_up(node, vm)
        assert outcome["kind"] == FULL
        assert "keep track of what is written to disk vdb" in outcome["reason"]


@in_world
def test_a_qemu_that_was_killed() -> None:
    with a_machine() as (node, vm):
        back_up(node, vm)
        # Its file has a bitmap that QEMU has opened, and did not get to write down.
        assert node.one(vm, "POWEROFF", hard=True).error is None
        assert node.one(vm).error is None
        kill(node, vm)
        assert node.one(vm).error is None
        outcome = back_up(node, vm)
        assert outcome["kind"] == FULL
        assert "killed" in outcome["reason"]
        write(node, vm, "write -P 7 1M 64k")
        assert back_up(node, vm)["kind"] == INCREMENTAL
        kill(node, vm)
        outcome = back_up(node, vm)
        assert (outcome["kind"], outcome["consistency"]) == (FULL, "off")
        assert "killed" in outcome["reason"]


def kill(node: Node, vm: Vm) -> None:
    os.kill(node.qemu(vm), signal.SIGKILL)
    wait_for(lambda: not node.domain(vm).isActive(), "the end of QEMU")


@in_world
def test_encrypted_and_compressed() -> None:
    with a_machine(another()) as (node, vm):
        chain = [back_up_with_key(node, vm, "k1")]
        write(node, vm, "write -P 7 1M 2M")
        chain.append(back_up_with_key(node, vm, "k1"))
        assert [each["kind"] for each in chain] == [FULL, INCREMENTAL]
        other = back_up_with_key(node, vm, "k2")
        assert other["kind"] == FULL
        plain = back_up(node, vm)
        assert plain["kind"] == FULL
        assert "the backup before is encrypted" in plain["reason"]


def back_up_with_key(node: Node, vm: Vm, key: str) -> dict[str, Any]:
    outcome = back_up_all(request(node, vm, key=key, compress=True), node.driver, node.root)[0]
    assert not outcome["error"], outcome["error"]
    assert_nothing_left(node, vm)
    return outcome


@in_world
def test_what_is_refused() -> None:
    with a_machine() as (node, vm):
        back_up(node, vm)
        other = replace(vm, uuid="0b0b0b0b-0000-4000-8000-000000000000")
        node.ledger[1] = replace(node.ledger[1], generation=node.ledger[1].generation + 1)
        assert "this host has acted on generation" in refused(node, vm)
        node.ledger[1] = replace(node.ledger[1], generation=node.ledger[1].generation - 1)
        assert "no mark of this machine" in refused(node, other)
        assert "SUSPENDED" in refused_in_state(node, vm)
        encrypted = replace(vm, disks=(replace(vm.disks[0], luks_secret="0b0b0b0b-0000-4000-8000-000000000000"),))
        assert "encrypted" in refused(node, encrypted)
        assert "installed" in refused(node, replace(vm, attributes={"INSTALLS": "YES"}))
        # Of somebody else.
        domain = node.domain(vm)
        place = Path(os.environ["NEBULA_WORLD"], "somebody")
        place.mkdir(mode=0o777)
        place.chmod(0o777)
        text = f"""<domainbackup mode='pull'><server transport='unix' socket='{place}/socket'/><disks>
            <disk name='vda' backup='yes' type='file'><scratch file='{place}/scratch'/></disk></disks></domainbackup>"""
        domain.backupBegin(text, None, 0)
        assert "is being backed up to" in refused(node, vm)
        assert domain.jobStats()["type"] != 0
        domain.abortJob()
        wait_for(lambda: domain.jobStats()["type"] == 0, "the end of the job")
        assert back_up(node, vm)["kind"] == INCREMENTAL


def refused_in_state(node: Node, vm: Vm) -> str:
    assert node.one(vm, "SUSPENDED").error is None
    found = refused(node, vm)
    assert node.one(vm).error is None
    return found


@in_world
def test_a_full_directory() -> None:
    with a_machine(another(size=128)) as (node, vm):
        place = directory_of(node)
        os.mkdir(place, mode=0o700)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=90m,mode=700", "tmpfs", place], check=True)
        try:
            back_up(node, vm)
            # How much was written is not known before it is read.
            write(node, vm, *(f"write -P {number} {number}M 1M" for number in range(1, 100)), target="vdb")
            assert "its file system is full" in refused(node, vm)
            assert_nothing_left(node, vm)
            assert "free" in refused(node, vm, full=True)
            assert_nothing_left(node, vm)
            subprocess.run(["mount", "-o", "remount,size=200m", place], check=True)
            assert back_up(node, vm)["kind"] == INCREMENTAL
        finally:
            subprocess.run(["umount", place], check=True)


@in_world
def test_several_machines_at_once() -> None:
    with a_node() as node:
        vms = [node.vm(number) for number in range(4)]
        node.bring(*vms)
        os.unlink(node.directory(vms[2]) / "vm.json")
        outcomes = back_up_all(request(node, *vms, at_once=3), node.driver, node.root)
        assert [each["vm_id"] for each in outcomes] == [0, 1, 2, 3]
        assert [bool(each["error"]) for each in outcomes] == [False, False, True, False]
        assert [each["kind"] for each in outcomes] == [FULL, FULL, "", FULL]
        for vm in (vms[0], vms[1], vms[3]):
            assert content_of_backup(node, vm, outcomes[vm.vm_id]["id"]) == content(node, vm)
        node.domain(vms[2]).destroy()
        node.domain(vms[2]).undefine()
        import shutil

        shutil.rmtree(node.directory(vms[2]))
        del node.ledger[2]


def killed(node: Node, vm: Vm, place: str, name: str, when: str) -> None:
    """Have a run of backups killed there."""
    words = [sys.executable, "-c", APPLY, node.root, place, name, when]
    text = json.dumps(to_plain(request(node, vm)))
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        words, input=text, env={**os.environ, "PYTHONPATH": paths}, check=False, capture_output=True, text=True
    )
    assert done.returncode == 9, (place, name, when, done)


@pytest.mark.parametrize("has_one", [False, True])
@in_world
def test_a_run_is_killed(has_one: bool) -> None:
    with a_machine(another()) as (node, vm):
        if has_one:
            back_up(node, vm)
        for number, (place, name, when) in enumerate([*STEPS, *(CHECKPOINTS if has_one else ())], 1):
            killed(node, vm, place, name, when)
            # The machine never noticed, and what is listed can be restored.
            for id in manifests(node):
                content_of_backup(node, vm, id)
            write(node, vm, f"write -P {number} {number * 64}k 64k")
            kind = back_up(node, vm)["kind"]
            # The bitmap of the backup before is there until the next one is whole.
            assert kind == (INCREMENTAL if manifests(node).keys() else FULL) or not has_one, (place, name, when)
        assert node.boots(vm) == 1


@in_world
def test_a_run_is_killed_while_the_machine_is_off() -> None:
    with a_machine(another(), wanted="POWEROFF") as (node, vm):
        for place, name in (("files", "store_disk"), ("directory", "write"), ("files", "settled_digest")):
            killed(node, vm, place, name, "before")
            wait_for(lambda: not programs("qemu-nbd"), "the end of what showed the disks")
            back_up(node, vm)


def programs(name: str) -> list[str]:
    found = subprocess.run(["ps", "-eo", "comm"], check=True, capture_output=True, text=True).stdout.split()
    return [each for each in found if each == name]


@in_world
def test_a_plan_after_a_killed_backup() -> None:
    with a_machine() as (node, vm):
        killed(node, vm, "files", "store_disk", "before")
        # Nobody has to come: what the guest writes over is not kept aside any longer.
        wait_for(lambda: node.domain(vm).jobStats()["type"] == 0, "the end of the job")
        wait_for(lambda: not list(node.directory(vm).glob(".backup.*")), "the end of what was kept aside")
        assert node.one(vm, "SUSPENDED").error is None
        assert not os.listdir(disk_jobs.SOCKETS)
        assert node.one(vm).error is None
        back_up(node, vm)


@in_world
def test_two_runs_at_once() -> None:
    with a_machine() as (node, vm):
        from concurrent.futures import ThreadPoolExecutor

        def run(_number: int) -> dict[str, Any]:
            return back_up_all(request(node, vm), type(node.driver)(), node.root)[0]

        with ThreadPoolExecutor(2) as pool:
            outcomes = list(pool.map(run, range(2)))
        assert [each["error"] for each in outcomes] == ["", ""]
        assert sorted(each["kind"] for each in outcomes) == [FULL, INCREMENTAL]
        assert_nothing_left(node, vm)


@in_world
def test_the_machine_ends_meanwhile() -> None:
    with a_machine() as (node, vm):
        back_up(node, vm)
        real = machine_backups.backup_files.store_disk

        def store(*arguments: Any, **named: Any) -> Any:
            kill(node, vm)
            return real(*arguments, **named)

        machine_backups.backup_files.store_disk = store  # type: ignore[assignment]
        try:
            assert "the machine ended while it was backed up" in refused(node, vm)
        finally:
            machine_backups.backup_files.store_disk = real  # type: ignore[assignment]
        assert len(manifests(node)) == 1
        assert node.one(vm).error is None
        assert back_up(node, vm)["kind"] == FULL


@in_world
def test_the_guest_writes_faster_than_it_is_stored() -> None:
    with a_machine() as (node, vm):
        back_up(node, vm)
        real = machine_backups.backup_files.store_disk

        def store(*arguments: Any, **named: Any) -> Any:
            backup_job.LEAST = 1 << 60
            time.sleep(4 * backup_job._STEP)
            return real(*arguments, **named)

        least = backup_job.LEAST
        machine_backups.backup_files.store_disk = store  # type: ignore[assignment]
        try:
            assert "the guest writes faster than the backup is stored" in refused(node, vm)
        finally:
            machine_backups.backup_files.store_disk = real  # type: ignore[assignment]
            backup_job.LEAST = least
        assert_nothing_left(node, vm)
        assert back_up(node, vm)["kind"] == INCREMENTAL


@in_world
def test_an_encrypted_disk_of_a_running_machine() -> None:
    """What the guest writes over meanwhile is not kept aside in the clear. Only its hypervisor can read the secret,
    so nobody opens the disk of a machine that is off."""
    with an_encrypted_node() as (node, vm):
        keep_secrets(node, {SECRET: PHRASE})
        assert node.one(vm).error is None
        node.wait_for_boots(vm, 1)
        assert "nebula_machine_backup_key" in refused(node, vm)
        real, aside = machine_backups.backup_files.store_disk, []

        def store(*arguments: Any, **named: Any) -> Any:
            write(node, vm, "write -P 9 0 64k", "flush")
            aside.append((node.directory(vm) / ".backup.vda.tmp").read_bytes())
            return real(*arguments, **named)

        machine_backups.backup_files.store_disk = store  # type: ignore[assignment]
        try:
            outcome = back_up_all(request(node, vm, key="a key of backups"), node.driver, node.root)[0]
        finally:
            machine_backups.backup_files.store_disk = real  # type: ignore[assignment]
        assert not outcome["error"], outcome["error"]
        # It is a qcow2, whose method of encryption is LUKS, and the first sector is not in it as it was.
        assert aside[0][:4] == b"QFI\xfb" and aside[0][32:36] == b"\0\0\0\2" and len(aside[0]) > 64 << 10
        assert GUEST[:64] not in aside[0]
        place = Place.open(directory_of(node), node.catalog, for_writing=False)
        with place.machine(1, key="a key of backups") as held:
            backup = held.get(outcome["id"])
            assert GUEST[:64] not in Path(held.path(backup.disks[0].file.name)).read_bytes()
            raw, size = Path(node.root, "restored.raw"), backup.disks[0].size
            backup_files.restore_disk(held.chain(backup, 0), str(raw), "raw", "a key of backups", size)
        assert raw.read_bytes()[:512] == GUEST
        assert node.one(vm, "POWEROFF", hard=True).error is None
        found = refused(node, vm, key="a key of backups")
        assert "disk 0" in found and "Back it up while it runs" in found
        assert node.one(vm, "DONE", hard=True).error is None
