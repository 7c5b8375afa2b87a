# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides a list of images as a whole, and does what it wants of the catalog and of the datastore.

The catalog's transaction is never open while a file is copied: what is to be done is decided and noted in one
transaction, done outside of it under a lock, and noted as done in another one. Then the item is looked at again
(image_decision.py), until nothing is left: an image is stored, then made larger, then gets another type. A run that was
killed leaves the image LOCKED, and nobody holds the lock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...engines.base import Engine, named
from ...errors import Fault, NebulaError, WrongState
from ...model.image import Image
from ...model.item_reader import duplicate_error
from ...model.object_ids import id_of
from ...model.states import ImageState
from ...storage import datastore_layout
from ...sync import Item
from . import image_files_stored, rewrite
from .image_decision import decide_item, lacks_content
from .image_item import Spec, spec_of
from .image_progress import Settings, Work, error_of

__all__ = ("Settings", "apply", "missing_content", "spec_of")

# More steps than any item takes: stored, recovered, flattened, larger, without holes, another type.
_STEPS = 12

# What nebula_image takes as given in check mode.
_DECLARED = ("datastores", "paths")


def apply(engine: Engine, items: Sequence[Mapping[str, Any]], settings: Settings) -> tuple[list[Item], list[str]]:
    """Bring catalog and datastore to the items, in sessions of its own. Return an Item for each, and warnings."""
    begun: dict[str, Work] = {}
    works = [_read_item(item) for item in items]
    order = [works[number] for number in _sources_first([work.spec for work in works])]
    with engine.session():
        if settings.check_mode and settings.declared is not None:
            engine.declare({kind: given for kind, given in settings.declared.items() if kind in _DECLARED})
        for work in order:
            _decide_first(engine, work, settings, begun)
    if not settings.check_mode:
        # Storing takes its time, in which this run may be killed.
        for work in order:
            if work.protect is not None:
                _protect(work, work.protect)
        for work in order:
            _finish(engine, work, settings)
    return [work.item for work in works], [text for work in works for text in work.warnings]


def _read_item(item: Mapping[str, Any]) -> Work:
    """Return the item with its specification, or with the error that it has."""
    work = Work(Item(str(item.get("name") or "?"), changed=False))
    try:
        work.spec = spec_of(item)
    except NebulaError as error:
        work.item = Item(work.item.name, error=error, changed=False)
    return work


def _sources_first(specs: Sequence[Spec | None]) -> list[int]:
    """Return the numbers of the items in their order, but with an image after the image that it is made of. None
    stands for an item that is refused. Of two items of one name the second is refused."""
    places: dict[str, int] = {}
    for number, spec in enumerate(specs):
        if spec is not None:
            places.setdefault(spec.name, number)
    sources = [None if spec is None else places.get(spec.clone_of or spec.base) for spec in specs]
    order: dict[int, None] = {}
    for number in range(len(specs)):
        chain: list[int] = []
        before: int | None = number
        # Items that are made of each other are refused when they are decided.
        while before is not None and before not in order and before not in chain:
            chain.append(before)
            before = sources[before]
        order.update(dict.fromkeys(reversed(chain)))
    return list(order)


def _finish(engine: Engine, work: Work, settings: Settings) -> None:
    """Do what is left outside of the transaction, and look at the item again after it."""
    if work.item.error is not None:
        return
    if work.source is not None:
        if work.source.item.error is not None:
            found = "that is in this list too, and something is the matter with it"
            problem = WrongState(
                f"image {work.item.name}: made of {work.source.item.name}", found, "Mend that, then run this again"
            )
            work.became(work.item.name, work.item.after, changed=False, error=problem)
            return
        with engine.session():
            _decide_again(engine, work, settings)
    for _step in range(_STEPS):
        if work.protect is not None:
            _protect(work, work.protect)
            if work.item.error is not None:
                return
        todo, work.todo = work.todo, ""
        if todo == "remove":
            image_files_stored.remove(engine, work, settings)
        elif todo == "store":
            image_files_stored.store(engine, work, settings)
        elif todo == "recover":
            rewrite.run_recovery(engine, work, settings)
        elif todo == "rework" and work.rework is not None:
            rewrite.run(engine, work, settings, work.rework)
        if work.todo != "again" or work.item.error is not None:
            return
        with engine.session():
            _decide_again(engine, work, settings)
    work.item.error = Fault(f"image {work.item.name}", "it does not come to what is asked", "Report this")


def _protect(work: Work, image: Image) -> None:
    """Give the image's file the mode that the catalog wants by now."""
    work.protect = None
    try:
        datastore_layout.protect(image.source, writable=image.persistent)
    except (NebulaError, OSError) as problem:
        work.became(image.name, work.item.after, changed=True, error=error_of(problem, work.spec, image))


def _decide_again(engine: Engine, work: Work, settings: Settings) -> None:
    work.todo = ""
    if work.spec is None:
        return
    try:
        with engine.attempt():
            decide_item(engine, work, work.spec, settings)
    except NebulaError as error:
        work.todo = ""
        work.became(work.spec.name, work.item.after, changed=False, error=error)


def missing_content(engine: Engine, items: Sequence[Mapping[str, Any]]) -> list[Spec]:
    """Return the specifications whose images have to be stored first. Items that are wrong are left to apply()."""
    pool = {image.name: image for image in engine.images.pool()}
    specs = []
    for item in items:
        try:
            spec = spec_of(item)
        except NebulaError:
            continue
        image = pool.get(spec.name) or pool.get(spec.renamed_from)
        if spec.state != "absent" and spec.has_content and (image is None or lacks_content(image)):
            specs.append(spec)
    return specs


def _decide_first(engine: Engine, work: Work, settings: Settings, begun: dict[str, Work]) -> None:
    """Decide the item for the first time, unless it has to wait for its source. begun: the items before it, by name."""
    spec = work.spec
    if spec is None:
        return
    try:
        if spec.name in begun:
            raise duplicate_error(f"image {spec.name}")
        source = begun.get(spec.clone_of or spec.base)
        begun[spec.name] = work
        if source is not None and _is_made_first(engine, spec, source):
            if not settings.check_mode:
                work.source = source
                return
            _note_expected(engine, source)
        with engine.attempt():
            decide_item(engine, work, spec, settings)
    except NebulaError as error:
        work.item = Item(work.item.name, work.item.before, work.item.before, error, changed=False)
        work.todo = ""


def _is_made_first(engine: Engine, spec: Spec, source: Work) -> bool:
    """Return whether the item has to wait for the item that it is made of."""
    if spec.state == "absent" or source.item.error is not None:
        return False
    if source.source is None and source.todo not in ("store", "rework", "recover"):
        return False
    image = named(engine.images.info, spec.name)
    return image is None or lacks_content(image)


def _note_expected(engine: Engine, source: Work) -> None:
    """Have the catalog say what check mode predicts of an image that is to be stored: this session is rolled back."""
    after = source.item.after
    if source.todo == "store" and source.image is not None and after is not None:
        known = {key: after[key] for key in ("size", "format", "sha256", "luks_secret")}
        engine.images.update(id_of(source.image), state=ImageState[after["state"]], operation=None, **known)
