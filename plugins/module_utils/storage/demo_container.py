# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the demo image of containers: the archive of a root file system, with busybox and what the demo guest does."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator

from . import demo_guest

# What it holds is what it is: it has no time of its own.
_TIME = 946684800
_DIRECTORIES = (
    *("bin", "context", "dev", "etc", "etc/nebula", "mnt", "proc", "root", "run", "sbin", "sys", "tmp", "usr", "var"),
)
_LINKS = {"bin/sh": "busybox", "sbin/init": "../bin/busybox"}
_MODES = {"tmp": 0o1777, "root": 0o700}


def archive(busybox: bytes) -> bytes:
    """Return the archive: the same bytes for the same busybox. busybox: the program, linked statically."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for entry, content in _entries(busybox):
            entry.mtime = _TIME
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return output.getvalue()


def _entries(busybox: bytes) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    for name in _DIRECTORIES:
        entry = tarfile.TarInfo(f"./{name}")
        entry.type, entry.mode = tarfile.DIRTYPE, _MODES.get(name, 0o755)
        yield entry, b""
    for name, target in _LINKS.items():
        entry = tarfile.TarInfo(f"./{name}")
        entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, target, 0o777
        yield entry, b""
    for name, content, mode in (
        ("bin/busybox", busybox, 0o755),
        ("etc/inittab", demo_guest.CONTAINER_INITTAB.encode(), 0o644),
        ("etc/profile", demo_guest.PROFILE.encode(), 0o644),
        ("etc/passwd", b"root::0:0:root:/root:/bin/sh\n", 0o644),
        ("etc/group", b"root:x:0:\n", 0o644),
        ("etc/nebula/boot", demo_guest.CONTAINER_BOOT.encode(), 0o755),
        ("etc/nebula/shell", demo_guest.SHELL.encode(), 0o755),
    ):
        entry = tarfile.TarInfo(f"./{name}")
        entry.mode = mode
        yield entry, content
