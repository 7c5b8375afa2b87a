# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several machines move to and fro between three nodes, and in each round something is hit, at any moment: a module, a
libvirtd, a QEMU, a host's power, the link, or the controller. After each round every machine runs on one node alone
with all of its data, by the next run, and nothing is left of it elsewhere.

NEBULA_MOVES has so many rounds, and TORTURE_SEED repeats what was seen."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import secrets
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest
from in_world import in_nodes

from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.move import (
    COLD,
    LIVE,
    SOURCE,
    Leftover,
    owner_after,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Plan, PlannedVm
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.tests.integration.fleet import (
    Acting,
    Fleet,
    a_fleet,
    outcomes_of,
    without_locks,
)
from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.test_move_faults import kill, kill_daemon, start_daemon

ROUNDS = int(os.environ.get("NEBULA_MOVES", "3"))
SEED = os.environ.get("TORTURE_SEED", "")
MACHINES, DATA = 3, 4 << 20
# So slow that a round takes some seconds, of which each moment may be the one.
SLOW = ("tbf", "rate", "60mbit", "burst", "64kb", "latency", "400ms")
LONGEST = 6.0
NOTHING, MODULE, LIBVIRTD, QEMU, POWER, LINK = "nothing", "module", "libvirtd", "qemu", "power", "link"
# Its run ends before the other host has got its plan, or before anybody has heard the answers.
CONTROLLER = "controller"
FAULTS = (NOTHING, MODULE, LIBVIRTD, QEMU, POWER, LINK, CONTROLLER)


class Torture:
    """The machines, and on which node each is."""

    def __init__(self, fleet: Fleet, chance: random.Random) -> None:
        self.fleet, self.chance = fleet, chance
        self.hosts = sorted(fleet.hosts)
        self.vms: dict[int, Vm] = {}
        self.where: dict[int, str] = {}
        self.digests: dict[int, str] = {}
        # Those that are still to come before any comes again.
        self.faults: list[str] = []
        for host in self.hosts:
            self.set_up(host)
        for number in range(1, MACHINES + 1):
            vm = fleet.vm(number)
            data = Disk(1, "vdb", type="FS", size=DATA >> 20, format="raw", driver="raw")
            vm = replace(vm, disks=(*vm.disks, data))
            self.vms[number], self.where[number] = vm, chance.choice(self.hosts)
            fleet.bring(self.where[number], vm, wanted="POWEROFF")
            content = chance.randbytes(DATA)
            (fleet.directory(self.where[number], vm) / "disk.1").write_bytes(content)
            self.digests[number] = hashlib.sha256(content).hexdigest()
        for host in self.hosts:
            self.bring(host)

    def set_up(self, host: str) -> None:
        """What it has forgotten that was without power."""
        without_locks(self.fleet.hosts[host])
        self.fleet.hosts[host].run("tc", "qdisc", "replace", "dev", "eth0", "root", *SLOW)

    def of(self, host: str) -> list[int]:
        return [number for number, at in self.where.items() if at == host]

    def bring(self, host: str, *leftovers: Leftover) -> None:
        """By the next run: the machines of a host run there, and what others have left is gone."""
        number = self.fleet.next()
        planned = [PlannedVm(self.vms[each], number, "RUNNING") for each in self.of(host)]
        plan = self.fleet.plan(host, *planned, number=number, leftovers=leftovers)
        for outcome in outcomes_of(self.fleet.act({host: plan})[host].result()):
            assert outcome.error is None, outcome

    def round(self) -> str:
        """Return what was done."""
        source = self.chance.choice([host for host in self.hosts if self.of(host)])
        target = self.chance.choice([host for host in self.hosts if host != source])
        there = self.of(source)
        moving = self.chance.sample(there, self.chance.randint(1, len(there)))
        self.faults = self.faults or self.chance.sample(FAULTS, len(FAULTS))
        way, fault = self.chance.choice((LIVE, LIVE, COLD)), self.faults.pop()
        hit, delay = self.chance.choice((source, target)), self.chance.uniform(0, LONGEST)
        done = f"{moving} from {source} to {target}, {way}; {fault} of {hit} after {delay:.2f} s"
        plans = self.fleet.moves(source, target, *(self.vms[each] for each in moving), way=way, hard=way == COLD)
        given = plans
        if fault == CONTROLLER and self.chance.random() < 0.5:
            given = {hit: plans[hit]}
            done += ", and no other plan was given out"
        acting = self.fleet.act(given)
        with contextlib.suppress(subprocess.TimeoutExpired):
            # Many are over before they are hit, as many moves are.
            acting[hit].process.wait(delay)
        self.hit(fault, hit, acting, self.chance.choice(moving))
        for each in acting.values():
            each.result()
        self.mend(fault, hit)
        self.find_no_double()
        self.settle(plans, moving)
        self.check()
        return done

    def hit(self, fault: str, host: str, acting: Mapping[str, Acting], number: int) -> None:
        node = self.fleet.hosts[host]
        if fault == MODULE:
            with contextlib.suppress(ProcessLookupError):
                kill(acting[host])
        elif fault == LIBVIRTD:
            kill_daemon(self.fleet, host)
            start_daemon(self.fleet, host)
        elif fault == QEMU:
            node.run("sh", "-c", f"kill -9 $(cat /run/libvirt/qemu/one-{number}.pid)", check=False)
        elif fault == POWER:
            node.kill()
        elif fault == LINK:
            node.unplug()

    def mend(self, fault: str, host: str) -> None:
        if fault == POWER:
            self.fleet.hosts[host].start()
            self.set_up(host)
        elif fault == LINK:
            self.fleet.hosts[host].plug()

    def running(self) -> Counter[str]:
        """How many of each machine do not stand still."""
        command = ("virsh", "list", "--name", "--state-running")
        return Counter(name for node in self.fleet.hosts.values() for name in node.run(*command).stdout.split())

    def find_no_double(self) -> None:
        doubles = [name for name, count in self.running().items() if count > 1]
        assert not doubles, f"they run twice: {doubles}"

    def settle(self, plans: Mapping[str, Plan], moving: list[int]) -> None:
        """As the catalog does: ask both hosts, then have each bring up what it has and remove what it has not."""
        source, target = plans
        answers = self.fleet.ask(plans)
        for number in moving:
            mine = {host: each.moved for host, found in answers.items() for each in found if each.vm_id == number}
            owners = {owner_after(moved) for moved in mine.values()} - {None}
            assert len(owners) == 1, f"machine {number}: {mine}"
            self.where[number] = source if owners == {SOURCE} else target
        self.find_no_double()
        tokens = {each.vm.vm_id: each.move.token for each in plans[source].vms if each.move is not None}
        for host in self.hosts:
            left = [number for number in moving if host in plans and self.where[number] != host]
            self.bring(host, *(Leftover(each, self.vms[each].uuid, tokens[each]) for each in left))

    def check(self) -> None:
        assert self.running() == Counter(f"one-{number}" for number in self.vms)
        found = self.fleet.audit([(self.vms[number], host) for number, host in self.where.items()])
        assert found == [], "\n".join(map(str, found))
        for host in self.hosts:
            found, own = self.fleet.poll(host), self.of(host)
            assert {each["vm_id"]: each["state"] for each in found["vms"]} == dict.fromkeys(own, "RUNNING"), host
            assert found["moves"] == [], host
            place = self.fleet.directory(host, self.vms[1]).parent
            assert sorted(os.listdir(place) if place.exists() else ()) == sorted(map(str, own)), host
            for number in own:
                directory = place / str(number)
                assert not [name for name in os.listdir(directory) if name.startswith(".")], directory
                assert hashlib.sha256((directory / "disk.1").read_bytes()).hexdigest() == self.digests[number], number
                self.find_going_on(host, number)

    def find_going_on(self, host: str, number: int) -> None:
        vm = self.vms[number]
        before = self.fleet.console(host, vm)
        wait_for(lambda: self.fleet.console(host, vm) != before, f"machine {number} to go on")


@pytest.mark.timeout(300 + 120 * ROUNDS)
@in_nodes(3)
def test_machines_that_move_while_something_is_hit() -> None:
    seed = SEED or str(secrets.randbelow(1 << 24))
    with a_fleet() as fleet:
        torture = Torture(fleet, random.Random(seed))
        for number in range(ROUNDS):
            # Before it is done: what fails is to be repeated.
            print(f"TORTURE_SEED={seed}, round {number + 1} of NEBULA_MOVES={ROUNDS}", flush=True)
            print(torture.round(), flush=True)
