# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The firewall of a context on venet: whom it is about, what it lets in, and the scripts that vzctl runs."""

from __future__ import annotations

from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.openvz import venet_firewall
from ansible_collections.nebula.provision.plugins.module_utils.model.context import Context
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Alias, Nic
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm

# The seed's own.
FIREWALL = "\n[*]\n111.111.111.0/24\n\n[22]\n222.222.0.0/16\n"
VENET = Nic(0, 0, "lan", "br0", "02:00:0a:00:00:07", "10.0.0.7", "fd00::7")
VETH = Nic(1, 0, "lan", "br0", "02:00:0a:00:00:08", "10.0.0.8", model="veth")


def machine(text: str = FIREWALL, **values: Any) -> Vm:
    context = Context(1, "", variables={"FIREWALL": text})
    return Vm(7, "u", "web", "openvz", 1.0, 64, **{"nics": (VENET, VETH), "context": context, **values})


def test_it_is_about_the_addresses_of_venet() -> None:
    addresses, passing = venet_firewall.guarded_addresses(machine())
    assert addresses == ["10.0.0.7", "fd00::7"] and len(passing) == 2
    alias = Alias(2, 0, "lan", "br0", "02:00:0a:00:00:09", "10.0.0.9", parent_id=0)
    assert "10.0.0.9" in venet_firewall.guarded_addresses(machine(aliases=(alias,)))[0]
    assert venet_firewall.guarded_addresses(machine(nics=(VETH,))) == ([], ())
    assert venet_firewall.guarded_addresses(machine("a word of the guest's own")) == ((), ())
    assert venet_firewall.guarded_addresses(machine(context=None)) == ((), ())


def test_what_is_named_comes_in_and_all_else_does_not() -> None:
    text = venet_firewall.mount_script(100007, *venet_firewall.guarded_addresses(machine()))
    lines = [line.strip() for line in text.splitlines()]
    assert lines[:3] == ["#!/bin/sh", venet_firewall.MARK, "exec nft -f - <<'RULES'"]
    rules = lines[lines.index("chain passing {") + 1 : lines.index("drop") + 1]
    assert rules == [
        "ct state established,related accept",
        "ip saddr { 111.111.111.0/24 } accept",
        "ip saddr { 222.222.0.0/16 } tcp dport { 22 } accept",
        "drop",
    ]
    assert lines.count('oifname "venet0" ip daddr { 10.0.0.7 } jump passing') == 2
    assert lines.count('oifname "venet0" ip6 daddr { fd00::7 } jump passing') == 2


def test_everybody_and_both_families_and_spans() -> None:
    text = venet_firewall.mount_script(
        7, *venet_firewall.guarded_addresses(machine("[80,udp:53] * [1000:1005] fd01::/16 10.1.1.1"))
    )
    assert "    tcp dport { 80 } accept\n" in text and "    udp dport { 53 } accept\n" in text
    assert "ip saddr { 10.1.1.1/32 } tcp dport { 1000-1005 } accept" in text
    assert "ip6 saddr { fd01::/16 } tcp dport { 1000-1005 } accept" in text


def test_what_was_made_is_taken_away_by_its_name() -> None:
    assert "nft delete table inet nebula_ct7 " in venet_firewall.unmount_script(7)
    assert venet_firewall.MARK in venet_firewall.unmount_script(7)
