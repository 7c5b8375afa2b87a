# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Mapping
from types import new_class
from typing import Any

from ansible.errors import AnsibleAction, AnsibleActionFail
from ansible.plugins.action import ActionBase, command, copy, fetch, normal, script

from ansible_collections.nebula.provision.plugins.module_utils.errors import harmless
from ansible_collections.nebula.provision.plugins.plugin_utils.forged_facts import without_facts
from ansible_collections.nebula.provision.plugins.plugin_utils.harmless_answers import harmless_answer
from ansible_collections.nebula.provision.plugins.plugin_utils.module_calls import CallingAction, printable_errors

# How ansible-core calls each of the modules, and what is taken of its answer beside what every answer has.
_LINES = ("stdout_lines", "stderr_lines")
MODULES: dict[str, tuple[type[ActionBase], tuple[str, ...]]] = {
    "command": (command.ActionModule, _LINES),
    "copy": (copy.ActionModule, ()),
    "fetch": (fetch.ActionModule, ("dest", "checksum")),
    "file": (normal.ActionModule, ()),
    "script": (script.ActionModule, _LINES),
    "slurp": (normal.ActionModule, ("content", "encoding")),
    "stat": (normal.ActionModule, ("stat",)),
}
NAMES = ", ".join(MODULES)
# Of facts it has none but those by which Ansible finds the host's Python again.
EVERY = frozenset(
    {
        *("changed", "failed", "skipped", "unreachable", "msg", "rc", "stdout", "stderr", "diff", "exception"),
        *("warnings", "deprecations", "ansible_facts"),
    }
)


class ActionModule(CallingAction):
    """Calls a module of ansible-core as ansible-core does. Each answer on the way is made harmless as those of our own
    modules are, and of the last one the task gets no more than it asks for."""

    TRANSFERS_FILES = True
    _supports_check_mode = True
    _supports_async = False
    _VALID_ARGS = frozenset(("module", "options"))

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        name, options = str(self._task.args.get("module")), self._task.args.get("options")
        if name not in MODULES:
            raise AnsibleActionFail(f"nebula_builtin: module {harmless(name)}: give one of {NAMES}")
        if not isinstance(options, Mapping):
            raise AnsibleActionFail("nebula_builtin: options: give the options of the module as a dict")
        with printable_errors():
            try:
                answer = self._calling(name, options).run(task_vars=task_vars)
            except AnsibleAction as error:
                # Errors of this kind bring an answer of their own.
                for part in {"result", "_result"} & {*vars(error)}:
                    setattr(error, part, self._taken(name, getattr(error, part), task_vars))
                raise
        return self._taken(name, answer, task_vars)

    def _calling(self, name: str, options: Mapping[str, Any]) -> ActionBase:
        """Return ansible-core's own action for the module, changed so that its calls are made as ours are."""
        bases, loaded = (CallingAction, MODULES[name][0]), {"_load_name": f"ansible.builtin.{name}"}
        kind = new_class("ActionModule", bases, exec_body=lambda body: body.update(loaded))
        task = self._task.copy()
        # A command in cmd reaches these modules so, which Ansible has done by itself for tasks of theirs.
        own = {"_raw_params" if key == "cmd" else key: value for key, value in options.items()}
        task.action, task.args = f"ansible.builtin.{name}", own
        return kind(
            task=task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )

    def _taken(self, name: str, answer: Mapping[str, Any], task_vars: Any) -> dict[str, Any]:
        taken = {key: value for key, value in answer.items() if key in EVERY or key in MODULES[name][1]}
        return harmless_answer(without_facts(taken, self._asked_host(task_vars), f"ansible.builtin.{name}"))
