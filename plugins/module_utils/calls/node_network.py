# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What module nebula_node_network takes and does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..arguments import ENGINE
from ..host import node as node_file
from ..model.network import Network, from_item
from ..network.boot import Boot
from ..network.bridge import Done, Node
from ..sync import Item, Result

ARGUMENTS: dict[str, Any] = {
    "argument_spec": dict(
        networks={"type": "list", "elements": "dict"},
        catalog={"type": "str", "required": True},
        known={"type": "list", "elements": "str"},
        as_of={"type": "float"},
        node={"type": "bool", "default": False},
        ignore_forward_drop={"type": "bool", "default": False},
        state={"type": "str", "default": "present", "choices": ["present", "absent"]},
        **ENGINE,
    ),
    "required_if": [("state", "present", ("networks",))],
}


def run(params: Mapping[str, Any], check_mode: bool) -> Result:
    with node_file.alone(not check_mode):
        return carried_out(params, check_mode)


def carried_out(params: Mapping[str, Any], check_mode: bool) -> Result:
    networks = None if params["networks"] is None else [from_item(item) for item in params["networks"]]
    node = Node(params["catalog"], act=not check_mode, ignore_drops=params["ignore_forward_drop"])
    absent = params["state"] == "absent"
    if params["node"] and not absent and not check_mode:
        node_file.require(params["root"], params["catalog"])
    known, as_of = params["known"], params["as_of"] or 0.0
    if as_of and as_of < node_file.read(params["root"]).networks:
        known = None
    done = node.remove(networks) if absent else node.ensure(networks or [], known)
    if node.act and as_of and any(item.before is None and item.after is not None for item in done):
        node_file.networks_made(params["root"], as_of)
    boot = Boot(params["root"], params["catalog"])
    if absent and not node.left():
        before, after = boot.remove(node.act)
    else:
        forecast = not node.act and any(item.before != item.after for item in done)
        before, after = boot.keep(node.act, forecast)
    return Result(
        items=[
            *(Item(f"{item.network}: {item.bridge}", item.before, item.after, item.error) for item in done),
            *([Item("boot", before, after)] if before != after else []),
        ],
        payload={"links": [shown(item) for item in done], "refused": refused(networks or [], done)},
        warnings=list(dict.fromkeys(node.warnings)),
    )


def refused(networks: Sequence[Network], done: Sequence[Done]) -> list[str]:
    failed = {item.network for item in done if item.error is not None}
    return [network.name for network in networks if network.name in failed]


def shown(item: Done) -> dict[str, Any]:
    now = item.after or {}
    return {
        "network": item.network,
        "bridge": item.bridge,
        "created": item.before is None and item.after is not None,
        "removed": item.before is not None and item.after is None,
        "address": now.get("address", ""),
        "nat": now.get("nat", False),
    }
