# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the list of machines that a user wants to what is done about each: the same for every engine."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...context.variables import names_owner
from ...engines.base import Engine, VmOrders, VmRecord, VmRequest
from ...engines.disk_items import DiskSnapshot, SaveAs, disk_snapshots, is_saved, origin_of, saves
from ...errors import (
    Ambiguous,
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
from ...model import inject, instantiate, rules
from ...model.changes import Change, how, paired, refuse_sizes
from ...model.devices import DEVICES, DISK, HOTPLUG, POWEROFF, RECREATE, Has
from ...model.flags import flag
from ...model.names import check_name, nearest
from ...model.numbers import whole
from ...model.owner import Owner, owner_of
from ...model.states import FAILURES
from ...model.template import Template
from ...text import context_sh
from . import adoptions, renames
from .adoptions import Adoptions

# What each state of an item wants of its machines.
WANTED = {"running": "RUNNING", "poweroff": "POWEROFF", "suspended": "SUSPENDED", "absent": "DONE"}
OPERATIONS = {"rebooted": "reboot", "reset": "reset"}
STATES = (*WANTED, *OPERATIONS, "present", "recovered")
KEYS = (
    "name", "count", "template", "state", "context", "cpu", "vcpu", "memory", "disks", "nics", "attributes", "host",
    "context_format", "context_device", "recreate", "hard", "shutdown_timeout", "strict", "save_as", "disk_snapshots",
    "inject", "inject_via", "detach", "owner", renames.KEY,
)  # fmt: skip
INDEX = "%i"
# What a change of it is called: no attribute of a template.
OWNER = "owner"
MAX_COUNT = 100_000
# Seconds: a day.
LONGEST_SHUTDOWN = 86_400
# Failed with no domain that runs.
_NOT_STARTED = ("PROLOG_FAILURE", "BOOT_FAILURE")
_FAILED = {state.name for state in FAILURES} | {"UNKNOWN"}
# Of an item that does not fit, also once all is gone that the list ends. Then nothing of it is ended.
_NO_PLACE = (NoCapacity, NoLease)
# What others have yet, and may lose by what stands further down in the list: it is free once that is done.
_HAD_BY_OTHERS = (*_NO_PLACE, InUse)
_SHOWN = 5


@dataclass
class Spec:
    """One item of the user's list, checked, with its template merged. names: the machines it stands for, by index.
    renamed_from: what its machine was called before, "" if the item does not say."""

    name: str
    state: str
    renamed_from: str = ""
    count: int | None = None
    template_name: str = ""
    template: Template | None = None
    host: str = ""
    recreate: bool = False
    detach: bool = False
    owner: Owner | None = None
    save_as: Sequence[SaveAs] = ()
    disk_snapshots: Sequence[DiskSnapshot] = ()
    orders: VmOrders = VmOrders()
    names: list[str] = field(default_factory=list)

    @property
    def pattern(self) -> str:
        return self.name if INDEX in self.name else ""


@dataclass(frozen=True)
class Difference:
    """What the list asks of a machine and is not so, nor becomes so. what: in which way, found and wanted with it;
    remedy: what the user can do."""

    name: str
    id: int
    host: str
    attribute: str
    found: str
    wanted: str
    what: str
    remedy: str

    @property
    def sentence(self) -> str:
        return f"VM {self.name} (id {self.id}) {self.what}; left as it is: {self.remedy}"


@dataclass
class Outcome:
    """What was decided. before and after are None where there is no machine; changes: what becomes different of its
    template; differences: what was found different and left alone."""

    name: str
    before: VmRecord | None = None
    after: VmRecord | None = None
    error: NebulaError | None = None
    changes: list[Change] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)

    @property
    def differs(self) -> tuple[str, ...]:
        """The differences as sentences."""
        return tuple(each.sentence for each in self.differences)

    def left(self, record: VmRecord, attribute: str, found: str, wanted: str, what: str, remedy: str) -> None:
        self.differences.append(
            Difference(record.name, _id(record), record.host, attribute, found, wanted, what, remedy)
        )


def reconcile(
    engine: Engine,
    items: Sequence[Mapping[str, Any]],
    hosts: Sequence[str] | None = None,
    adopting: Adoptions | None = None,
    formers: Collection[str] = (),
) -> tuple[list[Outcome], list[str]]:
    """Called within a session. An item that can't be is an Outcome with its error, and nothing of it is kept; the
    others go on. The machines of such an item are outcomes as they are. hosts: only there are machines placed or
    touched (None: anywhere). adopting: unknown machines that become those of the list. formers: former names that items
    say which are not among these, since they can't be read. Returns outcomes and warnings.

    The list is decided as a whole: what machines hold that it ends counts as free for those that it makes on the same
    host, wherever in the list either stands; and if something of it does not fit all the same, nothing is ended."""
    outcomes: list[Outcome] = []
    warnings: list[str] = []
    adopting = adopting or Adoptions()
    templates = _Templates(engine)
    specs: list[Spec] = []
    seen: set[str] = set()
    refused: list[str] = []
    for item in items:
        try:
            spec = _spec(item, templates, warnings)
            for name in spec.names or [spec.name]:
                if name in seen:
                    raise Ambiguous(f"VM {name}", "it is in the list twice", "Give each machine one entry")
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
    decision = _Decision(engine, specs, _Current(engine, specs), hosts, adopting, formers)
    decision.take()
    outcomes.extend(decision.outcomes())
    return outcomes, list(dict.fromkeys([*warnings, *decision.warnings]))


def _without_clashes(specs: Sequence[Spec], outcomes: list[Outcome]) -> list[Spec]:
    """Those whose machines' former names mean nothing else in the list; the others are outcomes with errors."""
    formers: dict[str, str] = {}
    for spec in specs:
        if spec.renamed_from:
            others = formers.get(spec.renamed_from)
            formers[spec.renamed_from] = f"{others} and " * bool(others) + f"VM {spec.name}"
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
    found = engine.vm_pool(names=names, patterns=[name for name in names if INDEX in name]) if names else []
    return [Outcome(record.name, record, record) for record in found if record.name not in others]


class _Undone(Exception):
    """Undoes what was decided about a list, which is then decided in another way."""


class _Decision:
    """What becomes of a list: first all that ends, then what stays and what is new.

    errors, made: by the number of the specification. refused: those not tried again, with their errors. spared:
    nothing is ended. formers: former names; a machine that has one still is to get another one, and to stay.
    """

    def __init__(
        self,
        engine: Engine,
        specs: Sequence[Spec],
        current: _Current,
        hosts: Sequence[str] | None,
        adopting: Adoptions,
        formers: Collection[str],
    ) -> None:
        self.engine = engine
        self.specs = specs
        self.current = current
        self.hosts = hosts
        self.adopting = adopting
        self.formers = formers
        self.warnings: list[str] = []
        self.errors: dict[int, NebulaError] = {}
        self.made: list[list[Outcome]] = []
        self.refused: dict[int, NebulaError] = {}
        self.spared = False
        # Names of those whose end was undone.
        self.kept: list[str] = []
        # Numbers of the specifications that got machines which were there, under another name or unknown.
        self.begun: set[int] = set()

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
                before[_id(done[0])] = done[0]
            adopted.update({_id(record): record for record in new})
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
                self.warnings.append(renames.told_spared(record))
                continue
            if spec.state == "absent":
                _refuse_unsaved(self.engine, spec, record, "state absent", "say state: present once")
            if self.spared:
                continue
            if spec.state == "absent":
                _steer(self.engine, spec, outcome)
            else:
                outcome.after = self.engine.vm_action(_id(record), "DONE", spec.orders)
        return outcomes

    def _fulfil_all(self) -> None:
        left = [number for number in range(len(self.specs)) if number not in self.errors]
        while left:
            again = []
            for number in left:
                made: list[Outcome] = []
                try:
                    with self.engine.attempt():
                        _fulfil(self.engine, self.specs[number], self.current, self.hosts, made, self.warnings)
                    self.made[number].extend(made)
                    self.errors.pop(number, None)
                except NebulaError as error:
                    self.errors[number] = error
                    if isinstance(error, _HAD_BY_OTHERS):
                        again.append(number)
            if len(again) == len(left):
                return
            # Others may have become smaller, further down in the list.
            left = again

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


class _Templates:
    """The catalog's templates that the items name, each fetched once."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.known: dict[Any, tuple[str, Template]] = {}
        self.hypervisors = engine.hypervisors()

    def get(self, ref: Any) -> tuple[str, Template]:
        if ref not in self.known:
            stored = self.engine.template_info(ref)
            self.known[ref] = (stored.name, stored.template)
        return self.known[ref]


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
        for record in engine.vm_pool(names=names, patterns=patterns):
            self.by_name[record.name] = record
            if record.pattern:
                self.by_pattern.setdefault(record.pattern, []).append(record)

    def outcome(self, record: VmRecord) -> Outcome:
        return Outcome(record.name, self.before.get(_id(record), record), record)

    def of(self, spec: Spec) -> list[VmRecord]:
        if spec.pattern and spec.state == "absent":
            return self.by_pattern.get(spec.pattern, [])
        return [self.by_name[name] for name in spec.names if name in self.by_name]

    def beyond(self, spec: Spec) -> list[VmRecord]:
        """Those of the pattern that the count no longer covers, highest index first."""
        if not spec.pattern or spec.count is None:
            return []
        count = spec.count
        excess = [r for r in self.by_pattern.get(spec.pattern, []) if (r.position or 0) >= count]
        return sorted(excess, key=lambda r: -(r.position or 0))


def _spec(item: Mapping[str, Any], templates: _Templates, warnings: list[str]) -> Spec:
    name = check_name("VM", item.get("name"))
    where = f"VM {name}"
    state = item.get("state") or "running"
    if state not in STATES:
        near = nearest(str(state), STATES)
        raise InvalidValue(
            f"{where}: state {state!r}",
            "no such state",
            (f"Did you mean {near!r}? " if near else "") + "Known are " + ", ".join(STATES),
        )
    check_name("VM", name.replace(INDEX, "0"))
    spec = Spec(name=name, state=state, host=str(item.get("host") or ""), recreate=_flag(item, "recreate", where))
    spec.detach = _flag(item, "detach", where)
    spec.count = _count(item, where)
    spec.renamed_from = renames.former_of(item, name, where, INDEX)
    if spec.count is None:
        spec.names = [] if spec.pattern and state == "absent" else [name.replace(INDEX, "0")]
    else:
        spec.names = [name.replace(INDEX, str(i)) for i in range(spec.count)] if spec.pattern else [name]
    spec.orders = VmOrders(
        hard=_flag(item, "hard", where),
        shutdown_timeout=_seconds(item, where),
        operation=OPERATIONS.get(state, ""),
    )
    spec.save_as = saves(item, where)
    if state == "absent":
        return spec
    spec.disk_snapshots = disk_snapshots(item, where)
    spec.owner = owner_of(item["owner"], where) if item.get("owner") else None
    if spec.count is None and spec.pattern:
        spec.count = 1
    if spec.save_as and spec.count not in (None, 1):
        raise InvalidValue(
            f"{where}: save_as",
            f"it stands for {spec.count} machines",
            "Give the one whose disk is to be saved an entry",
        )
    if item.get("template") is not None:
        if isinstance(item["template"], bool) or not isinstance(item["template"], (str, int)):
            found = f"it is a {type(item['template']).__name__}"
            raise InvalidValue(f"{where}: template", found, "Give the name or the id of a stored template")
        spec.template_name, base = templates.get(item["template"])
        spec.template = _merged(base, item, where)
        notes = instantiate.validate(spec.template, _flag(item, "strict", where), where, templates.hypervisors)
        if notes:
            # The template's own storing has warned of its own already.
            known = instantiate.validate(base, hypervisors=templates.hypervisors)
            warnings.extend(f"{where}: {note}" for note in notes if note not in known)
    return spec


def _merged(base: Template, item: Mapping[str, Any], where: str) -> Template:
    overrides: dict[str, Any] = {}
    for key, attribute in (("cpu", "CPU"), ("vcpu", "VCPU"), ("memory", "MEMORY"), ("disks", "DISK"), ("nics", "NIC")):
        if item.get(key) is not None:
            overrides[attribute] = item[key]
            if item[key] == []:
                base = base.without(attribute)
    for key in ("context_format", "context_device", "inject_via"):
        if item.get(key) is not None:
            overrides[key.upper()] = item[key]
    if item.get("inject") is not None:
        overrides["INJECT"] = inject.vectors_of(item["inject"], where)
        base = base.without("INJECT")
    extra = item.get("attributes") or {}
    if not isinstance(extra, Mapping):
        raise InvalidValue(f"{where}: attributes", f"it is a {type(extra).__name__}", "Give a dict")
    overrides.update(extra)
    given = Template.from_mapping(overrides, where)
    for variables in given.vectors("CONTEXT"):
        context_sh.refuse_names(variables, f"{where}: CONTEXT")
    template = base.merged(given)
    context = item.get("context")
    if context is not None:
        if not isinstance(context, Mapping):
            raise InvalidValue(f"{where}: context", f"it is a {type(context).__name__}", "Give a dict")
        variables = Template.from_mapping({"CONTEXT": context}, where).vector("CONTEXT")
        context_sh.refuse_names(variables, f"{where}: context")
        template = template.merge_context(variables)
    # What a machine is compared by later: its own NICs, whoever said what is in them.
    return instantiate.with_nic_defaults(template, where)


def _count(item: Mapping[str, Any], where: str) -> int | None:
    count = item.get("count")
    if count is None:
        return None
    number = whole(count)
    if number is None or number > MAX_COUNT:
        raise InvalidValue(f"{where}: count {count!r}", "it is not a number of machines", f"Give 0 to {MAX_COUNT}")
    if INDEX not in str(item.get("name")) and number != 1:
        raise InvalidValue(
            f"{where}: count {count}",
            "all of them would have this name",
            f"Put {INDEX} where the index belongs, as in name: {item.get('name')}-{INDEX}",
        )
    return number


def _flag(item: Mapping[str, Any], key: str, where: str) -> bool:
    return item.get(key) is not None and flag(item[key], f"{where}: {key}")


def _seconds(item: Mapping[str, Any], where: str) -> int:
    value = item.get("shutdown_timeout")
    if value is None:
        return VmOrders.shutdown_timeout
    number = whole(value)
    if number is None or number > LONGEST_SHUTDOWN:
        raise InvalidValue(
            f"{where}: shutdown_timeout {value!r}",
            f"it is not a number of up to {LONGEST_SHUTDOWN}",
            "Give whole seconds",
        )
    return number


def _fulfil(
    engine: Engine,
    spec: Spec,
    current: _Current,
    hosts: Sequence[str] | None,
    made: list[Outcome],
    warnings: list[str],
) -> None:
    """All of an item but what it ends."""
    if spec.state == "absent":
        return
    existing = current.of(spec)
    for record in existing:
        outcome = current.outcome(record)
        made.append(outcome)
        if _id(record) in current.adopted:
            # As it is: what the list wants of it besides is for the next run.
            outcome.before = None
            warnings.extend(adoptions.told(current.adopted[_id(record)], WANTED.get(spec.state, "")))
            continue
        if _is_elsewhere(record, hosts, warnings):
            continue
        _refuse_doubled(spec, record)
        _change(engine, spec, outcome, warnings)
        if record.recreates and outcome.differences and not spec.recreate:
            # Whatever is decided about it has it made anew.
            continue
        _steer(engine, spec, outcome)
        _see_to_disks(engine, spec, outcome)
        warnings.extend(renames.told(outcome.after or record, outcome.before or record))
    there = {record.name for record in existing}
    missing = [(position, name) for position, name in enumerate(spec.names) if name not in there]
    if missing:
        new = _create(engine, spec, missing, hosts, warnings)
        made.extend(new)
        for outcome in new:
            _see_to_disks(engine, spec, outcome)


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
    records = engine.vm_instantiate(requests, hosts)
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


def _change(engine: Engine, spec: Spec, outcome: Outcome, warnings: list[str]) -> None:
    """Bring the machine's attributes to what its item says, as far as they can be changed on it as it is."""
    record = outcome.after
    if spec.template is None or record is None or record.request is None or spec.state == "absent":
        return
    if spec.host and spec.host != record.host:
        what = f"differs in host: it is on {record.host}, the list says {spec.host}"
        remedy = "remove it (state: absent) to have it made there anew"
        outcome.left(record, "host", record.host, spec.host, what, remedy)
    rule = rules.of(record.hypervisor)
    wanted = renames.by_former_images(engine, record, spec.template)
    changes = instantiate.changes(record.request, wanted, rule.live)
    has: Mapping[str, Sequence[Has]] = {}
    if any(change.attribute in DEVICES for change in changes):
        has = engine.vm_devices(_id(record))
        changes = instantiate.changes(record.request, wanted, rule.live, has)
    owner = _another_owner(spec, record)
    if owner is not None:
        changes.append(Change(OWNER, record.owner.name, owner.name, how("CONTEXT", record.request, record.request)))
    off = record.state == "POWEROFF" or record.state in _NOT_STARTED or spec.state == "poweroff"
    live = rule.live if record.state == "RUNNING" else ()
    fits = off or set(DEVICES) <= set(rule.live)
    if record.awaits and not fits and not (changes and spec.recreate):
        _tell_awaited(outcome, record)
    if record.recreates and changes and not spec.recreate:
        _tell_given_up(outcome, record, changes)
        return
    if not changes:
        if record.outdated or (record.awaits and fits):
            outcome.after = engine.vm_update(_id(record), record.request)
        return
    if spec.recreate or _never_ran(engine, record):
        _refuse_unsaved(engine, spec, record, "recreate", "leave recreate out once")
        outcome.after = engine.vm_recreate(_id(record), spec.template, spec.owner)
        outcome.changes = changes
        return
    if any(change.attribute == DISK for change in changes):
        refuse_sizes(record.request, wanted, has, f"VM {record.name} (id {record.id})")
    template = record.request
    for change in changes:
        possible = change.how in ("catalog", "live") or (off and change.how != RECREATE)
        if change.attribute in DEVICES:
            possible = possible or (change.how == HOTPLUG and change.attribute in live)
        else:
            possible = possible or (change.how != RECREATE and change.attribute in live)
        refits = change.attribute == DISK and change.how in (HOTPLUG, POWEROFF)
        if refits and _leaves_disks(engine, spec, outcome, record, (wanted, has), possible):
            continue
        if possible:
            outcome.changes.append(change)
            if change.attribute != OWNER:
                template = _with_attribute(template, wanted, change.attribute)
            continue
        remedy = (
            "power it off first (state: poweroff), or set recreate: true"
            if change.how in (POWEROFF, HOTPLUG)
            else "set recreate: true to make it anew (its own disks are lost)"
        )
        what = f"differs in {change.attribute}: it has {change.old}, the list says {change.new}"
        outcome.left(record, change.attribute, change.old, change.new, what, remedy)
    if not any(change.attribute == OWNER for change in outcome.changes):
        owner = None
    if template != record.request or owner is not None:
        try:
            with engine.attempt():
                outcome.after = engine.vm_update(_id(record), template, owner)
        except BeingEnded as error:
            if not record.awaits or not fits:
                raise
            # What is in its way may be what it is to lose itself, and would never be done.
            _tell_awaited_first(outcome, record, error)
            outcome.after = engine.vm_update(_id(record), record.request)
        warnings.extend(f"VM {record.name}: {text}" for text in outcome.after.warnings)


def _another_owner(spec: Spec, record: VmRecord) -> Owner | None:
    """The owner that its item names, if that is another than its context was made of, and the context asks for one."""
    if spec.owner is None or spec.owner == record.owner or spec.template is None:
        return None
    return spec.owner if names_owner(spec.template) else None


def _leaves_disks(
    engine: Engine,
    spec: Spec,
    outcome: Outcome,
    record: VmRecord,
    compared: tuple[Template, Mapping[str, Sequence[Has]]],
    possible: bool,
) -> bool:
    """Whether the disks stay as they are, since some would go with what they hold and that is not what the list says
    for sure; it is told then. compared: what the list says, and what the machine has. possible: whether they could be
    changed otherwise."""
    if record.request is None:
        return False
    wanted, has = compared
    pairing = paired(DISK, record.request, wanted, has)
    lost = [index for index in pairing.gone if has[DISK][index].own]
    if not lost:
        return False
    named = " and ".join(_called(record, index) for index in lost)
    if pairing.doubtful:
        what = f"has disks that nothing tells apart, and the list has fewer of them: {named} could be the one to go"
        remedy = "give those that are to stay their TARGET, as the machine's disks show it"
    elif not spec.detach:
        what = f"has a disk that the list does not: {named}"
        remedy = "what it holds is the machine's own, and would be lost. " + (
            "Set detach: true to have it taken away"
            if possible
            else "To have it taken away set detach: true and power it off (state: poweroff)"
        )
    else:
        if possible:
            ids = {record.disks[index]["disk_id"] for index in lost}
            _refuse_unsaved(engine, spec, record, "detach", "leave detach out once", ids)
        return False
    outcome.left(record, DISK, named, "nothing of it", what, remedy)
    return True


def _called(record: VmRecord, index: int) -> str:
    disk = record.disks[index]
    return f"disk {disk['disk_id']}" + (f", of image {disk['image']}" if disk["image"] else f", {disk['target']}")


def _tell_awaited(outcome: Outcome, record: VmRecord) -> None:
    what = "runs with other disks or NICs than it is to have: these were changed when it was to be off, and it was not"
    remedy = "power it off (state: poweroff), then let it run again"
    found, wanted = "those that it was started with", "those of the list"
    outcome.left(record, "/".join(DEVICES), found, wanted, what, remedy)


def _tell_given_up(outcome: Outcome, record: VmRecord, changes: Sequence[Change]) -> None:
    what = "was to be made anew by an earlier list, which its host could not, and this list says something else"
    remedy = "set recreate: true to have it made anew as the list says now (its own disks are lost)"
    for change in changes:
        outcome.left(record, change.attribute, change.old, change.new, what, remedy)


def _tell_awaited_first(outcome: Outcome, record: VmRecord, error: NebulaError) -> None:
    outcome.changes = []
    what = f"gets first what was decided about its disks and NICs before ({error})"
    remedy = "run again when that is done"
    outcome.left(record, "/".join(DEVICES), "those of the list before", "those of the list", what, remedy)


def _never_ran(engine: Engine, record: VmRecord) -> bool:
    """Whether it failed before it ran for the first time: then nothing on its disks can be lost."""
    if record.state not in _NOT_STARTED:
        return False
    # One that was adopted may have been SUSPENDED from the first.
    return not any(step["state"] in ("RUNNING", "POWEROFF", "SUSPENDED") for step in engine.vm_history(_id(record)))


def _refuse_unsaved(
    engine: Engine, spec: Spec, record: VmRecord, what: str, instead: str, disks: Collection[int] | None = None
) -> None:
    """Conflict where the machine's disks would go before they are saved as its item says. disks: ids of those that go,
    None for all."""
    # Of more machines no item saves any.
    if not spec.save_as or record.name != spec.name.replace(INDEX, "0") or _never_ran(engine, record):
        return
    for save in spec.save_as:
        if disks is not None and save.disk not in disks:
            continue
        try:
            image = engine.image_info(save.image.name)
        except NotFound:
            image = None
        if image is not None and image.name != save.image.name:
            # Found by its id.
            image = None
        origin = origin_of(record.uuid, save.disk)
        if is_saved(image, origin):
            continue
        found = "there is none of that name"
        if image is not None and image.origin != origin:
            found = f"there is one of that name (id {image.id}), of something else"
        elif image is not None:
            found = f"that is in state {image.state.name}" + (f" ({image.error})" if image.error else "")
        raise Conflict(
            f"VM {record.name} (id {record.id}): {what}",
            f"its disk {save.disk} is not saved as image {save.image.name}: {found}",
            f"Let it be saved first: {instead}. Or take it out of save_as: then what the disk holds is lost",
        )


def _with_attribute(template: Template, source: Template, name: str) -> Template:
    """`template` with all that `source` says of one attribute, and nothing else of it."""
    kept = template.without(name).attributes
    return Template(kept + tuple((key, value) for key, value in source.attributes if key == name))


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
        outcome.after = engine.vm_action(_id(record), "RUNNING", spec.orders)
        return
    if spec.state == "recovered":
        if record.state in _FAILED or record.error:
            outcome.after = engine.vm_action(_id(record), record.wanted, spec.orders)
        return
    wanted = WANTED[spec.state]
    if record.error and record.state == record.wanted == wanted:
        # It is where it should be, and something about it was not done.
        outcome.after = engine.vm_action(_id(record), wanted, spec.orders)
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
    outcome.after = engine.vm_action(_id(record), wanted, spec.orders)


def _see_to_disks(engine: Engine, spec: Spec, outcome: Outcome) -> None:
    """After its state was decided: snapshots, then what is saved."""
    record = outcome.after
    if record is None or spec.state == "absent":
        return
    vm_id = _id(record)
    for snapshot in spec.disk_snapshots:
        outcome.after = engine.vm_disk_snapshot(vm_id, snapshot.disk, snapshot.name, snapshot.state)
    for save in spec.save_as:
        outcome.after = engine.vm_disk_save_as(vm_id, save.disk, save.image, save.consistency)


def _id(record: VmRecord) -> int:
    if record.id is None:
        raise InvalidValue(f"VM {record.name}", "it has no id yet", "It was not stored")
    return record.id
