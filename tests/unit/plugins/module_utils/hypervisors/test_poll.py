# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A poll tells what is there, and changes nothing."""

from __future__ import annotations

import socket

import pytest
from memory_hypervisor import Machine, MemoryDriver
from memory_node import CATALOG, OTHER, directory, machine, mark, plan

from ansible_collections.nebula.provision.plugins.module_utils.host import node_file
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors import machine_record as records
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors import poll
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.batch import Batch
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import PlannedVm


def test_a_poll_tells_what_is_there(root: str) -> None:
    driver = MemoryDriver(foreign_memory=12)
    wanted = (PlannedVm(machine(number), 4, state) for number, state in enumerate(("RUNNING", "POWEROFF", "RUNNING")))
    Batch(plan(9, *wanted), driver, root).apply()
    (directory(root, 1) / records.CHECKPOINT).touch()
    # One of a killed run: the node has acted on a later decision than the hypervisor has written down.
    driver.machines[2].generation = 1
    driver.machines[8] = Machine("x", "")
    mark(directory(root, 7), catalog=OTHER)
    found = poll.poll(driver, root, "node1")
    assert [(vm.vm_id, vm.state, vm.generation) for vm in found.vms] == [
        (0, "RUNNING", 4),
        (1, "SUSPENDED", 4),
        (2, "RUNNING", 4),
    ]
    assert (found.host, found.hypervisor, found.catalog) == ("node1", "memory", CATALOG)
    assert (found.plan_number, found.done_number) == (9, 9)
    assert (found.memory, found.cpu, found.foreign_memory) == (4096, 2.0, 12)
    assert found.foreign_ids == (7, 8)
    assert found.facts["accelerator"] == "memory"


@pytest.mark.parametrize(("bridge", "there"), [("lo", True), ("no-such-bridge", False)])
def test_it_is_told_whether_the_bridge_of_ovn_is_there(
    root: str, monkeypatch: pytest.MonkeyPatch, bridge: str, there: bool
) -> None:
    monkeypatch.setattr(poll, "INTEGRATION_BRIDGE", bridge)
    assert poll.poll(MemoryDriver(), root, "node1").has_ovn is there


def test_the_room_is_told_that_the_disks_of_machines_have(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def room(directory: str) -> tuple[int, int]:
        asked.append(directory)
        return 7, 9

    monkeypatch.setattr(poll.datastore_layout, "room", room)
    assert poll.poll(MemoryDriver(), root, "node1").disk_room == 7
    assert asked == [f"{root}/datastores/0"]


def test_a_running_machine_whose_checkpoint_is_still_there_runs(root: str) -> None:
    driver = MemoryDriver()
    Batch(plan(1, PlannedVm(machine(), 1, "RUNNING")), driver, root).apply()
    (directory(root) / records.CHECKPOINT).touch()
    assert [vm.state for vm in poll.poll(driver, root, "node1").vms] == ["RUNNING"]


def test_ports_of_our_own_running_machines_are_not_taken(root: str) -> None:
    driver = MemoryDriver()
    with socket.socket() as taken:
        port = next(port for port in range(5900, 6900) if _bound(taken, port))
        taken.listen()
        assert port in poll.poll(driver, root, "node1").ports
        driver.machines[0] = Machine("uuid-0", CATALOG, "RUNNING")
        mark(directory(root), port=port)
        node_file.accept(root, CATALOG, 1)
        assert port not in poll.poll(driver, root, "node1").ports
        driver.machines[0].state = "POWEROFF"
        assert port in poll.poll(driver, root, "node1").ports


def _bound(to: socket.socket, port: int) -> bool:
    try:
        to.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


def test_a_node_without_its_hypervisor_tells_the_rest(root: str) -> None:
    found = poll.poll(None, root, "node1", hypervisor="xen")
    assert (found.hypervisor, found.vms, found.foreign_memory) == ("xen", (), 0)
    assert (found.memory, found.cpu) == (node_file.memory(), float(node_file.processors()))


def test_a_poll_of_another_catalog_sees_that_ones_machines(root: str) -> None:
    driver = MemoryDriver(machines={0: Machine("a", CATALOG), 1: Machine("b", OTHER)})
    assert [vm.uuid for vm in poll.poll(driver, root, "node1", OTHER).vms] == ["b"]
    node_file.accept(root, CATALOG, 1)
    assert [vm.uuid for vm in poll.poll(driver, root, "node1").vms] == ["a"]
