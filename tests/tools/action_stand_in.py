# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An action plugin without a run of Ansible around it: what it would have a module do is written down, and answered by
the test."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

Answer = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def made(
    kind: type,
    arguments: Mapping[str, Any],
    *,
    check_mode: bool = False,
    async_val: int = 0,
    transport: str = "ssh",
    answer: Answer = lambda _arguments: {"changed": True},
) -> Any:
    """The plugin with these arguments; its attribute `ran` has the options of each call of a module. answer: what the
    module says to its arguments."""
    task = SimpleNamespace(
        args=dict(arguments), check_mode=check_mode, async_val=async_val, action="", delegate_to=None
    )
    shell = SimpleNamespace(tmpdir="/tmp/task", join_path=os.path.join)
    connection = SimpleNamespace(transport=transport, _shell=shell, become=None)
    action = kind(task, connection, SimpleNamespace(check_mode=check_mode), None, None, None)
    action.ran = []

    def execute(**options: Any) -> dict[str, Any]:
        action.ran.append(options)
        return dict(answer(options["module_args"]))

    action._execute_module = execute
    action._low_level_execute_command = lambda *_words, **_options: {}
    return action
