# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks, security groups and routers of one list, by module nebula_network against a real catalog."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.modules import nebula_network


def test_networks_groups_and_routers_of_one_list_name_each_other(options, tmp_path):
    given = {
        "networks": [
            {
                "name": "a",
                "vn_mad": "ovn",
                "network_address": "10.1.0.0/24",
                "gateway": "10.1.0.1",
                "security_groups": ["g"],
            }
        ],
        "with_security_groups": [{"name": "g", "rules": [{"rule_type": "inbound", "network": "a"}]}],
        "with_routers": [{"name": "r", "interfaces": [{"network": "a"}]}],
    }

    def run(check, **more):
        return nebula_network.call.run(options(nebula_network, root=str(tmp_path), **more), check)

    predicted, made = run(True, **given), run(False, **given)
    assert not made.errors and predicted.changed and made.changed
    assert [item.name for item in made.items] == ["a", "security group g", "router r"]
    assert [item.name for item in predicted.items] == [item.name for item in made.items]
    assert made.payload["networks"][0]["attributes"]["SECURITY_GROUPS"] == "100"
    assert made.payload["security_groups"][0]["rules"][0]["network_id"] == 0
    assert not run(False, **given).changed
    refused = run(False, networks=[{"name": "a", "state": "absent"}]).errors
    assert "router r has an address in it" in str(refused[0].error)
    gone = {
        "networks": [{"name": "a", "state": "absent"}],
        "with_security_groups": [{"name": "g", "state": "absent"}],
        "with_routers": [{"name": "r", "state": "absent"}],
    }
    predicted, removed = run(True, **gone), run(False, **gone)
    assert not removed.errors and predicted.changed and removed.changed
    assert {item.name for item in removed.items if item.is_changed} == {"a", "security group g", "router r"}
    assert not run(False, **gone).changed


def test_networks_do_not_name_a_new_group_that_is_refused(options, tmp_path):
    network = {"name": "a", "vn_mad": "ovn", "network_address": "10.1.0.0/24", "security_groups": ["g"]}
    wrong = {"name": "g", "rules": [{"rule_type": "inbound", "network": "nosuch"}]}
    given = options(
        nebula_network,
        root=str(tmp_path),
        networks=[network, {"name": "b", "vn_mad": "ovn"}],
        with_security_groups=[wrong],
    )
    for check in (True, False):
        result = nebula_network.call.run(given, check)
        assert [item.name for item in result.errors] == ["a", "security group g"]
        assert [each["name"] for each in result.payload["networks"]] == ["b"]
