# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes hosts of an inventory out of machines of the catalog: names, addresses, variables and groups. Pure.

The catalog is described by what nebula_info returns."""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible import constants

from ansible_collections.nebula.provision.plugins.module_utils.printable import printable
from ansible_collections.nebula.provision.plugins.plugin_utils.ssh_through_node import AUTO, is_jumped, jump_arguments

# The variable of a host that has all that the catalog says of its machine.
MACHINE = "nebula_machine"
# Groups that are made without being asked for: the word in the group's name, and the key of MACHINE with its values.
GROUPED = {
    "host": "host",
    "network": "networks",
    "template": "template",
    "state": "state",
    "label": "labels",
    "image": "images",
}
# What a name has to consist of, so that Ansible's patterns for hosts, and its templates, take it as a name.
_NAME = re.compile(r"[^\W_]([\w.-]*\w)?")
# Names that mean something else to Ansible, whatever an inventory has.
_RESERVED = ("all", "ungrouped", "localhost", "127.0.0.1", "::1")
_DOMAIN = re.compile(r"one-[0-9]+")


class NoCatalog(Exception):
    """Says that the front-end's answer names no machine of a catalog."""


@dataclass(frozen=True)
class Choice:
    """Says how hosts are made.
    networks: patterns of names, the most wanted first.
    families: ip and ip6, the most wanted first.
    jump: one of JUMPS.
    jump_networks: patterns of networks whose machines are reached by way of their node in any case."""

    networks: Sequence[str] = ()
    families: Sequence[str] = ("ip", "ip6")
    jump: str = AUTO
    jump_networks: Sequence[str] = ()
    group_by: Sequence[str] = tuple(GROUPED)


@dataclass(frozen=True)
class MachineHost:
    """Describes a host of the inventory. notes: what the user should know of it."""

    name: str
    variables: Mapping[str, Any]
    groups: Sequence[str]
    notes: Sequence[str] = field(default_factory=tuple)


def hosts_of(
    info: Mapping[str, Any],
    choice: Choice,
    taken: Iterable[str],
    node_variables: Callable[[str], Mapping[str, Any] | None],
) -> list[MachineHost]:
    """Return a host for each machine. Raise NoCatalog for a machine without a number of its own.
    taken: names that the inventory has for other hosts and for groups, and names that the caller gives to groups.
    node_variables: returns JUMP_VARIABLES of a node, None if they are not known; called only for a node on the way."""
    networks = {str(network["name"]): network for network in info.get("networks") or ()}
    used = {*taken, *_RESERVED, *(group for vm in info.get("vms") or () for group in _groups(machine_of(vm), choice))}
    used |= {re.sub(r"\W", "_", name) for name in used}
    found = []
    for vm in info.get("vms") or ():
        machine = {**machine_of(vm), "catalog": str(info.get("catalog") or "")}
        name, notes = _name_of(vm, used, str(info.get("catalog") or ""))
        used.add(name)
        variables: dict[str, Any] = {MACHINE: machine}
        address, network = _reached_by(machine, choice)
        notes += unreadable_addresses(name, machine["nics"], choice)
        if address:
            variables["ansible_host"] = address
            if machine["host"] and is_jumped(
                choice.jump, choice.jump_networks, networks.get(network, {"name": network})
            ):
                node = node_variables(machine["host"])
                arguments = "" if node is None else jump_arguments(machine["host"], node)
                if arguments:
                    variables["ansible_ssh_common_args"] = arguments
        found.append(MachineHost(name, variables, _groups(machine, choice), notes))
    return found


def _groups(machine: Mapping[str, Any], choice: Choice) -> list[str]:
    return [f"{word}_{value}" for word in choice.group_by for value in _values(machine[GROUPED[word]])]


def machine_of(vm: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variable MACHINE of a host: all that the catalog says but the context's names, and the names of
    networks and images as lists."""
    nics = [dict(nic) for nic in vm.get("nics") or ()]
    aliases = [dict(alias) for alias in vm.get("nic_aliases") or ()]
    disks = [dict(disk) for disk in vm.get("disks") or ()]
    attributes = {name: value for name, value in (vm.get("attributes") or {}).items() if name != "CONTEXT"}
    return {
        **vm,
        "nics": nics,
        "nic_aliases": aliases,
        "disks": disks,
        "networks": _without_repeats(nic.get("network") for nic in (*nics, *aliases)),
        "images": _without_repeats(disk.get("image") for disk in disks),
        "labels": [*(vm.get("labels") or ())],
        "attributes": attributes,
    }


def _reached_by(machine: Mapping[str, Any], choice: Choice) -> tuple[str, str]:
    """Return the address by which the machine is reached, and its network; both are "" if it has none."""
    # A NIC may have no address but that of a private prefix; or none that the catalog knows of, and an alias that has.
    inner = [alias for alias in machine["nic_aliases"] if not alias.get("external")]
    for nics in (machine["nics"], inner):
        private = [{**nic, "ip6": nic.get("ip6_ula")} for nic in nics]
        for several in (nics, private):
            found = address_of(several, choice)
            if found[0]:
                return found
    return "", ""


def address_of(nics: Sequence[Mapping[str, Any]], choice: Choice) -> tuple[str, str]:
    """Return the address of these by which the machine is reached, and its network; both are "" if there is none."""
    patterns = [*choice.networks, "*"]
    for pattern in patterns:
        for family in choice.families:
            for nic in nics:
                if _is_address(nic.get(family)) and fnmatch.fnmatchcase(str(nic.get("network") or ""), pattern):
                    return str(nic[family]), str(nic.get("network") or "")
    return "", ""


def unreadable_addresses(name: str, nics: Sequence[Mapping[str, Any]], choice: Choice) -> list[str]:
    """Return what the user should know of a machine's addresses that are none."""
    found = _without_repeats(
        nic[family] for nic in nics for family in choice.families if nic.get(family) and not _is_address(nic[family])
    )
    return [f"machine {name}: the front-end says that {text!r} is an address of it, which is none" for text in found]


def _is_address(text: Any) -> bool:
    """Return whether it is an address of another machine and nothing else: ssh takes what begins with a dash for an
    option, and reaches the control node itself by those that mean whoever uses them."""
    try:
        address = ipaddress.ip_address(str(text or ""))
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return "%" not in str(text) and not (address.is_loopback or address.is_unspecified or address.is_multicast)


def _name_of(vm: Mapping[str, Any], used: set[str], catalog: str) -> tuple[str, list[str]]:
    """Return the host's name and notes: the machine's name, or the name of its domain, which no other machine has."""
    name, domain = str(vm.get("name") or ""), f"one-{vm.get('id')}"
    if name in used:
        why = "the inventory has another host or a group of this name"
    elif not _NAME.fullmatch(name):
        why = "Ansible's patterns give it a meaning"
    elif printable(name) != name:
        why = "it has characters that nobody sees"
    elif _is_of_a_file(name):
        why = "it is that of a file with variables of another host"
    elif _DOMAIN.fullmatch(name) and name != domain:
        why = "it is the name of another machine's domain"
    else:
        return name, []
    if domain in used:
        domain = f"{domain}-{catalog[:8]}"
    if domain in used or not _NAME.fullmatch(domain) or _is_of_a_file(domain):
        raise NoCatalog(f"machine {name!r}: its number is {vm.get('id')!r}, which is no number of a machine's own")
    return domain, [f"machine {name!r} is host {domain} here: {why}"]


def _is_of_a_file(name: str) -> bool:
    """Return whether Ansible may find the variables of a host under its name and under another one: it looks for a file
    with the name of a host before it looks for one with an ending."""
    endings = (ending if "." in ending else f".{ending}" for ending in constants.YAML_FILENAME_EXTENSIONS)
    return name.lower().endswith(tuple(ending.lower() for ending in endings))


def _without_repeats(names: Iterable[Any]) -> list[str]:
    return [*dict.fromkeys(str(name) for name in names if name)]


def _values(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [str(each) for each in values if each not in (None, "")]
