# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows a line for each installation while the module waits for all of them."""

from __future__ import annotations

import json
import time
from typing import Any

from ansible.utils.display import Display

from ansible_collections.nebula.provision.plugins.plugin_utils.background_modules import run_with_progress, shown_line
from ansible_collections.nebula.provision.plugins.plugin_utils.module_calls import CallingAction

MODULE = "nebula.provision.nebula_install_wait"
# Seconds between two lines of one installation: its console changes all the time.
SAY_SECONDS = 10.0


class ActionModule(CallingAction):
    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        return dict(run_with_progress(self, MODULE, self._task.args, task_vars, "nebula_install", _Lines().say))


class _Lines:
    """Displays the line of each installation if it has changed, at most every SAY_SECONDS."""

    def __init__(self) -> None:
        self._shown: dict[str, tuple[str, float]] = {}

    def say(self, text: str) -> None:
        prefix, _colon, report = text.partition(": ")
        try:
            lines = json.loads(report)
        except ValueError:
            return
        now = time.monotonic()
        for name, line in lines.items() if isinstance(lines, dict) else ():
            before, at = self._shown.get(name, ("", -SAY_SECONDS))
            if line != before and now - at >= SAY_SECONDS:
                self._shown[name] = (line, now)
                # JSON can hide what controls a terminal until it is read.
                Display().display(shown_line(f"{prefix}: {line}"))
