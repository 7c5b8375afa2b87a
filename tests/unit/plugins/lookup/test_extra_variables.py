# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the command line gives is told from what the inventory has, by Ansible itself; and which playbooks make use of
-e vm=."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
INVENTORY = """
all:
  vars: {ansible_connection: local, vm: an inventory's own, nebula_root: "%s"}
nebula_frontend: {hosts: {node1: }}
nebula_nodes: {hosts: {node1: }}
"""


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    path = tmp_path / "hosts.yml"
    path.write_text(INVENTORY % (tmp_path / "nebula"))
    return path


def run(inventory: Path, playbook: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(inventory), *arguments, str(playbook)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "LC_ALL": "C.UTF-8"},
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "['-']"),
        (("-e", "vm=web-*"), "['vm']"),
        (("-e", '{"vm": ["a b"], "do": "stop"}'), "['vm', 'do']"),
        (("-e", "{vm: '{{ 1 + 1 }}'}"), "['vm']"),
    ],
)
def test_what_e_gives_is_told_from_what_the_inventory_has(
    inventory: Path, tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    play = tmp_path / "play.yml"
    play.write_text(
        '- {hosts: node1, gather_facts: false, tasks: [{ansible.builtin.debug: {msg: "{{ '
        "query('nebula.provision.extra_variables', 'vm', 'do') | default(['-'], true) | string }}\"}}]}\n"
    )
    code, output = run(inventory, play, *arguments)
    assert code == 0 and told in output, output


def test_teardown_of_one_machine_is_refused(inventory: Path) -> None:
    for arguments in ((), ("--check",)):
        code, output = run(inventory, ROOT / "playbooks/teardown.yml", "-e", "vm=web-0", *arguments)
        assert "Look for the catalog" not in output
        assert code != 0 and "-e vm=web-0: teardown removes everything, and not single machines." in output, output


@pytest.mark.parametrize("playbook", ["audit", "backup", "site"])
def test_a_playbook_that_deals_with_all_machines_says_so(inventory: Path, playbook: str) -> None:
    """The inventory has nothing that it could do here, so that it ends soon."""
    told = f"-e vm=web-0: playbook nebula.provision.{playbook} does not choose machines, and deals with all of them."
    _code, output = run(inventory, ROOT / f"playbooks/{playbook}.yml", "--tags", "always", "-e", "vm=web-0")
    assert told in output and "nebula.provision.restore_machines, nebula.provision.status" in output, output
    _code, output = run(inventory, ROOT / f"playbooks/{playbook}.yml", "--tags", "always")
    assert "does not choose machines" not in output, output
