# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides the state and the generation of an image after a machine, a copy or a transfer has ended."""

from __future__ import annotations

import json

from ....model import image_operations
from ....model.image import NOT_FINISHED
from ....model.image_operations import Clone
from ....model.states import ImageState
from ..store import Store


def raise_generation(store: Store, image_id: int | None, steps: int) -> None:
    """Make copies of the file on nodes void, since its content is another one."""
    store.db.execute("UPDATE images SET generation = generation + ? WHERE id = ?", (steps, image_id))


def keep_trust(store: Store, image_id: int) -> None:
    """Have an image that is trusted be so in its next generation too: what has written to it could not write anything
    that its file system would not."""
    row = store.row("SELECT generation, notes FROM images WHERE id = ?", image_id)
    notes = json.loads(row["notes"]) if row is not None else {}
    if row is not None and notes.get("trusted", 0) == row["generation"]:
        notes["trusted"] = row["generation"] + 1
        store.db.execute("UPDATE images SET notes = ? WHERE id = ?", (json.dumps(notes), image_id))


def write_idle_state(store: Store, image_id: int | None) -> None:
    """Write the state of an image whose last use, or whose copying, has ended. Nothing changes before."""
    store.db.execute(
        "UPDATE images SET error = CASE WHEN unfinished != '' THEN ? ELSE error END, "
        "state = CASE WHEN unfinished != '' THEN ? WHEN ? THEN ? ELSE ? END "
        "WHERE id = ? AND NOT EXISTS (SELECT 1 FROM vm_images WHERE image_id = images.id)",
        (
            NOT_FINISHED,
            int(ImageState.ERROR),
            is_being_cloned(store, image_id),
            int(ImageState.CLONE),
            int(ImageState.READY),
            image_id,
        ),
    )


def is_being_cloned(store: Store, image_id: int | None) -> bool:
    """Return whether another image is LOCKED because it is being made from this one."""
    if image_id is None:
        return False
    clone = image_operations.write(Clone(image_id))
    made = "SELECT 1 FROM images WHERE state = ? AND operation = ?"
    return store.row(made, int(ImageState.LOCKED), clone) is not None


def being_cloned(store: Store) -> set[int]:
    """Return the ids of all images from which another one is being made."""
    rows = store.rows("SELECT operation FROM images WHERE state = ? AND operation != ''", int(ImageState.LOCKED))
    under_way = (image_operations.read(row["operation"]) for row in rows)
    return {each.image_id for each in under_way if isinstance(each, Clone)}
