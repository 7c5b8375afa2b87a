# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stores disks of machines as files of backups, and makes disks of these again, by QEMU's own programs.

A disk comes from an export on a UNIX socket. A file holds all of it, or what was written since the file of the backup
before, on which it rests then. No header is followed: what a file rests on, the manifests say (qemu_img.py)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..dataclass import dataclass, replace
from ..errors import ChecksumMismatch, ImageRefused, InvalidValue, NebulaError, NoSpace, StorageFailed
from ..host import command
from ..host.files import closing_fd, explained, is_a_link, remove_file, sync_directory
from ..host.sandbox import NEW, READ, WRITE
from ..model.disk import DiskFiles
from ..model.machine_backup import LUKS, QCOW2, StoredFile
from . import datastore_layout, qcow2_header, qemu_img
from .file_blocks import ReadAhead, written_back_early
from .qemu_img import IO_PROGRAM, MIB, PROGRAM

if TYPE_CHECKING:
    from concurrent.futures import Future

UNFINISHED = ".tmp"
CLUSTER = 64 * 1024
# Nodes that encrypt name the user's key so, and that of an encrypted disk of a machine.
KEY, DISK_KEY = "key", "disk"
# How long a guess at a key takes, in milliseconds: not less than one by the seal of the manifest. QEMU measures how
# fast it is, and sees no tick of the clock at times.
_ITERATION_TIME = 200
_UNLUCKY = 20
# Bytes of a disk whose map is read at once, and that it may be long.
_WINDOW, _LONGEST_MAP = 16 * 1024 * MIB, 64 * MIB
# Bytes that are read at once, and how many such reads are on their way together.
_PIECE, _TOGETHER = 1 * MIB, 8
_BLOCK = 1 * MIB
_DISCARDED = 1024 * MIB
_NO_TICK = "accurate CPU usage"
# How lines of QEMU's programs begin, and what its library says without that.
_PROGRAMS, _NOT_FLUSHED = ("qemu-img: ", "qemu-io: ", "qemu-nbd: "), "Failed to flush"
WRONG_KEY = ("Invalid password", "Cannot unlock")
# In the place of a bitmap's name: nothing was written since the backup before.
NOTHING = "-"
# The last command of qemu-io: tables that can't be written when it ends would not make it fail.
_FLUSH = "flush\n"
_ALTERED = "It was altered or damaged: use another backup"
# Bytes that even an empty disk takes: tables of qcow2, head of LUKS.
SMALLEST = 4 * MIB


@dataclass(frozen=True)
class NbdSource:
    """Says where a disk can be read.
    path: of a UNIX socket. export: its name there.
    size: bytes.
    bitmap: the dirty bitmap that says what was written since the backup before; "" if all of it is to be read."""

    path: str
    export: str
    size: int
    bitmap: str = ""

    def node(self, with_bitmap: bool = False) -> dict[str, Any]:
        """Return it as QEMU takes it. with_bitmap: what is dirty is shown as what holds no data."""
        server = {"type": "unix", "path": os.path.realpath(self.path)}
        nbd: dict[str, Any] = {"driver": "nbd", "server": server, "export": self.export}
        if with_bitmap:
            nbd["x-dirty-bitmap"] = f"qemu:dirty-bitmap:{self.bitmap}"
        return {"driver": "raw", "file": nbd}

    def files(self) -> dict[str, str]:
        return {os.path.realpath(self.path): WRITE}


@dataclass(frozen=True)
class ChainFile:
    """Describes one file of those that together hold a disk.
    stored: QCOW2 or LUKS.
    size, sha256: as its manifest has them; "" where they are not compared.
    below: what its manifest says it rests on.
    disk_size: bytes of the disk."""

    path: str
    stored: str
    size: int = 0
    sha256: str = ""
    below: str = ""
    disk_size: int = 0


def text_of(node: Mapping[str, Any]) -> str:
    return "json:" + json.dumps(node)


def file_node(path: str, stored: str) -> dict[str, Any]:
    """Return a file of a backup as QEMU takes it, without what lies below it."""
    file: dict[str, Any] = {"driver": "file", "filename": path}
    if stored == LUKS:
        file = container_node(path)
    return {"driver": "qcow2", "file": file, "backing": None}


def container_node(path: str) -> dict[str, Any]:
    """Return what is in a LUKS container, as it is, as QEMU takes it."""
    return {"driver": "luks", "key-secret": KEY, "file": {"driver": "file", "filename": path}}


def chain_node(chain: Sequence[ChainFile], resolved: bool = True) -> dict[str, Any]:
    """Return a disk's files, the newest first, as QEMU takes them. resolved: by their whole paths without links."""
    node: dict[str, Any] | None = None
    for each in reversed(chain):
        node = {**file_node(path_of(each) if resolved else each.path, each.stored), "backing": node}
    if node is None:
        raise ValueError("a disk has a file")
    return node


# -- storing ---------------------------------------------------------------------------------------------------------


def store_disk(
    directory: str,
    name: str,
    source: NbdSource,
    size: int,
    compress: bool = True,
    key: str = "",
    below: str = "",
    rate: int = 0,
    what: str = "",
) -> StoredFile:
    """Store the disk as the file `name` of the directory. It gets its name when it is whole and on its disk; on an
    error there is nothing.
    size: bytes of the disk
    compress: by zstd. key: the file is a LUKS container then
    below: the name of the file on which this one rests, where the source has a bitmap
    rate: bytes a second at most, 0 for all there is
    what: how errors call it"""
    if bool(below) != bool(source.bitmap):
        raise ValueError("what rests on another file is what a bitmap lists, and nothing else")
    directory = os.path.realpath(directory)
    what = what or f"disk {name}"
    if not os.path.exists(source.path):
        raise StorageFailed(
            f"{what}: reading it", f"its export at {source.path} is not there", "The machine may have ended: run again"
        )
    with new_file(directory, name, what) as new:
        stored = LUKS if key else QCOW2
        if below or key:
            _make_empty(new, size, compress, key, what)
        if below:
            _copy_written(source, new, stored, compress, key, rate, what)
            if not key:
                # A person restores without this collection then. -u: nothing below is opened.
                disk = DiskFiles(new, "qcow2")
                words = ("-q", "-u", "-F", "qcow2", "-b", below)
                done = qemu_img.run(
                    "rebase", *words, disk=disk, use=WRITE, open_below=False, named=False, what=what, check=False
                )
                require_success(done, what)
        else:
            _copy_all(source, new, size, compress, key, rate, what)
        found, digest = settled_digest(new)
    return StoredFile(name, found, digest)


@contextlib.contextmanager
def new_file(directory: str, name: str, what: str) -> Iterator[str]:
    """Yield where the file of that name is to be made. It gets the name at the end, and is removed on an error."""
    new = os.path.join(directory, f".{name}{UNFINISHED}")
    try:
        remove_file(new)
        yield new
        with explained(new):
            os.rename(new, os.path.join(directory, name))
            sync_directory(directory)
    except NoSpace as error:
        raise no_space(directory, what, error, _length(new)) from error
    finally:
        remove_file(new)
        remove_file(new + UNFINISHED)


def no_space(directory: str, what: str, error: NebulaError, taken: int) -> NoSpace:
    """Return the error for a place that has become full."""
    free = datastore_layout.free_space(directory)
    return NoSpace(
        f"{what}: storing it in {directory}",
        f"its file system is full: after {taken} bytes of this file, {free} bytes are left ({error.found[:200]})",
        "Make room there, or keep fewer backups, then run again; what was stored of it is removed",
    )


def _length(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def _make_empty(path: str, size: int, compress: bool, key: str, what: str) -> None:
    """Make an empty disk of that size, which is no secret, and put it into a container where there is a key."""
    plain = path + UNFINISHED if key else path
    done = qemu_img.run_trusted("create", "-q", "-f", "qcow2", "-o", _options(compress), plain, str(size))
    require_success(done, what)
    os.chmod(plain, 0o600)
    if key:
        encrypt(plain, path, key, what)
        remove_file(plain)


def _options(compress: bool) -> str:
    return f"cluster_size={CLUSTER},compression_type={'zstd' if compress else 'zlib'}"


def encrypt(source: str, path: str, key: str, what: str, fd: int = -1) -> None:
    """Make a LUKS container at the path that holds a file as it is.
    fd: of the file in memory, which has no name"""
    words = ["-q", "-f", "raw", "-O", "luks", "-o", f"key-secret={KEY},iter-time={_ITERATION_TIME}"]
    words.append(source if fd < 0 else f"/proc/self/fd/{fd}")
    files = {**({source: READ} if fd < 0 else {}), path: NEW}
    more = () if fd < 0 else (fd,)
    for _attempt in range(_UNLUCKY):
        done = qemu_img.run_program(
            PROGRAM, "convert", *words, path, files=files, keys={KEY: key}, check=False, more=more
        )
        if done.returncode != 1 or _NO_TICK not in done.stderr:
            break
    require_success(done, what)


def decrypted(path: str, key: str, longest: int, what: str) -> bytes:
    """Return what is in a LUKS container, which is small, and zeroes behind its end; it gets on no disk."""
    with explained(path), closing_fd(_opened(path)) as fd:
        length = os.fstat(fd).st_size
    if length > longest + SMALLEST:
        raise ImageRefused(what, f"{path} has {length} bytes", _ALTERED)
    with closing_fd(os.memfd_create("decrypted", os.MFD_CLOEXEC)) as fd:
        os.ftruncate(fd, length)
        words = ("-q", "-n", "-O", "raw", text_of(container_node(path)), f"/proc/self/fd/{fd}")
        done = qemu_img.run_program(
            PROGRAM, "convert", *words, files={path: READ}, keys={KEY: key}, check=False, more=(fd,)
        )
        require_success(done, what)
        return os.pread(fd, length, 0)


def _copy_all(source: NbdSource, new: str, size: int, compress: bool, key: str, rate: int, what: str) -> None:
    """Copy the whole disk to a new file; with a key to the empty one in its container."""
    words = ["-q", "-W", "-m", "8", "-f", "raw", "-O", "qcow2"]
    words += ["-n", "--target-is-zero"] if key else ["-o", _options(compress)]
    words += ["-c"] if compress else []
    words += ["-r", str(rate)] if rate else []
    target = text_of(file_node(new, LUKS)) if key else new
    done = qemu_img.run_program(
        PROGRAM,
        "convert",
        *words,
        text_of(source.node()),
        target,
        files={**source.files(), new: NEW},
        keys={KEY: key},
        size=_size_at_rate(source.size, rate),
        check=False,
    )
    require_success(done, what)
    if not key and (found := qcow2_header.refuse_other_below(new, "", what)) != size:
        raise StorageFailed(what, f"its export shows {found} bytes of it, and it has {size}", "Run again")


def _size_at_rate(size: int, rate: int) -> int:
    """Return as how many bytes it counts for limits of time: a slow rate is asked for."""
    return size if not rate else max(size, size * qemu_img.SLOWEST * 2 // rate)


def _copy_written(source: NbdSource, new: str, stored: str, compress: bool, key: str, rate: int, what: str) -> None:
    """Copy what the bitmap lists: it is read through the new file, which keeps what it had not yet. Of one window after
    the other: who shows the disk says how long the list is."""
    for extents in written_windows(source, what):
        _copy_extents(source, new, stored, compress, key, rate, extents, what)


def _copy_extents(
    source: NbdSource,
    new: str,
    stored: str,
    compress: bool,
    key: str,
    rate: int,
    extents: Sequence[tuple[int, int]],
    what: str,
) -> None:
    below = source.node()
    words = ["-C", "-t", "unsafe"]
    if rate:
        words += ["--object", f"throttle-group,id=rate,x-bps-total={rate}"]
        below = {"driver": "throttle", "throttle-group": "rate", "file": below}
    node = {**file_node(new, stored), "backing": below}
    if compress and source.size % CLUSTER == 0:
        # It takes whole clusters only; a disk that has a part of one is not compressed this time.
        node = {"driver": "compress", "file": node}
    done = qemu_img.run_program(
        IO_PROGRAM,
        *words,
        text_of(node),
        files={**source.files(), new: NEW},
        keys={KEY: key},
        # A flush does away with a limit of the rate.
        input="".join(_reads(extents, 1 if rate else _TOGETHER)),
        size=_size_at_rate(sum(length for _start, length in extents), rate),
        # It repeats its prompt.
        most=_LONGEST_MAP,
        check=False,
    )
    if " failed" in done.stdout:
        # Of such reads it says so, and ends with 0.
        done = replace(done, returncode=1)
    require_success(done, what)


def _reads(extents: Sequence[tuple[int, int]], together: int) -> Iterator[str]:
    """Yield commands for qemu-io that read all of this, so many pieces at once."""
    count = 0
    for start, length in extents:
        for offset in range(start, start + length, _PIECE):
            piece = f"{offset} {min(_PIECE, start + length - offset)}"
            yield f"aio_read -q {piece}\n" if together > 1 else f"read -q {piece}\n"
            count += 1
            if together > 1 and count % together == 0:
                yield "aio_flush\n"
    if together > 1:
        yield "aio_flush\n"
    yield _FLUSH


def written_windows(source: NbdSource, what: str) -> Iterator[list[tuple[int, int]]]:
    """Yield beginning and length of what was written since the backup before, of each part of the disk that has any."""
    if source.bitmap == NOTHING:
        return
    node = text_of(source.node(with_bitmap=True))
    for first in range(0, source.size, _WINDOW):
        window = ["-s", str(first), "-l", str(min(_WINDOW, source.size - first))]
        done = qemu_img.run_program(
            PROGRAM, "map", "--output=json", *window, node, files=source.files(), most=_LONGEST_MAP, check=False
        )
        require_success(done, what)
        found = [(start, length) for start, length, dirty in extents_of(done.stdout, source.size, what) if dirty]
        if found:
            yield found


def extents_of(text: str, size: int, what: str) -> Iterator[tuple[int, int, bool]]:
    """Yield beginning, length and whether it holds no data, of each part of a map that qemu-img printed."""
    try:
        for each in json.loads(text):
            start, length, data = each["start"], each["length"], each["data"]
            numbers = all(isinstance(each, int) and not isinstance(each, bool) for each in (start, length))
            if not numbers or not 0 <= start < start + length <= size:
                raise ValueError(f"a part of it begins at {start!r} and has {length!r} bytes")
            yield start, length, data is False
    except (ValueError, KeyError, TypeError) as error:
        raise StorageFailed(f"{what}: what was written to it", f"the map can't be read: {error}") from error


def require_success(done: command.Completed, what: str) -> None:
    """Raise the error of a program that failed. It also failed where it says so and ends with 0: what it could not
    write when it closed a file, QEMU tells nobody else."""
    if done.returncode == 0:
        if not is_complaint(done.stderr):
            return
        done = replace(done, returncode=1)
    # qemu-io prints there why it can't read.
    text = done.stderr if done.stderr.strip() else done.stdout.replace("qemu-io> ", "")
    if any(each in text for each in WRONG_KEY):
        raise InvalidValue(
            f"{what}: the key of backups", "it does not open the file", "Give the key under which it was stored"
        )
    error = command.failure_of(command.Completed(done.argv, done.returncode, "", text, done.seconds))
    error.asked = what
    raise error


def is_complaint(text: str) -> bool:
    """Return whether a program of QEMU that is quiet where all goes well says that something did not."""
    lines = [line for line in text.splitlines() if "warning: " not in line]
    # Others write there, too, as the loader of programs does.
    return any(line.startswith(_PROGRAMS) or _NOT_FLUSHED in line for line in lines)


def settled_digest(path: str) -> tuple[int, str]:
    """Return size and SHA-256 of a file that was just written, when it is on its disk. It is read while it goes there,
    so what is read is still in memory."""
    from concurrent.futures import ThreadPoolExecutor

    with explained(path), closing_fd(_opened(path)) as fd, ThreadPoolExecutor(1) as worker:
        settled = worker.submit(os.fsync, fd)
        try:
            return digest_of(fd)
        finally:
            settled.result()
            # Nobody reads it soon, and what the host's memory holds for others is to stay there.
            with contextlib.suppress(OSError):
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def digest_of(fd: int) -> tuple[int, str]:
    """Return size and SHA-256 of all that is in an open file."""
    digest, buffer, offset = hashlib.sha256(), bytearray(_BLOCK), 0
    view, ahead = memoryview(buffer), ReadAhead(fd)
    ahead.of(0)
    while count := os.preadv(fd, [view], offset):
        digest.update(view[:count])
        offset += count
        ahead.of(offset)
    return offset, digest.hexdigest()


def _opened(path: str) -> int:
    """Return a descriptor of a regular file, which nobody has put a link in the place of."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise is_a_link(path)
    return fd


# -- making disks of them ----------------------------------------------------------------------------------------------


def refuse_headers(chain: Sequence[ChainFile], what: str) -> None:
    """Raise ImageRefused where a file says otherwise than its manifest. Of what is in a LUKS container only the key's
    owner could have altered anything."""
    for each in chain:
        with explained(each.path), closing_fd(_opened(each.path)):
            pass
        if each.stored == QCOW2:
            found = qcow2_header.refuse_other_below(each.path, each.below, what)
            # The oldest of several that were being merged has grown already.
            if each.sha256 and found != each.disk_size:
                raise _other_size(each.path, found, each.disk_size, what)


def files_of(chain: Sequence[ChainFile]) -> dict[str, str]:
    return {path_of(each): READ for each in chain}


def path_of(each: ChainFile) -> str:
    """Return a file's whole path. It is looked at without following a link, so none that is put there later is
    followed here."""
    return os.path.join(os.path.realpath(os.path.dirname(each.path)), os.path.basename(each.path))


def restore_disk(
    chain: Sequence[ChainFile],
    new_path: str,
    format: str,
    key: str = "",
    size: int = 0,
    what: str = "",
    disk_key: str = "",
) -> None:
    """Make a disk of this format that holds what the files hold together. It is whole at the end, and not yet on its
    disk for certain; on an error there is nothing. Files are compared with their checksums meanwhile.
    chain: the newest first
    key: under which they are stored
    size: bytes that the disk has to have
    disk_key: under which the new disk is encrypted, a qcow2"""
    from concurrent.futures import ThreadPoolExecutor

    what = what or f"disk {new_path}"
    refuse_headers(chain, what)
    words = ["-q", "-W", "-m", "8", "-O", format]
    if disk_key:
        words += ["-o", f"encrypt.format=luks,encrypt.key-secret={DISK_KEY}"]
    try:
        with ThreadPoolExecutor(1) as worker:
            compared = worker.submit(refuse_altered, chain, what)
            _require_size_unless_altered(chain, key, size, what, compared)
            _convert(chain, new_path, words, {KEY: key, DISK_KEY: disk_key}, size, what)
            compared.result()
    except BaseException as error:
        taken = _length(new_path)
        remove_file(new_path)
        if isinstance(error, NoSpace):
            raise no_space(os.path.dirname(new_path), what, error, taken) from error
        raise


def write_disk(chain: Sequence[ChainFile], target: NbdSource, key: str, size: int, what: str) -> None:
    """Write what the files hold together to a new, empty disk that is shown for writing. When this ends without an
    error, all of it has arrived; files were compared with their checksums meanwhile.
    chain, key, size: as restore_disk() has them"""
    from concurrent.futures import ThreadPoolExecutor

    refuse_headers(chain, what)
    words = ["-q", "-n", "--target-is-zero", "-W", "-m", "8", "-t", "writeback", "-O", "raw"]
    with ThreadPoolExecutor(1) as worker:
        compared = worker.submit(refuse_altered, chain, what)
        _require_size_unless_altered(chain, key, size, what, compared)
        nodes = (text_of(chain_node(chain)), text_of(target.node()))
        files = {**files_of(chain), **target.files()}
        done = qemu_img.run_program(
            PROGRAM, "convert", *words, *nodes, files=files, keys={KEY: key}, size=size, check=False
        )
        # A file that was altered is the reason for whatever else went wrong.
        compared.result()
    require_success(done, what)


def _convert(
    chain: Sequence[ChainFile], new: str, words: Sequence[str], keys: Mapping[str, str], size: int, what: str
) -> None:
    new = os.path.join(os.path.realpath(os.path.dirname(new)), os.path.basename(new))
    node, files = text_of(chain_node(chain)), {**files_of(chain), new: NEW}
    for _attempt in range(_UNLUCKY):
        # Whoever puts it in its place waits until it is on its disk.
        with written_back_early(new):
            done = qemu_img.run_program(
                PROGRAM, "convert", *words, node, new, files=files, keys=keys, size=size, check=False
            )
        if done.returncode != 1 or _NO_TICK not in done.stderr:
            break
    require_success(done, what)


def require_size(chain: Sequence[ChainFile], key: str, size: int, what: str) -> None:
    """Raise ImageRefused unless the files, opened together, are a disk of that size."""
    # Unlike info, it opens what is below; of a raw copy it counts the holes too.
    words = ("measure", "--output=json", "-O", "raw", text_of(chain_node(chain)))
    done = qemu_img.run_program(PROGRAM, *words, files=files_of(chain), keys={KEY: key}, check=False)
    require_success(done, what)
    found = json.loads(done.stdout).get("required")
    if found != size:
        raise _other_size(chain[0].path, found, size, what)


def _require_size_unless_altered(
    chain: Sequence[ChainFile], key: str, size: int, what: str, compared: Future[None]
) -> None:
    """Do as require_size() does. A file that was altered is the reason then, also where it looks like a wrong key."""
    try:
        require_size(chain, key, size, what)
    except (InvalidValue, ImageRefused):
        compared.result()
        raise


def _other_size(path: str, found: int, size: int, what: str) -> ImageRefused:
    text = f"{path}: it holds a disk of {found} bytes, and by its manifest one of {size}"
    return ImageRefused(what, text, _ALTERED)


def refuse_altered(chain: Sequence[ChainFile], what: str) -> None:
    """Raise ChecksumMismatch where a file is not the one for which its manifest was written."""
    for each in chain:
        if each.sha256:
            refuse_altered_file(each.path, each.size, each.sha256, what)


def refuse_altered_file(path: str, size: int, sha256: str, what: str) -> None:
    with explained(path), closing_fd(_opened(path)) as fd:
        found = (os.fstat(fd).st_size, "")
        if found[0] == size:
            found = digest_of(fd)
    if found != (size, sha256):
        differs = f"it has {found[0]} bytes, not {size}" if found[0] != size else f"it is {found[1]}"
        raise ChecksumMismatch(f"{what}: file {path}: SHA-256 {sha256}", differs, _ALTERED)


def check_file(each: ChainFile, key: str, what: str) -> None:
    """Raise the error for a file whose tables are damaged."""
    node = text_of(file_node(path_of(each), each.stored))
    done = qemu_img.run_program(
        PROGRAM, "check", "-q", node, files=files_of([each]), keys={KEY: key}, size=each.size, check=False
    )
    # 3: clusters that nothing uses take room, and that is all.
    if done.returncode == 3:
        return
    if done.returncode == 2:
        raise ImageRefused(what, f"{each.path}: its tables are damaged", _ALTERED)
    require_success(done, what)


# -- merging -----------------------------------------------------------------------------------------------------------


def merge_file(path: str, newer: str, stored: str, sizes: tuple[int, int], compress: bool, key: str, what: str) -> None:
    """Write what the newer file holds into the one on which it rests. At each moment the newer one holds, over it, what
    it held before; done again, it ends the same.
    stored: how both are
    sizes: bytes of the disk, then and now"""
    directory = os.path.dirname(path)
    try:
        with tempfile.NamedTemporaryFile(prefix=".zeroes.", suffix=UNFINISHED, dir=directory) as zeroes:
            # What a file does not hold has to lie below it. This takes no room, and is never read.
            zeroes.truncate(sizes[1])
            _merge(path, newer, zeroes.name, stored, sizes, compress, key, what)
    except NoSpace as error:
        raise no_space(directory, what, error, _length(path)) from error


def _merge(
    path: str, newer: str, zeroes: str, stored: str, sizes: tuple[int, int], compress: bool, key: str, what: str
) -> None:
    below = {"driver": "raw", "file": {"driver": "file", "filename": zeroes}}
    source = text_of({**file_node(newer, stored), "backing": below})
    target = text_of({**file_node(path, stored), "backing": below})
    reading, writing, keys = {newer: READ, zeroes: READ}, {path: WRITE, zeroes: READ}, {KEY: key}
    if sizes[0] < sizes[1]:
        done = qemu_img.run_program(
            PROGRAM, "resize", "-q", target, str(sizes[1]), files=writing, keys=keys, check=False
        )
        require_success(done, what)
    if compress:
        # What is there can't be compressed over; the newer file has all of this.
        commands = "".join(_discards(newer, source, reading, keys, sizes[1], what)) + _FLUSH
        done = qemu_img.run_program(
            IO_PROGRAM, "-t", "writeback", "-d", "unmap", target, files=writing, keys=keys, input=commands,
            most=_LONGEST_MAP, size=sizes[1], check=False,
        )  # fmt: skip
        require_success(done, what)
    # writeback: what is written in its place is read again after a power cut, so its order on the disk counts.
    words = ["-q", "-n", "-t", "writeback", "-W", "-m", "8", *(["-c"] if compress else [])]
    words += ["-f", "qcow2", "-O", "qcow2"]
    # -B: only what the newer file itself holds.
    words += ["-B", zeroes, "-F", "raw"]
    done = qemu_img.run_program(
        PROGRAM, "convert", *words, source, target, files={**reading, **writing}, keys=keys, size=sizes[1], check=False
    )
    require_success(done, what)


def _discards(
    path: str, node: str, files: Mapping[str, str], keys: Mapping[str, str], size: int, what: str
) -> Iterator[str]:
    """Yield the commands that take out of the file below whatever this file holds."""
    for first in range(0, size, _WINDOW):
        window = ["-s", str(first), "-l", str(min(_WINDOW, size - first))]
        done = qemu_img.run_program(
            PROGRAM, "map", "--output=json", *window, node, files=files, keys=keys, most=_LONGEST_MAP, check=False
        )
        require_success(done, what)
        for each in json.loads(done.stdout):
            if each["depth"] == 0 and each["present"]:
                for start in range(each["start"], each["start"] + each["length"], _DISCARDED):
                    yield f"discard -q {start} {min(_DISCARDED, each['start'] + each['length'] - start)}\n"
