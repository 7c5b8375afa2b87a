# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan that tells no room."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from memory_hypervisor import MemoryDriver

from ansible_collections.nebula.provision.plugins.module_utils.host import node_file
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors import machine_record as records
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.batch import Batch
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.machine_record import Record
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import (
    Plan,
    PlannedVm,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm

CATALOG = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"


OTHER = "77777777-8c55-4b0e-9d6a-2f1f3c7d9a10"


def machine(vm_id: int = 0, **values: Any) -> Vm:
    values = {"memory": 64, **values}
    return Vm(vm_id, f"uuid-{vm_id}", f"web-{vm_id}", "memory", 1.0, **values)


def plan(number: int, *planned: PlannedVm) -> Plan:
    return Plan(CATALOG, number, "node1", planned)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A node's, without waiting for the disk: no power cut is shown here."""
    monkeypatch.setattr(os, "fsync", lambda _fd: None)
    node_file.update(str(tmp_path), lambda before: before)
    return str(tmp_path)


def directory(root: str, vm_id: int = 0) -> Path:
    return Path(root, "datastores", "0", str(vm_id))


def mark(place: Path, **values: Any) -> None:
    place.mkdir(parents=True, exist_ok=True)
    record = Record(**{"catalog": CATALOG, "vm_id": int(place.name), "uuid": f"uuid-{place.name}", **values})
    (place / records.RECORD).write_text(json.dumps(to_plain(record)), encoding="utf-8")


def test_room_is_not_looked_for_where_the_plan_tells_none(root: str) -> None:
    driver = MemoryDriver(foreign_memory=1 << 30)
    asked = replace(plan(1, PlannedVm(machine(), 1, "RUNNING")), memory=0, foreign_memory=1)
    assert [each.state for each in Batch(asked, driver, root).apply()] == ["RUNNING"]
