# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installations on the front-end: what is due for each, and what of it is the catalog's and the datastore's to do.

Roles image, vm and verify do the rest between the calls of this module. Every call looks anew: nothing is handed from
one to the next but what a node has heard from its guests.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any

from ..context import iso9660
from ..engines.base import Engine
from ..engines.ports import VmRecord
from ..errors import Conflict, ImageRefused, InvalidValue, NebulaError, NotFound, WrongState
from ..host import files
from ..host.files import explain, explained
from ..model.datastore import default_for
from ..model.image import Image
from ..model.instantiate.demands import demands
from ..model.instantiate.validate import validate
from ..model.names import nearest
from ..model.plan import Observed, VmOutcome
from ..model.states import ImageState, ImageType
from ..model.template import StoredTemplate, Template
from ..reconcile import templates
from ..reconcile.images import decide, store
from ..storage import datastore, importer
from ..sync import Item
from . import answer_files, next_step
from . import media as installer_media
from .media import Facts
from .next_step import INSTALLED, INSTALLING, Machine, Media, machine_name, media_name, trial_name
from .spec import Spec, check_media, spec_of

STATES = ("begun", "prepared", "recorded", "converted", "concluded", "shown")
# Seconds that other runs may be at disks and answers.
LOCK_SECONDS = 300.0
# Bytes that a blank qcow2 may have.
_BLANK = 1 << 20
# What users read of each step.
WORDS = {
    next_step.MAKE: "to be installed",
    next_step.START: "to be installed",
    next_step.WAIT: "installing",
    next_step.END: "to be installed anew",
    next_step.UNREACHED: "installing, its host does not answer",
    next_step.UNSURE: "off, and nobody knows whether it is installed",
    next_step.FOREIGN: "refused",
    next_step.BROKEN: "OS image that machines can't be made of",
    next_step.FINISH: "installed, its machine is there still",
    next_step.CONVERT: "installed, to become an OS image",
    next_step.VERIFY: "OS image, its guest is not believed yet",
    next_step.DONE: "ready",
}


@dataclass
class Settings:
    """Of one call. root: of the catalog. answers: the rendered files by installation, or {error: why not}. local: where
    ISOs are on the control node. waited: what nodes heard, as nebula_install_wait returns it. verified: what role
    verify heard."""

    check_mode: bool = False
    root: str = ""
    answers: Mapping[str, Any] = field(default_factory=dict, repr=False)
    local: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    observed: Sequence[Observed] = ()
    waited: Sequence[Mapping[str, Any]] = ()
    verified: Sequence[Mapping[str, Any]] = ()
    now: int = 0


@dataclass
class Work:
    """One installation in one call. row: for the table."""

    name: str
    spec: Spec | None = None
    image: Image | None = None
    record: VmRecord | None = None
    machine: Machine | None = None
    trial: VmRecord | None = None
    step: str = ""
    error: NebulaError | None = None
    changed: bool = False
    how: str = ""
    seconds: int | None = None
    warnings: list[str] = field(default_factory=list)


@dataclass
class Outcome:
    """isos: items for role image. vms: for role vm. waits: for nebula_install_wait. patterns, timeout: for role
    verify."""

    works: list[Work]
    isos: list[dict[str, Any]] = field(default_factory=list)
    vms: list[dict[str, Any]] = field(default_factory=list)
    waits: list[dict[str, Any]] = field(default_factory=list)
    patterns: dict[str, str] = field(default_factory=dict)
    timeout: int = 0
    root: str = ""
    # Bytes by directory that all of them want.
    room: dict[str, int] = field(default_factory=dict)

    def items(self, told: bool = True) -> list[Item]:
        """told: what is the matter with one is a failure."""
        return [
            Item(
                work.name, {"step": ""}, {"step": row(work)["step"]}, work.error if told else None, changed=work.changed
            )
            for work in self.works
        ]


def run(engine: Engine, state: str, items: Sequence[Mapping[str, Any]], settings: Settings) -> Outcome:
    """Called without a session."""
    works = _looked_up(engine, items, settings)
    outcome = Outcome(works, root=settings.root)
    act = {
        "begun": _begin,
        "prepared": _prepare,
        "recorded": _record,
        "converted": _convert,
        "concluded": _conclude,
        "shown": _show,
    }[state]
    for work in works:
        # What is given up is not gone on with.
        due = work.spec is not None and (work.spec.state != "absent" or state in ("begun", "prepared"))
        if work.error is None and work.spec is not None and due:
            try:
                act(engine, work, work.spec, settings, outcome)
            except (NebulaError, OSError) as problem:
                work.error = _explained(work, problem)
    return outcome


def row(work: Work) -> dict[str, Any]:
    """An installation as results show it."""
    image = work.image
    step = WORDS.get(work.step, "")
    if work.step == next_step.UNSURE and work.machine is None:
        step = "left without its machine, and nobody knows whether it is installed"
    if work.spec is not None and work.spec.state == "absent":
        step = "given up" if not _is_there(work) else "to be given up"
        step = "ready, and left as it is" if work.step in (next_step.DONE, next_step.VERIFY) else step
    elif work.step == next_step.DONE and image is not None:
        step = "ready, verified" if image.attributes.get(next_step.VERIFIED) == "YES" else "ready, not verified"
    return {
        "name": work.name,
        "step": step or "refused",
        "due": work.step,
        "image": None if image is None else image.id,
        "type": "" if image is None else image.type.name,
        "state": "" if image is None else image.state.name,
        "machine": work.record.name if work.record is not None else "",
        "machine_id": work.record.id if work.record is not None else None,
        "host": work.record.host if work.record is not None else "",
        "how": work.how,
        "seconds": work.seconds,
        "error": str(work.error) if work.error is not None else "",
    }


def goes_on(work: Work) -> bool:
    """Whether something is due for it that can be done."""
    if work.error is not None or work.spec is None:
        return False
    return work.changed or (work.spec.state != "absent" and work.step != next_step.DONE)


def _is_there(work: Work) -> bool:
    """Whether there is anything of an installation that is not at its end."""
    return work.machine is not None or (work.image is not None and bool(work.image.unfinished))


def _show(engine: Engine, work: Work, spec: Spec, settings: Settings, outcome: Outcome) -> None:
    """It was looked up."""


def _explained(work: Work, problem: NebulaError | OSError) -> NebulaError:
    error = explain(problem, str(problem.filename or "")) if isinstance(problem, OSError) else problem
    if f"install {work.name}" not in error.asked:
        error.asked = f"install {work.name}: {error.asked}"
    return error


# -- looking ----------------------------------------------------------------------------------------------------------
def _looked_up(engine: Engine, items: Sequence[Mapping[str, Any]], settings: Settings) -> list[Work]:
    works: list[Work] = []
    times = Counter(str(item["name"]) for item in items if item.get("name"))
    with engine.session():
        for item in items:
            work = Work(str(item.get("name") or "?"))
            works.append(work)
            local = settings.local.get(work.name, {})
            try:
                # ISO and answers come by the name: which of the two they are of, nobody can tell.
                if times[work.name] > 1 or local.get("twice"):
                    raise InvalidValue(f"install {work.name}", "the list has it twice", "Give each image one entry")
                work.spec = spec_of(item, engine, local)
            except (NebulaError, OSError) as problem:
                work.error = _explained(work, problem)
        names = [name for work in works for name in (machine_name(work.name), trial_name(work.name))]
        records = {record.name: record for record in engine.vms.pool(names=names)}
        pool = {image.name: image for image in engine.images.pool()}
        if _settle(engine, records.values(), settings):
            records = {record.name: record for record in engine.vms.pool(names=names)}
        for work in works:
            if work.spec is None or work.error is not None:
                continue
            try:
                _find(work, work.spec, pool, records, settings)
            except NebulaError as error:
                work.error = _explained(work, error)
    return works


def _settle(engine: Engine, records: Any, settings: Settings) -> bool:
    """Record what a node has done for a run that was killed before it could: its plan, carried out again, would start a
    machine whose guest has ended it."""
    settled = False
    for node in settings.observed:
        there = {vm.vm_id: vm for vm in node.vms}
        for record in records:
            if record.host != node.host or record.id not in there or not _installs(record):
                continue
            vm = there[record.id]
            image = _image_of(engine, record)
            written = image is None or _is_written(image)
            machine = Machine(record.id, record.state, record.wanted, vm.state, vm.ended, written=written)
            if next_step.was_started(machine, record.generation, vm.generation):
                engine.vms.record(node.host, [VmOutcome(record.id, record.generation, "RUNNING", True)])
                settled = True
    return settled


def _image_of(engine: Engine, record: VmRecord) -> Image | None:
    return next((image for image in engine.images.pool() if image.name == _installs(record)), None)


def _installs(record: VmRecord) -> str:
    """The image that the machine installs, "" if it is another's machine."""
    return record.request.get(next_step.MARK) if record.request is not None else ""


def _find(
    work: Work, spec: Spec, pool: Mapping[str, Image], records: Mapping[str, VmRecord], settings: Settings
) -> None:
    image = work.image = pool.get(spec.name)
    record = work.record = records.get(machine_name(spec.name))
    trial = records.get(trial_name(spec.name))
    for other, mark in ((record, next_step.MARK), (trial, next_step.TRIES)):
        if other is not None and (other.request is None or other.request.get(mark) != spec.name):
            raise Conflict(
                f"{spec.where}: machine {other.name}",
                f"machine {other.id} has that name, and has nothing to do with it",
                "Rename that machine, or the image",
            )
    work.trial = trial
    if image is not None and spec.state != "absent":
        _refuse_others(spec, image)
    if image is not None and not image.attributes.get(next_step.FROM):
        work.image = None  # not ours to give up
    work.machine = _machine(work, settings)
    written = work.image is not None and work.machine is None and _is_written(work.image)
    work.step = next_step.step(
        work.image, work.machine, spec.state == "installed", spec.verify, spec.shape.end, spec.marker, written
    )
    if spec.missing is not None and work.step != next_step.DONE:
        raise spec.missing
    if spec.state != "absent":
        _refuse_changes(spec, work)
    took = work.image.attributes.get(next_step.TOOK, "") if work.image is not None else ""
    work.seconds = int(took) if took.isdigit() else None


def _refuse_others(spec: Spec, image: Image) -> None:
    origin = image.attributes.get(next_step.FROM, "")
    if not origin:
        raise Conflict(
            f"{spec.where}: image {spec.name}",
            f"there is one of that name (id {image.id}, {image.type.name}) that this did not make",
            "Choose another name, or remove that image (nebula_image, state: absent)",
        )
    if origin != spec.iso.image:
        raise Conflict(
            f"{spec.where}: iso {spec.iso.image}",
            f"the image of that name is installed from {origin}",
            "Remove it first (nebula_image, state: absent; an installation under way: nebula_installs, state: absent), "
            "or install under another name",
        )


def _refuse_changes(spec: Spec, work: Work) -> None:
    """Conflict where what is gone on with is something else than what the item says."""
    image = work.image
    if image is None:
        return
    if work.step == next_step.FOREIGN:
        raise Conflict(
            f"{spec.where}: image {spec.name}",
            f"it is {image.type.name} in state {image.state.name}, and no installation is going on into it",
            "Choose another name, or remove that image (nebula_image, state: absent)",
        )
    if work.step == next_step.BROKEN:
        raise WrongState(
            f"{spec.where}: image {spec.name}",
            f"it was installed, and is in state {image.state.name} now" + (f": {image.error}" if image.error else ""),
            "See to it with nebula_image (in ERROR: state: enabled; LOCKED: wait for whoever works on it, or repeat "
            "that run), or remove it to have it installed anew (state: absent)",
        )
    if work.step not in (next_step.START, next_step.WAIT, next_step.UNSURE, next_step.FINISH, next_step.CONVERT):
        return
    pairs: list[tuple[str, Any, Any]] = [
        ("firmware", spec.shape.firmware, image.firmware),
        ("bus", spec.shape.bus, image.bus),
        ("format", spec.format, image.format),
    ]
    if work.step == next_step.START:
        pairs.append(("size", spec.size, image.size))
    for key, wanted, has in pairs:
        if has and wanted != has:
            raise Conflict(
                f"{spec.where}: {key} {wanted}",
                f"it is being installed with {key} {has}",
                f"Say {key}: {has}, or give it up first (state: absent)",
            )


def _machine(work: Work, settings: Settings) -> Machine | None:
    record, image = work.record, work.image
    if record is None or record.id is None:
        # One that is on its way out has no name any more; its plan is still to be carried out.
        if image is not None and image.vms and image.unfinished:
            return Machine(-1, "EPILOG", "DONE", written=_is_written(image))
        return None
    if not settings.observed:
        # Not the first call of a run: role vm has looked meanwhile, and has recorded what it saw.
        return Machine(record.id, record.state, record.wanted, record.state, "guest")
    node = next((each for each in settings.observed if each.host == record.host), None)
    vm = next((each for each in node.vms if each.vm_id == record.id), None) if node is not None else None
    return Machine(
        record.id,
        record.state,
        record.wanted,
        vm.state if vm else "",
        vm.ended if vm else "",
        reached=node is not None and node.reached,
        written=image is None or _is_written(image),
    )


def _is_written(image: Image) -> bool:
    """Whether anything but a blank disk is in its file."""
    try:
        taken = os.stat(image.source).st_blocks * 512
    except OSError:
        # What can't be seen is not thrown away.
        return True
    return taken > (_BLANK if image.format == "qcow2" else 0)


# -- begun: what is due, before anything is made ----------------------------------------------------------------------
def _begin(engine: Engine, work: Work, spec: Spec, settings: Settings, outcome: Outcome) -> None:
    if spec.state == "absent":
        work.changed = _has_something(engine, work)
        outcome.vms += _ends(work)
        return
    _refuse_undecided(work, spec)
    if work.step in (
        next_step.MAKE,
        next_step.START,
        next_step.END,
        next_step.WAIT,
        next_step.CONVERT,
        next_step.VERIFY,
    ):
        _refuse_taken(engine, spec)
    if work.step in (next_step.MAKE, next_step.START, next_step.END):
        _check_answers(spec, settings, needed=False)
        _check_host(engine, spec)
        _check_drivers(engine, spec)
        _check_templates(engine, work, spec, settings)
        _check_iso(engine, work, spec, settings, outcome)
        work.changed = True
        if work.step == next_step.END:
            outcome.vms += _ends(work)
    elif work.step == next_step.FINISH:
        heard = _was_heard(work, spec)
        with engine.session():
            engine.images.update(_id(work.image), unfinished=INSTALLED)
        work.changed = True
        # What runs may have something in memory that belongs on the disk.
        off = work.machine is not None and work.machine.reached and work.machine.seen in ("POWEROFF", "")
        outcome.vms += _ends(work, hard=off or heard)
    elif work.step in (next_step.CONVERT, next_step.VERIFY):
        work.changed = True
    elif work.step == next_step.DONE:
        # What a run left that was killed.
        work.changed = _has_left(engine, work, spec)
        if work.trial is not None and not spec.keep:
            outcome.vms += _ends(work)


def _refuse_undecided(work: Work, spec: Spec) -> None:
    """WrongState where a human has to say first what is to become of it, or has said what can't be."""
    if spec.state == "installed" and work.step in (next_step.MAKE, next_step.START, next_step.END):
        raise WrongState(
            f"{spec.where}: state installed", "nothing was installed yet", "Say state: present to begin with it"
        )
    if work.step == next_step.UNREACHED and work.record is not None:
        raise WrongState(
            f"{spec.where}: machine {work.record.name}",
            f"host {work.record.host} did not answer",
            "Run again when it does: nothing is begun anew until it is known what it has",
        )
    if work.step != next_step.UNSURE:
        return
    if work.record is None or (work.image is not None and work.record.wanted == "DONE"):
        raise WrongState(
            f"{spec.where}: image {spec.name}",
            "something is on its disk, and its machine is gone, or going, without a word whether it is finished",
            "Say state: installed if it is finished, or state: absent to give it up, after which a run begins anew",
        )
    if work.image is None:
        raise WrongState(
            f"{spec.where}: machine {work.record.name}",
            f"it is {work.record.state}, and the catalog has no image {spec.name} that it could be installing",
            "Was it renamed or removed? Look at the machine; state: absent gives the installation up, machine and all",
        )
    raise WrongState(
        f"{spec.where}: machine {work.record.name}",
        "it is off, and nothing tells whether its guest ended it when it was finished",
        "Look at its console and its disk. Then say state: installed if it is finished, or state: absent to give "
        "it up, after which a run begins anew",
    )


def _was_heard(work: Work, spec: Spec) -> bool:
    """Whether its machine was heard to be at its end while it runs on: an installer need not obey a power button."""
    told = work.image is not None and work.image.unfinished == INSTALLED and next_step.TOOK in work.image.attributes
    return told and spec.shape.end == next_step.PATTERN and spec.state != "installed"


def _has_left(engine: Engine, work: Work, spec: Spec) -> bool:
    return bool(_media(engine, spec.name)) or (
        not spec.keep and (work.trial is not None or bool(_templates(engine, spec.name)))
    )


def _refuse_taken(engine: Engine, spec: Spec) -> None:
    """Conflict where something else has a name that is to be taken."""
    _refuse_template(engine, machine_name(spec.name), next_step.MARK, spec.name)
    _refuse_template(engine, trial_name(spec.name), next_step.TRIES, spec.name)
    names = [media_name(spec.name, what) for what in next_step.MEDIA]
    for image in engine.images.pool():
        if image.name in names and image.attributes.get(next_step.MARK) != spec.name:
            raise Conflict(
                f"{spec.where}: image {image.name}",
                f"there is one of that name (id {image.id}) that has nothing to do with it",
                "Rename that image, or install under another name",
            )


def _check_answers(spec: Spec, settings: Settings, needed: bool) -> str:
    """The rendered answers. needed: they have to be there."""
    if spec.kind is None:
        return ""
    text = settings.answers.get(spec.name)
    if isinstance(text, Mapping):
        raise InvalidValue(f"{spec.where}: answers", str(text.get("error")), "Correct them, or the file that they are")
    if needed and not text:
        raise NotFound(f"{spec.where}: answers", "they were not rendered", "Run this by role install_os")
    return str(text or "")


def _check_host(engine: Engine, spec: Spec) -> None:
    names = [host.name for host in engine.hosts.pool()]
    if spec.host and spec.host not in names:
        near = nearest(spec.host, names)
        raise NotFound(
            f"{spec.where}: host {spec.host}",
            "there is no such host",
            f"Did you mean {near!r}? " * bool(near) + "See nebula_info for the hosts that there are",
        )


def _check_drivers(engine: Engine, spec: Spec) -> None:
    if not spec.drivers:
        return
    known = next((image for image in engine.images.pool() if image.name == spec.drivers), None)
    if known is None:
        raise NotFound(f"{spec.where}: drivers {spec.drivers}", "there is no such image", "Store it first")
    _refuse_no_cd(f"{spec.where}: drivers {spec.drivers}", known)


def _check_templates(engine: Engine, work: Work, spec: Spec, settings: Settings) -> None:
    """What machines will be made of, as far as that can be told before there are answers."""
    own = f"{spec.where}: template"
    made = [next_step.template(spec.shape, _foreseen(spec), spec.own)]
    made += [next_step.trial(spec.shape, spec.own)] if spec.verify else []
    warnings = [text for template in made for text in validate(template, False, own, engine.hosts.hypervisors())]
    for index, nic in enumerate(demands(made[0], own).nics):
        try:
            engine.networks.info(nic.network)
        except NotFound as error:
            if not settings.check_mode:
                error.asked = f"{own}: NIC {index}: {error.asked}"
                raise
            # Role network may be about to make it.
            warnings.append(f"NIC {index}: there is no {error.asked} yet, which is taken as given in check mode")
    if settings.check_mode:
        # Otherwise said when they are stored.
        work.warnings += [f"{own}: {text}" for text in dict.fromkeys(warnings)]


def _foreseen(spec: Spec) -> Media:
    """What _make_media() will make."""
    names = {what: media_name(spec.name, what) for what in next_step.MEDIA}
    boots = spec.boot == answer_files.FROM_KERNEL
    return Media(
        kernel=names["kernel"] if boots else "",
        initrd=names["initrd"] if boots else "",
        command=spec.kernel_cmd,
        answers=names["answers"] if spec.way == answer_files.ISO else "",
        drivers=spec.drivers,
        floppy=f"/{names['floppy']}" if spec.way == answer_files.FLOPPY else "",
    )


def _refuse_no_cd(asked: str, image: Image) -> None:
    if image.type != ImageType.CDROM:
        raise ImageRefused(asked, f"that image is of type {image.type.name}", "Name one of type CDROM")
    if image.state == ImageState.DISABLED:
        raise WrongState(asked, "it is DISABLED", "Enable it: nebula_image with state: enabled")
    if image.state in decide.UNFINISHED:
        found = f"it is in state {image.state.name}" + (f" ({image.error})" if image.error else "")
        raise WrongState(asked, found, "Store it again: nebula_image with its path")


def _has_something(engine: Engine, work: Work) -> bool:
    return (
        _is_there(work)
        or work.trial is not None
        or bool(_media(engine, work.name))
        or bool(_templates(engine, work.name))
    )


def _ends(work: Work, hard: bool = True) -> list[dict[str, Any]]:
    ends = []
    if work.machine is not None:
        ends.append({"name": machine_name(work.name), "state": "absent", "hard": hard})
    if work.trial is not None:
        ends.append({"name": work.trial.name, "state": "absent", "hard": True})
    return ends


def _check_iso(engine: Engine, work: Work, spec: Spec, settings: Settings, outcome: Outcome) -> None:
    """What can be seen of the ISO before it is there, and the item that brings it."""
    iso = spec.iso
    known = next((image for image in engine.images.pool() if image.name == iso.image), None)
    if known is not None and known.state not in decide.UNFINISHED:
        _refuse_no_cd(f"{spec.where}: iso {iso.image}", known)
        iso.refuse_other(spec.where, known)
        _check_kernel(spec, known.source, installer_media.look(known.source, f"{spec.where}: iso {iso.image}"))
        _check_room(engine, work, spec, 0, outcome)
        return
    if not iso.path:
        if known is not None:
            _refuse_no_cd(f"{spec.where}: iso {iso.image}", known)
        raise NotFound(f"{spec.where}: iso {iso.image}", "there is no such image", "Store it first, or give its path")
    local = settings.local.get(spec.name, {})
    if local.get("problem"):
        raise ImageRefused(f"{spec.where}: iso {iso.origin}", str(local["problem"]), str(local.get("remedy") or ""))
    if not iso.remote and "/" in iso.path and "://" not in iso.path and not local.get("facts"):
        raise NotFound(
            f"{spec.where}: iso {iso.origin}",
            str(local.get("lost") or "it is not on the control node"),
            "Give another path, or say where it is: iso: {path: …, remote_src: true}",
        )
    if local.get("facts"):
        check_media(spec, Facts(**local["facts"]))
    elif iso.remote and os.path.isfile(iso.path):
        what = f"{spec.where}: iso {iso.origin}"
        _check_kernel(spec, iso.path, installer_media.look(iso.path, what))
    item = iso.item(spec.name)
    other = next((each for each in outcome.isos if each["name"] == iso.image), None)
    if other is None:
        size = os.path.getsize(iso.path) if iso.remote and os.path.isfile(iso.path) else int(local.get("size") or 0)
        _check_room(engine, work, spec, size, outcome)
        outcome.isos.append(item)
        return
    _refuse_other_item(spec, item, other)
    _check_room(engine, work, spec, 0, outcome)


def _refuse_other_item(spec: Spec, item: Mapping[str, Any], other: dict[str, Any]) -> None:
    """Conflict where another installation of the list has an ISO of the same name that is not the same."""
    for key in ("path", "remote_src", "checksum"):
        if item.get(key, other.get(key)) != other.get(key, item.get(key)):
            raise Conflict(
                f"{spec.where}: iso {spec.iso.image}",
                f"install {other['install']} has one of that name with {key} {other[key]}, and this has {item[key]}",
                "Give one of them another name: iso: {path: …, image: …}",
            )
    if "checksum" in item:
        other["checksum"] = item["checksum"]


def _check_room(engine: Engine, work: Work, spec: Spec, iso: int, outcome: Outcome) -> None:
    """NoSpace unless disk and ISO (in bytes) fit, besides those of the installations before."""
    place = engine.datastores.info(default_for(ImageType.DATABLOCK))
    if not place.capacity_check:
        return
    directory = datastore.image_directory(outcome.root, place.id or 0)
    while not os.path.isdir(directory) and os.path.dirname(directory) != directory:
        directory = os.path.dirname(directory)
    before = outcome.room.get(directory, 0)
    # What is there of it already goes, or is what is written to.
    has = os.stat(work.image.source).st_blocks * 512 if work.image and os.path.exists(work.image.source) else 0
    needed = before + max(0, spec.size * datastore.MIB + iso - has)
    what = f"{spec.where}: size {spec.size}" + (", and those before it in the list" if before else "")
    datastore.require_space(directory, needed, f"{what}: in datastore {place.name}")
    outcome.room[directory] = needed


def _check_kernel(spec: Spec, path: str, facts: Facts) -> None:
    check_media(spec, facts)
    if spec.boot == answer_files.FROM_KERNEL:
        _kernel_places(spec, path)


def _kernel_places(spec: Spec, path: str) -> tuple[installer_media.Place, ...]:
    """Where kernel and initrd are in the ISO."""
    what = f"{spec.where}: iso {spec.iso.image}"
    candidates = [(spec.kernel, spec.initrd)] if spec.kernel else list(spec.kind.kernels if spec.kind else ())
    if not candidates:
        raise InvalidValue(
            f"{spec.where}: boot kernel", "it is not known which kernel of the ISO that is", "Give kernel and initrd"
        )
    found = installer_media.find(path, candidates, what)
    if found is not None:
        return found
    others = [
        kind.title
        for kind in answer_files.KINDS.values()
        if kind is not spec.kind and kind.kernels and installer_media.find(path, kind.kernels, what)
    ]
    raise ImageRefused(
        what,
        "it has no installer's kernel at " + " or ".join(" and ".join(pair) for pair in candidates),
        f"It looks like an installer that takes {others[0]}: give answers of that kind"
        if others and not spec.kernel
        else "Give kernel and initrd as they are called in the ISO, or answers of a kind that its installer takes",
    )


# -- prepared: disk, answers, template --------------------------------------------------------------------------------
def _prepare(engine: Engine, work: Work, spec: Spec, settings: Settings, outcome: Outcome) -> None:
    with _alone(settings):
        # Another run may have been at it meanwhile.
        _look_again(engine, work, spec, settings)
        if spec.state == "absent":
            _give_up(engine, work, spec)
        else:
            _prepare_alone(engine, work, spec, settings, outcome)


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """No other run makes disks and answers meanwhile. It is the directory that is held, of which nothing is left."""
    directory = datastore.image_directory(settings.root, default_for(ImageType.DATABLOCK))
    files.make_directory(directory, 0o711)
    with files.lock(directory, LOCK_SECONDS):
        yield


def _look_again(engine: Engine, work: Work, spec: Spec, settings: Settings) -> None:
    with engine.session():
        names = (machine_name(spec.name), trial_name(spec.name))
        records = {record.name: record for record in engine.vms.pool(names=names)}
        _find(work, spec, {image.name: image for image in engine.images.pool()}, records, settings)


def _prepare_alone(engine: Engine, work: Work, spec: Spec, settings: Settings, outcome: Outcome) -> None:
    _refuse_undecided(work, spec)
    if work.step == next_step.WAIT:
        # Its plan may not have been carried out yet.
        outcome.vms.append({"name": machine_name(spec.name), "state": "present"})
    elif work.step in (next_step.MAKE, next_step.START):
        iso = _iso_image(engine, spec)
        facts = installer_media.look(iso.source, f"{spec.where}: iso {iso.name}")
        _check_kernel(spec, iso.source, facts)
        _refuse_taken(engine, spec)
        _check_answers(spec, settings, needed=True)
        if work.step == next_step.MAKE:
            _make_disk(engine, work, spec)
        media = _make_media(engine, spec, iso, facts, settings)
        _ready(engine, work, next_step.template(spec.shape, media, spec.own))
        outcome.vms.append(
            {"name": machine_name(spec.name), "template": machine_name(spec.name), "state": "running"}
            | ({"host": spec.host} if spec.host else {})
        )
    else:
        return
    work.changed = work.step != next_step.WAIT
    outcome.waits.append(
        {
            "name": spec.name,
            "machine": machine_name(spec.name),
            "size": spec.size,
            "end": spec.shape.end,
            "pattern": spec.pattern,
            "failures": list(spec.failures),
            "marker": spec.marker,
            "keys": spec.shape.profile == "windows",
            "fresh": work.step != next_step.WAIT,
            "timeout": spec.timeout,
        }
    )


def _give_up(engine: Engine, work: Work, spec: Spec) -> None:
    if work.machine is not None:
        raise WrongState(f"{spec.where}: state absent", "its machine is there still", "Run again when its host answers")
    names = _media(engine, spec.name)
    if work.image is not None and work.image.unfinished:
        names.append(spec.name)
        work.image = None
    work.changed = _remove_images(engine, names) | _remove_templates(engine, spec.name)


def _iso_image(engine: Engine, spec: Spec) -> Image:
    known = next((image for image in engine.images.pool() if image.name == spec.iso.image), None)
    asked = f"{spec.where}: iso {spec.iso.image}"
    if known is None:
        remedy = "Run again: it is stored first" if spec.iso.path else "Store it first, or give its path"
        raise NotFound(asked, "there is no such image", remedy)
    _refuse_no_cd(asked, known)
    spec.iso.refuse_other(spec.where, known)
    return known


def _make_disk(engine: Engine, work: Work, spec: Spec) -> None:
    """A blank one, whatever was there: what is not finished is not gone on with."""
    if work.image is not None:
        _remove_images(engine, [spec.name])
    wanted = Image(
        None,
        spec.name,
        ImageType.DATABLOCK,
        persistent=True,
        datastore_id=default_for(ImageType.DATABLOCK),
        format=spec.format,
        size=spec.size,
        firmware=spec.shape.firmware,
        bus=spec.shape.bus,
        # From its first moment, so that nobody else stores something into it, or takes it for a disk of his own.
        unfinished=INSTALLING,
        attributes={next_step.FROM: spec.iso.image, next_step.VERIFIED: "NO"},
    )
    with engine.session():
        image = work.image = engine.images.allocate(wanted)
    files.make_directory(os.path.dirname(image.source), 0o711)
    with importer.reserved(image.source, LOCK_SECONDS):
        try:
            store.require_capacity(engine, image, spec.size, f"{spec.where}: its disk")
            importer.make_empty(image.source, spec.size, spec.format, "")
            datastore.protect(image.source, writable=True)
        except (NebulaError, OSError) as problem:
            with engine.session():
                engine.images.update(_id(image), state=ImageState.ERROR, error=str(_explained(work, problem)))
            raise
        with engine.session():
            # READY and unfinished at once is nobody's to ask for.
            engine.images.update(_id(image), state=ImageState.READY, unfinished="")
            work.image = engine.images.update(_id(image), unfinished=INSTALLING)


def _make_media(engine: Engine, spec: Spec, iso: Image, facts: Facts, settings: Settings) -> Media:
    """Images of what the installer is given besides, all for this installation alone."""
    # Of a run that was killed: they may be of other answers.
    _remove_images(engine, _media(engine, spec.name))
    kernel = initrd = answers = floppy = command = ""
    given: dict[str, bytes] = {}
    if spec.kind is not None:
        given = {spec.kind.file: _check_answers(spec, settings, needed=True).encode()}
        command = (
            answer_files.command_line(spec.kind, spec.way, facts.label) if spec.boot != answer_files.FROM_ISO else ""
        )
    if spec.way == answer_files.ISO and spec.kind is not None:
        beside = {name: content.encode() for name, content in spec.kind.beside}
        with iso9660.labelled(spec.kind.label, {**given, **beside}) as made:
            answers = _store(engine, spec, "answers", ImageType.CDROM, made.copy)
    elif spec.way == answer_files.FLOPPY:
        name = _store(engine, spec, "floppy", ImageType.CONTEXT, [installer_media.floppy(given)])
        floppy = engine.images.info(name).source
    if spec.boot == answer_files.FROM_KERNEL:
        places = _kernel_places(spec, iso.source)
        what = f"{spec.where}: iso {iso.name}"
        kernel = _store(engine, spec, "kernel", ImageType.KERNEL, installer_media.content(iso.source, places[0], what))
        initrd = _store(engine, spec, "initrd", ImageType.RAMDISK, _initrd(spec, iso, places[1], given, what))
    return Media(
        kernel=kernel,
        initrd=initrd,
        command=" ".join(filter(None, (command, spec.kernel_cmd))),
        answers=answers,
        drivers=spec.drivers,
        floppy=floppy,
    )


def _initrd(
    spec: Spec, iso: Image, place: installer_media.Place, given: Mapping[str, bytes], what: str
) -> Iterator[bytes]:
    yield from installer_media.content(iso.source, place, what)
    if spec.way == answer_files.INITRD:
        yield installer_media.padding(place.size)
        yield installer_media.archive(given)


def _store(engine: Engine, spec: Spec, what: str, kind: ImageType, content: Any) -> str:
    name = media_name(spec.name, what)
    with _unnamed(os.path.dirname(engine.images.info(spec.name).source), content) as path:
        # By that attribute it is known as ours to remove.
        ours = {next_step.MARK: spec.name}
        _apply(engine, [{"name": name, "type": kind.name, "path": path, "remote_src": True, "attributes": ours}])
    with engine.session():
        engine.images.update(name, origin=f"{what} of install {spec.name}")
    return name


@contextmanager
def _unnamed(directory: str, content: Any) -> Iterator[str]:
    """A path to the content in a file that has no name: killed at any moment, no answers are left behind."""
    with explained(directory), tempfile.TemporaryFile(dir=directory) as file:
        _fill(file, content)
        # By the process, as qemu-img looks at it too.
        yield f"/proc/{os.getpid()}/fd/{file.fileno()}"


def _fill(file: IO[bytes], content: Any) -> None:
    """content: blocks, or what writes them to a file."""
    if callable(content):
        content(file)
    else:
        for block in content:
            file.write(block)
    file.flush()


def _ready(engine: Engine, work: Work, template: Template) -> None:
    """The template, and the image's word that a machine will write into it: both, or neither."""
    name = machine_name(work.name)
    with engine.session():
        _refuse_template(engine, name, next_step.MARK, work.name)
        done, _views, warnings = templates.apply_all(engine, [{"name": name, "template": template.to_mapping()}], False)
        for item in done:
            if item.error is not None:
                raise item.error
        work.warnings += warnings
        engine.images.update(_id(work.image), unfinished=INSTALLING)


def _refuse_template(engine: Engine, name: str, mark: str, image: str) -> None:
    for stored in engine.templates.pool():
        if stored.name == name and stored.template.get(mark) != image:
            raise Conflict(
                f"install {image}: template {name}",
                "there is one of that name that has nothing to do with it",
                "Rename that template, or the image",
            )


# -- recorded: what the nodes heard -----------------------------------------------------------------------------------
def _record(engine: Engine, work: Work, spec: Spec, settings: Settings, outcome: Outcome) -> None:
    heard = next((each for each in settings.waited if each.get("name") == spec.name), None)
    if heard is None or not heard.get("installed"):
        return
    same = work.record is not None and heard.get("vm_id") == work.record.id
    if work.image is None or work.record is None or not same or work.image.unfinished not in (INSTALLING, INSTALLED):
        raise WrongState(
            f"{spec.where}: machine {heard.get('vm_id')}",
            "it is at its end, and another run has gone on with the installation meanwhile",
            "Let one run at a time deal with it; run again",
        )
    if work.image.unfinished == INSTALLING:
        work.seconds = max(0, settings.now - work.record.stime)
    with engine.session():
        attributes = {**work.image.attributes, next_step.TOOK: str(work.seconds or 0)}
        work.image = engine.images.update(_id(work.image), unfinished=INSTALLED, attributes=attributes)
    work.changed, work.step = True, next_step.FINISH
    work.how = str(heard.get("how") or "")
    outcome.vms += _ends(work)


# -- converted: an OS image, and a machine that tries it --------------------------------------------------------------
def _convert(engine: Engine, work: Work, spec: Spec, settings: Settings, outcome: Outcome) -> None:
    if work.step == next_step.FINISH and work.record is not None:
        raise WrongState(
            f"{spec.where}: machine {work.record.name}",
            f"it is {work.record.state}, and still has the disk"
            + (f": {work.record.error}" if work.record.error else ""),
            "Power it off in its guest, or pull its plug if nothing is written any more (nebula_vms: state: poweroff, "
            "hard: true), then run again: nothing is installed anew",
        )
    if work.step in (next_step.CONVERT, next_step.VERIFY, next_step.DONE):
        # Its machine is gone. Answers are not kept a moment longer.
        work.changed = _remove_images(engine, _media(engine, spec.name)) or work.changed
    if work.step == next_step.CONVERT and work.image is not None:
        # Both before the catalog calls it READY, and both again if that is killed.
        files.settle(work.image.source)
        datastore.protect(work.image.source, writable=False)
        with engine.session():
            work.image = decide.convert(
                engine,
                work.image,
                ImageType.OS,
                False,
                unfinished="",
                state=ImageState.READY,
                error="",
            )
        work.changed = True
        work.step = next_step.step(work.image, None, False, spec.verify)
    if work.step not in (next_step.VERIFY, next_step.DONE):
        return
    if not spec.keep:
        work.changed = _remove_templates(engine, spec.name, trial=work.step == next_step.DONE) or work.changed
    if work.step == next_step.VERIFY:
        name = trial_name(spec.name)
        with engine.session():
            _refuse_template(engine, name, next_step.TRIES, spec.name)
            item = {"name": name, "template": next_step.trial(spec.shape, spec.own).to_mapping()}
            done, _views, warnings = templates.apply_all(engine, [item], False)
            for each in done:
                if each.error is not None:
                    raise each.error
            work.warnings += warnings
        outcome.vms.append(
            {"name": name, "template": name, "state": "running"} | ({"host": spec.host} if spec.host else {})
        )
        outcome.patterns[name] = spec.trial
        outcome.timeout = max(outcome.timeout, spec.trial_timeout)
        work.changed = True


# -- concluded: what its guest said, and what became of all -----------------------------------------------------------
def _conclude(engine: Engine, work: Work, spec: Spec, settings: Settings, outcome: Outcome) -> None:
    name = trial_name(spec.name)
    heard = next((each for each in settings.verified if each.get("name") == name), None)
    believed = heard is not None and bool(heard.get("verified"))
    if believed and work.step == next_step.VERIFY and work.image is not None and work.trial is not None:
        with engine.session():
            attributes = {**work.image.attributes, next_step.VERIFIED: "YES"}
            work.image = engine.images.update(_id(work.image), attributes=attributes)
        work.changed, work.step = True, next_step.DONE
        work.how = str((heard or {}).get("said") or "")
    if work.step == next_step.DONE and not spec.keep:
        if work.trial is not None:
            outcome.vms += _ends(work)
        work.changed = _remove_templates(engine, spec.name) or work.changed


# -- images and templates that are ours -------------------------------------------------------------------------------
def _apply(engine: Engine, items: Sequence[Mapping[str, Any]]) -> None:
    done, _warnings = decide.apply(engine, items, decide.Settings())
    for item in done:
        if item.error is not None:
            raise item.error


def _remove_images(engine: Engine, names: Sequence[str]) -> bool:
    there = {image.name for image in engine.images.pool()}
    gone = [{"name": name, "state": "absent"} for name in names if name in there]
    if gone:
        _apply(engine, gone)
    return bool(gone)


def _media(engine: Engine, install: str) -> list[str]:
    """Names of the images that are there for that installation alone."""
    names = [media_name(install, what) for what in next_step.MEDIA]
    ours = [image.name for image in engine.images.pool() if image.attributes.get(next_step.MARK) == install]
    return [name for name in names if name in ours]


def _templates(engine: Engine, image: str, trial: bool = True) -> list[StoredTemplate]:
    marks = {machine_name(image): next_step.MARK} | ({trial_name(image): next_step.TRIES} if trial else {})
    return [
        stored
        for stored in engine.templates.pool()
        if stored.name in marks and stored.template.get(marks[stored.name]) == image
    ]


def _remove_templates(engine: Engine, image: str, trial: bool = True) -> bool:
    with engine.session():
        ours = _templates(engine, image, trial)
        for stored in ours:
            engine.templates.delete(stored.name if stored.id is None else stored.id)
    return bool(ours)


def _id(image: Image | None) -> int:
    if image is None or image.id is None:
        raise NotFound("the image that is installed", "it is not there", "Run again")
    return image.id
