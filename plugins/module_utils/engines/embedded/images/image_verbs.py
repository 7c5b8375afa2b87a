# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries out the verbs about images. How their files come into a datastore is in reconcile/images/."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import time
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from ....errors import InvalidValue, WrongState
from ....model import image_operations
from ....model.image import NOT_FINISHED, TRUSTED, Image, checksums_of, refuse_unfinished
from ....model.image_operations import Clone, Return
from ....model.object_ids import id_of
from ....model.object_names import check_name
from ....model.states import ImageState, ImageType
from ....storage.datastore_layout import image_path
from ...ports import ImagesPort, Ref
from ..references import resolve
from ..store import Store
from . import returns
from .image_rows import COLUMNS, SELECT, get, image_of, stored
from .refusals import (
    BEING_CLONED,
    CLONE_REMEDY,
    REMEDIES,
    check_change,
    refuse_away,
    refuse_operation,
    refuse_persistent,
    refuse_snapshots,
    refuse_taken,
    refuse_used,
)
from .states_after_use import write_idle_state
from .uses import Uses

# What a session keeps of images (Store.once): them by their rows, so that nothing need drop any.
DECODED = "images"


class Images(ImagesPort):
    def __init__(self, store: Store) -> None:
        self.store = store
        self.uses = Uses(store)

    def pool(self) -> list[Image]:
        return [image_of(row) for row in self.store.rows(f"{SELECT} ORDER BY images.id")]

    def info(self, ref: Ref) -> Image:
        return get(self.store, resolve(self.store, "images", ref)["id"])

    def uncounted(self, ref: Ref) -> Image:
        """Return what info() does, with 0 as the count of its machines: counting takes longer the more there are."""
        row = resolve(self.store, "images", ref)
        known = self.store.once(DECODED, dict[tuple[Any, ...], Image])
        if tuple(row) not in known:
            known[tuple(row)] = image_of({**dict(row), "vms": 0})
        return known[tuple(row)]

    def allocate(self, image: Image) -> Image:
        check_name("image", image.name)
        refuse_taken(self.store, image.name)
        refuse_persistent(image.name, image.type, image.persistent)
        refuse_operation(
            f"image {image.name}: register",
            image_operations.why_refused(image.state, None, image.state, image.operation),
        )
        image_id = self.store.take_ids("images")
        values = {column: getattr(image, column) for column in COLUMNS}
        values["source"] = image.source or image_path(self.store.root, image_id, int(time.time()), image.datastore_id)
        self.store.db.execute(
            f"INSERT INTO images (id, name, uuid, attributes, {', '.join(COLUMNS)}) "
            f"VALUES (?, ?, ?, ?{', ?' * len(COLUMNS)})",
            (
                image_id,
                image.name,
                image.uuid or str(uuid.uuid4()),
                json.dumps(dict(image.attributes)),
                *(stored(column, value) for column, value in values.items()),
            ),
        )
        return get(self.store, image_id)

    def update(self, ref: Ref, **changes: Any) -> Image:
        image = self.info(ref)
        if changes.get("unfinished") == "" and image.unfinished and image.error == NOT_FINISHED:
            # The image had no other error.
            changes = {"state": ImageState.READY, "error": "", **changes}
        wanted = {name: value for name, value in changes.items() if getattr(image, name) != value}
        wanted.update(_trust(image, wanted))
        check_change(self.store, image, wanted)
        if "state" in wanted or "operation" in wanted:
            after, to = wanted.get("state", image.state), wanted.get("operation", image.operation)
            refuse_operation(
                f"image {image.name}", image_operations.why_refused(image.state, image.operation, after, to)
            )
        for name, value in wanted.items():
            if name not in COLUMNS and name not in ("name", "attributes"):
                raise InvalidValue(f"image {image.name}: {name}", "it is not changed by request")
            self.store.db.execute(f"UPDATE images SET {name} = ? WHERE id = ?", (stored(name, value), image.id))
        self._cloned(image)
        return get(self.store, image.id) if wanted else image

    def clone(self, ref: Ref, image: Image) -> Image:
        source = self.info(ref)
        what = f"image {image.name}: clone_of {source.name} (id {source.id})"
        if source.persistent:
            refuse_used(
                self.store, source, f"clone it as {image.name}", "It is being written to: end that machine first"
            )
        if source.state not in (ImageState.READY, ImageState.USED, ImageState.CLONE):
            found = f"that is in state {source.state.name}" + (f" ({source.error})" if source.error else "")
            raise WrongState(what, found, REMEDIES.get(source.state, ""))
        refuse_unfinished(what, source)
        refuse_snapshots(what, source)
        if not source.is_trusted:
            # Its copy is not trusted either, whatever attributes it takes over.
            image = dataclasses.replace(image, notes={**image.notes, "trusted": -1})
        clone = self.allocate(dataclasses.replace(image, operation=Clone(id_of(source))))
        if source.state == ImageState.READY:
            self.store.db.execute("UPDATE images SET state = ? WHERE id = ?", (int(ImageState.CLONE), source.id))
        return clone

    def delete(self, ref: Ref) -> Image:
        image = self.info(ref)
        refuse_used(self.store, image, "delete", "End these machines first")
        if image.state == ImageState.CLONE:
            raise WrongState(f"image {image.name}: delete", BEING_CLONED, CLONE_REMEDY)
        refuse_away(f"image {image.name}: delete", image.state, image.operation)
        self.store.db.execute("DELETE FROM images WHERE id = ?", (image.id,))
        self._cloned(image)
        return image

    def _cloned(self, clone: Image) -> None:
        """Write the state of the image that this one was made from, if the copying is over."""
        if not isinstance(clone.operation, Clone):
            return
        source_id = clone.operation.image_id
        row = self.store.row("SELECT state FROM images WHERE id = ?", source_id)
        if row is not None and row["state"] == ImageState.CLONE:
            write_idle_state(self.store, source_id)

    def disable(self, image_ids: Iterable[int]) -> None:
        """Make these DISABLED if they are READY: no machine gets them before a user enables them."""
        self.store.db.executemany(
            "UPDATE images SET state = ? WHERE id = ? AND state = ?",
            [(int(ImageState.DISABLED), image_id, int(ImageState.READY)) for image_id in image_ids],
        )

    def returned(self, ref: Ref, error: str = "", size: int = 0) -> Image:
        image = self.uncounted(ref)
        if isinstance(image.operation, Return):
            # Of a machine that is not known to have run nothing need come back.
            returns.came(self.store, image, error if image.operation.ran else "", size)
        return get(self.store, image.id)

    def declare(self, item: Mapping[str, Any]) -> None:
        """Make of an image, in check mode, what an earlier task of this run would have made of it."""
        if item.get("state") == "absent":
            self.store.db.execute("DELETE FROM images WHERE name = ?", (item["name"],))
            return
        values = {column: item[column] for column in COLUMNS if item.get(column) is not None}
        # Results show these in another form.
        for column in ("snapshots", "operation"):
            values.pop(column, None)
        values["checksums"] = checksums_of(item.get("checksum") or "")
        values["type"] = ImageType[item.get("type") or "OS"]
        values["state"] = ImageState[item.get("state") or "READY"]
        row = self._declared(item)
        if row is None:
            self.allocate(Image(id=None, name=item["name"], attributes=item.get("attributes") or {}, **values))
            return
        changes = {**values, "name": item["name"]}
        if item.get("attributes") is not None:
            changes["attributes"] = item["attributes"]
        if values["state"] == ImageState.READY:
            changes["operation"] = None
        for name, value in changes.items():
            # Whether it may change was answered by that task.
            self.store.db.execute(f"UPDATE images SET {name} = ? WHERE id = ?", (stored(name, value), row["id"]))

    def _declared(self, item: Mapping[str, Any]) -> sqlite3.Row | None:
        """Return the row of the image that the item is about; None if there is none."""
        for name in (item.get("renamed_from"), item["name"]):
            row = self.store.row("SELECT id FROM images WHERE name = ?", name) if name else None
            if row is not None:
                return row
        return None


def _trust(image: Image, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the notes with the generation for which the image is called trusted, if these changes alter it.

    A new generation by one of these changes is trusted as the old one was. One by a machine that wrote to the image is
    not: it comes by Uses.release()."""
    notes, generation = changes.get("notes", image.notes), changes.get("generation", image.generation)
    trusted = image.notes.get("trusted", 0)
    attribute = changes.get("attributes", image.attributes).get(TRUSTED, "")
    if attribute != image.attributes.get(TRUSTED, "") or image.is_trusted:
        trusted = generation
    return {"notes": {**notes, "trusted": trusted}} if trusted != notes.get("trusted", 0) else {}
