#!/usr/bin/python3
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A peer: contextualised machines by libvirt-python, pycdlib and qemu-img, as short as it goes. No line of ours.

usage: bare_libvirt.py DIRECTORY BASE COUNT THREADS       (as root; Debian's python3-libvirt and python3-pycdlib)

Makes COUNT machines in DIRECTORY: an overlay on BASE (qcow2), an ISO with a context.sh, a domain, started; ends them.
Prints {"seconds": to make them, "ending": to end them, "steps": mean seconds of each step of one machine}.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import libvirt
import pycdlib

DOMAIN = """\
<domain type='qemu'>
  <name>bare-{index}</name>
  <memory unit='MiB'>128</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type><boot dev='hd'/></os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/><source file='{directory}/disk.0'/><target dev='vda' bus='virtio'/>
    </disk>
    <disk type='file' device='cdrom'>
      <driver name='qemu' type='raw'/><source file='{directory}/disk.1'/><target dev='hda' bus='ide'/><readonly/>
    </disk>
    <serial type='file'><source path='{directory}/console.log'/></serial>
  </devices>
</domain>
"""
CONTEXT = "# Context variables\nSET_HOSTNAME='bare-{index}'\nTARGET='hda'\nNETWORK='YES'\n"
STEPS = ("overlay", "iso", "define", "start")

# A connection carries only so many requests at a time, so each thread has its own.
mine = threading.local()


def connect() -> None:
    mine.connection = libvirt.open("qemu:///system")


def overlay(directory: Path, base: str) -> None:
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, str(directory / "disk.0")]
    subprocess.run(command, check=True)


def context_iso(path: Path, index: int) -> None:
    text = CONTEXT.format(index=index).encode()
    iso = pycdlib.PyCdlib()
    iso.new(joliet=3, rock_ridge="1.09", vol_ident="CONTEXT")
    iso.add_fp(io.BytesIO(text), len(text), "/CONTEXT.SH;1", rr_name="context.sh", joliet_path="/context.sh")
    iso.write(str(path))
    iso.close()


def make(root: Path, base: str, index: int) -> list[float]:
    directory = root / str(index)
    directory.mkdir()
    marks = [time.perf_counter()]
    overlay(directory, base)
    marks.append(time.perf_counter())
    context_iso(directory / "disk.1", index)
    marks.append(time.perf_counter())
    domain = mine.connection.defineXML(DOMAIN.format(index=index, directory=directory))
    marks.append(time.perf_counter())
    domain.create()
    marks.append(time.perf_counter())
    return [after - before for before, after in zip(marks, marks[1:])]


def end(root: Path, index: int) -> None:
    domain = mine.connection.lookupByName(f"bare-{index}")
    domain.destroy()
    domain.undefine()
    directory = root / str(index)
    for file in directory.iterdir():
        file.unlink()
    directory.rmdir()


def main() -> None:
    root, base, count, threads = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    root.mkdir(mode=0o711)
    with ThreadPoolExecutor(threads, initializer=connect) as pool:
        start = time.perf_counter()
        steps = list(pool.map(lambda index: make(root, base, index), range(count)))
        seconds = time.perf_counter() - start
        start = time.perf_counter()
        list(pool.map(lambda index: end(root, index), range(count)))
        ending = time.perf_counter() - start
    root.rmdir()
    means = {name: sum(step[number] for step in steps) / count for number, name in enumerate(STEPS)}
    print(json.dumps({"seconds": seconds, "ending": ending, "steps": means}))


if __name__ == "__main__":
    main()
