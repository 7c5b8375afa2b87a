# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks, variables of UEFI and the state of a TPM of a machine that is off, from a backup that was made by hand."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_backups import MadeBackups, content_of
from memory_hypervisor import MemoryDriver

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    ChecksumMismatch,
    Conflict,
    ForeignObject,
    InUse,
    InvalidValue,
    NebulaError,
    NotFound,
    Unsupported,
    WrongState,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Mark, StateElsewhere
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import disk_restores
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.machine_record import (
    Record,
    read_record,
    write_record,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.disk_snapshots import Snapshot
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_restore import MachineToRestore
from ansible_collections.nebula.provision.plugins.module_utils.model.system_snapshots import SystemSnapshot
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.storage import disk_swap

CATALOG, UUID = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10", "2b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
MIB = 1 << 20
MARK = Mark(CATALOG, 7, UUID, 3)
VM = Vm(7, UUID, "web-7", "memory", 1.0, 64, disks=(Disk(0, "vda", type="FS", driver="raw", size=1),))


class State(StateElsewhere):
    name, most = "tpm", 16

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def reading(self) -> Iterator[int | None]:
        yield None

    @contextlib.contextmanager
    def writing(self) -> Iterator[int]:
        with self.path.open("xb") as file:
            yield file.fileno()

    def settle(self) -> None:
        pass

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)


class Node:
    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path / "root"
        self.directory = self.root / "datastores/0/7"
        self.directory.mkdir(parents=True)
        (self.directory / "disk.0").write_bytes(b"o" * MIB)
        write_record(str(self.directory), Record(CATALOG, 7, UUID, generation=3))
        self.place = MadeBackups(tmp_path / "backups")
        self.state: str | None = "POWEROFF"
        self.beside: dict[str, int] = {}
        self.elsewhere: State | None = None
        self.driver = MemoryDriver()

    def restore(self, vm: Vm = VM, check_mode: bool = False, **changes: object) -> object:
        wanted = replace(MachineToRestore(CATALOG, vm, 3, str(self.place.directory), "latest"), **changes)
        return disk_restores.restore(wanted, self.driver, str(self.root), check_mode)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    made = Node(tmp_path)
    monkeypatch.setattr(MemoryDriver, "state", lambda _self, _mark: made.state)
    monkeypatch.setattr(MemoryDriver, "state_files", lambda _self, _vm: made.beside)
    monkeypatch.setattr(MemoryDriver, "state_elsewhere", lambda _self, _vm: made.elsewhere)
    return made


def test_everything_of_it_comes_back(node: Node, tmp_path: Path) -> None:
    node.beside = {"VARS.fd": 64}
    node.elsewhere = State(tmp_path / "tpm")
    node.elsewhere.path.write_bytes(b"by now")
    (node.directory / "VARS.fd").write_bytes(b"by now")
    node.place.full(7, CATALOG, {0: b"n" * MIB}, "raw", {"nvram": b"variables\0\0", "tpm": b"state"})
    foreseen = node.restore(check_mode=True)
    assert node.elsewhere.path.read_bytes() == b"by now"
    assert node.restore() == foreseen
    assert content_of(node.directory / "disk.0", "raw") == b"n" * MIB
    assert (node.directory / "VARS.fd").read_bytes() == b"variables\0\0"
    assert node.elsewhere.path.read_bytes() == b"state"
    record = read_record(str(node.directory))
    assert record is not None and record.unchained == "it was restored" and record.unchained_at > 0
    assert {path.name for path in node.directory.iterdir()} == {"disk.0", "VARS.fd", "vm.json"}
    # One disk alone comes without them.
    node.elsewhere.path.write_bytes(b"later")
    node.restore(disks=(0,))
    assert node.elsewhere.path.read_bytes() == b"later"


def test_what_only_one_of_both_has_is_named(node: Node) -> None:
    node.place.full(7, CATALOG, {0: b"n" * MIB}, "raw", {"nvram": b"variables"})
    done = node.restore()
    assert "the machine has none by now" in done.warnings[0]  # type: ignore[attr-defined]
    node.beside = {"VARS.fd": 64}
    node.place.full(7, CATALOG, {0: b"n" * MIB}, "raw")
    done = node.restore()
    assert "the backup holds none" in done.warnings[0]  # type: ignore[attr-defined]


def test_what_stands_against_it_is_named_before_anything_is_done(node: Node) -> None:
    made = node.place.full(7, CATALOG, {0: b"n" * MIB}, "raw", {"nvram": b"variables"})

    def refused(kind: type[NebulaError], text: str, vm: Vm = VM) -> None:
        before = {path.name: path.read_bytes() for path in node.directory.iterdir()}
        with pytest.raises(kind, match=text):
            node.restore(vm)
        assert {path.name: path.read_bytes() for path in node.directory.iterdir()} == before

    for state in ("RUNNING", "SUSPENDED", "UNKNOWN"):
        node.state = state
        refused(WrongState, f"it is {state}")
    node.state = "POWEROFF"
    (node.directory / "checkpoint").touch()
    refused(WrongState, "it is SUSPENDED")
    (node.directory / "checkpoint").unlink()
    write_record(str(node.directory), Record(CATALOG, 7, UUID, generation=3, coming="token"))
    refused(InUse, "it moves")
    write_record(str(node.directory), Record(CATALOG, 7, CATALOG, generation=3))
    refused(ForeignObject, "is not this machine's")
    write_record(str(node.directory), Record(CATALOG, 7, UUID, generation=3))
    refused(InUse, "being installed", replace(VM, attributes={"INSTALLS": "image"}))
    disk = VM.disks[0]
    snapshot = Snapshot(0, "before")
    refused(Conflict, "it has snapshots", replace(VM, disks=(replace(disk, snapshots=(snapshot,)),)))
    refused(Unsupported, "and of format raw", replace(VM, disks=(replace(disk, luks_secret=UUID),)))
    system = SystemSnapshot(0, "before", disks=(0,))
    refused(Conflict, r"system snapshots of the machine hold it \(before\)", replace(VM, system_snapshots=(system,)))
    encrypted = replace(disk, luks_secret=UUID, driver="qcow2")
    refused(InvalidValue, f"encrypted under secret {UUID}", replace(VM, disks=(encrypted,)))
    refused(Conflict, "the backup holds a disk", replace(VM, disks=(replace(disk, format="tar"),)))
    refused(Unsupported, "none of the machine's own", replace(VM, disks=(replace(disk, by_hypervisor=True),)))
    node.beside = {"VARS.fd": 64}
    (node.place.place(made) / made.files["nvram"].name).write_bytes(b"altereds")
    with pytest.raises(NebulaError):
        node.restore()
    (node.place.place(made) / made.files["nvram"].name).write_bytes(b"VARIABLES")
    refused(ChecksumMismatch, "nvram")
    node.driver = MemoryDriver()
    (node.directory / "disk.0").unlink()
    node.beside = {}
    refused(NotFound, "there is no file")


def test_a_plan_of_the_machine_finishes_what_was_killed(node: Node) -> None:
    assert not disk_restores.settle(VM, MARK, str(node.directory), node.driver)
    (node.directory / ".disk.0.restored").write_bytes(b"n" * MIB)
    path = str(node.directory / "disk.0").replace('"', "")
    (node.directory / disk_swap.JOURNAL).write_text(f'{{"stage": "forth", "paths": ["{path}"]}}')
    assert disk_restores.settle(VM, MARK, str(node.directory), node.driver)
    assert (node.directory / "disk.0").read_bytes() == b"n" * MIB
    assert {path.name for path in node.directory.iterdir()} == {"disk.0", "vm.json"}


def test_disks_change_places_under_no_machine_that_somebody_has_started(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.place.full(7, CATALOG, {0: b"n" * MIB}, "raw")
    made = disk_restores.restored_disks.make

    def started_meanwhile(*arguments: Any, **named: Any) -> None:
        made(*arguments, **named)
        node.state = "RUNNING"

    monkeypatch.setattr(disk_restores.restored_disks, "make", started_meanwhile)
    with pytest.raises(WrongState, match="it is RUNNING"):
        node.restore()
    assert (node.directory / "disk.0").read_bytes() == b"o" * MIB
    assert {path.name for path in node.directory.iterdir()} == {"disk.0", "vm.json"}
    # Nor where a run was killed in the middle of it.
    (node.directory / ".disk.0.restored").write_bytes(b"n" * MIB)
    journal = node.directory / disk_swap.JOURNAL
    journal.write_text(json.dumps({"stage": "forth", "paths": [str(node.directory / "disk.0")]}))
    with pytest.raises(WrongState, match="started since"):
        disk_restores.settle(VM, MARK, str(node.directory), node.driver)
    assert (node.directory / "disk.0").read_bytes() == b"o" * MIB
    # What is not whole goes, whether it runs or not.
    journal.write_text(json.dumps({"stage": "making", "paths": [str(node.directory / "disk.0")]}))
    assert disk_restores.settle(VM, MARK, str(node.directory), node.driver)
    assert {path.name for path in node.directory.iterdir()} == {"disk.0", "vm.json"}


def test_a_backup_of_a_machine_that_only_had_its_number(node: Node) -> None:
    node.place.full(7, CATALOG, {0: b"n" * MIB}, "raw", uuid=UUID)
    node.restore(check_mode=True)
    node.place.full(7, CATALOG, {0: b"n" * MIB}, "raw", uuid=CATALOG)
    with pytest.raises(Conflict, match=f"it is of machine {CATALOG}"):
        node.restore()
    assert (node.directory / "disk.0").read_bytes() == b"o" * MIB
