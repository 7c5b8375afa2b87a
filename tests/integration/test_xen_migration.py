# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that move between two dom0s, each of which carries out its plan, with a link and a shared directory between
them: a part of `make test-xen`."""

from __future__ import annotations

import json
import os
import sys
import threading
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "tools"))

from move_pairs import key_pair  # noqa: E402
from xen_pair import ADDRESSES, SHARED, pair  # noqa: E402

PLACE = "/var/lib/migration"
STEPS = 1500
BOTH = (0, 1)

pytestmark = [
    pytest.mark.skipif(os.environ.get("NEBULA_XEN") != "all", reason="make test-xen: NEBULA_XEN=all"),
    pytest.mark.timeout(4 * STEPS),
]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    with pair(tmp_path_factory.mktemp("pair")) as hosts:
        for host in hosts.hosts:
            host.load(PLACE, ROOT / "tests" / "tools" / "xen_migration.py")
            host.prepare(PLACE)
        yield hosts


class Journey:
    """A machine of that kind, and the root of both nodes, of which they share the datastores, or do not."""

    def __init__(self, hosts, kind, name, shared=True):
        self.hosts, self.kind, self.name = hosts, kind, name
        self.root = f"/var/lib/{name}-{kind}"
        self.number = 0
        for host in hosts.hosts:
            own = f"{SHARED}/{name}-{kind}"
            mounts = f"mkdir -p {own} && mount --bind {own} {self.root}/datastores" if shared else "true"
            host.sudo(["sh", "-ec", f"mkdir -p {self.root}/datastores && {mounts}"])

    def end(self):
        for number in BOTH:
            self.apply(number, wanted="DONE", generation=self.number + 1, hard=True)
        for host in self.hosts.hosts:
            host.sudo(["sh", "-c", f"umount {self.root}/datastores; rm -rf {self.root}"], check=False)

    def apply(self, number, **planned):
        """The machine's outcome, by what its host says."""
        certificate, key = key_pair(str(number))
        given = {"root": self.root, "number": self.number, "certificate": certificate, "key": key, **planned}
        argv = ["env", f"PYTHONPATH={PLACE}", "python3", f"{PLACE}/xen_migration.py", f"{PLACE}/demo", self.kind]
        done = self.hosts.hosts[number].sudo(argv, check=False, timeout=STEPS, stdin=json.dumps(given))
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        print(number, found["state"], found["moved"], found["error"], sep="\t")
        return found

    def one(self, number, wanted):
        self.number += 1
        found = self.apply(number, wanted=wanted, generation=self.number)
        assert found["error"] is None, found
        return found

    def start(self):
        assert self.one(0, "RUNNING")["state"] == "RUNNING"
        self.wait_for_guest(0)

    @property
    def console(self):
        return f"{self.root}/datastores/0/{self.vm_id}/console.log"

    def wait_for_guest(self, number, boots=1):
        """Until it has been ready so often. What it says is on its way for a while, on a busy machine."""
        ready = f"$(grep -c 'nebula-guest: ready' {self.console})"
        waits = f'until [ "{ready}" -ge {boots} ]; do sleep 1; done'
        self.hosts.hosts[number].sudo(["timeout", str(STEPS), "sh", "-c", waits], timeout=STEPS + 60)

    @property
    def vm_id(self):
        return {"pv": 1, "pvh": 2, "hvm": 3}[self.kind]

    def move(self, source=0, way="live"):
        """The outcomes of the old host and the new one."""
        self.number += 1
        target, token, found = 1 - source, uuid.uuid4().hex, {}

        def act(number):
            leaves = number == source
            move = {
                "token": token,
                "role": "source" if leaves else "target",
                "way": way,
                "peer": f"dom0-{1 - number}",
                "address": ADDRESSES[target] if leaves else "",
                "port": 49152,
                "certificate": key_pair(str(1 - number))[0],
                "limit": STEPS,
                "meeting": 300,
            }
            found[number] = self.apply(number, wanted="RUNNING", generation=self.number, previous="RUNNING", move=move)

        threads = [threading.Thread(target=act, args=(number,)) for number in BOTH]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        return found[source], found[target]

    def domains(self, number):
        listed = self.hosts.hosts[number].sudo(["xl", "list"]).stdout
        return [line.split()[0] for line in listed.splitlines()[2:]]

    def boots(self, number):
        return int(self.hosts.hosts[number].sudo(["grep", "-c", "nebula-guest: booting", self.console]).stdout)

    def runs_on(self, number, boots=1):
        """Only there, and it was not started anew; it does what it is asked."""
        assert self.domains(number) == [f"one-{self.vm_id}"] and self.domains(1 - number) == []
        there = self.hosts.hosts[1 - number].sudo(["find", "/etc/xen", "-name", "one-*"]).stdout
        assert there == ""
        self.number += 1
        assert self.apply(number, wanted="POWEROFF", generation=self.number)["error"] is None
        assert self.boots(number) == boots


@pytest.fixture
def journey(hosts, request):
    made = Journey(hosts, *request.param)
    yield made
    made.end()


@pytest.mark.parametrize("journey", [("pv", "stays")], indirect=True)
def test_a_pv_machine_stays(hosts, journey):
    """Debian builds its Xen without shadow paging (CONFIG_SHADOW_PAGING), by which what such a machine writes would be
    followed."""
    journey.start()
    left, came = journey.move()
    assert (left["moved"], left["state"], came["moved"]) == ("stayed", "RUNNING", "absent")
    assert "can't follow what a PV machine writes" in left["error"]["remedy"]
    journey.runs_on(0)


@pytest.mark.parametrize("journey", [("hvm", "leaves")], indirect=True)
def test_it_goes_on_on_the_other_host(hosts, journey):
    journey.start()
    left, came = journey.move()
    assert (left["moved"], came["moved"], came["state"]) == ("left", "arrived", "RUNNING"), (left, came)
    journey.runs_on(1)


@pytest.mark.parametrize("journey", [("pvh", "returns")], indirect=True)
def test_there_and_back(hosts, journey):
    journey.start()
    for source in BOTH:
        left, came = journey.move(source)
        assert (left["moved"], came["moved"], came["state"]) == ("left", "arrived", "RUNNING"), (left, came)
    journey.runs_on(0)


@pytest.mark.parametrize("journey", [("pvh", "alone", False)], indirect=True)
def test_one_whose_disks_the_other_host_does_not_see_stays(hosts, journey):
    journey.start()
    left, came = journey.move()
    assert (left["moved"], left["state"], came["moved"]) == ("stayed", "RUNNING", "absent")
    assert "do not see the same directory" in left["error"]["found"]
    journey.runs_on(0)


@pytest.mark.parametrize("journey", [("pvh", "cold", False)], indirect=True)
def test_its_disks_come_with_it_where_it_may_be_powered_off(hosts, journey):
    journey.start()
    left, came = journey.move(way="cold")
    assert (left["moved"], came["moved"], came["state"]) == ("left", "arrived", "RUNNING"), (left, came)
    # Its console log came along, and it boots there.
    journey.wait_for_guest(1, boots=2)
    assert journey.boots(1) == 2
    assert hosts.first.sudo(["find", f"{journey.root}/datastores/0", "-mindepth", "1", "-name", "[0-9]*"]).stdout == ""
    journey.runs_on(1, boots=2)
