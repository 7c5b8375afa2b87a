# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The day on which backups are wanted: a guest that writes to a database on its ext4 is backed up meanwhile, as after a
power cut and frozen by its agent; from each backup the database comes back whole, and the guest goes on with it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from backing_up import back_up_all
from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import (
    disk_restores,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import (
    CRASH_CONSISTENT,
    FROZEN,
    FULL,
    INCREMENTAL,
    NODE,
    BackupRequest,
    MachineBackup,
    MachineToBackUp,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_restore import MachineToRestore
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.storage.backup_place import Place
from ansible_collections.nebula.provision.tests.integration.guests import agent as guests
from ansible_collections.nebula.provision.tests.integration.guests import database as databases
from ansible_collections.nebula.provision.tests.integration.kvm_node import Node, a_node, wait_for

# A guest notices more than this.
PROMISED = 10.0
DATA = 1
CONSISTENCIES = {"crash": CRASH_CONSISTENT, "agent": FROZEN}


@pytest.fixture
def database() -> str:
    """Return the path of an image whose guest writes to a database, which is built outside of a world."""
    return str(databases.image())


@dataclass
class Made:
    """A backup, and how many rows the guest had named when it began."""

    id: str
    rows: int


@contextmanager
def a_guest(image: str) -> Iterator[tuple[Node, Vm]]:
    with a_node() as node:
        node.take(image)
        vm = node.vm(1, memory=128, context=None)
        data = Disk(disk_id=DATA, target="vdb", type="FS", fs="ext4", driver="qcow2", size=64)
        vm = replace(vm, disks=(*vm.disks, data))
        assert node.one(vm).error is None
        wait_for(lambda: databases.rows(node.console(vm)) > 5, "the guest to write", 120)
        assert "agent" in node.console(vm)
        yield node, vm
        assert node.one(vm, "DONE", hard=True).error is None


def directory_of(node: Node) -> str:
    return f"{node.root}-backups"


def back_up(node: Node, vm: Vm, consistency: str, key: str, kind: str) -> Made:
    before = databases.rows(node.console(vm))
    machine = MachineToBackUp(vm, node.ledger[vm.vm_id].generation, "node", template={"CPU": 1})
    request = BackupRequest(
        node.catalog, directory_of(node), NODE, (machine,), full=kind == FULL, consistency=consistency, key=key
    )
    (outcome,) = back_up_all(request, node.driver, node.root)
    assert not outcome["error"], outcome["error"]
    assert (outcome["kind"], outcome["consistency"]) == (kind, CONSISTENCIES[consistency]), outcome
    # It goes on, and had not stood still.
    wait_for(lambda: databases.rows(node.console(vm)) > before + 10, "the guest to go on", 60)
    assert longest_pause(node, vm) < PROMISED
    return Made(outcome["id"], before)


def longest_pause(node: Node, vm: Vm) -> float:
    seen = [uptime for _number, uptime in guests.ticks(node.console(vm))]
    return max(after - before for before, after in zip(seen, seen[1:]))


def manifest_of(node: Node, vm: Vm, id: str, key: str) -> tuple[str, MachineBackup]:
    with Place.open(directory_of(node), node.catalog, for_writing=False).machine(vm.vm_id, node.catalog, key) as held:
        return held.directory, held.get(id)


def by_hand(node: Node, vm: Vm, made: Made, key: str) -> Path:
    """The data's disk, as the lines of the manifest make it."""
    target, key_file = Path(f"{node.root}-by-hand"), Path(f"{node.root}-key")
    key_file.write_text(key, encoding="ascii")
    place, backup = manifest_of(node, vm, made.id, key)
    surroundings = {**os.environ, "TO": str(target), "KEY_FILE": str(key_file)}
    done = subprocess.run(
        ["sh", "-e"], input="\n".join(backup.by_hand), cwd=place, env=surroundings, check=False, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return target / f"disk.{DATA}"


def restored(node: Node, vm: Vm, made: Made, key: str) -> Path:
    """The machine's own disk, as it is restored."""
    wanted = MachineToRestore(node.catalog, vm, node.number, directory_of(node), made.id, key=key)
    assert disk_restores.restore(wanted, node.driver, node.root).disks == (0, DATA)
    return node.directory(vm) / f"disk.{DATA}"


def checked(node: Node, path: Path, made: Made, consistency: str) -> int:
    """How many rows are on this disk, whose file system and database are whole."""
    raw, place = f"{node.root}/check.raw", Path(f"{node.root}-dumped")
    place.mkdir(exist_ok=True)
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(path), raw], check=True)
    features = subprocess.run(["dumpe2fs", "-h", raw], check=True, capture_output=True, text=True).stdout
    # As after a power cut, its journal has to be replayed; what was frozen is whole without.
    assert ("needs_recovery" in features) == (consistency == CRASH_CONSISTENT)
    if consistency == FROZEN:
        done = subprocess.run(["e2fsck", "-f", "-n", raw], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
    found = databases.rows_on(raw, place)
    os.unlink(raw)
    # What the guest was sure of when it began is there.
    assert found >= made.rows, (found, made)
    return found


@pytest.mark.parametrize("key", ["", "a key of the user's"])
@pytest.mark.timeout(900)
@in_world
def test_from_each_backup_the_database_comes_back_and_the_guest_goes_on(database: str, key: str) -> None:
    plan = [("crash", FULL), ("crash", INCREMENTAL), ("agent", INCREMENTAL), ("agent", FULL), ("agent", INCREMENTAL)]
    with a_guest(database) as (node, vm):
        chain = [(back_up(node, vm, consistency, key, kind), consistency) for consistency, kind in plan]
        assert node.one(vm, "POWEROFF", hard=True).error is None
        counts = []
        for made, word in chain:
            _place, backup = manifest_of(node, vm, made.id, key)
            assert (backup.consistency, backup.compressed) == (CONSISTENCIES[word], True)
            count = checked(node, restored(node, vm, made, key), made, backup.consistency)
            # In both ways it is the same moment.
            assert checked(node, by_hand(node, vm, made, key), made, backup.consistency) == count
            counts.append(count)
        assert counts == sorted(set(counts)), counts
        # From the oldest one of what was frozen, and from one that was not.
        for number in (2, 1):
            goes_on(node, vm, chain[number][0], counts[number], key)


def goes_on(node: Node, vm: Vm, made: Made, count: int, key: str) -> None:
    restored(node, vm, made, key)
    before = len(node.console(vm))
    assert node.one(vm).error is None
    wait_for(lambda: databases.rows(node.console(vm)[before:]) > count + 5, "the guest to go on", 120)
    # With the row behind the last one that the backup has.
    said = node.console(vm)[before:]
    assert f"row {count + 1}\r\n" in said or f"row {count + 1}\n" in said
    assert f"row {count}\r" not in said
    machine = MachineToBackUp(vm, node.ledger[vm.vm_id].generation, "node")
    request = BackupRequest(node.catalog, directory_of(node), NODE, (machine,), key=key)
    (outcome,) = back_up_all(request, node.driver, node.root)
    assert (outcome["error"], outcome["kind"], outcome["reason"]) == ("", FULL, "it was restored")
    assert node.one(vm, "POWEROFF", hard=True).error is None
