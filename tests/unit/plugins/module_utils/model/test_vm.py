# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine as it reaches a node: with every reference resolved."""

from __future__ import annotations

import dataclasses

import pytest
from carried import carried, unset

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.context import Context
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import from_plain, to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Alias, Nic
from ansible_collections.nebula.provision.plugins.module_utils.model.owner import Owner
from ansible_collections.nebula.provision.plugins.module_utils.model.system_snapshots import SystemSnapshot
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import (
    Graphics,
    Growth,
    HostDevice,
    Input,
    Iommu,
    MemoryEncryption,
    Numa,
    NumaNode,
    Os,
    Topology,
    Tpm,
    Video,
    Vm,
)

OS = Os("i686", "pc", ("disk0", "nic0"), "/k", "/i", "ro", "vda1", "pygrub", "UEFI", True, "sata", False)
GRAPHICS = Graphics("spice", "0.0.0.0", 5901, "hunter2", "de", True, True)
TPM = Tpm("tpm-tis", "1.2")
VM = Vm(
    vm_id=0,
    uuid="0a6f3c22-91c3-4d3f-8b58-0d1f0e2ac001",
    name="web",
    hypervisor="kvm",
    cpu=0.5,
    memory=512,
    vcpu=2,
    os=OS,
    disks=(Disk(0, "vda", image_id=0), Disk(1, "vdb", "SWAP")),
    nics=(Nic(0, 0, "lan", "br0", "02:00:0a:00:00:05"),),
    aliases=(Alias(1, 0, "lan", "br0", "02:00:0a:00:00:06"),),
    context=Context(2, "sda", variables={"PASSWORD": "hunter3"}),
    graphics=GRAPHICS,
    former="old",
    topology=Topology(1, 4, 1),
    growth=Growth(1024, 8, 16),
    hotplug_slots=24,
    hardware_version=1,
    video=Video("virtio", 16384, (1280, 720), True, True),
    iommu=Iommu("intel", {"eim": "on"}),
    numa=Numa("core", (NumaNode(2, 512, "1:30", (0, 1), 1),), 2, 1, 3, 2, "shared"),
    host_devices=(HostDevice("0000:01:00.0", "10de", "1eb8", "0302"),),
    encryption=MemoryEncryption("SEV", 256),
    fragments={"HYPERV_OPTIONS": "<relaxed state='on'/>"},
    container={"NUMPROC": "240"},
    inputs=(Input("tablet", "usb"),),
    tpm=TPM,
    features={"ACPI": "YES"},
    cpu_model={"MODEL": "host-passthrough"},
    cpu_limit=150,
    emulator="/usr/bin/kvm",
    raw={"kvm": "<x/>"},
    attributes={"TEAM": "a"},
    owner=Owner("ann", "104", "users", "1", {"KEY": "hunter4"}),
    next_disk=3,
    next_nic=2,
    system_snapshots=(SystemSnapshot(1, "before", True, 1_800_000_000, "ab", (0,), {"MEMORY": "64 MiB"}),),
)


@pytest.mark.parametrize(
    "value", [VM, OS, GRAPHICS, TPM, Input("tablet", "usb")], ids=lambda value: type(value).__name__
)
def test_a_machine_and_its_parts_are_carried_with_all_they_have(value: object) -> None:
    assert unset(value) == set()
    assert carried(value) == value


def test_a_machine_without_any_device_is_carried() -> None:
    bare = Vm(1, "", "web", "kvm", 1.0, 64)
    assert carried(bare) == bare
    assert (bare.vcpu, bare.context, bare.graphics, bare.tpm) == (None, None, None, None)


def test_a_part_of_a_processor_may_be_written_as_a_whole_one() -> None:
    data = {**to_plain(VM), "cpu": 2}
    assert from_plain(Vm, data).cpu == 2
    with pytest.raises(InvalidValue, match="Vm: memory: it is a float, not a int"):
        from_plain(Vm, {**to_plain(VM), "memory": 512.0})


def test_neither_passwords_nor_variables_are_shown_with_a_machine() -> None:
    assert "hunter" not in repr(VM)
    assert "web" in repr(VM)


def test_a_machine_is_not_changed_but_made_anew() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        VM.memory = 1024  # type: ignore[misc]
    assert dataclasses.replace(VM, memory=1024).disks is VM.disks


def test_a_console_that_says_nothing_is_seen_from_its_host_alone() -> None:
    assert (Graphics().listen, Graphics().port, Graphics().type) == ("127.0.0.1", 0, "vnc")
