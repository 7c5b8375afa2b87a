# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Debian with an SSH server as somebody installs it by hand and then lives with it: each fault once that keeps an
image from being fit for a cloud."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from pathlib import Path

from .cache import cached
from .debian import MASKED, SMALLER, SYSTEMD
from .sources import codename, mmdebstrap

PACKAGES = [*SYSTEMD, "openssh-server"]
MIB = 1 << 20
# Of the partitions of the faulty one.
ROOT_UUID, SWAP_UUID = "6d3a4f0e-93f5-4c57-9f0b-0f3c4d0e5a11", "0b8f35c4-8a55-4a4e-9b69-3b0a2a7f2b77"
ROOT_MIB, SWAP_MIB = 720, 8
MAC = "52:54:00:12:34:56"
HASH = "$6$salt$PLANTEDHASHPLANTEDHASH"
FILES = {
    "etc/fstab": "# /etc/fstab\n/dev/vda1 / ext4 errors=remount-ro 0 1\n"
    "UUID=dead0000-0000-4000-8000-00000000dead /data ext4 defaults 0 2\n"
    "/dev/sr0 /media/cdrom0 udf,iso9660 user,noauto 0 0\n",
    "etc/udev/rules.d/70-persistent-net.rules": f'SUBSYSTEM=="net", ATTR{{address}}=="{MAC}", NAME="eth0"\n',
    "etc/network/interfaces": "auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet dhcp\n"
    f"    hwaddress ether {MAC}\n",
    "etc/ssh/sshd_config.d/site.conf": "PubkeyAuthentication no\n",
    "etc/machine-id": uuid.UUID(int=7).hex + "\n",
    "etc/nftables.conf": "table inet filter {\n  chain input {\n    type filter hook input priority 0; policy drop;\n"
    "    ct state established accept\n  }\n}\n",
    "boot/extlinux/extlinux.conf": "default linux\nlabel linux\n  kernel /vmlinuz\n  append root=/dev/vda1 ro quiet\n",
    "var/lib/systemd/random-seed": "not random\n",
    "var/lib/dhcp/dhclient.eth0.leases": "lease { }\n",
    "var/lib/nebula-context/user.sum": "0\n",
    "var/log/syslog": "a line of a former life\n",
    "var/log/auth.log.1": "an older one\n",
    "var/log/journal/00000000000000000000000000000007/system.journal": "entries\n",
    "root/.ssh/authorized_keys": "ssh-ed25519 AAAA maker@desk\n",
    "root/.bash_history": "passwd\n",
    "tmp/left over": "x",
    "tmp/.hidden": "x",
    "var/tmp/more/file": "x",
}


def image() -> Path:
    """A directory with faulty.qcow2 (a partition table, root before swap) and plain.qcow2 (as it was installed, on a
    whole disk)."""
    return cached("fitness", [PACKAGES, FILES, ROOT_UUID, SWAP_UUID, ROOT_MIB, SWAP_MIB, HASH, codename()], make)


def make(place: Path) -> None:
    root = place / "root"
    mmdebstrap(root, PACKAGES, [f'chroot "$1" systemctl mask {" ".join(MASKED)}', SMALLER])
    plain = place / "plain.raw"
    (root / "etc/fstab").write_text(f"UUID={ROOT_UUID} / ext4 errors=remount-ro 0 1\n")
    file_system(plain, root)
    plant(root)
    part, swap, disk = place / "part.raw", place / "swap.raw", place / "faulty.raw"
    file_system(part, root)
    subprocess.run(["rm", "-rf", "--one-file-system", str(root)], check=True)
    with swap.open("wb") as file:
        file.truncate(SWAP_MIB * MIB)
    subprocess.run(["mkswap", "-q", "-U", SWAP_UUID, str(swap)], check=True)
    with disk.open("wb") as file:
        file.truncate((2 + ROOT_MIB + SWAP_MIB) * MIB)
    table = f"2048,{ROOT_MIB * 2048},83,*\n{2048 + ROOT_MIB * 2048},{SWAP_MIB * 2048},82\n"
    subprocess.run(["sfdisk", "-q", str(disk)], input=table, text=True, check=True)
    copy = ["dd", "conv=notrunc,sparse", "bs=1M", "status=none", f"of={disk}"]
    subprocess.run([*copy, f"if={part}", "seek=1"], check=True)
    subprocess.run([*copy, f"if={swap}", f"seek={1 + ROOT_MIB}"], check=True)
    # Only the first 440 bytes are code; what starts the active partition is in there.
    code = Path("/usr/lib/EXTLINUX/mbr.bin")
    code = code if code.exists() else Path("/usr/lib/syslinux/mbr/mbr.bin")
    with disk.open("r+b") as file:
        file.write(code.read_bytes()[:440])
        # Where extlinux has its boot sector: before the file system's superblock.
        file.seek(MIB)
        file.write(b"\xeb\x58\x90SYSLINUX".ljust(510, b"\0") + b"\x55\xaa")
    for raw in (plain, disk):
        argv = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(raw.with_suffix(".qcow2"))]
        subprocess.run(argv, check=True)
    for raw in (plain, part, swap, disk):
        raw.unlink()


def file_system(raw: Path, root: Path) -> None:
    argv = ["mkfs.ext4", "-q", "-L", "root", "-U", ROOT_UUID, "-d", str(root), str(raw), f"{ROOT_MIB}M"]
    subprocess.run(argv, check=True, capture_output=True)


def plant(root: Path) -> None:
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    shadow = root / "etc/shadow"
    lines = [line if not line.startswith("root:") else f"root:{HASH}:19000:0:99999:7:::" for line in
             shadow.read_text().splitlines()]  # fmt: skip
    shadow.write_text("\n".join([*lines, "guest::19000:0:99999:7:::"]) + "\n")
    (root / "etc/localtime").unlink(missing_ok=True)
    (root / "etc/localtime").symlink_to("/usr/share/zoneinfo/Asia/Tokyo")
    wants = root / "etc/systemd/system/multi-user.target.wants"
    (wants / "ssh.service").unlink()
    (root / "etc/systemd/system/ssh.service").unlink(missing_ok=True)
    (root / "etc/systemd/system/ssh.service").symlink_to("/dev/null")
    (wants / "nftables.service").symlink_to("/lib/systemd/system/nftables.service")
    shutil.rmtree(root / "var/lib/dbus", ignore_errors=True)
    (root / "var/lib/dbus").mkdir(parents=True)
    (root / "var/lib/dbus/machine-id").write_text(uuid.UUID(int=7).hex + "\n")
