# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells which chassis the southbound database has at a tunnel address.

It takes one chassis for each kind and address of tunnels. A host that comes back under another name is refused as
long as its former chassis is there, while its ovn-controller says that it is connected. A host may not remove what
is of another name, so that a central host does."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ...dataclass import dataclass
from ...host.command import run
from . import cluster, ovsdb_client
from .certificates import Files
from .paths import Places

TIMEOUT = 30.0
# What a chassis that is alive takes to answer is a fraction of a second.
ALIVE_SECONDS = 5.0
_SOUTH, _NORTH = cluster.NAMES["southbound"], cluster.NAMES["northbound"]


def chassis_at(remote: str, tls: Files | None, encap_type: str, address: str) -> str:
    """Return the name of the chassis that has the address, as the southbound database says; "" if there is none."""
    files = []
    if tls is not None:
        files = [
            f"--private-key={tls.private_key}",
            f"--certificate={tls.certificate}",
            f"--ca-cert={tls.ca_certificate}",
        ]
    where = [["ip", "==", address], ["type", "==", encap_type]]
    asked = [_SOUTH, {"op": "select", "table": "Encap", "where": where, "columns": ["chassis_name"]}]
    argv = ["ovsdb-client", "--no-leader-only", *files, "query", remote, json.dumps(asked)]
    rows = ovsdb_client.rows_of(["Encap"], run(argv, timeout=TIMEOUT).stdout)["Encap"]
    return str(rows[0]["chassis_name"]) if rows else ""


@dataclass(frozen=True)
class FormerChassis:
    """Describes a chassis that is to go: of a former name, or of a host that was forgotten.
    rows: to be removed, by table the UUID
    host: which host has its address now, "" for none"""

    name: str
    address: str
    host: str
    rows: Mapping[str, str]


@dataclass(frozen=True)
class KeptChassis:
    """Describes a chassis that stays, though a host of another name says that it has its address, or its own host was
    forgotten. why: as an error's found."""

    name: str
    address: str
    host: str
    why: str


def sort_out(
    places: Places, hosts: Collection[str], unregistered: Mapping[str, str], act: bool, forgotten: Collection[str] = ()
) -> tuple[list[FormerChassis], list[KeptChassis]]:
    """Find the chassis that hold hosts up, and the chassis of hosts that were forgotten.
    hosts: names of all hosts of the inventory
    unregistered: hosts that the database does not have, with the address of their tunnels
    forgotten: names of hosts that are gone for good, of which the inventory may still have some"""
    rows = _read(places)
    former, kept = sort_rows(rows, hosts, unregistered)
    former += [each for each in chassis_named(rows, forgotten) if each.name not in {other.name for other in former}]
    if former and act:
        alive = _find_alive(places, [each.name for each in former])
        kept += [
            KeptChassis(each.name, each.address, each.host, "it is alive: its ovn-controller answers")
            for each in former
            if each.name in alive
        ]
        former = [each for each in former if each.name not in alive]
    return former, kept


def sort_rows(
    rows: Mapping[str, Sequence[ovsdb_client.Row]], hosts: Collection[str], unregistered: Mapping[str, str]
) -> tuple[list[FormerChassis], list[KeptChassis]]:
    """Do the same by the rows of the database, whether a chassis is alive or not."""
    there = {str(row["name"]): row for row in rows["Chassis"]}
    private = {str(row["name"]): row for row in rows["Chassis_Private"]}
    former: list[FormerChassis] = []
    kept: list[KeptChassis] = []
    for host, address in sorted(unregistered.items()):
        for name in sorted({str(row["chassis_name"]) for row in rows["Encap"] if str(row["ip"]) == address}):
            if not address or name == host or name not in there:
                continue
            why = ""
            if name in hosts:
                why = "the inventory has a host of that name"
            elif host in there:
                why = f"chassis {host} is there with another address"
            elif list(unregistered.values()).count(address) > 1:
                why = "several hosts say that they have this address"
            if why:
                kept.append(KeptChassis(name, address, host, why))
            else:
                former.append(FormerChassis(name, address, host, _uuids(name, there, private)))
    return former, kept


def chassis_named(rows: Mapping[str, Sequence[ovsdb_client.Row]], names: Collection[str]) -> list[FormerChassis]:
    """Return the chassis of these names, with the address of each."""
    there = {str(row["name"]): row for row in rows["Chassis"]}
    private = {str(row["name"]): row for row in rows["Chassis_Private"]}
    addresses = {str(row["chassis_name"]): str(row["ip"]) for row in rows["Encap"]}
    return [
        FormerChassis(name, addresses.get(name, ""), "", _uuids(name, there, private))
        for name in sorted(set(names) & set(there))
    ]


def chassis_without_host(places: Places, hosts: Collection[str]) -> list[FormerChassis]:
    """Return the chassis of no host of the inventory. hosts: names of all hosts of the inventory."""
    rows = _read(places)
    return chassis_named(rows, {str(row["name"]) for row in rows["Chassis"]} - set(hosts))


def _read(places: Places) -> Mapping[str, Sequence[ovsdb_client.Row]]:
    return ovsdb_client.select(places.socket("southbound"), _SOUTH, ("Chassis", "Encap", "Chassis_Private"))


def _uuids(name: str, there: Mapping[str, ovsdb_client.Row], private: Mapping[str, ovsdb_client.Row]) -> dict[str, str]:
    rows = {"Chassis": there[name], **({"Chassis_Private": private[name]} if name in private else {})}
    return {table: ovsdb_client.uuid_of(row) for table, row in rows.items()}


def remove(places: Places, former: Sequence[FormerChassis]) -> None:
    operations = [
        {"op": "delete", "table": table, "where": [["_uuid", "==", ["uuid", uuid]]]}
        for each in former
        for table, uuid in each.rows.items()
    ]
    ovsdb_client.transact(places.socket("southbound"), _SOUTH, operations)


def _find_alive(places: Places, names: Sequence[str]) -> set[str]:
    """Return which of these chassis take up a new number of the configuration, as each that is alive does."""
    step: Mapping[str, Any] = {"op": "mutate", "table": "NB_Global", "where": [], "mutations": [["nb_cfg", "+=", 1]]}
    ovsdb_client.transact(places.socket("northbound"), _NORTH, [step])
    rows = ovsdb_client.select(places.socket("northbound"), _NORTH, ["NB_Global"], ["nb_cfg"])["NB_Global"]
    number, limit = int(rows[0]["nb_cfg"]), time.monotonic() + ALIVE_SECONDS
    alive: set[str] = set()
    while time.monotonic() < limit and alive != set(names):
        found = ovsdb_client.select(places.socket("southbound"), _SOUTH, ["Chassis_Private"], ["name", "nb_cfg"])
        alive = {str(row["name"]) for row in found["Chassis_Private"] if int(row["nb_cfg"]) >= number} & set(names)
        time.sleep(0.1)
    return alive
