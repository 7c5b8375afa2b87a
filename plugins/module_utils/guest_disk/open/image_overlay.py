# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes what is inside a disk image: in an overlay beside it first, then at one go.

The image's own file is not written before all is done that can go wrong inside it. A run that is killed before
leaves the image as it was, and an overlay that the next run throws away. Once the overlay is complete it is called
so, and is written into the image; a run that is killed meanwhile, or a full disk, leaves it for the next run, which
does the same again: that writes the same blocks to the same places."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import stat
import struct
from collections.abc import Callable, Iterator

from ...dataclass import dataclass
from ...errors import (
    CommandFailed,
    ForeignObject,
    ImageRefused,
    InUse,
    InvalidValue,
    NoSpace,
    NotFound,
    StorageFailed,
    TimedOut,
    WrongState,
)
from ...host import command, files
from ...host.sandbox import WRITE
from ...model.disk import DiskFiles
from ...storage import datastore_layout, disk_formats, qcow2_header, qemu_img
from ...storage.final_names import OVERLAY

# Its name goes on with the inode of the image and the image's format.
COMPLETE = "complete"
FORMATS = ("auto", *disk_formats.FORMATS)
# Seconds to wait for another run at the same image: it may be at its appliance.
LOCK_TIMEOUT = 900.0
COMMIT_TIMEOUT = 600.0
# Where QEMU keeps its locks in a file, and how F_OFD_GETLK of 64 bit systems asks for them.
_LOCKED_BYTES = (100, 200)
# The byte that a writer locks: 100, and the number of the permission to write.
_WRITING_BYTE = (101, 1)
_F_OFD_GETLK = 36
_FLOCK = "hhqqi0q"


@dataclass(frozen=True)
class Image:
    """Describes an image as asked for.
    path: without links.
    format: raw or qcow2.
    trusted: it may name other files of the host.
    what: how errors call it."""

    path: str
    format: str
    trusted: bool
    what: str

    @property
    def directory(self) -> str:
        """Return where all lies that is made for the image: on its own file system, and found after a kill."""
        head, name = os.path.split(self.path)
        return os.path.join(head, f".{name}.context")

    @property
    def complete(self) -> str:
        return self.complete_of(os.stat(self.path).st_ino)

    def complete_of(self, inode: int) -> str:
        return os.path.join(self.directory, f"{COMPLETE}-{inode}-{self.format}")


def locate(path: str, format: str, trusted: bool) -> Image:
    """Return the image of that path, which may be a link. Raise an error if its file is none to be written to."""
    what = f"image {path}"
    if not os.path.isabs(path):
        raise InvalidValue(what, "the path is not absolute", "Give the full path on this host")
    real = os.path.realpath(path)
    try:
        found = os.stat(real)
    except FileNotFoundError:
        raise NotFound(what, "there is no such file on this host", "Check the path") from None
    except OSError as error:
        raise files.explain(error, path) from error
    if not stat.S_ISREG(found.st_mode):
        raise InvalidValue(what, "it is not a regular file", "Name the file of a disk image")
    _refuse_datastore(what, real)
    files.refuse_exchangeable(os.path.dirname(real))
    return Image(real, _format(what, real, format), trusted, what)


def locate_catalogued(path: str, format: str, what: str) -> Image:
    """Return an image of a datastore, which the catalog holds for this run. format: as the catalog knows it."""
    return Image(os.path.realpath(path), format, False, what)


def locate_for_reading(path: str, format: str, trusted: bool, what: str) -> Image:
    """Return an image that is only read, wherever it lies. Raise an error if it is not complete."""
    if not os.path.isabs(path):
        raise InvalidValue(what, "the path is not absolute", "Give the full path on this host")
    real = os.path.realpath(path)
    with files.explained(path):
        if not stat.S_ISREG(os.stat(real).st_mode):
            raise InvalidValue(what, "it is not a regular file", "Name the file of a disk image")
    image = Image(real, _format(what, real, format), trusted, what)
    _refuse_written(image)
    refuse_strange(image)
    return image


@contextlib.contextmanager
def hold_for_reading(fd: int, path: str, what: str) -> Iterator[None]:
    """Make runs wait that would write to the file at `path`, which is open for reading. Raise InUse if a run writes to
    it, WrongState if one was ended while it did."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(files.shared(fd, path))
        except TimedOut:
            raise InUse(
                what, "another run prepares it, and writes to it", "Wait for it to end, then run again"
            ) from None
        _refuse_half_written(fd, path, what)
        yield


def _refuse_half_written(fd: int, path: str, what: str) -> None:
    # The name of what is left has the inode: another file that has the path by now is not meant.
    inode = os.fstat(fd).st_ino
    real = os.path.realpath(path)
    for format in disk_formats.FORMATS:
        image = Image(real, format, False, what)
        if os.path.lexists(image.complete_of(inode)):
            raise WrongState(
                what,
                "it is half written: the run that prepared it was ended before it was done",
                f"Run nebula_image_prepare for it again, which finishes it; what it lacks is kept in {image.directory}",
            )


def make_overlay(image: Image, path: str) -> None:
    """Make a disk at `path` that reads as the image does, and takes what is written."""
    if _is_trusted_chain(image):
        _run_unconfined(image, "create", "-q", "-f", "qcow2", "-F", image.format, "-b", node_of_image(image), path)
    else:
        qemu_img.create_over(DiskFiles(image.path, image.format), path, image.what)


@contextlib.contextmanager
def begin(image: Image) -> Iterator[bool]:
    """Hold the image against other runs, and have an overlay of it in its directory, which is gone afterwards. Yield
    whether an earlier run left a complete overlay, which is in the image now."""
    refuse_missing(image)
    with files.lock(image.path, timeout=LOCK_TIMEOUT):
        refuse_used(image)
        resumed = is_interrupted(image)
        if resumed:
            _finish(image)
        refuse_strange(image)
        discard(image)
        try:
            with files.explained(image.directory):
                os.mkdir(image.directory, 0o700)
            with _explain_locks(image):
                make_overlay(image, os.path.join(image.directory, OVERLAY))
            yield resumed
        finally:
            if not is_interrupted(image):
                discard(image)


def is_interrupted(image: Image) -> bool:
    """Return whether an earlier run was ended while it wrote to this image's file. Another file of its name is not
    meant. Raise NotFound if there is no file, and so nobody can tell."""
    with files.explained(image.path):
        return os.path.lexists(image.complete)


def commit(image: Image, announce: Callable[[], None] | None = None) -> None:
    """Write what the overlay has into the image, within begun(). announce: called before the first byte of it."""
    overlay = os.path.join(image.directory, OVERLAY)
    with files.explained(overlay):
        needed = os.stat(overlay).st_blocks * 512
        datastore_layout.require_space(os.path.dirname(image.path), needed, f"{image.what}: writing to it")
        files.settle(overlay)
        if announce is not None:
            announce()
        os.utime(overlay)
        os.rename(overlay, image.complete)
        files.sync_directory(image.directory)
        files.sync_directory(os.path.dirname(image.directory))
    try:
        _write_back(image)
    except InUse:
        # QEMU writes nothing to a file that it can't lock. By the next run, the machine may have written to it.
        files.remove_file(image.complete)
        raise


def _finish(image: Image) -> None:
    """Write into the image what an interrupted run has left."""
    with files.explained(image.path):
        began, written = os.stat(image.complete).st_mtime, os.stat(image.path).st_mtime
    if written > began + COMMIT_TIMEOUT:
        raise WrongState(
            f"{image.what}: finishing what an interrupted run began",
            "its file was written to since by somebody else",
            f"Bring back a whole copy of the image, then remove {image.directory}",
        )
    # The image may have been moved, together with its directory.
    _run_unconfined(
        image, "rebase", "-u", "-f", "qcow2", "-F", image.format, "-b", node_of_image(image), image.complete
    )
    _write_back(image)


def _write_back(image: Image) -> None:
    try:
        # -d: the overlay stays whole, so that it can be done again.
        with _explain_locks(image):
            _commit(image)
        with files.explained(image.path):
            files.settle(image.path)
    except (CommandFailed, ImageRefused, NoSpace, StorageFailed, TimedOut) as error:
        error.remedy = (
            f"{error.remedy or 'Mend that, then run again'}. Until a run has finished it, the image must not be used: "
            f"it is half written, and what it lacks is kept in {image.directory}"
        )
        raise
    discard(image)


def node_of_image(image: Image) -> str:
    """Return the image as the overlay names it: unless it is trusted, no other file is opened for it, whatever its
    header says by then."""
    file = {"driver": "file", "filename": image.path}
    closed = {} if image.trusted or image.format == "raw" else {"backing": None}
    return "json:" + json.dumps({"driver": image.format, "file": file, **closed})


def _format(what: str, path: str, format: str) -> str:
    if format not in FORMATS:
        raise InvalidValue(f"{what}: format {format!r}", "it is not known here", f"Choose one of {', '.join(FORMATS)}")
    with files.explained(path), qcow2_header.open_binary(path) as file:
        found = disk_formats.probe(file) if format == "auto" else format
    disk_formats.refuse_format(what, found)
    return found


def refuse_missing(image: Image) -> None:
    """Raise NotFound if the file is missing, before it is locked, since that makes the file: an empty one below the
    mount point of a datastore."""
    try:
        os.stat(image.path)
    except FileNotFoundError:
        raise NotFound(
            f"{image.what}: its file {image.path}",
            "there is none on this host",
            "Mount its datastore, if that is a file system of its own; if the file is lost, import the image again",
        ) from None
    except OSError as error:
        raise files.explain(error, image.path) from error


def refuse_strange(image: Image) -> None:
    if image.trusted:
        return
    try:
        disk_formats.inspect(image.path, image.format, what=image.what)
    except ImageRefused as error:
        if "names another file" in error.found:
            error.remedy += ", or say trusted: true if you know all that it names"
        raise


def _refuse_datastore(what: str, path: str) -> None:
    if re.search(r"/datastores/[0-9]+/", path):
        raise InUse(
            what,
            "it lies in a datastore, where machines may rest on it",
            "Name the file that it is imported from, before the import; for machines that there are, make them the "
            "hosts of role guest_context",
        )


def refuse_used(image: Image) -> None:
    """Raise InUse by QEMU's locks: before anything is begun, and for readers too, whose overlays would be spoilt."""
    with files.explained(image.path):
        fd = os.open(image.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if _is_locked(fd, *_LOCKED_BYTES):
            raise _in_use(image)
    finally:
        os.close(fd)


def _refuse_written(image: Image) -> None:
    """Raise InUse if QEMU, or a run that prepares the image, writes to it; readers do not count."""
    with files.explained(image.path):
        fd = os.open(image.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if _is_locked(fd, *_WRITING_BYTE):
            raise InUse(image.what, "QEMU has it open: a machine writes to it", "Power that machine off first")
        with hold_for_reading(fd, image.path, image.what):
            pass
    finally:
        os.close(fd)


def _is_locked(fd: int, first: int, length: int) -> bool:
    asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, first, length, 0)
    # Where the file system knows no such locks, QEMU has none either.
    with contextlib.suppress(OSError):
        return bool(struct.unpack(_FLOCK, fcntl.fcntl(fd, _F_OFD_GETLK, asked))[0] != fcntl.F_UNLCK)
    return False


def _in_use(image: Image) -> InUse:
    return InUse(
        image.what,
        "QEMU has it open: a machine runs on it, or a disk that rests on it",
        "Power that machine off first, or name it as a host of role guest_context",
    )


def discard(image: Image) -> None:
    """Remove the image's directory, with what an earlier run left in it; one that is not ours is left alone."""
    try:
        found = os.lstat(image.directory)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise ForeignObject(
            f"{image.what}: directory {image.directory}",
            "something that this run did not make is there",
            "See what it is; remove it",
        )
    with files.explained(image.directory):
        shutil.rmtree(image.directory)
        files.sync_directory(os.path.dirname(image.directory))


def _commit(image: Image) -> None:
    if _is_trusted_chain(image):
        _run_unconfined(image, "commit", "-q", "-d", "-f", "qcow2", image.complete, timeout=COMMIT_TIMEOUT)
        return
    files = DiskFiles(image.complete, "qcow2", ((image.path, image.format),))
    qemu_img.run(
        *("commit", "-q", "-d"), disk=files, use=WRITE, write_below=True, what=image.what, timeout=COMMIT_TIMEOUT
    )


def _is_trusted_chain(image: Image) -> bool:
    """Return whether the image rests on other files, and an administrator has said that all of them can be trusted."""
    if not image.trusted or image.format == "raw":
        return False
    with files.explained(image.path), qcow2_header.open_binary(image.path) as file:
        header = qcow2_header.Header(file)
    return header.has_backing or bool(header.incompatible & qcow2_header.DATA_FILE)


def _run_unconfined(image: Image, verb: str, *arguments: str, timeout: float = qemu_img.TIMEOUT) -> None:
    done = qemu_img.run_trusted(verb, *arguments, timeout=timeout)
    if done.returncode != 0:
        raise command.failure_of(done)


@contextlib.contextmanager
def _explain_locks(image: Image) -> Iterator[None]:
    """Turn QEMU's errors about its locks, within the block, into errors that say who has the image in use."""
    try:
        yield
    except CommandFailed as error:
        if "Failed to get" in error.found and "lock" in error.found:
            raise _in_use(image) from error
        raise
