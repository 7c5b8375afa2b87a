# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks values that libvirt would refuse when a machine is made: known in advance, so that no template has them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import InvalidValue
from . import defaults
from .flags import FALSE, TRUE
from .object_names import nearest_word
from .template import Template
from .whole_numbers import whole

if TYPE_CHECKING:
    from xml.etree import ElementTree as ET

# Hypervisors that these rules are those of.
HYPERVISORS = ("kvm", "qemu")
_WORDS = {
    ("DISK", "DEV_PREFIX"): ("vd", "sd", "hd"),
    ("DISK", "CACHE"): ("none", "writethrough", "writeback", "directsync", "unsafe", "default"),
    ("DISK", "IO"): ("native", "threads", "io_uring"),
    ("DISK", "DISCARD"): ("unmap", "ignore"),
    ("DISK", "ERROR_POLICY"): ("stop", "report", "ignore", "enospace"),
    ("INPUT", "TYPE"): ("tablet", "mouse", "keyboard"),
    ("INPUT", "BUS"): ("usb", "ps2", "virtio"),
    ("OS", "ARCH"): ("x86_64", "i686"),
    ("FEATURES", "VIRTIO_SCSI_QUEUES"): ("auto",),
    ("FEATURES", "VIRTIO_BLK_QUEUES"): ("auto",),
    ("DISK", "VIRTIO_BLK_QUEUES"): ("auto",),
    ("NIC", "VIRTIO_QUEUES"): ("auto",),
}
IO_LIMITS = (
    "TOTAL_BYTES_SEC", "READ_BYTES_SEC", "WRITE_BYTES_SEC", "TOTAL_IOPS_SEC", "READ_IOPS_SEC", "WRITE_IOPS_SEC",
)  # fmt: skip
IO_SUFFIXES = ("", "_MAX", "_MAX_LENGTH")
# What is changed while a machine runs: limits of a disk, and of an interface.
DISK_LIMITS = (*(limit + suffix for limit in IO_LIMITS for suffix in IO_SUFFIXES), "SIZE_IOPS_SEC")
NIC_LIMITS = (
    "INBOUND_AVG_BW", "INBOUND_PEAK_BW", "INBOUND_PEAK_KB", "OUTBOUND_AVG_BW", "OUTBOUND_PEAK_BW", "OUTBOUND_PEAK_KB",
)  # fmt: skip
# What a bridge or switch of the host does with an interface, changed likewise.
NIC_VALUES = ("LINK", "VLAN_TAGGED_ID")
_NUMBERS = {
    "DISK": (*DISK_LIMITS, "IOTHREAD", "VIRTIO_BLK_QUEUES"),
    "NIC": (*NIC_LIMITS, "VIRTIO_QUEUES", "MTU", "GUEST_MTU", "METRIC", "IP6_METRIC"),
    "FEATURES": ("VIRTIO_SCSI_QUEUES", "VIRTIO_BLK_QUEUES", "IOTHREADS", "PCIHOLE64"),
}  # fmt: skip
# Keyboards that QEMU's consoles know; it starts with no other.
KEYMAPS = (
    "ar", "bepo", "cz", "da", "de", "de-ch", "en-gb", "en-us", "es", "et", "fi", "fo", "fr", "fr-be", "fr-ca", "fr-ch",
    "hr", "hu", "is", "it", "ja", "lt", "lv", "mk", "nl", "nl-be", "no", "pl", "pt", "pt-br", "ru", "sl", "sv", "th",
    "tr",
)  # fmt: skip
# Interfaces that QEMU has for PCs, and libvirt's own words for some; a node's own may know more.
_NIC_MODELS = (
    "virtio", "virtio-transitional", "virtio-non-transitional", "e1000", "e1000e", "igb", "rtl8139", "ne2k_pci",
    "pcnet", "vmxnet3", "tulip", "usb-net", "i82550", "i82551", "i82557b", "i82559er", "i82562", "i82801", "netfront",
)  # fmt: skip
_ADDRESSES = {
    4: ("GATEWAY", "NETWORK_ADDRESS", "NETWORK_MASK", "VROUTER_IP"),
    6: ("GATEWAY6", "IP6_GATEWAY", "IP6_ULA", "IP6_GLOBAL", "VROUTER_IP6"),
}
_MACHINE = re.compile(r"(pc|q35|pc-(i440fx|q35)-\S+)?")
# libvirt lets these characters into QEMU's arguments.
_SERIAL = re.compile(r"[A-Za-z0-9_ .+-]*")
# RAW says which hypervisor it is for; OpenNebula calls KVM with and without acceleration the same.
RAW_TYPES = ("kvm", "xen", "lxc", "openvz", "vmware")
# Asynchronous I/O of the kernel's own kind goes past the page cache or not at all.
_UNCACHED = ("none", "directsync")
# Vectors whose values deployment files hold.
_WRITTEN = ("DISK", "NIC", "OS", "GRAPHICS", "INPUT", "FEATURES", "CPU_MODEL")
# What XML 1.0 leaves out, and the carriage return, which its readers make a line's end of. To compile it takes 5 ms, so
# that is left to its first use.
_UNWRITABLE = "[^\t\n -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
# RAW is read as if it stood between these; the namespace is for options of QEMU's command line.
_RAW_BEGIN, _RAW_END = '<domain xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">', "</domain>"


def check_values(template: Template, where: str) -> None:
    """Raise InvalidValue for the first value that a machine can't have. where: names the object ("template web")."""
    for name in _WRITTEN:
        for vector in template.vectors(name):
            for key, text in vector.items():
                check_writable(text, f"{where}: {name}/{key}")
    for name in ("DISK", "NIC", "INPUT", "OS", "FEATURES"):
        vectors = template.vectors(name)
        for index, vector in enumerate(vectors):
            here = f"{where}: {name} {index}" if name in ("DISK", "NIC", "INPUT") else f"{where}: {name}"
            _check_vector(name, vector, here)
    _check_os(template.vector("OS"), f"{where}: OS")
    check_acpi(template.vector("OS").get("FIRMWARE", ""), template, where)
    _check_emulator(template.get("EMULATOR"), where)
    _check_iothreads(template, where)
    cpu_model = template.vector("CPU_MODEL")
    if cpu_model.get("FEATURES") and not cpu_model.get("MODEL"):
        raise InvalidValue(
            f"{where}: CPU_MODEL/FEATURES = {cpu_model['FEATURES']}",
            "there is no MODEL that they could be added to",
            'Name one: MODEL = "host-model", or a name as in `virsh cpu-models x86_64`',
        )
    listen = template.vector("GRAPHICS").get("LISTEN", "")
    if listen and not is_address(listen):
        raise InvalidValue(
            f"{where}: GRAPHICS/LISTEN = {listen!r}",
            "it is no address, and names are not looked up",
            "Write an address of the host: 127.0.0.1, or 0.0.0.0 for all of them",
        )
    for vector in template.vectors("RAW"):
        kind = vector.get("TYPE", "").lower()
        if kind not in RAW_TYPES:
            raise InvalidValue(
                f"{where}: RAW/TYPE = {vector.get('TYPE', '')!r}",
                "it tells for which hypervisor DATA is, and there is none of that name",
                f"Use one of {', '.join(RAW_TYPES)}",
            )
        if kind in HYPERVISORS:
            raw_fragment(vector.get("DATA", ""), f"{where}: RAW")


def warnings_of_values(template: Template) -> list[str]:
    """Return warnings about what is taken and does not do what it says."""
    os, found = template.vector("OS"), []
    machine, firmware = os.get("MACHINE", ""), os.get("FIRMWARE", "").upper()
    if template.vector("FEATURES").get("PCIHOLE64") and machine and "q35" not in machine:
        found.append(f"FEATURES/PCIHOLE64 is kept, and nothing acts on it on machine {machine}: it is for q35")
    for index, vector in enumerate(template.vectors("NIC")):
        model = vector.get("MODEL", "")
        if model and model not in _NIC_MODELS:
            near = nearest_word(model.lower(), _NIC_MODELS)
            found.append(
                f"NIC {index}: MODEL = {model!r} is none that is known of QEMU: the machine starts only where its own "
                "has it" + (f". Is {near} meant?" if near else "")
            )
    if os.get("ARCH", "").lower() == "i686" and firmware in ("UEFI", "EFI"):
        found.append(f"OS/FIRMWARE = {firmware}: for ARCH = i686 it is a package of its own (ovmf-ia32) on the node")
    return found


def check_acpi(firmware: str, template: Template, where: str) -> None:
    """Raise InvalidValue for UEFI without ACPI: libvirt stores such a machine, and never starts it."""
    acpi = template.vector("FEATURES").get("ACPI", "").strip().upper()
    if firmware and firmware.upper() != "BIOS" and acpi in FALSE and acpi:
        raise InvalidValue(
            f"{where}: FEATURES: ACPI = {acpi}",
            f"UEFI (FIRMWARE = {firmware}) needs it",
            "Leave ACPI out, or set FIRMWARE = BIOS",
        )


def _check_emulator(text: str, where: str) -> None:
    path = text.strip()
    check_writable(path, f"{where}: EMULATOR")
    if path and (not path.startswith("/") or path.endswith("/")):
        raise InvalidValue(
            f"{where}: EMULATOR = {path}",
            "it is no absolute path of a program",
            "Write the path of QEMU on the node, such as /usr/bin/qemu-system-x86_64, or leave it out",
        )


def check_writable(text: str, where: str) -> None:
    """Raise InvalidValue for what no XML can hold, or gives back otherwise. It may be a password, and is not shown."""
    found = re.search(_UNWRITABLE, text)
    if found:
        raise InvalidValue(
            where, f"it holds the character {found.group()!r}, which no deployment file can", "Remove it"
        )


def _check_vector(name: str, vector: Mapping[str, str], where: str) -> None:
    numbers = _NUMBERS.get(name, ())
    for key, text in vector.items():
        value = text.strip().lower()
        words = _WORDS.get((name, key), ())
        # A number of blanks alone would be a number to nobody later.
        if not text or value in words or (key in numbers and value == text.lower() and whole(value) is not None):
            continue
        if not value and key not in numbers:
            continue
        if key in numbers:
            either = f"{words[0]}, or " if words else ""
            raise InvalidValue(f"{where}: {key} = {text!r}", "it is not a whole number", f"Write {either}digits only")
        if words:
            raise InvalidValue(f"{where}: {key} = {text!r}", "there is no such value", f"Use one of {', '.join(words)}")
    if name == "DISK":
        _check_disk(vector, where)
    if name == "NIC":
        _check_nic(vector, where)
    if name == "INPUT" and not vector.get("TYPE"):
        raise InvalidValue(where, "it has no TYPE", f"Write TYPE = one of {', '.join(_WORDS['INPUT', 'TYPE'])}")
    if name == "INPUT" and vector.get("TYPE", "").lower() == "tablet" and vector.get("BUS", "").lower() == "ps2":
        raise InvalidValue(f"{where}: BUS = ps2", "no tablet goes there", "Use usb, or leave BUS out")


def _check_disk(vector: Mapping[str, str], where: str) -> None:
    cache = vector.get("CACHE", "").strip().lower() or defaults.CACHE
    if vector.get("IO", "").strip().lower() == "native" and cache not in _UNCACHED:
        raise InvalidValue(
            f"{where}: IO = native, CACHE = {cache}",
            "native I/O goes past the page cache, which this CACHE uses",
            'Write CACHE = "none" or "directsync", or IO = "threads"',
        )
    check_shareable(vector, vector.get("DRIVER") or vector.get("FORMAT", ""), where)
    for what in ("BYTES", "IOPS"):
        for suffix in IO_SUFFIXES:
            total = f"TOTAL_{what}_SEC{suffix}"
            parts = [key for key in (f"READ_{what}_SEC{suffix}", f"WRITE_{what}_SEC{suffix}") if vector.get(key)]
            if vector.get(total) and parts:
                raise InvalidValue(
                    f"{where}: {total} = {vector[total]}",
                    f"{parts[0]} is set too, and one includes the other",
                    "Limit the total, or reading and writing each",
                )
    for limit in IO_LIMITS:
        _check_burst(vector, limit, where)
    if vector.get("SIZE_IOPS_SEC") and not any(vector.get(limit) for limit in IO_LIMITS if "IOPS" in limit):
        raise InvalidValue(
            f"{where}: SIZE_IOPS_SEC = {vector['SIZE_IOPS_SEC']}",
            "it tells how large an operation counts as one, and operations have no limit",
            "Set TOTAL_IOPS_SEC too, or READ_IOPS_SEC and WRITE_IOPS_SEC",
        )
    if not _SERIAL.fullmatch(vector.get("SERIAL", "")):
        raise InvalidValue(
            f"{where}: SERIAL = {vector['SERIAL']!r}",
            "libvirt takes no such characters there",
            "Use letters, digits, blanks, _ . + and -",
        )


def check_shareable(vector: Mapping[str, str], format_: str, where: str) -> None:
    if vector.get("SHAREABLE", "").strip().upper() in TRUE and format_.lower() == "qcow2":
        raise InvalidValue(
            f"{where}: SHAREABLE = YES",
            "it is of format qcow2, which one machine alone can write to",
            "Use a persistent image of format raw, or DRIVER = raw",
        )


def _check_burst(vector: Mapping[str, str], limit: str, where: str) -> None:
    """Raise InvalidValue for a burst without its limit, or a burst's length without its burst: QEMU, unlike libvirt,
    wants each of them to have the one before."""
    names = [limit + suffix for suffix in IO_SUFFIXES]
    for before, key in zip(names, names[1:]):
        if vector.get(key) and not vector.get(before):
            raise InvalidValue(f"{where}: {key} = {vector[key]}", f"there is no {before}", f"Set {before} too")
    if vector.get(names[1]) and int(vector[names[1]]) < int(vector[limit]):
        raise InvalidValue(
            f"{where}: {names[1]} = {vector[names[1]]}",
            f"{limit} = {vector[limit]} is more",
            "A burst is above the limit",
        )


def _check_os(vector: Mapping[str, str], where: str) -> None:
    machine = vector.get("MACHINE", "")
    if not _MACHINE.fullmatch(machine):
        raise InvalidValue(
            f"{where}: MACHINE = {machine!r}",
            "there is no such machine type",
            "Use q35 or pc, or one of their versions as `virsh capabilities` has them: pc-q35-7.2",
        )
    if vector.get("BOOTLOADER"):
        raise InvalidValue(
            f"{where}: BOOTLOADER = {vector['BOOTLOADER']!r}",
            "KVM has none beside the one on the disk",
            "Leave it out, or name KERNEL and INITRD",
        )
    if vector.get("FIRMWARE_SECURE", "").upper() in TRUE:
        firmware = vector.get("FIRMWARE", "")
        if not firmware or firmware.upper() == "BIOS":
            raise InvalidValue(
                f"{where}: FIRMWARE_SECURE = YES", f"FIRMWARE is {firmware or 'not set'}", 'Set FIRMWARE = "UEFI"'
            )
        if machine and "q35" not in machine:
            raise InvalidValue(
                f"{where}: FIRMWARE_SECURE = YES", f"machine {machine} can't protect it", 'Set MACHINE = "q35"'
            )


def _check_iothreads(template: Template, where: str) -> None:
    threads = template.vector("FEATURES").get("IOTHREADS") or "0"
    for index, vector in enumerate(template.vectors("DISK")):
        if vector.get("IOTHREAD") and not 1 <= int(vector["IOTHREAD"]) <= int(threads):
            raise InvalidValue(
                f"{where}: DISK {index}: IOTHREAD = {vector['IOTHREAD']}",
                f"FEATURES/IOTHREADS is {threads}, and they count from 1",
                f"Set FEATURES/IOTHREADS to at least {max(int(vector['IOTHREAD']), 1)}, or leave IOTHREAD out",
            )


def _check_nic(vector: Mapping[str, str], where: str) -> None:
    for version, keys in _ADDRESSES.items():
        for key in keys:
            if not vector.get(key):
                continue
            if not is_address(vector[key], version):
                raise InvalidValue(
                    f"{where}: {key} = {vector[key]!r}",
                    f"it is no IPv{version} address",
                    "Correct it, or leave it out for the network's",
                )
    if vector.get("SCRIPT"):
        raise InvalidValue(
            f"{where}: SCRIPT = {vector['SCRIPT']!r}", "libvirt runs none for interfaces of a bridge", "Leave it out"
        )
    for direction in ("INBOUND", "OUTBOUND"):
        average = f"{direction}_AVG_BW"
        for key in (f"{direction}_PEAK_BW", f"{direction}_PEAK_KB"):
            if vector.get(key) and not vector.get(average):
                raise InvalidValue(f"{where}: {key} = {vector[key]}", f"there is no {average}", f"Set {average} too")


def is_address(text: str, version: int = 0) -> bool:
    # A scope (fe80::1%eth0) may be any text to ipaddress.
    if "%" in text:
        return False
    try:
        return ipaddress.ip_address(text).version in ((version,) if version else (4, 6))
    except ValueError:
        return False


def raw_fragment(data: str, where: str, kind: str = "kvm") -> ET.Element | None:
    """Return RAW/DATA as the children of an element, None if it holds nothing; raise InvalidValue if it is not XML.
    kind: its TYPE."""
    return fragment(data, f"{where} of type {kind}", "DATA") if data.strip() else None


def fragment(data: str, where: str, name: str = "text") -> ET.Element:
    """Return XML as the children of an element; raise InvalidValue if it is none. name: what it is called."""
    from xml.etree import ElementTree as ET

    parser = ET.XMLParser()
    try:
        for part in (_RAW_BEGIN, data, _RAW_END):
            parser.feed(part)
        found: ET.Element = parser.close()
        return found
    except UnicodeEncodeError:
        raise InvalidValue(where, f"its {name} holds half a surrogate pair, which no file can", "Correct it") from None
    except ET.ParseError as error:
        line, column = error.position
        raise InvalidValue(
            where,
            f"its {name} is not well-formed XML (line {line}, column {column}: {error.msg})",
            "Give elements as they stand below <domain>, each closed, with & and < written as &amp; and &lt;",
        ) from None
