# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: guest
short_description: Commands and files of a virtual machine by its guest agent or serial console
version_added: 0.2.0
author: nebula.provision contributors (@nebula-provision)
description:
  - Runs commands in a virtual machine, and copies files, where ssh is no way in. The machine needs no network.
  - The node of the machine is reached as the inventory says, and asks the guest agent (C(qemu-guest-agent)) of the
    machine by libvirt. The agent runs as root in the machine.
  - Inventory plugin P(nebula.provision.nebula#inventory) sets C(nebula_machine) and C(nebula_guest_node). What is left
    to do is C(ansible_connection=nebula.provision.guest).
notes:
  - Only machines of KVM have a guest agent.
  - Modules need Python in the machine, as with any connection. M(ansible.builtin.raw) and M(ansible.builtin.script)
    need a shell only.
  - A command may print 1 MiB. One that prints more is ended, and is an error.
options:
  machine:
    description:
      - The machine, as the inventory plugin has it. C(id) is its number and C(host) its node. If C(catalog) is there, a
        domain without the mark of that catalog is refused.
    type: dict
    default: {}
    vars:
      - name: nebula_machine
  node:
    description: Ansible's variables by which the node is reached, such as C(ansible_host) and C(ansible_become).
    type: dict
    default: {}
    vars:
      - name: nebula_guest_node
  inventory_name:
    description: The name that the inventory has for the machine.
    type: str
    default: ''
    vars:
      - name: inventory_hostname
  facts:
    description:
      - The facts of the machine. They are looked at for names of variables of this connection. What a machine answers
        becomes facts, and Ansible puts these above the inventory's variables, so that the machine would say which
        machine and which node commands go to. A machine with such facts is not reached until they are removed.
    type: raw
    vars:
      - name: ansible_facts
  way:
    description:
      - V(agent) asks the guest agent.
      - V(console) logs in on the serial console, runs the command in a shell there, and logs out. It needs nothing in
        the machine but a login on the first serial port and a shell with C(base64), C(sha256sum) and C(mktemp). It is
        slow, about 100 KB a second. What commands print is in the console's log on the node, in base64.
    type: str
    choices: [agent, console]
    default: agent
    vars:
      - name: nebula_guest_way
  remote_user:
    description: The user who logs in on the console. An agent is root.
    type: str
    default: ''
    vars:
      - name: ansible_user
  password:
    description: The password of the user who logs in on the console.
    type: str
    default: ''
    vars:
      - name: ansible_password
  pipelining:
    description: Whether a module goes to the machine with the command that runs it, instead of by files of its own.
    type: bool
    default: true
    vars:
      - name: ansible_pipelining
  answer_timeout:
    description:
      - How many seconds the agent may take for each answer, or the console until it shows a prompt. How long a command
        runs does not matter.
    type: int
    default: 20
    vars:
      - name: nebula_guest_answer_timeout
  max_fetch:
    description:
      - How many MiB a file may have that is fetched from the machine. The machine itself says where its file ends, so
        that without a limit it could fill the disk of the control node.
    type: int
    default: 1024
    version_added: 0.2.0
    vars:
      - name: nebula_guest_max_fetch
  executable:
    description: The shell in the machine that reads commands.
    type: path
    default: /bin/sh
    vars:
      - name: nebula_guest_executable
"""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError, AnsibleFileNotFound
from ansible.plugins.connection import ConnectionBase

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import domain_name
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.domain_xml import NAMESPACE
from ansible_collections.nebula.provision.plugins.module_utils.printable import ONE_LINE, printable
from ansible_collections.nebula.provision.plugins.plugin_utils.forged_facts import (
    facts_named_like_settings,
    refusal_of_host,
)
from ansible_collections.nebula.provision.plugins.plugin_utils.guest import ask_agent, use_console
from ansible_collections.nebula.provision.plugins.plugin_utils.guest.node_shell import NodeShell
from ansible_collections.nebula.provision.plugins.plugin_utils.guest.problems import sentence_about

MIB = 1024 * 1024
# Bytes of a file that go to the node, or come from it, at once.
PIECE = 4 * MIB


class Connection(ConnectionBase):
    transport = "nebula.provision.guest"
    has_pipelining = True
    # Nobody answers sudo's question for a password in the machine.
    has_tty = False
    default_user = "root"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._node: NodeShell | None = None

    def get_option(self, option: str, hostvars: Mapping[str, Any] | None = None) -> Any:
        """Return the value of an option. The guest agent always works as root, whatever user logs in otherwise."""
        if option == "remote_user" and not self._uses_console():
            return "root"
        return super().get_option(option, hostvars)

    def _connect(self) -> Connection:
        self._reached_node()
        return self

    def _reached_node(self) -> NodeShell:
        """Return the guest's node. Raise AnsibleConnectionFailure if variables do not say how it is reached."""
        forged = facts_named_like_settings(self.get_option("facts") or {})
        if forged:
            # The name is the one thing here that no fact can be in the place of.
            raise AnsibleConnectionFailure(
                refusal_of_host(self.get_option("inventory_name") or "Reaching a guest", forged)
            )
        machine = self.get_option("machine")
        missing = [key for key in ("id", "host") if machine.get(key) in (None, "")]
        if not machine:
            raise AnsibleConnectionFailure(
                "Reaching a guest: variable nebula_machine is not set, so nothing says which machine this host is. "
                "Give ansible-playbook the inventory of the machines (-i machines.nebula.yml), or set for this host "
                "nebula_machine: {id: 7, host: NODE} and nebula_guest_node, the variables by which that node is "
                "reached (docs/inventory.md)"
            )
        if missing:
            raise AnsibleConnectionFailure(
                f"Reaching a guest: variable nebula_machine has no {printable(' and no '.join(missing))}. It has to "
                "name the machine's id and its node; a machine that is on no node can't be reached"
            )
        if not self.get_option("node"):
            node = str(machine["host"])
            raise AnsibleConnectionFailure(
                f"Reaching a guest by its node {printable(node)}: variable nebula_guest_node is empty, so nothing says "
                "how the node is reached. Give ansible-playbook the inventory of the nodes, too, before that of the "
                "machines"
            )
        if self._node is None:
            self._node = NodeShell(str(machine["host"]), self.get_option("node"))
        self._connected = True
        return self._node

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        self._display.vvv(f"EXEC {cmd}", host=self._name())
        command = [self.get_option("executable"), "-c", cmd]
        answer = self._ask("run", command=command, input=base64.b64encode(in_data or b"").decode())
        return answer["rc"], base64.b64decode(answer["out"]), base64.b64decode(answer["err"])

    def put_file(self, in_path: str, out_path: str) -> None:
        super().put_file(in_path, out_path)
        self._display.vvv(f"PUT {in_path} TO {out_path}", host=self._name())
        if not Path(in_path).exists():
            raise AnsibleFileNotFound(f"file {printable(in_path, ONE_LINE)} does not exist on the control node")
        with Path(in_path).open("rb") as file:
            append = False
            while (piece := file.read(PIECE)) or not append:
                data = base64.b64encode(piece).decode()
                self._ask("write", path=out_path, data=data, append=append)
                append = True

    def fetch_file(self, in_path: str, out_path: str) -> None:
        super().fetch_file(in_path, out_path)
        self._display.vvv(f"FETCH {in_path} TO {out_path}", host=self._name())
        most = self.get_option("max_fetch")
        with Path(out_path).open("wb") as file:
            end = False
            while not end:
                answer = self._ask("read", path=in_path, offset=file.tell(), count=PIECE)
                piece, end = base64.b64decode(answer["data"]), answer["end"]
                problem = ""
                if len(piece) > PIECE:
                    problem = f"it gave {len(piece)} bytes, and {PIECE} were asked for"
                elif not piece and not end:
                    problem = "it gave nothing, and did not say that the file has ended"
                elif file.tell() + len(piece) > most * MIB:
                    problem = f"it is more than {most} MiB. If you expect that, set variable nebula_guest_max_fetch"
                if problem:
                    # It may be as large as the disk allows, and is of no use.
                    Path(out_path).unlink()
                    raise AnsibleError(
                        sentence_about({"problem": "failed", "found": problem}, *self._asked("read", in_path))
                    )
                file.write(piece)

    def close(self) -> None:
        if self._node is not None:
            self._node.close()
        self._connected = False

    def reset(self) -> None:
        self.close()
        self._connect()

    def _ask(self, what: str, **request: Any) -> dict[str, Any]:
        node = self._reached_node()
        machine = self.get_option("machine")
        domain = domain_name(int(machine["id"]))
        answer = node.answer(
            use_console if self._uses_console() else ask_agent,
            {
                "do": what,
                "domain": domain,
                "namespace": NAMESPACE,
                "catalog": str(machine.get("catalog") or ""),
                "patience": self.get_option("answer_timeout"),
                **self._login(),
                **request,
            },
        )
        if "problem" not in answer:
            return answer
        kind = AnsibleError if answer["problem"] in ("failed", "truncated") else AnsibleConnectionFailure
        # What fails in the guest is the task's failure, and no reason to give the host up.
        raise kind(sentence_about(answer, *self._asked(what, request.get("path", ""))))

    def _asked(self, what: str, path: str) -> tuple[str, str, str, str, bool]:
        machine = self.get_option("machine")
        return domain_name(int(machine["id"])), str(machine["host"]), what, path, self._uses_console()

    def _uses_console(self) -> bool:
        return bool(self.get_option("way") == "console")

    def _login(self) -> dict[str, Any]:
        if not self._uses_console():
            return {}
        return {"user": self.get_option("remote_user"), "password": self.get_option("password")}

    def _name(self) -> str | None:
        machine = self.get_option("machine")
        return (
            f"{domain_name(int(machine['id']))} on {machine['host']}" if "id" in machine and "host" in machine else None
        )
