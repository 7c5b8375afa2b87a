# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backups are full ones, and why. The disks are files of this test, and so is what stores them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import HypervisorError, InUse, OtherHostFailed
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import machine_backups
from ansible_collections.nebula.provision.plugins.module_utils.model.given_backup import GivenBackup, GivenDisk
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import (
    FULL,
    INCREMENTAL,
    NODE,
    BackupRequest,
    MachineBackup,
    MachineToBackUp,
    StoredFile,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.storage import backup_files, backup_manifests
from ansible_collections.nebula.provision.plugins.module_utils.storage.backup_files import NOTHING, NbdSource
from ansible_collections.nebula.provision.plugins.module_utils.storage.backup_place import Place

CATALOG, UUID = "0b0b0b0b-0000-4000-8000-000000000000", "0c0c0c0c-0000-4000-8000-000000000000"
VM = Vm(vm_id=1, uuid=UUID, name="web", hypervisor="kvm", cpu=1, memory=32)
MACHINE = MachineToBackUp(VM, 1, "node", template={"CPU": 1}, secrets={"PASSWORD": "pw"})
GIVEN = GivenBackup("RUNNING", "crash-consistent", "a way", (GivenDisk(0, "vda", "qcow2", 1 << 20, bitmap="b"),), True)


class Machine:
    """Is readable as a test says, and remembers what it was asked."""

    def __init__(self, given: GivenBackup = GIVEN) -> None:
        self.given = given
        self.asked: list[tuple[str, str]] = []
        self.kept = 0
        self.error: Exception | None = None

    @property
    def sources(self) -> Mapping[int, NbdSource]:
        return {each.disk_id: NbdSource("/socket", each.target, each.size, each.bitmap) for each in self.given.disks}

    def fetch(self, name: str, fd: int) -> None:
        os.write(fd, name.encode())

    def end_reading(self) -> None:
        pass

    def keep(self) -> None:
        self.kept += 1

    @contextlib.contextmanager
    def begin(self, _machine: MachineToBackUp, checkpoint: str, since: str) -> Iterator[Machine]:
        self.asked.append((checkpoint, since))
        if self.error is not None:
            raise self.error
        self.given = replace(self.given, checkpoint=checkpoint if self.given.state == "RUNNING" else since)
        yield self


@pytest.fixture(autouse=True)
def bitmaps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """By which bitmap each disk was stored."""
    found: list[str] = []

    def store(directory: str, name: str, source: NbdSource, _size: int, **_more: Any) -> StoredFile:
        found.append(source.bitmap)
        Path(directory, name).write_bytes(b"disk")
        return StoredFile(name, *backup_files.settled_digest(str(Path(directory, name))))

    monkeypatch.setattr(backup_files, "store_disk", store)
    return found


@pytest.fixture
def request_(tmp_path: Path) -> BackupRequest:
    return BackupRequest(CATALOG, str(tmp_path / "backups"), NODE, (MACHINE,))


def back_up(request_: BackupRequest, machine: Machine, error: str = "", **more: Any) -> dict[str, Any]:
    request_ = replace(request_, **more)
    place = machine_backups.open_place(request_, "/nowhere")
    outcome = machine_backups.back_up(request_, place, machine.begin, MACHINE)
    assert error in outcome["error"] and bool(outcome["error"]) == bool(error), outcome
    return outcome


def manifests(request_: BackupRequest) -> list[MachineBackup]:
    place = Place.open(request_.directory, CATALOG, for_writing=False)
    with place.machine(1, CATALOG) as directory:
        return directory.backups()


def test_a_chain(request_: BackupRequest, bitmaps: list[str]) -> None:
    machine = Machine()
    first, second = back_up(request_, machine), back_up(request_, machine)
    assert [(each["kind"], each["reason"]) for each in (first, second)] == [
        (FULL, "it is the first one"),
        (INCREMENTAL, ""),
    ]
    full, above = manifests(request_)
    assert (above.parent, above.disks[0].below) == (full.id, full.disks[0].file.name)
    assert [since for _new, since in machine.asked] == ["", full.checkpoint]
    assert (bitmaps, machine.kept) == (["", "b"], 2)
    assert (above.secrets, above.secrets_file, above.template) == (("PASSWORD",), None, {"CPU": 1})


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (replace(GIVEN, incremental=False, reason="its hypervisor says so"), "its hypervisor says so"),
        (replace(GIVEN, disks=(replace(GIVEN.disks[0], disk_id=2),)), "other disks"),
        (replace(GIVEN, disks=(replace(GIVEN.disks[0], format="raw"),)), "other disks"),
        (replace(GIVEN, disks=(replace(GIVEN.disks[0], size=1 << 19),)), "smaller"),
    ],
)
def test_what_makes_it_full(request_: BackupRequest, bitmaps: list[str], given: GivenBackup, why: str) -> None:
    back_up(request_, Machine())
    outcome = back_up(request_, Machine(given))
    assert outcome["kind"] == FULL and why in outcome["reason"]
    assert bitmaps == ["", ""]


@pytest.mark.parametrize(("ahead", "follows"), [(0, True), (7200, True), (2 * 86400, False), (1 << 30, False)])
def test_a_clock_that_was_wrong_is_not_followed(ahead: int, follows: bool, request_: BackupRequest) -> None:
    back_up(request_, Machine())
    (first,) = manifests(request_)
    now = int(time.time())
    path = Path(request_.directory, f"1-{CATALOG}", f"{first.id}.json")
    path.write_text(backup_manifests.text_of(replace(first, time=now + ahead)), encoding="ascii")
    back_up(request_, Machine())
    before, last = manifests(request_)
    assert (before.id, last.parent) == (first.id, first.id)
    assert last.time == now + ahead + 1 if follows and ahead else now <= last.time <= now + 60


def test_after_a_clock_that_was_ahead_the_newest_does_not_expire(request_: BackupRequest) -> None:
    back_up(request_, Machine())
    (first,) = manifests(request_)
    path = Path(request_.directory, f"1-{CATALOG}", f"{first.id}.json")
    path.write_text(backup_manifests.text_of(replace(first, time=int(time.time()) + 7200)), encoding="ascii")
    newest = back_up(request_, Machine(), full=True)["id"]
    with Place.open(request_.directory, CATALOG, for_writing=True).machine(1) as directory:
        directory.prune({"last": 1})
    assert [each.id for each in manifests(request_)] == [newest]


def test_a_full_one_is_asked_for(request_: BackupRequest) -> None:
    machine = Machine()
    back_up(request_, machine)
    assert back_up(request_, machine, full=True)["reason"] == "a full one was asked for"
    # Else the chain before would be lost if it fails.
    assert machine.asked[1][1] == machine.asked[0][0]


def test_nothing_was_written(request_: BackupRequest, bitmaps: list[str]) -> None:
    off = replace(GIVEN, state="POWEROFF", consistency="off", incremental=False, unchanged={"0": "1:2:3"}, reason="off")
    off = replace(off, disks=(replace(off.disks[0], bitmap=""),))
    back_up(request_, Machine(off))
    assert back_up(request_, Machine(off))["kind"] == INCREMENTAL
    assert back_up(request_, Machine(replace(off, unchanged={"0": "1:2:4"})))["kind"] == FULL
    assert bitmaps == ["", NOTHING, ""]


def test_what_fails_leaves_nothing(request_: BackupRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    back_up(request_, machine)
    machine.error = HypervisorError("a", "no")
    back_up(request_, machine, error="no")
    machine.error = None

    def fail(*_arguments: Any, **_more: Any) -> StoredFile:
        raise ValueError("a mistake")

    monkeypatch.setattr(backup_files, "store_disk", fail)
    back_up(request_, machine, error="ValueError: a mistake")
    place = next(Path(request_.directory).glob("1-*"))
    assert len([path for path in place.iterdir() if path.name != ".lock"]) == 2
    assert machine.kept == 1


def test_further_files_are_stored(request_: BackupRequest) -> None:
    back_up(request_, Machine(replace(GIVEN, files={"nvram": 5})))
    stored = manifests(request_)[0].files["nvram"]
    assert (stored.size, stored.holds) == (5, 0) and stored.name.endswith(".nvram")


def test_the_state_of_a_tpm_is_stored_under_a_key_alone(request_: BackupRequest) -> None:
    given = replace(GIVEN, files={"nvram": 5, "tpm": 3})
    back_up(request_, Machine(given))
    assert list(manifests(request_)[0].files) == ["nvram"]
    back_up(replace(request_, key="k"), Machine(given))
    files = manifests(request_)[-1].files
    assert {name: (file.holds, file.name.partition(".")[2]) for name, file in files.items()} == {
        "nvram": (5, "nvram.luks"),
        "tpm": (3, "tpm.luks"),
    }
    place = next(Path(request_.directory).glob("1-*"))
    assert b"tpm" not in (place / files["tpm"].name).read_bytes()


def test_its_end_goes_wrong(request_: BackupRequest) -> None:
    """The backup is whole by then."""

    class Ending(Machine):
        @contextlib.contextmanager
        def begin(self, *arguments: Any) -> Iterator[Machine]:
            with super().begin(*arguments) as found:
                yield found
            raise HypervisorError("a", "the job does not end")

    outcome = back_up(request_, Ending())
    assert outcome["id"] and any("the job does not end" in each for each in outcome["warnings"])
    assert len(manifests(request_)) == 1


OFF = replace(GIVEN, state="POWEROFF", consistency="off", unchanged={"0": "1:2:3"})


def test_one_of_a_machine_that_is_off_rests_on_that_of_its_checkpoint(request_: BackupRequest) -> None:
    """The checkpoint tells what was written since then, whatever was in the disk meanwhile: it may have been put back
    to an older copy."""
    back_up(request_, Machine())
    for number in range(2):
        off = Machine(replace(OFF, unchanged={"0": f"1:2:{number}"}))
        assert back_up(request_, off)["kind"] == INCREMENTAL
    back_up(request_, Machine())
    first, *others = manifests(request_)
    assert [each.parent for each in others] == [first.id] * 3


def test_what_is_unchanged_rests_on_the_latest(request_: BackupRequest, bitmaps: list[str]) -> None:
    back_up(request_, Machine())
    back_up(request_, Machine(OFF))
    back_up(request_, Machine(OFF))
    first, second, third = manifests(request_)
    assert (second.parent, third.parent, bitmaps) == (first.id, second.id, ["", "b", NOTHING])


def test_the_backup_of_its_checkpoint_is_gone(request_: BackupRequest) -> None:
    back_up(request_, Machine())
    back_up(request_, Machine(), full=True)
    back_up(request_, Machine(OFF))
    place = next(Path(request_.directory).glob("1-*"))
    second = manifests(request_)[1]
    back_up(request_, Machine(OFF), full=True)
    third, last = manifests(request_)[2:]
    assert (third.parent, last.checkpoint) == (second.id, second.checkpoint)
    for each in (third, second):
        (place / f"{each.id}.json").unlink()
    machine = Machine(replace(OFF, unchanged={}))
    outcome = back_up(request_, machine)
    assert outcome["kind"] == FULL and f"backup {second.id}, from which it would go on," in outcome["reason"]
    # Nothing is kept up for it either.
    assert machine.asked[0][1] == ""


@pytest.mark.parametrize(
    ("error", "count"),
    [
        (OtherHostFailed("a", "the connection is lost"), 1),
        (HypervisorError("a", "its disk is full"), 0),
    ],
)
def test_its_host_does_not_answer_that_it_is_kept(request_: BackupRequest, error: Exception, count: int) -> None:
    """What the host notes is the same then; only what it refuses is no backup."""

    class Lost(Machine):
        def keep(self) -> None:
            raise error

    outcome = back_up(request_, Lost(), error="" if count else str(error))
    assert len(manifests(request_)) == count
    assert not count or str(error) in outcome["warnings"]


@pytest.mark.parametrize("error", [OtherHostFailed("a", "the connection is lost"), InUse("a", "it went on")])
def test_nothing_says_that_there_is_a_backup_before_it_is_known_to_be_of_one_moment(
    request_: BackupRequest, error: Exception
) -> None:
    class Went(Machine):
        def end_reading(self) -> None:
            assert not list(Path(request_.directory).glob("1-*/*.json"))
            raise error

    back_up(request_, Went(), error=str(error))
    assert manifests(request_) == [] and not list(Path(request_.directory).glob("1-*/*.disk.*"))
