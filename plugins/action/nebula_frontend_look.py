# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail

from ansible_collections.nebula.provision.plugins.plugin_utils.looking import (
    CATALOG,
    MACHINES,
    OVN,
    OVN_CENTRAL,
    LookingAction,
)

LOOKS = {"catalog": CATALOG, "ovn_central": OVN_CENTRAL, "ovn": OVN, "machines": MACHINES}


class ActionModule(LookingAction):
    """Reads from the roles what they would call on the front-end, and has it all looked at in one call."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        wanted = str(self._task.args.get("of"))
        if wanted not in LOOKS:
            raise AnsibleActionFail(f"nebula_frontend_look: option of is {wanted!r}. Give one of {', '.join(LOOKS)}")
        return self.look(LOOKS[wanted], {"of": wanted}, task_vars or {})
