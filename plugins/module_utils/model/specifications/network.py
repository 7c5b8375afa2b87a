# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists what an item of a list of networks may say; made from network.yml by `make specifications`."""

from __future__ import annotations

from ..specification import Key

KEYS: dict[str, Key] = {
    "name": Key(),
    "vn_mad": Key(
        choices=("bridge", "dummy", "802.1Q", "vxlan", "ovn", "ovswitch"), changes="unused", near=("driver",)
    ),
    "bridge": Key(changes="unused"),
    "phydev": Key(attribute="PHYDEV", changes="always", near=("interface", "parent", "physical_device", "device")),
    "phydev_forced": Key(
        type="bool", attribute="PHYDEV_FORCED", changes="always", near=("force_phydev", "phydev_force")
    ),
    "vlan_id": Key(
        type="int", attribute="VLAN_ID", changes="always", near=("vlan", "vni", "segmentation_id", "vxlan_id")
    ),
    "vlan_ids": Key(attribute="VLAN_IDS", changes="always"),
    "vlan_tagged_id": Key(
        attribute="VLAN_TAGGED_ID", changes="always", near=("trunk", "trunks", "vlan_trunk", "tagged")
    ),
    "mtu": Key(type="int", attribute="MTU", changes="always"),
    "physical_network": Key(attribute="PHYSICAL_NETWORK", changes="always", near=("physnet", "external")),
    "dhcp": Key(type="bool", attribute="DHCP", changes="always", near=("enable_dhcp",)),
    "security_groups": Key(
        type="list", elements="str", attribute="SECURITY_GROUPS", changes="always", near=("security_group",)
    ),
    "filter_mac_spoofing": Key(type="bool", attribute="FILTER_MAC_SPOOFING", changes="always"),
    "filter_ip_spoofing": Key(type="bool", attribute="FILTER_IP_SPOOFING", changes="always"),
    "ethertypes": Key(
        type="list",
        elements="str",
        attribute="ETHERTYPES",
        changes="always",
        near=("ether_types", "ethertype", "protocols"),
    ),
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
    "guest_mtu": Key(type="int", attribute="GUEST_MTU", changes="always"),
    "metric": Key(type="int", attribute="METRIC", changes="always"),
    "description": Key(attribute="DESCRIPTION", changes="always", near=("comment",)),
    "address_ranges": Key(
        type="list",
        elements="dict",
        changes="always",
        near=("ranges", "ar", "leases"),
        options={
            "ar_id": Key(type="int"),
            "type": Key(choices=("IP4", "IP6", "IP4_6", "ETHER", "IP6_STATIC", "IP4_6_STATIC")),
            "ip": Key(),
            "size": Key(type="int"),
            "end": Key(near=("last", "ip_end")),
            "mac": Key(),
            "global_prefix": Key(),
            "ula_prefix": Key(),
            "ip6": Key(near=("ip6_start",)),
            "prefix_length": Key(type="int", near=("prefix_len", "ip6_prefix_length")),
            "attributes": Key(type="dict"),
            "state": Key(choices=("present", "absent"), default="present"),
        },
    ),
    "reserved": Key(
        type="list",
        elements="str",
        attribute="RESERVED",
        changes="always",
        near=("hold", "held", "reservations", "exclude", "excluded"),
    ),
    "attributes": Key(type="dict", changes="always"),
    "template": Key(type="raw"),
    "state": Key(choices=("present", "absent"), empty=True, default="present"),
}
