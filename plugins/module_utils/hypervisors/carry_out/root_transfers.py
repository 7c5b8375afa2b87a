# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings roots of containers into files of backups and back, with the owners that their guests see. One that the
hypervisor itself makes, its driver packs and unpacks; all others are unpacked for the users of their machine."""

from __future__ import annotations

from collections.abc import Callable, Generator

from ...dataclass import dataclass
from ...model.container_user_ids import id_range
from ...model.machine_backup import StoredFile
from ...model.vm import Vm
from ...storage import machine_disks, root_backups, roots
from ...storage.machine_disks import Find
from ...storage.root_backups import ReadableRoot, Unpack
from ...storage.transfer_methods import path_of_shared
from ..base import Driver, Mark


@dataclass(frozen=True)
class Root:
    """Describes the root of a container. path: its directory. by_hypervisor: its driver packs and unpacks it."""

    disk_id: int
    path: str
    by_hypervisor: bool


def of_machine(vm: Vm, directory: str, driver: Driver, find: Find = path_of_shared) -> dict[int, Root]:
    """Return the machine's roots by disk id. directory: of the machine."""
    own = {
        number: Root(number, file.path, False) for number, file in machine_disks.own_roots(vm, directory, find).items()
    }
    made = {number: Root(number, path, True) for number, path in driver.own_roots(vm, directory).items()}
    return {**own, **made}


def readable(root: Root, vm: Vm, mark: Mark, driver: Driver, source: str, what: str) -> ReadableRoot:
    """Return a root of a machine that is off, or stands still.
    source: the directory that is read, the root's own or a copy. what: the words that errors begin with."""

    def pack(fd: int, seconds: float) -> int:
        if root.by_hypervisor:
            return driver.pack_root(mark, source, fd, what, seconds)
        return roots.pack(source, fd, id_range(vm.vm_id), what, seconds).left_out

    taken = driver.root_size(source, what) if root.by_hypervisor else roots.size(source, what)
    return ReadableRoot(taken, pack)


def restore(root: Root, vm: Vm, driver: Driver, place: str, stored: StoredFile, what: str, key: str = "") -> list[str]:
    """Make a tree beside a root, with roots.RESTORED at its end, of a file in the directory `place`: whole and on the
    disk, or not at all. Return warnings. roots.put_in_place() has it be the machine's root, roots.remove_replaced()
    removes what was there before, and roots.put_back() takes it back.
    what: the words that errors begin with. key: of an encrypted file."""
    return take(root, vm, driver, lambda unpack: root_backups.restore_root(place, stored, unpack, what, key), what)


def take(root: Root, vm: Vm, driver: Driver, bring: Callable[[Unpack], list[str]], what: str) -> list[str]:
    """Do as restore() does, of an archive from wherever it is. bring: has it unpacked, and returns warnings."""
    roots.remove_replaced(root.path)
    new = root.path + roots.RESTORED

    def unpack(blocks: Generator[bytes, None, None], seconds: float) -> list[str]:
        if root.by_hypervisor:
            return driver.take_root(new, blocks, what, seconds)
        return roots.take_in(blocks, new, id_range(vm.vm_id), what, seconds).warnings(what)

    return bring(unpack)
