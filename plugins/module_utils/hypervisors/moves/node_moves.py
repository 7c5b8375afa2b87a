# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps what a node has of moves (below its nebula_root, a file for each machine): nothing here starts a machine that
has left, or a copy that has not arrived. What is written is on the disk when the call returns."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Collection, Iterator

from ...dataclass import dataclass
from ...errors import CatalogError, NebulaError, NotFound
from ...host import node_file
from ...host.files import lock, make_directory, read_limited, remove_file, sync_directory, write_atomically
from ...model.dataclass_json import from_plain, json_value, to_plain
from ...model.move import OVER, MoveSeen

# In which another run that moves machines is waited for.
LOCK_SECONDS = 600
_ID = re.compile(r"0|[1-9]\d{0,17}", re.ASCII)
# What a killed run was about to make an entry.
_UNFINISHED = re.compile(rf"\.({_ID.pattern})\.\w+\.tmp", re.ASCII)


@dataclass(frozen=True)
class NodeMove:
    """Holds one node's entry of a move.
    stage: as model/move.py has it.
    catalog, uuid: whose machine it is, and which.
    way: as model/move.py has it.
    shared: both hosts see the same files of it, which nobody removes on account of the move.
    boot: the boot of this node in which this was written.
    went_down: the machine has stayed, and went off with this node. It is to be started, as any that did."""

    vm_id: int
    uuid: str
    token: str
    stage: str
    catalog: str
    way: str
    shared: bool = False
    boot: str = ""
    went_down: bool = False


def directory(root: str) -> str:
    return os.path.join(root, "moves")


def _path(root: str, vm_id: int) -> str:
    return os.path.join(directory(root), str(vm_id))


def read(root: str, vm_id: int) -> NodeMove | None:
    """Return the machine's entry; None if there is none. Raise CatalogError if it can't be read."""
    path = _path(root, vm_id)
    try:
        return from_plain(NodeMove, json_value(read_limited(path, node_file.LARGEST, follow=False).decode()))
    except NotFound:
        return None
    except (ValueError, NebulaError) as error:
        raise CatalogError(
            f"file {path}",
            f"it can't be read: {error}",
            "It says whether the machine may run here. Find out on which host it runs, then remove the file",
        ) from error


def write(root: str, entry: NodeMove) -> None:
    make_directory(directory(root), 0o700)
    text = json.dumps(to_plain(entry), indent=1, sort_keys=True) + "\n"
    write_atomically(_path(root, entry.vm_id), text, mode=0o600)


def remove(root: str, vm_id: int) -> None:
    if remove_file(_path(root, vm_id)):
        sync_directory(directory(root))


def entries(root: str) -> list[NodeMove]:
    """Return all that can be read."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(filter(_ID.fullmatch, os.listdir(directory(root)))):
            with contextlib.suppress(NebulaError):
                entry = read(root, int(name))
                found += [entry] if entry is not None else []
    return found


def seen(root: str, catalog: str) -> tuple[MoveSeen, ...]:
    """Return what a poll reports."""
    return tuple(
        MoveSeen(entry.vm_id, entry.token, entry.stage, entry.went_down)
        for entry in entries(root)
        if entry.catalog == catalog
    )


def forget(root: str, catalog: str, number: int, moving: Collection[str], brought: Collection[int]) -> None:
    """Remove the entries of moves that are over here, and are decided, if no newer plan was accepted.
    number: of the plan.
    moving: tokens of those that are not decided.
    brought: ids of machines that were brought to their states here by a plan of no move: they are this node's."""
    if not os.path.isdir(directory(root)):
        return
    with node_file.fence(root, catalog, number) as current:
        for entry in entries(root) if current else ():
            is_over = entry.vm_id in brought or entry.stage in OVER
            if is_over and entry.catalog == catalog and entry.token not in moving:
                remove(root, entry.vm_id)


def give_back(root: str) -> None:
    """Remove all of it, where no machine is left."""
    for entry in entries(root):
        remove(root, entry.vm_id)
    _remove_unfinished(root)
    with contextlib.suppress(OSError):
        os.rmdir(directory(root))


@contextlib.contextmanager
def alone(root: str) -> Iterator[None]:
    """Hold the lock by which only one run at a time moves machines from and to this node."""
    make_directory(directory(root), 0o700)
    with lock(os.path.join(directory(root), ""), LOCK_SECONDS):
        # Entries are written under this lock alone.
        _remove_unfinished(root)
        yield


def _remove_unfinished(root: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        for name in filter(_UNFINISHED.fullmatch, os.listdir(directory(root))):
            remove_file(os.path.join(directory(root), name))
