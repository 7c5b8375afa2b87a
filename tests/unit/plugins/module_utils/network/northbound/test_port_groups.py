# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules of security groups as expressions of OVN's."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.logical_network import (
    LogicalNetwork,
    LogicalNetworks,
    SecurityGroup,
    SecurityRule,
)
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound import logical_switches, port_groups
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.desired_rows import Rows
from ansible_collections.nebula.provision.tests.integration.northbound_world import (
    BLUE,
    CATALOG,
    GROUP,
    TWO,
    blue,
    nic,
    red,
    uuid,
)

NETWORKS = {BLUE: blue, red.uuid: red}
NAME = f"nebula_group_{GROUP.replace('-', '_')}"
SET = f"nebula_network_{BLUE.replace('-', '_')}"


@pytest.mark.parametrize(
    ("rule", "expression"),
    [
        (SecurityRule("inbound"), "ip"),
        (SecurityRule("inbound", "TCP"), "tcp"),
        (SecurityRule("inbound", "TCP", ((22, 22),)), "tcp && tcp.dst == 22"),
        (SecurityRule("inbound", "UDP", ((53, 53), (67, 67))), "udp && udp.dst == {53, 67}"),
        (SecurityRule("inbound", "TCP", ((80, 90),)), "tcp && (80 <= tcp.dst <= 90)"),
        (SecurityRule("inbound", "TCP", ((22, 22), (80, 90))), "tcp && (tcp.dst == 22 || (80 <= tcp.dst <= 90))"),
        (SecurityRule("inbound", "ICMP"), "icmp4"),
        (SecurityRule("inbound", "ICMP", icmp_type=8), "icmp4 && icmp4.type == 8"),
        (SecurityRule("inbound", "ICMPV6", icmp_type=128), "icmp6 && icmp6.type == 128"),
        (SecurityRule("inbound", "IPSEC"), "ip.proto == {50, 51}"),
        (SecurityRule("inbound", ip="10.0.0.0/8"), "ip && ip4.src == 10.0.0.0/8"),
        (SecurityRule("outbound", ip="10.0.0.0/8"), "ip && ip4.dst == 10.0.0.0/8"),
        (SecurityRule("inbound", ip="10.0.0.5"), "ip && ip4.src == 10.0.0.5/32"),
        (SecurityRule("inbound", ip="10.0.0.5", size=4), "ip && ip4.src == {10.0.0.5/32, 10.0.0.6/31, 10.0.0.8/32}"),
        (SecurityRule("outbound", ip="2001:db8::/64"), "ip && ip6.dst == 2001:db8::/64"),
        (SecurityRule("inbound", "TCP", ((22, 22),), network=red.uuid),
         f"tcp && tcp.dst == 22 && ip4.src == $nebula_network_{red.uuid.replace('-', '_')}_v4"),
        (SecurityRule("outbound", network=BLUE), f"ip && (ip4.dst == ${SET}_v4 || ip6.dst == ${SET}_v6)"),
    ],
)  # fmt: skip
def test_a_rule_is_an_expression(rule, expression):
    assert port_groups.match(rule, NETWORKS) == expression


def rows(*rules):
    made = Rows(CATALOG)
    wanted = LogicalNetworks((blue, red), (nic(TWO, security_groups=(GROUP,)),), (SecurityGroup(GROUP, "web", rules),))
    logical_switches.render(made, wanted)
    port_groups.render(made, wanted)
    return made.wanted


def rules_of(made):
    return sorted(
        (columns["direction"], columns["priority"], columns["match"], columns["action"])
        for row, columns in made.items()
        if row.table == "ACL" and row.group
    )


def test_a_group_lets_nothing_through_but_what_every_machine_needs():
    assert rules_of(rows()) == sorted(
        [
            ("from-lport", 1000, f"inport == @{NAME}", "drop"),
            ("from-lport", 1001, f"inport == @{NAME} && (arp || nd || nd_rs || mldv1 || mldv2)", "allow"),
            (
                *("from-lport", 1001),
                (
                    f"inport == @{NAME} && ((ip4 && udp.src == 68 && udp.dst == 67) || "
                    "(ip6 && udp.src == 546 && udp.dst == 547))"
                ),
                "allow",
            ),
            ("to-lport", 1000, f"outport == @{NAME}", "drop"),
            ("to-lport", 1001, f"outport == @{NAME} && (arp || nd || nd_ra || mldv1 || mldv2)", "allow"),
        ]
    )


def test_what_a_rule_lets_through_is_answered():
    made = rows(SecurityRule("inbound", "TCP", ((22, 22),)), SecurityRule("outbound"))
    related = [each[:3] for each in rules_of(made) if each[3] == "allow-related"]
    assert related == [
        ("from-lport", 1001, f"inport == @{NAME} && ip"),
        ("to-lport", 1001, f"outport == @{NAME} && tcp && tcp.dst == 22"),
    ]


def test_a_rule_that_is_there_twice_is_one():
    assert rows(SecurityRule("outbound"), SecurityRule("outbound")) == rows(SecurityRule("outbound"))


def test_machines_are_members_and_networks_are_sets_of_addresses():
    made = rows(SecurityRule("inbound", network=BLUE))
    (group,) = [columns for row, columns in made.items() if row.table == "Port_Group" and row.group]
    assert {row.port for row in group["ports"]} == {uuid(TWO)}
    assert group["external_ids"]["nebula-name"] == "web"
    sets = {columns["name"]: columns["addresses"] for row, columns in made.items() if row.table == "Address_Set"}
    assert sets == {f"{SET}_v4": {"10.0.0.0/24"}, f"{SET}_v6": {"2001:db8:1::/64"}}
    assert not [row for row in rows(SecurityRule("inbound")) if row.table == "Address_Set"]


def test_a_network_of_one_family_has_one_set():
    network = LogicalNetwork(uuid(8), "six", prefixes6=("2001:db8:8::/64",))
    made = Rows(CATALOG)
    port_groups.render(
        made, LogicalNetworks((network,), (), (SecurityGroup(GROUP, "g", (SecurityRule("inbound", network=uuid(8)),)),))
    )
    assert [row.part for row in made.wanted if row.table == "Address_Set"] == ["v6"]
