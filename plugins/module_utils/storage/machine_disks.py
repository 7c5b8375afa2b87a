# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the disks of one machine on its node: once, whole or not at all, never again over what a guest wrote."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from collections.abc import Callable, Collection, Mapping

from ..errors import Conflict, ImageRefused, InvalidValue, NebulaError
from ..guest_disk import file_injection
from ..host.files import adopt, explained, remove_file, settle, sync_directory
from ..model.container_user_ids import RANGES, id_range
from ..model.disk import DIRECTORY, SHARED_DIRECTORY, TAR, Disk, DiskFiles
from ..model.injected_files import Injected
from ..model.transfer import name_of
from ..model.vm import Vm
from ..model.whole_numbers import id_in
from . import disk_creation, disk_saving, file_system_growth, roots
from .datastore_layout import disk_path, hypervisor_group, protect, require_space
from .transfer_methods import is_drive, path_of_shared

MIB = 1024 * 1024
# Bytes that a new file system takes at most.
FILE_SYSTEM = 128 * MIB
_DISK = re.compile(r"disk\.(\d+)", re.ASCII)
_OURS = re.compile(r"disk\.\d+|\.disk\.\d+\.tmp(\.raw)?")


Contents = Callable[[Injected], file_injection.Entry]
"""What a file that is to be in a disk holds."""
Find = Callable[[Disk], str]
"""The file on this node that a disk is made of."""


def _no_contents(entry: Injected) -> file_injection.Entry:
    if entry.file is not None:
        raise InvalidValue(f"file {entry.path}", "what it is to hold is not here", "Run again")
    return entry_of(entry, entry.content.encode())


def entry_of(entry: Injected, content: bytes, executable: bool = False) -> file_injection.Entry:
    mode = entry.mode if entry.mode >= 0 else 0o755 if executable else 0o644
    return file_injection.Entry(entry.path, content, mode, entry.uid, entry.gid, entry.partition)


def prepare(
    vm: Vm, directory: str, find: Find = path_of_shared, contents: Contents = _no_contents, whole: bool = False
) -> dict[int, DiskFiles]:
    """Make the disks that the machine does not have yet. Return where each is, by disk id (without the context's).
    Raise NebulaError that names the machine and the disk. whole: whether the file systems on them are to be as
    large as they are, as its guest can't make them so.

    The caller holds the lock of `directory`, which exists. Disks that are there are not touched, whatever they
    hold."""
    files: dict[int, DiskFiles] = {}
    made = False
    for disk in vm.disks:
        try:
            files[disk.disk_id], new = _prepare(vm.vm_id, disk, directory, find, contents, whole)
        except NebulaError as error:
            error.asked = f"machine {vm.name} (id {vm.vm_id}), disk {disk.disk_id}: {error.asked}"
            raise
        made = made or new
    if made:
        with explained(directory):
            sync_directory(directory)
    return files


def remove(directory: str, ids: Collection[int] | None = None) -> bool:
    """Remove the machine's own disks, and the links to images, which stay. Return whether there was one. ids: of the
    disks in question; None: of all."""
    removed = False
    names = None if ids is None else {os.path.basename(disk_path(directory, disk_id)) for disk_id in ids}
    with explained(directory), contextlib.suppress(FileNotFoundError):
        for name in os.listdir(directory) if os.path.isdir(directory) else []:
            if _OURS.fullmatch(name) and (names is None or name in names):
                path = os.path.join(directory, name)
                removed = (roots.remove(path) if _kind(path) == "directory" else remove_file(path)) or removed
        # What is beside a root, where a killed run has left nothing else of it.
        for name in os.listdir(directory) if os.path.isdir(directory) else []:
            root = roots.root_of(name)
            if root != name and _OURS.fullmatch(root) and (names is None or root in names):
                removed = roots.remove(os.path.join(directory, root)) or removed
    return removed


def locate(vm: Vm, directory: str, find: Find = path_of_shared) -> dict[int, DiskFiles]:
    """Return the paths at which prepare() would put each of the disks, by disk id; nothing is made."""
    return {disk.disk_id: _locate(disk, directory, _source_of(disk, find)) for disk in vm.disks}


def _source_of(disk: Disk, find: Find) -> str:
    """Return where the node has what the disk is made of, "" for nothing."""
    return disk.source if disk.type == SHARED_DIRECTORY else find(disk) if disk.source else ""


def own_disks(vm: Vm, directory: str, find: Find = path_of_shared) -> dict[int, DiskFiles]:
    """Return those of the machine's disks whose files are in its directory and no image's own, by disk id."""
    made = {disk.disk_id for disk in vm.disks if disk.by_hypervisor}
    return {
        disk_id: file
        for disk_id, file in locate(vm, directory, find).items()
        if file.path == disk_path(directory, disk_id) and file.format != DIRECTORY and disk_id not in made
    }


def own_roots(vm: Vm, directory: str, find: Find = path_of_shared) -> dict[int, DiskFiles]:
    """Return those of the machine's disks that are directories of its own, roots of containers, by disk id. Those that
    the hypervisor itself makes, its driver knows (Driver.own_roots)."""
    made = {disk.disk_id for disk in vm.disks if disk.by_hypervisor}
    return {
        disk_id: file
        for disk_id, file in locate(vm, directory, find).items()
        if file.path == disk_path(directory, disk_id) and file.format == DIRECTORY and disk_id not in made
    }


def require_users(vm: Vm, directory: str) -> None:
    """Raise Conflict where another container of this host has the users that the machine's own root belongs to."""
    if os.path.isdir(os.path.dirname(directory)):
        _refuse_twin(vm.vm_id, directory)


def make_empty(file: DiskFiles, size: int) -> None:
    """Make the file of a disk of `size` bytes that comes from elsewhere, above what it rests on."""
    new = _beside(file.path)
    remove_file(new)
    if file.backing:
        disk_creation.create_overlay(new, *file.backing[0], size)
    else:
        disk_creation.create_empty(new, file.format, size)
    adopt(new, 0o660, -1, hypervisor_group())
    with explained(file.path):
        os.rename(new, file.path)


def take_in(file: DiskFiles, what: str) -> None:
    """Take over the file of a disk that has come from elsewhere: it rests on what is here, and may be read by what runs
    machines. Raise ImageRefused where its header says otherwise than the catalog. what: how errors call the disk."""
    if file.format == "qcow2":
        disk_creation.rest_on(file, what)
    adopt(file.path, 0o660, -1, hypervisor_group())


def open_shared(vm: Vm, directory: str, find: Find = path_of_shared) -> None:
    """Let what runs machines here open the files to which this one writes, and which its former host sees as well: that
    host's libvirt takes them back as the machine leaves, where it can't see that others use them."""
    files = locate(vm, directory, find)
    for disk in vm.disks:
        file = files[disk.disk_id]
        if disk.readonly or disk.by_hypervisor or disk.type in ("CDROM", SHARED_DIRECTORY) or file.format == DIRECTORY:
            continue
        if os.path.lexists(file.path):
            adopt(file.path, 0o660, -1, hypervisor_group())


def linked_files(directory: str) -> dict[str, int]:
    """Return the disks of a machine whose files are images' own, by these files: links in its directory lead to
    them."""
    found = {}
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            number = _DISK.fullmatch(entry.name)
            if number is not None and entry.is_symlink():
                found[os.readlink(entry.path)] = int(number[1])
    return found


def id_of_file(path: str, directory: str, links: Mapping[str, int]) -> int | None:
    """Return which disk of the machine a file is; None if it is none of its own. links: as linked_files() has them."""
    place, _slash, name = path.rpartition("/")
    number = _DISK.fullmatch(name) if place == directory else None
    return links.get(path) if number is None else int(number[1])


def grow(vm: Vm, files: Mapping[int, DiskFiles], ids: Collection[int], whole: bool = False) -> bool:
    """Make disks of a machine that is off as large as they are to be. Return whether any was smaller. A disk whose
    file system can't grow stays as it was.
    files, ids: where the disks are, and which of them are meant
    whole: whether the file systems on them grow as well"""
    grown = False
    for disk, file in _growing(vm, files, ids, whole):
        try:
            _grow(disk, file, whole)
        except NebulaError as error:
            error.asked = f"machine {vm.name} (id {vm.vm_id}), disk {disk.disk_id}: {error.asked}"
            raise
        grown = True
    return grown


def _grow(disk: Disk, file: DiskFiles, whole: bool) -> None:
    before = disk_creation.virtual_size(file.path, file.format)
    disk_creation.resize(file.path, file.format, disk.size * MIB, backing=file.backing)
    if whole and file.format == "raw":
        try:
            file_system_growth.grow(file.path, f"disk of {disk.size} MB")
        except NebulaError:
            with explained(file.path):
                os.truncate(file.path, before)
            raise


def would_grow(vm: Vm, files: Mapping[int, DiskFiles], ids: Collection[int], whole: bool = False) -> bool:
    return bool(_growing(vm, files, ids, whole))


def _growing(vm: Vm, files: Mapping[int, DiskFiles], ids: Collection[int], whole: bool) -> list[tuple[Disk, DiskFiles]]:
    found = [(disk, files[disk.disk_id]) for disk in vm.disks if disk.disk_id in ids and _can_grow(disk)]
    return [(disk, file) for disk, file in found if _is_small(disk, file, whole)]


def _is_small(disk: Disk, file: DiskFiles, whole: bool) -> bool:
    if disk_creation.virtual_size(file.path, file.format) < disk.size * MIB:
        return True
    # Of a run that was killed in between.
    return whole and file.format == "raw" and file_system_growth.needed(file.path)


def _can_grow(disk: Disk) -> bool:
    return disk.type != "CDROM" and disk.format != TAR and not disk.by_hypervisor


def _locate(disk: Disk, directory: str, source: str) -> DiskFiles:
    path = disk_path(directory, disk.disk_id)
    if disk.by_hypervisor:
        return DiskFiles(source or path, disk.format if source else disk.driver)
    if disk.format == TAR:
        return DiskFiles(path, DIRECTORY)
    if not disk.source:
        return DiskFiles(path, disk.driver)
    if not disk.clone:
        return DiskFiles(source, disk.format, block=disk.type == "CDROM" and is_drive(source))
    if disk.driver == "raw" or disk.luks_secret:
        return DiskFiles(path, disk.driver)
    return DiskFiles(path, "qcow2", ((source, disk.format),))


def _prepare(
    vm_id: int, disk: Disk, directory: str, find: Find, contents: Contents, whole: bool
) -> tuple[DiskFiles, bool]:
    path = disk_path(directory, disk.disk_id)
    source = _source_of(disk, find)
    files = _locate(disk, directory, source)
    if disk.by_hypervisor:
        return files, False
    if disk.format == TAR:
        return files, _make_root(vm_id, disk, source, path)
    if not disk.source:
        return files, _make_once(path, lambda new: _make_volatile(disk, new, contents))
    if not disk.clone:
        return files, _link(path, source, disk)
    return files, _make_once(path, lambda new: _make(disk, source, new, contents, whole))


def _make_root(vm_id: int, disk: Disk, source: str, path: str) -> bool:
    """Make the root of a container of the unpacked image, for its own users; return False if it is there already."""
    kind = _kind(path)
    if kind not in ("", "directory"):
        raise _in_the_way(path, kind, "the root file system of a container")
    if roots.is_there(path):
        # After a boot of the host it has to be mounted again: it is never made anew over what the machine wrote.
        roots.mount_again(path)
        return False
    directory = os.path.dirname(path)
    _refuse_twin(vm_id, directory)
    roots.make(
        roots.cache_directory(os.path.dirname(directory)),
        source,
        _key(disk, source),
        path,
        id_range(vm_id),
        f"image {disk.image}",
    )
    return True


def _key(disk: Disk, source: str) -> str:
    """Return the name of the unpacked image: another one if somebody has put another archive in the image's place."""
    with explained(source):
        found = os.stat(source)
    digest = hashlib.sha256(f"{found.st_size} {found.st_mtime_ns}".encode()).hexdigest()
    return f"{name_of(disk.image_uuid, disk.generation)}-{digest[:16]}"


def _refuse_twin(vm_id: int, directory: str) -> None:
    """Raise Conflict where another container of this host has the same users."""
    place = os.path.dirname(directory)
    for name in os.listdir(place):
        number = id_in(name)
        if number is None or number == vm_id or id_range(number) != id_range(vm_id):
            continue
        with contextlib.suppress(FileNotFoundError):
            if any(entry.is_dir(follow_symlinks=False) for entry in os.scandir(os.path.join(place, name))):
                raise Conflict(
                    f"users of machine {vm_id}",
                    f"machine {name} is on this host, and has the same: its id differs by a multiple of {RANGES}",
                    "Make the machine anew (recreate does not help: state: absent, then present), or on another host",
                )


def _make(disk: Disk, source: str, path: str, contents: Contents, whole: bool) -> None:
    if disk.luks_secret:
        _make_whole(disk, source, path)
    elif disk.driver == "raw":
        _make_copy(disk, source, path, whole)
    else:
        _make_overlay(disk, source, path)
    _inject(disk, path, contents, f"files for image {disk.image}", disk.trusted)


def _inject(disk: Disk, path: str, contents: Contents, what: str, trusted: bool) -> None:
    """Put the template's files into the disk before it gets its name: a disk that lacks them is not taken for a
    finished one."""
    if disk.inject:
        entries = [contents(entry) for entry in disk.inject]
        file_injection.inject(path, disk.driver, entries, what, disk.inject_via, trusted)


def _make_once(path: str, make: Callable[[str], None]) -> bool:
    """Make the file under another name, and rename it when it is complete. Return False if it is there already."""
    kind = _kind(path)
    if kind == "file":
        return False
    if kind:
        raise _in_the_way(path, kind, "a disk of its own")
    new = _beside(path)
    # What a killed run left; the lock of the directory says that nobody is at it.
    remove_file(new)
    try:
        make(new)
        adopt(new, 0o660, -1, hypervisor_group())
        with explained(path):
            settle(new)
            os.rename(new, path)
    finally:
        remove_file(new)
    return True


def _beside(path: str) -> str:
    """Return what a disk is called until it is whole."""
    return os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.tmp")


def _make_volatile(disk: Disk, path: str, contents: Contents) -> None:
    size = disk.size * MIB
    fs = "swap" if disk.type == "SWAP" else disk.fs
    # What is empty takes nothing, and a file system its journal and tables; on a qcow2, for a moment twice.
    takes = min(size // 16, FILE_SYSTEM) * (2 if disk.driver == "qcow2" else 1) if fs else 0
    require_space(os.path.dirname(path), takes + MIB, "an empty disk")
    disk_creation.create_empty(path, disk.driver, size, fs)
    # Its file system was made here a moment ago, and no guest has seen it.
    _inject(disk, path, contents, "files for an empty disk", trusted=True)


def _make_overlay(disk: Disk, source: str, path: str) -> None:
    require_space(os.path.dirname(path), MIB, "an overlay")
    disk_creation.create_overlay(path, source, disk.format, _size_of_disk(disk, source))


def _make_copy(disk: Disk, source: str, path: str, whole: bool) -> None:
    size = _size_of_disk(disk, source)
    disk_saving.require_room(path, DiskFiles(source, disk.format), "raw", "a copy")
    disk_creation.copy(source, disk.format, path, "raw")
    if disk_creation.resize(path, "raw", size) and whole:
        file_system_growth.grow(path, f"a copy of image {disk.image} with {disk.size} MB")


def _make_whole(disk: Disk, source: str, path: str) -> None:
    """Copy an encrypted image byte by byte: an overlay on it would need its secret twice."""
    disk_saving.require_room(path, DiskFiles(source, "raw"), "raw", "a copy")
    disk_creation.copy(source, "raw", path, "raw")


def _size_of_disk(disk: Disk, source: str) -> int:
    # Without a size the disk is as its image.
    return disk.size * MIB if disk.size else disk_creation.virtual_size(source, disk.format)


def _link(path: str, source: str, disk: Disk) -> bool:
    """Make OpenNebula's LN: disk.N points to the image's own file, which the hypervisor opens under its own path."""
    kind = _kind(path)
    if kind == "link" and os.readlink(path) == source:
        return False
    if kind not in ("", "link"):
        raise _in_the_way(path, kind, f"a link to image {disk.image}")
    if disk.save and not disk.readonly:
        _refuse_empty(disk, source)
        protect(source, writable=True)
        if not disk.luks_secret:
            # The size of an encrypted one is in its header's keeping: it is as large as its image, rounded up or not.
            disk_creation.resize(source, disk.format, disk.size * MIB)
    new = _beside(path)
    remove_file(new)
    with explained(path):
        os.symlink(source, new)
        os.rename(new, path)
    return True


def _refuse_empty(disk: Disk, source: str) -> None:
    """Raise ImageRefused for an empty file: made as large as the disk, it would be a blank disk, and nobody told."""
    with explained(source):
        empty = os.path.getsize(source) == 0
    if empty:
        raise ImageRefused(
            f"image {disk.image}: its file {source}",
            "it is empty",
            "Put a whole copy of it back, from a backup, or remove the image and store it again",
        )


def _kind(path: str) -> str:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return ""
    if stat.S_ISDIR(mode):
        return "directory"
    return "link" if stat.S_ISLNK(mode) else "file" if stat.S_ISREG(mode) else "other"


def _in_the_way(path: str, kind: str, wanted: str) -> Conflict:
    return Conflict(
        f"{path} as {wanted}",
        f"there is a {kind} already",
        "The machine's disk was made for another image: make the machine anew (recreate: true)",
    )
