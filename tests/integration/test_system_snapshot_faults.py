# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots of whole machines of KVM while the power goes, and while the disk is full."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from select import select

import pytest
from in_world import in_world
from namespaces import answers

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import system_snapshot_tasks
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import (
    SYSTEM_CREATE,
    SYSTEM_DELETE,
    SYSTEM_REVERT,
    DiskTask,
    VmOutcome,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.tests.integration.kvm_node import (
    Node,
    start_libvirtd,
    stop_libvirtd,
    wait_for,
)
from ansible_collections.nebula.provision.tests.integration.test_power_cut import Disk
from ansible_collections.nebula.provision.tests.integration.test_system_snapshots import (
    counted,
    done,
    holds,
    known,
    machine,
    recorded,
    tags,
    task,
    with_counting_guest,
    write,
)

# Seconds after which the power goes.
MOMENTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 5.0)


@contextmanager
def on_a_disk() -> Iterator[tuple[Node, Disk]]:
    """nebula_root on a disk whose power can go."""
    disk = Disk(Path(os.environ["NEBULA_WORLD"], f"cut-{uuid.uuid4().hex[:8]}"))
    disk.point.chmod(0o755)
    node = with_counting_guest(Node(disk.point / "nebula"))
    try:
        yield node, disk
    finally:
        node.close()
        disk.close()


def users(disk: Disk) -> list[int]:
    """The processes that have something open on the disk."""
    found = subprocess.run(["fuser", "-m", str(disk.point)], check=False, capture_output=True, text=True)
    return [int(word) for word in found.stdout.split()]


def cut_power(node: Node, disk: Disk, vm: Vm, wanted: str, one: DiskTask, after: float) -> None:
    """Have the power go so many seconds after a run has begun with the task, and come back."""
    plan = node.plan(vm, wanted=wanted, tasks=(one,))
    child = os.fork()
    if child == 0:
        try:
            # The other one's connection is the parent's: it stays open.
            others, node.driver = node.driver, node.kind_of_driver()
            assert others
            node.carry_out(plan)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    process = os.pidfd_open(child)
    select([process], [], [], after)
    stopped = {child, *users(disk)}
    for pid in stopped:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    copy = disk.cut()
    for pid in stopped:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(process)
    node.driver.close()
    stop_libvirtd()
    # What it had begun meanwhile.
    for pid in users(disk):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not users(disk), "all to let go of the disk")
    disk.go_on_with(copy)
    # It held what a machine's serial port writes to.
    if not answers("/run/libvirt/virtlogd-sock"):
        subprocess.run(["virtlogd", "--daemon"], check=True, timeout=60)
    start_libvirtd(node)


def mended(node: Node, vm: Vm) -> None:
    """Nothing in the disks of the machine, which is off, is damaged. A leaked cluster is no damage, and QEMU leaves one
    at times without anybody's doing."""
    for each in vm.disks:
        path = str(node.directory(vm) / f"disk.{each.disk_id}")
        found = subprocess.run(["qemu-img", "check", path], check=False, capture_output=True, text=True)
        assert found.returncode in (0, 3), found


@pytest.mark.timeout(900)
@in_world
def test_power_cut_while_the_memory_is_kept() -> None:
    with on_a_disk() as (node, disk):
        vm = machine(node)
        done(node.one(vm))
        counted(node, vm, 1)
        for number, after in enumerate(MOMENTS):
            one, before = task(SYSTEM_CREATE, f"c{number}", number), (tags(node, vm), known(node, vm))
            cut_power(node, disk, vm, "RUNNING", one, after)
            came = node.one(vm, "POWEROFF", hard=True, tasks=(one,))
            mended(node, vm)
            if came.error is None and came.tasks[0].error is None:
                # It was reported as done.
                vm = recorded(vm, *(each.id for each in vm.system_snapshots), number)
                assert all(f"nebula-system-{number}-ab" in each for each in tags(node, vm))
            else:
                assert "POWEROFF by now" in refusal(came)
                assert (tags(node, vm), known(node, vm)) == before
            done(node.one(vm))
            counted(node, vm, 1)
        assert vm.system_snapshots, "the last one had its time"
        (last, *_more) = reversed(vm.system_snapshots)
        boots = node.boots(vm)
        for step, after in enumerate(MOMENTS):
            one = task(SYSTEM_REVERT, f"r{step}", last.id)
            cut_power(node, disk, vm, "RUNNING", one, after)
            done(node.one(vm, tasks=(one,)))
            assert node.one(vm, tasks=(one,)).changed is False
        assert boots
        for each, after in zip(vm.system_snapshots, MOMENTS[::-1]):
            one = task(SYSTEM_DELETE, f"d{each.id}", each.id)
            cut_power(node, disk, vm, "RUNNING", one, after)
            done(node.one(vm, tasks=(one,)))
        assert (tags(node, vm), known(node, vm)) == ([[], []], [])
        counted(node, vm, 1)
        done(node.one(vm, "POWEROFF", hard=True), "POWEROFF")
        mended(node, vm)
        node.one(vm, "DONE", hard=True)


def refusal(came: VmOutcome) -> str:
    error = came.error or came.tasks[0].error
    assert error is not None
    return str(error["found"])


@pytest.mark.timeout(900)
@in_world
def test_power_cut_while_the_disks_of_one_that_is_off_are_kept() -> None:
    with on_a_disk() as (node, disk):
        vm = machine(node)
        done(node.one(vm, "POWEROFF"), "POWEROFF")
        write(node, vm, 0x10000, 0x11)
        os.sync()
        for number, after in enumerate(MOMENTS):
            one = task(SYSTEM_CREATE, f"c{number}", number, memory=False)
            cut_power(node, disk, vm, "POWEROFF", one, after)
            done(node.one(vm, "POWEROFF", tasks=(one,)), "POWEROFF")
            mended(node, vm)
            vm = recorded(vm, *range(number + 1), memory=False)
            assert all(f"nebula-system-{number}-ab" in each for each in tags(node, vm))
        for number, after in enumerate(MOMENTS):
            write(node, vm, 0x10000, 0x22)
            os.sync()
            one = task(SYSTEM_REVERT, f"r{number}", number, memory=False)
            cut_power(node, disk, vm, "POWEROFF", one, after)
            assert holds(node, vm, 0x10000, 0x11) or holds(node, vm, 0x10000, 0x22)
            done(node.one(vm, "POWEROFF", tasks=(one,)), "POWEROFF")
            mended(node, vm)
            assert holds(node, vm, 0x10000, 0x11)
        for number, after in enumerate(MOMENTS):
            one = task(SYSTEM_DELETE, f"d{number}", number, memory=False)
            cut_power(node, disk, vm, "POWEROFF", one, after)
            done(node.one(vm, "POWEROFF", tasks=(one,)), "POWEROFF")
            mended(node, vm)
        assert tags(node, vm) == [[], []] and holds(node, vm, 0x10000, 0x11)
        node.one(vm, "DONE", hard=True)


@in_world
def test_the_disk_is_full_before_all_of_the_memory_is_kept() -> None:
    """There was room when it was looked; QEMU has to say it then. The machine runs on."""
    with on_a_disk() as (node, disk):
        vm = machine(node, memory=64)
        done(node.one(vm))
        then = counted(node, vm, 1)
        done(node.one(vm, tasks=(task(SYSTEM_CREATE, "1"),)))
        vm = recorded(vm, 0)
        before, pid = tags(node, vm), node.qemu(vm)
        filler = disk.point / "filler"
        for left in (64 << 10, 256 << 10, 512 << 10):
            filled(disk, filler, left)
            monkeypatch = pytest.MonkeyPatch()
            monkeypatch.setattr(system_snapshot_tasks, "MARGIN", -(1 << 40))
            failed = node.one(vm, tasks=(task(SYSTEM_CREATE, f"f{left}", 1),))
            monkeypatch.undo()
            assert failed.error is not None or failed.tasks[0].error is not None, left
            filler.unlink()
            done(node.one(vm))
            assert (tags(node, vm), known(node, vm), node.qemu(vm)) == (before, ["nebula-system-0-ab"], pid)
            then = counted(node, vm, then + 1)
        # Neither going back nor deleting needs more than a little.
        filled(disk, filler, 64 << 10)
        back = node.one(vm, tasks=(task(SYSTEM_REVERT, "2"),))
        filler.unlink()
        if back.error is not None:
            done(node.one(vm, tasks=(task(SYSTEM_REVERT, "2"),)))
        filled(disk, filler, 64 << 10)
        gone = node.one(vm, tasks=(task(SYSTEM_DELETE, "3"),))
        filler.unlink()
        if gone.error is not None:
            done(node.one(vm, tasks=(task(SYSTEM_DELETE, "3"),)))
        assert (tags(node, vm), known(node, vm)) == ([[], []], [])
        node.one(vm, "DONE", hard=True)


def filled(disk: Disk, filler: Path, left: int) -> None:
    """Leave so many bytes free on the disk."""
    found = os.statvfs(disk.point)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, found.f_bavail * found.f_frsize - left)
