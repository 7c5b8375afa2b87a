# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a disk anew of a backup, beside the one that it is to replace: in the machine's format, at least as large as
the catalog says, and upon the image on which the machine's disk rests."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from ..dataclass import replace
from ..errors import ImageRefused, NebulaError
from ..host.files import adopt, explained
from ..host.sandbox import NEW, READ, WRITE
from ..model.disk import DiskFiles
from ..model.machine_backup import BackedUpDisk
from . import backup_files, backup_search, disk_creation, disk_saving, qcow2_header, qemu_img
from .backup_files import ChainFile
from .backup_search import Found
from .datastore_layout import hypervisor_group, require_space

MIB = 1024 * 1024
# Of a qcow2 file that qemu-img makes, its tables.
_TABLES = 12


def room_for(disk: BackedUpDisk, size: int) -> int:
    """Return the bytes that a disk takes at most."""
    whole = max(disk.size, size)
    return whole + (whole >> _TABLES) + MIB


def make(
    found: Found, chain: Sequence[BackedUpDisk], path: str, format: str, key: str, size: int = 0, what: str = ""
) -> None:
    """Make a disk that stands alone at `path`, of a format, of at least `size` bytes. Meanwhile all that it is made of
    is compared with its checksums. After an error there is no file."""
    what = what or f"backup {found.backup.id} of {found.backup.name}: disk {chain[0].disk_id}"
    parts = [ChainFile(found.path(part.file.name), part.stored) for part in chain]
    given_up = threading.Event()
    try:
        with ThreadPoolExecutor(1, thread_name_prefix="checksum") as pool:
            checks = [pool.submit(backup_search.compare, found, part.file, what, given_up.is_set) for part in chain]
            try:
                _convert(parts, path, format, key, chain[0].size, what)
            except BaseException as error:
                # An altered file is the reason for what a program made of it.
                first = next((each.exception() for each in checks), None) if isinstance(error, NebulaError) else None
                given_up.set()
                if first is not None:
                    raise first from error
                raise
            for check in checks:
                check.result()
        there = disk_creation.virtual_size(path, format)
        if there != chain[0].size:
            raise ImageRefused(what, f"it has {there} bytes, and had {chain[0].size}", "Take another backup")
        disk_creation.resize(path, format, size)
    except BaseException:
        _remove(path)
        raise


def _convert(chain: Sequence[ChainFile], path: str, format: str, key: str, size: int, what: str) -> None:
    """Write what a disk's files hold together to a file that stands alone."""
    files = {os.path.realpath(part.path): READ for part in chain}
    files[path] = NEW
    words = ("convert", "-q", "-W", "-m", "8", "-O", format)
    node = backup_files.text_of(backup_files.chain_node(chain))
    keys = {backup_files.KEY: key}
    done = qemu_img.run_program(qemu_img.PROGRAM, *words, node, path, files=files, keys=keys, size=size, check=False)
    backup_files.require_success(done, what)


def _remove(path: str) -> None:
    with explained(path):
        if os.path.lexists(path):
            os.unlink(path)


def rest_upon(path: str, files: DiskFiles, what: str) -> None:
    """Have a new disk rest on the image on which the machine's disk does; what a machine sees stays as it is."""
    if not files.backing:
        return
    base, format = files.backing[0]
    qcow2_header.refuse_unexpected(DiskFiles(path, "qcow2"), what)
    # Not -u: what is empty in the new disk, and not in the image, has to be written.
    words = ("rebase", "-q", "-F", format, "-b", base, qemu_img.block_node(DiskFiles(path, "qcow2")))
    used = {os.path.realpath(base): READ, os.path.realpath(path): WRITE}
    size = disk_creation.virtual_size(path, "qcow2")
    done = qemu_img.run_program(qemu_img.PROGRAM, *words, files=used, size=size, check=False)
    backup_files.require_success(done, what)
    qcow2_header.refuse_unexpected(replace(files, path=path), what)


def give_to_hypervisor(path: str, before: str) -> None:
    """Give a new file the owner and mode that a machine's own has. before: the one that it replaces."""
    adopt(path, 0o660, -1, hypervisor_group())
    if os.path.lexists(before):
        status = os.lstat(before)
        adopt(path, status.st_mode & 0o777, status.st_uid, status.st_gid)


def require_room(paths: Sequence[tuple[str, int]], what: str) -> None:
    """Raise NoSpace unless new files fit beside the old ones. paths: with the bytes that each takes at most."""
    needed: dict[str, int] = {}
    for path, size in paths:
        place = os.path.dirname(path)
        needed[place] = needed.get(place, 0) + size
    for place, size in needed.items():
        require_space(place, size, what)


def snapshots_of(files: DiskFiles) -> list[str]:
    return disk_saving.snapshot_tags(files) if files.format == "qcow2" else []
