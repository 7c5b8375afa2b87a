# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that fails at a call of one's choice: what a program and all that it starts write below a directory.

    faults = Faults(root)
    run(env=faults.environment())                          # nothing fails
    faults.calls                                           # ["create /nebula.db", "pwrite64 /nebula.db", …]
    run(env=faults.environment(7, errno.ENOSPC, stays=True))

Daemons that were running before are not reached: for those, a file system that is really full."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

# In place of an error: whoever calls stops, or is killed, with its process group.
STOPS, IS_KILLED = 0, -1
# Calls that change a file's content; creation and the like change its directory's.
WRITES = ("write", "writev", "pwrite", "pwrite64", "pwritev", "pwritev64", "ftruncate", "truncate", "fallocate",
          "fallocate64", "truncate64")  # fmt: skip
SYNCS = ("fsync", "fdatasync")
MAKES = ("create", "mkdir", "mkdirat", "symlink", "link")
SOURCE = Path(__file__).with_name("faults.c")


@functools.cache
def library() -> Path:
    """Compiled once per process, next to what is temporary anyway."""
    directory = Path(tempfile.mkdtemp(prefix="faults-"))
    target = directory / "faults.so"
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", str(target), str(SOURCE), "-ldl"], check=True)
    return target


class Faults:
    def __init__(self, root: Path | str, place: Path | str) -> None:
        """place: a directory outside of root."""
        self.root = os.path.realpath(root)
        self.counter = Path(place, "faults.counter")
        self.log = Path(place, "faults.log")

    def environment(
        self,
        at: int = 0,
        number: int = errno.ENOSPC,
        stays: bool = False,
        lies: str = "",
        connects: bool = False,
    ) -> dict[str, str]:
        """For one run; the count begins anew.
        number: an error's, STOPS or IS_KILLED.
        lies: syncs of paths that hold this are not done.
        connects: connections to sockets count as well."""
        self.counter.write_bytes(bytes(8))
        self.log.write_bytes(b"")
        told = {"FAULTS_LIES": lies} if lies else {}
        return {
            **told,
            "LD_PRELOAD": str(library()),
            "FAULTS_ROOT": self.root,
            "FAULTS_COUNTER": str(self.counter),
            "FAULTS_LOG": str(self.log),
            "FAULTS_AT": str(at),
            "FAULTS_ERRNO": str(number),
            "FAULTS_STAYS": str(int(stays)),
            "FAULTS_CONNECTS": str(int(connects)),
        }

    def processes(self) -> list[int]:
        """Those that were started with the environment, and are still there."""
        found = []
        for place in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if place.name.isdigit() and str(self.counter).encode() in (place / "environ").read_bytes():
                    found.append(int(place.name))
        return found

    @property
    def calls(self) -> list[str]:
        """What the last run called, in order: "pwrite64 /nebula.db", with " !" behind what failed."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return [text.split(" ", 1)[1] for text in sorted(lines, key=lambda text: int(text.split(" ", 1)[0]))]

    @property
    def reached(self) -> bool:
        """Whether the call that is to fail has come."""
        return any(call.endswith(" !") for call in self.calls)


def unsettled(calls: Sequence[str]) -> list[str]:
    """What POSIX lets a power cut take or spoil after these calls: content without a sync of its file, names without
    one of their directory, and renames whose new content may come after the new name."""
    dirty: set[str] = set()
    early: set[str] = set()
    names: dict[str, set[str]] = {}
    new: set[str] = set()
    for call in calls:
        kind, _blank, path = call.removesuffix(" !").partition(" ")
        if kind in WRITES:
            dirty.add(path)
        elif kind in SYNCS:
            dirty.discard(path)
            names.pop(path, None)
        elif kind in MAKES:
            new.add(path)
            names.setdefault(os.path.dirname(path).rstrip("/"), set()).add(path)
        elif kind == "rename":
            path, _less, source = path.partition(" < ")
            (early.add if source in dirty else early.discard)(path)
            dirty.discard(path)
            if source in dirty:
                dirty.discard(source)
                dirty.add(path)
            _forget(names, new, source)
            names.setdefault(os.path.dirname(path).rstrip("/"), set()).add(path)
        elif kind in ("unlink", "rmdir"):
            dirty.discard(path)
            early.discard(path)
            names.pop(path, None)
            if not _forget(names, new, path):
                names.setdefault(os.path.dirname(path).rstrip("/"), set()).add(path)
    return sorted(
        [f"content of {path}" for path in dirty]
        + [f"name before content: {path}" for path in early - dirty]
        # That of the root itself is in a directory that is not looked at.
        + [f"name {path}" for waiting in names.values() for path in waiting if path]
    )


def _forget(names: dict[str, set[str]], new: set[str], path: str) -> bool:
    """A name that came and went within the run leaves nothing to be settled."""
    if path not in new:
        return False
    new.discard(path)
    directory = os.path.dirname(path).rstrip("/")
    names.get(directory, set()).discard(path)
    if directory in names and not names[directory]:
        del names[directory]
    return True
