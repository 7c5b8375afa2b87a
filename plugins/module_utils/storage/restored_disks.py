# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a disk anew of a backup, beside the one that it is to replace: in the machine's format, at least as large as
the catalog says, and upon the image on which the machine's disk rests. Says what a backup's content is read by."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Protocol

from ..dataclass import dataclass, replace
from ..errors import InvalidValue, NotFound
from ..host import command
from ..host.files import adopt, remove_file
from ..host.sandbox import READ, WRITE
from ..model.disk import DiskFiles
from ..model.machine_backup import LUKS, TAR, BackedUpDisk, MachineBackup
from ..model.machine_restore import named_disks
from . import backup_files, backup_secrets, disk_creation, qcow2_header, qemu_img, root_backups
from .backup_files import ChainFile
from .backup_place import MachineDirectory
from .datastore_layout import free_space, hypervisor_group, require_space
from .qemu_img import MIB
from .root_backups import ENCRYPTED, Unpack

# Of a qcow2 file that qemu-img makes, its tables take less than 2**-12 of the disk's size.
_TABLES = 12


@dataclass(frozen=True)
class DiskOfBackup:
    """Holds a disk of a backup with all that it is made of, the newest file first."""

    backup: MachineBackup
    disk: BackedUpDisk
    chain: Sequence[ChainFile]

    @property
    def what(self) -> str:
        """Return how errors call it."""
        return f"backup {self.backup.id} of {self.backup.name}: disk {self.disk.disk_id}"


class Origin(Protocol):
    """Is where a backup's content comes from, on whichever host it is."""

    @property
    def backup(self) -> MachineBackup: ...

    def disk(self, disk_id: int) -> DiskOfBackup:
        """Return a disk of the backup. Raise the error of one that can't be read."""

    def require_room(self, disks: Sequence[tuple[str, DiskOfBackup]], what: str) -> None:
        """Raise NoSpace unless new disks fit. disks: with the path at which each is to be made."""

    def make(self, found: DiskOfBackup, path: str, format: str, disk_key: str) -> None:
        """Make a disk that stands alone, with all that the backup holds of it, as large as it was.
        disk_key: under which it is encrypted; "" if it is not"""

    def make_root(self, found: DiskOfBackup, unpack: Unpack) -> list[str]:
        """Have the root of a container unpacked. Return warnings."""

    def content(self, what: str, most: int) -> bytes:
        """Return what else of the machine's is in the backup."""


@dataclass(frozen=True)
class OfDirectory:
    """Is a backup in a directory of this host."""

    held: MachineDirectory
    backup: MachineBackup

    def disk(self, disk_id: int) -> DiskOfBackup:
        return disk_of(self.held, self.backup, disk_id)

    def require_room(self, disks: Sequence[tuple[str, DiskOfBackup]], what: str) -> None:
        require_room(disks, self.held.key, what)

    def make(self, found: DiskOfBackup, path: str, format: str, disk_key: str) -> None:
        make(found, path, format, self.held.key, disk_key=disk_key)

    def make_root(self, found: DiskOfBackup, unpack: Unpack) -> list[str]:
        return root_backups.restore_root(self.held.directory, found.disk.file, unpack, found.what, self.held.key)

    def content(self, what: str, most: int) -> bytes:
        return content_of(self.held, self.backup, what, most)


def disk_of(held: MachineDirectory, backup: MachineBackup, disk_id: int) -> DiskOfBackup:
    """Return a disk of a backup. Raise InvalidValue for what is encrypted where there is no key."""
    disk = next((each for each in backup.disks if each.disk_id == disk_id), None)
    if disk is None:
        remedy = "Name one that it has: nebula_machine_restore_disks"
        has = named_disks([each.disk_id for each in backup.disks])
        raise NotFound(f"backup {backup.id} of {backup.name}: disk {disk_id}", f"the backup has {has}", remedy)
    chain = held.chain(backup, disk_id)
    found = DiskOfBackup(backup, disk, chain)
    if not held.key and any(each.stored == LUKS or each.path.endswith(ENCRYPTED) for each in chain):
        remedy = "Give the key that it was made with: nebula_machine_backup_key"
        raise InvalidValue(found.what, "it is encrypted", remedy)
    return found


def make(found: DiskOfBackup, path: str, format: str, key: str, size: int = 0, disk_key: str = "") -> None:
    """Make a disk that stands alone at `path`, of a format, of at least `size` bytes. Meanwhile all that it is made of
    is compared with its checksums. After an error there is no file. disk_key: under which it is encrypted"""
    backup_files.restore_disk(found.chain, path, format, key, found.disk.size, found.what, disk_key)
    try:
        disk_creation.resize(path, format, size, disk_key)
    except BaseException:
        remove_file(path)
        raise


def rest_upon(path: str, files: DiskFiles, what: str) -> None:
    """Have a new disk rest on the image on which the machine's disk does; what a machine sees stays as it is."""
    if not files.backing:
        return
    base, format = files.backing[0]
    alone = DiskFiles(path, "qcow2")
    qcow2_header.refuse_unexpected(alone, what)
    # Not -u: what is empty in the new disk, and not in the image, has to be written.
    words = ("rebase", "-q", "-F", format, "-b", base, qemu_img.block_node(alone))
    used = {os.path.realpath(base): READ, os.path.realpath(path): WRITE}
    size = disk_creation.virtual_size(path, "qcow2")
    done = qemu_img.run_program(qemu_img.PROGRAM, *words, files=used, size=size, check=False)
    backup_files.require_success(done, what)
    qcow2_header.refuse_unexpected(replace(files, path=path), what)


def require_key(files: DiskFiles, key: str, what: str) -> None:
    """Raise the error unless the key opens the encrypted disk of a machine: InvalidValue of another key."""
    qcow2_header.refuse_plain(files.path, what)
    # Unlike info, it reads what the key opens.
    done = qemu_img.run(
        "measure", "--output=json", "-O", "raw", disk=files, key=key, closed=True, what=what, check=False
    )
    if done.returncode == 0:
        return
    if any(each in done.stderr for each in backup_files.WRONG_KEY):
        raise InvalidValue(
            what,
            "the passphrase that nebula_luks_secrets has does not open it",
            "Give the one that its host's libvirt has, then run again",
        )
    error = command.failure_of(done)
    error.asked = f"{what}: trying its passphrase"
    error.remedy = (
        "If it is damaged, restore it as an image (nebula_machine_restore_image), and make the machine anew of that"
    )
    raise error


def give_to_hypervisor(path: str, before: str) -> None:
    """Give a new file the owner and mode that a machine's own has. before: the one that it replaces."""
    adopt(path, 0o660, -1, hypervisor_group())
    if os.path.lexists(before):
        status = os.lstat(before)
        adopt(path, status.st_mode & 0o777, status.st_uid, status.st_gid)


def require_room(disks: Sequence[tuple[str, DiskOfBackup]], key: str, what: str) -> None:
    """Raise NoSpace unless new disks fit beside the old ones. disks: with the path at which each is to be made."""
    by_place: dict[str, list[DiskOfBackup]] = {}
    for path, disk in disks:
        by_place.setdefault(os.path.dirname(path), []).append(disk)
    for place, several in by_place.items():
        needed = sum(most_of(each.disk) for each in several)
        # Where even all of it fits, nobody needs to know how much it is.
        if needed > free_space(place):
            needed = min(needed, sum(measured(each, key) for each in several))
        require_space(place, needed, what)


def most_of(disk: BackedUpDisk) -> int:
    """Return the bytes that a disk takes at most, whatever it holds; of a root, what its archive has at least."""
    return disk.file.size if disk.stored == TAR else disk.size + (disk.size >> _TABLES) + MIB


def measured(found: DiskOfBackup, key: str) -> int:
    """Return the bytes that a disk takes at most, by what it holds."""
    if found.disk.stored == TAR:
        return most_of(found.disk)
    backup_files.refuse_headers(found.chain, found.what)
    node = backup_files.text_of(backup_files.chain_node(found.chain))
    done = qemu_img.run_program(
        qemu_img.PROGRAM,
        *("measure", "--output=json", "-O", "qcow2", node),
        files=backup_files.files_of(found.chain),
        keys={backup_files.KEY: key},
        size=found.disk.size,
        check=False,
    )
    backup_files.require_success(done, found.what)
    return int(json.loads(done.stdout)["required"]) + MIB


def content_of(held: MachineDirectory, backup: MachineBackup, what: str, most: int) -> bytes:
    """Return what else of a machine's is in its backup, which is small and as it was when the backup was made."""
    file = backup.files[what]
    path = held.path(file.name)
    asked = f"backup {backup.id} of {backup.name}: {what}"
    backup_files.refuse_altered_file(path, file.size, file.sha256, asked)
    return backup_secrets.content_of(path, file, held.key, most, asked)
