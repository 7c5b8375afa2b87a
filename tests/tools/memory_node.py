# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node whose machines a driver in memory has: plans are applied to it one after another. The disks that machines have
here are files that are theirs in place; overlays and copies are the subject of storage/test_machine_disks.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from memory_hypervisor import MemoryDriver

from ansible_collections.nebula.provision.plugins.module_utils.host import node_file
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.batch import Batch
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.machine_record import (
    CHECKPOINT,
    RECORD,
    Record,
    read_record,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Plan
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import PlannedVm as Planned
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import VmOutcome as Outcome
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm

CATALOG = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
OTHER = "77777777-8c55-4b0e-9d6a-2f1f3c7d9a10"


def machine(vm_id: int = 0, **values: Any) -> Vm:
    values = {"memory": 64, **values}
    return Vm(vm_id, f"uuid-{vm_id}", f"web-{vm_id}", "memory", 1.0, **values)


class Node:
    """A node with its driver. What is applied is one plan after another, each with the next number."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.driver = MemoryDriver()
        self.number = 0
        node_file.update(str(root), lambda before: before)

    def apply(self, *planned: Planned, **values: Any) -> list[Outcome]:
        self.number += 1
        plan = Plan(CATALOG, self.number, "node1", planned, **values)
        return Batch(plan, self.driver, str(self.root)).apply()

    def one(self, wanted: str, generation: int = 1, vm: Vm | None = None, **orders: Any) -> Outcome:
        (outcome,) = self.apply(Planned(vm or machine(), generation, wanted, **orders))
        return outcome

    def directory(self, vm_id: int = 0) -> Path:
        return self.root / "datastores" / "0" / str(vm_id)

    def record(self, vm_id: int = 0) -> Record:
        found = read_record(str(self.directory(vm_id)))
        assert found is not None
        return found

    def log(self, vm_id: int = 0) -> str:
        return (self.directory(vm_id) / "vm.log").read_text(encoding="utf-8")


def plan(number: int, *planned: Planned) -> Plan:
    return Plan(CATALOG, number, "node1", planned)


def directory(root: str, vm_id: int = 0) -> Path:
    return Path(root, "datastores", "0", str(vm_id))


def mark(place: Path, **values: Any) -> None:
    place.mkdir(parents=True, exist_ok=True)
    record = Record(**{"catalog": CATALOG, "vm_id": int(place.name), "uuid": f"uuid-{place.name}", **values})
    (place / RECORD).write_text(json.dumps(to_plain(record)), encoding="utf-8")


def told(outcome: Outcome) -> tuple[str, bool, str]:
    return outcome.state, outcome.changed, outcome.error["kind"] if outcome.error else ""


def suspended(here: Node, vm: Vm | None = None) -> Path:
    here.one("RUNNING", 1, vm)
    here.one("SUSPENDED", 2, vm)
    here.driver.names()
    return here.directory() / CHECKPOINT
