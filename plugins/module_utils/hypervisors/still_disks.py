# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backs up a running machine of a hypervisor that shows no disks as they are at one moment. What is read are copies
that share their content with its disks, where the file system has that, so that the machine stands still for that
moment only; else the disks themselves, and the machine stands still until they are read."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field

from ..dataclass import dataclass, replace
from ..errors import WrongState
from ..host import files
from ..model.container_user_ids import IdRange, id_range
from ..model.disk import DIRECTORY, Disk, DiskFiles
from ..model.machine_backup import CRASH_CONSISTENT, STOOD_STILL
from ..storage import roots
from ..storage.backup_files import NbdSource
from . import standing_still
from .base import BackUp, Driver, Mark, RunningBackup, label_of
from .standing_still import Pausing, Standing

# How a backup says that it was made.
MOMENT = "of copies that were made while the machine stood still for a moment"
AS_LONG = "while the machine stood still"


@dataclass(frozen=True)
class Disks:
    """Holds what is to be read of a machine, by disk id.
    files: of its disks.
    roots: the directories of containers' roots.
    ids: whom what is in these belongs to; None where nobody but the hypervisor knows that."""

    files: Mapping[int, DiskFiles] = field(default_factory=dict)
    roots: Mapping[int, str] = field(default_factory=dict)
    ids: IdRange | None = None


@dataclass(frozen=True)
class StillDisks:
    """Holds where it can be read. standing: as long as the machine stands still for it; None of copies."""

    files: Mapping[int, DiskFiles]
    roots: Mapping[int, str]
    standing: Standing | None = None

    @property
    def copied(self) -> bool:
        """Return whether the machine goes on already."""
        return self.standing is None


@contextlib.contextmanager
def reading(pausing: Pausing, directory: str, disks: Disks, asked: str) -> Iterator[StillDisks]:
    """Yield where the disks can be read for a block of code. Raise InUse, at its end, if the machine did not stand
    still as long as it had to.
    directory: of the machine, whose lock is held. asked: the words that errors begin with."""
    standing_still.remove_copies(directory)
    if _may_be_shared(directory, disks):
        place = os.path.join(directory, standing_still.COPIES)
        try:
            files.make_directory(place, 0o700)
            with standing_still.held(pausing, directory, asked):
                copies = _copies(place, disks, asked)
            if copies is not None:
                yield copies
                return
        finally:
            standing_still.remove_copies(directory)
    with contextlib.ExitStack() as held:
        standing = held.enter_context(standing_still.held(pausing, directory, asked))
        yield StillDisks(disks.files, disks.roots, standing)


def _may_be_shared(directory: str, disks: Disks) -> bool:
    """Return whether it is worth to try: the machine stands still for it."""
    paths = [*(each.path for each in disks.files.values()), *disks.roots.values()]
    probe = os.path.join(directory, ".standing-still.tmp")
    if disks.roots and (disks.ids is None or any(roots.shows_image(path) for path in disks.roots.values())):
        return False
    with files.explained(directory):
        device = os.stat(directory).st_dev
        if any(os.stat(path).st_dev != device for path in paths) or any(each.block for each in disks.files.values()):
            return False
        files.write_atomically(probe, b"x" * 4096, sync=False)
        try:
            return roots.can_share(probe, directory)
        finally:
            files.remove_file(probe)


def _copies(place: str, disks: Disks, asked: str) -> StillDisks | None:
    """Return copies of the disks, None where one of them can't be shared."""
    found: dict[int, DiskFiles] = {}
    for disk_id, disk in disks.files.items():
        path = os.path.join(place, f"disk.{disk_id}")
        with (
            files.explained(disk.path),
            files.opened(disk.path, os.O_RDONLY | os.O_NOFOLLOW) as source,
            files.opened(path, files.NEW_FILE) as target,
        ):
            if not files.clone(source, target):
                return None
        found[disk_id] = replace(disk, path=path)
    trees = {disk_id: os.path.join(place, f"root.{disk_id}") for disk_id in disks.roots}
    for disk_id, root in disks.roots.items():
        if disks.ids is None or not roots.share(root, trees[disk_id], disks.ids, f"{asked}: disk {disk_id}"):
            return None
    return StillDisks(found, trees)


class StillBackup(RunningBackup):
    """Is the backup of a machine that stands still, or of copies that were made of it then: always a full one."""

    def __init__(self, still: StillDisks, sources: Mapping[int, NbdSource]) -> None:
        self._still, self._sources = still, sources

    @property
    def sources(self) -> Mapping[int, NbdSource]:
        return self._sources

    @property
    def roots(self) -> Mapping[int, str]:
        return self._still.roots

    @property
    def way(self) -> str:
        return MOMENT if self._still.copied else AS_LONG

    @property
    def incremental(self) -> bool:
        return False

    @property
    def reason(self) -> str:
        return "its hypervisor does not know what is written to its disks"

    @property
    def consistency(self) -> str:
        # What a QEMU or qemu-nbd of the host has of such a file in its memory is not in the file.
        kept_back = any(each.format == "qcow2" for each in self._still.files.values())
        return CRASH_CONSISTENT if kept_back else STOOD_STILL

    @property
    def checkpoint(self) -> str:
        return ""

    def end_reading(self) -> None:
        """Have the machine go on, as RunningBackup.end_reading() says."""
        if self._still.standing is not None:
            self._still.standing.end()

    def keep(self) -> None:
        """Do nothing: the next one does not go on from it."""


@contextlib.contextmanager
def back_up(
    driver: Driver, mark: Mark, disks: Sequence[tuple[Disk, DiskFiles]], order: BackUp
) -> Iterator[RunningBackup]:
    """Show disks of the running machine for a block of code, as Driver.back_up() says. Those whose format is DIRECTORY
    are roots. Raise WrongState, before anything is done, for a machine that must not stand still."""
    asked = f"backup of {label_of(mark)}"
    if not order.stand_still:
        raise standing_still.refuse(asked, driver.name)
    pausing = driver.pausing(mark)
    if pausing is None:
        raise WrongState(asked, "it does not run", "Run again")
    shown = {disk.disk_id: file for disk, file in disks if file.format != DIRECTORY}
    roots_of = {disk.disk_id: file.path for disk, file in disks if file.format == DIRECTORY}
    ids = None if any(disk.by_hypervisor for disk, _file in disks) else id_range(mark.vm_id)
    with reading(pausing, order.directory, Disks(shown, roots_of, ids), asked) as still:
        if not shown:
            yield StillBackup(still, {})
            return
        from ..storage import disk_exports

        with disk_exports.shown(f"{mark.vm_id}-{mark.catalog}", still.files, what=asked, shared=True) as sources:
            yield StillBackup(still, sources)
