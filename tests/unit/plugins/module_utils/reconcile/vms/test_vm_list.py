# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against a real catalog: {create, again, update, absent, again} × {real, check}. Where a plan has to be
carried out, the test reports what an obedient node would."""

from __future__ import annotations

import json

import pytest
from canaries import ways

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, NotFound
from ansible_collections.nebula.provision.plugins.modules import nebula_info, nebula_vm

HOST = {"name": "node1", "hypervisor": "kvm", "memory": 4096, "cpu": 8.0, "state": "present"}


def test_vm_life(furnished, vm, obey):
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


def test_an_item_with_a_slip_keeps_the_machine_that_it_renames(furnished, vm, obey):
    obey(furnished, vm(furnished, name="web-%i", count=2, template="web"))
    slip = {"name": "db", "renamed_from": "web-1", "tempalte": "web"}
    result = vm(furnished, vms=json.dumps([slip, {"name": "web-%i", "count": 1, "template": "web"}]))
    assert [item.name for item in result.items if item.error] == ["db"]
    assert result.payload["plans"] == {}
    assert any("VM web-1 (id 1) is not ended" in text for text in result.warnings)


@pytest.mark.parametrize(
    ("given", "before", "after"),
    [
        ({"context": '{"PASSWORD": "s3cr3t-2"}'}, "CONTEXT", "[ PASSWORD = (another secret) ]"),
        ({"context": '{"PASSWORD": "s3cr3t-1", "USER_DATA": "s3cr3t-3"}'}, "CONTEXT", "USER_DATA = (secret)"),
        ({"attributes": '{"DESCRIPTION": "the new one"}'}, '"DESCRIPTION": "nothing"', '"DESCRIPTION": "the new one"'),
        (
            {"state": "poweroff", "attributes": '{"GRAPHICS": {"TYPE": "VNC", "PASSWD": "s3cr3t-4"}}'},
            '"GRAPHICS": "nothing"',
            "PASSWD = (secret)",
        ),
        ({"cpu": 2.0}, '"CPU": "0.5"', '"CPU": "2, at once"'),
        ({"memory": 256}, '"MEMORY": "128"', '"MEMORY": "256, at its next start"'),
        ({"memory": 256, "restart": "rolling"}, '"MEMORY": "128"', '"MEMORY": "256, restarted now"'),
        ({"memory": 256, "state": "rebooted"}, '"MEMORY": "128"', '"MEMORY": "256, restarted now"'),
        ({"memory": 256, "recreate": True}, '"MEMORY": "128"', '"MEMORY": "256"'),
        ({"state": "reset"}, '"generation": 1', '"generation": 2'),
    ],
)
def test_a_diff_shows_what_changes_and_check_mode_the_same(furnished, given, before, after, vm, obey):
    secret = json.dumps({"PASSWORD": "s3cr3t-1"})
    made = "poweroff" if given.get("state") == "poweroff" else "running"
    obey(furnished, vm(furnished, name="a", template="web", context=secret, state=made))
    item = {"name": "a", "template": "web", "context": secret, **given}
    checked, real = vm(furnished, check=True, **item), vm(furnished, **item)
    assert checked.changed and real.changed and checked.diff() == real.diff()
    (shown,) = real.diff()
    assert before in shown["before"] and after in shown["after"], shown
    assert shown["before"] != shown["after"] and not ways("s3cr3t", str(shown))
    obey(furnished, real)
    assert given.get("state") in ("reset", "rebooted") or vm(furnished, **item).diff() == []


def test_check_mode_on_a_bare_front_end_takes_declared_things_as_given(root, vm):
    declared = {
        "hosts": [dict(HOST, id=None)],
        "images": [{"id": None, "name": "demo", "type": "OS", "state": "READY", "size": 16, "format": "qcow2"}],
        "networks": [],
        "templates": [{"name": "web", "template": 'MEMORY=128\nDISK=[IMAGE="demo"]\n'}],
    }
    result = vm(root, check=True, name="a", template="web", declared=json.dumps(declared))
    assert not result.errors and result.changed and result.payload["vms"][0]["id"] is None


def test_without_a_catalog_the_error_says_what_to_run(root, vm):
    with pytest.raises(NotFound, match=r"nebula\.provision\.frontend"):
        vm(root, name="a", template="web")


def test_results_hold_no_secret(furnished, vm, obey, options):
    result = vm(furnished, name="a", template="web", context=json.dumps({"PASSWORD": "s3cr3t-1"}))
    assert "s3cr3t-1" in json.dumps(result.payload["plans"])
    shown = json.dumps([result.payload["vms"], result.diff(), result.warnings])
    assert not ways("s3cr3t-1", shown)
    recorded = obey(furnished, result)
    assert not ways("s3cr3t-1", json.dumps([recorded.payload, recorded.diff()]))
    info = nebula_info.call.run(options(nebula_info, root=furnished, gather=["vms", "history", "templates"]), False)
    assert not ways("s3cr3t-1", json.dumps(info.payload))
    changed = vm(furnished, name="a", template="web", context=json.dumps({"PASSWORD": "s3cr3t-2"}))
    assert changed.changed and not ways(
        "s3cr3t", json.dumps([changed.payload["vms"], changed.diff(), changed.warnings])
    )


def test_a_password_that_nobody_chose_is_in_plans_only(furnished, vm, obey, options):
    graphics = json.dumps({"GRAPHICS": {"TYPE": "VNC"}})
    result = vm(furnished, name="a", template="web", attributes=graphics)
    (plan,) = result.payload["plans"].values()
    (machine,) = json.loads(plan)["vms"]
    password = machine["vm"]["graphics"]["password"]
    assert len(password) == 8
    recorded = obey(furnished, result)
    off = vm(furnished, name="a", template="web", attributes=graphics, state="poweroff")
    info = nebula_info.call.run(options(nebula_info, root=furnished, gather=["vms", "history", "templates"]), False)
    shown = [recorded.payload, recorded.diff(), info.payload, off.payload["vms"], off.diff(), off.warnings]
    assert password not in json.dumps([result.payload["vms"], result.diff(), result.warnings, *shown])


def test_machines_that_run_with_an_open_console_are_named(furnished, vm, obey, options):
    made = vm(furnished, name="a", template="web", attributes=json.dumps({"GRAPHICS": {"TYPE": "VNC"}}))
    obey(furnished, made)
    (view,) = made.payload["vms"]
    seen = {"vm_id": view["id"], "uuid": view["uuid"], "state": "RUNNING", "generation": 1, "open_console": True}
    catalog = made.payload["catalog"]
    observed = [
        {"host": "node1", "reached": True, "catalog": catalog, "plan_number": 1, "done_number": 1, "vms": [seen]}
    ]
    again = vm(
        furnished, name="a", template="web", attributes=json.dumps({"GRAPHICS": {"TYPE": "VNC"}}), observed=observed
    )
    info = nebula_info.call.run(options(nebula_info, root=furnished, gather=["vms"], observed=observed), False)
    assert not again.changed
    for result in (again, info):
        assert ["started anew: a. Until then" in text for text in result.warnings] == [True]


def test_malformed_json_is_named_and_not_shown(furnished, vm):
    with pytest.raises(InvalidValue) as caught:
        vm(furnished, vms='[{"name": "a", "context": {"PASSWORD": "s3cr3t"')
    assert "vms" in str(caught.value) and "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("vms", ['{"name": "a"}', '"a"', "null"])
def test_lists_that_are_none(furnished, vms, vm):
    with pytest.raises(InvalidValue):
        vm(furnished, vms=vms)


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
        ({"name": "a", "template": "web", "disks": [{"TYPE": "swap", "SIZE": 1}]}, ["VM a", "nothing to boot from"]),
    ],
)
def test_one_bad_item_does_not_keep_the_others(furnished, item, parts, vm):
    result = vm(furnished, vms=json.dumps([{"name": "good", "template": "web"}, item]))
    text = str(result.errors[0].error)
    for part in parts:
        assert part in text
    assert "47.25" not in text, "any variable of a context may be a secret"
    assert [view["name"] for view in result.payload["vms"]] == ["good"]


def test_no_nics_are_asked_for(furnished, vm):
    assert vm(furnished, name="a", template="web", nics=[]).payload["vm"]["nics"] == []


def test_a_machine_that_never_ran_is_made_anew_as_corrected(furnished, vm, obey):
    wrong = {"OS": {"MACHINE": "pc-q35-0.1"}}
    made = vm(furnished, name="a", template="web", attributes=json.dumps(wrong))
    obey(furnished, made, state="BOOT_FAILURE")
    corrected = vm(furnished, name="a", template="web", nics=[{"NETWORK": "Public", "MODEL": "e1000"}])
    (planned,) = json.loads(corrected.payload["plans"]["node1"])["vms"]
    models = [nic["model"] for nic in planned["vm"]["nics"]]
    assert (planned["operation"], models, corrected.payload["differs"]) == ("recreate", ["e1000"], [])
    assert obey(furnished, corrected).payload["vms"][0]["state"] == "RUNNING"
    # Once it has run, its disks are somebody's.
    nics = [{"NETWORK": "Public", "MODEL": "e1000"}]
    uuid = json.dumps({"OS": {"UUID": "11111111-2222-3333-4444-555555555555"}})
    again = vm(furnished, name="a", template="web", nics=nics, attributes=uuid)
    assert "differs in OS" in again.payload["differs"][0] and not again.changed
    # The same as data, for whoever is to decide whether that is a failure.
    (difference,) = again.payload["differences"]
    assert difference == {
        "name": "a", "id": 0, "host": "node1", "attribute": "OS", "found": "nothing",
        "wanted": difference["wanted"],
        "remedy": "set recreate: true to make it anew (its own disks are lost)",
        "sentence": again.payload["differs"][0],
    }  # fmt: skip
    assert difference["wanted"] and again.warnings == [difference["sentence"]]


def test_disks_and_nics_of_a_machine_that_is_off_are_foretold_shown_and_done_once(furnished, vm, obey):
    off = {"name": "a", "template": "web", "state": "poweroff"}
    small, large = ({"TYPE": "fs", "SIZE": size} for size in ("5", "6"))
    obey(furnished, vm(furnished, disks=[{"IMAGE": "demo"}, small, large], **off))
    changed = {**off, "nics": [{"NETWORK": "Public"}] * 2, "disks": [{"IMAGE": "demo"}, large]}
    kept = vm(furnished, check=True, **changed)
    assert "VM a (id 0) has a disk that the list does not: disk 1, sd" in kept.warnings[0]
    changed["detach"] = True
    checked, real = vm(furnished, check=True, **changed), vm(furnished, **changed)
    assert checked.changed and real.changed and checked.diff() == real.diff() and real.payload["differences"] == []
    shown = json.loads(real.diff()[0]["after"])
    assert [disk["disk_id"] for disk in shown["disks"]] == [0, 2] and len(shown["nics"]) == 2
    assert sorted(shown["changed"]) == ["DISK", "NIC"]
    obey(furnished, real)
    again = vm(furnished, **changed)
    assert not again.changed and again.payload["plans"] == {} and again.warnings == []


def test_plans_are_told_only_where_they_are_asked_for(furnished, options):
    """They hold what contexts hold."""
    told = nebula_vm.call.run(options(nebula_vm, root=furnished, name="a", template="web"), False)
    assert set(told.payload) == {
        "vms",
        "vm",
        "differs",
        "differences",
        "changed_vms",
        "given_up",
        "restart_rounds",
        "move_rounds",
        "moves",
        "destroyed",
        "catalog",
        "pools",
        "refused_answers",
    }
    assert told.payload["changed_vms"] == ["a"]


@pytest.mark.parametrize("check", [True, False])
def test_check_mode_writes_nothing_and_a_real_run_does(furnished, vm, check):
    vm(furnished, check=check, name="a", template="web")
    again = vm(furnished, check=True, name="a", template="web")
    assert again.changed == check


def test_a_plan_is_told_for_each_host_that_has_something_to_do(furnished, vm):
    made = vm(furnished, name="a", template="web")
    assert list(made.payload["plans"]) == ["node1"]
    assert (made.payload["transfers"], made.payload["returning"]) == ({}, False)
    # One whose outcome was never heard of is told again.
    assert list(vm(furnished, vms="[]").payload["plans"]) == ["node1"]
    assert vm(furnished, vms="[]", hosts=["node2"]).payload["plans"] == {}


def test_what_a_poll_says_is_recorded_and_counts_as_a_change(furnished, vm, obey):
    obey(furnished, vm(furnished, name="a", template="web"))
    seen = {"host": "node1", "vms": [{"vm_id": 0, "uuid": "", "state": "POWEROFF"}], "as_of": 1700000000}
    result = vm(furnished, vms="[]", observed=[seen])
    assert result.changed
    assert result.payload["changed_vms"] == ["a"]
    assert '"state": "POWEROFF"' in result.diff()[0]["after"]
    assert not vm(furnished, vms="[]", observed=[seen]).changed


def test_machines_that_do_not_reach_each_other_are_warned_of_at_every_run(furnished, host, vm, obey):
    host(furnished, **dict(HOST, name="node2"))
    items = [{"name": name, "template": "web", "host": on} for name, on in (("a", "node1"), ("b", "node2"))]
    told = "network Public: its machines are on 2 nodes (1 on node1, 1 on node2)"
    made = vm(furnished, vms=json.dumps(items))
    assert [text for text in made.warnings if text.startswith(told)]
    obey(furnished, made)
    again = vm(furnished, vms=json.dumps(items))
    assert not again.changed and [text for text in again.warnings if text.startswith(told)]


def test_the_owner_of_a_list_is_that_of_items_that_do_not_say_one(furnished, vm):
    context = {"WHO": "$UNAME $USER[MAIL]"}
    items = [{"name": "a", "template": "web", "context": context}]
    items.append({"name": "b", "template": "web", "context": context, "owner": {"name": "bob"}})
    given = json.dumps({"name": "ann", "attributes": {"MAIL": "ann@example.org"}})
    result = vm(furnished, vms=json.dumps(items), owner=given)
    (plan,) = result.payload["plans"].values()
    told = [each["vm"]["context"]["variables"]["WHO"] for each in json.loads(plan)["vms"]]
    assert told == ["ann ann@example.org", "bob "]
    single = vm(furnished, name="c", template="web", context=json.dumps(context), owner=given)
    (plan,) = single.payload["plans"].values()
    assert json.loads(plan)["vms"][-1]["vm"]["context"]["variables"]["WHO"] == "ann ann@example.org"


def test_machines_that_no_list_names_are_named(furnished, vm, obey):
    obey(furnished, vm(furnished, name="a", template="web"))
    pools = vm(furnished, name="b", template="web").payload["pools"]
    assert pools["unlisted_vms"] == ["a"]
    assert {kind for kind in pools if pools[kind]} == {"unlisted_vms", "images", "networks", "templates"}
    assert vm(furnished, vms=[]).payload["pools"]["unlisted_vms"] == ["a", "b"]


def test_where_an_item_failed_nothing_tells_which_machines_no_list_names(furnished, vm, obey):
    obey(furnished, vm(furnished, name="a", template="web"))
    result = vm(furnished, name="c", template="there is none")
    assert result.errors and result.payload["pools"]["unlisted_vms"] == []


# -- moves -------------------------------------------------------------------------------------------------------------
PLACES = json.dumps({name: {"address": f"{name}.example.org", "port": 49152} for name in ("node1", "node2")})


@pytest.fixture
def two(furnished, host):
    """The front-end with another host, and a machine that runs on the first."""
    host(furnished, **{**HOST, "name": "node2"})
    return furnished


def test_a_decision_says_which_machines_move_and_the_rounds_move_them(two, vm, obey):
    obey(two, vm(two, name="a", template="web", host="node1"))
    item = {"name": "a", "template": "web", "host": "node2", "meeting_places": PLACES}
    assert vm(two, **item).payload["moves"] == [] and "set move: live" in vm(two, **item).warnings[0]
    item["move"] = "live"
    checked, decided = vm(two, check=True, **item), vm(two, **item)
    assert checked.changed and not decided.changed and decided.payload["changed_vms"] == []
    assert checked.payload["moves"] == decided.payload["moves"] and decided.payload["move_rounds"] == 1
    (moving,) = decided.payload["moves"]
    assert (moving["host"], moving["target"], moving["way"], moving["size"]) == ("node1", "node2", "live", 144)
    assert decided.payload["vms"][0]["host"] == "node1" and decided.payload["plans"] == {}

    moved = vm(two, vms="[]", moves=json.dumps(decided.payload["moves"]), meeting_places=PLACES)
    assert (
        moved.changed and moved.payload["changed_vms"] == ["a"] and sorted(moved.payload["plans"]) == ["node1", "node2"]
    )
    assert (moved.payload["vms"][0]["moving"], moved.payload["move_rounds"]) == ("node2", 0)
    parts = {host: json.loads(text)["vms"][0]["move"] for host, text in moved.payload["plans"].items()}
    assert {host: (part["role"], part["asks"]) for host, part in parts.items()} == {
        "node1": ("source", False),
        "node2": ("target", False),
    }
    assert parts["node1"]["address"] == "node2.example.org" and parts["node1"]["limit"] == 3600
    # Nobody knows what became of it.
    later = vm(two, **item)
    assert "VM a is on its way from host node1 to node2" in later.warnings[0]


def test_the_first_round_begins_with_a_decision_that_has_nothing_else_to_do(two, vm, obey):
    obey(two, vm(two, name="a", template="web", host="node1"))
    item = {"name": "a", "template": "web", "host": "node2", "meeting_places": PLACES, "move": "live"}
    checked = vm(two, check=True, begin_moves=True, **item)
    assert "first_round" not in checked.payload and checked.payload["move_rounds"] == 1
    decided = vm(two, begin_moves=True, **item)
    assert decided.changed and decided.payload["changed_vms"] == [] and decided.payload["plans"] == {}
    assert decided.payload["vms"][0]["moving"] == "" and decided.payload["move_rounds"] == 1
    first = decided.payload["first_round"]
    assert first["changed"] and first["changed_vms"] == ["a"] and first["warnings"] == []
    assert first["vms"][0]["moving"] == "node2" and "node2" in first["diff"][0]["after"]
    assert [json.loads(text)["vms"][0]["move"]["asks"] for text in first["plans"].values()] == [False, False]
    # The round is not begun again.
    moved = vm(two, vms="[]", moves=json.dumps(decided.payload["moves"]), meeting_places=PLACES)
    assert [json.loads(text)["vms"][0]["move"]["asks"] for text in moved.payload["plans"].values()] == [True, True]


@pytest.mark.parametrize(
    "other",
    [
        {"name": "b", "template": "web", "host": "node1"},
        {"name": "b", "template": "no such one"},
        {"name": "gone", "state": "absent"},
    ],
)
def test_what_is_to_be_done_or_wrong_comes_before_the_first_round(two, vm, obey, other):
    both = [{"name": name, "template": "web", "host": "node1"} for name in ("a", "gone")]
    obey(two, vm(two, vms=json.dumps(both)))
    items = [{"name": "a", "template": "web", "host": "node2", "move": "live"}, other]
    decided = vm(two, vms=json.dumps(items), begin_moves=True, meeting_places=PLACES)
    assert [each["name"] for each in decided.payload["moves"]] == ["a"] and decided.payload["move_rounds"] == 1
    assert "first_round" not in decided.payload
    assert next(view for view in decided.payload["vms"] if view["name"] == "a")["moving"] == ""


def test_a_host_is_emptied_by_name(two, vm, obey):
    obey(two, vm(two, name="a", template="web", host="node1"))
    decided = vm(two, vms="[]", empty_hosts=["node1"], meeting_places=PLACES)
    assert [(each["name"], each["target"], each["away"]) for each in decided.payload["moves"]] == [
        ("a", "node2", "node1")
    ]
    assert [view["name"] for view in decided.payload["vms"]] == ["a"]
    assert vm(two, vms="[]", fill_hosts=["node1"], meeting_places=PLACES).payload["moves"] == []
    with pytest.raises(NotFound, match="maintenance of host node9: the catalog has no such host"):
        vm(two, vms="[]", empty_hosts=["node9"])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"move_batch": "0"}, r"nebula_move_batch '0' \(move_batch of nebula_vm\)"),
        ({"move_timeout": 0}, r"nebula_move_timeout 0 \(move_timeout of nebula_vm\)"),
        ({"moves": "{}"}, "option moves: it is a dict"),
        ({"moves": "x"}, "option moves: it is not JSON"),
        ({"meeting_places": "[]"}, "option meeting_places: it is a list"),
    ],
)
def test_what_is_said_of_moves_and_can_not_be_meant_is_refused(furnished, vm, given, says):
    with pytest.raises(InvalidValue, match=says):
        vm(furnished, name="a", template="web", **given)
