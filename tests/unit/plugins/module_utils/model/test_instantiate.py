# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From templates to machines: what is refused, what is asked for, and what a machine then is.

tests/fixtures/oned: templates that were given to a real OpenNebula 7.4, and what its deployment files for KVM show.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate import (
    FILE_SYSTEMS,
    Demands,
    NicDemand,
    build,
    demands,
    leaves_password,
    refusals,
    validate,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Nic
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageType
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Graphics, Input, Vm
from ansible_collections.nebula.provision.plugins.module_utils.storage import formats
from ansible_collections.nebula.provision.plugins.module_utils.text.template import parse

ONED = Path(__file__).parents[4] / "fixtures" / "oned"
FACTS = json.loads((ONED / "machines.json").read_text())
DEBIAN = "MEMORY = 128\nDISK = [ IMAGE = debian ]\n"
UUID = "01234567-89ab-4cde-8f01-23456789abcd"

IMAGES = {
    name: Image(
        id=facts["id"],
        name=name,
        type=ImageType[facts["type"]],
        uuid=f"uuid of {name}",
        generation=3,
        source=f"/datastore/{name}",
        **{key: facts[key] for key in ("dev_prefix", "format", "size", "persistent")},
    )
    for name, facts in FACTS["images"].items()
}
IMAGES["blank"] = Image(7, "blank", ImageType.DATABLOCK, size=100, format="qcow2", persistent=True)
IMAGES["second"] = Image(8, "second", ImageType.OS, size=100)
IMAGES["trusted"] = Image(11, "trusted", ImageType.OS, size=100, attributes={"TRUSTED": "YES"})
IMAGES["kernel"] = Image(9, "kernel", ImageType.KERNEL, source="/datastore/kernel")
IMAGES["initrd"] = Image(10, "initrd", ImageType.RAMDISK, source="/datastore/initrd")
BY_ID = {image.id: image for image in IMAGES.values()}


def machine(template: Template | str, hypervisor: str = "kvm", vm_id: int = 20, vnc_port: int | None = None) -> Vm:
    """The machine with its images and networks looked up as an engine does."""
    template = parse(template) if isinstance(template, str) else template
    wanted = demands(template)
    refs = {index: ref for index, ref in enumerate(wanted.images) if ref is not None}
    return build(
        template,
        vm_id=vm_id,
        uuid=UUID,
        name=template.get("NAME"),
        hypervisor=hypervisor,
        images={index: BY_ID[ref] if isinstance(ref, int) else IMAGES[ref] for index, ref in refs.items()},
        nics=[
            Nic(index, 0, str(nic.network), "br", nic.mac or f"02:00:00:00:00:{index:02x}", nic.ip)
            for index, nic in enumerate(wanted.nics)
        ],
        vnc_port=vnc_port,
    )


def targets(text: str, **more: Any) -> list[str]:
    vm = machine("MEMORY = 1\n" + text, **more)
    return [disk.target for disk in vm.disks] + ([vm.context.target] if vm.context else [])


# -- as a real oned does it -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("case", FACTS["machines"])
def test_machine_is_as_opennebula_makes_it(case: str) -> None:
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


def test_everything_else_of_the_big_template() -> None:
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


def test_the_smallest_template_of_oned_is_taken_with_a_warning() -> None:
    text = (ONED / "01-minimal.tmpl").read_text()
    (said,) = validate(parse(text))
    assert said.startswith("it has no DISK, and nothing to boot from. Add DISK")
    vm = machine(text)
    assert (vm.name, vm.cpu, vm.memory, vm.disks, vm.nics, vm.context) == ("minimal", 0.5, 128, (), (), None)


def test_a_machine_without_disks_may_have_all_else() -> None:
    vm = machine("MEMORY = 1 NIC = [ NETWORK = a ] CONTEXT = [ A = 1 ]", hypervisor="xen")
    assert (vm.disks, len(vm.nics), vm.context and vm.context.target) == ((), 1, "xvda")


# -- defaults ---------------------------------------------------------------------------------------------------------
def test_defaults() -> None:
    vm = machine("MEMORY = 64 DISK = [ IMAGE = debian ]", vm_id=0)
    assert (vm.name, vm.cpu, vm.vcpu, vm.graphics, vm.context) == ("one-0", 1.0, None, None, None)
    assert (vm.os.machine, vm.os.arch, vm.os.boot) == ("q35", "x86_64", ())
    assert vm.disks[0].driver == "qcow2"
    # The first NIC that it gets later.
    assert vm.next_nic == 0


def test_half_a_processor() -> None:
    assert demands(parse("CPU = 0.5 MEMORY = 128")) == Demands(cpu=0.5, vcpu=None, memory=128)


def test_nics_get_their_place_and_options() -> None:
    vm = machine("""MEMORY = 1 OS = [ BOOT = "nic1,disk0" ] DISK = [ IMAGE = debian ]
        NIC = [ NETWORK = a, MODEL = e1000, TARGET = tap7 ] NIC = [ NETWORK_ID = 0, DNS = "9.9.9.9", MTU = 1400 ]""")
    assert [(n.target, n.model, n.boot_order, n.options) for n in vm.nics] == [
        ("tap7", "e1000", 0, {}),
        ("one-20-1", "", 1, {"DNS": "9.9.9.9", "MTU": "1400"}),
    ]
    assert vm.disks[0].boot_order == 2


def test_demands_name_images_and_networks() -> None:
    wanted = demands(
        parse("""MEMORY = 5 VCPU = 2 CPU = 1.5
        DISK = [ IMAGE = debian ] DISK = [ TYPE = swap, SIZE = 1 ] DISK = [ IMAGE_ID = 0 ]
        NIC = [ NETWORK = Public, IP = 10.0.0.3, MAC = "02:00:0A:00:00:03" ] NIC = [ NETWORK_ID = 0 ]
        GRAPHICS = [ TYPE = vnc, PORT = 5999 ]""")
    )
    assert wanted == Demands(
        cpu=1.5,
        vcpu=2,
        memory=5,
        images=("debian", None, 0),
        nics=(NicDemand("Public", "10.0.0.3", "", "02:00:0a:00:00:03"), NicDemand(0)),
        graphics=True,
        graphics_port=5999,
    )


def test_kernel_from_files_and_from_images() -> None:
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


def test_raw_of_one_hypervisor_is_joined() -> None:
    vm = machine(
        'MEMORY = 1 DISK = [ IMAGE = debian ] RAW = [ TYPE = KVM, DATA = "<a/>" ] RAW = [ TYPE = kvm, DATA = "<b/>" ]'
    )
    assert vm.raw == {"kvm": "<a/>\n<b/>"}


def test_graphics() -> None:
    disk = "MEMORY = 1 DISK = [ IMAGE = debian ] "
    vm = machine(disk + 'GRAPHICS = [ TYPE = "VNC", PASSWD = "a" ]', vnc_port=5920)
    assert vm.graphics == Graphics("vnc", "127.0.0.1", 5920, "a", "")
    vm = machine(disk + "GRAPHICS = [ TYPE = spice, PORT = 6000, LISTEN = 0.0.0.0 ]")
    assert vm.graphics == Graphics("spice", "0.0.0.0", 6000, "", "", made_up=True)
    assert "a-secret" not in repr(machine(disk + "GRAPHICS = [ PASSWD = a-secret ]"))


@pytest.mark.parametrize(
    ("words", "made_up"),
    [
        ("TYPE = vnc", True),
        ("TYPE = spice, RANDOM_PASSWD = YES", True),
        ('TYPE = vnc, RANDOM_PASSWD = "", PASSWD = ""', True),
        ("TYPE = vnc, RANDOM_PASSWD = NO", False),
        ("TYPE = vnc, RANDOM_PASSWD = YES, PASSWD = chosen", False),
    ],
)
def test_whose_password_is_left_to_the_catalog(words: str, made_up: bool) -> None:
    assert leaves_password(parse(f"GRAPHICS = [ {words} ]")) is made_up


def test_no_graphics_have_no_password() -> None:
    assert not leaves_password(parse("CPU = 1"))


# -- targets ----------------------------------------------------------------------------------------------------------
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
def test_targets(case: str) -> None:
    text, expected = TARGETS[case]
    assert (
        targets(text, hypervisor="xen" if case.startswith("Xen:") or case == "Xen's word for CDROM" else "kvm")
        == expected
    )


def test_targets_go_on_behind_z() -> None:
    text = "DISK = [ IMAGE = debian ]\n" + "DISK = [ TYPE = swap, SIZE = 1, DEV_PREFIX = vd ]\n" * 28
    assert targets(text)[24:] == ["vdy", "vdz", "vdaa", "vdab", "vdac"]


def test_buses() -> None:
    text = "MEMORY = 1 DISK = [ IMAGE = second ] DISK = [ IMAGE = iso ] CONTEXT = []"
    vm = machine(text + ' OS = [ SD_DISK_BUS = "sata" ]')
    assert [disk.bus for disk in vm.disks] == ["sata", "sata"]
    vm = machine(text + " OS = [ MACHINE = pc-i440fx-7.2 ]")
    assert [disk.bus for disk in vm.disks] == ["scsi", "ide"]
    vm = machine(text + " OS = [ MACHINE = pc-q35-7.2 ]")
    assert [disk.bus for disk in vm.disks] == ["scsi", "scsi"]
    vm = machine("MEMORY = 1 DISK = [ IMAGE = second, TARGET = sda, BUS = usb ] CONTEXT = [ TARGET = hda ]")
    assert (vm.disks[0].bus, vm.context and vm.context.bus) == ("usb", "sata")


# -- BOOT -------------------------------------------------------------------------------------------------------------
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
def test_boot_order(boot: str, order: tuple[str, ...]) -> None:
    text = f"""MEMORY = 1 OS = [ BOOT = "{boot}" ]
        DISK = [ IMAGE = blank ] DISK = [ IMAGE = debian ] DISK = [ IMAGE = iso ] NIC = [ NETWORK = a ]"""
    assert validate(parse(text)) == []
    vm = machine(text)
    assert vm.os.boot == order
    devices = {f"disk{d.disk_id}": d.boot_order for d in vm.disks} | {f"nic{n.nic_id}": n.boot_order for n in vm.nics}
    assert [device for device, at in sorted(devices.items(), key=lambda pair: pair[1]) if at] == list(order)


# -- what is refused --------------------------------------------------------------------------------------------------
# text; words of what was asked, found, and of the remedy
REFUSED = {
    "MEMORY = lots DISK = [ IMAGE = a ]": ("MEMORY = 'lots'", "whole number", "MB"),
    'MEMORY = "1G" DISK = [ IMAGE = a ]': ("MEMORY = '1G'", "whole number", "MEMORY = 1024"),
    'MEMORY = "512 MiB" DISK = [ IMAGE = a ]': ("MEMORY", "whole number", "MEMORY = 512"),
    "MEMORY = 0 DISK = [ IMAGE = a ]": ("MEMORY = '0'", "at least 1", "MB"),
    "MEMORY = -1 DISK = [ IMAGE = a ]": ("MEMORY = '-1'", "at least 1", "MB"),
    'MEMORY = "" DISK = [ IMAGE = a ]': ("MEMORY", "not set", "MB"),
    "MEMORY = ١٢ DISK = [ IMAGE = a ]": ("MEMORY", "whole number", "MB"),
    'MEMORY = [ KMEMSIZE = "1:2" ]': ("MEMORY = [", "single value", "MEMORY ="),
    DEBIAN + "CPU = 0": ("CPU = '0'", "above 0", "0.5"),
    DEBIAN + "CPU = half": ("CPU = 'half'", "above 0", "0.5"),
    DEBIAN + "CPU = inf": ("CPU = 'inf'", "above 0", "0.5"),
    DEBIAN + "CPU = .": ("CPU = '.'", "above 0", "0.5"),
    DEBIAN + "CPU = 1e3": ("CPU = '1e3'", "above 0", "0.5"),
    DEBIAN + "VCPU = 0": ("VCPU = '0'", "at least 1", "whole number"),
    DEBIAN + "VCPU = 1.5": ("VCPU = '1.5'", "whole number", "whole number"),
    "MEMORY = 1 DISK = [ TYPE = swap, SIZE = 1 ]": ("template web", "all its disks are empty", "IMAGE"),
    "MEMORY = 1 DISK = debian": ("DISK", "a vector", "DISK = ["),
    DEBIAN + "DISK = [ TARGET = vdb ]": ("DISK 1", "no IMAGE", "IMAGE"),
    DEBIAN + "DISK = [ SOURCE = /srv/x.img ]": ("DISK 1", "no IMAGE", "nebula_image"),
    DEBIAN + "DISK = [ IMAGE_ID = x ]": ("DISK 1: IMAGE_ID = 'x'", "whole number", "as IMAGE"),
    DEBIAN + "DISK = [ TYPE = swap ]": ("DISK 1: SIZE", "not set", "MB"),
    DEBIAN + "DISK = [ IMAGE = a, SIZE = big ]": ("DISK 1: SIZE = 'big'", "whole number", "MB"),
    DEBIAN + "DISK = [ TYPE = fs, SIZE = 1, FORMAT = vmdk ]": ("FORMAT = vmdk", "no such format", "qcow2"),
    DEBIAN + "DISK = [ TYPE = fs, SIZE = 1, FS = ntfs ]": ("FS = ntfs", "no such file system", "ext4"),
    DEBIAN + "DISK = [ IMAGE = a, READONLY = perhaps ]": ("DISK/READONLY = 'perhaps'", "neither", "YES or NO"),
    DEBIAN + "FEATURES = [ ACPI = maybe ]": ("FEATURES/ACPI = 'maybe'", "neither", "YES or NO"),
    DEBIAN + "DISK = [ IMAGE = a, TARGET = sda ] DISK = [ IMAGE = b, TARGET = sda ]": (
        "DISK 2 (image b): TARGET = sda", "DISK 1 (image a) has the same", "different"),
    DEBIAN + "DISK = [ IMAGE = a, TARGET = sda ] CONTEXT = [ TARGET = sda ]": (
        "CONTEXT: TARGET = sda", "DISK 1 (image a) has the same", "different"),
    DEBIAN + "DISK = [ IMAGE = a, TARGET = foo ]": ("TARGET = foo", "no name of a disk device", "vda"),
    DEBIAN + "DISK = [ IMAGE = a, TARGET = sda, BUS = ide ]": ("BUS = ide", "machine q35 has no IDE", "pc"),
    DEBIAN + "DISK = [ IMAGE = a, TARGET = sda, BUS = foo ]": ("BUS = foo", "no such bus", "virtio"),
    DEBIAN + "DISK = [ IMAGE = a, TARGET = ubda ]": ("TARGET = ubda", "kvm has no bus uml", "vda"),
    DEBIAN + "DISK = [ IMAGE = a, TARGET = xvda ] DISK = [ IMAGE = b, TARGET = vda ]": (
        "TARGET = vda", "DISK 1 (image a) has the same", "different"),
    DEBIAN + "DISK = [ IMAGE = a, DRIVER = rwa ]": ("DRIVER = rwa", "no such driver", "raw"),
    'HYPERVISOR = xen OS = [ MACHINE = q35 ]' + DEBIAN: ("MACHINE = q35", "Xen has no such machines", "xenpvh"),
    'HYPERVISOR = xen OS = [ MACHINE = xenpvh ]' + DEBIAN: ("MACHINE = xenpvh", "neither KERNEL nor", "pygrub"),
    'HYPERVISOR = xen GRAPHICS = [ TYPE = spice ]' + DEBIAN: ("TYPE = spice", "are VNC", "vnc"),
    "HYPERVISOR = xen DISK = [ IMAGE = a, TARGET = xvda ] DISK = [ IMAGE = b, TARGET = hda ]" + DEBIAN: (
        "TARGET = hda", "has the same", "different"),
    DEBIAN + "CONTEXT = [] CONTEXT_FORMAT = nocluod": ("CONTEXT_FORMAT = nocluod", "no such word", "nocloud"),
    DEBIAN + "CONTEXT = [] CONTEXT_DEVICE = tape": ("CONTEXT_DEVICE = tape", "no such word", "cdrom, disk"),
    DEBIAN + "CONTEXT = [] CONTEXT_DEVICE = [ A = b ]": ("CONTEXT_DEVICE", "single value", "CONTEXT_DEVICE ="),
    DEBIAN + "DISK = [ IMAGE = a, TARGET = sdc ] CONTEXT = [ TARGET = sdc ] CONTEXT_DEVICE = disk": (
        "CONTEXT: TARGET = sdc", "DISK 1 (image a) has the same", "different"),
    DEBIAN + 'OS = [ MACHINE = "pc" ] CONTEXT = [ TARGET = hdc ] CONTEXT_DEVICE = disk': (
        "CONTEXT: TARGET = hdc", "a disk on ide can't be read-only", "sda"),
    DEBIAN + "CONTEXT = [ TARGET = vdb ]": ("CONTEXT: TARGET = vdb", "no CDROM drives", "sd"),
    DEBIAN + "DISK = [ IMAGE = a, TYPE = CDROM, TARGET = vdb ]": ("TARGET = vdb", "no CDROM drives", "sd"),
    DEBIAN + PC + "DISK = [ TYPE = fs, SIZE = 1, READONLY = YES, TARGET = hda ]": ("TARGET = hda", "read-only", "vda"),
    DEBIAN + PC + "DISK = [ IMAGE = a, TARGET = hde ]": ("TARGET = hde", "hda to hdd", "vd or sd"),
    DEBIAN + 'OS = [ BOOT = "floppy" ]': ("BOOT = floppy", "floppy is no device", "disk0,nic0"),
    DEBIAN + 'OS = [ BOOT = "disk0,disk1" ]': ("BOOT = disk0,disk1", "disk1: there is no such DISK", "from 0"),
    DEBIAN + 'OS = [ BOOT = "nic0" ]': ("BOOT = nic0", "nic0: there is no such NIC", "from 0"),
    DEBIAN + 'OS = [ BOOT = "network" ]': ("BOOT = network", "no such NIC", "from 0"),
    DEBIAN + "OS = [ UUID = 123 ]": ("UUID = 123", "no UUID", "8-4-4-4-12"),
    DEBIAN + "OS = [ SD_DISK_BUS = ide ]": ("SD_DISK_BUS = ide", "no such bus", "scsi"),
    DEBIAN + "OS = [ KERNEL = vmlinuz ]": ("KERNEL = vmlinuz", "no absolute path", "$FILE"),
    DEBIAN + "NIC = [ MODEL = virtio ]": ("NIC 0", "no NETWORK", "NETWORK"),
    DEBIAN + "NIC = [ NETWORK = a, IP = 10.0.0.300 ]": ("NIC 0: IP = 10.0.0.300", "no IPv4 address", "leave it out"),
    DEBIAN + 'NIC = [ NETWORK = a, IP = "fe80::1" ]': ("NIC 0: IP = fe80::1", "no IPv4 address", "leave it out"),
    DEBIAN + "NIC = [ NETWORK = a, MAC = 02 ]": ("NIC 0: MAC = 02", "no address", "02:00"),
    DEBIAN + 'NIC = [ NETWORK = a, MAC = "01:00:00:00:00:01" ]': ("MAC = 01", "no address of one", "02:00"),
    DEBIAN + "NIC = [ NETWORK = a, TARGET = averyveryverylongname ]": ("NIC 0: TARGET", "21 characters", "15"),
    DEBIAN + "GRAPHICS = [ TYPE = rdp ]": ("GRAPHICS/TYPE = rdp", "no such graphics", "vnc or spice"),
    DEBIAN + "GRAPHICS = [ TYPE = vnc, PORT = 80 ]": ("GRAPHICS/PORT = 80", "no such port", "5900 to 65535"),
    DEBIAN + "GRAPHICS = [ TYPE = vnc, PORT = 65536 ]": ("GRAPHICS/PORT = 65536", "no such port", "5900"),
    DEBIAN + "GRAPHICS = [ TYPE = vnc, RANDOM_PASSWD = maybe ]": ("RANDOM_PASSWD = MAYBE", "neither", "YES or NO"),
    DEBIAN + "GRAPHICS = [ TYPE = vnc, KEYMAP = en_us ]": (
        "GRAPHICS/KEYMAP = 'en_us'", "no such keyboard", "Did you mean en-us?"),
    DEBIAN + "HYPERVISOR = xen GRAPHICS = [ TYPE = vnc, KEYMAP = xx ]": ("KEYMAP = 'xx'", "no such", "Known are ar,"),
    DEBIAN + "CONTEXT = [ A = 1 ] CONTEXT = [ B = 2 ]": ("CONTEXT", "twice", "into one"),
    DEBIAN + "NIC_DEFAULT = [ MODEL = e1000 ] NIC_DEFAULT = [ MODEL = virtio ]": ("NIC_DEFAULT", "twice", "into one"),
    DEBIAN + "NIC_DEFAULT = e1000": ("NIC_DEFAULT", "a vector", "NIC_DEFAULT = ["),
    DEBIAN + "NIC_DEFAULT = [ NETWORK = a ]": ("NIC_DEFAULT/NETWORK", "takes none there", "in each NIC"),
    DEBIAN + "NIC_DEFAULT = [ MTU = big ] NIC = [ NETWORK = a ]": ("NIC 0: MTU = 'big'", "whole number", "digits"),
    DEBIAN + "EMULATOR = qemu": ("EMULATOR = qemu", "no absolute path", "/usr/bin/qemu-system-x86_64"),
    DEBIAN + "EMULATOR = /usr/bin/": ("EMULATOR = /usr/bin/", "no absolute path", "leave it out"),
    DEBIAN + "EMULATOR = [ A = /usr/bin/qemu ]": ("EMULATOR", "single value", "EMULATOR ="),
    DEBIAN + "MEMORY_ENCRYPTION = [ TYPE = SEV ]": ("MEMORY_ENCRYPTION", "must not run without", "Leave it out"),
    DEBIAN + "HYPERVISOR = xen MEMORY_ENCRYPTION = SEV": ("MEMORY_ENCRYPTION", "must not run without", "Leave it out"),
    DEBIAN + "HYPERVISOR = xen OS = [ TPM = YES ]": ("OS/TPM", "make none", "KVM"),
    DEBIAN + "FEATURES = [ PCIHOLE64 = big ]": ("FEATURES: PCIHOLE64 = 'big'", "whole number", "digits"),
    DEBIAN + "OS = [ FIRMWARE = UEFI ] FEATURES = [ ACPI = no ]": (
        "FEATURES: ACPI = NO", "UEFI (FIRMWARE = UEFI) needs it", "BIOS"),
    DEBIAN + 'OS = [ FIRMWARE = "/usr/share/OVMF/OVMF_CODE.fd" ] FEATURES = [ ACPI = off ]': (
        "FEATURES: ACPI = OFF", "needs it", "BIOS"),
    "MEMORY = 1 DISK = [ IMAGE = a ]\n" + PC + "DISK = [ IMAGE = a, TARGET = sda, BUS = ide ]\n"
    + "".join(f"DISK = [ IMAGE = a, TARGET = hd{letter} ]" for letter in "abcd"): (
        "TARGET = hda", "has the same letter on bus ide", "different"),
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_refused_when_stored(text: str) -> None:
    asked, found, remedy = REFUSED[text]
    with pytest.raises(InvalidValue) as caught:
        validate(parse(text), where="template web")
    error = caught.value
    assert error.asked.startswith("template web")
    assert asked in error.asked and found in error.found and remedy in error.remedy, error


ALLOWED = [
    DEBIAN,
    "MEMORY = 1 DISK = [ IMAGE = a, TYPE = CDROM ]",
    'MEMORY = 1 NIC = [ NETWORK = a ] OS = [ BOOT = "nic0" ]',
    'MEMORY = 1 NIC = [ NETWORK = a ] OS = [ BOOT = "network" ]',
    'MEMORY = 1 OS = [ KERNEL = "/boot/vmlinuz" ]',
    'MEMORY = 1 OS = [ KERNEL_DS = "$FILE[IMAGE=\\"k\\"]" ]',
    DEBIAN + 'OS = [ BOOT = "cdrom,hd" ]',
    DEBIAN + 'HYPERVISOR = xen CONTEXT = [ TARGET = xvdc:cdrom, DRIVER = "file:" ]',
    DEBIAN + PC + "DISK = [ IMAGE = a, READONLY = YES, TARGET = hda ]",
    DEBIAN + "CPU = 0.01 VCPU = 64",
    DEBIAN + "MYATTR = x OTHER = [ A = 1 ]",
    DEBIAN + 'GRAPHICS = [ TYPE = vnc, LISTEN = "0.0.0.0", PASSWD = "12345678" ]',
    DEBIAN + "DISK = [ TYPE = fs, SIZE = 1, FORMAT = ext3 ]",
    DEBIAN + "NIC_DEFAULT = [ MODEL = e1000 ] NIC = [ NETWORK = a ]",
    DEBIAN + "NIC_DEFAULT = [ MODEL = e1000 ]",
    DEBIAN + "EMULATOR = /usr/bin/qemu-kvm",
    DEBIAN + "GRAPHICS = [ TYPE = vnc, KEYMAP = EN-US ]",
    DEBIAN + "OS = [ FIRMWARE = BIOS ] FEATURES = [ ACPI = no ]",
    DEBIAN + "OS = [ FIRMWARE = UEFI ] FEATURES = [ ACPI = yes, PCIHOLE64 = 1048576 ]",
]


@pytest.mark.parametrize("text", ALLOWED)
def test_allowed_without_a_word(text: str) -> None:
    assert validate(parse(text)) == []


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("DISK = [ IMAGE = a ]", "MEMORY is not set"),
        (DEBIAN + "MEMROY = 3", "MEMROY is not a known attribute: did you mean MEMORY?"),
        (DEBIAN + 'GRAPHICS = [ TYPE = vnc, PASSWD = "123456789" ]', "VNC uses the first 8"),
        (DEBIAN + "GRAPHICS = [ TYPE = vnc, LISTEN = 0.0.0.0, RANDOM_PASSWD = NO ]", "whoever reaches the host"),
        (DEBIAN + "GRAPHICS = [ TYPE = vnc, RANDOM_PASSWD = no ]", "whoever logs in on the host"),
        (DEBIAN + 'GRAPHICS = [ TYPE = spice, LISTEN = "::", RANDOM_PASSWD = FALSE ]', "LISTEN is ::"),
        (DEBIAN + "SCHED_REQUIREMENTS = x", "SCHED_REQUIREMENTS is kept, and nothing acts on it yet"),
        (DEBIAN + "CONTEXT = [ TARGET = hdb ]", "CONTEXT: TARGET = hdb is SATA on machine q35"),
        ("MEMORY = 1", "it has no DISK, and nothing to boot from"),
        (DEBIAN + "NIC_DEFAULT = [ SECURITY_GROUPS = 7 ] NIC = [ NETWORK = a ]", "NIC/SECURITY_GROUPS is kept"),
        (DEBIAN + "NIC_DEFAULT = [ MODLE = 7 ]", "NIC_DEFAULT/MODLE is not a known attribute: did you mean MODEL?"),
        (DEBIAN + "NIC = [ NETWORK = a, MODEL = virtoi ]", "NIC 0: MODEL = 'virtoi' is none that is known of QEMU"),
        (DEBIAN + "OS = [ ARCH = i686, FIRMWARE = UEFI ]", "it is a package of its own (ovmf-ia32) on the node"),
        (DEBIAN + "MEMORY_TUNE_OFFSET = 7", "MEMORY_TUNE_OFFSET is kept, and nothing acts on it yet"),
        (DEBIAN + "FEATURES = [ GIC = 2 ]", "FEATURES/GIC is kept, and nothing acts on it yet"),
        (
            DEBIAN + PC + "FEATURES = [ PCIHOLE64 = 7 ]",
            "PCIHOLE64 is kept, and nothing acts on it on machine pc",
        ),
        (DEBIAN + "HYPERVISOR = xen EMULATOR = qemu", "EMULATOR is kept, and nothing acts on it on Xen"),
        (
            DEBIAN + "HYPERVISOR = xen CPU_MODEL = [ MODEL = x ]",
            "CPU_MODEL/MODEL is kept, and nothing acts on",
        ),
    ],
)
def test_doubtful(text: str, warning: str) -> None:
    [said] = validate(parse(text))
    assert warning in said
    assert "123456789" not in said


def test_strict_refuses_near_misses_only() -> None:
    with pytest.raises(InvalidValue, match="did you mean MEMORY"):
        validate(parse(DEBIAN + "MEMROY = 3"), strict=True)
    assert validate(parse(DEBIAN + "MYATTR = 3"), strict=True) == []


def test_memory_is_needed_for_a_machine() -> None:
    with pytest.raises(InvalidValue, match="VM web: MEMORY: it is not set"):
        demands(parse("DISK = [ IMAGE = a ]"), "VM web")


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
def test_refused_when_images_are_known(text: str) -> None:
    asked, found, remedy = BUILD_REFUSED[text]
    with pytest.raises(InvalidValue) as caught:
        machine("NAME = web " + text)
    error = caught.value
    assert error.asked.startswith("VM web: ")
    assert asked in error.asked and found in error.found and remedy in error.remedy, error


def test_an_image_that_was_not_looked_up_is_no_crash() -> None:
    with pytest.raises(InvalidValue, match="DISK 0: its image was not found"):
        build(parse(DEBIAN), vm_id=1, uuid=UUID, name="x", hypervisor="kvm", images={}, nics=[])


@pytest.mark.parametrize(
    ("disk", "size", "driver", "clone", "save"),
    [
        ("IMAGE = debian", 2048, "qcow2", True, False),
        ("IMAGE = debian, SIZE = 2048", 2048, "qcow2", True, False),
        ("IMAGE = debian, SIZE = 4096, DRIVER = raw", 4096, "raw", True, False),
        ("IMAGE = debian, CLONE = NO", 2048, "qcow2", True, False),
        ("IMAGE = data", 10240, "raw", False, True),
        ("IMAGE = data, DRIVER = qcow2, SIZE = 20480", 20480, "raw", False, True),
        ("IMAGE = iso, SIZE = 1", 700, "raw", False, False),
        ("TYPE = fs, SIZE = 9, FORMAT = qcow2", 9, "qcow2", True, False),
        ("TYPE = swap, SIZE = 9", 9, "raw", True, False),
    ],
)
def test_disks_follow_their_images(disk: str, size: int, driver: str, clone: bool, save: bool) -> None:
    made = machine(f"MEMORY = 1 DISK = [ IMAGE = second ] DISK = [ {disk} ]").disks[1]
    assert (made.size, made.driver, made.clone, made.save) == (size, driver, clone, save)


def test_a_drivers_own_word_is_kept_for_the_hypervisor() -> None:
    disk = machine('MEMORY = 1 DISK = [ IMAGE = second, DRIVER = "tap:aio:" ]', hypervisor="xen").disks[0]
    assert disk.options == {"DRIVER": "tap:aio:"}
    assert machine("MEMORY = 1 DISK = [ IMAGE = second ]", hypervisor="xen").os.machine == ""


def test_the_file_systems_are_those_that_can_be_made() -> None:
    assert set(FILE_SYSTEMS) == set(formats.FILE_SYSTEMS)


# -- what hypervisors have in common, and what not ---------------------------------------------------------------------
PVH = "MEMORY = 64 DISK = [ IMAGE = a ] OS = [ MACHINE = xenpvh, KERNEL = /k ]"


def test_one_hypervisor_that_takes_it_is_enough() -> None:
    with pytest.raises(InvalidValue, match="no such machine type"):
        validate(parse(PVH))
    assert validate(parse(PVH), hypervisors=("kvm", "xen")) == []
    with pytest.raises(InvalidValue, match="no such machine type"):
        validate(parse(PVH + " HYPERVISOR = kvm"), hypervisors=("kvm", "xen"))
    # The first one's words, where none does.
    with pytest.raises(InvalidValue, match="Xen has no such machines"):
        validate(parse(PVH.replace("xenpvh", "microvm2")), hypervisors=("xen", "kvm"))
    refused = refusals(parse(PVH), "VM web", ("kvm", "xen"))
    assert set(refused) == {"kvm"} and "VM web" in str(refused["kvm"])


def test_a_limit_is_acted_on_where_it_can_be() -> None:
    limited = PVH + " CPULIMIT = 80"
    assert validate(parse(limited), hypervisors=("xen",)) == []
    [said] = validate(parse("MEMORY = 64 DISK = [ IMAGE = a ] CPULIMIT = 80"))
    assert "CPULIMIT is kept" in said
    assert machine("MEMORY = 1 DISK = [ IMAGE = debian ] CPULIMIT = 80", hypervisor="xen").cpu_limit == 80
    assert machine("MEMORY = 1 DISK = [ IMAGE = debian ]", hypervisor="xen").cpu_limit == 0
    with pytest.raises(InvalidValue, match=r"CPULIMIT = 'half'.*percents"):
        validate(parse(limited.replace("80", "half")))


def test_nics_have_what_nic_default_says_and_they_do_not() -> None:
    text = "MEMORY = 1 DISK = [ IMAGE = debian ] NIC_DEFAULT = [ MODEL = e1000, IP = 10.0.0.7, FILTER = a ]"
    text += ' NIC = [ NETWORK = a, MODEL = rtl8139 ] NIC = [ NETWORK = a, IP = 10.0.0.8, FILTER = "" ]'
    assert [(nic.ip, nic.mac) for nic in demands(parse(text)).nics] == [("10.0.0.7", ""), ("10.0.0.8", "")]
    first, second = machine(text).nics
    assert (first.model, first.options["FILTER"]) == ("rtl8139", "a")
    assert (second.model, second.options["FILTER"]) == ("e1000", "")


def test_an_image_of_uefi_needs_acpi_too() -> None:
    text = "MEMORY = 1 DISK = [ IMAGE = uefi ] FEATURES = [ ACPI = NO ]"
    IMAGES["uefi"] = Image(12, "uefi", ImageType.OS, size=100, firmware="UEFI")
    try:
        with pytest.raises(InvalidValue, match=r"VM one-20: FEATURES: ACPI = NO: UEFI \(FIRMWARE = UEFI\) needs it"):
            machine(text)
        assert machine(text.replace("NO", "YES")).os.firmware == "UEFI"
    finally:
        del IMAGES["uefi"]


FULL = " ".join(f"DISK = [ IMAGE = a, TARGET = sd{letter} ]" for letter in "abcd")


@pytest.mark.parametrize("last", ["CONTEXT = [ A = 1 ]", "DISK = [ IMAGE = a, TYPE = CDROM ]"])
def test_a_drive_that_xen_has_no_more_is_missed_when_the_template_is_stored(last: str) -> None:
    text = f"MEMORY = 1 HYPERVISOR = xen {FULL} {last}"
    with pytest.raises(InvalidValue, match=r"one of the 4 emulated drives.* xvda is DISK 0") as caught:
        validate(parse(text), where="template web")
    assert "xvde" in caught.value.remedy
    assert validate(parse(text.replace("TARGET = sdd", "TARGET = sde"))) == []
    assert validate(parse(text.replace("HYPERVISOR = xen", 'OS = [ KERNEL = "/k" ] HYPERVISOR = xen'))) == []
    if "CONTEXT" in last:
        assert validate(parse(text + " CONTEXT_DEVICE = disk")) == []


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
def test_a_letter_is_one_address_on_its_bus(disks: str, devices: list[str]) -> None:
    vm = machine(f"MEMORY = 1 {disks} CONTEXT = [ A = 1 ]")
    assert vm.context is not None
    assert [f"{each.target} {each.bus}" for each in (*vm.disks, vm.context)] == devices


@pytest.mark.parametrize(
    ("disk", "refused"),
    [
        ("IMAGE = debian", True),
        ("IMAGE = debian, DRIVER = raw", False),
        ("IMAGE = blank", True),
        ("IMAGE = iso", False),
        ("TYPE = fs, SIZE = 1, FORMAT = qcow2", True),
        ("TYPE = fs, SIZE = 1", False),
    ],
)
def test_machines_share_what_is_raw(disk: str, refused: bool) -> None:
    text = f"MEMORY = 1 DISK = [ IMAGE = second ] DISK = [ {disk}, SHAREABLE = YES ]"
    if refused:
        with pytest.raises(InvalidValue, match="DISK 1: SHAREABLE = YES: it is of format qcow2"):
            machine(text)
    else:
        assert machine(text).disks[1].options["SHAREABLE"] == "YES"
    assert machine(text, hypervisor="xen").disks[1].options["SHAREABLE"] == "YES"
