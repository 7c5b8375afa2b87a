# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes disk, answers, kernel and template (state prepared), so that a machine can be made that installs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..context import iso9660
from ..engines.base import Engine
from ..errors import NebulaError, NotFound, WrongState
from ..host import files
from ..host.files import explained
from ..model import boot_image, installation_marks
from ..model.datastore import default_datastore
from ..model.image import Image
from ..model.installation_marks import INSTALLING
from ..model.states import ImageState, ImageType
from ..reconcile.images import image_files_stored
from ..storage import datastore_layout, final_names, importer
from . import answer_files, next_step
from . import installer_iso as installer_media
from .decide_step import refuse_undecided
from .find_installations import find
from .install_item import Spec
from .installation import Outcome, Settings, Work, error_of
from .installer_iso import Facts
from .next_step import Media, machine_name, media_name, trial_name
from .own_images_and_templates import apply_images, id_of, media_of, remove_images, remove_templates, store_template
from .preflight import check_answers, check_kernel, kernel_places, refuse_no_cd, refuse_taken

# Seconds that other runs may be at disks and answers.
LOCK_SECONDS = 300.0


def prepare(engine: Engine, work: Work, spec: Spec, settings: Settings, outcome: Outcome) -> None:
    """Make what the machine needs, or remove what is given up, while no other run does."""
    with _alone(settings):
        # Another run may have been at it meanwhile.
        with engine.session():
            names = (machine_name(spec.name), trial_name(spec.name))
            records = {record.name: record for record in engine.vms.pool(names=names)}
            find(work, spec, {image.name: image for image in engine.images.pool()}, records, settings)
        if spec.state == "absent":
            _give_up(engine, work, spec)
        else:
            _prepare_alone(engine, work, spec, settings, outcome)


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Hold a lock under which no other run makes disks and answers. The directory is locked, which leaves nothing
    behind."""
    directory = datastore_layout.image_directory(settings.root, default_datastore(ImageType.DATABLOCK))
    files.make_directory(directory, 0o711)
    with files.lock(directory, LOCK_SECONDS):
        yield


def _prepare_alone(engine: Engine, work: Work, spec: Spec, settings: Settings, outcome: Outcome) -> None:
    refuse_undecided(work, spec)
    if work.step == next_step.WAIT:
        # Its plan may not have been carried out yet.
        outcome.vms.append({"name": machine_name(spec.name), "state": "present"})
    elif work.step in (next_step.MAKE, next_step.START):
        iso = _iso_image(engine, spec)
        facts = installer_media.read_facts(iso.source, f"{spec.where}: iso {iso.name}")
        check_kernel(spec, iso.source, facts)
        refuse_taken(engine, spec)
        check_answers(spec, settings, needed=True)
        if work.step == next_step.MAKE:
            _make_disk(engine, work, spec)
        template = next_step.template(spec.shape, make_media(engine, spec, iso, facts, settings), spec.own)
        with engine.session():
            # A machine will write into the image: both, or neither.
            name = store_template(engine, work, template, installation_marks.MARK)
            engine.images.update(id_of(work.image), unfinished=INSTALLING)
        outcome.add_running(name, spec.host)
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
    names = media_of(engine, spec.name)
    if work.image is not None and work.image.unfinished:
        names.append(spec.name)
        work.image = None
    work.changed = remove_images(engine, names) | remove_templates(engine, spec.name)


def _iso_image(engine: Engine, spec: Spec) -> Image:
    known = next((image for image in engine.images.pool() if image.name == spec.iso.image), None)
    asked = f"{spec.where}: iso {spec.iso.image}"
    if known is None:
        remedy = "Run again: it is stored first" if spec.iso.path else "Store it first, or give its path"
        raise NotFound(asked, "there is no such image", remedy)
    refuse_no_cd(asked, known)
    spec.iso.refuse_other(spec.where, known)
    return known


def _make_disk(engine: Engine, work: Work, spec: Spec) -> None:
    """Make a blank disk, whatever was there: an unfinished one is not gone on with."""
    if work.image is not None:
        remove_images(engine, [spec.name])
    wanted = Image(
        None,
        spec.name,
        ImageType.DATABLOCK,
        persistent=True,
        datastore_id=default_datastore(ImageType.DATABLOCK),
        format=spec.format,
        size=spec.size,
        firmware=spec.shape.firmware,
        bus=spec.shape.bus,
        # From its first moment, so that nobody else stores something into it, or takes it for a disk of his own.
        unfinished=INSTALLING,
        attributes={
            installation_marks.FROM: spec.iso.image,
            installation_marks.VERIFIED: "NO",
            **({boot_image.GUEST_OS: boot_image.WINDOWS} if spec.shape.profile == "windows" else {}),
        },
    )
    with engine.session():
        image = work.image = engine.images.allocate(wanted)
    files.make_directory(os.path.dirname(image.source), 0o711)
    with final_names.locked_destination(image.source, LOCK_SECONDS):
        try:
            image_files_stored.require_capacity(engine, image, spec.size, f"{spec.where}: its disk")
            importer.make_empty(image.source, spec.size, spec.format, "")
            datastore_layout.protect(image.source, writable=True)
        except (NebulaError, OSError) as problem:
            with engine.session():
                engine.images.update(id_of(image), state=ImageState.ERROR, error=str(error_of(work, problem)))
            raise
        with engine.session():
            # READY and unfinished at once is nobody's to ask for.
            engine.images.update(id_of(image), state=ImageState.READY, unfinished="")
            work.image = engine.images.update(id_of(image), unfinished=INSTALLING)


def make_media(engine: Engine, spec: Spec, iso: Image, facts: Facts, settings: Settings) -> Media:
    """Make images of what the installer is given besides, all for this installation alone, and return them."""
    # Of a run that was killed: they may be of other answers.
    remove_images(engine, media_of(engine, spec.name))
    kernel = initrd = answers = floppy = command = ""
    given: dict[str, bytes] = {}
    if spec.kind is not None:
        given = {spec.kind.file: check_answers(spec, settings, needed=True).encode()}
        command = (
            answer_files.command_line(spec.kind, spec.way, facts.label) if spec.boot != answer_files.FROM_ISO else ""
        )
    if spec.way == answer_files.ISO and spec.kind is not None:
        beside = {name: content.encode() for name, content in spec.kind.beside}
        with iso9660.build_labelled_iso(spec.kind.label, {**given, **beside}) as made:
            answers = _store(engine, spec, "answers", ImageType.CDROM, made.copy)
    elif spec.way == answer_files.FLOPPY:
        name = _store(engine, spec, "floppy", ImageType.CONTEXT, [installer_media.floppy(given)])
        floppy = engine.images.info(name).source
    if spec.boot == answer_files.FROM_KERNEL:
        places = kernel_places(spec, iso.source)
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
        ours = {installation_marks.MARK: spec.name}
        apply_images(engine, [{"name": name, "type": kind.name, "path": path, "remote_src": True, "attributes": ours}])
    with engine.session():
        engine.images.update(name, origin=f"{what} of install {spec.name}")
    return name


@contextmanager
def _unnamed(directory: str, content: Any) -> Iterator[str]:
    """Yield a path to the content in a file that has no name: killed at any moment, no answers are left behind.
    content: blocks, or a function that writes them to a file."""
    with explained(directory), tempfile.TemporaryFile(dir=directory) as file:
        if callable(content):
            content(file)
        else:
            file.writelines(content)
        file.flush()
        # By the process, as qemu-img looks at it too.
        yield f"/proc/{os.getpid()}/fd/{file.fileno()}"
