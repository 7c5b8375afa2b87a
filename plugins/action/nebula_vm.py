# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible_collections.nebula.provision.plugins.plugin_utils import template_files
from ansible_collections.nebula.provision.plugins.plugin_utils.packed_options import PackingAction


class ActionModule(PackingAction):
    # What many machines were seen to be has no secrets, but Ansible copies an option that is a list, and repeats it in
    # the answer.
    PACKED = ("vms", "context", "attributes", "inject", "owner", "declared", "observed", "moves")

    def with_files(self, arguments: dict[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        # In check mode the templates of this run are not stored; the module gets them from here.
        try:
            declared = json.loads(arguments.get("declared") or "{}")
        except ValueError:
            # The module reports what is wrong with the option.
            return arguments
        templates = declared.get("templates") if isinstance(declared, Mapping) else None
        if template_files.put_template_files(templates, variables, self.is_local):
            return {**arguments, "declared": json.dumps(declared, ensure_ascii=False)}
        return arguments
