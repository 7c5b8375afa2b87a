# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What file system a path is on, and whether it outlives the container that this runs in."""

from __future__ import annotations

import os
from pathlib import Path

# Container engines leave one of these.
CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")
# A container's own layer, and memory: both end with it. What is mounted into it from outside is neither.
SHORT_LIVED = frozenset(("overlay", "aufs", "fuse.fuse-overlayfs", "tmpfs", "ramfs"))


def file_system(path: str, mounts: str = "/proc/self/mounts") -> tuple[str, str]:
    """(mount point, type) of what a path is on, or would be if it were made; ("", "") if that can't be told."""
    place = os.path.realpath(path)
    best, kind = "", ""
    try:
        lines = Path(mounts).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return "", ""
    for line in lines:
        _device, point, fstype = line.split(" ")[:3]
        # The file writes blanks as \040 and the like.
        point = point.encode("latin-1", "replace").decode("unicode_escape") if "\\" in point else point
        # Of two mounts on one point the later is seen.
        if (place + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best):
            best, kind = point, fstype
    return best, kind


def in_container() -> bool:
    return any(os.path.exists(mark) for mark in CONTAINER_MARKS) or "container" in os.environ
