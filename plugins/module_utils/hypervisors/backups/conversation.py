# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has the words by which a host gives the front-end a machine's backup.

Each machine is one conversation, on a connection of its own:

| front-end | host |
|---|---|
| `begin`: what is wanted (model/given_backup.py) | |
| | `given`: what can be read now |
| `file`: one of them | the file, as file_streams.py sends it |
| `root`: the number of one | its archive in pieces, each after its `length`; 0 at the end, with what was `left_out` |
| reads each disk by connections of its own | |
| `kept`: the backup is whole, and on its disk | |
| | `done`: what was known for the backup before is given up |

In place of `kept` the front-end asks `why`, where it could not store it: the host refuses where it knows that, and
says `done` where not.

What ends before `kept` may be a backup, whose word was lost: the host keeps what it began for it beside what it had,
until the next one goes on from either. A first connection of the run stays open
as long as the front-end has further machines to back up."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ...errors import HypervisorError, NebulaError, OtherHostFailed
from ..moves.passage import Channel

BEGIN, GIVEN, FILE, KEPT, DONE, REFUSED, OVER = "begin", "given", "file", "kept", "done", "refused", "over"
ROOT, LENGTH, LEFT_OUT, WHY = "root", "length", "left_out", "why"
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
    found = channel.receive(seconds)
    refused = found.get(REFUSED)
    if isinstance(refused, dict):
        words = {key: str(refused.get(key, ""))[:_LONGEST] for key in ("asked", "found", "remedy")}
        kind = OtherHostFailed if refused.get("kind") == OtherHostFailed.__name__ else HypervisorError
        raise kind(f"{words['asked']} (host {host})", words["found"], words["remedy"])
    if word not in found:
        raise channel.broken("it answers something else than it was asked")
    return found


def refuse(channel: Channel, error: NebulaError) -> None:
    channel.send(**{REFUSED: error.as_dict()})
