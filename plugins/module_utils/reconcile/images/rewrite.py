# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives an image that is there other content: another format, compressed, without holes, encrypted, larger.

The image is LOCKED meanwhile, with a note of what is done to it. So what a run that was killed had begun is undone,
or finished if only the catalog does not know of it yet; then what the item wants is begun anew."""

from __future__ import annotations

import json
import os
from typing import Any

from ...dataclass import dataclass, replace
from ...engines.base import Engine
from ...errors import Conflict, InUse, InvalidValue, NebulaError, TimedOut, WrongState
from ...model.disk import TAR
from ...model.image import Image, refuse_unfinished
from ...model.image_operations import DIG, GROW, REWRITE, Rewrite
from ...model.object_ids import id_of
from ...model.states import ImageState
from ...storage import disk_creation, disk_formats, final_names, image_files
from ...storage.datastore_layout import MIB
from . import image_files_stored
from .image_item import WRITABLE, Spec, refuse_of_roots
from .image_progress import Settings, Work, current_image, error_of
from .image_view import image_view


@dataclass(frozen=True)
class Rework:
    """Describes what is done to the content of an image.
    do: the way in which it is done
    size: MiB
    key: what opens the new file; it is never noted"""

    do: str
    format: str
    size: int
    compress: bool = False
    sparse: bool = False
    flatten: bool = False
    luks_secret: str = ""
    source_key: str = ""
    key: str = ""

    def encrypts(self, image: Image) -> bool:
        return bool(self.luks_secret) and not image.luks_secret

    def operation(self, image: Image) -> Rewrite:
        """Return the operation that the catalog notes for the image while this is done."""
        return Rewrite(self.do, to=self._outcome(image), was=image.state)

    def _outcome(self, image: Image) -> dict[str, Any]:
        """Return the values that the image has once it is done."""
        # Holes do not change what is read.
        generation = image.generation + (self.do != DIG)
        notes = {key: value for key, value in image.notes.items() if key not in ("compress", "sparse")}
        done: dict[str, Any] = {"size": self.size, "generation": generation}
        if self.do == REWRITE:
            done.update(format=self.format, snapshots="", luks_secret=self.luks_secret)
        if self.do != DIG:
            done["sha256"] = ""
        if self.compress or (self.do == GROW and _is_noted(image, "compress")):
            notes["compress"] = generation
        if self.sparse or self.do == REWRITE or _is_noted(image, "sparse"):
            notes["sparse"] = generation
        return {**done, "notes": notes}


def _is_noted(image: Image, key: str) -> bool:
    """Return whether it was done to the content that the image has now."""
    return image.notes.get(key) == image.generation


def _is_due(image: Image, key: str) -> bool:
    """Return whether it is to be done to the content that the image has now. What is to be done again after each use
    waits for the end of the next use: otherwise no run would succeed as long as a machine has the image."""
    is_used = bool(image.vms) or image.state == ImageState.CLONE
    return not _is_noted(image, key) and not (is_used and key in image.notes)


def rework_wanted(spec: Spec, image: Image) -> Rework | None:
    """Return what has to be done to the content, None if nothing. Raise an error if it can't be done."""
    what = f"image {spec.name} (id {image.id})"
    if image.format == TAR:
        refuse_of_roots(what, spec)
    elif spec.format == TAR:
        raise InvalidValue(
            f"{what}: format {TAR}", f"it is a disk of format {image.format}", "Register the archive under another name"
        )
    format = spec.format or image.format
    encrypt = bool(spec.luks_secret) and not image.luks_secret
    if encrypt:
        format = "qcow2"
    if spec.compress and format == "raw":
        raise InvalidValue(f"{what}: compress", "a raw file can't be compressed", "Give format: qcow2")
    size = max(spec.size or 0, image.size)
    compress = spec.compress and _is_due(image, "compress")
    flatten = spec.flatten and bool(image.snapshots)
    sparse = spec.sparse and _is_due(image, "sparse")
    rewrite = format != image.format or encrypt or compress or flatten or (sparse and image.format != "raw")
    if not rewrite and size == image.size and not sparse:
        return None
    do = REWRITE if rewrite else GROW if size > image.size else DIG
    _refuse(what, spec, image, do, format)
    if do == DIG:
        return Rework(DIG, format, size, sparse=True)
    if image.luks_secret or encrypt:
        _refuse_without_key(what, spec, image, encrypt)
    # A compressed image stays compressed; converting it to raw and back undoes that.
    packed = compress or (rewrite and format == "qcow2" and _is_noted(image, "compress") and not encrypt)
    secret = spec.luks_secret or image.luks_secret
    return Rework(
        do,
        format,
        size,
        compress=packed,
        # Growing a file leaves its zeroes where they are.
        sparse=sparse and do == REWRITE,
        flatten=flatten,
        luks_secret=secret,
        source_key=spec.passphrase if image.luks_secret else "",
        key=spec.passphrase if secret else "",
    )


def _refuse(what: str, spec: Spec, image: Image, do: str, format: str) -> None:
    asked = f"{what}: {_asked_changes(spec, image, format)}"
    if image.type not in WRITABLE:
        raise Conflict(
            asked,
            f"it is of type {image.type.name}, whose file stays as it was stored",
            "Remove it first (state: absent), or register the other under a new name",
        )
    if image.vms:
        raise InUse(
            asked, f"it is used by {image.vms} machine{'' if image.vms == 1 else 's'}", "End these machines first"
        )
    refuse_unfinished(asked, image)
    if image.state not in (ImageState.READY, ImageState.DISABLED):
        raise WrongState(asked, f"it is in state {image.state.name}", "Wait until it is READY")
    if image.snapshots and not spec.flatten:
        raise Conflict(
            asked,
            f"its file holds disk snapshots ({len(json.loads(image.snapshots))}), which would be lost",
            "Give snapshot_flatten: true, which keeps what the disk holds now and removes them",
        )
    if image.luks_secret and format == "raw":
        raise Conflict(
            asked,
            "it is encrypted, and a raw file would not be",
            "Make a new image, and copy what is in it by a machine",
        )
    if image.luks_secret and spec.compress:
        raise Conflict(asked, "it is encrypted, and what is encrypted can't be compressed", "Leave compress out")


def _refuse_without_key(what: str, spec: Spec, image: Image, encrypt: bool) -> None:
    if spec.passphrase:
        return
    asked = f"{what}: {_asked_changes(spec, image, spec.format or image.format)}"
    if encrypt:
        raise InvalidValue(
            asked, "it is not encrypted yet, and no passphrase is given", "Give luks_passphrase: that of the secret"
        )
    raise InvalidValue(
        asked,
        "it is encrypted, and can't be opened without its passphrase, which is kept nowhere here",
        "Give luks_passphrase for this run",
    )


def _asked_changes(spec: Spec, image: Image, format: str) -> str:
    asked = []
    if spec.luks_secret and not image.luks_secret:
        asked.append("luks_secret")
    elif format != image.format:
        asked.append(f"format {format}")
    if spec.size and spec.size > image.size:
        asked.append(f"size {spec.size} MB")
    asked += [key for key in ("compress", "sparse") if getattr(spec, key)]
    return ", ".join(asked) or "snapshot_flatten"


def begin(engine: Engine, image: Image, rework: Rework) -> Image:
    """Hold the image for the rework. To be called within the session."""
    return engine.images.update(id_of(image), state=ImageState.LOCKED, operation=rework.operation(image))


def predicted_image(engine: Engine, image: Image, rework: Rework) -> Image:
    """Return the image as it will be. To be called within the session of a check run."""
    return _write_done(engine, begin(engine, image, rework))


def _held_operation(engine: Engine, image: Image) -> Rewrite:
    """Return the operation by which the image is still LOCKED. To be called within the session. Raise WrongState if it
    is not: an image that is to be removed is never READY again, since a machine could have it before its file goes."""
    now, held = current_image(engine, image), image.operation
    if not isinstance(held, Rewrite) or now is None or now.state != ImageState.LOCKED or now.operation != held:
        raise image_files_stored.error_of_removed(
            f"{image.name} (id {image.id})", held.do if held is not None else REWRITE
        )
    return held


def _write_done(engine: Engine, image: Image) -> Image:
    """Write what was done into the catalog. To be called within the session."""
    operation = _held_operation(engine, image)
    done = engine.images.update(id_of(image), state=ImageState.READY, operation=None, error="", **operation.to)
    return engine.images.update(id_of(done), state=operation.was)


def _write_undone(engine: Engine, image: Image) -> Image:
    """Make the image what it was before. To be called within the session."""
    operation = _held_operation(engine, image)
    engine.images.update(id_of(image), state=ImageState.READY, operation=None)
    return engine.images.update(id_of(image), state=operation.was)


def run(engine: Engine, work: Work, settings: Settings, rework: Rework) -> None:
    """Do the rework, outside of any session. On an error the image is as it was."""
    image, spec = work.image, work.spec
    if image is None or spec is None:
        return
    what = f"image {image.name} (id {image.id})"
    try:
        with final_names.locked_destination(image.source, settings.wait_timeout):
            with engine.session():
                now = current_image(engine, image)
            if now is None or now.operation != image.operation or now.state != ImageState.LOCKED:
                # Another run has recovered it, or has done it.
                work.todo = "again"
                return
            if settings.say is not None:
                settings.say(f"{image.name} {rework.do}: begun")
            try:
                done = _run(engine, image, rework, what)
            except BaseException:
                _give_up(engine, image)
                raise
            work.became(spec.name, image_view(done), changed=True)
            work.todo = "again"
    except (NebulaError, OSError) as caught:
        problem = error_of(caught, spec, image)
        with engine.session():
            left = current_image(engine, image) or replace(image, state=ImageState.DELETE)
        work.became(spec.name, image_view(left), changed=False, error=problem)


def _run(engine: Engine, image: Image, rework: Rework, what: str) -> Image:
    # A guest may have written to it since it was looked at.
    disk_formats.inspect(image.source, image.format, what, deep=False, encrypted=bool(image.luks_secret))
    if rework.do == GROW:
        image_files_stored.require_capacity(engine, image, rework.size - image.size, f"{what}: making it larger")
        image_files.grow(image.source, image.format, rework.size * MIB, rework.source_key)
    elif rework.do == DIG:
        image_files.dig_holes(image.source)
    else:
        image_files.require_room(image.source, image.format, rework.format, rework.source_key, f"{what}: rewriting it")
        image_files.rewrite(
            image.source, image.format, rework.format, rework.size * MIB, rework.compress, rework.source_key, rework.key
        )
        image = _step(engine, image)
        image_files.swap(image.source, writable=image.persistent)
    with engine.session():
        return _write_done(engine, image)


def _step(engine: Engine, image: Image) -> Image:
    """Note that the new file is whole: from now on one rename finishes the rework."""
    with engine.session():
        return engine.images.update(id_of(image), operation=replace(_held_operation(engine, image), whole=True))


def _give_up(engine: Engine, image: Image) -> None:
    """Recover the image as a later run would. If that fails, a later run does it."""
    try:
        with engine.session():
            now = current_image(engine, image)
        if now is not None and now.state == ImageState.LOCKED and isinstance(now.operation, Rewrite):
            recover(engine, now)
        else:
            # It is being removed: its own file is left to that run.
            image_files.undo(image.source)
    except NebulaError:
        pass


def recover(engine: Engine, image: Image) -> Image:
    """Finish or undo what a run that was killed was doing. To be called outside of any session, within reserved()."""
    finished = is_done(image)
    if not finished:
        image_files.undo(image.source)
    with engine.session():
        return finish_or_undo(engine, image, finished)


def finish_or_undo(engine: Engine, image: Image, finished: bool) -> Image:
    """Return the image of an interrupted operation, finished or as it was before. To be called within a session."""
    return _write_done(engine, image) if finished else _write_undone(engine, image)


def is_done(image: Image) -> bool:
    """Return whether the file is already what the operation was to make of it."""
    operation = image.operation
    if not isinstance(operation, Rewrite):
        return False
    if operation.do == REWRITE:
        return operation.whole and not image_files.has_work(image.source) and os.path.exists(image.source)
    if operation.do == GROW:
        return disk_creation.virtual_size(image.source, image.format) >= int(operation.to["size"]) * MIB
    return False


def run_recovery(engine: Engine, work: Work, settings: Settings) -> None:
    """Recover an image that is LOCKED by an operation, outside of any session. Another run may be at it."""
    image, spec = work.image, work.spec
    if image is None or spec is None:
        return
    try:
        with final_names.locked_destination(image.source, settings.wait_timeout):
            with engine.session():
                now = current_image(engine, image)
            if now is not None and now.state == ImageState.LOCKED and isinstance(now.operation, Rewrite):
                recovered = recover(engine, now)
                work.became(spec.name, image_view(recovered), changed=True)
        work.todo = "again"
    except TimedOut as error:
        work.became(spec.name, image_view(image), changed=False, error=error)
    except (NebulaError, OSError) as caught:
        work.became(spec.name, image_view(image), changed=False, error=error_of(caught, spec, image))


def recovered_view(engine: Engine, image: Image) -> Image:
    """Return the image as a real run would have recovered it. To be called within the session of a check run."""
    return finish_or_undo(engine, image, is_done(image))
