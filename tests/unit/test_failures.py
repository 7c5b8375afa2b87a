# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests how roles and playbooks fail. Ansible prints the whole result of a failed task, so each module that may fail is
called by nebula_call, which prints its message alone, or hands its result on to a task that reports it."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filled_in import tasks_as_written

ROOT = Path(__file__).parents[2]
FILES = sorted([*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("roles/*/handlers/*.yml"), *ROOT.glob("playbooks/*.yml")])
# They show what they are given, or what a program printed, and have nothing else to say.
SHOWING = {"nebula_builtin", "nebula_changes", "nebula_table"}
CALL = {"nebula_call"}
# They register nothing, since something later fails in their place: points of the guests, and machines.
UNHEARD = {"Wait for the reports of the guests", "Have what runs the machines run"}


def talking(path: Path) -> Iterator[tuple[dict[str, Any], set[str]]]:
    """Yield the tasks of modules of ours that may fail, and these modules."""
    for task in tasks_as_written(path):
        modules = {key.rpartition(".")[2] for key in task if key.startswith("nebula.provision.")} - SHOWING
        if modules:
            yield task, modules


def wrong(path: Path, everywhere: str) -> Iterator[str]:
    """Yield what is wrong with a file's tasks. everywhere: the text of all files that may report their failures."""
    for task, modules in talking(path):
        if "failed_when" not in task:
            if modules != CALL:
                yield f"{task['name']}: Ansible prints its whole result. Call the module by nebula_call"
        elif task["failed_when"] is not False:
            yield f"{task['name']}: failed_when is false, or is left out"
        elif task["name"] not in UNHEARD and not _is_used(task.get("register"), everywhere):
            yield f"{task['name']}: nothing reports its failure, for which it does not end"


def _is_used(result: str | None, everywhere: str) -> bool:
    return result is not None and re.search(rf"(?<!register: )\b{result}\b", everywhere) is not None


@pytest.fixture(scope="module")
def everywhere() -> str:
    more = [
        *ROOT.glob("roles/*/vars/*.yml"),
        *ROOT.glob("plugins/plugin_utils/**/*.py"),
        *ROOT.glob("plugins/filter/*"),
    ]
    return "\n".join(path.read_text(encoding="utf-8") for path in (*FILES, *more) if path.is_file())


def test_all_of_them_are_looked_at() -> None:
    names = {path.name for path in FILES}
    assert {"audit.yml", "backup.yml", "restore.yml", "site.yml", "teardown.yml", "failed.yml", "live.yml"} <= names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_failed_task_prints_its_message_and_no_whole_result(path: Path, everywhere: str) -> None:
    assert [*wrong(path, everywhere)] == []


@pytest.mark.parametrize("path", sorted(ROOT.glob("playbooks/*.yml")), ids=lambda path: path.name)
def test_what_went_wrong_in_a_playbook_ends_it(path: Path) -> None:
    """Tell where a task after it says so: of a node that does not answer, and of a catalog that is to be compared."""
    goes_on = {task["name"] for task, _modules in talking(path) if "failed_when" in task}
    reported_later = {task["name"] for task, _modules in talking(path) if task.get("ignore_unreachable")}
    assert goes_on <= {*reported_later, "Ask whose things are to be looked for"}


@pytest.mark.parametrize(
    ("task", "is_wrong"),
    [
        ("nebula.provision.nebula_call: {module: nebula_vm}", False),
        ("nebula.provision.nebula_vm: {}", True),
        ("{nebula.provision.nebula_vm: {}, failed_when: false, register: known}", False),
        ("{nebula.provision.nebula_call: {call: known}, failed_when: false, register: known}", False),
        ("{nebula.provision.nebula_call: {call: known}, failed_when: false, register: nowhere}", True),
        ("{nebula.provision.nebula_call: {call: known}, failed_when: x is failed, register: known}", True),
        ("{nebula.provision.nebula_vm: {}, failed_when: false}", True),
        ("{block: [{name: x, nebula.provision.nebula_vm: {}}]}", True),
        ("nebula.provision.nebula_table: {title: x}", False),
    ],
)
def test_a_task_that_fails_in_another_way_is_seen(tmp_path: Path, task: str, is_wrong: bool) -> None:
    file = tmp_path / "main.yml"
    text = task if task.startswith("{") else f"{{{task}}}"
    file.write_text(f"- {text[:-1]}, name: x}}\n")
    assert bool([*wrong(file, "register: nowhere\nwhen: known is failed\n")]) is is_wrong


def never_come(source: str) -> list[int]:
    """Return the lines at which an error of the operating system is suppressed outside of what made ours of it."""
    found = []
    for node in ast.walk(ast.parse(source)):
        inner = [item.context_expr for item in node.items] if isinstance(node, ast.With) else []
        names = [ast.unparse(each.func).rpartition(".")[2] if isinstance(each, ast.Call) else "" for each in inner]
        if "explained" not in names:
            continue
        for each, name in zip(inner[: names.index("explained")], names):
            if name == "suppress" and any(is_of_the_system(argument) for argument in each.args):
                found.append(node.lineno)
    return found


def is_of_the_system(name: ast.expr) -> bool:
    known = getattr(builtins, name.id, None) if isinstance(name, ast.Name) else None
    return isinstance(known, type) and issubclass(known, OSError)


def test_what_is_suppressed_is_suppressed_before_it_is_explained() -> None:
    """explained() makes an error of ours of what the operating system says: outside of it, there is none any more."""
    assert never_come("with suppress(FileNotFoundError), explained(path):\n    pass\n") == [1]
    assert never_come("with explained(path), contextlib.suppress(FileNotFoundError):\n    pass\n") == []
    wrong = {str(path): never_come(path.read_text(encoding="utf-8")) for path in ROOT.glob("plugins/**/*.py")}
    assert {path: lines for path, lines in wrong.items() if lines} == {}
