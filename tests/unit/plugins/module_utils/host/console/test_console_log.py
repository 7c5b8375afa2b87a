# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Consoles are read whole, bounded, and through their rotation."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.host.console import console_log, guest_wait
from ansible_collections.nebula.provision.plugins.module_utils.host.console.guest_wait import wait
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.host.console.conftest import (
    CLOUD_INIT,
    DEMO,
    feed,
    judge,
    rotate,
    wanted,
)


@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_bytes_are_read_whole_and_shown_harmless(content: bytes, piece: int) -> None:
    log = console_log.ConsoleLog("unused")
    lines: list[str] = []
    for start in range(0, len(content), piece):
        log._split(content[start : start + piece], lines.append)
    whole = console_log.ConsoleLog("unused")
    at_once: list[str] = []
    whole._split(content, at_once.append)
    # How a run of line ends is cut does not matter; empty lines are no evidence.
    assert [line for line in lines if line] == [line for line in at_once if line]
    assert log.partial == whole.partial
    for line in [*lines, log.partial]:
        shown = console_log.harmless(line)
        assert all(c.isprintable() or c == "\t" for c in shown)
        assert len(shown) <= console_log.SHOWN_LENGTH


def test_endless_lines_are_bounded(log: Path) -> None:
    log.write_bytes(b"x" * 10_000_000)
    guest = guest_wait.Guest(wanted(log))
    for _poll in range(3):
        guest.look(0.0)
    assert len(guest.log.partial) <= console_log.LINE_LIMIT
    assert sum(map(len, guest.last)) <= console_log.SHOWN_LINES * console_log.LINE_LIMIT
    assert guest.log.offset == 10_000_000


@pytest.mark.parametrize("cut", [5, 30, 200, 300])
def test_rotation_is_followed_while_reading(log: Path, cut: int) -> None:
    guest = guest_wait.Guest(wanted(log))
    assert guest.look(0.0) is None
    feed(log, "noise\n" * 10 + DEMO[:cut])
    assert guest.look(0.1) is None
    rotate(log)
    feed(log, DEMO[cut:])
    verdict = guest.look(0.2)
    assert verdict is not None
    assert verdict.verified


@pytest.mark.parametrize("rotations", [1, 2, 3])
def test_a_report_is_found_in_the_backups(log: Path, rotations: int) -> None:
    feed(log, "nebula-guest: booting\nold\n" + DEMO)
    for number in range(rotations):
        rotate(log)
        feed(log, f"noise {number}\n")
    guest = guest_wait.Guest(wanted(log))
    verdict = guest.look(0.0)
    assert verdict is not None
    assert verdict.verified
    rotate(log)
    feed(log, "nebula-guest: booting\n")
    assert guest_wait.Guest(wanted(log)).look(0.0) is None


def test_a_log_begun_anew_forgets_what_was_before(log: Path) -> None:
    feed(log, "x" * 500 + "\n" + DEMO.replace("nebula-guest: ready", ""))
    guest = guest_wait.Guest(wanted(log))
    assert guest.look(0.0) is None
    log.write_bytes(b"nebula-guest: ready\n")
    assert guest.look(0.1) is None
    assert guest.missing()[0].startswith("hostname")


@pytest.mark.parametrize("said", [DEMO, CLOUD_INIT])
def test_what_was_said_before_the_machine_was_started_is_not_believed(log: Path, said: str) -> None:
    assert judge(log, said).verified
    console_log.mark_start(str(log))
    assert not wait([wanted(log)], timeout=0)[0].verified
    rotate(log)
    feed(log, "SeaBIOS\n")
    assert not wait([wanted(log)], timeout=0)[0].verified
    feed(log, said)
    assert wait([wanted(log)], timeout=0)[0].verified


def test_a_start_is_noticed_while_reading(log: Path) -> None:
    feed(log, DEMO.replace("nebula-guest: ready", ""))
    guest = guest_wait.Guest(wanted(log))
    assert guest.look(0.0) is None
    console_log.mark_start(str(log))
    feed(log, "nebula-guest: ready\n")
    assert guest.look(0.1) is None
    assert list(guest.last) == [console_log.NODE_STARTING, "nebula-guest: ready"]


def test_no_log_is_begun_by_marking_a_start(log: Path) -> None:
    console_log.mark_start(str(log))
    assert not log.exists()


def test_reading_starts_at_the_last_boot(log: Path) -> None:
    # A dmesg typed later is no boot of our guest.
    feed(log, "a" * 200_000 + "\n" + DEMO + "\n" + CLOUD_INIT.splitlines()[0] + "\n")
    guest = guest_wait.Guest(wanted(log))
    verdict = guest.look(0.0)
    assert verdict is not None
    assert verdict.verified
    assert "aaa" not in "".join(guest.last)


@pytest.mark.parametrize("place", [0, 1, 65_530, 65_536, 131_060, 199_979])
def test_the_last_place_is_found_wherever_it_lies(log: Path, place: int) -> None:
    mark = console_log.GUEST_BOOTING.encode()
    content = bytearray(b"." * 200_000)
    content[0 : len(mark)] = mark
    content[place : place + len(mark)] = mark
    log.write_bytes(content)
    assert console_log.last_place(str(log), len(content), mark) == place


def test_something_else_than_a_file_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (verdict,) = wait([wanted(pipe)], timeout=600)
    assert "not a regular file" in str(verdict.error)
    (verdict,) = wait([wanted(tmp_path / "none")], timeout=0)
    assert verdict.missing == ("a console log",)


def test_short_lines_are_as_many_at_a_look_as_long_ones_cost(log):
    """Each takes its time, however little it says: a guest that writes nothing but line ends holds up no other."""
    log.write_bytes(b"a\n" * (console_log.READ_LIMIT // 2))
    follower, lines = console_log.ConsoleLog(str(log)), []
    assert follower.read(lines.append, lambda: None)
    assert len(lines) <= console_log.READ_LIMIT // console_log.LINE_COST + 64 * 1024
    while follower.read(lines.append, lambda: None):
        pass
    assert len(lines) == console_log.READ_LIMIT // 2


@pytest.mark.parametrize(("length", "shown"), [(199, 199), (200, 200), (201, 200), (999, 200)])
def test_a_shown_text_is_no_longer_than_was_asked_for(length: int, shown: int) -> None:
    assert len(console_log.harmless("x" * length, 200)) == shown
