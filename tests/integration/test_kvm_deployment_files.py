# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""libvirt itself takes every golden: defined, and turned into QEMU's arguments. The schema lets pairs of bus and
machine through that this refuses."""

from __future__ import annotations

import itertools
import os
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.errors import NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Site
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import domain_xml
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.build import build
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.validate import validate
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Nic
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageType
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template

FIXTURES = Path(__file__).parents[1] / "fixtures" / "deployment" / "kvm"
UNDEFINE_NVRAM = 4
CASES = sorted(path.stem for path in FIXTURES.glob("*.xml"))
# What libvirt says of these on a host that has not what they are for: it has understood each of them.
LACKING = {
    "devices_of_the_host": "invalid PCI passthrough type 'default'",
    "encrypted_memory": "SEV launch security is not supported with this QEMU binary",
    "memory_of_one_node": "NUMA node 1 is unavailable",
    "pinned_to_whole_cores": "NUMA node 1 is unavailable",
}


def connect():
    import libvirt

    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    return libvirt.open("qemu:///system")


def secret(connection, uuid):
    """One that a disk is opened with."""
    made = connection.secretDefineXML(f"<secret ephemeral='no' private='yes'><uuid>{uuid}</uuid></secret>")
    made.setValue(b"open")
    return made


@pytest.mark.parametrize("case", CASES)
@in_world
def test_golden(case: str) -> None:
    import libvirt

    connection = connect()
    text = (FIXTURES / f"{case}.xml").read_text(encoding="utf-8")
    secrets = [secret(connection, uuid) for uuid in sorted(set(re.findall(r'<secret .*uuid="([^"]+)"', text)))]
    try:
        taken(connection, text)
    except libvirt.libvirtError as error:
        assert case in LACKING and LACKING[case] in str(error), error
    finally:
        for each in secrets:
            each.undefine()
        connection.close()


def taken(connection, text):
    domain = connection.defineXML(text)
    try:
        assert f"guest={domain.name()}," in connection.domainXMLToNative("qemu-argv", text, 0)
    finally:
        domain.undefineFlags(UNDEFINE_NVRAM)


@pytest.mark.parametrize("golden", sorted(FIXTURES.parent.glob("xen/*.xml")), ids=lambda path: path.stem)
def test_the_schema_lets_machines_of_xen_through(golden: Path) -> None:
    """That its driver does, too, is tested where it runs: test_xen_libvirt.py."""
    told = subprocess.run(["virt-xml-validate", golden, "domain"], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr


@in_world
def test_what_the_schema_lets_through_and_libvirt_refuses() -> None:
    import libvirt

    connection = connect()
    text = (FIXTURES / "boot_order_disks_and_nics_pc.xml").read_text(encoding="utf-8").replace('"pc"', '"q35"')
    with pytest.raises(libvirt.libvirtError, match="IDE"):
        connection.domainXMLToNative("qemu-argv", text, 0)
    connection.close()


# -- what is stored can start ------------------------------------------------------------------------------------------
# Words of templates that stand in a deployment file, each in a machine that is otherwise the smallest.
WORDS = {
    "OS/ARCH": "x86_64 i686",
    "OS/MACHINE": "pc q35",
    "OS/FIRMWARE": "BIOS UEFI",
    "OS/FIRMWARE_SECURE": "YES",
    "OS/SD_DISK_BUS": "scsi sata",
    "OS/BOOT": "disk0 nic0",
    "OS/KERNEL": "/boot/vmlinuz",
    "FEATURES/ACPI": "NO",
    "FEATURES/APIC": "YES",
    "FEATURES/PAE": "YES",
    "FEATURES/HYPERV": "YES",
    "FEATURES/LOCALTIME": "YES",
    "FEATURES/GUEST_AGENT": "NO",
    "FEATURES/IOTHREADS": "2",
    "FEATURES/VIRTIO_SCSI_QUEUES": "auto 2",
    "FEATURES/VIRTIO_BLK_QUEUES": "auto 2",
    "FEATURES/PCIHOLE64": "67108864",
    "GRAPHICS/TYPE": "vnc spice",
    "GRAPHICS/LISTEN": "0.0.0.0 ::1",
    "GRAPHICS/PASSWD": "secret",
    "GRAPHICS/KEYMAP": "de",
    "VIDEO/TYPE": "none vga cirrus virtio qxl bochs ramfb vmvga auto",
    "VIDEO/VRAM": "16 1024 16384 30000 1048576",
    "VIDEO/RESOLUTION": "800x600 16384x16384",
    "VIDEO/IOMMU": "YES",
    "VIDEO/ATS": "YES",
    "IOMMU/MODEL": "intel virtio",
    "IOMMU/MODE": "single",
    "IOMMU/OPTIONS": "caching_mode=on iotlb=on eim=on intremap=on aw_bits=48 intremap=on,eim=on",
    "DISK/ORDER": "1 2",
    "NIC/ORDER": "1",
    "/CPULIMIT": "1 50 800",
    "INPUT/TYPE": "tablet mouse keyboard",
    "INPUT/BUS": "usb ps2 virtio",
    "TPM/MODEL": "tpm-crb tpm-tis",
    "TPM/VERSION": "2.0 1.2",
    "CPU_MODEL/MODEL": "host-passthrough host-model maximum qemu64",
    "DISK/DEV_PREFIX": "vd sd hd fd xvd",
    "DISK/BUS": "virtio scsi ide sata usb fdc xen",
    "DISK/CACHE": "none writethrough writeback directsync unsafe default",
    "DISK/IO": "native threads io_uring",
    "DISK/DISCARD": "unmap ignore",
    "DISK/ERROR_POLICY": "stop report ignore enospace",
    "DISK/READONLY": "YES",
    "DISK/SHAREABLE": "YES",
    "DISK/SERIAL": "abc",
    "DISK/DRIVER": "raw qcow2",
    "DISK/VIRTIO_BLK_QUEUES": "2",
    "DISK/TOTAL_IOPS_SEC": "5",
    "NIC/MODEL": "virtio e1000 rtl8139 e1000e ne2k_pci pcnet vmxnet3",
    "NIC/VIRTIO_QUEUES": "auto 0 2",
    "NIC/INBOUND_AVG_BW": "5",
    "CONTEXT/TARGET": "hdb sdb",
    "/VCPU": "1 4",
    "/CONTEXT_DEVICE": "disk",
    "image/type": "CDROM DATABLOCK",
}
# A node may lack them, and a warning says so.
OF_NODES = "Unable to find any firmware to satisfy"
PAIRS = int(os.environ.get("NEBULA_FUZZ", "80"))


def choices() -> Iterator[dict[str, str]]:
    """Each word alone, and some of the pairs."""
    known = [(name, word) for name, words in WORDS.items() for word in words.split()]
    yield from ({name: word} for name, word in known)
    pairs = [dict(pair) for pair in itertools.combinations(known, 2) if pair[0][0] != pair[1][0]]
    seed = int(os.environ.get("NEBULA_SEED", "19"))
    yield from random.Random(seed).sample(pairs, min(PAIRS, len(pairs)))


def rendered(chosen: dict[str, str]) -> str:
    vectors: dict[str, dict[str, str]] = {"DISK": {"IMAGE": "a"}, "CONTEXT": {"A": "1"}, "": {"MEMORY": "64"}}
    for name, word in chosen.items():
        vector, _slash, key = name.partition("/")
        vectors.setdefault(vector, {"NETWORK": "n"} if vector == "NIC" else {})[key] = word
    if chosen.get("OS/BOOT") == "nic0":
        vectors.setdefault("NIC", {"NETWORK": "n"})
    kind = ImageType[vectors.pop("image", {}).get("type", "OS")]
    if "IOMMU" in vectors:
        vectors["IOMMU"].setdefault("MODEL", "intel")
    if "VIDEO" in vectors:
        vectors["VIDEO"].setdefault("TYPE", "virtio")
    template = Template(tuple(vectors.pop("").items()))
    for vector, keys in vectors.items():
        template = template.with_vector(vector, keys)
    images = {0: Image(1, "a", type=kind, size=1, format="raw" if kind == ImageType.CDROM else "qcow2", source="/a")}
    if kind == ImageType.DATABLOCK:
        template = template.with_vectors("DISK", [*template.vectors("DISK"), {"IMAGE": "b", "DEV_PREFIX": "vd"}])
        images[1] = Image(2, "b", type=ImageType.OS, size=1, format="qcow2", source="/b")
    validate(template, hypervisors=["kvm"])
    nics = [Nic(0, 0, "n", "br0", "02:00:00:00:00:01")] if template.has("NIC") else []
    vm = build(template, vm_id=1, uuid=UUID, name="a", hypervisor="kvm", images=images, nics=nics, vnc_port=5901)
    formats = {disk.disk_id: "raw" if disk.type == "CDROM" else disk.driver for disk in vm.disks}
    files = {number: DiskFiles(f"/vm/disk.{number}", formats.get(number, "raw")) for number in range(len(formats) + 1)}
    return domain_xml.render(vm, Site("/vm", "catalog", 1, files, accelerator="qemu")).text


UUID = "3f9a1c52-8e07-4d6b-b1a4-000000000019"


@in_world
def test_what_is_stored_is_what_libvirt_takes() -> None:
    """Each that a template may say, alone and with another."""
    import libvirt

    connection, taken, refused = connect(), 0, {}
    for chosen in choices():
        try:
            text = rendered(chosen)
        except NebulaError:
            continue
        try:
            connection.domainXMLToNative("qemu-argv", text, 0)
            taken += 1
        except libvirt.libvirtError as error:
            if OF_NODES not in str(error):
                refused[str(chosen)] = str(error)
    connection.close()
    assert refused == {}
    assert taken > 100
