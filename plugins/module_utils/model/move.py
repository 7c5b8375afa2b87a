# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes a machine's move from one host to another: as the catalog keeps it, as two plans say it, and what its hosts
say of it. docs/architecture.md draws the states."""

from __future__ import annotations

from typing import Optional

from ..dataclass import dataclass
from . import defaults
from .vm import Numa, Topology

# Ways. LIVE: it runs on, and its disks come with its memory. COLD: it is off while its disks are copied.
LIVE, COLD = "live", "cold"
WAYS = (LIVE, COLD)

# Roles of the two hosts.
SOURCE, TARGET = "source", "target"
ROLES = (SOURCE, TARGET)

# What a host's own ledger holds of a move, until it has nothing of it any more.
# At the source: the machine may be on its way; it has gone, and nothing here may start it; it has gone, and so have its
# files.
LEAVING, LEFT, CLEARED = "leaving", "left", "cleared"
# At the target: a copy, which nothing may start; the machine is here, and its source may not know that yet.
COMING, ARRIVED = "coming", "arrived"
# What each has answered where nothing of the move is left: an answer that was given is not taken back.
STAYED, ABSENT = "stayed", "absent"
STAGES = (LEAVING, LEFT, CLEARED, COMING, ARRIVED, STAYED, ABSENT)
# The stages in which nothing is left to be done about a move.
OVER = (CLEARED, ARRIVED, STAYED, ABSENT)

# What a host answers of a move that its plan has, VmOutcome.moved: "" if that is not known. At the source: the machine
# is its own as before, or has gone. At the target: it is here, or is not and will never be by this move.
HAS_STAYED, HAS_LEFT, HAS_ARRIVED, IS_ABSENT = "stayed", "left", "arrived", "absent"
ANSWERS = ("", HAS_STAYED, HAS_LEFT, HAS_ARRIVED, IS_ABSENT)
# Which of these each role may give.
ANSWERS_OF = {SOURCE: (HAS_STAYED, HAS_LEFT), TARGET: (HAS_ARRIVED, IS_ABSENT)}


@dataclass(frozen=True)
class Move:
    """Holds an open move as the catalog keeps it with its machine.
    token: names it for ever.
    generation: of the machine, when the move was decided.
    asked: both hosts are only asked what became of it: another run may have begun it.
    port: of its graphics on the target, 0 if it has none.
    overhead: MiB that it takes there beside its memory.
    numa, topology: which processors and memory it is to have of the target, and what it sees of them; None for any.
    source_numa, source_topology: the same of the source, which holds them until the machine was found at the target.
    away: the host from which it is away until that is out of maintenance, "" if it moves for good.
    source_doubt, target_doubt: why that host does not tell whose the machine is, "" if it was not asked yet.
    source_error, target_error: what went wrong there by what that host says, "" for nothing.
    little: errors of this move as they were written which do not say why it failed, or only that the other host did.
    arrived: the target has said that all of the machine has come."""

    token: str
    source: str
    target: str
    way: str
    generation: int
    asked: bool = False
    port: int = 0
    overhead: int = 0
    away: str = ""
    source_doubt: str = ""
    target_doubt: str = ""
    source_error: str = ""
    target_error: str = ""
    little: tuple[str, ...] = ()
    numa: Optional[Numa] = None
    topology: Optional[Topology] = None
    source_numa: Optional[Numa] = None
    source_topology: Optional[Topology] = None
    arrived: bool = False


@dataclass(frozen=True)
class MeetingPlace:
    """Says where a host is met by those that bring a machine to it: an address or a name, and a TCP port."""

    address: str
    port: int = defaults.MOVE_PORT


@dataclass(frozen=True)
class PlannedMove:
    """Describes one host's part in a move, as its plan says it.
    peer: the other host's name.
    asks: nothing is moved; the host says what became of it.
    address, port: where the target is met. address: "" at the target, which listens on all of its own.
    certificate: the other host's, as PEM: nobody else is spoken with.
    limit: seconds after which a move is given up that has not ended.
    meeting: seconds in which the other host has to be there.
    shared: by the catalog both hosts have the same shared datastore."""

    token: str
    role: str
    way: str
    peer: str
    asks: bool = False
    address: str = ""
    port: int = defaults.MOVE_PORT
    certificate: str = ""
    limit: int = defaults.MOVE_SECONDS
    meeting: int = defaults.MEETING_SECONDS
    shared: bool = False


@dataclass(frozen=True)
class Leftover:
    """Names what a host still has of a move that is decided, and is to have no more: the machine is another host's now,
    or never came. What is there without this token is left alone."""

    vm_id: int
    uuid: str
    token: str


@dataclass(frozen=True)
class MoveSeen:
    """Describes what a host's ledger has of a move.
    went_down: as NodeMove has it."""

    vm_id: int
    token: str
    stage: str
    went_down: bool = False


def is_answer_of(role: str, answer: str) -> bool:
    """Return whether a host in this role may give this answer."""
    return not answer or answer in ANSWERS_OF.get(role, ())


def owner_after(answer: str) -> Optional[str]:
    """Return the role of the host that has the machine after this answer; None if the answer does not tell."""
    return {HAS_STAYED: SOURCE, IS_ABSENT: SOURCE, HAS_LEFT: TARGET, HAS_ARRIVED: TARGET}.get(answer)
