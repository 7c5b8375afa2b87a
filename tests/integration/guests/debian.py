# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian guests out of Debian's packages: with systemd and either way to a network, and with sysvinit.

They boot by kernel and initrd, which all of them share. No network tool of theirs knows any interface, no context program
is in them: that is what roles are tried on.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .cache import cached
from .sources import codename, mmdebstrap

KERNEL = "linux-image-cloud-amd64"
COMMON = ["udev", "kmod", "iproute2", "ifupdown", "passwd", "e2fsprogs", "fdisk", "procps"]
SYSTEMD = ["systemd-sysv", "dbus", *COMMON, KERNEL]
# Without dependencies on systemd: initscripts mounts, udev has an init script of its own.
SYSVINIT = ["sysvinit-core", "sysv-rc", "initscripts", *COMMON]
SIZE = "700M"
# What a minimal guest does without while it boots.
MASKED = ["apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "e2scrub_reap.service"]
SMALLER = 'rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/* "$1"/usr/share/doc/* "$1"/usr/share/locale/*'
HOOKS = [
    'echo debian > "$1/etc/hostname"',
    'echo "/dev/vda / ext4 defaults 0 1" > "$1/etc/fstab"',
    SMALLER,
]
HOOKS_SYSTEMD = ['chroot "$1" systemctl mask ' + " ".join(MASKED), *HOOKS]
# sysvinit has no getty on the serial console; the report of the context program is on /dev/console.
HOOKS_SYSVINIT = [
    'sed -i "s/^[1-6]:.*getty/#&/" "$1/etc/inittab"',
    'echo "S0:2345:respawn:/sbin/getty -L ttyS0 115200 vt100" >> "$1/etc/inittab"',
    *HOOKS,
]
NETWORKD = "/etc/systemd/system/multi-user.target.wants/systemd-networkd.service"
# By debugfs, so that one root makes several images.
VARIANTS: dict[str, Sequence[str]] = {
    "ifupdown": (),
    "networkd": (
        "mkdir /etc/systemd/system/multi-user.target.wants",
        f"symlink {NETWORKD} /lib/systemd/system/systemd-networkd.service",
        "rm /etc/systemd/system/multi-user.target.wants/networking.service",
    ),
}
APPEND = "root=/dev/vda rw console=ttyS0,115200 net.ifnames=0 mitigations=off"


@dataclass(frozen=True)
class Guests:
    """disks: by name, qcow2: ifupdown, networkd, sysvinit. kernel, initrd: of all of them."""

    disks: dict[str, Path]
    kernel: Path
    initrd: Path
    append: str = APPEND


def images() -> Guests:
    inputs = [SYSTEMD, SYSVINIT, HOOKS_SYSTEMD, HOOKS_SYSVINIT, SIZE, VARIANTS, APPEND, codename()]
    place = cached("debian", inputs, make)
    disks = {name: place / f"{name}.qcow2" for name in (*VARIANTS, "sysvinit")}
    return Guests(disks, place / "vmlinuz", place / "initrd")


def make(place: Path) -> None:
    root = place / "root"
    mmdebstrap(root, SYSTEMD, HOOKS_SYSTEMD)
    (place / "vmlinuz").write_bytes(next((root / "boot").glob("vmlinuz-*")).read_bytes())
    (place / "initrd").write_bytes(next((root / "boot").glob("initrd.img-*")).read_bytes())
    modules = place / "modules"
    subprocess.run(["cp", "-a", str(root / "lib/modules"), str(modules)], check=True)
    base = file_system(root)
    for name, commands in VARIANTS.items():
        raw = place / f"{name}.raw"
        subprocess.run(["cp", "--sparse=always", str(base), str(raw)], check=True)
        if commands:
            edit(raw, commands)
        to_qcow2(raw)
    base.unlink()
    mmdebstrap(root, SYSVINIT, HOOKS_SYSVINIT)
    subprocess.run(["cp", "-a", str(modules), str(root / "lib/modules")], check=True)
    subprocess.run(["rm", "-rf", str(modules)], check=True)
    file_system(root).rename(place / "sysvinit.raw")
    to_qcow2(place / "sysvinit.raw")


def file_system(root: Path) -> Path:
    """An ext4 of what is in root, which is removed."""
    raw = root.with_name("base.raw")
    subprocess.run(["mkfs.ext4", "-q", "-L", "root", "-d", str(root), str(raw), SIZE], check=True, capture_output=True)
    subprocess.run(["rm", "-rf", "--one-file-system", str(root)], check=True)
    return raw


def edit(raw: Path, commands: Sequence[str]) -> None:
    subprocess.run(["debugfs", "-w", "-f", "-", str(raw)], input="\n".join(commands), check=True, text=True, capture_output=True)


def to_qcow2(raw: Path) -> None:
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(raw.with_suffix(".qcow2"))], check=True)
    raw.unlink()
