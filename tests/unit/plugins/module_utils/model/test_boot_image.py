# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine is what the system on its disk was installed with, or somebody hears of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.build import build, warnings_of_machine
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageType
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse


def machine(text: str, *images: Image, hypervisor: str = "kvm") -> tuple[Vm, list[str]]:
    template = parse("MEMORY = 64\n" + text)
    by_disk = dict(enumerate(images))
    vm = build(template, vm_id=1, uuid="u", name="m", hypervisor=hypervisor, images=by_disk, nics=[])
    return vm, warnings_of_machine(template, vm, by_disk)


def system(**facts: Any) -> Image:
    return Image(1, "sys", ImageType.OS, size=10, format="qcow2", **facts)


DATA = Image(2, "data", ImageType.DATABLOCK, size=10, firmware="UEFI")
ISO = Image(3, "iso", ImageType.CDROM, size=10)
DISK = "DISK = [ IMAGE = sys ]\n"


@pytest.mark.parametrize(
    ("image", "os", "expected"),
    [
        ("", "", ("", False)),
        ("BIOS", "", ("", False)),
        ("BIOS", "FIRMWARE = BIOS", ("BIOS", False)),
        ("UEFI", "", ("UEFI", False)),
        ("UEFI", "FIRMWARE = EFI", ("EFI", False)),
        ("UEFI", 'FIRMWARE = "/usr/share/OVMF/OVMF_CODE.fd"', ("/usr/share/OVMF/OVMF_CODE.fd", False)),
        ("UEFI", "FIRMWARE = UEFI, FIRMWARE_SECURE = YES", ("UEFI", True)),
        ("UEFI_SECURE", "", ("UEFI", True)),
        ("UEFI_SECURE", 'FIRMWARE_SECURE = "NO"', ("UEFI", False)),
        ("UEFI_SECURE", "FIRMWARE = UEFI", ("UEFI", False)),
        ("", "FIRMWARE = UEFI", ("UEFI", False)),
        # The kernel is not on the disk, and so the disk's firmware is none of its business.
        ("UEFI", "KERNEL = /k", ("", False)),
    ],
)
def test_the_images_firmware_where_the_template_says_none(image: str, os: str, expected: tuple[str, bool]) -> None:
    vm, said = machine(DISK + (f"OS = [ {os} ]" if os else ""), system(firmware=image))
    assert (vm.os.firmware, vm.os.firmware_secure) == expected
    assert said == []


@pytest.mark.parametrize(
    ("image", "os", "found"),
    [
        ("UEFI", "FIRMWARE = BIOS", "was installed with UEFI"),
        ("UEFI_SECURE", "FIRMWARE = bios", "was installed with UEFI"),
        ("BIOS", "FIRMWARE = UEFI", "was installed with BIOS"),
        ("BIOS", 'FIRMWARE = "/usr/share/OVMF/OVMF_CODE.fd"', "was installed with BIOS"),
        ("UEFI_SECURE", "MACHINE = pc", "can't protect"),
    ],
)
def test_another_firmware_is_refused(image: str, os: str, found: str) -> None:
    with pytest.raises(InvalidValue) as error:
        machine(DISK + f"OS = [ {os} ]", system(firmware=image))
    assert "image sys" in error.value.found
    assert found in error.value.found
    assert error.value.remedy


def test_the_firmware_is_that_of_the_disk_that_boots() -> None:
    two = "DISK = [ IMAGE = iso ]\nDISK = [ IMAGE = data ]\nDISK = [ IMAGE = sys ]\n"
    images = (ISO, DATA, system(firmware="UEFI_SECURE"))
    assert machine(two, *images)[0].os.firmware_secure
    # A blank disk and an installer: nothing is installed yet, whatever the blank one was called.
    installing = 'DISK = [ IMAGE = iso ]\nDISK = [ IMAGE = data ]\nOS = [ BOOT = "disk1,disk0" ]'
    vm, _said = machine(installing, ISO, DATA)
    assert vm.os.firmware == ""
    first, second = system(firmware="BIOS"), system(firmware="UEFI")
    both = "DISK = [ IMAGE = a ]\nDISK = [ IMAGE = b ]\n"
    assert machine(both, first, second)[0].os.firmware == ""
    assert machine(both + "OS = [ BOOT = disk1 ]", first, second)[0].os.firmware == "UEFI"


@pytest.mark.parametrize(
    ("bus", "machine_type", "target"),
    [("virtio", "q35", "vda"), ("scsi", "q35", "sda"), ("sata", "q35", "sda"), ("ide", "pc", "hda")],
)
def test_the_images_bus_where_the_template_says_none(bus: str, machine_type: str, target: str) -> None:
    vm, said = machine(DISK + f"OS = [ MACHINE = {machine_type} ]", system(bus=bus))
    assert (vm.disks[0].target, vm.disks[0].bus) == (target, bus)
    assert said == []


def test_ide_on_a_machine_without_it_is_refused() -> None:
    with pytest.raises(InvalidValue, match="no IDE"):
        machine(DISK, system(bus="ide"))


@pytest.mark.parametrize("disk", ["DEV_PREFIX = sd", "TARGET = sda", "BUS = sata"])
def test_another_bus_is_told_and_for_windows_refused(disk: str) -> None:
    text = f"DISK = [ IMAGE = sys, {disk} ]"
    _vm, said = machine(text, system(bus="virtio"))
    assert len(said) == 1
    assert "installed on virtio" in said[0]
    windows = system(bus="virtio", attributes={"GUEST_OS": "Windows 2022"})
    for more, image in ((text, windows), (text + "\nFEATURES = [ HYPERV = YES ]", system(bus="virtio"))):
        with pytest.raises(InvalidValue) as error:
            machine(more, image)
        assert "FORCE_BUS" in error.value.remedy
    vm, said = machine(f"DISK = [ IMAGE = sys, {disk}, FORCE_BUS = YES ]", windows)
    assert said == []
    assert "FORCE_BUS" not in vm.disks[0].options
    assert machine(f"DISK = [ IMAGE = sys, {disk} ]", system())[1] == []


def test_xen_takes_the_firmware_where_its_machine_has_one() -> None:
    disk = "DISK = [ IMAGE = sys, TARGET = xvda ]\n"
    vm, said = machine(disk, system(firmware="UEFI", bus="virtio"), hypervisor="xen")
    assert (vm.os.firmware, said) == ("UEFI", [])
    vm, said = machine(disk + "OS = [ KERNEL = /k ]", system(firmware="UEFI"), hypervisor="xen")
    assert (vm.os.firmware, said) == ("", [])
    with pytest.raises(InvalidValue) as error:
        machine(disk, system(firmware="UEFI_SECURE"), hypervisor="xen")
    assert "image sys" in str(error.value) and "secure boot" in str(error.value) and "KVM" in str(error.value)


def test_only_trusted_images_are_read_on_the_host_itself() -> None:
    text = "DISK = [ IMAGE = sys ]\nOS = [ BOOTLOADER = pygrub ]"
    assert machine(text, system(attributes={"TRUSTED": "yes"}), hypervisor="xen")[0].os.bootloader == "pygrub"
    with pytest.raises(InvalidValue, match="written to since"):
        machine(text, system(attributes={"TRUSTED": "yes"}, generation=3), hypervisor="xen")
    for attributes in ({}, {"TRUSTED": "no"}):
        with pytest.raises(InvalidValue) as error:
            machine(text, system(attributes=attributes), hypervisor="xen")
        assert "image sys is not marked as trusted" in str(error.value) and "TRUSTED" in error.value.remedy
    second = "DISK = [ IMAGE = data ]\n" + text.replace("pygrub", "pygrub, BOOT = disk1")
    assert machine(second, DATA, system(attributes={"TRUSTED": "YES"}), hypervisor="xen")[0].os.bootloader
    with pytest.raises(InvalidValue, match="image data is not marked"):
        machine(second.replace("disk1", "disk0"), DATA, system(attributes={"TRUSTED": "YES"}), hypervisor="xen")


def test_other_hypervisors_have_no_firmware_to_choose() -> None:
    root = dataclasses.replace(system(firmware="UEFI", bus="virtio"), format="tar")
    vm, said = machine("DISK = [ IMAGE = sys, TARGET = sda ]", root, hypervisor="lxc")
    assert (vm.os.firmware, said) == ("", [])
