# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A context ISO: ours, many in one process as a batch makes them, beside the programs others start for each.

usage: context_iso.py [--count N] [--rounds N]
Prints a JSON line per peer: {name, ours, peer, unit, ratio, target, met}. The contestants take turns within each round,
so that a busy moment of the machine meets all of them; a figure is the median of its rounds. The peers' directories
are made beforehand. They do not wait until the disk has a file, so ours does not here; one more line has both wait.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "collections"))

from ansible_collections.nebula.provision.plugins.module_utils.context import iso9660
from ansible_collections.nebula.provision.plugins.module_utils.context.files import context_file
from ansible_collections.nebula.provision.plugins.module_utils.context.variables import NETWORK_VARIABLES
from ansible_collections.nebula.provision.plugins.module_utils.text import context_sh

COMMANDS = {"genisoimage": ["genisoimage", "-quiet"], "xorriso": ["xorriso", "-as", "mkisofs", "-quiet"]}
# name, ours, peer, target
LINES = [
    ("context ISO, beside genisoimage", "ours", "genisoimage", 4.0),
    ("context ISO, beside xorriso", "ours", "xorriso", 100.0),
    # Here it is mostly the disk that is measured: no slower is all that is asked.
    ("context ISO on the disk, beside genisoimage", "ours, synced", "genisoimage, synced", 1.0),
]


def variables(index: int) -> dict[str, str]:
    """What a machine with one NIC, a key and a script has."""
    network = {f"ETH0_{name}": "" for name, _attributes in NETWORK_VARIABLES}
    network.update(ETH0_IP=f"10.66.{index // 250}.{index % 250}", ETH0_MASK="255.255.0.0", ETH0_GATEWAY="10.66.0.1")
    return {"SET_HOSTNAME": f"web-{index}", "SSH_PUBLIC_KEY": "ssh-ed25519 " + "A" * 68, "NETWORK": "YES", **network}


def seconds_each(make: Callable[[int], None], count: int) -> float:
    start = time.perf_counter()
    for index in range(count):
        make(index)
    return (time.perf_counter() - start) / count


def measure(root: Path, count: int, rounds: int) -> dict[str, float]:
    init = root / "init.sh"
    init.write_text("#!/bin/sh\n" * 20)
    directories = []
    for index in range(count):
        directory = root / f"source-{index}"
        directory.mkdir()
        (directory / "context.sh").write_text(context_sh.render(variables(index)))
        (directory / "init.sh").write_text(init.read_text())
        directories.append(directory)

    def ours(sync: bool) -> Callable[[int], None]:
        def make(index: int) -> None:
            path = str(root / f"ours-{index}.iso")
            iso9660.write(path, variables(index), [context_file(str(init))], sync=sync)

        return make

    def peer(name: str, sync: bool = False) -> Callable[[int], None]:
        def make(index: int) -> None:
            path = str(root / f"peer-{index}.iso")
            arguments = ["-o", path, "-V", "CONTEXT", "-J", "-R", str(directories[index])]
            subprocess.run([*COMMANDS[name], *arguments], check=True, capture_output=True)
            if sync:
                for place in (path, str(root)):
                    fd = os.open(place, os.O_RDONLY)
                    os.fsync(fd)
                    os.close(fd)

        return make

    contestants = {
        "ours": ours(sync=False),
        "genisoimage": peer("genisoimage"),
        "xorriso": peer("xorriso"),
        "ours, synced": ours(sync=True),
        "genisoimage, synced": peer("genisoimage", sync=True),
    }
    found: dict[str, list[float]] = {name: [] for name in contestants}
    contestants["ours"](0)  # Imports the library.
    for _round in range(rounds):
        for name, make in contestants.items():
            for old in root.glob("*.iso"):
                old.unlink()
            found[name].append(seconds_each(make, count))
    return {name: statistics.median(times) for name, times in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=50, help="ISOs per round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nebula-bench-") as root:
        times = measure(Path(root), options.count, options.rounds)
    for name, mine, other, target in LINES:
        ratio = times[other] / times[mine]
        line = {
            "name": name,
            "ours": round(times[mine] * 1000, 3),
            "peer": round(times[other] * 1000, 3),
            "unit": "ms per ISO",
            "ratio": round(ratio, 1),
            "target": target,
            "met": ratio >= target,
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
