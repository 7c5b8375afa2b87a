# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows networks, and the routers and security groups beside them, as results do."""

from __future__ import annotations

from typing import Any

from ..model.network import Network, to_item
from ..model.router import Router
from ..model.security_group import SecurityGroup


def network_view(network: Network) -> dict[str, Any]:
    """Return a network as results show it."""
    ranges = network.address_ranges
    return {**to_item(network), "size": sum(r.size for r in ranges), "used": sum(r.used for r in ranges)}


def router_view(router: Router) -> dict[str, Any]:
    """Return a router as results show it."""
    gateway = router.gateway
    return {
        "id": router.id,
        "uuid": router.uuid or None,
        "name": router.name,
        "description": router.description,
        "interfaces": [{"network_id": each.network_id, "ip": each.ip} for each in router.interfaces],
        "gateway": None
        if gateway is None
        else {
            "network_id": gateway.network_id,
            "ip": gateway.ip,
            "snat": gateway.snat,
            "next_hop": gateway.next_hop,
            "hosts": list(gateway.hosts),
        },
        "floating": [
            {"ip": each.ip, "vm": each.vm, "network_id": each.network_id, "distributed": each.distributed}
            for each in router.floating
        ],
        "routes": [{"destination": each.destination, "next_hop": each.next_hop} for each in router.routes],
    }


def group_view(group: SecurityGroup) -> dict[str, Any]:
    """Return a group as results show it."""
    return {
        "id": group.id,
        "uuid": group.uuid or None,
        "name": group.name,
        "description": group.description,
        "rules": [
            {
                "rule_type": rule.rule_type,
                "protocol": rule.protocol,
                "range": rule.range,
                "ip": rule.ip,
                "size": rule.size,
                "network_id": rule.network_id,
                "icmp_type": rule.icmp_type,
            }
            for rule in group.rules
        ],
    }
