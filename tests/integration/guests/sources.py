# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roots of Debian, from the archives that this machine itself uses, and disks of them."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path


def codename() -> str:
    lines = Path("/etc/os-release").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)["VERSION_CODENAME"]


def archives() -> str:
    template = "deb $(REPO_URI) $(RELEASE) $(COMPONENT)"
    told = subprocess.run(
        ["apt-get", "indextargets", "--format", template, "Created-By: Packages", "Origin: Debian"],
        check=True,
        capture_output=True,
        text=True,
    )
    return "\n".join(sorted(set(told.stdout.splitlines()))) + "\n"


def mmdebstrap(root: Path, packages: Sequence[str], hooks: Sequence[str]) -> None:
    # In a mount namespace of its own: where it is killed, its mounts go with it.
    run = ["unshare", "--mount", "mmdebstrap", "--mode=root", "--variant=minbase"]
    run += ["--aptopt=APT::Install-Recommends false"]
    run += [f"--include={','.join(packages)}", *[f"--customize-hook={hook}" for hook in hooks]]
    subprocess.run([*run, codename(), str(root), "-"], input=archives(), check=True, text=True, capture_output=True)


def file_system(root: Path, size: str) -> Path:
    """An ext4 of what is in root, which is removed."""
    raw = root.with_name("base.raw")
    subprocess.run(["mkfs.ext4", "-q", "-L", "root", "-d", str(root), str(raw), size], check=True, capture_output=True)
    subprocess.run(["rm", "-rf", "--one-file-system", str(root)], check=True)
    return raw


def to_qcow2(raw: Path) -> None:
    subprocess.run(
        ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(raw.with_suffix(".qcow2"))], check=True
    )
    raw.unlink()
