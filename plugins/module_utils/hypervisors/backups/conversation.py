# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has the words by which a host gives the front-end a machine's backup, and the front-end brings one back to it.

Each machine is one conversation, on a connection of its own:

| front-end | host |
|---|---|
| `begin`: what is wanted (model/given_backup.py) | |
| | `given`: what can be read now |
| `file`: one of them | the file, as file_streams.py sends it |
| `root`: the number of one | its archive in pieces, each after its `length`; 0 at the end, with what was `left_out` |
| reads each disk by connections of its own | |
| `read`: all that is in the backup | |
| | `read`: it is of one moment |
| `kept`: the backup is whole, and on its disk | |
| | `done`: what was known for the backup before is given up |

In place of `read` or `kept` the front-end asks `why`, where it could not store it: the host refuses where it knows
that, and says `done` where not.

What ends before `kept` may be a backup, whose word was lost: the host keeps what it began for it beside what it had,
until the next one goes on from either. A first connection of the run stays open
as long as the front-end has further machines to back up.

What is brought back is one conversation, which the host leads once the front-end has come:

| front-end | host |
|---|---|
| `begin`: it has the backup | |
| | `file`: what else of the machine's it wants, `root`: the number of one |
| it in pieces, each after its `length`; 0 at the end | |
| | `disk`: the number of one, of which a new file is shown now |
| writes it by a connection of its own | |
| `whole`: that number; what it was made of was as its manifest says | |
| | `done`: everything is in its place |

Whoever can't go on says `refused`, and why. What ends before `whole` of the last one has changed nothing."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Mapping
from typing import Any

from ...errors import HypervisorError, NebulaError, OtherHostFailed
from ..moves.passage import Channel

BEGIN, GIVEN, FILE, KEPT, DONE, REFUSED, OVER = "begin", "given", "file", "kept", "done", "refused", "over"
ROOT, LENGTH, LEFT_OUT, READ, WHY = "root", "length", "left_out", "read", "why"
DISK, WHOLE = "disk", "whole"
# Bytes of a piece.
LONGEST_PIECE = 1 << 20
# Seconds in which the other one answers: a guest freezes its file systems, or a chain of snapshots is looked at.
ANSWER_SECONDS = 600.0
# Seconds in which the host ends what it has begun, and says whether that is why it could not be stored.
WHY_SECONDS = 180.0
# Seconds in which the front-end stores a machine's disks, and in which a run ends.
STORING_SECONDS = 7 * 24 * 3600.0
_LONGEST = 1000


def limit() -> float:
    """Return until when a small file is there, by the monotonic clock."""
    return time.monotonic() + ANSWER_SECONDS


def token_of(run: str, vm_id: int, disk_id: int | None = None) -> str:
    """Return by what a machine of the run is known at the door, or one of its disks."""
    return f"{run}.{vm_id}" if disk_id is None else f"{run}.{vm_id}.{disk_id}"


def answer(channel: Channel, word: str, host: str, seconds: float = ANSWER_SECONDS) -> Any:
    """Return what the other one says to the last message. Raise its own error where it refuses."""
    return message(channel, word, host, seconds)[word]


def message(channel: Channel, word: str, host: str, seconds: float = ANSWER_SECONDS) -> Mapping[str, Any]:
    """Return the next message, which has this word. Raise the other one's own error where it refuses."""
    return read(channel.receive(seconds), word, channel, host)


def read(found: Mapping[str, Any], word: str, channel: Channel, host: str) -> Mapping[str, Any]:
    """Return a message that has come, as message() does."""
    refused = found.get(REFUSED)
    if isinstance(refused, dict):
        words = {key: str(refused.get(key, ""))[:_LONGEST] for key in ("asked", "found", "remedy")}
        kind = OtherHostFailed if refused.get("kind") == OtherHostFailed.__name__ else HypervisorError
        raise kind(f"{words['asked']} (host {host})", words["found"], words["remedy"])
    if word not in found:
        raise channel.broken("it answers something else than it was asked")
    return found


def send_pieces(channel: Channel, blocks: Iterable[bytes]) -> None:
    """Send bytes of which nobody knows how many they are."""
    for block in blocks:
        view = memoryview(block)
        while view:
            piece, view = view[:LONGEST_PIECE], view[LONGEST_PIECE:]
            channel.send(**{LENGTH: len(piece)})
            channel.send_bytes(piece)
    channel.send(**{LENGTH: 0})


def pieces(channel: Channel, host: str, seconds: float) -> Generator[bytes, None, None]:
    """Yield what send_pieces() sends, within so many seconds. Raise the other one's own error where it refuses."""
    end = time.monotonic() + seconds
    while True:
        length = message(channel, LENGTH, host, min(STORING_SECONDS, end - time.monotonic()))[LENGTH]
        if not isinstance(length, int) or isinstance(length, bool) or not 0 <= length <= LONGEST_PIECE:
            raise channel.broken("it sends no piece of a file")
        if not length:
            return
        yield from channel.receive_bytes(length, end - time.monotonic())


def refuse(channel: Channel, error: NebulaError) -> None:
    channel.send(**{REFUSED: error.as_dict()})
