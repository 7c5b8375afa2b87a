# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an item of a list of networks may say; made from network.yml by `make specifications`."""

from __future__ import annotations

from ..specification import Key

KEYS: dict[str, Key] = {
    "name": Key(),
    "vn_mad": Key(choices=("bridge", "dummy"), changes="unused", near=("driver",)),
    "bridge": Key(changes="unused"),
    "network_address": Key(attribute="NETWORK_ADDRESS", changes="always", near=("network", "cidr", "subnet")),
    "network_mask": Key(attribute="NETWORK_MASK", changes="always", near=("netmask", "mask")),
    "gateway": Key(attribute="GATEWAY", changes="always"),
    "gateway6": Key(attribute="GATEWAY6", changes="always"),
    "gateway_on_bridge": Key(type="bool", attribute="GATEWAY_ON_BRIDGE", changes="always"),
    "nat": Key(type="bool", changes="always"),
    "node_access": Key(type="list", elements="str", attribute="NODE_ACCESS", changes="always"),
    "one_node": Key(type="bool", attribute="ONE_NODE", changes="always"),
    "dns": Key(type="list", elements="str", attribute="DNS", changes="always", near=("nameserver", "nameservers")),
    "search_domain": Key(type="list", elements="str", attribute="SEARCH_DOMAIN", changes="always", near=("domain",)),
    "guest_mtu": Key(type="int", attribute="GUEST_MTU", changes="always", near=("mtu",)),
    "metric": Key(type="int", attribute="METRIC", changes="always"),
    "description": Key(attribute="DESCRIPTION", changes="always", near=("comment",)),
    "address_ranges": Key(
        type="list",
        elements="dict",
        changes="always",
        near=("ranges", "ar", "leases"),
        options={
            "ar_id": Key(type="int"),
            "type": Key(choices=("IP4", "IP6", "IP4_6", "ETHER")),
            "ip": Key(),
            "size": Key(type="int"),
            "mac": Key(),
            "global_prefix": Key(),
            "ula_prefix": Key(),
            "attributes": Key(type="dict"),
            "state": Key(choices=("present", "absent"), default="present"),
        },
    ),
    "attributes": Key(type="dict", changes="always"),
    "template": Key(type="raw"),
    "state": Key(choices=("present", "absent"), empty=True, default="present"),
}
