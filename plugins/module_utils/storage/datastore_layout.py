# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells where files lie below nebula_root, gives them their owners, and looks whether there is room for more."""

from __future__ import annotations

import grp
import hashlib
import os

from ..errors import NoSpace
from ..host.files import adopt, explained, make_directory, refuse_exchangeable
from ..model.whole_numbers import id_in

SYSTEM = 0
IMAGES = 1
MIB = 1024 * 1024
# Kept free on the file system of a datastore: a full one stops running machines, not just us.
RESERVE = 64 * MIB
GROUP = "kvm"
# A file while it comes back from a node, beside the image's that it is to replace.
RETURN = ".return"
# In the image datastore: whose it is, so that a node sees whether it has this front-end's.
MARKER = ".nebula-catalog"
# In the system datastore, so on one file system with the machines that are made of them: unpacked images of containers.
UNPACKED = ".unpacked"


def image_directory(root: str, datastore_id: int = IMAGES) -> str:
    return os.path.join(root, "datastores", str(datastore_id))


def image_path(root: str, image_id: int, epoch: int, datastore_id: int = IMAGES) -> str:
    """Return the path of an image's file, as in OpenNebula: named by the MD5 of time and id of its registration."""
    name = hashlib.md5(f"{epoch}:{image_id}".encode(), usedforsecurity=False).hexdigest()
    return os.path.join(image_directory(root, datastore_id), name)


def numbers(root: str) -> list[int]:
    try:
        found = map(id_in, os.listdir(os.path.join(root, "datastores")))
        return sorted(number for number in found if number is not None)
    except OSError:
        return []


def vm_directory(root: str, vm_id: int, datastore_id: int = SYSTEM) -> str:
    return os.path.join(root, "datastores", str(datastore_id), str(vm_id))


def disk_path(directory: str, disk_id: int) -> str:
    return os.path.join(directory, f"disk.{disk_id}")


def prepare_root(root: str) -> bool:
    """Make nebula_root if it is missing; a directory that was there before keeps its mode: it may be somebody's."""
    refuse_exchangeable(root)
    if os.path.isdir(root) and (os.stat(root).st_mode & 0o777 != 0o700 or os.listdir(root)):
        return False
    # An empty one of 0700 is what a run that was killed left.
    return make_directory(root, 0o711)


def prepare_directories(root: str, *datastore_ids: int) -> bool:
    """Make the directories down to the datastores (0711: they can't be listed). Return whether one was missing."""
    changed = prepare_root(root)
    for path in [os.path.join(root, "datastores"), *(image_directory(root, i) for i in datastore_ids or (IMAGES,))]:
        changed = make_directory(path, 0o711) or changed
    return changed


def protect(path: str, writable: bool) -> bool:
    """Give an image's file its owner and mode. Return whether it had others.

    What overlays rest on is written by nobody. A persistent image is written by QEMU as a member of group kvm.
    Without that group there is no QEMU here yet that runs as anybody but root."""
    gid = hypervisor_group()
    if gid == -1:
        return adopt(path, 0o600 if writable else 0o400, 0, 0)
    return adopt(path, 0o660 if writable else 0o440, 0, gid)


def hypervisor_group() -> int:
    """Return the number of group kvm; -1 where there is no such group."""
    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return -1


def free_space(directory: str) -> int:
    """Return the number of bytes that can still be written to the file system of a path."""
    with explained(directory):
        found = os.statvfs(directory)
        return max(0, found.f_bavail * found.f_frsize - RESERVE)


def room(directory: str) -> tuple[int | None, int | None]:
    """Return the MiB that may still be written there, and that its file system has; None for what is not there yet."""
    place = directory
    while not os.path.isdir(place) and os.path.dirname(place) != place:
        # What is missing is made on the file system of what is there.
        place = os.path.dirname(place)
    try:
        found = os.statvfs(place)
    except OSError:
        return None, None
    free = max(0, found.f_bavail * found.f_frsize - RESERVE)
    return free // MIB, found.f_blocks * found.f_frsize // MIB


def require_space(directory: str, needed: int, what: str) -> None:
    """Raise NoSpace unless `needed` bytes fit."""
    free = free_space(directory)
    if needed > free:
        raise NoSpace(
            f"{what}: {needed / MIB:.1f} MiB in {directory}",
            f"{free / MIB:.1f} MiB are free, besides {RESERVE // MIB} MiB that are kept so",
            "Make room on its file system, or use a datastore on a larger one",
        )
