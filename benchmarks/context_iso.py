# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Context ISOs: ours, a thousand distinct ones in one process as a batch makes them, beside the programs others start
for each; and the template that a context comes from.

usage: context_iso.py [--count N] [--sample N] [--rounds N]
Prints a measure.Row in JSON per line. The contestants take turns within each round, so that a busy moment of the
machine meets all of them; a figure is the median of its rounds, for one ISO. Of the peers a sample is measured, since
each of their ISOs takes as long as the one before. Each has a file beside context.sh; the peers' directories are made
beforehand. What counts is what the processors computed, in this process and in the programs that it starts. So the
disk, for which the peers do not wait, is in neither.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from measure import CPU, Median, Row, computed

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "collections"))

from ansible_collections.nebula.provision.plugins.module_utils.context import iso9660
from ansible_collections.nebula.provision.plugins.module_utils.context.files_attribute import context_file
from ansible_collections.nebula.provision.plugins.module_utils.context.variables import NETWORK_VARIABLES
from ansible_collections.nebula.provision.plugins.module_utils.text import context_sh
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

COMMANDS = {"genisoimage": ["genisoimage", "-quiet"], "xorriso": ["xorriso", "-as", "mkisofs", "-quiet"]}
# name, ours, peer, target
LINES = [
    ("context ISO, beside genisoimage", "ours", "genisoimage", 4.0),
    # It waits much longer than it computes; only the latter counts here.
    ("context ISO, beside xorriso", "ours", "xorriso", 5.0),
]
TEMPLATE_BYTES, TEMPLATE_LIMIT = 100_000, 50  # milliseconds
TEMPLATE_TIMES = 5


def variables(index: int) -> dict[str, str]:
    """What a machine with one NIC, a key and a script has."""
    network = {f"ETH0_{name}": "" for name, _attributes in NETWORK_VARIABLES}
    network.update(ETH0_IP=f"10.66.{index // 250}.{index % 250}", ETH0_MASK="255.255.0.0", ETH0_GATEWAY="10.66.0.1")
    return {"SET_HOSTNAME": f"web-{index}", "SSH_PUBLIC_KEY": "ssh-ed25519 " + "A" * 68, "NETWORK": "YES", **network}


def milliseconds_each(make: Callable[[int], object], count: int) -> float:
    return computed(lambda: [make(index) for index in range(count)]) * 1000 / count


def template() -> str:
    """Of all forms that values have; disks and NICs as long as it takes."""
    text = 'NAME = "web" # a comment\nCPU = 0.5\nMEMORY = 128\nFEATURES = [ ACPI = "yes", APIC = no ]\n'
    text += 'CONTEXT = [ NETWORK = "YES", KEY = "$USER[SSH_PUBLIC_KEY]", NOTE = "it is \\"so\\",\nin two lines" ]\n'
    number = 0
    while len(text) < TEMPLATE_BYTES:
        text += f'DISK = [ IMAGE = "image {number}", DEV_PREFIX = "vd", SIZE = {number} ]\n'
        text += (
            f'NIC = [ NETWORK = "net-{number}", IP = "10.66.0.{number % 250}", MODEL = virtio ]\nROLE_{number} = "x"\n'
        )
        number += 1
    return text


def measure(root: Path, count: int, sample: int, rounds: int) -> dict[str, Median]:
    init = root / "init.sh"
    init.write_text("#!/bin/sh\n" * 20)
    directories = []
    for index in range(sample):
        directory = root / f"source-{index}"
        directory.mkdir()
        (directory / "context.sh").write_text(context_sh.render(variables(index)))
        (directory / "init.sh").write_text(init.read_text())
        directories.append(directory)

    def ours(index: int) -> None:
        path = str(root / f"ours-{index}.iso")
        iso9660.write_iso(path, variables(index), [context_file(str(init))], sync=False)

    def peer(name: str) -> Callable[[int], None]:
        def make(index: int) -> None:
            path = str(root / f"peer-{index}.iso")
            arguments = ["-o", path, "-V", "CONTEXT", "-J", "-R", str(directories[index])]
            subprocess.run([*COMMANDS[name], *arguments], check=True, capture_output=True)

        return make

    contestants = {"ours": ours, **{name: peer(name) for name in COMMANDS}}
    found: dict[str, list[float]] = {name: [] for name in contestants}
    ours(0)  # Imports the library.
    for _round in range(rounds):
        for name, make in contestants.items():
            for old in root.glob("*.iso"):
                old.unlink()
            found[name].append(milliseconds_each(make, count if name == "ours" else sample))
    return {name: Median.of(times) for name, times in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000, help="ISOs of ours per round")
    parser.add_argument("--sample", type=int, default=25, help="ISOs of each peer per round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nebula-bench-") as root:
        times = measure(Path(root), options.count, options.sample, options.rounds)
    for name, mine, other, target in LINES:
        show(Row.at_least(name, times[mine], times[other], f"m{CPU} per ISO", target))
    text = template()
    parsing = [milliseconds_each(lambda _index: parse(text), TEMPLATE_TIMES) for _round in range(options.rounds)]
    name = f"a template of {TEMPLATE_BYTES // 1000} KB parsed"
    show(Row.limit(name, Median.of(parsing), TEMPLATE_LIMIT, f"m{CPU}"))


def show(row: Row) -> None:
    print(json.dumps(row.as_json()), flush=True)


if __name__ == "__main__":
    main()
