# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls our modules: each is packed once for many runs, and the target's Python reads it as a whole.

With pipelining Ansible gives a module to Python as a program on standard input, and Python reads a program from there
byte by byte. That is one system call for each of some 600,000 bytes, and took as long as the rest of most of our calls.
Before the module runs what keeps its code compiled (module_utils/compiled.py): Ansible's own takes half of a call else.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.nebula.provision.plugins.module_utils import compiled
from ansible_collections.nebula.provision.plugins.module_utils.errors import harmless
from ansible_collections.nebula.provision.plugins.module_utils.printable import printable
from ansible_collections.nebula.provision.plugins.plugin_utils import payloads
from ansible_collections.nebula.provision.plugins.plugin_utils.forged_facts import without_facts
from ansible_collections.nebula.provision.plugins.plugin_utils.harmless_answers import harmless_output

NAMESPACE = "nebula.provision."
# What Python gets as an argument instead: it reads standard input at once, and runs the two programs there. What they
# import makes no garbage: Python looks for some only from when the module does its work (module_utils/runner.py).
READ_ALL = (
    'import gc,sys;gc.disable();before,_,module=sys.stdin.buffer.read().partition(b"\\0");'
    'exec(compile(before,"<before>","exec"),{"__name__":"NAME"});exec(compile(module,"<stdin>","exec"))'
).replace("NAME", compiled.__name__)


def read_at_once(action: ActionBase, command: str, in_data: Any) -> tuple[str, Any]:
    """Return the command that runs a module so that Python reads the module at once, and what it reads; return other
    commands and their input unchanged. in_data: text or bytes, None of a command that is given nothing."""
    # Only a module has in_data. Its command ends with the interpreter, since the program comes from standard input.
    if in_data is None or "python" not in command.rpartition("/")[2]:
        return command, in_data
    module = in_data.encode("utf-8", "surrogateescape") if isinstance(in_data, str) else in_data
    return f"{command.strip()} -c {action._connection._shell.quote(READ_ALL)}", _before() + b"\0" + module


@functools.cache
def _before() -> bytes:
    return Path(str(compiled.__file__)).read_bytes()


@contextlib.contextmanager
def printable_errors() -> Iterator[None]:
    """Make what ssh and a host's shell printed harmless in the errors that Ansible raises."""
    try:
        yield
    except AnsibleError as error:
        # Before 2.19 an action's own errors have their message a second time, in the answer that they become.
        if "msg" in getattr(error, "result", {}):
            error.result["msg"] = printable(str(error.result["msg"]))
        text = printable(error.message)
        if text == error.message:
            raise
        error.message = text
        # The message has its cause by now.
        raise error from None


class CallingAction(ActionBase):
    """Calls one of our modules."""

    # Who answers.
    _host = ""

    def _execute_module(self, *arguments: Any, **options: Any) -> Any:
        payloads.bring_payloads()
        self._host = self._asked_host(options.get("task_vars"))
        with printable_errors():
            result = super()._execute_module(*arguments, **options)
        payloads.keep_payloads()
        return without_facts(result, self._host, self._task.action)

    def _make_tmp_path(self, *arguments: Any, **options: Any) -> Any:
        with printable_errors():
            return super()._make_tmp_path(*arguments, **options)

    def _parse_returned_data(self, res: Any, *arguments: Any, **options: Any) -> Any:
        # Before Ansible makes objects of messages and warnings, which differ from version to version.
        asked = f"{self._host}: the answer of {self._task.action}"
        answer = harmless_output(res.get("stdout", ""), asked)
        printed = {**res, "stdout": answer, "stderr": harmless(res.get("stderr", ""))}
        return super()._parse_returned_data(printed, *arguments, **options)

    def _asked_host(self, variables: Any) -> str:
        """Return the name of the host that answers."""
        return str(self._task.delegate_to or (variables or {}).get("inventory_hostname") or "")

    def _low_level_execute_command(
        self, cmd: str, sudoable: bool = True, in_data: Any = None, *arguments: Any, **options: Any
    ) -> Any:
        command, given = read_at_once(self, cmd, in_data)
        return super()._low_level_execute_command(command, sudoable, given, *arguments, **options)


def action_of(action: ActionBase, module: str, options: Mapping[str, Any], templar: Any) -> Any:
    """Return the action plugin that calls a module of this collection in the place of the task's own.
    module: its name without the collection's. options: of the module, filled in."""
    task = action._task.copy()
    task.action = NAMESPACE + module
    task.args = dict(options)
    return action._shared_loader_obj.action_loader.get(
        task.action,
        task=task,
        connection=action._connection,
        play_context=action._play_context,
        loader=action._loader,
        templar=templar,
        shared_loader_obj=action._shared_loader_obj,
    )


def filled_in(options: Mapping[str, Any], templar: Any, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call's options without those whose template omits them."""
    found = templar.template(dict(options))
    return {name: value for name, value in found.items() if value != variables.get("omit", options)}
