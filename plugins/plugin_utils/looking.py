# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks several modules at once what the roles would call them with (module_utils/looking.py).

A role has each call as a variable (docs/architecture.md, "One way to call a module"). Its tasks and these looks fill in
the same variable, so that both ask the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.model.answers import looks
from ansible_collections.nebula.provision.plugins.plugin_utils import (  # pylint: disable=unused-import
    loaded_filters,  # noqa: F401
    role_variables,
)
from ansible_collections.nebula.provision.plugins.plugin_utils.forged_facts import refusals
from ansible_collections.nebula.provision.plugins.plugin_utils.module_calls import CallingAction, action_of
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import without_templates
from ansible_collections.nebula.provision.plugins.plugin_utils.packed_options import pack
from ansible_collections.nebula.provision.plugins.plugin_utils.role_hosts import RoleHost
from ansible_collections.nebula.provision.plugins.plugin_utils.template_faults import reason_of

# Ansible imports the plugin of an action before it makes the process of each of its tasks, which then has what is read
# here.
role_variables.defaults(), role_variables.variables()


class NotLooked(Exception):
    """Says why a look can't ask. The roles then do what is to be done, and report what is wrong."""


class LookingAction(CallingAction):
    """Asks the modules of option calls, all by one call of the module of the task's own name."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        calls = [role_variables.variables()[name] for name in self._task.args.get("calls") or ()]
        try:
            for refused in refusals(task_vars or {}):
                raise NotLooked(refused)
            known = self._known(task_vars or {})
            # Before a task has registered its result, others take it from here.
            before: dict[str, Any] = {call["result"]: {"results": []} if "listed" in call else {} for call in calls}
            host = RoleHost(self, {**before, **(task_vars or {}), **known})
            asked, packages = self._asked(host, calls)
        except Exception as problem:
            # Whatever it is, the role meets it, too, and says more. Of Ansible's own message only names are taken.
            why = str(problem) if isinstance(problem, NotLooked) else reason_of(problem)
            return {"changed": False, "differs": why, "facts": {}}
        given = {"calls": pack(asked, "calls"), "packages": packages}
        result = self.called(given, task_vars)
        # What earlier looks have found is registered by them. It may be large, and there is one result for each node.
        result["facts"], result["differs"] = looks.read(result, [call["name"] for call in asked])
        result.pop("answers", None)
        for call in calls:
            if "listed" in call and result["facts"].get(call["result"]):
                result["facts"][call["result"]] = {"results": [result["facts"][call["result"]]]}
        if not result["differs"]:
            there = RoleHost(self, {**host.own, **without_templates(result["facts"])})
            found = self._task.args.get("found") or {}
            result["facts"] |= {name: there.options(there.all[variable]) for name, variable in found.items()}
        # These are large, and each is shown by the role's own task where something is done.
        result["_ansible_verbose_override"] = True
        return result

    def called(self, arguments: dict[str, Any], task_vars: Any) -> dict[str, Any]:
        """Call the module, and return its answer."""
        return dict(self._execute_module(module_args=arguments, task_vars=task_vars))

    def _known(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Return what earlier looks have found."""
        looked = [variables.get(name) for name in self._task.args.get("after") or ()]
        found = [look["facts"] for look in looked if isinstance(look, Mapping) and "facts" in look]
        return without_templates({name: value for facts in found for name, value in facts.items()})

    def _asked(self, here: RoleHost, wanted: Iterable[Any]) -> tuple[list[dict[str, Any]], list[str]]:
        """Return the calls for the module, and the packages that the roles would install before them."""
        for role in self._task.args.get("roles") or ():
            _refuse_problems(here, role)
        hosts = [(call, here.other(call["host"]) if "host" in call else here) for call in wanted]
        due = [(call, there) for call, there in hosts if there.holds(call.get("when", True))]
        for call, there in due:
            _refuse_problems(there, call["role"])
            if there.holds(call.get("unless", False)):
                raise NotLooked(f"{call['module']}: {call['unless']}")
        asked, packages = [], []
        for call, there in due:
            packages += (here.other(call["packages_of"]) if "packages_of" in call else there).packages(call)
            action = action_of(self, call["module"], there.options(call["options"]), there.templar)
            asked.append({"name": call["result"], "module": call["module"], "options": action.prepared(there.all)})
        return asked, packages


def _refuse_problems(host: RoleHost, role: str) -> None:
    if problems := host.problems(role):
        raise NotLooked("; ".join(problems))
