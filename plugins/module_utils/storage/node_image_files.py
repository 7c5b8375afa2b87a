# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks and keeps files of images on a node that does not see the front-end's datastores, and gives back what
machines wrote.

    transfer/in/NAME, NAME.json   as the front-end brings them; the second one last, with what the first has to be
    cache/NAME                    checked: nothing writes to it, machines rest on it
    cache/own-NAME                checked: one machine's own, which it writes to
    transfer/out/NAME             what its machine has done with, or saved; the front-end fetches and removes it

Each step is a rename, so that a file is in one of these places, whole, whenever a run is killed."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import stat
from collections.abc import Callable, Collection, Iterator
from dataclasses import field
from typing import BinaryIO

from ..dataclass import dataclass
from ..errors import Conflict, InvalidValue, NebulaError, NotFound, StorageFailed
from ..host import node_file, rsync
from ..host.files import (
    adopt,
    content_digest,
    explain,
    explained,
    lock,
    make_directory,
    read_limited,
    remove_file,
    settle,
    sync_directory,
)  # fmt: skip
from ..model.plan import Plan
from ..model.transfer import CHECK, ENDED, OWN, OWN_PREFIX, SAVED, SENT, PlannedImage, is_name
from .datastore_layout import disk_path, protect, room, vm_directory

CACHE = "cache"
PLACE = "transfer"
IN, OUT = f"{PLACE}/in", f"{PLACE}/out"
# In the cache, before the name of a file that is about to get its own.
COMING = ".coming-"
# In the cache too: what is saved of a machine's disk is written where nobody but root can put a link in its place.
SAVING = ".saving-"
LOCK_SECONDS = 3600
LARGEST = 1 << 16


@dataclass
class Arrivals:
    """Says what arrived. faults: by PlannedImage.local, why a file is not here. new: files that this run took in."""

    faults: dict[str, NebulaError] = field(default_factory=dict)
    new: set[str] = field(default_factory=set)


def make_places(root: str) -> list[str]:
    """Make and return missing directories; those below `transfer` belong to the user that the front-end comes as."""
    user = pwd.getpwnam(rsync.USER)
    made = []
    for name, mode, owner in (
        (CACHE, 0o711, 0),
        # rrsync opens it to read; what is in it is no secret.
        (PLACE, 0o755, 0),
        (IN, 0o700, user.pw_uid),
        # A hypervisor's user gets through, to what it is to write a running machine's disk to.
        (OUT, 0o711, user.pw_uid),
    ):
        if make_directory(os.path.join(root, name), mode, owner):
            made.append(name)
    places = [os.path.join(root, name) for name in (CACHE, IN, OUT)]
    if len({os.stat(place).st_dev for place in places}) > 1:
        raise InvalidValue(
            f"directories {', '.join(places)}",
            "they are on different file systems, and files get from one to the other by rename",
            "Have them on one: what is to be elsewhere is all of nebula_root",
        )
    return made


def path_of(root: str, image: PlannedImage) -> str:
    """Return the path on this node at which a file of the front-end is, or will be."""
    if image.kind == SAVED:
        return os.path.join(root, CACHE, SAVING + image.name)
    return os.path.join(root, CACHE, image.local)


def kept_files(root: str) -> tuple[str, ...]:
    """Return the files that are kept here, by PlannedImage.local; names alone are read, so that a poll stays cheap."""
    return tuple(sorted(name for name in _names(root, CACHE) if is_name(name.removeprefix(OWN_PREFIX))))


def returning_sizes(root: str) -> dict[str, int]:
    """Return the bytes that each file that is to go back to the front-end takes, by name."""
    return {name: status.st_blocks * 512 for name, status in _going_back(root)}


def returning_lengths(root: str) -> dict[str, int]:
    """Return the length in bytes, with its holes, of each file that is to go back."""
    return {name: status.st_size for name, status in _going_back(root)}


def _going_back(root: str) -> Iterator[tuple[str, os.stat_result]]:
    for name in _names(root, OUT):
        with contextlib.suppress(FileNotFoundError):
            if is_name(name):
                yield name, os.stat(os.path.join(root, OUT, name), follow_symlinks=False)


def free_mib(root: str) -> int:
    """Return the room for files that arrive, in MiB."""
    return room(os.path.join(root, IN))[0] or 0


# -- what comes ----------------------------------------------------------------------------------------------------
def check_and_keep(root: str, plan: Plan) -> Arrivals:
    """Check and keep what came of what the plan's machines need; what was taken back is removed."""
    arrived = Arrivals()
    wanted = {image.local: image for image in plan.images if image.kind in SENT}
    if not wanted and not plan.taken:
        return arrived
    with _locked(root):
        for name in plan.taken:
            if is_name(name):
                remove_file(os.path.join(root, OUT, name))
            elif is_name(name.removeprefix(OWN_PREFIX)):
                remove_file(os.path.join(root, CACHE, name))
        there = set(kept_files(root))
        for local, image in wanted.items():
            if local in there:
                continue
            try:
                _take_in(root, image)
                arrived.new.add(local)
            except NebulaError as error:
                arrived.faults[local] = error
            except OSError as error:
                arrived.faults[local] = explain(error, os.path.join(root, IN, image.name))
    return arrived


def _take_in(root: str, image: PlannedImage) -> None:
    came, check = os.path.join(root, IN, image.name), os.path.join(root, IN, image.name + CHECK)
    asked = f"image {image.image} on this node"
    if image.kind == OWN and os.path.lexists(os.path.join(root, OUT, image.name)):
        raise Conflict(
            asked,
            "what its last machine wrote has not come back to the front-end yet",
            "Run again: it is fetched first",
        )
    size, digest = _read_announced(asked, check)
    try:
        with _open_file(asked, came) as file:
            sha256 = content_digest(file)
            found = file.tell(), sha256
            if found == (size, digest) and image.sha256 in ("", digest):
                # What was read, and not what has its name by now.
                _keep(root, image, came, os.fstat(file.fileno()).st_ino)
                remove_file(check)
                return
    except NotFound:
        raise _not_arrived(asked) from None
    for path in (check, came):
        remove_file(path)
    raise StorageFailed(
        asked,
        f"{found[0]} bytes came with SHA-256 {found[1]}; it is to have {size} bytes and {image.sha256 or digest}",
        "Run again: it is sent anew. If that is of no use, its file on the front-end is not what was stored: playbook "
        "nebula.provision.audit with -e nebula_audit_deep=true tells",
    )


def _not_arrived(asked: str) -> NotFound:
    return NotFound(asked, "it did not come here", "See what the front-end said of sending it, then run again")


def _read_announced(asked: str, check: str) -> tuple[int, str]:
    try:
        announced = json.loads(read_limited(check, LARGEST, follow=False))
        return int(announced["size"]), str(announced["sha256"])
    except NotFound:
        raise _not_arrived(asked) from None
    except (ValueError, KeyError, TypeError) as error:
        remove_file(check)
        raise StorageFailed(asked, f"{check} can't be read: {error}", "Run again: it is sent anew") from error


@contextlib.contextmanager
def _open_file(asked: str, path: str) -> Iterator[BinaryIO]:
    with explained(path):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    # Looked at before it is opened as a file, which a directory can't be.
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise InvalidValue(asked, f"{path} is no file", f"Remove it, then run again: rm -r {path}")
    with os.fdopen(fd, "rb", buffering=0) as file:
        yield file


def _keep(root: str, image: PlannedImage, came: str, inode: int) -> None:
    target = path_of(root, image)
    coming = os.path.join(root, CACHE, COMING + image.local)
    with explained(came):
        # First where nobody but root writes; a run that is killed here has it sent again.
        os.rename(came, coming)
        if os.lstat(coming).st_ino != inode:
            raise StorageFailed(f"image {image.image} on this node", "it was replaced as it was read", "Run again")
        protect(coming, writable=image.kind == OWN)
        settle(coming)
        os.rename(coming, target)
        sync_directory(os.path.dirname(target))


# -- what goes back ------------------------------------------------------------------------------------------------
def return_files(root: str, directory: str, stay: set[str], disks: Collection[int] | None = None) -> bool:
    """Have the files that a machine wrote to brought back.
    stay: files that it goes on with, by PlannedImage.local
    disks: ids of the disks in question; None: all"""
    about = None if disks is None else {os.path.basename(disk_path(directory, disk_id)) for disk_id in disks}
    links = _own_disks(root, directory)
    found = {local for name, local in links.items() if local not in stay and (about is None or name in about)}
    for local in sorted(found):
        _hand_over(root, local)
    return bool(found)


def _own_disks(root: str, directory: str) -> dict[str, str]:
    """Return PlannedImage.local of the files that are themselves disks of a machine, by name of the disk."""
    found = {}
    cache = os.path.realpath(os.path.join(root, CACHE))
    for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else []:
        link = os.path.join(directory, name)
        if name.startswith("disk.") and os.path.islink(link):
            place, local = os.path.split(os.path.realpath(link))
            if place == cache and local.startswith(OWN_PREFIX):
                found[name] = local
    return found


def _hand_over(root: str, local: str) -> None:
    path, target = os.path.join(root, CACHE, local), os.path.join(root, OUT, local[len(OWN_PREFIX) :])
    if not os.path.lexists(path):
        # A run that was killed had got that far.
        return
    with explained(path):
        settle(path)
    _to_front_end(path, target)


def _to_front_end(path: str, target: str) -> None:
    with explained(path):
        adopt(path, 0o600, pwd.getpwnam(rsync.USER).pw_uid, 0)
        os.rename(path, target)
        sync_directory(os.path.dirname(target))
        sync_directory(os.path.dirname(path))


def hand_over_saved(root: str, image: PlannedImage) -> None:
    """Let the front-end fetch the file that was saved of a machine's disk."""
    path, target = path_of(root, image), os.path.join(root, OUT, image.name)
    if not os.path.lexists(path) and os.path.lexists(target):
        # A run that was killed had got that far.
        return
    _to_front_end(path, target)


# -- what is of no use any more ------------------------------------------------------------------------------------
def prune(root: str, plan: Plan, used: Callable[[], set[str]]) -> None:
    """Remove bases that no machine rests on and no image holds any more, and what is left of bringing others; hand
    over the files of ended images that no machine has any more. used: tells what machines rest on, by
    PlannedImage.local."""
    if not os.path.isdir(os.path.join(root, PLACE)):
        return
    with contextlib.suppress(NebulaError, OSError), _locked(root):
        if not node_file.is_current(root, plan.catalog, plan.number):
            return
        used_now = used() | _in_use(root)
        needed = used_now | {image.local for image in plan.images} | set(plan.current)
        for name in _names(root, CACHE):
            if (is_name(name) and name not in needed) or name.startswith(COMING) or _is_given_up(name, plan):
                remove_file(os.path.join(root, CACHE, name))
        # Of a machine whose directory somebody removed, or that never had the disk.
        for image in plan.images:
            if image.kind == ENDED and image.local not in used_now:
                _hand_over(root, image.local)
        there = {name.removeprefix(OWN_PREFIX) for name in kept_files(root)}
        for name in _names(root, IN):
            # NAME, NAME.json, and .NAME.abc: what an rsync writes, or wrote when it was killed.
            stem = name.lstrip(".").partition(".")[0]
            if stem not in plan.current or stem in there:
                remove_file(os.path.join(root, IN, name))


def _is_given_up(name: str, plan: Plan) -> bool:
    """Return whether it is what a killed run was about to save, and no plan wants any more."""
    wanted = {image.name for image in plan.images if image.kind == SAVED}
    return name.startswith(SAVING) and name.removeprefix(SAVING).partition(".")[0] not in wanted


def _in_use(root: str) -> set[str]:
    found: set[str] = set()
    place = os.path.dirname(vm_directory(root, 0))
    for name in os.listdir(place):
        found.update(_own_disks(root, os.path.join(place, name)).values())
    return found


def remove_all(root: str) -> None:
    """Remove all files that were kept here, for a node that is given back: no machine rests on them any more."""
    with contextlib.suppress(NotFound), _locked(root):
        for name in _names(root, CACHE):
            if is_name(name.removeprefix(OWN_PREFIX)) or name.startswith((COMING, SAVING)):
                remove_file(os.path.join(root, CACHE, name))
        for place in (IN, OUT):
            for name in _names(root, place):
                # Those that have not come back were refused before.
                if place == IN or not is_name(name):
                    remove_file(os.path.join(root, place, name))


def _names(root: str, place: str) -> list[str]:
    try:
        return os.listdir(os.path.join(root, place))
    except (FileNotFoundError, NotADirectoryError):
        return []


@contextlib.contextmanager
def _locked(root: str) -> Iterator[None]:
    place = os.path.join(root, PLACE, "")
    if not os.path.isdir(place):
        raise NotFound(
            f"directory {place}", "there is none", "Run role nebula.provision.node for this host: it makes it"
        )
    with lock(place, LOCK_SECONDS):
        yield
