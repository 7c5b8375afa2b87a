# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ssh is given for a machine that it reaches by way of its node."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from ansible_collections.nebula.provision.plugins.plugin_utils.ssh_through_node import jump_arguments

NODE = {"ansible_host": "192.0.2.7", "ansible_user": "operator"}


def proxy_command(variables: Mapping[str, Any]) -> list[str]:
    option, value = shlex.split(jump_arguments("node1", variables))
    assert option == "-o" and value.startswith("ProxyCommand=")
    return shlex.split(value.removeprefix("ProxyCommand="))


def test_the_way_is_that_of_the_node() -> None:
    assert proxy_command({}) == ["ssh", "-W", "[%h]:%p", "-q", "-o", "BatchMode=yes", "--", "node1"]
    assert proxy_command(NODE)[-1] == "operator@192.0.2.7"
    words = proxy_command(
        {
            **NODE,
            "ansible_port": 2222,
            "ansible_ssh_private_key_file": "/a key/100%",
            "ansible_ssh_common_args": "-o 'ProxyCommand=ssh -W %h:%p front'",
        }
    )
    # The bastion is asked for the node, and not for the machine: its percent signs are for the inner ssh.
    assert words[6:-2] == ["-p", "2222", "-i", "/a key/100%%", "-o", "ProxyCommand=ssh -W %%h:%%p front"]
    assert "StrictHostKeyChecking=no" in proxy_command({"ansible_host_key_checking": False})
    assert jump_arguments("node1", {"ansible_connection": "local"}) == ""


def test_a_hostile_name_is_no_option_and_no_command() -> None:
    words = proxy_command({"ansible_host": "-oProxyCommand=touch /nowhere", "ansible_user": "$(id)"})
    assert words[-2:] == ["--", "$(id)@-oProxyCommand=touch /nowhere"]
