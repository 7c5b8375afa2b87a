# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_node_network takes and does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..arguments import ENGINE
from ..host.node_file import lock_host
from ..reconcile.nodes.node_networks import ensure, keep
from ..sync import Result

ARGUMENTS: dict[str, Any] = {
    "argument_spec": dict(
        networks={"type": "list", "elements": "dict"},
        catalog={"type": "str", "required": True},
        known={"type": "list", "elements": "str"},
        as_of={"type": "float"},
        guards={"type": "str"},
        node={"type": "bool", "default": False},
        ignore_forward_drop={"type": "bool", "default": False},
        moved={"type": "list", "elements": "str"},
        state={"type": "str", "default": "present", "choices": ["present", "absent", "kept"]},
        **ENGINE,
    ),
    "required_if": [("state", "present", ("networks",)), ("state", "kept", ("moved",))],
}


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    with lock_host(not check_mode):
        return keep(params, check_mode) if params["state"] == "kept" else ensure(params, check_mode)
