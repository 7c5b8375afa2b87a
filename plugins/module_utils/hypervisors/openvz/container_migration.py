# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves a running container by the steps of vzmigrate(8), over the passage between both hosts, so that no host has a
login to another: it stands still, its kernel writes it to a dump, and the other host's kernel makes it of that, as one
that stands still until it has left here."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from ...errors import ForeignObject, HypervisorError, NebulaError, OtherHostFailed, TimedOut, Unsupported
from ...host import processes
from ...host.command import find, run
from ...host.files import remove_file
from ...storage.datastore_layout import free_space
from ..base import Departure, Receiver
from ..moves import file_streams
from ..moves.passage import MEMORY, Channel
from ..standing_still import Pausing, run_of
from . import moving_marks, vzctl
from .exit_codes import error_of_code

# Tells of what a kernel of OpenVZ can save and restore: vzcptcheck(8).
CHECKER = "vzcptcheck"
# In the machine's directory, which is root's alone.
DUMP = "move.dump"
SUSPEND_SECONDS = 300
DUMP_SECONDS = 1800
# Seconds in which a vzctl has to end whose module was killed.
ENDING_SECONDS = 60.0
_STEP = 0.05
# As long as the other host sends, its own limit ends it.
_LONGEST = 24 * 3600.0
_NOT_POSSIBLE = 2
_NUMBER = re.compile(r"[1-9]\d{0,9}")
# What vzctl says where nothing stands still: it is kept for a container from `--suspend` or `--undump` on until it goes
# on or is ended.
_NO_CONTEXT = "an not join cpt context"
# Has a container go on that stands still.
_GO_ON = """
words=$("$1" chkpnt "$2" --resume 2>&1) && exit
case $words in *"$3"*) exit 0 ;; esac
exit 1
"""
_COLD = "Move it cold (move: cold), or boot kernels of OpenVZ on both hosts of which the new one's is no older"


def version(asked: str) -> str:
    """Return the version of dumps that this host's kernel writes. Raise Unsupported if it writes none: without a kernel
    of OpenVZ, vzctl takes each step of a move for a whole suspension, which ends the container."""
    return _number(_checked(asked, "version"), asked)


def require_version(number: str, asked: str) -> None:
    """Raise Unsupported if this host's kernel restores no dumps of this version."""
    _checked(asked, "version", _number(number, asked))


def processor(asked: str) -> str:
    """Return the number of what this host's processor can do, as vzctl counts it."""
    return _number(_checked(asked, "caps"), asked)


def _checked(asked: str, *words: str) -> str:
    done = run([CHECKER, *words], timeout=vzctl.SECONDS, check=False)
    if done.returncode == 0:
        return done.stdout.strip()
    found = f"{CHECKER} {' '.join(words)}: {vzctl.last_output(done) or f'it ended with code {done.returncode}'}"
    if done.returncode == _NOT_POSSIBLE:
        raise Unsupported(
            asked, f"it can't go on there: {found}", "Move it cold (move: cold): it is started anew there"
        )
    raise Unsupported(asked, f"this host's kernel does not save and restore containers: {found}", _COLD)


def _number(text: str, asked: str) -> str:
    if not _NUMBER.fullmatch(text):
        raise ForeignObject(
            asked,
            f"a number of {CHECKER} is wanted, and it is {text[:40]!r}",
            "See what vzcptcheck version and vzcptcheck caps print on both hosts",
        )
    return text


# -- the old host ------------------------------------------------------------------------------------------------------
def depart(ctid: int, directory: str, departure: Departure, asked: str) -> None:
    """Bring the container to the other host, where it stands still when this returns, as it does here.
    directory: of the machine."""
    limit, dump = time.monotonic() + departure.limit, f"{directory}/{DUMP}"
    able = _number(departure.definition, asked)
    _checked(asked, "caps", str(ctid), able)
    remove_file(dump)
    moving_marks.write(ctid, moving_marks.LEAVING)
    # --flags: it sees no more of the processor from now on than the other host's can do.
    vzctl.ask(asked, "chkpnt", str(ctid), "--suspend", "--flags", able, timeout=SUSPEND_SECONDS)
    vzctl.ask(asked, "chkpnt", str(ctid), "--dump", "--dumpfile", dump, timeout=DUMP_SECONDS)
    # Only now: vzctl gives files that the container has open, and that have no name any more, one for the dump.
    departure.send_roots()
    try:
        channel = departure.caller.connect(MEMORY)
    except OSError as error:
        raise OtherHostFailed(
            asked, f"the other host is not reached: {error}", "See that host, then run again"
        ) from error
    with contextlib.closing(channel):
        file_streams.send(channel, DUMP, dump, limit)
        answer = channel.receive(limit - time.monotonic())
        refused = answer.get("refused")
        if isinstance(refused, dict):
            words = {key: str(refused.get(key, ""))[:1000] for key in ("found", "remedy")}
            raise OtherHostFailed(asked, f"the other host can't restore it: {words['found']}", words["remedy"])
        if answer.get("ready") is not True:
            raise channel.broken("it answers something else than it was asked")
    remove_file(dump)


def go_on(ctid: int, verb: str, asked: str) -> None:
    """Have the container go on that stands still, unless it does so already, after a run that was killed.
    verb: chkpnt on the old host, restore on the new one."""
    done = run([vzctl.PROGRAM, verb, str(ctid), "--resume"], timeout=SUSPEND_SECONDS, check=False)
    words = done.stdout + done.stderr
    if done.returncode != 0 and not (_NO_CONTEXT in words and vzctl.status(ctid).running):
        raise error_of_code(asked, done.returncode, vzctl.last_output(done))
    moving_marks.remove(ctid)


def pausing(ctid: int, asked: str) -> Pausing:
    """Return how a container that runs stands still: by the first step of a move, which is taken back. Only kernels of
    OpenVZ have it. Whether it stands still, vzctl does not tell."""
    try:
        version(asked)
    except Unsupported as error:
        error.remedy = "Power it off first, or boot a kernel of OpenVZ"
        raise

    def pause() -> None:
        vzctl.ask(asked, "chkpnt", str(ctid), "--suspend", timeout=SUSPEND_SECONDS)

    def resume() -> bool:
        done = run([vzctl.PROGRAM, "chkpnt", str(ctid), "--resume"], timeout=SUSPEND_SECONDS, check=False)
        words = done.stdout + done.stderr
        if done.returncode != 0 and _NO_CONTEXT not in words:
            raise error_of_code(asked, done.returncode, vzctl.last_output(done))
        return done.returncode == 0

    words = ("sh", "-c", _GO_ON, "go-on", find(vzctl.PROGRAM), str(ctid), _NO_CONTEXT)
    return Pausing(run_of(ctid), words, pause, resume, lambda: False)


def end(ctid: int, verb: str, asked: str) -> None:
    """End the container that stands still, as far as it is there. verb: see go_on()."""
    if vzctl.status(ctid).running:
        vzctl.ask(asked, verb, str(ctid), "--kill", timeout=SUSPEND_SECONDS)


def wait_for_vzctl(ctid: int, asked: str) -> None:
    """Return once no vzctl saves or restores the container, which one of a killed run may do for a while. Raise
    TimedOut if it does not end."""
    limit = time.monotonic() + ENDING_SECONDS
    while True:
        found = next((pid for pid, _words in processes.of_root(lambda words: _works_on(words, str(ctid)))), None)
        if found is None:
            return
        if time.monotonic() > limit:
            raise TimedOut(
                asked,
                f"process {found} (vzctl) still works on container {ctid} after {ENDING_SECONDS:g} s, though nobody "
                "waits for that",
                f"End that process (kill {found}), then run again",
            )
        time.sleep(_STEP)


def _works_on(words: list[bytes], ctid: str) -> bool:
    place = next((place for place, word in enumerate(words[:3]) if os.path.basename(word) == b"vzctl"), None)
    rest = words[place + 1 :] if place is not None else []
    return rest[:1] in ([b"chkpnt"], [b"restore"]) and rest[1:2] == [ctid.encode()]


# -- the new host ------------------------------------------------------------------------------------------------------
class DumpReceiver(Receiver):
    """Takes in the dump of one container, and has the kernel make it, as one that stands still.
    directory: of the machine.
    check: raises what stands against that, once the container's root is here."""

    def __init__(self, ctid: int, directory: str, check: Callable[[], None], asked: str) -> None:
        self._ctid = ctid
        self._dump = f"{directory}/{DUMP}"
        self._check = check
        self._asked = asked
        self._changed = threading.Condition()
        self._channel: Channel | None = None
        self._begun = self._over = False
        self._error: NebulaError | None = None

    def tunnels(self) -> Mapping[str, Callable[[Channel], None]]:
        return {MEMORY: self._take}

    def close(self) -> NebulaError | None:
        with self._changed:
            begun, self._begun = self._begun, True
            if self._channel is not None:
                with contextlib.suppress(OSError):
                    # The thread that reads from it closes it: TLS is no business of two threads.
                    socket.socket.shutdown(self._channel.stream, socket.SHUT_RDWR)
            if begun:
                self._changed.wait_for(lambda: self._over, DUMP_SECONDS + ENDING_SECONDS)
        return self._error

    def _take(self, channel: Channel) -> None:
        with self._changed:
            begun, self._begun = self._begun, True
            if not begun:
                self._channel = channel
        if begun:
            channel.close()
            return
        answer: dict[str, Any] = {"ready": True}
        try:
            self._taken(channel)
        except NebulaError as error:
            self._error, answer = error, {"refused": error.as_dict()}
        finally:
            with self._changed:
                self._channel, self._over = None, True
                with contextlib.suppress(NebulaError):
                    channel.send(**answer)
                channel.close()
                self._changed.notify_all()

    def _taken(self, channel: Channel) -> None:
        limit = time.monotonic() + _LONGEST
        header = channel.receive(limit - time.monotonic())
        if header.get("file") != DUMP:
            raise ForeignObject(
                self._asked,
                "that host sends something else than a dump of the container",
                "The move was given up. Find out who else has power over that host before it is used again",
            )
        try:
            # How large a dump becomes depends on all that the container has open: nothing but the room bounds it.
            file_streams.receive(channel, header, self._dump, free_space(os.path.dirname(self._dump)), limit)
            self._check()
            moving_marks.write(self._ctid, moving_marks.COMING)
            words = ("restore", str(self._ctid), "--undump", "--dumpfile", self._dump, "--skip_arpdetect")
            try:
                done = vzctl.ask(self._asked, *words, timeout=DUMP_SECONDS)
            except NebulaError as error:
                error.remedy = "See dmesg of the new host for what its kernel lacks, or move it cold (move: cold)"
                raise
            if not vzctl.status(self._ctid).running:
                raise HypervisorError(
                    self._asked,
                    f"vzctl said that it is restored, and it is not there: {vzctl.last_output(done)}",
                    "See dmesg of the new host, or move it cold (move: cold)",
                )
        finally:
            remove_file(self._dump)
