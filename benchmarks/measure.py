# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all benchmarks share: rows of the result, what programs take of the clock and of the processors, taking turns.

On a machine that does other things, too, seconds by the clock say more about these than about us. So what can be said
in seconds that the processors computed is said so, of both sides: of a program with all that it started (`run`), of
work in this process with its children, and of the daemons that did some of it (`computed`)."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SHOWN_LINES = 40
CHILD = Path(__file__).resolve().parent / "child.py"
# Of what is said in seconds of the processors, whatever else they compute.
CPU = "s CPU"


class MeasurementFailed(Exception):
    """What was to be measured did not happen, so there is no figure."""


class Median(float):
    """The median of what a contestant took in all rounds. spread: how far the middle half of them lies apart, as a part
    of the median. None of one round alone."""

    spread: float | None

    def __new__(cls, number: float, spread: float | None = None) -> Median:
        made = super().__new__(cls, number)
        made.spread = spread
        return made

    @classmethod
    def of(cls, figures: Sequence[float]) -> Median:
        middle = statistics.median(figures)
        if len(figures) < 2 or middle == 0:
            return cls(middle)
        first, _second, third = statistics.quantiles(figures, n=4, method="inclusive")
        return cls(middle, (third - first) / middle)


def _spread(*figures: float | None) -> float | None:
    """The larger one, where figures of a row are medians."""
    found = [each.spread for each in figures if isinstance(each, Median) and each.spread is not None]
    return max(found, default=None)


@dataclass(frozen=True)
class Row:
    """One line of the result. ratio is as target reads it: ours / peer under "≤", peer / ours (how many times less
    ours takes) under "≥". Where the peer is a limit, it is that number. target and met are None for what only informs.
    memory: MiB at our side's peak. spread: of the median that was less sure, where rounds were measured.
    """

    name: str
    ours: float
    peer: float | None
    unit: str
    ratio: float | None = None
    target: str | None = None
    met: bool | None = None
    memory: float | None = None
    spread: float | None = None

    @classmethod
    def at_most(cls, name: str, ours: float, peer: float, unit: str, times: float, memory: float | None = None) -> Row:
        ratio = ours / peer
        return cls(name, ours, peer, unit, ratio, f"≤ {times:g}", ratio <= times, memory, _spread(ours, peer))

    @classmethod
    def at_least(cls, name: str, ours: float, peer: float, unit: str, times: float) -> Row:
        ratio = peer / ours
        return cls(name, ours, peer, unit, ratio, f"≥ {times:g}", ratio >= times, spread=_spread(ours, peer))

    @classmethod
    def limit(cls, name: str, ours: float, limit: float, unit: str) -> Row:
        target = f"≤ {limit:g} {unit}".rstrip()
        return cls(name, ours, limit, unit, ours / limit, target, ours <= limit, spread=_spread(ours))

    @classmethod
    def exactly(cls, name: str, ours: float, wanted: float, unit: str) -> Row:
        return cls(name, ours, wanted, unit, None, f"= {wanted:g}", ours == wanted)

    @classmethod
    def fact(cls, name: str, ours: float, peer: float | None, unit: str, memory: float | None = None) -> Row:
        ratio = ours / peer if peer else None
        return cls(name, ours, peer, unit, ratio, memory=memory, spread=_spread(ours, peer))

    @property
    def is_limit(self) -> bool:
        """Whether the peer is a number that ours is not to exceed."""
        return self.peer is not None and self.target == f"≤ {self.peer:g} {self.unit}".rstrip()

    @property
    def beyond(self) -> float | None:
        """How far the ratio is from where the target is, as a part of that; None without such a target."""
        if self.target is None or self.ratio is None:
            return None
        return abs(self.ratio / (1 if self.is_limit else float(self.target[2:])) - 1)

    def as_json(self) -> dict[str, object]:
        values = dataclasses.asdict(self)
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in values.items()}


def slope(fewer: tuple[float, float], more: tuple[float, float]) -> float:
    """How a figure grows between two sizes, each given as (size, figure): 0 if it does not, 1 if as the size does."""
    return math.log(more[1] / fewer[1]) / math.log(more[0] / fewer[0])


def table(rows: Sequence[Row]) -> str:
    """Columns as wide as they must be; figures to the right."""
    lines = [("", "ours", "peer", "unit", "ratio", "target", "", "MiB", "spread")]
    for row in rows:
        met = {None: "", True: "met", False: "MISSED"}[row.met]
        memory = "" if row.memory is None else f"{row.memory:.0f}"
        spread = "" if row.spread is None else f"{row.spread:.0%}"
        figures = (figure(row.ours), figure(row.peer), row.unit, figure(row.ratio))
        lines.append((row.name, *figures, row.target or "", met, memory, spread))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    align = [str.ljust, str.rjust, str.rjust, str.ljust, str.rjust, str.ljust, str.ljust, str.rjust, str.rjust]
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
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as told:
        process = subprocess.run(
            [sys.executable, "-I", "-S", CHILD, str(told.fileno()), *map(str, argv)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            pass_fds=[told.fileno()],
        )
        output.seek(0)
        said = output.read().decode("utf-8", "replace")
        told.seek(0)
        taken = json.loads(told.read() or "{}")
    ended = os.waitstatus_to_exitcode(taken["status"]) if taken else process.returncode
    if ended != 0:
        shown = "\n".join(said.splitlines()[-SHOWN_LINES:])
        raise MeasurementFailed(f"{' '.join(map(str, argv))[:500]} ended with {ended}:\n{shown}")
    return Finished(taken["seconds"], taken["processor"], taken["memory"] / 1024, said)


def computed(work: Callable[[], object], others: Callable[[], Iterable[int]] = lambda: ()) -> float:
    """Seconds that the processors computed for work: in this process, in the children that it waited for, and in
    others: ids of daemons that do some of it, with the children that these waited for."""

    def so_far() -> float:
        own = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(each.ru_utime + each.ru_stime for each in own) + sum(map(processor_of, others()))

    before = so_far()
    work()
    return so_far() - before


def processor_of(pid: int) -> float:
    """Seconds that a process, and the children that it waited for, computed until now. 0 if it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    # The program's name, in parentheses, may hold anything.
    ticks = text.rpartition(")")[2].split()[11:15]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def take_turns(rounds: int, contestants: Mapping[str, Callable[[], float]]) -> dict[str, Median]:
    """The median of each one's figures. Within each round all take their turn, so that a busy moment of the machine
    meets them alike."""
    figures: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds):
        for name, measured in contestants.items():
            figures[name].append(measured())
            tell(f"round {number + 1} of {rounds}: {name}: {figures[name][-1]:.2f}")
    return {name: Median.of(values) for name, values in figures.items()}


def tell(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)
