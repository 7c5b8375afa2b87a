# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prepares an image of a list: does steps in it, and puts files into it.

An image that is named by its path is worked on before its import. An image of the catalog is LOCKED meanwhile, with
a note of its state before: a run that was killed leaves it so, never READY with half of its content, and the next
run finishes it."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable, Mapping
from typing import Any

from ...dataclass import dataclass
from ...engines.base import Engine
from ...errors import InUse, InvalidValue, MissingDependency, NebulaError, NotFound, WrongState, harmless
from ...guest_disk import file_injection
from ...guest_disk.file_injection import Entry
from ...guest_disk.open import image_overlay
from ...guest_disk.repair import preparation
from ...guest_disk.repair.preparation import Outcome, Spec
from ...host import files
from ...model.image import Image, refuse_unfinished
from ...model.image_operations import Prepare
from ...model.item_reader import read_item
from ...model.object_ids import id_of
from ...model.object_names import did_you_mean, nearest_word
from ...model.specifications.image_prepare import KEYS
from ...model.states import ImageState
from ...model.whole_numbers import file_mode
from ...printable import LINES
from ...storage import final_names
from ...sync import Item
from .check_image import image_of_catalog

LONGEST_SHOWN = 20_000
LARGEST_FILE = 64 << 20
_STATES = (ImageState.READY, ImageState.DISABLED)


@dataclass(frozen=True)
class Settings:
    """Holds what is the same for all images of a run.
    program: text of the context program
    wait_timeout: seconds that another run may still take for an image"""

    program: str = ""
    wait_timeout: float = 900.0
    check_mode: bool = False


def apply(engine: Engine | None, given: Mapping[str, Any], settings: Settings, warnings: list[str]) -> Item:
    """Carry the item out. Return it with its error, if any. engine: is open, for images by their names."""
    label = str(given.get("name") or given.get("path") or "?")
    try:
        item = read_item(given, KEYS, f"image {label}")
        if bool(item["name"]) == bool(item["path"]):
            raise InvalidValue(
                "an image", "it needs a name or a path, and not both", "Give name for one of the catalog"
            )
        if settings.check_mode:
            # Earlier tasks of the same run may be about to bring it.
            missing = _missing(engine, item)
            if missing is not None:
                return _expected_item(label, missing, warnings)
        spec = _spec(item, settings.program, f"image {label}")
        if item["name"]:
            return _catalogued(engine, item["name"], spec, settings)
        return _by_path(item, spec, settings)
    except NebulaError as error:
        if settings.check_mode and isinstance(error, MissingDependency):
            return _expected_item(label, error, warnings)
        return Item(label, error=error, changed=False)


def _missing(engine: Engine | None, item: Mapping[str, Any]) -> NotFound | None:
    """Return the error if there is no such image, None if there is one."""
    try:
        if item["name"]:
            image_of_catalog(engine, item["name"])
        elif os.path.isabs(item["path"]) and not os.path.exists(item["path"]):
            return NotFound(f"image {item['path']}", "there is no such file on this host", "Check the path")
    except NotFound as error:
        return error
    return None


def _expected_item(label: str, error: NebulaError, warnings: list[str]) -> Item:
    warnings.append(f"In check mode, taken as about to come: {error}")
    return Item(label, None, {"os": None, "steps": []}, changed=True)


def view(item: Item, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item as results show it."""
    after = item.after or {}
    return {
        "name": given.get("name"),
        "path": given.get("path"),
        "changed": item.is_changed,
        "os": after.get("os"),
        "steps": [name for name in preparation.STEPS if name in after],
    }


# --- by its path -----------------------------------------------------------------------------------------------------


def _by_path(item: Mapping[str, Any], spec: Spec, settings: Settings) -> Item:
    image = image_overlay.locate(item["path"], item["format"], item["trusted"])
    outcome, resumed = _prepare(image, spec, settings.check_mode)
    return _item(item["path"], outcome, resumed)


def _prepare(
    image: image_overlay.Image,
    spec: Spec,
    check_mode: bool,
    of_catalog: bool = False,
    announce: Callable[[], None] | None = None,
) -> tuple[Outcome, bool]:
    """Return what was done, and whether an earlier run was interrupted while it did so. announce: is called before
    anything is written into the image."""
    if check_mode:
        if image_overlay.is_interrupted(image) and not of_catalog:
            return Outcome("", ()), True
        with file_injection.scratch() as directory:
            image_overlay.refuse_used(image)
            image_overlay.refuse_strange(image)
            overlay = os.path.join(directory, final_names.OVERLAY)
            image_overlay.make_overlay(image, overlay)
            return preparation.prepare(overlay, "qcow2", directory, spec, image.what), False
    with image_overlay.begin(image) as resumed:
        outcome = preparation.prepare(final_names.OVERLAY, "qcow2", image.directory, spec, image.what)
        if outcome.done:
            image_overlay.commit(image, announce)
    return outcome, resumed


def _item(label: str, outcome: Outcome, resumed: bool) -> Item:
    # It comes from the guest, and goes to a terminal.
    before = {step.name: harmless(step.before, LONGEST_SHOWN, LINES) for step in outcome.done}
    after = {step.name: harmless(step.after, LONGEST_SHOWN, LINES) for step in outcome.done}
    if resumed:
        before["interrupted"], after["interrupted"] = "half written by a run that was killed", "finished"
    return Item(label, {"os": outcome.os, **before}, {"os": outcome.os, **after}, changed=bool(outcome.done) or resumed)


# --- of the catalog --------------------------------------------------------------------------------------------------


def _catalogued(engine: Engine | None, name: str, spec: Spec, settings: Settings) -> Item:
    image = image_of_catalog(engine, name)
    _refuse_unready(image)
    if engine is None:
        raise NotFound(f"image {name}", "there is no catalog", "Give its path")
    place = image_overlay.locate_catalogued(image.source, image.format, f"image {name}")
    image_overlay.refuse_missing(place)
    if settings.check_mode:
        if _is_being_prepared(image) and image_overlay.is_interrupted(place):
            return _item(name, Outcome("", ()), True)
        outcome, _resumed = _prepare(place, spec, True, of_catalog=True)
        return _item(name, outcome, False)
    with final_names.locked_destination(image.source, settings.wait_timeout):
        held, begun = _lock(engine, image)
        if begun:
            # It was stored anew since, perhaps at the same place of the disk.
            image_overlay.discard(place)
        try:
            outcome, resumed = _prepare(place, spec, check_mode=False, announce=lambda: _count_generation(engine, held))
        except BaseException:
            # If half of it may be in the file, the image stays LOCKED for the next run.
            if not image_overlay.is_interrupted(place):
                _unlock(engine, held)
            raise
        _unlock(engine, held)
    return _item(name, outcome, resumed)


def _refuse_unready(image: Image) -> None:
    what = f"image {image.name} (id {image.id}): prepare"
    if image.vms:
        raise InUse(
            what, f"it is used by {image.vms} machine{'' if image.vms == 1 else 's'}", "End these machines first"
        )
    refuse_unfinished(what, image)
    if image.state not in _STATES and not _is_being_prepared(image):
        found = f"it is in state {image.state.name}" + (f" ({image.error})" if image.error else "")
        raise WrongState(what, found, "Wait until it is READY, or run nebula_image for it again")


def _is_being_prepared(image: Image) -> bool:
    return image.state == ImageState.LOCKED and isinstance(image.operation, Prepare)


def _lock(engine: Engine, image: Image) -> tuple[Image, bool]:
    """Make the image LOCKED, with a note of its state before. Return it, and whether that was begun here: a run that
    was killed may have left it LOCKED."""
    with engine.session():
        now = engine.images.info(image.id if image.id is not None else image.name)
        if now.uuid != image.uuid:
            raise NotFound(f"image {image.name}", "another run removed it meanwhile", "Run again if it is wanted")
        _refuse_unready(now)
        if _is_being_prepared(now):
            return now, False
        return engine.images.update(id_of(now), state=ImageState.LOCKED, operation=Prepare(now.state)), True


def _count_generation(engine: Engine, held: Image) -> None:
    """Give the image a new generation before its file changes: a run that is killed between file and catalog must not
    leave other content under the old number."""
    with engine.session():
        now = engine.images.info(held.id if held.id is not None else held.name)
        if now.uuid != held.uuid or not _is_being_prepared(now):
            raise NotFound(f"image {held.name}", "another run removed it meanwhile", "Run again if it is wanted")
        engine.images.update(id_of(now), generation=now.generation + 1, sha256="")


def _unlock(engine: Engine, held: Image) -> None:
    with engine.session():
        now = engine.images.info(held.id if held.id is not None else held.name)
        if now.uuid != held.uuid or now.state != ImageState.LOCKED or not isinstance(now.operation, Prepare):
            # Somebody has begun to remove it.
            return
        number = id_of(now)
        engine.images.update(number, state=ImageState.READY, operation=None, error="")
        if now.operation.was == ImageState.DISABLED:
            engine.images.update(number, state=ImageState.DISABLED)


# --- an item's values ------------------------------------------------------------------------------------------------


def _spec(item: Mapping[str, Any], program: str, what: str) -> Spec:
    for step in item["steps"]:
        if step not in preparation.STEPS:
            near = nearest_word(step, preparation.STEPS)
            raise InvalidValue(
                f"{what}: step {step!r}",
                "there is no such step",
                did_you_mean(near) + f"Known are {', '.join(preparation.STEPS)}",
            )
    zone = item["timezone"]
    if zone and (zone.startswith("/") or ".." in zone.split("/") or not zone.replace("/", "a").isprintable()):
        raise InvalidValue(f"{what}: timezone {zone!r}", "it is not the name of a zone", "Write it as Europe/Berlin")
    entries = tuple(_entry(each, what) for each in item["files"] or ())
    file_injection.check(entries, what)
    return Spec(tuple(item["steps"]), program, zone, entries, item["via"], item["trusted"])


def _entry(given: Mapping[str, Any], what: str) -> Entry:
    asked = f"{what}: file {given['path'] or '?'}"
    sources = [key for key in ("content", "content_base64", "src") if given[key] is not None]
    if not given["path"] or len(sources) != 1:
        raise InvalidValue(asked, "it needs a path, and one of content, content_base64 and src", "Give these two")
    mode = file_mode(given["mode"])
    if mode is None:
        raise InvalidValue(f"{asked}: mode {given['mode']!r}", "it is no octal number up to 7777", "Write it as '0644'")
    return Entry(given["path"], _content(given, sources[0], asked), mode, given["uid"], given["gid"])


def _content(given: Mapping[str, Any], key: str, asked: str) -> bytes:
    if key == "src":
        return files.read_limited(given["src"], LARGEST_FILE)
    if key == "content":
        return str(given["content"]).encode("utf-8", "surrogateescape")
    try:
        return base64.b64decode(given["content_base64"], validate=True)
    except (binascii.Error, ValueError):
        raise InvalidValue(f"{asked}: content_base64", "it is not base64", "Encode it with base64 -w0") from None
