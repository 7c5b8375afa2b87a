# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what Xen's tools log of each domain: a tool runs as long as the domain, and says how it ended."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from ...errors import NebulaError
from ...host import processes
from ...host.command import last_lines
from ...host.files import remove_file

LOGS = Path("/var/log/xen")
# The newest of what it says; it is a few lines for each start.
_LIMIT = 64 * 1024
_START = re.compile(r"Waiting for domain \S+ \(domid (\d+)\) to die \[pid (\d+)\]")
_END = re.compile(r"Domain \d+ has shut down, reason code (\d+)")
_POWEROFF, _REBOOT, _SUSPEND = 0, 1, 2
# A domain that comes from another host has this behind its name until it runs, and its tool's file keeps it.
INCOMING = "--incoming"
SHOWN = 3


def _newest_log(name: str) -> tuple[str, os.stat_result | None]:
    """Return the end of the log of the tool that was the last to have the domain, and the log's status."""
    newest: os.stat_result | None = None
    recent = b""
    for path in (LOGS / f"xl-{name}.log", LOGS / f"xl-{name}{INCOMING}.log"):
        with contextlib.suppress(OSError), path.open("rb") as file:
            status = os.fstat(file.fileno())
            if newest is None or status.st_mtime_ns > newest.st_mtime_ns:
                file.seek(max(0, status.st_size - _LIMIT))
                newest, recent = status, file.read(_LIMIT)
    return recent.decode("utf-8", "replace"), newest


def _since_start(name: str) -> tuple[str, os.stat_result | None]:
    recent, file = _newest_log(name)
    starts = list(_START.finditer(recent))
    return recent[starts[-1].start() :] if starts else "", file


def ended_by(name: str) -> str:
    """Return who ended the domain, as ObservedVm.ended."""
    recent, _file = _since_start(name)
    if not recent:
        return "unknown"
    end = _END.search(recent)
    reason = int(end[1]) if end else None
    if reason == _SUSPEND:
        # Then its tool has gone, also where the domain went on since it could not go to another host.
        return "unknown"
    # A reboot ends the machine where that is what was wanted.
    return "guest" if reason in (_POWEROFF, _REBOOT) else ""


def is_rebooting(name: str) -> bool:
    """Return whether the domain's tool is about to make it anew."""
    recent, file = _since_start(name)
    start, end = _START.search(recent), _END.search(recent)
    if file is None or not start or not end or "Exiting now" in recent or int(end[1]) != _REBOOT:
        return False
    # The number may be another process's by now, which then does not write to this file.
    return processes.is_of_root(int(start[2])) and processes.writes_to(int(start[2]), file)


def is_made(name: str) -> bool:
    """Return whether a tool that root runs is making the domain now."""
    file = f"/{name}.cfg".encode()

    def makes(words: list[bytes]) -> bool:
        names = [os.path.basename(word) for word in words[:2]]
        # xm is a script: its interpreter comes before.
        is_tool = names[0] == b"xl" or (names[0].startswith(b"python") and names[1:] == [b"xm"])
        return is_tool and b"create" in words[1:3] and any(word.endswith(file) for word in words)

    return any("Waiting for domain" not in _since_start(name)[0] for _each in processes.of_root(makes))


def last_words(name: str) -> str:
    """Return the last words of the device model, whose errors xl does not repeat."""
    with contextlib.suppress(OSError, NebulaError):
        text = (LOGS / f"qemu-dm-{name}.log").read_text(encoding="utf-8", errors="replace")[-4096:]
        return last_lines(text, SHOWN)
    return ""


def remove(name: str) -> None:
    """Remove all logs of this domain."""
    with contextlib.suppress(OSError):
        for path in LOGS.iterdir():
            if re.fullmatch(rf"(xl|qemu-dm)-{re.escape(name)}({INCOMING})?\.log(\.\d+)?", path.name):
                remove_file(str(path))
