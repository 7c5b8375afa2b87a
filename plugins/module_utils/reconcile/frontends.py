# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the catalog and the directories of images on the front-end, and removes them again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ..engines.ports import VmRecord
from ..engines.registry import engine_of, open_engine
from ..errors import InUse, InvalidValue, TimedOut
from ..host import mounts
from ..host.files import remove_file, sync_directory
from ..model.image import Image
from ..model.states import ImageState
from ..storage import datastore_mark, uploads
from ..storage.datastore_layout import IMAGES, image_directory, prepare_directories
from ..storage.final_names import NEW, PART, locked_destination
from ..sync import Item, Result
from . import transfer_key
from .frontend_directories import remove_directories
from .images import image_removal

# How long the end of a catalog waits for an image that is being stored.
IMPORT_SECONDS = 60.0


def present(params: Mapping[str, Any], check_mode: bool) -> Result:
    """Make the directories, and begin the catalog. Raise InvalidValue for a place that ends with the container."""
    root = params["root"]
    _refuse_ephemeral(root, params["local"], params["allow_ephemeral"])
    begun = engine_of(params).begun(params)
    missing = not os.path.isdir(image_directory(root, IMAGES))
    if not check_mode:
        prepare_directories(root, IMAGES)
    with contextlib.closing(open_engine(params, check_mode, create=True)) as engine:
        catalog = engine.catalog() if begun or not check_mode else ""
        # The result does not report that some are new, as they are of no use before their hosts are in the catalog.
        marks = engine.hosts.offer_marks(params["nodes"]) if params.get("nodes") else {}
    before: dict[str, Any] = {"catalog": begun, "directories": not missing}
    after: dict[str, Any] = {"catalog": True, "directories": True}
    if not check_mode:
        # The result does not report this: an older version may have begun the catalog without a mark.
        datastore_mark.write(root, catalog)
    shown: dict[str, Any] = {"root": root, "catalog": catalog, "transfer_key": "", "marks": marks}
    if params.get("transfer_key"):
        before["transfer_key"], after["transfer_key"] = transfer_key.has_key(root), True
        shown["transfer_key"] = transfer_key.public_key(root, check_mode)
    return Result([Item("frontend", before, after)], {"frontend": shown})


def repair(params: Mapping[str, Any], check_mode: bool) -> Result:
    """Derive anew what follows from the machines."""
    with contextlib.closing(open_engine(params, check_mode)) as engine:
        with engine.session():
            done = engine.repair()
        catalog = engine.catalog()
    item = Item("catalog", {}, {"repaired": done}, changed=bool(done))
    return Result([item], {"frontend": {"root": params["root"], "catalog": catalog}, "repaired": done})


def absent(params: Mapping[str, Any], check_mode: bool) -> Result:
    """Remove the catalog and the files of its images. Raise InUse while machines are not DONE."""
    root = params["root"]
    gone = Result([Item("frontend", {}, {})], {"frontend": {"root": root, "catalog": ""}})
    if not engine_of(params).begun(params):
        if not check_mode and (engine_of(params).is_left(params) or _is_empty(root)):
            remove_directories(params)
        return gone
    datastores = os.path.join(root, "datastores")
    with contextlib.closing(open_engine(params, check_mode)) as engine:
        catalog = engine.catalog()
        ours: list[str] = []
        if not check_mode and "stores_images" in engine.capabilities:
            # A run that is killed before the end leaves images without files, and the next one has to know.
            with engine.session():
                _refuse_machines(root, engine.vms.pool())
                marked = engine.images.pool()
                for number in [image.id for image in marked if image.id is not None]:
                    engine.images.update(number, state=ImageState.DELETE)
            _wait_for_imports(root, marked)

        def last() -> None:
            _refuse_machines(root, engine.vms.pool())
            images = engine.images.pool()
            if not check_mode and "stores_images" in engine.capabilities:
                _refuse_new_images(root, images)
            within = os.path.realpath(datastores) + os.sep
            kept = [image for image in images if image.source and os.path.realpath(image.source).startswith(within)]
            ours.extend(image.source for image in kept)
            if not check_mode:
                for image in kept:
                    image_removal.remove_files(image)
                    for end in (NEW, PART):
                        remove_file(image.source + end)
                uploads.remove(image_directory(root, IMAGES))
                for directory in {os.path.dirname(path) for path in ours if os.path.isdir(os.path.dirname(path))}:
                    sync_directory(directory)

        if check_mode:
            with engine.session():
                try:
                    last()
                except InUse as error:
                    # An earlier task would have ended them.
                    gone.warnings.append(f"{error.found}; taken as ended in check mode")
        else:
            engine.end(last)
    if not check_mode:
        remove_directories(params)
    gone.items = [Item("frontend", {"catalog": catalog, "images": len(ours)}, {})]
    return gone


def _is_empty(root: str) -> bool:
    """Return whether the root is what a run left that was killed before its very last step."""
    return os.path.isdir(root) and os.stat(root).st_mode & 0o777 == 0o711 and not os.listdir(root)


def _refuse_machines(root: str, left: Sequence[VmRecord]) -> None:
    if left:
        shown = ", ".join(f"{record.name} (id {record.id})" for record in left[:10])
        raise InUse(
            f"removing the catalog below {root}",
            f"it has {len(left)} machines: {shown}{' …' if len(left) > 10 else ''}",
            "End them first: playbook nebula.provision.teardown does",
        )


def _wait_for_imports(root: str, images: Sequence[Image]) -> None:
    """Wait for runs that store these images. The images are marked, so that no run begins to; a run that stores one
    finds that it is to go, and removes its file."""
    for image in images:
        if image.source and os.path.exists(image.source + PART):
            try:
                with locked_destination(image.source, IMPORT_SECONDS):
                    pass
            except TimedOut as error:
                raise InUse(
                    f"removing the catalog below {root}",
                    f"another run has been storing image {image.name} for over {IMPORT_SECONDS:g} s",
                    "Wait for it to end, then run again",
                ) from error


def _refuse_new_images(root: str, images: Sequence[Image]) -> None:
    fresh = [image.name for image in images if image.state != ImageState.DELETE]
    if fresh:
        raise InUse(
            f"removing the catalog below {root}",
            f"another run has registered {', '.join(fresh[:10])}{' …' if len(fresh) > 10 else ''} meanwhile",
            "Run again once that run has ended",
        )


def _refuse_ephemeral(root: str, local: bool, allowed: bool) -> None:
    if allowed or not local or not mounts.in_container():
        return
    point, kind = mounts.file_system(root)
    if kind in mounts.SHORT_LIVED:
        raise InvalidValue(
            f"front-end on this control node, nebula_root {root}",
            f"this is a container, and the directory is in it ({kind} on {point}): the catalog would end with the job",
            "Put a host that stays into group nebula_frontend, or mount a volume at nebula_root. "
            "nebula_allow_ephemeral: true takes the risk",
        )
