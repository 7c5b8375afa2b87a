# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""FIREWALL in CONTEXT: what it lets in, and what it can't be."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.context_firewall import (
    firewall_of_body,
    is_firewall,
    read,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.nic_filter_rules import GuardRule

SEED = """
                [*]
                111.111.111.0/24

                [22]
                222.222.0.0/16
               """


def let_in(protocol: str, *addresses: str, ports: tuple[tuple[int, int], ...] = ()) -> GuardRule:
    return GuardRule("inbound", protocol, ports, addresses)


@pytest.mark.parametrize(
    "text", [SEED, "[*] 111.111.111.0/24 [22] 222.222.0.0/16", "[*]111.111.111.0/24[22]222.222.0.0/16"]
)
def test_that_of_openvz_is_read(text: str) -> None:
    assert read(text, "VM") == (let_in("ALL", "111.111.111.0/24"), let_in("TCP", "222.222.0.0/16", ports=((22, 22),)))


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("[80, 443,8000:8010] *", [let_in("TCP", ports=((80, 80), (443, 443), (8000, 8010)))]),
        ("[80-90,85,91] 10.0.0.1", [let_in("TCP", "10.0.0.1/32", ports=((80, 91),))]),
        ("[udp:53,tcp:53] *", [let_in("UDP", ports=((53, 53),)), let_in("TCP", ports=((53, 53),))]),
        ("[22] 10.1.0.0/16 10.0.0.0/8 10.1.2.3", [let_in("TCP", "10.0.0.0/8", ports=((22, 22),))]),
        ("[22] 10.0.0.0/8 *", [let_in("TCP", ports=((22, 22),))]),
        (
            "[22] 10.0.0.1 2001:db8::/32",
            [let_in("TCP", "10.0.0.1/32", ports=((22, 22),)), let_in("TCP", "2001:db8::/32", ports=((22, 22),))],
        ),
        ("# of ours\n[22] # ssh [80]\n*", [let_in("TCP", ports=((22, 22),))]),
        ("[22] * [22] *", [let_in("TCP", ports=((22, 22),))]),
    ],
)
def test_ports_and_addresses(text: str, rules: list[GuardRule]) -> None:
    assert list(read(text, "VM")) == rules


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("10.0.0.1 [22] *", "10.0.0.1"),
        ("[22", "[22: there is no ]"),
        ("[22]", "[22]: nobody is named"),
        ("[22] * [80] [443] *", "[80]: nobody"),
        ("[] *", "'' is no port"),
        ("[ssh] *", "'ssh' is no port"),
        ("[0] *", "'0' is no port"),
        ("[22,70000] *", "'70000' is no port"),
        ("[*,22] *", "'*' is no port"),
        ("[icmp:8] *", "'icmp:8' is no port"),
        ("[22] example.org", "example.org"),
        ("[22] 10.0.0.1/8", "10.0.0.1/8"),
        ("[22] 10.0.0.256", "10.0.0.256"),
        ("[22] 10.0.0.1; flush", "10.0.0.1;"),
    ],
)
def test_what_can_not_be_meant_is_refused_by_name(text: str, named: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        read(text, "VM web")
    assert str(caught.value).startswith("VM web: CONTEXT/FIREWALL") and named in str(caught.value)


def test_a_variable_of_the_guests_own_is_none() -> None:
    assert not is_firewall("yes") and is_firewall("x [22]")
    assert firewall_of_body({}) is None and firewall_of_body({"context": None}) is None
    assert firewall_of_body({"context": {"variables": {"FIREWALL": "yes"}}}) is None
    assert firewall_of_body({"context": {"variables": {"FIREWALL": "[of older versions"}}}) is None
    assert firewall_of_body({"context": {"variables": {"FIREWALL": "[22] *"}}}) == read("[22] *", "")
