# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from typing import Any

from ansible_collections.nebula.provision.plugins.plugin_utils.background_modules import run_with_progress
from ansible_collections.nebula.provision.plugins.plugin_utils.packed_options import PackingAction


class ActionModule(PackingAction):
    """Runs the module in the background and shows its progress if the plan has machines; else runs it as usual."""

    PACKED = ("plan",)

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        arguments = self.packed_arguments()
        if self._task.check_mode or self._task.async_val or not _has_machines(arguments):
            return super().run(tmp, task_vars)
        return dict(run_with_progress(self, "nebula.provision.nebula_deploy", arguments, task_vars, "nebula_deploy"))


def _has_machines(arguments: dict[str, Any]) -> bool:
    if arguments.get("state") != "applied":
        return False
    try:
        plan = json.loads(arguments.get("plan") or "{}")
        return bool(plan.get("vms") or plan.get("given_up"))
    except (ValueError, AttributeError):
        # The module reports what is wrong with the option.
        return False
