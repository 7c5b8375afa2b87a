# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The project that playbook project.yml writes: it has all playbooks, and it runs as it is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ROOT / "roles/project/files/project"
# Those that others import, and the one that writes the project.
NONE_OF_ITS = {"check_inventory", "project"}
PLAYBOOKS = {path.stem for path in (ROOT / "playbooks").glob("*.yml")} - NONE_OF_ITS


def run(directory: Path, *arguments: str) -> tuple[int, str]:
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"), "ANSIBLE_NOCOLOR": "1"}
    environment.pop("PYTHONPATH", None)
    program = str(Path(sys.executable).parent / "ansible-playbook")
    done = subprocess.run([program, *arguments], cwd=directory, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_each_playbook_has_one_line_in_the_project() -> None:
    assert {path.stem for path in PROJECT.glob("*.yml")} - {"machines.nebula", "execution-environment"} == PLAYBOOKS
    for name in PLAYBOOKS:
        (play,) = yaml.safe_load((PROJECT / f"{name}.yml").read_text())
        assert play["ansible.builtin.import_playbook"] == f"nebula.provision.{name}" and {*play} <= {
            "name",
            "ansible.builtin.import_playbook",
        }


def test_examples_are_yaml_and_the_lists_are_those_of_the_roles() -> None:
    variables = yaml.safe_load((ROOT / "roles/vm/meta/argument_specs.yml").read_text())
    assert "nebula_vms" in variables["argument_specs"]["main"]["options"]
    found = {}
    for path in (PROJECT / "inventory/group_vars/all").glob("*.yml"):
        text = path.read_text()
        found.update(yaml.safe_load(text))
        if path.stem != "site":
            # As a reader has it who takes the comment signs away.
            examples = yaml.safe_load(re.sub(r"^# ?", "", text.replace(": []", ":"), flags=re.MULTILINE))
            assert all(isinstance(value, list) and value[0]["name"] for value in examples.values()), path
    assert found == {
        "ansible_user": "operator", "ansible_become": True,
        "nebula_images": [], "nebula_networks": [], "nebula_templates": [], "nebula_vms": [],
    }  # fmt: skip


def test_it_is_written_once_and_runs(tmp_path: Path) -> None:
    place = tmp_path / "a project"
    argument = f"nebula_project='{place}'"
    code, output = run(tmp_path, "nebula.provision.project", "-e", argument, "--check")
    assert code == 0 and "changed=1 " in output and not place.exists(), output
    code, output = run(tmp_path, "nebula.provision.project", "-e", argument)
    assert code == 0 and "changed=1 " in output, output
    assert {path.relative_to(place) for path in place.rglob("*") if path.is_file()} == {
        path.relative_to(PROJECT) for path in PROJECT.rglob("*") if path.is_file()
    }
    # What its owner has written stays, and what is new comes.
    own = place / "inventory/hosts.yml"
    own.write_text("nebula_frontend: {hosts: {here: {}}}\n")
    (place / "audit.yml").unlink()
    code, output = run(tmp_path, "nebula.provision.project", "-e", argument)
    assert code == 0 and own.read_text().startswith("nebula_frontend: {hosts: {here") and (place / "audit.yml").exists()
    code, output = run(tmp_path, "nebula.provision.project", "-e", argument)
    assert code == 0 and "changed=0 " in output, output
    # The others differ from it by one word, as the test above says.
    code, output = run(place, "--syntax-check", "site.yml")
    assert code == 0, output


@pytest.mark.parametrize("path", ["", "relative/path"])
def test_a_directory_is_needed(tmp_path: Path, path: str) -> None:
    code, output = run(tmp_path, "nebula.provision.project", "-e", f"nebula_project={path}")
    assert code != 0 and "it has to be the absolute path" in output and list(tmp_path.iterdir()) == []


def test_ansible_builder_makes_a_context_of_its_execution_environment(tmp_path: Path) -> None:
    """What the image is built from, and what it needs: the collection itself, and an ssh client."""
    shutil.copytree(PROJECT, tmp_path / "project")
    builder = str(Path(sys.executable).parent / "ansible-builder")
    done = subprocess.run([builder, "create", "-v3"], cwd=tmp_path / "project", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    context = tmp_path / "project/context"
    (recipe,) = (path for path in context.iterdir() if path.is_file())
    steps = recipe.read_text()
    # Debian's Python can't make a pip of its own, and the home directory of a job is nobody's.
    assert "pip_install" not in re.sub(r"(?m)^COPY.*$", "", steps) and "ENV ANSIBLE_HOME=/tmp/.ansible" in steps
    assert yaml.safe_load((context / "_build/requirements.yml").read_text()) == yaml.safe_load(
        (PROJECT / "collections/requirements.yml").read_text()
    )
    done = subprocess.run([builder, "introspect", str(ROOT / "collections")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    needs = yaml.safe_load(done.stdout)
    assert not needs["python"], needs
    assert "openssh-client [platform:dpkg]" in done.stdout, done.stdout
