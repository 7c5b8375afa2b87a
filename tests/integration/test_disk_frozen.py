# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A running guest with its agent: what is copied of its disk is whole, and it is never frozen for long, whatever
becomes of those who froze it."""

from __future__ import annotations

import contextlib
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

from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.host.console.console_log import NAME
from ansible_collections.nebula.provision.plugins.module_utils.host.console.guest_wait import wait
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import AgentAnswer, Mark
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import guest_file_systems, quiesce
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import AGENT, CREATE, SAVE_AS, DiskTask
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.verify_guests import machines_of, sources
from ansible_collections.nebula.provision.tests.integration.guests import agent as guests
from ansible_collections.nebula.provision.tests.integration.kvm_node import Node, a_node, wait_for

# What issue and documents promise: a guest is frozen for ten seconds at most.
PROMISED = 10.0
APPLY = """
import sys, time
sys.path.append("/usr/lib/python3/dist-packages")
import libvirt
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.batch import Batch
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.kvm import KvmDriver
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.plan_outcomes import plan_for
def hang(*_arguments):
    print("frozen", flush=True)
    time.sleep(600)
libvirt.virDomain.backupBegin = hang
Batch(plan_for(sys.stdin.read(), "node"), KvmDriver(), sys.argv[1], 2).apply()
"""


@contextmanager
def a_guest(agent: str, full: int = 0) -> Iterator[tuple[Node, Vm]]:
    """full: MiB of a third disk that holds something everywhere, and so takes its time."""
    with a_node() as node:
        node.take(agent)
        vm = node.vm(1, memory=128, context=None)
        data = Disk(disk_id=1, target="vdb", type="FS", fs="ext4", driver="qcow2", size=64)
        vm = replace(vm, disks=(*vm.disks, data))
        if full:
            vm = replace(vm, disks=(*vm.disks, Disk(disk_id=2, target="vdc", type="FS", driver="qcow2", size=full)))
            node.one(vm, "POWEROFF")
            write = ["qemu-io", "-f", "qcow2", "-c", f"write -P 7 0 {full}M", str(node.directory(vm) / "disk.2")]
            subprocess.run(write, check=True, capture_output=True)
        assert node.one(vm).error is None
        wait_for(lambda: len(guests.ticks(node.console(vm))) > 2, "the guest to be up", 60)
        assert "agent" in node.console(vm)
        assert "mounted" in node.console(vm)
        wait_for(lambda: _answers(node, vm), "the guest agent")
        yield node, vm


@in_world
def test_a_file_system_grows_with_its_disk(agent: str) -> None:
    with a_node() as node:
        node.take(agent)
        vm = node.vm(1, memory=128, context=None)
        whole = Disk(disk_id=1, target="vdb", type="FS", fs="ext4", driver="qcow2", size=64)
        parted = Disk(disk_id=2, target="vdc", type="FS", driver="raw", size=64)
        vm = replace(vm, disks=(*vm.disks, whole, parted))
        node.one(vm, "POWEROFF")
        raw = str(node.directory(vm) / "disk.2")
        subprocess.run(["sfdisk", "-q", raw], input="label: gpt\n,+\n", text=True, check=True)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-E", "offset=1048576", raw, "60M"], check=True)
        assert node.one(vm).error is None
        wait_for(lambda: "partition mounted" in node.console(vm), "the guest to be up", 60)
        wait_for(lambda: _answers(node, vm), "the guest agent")
        before = file_systems(node, vm)
        boot, *others = vm.disks
        vm = replace(vm, disks=(replace(boot, size=boot.size + 8), *(replace(each, size=128) for each in others)))
        outcome = node.one(vm, grown=(0, 1, 2))
        assert outcome.error is None
        # Nothing of the disk is mounted from which it booted.
        (note,) = outcome.notes
        assert note.startswith(
            "DISK 0 (vda) is larger, and the file system in it is not: none is mounted at its end that could grow. "
        )
        after = file_systems(node, vm)
        assert sorted(before) == sorted(after) == ["/mnt", "/part"]
        assert all(after[place] > 1.8 * before[place] for place in before)
        # What a run that was broken off has left to be done is done once more, and harms nothing.
        import libvirt

        for target in ("vdb", "vdc"):
            assert guest_file_systems.grow(libvirt, node.domain(vm), target, 128 << 20) == ""
        goes_on(node, vm)


def file_systems(node: Node, vm: Vm) -> dict[str, int]:
    """Bytes by where they are mounted, as the guest's agent says."""
    import libvirt_qemu

    answer = libvirt_qemu.qemuAgentCommand(node.domain(vm), '{"execute": "guest-get-fsinfo"}', 5, 0)
    return {each["mountpoint"]: each["total-bytes"] for each in json.loads(answer)["return"]}


def _answers(node: Node, vm: Vm) -> bool:
    import libvirt
    import libvirt_qemu

    with contextlib.suppress(libvirt.libvirtError):
        libvirt_qemu.qemuAgentCommand(node.domain(vm), '{"execute": "guest-ping"}', 5, 0)
        return True
    return False


def saving(node: Node, token: str, disk_id: int = 1) -> DiskTask:
    target = f"{node.root}/datastores/1/saved-{token}"
    os.makedirs(os.path.dirname(target), mode=0o711, exist_ok=True)
    return DiskTask(
        SAVE_AS, token, disk_id, consistency=AGENT, image_id=1, image="saved", target=target, format="qcow2"
    )


def longest_pause(node: Node, vm: Vm) -> float:
    seen = [uptime for _number, uptime in guests.ticks(node.console(vm))]
    return max(after - before for before, after in zip(seen, seen[1:]))


def is_whole(node: Node, path: str) -> None:
    """Its file system needs no repair and no journal, and both files are of the same moment."""
    raw = f"{node.root}/check.raw"
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw], check=True)
    features = subprocess.run(["dumpe2fs", "-h", raw], check=True, capture_output=True, text=True).stdout
    assert "needs_recovery" not in features
    checked = subprocess.run(["e2fsck", "-f", "-n", raw], check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    found = [
        subprocess.run(["debugfs", "-R", f"cat /{name}", raw], check=True, capture_output=True, text=True).stdout
        for name in ("first", "second")
    ]
    # A freeze may come between the two writes.
    assert int(found[0]) - int(found[1]) in (0, 1)
    assert int(found[0]) > 0
    os.unlink(raw)


def goes_on(node: Node, vm: Vm, seconds: float = PROMISED) -> None:
    seen = len(guests.ticks(node.console(vm)))
    wait_for(lambda: len(guests.ticks(node.console(vm))) > seen + 1, "the guest to go on", seconds)


def job_of(node: Node, vm: Vm) -> int:
    return int(node.domain(vm).jobStats()["type"])


@in_world
def test_a_guest_is_believed_for_what_its_agent_says(agent: str) -> None:
    with a_guest(agent) as (node, vm):
        # The name of one that was given none.
        answer = node.driver.ask_agent(Mark(node.catalog, vm.vm_id, vm.uuid))
        assert answer == AgentAnswer("(none)", ())
        record = {"id": vm.vm_id, "name": vm.name, "uuid": vm.uuid, "hypervisor": "kvm", "hostname": "(none)"}
        machines = machines_of(json.dumps([{**record, "console": str(node.directory(vm) / NAME), "addresses": []}]))
        wanted = [machine.wanted for machine in machines]
        with sources(machines) as others:
            (verdict,) = wait(wanted, 30, sources=others)
        assert (verdict.evidence, verdict.text) == ("agent", "agent: (none)")


@in_world
def test_a_running_disk_is_saved_whole_while_its_guest_writes(agent: str) -> None:
    with a_guest(agent) as (node, vm):
        outcome = node.one(vm, tasks=(saving(node, "a"), saving(node, "b", 0)))
        assert outcome.error is None, outcome.error
        goes_on(node, vm)
        assert longest_pause(node, vm) < PROMISED
        is_whole(node, f"{node.root}/datastores/1/saved-a")
        # A snapshot is frozen too, where there is an agent.
        assert node.one(vm, tasks=(DiskTask(CREATE, "c", 1, snapshot_id=0, name="s"),)).error is None
        goes_on(node, vm)
        node.one(vm, "POWEROFF", hard=True)
        copy = f"{node.root}/copy.qcow2"
        subprocess.run(["cp", str(node.directory(vm) / "disk.1"), copy], check=True)
        subprocess.run(["qemu-img", "snapshot", "-a", "nebula-0", copy], check=True)
        is_whole(node, copy)
        os.unlink(copy)


@in_world
def test_killed_while_it_is_frozen_the_guest_goes_on_and_the_next_run_saves(agent: str) -> None:
    with a_guest(agent) as (node, vm):
        plan = node.plan(vm, tasks=(saving(node, "a"),))
        run = subprocess.Popen(
            [sys.executable, "-c", APPLY, node.root],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            start_new_session=True,
        )
        assert run.stdin is not None
        assert run.stdout is not None
        run.stdin.write(json.dumps(to_plain(plan)).encode())
        run.stdin.close()
        assert run.stdout.readline() == b"frozen\n"
        # Nothing is written for a while: it is frozen indeed.
        seen = len(guests.ticks(node.console(vm)))
        time.sleep(1.5)
        assert len(guests.ticks(node.console(vm))) <= seen + 1
        # As one is who kills a whole process group.
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        goes_on(node, vm)
        assert longest_pause(node, vm) < PROMISED
        assert (Path(node.root) / "datastores/1/saved-a.new").exists()
        outcome = node.carry_out(node.plan(vm, tasks=(saving(node, "a"),)))[0]
        assert outcome.error is None, outcome.error
        is_whole(node, f"{node.root}/datastores/1/saved-a")
        assert os.listdir(f"{node.root}/datastores/1") == ["saved-a"]


@in_world
def test_who_takes_too_long_does_not_hold_the_guest_and_believes_nothing(agent: str) -> None:
    import libvirt

    before, quiesce.LONGEST = quiesce.LONGEST, 2.0
    begin = libvirt.virDomain.backupBegin

    def slow(*arguments: object) -> int:
        time.sleep(4)
        return int(begin(*arguments))

    libvirt.virDomain.backupBegin = slow
    try:
        with a_guest(agent) as (node, vm):
            outcome = node.one(vm, tasks=(saving(node, "a"),))
            assert outcome.state == "RUNNING"
            assert outcome.error is not None
            assert "frozen" in outcome.error["found"]
            assert longest_pause(node, vm) < 3.5
            assert os.listdir(f"{node.root}/datastores/1") == []
            libvirt.virDomain.backupBegin = begin
            # What it had begun all the same is ended, and begun anew.
            assert node.one(vm, tasks=(saving(node, "a"),)).error is None
            is_whole(node, f"{node.root}/datastores/1/saved-a")
            # So is what was begun when somebody else had thawed the guest.
            moments = []

            def thawed_once(domain: Any, *arguments: object) -> int:
                moments.append(domain.fsThaw() if not moments else 0)
                return int(begin(domain, *arguments))

            libvirt.virDomain.backupBegin = thawed_once
            assert node.one(vm, tasks=(saving(node, "b"),)).error is None
            assert moments == [1, 0]
            is_whole(node, f"{node.root}/datastores/1/saved-b")
    finally:
        quiesce.LONGEST = before
        libvirt.virDomain.backupBegin = begin


@in_world
def test_a_copy_that_a_killed_run_left_is_ended_and_begun_anew(agent: str) -> None:
    import libvirt
    import libvirt_qemu

    with a_guest(agent, full=300) as (node, vm):
        task = saving(node, "a", 2)
        domain = node.domain(vm)

        def left(path: str) -> None:
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "300M"], check=True)
            xml = (
                "<domainbackup mode='push'><disks><disk name='vdc' backup='yes' type='file'><driver type='qcow2'/>"
                f"<target file='{path}'/></disk><disk name='vda' backup='no'/><disk name='vdb' backup='no'/>"
                "</disks></domainbackup>"
            )
            libvirt_qemu.qemuMonitorCommand(domain, '{"execute": "stop"}', 0)
            domain.backupBegin(xml, None, libvirt.VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL)
            jobs = json.loads(libvirt_qemu.qemuMonitorCommand(domain, '{"execute": "query-block-jobs"}', 0))["return"]
            for job in jobs:
                pause = {"execute": "block-job-pause", "arguments": {"device": job["device"]}}
                libvirt_qemu.qemuMonitorCommand(domain, json.dumps(pause), 0)
            libvirt_qemu.qemuMonitorCommand(domain, '{"execute": "cont"}', 0)

        left(task.target + ".new")
        assert job_of(node, vm)
        outcome = node.carry_out(node.plan(vm, tasks=(task,)))[0]
        assert outcome.error is None, outcome.error
        check = ["qemu-io", "-f", "qcow2", "-r", "-c", "read -P 7 0 300M", task.target]
        assert "verification failed" not in subprocess.run(check, check=True, capture_output=True, text=True).stdout
        # Somebody's backup is waited for, not ended.
        other = f"{node.root}/somebodys.qcow2"
        left(other)
        assert job_of(node, vm)
        outcome = node.carry_out(node.plan(vm, tasks=(saving(node, "b", 2),)))[0]
        assert outcome.error is not None
        assert outcome.error["kind"] == "InUse"
        assert other in outcome.error["found"]
        domain.abortJob()
