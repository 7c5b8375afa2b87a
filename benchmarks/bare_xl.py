#!/usr/bin/python3
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A peer: PV machines by `xl create` and nothing else. No line of ours.

usage: bare_xl.py DIRECTORY KERNEL INITRD COMMAND_LINE COUNT THREADS       (as root in dom0)

Makes COUNT machines, as our template has them, each with an empty disk of 8 MiB, THREADS at a time; ends them.
Prints {"seconds": to make them}.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CONFIG = """\
name = 'bare-{index}'
cpu_weight = 26
cap = 1
memory = 96
vcpus = 1
kernel = '{kernel}'
ramdisk = '{initrd}'
extra = '{command_line}'
disk = ['file:{directory}/disk.0,xvda,w']
"""


def make(place: str, index: int, **values: str) -> None:
    directory = Path(place, str(index))
    directory.mkdir(parents=True)
    with (directory / "disk.0").open("wb") as disk:
        disk.truncate(8 << 20)
    config = directory / "config"
    config.write_text(CONFIG.format(index=index, directory=directory, **values))
    subprocess.run(["xl", "create", "-q", str(config)], check=True)


def main(place: str, kernel: str, initrd: str, command_line: str, count: str, threads: str) -> None:
    start = time.perf_counter()
    with ThreadPoolExecutor(int(threads)) as pool:
        values = {"kernel": kernel, "initrd": initrd, "command_line": command_line}
        list(pool.map(lambda index: make(place, index, **values), range(int(count))))
    seconds = time.perf_counter() - start
    for index in range(int(count)):
        subprocess.run(["xl", "destroy", f"bare-{index}"], check=True)
    subprocess.run(["rm", "-r", place], check=True)
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
