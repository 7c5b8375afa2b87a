# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_node_look takes, and the modules that it asks."""

from __future__ import annotations

from typing import Any

from ..looking import OPTIONS, Look
from ..runner import Call

ARGUMENTS: dict[str, Any] = {"argument_spec": OPTIONS}


def call_of(module: str) -> Call:
    """Return the file of calls/ of a module. Only what is asked for is imported."""
    if module == "nebula_node":
        from . import node

        return node
    if module == "nebula_ovn_host":
        from . import ovn_host

        return ovn_host
    if module == "nebula_node_network":
        from . import node_network

        return node_network
    if module == "nebula_deploy":
        from . import deploy_poll

        return deploy_poll
    raise KeyError(module)


# A poll changes nothing.
LOOK = Look(call_of, at_once=("nebula_deploy",), only_asked=("nebula_ovn_host",))
