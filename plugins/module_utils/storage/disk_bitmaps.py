# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at the bitmaps in the qcow2 file of a machine that is off, in which QEMU has kept what was written since a
backup, and removes them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

from ..errors import Conflict
from ..host.sandbox import WRITE
from ..model.disk import DiskFiles
from . import qemu_img

# All that backups of machines call theirs; the rest belongs to somebody else.
OURS = re.compile(r"nebula-[0-9a-f]{8}-[0-9A-Za-z-]{1,60}")
# QEMU did not get to write it down at its end: it says nothing.
_BROKEN = "in-use"
# One without it records nothing: somebody has disabled it.
_RECORDS = "auto"


def bitmaps(files: DiskFiles, what: str) -> Mapping[str, bool]:
    """Return the bitmaps in the disk's own file, each with whether it can be relied on."""
    if files.format != "qcow2":
        return {}
    # What is below is not opened for this.
    done = qemu_img.run("info", "--output=json", disk=files, open_below=False, what=what, timeout=qemu_img.LONG_TIMEOUT)
    found = (json.loads(done.stdout).get("format-specific") or {}).get("data") or {}
    flags = {str(each["name"]): each.get("flags", ()) for each in found.get("bitmaps") or ()}
    return {name: _RECORDS in has and _BROKEN not in has for name, has in flags.items()}


def remove(files: DiskFiles, doomed: Callable[[str], bool], what: str) -> bool:
    """Remove the bitmaps with such names from the disk's own file. Return whether there was one."""
    found = [name for name in bitmaps(files, what) if doomed(name)]
    for name in found:
        qemu_img.run(
            "bitmap", "--remove", disk=files, use=WRITE, after=(name,), open_below=False, what=what,
            timeout=qemu_img.LONG_TIMEOUT,
        )  # fmt: skip
    return bool(found)


def remove_all(files: DiskFiles, what: str) -> None:
    """Remove all bitmaps of ours from the disk's own file. Raise Conflict, before one is removed, for somebody
    else's."""
    foreign = sorted(name for name in bitmaps(files, what) if not OURS.fullmatch(name))
    if foreign:
        raise Conflict(
            what,
            f"{files.path} has bitmaps of somebody else, with which it can't go back: {', '.join(foreign)}",
            "Remove them, if nobody needs them for a backup (qemu-img bitmap --remove FILE NAME)",
        )
    remove(files, lambda name: OURS.fullmatch(name) is not None, what)
