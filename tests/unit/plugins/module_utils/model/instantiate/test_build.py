# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From templates to machines.
tests/fixtures/oned: templates that were given to a real OpenNebula 7.4, and what its deployment files for KVM show."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.build import build
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Input, Vm
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

ONED = Path(__file__).parents[5] / "fixtures" / "oned"
FACTS = json.loads((ONED / "machines.json").read_text())
DEBIAN = "MEMORY = 128\nDISK = [ IMAGE = debian ]\n"
UUID = "01234567-89ab-4cde-8f01-23456789abcd"
PC = "OS = [ MACHINE = pc ]\n"


@pytest.mark.parametrize("case", FACTS["machines"])
def test_machine_is_as_opennebula_makes_it(machine: Callable[..., Vm], case: str) -> None:
    seen = FACTS["machines"][case]
    template = parse((ONED / f"{case}.tmpl").read_text())
    vm = machine(template, vm_id=seen["vm_id"], vnc_port=seen["graphics"]["port"])
    assert (vm.vcpu, vm.memory, vm.os.machine, vm.os.arch) == (seen["vcpu"], seen["memory"], seen["machine"], "x86_64")
    assert vm.cpu * 1024 == seen["shares"]
    assert vm.context is not None
    assert vm.context.disk_id == len(vm.disks) == len(seen["disks"]) - 1
    ours = [
        {
            "device": "cdrom" if disk.type == "CDROM" else "disk",
            "target": disk.target,
            "readonly": disk.readonly,
            "driver": disk.driver,
            "order": disk.boot_order,
        }
        for disk in vm.disks
    ]
    ours.append({"device": "cdrom", "target": vm.context.target, "readonly": True, "driver": "raw", "order": 0})
    assert ours == [{key: disk[key] for key in ours[0]} for disk in seen["disks"]]
    assert [disk.disk_id for disk in vm.disks] == list(range(len(vm.disks)))
    for bus, disk in zip([d.bus for d in vm.disks] + [vm.context.bus], seen["disks"]):
        # No bus is SCSI by the target's name. A CDROM sda of ours is there too (a real oned puts it on SATA).
        assert bus == ("scsi" if disk["target"].startswith("sd") else disk["bus"])
    assert [(nic.target, nic.boot_order) for nic in vm.nics] == [(n["target"], n["order"]) for n in seen["nics"]]
    assert [nic.model or "virtio" for nic in vm.nics] == [n["model"] for n in seen["nics"]]
    assert vm.graphics is not None
    assert {key: getattr(vm.graphics, key) for key in seen["graphics"]} == seen["graphics"]


def test_everything_else_of_the_big_template(machine: Callable[..., Vm]) -> None:
    vm = machine(parse((ONED / "02-boot-disks-nics.tmpl").read_text()))
    assert vm.os.boot == ("disk0", "nic0")
    assert [(d.type, d.clone, d.save) for d in vm.disks] == [
        ("FILE", True, False),
        ("FILE", False, True),
        ("FS", True, False),
        ("SWAP", True, False),
        ("CDROM", False, False),
    ]
    assert [(d.size, d.fs, d.source) for d in vm.disks] == [
        (2048, "", "/datastore/debian"),
        (10240, "", "/datastore/data"),
        (512, "ext4", ""),
        (1024, "swap", ""),
        (700, "", "/datastore/iso"),
    ]
    assert vm.disks[1].options == {
        "CACHE": "writeback",
        "IO": "native",
        "DISCARD": "unmap",
        "TOTAL_IOPS_SEC": "500",
        "READ_BYTES_SEC": "1048576",
    }
    assert (vm.disks[0].image_uuid, vm.disks[0].generation, vm.disks[0].image_id) == ("uuid of debian", 3, 0)
    assert vm.inputs == (Input("tablet", "usb"),)
    assert vm.features["HYPERV"] == "yes"
    assert set(vm.raw) == {"kvm"}
    assert vm.attributes == {"MYATTR": "user attribute"}
    assert vm.context is not None and not vm.context.variables
    assert vm.graphics is not None and vm.graphics.password == "se'cr<et>&\"1"


def test_a_machine_without_disks_may_have_all_else(machine: Callable[..., Vm]) -> None:
    vm = machine("MEMORY = 1 NIC = [ NETWORK = a ] CONTEXT = [ A = 1 ]", hypervisor="xen")
    assert (vm.disks, len(vm.nics), vm.context and vm.context.target) == ((), 1, "xvda")


def test_defaults(machine: Callable[..., Vm]) -> None:
    vm = machine("MEMORY = 64 DISK = [ IMAGE = debian ]", vm_id=0)
    assert (vm.name, vm.cpu, vm.vcpu, vm.graphics, vm.context) == ("one-0", 1.0, None, None, None)
    assert (vm.os.machine, vm.os.arch, vm.os.boot) == ("q35", "x86_64", ())
    assert vm.disks[0].driver == "qcow2"
    # The first NIC that it gets later.
    assert vm.next_nic == 0


def test_raw_of_one_hypervisor_is_joined(machine: Callable[..., Vm]) -> None:
    vm = machine(
        'MEMORY = 1 DISK = [ IMAGE = debian ] RAW = [ TYPE = KVM, DATA = "<a/>" ] RAW = [ TYPE = kvm, DATA = "<b/>" ]'
    )
    assert vm.raw == {"kvm": "<a/>\n<b/>"}


BUILD_REFUSED = {
    "MEMORY = 1 DISK = [ IMAGE = debian, SIZE = 2047 ]": (
        "DISK 0: SIZE = 2047", "image debian has 2048 MB", "at least 2048"),
    "MEMORY = 1 DISK = [ IMAGE = kernel ]": ("image kernel", "type KERNEL", "KERNEL_DS"),
    "MEMORY = 1 DISK = [ IMAGE = blank ]": ("its disks", "of type OS", "nebula_image"),
    "MEMORY = 1 DISK = [ IMAGE = blank ] DISK = [ IMAGE = iso ] OS = [ BOOT = disk0 ]": (
        "BOOT = disk0", "type OS", "CDROM"),
    "MEMORY = 1 DISK = [ IMAGE = debian ] DISK = [ IMAGE = iso, TARGET = vdb ]": (
        "(image iso)", "no CDROM drives", "sd"),
    "MEMORY = 1 DISK = [ IMAGE = debian, READONLY = YES, TARGET = hda ]": ("TARGET = hda", "read-only", "vda"),
    "MEMORY = 1 DISK = [ IMAGE = debian, DEV_PREFIX = zz ]": ("DEV_PREFIX = zz", "no such prefix", "vd"),
    'MEMORY = 1 DISK = [ IMAGE = debian ] OS = [ BOOT = "cdrom" ]': ("BOOT = cdrom", "no such DISK", "from 0"),
    "MEMORY = 1 DISK = [ IMAGE = debian ]" + PC + "DISK = [ IMAGE = iso ]" * 4 + "CONTEXT = []": (
        "CONTEXT: TARGET = hde", "four IDE devices", "vd or sd"),
    "MEMORY = 1 DISK = [ IMAGE = debian, TARGET = sda ]" + "DISK = [ TYPE = swap, SIZE = 1 ]" * 256: (
        "TARGET", "257 devices on scsi", "vd"),
}  # fmt: skip


@pytest.mark.parametrize("text", BUILD_REFUSED)
def test_refused_when_images_are_known(machine: Callable[..., Vm], text: str) -> None:
    asked, found, remedy = BUILD_REFUSED[text]
    with pytest.raises(InvalidValue) as caught:
        machine("NAME = web " + text)
    error = caught.value
    assert error.asked.startswith("VM web: ")
    assert asked in error.asked and found in error.found and remedy in error.remedy, error


def test_an_image_that_was_not_looked_up_is_no_crash() -> None:
    with pytest.raises(InvalidValue, match="DISK 0: its image was not found"):
        build(parse(DEBIAN), vm_id=1, uuid=UUID, name="x", hypervisor="kvm", images={}, nics=[])
