# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who ended a machine: its guest, or somebody else."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.batch import Batch
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.forecast import predict
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.poll import poll
from ansible_collections.nebula.provision.plugins.module_utils.install.next_step import MARK
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Os
from ansible_collections.nebula.provision.tests.integration.kvm_node import (
    Node,
    a_node,
    start_libvirtd,
    stop_libvirtd,
    wait_for,
)

ON_REBOOT = {"kvm": "<on_reboot>destroy</on_reboot>"}
# Boot sectors. Off: a word to the power management port, as ACPI has guests do it. Reset: by the chipset's register,
# and by the keyboard controller.
OFF = b"\xba\x04\x06\xb8\x00\x20\xef\xf4\xeb\xfd"
RESET = b"\xba\xf9\x0c\xb0\x06\xee\xf4\xeb\xfd"
KEYBOARD = b"\xb0\xfe\xe6\x64\xf4\xeb\xfd"


def _guest(node: Node, code: bytes) -> None:
    raw = f"{node.root}/other.raw"
    with Path(raw).open("wb") as file:
        file.write((code.ljust(510, b"\0") + b"\x55\xaa").ljust(1 << 20, b"\0"))
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, f"{node.root}/other.qcow2"], check=True)
    node.take(f"{node.root}/other.qcow2")
    os.unlink(raw)


def _seen(node: Node) -> tuple[str, str]:
    seen = node.observed().vms[0]
    return seen.state, seen.ended


@pytest.mark.parametrize("code", [OFF.hex(), RESET.hex(), KEYBOARD.hex()], ids=["off", "reset", "keyboard"])
@in_world
def test_a_guest_that_ends_its_machine(code: str) -> None:
    with a_node(audited=False) as node:
        _guest(node, bytes.fromhex(code))
        vm = node.vm(1, os=Os(machine="pc"), raw=ON_REBOOT)
        # It may have ended before the plan has.
        node.carry_out(node.plan(vm))
        wait_for(lambda: _seen(node) == ("POWEROFF", "guest"), "the guest to end its machine", 30)


@in_world
def test_a_libvirtd_that_was_restarted_has_not_forgotten() -> None:
    """Twice: what is not told any more is not made up."""
    with a_node(audited=False) as node:
        _guest(node, OFF)
        vm = node.vm(1, os=Os(machine="pc"), raw=ON_REBOOT)
        node.carry_out(node.plan(vm))
        wait_for(lambda: _seen(node) == ("POWEROFF", "guest"), "the guest to end its machine", 30)
        stop_libvirtd()
        start_libvirtd(node)
        assert _seen(node) == ("POWEROFF", "guest")
        os.unlink("/var/log/libvirt/qemu/one-1.log")
        assert _seen(node) == ("POWEROFF", "unknown")


@in_world
def test_an_installer_is_not_started_again_by_whoever_carries_the_plan_out() -> None:
    with a_node(audited=False) as node:
        _guest(node, OFF)
        vm = node.vm(1, os=Os(machine="pc"), raw=ON_REBOOT, attributes={MARK: "debian"})
        plan = node.plan(vm)
        node.carry_out(plan)
        wait_for(lambda: _seen(node) == ("POWEROFF", "guest"), "the guest to end its machine", 30)
        starts = Path("/var/log/libvirt/qemu/one-1.log").read_bytes().count(b": starting up libvirt")
        (foreseen,) = predict(plan, poll(node.driver, node.root, "node"), node.driver, node.root)
        (came,) = Batch(plan, node.driver, node.root).apply()
        assert (came.state, came.changed, came.error) == ("POWEROFF", False, None)
        assert (foreseen.state, foreseen.changed) == ("POWEROFF", False)
        assert Path("/var/log/libvirt/qemu/one-1.log").read_bytes().count(b": starting up libvirt") == starts == 1
        # Somebody has decided that it is to run once more.
        (anew,) = Batch(node.plan(vm), node.driver, node.root).apply()
        assert (anew.state, anew.changed) == ("RUNNING", True)


def _terminated(node: Node, vm: Any) -> None:
    os.kill(node.qemu(vm), signal.SIGTERM)


def _destroyed(node: Node, vm: Any) -> None:
    node.domain(vm).destroy()


def _killed(node: Node, vm: Any) -> None:
    os.kill(node.qemu(vm), signal.SIGKILL)


@pytest.mark.parametrize("how", ["destroyed", "killed", "terminated", "cancelled"])
@in_world
def test_a_machine_that_somebody_else_ends(how: str) -> None:
    with a_node(audited=False) as node:
        vm = node.vm(1, raw=ON_REBOOT)
        node.one(vm)
        assert _seen(node) == ("RUNNING", "")
        ways: dict[str, Callable[[Node, Any], None]] = {
            "destroyed": _destroyed,
            "killed": _killed,
            "terminated": _terminated,
        }
        if how in ways:
            ways[how](node, vm)
        else:
            node.one(vm, "POWEROFF", hard=True)
        wait_for(lambda: _seen(node)[0] == "POWEROFF", "the end of the machine", 30)
        assert _seen(node) == ("POWEROFF", "")
