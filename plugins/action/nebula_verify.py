# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

from ansible_collections.nebula.provision.plugins.plugin_utils.background_modules import run_with_progress
from ansible_collections.nebula.provision.plugins.plugin_utils.packed_options import PackingAction


class ActionModule(PackingAction):
    """Shows how many guests are verified while the module waits for the others."""

    PACKED = ("vms",)

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        if self._task.check_mode or self._task.async_val:
            return super().run(tmp, task_vars)
        arguments = self.packed_arguments()
        return dict(run_with_progress(self, "nebula.provision.nebula_verify", arguments, task_vars, "nebula_verify"))
