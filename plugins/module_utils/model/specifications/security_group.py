# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists what an item of a list of security groups may say; made from security_group.yml by `make specifications`."""

from __future__ import annotations

from ..specification import Key

KEYS: dict[str, Key] = {
    "name": Key(required=True),
    "description": Key(changes="always"),
    "rules": Key(
        type="list",
        elements="dict",
        changes="always",
        near=("rule",),
        options={
            "rule_type": Key(choices=("inbound", "outbound"), case="lower", required=True, near=("direction", "type")),
            "protocol": Key(
                choices=("ALL", "TCP", "UDP", "ICMP", "ICMPV6", "IPSEC"), case="upper", default="ALL", near=("proto",)
            ),
            "range": Key(near=("port", "ports", "port_range")),
            "ip": Key(near=("address", "cidr", "remote_ip")),
            "size": Key(type="int", least=1),
            "network": Key(near=("network_id",)),
            "icmp_type": Key(type="int", least=0, most=255),
        },
    ),
    "state": Key(choices=("present", "absent"), default="present", empty=True),
}
