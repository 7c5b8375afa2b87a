# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of INJECT find the disk that they go into."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm

INJECT = "INJECT = [ PATH = /etc/motd, CONTENT = hello{} ]"


def test_a_file_goes_into_the_disk_that_the_machine_boots_from(machine: Callable[..., Vm]) -> None:
    vm = machine("MEMORY = 1 DISK = [ TYPE = fs, SIZE = 1 ] DISK = [ IMAGE = debian ] " + INJECT.format(""))
    assert [[file.path for file in disk.inject] for disk in vm.disks] == [[], ["/etc/motd"]]


@pytest.mark.parametrize(
    ("disk", "more", "found"),
    [
        ("IMAGE = debian", ", DISK = 2", "there is no disk 2"),
        ("IMAGE = data", ", DISK = 1", "its image is persistent"),
        ("TYPE = swap, SIZE = 1", ", DISK = 1", "it is swap space"),
    ],
)
def test_a_disk_that_takes_no_file_is_named(machine: Callable[..., Vm], disk: str, more: str, found: str) -> None:
    with pytest.raises(InvalidValue, match=f"INJECT: PATH = /etc/motd: {found}"):
        machine(f"MEMORY = 1 DISK = [ IMAGE = debian ] DISK = [ {disk} ] " + INJECT.format(more))
