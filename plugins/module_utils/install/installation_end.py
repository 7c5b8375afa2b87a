# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides when an installation is over, and whether it reached its end. Pure."""

from __future__ import annotations

from ..dataclass import dataclass

# Ends of an installation.
POWEROFF, REBOOT, PATTERN, MANUAL = "poweroff", "reboot", "pattern", "manual"
ENDS = (POWEROFF, REBOOT, PATTERN, MANUAL)
# What our answers have the installer say on the serial console when it has done everything.
FINISHED = "nebula-install: finished"


@dataclass(frozen=True)
class Seen:
    """Describes a machine that installs at one moment.
    marker: whether its console has the word that it is finished.
    matched, failure: the line since its start that the user waits for, and one that no installer recovers from.
    quiet: seconds since console and disk last moved."""

    state: str = ""
    ended: str = ""
    marker: bool = False
    matched: str = ""
    failure: str = ""
    quiet: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """Describes the end of an installation. installed: whether it reached it. problem, remedy: why it will not get
    there."""

    installed: bool
    how: str = ""
    problem: str = ""
    remedy: str = ""


# Seconds of silence after the line that is the end. Linux leaves what was written in memory for 30 s, and looks every
# 5 s: after that the plug can be pulled.
QUIET = 35.0
# How much later than its end a machine's last words may be in the log.
LATE = 2.0
# An installer that has said that something failed, and is silent since, asks somebody who is not there.
STUCK = 15.0
_INSPECT = (
    "Its machine is kept: look at it. Then say state: installed if it is finished all the same, or state: absent to "
    "give it up, after which a run begins anew"
)


def verdict(seen: Seen, end: str, marker: bool) -> Verdict | None:
    """Return whether the installation is at its end; None while it is not. marker: whether our answers report it on
    the console."""
    if seen.state == "POWEROFF" and seen.ended == "guest":
        if marker and not seen.marker:
            if seen.quiet < LATE:
                return None
            return _failed("the guest ended its machine without having said that it is finished")
        if end == PATTERN and not seen.matched:
            if seen.quiet < LATE:
                return None
            return _failed("the guest ended its machine without the line that is its end")
        if seen.failure and not seen.marker and not seen.matched:
            return _failed(f"the guest ended its machine, and had said {seen.failure!r}")
        return Verdict(True, "its guest ended the machine" + (", and had said that it is finished" if marker else ""))
    if seen.state == "POWEROFF" and seen.ended == "unknown":
        if marker and seen.marker:
            return Verdict(True, "it had said that it is finished, and its machine is off")
        if end == PATTERN and seen.matched:
            return Verdict(True, f"it had said {seen.matched!r}, and its machine is off")
        if (marker or end == PATTERN) and seen.quiet < LATE:
            return None
        return _failed("its machine is off, and nothing tells who ended it")
    anew = _INSPECT if end == MANUAL else "Run again: it is installed anew, on a fresh disk"
    if seen.state == "POWEROFF":
        return _failed("its machine was ended, and not by its guest", anew)
    if seen.state == "":
        return _failed("its machine is gone from the host", anew)
    if end == PATTERN and seen.matched and seen.quiet >= QUIET:
        return Verdict(True, f"its console said {seen.matched!r}")
    if seen.failure and not seen.marker and seen.quiet >= STUCK:
        return _failed(f"its console says {seen.failure!r}")
    return None


def too_late(seen: Seen, seconds: float) -> Verdict:
    paused = " (it is paused: is its host's disk full?)" if seen.state == "UNKNOWN" else ""
    remedy = f"Run again to go on waiting, with a larger timeout if need be. {_INSPECT}"
    return _failed(f"it has not come to its end within {seconds:.0f} s{paused}", remedy)


def _failed(problem: str, remedy: str = _INSPECT) -> Verdict:
    return Verdict(False, problem=problem, remedy=remedy)
