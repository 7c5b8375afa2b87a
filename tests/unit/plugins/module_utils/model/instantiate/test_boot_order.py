# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine boots from: order, kernel, firmware."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate import boot_order
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.build import warnings_of_machine
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.demands import demands
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.validate import validate
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageType
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Tpm, Vm
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse


def test_kernel_from_files_and_from_images(machine: Callable[..., Vm]) -> None:
    vm = machine(
        'MEMORY = 1 OS = [ KERNEL = "/boot/vmlinuz", INITRD = "/boot/initrd", KERNEL_CMD = "quiet", ROOT = sda1 ]'
    )
    assert (vm.os.kernel, vm.os.initrd, vm.os.kernel_cmd, vm.os.root) == (
        "/boot/vmlinuz", "/boot/initrd", "quiet", "sda1",
    )  # fmt: skip
    text = "MEMORY = 1 DISK = [ IMAGE = data ]"
    text += 'OS = [ KERNEL_DS = "$FILE[IMAGE=\\"kernel\\"]", INITRD = $FILE[IMAGE_ID=10] ]'
    assert demands(parse(text)).images == ("data", None, "kernel", 10)
    vm = machine(text)
    assert (vm.os.kernel, vm.os.initrd) == ("/datastore/kernel", "/datastore/initrd")
    with pytest.raises(InvalidValue, match="image debian as KERNEL: it is of type OS"):
        machine('MEMORY = 1 OS = [ KERNEL_DS = "$FILE[IMAGE=\\"debian\\"]" ]')


@pytest.mark.parametrize(
    ("boot", "order"),
    [
        ("disk2,disk0", ("disk2", "disk0")),
        ("DISK0, NIC0", ("disk0", "nic0")),
        ("hd", ("disk0",)),
        ("cdrom,hd", ("disk2", "disk0")),
        ("hd,cdrom,network", ("disk0", "disk2", "nic0")),
        ("network,hd,disk0", ("nic0", "disk0")),
        ("", ()),
    ],
)
def test_boot_order(machine: Callable[..., Vm], boot: str, order: tuple[str, ...]) -> None:
    text = f"""MEMORY = 1 OS = [ BOOT = "{boot}" ]
        DISK = [ IMAGE = blank ] DISK = [ IMAGE = debian ] DISK = [ IMAGE = iso ] NIC = [ NETWORK = a ]"""
    old = bool({"hd", "cdrom", "network"} & set(boot.split(",")))
    assert [f"OS/BOOT = {boot} has words of older templates" in said for said in validate(parse(text))] == [True] * old
    vm = machine(text)
    assert vm.os.boot == order
    devices = {f"disk{d.disk_id}": d.boot_order for d in vm.disks} | {f"nic{n.nic_id}": n.boot_order for n in vm.nics}
    assert [device for device, at in sorted(devices.items(), key=lambda pair: pair[1]) if at] == list(order)


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        (
            "hd,cdrom,network",
            "hd as the first hard disk, cdrom as the first CDROM, network as the first NIC. Write the devices in order",
        ),
        ("HD,hd, nic0", "hd as the first hard disk. Write"),
        ("disk0,nic0", ""),
        ("", ""),
    ],
)
def test_words_of_older_templates_are_told(text: str, warned: str) -> None:
    template = parse(f'OS = [ BOOT = "{text}" ]')
    found = boot_order.doubts_of_boot(template, "kvm")
    assert [f"Taken here: {warned}" in said for said in found] == [True] * bool(warned)
    # A container has no order of devices, and that is what is told.
    assert boot_order.doubts_of_boot(template, "lxc") == []


def test_the_network_by_its_old_word_is_something_to_boot_from() -> None:
    (said,) = validate(parse('MEMORY = 1 NIC = [ NETWORK = a ] OS = [ BOOT = "network" ]'))
    assert "network as the first NIC" in said


def test_the_devices_that_older_words_stand_for_are_told_of_a_machine(machine: Callable[..., Vm]) -> None:
    text = """MEMORY = 1 OS = [ BOOT = "cdrom,network,hd" ]
        DISK = [ IMAGE = iso ] DISK = [ IMAGE = debian ] NIC = [ NETWORK = a ]"""
    vm = machine(text)
    (said,) = boot_order.doubts_of_boot(parse(text), "kvm", vm.os)
    assert said.endswith('Taken here: disk0,nic0,disk1. Write BOOT = "disk0,nic0,disk1"')
    assert [each for each in warnings_of_machine(parse(text), vm, {}) if "BOOT" in each] == [said]


@pytest.mark.parametrize(
    ("text", "order"),
    [("hd,cdrom,network", ("disk0",)), ("CDROM, network,hd", ("disk0",)), ("network,disk0", ("disk0",))],
)
def test_older_words_for_what_a_machine_has_not_are_passed_over(
    machine: Callable[..., Vm], text: str, order: tuple[str, ...]
) -> None:
    template = f'MEMORY = 1 DISK = [ IMAGE = debian ] OS = [ BOOT = "{text}" ]'
    (said,) = validate(parse(template))
    assert f"OS/BOOT = {text} has words of older templates" in said
    vm = machine(template)
    assert vm.os.boot == order
    (said,) = boot_order.doubts_of_boot(parse(template), "kvm", vm.os)
    assert said.endswith('Taken here: disk0. Write BOOT = "disk0"')


def test_no_machine_boots_from_a_floppy() -> None:
    text = 'MEMORY = 1 DISK = [ IMAGE = debian ] OS = [ BOOT = "fd,hd" ]'
    with pytest.raises(InvalidValue, match="BOOT = fd,hd: a machine has no floppy drive"):
        validate(parse(text))


def test_an_image_of_uefi_needs_acpi_too(machine: Callable[..., Vm], images: dict[str, Image]) -> None:
    text = "MEMORY = 1 DISK = [ IMAGE = uefi ] FEATURES = [ ACPI = NO ]"
    images["uefi"] = Image(12, "uefi", ImageType.OS, size=100, firmware="UEFI")
    try:
        with pytest.raises(InvalidValue, match=r"VM one-20: FEATURES: ACPI = NO: UEFI \(FIRMWARE = UEFI\) needs it"):
            machine(text)
        assert machine(text.replace("NO", "YES")).os.firmware == "UEFI"
    finally:
        del images["uefi"]


@pytest.mark.parametrize(
    ("model", "version", "known"),
    [("tpm-crb", "2.0", True), ("tpm-tis", "2.0", True), ("tpm-tis", "1.2", True), ("tpm-crb", "1.2", False)],
)
def test_only_the_older_interface_has_a_tpm_of_the_older_version(model: str, version: str, known: bool) -> None:
    template = parse(f"TPM = [ MODEL = {model}, VERSION = {version} ]")
    if known:
        assert boot_order.tpm_of(template, "x") == Tpm(model, version)
        return
    with pytest.raises(InvalidValue, match="has none such"):
        boot_order.tpm_of(template, "x")
