# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.model.defaults import PACKAGE_CACHE_SECONDS
from ansible_collections.nebula.provision.plugins.plugin_utils.module_calls import CallingAction


class ActionModule(CallingAction):
    """Looks with the module of this name, and has apt install what is missing. Names of packages are all it takes
    from an answer, and only those that the task has asked for."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        looked = dict(self._execute_module(module_args=self._task.args, task_vars=task_vars))
        if looked.get("failed") or looked.get("unreachable"):
            return looked
        names, others = ([str(name) for name in self._task.args.get(option) or []] for option in ("names", "others"))
        installed = [name for name in dict.fromkeys([*names, *others]) if name in (looked.get("installed") or ())]
        missing = [name for name in names if name not in installed]
        answer: dict[str, Any] = {"changed": bool(missing), "installed": installed, "missing": missing}
        if not missing:
            return answer
        if self._task.check_mode:
            # There apt would need python3-apt, which a bare host lacks.
            return {**answer, "diff": [{"prepared": f"Would be installed: {', '.join(missing)}\n"}]}
        apt = self._execute_module(
            module_name="ansible.builtin.apt",
            module_args={
                "name": missing,
                "state": "present",
                "install_recommends": False,
                "update_cache": True,
                "cache_valid_time": self._task.args.get("cache_seconds", PACKAGE_CACHE_SECONDS),
            },
            task_vars=task_vars,
        )
        if apt.get("failed") or apt.get("unreachable"):
            kept = ("failed", "unreachable", "msg", "stdout", "stderr", "rc")
            return {"changed": False, **{key: apt[key] for key in kept if key in apt}}
        return {**answer, "installed": [*installed, *missing]}
