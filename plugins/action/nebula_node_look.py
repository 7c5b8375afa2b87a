# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

from ansible_collections.nebula.provision.plugins.plugin_utils.looking import NODE, LookingAction


class ActionModule(LookingAction):
    """Reads from the roles what they would call on a node, and has it all looked at in one call."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        return self.look(NODE, {}, task_vars or {})
