# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cards have a row for each machine, and go on in another card where there are many."""

from __future__ import annotations

import topologies

from ansible_collections.nebula.provision.plugins.plugin_utils.topology import cards
from ansible_collections.nebula.provision.plugins.plugin_utils.topology.geometry import Block, Mark, Text
from ansible_collections.nebula.provision.plugins.plugin_utils.topology.site import read_site


def test_machines_are_grouped_by_node_and_those_without_one_come_last():
    site = read_site(topologies.thirty())
    found = list(cards.by_node(site, site.by_network["storage"], "storage"))
    assert [(card.title, card.right) for card in found] == [
        ("kvm1", "kvm MONITORED · 2"),
        ("kvm2", "kvm MONITORED · 2"),
        ("kvm3", "kvm ERROR · 2"),
        ("on no node yet", "1"),
    ]
    assert [card.mood for card in found] == ["good", "good", "bad", "moving"]
    assert "No route to host" in found[2].whole


def test_a_card_with_many_machines_goes_on_in_another():
    site = read_site(topologies.crowded())
    found = list(cards.by_node(site, site.by_network["private-0"], "private-0"))
    assert [card.right.rpartition("· ")[2] for card in found] == [
        *("1–20 of 95", "21–40 of 95", "41–60 of 95", "61–80 of 95", "81–95 of 95"),
    ]
    assert [row.machine.name for card in found for row in card.rows] == [f"web-{n}" for n in range(95)]


def test_a_row_says_what_there_is_to_know_of_a_machine_in_this_network():
    site = read_site(topologies.thirty())
    by_name = {m.name: m for m in site.machines}
    (row,) = cards.machine_rows([by_name["db-0"]], "red-back")
    assert row.address == "10.1.1.30"
    assert [text for text, _mono in row.lines] == [
        "2001:db8:1:2:0:aff:fe01:1",
        "security groups: db",
        "also in storage",
    ]
    (row,) = cards.machine_rows([by_name["shop-0"]], "red-front")
    assert ("203.0.113.10 floating", True) in row.lines
    (row,) = cards.machine_rows([by_name["lonely"]], "")
    assert (row.address, row.lines) == ("", ())


def test_two_addresses_in_one_network_are_both_there_and_a_mac_stands_for_none():
    twice = topologies.machine(0, "a", "RUNNING", "n", topologies.nic("x", "10.0.0.1"), topologies.nic("x", "10.0.0.2"))
    bare = topologies.machine(1, "b", "RUNNING", "n", {"network": "x", "mac": "02:00:00:00:00:09"})
    first, second = cards.machine_rows(read_site({"vms": [twice, bare]}).machines, "x")
    assert (first.address, first.lines) == ("10.0.0.1", (("10.0.0.2", True),))
    assert second.address == "02:00:00:00:00:09"


def test_addresses_of_aliases_are_below_those_of_their_nic():
    first, second = topologies.nic("x", "10.0.0.1"), topologies.nic("y", "10.0.0.2")
    aliases = [
        {"parent_id": 0, "ip": "10.0.0.7", "ip6": "fd00::7"},
        {"parent_id": 0, "ip": "10.0.0.8", "external": True},
        {"parent_id": 1, "ip": "10.0.0.9"},
    ]
    nics = [{**first, "nic_id": 0}, {**second, "nic_id": 1}]
    machine = topologies.machine(0, "a", "RUNNING", "n", *nics, nic_aliases=aliases)
    (row,) = cards.machine_rows(read_site({"vms": [machine]}).machines, "x")
    assert [text for text, _mono in row.lines] == ["10.0.0.7 alias", "fd00::7 alias", "also in y"]


def test_a_row_has_its_state_as_sign_and_word():
    site = read_site(topologies.three())
    (card,) = cards.by_node(site, site.by_network["Public"], "Public")
    block = Block("", "", card.height)
    card.draw(block, 0, 0, 340)
    marks = [shape.mood for shape in block.shapes if isinstance(shape, Mark)]
    words = [shape.text for shape in block.shapes if isinstance(shape, Text)]
    assert marks == ["good", "good", "good", "off"]
    assert words == [
        *("kvm1", "kvm MONITORED · 3"),
        *("web-0", "10.66.0.10", "RUNNING", "web-1", "10.66.0.11", "RUNNING", "web-2", "10.66.0.12", "POWEROFF"),
    ]


def test_nodes_and_security_groups_have_cards():
    site = read_site(topologies.thirty())
    lines = {node.name: [text for text, _mono in cards.of_node(site, node).lines] for node in site.nodes}
    assert lines["kvm1"][0] == "11 machines: 10 RUNNING, 1 BOOT" and lines["kvm4"] == ["no machines"]
    assert lines["kvm3"][2] == "ssh: connect to host kvm3 port 22: No route to host"
    found = {group.name: cards.of_group(site, group) for group in site.groups}
    assert found["db"].right == "2 rules · 6 machines"
    many = read_site({"security_groups": [{"name": "a", "rules": ["x"] * 9}, {"name": "b"}]}).groups
    assert [text for text, _mono in cards.of_group(site, many[0]).lines][-1] == "and 3 more rules: see the table"
    assert cards.of_group(site, many[1]).lines == (("no rules", False),)
