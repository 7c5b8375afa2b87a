# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two people run playbooks over the same hosts in the same moment: what is wanted comes about, or the run says why not;
nothing is used twice or lost, and one further run brings the rest. ROUNDS in the environment: how many seeds, each
with one more run that has to find nothing to do (make torture)."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from auditor import assert_consistent_here
from in_world import in_bare_world, in_world

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import StalePlan
from ansible_collections.nebula.provision.plugins.module_utils.host import node_file
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.batch import Batch
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.kvm import KvmDriver
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.poll import poll
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile
from ansible_collections.nebula.provision.tests.integration.kvm_node import GUEST, wait_for
from ansible_collections.nebula.provision.tests.integration.test_at_once import consistent, together
from ansible_collections.nebula.provision.tests.integration.test_audit import NODE, a_place

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = """
CPU = 0.05
MEMORY = 32
OS = [ MACHINE = "pc" ]
DISK = [ IMAGE = "halt", DEV_PREFIX = "vd" ]
NIC = [ NETWORK = "Public" ]
GRAPHICS = [ TYPE = "vnc" ]
CONTEXT = [ NETWORK = "YES" ]
"""
LIMIT = 900.0
OF_MACHINES = "Bring the machines of a single host to the list"
# When the second run begins: at once, or when the first has come to this task.
OFFSETS = (
    "",
    "Keep the nodes in the catalog",
    "Make their bridges on each node",
    OF_MACHINES,
    "Report the decisions",
)
OF_TEARDOWN = (
    "",
    "Read the catalog",
    OF_MACHINES,
    "Remove the networks from the nodes",
    "Give the nodes back",
)
# All that a run may say instead of doing it. Each names what to do.
REFUSALS = (
    r"this node has accepted plan \d+ already\. Run again",
    r"another run has brought this host a newer plan meanwhile, .* then run again",
    r"this host is no node: .* Run playbook nebula\.provision\.site",
    r"this node has acted on generation \d+ already\. Run again",
)
MAY_BE_REFUSED = {"StalePlan", "WrongState", "NoLease", "BeingEnded"}
# What a run says to whom the site is taken away.
TAKEN_AWAY = (
    *REFUSALS,
    r"there is none on this host\. Run role nebula\.provision\.frontend first",
    r"another run has removed or replaced it meanwhile",
    r"it can't be opened",
    r"it is in state DELETE",
    r"connecting to libvirt .* Start libvirtd",
    r"Its network's bridge is not there: run role nebula\.provision\.network first",
    r"machines of catalog \S+ are here: .* End them first",
    r"attached to \S+ are .* End the machines that use it first",
    r"leases in network .* are held by machines that are being ended\. Run again when these are gone",
    r"another run removed it meanwhile. Run again if it is wanted",
    r"another run has registered .* meanwhile. Run again once that run has ended",
    r"it has \d+ machines: .* End them first",
    r"(network|image|template|host) \S+.*: .*(there is none|has none|no such)",
    r"it is used by",
    r"leased by",
    r"No host|no host",
)


def network(name: str, number: int) -> dict[str, Any]:
    net = f"10.6{number}.0"
    return {
        "name": name,
        "bridge": f"nbr{number}",
        "network_address": f"{net}.0",
        "network_mask": "255.255.255.0",
        "gateway": f"{net}.1",
        "nat": True,
        "address_ranges": [{"type": "IP4", "ip": f"{net}.10", "size": 8}],
    }


@dataclass
class Person:
    """Somebody with an inventory of his own for the same host. shared: state of the machines that both have."""

    name: str
    number: int
    shared: str = "running"
    own: int = 2

    def variables(self, place: Path) -> dict[str, Any]:
        return {
            "ansible_connection": "local",
            "ansible_python_interpreter": "/usr/bin/python3",
            "nebula_root": str(place / "nebula"),
            "nebula_manage_packages": False,
            "nebula_accelerator": "qemu",
            "nebula_reserved_memory": 0,
            "nebula_verify": False,
            "nebula_images": [
                {"name": "halt", "path": str(place / "halt.raw"), "remote_src": True, "format": "raw"},
                {"name": f"data-{self.name}", "size": 1, "type": "DATABLOCK"},
            ],
            "nebula_networks": [network("Public", 6), network(f"Own-{self.name}", self.number)],
            "nebula_templates": [{"name": "halt", "template": TEMPLATE}],
            "nebula_vms": [
                {"name": "shared-%i", "count": 3, "template": "halt", "state": self.shared, "hard": True},
                {"name": f"{self.name}-%i", "count": self.own, "template": "halt", "hard": True},
            ],
        }

    def inventory(self, place: Path) -> Path:
        path = place / f"{self.name}.yml"
        hosts = {"node1": self.variables(place)}
        path.write_text(json.dumps({"nebula_frontend": {"hosts": hosts}, "nebula_nodes": {"hosts": {"node1": {}}}}))
        return path


@dataclass
class Both(Person):
    """Who wants what two others want; of what both have, as the second says."""

    pair: tuple[Person, ...] = ()

    def variables(self, place: Path) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for person in self.pair:
            for key, value in person.variables(place).items():
                if isinstance(value, list):
                    named = {item["name"]: item for item in (*merged.get(key, ()), *value)}
                    merged[key] = list(named.values())
                else:
                    merged[key] = value
        return merged


class Run:
    """One ansible-playbook, on its way."""

    def __init__(self, place: Path, person: Person, playbook: str, *arguments: str) -> None:
        self.what = f"{person.name}: {playbook}"
        self.log = place / f"{person.name}.log"
        home = place / f"home-{person.name}"
        home.mkdir(exist_ok=True)
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "HOME": str(home),
            "LC_ALL": "C.UTF-8",
        }
        environment.pop("PYTHONPATH", None)
        program = str(Path(sys.executable).parent / "ansible-playbook")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [program, "-i", str(person.inventory(place)), *arguments, playbook],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def reached(self, task: str) -> None:
        """Waits until it is at that task, or at its end."""
        wait_for(
            lambda: f"{task}]" in self.output() or self.process.poll() is not None, f"{self.what} at {task}", LIMIT
        )

    def end(self) -> tuple[int, str]:
        try:
            return self.process.wait(timeout=LIMIT), self.output()
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.what} did not end:\n{self.output()}") from None
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()


class Site:
    """The place where two persons meet. run(): as the auditor wants it."""

    def __init__(self) -> None:
        self.place = Path(os.environ["NEBULA_WORLD"], "meeting")
        self.place.mkdir(mode=0o711)
        self.root = self.place / "nebula"
        (self.place / "halt.raw").write_bytes(GUEST.ljust(1 << 20, b"\0"))
        self.one, self.other = Person("one", 1), Person("other", 2)
        self.refused: Counter[str] = Counter()

    def run(self, playbook: str, *arguments: str) -> tuple[int, str]:
        return Run(self.place, self.one, playbook, *arguments).end()

    def meet(self, first: str, second: str, offset: str, allowed: tuple[str, ...] = REFUSALS) -> None:
        """Two runs at once; each ends well, or says one of what is allowed."""
        runs = [Run(self.place, self.one, first)]
        if offset:
            runs[0].reached(offset)
        runs.append(Run(self.place, self.other, second))
        for run in runs:
            code, output = run.end()
            if code == 0:
                continue
            told = re.findall(r"^(?:fatal|failed): .*?(?:=> )(.*)$", output, re.MULTILINE)
            text = "\n".join(told) or output
            found = [words for words in allowed if re.search(words, text)]
            assert found, f"{run.what}, beside {first} + {second} at {offset!r}, says none of what it may:\n{output}"
            self.refused[found[0]] += 1

    def converge(self, again: bool = False) -> None:
        """What both want, by one further run. again: by then nothing is left to do."""
        for _ in range(2 if again else 1):
            code, output = Run(self.place, Both("both", 0, pair=(self.one, self.other)), "site.yml").end()
            assert code == 0, output
        assert not again or re.search(r"^node1 +: ok=\d+ +changed=0 ", output, re.MULTILINE), output
        self.invariants()
        states = {"running": "running", "poweroff": "shut off"}
        assert sorted(domains().values()) == sorted(
            [states[self.other.shared]] * 3 + ["running"] * (self.one.own + self.other.own)
        )
        assert_consistent_here(str(self.root))

    def invariants(self) -> None:
        if not (self.root / "nebula.db").exists():
            assert domains() == {}
            return
        found = consistent(self.root)
        assert len(domains()) == found["vms"], (domains(), found)

    def gone(self) -> None:
        code, output = self.run("playbooks/teardown.yml")
        assert code == 0, output
        assert not self.root.exists(), sorted(self.root.rglob("*"))
        links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
        assert not re.search(r"^(nbr|vnet)", links, re.MULTILINE), links
        assert not re.search(r"qemu-system|libvirtd|virtlogd", processes())


def domains() -> dict[str, str]:
    done = subprocess.run(["virsh", "-c", "qemu:///system", "list", "--all"], capture_output=True, text=True)
    if done.returncode:
        return {}
    rows = [line.split(None, 2) for line in done.stdout.splitlines()[2:] if line.strip()]
    return {name: state.strip() for _number, name, state in rows}


def processes() -> str:
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


@contextlib.contextmanager
def a_site() -> Iterator[Site]:
    site = Site()
    try:
        yield site
    finally:
        with contextlib.suppress(AssertionError):
            site.gone()
        subprocess.run(["rm", "-rf", str(site.place)], check=True)


def bridges() -> list[str]:
    links = subprocess.run(
        ["ip", "-json", "link", "show", "type", "bridge"], capture_output=True, text=True, check=True
    )
    return [link["ifname"] for link in json.loads(links.stdout or "[]") if link]


@in_bare_world
def test_runs_that_make_bridges_at_once() -> None:
    """Eight runs make the same networks in one moment; one that read the catalog's networks before another was made
    does not take that for left over."""
    root = Path(os.environ["NEBULA_WORLD"], "bridges")
    root.mkdir(mode=0o711)
    catalog = str(uuid.uuid4())
    node_file.update(str(root), lambda before: replace(before, catalog=catalog))
    networks = [
        {**network(name, number), "uuid": str(uuid.uuid4()), "id": number, "vn_mad": "bridge", "state": "READY"}
        for number, name in enumerate(("First", "Second", "Third"), 6)
    ]
    for each in networks:
        each["attributes"] = {
            "NETWORK_ADDRESS": each.pop("network_address"),
            "NETWORK_MASK": each.pop("network_mask"),
            "GATEWAY": each.pop("gateway"),
        }
        each["address_ranges"][0].update(ar_id=0, mac=f"02:00:0a:{0x3C + each['id']:02x}:00:0a")
    known = [each["uuid"] for each in networks]

    def call(count: int, as_of: float) -> tuple[str, dict[str, Any]]:
        options = {"root": str(root), "catalog": catalog, "networks": networks[:count], "known": known[:count]}
        return "nebula_node_network", {**options, "as_of": as_of, "node": True}

    try:
        for result in together([call(3, 2.0)] * 8):
            assert not result.get("failed"), result
        assert bridges() == ["nbr6", "nbr7", "nbr8"]
        (older,) = together([call(2, 1.0)])
        assert not older["changed"] and bridges() == ["nbr6", "nbr7", "nbr8"], older
        (newer,) = together([call(2, 3.0)])
        assert newer["changed"] and bridges() == ["nbr6", "nbr7"], newer
        # Given back by another run since this one made it a node.
        (root / node_file.NAME).unlink()
        (late,) = together([call(3, 4.0)])
        assert "this host is no node" in late["msg"] and bridges() == ["nbr6", "nbr7"], late
    finally:
        (gone,) = together([("nebula_node_network", {"root": str(root), "catalog": catalog, "state": "absent"})])
        shutil.rmtree(root)
    assert not gone.get("failed") and bridges() == [], gone
    assert not Path("/run/nebula.lock").exists()


def live(root: str, seed: int, rounds: int) -> None:
    """One person's runs of role vm, without Ansible between: observe, decide, act, record, over and over. Says which
    refusals he met."""
    chance = random.Random(seed)
    refused: Counter[str] = Counter()
    with contextlib.closing(KvmDriver()) as driver:
        for _ in range(rounds):
            state = chance.choice(["running", "running", "poweroff", "reset", "absent"])
            # What grows while it runs counts as much as it may come to, whoever lets it grow.
            grows = {"vcpu": chance.choice([1, 2]), "attributes": {"VCPU_MAX": "2"}}
            lists = [
                {"name": "shared-%i", "count": 2, "template": "web", "state": state, "hard": True, **grows},
                {"name": f"own{seed}-%i", "count": chance.randint(0, 1), "template": "web", "hard": True},
            ]
            seen = poll(driver, root, NODE)
            with contextlib.closing(EmbeddedEngine(root)) as engine:
                with engine.session():
                    engine.hosts.check([seen])
                    engine.vms.observe([seen])
                    outcomes, _warnings = reconcile(engine, lists)
                    plans = engine.vms.plans()
                # A machine that is off can't be reset, and eight addresses are not always enough.
                refused.update(type(outcome.error).__name__ for outcome in outcomes if outcome.error is not None)
                for plan in plans.values():
                    try:
                        done = Batch(plan, driver, root).apply()
                    except StalePlan:
                        refused["StalePlan"] += 1
                        continue
                    errors = [each.error for each in done if each.error is not None]
                    refused.update(str(each["kind"]) for each in errors)
                    assert {each["kind"] for each in errors} <= MAY_BE_REFUSED, errors
                    with engine.session():
                        engine.vms.record(NODE, done, poll(driver, root, NODE).done_number)
    print(json.dumps(refused))


@pytest.mark.parametrize("seed", range(int(os.environ.get("ROUNDS", "2"))))
@in_world
def test_four_people_decide_and_act_at_once(seed: int) -> None:
    with a_place() as place:
        script = "import sys; from {0} import live; live(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))"
        script = script.format("ansible_collections.nebula.provision.tests.integration.test_runs_at_once")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", script, place.root, str(10 * seed + number), "5"],
                env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for number in range(4)
        ]  # fmt: skip
        answers = [(process.communicate(timeout=LIMIT), process.returncode) for process in processes]
        refused: Counter[str] = Counter()
        for (output, errors), code in answers:
            assert code == 0, errors
            refused.update(json.loads(output.splitlines()[-1]))
        print(f"seed {seed}: refused {dict(refused)}")
        assert set(refused) <= MAY_BE_REFUSED, refused
        consistent(Path(place.root))
        place.site({"name": "shared-%i", "count": 2, "template": "web"})
        place.clean()
        consistent(Path(place.root))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(int(os.environ.get("ROUNDS", "1"))))
@in_bare_world
def test_two_runs_at_once(seed: int) -> None:
    chance = random.Random(seed)
    with a_site() as site:
        # On a bare host: both make everything.
        site.meet("site.yml", "site.yml", "")
        site.invariants()
        site.converge(again="ROUNDS" in os.environ)
        # The same machines are wanted running by one, and off by the other; each has others of his own besides.
        site.other.shared, site.one.own, site.other.own = "poweroff", 3, 1
        first, second, offsets, allowed = (
            ("site.yml", "playbooks/teardown.yml", OFFSETS[1:], TAKEN_AWAY),
            ("site.yml", "site.yml", OFFSETS[1:], REFUSALS),
            ("playbooks/teardown.yml", "site.yml", OF_TEARDOWN[1:], TAKEN_AWAY),
        )[seed % 3]
        site.meet(first, second, chance.choice(offsets), allowed)
        site.invariants()
        site.converge()
        site.meet("playbooks/teardown.yml", "playbooks/teardown.yml", chance.choice(OF_TEARDOWN), TAKEN_AWAY)
        site.invariants()
        site.gone()
        print(f"seed {seed}: refused {dict(site.refused)}")
