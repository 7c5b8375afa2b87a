# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a program that reads what a stranger or a guest could have written, with nothing around it but that.

It has namespaces of its own for mounts, network, processes and IPC. Of the host's files it sees the programs and
libraries of /usr, read-only, and those that are named. It has no capabilities, can't gain any, and is a user of its
own where the owners of the files allow that. As its root is a directory (chroot), the kernel refuses it user
namespaces."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from ..dataclass import dataclass
from ..errors import NebulaError
from . import command, unsandboxed_programs
from .files import explained

# What is done with a named file.
READ, WRITE = "read", "write"
# A file that the program makes: it is there, empty, before the program starts.
NEW = "new"
# A user that no distribution, container or systemd gives to anybody: beyond the ranges of all of them.
USER = 2000111000
_LIBRARIES = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_CACHE = "/etc/ld.so.cache"
_ACL = "system.posix_acl_access"
_PROBE_SECONDS = 30.0
_BITS = {READ: 4, WRITE: 6, NEW: 6}
# No word of a user is part of this text: all of them are its arguments. /sys is a directory that each host has, and
# none of these programs needs; nothing that is named lies below it.
_SCRIPT = """
set -e
cpu=$1 memory=$2 kept=; shift 2
umask 022
mount -t tmpfs -o size=4m,mode=755,nosuid,nodev,noexec nebula-sandbox /sys
cd /sys
mkdir dev usr
while [ "$1" != -- ]; do
    case $1 in
        copy) kept="$kept $2" ;;
        directory) [ -d ".$2" ] || mkdir -p ".$2"; mount -o "$3" "$2" ".$2" ;;
        file) [ -d ".${2%/*}" ] || mkdir -p ".${2%/*}"; [ -e ".$2" ] || : > ".$2"; mount -o "$3" "$2" ".$2" ;;
        input) mkdir proc; mount -t proc -o "$3" nebula-sandbox proc; ln -s /proc/self/fd/0 dev/stdin ;;
        scratch) mkdir -p ".$2"; mount -t tmpfs -o "$3" nebula-sandbox ".$2" ;;
    esac
    shift 3
done
shift
[ -z "$kept" ] || cp -P --parents $kept .
[ "$cpu" = - ] || ulimit -t "$cpu"
[ "$memory" = - ] || ulimit -v "$memory"
exec chroot . "$@"
"""
_NAMESPACES = ("unshare", "--mount", "--net", "--ipc", "--pid", "--fork", "--kill-child")
# For a program that whoever started it ends by a signal: unshare would stand between them.
_SIGNALLED = ("unshare", "--mount", "--ipc")


@lru_cache(maxsize=1)
def why_unavailable() -> str:
    """Return why programs run without a sandbox here, "" if they do not. It is tried once in each process."""
    if os.geteuid() != 0:
        # Whoever is not root has no privileges to take away, and can't make namespaces without gaining some.
        return "this is not root"
    try:
        done = command.run(["true"], before=_words_before("true", {}, _User(USER)), timeout=_PROBE_SECONDS, check=False)
    except NebulaError as error:
        return error.found
    return "" if done.returncode == 0 else command.last_lines(done.stderr, 1) or f"it ended with {done.returncode}"


def offline_words() -> list[str]:
    """Return the words before a program that is to have no network, and the host's files as they are."""
    return [] if why_unavailable() else ["unshare", "--net", "--"]


def sandbox_words(program: str, memory: int) -> list[str]:
    """Return the words before a program that reads and writes nothing but its pipes, for callers that stream through
    it; none where there can be no sandbox.
    memory: bytes of address space that it may have then."""
    if why_unavailable():
        unsandboxed_programs.note(program, why_unavailable())
        return []
    return _words_before(program, {}, _User(USER), memory)


def run(
    argv: Sequence[str],
    files: Mapping[str, str],
    *,
    timeout: float,
    memory: int | None = None,
    cpu: int | None = None,
    input: str | None = None,
    check: bool = True,
    most: int = command.OUTPUT_LIMIT,
    descriptors: Sequence[int] = (),
    end_with_us: bool = False,
) -> command.Completed:
    """Run a program to its end, as command.run() does.
    files: whole paths without links, with what is done with each. Nothing else of their directories is there for
    the program.
    input: the program finds it as /dev/stdin, and descriptors below /proc/self/fd.
    end_with_us: it ends with this process, however this process ends."""
    first = command.words_to_end_with_us() if end_with_us else []
    with _new_files(files):
        if why_unavailable():
            unsandboxed_programs.note(argv[0], why_unavailable())
            return command.run(
                argv, before=first, timeout=timeout, memory=memory, cpu=cpu, input=input, check=check, most=most,
                descriptors=descriptors,
            )  # fmt: skip
        with _owned_by_user(files, input is not None) as user:
            before = [*first, *_words_before(argv[0], files, user, memory, cpu, input is not None)]
            return command.run(
                argv, before=before, timeout=timeout, input=input, check=check, most=most, descriptors=descriptors
            )


@contextlib.contextmanager
def words_around(
    program: str, files: Mapping[str, str], *, memory: int | None = None, cpu: int | None = None
) -> Iterator[list[str]]:
    """Yield the words before a program that is talked to while it runs, and is ended by its process group; none where
    there can be no sandbox. It is process 1 of its own namespace, and finds its input as /dev/stdin.
    files, memory, cpu: as run() has them."""
    if why_unavailable():
        unsandboxed_programs.note(program, why_unavailable())
        yield []
        return
    with _owned_by_user(files, True) as user:
        yield _words_before(program, files, user, memory, cpu, True)


@contextlib.contextmanager
def started(
    argv: Sequence[str],
    files: Mapping[str, str],
    *,
    memory: int | None = None,
    cpu: int | None = None,
    descriptors: Sequence[int] = (),
    **streams: Any,
) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a program while it runs, as command.start() does; it ends with this process, however this process ends.
    files, descriptors: as run() takes them."""
    streams["pass_fds"] = tuple(descriptors)
    first = command.words_to_end_with_us()
    with _new_files(files), contextlib.ExitStack() as held:
        if why_unavailable():
            unsandboxed_programs.note(argv[0], why_unavailable())
            yield held.enter_context(command.start(argv, before=first, memory=memory, cpu=cpu, **streams))
            return
        user = held.enter_context(_owned_by_user(files, input=False))
        before = [*first, *_words_before(argv[0], files, user, memory, cpu, bool(descriptors))]
        yield held.enter_context(command.start(argv, before=before, **streams))


def sandbox_words_without_processes(
    program: str, *, network: bool, devices: Sequence[str], files: Sequence[str], scratch: str
) -> list[str]:
    """Return the first words of a sandbox for a program that is known with all its files only when something else
    starts it, and ends it by a signal: it has no namespace for processes.

    What has to follow: "file", a path and FILE or FILE_READ, for each file; "--"; who drops the privileges, as
    dropped() says; the program.
    scratch: the size of the tmpfs for its temporary files."""
    words = [word for path in devices for word in ("file", path, "bind,nosuid")]
    words += [word for path in files for word in ("file", path, FILE_READ)]
    words += ["scratch", "/var/tmp", f"size={scratch},mode=1777,nosuid,nodev,noexec"]
    namespaces = [*_SIGNALLED, *([] if network else ["--net"])]
    return [*namespaces, "--", "sh", "-c", _SCRIPT, "sandbox", "-", "-", *_programs(program), *words]


# How a file is handed over whose kind is known.
FILE, FILE_READ = "bind,nosuid,nodev", "bind,nosuid,nodev,ro"


@dataclass(frozen=True)
class _User:
    """Describes as whom a program runs.
    groups: further groups, beside its own.
    overrides: whether it may open files whose modes forbid it."""

    uid: int
    groups: tuple[int, ...] = ()
    overrides: bool = False

    def options(self) -> list[str]:
        return ["setpriv", "--reuid", str(self.uid), *setpriv_words(self.uid, self.groups, self.overrides)]


def setpriv_words(gid: int, groups: Sequence[int], overrides: bool = False) -> list[str]:
    """Return the words for setpriv besides the user."""
    capabilities = "-all,+dac_override" if overrides else "-all"
    more = ["--groups", ",".join(map(str, groups))] if groups else ["--clear-groups"]
    return [
        "--regid", str(gid), *more, "--no-new-privs",
        "--inh-caps=-all", f"--bounding-set={capabilities}", "--pdeathsig", "KILL", "--",
    ]  # fmt: skip


def _words_before(
    program: str,
    files: Mapping[str, str],
    user: _User,
    memory: int | None = None,
    cpu: int | None = None,
    input: bool = False,
) -> list[str]:
    """Return the words that go before those of the program."""
    words = _programs(program)
    for path, use in files.items():
        words += ["file", path, _mounted(path, use)]
    if input:
        words += ["input", "", "ro,nosuid,nodev,noexec"]
    # Limits are set inside: out here, what is to have them may have been started already.
    limits = ["-" if cpu is None else str(cpu), "-" if memory is None else str(memory // 1024)]
    return [*_NAMESPACES, "--", "sh", "-c", _SCRIPT, "sandbox", *limits, *words, "--", *user.options()]


def _programs(program: str) -> list[str]:
    """Return the words that show the host's programs, and this program wherever it lies."""
    words: list[str] = []
    for path in (*_LIBRARIES, _CACHE):
        if os.path.islink(path) or os.path.isfile(path):
            words += ["copy", path, ""]
        elif os.path.isdir(path):
            words += ["directory", path, _mounted(path, READ)]
    words += ["directory", "/usr", _mounted("/usr", READ)]
    # Without it, QEMU thinks that there are no locks.
    words += ["file", os.devnull, "bind"]
    found = os.path.realpath(command.find(program))
    return words if found.startswith("/usr/") else [*words, "file", found, "bind,ro"]


def _mounted(path: str, use: str) -> str:
    options = ["bind", "nosuid"]
    if use == READ:
        options.append("ro")
    with contextlib.suppress(OSError):
        if not stat.S_ISBLK(os.stat(path).st_mode):
            options.append("nodev")
    return ",".join(options)


@contextlib.contextmanager
def _new_files(files: Mapping[str, str]) -> Iterator[None]:
    """Make the files that are NEW, so that they are there and belong to nobody else."""
    for path, use in files.items():
        if use == NEW:
            with explained(path):
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    yield


@contextlib.contextmanager
def _owned_by_user(files: Mapping[str, str], input: bool) -> Iterator[_User]:
    """Yield as whom the program runs. Files that are NEW belong to that user while it does."""
    user = _program_user(files, input)
    new = [path for path, use in files.items() if use == NEW]
    mine = os.geteuid()
    try:
        if user.uid != mine:
            for path in new:
                os.chown(path, user.uid, -1, follow_symlinks=False)
    except OSError:
        # A file system where root is not the owner of everything, as NFS may be one.
        user = _User(mine, overrides=True)
    try:
        yield user
    finally:
        for path in new:
            with contextlib.suppress(OSError):
                os.chown(path, mine, -1, follow_symlinks=False)


def _program_user(files: Mapping[str, str], input: bool) -> _User:
    """Return the user of its own, unless the owners of the files keep them to themselves; else root, without
    capabilities."""
    found = {path: os.stat(path) for path, use in files.items() if use != NEW}
    groups = tuple(sorted({status.st_gid for status in found.values()} - {0}))
    for uid in ([] if input else [USER]) + [os.geteuid()]:
        if all(_may_access(uid, groups, status, _BITS[files[path]], path) for path, status in found.items()):
            return _User(uid, groups)
    return _User(os.geteuid(), groups, overrides=True)


def _may_access(uid: int, groups: Sequence[int], status: os.stat_result, bits: int, path: str) -> bool:
    if status.st_uid == uid:
        return status.st_mode >> 6 & bits == bits
    with contextlib.suppress(OSError):
        if os.getxattr(path, _ACL):
            # What its mode says of the group is not what holds then.
            return False
    return status.st_mode >> (3 if status.st_gid in groups else 0) & bits == bits
