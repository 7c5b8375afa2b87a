# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The short life of a machine of KVM that runs: what it gets and loses, and what waits for its next start. The rest of
it is in test_kvm_living.py."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree as ET

from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Growth, Vm
from ansible_collections.nebula.provision.tests.integration.kvm_node import Node, a_node, wait_for
from ansible_collections.nebula.provision.tests.integration.running_machines import (
    MIB,
    a_bridge,
    a_guest,
    a_machine,
    a_nic,
    has,
    running,
    volatile,
)


@in_world
def test_a_disk_a_nic_memory_and_a_processor_come_and_go(image: str) -> None:
    with a_node() as node, a_bridge("br-live"):
        vm = a_guest(node, image, "q35", growth=Growth(memory=256, vcpu=2))
        wait_for(lambda: has(node, vm) == (128, 1), "the guest to have what it is to have", 60)
        # What QEMU has read from a file is changed as what it has started.
        assert node.one(vm, "SUSPENDED").error is None and node.one(vm).state == "RUNNING"
        pid = node.qemu(vm)
        more = replace(vm, disks=(*vm.disks, volatile(2, "vdb")), nics=(a_nic(0),), memory=192, vcpu=2)
        came = node.one(more, refitted=True)
        assert (came.state, came.changed, came.error, came.fitted) == ("RUNNING", True, None, True)
        assert running(node, vm) == ({"vda", vm.context.target, "vdb"}, {a_nic(0).mac})
        assert has(node, vm) == (192, 2) and node.one(more).changed is False
        larger = replace(more, disks=(vm.disks[0], replace(more.disks[1], size=12)))
        grown = node.one(larger, grown=(2,))
        assert (grown.changed, grown.error, grown.fitted) == (True, None, True)
        assert node.domain(vm).blockInfo("vdb")[0] == 12 * MIB
        # Emulation takes no processor away.
        fewer = replace(vm, vcpu=2)
        went = node.one(fewer, refitted=True, detached=(2,), agreed=True)
        assert (went.state, went.changed, went.error, went.fitted) == ("RUNNING", True, None, True)
        assert running(node, vm) == ({"vda", vm.context.target}, set()) and has(node, vm) == (128, 2)
        assert not (node.directory(vm) / "disk.2").exists()
        assert (node.one(fewer).changed, node.qemu(vm)) == (False, pid)


@in_world
def test_what_waits_comes_with_the_next_start_whoever_makes_it() -> None:
    with a_node() as node:
        vm = a_machine(node, "q35")
        node.one(vm)
        node.wait_for_boots(vm, 1)
        more = replace(vm, memory=64)
        later = node.one(more, waits=True)
        assert (later.state, later.changed, later.error, later.waits) == ("RUNNING", True, None, True)
        assert memory(node, vm) == (32, 64) and node.observed().vms[0].waits
        assert node.one(more, waits=True).changed is False
        # Its run goes on after it was saved.
        assert node.one(more, "SUSPENDED", waits=True).waits and node.observed().vms[0].waits
        assert node.one(more, waits=True).waits and node.observed().vms[0].waits
        assert memory(node, vm) == (32, 64)
        # Somebody starts it anew by hand.
        node.domain(vm).destroy()
        assert not node.observed().vms[0].waits
        node.domain(vm).create()
        node.wait_for_boots(vm, 2)
        assert not node.observed().vms[0].waits and memory(node, vm) == (64, 64)
        fewer = replace(vm, memory=48)
        assert node.one(fewer, waits=True).waits
        restarted = node.one(fewer, waits=True, operation="reboot", hard=True)
        assert (restarted.state, restarted.changed, restarted.error, restarted.waits) == ("RUNNING", True, None, False)
        assert memory(node, vm) == (48, 48) and not node.observed().vms[0].waits
        node.wait_for_boots(vm, 3)


def memory(node: Node, vm: Vm) -> tuple[int, int]:
    """The MiB with which the machine runs, and those of its definition."""
    texts = (node.domain(vm).XMLDesc(flags) for flags in (0, 2))
    return tuple(int(ET.fromstring(text).findtext("memory", "")) // 1024 for text in texts)
