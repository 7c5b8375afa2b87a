# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides what is done about each machine of the list that a user wants, in the same way for every engine."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any

from ...dataclass import dataclass, replace
from ...engines.base import Engine
from ...engines.ports import VmRecord, VmRequest
from ...errors import BeingEnded, Conflict, InUse, InvalidValue, NebulaError, NoCapacity, NoLease, NotFound, WrongState
from ...model.image import Image
from ...model.item_reader import duplicate_error
from ...model.object_ids import id_of
from ...model.owner import Owner
from ...model.states import FAILURES
from ...model.template import Template
from . import adoptions, renames
from .adoptions import Adoptions
from .destroy_limit import DestroyLimit, loses_disks, names_of_destroyed, refuse_beyond
from .machine_age import doubts_of_age
from .vm_item import INDEX, MIGRATED, OPERATIONS, WANTED, Spec, Templates, spec_of
from .vm_outcome import Outcome
from .vm_update import (
    change_as_listed,
    doubts_of_host_name,
    doubts_of_sockets,
    refuse_losing_unsaved_disks,
)

_FAILED = {state.name for state in FAILURES} | {"UNKNOWN"}
# Errors of an item that does not fit, even when all is gone that the list ends. Then nothing of the list is ended.
_NO_PLACE = (NoCapacity, NoLease)
# Errors of an item that wants what others have: it may become free by what stands further down in the list.
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
    live_removal: bool = False,
) -> tuple[list[Outcome], list[str]]:
    """Decide within a session what becomes of each machine of a list; return the outcomes and the warnings.

    The list is decided as a whole: what the machines hold that it ends counts as free for the machines that it makes on
    the same host, wherever in the list either stands; and if something of the list does not fit all the same, nothing
    is ended. An item that can't be carried out is an Outcome with its error, and nothing of it is kept; its machines
    are outcomes as they are, and the other items go on.
    hosts: machines are placed and touched there alone; None for anywhere
    adopting: unknown machines that become machines of the list
    formers: former names that are said by items which are not among these, since they can't be read
    limit: TooManyDestroyed is raised if more machines than this lose disks
    foreseen: machines of items that fail as yet count for the limit, too: what they need may come later in the run
    live_removal: see change_as_listed()"""
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
                    raise duplicate_error(f"VM {name}")
            seen.update(spec.names or [spec.name])
            specs.append(spec)
        except NebulaError as error:
            outcomes.append(_refused(str(item.get("name") or "?"), error))
            refused.append(str(item.get("name") or ""))
    specs = _without_clashes(specs, outcomes)
    outcomes.extend(_unchanged_machines(engine, refused, seen))
    lacking = adoptions.errors_of_missing(adopting, [*refused, *(name for spec in specs for name in spec.names)])
    outcomes.extend(_refused(name, error) for name, error in lacking.items())
    formers = {*formers, *renames.former_names(items)}
    there = len(engine.vms.names()) if limit is not None and limit.is_percentage else 0
    result = _decide(_Try(engine, specs, hosts, adopting, formers, foreseen, live_removal))
    outcomes.extend(result.outcomes())
    if limit is not None:
        refuse_beyond(limit, result.losing if foreseen else names_of_destroyed(outcomes), there)
    return outcomes, list(dict.fromkeys([*warnings, *result.warnings]))


def _without_clashes(specs: Sequence[Spec], outcomes: list[Outcome]) -> list[Spec]:
    """Return the items whose former names mean nothing else in the list; the others become outcomes with errors."""
    formers: dict[str, str] = {}
    for spec in specs:
        if spec.renamed_from:
            others = formers.get(spec.renamed_from)
            formers[spec.renamed_from] = f"{others} and VM {spec.name}" if others else f"VM {spec.name}"
    if not formers:
        return list(specs)
    wanted = {name: spec.name for spec in specs for name in spec.names or [spec.name]}
    unique = []
    for spec in specs:
        try:
            renames.refuse_clash(f"VM {spec.name}", spec.name, spec.renamed_from, wanted, formers)
            unique.append(spec)
        except NebulaError as error:
            outcomes.append(_refused(spec.name, error))
    return unique


def _unchanged_machines(engine: Engine, names: Sequence[str], others: Collection[str]) -> list[Outcome]:
    """Return as they are the machines of items that can't be read, without the machines of the other items."""
    found = engine.vms.pool(names=names, patterns=[name for name in names if INDEX in name]) if names else []
    return [Outcome(record.name, record, record) for record in found if record.name not in others]


def _refused(name: str, error: NebulaError) -> Outcome:
    """Return the outcome of an item that fails, with an error that names the item."""
    if "VM " not in error.asked:
        error.asked = f"VM {name}: {error.asked}"
    return Outcome(name, error=error)


@dataclass(frozen=True)
class _Terms:
    """Says what a try must not do, since an earlier try of the same list did it and was undone.
    refused: by number of the item, why nothing of it is tried again
    kept: names of the machines that the earlier try ended; if there are any, nothing is ended"""

    refused: Mapping[int, NebulaError] = field(default_factory=dict)
    kept: Sequence[str] = ()


@dataclass
class _Item:
    """Holds what a try made of one item.
    took_over: it got machines that were there, under another name or unknown
    ended: machines of it were ended"""

    number: int
    spec: Spec
    error: NebulaError | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    took_over: bool = False
    ended: bool = False


class _Undone(Exception):
    """Makes the engine undo a try. terms: those of the next try."""

    def __init__(self, terms: _Terms) -> None:
        super().__init__()
        self.terms = terms


@dataclass
class _Try:
    """Decides a list once: first the machines that get another name or are adopted, then all that ends, then what stays
    and what is new. The first fields are as reconcile() has them.
    losing: names of the machines whose disks would be destroyed by this try, or by one before it"""

    engine: Engine
    specs: Sequence[Spec]
    hosts: Sequence[str] | None
    adopting: Adoptions
    formers: Collection[str]
    foreseen: bool
    live_removal: bool
    terms: _Terms = field(default_factory=_Terms)
    losing: dict[str, None] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list, init=False)
    items: list[_Item] = field(default_factory=list, init=False)

    def run(self) -> None:
        """Raise _Undone if the list has to be tried again."""
        self.items = [_Item(number, spec, self.terms.refused.get(number)) for number, spec in enumerate(self.specs)]
        self.current = _Current(self.engine, self.specs, *self._take_over_all())
        for item in self._without_error():
            with self._attempt(item):
                item.outcomes = self._end(item.spec)
                item.ended = any(outcome.before != outcome.after for outcome in item.outcomes)
        self._fulfil_all()
        self._undo_if_wrong()

    def outcomes(self) -> list[Outcome]:
        found = []
        for item in self.items:
            found.extend(item.outcomes)
            if item.error is not None:
                there = {outcome.name for outcome in item.outcomes}
                found.append(_refused(item.spec.name, item.error))
                records = [*self.current.beyond(item.spec), *self.current.of(item.spec)]
                found.extend(Outcome(each.name, each, each) for each in records if each.name not in there)
        return found

    def _without_error(self) -> list[_Item]:
        return [item for item in self.items if item.error is None]

    @contextlib.contextmanager
    def _attempt(self, item: _Item) -> Iterator[None]:
        """Do something for the item; an error is noted on it, and what was done is undone."""
        try:
            with self.engine.attempt():
                yield
        except NebulaError as error:
            item.error = error

    def _take_over_all(self) -> tuple[dict[int, VmRecord], dict[int, VmRecord]]:
        """Rename and adopt machines. Return by id the renamed ones as they were, and the adopted ones.

        This comes first: a machine that gets another name would be ended under its old one, and another machine made
        under the new one; a machine that is adopted would be made a second time."""
        before: dict[int, VmRecord] = {}
        adopted: dict[int, VmRecord] = {}
        for item in self._without_error():
            spec, ids = item.spec, self.adopting.ids
            adopting = [(position, name) for position, name in enumerate(spec.names) if name in ids]
            if not spec.renamed_from and not adopting:
                continue
            with self._attempt(item):
                old = None
                # An item that ends its machine means the machine that has the name now.
                if spec.renamed_from and spec.state != "absent":
                    old = renames.rename(self.engine, spec.name, spec.renamed_from, self.hosts)
                records = [self._adopt(spec, position, name) for position, name in adopting]
                before.update({id_of(old): old} if old is not None else {})
                adopted.update({id_of(record): record for record in records if record is not None})
                item.took_over = old is not None or any(record is not None for record in records)
        return before, adopted

    def _adopt(self, spec: Spec, position: int, name: str) -> VmRecord | None:
        """Return the machine if it was adopted now, None if that was done before."""
        if spec.state == "absent" or spec.template is None:
            raise InvalidValue(
                f"VM {name}: adopting machine {self.adopting.ids[name]}",
                "the list says nothing of what it is to be" if spec.state != "absent" else "the list wants it gone",
                "Give the item the template that the machine was made of, and the state that it is to have",
            )
        return adoptions.adopt(self.engine, _request_for(spec, position, name), self.adopting, self.hosts)

    def _end(self, spec: Spec) -> list[Outcome]:
        """End the machines that the item no longer wants. Return all that it no longer wants, also those that stay."""
        outcomes = []
        for record in self.current.of(spec) if spec.state == "absent" else self.current.beyond(spec):
            outcome = self.current.outcome(record)
            outcomes.append(outcome)
            if self._is_elsewhere(record):
                continue
            if record.name in self.formers:
                self.warnings.append(renames.warning_of_kept_machine(record))
                continue
            if spec.state == "absent":
                refuse_losing_unsaved_disks(self.engine, spec, record, "state absent", "say state: present once")
            outcome.destroys = loses_disks(self.engine, record)
            self._note_losses([outcome])
            if self.terms.kept:
                continue
            if spec.state == "absent":
                _steer(self.engine, spec, outcome)
            else:
                outcome.after = self.engine.vms.action(id_of(record), "DONE", spec.orders)
        return outcomes

    def _fulfil_all(self) -> None:
        """Do for each item what it wants to stay or be made, until those that fail can't get what others give up."""
        left = self._without_error()
        while left:
            again: list[_Item] = []
            for item in left:
                item.error = None
                outcomes: list[Outcome] = []
                with self._attempt(item):
                    self._fulfil(item.spec, outcomes)
                    item.outcomes.extend(outcomes)
                if isinstance(item.error, _HAD_BY_OTHERS):
                    again.append(item)
                self._note_losses(outcomes)
            if len(again) == len(left):
                return
            # Machines further down in the list may have become smaller.
            left = again

    def _fulfil(self, spec: Spec, outcomes: list[Outcome]) -> None:
        """Keep and create the machines of an item, and add their outcomes, also where this raises."""
        if spec.state == "absent":
            return
        failures = []
        existing = self.current.of(spec)
        for record in existing:
            outcome = self.current.outcome(record)
            outcomes.append(outcome)
            try:
                self._keep(spec, outcome, record)
            except NebulaError as error:
                if not self.foreseen:
                    raise
                failures.append(error)
        if failures:
            raise failures[0]
        there = {record.name for record in existing}
        missing = [(position, name) for position, name in enumerate(spec.names) if name not in there]
        if missing:
            new = self._create(spec, missing)
            outcomes.extend(new)
            for outcome in new:
                _do_disk_tasks(self.engine, spec, outcome)

    def _keep(self, spec: Spec, outcome: Outcome, record: VmRecord) -> None:
        """Decide what becomes of a machine that is there, and stays."""
        outcome.spec = spec
        if id_of(record) in self.current.adopted:
            # The machine stays as it is: what the list wants of it besides is for the next run.
            outcome.before = None
            adopted = self.current.adopted[id_of(record)]
            self.warnings.extend(adoptions.notes_of(adopted, WANTED.get(spec.state, "")))
            return
        if self._is_elsewhere(record):
            return
        if record.runs_elsewhere:
            raise WrongState(f"VM {record.name} (id {record.id})", record.runs_elsewhere)
        if record.moving:
            self.warnings.append(f"VM {record.name} {_move_text(record)}. Run again for what the list says of it")
            return
        _refuse_doubled(spec, record)
        change_as_listed(self.engine, spec, outcome, self.warnings, self.live_removal)
        if record.recreates and outcome.differences and not spec.recreate:
            # Whatever is decided about it has it made anew.
            return
        _steer(self.engine, spec, outcome)
        _do_disk_tasks(self.engine, spec, outcome)
        after = outcome.after or record
        self.warnings.extend(renames.notes_of(after, outcome.before or record))
        self.warnings.extend(doubts_of_sockets(self.engine, spec, after))
        self.warnings.extend(doubts_of_age(after))
        self.warnings.extend(doubts_of_host_name(after))

    def _create(self, spec: Spec, missing: Sequence[tuple[int, str]]) -> list[Outcome]:
        where = f"VM {spec.name}"
        if spec.template is None:
            found = "none is given, and there is no such machine yet"
            raise InvalidValue(f"{where}: template", found, "Name a template")
        if spec.state == "suspended":
            raise WrongState(f"{where}: state suspended", "there is no such machine yet", "Let it run first")
        requests = [_request_for(spec, position, name) for position, name in missing]
        records = self.engine.vms.instantiate(requests, self.hosts)
        for record in records:
            self.warnings.extend(f"{where}: {text}" for text in record.warnings)
        return [Outcome(record.name, None, record) for record in records]

    def _is_elsewhere(self, record: VmRecord) -> bool:
        """Return whether the machine is on a host that is not part of this run, and warn of it."""
        if self.hosts is None or record.host in self.hosts:
            return False
        where = f"on host {record.host}, which is not part of this run"
        self.warnings.append(f"VM {record.name} is {where}: left alone")
        return True

    def _note_losses(self, outcomes: Sequence[Outcome]) -> None:
        self.losing.update({outcome.name: None for outcome in outcomes if outcome.destroys})

    def _undo_if_wrong(self) -> None:
        """Raise _Undone if something was ended or taken over that is to stay as it was."""
        failed = [(i, i.error) for i in self.items if i.error is not None and i.number not in self.terms.refused]
        ended = [item for item in self.items if item.ended]
        without_place = {item.number: error for item, error in failed if isinstance(error, _NO_PLACE)}
        if without_place and ended:
            kept = [o.name for item in ended for o in item.outcomes if o.before != o.after]
            _tell_kept(without_place.values(), kept)
            raise _Undone(_Terms({**self.terms.refused, **without_place}, kept))
        # Nothing is kept of an item that fails, unless only what is being ended is in its way.
        undone = {i.number: e for i, e in failed if i.took_over or (i.ended and not isinstance(e, BeingEnded))}
        if undone:
            raise _Undone(_Terms({**self.terms.refused, **undone}, self.terms.kept))
        if self.terms.kept:
            _tell_kept(without_place.values(), self.terms.kept)


def _tell_kept(errors: Iterable[NebulaError], names: Sequence[str]) -> None:
    """Add to each error that these machines were not ended because of it."""
    shown = ", ".join(names[:_SHOWN]) + (" …" if len(names) > _SHOWN else "")
    for error in errors:
        error.found += f". Since not all of the list fits, nothing that it ends was ended: {shown}"


def _decide(this: _Try) -> _Try:
    """Return the first try that can stay. Each try before it is undone, and makes the terms of the next stricter."""
    while True:
        try:
            with this.engine.attempt():
                this.run()
            return this
        except _Undone as undone:
            this = replace(this, terms=undone.terms)


class _Current:
    """Holds the machines that exist, by name and by pattern.
    before: by id, the renamed machines as they were
    adopted: by id, the machines that were unknown before"""

    def __init__(
        self, engine: Engine, specs: Sequence[Spec], before: Mapping[int, VmRecord], adopted: Mapping[int, VmRecord]
    ) -> None:
        self.before = before
        self.adopted = adopted
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
        """Return the machines that the item names."""
        if spec.pattern and spec.state == "absent" and spec.count is None:
            return self.by_pattern.get(spec.pattern, [])
        return [self.by_name[name] for name in spec.names if name in self.by_name]

    def beyond(self, spec: Spec) -> list[VmRecord]:
        """Return the machines of the pattern that its count no longer covers, highest index first."""
        if not spec.pattern or spec.count is None:
            return []
        count = spec.count
        excess = [r for r in self.by_pattern.get(spec.pattern, []) if (r.position or 0) >= count]
        return sorted(excess, key=lambda r: -(r.position or 0))


def _move_text(record: VmRecord) -> str:
    """Return how far the move of a machine has come of which nothing else is decided yet."""
    why = f" ({record.error.rstrip('.')})" if record.error else ""
    if record.host == record.moving:
        return (
            f"has moved to host {record.host}, which has not said yet that it has it as it is to be{why}: it is asked"
        )
    if record.state == "UNKNOWN":
        # Of one that is on its way, the state says that.
        return (
            f"stays on host {record.host} and does not move to {record.moving}, and host {record.host} has not said "
            f"yet that it has it as it is to be{why}: it is asked"
        )
    return (
        f"is on its way from host {record.host} to {record.moving}, and what became of that is not known: both hosts "
        "are asked"
    )


def _refuse_doubled(spec: Spec, record: VmRecord) -> None:
    """Raise Conflict if the machine is to start while a machine that was given up has an address of it."""
    wanted = record.wanted if spec.state == "recovered" else WANTED.get(spec.state)
    if record.doubled and wanted == "RUNNING" and record.state != "RUNNING":
        raise Conflict(
            f"VM {record.name} (id {record.id}): start",
            record.doubled,
            "Have that one powered off, which keeps its disks, by a run with nebula_end_given_up: true (end_given_up "
            "of nebula_vm), then run again",
        )


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
        hotplug_slots=spec.hotplug_slots,
    )


def _steer(engine: Engine, spec: Spec, outcome: Outcome) -> None:
    """Decide what is to be done so that the machine gets the state of its item, if anything."""
    record = outcome.after
    if record is None or spec.state == "present":
        return
    if spec.state == MIGRATED:
        if record.away and spec.host == record.host:
            # A user has said that it is where it belongs.
            outcome.after = engine.vms.stay(id_of(record))
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


def _do_disk_tasks(engine: Engine, spec: Spec, outcome: Outcome) -> None:
    """Make snapshots, then save disks, as the item says. The machine's state has been decided before."""
    record = outcome.after
    if record is None or spec.state == "absent":
        return
    vm_id = id_of(record)
    for snapshot in spec.disk_snapshots:
        outcome.after = engine.vms.disk_snapshot(vm_id, snapshot.disk, snapshot.name, snapshot.state)
    for whole in spec.system_snapshots:
        outcome.after = engine.vms.system_snapshot(vm_id, whole.name, whole.state)
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
