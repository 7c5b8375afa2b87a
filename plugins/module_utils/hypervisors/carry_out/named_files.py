# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the files of this host that a machine's template names by their paths, in place of images: whether the
machine may have them, and whether they are there."""

from __future__ import annotations

import os

from ...errors import NebulaError, NotFound
from ...host.restricted_directories import Rules, is_below
from ...model.disk import SHARED_DIRECTORY, Disk
from ...model.vm import Vm
from ...storage import given_directories


def refuse(vm: Vm, rules: Rules) -> None:
    """Raise InvalidValue for a file that the machine's guest may not read. A running machine has it already."""
    firmware = [("OS/FIRMWARE", vm.os.firmware)]
    for name, path in (*_boots_from(vm), *firmware, *_disks(vm)):
        # FIRMWARE may be a word.
        if path.startswith("/"):
            rules.refuse_medium(f"virtual machine {vm.name}: {name} = {path}", path)
    refuse_directories(vm, rules)


def refuse_directories(vm: Vm, rules: Rules) -> None:
    """Raise InvalidValue for a directory that no guest may have. A running machine would get it when its host starts it
    anew."""
    for disk in _directories(vm):
        rules.refuse_directory(f"virtual machine {vm.name}: DISK/SOURCE = {disk.source}", disk.source)


def require(vm: Vm, root: str) -> None:
    """Raise NotFound for a kernel, an initrd or a directory that is not on this host, and InvalidValue for a directory
    that others could come to. Files below root are images, which arrive in another way."""
    for disk in _directories(vm):
        try:
            given_directories.check(disk.source, disk.readonly)
        except NebulaError as error:
            error.asked = f"virtual machine {vm.name}: DISK {disk.disk_id}: {error.asked}"
            raise
    for name, path in _boots_from(vm):
        if path.startswith("/") and not is_below(path, [root]) and not os.path.exists(path):
            raise NotFound(
                f"virtual machine {vm.name}: {name} = {path}",
                "there is no such file on its host",
                "Correct the path, bring the file to the host, or name an image of type KERNEL or RAMDISK by "
                '"$FILE[IMAGE=…]"',
            )


def _boots_from(vm: Vm) -> tuple[tuple[str, str], ...]:
    return ("OS/KERNEL", vm.os.kernel), ("OS/INITRD", vm.os.initrd)


def _disks(vm: Vm) -> list[tuple[str, str]]:
    return [
        ("DISK/SOURCE", each.source) for each in vm.disks if each.image_id is None and each.type != SHARED_DIRECTORY
    ]


def _directories(vm: Vm) -> list[Disk]:
    return [disk for disk in vm.disks if disk.type == SHARED_DIRECTORY]
