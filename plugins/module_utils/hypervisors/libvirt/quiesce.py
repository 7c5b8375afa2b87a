# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Freezes the file systems of a guest for a moment, by its agent. Whatever becomes of us meanwhile, they are thawed: a
process of its own sees to it, which notices when we are gone, and does not wait longer than it is told."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from ...deps import require
from ...errors import HypervisorError, Unsupported

# Seconds after which file systems are thawed whatever is done with them. A guest notices ten.
LONGEST = 8.0
# Seconds that an agent may take to freeze them all.
PATIENCE = 5
_READY = 20.0
# Its own session: who ends us by our process group does not end it.
_WATCHDOG = r"""
import os, select, sys, time
sys.path.append(sys.argv[1])
import libvirt
libvirt.registerErrorHandler(lambda _context, _error: None, None)
domain = libvirt.open(sys.argv[2]).lookupByUUIDString(sys.argv[3])
limit = float(sys.argv[4])
os.write(1, b"r")
if os.read(0, 1) != b"f":
    sys.exit()
begun = time.monotonic()
ready = select.select([0], [], [], limit)[0]
if ready and os.read(0, 1) == b"t":
    sys.exit()
# Once more after a while: what froze them may have been on its way when we were told, or wait behind us.
for pause in (0.0, 1.0, 4.0):
    time.sleep(pause)
    while time.monotonic() < begun + 600:
        try:
            domain.fsThaw()
            break
        except libvirt.libvirtError:
            if not domain.isActive():
                sys.exit()
            time.sleep(0.2)
"""
_NO_AGENT = "Start qemu-guest-agent in the guest (FEATURES/GUEST_AGENT = YES), or set consistency: crash"


class ThawedTooEarly(HypervisorError):
    """Says that the file systems were thawed too early: by the watchdog of a killed run, which is gone in some
    seconds, or by our own watchdog, as we failed to do it."""


@contextlib.contextmanager
def freeze(libvirt: Any, uri: str, domain: Any, asked: str) -> Iterator[None]:
    """Keep the guest's file systems frozen within it. Raise Unsupported if it has no agent that answers; raise
    HypervisorError, at the end, if they were not frozen all the time."""
    ping(libvirt, domain, asked)
    with _running_watchdog(libvirt, uri, domain) as watchdog, limited_agent_wait(libvirt, domain):
        begun = time.monotonic()
        _tell(watchdog, b"f")
        try:
            count = domain.fsFreeze()
        except libvirt.libvirtError as error:
            # Some may be frozen, or will be in a moment: the watchdog's pipe closes without the word.
            raise HypervisorError(
                asked,
                f"its file systems could not be frozen: {error}",
                "See the guest agent's log, then run again, or set consistency: crash",
            ) from error
        yield
        held, thawed, failed = time.monotonic() - begun, 0, None
        try:
            thawed = domain.fsThaw()
            _tell(watchdog, b"t")
        except libvirt.libvirtError as error:
            # Then the watchdog does it.
            failed = error
    if held > LONGEST:
        raise HypervisorError(
            asked, f"it took {held:.1f} s, and file systems are frozen for {LONGEST:g} s at most", "Run again"
        )
    if count and failed is not None:
        raise ThawedTooEarly(
            asked,
            f"its file systems could not be thawed at once: {failed}",
            "See the guest agent's log; it is tried for ten minutes more. Then run again",
        )
    if count and not thawed:
        raise ThawedTooEarly(asked, "somebody else has thawed its file systems meanwhile", "Run again")


def ping(libvirt: Any, domain: Any, asked: str) -> None:
    """Raise Unsupported if the guest has no agent that answers."""
    try:
        require("libvirt_qemu").qemuAgentCommand(domain, '{"execute": "guest-ping"}', PATIENCE, 0)
    except libvirt.libvirtError as error:
        raise Unsupported(asked, f"no guest agent answers ({error})", _NO_AGENT) from error


@contextlib.contextmanager
def limited_agent_wait(libvirt: Any, domain: Any) -> Iterator[None]:
    """Limit how long libvirt waits for an agent; otherwise it waits for ever."""
    with contextlib.suppress(libvirt.libvirtError):
        domain.agentSetResponseTimeout(PATIENCE)
    try:
        yield
    finally:
        with contextlib.suppress(libvirt.libvirtError):
            domain.agentSetResponseTimeout(libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK)


@contextlib.contextmanager
def _running_watchdog(libvirt: Any, uri: str, domain: Any) -> Iterator[subprocess.Popen[bytes]]:
    library = os.path.dirname(os.path.abspath(libvirt.__file__))
    watchdog = subprocess.Popen(
        # Isolated: Python would look for each module in the working directory first, which may be anybody's.
        [sys.executable, "-I", "-c", _WATCHDOG, library, uri, domain.UUIDString(), str(LONGEST)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
        bufsize=0,
    )
    try:
        if watchdog.stdin is None or watchdog.stdout is None:
            raise HypervisorError("a watchdog over the freezing", "it has no pipes")
        ready = select.select([watchdog.stdout], [], [], _READY)[0]
        if not ready or watchdog.stdout.read(1) != b"r":
            watchdog.kill()
            raise HypervisorError("a watchdog over the freezing of file systems", "it did not start", "Run again")
        yield watchdog
    finally:
        for stream in (watchdog.stdin, watchdog.stdout):
            if stream is not None:
                stream.close()
        # With the word it ends at once; without it, it goes on alone until it has thawed them.
        with contextlib.suppress(subprocess.TimeoutExpired):
            watchdog.wait(2.0)


def _tell(watchdog: subprocess.Popen[bytes], word: bytes) -> None:
    if watchdog.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            watchdog.stdin.write(word)
