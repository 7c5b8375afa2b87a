# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an audit says of a host's part in OVN."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn import ovn_findings
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn.paths import Change

AS_IT_IS = {"daemons": {"switch": True, "controller": True}, "bridges": {"br-int": {"up": True}}}


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (AS_IT_IS, AS_IT_IS, None),
        (None, AS_IT_IS, "it is not set up for this catalog"),
        (
            {**AS_IT_IS, "daemons": {"switch": True, "controller": False}},
            AS_IT_IS,
            "daemons: controller is False and is to be True",
        ),
        (
            {"bridges": {}},
            {"bridges": {"br-ex": {"up": True}}, "file": "node1"},
            "bridges: br-ex is not set and is to be {'up': True}, file is not set and is to be node1",
        ),
        ({"guard": "x" * 100}, {"guard": ""}, f"guard is {'x' * 80}… and is to be "),
    ],
)
def test_only_what_differs_is_named(before, after, found):
    findings = ovn_findings.of_change("node1", "Open vSwitch", Change("host node1", before, after))
    assert [each["found"] for each in findings] == ([] if found is None else [found])
    for each in findings:
        assert (each["kind"], each["host"], each["object"]) == ("ovn-differs", "node1", "Open vSwitch")
        assert each["sentence"] == f"host node1: Open vSwitch: {found}. Run nebula.provision.ovn again"


def test_what_can_not_be_made_is_a_finding_with_its_own_remedy():
    (found,) = ovn_findings.of_error("node1", Conflict("port 6641", "another program listens", "End it"))
    assert found["sentence"] == "host node1: port 6641: another program listens. End it"


def test_who_has_the_place_of_a_host_is_named_with_the_command_that_makes_room():
    change = Change("host node1", {"chassis at 192.0.2.11": "old node"}, {"chassis at 192.0.2.11": "node1"})
    (found,) = ovn_findings.of_change("node1", "ovn-controller", change, "old node")
    assert "chassis at 192.0.2.11 is old node and is to be node1" in found["found"]
    assert "ovn-sbctl chassis-del 'old node'" in found["remedy"]


def test_a_chassis_of_no_host_is_named_with_its_address():
    found = ovn_findings.of_unknown_chassis("old node", "192.0.2.11")
    assert found["object"] == "chassis old node in OVN" and "192.0.2.11" in found["found"]
    assert "nebula_lost_host='old node'" in found["remedy"]
