# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against a real catalog; test_object_lists.py has what it shares with others."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.modules import nebula_network, nebula_security_group

SSH = {"rule_type": "inbound", "protocol": "TCP", "range": "22, 8000-8010", "ip": "10.9.0.0/16"}
WEB = {"name": "web", "rules": [SSH, {"rule_type": "outbound"}]}


@pytest.fixture
def module(options, tmp_path):
    def run(check=False, **given):
        return nebula_security_group.call.run(options(nebula_security_group, root=str(tmp_path), **given), check)

    return run


@pytest.fixture
def network(options, tmp_path):
    def run(**given):
        return nebula_network.call.run(options(nebula_network, root=str(tmp_path), **given), False)

    return run


def test_rules_come_back_in_their_one_form(module):
    written = {**WEB, "rules": [{**SSH, "protocol": "tcp"}, {"rule_type": "Outbound"}]}
    (made,) = module(security_groups=[written]).payload["security_groups"]
    assert made["id"] == 100
    assert made["rules"][0] == {
        "rule_type": "inbound",
        "protocol": "TCP",
        "range": "22,8000:8010",
        "ip": "10.9.0.0/16",
        "size": 1,
        "network_id": None,
        "icmp_type": None,
    }
    assert made["rules"][1]["protocol"] == "ALL"


@pytest.mark.parametrize(
    ("rule", "parts"),
    [
        ({"rule_type": "in"}, ["rules[0]: rule_type 'in'", "inbound, outbound"]),
        ({"rule_type": "inbound", "protocol": "SCTP"}, ["protocol 'SCTP'", "IPSEC"]),
        ({"rule_type": "inbound", "range": "22"}, ["rules[0]: range '22'", "ALL has no ports"]),
        ({"rule_type": "inbound", "protocol": "TCP", "range": "22:20"}, ["range '22:20'", "8000:8010"]),
        ({"rule_type": "inbound", "protocol": "TCP", "icmp_type": 8}, ["icmp_type 8"]),
        ({"rule_type": "inbound", "ip": "10.0.0.300"}, ["ip '10.0.0.300'"]),
        ({"rule_type": "inbound", "size": 5}, ["size 5"]),
        ({"rule_type": "inbound", "network": "nosuch"}, ["network 'nosuch'"]),
        ({"rule_type": "inbound", "proto": "TCP"}, ["'proto'", "'protocol'"]),
    ],
)
def test_what_is_no_rule_is_refused_by_its_place(module, rule, parts):
    (item,) = module(security_groups=[{"name": "web", "rules": [rule]}]).errors
    for part in parts:
        assert part in str(item.error), str(item.error)
    assert module(name="web").changed


def test_the_group_of_every_catalog_stays_as_it_is(module):
    for given in ({"rules": []}, {"description": "ours"}, {"state": "absent"}):
        (item,) = module(name="default", **given).errors
        assert "security group default (id 0)" in str(item.error)
    assert not module(name="default").changed


def test_a_group_that_a_network_has_stays(module, network):
    module(**WEB)
    network(name="Tenant", vn_mad="ovn", network_address="10.0.0.0/24", security_groups=["web"])
    (item,) = module(name="web", state="absent").errors
    assert "it is that of network Tenant" in str(item.error)
    network(name="Tenant", security_groups=[])
    assert module(name="web", state="absent").changed
