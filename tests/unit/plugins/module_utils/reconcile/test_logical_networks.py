# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What OVN could not be told of is refused by the item that brings it about, and by no other."""

from __future__ import annotations

import contextlib

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState
from ansible_collections.nebula.provision.plugins.module_utils.reconcile import networks, routers, security_groups
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.logical_networks import problem

TENANT = {"name": "Tenant", "vn_mad": "ovn", "network_address": "10.0.0.0/24", "gateway": "10.0.0.1"}
SAME = {"name": "Same", "vn_mad": "ovn", "network_address": "10.0.0.0/25", "gateway": "10.0.0.1"}
OUTSIDE = {
    "name": "Outside", "vn_mad": "ovn", "network_address": "172.24.1.0/24", "gateway": "172.24.1.1",
    "physical_network": "p", "address_ranges": [{"ip": "172.24.1.10", "size": 9}],
}  # fmt: skip
BARE = {"name": "Bare", "vn_mad": "ovn"}
EDGE = {"name": "edge", "interfaces": [{"network": "Tenant"}], "gateway": {"network": "Outside"}}


@pytest.fixture
def engine(tmp_path):
    with contextlib.closing(EmbeddedEngine(str(tmp_path), create=True)) as opened, opened.session():
        opened.hosts.allocate(Host(None, "node1", state=HostState.MONITORED, memory=1, cpu=1))
        done, _views, _warnings = networks.apply_all(opened, [TENANT, SAME, OUTSIDE, BARE], False)
        assert [str(item.error) for item in done if item.error] == []
        assert routers.apply(opened, EDGE).error is None
        yield opened


def applied(engine, kind, item):
    if kind == "network":
        return networks.apply_all(engine, [item], False)[0][0]
    return (routers if kind == "router" else security_groups).apply(engine, item)


@pytest.mark.parametrize(
    ("kind", "item", "words"),
    [
        ("network", {**TENANT, "network_address": "10.1.0.0/24", "gateway": "10.1.0.1"}, "router edge: address"),
        ("network", {"name": "Tenant", "search_domain": "a..b"}, "search domain"),
        ("network", {"name": "Outside", "physical_network": ""}, "it is no external network"),
        ("router", {"name": "edge", "routes": [{"destination": "8.0.0.0/8", "next_hop": "9.9.9.9"}]}, "by 9.9.9.9: "),
        ("router", {"name": "edge", "interfaces": [{"network": "Tenant"}, {"network": "Same"}]}, "overlaps"),
        (
            "router",
            {"name": "edge", "interfaces": [{"network": "Tenant"}, {"network": "Outside", "ip": "172.24.1.99"}]},
            "it has an interface there, too",
        ),
        ("router", {"name": "edge", "interfaces": [{"network": "Bare", "ip": "10.0.0.1"}]}, "no NETWORK_ADDRESS"),
        (
            "security group",
            {"name": "web", "rules": [{"rule_type": "inbound", "network": "Bare"}]},
            "network Bare has no addresses that are known",
        ),
        (
            "security group",
            {"name": "web", "rules": [{"rule_type": "inbound", "protocol": "icmp", "ip": "2001:db8::1"}]},
            "ICMP is of the other IP",
        ),
    ],
)  # fmt: skip
def test_it_is_refused_and_nothing_of_it_is_kept(engine, kind, item, words):
    pools = [engine.networks.pool(), engine.routers.pool(), engine.security_groups.pool()]
    done = applied(engine, kind, item)
    assert words in str(done.error)
    assert [engine.networks.pool(), engine.routers.pool(), engine.security_groups.pool()] == pools
    assert problem(engine) is None


def test_what_was_so_before_is_no_fault_of_the_item(engine):
    engine.store.db.execute("UPDATE networks SET attributes = '{\"SEARCH_DOMAIN\": \"a..b\"}' WHERE name = 'Bare'")
    assert problem(engine) is not None
    done = applied(engine, "network", {"name": "Tenant", "dns": ["9.9.9.9"]})
    assert done.error is None
    assert done.is_changed
    assert engine.networks.info("Tenant").attributes["DNS"] == "9.9.9.9"
    assert applied(engine, "network", {"name": "Bare", "search_domain": "example.net"}).error is None
    assert problem(engine) is None
