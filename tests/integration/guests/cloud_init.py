# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Debian that knows nothing of this project: its own packages, its own cloud-init, its datasource OpenNebula."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .cache import cached

# sudo: cloud-init's OpenNebula datasource sources context.sh as nobody, by `sudo -u nobody bash -e`.
PACKAGES = ["systemd-sysv", "udev", "kmod", "sudo", "iproute2", "cloud-init", "linux-image-cloud-amd64"]
CLOUD_CONFIG = "datasource_list: [OpenNebula]\n"
SIZE = "1200M"
# What a minimal guest does without while it boots.
MASKED = ["apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "e2scrub_reap.service"]
HOOKS = [
    'chroot "$1" systemctl enable systemd-networkd',
    'chroot "$1" systemctl mask ' + " ".join(MASKED),
    'echo debian > "$1/etc/hostname"',
    'echo "/dev/vda / ext4 defaults 0 1" > "$1/etc/fstab"',
    'mkdir -p "$1/etc/cloud/cloud.cfg.d"',
    f"printf %s '{CLOUD_CONFIG}' > \"$1/etc/cloud/cloud.cfg.d/99-datasource.cfg\"",
    'rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/* "$1"/usr/share/doc/* "$1"/usr/share/locale/*',
]


@dataclass(frozen=True)
class CloudImage:
    disk: Path
    kernel: Path
    initrd: Path
    # net.ifnames=0 as in Debian's cloud images; no `quiet`, as there.
    append: str = "root=/dev/vda rw console=ttyS0,115200 net.ifnames=0 mitigations=off"


def image() -> CloudImage:
    place = cached("cloud-init", [PACKAGES, HOOKS, SIZE, codename()], make)
    return CloudImage(place / "disk.qcow2", place / "vmlinuz", place / "initrd")


def codename() -> str:
    lines = Path("/etc/os-release").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)["VERSION_CODENAME"]


def sources() -> str:
    """The Debian archives that this machine itself uses."""
    template = "deb $(REPO_URI) $(RELEASE) $(COMPONENT)"
    told = subprocess.run(
        ["apt-get", "indextargets", "--format", template, "Created-By: Packages", "Origin: Debian"],
        check=True,
        capture_output=True,
        text=True,
    )
    return "\n".join(sorted(set(told.stdout.splitlines()))) + "\n"


def make(place: Path) -> None:
    root = place / "root"
    run = ["mmdebstrap", "--mode=root", "--variant=minbase", "--aptopt=APT::Install-Recommends false"]
    run += [f"--include={','.join(PACKAGES)}", *[f"--customize-hook={hook}" for hook in HOOKS]]
    subprocess.run([*run, codename(), str(root), "-"], input=sources(), check=True, text=True, capture_output=True)
    (place / "vmlinuz").write_bytes(next((root / "boot").glob("vmlinuz-*")).read_bytes())
    (place / "initrd").write_bytes(next((root / "boot").glob("initrd.img-*")).read_bytes())
    raw = place / "disk.raw"
    subprocess.run(["mkfs.ext4", "-q", "-L", "root", "-d", str(root), str(raw), SIZE], check=True, capture_output=True)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(place / "disk.qcow2")], check=True)
    raw.unlink()
    subprocess.run(["rm", "-rf", "--one-file-system", str(root)], check=True)
    os.sync()
