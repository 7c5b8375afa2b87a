# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers are files without a name. What a whole installation makes of it: test_steps_life.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.install.make_media import _unnamed


def test_content_is_read_by_a_path_and_leaves_no_name(tmp_path: Path) -> None:
    with _unnamed(str(tmp_path), [b"an", b"swers"]) as path:
        assert Path(path).read_bytes() == b"answers"
        assert os.listdir(tmp_path) == []
    with pytest.raises(OSError):
        Path(path).read_bytes()


def test_content_may_write_itself(tmp_path: Path) -> None:
    with _unnamed(str(tmp_path), lambda file: file.write(b"itself")) as path:
        assert Path(path).read_bytes() == b"itself"
