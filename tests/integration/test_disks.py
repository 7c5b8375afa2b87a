# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine's own disks, made with the real qemu-img."""

from __future__ import annotations

import grp
import json
import os
import subprocess

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    Conflict,
    ImageRefused,
    InvalidValue,
    NotFound,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk, DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.storage import (
    datastore_layout,
    disk_creation,
    machine_disks,
)

MIB = 1024 * 1024


@pytest.fixture
def image(tmp_path):
    """A raw image of 8 MiB in a datastore, as an import leaves it."""
    root = tmp_path / "nebula"
    datastore_layout.prepare_directories(str(root), 0, 1)
    path = root / "datastores" / "1" / "0123"
    path.write_bytes(b"image" * 1000)
    os.truncate(path, 8 * MIB)
    datastore_layout.protect(str(path), writable=False)
    return path


@pytest.fixture
def directory(image):
    path = image.parents[1] / "0" / "7"
    path.mkdir(mode=0o711)
    return path


def vm(*given: Disk) -> Vm:
    return Vm(vm_id=7, uuid="u", name="web", hypervisor="kvm", cpu=1, memory=64, disks=given)


def of_image(image, **values) -> Disk:
    return Disk(**{"disk_id": 0, "target": "vda", "image_id": 3, "image": "demo", "source": str(image), **values})


def info(path) -> dict:
    command = ["qemu-img", "info", "--output=json", "-f", "qcow2", path]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_an_overlay(image, directory):
    machine = vm(of_image(image, size=16))
    expected = {0: DiskFiles(str(directory / "disk.0"), "qcow2", ((str(image), "raw"),))}
    assert machine_disks.prepare(machine, str(directory)) == expected
    facts = info(directory / "disk.0")
    assert (facts["virtual-size"], facts["backing-filename"], facts["backing-filename-format"]) == (
        16 * MIB,
        str(image),
        "raw",
    )
    found = (directory / "disk.0").stat()
    assert (found.st_mode & 0o777, grp.getgrgid(found.st_gid).gr_name) == (0o660, "kvm")


def test_what_a_guest_wrote_stays(image, directory):
    machine = vm(of_image(image, size=16))
    machine_disks.prepare(machine, str(directory))
    (directory / "disk.0").write_bytes(b"the guest's")
    assert machine_disks.prepare(machine, str(directory))[0].path == str(directory / "disk.0")
    assert (directory / "disk.0").read_bytes() == b"the guest's"


def test_what_a_killed_run_left_is_made_anew(image, directory):
    (directory / ".disk.0.tmp").write_bytes(b"half")
    machine_disks.prepare(vm(of_image(image)), str(directory))
    assert os.listdir(directory) == ["disk.0"]
    assert info(directory / "disk.0")["virtual-size"] == 8 * MIB


def test_a_size_below_the_image(image, directory):
    with pytest.raises(InvalidValue, match=r"machine web \(id 7\), disk 0: .*its image has 8 MiB"):
        machine_disks.prepare(vm(of_image(image, size=4)), str(directory))
    assert os.listdir(directory) == []


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_a_copy_of_its_own(image, directory, format):
    source = image
    if format == "qcow2":
        source = image.parent / "4567"
        disk_creation.copy(str(image), "raw", str(source), "qcow2")
    files = machine_disks.prepare(vm(of_image(source, format=format, driver="raw", size=16)), str(directory))
    assert files == {0: DiskFiles(str(directory / "disk.0"), "raw")}
    found = directory / "disk.0"
    assert found.read_bytes() == image.read_bytes() + bytes(8 * MIB)
    assert found.stat().st_blocks * 512 < MIB


def test_a_persistent_image_that_is_lost_is_no_blank_disk(image, directory):
    image.chmod(0o600)
    image.write_bytes(b"")
    with pytest.raises(ImageRefused, match="it is empty"):
        machine_disks.prepare(vm(of_image(image, clone=False, save=True, size=12)), str(directory))
    assert os.listdir(directory) == [] and image.stat().st_size == 0


def test_a_persistent_image_is_used_in_place(image, directory):
    datastore_layout.protect(str(image), writable=True)
    machine = vm(of_image(image, clone=False, save=True, size=12))
    expected = {0: DiskFiles(str(image), "raw")}
    assert machine_disks.prepare(machine, str(directory)) == expected
    assert os.readlink(directory / "disk.0") == str(image)
    assert image.stat().st_size == 12 * MIB
    assert image.stat().st_mode & 0o777 == 0o660
    assert machine_disks.prepare(machine, str(directory)) == expected


def test_a_cdrom_is_linked_and_stays_read_only(image, directory):
    machine = vm(of_image(image, type="CDROM", clone=False, readonly=True, target="hda"))
    assert machine_disks.prepare(machine, str(directory)) == {0: DiskFiles(str(image), "raw")}
    assert image.stat().st_mode & 0o777 == 0o440


def test_a_cdrom_that_links_to_a_drive(image, directory, tmp_path):
    """As an administrator of OpenNebula may have it: the image is a link to /dev/sr0, or to a link to it."""
    if os.geteuid() != 0:
        pytest.skip("a drive takes root")
    disc = tmp_path / "disc"
    disc.write_bytes(b"disc" * MIB)
    drive = subprocess.run(
        ["losetup", "--find", "--show", "--read-only", disc], check=True, capture_output=True, text=True
    ).stdout.strip()
    try:
        links = [image.with_name("cd"), image.with_name("sr0")]
        links[0].symlink_to(links[1])
        links[1].symlink_to(drive)
        cdrom = of_image(links[0], type="CDROM", clone=False, readonly=True)
        assert machine_disks.prepare(vm(cdrom), str(directory)) == {0: DiskFiles(drive, "raw", block=True)}
        assert machine_disks.locate(vm(cdrom), str(directory)) == {0: DiskFiles(drive, "raw", block=True)}
        # What machines write is in files.
        with pytest.raises(NotFound):
            machine_disks.prepare(vm(of_image(links[0], clone=False)), str(directory))
    finally:
        subprocess.run(["losetup", "--detach", drive], check=True)


def test_another_cdrom_replaces_the_link(image, directory):
    other = image.parent / "other"
    other.write_bytes(b"x" * 2048)
    for path in (image, other):
        machine_disks.prepare(vm(of_image(path, type="CDROM", clone=False, readonly=True)), str(directory))
    assert os.readlink(directory / "disk.0") == str(other)


def test_volatile_disks(directory):
    machine = vm(
        Disk(0, "vda", type="FS", fs="ext4", driver="raw", size=64),
        Disk(1, "vdb", type="FS", driver="qcow2", size=64),
        Disk(2, "vdc", type="SWAP", driver="raw", size=8),
    )
    files = machine_disks.prepare(machine, str(directory))
    assert [f.format for f in files.values()] == ["raw", "qcow2", "raw"]
    assert all(f.backing == () for f in files.values())
    types = [
        subprocess.run(["blkid", "-p", "-o", "value", "-s", "TYPE", files[i].path], capture_output=True, text=True)
        for i in (0, 2)
    ]
    assert [t.stdout.strip() for t in types] == ["ext4", "swap"]
    assert info(files[1].path)["virtual-size"] == 64 * MIB
    assert sorted(os.listdir(directory)) == ["disk.0", "disk.1", "disk.2"]


def test_an_image_that_is_not_on_this_node(image, directory):
    image.unlink()
    with pytest.raises(NotFound, match=r"image demo \(id 3\).*on this node"):
        machine_disks.prepare(vm(of_image(image)), str(directory))


def test_a_disk_that_was_made_for_another_image(image, directory):
    machine_disks.prepare(vm(of_image(image)), str(directory))
    with pytest.raises(Conflict, match="recreate"):
        machine_disks.prepare(vm(of_image(image, clone=False, save=True)), str(directory))


def test_removal_leaves_images_and_what_is_not_ours(image, directory):
    machine = vm(of_image(image), of_image(image, disk_id=1, clone=False, readonly=True, type="CDROM"))
    machine_disks.prepare(machine, str(directory))
    (directory / ".disk.2.tmp").touch()
    (directory / "disk.notes").touch()
    assert machine_disks.remove(str(directory)) is True
    assert machine_disks.remove(str(directory)) is False
    assert os.listdir(directory) == ["disk.notes"]
    assert image.exists()
    assert machine_disks.remove(str(directory / "nowhere")) is False


def test_the_base_stays_as_it_is(image, directory):
    before = (image.stat().st_mode, image.stat().st_uid, image.stat().st_gid, image.read_bytes())
    machine_disks.prepare(vm(of_image(image, size=16)), str(directory))
    assert (image.stat().st_mode, image.stat().st_uid, image.stat().st_gid, image.read_bytes()) == before
