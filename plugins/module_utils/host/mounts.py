# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds out what file system a path is on, and whether it outlives the container that this runs in."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

TABLE = "/proc/self/mounts"
# What administrators want to be mounted.
FSTAB = "/etc/fstab"
# Container engines leave one of these.
CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")
# A container's own layer, and memory: both end with it. What is mounted into it from outside is neither.
SHORT_LIVED = frozenset(("overlay", "aufs", "fuse.fuse-overlayfs", "tmpfs", "ramfs"))
_ESCAPE = re.compile(rb"\\([0-3][0-7]{2})")


def file_system(path: str, table: str = "") -> tuple[str, str]:
    """Return (mount point, type) of what a path is on, or would be if it were made; ("", "") if that can't be told."""
    place = os.path.realpath(path)
    best, kind = "", ""
    for _device, point, fstype, *_rest in _rows(table or TABLE):
        # Of two mounts on one point the later is seen.
        if (place + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best):
            best, kind = point, fstype
    return best, kind


def is_mount_point(path: str, table: str = "") -> bool:
    """Return whether something is mounted at the path itself. Where its last name is a link, nothing is, wherever it
    leads."""
    place = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    return any(point == place for _device, point, *_rest in _rows(table or TABLE))


def missing_mount(path: str, fstab: str = "", table: str = "") -> str:
    """Return the directory, the path's own or one above it, for which fstab has a file system that is not mounted, and
    on which the path would be; "" if there is none."""
    place, nearest = os.path.realpath(path), file_system(path, table)[0]
    for _source, *words in _rows_of_fstab(fstab or FSTAB):
        point = os.path.realpath(words[0]) if words and words[0].startswith("/") else ""
        if nearest and len(point) > len(nearest) and (place + "/").startswith(point + "/"):
            return point
    return ""


def mount_points_of(devices: Collection[str], table: str = "/proc/self/mountinfo") -> list[str]:
    """Return the mount points of these devices, given by number (7:0), in the order in which they were mounted."""
    return [point for _id, _parent, device, _root, point, *_rest in _rows(table) if device in devices]


def is_shared(path: str, table: str = "/proc/self/mountinfo") -> bool:
    """Return whether others who have a copy of this host's mounts see, too, what is mounted or unmounted below the
    path."""
    place = os.path.realpath(path)
    best, shared = "", False
    for _id, _parent, _device, _root, point, _options, *rest in _rows(table):
        if (place + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best):
            best, shared = point, any(word.startswith("shared:") for word in rest[: rest.index("-")])
    return shared


def _rows(table: str) -> Iterator[list[str]]:
    r"""Yield the words of each line; nothing if it can't be read. Lines are split by line feeds alone: other programs
    take further characters for a line's end, and the kernel writes blanks, line feeds and backslashes as \040 and
    the like."""
    for line in _lines(table):
        yield [_unescaped(word) for word in line.split(b" ")]


def _rows_of_fstab(path: str) -> Iterator[list[str]]:
    """Yield the words of each line that is no comment. People write several blanks, and tabs, between them."""
    for line in _lines(path):
        words = line.replace(b"\t", b" ").split(b" ")
        found = [_unescaped(word) for word in words if word]
        if found and not found[0].startswith("#"):
            yield found


def _lines(path: str) -> Iterator[bytes]:
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except OSError:
        return
    yield from filter(None, lines)


def _unescaped(word: bytes) -> str:
    return os.fsdecode(_ESCAPE.sub(lambda found: bytes((int(found[1], 8),)), word))


def in_container() -> bool:
    return any(os.path.exists(mark) for mark in CONTAINER_MARKS) or "container" in os.environ
