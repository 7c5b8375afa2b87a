# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots of a running machine with its memory: what libvirt is asked for, and what is looked at before. libvirt and
QEMU's part are stand-ins by the references of their APIs; the real ones are in tests/integration."""

from __future__ import annotations

from typing import Any

import pytest
from libvirt_stand_in import LibvirtError, install, libvirt

from ansible_collections.nebula.provision.plugins.module_utils.errors import HypervisorError, InUse, NotFound
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import (
    backup_checkpoints,
    running_snapshots,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.running_snapshots import (
    RunningSnapshots,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk

DISKS = (Disk(0, "vda"), Disk(1, "vdb"))


class Snapshot:
    def __init__(self, machine: Machine, tag: str) -> None:
        self.machine, self.tag = machine, tag

    def delete(self, flags: int) -> None:
        self.machine.told.append(f"forget {self.tag} {flags}")
        self.machine.known.remove(self.tag)


class Machine:
    """known: the names that libvirt has. tags: those in each disk."""

    def __init__(self, *known: str, tags: tuple[str, ...] = (), backup: int = 104) -> None:
        self.known, self.backup = list(known), backup
        self.tags = {disk.target: list(tags) for disk in DISKS}
        self.told: list[str] = []
        self.refuses: LibvirtError | None = None

    def isActive(self) -> bool:
        return True

    def backupGetXMLDesc(self, _flags: int) -> str:
        if self.backup:
            raise LibvirtError("no backup", self.backup)
        return "<domainbackup/>"

    def snapshotLookupByName(self, tag: str, _flags: int) -> Snapshot:
        if tag not in self.known:
            raise LibvirtError("no such snapshot", 72)
        return Snapshot(self, tag)

    def snapshotCreateXML(self, text: str, flags: int) -> None:
        self.told.append(f"create {text} {flags}")
        if self.refuses is not None:
            raise self.refuses

    def revertToSnapshot(self, snapshot: Snapshot, flags: int) -> None:
        self.told.append(f"revert {snapshot.tag} {flags}")


class Disks:
    def __init__(self, _libvirt: Any, _uri: str, domain: Machine, _asked: str) -> None:
        self.domain = domain

    def has_snapshot(self, disk: Disk, tag: str) -> bool:
        return tag in self.domain.tags[disk.target]

    def delete_snapshot(self, disk: Disk, tag: str) -> bool:
        if not self.has_snapshot(disk, tag):
            return False
        self.domain.told.append(f"delete {tag} of {disk.target}")
        self.domain.tags[disk.target].remove(tag)
        return True


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> Any:
    found = libvirt()
    found.VIR_ERR_NO_DOMAIN_SNAPSHOT = 72
    found.VIR_DOMAIN_SNAPSHOT_REVERT_RUNNING = 1
    found.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY = 2
    install(monkeypatch, found)
    monkeypatch.setattr(running_snapshots, "RunningDisks", Disks)
    checkpoints = backup_checkpoints
    monkeypatch.setattr(checkpoints, "forget_all", lambda _lv, domain, _asked: domain.told.append("drop checkpoints"))
    monkeypatch.setattr(checkpoints, "refuse_foreign", lambda _lv, domain: domain.told.append("look for foreign"))
    return found


def on(library: Any, machine: Machine) -> RunningSnapshots:
    return RunningSnapshots(library, "qemu:///system", machine, "snapshot of virtual machine 1")


def test_one_is_made_once(library: Any) -> None:
    machine = Machine()
    on(library, machine).create(DISKS, "t")
    assert machine.told == ["create <domainsnapshot><name>t</name></domainsnapshot> 0"]
    machine = Machine("t", tags=("t",))
    on(library, machine).create(DISKS, "t")
    assert machine.told == []


def test_what_was_not_finished_is_made_anew(library: Any) -> None:
    machine = Machine(tags=("t",))
    machine.tags["vdb"] = []
    on(library, machine).create(DISKS, "t")
    assert [each.split()[0] for each in machine.told] == ["delete", "create"]
    machine = Machine("t")
    on(library, machine).create(DISKS, "t")
    assert [each.split()[0] for each in machine.told] == ["forget", "create"]


def test_checkpoints_are_dropped_before_a_machine_goes_back(library: Any) -> None:
    machine = Machine("t", tags=("t",))
    on(library, machine).revert("t")
    assert machine.told == ["look for foreign", "drop checkpoints", "revert t 1"]


def test_a_machine_goes_back_to_no_other_than_libvirt_knows(library: Any) -> None:
    machine = Machine(tags=("t",))
    with pytest.raises(NotFound, match="does not know it"):
        on(library, machine).revert("t")
    assert machine.told == []


def test_one_is_deleted_from_all_disks_and_forgotten(library: Any) -> None:
    machine = Machine("t", tags=("t", "u"))
    on(library, machine).delete(DISKS, "t")
    assert machine.told == ["delete t of vda", "delete t of vdb", "forget t 2"]
    on(library, machine).delete(DISKS, "t")
    assert len(machine.told) == 3


def test_nothing_is_done_while_a_backup_is_made(library: Any) -> None:
    machine = Machine("t", tags=("t",), backup=0)
    snapshots = on(library, machine)
    for act in (
        snapshots.check,
        lambda: snapshots.create(DISKS, "u"),
        lambda: snapshots.revert("t"),
        lambda: snapshots.delete(DISKS, "t"),
    ):
        with pytest.raises(InUse, match="being backed up"):
            act()
    assert machine.told == []


def test_what_libvirt_refuses_is_told_in_its_words(library: Any) -> None:
    machine = Machine()
    machine.refuses = LibvirtError("internal snapshots are not\n supported")
    with pytest.raises(HypervisorError, match="internal snapshots are not supported"):
        on(library, machine).create(DISKS, "t")
    with pytest.raises(HypervisorError, match="no backup"):
        on(library, Machine(backup=1)).check()
    # A machine that is off has none.
    on(library, Machine(backup=55)).check()
