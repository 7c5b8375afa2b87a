# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Goldens of deployment files: machines on their nodes (fixtures/deployment/HYPERVISOR/CASE.json), and what is rendered
of them, written anew on purpose by REGENERATE=1."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Site
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import from_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm

FIXTURES = Path(__file__).parents[1] / "fixtures" / "deployment"


def cases(hypervisor: str) -> list[str]:
    return sorted(path.stem for path in (FIXTURES / hypervisor).glob("*.json"))


def load(hypervisor: str, case: str) -> tuple[Vm, Site]:
    data = json.loads((FIXTURES / hypervisor / f"{case}.json").read_text(encoding="utf-8"))
    site = data["site"]
    disks = {int(number): from_plain(DiskFiles, files) for number, files in site.pop("disks").items()}
    return from_plain(Vm, data["vm"]), Site(disks=disks, **site)


def compare(golden: Path, text: str) -> None:
    if os.environ.get("REGENERATE") == "1":
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def validate(golden: Path) -> None:
    """By libvirt's schema."""
    done = subprocess.run(["virt-xml-validate", str(golden), "domain"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
