# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files with holes for zeroes, of blocks of any length."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import ImageRefused, NoSpace
from ansible_collections.nebula.provision.plugins.module_utils.storage import sparse_file
from ansible_collections.nebula.provision.plugins.module_utils.storage.sparse_file import CHUNK, MIB, SparseFile

CONTENT = b"begin" + bytes(3 * MIB) + b"end" * 1000 + bytes(2 * MIB)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "disk"
    made.touch()
    return made


@pytest.mark.parametrize("length", [7919, CHUNK, len(CONTENT)])
def test_blocks_of_any_length_make_the_same_file(path: Path, length: int) -> None:
    with SparseFile(str(path), "image x", 8 * MIB, hashed=True) as file:
        for start in range(0, len(CONTENT), length):
            file.write(CONTENT[start : start + length])
        digest = file.finish()
    assert path.read_bytes() == CONTENT and digest == hashlib.sha256(CONTENT).hexdigest()
    assert path.stat().st_blocks * 512 < 2 * MIB


def test_a_hash_that_is_not_wanted_is_none(path: Path) -> None:
    with SparseFile(str(path), "image x", MIB, hashed=False) as file:
        file.write(b"x")
        assert file.finish() == ""


def test_no_more_than_the_limit_is_written(path: Path) -> None:
    with SparseFile(str(path), "image x", MIB, hashed=False) as file, pytest.raises(ImageRefused, match="image x"):
        file.write(bytes(MIB + CHUNK))


def test_writing_ends_before_the_file_system_is_full(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse_file, "SPACE_CHECK", CHUNK)
    monkeypatch.setattr(sparse_file.datastore_layout, "free_space", lambda _path: 0)
    with SparseFile(str(path), "image x", 8 * MIB, hashed=False) as file, pytest.raises(NoSpace, match="is full"):
        file.write(b"x" * CHUNK)
