#!/usr/bin/python3
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A peer: backups of running machines as `virsh backup-begin` makes them, each disk pushed to a qcow2 file with a
checkpoint for the next one. No line of ours.

usage: bare_backup.py DIRECTORY THREADS full|incremental DOMAIN …          (as root; Debian's python3-libvirt)

Prints {"seconds": for all, "bytes": of all files}. An incremental one goes on from the last checkpoint. Older
checkpoints are removed afterwards, which is not counted."""

from __future__ import annotations

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree as ET

import libvirt

STEP = 0.02
# A connection carries only so many requests at a time, so each thread has its own.
mine = threading.local()


def connect() -> None:
    mine.connection = libvirt.open("qemu:///system")


def back_up(place: Path, kind: str, name: str) -> None:
    domain = mine.connection.lookupByName(name)
    before = [each.getName() for each in domain.listAllCheckpoints()]
    root = ET.fromstring(domain.XMLDesc())
    targets = [
        target.get("dev", "")
        for disk in root.iterfind("devices/disk[@device='disk']")
        for target in disk.iterfind("target")
    ]
    backup = ET.Element("domainbackup", {"mode": "push"})
    if kind == "incremental":
        ET.SubElement(backup, "incremental").text = before[-1]
    disks = ET.SubElement(backup, "disks")
    checkpoint = ET.Element("domaincheckpoint")
    ET.SubElement(checkpoint, "name").text = f"bare-{time.time_ns()}"
    marked = ET.SubElement(checkpoint, "disks")
    for target in targets:
        disk = ET.SubElement(disks, "disk", {"name": target, "backup": "yes", "type": "file"})
        ET.SubElement(disk, "driver", {"type": "qcow2"})
        ET.SubElement(disk, "target", {"file": str(place / f"{name}.{target}.{kind}.qcow2")})
        ET.SubElement(marked, "disk", {"name": target, "checkpoint": "bitmap"})
    domain.backupBegin(ET.tostring(backup, encoding="unicode"), ET.tostring(checkpoint, encoding="unicode"), 0)
    while domain.jobStats()["type"] != libvirt.VIR_DOMAIN_JOB_NONE:
        time.sleep(STEP)
    done = domain.jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)
    if done["type"] != libvirt.VIR_DOMAIN_JOB_COMPLETED:
        raise SystemExit(f"{name}: the backup came to no good end: {done}")


def remove_checkpoints(names: list[str], keep: int) -> None:
    for name in names:
        domain = mine.connection.lookupByName(name)
        found = sorted(each.getName() for each in domain.listAllCheckpoints())
        for checkpoint in found[: len(found) - keep]:
            domain.checkpointLookupByName(checkpoint).delete()


def main() -> int:
    place, threads, kind, names = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:]
    start = time.perf_counter()
    with ThreadPoolExecutor(threads, initializer=connect) as pool:
        for _done in pool.map(lambda name: back_up(place, kind, name), names):
            pass
    seconds = time.perf_counter() - start
    connect()
    remove_checkpoints(names, keep=1)
    files = [each for each in place.iterdir() if each.name.endswith(f".{kind}.qcow2")]
    print(json.dumps({"seconds": seconds, "bytes": sum(each.stat().st_size for each in files)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
