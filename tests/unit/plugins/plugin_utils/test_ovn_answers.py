# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever hosts of OVN answer is read as data about the host that was asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.model.audit_finding import Finding
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn.ovn_findings import finding_view
from ansible_collections.nebula.provision.plugins.plugin_utils import ovn_answers

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=8,
)
NAMED = st.dictionaries(
    st.sampled_from(
        ["request", "member", "part", "consistency", "connections", "name", "kind", "host", "installed", "databases"]
    ),
    ANYTHING | st.dictionaries(st.sampled_from(["name", "host", "kind", "request", "address", "rank"]), ANYTHING),
)


def test_name_and_kind_are_those_of_the_question():
    forged = {"request": {"name": "central", "kind": "client", "request": "R", "installed": {"southbound": "0" * 64}}}
    assert ovn_answers.request("node1", "host", forged) == {
        "name": "node1",
        "kind": "host",
        "request": "R",
        "installed": {"southbound": "0" * 64},
    }
    assert ovn_answers.request("node1", "host", {}) is None
    long = ovn_answers.request("node1", "host", {"request": {"request": "R" * 10**6}})
    assert len(long["request"]) == ovn_answers.LONGEST_REQUEST + 1


def test_a_member_is_who_was_asked_and_its_address_is_the_inventorys():
    copy = {"kind": "clustered", "cluster": "5c1de0d1-0000-4000-8000-000000000001", "address": "ssl:192.0.2.1:6643"}
    good = {"name": "c1", "address": "192.0.2.1", "databases": {"northbound": copy, "southbound": copy}, "rank": 0}
    assert ovn_answers.member("c1", "", {"member": good}) == good
    assert ovn_answers.member("c1", "192.0.2.9", {"member": {**good, "name": "c2"}}) == {**good, "address": "192.0.2.9"}
    bad = {
        "address": "192.0.2.1; x",
        "databases": {"northbound": {"kind": "x", "cluster": "x", "address": "/x"}},
        "rank": -1,
    }
    none = {"kind": "none", "cluster": "", "address": ""}
    assert ovn_answers.member("c1", "", {"member": bad}) == {
        "name": "c1",
        "address": "",
        "databases": {"northbound": none, "southbound": none},
        "rank": 2,
    }


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("ssl:192.0.2.1:6642", True),
        ("ssl:[2001:db8::1]:6642,ssl:c2.example:6642", True),
        ("tcp:192.0.2.1:6642", False),
        ("unix:/run/x", False),
        ("ssl:192.0.2.1:6642\n", False),
        ("ssl:192.0.2.1:6642 --x", False),
        (",".join(["ssl:192.0.2.1:6642"] * 4), False),
        (["ssl:192.0.2.1:6642"], False),
    ],
)
def test_a_connection_is_by_tls_and_nothing_else(given, read):
    assert ovn_answers.connection({"connections": {"southbound": given}}, "southbound") == (given if read else "")


def test_findings_and_parts_are_of_the_host_that_was_asked():
    answer = {
        "part": {"host": "other", "part": "central", "state": "connected", "address": 7},
        "consistency": [{"host": "other", "found": "x" * 10**6, "n": 1}, "text", None],
    }
    assert ovn_answers.part_in_ovn("n1", "node", answer) == {
        "host": "n1",
        "part": "node",
        "state": "connected",
        "address": "",
    }
    (finding,) = ovn_answers.findings("n1", answer)
    assert finding["host"] == "n1" and len(finding["found"]) == ovn_answers.LONGEST_SENTENCE
    assert len(ovn_answers.findings("n1", {"consistency": [{}] * 10**5})) == ovn_answers.MOST_FINDINGS


@pytest.mark.parametrize("remedy", ["virsh destroy one-3", "rm -r /srv", "Do: xl destroy one-3", "kill 1"])
def test_a_finding_is_complete_and_names_no_command_that_deals_with_machines(remedy):
    given = {
        "kind": "machine-failed",
        "severity": "none",
        "object": "x",
        "found": "y",
        "remedy": remedy,
        "sentence": "z",
    }
    (finding,) = ovn_answers.findings("n1", {"consistency": [given]})
    assert finding == finding_view(Finding("ovn-differs", "n1", "x", "y", "Look at it on the host itself"))
    (bare,) = ovn_answers.findings("n1", {"consistency": [{}]})
    assert [*bare] == [*finding]


def test_who_was_not_asked_or_did_not_answer_is_left_out():
    results = [{"skipped": True}, {"unreachable": True}, {"failed": True}, None, {"a": 1}]
    assert list(ovn_answers.answers_by_host(results, ["a", "b", "c", "d", "e", "f"])) == [("e", {"a": 1})]
    assert list(ovn_answers.answers_by_host(None, ["a"])) == []


@given(NAMED)
def test_no_answer_is_an_error_or_names_another_host(answer):
    asked = ovn_answers.request("me", "host", answer)
    assert asked is None or (asked["name"], asked["kind"]) == ("me", "host")
    assert ovn_answers.member("me", "", answer)["name"] == "me"
    found = ovn_answers.part_in_ovn("me", "node", answer)
    assert found is None or found["host"] == "me"
    assert all(each["host"] == "me" for each in ovn_answers.findings("me", answer))
    assert ovn_answers.connection(answer, "southbound") == ""
