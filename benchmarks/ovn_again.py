# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""site.yml again over three nodes with OVN, where nothing is to be done: many networks and routers, beside few.

The nodes are those of tests/tools/nodes.py, in a world of their own, in which this file is a program that prints rows.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from measure import Finished, MeasurementFailed, Row, run, take_turns
from setting import CHECKOUT, counted

NODES = 3
FEW, MANY = (1, 1), (50, 10)
# Of the seconds: what is compared is more, what is asked is not.
MOST_TIMES = 1.5
# No task has it: a run that skips some tags does not look.
ROLES_ALONE = ("--skip-tags", "none_of_them")


def rows(rounds: int) -> Iterator[Row]:
    program = [sys.executable, CHECKOUT / "tests/tools/nodes.py", "--nodes", str(NODES), "--", sys.executable]
    for line in run([*program, __file__, str(rounds)]).output.splitlines():
        if line.startswith("{"):
            yield Row(**json.loads(line))


def measured(rounds: int) -> Iterator[Row]:
    sys.path[:0] = [str(CHECKOUT / "collections"), str(CHECKOUT / "tests/tools")]
    from ansible_collections.nebula.provision.tests.integration.sent_site import IMAGE
    from ansible_collections.nebula.provision.tests.integration.tenants_site import EXTERNAL, Tenants, router, tenant

    last: dict[str, int] = {}

    def wanted(networks: int, routers: int) -> None:
        names = [f"net{number}" for number in range(networks)]
        site.variables["nebula_networks"] = [EXTERNAL, *(tenant(name) for name in names)]
        site.variables["nebula_routers"] = [router(name) for name in names[:routers]]

    def again(name: str, *words: str) -> float:
        start = time.perf_counter()
        code, output = site.run("site.yml", *words)
        seconds = time.perf_counter() - start
        found = counted(Finished(seconds, 0.0, 0.0, output))
        if code != 0 or found.changed or not re.search(r"^node3 ", output, re.MULTILINE):
            raise MeasurementFailed(f"nothing was to be changed:\n{output[-3000:]}")
        last[name] = found.tasks
        return seconds

    with tempfile.TemporaryDirectory() as place:
        image = Path(place) / "image.raw"
        image.write_bytes(IMAGE)
        site = Tenants(str(image))
        site.programs = CHECKOUT / ".venv/bin"
        wanted(*FEW)
        site.done("site.yml")
        few = take_turns(rounds, {"again": lambda: again("few")})["again"]
        wanted(*MANY)
        site.done("site.yml")
        many = take_turns(rounds, {"again": lambda: again("many")})["again"]
        alone = take_turns(1, {"roles": lambda: again("roles alone", *ROLES_ALONE)})["roles"]
    what = f"site.yml again with OVN, {MANY[0]} networks, {MANY[1]} routers, {NODES} nodes"
    yield Row.exactly(f"{what}: tasks, beside {FEW[0]} network", last["many"], last["few"], "tasks")
    yield Row.at_most(f"{what}, beside {FEW[0]} network", many, few, "s", MOST_TIMES)
    yield Row.fact(f"{what}: tasks, beside the roles alone", last["many"], last["roles alone"], "tasks")
    yield Row.fact(f"{what}, beside the roles alone", many, alone, "s")


def main() -> int:
    for row in measured(int(sys.argv[1])):
        print(json.dumps(row.as_json()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
