# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The artifact, installed as a user installs it: its playbooks find what is beside the user's inventory, and write
nothing into the collection, which the next installation removes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nebula.provision.tests.integration.site_runs import ROOT, program

pytestmark = pytest.mark.root


class Installed:
    """project: the user's directory, with inventory and files. The working directory is another one."""

    def __init__(self, directory: Path) -> None:
        self.collections = directory / "collections"
        self.own = self.collections / "ansible_collections/nebula/provision"
        self.project, self.home, self.root = directory / "project", directory / "home", directory / "nebula"
        self.elsewhere = directory / "elsewhere"
        for path in (self.project / "images", self.home, self.elsewhere):
            path.mkdir(parents=True)
        self.environment = {
            **os.environ, "HOME": str(self.home), "LC_ALL": "C.UTF-8", "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_COLLECTIONS_PATH": str(self.collections), "ANSIBLE_CONFIG": str(directory / "ansible.cfg"),
            # What Python keeps beside its files is nobody's output.
            "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        (directory / "ansible.cfg").touch()
        self.environment.pop("PYTHONPATH", None)
        galaxy = [program("ansible-galaxy"), "collection"]
        self.execute(*galaxy, "build", "--output-path", str(directory), str(ROOT))
        (artifact,) = directory.glob("*.tar.gz")
        self.install = lambda: self.execute(*galaxy, "install", "--force", "-p", str(self.collections), str(artifact))
        self.install()

    def execute(self, *command: str, status: int | None = 0) -> str:
        done = subprocess.run(
            command, cwd=self.elsewhere, env=self.environment, capture_output=True, text=True, timeout=300, check=False
        )
        output = done.stdout + done.stderr
        assert status is None or done.returncode == status, output
        return output

    def run(self, playbook: str, *arguments: str, status: int | None = 0, inventory: Path | None = None) -> str:
        inventory = inventory or self.project / "hosts.yml"
        return self.execute(program("ansible-playbook"), "-i", str(inventory), playbook, *arguments, status=status)

    def wants(self, inventory: Path | None = None, **variables: Any) -> None:
        here = {"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3"}
        here |= {"nebula_root": str(self.root), "nebula_backup_directory": f"{self.root}.backups", **variables}
        groups = {"nebula_frontend": {"hosts": {"here": here}}, "nebula_nodes": {"hosts": {"here": {}}}}
        (inventory or self.project / "hosts.yml").write_text(json.dumps(groups))

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.own)) for path in self.own.rglob("*"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("installed"))


@pytest.mark.timeout(300)
def test_what_is_beside_the_inventory_is_found_and_what_is_fetched_stays_there(installed: Installed) -> None:
    before = installed.files()
    (installed.project / "images/blank.raw").write_bytes(bytes(1 << 20))
    (installed.project / "web.tmpl").write_text('CPU = 1\nMEMORY = 64\nDISK = [ IMAGE = "blank" ]\n')
    images = [{"name": "blank", "path": "images/blank.raw"}]
    installed.wants(nebula_images=images, nebula_templates=[{"name": "web", "template_file": "web.tmpl"}])
    output = installed.run("nebula.provision.site", "--tags", "image,template")
    assert (installed.root / "datastores/1").is_dir() and "failed=0" in output

    output = installed.run("nebula.provision.backup", "-e", "nebula_backup_fetch=backups")
    kept = sorted(path.name for path in (installed.project / "backups").iterdir())
    assert [Path(name).suffix for name in kept] == [".db", ".json"], output
    assert installed.files() == before, "something was written into the collection"

    installed.install()
    assert sorted(path.name for path in (installed.project / "backups").iterdir()) == kept


def test_what_is_fetched_is_beside_an_inventory_that_is_a_directory(installed: Installed) -> None:
    directory = installed.project / "inventories/here"
    directory.mkdir(parents=True)
    installed.wants(directory / "hosts.yml")
    for _again in range(2):
        output = installed.run("nebula.provision.backup", "-e", "nebula_backup_fetch=kept", inventory=directory)
        # The second run reads no backup as an inventory.
        assert "WARNING" not in output, output
    kept = sorted(path.name for path in (installed.project / "inventories/kept").iterdir())
    assert [Path(name).suffix for name in kept] == [".db", ".json"] * 2 and list(directory.iterdir()) == [
        directory / "hosts.yml"
    ]


def test_what_is_nowhere_is_told_with_the_three_places(installed: Installed) -> None:
    own = installed.elsewhere.parent / "plays/own.yml"
    own.parent.mkdir()
    own.write_text(json.dumps([{"import_playbook": "nebula.provision.site"}]))
    installed.wants(nebula_images=[{"name": "gone", "path": "images/gone.raw"}])
    output = installed.run(str(own), "--tags", "image", "--check", status=2)
    assert (
        "image gone: path images/gone.raw: it is not on the control node: neither beside the inventory "
        f"({installed.project}), nor beside the playbook ({own.parent}), nor in the working directory "
        f"({installed.elsewhere})"
    ) in output


def test_an_output_that_can_not_be_is_said_before_anything_is_done(installed: Installed) -> None:
    inside = installed.own / "inventory.yml"
    shutil.rmtree(f"{installed.root}.backups", ignore_errors=True)
    try:
        installed.wants(inside)
        output = installed.run("nebula.provision.backup", "-e", "nebula_backup_fetch=kept", status=2, inventory=inside)
    finally:
        inside.unlink()
    assert "is in the directory of collection nebula.provision, which the next installation removes" in output
    installed.wants()
    (installed.project / "taken").touch()
    output = installed.run("nebula.provision.backup", "-e", "nebula_backup_fetch=taken/x", status=2)
    assert f"{installed.project}/taken is no directory" in output
    assert not Path(f"{installed.root}.backups").exists() and not (installed.own / "kept").exists()


def test_what_is_set_for_the_whole_group_is_taken_by_each_module(installed: Installed) -> None:
    """Some that need neither; tests/unit/test_vocabulary.py asks all. What one of them fails by is its own matter."""
    place = installed.project
    tasks: dict[str, dict[str, Any]] = {
        "context_iso": {"dest": f"{place}/c.iso", "context": {"A": "b"}},
        "deploy": {"state": "applied", "host": "here", "plan": "{}"},
        "install_wait": {"installs": [], "vms": [], "catalog": "x"},
        "verify": {"vms": "[]"},
    }
    play = {
        "hosts": "nebula_frontend",
        "gather_facts": False,
        "check_mode": True,
        "ignore_errors": True,
        "module_defaults": {"group/nebula.provision.nebula": {"root": str(installed.root), "engine": "embedded"}},
        "tasks": [{f"nebula.provision.nebula_{name}": options} for name, options in tasks.items()],
    }
    own = place / "group.yml"
    own.write_text(json.dumps([play]))
    installed.wants()
    output = installed.run(str(own))
    assert output.count("TASK [") == len(tasks), output
    assert "nsupported" not in output, output
