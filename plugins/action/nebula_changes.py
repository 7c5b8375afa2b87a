# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows what an earlier task changed; that task's own result is not logged, since it may hold secrets."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

from ansible_collections.nebula.provision.plugins.plugin_utils import loaded_filters  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.nebula.provision.plugins.plugin_utils.harmless_answers import harmless_answer, message


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _supports_check_mode = True
    _VALID_ARGS = frozenset(("changed", "diff", "errors", "warnings"))

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        answer: dict[str, Any] = super().run(tmp, task_vars)
        answer["changed"] = boolean(self._task.args.get("changed", False))
        if self._task.args.get("diff"):
            answer["diff"] = self._task.args["diff"]
        if self._task.args.get("warnings"):
            answer["warnings"] = [str(text) for text in self._task.args["warnings"]]
        if self._task.args.get("errors"):
            answer |= {"failed": True, "msg": message(self._task.args["errors"])}
        # These words are those of another task's answer.
        return harmless_answer(answer)
