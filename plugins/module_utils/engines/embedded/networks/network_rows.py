# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns rows of networks and address ranges into objects of the model, and names the holder of a lease in messages."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence

from ....errors import NotFound
from ....model import addresses
from ....model.network import AddressRange, Network
from ....model.states import NetworkState
from ..references import Ref, resolve
from ..store import Store

IN_RANGE = "network_id = ? AND ar_id = ?"
# The kinds of leases, by what holds the address:
NIC = "nic"  # a NIC of a machine
LEAVING = "leaving"  # a machine whose node has still to take the NIC away, or to make the machine anew
GIVEN_UP = "given_up"  # a machine that was given up with its host, and may run there
UNKNOWN = "unknown"  # a machine on some node that the catalog does not know
RESERVED = "reserved"  # a router, or the network itself: column `holder` says which, and is "" for all other kinds
# The leases of machines that the catalog has.
OF_MACHINES = f"kind IN ('{NIC}', '{LEAVING}')"
# No foreign key says it, as addresses are also held for machines that the catalog does not know.
OF_NO_MACHINE = f"SELECT COUNT(*) FROM leases WHERE {OF_MACHINES} AND vm_id NOT IN (SELECT id FROM vms)"
# Each lease with the row of its machine, if the catalog knows it, and with the host with which that was given up.
LEASED = (
    f"leases l LEFT JOIN given_up g ON l.kind = '{GIVEN_UP}' AND g.vm_id = l.vm_id"
    f" LEFT JOIN vms v ON v.id = l.vm_id AND l.kind != '{UNKNOWN}'"
)
KEPT = "kept"
# What a session keeps of networks (Store.once): by what names them, what NICs take from them, and how addresses are
# counted in their ranges.
NETWORKS, NIC_VALUES, CALCULATORS = "networks", "nic_values", "calculators"
_ROUTER = "router/"
HELD_REMEDY = (
    "What was given up with a host is free once that host was seen without it, or nebula.provision.forget_host was "
    "told that the host is gone for good"
)
UNKNOWN_REMEDY = "What was made after a backup that was restored is free once all hosts were seen without it"


def read(store: Store, ref: Ref) -> Network:
    """Return the network with its ranges. Raise NotFound or Ambiguous for what names no network, or several."""
    row = resolve(store, "networks", ref)
    ranges = store.rows("SELECT * FROM address_ranges WHERE network_id = ? ORDER BY ar_id", row["id"])
    return network_of(row, [address_range_of(r) for r in ranges])


def uncounted(store: Store, ref: Ref) -> Network:
    """Return what read() does, but how much of the ranges is used may be older: a session reads each network once."""
    known = store.once(NETWORKS, dict[tuple[type, Ref], Network])
    key = (type(ref), ref)
    if key not in known:
        known[key] = read(store, ref)
    return known[key]


def drop(store: Store) -> None:
    """Have networks read anew, one of which has been changed."""
    store.drop(NETWORKS, NIC_VALUES, CALCULATORS)


def pool(store: Store) -> list[Network]:
    """Return all networks with their ranges, by id."""
    ranges: dict[int, list[AddressRange]] = {}
    for row in store.rows("SELECT * FROM address_ranges ORDER BY network_id, ar_id"):
        ranges.setdefault(row["network_id"], []).append(address_range_of(row))
    return [network_of(row, ranges.get(row["id"], ())) for row in store.rows("SELECT * FROM networks ORDER BY id")]


def without_ranges(store: Store) -> list[Network]:
    """Return all networks, by id, without their address ranges: enough for what they have on nodes."""
    return [network_of(row, ()) for row in store.rows("SELECT * FROM networks ORDER BY id")]


def network_of(row: sqlite3.Row, ranges: Sequence[AddressRange]) -> Network:
    return Network(
        id=row["id"],
        name=row["name"],
        uuid=row["uuid"],
        vn_mad=row["vn_mad"],
        bridge=row["bridge"],
        nat=bool(row["nat"]),
        state=NetworkState(row["state"]),
        address_ranges=tuple(ranges),
        attributes=json.loads(row["attributes"]),
    )


def address_range_of(row: sqlite3.Row) -> AddressRange:
    attributes = json.loads(row["attributes"])
    ip6, prefix_length = "", 0
    if row["type"] in addresses.WITH_STATIC_IP6:
        ip6, prefix_length = attributes.pop("IP6"), int(attributes.pop("PREFIX_LENGTH"))
    return AddressRange(
        ar_id=row["ar_id"],
        type=row["type"],
        size=row["size"],
        ip=row["ip"],
        mac=row["mac"],
        global_prefix=row["global_prefix"],
        ula_prefix=row["ula_prefix"],
        ip6=ip6,
        prefix_length=prefix_length,
        used=row["used"],
        attributes=attributes,
    )


def attributes_of(address_range: AddressRange) -> str:
    """Return what the row of a range has as its attributes: with them, by OpenNebula's names, what has no column."""
    if address_range.type not in addresses.WITH_STATIC_IP6:
        return as_json(address_range.attributes)
    static = {"IP6": address_range.ip6, "PREFIX_LENGTH": str(address_range.prefix_length)}
    return as_json({**address_range.attributes, **static})


def as_json(values: Mapping[str, str]) -> str:
    return json.dumps(dict(values), ensure_ascii=False, sort_keys=True)


def range_of(network: Network, ar_id: int) -> AddressRange:
    """Return the range of that number. Raise NotFound, which names the ranges that there are."""
    for address_range in network.address_ranges:
        if address_range.ar_id == ar_id:
            return address_range
    known = ", ".join(addresses.range_text(r) for r in network.address_ranges) or "none"
    raise NotFound(
        f"network {network.name}: address range {ar_id}", "it has none of that number", f"There are: {known}"
    )


def vm_named(vm_id: int | None, name: str | None) -> str:
    """Return how messages name the machine. name: None if the catalog has no row of it."""
    if vm_id is None:
        return "a machine that the catalog does not know"
    return f"VM {name} (id {vm_id})" if name else f"VM {vm_id}"


def given_up_named(row: sqlite3.Row) -> str:
    """Return how messages name a machine that was given up, by its row of LEASED."""
    return f"{vm_named(row['id'], row['name'])}, given up with host {row['host']}"


def kept_holder(network_id: int) -> str:
    return f"{KEPT}/{network_id}"


def router_holder(router_id: int) -> str:
    return f"{_ROUTER}{router_id}"


def holder_named(store: Store, holder: str) -> str:
    """Return how messages name the holder."""
    if not holder.startswith(_ROUTER):
        return "the network itself (reserved)"
    row = store.row("SELECT name FROM routers WHERE id = ?", int(holder[len(_ROUTER) :]))
    return f"router {row['name']}" if row is not None else holder
