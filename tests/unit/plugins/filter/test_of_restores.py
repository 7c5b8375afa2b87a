# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of backups that nodes have, and of what was restored: by whom was asked, and what was asked for."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.filter.of_restores import of_restores

ROW = {"machine": "web", "vm_id": 1, "id": "x", "host": "elsewhere"}
DONE = {
    "vm_id": 1,
    "name": "another",
    "backup": "20261130T020003Z-5f0c1a",
    "disks": [0],
    "files": ["tpm"],
    "warnings": ["w"],
}


def test_what_nodes_have() -> None:
    hosts = [
        {"inventory_hostname": "node1", "__nebula_restore_listed_there": {"backups": [ROW]}},
        {"inventory_hostname": "node2", "__nebula_restore_listed_there": {"backups": [{**ROW, "size": -1}]}},
        {"inventory_hostname": "node3"},
    ]
    found = of_restores(hosts)
    assert [(each["machine"], each["at"], each["host"]) for each in found["rows"]] == [("web", "node1", "elsewhere")]
    (note,) = found["notes"]
    assert "host node2" in note and "size is -1" in note


def test_what_was_restored() -> None:
    hosts = [{"inventory_hostname": name, "__nebula_restore_done": {"restored": DONE}} for name in ("node1", "node2")]
    (row,) = of_restores(hosts, "node2", "web")["rows"]
    assert (row["name"], row["at"], row["disks"], row["files"]) == ("web", "node2", "disk 0", ["tpm"])
    assert row["time"] == "2026-11-30T02:00:03Z"
    (following,) = of_restores(hosts, "node2", "web")["next"]
    assert "-e vm=web -e do=start" in following
    assert of_restores(hosts, "node3", "web") == {"rows": [], "notes": [], "columns": [], "next": []}


@pytest.mark.parametrize(("ids", "text"), [((), "no disk"), ((0,), "disk 0"), ((0, 2), "disks 0, 2")])
def test_disks_are_called_so_that_none_is_a_number_of_them(ids: tuple[int, ...], text: str) -> None:
    hosts = [{"inventory_hostname": "node1", "__nebula_restore_done": {"restored": {**DONE, "disks": [*ids]}}}]
    (row,) = of_restores(hosts, "node1", "web")["rows"]
    assert row["disks"] == text


def test_what_is_to_be_given_is_shown_where_several_machines_have_one_name() -> None:
    one, other = {**ROW, "place": "1-a"}, {**ROW, "vm_id": 2, "place": "2-a"}
    hosts = [{"inventory_hostname": "node1", "__nebula_restore_listed_there": {"backups": [one]}}]
    assert of_restores(hosts, listed=[one])["columns"] == []
    assert of_restores(hosts, listed=[{**other, "machine": "db"}])["columns"] == []
    found = of_restores(hosts, listed=[other])
    assert found["columns"] == ["place=GIVE AS vm"] and [each["place"] for each in found["rows"]] == ["2-a", "1-a"]
