# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounts directories so that their files show other owners (since Linux 5.12, and where the file system can).

The map of ids is that of a user namespace, which a process has to be in for as long as it takes to open it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from ..model.container_user_ids import IdRange
from . import command, kernel_calls
from .files import closing_fd

# Says that it is there, and stays until it is ended or nobody is left to talk to it.
_WAIT = ["sh", "-c", "echo; read -r line"]


def mount(source: str, target: str, there: IdRange, shown: IdRange) -> None:
    """Mount the directory `source` read-only at `target`. Raise OSError where the kernel or the file system can't.
    there: whose its files are.
    shown: as whose they are seen at `target`."""
    with closing_fd(_namespace(there, shown)) as namespace:
        kernel_calls.mount_id_mapped(source, target, namespace)


def mount_device(device: str, kind: str, target: str, flags: int, there: IdRange, shown: IdRange) -> None:
    """Mount the file system of a device at `target`; see mount(). flags: of kernel_calls."""
    with closing_fd(_namespace(there, shown)) as namespace:
        kernel_calls.mount_device_id_mapped(device, kind, target, flags, namespace)


def _namespace(there: IdRange, shown: IdRange) -> int:
    """Return a descriptor of a user namespace that maps the one range to the other."""
    pipe = subprocess.PIPE
    before = ["unshare", "--user"]
    with command.start(_WAIT, before=before, stdin=pipe, stdout=pipe, stderr=subprocess.PIPE) as process:
        # An empty answer: it ended, as the kernel gave it no namespace.
        if process.stdout is None or not process.stdout.read(1):
            raise OSError("no user namespace can be made")
        for kind in ("gid", "uid"):
            text = f"{there.start} {shown.start} {shown.count}"
            Path(f"/proc/{process.pid}/{kind}_map").write_text(text, encoding="ascii")
        return os.open(f"/proc/{process.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
