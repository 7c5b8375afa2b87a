# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container can be: a root file system and disks mounted in it; what acts on it, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.lxc.lxc_declaration import LXC
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.build import KeptDevices, build
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.validate import validate
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageType
from ansible_collections.nebula.provision.plugins.module_utils.model.template_changes import changes
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

ROOT = Image(1, "debian", format="tar", size=300)
DISK = Image(2, "disk", format="qcow2", size=300)
DATA = Image(3, "data", type=ImageType.DATABLOCK, format="raw", size=300, attributes={"TRUSTED": "YES"})
KEPT = replace(DATA, persistent=True)
QCOW2 = replace(DATA, format="qcow2", persistent=True)
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
        (PLAIN + " DISK = [ IMAGE = data ]", [ROOT, DISK], "DISK 1: image disk: it is of type OS"),
        (PLAIN + " DISK = [ IMAGE = data ]", [ROOT, replace(DATA, attributes={})], "not marked as trusted"),
        (PLAIN + " DISK = [ IMAGE = data ]", [ROOT, replace(DATA, generation=1)], "or was written to since"),
        (PLAIN + " DISK = [ IMAGE = data ]", [ROOT, replace(DATA, luks_secret="s")], "it is encrypted"),
        (PLAIN + " DISK = [ IMAGE = data ]", [ROOT, QCOW2], "it is persistent and of format qcow2"),
        (PLAIN + " DISK = [ IMAGE = data, SIZE = 400 ]", [ROOT, KEPT], "it is persistent and has 300 MB"),
        (PLAIN + " DISK = [ IMAGE = data, DRIVER = qcow2 ]", [ROOT, DATA], "by a loop device of its host"),
        ("MEMORY = 64 DISK = [ IMAGE = debian, SIZE = 900 ]", [ROOT], "nothing limits its size"),
        ("MEMORY = 64 DISK = [ IMAGE = debian, TARGET = /srv ]", [ROOT], "is a root file system, which is at /"),
    ],
)
def test_what_is_no_container_is_refused_by_name(text: str, images: list[Image | None], found: str) -> None:
    with pytest.raises(InvalidValue, match=found):
        made(text, *images)


def test_a_copy_may_be_larger_than_its_image() -> None:
    assert made(PLAIN + " DISK = [ IMAGE = data, SIZE = 400 ]", ROOT, DATA).disks[1].size == 400


def test_disks_beside_the_root_are_mounted_where_the_template_says_or_by_their_ids() -> None:
    empty = "DISK = [ TYPE = fs, SIZE = 10, FS = ext4 ] DISK = [ TYPE = fs, SIZE = 10, FORMAT = xfs, TARGET = /srv ]"
    data = "DISK = [ IMAGE = data, TARGET = vdb, READONLY = yes ] DISK = [ IMAGE = kept, TARGET = /srv/Data ]"
    copied = replace(DATA, format="qcow2")
    kept = replace(DATA, id=4, name="kept", persistent=True)
    vm = build(
        parse(f"{PLAIN} {empty} {data}"),
        vm_id=1, uuid="u", name="web", hypervisor="lxc", images={0: ROOT, 3: copied, 4: kept}, nics=[],
    )  # fmt: skip
    found = [(each.target, each.bus, each.type, each.driver, each.fs, each.readonly, each.clone) for each in vm.disks]
    assert found[1:] == [
        ("/media/one-disk.1", "", "FS", "raw", "ext4", False, True),
        ("/srv", "", "FS", "raw", "xfs", False, True),
        ("/media/one-disk.3", "", "FILE", "raw", "", True, True),
        ("/srv/Data", "", "FILE", "raw", "", False, False),
    ]


def test_a_disk_that_is_there_keeps_its_path_and_one_that_comes_has_its_own() -> None:
    # Number 2 is the context's, whether there is one or not.
    empty = "DISK = [ TYPE = fs, SIZE = 10, FS = ext4 ]"
    before = build(
        parse(f"{PLAIN} {empty}"), vm_id=1, uuid="u", name="web", hypervisor="lxc", images={0: ROOT}, nics=[]
    )
    kept = KeptDevices(disks=(before.disks[0], before.disks[1], None), next_disk=before.next_disk)
    vm = build(
        parse(f"{PLAIN} {empty} {empty}"),
        vm_id=1, uuid="u", name="web", hypervisor="lxc", images={0: ROOT}, nics=[], kept=kept,
    )  # fmt: skip
    assert [disk.target for disk in vm.disks[1:]] == ["/media/one-disk.1", "/media/one-disk.3"]


@pytest.mark.parametrize("path", ["/srv/data", "/SRV"])
def test_another_path_is_a_change_for_which_it_has_to_be_off(path: str) -> None:
    texts = [f"{PLAIN} DISK = [ TYPE = fs, SIZE = 10, FS = ext4, TARGET = {each} ]" for each in ("/srv", path)]
    (change,) = changes(*map(parse, texts), LXC.live)
    assert (change.attribute, change.how) == ("DISK", "poweroff")


def test_disks_and_nics_that_only_come_and_go_do_so_while_it_runs() -> None:
    more = f"{PLAIN} DISK = [ TYPE = fs, SIZE = 10, FS = ext4 ] NIC = [ NETWORK = net ]"
    found = changes(parse(PLAIN), parse(more), LXC.live)
    assert {change.attribute: change.how for change in found} == {"DISK": "hotplug", "NIC": "hotplug"}


@pytest.mark.parametrize(
    ("disk", "found"),
    [
        ("TYPE = swap, SIZE = 10", "a container swaps where its host does"),
        ("TYPE = fs, SIZE = 10", "FS: it is not set"),
        ("TYPE = fs, SIZE = 10, FS = vfat", "no such file system in a container"),
        ("TYPE = fs, SIZE = 10, FS = ext4, FORMAT = qcow2", "by a loop device of its host"),
        *[
            (f'TYPE = fs, SIZE = 10, FS = ext4, TARGET = "{path}"', "it is no plain path")
            for path in ("/", "/a/../b", "/a//b", "/a/", "/./a", "/a:b", "/a\nb")
        ],
        *[
            (f"TYPE = fs, SIZE = 10, FS = ext4, TARGET = {path}", "is something else in a container")
            for path in ("/context", "/context/x", "/proc", "/dev/shm", "/sys")
        ],
        *[
            (f"TYPE = fs, SIZE = 10, FS = ext4, TARGET = {path}", "would hide what the container is started from")
            for path in ("/bin", "/etc", "/lib64", "/sbin", "/usr", "/usr/lib", "/usr/sbin")
        ],
        ("TYPE = fs, SIZE = 10, FS = ext4, TARGET = srv", "A path in the container begins with a /"),
    ],
)
def test_an_empty_disk_that_can_not_be_is_refused_when_the_template_is_stored(disk: str, found: str) -> None:
    text = f"{PLAIN} DISK = [ {disk} ]"
    with pytest.raises(InvalidValue, match=found):
        validate(parse(text.replace("\\n", "\n")), where="VM web", hypervisors=["lxc"])


def test_two_disks_at_one_path_are_refused() -> None:
    disk = "DISK = [ TYPE = fs, SIZE = 10, FS = ext4, TARGET = /srv ]"
    with pytest.raises(InvalidValue, match="DISK 2: TARGET = /srv: VM web: DISK 1 has the same"):
        validate(parse(f"{PLAIN} {disk} {disk}"), where="VM web", hypervisors=["lxc"])


def test_paths_are_targets_of_containers_only() -> None:
    text = "MEMORY = 64 DISK = [ IMAGE = debian ] DISK = [ TYPE = fs, SIZE = 10, FS = ext4, TARGET = /srv ]"
    with pytest.raises(InvalidValue, match="it is no name of a disk device"):
        validate(parse(text), where="VM web", hypervisors=["kvm"])


@pytest.mark.parametrize("hypervisor", ["kvm", "xen", "xen_libvirt"])
def test_machines_with_disks_have_no_use_for_a_root_file_system(hypervisor: str) -> None:
    with pytest.raises(InvalidValue, match="image debian: it is the root file system of a container"):
        made(PLAIN, ROOT, hypervisor=hypervisor)


@pytest.mark.parametrize("name", ["TPM = [ MODEL = tpm-crb ]", 'INJECT = [ PATH = "/etc/x", CONTENT = "y" ]'])
def test_what_can_not_be_is_refused_when_the_template_is_stored(name: str) -> None:
    with pytest.raises(InvalidValue):
        validate(parse(f"{PLAIN} {name}"), where="VM web", hypervisors=["lxc"])


def test_beancounters_are_for_others() -> None:
    text = 'MEMORY = [ PHYSPAGES = "0:512M" ] DISK = [ IMAGE = debian ]'
    with pytest.raises(InvalidValue, match="MEMORY/PHYSPAGES: a vector of beancounters is for containers of OpenVZ"):
        validate(parse(text), where="VM web", hypervisors=["lxc"])


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ("<devices>", "RAW of type lxc: its DATA is not well-formed XML"),
        (
            "<idmap><uid start='0' target='0' count='9'/></idmap>",
            "RAW: DATA: <idmap>: each container has ids of the host",
        ),
        ("<uuid>5bd0b2a1-7d1c-4a6e-8a44-0a8f6f2f9d11</uuid>", "RAW: DATA: <uuid>: each container has the UUID of its"),
        ("<memtune/><name>other</name>", "RAW: DATA: <name>: each container has the name of its machine"),
        ("<metadata/>", "RAW: DATA: <metadata>: it says whose machine"),
    ],
)
def test_raw_says_nothing_by_which_a_container_is_known_and_kept_apart(data: str, found: str) -> None:
    with pytest.raises(InvalidValue, match=found):
        validate(parse(f'{PLAIN} RAW = [ TYPE = lxc, DATA = "{data}" ]'), where="VM web", hypervisors=["lxc"])


def test_who_asks_for_less_confinement_hears_that_there_is_none() -> None:
    warnings = validate(parse(f'{PLAIN} LXC_UNPRIVILEGED = "no"'), where="VM web", hypervisors=["lxc"])
    assert len(warnings) == 1 and "LXC_UNPRIVILEGED is kept" in warnings[0] and "confined" in warnings[0]


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


def test_swap_reaches_the_machine() -> None:
    assert made(f"{PLAIN} LXC_SWAP = 64", ROOT).container == {"LXC_SWAP": "64"}
    assert made(PLAIN, ROOT).container == {}


@pytest.mark.parametrize("text", ["much", "-1", "1.5"])
def test_a_swap_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="LXC_SWAP"):
        validate(parse(f'{PLAIN} LXC_SWAP = "{text}"'), where="VM web", hypervisors=["lxc"])
