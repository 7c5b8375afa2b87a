# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roots of containers on a real libvirtd in files of backups: of one that runs and stands still meanwhile, of one that
is off; put in place again; and what becomes of a container whose run is killed while it stands still."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from backing_up import back_up_all
from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.errors import InUse, InvalidValue, WrongState
from ansible_collections.nebula.provision.plugins.module_utils.host import processes
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors import standing_still, still_disks
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import BackUp, Mark
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import (
    disk_restores,
    root_transfers,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.lxc.driver import LxcDriver
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.still_disks import Disks
from ansible_collections.nebula.provision.plugins.module_utils.model.container_user_ids import id_range
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import (
    NODE,
    BackupRequest,
    MachineBackup,
    MachineToBackUp,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_restore import MachineToRestore
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.storage import (
    disk_swap,
    machine_disks,
    root_backups,
    roots,
)
from ansible_collections.nebula.provision.plugins.module_utils.storage.backup_place import Place
from ansible_collections.nebula.provision.plugins.module_utils.storage.root_backups import StoredRoot
from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.lxc_node import LxcNode, a_container_node
from ansible_collections.nebula.provision.tests.integration.test_lxc_disks import Inside

# Two files that have the same number, but for a moment, each time the container has counted on.
COUNTS = "i=0; while :; do i=$((i+1)); echo $i > /etc/first; echo $i > /etc/second; done"
WHAT = "virtual machine web: disk 0"


def mark_of(node: LxcNode, vm: Vm) -> Mark:
    return Mark(node.catalog, vm.vm_id, vm.uuid)


def counting(node: LxcNode, vm: Vm) -> Path:
    """A container that runs and writes all the time. Return its root."""
    assert node.one(vm, "POWEROFF").error is None
    root = node.directory(vm) / "disk.0"
    with (root / "etc/inittab").open("a", encoding="utf-8") as file:
        file.write(f"::respawn:/bin/sh -c '{COUNTS}'\n")
    # Enough that it takes a while to read, and that a copy while it runs would be of many moments.
    (root / "etc/large").write_bytes(os.urandom(32 << 20))
    for name in ("inittab", "large"):
        os.chown(root / "etc" / name, id_range(vm.vm_id).start, id_range(vm.vm_id).start)
    assert node.one(vm).error is None
    wait_for(lambda: (root / "etc/second").exists() and (root / "etc/second").read_text(), "the first number")
    return root


def numbers(texts: dict[str, str]) -> tuple[int, int]:
    """What is in both files; one that was being written is empty, and has the next number."""
    first, second = (texts[name].strip() for name in ("first", "second"))
    return int(first or int(second or 0) + 1), int(second or int(first or 1) - 1)


def is_one_moment(texts: dict[str, str]) -> bool:
    first, second = numbers(texts)
    return first - second in (0, 1)


@contextmanager
def held(node: LxcNode, vm: Vm) -> Iterator[None]:
    pausing = node.driver.pausing(mark_of(node, vm))
    with standing_still.held(pausing, str(node.directory(vm)), "a backup"):
        yield


def state(node: LxcNode, vm: Vm) -> str:
    return node.driver.state(mark_of(node, vm))


def store(node: LxcNode, vm: Vm, place: Path, number: int, source: str = "", key: str = "") -> StoredRoot:
    root = root_transfers.of_machine(vm, str(node.directory(vm)), node.driver)[0]
    name = root_backups.file_name(f"{number}.root.0", True, key)
    found = root_transfers.readable(root, vm, mark_of(node, vm), node.driver, source or root.path, WHAT)
    return root_backups.store_root(str(place), name, found.pack, found.size, WHAT, key=key)


def restore(node: LxcNode, vm: Vm, place: Path, stored: StoredRoot, key: str = "") -> None:
    root = root_transfers.of_machine(vm, str(node.directory(vm)), node.driver)[0]
    assert root_transfers.restore(root, vm, node.driver, str(place), stored.file, WHAT, key) == []
    roots.put_in_place(root.path)
    roots.remove_replaced(root.path)


@in_world
def test_of_one_that_runs_and_put_in_place_again() -> None:
    with a_container_node() as node:
        vm, place = node.vm(60), Path(node.root, "place")
        place.mkdir(0o700)
        root = counting(node, vm)
        files = machine_disks.own_roots(vm, str(node.directory(vm)))
        disks = [(disk, files[disk.disk_id]) for disk in vm.disks]
        order = BackUp("", "", "", "", str(node.directory(vm)), "")
        with pytest.raises(WrongState, match="nebula_machine_backup_stand_still: true"):
            node.driver.back_up(mark_of(node, vm), disks, order).__enter__()
        with node.driver.back_up(mark_of(node, vm), disks, replace(order, stand_still=True)) as backup:
            # This root shows its image, of which no copy can be made in a moment.
            assert (backup.way, state(node, vm)) == (still_disks.AS_LONG, "SUSPENDED")
            assert (backup.roots, backup.sources, backup.consistency) == ({0: str(root)}, {}, "stood still")
            stored = store(node, vm, place, 1, backup.roots[0])
            held_texts = {name: (root / "etc" / name).read_text() for name in ("first", "second")}
        assert state(node, vm) == "RUNNING" and not standing_still.is_left(str(node.directory(vm)))
        assert is_one_moment(held_texts)
        before = numbers(held_texts)[0]
        wait_for(lambda: int((root / "etc/first").read_text().strip() or 0) > before, "the next number")
        packed = place / stored.file.name
        unpacked = subprocess.run(["zstd", "-dcq", str(packed)], check=True, capture_output=True).stdout
        (place / "plain.tar").write_bytes(unpacked)
        with tarfile.open(place / "plain.tar") as tar:
            members = {member.name: member for member in tar.getmembers()}
            assert (members["etc/first"].uid, members["bin/busybox"].uid, members["etc/large"].size) == (0, 0, 32 << 20)
            names = {name: tar.extractfile(members[f"etc/{name}"]) for name in ("first", "second")}
            texts = {name: file.read().decode() for name, file in names.items() if file is not None}
        assert texts == held_texts

        # Off, and encrypted.
        assert node.one(vm, "POWEROFF", hard=True).error is None
        off = store(node, vm, place, 2, key="a key")
        last = numbers({name: (root / "etc" / name).read_text() for name in ("first", "second")})
        restore(node, vm, place, stored)
        assert {name: (root / "etc" / name).read_text() for name in texts} == texts
        assert (root / "etc/first").stat().st_uid == id_range(vm.vm_id).start
        restore(node, vm, place, off, "a key")
        assert numbers({name: (root / "etc" / name).read_text() for name in texts}) == last
        assert sorted(name for name in os.listdir(node.directory(vm)) if name.startswith("disk.0")) == ["disk.0"]
        (root / "etc/first").unlink()
        assert node.one(vm).error is None
        wait_for((root / "etc/first").exists, "it counts again")
        assert node.one(vm, "DONE", hard=True).error is None


def held_by_a_process(node: LxcNode, vm: Vm) -> tuple[int, int]:
    """Have the container stand still by another process. Return its number, and that of its watchdog."""
    child = os.fork()
    if child == 0:
        try:
            # A connection does not outlive a fork.
            pausing = LxcDriver().pausing(mark_of(node, vm))
            assert pausing is not None
            with standing_still.held(pausing, str(node.directory(vm)), "a backup"):
                time.sleep(600)
        finally:
            os._exit(1)
    wait_for(lambda: state(node, vm) == "SUSPENDED", "it stands still")
    path = str(node.directory(vm) / standing_still.MARK).encode()
    watchdogs = [pid for pid, words in processes.of_root(lambda words: path in words)]
    assert len(watchdogs) == 1
    return child, watchdogs[0]


@in_world
def test_killed_while_it_stands_still() -> None:
    with a_container_node() as node:
        vm = node.vm(61)
        directory = str(node.directory(vm))
        assert node.one(vm).error is None
        # The run alone.
        child, watchdog = held_by_a_process(node, vm)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        began = time.monotonic()
        wait_for(lambda: state(node, vm) == "RUNNING", "it goes on")
        print(f"went on after {time.monotonic() - began:.2f} s", file=sys.stderr)
        wait_for(lambda: not standing_still.is_left(directory), "the watchdog is through")
        wait_for(lambda: not Path(f"/proc/{watchdog}").exists(), "the watchdog has ended")

        # With its watchdog, as by a kill of all that is ours: the next run of whatever kind has it go on.
        child, watchdog = held_by_a_process(node, vm)
        os.kill(watchdog, signal.SIGKILL)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        time.sleep(1)
        assert state(node, vm) == "SUSPENDED" and standing_still.is_left(directory)
        outcome = node.carry_out(node.plan(vm))[0]
        assert (outcome.state, outcome.error) == ("RUNNING", None)
        assert state(node, vm) == "RUNNING" and not standing_still.is_left(directory)

        # A mark that stayed, of another run of the machine: who has paused it since lets it go on.
        child, watchdog = held_by_a_process(node, vm)
        os.kill(watchdog, signal.SIGKILL)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        node.domain(vm).resume()
        node.domain(vm).destroy()
        kept = (node.directory(vm) / standing_still.MARK).read_bytes()
        (node.directory(vm) / standing_still.MARK).unlink()
        assert node.one(vm).error is None
        (node.directory(vm) / standing_still.MARK).write_bytes(kept)
        node.domain(vm).suspend()
        node.driver.settle_standing_still(mark_of(node, vm), directory)
        assert state(node, vm) == "SUSPENDED" and not standing_still.is_left(directory)
        with held(node, vm):
            assert not standing_still.is_left(directory)
        assert state(node, vm) == "SUSPENDED"
        with pytest.raises(InUse, match="somebody else has let the machine go on"), held(node, vm):
            node.domain(vm).resume()
        with pytest.raises(InUse, match="somebody else has let the machine go on"), held(node, vm):
            node.domain(vm).resume()
        assert state(node, vm) == "RUNNING" and not standing_still.is_left(directory)
        assert node.one(vm, "DONE", hard=True).error is None


@contextmanager
def on_btrfs(size: int = 512 << 20) -> Iterator[Path]:
    """A file system whose files can share their content."""
    world = Path(os.environ["NEBULA_WORLD"])
    image, place = world / "btrfs.img", world / "btrfs"
    with image.open("wb") as file:
        file.truncate(size)
    place.mkdir(0o711)
    subprocess.run(["mkfs.btrfs", "-q", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@in_world
def test_it_stands_still_for_a_moment_where_files_share_their_content() -> None:
    with on_btrfs() as place, mock.patch.dict(os.environ, NEBULA_WORLD=str(place)), a_container_node() as node:
        vm, backups = node.vm(62), Path(node.root, "place")
        backups.mkdir(0o700)
        root = counting(node, vm)
        # What was restored has all of its files.
        assert node.one(vm, "POWEROFF", hard=True).error is None
        restore(node, vm, backups, store(node, vm, backups, 1))
        assert node.one(vm).error is None
        pausing = node.driver.pausing(mark_of(node, vm))
        disks = Disks(roots={0: str(root)}, ids=id_range(vm.vm_id))
        with still_disks.reading(pausing, str(node.directory(vm)), disks, "a backup") as still:
            assert (still.copied, state(node, vm)) == (True, "RUNNING")
            copy = Path(still.roots[0])
            texts = {name: (copy / "etc" / name).read_text() for name in ("first", "second")}
            assert is_one_moment(texts)
            stored = store(node, vm, backups, 2, still.roots[0])
            assert {name: (copy / "etc" / name).read_text() for name in texts} == texts
        assert not (node.directory(vm) / standing_still.COPIES).exists()
        assert node.one(vm, "POWEROFF", hard=True).error is None
        restore(node, vm, backups, stored)
        assert {name: (root / "etc" / name).read_text() for name in texts} == texts
        assert node.one(vm, "DONE", hard=True).error is None


def backed_up(node: LxcNode, vm: Vm, **more: Any) -> dict[str, Any]:
    machines = (MachineToBackUp(vm, node.ledger[vm.vm_id].generation, "node", template={"CPU": 1}),)
    request = BackupRequest(node.catalog, f"{node.root}-place", NODE, machines, **more)
    return back_up_all(request, node.driver, node.root)[0]


def backups_of(node: LxcNode, vm: Vm, key: str = "") -> list[MachineBackup]:
    place = Place.open(f"{node.root}-place", node.catalog, for_writing=False)
    with place.machine(vm.vm_id, node.catalog, key) as directory:
        found = directory.backups()
        assert directory.unreadable == []
        return list(found)


@in_world
def test_runs_of_backups_of_a_root_and_a_disk() -> None:
    with a_container_node() as node:
        vm = node.vm(63)
        srv = Disk(2, "/srv", type="FS", driver="raw", size=16, fs="ext4")
        vm = replace(vm, disks=(vm.disks[0], srv))
        root = counting(node, vm)
        os.mkdir(f"{node.root}-place", 0o700)
        Inside(node, vm)("echo in the page cache > /srv/file")

        # Not without leave, and then the container is as it was.
        outcome = backed_up(node, vm)
        assert "nebula_machine_backup_stand_still: true" in outcome["error"] and state(node, vm) == "RUNNING"
        outcome = backed_up(node, vm, stand_still=True)
        assert (outcome["error"], outcome["kind"], outcome["consistency"]) == ("", "full", "stood still")
        assert state(node, vm) == "RUNNING" and not standing_still.is_left(str(node.directory(vm)))
        (manifest,) = backups_of(node, vm)
        assert manifest.way == still_disks.AS_LONG
        assert [(disk.disk_id, disk.target, disk.stored) for disk in manifest.disks] == [
            (0, "", "tar"),
            (2, "/srv", "qcow2"),
        ]
        files = Path(f"{node.root}-place", f"{vm.vm_id}-{node.catalog}")
        raw = Path(node.root, "raw")
        stored = files / manifest.disks[1].file.name
        subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(stored), str(raw)], check=True)
        subprocess.run(["e2fsck", "-fp", str(raw)], check=False, capture_output=True)
        shown = subprocess.run(["debugfs", "-R", "cat /file", str(raw)], check=True, capture_output=True, text=True)
        assert shown.stdout == "in the page cache\n"

        # Again, encrypted, while it is off.
        assert node.one(vm, "POWEROFF", hard=True).error is None
        last = (root / "etc/second").read_text()
        outcome = backed_up(node, vm, key="a key")
        assert (outcome["error"], outcome["kind"], outcome["consistency"]) == ("", "full", "off")
        newest = backups_of(node, vm, "a key")[-1]
        assert newest.disks[0].file.name.endswith(".root.0.tar.zst.luks") and newest.encrypted
        own = root_transfers.of_machine(vm, str(node.directory(vm)), node.driver)[0]
        (root / "etc/second").write_text("other\n", encoding="utf-8")
        for key, error in (("another", InvalidValue), ("", InvalidValue)):
            with pytest.raises(error):
                root_transfers.restore(own, vm, node.driver, str(files), newest.disks[0].file, WHAT, key)
        root_transfers.restore(own, vm, node.driver, str(files), newest.disks[0].file, WHAT, "a key")
        roots.put_in_place(own.path)
        roots.put_back(own.path)
        roots.mount_again(own.path)
        assert (root / "etc/second").read_text() == "other\n"
        root_transfers.restore(own, vm, node.driver, str(files), newest.disks[0].file, WHAT, "a key")
        roots.put_in_place(own.path)
        roots.remove_replaced(own.path)
        assert (root / "etc/second").read_text() == last
        assert node.one(vm).error is None
        assert node.one(vm, "DONE", hard=True).error is None


@in_world
def test_restored_in_its_place() -> None:
    with a_container_node() as node:
        vm = node.vm(64)
        assert node.one(vm, "POWEROFF").error is None
        root = node.directory(vm) / "disk.0"
        os.mkdir(f"{node.root}-place", 0o700)
        (root / "etc/mine").write_text("then\n", encoding="utf-8")
        os.chown(root / "etc/mine", id_range(vm.vm_id).start + 5, id_range(vm.vm_id).start + 6)
        outcome = backed_up(node, vm)
        assert (outcome["error"], outcome["kind"]) == ("", "full")
        (root / "etc/mine").write_text("now\n", encoding="utf-8")
        (root / "etc/later").touch()
        made = backups_of(node, vm)[-1]
        generation = node.ledger[vm.vm_id].generation
        request = MachineToRestore(node.catalog, vm, generation, f"{node.root}-place", made.id)
        foreseen = disk_restores.restore(request, node.driver, node.root, check_mode=True)
        assert (root / "etc/mine").read_text(encoding="utf-8") == "now\n"
        assert disk_restores.restore(request, node.driver, node.root) == foreseen
        found = (root / "etc/mine").stat()
        assert (root / "etc/mine").read_text(encoding="utf-8") == "then\n" and not (root / "etc/later").exists()
        assert (found.st_uid, found.st_gid) == (id_range(vm.vm_id).start + 5, id_range(vm.vm_id).start + 6)
        assert [name for name in os.listdir(node.directory(vm)) if "restore" in name or "replaced" in name] == []
        # Killed once the new root was whole, and in the middle of its way: the next plan finishes it.
        for moved in (False, True):
            (root / "etc/mine").write_text("now\n", encoding="utf-8")
            request = replace(request, generation=node.ledger[vm.vm_id].generation)
            with (
                mock.patch.object(disk_swap, "_forth", side_effect=KeyboardInterrupt),
                pytest.raises(KeyboardInterrupt),
            ):
                disk_restores.restore(request, node.driver, node.root)
            if moved:
                roots.put_in_place(str(root))
            assert node.one(vm, "POWEROFF").error is None
            assert (root / "etc/mine").read_text(encoding="utf-8") == "then\n", moved
            assert [name for name in os.listdir(node.directory(vm)) if "restore" in name or "replaced" in name] == []
        assert node.one(vm).error is None
        assert node.one(vm, "DONE", hard=True).error is None
