# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows files to the kernel as block devices. Each device is free again as soon as nothing has it open or mounted."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from .files import closing_fd

_CONTROL = "/dev/loop-control"
# <linux/loop.h>; the second call is there since Linux 5.8.
_GET_FREE, _CONFIGURE = 0x4C82, 0x4C0A
_READ_ONLY, _FREE_AT_LAST_CLOSE = 1, 4
# struct loop_config: the file, the size of a block (0: the kernel's choice), and of struct loop_info64 nothing but its
# flags and the name that is shown.
CONFIGURATION = struct.Struct("=II 40x 12x I 64s 64x 32x 16x 64x")
# Somebody else may take the device that was free a moment ago.
_TRIES = 64


@contextlib.contextmanager
def attach(path: str, readonly: bool) -> Iterator[str]:
    """Yield a device that shows the file. The device outlives this only if it is mounted then."""
    flags = (os.O_RDONLY if readonly else os.O_RDWR) | os.O_CLOEXEC
    with closing_fd(os.open(path, flags)) as file:
        device, handle = _attach(file, path, readonly)
    try:
        yield device
    finally:
        os.close(handle)


def _attach(file: int, path: str, readonly: bool) -> tuple[str, int]:
    flags = _FREE_AT_LAST_CLOSE | (_READ_ONLY if readonly else 0)
    configuration = CONFIGURATION.pack(file, 0, flags, os.fsencode(path)[:63])
    with closing_fd(os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)) as control:
        for left in range(_TRIES, 0, -1):
            device = f"/dev/loop{fcntl.ioctl(control, _GET_FREE)}"
            handle = os.open(device, (os.O_RDONLY if readonly else os.O_RDWR) | os.O_CLOEXEC)
            try:
                fcntl.ioctl(handle, _CONFIGURE, configuration)
                return device, handle
            except OSError as error:
                os.close(handle)
                if error.errno != errno.EBUSY or left == 1:
                    raise
    raise OSError(errno.EBUSY, "no loop device is free", _CONTROL)


def file_of(device: int) -> str:
    """Return the file that a device shows, by the device's number; "" if it shows none."""
    place = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/loop/backing_file")
    try:
        return place.read_text(encoding="utf-8", errors="surrogateescape").rstrip("\n")
    except OSError:
        return ""


def devices_of(path: str) -> list[str]:
    """Return the devices that show the file, by number (7:0)."""
    found = []
    for place in sorted(Path("/sys/block").glob("loop*")):
        with contextlib.suppress(OSError):
            number = (place / "dev").read_text(encoding="ascii").strip()
            major, minor = map(int, number.split(":"))
            if file_of(os.makedev(major, minor)) == path:
                found.append(number)
    return found
