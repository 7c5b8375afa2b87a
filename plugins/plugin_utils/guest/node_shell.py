# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a program on a node for a guest's connection, by the connection that the inventory has for the node."""

from __future__ import annotations

import inspect
import json
import shlex
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.playbook.play_context import PlayContext
from ansible.plugins.loader import become_loader, connection_loader

from ansible_collections.nebula.provision.plugins.module_utils.errors import harmless
from ansible_collections.nebula.provision.plugins.module_utils.printable import ONE_LINE, printable

# Debian's own has libvirt's modules; one of a virtual environment has not.
INTERPRETER = "/usr/bin/python3"
_LONGEST = 300


class NodeShell:
    """Connects to a node of the inventory when the first program is run.
    variables: those by which Ansible reaches it (filter connection_variables)."""

    def __init__(self, name: str, variables: Mapping[str, Any]) -> None:
        self._name, self._variables = name, {"inventory_hostname": name, **variables}
        self._opened: Any = None

    def answer(self, program: ModuleType, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a program of this folder answers to a request. Raise AnsibleConnectionFailure if the node can't
        be reached, or the program does not run there."""
        connection = self._connection()
        text = inspect.getsource(program)
        command = f"{shlex.quote(self._interpreter())} -I -c {shlex.quote(text)}"
        shell = connection._shell
        if connection.become:
            command = connection.become.build_become_command(command, shell)
        if connection.allow_executable:
            command = f"/bin/sh -c {shlex.quote(command)}"
        status, out, err = connection.exec_command(command, in_data=json.dumps(request).encode(), sudoable=True)
        last = out.decode(errors="replace").strip().rpartition("\n")[2]
        try:
            return dict(json.loads(last))
        except ValueError:
            lines = (err.decode(errors="replace").strip() or last or "it printed nothing").splitlines()
            reason = (
                f"Reaching a guest by its node {self._name}: a program that asks libvirt ended there with status "
                f"{status}: {harmless(lines[-1], _LONGEST)}. The user needs access to libvirt (ansible_become on the "
                f"node), and {self._interpreter()} needs Debian's python3-libvirt"
            )
            raise AnsibleConnectionFailure(printable(reason, ONE_LINE)) from None

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _interpreter(self) -> str:
        named = str(self._variables.get("ansible_python_interpreter") or "")
        return named if named.startswith("/") else INTERPRETER

    def _connection(self) -> Any:
        if self._opened is None:
            name = str(self._variables.get("ansible_connection") or "ssh")
            context = PlayContext()
            context.remote_addr = str(self._variables.get("ansible_host") or self._name)
            self._opened = connection_loader.get("ssh" if name == "smart" else name, context, None)
            if self._opened is None:
                reason = f"Reaching node {self._name}: there is no connection plugin {name!r}"
                raise AnsibleConnectionFailure(printable(reason, ONE_LINE))
            self._opened.set_options(var_options=self._variables)
            if _is_true(self._variables.get("ansible_become")):
                self._opened.set_become_plugin(self._become())
        return self._opened

    def _become(self) -> Any:
        method = str(self._variables.get("ansible_become_method") or "sudo")
        become = become_loader.get(method)
        if become is None:
            reason = f"Becoming root on node {self._name}: there is no become plugin {method!r}"
            raise AnsibleConnectionFailure(printable(reason, ONE_LINE))
        become.set_options(var_options=self._variables)
        return become


def _is_true(value: Any) -> bool:
    return str(value).lower() in ("true", "yes", "on", "1", "y", "t")
