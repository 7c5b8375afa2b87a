# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine boots from: order, kernel, firmware."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate import boot
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.demands import demands
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.validate import validate
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageType
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Tpm, Vm
from ansible_collections.nebula.provision.plugins.module_utils.text.template import parse


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
        ("network,hd,disk0", ("nic0", "disk0")),
        ("", ()),
    ],
)
def test_boot_order(machine: Callable[..., Vm], boot: str, order: tuple[str, ...]) -> None:
    text = f"""MEMORY = 1 OS = [ BOOT = "{boot}" ]
        DISK = [ IMAGE = blank ] DISK = [ IMAGE = debian ] DISK = [ IMAGE = iso ] NIC = [ NETWORK = a ]"""
    assert validate(parse(text)) == []
    vm = machine(text)
    assert vm.os.boot == order
    devices = {f"disk{d.disk_id}": d.boot_order for d in vm.disks} | {f"nic{n.nic_id}": n.boot_order for n in vm.nics}
    assert [device for device, at in sorted(devices.items(), key=lambda pair: pair[1]) if at] == list(order)


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
        assert boot.tpm_of(template, "x") == Tpm(model, version)
        return
    with pytest.raises(InvalidValue, match="has none such"):
        boot.tpm_of(template, "x")
