# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Items of a list of routers: which addresses they mean. tests/unit/plugins/modules/test_nebula_router.py shows the
rest, as users meet it."""

from __future__ import annotations

import contextlib

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.base import named
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.reconcile import networks, routers
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.network_views import router_view

NETWORKS = [
    {"name": "Tenant", "vn_mad": "ovn", "network_address": "10.0.0.0/24", "gateway": "10.0.0.1"},
    *(
        {
            "name": f"Out{n}", "vn_mad": "ovn", "network_address": f"172.24.{n}.0/24", "gateway": f"172.24.{n}.1",
            "physical_network": f"p{n}", "address_ranges": [{"ip": f"172.24.{n}.10", "size": 5}],
        }
        for n in (1, 2)
    ),
]  # fmt: skip
EDGE = {"name": "edge", "interfaces": [{"network": "Tenant"}], "gateway": {"network": "Out1"}}


@pytest.fixture
def apply(tmp_path):
    with contextlib.closing(EmbeddedEngine(str(tmp_path), create=True)) as engine, engine.session():
        assert not [item for item in networks.apply_all(engine, NETWORKS, False)[0] if item.error]

        def one(**item):
            done = routers.apply(engine, {**EDGE, **item})
            assert done.error is None, done.error
            return done

        one.engine = engine
        yield one


def floating(done):
    return [(each["ip"], each["vm"]) for each in done.after["floating"]]


def test_each_machine_keeps_its_floating_address_in_any_order(apply):
    first = apply(floating=[{"vm": "a"}, {"vm": "b"}, {"ip": "172.24.1.14"}])
    assert floating(first) == [("172.24.1.11", "a"), ("172.24.1.12", "b"), ("172.24.1.14", "")]
    turned = apply(floating=[{"vm": "b"}, {"vm": "a"}, {"ip": "172.24.1.14", "vm": "c"}])
    assert floating(turned) == [("172.24.1.12", "b"), ("172.24.1.11", "a"), ("172.24.1.14", "c")]
    assert not apply(floating=[{"vm": "b"}, {"vm": "a"}, {"ip": "172.24.1.14", "vm": "c"}]).is_changed
    # Given by name to another, it is no more the first one's.
    moved = apply(floating=[{"vm": "a", "ip": "172.24.1.12"}, {"vm": "b"}])
    assert floating(moved)[0] == ("172.24.1.12", "a")
    assert len({ip for ip, _vm in floating(moved)}) == 2


def test_in_another_external_network_all_of_them_are_new(apply):
    apply(floating=[{"vm": "a"}])
    moved = apply(gateway={"network": "Out2"}, floating=[{"vm": "a"}])
    assert (moved.after["gateway"]["ip"], floating(moved)) == ("172.24.2.10", [("172.24.2.11", "a")])
    assert [r.used for n in apply.engine.networks.pool() for r in n.address_ranges] == [0, 2]


def test_networks_that_routers_have(apply):
    assert routers.networks_in_use(apply.engine) == set()
    apply()
    assert routers.networks_in_use(apply.engine) == {"Tenant", "Out1"}


def test_an_error_leaves_what_was(apply):
    before = apply().after
    done = routers.apply(apply.engine, {**EDGE, "gateway": {}, "floating": [{"vm": "a"}]})
    assert "the router has no gateway" in str(done.error)
    assert (done.after, done.is_changed) == (None, False)
    assert router_view(apply.engine.routers.info("edge")) == before
    assert routers.apply(apply.engine, {"name": "nobody", "state": "absent"}).error is None


USELESS = {
    "2001:db8:9::/48 by 10.0.0.9": "the destination is of IPv6 and the next hop of IPv4",
    "::/0 by 10.0.0.9": "the destination is of IPv6 and the next hop of IPv4",
    "10.9.0.0/16 by 10.0.0.1": "the next hop is an address of the router itself",
    "10.9.0.0/16 by 172.24.1.10": "the next hop is an address of the router itself",
    "10.9.0.0/16 by 172.24.1.11": "the next hop is an address of the router itself",
    "10.9.0.0/16 by 10.0.0.255": "the next hop is the address of a whole network, or its broadcast address",
    "0.0.0.0/0 by 10.0.0.9": "its gateway has the default route by 172.24.1.1",
    "10.0.0.0/24 by 172.24.1.9": "the router is in that network itself",
    "10.9.0.0/16 by 192.168.5.1": "the router is in no network that has the next hop",
    "172.24.1.11/32 by 10.0.0.9": "the destination is an address of the router itself",
}


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("route", USELESS)
def test_a_route_that_leads_nowhere_is_refused(apply, route, there):
    before = apply(floating=[{"vm": "a"}]).after if there else None
    destination, hop = route.split(" by ")
    routes = [{"destination": destination, "next_hop": hop}]
    done = routers.apply(apply.engine, {**EDGE, "floating": [{"vm": "a"}], "routes": routes})
    assert f"router edge: route to {destination} by {hop}" in str(done.error) and USELESS[route] in str(done.error)
    found = named(apply.engine.routers.info, "edge")
    assert (None if found is None else router_view(found)) == before


def test_a_gateway_whose_next_hop_is_the_router_is_refused_when_it_is_new(apply, monkeypatch):
    wrong = {"network": "Out1", "ip": "172.24.1.12", "next_hop": "172.24.1.12"}
    told = "route to 0.0.0.0/0 by 172.24.1.12: the next hop is an address of the router itself"
    assert told in str(routers.apply(apply.engine, {**EDGE, "gateway": wrong}).error)
    with monkeypatch.context() as patch:
        patch.setattr(routers, "useless_routes", lambda *_given: [])
        apply(gateway=wrong)
    assert apply(gateway=wrong, description="altered").is_changed
    assert apply(gateway={"network": "Out1", "next_hop": "172.24.1.9"}).is_changed


def test_what_makes_a_route_lead_nowhere_is_refused_and_what_was_there_stays(apply, monkeypatch):
    route = {"destination": "0.0.0.0/0", "next_hop": "10.0.0.9"}
    apply(gateway={}, routes=[route])
    done = routers.apply(apply.engine, EDGE)
    assert "its gateway has the default route by 172.24.1.1" in str(done.error)
    # Of a catalog from before this was looked at.
    with monkeypatch.context() as patch:
        patch.setattr(routers, "useless_routes", lambda *_given: [])
        old = apply()
    assert len(old.after["routes"]) == 1 and not apply(routes=[route]).is_changed
    assert apply(description="altered").is_changed
    two = [route, {"destination": "10.9.0.0/16", "next_hop": "10.0.0.1"}]
    assert "10.9.0.0/16 by 10.0.0.1" in str(routers.apply(apply.engine, {**EDGE, "routes": two}).error)
    assert apply(routes=[]).is_changed


def test_routes_that_lead_somewhere_are_taken(apply):
    given = [
        {"destination": destination, "next_hop": hop}
        for destination, hop in (
            ("10.9.0.0/16", "10.0.0.9"),
            # Before there is a node, as check mode has it in a first run, nothing carries the gateway.
            ("10.0.0.128/25", "172.24.1.9"),
            ("10.8.0.1/32", "10.0.0.8"),
        )
    ]
    assert apply(routes=given).after["routes"] == given
