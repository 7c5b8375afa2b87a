# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, NoSpace, Unsupported
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import arriving_disks
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.arriving_disks import (
    ArrivingRoom,
    longest_file,
    needed_room,
    refuse_encrypted_copies,
    refuse_larger,
    refuse_longer,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk, DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.model.disk_snapshots import Snapshot
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm

MIB = 1 << 20


def vm(*disks: Disk) -> Vm:
    return Vm(1, "u", "web", "kvm", 1.0, 64, disks=disks)


# -- room -------------------------------------------------------------------------------------------------------------
@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The MiB that are free."""
    found = [10]
    monkeypatch.setattr(arriving_disks, "free_space", lambda _directory: found[0] * MIB)
    return found


def test_two_machines_do_not_get_the_same_bytes(free: list[int], tmp_path: Path) -> None:
    room = ArrivingRoom()
    room.take(str(tmp_path / "1"), 6 * MIB, "web")
    with pytest.raises(NoSpace) as refused:
        room.take(str(tmp_path / "2"), 6 * MIB, "db")
    assert refused.value.asked == f"disks of virtual machine db: 6.0 MiB in {tmp_path / '2'}"
    assert refused.value.found.startswith("4.0 MiB are free, besides")
    assert refused.value.found.endswith("6.0 MiB for other machines that come")
    # What fits beside it comes, and what was refused holds nothing.
    room.take(str(tmp_path / "3"), 4 * MIB, "cache")
    room.give_back(str(tmp_path / "1"))
    room.take(str(tmp_path / "2"), 6 * MIB, "db")


def test_what_is_written_by_now_is_not_counted_twice(free: list[int], tmp_path: Path) -> None:
    room = ArrivingRoom()
    place = tmp_path / "1"
    place.mkdir()
    room.take(str(place), 6 * MIB, "web")
    (place / "disk.0").write_bytes(b"x" * 5 * MIB)
    free[0] = 5
    room.take(str(tmp_path / "2"), 3 * MIB, "db")
    with pytest.raises(NoSpace):
        room.take(str(tmp_path / "3"), 3 * MIB, "cache")


def test_what_is_written_into_directories_is_not_counted_twice(free: list[int], tmp_path: Path) -> None:
    """As a root is that has come already."""
    room = ArrivingRoom()
    place = tmp_path / "1"
    (place / "images" / "private" / "srv").mkdir(parents=True)
    room.take(str(place), 6 * MIB, "web")
    (place / "images" / "private" / "srv" / "file").write_bytes(b"x" * 5 * MIB)
    (place / "away").symlink_to(tmp_path)
    free[0] = 5
    room.take(str(tmp_path / "2"), 3 * MIB, "db")
    with pytest.raises(NoSpace):
        room.take(str(tmp_path / "3"), 3 * MIB, "cache")


def test_one_that_has_come_holds_nothing(free: list[int], tmp_path: Path) -> None:
    room = ArrivingRoom()
    room.take(str(tmp_path / "1"), 10 * MIB, "web")
    room.give_back(str(tmp_path / "1"))
    room.give_back(str(tmp_path / "1"))
    room.take(str(tmp_path / "2"), 10 * MIB, "db")


# -- sizes ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [0, MIB, 2 * MIB])
def test_a_disk_that_is_no_larger_than_planned(size: int) -> None:
    refuse_larger(vm(Disk(0, "vda", size=2)), {0: size}, lambda _disk: "", "it")


def test_a_disk_that_is_larger_than_planned() -> None:
    with pytest.raises(Conflict) as refused:
        refuse_larger(vm(Disk(0, "vda", size=2)), {0: 2 * MIB + 512}, lambda _disk: "", "it")
    assert refused.value.found == "its disk 0 has 2.0 MiB on its host, and 2.0 by its plan"
    assert "SIZE = 3 in its template" in refused.value.remedy


def test_a_disk_without_a_size_is_as_its_image(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(MIB))
    disk = Disk(0, "vda", source=str(image))
    refuse_larger(vm(disk), {0: MIB}, lambda each: each.source, "it")
    with pytest.raises(Conflict):
        refuse_larger(vm(disk), {0: MIB + 1}, lambda each: each.source, "it")
    # Of one that is neither, nothing is known.
    refuse_larger(vm(Disk(0, "vda")), {0: MIB}, lambda _disk: "", "it")


def offered(length: int = 0, taken: int = 0) -> dict[int, dict[str, int]]:
    return {0: {"size": 64 * MIB, "length": length, "bytes": taken}}


@pytest.mark.parametrize(("format_", "snapshots", "most"), [("raw", 0, 80), ("qcow2", 0, 160), ("qcow2", 2, 320)])
def test_a_file_has_no_more_than_its_disk_and_its_snapshots(format_: str, snapshots: int, most: int) -> None:
    """Else whoever has power over the old host could have all of the room here."""
    files = {0: DiskFiles("/d/disk.0", format_)}
    machine = vm(Disk(0, "vda", size=64, snapshots=(Snapshot(1, "a"), Snapshot(2, "b"))[:snapshots]))
    refuse_longer(machine, files, offered(most * MIB), "it")
    with pytest.raises(Conflict) as refused:
        refuse_longer(machine, files, offered(most * MIB + 1), "it")
    assert refused.value.found.endswith(f"MiB on its host; one of a disk of 64.0 MiB has {most}.0 at most")
    # What it takes there may be more on that file system, or nothing but a word.
    assert needed_room(machine, files, offered(taken=5 * MIB)) == 5 * MIB
    assert needed_room(machine, files, offered(taken=1 << 49)) == most * MIB
    root = {"size": 0, "length": 0, "bytes": 1 << 40}
    assert needed_room(machine, files, {**offered(taken=5 * MIB), 1: root}) == (1 << 40) + 5 * MIB


def test_encrypted_disks_are_not_copied_while_their_machine_runs() -> None:
    machine = vm(Disk(0, "vda"), Disk(1, "vdb", luks_secret="u"))
    refuse_encrypted_copies(machine, (0,), "it")
    refuse_encrypted_copies(machine, (), "it")
    with pytest.raises(Unsupported, match="its disk 1 is encrypted"):
        refuse_encrypted_copies(machine, (0, 1), "it")


def test_a_guest_that_still_runs_may_fill_its_disk() -> None:
    """Of a raw file it changes no length."""
    assert longest_file(DiskFiles("d", "raw"), 64 * MIB, 64 * MIB) == 64 * MIB
    assert longest_file(DiskFiles("d", "qcow2"), 64 * MIB, MIB) >= 64 * MIB + MIB
