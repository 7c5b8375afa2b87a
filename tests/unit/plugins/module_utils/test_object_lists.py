# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What modules whose objects are a list have in common, each against a real catalog."""

from __future__ import annotations

import json

import pytest

from ansible_collections.nebula.provision.plugins.modules import (
    nebula_datastore,
    nebula_host,
    nebula_network,
    nebula_router,
    nebula_security_group,
    nebula_template,
)

NETWORKS = [
    {"name": "Tenant", "vn_mad": "ovn", "network_address": "192.168.0.0/24", "gateway": "192.168.0.1"},
    {
        "name": "Public",
        "vn_mad": "ovn",
        "network_address": "172.24.1.0/24",
        "gateway": "172.24.1.1",
        "physical_network": "physnet1",
        "address_ranges": [{"ip": "172.24.1.100", "end": "172.24.1.103"}],
    },
]
EDGE = {"interfaces": [{"network": "Tenant"}], "gateway": {"network": "Public"}}
FLOATING = {**EDGE, "floating": [{"vm": "web"}, {"ip": "172.24.1.103"}]}
HOST = {"hypervisor": "kvm", "memory": 4096, "cpu": 8.0}
SSH = {"rule_type": "inbound", "protocol": "TCP", "range": "22, 8000-8010", "ip": "10.9.0.0/16"}
TEXT = "CPU = 0.5\nMEMORY = 128\nDISK = [ IMAGE = debian ]\n"
MODULES = {
    "datastore": nebula_datastore,
    "host": nebula_host,
    "router": nebula_router,
    "security_group": nebula_security_group,
    "template": nebula_template,
}
# What is wanted of the object one time after the other, and whether that changes anything.
STEPS = {
    "datastore": [
        ({"description": "on flash", "attributes": {"TIER": 1}}, True),
        ({"description": "on flash", "attributes": {"TIER": 1}}, False),
        ({}, False),
        ({"capacity_check": False}, True),
        ({"capacity_check": False}, False),
    ],
    "host": [
        (HOST, True),
        (HOST, False),
        ({**HOST, "memory": 8192}, True),
        ({"state": "disabled"}, True),
        # What an administrator disabled, role node does not enable.
        ({**HOST, "memory": 8192}, False),
        ({"state": "enabled"}, True),
    ],
    "router": [
        (EDGE, True),
        (EDGE, False),
        ({}, False),
        (FLOATING, True),
        (FLOATING, False),
        ({"gateway": {"network": "Public", "snat": False}}, True),
        ({"routes": [{"destination": "10.9.0.0/16", "next_hop": "192.168.0.9"}]}, True),
        ({"floating": []}, True),
        ({"gateway": {}}, True),
    ],
    "security_group": [
        ({"rules": [SSH, {"rule_type": "outbound"}]}, True),
        ({"rules": [SSH, {"rule_type": "outbound"}]}, False),
        ({}, False),
        ({"description": "for the public"}, True),
        ({"rules": []}, True),
        ({"rules": []}, False),
    ],
    "template": [
        ({"template": TEXT}, True),
        ({"template": TEXT}, False),
        ({"template": {"disk": {"image": "debian"}, "cpu": "0.50", "memory": 128}}, False),
        ({"template": TEXT.replace("128", "256")}, True),
    ],
}
GONE = [({"state": "absent"}, True), ({"state": "absent"}, False)]
KINDS = sorted(STEPS)


@pytest.fixture
def run(options, tmp_path):
    """Give the result of one object by its options, or of a list of them."""
    root = str(tmp_path / "nebula")

    def called(kind, *items, check=False, **single):
        module = MODULES[kind]
        packed = {
            key: json.dumps(value) if isinstance(value, dict) and kind == "template" else value
            for key, value in single.items()
        }
        listed = {f"{kind}s": json.dumps(items) if kind == "template" else list(items)} if items else {}
        return module.call.run(options(module, root=root, **listed, **packed), check)

    return called


@pytest.fixture
def networks(options, tmp_path):
    (tmp_path / "nebula").mkdir()
    given = options(nebula_network, root=str(tmp_path / "nebula"), networks=NETWORKS)
    assert not nebula_network.call.run(given, False).errors


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("networks")
def test_created_again_updated_absent_and_absent_again_as_predicted(run, kind):
    for given, changes in [*STEPS[kind], *GONE]:
        predicted, real = run(kind, check=True, name="a", **given), run(kind, name="a", **given)
        assert [str(item.error) for item in real.errors] == []
        assert (predicted.changed, real.changed) == (changes, changes), given
        assert [view["name"] for view in predicted.payload[f"{kind}s"]] == [
            view["name"] for view in real.payload[f"{kind}s"]
        ]


@pytest.mark.parametrize("kind", KINDS)
def test_what_would_be_made_shows_nothing_that_is_rolled_back(run, kind, tmp_path):
    given = {} if kind == "router" else STEPS[kind][0][0]
    (foreseen,) = run(kind, {"name": "a", **given}, check=True).payload[f"{kind}s"]
    assert list(tmp_path.iterdir()) == []
    unknown = getattr(MODULES[kind].call, f"{kind.upper()}S").unknown
    assert foreseen["id"] is None and {key: foreseen[key] for key in unknown} == unknown
    if kind == "datastore":
        return
    (tmp_path / "nebula").mkdir()
    made = run(kind, {"name": "a", **given}).payload[f"{kind}s"]
    there, other = run(kind, {"name": "a", **given}, {"name": "b", **given}, check=True).payload[f"{kind}s"]
    assert [there] == made and other["id"] is None


@pytest.mark.parametrize("kind", KINDS)
def test_the_catalog_is_named_and_one_object_only_where_one_was_asked_for(run, kind, tmp_path):
    (tmp_path / "nebula").mkdir()
    given = {} if kind == "router" else STEPS[kind][0][0]
    one, many = run(kind, name="a", **given), run(kind, {"name": "a", **given})
    # What else is written to the disk meanwhile changes the room that is left.
    found = [one.payload[kind], one.payload[f"{kind}s"][0], many.payload[f"{kind}s"][0]]
    found = [{key: each[key] for key in each if key != "free"} for each in found]
    assert found[0] == found[1] == found[2]
    assert kind not in many.payload and not many.changed
    if kind != "template":
        assert len(one.payload["catalog"]) == 36 and many.payload["catalog"] == one.payload["catalog"]
    gone = run(kind, name="a", state="absent")
    assert gone.payload[f"{kind}s"] == [] and kind not in gone.payload
