# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines for the tests of what an embedded engine does with them, and short forms of what is asked of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import from_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.move import MeetingPlace, Move
from ansible_collections.nebula.provision.plugins.module_utils.model.network import AddressRange, Network
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed, ObservedVm, VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState, ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.conftest import (
    decide,
    obey,
    row,
)

WEB = {"name": "web", "template": "web"}


PLAIN = parse('CPU = 0.5\nMEMORY = 128\nDISK = [ IMAGE = "demo" ]\nNIC = [ NETWORK = "Public" ]\n')


VNC = replace(PLAIN, attributes=(*PLAIN.attributes, ("GRAPHICS", (("TYPE", "VNC"),))))


ERROR = {"kind": "HypervisorError", "asked": "VM web", "found": "it broke", "remedy": "Mend it"}


@pytest.fixture
def web(inside):
    """A machine that runs."""
    obey(inside, decide(inside, WEB))
    return inside


def record(engine, vm_id=0):
    (found,) = engine.vms.pool(ids=[vm_id], done=True)
    return found


def say(engine, state, error=None, vm_id=0, generation=None, **values):
    """What a node reports of one machine."""
    generation = record(engine, vm_id).generation if generation is None else generation
    return engine.vms.record("node1", [VmOutcome(vm_id, generation, state, True, error, **values)])


def ports(engine):
    return [tuple(each) for each in engine.store.rows("SELECT port, vm_id FROM vnc_ports ORDER BY port")]


def console(port):
    return {"attributes": {"GRAPHICS": {"TYPE": "VNC", "PORT": str(port)}}}


def nics(engine, vm_id=0):
    """Number, network, MAC and IP address of each."""
    return [(nic["nic_id"], nic["network"], nic["mac"], nic["ip"]) for nic in record(engine, vm_id).nics]


PUBLIC = {"NETWORK": "Public"}


ANEW = dict(WEB, recreate=True)


@pytest.fixture
def two(inside):
    """A machine with two NICs that runs, and a second network."""
    ranges = (AddressRange(0, "IP4", 10, ip="10.77.0.10"),)
    inside.networks.allocate(Network(None, "Private", bridge="nbr1", address_ranges=ranges))
    obey(inside, decide(inside, dict(WEB, nics=[PUBLIC, PUBLIC])))
    return inside


def on_xen(engine, name, **values):
    """A machine that is off, on a host that adds and takes away disks and NICs."""
    engine.hosts.allocate(Host(None, "xen1", "xen", state=HostState.MONITORED, memory=4096, cpu=16.0))
    item = {
        "name": name,
        "template": "web",
        "host": "xen1",
        "state": "poweroff",
        "attributes": {"OS": {"KERNEL": "/boot/vmlinuz"}},
        "disks": [{"IMAGE": "demo", "DEV_PREFIX": "xvd"}],
        **values,
    }
    obey(engine, decide(engine, item))
    return item


@pytest.fixture
def db(inside):
    """A machine on node1 that writes to image data, which node2 sees too."""
    inside.hosts.allocate(Host(None, "node2", state=HostState.MONITORED, memory=4096, cpu=16.0))
    image = inside.images.allocate(Image(None, "data", type=ImageType.DATABLOCK, persistent=True))
    inside.images.update(image.id, state=ImageState.READY, size=16, format="qcow2")
    obey(inside, decide(inside, dict(DB, host="node1")))
    return inside


DB = {"name": "db", "template": "web", "disks": [{"IMAGE": "demo"}, {"IMAGE": "data"}]}


DROPPED = dict(DB, disks=[{"IMAGE": "demo"}], recreate=True)


TAKER = dict(DB, name="taker", host="node2")


WAITS = "it is persistent and used by db (id 0). It is being ended, or loses it: run again when that is done"


# -- machines that move ------------------------------------------------------------------------------------------------
PLACES = {"node2": MeetingPlace("10.0.0.2", 4711)}
FIRST = dict(WEB, host="node1", attributes={"GRAPHICS": {"TYPE": "VNC"}})


@pytest.fixture
def fleet(inside):
    """A machine with a console that runs on the first of two hosts."""
    inside.hosts.allocate(Host(None, "node2", state=HostState.MONITORED, memory=4096, cpu=16.0))
    obey(inside, decide(inside, FIRST))
    return inside


def move_of(engine, vm_id=0):
    """The machine's newest move as the catalog keeps it."""
    return from_plain(Move, json.loads(row(engine, vm_id)["move"]))


def poll(host, *ids, state="RUNNING", **values):
    """A host that answers, and has these machines."""
    vms = tuple(ObservedVm(vm_id, "", state) for vm_id in ids)
    return Observed(host, vms=vms, **values)


def promised(engine):
    """What each host holds for machines: memory, overhead, processors, and how many they are."""
    return {h.name: (h.memory_used, h.overhead_used, h.cpu_used, h.vms) for h in engine.hosts.pool()}


def everything(engine):
    """All that the catalog holds."""
    tables = [each["name"] for each in engine.store.rows("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {table: [tuple(each) for each in engine.store.rows(f"SELECT * FROM {table}")] for table in tables}


def refused(engine, *items):
    outcomes, _warnings = reconcile(engine, items)
    return [str(outcome.error) for outcome in outcomes if outcome.error]
