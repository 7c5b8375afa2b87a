# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watches machines while they install: what their consoles say, how much of their disks is written, who ended them."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from ..dataclass import dataclass
from ..errors import InvalidValue, NebulaError, TimedOut, WrongState
from ..host.console.console_log import SHOWN_LENGTH, SHOWN_LINES, ConsoleLog, harmless
from . import installation_end
from .installation_end import FINISHED

POLL_INTERVAL = 0.5
# Windows' ISO asks for a key for five seconds, once its firmware has come to it.
KEY_SECONDS = 60.0
# Bytes that a blank disk may take.
UNTOUCHED = 1 << 20

# Seconds for which the hypervisor need not answer: its daemon may be restarted while machines install.
TOLERANCE = 60.0

# The bar of a terminal multiplexer, which Debian's installer runs in on a serial console:
#     [            (1*installer)  2 shell  3 shell  4- log           ][ Nov 21  3:10 ]
# A kernel's "[    0.123456]" begins like it. Of one that is still being written, the beginning is there.
BAR = (
    re.compile(r"^\[ *\d*$"),
    re.compile(r"^\[ +(?:\d+[-*$!]* |\()"),
    re.compile(r"(?:^|\]\[?) *[A-Z][a-z]{2} [ \d]\d +\d?\d:\d\d *\]?$"),
)
# How far something is: what it is, and numbers after it. They go on in later lines when a bar was drawn meanwhile.
TITLE = re.compile(r"^(?P<title>[^\s.\d].*?)\s+\.\.\. *\d{1,3}%")
PIECES = re.compile(r"^(?:\d{1,3}%)?(?:\.\.\. *(?P<percent>\d{1,3}%))+(?:\.{1,3} *\d{0,3})?$")

State = tuple[str, str]
"""A machine's state and who ended it; ("", "") if it is not there."""


@dataclass(frozen=True)
class Watched:
    """Describes one installation and its machine.
    name: of the image.
    disk: the path of the file that is written.
    size: MiB.
    pattern: the line that is the end, where `end` is PATTERN.
    failures: lines that no installer recovers from.
    marker: whether it prints when it is finished.
    keys: whether its ISO boots only if somebody presses a key.
    fresh: whether this run has started it: keys that another run presses are not for its ISO.
    access: how a person gets to the console."""

    name: str
    vm_id: int
    machine: str
    console: str
    disk: str
    size: int
    end: str = installation_end.POWEROFF
    pattern: str = ""
    failures: tuple[str, ...] = ()
    marker: bool = False
    keys: bool = False
    fresh: bool = False
    timeout: float = 3600.0
    access: str = ""


@dataclass(frozen=True)
class Ending:
    """Describes what became of an installation. seconds: that it was watched. percent: of the disk that was written."""

    watched: Watched
    installed: bool
    how: str
    seconds: float
    percent: int
    last_lines: tuple[str, ...] = ()
    error: NebulaError | None = None


class Watch:
    def __init__(self, watched: Watched) -> None:
        self.watched = watched
        self._log = ConsoleLog(watched.console)
        self._last: deque[str] = deque(maxlen=SHOWN_LINES)
        self._title = ""
        self._marker = False
        self._matched = ""
        self._failure = ""
        self._moved = 0.0
        self._written = -1
        self._pressed = -1.0
        self._counted: int | None = None
        self._pattern = compiled(watched)
        self._failures = re.compile("|".join(f"(?:{text})" for text in watched.failures)) if watched.failures else None

    def _restart(self) -> None:
        self._last.clear()
        self._title = ""
        self._marker, self._matched, self._failure = False, "", ""

    def _take(self, line: str) -> None:
        if line.strip() and not is_bar(line):
            shown, self._title = self._progress(line)
            # One line for one thing, as far as it has come.
            if shown != line and self._last and self._last[-1].startswith(f"{self._title} ... "):
                self._last.pop()
            self._last.append(shown)
        self._look_at(line)

    def _progress(self, line: str) -> tuple[str, str]:
        """Return the line as it is shown, and the title to which numbers in the next lines belong."""
        text = line.strip()
        if len(text) > SHOWN_LENGTH:
            return line, self._title
        found = TITLE.match(text)
        title = found["title"] if found else self._title
        pieces = PIECES.match(text[len(title) :].lstrip() if found else text)
        return (f"{title} ... {pieces['percent']}" if pieces and title else line), title

    def _look_at(self, line: str) -> None:
        self._marker = self._marker or FINISHED in line
        if self._pattern is not None and not self._matched and self._pattern.search(line):
            self._matched = harmless(line.strip())
        if self._failures is not None and not self._failure and self._failures.search(line):
            self._failure = harmless(line.strip())

    def look(self, state: State, now: float, count: Callable[[int], int | None] = lambda _vm_id: None) -> Ending | None:
        """Return what became of the installation; None while it goes on.
        now: seconds since watching began.
        count: see watch()."""
        with contextlib.suppress(FileNotFoundError):
            if self._log.read(self._take, self._restart):
                self._moved = now
        # A prompt has no line end.
        self._look_at(self._log.partial)
        written = self._bytes()
        if written != self._written:
            self._written, self._moved = written, now
        if self._matched and state[0] == "RUNNING":
            # What is written over takes no more blocks.
            counted = count(self.watched.vm_id)
            if counted is not None and counted != self._counted:
                self._counted, self._moved = counted, now
        seen = installation_end.Seen(*state, self._marker, self._matched, self._failure, now - self._moved)
        verdict = installation_end.verdict(seen, self.watched.end, self.watched.marker)
        if verdict is None and now >= self.watched.timeout:
            verdict = installation_end.too_late(seen, self.watched.timeout)
            return self._ending(verdict, now, TimedOut)
        return None if verdict is None else self._ending(verdict, now, WrongState)

    def _ending(self, verdict: installation_end.Verdict, now: float, kind: type[NebulaError]) -> Ending:
        lines = () if verdict.installed else tuple(harmless(line) for line in self._last_lines())
        error = None
        if not verdict.installed:
            shown = "".join(f"\n    {line}" for line in lines)
            access = f". Its console: {self.watched.access}" if self.watched.access else ""
            ending = f"\nLast lines of {self.watched.console}:{shown}" if lines else ""
            error = kind(f"install {self.watched.name}", verdict.problem, verdict.remedy + access + ending)
        return Ending(self.watched, verdict.installed, verdict.how, now, self.percent(), lines, error)

    def _last_lines(self) -> list[str]:
        partial = self._log.partial
        if not partial.strip() or is_bar(partial):
            return list(self._last)
        shown, title = self._progress(partial)
        last = list(self._last)
        if shown != partial and last and last[-1].startswith(f"{title} ... "):
            last.pop()
        return [*last, shown][-SHOWN_LINES:]

    def _bytes(self) -> int:
        try:
            return os.stat(self.watched.disk).st_blocks * 512
        except OSError:
            return 0

    def wants_key(self, state: State, now: float) -> bool:
        """Return whether a key is to be pressed now: once a second, until anything is written, and not for long."""
        asked = self.watched.keys and self.watched.fresh
        due = asked and state[0] == "RUNNING" and now < KEY_SECONDS and self._written < UNTOUCHED
        if not due or now - self._pressed < 1:
            return False
        self._pressed = now
        return True

    def percent(self) -> int:
        return percent(max(self._written, 0), self.watched.size)

    def line(self, now: float) -> str:
        """Return how far it is, in one line."""
        last = harmless(self._last_lines()[-1].strip()) if self._last_lines() else "its console is silent"
        by_hand = self.watched.end == installation_end.MANUAL or not self.watched.marker
        how = f" ({self.watched.access})" if self.watched.access and by_hand else ""
        minutes, seconds = divmod(int(now), 60)
        return f"{self.watched.name} {self.percent()} % written after {minutes}:{seconds:02d}{how}: {last}"


def is_bar(line: str) -> bool:
    return any(pattern.search(line) for pattern in BAR)


def compiled(watched: Watched) -> re.Pattern[str] | None:
    if watched.end != installation_end.PATTERN:
        return None
    try:
        return re.compile(watched.pattern)
    except re.error as error:
        raise InvalidValue(
            f"install {watched.name}: end: pattern {watched.pattern!r}",
            f"it is not a regular expression: {error}",
            "Escape what is meant literally",
        ) from None


def watch(
    machines: Sequence[Watched],
    states: Callable[[], Mapping[int, State]],
    say: Callable[[Mapping[str, str]], None] = lambda _lines: None,
    press: Callable[[int], None] = lambda _vm_id: None,
    count: Callable[[int], int | None] = lambda _vm_id: None,
) -> list[Ending]:
    """Watch until every installation is at its end, or given up. Return one ending for each, in the order given.
    states: of all machines of this node, by id.
    say: called with how far each is, by name, at every look.
    press: presses a key of a machine.
    count: bytes that a machine has written since its start, None if nobody knows.

    A hypervisor that does not answer is asked again, for TOLERANCE seconds."""
    began = time.monotonic()
    heard = 0.0
    endings: dict[int, Ending] = {}
    lines: dict[str, str] = {}
    waiting = {index: Watch(watched) for index, watched in enumerate(machines)}
    while True:
        # Asked before the consoles are read: what a machine said at its end is in the log then.
        now = time.monotonic() - began
        try:
            found, silence = states(), None
            heard = now
        except NebulaError as error:
            found, silence = {}, error
        for index, each in list(waiting.items()):
            if silence is not None:
                # Nothing is known of it: nothing is said of it.
                if now - heard >= TOLERANCE:
                    endings[index] = _ending_without_answer(each, silence, now)
                    lines[each.watched.name] = "failed"
                    del waiting[index]
                continue
            state = found.get(each.watched.vm_id, ("", ""))
            try:
                ending = each.look(state, now, count)
                if each.wants_key(state, now):
                    press(each.watched.vm_id)
            except NebulaError as error:
                ending = Ending(each.watched, False, "", now, each.percent(), error=error)
            lines[each.watched.name] = each.line(now)
            if ending is not None:
                lines[each.watched.name] = f"{each.watched.name}: {ending.how}" if ending.installed else "failed"
                endings[index] = ending
                del waiting[index]
        say(lines)
        if not waiting:
            return [endings[index] for index in range(len(machines))]
        time.sleep(POLL_INTERVAL)


def _ending_without_answer(each: Watch, error: NebulaError, now: float) -> Ending:
    remedy = ". ".join(filter(None, (error.remedy, "Then run again: it is gone on with")))
    failure = type(error)(f"install {each.watched.name}: {error.asked}", error.found, remedy)
    return Ending(each.watched, False, "", now, each.percent(), error=failure)


def percent(written: int, size: int) -> int:
    """Return how many percent of a disk of `size` MiB were written, in bytes."""
    return min(100, 100 * written // (size * 1024 * 1024)) if size > 0 else 0
