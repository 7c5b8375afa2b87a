# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container can be: one root file system and no disks; what acts on it, and what is warned of or refused."""

from __future__ import annotations

from typing import Optional

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.build import build
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.validate import validate
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageType
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.text.template import parse

ROOT = Image(1, "debian", format="tar", size=300)
DISK = Image(2, "disk", format="qcow2", size=300)
DATA = Image(3, "data", type=ImageType.DATABLOCK, format="raw", size=300)
PLAIN = "MEMORY = 64 DISK = [ IMAGE = debian ]"


def made(text: str, *images: Image, hypervisor: str = "lxc") -> Vm:
    return build(
        parse(text), vm_id=1, uuid="u", name="web", hypervisor=hypervisor, images=dict(enumerate(images)), nics=[]
    )


def test_a_machine_of_a_root_file_system_has_a_directory_of_its_own() -> None:
    vm = made(PLAIN, ROOT)
    (disk,) = vm.disks
    assert (disk.format, disk.driver, disk.size, disk.clone, disk.save) == ("tar", "tar", 300, True, False)


@pytest.mark.parametrize(
    ("text", "images", "found"),
    [
        (PLAIN, [DISK], "0 of them are root file systems"),
        (PLAIN + " DISK = [ IMAGE = debian ]", [ROOT, ROOT], "2 of them are root file systems"),
        (PLAIN + " DISK = [ IMAGE = data ]", [ROOT, DATA], "DISK 1: image data: it is a disk of format raw"),
        (PLAIN + " DISK = [ TYPE = fs, SIZE = 10, FS = ext4 ]", [ROOT], "a container has no disks beside its root"),
        ("MEMORY = 64 DISK = [ IMAGE = debian, SIZE = 900 ]", [ROOT], "nothing limits its size"),
    ],
)
def test_what_is_no_container_is_refused_by_name(text: str, images: list[Optional[Image]], found: str) -> None:
    with pytest.raises(InvalidValue, match=found):
        made(text, *images)


@pytest.mark.parametrize("hypervisor", ["kvm", "xen", "xen_libvirt"])
def test_machines_with_disks_have_no_use_for_a_root_file_system(hypervisor: str) -> None:
    with pytest.raises(InvalidValue, match="image debian: it is the root file system of a container"):
        made(PLAIN, ROOT, hypervisor=hypervisor)


@pytest.mark.parametrize("name", ["TPM = [ MODEL = tpm-crb ]", 'INJECT = [ PATH = "/etc/x", CONTENT = "y" ]'])
def test_what_can_not_be_is_refused_when_the_template_is_stored(name: str) -> None:
    with pytest.raises(InvalidValue):
        validate(parse(f"{PLAIN} {name}"), where="VM web", hypervisors=["lxc"])


@pytest.mark.parametrize(
    "text",
    [
        'GRAPHICS = [ TYPE = vnc ]', 'OS = [ MACHINE = q35 ]', 'CPU_MODEL = [ MODEL = host-passthrough ]', "VCPU = 2",
        'FEATURES = [ ACPI = yes ]',
    ],
)  # fmt: skip
def test_what_has_no_effect_is_warned_of(text: str) -> None:
    warnings = validate(parse(f"{PLAIN} {text}"), where="VM web", hypervisors=["lxc"])
    assert len([warning for warning in warnings if "nothing acts on it on this hypervisor" in warning]) == 1, warnings


@pytest.mark.parametrize("text", ["CPU = 0.5", "CPULIMIT = 50", "LXC_SWAP = 64", 'CONTEXT = [ NETWORK = "YES" ]'])
def test_what_acts_is_not(text: str) -> None:
    assert validate(parse(f"{PLAIN} {text}"), where="VM web", hypervisors=["lxc"]) == []


@pytest.mark.parametrize("text", ["much", "-1", "1.5"])
def test_a_swap_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="LXC_SWAP"):
        validate(parse(f'{PLAIN} LXC_SWAP = "{text}"'), where="VM web", hypervisors=["lxc"])
