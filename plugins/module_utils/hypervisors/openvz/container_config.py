# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders a machine as the configuration of a container, CTID.conf of OpenVZ: lines KEY="VALUE". vzctl reads it line
by line, and its scripts source it as root: a value holds nothing that would end it, or that a shell expands. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

from ...dataclass import dataclass
from ...errors import InvalidValue
from ...model import beancounters
from ...model.disk import IMAGES, TAR, Disk
from ...model.nic import Nic
from ...model.object_ids import FIRST_CONTAINER
from ...model.vm import Vm
from ..base import Deployment, Mark, Site, domain_name
from . import openvz_declaration, venet_firewall

# Ids up to 100 are OpenVZ's own, and machines' ids begin with 0. Ids that people give by hand are smaller.
FIRST = FIRST_CONTAINER
CPU_UNITS = 1000
LOWEST_UNITS, HIGHEST_UNITS = 8, 500000
# Below the machine's directory, as the OpenVZ drivers of OpenNebula had them.
PRIVATE, ROOT = f"{IMAGES}/private", f"{IMAGES}/root"
MARK = "# nebula"
# What else of a machine its driver has to know when it starts it: comments, which vzctl keeps.
_TEMPLATE, _CONTEXT = "# nebula-template", "# nebula-context"
# Here only so that another one is another definition.
_FIREWALL = "# nebula-firewall"
_MARK = re.compile(
    re.escape(MARK) + r" catalog=(?P<catalog>\S+) id=(?P<id>\d+) uuid=(?P<uuid>\S*) generation=(?P<generation>\d+) "
    r"directory=(?P<directory>[^\n]*)"
)
_CONTEXT_LINE = re.compile(re.escape(_CONTEXT) + r" to=(?P<to>\S+) iso=(?P<iso>[^\n]+)")
_LINE = re.compile(r'\s*([A-Z0-9_]+)=(?:"(.*)"|([^"\s].*?)?)\s*', re.DOTALL)
_BLOCKS = re.compile(r"(\d{1,18})([KMGTP]?)", re.ASCII | re.IGNORECASE)
_UNITS = {"": 1 << 10, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 4096}
# In the order of a file that people read: what it may take, its disk, what it is, its network.
ORDER = (
    "ONBOOT", *beancounters.NAMES, "CPUUNITS", "CPULIMIT", "CPUS", "CPUMASK", "DISKSPACE", "DISKINODES", "VE_ROOT",
    "VE_PRIVATE", "VE_LAYOUT", "OSTEMPLATE", "NAME", "HOSTNAME", "NAMESERVER", "SEARCHDOMAIN", "IP_ADDRESS", "NETIF",
)  # fmt: skip
# What a host's defaults may not say: it is each machine's own.
_OWN = openvz_declaration.OF_MACHINES | {"HOSTNAME", "IP_ADDRESS", "NETIF", "ONBOOT", "DESCRIPTION", "ORIGIN_SAMPLE"}


def ctid_of(vm_id: int) -> int:
    """Return the id of the machine's container."""
    return FIRST + vm_id


def vm_id_of(ctid: int) -> int | None:
    """Return the id of the machine whose container has this id; None if it is no machine's."""
    return ctid - FIRST if ctid >= FIRST else None


def render(vm: Vm, site: Site) -> Deployment:
    """Return the deployment file of a machine on this site. Raise InvalidValue for what its format can't express."""
    where = f"virtual machine {vm.name}"
    root = _root(vm, where)
    values = {key: text for key, text in site.defaults.items() if key not in _OWN}
    values.update(_memory(vm, site.defaults, where))
    units = min(max(round(vm.cpu * CPU_UNITS), LOWEST_UNITS), HIGHEST_UNITS)
    values.update({"ONBOOT": "no", "CPUUNITS": str(units)})
    values.update({key: str(number) for key, number in (("CPULIMIT", vm.cpu_limit), ("CPUS", vm.vcpu)) if number})
    if root.size and "DISKSPACE" not in vm.container:
        values["DISKSPACE"] = f"{root.size * 1024}:{root.size * 1024}"
    values.update(vm.container)
    values.update(
        {
            "VE_ROOT": f"{site.directory}/{ROOT}",
            "VE_PRIVATE": f"{site.directory}/{PRIVATE}",
            # Its root is files of this host, in which a context can be written.
            "VE_LAYOUT": "simfs",
            "NAME": domain_name(vm.vm_id),
        }
    )
    name = vm.container.get("OSTEMPLATE") or openvz_declaration.template_name(root.image, root.source)
    openvz_declaration.check_template_name(name, where)
    values["OSTEMPLATE"] = name
    values.update(_names(vm))
    values.update(_network(vm))
    values.update(_raw(vm))
    lines = [f"{_TEMPLATE} {_checked('its template', site.disks[root.disk_id].path, where)}"]
    if vm.context is not None and vm.context.disk_id in site.disks:
        to = vm.context.variables.get(openvz_declaration.DIRECTORY_VARIABLE, "") or openvz_declaration.CONTEXT_DIRECTORY
        openvz_declaration.check_directory(to, where)
        lines.append(f"{_CONTEXT} to={to} iso={_checked('its context', site.disks[vm.context.disk_id].path, where)}")
    addresses, passing = venet_firewall.guarded_addresses(vm)
    if addresses:
        script = venet_firewall.mount_script(ctid_of(vm.vm_id), addresses, passing)
        lines.append(f"{_FIREWALL} {hashlib.sha256(script.encode()).hexdigest()}")
    ordered = [*(key for key in ORDER if key in values), *sorted(key for key in values if key not in ORDER)]
    lines += [f'{key}="{_checked(key, values[key], where)}"' for key in ordered]
    text = "\n".join(lines) + "\n"
    mark = mark_line(Mark(site.catalog, vm.vm_id, vm.uuid, site.generation), site.directory)
    return Deployment(text=f"{mark}\n{text}", digest=hashlib.sha256(text.encode()).hexdigest())


def mark_line(mark: Mark, directory: str) -> str:
    return (
        f"{MARK} catalog={mark.catalog} id={mark.vm_id} uuid={mark.uuid} generation={mark.generation} "
        f"directory={directory}"
    )


def _checked(key: str, value: str, where: str) -> str:
    """Return the value. Raise InvalidValue if something in it ends a line or a string, or is expanded by a shell."""
    found = openvz_declaration.UNSAFE.search(value)
    if found:
        raise InvalidValue(
            f"{where}: {key} = {value!r}",
            f"it holds {found[0]!r}, and the file that it is to stand in is read by line, and sourced by shells",
            "Use another value",
        )
    return value


def _root(vm: Vm, where: str) -> Disk:
    roots = [disk for disk in vm.disks if disk.type != "SWAP"]
    if not roots:
        raise InvalidValue(
            where, "it has no disk with a root file system", 'Add DISK = [ IMAGE = "…" ] with an image of format tar'
        )
    if len(roots) > 1:
        raise InvalidValue(
            f"{where}: disk {roots[1].disk_id} ({roots[1].image or roots[1].source or roots[1].type})",
            "a container has one root file system, and swap space at most besides",
            "Leave it out",
        )
    if roots[0].format != TAR:
        raise InvalidValue(
            f"{where}: disk {roots[0].disk_id} ({roots[0].image or roots[0].source})",
            f"it is {roots[0].format}, and a container is unpacked from a tar",
            "Use an image with format tar",
        )
    return roots[0]


def _memory(vm: Vm, defaults: Mapping[str, str], where: str) -> dict[str, str]:
    """Return VSwap's two limits where MEMORY is a number. Beancounters stand in vm.container as they are; those that
    neither the template nor the host's defaults give are unlimited."""
    swaps = [disk.size for disk in vm.disks if disk.type == "SWAP"]
    # Bytes: of a bare number templates and vzctl have thought two different things.
    swap = {"SWAPPAGES": f"0:{swaps[0]}M"} if swaps else {}
    if any(name in vm.container for name in beancounters.NAMES if name != "SWAPPAGES"):
        if swap and "SWAPPAGES" in vm.container:
            raise InvalidValue(f"{where}: SWAPPAGES", "a disk of type swap says it too", "Leave one of them out")
        # vzctl starts no container that lacks one of them.
        return {**{name: beancounters.UNLIMITED for name in beancounters.REQUIRED if name not in defaults}, **swap}
    # vzctl takes both or neither.
    return {"PHYSPAGES": f"0:{vm.memory}M", "SWAPPAGES": "0:0", **swap}


def _names(vm: Vm) -> dict[str, str]:
    """Return host name and resolvers: the context's, else those of the networks."""
    variables = vm.context.variables if vm.context is not None else {}
    hostname = variables.get("HOSTNAME") or variables.get("SET_HOSTNAME") or vm.name
    resolvers = variables.get("NAMESERVER") or variables.get("DNS") or _nic_values(vm.nics, "DNS")
    domains = variables.get("SEARCHDOMAIN") or variables.get("SEARCH_DOMAIN") or _nic_values(vm.nics, "SEARCH_DOMAIN")
    found = {"NAMESERVER": _unique_words(resolvers), "SEARCHDOMAIN": _unique_words(domains)}
    if openvz_declaration.HOST_NAME.fullmatch(hostname):
        found["HOSTNAME"] = hostname
    return {key: text for key, text in found.items() if text}


def _nic_values(nics: Iterable[Nic], name: str) -> str:
    texts = (nic.options.get(name) or nic.network_values.get(name, "") for nic in nics)
    return " ".join(text for text in texts if text)


def _unique_words(text: str) -> str:
    """Return each word once, between blanks."""
    return " ".join(dict.fromkeys(re.split(r"[\s,]+", text.strip()))) if text.strip() else ""


def _network(vm: Vm) -> dict[str, str]:
    addresses: list[str] = []
    interfaces: list[str] = []
    for nic in vm.nics:
        if openvz_declaration.model_of(nic.model) == openvz_declaration.VENET:
            inside = [alias for alias in vm.aliases if alias.parent_id == nic.nic_id and not alias.external]
            addresses += [text for text in (nic.ip, nic.ip6, nic.ip6_ula) if text]
            addresses += [text for each in inside for text in (each.ip, each.ip6, each.ip6_ula) if text]
            continue
        fields = {
            "ifname": f"eth{len(interfaces)}",
            "bridge": nic.bridge,
            "mac": nic.mac.upper(),
            "host_ifname": nic.target,
        }
        for name, value in fields.items():
            if any(character in value for character in ",;="):
                raise InvalidValue(
                    f"virtual machine {vm.name}: NIC {nic.nic_id}: {name} = {value}",
                    "it would end a field of NETIF",
                    "Use another",
                )
        interfaces.append(",".join(f"{name}={value}" for name, value in fields.items() if value))
    found = {"IP_ADDRESS": " ".join(addresses), "NETIF": ";".join(interfaces)}
    return {key: text for key, text in found.items() if text}


def _raw(vm: Vm) -> dict[str, str]:
    found = {}
    for line in vm.raw.get(openvz_declaration.NAME, "").splitlines():
        match = _LINE.fullmatch(line)
        if match is not None and match[1] not in openvz_declaration.OF_MACHINES:
            found[match[1]] = match[2] if match[2] is not None else (match[3] or "")
    return found


# -- what stands in such a file ----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Container:
    """Holds what a container's file says.
    values: by key, as vzctl reads them (the first of a key counts).
    mark: None for a container that is not ours.
    directory: of its machine.
    template: the tar that it is made of.
    iso, context: where its context is, and the directory of the container that it goes to; "" without one."""

    values: Mapping[str, str]
    mark: Mark | None = None
    directory: str = ""
    template: str = ""
    iso: str = ""
    context: str = ""

    @property
    def private(self) -> str:
        return self.values.get("VE_PRIVATE", "")

    @property
    def starts_with_host(self) -> bool:
        return self.values.get("ONBOOT", "").lower() == "yes"

    @property
    def memory(self) -> int:
        """Return the MiB that the container may have, 0 where nothing limits them."""
        try:
            return beancounters.memory_mib(self.values, "container")
        except InvalidValue:
            return 0

    @property
    def addresses(self) -> tuple[str, ...]:
        """Return the container's addresses on venet."""
        return tuple(self.values.get("IP_ADDRESS", "").split())

    @property
    def disk_limit(self) -> int:
        """Return the bytes that its file system may have at most, 0 where nothing limits them."""
        found = _BLOCKS.fullmatch(self.values.get("DISKSPACE", "").rpartition(":")[2])
        # A bare number counts blocks of 1 KiB.
        return int(found[1]) * _UNITS[found[2].upper()] if found is not None else 0

    @property
    def macs(self) -> tuple[str, ...]:
        return tuple(
            field[4:].lower()
            for interface in self.values.get("NETIF", "").split(";")
            for field in interface.split(",")
            if field.startswith("mac=")
        )


def read(text: str) -> Container:
    """Return what the file of a container says. Other lines are skipped, as vzctl does it."""
    values: dict[str, str] = {}
    found: dict[str, str] = {}
    mark: Mark | None = None
    directory = ""
    for number, line in enumerate(text.split("\n")):
        match = _MARK.fullmatch(line)
        if match is not None and number == 0:
            mark = Mark(match["catalog"], int(match["id"]), match["uuid"], int(match["generation"]))
            directory = match["directory"]
        elif line.startswith(_TEMPLATE + " "):
            found.setdefault("template", line[len(_TEMPLATE) + 1 :])
        elif _CONTEXT_LINE.fullmatch(line):
            context = _CONTEXT_LINE.fullmatch(line)
            if context is not None:
                found.update(iso=context["iso"], context=context["to"])
        elif not line.lstrip().startswith("#"):
            entry = _LINE.fullmatch(line)
            if entry is not None:
                values.setdefault(entry[1], entry[2] if entry[2] is not None else (entry[3] or ""))
    return Container(values, mark, directory, **found)


def with_value(text: str, key: str, value: str) -> str:
    """Return the file with another value of one key."""
    line, lines = f'{key}="{_checked(key, value, "container")}"', text.rstrip("\n").split("\n")
    places = [index for index, each in enumerate(lines) if each.startswith(f"{key}=")]
    if not places:
        return "\n".join([*lines, line]) + "\n"
    lines[places[0]] = line
    return "\n".join(lines) + "\n"
