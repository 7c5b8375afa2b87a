# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each message of a node that the roles send on to the front-end, mutated: the host that sends it is refused or loses
its own, no other host's machines, leases, images and decisions are touched, and no error is another than ours.

NEBULA_FUZZ is the number of mutations of each message.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from filled_in import option, our_filters
from mutated_answers import mutations

from ansible_collections.nebula.provision.plugins.filter.last_observed import FilterModule as LastObserved
from ansible_collections.nebula.provision.plugins.filter.observed import FilterModule as ObservedFilter
from ansible_collections.nebula.provision.plugins.filter.peers import FilterModule as Peers
from ansible_collections.nebula.provision.plugins.filter.refused_everywhere import FilterModule as Refused
from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmOrders
from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject, InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.install.heard import of, refuse_foreign
from ansible_collections.nebula.provision.plugins.module_utils.install.work import Settings, Work
from ansible_collections.nebula.provision.plugins.module_utils.model import deliveries
from ansible_collections.nebula.provision.plugins.module_utils.model.answers import verified, waited
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.plain import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed, ObservedVm, VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState
from ansible_collections.nebula.provision.plugins.module_utils.reconcile import hosts
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms import view
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded import conftest as embedded

ROOT = Path(__file__).resolve().parents[2]
COUNT = int(os.environ.get("NEBULA_FUZZ") or 120)
HONEST, LIAR = ("node1", "node3"), "node2"
UUID = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
furnished, inside = embedded.furnished, embedded.inside

# What nodes answer, as the roles register it, by the test that mutates it; or who else has it.
FUZZED = {
    "__nebula_observed": "test_a_poll",
    "__nebula_compared": "test_a_poll",
    "__nebula_install_observed": "test_a_poll",
    "__nebula_deployed": "test_outcomes",
    "__nebula_node": "test_what_a_node_has",
    "__nebula_host": "test_what_a_node_has",
    "__nebula_node_networks": "test_refused_networks",
    "__nebula_install_waited": "test_ends_of_installations",
    "__nebula_verified": "test_guests_of_trials",
}


@pytest.fixture
def site(inside):
    """Machine 0 on node1, machine 1 on the host that lies, machine 2 on node3; the first is to be switched off."""
    for name in ("node2", "node3"):
        inside.hosts.allocate(Host(None, name, state=HostState.MONITORED, memory=4096, cpu=16.0))
    for name in ("node1", "node2", "node3"):
        item = {"name": f"on-{name}", "template": "web", "host": name}
        embedded.obey(inside, embedded.decide(inside, item))
    inside.vms.action(0, "POWEROFF", VmOrders())
    inside.vms.action(1, "POWEROFF", VmOrders())
    return inside


def poll(engine: Any, name: str) -> dict[str, Any]:
    """What a node answers that does as it is asked."""
    number = ("node1", "node2", "node3").index(name)
    row = embedded.row(engine, number)
    seen = (ObservedVm(number, row["uuid"], "RUNNING", 1, 1.0, 128),)
    return to_plain(
        Observed(
            name, catalog=engine.catalog(), plan_number=1, done_number=1, memory=4096, cpu=4.0, vms=seen, as_of=1,
            facts={"problem": ""}, ports=(5900,), images=(f"{UUID}-1",), returns={f"{UUID}-0": 4096}, networks=None,
        )
    )  # fmt: skip


def honest_state(engine: Any) -> list[Any]:
    """All that the catalog has of machines of honest hosts, of their leases and of images."""
    machines = engine.store.rows(
        "SELECT vms.* FROM vms JOIN hosts ON hosts.id = host_id WHERE hosts.name != ? ORDER BY vms.id", LIAR
    )
    leases = engine.store.rows("SELECT * FROM leases WHERE vm_id IN (0, 2) ORDER BY vm_id")
    known = engine.store.rows("SELECT id, name, memory, cpu FROM hosts WHERE name != ?", LIAR)
    images = engine.store.rows("SELECT * FROM images")
    return [[tuple(each) for each in rows] for rows in (machines, leases, known, images)]


def undone(engine: Any, work: Any) -> Any:
    """What work returns, of which the catalog keeps nothing."""
    engine.store.db.execute("SAVEPOINT mutated")
    try:
        return work()
    finally:
        engine.store.db.execute("ROLLBACK TO mutated")
        engine.store.db.execute("RELEASE mutated")


def decision(engine: Any, answer: Any) -> Any:
    """What is decided about honest hosts, and what the catalog holds of them then, with this answer of the other."""
    results = [{"observed": poll(engine, "node1")}, {"observed": answer}, {"observed": poll(engine, "node3")}]
    observed = view.observed_of(ObservedFilter().filters()["observed"](results, ["node1", LIAR, "node3"]))
    assert [node.host for node in observed] == ["node1", LIAR, "node3"]
    decided = view.decide(engine, [{"name": "new", "template": "web", "host": "node3"}], observed, None, True, False)
    deliveries.lacking(decided.plans, decided.heard)
    assert set(view.refused_answers(decided.heard)) <= {LIAR}
    plans = {
        host: [(p.vm.name, p.wanted, p.generation, [nic.ip for nic in p.vm.nics]) for p in decided.plans[host].vms]
        for host in HONEST
    }
    return plans, [o.error for o in decided.outcomes], honest_state(engine)[1:3]


def test_a_poll(site):
    real = poll(site, LIAR)
    expected = undone(site, lambda: decision(site, real))
    last = LastObserved().filters()["last_observed"]
    for mutated in mutations(real, COUNT, 1):
        site.vms.polls.foreign_ids.clear() if hasattr(site.vms, "polls") else None
        assert undone(site, lambda answer=mutated: decision(site, answer)) == expected, repr(mutated)[:2000]
        variables = {
            "inventory_hostname": LIAR,
            "__nebula_deployed": mutated,
            "__nebula_observed": {"observed": mutated},
        }
        (node,) = view.observed_of(last([variables]))
        assert node.host == LIAR


def test_outcomes(site):
    outcomes = [VmOutcome(1, embedded.row(site, 1)["generation"], "POWEROFF", True, {"asked": "x"}, ("line",))]
    real = {"outcomes": to_plain(outcomes), "observed": {"done_number": 1}, "changed": True}
    before = honest_state(site)

    def recorded(answer: Any) -> Any:
        try:
            site.vms.record(LIAR, view.outcomes_of(answer or {}, LIAR), view.done_number_of(answer, LIAR))
        except (InvalidValue, ForeignObject) as error:
            assert LIAR in str(error)
            site.vms.record(LIAR, None)
        return honest_state(site)

    assert undone(site, lambda: recorded(real)) == before
    for mutated in mutations(real, COUNT * 3, 2):
        assert undone(site, lambda answer=mutated: recorded(answer)) == before, repr(mutated)[:2000]


def test_what_a_node_has(site):
    has = {"memory": 4096, "cpu": 4.0, "overhead": {}, "transfer": "shared", "catalog": "", "host_keys": ["ssh-rsa A"]}
    before = honest_state(site)
    for mutated in mutations({"node": has}, COUNT * 2, 3):
        found = Peers().filters()["peers"]([{"inventory_hostname": LIAR, "__nebula_node": mutated}])
        assert [*found] == [LIAR] and set(found[LIAR]["keys"]) <= {"ssh-rsa A"}
        node = mutated.get("node") if isinstance(mutated, dict) else None
        node = node if isinstance(node, dict) else {}
        keys = ("memory", "cpu", "overhead", "transfer", "catalog")
        item = {"name": LIAR, **{key: node.get(key) for key in keys}}

        def kept(item: Any = item) -> Any:
            hosts.apply(site, item)
            return honest_state(site)

        assert undone(site, kept) == before, repr(mutated)[:2000]


def test_refused_networks():
    made = {"networks": [{"name": "a"}], "earlier": {"a": None}}
    for mutated in mutations({"refused": ["a"], "links": []}, COUNT * 2, 4):
        # What an honest node has is taken from nobody.
        assert Refused().filters()["refused_everywhere"](made, [{"refused": []}, mutated]) == []


@pytest.fixture
def roles():
    """A function that fills an option of a task in, where hosts have answered. The host that lies is the first."""
    with our_filters():

        def asked(file: str, task: str, name: str, answers: dict[str, dict[str, Any]], **more: Any) -> Any:
            hosts = [*answers]
            hostvars = {host: {"inventory_hostname": host, **answers[host], **more} for host in hosts}
            known = {"ansible_play_hosts_all": hosts, "ansible_play_hosts": hosts, "hostvars": hostvars}
            groups = {"nebula_frontend": ["front"], "nebula_nodes": hosts}
            return option(file, task, name, {"groups": groups, **known, **hostvars[hosts[0]]})

        yield asked


def of_each(register: str, mutated: Any, honest: Any) -> dict[str, dict[str, Any]]:
    """What each host has answered: the liar this, and others what honest makes of their names."""
    return {LIAR: {register: mutated}, **{host: {register: honest(host)} for host in HONEST}}


def works() -> list[Work]:
    """Installations by the names of the hosts that have their machines, and their trials."""
    machines = {host: SimpleNamespace(id=number, host=host) for number, host in enumerate((*HONEST, LIAR))}
    return [Work(host, record=machine, trial=machine) for host, machine in machines.items()]


def test_ends_of_installations(roles):
    def honest(host: str) -> Any:
        said = {"name": host, "vm_id": HONEST.index(host) if host in HONEST else 2, "installed": host in HONEST[:1]}
        return {"waited": [{**said, "how": "off", "seconds": 1.5, "percent": 3, "last_lines": ["x"]}], "changed": False}

    for mutated in mutations(honest(LIAR), COUNT * 2, 5):
        answers = of_each("__nebula_install_waited", mutated, honest)
        given = roles("roles/install_os/tasks/install.yml", "Record what is installed", "waited", answers)
        found, refused = waited.read(given)
        settings = Settings(waited=found, refused=refused)
        refuse_foreign(works(), settings)
        assert set(refused) <= {LIAR}
        assert [of(settings.waited, host).installed for host in HONEST] == [True, False], repr(mutated)[:2000]


def test_guests_of_trials(roles):
    def honest(host: str) -> Any:
        said = {"name": f"verify-{host}", "vm_id": 0, "verified": host in HONEST[:1], "evidence": "login"}
        rest = {"seconds": 1, "said": "login:", "missing": [], "tried": {"agent": "none"}, "last_lines": []}
        return {"vms": [{**said, **rest}], "changed": False}

    for mutated in mutations(honest(LIAR), COUNT * 2, 6):
        answers = of_each("__nebula_verified", mutated, honest)
        given = roles("roles/install_os/tasks/trials.yml", "Record which are believed", "verified", answers)
        found, refused = verified.read(given)
        settings = Settings(verified=found, refused=refused)
        refuse_foreign(works(), settings)
        assert set(refused) <= {LIAR}
        believed = [of(settings.verified, f"verify-{host}").verified for host in HONEST]
        assert believed == [True, False], repr(mutated)[:2000]


# -- none is forgotten --------------------------------------------------------------------------------------------
def tasks(entries: Any) -> Any:
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict):
            yield entry
            for key in ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks"):
                yield from tasks(entry.get(key))


def test_every_answer_that_a_role_sends_on_is_mutated():
    every = [
        task
        for path in sorted((ROOT / "roles").glob("*/tasks/*.yml"))
        if path.parts[-3] != "ovn"  # its messages have tests of their own
        for task in tasks(yaml.safe_load(path.read_text()))
    ]
    at_front = [task for task in every if "nebula_frontend" in str(task.get("delegate_to", ""))]
    on_nodes = [task for task in every if task not in at_front and not task.get("run_once")]
    answers = {task["register"] for task in on_nodes if "register" in task}
    answers |= {name for task in on_nodes for name in task.get("ansible.builtin.set_fact", {})}
    answers -= {task["register"] for task in at_front if "register" in task}
    # Of other hosts, a task of the front-end can read an answer by hostvars alone.
    sent = set()
    for task in at_front:
        text = str({key: value for key, value in task.items() if key not in ("when", "register")})
        if "hostvars" in text or "observed" in text:
            sent |= set(re.findall(r"__nebula_\w+", text)) & answers
    assert {"__nebula_observed", "__nebula_deployed"} <= sent
    assert sent - set(FUZZED) == set()
    assert {name for name in FUZZED.values() if name not in globals()} == set()
