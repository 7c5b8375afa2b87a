# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Chooses which machines move to other hosts, a round after the other: those of a list whose items say so, and those of
hosts that are emptied for maintenance, or get their machines back.

The decision of a list tries which machines can move, and where to, and its result names them (`moves`). Each round is
given these, and begins as many of them as may move at a time. The first one may come right after the decision, in the
same call, where that has nothing else to do."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field, fields
from typing import Any

from ...dataclass import dataclass, replace
from ...engines.base import Engine
from ...engines.ports import VmOrders, VmRecord
from ...errors import InvalidValue, NebulaError, NoCapacity, NotFound, Unsupported, WrongState
from ...model import defaults
from ...model.device_matching import DISK
from ...model.meeting import leads_to_itself
from ...model.move import COLD, LIVE, MeetingPlace
from ...model.object_ids import id_of
from ...model.object_names import known_are
from ...model.shared_datastores import datastore_of, is_common
from ...model.states import FAILURES
from .restarts import Batch
from .vm_item import ALL, MIGRATED, NEVER
from .vm_outcome import Outcome

# The word of maintenance for machines that run: live, and those that can't are powered off for it.
EITHER = "either"
WORDS = (LIVE, COLD, ALL, EITHER)
# The states in which a machine moves, and those in which nothing is under way.
_AT_REST = ("RUNNING", "POWEROFF")
_STILL = (*_AT_REST, "SUSPENDED", "UNKNOWN", *(state.name for state in FAILURES))
_HOSTS_OF_A_MOVE = 2


@dataclass(frozen=True)
class Terms:
    """Says how machines may move in a run.
    batch: how many move at a time.
    forks: hosts on which one task of Ansible acts at a time. Both hosts of a move have to act in the same one.
    hosts: names of those that take part; None for all.
    places: by the name of a host, where it is met.
    seconds: after which a move is given up."""

    batch: Batch
    forks: int
    hosts: Sequence[str] | None
    places: Mapping[str, MeetingPlace]
    seconds: int = defaults.MOVE_SECONDS

    def takes_part(self, host: str) -> bool:
        return self.hosts is None or host in self.hosts

    def is_met(self, host: str) -> bool:
        """Return whether other hosts are told where to meet this one."""
        place = self.places.get(host)
        return place is not None and not leads_to_itself(place.address)


@dataclass(frozen=True)
class WantedMove:
    """Describes a machine that is to move, as it goes from the decision of a list to the rounds.
    host: where it is before.
    generation: of the machine. What is decided about it later, as that it moves, makes it another.
    to: the host that is asked for, "" to leave that to the scheduler.
    word: how, one of WORDS.
    away: the host that it is away from then, "" if it moves for good.
    target: where it is expected to go, "" if that is not known yet.
    way: the way that is expected.
    size: the MiB that are copied at most.
    hard, shutdown_timeout: how it is powered off where that is part of the way.
    datastore: the shared one in which its disks stay, "" if they are copied or that is not known yet."""

    id: int
    name: str
    host: str
    generation: int
    to: str = ""
    word: str = LIVE
    away: str = ""
    target: str = ""
    way: str = ""
    size: int = 0
    hard: bool = False
    shutdown_timeout: int = defaults.SHUTDOWN_SECONDS
    datastore: str = ""

    @property
    def orders(self) -> VmOrders:
        return VmOrders(hard=self.hard, shutdown_timeout=self.shutdown_timeout)

    @property
    def text(self) -> str:
        """Return what is asked, for errors."""
        return f"VM {self.name} (id {self.id}): moving it from host {self.host}" + (f" to {self.to}" if self.to else "")

    def view(self) -> dict[str, Any]:
        """Return it as results show it."""
        return {key: getattr(self, key) for key in _fields()}


_KINDS: Mapping[str, type] = {**dict.fromkeys(("id", "generation", "size", "shutdown_timeout"), int), "hard": bool}


@functools.lru_cache(maxsize=1)
def _fields() -> dict[str, type]:
    """Return the types of what there is of each machine, by name."""
    return {each.name: _KINDS.get(each.name, str) for each in fields(WantedMove)}


def _wanted(record: VmRecord) -> WantedMove:
    return WantedMove(id_of(record), record.name, record.host, record.generation)


def read_moves(given: Any) -> list[WantedMove]:
    """Return the machines that a decision has said to move. Raise InvalidValue for what no decision has said."""
    remedy = "Give what nebula_vm has returned as moves"
    if not isinstance(given, list):
        raise InvalidValue("option moves", f"it is a {type(given).__name__}", remedy)
    found = []
    for index, each in enumerate(given):
        where = f"option moves: entry {index}"
        if not isinstance(each, Mapping) or set(each) != set(_fields()):
            raise InvalidValue(where, "it is not what a decision returns", remedy)
        for key, kind in _fields().items():
            value = each[key]
            if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                raise InvalidValue(f"{where}: {key}", f"it is a {type(value).__name__}", remedy)
        if each["word"] not in WORDS:
            raise InvalidValue(
                f"{where}: word {each['word']!r}", "there is no such word", known_are(each["word"], WORDS)
            )
        found.append(WantedMove(**each))
    return found


def wanted_by_list(outcomes: Sequence[Outcome], terms: Terms) -> list[WantedMove]:
    """Return the machines of a list that are to move, as far as their items say so."""
    found = []
    for outcome in outcomes:
        spec, record = outcome.spec, outcome.after
        # An adopted machine stays as it is.
        if spec is None or record is None or outcome.before is None or spec.move_word == NEVER:
            continue
        if not terms.takes_part(record.host):
            continue
        if spec.state != MIGRATED and (record.away or not spec.host):
            continue
        if spec.host != record.host:
            move = replace(_wanted(record), to=spec.host, word=spec.move_word)
            found.append(replace(move, hard=spec.orders.hard, shutdown_timeout=spec.orders.shutdown_timeout))
    return found


@dataclass(frozen=True)
class Maintenance:
    """Says which hosts lose all their machines, and which get those back that are away from there.
    is_cold: machines that run and can't move while they do are powered off for it."""

    empty: Sequence[str] = ()
    fill: Sequence[str] = ()
    is_cold: bool = False

    def wanted(self, engine: Engine, terms: Terms) -> list[WantedMove]:
        """Return the machines that are to move. Raise NotFound for a host that the catalog does not have."""
        if not (self.empty or self.fill):
            return []
        known = [host.name for host in engine.hosts.pool()]
        for name in (*self.empty, *self.fill):
            if name not in known:
                raise NotFound(f"maintenance of host {name}", "the catalog has no such host", known_are(name, known))
        found, word = [], EITHER if self.is_cold else ALL
        for record in engine.vms.pool():
            move = replace(_wanted(record), word=word)
            if record.host in self.empty:
                found.append(replace(move, away=record.away or record.host))
            elif record.away in self.fill and terms.takes_part(record.host):
                found.append(replace(move, to=record.away))
        return found


class _Enough(Exception):
    """Makes the engine undo a trial."""


@dataclass(frozen=True)
class Moves:
    """Decides about machines that are to move.
    is_check: nothing of it is kept, and no rounds follow."""

    terms: Terms
    maintenance: Maintenance = field(default_factory=Maintenance)
    is_check: bool = False

    def among(self, hosts: Sequence[str] | None) -> Moves:
        """Return the same among these hosts alone."""
        return replace(self, terms=replace(self.terms, hosts=hosts))

    def foresee(self, engine: Engine, outcomes: list[Outcome]) -> list[WantedMove]:
        """Try to move all machines that are to move, and undo that. Return those that will move, with what is expected
        of it; what keeps the others where they are becomes a difference of their outcomes.

        A machine that this decision changes, or of which something is under way, moves when that is done, and can't be
        tried yet."""
        wanted = [*wanted_by_list(outcomes, self.terms), *self.maintenance.wanted(engine, self.terms)]
        of = {id_of(each.after): each for each in outcomes if each.after is not None}
        others = [each.id for each in wanted if each.id not in of]
        for record in engine.vms.pool(ids=others) if others else ():
            of[id_of(record)] = Outcome(record.name, record, record)
            outcomes.append(of[id_of(record)])
        found: list[WantedMove] = []
        refused: list[tuple[WantedMove, NebulaError]] = []
        if wanted:
            with contextlib.suppress(_Enough), engine.attempt():
                for each in wanted:
                    try:
                        found.append(self._tried(engine, each, of[each.id], wanted))
                    except NebulaError as error:
                        refused.append((each, error))
                raise _Enough
        for each, why in refused:
            _tell_refused(of[each.id], each, why)
        for each in found if self.is_check else ():
            of[each.id].moves = each.view()
        return found

    def _tried(self, engine: Engine, move: WantedMove, outcome: Outcome, wanted: Sequence[WantedMove]) -> WantedMove:
        record = outcome.after
        if record is None:
            raise NotFound(f"VM {move.name}", "it is gone")
        # What is under way ends with the plans of this decision.
        ends = record.state not in _STILL or not record.settled or record.moving or outcome.before != record
        state = record.wanted if ends and record.wanted in _AT_REST else record.state
        _refuse_off(move, state)
        self._refuse_terms(move)
        targets = self._targets(move)
        way = _ways(move.word, state)[0]
        unknown = replace(move, target=move.to, way=way, size=_copied(engine, record, way))
        if ends:
            return unknown
        try:
            after, way = _begin(engine, move, record, targets)
        except NoCapacity:
            # Those that leave the host make room.
            if not any(each.host == move.to for each in wanted):
                raise
            return unknown
        datastore = _datastore_of_both(engine, record.host, after.moving)
        size = _copied(engine, record, way, datastore)
        return replace(move, target=after.moving, way=way, size=size, datastore=datastore)

    def rounds(self, moves: Sequence[WantedMove]) -> int:
        """Return how many rounds it takes to move all of them."""
        left, rounds = list(moves), 0
        while left:
            this, later = _Round(self.terms, len(moves)), list[WantedMove]()
            for each in left:
                # Where it goes is not known of each: it may be yet another host.
                target = each.to or each.target or f"of VM {each.id}"
                if this.may_take(each.host, target):
                    this.take(each.host, target)
                else:
                    later.append(each)
            left, rounds = later, rounds + 1
        return rounds

    def begin(self, engine: Engine, moves: Sequence[WantedMove]) -> tuple[list[Outcome], list[str]]:
        """Have the machines of one round move, in their order. Return the outcomes of these, of those that can't move,
        and of those that are asked about, since nobody knows what became of their moves or how they have arrived; and
        the names of the hosts that take part."""
        known = {id_of(record): record for record in engine.vms.pool()}
        arrived = [known[each.id] for each in moves if each.id in known and known[each.id].host != each.host]
        asked = [record for record in known.values() if record.moving]
        asked += [record for record in arrived if record.state not in _AT_REST and not record.moving]
        outcomes = [Outcome(record.name, record, record) for record in asked]
        this = _Round(self.terms, len(moves), {*(each.host for each in asked), *(each.moving for each in asked)} - {""})
        short: list[Outcome] = []
        for move in moves:
            record = known.get(move.id)
            # One that has arrived, failed in an earlier round, or is gone, is done with.
            if record is None or record.generation != move.generation or record.host != move.host or record.moving:
                continue
            if not this.may_take(record.host, move.to):
                continue
            targets = among = list[str]()
            try:
                _refuse_off(move, record.state)
                self._refuse_terms(move)
                targets = self._targets(move)
                among = [host for host in targets if this.may_take(record.host, host)]
                after, _way = _begin(engine, move, record, among)
            except NebulaError as error:
                # Others that move may make room for it, and in a later round it has all hosts to choose from.
                waits = isinstance(error, NoCapacity) or among != targets
                (short if waits else outcomes).append(Outcome(record.name, record, record, error))
                continue
            this.take(after.host, after.moving)
            outcomes.append(Outcome(record.name, record, after))
        if not this.hosts:
            outcomes.extend(short)
        return outcomes, sorted(this.hosts)

    def _refuse_terms(self, move: WantedMove) -> None:
        """Raise an error if the run can't move the machine, whatever the catalog says."""
        if self.terms.forks < _HOSTS_OF_A_MOVE:
            raise Unsupported(
                move.text,
                f"both hosts have to act at the same time, and Ansible acts on {self.terms.forks} host at a time",
                "Set forks to 2 or more (ansible-playbook --forks 2)",
            )
        for host in filter(None, (move.host, move.to)):
            if not self.terms.takes_part(host):
                known = known_are(host, self.terms.hosts or ())
                raise NotFound(move.text, f"host {host} is not part of this run", known)

    def _targets(self, move: WantedMove) -> list[str]:
        """Return the hosts to which the machine may go. Raise InvalidValue if nobody could meet them."""
        if move.to:
            others = [move.to]
        else:
            known = self.terms.hosts if self.terms.hosts is not None else [*self.terms.places]
            others = [host for host in known if host != move.host and host not in self.maintenance.empty]
        if not others:
            raise NoCapacity(move.text, "no other host is part of this run", "Add a node, or run without --limit")
        met = [host for host in others if self.terms.is_met(host)]
        if not met:
            raise InvalidValue(move.text, *_not_met(others[0], self.terms.places))
        return met


class _Round:
    """Counts what a round has: machines that move, and hosts that take part.
    asked: hosts that are asked what became of earlier moves."""

    def __init__(self, terms: Terms, machines: int, asked: Collection[str] = ()) -> None:
        self._left, self._forks = terms.batch.of(machines), max(terms.forks, _HOSTS_OF_A_MOVE)
        self.hosts = set(asked)

    def may_take(self, source: str, target: str) -> bool:
        """Return whether one more machine may move. target: "" for any."""
        together = self.hosts | {source, target}
        return self._left > 0 and len(together - {""}) <= self._forks

    def take(self, source: str, target: str) -> None:
        self.hosts |= {source, target}
        self._left -= 1


def _begin(engine: Engine, move: WantedMove, record: VmRecord, hosts: Sequence[str]) -> tuple[VmRecord, str]:
    """Have the machine move in the first way in which it can, to one of the hosts. Return it, and the way."""
    *first, last = _ways(move.word, record.state)
    run = [record.host, *hosts]
    for way in first:
        # What keeps it from the last way is what is reported.
        with contextlib.suppress(NebulaError), engine.attempt():
            return engine.vms.move(move.id, move.to, way, move.away, run, hosts, move.orders), way
    with engine.attempt():
        return engine.vms.move(move.id, move.to, last, move.away, run, hosts, move.orders), last


def _refuse_off(move: WantedMove, state: str) -> None:
    """Raise WrongState for a machine that is off, if only those move that run."""
    if move.word == LIVE and state == "POWEROFF":
        raise WrongState(
            move.text,
            f"it is off, and move: {LIVE} moves machines that run",
            f"Set move: {ALL} (nebula_move: {ALL} for all) or move: {COLD}, and it moves as it is and stays off",
        )


def _ways(word: str, state: str) -> tuple[str, ...]:
    """Return the ways in which a machine in this state moves, those to be preferred first."""
    if word == COLD or state == "POWEROFF":
        return (COLD,)
    return (LIVE, COLD) if word == EITHER else (LIVE,)


def _datastore_of_both(engine: Engine, host: str, target: str) -> str:
    """Return the name of the shared datastore that both hosts have, "" if they have none."""
    datastores = engine.datastores.shared()
    found = datastore_of(datastores, host) if is_common(datastores, host, target) else None
    return found.name if found is not None else ""


def _copied(engine: Engine, record: VmRecord, way: str, datastore: str = "") -> int:
    """Return the MiB that are copied at most: of the machine's own disks, if they do not stay in a shared datastore,
    and of its memory if it runs on."""
    disks = engine.vms.devices(id_of(record)).get(DISK, ()) if not datastore else ()
    return sum(disk.size for disk in disks if disk.own) + (record.memory if way == LIVE else 0)


def _not_met(host: str, places: Mapping[str, MeetingPlace]) -> tuple[str, str]:
    """Return what is wrong with the place where a host is to be met, and what to do."""
    place = places.get(host)
    found = f"other hosts do not reach host {host} by {place.address}" if place else f"nothing says where {host} is met"
    return found, f"Set nebula_move_address of {host} to an address by which the other hosts reach it"


def _tell_refused(outcome: Outcome, move: WantedMove, error: NebulaError) -> None:
    record = outcome.after
    if record is None:
        return
    wanted = f"host {move.to}" if move.to else "another host"
    what = f"is on host {record.host}, is to move to {wanted}, and can't: {error.found.rstrip('.')}"
    remedy = (error.remedy[:1].lower() + error.remedy[1:]) or "run again when it can"
    outcome.left(record, "host", record.host, move.to or wanted, what, remedy, "it can move")
