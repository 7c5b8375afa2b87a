# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs programs of this host: without a shell, under limits, ended with all that they started, and explained."""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import selectors
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..dataclass import dataclass
from ..errors import CommandFailed, MissingDependency, NebulaError, NoSpace, StorageFailed, TimedOut
from .files import refuse_exchangeable

# Which Debian package brings a program; others are assumed to be called as the program is.
PACKAGES = {
    "blkid": "util-linux",
    "brctl": "bridge-utils",
    "bunzip2": "bzip2",
    "debugfs": "e2fsprogs",
    "extlinux": "extlinux",
    "fallocate": "util-linux",
    "ip": "iproute2",
    "libvirt_lxc": "libvirt-daemon-driver-lxc",
    "libvirtd": "libvirt-daemon-system",
    "mkfs.ext2": "e2fsprogs",
    "mkfs.ext3": "e2fsprogs",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.vfat": "dosfstools",
    "mkfs.xfs": "xfsprogs",
    "mkswap": "util-linux",
    "mmd": "mtools",
    "nft": "nftables",
    "qemu-img": "qemu-utils",
    "qemu-io": "qemu-utils",
    "qemu-nbd": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "resize2fs": "e2fsprogs",
    "rrsync": "rsync",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "syslinux": "syslinux",
    "sysctl": "procps",
    "unxz": "xz-utils",
    "useradd": "passwd",
    "userdel": "passwd",
    "virsh": "libvirt-clients",
    "virtlogd": "libvirt-daemon",
    "vzctl": "vzctl from OpenVZ's own repository, as no distribution brings it",
    "xl": "xen-utils",
    "xm": "xen-utils",
    "xz": "xz-utils",
}
MIB = 1024 * 1024
# A program that prints more is cut off: a damaged image can make qemu-img print a line per cluster.
OUTPUT_LIMIT = 16 * MIB
ERROR_LIMIT = 64 * 1024
SHOWN_LINES = 5
_CHUNK = 64 * 1024
_SYSTEM = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin")
_NO_SPACE = ("No space left on device", "Disk quota exceeded", "File too large")
_BROKEN = ("Input/output error", "Read-only file system")


@dataclass(frozen=True)
class Completed:
    """Describes a program that has ended.
    returncode: negative for a signal.
    stderr: its last 64 KiB.
    seconds: how long it ran."""

    argv: Sequence[str]
    returncode: int
    stdout: str
    stderr: str
    seconds: float


def find(program: str) -> str:
    """Return the full path of a program. Raise MissingDependency, with the package that has it, where it is missing."""
    found = shutil.which(program, path=_path())
    if found is None:
        name = os.path.basename(program)
        raise MissingDependency(
            f"program {program}", "it is not on this host", f"Install the package {PACKAGES.get(name, name)}"
        )
    return found


def run(
    argv: Sequence[str],
    *,
    timeout: float,
    memory: int | None = None,
    cpu: int | None = None,
    input: bytes | str | None = None,
    env: Mapping[str, str] | None = None,
    check: bool = True,
    cwd: str | None = None,
    before: Sequence[str] = (),
    most: int = OUTPUT_LIMIT,
    descriptors: Sequence[int] = (),
) -> Completed:
    """Run a program to its end, and return how it ended.
    argv: the program and its arguments. Errors, and ps, show them to everyone on the host: secrets go through
    `input` or files.
    before: words of the programs that start it, which no error shows.
    timeout: seconds, then it is killed with all it started (TimedOut).
    memory: bytes of address space.
    cpu: seconds of processor time.
    check: raise CommandFailed (NoSpace where that was the cause) unless it ends with 0.
    most: bytes that it may print, then it is ended (CommandFailed).
    descriptors: open files of this process that it has as well, by the same numbers."""
    data = input.encode() if isinstance(input, str) else input
    began = time.monotonic()
    with start(
        argv,
        before=before,
        memory=memory,
        cpu=cpu,
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL if data is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=descriptors,
    ) as process:
        out, err = _converse(process, data, argv, began, timeout, most)
        try:
            # Output may end before the program does (a daemon closes its own).
            _wait_for_end(process, began + timeout)
            process.wait(max(0.0, began + timeout - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise _timed_out(argv, timeout, err) from None
    done = Completed(tuple(argv), process.returncode, _text(out), _text(err), time.monotonic() - began)
    if check and done.returncode != 0:
        raise failure_of(done)
    return done


@contextlib.contextmanager
def start(
    argv: Sequence[str],
    *,
    before: Sequence[str] = (),
    memory: int | None = None,
    cpu: int | None = None,
    env: Mapping[str, str] | None = None,
    **streams: Any,
) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a program while it runs, for callers that stream through it. What is left of it at the end is killed."""
    words = [*before, *argv]
    if before:
        find(argv[0])
    process = subprocess.Popen(
        words,
        executable=find(words[0]),
        env={**os.environ, "PATH": _path(), "LC_ALL": "C", "LANGUAGE": "", **(env or {})},
        start_new_session=True,
        bufsize=0,
        **streams,
    )
    try:
        # From outside, as a preexec_fn would fork the whole interpreter, unsafely when other threads run.
        with contextlib.suppress(ProcessLookupError):
            if memory is not None:
                resource.prlimit(process.pid, resource.RLIMIT_AS, (memory, memory))
            if cpu is not None:
                resource.prlimit(process.pid, resource.RLIMIT_CPU, (cpu, cpu + 1))
        yield process
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        process.wait()


def words_to_end_with_us() -> list[str]:
    """Return the words that stand before a program which is to end with this process, however this process ends."""
    # Whoever is killed before the kernel was asked for that leaves a program that finds itself with another parent.
    begin = 'test "$PPID" = "$0" || exit; exec "$@"'
    return ["setpriv", "--pdeathsig", "KILL", "sh", "-c", begin, str(os.getpid())]


def failure_of(done: Completed) -> NebulaError:
    """Return the error that describes how a program failed."""
    asked = f"command {shown(done.argv)}"
    if any(text in done.stderr for text in _NO_SPACE):
        return NoSpace(asked, last_lines(done.stderr), "Make room on that file system, then run again")
    if any(text in done.stderr for text in _BROKEN):
        return StorageFailed(
            asked, last_lines(done.stderr), "See dmesg, mend that file system or its disk, then run again"
        )
    if done.returncode < 0:
        try:
            name = signal.Signals(-done.returncode).name
        except ValueError:
            name = str(-done.returncode)
        ended = f"ended by signal {name}"
    else:
        ended = f"ended with code {done.returncode}"
    lines = last_lines(done.stderr) or last_lines(done.stdout)
    return CommandFailed(asked, f"{ended}: {lines}" if lines else ended)


def last_lines(text: str, count: int = SHOWN_LINES) -> str:
    return "\n".join([line.rstrip() for line in text.splitlines() if line.strip()][-count:])


def shown(argv: Sequence[str]) -> str:
    text = " ".join(shlex.quote(word) for word in argv)
    return text if len(text) <= 400 else text[:397] + "..."


def _converse(
    process: subprocess.Popen[bytes], data: bytes | None, argv: Sequence[str], began: float, timeout: float, most: int
) -> tuple[bytearray, bytearray]:
    out, err = bytearray(), bytearray()
    rest = memoryview(data or b"")
    with selectors.DefaultSelector() as selector:
        if process.stdin is not None:
            selector.register(process.stdin, selectors.EVENT_WRITE)
        selector.register(_stream(process.stdout), selectors.EVENT_READ, out)
        selector.register(_stream(process.stderr), selectors.EVENT_READ, err)
        while selector.get_map():
            left = began + timeout - time.monotonic()
            ready = selector.select(left) if left > 0 else []
            if not ready:
                raise _timed_out(argv, timeout, err)
            for key, _events in ready:
                if key.fileobj is process.stdin:
                    try:
                        rest = rest[os.write(key.fd, rest[:_CHUNK]) :]
                    except BrokenPipeError:
                        rest = rest[:0]
                    if not rest:
                        selector.unregister(key.fileobj)
                        _stream(process.stdin).close()
                    continue
                chunk = os.read(key.fd, _CHUNK)
                if not chunk:
                    selector.unregister(key.fileobj)
                    continue
                key.data.extend(chunk)
                if key.data is err:
                    del err[:-ERROR_LIMIT]
                elif len(out) > most:
                    raise CommandFailed(
                        f"command {shown(argv)}", f"it printed more than {most / MIB:g} MiB and was ended"
                    )
    return out, err


def _wait_for_end(process: subprocess.Popen[bytes], end: float) -> None:
    """Wait for the end of a program in the kernel, where that can be done. What Python does by itself is to look again
    after a sleep, which takes longer than many a program does."""
    try:
        fd = os.pidfd_open(process.pid)
    except (OSError, AttributeError):
        # A kernel before 5.3, or a Python that was built for one.
        return
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(fd, selectors.EVENT_READ)
            selector.select(max(0.0, end - time.monotonic()))
    finally:
        os.close(fd)


def _stream(stream: Any) -> Any:
    if stream is None:
        raise ValueError("a stream that was asked for is not there")
    return stream


def _timed_out(argv: Sequence[str], timeout: float, err: bytearray) -> TimedOut:
    lines = last_lines(_text(err))
    return TimedOut(f"command {shown(argv)}", f"not done after {timeout:g} s" + (f": {lines}" if lines else ""))


def _text(data: bytes | bytearray) -> str:
    return data.decode("utf-8", "replace")


def _path() -> str:
    # mkfs and friends: a login user's PATH often lacks the system directories, and sudo's may too.
    return os.pathsep.join([*_trusted(os.environ.get("PATH", "")), *_SYSTEM])


@functools.lru_cache(maxsize=8)
def _trusted(path: str) -> tuple[str, ...]:
    """Return the directories of a PATH into which nobody else can put a program. An empty directory, or one without a
    slash at its beginning, is the working directory, which may be anybody's."""
    found = []
    for directory in path.split(os.pathsep):
        if directory.startswith("/") and os.path.isdir(directory):
            try:
                refuse_exchangeable(directory)
            except NebulaError:
                continue
            found.append(directory)
    return tuple(dict.fromkeys(found))
