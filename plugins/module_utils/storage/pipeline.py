# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One stage of a stream in a thread of its own, so that reading, unpacking and writing overlap."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator

# Whoever stops early closes them: threads, files and connections end with that, and not when memory is tidied up.
Blocks = Generator[bytes, None, None]
# Blocks that may wait between two stages: at 1 MiB each, a few bound the memory.
DEPTH = 4


def ahead(blocks: Blocks, depth: int = DEPTH) -> Blocks:
    """The same blocks, made up to `depth` ahead by another thread; its error is raised where it would have been.

    Closing it ends the thread, and closes `blocks` there.
    """
    waiting: queue.Queue[bytes | BaseException | None] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: bytes | BaseException | None) -> bool:
        while not stop.is_set():
            try:
                waiting.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def produce() -> None:
        try:
            for block in blocks:
                if not put(block):
                    break
            put(None)
        except BaseException as error:
            put(error)
        finally:
            blocks.close()

    thread = threading.Thread(target=produce, name="ahead", daemon=True)
    thread.start()
    try:
        while True:
            item = waiting.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()
