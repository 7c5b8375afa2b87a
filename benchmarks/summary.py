# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said after the table: which targets were missed, and how far the figures can be believed."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from measure import CPU, Row, figure
from setting import computed_here

SECONDS_BETWEEN = 5.0
# What others may take of the processors, as a part of all.
BUSY = 0.2


@dataclass
class Load:
    """Watches, while it is entered, how busy the machine is. before: its load average at first. during: each that was
    seen. others: how many processors the programs of others kept busy, on average; None where nothing says so."""

    processors: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    before: float = 0.0
    during: list[float] = field(default_factory=list)
    others: float | None = None

    def __enter__(self) -> Load:
        self.before = os.getloadavg()[0]
        self._began, self._busy, self._own = time.monotonic(), busy(), computed_here()
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._watch.join()
        self.during.append(os.getloadavg()[0])
        seconds = time.monotonic() - self._began
        self.others = max(0.0, busy() - self._busy - (computed_here() - self._own)) / seconds

    def _look(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN):
            self.during.append(os.getloadavg()[0])


def busy() -> float:
    """Seconds that all processors of the machine computed until now."""
    user, nice, system, _idle, _waiting, interrupt, soft = Path("/proc/stat").read_text().split()[1:8]
    return sum(map(int, (user, nice, system, interrupt, soft))) / os.sysconf("SC_CLK_TCK")


def missed(rows: Sequence[Row]) -> list[str]:
    judged = [row for row in rows if row.met is not None]
    found = [row for row in judged if not row.met]
    if not found:
        return [f"All {len(judged)} targets were met."] if judged else ["No row has a target."]
    lines = [f"{len(found)} of {len(judged)} targets were missed:"]
    for row in found:
        # Of a number that is not to be exceeded, the number itself says more than its part of it.
        itself = row.is_limit or row.ratio is None
        value = f"{figure(row.ours)} {row.unit}".rstrip() if itself else f"{figure(row.ratio)} times"
        lines.append(f"  {row.name}: {value}, the target is {row.target}{doubt(row)}")
    return lines


def doubt(row: Row) -> str:
    """Said of a target that was missed by no more than what the rounds differ by."""
    if row.spread is None or row.beyond is None or row.beyond > row.spread:
        return ""
    return f" (missed by {row.beyond:.0%}, and the rounds differ by {row.spread:.0%})"


def belief(load: Load, rows: Sequence[Row]) -> list[str]:
    most, mean = max(load.during, default=load.before), statistics.fmean(load.during or [load.before])
    lines = [
        (
            f"{load.processors} processors. Load average, the benchmarks themselves included: {load.before:.1f} before "
            f"they began, meanwhile {mean:.1f} on average and {most:.1f} at most."
        )
    ]
    if load.others is not None:
        lines.append(f"Other programs of this machine kept {load.others:.1f} processors busy on average.")
    clocked = sum(row.unit in ("s", "ms") for row in rows)
    counted = sum("CPU" in row.unit for row in rows)
    lines.append(
        f"{counted} rows are in seconds that processors computed ({CPU}), of both sides: other programs hardly change "
        f"them. {clocked} are by the clock: on a busy machine only their ratios say something, and these less."
    )
    if clocked and (load.others or 0.0) > load.processors * BUSY:
        lines.append("The machine was too busy for rows by the clock: measure these again when it is idle.")
    spreads = sorted((row.spread, row.name) for row in rows if row.spread is not None)
    if not spreads:
        lines.append("Nothing was measured in more than one round, so nothing says how far the rounds differ.")
        return lines
    widest, name = spreads[-1]
    lines.append(
        f"Between rounds (the middle half of them): half of the rows differ by {spreads[len(spreads) // 2][0]:.0%} or "
        f"less, nine of ten by {spreads[len(spreads) * 9 // 10][0]:.0%} or less; most does “{name}”, by {widest:.0%}."
    )
    return lines
