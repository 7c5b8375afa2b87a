# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine's disks are made once, where they belong, and what a guest or somebody else has there stays as it is.

Only root can give a file away, so os.chown, the seam to the operating system, is replaced by one that does nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    Conflict,
    ImageRefused,
    InvalidValue,
    NotFound,
    Unsupported,
)
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk import file_injection as injection
from ansible_collections.nebula.provision.plugins.module_utils.model.container_user_ids import RANGES
from ansible_collections.nebula.provision.plugins.module_utils.model.context import ContextFile
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk, DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.model.injected_files import Injected
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.storage import disk_creation, machine_disks
from ansible_collections.nebula.provision.plugins.module_utils.storage.machine_disks import MIB
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.storage.conftest import needs_qemu_img

pytestmark = pytest.mark.usefixtures("no_owners")
CONTENT = b"image" * 1000


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A raw image of 2 MiB."""
    path = tmp_path / "image"
    path.write_bytes(CONTENT)
    os.truncate(path, 2 * MIB)
    return path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "7"
    path.mkdir()
    return path


def vm(*given: Disk) -> Vm:
    return Vm(vm_id=7, uuid="u", name="web", hypervisor="kvm", cpu=1, memory=64, disks=given)


def of_image(image: Path, **values) -> Disk:
    return Disk(**{"disk_id": 0, "target": "vda", "image_id": 3, "image": "demo", "source": str(image), **values})


def volatile(**values) -> Disk:
    return Disk(**{"disk_id": 2, "target": "vdc", "type": "FS", "driver": "raw", "size": 3, **values})


# -- where they are --------------------------------------------------------------------------------------------------


def test_where_the_disks_of_a_machine_are(image):
    machine = vm(
        of_image(image),
        of_image(image, disk_id=1, driver="raw"),
        volatile(disk_id=2),
        of_image(image, disk_id=3, clone=False),
        of_image(image, disk_id=4, luks_secret="secret", format="qcow2"),
        of_image(image, disk_id=5, type="CDROM", clone=False, readonly=True),
        of_image(image, disk_id=6, format="qcow2"),
    )
    assert machine_disks.locate(machine, "/x/7") == {
        0: DiskFiles("/x/7/disk.0", "qcow2", ((str(image), "raw"),)),
        1: DiskFiles("/x/7/disk.1", "raw"),
        2: DiskFiles("/x/7/disk.2", "raw"),
        3: DiskFiles(str(image), "raw"),
        4: DiskFiles("/x/7/disk.4", "qcow2"),
        5: DiskFiles(str(image), "raw"),
        6: DiskFiles("/x/7/disk.6", "qcow2", ((str(image), "qcow2"),)),
    }


def test_what_goes_with_a_machine_is_its_own(image, directory):
    """Files go as they are, and roots of containers otherwise; what is an image's own, or the host's, stays."""
    shared = Disk(
        4, "", type="FILESYSTEM", source=str(directory), format="directory", driver="directory", by_hypervisor=True
    )
    root = of_image(image, disk_id=1, format="tar", driver="tar")
    given = vm(of_image(image, clone=False), root, volatile(), shared)
    assert machine_disks.own_roots(given, str(directory)) == {1: DiskFiles(str(directory / "disk.1"), "directory")}
    assert machine_disks.own_disks(given, str(directory)) == {2: DiskFiles(str(directory / "disk.2"), "raw")}


def test_another_container_with_the_same_users_is_in_the_way(directory):
    machine_disks.require_users(vm(), str(directory))
    twin = directory.parent / str(7 + RANGES)
    twin.mkdir()
    for name in ("\u00b2", "9" * 200, "007"):
        (directory.parent / name / "disk.0").mkdir(parents=True)
    machine_disks.require_users(vm(), str(directory))
    (twin / "disk.0").mkdir()
    with pytest.raises(Conflict, match=f"machine {7 + RANGES} is on this host"):
        machine_disks.require_users(vm(), str(directory))
    # On a host without machines there is none.
    machine_disks.require_users(vm(), str(directory / "away" / "7"))


def test_the_image_of_a_disk_is_where_the_transfer_says(image):
    found = machine_disks.locate(vm(of_image(image), volatile()), "/x", lambda disk: f"/cache/{disk.image}")
    assert found[0].backing == (("/cache/demo", "raw"),)


def test_an_image_that_is_not_here_names_machine_and_disk(directory):
    with pytest.raises(NotFound, match=r"^machine web \(id 7\), disk 0: image demo \(id 3\): its file /nowhere"):
        machine_disks.prepare(vm(of_image(Path("/nowhere"))), str(directory))
    assert os.listdir(directory) == []


# -- made empty ------------------------------------------------------------------------------------------------------


def test_a_volatile_disk_is_empty_and_made_once(directory):
    machine = vm(volatile())
    assert machine_disks.prepare(machine, str(directory)) == {2: DiskFiles(str(directory / "disk.2"), "raw")}
    found = (directory / "disk.2").stat()
    assert (found.st_size, found.st_blocks, found.st_mode & 0o777) == (3 * MIB, 0, 0o660)
    (directory / "disk.2").write_bytes(b"the guest's")
    assert machine_disks.prepare(machine, str(directory)) == machine_disks.locate(machine, str(directory))
    assert (directory / "disk.2").read_bytes() == b"the guest's" and os.listdir(directory) == ["disk.2"]


def test_what_a_killed_run_left_is_made_anew(directory):
    (directory / ".disk.2.tmp").write_bytes(b"half")
    machine_disks.prepare(vm(volatile()), str(directory))
    assert os.listdir(directory) == ["disk.2"] and (directory / "disk.2").stat().st_size == 3 * MIB


def test_a_disk_that_could_not_be_made_is_not_there(directory):
    with pytest.raises(Unsupported, match=r"^machine web \(id 7\), disk 2: file system reiserfs"):
        machine_disks.prepare(vm(volatile(fs="reiserfs")), str(directory))
    assert os.listdir(directory) == []


@pytest.mark.skipif(shutil.which("mkswap", path="/usr/sbin:/sbin") is None, reason="mkswap is not on this host")
def test_a_disk_for_swap_has_its_signature(directory):
    machine_disks.prepare(vm(volatile(type="SWAP", fs="ext4")), str(directory))
    assert (directory / "disk.2").read_bytes()[4086:4096] == b"SWAPSPACE2"


# -- made of images --------------------------------------------------------------------------------------------------


def info(path: Path) -> dict[str, Any]:
    return json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", path]))


@needs_qemu_img
def test_an_overlay_is_as_large_as_asked_for_and_rests_on_its_image(image, directory):
    machine_disks.prepare(vm(of_image(image, size=5)), str(directory))
    facts = info(directory / "disk.0")
    assert (facts["virtual-size"], facts["backing-filename"]) == (5 * MIB, str(image))
    assert image.read_bytes().rstrip(b"\0") == CONTENT


@needs_qemu_img
@pytest.mark.parametrize(("size", "expected"), [(0, 2), (4, 4)])
def test_a_copy_of_its_own_is_as_its_image_or_larger(image, directory, size, expected):
    machine_disks.prepare(vm(of_image(image, driver="raw", size=size)), str(directory))
    found = (directory / "disk.0").read_bytes()
    assert found == CONTENT.ljust(expected * MIB, b"\0")


@needs_qemu_img
def test_an_encrypted_image_is_copied_as_it_is(image, directory):
    """Byte by byte: without its key it is no qcow2 to anybody here, and as large as it is."""
    image.write_bytes(CONTENT.ljust(5120, b"x"))
    machine_disks.prepare(vm(of_image(image, format="qcow2", luks_secret="secret", size=9)), str(directory))
    assert (directory / "disk.0").read_bytes() == image.read_bytes()


@needs_qemu_img
def test_a_disk_that_is_there_grows_with_all_that_it_holds(image, directory):
    """An overlay, an empty one of each format, and an image's own file; only what it is about."""
    persistent = image.with_name("kept")
    shutil.copyfile(image, persistent)
    small = (
        of_image(image, size=5),
        volatile(disk_id=1, driver="qcow2"),
        volatile(disk_id=2),
        of_image(persistent, disk_id=3, clone=False, save=True, format="raw", size=3),
        volatile(disk_id=4),
    )
    machine_disks.prepare(vm(*small), str(directory))
    before = (directory / "disk.0").stat().st_ino
    grown = vm(*(replace(disk, size=9) for disk in small))
    files = machine_disks.locate(grown, str(directory))
    about = (0, 1, 2, 3)
    assert machine_disks.would_grow(grown, files, about) and machine_disks.grow(grown, files, about)
    sizes = [disk_creation.virtual_size(files[number].path, files[number].format) // MIB for number in range(5)]
    assert sizes == [9, 9, 9, 9, 3]
    assert (directory / "disk.0").stat().st_ino == before
    assert info(directory / "disk.0")["backing-filename"] == str(image)
    assert persistent.read_bytes() == CONTENT.ljust(9 * MIB, b"\0")
    assert not machine_disks.would_grow(grown, files, about) and not machine_disks.grow(grown, files, about)


def test_a_cdrom_does_not_grow(image, directory):
    drive = vm(of_image(image, type="CDROM", clone=False, readonly=True, format="raw", size=9))
    machine_disks.prepare(drive, str(directory))
    assert not machine_disks.grow(drive, machine_disks.locate(drive, str(directory)), (0,))


@needs_qemu_img
def test_a_disk_that_was_tampered_with_does_not_grow(image, directory):
    machine_disks.prepare(vm(volatile(driver="qcow2")), str(directory))
    grown = vm(volatile(driver="qcow2", size=9))
    path = directory / "disk.2"
    path.unlink()
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(image), str(path), "3M"], check=True
    )
    with pytest.raises(ImageRefused, match=r"machine web \(id 7\), disk 2: .*by the catalog it rests on nothing"):
        machine_disks.grow(grown, machine_disks.locate(grown, str(directory)), (2,))


def test_a_disk_below_the_size_of_its_image_is_refused(image, directory):
    with pytest.raises(InvalidValue, match=r"machine web \(id 7\), disk 0: .*size 1 MiB: its image has 2 MiB"):
        machine_disks.prepare(vm(of_image(image, size=1)), str(directory))
    assert os.listdir(directory) == []


@pytest.mark.parametrize("act", ["link", "directory", "pipe"])
def test_what_else_has_the_name_of_a_disk_is_in_the_way(image, directory, act):
    path = directory / "disk.2"
    {"link": lambda: path.symlink_to(image), "directory": path.mkdir, "pipe": lambda: os.mkfifo(path)}[act]()
    with pytest.raises(Conflict) as caught:
        machine_disks.prepare(vm(volatile()), str(directory))
    assert caught.value.asked == f"machine web (id 7), disk 2: {path} as a disk of its own"
    assert caught.value.found == f"there is a {'other' if act == 'pipe' else act} already"
    assert "recreate: true" in caught.value.remedy


# -- the image itself ------------------------------------------------------------------------------------------------


def test_a_read_only_disk_is_a_link_to_its_image_and_nothing_is_written_to_that(image, directory):
    image.chmod(0o400)
    machine = vm(of_image(image, clone=False, readonly=True, save=True))
    assert machine_disks.prepare(machine, str(directory)) == {0: DiskFiles(str(image), "raw")}
    assert os.readlink(directory / "disk.0") == str(image) and image.stat().st_mode & 0o777 == 0o400
    inode = (directory / "disk.0").lstat().st_ino
    machine_disks.prepare(machine, str(directory))
    assert (directory / "disk.0").lstat().st_ino == inode


def test_a_persistent_image_is_opened_for_writing_and_grows(image, directory):
    image.chmod(0o400)
    machine_disks.prepare(vm(of_image(image, clone=False, save=True, size=5)), str(directory))
    found = image.stat()
    assert found.st_size == 5 * MIB and found.st_mode & 0o600 == 0o600
    assert os.listdir(directory) == ["disk.0"]


def test_an_encrypted_image_does_not_grow(image, directory):
    machine_disks.prepare(vm(of_image(image, clone=False, save=True, size=5, luks_secret="secret")), str(directory))
    assert image.stat().st_size == 2 * MIB


def test_an_image_that_holds_nothing_any_more_is_no_blank_disk(image, directory):
    image.write_bytes(b"")
    with pytest.raises(ImageRefused, match=rf"image demo: its file {image}: it is empty. Put a whole copy of it back"):
        machine_disks.prepare(vm(of_image(image, clone=False, save=True, size=5)), str(directory))
    assert image.stat().st_size == 0 and os.listdir(directory) == []


def test_a_link_to_another_image_is_put_right(image, directory):
    (directory / "disk.0").symlink_to("/elsewhere")
    machine_disks.prepare(vm(of_image(image, clone=False, readonly=True)), str(directory))
    assert os.readlink(directory / "disk.0") == str(image)


def test_a_link_does_not_take_the_place_of_a_disk(image, directory):
    (directory / "disk.0").write_bytes(b"the guest's")
    with pytest.raises(Conflict, match=r"disk\.0 as a link to image demo: there is a file already"):
        machine_disks.prepare(vm(of_image(image, clone=False)), str(directory))
    assert (directory / "disk.0").read_bytes() == b"the guest's"


# -- removed ---------------------------------------------------------------------------------------------------------


FILES = ("disk.0", ".disk.0.tmp", ".disk.3.tmp.raw", "disk.10", "deployment.0", "disk.x", "disk.0.bak")


def filled(directory: Path, image: Path) -> None:
    for name in FILES:
        (directory / name).write_bytes(b"x")
    (directory / "disk.1").symlink_to(image)


def test_only_disks_are_removed_and_no_image(image, directory):
    filled(directory, image)
    assert machine_disks.remove(str(directory)) is True
    assert sorted(os.listdir(directory)) == ["deployment.0", "disk.0.bak", "disk.x"] and image.exists()
    assert machine_disks.remove(str(directory)) is False


def test_only_the_disks_that_it_is_about_are_removed(image, directory):
    filled(directory, image)
    assert machine_disks.remove(str(directory), [1, 9]) is True
    assert sorted(os.listdir(directory)) == sorted(FILES)
    assert machine_disks.remove(str(directory), []) is False


def test_a_directory_that_is_gone_has_no_disks(tmp_path):
    assert machine_disks.remove(str(tmp_path / "gone")) is False


# -- files in disks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "executable", "expected"), [(-1, False, 0o644), (-1, True, 0o755), (0o600, True, 0o600), (0, False, 0)]
)
def test_the_mode_of_a_file_that_is_put_into_a_disk(mode, executable, expected):
    entry = machine_disks.entry_of(Injected("/etc/motd", mode=mode, uid=5, gid=6), b"hello", executable)
    assert entry == injection.Entry("/etc/motd", b"hello", expected, 5, 6)


@needs_qemu_img
@pytest.mark.parametrize("inject", [Injected("/x", file=ContextFile("/src", "x")), Injected("etc/motd", "hello")])
def test_a_disk_without_its_files_is_none(image, directory, inject):
    """What one of them is to hold is not here, or it can be no file of a guest."""
    with pytest.raises(InvalidValue, match=r"^machine web \(id 7\), disk 0: .*file '?(/x|etc/motd)"):
        machine_disks.prepare(vm(of_image(image, inject=(inject,))), str(directory))
    assert os.listdir(directory) == []


@needs_qemu_img
def test_files_of_an_empty_disk_come_after_its_file_system_and_before_its_name(directory, monkeypatch):
    """What is mounted was made here, so that it is trusted."""
    done = []

    def inject(path, driver, entries, what, via, trusted):
        assert os.listdir(directory) == [".disk.2.tmp"]
        done.append((driver, entries, what, via, trusted, Path(path).read_bytes()[1024 + 56 :][:2]))

    monkeypatch.setattr(injection, "inject", inject)
    entry = Injected("/seed", "x", partition="0")
    machine_disks.prepare(vm(volatile(fs="ext4", inject=(entry,), inject_via="loop")), str(directory))
    made = injection.Entry("/seed", b"x", partition="0")
    assert done == [("raw", [made], "files for an empty disk", "loop", True, b"\x53\xef")]
    assert os.listdir(directory) == ["disk.2"]


@needs_qemu_img
@pytest.mark.parametrize(
    ("driver", "fs", "takes"), [("raw", "", 1), ("qcow2", "", 1), ("raw", "ext4", 5), ("qcow2", "ext4", 9)]
)
def test_the_room_of_an_empty_disk_is_looked_for_before_it_is_made(directory, monkeypatch, driver, fs, takes):
    """In MiB, of a disk of 64: its file system is made in a raw file, which a qcow2 has beside it for a moment."""
    asked = []
    monkeypatch.setattr(machine_disks, "require_space", lambda _place, size, _what: asked.append(size))
    machine_disks.prepare(vm(replace(volatile(), size=64, driver=driver, fs=fs)), str(directory))
    assert asked == [takes * MIB]
