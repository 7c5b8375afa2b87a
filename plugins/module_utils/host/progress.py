# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes how far a long task is: one line in a file, for the action plugin on the control node that prints it."""

from __future__ import annotations

import os
import threading
import time

from .files import closing_fd

INTERVAL = 0.5


class Reporter:
    """Writes the line to `path`, at most every 0.5 s; without an absolute path it does nothing. It is safe in threads.

    It never raises: a task does not fail because its progress can't be shown."""

    def __init__(self, path: str | None) -> None:
        # One with a variable that nobody has filled in is relative: it would be written wherever the task runs.
        self._path = path if path is not None and os.path.isabs(path) else None
        self._due = 0.0
        self._lock = threading.Lock()

    def report(self, done: int, failed: int, total: int, text: str = "", word: str = "done") -> None:
        """Write that `done` of `total` objects are `word` ("running", "ready") and `failed` failed, or `text`, if it
        is given."""
        if self._path is None:
            return
        self.say(text or f"{done} of {total} {word}" + (f", {failed} failed" if failed else ""))

    def say(self, text: str) -> None:
        if self._path is None or not self._lock.acquire(blocking=False):
            return
        try:
            now = time.monotonic()
            if now < self._due:
                return
            self._due = now + INTERVAL
            temporary = self._path + ".new"
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            with closing_fd(os.open(temporary, flags, 0o600)) as fd:
                os.write(fd, " ".join(text.split()).encode() + b"\n")
            os.rename(temporary, self._path)
        except OSError:
            self._path = None
        finally:
            self._lock.release()
