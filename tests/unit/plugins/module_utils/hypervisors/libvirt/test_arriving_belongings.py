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
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Os, Tpm, Vm

SITE = Site("", "c", 1, {})
NO_SECRET = 66


class Host:
    """secrets: that it has. firmware, secure: what its firmware is said to be."""

    def __init__(self) -> None:
        self.secrets: set[str] = set()
        self.firmware, self.secure = ["bios", "efi"], ["no", "yes"]
        self.tpm = {"model": ["tpm-tis", "tpm-crb"], "backendModel": ["emulator"], "backendVersion": ["1.2", "2.0"]}
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
            f"<loader><enum name='secure'>{secure}</enum></loader></os>"
            f"<devices><tpm supported='yes'>{self._enums(self.tpm)}</tpm></devices></domainCapabilities>"
        )

    @staticmethod
    def _enums(all_: dict[str, list[str]]) -> str:
        values = {name: "".join(f"<value>{each}</value>" for each in some) for name, some in all_.items()}
        return "".join(f"<enum name='{name}'>{text}</enum>" for name, text in values.items())


def ask(host: Host, os: Os, *disks: Disk, tpm: Tpm | None = None) -> None:
    library = libvirt(lambda _uri: host)
    vm = Vm(1, "u", "web", "kvm", 1.0, 64, os=os, disks=disks, tpm=tpm)
    require(library, host, vm, SITE, "/usr/bin/qemu", "it")


@pytest.mark.parametrize(
    ("lacks", "found"),
    [
        ({}, ""),
        ({"backendVersion": None}, ""),
        ({"backendModel": ["passthrough"]}, "this host has nothing that emulates one"),
        ({"model": ["tpm-tis"]}, "a TPM of model tpm-crb, which this host's QEMU does not have"),
        ({"backendVersion": ["1.2"]}, "a TPM of version 2.0, which this host's swtpm does not have"),
    ],
)
def test_what_emulates_its_tpm_has_to_be_here(lacks: dict[str, list[str] | None], found: str) -> None:
    host = Host()
    host.tpm = {name: each for name, each in {**host.tpm, **lacks}.items() if each is not None}
    ask(host, Os())
    if not found:
        return ask(host, Os(), tpm=Tpm())
    with pytest.raises(Unsupported, match=found) as caught:
        ask(host, Os(), tpm=Tpm())
    assert "swtpm" in caught.value.remedy
    return None


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
