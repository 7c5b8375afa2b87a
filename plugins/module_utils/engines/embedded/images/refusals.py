# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuses what can't be done with an image: changes by its state and its use, and names that are taken."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ....errors import Conflict, InUse, InvalidValue, WrongState
from ....model.image import Image, refuse_unfinished
from ....model.image_operations import Clone, Operation, returning_host
from ....model.object_names import check_name
from ....model.states import ImageState, ImageType
from ..store import Store

DISK_TYPES = frozenset((ImageType.OS, ImageType.CDROM, ImageType.DATABLOCK))
FILE_TYPES = frozenset((ImageType.KERNEL, ImageType.RAMDISK, ImageType.CONTEXT))
IN_USE = frozenset((ImageState.USED, ImageState.USED_PERS, ImageState.CLONE))
BEING_CLONED = "it is being cloned, or that was interrupted"
CLONE_REMEDY = "Wait for that run; if there is none, run nebula_image for the clone again, or remove the clone"
# What users write to bring an image into a state.
_WORDS = {ImageState.DELETE: "absent", ImageState.DISABLED: "disabled"}
# The states in which no machine can use an image, and what to do about each.
REMEDIES = {
    ImageState.INIT: "Run nebula_image for it again",
    ImageState.DISABLED: "Enable it: nebula_image with state: enabled",
    ImageState.LOCKED: "It is still being stored: wait for that, or run nebula_image for it again",
    ImageState.ERROR: "Remove its cause, then run nebula_image for it again with its path",
    ImageState.DELETE: "It is being removed, or its removal was interrupted: run nebula_image for it again",
    ImageState.LOCKED_USED_PERS: "Run playbook nebula.provision.site once that host answers: it fetches that. If the "
    "host is gone for good: nebula.provision.forget_host",
}


def check_change(store: Store, image: Image, changes: Mapping[str, Any]) -> None:
    """Raise for the first of these changes of fields that the image's state, type or use does not allow."""
    what = f"image {image.name}"
    unfinished = changes.get("unfinished", image.unfinished)
    for key in ("type", "persistent"):
        if key in changes:
            value = changes[key].name if key == "type" else str(changes[key]).lower()
            _check_content_rests(f"{what}: {key} {value}", image, bool(unfinished))
    if changes.get("persistent") is False and changes.get("snapshots", image.snapshots):
        refuse_snapshots(f"{what}: persistent false", image)
    if "name" in changes:
        check_name("image", changes["name"])
        refuse_taken(store, changes["name"])
    if "type" in changes:
        _check_family(what, image.type, changes["type"])
        refuse_used(store, image, f"type {changes['type'].name}", "End these machines first")
    if "persistent" in changes:
        remedy = "Their disks rest on it: end these machines first"
        refuse_used(store, image, f"persistent {changes['persistent']}", remedy)
    refuse_persistent(image.name, changes.get("type", image.type), changes.get("persistent", image.persistent))
    if "state" in changes:
        _check_state(store, image, changes["state"], bool(unfinished))


def _check_content_rests(asked: str, image: Image, unfinished: bool) -> None:
    """Raise WrongState if the image is being copied, written or finished, or if its newest content is on a host."""
    if image.state == ImageState.CLONE:
        raise WrongState(asked, BEING_CLONED, CLONE_REMEDY)
    refuse_away(asked, image.state, image.operation)
    if image.state == ImageState.LOCKED and not isinstance(image.operation, (Clone, type(None))):
        raise WrongState(asked, "its content is being changed", REMEDIES[image.state])
    if unfinished:
        refuse_unfinished(asked, image)


def _check_family(what: str, is_type: ImageType, new: ImageType) -> None:
    if (is_type in DISK_TYPES) != (new in DISK_TYPES):
        family = DISK_TYPES if is_type in DISK_TYPES else FILE_TYPES
        raise Conflict(
            f"{what}: type {new.name}",
            f"it is {is_type.name}",
            f"It can become {', '.join(sorted(t.name for t in family - {is_type}))} only",
        )


def _check_state(store: Store, image: Image, new: ImageState, unfinished: bool) -> None:
    what = f"image {image.name}"
    asked = f"state {_WORDS.get(new, new.name)}"
    if new in IN_USE:
        raise InvalidValue(f"{what}: state {new.name}", "it is reached by use, not by request")
    refuse_used(store, image, asked, "End these machines first")
    refuse_away(f"{what}: {asked}", image.state, image.operation)
    if new != ImageState.ERROR and image.state == ImageState.CLONE:
        raise WrongState(f"{what}: {asked}", BEING_CLONED, CLONE_REMEDY)
    if new == ImageState.READY and unfinished:
        refuse_unfinished(f"{what}: state READY", image)
    if new == ImageState.DISABLED and image.state not in (ImageState.READY, ImageState.ERROR):
        raise WrongState(f"{what}: disable", f"it is in state {image.state.name}", REMEDIES.get(image.state, ""))


def refuse_taken(store: Store, name: str) -> None:
    """Raise Conflict if an image has that name."""
    row = store.row("SELECT id FROM images WHERE name = ?", name)
    if row is not None:
        raise Conflict(f"image {name}: register", f"id {row['id']} has that name", "Choose another name")


def refuse_used(store: Store, image: Image, operation: str, remedy: str) -> None:
    """Raise InUse if machines use the image. operation: what was asked, for the message."""
    if image.vms:
        raise InUse(f"image {image.name}: {operation}", f"it is used by {users(store, image.id)}", remedy)


def users(store: Store, image_id: int | None) -> str:
    """Return the names of the first five machines that use the image, for messages."""
    rows = store.rows(
        "SELECT DISTINCT vms.id, vms.name FROM vm_images JOIN vms ON vms.id = vm_images.vm_id "
        "WHERE image_id = ? ORDER BY vms.id LIMIT 6",
        image_id,
    )
    return ", ".join(f"{row['name']} (id {row['id']})" for row in rows[:5]) + (" …" if len(rows) > 5 else "")


def refuse_persistent(name: str, kind: ImageType, persistent: bool) -> None:
    """Raise InvalidValue for a persistent image of a type that no machine writes to."""
    if persistent and (kind == ImageType.CDROM or kind in FILE_TYPES):
        raise InvalidValue(
            f"image {name}: persistent true", f"it is of type {kind.name}", "Only OS and DATABLOCK can be written to"
        )


def refuse_away(asked: str, state: ImageState, operation: Operation | None) -> None:
    """Raise WrongState if the newest content of the image is on a host."""
    host = returning_host(operation)
    if host:
        raise WrongState(
            asked,
            f"it is in state {state.name}: what its last machine wrote, or was saved as it, is on host {host}, and has "
            "not come back yet",
            REMEDIES[ImageState.LOCKED_USED_PERS],
        )


def refuse_operation(asked: str, found: str) -> None:
    """Raise WrongState for a step that can't follow the operation that is under way. found: the reason, "" for none."""
    if found:
        raise WrongState(
            asked, found, "Wait for the run that is at it; if there is none, run nebula_image for it again"
        )


def refuse_snapshots(asked: str, image: Image) -> None:
    """Raise Conflict if the file of the image holds snapshots of a disk."""
    if image.snapshots:
        raise Conflict(
            asked,
            f"its file holds disk snapshots ({len(json.loads(image.snapshots))})",
            "Give snapshot_flatten: true, which keeps what the disk holds now and removes them",
        )
