# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of networks and of machines' ports."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.logical_network import (
    Bandwidth,
    LogicalNetwork,
    LogicalNetworks,
)
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound import logical_switches
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.desired_rows import Rows, stable_mac
from ansible_collections.nebula.provision.tests.integration.northbound_world import (
    BLUE,
    CATALOG,
    ONE,
    address6_of,
    address_of,
    blue,
    desired,
    mac_of,
    nic,
    outside,
    uuid,
)


def rows(*ports, network=blue):
    made = Rows(CATALOG)
    logical_switches.render(made, LogicalNetworks((network,), ports))
    return made.wanted


def only(made, table, **marks):
    (columns,) = [
        columns
        for row, columns in made.items()
        if row.table == table and all(getattr(row, name) == value for name, value in marks.items())
    ]
    return columns


ALL = f"{mac_of(ONE)} {address_of(ONE)} {address6_of(ONE)}"


@pytest.mark.parametrize(
    ("given", "addresses", "security"),
    [
        ({}, {ALL}, {ALL}),
        ({"filter_mac": False}, {ALL}, {ALL}),
        ({"filter_ip": False}, {ALL}, {mac_of(ONE)}),
        ({"filter_ip": False, "filter_mac": False}, {ALL, "unknown"}, set()),
    ],
)
def test_a_machine_is_held_to_its_addresses(given, addresses, security):
    port = only(rows(nic(ONE, **given)), "Logical_Switch_Port")
    assert (port["name"], port["addresses"], port["port_security"]) == (uuid(ONE), addresses, security)


def test_addresses_of_aliases_are_the_ports_and_no_name_leads_to_them():
    made = rows(nic(ONE, further=("10.0.0.77",)))
    port = only(made, "Logical_Switch_Port")
    assert port["addresses"] == port["port_security"] == {f"{ALL} 10.0.0.77"}
    assert made.keys() == rows(nic(ONE)).keys()
    assert only(made, "DNS") == only(rows(nic(ONE)), "DNS")


def test_who_has_no_address_of_its_own_is_held_to_its_mac_address_and_not_to_its_aliases():
    bare = {"addresses4": (), "addresses6": (), "further": ("10.0.0.77",)}
    port = only(rows(replace(nic(ONE), **bare)), "Logical_Switch_Port")
    assert port["port_security"] == {mac_of(ONE)}
    # So OVN lets all of IPv6 pass.
    made = replace(desired, ports=(replace(nic(ONE), **bare), *desired.ports[2:]))
    assert logical_switches.networks_passing_advertisements(made) == ["blue"]


def test_dhcp_tells_what_the_network_has():
    options = only(rows(), "DHCP_Options")
    assert options["cidr"] == "10.0.0.0/24"
    assert options["options"] == {
        "server_id": "10.0.0.1",
        "server_mac": stable_mac("dhcp", BLUE),
        "lease_time": "4242",
        "router": "10.0.0.1",
        "mtu": "1442",
        "dns_server": "9.9.9.9",
        "domain_name": '"blue.example"',
    }


@pytest.mark.parametrize(
    ("network", "server", "router"),
    [
        (replace(blue, gateway4=""), "10.0.0.1", None),
        (replace(blue, gateway4="", dhcp_server4="10.0.0.9"), "10.0.0.9", None),
        (replace(blue, gateway4="10.0.0.254"), "10.0.0.254", "10.0.0.254"),
        (replace(blue, cidr4="10.0.0.7/32", gateway4=""), "10.0.0.7", None),
    ],
)
def test_dhcp_answers_by_an_address_of_the_network(network, server, router):
    options = only(rows(network=network), "DHCP_Options")["options"]
    assert (options["server_id"], options.get("router")) == (server, router)


def test_several_servers_of_names_are_a_set_of_ovns():
    options = only(rows(network=replace(blue, dns=("9.9.9.9", "8.8.8.8"))), "DHCP_Options")["options"]
    assert options["dns_server"] == "{9.9.9.9, 8.8.8.8}"


def test_machines_get_dhcp_where_they_and_their_network_want_it():
    made = rows(nic(ONE), nic(112, dhcp=False))
    (row,) = [row for row in made if row.table == "DHCP_Options"]
    assert only(made, "Logical_Switch_Port", port=uuid(ONE))["dhcpv4_options"] == {row}
    assert only(made, "Logical_Switch_Port", port=uuid(112))["dhcpv4_options"] == frozenset()
    without = rows(nic(ONE), network=replace(blue, dhcp=False))
    assert not [row for row in without if row.table == "DHCP_Options"]
    assert only(without, "Logical_Switch_Port")["dhcpv4_options"] == frozenset()


@pytest.mark.parametrize(
    ("mode", "options"), [("slaac", None), ("dhcpv6_stateful", {}), ("dhcpv6_stateless", {"dhcpv6_stateless": "true"})]
)
def test_dhcp_of_ipv6_is_there_where_routers_announce_it(mode, options):
    made = rows(nic(ONE), network=replace(blue, ra_mode=mode))
    found = [columns for row, columns in made.items() if row.part == "dhcp6"]
    if options is None:
        assert found == []
        return
    common = {"dns_server": "2001:db8::53", "domain_search": '"blue.example"', "server_id": stable_mac("dhcp", BLUE)}
    assert [(each["cidr"], each["options"]) for each in found] == [("2001:db8:1::/64", {**common, **options})]
    assert only(made, "Logical_Switch_Port")["dhcpv6_options"]


def test_names_lead_to_addresses_and_back():
    records = only(rows(nic(ONE), replace(nic(112), hostname="Host111")), "DNS")["records"]
    both = "10.0.0.11 2001:db8:1::b 10.0.0.12 2001:db8:1::c"
    assert records["host111"] == records["host111.blue.example"] == both
    assert records["11.0.0.10.in-addr.arpa"] == "host111.blue.example"
    reverse = "b.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
    assert records[reverse] == "host111.blue.example"
    assert not [row for row in rows(replace(nic(ONE), hostname="")) if row.table == "DNS"]


def test_a_host_name_is_quoted_for_the_expression_that_it_goes_into():
    assert only(rows(nic(ONE)), "Logical_Switch_Port")["options"] == {"hostname": '"host111"'}


def test_an_external_network_is_connected_with_a_bridge_of_each_node():
    made = rows(network=outside)
    port = only(made, "Logical_Switch_Port", part="localnet")
    assert (port["type"], port["options"], port["tag"]) == ("localnet", {"network_name": "physnet"}, {17})
    assert only(rows(network=replace(outside, vlan=None)), "Logical_Switch_Port")["tag"] == frozenset()


@pytest.mark.parametrize(
    ("barred", "matches"),
    [
        (("169.254.0.0/16",), ["ip4.dst == 169.254.0.0/16"]),
        (("169.254.0.0/16", "10.1.0.5"), ["ip4.dst == {10.1.0.5, 169.254.0.0/16}"]),
        (("fd00::/8", "169.254.0.0/16"), ["ip4.dst == 169.254.0.0/16", "ip6.dst == fd00::/8"]),
        ((), []),
    ],
)
def test_what_nobody_reaches(barred, matches):
    made = rows(network=replace(blue, barred=barred))
    found = [columns for row, columns in made.items() if row.table == "ACL"]
    assert [columns["match"] for columns in found] == matches
    assert {(columns["direction"], columns["action"]) for columns in found} <= {("from-lport", "drop")}
    assert only(made, "Logical_Switch")["acls"] == {row for row in made if row.table == "ACL"}


def test_limits_are_named_as_the_machine_sees_them():
    made = rows(nic(ONE, bandwidth=Bandwidth(inbound=1000, outbound=500, outbound_burst=50)))
    found = {row.part: columns for row, columns in made.items() if row.table == "QoS"}
    assert found["to-lport"]["match"] == f'outport == "{uuid(ONE)}"'
    assert found["to-lport"]["bandwidth"] == {"rate": 1000}
    assert found["from-lport"]["match"] == f'inport == "{uuid(ONE)}"'
    assert found["from-lport"]["bandwidth"] == {"rate": 500, "burst": 50}


def test_only_those_that_are_held_to_addresses_are_guarded():
    made = rows(nic(ONE), nic(113, filter_ip=False))
    group = only({row: columns for row, columns in made.items() if row.part == "guard"}, "Port_Group")
    assert {row.port for row in group["ports"]} == {uuid(ONE)}
    (rule,) = [made[row] for row in group["acls"]]
    # From whatever port: DHCP clients look at their own alone.
    assert rule["match"] == f"inport == @{group['name']} && ((ip4 && udp.dst == 68) || (ip6 && udp.dst == 546))"
    assert (rule["direction"], rule["action"]) == ("from-lport", "drop")
    free = rows(nic(113, filter_ip=False))
    assert not [row for row in free if row.table == "Port_Group" and row.part == "guard"]


def test_networks_in_which_machines_may_play_the_router():
    assert logical_switches.networks_passing_advertisements(desired) == ["blue"]
    others = desired.ports[2:]
    assert logical_switches.networks_passing_advertisements(replace(desired, ports=others)) == []
    # An alias with IPv6, and one whose network has no addresses at all: OVN lets all of IPv6 pass.
    for changed in ({"further": ("2001:db8::9",)}, {"addresses4": (), "addresses6": ()}):
        port = replace(nic(ONE), **{"addresses6": (), **changed})
        assert logical_switches.networks_passing_advertisements(replace(desired, ports=(port, *others))) == ["blue"], (
            changed
        )


def test_a_network_without_addresses_is_a_switch_and_nothing_else():
    made = rows(network=LogicalNetwork(BLUE, "bare", barred=()))
    assert [row.table for row in made] == ["Logical_Switch"]
