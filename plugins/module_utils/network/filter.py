# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NAT of a node's networks, by nftables: one table of ours per catalog, and no rule anywhere else.

The rules only ever drop or translate. An accept would promise too much: what another table drops stays dropped.
IPv4 forwarding is on while the table is there; what it was before is kept in the table, which is as short-lived as
that setting.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from ..errors import CommandFailed, ForeignObject
from ..host.command import failure, run

TIMEOUT = 30.0
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_MARK_CHAIN = "nebula"


@dataclass(frozen=True)
class Nat:
    """A network that reaches out through the node's other interfaces, with the node's addresses."""

    network: str
    bridge: str
    whole: IPv4Network

    @property
    def rules(self) -> list[tuple[str, str]]:
        """Chain and rule. Their order does not matter: networks come and go."""
        inside = f'"{self.bridge}"'
        kept = f"{self.whole}, 224.0.0.0/4, 255.255.255.255"
        return [
            ("forward", f"iifname {inside} oifname != {inside} ip saddr != {self.whole} drop"),
            ("forward", f"oifname {inside} iifname != {inside} ct state != {{ established, related }} drop"),
            ("postrouting", f"ip saddr {self.whole} ip daddr != {{ {kept} }} oifname != {inside} masquerade"),
        ]

    @property
    def comment(self) -> str:
        """What the rules carry: whose they are, and a digest of what they say."""
        digest = hashlib.sha256(repr(self.rules).encode()).hexdigest()[:12]
        return f"{_MARK_CHAIN}:{self.network}:{digest}"


@dataclass
class Table:
    """This catalog's table as it is. rules: comment → its rules as (chain, handle). found: "0" or "1", what IPv4
    forwarding was before we set it; forwarding: what it is."""

    catalog: str
    exists: bool = False
    found: str = ""
    mark_handle: int = 0
    forwarding: str = "0"
    rules: dict[str, list[tuple[str, int]]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return table_name(self.catalog)

    @property
    def networks(self) -> list[str]:
        return list(dict.fromkeys(comment.split(":")[1] for comment in self.rules))

    def of(self, network: str) -> dict[str, list[tuple[str, int]]]:
        return {c: rules for c, rules in self.rules.items() if c.startswith(f"{_MARK_CHAIN}:{network}:")}

    def has(self, nat: Nat) -> bool:
        chains = sorted(chain for chain, _handle in self.rules.get(nat.comment, ()))
        return (
            list(self.of(nat.network)) == [nat.comment]
            and chains == sorted(chain for chain, _rule in nat.rules)
            and self.forwarding == "1"
        )


def table_name(catalog: str) -> str:
    return f"nebula_{catalog.replace('-', '')[:8]}"


def frame(catalog: str, forwarding: str) -> list[str]:
    """The lines for `nft` that make a table without networks; the last is its mark. forwarding: what it is before."""
    table = table_name(catalog)
    return [
        f"add table inet {table}",
        f"add chain inet {table} {_MARK_CHAIN}",
        f"add chain inet {table} forward {{ type filter hook forward priority filter; policy accept; }}",
        f"add chain inet {table} postrouting {{ type nat hook postrouting priority srcnat; policy accept; }}",
        f'add rule inet {table} {_MARK_CHAIN} counter comment "{_MARK_CHAIN}:{catalog}:ip_forward={forwarding}"',
    ]


def observe(catalog: str) -> Table:
    """The table as it is; ForeignObject if one of that name is not this catalog's."""
    table = Table(catalog, forwarding=FORWARDING.read_text(encoding="ascii").strip())
    done = run(["nft", "-j", "list", "table", "inet", table.name], timeout=TIMEOUT, check=False)
    if done.returncode != 0:
        if "No such file or directory" in done.stderr:
            return table
        raise failure(done)
    table.exists = True
    for entry in json.loads(done.stdout)["nftables"]:
        rule: Mapping[str, Any] = entry.get("rule") or {}
        comment = rule.get("comment", "")
        if rule.get("chain") == _MARK_CHAIN and comment.startswith(f"{_MARK_CHAIN}:{catalog}:"):
            table.found, table.mark_handle = comment[-1], rule["handle"]
        elif comment.startswith(f"{_MARK_CHAIN}:"):
            table.rules.setdefault(comment, []).append((rule["chain"], rule["handle"]))
    if not table.found:
        raise ForeignObject(
            f"nftables: table inet {table.name}",
            "there is a table of that name without this catalog's mark",
            f"See what it is for (nft list table inet {table.name}); if it can go, nft delete table inet {table.name}",
        )
    return table


def ensure(nat: Nat, table: Table) -> None:
    """Put this network's rules in, in one transaction of nftables, and let the node forward."""
    *script, mark = frame(table.catalog, table.forwarding)
    if not table.exists or table.forwarding == "0":
        if table.mark_handle:
            script.append(f"delete rule inet {table.name} {_MARK_CHAIN} handle {table.mark_handle}")
        script.append(mark)
    script += _deletions(table, nat.network)
    script += [f'add rule inet {table.name} {chain} {rule} comment "{nat.comment}"' for chain, rule in nat.rules]
    _carry_out(script)
    if table.forwarding != "1":
        _set_forwarding("1")


def remove(networks: Sequence[str], table: Table) -> None:
    """Take these networks' rules out; with the last of them the table goes, and forwarding is what it was before."""
    if not table.exists:
        return
    gone = {comment for network in networks for comment in table.of(network)}
    if set(table.rules) - gone:
        _carry_out([line for network in networks for line in _deletions(table, network)])
        return
    if table.found == "0" and table.forwarding == "1":
        _set_forwarding("0")
    _carry_out([f"delete table inet {table.name}"])


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
