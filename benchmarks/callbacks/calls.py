# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes what each task of a run took, and whether it called a module on its host, to the file NEBULA_CALLS as JSON.

What the processors computed for a task is known of the task as a whole, on all its hosts, when the next one begins: it
is with the first of its results. It has the work of Ansible itself, and of modules on this machine."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import time
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: calls
type: aggregate
short_description: Seconds of each task, and which of them called a module
description: Writes them as JSON to the file that the environment variable NEBULA_CALLS names.
"""

# Actions that end on the control node.
WITHOUT_A_MODULE = frozenset(
    ("assert", "debug", "fail", "include_role", "include_tasks", "meta", "set_fact", "validate_argument_spec")
    + ("nebula_changes", "nebula_table")
)
# Seconds that a worker which has answered may take to end.
PATIENCE = 5


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "calls"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._began: dict[tuple[str, str], float] = {}
        self._tasks: list[dict[str, Any]] = []
        # What was computed when the task began, and the place of its first result.
        self._task: tuple[float, int] | None = None

    def v2_playbook_on_play_start(self, _play: Any) -> None:
        self._task_ended()

    def v2_playbook_on_task_start(self, _task: Any, is_conditional: bool) -> None:
        self._task_ended()
        self._task = (_computed(), len(self._tasks))

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        self.v2_playbook_on_task_start(task, False)

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        self._began[host.get_name(), task._uuid] = time.monotonic()

    def v2_runner_on_ok(self, result: Any) -> None:
        self._ended(result, self._calls(result))

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._ended(result, self._calls(result))

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._ended(result, calls=False)

    def v2_playbook_on_stats(self, _stats: Any) -> None:
        self._task_ended()
        Path(os.environ["NEBULA_CALLS"]).write_text(json.dumps(self._tasks), encoding="utf-8")

    def _task_ended(self) -> None:
        if self._task is not None:
            before, first = self._task
            for entry in self._tasks[first : first + 1]:
                entry["processor"] = _computed() - before
        self._task = None

    @staticmethod
    def _calls(result: Any) -> bool:
        return str(result._task.action).rpartition(".")[2] not in WITHOUT_A_MODULE

    def _ended(self, result: Any, calls: bool) -> None:
        task = result._task
        began = self._began.pop((result._host.get_name(), task._uuid), None)
        seconds = 0.0 if began is None else time.monotonic() - began
        self._tasks.append({"name": task.get_name(), "action": task.action, "seconds": seconds, "calls": calls})


def _computed() -> float:
    """Seconds that this process and its workers computed until now."""
    # They have answered, and are about to end; they are counted when somebody has waited for them.
    for worker in multiprocessing.active_children():
        worker.join(PATIENCE)
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
