# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What module nebula_node_look takes, and the modules that it may be asked to call."""

from __future__ import annotations

from typing import Any

from ..looking import OPTIONS, Call, Calls

ARGUMENTS: dict[str, Any] = {"argument_spec": OPTIONS}


def _node() -> Call:
    from . import node

    return Call(node.ARGUMENTS, node.run, node.libraries)


def _ovn_host() -> Call:
    from . import ovn_host

    return Call(ovn_host.ARGUMENTS, ovn_host.run, only_asked=True)


def _node_network() -> Call:
    from . import node_network

    return Call(node_network.ARGUMENTS, node_network.run)


def _deploy() -> Call:
    from . import deploy_poll

    # A poll changes nothing.
    return Call(deploy_poll.ARGUMENTS, deploy_poll.run, deploy_poll.libraries, at_once=True)


CALLS: Calls = {
    "nebula_node": _node,
    "nebula_ovn_host": _ovn_host,
    "nebula_node_network": _node_network,
    "nebula_deploy": _deploy,
}
