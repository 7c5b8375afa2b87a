# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bounds of secrets. tests/integration/test_backup_chains.py stores and reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import ImageRefused
from ansible_collections.nebula.provision.plugins.module_utils.storage import backup_files, backup_secrets


def test_too_many_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ImageRefused, match="bytes"):
        backup_secrets.store_secrets(str(tmp_path), "x", {"a": "b" * backup_secrets.LONGEST}, "key")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": 1}', b"\xff"])
def test_what_holds_no_secrets(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup_files, "decrypted", lambda *_arguments: content)
    with pytest.raises(ImageRefused, match="holds no secrets"):
        backup_secrets.read_secrets("/nowhere", "x", "key")
