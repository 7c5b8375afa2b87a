# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log of a machine says which disks and NICs it got or lost, when it has them, and what else was changed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from memory_hypervisor import MemoryDriver
from memory_node import CATALOG

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors import machine_record as records
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.batch import Batch
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Alias, Nic
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Plan, PlannedVm
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm

FIRST = Disk(0, "vda", type="FS", size=1, driver="qcow2")
MORE = Disk(1, "vdb", type="FS", size=2, driver="qcow2")
PUBLIC = Nic(0, 0, "Public", "nbr0", "02:00:0a:42:00:0a", ip="10.66.0.10", target="one-0-0")
INNER = Nic(1, 1, "Inner", "nbr1", "02:00:0a:43:00:0a", ip="10.67.0.10", target="one-0-1")
ALIAS = Alias(1, 0, "Public", "nbr0", "02:00:0a:42:00:0c", ip="10.66.0.12")
NIC = "network Public, 10.66.0.10, 02:00:0a:42:00:0a"


class Life:
    """A machine and what its log says of each plan."""

    def __init__(self, root: str) -> None:
        self.root, self.driver, self.number = root, MemoryDriver(), 0

    def bring(self, wanted: str, disks: tuple[Disk, ...], nics: tuple[Nic, ...], **orders: Any) -> list[str]:
        self.number += 1
        web = Vm(0, "uuid-0", "web", "memory", 1.0, memory=64, disks=disks, nics=nics)
        web = replace(web, **orders.pop("as_well", {}))
        planned = PlannedVm(web, self.number, wanted, **orders)
        before = self.log()
        (outcome,) = Batch(Plan(CATALOG, self.number, "node1", (planned,)), self.driver, self.root).apply()
        assert outcome.error is None, outcome.error
        new = self.log()[len(before) :]
        words = ("Disk ", "NIC", " was changed: ")
        return [line.split("[I]: ", 1)[1] for line in new if any(word in line for word in words)]

    @property
    def place(self) -> Path:
        return Path(self.root, "datastores", "0", "0")

    def log(self) -> list[str]:
        file = self.place / "vm.log"
        return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


@pytest.fixture
def life(root: str) -> Life:
    return Life(root)


def test_what_comes_and_goes_is_told_once(life: Life) -> None:
    assert life.bring("POWEROFF", (FIRST,), (PUBLIC,)) == []
    both = life.bring("POWEROFF", (FIRST, MORE), (PUBLIC, INNER))
    assert both == [
        "Disk 1 was attached: vdb, FS, 2 MiB",
        "NIC 1 was attached: network Inner, 10.67.0.10, 02:00:0a:43:00:0a",
    ]
    assert life.bring("POWEROFF", (FIRST, MORE), (PUBLIC, INNER)) == []
    gone = life.bring("POWEROFF", (FIRST,), (INNER,), detached=(1,))
    assert gone == [
        "Disk 1 was detached: vdb, FS, 2 MiB",
        "NIC 0 was detached: network Public, 10.66.0.10, 02:00:0a:42:00:0a",
    ]
    assert life.bring("RUNNING", (FIRST,), (INNER,)) == []


def test_what_stays_and_is_another_way_is_told(life: Life) -> None:
    life.bring("POWEROFF", (FIRST,), (PUBLIC,))
    moved = life.bring("POWEROFF", (replace(FIRST, target="vdc"),), (replace(PUBLIC, ip="10.66.0.11"),))
    assert moved == [
        "Disk 0 was changed: vdc, FS, 1 MiB, before vda, FS, 1 MiB",
        f"NIC 0 was changed: {NIC.replace('0.10', '0.11')}, before {NIC}",
    ]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"name": "db"}, ["Name was changed: db, before web"]),
        ({"cpu": 0.5}, ["CPU was changed: 0.5, before 1"]),
        ({"vcpu": 2}, ["VCPU was changed: 2, before that of its hypervisor"]),
        ({"memory": 128}, ["Memory was changed: 128 MiB, before 64 MiB"]),
        ({"memory": 128, "cpu": 2.0}, ["CPU was changed: 2, before 1", "Memory was changed: 128 MiB, before 64 MiB"]),
        ({"aliases": (ALIAS,)}, ["Alias 1 of NIC 0 was attached: network Public, 10.66.0.12, 02:00:0a:42:00:0c"]),
    ],
)
def test_what_else_is_changed_is_told(life: Life, values: dict[str, Any], told: list[str]) -> None:
    life.bring("POWEROFF", (FIRST,), (PUBLIC,))
    assert life.bring("POWEROFF", (FIRST,), (PUBLIC,), as_well=values) == told
    assert life.bring("POWEROFF", (FIRST,), (PUBLIC,), as_well=values) == []
    assert len(life.bring("POWEROFF", (FIRST,), (PUBLIC,))) == len(told), "and back"


@pytest.mark.parametrize("values", [{"name": "db"}, {"cpu": 0.5}, {"aliases": (ALIAS,)}])
def test_what_a_machine_that_runs_has_at_once_is_not_put_off(
    life: Life, monkeypatch: pytest.MonkeyPatch, values: dict[str, Any]
) -> None:
    monkeypatch.setattr(MemoryDriver, "capabilities", MemoryDriver.capabilities - {"adjust"})
    life.bring("RUNNING", (FIRST,), (PUBLIC,))
    (line,) = life.bring("RUNNING", (FIRST,), (PUBLIC,), as_well=values)
    assert "started the next time" not in line


@pytest.mark.parametrize("adjusts", [True, False])
def test_it_says_when_a_machine_that_runs_has_it(life: Life, monkeypatch: pytest.MonkeyPatch, adjusts: bool) -> None:
    if not adjusts:
        monkeypatch.setattr(MemoryDriver, "capabilities", MemoryDriver.capabilities - {"adjust"})
    life.bring("RUNNING", (FIRST,), (PUBLIC,))
    (line,) = life.bring("RUNNING", (FIRST,), (PUBLIC, INNER))
    assert line.endswith("started the next time") == (not adjusts)


def test_a_machine_of_an_earlier_release_is_told_as_it_is(life: Life) -> None:
    life.bring("POWEROFF", (FIRST,), ())
    file = life.place / records.RECORD
    earlier = json.loads(file.read_text())
    del earlier["devices"]
    file.write_text(json.dumps(earlier))
    assert life.bring("POWEROFF", (FIRST,), (PUBLIC,)) == [
        "The machine has Disk 0: vda, FS, 1 MiB; NIC 0: network Public, 10.66.0.10, 02:00:0a:42:00:0a"
    ]
    assert life.bring("POWEROFF", (FIRST,), (PUBLIC,)) == []
