# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest of KVM sees the hardware that its template says: read from its own kernel, by a script of its context."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Graphics, Iommu, Video, Vm
from ansible_collections.nebula.provision.tests.integration.kvm_node import Node, a_node, wait_for
from ansible_collections.nebula.provision.tests.integration.running_machines import a_machine, volatile

# By vendor, device and class, as `lspci -n` has them.
SEEN = (
    'for d in /sys/bus/pci/devices/*; do echo "pci $(cat $d/class) $(cat $d/vendor):$(cat $d/device)"; done; '
    "ls /sys/power/state >/dev/null 2>&1 && echo sleeps $(cat /sys/power/state); "
    "ls -d /sys/class/virtio-ports/vport* 2>/dev/null; cat /sys/class/virtio-ports/*/name 2>/dev/null"
)
VGA, VIRTIO_VGA, QXL = "1234:1111", "1af4:1050", "1b36:0100"
SOUND, VIRTIO_IOMMU = "8086:2668", "1af4:1057"


def guest_of(node: Node, vm: Vm) -> str:
    """What the guest says of itself once it is up."""
    context = replace(vm.context, variables={**vm.context.variables, "START_SCRIPT": SEEN})
    vm = replace(vm, context=context, hardware_version=1)
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
