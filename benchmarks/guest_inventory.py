# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests as hosts of an inventory: `ansible-inventory --list` by the plugin, which has Ansible read the catalog on the
front-end, beside the same of a program that prints the same JSON, and has nothing to find out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from measure import CPU, Finished, MeasurementFailed, Row, run, take_turns, tell
from payload import payloads
from planning import COLLECTION, MODULES, Catalog, declared
from setting import CHECKOUT, SYSTEM_PYTHON, ansible_environment, world

HOSTS = 100
GUESTS = (1000, 3000, 10_000)
MOST_TIMES = 1.2


def listed(source: Path) -> Finished:
    program = [CHECKOUT / ".venv/bin/ansible-inventory", "-i", source, "--list", "--output"]
    done = run([*program, source.with_suffix(".listed")], ansible_environment())
    if not source.with_suffix(".listed").exists():
        raise MeasurementFailed(f"{source} is no inventory:\n{done.output[-2000:]}")
    return done


def hosts_of(source: Path) -> dict[str, object]:
    """What was listed last: variables of each host."""
    found: dict[str, object] = json.loads(source.with_suffix(".listed").read_bytes())["_meta"]["hostvars"]
    return found


def rows(rounds: int) -> Iterator[Row]:
    made = payloads([COLLECTION + name for name in MODULES])
    modules = {name: made[COLLECTION + name] for name in MODULES}
    place = world() / "guest-inventory"
    catalog = Catalog(place, modules, declared(HOSTS))
    source, program = place / "machines.nebula.yml", place / "program"
    connection = {"ansible_connection": "local", "ansible_python_interpreter": SYSTEM_PYTHON}
    asked = {"plugin": f"{COLLECTION}nebula", "frontend": "world", "connection": connection, "root": str(catalog.root)}
    source.write_text(json.dumps(asked), encoding="utf-8")
    program.write_text(f"#!/bin/sh\nexec cat {place}/printed.json\n", encoding="utf-8")
    program.chmod(0o755)
    for count in GUESTS:
        tell(f"a catalog of {count:,} guests")
        catalog.plan(count)
        catalog.record()
        memory = listed(source).memory
        shutil.copy(source.with_suffix(".listed"), place / "printed.json")
        listed(program)
        if len(hosts_of(source)) != count or hosts_of(source) != hosts_of(program):
            raise MeasurementFailed(f"{count} guests were to be hosts, by the plugin and by a program")
        contestants = {"plugin": lambda: listed(source).processor, "program": lambda: listed(program).processor}
        times = take_turns(rounds, contestants)
        name = f"ansible-inventory of {count:,} guests, beside a program that prints the same"
        yield Row.at_most(name, times["plugin"], times["program"], CPU, MOST_TIMES, memory)
    shutil.rmtree(place)
