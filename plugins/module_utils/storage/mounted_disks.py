# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounts disks of a container: the file system of each is mounted on the node, with the owners that the container's
users have, and the container shows it at a path of its own.

The mounts are below /run, whose directories end with the host as the mounts do: a container whose disks are not
there can't be started, and never writes to what lies below. Nothing removes a directory there with what is in it."""

from __future__ import annotations

import contextlib
import os
import re
import time

from ..dataclass import dataclass
from ..errors import ImageRefused, InUse, Unsupported
from ..host import command, id_mapped_mounts, kernel_calls, loop_devices, mounts
from ..host.files import adopt, explained, make_directory, remove_empty_directory
from ..host.node_file import Changes
from ..model.container_user_ids import COUNT, IdRange
from . import root_overlay

PLACE = "/run/nebula-provision-disks"
# In the file, owners are as the container has them.
INSIDE = IdRange(0, COUNT)
# By what blkid calls them: the kernel's name of what mounts it.
KINDS = {"ext2": "ext4", "ext3": "ext4", "ext4": "ext4", "xfs": "xfs"}
_FLAGS = kernel_calls.NO_DEVICES | kernel_calls.NO_SETUID
_TIMEOUT = 60
# Seconds in which the kernel has ended the mounts of a container that is off, and what they had not written is written.
_ENDING = 60.0
_STEP = 0.05


@dataclass(frozen=True)
class MountedDisk:
    """Describes a mounted disk. file: of the disk (raw). point: where it is mounted. ids: the container's."""

    file: str
    point: str
    ids: IdRange
    readonly: bool = False


def mount_point(uuid: str, disk_id: int) -> str:
    """Return where that disk of the machine with that UUID is mounted."""
    return os.path.join(PLACE, uuid, str(disk_id))


def parse_mount_point(point: str) -> tuple[str, int]:
    """Return the machine's UUID and the disk's id, of a path that point_of() made; ("", 0) for any other."""
    found = re.fullmatch(re.escape(PLACE) + r"/([0-9a-f-]{36})/(\d{1,9})", point)
    return (found[1], int(found[2])) if found else ("", 0)


def mount(disk: MountedDisk, what: str) -> bool:
    """Mount the disk. Return False if it is mounted. what: names machine and disk in errors."""
    _give_to_root(os.path.dirname(disk.point))
    if is_mounted(disk.point):
        return False
    file = os.path.realpath(disk.file)
    # Two mounts by two devices would each write what the other does not know of.
    if loop_devices.devices_of(file):
        raise _in_use(f"{what}: mounting it on this host", file)
    kind = _kind_of(file, what)
    flags = _FLAGS | (kernel_calls.READ_ONLY if disk.readonly else 0)
    # The container's root goes through the directory (by its group, as through that of the machine), and changes
    # nothing in it: else it could put a link there. Without a mount it does not get further.
    _make_place()
    make_directory(os.path.dirname(disk.point), 0o710, 0, disk.ids.start)
    make_directory(disk.point, 0o700, 0, 0)
    try:
        with loop_devices.attach(file, disk.readonly) as device:
            id_mapped_mounts.mount_device(device, kind, disk.point, flags, INSIDE, disk.ids)
    except OSError as error:
        found = error.strerror or str(error)
        remedy = (
            "If it is damaged, have the disk made anew, or put a whole copy of its image back. Before 5.12 Linux can't "
            "show a file system to the users of a container"
        )
        raise Unsupported(f"{what}: mounting its file system ({kind}) on this host", found, remedy) from error
    return True


def _make_place() -> None:
    """Make the directory of all mounts. What is unmounted there has to be unmounted for all who have a copy of this
    host's mounts, as libvirt's controllers do. That is so where mounts are shared, which systemd makes them."""
    make_directory(PLACE, 0o711)
    if not mounts.is_shared(PLACE):
        with explained(PLACE):
            kernel_calls.mount(PLACE, PLACE, None, kernel_calls.BIND)
            kernel_calls.mount(None, PLACE, None, kernel_calls.SHARED)


def close_old_directories(changes: Changes) -> None:
    """Close the directories of containers that a version before this one started, and that still run."""
    for name in sorted(os.listdir(PLACE)) if os.path.isdir(PLACE) else ():
        path = os.path.join(PLACE, name)
        owner = os.lstat(path).st_uid
        if owner != 0:
            changes.did(path, f"user {owner}", "root: its container changes nothing there")
            if not changes.check_mode:
                _give_to_root(path)


def _give_to_root(directory: str) -> None:
    """Give a directory to root. A version before this one gave it to the container's root. What that has put there
    stays, and is looked at after this."""
    if os.path.lexists(directory):
        adopt(directory, 0o710, 0)


def _kind_of(file: str, what: str) -> str:
    argv = ["blkid", "--probe", "--usages", "filesystem", "--match-tag", "TYPE", "--output", "value", file]
    # With 2 it has found nothing, with 8 more than one.
    found = command.run(argv, timeout=_TIMEOUT, check=False).stdout.strip()
    if found in KINDS:
        return KINDS[found]
    raise ImageRefused(
        f"{what}: its file system",
        f"it has {found}, which is not mounted for containers" if found else "it has none as a whole",
        f"Make one of {', '.join(KINDS)} on the image, without partitions (mkfs.ext4 on its file), and store it again; "
        'an empty disk gets one by TYPE = "fs", FS = "ext4"',
    )


def _in_use(asked: str, file: str) -> InUse:
    return InUse(
        asked,
        f"something on this host still has {file} mounted",
        "See what it is (losetup --associated names its device, /proc/*/mountinfo who has that), end it and run again",
    )


def is_mounted(point: str) -> bool:
    return mounts.is_mount_point(point)


def points(uuid: str) -> list[str]:
    """Return the places where disks of that machine are mounted, or have been."""
    place = os.path.join(PLACE, uuid)
    with contextlib.suppress(FileNotFoundError):
        return [os.path.join(place, name) for name in sorted(os.listdir(place)) if name.isdigit()]
    return []


def device_of(point: str) -> int | None:
    """Return the number of the device that is mounted there; None for no mount."""
    return os.lstat(point).st_dev if is_mounted(point) else None


def unmount(point: str) -> bool:
    """Unmount what is there, and wait until nobody has the file. Return False if nothing is there. Raise InUse if
    something has it."""
    device = device_of(point)
    if device is None:
        return False
    file = loop_devices.file_of(device)
    root_overlay.unmount(point)
    limit = time.monotonic() + _ENDING
    # What the container itself had of it goes with its last process, which may not be gone yet. Once it is free, the
    # device may show another file.
    while file and loop_devices.file_of(device) == file:
        if time.monotonic() > limit:
            raise _in_use(f"taking back what was mounted at {point}", file)
        time.sleep(_STEP)
    return True


def release(uuid: str) -> bool:
    """Unmount all disks of a machine that is off. Return whether there was one."""
    released = False
    _give_to_root(os.path.join(PLACE, uuid))
    found = points(uuid)
    for point in found:
        released = unmount(point) or released
        remove_empty_directory(point)
    if found:
        remove_empty_directory(os.path.join(PLACE, uuid))
    return released
