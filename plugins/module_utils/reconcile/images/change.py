# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes an image that has its content: its values in the catalog, its type and persistence, and what has to be
rewritten. Refuses what an image can't become. All of it is called within a session of the engine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ...dataclass import replace
from ...engines.base import Engine
from ...errors import Conflict, ImageRefused, WrongState
from ...guest_disk.customize import recipes
from ...model.image import Image, refuse_unfinished
from ...model.image_operations import returning_host
from ...model.installation_marks import OF_ONE
from ...model.object_ids import id_of
from ...model.specification import ALWAYS, UNUSED
from ...model.specifications.image import KEYS
from ...model.states import ImageState, ImageType
from ...sync import differences
from . import image_removal, rewrite
from .image_files_stored import inspect_again
from .image_item import Spec, refuse_unused_passphrase
from .image_progress import Settings, Work
from .image_view import image_view
from .register import merged

# Values that are changed in the catalog alone; attributes are compared one by one.
_SETTABLE = [name for name, key in KEYS.items() if key.changes in (ALWAYS, UNUSED) and key.type != "dict"]


def change(engine: Engine, work: Work, spec: Spec, image: Image, settings: Settings) -> None:
    if not settings.check_mode:
        image_removal.remove_half_made(image)
    _refuse_other_content(engine, spec, image, settings, work.warnings)
    changes = _changes(spec, image)
    if returning_host(image.operation) and spec.size is not None and spec.size > image.size:
        # Its file is on a host, and larger than the catalog knew. Once it is here, its real size counts.
        changes["size"] = spec.size
        image_then = replace(image, size=spec.size)
    else:
        image_then = image
    _refuse_during_installation(spec, image, changes)
    rework = None
    if image.state != ImageState.ERROR or "state" in changes:
        rework = rewrite.rework_wanted(spec, replace(image_then, state=changes.get("state", image.state)))
    later: dict[str, Any] = {}
    if rework is not None and rework.flatten:
        # These changes are refused while there are snapshots, so they come after.
        later = {key: changes.pop(key) for key in ("type", "persistent") if key in changes}
    if rework is not None and rework.encrypts(image) and changes.get("state") == ImageState.READY:
        # No machine gets it before it is encrypted, nor if that fails.
        later["state"] = changes.pop("state")
    # An image in ERROR that was disabled meanwhile may still be broken.
    if changes.get("state") == ImageState.READY and (image.state == ImageState.ERROR or image.error):
        changes["size"] = max(image.size, _size_of_file(spec, image))
    changed = convert(engine, image, **{"type": image.type, "persistent": image.persistent, **changes})
    opened = _is_left_open(changed)
    work.became(spec.name, image_view(changed), changed=opened or changed != image)
    # The image may need something else after the change.
    rework = rewrite.rework_wanted(spec, changed) if rework is not None else None
    other = opened or changed.persistent != image.persistent
    closed = changed if other and os.path.exists(image.source) else None
    if rework is None:
        work.protect = closed
        return
    if settings.check_mode:
        changed = rewrite.predicted_image(engine, changed, rework)
        if later:
            later["generation"] = changed.generation + (later.get("persistent") is False)
            changed = engine.images.update(id_of(image), **later)
        work.became(spec.name, image_view(changed), changed=True)
        return
    work.image, work.rework = rewrite.begin(engine, changed, rework), rework
    work.protect = closed
    work.todo = "rework"


def convert(engine: Engine, image: Image, type: ImageType, persistent: bool, **fields: Any) -> Image:
    """Give an image that no machine uses another type or persistence, and `fields`. To be called within a session.

    Its file is neither copied nor read: what was written into it stays. A guest could have written a header that
    names files of this host, so the file is inspected again, in the catalog's format. The caller closes the file
    against writers, or opens it to them (datastore.protect), once the session is over."""
    changed = engine.images.update(id_of(image), type=type, persistent=persistent, **fields)
    if (changed.type, changed.persistent) == (image.type, image.persistent) or not os.path.exists(image.source):
        return changed
    size = inspect_again(changed)
    if changed.persistent != image.persistent and not persistent:
        # A machine may have made it larger since the catalog heard of its size.
        changed = engine.images.update(
            id_of(image), generation=image.generation + 1, sha256="", size=max(size, image.size)
        )
    return changed


def _is_left_open(image: Image) -> bool:
    """Return whether the image's file can be written to, though machines rest on it: a run ended before closing it."""
    if image.persistent or image.state == ImageState.ERROR:
        return False
    try:
        return bool(os.lstat(image.source).st_mode & 0o222)
    except OSError:
        return False


def _changes(spec: Spec, image: Image) -> dict[str, Any]:
    """Return what is to be changed in the catalog of an image that has its content."""
    wanted: dict[str, Any] = {key: getattr(spec, key) for key in _SETTABLE}
    if spec.luks_secret and image.luks_secret:
        # It is the same key under another UUID.
        wanted["luks_secret"] = spec.luks_secret
    if spec.attributes is not None:
        wanted["attributes"] = merged(image.attributes, spec.attributes)
    if spec.state == "disabled":
        wanted["state"] = ImageState.DISABLED
    elif spec.state == "enabled" and image.state in (ImageState.DISABLED, ImageState.ERROR):
        wanted.update(state=ImageState.READY, error="")
    return differences({key: getattr(image, key) for key in wanted}, wanted)


def _refuse_during_installation(spec: Spec, image: Image, changes: Mapping[str, Any]) -> None:
    """Raise WrongState if the changes touch what an installation that is under way needs, or has to end with."""
    refused = [key for key in ("type", "persistent", "firmware", "bus", "state") if key in changes]
    attributes = changes.get("attributes", image.attributes)
    refused += [key for key in OF_ONE if attributes.get(key) != image.attributes.get(key)]
    if refused:
        refuse_unfinished(f"image {spec.name} (id {image.id}): {', '.join(refused)}", image)


def _size_of_file(spec: Spec, image: Image) -> int:
    """Return the size in MiB of an image in ERROR. Raise WrongState or ImageRefused for a file that is not right."""
    if not image.size or not os.path.isfile(image.source):
        raise WrongState(
            f"image {spec.name}: enable",
            f"it is in state {image.state.name} and its file is not there"
            + (f" ({image.error})" if image.error else ""),
            "Give its path to store it again",
        )
    try:
        return inspect_again(image, deep=True)
    except ImageRefused as error:
        error.asked = f"{error.asked}: enable"
        raise


def _refuse_other_content(engine: Engine, spec: Spec, image: Image, settings: Settings, warnings: list[str]) -> None:
    """Raise Conflict for what can't be changed on an image."""
    what = f"image {spec.name} (id {image.id})"
    refuse_unused_passphrase(what, spec, image.luks_secret)
    remedy = (
        "An image's content is never replaced: remove it first (state: absent), or register the other under a new name"
    )
    if spec.checksum is not None:
        has = image.checksums.get(spec.checksum.algorithm)
        if has is None:
            found = f"only {image.checksum} is known of it" if image.checksums else "none is known of it"
            warnings.append(f"{what}: checksum {spec.checksum}: {found}; not compared")
        elif has != spec.checksum.digest:
            raise Conflict(
                f"{what}: checksum {spec.checksum}", f"it was stored from {spec.checksum.algorithm}:{has}", remedy
            )
    # An image that machines write to, or did, may have been made larger by the SIZE of a disk.
    may_have_grown = image.persistent or image.generation > 0
    if spec.size is not None and spec.size < image.size and not may_have_grown:
        raise Conflict(
            f"{what}: size {spec.size} MB",
            f"it has {image.size} MB, and is not made smaller: what is at its end would be cut off",
            "Make a new image of that size, and have a machine copy what is in this one",
        )
    if spec.size is not None and spec.size < image.size:
        warnings.append(f"{what}: size {spec.size} MB: it has {image.size} MB by now, and is not made smaller")
    if spec.datastore:
        place = engine.datastores.info(spec.datastore)
        if place.id != image.datastore_id:
            raise Conflict(
                f"{what}: datastore {place.name}",
                f"it lies in {engine.datastores.info(image.datastore_id).name}, and an image is not moved",
                "Clone it there under a new name (clone_of), then remove this one",
            )
    made_of = image.notes.get("recipe")
    if spec.recipe is not None and made_of:
        gone = [path for path in recipes.local_files(spec.recipe) if not os.path.isfile(path)]
        if spec.name in settings.lost or gone:
            found = settings.lost.get(spec.name) or f"{gone[0]} is not there any more"
            warnings.append(f"{what}: {found}; what it was made of is not compared")
        elif spec.recipe.digest() != made_of:
            raise Conflict(f"{what}: from {spec.base}", "it was made with other packages, files or commands", remedy)
