# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups of machines made by hand with qemu-img and qemu-io, as those that restoring has to understand.

place = MadeBackups(tmp_path / "backups")
first = place.full(vm_id=7, catalog=catalog, disks={0: content})
second = place.incremental(first, {0: [(65536, b"new")]})"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import (
    FULL,
    INCREMENTAL,
    LUKS,
    OFF,
    QCOW2,
    BackedUpDisk,
    MachineBackup,
    StoredFile,
)

MARK = "nebula-machine-backups.json"
UUID = "11111111-2222-4333-8444-555555555555"
Writes = Sequence[tuple[int, bytes]]


class MadeBackups:
    def __init__(self, directory: Path, key: str = "") -> None:
        self.directory, self.key = directory, key
        self.count = 0
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (directory / MARK).write_text(json.dumps({"format": 1, "uuid": UUID}), encoding="ascii")

    def place(self, backup: MachineBackup) -> Path:
        return self.directory / f"{backup.vm_id}-{backup.catalog}"

    def _id(self) -> str:
        self.count += 1
        return f"20261130T04{self.count:02d}00Z-{self.count:06x}"

    def full(
        self,
        vm_id: int,
        catalog: str,
        disks: Mapping[int, bytes],
        format: str = "qcow2",
        files: Mapping[str, bytes] | None = None,
        secrets: Mapping[str, str] | None = None,
        images: Mapping[int, str] | None = None,
        **changes: Any,
    ) -> MachineBackup:
        made = MachineBackup(
            id=self._id(), catalog=catalog, vm_id=vm_id, uuid="", name=f"web-{vm_id}", host="node", hypervisor="kvm",
            time=1796000000 + 60 * self.count, kind=FULL, state="POWEROFF", consistency=OFF, way="by hand", disks=(),
            encrypted=bool(self.key),
        )  # fmt: skip
        made = replace(made, **changes)
        place = self.place(made)
        place.mkdir(mode=0o700, exist_ok=True)
        made = replace(
            made, disks=tuple(self._disk(place, made.id, n, content, format, made) for n, content in disks.items())
        )
        named = images or {}
        made = replace(made, disks=tuple(replace(disk, image=named.get(disk.disk_id, "")) for disk in made.disks))
        for what, content in (files or {}).items():
            (place / f"{made.id}.{what}").write_bytes(content)
            made = replace(made, files={**made.files, what: stored(place / f"{made.id}.{what}")})
        if secrets:
            made = replace(made, secrets=tuple(secrets))
            if self.key:
                path = place / f"{made.id}.secrets.luks"
                self._luks(json.dumps(secrets).encode(), path)
                made = replace(made, secrets_file=stored(path))
        return self.write(made)

    def _disk(
        self, place: Path, id: str, number: int, content: bytes, format: str, made: MachineBackup
    ) -> BackedUpDisk:
        suffix = "luks" if self.key else "qcow2"
        path = place / f"{id}.disk.{number}.{suffix}"
        with tempfile.TemporaryDirectory() as directory:
            raw, plain = Path(directory, "raw"), Path(directory, "plain.qcow2")
            raw.write_bytes(content)
            _run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, plain)
            self._contain(plain, path)
        return BackedUpDisk(
            number, f"vd{chr(97 + number)}", format, len(content), stored(path), LUKS if self.key else QCOW2
        )

    def _contain(self, plain: Path, path: Path) -> None:
        if self.key:
            self._luks(plain.read_bytes(), path)
        else:
            path.write_bytes(plain.read_bytes())

    def _luks(self, content: bytes, path: Path) -> None:
        with tempfile.TemporaryDirectory() as directory:
            inner, key = Path(directory, "inner"), Path(directory, "key")
            inner.write_bytes(content.ljust(-(-len(content) // 512) * 512, b"\0"))
            key.write_text(self.key, encoding="utf-8")
            for _attempt in range(20):
                done = subprocess.run(
                    [
                        *("qemu-img", "convert", "-f", "raw", "-O", "luks", "--object", f"secret,id=k,file={key}"),
                        *("-o", "key-secret=k,iter-time=50", inner, path),
                    ],
                    check=False,
                    capture_output=True,
                )
                if done.returncode == 0:
                    return
            raise AssertionError(done.stderr)

    def incremental(self, parent: MachineBackup, writes: Mapping[int, Writes], **changes: Any) -> MachineBackup:
        place, id = self.place(parent), self._id()
        disks = []
        for disk in parent.disks:
            path = place / disk.file.name.replace(parent.id, id)
            with tempfile.TemporaryDirectory() as directory:
                plain = Path(directory, "plain.qcow2")
                _run("qemu-img", "create", "-q", "-f", "qcow2", plain, disk.size)
                write(plain, writes.get(disk.disk_id, ()))
                if not self.key:
                    _run("qemu-img", "rebase", "-u", "-F", "qcow2", "-b", disk.file.name, plain)
                self._contain(plain, path)
            disks.append(replace(disk, file=stored(path), below=disk.file.name))
        made = replace(
            parent, id=id, kind=INCREMENTAL, parent=parent.id, disks=tuple(disks), time=parent.time + 60, **changes
        )
        return self.write(made)

    def write(self, backup: MachineBackup) -> MachineBackup:
        backup = replace(backup, seal="")
        if self.key:
            salted = hashlib.scrypt(self.key.encode(), salt=UUID.encode(), n=1 << 14, r=8, p=1, dklen=32)
            text = json.dumps(to_plain(backup), sort_keys=True, separators=(",", ":"))
            backup = replace(backup, seal=hmac.new(salted, text.encode(), hashlib.sha256).hexdigest())
        text = json.dumps(to_plain(backup))
        (self.place(backup) / f"{backup.id}.json").write_text(text, encoding="utf-8")
        return backup


def stored(path: Path) -> StoredFile:
    content = path.read_bytes()
    return StoredFile(path.name, len(content), hashlib.sha256(content).hexdigest())


def write(path: Path, writes: Writes, format: str = "qcow2") -> None:
    """Write to a disk that is off, at these places, whatever it rests on."""
    for offset, content in writes:
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            # A cluster of zeroes is one, and no hole.
            how = f"-s {file.name}" if any(content) else "-z"
            _run("qemu-io", "-f", format, "-c", f"write {how} {offset} {len(content)}", path)


def content_of(path: Path | str, format: str = "qcow2") -> bytes:
    """What a machine sees of a disk."""
    with tempfile.TemporaryDirectory() as directory:
        raw = Path(directory, "raw")
        _run("qemu-img", "convert", "-f", format, "-O", "raw", path, raw)
        return raw.read_bytes()


def random_content(size: int, seed: str, holes: bool = True) -> bytes:
    """Data without a pattern, with some holes in between."""
    blocks = []
    for number in range(size // 65536):
        if holes and number % 3 == 2:
            blocks.append(bytes(65536))
        else:
            start = hashlib.sha512(f"{seed} {number}".encode()).digest()
            blocks.append(start * (65536 // len(start)))
    return b"".join(blocks).ljust(size, b"\0")


def _run(*argv: object) -> str:
    done = subprocess.run([str(word) for word in argv], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextlib.contextmanager
def altered(path: Path, offset: int = 70000) -> Iterator[None]:
    """One byte of a file is another meanwhile."""
    before = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes([before[offset] ^ 1]))
    try:
        yield
    finally:
        path.write_bytes(before)
