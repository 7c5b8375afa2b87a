# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks of images, and empty ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.device_matching import FILE_SYSTEMS
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.disk_vectors import disk_of
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageType
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.storage import disk_creation
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse


@pytest.mark.parametrize(
    ("disk", "size", "driver", "clone", "save"),
    [
        ("IMAGE = debian", 2048, "qcow2", True, False),
        ("IMAGE = debian, SIZE = 2048", 2048, "qcow2", True, False),
        ("IMAGE = debian, SIZE = 4096, DRIVER = raw", 4096, "raw", True, False),
        ("IMAGE = debian, CLONE = NO", 2048, "qcow2", True, False),
        ("IMAGE = data", 10240, "raw", False, True),
        ("IMAGE = data, DRIVER = qcow2, SIZE = 20480", 20480, "raw", False, True),
        ("IMAGE = iso, SIZE = 1", 700, "raw", False, False),
        ("TYPE = fs, SIZE = 9, FORMAT = qcow2", 9, "qcow2", True, False),
        ("TYPE = swap, SIZE = 9", 9, "raw", True, False),
    ],
)
def test_disks_follow_their_images(
    machine: Callable[..., Vm], disk: str, size: int, driver: str, clone: bool, save: bool
) -> None:
    made = machine(f"MEMORY = 1 DISK = [ IMAGE = second ] DISK = [ {disk} ]").disks[1]
    assert (made.size, made.driver, made.clone, made.save) == (size, driver, clone, save)


def test_a_drivers_own_word_is_kept_for_the_hypervisor(machine: Callable[..., Vm]) -> None:
    disk = machine('MEMORY = 1 DISK = [ IMAGE = second, DRIVER = "tap:aio:" ]', hypervisor="xen").disks[0]
    assert disk.options == {"DRIVER": "tap:aio:"}
    assert machine("MEMORY = 1 DISK = [ IMAGE = second ]", hypervisor="xen").os.machine == ""


def test_the_file_systems_are_those_that_can_be_made() -> None:
    assert set(FILE_SYSTEMS) == set(disk_creation.FILE_SYSTEMS)


@pytest.mark.parametrize(
    ("disk", "refused"),
    [
        ("IMAGE = debian", True),
        ("IMAGE = debian, DRIVER = raw", False),
        ("IMAGE = blank", True),
        ("IMAGE = iso", False),
        ("TYPE = fs, SIZE = 1, FORMAT = qcow2", True),
        ("TYPE = fs, SIZE = 1", False),
    ],
)
def test_machines_share_what_is_raw(machine: Callable[..., Vm], disk: str, refused: bool) -> None:
    text = f"MEMORY = 1 DISK = [ IMAGE = second ] DISK = [ {disk}, SHAREABLE = YES ]"
    if refused:
        with pytest.raises(InvalidValue, match="DISK 1: SHAREABLE = YES: it is of format qcow2"):
            machine(text)
    else:
        assert machine(text).disks[1].options["SHAREABLE"] == "YES"
    assert machine(text, hypervisor="xen").disks[1].options["SHAREABLE"] == "YES"


SECRETS = ("7b3a5d1c-0f3e-4a52-9a43-1f6a4a0c1d11", "3f9a1c52-8e07-4d6b-b1a4-000000000019")


def encrypted(text: str, secret: str = SECRETS[0], made: bool = False, version: int = 1) -> str:
    image = Image(1, "sealed", type=ImageType.OS, size=1, format="qcow2", source="/sealed", luks_secret=secret)
    return disk_of(
        0, parse(f"DISK = [ {text} ]").vector("DISK"), image, "kvm", "VM web: DISK 0", made, version
    ).luks_secret


def test_the_secret_of_an_encrypted_disk() -> None:
    assert encrypted("IMAGE = sealed") == SECRETS[0]
    assert encrypted(f"IMAGE = sealed, LUKS_SECRET = {SECRETS[1].upper()}") == SECRETS[1]
    with pytest.raises(InvalidValue, match=r"LUKS_SECRET.*it is no UUID"):
        encrypted("IMAGE = sealed, LUKS_SECRET = open")
    with pytest.raises(InvalidValue, match="image sealed is not encrypted"):
        encrypted(f"IMAGE = sealed, LUKS_SECRET = {SECRETS[1]}", secret="")


def test_what_a_disk_that_is_there_says_since_it_did_nothing_is_no_error() -> None:
    assert encrypted("IMAGE = sealed, LUKS_SECRET = open", made=True) == SECRETS[0]
    assert encrypted(f"IMAGE = sealed, LUKS_SECRET = {SECRETS[1]}", secret="", made=True) == ""


def test_a_machine_of_an_earlier_release_has_the_secret_of_its_image() -> None:
    for text in ("open", SECRETS[1]):
        assert encrypted(f"IMAGE = sealed, LUKS_SECRET = {text}", version=0) == SECRETS[0]
