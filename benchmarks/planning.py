# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deciding about very many machines, on hosts that are only declared: module nebula_vm as a target runs it."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import Finished, MeasurementFailed, Row, take_turns, tell
from payload import payloads, result
from setting import halting_image, world

HOSTS = 10
HOST_MEMORY, HOST_CPU = 1024 * 1024, 1024  # MiB, processors
BATCH, FULL, FEW_MORE = 1000, 10_000, 100
# Runs of half a second need more rounds than others on a machine that does other things, too.
ROUNDS = 7
LIMIT_SECONDS, LIMIT_MIB, LIMIT_RATIO = 3, 200, 1.3
COLLECTION = "nebula.provision."
TEMPLATE = """\
CPU = 0.5
MEMORY = 128
DISK = [ IMAGE = "halting", DEV_PREFIX = "vd" ]
NIC = [ NETWORK = "wide", MODEL = "virtio" ]
GRAPHICS = [ TYPE = "vnc", LISTEN = "127.0.0.1" ]
CONTEXT = [ NETWORK = "YES", SET_HOSTNAME = "$NAME", SSH_PUBLIC_KEY = "ssh-ed25519 %s" ]
""" % ("A" * 68)
OBJECTS: dict[str, dict[str, Any]] = {
    "nebula_frontend": {},
    "nebula_host": {
        "hosts": [{"name": f"host{number}", "memory": HOST_MEMORY, "cpu": HOST_CPU} for number in range(HOSTS)]
    },
    "nebula_network": {
        "networks": [
            {
                "name": "wide",
                "network_address": "10.64.0.0",
                "network_mask": "255.192.0.0",
                "address_ranges": [{"type": "IP4", "ip": "10.64.1.0", "size": 2 * FULL}],
            }
        ]
    },
    "nebula_template": {"templates": json.dumps([{"name": "planned", "template": TEMPLATE}])},
}


@dataclass(frozen=True)
class Plan:
    seconds: float
    processor: float
    memory: float
    result: dict[str, Any]


class Catalog:
    """A root with a catalog in it, and the modules that work on it, as a target runs them."""

    def __init__(self) -> None:
        self.root = world() / "planning"
        self.root.mkdir(mode=0o711)
        names = [*OBJECTS, "nebula_image", "nebula_vm", "nebula_vm_record"]
        made = payloads([COLLECTION + name for name in names])
        self.modules = {name: made[COLLECTION + name] for name in names}
        image = {"name": "halting", "type": "OS", "path": str(halting_image()), "remote_src": True}
        for name, arguments in {**OBJECTS, "nebula_image": {"images": json.dumps([image])}}.items():
            self._run(name, arguments)
        self.polled: dict[str, list[dict[str, Any]]] = {}
        self.keep("empty")

    def plan(self, count: int, prefix: str, first: int = 0, **more: Any) -> Plan:
        """Asks for so many machines, each with a context of its own, and for what the nodes are to do."""
        machines = [
            {"name": f"{prefix}-{index}", "template": "planned", "context": {"ROLE": f"role of {prefix}-{index}"}}
            for index in range(first, first + count)
        ]
        done = self._run("nebula_vm", {"vms": json.dumps(machines), "return_plans": True, **more})
        answer = result(done)
        planned = sum(len(json.loads(plan)["vms"]) for plan in answer["plans"].values())
        if planned != count:
            raise MeasurementFailed(f"{count} machines were to be planned for, {planned} were")
        return Plan(done.seconds, done.processor, done.memory, answer)

    def fill(self) -> None:
        """FULL machines, all of them RUNNING, none with anything left to do."""
        for first in range(0, FULL, BATCH):
            answer = self.plan(BATCH, "old", first).result
            outcomes = {}
            for host, plan in answer["plans"].items():
                machines = json.loads(plan)["vms"]
                outcomes[host] = {"outcomes": [_outcome(machine) for machine in machines]}
                self.polled.setdefault(host, []).extend(_polled(machine) for machine in machines)
            self._run("nebula_vm_record", {"outcomes": json.dumps(outcomes)})
            tell(f"a catalog of {first + BATCH:,} machines")
        self.keep("full")

    def keep(self, name: str) -> None:
        shutil.copytree(self.root, self._kept(name))

    def put(self, name: str) -> None:
        """The catalog as it was kept."""
        shutil.rmtree(self.root)
        shutil.copytree(self._kept(name), self.root)

    def _kept(self, name: str) -> Path:
        return world() / f"planning-{name}"

    def _run(self, name: str, arguments: dict[str, Any]) -> Finished:
        return self.modules[name].run({"root": str(self.root), **arguments})


def _outcome(machine: dict[str, Any]) -> dict[str, Any]:
    """As nebula_deploy tells of a machine that it started."""
    ours = {"vm_id": machine["vm"]["vm_id"], "generation": machine["generation"]}
    return {**ours, "state": "RUNNING", "changed": True, "error": None, "log": []}


def _polled(machine: dict[str, Any]) -> dict[str, Any]:
    """As nebula_deploy shows a machine when it is polled."""
    vm, generation = machine["vm"], machine["generation"]
    return {"vm_id": vm["vm_id"], "uuid": vm["uuid"], "state": "RUNNING", "generation": generation, "memory": 128}


def rows(rounds: int) -> Iterator[Row]:
    catalog = Catalog()
    plans = []

    def batch() -> float:
        catalog.put("empty")
        plans.append(catalog.plan(BATCH, "new"))
        return plans[-1].seconds

    seconds = take_turns(rounds, {f"a plan for {BATCH:,}": batch})[f"a plan for {BATCH:,}"]
    yield Row.limit(f"a plan for {BATCH:,} machines", seconds, LIMIT_SECONDS, "s")
    yield Row.limit(
        f"a plan for {BATCH:,} machines: memory at the peak", max(plan.memory for plan in plans), LIMIT_MIB, "MiB"
    )

    processor = statistics.median(plan.processor for plan in plans)
    yield Row.fact(f"a plan for {BATCH:,} machines: processor time, whatever else ran", processor, None, "s")

    catalog.put("empty")
    catalog.fill()

    def few_more(kept: str, polled: bool = False) -> float:
        catalog.put(kept)
        if not polled:
            return catalog.plan(FEW_MORE, "new").seconds
        uuid = catalog.plan(0, "new").result["catalog"]
        observed = [
            {"host": host, "catalog": uuid, "memory": HOST_MEMORY, "cpu": HOST_CPU, "vms": vms}
            for host, vms in catalog.polled.items()
        ]
        return catalog.plan(FEW_MORE, "new", observed=observed).seconds

    times = take_turns(
        max(rounds, ROUNDS),
        {
            "empty": lambda: few_more("empty"),
            "full": lambda: few_more("full"),
            "polled": lambda: few_more("full", True),
        },
    )
    yield Row.at_most(
        f"a plan for {FEW_MORE} more in a catalog of {FULL:,}, beside an empty one",
        times["full"],
        times["empty"],
        "s",
        LIMIT_RATIO,
    )
    yield Row.fact(
        f"a plan for {FEW_MORE} more in a catalog of {FULL:,}, all of them polled", times["polled"], times["empty"], "s"
    )
