# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides what passes between a node, its networks and what is beyond them, by nftables: one table of ours per
catalog, and no rule anywhere else.

The rules only ever drop or translate. An accept would promise too much: what another table drops stays dropped.
IPv4 forwarding is on while a network in the table has NAT; what it was before is kept in the table, which is as
short-lived as that setting."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from ..dataclass import dataclass
from ..errors import CommandFailed, ForeignObject
from ..host.command import failure_of, run
from ..model.addresses import LINK_LOCAL
from ..model.node_access import PROTOCOLS, NodeAccess, ports_text

TIMEOUT = 30.0
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_MARK_CHAIN = "nebula"
_NAT = "postrouting"


# What a bridge does not forward (IEEE 802.1D): the kernel takes it by the very interface that it came in by, past every
# rule that names the bridge. None of it is IP.
_KEPT_BY_BRIDGES = "ether daddr 01:80:c2:00:00:00-01:80:c2:00:00:0f drop"
_NEW = "ct state != { established, related }"
# The port of DHCP servers. Who asks them has no address yet.
DHCP, _NOBODY = 67, "0.0.0.0"


@dataclass(frozen=True)
class SharedBridge:
    """Says what the networks of one bridge have there together.
    wholes: the addresses of networks that have their gateway on it; own: the network's own, if it is one of them
    dhcp: whether the node may serve DHCP to some of them"""

    wholes: tuple[IPv4Network, ...]
    own: IPv4Network | None = None
    dhcp: bool = False


@dataclass(frozen=True)
class Rules:
    """Makes the rules of one network.
    gateway: the node's address on its bridge, "" if the bridge carries none, and then no packet passes between
    bridge and node, unless it has the node's own addresses (forced)
    whole: its addresses, if it has NAT: it reaches out through the node's other interfaces, with the node's
    addresses
    access: what its machines reach on the node
    shared: set if other networks have the bridge, too, and one of them has its gateway on it"""

    network: str
    bridge: str
    gateway: str = ""
    whole: IPv4Network | None = None
    access: NodeAccess = NodeAccess()
    forced: bool = False
    shared: SharedBridge | None = None

    @property
    def rules(self) -> list[tuple[str, str]]:
        """Return the rules of this network, each with its chain. Their order has no meaning: networks come and go."""
        inside = f'"{self.bridge}"'
        leaving, coming = f"iifname {inside} oifname != {inside}", f"oifname {inside} iifname != {inside}"
        always = [("input", _KEPT_BY_BRIDGES), ("forward", _KEPT_BY_BRIDGES)]
        if self.forced:
            barred = f"ip daddr {LINK_LOCAL} drop"
            return [*always, ("input", f"iifname {inside} {barred}"), ("forward", f"iifname {inside} {barred}")]
        if self.shared is not None:
            return always + self._rules_beside_others(self.shared, inside, leaving, coming)
        if not self.gateway:
            return [
                *always,
                ("input", f"iifname {inside} drop"),
                ("forward", f"{leaving} drop"),
                ("forward", f"{coming} drop"),
            ]
        found = [
            *always,
            ("input", f"iifname {inside} ip daddr {LINK_LOCAL} drop"),
            # Conntrack may take one for an answer.
            ("input", f"iifname {inside} icmp type redirect drop"),
            ("forward", f"{leaving} ip daddr {LINK_LOCAL} drop"),
        ]
        if not self.access.everything:
            here, there = f"iifname {inside} {_NEW}", f"{leaving} {_NEW} ct status dnat"
            found += [("input", f"{here} meta nfproto != ipv4 drop"), *self._access_rules(here, there)]
        if self.whole is not None:
            found += [
                ("forward", f"{leaving} ip saddr != {self.whole} drop"),
                ("forward", f"{coming} {_NEW} drop"),
                self._masquerade(self.whole, inside),
            ]
        return found

    def _rules_beside_others(
        self, shared: SharedBridge, inside: str, leaving: str, coming: str
    ) -> list[tuple[str, str]]:
        """Return rules that let nothing pass but what has addresses of networks with their gateway on the bridge. Each
        network has these rules, so that it makes no difference which of them goes first."""
        wholes = ", ".join(map(str, shared.wholes))
        askers = f", {_NOBODY}" if shared.dhcp else ""
        found = [
            ("input", f"iifname {inside} meta nfproto != ipv4 drop"),
            ("input", f"iifname {inside} ip saddr != {{ {wholes}{askers} }} drop"),
            ("input", f"iifname {inside} ip daddr {LINK_LOCAL} drop"),
            ("input", f"iifname {inside} icmp type redirect drop"),
            ("forward", f"{leaving} meta nfproto != ipv4 drop"),
            ("forward", f"{coming} meta nfproto != ipv4 drop"),
            ("forward", f"{leaving} ip saddr != {{ {wholes} }} drop"),
            ("forward", f"{coming} ip daddr != {{ {wholes} }} drop"),
            ("forward", f"{leaving} ip daddr {LINK_LOCAL} drop"),
        ]
        if shared.dhcp:
            found += [
                ("input", f"iifname {inside} ip saddr {_NOBODY} meta l4proto != udp drop"),
                ("input", f"iifname {inside} ip saddr {_NOBODY} udp dport != {DHCP} drop"),
            ]
        own = shared.own
        if own is not None and not self.access.everything:
            of = f"ip saddr {own} {_NEW}"
            found += self._access_rules(f"iifname {inside} {of}", f"{leaving} {of} ct status dnat")
        if self.whole is not None:
            found += [("forward", f"{coming} ip daddr {self.whole} {_NEW} drop"), self._masquerade(self.whole, inside)]
        return found

    def _masquerade(self, whole: IPv4Network, inside: str) -> tuple[str, str]:
        kept = f"{whole}, 224.0.0.0/4, 255.255.255.255"
        return _NAT, f"ip saddr {whole} ip daddr != {{ {kept} }} oifname != {inside} masquerade"

    def _access_rules(self, here: str, there: str) -> list[tuple[str, str]]:
        """Return rules for what is not to be reached, also by translation: what a program of the node publishes at the
        node's addresses may be somewhere else, and is forwarded then; the port is the one that was asked for.
        here, there: what comes in from the machines, to the node itself and to where it was translated"""
        found = [
            ("input", f"{here} meta l4proto != {{ icmp, tcp, udp }} drop"),
            ("forward", f"{there} meta l4proto != {{ tcp, udp }} drop"),
        ]
        if not self.access.icmp:
            found += [
                ("input", f"{here} icmp type != echo-request drop"),
                ("input", f"{here} icmp type echo-request ip daddr != {self.gateway} drop"),
            ]
        for protocol in PROTOCOLS:
            ports = [ports_text(span) for span in self.access.ports(protocol)]
            asked = f"{protocol} dport != {{ {', '.join(ports)} }}" if ports else f"meta l4proto {protocol}"
            # One by one: nftables 1.0 writes a set of these in a way that it does not read.
            first = " ".join([f"meta l4proto {protocol}", *(f"ct original proto-dst != {each}" for each in ports)])
            found += [("input", f"{here} {asked} drop"), ("forward", f"{there} {first} drop")]
        return found

    def lines(self, catalog: str) -> list[str]:
        """Return lines for nft, which has the catalog's table already."""
        table = table_name(catalog)
        return [f'add rule inet {table} {chain} {rule} comment "{self.comment}"' for chain, rule in self.rules]

    @property
    def comment(self) -> str:
        """Return the comment that the rules carry: the network that they belong to, and a digest of their content."""
        digest = hashlib.sha256(repr(self.rules).encode()).hexdigest()[:12]
        return f"{_MARK_CHAIN}:{self.network}:{digest}"


@dataclass
class Table:
    """Holds this catalog's table as it is.
    rules: for each comment its rules as (chain, handle)
    bridges: for each network the bridge that its rules name
    found, forwarding: "0" or "1", what IPv4 forwarding was before we set it, and what it is"""

    catalog: str
    exists: bool = False
    found: str = ""
    mark_handle: int = 0
    forwarding: str = "0"
    rules: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    bridges: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return table_name(self.catalog)

    @property
    def networks(self) -> list[str]:
        return list(dict.fromkeys(comment.split(":")[1] for comment in self.rules))

    def of(self, network: str) -> dict[str, list[tuple[str, int]]]:
        return {c: rules for c, rules in self.rules.items() if c.startswith(f"{_MARK_CHAIN}:{network}:")}

    @property
    def masquerading(self) -> set[str]:
        """Return the networks that have NAT."""
        return {
            comment.split(":")[1] for comment, rules in self.rules.items() for chain, _handle in rules if chain == _NAT
        }

    def has(self, wanted: Rules) -> bool:
        chains = sorted(chain for chain, _handle in self.rules.get(wanted.comment, ()))
        return (
            list(self.of(wanted.network)) == [wanted.comment]
            and chains == sorted(chain for chain, _rule in wanted.rules)
            and (wanted.whole is None or self.forwarding == "1")
        )


def table_name(catalog: str) -> str:
    return f"nebula_{catalog.replace('-', '')[:8]}"


def frame(catalog: str, forwarding: str) -> list[str]:
    """Return the lines for `nft` that make a table without networks; the last is its mark. forwarding: as it was."""
    table = table_name(catalog)
    return [
        f"add table inet {table}",
        f"add chain inet {table} {_MARK_CHAIN}",
        f"add chain inet {table} input {{ type filter hook input priority filter; policy accept; }}",
        f"add chain inet {table} forward {{ type filter hook forward priority filter; policy accept; }}",
        f"add chain inet {table} {_NAT} {{ type nat hook postrouting priority srcnat; policy accept; }}",
        f'add rule inet {table} {_MARK_CHAIN} counter comment "{_MARK_CHAIN}:{catalog}:ip_forward={forwarding}"',
    ]


def observe(catalog: str) -> Table:
    """Return the table as it is. Raise ForeignObject if a table of that name is not this catalog's."""
    table = Table(catalog, forwarding=FORWARDING.read_text(encoding="ascii").strip())
    done = run(["nft", "-j", "list", "table", "inet", table.name], timeout=TIMEOUT, check=False)
    if done.returncode != 0:
        if "No such file or directory" in done.stderr:
            return table
        raise failure_of(done)
    table.exists = True
    for entry in json.loads(done.stdout)["nftables"]:
        rule: Mapping[str, Any] = entry.get("rule") or {}
        comment = rule.get("comment", "")
        if rule.get("chain") == _MARK_CHAIN and comment.startswith(f"{_MARK_CHAIN}:{catalog}:"):
            table.found, table.mark_handle = comment[-1], rule["handle"]
        elif comment.startswith(f"{_MARK_CHAIN}:"):
            table.rules.setdefault(comment, []).append((rule["chain"], rule["handle"]))
            bridge = _bridge_of(rule)
            if bridge:
                table.bridges[comment.split(":")[1]] = bridge
    if not table.found:
        raise ForeignObject(
            f"nftables: table inet {table.name}",
            "there is a table of that name without this catalog's mark",
            f"See what it is for (nft list table inet {table.name}); if it can go, nft delete table inet {table.name}",
        )
    return table


def _bridge_of(rule: Mapping[str, Any]) -> str:
    """Return the interface by which a packet has to come in for the rule, "" if it says none."""
    for entry in rule.get("expr") or ():
        match = entry.get("match") or {}
        if match.get("left") == {"meta": {"key": "iifname"}} and match.get("op") == "==":
            return str(match.get("right", ""))
    return ""


def ensure(wanted: Sequence[Rules], table: Table) -> None:
    """Put these networks' rules in, in one transaction of nftables, and let the node forward if one has NAT."""
    if not wanted:
        return
    *script, mark = frame(table.catalog, table.forwarding)
    with_nat, masquerades = table.masquerading, any(rules.whole is not None for rules in wanted)
    # What it was before we set it is known as long as we did not, or somebody has set it since.
    begins = masquerades and (not with_nat or table.forwarding == "0")
    if not table.exists or (begins and table.found != table.forwarding):
        if table.mark_handle:
            script.append(f"delete rule inet {table.name} {_MARK_CHAIN} handle {table.mark_handle}")
        script.append(mark)
    for each in wanted:
        script += _deletions(table, each.network)
        script += each.lines(table.catalog)
    _carry_out(script)
    if not masquerades:
        _end_forwarding(table, [each.network for each in wanted])
    elif table.forwarding != "1":
        _set_forwarding("1")


def remove(networks: Sequence[str], table: Table) -> None:
    """Take these networks' rules out; with the last of them the table is removed."""
    if not table.exists:
        return
    _end_forwarding(table, networks)
    gone = {comment for network in networks for comment in table.of(network)}
    if set(table.rules) - gone:
        _carry_out([line for network in networks for line in _deletions(table, network)])
        return
    _carry_out([f"delete table inet {table.name}"])


def _end_forwarding(table: Table, networks: Sequence[str]) -> None:
    """Set IPv4 forwarding back to its former value when the last network with NAT goes."""
    if table.masquerading and table.masquerading <= set(networks) and (table.found, table.forwarding) == ("0", "1"):
        _set_forwarding("0")


def _deletions(table: Table, network: str) -> list[str]:
    return [
        f"delete rule inet {table.name} {chain} handle {handle}"
        for rules in table.of(network).values()
        for chain, handle in rules
    ]


def _carry_out(script: Sequence[str]) -> None:
    if script:
        run(["nft", "-f", "-"], input="".join(line + "\n" for line in script), timeout=TIMEOUT)


def _set_forwarding(value: str) -> None:
    try:
        FORWARDING.write_text(value + "\n", encoding="ascii")
    except OSError as error:
        raise CommandFailed(
            f"set net.ipv4.ip_forward to {value}",
            f"{FORWARDING}: {error.strerror}",
            "In a container it may be read-only: set it on the host, or use a network without nat",
        ) from error
