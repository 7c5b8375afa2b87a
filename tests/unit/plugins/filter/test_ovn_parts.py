# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hosts have of OVN, and how it differs, is one table and one list; a host that is silent has its row."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.filter.ovn_parts import FilterModule
from ansible_collections.nebula.provision.plugins.module_utils.model.audit_finding import Finding
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn.ovn_findings import finding_view

ovn_parts = FilterModule().filters()["ovn_parts"]
FINDING = finding_view(Finding("ovn-differs", "c1", "the database", "it differs", "Run nebula.provision.ovn again"))


def answer(host, part, state, *findings):
    seen = {"host": host, "part": part, "state": state, "address": "192.0.2.1"}
    return {"part": seen, "consistency": list(findings), "changed": False}


def test_each_host_has_its_row_and_findings_are_joined():
    found = ovn_parts(
        [answer("c1", "central", "not running", FINDING)], ["c1"], [answer("n1", "node", "connected")], ["n1"]
    )
    assert [(row["host"], row["part"], row["state"]) for row in found["parts"]] == [
        ("c1", "central", "not running"),
        ("n1", "node", "connected"),
    ]
    assert found["consistency"] == [FINDING]


def test_a_silent_central_host_is_a_finding_and_a_silent_node_only_a_row():
    silent = {"unreachable": True, "msg": "no route to host"}
    found = ovn_parts([silent, None], ["c1", "c2"], [silent, {}], ["n1", "n2"])
    assert {row["state"] for row in found["parts"]} == {"no answer"} and len(found["parts"]) == 4
    assert [(each["kind"], each["host"], each["found"]) for each in found["consistency"]] == [
        ("host-silent", "c1", "no route to host"),
        ("host-silent", "c2", "it gave no answer"),
    ]


def test_a_node_that_was_not_asked_has_no_row():
    assert ovn_parts([], [], [{"skipped": True}], ["n1"]) == {"parts": [], "consistency": []}
