# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest of KVM sees the hardware that its template says: read from its own kernel, by a script of its context."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.model.hypervisor_rules import rules_of
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import (
    Graphics,
    Iommu,
    Numa,
    NumaNode,
    Topology,
    Video,
    Vm,
)
from ansible_collections.nebula.provision.tests.integration.kvm_node import Node, a_node, wait_for
from ansible_collections.nebula.provision.tests.integration.running_machines import a_machine, volatile

NEWEST = rules_of("kvm").hardware_version
# By vendor, device and class, as `lspci -n` has them.
SEEN = (
    'for d in /sys/bus/pci/devices/*; do echo "pci $(cat $d/class) $(cat $d/vendor):$(cat $d/device)"; done; '
    "ls /sys/power/state >/dev/null 2>&1 && echo sleeps $(cat /sys/power/state); "
    "ls -d /sys/class/virtio-ports/vport* 2>/dev/null; cat /sys/class/virtio-ports/*/name 2>/dev/null"
)
VGA, VIRTIO_VGA, QXL = "1234:1111", "1af4:1050", "1b36:0100"
SOUND, VIRTIO_IOMMU = "8086:2668", "1af4:1057"


def guest_of(node: Node, vm: Vm, script: str = SEEN) -> str:
    """What the guest says of itself once it is up."""
    context = replace(vm.context, variables={**vm.context.variables, "START_SCRIPT": script})
    vm = replace(vm, context=context, hardware_version=NEWEST)
    outcome = node.one(vm)
    assert outcome.error is None, outcome.error
    assert outcome.state == "RUNNING"
    wait_for(lambda: "nebula-guest: ready" in node.console(vm), "the guest to be up", 120)
    said = node.console(vm)
    assert node.one(vm).changed is False
    return said


def pci(said: str) -> list[str]:
    return [f"{vendor}:{device}" for vendor, device in re.findall(r"pci 0x\w+ 0x(\w{4}):0x(\w{4})", said)]


def qemu_tree(node: Node, vm: Vm) -> str:
    import libvirt_qemu

    answer = libvirt_qemu.qemuMonitorCommand(node.domain(vm), "info qtree", 1)
    return str(answer)


@in_world
@pytest.mark.parametrize("machine", ["q35", "pc"])
def test_what_comes_with_spice(image: str, machine: str) -> None:
    with a_node() as node:
        node.take(image)
        vm = a_machine(node, machine, memory=192, graphics=Graphics("spice", password="open", companions=True))
        found = pci(guest_of(node, vm))
        assert VGA in found and SOUND in found
        tree = qemu_tree(node, vm)
        assert tree.count("dev: usb-redir") == 3
        assert 'name = "com.redhat.spice.0"' in tree


VIDEOS: dict[str, tuple[Video, list[str], tuple[str, ...]]] = {
    "virtio": (Video("virtio", resolution=(800, 600)), [VIRTIO_VGA], ("xres = 800", "yres = 600")),
    "qxl": (Video("qxl", 32768), [QXL], ("vram_size = 33554432",)),
    "bochs": (Video("bochs"), [VGA], ()),
    "none": (Video("none"), [], ()),
}


@in_world
@pytest.mark.parametrize("kind", VIDEOS)
def test_video(image: str, kind: str) -> None:
    video, devices, properties = VIDEOS[kind]
    with a_node() as node:
        node.take(image)
        vm = a_machine(node, "q35", memory=192, video=video, graphics=Graphics("vnc", password="open"))
        found = pci(guest_of(node, vm))
        assert [each for each in found if each in (VGA, VIRTIO_VGA, QXL)] == devices
        tree = qemu_tree(node, vm)
        assert [each for each in properties if each not in tree] == []


@in_world
def test_an_iommu(image: str) -> None:
    with a_node() as node:
        node.take(image)
        vm = a_machine(node, "q35", memory=192, iommu=Iommu("virtio"), video=Video("virtio", iommu=True, ats=True))
        assert VIRTIO_IOMMU in pci(guest_of(node, vm))
        assert node.one(vm, wanted="DONE").error is None
        intel = {"intremap": "on", "caching_mode": "on"}
        other = replace(vm, vm_id=2, uuid=node.vm(2).uuid, video=None, iommu=Iommu("intel", intel))
        guest_of(node, other)
        tree = qemu_tree(node, other)
        assert "dev: intel-iommu" in tree and "caching-mode = true" in tree
        third = replace(other, vm_id=3, uuid=node.vm(3).uuid, iommu=Iommu("intel", {**intel, "eim": "on"}))
        refused = node.one(third)
        assert node.one(third, wanted="DONE").error is None
        assert refused.error is not None and "Leave eim out" in refused.error["remedy"]


def schedule(node: Node, vm: Vm) -> dict[str, Any]:
    found: dict[str, Any] = node.domain(vm).schedulerParameters()
    return found


@in_world
def test_a_limit_of_processors_comes_changes_and_goes_at_once() -> None:
    with a_node() as node:
        vm = replace(a_machine(node, "q35"), hardware_version=1)
        assert node.one(vm).error is None
        pid, share = node.qemu(vm), schedule(node, vm)["cpu_shares"]
        for limit, quota in ((50, 50_000), (150, 150_000), (1, 1_000), (0, None)):
            outcome = node.one(replace(vm, cpu_limit=limit))
            assert (outcome.error, outcome.changed) == (None, True)
            found = schedule(node, vm)
            if quota is None:
                assert not 0 < found["global_quota"] < 1 << 40
            else:
                assert (found["global_quota"], found["global_period"]) == (quota, 100_000)
            assert found["cpu_shares"] == share
            assert node.one(replace(vm, cpu_limit=limit)).changed is False
        # One that was made before it acted goes on without.
        older = replace(vm, hardware_version=0, cpu_limit=50)
        assert node.one(older).error is None
        assert not 0 < schedule(node, vm)["global_quota"] < 1 << 40
        assert node.qemu(vm) == pid


@in_world
def test_the_order_of_devices_is_that_of_the_firmware() -> None:
    """The first disk has no boot sector: a BIOS that went by it would find nothing."""
    with a_node() as node:
        vm = a_machine(node, "pc")
        first, second = volatile(0, "vda"), replace(vm.disks[0], disk_id=1, target="vdb", boot_order=1)
        context = replace(vm.context, disk_id=2)
        vm = replace(vm, disks=(first, second), context=context, hardware_version=1)
        assert node.one(vm).error is None
        node.wait_for_boots(vm, 1)
        import libvirt_qemu

        answer = libvirt_qemu.qemuMonitorCommand(node.domain(vm), json.dumps({"execute": "query-status"}), 0)
        assert json.loads(answer)["return"]["running"] is True


# Of each node of memory: its number, its processors and its distances.
NODES = (
    "for n in /sys/devices/system/node/node[0-9]*; do "
    'echo "node ${n##*node} $(cat $n/cpulist) : $(cat $n/distance)"; done'
)


SOCKETS = (
    "echo sockets $(grep '^physical id' /proc/cpuinfo | sort -u | wc -l) "
    "of cores $(grep -m 1 '^cpu cores' /proc/cpuinfo | grep -o '[0-9]*$')"
)


def threads(node: Node, vm: Vm) -> list[str]:
    """On which processors the kernel has the threads of the virtual ones."""
    tasks = Path(f"/proc/{node.qemu(vm)}/task").iterdir()
    own = [task for task in tasks if re.match(r"CPU \d+/", (task / "comm").read_text())]
    return [re.findall(r"Cpus_allowed_list:\s*(\S+)", (task / "status").read_text())[0] for task in own]


def places(node: Node, vm: Vm) -> list[tuple[int, ...]]:
    """On which processors libvirt has each virtual one."""
    found = node.domain(vm).vcpuPinInfo()
    return [tuple(cpu for cpu, is_allowed in enumerate(each) if is_allowed) for each in found]


@in_world
def test_processors_and_memory_of_its_own(image: str) -> None:
    cpus = tuple(sorted(os.sched_getaffinity(0))[:2])
    with a_node() as node:
        node.take(image)
        parts = (NumaNode(1, 128, "1:30", cpus[:1], 0), NumaNode(1, 128, "0:30", cpus[1:], 0))
        vm = a_machine(node, "q35", memory=256, vcpu=2, numa=Numa("core", parts, 2), topology=Topology(2, 1, 1))
        said = guest_of(node, vm, f"{NODES}; {SOCKETS}")
        assert "sockets 2 of cores 1" in said
        assert "node 0 0 : 10 30" in said and "node 1 1 : 30 10" in said
        assert places(node, vm) == [cpus[:1], cpus[1:]]
        assert sorted(threads(node, vm)) == [str(cpu) for cpu in cpus]
        # Its next start has other processors; until then it has those that it was started with.
        turned = tuple(replace(part, cpus=each) for part, each in zip(parts, (cpus[1:], cpus[:1])))
        other = replace(vm, numa=Numa("core", turned, 2))
        outcome = node.one(other, waits=True)
        assert (outcome.error, outcome.waits) == (None, True), outcome
        assert places(node, other) == [cpus[:1], cpus[1:]]
        assert node.one(other, wanted="POWEROFF", hard=True).error is None
        assert node.one(other).error is None
        assert places(node, other) == [cpus[1:], cpus[:1]]
        assert sorted(threads(node, other)) == [str(cpu) for cpu in cpus]


PAGES = Path("/sys/devices/system/node/node0/hugepages/hugepages-2048kB")


def free_pages() -> int:
    return int((PAGES / "free_hugepages").read_text())


@contextmanager
def huge_pages(count: int) -> Iterator[None]:
    before = (PAGES / "nr_hugepages").read_text()
    (PAGES / "nr_hugepages").write_text(str(int(before) + count))
    try:
        yield
    finally:
        (PAGES / "nr_hugepages").write_text(before)


@in_world
def test_huge_pages(image: str) -> None:
    part = NumaNode(1, 192, "", tuple(sorted(os.sched_getaffinity(0))), 0)
    with a_node() as node:
        node.take(image)
        vm = a_machine(node, "q35", memory=192, numa=Numa("none", (part,), page_size=2))
        with huge_pages(96):
            guest_of(node, vm)
            assert free_pages() == 0
            assert node.one(vm, wanted="DONE", hard=True).error is None
            assert free_pages() == 96
        refused = node.one(replace(vm, vm_id=2, uuid=node.vm(2).uuid))
        assert refused.error is not None and "set huge pages aside" in refused.error["remedy"], refused.error
        assert node.one(replace(vm, vm_id=2, uuid=node.vm(2).uuid), wanted="DONE").error is None
