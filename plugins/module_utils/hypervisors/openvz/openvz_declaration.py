# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what OpenVZ is, and what a container of it can be: one root file system, swap space, interfaces. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address

from ...errors import InvalidValue
from ...model import attributes, beancounters, context_firewall, libvirt_values
from ...model.attributes import ACTS, KEPT, NO_EFFECT, REFUSED, OwnEffect
from ...model.disk import TAR
from ...model.disk_targets import DiskDevices
from ...model.flags import FALSE, TRUE
from ...model.hypervisor import Hypervisor
from ...model.image import Image
from ...model.instantiate.template_values import read_whole
from ...model.object_names import did_you_mean, nearest_word
from ...model.states import ImageType
from ...model.template import Template
from ...model.vm import Os

NAME = "openvz"
VENET, VETH = "venet", "veth"
# Its configuration is sourced by shells as root and read line by line by vzctl: what stands in one of its values must
# end neither, nor be expanded.
UNSAFE = re.compile(r"[\x00-\x1f\x7f\"'`$\\]")
# The endings that vzctl looks for behind the name of a template, and their other spellings in names of files.
ENDINGS = (".tar.gz", ".tar.bz2", ".tar.xz", ".tar", ".tgz", ".tbz2", ".txz")
# What neither RAW nor a host's defaults may say: vzctl removes what is there.
OF_MACHINES = frozenset(("VE_ROOT", "VE_PRIVATE", "VE_LAYOUT", "OSTEMPLATE", "NAME", "VEID"))
# What else vzctl reads of a container's configuration; its scripts, which source it, know no other names.
_KNOWN = OF_MACHINES | frozenset((
    *beancounters.NAMES, "DCACHE", "IPTENTRIES", "IPTABLES", "NETFILTER", "CAPABILITY", "IP_ADDRESS", "NETDEV",
    "HOSTNAME", "DESCRIPTION", "NAMESERVER", "IPV6", "SEARCHDOMAIN", "DEVICES", "DEVNODES", "PCI", "MOUNT_OPTS",
    "CPUUNITS", "CPUWEIGHT", "CPUUWEIGHT", "CPULIMIT", "CPUS", "CPUMASK", "NODEMASK", "ONBOOT", "CONFIGFILE",
    "ORIGIN_SAMPLE", "DISABLED", "LOCAL_UID", "LOCAL_GID", "DISK_QUOTA", "DISKSPACE", "DISKINODES", "QUOTATIME",
    "QUOTAUGIDLIMIT", "MEMINFO", "VETH", "NETIF", "FEATURES", "IOPRIO", "IOLIMIT", "IOPSLIMIT", "BOOTORDER",
    "STOP_TIMEOUT", "VM_OVERCOMMIT",
))  # fmt: skip
# Where its context is in a container, unless the variable says otherwise; and what is hidden by what is mounted there.
CONTEXT_DIRECTORY, DIRECTORY_VARIABLE = "/mnt", "CONTEXT_DIRECTORY"
_DIRECTORY = re.compile(r"(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)+", re.ASCII)
_MOUNTED_OVER = ("dev", "proc", "run", "sys")
_LABEL = "[A-Za-z0-9][A-Za-z0-9-]{0,62}"
HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*", re.ASCII)
# What stands in a text for what is put there when a machine is made.
_VARIABLE = re.compile(r"\$[A-Za-z_]+(\[[^\]]*\])?")
# From how much on one word is likely to be a slip of another.
_SLIP = 0.75
# As many processors as a mask of vzctl has.
_PROCESSORS = 4096
_TEMPLATE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}", re.ASCII)
_PAIR = re.compile(r"\d{1,18}[KMGTP]?(:\d{1,18}[KMGTP]?)?", re.ASCII | re.IGNORECASE)
_MASK = re.compile(r"all|auto|\d{1,5}(-\d{1,5})?(,\d{1,5}(-\d{1,5})?)*", re.ASCII)
# What a DISK may say of how large the container's file system may grow, in it or beside it.
QUOTAS = ("DISKSPACE", "DISKINODES")
_ACTS = frozenset((
    "DISK/IMAGE", "DISK/IMAGE_ID", "DISK/TYPE", "DISK/SIZE", "DISK/SOURCE", "DISK/DISKSPACE", "DISK/DISKINODES",
    "CPULIMIT", *attributes.CONTAINER, *(f"MEMORY/{name}" for name in beancounters.NAMES),
))  # fmt: skip
_NIC_ACTS = frozenset((
    "NETWORK", "NETWORK_ID", "IP", "IP6", "MAC", "MODEL", "IP6_GLOBAL", "IP6_ULA", "DNS", "SEARCH_DOMAIN",
    "SECURITY_GROUPS", "FILTER_IP_SPOOFING", "FILTER_MAC_SPOOFING", "EXTERNAL", "TARGET",
    "GATEWAY", "GATEWAY6", "NETWORK_ADDRESS", "NETWORK_MASK", "METHOD", "METRIC", "ROUTES", "GUEST_MTU", "IP6_GATEWAY",
    "IP6_METHOD", "IP6_METRIC", "VROUTER_IP", "VROUTER_IP6", "VROUTER_MANAGEMENT", "VLAN_ID",
))  # fmt: skip
_HARDWARE = (
    "TOPOLOGY",
    "NUMA_NODE",
    "PCI",
    "MEMORY_TUNE_OFFSET",
    "VIDEO",
    "IOMMU",
    "HYPERV_OPTIONS",
    "HYPERV_TIMERS",
    "SPICE_OPTIONS",
)
_WHY = {
    "DISK": "a container has no devices of disks: its root file system is unpacked",
    "NIC": "an interface of a container is its host's kernel's",
    "OS": "a container runs its host's kernel",
    "FEATURES": "a container has no board",
    "CPU_MODEL": "a container sees the processor of its host",
    "": "a container has none",
}
_REFUSED = {
    "OS/KERNEL": "a container runs its host's kernel",
    "OS/KERNEL_DS": "a container runs its host's kernel",
    "OS/INITRD": "a container runs its host's kernel",
    "OS/INITRD_DS": "a container runs its host's kernel",
    "OS/KERNEL_CMD": "a container runs its host's kernel",
    "OS/BOOTLOADER": "a container runs its host's kernel",
    "OS/BOOT": "a container has no order of devices: it starts from its only root file system",
    "OS/FIRMWARE": "a container has no firmware",
    "OS/FIRMWARE_SECURE": "a container has no firmware",
    "OS/TPM": "a container has none",
    "NIC/SCRIPT": "",
}


def _own_attributes() -> dict[str, OwnEffect]:
    """Return what becomes of each attribute of the table that KVM acts on or refuses."""
    found: dict[str, OwnEffect] = {}
    for entry in attributes.TABLE:
        for text in entry.texts():
            vector, _slash, key = text.partition("/")
            if text in _ACTS or (vector == "NIC" and key in _NIC_ACTS):
                found[text] = OwnEffect(ACTS)
            elif _REFUSED.get(text):
                found[text] = OwnEffect(REFUSED, _REFUSED[text], "Leave it out, or use a machine of KVM")
            elif vector == "INJECT":
                found[text] = OwnEffect(
                    REFUSED, "a container's root has no partitions to write to", "Put the file among FILES of CONTEXT"
                )
            elif vector == "MEMORY_ENCRYPTION":
                found[text] = OwnEffect(
                    REFUSED,
                    "its host's kernel sees a container's memory, and one that is to be encrypted must not run without",
                    "Leave it out if the container may run without, or use a machine of KVM",
                )
            elif vector == "TPM":
                found[text] = OwnEffect(REFUSED, "a container has none", "Leave it out, or use a machine of KVM")
            elif vector in ("GRAPHICS", "INPUT") and entry.kvm == ACTS:
                found[text] = OwnEffect(
                    REFUSED,
                    "a container has no screen and no keyboard",
                    f"Leave {vector} out: vzctl enter is its console",
                )
            elif vector in ("DISK", "NIC", "OS", "FEATURES", "CPU_MODEL") and entry.kvm in (ACTS, REFUSED):
                found[text] = OwnEffect(NO_EFFECT, _WHY[vector])
            elif vector in _HARDWARE or text in ("EMULATOR", "CONTEXT_DEVICE", "INJECT_VIA", *_HARDWARE):
                found[text] = OwnEffect(NO_EFFECT, _WHY[""])
    # A container has what is in its image.
    found["OS/ARCH"] = OwnEffect(KEPT)
    return found


def template_name(image: str, source: str) -> str:
    """Return the name of the OS template: the image's, or that of the file in its place, without its ending."""
    name = image or source.rsplit("/", 1)[-1]
    if image:
        return name
    ending = next((each for each in ENDINGS if name.lower().endswith(each)), "")
    return name[: len(name) - len(ending)]


def check_template_name(name: str, where: str) -> None:
    """Raise InvalidValue for a name that can't be a file's in the cache of OS templates."""
    if not _TEMPLATE.fullmatch(name):
        raise InvalidValue(
            f"{where}: the name {name!r} as that of an OS template",
            "it is a file's name in the cache of templates, and a word of the container's configuration",
            "Use letters, digits, and ._+- behind the first, as in debian-12-x86_64",
        )


def distribution_of(name: str, known: Iterable[str]) -> str:
    """Return the distribution with which a template's name begins, as vzctl finds it: the longest part before a dash
    that has a file in /etc/vz/dists; "" if none has."""
    there, words = set(known), name.split("-")
    for count in range(len(words), 0, -1):
        if "-".join(words[:count]) in there:
            return "-".join(words[:count])
    return ""


def check_saved_name(name: str, known: Iterable[str], where: str) -> None:
    """Raise InvalidValue for an image under whose name a container could not be made again: its name is what tells
    vzctl which distribution is in it."""
    check_template_name(name, where)
    there = sorted(set(known) - {"default"})
    if not distribution_of(name, there):
        near = _nearest_name(name, there)
        raise InvalidValue(
            f"{where}: image {name}",
            "its name begins with no distribution that this host has in /etc/vz/dists, and is all that tells vzctl "
            "what is in it",
            did_you_mean(near, "{}") + f"Begin it with one of these, and a dash: {', '.join(there) or 'none'}",
        )


def _nearest_name(name: str, known: Sequence[str]) -> str:
    """Return the name with its first words replaced by the distribution that was most likely meant; "" for none."""
    import difflib

    words, best, found = name.split("-"), _SLIP, ""
    for count in range(1, len(words) + 1):
        for each in known:
            alike = difflib.SequenceMatcher(None, "-".join(words[:count]).lower(), each).ratio()
            if alike > best:
                best, found = alike, "-".join((each, *words[count:]))
    return found


def model_of(model: str) -> str:
    """Return the device of a NIC: venet, which has addresses and no bridge, unless the model says veth."""
    return VETH if model.strip().lower() == VETH else VENET


def check(template: Template, where: str) -> None:
    """Raise InvalidValue for the first thing that no container can have."""
    disks = template.vectors("DISK")
    roots = [index for index, disk in enumerate(disks) if not _is_swap(disk)]
    if len(roots) > 1:
        second = disks[roots[1]]
        shown = next(
            (f" ({key} = {second[key]})" for key in ("IMAGE", "IMAGE_ID", "SOURCE", "TYPE") if second.get(key)), ""
        )
        raise InvalidValue(
            f"{where}: DISK {roots[1]}{shown}",
            "a container has one root file system, and swap space at most besides",
            "Leave it out: DISKSPACE says how large the root may grow",
        )
    swaps = [index for index, disk in enumerate(disks) if _is_swap(disk)]
    if len(swaps) > 1:
        raise InvalidValue(f"{where}: DISK {swaps[1]}: TYPE = swap", "there is swap space already", "Keep one of both")
    for index in roots:
        _check_root(disks[index], template, f"{where}: DISK {index}")
    memory = template.vector("MEMORY")
    if swaps and (template.has("SWAPPAGES") or memory.get("SWAPPAGES")):
        raise InvalidValue(
            f"{where}: SWAPPAGES", f"DISK {swaps[0]} with TYPE = swap says it too", "Leave one of them out"
        )
    container(template, where)
    for index, nic in enumerate(template.vectors("NIC")):
        _check_nic(nic, f"{where}: NIC {index}")
    _check_firewall(template, where)
    _check_context(template.vector("CONTEXT"), where)
    for name in ("CONTEXT", "RAW"):
        for vector in template.vectors(name):
            if name == "RAW" and vector.get("TYPE", "").lower() == NAME:
                _check_raw(vector.get("DATA", ""), f"{where}: RAW")


def _is_swap(disk: Mapping[str, str]) -> bool:
    return disk.get("TYPE", "").strip().upper() == "SWAP" and not disk.get("IMAGE") and not disk.get("IMAGE_ID")


def _check_root(disk: Mapping[str, str], template: Template, where: str) -> None:
    image, source = disk.get("IMAGE", ""), disk.get("SOURCE", "")
    kind = disk.get("TYPE", "").strip().upper()
    if not image and not disk.get("IMAGE_ID") and not source and kind == "FS":
        raise InvalidValue(
            f"{where}: TYPE = fs",
            "a container's only disk is its root file system, and an empty one has nothing to start",
            "Name an IMAGE, or a SOURCE file",
        )
    is_file = source and not image and not disk.get("IMAGE_ID")
    if is_file and (not source.startswith("/") or is_unsafe(source)):
        raise InvalidValue(
            f"{where}: SOURCE = {source!r}", "it is no plain absolute path", "Name the tar file on the host by its path"
        )
    if image or is_file:
        check_template_name(template_name(image, source), where)
    for name in QUOTAS:
        if disk.get(name):
            _check_pair(name, disk[name], where)
            if template.get(name) and template.get(name) != disk[name]:
                raise InvalidValue(
                    f"{where}: {name} = {disk[name]}",
                    f"beside it stands {name} = {template.get(name)}",
                    "Keep one of them",
                )


def is_unsafe(text: str) -> bool:
    """Return whether the text would end a value of a container's configuration, or be expanded there."""
    return bool(UNSAFE.search(text))


def _check_nic(nic: Mapping[str, str], where: str) -> None:
    for key, text in nic.items():
        libvirt_values.check_writable(text, f"{where}: {key}")
    target = nic.get("TARGET", "")
    if any(character in target for character in ",;=") or is_unsafe(target):
        raise InvalidValue(
            f"{where}: TARGET = {target!r}", "it would end a field of NETIF", "Use letters, digits, - and ."
        )


def _check_firewall(template: Template, where: str) -> None:
    text = template.vector("CONTEXT").get(context_firewall.VARIABLE, "")
    # What has variables in it is read once they are expanded.
    if context_firewall.is_firewall(text) and "$" not in text:
        context_firewall.read(text, where)


def _check_context(variables: Mapping[str, str], where: str) -> None:
    """Raise InvalidValue for what can't stand in a container's file, or where a context would not be seen."""
    for name in (DIRECTORY_VARIABLE, "HOSTNAME", "SET_HOSTNAME", "NAMESERVER", "DNS", "SEARCHDOMAIN", "SEARCH_DOMAIN"):
        text = variables.get(name, "").strip()
        shown = f"{where}: CONTEXT/{name} = {text!r}"
        found = UNSAFE.search(_VARIABLE.sub("", text))
        if found:
            raise InvalidValue(
                shown,
                f"it holds {found[0]!r}, and the container's configuration is read by line, and sourced by shells",
                "Use another value",
            )
        # What has variables in it is known when a machine is made.
        if not text or _VARIABLE.search(text):
            continue
        if name == DIRECTORY_VARIABLE:
            check_directory(text, where)
        elif name.endswith("HOSTNAME") and not HOST_NAME.fullmatch(text):
            raise InvalidValue(shown, "it is no name of a host", "Use letters, digits and -, and dots between them")
        elif name in ("NAMESERVER", "DNS"):
            for word in re.split(r"[\s,]+", text):
                _check_resolver(word, shown)


def check_directory(path: str, where: str) -> None:
    """Raise InvalidValue for a path at which a container can't have the files of a context."""
    shown = f"{where}: CONTEXT/{DIRECTORY_VARIABLE} = {path!r}"
    remedy = f"Write one such as {CONTEXT_DIRECTORY}, or leave it out"
    if not _DIRECTORY.fullmatch(path):
        raise InvalidValue(shown, "it is no plain absolute path in the container", remedy)
    top = path.split("/")[1]
    if top in _MOUNTED_OVER:
        raise InvalidValue(shown, f"something is mounted at /{top} when the container starts, and hides it", remedy)


def _check_resolver(word: str, shown: str) -> None:
    try:
        ip_address(word)
    except ValueError:
        raise InvalidValue(shown, f"{word!r} is no address", "Name resolvers by their addresses") from None


def _check_raw(data: str, where: str) -> None:
    for line in data.splitlines():
        name, equals, value = line.strip().partition("=")
        if name in OF_MACHINES:
            raise InvalidValue(
                f"{where}: DATA: {name}",
                "it says where or which the container is, and what is there is removed with the machine",
                "Leave it out",
            )
        plain = value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
        if line.strip() and (not equals or not re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", name) or is_unsafe(plain)):
            raise InvalidValue(
                f"{where}: DATA: {line.strip()[:80]}",
                "it is no line of a container's configuration",
                'Write lines KEY="VALUE", without quotes, $, ` and \\ in the value',
            )
        if name and name not in _KNOWN:
            near = nearest_word(name, sorted(_KNOWN - OF_MACHINES))
            raise InvalidValue(
                f"{where}: DATA: {name}",
                "vzctl reads no such key, and its scripts would take it for a variable of their own",
                f"Did you mean {near}?" if near else "Leave it out",
            )
        if name in beancounters.NAMES:
            beancounters.check_beancounter(name, plain, f"{where}: DATA")


def _check_pair(name: str, text: str, where: str) -> None:
    if not _PAIR.fullmatch(text.strip()):
        raise InvalidValue(
            f"{where}: {name} = {text!r}",
            "it is no limit that vzctl reads",
            f'Write softlimit:hardlimit: {name} = "10485760:11530240"'
            + (", in blocks of 1 KiB" if name == "DISKSPACE" else ""),
        )
    soft, hard = (_number(part) for part in (text.strip().partition(":")[0], text.strip().rpartition(":")[2]))
    if not hard:
        raise InvalidValue(f"{where}: {name} = {text!r}", "nothing has room in it", "Leave it out, or raise it")
    if soft > hard:
        raise InvalidValue(
            f"{where}: {name} = {text!r}", "its soft limit is above its hard one", "The lower one comes first"
        )


def _number(text: str) -> int:
    """Return a number to compare two of one kind by: DISKINODES counts things, DISKSPACE blocks of 1 KiB."""
    digits = text.rstrip("KMGTPkmgtp")
    unit = {"": 1, "K": 1, "M": 1 << 10, "G": 1 << 20, "T": 1 << 30, "P": 4}[text[len(digits) :].upper()]
    return int(digits) * unit


def container(template: Template, where: str) -> Mapping[str, str]:
    """Return what the template says of a container, by the names of its configuration file."""
    found: dict[str, str] = {}
    vector = template.vector("MEMORY")
    if vector:
        beancounters.check(vector, f"{where}: MEMORY")
        found.update({name: text.strip() for name, text in vector.items()})
    for name in attributes.CONTAINER:
        text = template.get(name).strip()
        if text:
            _check_single(name, text, where)
            found[name] = text
    for disk in template.vectors("DISK"):
        for name in QUOTAS:
            if disk.get(name) and not _is_swap(disk):
                found[name] = disk[name].strip()
    if "ONBOOT" in found:
        found["ONBOOT"] = "yes" if found["ONBOOT"].upper() in TRUE else "no"
    return found


def _check_single(name: str, text: str, where: str) -> None:
    if name in QUOTAS:
        _check_pair(name, text, where)
    elif name == "SWAPPAGES":
        beancounters.check_beancounter(name, text, where)
    elif name == "ONBOOT" and text.upper() not in TRUE + FALSE:
        raise InvalidValue(f"{where}: ONBOOT = {text!r}", "it is neither yes nor no", "Write yes or no")
    elif name in ("CPUUNITS", "CPUS"):
        least, most = (8, 500000) if name == "CPUUNITS" else (1, 4096)
        if read_whole(text, f"{where}: {name}", f"Give a number from {least} to {most}", lowest=least) > most:
            raise InvalidValue(f"{where}: {name} = {text}", "it is too large", f"Give a number from {least} to {most}")
    elif name == "CPUMASK" and not _is_mask(text):
        raise InvalidValue(
            f"{where}: CPUMASK = {text!r}",
            "it is no list of processors",
            f'Write numbers below {_PROCESSORS} and ranges that begin with the lower one: "0-1,3", or "all"',
        )
    elif name == "OSTEMPLATE":
        check_template_name(text, f"{where}: OSTEMPLATE")


def _is_mask(text: str) -> bool:
    if not _MASK.fullmatch(text):
        return False
    ranges = [part.partition("-")[::2] for part in text.split(",") if part[0].isdigit()]
    return all(int(first) <= int(last or first) < _PROCESSORS for first, last in ranges)


def check_disk(disk: Mapping[str, str], format_: str, where: str) -> None:
    """Raise InvalidValue for a disk that is neither a root file system nor swap space."""
    if not format_:
        shown = disk.get("IMAGE") or disk.get("IMAGE_ID", "")
        raise InvalidValue(
            f"{where}: image {shown}",
            "it is a CDROM, and a container has no drives",
            "Use an image of a root file system",
        )


def check_images(os: Os, template: Template, images: Mapping[int, Image], where: str) -> Os:
    """Return OS unchanged. Raise InvalidValue if an image is no root file system, or would have to be written to."""
    disks = template.vectors("DISK")
    if not any(index in images or (disk.get("SOURCE") and not _is_swap(disk)) for index, disk in enumerate(disks)):
        raise InvalidValue(
            f"{where}: its disks",
            "none of them has a root file system",
            'Add DISK = [ IMAGE = "…" ] with an image of format tar',
        )
    for index, image in sorted(images.items()):
        here = f"{where}: DISK {index}: image {image.name}"
        if image.type != ImageType.OS:
            raise InvalidValue(here, f"it is of type {image.type.name}", "Use an image of type OS: a root file system")
        if image.persistent:
            raise InvalidValue(
                here,
                "it is persistent, and a container's root is unpacked from it: nothing comes back by itself",
                "Make it non-persistent (persistent: false); save_as keeps a container's root as an image",
            )
        check_template_name(template_name(image.name, ""), here)
    return os


def doubts(template: Template) -> list[str]:
    """Return warnings about what is accepted and has no effect."""
    found = []
    models = [nic.get("MODEL", "") for nic in template.vectors("NIC")]
    for index, model in enumerate(models):
        if model.strip().lower() not in ("", VENET, VETH):
            found.append(
                f"NIC {index}: MODEL = {model} is kept, and nothing acts on it on this hypervisor: a NIC is venet, or "
                "veth where MODEL says that"
            )
    if any(model_of(model) == VENET and nic.get("TARGET") for model, nic in zip(models, template.vectors("NIC"))):
        found.append("NIC/TARGET is kept, and nothing acts on it: venet is one interface for all containers of a host")
    return found


OPENVZ = Hypervisor(
    name=NAME,
    module=("openvz.driver", "OpenvzDriver"),
    console="vzctl enter {domain}",
    # vzctl itself no distribution brings: OpenVZ's own repository has it.
    # The bridge by which vzctl stands in for venet on kernels that lack it is made by brctl.
    packages=("tar", "zstd", "python3-pycdlib", "iproute2", "bridge-utils", "nftables"),
    formats=(TAR,),
    driver=TAR,
    words={TAR: TAR, "raw": TAR, "qcow2": TAR},
    devices=DiskDevices(),
    check=check,
    judges_context=True,
    doubts=doubts,
    check_disk=check_disk,
    firmware=lambda os: False,
    fit=check_images,
    makes_disks=True,
    sources=True,
    container=container,
    own=_own_attributes(),
    live=attributes.silent(attributes.KVM, _own_attributes()),
    changes_context=lambda os: False,
    moves=("live", "cold"),
)
