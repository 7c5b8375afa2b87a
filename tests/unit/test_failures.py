# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the roles fail: Ansible prints the whole result of a failed task, so a task whose module answers with lists even
when it fails hands its message to a task that says nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = Path(__file__).parents[2] / "roles"
# They answer with what they found of all items, beside the sentence that says what went wrong.
TALKATIVE = {
    "nebula_datastore", "nebula_deploy", "nebula_guest_context", "nebula_host", "nebula_image", "nebula_image_prepare",
    "nebula_network", "nebula_node_network", "nebula_verify", "nebula_vm", "nebula_vm_record",
}  # fmt: skip


def tasks_of(path: Path) -> Iterator[dict[str, Any]]:
    waiting = list(yaml.safe_load(path.read_text()) or ())
    while waiting:
        task = waiting.pop(0)
        waiting += [inner for key in ("block", "rescue", "always") for inner in task.get(key, ())]
        yield task


@pytest.mark.parametrize("role", sorted(path.name for path in ROLES.iterdir()))
def test_a_failed_task_prints_its_message_and_no_lists(role: str) -> None:
    printed = []
    for path in sorted((ROLES / role / "tasks").glob("*.yml")):
        for task in tasks_of(path):
            modules = {key.rpartition(".")[2] for key in task if key.startswith("nebula.provision.")}
            if modules & TALKATIVE and task.get("failed_when") is not False:
                printed.append(f"{path.name}: {task['name']}")
    assert printed == []
