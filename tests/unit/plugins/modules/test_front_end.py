# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules that decide and remember, as their run() is called: {create, again, update, absent, again} × {real,
check}. Where a plan has to be carried out, the test reports what an obedient node would."""

from __future__ import annotations

import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject, InvalidValue, NotFound
from ansible_collections.nebula.provision.plugins.modules import nebula_host, nebula_info, nebula_vm, nebula_vm_record

HOST = {"name": "node1", "hypervisor": "kvm", "memory": 4096, "cpu": 8.0, "state": "present"}


def options(**given):
    """A module's parameters as AnsibleModule hands them over: what is not given is None."""

    class Params(dict):
        def __missing__(self, key):
            return None

    return Params({"engine": "embedded", **given})


@pytest.fixture
def root(tmp_path):
    return str(tmp_path)


def host(root, check=False, **given):
    return nebula_host.run(options(root=root, hosts=None, **given), check)


@pytest.fixture
def furnished(root):
    """A front-end with a host, an image that is ready, a network and a template."""
    host(root, **HOST)
    from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
    from ansible_collections.nebula.provision.plugins.module_utils.model.network import AddressRange, Network
    from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState
    from ansible_collections.nebula.provision.plugins.module_utils.text.template import parse

    engine = EmbeddedEngine(root)
    with engine.session():
        engine.image_allocate(Image(None, "demo", dev_prefix="vd"))
        engine.image_update("demo", state=ImageState.READY, size=16, format="qcow2")
        engine.vn_allocate(
            Network(
                None,
                "Public",
                bridge="nbr0",
                attributes={"NETWORK_ADDRESS": "10.66.0.0", "NETWORK_MASK": "255.255.255.0"},
                address_ranges=(AddressRange(0, "IP4", 10, ip="10.66.0.10"),),
            )
        )
        engine.template_allocate(
            "web", parse('CPU=0.5\nMEMORY=128\nDISK=[IMAGE="demo"]\nNIC=[NETWORK="Public"]\nCONTEXT=[NETWORK="YES"]\n')
        )
    engine.close()
    return root


def vm(root, check=False, **given):
    given.setdefault("state", "running")
    given.setdefault("shutdown_timeout", 120)
    return nebula_vm.run(options(root=root, return_plans=True, **given), check)


def obey(root, result, state=""):
    """What a node answers that did all; state: where its machines are after they failed."""
    error = {"asked": "VM a", "found": "unsupported machine type", "remedy": "Check it"} if state else None
    answers = {}
    for name, text in result.payload["plans"].items():
        plan = json.loads(text)
        answers[name] = {
            "outcomes": [
                {
                    "vm_id": p["vm"]["vm_id"],
                    "generation": p["generation"],
                    "state": state or p["wanted"],
                    "changed": True,
                    "error": error,
                }
                for p in plan["vms"]
            ]
        }
    ids = [view["id"] for view in result.payload["vms"]]
    return nebula_vm_record.run(options(root=root, outcomes=json.dumps(answers), ids=ids), False)


# -- hosts ------------------------------------------------------------------------------------------------------------
def test_host_life(root):
    assert host(root, check=True, **HOST).changed
    made = host(root, **HOST)
    assert made.changed and made.payload["host"]["memory"] == 4096 and made.payload["host"]["id"] == 0
    assert not host(root, **HOST).changed and not host(root, check=True, **HOST).changed
    more = dict(HOST, memory=8192)
    assert host(root, check=True, **more).changed
    assert host(root, **more).payload["host"]["memory"] == 8192
    assert host(root, name="node1", state="disabled").payload["host"]["state"] == "DISABLED"
    assert not host(root, **more).changed, "role node must not enable what an administrator disabled"
    assert host(root, name="node1", state="enabled").payload["host"]["state"] == "MONITORED"
    assert host(root, check=True, name="node1", state="absent").changed
    assert host(root, name="node1", state="absent").changed
    assert not host(root, name="node1", state="absent").changed


def test_check_mode_on_a_bare_front_end_makes_no_file(root, tmp_path):
    assert host(root, check=True, **HOST).changed
    assert list(tmp_path.iterdir()) == []


def test_a_host_with_marks_of_another_catalog_is_refused(root):
    result = host(root, **dict(HOST, catalog="0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"))
    assert isinstance(result.errors[0].error, ForeignObject)
    assert result.payload["hosts"] == []


@pytest.mark.parametrize(("key", "value"), [("memory", "lots"), ("cpu", -1), ("memory", True), ("state", "gone")])
def test_host_with_a_bad_value(root, key, value):
    result = host(root, **dict(HOST, **{key: value}))
    assert isinstance(result.errors[0].error, InvalidValue) and repr(value) in str(result.errors[0].error)


def test_unknown_keys_have_a_near_miss(root):
    items = [{"name": "a", "memroy": 1}, "b", {"name": 5}, {"name": "c", "memory": 64}]
    result = nebula_host.run(options(root=root, hosts=items), False)
    texts = [str(item.error) for item in result.errors]
    assert "host a" in texts[0] and "'memory'" in texts[0] and "hosts[1]: it is a str" in texts[1]
    assert "host 5: the name is a int" in texts[2]
    assert [view["name"] for view in result.payload["hosts"]] == ["c"], "the others go on"


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("memory", "lots", "not a number"),
        ("memory", float("inf"), "not a number"),
        ("cpu", float("nan"), "not a number"),
        ("reserved_memory", -5, "below zero"),
        ("memory_overcommit", 0, "nothing to promise"),
        ("attributes", ["RACK"], "Give a dict"),
        ("attributes", {"A B": 1}, "A_B"),
    ],
)
def test_values_of_hosts_that_mean_nothing(root, key, value, told):
    result = nebula_host.run(options(root=root, hosts=[{"name": "a", key: value}, {"name": "b"}]), False)
    assert "host a" in str(result.errors[0].error) and told in str(result.errors[0].error)
    assert [view["name"] for view in result.payload["hosts"]] == ["b"]


def test_a_host_that_runs_machines_is_kept(furnished):
    obey(furnished, vm(furnished, name="a", template="web"))
    result = host(furnished, name="node1", state="absent")
    assert "a (id 0)" in str(result.errors[0].error)


# -- machines ---------------------------------------------------------------------------------------------------------
def test_vm_life(furnished):
    web = {"name": "web-%i", "count": 2, "template": "web"}
    checked = vm(furnished, check=True, **web)
    assert checked.changed and [view["id"] for view in checked.payload["vms"]] == [None, None]
    assert [view["ip"] for view in checked.payload["vms"]] == ["10.66.0.10", "10.66.0.11"]

    made = vm(furnished, **web)
    assert made.changed and [view["state"] for view in made.payload["vms"]] == ["PROLOG", "PROLOG"]
    recorded = obey(furnished, made)
    assert recorded.changed and [view["state"] for view in recorded.payload["vms"]] == ["RUNNING", "RUNNING"]
    assert recorded.payload["vms"][0]["access"] == "virsh console one-0"
    assert recorded.payload["vms"][1]["console"] == f"{furnished}/datastores/0/1/console.log"

    again = vm(furnished, **web)
    assert not again.changed and again.payload["plans"] == {} and again.diff() == []
    assert not vm(furnished, check=True, **web).changed
    assert not obey(furnished, again).changed

    more = dict(web, cpu=1.0)
    assert vm(furnished, check=True, **more).changed
    updated = vm(furnished, **more)
    assert updated.changed and '"cpu": 1.0' in updated.diff()[0]["after"]
    obey(furnished, updated)
    assert not vm(furnished, **more).changed

    gone = {"name": "web-%i", "state": "absent"}
    assert vm(furnished, check=True, **gone).changed
    obey(furnished, vm(furnished, **gone))
    assert not vm(furnished, **gone).changed


@pytest.mark.parametrize(
    ("given", "before", "after"),
    [
        ({"context": '{"PASSWORD": "s3cr3t-2"}'}, "CONTEXT", "[ PASSWORD = (secret) ], another"),
        ({"context": '{"PASSWORD": "s3cr3t-1", "USER_DATA": "s3cr3t-3"}'}, "CONTEXT", "USER_DATA = (secret)"),
        ({"attributes": '{"DESCRIPTION": "the new one"}'}, '"DESCRIPTION": "nothing"', '"DESCRIPTION": "the new one"'),
        (
            {"state": "poweroff", "attributes": '{"GRAPHICS": {"TYPE": "VNC", "PASSWD": "s3cr3t-4"}}'},
            '"GRAPHICS": "nothing"',
            "PASSWD = (secret)",
        ),
        ({"cpu": 2.0}, '"CPU": "0.5"', '"CPU": "2"'),
        ({"memory": 256, "recreate": True}, '"MEMORY": "128"', '"MEMORY": "256"'),
        ({"state": "reset"}, '"generation": 1', '"generation": 2'),
    ],
)
def test_a_diff_shows_what_changes_and_check_mode_the_same(furnished, given, before, after):
    secret = json.dumps({"PASSWORD": "s3cr3t-1"})
    made = "poweroff" if given.get("state") == "poweroff" else "running"
    obey(furnished, vm(furnished, name="a", template="web", context=secret, state=made))
    item = {"name": "a", "template": "web", "context": secret, **given}
    checked, real = vm(furnished, check=True, **item), vm(furnished, **item)
    assert checked.changed and real.changed and checked.diff() == real.diff()
    (shown,) = real.diff()
    assert before in shown["before"] and after in shown["after"], shown
    assert shown["before"] != shown["after"] and "s3cr3t" not in str(shown)
    obey(furnished, real)
    assert given.get("state") == "reset" or vm(furnished, **item).diff() == []


def test_check_mode_on_a_bare_front_end_takes_declared_things_as_given(root):
    declared = {
        "hosts": [dict(HOST, id=None)],
        "images": [{"id": None, "name": "demo", "type": "OS", "state": "READY", "size": 16, "format": "qcow2"}],
        "networks": [],
        "templates": [{"name": "web", "template": 'MEMORY=128\nDISK=[IMAGE="demo"]\n'}],
    }
    result = vm(root, check=True, name="a", template="web", declared=json.dumps(declared))
    assert not result.errors and result.changed and result.payload["vms"][0]["id"] is None


def test_without_a_catalog_the_error_says_what_to_run(root):
    with pytest.raises(NotFound, match=r"nebula\.provision\.frontend"):
        vm(root, name="a", template="web")


def test_results_hold_no_secret(furnished):
    result = vm(furnished, name="a", template="web", context=json.dumps({"PASSWORD": "s3cr3t-1"}))
    assert "s3cr3t-1" in json.dumps(result.payload["plans"])
    shown = json.dumps([result.payload["vms"], result.diff(), result.warnings])
    assert "s3cr3t-1" not in shown
    recorded = obey(furnished, result)
    assert "s3cr3t-1" not in json.dumps([recorded.payload, recorded.diff()])
    info = nebula_info.run(options(root=furnished, gather=["vms", "history", "templates"]), False)
    assert "s3cr3t-1" not in json.dumps(info.payload)
    changed = vm(furnished, name="a", template="web", context=json.dumps({"PASSWORD": "s3cr3t-2"}))
    assert changed.changed and "s3cr3t" not in json.dumps([changed.payload["vms"], changed.diff(), changed.warnings])


def test_malformed_json_is_named_and_not_shown(furnished):
    with pytest.raises(InvalidValue) as caught:
        vm(furnished, vms='[{"name": "a", "context": {"PASSWORD": "s3cr3t"')
    assert "vms" in str(caught.value) and "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("vms", ['{"name": "a"}', '"a"', "null"])
def test_lists_that_are_none(furnished, vms):
    with pytest.raises(InvalidValue):
        nebula_vm.run(options(root=furnished, vms=vms), False)


@pytest.mark.parametrize(
    ("item", "parts"),
    [
        ("a", ["vms[1]", "it is a str"]),
        ([], ["vms[1]", "it is a list"]),
        ({"name": "a", "tempalte": "web"}, ["VM a", "'tempalte'", "'template'"]),
        ({"name": 13, "template": "web"}, ["VM 13", "in quotes if it is a number"]),
        ({"name": ["a"], "template": "web"}, ["VM", "the name is a list"]),
        ({"template": "web"}, ["VM", "the name is empty"]),
        ({"name": "a", "template": ["web"]}, ["VM a: template", "it is a list", "name or the id"]),
        ({"name": "a", "template": "web", "memory": 1.5}, ["VM a: MEMORY = 1.5", "whole number"]),
        ({"name": "a", "template": "web", "context": {"PIN": 47.25}}, ["VM a: CONTEXT/PIN", "quotes"]),
        ({"name": "a", "template": "web", "disks": []}, ["VM a", "nothing to boot from"]),
    ],
)
def test_one_bad_item_does_not_keep_the_others(furnished, item, parts):
    result = vm(furnished, vms=json.dumps([{"name": "good", "template": "web"}, item]))
    text = str(result.errors[0].error)
    for part in parts:
        assert part in text
    assert "47.25" not in text, "any variable of a context may be a secret"
    assert [view["name"] for view in result.payload["vms"]] == ["good"]


def test_no_nics_are_asked_for(furnished):
    assert vm(furnished, name="a", template="web", nics=[]).payload["vm"]["nics"] == []


def test_a_machine_that_never_ran_is_made_anew_as_corrected(furnished):
    wrong = {"OS": {"MACHINE": "pc-q35-0.1"}}
    made = vm(furnished, name="a", template="web", attributes=json.dumps(wrong))
    obey(furnished, made, state="BOOT_FAILURE")
    corrected = vm(furnished, name="a", template="web", nics=[])
    (planned,) = json.loads(corrected.payload["plans"]["node1"])["vms"]
    assert (planned["operation"], planned["vm"]["nics"], corrected.payload["differs"]) == ("recreate", [], [])
    assert obey(furnished, corrected).payload["vms"][0]["state"] == "RUNNING"
    # Once it has run, its disks are somebody's.
    again = vm(furnished, name="a", template="web")
    assert "differs in NIC" in again.payload["differs"][0] and not again.changed


def test_failed_machines_are_named_by_the_record(furnished):
    result = vm(furnished, name="a", template="web")
    plan = json.loads(result.payload["plans"]["node1"])
    outcome = {
        "vm_id": 0,
        "generation": plan["vms"][0]["generation"],
        "state": "BOOT_FAILURE",
        "error": {"asked": "VM a: start", "found": "no such bridge nbr0", "remedy": "Run role network"},
    }
    answer = {"node1": {"outcomes": [outcome]}}
    recorded = nebula_vm_record.run(options(root=furnished, outcomes=json.dumps(answer), ids=[0]), False)
    assert recorded.payload["failed_vms"] == [
        "VM a (id 0) is BOOT_FAILURE: VM a: start: no such bridge nbr0. Run role network"
    ]


def test_a_node_without_an_answer(furnished):
    vm(furnished, name="a", template="web")
    answer = {"node1": {"unreachable": True, "msg": "no route"}}
    recorded = nebula_vm_record.run(options(root=furnished, outcomes=json.dumps(answer), ids=[0]), False)
    assert "host node1 did not answer" in recorded.payload["failed_vms"][0]


# -- reading ----------------------------------------------------------------------------------------------------------
def test_info_shows_polls_without_recording_them(furnished):
    obey(furnished, vm(furnished, name="a", template="web"))
    gather = ["hosts", "images", "networks", "leases", "templates", "vms", "history"]
    seen = {"host": "node1", "vms": [{"vm_id": 0, "uuid": "", "state": "POWEROFF"}], "as_of": 1700000000}
    info = nebula_info.run(options(root=furnished, gather=gather, observed=[seen]), False)
    assert not info.changed and info.payload["as_of"] == 1700000000
    assert info.payload["vms"][0]["state"] == "POWEROFF"
    assert info.payload["leases"][0]["ip"] == "10.66.0.10" and info.payload["leases"][0]["vm"] == "a"
    assert [step["state"] for step in info.payload["history"]["0"]] == ["PROLOG", "RUNNING", "POWEROFF"]
    later = nebula_info.run(options(root=furnished, gather=["vms"]), False)
    assert later.payload["vms"][0]["state"] == "RUNNING"


def test_info_can_name_machines_and_show_those_that_ended(furnished):
    obey(furnished, vm(furnished, name="a", template="web"))
    obey(furnished, vm(furnished, name="b", template="web"))
    obey(furnished, vm(furnished, name="a", state="absent"))

    def names(**given):
        info = nebula_info.run(options(root=furnished, gather=["vms"], **given), False)
        return [view["name"] for view in info.payload["vms"]]

    assert names() == ["b"] and names(done=True) == ["a", "b"] and names(vms=["b"]) == ["b"]


def test_a_node_that_follows_a_newer_plan_has_answered(furnished):
    made = vm(furnished, name="a", template="web")
    stale = {"failed": True, "error": {"kind": "StalePlan", "asked": "plan 1", "found": "x", "remedy": "y"}}
    ids = [made.payload["vms"][0]["id"]]
    answers = json.dumps({"node1": stale})
    recorded = nebula_vm_record.run(options(root=furnished, outcomes=answers, ids=ids), False)
    assert recorded.payload["failed_vms"] == [] and not recorded.changed
    silent = nebula_vm_record.run(options(root=furnished, outcomes=json.dumps({"node1": {}}), ids=ids), False)
    assert "did not answer" in silent.payload["failed_vms"][0]
