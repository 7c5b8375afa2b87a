# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a template says of its video device, its IOMMU, the order of its devices and of libvirt's own XML."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.hypervisor_rules import rules_of
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate import pc_hardware
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.validate import validate
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Iommu, Video, Vm
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

DISK = "MEMORY = 64 DISK = [ IMAGE = debian ] "


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", None),
        ("VIDEO = [ TYPE = auto ]", None),
        ('VIDEO = [ TYPE = "", VRAM = "" ]', None),
        ("VIDEO = [ TYPE = NONE, VRAM = 4096, RESOLUTION = 800x600 ]", Video("none")),
        ("VIDEO = [ TYPE = Cirrus, VRAM = 4096, RESOLUTION = 800x600 ]", Video("cirrus", 4096)),
        ("VIDEO = [ TYPE = vga, VRAM = 1023 ]", Video("vga")),
        (
            "VIDEO = [ TYPE = virtio, RESOLUTION = 1280X720, IOMMU = YES, ATS = yes ]",
            Video("virtio", 0, (1280, 720), True, True),
        ),
        ("VIDEO = [ TYPE = qxl, IOMMU = NO ]", Video("qxl")),
    ],
)
def test_video(machine: Callable[..., Vm], text: str, wanted: Video | None) -> None:
    assert machine(DISK + text).video == wanted
    assert machine(DISK + text, hypervisor="xen").video is None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", None),
        ("IOMMU = [ MODEL = Intel, MODE = single ]", Iommu("intel")),
        (
            'IOMMU = [ MODEL = intel, OPTIONS = "intremap=on, eim=ON,aw_bits=48" ]',
            Iommu("intel", {"intremap": "on", "eim": "on", "aw_bits": "48"}),
        ),
        ("IOMMU = [ MODEL = virtio ] OS = [ MACHINE = q35 ]", Iommu("virtio")),
    ],
)
def test_iommu(machine: Callable[..., Vm], text: str, wanted: Iommu | None) -> None:
    assert machine(DISK + text).iommu == wanted


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("VIDEO = [ TYPE = vgaa ]", "no such video device.*vga"),
        ("VIDEO = [ VRAM = 4096 ]", "it is not set"),
        ("VIDEO = [ TYPE = vga ] VIDEO = [ TYPE = vga ]", "it is there 2 times"),
        ("VIDEO = [ TYPE = vga, VRAM = much ]", "VIDEO/VRAM.*not a whole number"),
        ("VIDEO = [ TYPE = vga, VRAM = 99999999 ]", "no video device has that much"),
        ("VIDEO = [ TYPE = vga, RESOLUTION = 1024 ]", "RESOLUTION.*1280x720"),
        ("VIDEO = [ TYPE = vga, RESOLUTION = 0x600 ]", "no resolution"),
        ("VIDEO = [ TYPE = vga, RESOLUTION = 99999x600 ]", "no resolution"),
        ("VIDEO = [ TYPE = vga, ATS = YES ]", "Only TYPE = .virtio. has that"),
        ("VIDEO = [ TYPE = virtio, IOMMU = maybe ]", "neither YES nor NO"),
        ("IOMMU = [ MODE = single ]", "no such IOMMU"),
        ("IOMMU = [ MODEL = smmuv3 ]", "no such IOMMU"),
        ("IOMMU = [ MODEL = intel, MODE = device ]", "none is handed to a machine"),
        ("IOMMU = [ MODEL = intel ] OS = [ MACHINE = pc ]", "machine pc has none"),
        ("IOMMU = [ MODEL = virtio ] FEATURES = [ ACPI = NO ]", "needs ACPI"),
        ('IOMMU = [ MODEL = intel, OPTIONS = "intremap" ]', "no such option"),
        ('IOMMU = [ MODEL = intel, OPTIONS = "x=\'/><evil/>" ]', "no such option"),
        ('IOMMU = [ MODEL = intel, OPTIONS = "aw_bits=7" ]', "no such option"),
        ('IOMMU = [ MODEL = intel, OPTIONS = "eim=on" ]', "Add intremap=on"),
        ('IOMMU = [ MODEL = virtio, OPTIONS = "iotlb=on" ]', "Leave OPTIONS out"),
        ('HYPERV_OPTIONS = "<relaxed"', "HYPERV_OPTIONS.*not well-formed"),
        ('HYPERV_OPTIONS = "relaxed"', "text outside of elements"),
        ("HYPERV_TIMERS = \"<clock offset='utc'/>\"", "it holds <clock>.*<timer>"),
        ("SPICE_OPTIONS = \"<disk type='file'/>\"", "it holds <disk>"),
        ("NIC = [ NETWORK = n, LINK = 1000 ]", "NIC 0: LINK.*up or down"),
        ("DISK = [ IMAGE = debian, ORDER = first ]", "DISK 1: ORDER.*not a whole number"),
        ("DISK = [ IMAGE = debian, ORDER = 0 ]", "at least 1"),
        ("NIC = [ NETWORK = n, ORDER = 1 ] NIC = [ NETWORK = n, ORDER = 1 ]", "nic0 has it too"),
    ],
)
def test_what_no_machine_can_have(machine: Callable[..., Vm], text: str, why: str) -> None:
    wrong = parse(DISK + text)
    with pytest.raises(InvalidValue, match=why):
        machine(wrong)
    for before in (None, parse(DISK)):
        with pytest.raises(InvalidValue, match=f"template web: .*{why}"):
            pc_hardware.refuse_in_template(wrong, before, "template web", ["kvm"])
        pc_hardware.refuse_in_template(wrong, before, "template web", ["xen"])
    # One that is stored is told of it: it did nothing when it was stored.
    pc_hardware.refuse_in_template(wrong.merged(parse("MEMORY = 2")), wrong, "template web", ["kvm"])
    assert any(text.split(maxsplit=1)[0] in doubt for doubt in validate(wrong, where="template web"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("VIDEO = [ TYPE = vga, VRAM = 16 ]", "VIDEO/VRAM = 16 is left out"),
        ("VIDEO = [ TYPE = cirrus, RESOLUTION = 800x600 ]", "RESOLUTION does nothing with TYPE = cirrus"),
        ("HYPERV_OPTIONS = \"<relaxed state='on'/>\"", "do nothing without HYPERV"),
        ("SPICE_OPTIONS = \"<sound model='ich9'/>\" GRAPHICS = [ TYPE = vnc ]", "do nothing without TYPE = spice"),
        ("NIC = [ NETWORK = n, ORDER = 1 ] OS = [ BOOT = disk0 ]", "ORDER of DISK and NIC does nothing"),
    ],
)
def test_what_does_nothing_is_told(machine: Callable[..., Vm], text: str, why: str) -> None:
    assert any(why in doubt for doubt in validate(parse(DISK + text), hypervisors=["kvm"]))
    assert machine(DISK + text).hardware_version == rules_of("kvm").hardware_version


def test_the_order_of_devices(machine: Callable[..., Vm]) -> None:
    disks = "DISK = [ IMAGE = debian, ORDER = 30 ] DISK = [ IMAGE = debian ] NIC = [ NETWORK = n, ORDER = 2 ]"
    vm = machine("MEMORY = 64 " + disks)
    assert vm.os.boot == ("nic0", "disk0")
    assert ([disk.boot_order for disk in vm.disks], vm.nics[0].boot_order) == ([2, 0], 1)
    # As for a real oned, BOOT counts.
    vm = machine("MEMORY = 64 OS = [ BOOT = disk1 ] " + disks)
    assert ([disk.boot_order for disk in vm.disks], vm.nics[0].boot_order) == ([0, 1], 0)
    assert machine("MEMORY = 64 " + disks, hypervisor="xen").os.boot == ()


@pytest.mark.parametrize(
    ("firmware", "suspends"),
    [("", True), ("BIOS", True), ("UEFI", False), ("/usr/share/OVMF/OVMF_CODE_4M.fd", False)],
)
def test_a_guest_of_uefi_does_not_sleep(machine: Callable[..., Vm], firmware: str, suspends: bool) -> None:
    assert machine(f'{DISK} OS = [ FIRMWARE = "{firmware}" ]').os.suspends is suspends


def test_a_secret_that_is_none_is_told(machine: Callable[..., Vm]) -> None:
    wrong = parse("MEMORY = 64 DISK = [ IMAGE = debian, LUKS_SECRET = open ]")
    with pytest.raises(InvalidValue, match="LUKS_SECRET"):
        pc_hardware.refuse_in_template(wrong, None, "template web", ["kvm"])
    assert any("LUKS_SECRET" in doubt for doubt in validate(wrong, hypervisors=["kvm"]))
