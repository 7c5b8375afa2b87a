# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a machine's root that shows the base of its image, and keeps only what the machine changes: an overlay whose
lower layer is the base with the machine's owners.

`directory` is where it is mounted; beside it, `directory`.layers has what belongs to it. Mounts end with the host,
so before each start mount_again() is called."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat

from ..dataclass import dataclass
from ..errors import ForeignObject, InUse, NotFound
from ..host import files, id_mapped_mounts, kernel_calls, mounts, untrusted_trees
from ..model.container_user_ids import BASES, IdRange

LAYERS = ".layers"
_MARK = "layers.json"
_UPPER, _WORK, _LOWER = "upper", "work", "lower"
_LONGEST_MARK = 64 * 1024
# Directories of the base can be renamed (else rename() fails there, which some programs do not expect); whatever is
# changed of a file is copied whole, as what only a part of the kernels knows would not be read by the others.
OPTIONS = "redirect_dir=on,metacopy=off,index=off"
# What kernels and file systems say that can't mount it: no such call, option or file system, or not on this one.
_CANNOT = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENODEV, errno.EPERM, errno.ENOTTY, errno.EXDEV)


@dataclass(frozen=True)
class Layers:
    """Describes what a root is made of. base: the tree of the image. ids: whom the machine's files belong to."""

    base: str
    ids: IdRange


def make(base: str, directory: str, ids: IdRange) -> str:
    """Make the layers and mount them. Return "", or why this host can't: then nothing is left of them."""
    place = directory + LAYERS
    try:
        with files.explained(place):
            os.mkdir(place, 0o700)
            for name in (_WORK, _LOWER, _UPPER):
                os.mkdir(os.path.join(place, name), 0o700)
            os.mkdir(directory, 0o755)
            _copy_root_attributes(base, os.path.join(place, _UPPER), ids)
        _mount(Layers(base, ids), directory)
        mark = {"base": base, "start": ids.start, "count": ids.count}
        files.write_atomically(os.path.join(place, _MARK), json.dumps(mark) + "\n")
    except OSError as error:
        _take_back(directory)
        if error.errno is None or error.errno in _CANNOT:
            return error.strerror or str(error)
        raise files.explain(error, directory) from error
    except BaseException:
        _take_back(directory)
        raise
    return ""


def read(directory: str) -> Layers | None:
    """Return what the root at `directory` is made of; None for a root that is no overlay."""
    place = directory + LAYERS
    return read_layers(place) if os.path.lexists(place) else None


def read_layers(place: str) -> Layers:
    """Return what the layers in a directory are."""
    path = os.path.join(place, _MARK)
    try:
        found = json.loads(files.read_limited(path, _LONGEST_MARK, follow=False))
        return Layers(str(found["base"]), IdRange(int(found["start"]), int(found["count"])))
    except (ValueError, KeyError, TypeError, NotFound):
        raise ForeignObject(
            f"directory {place}",
            f"{_MARK} is not there, or not as it is written",
            "A run that was killed leaves that; have the machine made anew",
        ) from None


def is_unfinished(directory: str) -> bool:
    """Return whether a run that made the layers was killed: their mark is written last."""
    place = directory + LAYERS
    return os.path.lexists(place) and not os.path.lexists(os.path.join(place, _MARK))


def is_mounted(directory: str) -> bool:
    return mounts.file_system(directory) == (os.path.realpath(directory), "overlay")


def mount_again(directory: str) -> bool:
    """Mount the root if it is not mounted. Return whether it was not."""
    layers = read(directory)
    if layers is None or is_mounted(directory):
        return False
    if not os.path.isdir(layers.base):
        raise NotFound(
            f"the root at {directory}",
            f"what it shows, {layers.base}, is not on this node",
            "Have the machine made anew, or bring that back",
        )
    place = directory + LAYERS
    with files.explained(place):
        held = files.opened(place, os.O_RDONLY | os.O_DIRECTORY)
    with held as fd:
        # What mounts it when libvirt starts a machine (hypervisors/lxc/start_hook.py) holds this, and nothing else.
        fcntl.flock(fd, fcntl.LOCK_EX)
        if is_mounted(directory):
            return False
        with files.explained(directory):
            _mount(layers, directory)
    return True


def remove(directory: str) -> bool:
    """Unmount the root and remove its layers. Return whether there were any. What it showed stays."""
    place = directory + LAYERS
    for path in (directory, os.path.join(place, _LOWER)):
        unmount(path)
    return untrusted_trees.remove(place)


def _take_back(directory: str) -> None:
    remove(directory)
    files.remove_empty_directory(directory)


def unmount(path: str) -> None:
    """Have nothing mounted at a path. Raise InUse if something there is used."""
    while mounts.is_mount_point(path):
        try:
            kernel_calls.unmount(path)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise InUse(
                    f"unmounting {path}", "something uses it", "End what does (fuser -vm names it), then run again"
                ) from error
            raise files.explain(error, path) from error


def _mount(layers: Layers, directory: str) -> None:
    place = directory + LAYERS
    lower, upper, work = (os.path.join(place, name) for name in (_LOWER, _UPPER, _WORK))
    # A run that was killed left it.
    unmount(lower)
    id_mapped_mounts.mount(layers.base, lower, BASES, layers.ids)
    try:
        parts = (("lowerdir", lower), ("upperdir", upper), ("workdir", work))
        options = ",".join((*(f"{name}={_escaped(path)}" for name, path in parts), OPTIONS))
        kernel_calls.mount("nebula-root", directory, "overlay", kernel_calls.NO_DEVICES, options)
    finally:
        # The overlay has a mount of its own of it.
        kernel_calls.unmount(lower)


def _escaped(path: str) -> str:
    """Return a path as the options of an overlay have it, where these signs separate paths and options."""
    return "".join(f"\\{sign}" if sign in "\\:," else sign for sign in path)


def _copy_root_attributes(base: str, upper: str, ids: IdRange) -> None:
    """Give the uppermost layer the base's owner, mode and time, which the root of the overlay shows."""
    found = os.stat(base)
    owners = [number - BASES.start for number in (found.st_uid, found.st_gid)]
    os.chown(upper, *(ids.start + number for number in owners))
    os.chmod(upper, stat.S_IMODE(found.st_mode))
    os.utime(upper, ns=(found.st_mtime_ns, found.st_mtime_ns))
