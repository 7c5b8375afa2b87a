#!/usr/bin/python3
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A peer: a disk and a NIC for each of some running machines, by qemu-img and attach-device alone. No line of ours.

usage: bare_attach.py DIRECTORY BRIDGE THREADS DOMAIN …          (as root; Debian's python3-libvirt)

Prints {"seconds": to make the disks and to attach all, "disk": and "nic": mean seconds of one attach-device, "media":
seconds to give each machine's CD-ROM another file after that}.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree as ET

import libvirt

DISK = (
    "<disk type='file' device='disk'><driver name='qemu' type='raw' cache='none' discard='unmap'/>"
    "<source file='{path}'/><target dev='vdy' bus='virtio'/></disk>"
)
NIC = "<interface type='bridge'><source bridge='{bridge}'/><model type='virtio'/></interface>"

# A connection carries only so many requests at a time, so each thread has its own.
mine = threading.local()


def connect() -> None:
    mine.connection = libvirt.open("qemu:///system")


def attach(root: Path, bridge: str, name: str) -> tuple[float, float]:
    path = root / f"{name}.raw"
    subprocess.run(["qemu-img", "create", "-q", "-f", "raw", str(path), "8M"], check=True)
    domain = mine.connection.lookupByName(name)
    flags = libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG
    marks = [time.perf_counter()]
    for text in (DISK.format(path=path), NIC.format(bridge=bridge)):
        domain.attachDeviceFlags(text, flags)
        marks.append(time.perf_counter())
    return marks[1] - marks[0], marks[2] - marks[1]


def change_medium(root: Path, name: str) -> None:
    """Give the machine's CD-ROM another file, with what the one that it has holds."""
    domain = mine.connection.lookupByName(name)
    drives = ET.fromstring(domain.XMLDesc(0)).iterfind("devices/disk[@device='cdrom']")
    drive = next(each for each in drives if each.find("source") is not None)
    source = drive.find("source")
    assert source is not None
    other = root / f"{name}.iso"
    shutil.copyfile(source.get("file", ""), other)
    source.set("file", str(other))
    flags = libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_DEVICE_MODIFY_FORCE
    domain.updateDeviceFlags(ET.tostring(drive, encoding="unicode"), flags)


def main() -> None:
    root, bridge, threads, names = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:]
    root.mkdir(mode=0o711)
    with ThreadPoolExecutor(threads, initializer=connect) as pool:
        start = time.perf_counter()
        each = list(pool.map(lambda name: attach(root, bridge, name), names))
        seconds = time.perf_counter() - start
        start = time.perf_counter()
        list(pool.map(lambda name: change_medium(root, name), names))
        media = time.perf_counter() - start
    means = {what: sum(pair[place] for pair in each) / len(each) for place, what in enumerate(("disk", "nic"))}
    print(json.dumps({"seconds": seconds, "media": media, **means}))


if __name__ == "__main__":
    main()
