# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How roles and playbooks fail: Ansible prints the whole result of a failed task, so each task whose module may fail
hands its message to a task that says nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILES = sorted([*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("roles/*/handlers/*.yml"), *ROOT.glob("playbooks/*.yml")])
# They show what they are given, or what a program printed, and have nothing else to say.
SHOWING = {"nebula_builtin", "nebula_changes", "nebula_table"}
TASKS = ("block", "rescue", "always", "pre_tasks", "tasks", "post_tasks", "handlers")


def tasks_of(path: Path) -> Iterator[dict[str, Any]]:
    waiting = list(yaml.safe_load(path.read_text()) or ())
    while waiting:
        task = waiting.pop(0)
        waiting += [inner for key in TASKS for inner in task.get(key) or ()]
        yield task


def modules_of(task: dict[str, Any]) -> set[str]:
    return {key.rpartition(".")[2] for key in task if key.startswith("nebula.provision.")} - SHOWING


def test_all_of_them_are_looked_at() -> None:
    names = {path.name for path in FILES}
    assert {"audit.yml", "backup.yml", "restore.yml", "site.yml", "teardown.yml", "failed.yml", "live.yml"} <= names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_failed_task_prints_its_message_and_no_whole_result(path: Path) -> None:
    talking = [task for task in tasks_of(path) if modules_of(task)]
    assert [task["name"] for task in talking if task.get("failed_when") is not False] == []


@pytest.mark.parametrize("path", sorted(ROOT.glob("playbooks/*.yml")), ids=lambda path: path.name)
def test_what_went_wrong_in_a_playbook_ends_it(path: Path) -> None:
    """Unless a task after it says so: of a node that does not answer, and of a catalog that is to be compared."""
    text = path.read_text()
    said_later = {task["name"] for task in tasks_of(path) if task.get("ignore_unreachable")}
    said_later.add("Ask whose things are to be looked for")
    for task in tasks_of(path):
        if modules_of(task) and task["name"] not in said_later:
            assert f"{task['register']} is nebula.provision.gone_wrong" in text, task["name"]
