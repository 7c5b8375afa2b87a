# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""site.yml over many hosts on which nothing is to be done: what one host more costs the control node, in seconds of
its processors, beside a ping of it.

The nodes are stand-ins, because hundreds of them with libvirt are more than a machine holds. What stands in is a node's
Python (node_answer.sh): it takes the module that Ansible packs and sends for the node, and answers what a real node
answered to the same module before, with the names, marks and machines of its own. A module that a real node was not
sent is an error. So the control node does for each all that it does for a real one. The front-end is real, with a
catalog of all the nodes and machines; its modules' own time is apart."""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from measure import CPU, MeasurementFailed, Row, take_turns, tell
from payload import Payload, payloads, result
from setting import CHECKOUT, HERE, Ours, PlaybookRun, playbook, world

HOSTS = (10, 100, 500)
MACHINES_EACH = 2
# Seconds of the control node's processors for one host more.
MOST_SECONDS = 0.2
# Tasks that are shown, the dearest first.
SHOWN_TASKS = 6
COLLECTION = "nebula.provision."
MODULES = ("nebula_frontend", "nebula_host", "nebula_vm", "nebula_vm_record")
LOOKS = ("nebula_node_look", "nebula_frontend_look")
# As its payload calls it.
MODULE = "ansible_collections.nebula.provision.plugins.modules.{}"
PING = "ansible.modules.ping"
_TIMES = re.compile(r"(\d+)m([\d.]+)s")


class Site:
    """A front-end with so many nodes, each with its machines, all of them as they should be. first: the world, which
    site.yml prepared as front-end and node: its root becomes the site's. answer: what a look at the world answered.
    declared: the world as its catalog has it."""

    def __init__(
        self,
        count: int,
        first: Ours,
        answer: dict[str, Any],
        declared: dict[str, Any],
        modules: dict[str, Payload],
    ) -> None:
        self.place = world() / f"idle-{count}"
        self.count, self.modules = count, modules
        root = self.place / "root"
        self.place.mkdir(mode=0o711)
        shutil.copytree(first.variables["nebula_root"], root)
        machines = first.wanted(count * MACHINES_EACH)
        self.variables = {**first.variables, "nebula_root": str(root), "nebula_vms": [machines]}
        self.frontend = self._python("front", "noting_python.sh")
        self._declare({"name": "world", "state": "absent"})
        told = _text_of(answer, str(root))
        nodes = {f"node{number}": _named(told, f"node{number}") for number in range(count)}
        # Nodes that are not the front-end may need its key, whether or not they share its files.
        self._run("nebula_frontend", local=True, allow_ephemeral=True, transfer_key=True, nodes=[*nodes])
        self._declare(*(_item(name, found, declared) for name, found in nodes.items()))
        self._provide([machines], nodes)
        for name, found in nodes.items():
            place = self._python(name, "node_answer.sh").parent
            (place / f"{MODULE.format(LOOKS[0])}.json").write_text(json.dumps(found), encoding="utf-8")
            (place / f"{PING}.json").write_text('{"changed": false, "ping": "pong"}', encoding="utf-8")
        self._inventory(list(nodes))

    def again(self) -> tuple[PlaybookRun, float]:
        """A run, and what the front-end's modules computed."""
        times = self.frontend.with_name("times")
        times.unlink(missing_ok=True)
        done = playbook(CHECKOUT / "site.yml", self.variables, inventory=self.place / "inventory")
        looked = len(re.findall(r"^node\d+ +: ok=\d+ +changed=0 +unreachable=0 +failed=0 ", done.output, re.MULTILINE))
        if done.changed or looked != self.count or "Provision the machines" not in done.output:
            raise MeasurementFailed(f"nothing was to be done on {self.count} hosts:\n{done.output[-3000:]}")
        return done, children(times.read_text(encoding="ascii"))

    def pings(self) -> float:
        written = self.place / "ping.yml"
        tasks = [{"name": "Ping", "ansible.builtin.ping": {}}]
        written.write_text(json.dumps([{"hosts": "nebula_nodes", "gather_facts": False, "tasks": tasks}]))
        return playbook(written, {}, inventory=self.place / "inventory").processor

    def _python(self, host: str, program: str) -> Path:
        python = self.place / host / "python3"
        python.parent.mkdir()
        shutil.copy(HERE / program, python)
        return python

    def _run(self, module: str, **arguments: Any) -> dict[str, Any]:
        return result(self.modules[module].run({"root": self.variables["nebula_root"], **arguments}))

    def _declare(self, *hosts: dict[str, Any]) -> None:
        self._run("nebula_host", hosts=list(hosts), nodes=[host["name"] for host in hosts])

    def _provide(self, machines: list[dict[str, Any]], nodes: dict[str, Any]) -> None:
        """The machines are decided on and recorded as running, and the nodes' answers have them."""
        observed = [found["answers"]["__nebula_observed"]["observed"] for found in nodes.values()]
        example = observed[0]["vms"][0]
        for each in observed:
            each.update(vms=[], plan_number=0, done_number=0, plan_proof="")
        told = {"observed": json.dumps(observed), "return_plans": True}
        decided = self._run("nebula_vm", vms=json.dumps(machines), hosts=[*nodes], **told)
        outcomes = {}
        for each in observed:
            plan = json.loads(decided["plans"][each["host"]])
            each.update(plan_number=plan["number"], done_number=plan["number"], plan_proof=plan["proof"])
            outcomes[each["host"]] = {"outcomes": [_outcome(vm) for vm in plan["vms"]]}
            each["vms"] = [
                {**example, "vm_id": vm["vm"]["vm_id"], "uuid": vm["vm"]["uuid"], "generation": vm["generation"]}
                for vm in plan["vms"]
            ]
        self._run("nebula_vm_record", outcomes=json.dumps(outcomes))

    def _inventory(self, nodes: list[str]) -> None:
        pythons = {name: str(self.place / name / "python3") for name in nodes}
        groups = {
            "nebula_frontend": {"hosts": {"front": {"ansible_python_interpreter": str(self.frontend)}}},
            "nebula_nodes": {"hosts": {name: {"ansible_python_interpreter": pythons[name]} for name in nodes}},
        }
        inventory = self.place / "inventory"
        inventory.mkdir()
        (inventory / "group_vars").symlink_to(HERE / "inventory/group_vars")
        shared = {"ansible_connection": "local", "nebula_transfer": "shared"}
        (inventory / "hosts.json").write_text(json.dumps({"all": {"children": groups, "vars": shared}}))


def children(times: str) -> float:
    """Seconds, of what a shell's `times` says, that its children computed: of each two lines the second."""
    lines = times.splitlines()[1::2]
    return sum(60 * int(minutes) + float(seconds) for line in lines for minutes, seconds in _TIMES.findall(line))


def _outcome(planned: dict[str, Any]) -> dict[str, Any]:
    said = {"state": "RUNNING", "changed": True, "error": None, "log": []}
    return {"vm_id": planned["vm"]["vm_id"], "generation": planned["generation"], **said}


def _text_of(answer: dict[str, Any], root: str) -> str:
    """The answer of the world as a text, with another root."""
    return json.dumps(answer).replace(answer["answers"]["__nebula_node"]["node"]["root"], root)


def _named(answer: str, name: str) -> dict[str, Any]:
    """The same of a host of that name."""
    found: dict[str, Any] = json.loads(answer)
    node, observed = found["answers"]["__nebula_node"]["node"], found["answers"]["__nebula_observed"]["observed"]
    own = uuid.uuid5(uuid.NAMESPACE_DNS, name).hex
    node.update(mark=own, machine_id=own[::-1])
    observed.update(host=name, mark=own)
    return found


def _item(name: str, answer: dict[str, Any], declared: dict[str, Any]) -> dict[str, Any]:
    """As role node declares the host (`__nebula_host_found`). declared: the world as it was declared."""
    node = answer["answers"]["__nebula_node"]["node"]
    found = ("hypervisor", "memory", "cpu", "overhead", "transfer", "catalog", "mark", "machine_id")
    settings = ("reserved_memory", "memory_overcommit", "cpu_overcommit")
    return {"name": name, **{key: node[key] for key in found}, **{key: declared[key] for key in settings}}


def noted(ours: Ours) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the look at a node answers, on which nothing is to be done; and the node as it is declared."""
    place = world() / "idle-noted"
    place.mkdir()
    python = shutil.copy(HERE / "noting_python.sh", place / "python3")
    ours.site(MACHINES_EACH)
    ours.variables["ansible_python_interpreter"] = str(python)
    ours.site(MACHINES_EACH)
    ours.variables.pop("ansible_python_interpreter")
    ours.end()
    node, machines = (json.loads((place / f"{MODULE.format(name)}.json").read_bytes()) for name in LOOKS)
    if node["differs"] or machines["differs"]:
        raise MeasurementFailed(f"nothing was to be done: {node['differs']} {machines['differs']}")
    return node, machines["answers"]["__nebula_hosts"]["hosts"][0]


def rows(rounds: int) -> Iterator[Row]:
    ours = Ours(str(world() / "nebula-idle"))
    tell("preparing a node, and asking it")
    answer, declared = noted(ours)
    made = payloads([COLLECTION + name for name in MODULES])
    modules = {name: made[COLLECTION + name] for name in MODULES}
    sites = {count: Site(count, ours, answer, declared, modules) for count in HOSTS}
    last: dict[int, PlaybookRun] = {}

    def again(count: int) -> float:
        last[count], on_the_frontend = sites[count].again()
        return last[count].processor - on_the_frontend

    contestants = {f"site, {count} hosts": partial(again, count) for count in HOSTS}
    contestants |= {f"ping, {count} hosts": sites[count].pings for count in HOSTS}
    # What takes minutes is changed little by a busy moment.
    long = {name: run for name, run in contestants.items() if str(max(HOSTS)) in name}
    times = take_turns(rounds, {name: run for name, run in contestants.items() if name not in long})
    times |= take_turns(1, long)
    few, most = min(HOSTS), max(HOSTS)
    for many in HOSTS[1:]:
        one_more, ping = (
            (times[f"{what}, {many} hosts"] - times[f"{what}, {few} hosts"]) / (many - few) for what in ("site", "ping")
        )
        name = f"site.yml with nothing to do, {few} to {many} hosts: one host more, on the control node"
        yield Row.limit(name, one_more, MOST_SECONDS, CPU)
        yield Row.fact(f"{name}, beside a ping of it", one_more, ping, CPU, last[many].memory)
    fewer, more = by_task(last[few]), by_task(last[most])
    grows = {name: (taken - fewer.get(name, 0.0)) / (most - few) for name, taken in more.items()}
    for name in sorted(grows, key=lambda name: -grows[name])[:SHOWN_TASKS]:
        # Without the title of the role's arguments.
        task = name.partition(" - ")[0]
        yield Row.fact(f"site.yml with nothing to do, one host more: {task}", grows[name], None, CPU)


def by_task(run: PlaybookRun) -> dict[str, float]:
    """What the processors computed for tasks of each name."""
    taken: dict[str, float] = {}
    for task in run.profile:
        taken[task.name] = taken.get(task.name, 0.0) + task.processor
    return taken
