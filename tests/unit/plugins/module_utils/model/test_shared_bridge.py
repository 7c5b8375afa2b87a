# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks of one bridge: what adds, and what contradicts."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict
from ansible_collections.nebula.provision.plugins.module_utils.model import shared_bridge
from ansible_collections.nebula.provision.plugins.module_utils.model.network import AddressRange, Network


def of(third: int, gateway: bool = True, **values: object) -> dict[str, str]:
    addresses = {"NETWORK_ADDRESS": f"10.{third}.0.0", "NETWORK_MASK": "255.255.255.0"}
    return {
        **addresses,
        **({"GATEWAY": f"10.{third}.0.1"} if gateway else {}),
        **{k: str(v) for k, v in values.items()},
    }


PUBLIC = Network(0, "Public", bridge="br0", attributes=of(66))
PRIVATE = Network(1, "Private", bridge="br0", attributes=of(67))
RANGE = AddressRange(0, "IP4", 10, ip="10.66.0.10", mac="02:00:0a:42:00:0a")


def refused(one: Network, *others: Network) -> str:
    with pytest.raises(Conflict) as caught:
        shared_bridge.refuse_contradictions(one, others)
    return f"{caught.value.asked}: {caught.value.found}. {caught.value.remedy}"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {}),
        ({"nat": True}, {}),
        ({"nat": True}, {"nat": True}),
        ({"nat": True}, {"attributes": of(67, GATEWAY_ON_BRIDGE="YES", NODE_ACCESS="tcp/22")}),
        ({"attributes": of(66, PHYDEV="eth1")}, {"attributes": of(67, PHYDEV="eth1")}),
        ({"attributes": of(66, MTU=9000)}, {"attributes": of(67, GUEST_MTU=9000)}),
        ({"attributes": of(66, GUEST_MTU=1500)}, {"attributes": of(67, GUEST_MTU=9000)}),
        # A gateway just beyond the range of the other.
        ({"address_ranges": (RANGE,)}, {"attributes": of(66, gateway=False, GATEWAY="10.66.0.20")}),
        # The same network, in two parts.
        ({"attributes": of(66), "address_ranges": (RANGE,)}, {"attributes": of(66)}),
        ({"attributes": of(66), "nat": True}, {"attributes": of(66), "nat": True}),
        ({"attributes": {}}, {"attributes": {}}),
    ],
)  # fmt: skip
def test_what_adds_is_taken(one: dict[str, object], other: dict[str, object]) -> None:
    first, second = replace(PUBLIC, **one), replace(PRIVATE, **other)  # type: ignore[arg-type]
    shared_bridge.refuse_contradictions(first, [second])
    shared_bridge.refuse_contradictions(second, [first])


@pytest.mark.parametrize(
    ("one", "other", "parts"),
    [
        ({"attributes": of(66, PHYDEV="eth1")}, {"attributes": of(67, PHYDEV="eth2")}, ("eth1", "eth2")),
        ({"attributes": of(66, PHYDEV="eth1")}, {}, ("eth1", "(none)")),
        (
            {"attributes": of(66, PHYDEV="eth1", PHYDEV_FORCED="YES", NODE_ACCESS="all")},
            {"attributes": of(67, PHYDEV="eth1")},
            ("PHYDEV_FORCED = YES", "PHYDEV_FORCED = NO"),
        ),
        ({"attributes": of(66, MTU=9000)}, {"attributes": of(67, MTU=1500)}, ("MTU = 9000", "MTU = 1500")),
        ({"attributes": of(66, GUEST_MTU=9000)}, {"attributes": of(67, MTU=1500)}, ("GUEST_MTU = 9000", "MTU = 1500")),
        (
            {"address_ranges": (replace(RANGE, attributes={"GUEST_MTU": "9000"}),)},
            {"attributes": of(67, MTU=1500)},
            ("GUEST_MTU = 9000", "MTU = 1500"),
        ),
        (
            {"address_ranges": (RANGE,)},
            {"attributes": of(66, gateway=False, GATEWAY="10.66.0.19")},
            ("GATEWAY 10.66.0.19 of network Private", "address range 0 [10.66.0.10-10.66.0.19]"),
        ),
        (
            {"address_ranges": (AddressRange(1, "IP6_STATIC", 5, ip6="2001:db8::5", prefix_length=64),)},
            {"attributes": of(67, GATEWAY6="2001:db8::9")},
            ("GATEWAY6 2001:db8::9 of network Private", "a machine would get it"),
        ),
        ({"nat": True}, {"attributes": of(66)}, ("10.66.0.0/24", "alone")),
        ({"nat": True}, {"nat": True, "attributes": {**of(66), "GATEWAY": "10.66.0.9"}}, ("10.66.0.1", "10.66.0.9")),
        ({"nat": True}, {"attributes": of(66, GATEWAY_ON_BRIDGE="YES")}, ("nat = ",)),
        (
            {"nat": True, "attributes": of(66, NODE_ACCESS="tcp/22")},
            {"nat": True, "attributes": of(66, NODE_ACCESS="none")},
            ("NODE_ACCESS", "tcp/22"),
        ),
        ({"nat": True}, {"address_ranges": (RANGE,), "attributes": {}}, ("10.66.0.", "alone")),
        ({"address_ranges": (RANGE,)}, {"address_ranges": (replace(RANGE, ip="10.66.0.19"),)}, ("the same addresses",)),
        (
            {"address_ranges": (RANGE,)},
            {"address_ranges": (replace(RANGE, type="ETHER", ip="", mac="02:00:0a:42:00:0b"),)},
            ("the same MAC addresses",),
        ),
    ],
)
def test_what_contradicts_is_refused_with_both_names(
    one: dict[str, object], other: dict[str, object], parts: tuple[str, ...]
) -> None:
    first, second = replace(PUBLIC, **one), replace(PRIVATE, **other)  # type: ignore[arg-type]
    for asked, there in ((first, second), (second, first)):
        said = refused(asked, there)
        for part in ("network Public", "network Private", "BRIDGE = br0", *parts):
            assert part in said


def test_a_bridge_carries_so_many_gateways_and_no_more() -> None:
    many = [
        Network(n, f"n{n}", bridge="br0", nat=True, attributes=of(n)) for n in range(shared_bridge.MOST_GATEWAYS + 1)
    ]
    shared_bridge.refuse_contradictions(many[0], many[1:-1])
    assert f"room for {shared_bridge.MOST_GATEWAYS}" in refused(many[-1], *many[:-1])


def test_the_addresses_of_a_network_are_its_whole_or_those_of_its_ranges() -> None:
    assert shared_bridge.address_spans(PUBLIC) == [ip_network("10.66.0.0/24")]
    few = replace(PUBLIC, attributes={}, address_ranges=(replace(RANGE, size=3, global_prefix="2001:db8::"),))
    assert shared_bridge.address_spans(few) == [*map(ip_network, ("10.66.0.10/31", "10.66.0.12/32", "2001:db8::/64"))]


def test_networks_of_driver_bridge_alone_share() -> None:
    assert shared_bridge.may_share(PUBLIC, PRIVATE)
    for driver in ("802.1Q", "vxlan"):
        assert not shared_bridge.may_share(PUBLIC, replace(PRIVATE, vn_mad=driver))
        assert not shared_bridge.may_share(replace(PUBLIC, vn_mad=driver), replace(PRIVATE, vn_mad=driver))
