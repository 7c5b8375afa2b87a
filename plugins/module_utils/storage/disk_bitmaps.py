# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at the bitmaps in the qcow2 file of a machine that is off, in which QEMU has kept what was written since a
backup, and removes them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

from ..host.sandbox import WRITE
from ..model.disk import DiskFiles
from . import qemu_img

# All that backups of machines call theirs; the rest belongs to somebody else.
OURS = re.compile(r"nebula-[0-9a-f]{8}-[0-9A-Za-z-]{1,60}")
# QEMU did not get to write it down at its end: it says nothing.
_BROKEN = "in-use"


def bitmaps(files: DiskFiles, what: str) -> Mapping[str, bool]:
    """Return the bitmaps in the disk's own file, each with whether it can be relied on."""
    if files.format != "qcow2":
        return {}
    # What is below is not opened for this.
    done = qemu_img.run("info", "--output=json", disk=files, open_below=False, what=what, timeout=qemu_img.LONG_TIMEOUT)
    found = (json.loads(done.stdout).get("format-specific") or {}).get("data") or {}
    return {str(each["name"]): _BROKEN not in each.get("flags", ()) for each in found.get("bitmaps") or ()}


def remove(files: DiskFiles, doomed: Callable[[str], bool], what: str) -> bool:
    """Remove the bitmaps with such names from the disk's own file. Return whether there was one."""
    found = [name for name in bitmaps(files, what) if doomed(name)]
    for name in found:
        qemu_img.run(
            "bitmap", "--remove", disk=files, use=WRITE, after=(name,), open_below=False, what=what,
            timeout=qemu_img.LONG_TIMEOUT,
        )  # fmt: skip
    return bool(found)
