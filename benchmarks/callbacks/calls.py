# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes what each task of a run took, and whether it called a module on its host, to the file NEBULA_CALLS as JSON."""

from __future__ import annotations

import json
import os
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


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "calls"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._began: dict[tuple[str, str], float] = {}
        self._tasks: list[dict[str, Any]] = []

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        self._began[host.get_name(), task._uuid] = time.monotonic()

    def v2_runner_on_ok(self, result: Any) -> None:
        self._ended(result, self._calls(result))

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._ended(result, self._calls(result))

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._ended(result, calls=False)

    def v2_playbook_on_stats(self, _stats: Any) -> None:
        Path(os.environ["NEBULA_CALLS"]).write_text(json.dumps(self._tasks), encoding="utf-8")

    @staticmethod
    def _calls(result: Any) -> bool:
        return str(result._task.action).rpartition(".")[2] not in WITHOUT_A_MODULE

    def _ended(self, result: Any, calls: bool) -> None:
        task = result._task
        began = self._began.pop((result._host.get_name(), task._uuid), None)
        seconds = 0.0 if began is None else time.monotonic() - began
        self._tasks.append({"name": task.get_name(), "action": task.action, "seconds": seconds, "calls": calls})
