# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one PV machine more costs on a Xen host, by role vm and by `xl create` alone; and a poll. In a dom0 that is
emulated whole (tests/tools/xen_host.py), which is front-end and node, so that all of it is on one side.

Of the role those tasks are counted that know how many machines there are: from the decision on. What comes before is
the same for any number, and there takes longer, and varies more, than a machine costs."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from measure import MeasurementFailed, Row, run, take_turns, tell
from setting import CHECKOUT, HERE, ansible_environment

sys.path.insert(0, str(CHECKOUT / "collections"))
sys.path.insert(0, str(CHECKOUT / "tests/tools"))

from xen_host import XenHost

FEW, MANY = 2, 7
POLLED = 20
THREADS = 2
PLACE = "/root/bench"
# The first task of role vm that knows how many machines there are.
DECISION = "Bring the machines of a single host to the list"
DEMO = f"{PLACE}/demo"
# It runs, but hardly (CPULIMIT): what is measured is the making, and a guest that boots takes the time of whatever is
# done beside it on the one processor that is there.
COMMAND_LINE = "quiet mitigations=off rdinit=/bin/busybox -- sleep 1000000"
VARIABLES = {
    "nebula_root": "/var/lib/nebula",
    "nebula_reserved_memory": 0,
    "nebula_verify": False,
    "nebula_deploy_threads": THREADS,
    "nebula_images": [
        {"name": "kernel", "type": "KERNEL", "path": f"{DEMO}/kernel", "remote_src": True},
        {"name": "initrd", "type": "RAMDISK", "path": f"{DEMO}/initrd", "remote_src": True},
    ],
    "nebula_networks": [],
    "nebula_templates": [
        {
            "name": "pv",
            "template": {
                "CPU": 0.1,
                "CPULIMIT": 1,
                "MEMORY": 96,
                "OS": {
                    "KERNEL_DS": '$FILE[IMAGE="kernel"]',
                    "INITRD_DS": '$FILE[IMAGE="initrd"]',
                    "KERNEL_CMD": COMMAND_LINE,
                },
                "DISK": {"TYPE": "fs", "SIZE": 8, "FORMAT": "raw", "TARGET": "xvda"},
            },
        }
    ],
}


class Ours:
    def __init__(self, host: XenHost, directory: Path) -> None:
        self.host = host
        self.inventory = directory / "inventory.json"
        groups = {name: {"hosts": {"xen": {}}} for name in ("nebula_frontend", "nebula_nodes")}
        variables = {**host.inventory(), "nebula_hypervisor": "xen"}
        self.inventory.write_text(json.dumps({"all": {"hosts": {"xen": variables}, "children": groups}}))

    def play(self, path: Path, wanted: list[dict[str, Any]]) -> list[tuple[str, float]]:
        """Its tasks, in their order, and the seconds that each took."""
        program = CHECKOUT / ".venv/bin/ansible-playbook"
        variables = json.dumps({**VARIABLES, "nebula_vms": wanted, "nebula_destroy_limit": "100%"})
        with tempfile.TemporaryDirectory(dir=self.inventory.parent) as told:
            reports = {"ANSIBLE_CALLBACKS_ENABLED": "ansible.builtin.junit", "JUNIT_OUTPUT_DIR": told}
            run([program, "-i", self.inventory, path, "-e", variables], {**ansible_environment(), **reports})
            (report,) = Path(told).iterdir()
            cases = ET.parse(report).getroot().iter("testcase")
            return [(case.get("name", ""), float(case.get("time", "nan"))) for case in cases]

    def make(self, count: int) -> float:
        wanted = {"name": "bench-%i", "count": count, "template": "pv", "state": "running"}
        tasks = self.play(HERE / "machines.yml", [wanted])
        first = next(index for index, (name, _seconds) in enumerate(tasks) if DECISION in name)
        seconds = sum(seconds for _name, seconds in tasks[first:])
        self.expect(count)
        self.play(HERE / "machines.yml", [{"name": "bench-%i", "state": "absent", "hard": True}])
        self.expect(0)
        return seconds

    def expect(self, count: int) -> None:
        found = self.host.sudo(["xl", "list"]).stdout.count("\none-")
        if found != count:
            raise MeasurementFailed(f"{count} machines were to run, {found} do")


def bare(host: XenHost, count: int) -> float:
    program = ["python3", f"{PLACE}/bare_xl.py", "/var/tmp/bare", f"{DEMO}/kernel", f"{DEMO}/initrd", COMMAND_LINE]
    return float(json.loads(host.sudo([*program, str(count), str(THREADS)]).stdout)["seconds"])


def rows(rounds: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="nebula-bench-") as directory, XenHost(Path(directory, "xen")) as host:
        host.load(PLACE, HERE / "bare_xl.py", HERE / "xen_poll.py")
        program = ["env", f"PYTHONPATH={PLACE}", "python3", f"{PLACE}/xen_poll.py", f"{DEMO}/kernel", str(POLLED)]
        poll = json.loads(host.sudo(program, timeout=1200).stdout)
        ours = Ours(host, Path(directory))
        tell("preparing the node: site.yml without machines")
        ours.play(CHECKOUT / "site.yml", [])
        times = take_turns(
            rounds,
            {
                f"role vm, {FEW} machines": lambda: ours.make(FEW),
                f"xl create, {FEW} machines": lambda: bare(host, FEW),
                f"role vm, {MANY} machines": lambda: ours.make(MANY),
                f"xl create, {MANY} machines": lambda: bare(host, MANY),
            },
        )
    by_role, by_bare = (
        (times[f"{who}, {MANY} machines"] - times[f"{who}, {FEW} machines"]) / (MANY - FEW)
        for who in ("role vm", "xl create")
    )
    yield Row.at_most("one PV machine more by role vm, beside xl create", by_role, by_bare, "s", 1.15)
    yield Row.exactly(f"calls of xl in a poll of {POLLED} domains", poll["calls"], 1, "calls")
    yield Row.fact(f"a poll of {POLLED} domains, beside one xl list", poll["seconds"], poll["list"], "s")
