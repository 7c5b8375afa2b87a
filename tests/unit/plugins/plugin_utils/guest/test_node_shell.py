# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program is run on this machine, as on a node with a local connection. test_guest_connection.py has ssh."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure

from ansible_collections.nebula.provision.plugins.plugin_utils.guest import ask_agent
from ansible_collections.nebula.provision.plugins.plugin_utils.guest.node_shell import NodeShell

HERE = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        # The environment of these tests has no libvirt.
        ({}, ["status 1", "No module named 'libvirt'", "needs Debian's python3-libvirt"]),
        ({"ansible_python_interpreter": "/nowhere/python"}, ["status 127", "/nowhere/python"]),
    ],
)
def test_what_fails_on_the_node_is_named(variables: dict[str, Any], words: list[str]) -> None:
    shell = NodeShell("node1", {**HERE, **variables})
    with pytest.raises(AnsibleConnectionFailure) as caught:
        shell.answer(ask_agent, {"domain": "one-1", "patience": 1})
    shell.close()
    for each in ["node1", *words]:
        assert each in str(caught.value)
