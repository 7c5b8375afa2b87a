# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NICs of a guest, as both formats have them."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.context.conftest import (
    MAC,
    NIC,
    drive,
    ethernet,
    nocloud,
)


def test_an_address_and_a_gateway():
    variables = {**NIC, "ETH0_GATEWAY": "10.66.0.1", "ETH0_METRIC": "50", "ETH0_MTU": "1400"}
    variables.update(ETH0_DNS="10.66.0.1 10.66.0.2", ETH0_SEARCH_DOMAIN="a.org b.org", ETH0_MASK="255.255.0.0")
    assert nocloud(variables)[1] == {
        "version": 2,
        "ethernets": {
            "eth0": {
                "match": {"macaddress": MAC},
                "mtu": 1400,
                "addresses": ["10.66.0.10/16"],
                "routes": [{"to": "0.0.0.0/0", "via": "10.66.0.1", "metric": 50}],
                "nameservers": {"addresses": ["10.66.0.1", "10.66.0.2"], "search": ["a.org", "b.org"]},
            }
        },
    }
    assert drive(variables)[1] == {
        "links": [{"id": "eth0", "type": "phy", "ethernet_mac_address": MAC, "mtu": 1400}],
        "networks": [
            {
                "id": "network0",
                "link": "eth0",
                "type": "ipv4",
                "ip_address": "10.66.0.10",
                "netmask": "255.255.0.0",
                "routes": [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.66.0.1", "metric": 50}],
                "dns_search": ["a.org", "b.org"],
            }
        ],
        "services": [{"type": "dns", "address": "10.66.0.1"}, {"type": "dns", "address": "10.66.0.2"}],
    }


def test_defaults():
    assert ethernet({"ETH0_IP": "10.0.0.5", "ETH0_MASK": ""})["addresses"] == ["10.0.0.5/24"]
    assert ethernet({"ETH0_IP6": "2001:db8::5"})["addresses"] == ["2001:db8::5/64"]


def test_ip6():
    variables = {"ETH0_IP6": "2001:DB8::5/48", "ETH0_IP6_ULA": "fd00::5", "ETH0_IP6_PREFIX_LENGTH": "56",
                 "ETH0_IP6_GATEWAY": "fe80::1", "ETH0_IP6_METRIC": "7"}  # fmt: skip
    found = ethernet(variables)
    assert found["addresses"] == ["2001:db8::5/48", "fd00::5/56"]
    # No metric, which NetworkManager's part of cloud-init 24.4 and later can't take.
    assert found["gateway6"] == "fe80::1"
    assert "routes" not in found
    networks = drive({"ETH0_MAC": MAC, **variables})[1]["networks"]
    assert [(n["type"], n["ip_address"], n["netmask"]) for n in networks] == [
        ("ipv6", "2001:db8::5", "ffff:ffff:ffff::"), ("ipv6", "fd00::5", "ffff:ffff:ffff:ff00::")
    ]  # fmt: skip
    assert networks[0]["routes"] == [{"network": "::", "netmask": "::", "gateway": "fe80::1", "metric": 7}]


@pytest.mark.parametrize(
    ("variables", "entry", "types"),
    [
        ({"ETH0_METHOD": "dhcp", "ETH0_METRIC": "5", "ETH0_IP6_METHOD": "skip"},
         {"dhcp4": True, "dhcp4-overrides": {"route-metric": 5}}, ["ipv4_dhcp"]),
        ({"ETH0_METHOD": "dhcp"}, {"dhcp4": True, "dhcp6": True, "accept-ra": True},
         ["ipv4_dhcp", "ipv6_dhcpv6-stateful"]),
        ({"ETH0_IP6_METHOD": "dhcp"}, {"dhcp6": True, "accept-ra": True}, ["ipv6_dhcpv6-stateful"]),
        ({"ETH0_IP6_METHOD": "auto"}, {"accept-ra": True}, ["ipv6_slaac"]),
        ({"ETH0_METHOD": "DHCP", "ETH0_IP6_METHOD": "disable"}, {"dhcp4": True, "accept-ra": False}, ["ipv4_dhcp"]),
        ({"ETH0_METHOD": "dhcp", "ETH0_IP": "10.0.0.5", "ETH0_IP6_METHOD": "static"}, {"dhcp4": True}, ["ipv4_dhcp"]),
        ({"ETH0_METHOD": "skip", "ETH0_IP6_METHOD": "static", "ETH0_IP": "10.0.0.5", "ETH0_IP6": "2001:db8::5"},
         {"addresses": ["2001:db8::5/64"]}, ["ipv6"]),
        ({"ETH0_IP6_METHOD": "skip", "ETH0_IP": "10.0.0.5", "ETH0_IP6": "2001:db8::5"},
         {"addresses": ["10.0.0.5/24"]}, ["ipv4"]),
    ],
)  # fmt: skip
def test_methods(variables, entry, types):
    assert ethernet(variables) == {"match": {"macaddress": MAC}, **entry}
    assert [network["type"] for network in drive({"ETH0_MAC": MAC, **variables})[1]["networks"]] == types


def test_nics_that_are_not_to_be_touched():
    """Not even by the DHCP that a guest does where it is told nothing of its network."""
    variables = {"ETH0_MAC": MAC, "ETH0_IP": "10.0.0.5", "ETH0_METHOD": "skip", "ETH0_MTU": "1400"}
    variables["ETH0_IP6"] = "2001:db8::5"
    assert nocloud(variables)[1] == {"version": 2, "ethernets": {}}
    assert drive(variables)[1] == {"links": [], "networks": [], "services": []}


def test_default_routes_of_both_families():
    variables = {**NIC, "ETH0_GATEWAY": "10.66.0.1", "ETH0_IP6": "2001:db8::5", "ETH0_IP6_GATEWAY": "2001:db8::1"}
    found = ethernet(variables)
    assert (found["gateway4"], found["gateway6"]) == ("10.66.0.1", "2001:db8::1")
    assert "routes" not in found
    found = ethernet({**variables, "ETH0_METRIC": "5"})
    assert found["routes"] == [{"to": "0.0.0.0/0", "via": "10.66.0.1", "metric": 5}]
    assert found["gateway6"] == "2001:db8::1"


def test_ip6_goes_by_what_is_said_of_ip4():
    variables = {**NIC, "ETH0_METRIC": "5", "ETH0_IP6": "2001:db8::5", "ETH0_IP6_GATEWAY": "2001:db8::1"}
    assert drive(variables)[1]["networks"][1]["routes"][0]["metric"] == 5
    assert drive({**variables, "ETH0_IP6_METRIC": "7"})[1]["networks"][1]["routes"][0]["metric"] == 7


def test_aliases_and_routes():
    found = ethernet({
        "ETH0_IP": "10.0.0.5", "ETH0_ALIAS1_IP": "10.1.0.5", "ETH0_ALIAS1_MASK": "255.255.0.0",
        "ETH0_ALIAS0_IP6": "2001:db8::5", "ETH0_ALIAS0_IP6_PREFIX_LENGTH": "48", "ETH1_ALIAS0_IP": "",
        "ETH0_ALIAS2_IP": "10.2.0.5", "ETH0_ALIAS2_EXTERNAL": "YES",
        "ETH0_ROUTES": "10.3.0.0/16 via 10.0.0.1, 2001:db8:1::/48 via 2001:db8::1,", "ETH0_GATEWAY": "192.0.2.1",
    })  # fmt: skip
    assert found["addresses"] == ["10.0.0.5/24", "2001:db8::5/48", "10.1.0.5/16"]
    assert found["routes"] == [
        {"to": "0.0.0.0/0", "via": "192.0.2.1", "on-link": True},
        {"to": "10.3.0.0/16", "via": "10.0.0.1"},
        {"to": "2001:db8:1::/48", "via": "2001:db8::1"},
    ]


def test_routes_of_each_family_are_with_their_own():
    variables = {**NIC, "ETH0_IP6": "2001:db8::5", "ETH0_ROUTES": "2001:db8:1::/48 via 2001:db8::1"}
    first, second = drive(variables)[1]["networks"]
    assert "routes" not in first
    assert second["routes"][0]["netmask"] == "ffff:ffff:ffff::"


def test_several_nics_in_their_order_and_names_for_all():
    variables = {f"ETH{n}_{name}": value for n in (10, 2) for name, value in (("MAC", f"02:00:00:00:00:{n:02}"),
                                                                               ("IP", f"10.0.{n}.5"))}  # fmt: skip
    variables.update(DNS="10.0.0.1", SEARCH_DOMAIN="example.org", ETH2_DNS="10.0.2.1 10.0.0.1")
    found = nocloud(variables)[1]["ethernets"]
    assert list(found) == ["eth2", "eth10"]
    assert found["eth2"]["nameservers"] == {"addresses": ["10.0.2.1", "10.0.0.1"], "search": ["example.org"]}
    assert "nameservers" not in found["eth10"]
    assert [n["id"] for n in drive(variables)[1]["networks"]] == ["network0", "network1"]


def test_an_address_without_a_nic_to_find():
    with pytest.raises(InvalidValue, match="ETH1_MAC"):
        nocloud({"ETH1_IP": "10.0.0.5"})
    # What gives no address needs none.
    assert nocloud({"ETH1_DNS": "10.0.0.5"})[1] is None
