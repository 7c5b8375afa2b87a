# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk as it reaches a node: with the file that it comes from, and what is written into it."""

from __future__ import annotations

from dataclasses import replace

from carried import carried, unset

from ansible_collections.nebula.provision.plugins.module_utils.model.context import ContextFile
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk, DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.model.disk_snapshots import Snapshot
from ansible_collections.nebula.provision.plugins.module_utils.model.injected_files import Injected

DISK = Disk(
    disk_id=0,
    target="vda",
    type="CDROM",
    bus="virtio",
    image_id=0,
    image="debian",
    image_uuid="5bd0b2a1-7d1c-4a6e-8a44-0a8f6f2f9d01",
    generation=2,
    source="/srv/debian",
    format="qcow2",
    driver="raw",
    size=2048,
    clone=False,
    save=True,
    readonly=True,
    fs="ext4",
    boot_order=1,
    luks_secret="0a6f3c22-91c3-4d3f-8b58-0d1f0e2ac001",
    snapshots=(Snapshot(0, "first"), Snapshot(1, "second", parent=0, active=True, mark="ab")),
    inject=(Injected("/etc/hunter1", "hunter2"), Injected("/b", file=ContextFile("/srv/b", "b"), mode=0o600, uid=1)),
    inject_via="nbd",
    trusted=True,
    by_hypervisor=True,
    options={"CACHE": "none"},
)


def test_a_disk_is_carried_with_all_it_has() -> None:
    assert unset(DISK) == set()
    assert carried(DISK) == DISK


def test_a_volatile_disk_is_carried_without_an_image() -> None:
    volatile = Disk(1, "vdb", "SWAP", size=64)
    assert carried(volatile) == volatile
    assert (volatile.image_id, volatile.source) == (None, "")


def test_a_disk_that_says_nothing_is_an_overlay_that_ends_with_its_machine() -> None:
    disk = Disk(0, "vda")
    assert (disk.clone, disk.save, disk.readonly, disk.driver) == (True, False, False, "qcow2")


def test_what_is_written_into_a_disk_is_not_shown_with_it() -> None:
    assert "hunter" not in repr(DISK)
    assert "debian" in repr(DISK)


def test_the_files_of_a_disk_are_carried_in_the_order_of_their_chain() -> None:
    files = DiskFiles("/vm/disk.0", "qcow2", (("/base", "qcow2"), ("/older", "raw")), block=True)
    assert unset(files) == set()
    assert carried(files) == files


def test_what_nobody_says_of_cache_and_discard_is_the_default() -> None:
    disk = replace(DISK, options={})
    assert (disk.cache, disk.discard) == ("none", "unmap")
    disk = replace(DISK, options={"CACHE": "WriteBack", "DISCARD": ""})
    assert (disk.cache, disk.discard) == ("writeback", "")


def test_a_disk_of_which_nothing_is_said_is_not_mounted_by_the_hosts_kernel() -> None:
    assert Disk(0, "vda").trusted is False
