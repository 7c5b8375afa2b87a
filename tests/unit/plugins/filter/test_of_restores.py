# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of backups that nodes have, and of what was restored: by whom was asked, and what was asked for."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.filter.of_restores import of_restores

ROW = {"machine": "web", "vm_id": 1, "id": "x", "host": "elsewhere"}
DONE = {"vm_id": 1, "name": "another", "backup": "x", "disks": [0], "files": ["tpm"], "warnings": ["w"]}


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
    assert (row["name"], row["at"], row["disks"], row["files"]) == ("web", "node2", [0], ["tpm"])
    assert of_restores(hosts, "node3", "web") == {"rows": [], "notes": []}
