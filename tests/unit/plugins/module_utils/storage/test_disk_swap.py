# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""New disks take the places of old ones together, wherever a run ends."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject, NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.storage import disk_swap


def nothing(_path: str) -> None:
    pass


@pytest.fixture
def disks(tmp_path: Path) -> tuple[str, ...]:
    paths = tuple(str(tmp_path / name) for name in ("disk.0", "disk.1"))
    for path in paths:
        Path(path).write_text("old")
    return paths


def held(paths: tuple[str, ...]) -> list[str]:
    return [Path(path).read_text() for path in paths]


def test_all_are_new_at_the_end(tmp_path: Path, disks: tuple[str, ...]) -> None:
    seen = []
    with disk_swap.swapping(str(tmp_path), disks, True, lambda path: seen.append(Path(path).read_text())) as new:
        for path in new.values():
            Path(path).write_text("new")
        Path(disk_swap.state_path(str(tmp_path))).write_text("state")
        assert held(disks) == ["old", "old"]
    assert held(disks) == ["new", "new"] and seen == ["state"]
    assert sorted(os.listdir(tmp_path)) == ["disk.0", "disk.1"]
    assert not disk_swap.finish(str(tmp_path), nothing)


def test_an_error_leaves_the_old_ones(tmp_path: Path, disks: tuple[str, ...]) -> None:
    with pytest.raises(ZeroDivisionError), disk_swap.swapping(str(tmp_path), disks, False, nothing) as new:
        Path(new[disks[0]]).write_text("half")
        raise ZeroDivisionError
    assert held(disks) == ["old", "old"] and sorted(os.listdir(tmp_path)) == ["disk.0", "disk.1"]


@pytest.mark.parametrize("step", range(30))
def test_the_next_run_finishes_it(
    tmp_path: Path, disks: tuple[str, ...], step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after so many steps of any kind."""
    left = [step]

    def counted(function):
        def call(*arguments, **named):
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            return function(*arguments, **named)

        return call

    with monkeypatch.context() as patch:
        for name in ("rename", "link"):
            patch.setattr(disk_swap.os, name, counted(getattr(os, name)))
        for name in ("remove_file", "write_atomically", "sync_directory", "settle"):
            patch.setattr(disk_swap, name, counted(getattr(disk_swap, name)))
        try:
            with disk_swap.swapping(str(tmp_path), disks, False, nothing) as new:
                for path in new.values():
                    Path(path).write_text("new")
        except KeyboardInterrupt:
            pass
    disk_swap.finish(str(tmp_path), nothing)
    assert held(disks) in (["old", "old"], ["new", "new"])
    assert sorted(os.listdir(tmp_path)) == ["disk.0", "disk.1"]


def test_a_rename_that_fails_brings_all_old_ones_back(
    tmp_path: Path, disks: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def refused(source: str, target: str) -> None:
        if target == disks[1] and source.endswith(disk_swap.NEW):
            raise PermissionError(1, "Operation not permitted", target)
        rename(source, target)

    monkeypatch.setattr(disk_swap.os, "rename", refused)
    with pytest.raises(NebulaError), disk_swap.swapping(str(tmp_path), disks, False, nothing) as new:
        for path in new.values():
            Path(path).write_text("new")
    assert held(disks) == ["old", "old"] and sorted(os.listdir(tmp_path)) == ["disk.0", "disk.1"]


def test_a_journal_of_somebody_else_is_refused(tmp_path: Path) -> None:
    for text in ("", "[]", '{"stage": "forth", "paths": ["../x"]}', '{"stage": "x", "paths": []}'):
        (tmp_path / disk_swap.JOURNAL).write_text(text)
        with pytest.raises(ForeignObject):
            disk_swap.finish(str(tmp_path), nothing)
