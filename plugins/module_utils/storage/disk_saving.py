# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Saves a machine's disk as an image of its own, and makes the snapshots within a qcow2 file. Of what a guest or its
QEMU could have written, only what the catalog says is believed (qemu_img.py)."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
from collections.abc import Iterator

from ..dataclass import dataclass
from ..errors import ImageRefused, NotFound
from ..host.files import adopt, explained, opened, remove_file, settle, sync_directory
from ..host.sandbox import WRITE
from ..model.disk import DiskFiles
from . import datastore_layout, disk_bitmaps, disk_creation, disk_formats, final_names, qcow2_header, qemu_img

MIB = 1024 * 1024
WAIT = 60.0
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
# Of a qcow2 file that qemu-img makes: bytes of a cluster; its tables take less than 2**-12 of the disk's size, and the
# table of its tables 2**-26, besides less than MIB.
_CLUSTER = 64 * 1024
_TABLES, _TABLE = 12, 26


@dataclass(frozen=True)
class Saved:
    """Says what was saved. size: MiB that a machine sees, rounded up."""

    size: int
    format: str


@contextlib.contextmanager
def new_image_file(target: str, what: str) -> Iterator[str]:
    """Yield where the new image's file is to be made. It gets its name at the end, whole, on the disk, and as images
    are; on an error there is nothing. What a killed run left of it is removed first."""
    directory = os.path.dirname(target)
    if not os.path.isdir(directory):
        raise NotFound(
            f"{what}: directory {directory} on this node", "there is none", "Mount the front-end's datastores here"
        )
    with final_names.locked_destination(target, WAIT):
        # A run that was killed got as far as this, and nobody heard of it: what the disk holds by now counts.
        remove_file(target)
        new = target + final_names.NEW
        try:
            yield new
            datastore_layout.protect(new, writable=False)
            with explained(new):
                settle(new)
                os.rename(new, target)
                sync_directory(directory)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new)


def make_empty(path: str, format: str, size: int) -> None:
    """Make a file for QEMU to write a disk of `size` bytes to."""
    disk_creation.create_empty(path, format, size)
    adopt(path, 0o660, -1, datastore_layout.hypervisor_group())


def make_sparse(path: str) -> None:
    """Give back room that the file takes for nothing: QEMU reserves it for the zeroes of a raw disk."""
    with explained(path), opened(path, os.O_RDWR | os.O_NOFOLLOW) as fd:
        end, start = os.fstat(fd).st_size, 0
        while start < end:
            start = os.lseek(fd, start, os.SEEK_HOLE)
            after = _next_data(fd, start, end)
            if after > start and not _punch(fd, start, after - start):
                return  # a file system that can't: it takes more room, and that is all
            start = after


def _next_data(fd: int, start: int, end: int) -> int:
    try:
        return os.lseek(fd, start, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return end
        raise


def _punch(fd: int, start: int, length: int) -> bool:
    call = ctypes.CDLL(None, use_errno=True).fallocate
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return bool(call(fd, _KEEP_SIZE | _PUNCH_HOLE, start, length) == 0)


def require_room(path: str, files: DiskFiles, format: str, what: str, running: bool = False) -> None:
    """Raise NoSpace unless what the disk holds, and all files below it, fits at `path` as a file of its own. running:
    QEMU writes it while the machine runs."""
    directory = os.path.dirname(path)
    if files.format == format == "raw" and not running:
        # Byte by byte, without the holes.
        needed = _bytes_taken(files)
    else:
        needed = disk_creation.virtual_size(files.path, files.format)
        if format == "qcow2":
            needed += needed >> _TABLES
        # Where even all of it fits, nobody needs to know how much it is. (QEMU writes the zeroes of a raw disk too.)
        if needed + MIB > datastore_layout.free_space(directory) and not (running and format == "raw"):
            needed = min(needed, _measure(files, format, what, running))
    datastore_layout.require_space(directory, needed + MIB, what)


def _bytes_taken(files: DiskFiles) -> int:
    found = 0
    for path in (files.path, *(path for path, _format in files.backing)):
        with explained(path):
            stat = os.stat(path)
        found += min(stat.st_size, stat.st_blocks * 512)
    return found


def _measure(files: DiskFiles, format: str, what: str, running: bool) -> int:
    """Return the bytes that a copy takes at most: what is compressed expands."""
    # As qcow2, always: of a raw one it would count the holes too. -U: a running QEMU has locked its disk.
    done = qemu_img.run(
        *("measure", "-U", "--output=json", "-O", "qcow2"),
        disk=files,
        what=what,
        timeout=qemu_img.LONG_TIMEOUT,
        cpu=qemu_img.LONG_CPU,
    )
    facts = json.loads(done.stdout)
    size = disk_creation.virtual_size(files.path, files.format)
    tables = int(facts["fully-allocated"]) - -(-size // _CLUSTER) * _CLUSTER
    data = int(facts["required"]) - tables
    if running:
        # The disk's own tables may not have been written yet; and of the copy QEMU writes all, for the zeroes.
        return max(data, _bytes_taken(files)) + tables
    # Tables of what is empty are not made: each is for at least one cluster of data, but for that of the tables.
    return data + (min(tables, data + (size >> _TABLE) + MIB) if format == "qcow2" else 0)


def flatten(files: DiskFiles, path: str, encrypted: bool, what: str) -> None:
    """Write what the disk of a machine that is off holds to a file that stands alone; its snapshots stay behind.
    encrypted: it is copied as it is."""
    if files.backing or (files.format == "qcow2" and not encrypted):
        # Not as it is, even where nothing is below it: then its header would be read, and what that names.
        qcow2_header.refuse_unexpected(files, what)
        require_room(path, files, files.format, what)
        qemu_img.run(
            *("convert", "-q", "-O", files.format),
            disk=files,
            new=path,
            what=what,
            timeout=qemu_img.LONG_TIMEOUT,
            cpu=qemu_img.LONG_CPU,
        )
        return
    # Byte by byte: an encrypted qcow2 file is raw to those who have no key.
    require_room(path, DiskFiles(files.path, "raw"), "raw", what)
    disk_creation.copy(files.path, "raw", path, "raw")


def verify(path: str, format: str, size: int, encrypted: bool, what: str) -> Saved:
    """Raise ImageRefused unless the file is whole, of this format and at least this size, and names no other."""
    if format == "qcow2":
        found = disk_formats.inspect(path, format, what, encrypted=encrypted).virtual_size
    else:
        # What a guest wrote into it may look like anything, and be cut off.
        found = disk_creation.virtual_size(path, format)
    if found < size:
        raise ImageRefused(what, f"it has {found} bytes, and the disk {size}", "Run again: it is saved anew")
    return Saved(-(-found // MIB), format)


# -- snapshots in the file of a machine that is off ------------------------------------------------------------------


def snapshot_tags(files: DiskFiles) -> list[str]:
    # What is below is not opened for this.
    done = qemu_img.run("info", "--output=json", disk=files, open_below=False, timeout=qemu_img.LONG_TIMEOUT)
    return [str(each["name"]) for each in json.loads(done.stdout).get("snapshots") or ()]


def create_snapshot(files: DiskFiles, tag: str) -> bool:
    """Make a snapshot; return False if there is a snapshot of that name already: a run that was killed made it."""
    if tag in snapshot_tags(files):
        return False
    _snapshot("-c", tag, files)
    return True


def delete_snapshot(files: DiskFiles, tag: str) -> bool:
    if tag not in snapshot_tags(files):
        return False
    _snapshot("-d", tag, files)
    return True


def revert(files: DiskFiles, tag: str, what: str) -> None:
    if tag not in snapshot_tags(files):
        remedy = "Revert to another one, or take this one out of the list"
        raise NotFound(what, f"{files.path} holds none of that name", remedy)
    # QEMU reverts no disk of which something keeps track, and backups can't go on from what it held.
    disk_bitmaps.remove(files, lambda name: disk_bitmaps.OURS.fullmatch(name) is not None, what)
    _snapshot("-a", tag, files)


def _snapshot(verb: str, tag: str, files: DiskFiles) -> None:
    qemu_img.run("snapshot", "-q", verb, tag, disk=files, use=WRITE, timeout=qemu_img.LONG_TIMEOUT)
