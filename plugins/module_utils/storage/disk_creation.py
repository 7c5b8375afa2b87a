# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes empty disks, overlays and copies of disks by qemu-img (qemu_img.py), and grows them. Of these disks the format
is known (disk_formats.py)."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable

from ..errors import CommandFailed, ImageRefused, InvalidValue, Unsupported
from ..host import command
from ..host.files import clone, explained, opened, remove_file
from ..host.sandbox import WRITE
from ..model.disk import DISK_FORMATS, TAR, DiskFiles
from . import qcow2_header, qemu_img
from .qcow2_header import MAGIC, Header, open_binary
from .qemu_img import LONG_CPU, LONG_TIMEOUT, LUKS, MIB

# How often QEMU may fail to measure its own speed.
_UNLUCKY = 20

# File system → its program and the arguments that make it do without a question.
_MKFS = {
    "ext2": ("mkfs.ext2", "-q", "-F"),
    "ext3": ("mkfs.ext3", "-q", "-F"),
    "ext4": ("mkfs.ext4", "-q", "-F"),
    "vfat": ("mkfs.vfat",),
    "xfs": ("mkfs.xfs", "-q", "-f"),
    "swap": ("mkswap", "-q"),
}
FILE_SYSTEMS = tuple(_MKFS)


def virtual_size(path: str, format: str) -> int:
    """Return the bytes that a machine sees of a disk of this known format. It is cheap: no program is started."""
    with explained(path):
        if format in ("raw", TAR):
            return os.path.getsize(path)
        with open_binary(path) as file:
            head = file.read(32)
    if head[:4] != MAGIC or len(head) < 32:
        raise ImageRefused(f"disk {path}", "it is no qcow2 file, as the catalog says", "Import the image again")
    size: int = struct.unpack(">Q", head[24:32])[0]
    return size


def create_empty(path: str, format: str, size: int, fs: str = "", key: str = "") -> None:
    """Make a disk of `size` bytes that takes no room yet, but for its file system if it is to have one. key: of a
    qcow2 that is to be encrypted."""
    _refuse_unknown(path, format)
    if format != "raw" and not fs:
        _must(
            lambda: qemu_img.run_trusted("create", "-q", "-f", format, *_luks_options(key), path, str(size), key=key),
            key,
        )
        return
    plain = path if format == "raw" else path + ".raw"
    if plain != path:
        remove_file(plain)
    try:
        with explained(plain), opened(plain, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as fd:
            os.ftruncate(fd, size)
        if fs:
            make_filesystem(plain, fs)
        if plain != path:
            rewrite(plain, "raw", path, format, key=key)
    finally:
        if plain != path:
            remove_file(plain)


def create_overlay(path: str, base: str, base_format: str, size: int) -> None:
    """Make a qcow2 of `size` bytes that holds only what differs from the base."""
    _refuse_unknown(base, base_format)
    below = virtual_size(base, base_format)
    if size < below:
        raise InvalidValue(
            f"disk {path}: size {size / MIB:g} MiB",
            f"its image has {below / MIB:g} MiB",
            "A disk can't be smaller than its image: leave SIZE out, or raise it",
        )
    # -u: the base is not opened, format and size being known.
    _must(
        lambda: qemu_img.run_trusted(
            "create", "-q", "-u", "-f", "qcow2", "-F", base_format, "-b", base, path, str(size)
        )
    )


def rest_on(disk: DiskFiles, what: str) -> None:
    """Have a qcow2 file that was made on another host rest on what it is to rest on here, whatever its header calls
    that. Raise ImageRefused where the rest of its header does not fit. what: how errors call the disk."""
    qcow2_header.refuse_data_file(disk.path, disk.format, what)
    with explained(disk.path), open_binary(disk.path) as file:
        header = Header(file)
    base, format_ = disk.backing[0] if disk.backing else ("", "")
    if header.has_backing != bool(base):
        raise ImageRefused(what, "it rests on an image on one of its hosts, and not on the other", "Run again")
    if not base or header.backing == base:
        return
    # -u: nothing below is opened.
    words = ("-q", "-u", "-F", format_, "-b", base)
    _must(lambda: qemu_img.run("rebase", *words, disk=disk, use=WRITE, open_below=False, named=False, check=False))


def copy(source: str, source_format: str, path: str, format: str) -> None:
    """Make a copy, which shares blocks where format and file system allow it, and leaves out the zeroes elsewhere."""
    _refuse_unknown(source, source_format)
    _refuse_unknown(path, format)
    if source_format == format and _clone(source, path):
        return
    disk = DiskFiles(source, source_format)
    _must(lambda: qemu_img.run("convert", "-q", "-O", format, disk=disk, new=path, timeout=LONG_TIMEOUT, check=False))


def _clone(source: str, path: str) -> bool:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    with explained(path), open_binary(source) as file, opened(path, flags) as target:
        return clone(file.fileno(), target)


def rewrite(
    source: str, source_format: str, path: str, format: str, compress: bool = False, source_key: str = "", key: str = ""
) -> None:
    """Write what a machine sees of the disk anew: nothing that is empty, no snapshots. key: of a qcow2 that is to be
    encrypted; source_key: of an encrypted source. Both are the same where both are given."""
    _refuse_unknown(source, source_format)
    _refuse_unknown(path, format)
    _must(
        lambda: qemu_img.run(
            "convert",
            "-q",
            # Zeroes of this length become holes.
            "-S",
            "4k",
            *(["-c"] if compress else []),
            "-O",
            format,
            *_luks_options(key),
            disk=DiskFiles(source, source_format),
            new=path,
            key=key or source_key,
            closed=bool(source_key),
            timeout=LONG_TIMEOUT,
            cpu=LONG_CPU,
            check=False,
        ),
        key or source_key,
    )


def room_for(source: str, source_format: str, format: str) -> int:
    """Return the most bytes that rewriting a disk takes. (Of an encrypted one that is not known without its key.)"""
    done = qemu_img.run("measure", "--output=json", "-O", format, disk=DiskFiles(source, source_format))
    return int(json.loads(done.stdout)["required"])


def _luks_options(key: str) -> list[str]:
    return ["-o", LUKS] if key else []


def resize(path: str, format: str, size: int, key: str = "", backing: tuple[tuple[str, str], ...] = ()) -> bool:
    """Grow the disk to `size` bytes; it never shrinks. Return whether it was smaller. backing: see DiskFiles."""
    _refuse_unknown(path, format)
    if virtual_size(path, format) >= size:
        return False
    if format == "raw":
        with explained(path):
            os.truncate(path, size)
    else:
        disk = DiskFiles(path, format, backing)
        _must(
            lambda: qemu_img.run(
                "resize", "-q", disk=disk, use=WRITE, after=[str(size)], key=key, closed=bool(key), check=False
            ),
            key,
        )
    return True


def make_filesystem(path: str, fs: str) -> None:
    if fs not in _MKFS:
        raise Unsupported(f"file system {fs}", "it is not known here", f"Choose one of {', '.join(FILE_SYSTEMS)}")
    try:
        command.run([*_MKFS[fs], path], timeout=LONG_TIMEOUT)
    except CommandFailed as error:
        error.remedy = error.remedy or "It may be too small for this file system: give it a larger size"
        raise


def _refuse_unknown(path: str, format: str) -> None:
    if format not in DISK_FORMATS:
        raise Unsupported(
            f"disk {path}: format {format}", "it is not known here", f"Choose one of {', '.join(DISK_FORMATS)}"
        )


def _must(run: Callable[[], command.Completed], key: str = "") -> None:
    for _attempt in range(_UNLUCKY):
        done = run()
        # How fast this processor derives keys, it measures in ticks of the clock, and may see none.
        if not (key and done.returncode == 1 and "accurate CPU usage" in done.stderr):
            break
    if done.returncode == 0:
        return
    error = command.failure_of(done)
    if isinstance(error, CommandFailed) and "Invalid password" in error.found:
        raise InvalidValue(
            error.asked, "the passphrase does not open the disk", "Give the one that it was encrypted with"
        )
    raise error
