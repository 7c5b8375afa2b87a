# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused before anything of a machine is looked at. How machines are read, test_machine_backups.py of the
integration tests has."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    ForeignObject,
    InvalidValue,
    NebulaError,
    NotFound,
    StalePlan,
    Unsupported,
    WrongState,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import machine_reading
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.machine_record import (
    CHECKPOINT,
    Record,
    read_record,
    write_record,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.moves import node_moves
from ansible_collections.nebula.provision.plugins.module_utils.model.context import Context
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import (
    NODE,
    BackupRequest,
    MachineToBackUp,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.move import LEAVING
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.storage import disk_swap
from ansible_collections.nebula.provision.plugins.module_utils.storage.backup_files import NbdSource

CATALOG, UUID = "0b0b0b0b-0000-4000-8000-000000000000", "0c0c0c0c-0000-4000-8000-000000000000"
DISK = Disk(disk_id=0, target="vda", size=1)
VM = Vm(vm_id=1, uuid=UUID, name="web", hypervisor="kvm", cpu=1, memory=32, disks=(DISK,))
NEW, OLD = "nebula-0123abcd-20261130T120001Z-bbbbbb", "nebula-0123abcd-20261130T120000Z-aaaaaa"


class Running:
    sources = {0: NbdSource("/socket", "vda", 1 << 20, "written")}
    incremental, reason, consistency, checkpoint = True, "", "crash-consistent", NEW
    roots: Mapping[int, str] = {}
    way = ""

    def keep(self) -> None: ...


class Driver(mock.Mock):
    @contextlib.contextmanager
    def back_up(self, _mark: Any, _disks: Any, order: Any) -> Iterator[Running]:
        self.order = order
        yield Running()


@pytest.fixture
def driver() -> Driver:
    found = Driver(capabilities=frozenset({"back_up"}))
    found.name = "kvm"
    found.state.return_value = "RUNNING"
    found.state_files.return_value = {}
    found.state_elsewhere.return_value = None
    found.own_roots.return_value = {}
    return found


@pytest.fixture
def root(tmp_path: Path) -> str:
    directory = tmp_path / "datastores" / "0" / "1"
    directory.mkdir(parents=True)
    write_record(str(directory), Record(CATALOG, 1, UUID, generation=3))
    (directory / "disk.0").touch()
    return str(tmp_path)


def read(driver: Driver, root: str, vm: Vm = VM, since: str = "", generation: int = 3, **more: Any) -> Any:
    machine = MachineToBackUp(vm, generation, "node")
    request = BackupRequest(CATALOG, "/backups", NODE, (machine,), **more)
    with machine_reading.readable(request, driver, root, machine, NEW, since) as found:
        return found


def test_a_machine_is_read(driver: Driver, root: str) -> None:
    vm = replace(
        VM,
        disks=(*VM.disks, Disk(disk_id=2, target="hdc", type="CDROM", image="cd"), Disk(3, "vdb", readonly=True)),
        context=Context(disk_id=1, target="hda"),
    )
    with mock.patch.object(machine_reading, "_find", lambda disk, _root: disk.source):
        given = read(driver, root, vm, OLD).given
    assert given.incremental and given.checkpoint == NEW
    assert [(each.disk_id, each.size, each.bitmap) for each in given.disks] == [(0, 1 << 20, "written")]
    assert given.left_out == (
        "disk 2 (hdc): it is a CD-ROM of image cd",
        "disk 3 (vdb): it is only read",
        "disk 1 (hda): it is the context, and is made anew",
    )
    assert (driver.order.since, driver.order.prefix) == (OLD, "nebula-0123abcd-")


@pytest.mark.parametrize(
    ("vm", "kind", "why"),
    [
        (replace(VM, hypervisor="lxc"), Unsupported, "this host runs kvm"),
        (replace(VM, vm_id=2), NotFound, "this host has none"),
        (replace(VM, uuid=CATALOG), ForeignObject, "no mark of this machine"),
        (replace(VM, attributes={"INSTALLS": "YES"}), WrongState, "being installed"),
        (replace(VM, disks=(replace(VM.disks[0], luks_secret=UUID),)), InvalidValue, "would not be"),
        (replace(VM, disks=()), Unsupported, "no disk of its own: none at all"),
    ],
)
def test_machines_that_are_refused(driver: Driver, root: str, vm: Vm, kind: type[NebulaError], why: str) -> None:
    with pytest.raises(kind, match=why):
        read(driver, root, vm)


@pytest.mark.parametrize("state", ["RUNNING", "POWEROFF"])
def test_the_root_of_a_container_is_read(driver: Driver, root: str, state: str) -> None:
    vm = replace(VM, disks=(replace(VM.disks[0], format="tar", target=""),))
    driver.state.return_value = state
    driver.own_roots.return_value = {0: "/private"}
    driver.root_size.return_value = 77
    running = {"sources": {}, "roots": {0: "/private"}, "incremental": False, "way": "slowly", "reason": "why"}
    with (
        mock.patch.object(machine_reading, "_find", lambda disk, _root: disk.source),
        mock.patch.multiple(Running, **running),
    ):
        found = read(driver, root, vm, OLD, stand_still=True)
    (disk,) = found.given.disks
    assert (disk.format, disk.size, disk.holds, disk.export) == ("tar", 0, 77, "")
    assert not found.given.incremental and not found.given.unchanged and found.sources == {}
    found.roots[0].pack(1, 5)
    assert driver.pack_root.call_args.args[1:3] == ("/private", 1)
    if state == "RUNNING":
        assert driver.order.stand_still and (found.given.way, found.given.reason) == ("slowly", "why")
    else:
        assert "always stored whole" in found.given.reason


@pytest.mark.parametrize("generation", [2, 4])
def test_another_generation_is_refused(driver: Driver, root: str, generation: int) -> None:
    with pytest.raises(StalePlan, match="has acted on generation 3"):
        read(driver, root, generation=generation)


@pytest.mark.parametrize(("state", "kind"), [("SUSPENDED", WrongState), ("UNKNOWN", WrongState), (None, NotFound)])
def test_states_that_are_refused(driver: Driver, root: str, state: str | None, kind: type[NebulaError]) -> None:
    driver.state.return_value = state
    with pytest.raises(kind):
        read(driver, root)


def test_a_saved_machine_is_refused(driver: Driver, root: str) -> None:
    driver.state.return_value = "POWEROFF"
    Path(root, "datastores/0/1", CHECKPOINT).touch()
    with pytest.raises(WrongState, match="SUSPENDED"):
        read(driver, root)


def test_a_machine_that_moves_is_refused(driver: Driver, root: str) -> None:
    node_moves.write(root, node_moves.NodeMove(1, UUID, "token", LEAVING, CATALOG, "live"))
    with pytest.raises(WrongState, match="being moved"):
        read(driver, root)
    node_moves.remove(root, 1)
    directory = os.path.join(root, "datastores/0/1")
    write_record(directory, Record(CATALOG, 1, UUID, generation=3, coming="token"))
    with pytest.raises(WrongState, match="being moved"):
        read(driver, root)


@pytest.mark.parametrize("at", [1, 1 << 40])
def test_a_chain_that_was_ended_is_not_continued(driver: Driver, root: str, at: int) -> None:
    """Whatever the clocks say: until this place has a whole backup of it, which others do not count for."""
    directory = os.path.join(root, "datastores/0/1")
    other = {"nebula-ffffffff-": at, "nebula-eeeeeeee-": 5}
    record = Record(CATALOG, 1, UUID, generation=3, unchained="disk 0 was reverted", unchained_at=at, chained=other)
    write_record(directory, record)
    for _failed in range(2):
        found = read(driver, root, since=OLD)
        assert (driver.order.since, found.given.reason) == ("", "disk 0 was reverted")
    found.keep()
    noted = read_record(directory)
    assert noted is not None and noted.chained == {"nebula-ffffffff-": at, "nebula-0123abcd-": at}
    assert read(driver, root, since=OLD).given.reason == "" and driver.order.since == OLD
    # And when it is reverted once more.
    write_record(directory, replace(noted, unchained="again", unchained_at=at + 1))
    assert read(driver, root, since=OLD).given.reason == "again"


def test_who_can_not_be_read_while_it_runs(driver: Driver, root: str) -> None:
    driver.capabilities = frozenset()
    with pytest.raises(Unsupported, match="can't show its disks"):
        read(driver, root)


def test_a_restore_that_was_killed_is_finished_first(driver: Driver, root: str) -> None:
    directory = os.path.join(root, "datastores/0/1")
    disk = os.path.join(directory, "disk.0")
    driver.end_left_backup.side_effect = lambda *_: seen.append(disk_swap.is_unfinished(directory))
    seen: list[bool] = []
    with (
        contextlib.suppress(KeyboardInterrupt),
        mock.patch.object(disk_swap, "_give_up"),
        disk_swap.swapping(directory, (disk,), False, mock.Mock()),
    ):
        raise KeyboardInterrupt
    assert disk_swap.is_unfinished(directory)
    read(driver, root)
    assert seen == [False]
