# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the files of this host that a machine's template names by their paths, in place of images: whether the
machine may have them, and whether they are there."""

from __future__ import annotations

import os

from ...errors import NotFound
from ...host.restricted_directories import Rules, is_below
from ...model.vm import Vm


def refuse(vm: Vm, rules: Rules) -> None:
    """Raise InvalidValue for a file that the machine's guest may not read. A running machine has it already."""
    firmware = [("OS/FIRMWARE", vm.os.firmware)]
    for name, path in (*_boots_from(vm), *firmware, *_disks(vm)):
        # FIRMWARE may be a word.
        if path.startswith("/"):
            rules.refuse_medium(f"virtual machine {vm.name}: {name} = {path}", path)


def require(vm: Vm, root: str) -> None:
    """Raise NotFound for a kernel or an initrd that is not on this host. Files below root are images, which arrive in
    another way."""
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
    return [("DISK/SOURCE", disk.source) for disk in vm.disks if disk.image_id is None]
