# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows machines of the catalog: the record of a row, and the machines that names, patterns and ids select."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

from ....dataclass import replace
from ....model.dataclass_json import from_plain
from ....model.device_matching import ALIAS
from ....model.flags import TRUE
from ....model.host import Host
from ....model.owner import Owner
from ....model.states import VmState, vm_state_name
from ....model.vm import Growth, type_keys_of
from ...ports import VmRecord
from .move_records import is_awaited, move_of
from .network_values import NetworkValues
from .parts import Parts
from .vm_rows import orders_of, request_of
from .waiting import shown_waiting

# Variables of a context that hold addresses.
_OF_NIC = re.compile(r"(ETH\d+)_(IP6?|IP6_ULA)$")
_OF_ALIAS = re.compile(r"(ETH\d+_ALIAS\d+)_(IP6?|IP6_ULA)$")


def pool(
    parts: Parts,
    names: Iterable[str] | None = None,
    patterns: Iterable[str] | None = None,
    ids: Iterable[int] | None = None,
    done: bool = False,
) -> list[VmRecord]:
    hosts = parts.hosts.by_id()
    known = NetworkValues(parts.networks)
    if names is None and patterns is None and ids is None:
        where = "" if done else "WHERE state != 6"
        rows = parts.store.rows(f"SELECT * FROM vms {where} ORDER BY id")
        return [_record(parts, row, hosts, known) for row in rows]
    found: dict[int, sqlite3.Row] = {}
    # A name belongs to the machine that is not to end: the index says so too.
    alive = "" if done else " AND wanted != 'DONE'"
    for column, values in (("name", names), ("pattern", patterns)):
        for row in parts.rows.select(column, values or (), alive):
            found[row["id"]] = row
    for row in parts.rows.select("id", ids or (), "" if done else " AND state != 6"):
        found[row["id"]] = row
    return [_record(parts, found[vm_id], hosts, known) for vm_id in sorted(found)]


def of_new(parts: Parts, bodies: Mapping[int, Mapping[str, Any]]) -> list[VmRecord]:
    """Return the records of machines that were made just now. bodies: what was written of each, by its id."""
    hosts = parts.hosts.by_id()
    rows = {row["id"]: row for row in parts.rows.select("id", bodies, "")}
    return [record_of(rows[vm_id], hosts, bodies[vm_id], outdated=False, doubled="") for vm_id in sorted(rows)]


def _record(parts: Parts, row: sqlite3.Row, hosts: Mapping[int, Host], known: NetworkValues) -> VmRecord:
    body = json.loads(row["body"]) if row["body"] else {}
    outdated = row["state"] != VmState.DONE and outdated_by(body, known)
    record = record_of(row, hosts, body, outdated, parts.given_ups.doubled.get(row["id"], ""))
    if row["id"] in parts.polls.doubled:
        record = replace(record, runs_elsewhere=parts.polls.doubled[row["id"]])
    return replace(record, outdated=True) if _lacks_aliases(record) else record


def one(parts: Parts, vm_id: int) -> VmRecord:
    """Return the record of a machine that is not DONE."""
    return pool(parts, ids=[vm_id])[0]


def outdated_by(body: Mapping[str, Any], known: NetworkValues) -> bool:
    """Return whether the machine's context was made of values that its networks do not have any more."""
    if not body.get("context"):
        return False
    return any(
        nic["network_id"] is not None
        and dict(known.values_of(nic["network_id"], nic["ar_id"])) != nic["network_values"]
        for nic in (*body.get("nics", ()), *body.get("aliases", ()))
    )


def _lacks_aliases(record: VmRecord) -> bool:
    """Return whether the machine was made when nothing acted on NIC_ALIAS."""
    if record.state == "DONE" or record.request is None or record.nic_aliases:
        return False
    return record.request.has(ALIAS)


def hostname_of(given: Mapping[str, str]) -> str:
    """Return the name that a context gives to the guest, "" if none."""
    return given.get("SET_HOSTNAME") or given.get("HOSTNAME") or ""


def addresses_of(variables: Mapping[str, str], aliases: Iterable[Mapping[str, Any]] = ()) -> list[str]:
    """Return the addresses that a context gives to the guest's interfaces, those of aliases last. Those that come by
    DHCP and the like are not among them, nor are aliases that the guest was not started with."""
    found, further = [], []
    late = {f"ETH{alias['parent_id']}_ALIAS{alias['alias_id']}" for alias in aliases if alias.get("late")}
    for name in sorted([name for name, value in variables.items() if value and name.startswith("ETH")]):
        nic = _OF_NIC.match(name)
        if nic:
            method = variables.get(f"{nic[1]}_METHOD", "")
            if nic[2] != "IP":
                # Where IP6_METHOD is empty, guests take METHOD.
                method = variables.get(f"{nic[1]}_IP6_METHOD", "") or method
            if method.strip().lower() in ("", "static"):
                found.append(variables[name])
        alias = _OF_ALIAS.match(name)
        # The network translates the address of an external alias.
        if alias and alias[1] not in late and variables.get(f"{alias[1]}_EXTERNAL", "").upper() not in TRUE:
            further.append(variables[name])
    return found + further


def _aliases_of(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return aliases as OpenNebula's NIC_ALIAS shows them: by PARENT's name, and the number below it."""
    names = {nic["nic_id"]: (nic.get("options") or {}).get("NAME") or f"NIC{nic['nic_id']}" for nic in body["nics"]}
    shown = ("nic_id", "alias_id", "parent_id", "network", "mac", "ip", "ip6", "ip6_ula", "external", "late")
    return [
        {
            "name": alias["options"].get("NAME") or f"NIC{alias['parent_id']}_ALIAS{alias['alias_id']}",
            "parent": names.get(alias["parent_id"], ""),
            **{key: alias[key] for key in shown},
        }
        for alias in body["aliases"]
    ]


def record_of(
    row: sqlite3.Row, hosts: Mapping[int, Host], body: Mapping[str, Any], outdated: bool, doubled: str
) -> VmRecord:
    """Return the machine as users see it: without values of its context, and without passwords."""
    host = hosts.get(row["host_id"])
    context = body.get("context")
    given = (context or {}).get("variables") or {}
    graphics = body.get("graphics") or {}
    return VmRecord(
        id=row["id"],
        name=row["name"],
        uuid=body.get("uuid") or row["uuid"],
        state=vm_state_name(row["state"], row["lcm_state"]),
        wanted=row["wanted"],
        host=host.name if host else "",
        hypervisor=host.hypervisor if host else "",
        generation=row["generation"],
        cpu=row["cpu"],
        vcpu=body.get("vcpu"),
        memory=body.get("memory", row["memory"]),
        template=row["template"],
        pattern=row["pattern"],
        position=row["position"],
        error=row["error"],
        outdated=outdated,
        awaits=orders_of(row).awaits(bool(row["settled"])),
        waits=shown_waiting(row, orders_of(row).awaits(bool(row["settled"]))),
        loses=orders_of(row).loses or bool(orders_of(row).detached),
        recreates=bool(row["settled"]) and orders_of(row).recreates,
        moving=move_of(row).target if row["move_host"] is not None or is_awaited(row) else "",
        away=row["away"],
        settled=bool(row["settled"]),
        doubled=doubled,
        stime=row["stime"],
        etime=row["etime"],
        hostname=hostname_of(given),
        former=body.get("former", ""),
        has_topology=body.get("topology") is not None,
        growth=from_plain(Growth, body["growth"]) if body.get("growth") else None,
        hardware_version=body.get("hardware_version", 0),
        os=type_keys_of(body.get("os") or {}),
        addresses=addresses_of(given, body.get("aliases", ())) if context else None,
        nics=[
            {key: nic[key] for key in ("nic_id", "network", "bridge", "mac", "ip", "ip6", "ip6_ula", "target")}
            for nic in body.get("nics", ())
        ],
        nic_aliases=_aliases_of(body) if body.get("aliases") else (),
        disks=[
            {
                **{
                    key: disk[key]
                    for key in ("disk_id", "image", "image_id", "type", "target", "size", "save", "readonly")
                },
                # Machines of older versions have no such value.
                "snapshots": [dict(each) for each in disk.get("snapshots", ())],
            }
            for disk in body.get("disks", ())
        ],
        system_snapshots=[
            {key: each[key] for key in ("id", "name", "memory", "date", "disks")}
            for each in body.get("system_snapshots", ())
        ],
        graphics={key: graphics[key] for key in ("type", "listen", "port") if key in graphics},
        request=request_of(row) if row["request"] else None,
        # Machines of older versions belonged to oneadmin.
        owner=from_plain(Owner, body["owner"]) if body.get("owner") else Owner(),
    )
