# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The front-end's own: the catalog and the directories of images; begun, and removed again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any

from ..engines.embedded.store import Store
from ..errors import InUse, InvalidValue
from ..host import mounts
from ..host.files import remove_file
from ..model.states import VmState
from ..storage.datastore import IMAGES, image_directory, prepare_directories
from ..sync import Item, Result

CATALOG = "nebula.db"
# Beside the catalog, when SQLite uses its write-ahead log.
PARTS = (CATALOG, f"{CATALOG}-wal", f"{CATALOG}-shm")


def present(params: Mapping[str, Any], check_mode: bool) -> Result:
    """Refuses a place that ends with the container; makes the directories; begins the catalog."""
    root = params["root"]
    _refuse_ephemeral(root, params["local"], params["allow_ephemeral"])
    begun = os.path.exists(os.path.join(root, CATALOG))
    missing = not os.path.isdir(image_directory(root, IMAGES))
    if not check_mode:
        prepare_directories(root, IMAGES)
    with contextlib.closing(Store(root, check_mode, create=True)) as store:
        catalog = "" if store.declared else store.meta("catalog")
    before = {"catalog": begun, "directories": not missing}
    item = Item("frontend", before, {"catalog": True, "directories": True})
    return Result([item], {"frontend": {"root": root, "catalog": catalog}})


def absent(params: Mapping[str, Any], check_mode: bool) -> Result:
    """Removes the catalog and the files of its images. Machines that are not DONE forbid it."""
    root = params["root"]
    gone = Result([Item("frontend", {}, {})], {"frontend": {"root": root, "catalog": ""}})
    if not os.path.exists(os.path.join(root, CATALOG)):
        return gone
    with contextlib.closing(Store(root, check_mode)) as store:
        left = store.rows("SELECT id, name FROM vms WHERE state != ? ORDER BY id", int(VmState.DONE))
        files = [str(row["source"]) for row in store.rows("SELECT source FROM images") if row["source"]]
        catalog = store.meta("catalog")
    if left:
        shown = ", ".join(f"{row['name']} (id {row['id']})" for row in left[:10])
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
        for name in PARTS:
            remove_file(os.path.join(root, name))
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
