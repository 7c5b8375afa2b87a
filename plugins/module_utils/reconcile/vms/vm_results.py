# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows machines and plans as modules return them: as plain values, with secrets in plans alone."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ...engines.base import Engine
from ...engines.ports import VmRecord
from ...hypervisors.console_access import console_instructions
from ...model.dataclass_json import to_plain
from ...model.instantiate.graphics import wants_made_up_password
from ...model.plan import GivenUp, Observed, Plan
from .machine_age import doubts_of_age

SYSTEM_DATASTORE = "datastores/0"
_ADDRESSES = ("ip", "ip6", "ip6_ula")


def vm_view(record: VmRecord, root: str, unsure: bool = False) -> dict[str, Any]:
    """Return a machine as results show it. unsure: check mode, where ids of new machines mean nothing."""
    vm_id = None if unsure and record.generation == 1 and record.state == "PROLOG" else record.id
    first: Mapping[str, Any] = record.nics[0] if record.nics else {}
    directory = f"{root}/{SYSTEM_DATASTORE}/{vm_id}" if vm_id is not None else ""
    domain = f"one-{vm_id}" if vm_id is not None else ""
    return {
        "id": vm_id,
        "name": record.name,
        "uuid": record.uuid if vm_id is not None else "",
        "state": record.state,
        "wanted": record.wanted,
        "host": record.host,
        "hypervisor": record.hypervisor,
        "cpu": record.cpu,
        "vcpu": record.vcpu,
        "memory": record.memory,
        "template": record.template,
        "hostname": record.hostname,
        "former_hostname": record.former,
        "addresses": None if record.addresses is None else list(record.addresses),
        "ip": first.get("ip") or first.get("ip6") or "",
        "ips": [nic[key] for nic in (*record.nics, *record.nic_aliases) for key in _ADDRESSES if nic.get(key)],
        "mac": first.get("mac", ""),
        "nics": [dict(nic) for nic in record.nics],
        "nic_aliases": [dict(alias) for alias in record.nic_aliases],
        "disks": [dict(disk) for disk in record.disks],
        "system_snapshots": [dict(each) for each in record.system_snapshots],
        "graphics": dict(record.graphics),
        "directory": directory,
        "console": f"{directory}/console.log" if directory else "",
        "domain": domain,
        "access": console_instructions(record.hypervisor, domain, record.graphics),
        "waits": [dict(each) for each in record.waits],
        "lacks": doubts_of_age(record),
        "moving": record.moving,
        "away": record.away,
        "error": record.error,
        "stime": record.stime,
    }


def open_consoles(engine: Engine, observed: Iterable[Observed]) -> list[str]:
    """Return a warning that names the machines whose graphics are to have a password, and run without a password."""
    uuids = {seen.uuid for node in observed for seen in node.vms if seen.open_console}
    # All machines are read only if needed, since it takes long.
    records = engine.vms.pool() if uuids else []
    names = [r.name for r in records if r.uuid in uuids and r.request is not None and wants_made_up_password(r.request)]
    if not names:
        return []
    text = (
        f"Virtual machines whose graphics have no password before they are started anew: {', '.join(names)}. Until "
        "then every user of their hosts can use them: power them off and on (state: poweroff, then running)"
    )
    return [text]


def warnings_of_given_up(found: Iterable[GivenUp], ending: bool, hosts: Collection[str] | None) -> list[str]:
    """Return a warning for each machine that was given up with its host and is there again. ending: the machines are
    powered off, on the hosts of this run."""
    warnings = []
    for machine in found:
        what = f"Host {machine.host} has VM {machine.name} (id {machine.vm_id}), {machine.state}, which was given up"
        addresses = ", ".join(machine.addresses)
        held = f" Nobody else gets {addresses}." if machine.addresses and not machine.doubles else ""
        twice = f" {', '.join(machine.doubles)} has an address of it ({addresses}) too." if machine.doubles else ""
        if ending and (hosts is None or machine.host in hosts):
            warnings.append(f"{what}: it is powered off, and its disks stay.{twice}")
            continue
        remedy = "nebula_end_given_up: true (end_given_up of nebula_vm) powers it off and leaves its disks"
        warnings.append(f"{what}: it is left as it is.{held}{twice} {remedy}")
    return warnings


def as_plans(plans: Mapping[str, Plan]) -> dict[str, str]:
    return {host: json.dumps(to_plain(plan), separators=(",", ":")) for host, plan in plans.items()}
