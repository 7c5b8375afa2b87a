# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads machines as results show them, and finds who can tell whether their guests are up."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..arguments import parse_json
from ..dataclass import dataclass
from ..errors import InvalidValue, NebulaError
from ..host import node_file
from ..host.console.expected_guest import ADDRESS, AGENT, KINDS, Wanted, address
from ..host.console.guest_wait import Source, Verdict
from ..hypervisors.base import Driver, Mark
from ..hypervisors.libvirt.guest_agent import Agents
from ..hypervisors.libvirt.guest_agent import Machine as Asked
from ..hypervisors.registry import DRIVERS, open_driver
from ..network.address_probe import Presence, Target
from ..storage.datastore_layout import vm_directory

EXAMPLE = "Give a list of dicts with id, name, console, hostname and addresses"


@dataclass(frozen=True)
class Machine:
    """Describes a machine and what is wanted of its guest.
    hypervisor, mark: whose agent to ask; without a mark nobody is asked
    targets: the addresses that are asked for on bridges of this node"""

    wanted: Wanted
    hypervisor: str = ""
    mark: Mark | None = None
    targets: tuple[Target, ...] = ()


@contextlib.contextmanager
def sources(machines: Sequence[Machine], drivers: Callable[[str], Driver] = open_driver) -> Iterator[list[Source]]:
    """Yield those who can tell of these machines besides their consoles. Nobody is asked before it is needed."""
    agents = [
        Asked(machine.wanted, machine.hypervisor, machine.mark)
        for machine in machines
        if machine.mark is not None and machine.wanted.counts(AGENT)
    ]
    targets = [target for machine in machines if machine.wanted.counts(ADDRESS) for target in machine.targets]
    found: list[Source] = [Agents(agents, drivers), Presence(targets)]
    try:
        yield found
    finally:
        for source in found:
            source.close()


def machines_of(
    text: str, pattern: str = "", patterns: Mapping[str, str] | None = None, by: Sequence[str] = KINDS
) -> list[Machine]:
    """Return the machines of option vms (JSON) whose guests can tell something.

    Machines without a console (check mode predicts them) are left out, and machines that have neither a context
    (addresses is null) nor a pattern.
    pattern: for all machines
    patterns: by name, each instead of pattern
    by: what counts"""
    if not by:
        raise InvalidValue("option by", "the list is empty", f"Name at least one of {', '.join(KINDS)}")
    found = parse_json(text, "vms")
    if not isinstance(found, list):
        raise InvalidValue("option vms", f"it is a {type(found).__name__}", EXAMPLE)
    machines: list[Machine] = []
    catalogs: dict[str, str] = {}
    for index, item in enumerate(found):
        if not isinstance(item, Mapping):
            raise InvalidValue(f"option vms, item {index}", f"it is a {type(item).__name__}", EXAMPLE)
        own = (patterns or {}).get(str(item.get("name"))) or pattern
        if not isinstance(own, str):
            found = f"it is a {type(own).__name__}"
            raise InvalidValue(f"option patterns, VM {item.get('name')}", found, "Give a regular expression, in quotes")
        if item.get("console") and (own or item.get("addresses", ()) is not None):
            machines.append(machine_of(item, index, own, by, catalogs))
    return machines


def machine_of(
    item: Mapping[str, Any], index: int, pattern: str, by: Sequence[str], catalogs: dict[str, str]
) -> Machine:
    """Return one machine of the option. catalogs: by node's root, the catalogs that were looked up already."""
    number, name, addresses = item.get("id"), item.get("name"), item.get("addresses") or []
    if not isinstance(number, int) or not isinstance(name, str):
        raise InvalidValue(f"option vms, item {index}", "id or name is missing", EXAMPLE)
    if not isinstance(addresses, list):
        raise InvalidValue(f"option vms, item {index} ({name}): addresses", "it is not a list", EXAMPLE)
    wanted = Wanted(
        vm_id=number,
        name=name,
        console=str(item["console"]),
        hostname=str(item.get("hostname") or ""),
        former=str(item.get("former_hostname") or ""),
        addresses=tuple(str(address) for address in addresses),
        pattern=pattern,
        by=tuple(by),
    )
    hypervisor = str(item.get("hypervisor") or "")
    mark = _mark_of(item, number, catalogs) if hypervisor in DRIVERS else None
    return Machine(wanted, hypervisor, mark, tuple(_targets(wanted, item.get("nics"), item.get("nic_aliases"))))


def _mark_of(item: Mapping[str, Any], number: int, catalogs: dict[str, str]) -> Mark | None:
    """Return the mark by which this node knows the machine, None if the machine is none of ours."""
    directory = os.path.dirname(str(item["console"]))
    root = os.path.dirname(os.path.dirname(os.path.dirname(directory)))
    if directory != vm_directory(root, number):
        return None
    if root not in catalogs:
        catalogs[root] = ""
        with contextlib.suppress(NebulaError):
            catalogs[root] = node_file.read(root).catalog
    return Mark(catalogs[root], number, str(item.get("uuid") or "")) if catalogs[root] else None


def _targets(wanted: Wanted, nics: Any, aliases: Any) -> Iterator[Target]:
    """Yield the addresses that the guest is told of and that its NICs have on bridges, with those of their aliases."""
    of_guest = {address(text) for text in wanted.addresses}
    further = [each for each in aliases if isinstance(each, Mapping)] if isinstance(aliases, list) else []
    for nic in nics if isinstance(nics, list) else ():
        if not isinstance(nic, Mapping) or not nic.get("bridge") or not nic.get("mac"):
            continue
        held = [nic, *(each for each in further if each.get("parent_id") == nic.get("nic_id"))]
        for each, key in itertools.product(held, ("ip", "ip6", "ip6_ula")):
            own = address(str(each.get(key) or ""))
            if own is not None and own in of_guest:
                yield Target(wanted.vm_id, str(nic["bridge"]), str(nic["mac"]).lower(), own)


def verdict_view(verdict: Verdict) -> dict[str, Any]:
    """Return how results show what was found of a machine."""
    return {
        "vm_id": verdict.wanted.vm_id,
        "name": verdict.wanted.name,
        "verified": verdict.verified,
        "seconds": round(verdict.seconds, 1),
        "evidence": verdict.evidence,
        "said": verdict.text,
        "missing": list(verdict.missing),
        "tried": dict(verdict.tried),
        "last_lines": list(verdict.last_lines),
    }
