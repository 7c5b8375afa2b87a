# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has a running machine stand still while its disks are read, where nothing else reads them as they are at one moment.
Whatever becomes of us meanwhile, it goes on: a process of its own sees to it, which notices when we are gone; and where
that is ended too, whoever works on the machine next. What somebody else has paused, nobody here lets go on."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from ..dataclass import dataclass
from ..errors import HypervisorError, InUse, NebulaError, TimedOut, WrongState
from ..host import node_file, untrusted_trees
from ..host.files import explained, read_limited, remove_file

# In the machine's directory: while the machine stands still for us, and copies of its disks that are read.
MARK, COPIES = ".standing-still", ".standing-still.copies"
# Seconds after which it goes on, whatever is done with its disks.
LONGEST = 4 * 3600.0
# Seconds in which the process that lets it go on has begun, and in which one of a killed run is through. A host may be
# busy; nothing stands still meanwhile.
_READY, _THROUGH = 90.0, 60.0
_STEP = 0.05
_LARGEST = 4096
# Seconds after which it is given up to let a machine go on: then nothing here can.
_GIVEN_UP = 600
# Its own session: who ends us by our process group does not end it.
_WATCHDOG = r"""
import os, select, subprocess, sys, time
mark, limit, most, words = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]
os.write(1, b"r")
if os.read(0, 1) != b"f":
    sys.exit()
ready = select.select([0], [], [], limit)[0]
if ready and os.read(0, 1) == b"t":
    sys.exit()
begun, done, streams = time.monotonic(), 0, {name: subprocess.DEVNULL for name in ("stdin", "stdout", "stderr")}
# Once more after a while: what paused it may have been on its way when we were told.
while done < 3 and time.monotonic() < begun + most and os.path.lexists(mark):
    try:
        done += subprocess.run(words, timeout=60, **streams).returncode == 0
    except (OSError, subprocess.SubprocessError):
        pass
    time.sleep(1)
if done:
    try:
        os.unlink(mark)
    except OSError:
        pass
"""


@dataclass(frozen=True)
class Pausing:
    """Says how a hypervisor has a machine stand still.
    run: names the run of the machine, so that the next one is another.
    words: a program with its arguments that has this run go on, if it is there and stands still; it ends with 0 where
    nothing is left to do.
    pause: has it stand still.
    go_on: has it go on, and returns whether it stood still until then.
    is_still: returns whether it stands still by now, as far as that can be seen; go_on() knows it better."""

    run: str
    words: Sequence[str]
    pause: Callable[[], None]
    go_on: Callable[[], bool]
    is_still: Callable[[], bool]


def run_of(number: object) -> str:
    """Return the name of a run. number: what this boot of the host gives to no other one."""
    return f"{node_file.boot_id()} {number}"


def is_left(directory: str) -> bool:
    """Return whether the machine may stand still for us, or a killed run of ours. directory: of the machine."""
    return os.path.lexists(os.path.join(directory, MARK))


def remove_copies(directory: str) -> bool:
    """Remove copies that a killed run has left. Return whether there were any. directory: of the machine, whose lock is
    held."""
    return untrusted_trees.remove(os.path.join(directory, COPIES))


def settle(pausing: Pausing | None, directory: str, asked: str) -> bool:
    """Have a machine go on that stands still for a run that was killed. Return whether there was such a run. The lock
    of the machine's directory is held.
    pausing: None for a machine that does not run. directory: of the machine. asked: how errors begin."""
    path = os.path.join(directory, MARK)
    with contextlib.ExitStack() as stack:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise HypervisorError(f"{asked}: {path}", str(error), "See who put it there; remove it") from error
        stack.callback(os.close, fd)
        _wait_for_watchdog(fd, path, asked)
        # The watchdog removes it once it is through.
        if is_left(directory):
            if pausing is not None and _run_in(path) == pausing.run:
                pausing.go_on()
            remove_file(path)
    return True


def _wait_for_watchdog(fd: int, path: str, asked: str) -> None:
    """Wait until nobody has the mark any more. Two would let go on, one of them while the machine is to stand still
    again."""
    limit = time.monotonic() + _THROUGH
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > limit:
                raise TimedOut(
                    asked,
                    f"it stands still for another run, which has {path} open",
                    "Wait for it, then run again",
                ) from None
        time.sleep(_STEP)


def _run_in(path: str) -> str:
    """Return which run a mark is about; "" for one that was not written to its end: then nothing was paused yet."""
    try:
        found = json.loads(read_limited(path, _LARGEST, follow=False))
        return str(found["run"])
    except (NebulaError, ValueError, KeyError, TypeError):
        return ""


class Standing:
    """Is the time for which a machine stands still.
    go_on: ends it, as end() says.
    trouble: what there was with that, although it stood still until then."""

    def __init__(self, go_on: Callable[[], None]) -> None:
        self._go_on = go_on
        self.is_over = False
        self.trouble: NebulaError | None = None

    def end(self) -> None:
        """Have the machine go on, if it does not yet. Raise InUse or TimedOut if it did not stand still until now."""
        if not self.is_over:
            self.is_over = True
            self._go_on()


@contextlib.contextmanager
def held(pausing: Pausing, directory: str, asked: str, longest: float = LONGEST) -> Iterator[Standing]:
    """Have the machine stand still for a block of code, or until it ends what is yielded. Raise InUse or TimedOut, at
    the end, if it did not do so all the time.
    directory: of the machine, whose lock is held. asked: how errors begin. longest: seconds."""
    settle(pausing, directory, asked)
    if pausing.is_still():
        # Somebody has paused it, who lets it go on as well.
        def require_still() -> None:
            if not pausing.is_still():
                raise _went_on(asked)

        standing = Standing(require_still)
        yield standing
        standing.end()
        return
    path = os.path.join(directory, MARK)
    with explained(path):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.write(fd, json.dumps({"run": pausing.run}).encode())
        with _running_watchdog(pausing, path, fd, longest, asked) as watchdog:
            begun = time.monotonic()

            def go_on() -> None:
                try:
                    was_still = _let_go_on(pausing, watchdog, path, asked)
                except NebulaError as error:
                    if not pausing.is_still():
                        raise
                    # What was read of it is whole all the same.
                    standing.trouble, was_still = error, True
                if time.monotonic() - begun > longest:
                    raise _too_long(asked, longest)
                if not was_still:
                    raise _went_on(asked)

            standing = Standing(go_on)
            _tell(watchdog, b"f")
            # If this fails it may be done yet, and the watchdog is not told that all is well.
            pausing.pause()
            try:
                yield standing
            except BaseException:
                if not standing.is_over:
                    _let_go_on(pausing, watchdog, path, asked)
                raise
            standing.end()
            if standing.trouble is not None:
                raise standing.trouble
    finally:
        os.close(fd)


def _let_go_on(pausing: Pausing, watchdog: subprocess.Popen[bytes], path: str, asked: str) -> bool:
    try:
        was_still = pausing.go_on()
    except NebulaError as error:
        # Then the watchdog does it.
        raise HypervisorError(
            asked,
            f"the machine could not be let go on at once: {error.found}",
            f"It is tried for {_GIVEN_UP // 60} minutes more, and by whatever run works on the machine next",
        ) from error
    _tell(watchdog, b"t")
    remove_file(path)
    return was_still


def _too_long(asked: str, longest: float) -> TimedOut:
    return TimedOut(
        asked,
        f"it takes longer than the {longest:g} s that the machine stands still at most, and it went on",
        "Back it up while it is off, or have its disks on a file system that shares content (XFS, Btrfs), then "
        "run again",
    )


def _went_on(asked: str) -> InUse:
    return InUse(asked, "somebody else has let the machine go on while its disks were read", "See who did; run again")


def refuse(asked: str, hypervisor: str) -> WrongState:
    """Return the error for a machine that runs and must not stand still."""
    return WrongState(
        asked,
        f"it runs, and with {hypervisor} its disks can be read only while it is off or stands still",
        "Power it off first, or allow that it stands still meanwhile: nebula_machine_backup_stand_still: true",
    )


@contextlib.contextmanager
def _running_watchdog(
    pausing: Pausing, path: str, mark: int, longest: float, asked: str
) -> Iterator[subprocess.Popen[bytes]]:
    words = [sys.executable, "-I", "-S", "-c", _WATCHDOG, path, str(longest), str(_GIVEN_UP), *pausing.words]
    watchdog = subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        # It has the lock with us, and after us.
        pass_fds=(mark,),
        cwd="/",
        bufsize=0,
    )
    try:
        if watchdog.stdin is None or watchdog.stdout is None:
            raise HypervisorError(asked, "the watchdog over it has no pipes")
        ready = select.select([watchdog.stdout], [], [], _READY)[0]
        if not ready or watchdog.stdout.read(1) != b"r":
            watchdog.kill()
            remove_file(path)
            raise HypervisorError(asked, "the watchdog that is to let it go on did not start", "Run again")
        yield watchdog
    finally:
        for stream in (watchdog.stdin, watchdog.stdout):
            if stream is not None:
                stream.close()
        # With the word it ends at once; without it, it goes on alone until the machine does.
        with contextlib.suppress(subprocess.TimeoutExpired):
            watchdog.wait(2.0)


def _tell(watchdog: subprocess.Popen[bytes], word: bytes) -> None:
    if watchdog.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            watchdog.stdin.write(word)
