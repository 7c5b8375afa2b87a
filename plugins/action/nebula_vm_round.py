# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

from ansible_collections.nebula.provision.plugins.plugin_utils.background_modules import run_with_progress
from ansible_collections.nebula.provision.plugins.plugin_utils.looking import LookingAction


class ActionModule(LookingAction):
    """Shows the progress of the module while it acts."""

    def called(self, arguments: dict[str, Any], task_vars: Any) -> dict[str, Any]:
        return dict(run_with_progress(self, "nebula.provision.nebula_vm_round", arguments, task_vars, "nebula_deploy"))
