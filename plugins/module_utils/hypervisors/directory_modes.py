# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Closes directories of machines to users of the host who have nothing to do there. An earlier version made the
directories of containers open to all; they are closed while the containers run."""

from __future__ import annotations

import os
import re
import stat

from ..errors import NebulaError
from ..host.files import adopt
from ..host.node_file import Changes
from ..storage.datastore_layout import vm_directory
from .base import OPEN, Driver
from .machine_record import read_record

_ID = re.compile(r"0|[1-9]\d{0,17}")


def close_directories(driver: type[Driver], root: str, catalog: str, changes: Changes) -> None:
    """Close the directories of this catalog's machines. A directory that is not marked as ours is not touched."""
    if driver.access(0)[0] == OPEN:
        return
    place = os.path.dirname(vm_directory(root, 0))
    for name in sorted(os.listdir(place)) if os.path.isdir(place) else ():
        if not _ID.fullmatch(name):
            continue
        path = os.path.join(place, name)
        mode, group = driver.access(int(name))
        found = os.lstat(path)
        if not stat.S_ISDIR(found.st_mode):
            continue
        if stat.S_IMODE(found.st_mode) == mode and group in (-1, found.st_gid):
            continue
        if _is_ours(path, catalog):
            changes.did(path, f"{stat.S_IMODE(found.st_mode):04o}", f"{mode:04o}: closed to other users of this host")
            if not changes.check_mode:
                adopt(path, mode, -1, group)


def _is_ours(path: str, catalog: str) -> bool:
    try:
        record = read_record(path)
    except NebulaError:
        return False
    if record is None or record.catalog != catalog:
        return False
    # On files that several hosts share, those of other hypervisors are no containers': these have directories in them.
    return any(entry.is_dir(follow_symlinks=False) for entry in os.scandir(path))
