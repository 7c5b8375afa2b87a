# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On how many nodes the machines of a network are, in a real SQLite file."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.networks.network_hosts import (
    refuse_second_node,
    spread,
)
from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict


@pytest.fixture
def on_two_nodes(catalog):
    """A network with two machines on one node, and one on another."""
    network = catalog.public()
    catalog.store.db.executemany(
        "INSERT INTO hosts (id, name, hypervisor, state) VALUES (?, ?, 'kvm', 2)", [(0, "node1"), (1, "node2")]
    )
    catalog.store.db.execute("UPDATE vms SET host_id = id = 3 WHERE id IN (1, 2, 3)")
    catalog.lease(network, 1, 2, 3)
    return network


def test_machines_are_counted_by_node(catalog, on_two_nodes):
    found = spread(catalog.store, on_two_nodes)
    assert dict(found[on_two_nodes.id].hosts) == {"node1": 2, "node2": 1}
    assert found == spread(catalog.store)
    assert catalog.networks.spread_out() == list(found.values())


def test_a_machine_that_is_to_end_does_not_count(catalog, on_two_nodes):
    catalog.store.db.execute("UPDATE vms SET wanted = 'DONE' WHERE id = 3")
    assert catalog.networks.spread_out() == []


def test_one_node_is_refused_on_two(catalog, on_two_nodes):
    refuse_second_node(catalog.store, on_two_nodes)
    one = catalog.networks.update("Public", attributes={**on_two_nodes.attributes, "ONE_NODE": "YES"})
    with pytest.raises(Conflict, match=r"one_node.*2 on node1, 1 on node2"):
        refuse_second_node(catalog.store, one)
