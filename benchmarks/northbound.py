# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines' ports in OVN's northbound database, beside one transaction of ovn-nbctl that writes the same of them.

Each side is what a process computes from its start to its end, and the database for it: one of its own, that ovn-northd
is not connected to. What that does afterwards is the same for both, and would be measured with one of them."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from measure import CPU, MeasurementFailed, Median, Row, processor_of, run, take_turns
from setting import CHECKOUT, HERE, SYSTEM_PYTHON, world

sys.path.insert(0, str(CHECKOUT / "tests/tools"))

from ovn_central import Central

PORTS = 1000
MOST_TIMES, MOST_SECONDS = 1.3, 0.5
# A run takes tenths of a second.
ROUNDS = 7
CATALOG, NETWORK = "00000000-0000-4000-8000-000000000099", "00000000-0000-4000-8000-000000000001"


def ports() -> list[dict[str, str]]:
    return [
        {
            "uuid": f"00000000-0000-4000-9000-{number:012d}",
            "mac": f"02:00:0a:40:{number >> 8:02x}:{number & 255:02x}",
            "address": f"10.64.{number >> 8}.{number & 255}",
        }
        for number in range(10, 10 + PORTS)
    ]


def by_nbctl(central: Central) -> float:
    """All that ours writes of each port: name, addresses, port security, DHCP, whose it is, the group it is in."""
    central.nbctl("ls-add", NETWORK)
    options = central.nbctl("create", "DHCP_Options", "cidr=10.64.0.0/16", "options:lease_time=43200").strip()
    argv = ["ovn-nbctl", "--no-leader-only", f"--db={central.remote}"]
    for port in ports():
        name, addresses = port["uuid"], f"{port['mac']} {port['address']}"
        marks = (f"external_ids:nebula-catalog={CATALOG}", f"external_ids:nebula-port={name}")
        for command in (
            ("--may-exist", "lsp-add", NETWORK, name),
            ("lsp-set-addresses", name, addresses),
            ("lsp-set-port-security", name, addresses),
            ("lsp-set-dhcpv4-options", name, options),
            ("set", "Logical_Switch_Port", name, *marks),
        ):
            argv += ["--", *command]
    argv += ["--", "pg-add", "guard", *(port["uuid"] for port in ports())]
    before = of_database(central)
    taken = run(argv).processor + of_database(central) - before
    expect(central)
    return taken


def ours(central: Central, changed: bool) -> float:
    # As on a target, where code of ours is kept compiled.
    compiled = {"PYTHONPYCACHEPREFIX": str(world() / "compiled"), "PYTHONDONTWRITEBYTECODE": ""}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"remote": central.remote, "catalog": CATALOG, "network": NETWORK, "ports": ports()}, file)
        file.flush()
        before = of_database(central)
        done = run([SYSTEM_PYTHON, HERE / "northbound_apply.py", file.name], compiled)
        taken = done.processor + of_database(central) - before
    if (done.output.strip() != "nothing") != changed:
        raise MeasurementFailed(f"changes were {'' if changed else 'not '}expected: {done.output[-500:]}")
    expect(central)
    return taken


def of_database(central: Central) -> float:
    """Seconds that its server computed until now."""
    return sum(map(processor_of, central.pids()))


def expect(central: Central) -> None:
    found = len(central.nbctl("--bare", "--columns=name", "list", "Logical_Switch_Port").split())
    if found != PORTS:
        raise MeasurementFailed(f"{PORTS} ports were to be there, {found} are")


def rows(rounds: int) -> Iterator[Row]:
    again = []

    def new_ours() -> float:
        with tempfile.TemporaryDirectory(dir=world()) as place, Central(Path(place), northd=False) as central:
            taken = ours(central, True)
            again.append(ours(central, False))
        return taken

    def new_nbctl() -> float:
        with tempfile.TemporaryDirectory(dir=world()) as place, Central(Path(place), northd=False) as central:
            return by_nbctl(central)

    new_ours()
    again.clear()
    times = take_turns(max(rounds, ROUNDS), {"ours": new_ours, "ovn-nbctl": new_nbctl})
    yield Row.at_most(
        f"{PORTS:,} new ports in OVN, beside ovn-nbctl", times["ours"], times["ovn-nbctl"], CPU, MOST_TIMES
    )
    yield Row.limit(f"{PORTS:,} ports in OVN again, with nothing to do", Median.of(again), MOST_SECONDS, CPU)
