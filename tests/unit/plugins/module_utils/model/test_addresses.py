# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses as numbers and text, and the addresses of a range."""

# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model import addresses, network_checks
from ansible_collections.nebula.provision.plugins.module_utils.model.network import NEW_AR, AddressRange


def ip4(ip="10.66.0.10", size=100, **values):
    return network_checks.normalise_range(AddressRange(NEW_AR, "IP4", size, ip=ip, **values), "Public", 0)


def refused(call, *parts):
    """Every part of the message: the object, the attribute, the value, the remedy."""
    with pytest.raises(InvalidValue) as caught:
        call()
    for part in parts:
        assert part in str(caught.value)


@given(st.integers(0, 2**32 - 1))
def test_ipv4_text_and_numbers_agree_with_the_standard_library(number):
    text = addresses.ip_text(number)
    assert text == str(ipaddress.IPv4Address(number))
    assert addresses.ip_number(text, "IP") == number


@pytest.mark.parametrize(
    ("ip", "mac"),
    [
        ("192.168.70.150", "02:00:c0:a8:46:96"),
        ("10.1.0.10", "02:00:0a:01:00:0a"),
        ("192.168.77.33", "02:00:c0:a8:4d:21"),
        ("255.255.255.255", "02:00:ff:ff:ff:ff"),
        ("0.0.0.1", "02:00:00:00:00:01"),
    ],
)
def test_mac_prefix_and_ip_make_the_mac(ip, mac):
    assert addresses.mac_text(addresses.mac_of_ip(addresses.ip_number(ip, "IP"))) == mac


@pytest.mark.parametrize(
    "text", ["02:00:0a:42:00:0a", "02:00:0A:42:00:0A", "02-00-0a-42-00-0a", " 02:00:0a:42:00:0a\n"]
)
def test_a_mac_has_one_form(text):
    assert addresses.mac_text(addresses.mac_number(text, "MAC")) == "02:00:0a:42:00:0a"


def test_a_mac_that_yaml_read_as_a_number_to_base_60_is_taken_back():
    number = 0
    for group in (52, 54, 0, 12, 34, 56):
        number = number * 60 + group
    assert addresses.mac_text(addresses.mac_number(str(number), "MAC")) == "52:54:00:12:34:56"


@pytest.mark.parametrize("text", ["", "02:00:0a:42:00", "02:00:0a:42:00:0a:01", "02:00:0a:42:00:0g", "1234", "9" * 30])
def test_what_is_no_mac_is_refused_with_the_quoted_form(text):
    refused(lambda: addresses.mac_number(text, "network Public: MAC"), "network Public: MAC", repr(text), "in quotes")


def test_a_multicast_mac_is_refused():
    refused(lambda: addresses.mac_number("03:00:0a:42:00:0a", "MAC"), "multicast")


@given(st.integers(0, 2**64), st.integers(1, network_checks.LARGEST_RANGE))
def test_a_random_mac_leaves_room_for_its_range(random, size):
    first = addresses.mac_number(addresses.base_mac(random, size), "MAC")
    assert first >> 32 == 0x0200
    assert (first + size - 1) >> 32 == 0x0200


def test_a_random_range_may_be_the_last_that_there_is():
    assert addresses.base_mac((1 << 32) - 16, 16) == "02:00:ff:ff:ff:f0"
    assert addresses.base_mac((1 << 32) - 15, 16) == "02:00:00:00:00:00"


@pytest.mark.parametrize(
    ("prefix", "mac", "ip6"),
    [
        # The example of RFC 4291, appendix A, and OpenNebula's usual MAC addresses.
        ("2001:db8::", "34:56:78:9a:bc:de", "2001:db8::3656:78ff:fe9a:bcde"),
        ("2001:db8:46::", "02:00:0a:2e:00:0a", "2001:db8:46::aff:fe2e:a"),
        ("fd00:46::", "02:11:22:33:44:50", "fd00:46::11:22ff:fe33:4450"),
    ],
)
def test_ipv6_is_prefix_and_eui64(prefix, mac, ip6):
    assert addresses.eui64(prefix, addresses.mac_number(mac, "MAC")) == ip6
    assert addresses.split_eui64(addresses.ip6_address(ip6, "IP6")) == (prefix, addresses.mac_number(mac, "MAC"))


def test_leases_count_up_from_the_first_address():
    calculator = addresses.Calculator(ip4("10.66.0.250", 10))
    lease = calculator.lease(3, 6, 42, 1)
    assert (lease.network_id, lease.offset, lease.vm_id, lease.nic_id) == (3, 6, 42, 1)
    assert (lease.ip, lease.mac, lease.ip6, lease.ip6_ula) == ("10.66.1.0", "02:00:0a:42:01:00", "", "")


def test_a_mac_of_ones_own_counts_up_beside_the_ip():
    lease = addresses.Calculator(ip4(mac="02:11:22:33:44:FE")).lease(0, 3, 1, 0)
    assert (lease.ip, lease.mac) == ("10.66.0.13", "02:11:22:33:45:01")


def test_both_ipv6_prefixes_with_ipv4():
    both = AddressRange(NEW_AR, "IP4_6", 50, ip="10.46.0.10", global_prefix="2001:db8:46::/64", ula_prefix="fd00:46::")
    lease = addresses.Calculator(network_checks.normalise_range(both, "net-46", 0)).lease(0, 0, 1, 0)
    assert (lease.ip, lease.mac) == ("10.46.0.10", "02:00:0a:2e:00:0a")
    assert (lease.ip6, lease.ip6_ula) == ("2001:db8:46::aff:fe2e:a", "fd00:46::aff:fe2e:a")


@pytest.mark.parametrize(
    ("ip", "offset"), [("10.66.0.9", None), ("10.66.0.10", 0), ("10.66.0.109", 99), ("10.66.0.110", None)]
)
def test_where_an_address_lies(ip, offset):
    calculator = addresses.Calculator(ip4())
    number = addresses.ip_number(ip, "IP")
    assert calculator.offset_of(number, None) == offset
    assert calculator.offset_of(None, addresses.mac_of_ip(number)) == offset
