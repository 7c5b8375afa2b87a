# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stores the files of images, outside of any transaction of the catalog: fetched, made of another image, encrypted,
removed.

An image is registered as LOCKED, its file is stored under a lock, then it is READY, or ERROR with the reason. A run
that was killed leaves it LOCKED, and nobody holds the lock. An image that is to be encrypted is READY once it is,
never before."""

from __future__ import annotations

import os
from collections.abc import Callable

from ...dataclass import replace
from ...engines.base import Engine
from ...errors import ChecksumMismatch, ImageRefused, NebulaError, NoSpace, StorageFailed, TimedOut, WrongState
from ...guest_disk.customize import recipes
from ...host import files
from ...model.image import Image
from ...model.image_operations import Clone
from ...model.object_ids import id_of
from ...model.states import ImageState, ImageType
from ...storage import datastore_layout, disk_formats, final_names, image_files, importer
from ...storage.datastore_layout import MIB
from ...storage.importer import Request, Stored
from ...sync import Item
from . import image_removal
from .image_item import DISKS, Spec
from .image_progress import Settings, Work, current_image, error_of
from .image_view import image_view


def store(engine: Engine, work: Work, settings: Settings) -> None:
    """Bring the file of a registered image into its datastore."""
    image, spec = work.image, work.spec
    if image is None or spec is None:
        return
    request = request_of(spec, image.type, settings)
    try:
        files.make_directory(os.path.dirname(image.source), 0o711)
        with final_names.locked_destination(image.source, settings.wait_timeout):
            with engine.session():
                now = current_image(engine, image)
            if now is None:
                raise error_of_removed(spec.name, "store")
            if now.state == ImageState.LOCKED and now.operation == image.operation:
                done = _fetch(engine, image, spec, request, settings, work.warnings)
                work.became(spec.name, image_view(done), changed=True)
            else:
                # Another run, for which this one has waited, did it.
                work.item = Item(spec.name, image_view(now), image_view(now))
            work.todo = "again"
    except TimedOut as error:
        work.became(spec.name, image_view(image), changed=True, error=error)
    except (NebulaError, OSError) as caught:
        problem = error_of(caught, spec, image)
        if request is not None and request.upload and isinstance(problem, (ChecksumMismatch, ImageRefused)):
            files.remove_file(request.source)
        try:
            failed = _fail(engine, image, problem)
        except NebulaError:
            # The catalog can't be written either. The next run stores an image anew that is LOCKED without a lock.
            failed = image
        work.became(spec.name, image_view(failed), changed=True, error=problem)


def _fail(engine: Engine, image: Image, error: NebulaError) -> Image:
    with engine.session():
        now = current_image(engine, image)
        if now is None or now.state != ImageState.LOCKED:
            return now or replace(image, state=ImageState.DELETE)
        return engine.images.update(id_of(image), state=ImageState.ERROR, error=str(error), operation=None)


def _fetch(
    engine: Engine, image: Image, spec: Spec, request: Request | None, settings: Settings, warnings: list[str]
) -> Image:
    say = settings.say
    # An earlier run may have stored a file and not told of it: no room is taken twice.
    image_removal.remove_files(image)
    progress = (lambda text: say(f"{spec.name} {text}")) if say else None
    if isinstance(image.operation, Clone):
        stored = _made_of(engine, image, spec, image.operation.image_id, progress)
    elif request is not None:
        stored = importer.store(request, image.source, progress)
        warnings.extend(stored.warnings)
        image = replace(image, luks_secret=_secret(image, spec, stored))
    else:
        stored = _make_empty(engine, image, spec)
    if spec.luks_secret and not image.luks_secret:
        image, stored = _encrypt(image, spec, stored, progress)
    if image.persistent:
        datastore_layout.protect(image.source, writable=True)
    try:
        return _tell(engine, image, spec, stored)
    except (NoSpace, StorageFailed):
        # READY may be in the catalog all the same: a transaction whose last sync failed comes back when SQLite reads
        # its log anew. If it does not, the image is still LOCKED, and stored anew.
        raise
    except BaseException:
        # Nobody may know of it: its image, or the whole catalog, was removed or replaced meanwhile. What is still
        # LOCKED is stored anew.
        files.remove_file(image.source, sync=True)
        raise


def _secret(image: Image, spec: Spec, stored: Stored) -> str:
    """Return the secret of the file that was given; "" if it is yet to be encrypted."""
    if not spec.luks_secret:
        return ""
    try:
        facts = disk_formats.inspect(image.source, stored.format, f"image {spec.name}", deep=False, encrypted=True)
        if not facts.encrypted and not spec.passphrase:
            raise not_encrypted(spec)
    except BaseException:
        files.remove_file(image.source, sync=True)
        raise
    return spec.luks_secret if facts.encrypted else ""


def _encrypt(image: Image, spec: Spec, stored: Stored, say: Callable[[str], None] | None) -> tuple[Image, Stored]:
    """Encrypt in its place what was stored, and return it. If that fails, nothing is left of it."""
    what = f"image {spec.name}: encrypting it"
    if say is not None:
        say("it is encrypted")
    try:
        with files.explained(image.source):
            image_files.require_room(image.source, stored.format, "qcow2", "", what)
            image_files.rewrite(image.source, stored.format, "qcow2", stored.size * MIB, False, "", spec.passphrase)
            image_files.swap(image.source, writable=False)
    except BaseException as caught:
        # An image in ERROR whose file is there can be enabled, and this file is not encrypted.
        image_removal.remove_files(image)
        if isinstance(caught, NebulaError) and what not in caught.asked:
            caught.asked = f"{what}: {caught.asked}"
        raise
    notes = {key: value for key, value in image.notes.items() if key != "compress"}
    return (
        replace(image, luks_secret=spec.luks_secret or "", notes={**notes, "sparse": image.generation}),
        replace(stored, format="qcow2", sha256="", bytes=os.path.getsize(image.source)),
    )


def not_encrypted(spec: Spec) -> ImageRefused:
    return ImageRefused(
        f"image {spec.name}: luks_secret {spec.luks_secret}",
        "it is not encrypted",
        "Leave luks_secret out, or give luks_passphrase too, by which it is encrypted here",
    )


def _make_empty(engine: Engine, image: Image, spec: Spec) -> Stored:
    size = spec.size or 0
    require_capacity(engine, image, size, f"image {spec.name}: an empty disk")
    key = spec.passphrase if image.luks_secret else ""
    format = "qcow2" if key else spec.format or "raw"
    return importer.make_empty(image.source, size, format, spec.fs, key)


def require_capacity(engine: Engine, image: Image, size: int, what: str) -> None:
    """Raise NoSpace unless so many MiB fit, which take no room yet, if the datastore promises no room twice."""
    place = engine.datastores.info(image.datastore_id)
    if place.capacity_check:
        datastore_layout.require_space(os.path.dirname(image.source), size * MIB, f"{what} in datastore {place.name}")


def _made_of(engine: Engine, image: Image, spec: Spec, source_id: int, say: Callable[[str], None] | None) -> Stored:
    """Make a copy of another image, with what is to be added."""
    source = engine.images.info(source_id)
    what = f"image {spec.name}"
    # A machine may have written to it.
    inspect_again(source)

    def fill(temporary: str) -> None:
        image_files.duplicate(source.source, temporary, f"{what}: a copy of {source.name}", say)
        if spec.recipe is not None:
            if say is not None:
                say("its packages and files are added")
            recipes.add(spec.recipe, temporary, source.format, what)

    final_names.make(image.source, fill)
    as_it_was = spec.recipe is None
    return Stored(
        format=source.format,
        size=source.size,
        sha256=source.sha256 if as_it_was else "",
        checksums=source.checksums if as_it_was else {},
        bytes=os.path.getsize(image.source),
    )


def inspect_again(image: Image, deep: bool = False) -> int:
    """Return the size of an image's file in MiB. Raise ImageRefused if it is not what the catalog says, or names other
    files.

    A machine may have written to it: what it wrote is never asked for the format."""
    what = f"image {image.name} (id {image.id})"
    if image.type not in DISKS:
        return -(-os.path.getsize(image.source) // MIB)
    facts = disk_formats.inspect(image.source, image.format, what, deep=deep, encrypted=bool(image.luks_secret))
    if image.type == ImageType.CDROM and not facts.iso:
        raise ImageRefused(
            f"{what}: type CDROM",
            f"it is not an ISO file system (its format is {facts.format})",
            "Leave it OS or DATABLOCK",
        )
    return -(-facts.virtual_size // MIB)


def _tell(engine: Engine, image: Image, spec: Spec, stored: importer.Stored) -> Image:
    with engine.session():
        now = current_image(engine, image)
        if now is None or now.state != ImageState.LOCKED:
            raise error_of_removed(spec.name, "store")
        done = engine.images.update(
            id_of(image),
            state=ImageState.READY,
            error="",
            operation=None,
            luks_secret=image.luks_secret,
            notes=image.notes,
            format=stored.format,
            size=stored.size,
            sha256=stored.sha256,
            checksums=stored.checksums,
        )
        state = ImageState.DISABLED if spec.state == "disabled" else ImageState.READY
        return engine.images.update(id_of(done), state=state)


def error_of_removed(name: str, doing: str) -> WrongState:
    return WrongState(f"image {name}: {doing}", "another run removed it meanwhile", "Run again if it is wanted")


def remove(engine: Engine, work: Work, settings: Settings) -> None:
    image = work.image
    if image is None:
        return
    left = replace(image, state=ImageState.DELETE)
    try:
        if os.path.isdir(os.path.dirname(image.source)):
            # A run that is storing it sees afterwards that it is to be removed.
            with final_names.locked_destination(image.source, settings.wait_timeout):
                with engine.session():
                    left = current_image(engine, image) or left
                if left.state != ImageState.DELETE:
                    # A machine may use it by now.
                    raise WrongState(
                        f"image {image.name}: state absent",
                        f"another run has taken it back meanwhile: it is {left.state.name}",
                        "Run again if it is still to go",
                    )
                image_removal.remove_files(image)
        with engine.session():
            # Another run that wants an image of that name may have removed it.
            if current_image(engine, image) is not None:
                engine.images.delete(id_of(image))
    except (NebulaError, OSError) as caught:
        work.became(image.name, image_view(left), changed=True, error=error_of(caught, work.spec, image))


def request_of(spec: Spec, kind: ImageType, settings: Settings) -> Request | None:
    """Return what is to be fetched for the image, None for an empty image."""
    if not spec.path:
        return None
    upload = settings.uploads.get(spec.name) if spec.from_control_node else None
    return Request(
        what=f"image {spec.name}",
        source=upload or spec.path,
        checksum=spec.checksum,
        disk=kind in DISKS,
        cdrom=kind == ImageType.CDROM,
        format=spec.format,
        member=spec.member,
        encrypted=bool(spec.luks_secret),
        upload=upload is not None,
        max_size=settings.max_size * MIB,
        validate_certs=settings.validate_certs,
        stall=settings.stall,
        min_speed=settings.min_speed * 1024,
        rules=settings.rules,
    )
