# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deciding about very many machines on many hosts that are only declared, by the modules as a target runs them.

For so many hosts, and so many items of which each is a machine: the plan for them, where none is there; what the hosts
say of it, recorded; and the same list again, where all of them run. Each beside bare_catalog.py, which decodes as much
JSON, writes as many rows of the same size into SQLite or reads them, answers as much, and decides nothing.

What is to be limited is how it grows: a slope is 1 where ten times as many take ten times as long, and 0 where it makes
no difference. All are seconds of the processors."""

from __future__ import annotations

import itertools
import json
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from measure import CPU, Finished, MeasurementFailed, Median, Row, run, slope, take_turns
from payload import Payload, payloads, result
from setting import HERE, SYSTEM_PYTHON, halting_image, world

HOSTS = (10, 100, 500)
MACHINES = (1000, 3000, 10_000)
FEW_MORE = 100
HOST_MEMORY, HOST_CPU = 1024 * 1024, 1024  # MiB, processors
# Runs of half a second need more rounds than others on a machine that does other things, too.
ROUNDS = 7
# What is done, as a row names it.
WORK = {
    "plan": "a plan for {machines:,} items on {hosts} hosts",
    "record": "{machines:,} machines of {hosts} hosts recorded",
    "again": "{machines:,} items on {hosts} hosts again, with nothing to do",
}
# Seconds for the most of both, on an idle machine of the kind this is developed on; and what the bare program takes for
# as many there. Elsewhere, and on a busy machine, their ratio is the target.
MOST_SECONDS = {"plan": 15.0, "record": 5.0, "again": 2.0}
BARE_SECONDS = {"plan": 1.0, "record": 0.3, "again": 1.05}
MOST_MIB = 350
STEEPEST_BY_MACHINES, STEEPEST_BY_HOSTS = 1.05, 0.2
MOST_TIMES_FULL, MOST_TIMES_POLLED = 1.15, 1.5
COLLECTION = "nebula.provision."
TEMPLATE = """\
CPU = 0.5
MEMORY = 128
DISK = [ IMAGE = "halting", DEV_PREFIX = "vd" ]
NIC = [ NETWORK = "wide", MODEL = "virtio" ]
GRAPHICS = [ TYPE = "vnc", LISTEN = "127.0.0.1" ]
CONTEXT = [ NETWORK = "YES", SET_HOSTNAME = "$NAME", SSH_PUBLIC_KEY = "ssh-ed25519 %s" ]
""" % ("A" * 68)
MODULES = (
    "nebula_frontend",
    "nebula_host",
    "nebula_image",
    "nebula_network",
    "nebula_template",
    "nebula_vm",
    "nebula_vm_record",
)


def objects(hosts: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What machines need, by the module that declares it."""
    image = {"name": "halting", "type": "OS", "path": str(halting_image()), "remote_src": True}
    network = {
        "name": "wide",
        "network_address": "10.64.0.0",
        "network_mask": "255.192.0.0",
        "address_ranges": [{"type": "IP4", "ip": "10.64.1.0", "size": 2 * max(MACHINES)}],
    }
    return {
        "nebula_frontend": {},
        "nebula_host": {"hosts": hosts},
        "nebula_network": {"networks": [network]},
        "nebula_template": {"templates": json.dumps([{"name": "planned", "template": TEMPLATE}])},
        "nebula_image": {"images": json.dumps([image])},
    }


def declared(count: int) -> list[dict[str, Any]]:
    """So many hosts."""
    return [{"name": f"host{number}", "memory": HOST_MEMORY, "cpu": HOST_CPU} for number in range(count)]


def items(count: int, prefix: str = "new") -> list[dict[str, Any]]:
    """Each is a machine with a context of its own."""
    names = (f"{prefix}-{index}" for index in range(count))
    return [{"name": name, "template": "planned", "context": {"ROLE": f"role of {name}"}} for name in names]


class Catalog:
    """A root with a catalog in it, and the modules that work on it, as a target runs them.
    planned: what the hosts were last told to do, by their names.
    accepted: what they keep of that plan, and show.
    answers: bytes of what was last answered, by what was done."""

    def __init__(self, place: Path, modules: Mapping[str, Payload], hosts: list[dict[str, Any]]) -> None:
        self.place = place
        self.root = place / "root"
        self.root.mkdir(mode=0o711, parents=True)
        self.modules = modules
        self.planned: dict[str, list[dict[str, Any]]] = {}
        self.accepted: dict[str, dict[str, Any]] = {}
        self.answers: dict[str, int] = {}
        self.uuid = ""
        for name, arguments in objects(hosts).items():
            self.run(name, **arguments)
        self.keep("empty")

    def run(self, name: str, **arguments: Any) -> Finished:
        return self.modules[name].run({"root": str(self.root), **arguments})

    def decide(self, wanted: list[dict[str, Any]], planned: int, **more: Any) -> Finished:
        """Asks for machines, and for what the hosts are to do for so many of them."""
        done = self.run("nebula_vm", vms=json.dumps(wanted), return_plans=True, **more)
        answer = result(done)
        self.uuid = answer["catalog"]
        plans = {host: json.loads(plan) for host, plan in answer["plans"].items()}
        self.planned = {host: plan["vms"] for host, plan in plans.items()}
        self.accepted = {
            host: {"plan_number": plan["number"], "plan_proof": plan["proof"], "done_number": plan["number"]}
            for host, plan in plans.items()
        }
        found = sum(map(len, self.planned.values()))
        if found != planned:
            raise MeasurementFailed(f"{planned} machines were to be planned for, {found} were")
        return done

    def plan(self, count: int) -> Finished:
        self.put("empty")
        done = self.decide(items(count), count)
        self.answers["plan"] = len(done.output)
        return done

    def record(self) -> Finished:
        """What the hosts say of the last plan: all of it runs."""
        done = self.run("nebula_vm_record", outcomes=json.dumps(self.outcomes()))
        self.answers["record"] = len(done.output)
        return done

    def again(self, count: int) -> Finished:
        told = self.planned, self.accepted
        done = self.decide(items(count), 0)
        (self.planned, self.accepted), self.answers["again"] = told, len(done.output)
        return done

    def outcomes(self) -> dict[str, Any]:
        """As nebula_deploy tells of machines that it started, and of the plan."""
        said = {"state": "RUNNING", "changed": True, "error": None, "log": []}
        return {
            host: {
                "outcomes": [{"vm_id": m["vm"]["vm_id"], "generation": m["generation"], **said} for m in machines],
                "observed": self.accepted[host],
            }
            for host, machines in self.planned.items()
        }

    def observed(self) -> list[dict[str, Any]]:
        """As nebula_deploy shows hosts that it polls."""
        return [
            {"host": host, "catalog": self.uuid, "memory": HOST_MEMORY, "cpu": HOST_CPU, "vms": polled(machines)}
            | self.accepted[host]
            for host, machines in self.planned.items()
        ]

    def row_size(self) -> int:
        """Bytes that a machine has in the catalog."""
        with closing(sqlite3.connect(self.root / "nebula.db")) as db:
            (size,) = db.execute("SELECT avg(length(request) + length(body)) FROM vms").fetchone()
        return round(size)

    def keep(self, name: str) -> None:
        shutil.rmtree(self.place / name, ignore_errors=True)
        shutil.copytree(self.root, self.place / name)

    def put(self, name: str) -> None:
        """The catalog as it was kept."""
        shutil.rmtree(self.root)
        shutil.copytree(self.place / name, self.root)


def polled(machines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As nebula_deploy shows a host's machines when it polls them."""
    return [
        {"vm_id": m["vm"]["vm_id"], "uuid": m["vm"]["uuid"], "state": "RUNNING", "generation": m["generation"]}
        | {"memory": 128}
        for m in machines
    ]


class Bare:
    """bare_catalog.py, with what the catalog was last asked and answered."""

    def __init__(self, catalog: Catalog, count: int, hosts: int) -> None:
        self.catalog, self.count, self.hosts = catalog, count, hosts
        self.database, self.asked = catalog.place / "bare.db", catalog.place / "asked.json"

    def run(self, what: str) -> float:
        if what == "plan":
            self.database.unlink(missing_ok=True)
        wanted = self.catalog.outcomes() if what == "record" else items(self.count)
        self.asked.write_text(json.dumps(wanted), encoding="utf-8")
        sizes = (self.catalog.row_size(), self.catalog.answers[what] // self.count, self.hosts)
        program = [SYSTEM_PYTHON, HERE / "bare_catalog.py", what, self.asked, self.database]
        return run([*program, *map(str, sizes)]).processor


def rows(rounds: int) -> Iterator[Row]:
    made = payloads([COLLECTION + name for name in MODULES])
    modules = {name: made[COLLECTION + name] for name in MODULES}
    taken: dict[tuple[str, int, int], Median] = {}
    for hosts in HOSTS:
        catalog = Catalog(world() / f"planning-{hosts}", modules, declared(hosts))
        for machines in MACHINES:
            times, memory = _measured(catalog, machines, hosts, rounds)
            for what in WORK:
                taken[what, machines, hosts] = times[what]
            yield from _beside_bare(times, memory, machines, hosts)
        yield from _few_more(catalog, hosts, rounds)
        shutil.rmtree(catalog.place)
    yield from slopes(taken)


def _measured(catalog: Catalog, machines: int, hosts: int, rounds: int) -> tuple[dict[str, Median], dict[str, float]]:
    """What each of WORK takes, and its bare peer; and the MiB of each at its peak."""
    bare, memory = Bare(catalog, machines, hosts), dict.fromkeys(WORK, 0.0)
    ways = {"plan": lambda: catalog.plan(machines), "record": catalog.record, "again": lambda: catalog.again(machines)}

    def ours(what: str) -> float:
        done = ways[what]()
        memory[what] = max(memory[what], done.memory)
        return done.processor

    contestants = {what: lambda what=what: ours(what) for what in WORK}
    peers = {f"bare {what}": lambda what=what: bare.run(what) for what in WORK}
    return take_turns(rounds, {**contestants, **peers}), memory


def _beside_bare(times: Mapping[str, Median], memory: Mapping[str, float], machines: int, hosts: int) -> Iterator[Row]:
    """Targets are those of the most machines on the most hosts."""
    for what, pattern in WORK.items():
        name, ours, peer = pattern.format(machines=machines, hosts=hosts), times[what], times[f"bare {what}"]
        beside = f"{name}, beside bare JSON and SQLite"
        if (machines, hosts) != (max(MACHINES), max(HOSTS)):
            yield Row.fact(beside, ours, peer, CPU, memory[what])
            continue
        yield Row.at_most(beside, ours, peer, CPU, MOST_SECONDS[what] / BARE_SECONDS[what], memory[what])
        if what == "plan":
            yield Row.limit(f"{name}: memory at the peak", memory[what], MOST_MIB, "MiB")


def _few_more(catalog: Catalog, hosts: int, rounds: int) -> Iterator[Row]:
    """Beside as many machines as there are now."""
    full = max(MACHINES)
    catalog.keep("full")
    observed = catalog.observed()

    def more(kept: str, **options: Any) -> float:
        catalog.put(kept)
        return catalog.decide(items(FEW_MORE, "more"), FEW_MORE, **options).processor

    times = take_turns(
        max(rounds, ROUNDS),
        {
            "empty": lambda: more("empty"),
            "full": lambda: more("full"),
            "polled": lambda: more("full", observed=json.dumps(observed)),
        },
    )
    name = f"a plan for {FEW_MORE} more on {hosts} hosts in a catalog of {full:,}"
    yield Row.at_most(f"{name}, beside an empty one", times["full"], times["empty"], CPU, MOST_TIMES_FULL)
    yield Row.at_most(
        f"{name}, all of them polled, beside an empty one", times["polled"], times["empty"], CPU, MOST_TIMES_POLLED
    )


def slopes(taken: Mapping[tuple[str, int, int], float]) -> Iterator[Row]:
    """How each grows with machines on the most hosts, and with hosts for the fewest and the most machines. taken: by
    what was done, machines, hosts."""
    names = {"plan": "a plan", "record": "recording", "again": "a list again"}
    few, many, most = min(MACHINES), max(MACHINES), max(HOSTS)
    for what, name in names.items():
        grows = slope((few, taken[what, few, most]), (many, taken[what, many, most]))
        row = f"{name} on {most} hosts: slope from {few:,} to {many:,} machines"
        yield Row.limit(row, grows, STEEPEST_BY_MACHINES, "")
    for (what, name), machines in itertools.product(names.items(), (few, many)):
        grows = slope((min(HOSTS), taken[what, machines, min(HOSTS)]), (most, taken[what, machines, most]))
        row = f"{name} of {machines:,} machines: slope from {min(HOSTS)} to {most} hosts"
        yield Row.limit(row, grows, STEEPEST_BY_HOSTS, "")
