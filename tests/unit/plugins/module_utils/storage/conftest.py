# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files for the tests of what reads and writes disks."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

import pytest

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
