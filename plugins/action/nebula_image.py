# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends the files that are on the control node, and shows how far it is."""

from __future__ import annotations

import json
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.nebula.provision.plugins.plugin_utils.packing import pack
from ansible_collections.nebula.provision.plugins.plugin_utils.progress import run_with_progress
from ansible_collections.nebula.provision.plugins.plugin_utils.upload import LocalFile, LocalFileError, Sender

ITEM_KEYS = frozenset((
    "name", "path", "remote_src", "checksum", "type", "persistent", "size", "format", "fs", "dev_prefix", "target",
    "description", "attributes", "state",
))  # fmt: skip
MODULE = "nebula.provision.nebula_image"


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        args = dict(self._task.args)
        single = "images" not in args
        items = [{key: args[key] for key in ITEM_KEYS & set(args)}] if single else _items(args["images"])
        files, lost = self._local_files(items)
        # A file that is not there is that image's error, which the module tells with those of the others.
        self._upload = {"lost": lost} if lost else {}
        if not single or "path" in args:
            # Into the option that is not logged: a URL may hold credentials.
            args = {key: value for key, value in args.items() if key not in ITEM_KEYS}
            args["images"] = pack(items, "images")
        result = self._go(args, files, task_vars)
        if single and "images" in args and len(result.get("images") or ()) == 1:
            result["image"] = result["images"][0]
        return result

    def _go(self, args: dict[str, Any], files: dict[str, LocalFile], task_vars: Any) -> dict[str, Any]:
        if self._task.check_mode:
            checked = dict(args, _upload=json.dumps(self._upload))
            return dict(self._execute_module(module_name=MODULE, module_args=checked, task_vars=task_vars))
        ask = {"ask": {name: file.identity for name, file in files.items()}}
        first = self._execute_module(
            module_name=MODULE, module_args=dict(args, _upload=json.dumps({**self._upload, **ask})), task_vars=task_vars
        )
        missing = first.get("missing")
        if missing is None or first.get("failed"):
            return dict(first)
        sender = Sender(self, MODULE, args.get("root"), task_vars)
        use = {}
        for name in missing:
            if name in files:
                problem = sender.send(name, files[name], first["received"].get(name, 0))
                if problem is not None:
                    return problem
                use[name] = files[name].identity
        final = dict(args, _upload=json.dumps({**self._upload, "use": use}))
        return run_with_progress(self, MODULE, final, task_vars, "nebula_image")

    def _local_files(self, items: list[Any]) -> tuple[dict[str, LocalFile], dict[str, str]]:
        """The files of the control node that items name, by the image's name, and what is the matter with those that
        can't be read; with a local connection items are told that the path is on their own host."""
        files: dict[str, LocalFile] = {}
        lost: dict[str, str] = {}
        local = self._connection.transport == "local" or self._connection.transport.endswith(".local")
        for item in items:
            if not isinstance(item, dict):
                continue
            path, remote = item.get("path"), item.get("remote_src")
            if not isinstance(path, str) or not path or "://" in path or _is_true(remote):
                continue
            if str(item.get("state") or "present") == "absent":
                continue
            name = str(item.get("name"))
            try:
                found = self._find_needle("files", path)
            except Exception:
                lost[name] = "it is not on the control node"
                continue
            item["path"] = found
            if local:
                item["remote_src"] = True
                continue
            try:
                files[name] = LocalFile.of(found)
            except LocalFileError as error:
                lost[name] = str(error)
        return files, lost


def _items(images: Any) -> list[Any]:
    """The list that option images is, or its JSON."""
    if isinstance(images, str):
        try:
            images = json.loads(images)
        except ValueError:
            images = None
    if not isinstance(images, (list, tuple)):
        raise AnsibleActionFail("option images: it is not a list of dicts. Give one, or its JSON")
    return [dict(item) if isinstance(item, dict) else item for item in images]


def _is_true(value: Any) -> bool:
    return value is True or str(value).strip().lower() in ("yes", "true", "on", "1", "y")
