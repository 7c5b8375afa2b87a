# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node says when it is looked at: all that a real one says is read, and nothing else."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import datetime, timezone

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.answers import answer_bounds, observed
from ansible_collections.nebula.provision.plugins.module_utils.model.audit import Domain, Inventory
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.move import STAGES, MoveSeen
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Comparison, Observed, ObservedVm

UUID = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
REAL = Observed(
    "node1",
    catalog=UUID,
    plan_number=3,
    done_number=3,
    memory=4096,
    cpu=4.0,
    foreign_ids=(9,),
    ports=(5900,),
    vms=(ObservedVm(0, UUID, "RUNNING", 2, 1.5, 128), ObservedVm(1, UUID, "UNKNOWN", ended="")),
    as_of=1_700_000_000,
    facts={"problem": ""},
    contents=("0" * 64,),
    images=(f"{UUID}-0", f"own-{UUID}-1"),
    returns={f"{UUID}-2": 4096},
    lengths={f"{UUID}-2": 5000},
    room=100,
    networks=(UUID,),
    compared=(Comparison(4, UUID, 1, ("x",)),),
    moves=tuple(MoveSeen(number, "f" * 32, stage) for number, stage in enumerate(STAGES)),
)

# In the place of a number, where each is tried.
BEYOND = object()
CORES = {"sockets": 1, "cores": 4, "threads": 1}
DOMAIN = to_plain(Domain("one-0", UUID, 0, UUID, "RUNNING"))


def is_number(each):
    return any(kind in str(each.type) for kind in ("int", "float"))


def filled(said, beyond):
    if isinstance(said, dict):
        return {key: filled(value, beyond) for key, value in said.items()}
    if isinstance(said, list):
        return [filled(value, beyond) for value in said]
    return beyond if said is BEYOND else said


def test_what_a_node_says_is_read_under_the_name_by_which_it_was_asked():
    assert observed.read("node1", to_plain(REAL)) == REAL
    assert observed.read("node1", {**to_plain(REAL), "host": "node2"}) == REAL


@pytest.mark.parametrize(
    "said",
    [
        {"mood": "good"},
        {"observed": {}},
        {"vms": "x"},
        {"vms": [{"vm_id": 0, "uuid": "u", "state": "NONSENSE"}]},
        {"vms": [{"vm_id": 0, "uuid": "u", "state": "DONE"}]},
        {"vms": [{"vm_id": -1, "uuid": "u", "state": "RUNNING"}]},
        {"vms": [{"vm_id": 1 << 40, "uuid": "u", "state": "RUNNING"}]},
        {"vms": [{"vm_id": 0, "uuid": "u", "state": "RUNNING", "memory": -1}]},
        {"vms": [{"vm_id": 0, "uuid": "\x1b[2J", "state": "RUNNING"}]},
        *(
            {"inventory": {"domains": [{**DOMAIN, "topology": topology}]}}
            for topology in ({**CORES, "sockets": 0}, {**CORES, "cores": 1 << 62}, {})
        ),
        *(
            {"inventory": {"domains": [{**DOMAIN, "growth": growth}]}}
            for growth in ({"memory": -1}, {"vcpu": 1 << 62}, {"slots": "x"})
        ),
        {"vms": [{"vm_id": 0, "uuid": "u", "state": "RUNNING", "ended": "x"}]},
        {"vms": [{"vm_id": 0, "uuid": "u", "state": "RUNNING", "cpu_time": 1e300}]},
        {"vms": [{"vm_id": 0, "uuid": "u", "state": "RUNNING", "cpu_time": float("nan")}]},
        {"as_of": 1 << 53},
        {"cpu": float("inf")},
        {"facts": {"problem": float("nan")}},
        {"plan_number": -1},
        {"plan_number": 1 << 40},
        {"plan_number": True},
        {"memory": 1 << 50},
        {"cpu": -1.0},
        {"ports": [70_000]},
        {"contents": ["../etc/passwd"]},
        {"images": ["../etc/passwd"]},
        {"returns": {"../etc/passwd": 1}},
        {"returns": {f"{UUID}-2": -1}},
        {"lengths": {"../etc/passwd": 1}},
        {"lengths": {f"{UUID}-2": 1 << 60}},
        {"networks": ["x" * 500]},
        {"catalog": "\u202e"},
        {"facts": [1]},
        {"moves": "x"},
        {"moves": [{"vm_id": -1, "token": "f", "stage": "left"}]},
        {"moves": [{"vm_id": 1 << 40, "token": "f", "stage": "left"}]},
        {"moves": [{"vm_id": 0, "token": "../f", "stage": "left"}]},
        {"moves": [{"vm_id": 0, "token": "f" * 500, "stage": "left"}]},
        {"moves": [{"vm_id": 0, "token": "f", "stage": "gone"}]},
        {"moves": [{"vm_id": 0, "token": "f", "stage": "left"}] * 10_001},
    ],
)
def test_what_no_node_says_is_refused_with_its_name(said):
    with pytest.raises(InvalidValue, match="host node1: what it answered"):
        observed.read("node1", {**to_plain(REAL), **said})


@pytest.mark.parametrize("answer", ["x", None, 5, [1], True])
def test_an_answer_that_is_no_dict(answer):
    with pytest.raises(InvalidValue, match="host node1"):
        observed.read("node1", answer)


def deep():
    value = []
    for _each in range(5000):
        value = [value]
    return value


@pytest.mark.parametrize("answer", ["x", 5, [1], {"facts": {"a": deep()}}, {"host": "x" * 70_000}])
def test_an_answer_of_no_form_is_handed_on_as_none(answer):
    option = observed.as_option("node1", answer)
    assert (option["host"], option["reached"]) == ("node1", False)
    assert "host node1" in option["facts"]["refused"]
    assert not observed.read("node1", option).reached


def test_an_answer_is_handed_on_under_the_name_that_was_asked():
    assert observed.as_option("node1", {"host": "node2", "memory": 5}) == {"host": "node1", "memory": 5}


def test_a_refused_node_did_not_answer():
    node = observed.as_unreached("node1", InvalidValue("host node1", "it is odd"))
    assert (node.host, node.reached, node.vms) == ("node1", False, ())
    assert observed.why_refused(node) == "host node1: it is odd"
    assert observed.why_refused(REAL) == ""


def test_ids_of_a_node_that_is_not_believed_are_given_to_nobody():
    node = observed.as_silent(REAL, "it is odd")
    assert (node.reached, node.foreign_ids) == (False, (0, 1, 9))


COMMANDS = (
    "virsh -c qemu:///system destroy one-3; virsh -c qemu:///system undefine --managed-save --nvram one-3",
    "xl destroy one-3; rm -f /var/lib/nebula/xen/one-3.cfg /etc/xen/auto/one-3.cfg",
    "ln -s /var/lib/nebula/xen/one-3.cfg /etc/xen/auto/one-3.cfg",
    "vzctl stop 100003 --fast; vzctl destroy 100003; rm -f /etc/vz/conf/100003.conf /etc/vz/names/web",
    "",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_that_end_a_machine_are_read(command):
    seen = Observed("node1", inventory=Inventory(domains=(Domain("one-3", UUID, 3, UUID, "RUNNING", forget=command),)))
    assert observed.read("node1", to_plain(seen)) == seen


@pytest.mark.parametrize(
    "command",
    ["curl http://x | sh", "virsh list; curl x", "rm -f $(id)", "rm -f /x\n", "virsh destroy one-3 && id", "sh -c id"],
)
def test_what_an_administrator_would_be_told_to_type_is_no_command_of_somebody_elses(command):
    for name in ("turn", "undefine", "forget"):
        domain = replace(Domain("one-3", UUID, 3, UUID, "RUNNING"), **{name: command})
        found = observed.read("node1", to_plain(Observed("node1", inventory=Inventory(domains=(domain,)))))
        assert getattr(found.inventory.domains[0], name) == "look at it on the host itself"


def test_a_machine_that_somebody_has_copied_does_not_silence_its_host():
    """The copy has the mark of the original."""
    copied = Observed("node1", vms=(ObservedVm(0, UUID, "RUNNING"), ObservedVm(0, "another", "POWEROFF")))
    assert observed.read("node1", to_plain(copied)) == copied


def with_inventory(**changes):
    domain = {"name": "x", "catalog": UUID, "vm_id": 3, "uuid": UUID, "state": "RUNNING", **changes.pop("domain", {})}
    directory = {"path": "/d/3", "name": "3", **changes.pop("directory", {})}
    return {"inventory": {"domains": [domain], "directories": [directory], **changes}}


@pytest.mark.parametrize(
    "changes",
    [
        {"domain": {"vm_id": -1}},
        {"domain": {"vm_id": 1 << 31}},
        {"domain": {"generation": -1}},
        {"domain": {"port": 70_000}},
        {"domain": {"state": "HAPPY"}},
        {"domain": {"uuid": "a b"}},
        {"domain": {"macs": ["x"]}},
        {"domain": {"mood": 1}},
        {"directory": {"vm_id": -2}},
        {"directory": {"uuid": "\x1b"}},
        {"directory": {"name": "9" * 256}},
        {"directory": {"name": "../3"}},
        {"directory": {"name": ""}},
        {"directory": {"files": [{"name": "disk.0", "size": -1}]}},
        {"directory": {"files": [{"name": "disk.0", "virtual_size": -1}]}},
        {"rules": {"x": -1}},
    ],
)
def test_what_no_audit_of_a_node_answers(changes):
    with pytest.raises(InvalidValue, match="host node1: what it answered when it was looked at"):
        observed.read("node1", with_inventory(**changes))


def test_what_an_audit_of_a_node_answers():
    fine = with_inventory(domain={"macs": ["02:00:0a:42:00:0F", ""]}, directory={"vm_id": -1}, rules={"x": 1})
    assert observed.read("node1", fine).inventory.domains[0].vm_id == 3


NUMBERS = {
    **{
        name: {name: BEYOND}
        for name in ("plan_number", "done_number", "memory", "cpu", "foreign_memory", "as_of", "room", "disk_room")
    },
    **{name: {name: [BEYOND]} for name in ("foreign_ids", "ports")},
    **{name: {name: {f"{UUID}-2": BEYOND}} for name in ("returns", "lengths")},
    **{
        f"vms: {each.name}": {"vms": [{"vm_id": 0, "uuid": "u", "state": "RUNNING", each.name: BEYOND}]}
        for each in fields(ObservedVm)
        if is_number(each)
    },
    **{
        f"domains: {each.name}": {"inventory": {"domains": [{**DOMAIN, each.name: BEYOND}]}}
        for each in fields(Domain)
        if is_number(each)
    },
    "moves: vm_id": {"moves": [{"vm_id": BEYOND, "token": "f", "stage": "left"}]},
    **{
        f"compared: {each.name}": {"compared": [{"vm_id": 0, "uuid": "u", each.name: BEYOND}]}
        for each in fields(Comparison)
        if is_number(each)
    },
}


@pytest.mark.parametrize("said", [pytest.param(said, id=name) for name, said in NUMBERS.items()])
def test_each_number_has_a_bound(said):
    for beyond in (-2, (1 << 53) + 2, 1e300, -1e300, float("inf"), float("-inf"), float("nan")):
        with pytest.raises(InvalidValue, match="host node1: what it answered"):
            observed.read("node1", {**to_plain(REAL), **filled(said, beyond)})


def test_each_number_is_among_these():
    assert {each.name for each in fields(Observed) if is_number(each)} <= {*NUMBERS}


def test_the_time_of_an_answer_can_be_shown():
    datetime.fromtimestamp(answer_bounds.LATEST, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    assert observed.read("node1", {**to_plain(REAL), "as_of": answer_bounds.LATEST}).as_of == answer_bounds.LATEST
