# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks of Open vSwitch by site.yml: guests on two nodes in the VLANs of their networks, a second run that changes
nothing, an audit that finds what is changed by hand, and bare nodes after the teardown."""

from __future__ import annotations

from typing import Any

import pytest
from in_world import in_nodes
from nodes import Node

from ansible_collections.nebula.provision.tests.integration.sent_site import hosts, state_of
from ansible_collections.nebula.provision.tests.integration.site_runs import changed_tasks
from ansible_collections.nebula.provision.tests.integration.tenants_site import TEMPLATE, Guest, Sent, Tenants


class Switched(Tenants):
    def __init__(self, image: str) -> None:
        super().__init__(image)
        self.nodes = self.nodes[:2]
        for name in ("nebula_ovn", "nebula_ovn_datapath", "nebula_routers"):
            del self.variables[name]
        self.variables |= {
            "nebula_templates": [{"name": "web", "template": TEMPLATE}],
            "nebula_networks": [network("ten", "192.168.0.10"), network("twenty", "192.168.0.20")],
            "nebula_vms": [
                machine("one", "node1", "ten", trunk="300"),
                machine("two", "node2", "ten"),
                machine("other", "node2", "twenty"),
            ],
        }

    inventory = Sent.inventory


def network(name: str, first: str, **changes: Any) -> dict[str, Any]:
    """Both have the same addresses."""
    return {
        "name": name,
        "vn_mad": "ovswitch",
        "phydev": "eth1",
        "vlan_ids": "100-199",
        "network_address": "192.168.0.0/24",
        "address_ranges": [{"type": "IP4", "ip": first, "size": 5}],
        **changes,
    }


def machine(name: str, host: str, network: str, trunk: str = "") -> dict[str, Any]:
    nic = {"NETWORK": network, **({"VLAN_TAGGED_ID": trunk} if trunk else {})}
    return {"name": name, "template": "web", "host": host, "nics": [nic]}


def vsctl(node: Node, *words: str) -> str:
    return node.run("ovs-vsctl", "--timeout=10", *words).stdout.strip()


@pytest.mark.timeout(1200)
@in_nodes(3)
def test_guests_are_in_the_vlans_of_their_networks(image: str) -> None:
    site = Switched(image)
    with hosts(site):
        before = {node.name: state_of(node) for node in site.nodes}
        site.done("site.yml")
        again = site.done("site.yml")
        assert changed_tasks(again) == [], again
        guests = site.guests()
        reach(guests)
        one, two = site.nodes
        assert vsctl(one, "get", "Port", "one-0-0", "vlan_mode") == "native-untagged"
        tag = vsctl(two, "get", "Port", "one-1-0", "tag")
        assert tag == vsctl(one, "get", "Port", "one-0-0", "tag") != vsctl(two, "get", "Port", "one-2-0", "tag")
        audited(site, two)
        site.done("playbooks/teardown.yml")
        assert {node.name: state_of(node) for node in site.nodes} == before


def reach(guests: dict[str, Guest]) -> None:
    for guest in guests.values():
        guest.up()
    assert guests["one"].reaches(guests["two"].ip, tries=20)
    assert not guests["one"].reaches(guests["other"].ip, tries=2)
    assert not guests["two"].reaches(guests["other"].ip, tries=2)


def audited(site: Switched, node: Node) -> None:
    """What was changed by hand is found, and the next run makes it again."""
    code, output = site.run("playbooks/audit.yml")
    assert code == 0, output
    vsctl(node, "set", "Port", "one-1-0", "tag=4000")
    vsctl(node, "del-port", "eth1")
    code, output = site.run("playbooks/audit.yml")
    assert code != 0
    for found in ("eth1 is not attached to it", "its interface one-1-0 carries VLAN 4000, and is to carry VLAN "):
        assert found in output, output
    output = site.done("site.yml")
    assert changed_tasks(output) == ["Make their bridges on each node"], output
    vsctl(node, "del-br", "onebr0")
    code, output = site.run("playbooks/audit.yml")
    assert code != 0 and "Open vSwitch has none" in output, output
