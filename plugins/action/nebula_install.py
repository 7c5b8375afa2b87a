# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at the ISOs that are on the control node, before anything is sent or made."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.errors import NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.install import installer_iso
from ansible_collections.nebula.provision.plugins.plugin_utils import control_node_paths, template_files
from ansible_collections.nebula.provision.plugins.plugin_utils.packed_options import PackingAction


class ActionModule(PackingAction):
    PACKED = ("installs", "answers")

    def with_files(self, arguments: dict[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        try:
            installs = json.loads(arguments.get("installs") or "[]")
        except ValueError:
            # The module reports what is wrong with the option.
            return arguments
        found: dict[str, Any] = {}
        seen: set[str] = set()
        for install in installs if isinstance(installs, list) else []:
            name = str(install.get("name") or "") if isinstance(install, Mapping) else ""
            path = _local_path(install)
            if name and name in seen:
                # The module refuses both items, also if the ISO of one cannot be read.
                found[name] = {"twice": True}
            elif path:
                found[name] = self._look(path, variables)
            seen.add(name)
        if template_files.put_template_files(installs, variables, self.is_local):
            arguments = {**arguments, "installs": json.dumps(installs, ensure_ascii=False)}
        return {**arguments, "_local": json.dumps(found)}

    def _look(self, path: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Return the path of the ISO and what was found in it, or the error."""
        try:
            # A name without a slash may be the name of an image; a directory of that name is ignored.
            place = control_node_paths.find(path, variables, only_files="/" not in path)
        except control_node_paths.FileNotThere as error:
            return {"lost": f"it {error}"}
        if self.is_local:
            return {"path": place, "remote": True}
        try:
            facts = installer_iso.read_facts(place, f"iso {path}")
        except NebulaError as error:
            return {"path": place, "problem": error.found, "remedy": error.remedy}
        return {"path": place, "remote": False, "facts": dataclasses.asdict(facts), "size": os.path.getsize(place)}


def _local_path(install: Any) -> str:
    """Return the path on the control node that an item names, "" if it names none."""
    if not isinstance(install, Mapping) or str(install.get("state") or "") == "absent":
        return ""
    iso = install.get("iso")
    parts = {"path": iso} if isinstance(iso, str) else iso
    if not isinstance(parts, Mapping) or not isinstance(parts.get("path"), str) or "://" in parts["path"]:
        return ""
    return str(parts["path"]) if control_node_paths.is_ours(parts.get("remote_src")) else ""
