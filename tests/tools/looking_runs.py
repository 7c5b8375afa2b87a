# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run of Ansible that looks, on this machine alone: without a hypervisor, and with a root of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from shown_values import show, shown

CHECKOUT = Path(__file__).resolve().parents[2]
GROUPS = {"nebula_frontend": {"hosts": {"here": {}}}, "nebula_nodes": {"hosts": {"here": {}}}}
# The looks of playbook site: the name of each one's module, and its options.
LOOKS: list[tuple[str, dict[str, Any]]] = [
    (key.rpartition(".")[2], task[key])
    for play in yaml.safe_load((CHECKOUT / "playbooks/site.yml").read_text())
    for task in play.get("tasks", ())
    for key in task
    if key.endswith("_look")
]
CALLS = {name for _module, options in LOOKS for name in options["calls"]}
CONNECTION = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}


def looked(directory: Path, tasks: list[dict[str, Any]], *words: str, **variables: Any) -> dict[str, Any]:
    """Run the tasks; return variable `looked` as it is then. Beside it is the run's output, as `output`."""
    inventory = {"all": {"children": GROUPS, "vars": {**CONNECTION, **variables}}}
    (directory / "hosts.json").write_text(json.dumps(inventory))
    play = {"hosts": "nebula_nodes", "gather_facts": False, "tasks": [*tasks, show("looked")]}
    (directory / "play.json").write_text(json.dumps([play]))
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-v", *words, "-i", "hosts.json", "play.json"],
        env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_HOME": str(directory / "home")},
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    found = shown(done.stdout)
    assert found, done.stdout + done.stderr
    return {**found, "output": done.stdout + done.stderr}
