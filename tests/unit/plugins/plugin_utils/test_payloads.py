# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept of one run for the next: files of our modules only, made of what is there now, that nobody else could
have written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.plugin_utils import payloads

VM = f"{payloads.OURS}nebula_vm-ZIP_DEFLATED-none"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(payloads.constants, "ANSIBLE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(payloads.VARIABLE, raising=False)
    begin(tmp_path, monkeypatch, "first")
    return tmp_path / "home"


def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> Path:
    """A run with its own temporary directory; where Ansible packs modules."""
    run = tmp_path / name
    run.mkdir()
    monkeypatch.setattr(payloads.constants, "DEFAULT_LOCAL_TMP", str(run))
    return run / "ansiballz_cache"


def packed(run: Path, *names: str) -> None:
    run.mkdir(exist_ok=True)
    for name in names:
        (run / name).write_bytes(name.encode())


def names(directory: Path) -> list[str]:
    return (
        sorted(file.name for file in directory.iterdir() if file.name != payloads.KNOWN) if directory.is_dir() else []
    )


def place(home: Path) -> Path:
    (found,) = (home / payloads.PLACE).iterdir()
    return found


@pytest.mark.parametrize("links", [True, False])
def test_what_one_run_packed_is_there_for_the_next(home, tmp_path, monkeypatch, links):
    if not links:

        def refuse(*_given):
            raise OSError("another file system")

        monkeypatch.setattr(os, "link", refuse)
    first = tmp_path / "first/ansiballz_cache"
    packed(first, VM, "ansible.modules.ping-ZIP_DEFLATED", f"{VM}-part", f"{VM}.lock")
    payloads.keep_payloads()
    assert names(place(home)) == [VM]
    assert place(home).stat().st_mode & 0o777 == 0o700
    second = begin(tmp_path, monkeypatch, "second")
    payloads.bring_payloads()
    payloads.bring_payloads()
    assert names(second) == [VM] and (second / VM).read_bytes() == VM.encode()


def test_they_are_kept_where_the_environment_says(home, tmp_path, monkeypatch):
    named = tmp_path / "volume/payloads"
    monkeypatch.setenv(payloads.VARIABLE, str(named))
    packed(tmp_path / "first/ansiballz_cache", VM)
    payloads.keep_payloads()
    assert [names(each) for each in named.iterdir()] == [[VM]] and not home.exists()
    second = begin(tmp_path, monkeypatch, "second")
    payloads.bring_payloads()
    assert names(second) == [VM]
    # Others could put their own code there.
    named.parent.chmod(0o777)
    third = begin(tmp_path, monkeypatch, "third")
    payloads.bring_payloads()
    assert names(third) == []


def test_what_this_run_has_packed_itself_stays(home, tmp_path, monkeypatch):
    packed(tmp_path / "first/ansiballz_cache", VM)
    payloads.keep_payloads()
    second = begin(tmp_path, monkeypatch, "second")
    second.mkdir()
    (second / VM).write_text("its own")
    payloads.bring_payloads()
    payloads.keep_payloads()
    assert (second / VM).read_text() == "its own"
    assert (place(home) / VM).read_text() == VM


def test_what_was_made_of_something_else_is_not_given(home, tmp_path, monkeypatch):
    packed(tmp_path / "first/ansiballz_cache", VM)
    payloads.keep_payloads()
    plugins = tmp_path / "plugins"
    for part in ("modules", "module_utils"):
        (plugins / part).mkdir(parents=True)
    monkeypatch.setattr(payloads, "PLUGINS", plugins)
    seen = set()
    for text in ("one", "two"):
        (plugins / "modules/nebula_vm.py").write_text(text)
        payloads._digest.cache_clear()
        seen.add(payloads._digest())
        second = begin(tmp_path, monkeypatch, text)
        payloads.bring_payloads()
        assert names(second) == []
    payloads._digest.cache_clear()
    assert len(seen) == 2


def test_old_ones_go(home, tmp_path, monkeypatch):
    for number in range(payloads.KEPT + 2):
        monkeypatch.setattr(payloads, "_digest", lambda number=number: f"digest-{number}")
        packed(begin(tmp_path, monkeypatch, f"run-{number}"), VM)
        payloads.keep_payloads()
        os.utime(home / payloads.PLACE / f"digest-{number}", (number, number))
    assert len(names(home / payloads.PLACE)) == payloads.KEPT
    assert f"digest-{payloads.KEPT + 1}" in names(home / payloads.PLACE)


@pytest.mark.parametrize("what", ["directory", "parent", "above", "link", "file"])
def test_what_others_could_have_written_is_not_run(home, tmp_path, monkeypatch, what):
    packed(tmp_path / "first/ansiballz_cache", VM)
    payloads.keep_payloads()
    kept = place(home)
    if what == "directory":
        kept.chmod(0o777)
    elif what == "parent":
        kept.parent.chmod(0o770)
    elif what == "above":
        kept.parents[1].chmod(0o770)
    elif what == "link":
        kept.rename(tmp_path / "elsewhere")
        kept.symlink_to(tmp_path / "elsewhere")
    else:
        (kept / VM).chmod(0o666)
    second = begin(tmp_path, monkeypatch, "second")
    payloads.bring_payloads()
    assert names(second) == []


@pytest.mark.parametrize("above", [0, 1])
def test_nothing_is_removed_where_a_link_leads(home, tmp_path, monkeypatch, above):
    """Somebody else, who may write to this user's directory, has made the link before the first run."""
    precious = tmp_path / "precious"
    for number in range(payloads.KEPT + 2):
        (precious / "payloads" / f"tree-{number}").mkdir(parents=True)
    link = (home / payloads.PLACE, (home / payloads.PLACE).parent)[above]
    link.parent.mkdir(parents=True)
    link.symlink_to((precious / "payloads", precious)[above])
    packed(tmp_path / "first/ansiballz_cache", VM)
    payloads.keep_payloads()
    assert len([name for name in names(precious / "payloads") if name.startswith("tree-")]) == payloads.KEPT + 2
    second = begin(tmp_path, monkeypatch, "second")
    payloads.bring_payloads()
    assert names(second) == []


@pytest.mark.root
def test_what_belongs_to_another_is_not_run(home, tmp_path, monkeypatch):
    packed(tmp_path / "first/ansiballz_cache", VM)
    payloads.keep_payloads()
    os.chown(place(home) / VM, 65534, 65534)
    second = begin(tmp_path, monkeypatch, "second")
    payloads.bring_payloads()
    assert names(second) == []


@pytest.mark.parametrize("word", payloads.NO)
def test_it_can_be_turned_off(home, tmp_path, monkeypatch, word):
    monkeypatch.setenv(payloads.VARIABLE, word)
    packed(tmp_path / "first/ansiballz_cache", VM)
    payloads.keep_payloads()
    assert not home.exists()
    monkeypatch.delenv(payloads.VARIABLE)
    payloads.keep_payloads()
    monkeypatch.setenv(payloads.VARIABLE, word.upper())
    second = begin(tmp_path, monkeypatch, "second")
    payloads.bring_payloads()
    assert names(second) == []


def test_a_home_that_can_not_be_written_is_no_error(home, tmp_path):
    home.write_text("a file")
    packed(tmp_path / "first/ansiballz_cache", VM)
    payloads.keep_payloads()
    payloads.bring_payloads()
    assert home.read_text() == "a file"


def test_a_run_that_packed_nothing_keeps_nothing(home):
    payloads.keep_payloads()
    payloads.bring_payloads()
    assert not home.exists()


def test_ansible_still_packs_where_this_looks():
    """Otherwise nothing would be kept, and nobody told."""
    from ansible.executor import module_common

    text = Path(module_common.__file__).read_text(encoding="utf-8")
    assert "'ansiballz_cache'" in text and "DEFAULT_LOCAL_TMP" in text and "remote_module_fqn" in text


def test_a_run_looks_once_for_what_is_kept_and_keeps_what_is_new(home, tmp_path, monkeypatch):
    other = VM.replace("_vm-", "_host-")
    packed(tmp_path / "first/ansiballz_cache", VM)
    payloads.keep_payloads()
    second = begin(tmp_path, monkeypatch, "second")
    payloads.bring_payloads()
    with monkeypatch.context() as without:
        without.setattr(payloads, "_digest", lambda: pytest.fail("looked a second time"))
        payloads.bring_payloads()
        payloads.keep_payloads()
    packed(second, other)
    payloads.keep_payloads()
    assert names(place(home)) == sorted([VM, other])
