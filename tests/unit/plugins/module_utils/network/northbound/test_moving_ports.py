# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A port whose machine moves while it runs is on both of its hosts, as far as OVN can have it there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.logical_network import LogicalNetworks
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound import moving_ports
from ansible_collections.nebula.provision.tests.integration.northbound_world import ONE, nic

BOTH = ("node1", "node2")
ABLE = "23.03.1-20.27.0-70.6"
STAYING = nic(ONE)
MOVING = replace(STAYING, between=BOTH)
DESIRED = LogicalNetworks(ports=(nic(112), MOVING))


def test_a_port_that_stays_has_nothing_of_it():
    assert (moving_ports.options(STAYING), moving_ports.marks(STAYING)) == ({}, {})
    unmoved = LogicalNetworks(ports=(STAYING,))
    assert moving_ports.for_version(unmoved, "") is unmoved
    assert moving_ports.warnings(unmoved, "") == []


def test_a_port_is_on_both_hosts_and_waits_for_its_machine_on_the_second():
    assert moving_ports.for_version(DESIRED, ABLE) is DESIRED
    assert moving_ports.options(MOVING) == {"requested-chassis": "node1,node2", "activation-strategy": "rarp"}
    assert moving_ports.marks(MOVING) == {"nebula-moving": "node1,node2"}
    assert moving_ports.warnings(DESIRED, ABLE) == []


@pytest.mark.parametrize(("version", "both"), [
    ("22.09.0-20.25.0-68.0", True), ("24.03.2-20.33.0-72.6", True), ("22.06.1-20.23.0-65.0", False),
    ("20.12.0-2.12.0-52.0", False), ("", False), ("22", False), ("what.ever.1", False),
])  # fmt: skip
def test_an_earlier_ovn_keeps_it_where_it_leaves(version, both):
    other, port = moving_ports.for_version(DESIRED, version).ports
    assert other == DESIRED.ports[0]
    assert port == (MOVING if both else replace(MOVING, between=("node1",)))
    assert moving_ports.options(port).get("activation-strategy") == ("rarp" if both else None)
    assert [text.partition(":")[0] for text in moving_ports.warnings(DESIRED, version)] == [MOVING.name] * (not both)


def test_what_an_earlier_ovn_lacks_is_said_with_its_version():
    (text,) = moving_ports.warnings(DESIRED, "22.03.0-20.21.0-61.4")
    assert "moves to host node2, and OVN (version 22.03.0) has a port on one host at a time" in text
