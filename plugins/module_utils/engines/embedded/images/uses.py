# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records which disks of machines use an image, and what follows when a use begins and ends."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence

from ....errors import BeingEnded, InUse, NebulaError, WrongState
from ....model import image_operations, machine_orders
from ....model.image import NOT_FINISHED, Image
from ....model.image_operations import Return
from ....model.object_ids import id_of
from ....model.states import ImageState
from ..store import Store
from .refusals import BEING_CLONED, CLONE_REMEDY, REMEDIES, refuse_away, users
from .states_after_use import keep_trust, raise_generation, write_idle_state


class Uses:
    """Reads and writes the uses of images by disks of machines, within a transaction of the store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def acquire(self, vm_id: int, disk_id: int, image_id: int, writable: bool, adopted: bool = False) -> None:
        """Write that a disk of a machine uses the image, exclusively if it is persistent.
        writable: the machine writes into the image's own file, whose hash is void from now on. adopted: the machine has
        the file open already. Then a persistent image may be DISABLED: enabled before, it could go to another machine.
        """
        # The users are not counted here: thousands of machines may share an image, and each would count them all.
        row = self.store.rows(
            "SELECT name, state, error, persistent, sha256, unfinished, operation FROM images WHERE id = ?", image_id
        )[0]
        state = ImageState(row["state"])
        try:
            self._check_use(row, image_id, state, writable, adopted)
        except NebulaError as error:
            error.asked = self._spec(row["name"], image_id, vm_id, disk_id)
            raise
        self.store.db.execute("INSERT INTO vm_images VALUES (?, ?, ?, ?)", (vm_id, disk_id, image_id, int(writable)))
        new = ImageState.USED_PERS if row["persistent"] else ImageState.USED
        if state != new or (writable and row["sha256"]):
            self.store.db.execute(
                "UPDATE images SET state = ?, sha256 = CASE WHEN ? THEN '' ELSE sha256 END WHERE id = ?",
                (int(new), int(writable), image_id),
            )

    def acquire_all(self, vm_id: int, name: str, images: Mapping[int, Image], adopted: bool = False) -> None:
        """Write which images the disks of a machine use. images: by disk id. name: the machine's, for the errors."""
        for disk_id, image in images.items():
            try:
                self.acquire(vm_id, disk_id, id_of(image), image.persistent, adopted)
            except NebulaError as error:
                error.asked = f"VM {name}, disk {disk_id}: {error.asked}"
                raise

    def _check_use(self, row: sqlite3.Row, image_id: int, state: ImageState, writable: bool, adopted: bool) -> None:
        """Raise for an image that a machine can't use in its state, or that serves another machine alone."""
        what = f"image {row['name']}"
        refuse_away(what, state, image_operations.read(row["operation"]))
        if state in REMEDIES and not (adopted and writable and state == ImageState.DISABLED):
            found = f"it is in state {state.name}" + (f" ({row['error']})" if row["error"] else "")
            raise WrongState(what, found, REMEDIES[state])
        if writable and not row["persistent"]:
            raise WrongState(what, "it is not persistent, so no machine writes into it", "Make it persistent: true")
        if state == ImageState.CLONE and row["persistent"]:
            raise WrongState(what, BEING_CLONED, CLONE_REMEDY)
        # The first machine of an unfinished image is the one that finishes it.
        by = users(self.store, image_id) if row["persistent"] or row["unfinished"] else ""
        if by and row["unfinished"]:
            found = f"{NOT_FINISHED} ({row['unfinished']}), and it is used by {by}"
            raise InUse(what, found, "Wait until that is done")
        if by and self._users_end(image_id):
            remedy = "It is being ended, or loses it: run again when that is done"
            raise BeingEnded(what, f"it is persistent and used by {by}", remedy)
        if by:
            remedy = "A persistent image serves one machine at a time: end that one, or use another image"
            raise InUse(what, f"it is persistent and used by {by}", remedy)

    def grow(self, vm_id: int, sizes: Callable[[], Mapping[int, int]]) -> None:
        """Write that the images that a machine writes to are as large as its disks. sizes: MiB by disk id."""
        for disk_id, image_id in self.store.rows(
            "SELECT disk_id, image_id FROM vm_images WHERE vm_id = ? AND writable", vm_id
        ):
            size = sizes().get(disk_id, 0)
            self.store.db.execute("UPDATE images SET size = ? WHERE id = ? AND size < ?", (size, image_id, size))

    def release(
        self,
        vm_id: int,
        written: bool,
        back: Return | None = None,
        stay: Collection[int] = (),
        disks: Sequence[int] | None = None,
        files_only: bool = False,
    ) -> None:
        """End the uses of images by a machine.
        written: it may have written to its writable disks. back: the operation by which their files come back; None if
        they lie in the front-end's datastore. stay: the ids of images that the machine continues to use. disks: the ids
        of the disks whose uses end; None for all. files_only: the disks are file systems that the machine's host has
        mounted for it."""
        which: str = "vm_id = ?"
        values: tuple[int, ...] = (vm_id,)
        if disks is not None:
            which, values = f"vm_id = ? AND disk_id IN ({', '.join('?' * len(disks))})", (vm_id, *disks)
        rows = self.store.rows(
            f"SELECT image_id, max(writable) FROM vm_images WHERE {which} GROUP BY image_id", *values
        )
        self.store.db.execute(f"DELETE FROM vm_images WHERE {which}", values)
        for image_id, writable in rows:
            if image_id in stay:
                continue
            if writable and written and files_only:
                keep_trust(self.store, image_id)
            if writable and written and back:
                self.store.db.execute(
                    "UPDATE images SET state = ?, operation = ? WHERE id = ?",
                    (int(ImageState.LOCKED_USED_PERS), image_operations.write(back), image_id),
                )
                continue
            raise_generation(self.store, image_id, int(bool(writable) and written))
            write_idle_state(self.store, image_id)

    def keep(self, vm_id: int, wanted: Collection[int]) -> list[int]:
        """Let a machine go on using images that it is to have no more, until its node has made it anew.

        Until then its domain has the files open, and another host may carry out its plan before. Such a use has a
        number below 0 as the id of its disk. wanted: the ids of images that the machine is to have. The ids of their
        disks are returned."""
        rows = self.store.rows("SELECT disk_id, image_id FROM vm_images WHERE vm_id = ? ORDER BY disk_id", vm_id)
        lowest = min((row["disk_id"] for row in rows), default=0)
        for row in rows:
            if row["disk_id"] >= 0 and row["image_id"] not in wanted:
                lowest = min(lowest, 0) - 1
                self.store.db.execute(
                    "UPDATE vm_images SET disk_id = ? WHERE vm_id = ? AND disk_id = ?", (lowest, vm_id, row["disk_id"])
                )
        return [row["disk_id"] for row in rows if row["image_id"] in wanted]

    def release_kept(self, vm_id: int) -> None:
        """End the uses that keep() has left."""
        rows = self.store.rows("SELECT disk_id FROM vm_images WHERE vm_id = ? AND disk_id < 0", vm_id)
        if rows:
            self.release(vm_id, written=True, disks=[row["disk_id"] for row in rows])

    def written_by(self, vm_id: int) -> list[int]:
        """Return the ids of the images whose own files that machine writes to."""
        return [
            row[0]
            for row in self.store.rows("SELECT DISTINCT image_id FROM vm_images WHERE vm_id = ? AND writable", vm_id)
        ]

    def _users_end(self, image_id: int) -> bool:
        """Return whether none of its machines will use the image once their hosts have done what is decided."""
        rows = self.store.rows(
            "SELECT disk_id, settled, orders FROM vm_images JOIN vms ON vms.id = vm_images.vm_id"
            " WHERE image_id = ? AND disk_id >= 0 AND wanted != 'DONE'",
            image_id,
        )
        return all(
            row["disk_id"] in machine_orders.orders_in_force(row["orders"], bool(row["settled"])).detached
            for row in rows
        )

    def _spec(self, name: str, image_id: int, vm_id: int, disk_id: int) -> str:
        row = self.store.row("SELECT name FROM vms WHERE id = ?", vm_id)
        machine = f"machine {row['name']} (id {vm_id})" if row else f"machine {vm_id}"
        return f"image {name} (id {image_id}) for {machine}, disk {disk_id}"
