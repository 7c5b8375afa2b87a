# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What machines really take of a host, and what others leave: real QEMU processes, measured."""

from __future__ import annotations

import os
import sys
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import domain_xml
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.kvm import KvmDriver
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.kvm_overhead import EMULATED
from ansible_collections.nebula.provision.tests.integration.kvm_node import Node, a_node, wait_for

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))


@pytest.mark.timeout(300)
@in_world
def test_a_machine_takes_no_more_than_it_is_counted_with() -> None:
    """The guest is overhead.s, which fills whatever an emulator keeps. A machine whose guest hangs in KVM is a process
    all the same."""
    import overhead

    for case in (("busy", "qemu", "pc", 64, 1, True), ("halts", "kvm", "q35", 512, 2, True)):
        with a_node() as node:
            vm = overhead.start(node, 1, case)
            pid = node.qemu(vm)
            if case[1] == "qemu":
                assert f"tb-size={domain_xml.TRANSLATED}" in Path(f"/proc/{pid}/cmdline").read_text()
                # As much again as it keeps translated was met: from then on it throws away what is old.
                wait_for(lambda pid=pid: overhead.overhead(pid)[0] > domain_xml.TRANSLATED, "a full cache", 200)
            bound = KvmDriver.overhead(case[1]).of(vm.memory, vm.vcpu)
            assert overhead.overhead(pid)[0] <= bound


def foreign(node: Node, name: str, memory: int, running: bool = True) -> Any:
    """A domain that nobody here knows of."""
    xml = f"""<domain type='qemu'><name>{name}</name><uuid>{uuid.uuid4()}</uuid><memory unit='MiB'>{memory}</memory>
        <os><type arch='x86_64' machine='pc'>hvm</type></os><on_reboot>destroy</on_reboot>
        <devices><emulator>/usr/bin/qemu-system-x86_64</emulator></devices></domain>"""
    domain = node.driver._connection().defineXML(xml)
    if running:
        domain.create()
    return domain


@pytest.mark.timeout(300)
@in_world
def test_memory_that_others_hold() -> None:
    with a_node() as node:
        foreign(node, "off", 256, running=False)
        assert node.observed().foreign_memory == 0
        one = foreign(node, "one-0", 64)
        each = 64 + EMULATED.of(64, 1)
        assert node.observed().foreign_memory == each
        held = node.observed().foreign_memory

        # Started between the poll and the plan's coming: what does not fit is not begun, what does fit goes on.
        two = foreign(node, "two", 64)
        small, large = node.vm(1), node.vm(2, memory=4096)
        cost = small.memory + EMULATED.of(small.memory, small.vcpu)
        limit = 2 * each + cost + 1
        plan = replace(node.plan(small, large), memory=limit, foreign_memory=held)
        outcomes = node.carry_out(plan)
        assert [outcome.state for outcome in outcomes] == ["RUNNING", "PROLOG_FAILURE"]
        error = outcomes[1].error
        assert error is not None and error["kind"] == "NoCapacity"
        assert error["asked"] == f"virtual machine web-2: 4096 MiB + {EMULATED.of(4096, 1)} MiB overhead"
        assert f"MiB left of {limit}: machines that are not this catalog's were started" in error["found"]
        assert not os.path.exists(node.directory(large) / "disk.0")
        assert {domain.name() for domain in node.driver._connection().listAllDomains()} == {
            "off",
            "one-0",
            "two",
            "one-1",
        }

        # As it was when it was decided: nothing more is asked.
        two.destroy()
        tight = replace(node.plan(small, replace(large, memory=32)), memory=1, foreign_memory=held)
        assert [outcome.state for outcome in node.carry_out(tight)] == ["RUNNING", "RUNNING"]
        assert one.isActive()

        # Made anew, a machine has its own room; without enough, it is refused before anything of it is gone.
        again = foreign(node, "three", 64)
        boots, disk = node.boots(small), (node.directory(small) / "disk.0").stat().st_ino
        foreign_now = node.observed().foreign_memory
        for room, state, kept in ((foreign_now + cost - 1, "RUNNING", True), (foreign_now + cost, "RUNNING", False)):
            plan = replace(node.plan(small, operation="recreate"), memory=room + (32 + EMULATED.of(32, 1)))
            (outcome,) = node.carry_out(replace(plan, foreign_memory=held))
            assert (outcome.state, outcome.error is None) == (state, not kept), outcome
            if outcome.error is not None:
                assert outcome.error["kind"] == "NoCapacity"
                assert (node.directory(small) / "disk.0").stat().st_ino == disk and node.boots(small) == boots
        assert again.isActive()
