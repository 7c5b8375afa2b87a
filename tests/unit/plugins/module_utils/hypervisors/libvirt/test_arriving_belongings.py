# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""With a stand-in for libvirt; test_move_belongings.py has the real one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from libvirt_stand_in import LibvirtError, libvirt

from ansible_collections.nebula.provision.plugins.module_utils.errors import NotFound, Unsupported
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Site
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.arriving_belongings import require
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Os, Vm

SITE = Site("", "c", 1, {})
NO_SECRET = 66


class Host:
    """secrets: that it has. firmware, secure: what its firmware is said to be."""

    def __init__(self) -> None:
        self.secrets: set[str] = set()
        self.firmware, self.secure = ["bios", "efi"], ["no", "yes"]
        self.fails: LibvirtError | None = None

    def secretLookupByUUIDString(self, uuid: str) -> str:
        if self.fails is not None:
            raise self.fails
        if uuid not in self.secrets:
            raise LibvirtError("Secret not found", NO_SECRET)
        return uuid

    def getDomainCapabilities(self, *_place: Any) -> str:
        firmware, secure = ("".join(f"<value>{each}</value>" for each in all_) for all_ in (self.firmware, self.secure))
        return (
            f"<domainCapabilities><os><enum name='firmware'>{firmware}</enum>"
            f"<loader><enum name='secure'>{secure}</enum></loader></os></domainCapabilities>"
        )


def ask(host: Host, os: Os, *disks: Disk) -> None:
    library = libvirt(lambda _uri: host)
    require(library, host, Vm(1, "u", "web", "kvm", 1.0, 64, os=os, disks=disks), SITE, "/usr/bin/qemu", "it")


def test_what_is_neither_encrypted_nor_of_uefi_needs_nothing() -> None:
    host = Host()
    host.firmware = []
    ask(host, Os(), Disk(0, "vda"))
    ask(host, Os(firmware="BIOS"))


def test_the_secret_of_an_encrypted_disk_has_to_be_here() -> None:
    host, disk = Host(), Disk(1, "vdb", luks_secret="s-1")
    with pytest.raises(NotFound) as refused:
        ask(host, Os(), Disk(0, "vda"), disk)
    assert refused.value.found == "its disk 1 is encrypted, and this host does not have its secret s-1"
    assert "nebula_luks_secrets" in refused.value.remedy
    host.secrets.add("s-1")
    ask(host, Os(), disk)


def test_what_libvirt_fails_at_is_no_lack_of_a_secret() -> None:
    host = Host()
    host.fails = LibvirtError("client socket is closed", 1)
    with pytest.raises(LibvirtError, match="client socket"):
        ask(host, Os(), Disk(0, "vda", luks_secret="s-1"))


@pytest.mark.parametrize("secure", [False, True])
def test_firmware_has_to_be_here(secure: bool) -> None:
    host, os = Host(), Os(firmware="UEFI", firmware_secure=secure)
    ask(host, os)
    host.firmware = ["bios"]
    with pytest.raises(
        Unsupported, match=r"starts by UEFI, and this host has no such firmware\. Install the package ovmf"
    ):
        ask(host, os)


def test_firmware_with_secure_boot_has_to_be_here() -> None:
    host = Host()
    host.secure = ["no"]
    ask(host, Os(firmware="UEFI"))
    with pytest.raises(Unsupported, match="with secure boot, and this host has no such firmware"):
        ask(host, Os(firmware="UEFI", firmware_secure=True))


def test_firmware_that_is_a_file_has_to_be_here(tmp_path: Path) -> None:
    path = tmp_path / "CODE.fd"
    with pytest.raises(NotFound, match="which this host does not have"):
        ask(Host(), Os(firmware=str(path)))
    path.touch()
    ask(Host(), Os(firmware=str(path)))
