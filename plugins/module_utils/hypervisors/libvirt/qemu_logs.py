# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what libvirt and QEMU log of each start and end of a domain. The log outlives both of them, and their host."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from ...errors import NebulaError
from ...host.console.console_log import last_place
from ...host.files import remove_file
from ...model import defaults

LOGS = Path("/var/log/libvirt/qemu")
# virtlogd keeps older ones as .0 to .2, logrotate as .1 to .4 or by date, some of them compressed.
_OLDER = re.compile(r"\.log(?:[.-]\d+){1,2}(\.gz)?")
# virtlogd begins a new file before that.
_LIMIT = 2 * defaults.CONSOLE_LOG_BYTES
_START = b": starting up libvirt"
_END = re.compile(rb"^\d{4}-\d\d-\d\d [\d:.]+\+0000: shutting down, reason=(\w+)$", re.MULTILINE)
# QEMU says who wanted its end. libvirt does too, after a guest that has switched off: until then QEMU stays.
_SIGNAL = b": terminating on signal "
_SENDER = re.compile(rb"\d+(?: from pid (\d+) \((.*)\))?")
_LIBVIRT = (b"libvirtd", b"virtqemud")
# Where QEMU is confined, it may not see who that was. Process 1 is the host that goes down.
_UNSEEN = b"<unknown process>"


def ended_by_guest(name: str) -> bool | None:
    """Return whether its guest ended the domain the last time; None if its log does not tell.

    A domain that was started and has no end in its log went down with its host."""
    text = _since_start(name)
    if text is None:
        return None
    ends = _END.findall(text)
    return bool(ends) and ends[-1] == b"shutdown" and not any(map(_names_another_sender, text.split(b"\n")))


def _names_another_sender(line: bytes) -> bool:
    """Return whether QEMU writes in this line that somebody other than libvirt wanted its end."""
    signal = _SENDER.fullmatch(line.partition(_SIGNAL)[2])
    if signal is None:
        return False
    pid, sender = signal[1], signal[2]
    if pid in (None, b"1"):
        return True
    return sender != _UNSEEN and sender.rpartition(b"/")[2] not in _LIBVIRT


def _since_start(name: str) -> bytes | None:
    """Return what was logged since the domain was last started; None if that is gone, or can't be read."""
    text = b""
    try:
        for path in _logs_newest_first(name):
            size = path.stat().st_size
            place = last_place(str(path), size, _START)
            with path.open("rb") as file:
                file.seek(max(place or 0, size - _LIMIT))
                text = file.read(_LIMIT) + text
            if place is not None:
                return text
    except (NebulaError, OSError):
        pass
    return None


def _logs_newest_first(name: str) -> Iterator[Path]:
    """Yield the logs, the newest first. Only after it is the directory read, which has files of all machines."""
    newest = LOGS / f"{name}.log"
    if newest.exists():
        yield newest
    yield from sorted(older_logs(name, packed=False), key=lambda path: -path.stat().st_mtime_ns)


def older_logs(name: str, packed: bool = True) -> list[Path]:
    found = []
    with contextlib.suppress(OSError):
        for path in LOGS.iterdir():
            rest = _OLDER.fullmatch(path.name[len(name) :]) if path.name.startswith(f"{name}.log") else None
            if rest is not None and (packed or not rest[1]):
                found.append(path)
    return found


def remove(name: str) -> None:
    """Remove all logs of this domain, the newest last."""
    for path in [*older_logs(name), LOGS / f"{name}.log"]:
        remove_file(str(path))
