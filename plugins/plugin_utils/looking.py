# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks several modules at once what the roles would call them with (module_utils/looking.py).

A role has each call as a variable (docs/architecture.md, "One way to call a module"). Its tasks and these looks fill in
the same variable, so that both ask the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.nebula.provision.plugins.lookup import unfit, unresolved
from ansible_collections.nebula.provision.plugins.module_utils.model.answers import looks
from ansible_collections.nebula.provision.plugins.plugin_utils import role_variables
from ansible_collections.nebula.provision.plugins.plugin_utils.forged_facts import refusals
from ansible_collections.nebula.provision.plugins.plugin_utils.module_calls import CallingAction, action_of, filled_in
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import without_templates
from ansible_collections.nebula.provision.plugins.plugin_utils.packed_options import pack
from ansible_collections.nebula.provision.plugins.plugin_utils.template_faults import reason_of

# What a variable begins with that is there for all hosts of a run.
SHARED = ("ansible_play", "__nebula_", "hostvars", "omit")


class NotLooked(Exception):
    """Says why a look can't ask. The roles then do what is to be done, and report what is wrong."""


class LookingAction(CallingAction):
    """Asks the modules of option calls, all by one call of the module of the task's own name."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        known = without_templates(dict(self._task.args.get("known") or {}))
        named = self._task.args.get("calls") or ()
        calls = {name: role_variables.variables()[name] for name in named}
        try:
            for refused in refusals(task_vars or {}):
                raise NotLooked(refused)
            # Before a task has registered its result, others take it from here.
            before: dict[str, Any] = {
                call["result"]: {"results": []} if "listed" in call else {} for call in calls.values()
            }
            host = Host(self, {**before, **(task_vars or {}), **known})
            asked, packages = self._asked(host, calls.values())
        except Exception as problem:
            # Whatever it is, the role meets it, too, and says more. Of Ansible's own message only names are taken.
            why = str(problem) if isinstance(problem, NotLooked) else reason_of(problem)
            return {"changed": False, "differs": why, "facts": {}, "answers": {}}
        given = {"calls": pack(asked, "calls"), "packages": packages}
        result = dict(self._execute_module(module_args=given, task_vars=task_vars))
        answers, result["differs"] = looks.read(result, [call["name"] for call in asked])
        result["facts"] = {**known, **answers}
        for call in calls.values():
            if "listed" in call and answers.get(call["result"]):
                result["facts"][call["result"]] = {"results": [answers[call["result"]]]}
        if not result["differs"]:
            there = Host(self, {**host.own, **without_templates(result["facts"])})
            result["facts"] |= {name: there.value(there.all[name]) for name in self._task.args.get("found") or ()}
        # These are large, and each is shown by the role's own task where something is done.
        result["_ansible_verbose_override"] = True
        return result

    def _asked(self, here: Host, wanted: Iterable[Any]) -> tuple[list[dict[str, Any]], list[str]]:
        """Return the calls for the module, and the packages that the roles would install before them."""
        for role in self._task.args.get("roles") or ():
            here.check(role)
        hosts = [(call, here.other(call["host"]) if "host" in call else here) for call in wanted]
        due = [(call, there) for call, there in hosts if there.holds(call.get("when", True))]
        for call, there in due:
            there.check(call["role"])
            if there.holds(call.get("unless", False)):
                raise NotLooked(f"{call['module']}: {call['unless']}")
        asked, packages = [], []
        for call, there in due:
            packages += (there.other(call["packages_of"]) if "packages_of" in call else there).packages(call)
            options = filled_in(call["options"], there.templar, there.all)
            action = action_of(self, call["module"], options, there.templar)
            asked.append({"name": call["result"], "module": call["module"], "options": action.prepared(there.all)})
        return asked, packages


class Host:
    """Fills in templates of roles as a task of a role does on one host. own: variables of the inventory and the run."""

    def __init__(self, action: LookingAction, own: Mapping[str, Any]) -> None:
        self._action, self.own = action, own
        self.all = {**role_variables.defaults(), **own, **role_variables.variables()}
        self.templar = action._templar.copy_with_new_env(available_variables=self.all)

    def other(self, name: Any) -> Host:
        """Return another host. name: a template of its name."""
        shared = {key: value for key, value in self.own.items() if key.startswith(SHARED)}
        return Host(self._action, {**self.own["hostvars"].raw_get(self.value(name)), **shared})

    def value(self, template: Any) -> Any:
        return self.templar.template(template)

    def holds(self, condition: Any) -> bool:
        return bool(boolean(self.value(condition)))

    def packages(self, call: Mapping[str, Any]) -> list[str]:
        """Return the packages that the role installs before the call."""
        if "packages" not in call or not self.holds(self.all["nebula_manage_packages"]):
            return []
        return [str(name) for name in self.value(call["packages"])]

    def check(self, role: str) -> None:
        """Raise NotLooked if variables of the role can't be filled in, or are of another kind than it takes."""
        for lookup in (unresolved, unfit):
            asked = lookup.LookupModule(loader=self._action._loader, templar=self.templar)
            problems = asked.run([], variables=self.all, role=role)
            if problems:
                raise NotLooked("; ".join(problems))
