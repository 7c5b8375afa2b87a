# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Chains of backups by QEMU's own programs: each backup is restored byte for byte, whatever expired before, was merged,
and wherever that was ended."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backed_up_machine import CATALOG, MIB, VM, Machine, restored
from made_backups import altered

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    CatalogError,
    ChecksumMismatch,
    ImageRefused,
    InvalidValue,
    NoSpace,
    StorageFailed,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.backup_retention import Expiry, Merge
from ansible_collections.nebula.provision.plugins.module_utils.storage import (
    backup_files,
    backup_merging,
    backup_secrets,
    backup_verification,
    qemu_img,
)
from ansible_collections.nebula.provision.plugins.module_utils.storage.backup_place import MachineDirectory, Place

# A container takes seconds to make, so there are few.
WAYS = {"plain": (False, ""), "compressed": (True, ""), "encrypted": (True, "a key")}


def write_some(machine: Machine, turn: int) -> None:
    """Zeroes where there was something; the end of the disk; what does not begin at a cluster."""
    for disk in range(machine.count):
        machine.write(
            f"write -P {turn + 1} {turn * 300_032} 200k",
            f"write -z {turn * 64}k 96k",
            f"write -P {100 + turn + disk} {machine.size - 512 * (turn + 1)} 512",
            disk=disk,
        )


def everything_is_restored(machine: Machine, directory: MachineDirectory, place: Path, ids: list[str]) -> None:
    assert [each.id for each in directory.backups()] == ids
    assert directory.unreadable == []
    for id in ids:
        for disk, held in enumerate(machine.held[id]):
            assert restored(directory, id, disk, place) == held, (id, disk)


@pytest.mark.parametrize("way", WAYS)
def test_a_chain_is_restored_and_merged(way: str, tmp_path: Path) -> None:
    compress, key = WAYS[way]
    machine = Machine(tmp_path / "machine", disks=1 if key else 2)
    place = Place.open(str(tmp_path / "backups"), CATALOG, for_writing=True)
    ids = []
    with place.machine(VM, key=key) as directory:
        for turn in range(3 if key else 6):
            write_some(machine, turn)
            if turn == 1:
                machine.grow(machine.size + 3 * MIB + 512)
            ids.append(machine.back_up(directory, compress=compress).id)
        everything_is_restored(machine, directory, tmp_path, ids)
        names = [disk.file.name for disk in directory.latest().disks]
        done = directory.prune({"last": 1} if key else {"last": 2})
        kept = ids[-1:] if key else ids[-2:]
        assert [(merge.expired, merge.into) for merge in done.merges] == [(tuple(ids[: -len(kept)]), kept[0])]
        everything_is_restored(machine, directory, tmp_path, kept)
        latest = directory.latest()
        assert [disk.file.name for disk in latest.disks] == names
        assert directory.get(kept[0]).kind == "full"
        write_some(machine, 9)
        ids.append(machine.back_up(directory, compress=compress).id)
        everything_is_restored(machine, directory, tmp_path, [*kept, ids[-1]])
    found = sorted(os.listdir(directory.directory))
    assert all(name.startswith((*kept, ids[-1], ".lock")) for name in found), found


def test_branches_stay_until_one_is_left(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine")
    place = Place.open(str(tmp_path / "backups"), CATALOG, for_writing=True)
    with place.machine(VM) as directory:
        write_some(machine, 0)
        first = machine.back_up(directory).id
        write_some(machine, 1)
        left = machine.back_up(directory).id
        write_some(machine, 2)
        right = machine.back_up(directory, parent=first).id
        done = directory.prune({"last": 2})
        assert (done.removed, done.merges) == ((), ())
        everything_is_restored(machine, directory, tmp_path, [first, left, right])
        assert directory.prune({"last": 1}).removed == (left,)
        everything_is_restored(machine, directory, tmp_path, [right])


def test_what_is_compressed_stays_so(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine", size=16 * MIB)
    place = Place.open(str(tmp_path / "backups"), CATALOG, for_writing=True)
    with place.machine(VM) as directory:
        machine.write("write -P 1 0 8M")
        machine.back_up(directory, compress=True)
        machine.write("write -P 2 2M 4M")
        latest = machine.back_up(directory, compress=True).id
        assert sum(file.file.size for each in directory.backups() for file in each.disks) < 2 * MIB
        directory.prune({"last": 1})
        everything_is_restored(machine, directory, tmp_path, [latest])
        assert directory.latest().disks[0].file.size < MIB


def test_a_wrong_key_merges_nothing_and_reads_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine")
    place = Place.open(str(tmp_path / "backups"), CATALOG, for_writing=True)
    with place.machine(VM, key="right") as directory:
        write_some(machine, 0)
        first = machine.back_up(directory).id
        write_some(machine, 1)
        second = machine.back_up(directory)
        assert backup_secrets.read_secrets(directory.directory, second.secrets_file.name, "right") == {
            "PASSWORD": "geheim"
        }
        with pytest.raises(InvalidValue, match="does not open"):
            backup_secrets.read_secrets(directory.directory, second.secrets_file.name, "wrong")
        with pytest.raises(InvalidValue, match="does not open"):
            backup_files.restore_disk(directory.chain(second, 0), str(tmp_path / "new"), "raw", "wrong", machine.size)
        assert not (tmp_path / "new").exists()
    before = {path.name: path.read_bytes() for path in Path(directory.directory).iterdir()}
    with place.machine(VM, key="wrong") as directory:
        assert directory.backups() == []
        assert all(isinstance(error, ImageRefused) for error in directory.unreadable)
        assert directory.prune({"last": 1}) == Expiry()
        (note,) = directory.notes()
        assert note.startswith("2 of the backups in ") and "its seal is not by this key" in note
    with place.machine(VM) as directory:
        assert directory.prune({"last": 1}) == Expiry()
        assert f"{first} of machine 7 expired, and can't be merged without the key" in directory.warnings[0]
    assert before == {path.name: path.read_bytes() for path in Path(directory.directory).iterdir()}
    assert b"geheim" not in b"".join(before.values())
    with place.machine(VM, key="right") as directory:
        directory.prune({"last": 1})
        everything_is_restored(machine, directory, tmp_path, [second.id])
    assert first not in "".join(os.listdir(directory.directory))


def test_what_a_former_key_sealed_stays_and_the_rest_expires(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine")
    place = Place.open(str(tmp_path / "backups"), CATALOG, for_writing=True)
    ids: dict[str, list[str]] = {}
    for key in ("former", "new"):
        with place.machine(VM, key=key) as directory:
            ids[key] = [machine.back_up(directory).id]
            for turn in range(2):
                write_some(machine, turn)
                ids[key].append(machine.back_up(directory).id)
    with place.machine(VM, key="new") as directory:
        done = directory.prune({"last": 1})
        assert [(each.expired, each.into) for each in done.merges] == [(tuple(ids["new"][:2]), ids["new"][2])]
        everything_is_restored_but(directory, ids["new"][2:], 3)
    with place.machine(VM, key="former") as directory:
        everything_is_restored_but(directory, ids["former"], 1)
        restored(directory, ids["former"][-1], 0, tmp_path)


def everything_is_restored_but(directory: MachineDirectory, ids: list[str], others: int) -> None:
    assert [each.id for each in directory.backups()] == ids
    assert len(directory.by_others) == len(directory.unreadable) == others


@pytest.mark.parametrize("way", WAYS)
def test_a_person_restores_by_hand(way: str, tmp_path: Path) -> None:
    compress, key = WAYS[way]
    machine = Machine(tmp_path / "machine", disks=1 if key else 2)
    place = Place.open(str(tmp_path / "backups"), CATALOG, for_writing=True)
    with place.machine(VM, key=key) as directory:
        for turn in range(2 if key else 3):
            write_some(machine, turn)
            machine.back_up(directory, compress=compress)
        by_hand(machine, directory, directory.backups()[1].id, tmp_path / "before")
        directory.prune({"last": 1 if key else 2})
        for id in [each.id for each in directory.backups()]:
            by_hand(machine, directory, id, tmp_path / id)


def by_hand(machine: Machine, directory: MachineDirectory, id: str, place: Path) -> None:
    key_file = place.parent / "key"
    key_file.write_text(directory.key)
    backup = directory.get(id)
    script = "\n".join(backup.by_hand)
    environment = {**os.environ, "TO": str(place), "KEY_FILE": str(key_file)}
    subprocess.run(["sh", "-euc", script], check=True, cwd=directory.directory, env=environment)
    for disk, held in enumerate(machine.held[id]):
        raw = place / "raw"
        subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", place / f"disk.{disk}", raw], check=True)
        assert raw.read_bytes() == held
    if directory.key:
        assert (place / "secrets.json").read_text().strip(" \0") == '{"PASSWORD": "geheim"}'


def test_what_was_altered_is_not_merged(tmp_path: Path) -> None:
    """It would get a checksum of its own, and nobody would know."""
    machine = Machine(tmp_path / "machine")
    place = Place.open(str(tmp_path / "backups"), CATALOG, for_writing=True)
    with place.machine(VM) as directory:
        write_some(machine, 0)
        first = machine.back_up(directory)
        write_some(machine, 1)
        machine.back_up(directory)
        path = Path(directory.path(first.disks[0].file.name))
        content = bytearray(path.read_bytes())
        content[-100] ^= 1
        path.write_bytes(content)
        with pytest.raises(ChecksumMismatch, match=first.disks[0].file.name):
            directory.prune({"last": 1})
        assert len(directory.backups()) == 2


# -- ended at each step ------------------------------------------------------------------------------------------------

ENDED = 77


class Fuse:
    """Ends this process at the n-th step of a kind that the system sees."""

    def __init__(self, count: int) -> None:
        self.left = count

    def around(self, module: Any, name: str) -> None:
        real = getattr(module, name)

        def stepped(*arguments: Any, **options: Any) -> Any:
            self.step()
            found = real(*arguments, **options)
            self.step()
            return found

        setattr(module, name, stepped)

    def step(self) -> None:
        self.left -= 1
        if not self.left:
            os._exit(ENDED)


def in_a_child(act: Callable[[], object]) -> int:
    child = os.fork()
    if not child:
        try:
            act()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("way", ["plain", "compressed"])
def test_pruning_that_is_ended_at_any_step(way: str, tmp_path: Path) -> None:
    compress, _key = WAYS[way]
    machine = Machine(tmp_path / "machine", size=2 * MIB)
    place = Place.open(str(tmp_path / "backups"), CATALOG, for_writing=True)
    ids = []
    with place.machine(VM) as directory:
        for turn in range(4):
            write_some(machine, turn)
            ids.append(machine.back_up(directory, compress=compress).id)
    kept = ids[2:]
    shutil.copytree(place.directory, tmp_path / "whole")

    def pruned(count: int) -> None:
        fuse = Fuse(count)
        for name in ("rename", "unlink", "fsync"):
            fuse.around(os, name)
        fuse.around(qemu_img, "run_program")
        with Place.open(place.directory, CATALOG, for_writing=True).machine(VM) as directory:
            directory.prune({"last": 2})

    # Each step of one way, and some of the other.
    every = 3 if compress else 1
    count = 1
    while ended := in_a_child(functools.partial(pruned, count)):
        assert ended == ENDED
        with contextlib.suppress(StorageFailed), Place.open(place.directory, CATALOG, False).machine(VM) as directory:
            # Nobody has finished it, and what is listed can be restored all the same.
            listed = [each.id for each in directory.backups()]
            assert set(kept) <= set(listed) <= set(ids) and directory.unreadable == []
            for id in listed[-2:]:
                assert restored(directory, id, 0, tmp_path) == machine.held[id][0], (count, id)
        with Place.open(place.directory, CATALOG, True).machine(VM) as directory:
            listed = [each.id for each in directory.backups()]
            assert listed in (ids, kept), count
            directory.prune({"last": 2})
            everything_is_restored(machine, directory, tmp_path, kept)
        assert all(name.startswith((*kept, ".lock")) for name in os.listdir(directory.directory))
        shutil.rmtree(place.directory)
        shutil.copytree(tmp_path / "whole", place.directory)
        count += every
    assert count > 30


def test_a_backup_that_is_ended_at_any_step(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine", size=2 * MIB)
    place = Place.open(str(tmp_path / "backups"), CATALOG, for_writing=True)
    write_some(machine, 0)
    with place.machine(VM) as directory:
        first = machine.back_up(directory).id
    own = sorted(os.listdir(directory.directory))
    write_some(machine, 1)

    def backed_up(count: int) -> None:
        fuse = Fuse(count)
        with Place.open(place.directory, CATALOG, for_writing=True).machine(VM) as directory:
            for name in ("rename", "unlink", "fsync"):
                fuse.around(os, name)
            fuse.around(qemu_img, "run_program")
            machine.back_up(directory)

    count, without = 1, 0
    while ended := in_a_child(functools.partial(backed_up, count)):
        assert ended == ENDED
        # Nobody ended it with the process that was ended.
        machine.end_exports()
        with place.machine(VM) as directory:
            found = [each.id for each in directory.backups()]
            assert found[0] == first and directory.unreadable == []
            assert restored(directory, found[-1], 0, tmp_path) == machine.held[first][0] or len(found) == 2
            without += len(found) == 1
            for id in found[1:]:
                assert restored(directory, id, 0, tmp_path) == machine.content()
                directory.discard(id)
            assert sorted(os.listdir(directory.directory)) == own
        count += 1
    # The manifest is written in the last few steps.
    assert count > 15 and without > count - 8


def test_pruning_that_is_killed_while_qemu_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """QEMU's program ends with whoever started it, and what it has not written yet is written by the next run."""
    machine = Machine(tmp_path / "machine", size=16 * MIB)
    place = Place.open(str(tmp_path / "backups"), CATALOG, for_writing=True)
    with place.machine(VM) as directory:
        machine.write("write -P 1 0 16M")
        machine.back_up(directory)
        machine.write("write -P 2 1M 12M")
        latest = machine.back_up(directory).id
    real = qemu_img.run_program

    def slowly(program: str, verb: str, *words: str, **options: Any) -> Any:
        return real(program, verb, *(["-r", "16M"] if verb == "convert" else []), *words, **options)

    monkeypatch.setattr(qemu_img, "run_program", slowly)
    child = os.fork()
    if not child:
        with place.machine(VM) as directory:
            directory.prune({"last": 1})
        os._exit(0)
    time.sleep(0.5)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    monkeypatch.undo()
    with Place.open(place.directory, CATALOG, False).machine(VM) as directory:
        everything_is_restored(machine, directory, tmp_path, [latest])
    with place.machine(VM) as directory:
        everything_is_restored(machine, directory, tmp_path, [latest])
    assert len([name for name in os.listdir(directory.directory) if "disk" in name]) == 1


def killed_while_it_merged(machine: Machine, place: Place, key: str = "") -> tuple[str, str]:
    """Leave two backups, the older of which expires, and the journal of a run that was killed then."""
    with place.machine(VM, key=key) as directory:
        write_some(machine, 0)
        first = machine.back_up(directory).id
        write_some(machine, 1)
        second = machine.back_up(directory).id
        known = {each.id: each for each in directory.backups()}
        backup_merging.begin(directory.directory, Merge((first,), second), known, key, place.uuid)
    return first, second


def test_a_merge_that_cannot_be_finished_does_not_end_backups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path / "machine", size=2 * MIB)
    place = Place.open(str(tmp_path / "backups"), CATALOG, for_writing=True)
    _first, second = killed_while_it_merged(machine, place)

    def full(*_arguments: Any) -> None:
        raise NoSpace("merging", "the place is full")

    monkeypatch.setattr(backup_files, "merge_file", full)
    with place.machine(VM) as directory:
        assert [each.id for each in directory.backups()] == [second]
        assert "the place is full" in str(directory.unreadable[0])
        assert restored(directory, second, 0, tmp_path) == machine.held[second][0]
        write_some(machine, 2)
        third = machine.back_up(directory)
        assert third.parent == second
        with pytest.raises(CatalogError, match="the place is full"):
            directory.prune({"last": 1})
    monkeypatch.undo()
    with place.machine(VM) as directory:
        everything_is_restored(machine, directory, tmp_path, [second, third.id])
        assert all(each.faults == () for each in backup_verification.verify(directory))


def test_another_key_does_not_end_backups(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine", size=2 * MIB)
    place = Place.open(str(tmp_path / "backups"), CATALOG, for_writing=True)
    _first, second = killed_while_it_merged(machine, place, "a key")
    for key in ("another", ""):
        with place.machine(VM, key=key) as directory:
            assert directory.unreadable == [] and directory.backups() is not None
            assert "key" in str(directory.unreadable[0])
    with place.machine(VM, key="a key") as directory:
        everything_is_restored(machine, directory, tmp_path, [second])


@pytest.mark.parametrize("begun", [False, True])
def test_a_file_that_was_altered_before_a_merge_goes_on_is_not_signed(begun: bool, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine", size=2 * MIB)
    place = Place.open(str(tmp_path / "backups"), CATALOG, for_writing=True)
    first, second = killed_while_it_merged(machine, place, "a key")
    directory = Path(place.directory) / f"{VM}-{CATALOG}"
    journal = directory / backup_merging.JOURNAL
    older, newer = (directory / f"{id}.disk.0.luks" for id in (first, second))
    if begun:
        # Whoever does not have the key can't say that the older one may be another by now.
        journal.write_text(journal.read_text().replace('"writing": false', '"writing": true'))
    path = newer if begun else older
    with altered(path, path.stat().st_size - 700), place.machine(VM, key="a key") as held:
        assert [each.id for each in held.backups()] == [second]
        assert ("seal" if begun else "SHA-256") in str(held.unreadable[0])
    journal.write_text(journal.read_text().replace('"writing": true', '"writing": false'))
    with altered(newer, newer.stat().st_size - 700), place.machine(VM, key="a key") as held:
        held.backups()
        assert "SHA-256" in str(held.unreadable[0])
    plain = json.loads(journal.read_text())
    evil = [{**plain["expired"][0], "name": "evil"}]
    journal.write_text(json.dumps({**plain, "expired": evil}))
    reading = Place.open(place.directory, CATALOG, for_writing=False)
    with pytest.raises(ImageRefused, match="its seal is not"), reading.machine(VM, key="a key"):
        pass
    journal.write_text(json.dumps({**plain, "seal": ""}))
    with place.machine(VM, key="a key") as held:
        held.backups()
        assert "its seal is not by this key" in str(held.unreadable[0])
    journal.write_text(json.dumps(plain))
    with place.machine(VM, key="a key") as held:
        everything_is_restored(machine, held, tmp_path, [second])


def test_a_damaged_file_is_not_merged_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path / "machine", size=2 * MIB)
    place = Place.open(str(tmp_path / "backups"), CATALOG, for_writing=True)
    first, second = killed_while_it_merged(machine, place)
    older = Path(place.directory) / f"{VM}-{CATALOG}" / f"{first}.disk.0.qcow2"
    journal = older.with_name(backup_merging.JOURNAL)
    journal.write_text(journal.read_text().replace('"writing": false', '"writing": true'))
    content = older.read_bytes()
    with older.open("r+b") as file:
        # Its table of reference counts.
        file.seek(65536)
        file.write(b"\1" * 8)
    with place.machine(VM) as held:
        assert [each.id for each in held.backups()] == [second]
        assert held.unreadable
    older.write_bytes(content)
    with place.machine(VM) as held:
        everything_is_restored(machine, held, tmp_path, [second])
