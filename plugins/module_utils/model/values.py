# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that libvirt would refuse when a machine is made: known in advance, so that no template has them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Optional
from xml.etree import ElementTree as ET

from ..errors import InvalidValue
from .template import Template

# Hypervisors that these rules are those of.
HYPERVISORS = ("kvm", "qemu")
_WORDS = {
    ("DISK", "DEV_PREFIX"): ("vd", "sd", "hd", "fd"),
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
_NUMBERS = {
    "DISK": (*(limit + suffix for limit in IO_LIMITS for suffix in IO_SUFFIXES), "SIZE_IOPS_SEC", "IOTHREAD",
             "VIRTIO_BLK_QUEUES"),
    "NIC": ("INBOUND_AVG_BW", "INBOUND_PEAK_BW", "INBOUND_PEAK_KB", "OUTBOUND_AVG_BW", "OUTBOUND_PEAK_BW",
            "OUTBOUND_PEAK_KB", "VIRTIO_QUEUES", "MTU", "GUEST_MTU", "METRIC", "IP6_METRIC"),
    "FEATURES": ("VIRTIO_SCSI_QUEUES", "VIRTIO_BLK_QUEUES", "IOTHREADS"),
}  # fmt: skip
_ADDRESSES = {
    4: ("GATEWAY", "NETWORK_ADDRESS", "NETWORK_MASK", "VROUTER_IP"),
    6: ("GATEWAY6", "IP6_GATEWAY", "IP6_ULA", "IP6_GLOBAL", "VROUTER_IP6"),
}
_HOST = re.compile(r"[A-Za-z0-9_.:%-]*")
# Asynchronous I/O of the kernel's own kind goes past the page cache or not at all.
_UNCACHED = ("none", "directsync")
# What RAW stands in; its own namespace is for options of QEMU's command line.
_RAW_BEGIN, _RAW_END = '<domain xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">', "</domain>"


def check(template: Template, where: str) -> None:
    """InvalidValue for the first value that a machine can't have. where: names the object ("template web")."""
    for name in ("DISK", "NIC", "INPUT", "OS", "FEATURES"):
        vectors = template.vectors(name)
        for index, vector in enumerate(vectors):
            here = f"{where}: {name} {index}" if name in ("DISK", "NIC", "INPUT") else f"{where}: {name}"
            _check_vector(name, vector, here)
    listen = template.vector("GRAPHICS").get("LISTEN", "")
    if not _HOST.fullmatch(listen):
        raise InvalidValue(f"{where}: GRAPHICS/LISTEN = {listen!r}", "it is no address", "Write 127.0.0.1, or 0.0.0.0")
    for vector in template.vectors("RAW"):
        if vector.get("TYPE", "").lower() in HYPERVISORS:
            raw_fragment(vector.get("DATA", ""), f"{where}: RAW")


def _check_vector(name: str, vector: Mapping[str, str], where: str) -> None:
    numbers = _NUMBERS.get(name, ())
    for key, text in vector.items():
        value = text.strip().lower()
        words = _WORDS.get((name, key), ())
        if not value or value in words or (key in numbers and value.isascii() and value.isdigit()):
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
    if name == "INPUT" and vector.get("TYPE", "").lower() == "tablet" and vector.get("BUS", "").lower() == "ps2":
        raise InvalidValue(f"{where}: BUS = ps2", "no tablet goes there", "Use usb, or leave BUS out")


def _check_disk(vector: Mapping[str, str], where: str) -> None:
    cache = vector.get("CACHE", "").strip().lower() or "none"
    if vector.get("IO", "").strip().lower() == "native" and cache not in _UNCACHED:
        raise InvalidValue(
            f"{where}: IO = native, CACHE = {cache}",
            "native I/O goes past the page cache, which this CACHE uses",
            'Write CACHE = "none" or "directsync", or IO = "threads"',
        )
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


def _check_nic(vector: Mapping[str, str], where: str) -> None:
    for version, keys in _ADDRESSES.items():
        for key in keys:
            if not vector.get(key):
                continue
            try:
                good = ipaddress.ip_address(vector[key]).version == version
            except ValueError:
                good = False
            if not good:
                raise InvalidValue(
                    f"{where}: {key} = {vector[key]!r}",
                    f"it is no IPv{version} address",
                    "Correct it, or leave it out for the network's",
                )


def raw_fragment(data: str, where: str) -> Optional[ET.Element]:
    """RAW/DATA as the children of an element; None if it holds nothing. InvalidValue if it is not XML."""
    if not data.strip():
        return None
    parser = ET.XMLParser()
    try:
        for part in (_RAW_BEGIN, data, _RAW_END):
            parser.feed(part)
        fragment: ET.Element = parser.close()
        return fragment
    except ET.ParseError as error:
        line, column = error.position
        raise InvalidValue(
            f"{where} of type kvm",
            f"its DATA is not well-formed XML (line {line}, column {column}: {error.msg})",
            "Give elements as they stand below <domain>, each closed, with & and < written as &amp; and &lt;",
        ) from None
