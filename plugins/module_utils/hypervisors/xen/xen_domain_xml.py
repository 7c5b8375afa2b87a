# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders a machine as libvirt's domain XML for Xen, with the meaning of config.py's file. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree import ElementTree as ET

from ...dataclass import dataclass
from ...errors import InvalidValue
from ...host.console import console_log
from ...model import defaults, disk_targets
from ...model.disk import DiskFiles
from ...model.nic import Nic
from ...model.vm import Vm
from ..base import Deployment, Site
from ..libvirt.domain_xml import (
    MARK_PATH,
    NAMESPACE,
    add_graphics,
    add_text_element,
    attribute_of,
    begin_domain,
    deployment_of,
    flag,
)
from . import switch_ports
from . import xen_declaration as xen
from .config import NIC_MODELS, Needs, credits

XEN_NAMESPACE = "http://libvirt.org/schemas/domain/xen/1.0"
ET.register_namespace("xen", XEN_NAMESPACE)
_TYPES = {xen.PV: ("linux", "xenpv"), xen.PVH: ("xenpvh", "xenpvh"), xen.HVM: ("hvm", "xenfv")}
PORT = f"{{{NAMESPACE}}}port"
# The lowest weight that libvirt takes.
LOWEST = 2
_BOOT = {"c": "hd", "d": "cdrom", "n": "network"}
# What RAW may say, in xl's words: libvirt's are the same.
_ENDS = ("on_poweroff", "on_reboot", "on_crash")
_END = re.compile(rf"({'|'.join(_ENDS)})\s*=\s*['\"](destroy|restart|preserve|rename-restart)['\"]")


def render(vm: Vm, site: Site) -> Deployment:
    """Return the deployment file of a machine on this site. Raise InvalidValue for what libvirt has no words for."""
    where, kind = f"virtual machine {vm.name}", xen.kind_of(vm)
    domain, mark = begin_domain("xen", vm, site)
    if vm.cpu_limit:
        # libvirt has no word for it; it is set as soon as the machine runs.
        mark.set("cap", str(vm.cpu_limit))
    for record in switch_ports.records(vm):
        # Of our own script, which libvirt knows by its name only.
        add_text_element(mark, PORT, record)
    add_text_element(domain, "vcpu", str(vm.vcpu or 1))
    add_text_element(ET.SubElement(domain, "cputune"), "shares", str(max(credits(vm.cpu), LOWEST)))
    _boot(domain, vm, kind, where)
    _features(domain, vm, kind)
    add_text_element(domain, "clock", "", offset="localtime" if flag(vm.features, "LOCALTIME") else "utc")
    for name, value in _end_actions(vm, where).items():
        add_text_element(domain, name, value)
    _devices(ET.SubElement(domain, "devices"), vm, site, kind, where)
    if kind == xen.HVM:
        _serial(domain, site)
    return deployment_of(domain, vm, site)


def _boot(domain: ET.Element, vm: Vm, kind: str, where: str) -> None:
    if vm.os.firmware and vm.os.firmware.upper() != "BIOS":
        raise InvalidValue(
            f"{where}: OS/FIRMWARE = {vm.os.firmware}",
            "libvirt has no UEFI for machines of Xen",
            "Use a host with nebula_hypervisor: xen, or BIOS",
        )
    if vm.os.bootloader:
        _check_boot_disk_comes_first(vm, where)
        add_text_element(domain, "bootloader", vm.os.bootloader)
    os_ = ET.SubElement(domain, "os")
    type_, machine = _TYPES[kind]
    add_text_element(os_, "type", type_, arch=defaults.ARCH, machine=machine)
    if vm.os.kernel:
        add_text_element(os_, "kernel", vm.os.kernel)
        if vm.os.initrd:
            add_text_element(os_, "initrd", vm.os.initrd)
        root = vm.os.root if vm.os.root.startswith("/") else f"/dev/{vm.os.root}" if vm.os.root else ""
        command = " ".join(part for part in (f"root={root}" if root else "", vm.os.kernel_cmd) if part)
        if command:
            add_text_element(os_, "cmdline", command)
    elif kind == xen.HVM:
        for letter in xen.boot_letters(vm):
            ET.SubElement(os_, "boot", {"dev": _BOOT[letter]})


def _check_boot_disk_comes_first(vm: Vm, where: str) -> None:
    """Raise InvalidValue unless the disk to boot from has the first target, which libvirt's boot loader reads."""
    if not vm.disks:
        return
    wanted = min(vm.disks, key=lambda disk: disk.boot_order or len(vm.disks) + 1)
    first = min(vm.disks, key=lambda disk: disk_targets.letter_index(disk_targets.without_suffix(disk.target)))
    if wanted.boot_order and wanted is not first:
        raise InvalidValue(
            f"{where}: OS/BOOTLOADER = {vm.os.bootloader}",
            f"libvirt has it read {first.target}, and OS/BOOT names {wanted.target}",
            "Give the disk to boot from the first TARGET, or use a host with nebula_hypervisor: xen",
        )


def _features(domain: ET.Element, vm: Vm, kind: str) -> None:
    names = {xen.HVM: ("ACPI", "APIC", "PAE"), xen.PVH: ("ACPI",)}.get(kind, ())
    # What xl gives a machine where nothing is said, and libvirt only where something is.
    found = [name.lower() for name in names if flag(vm.features, name, default=True)]
    if kind == xen.HVM and flag(vm.features, "HYPERV"):
        found.append("viridian")
    if found:
        features = ET.SubElement(domain, "features")
        for name in found:
            ET.SubElement(features, name)


def _end_actions(vm: Vm, where: str) -> dict[str, str]:
    found = {}
    for line in filter(None, (line.strip() for line in vm.raw.get("xen", "").split("\n"))):
        match = _END.fullmatch(line)
        if match is None:
            raise InvalidValue(
                f"{where}: RAW of type xen",
                f"{line!r} is in the words of xl, and this host's machines are libvirt's, which has none for it",
                f"Use a host with nebula_hypervisor: xen, or leave it out; {', '.join(_ENDS)} are understood",
            )
        found[match[1]] = match[2]
    return {name: found[name] for name in _ENDS if name in found}


def _devices(devices: ET.Element, vm: Vm, site: Site, kind: str, where: str) -> None:
    disks = [
        _disk(site.disks[disk.disk_id], disk.target, disk.type == "CDROM", disk.readonly, kind) for disk in vm.disks
    ]
    if vm.context is not None:
        context = vm.context
        disks.append(_disk(site.disks[context.disk_id], context.target, context.device != "disk", True, kind))
    if kind == xen.HVM or vm.graphics is not None or any(files.format == "qcow2" for files in site.disks.values()):
        add_text_element(devices, "emulator", site.emulator)
    devices.extend(disks)
    devices.extend([_interface(nic, site, kind, where) for nic in vm.nics])
    if kind != xen.HVM:
        console_ = ET.SubElement(devices, "console", {"type": "pty"})
        ET.SubElement(console_, "target", {"type": "xen", "port": "0"})
    elif vm.inputs:
        ET.SubElement(devices, "input", {"type": vm.inputs[0].type.lower(), "bus": "usb"})
    if vm.graphics is not None:
        add_graphics(devices, vm.graphics, "vnc")


def _disk(files: DiskFiles, target: str, cdrom: bool, readonly: bool, kind: str) -> ET.Element:
    # A PVH machine has no drives for CDROMs: a read-only disk with the same content.
    cdrom_drive = cdrom and kind != xen.PVH
    device = "cdrom" if cdrom_drive else "disk"
    element = ET.Element("disk", {"type": "block" if files.block else "file", "device": device})
    if files.block:
        ET.SubElement(element, "driver", {"name": "phy", "type": "raw"})
    elif files.format == "qcow2":
        ET.SubElement(element, "driver", {"name": "qemu", "type": "qcow2"})
    # Nothing said is as xl has it: the kernel reads the file, by a loop device. A driver "file" would be QEMU, too.
    ET.SubElement(element, "source", {"dev" if files.block else "file": files.path})
    name = disk_targets.without_suffix(target)
    bus = {"hd": "ide", "sd": "scsi"}.get(disk_targets.prefix_of(name), "xen")
    ET.SubElement(element, "target", {"dev": name, "bus": bus})
    if readonly or cdrom:
        ET.SubElement(element, "readonly")
    return element


def _interface(nic: Nic, site: Site, kind: str, where: str) -> ET.Element:
    model = nic.model.lower() if kind == xen.HVM and nic.model.lower() in NIC_MODELS else ""
    switch_ports.refuse(nic, site, kind == xen.HVM and bool(model or nic.boot_order), where)
    # Else an HVM machine has an emulated NIC beside Xen's, and OVN knows one port of each.
    model = "netfront" if kind == xen.HVM and switch_ports.is_ovn_nic(nic) else model
    script = switch_ports.SCRIPT if switch_ports.is_switched(nic) else nic.options.get("SCRIPT", "")
    element = ET.Element("interface", {"type": "bridge" if nic.bridge else "ethernet"})
    ET.SubElement(element, "mac", {"address": nic.mac.lower()})
    if nic.bridge:
        ET.SubElement(element, "source", {"bridge": nic.bridge})
    if nic.ip:
        ET.SubElement(element, "ip", {"address": nic.ip, "family": "ipv4"})
    if script:
        ET.SubElement(element, "script", {"path": script})
    if nic.target:
        ET.SubElement(element, "target", {"dev": nic.target})
    if model:
        ET.SubElement(element, "model", {"type": model})
    return element


def _serial(domain: ET.Element, site: Site) -> None:
    """Add serial port 0 as config.py does: libvirt has a log only for consoles of QEMU's own machines."""
    device = f"pty,id=serial0,logfile={site.directory}/{console_log.NAME},logappend=on"
    arguments = ET.SubElement(domain, f"{{{XEN_NAMESPACE}}}commandline")
    for argument in ("-chardev", device, "-serial", "chardev:serial0"):
        ET.SubElement(arguments, f"{{{XEN_NAMESPACE}}}arg", {"value": argument})


# -- what stands in such a text ----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Devices:
    """Holds the devices in a machine's definition: disks by target, NICs by MAC."""

    disks: Mapping[str, ET.Element]
    nics: Mapping[str, ET.Element]


def devices_of(text: str) -> Devices:
    domain = ET.fromstring(text)
    disks = {attribute_of(each, "target", "dev"): each for each in domain.iterfind("devices/disk")}
    nics = {attribute_of(each, "mac", "address"): each for each in domain.iterfind("devices/interface")}
    return Devices(disks, nics)


def needs_of(text: str) -> Needs:
    domain = ET.fromstring(text)
    disks = []
    for disk in domain.iterfind("devices/disk"):
        path = attribute_of(disk, "source", "file") or attribute_of(disk, "source", "dev")
        if path:
            disks.append((path, disk.find("readonly") is None))
    emulator = domain.findtext("devices/emulator")
    records = domain.iterfind(f"{MARK_PATH}/{PORT}")
    switches = tuple(dict.fromkeys((record.text or "").split()[1] for record in records))
    bridges = dict.fromkeys(each.get("bridge", "") for each in domain.iterfind("devices/interface/source"))
    return Needs(
        memory=int(domain.findtext("memory") or 0) >> 10,
        vcpus=int(domain.findtext("vcpu") or 1),
        bridges=tuple(name for name in bridges if name and name not in switches),
        files=tuple(path for path in (domain.findtext("os/kernel"), domain.findtext("os/initrd")) if path),
        disks=tuple(disks),
        emulator="this machine" if emulator else "",
        switches=switches,
    )


def weights_of(text: str) -> tuple[int, int]:
    """Return the weight and the cap (0: none) that the machine is to have."""
    domain = ET.fromstring(text)
    return int(domain.findtext("cputune/shares") or 0), int(attribute_of(domain, MARK_PATH, "cap") or 0)
