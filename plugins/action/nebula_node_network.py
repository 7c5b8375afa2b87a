# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure

from ansible_collections.nebula.provision.plugins.plugin_utils.harmless_answers import message
from ansible_collections.nebula.provision.plugins.plugin_utils.packed_options import PackingAction

# The node has put everything back by then, and is reached as before.
SECONDS = 100.0


class ActionModule(PackingAction):
    """Calls the module of the same name; no option of it is packed. If the module has moved addresses of the node to a
    bridge, it is called again by a new connection, so that they stay there."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        if result.get("moved") and self._task.args.get("state", "present") == "present":
            result = self._with_second_word(result, task_vars)
        return result

    def _with_second_word(self, first: dict[str, Any], task_vars: Any) -> dict[str, Any]:
        own = {name: self._task.args[name] for name in ("catalog", "root") if name in self._task.args}
        arguments = {**own, "moved": first["moved"], "state": "kept"}
        end = time.monotonic() + SECONDS
        while True:
            with contextlib.suppress(AnsibleConnectionFailure):
                self._connection.reset()
            try:
                second = self._execute_module(module_args=arguments, task_vars=task_vars)
                break
            except AnsibleConnectionFailure:
                if time.monotonic() > end:
                    raise
        if not second.get("failed"):
            return {**first, "moved": []}
        reported = message(filter(None, (first.get("msg"), second.get("msg"))))
        bridges = {*first["moved"]}
        refused = [link["network"] for link in first.get("links", ()) if link["bridge"] in bridges]
        return {
            **first,
            "failed": True,
            "msg": reported,
            "moved": [],
            "errors": [*first.get("errors", ()), *second.get("errors", ())],
            "refused": list(dict.fromkeys([*first.get("refused", ()), *refused])),
        }
