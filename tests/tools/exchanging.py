# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest that exchanges two names all the time, as renameat2(2) does it at once: a directory and a link that leads to
files of the host. It is a process of its own, which may have another user."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAM = r"""
import ctypes, os, sys
user, first, second = int(sys.argv[1]), os.fsencode(sys.argv[2]), os.fsencode(sys.argv[3])
libc = ctypes.CDLL(None)
if user:
    os.setgroups([]); os.setresgid(user, user, user); os.setresuid(user, user, user)
print("exchanging", flush=True)
while True:
    # 2: RENAME_EXCHANGE. It fails where somebody has removed one, or taken the directory away from this user.
    if libc.renameat2(-100, first, -100, second, 2):
        try:
            os.chmod(os.path.dirname(first), 0o700)  # root of a container needs no mode
        except OSError:
            pass
"""


@contextmanager
def exchanging(first: Path, second: Path, user: int = 0) -> Iterator[None]:
    """Have another process exchange the two names, as this user (0: as whoever runs this), until the block ends."""
    argv = [sys.executable, "-I", "-S", "-c", PROGRAM, str(user), str(first), str(second)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"exchanging\n"
        yield
    finally:
        process.kill()
        process.communicate()


def hostile_pair(place: Path, target: Path, user: int = 0, name: str = "keys") -> tuple[Path, Path]:
    """A directory of the guest with names that the host's directory `target` has, too, and a link to that one."""
    inner, link = place / name, place / "swap"
    inner.mkdir()
    for each in target.iterdir():
        (inner / each.name).write_text("guest's", encoding="utf-8")
    link.symlink_to(target)
    if user and os.geteuid() == 0:
        for path in (place, inner, link, *inner.iterdir()):
            os.chown(path, user, user, follow_symlinks=False)
    return inner, link
