# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks as OpenNebula's documents write them, to items of our lists."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.model.network_template import with_template
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

RANGED = "NAME = Red\nTYPE = RANGED\nNETWORK_ADDRESS = 192.168.0.0\n"


def item(text: str, **options: object) -> dict[str, object]:
    return with_template(options, parse(text))


def ip4(ip: str, size: int) -> dict[str, object]:
    return {"type": "IP4", "ip": ip, "size": size}


def test_public_net_of_the_old_documentation() -> None:
    """With addresses in place of its letters."""
    text = """NAME = "Public"
TYPE = FIXED
BRIDGE = eth0
BROADCAST=10.66.0.255
NETMASK=255.255.255.0
NETWORK=10.66.0.0
GATEWAY=10.66.0.1
PEERDNS=yes
DNS=10.66.0.2

LEASES = [IP=10.66.0.10]
LEASES = [IP=10.66.0.11]
LEASES = [ip=10.66.0.15, mac="02:00:00:00:00:15"]
"""
    assert item(text, nat=None, state="present") == {
        "name": "Public",
        # Bridges were made by hand then.
        "vn_mad": "dummy",
        "nat": None,
        "state": "present",
        "bridge": "eth0",
        "attributes": {
            "BROADCAST": "10.66.0.255",
            "NETWORK_MASK": "255.255.255.0",
            "NETWORK_ADDRESS": "10.66.0.0",
            "GATEWAY": "10.66.0.1",
            "PEERDNS": "yes",
            "DNS": "10.66.0.2",
        },
        "address_ranges": [
            ip4("10.66.0.10", 1),
            ip4("10.66.0.11", 1),
            {**ip4("10.66.0.15", 1), "mac": "02:00:00:00:00:15"},
        ],
    }


@pytest.mark.parametrize(
    ("text", "ranges", "mask"),
    [
        ("NETWORK_SIZE = C", [ip4("192.168.0.1", 254)], "255.255.255.0"),
        ("NETWORK_SIZE = c", [ip4("192.168.0.1", 254)], "255.255.255.0"),
        ("NETWORK_SIZE = B", [ip4("192.168.0.1", 65534)], "255.255.0.0"),
        ("NETWORK_SIZE = 254", [ip4("192.168.0.1", 254)], "255.255.255.0"),
        ("NETWORK_SIZE = 255", [ip4("192.168.0.1", 255)], "255.255.254.0"),
        ("NETWORK_SIZE = 1", [ip4("192.168.0.1", 1)], "255.255.255.252"),
        ("NETWORK_SIZE = C GATEWAY = 192.168.0.1", [ip4("192.168.0.2", 253)], "255.255.255.0"),
        ("NETWORK_SIZE = C GATEWAY = 192.168.0.254", [ip4("192.168.0.1", 253)], "255.255.255.0"),
        (
            "NETWORK_SIZE = C GATEWAY = 192.168.0.100",
            [ip4("192.168.0.1", 99), ip4("192.168.0.101", 154)],
            "255.255.255.0",
        ),
        ("NETWORK_SIZE = 100 NETWORK_MASK = 255.255.0.0", [ip4("192.168.0.1", 100)], "255.255.0.0"),
        ("NETWORK_MASK = 255.255.255.0", [ip4("192.168.0.1", 254)], "255.255.255.0"),
        ("NETMASK = 255.255.255.0", [ip4("192.168.0.1", 254)], "255.255.255.0"),
        ("NETWORK_SIZE = C IP_START = 192.168.0.50", [ip4("192.168.0.50", 205)], "255.255.255.0"),
        ("NETWORK_SIZE = C IP_END = 192.168.0.9", [ip4("192.168.0.1", 9)], "255.255.255.0"),
        ("NETWORK_SIZE = C IP_START = 192.168.0.5 IP_END = 192.168.0.9", [ip4("192.168.0.5", 5)], "255.255.255.0"),
    ],
)
def test_ranged(text: str, ranges: list[dict[str, object]], mask: str) -> None:
    made = item(RANGED + text.replace(" IP", "\nIP"))
    assert made["address_ranges"] == ranges
    assert made["attributes"]["NETWORK_MASK"] == mask
    assert not {"TYPE", "NETWORK_SIZE", "IP_START", "IP_END", "NETMASK"} & set(made["attributes"])


def test_ranged_with_a_prefix() -> None:
    made = item("TYPE = ranged\nNETWORK_ADDRESS = 10.0.0.0/28", name="x")
    assert made["address_ranges"] == [ip4("10.0.0.1", 14)]
    assert made["attributes"] == {"NETWORK_ADDRESS": "10.0.0.0/28"}


def test_ranged_with_what_options_say() -> None:
    made = item("TYPE = RANGED\nNETWORK_SIZE = C", name="x", network_address="10.0.0.0", gateway="10.0.0.1")
    assert made["address_ranges"] == [ip4("10.0.0.2", 253)]


@given(st.integers(1, (1 << 20) - 2), st.integers(0, 255))
def test_a_range_has_the_size_that_is_asked_for(size: int, first_byte: int) -> None:
    made = item(f"TYPE = RANGED NETWORK_ADDRESS = 10.{first_byte & 0xF0}.0.0 NETWORK_SIZE = {size}", name="x")
    network = IPv4Network((f"10.{first_byte & 0xF0}.0.0", made["attributes"]["NETWORK_MASK"]))
    (only,) = made["address_ranges"]
    first = IPv4Address(only["ip"])
    assert only["size"] == size
    assert network.network_address < first
    assert first + size - 1 < network.broadcast_address
    assert network.num_addresses - 2 < 2 * size + 2, "no larger than it has to be"


def test_todays_form() -> None:
    text = """NAME = "net-a"
VN_MAD = "dummy"
BRIDGE = "br0"
AR = [ TYPE = "IP4", IP = "10.0.0.10", SIZE = "20", GATEWAY = "10.0.0.2", AR_ID = "0" ]
AR = [ TYPE = "IP6", SIZE = 5, MAC = "02:00:00:00:00:01", GLOBAL_PREFIX = "2001:db8::", ULA_PREFIX = "fd00::" ]
SEARCH_DOMAIN = "example.org lab"
COLOR = blue
"""
    assert item(text) == {
        "name": "net-a",
        "vn_mad": "dummy",
        "bridge": "br0",
        "attributes": {"SEARCH_DOMAIN": "example.org lab", "COLOR": "blue"},
        "address_ranges": [
            {**ip4("10.0.0.10", 20), "attributes": {"GATEWAY": "10.0.0.2"}},
            {
                "type": "IP6",
                "size": 5,
                "mac": "02:00:00:00:00:01",
                "global_prefix": "2001:db8::",
                "ula_prefix": "fd00::",
            },
        ],
    }


def test_static_ranges_of_ipv6_have_their_own_keys() -> None:
    text = """NAME = "six"
AR = [ TYPE = "IP6_STATIC", IP6 = "2001:db8::10", PREFIX_LENGTH = "48", SIZE = "20", MAC = "02:00:00:00:00:01" ]
AR = [ TYPE = "IP4_6_STATIC", IP = "10.0.0.5", IP6 = "fd00::5", PREFIX_LENGTH = 64, SIZE = 2, GATEWAY6 = "fd00::1" ]
AR = [ TYPE = "IP6", SIZE = 5, GLOBAL_PREFIX = "2001:db8:1::", PREFIX_LENGTH = "56" ]
"""
    assert item(text)["address_ranges"] == [
        {"type": "IP6_STATIC", "ip6": "2001:db8::10", "prefix_length": 48, "size": 20, "mac": "02:00:00:00:00:01"},
        {
            "type": "IP4_6_STATIC",
            "ip": "10.0.0.5",
            "ip6": "fd00::5",
            "prefix_length": 64,
            "size": 2,
            "attributes": {"GATEWAY6": "fd00::1"},
        },
        # Where addresses are not static, it is what machines are told.
        {"type": "IP6", "size": 5, "global_prefix": "2001:db8:1::", "attributes": {"PREFIX_LENGTH": "56"}},
    ]
    wrong = "NAME = x\nAR = [ TYPE = IP6_STATIC, IP6 = fd00::5, PREFIX_LENGTH = half ]"
    with pytest.raises(InvalidValue, match="AR: PREFIX_LENGTH = 'half': it is not a whole number"):
        item(wrong)


def test_leases_without_a_type_are_fixed() -> None:
    assert item("NAME = x\nLEASES = [ IP = 10.0.0.5 ]")["address_ranges"] == [ip4("10.0.0.5", 1)]


def test_yaml_means_the_same() -> None:
    mapping = {
        "name": "x",
        "type": "fixed",
        "dns": ["10.0.0.1", "9.9.9.9"],
        "peerdns": True,
        "leases": [{"ip": "10.0.0.5"}, {"ip": "10.0.0.6"}],
    }
    assert with_template({}, Template.from_mapping(mapping)) == {
        "name": "x",
        "attributes": {"DNS": "10.0.0.1 9.9.9.9", "PEERDNS": "YES"},
        "address_ranges": [ip4("10.0.0.5", 1), ip4("10.0.0.6", 1)],
    }


def test_options_say_more() -> None:
    given_ = {
        "name": "x",
        "bridge": "br0",
        "dns": ["9.9.9.9"],
        "attributes": {"color": "blue", "Floor": "3"},
        "address_ranges": [{"ip": "10.0.0.5", "size": 4}, {"type": "ETHER", "size": 1}],
    }
    text = "NAME = x BRIDGE = br0 COLOR = blue ROOM = 4\nLEASES = [ IP = 10.0.0.5 ]\nLEASES = [ IP = 10.0.0.9 ]"
    assert item(text, **given_) == {
        **given_,
        "attributes": {"color": "blue", "Floor": "3", "ROOM": "4"},
        "address_ranges": [*given_["address_ranges"], ip4("10.0.0.9", 1)],
    }


def test_what_is_to_go_has_a_name_only() -> None:
    text = "NAME = x\nTYPE = FIXED\nVN_MAD = fw"
    assert item(text, state="absent") == {"name": "x", "state": "absent"}


@pytest.mark.parametrize(
    ("text", "options", "parts"),
    [
        ("NAME = x\nTYPE = FIXED", {}, ["network x: TYPE = FIXED", "no LEASES", "LEASES = [ IP = 10.0.0.5 ]"]),
        ("TYPE = ROUND", {"name": "x"}, ["network x: TYPE = 'ROUND'", "FIXED or RANGED"]),
        ("NAME = x", {"name": "y"}, ["network y: name = 'y'", "NAME = 'x'", "Give one of the two"]),
        ("BRIDGE = a", {"name": "y", "bridge": "b"}, ["network y: bridge = 'b'", "BRIDGE = 'a'"]),
        ("VN_MAD = dummy", {"name": "y", "vn_mad": "bridge"}, ["vn_mad = 'bridge'", "VN_MAD = 'dummy'"]),
        ("VN_MAD = fw", {"name": "y"}, ["network y: VN_MAD = 'fw'", "bridge, dummy"]),
        ("VN_MAD = bridged", {"name": "y"}, ["Did you mean 'bridge'?"]),
        ("COLOR = red", {"name": "y", "attributes": {"color": "blue"}}, ["attribute COLOR = 'blue'", "'red'"]),
        ("NETMASK = 24\nNETWORK_MASK = 25", {"name": "y"}, ["NETWORK_MASK = '25'", "as '24'"]),
        ("COLOR = red\nCOLOR = blue", {"name": "y"}, ["network y: COLOR", "2 times"]),
        ("COLOR = [ A = b ]", {"name": "y"}, ["network y: COLOR", "a vector"]),
        ("LEASES = 10.0.0.5", {"name": "y"}, ["network y: LEASES", "a single value", "LEASES = ["]),
        ("AR = x", {"name": "y"}, ["network y: AR", "a single value"]),
        ("LEASES = [ MAC = a ]", {"name": "y"}, ["network y: LEASES", "no IP"]),
        ("AR = [ TYPE = IP4, IP = 10.0.0.5, SIZE = many ]", {"name": "y"}, ["SIZE = 'many'", "whole number"]),
        ("NETWORK_SIZE = C", {"name": "y"}, ["network y: NETWORK_SIZE", "TYPE = RANGED"]),
        (RANGED + "LEASES = [ IP = 192.168.0.5 ]", {}, ["TYPE = RANGED", "LEASES", "TYPE = FIXED"]),
        ("TYPE = RANGED NETWORK_SIZE = C", {"name": "y"}, ["no NETWORK_ADDRESS"]),
        (RANGED, {}, ["network Red", "its size is not said", "NETWORK_SIZE = C"]),
        (RANGED + "NETWORK_SIZE = D", {}, ["NETWORK_SIZE = 'D'", "class"]),
        (RANGED + "NETWORK_SIZE = 0", {}, ["NETWORK_SIZE = '0'", "class"]),
        (RANGED + "NETWORK_SIZE = -5", {}, ["NETWORK_SIZE = '-5'"]),
        (RANGED + "NETWORK_SIZE = 99999999999", {}, ["NETWORK_SIZE = 99999999999", "no such network"]),
        (RANGED + "NETWORK_SIZE = C NETWORK_MASK = 255.255.255.128", {}, ["room for 126", "smaller size"]),
        (RANGED + "NETWORK_MASK = 255.255.255.255", {}, ["room for 0"]),
        (RANGED + "NETWORK_MASK = 255.0.255.0", {}, ["NETWORK_MASK = '255.0.255.0'"]),
        (RANGED + "NETWORK_MASK = 0.0.0.255", {}, ["NETWORK_MASK = '0.0.0.255'"]),
        (RANGED + "NETWORK_SIZE = C IP_START = 192.168.1.5", {}, ["IP_START = '192.168.1.5'", "192.168.0.254"]),
        (RANGED + "NETWORK_SIZE = C IP_END = 192.168.0.255", {}, ["IP_END = '192.168.0.255'"]),
        (RANGED + "NETWORK_SIZE = C IP_END = x", {}, ["IP_END = 'x'", "not an IPv4 address"]),
        (RANGED + "NETWORK_SIZE = C IP_START = 192.168.0.9 IP_END = 192.168.0.5", {}, ["192.168.0.9", "IP_END"]),
        ("TYPE = RANGED NETWORK_ADDRESS = 192.168.0.9 NETWORK_SIZE = C", {"name": "y"}, ["Write 192.168.0.0"]),
        ("TYPE = RANGED NETWORK_ADDRESS = X.Y.Z.0 NETWORK_SIZE = C", {"name": "y"}, ["NETWORK_ADDRESS = 'X.Y.Z.0'"]),
    ],
)
def test_what_can_not_be_meant(text: str, options: dict[str, object], parts: list[str]) -> None:
    with pytest.raises(InvalidValue) as caught:
        item(text, **options)
    for part in parts:
        assert part in str(caught.value)
    assert caught.value.remedy


WORDS = st.sampled_from(
    ["", "FIXED", "RANGED", "C", "B", "5", "24", "10.0.0.0", "10.0.0.0/8", "10.0.0.1", "x", "-1", "/"]
)
KEYS = st.sampled_from(
    ["NAME", "TYPE", "BRIDGE", "VN_MAD", "NETWORK_ADDRESS", "NETWORK_MASK", "NETWORK_SIZE", "NETMASK", "NETWORK",
     "IP_START", "IP_END", "GATEWAY", "DNS", "LEASES", "AR"]
)  # fmt: skip
VECTORS = st.dictionaries(st.sampled_from(["IP", "MAC", "SIZE", "TYPE", "X"]), WORDS).map(lambda d: tuple(d.items()))


@settings(max_examples=1000)
@given(st.lists(st.tuples(KEYS, st.one_of(WORDS, VECTORS)), max_size=10))
def test_any_template_is_read_or_refused(attributes: list[tuple[str, object]]) -> None:
    try:
        made = with_template({"name": "x"}, Template(tuple(attributes)))
    except NebulaError as error:
        assert error.asked.startswith("network x")
        return
    assert all(entry.get("size") != 0 or "type" not in entry for entry in made["address_ranges"])
