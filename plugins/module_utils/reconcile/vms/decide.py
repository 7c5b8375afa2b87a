# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the list of machines that a user wants to what is done about each: the same for every engine."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ...engines.base import Engine
from ...engines.ports import VmRecord, VmRequest
from ...errors import (
    BeingEnded,
    Conflict,
    InUse,
    InvalidValue,
    NebulaError,
    NoCapacity,
    NoLease,
    NotFound,
    WrongState,
)
from ...model.ids import id_of
from ...model.image import Image
from ...model.owner import Owner
from ...model.reader import twice
from ...model.states import FAILURES
from ...model.template import Template
from . import adoptions, renames
from .adoptions import Adoptions
from .destroying import DestroyLimit, destroyed, loses_disks, refuse_beyond
from .differences import change_as_listed, doubts_of_host_name, doubts_of_sockets, refuse_unsaved
from .outcome import Outcome
from .spec import INDEX, OPERATIONS, WANTED, Spec, Templates, spec_of

_FAILED = {state.name for state in FAILURES} | {"UNKNOWN"}
# Of an item that does not fit, also once all is gone that the list ends. Then nothing of it is ended.
_NO_PLACE = (NoCapacity, NoLease)
# What others have yet, and may lose by what stands further down in the list: it is free once that is done.
_HAD_BY_OTHERS = (*_NO_PLACE, InUse)
_SHOWN = 5


def reconcile(
    engine: Engine,
    items: Sequence[Mapping[str, Any]],
    hosts: Sequence[str] | None = None,
    adopting: Adoptions | None = None,
    formers: Collection[str] = (),
    limit: DestroyLimit | None = None,
    foreseen: bool = False,
) -> tuple[list[Outcome], list[str]]:
    """Called within a session. An item that can't be is an Outcome with its error, and nothing of it is kept; the
    others go on. The machines of such an item are outcomes as they are. hosts: only there are machines placed or
    touched (None: anywhere). adopting: unknown machines that become those of the list. formers: former names that items
    say which are not among these, since they can't be read. limit: TooManyDestroyed if more machines lose disks than
    that. foreseen: count also those of items that fail as yet, since what they need may come later in the run. Returns
    outcomes and warnings.

    The list is decided as a whole: what machines hold that it ends counts as free for those that it makes on the same
    host, wherever in the list either stands; and if something of it does not fit all the same, nothing is ended."""
    outcomes: list[Outcome] = []
    warnings: list[str] = []
    adopting = adopting or Adoptions()
    templates = Templates(engine)
    specs: list[Spec] = []
    seen: set[str] = set()
    refused: list[str] = []
    for item in items:
        try:
            spec = spec_of(item, templates, warnings)
            for name in spec.names or [spec.name]:
                if name in seen:
                    raise twice(f"VM {name}")
            seen.update(spec.names or [spec.name])
            specs.append(spec)
        except NebulaError as error:
            outcomes.append(_refused(str(item.get("name") or "?"), error))
            refused.append(str(item.get("name") or ""))
    specs = _without_clashes(specs, outcomes)
    outcomes.extend(_as_they_are(engine, refused, seen))
    lacking = adoptions.missing(adopting, [*refused, *(name for spec in specs for name in spec.names)])
    outcomes.extend(_refused(name, error) for name, error in lacking.items())
    formers = {*formers, *renames.formers(items)}
    there = len(engine.vms.names()) if limit is not None and limit.is_percentage else 0
    decision = _Decision(engine, specs, _Current(engine, specs), hosts, adopting, formers, foreseen)
    decision.take()
    outcomes.extend(decision.outcomes())
    if limit is not None:
        refuse_beyond(limit, decision.losing if foreseen else destroyed(outcomes), there)
    return outcomes, list(dict.fromkeys([*warnings, *decision.warnings]))


def _without_clashes(specs: Sequence[Spec], outcomes: list[Outcome]) -> list[Spec]:
    """Those whose machines' former names mean nothing else in the list; the others are outcomes with errors."""
    formers: dict[str, str] = {}
    for spec in specs:
        if spec.renamed_from:
            others = formers.get(spec.renamed_from)
            formers[spec.renamed_from] = f"{others} and VM {spec.name}" if others else f"VM {spec.name}"
    if not formers:
        return list(specs)
    wanted = {name: spec.name for spec in specs for name in spec.names or [spec.name]}
    left = []
    for spec in specs:
        try:
            renames.refuse_clash(f"VM {spec.name}", spec.name, spec.renamed_from, wanted, formers)
            left.append(spec)
        except NebulaError as error:
            outcomes.append(_refused(spec.name, error))
    return left


def _as_they_are(engine: Engine, names: Sequence[str], others: Collection[str]) -> list[Outcome]:
    """The machines of items that can't be read, less those of others."""
    found = engine.vms.pool(names=names, patterns=[name for name in names if INDEX in name]) if names else []
    return [Outcome(record.name, record, record) for record in found if record.name not in others]


class _Undone(Exception):
    """Undoes what was decided about a list, which is then decided in another way."""


class _Decision:
    """What becomes of a list: first all that ends, then what stays and what is new.

    errors, made: by the number of the specification. refused: those not tried again, with their errors. spared:
    nothing is ended. formers: former names; a machine that has one still is to get another one, and to stay. losing:
    names of machines whose disks would be destroyed, whether or not that was undone since.
    """

    def __init__(
        self,
        engine: Engine,
        specs: Sequence[Spec],
        current: _Current,
        hosts: Sequence[str] | None,
        adopting: Adoptions,
        formers: Collection[str],
        foreseen: bool = False,
    ) -> None:
        self.engine = engine
        self.specs = specs
        self.current = current
        self.hosts = hosts
        self.adopting = adopting
        self.formers = formers
        self.foreseen = foreseen
        self.warnings: list[str] = []
        self.errors: dict[int, NebulaError] = {}
        self.made: list[list[Outcome]] = []
        self.refused: dict[int, NebulaError] = {}
        self.spared = False
        # Names of those whose end was undone.
        self.kept: list[str] = []
        # Numbers of the specifications that got machines which were there, under another name or unknown.
        self.begun: set[int] = set()
        self.losing: dict[str, None] = {}

    def take(self) -> None:
        while True:
            try:
                with self.engine.attempt():
                    self._end_all()
                    ended = {number for number, made in enumerate(self.made) if any(o.before != o.after for o in made)}
                    self._fulfil_all()
                    self._undo_if_wanted(ended)
                return
            except _Undone:
                continue

    def outcomes(self) -> list[Outcome]:
        found = []
        for number, spec in enumerate(self.specs):
            found.extend(self.made[number])
            if number in self.errors:
                there = {outcome.name for outcome in self.made[number]}
                found.append(_refused(spec.name, self.errors[number]))
                records = [*self.current.beyond(spec), *self.current.of(spec)]
                found.extend(Outcome(each.name, each, each) for each in records if each.name not in there)
        return found

    def _end_all(self) -> None:
        self.warnings = []
        self.errors = dict(self.refused)
        self.made = [[] for _spec in self.specs]
        self._begin()
        for number, spec in enumerate(self.specs):
            if number in self.errors:
                continue
            try:
                with self.engine.attempt():
                    self.made[number] = self._end(spec)
            except NebulaError as error:
                self.errors[number] = error

    def _begin(self) -> None:
        """Before all else: a machine that gets another name would be ended under its old one, and another one made
        under the new; one that is adopted would be made a second time."""
        self.begun = set()
        before: dict[int, VmRecord] = {}
        adopted: dict[int, VmRecord] = {}
        concerned = [n for n, spec in enumerate(self.specs) if spec.renamed_from or self._adopted_by(spec)]
        for number in concerned:
            if number in self.errors:
                continue
            spec = self.specs[number]
            try:
                with self.engine.attempt():
                    done = self._rename(spec)
                    new = self._adopt(spec)
            except NebulaError as error:
                self.errors[number] = error
                continue
            if done is not None:
                before[id_of(done[0])] = done[0]
            adopted.update({id_of(record): record for record in new})
            if done is not None or new:
                self.begun.add(number)
        if concerned:
            self.current = _Current(self.engine, self.specs, before, adopted)

    def _rename(self, spec: Spec) -> tuple[VmRecord, VmRecord] | None:
        # What ends is what has the name.
        if not spec.renamed_from or spec.state == "absent":
            return None
        return renames.rename(self.engine, spec.name, spec.renamed_from, self.hosts)

    def _adopted_by(self, spec: Spec) -> list[tuple[int, str]]:
        """The machines of the item that are there unknown, with their indexes."""
        return [(position, name) for position, name in enumerate(spec.names) if name in self.adopting.ids]

    def _adopt(self, spec: Spec) -> list[VmRecord]:
        found = []
        for position, name in self._adopted_by(spec):
            if spec.state == "absent" or spec.template is None:
                raise InvalidValue(
                    f"VM {name}: adopting machine {self.adopting.ids[name]}",
                    "the list says nothing of what it is to be" if spec.state != "absent" else "the list wants it gone",
                    "Give the item the template that the machine was made of, and the state that it is to have",
                )
            record = adoptions.adopt(self.engine, _request_for(spec, position, name), self.adopting, self.hosts)
            found += [record] if record is not None else []
        return found

    def _end(self, spec: Spec) -> list[Outcome]:
        outcomes = []
        for record in self.current.of(spec) if spec.state == "absent" else self.current.beyond(spec):
            outcome = self.current.outcome(record)
            outcomes.append(outcome)
            if _is_elsewhere(record, self.hosts, self.warnings):
                continue
            if record.name in self.formers:
                self.warnings.append(renames.warning_of_spared(record))
                continue
            if spec.state == "absent":
                refuse_unsaved(self.engine, spec, record, "state absent", "say state: present once")
            outcome.destroys = loses_disks(self.engine, record)
            self._note([outcome])
            if self.spared:
                continue
            if spec.state == "absent":
                _steer(self.engine, spec, outcome)
            else:
                outcome.after = self.engine.vms.action(id_of(record), "DONE", spec.orders)
        return outcomes

    def _fulfil_all(self) -> None:
        left = [number for number in range(len(self.specs)) if number not in self.errors]
        while left:
            again = []
            for number in left:
                made: list[Outcome] = []
                try:
                    with self.engine.attempt():
                        self._fulfil(self.specs[number], made)
                    self.made[number].extend(made)
                    self.errors.pop(number, None)
                except NebulaError as error:
                    self.errors[number] = error
                    if isinstance(error, _HAD_BY_OTHERS):
                        again.append(number)
                self._note(made)
            if len(again) == len(left):
                return
            # Others may have become smaller, further down in the list.
            left = again

    def _fulfil(self, spec: Spec, made: list[Outcome]) -> None:
        _fulfil(self.engine, spec, self.current, self.hosts, made, self.warnings, self.foreseen)

    def _note(self, outcomes: Sequence[Outcome]) -> None:
        self.losing.update({outcome.name: None for outcome in outcomes if outcome.destroys})

    def _undo_if_wanted(self, ended: Collection[int]) -> None:
        """_Undone if something was ended that is not to be."""
        new = {number: error for number, error in self.errors.items() if number not in self.refused}
        without_place = {number: error for number, error in new.items() if isinstance(error, _NO_PLACE)}
        if without_place and ended:
            outcomes = [outcome for number in sorted(ended) for outcome in self.made[number]]
            self.kept = [o.name for o in outcomes if o.before != o.after]
            self.spared = True
            self.refused.update({number: self._with_kept(error) for number, error in without_place.items()})
            raise _Undone
        # Nothing is kept of an item that can't be, unless only what is being ended is in its way.
        undone = {n: error for n, error in new.items() if n in ended and not isinstance(error, BeingEnded)}
        undone.update({n: error for n, error in new.items() if n in self.begun})
        if undone:
            self.refused.update(undone)
            raise _Undone
        if self.spared:
            for error in without_place.values():
                self._with_kept(error)

    def _with_kept(self, error: NebulaError) -> NebulaError:
        names = ", ".join(self.kept[:_SHOWN]) + (" …" if len(self.kept) > _SHOWN else "")
        error.found += f". Since not all of the list fits, nothing that it ends was ended: {names}"
        return error


def _is_elsewhere(record: VmRecord, hosts: Sequence[str] | None, warnings: list[str]) -> bool:
    if hosts is None or record.host in hosts:
        return False
    warnings.append(f"VM {record.name} is on host {record.host}, which is not part of this run: left alone")
    return True


def _refused(name: str, error: NebulaError) -> Outcome:
    """The error as that of an item, which it names."""
    if "VM " not in error.asked:
        error.asked = f"VM {name}: {error.asked}"
    return Outcome(name, error=error)


class _Current:
    """The machines that exist, by name and by pattern. before: by id, those that were renamed, as they were. adopted:
    by id, those that were unknown before."""

    def __init__(
        self,
        engine: Engine,
        specs: Sequence[Spec],
        before: Mapping[int, VmRecord] | None = None,
        adopted: Mapping[int, VmRecord] | None = None,
    ) -> None:
        self.before = before or {}
        self.adopted = adopted or {}
        names = [name for spec in specs for name in spec.names]
        patterns = [spec.pattern for spec in specs if spec.pattern]
        self.by_name: dict[str, VmRecord] = {}
        self.by_pattern: dict[str, list[VmRecord]] = {}
        for record in engine.vms.pool(names=names, patterns=patterns):
            self.by_name[record.name] = record
            if record.pattern:
                self.by_pattern.setdefault(record.pattern, []).append(record)

    def outcome(self, record: VmRecord) -> Outcome:
        return Outcome(record.name, self.before.get(id_of(record), record), record)

    def of(self, spec: Spec) -> list[VmRecord]:
        if spec.pattern and spec.state == "absent" and spec.count is None:
            return self.by_pattern.get(spec.pattern, [])
        return [self.by_name[name] for name in spec.names if name in self.by_name]

    def beyond(self, spec: Spec) -> list[VmRecord]:
        """Those of the pattern that the count no longer covers, highest index first."""
        if not spec.pattern or spec.count is None:
            return []
        count = spec.count
        excess = [r for r in self.by_pattern.get(spec.pattern, []) if (r.position or 0) >= count]
        return sorted(excess, key=lambda r: -(r.position or 0))


def _fulfil(
    engine: Engine,
    spec: Spec,
    current: _Current,
    hosts: Sequence[str] | None,
    made: list[Outcome],
    warnings: list[str],
    foreseen: bool,
) -> None:
    """All of an item but what it ends. foreseen: the others of its machines are looked at, too, where one can't be."""
    if spec.state == "absent":
        return
    existing = current.of(spec)
    failures = []
    for record in existing:
        outcome = current.outcome(record)
        made.append(outcome)
        try:
            _keep(engine, spec, outcome, current, hosts, warnings)
        except NebulaError as error:
            if not foreseen:
                raise
            failures.append(error)
    if failures:
        raise failures[0]
    there = {record.name for record in existing}
    missing = [(position, name) for position, name in enumerate(spec.names) if name not in there]
    if missing:
        new = _create(engine, spec, missing, hosts, warnings)
        made.extend(new)
        for outcome in new:
            _see_to_disks(engine, spec, outcome)


def _keep(
    engine: Engine,
    spec: Spec,
    outcome: Outcome,
    current: _Current,
    hosts: Sequence[str] | None,
    warnings: list[str],
) -> None:
    """What becomes of a machine that is there, and stays."""
    record = outcome.after
    if record is None:
        return
    if id_of(record) in current.adopted:
        # As it is: what the list wants of it besides is for the next run.
        outcome.before = None
        warnings.extend(adoptions.notes_of(current.adopted[id_of(record)], WANTED.get(spec.state, "")))
        return
    if _is_elsewhere(record, hosts, warnings):
        return
    _refuse_doubled(spec, record)
    change_as_listed(engine, spec, outcome, warnings)
    if record.recreates and outcome.differences and not spec.recreate:
        # Whatever is decided about it has it made anew.
        return
    _steer(engine, spec, outcome)
    _see_to_disks(engine, spec, outcome)
    warnings.extend(renames.notes_of(outcome.after or record, outcome.before or record))
    warnings.extend(doubts_of_sockets(engine, spec, outcome.after or record))
    warnings.extend(doubts_of_host_name(outcome.after or record))


def _refuse_doubled(spec: Spec, record: VmRecord) -> None:
    """Conflict for a machine that is to start while one that was given up has an address of it."""
    wanted = record.wanted if spec.state == "recovered" else WANTED.get(spec.state)
    if record.doubled and wanted == "RUNNING" and record.state != "RUNNING":
        raise Conflict(
            f"VM {record.name} (id {record.id}): start",
            record.doubled,
            "Have that one powered off, which keeps its disks, by a run with nebula_end_given_up: true (end_given_up "
            "of nebula_vm), then run again",
        )


def _create(
    engine: Engine,
    spec: Spec,
    missing: Sequence[tuple[int, str]],
    hosts: Sequence[str] | None,
    warnings: list[str],
) -> list[Outcome]:
    where = f"VM {spec.name}"
    if spec.template is None:
        raise InvalidValue(f"{where}: template", "none is given, and there is no such machine yet", "Name a template")
    if spec.state == "suspended":
        raise WrongState(f"{where}: state suspended", "there is no such machine yet", "Let it run first")
    requests = [_request_for(spec, position, name) for position, name in missing]
    records = engine.vms.instantiate(requests, hosts)
    for record in records:
        warnings.extend(f"VM {spec.name}: {text}" for text in record.warnings)
    return [Outcome(record.name, None, record) for record in records]


def _request_for(spec: Spec, position: int, name: str) -> VmRequest:
    return VmRequest(
        name=name,
        template=spec.template or Template(()),
        template_name=spec.template_name,
        pattern=spec.pattern,
        position=position if spec.pattern else None,
        host=spec.host,
        wanted="POWEROFF" if spec.state == "poweroff" else "RUNNING",
        owner=spec.owner or Owner(),
    )


def _steer(engine: Engine, spec: Spec, outcome: Outcome) -> None:
    """Decide what is to be done for the machine's state, if anything."""
    record = outcome.after
    if record is None or spec.state == "present":
        return
    if spec.state in OPERATIONS:
        if record.state != "RUNNING":
            raise WrongState(
                f"VM {record.name} (id {record.id}): state {spec.state}", f"it is {record.state}", "Let it run first"
            )
        outcome.after = engine.vms.action(id_of(record), "RUNNING", spec.orders)
        return
    if spec.state == "recovered":
        if record.state in _FAILED or record.error:
            outcome.after = engine.vms.action(id_of(record), record.wanted, spec.orders)
        return
    wanted = WANTED[spec.state]
    if record.error and record.state == record.wanted == wanted:
        # It is where it should be, and something about it was not done.
        outcome.after = engine.vms.action(id_of(record), wanted, spec.orders)
        return
    on_its_way = record.state not in ("RUNNING", "POWEROFF", "SUSPENDED")
    if record.wanted == wanted and record.state not in _FAILED and (record.state == wanted or on_its_way):
        return
    if wanted == "SUSPENDED" and record.state != "RUNNING":
        raise WrongState(
            f"VM {record.name} (id {record.id}): state suspended", f"it is {record.state}", "Let it run first"
        )
    if wanted == "POWEROFF" and record.state == "SUSPENDED" and not spec.orders.hard:
        raise WrongState(
            f"VM {record.name} (id {record.id}): state poweroff",
            "it is SUSPENDED, and what its memory holds would be lost",
            "Let it run first, or set hard: true",
        )
    outcome.after = engine.vms.action(id_of(record), wanted, spec.orders)


def _see_to_disks(engine: Engine, spec: Spec, outcome: Outcome) -> None:
    """After its state was decided: snapshots, then what is saved."""
    record = outcome.after
    if record is None or spec.state == "absent":
        return
    vm_id = id_of(record)
    for snapshot in spec.disk_snapshots:
        outcome.after = engine.vms.disk_snapshot(vm_id, snapshot.disk, snapshot.name, snapshot.state)
    for save in spec.save_as:
        there = _image(engine, save.image.name)
        outcome.after = engine.vms.disk_save_as(vm_id, save.disk, save.image, save.consistency)
        image = _image(engine, save.image.name)
        if image is not None and image != there:
            outcome.saves[save.disk] = image


def _image(engine: Engine, name: str) -> Image | None:
    try:
        return engine.images.info(name)
    except NotFound:
        return None
