# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes files of this host whole or not at all, locks them with a time limit, and reads them with a limit of size."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import hashlib
import os
import pwd
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, BinaryIO, Callable, Union

from ..errors import InvalidValue, NebulaError, NoSpace, NotFound, StorageFailed
from . import lock_files

Owner = Union[str, int, None]
Content = Union[str, bytes, Callable[[BinaryIO], None]]
_BLOCK = 1024 * 1024
_SMALL = 1 << 16
_FICLONE = 0x40049409
# Files that go to the disk at the same time: it writes what waits for it all at once.
_AT_ONCE = 16
# How a file is opened that is to be a new one.
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


def write_atomically(
    path: str,
    content: Content,
    mode: int = 0o600,
    owner: Owner = None,
    group: Owner = None,
    sync: bool = True,
    followed: bool = False,
) -> bool:
    """Make the file at `path` hold `content`, and return whether anything about it changed.

    A reader sees the old file or the new one, also after a power cut (unless sync is False). What is the same
    already is not written.
    content: text, bytes, or a function that writes to the binary file it is given.
    followed: another file is written into the same directory next, which brings the names of both to the disk.
    owner, group: names or numbers; None leaves them as they are (or come)."""
    directory = os.path.dirname(path) or "."
    uid, gid = user_id(owner), group_id(group)
    if isinstance(content, str):
        content = content.encode()
    if isinstance(content, bytes) and _has_content(path, content):
        return adopt(path, mode, uid, gid)
    with explained(path):
        fd, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", suffix=".tmp", dir=directory)
    left = True
    try:
        with explained(path), os.fdopen(fd, "wb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)
            file.flush()
            if not isinstance(content, bytes) and _is_same_file(path, temporary):
                return adopt(path, mode, uid, gid)
            if (uid, gid) != (-1, -1):
                os.fchown(file.fileno(), uid, gid)
            os.fchmod(file.fileno(), mode)
            if sync:
                os.fsync(file.fileno())
        with explained(path):
            os.rename(temporary, path)
            left = False
            if sync and not followed:
                sync_directory(directory)
        return True
    finally:
        if left:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)


def write_all(directory: str, files: Mapping[str, str], mode: int = 0o600) -> None:
    """Write files into the directory, each as write_atomically() does, and none of them if that fails before all are
    on the disk. They go there together: one after the other, each would wait for it twice."""
    new: dict[str, str] = {}
    try:
        for name, content in files.items():
            path, data = os.path.join(directory, name), content.encode()
            if _has_content(path, data):
                adopt(path, mode)
                continue
            with explained(path):
                fd, temporary = tempfile.mkstemp(prefix=f".{name}.", suffix=".tmp", dir=directory)
                new[temporary] = path
                with os.fdopen(fd, "wb") as file:
                    file.write(data)
                    os.fchmod(file.fileno(), mode)
        _settle_all(new)
        for temporary, path in new.items():
            with explained(path):
                os.rename(temporary, path)
        if new:
            with explained(directory):
                sync_directory(directory)
    finally:
        for temporary in new:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)


def _settle_all(new: Mapping[str, str]) -> None:
    """Bring the files to the disk.
    new: files, each with the path that it is to have, which an error names."""
    # Most modules write no files.
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_AT_ONCE) as workers:
        for path, settled in [(path, workers.submit(settle, temporary)) for temporary, path in new.items()]:
            with explained(path):
                settled.result()


def remove_file(path: str, sync: bool = False) -> bool:
    """Return whether there was a file. sync: a power cut does not bring it back."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    except IsADirectoryError as error:
        raise explain(error, path) from error
    if sync:
        sync_directory(os.path.dirname(path))
    return True


def remove_empty_directory(path: str) -> bool:
    """Return whether the directory is gone now, for good; one that holds something stays."""
    try:
        os.rmdir(path)
        sync_directory(os.path.dirname(path))
    except OSError:
        return False
    return True


def make_directory(path: str, mode: int = 0o711, owner: Owner = None, group: Owner = None) -> bool:
    """Make the directory, and missing parents alike, and return whether anything changed. Existing parents stay as
    they are."""
    uid, gid = user_id(owner), group_id(group)
    if os.path.islink(path) and os.path.isdir(path):
        # An administrator's way to have it on another file system: what is there keeps its mode and owner.
        _refuse_strangers_link(path)
        return False
    changed = False
    missing = []
    place = os.path.abspath(path)
    while not os.path.isdir(place):
        missing.append(place)
        place = os.path.dirname(place)
    for directory in reversed(missing):
        with explained(directory):
            with contextlib.suppress(FileExistsError):
                os.mkdir(directory, 0o700)
                changed = True
            # A device or a file of that name must not get a directory's mode.
            if not os.path.isdir(directory):
                raise InvalidValue(
                    f"directory {directory}", "something else of that name is there", "Name another place"
                )
            # Before what may fail: where it does, no directory is left that the next run takes for somebody's.
            adopt(directory, mode, uid, gid)
            sync_directory(os.path.dirname(directory))
    return adopt(path, mode, uid, gid) or changed


def make_own_directory(path: str) -> bool:
    """Make a directory as make_directory() does, with mode 0700, for files that are believed because they lie there.
    Raise InvalidValue where another user owns the directory, or could write to it up to now: its content may be
    that user's."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return make_directory(path, 0o700)
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
        owner = f"user {found.st_uid} owns it" if found.st_uid not in (0, os.geteuid()) else "others may write to it"
        raise InvalidValue(
            f"directory {path}",
            f"{owner}, who could have put there what root takes for its own",
            f"See what it is, and remove it; it is made anew: rm -r {path}",
        )
    return make_directory(path, 0o700)


def adopt(path: str, mode: int | None, uid: int = -1, gid: int = -1) -> bool:
    """Give a file or directory this mode and owner, and return whether it had others. A link is refused."""
    with explained(path), closing_fd(os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)) as fd:
        found = os.fstat(fd)
        if stat.S_ISLNK(found.st_mode):
            raise is_a_link(path)
        # The very thing that was looked at, whatever has its name by now.
        itself = f"/proc/self/fd/{fd}"
        changed = False
        if uid not in (-1, found.st_uid) or gid not in (-1, found.st_gid):
            os.chown(itself, uid, gid)
            changed = True
        if mode is not None and mode != stat.S_IMODE(found.st_mode):
            os.chmod(itself, mode)
            changed = True
        return changed


def require_absolute(path: str, asked: str) -> None:
    """Raise InvalidValue for a relative path. With a local connection a module runs in the directory of the playbook,
    which may be that of the installed collection."""
    if not os.path.isabs(path):
        raise InvalidValue(asked, "the path is not absolute", "Give the full path on this host")


def refuse_exchangeable(path: str) -> None:
    """Raise InvalidValue if anybody but root, or the user who runs this, could exchange `path` or put files into it."""
    trusted = (0, os.geteuid())
    for end in dict.fromkeys((os.path.abspath(path), os.path.realpath(path))):
        place = end
        while True:
            with explained(place), contextlib.suppress(FileNotFoundError, NotADirectoryError):
                found = os.stat(place)
                open_to_all = bool(found.st_mode & stat.S_IWOTH)
                # In a sticky directory (/tmp) everybody may make files, and nobody exchange another's.
                sticky = bool(found.st_mode & stat.S_ISVTX) and place != end
                if found.st_uid not in trusted or (open_to_all and not sticky):
                    why = "everybody may write to" if open_to_all else f"user {found.st_uid} owns"
                    raise InvalidValue(
                        f"directory {path}",
                        f"{why} {place}, and could put other files in the place of ours",
                        "Choose a place that only root can change, or change that owner and mode",
                    )
            if place == "/":
                break
            place = os.path.dirname(place)


def _refuse_strangers_link(path: str) -> None:
    owner = os.lstat(path).st_uid
    if owner not in (0, os.geteuid()):
        raise InvalidValue(f"directory {path}", f"it is a link that user {owner} made", "See where it leads; remove it")


@contextlib.contextmanager
def lock(path: str, timeout: float = 60.0, shared: bool = False, is_closed: bool = False) -> Iterator[int]:
    """Hold the file or directory at `path` against all who lock it too, and yield its descriptor.

    A file is made if it is missing; raise NotFound for a missing directory. The kernel gives the lock back when the
    process ends, however it ends.
    timeout: seconds to wait (0: do not), then TimedOut names the process that holds it.
    is_closed: nobody but root can open it, so that whoever holds it is waited for: it may be root of another machine,
    whom this one's kernel does not name."""
    waiting = lock_files.Waiting(path, timeout)
    with (
        _with_lock_file(path, waiting, shared) as has_file,
        closing_fd(_locked(path, waiting, shared, has_file and not is_closed)) as fd,
    ):
        yield fd


@contextlib.contextmanager
def shared(fd: int, path: str) -> Iterator[None]:
    """Hold the file at `path`, which may be anybody's and is open for reading, with others who only read it. Raise
    TimedOut if a run has it locked."""
    waiting = lock_files.Waiting(path, 0)
    with _with_lock_file(path, waiting, True) as alone:
        # Where the file system knows no such locks, nobody holds one.
        with contextlib.suppress(OSError):
            if not lock_files.take(fd, True):
                holders = lock_files.holders(fd)
                if not alone or any(map(lock_files.is_trusted, holders)):
                    waiting.pause(holders)
        yield


@contextlib.contextmanager
def _with_lock_file(path: str, waiting: lock_files.Waiting, shared: bool) -> Iterator[bool]:
    """Hold the lock file that stands for `path`, which nobody but root can open; whether this user has such files."""
    with explained(lock_files.PLACE):
        mine = lock_files.reserve(path, waiting, shared)
    try:
        yield mine is not None
    finally:
        if mine is not None:
            lock_files.release(mine)


def _locked(path: str, waiting: lock_files.Waiting, shared: bool, alone: bool) -> int:
    """Return a descriptor of the object itself, locked. Runs of versions before know no other lock, and in a
    container, where the object has another path, it is all there is.
    alone: whether another lock keeps runs of this version apart already."""
    while True:
        fd = _open_for_lock(path)
        try:
            taken = lock_files.take(fd, shared)
            holders = () if taken else lock_files.holders(fd)
            # Whoever can open it can lock it too. Other users of the host are not waited for.
            if (taken or (alone and not any(map(lock_files.is_trusted, holders)))) and lock_files.is_still(path, fd):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        # What was replaced meanwhile is looked at again at once.
        if not taken:
            waiting.pause(holders)


@contextlib.contextmanager
def closing_fd(fd: int) -> Iterator[int]:
    """Close the descriptor at the end."""
    try:
        yield fd
    finally:
        os.close(fd)


def reader(fd: int, buffering: int = -1) -> BinaryIO:
    """Return the descriptor as a file to be read. Close it where it can't be a file, as that of a directory."""
    try:
        return os.fdopen(fd, "rb", buffering)
    except BaseException:
        os.close(fd)
        raise


def opened(path: str | bytes, flags: int, dir_fd: int | None = None) -> contextlib.AbstractContextManager[int]:
    """Open a file for a block of code, by its descriptor. A file that this makes is its owner's alone."""
    return closing_fd(os.open(path, flags | os.O_CLOEXEC, 0o600, dir_fd=dir_fd))


def read_limited(path: str, limit: int, follow: bool = True) -> bytes:
    """Return the content of a regular file of at most `limit` bytes. Raise NotFound or InvalidValue. follow: it may be
    a link."""
    # O_NONBLOCK: a named pipe would wait for its writer.
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise is_a_link(path) from error
        raise NotFound(f"file {path}", error.strerror or str(error), "Check the path and its permissions") from error
    with closing_fd(fd):
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise InvalidValue(f"file {path}", "it is not a regular file", "Name a file")
        # One call for what has a size: most files are small, and many are read. Files of the kernel's have none.
        block, left = max(found.st_size + 1, _SMALL), limit + 1
        blocks: list[bytes] = []
        while left > 0 and (more := os.read(fd, min(block, left))):
            blocks.append(more)
            left -= len(more)
    if left <= 0:
        raise InvalidValue(f"file {path}", f"it holds more than {limit} bytes", "Name a smaller file")
    return blocks[0] if len(blocks) == 1 else b"".join(blocks)


def is_a_link(path: str) -> InvalidValue:
    return InvalidValue(
        f"path {path}", "a symbolic link is there, and links are not followed here", "See who put it there; remove it"
    )


def content_digest(file: IO[bytes]) -> str:
    """Return the SHA-256 of what is still to be read of the file."""
    digest = hashlib.sha256()
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()


def clone(source: int, target: int) -> bool:
    """Let the open file `target` share the content of the open file `source`. Return False where the file system
    can't."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True


def settle(path: str) -> None:
    """Have the kernel write to the disk what other processes have written to this file."""
    # What is no file, but a pipe that nobody writes to, is not waited for.
    with closing_fd(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)) as fd:
        os.fsync(fd)


def sync_directory(path: str) -> None:
    """Make a rename or removal in this directory survive a power cut."""
    fd = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        # It does not say of which file.
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        os.close(fd)


@contextlib.contextmanager
def explained(path: str) -> Iterator[None]:
    """Turn the operating system's errors about `path` into ours."""
    try:
        yield
    except OSError as error:
        raise explain(error, path) from error


def explain(error: OSError, path: str) -> NebulaError:
    reason = error.strerror or str(error)
    if error.errno == errno.ELOOP:
        return is_a_link(path)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"writing {path}", reason, "Make room on its file system, then run again")
    if error.errno == errno.EFBIG:
        return NoSpace(f"writing {path}", reason, "No file of this file system can be that large: ask for less")
    if error.errno == errno.EIO:
        return StorageFailed(
            f"writing {path}", reason, "Its disk, or the way to it, fails: see dmesg, mend that, then run again"
        )
    if error.errno == errno.EROFS:
        return StorageFailed(
            f"writing {path}",
            reason,
            "Its file system was mounted so, or became so after an error: see mount and dmesg, then run again",
        )
    if error.errno == errno.ENOENT:
        return NotFound(f"path {path}", reason, "Check the path")
    if error.errno in (errno.EACCES, errno.EPERM):
        return InvalidValue(f"path {path}", reason, "Run this task with become: true")
    return InvalidValue(f"path {path}", reason)


def why_not_writable(directory: str) -> NebulaError | None:
    """Return why nothing can be written in this directory, found out by writing; None if it can. It is for the errors
    of libraries that do not tell."""
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(bytes(64 * 1024))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return explain(error, directory)
    return None


def user_id(owner: Owner) -> int:
    """Return the number of a user; -1 for None, as chown() needs it."""
    return _number_of(owner, "user", lambda name: pwd.getpwnam(name).pw_uid)


def group_id(group: Owner) -> int:
    """Return the number of a group; -1 for None, as chown() needs it."""
    return _number_of(group, "group", lambda name: grp.getgrnam(name).gr_gid)


def _number_of(owner: Owner, kind: str, look_up: Callable[[str], int]) -> int:
    if owner is None or isinstance(owner, int):
        return -1 if owner is None else owner
    try:
        return look_up(owner)
    except KeyError:
        raise NotFound(
            f"{kind} {owner}", "this host does not have it", "Install what brings it, or name another"
        ) from None


def _has_content(path: str, data: bytes) -> bool:
    try:
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode) or found.st_size != len(data):
            return False
        return read_limited(path, len(data)) == data
    except (OSError, NebulaError):
        return False


def _is_same_file(path: str, other: str) -> bool:
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode) or os.path.getsize(path) != os.path.getsize(other):
            return False
        with Path(path).open("rb") as a, Path(other).open("rb") as b:
            while True:
                block = a.read(_BLOCK)
                if block != b.read(_BLOCK):
                    return False
                if not block:
                    return True
    except OSError:
        return False


def _open_for_lock(path: str) -> int:
    # O_NONBLOCK: a named pipe would wait for its other end; it is refused below.
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, 0o600)
    except IsADirectoryError:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise explain(error, path) from error
        if not os.path.isdir(path):
            raise is_a_link(path) from error
        _refuse_strangers_link(path)
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise InvalidValue(f"file {path}", "something else than a file is there", "See who put it there; remove it")
    return fd
