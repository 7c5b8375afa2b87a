# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes files into the disk of a machine that is off: by libguestfs, by qemu-nbd, or by a loop device.

libguestfs opens any disk, in a small machine of its own. The other two mount it by this host's own kernel, which a
hostile file system can attack: only disks that are said to be trusted are mounted so. All three find the root file
system by themselves, follow the guest's own links as the guest does, and lead nowhere else."""

from __future__ import annotations

import contextlib
import fcntl
import os
import posixpath
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import CommandFailed, InvalidValue, MissingDependency
from ..host import command, files, mounts
from ..model.disk import DISK_FORMATS
from . import guest_tree
from .customize import context_program
from .guest_tree import Entry
from .inspect import root_file_system
from .open import guestfish, kernel_mount, named_partition, nbd

__all__ = ["Entry", "inject", "inject_and_report"]

WAYS = ("guestfs", "nbd", "loop")
# What runs leave only if they are killed, and the next one of anybody's clears away.
SCRATCH = "/var/tmp"
PREFIX = "nebula-guest-"
RELABEL = "/.autorelabel"
_SELINUX = "/etc/selinux/config"
_TIMEOUT = 60.0


def inject(
    path: str, format: str, entries: Sequence[Entry], what: str, via: str = "auto", trusted: bool = False
) -> str:
    """Write the files into the disk at `path`, which nobody else has open, and return the way used.

    A file that is there is replaced, a link in its place too; missing directories are made. On an error the disk
    may hold some of the files: callers give an overlay, and throw it away.
    format: raw or qcow2, as it is known to be.
    via: one of WAYS, or auto.
    trusted: the host's kernel may mount it."""
    return inject_and_report(path, format, entries, what, via, trusted)[0]


def inject_and_report(
    path: str, format: str, entries: Sequence[Entry], what: str, via: str = "auto", trusted: bool = False
) -> tuple[str, Sequence[Entry]]:
    """Write as inject() does, and return the way used and the files that were written. By nbd and loop these are only
    the files that were not there as they are to be."""
    check(entries, what)
    if format not in DISK_FORMATS:
        raise InvalidValue(
            f"{what}: format {format!r}", "it is not known here", f"Choose one of {', '.join(DISK_FORMATS)}"
        )
    way = choose(via, trusted, what)
    disk = os.path.realpath(path)
    free_devices(disk, what)
    with scratch() as directory:
        if way == "guestfs":
            written = _by_guestfs(disk, format, entries, directory, what)
        else:
            show = nbd.connect if way == "nbd" else kernel_mount.export_as_file
            with show(disk, format, directory, what) as view:
                written = _write_into_view(view, entries, what)
    with files.explained(path):
        files.settle(disk)
    return way, written


def check(entries: Sequence[Entry], what: str) -> None:
    """Raise InvalidValue for an entry that can't be a file of a guest."""
    seen: set[tuple[str, str]] = set()
    for entry in entries:
        asked = f"{what}: file {entry.path!r}"
        if not entry.path.startswith("/") or "\0" in entry.path or posixpath.normpath(entry.path) != entry.path:
            raise InvalidValue(asked, "it is not an absolute path without . and ..", "Write it as /etc/motd")
        if entry.path.startswith("//") or entry.path == "/":
            raise InvalidValue(asked, "it is no path of a file", "Write it as /etc/motd")
        if (entry.partition, entry.path) in seen:
            raise InvalidValue(asked, "it is in the list twice", "Give each file one entry")
        if not 0 <= entry.mode <= 0o7777:
            raise InvalidValue(f"{asked}: mode {entry.mode:o}", "it is no mode", "Write it as 0644")
        if not 0 <= entry.uid < 1 << 32 or not 0 <= entry.gid < 1 << 32:
            raise InvalidValue(
                f"{asked}: owner {entry.uid}:{entry.gid}", "it is no user and group", "Give their numbers"
            )
        seen.add((entry.partition, entry.path))


def choose(via: str, trusted: bool, what: str) -> str:
    """Return the way to use on this host. Raise InvalidValue or MissingDependency if there is none."""
    if via not in ("auto", *WAYS):
        raise InvalidValue(f"{what}: via {via!r}", "there is no such way", f"Known are auto, {', '.join(WAYS)}")
    if via in ("nbd", "loop") and not trusted:
        raise InvalidValue(
            f"{what}: via {via}",
            "the image is not said to be trusted: a hostile file system can attack the kernel that mounts it",
            "Set trusted: true if you know where it comes from, or leave via out",
        )
    if via != "auto":
        return via
    if context_program.present("guestfish"):
        return "guestfs"
    if not trusted:
        raise MissingDependency(
            f"{what}: writing files into it",
            "program guestfish is not on this host, and without it only trusted images are opened",
            "Install the package guestfish (Debian) or libguestfs (Fedora)",
        )
    return "loop" if nbd.why_unusable() else "nbd"


def free_devices(path: str, what: str) -> list[str]:
    """Free what shows this disk to the kernel, unmount it, and return the freed devices: a killed run, or a person,
    has left them. The disk is ours alone, so nobody needs them."""
    freed = []
    for device in loop_devices_of(path):
        _unmount(device)
        command.run(["losetup", "--detach", device], timeout=_TIMEOUT)
        freed.append(device)
    for device in nbd.users(path):
        _unmount(device)
        nbd.disconnect(device)
        freed.append(device)
    return freed


def loop_devices_of(path: str) -> Iterator[str]:
    """Yield the loop devices whose file this is."""
    for place in sorted(Path("/sys/block").glob("loop*")):
        with contextlib.suppress(OSError):
            backing = (place / "loop/backing_file").read_text().rstrip("\n")
            # A file that was removed meanwhile is what a killed run had begun to make.
            if backing in (path, f"{path} (deleted)"):
                yield f"/dev/{place.name}"


def _unmount(device: str) -> None:
    numbers = set()
    with contextlib.suppress(OSError):
        place = Path("/sys/block", os.path.basename(device))
        numbers = {(part / "dev").read_text().strip() for part in (place, *place.glob(f"{place.name}p*"))}
    # What lies below is unmounted first.
    for point in reversed(mounts.mount_points_of(numbers)):
        command.run(["umount", point], timeout=_TIMEOUT)


@contextlib.contextmanager
def scratch() -> Iterator[str]:
    """Yield a directory for one session, nobody else's; those of killed runs are removed."""
    with files.explained(SCRATCH):
        for entry in os.scandir(SCRATCH):
            if entry.name.startswith(PREFIX) and entry.is_dir(follow_symlinks=False):
                _clear(entry.path)
        directory, fd = _make_scratch()
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(fd)


def _clear(directory: str) -> None:
    with contextlib.suppress(OSError):
        fd = _lock_directory(directory)
        try:
            if os.fstat(fd).st_uid == os.geteuid():
                shutil.rmtree(directory, ignore_errors=True)
        finally:
            os.close(fd)


def _make_scratch() -> tuple[str, int]:
    """Return a new directory, and the descriptor that locks it. Before it is locked, somebody may take it for what a
    killed run left: then it is gone, and the next one is tried."""
    while True:
        directory = tempfile.mkdtemp(prefix=PREFIX, dir=SCRATCH)
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            fd = _lock_directory(directory)
            try:
                if os.path.samestat(os.fstat(fd), os.lstat(directory)):
                    return directory, fd
            except FileNotFoundError:
                pass
            os.close(fd)


def _lock_directory(directory: str) -> int:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


# --- by libguestfs ---------------------------------------------------------------------------------------------------


def _by_guestfs(disk: str, format: str, entries: Sequence[Entry], directory: str, what: str) -> Sequence[Entry]:
    with guestfish.session(disk, format, directory, what) as talk:
        for partition, group in _by_partition(entries):
            if partition:
                system = named_partition.mount(talk, partition, what)
                _write_entries(talk, group, system.type not in named_partition.WITHOUT_OWNERS, what)
            else:
                write(talk, group, root_file_system.mount(talk, what, writable=True), what)
            talk.ask("umount-all")
    return entries


def _by_partition(entries: Sequence[Entry]) -> list[tuple[str, list[Entry]]]:
    """Return the entries by their partitions, in the order of the list."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.partition, []).append(entry)
    return list(found.items())


def write(talk: guestfish.Session, entries: Sequence[Entry], root: root_file_system.Root, what: str) -> None:
    """Write the entries into a root file system that is mounted in an appliance."""
    _write_entries(talk, entries, root.os == root_file_system.LINUX, what)


def _write_entries(talk: guestfish.Session, entries: Sequence[Entry], owned: bool, what: str) -> None:
    """Write the entries into what is mounted. owned: files have owners and modes there."""
    for entry in entries:
        with _explain_write(entry, what):
            make_directories(talk, posixpath.dirname(entry.path))
            talk.ask("rm-f", entry.path)
            with memory_file(entry.content) as source:
                talk.ask("upload", source, entry.path)
            if owned:
                talk.ask("chown", str(entry.uid), str(entry.gid), entry.path)
                talk.ask("chmod", f"0{entry.mode:o}", entry.path)
    if owned and _has_selinux(talk.text(_SELINUX, 1 << 20)):
        with _explain_write(Entry(RELABEL, b""), what):
            talk.ask("touch", RELABEL)


def make_directories(talk: guestfish.Session, path: str) -> None:
    """Make the directories that are missing; mkdir-p stops at a link."""
    for parent in reversed([path, *_parents(path)]):
        if talk.ask("is-dir", parent, "followsymlinks:true").strip() != "true":
            talk.ask("mkdir-mode", parent, "0755")


@contextlib.contextmanager
def memory_file(data: bytes) -> Iterator[str]:
    """Yield the path of a file that is on no disk: what is injected may be secret."""
    fd = os.memfd_create("entry")
    try:
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(data)
        yield f"/proc/{os.getpid()}/fd/{fd}"
    finally:
        os.close(fd)


def _has_selinux(config: str) -> bool:
    """Return whether the guest would refuse files without labels; it labels all anew at its next boot."""
    lines = [line.strip().lower() for line in config.splitlines()]
    return "selinux=enforcing" in lines or "selinux=permissive" in lines


@contextlib.contextmanager
def _explain_write(entry: Entry, what: str) -> Iterator[None]:
    """Raise a CommandFailed that names the path of the entry for an error, whichever program could not write it."""
    try:
        yield
    except (CommandFailed, OSError) as error:
        raise CommandFailed(
            f"{what}: writing {entry.path}",
            error.found if isinstance(error, CommandFailed) else error.strerror or str(error),
            "See whether a directory is there, or the file system is full or damaged",
        ) from error


# --- by this host's kernel -------------------------------------------------------------------------------------------


def _write_into_view(view: kernel_mount.View, entries: Sequence[Entry], what: str) -> Sequence[Entry]:
    written: list[Entry] = []
    for partition, group in _by_partition(entries):
        if partition:
            with kernel_mount.mounted_partition(view, partition, what) as system:
                written += _write_into_mounted(view, group, system.type not in named_partition.WITHOUT_OWNERS, what)
            continue
        with kernel_mount.mounted_root(view, what):
            # What is written below another file system's mount point would not be seen.
            places = {parent for entry in group for parent in _parents(entry.path)}
            kernel_mount.refuse_separate_file_systems(view, places, what)
            written += _write_into_mounted(view, group, True, what)
    return written


def _write_into_mounted(view: kernel_mount.View, entries: Sequence[Entry], owned: bool, what: str) -> list[Entry]:
    """Write the entries that are not there, and return them. owned: files have owners and modes there."""
    written = []
    root = view.open(".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        for entry in entries:
            with _explain_write(entry, what):
                if guest_tree.is_there(root, entry, owned):
                    continue
                guest_tree.put(root, entry, owned)
            written.append(entry)
        if written and owned and _has_selinux(kernel_mount.read(view, _SELINUX[1:])):
            mark = Entry(RELABEL, b"")
            with _explain_write(mark, what):
                guest_tree.put(root, mark, owned)
    finally:
        os.close(root)
    return written


def _parents(path: str) -> Iterator[str]:
    while path not in ("/", ""):
        path = posixpath.dirname(path)
        yield path
