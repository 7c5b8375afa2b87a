# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manifests are taken for what strangers wrote: the typed door lets through what is within bounds, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hostile import fuzzed
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import CatalogError, NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import (
    CRASH_CONSISTENT,
    FULL,
    INCREMENTAL,
    LUKS,
    BackedUpDisk,
    MachineBackup,
    StoredFile,
)
from ansible_collections.nebula.provision.plugins.module_utils.storage import backup_manifests

CATALOG = "0a6f3c22-91c3-4d3f-8b58-0d1f0e2ac001"
FIRST, SECOND = "20260101T000000Z-00000a", "20260102T000000Z-00000b"


def stored(name: str) -> StoredFile:
    return StoredFile(name, 3, "0" * 64)


def manifest(id: str = FIRST, parent: str = "", **changes: Any) -> MachineBackup:
    below = f"{parent}.disk.0.qcow2" if parent else ""
    disk = BackedUpDisk(0, "vda", "qcow2", 1024, stored(f"{id}.disk.0.qcow2"), below=below)
    kind = INCREMENTAL if parent else FULL
    found = MachineBackup(
        id, CATALOG, 7, "", "web", "node1", "kvm", 5, kind, "RUNNING", CRASH_CONSISTENT, "", (disk,), parent=parent
    )
    return replace(found, **changes)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    disk = BackedUpDisk(0, "vda", "qcow2", 1024, stored(f"{FIRST}.disk.0.luks"), LUKS)
    files = {"nvram": stored(f"{FIRST}.nvram")}
    found = manifest(files=files, secrets_file=stored(f"{FIRST}.secrets.luks"), disks=(disk,), encrypted=True)
    found = backup_manifests.sealed(found, "a key", CATALOG)
    path = tmp_path / f"{FIRST}.json"
    path.write_text(backup_manifests.text_of(found))
    assert backup_manifests.read(str(path), 7, CATALOG) == found
    assert [file.name for file in backup_manifests.files_of(found)] == [
        f"{FIRST}.disk.0.luks", f"{FIRST}.nvram", f"{FIRST}.secrets.luks",
    ]  # fmt: skip
    path.rename(tmp_path / f"{SECOND}.json")
    with pytest.raises(CatalogError, match="called otherwise"):
        backup_manifests.read(str(tmp_path / f"{SECOND}.json"), 7, CATALOG)


@pytest.mark.parametrize("name", ["json", "disk", "root", "secrets", "notes"])
def test_a_further_file_is_one_that_machines_have(name: str) -> None:
    assert not backup_manifests.fault(manifest(files={"tpm": stored(f"{FIRST}.tpm")}), 7, CATALOG)
    assert f"file '{name}'" in backup_manifests.fault(manifest(files={name: stored(f"{FIRST}.{name}")}), 7, CATALOG)


def test_what_a_key_opens_is_sealed() -> None:
    container = BackedUpDisk(0, "vda", "qcow2", 1024, stored(f"{FIRST}.disk.0.luks"), LUKS)
    root = BackedUpDisk(1, "vdb", "tar", 0, stored(f"{FIRST}.root.1.tar.luks"), "tar")
    secrets = stored(f"{FIRST}.secrets.luks")
    plain = manifest().disks[0]
    for changes in ({"disks": (container,)}, {"disks": (root,)}, {"secrets_file": secrets}):
        assert "not encrypted, and a file" in backup_manifests.fault(manifest(**changes), 7, CATALOG)
        found = backup_manifests.fault(manifest(**{"disks": (), **changes, "encrypted": True}), 7, CATALOG)
        assert found == "it is encrypted, and its seal is missing"
    mixed = manifest(disks=(container, replace(plain, disk_id=2)), encrypted=True, seal="0" * 64)
    assert "a file of it is otherwise" in backup_manifests.fault(
        replace(mixed, disks=(container, replace(plain, disk_id=2, file=stored(f"{FIRST}.disk.2.qcow2")))), 7, CATALOG
    )
    assert not backup_manifests.fault(replace(mixed, disks=(container, root)), 7, CATALOG)


def test_order_is_by_time_and_by_what_rests_on_what() -> None:
    ids = [f"20260101T00000{n}Z-000000" for n in range(5)]
    first = manifest(ids[4], time=10)
    ahead = manifest(ids[3], ids[4], time=9000)
    last, late = manifest(ids[2], ids[3], time=11), manifest(ids[1], ids[2], time=11)
    wrong = manifest(ids[0], time=9000)
    found = backup_manifests.in_order([late, last, wrong, ahead, first], 100)
    assert found == [wrong, first, ahead, last, late]
    circle = [manifest(ids[0], ids[1]), manifest(ids[1], ids[0])]
    assert len(backup_manifests.in_order(circle, 100)) == 2


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', "NaN", "[" * 100_000, '{"format": 1, "id": 5}'])
def test_what_is_no_manifest(text: str, tmp_path: Path) -> None:
    path = tmp_path / f"{FIRST}.json"
    path.write_text(text)
    with pytest.raises(CatalogError, match=FIRST):
        backup_manifests.read(str(path), 7, CATALOG)


@fuzzed(150)
@given(st.data())
def test_any_value_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    plain: dict[str, Any] = json.loads(json.dumps(to_plain(manifest(SECOND, FIRST))))
    place: Any = data.draw(st.sampled_from([plain, plain["disks"][0], plain["disks"][0]["file"]]))
    value = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=9), st.just("../x"), st.just([]))
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(value)
    path = tmp_path_factory.getbasetemp() / f"{SECOND}.json"
    path.write_text(json.dumps(plain))
    try:
        found = backup_manifests.read(str(path), 7, CATALOG)
    except NebulaError as error:
        assert isinstance(error, CatalogError)
        return
    for file in backup_manifests.files_of(found):
        assert file.name.startswith(f"{SECOND}.") and "/" not in file.name
    assert found.disks[0].below in ("", f"{FIRST}.disk.0.qcow2") if found.disks else True


def test_what_rests_on_what() -> None:
    first, second = manifest(), manifest(SECOND, FIRST)
    known = {FIRST: first, SECOND: second}
    assert backup_manifests.lineage(second, known) == [second, first]
    for below, text in (
        (None, "is missing"),
        (replace(first, disks=()), "does not fit"),
        (replace(first, disks=(replace(first.disks[0], size=2048),)), "does not fit"),
        (replace(first, disks=(replace(first.disks[0], stored="luks"),)), "does not fit"),
        (manifest(FIRST, SECOND), "rests on itself"),
    ):
        with pytest.raises(CatalogError, match=text):
            backup_manifests.lineage(second, {SECOND: second, **({FIRST: below} if below else {})})
    with pytest.raises(CatalogError, match="is sealed by a key"):
        backup_manifests.lineage(replace(second, seal="0" * 64), known)


def test_a_seal() -> None:
    sealed = backup_manifests.sealed(manifest(), "a key", CATALOG)
    assert backup_manifests.same_key([sealed, manifest()], "a key", CATALOG)
    assert not backup_manifests.same_key([sealed], "another", CATALOG)
    assert backup_manifests.sealed(sealed, "a key", CATALOG) == sealed


def test_files_that_are_not_there(tmp_path: Path) -> None:
    found = manifest()
    path = tmp_path / found.disks[0].file.name
    assert "not there" in str(backup_manifests.missing_file(str(tmp_path), found))
    path.write_bytes(b"1234")
    assert "4 bytes, and had 3" in str(backup_manifests.missing_file(str(tmp_path), found))
    path.write_bytes(b"123")
    assert backup_manifests.missing_file(str(tmp_path), found) is None
    path.rename(tmp_path / "x")
    path.symlink_to(tmp_path / "x")
    assert "no regular file" in str(backup_manifests.missing_file(str(tmp_path), found))
