# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests have done in a process that can reach nothing but some directories (host/confined_process.py). That
process finds them by their full name, so they are in a file of their own."""

from __future__ import annotations

import os
import socket
import stat
import sys
import time
from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.errors import NoSpace


def see(paths: list[str]) -> dict[str, Any]:
    """What there is, whose it is, and who this is."""
    return {
        "root": sorted(os.listdir("/")),
        "there": [path for path in paths if os.path.lexists(path)],
        "owners": {name: os.lstat(f"/{name}").st_uid for name in os.listdir("/")},
        "ids": [os.getuid(), os.getgid(), os.getgroups(), os.getpid()],
        "descriptors": [fd for fd in range(4096) if _is_open(fd)],
    }


def attempt(steps: list[list[Any]]) -> dict[str, Any]:
    """Call functions of os; what each answers, or by which error it ends."""
    answers = []
    for name, *arguments in steps:
        try:
            answers.append(repr(getattr(os, name)(*arguments)))
        except OSError as error:
            answers.append(error.strerror or "")
    return {"answers": answers}


def copy() -> dict[str, Any]:
    """Write to the standard output what is read from the standard input."""
    total = 0
    while True:
        data = os.read(0, 1 << 20)
        if not data:
            return {"bytes": total}
        total += len(data)
        os.write(1, data)


def take(count: int) -> dict[str, Any]:
    """Read so much, and no more."""
    return {"bytes": len(os.read(0, count))}


def fail(how: str) -> dict[str, Any]:
    if how == "error":
        raise NoSpace("what was asked \udcff", "what was found", "what to do")
    if how == "system":
        os.open("/missing\n", os.O_RDONLY)
    if how == "memory":
        return {"bytes": len(bytes(1 << 30))}
    if how == "end":
        os.kill(os.getpid(), 9)
        os.abort()
    if how == "exit":
        print("the last words", file=sys.stderr)
        os._exit(7)
    if how == "flood":
        return {"nodes": ["x" * 1000] * 100_000}
    if how in ("errors", "held", "trickle"):
        _misbehave(how)
    if how == "fault":
        raise ValueError("not foreseen")
    while True:
        time.sleep(3600)


def _misbehave(how: str) -> None:
    """Answer as nothing of ours does: bit by bit, or with the end of the answers, and what is left of the process has
    its errors still."""
    (channel,) = (fd for fd in range(3, 4096) if _is_open(fd) and stat.S_ISSOCK(os.fstat(fd).st_mode))
    if how != "trickle":
        socket.socket(fileno=channel).shutdown(socket.SHUT_RDWR)
    while True:
        if how == "errors":
            os.write(2, b"x" * 4096)
            continue
        time.sleep(0.1)
        if how == "trickle":
            os.write(channel, b" ")


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
