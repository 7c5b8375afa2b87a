# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Items of a list of routers: which addresses they mean. tests/unit/plugins/modules/test_nebula_router.py shows the
rest, as users meet it."""

from __future__ import annotations

import contextlib

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.reconcile import networks, routers

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
    assert (done.before, done.after, done.is_changed) == (before, before, False)
    assert routers.apply(apply.engine, {"name": "nobody", "state": "absent"}).error is None
