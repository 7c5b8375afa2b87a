# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines of KVM that run, and what they have as they run."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Nic
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Os, Vm
from ansible_collections.nebula.provision.tests.integration.kvm_node import Node, wait_for

MIB = 1 << 20


@contextmanager
def a_bridge(name: str) -> Iterator[None]:
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "link", "delete", name], check=True)


def a_guest(node: Node, image: str, machine: str, **changes: Any) -> Vm:
    """A machine whose guest is up."""
    node.take(image)
    vm = a_machine(node, machine, **{"memory": 128, **changes})
    node.one(vm)
    wait_for(lambda: "nebula-guest: ready" in node.console(vm), "the guest to be up", 120)
    return vm


def a_machine(node: Node, machine: str, **changes: Any) -> Vm:
    vm = node.vm(1, os=Os(machine=machine), **changes)
    return replace(vm, context=replace(vm.context, target="hda" if machine == "pc" else "sda"))


def volatile(disk_id: int, target: str, bus: str = "") -> Disk:
    return Disk(disk_id=disk_id, target=target, type="FS", size=8, format="raw", driver="raw", bus=bus)


def a_nic(nic_id: int) -> Nic:
    mac = f"02:00:0a:42:00:{nic_id:02x}"
    where = {"network_id": 0, "network": "net", "bridge": "br-live"}
    return Nic(nic_id=nic_id, mac=mac, target=f"one-1-{nic_id}", model="virtio", **where)


def running(node: Node, vm: Vm) -> tuple[set[str], set[str]]:
    """The targets of disks and the MAC addresses that the machine has while it runs."""
    domain = ET.fromstring(node.domain(vm).XMLDesc(0))
    disks = {each.get("dev", "") for each in domain.iterfind("devices/disk/target")}
    return disks, {each.get("address", "") for each in domain.iterfind("devices/interface/mac")}


def has(node: Node, vm: Vm) -> tuple[int, int]:
    """The MiB and processors that the guest has."""
    domain = node.domain(vm)
    return int(domain.memoryStats()["actual"]) // 1024, domain.vcpusFlags(1)
