# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Explains to a user why a guest can't be asked, for each problem of ask_agent and use_console. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.errors import harmless

_ASKED = {"run": "running a command in", "write": "writing {path} in", "read": "reading {path} of"}
_REMEDIES = {
    "missing": "there is no such domain: {found}. The inventory may be older than the machine: read it anew "
    "(--flush-cache)",
    "foreign": "the domain does not carry the catalog's mark, so it is not this machine, and nothing is run in it. The "
    "inventory may be of another catalog than the node",
    "off": "the machine does not run. Start it first (nebula_vms: state)",
    "silent": "its guest agent does not answer: {found}. The machine may still be starting "
    "(ansible.builtin.wait_for_connection waits for that); it needs package qemu-guest-agent, and its template must "
    "not have GUEST_AGENT = NO in FEATURES",
    "refused": "its guest agent does not carry that out: {found}. Allow the commands guest-exec, guest-exec-status and "
    "guest-file-* in the agent's configuration in the machine (allow-rpcs or block-rpcs)",
    "failed": "it failed in the machine: {found}",
    "truncated": "the command was ended, since it printed more than 1 MiB, which is what libvirt hands on. Let it "
    "print into a file, and fetch that",
    "busy": "somebody else uses its serial console (virsh console on the node). Its session has to end first",
    "login": "its serial console does not let us in: {found}. Variables ansible_user and ansible_password name a user "
    "and a password of the machine",
    "garbled": "something else prints on its serial console all the time, and what was asked for came back damaged",
    "libvirt": "libvirt on the node says: {found}. The user on the node needs access to libvirt: ansible_become of the "
    "node makes it root",
}

_SILENT_CONSOLE = (
    "its serial console shows no prompt: {found}. The machine may still be starting "
    "(ansible.builtin.wait_for_connection waits for that); it needs a login, or a shell, on its first serial port"
)


def sentence_about(
    answer: Mapping[str, Any], domain: str, node: str, what: str, path: str, console: bool = False
) -> str:
    """Return a sentence about an answer with problem and found. what, path: the request's `do` and path ("" if it has
    none).
    console: whether the guest was asked by its serial console."""
    asked = _ASKED[what].format(path=path)
    reason = (_SILENT_CONSOLE if console and answer["problem"] == "silent" else _REMEDIES[answer["problem"]]).format(
        # The words of a guest, or of what answers in its node's place.
        found=harmless(str(answer["found"])).rstrip(".")
    )
    return f"{asked[0].upper()}{asked[1:]} guest {domain} on node {node}: {reason}"
