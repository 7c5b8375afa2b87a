# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounts a guest's root file system by this host's own kernel, for images that are trusted, and installs the context
program in one so.

qemu-storage-daemon shows the overlay as a plain file (FUSE), of which the kernel mounts the root file system by a
loop device. Both are mounted in namespaces of their own, and all that is in these ends with this process: the
kernel takes mounts and loop devices away with the last process that sees them. There are two, the daemon's, and one
for the root file system: a daemon that ended while it had that mounted would be asked to write the rest, and wait
for itself.

The other way to a block device is beside this: nbd.py."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import stat
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ...dataclass import dataclass, replace
from ...errors import CommandFailed, ImageRefused, InvalidValue, MissingDependency, NotFound, TimedOut, harmless
from ...host import command, sandbox, untrusted_directories
from ...storage import qcow2_header
from ...storage.final_names import OVERLAY
from ..customize import context_program
from ..customize.context_program import PROGRAM, Outcome
from ..inspect import root_file_system
from ..inspect.root_file_system import FileSystem
from . import named_partition

# A file and a directory in the image's directory, over which disk and root are mounted.
DISK, ROOT = "disk", "root"
TIMEOUT = 60.0
PROGRAM_TIMEOUT = 300.0
_OPTIONS = "nosuid,nodev,noexec"
# Below these the program writes, or their links lead to where it does.
_WRITTEN = (
    "etc", "etc/init.d", "etc/inittab", "etc/rc.d", "etc/rc.d/init.d", "etc/rc.d/rc.local", "etc/rc.local",
    "etc/runlevels", "etc/runlevels/boot", "etc/runlevels/default", "etc/runlevels/sysinit", "etc/systemd",
    "etc/systemd/system", "etc/systemd/system/multi-user.target.wants", "etc/systemd/system/sysinit.target.wants",
    "lib", "lib/systemd", "usr", "usr/lib", "usr/lib/systemd", "usr/local", "usr/local/sbin",
    "usr/local/sbin/nebula-context", *(f"etc/{rc}{level}.d" for rc in ("rc", "rc.d/rc") for level in "0123456S"),
)  # fmt: skip
# If one has a file system of its own, what is written below the root's directory of that name is not seen.
_APART = ("/etc", "/usr", "/usr/local", "/usr/local/sbin")
_LONGEST_FILE = 64 * 1024
_MOST_LINKS = 40


@dataclass(frozen=True)
class View:
    """Shows the host as a process sees it that does nothing but keep its mount namespace.
    directory: where what is mounted is.
    disk: a file, or a block device whose partitions the kernel knows."""

    pid: int
    directory: str
    disk: str
    block: bool = False

    def run(self, *argv: str, timeout: float = TIMEOUT, check: bool = True) -> command.Completed:
        return command.run([*_words_within(self.pid), *argv], timeout=timeout, check=check)

    def path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    def open(self, name: str, flags: int) -> int:
        """Open a file of the mounted root, which can be reached within that mount namespace alone. A guest has made
        what is in it: no link of the guest leads anywhere, on the way there or at its end."""
        top = os.open(f"/proc/{self.pid}/root{self.path(ROOT)}", untrusted_directories.DIRECTORY)
        above = -1
        try:
            place, _slash, last = name.rpartition("/")
            above = untrusted_directories.open_directory(top, place)
            return os.open(last, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
        finally:
            os.close(top)
            if above >= 0:
                os.close(above)


def _words_within(pid: int) -> list[str]:
    return [*command.words_to_end_with_us(), "nsenter", f"--mount=/proc/{pid}/ns/mnt", "--"]


def install(directory: str, what: str) -> Outcome:
    """Install the context program in the overlay of this directory, which holds the program too."""
    with export_as_file(OVERLAY, "qcow2", directory, what) as view, mounted_root(view, what):
        refuse_separate_file_systems(view, _APART, what)
        for path in _WRITTEN:
            _refuse_leading_out(view, path, what)
        # In a namespace of processes, so that what it has started ends with it.
        done = view.run(
            "unshare", "--pid", "--fork", "--kill-child", "--",
            "sh", view.path(PROGRAM), "--root", view.path(ROOT), "install", timeout=PROGRAM_TIMEOUT, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise CommandFailed(
                f"{what}: installing the context program",
                harmless(command.last_lines(done.stderr) or f"it ended with code {done.returncode}", 1000),
                "See whether the image's file system is full or damaged",
            )
        return context_program.outcome(done.stdout, read(view, "etc/os-release") or read(view, "usr/lib/os-release"))


# --- the disk as a file ----------------------------------------------------------------------------------------------


def require(what: str) -> None:
    """Raise InvalidValue for another user than root, and MissingDependency where sfdisk is missing."""
    if os.geteuid() != 0:
        raise InvalidValue(f"{what}: mounting it", "only root can mount", "Run this task with become: true")
    context_program.require("sfdisk", "fdisk", "util-linux-core", f"{what}: mounting it")


@contextlib.contextmanager
def export_as_file(disk: str, format: str, directory: str, what: str) -> Iterator[View]:
    """Yield the disk as a plain file.
    disk: a relative path begins in the directory.
    directory: for what is mounted, nobody else's."""
    require(what)
    context_program.require(
        "qemu-storage-daemon", "qemu-system-common", "qemu-img or qemu-storage-daemon", f"{what}: mounting it"
    )
    qcow2_header.refuse_data_file(os.path.join(directory, disk), format, what)
    for name, make in ((DISK, _make_file), (ROOT, os.mkdir)):
        make(os.path.join(directory, name))
    node = {"driver": format, "node-name": "disk", "file": {"driver": "file", "filename": disk}}
    argv = [
        *command.words_to_end_with_us(), *sandbox.offline_words(), "unshare", "--mount", "qemu-storage-daemon",
        "--chardev", "stdio,id=talk", "--monitor", "chardev=talk", "--blockdev", json.dumps(node),
    ]  # fmt: skip
    pipe = subprocess.PIPE
    with command.start(argv, stdin=pipe, stdout=pipe, stderr=pipe, cwd=directory) as process:
        daemon = _Daemon(process, what)
        daemon.ask("qmp_capabilities")
        point = os.path.join(directory, DISK)
        daemon.ask("block-export-add", {"type": "fuse", "id": "disk", "node-name": "disk", "mountpoint": point,
                                        "writable": True})  # fmt: skip
        with namespace(process.pid, View(0, directory, point)) as view:
            yield view
        # What was written is in the overlay once the daemon has ended by itself.
        daemon.ask("quit")
        daemon.wait()


@contextlib.contextmanager
def namespace(parent: int, wanted: View) -> Iterator[View]:
    """Yield the wanted view in a mount namespace below that of the parent process."""
    argv = [*_words_within(parent), "unshare", "--mount", "--", "sh", "-c", "echo; exec cat"]
    pipe = subprocess.PIPE
    with command.start(argv, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        out, err = process.stdout, process.stderr
        # Once it says something, it is where it should be.
        if out is None or err is None or not out.read(1):
            raise CommandFailed(
                f"a mount namespace for {wanted.disk}", command.last_lines(err.read().decode() if err else "")
            )
        yield replace(wanted, pid=process.pid)


class _Daemon:
    """Speaks to qemu-storage-daemon by its standard input and output."""

    def __init__(self, process: subprocess.Popen[bytes], what: str) -> None:
        self._process = process
        self._what = what
        self._buffer = b""

    def ask(self, verb: str, arguments: Mapping[str, Any] | None = None) -> None:
        """Ask for something, and return when it has been done."""
        request = {"execute": verb, **({"arguments": arguments} if arguments else {})}
        stdin = self._process.stdin
        if stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                stdin.write(json.dumps(request).encode() + b"\n")
        limit = time.monotonic() + TIMEOUT
        while True:
            answer = self._read_line(limit)
            if "error" in answer:
                raise self._failed(str(answer["error"].get("desc")))
            if "return" in answer:
                return

    def wait(self) -> None:
        try:
            self._process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            raise self._timed_out() from None
        if self._process.returncode != 0:
            raise self._failed(f"it ended with code {self._process.returncode}")

    def _read_line(self, limit: float) -> Any:
        stdout = self._process.stdout
        while b"\n" not in self._buffer and stdout is not None:
            if not select.select([stdout], [], [], max(0.0, limit - time.monotonic()))[0]:
                raise self._timed_out()
            data = os.read(stdout.fileno(), 4096)
            if not data:
                stderr = self._process.stderr
                text = stderr.read() if stderr is not None else b""
                raise self._failed(command.last_lines(text.decode("utf-8", "replace")))
            self._buffer += data
        line, _end, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def _timed_out(self) -> TimedOut:
        return TimedOut(f"{self._what}: qemu-storage-daemon", f"no answer after {TIMEOUT:g} s")

    def _failed(self, found: str) -> CommandFailed | MissingDependency:
        asked = f"{self._what}: showing it as a file, by qemu-storage-daemon"
        if "fuse" in found.lower():
            return MissingDependency(asked, found, "Load the kernel's module fuse, so that there is /dev/fuse")
        return CommandFailed(asked, found)


def _make_file(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


# --- the root file system --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def mounted_root(view: View, what: str) -> Iterator[None]:
    seen = []
    for name, number, offset, size in _places(view):
        kind = _tag(view, "TYPE", offset, size)
        seen.append(f"{name}: {kind or 'unknown'}")
        if kind in ("", "swap", "LVM2_member", "crypto_LUKS", "linux_raid_member", "vfat", "iso9660"):
            continue
        source, options = _source(view, number, offset, size)
        mounted = view.run("mount", "-t", kind, "-o", f"{options}{_OPTIONS}", source, view.path(ROOT), check=False)
        if mounted.returncode != 0:
            seen[-1] += f" ({harmless(command.last_lines(mounted.stderr, 1), 200)})"
            continue
        try:
            if not _is_root(view):
                continue
            yield
            return
        finally:
            # Its loop device goes with it.
            view.run("umount", view.path(ROOT))
    raise NotFound(
        f"{what}: its root file system",
        f"none of what is in it has an etc/os-release or etc/fstab: {', '.join(seen)}",
        "Do without via: mount, as libguestfs knows volume groups and subvolumes too",
    )


@contextlib.contextmanager
def mounted_partition(view: View, partition: str, what: str) -> Iterator[FileSystem]:
    """Mount the file system that a user has named, in the form of model.injected_files.Injected, and yield it."""
    system = named_partition.find(partition, _systems(view), what, volumes=False)
    source, options = _source(view, system.number, system.start, system.size if system.number else 0)
    argv = ["mount", "-t", system.type, "-o", f"{options}{_OPTIONS}", source, view.path(ROOT)]
    mounted = view.run(*argv, check=False)
    if mounted.returncode != 0:
        raise named_partition.mount_error(partition, system, command.last_lines(mounted.stderr, 1), what)
    try:
        yield system
    finally:
        # Its loop device goes with it.
        view.run("umount", view.path(ROOT))


def _systems(view: View) -> list[FileSystem]:
    """Return all that can be named, by the names that an appliance has for them, the whole disk last."""
    table = _table(view)
    parts = _parts(table)
    found = []
    for each in [*parts, _Part(0, 0, 0)]:
        uuid = each.uuid
        if each.number and table.get("label") == "dos":
            # As the kernel names partitions that have no UUID: by the disk's number and theirs.
            uuid = f"{str(table.get('id', ''))[2:]}-{each.number:02x}"
        found.append(
            FileSystem(
                device=f"{root_file_system.DISK}{each.number or ''}",
                type=_tag(view, "TYPE", each.offset, each.size),
                label=_tag(view, "LABEL", each.offset, each.size),
                uuid=_tag(view, "UUID", each.offset, each.size),
                partition_uuid=uuid,
                partition_label=each.label,
                number=each.number,
                start=each.offset,
                size=each.size,
            )
        )
    return found


def _source(view: View, number: int, offset: int, size: int) -> tuple[str, str]:
    """Return what mount is to take of the disk, and options for that."""
    if not view.block:
        return view.disk, f"loop,offset={offset}," + (f"sizelimit={size}," if size else "")
    return (f"{view.disk}p{number}" if number else view.disk), ""


def _places(view: View) -> list[tuple[str, int, int, int]]:
    """Return (name, number, offset, size) of the partitions in bytes, else of the whole disk: number, size 0."""
    parts = _parts(_table(view))
    return [(f"partition {each.number}", each.number, each.offset, each.size) for each in parts] or [
        ("whole disk", 0, 0, 0)
    ]


def _table(view: View) -> Mapping[str, Any]:
    """Return the partition table as sfdisk gives it; empty where there is none."""
    done = view.run("sfdisk", "--json", view.disk, check=False)
    try:
        table = json.loads(done.stdout)["partitiontable"]
    except (ValueError, KeyError, TypeError):
        return {}
    return table if isinstance(table, dict) else {}


@dataclass(frozen=True)
class _Part:
    """Describes a partition as a part of the disk. offset, size: bytes."""

    number: int
    offset: int
    size: int
    uuid: str = ""
    label: str = ""


def _parts(table: Mapping[str, Any]) -> list[_Part]:
    try:
        sector = int(table.get("sectorsize", 512))
        return [
            _Part(
                int(re.findall("(?<![0-9])[0-9]+$", part["node"])[0]),
                int(part["start"]) * sector,
                int(part["size"]) * sector,
                str(part.get("uuid", "")),
                str(part.get("name", "")),
            )
            for part in table.get("partitions", [])
        ]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return []


def _tag(view: View, name: str, offset: int, size: int) -> str:
    bounds = ["--offset", str(offset), *(["--size", str(size)] if size else [])]
    argv = ["blkid", "--probe", "--match-tag", name, "--output", "value", *bounds, view.disk]
    return view.run(*argv, check=False).stdout.strip()


def _is_root(view: View) -> bool:
    return bool(read(view, "etc/os-release") or read(view, "usr/lib/os-release") or read(view, "etc/fstab"))


def read(view: View, name: str) -> str:
    """Return a guest's file, "" if it has none. A link is not followed, as it may lead to the host's files."""
    try:
        fd = view.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    # Looked at before it is opened as a file, which a directory can't be.
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return ""
    with os.fdopen(fd, "rb") as file:
        return file.read(_LONGEST_FILE).decode("utf-8", "replace")


def refuse_separate_file_systems(view: View, places: Collection[str], what: str) -> None:
    """Raise ImageRefused if one of these directories is no part of the root file system."""
    for line in read(view, "etc/fstab").splitlines():
        words = line.split("#")[0].split()
        if len(words) > 1 and words[1].rstrip("/") in places:
            raise ImageRefused(
                f"{what}: mounting it",
                f"its {words[1]} is on a file system of its own",
                "Do without via: mount, as libguestfs mounts all of them",
            )


def _refuse_leading_out(view: View, path: str, what: str) -> None:
    """Raise ImageRefused for a link out of the image's root, by which the program would write to the host."""
    done: list[str] = []
    left = path.split("/")
    links = 0
    while left:
        part = left.pop(0)
        if part in ("", "."):
            continue
        if part == "..":
            if not done:
                raise _leading_out(path, "above its root", what)
            done.pop()
            continue
        try:
            target = _link_target(view, [*done, part])
        except OSError:
            # What is not there is made as a directory, and what is a file is replaced.
            return
        if target is None:
            done.append(part)
            continue
        links += 1
        if target.startswith("/") or links > _MOST_LINKS:
            raise _leading_out("/".join([*done, part]), f"to {target}", what)
        left = target.split("/") + left


def _link_target(view: View, parts: list[str]) -> str | None:
    """Return where the link there leads; None if it is no link. All before the last part are known to be no links."""
    fd = view.open("/".join(parts), os.O_PATH | os.O_NOFOLLOW)
    try:
        return os.readlink("", dir_fd=fd) if stat.S_ISLNK(os.fstat(fd).st_mode) else None
    finally:
        os.close(fd)


def _leading_out(path: str, where: str, what: str) -> ImageRefused:
    return ImageRefused(
        f"{what}: mounting it",
        f"its /{path} is a link {harmless(where, 200)}, which from this host leads out of the image",
        "Do without via: mount: inside libguestfs it leads to where it does in the guest",
    )
