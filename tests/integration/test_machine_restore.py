# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks of machines restored in their places from backups that were made by hand, on a node of KVM: byte for byte, and
killed at each step."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from in_world import in_world
from made_backups import MadeBackups, altered, content_of, random_content

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    CatalogError,
    ChecksumMismatch,
    Conflict,
    ImageRefused,
    InvalidValue,
    NebulaError,
    NotFound,
    StalePlan,
    WrongState,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import disk_restores
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.machine_record import read_record
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import MachineBackup
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_restore import MachineToRestore
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.tests.integration.kvm_node import Node, a_node

MIB = 1 << 20


def backups(key: str = "") -> MadeBackups:
    return MadeBackups(Path(os.environ["NEBULA_WORLD"], f"backups-{uuid.uuid4().hex[:8]}"), key)


def machine(node: Node, vm_id: int = 7) -> Vm:
    """With an overlay, a raw disk and a qcow2 of its own."""
    vm = node.vm(vm_id)
    more = (
        Disk(disk_id=2, target="vdb", type="FS", driver="raw", size=2),
        Disk(disk_id=3, target="vdc", type="FS", driver="qcow2", size=3),
    )
    vm = replace(vm, disks=(replace(vm.disks[0], size=4), *more))
    outcome = node.one(vm, wanted="POWEROFF")
    assert outcome.error is None, outcome.error
    return vm


def request(
    node: Node, vm: Vm, place: MadeBackups, backup: MachineBackup | None = None, **more: Any
) -> MachineToRestore:
    wanted = backup.id if backup else "latest"
    made = MachineToRestore(node.catalog, vm, node.number, str(place.directory), wanted)
    return replace(made, **more)


def boot_sector(node: Node, vm: Vm) -> bytes:
    return content_of(node.directory(vm) / "disk.0")[:65536]


def contents(node: Node, vm: Vm) -> dict[int, bytes]:
    return {
        disk.disk_id: content_of(
            node.directory(vm) / f"disk.{disk.disk_id}", disk.driver if disk.type == "FS" else "qcow2"
        )
        for disk in vm.disks
    }


def made_content(node: Node, vm: Vm, seed: str) -> dict[int, bytes]:
    """What it boots from, and data behind it."""
    return {
        0: boot_sector(node, vm) + random_content(4 * MIB, seed)[65536:],
        2: random_content(2 * MIB, f"{seed} 2"),
        3: random_content(3 * MIB, f"{seed} 3"),
    }


def only_disks(node: Node, vm: Vm) -> set[str]:
    return {name for name in os.listdir(node.directory(vm)) if "disk" in name or "restore" in name}


DISKS = {"disk.0", "disk.2", "disk.3", "disk.1"}


@in_world
def test_disks_are_what_they_were() -> None:
    with a_node() as node:
        vm, place = machine(node), backups()
        first = made_content(node, vm, "first")
        backup = place.full(7, node.catalog, first)
        # Zeroes where the image below has something, and where the backup before has.
        changes = [(65536, bytes(65536)), (2 * MIB, b"x" * 131072)]
        second = place.incremental(backup, {0: changes, 3: [(0, b"y" * 65536)]})
        before = contents(node, vm)
        foreseen = disk_restores.restore(request(node, vm, place), node.driver, node.root, check_mode=True)
        assert contents(node, vm) == before
        done = disk_restores.restore(request(node, vm, place), node.driver, node.root)
        assert foreseen == done
        assert done.disks == (0, 2, 3)
        assert done.backup == second.id
        wanted = {number: bytearray(content) for number, content in first.items()}
        for offset, data in changes:
            wanted[0][offset : offset + len(data)] = data
        wanted[3][:65536] = b"y" * 65536
        assert contents(node, vm) == {number: bytes(content) for number, content in wanted.items()}
        assert only_disks(node, vm) <= DISKS
        record = read_record(str(node.directory(vm)))
        assert record is not None
        assert record.unchained == "it was restored"
        node.assert_consistent()
        assert node.one(vm).state == "RUNNING"
        node.wait_for_boots(vm, 1)
        with pytest.raises(WrongState, match="it is RUNNING"):
            disk_restores.restore(request(node, vm, place), node.driver, node.root)
        assert node.one(vm, wanted="POWEROFF", hard=True).state == "POWEROFF"
        done = disk_restores.restore(request(node, vm, place, backup), node.driver, node.root)
        assert contents(node, vm) == first
        again = disk_restores.restore(request(node, vm, place, backup, disks=(2,)), node.driver, node.root)
        assert again.disks == (2,)
        assert contents(node, vm) == first


@in_world
def test_one_disk_alone() -> None:
    with a_node() as node:
        vm, place = machine(node), backups()
        place.full(7, node.catalog, made_content(node, vm, "old"))
        before = contents(node, vm)
        disk_restores.restore(request(node, vm, place, disks=(3,)), node.driver, node.root)
        assert contents(node, vm) == {**before, 3: made_content(node, vm, "old")[3]}


@in_world
def test_what_is_encrypted_needs_its_key() -> None:
    with a_node() as node:
        vm, place = machine(node), backups("a key")
        first = made_content(node, vm, "secret")
        backup = place.full(7, node.catalog, first)
        place.incremental(backup, {2: [(0, b"z" * 65536)]})
        before = contents(node, vm)
        with pytest.raises(InvalidValue, match="it is encrypted"):
            disk_restores.restore(request(node, vm, place), node.driver, node.root)
        with pytest.raises(ImageRefused, match="the key is another one"):
            disk_restores.restore(request(node, vm, place, key="another"), node.driver, node.root)
        assert contents(node, vm) == before
        disk_restores.restore(request(node, vm, place, key="a key"), node.driver, node.root)
        assert contents(node, vm) == {**first, 2: b"z" * 65536 + first[2][65536:]}


@in_world
def test_what_does_not_fit_is_refused_before_anything_is_touched() -> None:
    with a_node() as node:
        vm, place = machine(node), backups()
        whole = made_content(node, vm, "whole")
        backup = place.full(7, node.catalog, whole)
        second = place.incremental(backup, {0: [(0, b"1" * 65536)]})
        before = contents(node, vm)
        files = place.place(backup)

        def refused(kind: type[NebulaError], text: str, **more: Any) -> None:
            with pytest.raises(kind, match=text):
                disk_restores.restore(request(node, vm, place, **more), node.driver, node.root)
            assert contents(node, vm) == before
            assert only_disks(node, vm) <= DISKS

        # A file that is another by now, although as large, in the backup or below it.
        for path in (files / backup.disks[1].file.name, files / second.disks[0].file.name):
            with altered(path):
                refused(ChecksumMismatch, "SHA-256")
        # A part that is missing.
        (files / backup.disks[0].file.name).rename(files / "elsewhere")
        refused(CatalogError, "it is not there")
        (files / "elsewhere").rename(files / backup.disks[0].file.name)
        (files / f"{backup.id}.json").rename(files / "elsewhere")
        refused(CatalogError, "which is missing or can't be read")
        (files / "elsewhere").rename(files / f"{backup.id}.json")
        # Links in the place of a file.
        link = files / second.disks[0].file.name
        link.rename(files / "elsewhere")
        link.symlink_to(files / "elsewhere")
        refused(CatalogError, "no regular file")
        link.unlink()
        (files / "elsewhere").rename(link)
        # Other disks, fewer, more, larger.
        refused(NotFound, "disk 9.*none of that number", disks=(9,))
        del whole[3]
        place.full(7, node.catalog, whole)
        refused(Conflict, "disk 3 of the machine, which the backup does not hold")
        place.full(7, node.catalog, {**whole, 3: bytes(65536), 5: bytes(65536)})
        refused(Conflict, "disk 5 of the backup, which the machine does not have.*|nebula_machine_restore_disks")
        place.full(7, node.catalog, {0: random_content(5 * MIB, "large"), 2: bytes(2 * MIB), 3: bytes(3 * MIB)})
        refused(Conflict, "it has 4 MiB, and had 5 when the backup was made")
        # A decision of the catalog that is newer or older than what the host has done.
        refused(StalePlan, "has acted on a newer decision", generation=node.number - 1)
        refused(StalePlan, "not done yet", generation=node.number + 1)


@in_world
def test_a_smaller_disk_is_made_as_large_as_it_is_by_now() -> None:
    with a_node() as node:
        vm, place = machine(node), backups()
        small = {0: boot_sector(node, vm) + bytes(MIB - 65536), 2: b"r" * MIB, 3: b"q" * MIB}
        place.full(7, node.catalog, small)
        done = disk_restores.restore(request(node, vm, place), node.driver, node.root)
        assert len(done.warnings) == 3
        sizes = {0: 4 * MIB, 2: 2 * MIB, 3: 3 * MIB}
        assert contents(node, vm) == {number: content.ljust(sizes[number], b"\0") for number, content in small.items()}


# The runs that are killed are processes of their own.
RUN = """
import json, os, sys
sys.path[:0] = json.loads(sys.argv[1])
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import disk_restores
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.kvm import KvmDriver
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import from_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_restore import MachineToRestore
driver = KvmDriver()
disk_restores.restore(from_plain(MachineToRestore, json.loads(sys.argv[2])), driver, sys.argv[3])
"""


def killed(node: Node, wanted: MachineToRestore, environment: dict[str, str]) -> int:
    import sys

    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(sys.path), json.dumps(to_plain(wanted)), node.root],
        env={**os.environ, **environment},
        check=False,
        capture_output=True,
        text=True,
        start_new_session=True,
    )
    assert done.returncode in (0, -signal.SIGKILL, 137), done.stderr
    return done.returncode


@in_world
def test_killed_at_each_step_it_has_all_old_disks_or_all_new_ones() -> None:
    from faults import IS_KILLED, Faults

    with a_node() as node:
        vm, place = machine(node), backups()
        old, new = made_content(node, vm, "old"), made_content(node, vm, "new")
        first = place.full(7, node.catalog, old)
        second = place.full(7, node.catalog, new)
        disk_restores.restore(request(node, vm, place, first), node.driver, node.root)
        faults = Faults(node.directory(vm), os.environ["NEBULA_WORLD"])
        assert killed(node, request(node, vm, place, second), faults.environment()) == 0
        steps = len(faults.calls)
        assert contents(node, vm) == new
        assert steps > 10
        seen = set()
        # Where qemu-img writes, one moment is as good as another.
        chosen = [n for n in range(1, steps + 1) if not faults.calls[n - 1].startswith(("pwrite", "pwritev"))]
        for step in chosen:
            disk_restores.restore(request(node, vm, place, first), node.driver, node.root)
            killed(node, request(node, vm, place, second), faults.environment(step, IS_KILLED))
            # The next plan of the machine finishes it.
            assert node.one(vm, wanted="POWEROFF").error is None
            found = contents(node, vm)
            assert found in (old, new), step
            seen.add(found == new)
            assert only_disks(node, vm) <= DISKS
        assert seen == {True, False}
        disk_restores.restore(request(node, vm, place, second), node.driver, node.root)
        assert node.one(vm).state == "RUNNING"
