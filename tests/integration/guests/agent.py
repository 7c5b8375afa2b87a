# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small guest with Debian's guest agent, whose file system on /dev/vdb (ext4) is written to all the time.

Its console has a line for each write, `tick <number> <uptime>`: while the file system is frozen there is none."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from ansible_collections.nebula.provision.plugins.module_utils.storage import demo_guest, demo_image

from .cache import cached, directory

PACKAGES = ["qemu-guest-agent", "libglib2.0-0", "libnuma1", "libudev1", "liburing2", "libc6", "libpcre2-8-0"]
PACKAGES += ["e2fsprogs", "libext2fs2", "libcom-err2", "libblkid1", "libuuid1"]
PACKAGES += ["cloud-guest-utils", "fdisk", "libfdisk1", "libsmartcols1", "libreadline8", "libtinfo6", "util-linux"]
PROGRAM = "usr/sbin/qemu-ga"
# With what a file system and its partition are made larger.
TOOLS = ("sbin/resize2fs", "sbin/sfdisk", "usr/bin/partx", "usr/bin/flock")
SCRIPTS = ("usr/bin/growpart",)
MODULES = (("virtio_pci", ""), ("virtio_blk", ""), ("virtio_console", ""), ("ext4", ""), ("button", ""), ("evdev", ""))
BOOT = r"""#!/bin/sh
PATH=/bin
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /mnt
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
while read -r module options; do insmod "/lib/modules/$module.ko" $options; done < /lib/modules/order
[ -b /dev/vdb ] && mount -t ext4 /dev/vdb /mnt && echo mounted
[ -b /dev/vdc1 ] && mkdir /part && mount -t ext4 /dev/vdc1 /part && echo partition mounted
acpid -c /etc/acpi -l /run/acpid.log
for port in /sys/class/virtio-ports/*; do
    if [ "$(cat "$port/name")" = org.qemu.guest_agent.0 ]; then
        qemu-ga -d -m virtio-serial -p "/dev/${port##*/}" -t /run -f /run/qemu-ga.pid -l /run/qemu-ga.log && echo agent
    fi
done
number=0
while true; do
    number=$((number + 1))
    # By renaming: whoever copies the disk finds one number or the other, and never none.
    [ -d /mnt/lost+found ] && for name in first second; do
        echo $number > /mnt/new && mv /mnt/new /mnt/$name
    done && sync
    read -r up _ < /proc/uptime
    echo "tick $number $up"
    sleep 0.2
done > /dev/console 2>&1
"""
INITTAB = "::sysinit:/etc/nebula/boot\n"
TICK = re.compile(r"tick (\d+) ([\d.]+)")


def image() -> Path:
    return made("agent", PACKAGES, (PROGRAM, *TOOLS), BOOT)


def made(kind: str, packages: list[str], programs: tuple[str, ...], boot: str) -> Path:
    """The image of a guest that has these programs besides and boots so."""

    def make(place: Path) -> None:
        root, kernels = place / "root", place / "kernels"
        demo_image.unpack(packages, directory() / "packages", root)
        kernel_packages = [demo_image.kernel_package("amd64"), demo_image.BUSYBOX_PACKAGE]
        demo_image.unpack(kernel_packages, directory() / "packages", kernels)
        tree = demo_image.guest_tree(kernels, MODULES)
        tree["etc/nebula/boot"] = demo_image.file(boot.encode(), 0o755)
        tree["etc/inittab"] = demo_image.file(INITTAB.encode())
        tree["lib64"] = demo_image.link("lib")
        for program in (*programs, *SCRIPTS):
            name = program.rpartition("/")[2]
            tree[f"bin/{name}"] = demo_image.file((root / program).read_bytes(), 0o755)
        for program in programs:
            for name, path in libraries(root, root / program).items():
                tree[f"lib/{name}"] = demo_image.file(path.read_bytes(), 0o755)
        kernel = max(kernels.glob("boot/vmlinuz-*"))
        demo_image.boot_disk(
            place / f"{kind}.qcow2", kernel, demo_image.cpio(tree), demo_guest.KERNEL_COMMAND_LINE, place
        )

    (directory() / "packages").mkdir(parents=True, exist_ok=True)
    inputs = [packages, programs, SCRIPTS, MODULES, boot, INITTAB, demo_image.inputs("amd64")]
    return cached(kind, inputs, make) / f"{kind}.qcow2"


def libraries(root: Path, program: Path) -> dict[str, Path]:
    """What it is linked to, below root, by the names that the loader looks for."""
    found: dict[str, Path] = {"ld-linux-x86-64.so.2": _find(root, "ld-linux-x86-64.so.2")}
    open_ = [program]
    while open_:
        headers = subprocess.run(["readelf", "-d", str(open_.pop())], check=True, capture_output=True, text=True).stdout
        for name in re.findall(r"\(NEEDED\).*\[(.+)\]", headers):
            if name not in found:
                found[name] = _find(root, name)
                open_.append(found[name])
    return found


def _find(root: Path, name: str) -> Path:
    return next(path for path in root.rglob(name) if path.exists()).resolve()


def ticks(console: str) -> list[tuple[int, float]]:
    """Number and uptime of each whole line."""
    return [(int(number), float(uptime)) for number, uptime in TICK.findall(console.rpartition("\n")[0])]
