# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what Xen is, and what a machine of it can be: its kind, the drivers of its disks, its boot order. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ...dataclass import replace
from ...errors import InvalidValue
from ...model import attributes, boot_image, defaults, libvirt_values
from ...model.disk_targets import DiskDevices
from ...model.flags import TRUE
from ...model.hypervisor import DROPPED_BY_LIBVIRT, LIBVIRT_PACKAGES, PACKAGES, Hypervisor
from ...model.image import TRUSTED, Image
from ...model.template import Template
from ...model.template_changes import FILTERS_OF_NICS
from ...model.vm import Os, Vm

PV, PVH, HVM = "pv", "pvh", "hvm"
# OS/MACHINE, by libvirt's words for them and by Xen's own.
MACHINES = {"xenpv": PV, "xenpvh": PVH, "xenfv": HVM, "pv": PV, "pvh": PVH, "hvm": HVM}
# DISK/DRIVER: what users of OpenNebula have written there, and the format that it means. Each generation of Xen's tools
# knew some of these words and not the others ("block device type raw is invalid").
DRIVERS = {
    "raw": "raw", "raw:": "raw", "file": "raw", "file:": "raw", "tap:aio:": "raw", "tap2:aio:": "raw", "aio:": "raw",
    "phy": "raw", "phy:": "raw", "qcow2": "qcow2", "qcow2:": "qcow2", "tap:qcow2:": "qcow2", "tap2:qcow2:": "qcow2",
}  # fmt: skip
BOOTLOADER = "pygrub"
# Disks and CDROMs that the emulated IDE controllers of an HVM machine have: what its firmware can boot from.
IDE_DEVICES = 4
_DISK, _CDROM, _NETWORK = "c", "d", "n"
FIRMWARES = ("BIOS", "UEFI")
# Xen itself is there: nothing else could have booted this host as a dom0.
_PACKAGES = ("xen-utils-common", "xenstore-utils", "qemu-utils")
# What ends a field in xl's lists, or the list.
ENDS = ",'\"[]\n"


def kind(os: Mapping[str, str]) -> str:
    """Return PV where a kernel or boot loader is given, else HVM, as OpenNebula has it, unless OS/MACHINE says
    otherwise. A machine type of another hypervisor (q35) says nothing here."""
    chosen = MACHINES.get(os.get("MACHINE", "").lower(), "")
    return chosen or (PV if any(os.get(key) for key in ("KERNEL", "KERNEL_DS", "BOOTLOADER")) else HVM)


def kind_of(vm: Vm) -> str:
    return kind(vm.os.type_keys)


def boot_letters(vm: Vm) -> str:
    """Return OS/BOOT as the firmware of an HVM machine wants it: c for disks, d for CDROMs, n for NICs."""
    found: list[str] = []
    for device in vm.os.boot:
        is_cdrom = device.startswith("disk") and _is_cdrom(vm, int(device[4:]))
        letter = _NETWORK if device.startswith("nic") else _CDROM if is_cdrom else _DISK
        if letter not in found:
            found.append(letter)
    if found:
        return "".join(found)
    # As a machine of KVM without BOOT: its disks in their order.
    disks = [_CDROM if disk.type == "CDROM" else _DISK for disk in vm.disks]
    return "".join(sorted(set(disks), key=disks.index)) or (_NETWORK if vm.nics else _DISK)


def adapt_os(os: Os, template: Template, images: Mapping[int, Image], where: str) -> Os:
    """Return OS as the image wants it that the machine boots from. Raise InvalidValue where that can't be."""
    if os.bootloader:
        first = next((int(device[4:]) for device in os.boot if device.startswith("disk")), 0)
        image = images.get(first)
        if image is None or not image.is_trusted:
            raise InvalidValue(
                f"{where}: OS/BOOTLOADER = {os.bootloader}",
                "it reads the file systems of the first disk on the host itself, as root, and "
                + (
                    f"image {image.name} is not marked as trusted, or was written to since"
                    if image
                    else "that disk is of no image"
                ),
                'Name KERNEL and INITRD, or write MACHINE = "xenfv" and no BOOTLOADER: then the machine reads its disk '
                f"itself. If you know what is in the image: nebula_image with attributes: {{{TRUSTED}: 'YES'}}",
            )
        return os
    if kind({"MACHINE": os.machine, "KERNEL": os.kernel}) != HVM:
        return os
    index = boot_image.boot_disk(os, images)
    if index is not None and images[index].firmware == boot_image.SECURE:
        raise InvalidValue(
            f"{where}: image {images[index].name}",
            "it was installed with secure boot, which Xen can't protect",
            "Use a host with KVM, or nebula_image with firmware: UEFI if the system starts without it",
        )
    return boot_image.with_firmware(os, template, images, where)


def _is_cdrom(vm: Vm, number: int) -> bool:
    return number < len(vm.disks) and vm.disks[number].type == "CDROM"


def check(template: Template, where: str) -> None:
    """Raise InvalidValue for the first thing that a machine of Xen can't have."""
    for name in ("DISK", "NIC", "OS", "GRAPHICS", "INPUT", "FEATURES"):
        for vector in template.vectors(name):
            for key, text in vector.items():
                libvirt_values.check_writable(text, f"{where}: {name}/{key}")
    os = template.vector("OS")
    _check_os(os, template, f"{where}: OS")
    for index, vector in enumerate(template.vectors("NIC")):
        _check_ends(vector.get("SCRIPT", ""), f"{where}: NIC {index}: SCRIPT")
    for vector in template.vectors("GRAPHICS"):
        _check_graphics(vector, kind(os), f"{where}: GRAPHICS")
    for index, vector in enumerate(template.vectors("INPUT")):
        given = vector.get("TYPE", "").lower(), vector.get("BUS", "usb").lower() or "usb"
        if given[0] not in ("tablet", "mouse") or given[1] != "usb":
            raise InvalidValue(
                f"{where}: INPUT {index}: TYPE = {vector.get('TYPE', '')}, BUS = {given[1]}",
                "Xen has a tablet and a mouse, both on USB",
                'Write TYPE = "tablet", and leave BUS out',
            )
    if template.vectors("TPM"):
        raise InvalidValue(
            f"{where}: TPM", "Xen's tools make none for a machine of its own", "Leave it out, or use KVM"
        )


def _check_os(vector: Mapping[str, str], template: Template, where: str) -> None:
    machine, firmware = vector.get("MACHINE", ""), vector.get("FIRMWARE", "")
    if machine and machine.lower() not in MACHINES:
        raise InvalidValue(
            f"{where}: MACHINE = {machine}", "Xen has no such machines", f"Use one of {', '.join(MACHINES)}"
        )
    is_hvm = kind(vector) == HVM
    kernel = vector.get("KERNEL") or vector.get("KERNEL_DS")
    if kernel and vector.get("BOOTLOADER"):
        raise InvalidValue(
            f"{where}: BOOTLOADER = {vector['BOOTLOADER']}",
            "there is a KERNEL too, and only one of them can be started",
            "Leave one of them out",
        )
    if not is_hvm and not kernel and not vector.get("BOOTLOADER"):
        raise InvalidValue(
            f"{where}: MACHINE = {machine}",
            "it has no firmware, and neither KERNEL nor BOOTLOADER is given",
            f'Name KERNEL and INITRD, or BOOTLOADER = "{BOOTLOADER}" for the kernel on its disk; or leave MACHINE out',
        )
    if firmware and not is_hvm:
        raise InvalidValue(f"{where}: FIRMWARE = {firmware}", "only machines of type HVM have one", "Leave it out")
    if firmware and firmware.upper() not in FIRMWARES:
        raise InvalidValue(f"{where}: FIRMWARE = {firmware}", "Xen has no such firmware", "Use BIOS or UEFI")
    if vector.get("FIRMWARE_SECURE", "").upper() in TRUE:
        raise InvalidValue(f"{where}: FIRMWARE_SECURE = YES", "Xen can't protect it", "Leave it out, or use KVM")
    if not is_hvm and ("nic" in vector.get("BOOT", "").lower() or "network" in vector.get("BOOT", "").lower()):
        raise InvalidValue(
            f"{where}: BOOT = {vector['BOOT']}",
            "only machines of type HVM boot from the network",
            'Leave it out, or write MACHINE = "xenfv" and no KERNEL',
        )


def _check_graphics(vector: Mapping[str, str], kind_: str, where: str) -> None:
    if vector.get("TYPE", "vnc").lower() != "vnc":
        raise InvalidValue(f"{where}: TYPE = {vector['TYPE']}", "Xen's consoles are VNC", 'Write TYPE = "vnc"')
    listen = vector.get("LISTEN", "")
    if listen and not libvirt_values.is_address(listen):
        raise InvalidValue(
            f"{where}: LISTEN = {listen!r}",
            "it is no address, and names are not looked up",
            "Write an address of the host: 127.0.0.1, or 0.0.0.0 for all of them",
        )
    if kind_ != HVM:
        # There all of it is one list. A password is not shown.
        _check_ends(vector.get("PASSWD", ""), f"{where}: PASSWD", shown=False)
        _check_ends(vector.get("KEYMAP", ""), f"{where}: KEYMAP")


def _check_ends(text: str, where: str, shown: bool = True) -> None:
    found = next((character for character in text if character in ENDS), "")
    if found:
        raise InvalidValue(
            f"{where} = {text!r}" if shown else where,
            f"it holds {found!r}, which ends it in the list that xl reads",
            "Use another without it",
        )


XEN = Hypervisor(
    name="xen",
    module=("xen.driver", "XenDriver"),
    console="xl console {domain}",
    packages=(*_PACKAGES, *PACKAGES),
    driver=defaults.XEN_FORMAT,
    words=DRIVERS,
    devices=DiskDevices(
        lacks=("uml", "usb", "sata", "fdc"),
        prefix=defaults.XEN_DEV_PREFIX,
        renamed={"vd": "xvd"},
        # Drives are emulated ones, whatever they are called elsewhere.
        cdroms={"sd": "xvd"},
        buses={"virtio": "xen"},
        shared=True,
        emulated=IDE_DEVICES,
    ),
    check=check,
    firmware=lambda os: kind(os) == HVM,
    fit=adapt_os,
    # MAX_GUEST_CMDLINE of Xen's start page, and COMMAND_LINE_SIZE of x86, less the byte that ends each.
    command_line=lambda os: 1023 if kind(os) == PV else 2047,
    column=attributes.XEN,
    live=("DISK", "NIC", "MEMORY", *FILTERS_OF_NICS, *attributes.silent(attributes.XEN)),
    # Of emulated drives only.
    changes_context=lambda os: kind(os) == HVM,
    ends_at_reboot="on_reboot = 'destroy'",
    moves=("live", "cold"),
)
# The same machines, made by libvirt.
XEN_LIBVIRT = replace(
    XEN,
    name="xen_libvirt",
    machines="xen",
    # Where libvirt keeps their definitions, nobody has seen to it yet that what has left stays away.
    moves=(),
    module=("xen.libvirt_driver", "XenLibvirtDriver"),
    # libvirt calls those of Xen as Xen's own tools do.
    drops_names=("vif", *DROPPED_BY_LIBVIRT),
    packages=(*_PACKAGES, "libvirt-daemon-system", "libvirt-daemon-driver-xen", *LIBVIRT_PACKAGES),
)
