# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings the bridges of networks, and what is filtered of machines' NICs, to a node, and takes them away again."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import NebulaError
from ...host import node_file
from ...model.network import Network, from_item
from ...model.nic_filter_rules import Guard, unpack
from ...network import host_address_move, nic_filter
from ...network.bridge import Node
from ...network.links import Done
from ...network.networks_at_boot import Boot
from ...network.router_advertisements import Announcers, desired_chains, digests
from ...sync import Item, Result


def ensure(params: Mapping[str, Any], check_mode: bool) -> Result:
    """Bring bridges and what is filtered to what the catalog says, or with state absent take all of it away."""
    networks = None if params["networks"] is None else [from_item(item) for item in params["networks"]]
    filtered, machines = (None, []) if params["guards"] is None else unpack(params["guards"])
    node = Node(params["catalog"], act=not check_mode, ignore_drops=params["ignore_forward_drop"])
    absent = params["state"] == "absent"
    if params["node"] and not absent and not check_mode:
        node_file.require_node_of(params["root"], params["catalog"])
    known, as_of = params["known"], params["as_of"] or 0.0
    if as_of and as_of < node_file.read(params["root"]).networks:
        known = None
    done = node.remove(networks) if absent else node.ensure(networks or [], known)
    if node.act and as_of and any(item.before is None and item.after is not None for item in done):
        node_file.networks_made(params["root"], as_of)
    boot = Boot(params["root"], params["catalog"])
    filtering = [*_filtering(params, node, filtered, machines, boot), *_silencing(params, node, filtered, machines)]
    if absent and not node.left():
        before, after = boot.remove(node.act)
    else:
        forecast = not node.act and (bool(filtering) or any(item.before != item.after for item in done))
        before, after = boot.keep(node.act, forecast)
    return Result(
        items=[
            *(Item(f"{item.network}: {item.bridge}", item.before, item.after, item.error) for item in done),
            *filtering,
            *([Item("boot", before, after)] if before != after else []),
        ],
        payload={
            "links": [_link_view(item) for item in done],
            "refused": _refused(networks or [], done),
            "moved": node.moved,
        },
        warnings=list(dict.fromkeys(node.warnings)),
    )


def _filtering(
    params: Mapping[str, Any], node: Node, filtered: Sequence[Guard] | None, machines: Sequence[int], boot: Boot
) -> list[Item]:
    """Bring what is filtered of machines' NICs to what the catalog says; all of it goes with the last network."""
    catalog, absent = params["catalog"], params["state"] == "absent"
    if not catalog or (filtered is None and not absent):
        return []
    wanted = [] if absent or filtered is None else filtered
    table = nic_filter.read_table(catalog, needed=bool(wanted) and node.act)
    if absent and (node.left() or not node.are_interfaces_gone(table.ports)):
        return []
    as_of = table.as_of if absent else params["as_of"] or time.time()
    staying = [] if absent else nic_filter.of_unknown_machines(table, machines)
    before, after = nic_filter.differing(wanted, table, staying)
    renewed = nic_filter.made_by_last_release(wanted, table)
    if before == after and not renewed:
        return []
    if table.as_of > as_of:
        node.warnings.append(
            "what is filtered of machines' NICs stays as it is on this host, since another run decided it later: run "
            f"again. If the front-end's clock was set back: nft delete table {nic_filter.FAMILY} {table.name}"
        )
        return []
    if renewed:
        node.warnings.append(
            f"what is filtered of {len(renewed)} NICs of machines is as an earlier release has made it, and is made "
            "anew: answers of DHCP servers that a machine sends are dropped from whatever port they come"
        )
    if node.act:
        nic_filter.ensure(wanted, table, as_of, staying)
        if renewed:
            # Nothing that a boot makes is another for that.
            boot.keep_guards(nic_filter.at_boot(catalog))
    if before == after:
        return []
    return [Item("filters of NICs", before or None, after or None)]


def _silencing(
    params: Mapping[str, Any], node: Node, filtered: Sequence[Guard] | None, machines: Sequence[int]
) -> list[Item]:
    """Keep machines on OVN from announcing themselves as routers."""
    catalog, absent = params["catalog"], params["state"] == "absent"
    if not catalog or (filtered is None and not absent):
        return []
    announcers = Announcers(params["root"], catalog)
    found = announcers.found()
    if absent and (node.left() or not node.are_interfaces_gone(found)):
        return []
    wanted = {} if absent else desired_chains(filtered or (), catalog)
    staying = set() if absent else announcers.of_strangers(machines)
    before, after = digests(found), digests({**{name: found[name] for name in staying}, **wanted})
    changed, warnings = announcers.ensure(wanted, staying, act=node.act)
    node.warnings.extend(warnings)
    if not changed:
        return []
    return [Item("router advertisements of NICs on OVN", before or None, after or None, changed=True)]


def keep(params: Mapping[str, Any], check_mode: bool) -> Result:
    """Keep bridges to which addresses of the host have moved, as a connection that was made after that asks for it."""
    items = []
    for bridge in [] if check_mode else params["moved"]:
        try:
            host_address_move.confirm(bridge)
        except NebulaError as error:
            items.append(Item(bridge, error=error, changed=False))
    if items:
        # What was put back is not to be made when the host boots.
        boot = Boot(params["root"], params["catalog"])
        if Node(params["catalog"], act=True).left():
            boot.keep(True)
        else:
            boot.remove(True)
    return Result(items=items, payload={"moved": []})


def _refused(networks: Sequence[Network], done: Sequence[Done]) -> list[str]:
    failed = {item.network for item in done if item.error is not None}
    return [network.name for network in networks if network.name in failed]


def _link_view(item: Done) -> dict[str, Any]:
    now = item.after or {}
    return {
        "network": item.network,
        "bridge": item.bridge,
        "created": item.before is None and item.after is not None,
        "removed": item.before is not None and item.after is None,
        "address": now.get("address", ""),
        "nat": now.get("nat", False),
    }
