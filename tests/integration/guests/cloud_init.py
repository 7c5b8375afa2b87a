# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Debian that knows nothing of this project: its own packages and its own cloud-init, as they come."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from .cache import cached
from .sources import codename, file_system, mmdebstrap, to_qcow2

# sudo: cloud-init's OpenNebula datasource sources context.sh as nobody, by `sudo -u nobody bash -e`.
PACKAGES = [
    "systemd-sysv",
    "udev",
    "kmod",
    "sudo",
    "iproute2",
    "cloud-init",
    "qemu-guest-agent",
    "linux-image-cloud-amd64",
]
SIZE = "1200M"
# What a minimal guest does without while it boots.
MASKED = ["apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "e2scrub_reap.service"]
HOOKS = [
    'chroot "$1" systemctl enable systemd-networkd',
    'chroot "$1" systemctl mask ' + " ".join(MASKED),
    'echo debian > "$1/etc/hostname"',
    'echo "/dev/vda / ext4 defaults 0 1" > "$1/etc/fstab"',
    'rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/* "$1"/usr/share/doc/* "$1"/usr/share/locale/*',
]
# Of the root, beside what boots: cloud-init itself, and what it imports.
PYTHON = "usr/lib/python3/dist-packages"


@dataclass(frozen=True)
class CloudImage:
    """python: where Debian's interpreter finds the image's cloud-init."""

    disk: Path
    python: Path
    kernel: Path
    initrd: Path
    # net.ifnames=0 as in Debian's cloud images; no `quiet`, as there.
    append: str = "root=/dev/vda rw console=ttyS0,115200 net.ifnames=0 mitigations=off"


def image() -> CloudImage:
    place = cached("cloud-init", [PACKAGES, HOOKS, SIZE, PYTHON, codename()], make)
    return CloudImage(place / "disk.qcow2", place / "python", place / "vmlinuz", place / "initrd")


def make(place: Path) -> None:
    root = place / "root"
    mmdebstrap(root, PACKAGES, HOOKS)
    (place / "vmlinuz").write_bytes(next((root / "boot").glob("vmlinuz-*")).read_bytes())
    (place / "initrd").write_bytes(next((root / "boot").glob("initrd.img-*")).read_bytes())
    shutil.copytree(root / PYTHON, place / "python")
    file_system(root, SIZE).rename(place / "disk.raw")
    to_qcow2(place / "disk.raw")
    os.sync()
