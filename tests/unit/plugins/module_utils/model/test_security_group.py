# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules of security groups in their one form, and as OVN is to have them."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model import security_group
from ansible_collections.nebula.provision.plugins.module_utils.model.logical_network import SecurityRule
from ansible_collections.nebula.provision.plugins.module_utils.model.security_group import GroupRule, SecurityGroup


def test_a_rule_in_its_one_form_and_for_ovn():
    entry = {"rule_type": " Inbound", "protocol": "tcp", "range": "22, 80-90", "ip": "10.0.0.5", "size": 3}
    rule = security_group.read_rule(entry, "x", None)
    assert rule == GroupRule("inbound", "TCP", "22,80:90", "10.0.0.5", 3)
    assert security_group.logical_rule(rule, {}) == SecurityRule("inbound", "TCP", ((22, 22), (80, 90)), "10.0.0.5", 3)
    of_network = security_group.read_rule({"rule_type": "outbound"}, "x", 7)
    assert security_group.logical_rule(of_network, {7: "u7"}) == SecurityRule("outbound", network="u7")


@pytest.mark.parametrize(
    ("entry", "network", "parts"),
    [
        ({}, None, ["rule_type None"]),
        ({"rule_type": "inbound", "protocol": "ICMP", "icmp_type": 256}, None, ["icmp_type 256"]),
        ({"rule_type": "inbound", "ip": "10.0.0.5/8"}, None, ["ip '10.0.0.5/8'"]),
        ({"rule_type": "inbound", "ip": "10.0.0.0/8", "size": 2}, None, ["size 2"]),
        ({"rule_type": "inbound", "ip": "10.0.0.5"}, 3, ["a network is given, too"]),
        ({"rule_type": "inbound", "protocol": "UDP", "range": "0"}, None, ["range '0'"]),
    ],
)
def test_what_is_no_rule(entry, network, parts):
    with pytest.raises(InvalidValue) as error:
        security_group.read_rule(entry, "here", network)
    for part in parts:
        assert part in str(error.value)


def test_ids_of_a_network_or_nic():
    assert security_group.read_group_ids(" 100, 0,100 ", "x") == [100, 0]
    assert security_group.read_group_ids("", "x") == []
    with pytest.raises(InvalidValue, match="'web' is no id"):
        security_group.read_group_ids("web", "x")


def test_group_0_is_every_catalogs():
    assert SecurityGroup(0, "default").is_default and not SecurityGroup(100, "web").is_default


@pytest.mark.parametrize(
    ("text", "named", "known"),
    [("", (), []), ("100, 0,100", (100, 0), [100, 0]), ("web,7,101", (7, 101), [101]), ("-1,1.5", (), [])],
)
def test_of_any_text_those_are_taken_that_are_ids(text, named, known):
    assert security_group.named_ids(text) == named
    assert security_group.known_ids(text, {0, 100, 101}) == known
