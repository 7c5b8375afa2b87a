# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes the snapshots of one disk: a tree in which one is active, from which the disk's present content comes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Optional

from ..dataclass import dataclass, replace
from ..errors import Conflict, NotFound, WrongState
from .dataclass_json import from_plain, json_value, to_plain

# The names that snapshots have in the file itself; users' own may hold anything.
TAG = "nebula-"


@dataclass(frozen=True)
class Snapshot:
    """Describes one snapshot.
    id: its number on this disk, from 0 on.
    mark: tells it in the file from another of that id, which nobody remembers.
    parent: the id of the snapshot that was active when it was made, None for the first.
    date: s since the epoch.
    size: MiB that the disk had then."""

    id: int
    name: str
    parent: Optional[int] = None
    active: bool = False
    date: int = 0
    size: int = 0
    mark: str = ""

    @property
    def tag(self) -> str:
        return tag_of(self.id, self.mark)


def tag_of(snapshot_id: int, mark: str) -> str:
    """Return the name in the file. Snapshots of older versions have no mark."""
    return f"{TAG}{snapshot_id}-{mark}" if mark else f"{TAG}{snapshot_id}"


Tree = tuple[Snapshot, ...]
"""In the order in which they were made."""


def tree_of(text: str) -> Tree:
    """Return the tree that text_of() wrote."""
    return tuple(from_plain(Snapshot, each) for each in json_value(text)) if text else ()


def text_of(tree: Sequence[Snapshot]) -> str:
    return json.dumps(to_plain(tuple(tree)), separators=(",", ":")) if tree else ""


def find(tree: Sequence[Snapshot], name: str) -> Snapshot | None:
    return next((each for each in tree if each.name == name), None)


def next_id(tree: Sequence[Snapshot]) -> int:
    return max((each.id for each in tree), default=-1) + 1


def active(tree: Sequence[Snapshot]) -> Snapshot | None:
    return next((each for each in tree if each.active), None)


def children(tree: Sequence[Snapshot], parent: int) -> Tree:
    return tuple(each for each in tree if each.parent == parent)


def with_snapshot(tree: Sequence[Snapshot], snapshot: Snapshot) -> Tree:
    """Return the tree with one more snapshot, which is active from now on, below the one that was."""
    if find(tree, snapshot.name) is not None:
        raise Conflict(f"snapshot {snapshot.name}", "there is one of that name", "Choose another name")
    before = active(tree)
    new = replace(snapshot, parent=before.id if before is not None else None, active=True)
    return (*(replace(each, active=False) for each in tree), new)


def with_active(tree: Sequence[Snapshot], snapshot_id: int) -> Tree:
    _snapshot_of_id(tree, snapshot_id)
    return tuple(replace(each, active=each.id == snapshot_id) for each in tree)


def without_snapshot(tree: Sequence[Snapshot], snapshot_id: int) -> Tree:
    """Return the tree without the snapshot, by OpenNebula's rules for disks of which each part rests on another."""
    refuse_deletion(tree, _snapshot_of_id(tree, snapshot_id))
    return tuple(each for each in tree if each.id != snapshot_id)


def refuse_deletion(tree: Sequence[Snapshot], snapshot: Snapshot) -> None:
    """Raise WrongState for a snapshot that is active or has children."""
    if snapshot.active:
        raise WrongState(
            f"snapshot {snapshot.name}: delete",
            "it is the active one",
            "Revert to another one first; save_as makes an image of the disk that has no snapshots",
        )
    below = children(tree, snapshot.id)
    if below:
        raise WrongState(
            f"snapshot {snapshot.name}: delete",
            f"it has children: {', '.join(each.name for each in below)}",
            "Delete these first",
        )


def _snapshot_of_id(tree: Sequence[Snapshot], snapshot_id: int) -> Snapshot:
    for each in tree:
        if each.id == snapshot_id:
            return each
    raise NotFound(f"snapshot {snapshot_id}", "the disk has none of that id", "List them with nebula_info")
