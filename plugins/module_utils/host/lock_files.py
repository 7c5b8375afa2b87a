# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes lock files that only root can open, and finds out who holds a lock.

Whoever can open a file or directory, if only for reading, can hold a lock on it for ever (flock(2)). So runs are
kept apart by a file of root's own for each path that is locked, in a directory that nobody else can enter. It is
there as long as it is held or waited for. Another user has no such files: nobody else waits for what that user
locks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import stat
import struct
import time
from collections.abc import Sequence
from pathlib import Path

from ..dataclass import dataclass
from ..errors import ForeignObject, TimedOut
from ..printable import ONE_LINE, printable
from .real_paths import real_path

PLACE = "/run/nebula-provision"
LOCKS = "/proc/locks"
# Of a path, in the name of its file: enough to recognise it.
_SHOWN = 120


@dataclass(frozen=True)
class Lock:
    """Describes a lock file that this process holds."""

    path: str
    fd: int


class Waiting:
    """Spends the time that there is to wait for a lock, in pauses that get longer: the kernel has no flock with a time
    limit that works in threads."""

    def __init__(self, path: str, timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        self._limit = time.monotonic() + timeout
        self._pause = 0.005

    def pause(self, holders: Sequence[int]) -> None:
        """Wait for a moment. Raise TimedOut where no time is left.
        holders: the processes that have the lock, as far as they can be seen."""
        left = self._limit - time.monotonic()
        if left <= 0:
            known = ", ".join(process_text(pid) for pid in holders)
            raise TimedOut(
                f"lock of {self._path}",
                (f"another run has held it for over {self._timeout:g} s" if self._timeout else "another run holds it")
                + (f": {known}" if known else ""),
                "Wait for it to end, then run again",
            )
        time.sleep(min(self._pause, left))
        self._pause = min(self._pause * 2, 0.1)


def reserve(path: str, waiting: Waiting, shared: bool) -> Lock | None:
    """Hold the lock file that stands for `path`; None for another user than root, who has no lock files."""
    if os.geteuid() != 0:
        return None
    name = file_of(path)
    while True:
        fd = _open_or_make(name)
        try:
            taken = take(fd, shared)
            # Its last holder has removed it.
            if taken and is_still(name, fd):
                return Lock(name, fd)
            who = () if taken else holders(fd)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        if not taken:
            waiting.pause(who)


def release(lock: Lock) -> None:
    """Give the lock back. The last holder removes its file."""
    try:
        with contextlib.suppress(OSError):
            if take(lock.fd, shared=False) and is_still(lock.path, lock.fd):
                os.unlink(lock.path)
                os.rmdir(PLACE)
    finally:
        os.close(lock.fd)


def file_of(path: str) -> str:
    """Return the path of the lock file for a path, in which links are resolved."""
    real = real_path(path)
    shown = re.sub("[^A-Za-z0-9.-]+", "_", real)[-_SHOWN:].strip("_")
    return os.path.join(PLACE, f"{shown}-{hashlib.sha256(os.fsencode(real)).hexdigest()[:16]}.lock")


def take(fd: int, shared: bool) -> bool:
    """Lock what is open, without waiting. Return False where somebody else has it locked."""
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EINTR):
            raise
        return False
    return True


def holders(fd: int) -> tuple[int, ...]:
    """Return the processes that hold a flock on what is open. The kernel does not name a process that has ended and
    left the lock to its children, nor one of another machine or outside of this pid namespace."""
    found = os.fstat(fd)
    device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
    exact: list[int] = []
    others: list[int] = []
    with contextlib.suppress(OSError):
        for line in Path(LOCKS).read_text(encoding="ascii", errors="replace").splitlines():
            # "1: FLOCK  ADVISORY  WRITE 4711 08:01:131078 0 EOF"; after an arrow, one that waits.
            words = line.split()
            if len(words) < 6 or words[1] != "FLOCK" or not words[4].isdecimal():
                continue
            place, _colon, inode = words[5].rpartition(":")
            if inode == str(found.st_ino):
                # btrfs and overlays have other numbers here than stat() tells.
                (exact if place == device else others).append(int(words[4]))
    return tuple(dict.fromkeys(exact or others))


def record_holder(fd: int) -> int:
    """Return the process that holds a lock by records (POSIX) on the file, 0 if none in this pid namespace does."""
    # struct flock: what kind of lock would be in the way of one for writing.
    wanted = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _whence, _start, _length, pid = struct.unpack("hhqqi", fcntl.fcntl(fd, fcntl.F_GETLK, wanted)[:28])
    return 0 if kind == fcntl.F_UNLCK else max(0, int(pid))


def is_trusted(pid: int) -> bool:
    """Return whether the process is one of root's or ours. A program that is set-uid root is not: its real user
    counts."""
    with contextlib.suppress(OSError, ValueError):
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
        found = re.search(r"^Uid:\s+(\d+)", status, re.MULTILINE)
        return found is not None and int(found[1]) in (0, os.getuid())
    return False


def process_text(pid: int) -> str:
    """Return a process as errors name it, without its arguments: anybody chooses them, and they may hold secrets."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return f"process {pid}"
    return f"process {pid} ({printable(name, ONE_LINE)})"


def is_still(path: str, fd: int) -> bool:
    """Return whether `path` is still exactly the file that is open: its last holder may have removed it meanwhile."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return False
    mine = os.fstat(fd)
    return (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino)


def _open_or_make(name: str) -> int:
    while True:
        _make_place()
        # It is gone where another run has just given back its last lock.
        with contextlib.suppress(FileNotFoundError):
            return os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _make_place() -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(PLACE, 0o700)
    with contextlib.suppress(FileNotFoundError):
        found = os.lstat(PLACE)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0:
            raise ForeignObject(
                f"directory {PLACE}", "something that root did not make is there", "See what it is; remove it"
            )
        if stat.S_IMODE(found.st_mode) != 0o700:
            os.chmod(PLACE, 0o700)
