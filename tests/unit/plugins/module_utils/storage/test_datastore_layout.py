# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories of ours are passable and closed; those that somebody else made stay as they are."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.storage.datastore_layout import (
    numbers,
    prepare_directories,
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_missing_root_is_made(tmp_path: Path) -> None:
    root = tmp_path / "a" / "nebula"
    assert prepare_directories(str(root)) and not prepare_directories(str(root))
    assert [mode(path) for path in (root, root / "datastores", root / "datastores/1")] == [0o711] * 3


def test_a_datastore_is_a_directory_with_an_id_for_a_name(tmp_path: Path) -> None:
    for name in ("0", "100", "\u00b2", "9" * 200, "007", "old"):
        (tmp_path / "datastores" / name).mkdir(parents=True)
    assert numbers(str(tmp_path)) == [0, 100]
    assert numbers(str(tmp_path / "none")) == []


@pytest.mark.parametrize("found", [0o755, 0o1770, 0o750])
def test_a_directory_that_was_there_keeps_its_mode(tmp_path: Path, found: int) -> None:
    tmp_path.chmod(found)
    prepare_directories(str(tmp_path))
    assert mode(tmp_path) == found


def test_what_a_killed_run_left_is_finished(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    prepare_directories(str(tmp_path))
    assert mode(tmp_path) == 0o711
