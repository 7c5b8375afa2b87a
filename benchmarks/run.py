# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All benchmarks, in a world of their own (tests/tools/world.py), as a table and as JSON.

usage: run.py [--output FILE] [--rounds N] [--only NAME …]         (as root; `make bench` brings what it needs)

Writes [{name, ours, peer, unit, ratio, target, met, memory, spread}]; measure.Row says what each means. A target that
is missed is shown, and said again after the table, and is no failure of the run: the figures depend on the machine.
What could not be measured at all is a failure.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import again
import containers
import guest_context
import guest_inventory
import idle_hosts
import image_check
import image_formats
import images
import machine_backups
import modules
import moves
import networks
import northbound
import ovn_again
import planning
import provisioning
import running_machines
import xen
from measure import MeasurementFailed, Row, run, table, tell
from setting import CHECKOUT, HERE
from summary import Load, belief, missed


def context_iso(rounds: int) -> Iterator[Row]:
    """A program of its own, whose lines are rows."""
    for line in run([sys.executable, HERE / "context_iso.py", "--rounds", str(rounds)]).output.splitlines():
        yield Row(**json.loads(line))


BENCHMARKS: dict[str, Callable[[int], Iterator[Row]]] = {
    "provisioning": provisioning.rows,
    "again": again.rows,
    "running_machines": running_machines.rows,
    "moves": moves.rows,
    "machine_backups": machine_backups.rows,
    "idle_hosts": idle_hosts.rows,
    "containers": containers.rows,
    "planning": planning.rows,
    "guest_inventory": guest_inventory.rows,
    "context_iso": context_iso,
    "guest_context": guest_context.rows,
    "image_check": image_check.rows,
    "images": images.rows,
    "image_formats": image_formats.rows,
    "modules": modules.rows,
    "networks": networks.rows,
    "northbound": northbound.rows,
    "ovn_again": ovn_again.rows,
    "xen": xen.rows,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", maxsplit=1)[0])
    parser.add_argument("--output", type=Path, help="file for the JSON")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured; the median counts")
    parser.add_argument("--only", nargs="+", choices=[*BENCHMARKS], default=[*BENCHMARKS], metavar="NAME")
    options = parser.parse_args()
    if "NEBULA_WORLD" not in os.environ:
        program = [
            sys.executable,
            str(CHECKOUT / "tests/tools/world.py"),
            "--",
            sys.executable,
            __file__,
            *sys.argv[1:],
        ]
        os.execv(sys.executable, program)
    rows: list[Row] = []
    failed = []
    with Load() as load:
        for name in options.only:
            start = time.monotonic()
            tell(f"{name}:")
            try:
                rows.extend(BENCHMARKS[name](options.rounds))
            except (MeasurementFailed, subprocess.SubprocessError, OSError, ValueError, KeyError) as error:
                failed.append(name)
                print(error if isinstance(error, MeasurementFailed) else traceback.format_exc(), file=sys.stderr)
            tell(f"{name}: {time.monotonic() - start:.0f} s")
    print(table(rows), "", *missed(rows), "", *belief(load, rows), sep="\n")
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps([row.as_json() for row in rows], indent=1, ensure_ascii=False) + "\n")
    for name in failed:
        print(f"NOT MEASURED: {name}; why is said above")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
