# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Marks of containers that stand still for a move."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from openvz_host import CTID, Host

from ansible_collections.nebula.provision.plugins.module_utils.errors import NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.openvz import moving_marks


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def test_a_mark_is_there_until_it_is_removed(host: Host) -> None:
    assert moving_marks.read(CTID) == ""
    for stage in (moving_marks.LEAVING, moving_marks.LEFT, moving_marks.COMING):
        moving_marks.write(CTID, stage)
        assert moving_marks.read(CTID) == stage and moving_marks.read(CTID + 1) == ""
    (path,) = (host.etc / "conf").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    moving_marks.remove(CTID)
    moving_marks.remove(CTID)
    assert moving_marks.read(CTID) == "" and not path.exists()


def test_what_is_no_mark_is_not_taken_for_none(host: Host, tmp_path: Path) -> None:
    moving_marks.write(CTID, moving_marks.LEFT)
    (path,) = (host.etc / "conf").iterdir()
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").write_text("left\n", encoding="ascii")
    with pytest.raises(NebulaError):
        moving_marks.read(CTID)
