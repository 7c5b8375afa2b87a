# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides which machines ssh reaches by way of their node, and what it is given for that. Pure."""

from __future__ import annotations

import fnmatch
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

AUTO, ALWAYS, NEVER = "auto", "always", "never"
JUMPS = (AUTO, ALWAYS, NEVER)
# Variables of a node that say how ssh reaches it.
_USERS = ("ansible_ssh_user", "ansible_user")
_ADDRESSES = ("ansible_ssh_host", "ansible_host")
_PORTS = ("ansible_ssh_port", "ansible_port")
_KEYS = ("ansible_ssh_private_key_file", "ansible_private_key_file")
_CHECKING = ("ansible_ssh_host_key_checking", "ansible_host_key_checking")
_ARGUMENTS = ("ansible_ssh_common_args", "ansible_ssh_extra_args")
# All that a way through a node depends on.
JUMP_VARIABLES = (*_USERS, *_ADDRESSES, *_PORTS, *_KEYS, *_CHECKING, *_ARGUMENTS, "ansible_connection")
_LOCAL = ("local", "ansible.builtin.local")


def is_jumped(jump: str, jump_networks: Iterable[str], network: Mapping[str, Any]) -> bool:
    """Return whether ssh reaches a machine in the network by way of its node.
    jump: one of JUMPS.
    jump_networks: patterns of names of networks whose machines are always reached so."""
    if any(fnmatch.fnmatchcase(str(network.get("name") or ""), pattern) for pattern in jump_networks):
        return True
    # Behind a bridge that carries the gateway, machines have addresses that nobody but their node has a route to.
    carries = bool(network.get("nat")) or bool(network.get("gateway_on_bridge"))
    return jump == ALWAYS or (jump == AUTO and carries)


def jump_arguments(host: str, variables: Mapping[str, Any]) -> str:
    """Return what ssh is given so that it goes by way of a node; "" where the node is this machine itself.
    variables: how Ansible reaches the node. A key and a user are the node's own; the machine has others."""
    if str(variables.get("ansible_connection") or "") in _LOCAL:
        return ""
    # Nobody answers a question for each of many machines. An IPv6 address needs brackets before a port, and ssh takes
    # them off whatever is in them.
    command = ["ssh", "-W", "[%h]:%p", "-q", "-o", "BatchMode=yes"]
    if _first(variables, _CHECKING).lower() in ("false", "no", "0"):
        command += ["-o", "StrictHostKeyChecking=no"]
    port, key = _first(variables, _PORTS), _first(variables, _KEYS)
    if port:
        command += ["-p", _literal(port)]
    if key:
        command += ["-i", _literal(key)]
    for name in _ARGUMENTS:
        command += map(_literal, shlex.split(str(variables.get(name) or "")))
    user, address = _first(variables, _USERS), _first(variables, _ADDRESSES) or host
    command += ["--", _literal(f"{user}@{address}" if user else address)]
    return f"-o {shlex.quote('ProxyCommand=' + shlex.join(command))}"


def _literal(text: str) -> str:
    """Return the text so that ssh takes it as it is: in its ProxyCommand a percent sign begins what ssh fills in."""
    return text.replace("%", "%%")


def _first(variables: Mapping[str, Any], names: Iterable[str]) -> str:
    return next((str(variables[name]) for name in names if variables.get(name) not in (None, "")), "")
