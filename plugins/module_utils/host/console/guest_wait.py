# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waits until guests are up and contextualised, by their consoles and by other sources."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import field
from typing import Protocol

from ...dataclass import dataclass
from ...errors import NebulaError, TimedOut
from .console_evidence import PROMPT, CloudInit, DemoGuest, Login, Pattern, Witness, compiled
from .console_log import NODE_STARTING, SHOWN_LINES, ConsoleLog, harmless
from .expected_guest import CONSOLE, LOGIN, Wanted, what_differs
from .kept_evidence import recall, remember

# Characters of what another source found: it may name each address of a machine.
LONGEST_FOUND = 2000
POLL_INTERVAL = 0.2
# Looking takes one part in SHARE of the host's time, since its guests boot meanwhile; but the pause between two looks
# is at most LONGEST_INTERVAL seconds.
SHARE = 10
LONGEST_INTERVAL = 2.0
# Seconds without output after which a guest that is ready, but not as wanted, is given up.
SETTLED_AFTER = 30.0
OPTIONS = (
    "Mend the guest or its context. Else nebula_verify_pattern says which line of its console is enough (for one "
    "machine nebula_verify_patterns), nebula_verify_by what counts, nebula_verify_timeout how long to wait; with "
    "nebula_verify: false the hypervisor is believed"
)


class Source(Protocol):
    """Finds out about all guests together by other means than their consoles.
    kind: a word of KINDS."""

    kind: str

    def look(self, waiting: Collection[int], now: float) -> None:
        """Find out about the machines of these ids.

        It is called at each look but the first, and returns at once. now: seconds since waiting began."""

    def evidence(self, vm_id: int) -> str:
        """Return what convinced at the last look; "" if nothing did."""

    def found(self, vm_id: int) -> str:
        """Return what was found in place of evidence, for the error."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class Verdict:
    """Describes what came of waiting for one machine.
    seconds: until the evidence was found, or the guest given up.
    evidence: which of KINDS convinced, or "".
    text: what convinced.
    missing: what the console does not show.
    tried: what was found in place of evidence, by kind."""

    wanted: Wanted
    verified: bool
    seconds: float
    evidence: str = ""
    text: str = ""
    missing: tuple[str, ...] = ()
    tried: Mapping[str, str] = field(default_factory=dict)
    last_lines: tuple[str, ...] = ()
    error: NebulaError | None = None


class Guest:
    """Describes one machine whose guest is waited for."""

    def __init__(self, wanted: Wanted, sources: Sequence[Source] = ()) -> None:
        self.wanted = wanted
        self.sources = [source for source in sources if wanted.counts(source.kind)]
        self.log = ConsoleLog(wanted.console)
        self.last: deque[str] = deque(maxlen=SHOWN_LINES)
        self.changed_at = 0.0
        self.witnesses: list[Witness] = []
        self._begun = False

    def _restart(self) -> None:
        self._begun = True
        self.last.clear()
        if self.wanted.pattern:
            self.witnesses = [Pattern(compiled(self.wanted))]
            return
        table = CloudInit()
        known: list[Witness] = [DemoGuest(), table, Login(table)]
        self.witnesses = [witness for witness in known if self.wanted.counts(witness.kind)]

    def _take(self, line: str) -> None:
        if NODE_STARTING in line:
            self._restart()
        if line.strip():
            self.last.append(line)
        for witness in self.witnesses:
            witness.take(line)

    def asks(self, kind: str) -> bool:
        """Return whether what a source of this kind finds would count."""
        return self.wanted.counts(kind) and not any(witness.alone() for witness in self.witnesses)

    def look(self, now: float) -> Verdict | None:
        """Read what is new, and return a verdict if there is one. now: seconds since waiting began."""
        if not self._begun:
            self._restart()
        if self.log.read(self._take, self._restart):
            self.changed_at = now
        if self.log.inode is not None and not self.log.has_boot:
            text = recall(self.wanted)
            kind = LOGIN if text.startswith(PROMPT) else CONSOLE
            if text and self.wanted.counts(kind):
                return Verdict(self.wanted, True, now, kind, text)
        for witness in self.witnesses:
            witness.prompt(self.log.partial)
        # A guest that reports what goes wrong is not overruled by its login prompt or another source.
        alone = [witness for witness in self.witnesses if witness.alone()]
        for witness in alone or self.witnesses:
            if witness.heard() and not witness.missing(self.wanted):
                return Verdict(self.wanted, True, now, witness.kind, witness.evidence())
        for source in () if alone else self.sources:
            text = source.evidence(self.wanted.vm_id)
            if text:
                return Verdict(self.wanted, True, now, source.kind, text)
        if now - self.changed_at >= SETTLED_AFTER and any(witness.final() for witness in self.witnesses):
            return self.given_up(now)
        return None

    def given_up(self, now: float) -> Verdict:
        """Return the verdict for a guest that nothing convinced of, with all that was found."""
        tried = self.tried()
        heard = [*self.last, self.log.partial] if self.log.partial.strip() else list(self.last)
        lines = [harmless(line) for line in heard[-SHOWN_LINES:]]
        shown = "".join(f"\n    {line}" for line in lines)
        error = TimedOut(
            f"VM {self.wanted.vm_id} ({self.wanted.name}): its guest is up and contextualised",
            f"nothing said so within {now:.0f} s; {'; '.join(f'{kind}: {found}' for kind, found in tried.items())}",
            f"{OPTIONS}. "
            + (f"Last lines of {self.wanted.console}:{shown}" if lines else f"{self.wanted.console} is empty"),
        )
        missing = self.missing() if self.wanted.counts(CONSOLE) else list(tried.values())
        return Verdict(
            self.wanted, False, now, missing=tuple(missing), tried=tried, last_lines=tuple(lines), error=error
        )

    def tried(self) -> dict[str, str]:
        """Return what was found in place of evidence, by each kind that counts."""
        found = {}
        if self.wanted.counts(CONSOLE):
            found[CONSOLE] = f"missing {'; '.join(self.missing())}"
        if any(witness.alone() for witness in self.witnesses):
            return found
        for witness in self.witnesses:
            if witness.kind == LOGIN:
                found[LOGIN] = "; ".join(witness.missing(self.wanted))
        for source in self.sources:
            found[source.kind] = harmless(source.found(self.wanted.vm_id), LONGEST_FOUND)
        return found

    def missing(self) -> list[str]:
        """Return what the console does not show."""
        if self.log.inode is None:
            return ["a console log"]
        heard = [witness for witness in self.witnesses if witness.kind == CONSOLE and witness.heard()]
        if heard:
            return heard[0].missing(self.wanted)
        return what_differs(self.wanted, "", ()) or ["a word of its context"]


def wait(
    machines: Sequence[Wanted],
    timeout: float,
    report: Callable[[int, int, int], None] = lambda *_counts: None,
    keep: bool = True,
    sources: Sequence[Source] = (),
) -> list[Verdict]:
    """Wait until there is evidence of every guest, or it is given up. Return one verdict for each, in the given order.
    timeout: seconds for all of them together.
    report: called with done, failed and total at every look: each 0.2 s, or up to each 2 s if a look takes long
    (many machines, a slow host).
    keep: whether to keep evidence, since consoles are rotated.
    sources: other sources, asked only about machines whose consoles show nothing at the first look."""
    began = time.monotonic()
    verdicts: dict[int, Verdict] = {}
    waiting = {index: Guest(wanted, sources) for index, wanted in enumerate(machines)}
    first = True
    while True:
        now = time.monotonic() - began
        for source in () if first else sources:
            source.look({guest.wanted.vm_id for guest in waiting.values() if guest.asks(source.kind)}, now)
        first = False
        # Consoles are read after the sources: what a guest has begun to report goes before its address and agent.
        for index, guest in list(waiting.items()):
            verdict = attempt(guest, now)
            if verdict is None and now >= timeout:
                verdict = guest.given_up(now)
            if verdict is not None:
                verdicts[index] = verdict
                del waiting[index]
                # Addresses and agents are asked again the next time.
                if keep and verdict.evidence in (CONSOLE, LOGIN):
                    remember(verdict.wanted, verdict.text)
        done = sum(verdict.verified for verdict in verdicts.values())
        report(done, len(verdicts) - done, len(machines))
        if not waiting:
            return [verdicts[index] for index in range(len(machines))]
        cost = time.monotonic() - began - now
        time.sleep(min(max(cost * SHARE, POLL_INTERVAL), LONGEST_INTERVAL))


def attempt(guest: Guest, now: float) -> Verdict | None:
    """Look at a guest once, and return the verdict if there is one. An error is a verdict too, so that others are
    waited for."""
    try:
        return guest.look(now)
    except NebulaError as error:
        return failed_verdict(guest.wanted, error, now)


def failed_verdict(wanted: Wanted, error: NebulaError, now: float) -> Verdict:
    """Return the verdict for a machine that can't be looked at."""
    called = f"VM {wanted.vm_id} ({wanted.name})"
    asked = error.asked if error.asked.startswith(called) else f"{called}: {error.asked}"
    return Verdict(wanted, False, now, missing=(error.found,), error=type(error)(asked, error.found, error.remedy))
