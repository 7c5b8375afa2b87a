# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong around backups: the directory that goes or is full, a machine that is taken away, the power of the
host. What is listed afterwards can be restored, and the next run does what is left."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from backing_up import back_up_all
from faults import Faults
from in_world import in_world
from made_backups import MadeBackups, content_of, random_content

from ansible_collections.nebula.provision.plugins.module_utils.errors import NebulaError, NoSpace
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import (
    disk_restores,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk as VmDisk
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_restore import MachineToRestore
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.storage import backup_files, disk_exports
from ansible_collections.nebula.provision.plugins.module_utils.storage.backup_place import Place
from ansible_collections.nebula.provision.tests.integration.kvm_node import Node, a_node, wait_for
from ansible_collections.nebula.provision.tests.integration.test_machine_backups import (
    a_machine,
    another,
    assert_nothing_left,
    back_up,
    directory_of,
    manifests,
    request,
    write,
)
from ansible_collections.nebula.provision.tests.integration.test_power_cut import Disk

MIB = 1 << 20
RUN = """
import json, os, sys
sys.path[:0] = json.loads(sys.argv[1])
sys.path.append("/usr/lib/python3/dist-packages")
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import disk_restores
from backing_up import back_up_all
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.kvm import KvmDriver
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import from_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import BackupRequest
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_restore import MachineToRestore
from ansible_collections.nebula.provision.plugins.module_utils.storage.backup_place import Place
scene, root, asked = sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
if scene == "store":
    print(back_up_all(from_plain(BackupRequest, asked), KvmDriver(), root)[0]["error"], end="")
elif scene == "restore":
    disk_restores.restore(from_plain(MachineToRestore, asked), KvmDriver(), root)
else:
    with Place.open(asked["directory"], asked["catalog"], for_writing=True).machine(asked["vm_id"]) as held:
        held.prune({"last": 1})
"""


# -- the directory goes, or is full ------------------------------------------------------------------------------------


@contextmanager
def a_file_system(node: Node, size: str) -> Iterator[str]:
    """The directory of backups has one of its own."""
    place = directory_of(node)
    os.mkdir(place, mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@contextmanager
def meanwhile(act: Callable[[], None], after: bool = False) -> Iterator[None]:
    """While the first disk is stored, something happens."""
    real, done = backup_files.store_disk, []

    def store(*arguments: Any, **named: Any) -> Any:
        if not done and not after:
            done.append(act())
        stored = real(*arguments, **named)
        if not done:
            done.append(act())
        return stored

    backup_files.store_disk = store
    try:
        yield
    finally:
        backup_files.store_disk = real
    assert done


def failed(node: Node, vm: Vm, **more: Any) -> str:
    outcome = back_up_all(request(node, vm, **more), node.driver, node.root)[0]
    assert outcome["error"] and not outcome["id"], outcome
    assert "should not happen" not in outcome["error"], outcome["error"]
    return str(outcome["error"])


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("way", ["renamed", "unmounted"])
@in_world
def test_the_directory_goes_in_the_middle(way: str, after: bool) -> None:
    with a_machine(another()) as (node, vm), a_file_system(node, "96m") as place:
        back_up(node, vm)
        write(node, vm, "write -P 7 1M 1M")
        aside = f"{node.root}-aside"
        os.mkdir(aside)

        def go() -> None:
            # Whoever has it open has it still; by its name it is not there.
            if way == "unmounted":
                subprocess.run(["mount", "--move", place, aside], check=True)
            else:
                name = next(Path(place).glob("1-*"))
                name.rename(name.with_name("elsewhere"))

        def come() -> None:
            if way == "unmounted":
                subprocess.run(["mount", "--move", aside, place], check=True)
            else:
                (Path(place) / "elsewhere").rename(next(iter(known)))

        known = list(Path(place).glob("1-*"))
        with meanwhile(go, after):
            failed(node, vm)
        if way == "unmounted":
            # Nothing was written beneath the mount, where nobody would look for it.
            assert os.listdir(place) == []
        come()
        outcome = back_up(node, vm)
        assert outcome["kind"] == "incremental"
        assert len(manifests(node)) == 2
        assert_nothing_left(node, vm)


@in_world
def test_the_directory_goes_before_the_second_machine() -> None:
    """What was below the mount point is no place: nobody would find there what is written to it."""
    with a_node() as node:
        vms = [filled(node, number, 3) for number in range(3)]
        with a_file_system(node, "96m") as place:
            assert [each["error"] for each in back_up_all(request(node, *vms), node.driver, node.root)] == [""] * 3
            aside = f"{node.root}-aside"
            os.mkdir(aside)
            with meanwhile(lambda: subprocess.run(["mount", "--move", place, aside], check=True)):
                outcomes = back_up_all(request(node, *vms, at_once=1, full=True), node.driver, node.root)
            assert all(each["error"] for each in outcomes), outcomes
            assert all("it is not the one any more" in each["error"] for each in outcomes[1:]), outcomes
            assert os.listdir(place) == []
            subprocess.run(["mount", "--move", aside, place], check=True)
            assert len(manifests(node)) == 3


@in_world
def test_a_full_directory_with_several_machines_at_once() -> None:
    with a_node() as node:
        vms = [filled(node, number, 60) for number in range(2)]
        with a_file_system(node, "96m") as place:
            # One has room, two have not. Compressed nobody knows it before.
            asked = request(node, *vms, at_once=2, compress=True)
            outcomes = back_up_all(asked, node.driver, node.root)
            errors = [each["error"] for each in outcomes if each["error"]]
            assert errors
            assert all("its file system is full" in each or " free" in each for each in errors), errors
            kept = {each["id"] for each in outcomes if each["id"]}
            assert manifests(node).keys() == kept
            assert [path.name for path in Path(place).rglob("*.tmp")] == []
            whole(node, vms, kept)
            subprocess.run(["mount", "-o", "remount,size=256m", place], check=True)
            outcomes = back_up_all(asked, node.driver, node.root)
            assert [each["error"] for each in outcomes] == ["", ""]
            whole(node, vms, set(manifests(node)))
        assert not os.path.exists(disk_exports.PLACE) or not os.listdir(disk_exports.PLACE)


def filled(node: Node, vm_id: int, mib: int) -> Vm:
    """A machine that is off, with a disk that does not shrink."""
    vm = node.vm(vm_id)
    vm = replace(vm, disks=(*vm.disks, VmDisk(disk_id=2, target="vdb", type="FS", driver="qcow2", size=mib)))
    assert node.one(vm, "POWEROFF").error is None
    fill(node, vm, mib, f"{vm_id}")
    return vm


def fill(node: Node, vm: Vm, mib: int, seed: str) -> None:
    raw, disk = Path(f"{node.root}/filled.raw"), node.directory(vm) / "disk.2"
    # What does not shrink.
    raw.write_bytes(random.Random(seed).randbytes(mib * MIB))
    subprocess.run(["qemu-img", "convert", "-n", "-f", "raw", "-O", "qcow2", str(raw), str(disk)], check=True)
    raw.unlink()


def whole(node: Node, vms: list[Vm], ids: set[str]) -> None:
    """Each of these holds what the machine's disk does."""
    for vm in vms:
        # Where one has taken the room, nobody could write.
        with held(node, vm, directory_of(node), for_writing=False) as found:
            assert found.unreadable == []
            for backup in found.backups():
                assert backup.id in ids
                assert restored(node, found, backup, 2) == content_of(node.directory(vm) / "disk.2", "qcow2")


@contextmanager
def held(node: Node, vm: Vm, directory: str, for_writing: bool = True) -> Iterator[Any]:
    with Place.open(directory, node.catalog, for_writing).machine(vm.vm_id, node.catalog) as found:
        yield found


def restored(node: Node, found: Any, backup: Any, disk_id: int) -> bytes:
    path = f"{os.environ['NEBULA_WORLD']}/{uuid.uuid4().hex}"
    size = next(disk.size for disk in backup.disks if disk.disk_id == disk_id)
    backup_files.restore_disk(found.chain(backup, disk_id), path, "raw", size=size)
    content = Path(path).read_bytes()
    os.unlink(path)
    return content


# -- the machine goes --------------------------------------------------------------------------------------------------


@in_world
def test_the_machine_is_taken_away_in_the_middle() -> None:
    with a_machine() as (node, vm):
        back_up(node, vm)
        text = node.domain(vm).XMLDesc(1)

        def go() -> None:
            domain = node.domain(vm)
            domain.destroy()
            # VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
            domain.undefineFlags(1 << 4)

        with meanwhile(go):
            assert "the machine ended while it was backed up" in failed(node, vm)
        assert len(manifests(node)) == 1
        assert not os.listdir(Path(node.root, "datastores/0/1")) or not any(
            name.startswith(".backup") for name in os.listdir(node.directory(vm))
        )
        node.driver._connection().defineXML(text)
        assert node.one(vm).error is None
        assert back_up(node, vm)["kind"] == "full"


# -- a limit of the rate -----------------------------------------------------------------------------------------------


@in_world
def test_a_limit_of_the_rate_holds_in_both_kinds() -> None:
    with a_machine(another(size=32)) as (node, vm):
        write(node, vm, "write -P 7 0 24M", target="vdb")
        seconds = [timed(node, vm, "full", rate=8)]
        write(node, vm, "write -P 8 0 24M", target="vdb")
        seconds.append(timed(node, vm, "incremental", rate=8))
        write(node, vm, "write -P 9 0 24M", target="vdb")
        free = timed(node, vm, "incremental")
        # 24 MiB at 8 MiB a second; some of it may come in a burst at the beginning.
        assert min(seconds) > 1.5, (seconds, free)
        assert free < min(seconds), (seconds, free)


def timed(node: Node, vm: Vm, kind: str, **more: Any) -> float:
    real, taken = backup_files.store_disk, []

    def store(*arguments: Any, **named: Any) -> Any:
        begin = time.monotonic()
        try:
            return real(*arguments, **named)
        finally:
            taken.append(time.monotonic() - begin)

    backup_files.store_disk = store
    try:
        assert back_up(node, vm, **more)["kind"] == kind
    finally:
        backup_files.store_disk = real
    return max(taken)


# -- the power goes ----------------------------------------------------------------------------------------------------


@contextmanager
def on_a_disk() -> Iterator[tuple[Node, Vm, Disk]]:
    """nebula_root and directories of backups on a disk whose power can go; the machine is off."""
    disk = Disk(Path(os.environ["NEBULA_WORLD"], f"cut-{uuid.uuid4().hex[:8]}"))
    disk.point.chmod(0o755)
    node = Node(disk.point / "nebula")
    try:
        yield node, filled(node, 7, 3), disk
    finally:
        node.close()
        disk.close()


def cut(node: Node, disk: Disk, faults: Faults, scene: str, asked: Any, at: int) -> bool:
    """Go on with what the disk holds at the scene's call of that number. Return whether it came so far."""
    words = [sys.executable, "-c", RUN, json.dumps(sys.path), scene, node.root, json.dumps(asked)]
    process = subprocess.Popen(
        words, env={**os.environ, **faults.environment(at, 0)}, start_new_session=True, stdout=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: faults.reached or process.poll() is not None, "the call", 120)
        came = faults.reached
        copy = disk.cut()
    finally:
        for pid in faults.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        node.driver.close()
    wait_for(lambda: is_free(disk), "all to let go of the disk")
    disk.go_on_with(copy)
    return bool(came)


def is_free(disk: Disk) -> bool:
    return subprocess.run(["fuser", "-sm", str(disk.point)], check=False, capture_output=True).returncode != 0


def count(node: Node, faults: Faults, scene: str, asked: Any) -> int:
    words = [sys.executable, "-c", RUN, json.dumps(sys.path), scene, node.root, json.dumps(asked)]
    done = subprocess.run(
        words, env={**os.environ, **faults.environment()}, check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return len(faults.calls)


def steps(calls: int, cuts: int = 8) -> list[int]:
    """Some of the calls, the last ones among them: there it is decided what is there. Last comes the end: what was done
    by then is there."""
    return sorted({*range(1, calls, max(1, calls // cuts)), *range(max(1, calls - 4), calls + 1), calls + 1000})


@pytest.mark.timeout(900)
@in_world
def test_power_cut_while_a_backup_is_stored() -> None:
    with on_a_disk() as (node, vm, disk):
        directory = directory_of(node)
        faults = Faults(directory, disk.file.parent)
        asked = replace(request(node, vm, full=True), directory=directory)
        came = []
        # The first one makes the directory, too.
        calls = [count(node, faults, "store", to_plain(asked)) for _again in range(2)][1]
        for scene in steps(calls):
            known = set(manifests(node))
            fill(node, vm, 3, f"step {scene}")
            os.sync()
            came.append(cut(node, disk, faults, "store", to_plain(asked), scene))
            with held(node, vm, directory) as found:
                listed = {each.id: each for each in found.backups()}
                assert (found.unreadable, known - listed.keys()) == ([], set()), scene
                assert came[-1] or len(listed.keys() - known) == 1, scene
                for id in listed.keys() - known:
                    now = content_of(node.directory(vm) / "disk.2", "qcow2")
                    assert restored(node, found, listed[id], 2) == now, scene
                for each in listed.values():
                    backup_files.refuse_altered(found.chain(each, 2), each.id)
            (outcome,) = back_up_all(asked, node.driver, node.root)
            assert not outcome["error"], (scene, outcome)
            with held(node, vm, directory) as found:
                found.prune({"last": 1})
        # Threads do not make their calls in the same order each time.
        assert came.count(True) > len(came) // 2, came


@pytest.mark.timeout(900)
@in_world
def test_power_cut_while_backups_are_merged() -> None:
    with on_a_disk() as (node, vm, disk):
        first = random_content(3 * MIB, "first")
        changes = [(65536, b"x" * 131072), (2 * MIB, bytes(65536)), (MIB, b"y" * 65536)]
        second, third = bytearray(first), bytearray(first)
        for number, (offset, data) in enumerate(changes):
            third[offset : offset + len(data)] = data
            if not number:
                second[offset : offset + len(data)] = data
        calls = number = 0
        came = []
        while number < len(steps(calls or 8)):
            directory = Path(f"{node.root}-{number}-{calls}")
            place = MadeBackups(directory)
            chain = [place.full(7, node.catalog, {2: first})]
            chain.append(place.incremental(chain[-1], {2: changes[:1]}))
            chain.append(place.incremental(chain[-1], {2: changes[1:]}))
            contents = dict(zip((each.id for each in chain), (first, bytes(second), bytes(third))))
            asked = {"directory": str(directory), "catalog": node.catalog, "vm_id": 7}
            faults = Faults(directory, disk.file.parent)
            os.sync()
            if not calls:
                calls = count(node, faults, "merge", asked)
                continue
            step = steps(calls)[number]
            came.append(cut(node, disk, faults, "merge", asked, step))
            for writing in (False, True):
                with contextlib.ExitStack() as stack:
                    opened = Place.open(str(directory), node.catalog, for_writing=writing)
                    found = stack.enter_context(opened.machine(7, node.catalog))
                    listed = found.backups()
                    assert found.unreadable == [] and listed[-1].id == chain[-1].id, step
                    assert came[-1] or len(listed) == 1, step
                    for each in listed:
                        assert restored(node, found, each, 2) == contents[each.id], (step, each.id)
            with held(node, vm, str(directory)) as found:
                found.prune({"last": 1})
                assert [each.id for each in found.backups()] == [chain[-1].id], step
                assert restored(node, found, found.backups()[0], 2) == contents[chain[-1].id], step
            number += 1
        assert came.count(True) > len(came) // 2, came


@pytest.mark.timeout(900)
@in_world
def test_power_cut_while_disks_are_restored() -> None:
    with on_a_disk() as (node, vm, disk):
        place = MadeBackups(Path(f"{node.root}-made"))
        boots = content_of(node.directory(vm) / "disk.0", "qcow2")
        old, new = ({0: boots, 2: random_content(3 * MIB, each)} for each in ("old", "new"))
        backups = [place.full(7, node.catalog, each) for each in (old, new)]

        def asked(number: int) -> MachineToRestore:
            return MachineToRestore(node.catalog, vm, node.number, str(place.directory), backups[number].id)

        disk_restores.restore(asked(0), node.driver, node.root)
        faults = Faults(node.directory(vm), disk.file.parent)
        # Some runs write the record of the machine once more than others: the one that does least counts.
        calls = min(count(node, faults, "restore", to_plain(asked(number))) for number in (1, 0, 1))
        seen, came = set(), []
        for step in steps(calls):
            disk_restores.restore(asked(0), node.driver, node.root)
            os.sync()
            came.append(cut(node, disk, faults, "restore", to_plain(asked(1)), step))
            assert node.one(vm, "POWEROFF").error is None
            found = {number: content_of(node.directory(vm) / f"disk.{number}", "qcow2") for number in (0, 2)}
            assert found in ((old, new) if came[-1] else (new,)), step
            seen.add(found == new)
            assert [name for name in os.listdir(node.directory(vm)) if "restore" in name] == []
            with held(node, vm, str(place.directory)) as listed:
                assert [each.id for each in listed.backups()] == [each.id for each in backups]
        assert seen == {True, False}
        assert came.count(True) > len(came) // 2, came


@pytest.mark.parametrize("way", ["gone", "full"])
@in_world
def test_what_goes_wrong_while_disks_are_restored_leaves_the_old_ones(way: str) -> None:
    with a_node() as node:
        vm = filled(node, 7, 3)
        place = MadeBackups(Path(f"{node.root}-made"))
        boots = content_of(node.directory(vm) / "disk.0", "qcow2")
        made = place.full(7, node.catalog, {0: boots, 2: random_content(3 * MIB, "new")})
        before = {number: content_of(node.directory(vm) / f"disk.{number}", "qcow2") for number in (0, 2)}
        asked = MachineToRestore(node.catalog, vm, node.number, str(place.directory), made.id)
        real, done = disk_restores.restored_disks.make, []

        def make(*arguments: Any, **named: Any) -> None:
            done.append(arguments)
            if len(done) == 2 and way == "gone":
                place.directory.rename(f"{place.directory}-elsewhere")
            if len(done) == 2 and way == "full":
                raise NoSpace("the disk", "it is full", "Make room")
            real(*arguments, **named)

        disk_restores.restored_disks.make = make
        try:
            with pytest.raises(NebulaError):
                disk_restores.restore(asked, node.driver, node.root)
        finally:
            disk_restores.restored_disks.make = real
        found = {number: content_of(node.directory(vm) / f"disk.{number}", "qcow2") for number in (0, 2)}
        assert found == before
        assert [name for name in os.listdir(node.directory(vm)) if "restore" in name] == []
        if way == "gone":
            Path(f"{place.directory}-elsewhere").rename(place.directory)
        disk_restores.restore(asked, node.driver, node.root)
        assert content_of(node.directory(vm) / "disk.2", "qcow2") == random_content(3 * MIB, "new")
