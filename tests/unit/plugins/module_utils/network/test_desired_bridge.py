# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a network wants of its bridge on a node."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    InvalidValue,
)
from ansible_collections.nebula.provision.plugins.module_utils.model import network_checks
from ansible_collections.nebula.provision.plugins.module_utils.model.network import NEW_AR, AddressRange, Network
from ansible_collections.nebula.provision.plugins.module_utils.model.node_access import NodeAccess
from ansible_collections.nebula.provision.plugins.module_utils.network import (
    desired_bridge,
    nat,
)

CATALOG = "5d2c7a0e-4b1f-4c56-9a3e-0f6f5b0b7c11"
PUBLIC, QUIET, LOST = (f"aaaaaaaa-0000-4000-8000-00000000000{n}" for n in (1, 2, 3))
TABLE = nat.table_name(CATALOG)
ATTRIBUTES = {"NETWORK_ADDRESS": "10.66.0.0", "NETWORK_MASK": "255.255.255.0", "GATEWAY": "10.66.0.1"}
WITH_NAT = Network(0, "Public", PUBLIC, bridge="nbr0", nat=True, attributes=ATTRIBUTES)
PLAIN = Network(1, "Quiet", QUIET, bridge="nbr1")
EVERYTHING = NodeAccess(everything=True)
NAT = nat.Rules(PUBLIC, "nbr0", "10.66.0.1", ip_network("10.66.0.0/24"), EVERYTHING)
OF_PLAIN = nat.Rules(QUIET, "nbr1")


def test_a_network_with_nat_wants_the_gateway_on_its_bridge() -> None:
    wanted = desired_bridge.Wanted.of(WITH_NAT)
    assert wanted == desired_bridge.Wanted("Public", PUBLIC, "nbr0", "10.66.0.1/24", NAT, [ip_network("10.66.0.0/24")])


def test_a_gateway_elsewhere_is_not_put_on_the_bridge() -> None:
    wanted = desired_bridge.Wanted.of(replace(WITH_NAT, nat=False))
    assert (wanted.address, wanted.rules) == ("", nat.Rules(PUBLIC, "nbr0"))
    on_bridge = replace(WITH_NAT, nat=False, attributes={**ATTRIBUTES, "GATEWAY_ON_BRIDGE": "yes"})
    wanted = desired_bridge.Wanted.of(on_bridge)
    assert (wanted.address, wanted.rules) == ("10.66.0.1/24", replace(NAT, whole=None))


@pytest.mark.parametrize(("said", "access"), [("none", NodeAccess()), ("tcp/22", NodeAccess(tcp=((22, 22),)))])
def test_what_machines_reach_of_the_node_is_what_the_network_says(said: str, access: NodeAccess) -> None:
    network = replace(WITH_NAT, attributes={**ATTRIBUTES, "NODE_ACCESS": said})
    assert desired_bridge.Wanted.of(network).rules == replace(NAT, access=access)


def test_without_a_network_address_the_ranges_are_what_belongs_to_it() -> None:
    ranges = [
        AddressRange(NEW_AR, "IP4", 6, ip="10.66.0.10"),
        AddressRange(NEW_AR, "IP6", 9, global_prefix="2001:db8:1::", ula_prefix="fd00:66::", mac="02:00:00:00:00:01"),
        AddressRange(NEW_AR, "ETHER", 3, mac="02:00:00:00:01:01"),
    ]
    normalised = tuple(network_checks.normalise_range(each, "Plain", 0) for each in ranges)
    spans = desired_bridge.Wanted.of(replace(PLAIN, address_ranges=normalised)).spans
    assert [str(span) for span in spans] == ["10.66.0.10/31", "10.66.0.12/30", "2001:db8:1::/64", "fd00:66::/64"]


@pytest.mark.parametrize("uuid", ["x", PUBLIC[:-1], PUBLIC.upper(), f"{PUBLIC}\n", f"{PUBLIC} up"])
def test_what_is_no_uuid_reaches_no_command_line(uuid: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        desired_bridge.Wanted.of(replace(WITH_NAT, uuid=uuid))
    assert caught.value.asked == f"network Public: uuid = {uuid!r}"
    assert caught.value.remedy == "Pass on what nebula_network returned"
