# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs that are killed while they change a running machine of KVM, at each step of it, with a guest that lets devices
go: after the next run machine, definition and files agree, nothing is there twice, and nothing is left over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Plan
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Growth, Vm
from ansible_collections.nebula.provision.tests.integration.kvm_node import Node, a_node
from ansible_collections.nebula.provision.tests.integration.running_machines import (
    MIB,
    a_bridge,
    a_guest,
    a_nic,
    has,
    running,
    volatile,
)

# Carries a plan out, and ends like a killed process before or after it calls a function for the nth time.
APPLY = """
import json, os, sys
sys.path.append("/usr/lib/python3/dist-packages")
import libvirt
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import definition, fence, job
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.batch import Batch
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.kvm import KvmDriver
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.plan_outcomes import plan_for
root, place, name, when, left = sys.argv[1:]
of = {"domain": libvirt.virDomain, "connection": libvirt.virConnect, "disks": definition.machine_disks, "fence": fence}
real, left = getattr(of[place], name), int(left)
def called(*arguments, **named):
    global left
    left -= 1
    if left or when == "after":
        answer = real(*arguments, **named)
    if not left:
        os._exit(9)
    return answer
setattr(of[place], name, called)
Batch(plan_for(sys.stdin.read(), "node"), KvmDriver(), root, 2).apply()
"""
# What a run does in its turn: of which module or object, which function, and the how manieth time.
RECORDED = (("fence", "write_final_record", "before", 1), ("fence", "write_final_record", "after", 1))
DEFINED = (("connection", "defineXML", "before", 1), ("connection", "defineXML", "after", 1))
COMES = (
    ("disks", "prepare", "after", 1),
    ("domain", "attachDeviceFlags", "before", 1),
    ("domain", "attachDeviceFlags", "after", 1),
    ("domain", "attachDeviceFlags", "after", 2),
    *DEFINED,
    *RECORDED,
)
GROWS = (
    ("domain", "blockResize", "before", 1),
    ("domain", "blockResize", "after", 1),
    ("domain", "setVcpusFlags", "after", 1),
    *DEFINED,
    *RECORDED,
)
GOES = (
    ("domain", "detachDeviceFlags", "before", 1),
    ("domain", "detachDeviceFlags", "after", 1),
    ("domain", "detachDeviceFlags", "after", 2),
    *DEFINED,
    ("disks", "remove", "before", 1),
    ("disks", "remove", "after", 1),
    *RECORDED,
)


def killed(node: Node, plan: Plan, step: tuple[str, str, str, int]) -> bool:
    """Whether the run came so far."""
    done = subprocess.run(
        [sys.executable, "-c", APPLY, node.root, *map(str, step)],
        input=json.dumps(to_plain(plan)),
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        timeout=120,
    )
    assert done.returncode in (0, 9), done.stderr
    return done.returncode == 9


def agrees(node: Node, vm: Vm, disks: set[str], macs: set[str], files: set[str]) -> None:
    """The machine has just these while it runs, by its definition, and as files."""
    assert running(node, vm) == (disks, macs)
    defined = node.domain(vm).XMLDesc(2)
    assert all(f"dev='{each}'" in defined for each in disks) and defined.count("<disk ") == len(disks)
    assert all(each in defined for each in macs) and defined.count("<interface ") == len(macs)
    assert {path.name for path in node.directory(vm).glob("*disk*")} == files
    node.assert_consistent()


@in_world
@pytest.mark.parametrize("machine", ["q35", "pc"])
def test_a_run_that_is_killed_while_it_changes_a_running_machine(image: str, machine: str) -> None:
    with a_node() as node, a_bridge("br-live"):
        vm = a_guest(node, image, machine, growth=Growth(vcpu=3), vcpu=1)
        pid = node.qemu(vm)
        own = {"vda", vm.context.target if vm.context else ""}
        kept = {path.name for path in node.directory(vm).glob("*disk*")}
        more = replace(vm, disks=(*vm.disks, volatile(2, "vdb")), nics=(a_nic(0),))
        having = (own | {"vdb"}, {a_nic(0).mac}, kept | {"disk.2"})
        came = 0
        for step in COMES:
            came += killed(node, node.plan(more, refitted=True), step)
            assert node.one(more, refitted=True).error is None
            agrees(node, vm, *having)
            assert node.one(vm, refitted=True, detached=(2,), agreed=True).error is None
            agrees(node, vm, own, set(), kept)
        assert came == len(COMES)
        # Emulation takes no processor away: each step adds one until there are three, and then disks alone.
        node.one(more, refitted=True)
        grown = more
        for number, step in enumerate(GROWS):
            size, vcpu = 9 + number, min(3, (grown.vcpu or 1) + (step[1] in ("setVcpusFlags", "defineXML")))
            grown = replace(more, disks=(vm.disks[0], replace(more.disks[1], size=size)), vcpu=vcpu)
            assert killed(node, node.plan(grown, grown=(2,)), step) or vcpu == 3, step
            # What a killed run has done besides is foretold all the same.
            assert node.carry_out(node.plan(grown, grown=(2,)))[0].error is None
            assert (node.domain(vm).blockInfo("vdb")[0], has(node, vm)[1]) == (size * MIB, vcpu)
            agrees(node, vm, *having)
        less = replace(vm, vcpu=grown.vcpu)
        for step in GOES:
            assert killed(node, node.plan(less, refitted=True, detached=(2,), agreed=True), step), step
            assert node.one(less, refitted=True, detached=(2,), agreed=True).error is None
            agrees(node, vm, own, set(), kept)
            assert node.one(replace(more, vcpu=grown.vcpu), refitted=True).error is None
            agrees(node, vm, *having)
        assert node.qemu(vm) == pid
