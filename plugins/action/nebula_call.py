# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

from ansible_collections.nebula.provision.plugins.module_utils.errors import harmless
from ansible_collections.nebula.provision.plugins.module_utils.printable import printable
from ansible_collections.nebula.provision.plugins.plugin_utils.module_calls import action_of, filled_in
from ansible_collections.nebula.provision.plugins.plugin_utils.template_faults import reason_of
from ansible_collections.nebula.provision.plugins.test.gone_wrong import gone_wrong

WORDLESS = "A task ended without a word: run it again with -vvv"


class ActionModule(ActionBase):
    """Calls a module of this collection, and fails with the module's own message and nothing else of its answer."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False
    _VALID_ARGS = frozenset(("call", "module", "options"))

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        variables = task_vars or {}
        name = str(self._task.args.get("call") or "")
        call = variables.get(name) if name else self._task.args
        if not isinstance(call, Mapping) or not isinstance(call.get("options"), Mapping) or "module" not in call:
            raise AnsibleActionFail(f"nebula_call: {harmless(name)}: give the name of a call, or module and options")
        try:
            if not boolean(self._templar.template(call.get("when", True))):
                return {"changed": False, "skipped": True}
            options = filled_in(call["options"], self._templar, variables) if name else dict(call["options"])
        except Exception as error:
            # Of Ansible's own message only names are taken, as it may show values.
            return {"changed": False, "failed": True, "msg": printable(f"{call['module']}: {reason_of(error)}")}
        answer = dict(action_of(self, str(call["module"]), options, self._templar).run(task_vars=task_vars))
        # A task with failed_when: false hands the whole answer to a later one, which reports what went wrong.
        if self._task.failed_when or not gone_wrong(answer):
            return answer
        why = {"msg": printable(str(answer.get("msg") or WORDLESS))}
        return {key: answer[key] for key in KEPT if key in answer} | {"failed": not answer.get("unreachable")} | why


# What is shown of a call that failed: the rest of the answer may be long, such as every image of the catalog.
KEPT = ("changed", "unreachable", "diff", "warnings")
