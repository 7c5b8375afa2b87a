# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files for the tests of what reads and writes disks."""

from __future__ import annotations

import os
import shlex
import shutil
import struct
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.storage.qemu_img import MIB

needs_qemu_img = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="program qemu-img is not on this host")


@pytest.fixture
def no_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may not give files away."""
    monkeypatch.setattr(os, "chown", lambda *_arguments: None)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The directory of a datastore."""
    path = tmp_path / "datastores" / "1"
    path.mkdir(parents=True)
    return path


def write_qcow2(path: Path, backing: str = "", crypt: int = 0, incompatible: int = 0, version: int = 3) -> Path:
    """A file of 512 bytes and the name of what it rests on that begins as a qcow2 of 1 MiB."""
    name = backing.encode()
    head = b"QFI\xfb" + struct.pack(">IQIIQI", version, 512 if name else 0, len(name), 16, 1 << 20, crypt)
    path.write_bytes((head.ljust(72, b"\0") + struct.pack(">Q", incompatible)).ljust(512, b"\0") + name)
    return path


def qcow2(
    version: int = 3,
    backing: int = 0,
    backing_length: int = 0,
    size: int = 8 * MIB,
    crypt: int = 0,
    incompatible: int = 0,
) -> bytes:
    """The header of a qcow2 file, as QEMU's docs/interop/qcow2.txt lays it out, without any table."""
    head = b"QFI\xfb" + struct.pack(">IQIIQI", version, backing, backing_length, 16, size, crypt)
    head += bytes(72 - len(head))
    return head + struct.pack(">Q", incompatible) + bytes(24)


@pytest.fixture
def disk(tmp_path: Path):
    def make(content: bytes, name: str = "disk") -> str:
        path = tmp_path / name
        path.write_bytes(content)
        return str(path)

    return make


class Program:
    """A qemu-img that is found before the real one: it writes down what it is told, and answers as a test says."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        path = place / "qemu-img"
        path.write_text(
            f"#!/bin/sh\ncd {place}\n"
            "for word; do printf '%s\\n' \"$word\"; done > told\n"
            'while read -r line || [ "$line" ]; do printf \'%s\' "$line"; done > input\n'
            'echo . >> times\n[ -e answer ] && . ./answer\n[ -e "answer-$1" ] && . "./answer-$1"\nexit 0\n'
        )
        path.chmod(0o755)

    def answers(self, out: str = "", err: str = "", code: int = 0, verb: str = "", times: int = 0) -> None:
        """verb: of this command only. times: so often, and well from then on."""
        say = f"printf '%s' {shlex.quote(out)}\nprintf '%s' {shlex.quote(err)} >&2\nexit {code}\n"
        if times:
            say = f"echo . >> tries\nset -- $(cat tries)\n[ $# -gt {times} ] && exit 0\n{say}"
        (self.place / (f"answer-{verb}" if verb else "answer")).write_text(say)

    @property
    def told(self) -> list[str]:
        return (self.place / "told").read_text().splitlines()

    @property
    def input(self) -> str:
        return (self.place / "input").read_text()

    @property
    def times(self) -> int:
        return len((self.place / "times").read_text().split())


@pytest.fixture
def qemu_img(tmp_path, monkeypatch):
    program = Program(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{program.place}:{os.environ['PATH']}")
    return program
