# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings the files of images to a node and back. A method is a class and a line in METHODS."""

from __future__ import annotations

import abc
import functools
import os
import stat
from collections.abc import Callable, Collection, Mapping

from ..dataclass import replace
from ..errors import NebulaError, NotFound, Unsupported
from ..host.real_paths import real_path
from ..model.disk import Disk
from ..model.plan import Plan, PlannedVm
from ..model.transfer import SAVED, SHARED, SSH
from ..model.vm import Vm
from . import node_image_files


class Transfer(abc.ABC):
    """Brings files to and from a node for one plan. Several threads call it, for different machines."""

    def __init__(self, root: str, plan: Plan) -> None:
        self.root = root
        self.plan = plan

    def take_in(self) -> bool:
        """See to what came for this plan. Return whether there was something new."""
        return False

    def localized(self, planned: PlannedVm) -> PlannedVm:
        """Return the machine with the paths that its files have on this node."""
        return planned

    @abc.abstractmethod
    def find(self, disk: Disk) -> str:
        """Return the file that a disk of a localized machine is made of. Raise an error for a file that is not here."""

    def require(self, vm: Vm) -> None:  # noqa: B027 (what is here need not come)
        """Raise the error that says why the kernel or the initrd of a localized machine did not come here."""

    def used(self, vm: Vm) -> tuple[str, ...]:
        """Return which of the node's own copies the machine rests on, by PlannedImage.local."""
        return ()

    def give_up(self, directory: str, vm: Vm | None, disks: Collection[int] | None = None) -> bool:
        """Have what the machine wrote brought back. Return whether there is something.
        vm: what it goes on as, localized; None: it has ended
        disks: ids of the disks in question; None: all"""
        return False

    def is_fetched(self, path: str) -> bool:
        """Return whether the front-end fetches the file `path` of a localized task, and takes no more of it than the
        disk has in the catalog."""
        return False

    def saved(self, path: str) -> None:  # noqa: B027
        """Take over the file `path` of a localized task, as which a disk was saved."""

    def prune(self, used: Callable[[], set[str]]) -> None:  # noqa: B027
        """Remove copies that nothing needs. used: tells what machines of this node rest on."""


def path_of_shared(disk: Disk, resolve: Callable[[str], str] = real_path) -> str:
    """Return the file that the disk's source is or leads to: an administrator may have put a link to a drive there.
    resolve: tells where a path leads to."""
    path = resolve(disk.source)
    if disk.image_id is None and disk.by_hypervisor and not os.path.isfile(path):
        raise NotFound(
            f"file {disk.source} on this node", "there is none", "Correct SOURCE of the DISK, or bring the file"
        )
    if not os.path.isfile(path) and not (disk.type == "CDROM" and is_drive(path)):
        raise NotFound(
            f"image {disk.image} (id {disk.image_id}): its file {disk.source} on this node",
            "there is none",
            "Mount the front-end's datastores here under the same path, or have it sent: nebula_transfer: ssh. If the "
            "file is lost, import the image again",
        )
    return path


def is_drive(path: str) -> bool:
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except OSError:
        return False


class Shared(Transfer):
    """Finds the datastores on this node under the front-end's own paths: it is the front-end, or mounts them."""

    def __init__(self, root: str, plan: Plan) -> None:
        super().__init__(root, plan)
        # Many machines are of one image, and each asks several times.
        self._resolve = functools.lru_cache(maxsize=None)(real_path)

    def find(self, disk: Disk) -> str:
        return path_of_shared(disk, self._resolve)


class Ssh(Transfer):
    """Takes what the front-end sends once, checked, and gives back what machines wrote: storage/node_image_files.py."""

    def __init__(self, root: str, plan: Plan) -> None:
        super().__init__(root, plan)
        self._images = {image.path: image for image in plan.images}
        self._by_place = {node_image_files.path_of(root, image): image for image in plan.images}
        self._faults: Mapping[str, NebulaError] = {}

    def take_in(self) -> bool:
        arrived = node_image_files.check_and_keep(self.root, self.plan)
        self._faults = arrived.faults
        return bool(arrived.new)

    def localized(self, planned: PlannedVm) -> PlannedVm:
        vm = planned.vm
        os_ = replace(vm.os, kernel=self._local_path(vm.os.kernel), initrd=self._local_path(vm.os.initrd))
        disks = tuple(replace(disk, source=self._local_path(disk.source)) for disk in vm.disks)
        tasks = tuple(replace(task, target=self._local_path(task.target)) for task in planned.tasks)
        return replace(planned, vm=replace(vm, os=os_, disks=disks), tasks=tasks)

    def _local_path(self, path: str) -> str:
        image = self._images.get(path)
        return path if image is None else node_image_files.path_of(self.root, image)

    def find(self, disk: Disk) -> str:
        self._check(disk.source)
        if not os.path.isfile(disk.source):
            raise NotFound(
                f"image {disk.image} (id {disk.image_id}) on this node",
                f"there is no {disk.source}",
                "Run again: it is sent again. If it can't be: what a machine wrote to it since is lost",
            )
        return disk.source

    def require(self, vm: Vm) -> None:
        for path in (vm.os.kernel, vm.os.initrd):
            self._check(path)

    def _check(self, path: str) -> None:
        image = self._by_place.get(path)
        if image is not None and image.local in self._faults:
            raise self._faults[image.local]

    def used(self, vm: Vm) -> tuple[str, ...]:
        paths = [vm.os.kernel, vm.os.initrd, *(disk.source for disk in vm.disks)]
        found = {self._by_place[path].local for path in paths if path in self._by_place}
        return tuple(sorted(found))

    def give_up(self, directory: str, vm: Vm | None, disks: Collection[int] | None = None) -> bool:
        return node_image_files.return_files(self.root, directory, set() if vm is None else set(self.used(vm)), disks)

    def is_fetched(self, path: str) -> bool:
        image = self._by_place.get(path)
        return image is not None and image.kind == SAVED

    def saved(self, path: str) -> None:
        image = self._by_place.get(path)
        if image is not None and image.kind == SAVED:
            node_image_files.hand_over_saved(self.root, image)

    def prune(self, used: Callable[[], set[str]]) -> None:
        node_image_files.prune(self.root, self.plan, used)


METHODS: dict[str, type[Transfer]] = {SHARED: Shared, SSH: Ssh}


def of_plan(root: str, plan: Plan) -> Transfer:
    try:
        return METHODS[plan.transfer](root, plan)
    except KeyError:
        raise Unsupported(
            f"transfer method {plan.transfer!r}", "there is none of that name", f"Known are {', '.join(METHODS)}"
        ) from None
