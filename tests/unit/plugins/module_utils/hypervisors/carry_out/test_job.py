# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of a machine while it is worked on."""

from __future__ import annotations

import pytest
from memory_node import CATALOG, Node, machine

from ansible_collections.nebula.provision.plugins.module_utils.host import node_file
from ansible_collections.nebula.provision.plugins.module_utils.host.vm_log import VmLog
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Mark
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.batch import Batch
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.job import Job
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.machine_record import Record, read_record
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Plan, PlannedVm


def job(here: Node, **orders: object) -> Job:
    planned = PlannedVm(machine(), 1, "RUNNING", **orders)  # type: ignore[arg-type]
    plan = Plan(CATALOG, 1, "node1", (planned,))
    common = Batch(plan, here.driver, str(here.root))._common(node_file.read(str(here.root)))
    directory = str(here.directory())
    return Job(common, planned, Mark(CATALOG, 0, "uuid-0"), directory, Record(CATALOG, 0, "uuid-0"), VmLog(directory))


@pytest.mark.parametrize(
    ("orders", "fitted"),
    [({}, None), ({"refitted": True}, False), ({"detached": (1,)}, False), ({"grown": (0,)}, False)],
)
def test_only_a_machine_whose_devices_were_decided_about_is_fitted_or_not(
    here: Node, orders: dict[str, object], fitted: object
) -> None:
    assert job(here, **orders).is_fitted is fitted


def test_a_record_is_kept_at_once_and_a_move_is_logged(here: Node) -> None:
    here.directory().mkdir(parents=True)
    working = job(here)
    working.keep_record()
    assert read_record(working.directory) == working.record
    working.moved("LCM", "RUNNING")
    assert working.changed and working.log.last()[-1].endswith("New VM state is RUNNING")
