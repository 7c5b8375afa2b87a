# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a target keeps of our code is what the sources say, and nobody else's."""

from __future__ import annotations

import importlib
import inspect
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import ansible
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
    monkeypatch.setattr(compiled, "NAMES", (f"{SAMPLE}.",))
    count = iter(range(100))

    def imported(source: str):
        archive = tmp_path / f"payload-{next(count)}.zip"
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr(f"{SAMPLE}/__init__.py", "")
            file.writestr(f"{SAMPLE}/part.py", source)
        with monkeypatch.context() as patched:
            patched.setattr(sys, "meta_path", [compiled.Kept(str(place)), *sys.meta_path])
            patched.setattr(sys, "path", [str(archive), *sys.path])
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


def test_a_module_has_its_source(call):
    """Ansible sends a function of its own, as text, to the interpreter that has a library."""
    module = call("def made():\n    return 'é'\n")
    assert module.__loader__.get_source(f"{SAMPLE}.part") is None
    sys.modules[module.__name__] = module
    try:
        assert inspect.getsource(module.made) == "def made():\n    return 'é'\n"
    finally:
        del sys.modules[module.__name__]


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


RUN = """
import sys
before, place, archive = sys.argv[1:]
namespace = {"__name__": "ansible_collections.nebula.provision.plugins.module_utils.compiled", "place": place}
text = open(before, "rb").read().replace(b'"/run/', b'place + "/')
exec(compile(text, before, "exec"), namespace)
sys.path.insert(0, archive)
import ansible.module_utils.basic
for name, each in sys.modules.items():
    if name.startswith("ansible.module_utils.") and str(getattr(each, "__file__", "")).startswith(archive):
        print(type(each.__loader__).__name__)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="what others could write is not believed")
def test_what_modules_have_of_ansible_is_kept_too(tmp_path):
    """As a module is called: this file is run before it, and Ansible's files come in a zip."""
    kept = Path("/run") / f"nebula-test-{os.getpid()}"
    archive = tmp_path / "payload.zip"
    source = Path(ansible.__file__).parent
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("ansible/__init__.py", "")
        for path in (source / "module_utils").rglob("*.py"):
            file.write(path, path.relative_to(source.parent))
    kept.mkdir(mode=0o700)
    try:
        program = [sys.executable, "-I", "-c", RUN, compiled.__file__, str(kept), str(archive)]
        for _again in range(2):
            done = subprocess.run(program, capture_output=True, text=True, check=True)
            loaders = done.stdout.split()
            assert {*loaders} == {"Kept"}
            assert len(loaders) >= len([*(kept / "nebula-provision-code").iterdir()]) >= 15
    finally:
        shutil.rmtree(kept)
