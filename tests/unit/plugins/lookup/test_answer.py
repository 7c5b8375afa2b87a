# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers as the job template of a survey has them, read by Ansible itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from shown_values import show, shown

from ansible_collections.nebula.provision.plugins.plugin_utils.surveys import questions

ROOT = Path(__file__).resolve().parents[4]
ASKED = [
    {"variable": "nebula_images[].name", "ask": "Name"},
    {"variable": "nebula_images[].size", "ask": "Size", "type": "integer"},
    {"variable": "nebula_images[].persistent", "ask": "Persistent?", "type": "yes_no"},
    {"variable": "nebula_images[].description", "ask": "Description"},
    {"variable": "nebula_backup_keep", "ask": "How many", "type": "integer", "default": 10},
    {"variable": "nebula_backup_images", "ask": "Images, too?", "type": "yes_no", "default": "no"},
    {"variable": "nebula_backup", "ask": "Which"},
]
READ = (
    "{'images': nebula_images, 'keep': nebula_backup_keep | int, 'all': nebula_backup_images | bool,"
    " 'which': nebula_backup | default('the newest', true)}"
)
PLAY = {"hosts": "localhost", "gather_facts": False, "tasks": [show(READ)]}


def read(tmp_path: Path, answers: dict[str, Any]) -> tuple[Any, str]:
    (tmp_path / "play.yml").write_text(json.dumps([PLAY]))
    # What somebody typed; AWX marks it as no template.
    marked = "".join(f"{name}: !unsafe {json.dumps(value)}\n" for name, value in answers.items())
    variables = questions.variables(ASKED)
    (tmp_path / "variables.yml").write_text(marked + "".join(f"{k}: {json.dumps(v)}\n" for k, v in variables.items()))
    program = str(Path(sys.executable).parent / "ansible-playbook")
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
    }
    environment.pop("PYTHONPATH", None)
    command = [program, "-i", "localhost,", "-c", "local", "-e", f"@{tmp_path}/variables.yml", f"{tmp_path}/play.yml"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return shown(done.stdout), done.stdout + done.stderr


def test_answers_become_what_the_lists_want(tmp_path):
    answers = {
        "answer_images_name": " a {{ 1 + 1 }} 'name' ",
        "answer_images_size": "2",
        "answer_images_persistent": "yes",
        "answer_images_description": "",
        "answer_backup_keep": 3,
        "answer_backup_images": "yes",
        "answer_backup": "/srv/x.db",
    }
    found, output = read(tmp_path, answers)
    assert found == {
        "images": [{"name": "a {{ 1 + 1 }} 'name'", "size": 2, "persistent": True}],
        "keep": 3,
        "all": True,
        "which": "/srv/x.db",
    }, output


def test_blank_answers_are_as_if_they_were_not_there(tmp_path):
    for number, answers in enumerate(
        ({}, dict.fromkeys(("answer_images_name", "answer_backup_keep", "answer_backup"), ""))
    ):
        place = tmp_path / str(number)
        place.mkdir()
        found, output = read(place, answers)
        assert found == {"images": [{}], "keep": 10, "all": False, "which": "the newest"}, output


def test_an_error_says_what_to_type(tmp_path):
    found, output = read(tmp_path, {"answer_images_size": "many"})
    assert found is None and "answer_images_size: 'many' is not a whole number" in output.replace("\n", " "), output
