# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of the catalog, and which machines use them. How their files come there: reconcile/images/decide.py."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from ...errors import BeingEnded, Conflict, InUse, InvalidValue, NotFound, WrongState
from ...model import operations
from ...model.image import NOT_FINISHED, TRUSTED, Image, refuse_unfinished
from ...model.names import check_name
from ...model.operations import Clone, Operation, Return, comes_from
from ...model.states import ImageState, ImageType
from ...storage.datastore import image_path
from ..ports import ImagesPort, Ref
from .device_orders import lasting
from .references import resolve
from .store import Store

DISK_TYPES = frozenset((ImageType.OS, ImageType.CDROM, ImageType.DATABLOCK))
FILE_TYPES = frozenset((ImageType.KERNEL, ImageType.RAMDISK, ImageType.CONTEXT))
# Why an image is ERROR after the last machine that used it went away, while what should write into it is not done.
_BEING_CLONED = "it is being cloned, or that was interrupted"
_CLONE_REMEDY = "Wait for that run; if there is none, run nebula_image for the clone again, or remove the clone"
IN_USE = frozenset((ImageState.USED, ImageState.USED_PERS, ImageState.CLONE))
# The table has a column for each field of an image; how many machines use it follows from others, and these are written
# apart.
COLUMNS = tuple(
    field.name for field in dataclasses.fields(Image) if field.name not in ("id", "name", "uuid", "vms", "attributes")
)
_NUMBERS = frozenset(("type", "state", "persistent"))
_JSON = frozenset(("attributes", "notes"))
_SELECT = "SELECT images.*, (SELECT count(DISTINCT vm_id) FROM vm_images WHERE image_id = images.id) AS vms FROM images"
# Why a machine can't have an image in this state, and what to do.
# What users write to bring an image into a state.
_WORDS = {ImageState.DELETE: "absent", ImageState.DISABLED: "disabled"}
_REMEDIES = {
    ImageState.INIT: "Run nebula_image for it again",
    ImageState.DISABLED: "Enable it: nebula_image with state: enabled",
    ImageState.LOCKED: "It is still being stored: wait for that, or run nebula_image for it again",
    ImageState.ERROR: "Remove its cause, then run nebula_image for it again with its path",
    ImageState.DELETE: "It is being removed, or its removal was interrupted: run nebula_image for it again",
    ImageState.LOCKED_USED_PERS: "Run playbook nebula.provision.site once that host answers: it fetches that. If the "
    "host is gone for good: nebula.provision.forget_host",
}


class Images(ImagesPort):
    def __init__(self, store: Store) -> None:
        self.store = store

    def pool(self) -> list[Image]:
        return [image_of(row) for row in self.store.rows(f"{_SELECT} ORDER BY images.id")]

    def info(self, ref: Ref) -> Image:
        return self._get(resolve(self.store, "images", ref)["id"])

    def uncounted(self, ref: Ref) -> Image:
        """As info(), without the count of its machines: that costs what there are of them."""
        image_id = resolve(self.store, "images", ref)["id"]
        return image_of(self.store.rows("SELECT images.*, 0 AS vms FROM images WHERE id = ?", image_id)[0])

    def allocate(self, image: Image) -> Image:
        check_name("image", image.name)
        self._refuse_taken(image.name)
        _refuse_persistent(image.name, image.type, image.persistent)
        _refuse_operation(
            f"image {image.name}: register", operations.refusal(image.state, None, image.state, image.operation)
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
                *(_stored(column, value) for column, value in values.items()),
            ),
        )
        return self._get(image_id)

    def update(self, ref: Ref, **changes: Any) -> Image:
        image = self.info(ref)
        if changes.get("unfinished") == "" and image.unfinished and image.error == NOT_FINISHED:
            # That was all that was the matter with it.
            changes = {"state": ImageState.READY, "error": "", **changes}
        wanted = {name: value for name, value in changes.items() if getattr(image, name) != value}
        wanted.update(_trust(image, wanted))
        self._check(image, wanted)
        if "state" in wanted or "operation" in wanted:
            after, to = wanted.get("state", image.state), wanted.get("operation", image.operation)
            _refuse_operation(f"image {image.name}", operations.refusal(image.state, image.operation, after, to))
        for name, value in wanted.items():
            if name not in COLUMNS and name not in ("name", "attributes"):
                raise InvalidValue(f"image {image.name}: {name}", "it is not changed by request")
            self.store.db.execute(f"UPDATE images SET {name} = ? WHERE id = ?", (_stored(name, value), image.id))
        self._cloned(image)
        return self._get(image.id) if wanted else image

    def clone(self, ref: Ref, image: Image) -> Image:
        """Register `image` as LOCKED, to be made from the file of another, which is in state CLONE as long as that."""
        source = self.info(ref)
        what = f"image {image.name}: clone_of {source.name} (id {source.id})"
        if source.persistent:
            self._refuse_used(source, f"clone it as {image.name}", "It is being written to: end that machine first")
        if source.state not in (ImageState.READY, ImageState.USED, ImageState.CLONE):
            found = f"that is in state {source.state.name}" + (f" ({source.error})" if source.error else "")
            raise WrongState(what, found, _REMEDIES.get(source.state, ""))
        refuse_unfinished(what, source)
        _refuse_snapshots(what, source)
        if not source.is_trusted:
            # Nor is what is made of it, whatever attributes it takes over.
            image = dataclasses.replace(image, notes={**image.notes, "trusted": -1})
        clone = self.allocate(dataclasses.replace(image, operation=Clone(_id(source))))
        if source.state == ImageState.READY:
            self.store.db.execute("UPDATE images SET state = ? WHERE id = ?", (int(ImageState.CLONE), source.id))
        return clone

    def delete(self, ref: Ref) -> Image:
        image = self.info(ref)
        self._refuse_used(image, "delete", "End these machines first")
        if image.state == ImageState.CLONE:
            raise WrongState(f"image {image.name}: delete", _BEING_CLONED, _CLONE_REMEDY)
        _refuse_away(f"image {image.name}: delete", image.state, image.operation)
        self.store.db.execute("DELETE FROM images WHERE id = ?", (image.id,))
        self._cloned(image)
        return image

    def _cloned(self, clone: Image) -> None:
        """See to the state of the image that another was made from, if that is over."""
        if not isinstance(clone.operation, Clone):
            return
        source_id = clone.operation.image_id
        row = self.store.row("SELECT state FROM images WHERE id = ?", source_id)
        if row is not None and row["state"] == ImageState.CLONE:
            self._rest(source_id)

    def acquire(self, vm_id: int, disk_id: int, image_id: int, writable: bool, adopted: bool = False) -> None:
        """Note that a disk of a machine uses the image, exclusively if it is persistent.

        writable: the machine writes into the image's own file, whose hash is void from now on. adopted: it has that
        open already. A persistent image may be DISABLED for just that reason; enabled before, anybody could have it.
        """
        # No count of users here: thousands of machines may share an image, and each of a batch comes by.
        row = self.store.rows(
            "SELECT name, state, error, persistent, sha256, unfinished, operation FROM images WHERE id = ?", image_id
        )[0]
        state = ImageState(row["state"])
        operation = operations.read(row["operation"])
        if comes_from(operation):
            _refuse_away(self._spec(row["name"], image_id, vm_id, disk_id), state, operation)
        if state in _REMEDIES and not (adopted and writable and state == ImageState.DISABLED):
            found = f"it is in state {state.name}" + (f" ({row['error']})" if row["error"] else "")
            raise WrongState(self._spec(row["name"], image_id, vm_id, disk_id), found, _REMEDIES[state])
        if writable and not row["persistent"]:
            raise WrongState(
                self._spec(row["name"], image_id, vm_id, disk_id),
                "it is not persistent, so no machine writes into it",
                "Make it persistent: true",
            )
        if state == ImageState.CLONE and row["persistent"]:
            raise WrongState(
                self._spec(row["name"], image_id, vm_id, disk_id),
                _BEING_CLONED,
                _CLONE_REMEDY,
            )
        # Of what is not finished, the first machine is the one that finishes it.
        users = self._users(image_id) if row["persistent"] or row["unfinished"] else ""
        if users and row["unfinished"]:
            raise InUse(
                self._spec(row["name"], image_id, vm_id, disk_id),
                f"{NOT_FINISHED} ({row['unfinished']}), and it is used by {users}",
                "Wait until that is done",
            )
        if users and self._users_end(image_id):
            raise BeingEnded(
                self._spec(row["name"], image_id, vm_id, disk_id),
                f"it is persistent and used by {users}",
                "It is being ended, or loses it: run again when that is done",
            )
        if users:
            raise InUse(
                self._spec(row["name"], image_id, vm_id, disk_id),
                f"it is persistent and used by {users}",
                "A persistent image serves one machine at a time: end that one, or use another image",
            )
        self.store.db.execute("INSERT INTO vm_images VALUES (?, ?, ?, ?)", (vm_id, disk_id, image_id, int(writable)))
        new = ImageState.USED_PERS if row["persistent"] else ImageState.USED
        if state != new or (writable and row["sha256"]):
            self.store.db.execute(
                "UPDATE images SET state = ?, sha256 = CASE WHEN ? THEN '' ELSE sha256 END WHERE id = ?",
                (int(new), int(writable), image_id),
            )

    def grow(self, vm_id: int, sizes: Callable[[], Mapping[int, int]]) -> None:
        """Note that the images that a machine writes to are as large as its disks. sizes: MB by disk id."""
        for disk_id, image_id in self.store.rows(
            "SELECT disk_id, image_id FROM vm_images WHERE vm_id = ? AND writable", vm_id
        ):
            self.store.db.execute(
                "UPDATE images SET size = ?1 WHERE id = ?2 AND size < ?1", (sizes().get(disk_id, 0), image_id)
            )

    def release(
        self,
        vm_id: int,
        written: bool,
        back: Return | None = None,
        stay: Collection[int] = (),
        disks: Sequence[int] | None = None,
    ) -> None:
        """Forget all that a machine uses. written: it may have written to its writable disks. back: the operation by
        which their files come back, None if they are the front-end's own. stay: images whose files it goes on with at
        once. disks: ids of those that it is about; None: of all."""
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
            if writable and written and back:
                self.store.db.execute(
                    "UPDATE images SET state = ?, operation = ? WHERE id = ?",
                    (int(ImageState.LOCKED_USED_PERS), operations.write(back), image_id),
                )
                continue
            self._raise_generation(image_id, int(bool(writable) and written))
            self._rest(image_id)

    def keep(self, vm_id: int, wanted: Collection[int]) -> list[int]:
        """Leave in a machine's use what it is to use no more, until its node has made it anew: its domain has that
        open, and another host may be at the list before. Such a use has a number below 0 in the place of its disk's.
        wanted: images that it is to have. The ids of the disks that are none of these uses."""
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
        """Forget what keep() has left."""
        rows = self.store.rows("SELECT disk_id FROM vm_images WHERE vm_id = ? AND disk_id < 0", vm_id)
        if rows:
            self.release(vm_id, written=True, disks=[row["disk_id"] for row in rows])

    def returned(self, ref: Ref, error: str = "") -> Image:
        """Note that the file of an image is back on the front-end. error: why it is not, and never will be; of a
        machine that is not known to have run that is all right."""
        image = self.uncounted(ref)
        if isinstance(image.operation, Return):
            self._came(image, error if image.operation.ran else "")
        return self._get(image.id)

    def forget_host(self, host: str) -> None:
        """What was to come from there never will."""
        error = f"what its last machine wrote was on host {host}, which was forgotten: the file is as it was before"
        returns = operations.returns_from(host)
        for row in self.store.rows("SELECT images.*, 0 AS vms FROM images WHERE operation IN (?, ?)", *returns):
            self._came(image_of(row), error)

    def written_by(self, vm_id: int) -> list[int]:
        """Ids of the images whose own files that machine writes to."""
        return [
            row[0]
            for row in self.store.rows("SELECT DISTINCT image_id FROM vm_images WHERE vm_id = ? AND writable", vm_id)
        ]

    def disable(self, image_ids: Iterable[int]) -> None:
        """Give these to no machine before somebody says that all is well with them."""
        self.store.db.executemany(
            "UPDATE images SET state = ? WHERE id = ? AND state = ?",
            [(int(ImageState.DISABLED), image_id, int(ImageState.READY)) for image_id in image_ids],
        )

    def coming_from(self, host: str) -> list[str]:
        """Names of images whose files are on their way from there."""
        rows = self.store.rows(
            "SELECT name FROM images WHERE operation IN (?, ?) ORDER BY name", *operations.returns_from(host)
        )
        return [row["name"] for row in rows]

    def _came(self, image: Image, error: str) -> None:
        self.store.db.execute("UPDATE images SET operation = '' WHERE id = ?", (image.id,))
        # All that is of it on nodes is of no use any more.
        self._raise_generation(image.id, 1)
        if error:
            self.store.db.execute(
                "UPDATE images SET state = ?, error = ? WHERE id = ?", (int(ImageState.ERROR), error, image.id)
            )
        else:
            self._rest(image.id)

    def _raise_generation(self, image_id: int | None, steps: int) -> None:
        self.store.db.execute("UPDATE images SET generation = generation + ? WHERE id = ?", (steps, image_id))

    def _rest(self, image_id: int | None) -> None:
        """Note the state of an image that is not used by a machine any more, or not cloned any more."""
        self.store.db.execute(
            "UPDATE images SET error = CASE WHEN unfinished != '' THEN ?1 ELSE error END, "
            "state = CASE WHEN unfinished != '' THEN ?2 WHEN ?6 THEN ?3 ELSE ?4 END "
            "WHERE id = ?5 AND NOT EXISTS (SELECT 1 FROM vm_images WHERE image_id = images.id)",
            (
                NOT_FINISHED,
                int(ImageState.ERROR),
                int(ImageState.CLONE),
                int(ImageState.READY),
                image_id,
                self._is_being_cloned(image_id),
            ),
        )

    def _is_being_cloned(self, image_id: int | None) -> bool:
        """Whether another image is LOCKED because it is being made from this one."""
        if image_id is None:
            return False
        clone = operations.write(Clone(image_id))
        made = "SELECT 1 FROM images WHERE state = ? AND operation = ?"
        return self.store.row(made, int(ImageState.LOCKED), clone) is not None

    def being_cloned(self) -> set[int]:
        """Ids of all images from which another one is being made."""
        rows = self.store.rows(
            "SELECT operation FROM images WHERE state = ? AND operation != ''", int(ImageState.LOCKED)
        )
        under_way = (operations.read(row["operation"]) for row in rows)
        return {each.image_id for each in under_way if isinstance(each, Clone)}

    def declare(self, item: Mapping[str, Any]) -> None:
        """Take an image that an earlier task of a check run would have made as given."""
        if self.store.row("SELECT id FROM images WHERE name = ?", item["name"]) is not None:
            return
        values = {column: item[column] for column in COLUMNS if item.get(column) is not None}
        # Of these, results show something else.
        for column in ("snapshots", "operation"):
            values.pop(column, None)
        values["type"] = ImageType[item.get("type") or "OS"]
        values["state"] = ImageState[item.get("state") or "READY"]
        self.allocate(Image(id=None, name=item["name"], attributes=item.get("attributes") or {}, **values))

    def _get(self, image_id: int | None) -> Image:
        return image_of(self.store.rows(f"{_SELECT} WHERE images.id = ?", image_id)[0])

    def _check(self, image: Image, wanted: Mapping[str, Any]) -> None:
        what = f"image {image.name}"
        rested = {"unfinished": image.unfinished, "snapshots": image.snapshots, **wanted}
        for key in ("type", "persistent"):
            if key not in wanted:
                continue
            value = wanted[key].name if key == "type" else str(wanted[key]).lower()
            if image.state == ImageState.CLONE:
                raise WrongState(f"{what}: {key} {value}", _BEING_CLONED, _CLONE_REMEDY)
            _refuse_away(f"{what}: {key} {value}", image.state, image.operation)
            if image.state == ImageState.LOCKED and not isinstance(image.operation, (Clone, type(None))):
                raise WrongState(f"{what}: {key} {value}", "its content is being changed", _REMEDIES[image.state])
            if rested["unfinished"]:
                refuse_unfinished(f"{what}: {key} {value}", image)
        if wanted.get("persistent") is False and rested["snapshots"]:
            _refuse_snapshots(f"{what}: persistent false", image)
        if "name" in wanted:
            check_name("image", wanted["name"])
            self._refuse_taken(wanted["name"])
        if "type" in wanted:
            new = wanted["type"]
            if (image.type in DISK_TYPES) != (new in DISK_TYPES):
                family = DISK_TYPES if image.type in DISK_TYPES else FILE_TYPES
                raise Conflict(
                    f"{what}: type {new.name}",
                    f"it is {image.type.name}",
                    f"It can become {', '.join(sorted(t.name for t in family - {image.type}))} only",
                )
            self._refuse_used(image, f"type {new.name}", "End these machines first")
        if "persistent" in wanted:
            self._refuse_used(
                image, f"persistent {wanted['persistent']}", "Their disks rest on it: end these machines first"
            )
        _refuse_persistent(image.name, wanted.get("type", image.type), wanted.get("persistent", image.persistent))
        if "state" in wanted:
            new = wanted["state"]
            if new in IN_USE:
                raise InvalidValue(f"{what}: state {new.name}", "it is reached by use, not by request")
            self._refuse_used(image, f"state {_WORDS.get(new, new.name)}", "End these machines first")
            _refuse_away(f"{what}: state {_WORDS.get(new, new.name)}", image.state, image.operation)
            if new != ImageState.ERROR and image.state == ImageState.CLONE:
                raise WrongState(f"{what}: state {_WORDS.get(new, new.name)}", _BEING_CLONED, _CLONE_REMEDY)
            if new == ImageState.READY and rested["unfinished"]:
                refuse_unfinished(f"{what}: state READY", image)
            if new == ImageState.DISABLED and image.state not in (ImageState.READY, ImageState.ERROR):
                raise WrongState(
                    f"{what}: disable", f"it is in state {image.state.name}", _REMEDIES.get(image.state, "")
                )

    def _refuse_taken(self, name: str) -> None:
        row = self.store.row("SELECT id FROM images WHERE name = ?", name)
        if row is not None:
            raise Conflict(f"image {name}: register", f"id {row['id']} has that name", "Choose another name")

    def _refuse_used(self, image: Image, operation: str, remedy: str) -> None:
        if image.vms:
            raise InUse(f"image {image.name}: {operation}", f"it is used by {self._users(image.id)}", remedy)

    def _users(self, image_id: int | None) -> str:
        rows = self.store.rows(
            "SELECT DISTINCT vms.id, vms.name FROM vm_images JOIN vms ON vms.id = vm_images.vm_id "
            "WHERE image_id = ? ORDER BY vms.id LIMIT 6",
            image_id,
        )
        return ", ".join(f"{row['name']} (id {row['id']})" for row in rows[:5]) + (" …" if len(rows) > 5 else "")

    def _users_end(self, image_id: int) -> bool:
        """Whether they will not have it once their hosts have done what is decided."""
        rows = self.store.rows(
            "SELECT disk_id, settled, orders FROM vm_images JOIN vms ON vms.id = vm_images.vm_id"
            " WHERE image_id = ? AND disk_id >= 0 AND wanted != 'DONE'",
            image_id,
        )
        return all(row["disk_id"] in lasting(row).get("detached", ()) for row in rows)

    def _spec(self, name: str, image_id: int, vm_id: int, disk_id: int) -> str:
        row = self.store.row("SELECT name FROM vms WHERE id = ?", vm_id)
        machine = f"machine {row['name']} (id {vm_id})" if row else f"machine {vm_id}"
        return f"image {name} (id {image_id}) for {machine}, disk {disk_id}"


def _refuse_persistent(name: str, kind: ImageType, persistent: bool) -> None:
    if persistent and (kind == ImageType.CDROM or kind in FILE_TYPES):
        raise InvalidValue(
            f"image {name}: persistent true", f"it is of type {kind.name}", "Only OS and DATABLOCK can be written to"
        )


def _refuse_away(asked: str, state: ImageState, operation: Operation | None) -> None:
    """WrongState where what is newest of it is on a host."""
    host = comes_from(operation)
    if host:
        raise WrongState(
            asked,
            f"it is in state {state.name}: what its last machine wrote, or was saved as it, is on host {host}, and has "
            "not come back yet",
            _REMEDIES[ImageState.LOCKED_USED_PERS],
        )


def _refuse_operation(asked: str, found: str) -> None:
    """WrongState for a step that does not follow from what is under way with the image. found: why, "" if it does."""
    if found:
        raise WrongState(
            asked, found, "Wait for the run that is at it; if there is none, run nebula_image for it again"
        )


def _refuse_snapshots(asked: str, image: Image) -> None:
    if image.snapshots:
        raise Conflict(
            asked,
            f"its file holds disk snapshots ({len(json.loads(image.snapshots))})",
            "Give snapshot_flatten: true, which keeps what the disk holds now and removes them",
        )


def _trust(image: Image, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What is to be noted of the generation for which an image was called trusted. One by a change here goes with it;
    those by machines that wrote to it come by release()."""
    notes, generation = wanted.get("notes", image.notes), wanted.get("generation", image.generation)
    trusted = image.notes.get("trusted", 0)
    said = wanted.get("attributes", image.attributes).get(TRUSTED, "")
    if said != image.attributes.get(TRUSTED, "") or image.is_trusted:
        trusted = generation
    return {"notes": {**notes, "trusted": trusted}} if trusted != notes.get("trusted", 0) else {}


def _stored(column: str, value: Any) -> Any:
    if column in _JSON:
        return json.dumps(dict(value))
    if column == "operation":
        return operations.write(value)
    return int(value) if column in _NUMBERS else value


def _id(image: Image) -> int:
    if image.id is None:
        raise NotFound(f"image {image.name}", "it has no id yet", "It was not stored")
    return image.id


def image_of(row: sqlite3.Row) -> Image:
    """The image of a row of table images, which has its count of machines as vms."""
    values: dict[str, Any] = {column: row[column] for column in COLUMNS}
    values["type"] = ImageType(values["type"])
    values["state"] = ImageState(values["state"])
    values["persistent"] = bool(values["persistent"])
    values["notes"] = json.loads(values["notes"])
    values["operation"] = operations.read(values["operation"])
    return Image(
        id=row["id"],
        name=row["name"],
        uuid=row["uuid"],
        vms=row["vms"],
        attributes=json.loads(row["attributes"]),
        **values,
    )
