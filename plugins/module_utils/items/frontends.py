# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The front-end's own: the catalog and the directories of images; begun, and removed again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any

from ..engines.registry import engine_of, open_engine
from ..errors import InUse, InvalidValue
from ..host import mounts
from ..host.files import remove_file
from ..storage.datastore import IMAGES, image_directory, prepare_directories
from ..sync import Item, Result


def present(params: Mapping[str, Any], check_mode: bool) -> Result:
    """Refuses a place that ends with the container; makes the directories; begins the catalog."""
    root = params["root"]
    _refuse_ephemeral(root, params["local"], params["allow_ephemeral"])
    begun = engine_of(params).begun(params)
    missing = not os.path.isdir(image_directory(root, IMAGES))
    if not check_mode:
        prepare_directories(root, IMAGES)
    with contextlib.closing(open_engine(params, check_mode, create=True)) as engine:
        catalog = engine.catalog() if begun or not check_mode else ""
    before = {"catalog": begun, "directories": not missing}
    item = Item("frontend", before, {"catalog": True, "directories": True})
    return Result([item], {"frontend": {"root": root, "catalog": catalog}})


def absent(params: Mapping[str, Any], check_mode: bool) -> Result:
    """Removes the catalog and the files of its images. Machines that are not DONE forbid it."""
    root = params["root"]
    gone = Result([Item("frontend", {}, {})], {"frontend": {"root": root, "catalog": ""}})
    if not engine_of(params).begun(params):
        return gone
    with contextlib.closing(open_engine(params, check_mode)) as engine:
        left = engine.vm_pool()
        files = [image.source for image in engine.image_pool() if image.source]
        catalog = engine.catalog()
    if left:
        shown = ", ".join(f"{record.name} (id {record.id})" for record in left[:10])
        raise InUse(
            f"removing the catalog below {root}",
            f"it has {len(left)} machines: {shown}{' …' if len(left) > 10 else ''}",
            "End them first: playbook nebula.provision.teardown does",
        )
    datastores = os.path.join(root, "datastores")
    ours = [path for path in files if os.path.realpath(path).startswith(os.path.realpath(datastores) + os.sep)]
    if not check_mode:
        for path in ours:
            remove_file(path)
            remove_file(path + ".part")
        engine_of(params).end(params)
        for directory in (image_directory(root, IMAGES), datastores, root):
            # One that holds something is a node's, or somebody's.
            with contextlib.suppress(OSError):
                os.rmdir(directory)
    gone.items = [Item("frontend", {"catalog": catalog, "images": len(ours)}, {})]
    return gone


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
