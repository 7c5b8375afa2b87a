# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo image, its kernel and initrd by themselves, and its double that boots and looks at no context."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ansible_collections.nebula.provision.plugins.module_utils.storage import demo_guest, demo_image

from .cache import cached, directory

# As an installed system without any context package: it has a name of its own and asks for a login.
IGNORING_BOOT = r"""#!/bin/sh
PATH=/bin
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
while read -r module options; do insmod "/lib/modules/$module.ko" $options; done < /lib/modules/order
hostname plain
echo 'All services started.'
"""
# Somebody else's, which says nothing on its serial port but what it is told to: its address and its name are on the
# kernel's command line, and with a name it asks for a login there.
STRANGERS_BOOT = r"""#!/bin/sh
PATH=/bin
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
while read -r module options; do insmod "/lib/modules/$module.ko" $options; done < /lib/modules/order
ip link set lo up
for word in $(cat /proc/cmdline); do
    case $word in
        ip.strict=*) echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter ;;
        ip.address=*) ip link set eth0 up; ip address add "${word#*=}" dev eth0 ;;
        my.name=*) hostname "${word#*=}"; getty -L 115200 ttyS0 vt100 & ;;
    esac
done
"""
STRANGERS_INITTAB = "::sysinit:/etc/nebula/boot\n::respawn:/bin/sleep 1000000\n"
STRANGERS_COMMAND_LINE = "console=tty0 quiet loglevel=0 net.ifnames=0 mitigations=off no_timer_check"
IGNORING_INITTAB = "::sysinit:/etc/nebula/boot\nttyS0::respawn:/bin/getty -L 115200 ttyS0 vt100\n"


def image() -> Path:
    def make(place: Path) -> None:
        demo_image.build(place / "demo.qcow2", directory() / "packages")

    return cached("demo", demo_image.inputs("amd64"), make) / "demo.qcow2"


def parts() -> dict[str, Path]:
    """Its kernel and initrd, for a machine that is started from outside of its disk."""

    def make(place: Path) -> None:
        with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
            root = Path(scratch) / "root"
            demo_image.fetch("amd64", directory() / "packages", root)
            (place / "vmlinuz").write_bytes(max(root.glob("boot/vmlinuz-*")).read_bytes())
            (place / "initrd").write_bytes(demo_image.cpio(demo_image.guest_tree(root)))

    (directory() / "packages").mkdir(parents=True, exist_ok=True)
    place = cached("guest-parts", demo_image.inputs("amd64"), make)
    return {"kernel": place / "vmlinuz", "initrd": place / "initrd"}


def ignoring_image() -> Path:
    def make(place: Path) -> None:
        root = place / "root"
        packages = [demo_image.kernel_package("amd64"), demo_image.BUSYBOX_PACKAGE]
        demo_image.unpack(packages, directory() / "packages", root)
        tree = demo_image.guest_tree(root)
        tree["etc/nebula/boot"] = demo_image.file(IGNORING_BOOT.encode(), 0o755)
        tree["etc/inittab"] = demo_image.file(IGNORING_INITTAB.encode())
        kernel = max(root.glob("boot/vmlinuz-*"))
        dest = place / "ignoring.qcow2"
        demo_image.boot_disk(dest, kernel, demo_image.cpio(tree), demo_guest.KERNEL_COMMAND_LINE, place)

    (directory() / "packages").mkdir(parents=True, exist_ok=True)
    inputs = [IGNORING_BOOT, IGNORING_INITTAB, demo_image.inputs("amd64")]
    return cached("ignoring", inputs, make) / "ignoring.qcow2"


def stranger() -> dict[str, Path]:
    """Kernel and initrd of one who knows nothing of this project."""

    def make(place: Path) -> None:
        with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
            root = Path(scratch) / "root"
            demo_image.fetch("amd64", directory() / "packages", root)
            tree = demo_image.guest_tree(root)
            tree["etc/nebula/boot"] = demo_image.file(STRANGERS_BOOT.encode(), 0o755)
            tree["etc/inittab"] = demo_image.file(STRANGERS_INITTAB.encode())
            (place / "vmlinuz").write_bytes(max(root.glob("boot/vmlinuz-*")).read_bytes())
            (place / "initrd").write_bytes(demo_image.cpio(tree))

    (directory() / "packages").mkdir(parents=True, exist_ok=True)
    place = cached("stranger", [STRANGERS_BOOT, STRANGERS_INITTAB, demo_image.inputs("amd64")], make)
    return {"kernel": place / "vmlinuz", "initrd": place / "initrd"}


def sharing_parts() -> dict[str, Path]:
    """The kernel, and an initrd of the demo guest that mounts directories of its host, too (virtiofs)."""
    modules = (*demo_guest.KERNEL_MODULES, ("virtiofs", ""))

    def make(place: Path) -> None:
        with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
            root = Path(scratch) / "root"
            demo_image.fetch("amd64", directory() / "packages", root)
            (place / "initrd").write_bytes(demo_image.cpio(demo_image.guest_tree(root, modules)))

    place = cached("guest-sharing", {**demo_image.inputs("amd64"), "modules": modules}, make)
    return {**parts(), "initrd": place / "initrd"}
