# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node is told to filter: it arrives as it was, and nothing of it ends a rule."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.nic_filter_rules import (
    Guard,
    GuardRule,
    check_port,
    pack,
    unpack,
)

GUARD = Guard(3, 0, "one-3-0", "02:00:0a:42:00:0a", ("10.66.0.10", "2001:db8::1"), True, True)
RULE = GuardRule("inbound", "TCP", ((80, 90),), ("10.0.0.1-10.0.0.9", "10.1.0.0/16"))


def test_it_arrives_as_it_was() -> None:
    guards = [GUARD, replace(GUARD, rules=(RULE,), firewall=()), replace(GUARD, rules=())]
    assert unpack(pack(guards, [3, 7])) == (guards, [3, 7])
    assert unpack("") == ([], [])


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 'one"; flush ruleset'},
        {"port": "one*"},
        {"port": ""},
        {"port": "a" * 16},
        {"mac": "02:00:0a:42:00:0a drop"},
        {"addresses": ("10.66.0.10 drop",)},
        {"rules": (replace(RULE, addresses=("10.0.0.1-nobody",)),)},
        {"firewall": (replace(RULE, addresses=("}",)),)},
    ],
)
def test_what_can_not_be_part_of_a_rule_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidValue, match="NIC 0 of machine 3"):
        unpack(pack([replace(GUARD, **wrong)], [3]))


@pytest.mark.parametrize("text", ["nonsense", "AAAA", "é", "eJyLjgUAARUAuQ==", "eJyrrgUAAXUA+Q=="])
def test_what_is_no_list_of_them_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="option guards"):
        unpack(text)


def test_a_firewall_alone_lets_everything_out_and_in_what_it_names() -> None:
    bare = replace(GUARD, filter_mac=False, filter_ip=False)
    assert not bare.filters and bare.effective_rules is None
    walled = replace(bare, firewall=(RULE,))
    assert walled.filters and walled.effective_rules == (GuardRule("inbound", "ALL"), GuardRule("outbound", "ALL"))
    assert replace(walled, rules=(RULE,)).effective_rules == (RULE,)


def test_names_of_interfaces() -> None:
    for name in ("one-3-0", "tap7", "vnet0.100", "eth0:1", "A_b@c"):
        check_port(name, "NIC 0")
