# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InUse, TimedOut
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.domain_events import Removal
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.live_capacity import Resizing
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.live_device_changes import (
    MIB,
    DiskGrowth,
    LiveDeviceChanges,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.live_devices import Step
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.live_values import ValueChange
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk, DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm

LIBVIRT = SimpleNamespace(VIR_DOMAIN_AFFECT_LIVE=1, VIR_DOMAIN_BLOCK_RESIZE_BYTES=1, libvirtError=ValueError)
GOING = Step("NIC 1, detached", "<interface/>", "net1")


class LibvirtError(ValueError):
    def get_error_message(self) -> str:
        return str(self)


class Guest:
    """A domain, and the events of it. lets_go: it does so when asked."""

    disks = {"disk.0": "vda", "disk.2": "vdb"}

    def __init__(self, lets_go: bool = True, refuses: bool = False, error: str = "") -> None:
        self.lets_go, self.refuses, self.error = lets_go, refuses, error
        self.devices = ["net0", "net1"]
        self.did: list[Any] = []
        self.removal = Removal()
        self.processors, self.memory = 2, 512
        # What it comes to instead of what is asked for.
        self.gives: list[int] = []

    def setBlockIoTune(self, target: str, limits: dict[str, int], flags: int) -> None:
        self.did.append(("limits", target, limits, flags))

    setInterfaceParameters = setBlockIoTune

    def updateDeviceFlags(self, text: str, flags: int) -> None:
        self.did.append(("update", text, flags))
        if self.error:
            raise LibvirtError(self.error)

    def vcpusFlags(self, _flags: int) -> int:
        return self.processors

    def setVcpusFlags(self, number: int, _flags: int) -> None:
        self.did.append(("processors", number))
        self.processors = self.gives.pop(0) if self.gives else number
        if self.error:
            raise LibvirtError(self.error)

    def memoryStats(self) -> dict[str, int]:
        return {"actual": self.memory * 1024}

    def setMemoryFlags(self, kib: int, _flags: int) -> None:
        self.did.append(("memory", kib // 1024))
        self.memory = self.gives.pop(0) if self.gives else kib // 1024

    @contextlib.contextmanager
    def changed(self, uuid: str) -> Iterator[threading.Event]:
        assert uuid == "u"
        yield threading.Event()

    def UUIDString(self) -> str:
        return "u"

    def XMLDesc(self, _flags: int) -> str:
        return (
            "<domain><devices>"
            + "".join(f"<d><alias name='{n}'/></d>" for n in self.devices)
            + "".join(f"<disk><source file='/{path}'/><target dev='{dev}'/></disk>" for path, dev in self.disks.items())
            + "</devices></domain>"
        )

    def attachDeviceFlags(self, text: str, flags: int) -> None:
        self.did.append(("attach", text, flags))

    def detachDeviceFlags(self, text: str, flags: int) -> None:
        self.did.append(("detach", text, flags))
        if self.refuses:
            self.removal.refused = True
            self.removal.reported.set()
        elif self.lets_go:
            self.devices.remove("net1")
        if self.error:
            raise LibvirtError(self.error)

    def blockInfo(self, target: str) -> list[int]:
        return [{"vda": 8, "vdb": 4}[target] * MIB, 0, 0]

    def blockResize(self, target: str, size: int, flags: int) -> None:
        self.did.append(("resize", target, size, flags))

    @contextlib.contextmanager
    def removed(self, uuid: str, alias: str) -> Iterator[Removal]:
        assert (uuid, alias) == ("u", "net1")
        yield self.removal


def changes(guest: Guest, timeout: int = 0) -> LiveDeviceChanges:
    return LiveDeviceChanges(LIBVIRT, lambda: guest, guest, "changing it", timeout)


def test_devices_come_and_go_and_disks_become_larger() -> None:
    guest = Guest()
    changes(guest).carry_out([GOING, Step("DISK 2, attached", "<disk/>")], [DiskGrowth("DISK 0", "vda", 9)])
    assert guest.did == [("detach", "<interface/>", 1), ("attach", "<disk/>", 1), ("resize", "vda", 9 * MIB, 1)]


def test_only_disks_that_are_smaller_grow() -> None:
    # The last one is to be at another target than that with which its machine runs, and the running one counts.
    vm = Vm(1, "u", "web", "kvm", 1, 64, disks=(Disk(0, "vda", size=8), Disk(2, "vdx", size=8)))
    files = {disk_id: DiskFiles(f"/disk.{disk_id}", "raw") for disk_id in (0, 2)}
    found = changes(Guest()).smaller_than_wanted(vm, files, (0, 2))
    assert [(each.target, each.size) for each in found] == [("vdb", 8)]
    assert changes(Guest()).smaller_than_wanted(vm, files, ()) == []


@pytest.mark.parametrize(
    ("guest", "error", "words"),
    [
        (Guest(lets_go=False), TimedOut, "changing it: NIC 1, detached: its guest has not let it go within 0 s"),
        (Guest(refuses=True), InUse, "changing it: NIC 1, detached: its guest refuses to let it go"),
        (Guest(lets_go=False, error="net1 is already in the process of unplug"), TimedOut, "still has it"),
        (Guest(lets_go=False, error="not supported"), ValueError, "not supported"),
    ],
)
def test_a_guest_that_keeps_it_is_told_and_nothing_follows(guest: Guest, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        changes(guest).carry_out([GOING, Step("DISK 2, attached", "<disk/>")], [])
    assert [verb for verb, *_rest in guest.did] == ["detach"]


def test_one_that_is_gone_all_the_same_is_gone() -> None:
    guest = Guest(error="device not found")
    changes(guest).carry_out([GOING], [])
    assert guest.devices == ["net0"]


def test_memory_and_processors_become_what_they_are_to_be() -> None:
    guest = Guest()
    module = Step("128 MB of memory, added", "<memory/>")
    assert changes(guest).resize(Resizing(vcpu=3, modules=(module,)), removes=False)
    assert guest.did == [("processors", 3), ("attach", "<memory/>", 1)]
    assert changes(guest).resize(Resizing(balloon=768), removes=False)
    assert guest.did[2:] == [("memory", 768)]


@pytest.mark.parametrize(("balloon", "removes"), [(512, True), (256, False)])
def test_nothing_is_done_to_a_guest_that_has_it_or_may_keep_it(balloon: int, removes: bool) -> None:
    guest = Guest()
    assert not changes(guest).resize(Resizing(balloon=balloon), removes)
    assert not changes(guest).resize(Resizing(), removes)
    assert guest.did == []


def test_what_a_guest_gave_back_in_part_is_told() -> None:
    guest = Guest()
    guest.gives = [400]
    with pytest.raises(TimedOut, match=r"MEMORY = 256: its guest has 400 MB after 0 s, and had 512"):
        changes(guest).resize(Resizing(balloon=256), removes=True)
    guest = Guest(error="vcpu unplug request timed out")
    guest.processors, guest.gives = 4, [3]
    with pytest.raises(InUse, match=r"VCPU = 1: it runs with 3 processors, and gives no more of them back"):
        changes(guest).resize(Resizing(vcpu=1), removes=True)


def test_processors_that_came_all_the_same_are_no_error() -> None:
    guest = Guest(error="timed out")
    assert changes(guest).resize(Resizing(vcpu=1), removes=True)


def test_processors_that_can_not_come_are_libvirts_to_explain() -> None:
    guest = Guest(error="no such thing")
    guest.gives = [2]
    with pytest.raises(ValueError, match="no such thing"):
        changes(guest).resize(Resizing(vcpu=3), removes=False)


def test_values_are_set_where_they_belong() -> None:
    guest = Guest()
    changes(guest).set_values([
        ValueChange("disk", "vda", {"total_iops_sec": 3}),
        ValueChange("nic", "one-1-0", {"inbound.average": 4}),
        ValueChange("console", text="<graphics/>"),
    ])  # fmt: skip
    assert guest.did == [
        ("limits", "vda", {"total_iops_sec": 3}, 1),
        ("limits", "one-1-0", {"inbound.average": 4}, 1),
        ("update", "<graphics/>", 1),
    ]


def test_a_medium_is_changed_and_a_guest_that_keeps_it_is_told() -> None:
    step = Step("DISK 3, its medium", "<disk/>", medium=True)
    guest = Guest()
    changes(guest).carry_out([step], [])
    assert guest.did == [("update", "<disk/>", 1)]
    with pytest.raises(InUse, match="DISK 3, its medium: its guest keeps the tray closed"):
        changes(Guest(error="Device 'sdb' is locked and force was not specified")).carry_out([step], [])
    with pytest.raises(ValueError, match="no such file"):
        changes(Guest(error="no such file")).carry_out([step], [])
