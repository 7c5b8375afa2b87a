# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts new files in the place of a machine's disks, all of them or none, whenever a run is killed.

    .restore.json            what is under way: first which files are being made, then that all of them are whole
    .disk.0.restored         a new file, beside the one that it is to replace
    .disk.0.before           the old one's second name, until all new ones are in their places

Roots of containers, which are directories, change places as roots.put_in_place() does it.

Whoever holds the lock of the machine's directory finishes what a killed run has begun before doing anything else."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping

from ..dataclass import dataclass, replace
from ..errors import ForeignObject, NebulaError, NotFound
from ..host.files import explained, read_limited, remove_file, settle, sync_directory, write_atomically
from ..model.dataclass_json import from_plain, json_value, to_plain
from . import roots as container_roots

JOURNAL = ".restore.json"
NEW, BEFORE = ".restored", ".before"
_LARGEST = 1 << 20
_MAKING, _FORTH, _BACK = "making", "forth", "back"
PutState = Callable[[str], None]
"""Gives the host what of the machine's state it keeps elsewhere, from a file."""


@dataclass(frozen=True)
class Swap:
    """Says which files change places.
    stage: _MAKING: the new ones are not whole; _FORTH: they are; _BACK: the old ones come back.
    paths: of those that are replaced, or come.
    state: whether state that is kept elsewhere waits in the machine's directory.
    roots: directories of roots, beside which new ones are made."""

    stage: str
    paths: tuple[str, ...]
    state: bool = False
    roots: tuple[str, ...] = ()


def new_path(path: str) -> str:
    return _beside(path, NEW)


def state_path(directory: str) -> str:
    return os.path.join(directory, f".state{NEW}")


def _beside(path: str, suffix: str) -> str:
    return os.path.join(os.path.dirname(path), f".{os.path.basename(path)}{suffix}")


@contextlib.contextmanager
def swapping(
    directory: str,
    paths: tuple[str, ...],
    state: bool,
    put_state: PutState,
    roots: tuple[str, ...] = (),
    before: Callable[[], None] = lambda: None,
) -> Iterator[Mapping[str, str]]:
    """Yield where the new files are to be made, by the paths of those that they replace; when the block ends, they are
    in their places. After an error in it everything is as it was. state: state_path() is made, too. roots: beside
    these, new ones are made (roots.RESTORED). before: looks once more whether they may change places."""
    swap = Swap(_MAKING, paths, state, roots)
    _note(directory, swap)
    new = {path: new_path(path) for path in paths}
    try:
        yield new
        for path in (*new.values(), *([state_path(directory)] if state else ())):
            settle(path)
        _sync(directory, swap)
        before()
        _note(directory, replace(swap, stage=_FORTH))
    except BaseException:
        _give_up(directory, swap)
        raise
    _forth(directory, replace(swap, stage=_FORTH), put_state)


def is_unfinished(directory: str) -> bool:
    return os.path.lexists(os.path.join(directory, JOURNAL))


def is_exchanging(directory: str) -> bool:
    """Return whether finish() has files change places."""
    swap = _read(directory)
    return swap is not None and swap.stage != _MAKING


def finish(directory: str, put_state: PutState) -> bool:
    """Finish what a killed run has begun; return whether there was something. The lock of the directory is held."""
    swap = _read(directory)
    if swap is None:
        return False
    if swap.stage == _MAKING:
        _give_up(directory, swap)
    elif swap.stage == _BACK:
        _back(directory, swap)
    else:
        _forth(directory, swap, put_state)
    return True


def _read(directory: str) -> Swap | None:
    path = os.path.join(directory, JOURNAL)
    try:
        swap = from_plain(Swap, json_value(read_limited(path, _LARGEST, follow=False).decode()))
    except NotFound:
        return None
    except (ValueError, NebulaError) as error:
        raise ForeignObject(
            f"file {path}", f"it can't be read: {error}", "Move it away, and restore the machine again"
        ) from error
    if swap.stage not in (_MAKING, _FORTH, _BACK) or not all(map(os.path.isabs, (*swap.paths, *swap.roots))):
        raise ForeignObject(f"file {path}", "it says what no run has written", "Move it away, and restore again")
    return swap


def _note(directory: str, swap: Swap) -> None:
    write_atomically(os.path.join(directory, JOURNAL), json.dumps(to_plain(swap)) + "\n", mode=0o600)


def _sync(directory: str, swap: Swap) -> None:
    for place in {directory, *map(os.path.dirname, (*swap.paths, *swap.roots))}:
        with explained(place):
            sync_directory(place)


def _forget(directory: str, swap: Swap) -> None:
    _sync(directory, swap)
    remove_file(os.path.join(directory, JOURNAL), sync=True)


def _give_up(directory: str, swap: Swap) -> None:
    for path in swap.paths:
        remove_file(new_path(path))
    for root in swap.roots:
        container_roots.remove_replaced(root)
    remove_file(state_path(directory))
    _forget(directory, swap)


def _forth(directory: str, swap: Swap, put_state: PutState) -> None:
    try:
        for path in swap.paths:
            _replace(path)
        for root in swap.roots:
            container_roots.put_in_place(root)
    except (OSError, NebulaError):
        back = replace(swap, stage=_BACK)
        _note(directory, back)
        _back(directory, back)
        raise
    _sync(directory, swap)
    if swap.state and os.path.lexists(state_path(directory)):
        put_state(state_path(directory))
    for path in swap.paths:
        remove_file(_beside(path, BEFORE))
    for root in swap.roots:
        container_roots.remove_replaced(root)
    remove_file(state_path(directory))
    _forget(directory, swap)


def _replace(path: str) -> None:
    new, before = new_path(path), _beside(path, BEFORE)
    if not os.path.lexists(new):
        return
    with explained(path):
        if os.path.lexists(path) and not os.path.lexists(before):
            os.link(path, before, follow_symlinks=False)
        os.rename(new, path)


def _back(directory: str, swap: Swap) -> None:
    """Have the old files in their places again."""
    for path in swap.paths:
        before = _beside(path, BEFORE)
        with explained(path):
            if os.path.lexists(before):
                os.rename(before, path)
                # Two names of one file: a rename leaves both.
                remove_file(before)
        remove_file(new_path(path))
    for root in swap.roots:
        container_roots.put_back(root)
    remove_file(state_path(directory))
    _forget(directory, swap)
