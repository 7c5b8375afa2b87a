# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian guests out of Debian's packages: with systemd and either way to a network, and with sysvinit.

They boot by kernel and initrd, which all of them share, as does a root of busybox alone. No network tool of theirs
knows any interface, and no context program is in them: that is what roles are tried on. One is prepared as documents
of OpenNebula 2.2 say: its rc.local mounts /dev/sdc and sources what it finds there."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .cache import cached
from .sources import codename, file_system, mmdebstrap, to_qcow2

KERNEL = "linux-image-cloud-amd64"
COMMON = ["udev", "kmod", "iproute2", "ifupdown", "passwd", "e2fsprogs", "fdisk", "procps"]
SYSTEMD = ["systemd-sysv", "dbus", "openssh-server", "openssh-client", *COMMON, KERNEL]
# Without dependencies on systemd: initscripts mounts, udev has an init script of its own.
SYSVINIT = ["sysvinit-core", "sysv-rc", "initscripts", *COMMON]
SIZE = "700M"
# What a minimal guest does without while it boots.
MASKED = ["apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "e2scrub_reap.service"]
SMALLER = (
    'rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/* "$1"/usr/share/doc/* "$1"/usr/share/locale/*'
)
HOOKS = ['echo debian > "$1/etc/hostname"', 'echo "/dev/vda / ext4 defaults 0 1" > "$1/etc/fstab"', SMALLER]
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
RC_LOCAL = """#!/bin/sh -e

mount -t iso9660 /dev/sdc /mnt

if [ -f /mnt/context.sh ]; then
  . /mnt/init.sh
fi

umount /mnt

exit 0
"""
# Today's kernels name SCSI disks in the order in which they answer; when rc.local was written so, it was that of their
# numbers. With scsi_mod.scan=manual on the kernel's command line it is again.
IN_ORDER = """[Unit]
DefaultDependencies=no
After=systemd-udevd.service
Before=rc-local.service

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'for disk in a0 b1 c2; do \\
    for host in /sys/class/scsi_host/host*; do echo "0 $${disk#?} 0" > $$host/scan; done; \\
    until [ -e /sys/block/sd$${disk%%?} ]; do sleep 0.1; done; done; udevadm settle'
"""
ENABLED = "/etc/systemd/system/multi-user.target.wants/in-order.service"
VARIANTS["rc_local"] = (
    "write rc.local /etc/rc.local",
    "set_inode_field /etc/rc.local mode 0100755",
    "write in-order.service /etc/systemd/system/in-order.service",
    f"symlink {ENABLED} /etc/systemd/system/in-order.service",
)
BUSYBOX = {
    "etc/inittab": "::sysinit:/etc/init.d/rcS\nttyS0::respawn:/sbin/getty -L ttyS0 115200 vt100\n"
    "::ctrlaltdel:/sbin/reboot\n",
    "etc/init.d/rcS": "#!/bin/sh\nPATH=/bin:/sbin\nmount -a\nmount -o remount,rw /\nmkdir -p /dev/pts\n"
    'for name in /sys/bus/*/devices/*/modalias; do modprobe -q "$(cat "$name")"; done\nip link set lo up\n',
    "etc/fstab": "/dev/vda / ext4 defaults 0 1\nproc /proc proc defaults 0 0\nsys /sys sysfs defaults 0 0\n"
    "dev /dev devtmpfs defaults 0 0\nrun /run tmpfs defaults 0 0\n",
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": "root:x:0:\n",
    "etc/shadow": "root:*:19000:0:99999:7:::\n",
    "etc/hostname": "busybox\n",
    "etc/os-release": 'ID=busybox\nNAME="busybox"\n',
}
XEN_MENU = """menuentry 'Debian' {{
    linux /boot/{kernel} root=/dev/xvda rw console=hvc0 net.ifnames=0 mitigations=off
    initrd /boot/{initrd}
}}
"""
XEN_EDITS = ("mkdir /boot/grub", "write grub.cfg /boot/grub/grub.cfg", "rm /etc/fstab", "write fstab /etc/fstab")
APPEND = "root=/dev/vda rw console=ttyS0,115200 net.ifnames=0 mitigations=off"


@dataclass(frozen=True)
class Guests:
    """disks: by name, qcow2: ifupdown, networkd, rc_local, sysvinit, busybox. kernel, initrd: of all of them."""

    disks: dict[str, Path]
    kernel: Path
    initrd: Path
    append: str = APPEND


def images() -> Guests:
    inputs = [
        SYSTEMD,
        SYSVINIT,
        HOOKS_SYSTEMD,
        HOOKS_SYSVINIT,
        SIZE,
        VARIANTS,
        RC_LOCAL,
        IN_ORDER,
        BUSYBOX,
        APPEND,
        codename(),
    ]
    place = cached("debian", inputs, make)
    disks = {name: place / f"{name}.qcow2" for name in (*VARIANTS, "sysvinit", "busybox")}
    return Guests(disks, place / "vmlinuz", place / "initrd")


def make(place: Path) -> None:
    root = place / "root"
    mmdebstrap(root, SYSTEMD, HOOKS_SYSTEMD)
    (place / "vmlinuz").write_bytes(next((root / "boot").glob("vmlinuz-*")).read_bytes())
    (place / "initrd").write_bytes(next((root / "boot").glob("initrd.img-*")).read_bytes())
    modules = place / "modules"
    subprocess.run(["cp", "-a", str(root / "lib/modules"), str(modules)], check=True)
    base = file_system(root, SIZE)
    (place / "rc.local").write_text(RC_LOCAL)
    (place / "in-order.service").write_text(IN_ORDER)
    for name, commands in VARIANTS.items():
        raw = place / f"{name}.raw"
        subprocess.run(["cp", "--sparse=always", str(base), str(raw)], check=True)
        if commands:
            edit(raw, commands)
        to_qcow2(raw)
    base.unlink()
    mmdebstrap(root, SYSVINIT, HOOKS_SYSVINIT)
    subprocess.run(["cp", "-a", str(modules), str(root / "lib/modules")], check=True)
    file_system(root, SIZE).rename(place / "sysvinit.raw")
    to_qcow2(place / "sysvinit.raw")
    busybox(root)
    modules.rename(root / "lib/modules")
    file_system(root, SIZE).rename(place / "busybox.raw")
    to_qcow2(place / "busybox.raw")


def for_xen() -> Path:
    """The one with systemd-networkd as a disk of a PV machine (raw, a file system and no partitions), with a menu for a
    boot loader outside of the machine."""

    def make_it(place: Path) -> None:
        raw = place / "debian.raw"
        convert = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(images().disks["networkd"]), str(raw)]
        subprocess.run(convert, check=True)
        listed = ["debugfs", "-R", "ls -p /boot", str(raw)]
        names = subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split("/")
        kernel, initrd = (next(name for name in names if name.startswith(kind)) for kind in ("vmlinuz-", "initrd.img-"))
        (place / "grub.cfg").write_text(XEN_MENU.format(kernel=kernel, initrd=initrd))
        (place / "fstab").write_text("/dev/xvda / ext4 defaults 0 1\n")
        edit(raw, XEN_EDITS)

    return cached("debian_xen", [XEN_MENU, XEN_EDITS, str(images().kernel.parent)], make_it) / "debian.raw"


def busybox(root: Path) -> None:
    """A root of this one program; busybox's own init starts what its inittab says."""
    for directory in ("bin", "dev", "etc/init.d", "lib", "mnt", "proc", "root", "run", "sys", "tmp", "usr", "var"):
        (root / directory).mkdir(parents=True)
    (root / "sbin").symlink_to("bin")
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for applet in subprocess.run(["busybox", "--list"], check=True, capture_output=True, text=True).stdout.split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    for name, text in BUSYBOX.items():
        (root / name).write_text(text)
    (root / "etc/init.d/rcS").chmod(0o755)


def edit(raw: Path, commands: Sequence[str]) -> None:
    lines = "\n".join(commands)
    command = ["debugfs", "-w", "-f", "-", str(raw)]
    subprocess.run(command, input=lines, check=True, text=True, capture_output=True, cwd=raw.parent)
