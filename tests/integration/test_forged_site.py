# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Of a front-end and two nodes the first node, by whose variables Ansible fills in what runs once for all, answers each
module with a forged fact for each setting. What is decided is what an honest node has decided."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from forging import adding, forged
from in_world import in_nodes

from ansible_collections.nebula.provision.tests.integration.sent_site import TEMPLATE, Sent, hosts
from ansible_collections.nebula.provision.tests.integration.test_ansible import CURRENT, VERSIONS

PYTHON = "/root/forging-python3"
# What the runs of one site are, in turn, by what is changed in its lists.
STEPS: dict[str, dict[str, Any]] = {
    "first": {},
    "again": {},
    "one more": {"nebula_vms": [{"name": "web-%i", "count": 3, "template": "base", "hard": True}]},
    "one less": {"nebula_vms": [{"name": "web-%i", "count": 1, "template": "base", "hard": True}]},
}


class Forged(Sent):
    """Its node1 forges, where `answer` is not empty."""

    def __init__(self, programs: Path) -> None:
        super().__init__()
        self.programs = programs
        self.answer: dict[str, Any] = {}
        self.variables["nebula_images"] = self.variables["nebula_images"][1:]
        self.variables["nebula_templates"] = [{"name": "base", "template": TEMPLATE.format(image="base", prefix="vd")}]
        self.variables["nebula_vms"] = [{"name": "web-%i", "count": 2, "template": "base", "hard": True}]

    def inventory(self, **changes: Any) -> Path:
        path = super().inventory(**changes)
        inventory = json.loads(path.read_text())
        if self.answer:
            program = self.nodes[0].path(PYTHON)
            program.write_text(adding(self.answer, "/usr/bin/python3"))
            program.chmod(0o755)
            node = inventory["all"]["children"]["nebula_nodes"]["hosts"]["node1"]
            node["ansible_python_interpreter"] = PYTHON
        path.write_text(json.dumps(inventory))
        return path

    def decided(self) -> list[tuple[Any, ...]]:
        """What the catalog has of machines, without times and what is drawn by chance."""
        with contextlib.closing(sqlite3.connect(self.root / "nebula.db")) as catalog:
            return catalog.execute("SELECT id, name, state, lcm_state, host_id FROM vms ORDER BY id").fetchall()


@contextlib.contextmanager
def site(programs: Path) -> Iterator[Forged]:
    made = Forged(programs)
    with hosts(made):
        yield made


def life(programs: Path, answer: dict[str, Any]) -> list[list[tuple[Any, ...]]]:
    found = []
    with site(programs) as its:
        its.answer = answer
        for name, changes in STEPS.items():
            output = its.done("site.yml", **changes)
            assert ({*re.findall(r"changed=(\d+)", output)} == {"0"}) == (name == "again"), output
            found.append(its.decided())
        its.done("playbooks/status.yml")
        its.done("playbooks/audit.yml")
        its.done("playbooks/teardown.yml")
        assert not its.root.exists()
    return found


@VERSIONS
@pytest.mark.timeout(1800)
@in_nodes(2)
def test_a_node_that_forges_decides_nothing(programs: str) -> None:
    marker = Path(os.environ["NEBULA_WORLD"]) / "forged-marker"
    more = {"ansible_facts": forged(marker, f"{programs}/python"), "ansible_stats": {"data": {"nebula_vms": []}}}
    assert life(Path(programs), more) == life(Path(programs), {})
    assert not marker.exists()


@pytest.mark.timeout(1200)
@in_nodes(2)
def test_a_node_with_forged_facts_in_the_cache_is_left_out() -> None:
    marker = Path(os.environ["NEBULA_WORLD"]) / "forged-marker"
    with site(CURRENT) as its:
        its.done("site.yml")
        before = its.decided()
        # Those by which Ansible reaches the node would end its connection before any task of ours.
        facts = {name: value for name, value in forged(marker).items() if not name.startswith("ansible_")}
        its.answer = {"ansible_facts": facts}
        # Somebody's own play brings them into the cache before site.yml is run.
        its.environment = {
            "ANSIBLE_CACHE_PLUGIN": "ansible.builtin.jsonfile",
            "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(its.directory / "facts"),
        }
        code, output = its.execute(
            [str(its.programs / "ansible"), "-i", str(its.inventory()), "nebula_nodes", "-m", "ping"]
        )
        assert code == 0, output
        asked = [
            {"name": "web-%i", "count": 2, "template": "base", "hard": True},
            {"name": "new", "template": "base", "host": "node2"},
        ]
        code, output = its.run("site.yml", nebula_vms=asked)
        assert code != 0 and "fatal: [node1]" in output, output
        assert "This host: its facts have the names of settings" in output, output
        assert [row[:2] for row in its.decided()] == [*[row[:2] for row in before], (2, "new")]
        assert "forged" not in {row[1] for row in its.decided()} and not marker.exists()
        its.environment = {}
        its.answer = {}
        its.done("site.yml", nebula_vms=asked)
        its.done("playbooks/teardown.yml")
