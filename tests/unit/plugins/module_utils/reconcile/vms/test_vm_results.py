# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines as results show them, plans as they are handed over, and what nodes answer as it is read."""

from __future__ import annotations

import dataclasses
import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmRecord
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import from_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import (
    GivenUp,
    Observed,
    ObservedVm,
    Plan,
    PlannedVm,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms import vm_results
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

ROOT = "/var/lib/nebula"
NIC = {"nic_id": 0, "network": "Public", "ip": "10.66.0.10", "ip6": "", "mac": "02:00:0a:42:00:0a"}
RECORD = VmRecord(
    id=0,
    name="web",
    uuid="0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10",
    state="RUNNING",
    wanted="RUNNING",
    host="node1",
    hypervisor="kvm",
    generation=1,
    cpu=0.5,
    vcpu=None,
    memory=128,
    addresses=("10.66.0.10",),
    nics=(NIC,),
    disks=({"disk_id": 0, "image": "demo", "target": "vda", "size": 16},),
    graphics={"type": "vnc", "listen": "127.0.0.1", "port": 5900},
    request=parse('CONTEXT = [ PASSWORD = "s3cr3t" ]'),
)


def record(**changes):
    return dataclasses.replace(RECORD, **changes)


# -- what is shown ----------------------------------------------------------------------------------------------------
def test_a_machine_is_shown_with_its_places_and_the_ways_to_it():
    shown = vm_results.vm_view(RECORD, ROOT)
    assert (shown["id"], shown["directory"], shown["domain"]) == (0, f"{ROOT}/datastores/0/0", "one-0")
    assert shown["console"] == f"{ROOT}/datastores/0/0/console.log"
    assert shown["access"] == "virsh console one-0, VNC 127.0.0.1:5900"
    assert (shown["ip"], shown["mac"], shown["addresses"]) == ("10.66.0.10", "02:00:0a:42:00:0a", ["10.66.0.10"])
    assert json.loads(json.dumps(shown)) == shown
    assert "s3cr3t" not in json.dumps(shown)


@pytest.mark.parametrize(
    ("changes", "unsure", "known"),
    [
        ({}, True, True),
        ({"state": "PROLOG"}, False, True),
        ({"state": "PROLOG"}, True, False),
        ({"state": "PROLOG", "generation": 2}, True, True),
    ],
)
def test_only_a_machine_that_check_mode_would_create_has_no_id(changes, unsure, known):
    shown = vm_results.vm_view(record(**changes), ROOT, unsure)
    if known:
        assert (shown["id"], shown["uuid"], shown["domain"]) == (0, RECORD.uuid, "one-0")
        return
    assert shown["id"] is None
    assert [shown[key] for key in ("uuid", "directory", "console", "domain")] == [""] * 4
    assert "one-" not in shown["access"]


@pytest.mark.parametrize(
    ("nics", "ip", "mac"),
    [
        ((), "", ""),
        (({"ip6": "fd00::1", "ip": "", "mac": "m"},), "fd00::1", "m"),
        (({"ip": "10.0.0.1", "ip6": "fd00::1", "mac": "m"}, {"ip": "10.0.0.2", "mac": "n"}), "10.0.0.1", "m"),
    ],
)
def test_its_address_is_that_of_its_first_nic(nics, ip, mac):
    shown = vm_results.vm_view(record(nics=nics, addresses=None), ROOT)
    assert (shown["ip"], shown["mac"], shown["addresses"]) == (ip, mac, None)


# -- what was given up -------------------------------------------------------------------------------------------------
LEFT, ENDED = "it is left as it is.", "it is powered off, and its disks stay."
REMEDY = "nebula_end_given_up: true (end_given_up of nebula_vm) powers it off and leaves its disks"


@pytest.mark.parametrize(
    ("changes", "ending", "hosts", "told"),
    [
        ({}, False, None, f"{LEFT} Nobody else gets 10.66.0.10. {REMEDY}"),
        (
            {"doubles": ("web (id 4)",)},
            False,
            None,
            f"{LEFT} web (id 4) has an address of it (10.66.0.10) too. {REMEDY}",
        ),
        ({"addresses": ()}, False, None, f"{LEFT} {REMEDY}"),
        ({"doubles": ("web (id 4)",)}, True, None, f"{ENDED} web (id 4) has an address of it (10.66.0.10) too."),
        ({}, True, ["node1"], ENDED),
        ({}, True, ["node2"], f"{LEFT} Nobody else gets 10.66.0.10. {REMEDY}"),
    ],
)
def test_machines_that_came_back_are_named_with_what_becomes_of_them(changes, ending, hosts, told):
    machine = GivenUp(3, "u", "old", "node1", "RUNNING", ("10.66.0.10",))
    (text,) = vm_results.warnings_of_given_up([dataclasses.replace(machine, **changes)], ending, hosts)
    said = text.removeprefix("Host node1 has VM old (id 3), RUNNING, which was given up: ")
    assert said == told


# -- plans ------------------------------------------------------------------------------------------------------------
def test_a_plan_is_json_that_a_node_reads_back():
    plan = Plan("c", 3, "node1", (PlannedVm(Vm(0, "u", "web", "kvm", 0.5, 128), 1, "RUNNING"),))
    (name, text), *others = vm_results.as_plans({"node1": plan}).items()
    assert (name, others) == ("node1", [])
    assert from_plain(Plan, json.loads(text)) == plan
    assert ": " not in text, "plans of thousands of machines travel without blanks"


# -- consoles without a password ---------------------------------------------------------------------------------------
class Catalog:
    def __init__(self, *records):
        self.records, self.asked = records, 0
        self.vms = self

    def pool(self):
        self.asked += 1
        return list(self.records)


def polled(*open_consoles):
    return Observed(
        "node1", vms=tuple(ObservedVm(0, RECORD.uuid, "RUNNING", open_console=each) for each in open_consoles)
    )


@pytest.mark.parametrize(
    ("template", "named"),
    [
        ("GRAPHICS = [ TYPE = vnc ]", True),
        ("GRAPHICS = [ TYPE = spice, RANDOM_PASSWD = YES ]", True),
        ("GRAPHICS = [ TYPE = vnc, RANDOM_PASSWD = NO ]", False),
        ("GRAPHICS = [ TYPE = vnc, PASSWD = chosen ]", False),
        ("CPU = 1", False),
    ],
)
def test_machines_whose_console_is_open_are_named(template, named):
    catalog = Catalog(record(request=parse(template)), record(name="other", uuid="another", request=parse(template)))
    told = vm_results.open_consoles(catalog, [polled(True)])
    first = "Virtual machines whose graphics have no password before they are started anew: web"
    assert [text.partition(". ")[0] for text in told] == [first] * named


def test_where_no_console_is_open_the_catalog_is_not_read():
    catalog = Catalog(record(request=parse("GRAPHICS = [ TYPE = vnc ]")))
    assert vm_results.open_consoles(catalog, [polled(False), Observed("node2", reached=False)]) == []
    assert catalog.asked == 0
