# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A site whose machines are hosts of an inventory."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.nebula.provision.tests.integration.site_runs import HALTS, Case

# A machine's name and its label say this, and nothing runs it.
TEMPLATED = "{{ lookup('pipe', 'echo ran >>RAN') }}"
SECRET = "s3cr3t-of-the-template"
PYTHON = ("-e", "ansible_python_interpreter=/usr/bin/python3")
ODD = {"name": "odd {{ name }}", "template": "web", "hard": True}
MACHINES = [
    {"name": "web", "template": "web", "hard": True, "attributes": {"ROLE": "front", "LABELS": "blue, the green"}},
    {"name": "bare", "template": "bare", "hard": True},
    {"name": "wrong", "template": "web", "attributes": {"CPU_MODEL": {"MODEL": "nosuchcpu"}}},
    # The node has this name.
    {"name": "node1", "template": "bare", "hard": True},
]


class Inventoried(Case):
    """A site whose machines are hosts. options: of the plugin."""

    def __init__(self) -> None:
        super().__init__()
        self.ran = self.directory / "ran"
        note = TEMPLATED.replace("RAN", str(self.ran))
        # What is to stay a text is marked in the inventory.
        self.variables["nebula_templates"] = [
            {"name": "web", "template": f'{HALTS}\nPASSWORD = "{SECRET}"\n'},
            {"name": "bare", "template": 'CPU = 0.05\nMEMORY = 32\nDISK = [ IMAGE = "halt", DEV_PREFIX = "vd" ]'},
        ]
        self.note = note
        self.variables["nebula_vms"] = [*MACHINES, ODD | {"attributes": {"NOTE": note}}]

    def inventory(self, **changes: Any) -> Path:
        """The directory with both files; templates in machines are marked as texts."""
        both = self.directory / "both"
        both.mkdir(exist_ok=True)
        hosts = super().inventory(**changes)
        text = hosts.read_text()
        for each in (ODD["name"], self.note):
            text = text.replace(json.dumps(each), f"!unsafe {json.dumps(each)}")
        (both / "hosts.yml").write_text(text)
        return both

    def machines_yml(self, place: Path, **options: Any) -> Path:
        source = place / "machines.nebula.yml"
        source.write_text(yaml.safe_dump({"plugin": "nebula.provision.nebula", **options}))
        return source

    def listed(self, source: Path, *before: str) -> tuple[int, str, dict[str, Any]]:
        """Exit status, output, and the inventory that ansible-inventory prints."""
        command = [*before, str(self.programs / "ansible-inventory"), "-i", str(source), "--list"]
        done = subprocess.run(
            command, cwd=self.checkout, env=self.runs_with(), capture_output=True, text=True, timeout=100, check=False
        )
        found = json.loads(done.stdout) if done.returncode == 0 else {}
        # Before ansible-core 2.19 a warning is broken into lines.
        return done.returncode, " ".join((done.stdout + done.stderr).split()), found
