# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines of KVM that run get and lose devices, memory, processors and values of them, with a real guest that has to
agree to it."""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from frames import Cable
from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.batch import Batch
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.forecast import predict
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.hotplug_slots import free_slots
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Graphics, Growth, Vm
from ansible_collections.nebula.provision.tests.integration.kvm_node import Node, a_node, wait_for
from ansible_collections.nebula.provision.tests.integration.node_namespaces import CATALOG
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
from ansible_collections.nebula.provision.tests.integration.test_switches import BRIDGE, host, network


@in_world
@pytest.mark.parametrize("machine", ["q35", "pc"])
def test_a_disk_and_a_nic_come_grow_and_go(image: str, machine: str) -> None:
    with a_node() as node, a_bridge("br-live"):
        vm = a_guest(node, image, machine)
        pid = node.qemu(vm)
        more = replace(vm, disks=(*vm.disks, volatile(2, "vdb")), nics=(a_nic(0),))
        came = node.one(more, refitted=True)
        assert (came.state, came.changed, came.error, came.fitted) == ("RUNNING", True, None, True)
        assert running(node, vm) == ({"vda", vm.context.target, "vdb"}, {a_nic(0).mac})
        assert node.one(more).changed is False
        larger = replace(more, disks=(vm.disks[0], replace(more.disks[1], size=12)))
        grown = node.one(larger, grown=(2,))
        assert (grown.changed, grown.error, grown.fitted) == (True, None, True)
        assert node.domain(vm).blockInfo("vdb")[0] == 12 * MIB
        # Nothing is taken without a word of its user.
        kept = node.one(vm, refitted=True, detached=(2,))
        assert (kept.error, kept.fitted) == (None, False)
        assert running(node, vm) == ({"vda", vm.context.target, "vdb"}, {a_nic(0).mac})
        assert (node.directory(vm) / "disk.2").exists()
        went = node.one(vm, refitted=True, detached=(2,), agreed=True)
        assert (went.state, went.changed, went.error, went.fitted) == ("RUNNING", True, None, True)
        assert running(node, vm) == ({"vda", vm.context.target}, set())
        assert not (node.directory(vm) / "disk.2").exists()
        assert (node.one(vm).changed, node.qemu(vm)) == (False, pid)


# What the guest itself has, again and again.
SEEN = (
    "while sleep 1; do echo seen cpus $(cat /sys/devices/system/cpu/present) "
    "memory $(awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo) "
    "blocks $(ls -d /sys/devices/system/memory/memory* | wc -l); done > /dev/console 2>&1 &"
)


def seen(node: Node, vm: Vm) -> tuple[str, int, int]:
    """The processors, the MiB and the blocks of memory, of 128 MiB, that the guest told of last."""
    found = re.findall(r"seen cpus (\S+) memory (\d+) blocks (\d+)", node.console(vm).rpartition("\n")[0])
    return (found[-1][0], int(found[-1][1]), int(found[-1][2])) if found else ("", 0, 0)


@in_world
@pytest.mark.parametrize("slots", [0, 2])
def test_memory_and_processors_come_and_go(image: str, slots: int) -> None:
    """Memory by a balloon, and by modules."""
    with a_node() as node:
        node.take(image)
        vm = a_machine(node, "q35", memory=256, vcpu=1, growth=Growth(memory=512, vcpu=3, slots=slots))
        assert vm.context is not None
        vm = replace(vm, context=replace(vm.context, variables={**vm.context.variables, "START_SCRIPT": SEEN}))
        node.one(vm)
        wait_for(lambda: "nebula-guest: ready" in node.console(vm), "the guest to be up", 120)
        wait_for(lambda: seen(node, vm)[0] == "0", "the guest to tell what it has", 60)
        had, blocks = seen(node, vm)[1:]
        wait_for(lambda: has(node, vm) == (256, 1), "the guest to have what it is to have", 60)
        pid = node.qemu(vm)
        larger = replace(vm, memory=384, vcpu=2)
        came = node.one(larger)
        assert (came.state, came.changed, came.error, came.waits) == ("RUNNING", True, None, False)
        assert has(node, vm) == (384, 2)
        wait_for(lambda: seen(node, vm)[0] == "0-1", "the guest to see the processor", 60)
        # It is for a guest to use the blocks of a module (memhp_default_state, or a rule of udev).
        wait_for(lambda: seen(node, vm)[2] > blocks if slots else seen(node, vm)[1] > had + 100, "the memory", 60)
        assert node.one(larger).changed is False
        # Nothing is taken without a word of its user.
        assert node.one(replace(larger, memory=256)).error is None
        assert has(node, vm) == (384, 2) and node.one(larger).error is None
        went = node.one(replace(larger, memory=256), agreed=True)
        assert (went.error, went.changed) == (None, True)
        assert has(node, vm) == (256, 2)
        wait_for(lambda: seen(node, vm)[1] < had + 28 and seen(node, vm)[2] == blocks, "memory to be given back", 60)
        whole = replace(vm, memory=512, vcpu=2)
        assert (node.one(whole).error, has(node, vm)) == (None, (512, 2))
        # Emulation takes no processor away, and may end if its guest lets it go after all.
        kept = node.one(replace(whole, vcpu=1), agreed=True)
        assert kept.error is not None and kept.error["kind"] == "InUse", kept.error
        assert "it runs with 2 processors" in kept.error["found"]
        assert has(node, vm) == (512, 2) and node.qemu(vm) == pid
        # With all that it may come to it is started, too.
        restarted = node.one(whole, waits=True, operation="reboot", hard=True)
        assert (restarted.error, restarted.state, has(node, vm)) == (None, "RUNNING", (512, 2))


@in_world
def test_a_guest_that_keeps_its_memory_costs_nothing_but_an_error() -> None:
    with a_node() as node:
        # It halts at once, and has no driver of a balloon.
        vm = a_machine(node, "q35", memory=64, growth=Growth(memory=128, slots=0))
        node.one(vm)
        node.detach_timeout = 2
        kept = node.one(replace(vm, memory=32), agreed=True)
        assert kept.error is not None and kept.error["kind"] == "TimedOut", kept.error
        assert "its guest has 128 MB after 2 s" in kept.error["found"]
        assert kept.state == "RUNNING"
        off = node.one(replace(vm, memory=32), "POWEROFF", hard=True)
        assert (off.state, off.error) == ("POWEROFF", None)


@in_world
def test_a_guest_that_keeps_a_device_costs_nothing_but_an_error() -> None:
    with a_node() as node, a_bridge("br-live"):
        # It halts at once, and answers nothing.
        vm = a_machine(node, "q35")
        more = replace(vm, disks=(*vm.disks, volatile(2, "vdb")), nics=(a_nic(0),))
        node.one(more)
        before = node.domain(vm).XMLDesc(2)
        node.detach_timeout = 2
        kept = node.one(vm, refitted=True, detached=(2,), agreed=True)
        assert kept.error is not None and kept.error["kind"] == "TimedOut", kept.error
        assert (kept.state, kept.fitted, kept.stays) == ("RUNNING", False, ("DISK 2", "NIC 0"))
        assert "still has it" in kept.error["found"] and "power it off" in kept.error["remedy"]
        assert running(node, vm)[1] == {a_nic(0).mac}
        assert (node.directory(vm) / "disk.2").exists()
        assert node.domain(vm).XMLDesc(2) == before
        off = node.one(vm, "POWEROFF", refitted=True, detached=(2,), hard=True)
        assert (off.state, off.error, off.fitted) == ("POWEROFF", None, True)
        assert not (node.directory(vm) / "disk.2").exists()


@in_world
def test_what_a_running_machine_cannot_have_is_refused_before_anything_is_done() -> None:
    with a_node() as node, a_bridge("br-live"):
        vm = a_machine(node, "q35")
        node.one(vm)
        before = running(node, vm)
        nics = tuple(a_nic(number) for number in range(12))
        full = node.one(replace(vm, nics=nics), refitted=True)
        assert full.error is not None and full.error["kind"] == "Unsupported"
        assert "free slots of PCI Express: 10 in this machine, 12 needed" in full.error["found"], full.error
        assert full.untouched and not full.changed and not full.fitted
        # Check mode says the same.
        plan = node.plan(replace(vm, nics=nics), refitted=True)
        (foreseen,) = predict(plan, node.observed(), node.driver, node.root)
        assert (foreseen.state, foreseen.changed, foreseen.error) == ("RUNNING", False, full.error)
        sata = node.one(replace(vm, nics=nics[:1], disks=(*vm.disks, volatile(2, "sdb", "sata"))), refitted=True)
        assert sata.error is not None and "on bus sata" in sata.error["found"] and sata.untouched
        assert running(node, vm) == before
        # A file of a disk that came is what a run left that was broken off.
        left = node.directory(vm) / "disk.2"
        left.touch()
        begun = node.one(replace(vm, disks=(*vm.disks, volatile(2, "sdb", "sata"))), refitted=True)
        assert begun.error is not None and not begun.untouched
        left.unlink()
        # So is a NIC that only the definition has, and the list no more: a run that was broken off has taken it.
        taken = "<interface type='bridge'><source bridge='br-live'/><target dev='one-1-15'/></interface>"
        defined = node.domain(vm).XMLDesc(2)
        node.domain(vm).attachDeviceFlags(taken, 2)
        assert not node.one(replace(vm, nics=nics), refitted=True).untouched
        node.driver._connection().defineXML(defined)
        # So is taking what can't be taken; nothing else of that plan is done either.
        other = replace(vm, vm_id=2, uuid=node.vm(2).uuid)
        assert node.one(replace(other, disks=(*vm.disks, volatile(2, "sdb", "sata")))).error is None
        fixed = node.one(other, refitted=True, detached=(2,), agreed=True)
        assert fixed.error is not None and "on bus sata" in fixed.error["found"] and fixed.stays == ("DISK 2",)
        assert node.one(other, "DONE", hard=True).error is None
        # What somebody has attached by hand stays.
        own = "<interface type='bridge'><source bridge='br-live'/><mac address='52:54:00:00:00:01'/></interface>"
        node.domain(vm).attachDeviceFlags(own, 1)
        assert node.one(replace(vm, nics=nics), refitted=True).untouched
        assert node.one(replace(vm, nics=nics[:2]), refitted=True).error is None
        assert running(node, vm)[1] == {"52:54:00:00:00:01", nics[0].mac, nics[1].mac}


@in_world
def test_limits_of_disks_and_the_password_of_the_console_change_at_once() -> None:
    """Limits of NICs are not among them: kernels of test machines have no modules for these."""

    def with_values(limits: dict[str, str], password: str) -> Vm:
        graphics = Graphics(type="vnc", listen="127.0.0.1", password=password)
        return replace(vm, disks=(replace(vm.disks[0], options=limits),), graphics=graphics)

    with a_node() as node:
        vm = a_machine(node, "q35")
        assert node.one(with_values({"TOTAL_IOPS_SEC": "500"}, "first")).error is None
        pid = node.qemu(vm)
        for limits, password in (
            ({"TOTAL_IOPS_SEC": "300", "TOTAL_IOPS_SEC_MAX": "600", "TOTAL_IOPS_SEC_MAX_LENGTH": "5"}, "second"),
            ({"READ_BYTES_SEC": "1048576", "WRITE_BYTES_SEC": "2097152", "WRITE_BYTES_SEC_MAX": "4194304"}, "second"),
            # libvirt would take away what it is not told again.
            ({"READ_BYTES_SEC": "3145728", "WRITE_BYTES_SEC": "2097152", "WRITE_BYTES_SEC_MAX": "4194304"}, "second"),
            ({}, "third"),
        ):
            changed = with_values(limits, password)
            outcome = node.one(changed)
            assert (outcome.error, outcome.changed, outcome.waits) == (None, True, False), outcome
            # As much as QEMU itself has, and no more.
            tuned = node.domain(vm).blockIoTune("vda")
            assert {key: tuned[key] for key in tuned if tuned[key] and not key.endswith(("_length", "_name"))} == {
                key.lower(): int(value) for key, value in limits.items() if not key.endswith("_LENGTH")
            }
            graphics = ET.fromstring(node.domain(vm).XMLDesc(1)).find("devices/graphics")
            assert graphics is not None and graphics.get("passwd") == password
            assert node.one(changed).changed is False
        assert node.qemu(vm) == pid


@in_world
@pytest.mark.parametrize("machine", ["q35", "pc"])
def test_a_medium_is_changed_ejected_and_put_in(machine: str) -> None:
    def with_medium(disk_id: int, name: str) -> Vm:
        file = Path(node.root) / "datastores/1" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(MIB))
        target = "hdb" if machine == "pc" else "sdb"
        disk = Disk(disk_id, target, type="CDROM", source=str(file), clone=False, readonly=True, format="raw")
        return replace(vm, disks=(*vm.disks, disk))

    def medium() -> str:
        (found,) = (
            each
            for each in ET.fromstring(node.domain(vm).XMLDesc(0)).iterfind("devices/disk")
            if each.find("target").get("dev") in ("hdb", "sdb")
        )
        return Path(found.find("source").get("file", "")).name if found.find("source") is not None else ""

    with a_node() as node:
        vm = a_machine(node, machine)
        assert node.one(with_medium(2, "one")).error is None and medium() == "one"
        pid = node.qemu(vm)
        kept = node.one(with_medium(3, "two"), refitted=True, detached=(2,))
        assert (kept.error, kept.fitted, medium()) == (None, False, "one")
        assert node.one(with_medium(2, "one"), refitted=True, detached=(3,)).fitted
        changed = node.one(with_medium(3, "two"), refitted=True, detached=(2,), agreed=True)
        assert (changed.error, changed.fitted, medium()) == (None, True, "two")
        ejected = node.one(vm, refitted=True, detached=(2, 3), agreed=True)
        assert (ejected.error, ejected.fitted, medium()) == (None, True, "")
        back = node.one(with_medium(4, "one"), refitted=True)
        assert (back.error, back.fitted, medium()) == (None, True, "one")
        assert node.one(with_medium(4, "one")).changed is False and node.qemu(vm) == pid


@in_world
def test_a_persistent_image_that_goes_is_let_go_by_the_machine() -> None:
    with a_node() as node:
        vm = a_machine(node, "q35")
        file = Path(node.root) / "datastores/1/own"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(MIB))
        own = Disk(2, "vdb", source=str(file), clone=False, save=True, format="raw")
        assert node.one(replace(vm, disks=(*vm.disks, own))).error is None
        # The guest, which has halted, keeps it until the machine is off.
        node.detach_timeout = 2
        kept = node.one(vm, refitted=True, detached=(2,), agreed=True)
        assert kept.error is not None and kept.error["kind"] == "TimedOut" and not kept.fitted, kept
        off = node.one(vm, "POWEROFF", refitted=True, detached=(2,), hard=True)
        assert (off.error, off.fitted, file.stat().st_size) == (None, True, MIB)


@in_world
@pytest.mark.parametrize("machine", ["q35", "pc"])
def test_reserved_slots_are_there_and_no_more(machine: str) -> None:
    with a_node() as node, a_bridge("br-live"):
        vm = a_machine(node, machine, hotplug_slots=32)
        assert node.one(vm).error is None
        free = free_slots(ET.fromstring(node.domain(vm).XMLDesc(0)))
        # What else a machine has, such as its channel, takes no more than is counted.
        # Bridges bring whole buses.
        assert free.express == 32 if machine == "q35" else 32 <= free.pci <= 64, free
        many = replace(vm, nics=tuple(a_nic(number) for number in range(32)))
        came = node.one(many, refitted=True)
        assert (came.error, came.fitted) == (None, True)
        assert len(running(node, vm)[1]) == 32


@in_world
def test_the_link_of_a_nic_goes_down_and_up_at_once() -> None:
    with a_node() as node, a_bridge("br-live"):
        vm = replace(a_machine(node, "q35"), nics=(a_nic(0),), hardware_version=1)
        assert node.one(vm).error is None
        pid = node.qemu(vm)
        for state in ("down", "up", "DOWN", ""):
            wanted = replace(vm, nics=(replace(vm.nics[0], options={"LINK": state} if state else {}),))
            assert node.one(wanted).error is None
            link = ET.fromstring(node.domain(vm).XMLDesc(0)).find("devices/interface/link")
            assert (link is not None and link.get("state") == "down") is (state.lower() == "down")
            again = node.one(wanted)
            assert (again.error, again.changed) == (None, False)
        assert node.qemu(vm) == pid


@in_world
def test_vlans_of_a_port_of_open_vswitch_change_at_once() -> None:
    with host() as switch, a_node() as node, contextlib.closing(Cable("eth1")):
        # Of the same site as the bridge.
        node.catalog, net = CATALOG, network(1, 10)
        node.switches = {"1": net["uuid"]}
        switch.ok(net)
        values = {"VN_MAD": "ovswitch", "VLAN_ID": "10"}
        nic = replace(a_nic(0), network_id=1, network="Net1", bridge=BRIDGE, network_values=values)
        vm = replace(a_machine(node, "q35"), nics=(nic,))
        started = node.one(vm)
        assert started.error is None, started.error
        pid = node.qemu(vm)
        for options, tag, trunks in (
            ({"VLAN_TAGGED_ID": "20,30"}, "10", "[10, 20, 30]"),
            ({"VLAN_TAGGED_ID": "40"}, "10", "[10, 40]"),
            ({}, "10", "[]"),
        ):
            wanted = replace(vm, nics=(replace(nic, options=options),))
            outcome = node.one(wanted)
            assert (outcome.error, outcome.changed) == (None, True)
            assert switch.vsctl("get", "Port", nic.target, "tag") == tag
            assert switch.vsctl("get", "Port", nic.target, "trunks") == trunks
            assert node.one(wanted).changed is False
        assert node.qemu(vm) == pid
        assert node.one(vm, "DONE", hard=True).error is None
        switch.ok(state="absent")


@in_world
def test_a_guest_that_keeps_a_device_holds_up_no_other_machine() -> None:
    with a_node() as node, a_bridge("br-live"):
        deaf = replace(a_machine(node, "q35"), nics=(a_nic(0),))
        other = replace(node.vm(2), context=deaf.context)
        node.bring(deaf, other)
        plan = node.plan(replace(deaf, nics=()), replace(other, disks=(*other.disks, volatile(2, "vdb"))))
        orders = {"refitted": True, "agreed": True}
        plan = replace(plan, vms=tuple(replace(each, **orders) for each in plan.vms))
        told: list[tuple[int, int]] = []
        # One machine is changed at a time.
        batch = Batch(plan, node.driver, node.root, threads=1, detach_timeout=8)
        kept, came = batch.apply(lambda done, failed, _total: told.append((done, failed)))
        assert kept.error is not None and kept.error["kind"] == "TimedOut" and came.error is None
        assert told == [(1, 0), (1, 1)]
        node.bring(deaf, wanted="DONE", hard=True)
        node.bring(other, wanted="DONE", hard=True)
