# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders the video device, what comes with SPICE, the IOMMU, devices of the host, encryption and limits of a machine
for QEMU, with the meaning that they have in OpenNebula's KVM deployment file. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree import ElementTree as ET

from ...errors import InvalidValue
from ...model import libvirt_values
from ...model.vm import Vm
from .parsed_definitions import parsed

# Microseconds in which a machine gets its share of a processor, as that of the kernel's own.
PERIOD = 100_000
# libvirt's word for a machine without a limit.
UNLIMITED = -1
# From there on libvirt tells of none: more than any number of microseconds that it takes.
_ANY_QUOTA = (1 << 44) - 1
# What a console of SPICE brings with it by OpenNebula's defaults, unless SPICE_OPTIONS says what it is to be.
_SPICE_PORTS = 3
# An address of PCI, in the parts that libvirt has.
_ADDRESS = re.compile(r"([0-9a-f]{4}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])")
_PARTS = ("domain", "bus", "slot", "function")
# Bits of the policy of a guest with SEV: nobody debugs it, shares its key, or reads its registers.
_NO_DEBUG, _NO_KEY_SHARING, _ENCRYPTED_STATE = 1, 2, 4
_SPICE_CHANNEL = "com.redhat.spice.0"


def add_cpu_limit(tuned: ET.Element, vm: Vm) -> None:
    """Say how much of a processor the whole machine, QEMU's own threads among it, gets at most."""
    if vm.hardware_version and vm.cpu_limit:
        for name, value in (("global_period", PERIOD), ("global_quota", PERIOD * vm.cpu_limit // 100)):
            ET.SubElement(tuned, name).text = str(value)


def weights_of(text: str) -> tuple[str, ...]:
    """Return what a definition says about a machine's part of the processors, "" for what it does not say."""
    found = parsed(text).find("cputune")
    return tuple(
        "" if found is None else found.findtext(name, "") for name in ("shares", "global_quota", "global_period")
    )


def scheduler_parameters(text: str, running: Mapping[str, int]) -> dict[str, int]:
    """Return what a definition says about processors, in libvirt's words for a machine that runs. running: what it has
    now, likewise: a limit that it does not have is not taken from it."""
    shares, quota, period = weights_of(text)
    if quota:
        limited = {"global_period": int(period or PERIOD), "global_quota": int(quota)}
    else:
        limited = {"global_quota": UNLIMITED} if 0 < running.get("global_quota", 0) < _ANY_QUOTA else {}
    return {**({"cpu_shares": int(shares)} if shares else {}), **limited}


def add_power_management(domain: ET.Element, vm: Vm) -> None:
    if not vm.os.suspends:
        power = ET.SubElement(domain, "pm")
        for name in ("suspend-to-disk", "suspend-to-mem"):
            ET.SubElement(power, name, {"enabled": "no"})


def add_interrupt_controller(features: ET.Element, vm: Vm) -> None:
    """Have QEMU make the guest's I/O APIC, where an IOMMU maps interrupts: the kernel's own goes past it."""
    if vm.iommu is not None and vm.iommu.options.get("intremap") == "on":
        ET.SubElement(features, "ioapic", {"driver": "qemu"})


def brings(raw: ET.Element | None, path: str) -> bool:
    """Return whether RAW of the template has such an element itself: it stands in place of ours."""
    return raw is not None and raw.find(path) is not None


def add_iommu(devices: ET.Element, vm: Vm, raw: ET.Element | None) -> None:
    if vm.iommu is not None and not brings(raw, "devices/iommu"):
        element = ET.SubElement(devices, "iommu", {"model": vm.iommu.model})
        if vm.iommu.options:
            ET.SubElement(element, "driver", dict(vm.iommu.options))


def add_video(devices: ET.Element, vm: Vm, raw: ET.Element | None) -> None:
    """Add the video device that the template says, and what comes with SPICE. Without both libvirt adds one itself."""
    spice = vm.graphics is not None and vm.graphics.companions
    own = spice and add_fragment(devices, vm, "SPICE_OPTIONS")
    if vm.video is not None or brings(raw, "devices/video"):
        for element in devices.findall("video"):
            devices.remove(element)
        if not brings(raw, "devices/video"):
            _video(devices, vm)
    elif spice and not own:
        ET.SubElement(ET.SubElement(devices, "video"), "model", {"type": "vga", "heads": "1"})
    if spice and not own:
        _companions(devices, raw)


def _companions(devices: ET.Element, raw: ET.Element | None) -> None:
    if not brings(raw, "devices/sound"):
        ET.SubElement(devices, "sound", {"model": "ich6"})
    if not brings(raw, f"devices/channel/target[@name='{_SPICE_CHANNEL}']"):
        channel = ET.SubElement(devices, "channel", {"type": "spicevmc"})
        ET.SubElement(channel, "target", {"type": "virtio", "name": _SPICE_CHANNEL})
    without_usb = brings(raw, "devices/controller[@type='usb'][@model='none']")
    for _port in range(0 if without_usb or brings(raw, "devices/redirdev") else _SPICE_PORTS):
        ET.SubElement(devices, "redirdev", {"bus": "usb", "type": "spicevmc"})


def sound_cards_of_spice(vm: Vm) -> int:
    """Return how many sound cards the machine has beside those that its template brings."""
    return int(vm.graphics is not None and vm.graphics.companions and not vm.fragments.get("SPICE_OPTIONS"))


def _video(devices: ET.Element, vm: Vm) -> None:
    video = vm.video
    if video is None:
        return
    element = ET.SubElement(devices, "video")
    if video.iommu or video.ats:
        ET.SubElement(element, "driver", {name: "on" for name in ("iommu", "ats") if getattr(video, name)})
    model = ET.SubElement(element, "model", {"type": video.type, **({"vram": str(video.vram)} if video.vram else {})})
    if video.resolution is not None:
        across, down = video.resolution
        ET.SubElement(model, "resolution", {"x": str(across), "y": str(down)})


def add_host_devices(devices: ET.Element, vm: Vm) -> None:
    """Add the devices of its host that the machine has: libvirt takes them from the host's drivers, and back."""
    for device in vm.host_devices:
        numbers = _ADDRESS.fullmatch(device.address)
        if numbers is None:
            raise InvalidValue(
                f"virtual machine {vm.name}: PCI", f"{device.address!r} is no address", "Run role nebula.provision.vm"
            )
        element = ET.SubElement(devices, "hostdev", {"mode": "subsystem", "type": "pci", "managed": "yes"})
        values = {name: f"0x{number}" for name, number in zip(_PARTS, numbers.groups())}
        ET.SubElement(ET.SubElement(element, "source"), "address", values)


def host_devices_of(domain: ET.Element) -> tuple[str, ...]:
    """Return the addresses of the devices of its host in a definition."""
    found = []
    for address in domain.iterfind("devices/hostdev[@type='pci']/source/address"):
        numbers = [int(address.get(name, "0x0")[2:] or "0", 16) for name in _PARTS]
        found.append("{:04x}:{:02x}:{:02x}.{:x}".format(*numbers))
    return tuple(found)


def add_encryption(domain: ET.Element, vm: Vm) -> None:
    """Have the processor encrypt the machine's memory, and let QEMU lock what that needs."""
    if vm.encryption is None:
        return
    policy = _NO_DEBUG | _NO_KEY_SHARING | (_ENCRYPTED_STATE if vm.encryption.type == "SEV-ES" else 0)
    ET.SubElement(ET.SubElement(domain, "launchSecurity", {"type": "sev"}), "policy").text = f"0x{policy:08x}"
    limit = ET.SubElement(ET.SubElement(domain, "memtune"), "hard_limit", {"unit": "MiB"})
    limit.text = str(vm.most_memory + vm.encryption.offset)


def add_fragment(parent: ET.Element, vm: Vm, name: str) -> bool:
    """Add the XML that the template has for an attribute; return whether it has any."""
    text = vm.fragments.get(name, "")
    if text:
        parent.extend(list(libvirt_values.fragment(text, f"virtual machine {vm.name}: {name}")))
    return bool(text)
