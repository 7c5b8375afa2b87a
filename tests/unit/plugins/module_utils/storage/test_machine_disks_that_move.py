# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks of machines that come from another host, and what they rest on here."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import ImageRefused, NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import TAR, Disk, DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.storage import machine_disks
from ansible_collections.nebula.provision.plugins.module_utils.storage.machine_disks import MIB
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.storage.conftest import needs_qemu_img

pytestmark = pytest.mark.usefixtures("no_owners")


def base(path: Path, format: str = "raw", size: int = 2 * MIB) -> Path:
    subprocess.run(["qemu-img", "create", "-q", "-f", format, str(path), str(size)], check=True)
    return path


def overlay(path: Path, below: Path, format: str = "raw", data: bytes = b"") -> Path:
    make = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(below), "-F", format, str(path)]
    subprocess.run(make, check=True)
    if data:
        write = ["qemu-io", "-f", "qcow2", "-c", f"write -P {data[0]} 0 64k", str(path)]
        subprocess.run(write, check=True, capture_output=True)
    return path


def info(path: Path) -> dict[str, Any]:
    look = ["qemu-img", "info", "--output=json", "-U", str(path)]
    found: dict[str, Any] = json.loads(subprocess.run(look, check=True, capture_output=True).stdout)
    return found


# -- which move -------------------------------------------------------------------------------------------------------
def test_which_disks_are_a_machines_own(tmp_path: Path) -> None:
    disks = (
        Disk(0, "vda", image="a", source="/i/a", format="qcow2", size=1),
        Disk(1, "vdb", image="b", source="/i/b", format="raw", driver="raw", size=1),
        Disk(2, "vdc", type="FS", size=1, driver="raw"),
        # The image's own file, and a medium.
        Disk(3, "vdd", image="c", source="/i/c", format="qcow2", clone=False),
        Disk(4, "hdb", type="CDROM", image="d", source="/i/d", format="raw", clone=False),
        Disk(5, "root", image="e", source="/i/e", format=TAR),
    )
    vm = Vm(7, "u", "web", "kvm", 1.0, 64, disks=disks)
    found = machine_disks.own_disks(vm, str(tmp_path), lambda disk: disk.source)
    assert {number: file.path for number, file in found.items()} == {
        number: str(tmp_path / f"disk.{number}") for number in (0, 1, 2)
    }
    assert found[0].backing == (("/i/a", "qcow2"),)


# -- made for what comes ----------------------------------------------------------------------------------------------
@needs_qemu_img
@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_an_empty_disk_is_as_large_as_the_one_that_comes(tmp_path: Path, format: str) -> None:
    path = tmp_path / "disk.0"
    machine_disks.make_empty(DiskFiles(str(path), format), 5 * MIB + 512)
    assert (info(path)["format"], info(path)["virtual-size"]) == (format, 5 * MIB + 512)
    assert path.stat().st_blocks * 512 < MIB
    assert os.listdir(tmp_path) == ["disk.0"]


@needs_qemu_img
def test_it_rests_on_what_its_machine_rests_on_here(tmp_path: Path) -> None:
    below = base(tmp_path / "base")
    path = tmp_path / "disk.0"
    # Of a run that was killed.
    (tmp_path / ".disk.0.tmp").write_text("x", encoding="ascii")
    machine_disks.make_empty(DiskFiles(str(path), "qcow2", ((str(below), "raw"),)), 6 * MIB)
    found = info(path)
    assert (found["backing-filename"], found["backing-filename-format"]) == (str(below), "raw")
    assert found["virtual-size"] == 6 * MIB
    assert {*os.listdir(tmp_path)} == {"base", "disk.0"}


# -- taken in ---------------------------------------------------------------------------------------------------------
def test_what_the_hypervisor_makes_is_no_file_or_directory_of_ours(tmp_path: Path) -> None:
    made = (
        Disk(0, "", source=str(tmp_path / "image"), format="tar", driver="tar", by_hypervisor=True),
        Disk(1, "", type="SWAP", size=1, format="raw", driver="raw", by_hypervisor=True),
    )
    (tmp_path / "image").touch()
    vm = Vm(1, "u", "web", "openvz", 1.0, 64, disks=made)
    assert machine_disks.own_disks(vm, str(tmp_path)) == machine_disks.own_roots(vm, str(tmp_path)) == {}


@needs_qemu_img
def test_a_disk_that_came_rests_on_the_image_of_this_host(tmp_path: Path) -> None:
    there, here = base(tmp_path / "there"), base(tmp_path / "here")
    path = overlay(tmp_path / "disk.0", there, data=b"A")
    there.unlink()
    machine_disks.take_in(DiskFiles(str(path), "qcow2", ((str(here), "raw"),)), "disk 0")
    assert info(path)["backing-filename"] == str(here)
    read = ["qemu-io", "-f", "qcow2", "-c", "read -P 65 0 64k", "-c", "read -P 0 64k 64k", str(path)]
    assert b"failed" not in subprocess.run(read, check=True, capture_output=True).stdout


@needs_qemu_img
def test_one_that_rests_on_the_right_one_is_not_touched(tmp_path: Path) -> None:
    here = base(tmp_path / "here")
    path = overlay(tmp_path / "disk.0", here)
    before = path.read_bytes()
    machine_disks.take_in(DiskFiles(str(path), "qcow2", ((str(here), "raw"),)), "disk 0")
    assert path.read_bytes() == before


@needs_qemu_img
def test_nothing_below_is_opened_that_its_old_host_names(tmp_path: Path) -> None:
    """What is called so here may be anything."""
    secret = base(tmp_path / "secret", "qcow2")
    path = overlay(tmp_path / "disk.0", secret, "qcow2")
    secret.unlink()
    os.mkfifo(secret)
    here = base(tmp_path / "here")
    machine_disks.take_in(DiskFiles(str(path), "qcow2", ((str(here), "raw"),)), "disk 0")
    found = info(path)
    assert (found["backing-filename"], found["backing-filename-format"]) == (str(here), "raw")


@needs_qemu_img
def test_one_that_rests_on_something_it_should_not_is_refused(tmp_path: Path) -> None:
    path = overlay(tmp_path / "disk.0", base(tmp_path / "there"))
    with pytest.raises(ImageRefused, match="rests on an image"):
        machine_disks.take_in(DiskFiles(str(path), "qcow2"), "disk 0")
    alone = base(tmp_path / "disk.1", "qcow2")
    with pytest.raises(ImageRefused, match="rests on an image"):
        machine_disks.take_in(DiskFiles(str(alone), "qcow2", ((str(tmp_path / "there"), "raw"),)), "disk 1")


@needs_qemu_img
def test_one_whose_data_is_elsewhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "disk.0"
    make = ["qemu-img", "create", "-q", "-f", "qcow2", "-o", f"data_file={tmp_path / 'data'}", str(path), "1M"]
    subprocess.run(make, check=True)
    with pytest.raises(ImageRefused):
        machine_disks.take_in(DiskFiles(str(path), "qcow2"), "disk 0")


@pytest.mark.parametrize("content", [b"", b"QFI\xfb", b"raw" * 1000])
def test_what_is_no_qcow2_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "disk.0"
    path.write_bytes(content)
    with pytest.raises(NebulaError):
        machine_disks.take_in(DiskFiles(str(path), "qcow2"), "disk 0")


def test_a_raw_disk_is_what_it_is(tmp_path: Path) -> None:
    """Whatever its guest wrote, a header too."""
    path = tmp_path / "disk.0"
    path.write_bytes(b"QFI\xfb" * 1000)
    machine_disks.take_in(DiskFiles(str(path), "raw"), "disk 0")
    assert path.read_bytes() == b"QFI\xfb" * 1000
    assert path.stat().st_mode & 0o777 == 0o660
