# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a driver can't do is refused by name."""

from __future__ import annotations

from dataclasses import replace

import pytest
from memory_hypervisor import MemoryDriver
from memory_node import machine

from ansible_collections.nebula.provision.plugins.module_utils.errors import Unsupported
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Driver
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import unsupported
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.move import (
    COLD,
    LIVE,
    SOURCE,
    TARGET,
    PlannedMove,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Nic
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import (
    CREATE,
    DELETE,
    REVERT,
    SAVE_AS,
    DiskTask,
    PlannedVm,
)


@pytest.mark.parametrize(
    ("kind", "operation"), [(SAVE_AS, "copy_disk"), (CREATE, "snapshot_disk"), (DELETE, "delete_disk_snapshot")]
)
def test_a_task_needs_the_driver_only_while_the_machine_runs(
    kind: str, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryDriver, "capabilities", Driver.OPTIONAL - {operation})
    task = DiskTask(kind, "t", 0)
    unsupported.check_supported(PlannedVm(machine(), 1, "POWEROFF", tasks=(task,)), MemoryDriver())
    with pytest.raises(Unsupported, match=f"virtual machine web-0: {operation}: hypervisor memory can't") as caught:
        unsupported.check_supported(PlannedVm(machine(), 1, "RUNNING", tasks=(task,)), MemoryDriver())
    assert "shutdown" in caught.value.remedy
    unsupported.check_supported(PlannedVm(machine(), 1, "RUNNING", tasks=(DiskTask(REVERT, "t", 0),)), MemoryDriver())


@pytest.mark.parametrize("role", [SOURCE, TARGET])
def test_only_a_machine_that_moves_while_it_runs_needs_a_driver_for_it(
    role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryDriver, "capabilities", Driver.OPTIONAL - {"depart"})

    def planned(way: str, *disks: Disk) -> PlannedVm:
        return PlannedVm(machine(disks=disks), 1, "RUNNING", move=PlannedMove("t", role, way, "node2"))

    unsupported.check_supported(planned(COLD), MemoryDriver())
    with pytest.raises(Unsupported, match="virtual machine web-0: move: hypervisor memory can't depart"):
        unsupported.check_supported(planned(LIVE), MemoryDriver())
    with pytest.raises(Unsupported, match="keeps its disks, and they stay on this host"):
        unsupported.check_supported(planned(COLD, Disk(0, "", by_hypervisor=True)), MemoryDriver())
    # Of those that it brings along, and of a number in its definition, nothing stays.
    monkeypatch.setattr(MemoryDriver, "own_roots", lambda *_given: {0: "/x"})
    swap = Disk(1, "", type="SWAP", by_hypervisor=True)
    unsupported.check_supported(planned(COLD, Disk(0, "", by_hypervisor=True), swap), MemoryDriver())


@pytest.mark.parametrize(("driver", "what"), [("ovn", "OVN"), ("ovswitch", "Open vSwitch")])
def test_a_hypervisor_that_attaches_nothing_to_a_switch_refuses_by_the_name_of_the_network(driver, what):
    nic = Nic(0, 3, "Tenant", "br-int", "02:00:0a:00:00:05", network_values={"VN_MAD": driver})
    planned = PlannedVm(machine(nics=(nic,)), 1, "RUNNING")
    with pytest.raises(
        Unsupported, match=rf"web-0, NIC 0: network Tenant: it is one of {what}, to which hypervisor memory"
    ):
        unsupported.check_supported(planned, MemoryDriver())
    # It may always end.
    unsupported.check_supported(PlannedVm(machine(nics=(nic,)), 1, "DONE", hard=True), MemoryDriver())
    plain = replace(nic, network_values={})
    unsupported.check_supported(PlannedVm(machine(nics=(plain,)), 1, "RUNNING"), MemoryDriver())
