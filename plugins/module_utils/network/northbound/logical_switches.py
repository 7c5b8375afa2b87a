# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes rows of networks and of machines' ports: switches, DHCP, DNS, limits, and what no machine reaches. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_address, ip_network
from typing import Any

from ...model.logical_network import STATEFUL, STATELESS, LogicalNetwork, LogicalNetworks, LogicalPort
from ...model.nic_filter_rules import may_announce
from . import moving_ports
from .desired_rows import Rows, safe_name, stable_mac
from .ovsdb_tables import EXTERNAL_IDS, Identity, set_expression
from .row_differences import Change

# Above whatever a security group lets through.
FIRST = 30000
QOS_PRIORITY = 1000
# What machines send that only a DHCP server does. Clients take an answer from whatever port it comes.
_ANSWERS = "(ip4 && udp.dst == 68) || (ip6 && udp.dst == 546)"
# What the release before named of it.
_EARLIER_ANSWERS = "(ip4 && udp.src == 67 && udp.dst == 68) || (ip6 && udp.src == 547 && udp.dst == 546)"
_RULE = "ACL guard"


def render(rows: Rows, desired: LogicalNetworks) -> None:
    by_network: dict[str, list[LogicalPort]] = {network.uuid: [] for network in desired.networks}
    for port in desired.ports:
        by_network[port.network].append(port)
    for network in desired.networks:
        _add_network(rows, network, by_network[network.uuid])
    _add_guard(rows, desired)


def switch_of(rows: Rows, network: str) -> Identity:
    return rows.identity("Logical_Switch", network=network)


def port_of(rows: Rows, port: str) -> Identity:
    return rows.identity("Logical_Switch_Port", port=port)


def _add_network(rows: Rows, network: LogicalNetwork, ports: Sequence[LogicalPort]) -> None:
    switch = rows.add(switch_of(rows, network.uuid), {"name": network.name})
    for column in ("ports", "acls", "qos_rules", "dns_records"):
        rows.wanted[switch][column] = set()
    if network.physical_network:
        _add_localnet(rows, network, switch)
    for family, matched in barred_matches(network.barred):
        acl = rows.identity("ACL", network=network.uuid, part=f"barred{family}")
        columns = {"priority": FIRST, "direction": "from-lport", "match": matched, "action": "drop"}
        rows.put(rows.add(acl, columns), switch, "acls")
    dhcp4, dhcp6 = _add_dhcp4(rows, network), _add_dhcp6(rows, network)
    _add_dns(rows, network, ports, switch)
    for port in ports:
        _add_port(rows, port, switch, dhcp4, dhcp6)


def barred_matches(barred: Iterable[str]) -> list[tuple[int, str]]:
    """Return what matches packets to these addresses, for each family that has any."""
    by_family: dict[int, list[str]] = {}
    for prefix in sorted(barred):
        by_family.setdefault(ip_network(prefix).version, []).append(prefix)
    return [(family, f"ip{family}.dst == {set_expression(prefixes)}") for family, prefixes in sorted(by_family.items())]


def _add_localnet(rows: Rows, network: LogicalNetwork, switch: Identity) -> None:
    columns = {
        "name": f"localnet-{network.uuid}",
        "type": "localnet",
        "addresses": frozenset(("unknown",)),
        "tag": frozenset(() if network.vlan is None else (network.vlan,)),
        "options": {"network_name": network.physical_network},
    }
    port = rows.identity("Logical_Switch_Port", network=network.uuid, part="localnet")
    rows.put(rows.add(port, columns), switch, "ports")


def _add_dhcp4(rows: Rows, network: LogicalNetwork) -> frozenset[Identity]:
    if not network.dhcp or not network.cidr4:
        return frozenset()
    span = ip_network(network.cidr4)
    server = network.dhcp_server4 or network.gateway4 or str(span[min(1, span.num_addresses - 1)])
    options = {
        "server_id": server,
        "server_mac": stable_mac("dhcp", network.uuid),
        "lease_time": str(network.lease_seconds),
    }
    if network.gateway4:
        options["router"] = network.gateway4
    if network.mtu:
        options["mtu"] = str(network.mtu)
    servers = of_family(4, network.dns)
    if servers:
        options["dns_server"] = set_expression(servers)
    if network.search_domain:
        options["domain_name"] = f'"{network.search_domain}"'
    row = rows.identity("DHCP_Options", network=network.uuid, part="dhcp4")
    return frozenset((rows.add(row, {"cidr": network.cidr4, "options": options}),))


def _add_dhcp6(rows: Rows, network: LogicalNetwork) -> frozenset[Identity]:
    """Add and return a row for DHCP, if routers tell machines to ask it for an address, or for all but that."""
    if network.ra_mode not in (STATEFUL, STATELESS) or not network.prefixes6:
        return frozenset()
    options = {"server_id": stable_mac("dhcp", network.uuid)}
    servers = of_family(6, network.dns)
    if servers:
        options["dns_server"] = set_expression(servers)
    if network.search_domain:
        options["domain_search"] = f'"{network.search_domain}"'
    if network.ra_mode == STATELESS:
        options["dhcpv6_stateless"] = "true"
    row = rows.identity("DHCP_Options", network=network.uuid, part="dhcp6")
    return frozenset((rows.add(row, {"cidr": network.prefixes6[0], "options": options}),))


def of_family(family: int, addresses: Iterable[str]) -> list[str]:
    return [address for address in addresses if ip_address(address).version == family]


def _add_dns(rows: Rows, network: LogicalNetwork, ports: Sequence[LogicalPort], switch: Identity) -> None:
    records: dict[str, list[str]] = {}
    for port in sorted(ports, key=lambda port: port.uuid):
        if not port.hostname:
            continue
        # Queries are compared in lower case.
        host = port.hostname.lower()
        full = f"{host}.{network.search_domain}".lower() if network.search_domain else host
        for address in (*port.addresses4, *port.addresses6):
            for name in dict.fromkeys((host, full)):
                records.setdefault(name, []).append(address)
            records.setdefault(ip_address(address).reverse_pointer, [full])
    if not records:
        return
    columns = {"records": {name: " ".join(values) for name, values in records.items()}}
    rows.put(rows.add(rows.identity("DNS", network=network.uuid, part="dns"), columns), switch, "dns_records")


def _add_port(
    rows: Rows, port: LogicalPort, switch: Identity, dhcp4: frozenset[Identity], dhcp6: frozenset[Identity]
) -> None:
    addresses = " ".join((port.mac, *port.addresses))
    allowed = (" ".join((port.mac, *port.held)),) if port.filter_ip else (port.mac,) if port.filter_mac else ()
    filtered = frozenset(allowed)
    # OVN writes it into an expression, as it is.
    options = {"hostname": f'"{port.hostname}"'} if port.hostname else {}
    columns: dict[str, Any] = {
        "name": port.uuid,
        "type": "",
        # Others than its own are behind a port that may send from any: they are found by flooding.
        "addresses": frozenset((addresses,) if filtered else (addresses, "unknown")),
        "port_security": filtered,
        "options": {**options, **moving_ports.options(port)},
        "dhcpv4_options": dhcp4 if port.dhcp and port.addresses4 else frozenset(),
        "dhcpv6_options": dhcp6 if port.dhcp and port.addresses6 else frozenset(),
    }
    row = rows.add(port_of(rows, port.uuid), columns, port.name)
    rows.wanted[row][EXTERNAL_IDS].update(moving_ports.marks(port))
    rows.put(row, switch, "ports")
    limits = port.bandwidth
    for direction, matched, rate, burst in (
        ("to-lport", "outport", limits.inbound, limits.inbound_burst),
        ("from-lport", "inport", limits.outbound, limits.outbound_burst),
    ):
        if not rate:
            continue
        limit = {
            "priority": QOS_PRIORITY,
            "direction": direction,
            "match": f'{matched} == "{port.uuid}"',
            "bandwidth": {"rate": rate, **({"burst": burst} if burst else {})},
        }
        rows.put(rows.add(rows.identity("QoS", port=port.uuid, part=direction), limit), switch, "qos_rules")


def _add_guard(rows: Rows, desired: LogicalNetworks) -> None:
    """Add rows that drop what only DHCP servers send, from machines that are held to their addresses."""
    guarded = [port.uuid for port in desired.ports if port.filter_ip]
    if not guarded:
        return
    name = safe_name("guard", rows.catalog)
    group = rows.add(rows.identity("Port_Group", part="guard"), {"name": name, "ports": set(), "acls": set()})
    for port in guarded:
        rows.put(port_of(rows, port), group, "ports")
    matched = _sent_by_group(name, _ANSWERS)
    columns = {"priority": FIRST, "direction": "from-lport", "match": matched, "action": "drop"}
    rows.put(rows.add(rows.identity("ACL", part="guard"), columns), group, "acls")


def _sent_by_group(group: str, what: str) -> str:
    return f"inport == @{group} && ({what})"


def is_renewal(catalog: str, change: Change) -> bool:
    """Return whether nothing differs but the rule against DHCP servers' answers, which is the release before's."""
    name = safe_name("guard", catalog)
    earlier, now = ({_RULE: {"match": _sent_by_group(name, what)}} for what in (_EARLIER_ANSWERS, _ANSWERS))
    return (change.before, change.after) == (earlier, now)


def networks_passing_advertisements(desired: LogicalNetworks) -> list[str]:
    """Return the names of networks whose machines hear what one of them announces as a router.

    On a switch that has any rule OVN lets these advertisements pass above all of them (ovn-northd(8), ls_in_acl:
    nd_ra at priority 65532), and port security does not look at them."""
    held = {port.network for port in desired.ports if port.filter_ip and may_announce(port.held)}
    return [network.name for network in desired.networks if network.uuid in held]
