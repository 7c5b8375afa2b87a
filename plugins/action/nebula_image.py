# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends files of images from the control node to the front-end, and shows the progress of the module."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail

from ansible_collections.nebula.provision.plugins.module_utils.model.specifications.image import KEYS
from ansible_collections.nebula.provision.plugins.plugin_utils import control_node_paths
from ansible_collections.nebula.provision.plugins.plugin_utils.background_modules import run_with_progress
from ansible_collections.nebula.provision.plugins.plugin_utils.module_calls import CallingAction
from ansible_collections.nebula.provision.plugins.plugin_utils.packed_options import is_local, pack
from ansible_collections.nebula.provision.plugins.plugin_utils.upload import LocalFile, LocalFileError, Sender

ITEM_KEYS = frozenset(KEYS)
# A single image with one of these options is moved into option images, which is not logged: a URL may hold credentials.
PACKED = tuple(name for name, key in KEYS.items() if key.packed)
# Limit in bytes for the files that an item adds to an image; they travel within the module's arguments.
PACKAGES = (".deb", ".rpm", ".apk")
LARGEST = 16 * 1024 * 1024
MODULE = "nebula.provision.nebula_image"


class ActionModule(CallingAction):
    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        args, files = self._arguments(task_vars)
        result = self._go(args, files, task_vars)
        if "images" not in self._task.args and "images" in args and len(result.get("images") or ()) == 1:
            result["image"] = result["images"][0]
        return result

    def prepared(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Return the module's arguments without the files that would be sent to it."""
        args, _files = self._arguments(variables)
        return dict(args, _upload=json.dumps(self._upload))

    def _arguments(self, variables: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, LocalFile]]:
        """Return the module's arguments, and the files of the control node that they name."""
        args = dict(self._task.args)
        single = "images" not in args
        items = [{key: args[key] for key in ITEM_KEYS & set(args)}] if single else _items(args["images"])
        files, lost = self._local_files(items, variables)
        # A missing file is an error of that image only; the module reports it with the errors of the others.
        self._upload = {"lost": lost} if lost else {}
        if not single or any(key in args for key in PACKED):
            args = {key: value for key, value in args.items() if key not in ITEM_KEYS}
            args["images"] = pack(items, "images")
        return args, files

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

    def _local_files(
        self, items: list[Any], variables: Mapping[str, Any]
    ) -> tuple[dict[str, LocalFile], dict[str, str]]:
        """Return the files on the control node that items name, and the errors of unreadable ones, both by image name.

        With a local connection nothing is sent: the item gets the path, and remote_src."""
        files: dict[str, LocalFile] = {}
        lost: dict[str, str] = {}
        local = is_local(self._connection)
        for item in items:
            if not isinstance(item, dict):
                continue
            name, path, remote = item.get("name"), item.get("path"), item.get("remote_src")
            if not isinstance(name, str) or not name:
                # The module refuses an item without a name.
                continue
            if control_node_paths.is_ours(remote) and item.get("from"):
                try:
                    self._take_additions(item, local, variables)
                except LocalFileError as error:
                    lost[name] = str(error)
                    item.update(packages=None, files=None)
            if not isinstance(path, str) or not path or "://" in path or not control_node_paths.is_ours(remote):
                continue
            if str(item.get("state") or "present") == "absent":
                continue
            if not local and (name in files or name in lost):
                # A sent file is identified by the image's name, so it could be stored for the wrong item.
                files.pop(name, None)
                lost[name] = "the list has this image twice, and a file for each"
                continue
            try:
                found = control_node_paths.find(path, variables)
            except control_node_paths.FileNotThere as error:
                lost[name] = f"it {error}"
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

    def _take_additions(self, item: dict[str, Any], local: bool, variables: Mapping[str, Any]) -> None:
        """Put the content of packages and files of the control node into the item that adds them to an image; with a
        local connection put their absolute paths there. Raise LocalFileError if a file can't be read."""
        packages = item.get("packages")
        if isinstance(packages, list):
            item["packages"] = [
                _taken(each, variables, local, str, _package)
                if isinstance(each, str) and each.endswith(PACKAGES) and "://" not in each
                else each
                for each in packages
            ]
        additions = item.get("files")
        if isinstance(additions, list):
            item["files"] = [
                {
                    **{key: value for key, value in each.items() if key != "src"},
                    **_taken(each["src"], variables, local, _as_source, _as_content),
                }
                if isinstance(each, dict)
                and isinstance(each.get("src"), str)
                and control_node_paths.is_ours(each.get("remote_src"))
                else each
                for each in additions
            ]


def _taken(path: str, variables: Mapping[str, Any], local: bool, as_path: Any, as_content: Any) -> Any:
    try:
        found = control_node_paths.find(path, variables)
    except control_node_paths.FileNotThere as error:
        raise LocalFileError(f"{path} {error}") from error
    if local:
        return as_path(found)
    try:
        with Path(found).open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise LocalFileError(f"{path} can't be read: {error.strerror}") from error
    if len(content) > LARGEST:
        raise LocalFileError(f"{path} has more than {LARGEST // 1024 // 1024} MiB: put it on the front-end")
    return as_content(found, base64.b64encode(content).decode())


def _as_source(path: str) -> dict[str, str]:
    return {"src": path}


def _as_content(_path: str, text: str) -> dict[str, str]:
    return {"content_base64": text}


def _package(path: str, text: str) -> dict[str, str]:
    return {"name": os.path.basename(path), "content_base64": text}


def _items(images: Any) -> list[Any]:
    """Return the list of option images, which may be a list or its JSON text."""
    if isinstance(images, str):
        try:
            images = json.loads(images)
        except ValueError:
            images = None
    if not isinstance(images, (list, tuple)):
        raise AnsibleActionFail("option images: it is not a list of dicts. Give one, or its JSON")
    return [dict(item) if isinstance(item, dict) else item for item in images]
