# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a target keeps of our code is what the sources say, and nobody else's."""

from __future__ import annotations

import importlib
import sys
import zipfile
import zipimport
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils import compiled

SAMPLE = "sample_of_kept_code"


@pytest.fixture
def place(tmp_path):
    directory = tmp_path / "kept"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture
def call(tmp_path, place, monkeypatch):
    """Imports SAMPLE.part with this source, as a module call does whose zip has it."""
    monkeypatch.setattr(compiled, "OURS", SAMPLE)
    count = iter(range(100))

    def imported(source: str):
        archive = tmp_path / f"payload-{next(count)}.zip"
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr(f"{SAMPLE}/__init__.py", "")
            file.writestr(f"{SAMPLE}/part.py", source)
        finder = compiled.Kept(zipimport.zipimporter(str(archive)), str(place))
        with monkeypatch.context() as patched:
            patched.setattr(sys, "meta_path", [finder, *sys.meta_path])
            try:
                return importlib.import_module(f"{SAMPLE}.part")
            finally:
                for name in [name for name in sys.modules if name.startswith(SAMPLE)]:
                    del sys.modules[name]

    return imported


def refuse(*_arguments, **_options):
    raise AssertionError("a kept file was compiled again")


def kept(place: Path, fragment: bytes) -> Path:
    (found,) = (file for file in place.iterdir() if fragment in file.read_bytes())
    return found


def test_a_source_is_compiled_once(call, monkeypatch):
    first = call("WORD = 'first'")
    with monkeypatch.context() as patched:
        patched.setattr(compiled, "compile", refuse, raising=False)
        second = call("WORD = 'first'")
    assert (first.WORD, second.WORD) == ("first", "first")


def test_a_module_says_where_it_is_from(call, tmp_path):
    call("WORD = 'first'")
    module = call("WORD = 'first'")
    assert module.__file__ == str(tmp_path / "payload-1.zip" / SAMPLE / "part.py")
    assert module.__package__ == SAMPLE


def test_another_source_is_another_file(call):
    assert [call(f"WORD = '{word}'").WORD for word in ("first", "other", "first")] == ["first", "other", "first"]


def test_files_are_closed_to_others(call, place):
    call("WORD = 'first'")
    assert {file.stat().st_mode & 0o777 for file in place.iterdir()} == {0o600}


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 400])
def test_what_is_damaged_is_compiled_anew(call, place, damage):
    call("WORD = 'first'")
    kept(place, b"WORD").write_bytes(damage)
    assert call("WORD = 'first'").WORD == "first"


def forged(call, place: Path) -> Path:
    """A whole file of other content under the name of the source "WORD = 'first'"."""
    call("WORD = 'first'")
    file = kept(place, b"first")
    call("WORD = 'forged'")
    kept(place, b"forged").rename(file)
    return file


def test_a_file_that_others_can_write_is_not_believed(call, place):
    file = forged(call, place)
    assert call("WORD = 'first'").WORD == "forged"
    file.chmod(0o622)
    assert call("WORD = 'first'").WORD == "first"


def test_a_link_is_not_followed(call, place, tmp_path):
    file = forged(call, place)
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert call("WORD = 'first'").WORD == "first"


def test_a_directory_that_is_gone_or_full_keeps_nothing_from_being_imported(call, place):
    place.rmdir()
    assert call("WORD = 'first'").WORD == "first"


def test_errors_of_a_module_come_through(call):
    with pytest.raises(ZeroDivisionError):
        call("1 / 0")
    with pytest.raises(ModuleNotFoundError):
        call(f"import {SAMPLE}.missing")


def test_old_files_go_when_there_are_too_many(call, place, monkeypatch):
    monkeypatch.setattr(compiled, "MOST", 4)
    monkeypatch.setattr(compiled, "LEFT", 2)
    for number in range(10):
        found = call(f"WORD = {number}").WORD
        assert found == number
    assert len(list(place.iterdir())) <= 4


def test_a_directory_of_others_is_not_used(tmp_path, place, monkeypatch):
    above = tmp_path.stat()
    monkeypatch.setattr(compiled.os, "geteuid", lambda: above.st_uid)
    real = compiled.os.lstat
    roots = type("Found", (), {"st_mode": above.st_mode & ~0o022, "st_uid": 0})
    monkeypatch.setattr(compiled.os, "lstat", lambda path: roots if path == str(tmp_path) else real(path))
    assert compiled.is_own(str(place))
    roots.st_uid = 1000
    assert not compiled.is_own(str(place))
    roots.st_uid, roots.st_mode = 0, above.st_mode | 0o020
    assert not compiled.is_own(str(place))
    roots.st_mode = above.st_mode & ~0o022
    place.chmod(0o710)
    assert not compiled.is_own(str(place))


def test_code_that_is_in_no_zip_is_imported_as_ever(monkeypatch):
    before = list(sys.meta_path)
    monkeypatch.setattr(compiled.os, "geteuid", lambda: 0)
    compiled.begin()
    assert sys.meta_path == before
