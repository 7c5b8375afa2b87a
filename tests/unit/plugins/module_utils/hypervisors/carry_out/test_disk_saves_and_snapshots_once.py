# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks of disks are done once each, and told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from memory_node import Node, here, machine, told

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    HypervisorError,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import CREATE, DELETE, DiskTask
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm

__all__ = ["here"]


@pytest.fixture
def with_disk(here: Node, tmp_path: Path) -> Iterator[Vm]:
    image = tmp_path / "image"
    image.write_bytes(b"an image")
    yield machine(disks=(Disk(0, "vda", source=str(image), clone=False, format="qcow2"),))


def test_each_task_of_a_running_machine_is_done_once(here: Node, with_disk: Vm) -> None:
    here.one("RUNNING", 1, with_disk)
    here.driver.names()
    tasks = (
        DiskTask(CREATE, "t1", 0, "crash", snapshot_id=1, name="one", mark="m"),
        DiskTask(DELETE, "t2", 0, snapshot_id=0, name="old", mark="n"),
    )
    first = here.one("RUNNING", 2, with_disk, tasks=tasks)
    assert told(first) == ("RUNNING", True, "") and [each.token for each in first.tasks] == ["t1", "t2"]
    assert here.driver.names() == ["adjust", "snapshot nebula-1-m crash", "delete nebula-0-n"]
    again = here.one("RUNNING", 2, with_disk, tasks=tasks)
    assert told(again) == ("RUNNING", False, "") and again.tasks == first.tasks
    assert here.driver.names() == ["adjust"]
    here.one("RUNNING", 3, with_disk, tasks=tasks[1:])
    # Only what plans still name is remembered.
    assert [each.token for each in here.record().tasks] == ["t2"]


def test_a_task_that_fails_is_told_and_the_others_go_on(here: Node, with_disk: Vm) -> None:
    here.one("RUNNING", 1, with_disk)
    here.driver.fails["delete nebula-0-n"] = HypervisorError("deleting it", "no such snapshot")
    tasks = (
        DiskTask(DELETE, "t1", 0, snapshot_id=0, name="old", mark="n"),
        DiskTask(CREATE, "t2", 0, snapshot_id=1, name="one", mark="m"),
    )
    outcome = here.one("RUNNING", 2, with_disk, tasks=tasks)
    assert told(outcome) == ("RUNNING", True, "HypervisorError")
    assert [(each.token, each.error is None) for each in outcome.tasks] == [("t1", False), ("t2", True)]
    assert [each.token for each in here.record().tasks] == ["t2"]
    here.driver.fails.clear()
    here.driver.names()
    assert here.one("RUNNING", 2, with_disk, tasks=tasks).error is None
    assert here.driver.names() == ["adjust", "delete nebula-0-n"]


def test_a_machine_whose_disk_could_not_be_reverted_is_not_started(here: Node, with_disk: Vm) -> None:
    vm = replace(with_disk, disks=(replace(with_disk.disks[0], readonly=True),))
    task = DiskTask("snapshot-revert", "t1", 0, snapshot_id=0, name="old", mark="n")
    outcome = here.one("RUNNING", 1, vm, tasks=(task,))
    assert told(outcome)[::2] == ("POWEROFF", "Unsupported")
    assert "start" not in here.driver.names()
    assert [each.token for each in outcome.tasks] == ["t1"]
