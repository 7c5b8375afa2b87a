# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that anything was written to is not blank. What a whole installation makes of it: test_steps_life.py."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.nebula.provision.plugins.module_utils.install.find_installations import _is_written
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image


def disk(path: Path, format: str = "raw") -> Image:
    return Image(1, "debian", source=str(path), format=format)


def test_a_disk_without_a_block_is_blank(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.truncate(1 << 20)
    assert not _is_written(disk(path))
    path.write_bytes(b"x" * 8192)
    assert _is_written(disk(path))
    # As much as that is in a blank one of this format.
    assert not _is_written(disk(path, "qcow2"))


def test_what_cannot_be_seen_is_not_thrown_away(tmp_path: Path) -> None:
    assert _is_written(disk(tmp_path / "none"))
