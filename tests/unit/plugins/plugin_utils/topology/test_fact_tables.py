# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables have every fact of the picture, and no column in which nothing is said."""

from __future__ import annotations

from xml.etree.ElementTree import Element

import topologies

from ansible_collections.nebula.provision.plugins.plugin_utils.topology.fact_tables import tables
from ansible_collections.nebula.provision.plugins.plugin_utils.topology.site import read_site


def rows(section: Element) -> list[list[str]]:
    return [["".join(cell.itertext()) for cell in line] for line in section.iter("tr")]


def drawn(given):
    return {section[0].text: section for section in tables(read_site(given))}


def test_a_table_has_the_columns_in_which_something_is_said():
    found = drawn(topologies.three())
    assert list(found) == ["Machines", "Networks", "Nodes"]
    assert rows(found["Machines"])[:2] == [
        ["ID", "name", "state", "wanted", "node", "network", "addresses", "MAC"],
        ["0", "web-0", "RUNNING", "RUNNING", "kvm1", "Public", "10.66.0.10", "02:00:0a:42:00:0a"],
    ]
    assert rows(found["Nodes"]) == [["name", "hypervisor", "state", "machines"], ["kvm1", "kvm", "MONITORED", "3"]]


def test_every_nic_leg_and_rule_has_a_row():
    found = drawn(topologies.thirty())
    machines = rows(found["Machines"])
    assert [line[5:7] for line in machines if line[1] == "db-0"] == [
        ["red-back", "10.1.1.30, 2001:db8:1:2:0:aff:fe01:1"],
        ["storage", "172.16.9.10"],
    ]
    assert [line[5:7] for line in machines if line[1] == "lonely"] == [["", ""]]
    assert ["red-router", "red", "", "gateway", "internet", "203.0.113.2"] in rows(found["Routers"])
    assert ["red-router", "203.0.113.12", "10.1.0.12", "shop-2"] in rows(found["Floating addresses"])
    assert ["100", "db", "red", "inbound ICMP icmp_type 8"] in rows(found["Security groups"])
    assert (
        next(line for line in rows(found["Networks"]) if line[1] == "internet")[-1].startswith("external, DHCP")
        is False
    )
    assert next(line for line in rows(found["Networks"]) if line[1] == "internet")[-1] == "external, DNS 9.9.9.9"


def test_an_alias_is_among_the_addresses_of_its_nic():
    nic = {**topologies.nic("x", "10.0.0.1"), "nic_id": 2}
    given = topologies.machine(0, "a", "RUNNING", "n", nic, nic_aliases=[{"parent_id": 2, "ip": "10.0.0.7"}])
    (line,) = [line for line in rows(drawn({"vms": [given]})["Machines"]) if "a" in line]
    assert "10.0.0.1, 10.0.0.7 alias" in line


def test_a_state_has_the_class_of_its_colour():
    cells = [cell for cell in drawn(topologies.three())["Machines"].iter("td") if "state" in cell.get("class", "")]
    assert [cell.get("class") for cell in cells] == ["state good short", "state good short", "state off short"]


def test_of_nothing_the_tables_that_every_site_has_say_so():
    found = drawn(topologies.empty())
    assert {title: section[1].text for title, section in found.items()} == dict.fromkeys(
        ("Machines", "Networks", "Nodes"), "none"
    )
