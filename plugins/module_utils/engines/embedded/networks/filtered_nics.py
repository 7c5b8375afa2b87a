# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides what each node lets through to machines whose NICs are on Linux bridges, by filters and security groups of
their networks and by firewalls in contexts; and which NICs on OVN it keeps from announcing themselves as routers."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any

from ....dataclass import replace
from ....errors import InvalidValue
from ....model import context_firewall, ethertypes, security_group
from ....model.dataclass_json import from_plain
from ....model.flags import flag
from ....model.network import FILTERS, Network, filters_on_node
from ....model.network_drivers import OVN
from ....model.nic import addresses_by_nic
from ....model.nic_filter_rules import Guard, GuardRule
from ....model.security_group import GroupRule
from ..store import Store, chunks
from . import network_rows
from .ovn_contents import address_filters_of

# A span of addresses: version, first, last.
_Span = tuple[int, int, int]


def guards(
    store: Store, hosts: Sequence[int] | None = None, vms: Sequence[int] | None = None
) -> dict[str, list[Guard]]:
    """Return by host those of its machines' NICs of which something is filtered. A machine that moves is that of both
    hosts.
    hosts, vms: the ids of the hosts, or machines, that are looked at; None for all."""
    ids = hosts if vms is None else vms
    if ids is not None and not ids:
        return {}
    networks = {network.id: network for network in network_rows.pool(store) if network.id is not None}
    guarded = {number for number, each in networks.items() if filters_on_node(each) or each.vn_mad == OVN}
    found: dict[str, list[Guard]] = {}
    if not guarded:
        return found
    groups: dict[int, tuple[GuardRule, ...]] = {}
    for row in store.rows("SELECT id, rules FROM security_groups"):
        entries = [from_plain(GroupRule, entry) for entry in json.loads(row["rules"])]
        groups[row["id"]] = tuple(made for entry in entries for made in [_rule(entry, networks)] if made is not None)
    for row in _machines_with_hosts(store, "vms.body", hosts, vms):
        body = json.loads(row["body"])
        firewall = context_firewall.firewall_of_body(body)
        further = addresses_by_nic(body.get("aliases") or ())
        for nic in body.get("nics") or ():
            if nic.get("network_id", -1) not in guarded:
                continue
            network = networks[nic["network_id"]]
            if network.vn_mad == OVN:
                guard = _on_ovn(row["id"], network, nic)
            else:
                guard = replace(_guard(row["id"], network, nic, groups), firewall=firewall)
            # A NIC without addresses of its own is held to none: it has other addresses than its aliases have.
            if guard.addresses:
                guard = replace(guard, addresses=(*guard.addresses, *further.get(nic["nic_id"], ())))
            if guard.filters or guard.bars_router_advertisements:
                found.setdefault(row["host"], []).append(guard)
    return found


def machines(store: Store) -> dict[str, list[int]]:
    """Return by host the ids of the machines that the catalog has there."""
    found: dict[str, list[int]] = {}
    for row in _machines_with_hosts(store, "vms.id"):
        found.setdefault(row["host"], []).append(row["id"])
    return found


def _machines_with_hosts(
    store: Store, columns: str, hosts: Sequence[int] | None = None, vms: Sequence[int] | None = None
) -> list[sqlite3.Row]:
    """Return id, name of the host as `host`, and these columns of machines, in the order of their ids. Of one that
    moves there are two rows: it may be on either host."""
    found = []
    # Of each host that a machine may be on there is an index.
    for of_host in ("host_id", "move_host"):
        which, ids = (f"vms.{of_host}", hosts) if vms is None else ("vms.id", vms)
        some = [("", ())] if ids is None else [(f" AND {which} IN ({m})", part) for m, part in chunks(sorted(ids))]
        for text, part in some:
            found += store.rows(
                f"SELECT vms.id, hosts.name AS host, {columns} FROM vms JOIN hosts ON hosts.id = vms.{of_host}"
                f" WHERE vms.state != 6 AND vms.{of_host} IS NOT NULL{text}",
                *part,
            )
    return sorted(found, key=lambda row: row["id"])


def _guard(vm_id: int, network: Network, nic: Mapping[str, Any], groups: Mapping[int, tuple[GuardRule, ...]]) -> Guard:
    options: Mapping[str, str] = nic.get("options") or {}
    attributes = network.attributes
    mac, ip = (options.get(name) or attributes.get(name, "") for name in FILTERS)
    filter_ip = _is_on(ip)
    filter_mac = _is_on(mac) if mac else filter_ip
    texts = (attributes.get(security_group.ATTRIBUTE, ""), options.get(security_group.ATTRIBUTE, ""))
    passing = _rules_through(",".join(filter(None, texts)), groups)
    return replace(
        _unfiltered(vm_id, network, nic), filter_mac=filter_mac, filter_ip=filter_ip and filter_mac, rules=passing
    )


def _on_ovn(vm_id: int, network: Network, nic: Mapping[str, Any]) -> Guard:
    filter_mac, filter_ip = address_filters_of(network, nic)
    return replace(_unfiltered(vm_id, network, nic), filter_mac=filter_mac, filter_ip=filter_ip, on_ovn=True)


def _unfiltered(vm_id: int, network: Network, nic: Mapping[str, Any]) -> Guard:
    return Guard(
        vm_id,
        nic["nic_id"],
        nic.get("target") or f"one-{vm_id}-{nic['nic_id']}",
        nic["mac"].lower(),
        tuple(filter(None, (nic.get(key, "") for key in ("ip", "ip6", "ip6_ula")))),
        ethertypes=ethertypes.read(network.attributes.get(ethertypes.ATTRIBUTE, ""), f"network {network.name}"),
    )


def _is_on(value: str) -> bool:
    """Return whether addresses are filtered: a value that is none of these words was meant for something."""
    try:
        return bool(value) and flag(value, "")
    except InvalidValue:
        return True


def _rules_through(text: str, groups: Mapping[int, tuple[GuardRule, ...]]) -> tuple[GuardRule, ...] | None:
    """Return what is let through; None for everything. Group 0 lets everything through, whatever the others say."""
    ids = security_group.known_ids(text, groups)
    if not text or security_group.DEFAULT_ID in ids:
        return None
    # Groups that are not known let nothing through; without any group everything would pass.
    return tuple(dict.fromkeys(rule for each in ids for rule in groups[each]))


def _rule(rule: GroupRule, networks: Mapping[int, Network]) -> GuardRule | None:
    """Return the rule as nodes apply it; None for a rule that names a network without addresses: nobody is in it."""
    spans: list[_Span] = []
    if rule.network_id is not None:
        network = networks.get(rule.network_id)
        spans = _of_network(network) if network is not None else []
        if not spans:
            return None
    elif rule.ip:
        spans = [_span(rule.ip, rule.size)]
    ports = _merged([(0, *span) for span in security_group.read_ports(rule.range, "")])
    return GuardRule(
        rule.rule_type,
        rule.protocol,
        tuple((first, last) for _version, first, last in ports),
        tuple(map(_span_text, _merged(spans))),
        rule.icmp_type,
    )


def _of_network(network: Network) -> list[_Span]:
    found = []
    for each in network.address_ranges:
        found += [_span(each.ip, each.size)] if each.ip else []
        found += [_span(f"{prefix}/64", 1) for prefix in (each.global_prefix, each.ula_prefix) if prefix]
    return found


def _span(text: str, size: int) -> _Span:
    if "/" in text:
        whole = ip_network(text)
        return whole.version, int(whole.network_address), int(whole.broadcast_address)
    first = ip_address(text)
    return first.version, int(first), int(first) + size - 1


def _merged(spans: Sequence[_Span]) -> list[_Span]:
    """Return the same spans without overlaps, which nftables refuses."""
    found: list[_Span] = []
    for version, first, last in sorted(spans):
        if found and found[-1][0] == version and first <= found[-1][2] + 1:
            found[-1] = (version, found[-1][1], max(found[-1][2], last))
        else:
            found.append((version, first, last))
    return found


def _span_text(span: _Span) -> str:
    version, first, last = span
    make = type(ip_address("0.0.0.0" if version == 4 else "::"))
    return str(make(first)) if first == last else f"{make(first)}-{make(last)}"
