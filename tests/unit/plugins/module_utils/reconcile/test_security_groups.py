# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Items of a list of security groups, some of which networks name before their rules are known."""

from __future__ import annotations

import contextlib

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.base import named
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import InUse
from ansible_collections.nebula.provision.plugins.module_utils.model.network import Network
from ansible_collections.nebula.provision.plugins.module_utils.model.network_drivers import OVN
from ansible_collections.nebula.provision.plugins.module_utils.reconcile import security_groups
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.network_views import network_view

ADDRESSES = {"NETWORK_ADDRESS": "10.0.0.0", "NETWORK_MASK": "255.255.255.0"}

WEB = {"name": "web", "rules": [{"rule_type": "inbound", "protocol": "tcp", "range": "80, 8000-8010"}]}


@pytest.fixture
def engine(tmp_path):
    with contextlib.closing(EmbeddedEngine(str(tmp_path), create=True)) as opened, opened.session():
        yield opened


def test_what_was_begun_is_new_until_it_has_its_rules(engine):
    assert security_groups.begin(engine, [WEB, {"name": "gone", "state": "absent"}, {"name": 7}]) == ["web"]
    done = security_groups.apply(engine, WEB, ["web"])
    assert (done.before, done.after["rules"][0]["range"]) == (None, "80,8000:8010")
    assert security_groups.begin(engine, [WEB]) == []
    assert not security_groups.apply(engine, WEB).is_changed


def test_what_was_begun_and_can_not_be_does_not_stay(engine):
    wrong = {"name": "web", "rules": [{"rule_type": "sideways"}]}
    new = security_groups.begin(engine, [wrong])
    done = security_groups.apply(engine, wrong, new)
    assert "there is no such rule_type" in str(done.error)
    assert named(engine.security_groups.info, "web") is None


def test_a_rule_names_networks_of_ovn(engine):
    engine.networks.allocate(Network(None, "Plain", attributes={"NETWORK_ADDRESS": "10.0.0.0", "NETWORK_MASK": "24"}))
    done = security_groups.apply(engine, {"name": "web", "rules": [{"rule_type": "inbound", "network": "Plain"}]})
    assert "its driver is bridge, and rules act on networks of OVN" in str(done.error)


def test_a_rule_keeps_its_network(engine):
    network = engine.networks.allocate(Network(None, "Tenant", vn_mad=OVN, attributes=ADDRESSES))
    rule = {"rule_type": "inbound", "network": "Tenant"}
    security_groups.apply(engine, {"name": "web", "rules": [rule]})
    assert security_groups.networks_in_use(engine) == {"Tenant"}
    with pytest.raises(InUse, match="a rule of security group web names it"):
        engine.networks.delete(network.id)
    # What is to go keeps nothing; what stays after all has its rules again.
    with security_groups.without_rules(engine, [{"name": "web", "state": "absent"}]):
        assert security_groups.networks_in_use(engine) == set()
    assert security_groups.networks_in_use(engine) == {"Tenant"}
    security_groups.apply(engine, {"name": "web", "rules": []})
    engine.networks.delete(network.id)


def test_in_check_mode_a_network_goes_with_the_rules_that_its_task_has_changed(engine):
    engine.networks.allocate(Network(None, "Tenant", vn_mad=OVN, attributes=ADDRESSES))
    security_groups.apply(engine, {"name": "web", "rules": [{"rule_type": "inbound", "network": "Tenant"}]})
    (gone,) = engine.networks.pool()
    engine.declare({"networks": [network_view(gone) | {"state": "DONE"}]})
    assert engine.networks.pool() == []
