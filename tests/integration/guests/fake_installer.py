# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An installer of 100 bytes: a CD's boot sector that writes another one to the first disk by the BIOS, says so on the
serial port, and ends as it is told. For tests that break something between any two steps; installer_iso.py is a real
one."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pycdlib

FINISHED = "nebula-install: finished"
STARTED = "fake installer: starting"
# Said by what is on the disk, when it goes on after a reboot.
AGAIN = "fake installer: going on"
# What the installed sector says.
LOGIN = "fake login: "
ORIGIN = 0x7C00
# Where the boot image has the sector to be installed.
SECTOR = 512

PRINT = (
    b"\xac"  # next: lodsb
    b"\x84\xc0"  # test al, al
    b"\x74\x06"  # jz done
    b"\xba\xf8\x03"  # mov dx, COM1
    b"\xee"  # out dx, al
    b"\xeb\xf5"  # jmp next
)
HALT = b"\xf4\xeb\xfd"
ENDS = {
    # A word to the power management port, as ACPI has guests do it.
    "poweroff": b"\xba\x04\x06\xb8\x00\x20\xef",
    # The chipset's reset register.
    "reboot": b"\xba\xf9\x0c\xb0\x06\xee",
    "stay": b"",
}


def installed() -> bytes:
    """The boot sector that is on the disk afterwards: it says who it is, and stays."""
    code = b"\xfc\x31\xc0\x8e\xd8" + b"\xbe" + struct.pack("<H", ORIGIN + 0x40) + PRINT + HALT
    return code.ljust(0x40, b"\x90") + f"\r\n{LOGIN}".encode() + b"\0"


def packet(count: int, memory: int, sector: int) -> bytes:
    """What INT 13h is to move: `count` sectors from that one of the disk."""
    return struct.pack("<BBHHHQ", 16, 0, count, memory, 0, sector)


def going_on(end: str, marker: bool) -> bytes:
    """A boot sector on the disk that is half of an installation: it puts the sectors behind it in its own place, says
    so, and ends."""
    data, buffer = 0x80, ORIGIN + SECTOR
    words = f"\r\n{AGAIN}\r\n".encode() + (f"{FINISHED}\r\n".encode() if marker else b"") + b"\0"
    reads = ORIGIN + data + len(words)
    code = b"\xfc\x31\xc0\x8e\xd8"
    code += b"\xbe" + struct.pack("<H", reads) + b"\xba\x80\x00\xb8\x00\x42\xcd\x13"
    code += b"\xbe" + struct.pack("<H", reads + 16) + b"\xba\x80\x00\xb8\x00\x43\xcd\x13"
    code += b"\xbe" + struct.pack("<H", ORIGIN + data) + PRINT + ENDS[end] + HALT
    return code.ljust(data, b"\x90") + words + packet(2, buffer, 1) + packet(2, buffer, 0)


def boot_image(end: str, marker: bool, wait: int, key: bool, reboots: int = 0, sector: bytes = b"") -> bytes:
    """wait: about how many ticks (18 a second) it takes before it is done. key: it asks for any key first. reboots: how
    often it reboots on its way, at most twice. sector: what it installs, of 510 bytes, in place of a boot sector."""
    sectors = [sector or installed()]
    if reboots:
        sectors = [going_on("reboot", False)] * (reboots - 1) + [going_on(end, marker), *sectors]
        end, marker = "reboot", False
    said = f"\r\n{STARTED}\r\n".encode() + b"\0"
    done = (f"{FINISHED}\r\n".encode() if marker else b"done\r\n") + b"\0"
    code = b"\xfc\x31\xc0\x8e\xd8"  # cld; ds = 0
    data = 0x100
    places = {"said": ORIGIN + data, "done": ORIGIN + data + len(said)}
    address = ORIGIN + data + len(said) + len(done)
    code += b"\xbe" + struct.pack("<H", places["said"]) + PRINT
    # INT 16h: the next key.
    code += b"\xfb\x31\xc0\xcd\x16" * key
    # Wait: the BIOS counts ticks at 0040:006C.
    code += b"\xfb\x8b\x0e\x6c\x04\x81\xc1" + struct.pack("<H", wait)  # sti; cx = ticks + wait
    code += b"\x3b\x0e\x6c\x04\x7f\xfa"  # cmp cx, ticks; jg back
    # INT 13h, extended write to the first disk.
    code += b"\xbe" + struct.pack("<H", address) + b"\xba\x80\x00\xb8\x00\x43\xcd\x13"
    code += b"\xbe" + struct.pack("<H", places["done"]) + PRINT + ENDS[end] + HALT
    first = code.ljust(data, b"\x90") + said + done + packet(len(sectors), ORIGIN + SECTOR, 0)
    if len(first) > 510:
        raise ValueError(f"the boot sector has {len(first)} bytes")
    whole = b"".join(sector.ljust(510, b"\0") + b"\x55\xaa" for sector in (first, *sectors))
    # As much as the BIOS loads of it.
    if len(whole) > 2048:
        raise ValueError(f"{reboots} reboots are too many")
    return whole.ljust(2048, b"\0")


def build(
    path: Path,
    end: str = "poweroff",
    marker: bool = True,
    wait: int = 4,
    bootable: bool = True,
    key: bool = False,
    reboots: int = 0,
    sector: bytes = b"",
) -> Path:
    """The ISO at `path`."""
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, rock_ridge="1.09", vol_ident="FAKE")
    image = boot_image(end, marker, wait, key, reboots, sector)
    iso.add_fp(io.BytesIO(image), len(image), "/BOOT.IMG;1", "boot.img")
    if bootable:
        iso.add_eltorito("/BOOT.IMG;1", bootcatfile="/BOOT.CAT;1", rr_bootcatname="boot.cat", boot_load_size=4)
    iso.write(str(path))
    iso.close()
    path.chmod(0o644)
    return path
