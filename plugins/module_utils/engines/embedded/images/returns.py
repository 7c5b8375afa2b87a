# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records images whose newest content is on a host, and comes back to the front-end."""

from __future__ import annotations

from ....model import image_operations
from ....model.image import Image
from ....model.states import ImageState
from ..store import Store
from .image_rows import image_of
from .states_after_use import raise_generation, write_idle_state


def coming_from(store: Store, host: str) -> list[str]:
    """Return the names of the images whose files are on their way from that host."""
    rows = store.rows(
        "SELECT name FROM images WHERE operation IN (?, ?) ORDER BY name", *image_operations.returns_from(host)
    )
    return [row["name"] for row in rows]


def come_from_renamed(store: Store, old: str, new: str) -> None:
    """Write that what is on its way from a host is on its way from the same host under another name."""
    for before, after in zip(image_operations.returns_from(old), image_operations.returns_from(new)):
        store.db.execute("UPDATE images SET operation = ? WHERE operation = ?", (after, before))


def forget_host(store: Store, host: str) -> None:
    """Make the images ERROR whose files were to come from that host, and never will."""
    error = f"what its last machine wrote was on host {host}, which was forgotten: the file is as it was before"
    returns = image_operations.returns_from(host)
    for row in store.rows("SELECT images.*, 0 AS vms FROM images WHERE operation IN (?, ?)", *returns):
        came(store, image_of(row), error)


def came(store: Store, image: Image, error: str, size: int = 0) -> None:
    """Write that the file of the image has come back, or with an error that it never will. size: MiB of the disk that
    it is by now, 0 for what it was."""
    store.db.execute("UPDATE images SET operation = '', size = ? WHERE id = ?", (size or image.size, image.id))
    # Copies of it on nodes have older content.
    raise_generation(store, image.id, 1)
    if error:
        store.db.execute(
            "UPDATE images SET state = ?, error = ? WHERE id = ?", (int(ImageState.ERROR), error, image.id)
        )
    else:
        write_idle_state(store, image.id)
