# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes out of a backup's template what a new machine may have of it.

A backup may have been written by strangers: only what a machine needs to be what it was passes, by name and value.
What reaches a host's files or devices, or other machines, does not: SOURCE, KERNEL, RAW, INJECT, FILES, EMULATOR …"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Callable

from ..dataclass import dataclass
from ..errors import InvalidValue
from .attributes import CONTAINER
from .flags import TRUE
from .machine_backup import BackedUpDisk, MachineBackup
from .security_group import ATTRIBUTE as GROUPS
from .security_group import DEFAULT_ID
from .template import Template, Value

# Characters of a value.
_LONGEST = 1 << 16
_MOST_ATTRIBUTES = 512
_SINGLES = frozenset((
    *("CPU", "VCPU", "MEMORY", "HYPERVISOR", "CPULIMIT", "CONTEXT_FORMAT", "CONTEXT_DEVICE"),
    *("DESCRIPTION", "LABELS", "MEMORY_MAX", "VCPU_MAX", "MEMORY_SLOTS", "MEMORY_RESIZE_MODE"),
    *(name for name in CONTAINER if name != "OSTEMPLATE"),
))  # fmt: skip
_DISK_OPTIONS = frozenset((
    *("DEV_PREFIX", "CACHE", "IO", "DISCARD", "IOTHREAD", "VIRTIO_BLK_QUEUES", "FORMAT", "SERIAL"),
    *(
        f"{which}_{what}_SEC{more}"
        for which in ("TOTAL", "READ", "WRITE")
        for what in ("BYTES", "IOPS")
        for more in ("", "_MAX", "_MAX_LENGTH")
    ),
))  # fmt: skip
_VECTORS: Mapping[str, frozenset[str]] = {
    "OS": frozenset(("ARCH", "MACHINE", "BOOT", "FIRMWARE", "FIRMWARE_SECURE", "SD_DISK_BUS", "SUSPENDS")),
    "CPU_MODEL": frozenset(("MODEL", "FEATURES")),
    "FEATURES": frozenset((
        *("PAE", "ACPI", "APIC", "LOCALTIME", "HYPERV", "GUEST_AGENT", "VIRTIO_SCSI_QUEUES", "VIRTIO_BLK_QUEUES"),
        *("IOTHREADS",),
    )),
    "GRAPHICS": frozenset(("TYPE", "KEYMAP", "PASSWD", "RANDOM_PASSWD")),
    "VIDEO": frozenset(("TYPE", "VRAM", "RESOLUTION", "IOMMU", "ATS")),
    "INPUT": frozenset(("TYPE", "BUS")),
    "TPM": frozenset(("MODEL", "VERSION")),
    "TOPOLOGY": frozenset(("SOCKETS", "CORES", "THREADS")),
    "NIC_DEFAULT": frozenset(("MODEL",)),
    # IP, MAC and the like are the machine's of which this is the backup.
    "NIC": frozenset((
        *("NETWORK", "MODEL", "NAME", "VIRTIO_QUEUES", "GATEWAY", "METHOD", "IP6_METHOD"),
        *("INBOUND_AVG_BW", "INBOUND_PEAK_BW", "INBOUND_PEAK_KB"),
        *("OUTBOUND_AVG_BW", "OUTBOUND_PEAK_BW", "OUTBOUND_PEAK_KB"),
    )),
    "DISK": _DISK_OPTIONS,
}  # fmt: skip
# What guards a NIC: of each, and of NIC_DEFAULT for those that do not say it.
_FILTERS = ("FILTER_IP_SPOOFING", "FILTER_MAC_SPOOFING")
_GUARDS = (GROUPS, *_FILTERS)
# Of a context everything is the guest's, but what names files of the front-end, and what is of the old addresses.
_NOT_OF_CONTEXT = frozenset(("FILES", "FILES_DS", "INIT_SCRIPTS", "DISK_ID", "UNAME", "GNAME", "UID", "GID"))
_OF_NICS = re.compile(r"(?:ETH\d+|PCI\d+)_[A-Z0-9_]+", re.ASCII)
_NAMES_A_FILE = re.compile(r"\$(?:FILE|IMAGE)\b", re.IGNORECASE)
_DISK_OF_BOOT = re.compile(r"disk(\d{1,6})", re.ASCII)
_SIZE = re.compile(r"[1-9]\d{0,8}", re.ASCII)


@dataclass(frozen=True)
class OfSite:
    """Says what is here: names of networks, of images that are CDs, and of security groups by their ids."""

    networks: frozenset[str]
    cdroms: frozenset[str]
    groups: Mapping[int, str]


@dataclass(frozen=True)
class Substitutes:
    """Says what of here stands for what a backup names.
    networks: names here by those in the backup. groups: names of security groups by their ids in it.
    believed: a key has sealed the manifest, so that a network that is called as one of its is meant; else each is to be
    named.
    own: it is of this catalog, whose groups have the same ids."""

    networks: Mapping[str, str]
    groups: Mapping[str, str]
    believed: bool = False
    own: bool = False


@dataclass(frozen=True)
class RestoredTemplate:
    """Holds the template of a machine that is made of a backup.
    left_out: what of the backup's template is not in it, by name.
    missing: names of networks that are not here.
    unnamed: names of networks that are here, and that only a manifest without a seal names.
    groups: ids of security groups for which none of here is named."""

    template: Template
    left_out: tuple[str, ...]
    missing: tuple[str, ...] = ()
    unnamed: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


def template_of(backup: MachineBackup) -> Template:
    """Return the template of a manifest. Raise InvalidValue for one that can't be any machine's."""
    where = f"backup {backup.id} of {backup.name}: its template"
    given = backup.template
    try:
        template = Template.from_mapping(given, where)
    except InvalidValue as error:
        error.remedy = _REMEDY
        raise
    if len(template.attributes) > _MOST_ATTRIBUTES:
        raise InvalidValue(where, f"it has {len(template.attributes)} attributes", _REMEDY)
    for name, value in template.attributes:
        for text in [value] if isinstance(value, str) else [text for _key, text in value]:
            if len(text) > _LONGEST or "\0" in text:
                raise InvalidValue(f"{where}: {name}", "its value is too long, or no text", _REMEDY)
    return template


_REMEDY = "Somebody has altered the manifest: restore the disks as images (nebula_machine_restore_image)"


def passes(name: str, key: str = "") -> bool:
    """Return whether an attribute, or a key of one, is taken from a backup."""
    if not key:
        return name in _SINGLES
    if name == "CONTEXT":
        return key not in _NOT_OF_CONTEXT and _OF_NICS.fullmatch(key) is None
    return key in _VECTORS.get(name, ())


def is_wanted(secret: str) -> bool:
    """Return whether a secret that was left out is of what a new machine has. secret: as template_secrets has it."""
    name, _slash, key = secret.partition("/")
    name = name.partition(" ")[0]
    return name != "DISK" and passes(name, key)


def restored(
    template: Template,
    disks: Sequence[tuple[BackedUpDisk, str]],
    former: str,
    site: OfSite,
    substitutes: Substitutes,
    selectors: Callable[[str], Sequence[tuple[str, str]]],
) -> RestoredTemplate:
    """Return the template of a new machine.
    template: of the backup, with its secrets. former: the name that its machine had.
    disks: those of the backup, each with the image that it is by now.
    selectors: by which key and value a text of a context chooses networks, ("", "") where by none."""
    found: list[tuple[str, Value]] = []
    left_out: list[str] = []
    nics = _Nics(site, substitutes, template.vector("NIC_DEFAULT"))
    vectors, numbers = _disks(template, disks, site.cdroms, left_out)
    for name, value in template.attributes:
        if name in ("DISK", "NAME", "NIC_ALIAS"):
            if name == "NIC_ALIAS":
                left_out.append(name)
            continue
        if isinstance(value, str):
            if passes(name):
                found.append((name, value))
            else:
                left_out.append(name)
            continue
        given = dict(value)
        guards = [key for key in _GUARDS if key in given] if name in ("NIC", "NIC_DEFAULT") else []
        kept = _kept(name, {key: text for key, text in given.items() if key not in guards}, left_out)
        if name == "NIC":
            kept = nics.of_here(kept, given, left_out)
        if name == "OS" and "BOOT" in kept:
            kept["BOOT"] = _boot(kept["BOOT"], numbers)
        if name == "CONTEXT":
            for key in ("HOSTNAME", "SET_HOSTNAME"):
                if kept.get(key) == former:
                    kept[key] = "$NAME"
        if kept or name == "CONTEXT":
            found.append((name, tuple(kept.items())))
    found = [_without_networks(name, value, nics.networks, selectors, left_out) for name, value in found]
    made = Template((*found, *(("DISK", tuple(vector.items())) for vector in vectors)))
    several = (left_out, nics.missing, nics.unnamed, nics.groups)
    return RestoredTemplate(made, *(tuple(dict.fromkeys(each)) for each in several))


class _Nics:
    """Finds what of here the NICs of a backup have.
    networks: names of here. missing, unnamed, groups: as in RestoredTemplate."""

    def __init__(self, site: OfSite, substitutes: Substitutes, usual: Mapping[str, str]) -> None:
        self._site, self._substitutes = site, substitutes
        self._usual = {key: text for key, text in usual.items() if key in _GUARDS}
        self.networks: list[str] = []
        self.missing: list[str] = []
        self.unnamed: list[str] = []
        self.groups: list[str] = []

    def of_here(self, kept: Mapping[str, str], given: Mapping[str, str], left_out: list[str]) -> dict[str, str]:
        """Return a NIC as it is to be. kept: what passes of it. given: all of it."""
        old = kept.get("NETWORK", "")
        network = self._substitutes.networks.get(old, old)
        if not network or network not in self._site.networks:
            self.missing.append(old)
        elif old not in self._substitutes.networks and not self._substitutes.believed:
            self.unnamed.append(old)
        self.networks.append(network)
        guards = {**self._usual, **{key: text for key, text in given.items() if key in _GUARDS}}
        nic = {**kept, "NETWORK": network}
        for key in _FILTERS:
            if guards.get(key, "").upper() in TRUE:
                nic[key] = "YES"
            elif guards.get(key):
                # What its network says counts then.
                left_out.append(f"NIC/{key}")
        if ids := list(filter(None, (part.strip() for part in guards.get(GROUPS, "").split(",")))):
            nic[GROUPS] = ",".join(dict.fromkeys(str(self._group(id)) for id in ids))
        return nic

    def _group(self, old: str) -> int:
        """Return the id of the group of here that stands for one of the backup."""
        by_name = {name: id for id, name in self._site.groups.items()}
        if old in self._substitutes.groups:
            name = self._substitutes.groups[old]
            if name in by_name:
                return by_name[name]
        elif self._substitutes.believed and (self._substitutes.own or old == str(DEFAULT_ID)):
            for id in self._site.groups:
                if str(id) == old:
                    return id
        self.groups.append(old)
        return DEFAULT_ID


def _without_networks(
    name: str,
    value: Value,
    networks: Sequence[str],
    selectors: Callable[[str], Sequence[tuple[str, str]]],
    left_out: list[str],
) -> tuple[str, Value]:
    """Return a vector without what a context would say of networks in which the machine has no NIC."""
    if name != "CONTEXT" or isinstance(value, str):
        return name, value

    def is_own(key: str, chosen: str) -> bool:
        return (not key and bool(networks)) or (key in ("NETWORK", "NAME") and chosen in networks)

    kept = tuple((key, text) for key, text in value if all(is_own(*each) for each in selectors(text)))
    left_out += [f"{name}/{key}" for key, _text in value if key not in dict(kept)]
    return name, kept


def _kept(name: str, vector: Mapping[str, str], left_out: list[str]) -> dict[str, str]:
    kept = {}
    for key, text in vector.items():
        if passes(name, key) and _is_harmless(name, key, text):
            kept[key] = text
        else:
            left_out.append(f"{name}/{key}" if name in _VECTORS or name == "CONTEXT" else name)
    return kept


def _is_harmless(name: str, key: str, text: str) -> bool:
    """Return whether the value names no file. A firmware and a machine type are words, and a script is the guest's."""
    if name == "CONTEXT":
        return _NAMES_A_FILE.search(text) is None
    return "/" not in text or (name, key) in (("GRAPHICS", "PASSWD"), ("NIC", "NETWORK"))


def _disks(
    template: Template, disks: Sequence[tuple[BackedUpDisk, str]], cdroms: Collection[str], left_out: list[str]
) -> tuple[list[dict[str, str]], dict[int, int]]:
    """Return the DISK vectors, and by the disk ids of the backup those that they are going to have."""
    rest = template.vectors("DISK")
    found, numbers = [], {}
    for number, (disk, image) in enumerate(disks):
        numbers[disk.disk_id] = number
        vector = next((each for each in rest if disk.image and each.get("IMAGE") == disk.image), None)
        if vector is None:
            vector = next((each for each in rest if not disk.image and not each.get("IMAGE")), None)
        if vector is None and len(rest) == len(disks) - number:
            vector = rest[0]
        if vector is not None:
            rest.remove(vector)
        options = {key: text for key, text in (vector or {}).items() if key in _DISK_OPTIONS and "/" not in text}
        options.pop("FORMAT", None)
        found.append({"IMAGE": image, "TARGET": disk.target, **options})
    for vector in rest:
        image = vector.get("IMAGE", "")
        kind = vector.get("TYPE", "").upper()
        options = {key: text for key, text in vector.items() if key in _DISK_OPTIONS and "/" not in text}
        if image in cdroms:
            # An installer's CD. Another image may hold what is nobody's but another machine's.
            found.append({"IMAGE": image, **options})
        elif not image and kind in ("SWAP", "FS") and _SIZE.fullmatch(vector.get("SIZE", "")):
            fs = {"FS": vector["FS"]} if vector.get("FS", "").isalnum() else {}
            found.append({"TYPE": kind, "SIZE": vector["SIZE"], **fs, **options})
        else:
            left_out.append(f"DISK {image or kind or 'SOURCE'}")
    return found, numbers


def _boot(text: str, numbers: Mapping[int, int]) -> str:
    """Return the order of boot with the ids that the disks are going to have."""
    found = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        disk = _DISK_OF_BOOT.fullmatch(word)
        if disk is None:
            found.append(word)
        elif int(disk[1]) in numbers:
            found.append(f"disk{numbers[int(disk[1])]}")
    return ",".join(found)
