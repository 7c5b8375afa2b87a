# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a machine that installs is over."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.host import node_file
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors import machine_record as records
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.machine_record import Record
from ansible_collections.nebula.provision.plugins.module_utils.install.next_step import MARK
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


@pytest.mark.parametrize(
    ("wanted", "installs", "state", "started", "was"),
    [
        ("RUNNING", True, "POWEROFF", 3, True),
        ("RUNNING", True, "POWEROFF", 4, True),
        ("RUNNING", True, "POWEROFF", 2, False),
        ("RUNNING", True, "POWEROFF", None, False),
        ("RUNNING", True, "RUNNING", 3, False),
        ("RUNNING", True, None, 3, False),
        ("RUNNING", False, "POWEROFF", 3, False),
        ("POWEROFF", True, "POWEROFF", 3, False),
    ],
)
def test_only_an_installer_that_this_decision_has_started_is_over(
    wanted: str, installs: bool, state: str | None, started: int | None, was: bool
) -> None:
    planned = PlannedVm(machine(attributes={MARK: "debian"} if installs else {}), 3, wanted)
    record = None if started is None else Record(CATALOG, 0, "uuid-0", started=started)
    assert records.was_started(planned, record, state) is was
