# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds what there is of each installation (its image, its machine, its trial), and so the step that is due."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..engines.base import Engine
from ..engines.ports import VmRecord
from ..errors import Conflict, NebulaError, WrongState
from ..model import installation_marks
from ..model.image import Image
from ..model.item_reader import duplicate_error
from ..model.plan import VmOutcome
from . import next_step
from .install_item import Spec, spec_of
from .installation import Settings, Work, error_of
from .next_step import Machine, machine_name, trial_name

# Bytes that a blank qcow2 may have.
_BLANK = 1 << 20


def look_up(engine: Engine, items: Sequence[Mapping[str, Any]], settings: Settings) -> list[Work]:
    """Return all items of the list, each read, with its image and machines; what is wrong with an item is its error."""
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
                    raise duplicate_error(f"install {work.name}")
                work.spec = spec_of(item, engine, local)
            except (NebulaError, OSError) as problem:
                work.error = error_of(work, problem)
        names = [name for work in works for name in (machine_name(work.name), trial_name(work.name))]
        records = {record.name: record for record in engine.vms.pool(names=names)}
        pool = {image.name: image for image in engine.images.pool()}
        if _settle(engine, records.values(), settings):
            records = {record.name: record for record in engine.vms.pool(names=names)}
        for work in works:
            if work.spec is None or work.error is not None:
                continue
            try:
                find(work, work.spec, pool, records, settings)
            except NebulaError as error:
                work.error = error_of(work, error)
    return works


def _settle(engine: Engine, records: Any, settings: Settings) -> bool:
    """Record what a node has done for a run that was killed before it could, and return whether there was anything:
    its plan, carried out again, would start a machine whose guest has ended it."""
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
    """Return the image that the machine installs, "" if it installs none."""
    return record.request.get(installation_marks.MARK) if record.request is not None else ""


def find(
    work: Work, spec: Spec, pool: Mapping[str, Image], records: Mapping[str, VmRecord], settings: Settings
) -> None:
    """Look up one installation, set the step that is due, and refuse an installation that can't go on."""
    image = work.image = pool.get(spec.name)
    record = work.record = records.get(machine_name(spec.name))
    trial = records.get(trial_name(spec.name))
    for other, mark in ((record, installation_marks.MARK), (trial, installation_marks.TRIES)):
        if other is not None and (other.request is None or other.request.get(mark) != spec.name):
            raise Conflict(
                f"{spec.where}: machine {other.name}",
                f"machine {other.id} has that name, and has nothing to do with it",
                "Rename that machine, or the image",
            )
    work.trial = trial
    if image is not None and spec.state != "absent":
        _refuse_others(spec, image)
    if image is not None and not image.attributes.get(installation_marks.FROM):
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
    took = work.image.attributes.get(installation_marks.TOOK, "") if work.image is not None else ""
    work.seconds = int(took) if took.isdigit() else None


def _refuse_others(spec: Spec, image: Image) -> None:
    origin = image.attributes.get(installation_marks.FROM, "")
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
    """Raise Conflict where the installation that would go on is another than the item states."""
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
                f"Set {key}: {has}, or give it up first (state: absent)",
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
    """Return whether anything but a blank disk is in the image's file."""
    try:
        taken = os.stat(image.source).st_blocks * 512
    except OSError:
        # What can't be seen is not thrown away.
        return True
    return taken > (_BLANK if image.format == "qcow2" else 0)
