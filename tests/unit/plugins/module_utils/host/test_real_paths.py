# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.host import real_paths


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there" / "below").mkdir(parents=True)
    (tmp_path / "there" / "file").write_text("", encoding="ascii")
    (tmp_path / "there" / "odd (deleted)").write_text("", encoding="ascii")
    (tmp_path / "closed").mkdir(mode=0)
    os.mkfifo(tmp_path / "pipe")
    for name, target in (("link", "there"), ("twice", "link/below"), ("nowhere", "gone/away"), ("round", "round")):
        (tmp_path / name).symlink_to(target)
    return tmp_path


@pytest.mark.parametrize(
    "path",
    [
        *("there/file", "there/", "there//below/../file", "link/file", "twice", "twice/", "twice/..", "link/./below"),
        *("missing", "missing/below", "link/missing", "nowhere", "nowhere/x", "round", "round/x", "there/file/x"),
        *("there/odd (deleted)", "pipe", "closed", "closed/x", "/", "//", "/proc/self", "/dev/null", ".", "", "\0"),
    ],
)
@pytest.mark.parametrize("absolute", [True, False])
def test_it_is_what_python_says(place: Path, path: str, absolute: bool) -> None:
    path = os.path.join(place, path) if absolute else path
    open_before, found = os.listdir("/proc/self/fd"), []
    for resolve in (real_paths.real_path, os.path.realpath):
        try:
            found.append(resolve(path))
        except ValueError as error:
            found.append(str(error))
    assert found[0] == found[1]
    assert os.listdir("/proc/self/fd") == open_before


def test_what_loses_its_name_meanwhile_is_where_it_was(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, real = os.open, place / "there" / "file"

    def open_and_remove(path: str, flags: int) -> int:
        fd = opened(path, flags)
        real.unlink()
        return fd

    monkeypatch.setattr(real_paths.os, "open", open_and_remove)
    assert real_paths.real_path(str(place / "link" / "file")) == str(real)
