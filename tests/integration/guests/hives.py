# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What there is to a Windows disk, made up, as none can be had: an NTFS with registry hives, written by their format's
description and read by libguestfs. No Windows was asked whether it would take them."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Union

from .cache import cached

# A key: names of values → number or text, names of keys → keys.
Key = Mapping[str, Any]
Value = Union[int, str, bytes]
SZ, DWORD, BINARY = 1, 4, 3
NONE = 0xFFFFFFFF


@dataclass
class _Cells:
    data: bytearray = field(default_factory=lambda: bytearray(32))

    def add(self, content: bytes) -> int:
        """Its offset from the first bin."""
        size = (len(content) + 4 + 7) & ~7
        offset = len(self.data)
        self.data += struct.pack("<i", -size) + content.ljust(size - 4, b"\0")
        return offset


def hive(root: Key) -> bytes:
    cells = _Cells()
    # A security descriptor of nobody, in a list of its own.
    security = cells.add(b"\0" * 44)
    struct.pack_into("<2sHIIII", cells.data, security + 4, b"sk", 0, security, security, 1, 20)
    struct.pack_into("<BBHIIII", cells.data, security + 24, 1, 0, 0x8000, 0, 0, 0, 0)
    top = _key(cells, "ROOT", root, NONE, security, is_root=True)
    size = (len(cells.data) + 4095) & ~4095
    left = size - len(cells.data)
    if left:
        cells.data += struct.pack("<i", left).ljust(left, b"\0")
    struct.pack_into("<4sIIQQI", cells.data, 0, b"hbin", 0, size, 0, 0, 0)
    head = bytearray(4096)
    struct.pack_into("<4sIIQIIIIIII", head, 0, b"regf", 1, 1, 0, 1, 3, 0, 1, top, size, 1)
    checksum = 0
    for (word,) in struct.iter_unpack("<I", head[:508]):
        checksum ^= word
    struct.pack_into("<I", head, 508, checksum)
    return bytes(head + cells.data)


def _key(cells: _Cells, name: str, content: Key, parent: int, security: int, is_root: bool = False) -> int:
    keys = {key: value for key, value in content.items() if isinstance(value, Mapping)}
    values = {key: value for key, value in content.items() if not isinstance(value, Mapping)}
    encoded = name.encode("latin-1")
    offset = cells.add(b"\0" * (76 + len(encoded)))
    children = [(key, _key(cells, key, keys[key], offset, security)) for key in sorted(keys, key=str.upper)]
    subkeys = NONE
    if children:
        entries = b"".join(struct.pack("<I4s", at, key.encode("latin-1")[:4].ljust(4, b"\0")) for key, at in children)
        subkeys = cells.add(struct.pack("<2sH", b"lf", len(children)) + entries)
    listed = NONE
    if values:
        at = [_value(cells, key, value) for key, value in values.items()]
        listed = cells.add(struct.pack(f"<{len(at)}I", *at))
    struct.pack_into(
        "<2sHQIIIIIIIIIIIIIIIHH", cells.data, offset + 4, b"nk", 0x2C if is_root else 0x20, 0, 0, parent, len(children),
        0, subkeys, NONE, len(values), listed, security, NONE, 0, 0, 0, 0, 0, len(encoded), 0,
    )  # fmt: skip
    cells.data[offset + 4 + 76 : offset + 4 + 76 + len(encoded)] = encoded
    return offset


def _value(cells: _Cells, name: str, value: Value) -> int:
    encoded = name.encode("latin-1")
    if isinstance(value, int):
        length, data, kind = 4 | 0x80000000, value, DWORD
    else:
        raw = value if isinstance(value, bytes) else (value + "\0").encode("utf-16-le")
        kind = BINARY if isinstance(value, bytes) else SZ
        if len(raw) <= 4:
            length, data = len(raw) | 0x80000000, int.from_bytes(raw.ljust(4, b"\0"), "little")
        else:
            length, data = len(raw), cells.add(raw)
    return cells.add(struct.pack("<2sHIIIHH", b"vk", len(encoded), length, data, kind, 1, 0) + encoded)


# --- disks of it -----------------------------------------------------------------------------------------------------

NETWORK_CLASS = "{4d36e972-e325-11ce-bfc1-08002be10318}"
LOADER = "{b2721d73-1db4-4c62-bf78-c548a880142d}"
RULE = "v2.10|Action=Allow|Active=TRUE|Dir=In|Protocol=6|LPort={}|App=System|Name=x|"


def system(fit: bool) -> Key:
    services: dict[str, Key] = {"Tcpip": {"Parameters": {"Interfaces": {"{1}": {"EnableDHCP": 1}}}}}
    policy: dict[str, Key] = {
        "StandardProfile": {"EnableFirewall": 1},
        "PublicProfile": {"EnableFirewall": 1},
        "FirewallRules": {"RemoteDesktop-UserMode-In-TCP": RULE.format(3389)} if fit else {"Core-1": RULE.format(7)},
    }
    services["SharedAccess"] = {"Parameters": {"FirewallPolicy": policy}}
    control: dict[str, Key] = {"Terminal Server": {"fDenyTSConnections": 0 if fit else 1}, "Class": {}, "Network": {}}
    adapter: dict[str, Any] = {"DriverDesc": "x"}
    if fit:
        services.update({"viostor": {"Start": 0}, "netkvm": {"Start": 3}, "sshd": {"Start": 2}})
        services["cloudbase-init"] = {"Start": 2}
        control["Network"] = {"NewNetworkWindowOff": {}}
    else:
        services["sshd"] = {"Start": 3}
        services["viostor"] = {"Start": 3}
        services["Tcpip"] = {"Parameters": {"Interfaces": {"{1}": {"EnableDHCP": 0, "IPAddress": "10.0.0.7"}}}}
        adapter["NetworkAddress"] = "525400123456"
    control["Class"] = {NETWORK_CLASS: {"0001": adapter}}
    # Not the first: the current one is what Select says.
    return {"Select": {"Current": 2}, "ControlSet001": {}, "ControlSet002": {"Services": services, "Control": control}}


def software() -> Key:
    return {"Microsoft": {"Windows NT": {"CurrentVersion": {"ProductName": "Windows Made Up 2026"}}}}


def boot(fit: bool) -> Key:
    elements: dict[str, Key] = {"260000b0": {"Element": b"\1"}} if fit else {"12000004": {"Element": "Windows"}}
    return {"Objects": {LOADER: {"Elements": elements}}}


STATE = "[State]\r\nImageState={}\r\n"


def image() -> Path:
    """A directory with fit.qcow2 and unfit.qcow2."""
    inputs = [Path(__file__).read_text()]
    return cached("windows", inputs, make)


def make(place: Path) -> None:
    disks: dict[bool, Sequence[str]] = {}
    for fit in (True, False):
        name = "fit" if fit else "unfit"
        state = "IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE" if fit else "IMAGE_STATE_COMPLETE"
        files = {
            "SYSTEM": hive(system(fit)),
            "SOFTWARE": hive(software()),
            "BCD": hive(boot(fit)),
            "State.ini": STATE.format(state).encode("utf-16"),
        }
        for file, data in files.items():
            (place / f"{name}-{file}").write_bytes(data)
        raw = place / f"{name}.raw"
        with raw.open("wb") as disk:
            disk.truncate(40 << 20)
        disks[fit] = [
            f"-mount {'/dev/sda1' if fit else '/dev/sdb1'} /",
            "mkdir-p /Windows/System32/config",
            "mkdir-p /Windows/Setup/State",
            "mkdir-p /Windows/Temp",
            "mkdir-p /Boot",
            f"upload {place}/{name}-SYSTEM /Windows/System32/config/SYSTEM",
            f"upload {place}/{name}-SOFTWARE /Windows/System32/config/SOFTWARE",
            f"upload {place}/{name}-BCD /Boot/BCD",
            f"upload {place}/{name}-State.ini /Windows/Setup/State/State.ini",
            *([] if fit else ["touch /Windows/Temp/left", "touch /hiberfil.sys"]),
            "umount /",
        ]
    script = ["run"]
    for device in ("/dev/sda", "/dev/sdb"):
        script += [f"part-init {device} mbr", f"part-add {device} p 2048 -2048", f"part-set-bootable {device} 1 true",
                   f"part-set-mbr-id {device} 1 7", f"mkfs ntfs {device}1"]  # fmt: skip
    script += [*disks[True], *disks[False], "shutdown"]
    argv = ["guestfish", "--format=raw", "-a", str(place / "fit.raw"), "-a", str(place / "unfit.raw")]
    environment = {**os.environ, "LIBGUESTFS_BACKEND": "direct", "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg"}
    text = "\n".join(script) + "\n"
    subprocess.run(argv, input=text, text=True, check=True, env=environment, capture_output=True, timeout=300)
    for raw in (place / "fit.raw", place / "unfit.raw"):
        with raw.open("r+b") as disk:
            disk.write(b"\x33\xc0\x8e\xd0Invalid partition table")
            if raw.stem == "fit":
                # What Windows' code in the partition prints, in place of mkntfs's, which says that there is none.
                disk.seek((1 << 20) + 0x54)
                disk.write(b"BOOTMGR is missing".ljust(510 - 0x54, b"\0"))
        argv = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(raw.with_suffix(".qcow2"))]
        subprocess.run(argv, check=True)
        raw.unlink()
    for file in place.glob("*fit-*"):
        file.unlink()
