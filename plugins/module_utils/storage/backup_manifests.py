# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads manifests of backups of machines, which anybody could have written: each value is within its bounds, each file
is one of the backup's own, and what a key sealed was not altered."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from ..dataclass import replace
from ..errors import CatalogError, ImageRefused, InvalidValue, NebulaError
from ..host.files import read_limited
from ..model.dataclass_json import from_plain, json_value, to_plain
from ..model.disk import DISK_FORMATS, TAR
from ..model.machine_backup import (
    CRASH_CONSISTENT,
    FORMAT,
    FROZEN,
    FULL,
    FURTHER_FILES,
    INCREMENTAL,
    LUKS,
    OFF,
    QCOW2,
    STOOD_STILL,
    BackedUpDisk,
    MachineBackup,
    StoredFile,
)
from ..model.machine_backup import TAR as STORED_TAR

MANIFEST = ".json"
ID = r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}"
# Bytes of a manifest, of a disk, and of a file.
LONGEST, LARGEST_DISK, LARGEST_FILE = 4 << 20, 1 << 46, 1 << 50
_MOST_DISKS, _LONGEST_TEXT, _MOST_TEXTS = 256, 4000, 4096
_LATEST = 1 << 37
_PARTS = {
    QCOW2: re.compile(r"disk\.[0-9]{1,4}\.qcow2"),
    LUKS: re.compile(r"disk\.[0-9]{1,4}\.luks"),
    STORED_TAR: re.compile(r"root\.[0-9]{1,4}\.tar(\.zst)?(\.luks)?"),
}
CONTAINER = ".luks"
SECRETS = f"secrets{CONTAINER}"
_PATTERNS = {
    "id": re.compile(ID),
    "parent": re.compile(rf"({ID})?"),
    "uuid": re.compile(r"[0-9A-Za-z.-]{0,64}"),
    "checkpoint": re.compile(r"[A-Za-z0-9.-]{0,128}"),
    "hypervisor": re.compile(r"[a-z]{1,16}"),
    "kind": re.compile(rf"{FULL}|{INCREMENTAL}"),
    "consistency": re.compile(f"{OFF}|{FROZEN}|{CRASH_CONSISTENT}|{STOOD_STILL}"),
    "seal": re.compile(r"([0-9a-f]{64})?"),
}
_SHA256, _TARGET = re.compile(r"[0-9a-f]{64}"), re.compile(r"[A-Za-z0-9/._-]{0,255}")
_REMEDY = "It was altered or damaged: use another backup, and see who can write there"
UNSEALED_REMEDY = "Name another backup, or leave the key out to restore what is plain"
# What takes as long as this to guess at is nothing that a manifest makes easier to guess.
_SCRYPT = {"n": 1 << 14, "r": 8, "p": 1, "dklen": 32}


def read(path: str, vm_id: int, catalog: str) -> MachineBackup:
    """Return what a manifest of this machine says. Raise CatalogError where it can't be read, or says what none of ours
    does."""
    try:
        data = json_value(read_limited(path, LONGEST, follow=False).decode())
        if isinstance(data, dict) and data.get("format") != FORMAT:
            raise CatalogError(
                f"manifest {path}", f"its format is {str(data.get('format'))[:20]}", "Use the version that wrote it"
            )
        manifest = from_plain(MachineBackup, data)
        found = fault(manifest, vm_id, catalog)
        if not found and os.path.basename(path) != manifest.id + MANIFEST:
            found = "it is called otherwise than its backup"
    except (ValueError, InvalidValue) as error:
        found = f"{error.asked}: {error.found}" if isinstance(error, NebulaError) else str(error)
        raise CatalogError(f"manifest {path}", f"it can't be read: {found}", _REMEDY) from error
    if found:
        raise CatalogError(f"manifest {path}", found, _REMEDY)
    return manifest


def text_of(manifest: MachineBackup) -> str:
    return json.dumps(to_plain(manifest), indent=1, sort_keys=True) + "\n"


def files_of(manifest: MachineBackup) -> list[StoredFile]:
    """Return all files of a backup beside its manifest."""
    more = [manifest.secrets_file] if manifest.secrets_file else []
    return [*(disk.file for disk in manifest.disks), *manifest.files.values(), *more]


def fault(manifest: MachineBackup, vm_id: int, catalog: str) -> str:
    """Return what is wrong with a manifest of this machine by itself; "" if nothing is."""
    found = next(_faults(manifest), "")
    if not found and (manifest.vm_id, manifest.catalog) != (vm_id, catalog):
        found = "it is of another machine than its directory"
    return found


def _faults(manifest: MachineBackup) -> Iterator[str]:
    """Yield what is wrong with a manifest by itself."""
    for name, pattern in _PATTERNS.items():
        if not pattern.fullmatch(getattr(manifest, name)):
            yield f"{name} is {getattr(manifest, name)[:80]!r}"
    if (manifest.kind == INCREMENTAL) != bool(manifest.parent) or manifest.parent == manifest.id:
        yield f"it is {manifest.kind}, and its parent is {manifest.parent!r}"
    if not 0 <= manifest.time < _LATEST:
        yield f"its time is {manifest.time}"
    texts = (
        *(manifest.name, manifest.host, manifest.owner, manifest.state, manifest.way, manifest.reason),
        *manifest.left_out,
        *manifest.secrets,
        *(each for pair in manifest.unchanged.items() for each in pair),
    )
    if len(texts) > _MOST_TEXTS or any(len(text) > _LONGEST_TEXT for text in (*texts, *manifest.by_hand)):
        yield "it holds a text that is too long, or too many"
    yield from _faults_of_disks(manifest)
    yield from _faults_of_files(manifest)
    yield from _faults_of_encryption(manifest)


def _faults_of_disks(manifest: MachineBackup) -> Iterator[str]:
    if len(manifest.disks) > _MOST_DISKS or len({disk.disk_id for disk in manifest.disks}) != len(manifest.disks):
        yield "it has too many disks, or one of them twice"
    for disk in manifest.disks:
        what = f"disk {disk.disk_id}"
        kind = "root" if disk.stored == STORED_TAR else "disk"
        begins = f"{kind}.{disk.disk_id}."
        part = _part(manifest.id, disk.file.name)
        if disk.stored not in _PARTS or not _PARTS[disk.stored].fullmatch(part) or not part.startswith(begins):
            yield f"the file of {what} is {disk.file.name[:80]!r}"
        if disk.below and disk.below != disk.file.name.replace(manifest.id, manifest.parent, 1):
            yield f"{what} rests on {disk.below[:80]!r}"
        if disk.below and (not manifest.parent or disk.stored == STORED_TAR):
            yield f"{what} rests on another file"
        if not 0 <= disk.size <= LARGEST_DISK or disk.format not in DISK_FORMATS + (TAR,):
            yield f"{what} has {disk.size} bytes, and format {disk.format[:20]!r}"
        if not _TARGET.fullmatch(disk.target) or len(disk.image) > _LONGEST_TEXT:
            yield f"{what} is {disk.target[:80]!r}"


def _faults_of_encryption(manifest: MachineBackup) -> Iterator[str]:
    """Yield where a manifest is without the seal that all have which name what a key opens: without it, anybody could
    have others' containers opened."""
    encrypted = [disk.stored == LUKS or disk.file.name.endswith(CONTAINER) for disk in manifest.disks]
    others = [file for file in files_of(manifest) if file.name.endswith(CONTAINER)]
    if any(each != manifest.encrypted for each in encrypted) or (others and not manifest.encrypted):
        yield f"it is {'' if manifest.encrypted else 'not '}encrypted, and a file of it is otherwise"
    if manifest.encrypted and not manifest.seal:
        yield "it is encrypted, and its seal is missing"


def _faults_of_files(manifest: MachineBackup) -> Iterator[str]:
    for what, file in manifest.files.items():
        if what not in FURTHER_FILES or _part(manifest.id, file.name) not in (what, what + CONTAINER):
            yield f"file {what[:80]!r} is {file.name[:80]!r}"
    if manifest.secrets_file and _part(manifest.id, manifest.secrets_file.name) != SECRETS:
        yield f"the file of its secrets is {manifest.secrets_file.name[:80]!r}"
    for file in files_of(manifest):
        sizes = 0 <= file.size <= LARGEST_FILE and 0 <= file.holds <= file.size
        if not sizes or not _SHA256.fullmatch(file.sha256):
            yield f"file {file.name[:80]!r} has {file.size} bytes, and SHA-256 {file.sha256[:80]!r}"


def _part(id: str, name: str) -> str:
    """Return what a file's name has behind the backup's id; "" if it does not begin so."""
    return name[len(id) + 1 :] if name.startswith(id + ".") else ""


# -- what lies there, and what rests on what ---------------------------------------------------------------------------


def missing_file(directory: str, manifest: MachineBackup) -> NebulaError | None:
    """Return the error for the first file that is not there, is no file, or has another size; None if all are right."""
    for file in files_of(manifest):
        path = os.path.join(directory, file.name)
        what = f"backup {manifest.id}: file {path}"
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return CatalogError(what, "it is not there", "Bring it back, or use another backup")
        except OSError as error:
            return CatalogError(what, error.strerror or str(error), "Use another backup")
        if not stat.S_ISREG(found.st_mode):
            return CatalogError(what, "it is no regular file", _REMEDY)
        if found.st_size != file.size:
            return CatalogError(what, f"it has {found.st_size} bytes, and had {file.size}", _REMEDY)
    return None


def in_order(manifests: Sequence[MachineBackup], until: int) -> list[MachineBackup]:
    """Return them, the oldest first, and each behind that on which it rests.
    until: a time that is later is of a clock that was wrong, and says nothing"""
    known = {each.id: each for each in manifests}

    def place(manifest: MachineBackup) -> tuple[int, int, str]:
        time, ids, above = 0, {manifest.id}, manifest
        while True:
            time = max(time, above.time if above.time <= until else 0)
            if above.parent not in known or above.parent in ids:
                return time, len(ids), manifest.id
            above = known[above.parent]
            ids.add(above.id)

    return sorted(manifests, key=place)


def lineage(manifest: MachineBackup, known: Mapping[str, MachineBackup]) -> list[MachineBackup]:
    """Return a backup and all on which it rests, the newest first. Raise CatalogError where one is missing, or does not
    fit the one above."""
    found, ids = [manifest], {manifest.id}
    while found[-1].parent:
        above = found[-1]
        asked = f"backup {manifest.id}"
        below = known.get(above.parent)
        if below is None:
            raise CatalogError(
                asked, f"it rests on {above.parent}, which is missing or can't be read", "Use another backup"
            )
        if below.id in ids:
            raise CatalogError(asked, f"it rests on itself, by way of {below.id}", _REMEDY)
        for disk in above.disks:
            _refuse_other_disk(asked, disk, below)
        if above.seal and not below.seal:
            raise CatalogError(asked, f"it is sealed by a key, and {below.id}, on which it rests, is not", _REMEDY)
        found.append(below)
        ids.add(below.id)
    return found


def _refuse_other_disk(asked: str, disk: BackedUpDisk, below: MachineBackup) -> None:
    if not disk.below:
        return
    for other in below.disks:
        if other.disk_id == disk.disk_id and other.file.name == disk.below:
            if other.stored != disk.stored or other.size > disk.size:
                break
            return
    raise CatalogError(asked, f"its disk {disk.disk_id} does not fit that of {below.id}, on which it rests", _REMEDY)


# -- the seal ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def _seal_key(key: str, uuid: str) -> bytes:
    return hashlib.scrypt(key.encode(), salt=uuid.encode(), **_SCRYPT)


def sealed(manifest: MachineBackup, key: str, uuid: str) -> MachineBackup:
    """Return the manifest with its seal. uuid: of the place."""
    return replace(manifest, seal=_seal_of(manifest, key, uuid))


def _seal_of(manifest: MachineBackup, key: str, uuid: str) -> str:
    plain: dict[str, Any] = to_plain(replace(manifest, seal=""))
    return seal_of(plain, key, uuid)


def seal_of(plain: Mapping[str, Any], key: str, uuid: str) -> str:
    """Return the seal of something that is in a place. uuid: of the place."""
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hmac.new(_seal_key(key, uuid), text.encode(), hashlib.sha256).hexdigest()


def refuse_broken_seal(manifest: MachineBackup, key: str, uuid: str, path: str) -> None:
    """Raise ImageRefused where the manifest is not as this key sealed it. What is encrypted has a seal."""
    if not manifest.seal and not manifest.encrypted:
        return
    if not manifest.seal or not hmac.compare_digest(manifest.seal, _seal_of(manifest, key, uuid)):
        found = "its seal is not by this key" if manifest.seal else "its seal is missing"
        raise ImageRefused(
            f"manifest {path}",
            f"{found}: the key is another one, or the manifest was altered",
            "Give the key under which it was made (nebula_machine_backup_key); if it is, use another backup",
        )


def refuse_unsealed(manifest: MachineBackup, asked: str) -> None:
    """Raise ImageRefused for a backup that is not under the key which was given: of what is not sealed, nobody knows
    who wrote it."""
    if not manifest.seal or not manifest.encrypted:
        raise ImageRefused(asked, "a key was given, and it is not sealed", UNSEALED_REMEDY)


def same_key(manifests: Sequence[MachineBackup], key: str, uuid: str) -> bool:
    """Return whether all that are sealed were sealed with this key."""
    return all(not each.seal or hmac.compare_digest(each.seal, _seal_of(each, key, uuid)) for each in manifests)
