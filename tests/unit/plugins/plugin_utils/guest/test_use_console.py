# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A shell behind a console, with and without a login. The console here is a terminal of this machine with a shell on
it; test_guest_connection.py has a guest's own."""

from __future__ import annotations

import base64
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.plugin_utils.guest import use_console
from ansible_collections.nebula.provision.plugins.plugin_utils.guest.use_console import LIMIT, LINE, MOST, SLOWEST

VIRSH = """#!/bin/sh
case "$*" in
    *domstate*) [ -e "{place}/missing" ] && {{ echo "error: failed to get domain 'one-1'" >&2; exit 1; }}
        cat "{place}/state" ;;
    *metadata*) echo '<vm catalog="ours"/>' ;;
    *console*) echo "Connected to domain 'one-1'"
        echo 'Escape character is ^] (Ctrl + ])'
        exec setsid -w -c sh "{place}/guest" ;;
esac
"""
# A prompt at once; another shell when it ends, for as long as the terminal is there.
SHELL = """
cd "{place}"
while stty -a >/dev/null 2>&1; do
    PS1='root@guest:~# ' sh -i 2>&1
    stty -a >/dev/null 2>&1 && echo ended >>"{place}/sessions"
done
"""
LOGIN = """
cd "{place}"
while stty -a >/dev/null 2>&1; do
    printf '\\nDebian GNU/Linux guest ttyS0\\n\\nguest login: '; read -r user
    [ -n "$user" ] || continue
    stty -echo; printf 'Password: '; read -r password; stty echo; echo
    if [ "$user:$password" != "admin:p4ss word" ]; then echo 'Login incorrect'; continue; fi
    echo 'Linux guest 6.1'; PS1='\x1b[01;32m$ \x1b[00m' sh -i 2>&1; echo ended >>"{place}/sessions"
done
"""
# The kernel has a word now and then, in the middle of a line.
NOISE = """
(while sleep 0.7 && kill -0 $$; do printf '[ 12.3] usb 1-1: new device\\n'; done) &
"""
ECHO = "echo given: $(cat); echo not >&2; exit 7"


class Guest:
    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place = place
        (place / "virsh").write_text(VIRSH.format(place=place))
        (place / "virsh").chmod(0o755)
        (place / "state").write_text("running\n")
        (place / "tmp").mkdir()
        self.with_program(SHELL)
        monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
        monkeypatch.setenv("TMPDIR", str(place / "tmp"))
        monkeypatch.setattr(use_console, "AGAIN", 0.5)

    def with_program(self, text: str) -> None:
        (self.place / "guest").write_text(text.format(place=self.place))

    def ask(self, what: str, **more: Any) -> Any:
        request = {"do": what, "domain": "one-1", "namespace": "n", "catalog": "ours", "patience": 3}
        return use_console.answer_to({**request, "user": "", "password": "", **more})

    def run(self, program: str, given: bytes = b"", **more: Any) -> Any:
        return self.ask("run", command=["/bin/sh", "-c", program], input=coded(given), **more)

    def sessions(self) -> int:
        place = self.place / "sessions"
        return len(place.read_text().splitlines()) if place.exists() else 0

    def left(self) -> list[str]:
        return os.listdir(self.place / "tmp")


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture
def guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guest]:
    """Nothing of it goes on, also where these tests are run by nohup. A shell's background job ignores interrupts, and
    all that it starts; a guest does not."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interrupts = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield Guest(tmp_path, monkeypatch)
    signal.signal(signal.SIGHUP, before)
    signal.signal(signal.SIGINT, interrupts)
    wait_for_none(str(tmp_path / "guest"))


def wait_for_none(program: str) -> None:
    """No process has this among its arguments."""
    limit = time.monotonic() + 10
    while left := [
        path.parent.name for path in Path("/proc").glob("[0-9]*/cmdline") if program in arguments(path).split("\0")
    ]:
        assert time.monotonic() < limit, f"left behind: {left}"
        time.sleep(0.05)


def arguments(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def test_a_shell_that_is_there_is_used_and_left(guest: Guest) -> None:
    assert guest.run(ECHO, b"x'\n") == {"rc": 7, "out": coded(b"given: x'\n"), "err": coded(b"not\n")}
    assert (guest.sessions(), guest.left()) == (0, [])


def test_a_login_is_made_and_ended(guest: Guest) -> None:
    guest.with_program(LOGIN)
    answer = guest.run(ECHO, b"x", user="admin", password="p4ss word")
    assert (answer["rc"], base64.b64decode(answer["out"])) == (7, b"given: x\n")
    assert (guest.sessions(), guest.left()) == (1, [])


@pytest.mark.parametrize(
    ("login", "words"),
    [
        ({}, "no user is given"),
        ({"user": "admin"}, "it asks for a password, and none is given"),
        ({"user": "admin", "password": "wr0ng"}, "it refuses user admin"),
    ],
)
def test_a_login_that_fails_says_why(guest: Guest, login: dict[str, str], words: str) -> None:
    guest.with_program(LOGIN)
    answer = guest.run("true", **login)
    assert answer["problem"] == "login" and words in answer["found"] and "wr0ng" not in str(answer)


def test_a_login_that_takes_its_time_to_refuse_is_waited_for(guest: Guest) -> None:
    guest.with_program(LOGIN.replace("echo 'Login incorrect'", "sleep 1.5; echo 'Login incorrect'"))
    answer = guest.run("true", user="admin", password="wr0ng", patience=10)
    assert answer == {"problem": "login", "found": "it refuses user admin with this password"}


def test_a_shell_that_a_killed_run_left_is_ended_first(guest: Guest) -> None:
    """It reads lines, and shows nothing of its own."""
    begun = "trap : INT; stty -echo; sh -c 'while IFS= read -r line; do eval \"$line\"; done'; stty echo\n"
    guest.with_program(begun + SHELL)
    assert guest.run("exit 4") == {"rc": 4, "out": "", "err": ""}


def test_noise_between_lines_is_not_an_answer(guest: Guest) -> None:
    guest.with_program(NOISE + SHELL)
    content = os.urandom(3000)
    answer = guest.run("sleep 1; cat", content, patience=10)
    assert (answer["rc"], base64.b64decode(answer["out"])) == (0, content)


@pytest.mark.parametrize("size", [0, 1, LINE, 3 * LINE + 1])
def test_files_go_both_ways(guest: Guest, size: int) -> None:
    content, path = os.urandom(size), str(guest.place / "a file's")
    assert guest.ask("write", path=path, data=coded(content), append=False) == {}
    assert guest.ask("write", path=path, data=coded(b"more"), append=True) == {}
    assert Path(path).read_bytes() == content + b"more"
    answer = guest.ask("read", path=path, offset=0, count=10 * LINE)
    assert base64.b64decode(answer["data"]) == content + b"more" and answer["end"]
    assert base64.b64decode(guest.ask("read", path=path, offset=size, count=2)["data"]) == b"mo"
    assert guest.left() == []


@pytest.mark.parametrize("what", ["write", "read"])
def test_a_file_that_fails_says_why(guest: Guest, what: str) -> None:
    answer = guest.ask(what, path="/nowhere/there", data="", append=False, offset=0, count=1)
    assert answer["problem"] == "failed" and "/nowhere/there" in answer["found"] and guest.left() == []


def test_a_command_that_prints_too_much_is_ended(guest: Guest) -> None:
    assert guest.run(f"head -c {LIMIT + 1} /dev/zero") == {"problem": "truncated", "found": ""}
    assert guest.run("cat /dev/zero >&2") == {"problem": "truncated", "found": ""}
    assert guest.left() == []


def test_what_is_no_console_of_ours_is_left_alone(guest: Guest) -> None:
    assert guest.run("true", catalog="another")["problem"] == "foreign"
    (guest.place / "state").write_text("shut off\n")
    assert guest.run("true")["problem"] == "off"
    (guest.place / "missing").touch()
    assert guest.run("true")["problem"] == "missing"


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("exec sleep 100", "silent"),
        ("echo 'error: operation failed: Active console session exists for this domain'", "busy"),
        ("echo bye", "silent"),
    ],
)
def test_a_console_that_can_not_be_used(guest: Guest, program: str, problem: str) -> None:
    guest.with_program(program)
    assert guest.run("true", patience=1)["problem"] == problem


@pytest.mark.parametrize("question", ["guest login: ", "Password: "])
def test_a_guest_that_asks_for_ever_is_given_up(guest: Guest, monkeypatch: pytest.MonkeyPatch, question: str) -> None:
    monkeypatch.setattr(use_console, "QUIET", 0.05)
    asks = f"printf '\\n{question}'; read -r word"
    guest.with_program(f"printf '\\nguest login: '; read -r user\nwhile stty -a >/dev/null 2>&1; do {asks}; done\n")
    began = time.monotonic()
    answer = guest.ask("run", command=["true"], input="", user="admin", password="p4ss word", patience=1)
    assert answer["problem"] in ("login", "silent") and time.monotonic() - began < 30


class Trickling(use_console.Console):
    """A guest that has another character each time that somebody looks."""

    def __init__(self) -> None:
        self.patience, self.terminal = 3.0, self
        self.seen, self.now = "", 0.0

    def look(self, _seconds: float) -> bool:
        self.seen, self.now = self.seen + "x", self.now + 2.0
        return True


def test_a_file_that_comes_by_single_characters_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Trickling()
    monkeypatch.setattr(use_console.time, "monotonic", lambda: console.now)
    with pytest.raises(use_console.Problem) as caught:
        console._read_until("<mark>")
    assert caught.value.problem == "silent" and console.now < 3 * MOST / SLOWEST


@pytest.mark.parametrize("pattern", [use_console.STATUS, use_console.SIZE])
def test_a_number_of_a_guest_has_few_digits(pattern: str) -> None:
    assert re.fullmatch(pattern, "255") and not re.fullmatch(pattern, "1" * 30)
