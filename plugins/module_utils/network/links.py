# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads and changes interfaces of a node, by `ip`. What is ours has a mark in its alias; nothing else is changed."""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any

from ..dataclass import dataclass
from ..errors import ForeignObject, NebulaError, NotFound
from ..host.command import run
from ..model.uplink import ETHERNET_MTU
from . import bridge_sysctls, nat

TIMEOUT = 30.0
# What a machine's NIC is called on its host.
MACHINES = re.compile(r"one-[0-9]+-[0-9]+\Z")
_MARK = "nebula"
FORCED = "forced"
# The word in the mark of a bridge that has an interface which was down before.
DOWN = "down"
# What ends the mark of a bridge that several networks have.
SHARED = "+"
# As the kernel calls them.
VLAN_KIND, VXLAN_KIND = "vlan", "vxlan"


@dataclass(frozen=True)
class Mark:
    """Says whose a bridge is: `nebula:<catalog>:<network>`, both UUIDs, and after another colon the address that we
    gave it (several with commas), after one more the interface of the host that we made a port of it, and after the
    last `forced` if the host's own addresses have moved with that, or `down` if it was down before that, and a `+`
    if other networks have the bridge, too; their rules in our table of nftables name them. After the last colon of
    all is the MTU that we gave it, if that is larger than it would have by itself. Addresses and ports that others
    add to the bridge are not in the mark, and are left alone."""

    catalog: str
    network: str
    address: str = ""
    port: str = ""
    forced: str = ""
    down: str = ""
    shared: str = ""
    mtu: int = 0

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(filter(None, self.address.split(",")))

    def __str__(self) -> str:
        how = (self.forced or self.down) if self.port else ""
        more = [self.address, self.port, how + self.shared, str(self.mtu) if self.mtu else ""]
        while more and not more[-1]:
            more.pop()
        return ":".join([_MARK, self.catalog, self.network, *more])

    @classmethod
    @functools.cache
    def read(cls, alias: str) -> Mark | None:
        parts = alias.split(":")
        if parts[0] != _MARK or not 3 <= len(parts) <= 7 or (len(parts) == 7 and not parts[6].isdecimal()):
            return None
        catalog, network, address, port, how, mtu = (*parts[1:], *[""] * 4)[:6]
        shared = SHARED if how.endswith(SHARED) else ""
        how = how.removesuffix(SHARED)
        if len(parts) >= 6 and how not in (FORCED, DOWN) and (how or not (shared or mtu)):
            return None
        forced, down = (how if how == word else "" for word in (FORCED, DOWN))
        return cls(catalog, network, address, port, forced, down, shared, int(mtu or 0))


@dataclass
class Done:
    """Says what was done, or would be, about one network on this node. before, after: None where there is no bridge."""

    network: str
    bridge: str
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    error: NebulaError | None = None


@dataclass(frozen=True)
class Link:
    """Describes a network interface.
    addresses: IPv4, with their prefix lengths
    ports: interfaces attached to it
    stp: whether it runs the spanning tree protocol, or waits before it forwards
    settings: of a bridge, as bridge_sysctls.py names them
    addresses6, dynamic6: IPv6 addresses that somebody gave it for good, and those that it was given for a while
    bridge: the bridge of which it is a port
    parent, number, group: the device that a VLAN or VXLAN device is on, its VLAN id or VNI, and the group in which
    it finds other nodes"""

    name: str
    kind: str = ""
    alias: str = ""
    up: bool = False
    stp: bool = False
    addresses: Sequence[str] = ()
    ports: Sequence[str] = ()
    mac: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    addresses6: Sequence[str] = ()
    dynamic6: Sequence[str] = ()
    mtu: int = 0
    bridge: str = ""
    parent: str = ""
    number: int = 0
    group: str = ""

    @property
    def mark(self) -> Mark | None:
        return Mark.read(self.alias)


def observe(with_settings: bool = True) -> dict[str, Link]:
    """Return all interfaces of this host (of this network namespace), by name. with_settings: whether the kernel's
    settings of bridges are read, each of which is a file."""
    entries = json.loads(run(["ip", "-json", "-details", "address", "show"], timeout=TIMEOUT).stdout or "[]")
    ports: dict[str, list[str]] = {}
    for entry in entries:
        if entry.get("master"):
            ports.setdefault(entry["master"], []).append(entry["ifname"])
    links = {}
    for entry in entries:
        # An interface that vanished while it was listed is an empty object.
        if not entry.get("ifname"):
            continue
        info = entry.get("linkinfo") or {}
        data = info.get("info_data") or {}
        kind = info.get("info_kind", "")
        links[entry["ifname"]] = Link(
            name=entry["ifname"],
            kind=kind,
            mac=entry.get("address", ""),
            alias=entry.get("ifalias", ""),
            up="UP" in entry.get("flags", ()),
            stp=bool(data.get("stp_state") or data.get("forward_delay")),
            addresses=tuple(
                f"{a['local']}/{a['prefixlen']}" for a in entry.get("addr_info", ()) if a.get("family") == "inet"
            ),
            ports=tuple(sorted(ports.get(entry["ifname"], ()))),
            settings=bridge_sysctls.observe(entry["ifname"]) if kind == "bridge" and with_settings else {},
            mtu=int(entry.get("mtu") or 0),
            bridge=entry.get("master", ""),
            # Of a veth, `link` is its other end.
            parent=entry.get("link") or data.get("link", "") if kind in (VLAN_KIND, VXLAN_KIND) else "",
            number=int(data.get("id") or 0) if kind in (VLAN_KIND, VXLAN_KIND) else 0,
            group=data.get("group", "") if kind == VXLAN_KIND else "",
            # What a router advertisement brought is for a while.
            addresses6=tuple(_global6(entry, dynamic=False)),
            dynamic6=tuple(_global6(entry, dynamic=True)),
        )
    return links


def _global6(entry: Mapping[str, Any], dynamic: bool) -> Iterator[str]:
    for each in entry.get("addr_info", ()):
        if each.get("family") == "inet6" and each.get("scope") != "link" and bool(each.get("dynamic")) == dynamic:
            yield f"{each['local']}/{each['prefixlen']}"


def refuse_foreign(network: str, name: str, link: Link, mark: Mark, forgotten: bool) -> None:
    """Raise ForeignObject if the interface of the wanted name is not a bridge of this network of this catalog.
    forgotten: the catalog no longer knows the network for which the bridge was made, so that another may have it."""
    asked = f"network {network}: bridge {name}"
    found = link.mark
    if link.kind != "bridge" or found is None:
        kind = f"a {link.kind} interface" if link.kind else "an interface"
        raise ForeignObject(
            asked,
            f"there is {kind} of that name that this collection did not make",
            "Choose another bridge for the network, or use that one as it is with vn_mad: dummy",
        )
    if found.catalog != mark.catalog:
        raise ForeignObject(
            asked,
            f"it carries the mark of catalog {found.catalog}, and this is catalog {mark.catalog or '(none yet)'}",
            f"Restore that catalog on the front-end, or remove the bridge: ip link delete {name}",
        )
    if found.network != mark.network and not forgotten:
        raise ForeignObject(
            asked, f"it was made for another network, {found.network}, of this catalog", "Choose another bridge"
        )


def refuse_other(network: str, name: str, link: Link | None, catalog: str, uuids: Sequence[str]) -> None:
    """Raise NotFound or ForeignObject if there is no bridge of that name, or one for none of this catalog's networks
    that have it: a machine on it would be in another network than its own, or in none. uuids: of these networks."""
    found = None if link is None else link.mark
    if link is not None and found is not None and found.catalog == catalog and found.network in uuids:
        return
    asked = f"network {network}: bridge {name}"
    remedy = "Run nebula.provision.site: role network makes it on this host, or says what keeps it from that"
    if link is None:
        raise NotFound(asked, "there is none on this host", remedy)
    whose = f"carries the mark {link.alias}" if found is not None else "was not made by this collection"
    raise ForeignObject(asked, f"the interface of that name on this host {whose}", remedy)


def bridge_making_lines(name: str, mark: Mark, mac: str = "") -> list[str]:
    """Return lines for `ip -batch` that make a bridge, marked and down: nothing comes in before it is set up."""
    # A fixed address: else the bridge takes its lowest port's, and guests lose the gateway whenever that changes.
    # Random, since the bridges of several nodes may be joined.
    mac = mac or ":".join(f"{byte:02x}" for byte in (6, *os.urandom(5)))
    return [
        f"link add name {name} address {mac} type bridge stp_state 0 forward_delay 0",
        f"link set dev {name} alias {mark}",
    ]


def bridge_changing_lines(name: str, mark: Mark, link: Link | None) -> list[str]:
    """Return the lines that make a bridge what it is to be; none if it is so. link: as it is now, None if new_steps()
    have just made it."""
    link = link or Link(name, "bridge", str(mark))
    steps = []
    if link.stp:
        # One after the other: while the protocol runs, the kernel takes no delay below two seconds.
        steps += [f"link set dev {name} type bridge {setting} 0" for setting in ("stp_state", "forward_delay")]
    steps += [f"link set dev {name} mtu {mtu}" for mtu in [_mtu_to_set(mark, link)] if mtu]
    former = link.mark.addresses if link.mark else ()
    steps += [
        f"address delete {each} dev {name}" for each in former if each not in mark.addresses and each in link.addresses
    ]
    if link.alias != str(mark):
        steps += [f"link set dev {name} alias {mark}"]
    steps += [f"address add {each} broadcast + dev {name}" for each in mark.addresses if each not in link.addresses]
    if not link.up:
        steps += [f"link set dev {name} up"]
    return steps


def _mtu_to_set(mark: Mark, link: Link) -> int:
    """Return the MTU that the bridge is to have instead of its own, 0 if that stays. What somebody else has set stays,
    as long as it is enough."""
    former = link.mark.mtu if link.mark else 0
    if mark.mtu > link.mtu or (mark.mtu and former == link.mtu != mark.mtu):
        return mark.mtu
    return ETHERNET_MTU if former and not mark.mtu and former == link.mtu else 0


def mtu_after(mark: Mark, link: Link) -> int:
    """Return the MTU of the bridge once it is as the mark says."""
    return _mtu_to_set(mark, link) or link.mtu


def delete_steps(name: str) -> list[str]:
    return [f"link delete dev {name} type bridge"]


def bridges_of_catalog(links: Mapping[str, Link], catalog: str) -> dict[str, Link]:
    """Return the bridges that carry the mark of this catalog."""
    return {
        name: link
        for name, link in links.items()
        if link.kind == "bridge" and link.mark is not None and link.mark.catalog == catalog
    }


def devices_of_catalog(links: Mapping[str, Link], catalog: str) -> dict[str, Link]:
    """Return the VLAN and VXLAN devices that carry the mark of this catalog."""
    return {
        name: link
        for name, link in links.items()
        if link.kind in (VLAN_KIND, VXLAN_KIND) and link.mark is not None and link.mark.catalog == catalog
    }


def networks_here(catalog: str) -> tuple[str, ...] | None:
    """Return the UUIDs of the networks of this catalog whose bridge is on this host; None if nothing tells that."""
    try:
        found = [
            link.mark
            for link in bridges_of_catalog(observe(with_settings=False), catalog).values()
            if link.mark is not None
        ]
        members = nat.observe(catalog).bridges if any(mark.shared for mark in found) else {}
    except (NebulaError, OSError):
        return None
    return tuple(sorted({*(mark.network for mark in found), *members}))


def is_there(name: str) -> bool:
    """Return whether the host has this interface. The kernel is asked without a program."""
    return os.path.exists(os.path.join("/sys/class/net", name))


def run_batch(steps: Sequence[str]) -> None:
    """Carry all steps out in one process, so that a bridge is without its mark for as short as it can be."""
    if steps:
        run(["ip", "-batch", "-"], input="".join(step + "\n" for step in steps), timeout=TIMEOUT)
