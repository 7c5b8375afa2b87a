# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all benchmarks share: rows of the result, running programs against the clock, taking turns."""

from __future__ import annotations

import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SHOWN_LINES = 40


class MeasurementFailed(Exception):
    """What was to be measured did not happen, so there is no figure."""


@dataclass(frozen=True)
class Row:
    """One line of the result. ratio is as target reads it: ours / peer under "≤", peer / ours (how many times less
    ours takes) under "≥". Where the peer is a limit, it is that number. target and met are None for what only informs.
    """

    name: str
    ours: float
    peer: float | None
    unit: str
    ratio: float | None = None
    target: str | None = None
    met: bool | None = None

    @classmethod
    def at_most(cls, name: str, ours: float, peer: float, unit: str, times: float) -> Row:
        return cls(name, ours, peer, unit, ours / peer, f"≤ {times:g}", ours / peer <= times)

    @classmethod
    def at_least(cls, name: str, ours: float, peer: float, unit: str, times: float) -> Row:
        return cls(name, ours, peer, unit, peer / ours, f"≥ {times:g}", peer / ours >= times)

    @classmethod
    def limit(cls, name: str, ours: float, limit: float, unit: str) -> Row:
        return cls(name, ours, limit, unit, ours / limit, f"≤ {limit:g} {unit}", ours <= limit)

    @classmethod
    def exactly(cls, name: str, ours: float, wanted: float, unit: str) -> Row:
        return cls(name, ours, wanted, unit, None, f"= {wanted:g}", ours == wanted)

    @classmethod
    def fact(cls, name: str, ours: float, peer: float | None, unit: str) -> Row:
        return cls(name, ours, peer, unit, ours / peer if peer else None)

    def as_json(self) -> dict[str, object]:
        values = dataclasses.asdict(self)
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in values.items()}


def table(rows: Sequence[Row]) -> str:
    """Columns as wide as they must be; figures to the right."""
    lines = [("", "ours", "peer", "unit", "ratio", "target", "")]
    for row in rows:
        met = {None: "", True: "met", False: "MISSED"}[row.met]
        lines.append((row.name, figure(row.ours), figure(row.peer), row.unit, figure(row.ratio), row.target or "", met))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    align = [str.ljust, str.rjust, str.rjust, str.ljust, str.rjust, str.ljust, str.ljust]
    return "\n".join(
        "  ".join(put(text, width) for put, text, width in zip(align, line, widths, strict=True)).rstrip()
        for line in lines
    )


def figure(value: float | None) -> str:
    """Three significant digits; whole numbers in full."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


@dataclass(frozen=True)
class Finished:
    """A program that ended well. seconds: by the clock, from its start to its end. processor: seconds that it and what
    it started computed. memory: MiB at the peak, of the largest of these."""

    seconds: float
    processor: float
    memory: float
    output: str


def run(argv: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> Finished:
    """Raises MeasurementFailed, with the end of what the program said, if it fails."""
    with tempfile.TemporaryFile() as output:
        start = time.perf_counter()
        process = subprocess.Popen(
            [str(argument) for argument in argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )
        _pid, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        # So that subprocess waits for it no more.
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        said = output.read().decode("utf-8", "replace")
    if process.returncode != 0:
        shown = "\n".join(said.splitlines()[-SHOWN_LINES:])
        raise MeasurementFailed(f"{' '.join(map(str, argv))[:500]} ended with {process.returncode}:\n{shown}")
    return Finished(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, said)


def take_turns(rounds: int, contestants: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    """The median of each one's figures. Within each round all take their turn, so that a busy moment of the machine
    meets them alike."""
    figures: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds):
        for name, measured in contestants.items():
            figures[name].append(measured())
            tell(f"round {number + 1} of {rounds}: {name}: {figures[name][-1]:.2f}")
    return {name: statistics.median(values) for name, values in figures.items()}


def tell(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)
