# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines as results show them, plans as they are handed over, and what nodes answer as it is read."""

from __future__ import annotations

import dataclasses
import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmRecord
from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import from_plain, to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import (
    GivenUp,
    Observed,
    ObservedVm,
    Plan,
    PlannedVm,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.template_changes import Change
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms import vm_results
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_outcome import Difference, Outcome
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


# -- what a run did ---------------------------------------------------------------------------------------------------
def test_a_machine_that_came_stayed_went_or_failed():
    error = Conflict("VM d", "it is there", "Rename it")
    nothing = VmRecord(**{field.name: getattr(RECORD, field.name) for field in dataclasses.fields(VmRecord)})
    items = vm_results.vm_items(
        [
            Outcome("a", None, record(name="a")),
            Outcome("b", RECORD, nothing),
            Outcome("c", RECORD, None),
            Outcome("d", RECORD, RECORD, error),
        ]
    )
    assert [item.name for item in items] == ["a", "b", "c", "d"]
    assert [item.is_changed for item in items] == [True, False, True, False]
    assert (items[0].before, items[2].after) == (None, None)
    assert items[0].after == {
        "state": "RUNNING",
        "wanted": "RUNNING",
        "host": "node1",
        "cpu": 0.5,
        "vcpu": None,
        "memory": 128,
        "template": "",
        "error": "",
        "nics": [{"network": "Public", "ip": "10.66.0.10", "mac": "02:00:0a:42:00:0a"}],
        "disks": [{"disk_id": 0, "image": "demo", "target": "vda", "size": 16}],
    }
    assert items[3].error is error


def test_what_becomes_different_is_told_and_two_secrets_are_told_apart():
    changes = [Change("CPU", "0.5", "1", "live"), Change("CONTEXT", "[ A = (secret) ]", "[ A = (secret) ]", "live")]
    (item,) = vm_results.vm_items([Outcome("web", RECORD, record(cpu=1.0, generation=2), changes=changes)])
    assert item.before["changed"] == {"CPU": "0.5", "CONTEXT": "[ A = (secret) ]"}
    assert item.after["changed"] == {"CPU": "1", "CONTEXT": "[ A = (secret) ], another"}


def test_a_reboot_is_seen_by_its_generation():
    (item,) = vm_results.vm_items([Outcome("web", RECORD, record(generation=2))])
    assert item.is_changed
    assert (item.before["generation"], item.after["generation"]) == (1, 2)
    (item,) = vm_results.vm_items([Outcome("web", RECORD, record(generation=2, state="POWEROFF"))])
    assert "generation" not in item.after


def test_machines_that_moved_by_themselves_are_told_once():
    decided = [Outcome("web", RECORD, record(memory=256))]
    items = vm_results.vm_items(decided, [record(name="web"), record(name="db", state="POWEROFF")])
    assert [item.name for item in items] == ["web", "db"]
    assert items[1].before == {"state": ""}
    assert items[1].after["state"] == "POWEROFF"
    assert items[1].is_changed


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


# -- answers ----------------------------------------------------------------------------------------------------------
def test_polls_are_read_bare_or_as_registered():
    seen = Observed("node1", vms=(ObservedVm(0, "u", "RUNNING"),), as_of=5)
    for answer in (to_plain(seen), {"observed": to_plain(seen), "changed": False}):
        assert vm_results.polls_of([answer]) == [seen]


@pytest.mark.parametrize("answer", [{}, {"msg": "no route", "unreachable": True}, {"observed": {}}, {"host": ""}])
def test_a_node_that_does_not_even_say_its_name_is_left_out(answer):
    assert vm_results.polls_of([answer]) == []


def test_a_node_that_was_not_reached_says_its_name():
    (node,) = vm_results.polls_of([{"host": "node1", "reached": False}])
    assert (node.host, node.reached) == ("node1", False)


@pytest.mark.parametrize(
    ("answer", "kind"), [("x", "str"), (None, "NoneType"), ({"observed": [1]}, "list"), (5, "int")]
)
def test_what_is_no_poll_is_refused(answer, kind):
    with pytest.raises(InvalidValue) as caught:
        vm_results.polls_of([answer])
    assert f"what a node observed: it is a {kind}. Give the registered results of polls" in str(caught.value)


def test_a_poll_of_another_version_is_refused_with_the_key():
    honest = Observed("node2", vms=(ObservedVm(0, "u", "RUNNING"),))
    found = vm_results.polls_of([{"host": "node1", "mood": "good"}, to_plain(honest)])
    assert [(node.host, node.reached) for node in found] == [("node1", False), ("node2", True)]
    assert found[1] == honest
    (host, why), *others = vm_results.refused_answers(found).items()
    assert (host, others) == ("node1", []) and "host node1" in why and "'mood'" in why


def test_who_answers_is_who_was_asked():
    forged = to_plain(Observed("node2", vms=(ObservedVm(0, "u", "POWEROFF"),)))
    honest = Observed("node2", vms=(ObservedVm(0, "u", "RUNNING"),))
    found = vm_results.polls_of([to_plain(honest), {"observed": forged, "host": "node1"}])
    assert found[0] == honest and (found[1].host, found[1].reached) == ("node1", False)
    # A name that two answers have is nobody's.
    (both,) = vm_results.polls_of([to_plain(honest), {"observed": forged}])
    assert not both.reached


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


def test_a_difference_is_shown_with_what_to_do():
    difference = Difference("web", 0, "node1", "MEMORY", "128", "256", "differs in MEMORY: …", "power it off first")
    assert vm_results.difference_view(difference) == {
        "name": "web", "id": 0, "host": "node1", "attribute": "MEMORY", "found": "128", "wanted": "256",
        "remedy": "power it off first",
        "sentence": "VM web (id 0) differs in MEMORY: …; left as it is: power it off first",
    }  # fmt: skip
