# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A root of Debian with the tools of LVM, for disks on which it lies on a volume."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .cache import cached
from .sources import codename, mmdebstrap

PACKAGES = ["lvm2", "fdisk", "e2fsprogs"]
HOOKS = [
    'rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/* "$1"/usr/share/doc "$1"/usr/share/man "$1"/usr/share/locale',
    'rm -rf "$1"/usr/share/i18n "$1"/usr/lib/x86_64-linux-gnu/gconv "$1"/usr/share/zoneinfo',
]


def archive() -> Path:
    """The root as a tar file, which is made once per machine."""
    return cached("growing", [PACKAGES, HOOKS, codename()], make) / "root.tar"


def make(place: Path) -> None:
    root = place / "root"
    mmdebstrap(root, PACKAGES, HOOKS)
    subprocess.run(["tar", "--numeric-owner", "-C", str(root), "-cf", str(place / "root.tar"), "."], check=True)
    subprocess.run(["rm", "-rf", "--one-file-system", str(root)], check=True)
