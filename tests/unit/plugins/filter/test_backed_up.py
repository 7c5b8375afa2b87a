# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of a run of backups, and who reports what went wrong."""

from __future__ import annotations

from typing import Any

from ansible_collections.nebula.provision.plugins.filter.backed_up import backed_up

MACHINES = [{"vm_id": 1, "name": "web", "host": "node1"}, {"vm_id": 2, "name": "db", "host": "node2"}]
CHOSEN = {"machines": MACHINES, "at": "node", "purpose": "present", "left_out": [], "everything": False}
WHOLE = {"id": "x", "kind": "full", "consistency": "frozen", "size": 3 << 20, "stored": 1 << 19, "seconds": 2.04}


def found(made: dict[str, Any], **chosen: Any) -> dict[str, Any]:
    hosts = [
        {"inventory_hostname": host, "__nebula_backup_made": made.get(host, {})} for host in ("front", "node1", "node2")
    ]
    return backed_up(hosts, {**CHOSEN, **chosen}, "front")


def test_machines_are_told_by_those_who_write_them() -> None:
    made = {
        "node1": {"backups": [{"vm_id": 1, **WHOLE}]},
        "node2": {"backups": [{"vm_id": 1, **WHOLE, "id": "forged"}]},
    }
    shown = found(made)
    assert [(row["name"], row["id"], row["error"]) for row in shown["rows"]] == [
        ("db", "", "host node2 said nothing of it"),
        ("web", "x", ""),
    ]
    assert (shown["rows"][1]["size"], shown["rows"][1]["stored"], shown["rows"][1]["seconds"]) == (3.0, 0.5, 2.0)
    assert shown["errors"] == {"node2": ["VM db: host node2 said nothing of it"]}
    # In a directory of the front-end it is the front-end's word.
    made = {"front": {"backups": [{"vm_id": number, **WHOLE} for number in (1, 2)]}, "node1": {"backups": []}}
    assert found(made, at="frontend")["errors"] == {}


def test_a_host_that_is_not_reached_is_named_with_its_machines() -> None:
    lost = {"unreachable": True, "msg": "no route to host"}
    shown = found({"node1": {"backups": [{"vm_id": 1, **WHOLE}]}, "node2": lost})
    assert shown["errors"] == {"node2": ["VM db: no route to host"]}
    # The front-end did not come, as it was not reached: that says more than that the other one waited.
    shown = found({"front": lost, "node1": {"failed": True, "msg": "the front-end did not come"}}, at="frontend")
    assert shown["errors"]["node1"] == ["VM web: no route to host"]
    assert shown["errors"]["front"] == ["no route to host"]


def test_machines_that_were_left_out_are_reported_by_their_hosts_or_by_the_first() -> None:
    left = [
        {"vm_id": 3, "name": "a", "host": "node1", "reason": "r1"},
        {"vm_id": 4, "name": "b", "host": "x", "reason": "r2"},
    ]
    shown = found({}, machines=[], left_out=left)
    assert shown["errors"] == {"node1": ["VM a: r1"], "front": ["VM b: r2"]}
    assert [(row["name"], row["kind"]) for row in shown["rows"]] == [("a", "none"), ("b", "none")]


def test_what_was_removed_is_noted() -> None:
    outcome = {"vm_id": 1, **WHOLE, "warnings": ["the same file system"], "removed": ["a", "b"]}
    made: dict[str, Any] = {"node1": {"backups": [outcome]}, "node2": {"failed": True, "msg": "no"}}
    shown = found(made, machines=MACHINES[:1])
    assert shown["notes"] == ["web: the same file system", "web: 2 older backups were removed"]
    assert shown["errors"] == {"node2": ["no"]}
    made["node1"]["backups"] = [{"vm_id": 1, **WHOLE, "error": "a chain is broken"}]
    assert found(made, machines=MACHINES[:1])["errors"]["node1"] == ["VM web: a chain is broken"]


def test_backups_of_machines_that_are_no_more_are_told_where_all_is_read() -> None:
    made = {"front": {"backups": [{"vm_id": 9, "name": "gone", "error": "altered", **WHOLE}]}, "node1": {"backups": []}}
    shown = found(made, at="frontend", everything=True, purpose="verified", machines=MACHINES[:1])
    assert [(row["name"], row["error"]) for row in shown["rows"]] == [("gone", "altered")]
    assert shown["errors"] == {"front": ["VM gone: altered"]}


def test_an_answer_that_no_host_means_is_refused() -> None:
    shown = found({"node1": {"backups": [{"vm_id": 1, "size": -1}]}}, machines=MACHINES[:1])
    assert "size is -1" in shown["errors"]["node1"][0]


def test_backups_of_other_catalogs_are_no_machines_of_this_one() -> None:
    other = "1b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
    theirs = {"vm_id": 1, "name": f"1-{other}", "catalog": other, **WHOLE, "error": "altered"}
    made = {"front": {"backups": [{"vm_id": 1, "name": "web", **WHOLE}, theirs]}}
    shown = found(made, at="frontend", everything=True, purpose="verified", machines=MACHINES[:1])
    assert [(row["name"], row["host"], row["error"]) for row in shown["rows"]] == [
        (f"1-{other}", "front", "altered"),
        ("web", "node1", ""),
    ]
    assert shown["errors"] == {"front": [f"VM 1-{other}: altered"]}


def test_what_lies_on_the_host_that_a_machine_has_left_is_told_where_all_is_read() -> None:
    was = {"vm_id": 1, "name": "web", **WHOLE}
    # Both nodes have mounted one directory of a third machine, which is no more.
    gone = {"vm_id": 9, "name": "gone", **WHOLE, "id": "z"}
    altered = {**was, "id": "y", "error": "altered"}
    made = {"node1": {"backups": [was, gone]}, "node2": {"backups": [was, altered, gone]}}
    shown = found(made, everything=True, purpose="verified", machines=MACHINES[:1])
    assert [(row["name"], row["host"], row["id"], row["error"]) for row in shown["rows"]] == [
        ("gone", "node1", "z", ""),
        ("web", "node1", "x", ""),
        ("web", "node2", "y", "altered"),
    ]
    assert shown["errors"] == {"node2": ["VM web: altered"]}


def test_a_warning_that_several_machines_have_is_told_once_of_their_host() -> None:
    machines = [{"vm_id": number, "name": f"web-{number}", "host": f"node{1 + number // 3}"} for number in range(5)]
    made: dict[str, Any] = {"node1": {"backups": []}, "node2": {"backups": []}}
    for each in machines:
        own = ["its guest is slow"] if each["vm_id"] == 1 else []
        removed = ["x"] if each["vm_id"] > 2 else []
        outcome = {"vm_id": each["vm_id"], **WHOLE, "warnings": ["one file system", *own], "removed": removed}
        made[each["host"]]["backups"].append(outcome)
    removals = [f"web-{number}: an older backup was removed" for number in (3, 4)]
    notes = ["node1: one file system", "web-1: its guest is slow", "node2: one file system", *removals]
    assert found(made, machines=machines)["notes"] == notes
    made = {"front": {"backups": [each for host in ("node1", "node2") for each in made[host]["backups"]]}}
    assert found(made, machines=machines, at="frontend")["notes"] == [
        "front: one file system",
        notes[1],
        *removals,
    ]


def test_what_was_not_backed_up_is_of_the_kind_none() -> None:
    refused = {"vm_id": 1, "error": "it is foreign"}
    pruned = {"vm_id": 2, **WHOLE, "error": "a chain is broken"}
    made: dict[str, Any] = {"node1": {"backups": [refused]}, "node2": {"backups": [pruned]}}
    assert [(row["name"], row["kind"]) for row in found(made)["rows"]] == [("db", "full"), ("web", "none")]
    assert {row["kind"] for row in found({})["rows"]} == {"none"}
    # What was read is another matter.
    assert found(made, purpose="verified")["rows"][1]["kind"] == ""
