# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail

from ansible_collections.nebula.provision.plugins.plugin_utils import template_files
from ansible_collections.nebula.provision.plugins.plugin_utils.packed_options import PackingAction


class ActionModule(PackingAction):
    PACKED = ("template", "templates")

    def with_files(self, arguments: dict[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        if arguments.get("template_file") is not None and arguments.get("template") is None:
            return self._with_file(arguments, variables)
        try:
            items = json.loads(arguments.get("templates") or "[]")
        except ValueError:
            # The module reports what is wrong with the option.
            return arguments
        if template_files.put_template_files(items, variables, self.is_local):
            return {**arguments, "templates": json.dumps(items, ensure_ascii=False)}
        return arguments

    def _with_file(self, arguments: dict[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        item = {"template_file": str(arguments["template_file"])}
        template_files.put_template_files([item], variables, self.is_local)
        file: Any = item["template_file"]
        if not isinstance(file, Mapping):
            return {**arguments, "template_file": file}
        if "lost" in file:
            raise AnsibleActionFail(f"nebula_template: template_file {file['path']}: {file['lost']}")
        rest = {name: value for name, value in arguments.items() if name != "template_file"}
        return {**rest, "template": file["content"]}
