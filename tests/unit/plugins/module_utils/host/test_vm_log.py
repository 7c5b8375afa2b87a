# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vm.log in OpenNebula's form."""

from __future__ import annotations

import locale
import os
import stat
import time
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.host import vm_log


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_a_line() -> None:
    assert vm_log.line("LCM", "I", "New VM state is BOOT", 1407449826) == (
        "Thu Aug 7 22:17:06 2014 [LCM] [I]: New VM state is BOOT"
    )


def test_a_line_is_one_line() -> None:
    assert vm_log.line("VMM", "E", "a\nb\r\n  c\t", 0).endswith("[VMM] [E]: a b c")


def test_names_do_not_follow_the_locale() -> None:
    before = locale.setlocale(locale.LC_ALL)
    try:
        locale.setlocale(locale.LC_ALL, "")
        assert vm_log.line("DIM", "I", "x", 0).startswith("Thu Jan 1 00:00:00 1970 ")
    finally:
        locale.setlocale(locale.LC_ALL, before)


def test_lines_are_written_once_and_appended(tmp_path: Path) -> None:
    first = vm_log.VmLog(str(tmp_path))
    first.save()
    assert not (tmp_path / "vm.log").exists()
    first("LCM", "I", "one")
    first.save()
    first.save()
    first("LCM", "I", "two")
    first.save()
    second = vm_log.VmLog(str(tmp_path))
    second("DIM", "I", "three")
    second.save()
    text = (tmp_path / "vm.log").read_text(encoding="utf-8")
    assert [line.split(": ")[1] for line in text.splitlines()] == ["one", "two", "three"]
    assert stat.S_IMODE((tmp_path / "vm.log").stat().st_mode) == 0o640


def test_only_the_last_lines_are_carried(tmp_path: Path) -> None:
    log = vm_log.VmLog(str(tmp_path))
    for number in range(50):
        log("LCM", "I", str(number))
    assert [line.split(": ")[1] for line in log.last()] == [str(number) for number in range(40, 50)]


def test_a_link_is_not_followed_and_no_directory_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("", encoding="utf-8")
    (tmp_path / "vm.log").symlink_to(tmp_path / "target")
    for place in (tmp_path, tmp_path / "none"):
        log = vm_log.VmLog(str(place))
        log("LCM", "I", "x")
        log.save()
    assert os.path.getsize(tmp_path / "target") == 0
