# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of the catalog costs as much as what it is about, however much else the catalog has: statements of SQL,
texts that are decoded, and dataclasses that are made of them are counted at ten and at a thousand machines."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.nebula.provision.plugins.module_utils.calls import (
    host,
    network,
    template,
    vm,
    vm_record,
)
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.store import Store
from ansible_collections.nebula.provision.plugins.module_utils.model import dataclass_json
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState, ImageType

FEW, MANY, HOSTS = 10, 1000, 10
# Of one machine of many, in one list.
EACH = {"statements": 23, "texts decoded": 2.3, "objects made of plain data": 0.1}
TEMPLATE = """\
CPU = 0.1
MEMORY = 16
DISK = [ IMAGE = "halting", DEV_PREFIX = "vd" ]
NIC = [ NETWORK = "wide", MODEL = "virtio" ]
GRAPHICS = [ TYPE = "vnc", LISTEN = "127.0.0.1" ]
CONTEXT = [ NETWORK = "YES", SET_HOSTNAME = "$NAME" ]
"""


def asked(call: Any, root: Path, **arguments: Any) -> Any:
    """What a module answers."""
    read = ArgumentSpecValidator(**call.ARGUMENTS).validate({"root": str(root), **arguments})
    assert read.error_messages == []
    result = call.run(read.validated_parameters, False)
    assert [str(item.error) for item in result.errors] == []
    return result.payload


def item(name: str) -> dict[str, Any]:
    return {"name": name, "template": "small", "context": {"ROLE": f"role of {name}"}}


def plan(root: Path, *names: str) -> Any:
    return asked(vm, root, vms=json.dumps([*map(item, names)]), return_plans=True)


def record(root: Path, plans: Any) -> None:
    """The nodes have done all that was planned."""
    answers = {}
    for name, text in plans.items():
        planned = json.loads(text)
        outcomes = [
            {"vm_id": each["vm"]["vm_id"], "generation": each["generation"], "state": each["wanted"], "changed": True}
            for each in planned["vms"]
        ]
        answers[name] = {"outcomes": outcomes, "observed": {"done_number": planned["number"]}}
    asked(vm_record, root, outcomes=json.dumps(answers))


class Site:
    """A catalog with so many machines that run, on HOSTS hosts."""

    def __init__(self, root: Path, machines: int) -> None:
        self.root = root
        nodes = [{"name": f"node{n}", "memory": 1024 * 1024, "cpu": 1024} for n in range(HOSTS)]
        asked(host, root, hosts=nodes)
        ranges = [{"type": "IP4", "ip": "10.64.1.0", "size": 4 * MANY}]
        wide = {"name": "wide", "network_address": "10.64.0.0", "network_mask": "255.192.0.0", "address_ranges": ranges}
        asked(network, root, networks=[wide])
        engine = EmbeddedEngine(str(root))
        with engine.session():
            engine.images.allocate(Image(None, "halting", type=ImageType.OS))
            engine.images.update("halting", state=ImageState.READY, format="qcow2", size=64)
        engine.close()
        asked(template, root, templates=json.dumps([{"name": "small", "template": TEMPLATE}]))
        record(root, plan(root, *(f"web-{number}" for number in range(machines)))["plans"])


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("few"), FEW)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("many"), MANY)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Counts what a verb does."""
    found: Counter[str] = Counter()

    def count(what: str, where: Any, name: str) -> None:
        real = getattr(where, name)

        def counting(*given: Any, **named: Any) -> Any:
            found[what] += 1
            return real(*given, **named)

        monkeypatch.setattr(where, name, counting)

    real_init = Store.__init__

    def init(self: Store, *given: Any, **named: Any) -> None:
        real_init(self, *given, **named)
        self.db.set_trace_callback(lambda _statement: found.update(["statements"]))

    monkeypatch.setattr(Store, "__init__", init)
    count("texts decoded", json.JSONDecoder, "decode")
    count("objects made of plain data", dataclass_json, "from_plain")
    yield found


VERBS: dict[str, Callable[[Path], Any]] = {
    "one machine more": lambda root: plan(root, "mail"),
    "what became of it": lambda root: record(root, plan(root, "log")["plans"]),
    "one that is there": lambda root: plan(root, "web-3"),
    "one that is changed": lambda root: asked(
        vm, root, vms=json.dumps([{**item("web-5"), "memory": 32, "recreate": True}]), return_plans=True
    ),
    "one that ends": lambda root: asked(
        vm, root, vms=json.dumps([{"name": "web-7", "state": "absent"}]), return_plans=True
    ),
    "a template": lambda root: asked(
        template, root, templates=json.dumps([{"name": "small", "template": TEMPLATE + "VCPU = 1\n"}])
    ),
}


@pytest.mark.parametrize("verb", VERBS)
def test_it_costs_no_more_in_a_large_catalog(few: Site, many: Site, counted: Counter[str], verb: str) -> None:
    costs = []
    for site in (few, many):
        counted.clear()
        answer = VERBS[verb](site.root)
        costs.append(dict(counted))
        # What no node has carried out, its next plan says again.
        record(site.root, (answer or {}).get("plans", {}))
    grown = {what: (costs[0][what], cost) for what, cost in costs[1].items() if cost > costs[0][what] + 4}
    assert not grown, f"in a catalog of {FEW} and of {MANY} machines"


def test_a_hundred_cost_a_hundred_times_one(few: Site, counted: Counter[str]) -> None:
    costs = []
    for count in (1, 101):
        counted.clear()
        plan(few.root, *(f"new-{count}-{number}" for number in range(count)))
        costs.append(dict(counted))
    each = {what: (cost - costs[0][what]) / 100 for what, cost in costs[1].items()}
    assert {what: cost for what, cost in each.items() if cost > EACH[what]} == {}
