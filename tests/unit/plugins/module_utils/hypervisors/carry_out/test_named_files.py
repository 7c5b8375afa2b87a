# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of the host that a machine names: which it may not have, and which have to be there."""

from __future__ import annotations

from pathlib import Path

import pytest
from memory_node import machine

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, NotFound
from ansible_collections.nebula.provision.plugins.module_utils.host.restricted_directories import Rules
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import named_files
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Os


@pytest.mark.parametrize("name", ["kernel", "initrd"])
def test_what_a_machine_boots_from_has_to_be_on_its_host(tmp_path: Path, name: str) -> None:
    file = tmp_path / "boot"
    with pytest.raises(NotFound, match=f"OS/{name.upper()} = {file}: there is no such file on its host. Correct the"):
        named_files.require(machine(os=Os(**{name: str(file)})), "/var/lib/nebula")
    file.write_bytes(b"")
    named_files.require(machine(os=Os(**{name: str(file)})), "/var/lib/nebula")


def test_images_and_words_are_no_files_of_the_host(tmp_path: Path) -> None:
    named_files.require(machine(os=Os(kernel=f"{tmp_path}/datastores/2/x", initrd="initrd")), str(tmp_path))
    named_files.require(machine(os=Os(firmware="/nowhere/OVMF.fd")), str(tmp_path))
    named_files.refuse(machine(os=Os(firmware="UEFI"), disks=(Disk(0, "vda", source="pool/x"),)), Rules())


@pytest.mark.parametrize("key", ["kernel", "initrd", "firmware"])
def test_a_restricted_file_is_not_booted(key: str) -> None:
    with pytest.raises(InvalidValue, match=f"OS/{key.upper()} = /etc/shadow"):
        named_files.refuse(machine(os=Os(**{key: "/etc/shadow"})), Rules())
    with pytest.raises(InvalidValue, match="DISK/SOURCE = /etc/shadow"):
        named_files.refuse(machine(disks=(Disk(0, "vda", source="/etc/shadow"),)), Rules())
