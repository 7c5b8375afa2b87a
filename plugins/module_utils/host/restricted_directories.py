# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names the directories of a host whose files get into no machine, whoever names them: the host's own configuration,
what hypervisors keep of their machines (memory, passwords, other machines' disks), and what catalogs and nodes
keep."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from ..errors import InvalidValue

RESTRICTED = (
    *("/etc", "/proc", "/sys", "/dev", "/run"),
    *("/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt", "/var/lib/xen", "/var/log/xen"),
)
# Below those, where distributions have images, kernels and media.
_MEDIA = ("/run/media", "/var/lib/libvirt/boot", "/var/lib/libvirt/images", "/var/lib/xen/images")
# Besides, what no guest may write to: programs, users' own, and what services of the host read.
_SYSTEM = (
    *("/bin", "/boot", "/home", "/lib", "/lib32", "/lib64", "/opt", "/root", "/sbin", "/usr"),
    *("/var/cache", "/var/lib", "/var/log", "/var/mail", "/var/spool"),
)
# Either makes a directory a nebula_root, of a front-end or of a node.
_MARKS = ("nebula.db", "nebula.node")
# What a nebula_root has for all to be used: images, and those that were sent to a node.
_SHARED = re.compile(r"datastores/[1-9][0-9]*/[^/]+|cache/(?!context-)[^/]+")


class Rules:
    """Decides which files of a host may get into machines.
    restricted: directories from which nothing is taken.
    safe: directories below them from which files are taken all the same. Both are as options name them, by their
    paths from / on; where links in them lead is what counts.
    own: nebula_root, whose images may be named."""

    def __init__(self, restricted: Iterable[str] = RESTRICTED, safe: Iterable[str] = (), own: str = "") -> None:
        self._own = os.path.realpath(own) if own else ""
        # Machines are often on another disk.
        self._machines = os.path.realpath(os.path.join(own, "datastores/0")) if own else ""
        self._restricted = [directory(path, "restricted_dirs") for path in restricted]
        self._safe = [directory(path, "safe_dirs") for path in safe]
        self._roots: dict[str, str] = {}

    def refuse(self, asked: str, path: str) -> None:
        """Raise InvalidValue for a file of a context that is restricted. path: without symbolic links."""
        if is_below(path, self._safe):
            return
        below, root = is_below(path, self._restricted), self._root_of(path)
        if below or root:
            raise _refused(asked, path, below, root)

    def refuse_medium(self, asked: str, path: str) -> None:
        """Raise InvalidValue for an image, a kernel or a firmware that is restricted. Of nebula_root, images may be
        named, and whatever a user has put there."""
        real = os.path.realpath(path)
        if self._own and is_below(real, [self._own, self._machines]):
            if is_below(real, [self._machines]) or _is_private(os.path.relpath(real, self._own)):
                raise InvalidValue(
                    asked, f"{real} is what nebula.provision keeps in its nebula_root, {self._own}", "Name another file"
                )
            return
        if is_below(real, self._safe):
            return
        media = is_below(real, map(os.path.realpath, _MEDIA))
        below, root = "", self._root_of(real)
        for place in self._restricted:
            if is_below(real, [place]) and not (media and media != place and is_below(media, [place])):
                below = place
        if below or root:
            raise _refused(asked, real, below, root)

    def refuse_directory(self, asked: str, path: str) -> None:
        """Raise InvalidValue for a directory in which a guest, which writes there as root, could take this host over:
        one that is restricted or the system's, or that holds such a one."""
        real = os.path.realpath(path)
        own = [place for place in (self._own, self._machines) if place]
        if is_below(real, own) or self._root_of(real):
            raise InvalidValue(asked, f"{real} is in a nebula_root", "Name another directory")
        kept = own if is_below(real, self._safe) else [*own, *self._restricted, *map(os.path.realpath, _SYSTEM)]
        below = is_below(real, kept)
        if below:
            raise _refused(asked, real, below, "")
        held = next((place for place in kept if is_below(place, [real])), "")
        if held:
            raise InvalidValue(asked, f"it holds {held}, which is restricted", "Name a directory that does not")

    def _root_of(self, path: str) -> str:
        """Return the nebula_root that the path is in, "" if it is in none."""
        place = os.path.dirname(path)
        if place not in self._roots:
            marked = any(map(_is_roots, (os.path.join(place, mark) for mark in _MARKS)))
            self._roots[place] = place if marked else "" if place == "/" else self._root_of(place)
        return self._roots[place]


def root_of(path: str) -> str:
    """Return the nebula_root that the path is in, "" if it is in none."""
    return Rules((), ())._root_of(os.path.join(path, ""))


def directory(path: str, option: str) -> str:
    if not path.startswith("/"):
        raise InvalidValue(f"option {option}: {path!r}", "it is not an absolute path", "Name it from / on")
    return os.path.realpath(path)


def is_below(path: str, directories: Iterable[str]) -> str:
    """Return the first of the directories that the path is or is in, "" if there is none."""
    return next((d for d in directories if path == d or path.startswith(d.rstrip("/") + "/")), "")


def _is_roots(path: str) -> bool:
    # What somebody else has put into /tmp, say, marks nothing.
    try:
        return os.lstat(path).st_uid in (0, os.geteuid())
    except OSError:
        return False


def _is_private(inside: str) -> bool:
    """Return whether nothing may be taken from a path below a nebula_root. inside: the path from that on."""
    first = inside.partition("/")[0]
    if first in ("datastores", "cache"):
        return _SHARED.fullmatch(inside) is None
    return first in ("boot", "files", "transfer") or first.startswith(_MARKS) or first.startswith(".")


def _refused(asked: str, path: str, below: str, root: str) -> InvalidValue:
    found = f"{path} is below {below}, which is restricted"
    if not below:
        found = f"{path} is below {root}, which is the nebula_root of a front-end or a node"
    return InvalidValue(asked, found, "Put it elsewhere, or name its directory in safe_dirs (nebula_safe_dirs)")
