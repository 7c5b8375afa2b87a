# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Targets and buses of disks and of the context."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm

PC = "OS = [ MACHINE = pc ]\n"
TARGETS = {
    "q35": ("DISK = [ IMAGE = debian ] DISK = [ IMAGE = iso ] CONTEXT = []", ["vda", "sda", "sdb"]),
    "pc": (PC + "DISK = [ IMAGE = debian ] DISK = [ IMAGE = iso ] CONTEXT = []", ["vda", "hda", "hdb"]),
    "the first OS disk comes first": (
        "DISK = [ IMAGE = blank ] DISK = [ IMAGE = iso ] DISK = [ IMAGE = second ] CONTEXT = []",
        ["sdd", "sdb", "sda", "sdc"],
    ),
    "a second OS disk waits like the others": (
        "DISK = [ IMAGE = blank ] DISK = [ IMAGE = second ] DISK = [ IMAGE = second ]",
        ["sdb", "sda", "sdc"],
    ),
    "explicit targets are taken": (
        "DISK = [ IMAGE = second ] DISK = [ IMAGE = blank, TARGET = sda ] CONTEXT = [ TARGET = sdb ]",
        ["sdc", "sda", "sdb"],
    ),
    "prefixes count by themselves": (
        "DISK = [ IMAGE = debian ] DISK = [ IMAGE = data ] DISK = [ IMAGE = second, DEV_PREFIX = vd ]",
        ["vda", "vdb", "vdc"],
    ),
    "the disk's prefix beats the image's": ("DISK = [ IMAGE = debian, DEV_PREFIX = sd ]", ["sda"]),
    "the context's own prefix": (PC + "DISK = [ IMAGE = second ] CONTEXT = [ DEV_PREFIX = sd ]", ["sda", "sdb"]),
    "volatile disks": (
        "DISK = [ IMAGE = debian ] DISK = [ TYPE = swap, SIZE = 1 ] DISK = [ TYPE = fs, SIZE = 1, DEV_PREFIX = vd ]",
        ["vda", "sda", "vdb"],
    ),
    "the context as a disk": (
        "DISK = [ IMAGE = debian ] DISK = [ IMAGE = iso ] CONTEXT = [] CONTEXT_DEVICE = Disk",
        ["vda", "sda", "sdb"],
    ),
    "the context as a disk, where it is": (
        PC + "DISK = [ IMAGE = debian ] CONTEXT = [ TARGET = sdc ] CONTEXT_DEVICE = disk",
        ["vda", "sdc"],
    ),
    "Xen's word for CDROM": ("DISK = [ IMAGE = debian ] CONTEXT = [ TARGET = xvdc:cdrom ]", ["xvda", "xvdc"]),
    "Xen's word for CDROM, elsewhere": ("DISK = [ IMAGE = debian ] CONTEXT = [ TARGET = xvdc:cdrom ]", ["vda", "sdc"]),
    "Xen: the names of others are its own": (
        "DISK = [ IMAGE = debian ] DISK = [ IMAGE = iso ] DISK = [ IMAGE = second, TARGET = vdb ] CONTEXT = []",
        ["xvda", "xvdc", "xvdb", "xvdd"],
    ),
    "Xen: no emulated disk is read-only": (
        "DISK = [ IMAGE = debian ] CONTEXT = [] CONTEXT_DEVICE = disk",
        ["xvda", "xvde"],
    ),
    "Xen: a machine without firmware has none that is emulated": (
        'OS = [ BOOTLOADER = "pygrub" ] DISK = [ IMAGE = trusted ] CONTEXT = [] CONTEXT_DEVICE = disk',
        ["xvda", "xvdb"],
    ),
    "the names of Xen's disks": ("DISK = [ IMAGE = debian, TARGET = xvdb ] CONTEXT = []", ["vdb", "sda"]),
}


@pytest.mark.parametrize("case", TARGETS)
def test_targets(targets: Callable[..., list[str]], case: str) -> None:
    text, expected = TARGETS[case]
    assert (
        targets(text, hypervisor="xen" if case.startswith("Xen:") or case == "Xen's word for CDROM" else "kvm")
        == expected
    )


def test_targets_go_on_behind_z(targets: Callable[..., list[str]]) -> None:
    text = "DISK = [ IMAGE = debian ]\n" + "DISK = [ TYPE = swap, SIZE = 1, DEV_PREFIX = vd ]\n" * 28
    assert targets(text)[24:] == ["vdy", "vdz", "vdaa", "vdab", "vdac"]


def test_buses(machine: Callable[..., Vm]) -> None:
    text = "MEMORY = 1 DISK = [ IMAGE = second ] DISK = [ IMAGE = iso ] CONTEXT = []"
    vm = machine(text + ' OS = [ SD_DISK_BUS = "sata" ]')
    assert [disk.bus for disk in vm.disks] == ["sata", "sata"]
    vm = machine(text + " OS = [ MACHINE = pc-i440fx-7.2 ]")
    assert [disk.bus for disk in vm.disks] == ["scsi", "ide"]
    vm = machine(text + " OS = [ MACHINE = pc-q35-7.2 ]")
    assert [disk.bus for disk in vm.disks] == ["scsi", "scsi"]
    vm = machine("MEMORY = 1 DISK = [ IMAGE = second, TARGET = sda, BUS = usb ] CONTEXT = [ TARGET = hda ]")
    assert (vm.disks[0].bus, vm.context and vm.context.bus) == ("usb", "sata")


@pytest.mark.parametrize(
    ("disks", "devices"),
    [
        ("DISK = [ IMAGE = debian, DEV_PREFIX = hd, BUS = scsi ]", ["hda scsi", "sdb scsi"]),
        ("DISK = [ IMAGE = debian, DEV_PREFIX = vd, BUS = scsi ]", ["vda scsi", "sdb scsi"]),
        ("DISK = [ IMAGE = debian, DEV_PREFIX = hd ] OS = [ SD_DISK_BUS = sata ]", ["hda sata", "sdb sata"]),
        ("DISK = [ IMAGE = second, BUS = ide ] OS = [ MACHINE = pc ]", ["sda ide", "hdb ide"]),
        ("DISK = [ IMAGE = debian, DEV_PREFIX = vd ]", ["vda virtio", "sda scsi"]),
        (
            "DISK = [ IMAGE = debian, DEV_PREFIX = hd, BUS = virtio ] DISK = [ IMAGE = debian ]",
            ["hda virtio", "vdb virtio", "sda scsi"],
        ),
        ("DISK = [ IMAGE = second, BUS = usb ]", ["sda usb", "sdb scsi"]),
    ],
)
def test_a_letter_is_one_address_on_its_bus(machine: Callable[..., Vm], disks: str, devices: list[str]) -> None:
    vm = machine(f"MEMORY = 1 {disks} CONTEXT = [ A = 1 ]")
    assert vm.context is not None
    assert [f"{each.target} {each.bus}" for each in (*vm.disks, vm.context)] == devices
