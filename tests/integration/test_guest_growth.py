# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest program grows a root file system on LVM, LUKS and MD to its disk, by their own tools, in an appliance."""

from __future__ import annotations

import pytest

MIB = 1024 * 1024
DISK, PARTITION = 1600 * MIB, 800 * MIB
END = PARTITION // 512 - 1
PLAIN = [f"part-add /dev/sda p 2048 {END}"]
LVM = ["vgcreate vg {0}", "lvcreate-free root vg {1}", "mke2fs /dev/vg/root fstype:ext4", "mount /dev/vg/root /"]
# How the root is laid out on a disk of which the partitions take a half, and its device.
LAYOUTS = {
    "LVM": ([*PLAIN, "pvcreate /dev/sda1", *LVM], "/dev/vg/root"),
    "LVM in a logical partition": (
        [f"part-add /dev/sda e 2048 {END}", f"part-add /dev/sda l 4096 {END}", "pvcreate /dev/sda5", *LVM],
        "/dev/vg/root",
    ),
    "LUKS": (
        [
            *PLAIN,
            'cryptsetup-open "key" /dev/sda1 root',
            "mke2fs /dev/mapper/root fstype:ext4",
            "mount /dev/mapper/root /",
        ],
        "/dev/mapper/root",
    ),
    "MD": (
        [
            *PLAIN,
            'md-create md "/dev/sda1 /dev/sdb" level:raid1',
            "mke2fs /dev/md/md fstype:ext4",
            "mount /dev/md/md /",
        ],
        "/dev/md/md",
    ),
}

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]
