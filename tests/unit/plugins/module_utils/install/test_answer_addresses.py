# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.install import answer_addresses
from ansible_collections.nebula.provision.plugins.module_utils.install.answer_addresses import check, variables

WHERE = "install d: answers"


@pytest.mark.parametrize(
    ("address", "netmask", "cidr", "mask"),
    [
        ("10.66.0.20", "", "10.66.0.20/24", "255.255.255.0"),
        ("10.66.0.20", "255.255.254.0", "10.66.0.20/23", "255.255.254.0"),
        ("10.66.0.20", "23", "10.66.0.20/23", "255.255.254.0"),
        ("10.66.0.20/23", "", "10.66.0.20/23", "255.255.254.0"),
        ("10.66.0.20/23", "255.255.254.0", "10.66.0.20/23", "255.255.254.0"),
        ("10.66.0.20/255.255.254.0", "", "10.66.0.20/23", "255.255.254.0"),
        ("10.66.0.0", "31", "10.66.0.0/31", "255.255.255.254"),
        ("2001:db8:7::10", "", "2001:db8:7::10/64", ""),
        ("2001:db8:7::10", "64", "2001:db8:7::10/64", ""),
        ("2001:db8:7::10", "ffff:ffff:ffff:ffff::", "2001:db8:7::10/64", ""),
        ("2001:0DB8:7:0::10/56", "", "2001:db8:7::10/56", ""),
        ("2001:db8:7::10/56", "ffff:ffff:ffff:ff00::", "2001:db8:7::10/56", ""),
        ("fd00::1", "127", "fd00::1/127", ""),
        ("fd00::1", "128", "fd00::1/128", ""),
    ],
)
def test_forms_of_an_address(address, netmask, cidr, mask):
    found = variables({"address": address, "netmask": netmask}, WHERE)
    assert (found["cidr"], found["netmask"]) == (cidr, mask)
    assert found["address"] == cidr.split("/")[0] and found["prefix"] == int(cidr.split("/")[1])
    assert found["ipv6"] == (":" in cidr)


def test_without_an_address_there_is_nothing():
    assert variables({"address": "", "netmask": ""}, WHERE) == {}


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ({"address": "10.66.0.20", "netmask": "x"}, "netmask: x: it is neither a prefix nor a mask"),
        ({"address": "10.66.0.20", "netmask": "33"}, "netmask: 33: a prefix of IPv4 has 1 to 32 bits"),
        ({"address": "10.66.0.20", "netmask": "64"}, "a prefix of IPv4 has 1 to 32 bits"),
        ({"address": "10.66.0.20", "netmask": "0"}, "a prefix of IPv4 has 1 to 32 bits"),
        ({"address": "10.66.0.20", "netmask": "255.0.255.0"}, "it is no mask"),
        ({"address": "10.66.0.20", "netmask": "0.0.0.255"}, "it is no mask"),
        ({"address": "10.66.0.20", "netmask": "0.0.0.0"}, "it is no mask"),
        ({"address": "10.66.0.20", "netmask": "ffff:ffff::"}, "a mask of IPv6, and the address is of IPv4"),
        ({"address": "2001:db8::10", "netmask": "255.255.255.0"}, "a mask of IPv4, and the address is of IPv6"),
        ({"address": "2001:db8::10", "netmask": "129"}, "a prefix of IPv6 has 1 to 128 bits"),
        ({"address": "2001:db8::10", "netmask": "ffff::ffff"}, "it is no mask"),
        ({"address": "2001:db8::10/64", "netmask": "56"}, "their prefixes differ"),
        ({"address": "2001:db8::10/", "gateway": "2001:db8:1::1"}, "it is not in 2001:db8::/64"),
        ({"address": "10.66.0.0"}, "the address of the network 10.66.0.0/24 itself"),
        ({"address": "10.66.0.255"}, "it is the broadcast address of 10.66.0.0/24"),
        ({"address": "2001:db8::"}, "the address of the network 2001:db8::/64 itself"),
        ({"address": "0.0.0.0"}, "no machine of a network has it"),
        ({"address": "127.0.0.1"}, "no machine of a network has it"),
        ({"address": "ff02::1"}, "no machine of a network has it"),
        ({"address": "240.0.0.1"}, "no machine of a network has it"),
        ({"address": "255.255.255.255", "netmask": "32"}, "no machine of a network has it"),
        ({"address": "0.1.2.3", "netmask": "8"}, "no machine of a network has it"),
        ({"address": "::ffff:10.66.0.20", "netmask": "96"}, "no machine of a network has it"),
        ({"address": "10.66.0.20", "gateway": "10.66.0.0"}, "it is the address of the network 10.66.0.0/24 itself"),
        (
            {"address": "10.66.0.20", "gateway": "10.66.0.255"},
            "it is the broadcast address of the network 10.66.0.0/24",
        ),
        *(
            ({**address, "nameservers": [server]}, f"nameservers: {server}: ")
            for address in ({}, {"address": "10.66.0.20"}, {"address": "2001:db8::10"})
            for server in (
                "0.0.0.0",
                "255.255.255.255",
                "224.0.0.251",
                "127.0.0.1",
                "::",
                "::1",
                "ff02::fb",
                "fe80::53",
            )
        ),
        ({"address": "::1"}, "no machine of a network has it"),
        ({"address": "fe80::10"}, "each interface has such a one by itself"),
        ({"netmask": "24"}, "netmask: no address is given"),
        ({"netmask": "24", "gateway": "10.66.0.1"}, "netmask, gateway: no address is given"),
        ({"address": "2001:db8::10", "gateway": "10.66.0.1"}, "of IPv4, and address 2001:db8::10/64 is of IPv6"),
        ({"address": "10.66.0.20", "gateway": "2001:db8::1"}, "of IPv6, and address 10.66.0.20/24 is of IPv4"),
        ({"address": "203.0.113.10", "gateway": "198.51.100.1"}, "it is not in 203.0.113.0/24"),
        ({"address": "10.66.0.20", "gateway": "10.66.0.20"}, "the machine's own address"),
        ({"address": "2001:db8::10", "gateway": "fe80::1"}, "no router by its link-local address"),
        ({"address": "2001:db8::10", "nameservers": ["192.0.2.53"]}, "nameservers: 192.0.2.53: address 2001:db8::10"),
        ({"address": "2001:db8::10", "nameservers": ["2001:db8::53", "192.0.2.53"]}, "nameservers: 192.0.2.53"),
        ({"address": "10.66.0.20", "nameservers": ["2001:db8::53"]}, "nameservers: 2001:db8::53"),
    ],
)
def test_what_can_not_be(answers, why):
    with pytest.raises(InvalidValue) as error:
        check(answers, WHERE, link_local_gateway=False)
    assert why in str(error.value) and error.value.remedy


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {"nameservers": ["2001:db8::53", "192.0.2.53"]},
        {"address": "2001:db8::10", "gateway": "2001:db8::1", "nameservers": ["2001:db8:1::53"]},
        {"address": "10.66.0.20", "gateway": "10.66.0.1", "nameservers": ["10.66.0.1", "2001:db8::53"]},
        {"address": "2001:db8::10", "gateway": "fe80::1"},
        # The anycast address of a network's routers, and both of two machines.
        {"address": "2001:db8::10", "gateway": "2001:db8::"},
        {"address": "10.66.0.1", "netmask": "31", "gateway": "10.66.0.0"},
        {"address": "169.254.1.2", "netmask": "16", "gateway": "169.254.1.1", "nameservers": ["169.254.169.253"]},
    ],
)
def test_what_can_be(answers):
    check(answers, WHERE, link_local_gateway=True)


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("address", "10.66.0", "it is no IP address"),
        ("address", "10.66.0.300/24", "it is no IP address"),
        ("address", "fe80::1%eth0", "it names an interface"),
        ("gateway", "10.66.0.1/24", "it is no IP address"),
        ("gateway", "fe80::1%eth0", "it names an interface"),
        ("nameservers", ["10.66.0.1", ""], "it is no IP address"),
        ("nameservers", ["dns.example.org"], "it is no IP address"),
    ],
)
def test_what_is_no_address(key, value, why):
    with pytest.raises(InvalidValue, match=why):
        answer_addresses.check_form(key, value, WHERE)
    answer_addresses.check_form(key, "" if key != "nameservers" else [], WHERE)
