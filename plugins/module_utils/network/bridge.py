# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node needs for networks with vn_mad bridge: the bridge, the gateway's address on it, NAT."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network, summarize_address_range
from typing import Any

from ..errors import InUse, InvalidValue, MissingDependency, NebulaError
from ..model.network import Network
from . import addresses, filter, firewall, links, routes

VN_MAD = "bridge"
# What a machine's NIC is called on its host.
_MACHINES = re.compile(r"one-[0-9]+-[0-9]+\Z")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


@dataclass
class Done:
    """What was done about one network on this node (or would be). before, after: None where there is no bridge."""

    network: str
    bridge: str
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    error: NebulaError | None = None


@dataclass(frozen=True)
class Wanted:
    """address: the gateway's with its prefix length, or "". spans: the addresses that belong to the network."""

    name: str
    uuid: str
    bridge: str
    address: str
    nat: filter.Nat | None
    spans: Sequence[routes.Span]

    @classmethod
    def of(cls, network: Network) -> Wanted:
        addresses.check(network)
        _check_uuid(f"network {network.name}: uuid", network.uuid)
        whole = addresses.cidr(network)
        spans: list[routes.Span] = [whole] if whole else []
        for r in network.address_ranges:
            spans += [] if whole else _spans(r.ip, r.size)
            spans += [IPv6Network(f"{prefix}/64") for prefix in (r.global_prefix, r.ula_prefix) if prefix]
        address, nat = "", None
        if whole and addresses.carries_gateway(network):
            address = f"{network.attributes['GATEWAY']}/{whole.prefixlen}"
            nat = filter.Nat(network.uuid, network.bridge, whole) if network.nat else None
        return cls(network.name, network.uuid, network.bridge, address, nat, spans)


class Node:
    """This host, or this network namespace. act: False in check mode, where the same is decided and nothing done.
    ignore_drops: a firewall that drops what a network needs is a warning, no error.

    In check mode a program may be missing: what needs it is not there then, and would be made.
    """

    def __init__(self, catalog: str, act: bool, ignore_drops: bool = False) -> None:
        _check_uuid("catalog", catalog)
        self.ignore_drops = ignore_drops
        self.catalog = catalog
        self.act = act
        self.links: dict[str, links.Link] = {}
        self.routes: list[routes.Route] = []
        self.warnings: list[str] = []
        self._firewall: list[firewall.Table] | None = None
        self._look()

    def _look(self) -> None:
        with self._tolerant():
            self.links, self.routes = links.observe(), routes.observe()

    @contextlib.contextmanager
    def _tolerant(self) -> Iterator[None]:
        try:
            yield
        except MissingDependency as error:
            if self.act:
                raise
            self.warnings.append(f"{error.asked}: {error.found}; it would have to be installed first")

    def _table(self, needed: bool) -> filter.Table:
        """Without NAT, nftables need not be there: then there is no table of ours either."""
        with self._tolerant() if needed else contextlib.suppress(MissingDependency):
            return filter.observe(self.catalog)
        return filter.Table(self.catalog)

    def ensure(self, networks: Sequence[Network], known: Sequence[str] | None) -> list[Done]:
        """Bring the node to what these networks say; those that are DONE go. known: UUIDs of all networks of the
        catalog; bridges of ours that were made for others are left over, and go too."""
        done = []
        for network in networks:
            if network.state.name == "DONE":
                done += self._remove_of([network.uuid] if network.uuid else [])
            elif network.vn_mad == VN_MAD:
                done += self._attempt(network, known)
            elif network.bridge not in self.links:
                self.warnings.append(
                    f"network {network.name}: there is no bridge {network.bridge} on this host; with vn_mad "
                    f"{network.vn_mad} this collection does not make it, and no machine can start on it before"
                )
        if known is not None:
            # In check mode a network that would be created has no UUID yet, and its bridge is here by forecast only.
            done += self._remove_left_over([*known, *(network.uuid for network in networks)])
        return done

    def remove(self, networks: Sequence[Network] | None) -> list[Done]:
        """Take away what these networks have here, or everything that carries this catalog's mark."""
        if networks is None:
            return self._remove_of(self._present())
        return self._remove_of([network.uuid for network in networks if network.uuid])

    def left(self) -> bool:
        """Whether anything of this catalog's is here, or in check mode would be."""
        return bool(links.marked(self.links, self.catalog)) or (self.act and bool(self._present()))

    def _attempt(self, network: Network, known: Sequence[str] | None) -> list[Done]:
        before = self._shown(network)
        try:
            return self._ensure(Wanted.of(network), known)
        except NebulaError as error:
            if self.act:
                self._look()
            return [Done(network.name, network.bridge, before, self._shown(network), error)]

    def _shown(self, network: Network) -> dict[str, Any] | None:
        link = self.links.get(network.bridge)
        return None if link is None else _view(link, False)

    def _ensure(self, wanted: Wanted, known: Sequence[str] | None) -> list[Done]:
        link = self.links.get(wanted.bridge)
        mark = links.Mark(self.catalog, wanted.uuid, wanted.address)
        if link is not None:
            forgotten = known is not None and link.mark is not None and link.mark.network not in known
            links.refuse_foreign(wanted.name, wanted.bridge, link, mark, forgotten)
        former = self._former(wanted)
        table = self._table(needed=wanted.nat is not None)
        has_nat = table.has(wanted.nat) if wanted.nat else bool(table.of(wanted.uuid))
        if link is None or (wanted.address and wanted.address not in link.addresses):
            routes.refuse_overlap(wanted.name, wanted.spans, {wanted.bridge, *(f.name for f in former)}, self.routes)
        self._refuse_drops(wanted, table)
        expected = links.Link(wanted.bridge, "bridge", str(mark), up=True, addresses=(wanted.address,))
        steps = [step for f in former for step in links.delete_steps(f.name)]
        steps += links.bridge_steps(wanted.bridge, mark, link)
        if not self.act:
            self._expect(expected, former)
        else:
            links.carry_out(steps)
            if wanted.nat and not has_nat:
                filter.ensure(wanted.nat, table)
            elif has_nat and not wanted.nat:
                filter.remove([wanted.uuid], table)
            if steps:
                self._look()
        before = None if link is None else _view(link, has_nat)
        return [
            *(Done(wanted.name, f.name, _view(f, False)) for f in former),
            Done(wanted.name, wanted.bridge, before, _view(expected, wanted.nat is not None)),
        ]

    def _former(self, wanted: Wanted) -> list[links.Link]:
        """Bridges that this network had under other names."""
        ours = links.marked(self.links, self.catalog).values()
        former = [f for f in ours if wanted.uuid and _network_of(f) == wanted.uuid and f.name != wanted.bridge]
        for link in former:
            _refuse_ports(f"network {wanted.name}: bridge {wanted.bridge} instead of {link.name}", link)
        return former

    def _expect(self, expected: links.Link, former: Sequence[links.Link]) -> None:
        """Check mode: what the networks after this one would find."""
        self.links[expected.name] = expected
        for link in former:
            del self.links[link.name]
        self.routes += [routes.Route(ip_network(a, strict=False), expected.name) for a in expected.addresses if a]

    def _refuse_drops(self, wanted: Wanted, table: filter.Table) -> None:
        """A network that would be made, and then reach nothing, is not made."""
        if self._firewall is None:
            self._firewall = []
            with contextlib.suppress(MissingDependency):
                self._firewall = firewall.observe(table.name)
        whole = wanted.nat.whole if wanted.nat else None
        kinds = firewall.bridged(wanted.bridge, whole)
        if wanted.nat:
            kinds = firewall.routed(wanted.bridge, wanted.nat.whole, routes.uplink(self.routes)) + kinds
        found = firewall.drops(self._firewall, kinds)
        if found and self.ignore_drops:
            asked, told, _remedy = firewall.explained(wanted.name, found)
            self.warnings.append(f"{asked}: {told}; ignored, as nebula_ignore_forward_drop says")
        else:
            firewall.refuse(wanted.name, found)

    def _present(self) -> list[str]:
        """The UUIDs of networks that have anything of this catalog's here."""
        bridges = [_network_of(link) for link in links.marked(self.links, self.catalog).values()]
        table = self._table(needed=False)
        return list(dict.fromkeys([*bridges, *table.networks]))

    def _remove_left_over(self, known: Sequence[str]) -> list[Done]:
        done = []
        for item in self._remove_of([uuid for uuid in self._present() if uuid not in known]):
            if item.error is None:
                done.append(item)
            else:
                self.warnings.append(f"left over from a network that the catalog no longer has: {item.error}")
        return done

    def _remove_of(self, uuids: Sequence[str]) -> list[Done]:
        """Their rules and bridges; a bridge with ports is an error, and keeps its rules."""
        done: list[Done] = []
        for uuid in uuids:
            table = self._table(needed=False)
            nat = bool(table.of(uuid))
            bridges = [b for b in links.marked(self.links, self.catalog).values() if _network_of(b) == uuid]
            items = [Done(f"network {uuid}", link.name, _view(link, nat)) for link in bridges]
            if nat and not items:
                items = [Done(f"network {uuid}", "", {"nat": True})]
            done += items
            try:
                for link in bridges:
                    _refuse_ports(f"remove bridge {link.name}", link, forecast=not self.act)
                if self.act:
                    if nat:
                        filter.remove([uuid], table)
                    links.carry_out([step for link in bridges for step in links.delete_steps(link.name)])
                for link in bridges:
                    del self.links[link.name]
            except NebulaError as error:
                for item in items:
                    item.after, item.error = item.before, error
        return done


def _view(link: links.Link, nat: bool) -> dict[str, Any]:
    mark = link.mark
    address = mark.address if mark and mark.address in link.addresses else ""
    return {
        "bridge": link.name,
        "network": _network_of(link),
        "up": link.up,
        "stp": link.stp,
        "address": address,
        "nat": nat,
    }


def _network_of(link: links.Link) -> str:
    return link.mark.network if link.mark else ""


def _refuse_ports(asked: str, link: links.Link, forecast: bool = False) -> None:
    """forecast: in check mode machines that an earlier task would have ended are still there."""
    ports = [port for port in link.ports if not (forecast and _MACHINES.match(port))]
    if ports:
        raise InUse(asked, f"attached to {link.name} are {', '.join(ports)}", "End the machines that use it first")


def _spans(first: str, size: int) -> list[IPv4Network]:
    if not first:
        return []
    start = IPv4Address(first)
    return list(summarize_address_range(start, start + (size - 1)))


def _check_uuid(asked: str, value: str) -> None:
    """Marks are parts of command lines. Empty: not known yet, in check mode."""
    if value and not _UUID.match(value):
        raise InvalidValue(f"{asked} = {value!r}", "not a UUID", "Pass on what nebula_network returned")
