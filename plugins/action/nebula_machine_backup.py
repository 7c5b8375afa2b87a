# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from typing import Any

from ansible_collections.nebula.provision.plugins.plugin_utils.background_modules import run_with_progress
from ansible_collections.nebula.provision.plugins.plugin_utils.packed_options import PackingAction

MODULE = "nebula_machine_backup"


class ActionModule(PackingAction):
    """Runs the module in the background and shows its progress where machines are backed up; else as usual."""

    PACKED = ("requests", "observed")

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        arguments = self.packed_arguments()
        if self._task.check_mode or self._task.async_val or not _has_work(arguments):
            return super().run(tmp, task_vars)
        return dict(run_with_progress(self, f"nebula.provision.{MODULE}", arguments, task_vars, MODULE))


def _has_work(arguments: dict[str, Any]) -> bool:
    if arguments.get("state", "present") == "chosen":
        return False
    try:
        return bool(json.loads(arguments.get("requests") or "[]"))
    except ValueError:
        # The module reports what is wrong with the option.
        return False
