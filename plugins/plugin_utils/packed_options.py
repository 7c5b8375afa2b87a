# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packs lists and dicts that may hold secrets into one JSON string for the module (docs/architecture.md)."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleError

from ansible_collections.nebula.provision.plugins.plugin_utils.module_calls import CallingAction
from ansible_collections.nebula.provision.plugins.plugin_utils.template_faults import HarmlessError

# Ansible removes the text of a no_log option from the module's result. "[]" and "{}" occur in every plan, so an empty
# list or dict is written in a form that no plan contains.
EMPTY = {"[]": f"[{' ' * 40}]", "{}": f"{{{' ' * 40}}}"}


class NotPlainError(HarmlessError, AnsibleError):
    """Says that a value has no form in JSON. The message names its place and its type."""


class PackingAction(CallingAction):
    """Runs the module of the task's own name with its PACKED options as JSON.

    no_log on a nested option garbles results and costs seconds at a thousand items; on a string it does neither."""

    PACKED: tuple[str, ...] = ()

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        result = self._execute_module(
            module_args=self.prepared(task_vars or {}),
            task_vars=task_vars,
            wrap_async=self._task.async_val,
        )
        return dict(result)

    def prepared(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Return the module's arguments."""
        return self.with_files(self.packed_arguments(), variables)

    def packed_arguments(self) -> dict[str, Any]:
        """Return the task's arguments, with the options of PACKED as JSON text."""
        return {name: pack(value, name) if name in self.PACKED else value for name, value in self._task.args.items()}

    def with_files(self, arguments: dict[str, Any], _variables: Mapping[str, Any]) -> dict[str, Any]:
        """Complete the packed arguments with files of the control node; plugins that read such files override this."""
        return arguments

    @property
    def is_local(self) -> bool:
        """Return whether the host is the control node itself, so that it can read the control node's files."""
        return is_local(self._connection)


def is_local(connection: Any) -> bool:
    return bool(connection.transport == "local" or connection.transport.endswith(".local"))


def pack(value: Any, option: str) -> str | None:
    """Return lists and dicts as JSON text; return text and None unchanged."""
    if value is None:
        return None
    text = str(value) if isinstance(value, str) else json.dumps(_plain(value, option), ensure_ascii=False)
    return EMPTY.get(text.strip(), text)


def _plain(value: Any, where: str) -> Any:
    """Return the value with plain types: Ansible marks strings, dicts and lists by types of its own."""
    if isinstance(value, str):
        return "".join(value)
    if isinstance(value, Mapping):
        return {_key(key): _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value.isoformat()
    if type(value).__name__ in ("AnsibleVaultEncryptedUnicode", "EncryptedString"):
        return str(value)
    raise NotPlainError(f"{where}: YAML read the value as a {type(value).__name__}. Write it in quotes")


def _key(key: Any) -> str:
    # Keys become text as in JSON. A key that YAML read as a boolean becomes a text that shows the mistake.
    if isinstance(key, bool):
        return "true" if key else "false"
    return str(key)
