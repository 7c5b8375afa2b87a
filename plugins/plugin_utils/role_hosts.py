# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fills in variables of roles on a host, as a task of the role would."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

from ansible_collections.nebula.provision.plugins.lookup import unfit, unresolved
from ansible_collections.nebula.provision.plugins.plugin_utils import role_variables

# What a variable begins with that is there for all hosts of a run.
SHARED = ("ansible_play", "__nebula_", "hostvars", "omit")


class RoleHost:
    """Fills in templates of roles as a task of a role does on one host. own: variables of the inventory and the run."""

    def __init__(self, action: ActionBase, own: Mapping[str, Any]) -> None:
        self._action, self.own = action, own
        self.all = {**role_variables.defaults(), **own, **role_variables.variables()}
        self.templar = action._templar.copy_with_new_env(available_variables=self.all)

    def other(self, name: Any) -> RoleHost:
        """Return another host. name: a template of its name."""
        shared = {key: value for key, value in self.own.items() if key.startswith(SHARED)}
        return RoleHost(self._action, {**self.own["hostvars"].raw_get(self.value(name)), **shared})

    def value(self, template: Any) -> Any:
        return self.templar.template(template)

    def holds(self, condition: Any) -> bool:
        return bool(boolean(self.value(condition)))

    def packages(self, call: Mapping[str, Any]) -> list[str]:
        """Return the packages that the role installs before the call."""
        if "packages" not in call or not self.holds(self.all["nebula_manage_packages"]):
            return []
        return [str(name) for name in self.value(call["packages"])]

    def problems(self, role: str) -> list[str]:
        """Return what is wrong with variables of the role: they can't be filled in, or are of another kind."""
        asked = [each.LookupModule(loader=self._action._loader, templar=self.templar) for each in (unresolved, unfit)]
        return [str(found) for lookup in asked for found in lookup.run([], variables=self.all, role=role)]
