# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roots as distributions lay them out, made of busybox and one shell, and entered in namespaces of their own: what the
guest program does to names, addresses, users and files it really does there, and nowhere else."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PROGRAM = Path(__file__).resolve().parents[3] / "roles/guest_context/files/nebula-context"
SHELLS = {"busybox": "/bin/busybox", "dash": "/bin/dash", "bash": "/bin/bash"}
# What the namespace's interfaces are: name → MAC address.
INTERFACES = {"eth0": "02:00:0a:42:00:0a", "eth1": "02:00:c0:a8:46:96"}

# Programs that only exist on that distribution: they note how they were called.
RECORDER = '#!/bin/sh\necho "$(basename "$0") $*" >> /calls\n'

DEBIAN = ("etc/network/interfaces.d/",)
LAYOUTS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # files and directories ("/" at its end), programs
    "interfaces": (DEBIAN, ("sbin/ifup", "sbin/ifdown")),
    "netplan": (("etc/netplan/",), ("usr/sbin/netplan",)),
    "networkd": (
        ("etc/systemd/system/multi-user.target.wants/systemd-networkd.service", "lib/systemd/systemd-networkd"),
        ("usr/bin/networkctl",),
    ),
    "scripts": (("etc/sysconfig/network",), ("etc/sysconfig/network-scripts/ifup", "sbin/ifup", "sbin/ifdown")),
    "nm": (("etc/NetworkManager/system-connections/",), ("usr/sbin/NetworkManager", "usr/bin/nmcli")),
    "wicked": (("etc/sysconfig/network/config",), ("usr/sbin/wicked",)),
    "plain": ((), ()),
}
# A root's own programs that would get in the way of the choice of layout.
_NOT_BUSYBOX = ("ifup", "ifdown", "init", "poweroff", "reboot", "halt")
_ENTER = r"""
set -e
for pair in {interfaces}; do
    ip link add "${{pair%%=*}}" address "${{pair#*=}}" type veth peer name "peer-${{pair%%=*}}"
done
mount -t sysfs sys {root}/sys
mount -t proc proc {root}/proc
exec chroot {root} /bin/sh {program} {arguments}
"""


@dataclass
class Layout:
    """A root. name: one of LAYOUTS."""

    root: Path
    name: str

    def context(self, text: str, files: Mapping[str, str] | None = None) -> None:
        """The directory /context instead of an ISO, as containers have it."""
        place = self.root / "context"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        (place / "context.sh").write_text(text)
        for name, content in (files or {}).items():
            (place / name).write_text(content)

    def run(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """The program with these arguments, in new network, host name, mount and process namespaces."""
        script = _ENTER.format(
            interfaces=" ".join(f"{name}={mac}" for name, mac in INTERFACES.items()),
            root=self.root,
            program="/nebula-context",
            arguments=" ".join(arguments),
        )
        command = ["unshare", "--net", "--uts", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script]
        return subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL
        )

    def read(self, path: str) -> str:
        return (self.root / path).read_text()

    def faults(self) -> str:
        place = self.root / "run/nebula-context/faults"
        return place.read_text() if place.exists() else ""


def layout(place: Path, name: str, shell: str = "busybox") -> Layout:
    root = place / f"root-{name}-{shell}"
    for directory in (
        "bin",
        "sbin",
        "usr/bin",
        "usr/sbin",
        "etc",
        "proc",
        "sys",
        "dev",
        "run",
        "var",
        "tmp",
        "mnt",
        "root",
    ):
        (root / directory).mkdir(parents=True, exist_ok=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    applets = subprocess.run(["busybox", "--list"], check=True, capture_output=True, text=True).stdout.split()
    for applet in applets:
        if applet not in (*_NOT_BUSYBOX, "busybox"):
            (root / "bin" / applet).symlink_to("busybox")
    if shell != "busybox":
        _bring(root, SHELLS[shell])
        (root / "bin/sh").unlink()
        (root / "bin/sh").symlink_to(shell)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/shadow").write_text("root:*:19000:0:99999:7:::\n")
    (root / "etc/shadow").chmod(0o600)
    (root / "etc/group").write_text("root:x:0:\n")
    files, programs = LAYOUTS[name]
    for entry in files:
        if entry.endswith("/"):
            (root / entry).mkdir(parents=True, exist_ok=True)
        else:
            (root / entry).parent.mkdir(parents=True, exist_ok=True)
            (root / entry).write_text("")
            (root / entry).chmod(0o755)
    for program in programs:
        (root / program).parent.mkdir(parents=True, exist_ok=True)
        (root / program).write_text(RECORDER)
        (root / program).chmod(0o755)
    shutil.copy(PROGRAM, root / "nebula-context")
    return Layout(root, name)


def _bring(root: Path, program: str) -> None:
    """A program of this machine, with the libraries that it is linked to."""
    linked = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    for path in [program, *(word for word in linked.split() if word.startswith("/"))]:
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_symlink():
            target.unlink()
        shutil.copy(path, target)
