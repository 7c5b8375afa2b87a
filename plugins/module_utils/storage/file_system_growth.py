# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes file systems as large as the disk that they are on, which nothing has mounted.

File systems of ext2, ext3 and ext4 grow by their own programs, which first finish what a container had begun to
write when it ended; those of xfs by the kernel alone, which has them mounted where nobody sees it."""

from __future__ import annotations

import fcntl
import os
import struct
import time

from ..errors import InUse, Unsupported
from ..host import command, kernel_calls, loop_devices
from ..host.files import closing_fd, explained, opened

MIB = 1024 * 1024
# Seconds in which the kernel has let go what was mounted a moment ago.
_ENDING, _STEP = 60.0, 0.05
EXT, XFS = "ext4", "xfs"
# The superblock of ext2, ext3 and ext4: where it is, its magic number, and where it has what.
_EXT_AT, _EXT_MAGIC, _EXT_64BIT = 1024, 0xEF53, 0x80
# What e2fsck ends with where it leaves something to be done by hand.
_LEFT = 4
_SECONDS = 3600.0
# By <xfs/xfs_fs.h>: XFS_IOC_FSGEOMETRY_V1 and XFS_IOC_FSGROWFSDATA.
_XFS_GEOMETRY, _XFS_GROW = 0x80705864, 0x4010586E
_XFS_GEOMETRY_SIZE, _XFS_GROWTH = 112, struct.Struct("=QI4x")
# Where struct xfs_fsop_geom_v1 has the percents that inodes may take.
_XFS_INODES_AT = 28


def needed(path: str) -> bool:
    """Return whether the file system on a raw disk is smaller than the disk; False where there is no file system that
    we know. Disks are whole MB, and a rest of less than one MB is what the file system's own blocks leave."""
    kind, taken, _block = _size_of(path)
    return bool(kind) and os.path.getsize(path) - taken >= MIB


def grow(path: str, what: str) -> bool:
    """Make the file system on a raw disk as large as the disk. Return False if it is so. Raise InUse where something
    has it mounted, Unsupported where the kernel can't: then it is as it was. what: names machine and disk in
    errors."""
    if not needed(path):
        return False
    asked = f"{what}: making its file system as large as the disk"
    if loop_devices.devices_of(os.path.realpath(path)):
        raise InUse(asked, f"something on this host has {path} mounted", "End what it is, then run again")
    kind, before, block = _size_of(path)
    if kind == XFS:
        _grow_xfs(path, os.path.getsize(path) // block, asked)
    else:
        _grow_ext(path, asked)
    if needed(path):
        now = _size_of(path)[1]
        raise _refused(asked, f"{kind} went from {before // MIB} to {now // MIB} MB, and no further")
    return True


def _grow_ext(path: str, asked: str) -> None:
    for words in (["e2fsck", "-f", "-p", path], ["resize2fs", path]):
        done = command.run(words, timeout=_SECONDS, check=False)
        # With 1 and 2 e2fsck has corrected something.
        if done.returncode >= (_LEFT if words[0] == "e2fsck" else 1):
            found = command.last_lines(done.stdout + done.stderr, 3)
            raise _refused(asked, f"{words[0]} ended with {done.returncode}: {found}")


def _grow_xfs(path: str, blocks: int, asked: str) -> None:
    try:
        with loop_devices.attach(path, readonly=False) as device:
            tree = kernel_calls.open_device(device, XFS, kernel_calls.NO_DEVICES | kernel_calls.NO_SETUID)
            # What describes a mount alone takes no requests.
            with closing_fd(tree), opened(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=tree) as root:
                geometry = fcntl.ioctl(root, _XFS_GEOMETRY, bytes(_XFS_GEOMETRY_SIZE))
                (inodes,) = struct.unpack_from("=I", geometry, _XFS_INODES_AT)
                fcntl.ioctl(root, _XFS_GROW, _XFS_GROWTH.pack(blocks, inodes))
    except OSError as error:
        raise _refused(asked, f"{XFS}: {error.strerror or error}") from error
    finally:
        _wait_until_free(path, asked)


def _wait_until_free(path: str, asked: str) -> None:
    """Wait until the kernel lets the device go, a moment after its last mount, so that it can be mounted again."""
    limit = time.monotonic() + _ENDING
    while loop_devices.devices_of(os.path.realpath(path)):
        if time.monotonic() > limit:
            raise InUse(asked, f"the kernel still has {path} as a device", "See what has it (losetup --associated)")
        time.sleep(_STEP)


def _refused(asked: str, found: str) -> Unsupported:
    return Unsupported(
        asked,
        found,
        "Leave SIZE as it was; or add another disk, copy what is on this one there, and take this one away",
    )


def _size_of(path: str) -> tuple[str, int, int]:
    """Return the kernel's name of the file system, its bytes, and a block's; "" for an unknown file system."""
    with explained(path), opened(path, os.O_RDONLY) as fd:
        head = os.pread(fd, 4096, 0)
    if len(head) < 4096:
        return "", 0, 0
    if head[:4] == b"XFSB":
        block, blocks = struct.unpack_from(">IQ", head, 4)
        return XFS, block * blocks, block
    (magic,) = struct.unpack_from("<H", head, _EXT_AT + 0x38)
    if magic != _EXT_MAGIC:
        return "", 0, 0
    low, shift, features, high = (
        struct.unpack_from("<I", head, _EXT_AT + place)[0] for place in (0x4, 0x18, 0x60, 0x150)
    )
    block = 1024 << min(shift, 6)
    return EXT, (low + (high << 32 if features & _EXT_64BIT else 0)) * block, block
