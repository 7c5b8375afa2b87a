# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories of a host among the disks of a template."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import DIRECTORY, SHARED_DIRECTORY, Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.shared_directories import variables_of
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.validate import (
    refusals_by_hypervisor,
    validate,
)
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

DEBIAN = 'MEMORY = 64 DISK = [ IMAGE = "debian" ] '


def shared(more: str = "") -> str:
    return f'DISK = [ TYPE = "filesystem", SOURCE = "/srv/data"{more} ] '


def test_a_directory_is_among_the_disks_and_takes_no_target(machine):
    vm = machine(
        DEBIAN + shared(', MOUNT_TAG = "data", READONLY = "YES"') + "DISK = [ TYPE = fs, SIZE = 8 ] " + shared()
    )
    assert [(disk.disk_id, disk.target, disk.type) for disk in vm.disks] == [
        (0, "vda", "FILE"),
        (1, "", SHARED_DIRECTORY),
        (2, "sda", "FS"),
        (3, "", SHARED_DIRECTORY),
    ]
    own = vm.disks[1]
    assert (own.source, own.readonly, own.by_hypervisor, own.format) == ("/srv/data", True, True, DIRECTORY)
    assert variables_of(vm.disks) == {
        "DISK1_MOUNT_TAG": "data",
        "DISK1_MOUNT_POINT": "/mnt/one-fs-1",
        "DISK3_MOUNT_TAG": "one-tag-3",
        "DISK3_MOUNT_POINT": "/mnt/one-fs-3",
    }
    assert variables_of([Disk(0, "vda")]) == {}


@pytest.mark.parametrize(
    ("more", "found"),
    [
        (', MOUNT_TAG = "a b"', "DISK 1: MOUNT_TAG = 'a b': no guest finds a directory by that"),
        (f', MOUNT_TAG = "{"x" * 37}"', "36 at most"),
        (', MOUNT_POINT = "data"', "DISK 1: MOUNT_POINT = 'data': it is no plain path of a directory"),
        (', MOUNT_POINT = "/srv/../etc"', "without . and .."),
        (", SIZE = 8", "DISK 1: SIZE = 8: it is a directory, and no disk. Leave SIZE out"),
        (', TARGET = "vdb"', "Leave TARGET out"),
        (", READONLY = perhaps", "READONLY = 'perhaps'"),
        (
            " ] DISK = [ TYPE = fs, SIZE = 8 ] " + shared(', MOUNT_TAG = "one-tag-1"')[:-2],
            "DISK 3: MOUNT_TAG = one-tag-1",
        ),
        (', MOUNT_TAG = "a" ] ' + shared(', MOUNT_TAG = "a"')[:-2], "DISK 2: MOUNT_TAG = a: DISK 1 has it"),
    ],
)
def test_what_no_machine_can_have(more, found):
    with pytest.raises(InvalidValue) as caught:
        validate(parse(DEBIAN + shared(more)), where="template web")
    assert str(caught.value).startswith("template web: ") and found in str(caught.value)


@pytest.mark.parametrize("source", ["", "srv", "/srv/", "/", "/a/./b", "/a\tb"])
def test_a_source_that_is_no_path(source):
    with pytest.raises(InvalidValue, match="DISK 1: SOURCE = "):
        validate(parse(DEBIAN + shared().replace("/srv/data", source)))


@pytest.mark.parametrize("hypervisor", ["xen", "lxc", "openvz"])
def test_only_machines_of_kvm_have_one(hypervisor):
    refused = refusals_by_hypervisor(parse(DEBIAN + shared()), "VM a", [hypervisor, "kvm"])
    assert [*refused] == [hypervisor]


def test_a_machine_starts_from_none(machine):
    with pytest.raises(InvalidValue):
        machine("MEMORY = 64 " + shared())
    with pytest.raises(InvalidValue, match="disk1, of what it boots from: it is a directory of the host"):
        machine(DEBIAN + shared() + 'OS = [ BOOT = "disk0,disk1" ]')
    with pytest.raises(InvalidValue, match="it is directory /srv/data of the host"):
        machine(DEBIAN + shared() + 'INJECT = [ PATH = "/a", CONTENT = "x", DISK = 1 ]')
