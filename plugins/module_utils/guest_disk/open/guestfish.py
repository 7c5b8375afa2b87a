# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Speaks to libguestfs: one appliance, and as many questions as there are, each decided after the answer before.

Starting an appliance is what takes the time, a question takes some hundredths of a second. What a guest's file
system may lead to, links included, stays within the appliance."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import secrets
import selectors
import stat
import subprocess
import time
from collections.abc import Iterator, Sequence

from ...errors import CommandFailed, MissingDependency, NebulaError, TimedOut, harmless
from ...host import command, sandbox
from ...host.files import make_own_directory
from ...storage import qcow2_header
from ..customize import context_program
from . import appliance_qemu

# Seconds for all of it; emulated, an appliance is up after ten. With KVM, which may be there and hang, it takes three.
TIMEOUT = 600.0
KVM_TIMEOUT = 120.0
SETTINGS = "LIBGUESTFS_BACKEND_SETTINGS"
# Bytes of one answer, and of an answer that is a list of paths.
LIMIT = 64 * 1024 * 1024
MOST_PATHS = 8 * 1024 * 1024
CACHE = "/var/cache/nebula-guestfs"
_KVM = "/dev/kvm"
# Bytes of an answer that is too long anyway, which are read to find its end.
_DISCARDED = 1 << 30
_CHUNK = 256 * 1024
_STATUS = re.compile(r"^st_(mode|size): (\d+)$", re.MULTILINE)
_BRACES = re.compile(r"\{([^{}]*)\}")
_BUILDER = "supermin"
_NO_KERNEL = re.compile("kernel|/boot|/lib/modules")
# guestfish says no more of its QEMU.
BROKEN = ("appliance closed the connection", "guestfs_launch failed", "killed by signal", "appliance crashed")
_ADVICE = (
    "libguestfs: warning", "This usually means", "Do:", "  export", "and run the command", "or run",
    "into a bug report", "To see full error messages", "For further information", "  http", "You can also run",
)  # fmt: skip

# What is set for each session from the first on that showed that KVM does not work here.
emulation: dict[str, str] = {}


def require(what: str) -> None:
    context_program.require("guestfish", "guestfish", "libguestfs", f"{what}: looking into it")


def may_have_kvm() -> bool:
    return not emulation and not os.environ.get(SETTINGS) and os.path.exists(_KVM) and appliance_qemu.may_use(_KVM)


def is_broken(error: NebulaError) -> bool:
    """Return whether the error means that the appliance did not come up or broke down: no command failed."""
    return isinstance(error, TimedOut) or any(text in error.found for text in BROKEN)


def emulate() -> None:
    """Make every later appliance of this process run emulated, without KVM."""
    emulation[SETTINGS] = "force_tcg"


def environment(directory: str) -> dict[str, str]:
    # guestfish reads a file in HOME, and writes one.
    return {"LIBGUESTFS_BACKEND": "direct", "LIBGUESTFS_TMPDIR": directory, "HOME": directory, **_cache(), **emulation}


def _cache() -> dict[str, str]:
    """Return the variable that says where libguestfs keeps its appliance. By itself it takes a directory in /var/tmp,
    which everybody may make before it does, and has a lock in it that everybody can hold."""
    if os.geteuid() != 0:
        return {}
    make_own_directory(CACHE)
    return {"LIBGUESTFS_CACHEDIR": CACHE}


def command_line(disk: str, format: str, before: Sequence[str] | None = None) -> list[str]:
    """Return the words that start guestfish. before: words that give it a network (package_network.py), else none."""
    words = sandbox.offline_words() if before is None else before
    # Ended with us, so that a kill leaves no appliance behind; said last, as a change of its group would undo that.
    return [*words, *command.words_to_end_with_us(), "guestfish", "--rw", f"--format={format}", "-a", disk]


@contextlib.contextmanager
def command_and_environment(
    disk: str, format: str, directory: str, before: Sequence[str] | None = None
) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Yield the words that start guestfish in this directory, and their environment, which has its QEMU in a sandbox;
    both are good within. before: see command_line()."""
    path = os.path.join(directory, disk)
    device = "" if emulation else _KVM
    with contextlib.ExitStack() as stack:
        sandboxed = stack.enter_context(
            appliance_qemu.sandbox_environment(
                path, format, directory, CACHE, network=before is not None, device=device
            )
        )
        yield command_line(disk, format, before), {**environment(directory), **sandboxed}


class Session:
    """Speaks to a running guestfish by pipes. Each answer ends with a mark that nobody can foresee."""

    def __init__(self, process: subprocess.Popen[bytes], limit: float) -> None:
        self._process = process
        self._limit = limit

    def ask(self, *words: str, limit: int = LIMIT) -> str:
        """Carry out a command of guestfish, and return its answer as text. Raise CommandFailed if it is an error."""
        return self.read(*words, limit=limit).decode("utf-8", "replace")

    def lines(self, *words: str) -> list[str]:
        return [line for line in self.ask(*words).split("\n") if line]

    def found(self, *words: str, limit: int = LIMIT) -> str | None:
        """Return the answer to a command; None where it is an error: the thing is missing, or unreadable."""
        try:
            return self.ask(*words, limit=limit)
        except CommandFailed as error:
            if is_broken(error):
                raise
            return None

    def file_size(self, path: str) -> int | None:
        """Return the bytes of a regular file of the guest, following its links there; None if there is none."""
        status = dict(_STATUS.findall(self.found("statns", path) or ""))
        is_file = stat.S_ISREG(int(status.get("mode", "0")))
        return int(status["size"]) if is_file and "size" in status else None

    def content(self, path: str, limit: int = LIMIT) -> bytes | None:
        """Return what a regular file of the guest holds; None if there is none, or it holds more than that, or it
        can't be read. Reading a named pipe in its place would wait for ever, and a device has no end."""
        size = self.file_size(path)
        if size is None or size > limit:
            return None
        try:
            return self.read("download", path, "-", limit=limit)
        except CommandFailed as error:
            if is_broken(error):
                raise
            return None

    def text(self, path: str, limit: int = LIMIT) -> str:
        """Return content() as text; "" where it has none. What is written back is what it was, in whatever coding."""
        return (self.content(path, limit) or b"").decode("utf-8", "surrogateescape")

    def paths(self, *patterns: str) -> list[str]:
        """Return what is there by these patterns, which have braces, stars and brackets as a shell has them.

        guestfish writes one path a line, and a name may have line ends. All that is asked for at once has the same
        number of slashes, so that a path in two parts is told from two paths: one of the parts has less."""
        found = []
        alternatives = {each: None for pattern in patterns for each in _alternatives(pattern)}
        by_depth = sorted(alternatives, key=_depth)
        for depth, group in itertools.groupby(by_depth, key=_depth):
            # It has to begin with a slash.
            pattern = "/{" + ",".join(each[1:] for each in group) + "}"
            answer = self.read("glob-expand", pattern, limit=MOST_PATHS).decode("utf-8", "surrogateescape")
            for line in answer.split("\n")[:-1]:
                # Directories end with a slash.
                path = line.rstrip("/")
                if not path.startswith("/") or _depth(path) != depth:
                    raise CommandFailed(
                        "guestfish: glob-expand",
                        f"a name in the image has a line end, and this is a part of it: {harmless(line, 200)}",
                        "Rename or remove that file in a machine of the image: no system has such names by itself",
                    )
                found.append(path)
        return found

    def read(self, *words: str, limit: int = LIMIT) -> bytes:
        mark = secrets.token_hex(16).encode()
        # "-": an error does not end the session.
        line = b"-" + b" ".join([words[0].encode(), *(quoted(word) for word in words[1:])])
        stdin = self._process.stdin
        if stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                stdin.write(line + b"\n!echo " + mark + b"; echo " + mark + b" >&2\n")
        out, err = self._read_until(mark + b"\n", words[0], limit)
        fault = errors_in(err.decode("utf-8", "replace"))
        if fault:
            raise CommandFailed(f"guestfish: {words[0]}", fault)
        return out

    def _read_until(self, mark: bytes, asked: str, limit: int) -> tuple[bytes, bytes]:
        found = {stream: bytearray() for stream in (self._process.stdout, self._process.stderr) if stream is not None}
        discarded = 0
        with selectors.DefaultSelector() as selector:
            for stream, buffer in found.items():
                selector.register(stream, selectors.EVENT_READ, buffer)
            while selector.get_map():
                left = self._limit - time.monotonic()
                ready = selector.select(left) if left > 0 else []
                if not ready:
                    raise TimedOut(f"guestfish: {asked}", "no answer in time")
                for key, _events in ready:
                    data, buffer = os.read(key.fd, _CHUNK), key.data
                    buffer.extend(data)
                    if not data or buffer.endswith(mark):
                        selector.unregister(key.fileobj)
                    elif len(buffer) > limit or discarded:
                        # Read on, else the next question would get the rest of this answer.
                        discarded += max(0, len(buffer) - len(mark))
                        del buffer[: -len(mark)]
                    if discarded > _DISCARDED:
                        self._process.kill()
                        self._process.wait()
                        raise CommandFailed("guestfish", f"the answer to {asked} has no end")
        if discarded:
            raise CommandFailed(f"guestfish: {asked}", f"the answer is longer than {limit} bytes")
        out, err = (bytes(buffer) for buffer in found.values())
        if not out.endswith(mark):
            self._process.wait()
            fault = errors_in(err.decode("utf-8", "replace"))
            raise CommandFailed("guestfish", fault or f"it ended with code {self._process.returncode}")
        return out[: -len(mark)], err[: -len(mark)]


@contextlib.contextmanager
def session(disk: str, format: str, directory: str, what: str, keep: bool = True) -> Iterator[Session]:
    """Yield an appliance that has this disk as /dev/sda, which it may write to. Where KVM turns out not to work, this
    and all later appliances are emulated.
    directory: for files of libguestfs, nobody else's.
    keep: what was written is on the disk at the end, if nothing was raised."""
    require(what)
    qcow2_header.refuse_data_file(os.path.join(directory, disk), format, what)
    with contextlib.ExitStack() as stack:
        talk = None
        if may_have_kvm():
            try:
                talk = stack.enter_context(_start(disk, format, directory, KVM_TIMEOUT))
            except (CommandFailed, TimedOut) as error:
                if not is_broken(error):
                    raise error_of_appliance(error, what) from error
                emulate()
        if talk is None:
            try:
                talk = stack.enter_context(_start(disk, format, directory, TIMEOUT))
            except CommandFailed as error:
                raise error_of_appliance(error, what) from error
        try:
            yield talk
            if keep:
                talk.ask("umount-all")
        except BaseException:
            # Until QEMU has ended, nobody else may have the disk. What went wrong before is what is told.
            with contextlib.suppress(CommandFailed, TimedOut):
                talk.ask("shutdown")
            raise
        talk.ask("shutdown")


@contextlib.contextmanager
def _start(disk: str, format: str, directory: str, limit: float) -> Iterator[Session]:
    pipe = subprocess.PIPE
    with contextlib.ExitStack() as stack:
        words, env = stack.enter_context(command_and_environment(disk, format, directory))
        process = stack.enter_context(
            command.start(words, stdin=pipe, stdout=pipe, stderr=pipe, cwd=directory, env=env)
        )
        talk = Session(process, time.monotonic() + limit)
        talk.ask("run")
        talk._limit = time.monotonic() + TIMEOUT
        yield talk


def run_script(
    script: str,
    disk: str,
    format: str,
    directory: str,
    timeout: float,
    *options: str,
    before: Sequence[str] | None = None,
) -> str:
    """Return what guestfish prints for a script. before: see command_line()."""
    with command_and_environment(disk, format, directory, before) as (words, env):
        done = command.run([*words, *options], timeout=timeout, input=script, cwd=directory, env=env, check=False)
    if done.returncode != 0:
        # In full: what went wrong stands before its general advice.
        raise CommandFailed("guestfish", errors_in(done.stderr) or f"it ended with code {done.returncode}")
    return done.stdout


def error_of_appliance(error: NebulaError, what: str) -> NebulaError:
    """Return the error that says why the appliance did not come up."""
    if _NO_KERNEL.search(error.found.partition(_BUILDER)[2]):
        return MissingDependency(
            f"{what}: looking into it",
            f"libguestfs finds no kernel for its appliance: {error.found}",
            "Install a kernel package, as linux-image-amd64 (Debian) or kernel (Fedora); as another user than root, "
            "see that /boot/vmlinuz-* can be read",
        )
    remedy = "See whether the image boots"
    if is_broken(error):
        remedy = "Run libguestfs-test-tool on this host: it says what its appliance lacks"
    return CommandFailed(f"{what}: looking into it", error.found, remedy)


def errors_in(stderr: str) -> str:
    """Return the errors in what guestfish wrote, without its advice."""
    lines = [re.sub(r"^(\*stdin\*:\d+: )?(libguestfs: error: )?", "", line) for line in stderr.splitlines()]
    return harmless("\n".join(line for line in lines if line.strip() and not line.startswith(_ADVICE)), 1000)


def _alternatives(pattern: str) -> list[str]:
    """Return the patterns without braces that a pattern with braces stands for."""
    braces = _BRACES.search(pattern)
    if braces is None:
        return [pattern]
    words = braces[1].split(",")
    return [
        each for word in words for each in _alternatives(pattern[: braces.start()] + word + pattern[braces.end() :])
    ]


def _depth(path: str) -> int:
    return path.count("/")


def quoted(word: str) -> bytes:
    """Return a word in the quotes that guestfish undoes."""
    text = b"".join(
        bytes((byte,)) if 0x20 <= byte < 0x7F and byte not in b'"\\' else b"\\x%02x" % byte
        for byte in word.encode("utf-8", "surrogateescape")
    )
    return b'"' + text + b'"'
