# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives a file that is written its name in a datastore: whole, synced, and by one run at a time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from ..host import files
from . import datastore_layout

# The ends of names: of the empty file that a run holds while it stores a file, of that file until it is whole, and of
# what it is made of where it came in another format.
PART, NEW, GIVEN = ".part", ".new", ".given"
# Behind NEW: of the disk that was packed in an OVA, and of the first sectors of what was converted.
MEMBER, HEAD = ".member", ".head"
# In a directory of its own: of the overlay in which an image is changed.
OVERLAY = "overlay"


@contextlib.contextmanager
def locked_destination(destination: str, timeout: float) -> Iterator[None]:
    """Hold `destination` against other runs, by a lock on a file beside it, which is removed afterwards. Raise
    TimedOut if another run holds it.

    What a killed run has left there is removed first. The lock is held until the catalog knows of the file.
    Therefore it is not on the file itself, which is renamed before."""
    with files.lock(destination + PART, timeout=timeout):
        try:
            for end in (NEW, NEW + MEMBER, NEW + HEAD, GIVEN):
                files.remove_file(destination + end)
            yield
        finally:
            files.remove_file(destination + PART, sync=True)


def make(destination: str, fill: Callable[[str], None]) -> None:
    """Have `fill` write a new file, and bring it to `destination`, within reserved(). fill: called with its path."""
    with temporary_name(destination) as temporary:
        fill(temporary)
        publish(temporary, destination)


@contextlib.contextmanager
def temporary_name(destination: str) -> Iterator[str]:
    """Yield the name for a file that is not whole yet; it is free within reserved(), and free again afterwards."""
    temporary = destination + NEW
    try:
        yield temporary
    finally:
        files.remove_file(temporary)


def publish(written: str, destination: str) -> None:
    """Sync the file, give it its owner and mode in the datastore, and rename it to `destination`."""
    with files.explained(written):
        files.settle(written)
        datastore_layout.protect(written, writable=False)
        os.rename(written, destination)
        files.sync_directory(os.path.dirname(destination))
