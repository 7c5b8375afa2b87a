# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node needs for networks with vn_mad bridge: the bridge, the gateway's address on it, what keeps its machines
from the node, NAT."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network, summarize_address_range
from typing import Any

from ..dataclass import dataclass
from ..errors import InUse, InvalidValue, MissingDependency, NebulaError
from ..model import network_checks
from ..model.network import OWN_BRIDGES, Network
from . import host_firewall, links, nat, routes, settings

# What there is of a network's rules.
_PRESENT, _OTHERS, _ABSENT = "present", "others than are wanted", "absent"
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
    rules: nat.Rules
    spans: Sequence[routes.Span]

    @classmethod
    def of(cls, network: Network) -> Wanted:
        network_checks.check(network)
        _check_uuid(f"network {network.name}: uuid", network.uuid)
        whole = network_checks.cidr(network)
        spans: list[routes.Span] = [whole] if whole else []
        for r in network.address_ranges:
            spans += [] if whole else _spans(r.ip, r.size)
            spans += [IPv6Network(f"{prefix}/64") for prefix in (r.global_prefix, r.ula_prefix) if prefix]
        address, rules = "", nat.Rules(network.uuid, network.bridge)
        if whole and network_checks.carries_gateway(network):
            gateway = network.attributes["GATEWAY"]
            address = f"{gateway}/{whole.prefixlen}"
            access = network_checks.node_access(network)
            rules = nat.Rules(network.uuid, network.bridge, gateway, whole if network.nat else None, access)
        return cls(network.name, network.uuid, network.bridge, address, rules, spans)


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
        self._firewall: list[host_firewall.Table] | None = None
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

    def _table(self, needed_by: str = "") -> nat.Table:
        """Where nftables is not there, there is no table of ours either. needed_by: the network that can't be without
        its rules."""
        with self._tolerant() if needed_by else contextlib.suppress(MissingDependency):
            try:
                return nat.observe(self.catalog)
            except MissingDependency as error:
                error.remedy += (
                    f" (role nebula.provision.node does): network {needed_by} needs it to keep its machines from this "
                    "host. A network on a bridge of the host's own (vn_mad: dummy) does without"
                )
                raise
        return nat.Table(self.catalog)

    def ensure(self, networks: Sequence[Network], known: Sequence[str] | None) -> list[Done]:
        """Bring the node to what these networks say; those that are DONE go. known: UUIDs of all networks of the
        catalog; bridges of ours that were made for others are left over, and go too."""
        done = []
        for network in networks:
            if network.state.name == "DONE":
                done += self._remove_of([network.uuid] if network.uuid else [])
            elif network.vn_mad == OWN_BRIDGES:
                done += self._attempt(network, known)
            elif network.bridge not in self.links:
                self.warnings.append(
                    f"network {network.name}: there is no bridge {network.bridge} on this host; with vn_mad "
                    f"{network.vn_mad} this collection does not make it, and no machine can start on it before"
                )
            else:
                self.warnings += settings.doubts(network.name, network.bridge, self.links[network.bridge].settings)
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
        return None if link is None else _view(link)

    def _ensure(self, wanted: Wanted, known: Sequence[str] | None) -> list[Done]:
        link = self.links.get(wanted.bridge)
        mark = links.Mark(self.catalog, wanted.uuid, wanted.address)
        if link is not None:
            forgotten = known is not None and link.mark is not None and link.mark.network not in known
            links.refuse_foreign(wanted.name, wanted.bridge, link, mark, forgotten)
        former = self._former(wanted)
        table = self._table(needed_by=wanted.name)
        if link is None or (wanted.address and wanted.address not in link.addresses):
            routes.refuse_overlap(wanted.name, wanted.spans, {wanted.bridge, *(f.name for f in former)}, self.routes)
        self._refuse_drops(wanted, table)
        expected = links.Link(wanted.bridge, "bridge", str(mark), up=True, addresses=(wanted.address,))
        wrong = settings.differing(link.settings, bool(wanted.address)) if link is not None else {}
        if link is not None and link.addresses6 and "ipv6/disable_ipv6" in wrong:
            self.warnings.append(
                f"network {wanted.name}: bridge {wanted.bridge} had {', '.join(link.addresses6)}, which this "
                "collection did not give it; it has no IPv6 any more, as this host is no member of the network by IPv6"
            )
        if not self.act:
            self._expect(expected, former)
        elif self._act(wanted, mark, link, former, table, wrong):
            self._look()
        before = None if link is None else _view(link, *_of_table(table, wanted), {n: link.settings[n] for n in wrong})
        return [
            *(Done(wanted.name, f.name, _view(f)) for f in former),
            Done(wanted.name, wanted.bridge, before, _view(expected, _PRESENT, wanted.rules.whole is not None, wrong)),
        ]

    def _act(
        self,
        wanted: Wanted,
        mark: links.Mark,
        link: links.Link | None,
        former: Sequence[links.Link],
        table: nat.Table,
        wrong: Mapping[str, str],
    ) -> bool:
        """What may come in by the bridge is decided before it is up. Returns whether interfaces are others now."""
        making = [step for f in former for step in links.delete_steps(f.name)]
        making += links.new_steps(wanted.bridge, mark) if link is None else []
        links.carry_out(making)
        try:
            if link is None:
                wrong = settings.differing(settings.observe(wanted.bridge), bool(wanted.address))
            settings.write(wanted.bridge, wrong)
            if not table.has(wanted.rules):
                nat.ensure(wanted.rules, table)
            steps = links.bridge_steps(wanted.bridge, mark, link)
            links.carry_out(steps)
        except NebulaError:
            if link is None:
                self._take_back(wanted)
            raise
        return bool(making or wrong or steps)

    def _take_back(self, wanted: Wanted) -> None:
        """Of a network that could not be made, nothing stays: no half of it is taken for the whole."""
        self._look()
        with contextlib.suppress(NebulaError):
            self._remove_of([wanted.uuid])

    def _former(self, wanted: Wanted) -> list[links.Link]:
        """The bridges that this network had under other names."""
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

    def _refuse_drops(self, wanted: Wanted, table: nat.Table) -> None:
        """Refuse to make a network that would reach nothing, because a firewall of the host drops its packets."""
        if self._firewall is None:
            self._firewall = []
            with contextlib.suppress(MissingDependency):
                self._firewall = host_firewall.observe(table.name)
        whole = wanted.rules.whole
        kinds = host_firewall.bridged(wanted.bridge, whole)
        if whole is not None:
            kinds = host_firewall.routed(wanted.bridge, whole, routes.uplink(self.routes)) + kinds
        found = host_firewall.drops(self._firewall, kinds)
        if found and self.ignore_drops:
            asked, explanation, _remedy = host_firewall.explained(wanted.name, found)
            self.warnings.append(f"{asked}: {explanation}; ignored, as nebula_ignore_forward_drop says")
        else:
            host_firewall.refuse(wanted.name, found)

    def _present(self) -> list[str]:
        """The UUIDs of the networks of this catalog that have anything on this host."""
        bridges = [_network_of(link) for link in links.marked(self.links, self.catalog).values()]
        table = self._table()
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
            table = self._table()
            rules, masquerades = _PRESENT if table.of(uuid) else _ABSENT, uuid in table.masquerading
            bridges = [b for b in links.marked(self.links, self.catalog).values() if _network_of(b) == uuid]
            items = [Done(f"network {uuid}", link.name, _view(link, rules, masquerades)) for link in bridges]
            if rules == _PRESENT and not items:
                items = [Done(f"network {uuid}", "", {"rules": rules, "nat": masquerades})]
            done += items
            try:
                for link in bridges:
                    _refuse_ports(f"remove bridge {link.name}", link, forecast=not self.act)
                if self.act:
                    if rules == _PRESENT:
                        nat.remove([uuid], table)
                    links.carry_out([step for link in bridges for step in links.delete_steps(link.name)])
                for link in bridges:
                    del self.links[link.name]
            except NebulaError as error:
                for item in items:
                    item.after, item.error = item.before, error
        return done


def _of_table(table: nat.Table, wanted: Wanted) -> tuple[str, bool]:
    """What there is of the network's rules, and whether it has NAT."""
    there = _PRESENT if table.has(wanted.rules) else _OTHERS if table.of(wanted.uuid) else _ABSENT
    return there, wanted.uuid in table.masquerading and table.forwarding == "1"


def _view(
    link: links.Link, rules: str = _ABSENT, masquerades: bool = False, differing: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """differing: of the kernel's settings those that are not as they are to be, as they are or are to be."""
    mark = link.mark
    address = mark.address if mark and mark.address in link.addresses else ""
    shown = {settings.key(link.name, name): value for name, value in (differing or {}).items()}
    return {
        "bridge": link.name,
        "network": _network_of(link),
        "up": link.up,
        "stp": link.stp,
        "address": address,
        "rules": rules,
        "nat": masquerades,
        **({"settings": shown} if shown else {}),
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
