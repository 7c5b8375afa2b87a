# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a function of ours on directories whose content somebody else has written, so that it can reach nothing
besides.

It runs in a process that has namespaces of its own for mounts, network, IPC, processes and users. Its root is a
directory of the host, or an empty one with some directories of the host in it; nothing else is there. It is root of
some ranges of ids of the host, and has no right over anything that belongs to others. Where it reads archives and
trees of strangers, nothing that these bring about can be outside of these directories.

The process is a new interpreter and no fork of this one, which has threads, locks and open files."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, NoReturn

from .. import errors
from ..dataclass import dataclass
from ..errors import Fault, ImageRefused, InvalidValue, NebulaError, TimedOut, Unsupported
from ..model.container_user_ids import IdRange
from . import command, files, kernel_calls
from .files import closing_fd

Job = Callable[..., dict[str, Any]]
# Address space of the process.
MEMORY = 512 * 1024 * 1024
# A directory that each host has, and the process does not need: its root is put together there.
_PLACE = "/sys"
_PIPE = 1024 * 1024
_SET_PIPE_SIZE = 1031
# Device nodes are told by it, of which a root may have thousands (storage/device_nodes.py).
LONGEST_ANSWER = 16 * 1024 * 1024
# Seconds for the errors of a process that is about to end, or was killed.
_ERROR_SECONDS = 10.0
_BEGIN = (
    "import sys; sys.path.insert(0, sys.argv[1]); from {home} import begin; from {place} import {name}; begin({name})"
)
_LIMITS = ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, 4096))
_READY = b"ready\n"


@dataclass(frozen=True)
class View:
    """Describes what the process sees of the host.
    root: the directory that is the root of the process; "" for an empty one.
    below: names in the root, with the directories of the host that they show.
    ids: the ranges of the host's ids that the process has, one after the other; its root is the first id of the
    first.
    reads: whether the process only reads there."""

    ids: Sequence[IdRange]
    root: str = ""
    below: Sequence[tuple[str, str]] = ()
    reads: Sequence[str] = ()

    def maps(self) -> str:
        lines, inside = [], 0
        for ids in self.ids:
            lines.append(ids.line(inside) + "\n")
            inside += ids.count
        return "".join(lines)


def run(
    job: Job,
    arguments: Mapping[str, Any],
    view: View,
    what: str,
    *,
    timeout: float,
    blocks: Generator[bytes, None, None] | None = None,
    source: int | None = None,
    target: int | None = None,
    memory: int = MEMORY,
) -> dict[str, Any]:
    """Return what the job answers. Raise the job's own errors here, of whatever class they are.
    job: a function at the top of one of our files; arguments and answer are values that JSON has.
    blocks: what the job reads from its standard input.
    source: the same as an open file.
    target: what the job's standard output is.
    what: the words with which errors of the process begin.
    timeout: seconds, after which the process is ended (TimedOut)."""
    if os.geteuid() != 0:
        raise InvalidValue(what, "this is not root", "Run this task with become: true")
    mine, theirs = socket.socketpair()
    with contextlib.closing(mine), contextlib.closing(theirs):
        streams: dict[str, Any] = {"stderr": subprocess.PIPE}
        for name, given in (("stdin", source if blocks is None else subprocess.PIPE), ("stdout", target)):
            streams[name] = subprocess.DEVNULL if given is None else given
        with command.start(_argv(job, theirs.fileno()), memory=memory, pass_fds=(theirs.fileno(),), **streams) as child:
            theirs.close()
            with _feeding(child, blocks) as failed:
                shown = {"root": view.root, "below": list(view.below), "reads": list(view.reads)}
                answer = _converse(mine, child, {"view": shown, "arguments": dict(arguments)}, view, what, timeout)
            if failed:
                raise failed[0]
    if "error" in answer:
        kind, asked, found, remedy = answer["error"]
        raise getattr(errors, kind)(asked, found, remedy)
    return dict(answer["result"])


def _argv(job: Job, channel: int) -> list[str]:
    # Where our packages are, be it a directory or the zip that Ansible sent.
    place = __file__
    for _level in range(__name__.count(".") + 1):
        place = os.path.dirname(place)
    begin = _BEGIN.format(home=__name__, place=job.__module__, name=job.__name__)
    return [sys.executable, "-I", "-S", "-B", "-c", begin, place, str(channel)]


def _converse(
    channel: socket.socket,
    child: subprocess.Popen[bytes],
    order: dict[str, Any],
    view: View,
    what: str,
    timeout: float,
) -> dict[str, Any]:
    limit = time.monotonic() + timeout
    try:
        _wait_until(channel, limit)
        channel.sendall(json.dumps(order).encode() + b"\n")
        _wait_until(channel, limit)
        received = channel.recv(len(_READY), socket.MSG_WAITALL)
        if received == _READY:
            try:
                for kind in ("gid", "uid"):
                    Path(f"/proc/{child.pid}/{kind}_map").write_text(view.maps(), encoding="ascii")
            except OSError as error:
                return {"error": _unsupported("a user namespace with ids of its own", error)}
            channel.sendall(_READY)
            received = b""
        while True:
            _wait_until(channel, limit)
            more = channel.recv(_PIPE)
            if not more:
                break
            received += more
            if len(received) > LONGEST_ANSWER:
                # It waits for someone to read on, and would not end.
                _kill(child)
                found = f"its answer has more than {LONGEST_ANSWER // (1024 * 1024)} MiB"
                return {"error": [Fault.__name__, what, found, ""]}
    except socket.timeout as error:
        raise TimedOut(what, f"not done after {timeout:g} s") from error
    except ConnectionError:
        received = b""
    with contextlib.suppress(ValueError):
        return dict(json.loads(received))
    return {"error": _no_answer(child, what)}


def _wait_until(channel: socket.socket, limit: float) -> None:
    """Have the next call end at the limit. Raise the error of a socket's timeout if that is over."""
    left = limit - time.monotonic()
    if left <= 0:
        raise socket.timeout("timed out")
    channel.settimeout(left)


def _kill(child: subprocess.Popen[bytes]) -> None:
    """Kill the process, which nobody has waited for yet, with all that is left of it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def _errors(child: subprocess.Popen[bytes]) -> bytes:
    """Return the last of what the process says. One that does not end with its answers, or that goes on saying
    something, is killed."""
    if child.stderr is None:
        return b""
    found, limit = bytearray(), time.monotonic() + _ERROR_SECONDS
    with selectors.DefaultSelector() as selector:
        selector.register(child.stderr, selectors.EVENT_READ)
        while (left := limit - time.monotonic()) > 0 and selector.select(left):
            block = os.read(child.stderr.fileno(), command.ERROR_LIMIT)
            if not block:
                return bytes(found)
            found += block
            del found[: -command.ERROR_LIMIT]
    _kill(child)
    return bytes(found)


def _no_answer(child: subprocess.Popen[bytes], what: str) -> list[str]:
    """Return the error, in its parts, for a process that ended without an answer."""
    stderr = _errors(child)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(10)
    lines = command.last_lines(stderr.decode("utf-8", "replace"), 3)
    return [
        Fault.__name__,
        what,
        f"the process that does it ended ({child.returncode}): {lines or 'it says nothing'}",
        "",
    ]


@contextlib.contextmanager
def _feeding(
    child: subprocess.Popen[bytes], blocks: Generator[bytes, None, None] | None
) -> Iterator[list[BaseException]]:
    """Have a thread hand the blocks over; what went wrong with them is in the list."""
    failed: list[BaseException] = []
    sink = child.stdin
    if blocks is None or sink is None:
        yield failed
        return
    source = blocks
    with contextlib.suppress(OSError):
        fcntl.fcntl(sink.fileno(), _SET_PIPE_SIZE, _PIPE)

    def feed() -> None:
        try:
            for block in source:
                view = memoryview(block)
                while view:
                    view = view[os.write(sink.fileno(), view) :]
        except BrokenPipeError:
            pass
        except BaseException as error:
            failed.append(error)
        finally:
            source.close()
            sink.close()

    thread = threading.Thread(target=feed, name="confined", daemon=True)
    thread.start()
    try:
        yield failed
    finally:
        # It waits for a process that no longer reads, unless that has ended.
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        thread.join()


# --- in the process ---------------------------------------------------------------------------------------------------


def begin(job: Job) -> NoReturn:
    """Take the order, go into the namespaces, do the job and answer."""
    channel = socket.socket(fileno=int(sys.argv[2]))
    with channel.makefile("rb", buffering=0) as lines:
        order = json.loads(lines.readline())
        answer = _enter_namespaces(channel, order["view"])
        if not answer:
            answer = _run_job(job, order["arguments"])
        channel.sendall(json.dumps(answer).encode())
    os._exit(0)


def _enter_namespaces(channel: socket.socket, view: dict[str, Any]) -> dict[str, Any]:
    """Return why the namespaces can't be had, or {} in the process that is in them."""
    try:
        kernel_calls.die_with_parent(signal.SIGKILL)
        flags = kernel_calls.NEW_MOUNTS | kernel_calls.NEW_IPC | kernel_calls.NEW_NETWORK | kernel_calls.NEW_PROCESSES
        kernel_calls.unshare(flags)
        _make_root(view)
    except OSError as error:
        return {"error": _unsupported("namespaces for mounts, network, IPC and processes", error)}
    try:
        kernel_calls.unshare(kernel_calls.NEW_USER)
    except OSError as error:
        return {"error": _unsupported("a user namespace", error)}
    channel.sendall(_READY)
    if channel.recv(len(_READY), socket.MSG_WAITALL) != _READY:
        os._exit(1)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    kernel_calls.die_with_parent(signal.SIGKILL)
    kernel_calls.gain_no_privileges()
    for limit, most in _LIMITS:
        resource.setrlimit(limit, (min(most, resource.getrlimit(limit)[1]) if most else 0,) * 2)
    os.umask(0)
    # The new namespace for processes begins with this one's child, and ends with it.
    pid = os.fork()
    if pid:
        channel.close()
        os._exit(abs(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
    kernel_calls.die_with_parent(signal.SIGKILL)
    os.closerange(3, channel.fileno())
    os.closerange(channel.fileno() + 1, 4096)
    return {}


def _make_root(view: dict[str, Any]) -> None:
    """Leave nothing of the host but the directories of the view, without what is mounted below them."""
    kernel_calls.mount(None, "/", flags=kernel_calls.RECURSIVE | kernel_calls.PRIVATE)
    reads = view["reads"]
    if view["root"]:
        _bind(view["root"], _PLACE, view["root"] in reads)
    else:
        closed = kernel_calls.NO_SETUID | kernel_calls.NO_DEVICES | kernel_calls.NO_PROGRAMS
        kernel_calls.mount("nebula-confined", _PLACE, "tmpfs", closed, "size=1m,mode=755")
    for name, directory in view["below"]:
        os.mkdir(os.path.join(_PLACE, name), 0o755)
        _bind(directory, os.path.join(_PLACE, name), directory in reads)
    os.chdir(_PLACE)
    kernel_calls.pivot_root(".", ".")
    kernel_calls.unmount(".", kernel_calls.DETACH)
    os.chdir("/")


def _bind(directory: str, place: str, reads: bool) -> None:
    # Opened in this namespace: what is no directory, or a link by now, is not bound.
    with closing_fd(os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)) as fd:
        kernel_calls.mount(f"/proc/self/fd/{fd}", place, flags=kernel_calls.BIND)
    closed = kernel_calls.NO_SETUID | kernel_calls.NO_DEVICES | kernel_calls.NO_PROGRAMS
    closed |= kernel_calls.READ_ONLY if reads else 0
    kernel_calls.mount(None, place, flags=kernel_calls.REMOUNT | kernel_calls.BIND | closed)


def _unsupported(what: str, error: OSError) -> list[str]:
    return [
        Unsupported.__name__,
        "containers on this host",
        f"it can't make {what}: {error.strerror}",
        "See sysctl user.max_user_namespaces, and what else forbids them (a container around this host may)",
    ]


def _run_job(job: Job, arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"result": job(**arguments)}
    except NebulaError as error:
        return {"error": _error_fields(error)}
    except MemoryError:
        found = f"it needs more than {MEMORY // (1024 * 1024)} MiB of memory"
        asked = str(arguments.get("what") or f"{job.__name__} what was given")
        return {"error": _error_fields(ImageRefused(asked, found, "Make it anew, with less in it"))}
    except OSError as error:
        name = os.fsdecode(error.filename or "")
        return {"error": _error_fields(files.explain(error, name or "what was given"))}


def _error_fields(error: NebulaError) -> list[str]:
    # A name of a stranger's file may not be text.
    parts = (part.encode("utf-8", "backslashreplace").decode() for part in (error.asked, error.found, error.remedy))
    return [type(error).__name__, *parts]
