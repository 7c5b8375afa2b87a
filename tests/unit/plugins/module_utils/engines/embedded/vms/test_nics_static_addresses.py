# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine's context has of a static address of IPv6."""

from __future__ import annotations

import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmRequest
from ansible_collections.nebula.provision.plugins.module_utils.model.network import NEW_AR, AddressRange, Network
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.conftest import row
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.vms.conftest import (
    PLAIN,
    record,
)


@pytest.mark.parametrize("gateway", ["GATEWAY6", "IP6_GATEWAY"])
def test_a_guest_is_told_its_static_address(inside, gateway):
    made = AddressRange(NEW_AR, "IP6_STATIC", 9, ip6="2001:db8::10", prefix_length=48)
    attributes = {gateway: "2001:db8::1", "IP6_METHOD": "static", "DNS": "2001:db8::53"}
    inside.networks.allocate(Network(None, "six", bridge="br6", attributes=attributes, address_ranges=(made,)))
    nics = [{"NETWORK": "six", "IP6": "2001:DB8::12"}, {"NETWORK": "six"}]
    template = PLAIN.with_vectors("NIC", nics).with_vector("CONTEXT", {"NETWORK": "YES"})
    (vm,) = inside.vms.instantiate([VmRequest("a", template)])
    assert vm.addresses == ["2001:db8::12", "2001:db8::10"]
    variables = json.loads(row(inside)["body"])["context"]["variables"]
    assert {name: value for name, value in variables.items() if value and name.startswith("ETH0_")} == {
        "ETH0_DNS": "2001:db8::53",
        "ETH0_IP6": "2001:db8::12",
        "ETH0_IP6_GATEWAY": "2001:db8::1",
        "ETH0_IP6_METHOD": "static",
        "ETH0_IP6_PREFIX_LENGTH": "48",
        "ETH0_MAC": variables["ETH0_MAC"],
    }
    assert variables["ETH1_IP6"] == "2001:db8::10"
    assert not record(inside).outdated
    there = inside.networks.info("six")
    longer = AddressRange(0, "IP6_STATIC", 9, ip6="2001:db8::10", prefix_length=64, attributes={})
    inside.networks.update_ar(there.id, longer)
    assert record(inside).outdated
