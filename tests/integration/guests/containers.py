# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roots of Debian for containers, out of its own packages, with systemd as init: one is contextualised by the context
program of this project, the other by Debian's cloud-init as it comes."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .cache import cached
from .layouts import PROGRAM
from .sources import codename, mmdebstrap

COMMON = ["systemd-sysv", "iproute2"]
CLOUD = [*COMMON, "cloud-init", "sudo"]
# Kernel file systems are not a container's to mount; the timers are of no use in a test.
MASKED = [
    *("sys-kernel-debug.mount", "sys-kernel-tracing.mount", "apt-daily.timer", "apt-daily-upgrade.timer"),
    *("e2scrub_all.timer", "e2scrub_reap.service"),
]
HOOKS = [
    'echo debian > "$1/etc/hostname"',
    'chroot "$1" systemctl mask ' + " ".join(MASKED),
    'chroot "$1" systemctl enable systemd-networkd',
    'rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/* "$1"/usr/share/doc "$1"/usr/share/man "$1"/usr/share/i18n',
    'rm -rf "$1"/usr/share/locale "$1"/usr/share/zoneinfo "$1"/usr/lib/x86_64-linux-gnu/gconv',
]
INSTALLED = 'sh "{program}" --root "$1" install'
# What docs/lxc.md says: cloud-init looks at its seeds by these names, and at no directory besides.
SEEDS = [
    'mkdir -p "$1/var/lib/cloud/seed"',
    *(f'ln -s /context "$1/var/lib/cloud/seed/{name}"' for name in ("nocloud", "config_drive")),
    # There are none to be generated without Debian's package locales.
    'echo "locale: false" > "$1/etc/cloud/cloud.cfg.d/90_locale.cfg"',
]


@dataclass(frozen=True)
class Roots:
    """Archives of whole systems."""

    debian: Path
    cloud: Path


def images() -> Roots:
    program = hashlib.sha256(PROGRAM.read_bytes()).hexdigest()
    place = cached("containers", [COMMON, CLOUD, HOOKS, INSTALLED, program, SEEDS, codename()], make)
    return Roots(place / "debian.tar", place / "cloud.tar")


def make(place: Path) -> None:
    for name, packages, hooks in (
        ("debian", COMMON, [*HOOKS, INSTALLED.format(program=PROGRAM)]),
        ("cloud", CLOUD, [*HOOKS, *SEEDS]),
    ):
        root = place / "root"
        mmdebstrap(root, packages, hooks)
        archive = ["tar", "--numeric-owner", "-C", str(root), "-cf", str(place / f"{name}.tar"), "."]
        subprocess.run(archive, check=True)
        subprocess.run(["rm", "-rf", "--one-file-system", str(root)], check=True)
