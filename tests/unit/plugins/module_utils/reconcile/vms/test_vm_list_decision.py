# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines of the catalog: from the list a user wants to plans, and from what nodes report back to states."""

from __future__ import annotations

import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import from_plain, to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host, Overhead
from ansible_collections.nebula.provision.plugins.module_utils.model.network import NEW_AR, AddressRange, Network
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed, ObservedVm, Plan, VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.reconcile.vms.conftest import failed

WEB = {"name": "web-%i", "count": 3, "template": "web"}


def want(engine, *items, observed=(), hosts=None):
    with engine.session():
        engine.vms.observe(observed)
        outcomes, warnings = reconcile(engine, items, hosts)
        plans = engine.vms.plans(hosts)
    return outcomes, plans, warnings


def carry_out(engine, plans, **states):
    """What a node that obeys would report; states: other outcomes by machine name, as (state, error)."""
    with engine.session():
        for host, plan in plans.items():
            outcomes = []
            for planned in plan.vms:
                name = planned.vm.name.replace("-", "_")
                state, error = states.get(name, (planned.wanted, None))
                outcomes.append(VmOutcome(planned.vm.vm_id, planned.generation, state, True, error))
            engine.vms.record(host, outcomes)


def run(engine, *items, **states):
    outcomes, plans, _warnings = want(engine, *items)
    carry_out(engine, plans, **states)
    return outcomes


def machines(engine):
    return {record.name: record for record in engine.vms.pool()}


def test_ids_leases_and_names_of_a_batch(engine):
    outcomes, plans, _ = want(engine, WEB)
    assert [(o.after.id, o.after.name, o.after.nics[0]["ip"]) for o in outcomes] == [
        (0, "web-0", "10.66.0.10"),
        (1, "web-1", "10.66.0.11"),
        (2, "web-2", "10.66.0.12"),
    ]
    plan = plans["node1"]
    assert [p.vm.nics[0].mac for p in plan.vms] == ["02:00:0a:42:00:0a", "02:00:0a:42:00:0b", "02:00:0a:42:00:0c"]
    assert plan.vms[0].vm.context.variables["HOSTNAME"] == "web-0"
    assert plan.catalog == engine.catalog() and plan.number == 1


def test_a_plan_survives_its_journey(engine):
    _, plans, _ = want(engine, WEB)
    plan = plans["node1"]
    assert from_plain(Plan, json.loads(json.dumps(to_plain(plan)))) == plan


def test_again_changes_nothing(engine):
    run(engine, WEB)
    outcomes, plans, _ = want(engine, WEB)
    assert plans == {} and all(o.before == o.after for o in outcomes)


def test_an_unfinished_plan_is_made_again_whatever_the_list_says(engine):
    _, first, _ = want(engine, WEB)
    _, second, _ = want(engine)
    assert second["node1"].vms == first["node1"].vms
    assert second["node1"].number > first["node1"].number


def test_count_adds_and_ends_the_highest(engine):
    run(engine, WEB)
    run(engine, dict(WEB, count=5))
    assert sorted(machines(engine)) == ["web-0", "web-1", "web-2", "web-3", "web-4"]
    run(engine, dict(WEB, count=1))
    assert sorted(machines(engine)) == ["web-0"]
    run(engine, dict(WEB, count=0))
    assert machines(engine) == {}


def test_ids_are_never_used_again(engine):
    run(engine, WEB)
    run(engine, dict(WEB, state="absent"))
    run(engine, WEB)
    assert [record.id for record in engine.vms.pool()] == [3, 4, 5]


def test_absent_gives_back_leases_memory_and_ports(engine):
    run(engine, WEB)
    run(engine, dict(WEB, state="absent"))
    host = engine.hosts.info("node1")
    assert (host.memory_used, host.cpu_used, host.vms) == (0, 0, 0)
    assert engine.networks.info("Public").address_ranges[0].used == 0
    assert engine.images.info("demo").state.name == "READY"
    outcomes, plans, _ = want(engine, dict(WEB, state="absent"))
    assert outcomes == [] and plans == {}


def test_absent_takes_the_whole_pattern_without_a_count(engine):
    run(engine, WEB)
    run(engine, {"name": "web-%i", "state": "absent"})
    assert machines(engine) == {}


def test_absent_with_a_count_takes_the_first_of_the_pattern(engine):
    run(engine, WEB)
    run(engine, {"name": "web-%i", "count": 1, "state": "absent"})
    assert sorted(machines(engine)) == ["web-1", "web-2"]


def test_what_is_taken_out_of_the_list_is_left_alone(engine):
    run(engine, WEB, {"name": "db", "template": "web"})
    run(engine, WEB)
    assert "db" in machines(engine)


def test_an_ending_machine_keeps_its_lease_until_its_node_has_ended_it(engine):
    run(engine, {"name": "a", "template": "web"})
    want(engine, {"name": "a", "state": "absent"})
    outcomes, _, _ = want(engine, {"name": "b", "template": "web", "nics": [{"NETWORK": "Public", "IP": "10.66.0.10"}]})
    assert "10.66.0.10" in failed(outcomes)[0]


def test_an_ipv6_address_that_is_asked_for_is_leased(engine):
    with engine.session():
        six = AddressRange(NEW_AR, "IP6", 9, mac="02:11:22:33:44:50", global_prefix="2001:db8::")
        engine.networks.allocate(Network(None, "six", bridge="nbr6", address_ranges=(six,)))
    nic = {"NETWORK": "six", "IP6": "2001:db8::11:22ff:fe33:4453"}
    _, plans, _ = want(engine, {"name": "a", "template": "web", "nics": [nic]})
    vm = plans["node1"].vms[0].vm
    assert (vm.nics[0].ip6, vm.nics[0].mac) == (nic["IP6"], "02:11:22:33:44:53")
    assert vm.context.variables["ETH0_IP6"] == nic["IP6"]
    outcomes, _, _ = want(engine, {"name": "b", "template": "web", "nics": [nic]})
    assert "VM a (id 0) has it" in failed(outcomes)[0]


def test_too_few_leases_keep_nothing(engine):
    outcomes, plans, _ = want(engine, dict(WEB, count=101, memory=16, cpu=0.01))
    assert len(failed(outcomes)) == 1 and "100" in failed(outcomes)[0]
    assert plans == {} and machines(engine) == {}
    assert engine.hosts.info("node1").memory_used == 0


def test_a_bad_item_does_not_hinder_the_others(engine):
    outcomes, plans, _ = want(engine, {"name": "bad", "template": "nosuch"}, WEB, {"name": "worse", "state": "runing"})
    assert len(plans["node1"].vms) == 3
    errors = failed(outcomes)
    assert len(errors) == 2
    assert any("nosuch" in text for text in errors) and any("'running'" in text for text in errors)


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ({"name": "a/b", "template": "web"}, "a/b"),
        ({"name": "..", "template": "web"}, ".."),
        ({"name": "a\nb", "template": "web"}, "\\n"),
        ({"name": "a", "template": "web", "count": 2}, "%i"),
        ({"name": "a-%i", "template": "web", "count": "many"}, "count 'many'"),
        ({"name": "a-%i", "template": "web", "count": -1}, "count -1"),
        ({"name": "a"}, "template"),
        ({"name": "a", "template": "web", "memory": "lots"}, "lots"),
        ({"name": "a", "template": "web", "memory": 8192}, "node1 has 4096 MiB left"),
        ({"name": "a", "template": "web", "cpu": 17}, "16 CPU left"),
        ({"name": "a", "template": "web", "host": "nosuch"}, "nosuch"),
        ({"name": "a", "template": "web", "nics": [{"NETWORK": "nosuch"}]}, "nosuch"),
        ({"name": "a", "template": "web", "disks": [{"IMAGE": "nosuch"}]}, "nosuch"),
        ({"name": "a", "template": "web", "disks": [{"IMAGE": "demo", "SIZE": 1}]}, "16"),
        ({"name": "a", "template": "web", "recreate": "perhaps"}, "perhaps"),
        ({"name": "a", "template": "web", "shutdown_timeout": "long"}, "long"),
    ],
)
def test_bad_input_names_object_value_and_remedy(engine, item, says):
    outcomes, plans, _ = want(engine, item)
    errors = failed(outcomes)
    assert len(errors) == 1 and says in errors[0], errors
    assert plans == {} and machines(engine) == {}


def test_the_same_name_twice_is_refused(engine):
    outcomes, _, _ = want(engine, WEB, {"name": "web-1", "template": "web"})
    assert any("twice" in text for text in failed(outcomes))


def test_memory_is_never_promised_twice(engine):
    outcomes, _, _ = want(engine, dict(WEB, count=33))
    assert "MiB left" in failed(outcomes)[0]
    run(engine, dict(WEB, count=30))
    outcomes, _, _ = want(engine, dict(WEB, count=33))
    assert len(failed(outcomes)) == 1
    assert engine.hosts.info("node1").memory_used == 30 * 128


def overheads(engine):
    host = engine.hosts.info("node1")
    return host.memory_used, host.overhead_used


def test_a_machine_costs_its_overhead_too(engine):
    with engine.session():
        engine.hosts.update("node1", overhead=Overhead(fixed=50, vcpu=8, share=1 / 64))
    outcomes, _, _ = want(engine, dict(WEB, count=22))
    assert "VM web-21: 128 MiB + 60 MiB overhead of memory" in failed(outcomes)[0]
    assert "node1 has 148 MiB left of 4096" in failed(outcomes)[0]
    run(engine, dict(WEB, count=3))
    assert overheads(engine) == (3 * 128, 3 * 60)
    # KVM is found to work after all, or not to: what is promised follows.
    with engine.session():
        engine.hosts.update("node1", overhead=Overhead(fixed=20))
    assert overheads(engine) == (3 * 128, 3 * 20)
    run(engine, {"name": "web-%i", "state": "absent", "hard": True})
    assert overheads(engine) == (0, 0)


def test_a_machine_that_is_made_anew_pays_for_what_it_grows_by(engine):
    with engine.session():
        engine.hosts.update("node1", overhead=Overhead(fixed=0, share=0.5))
    run(engine, dict(WEB, count=1))
    run(engine, dict(WEB, count=1, memory=2048, recreate=True))
    assert overheads(engine) == (2048, 1024)
    outcomes, _, _ = want(engine, dict(WEB, count=1, memory=2900, recreate=True))
    assert "2900 MiB + 1450 MiB overhead" in failed(outcomes)[0]
    assert overheads(engine) == (2048, 1024)


def test_memory_of_others_counts(engine):
    node = Observed("node1", memory=4096, foreign_memory=4000)
    outcomes, _, _ = want(engine, WEB, observed=[node])
    assert "MiB left" in failed(outcomes)[0]


def test_a_killed_machine_is_seen_and_started_again(engine):
    run(engine, WEB)
    seen = [ObservedVm(r.id, r.uuid, "RUNNING" if r.id != 1 else "POWEROFF") for r in engine.vms.pool()]
    _, plans, _ = want(engine, WEB, observed=[Observed("node1", vms=tuple(seen))])
    assert [p.vm.name for p in plans["node1"].vms] == ["web-1"]
    carry_out(engine, plans)
    assert machines(engine)["web-1"].state == "RUNNING"


def test_a_vanished_domain_is_unknown_and_made_again(engine):
    run(engine, WEB)
    with engine.session():
        moved = engine.vms.observe([Observed("node1", vms=())])
    assert {record.state for record in moved} == {"UNKNOWN"}
    assert "vanished" in moved[0].error
    _, plans, _ = want(engine, WEB)
    assert len(plans["node1"].vms) == 3


def test_a_domain_that_was_paused_by_hand_is_not_told_as_gone(engine):
    run(engine, WEB)
    paused = [ObservedVm(r.id, r.uuid, "UNKNOWN") for r in engine.vms.pool()]
    with engine.session():
        moved = engine.vms.observe([Observed("node1", vms=tuple(paused))])
    assert {record.state for record in moved} == {"UNKNOWN"}
    assert "vanished" not in moved[0].error and "from its disks" in moved[0].error
    assert "its domain on host node1 stands still, paused or crashed" in moved[0].error
    _, plans, _ = want(engine, WEB)
    assert len(plans["node1"].vms) == 3


def test_the_reason_of_an_earlier_poll_does_not_outlive_what_it_told_of(engine):
    run(engine, WEB)
    seen = Observed("node1", vms=tuple(ObservedVm(r.id, r.uuid, "UNKNOWN") for r in engine.vms.pool()))
    with engine.session():
        engine.vms.observe([Observed("node1", reached=False)])
        assert "stands still" in engine.vms.observe([seen])[0].error
        assert engine.vms.observe([seen]) == []
        assert "vanished" in engine.vms.observe([Observed("node1", vms=())])[0].error


def test_a_silent_node_is_unknown_not_fine(engine):
    run(engine, WEB)
    with engine.session():
        moved = engine.vms.observe([Observed("node1", reached=False)])
    assert {(r.state, r.error) for r in moved} == {("UNKNOWN", "host node1 did not answer")}
    with engine.session():
        moved = engine.vms.observe([Observed("node1", vms=tuple(ObservedVm(r.id, r.uuid, "RUNNING") for r in moved))])
    assert {(r.state, r.error) for r in moved} == {("RUNNING", "")}


def test_no_answer_to_a_plan_leaves_it_to_the_next_run(engine):
    _, plans, _ = want(engine, WEB)
    with engine.session():
        moved = engine.vms.record("node1", None)
    assert all("did not answer" in record.error for record in moved)
    _, again, _ = want(engine, WEB)
    assert again["node1"].vms == plans["node1"].vms


def test_a_failure_keeps_its_reason_and_the_others_go_on(engine):
    error = {"asked": "VM web-1: start", "found": "no space left", "remedy": "Make room"}
    run(engine, WEB, web_1=("BOOT_FAILURE", error))
    state = {name: record.state for name, record in machines(engine).items()}
    assert state == {"web-0": "RUNNING", "web-1": "BOOT_FAILURE", "web-2": "RUNNING"}
    assert machines(engine)["web-1"].error == "VM web-1: start: no space left. Make room"
    _, plans, _ = want(engine, WEB)
    assert [p.vm.name for p in plans["node1"].vms] == ["web-1"]
    carry_out(engine, plans)
    assert machines(engine)["web-1"].error == ""


def test_a_guest_that_ignores_the_button_runs_on_with_an_error(engine):
    run(engine, WEB)
    error = {"asked": "VM web-0: shutdown", "found": "still running after 120 s", "remedy": "hard: true"}
    run(engine, dict(WEB, count=3, state="poweroff"), web_0=("RUNNING", error))
    record = machines(engine)["web-0"]
    assert (record.state, record.wanted) == ("RUNNING", "RUNNING") and "120 s" in record.error
    assert machines(engine)["web-1"].state == "POWEROFF"


def test_a_late_outcome_of_an_older_decision_is_ignored(engine):
    _, plans, _ = want(engine, WEB)
    want(engine, dict(WEB, state="absent"))
    carry_out(engine, plans)
    assert {record.wanted for record in engine.vms.pool(ids=[0, 1, 2])} == {"DONE"}


def test_states_are_reached_by_their_orders(engine):
    run(engine, WEB)
    for state, expected in (("poweroff", "POWEROFF"), ("running", "RUNNING"), ("suspended", "SUSPENDED")):
        run(engine, dict(WEB, state=state))
        assert {record.state for record in engine.vms.pool()} == {expected}
    outcomes, _, _ = want(engine, dict(WEB, state="poweroff"))
    assert "SUSPENDED" in failed(outcomes)[0]
    run(engine, WEB)
    _, plans, _ = want(engine, dict(WEB, state="rebooted"))
    assert {p.operation for p in plans["node1"].vms} == {"reboot"}


def test_a_machine_may_begin_powered_off(engine):
    _, plans, _ = want(engine, dict(WEB, state="poweroff"))
    assert {p.wanted for p in plans["node1"].vms} == {"POWEROFF"}


def test_context_and_cpu_change_on_the_living_machine(engine):
    run(engine, WEB)
    outcomes, plans, _ = want(engine, dict(WEB, cpu=1, context={"ROLE": "front"}))
    assert not failed(outcomes) and len(plans["node1"].vms) == 3
    planned = plans["node1"].vms[0]
    assert planned.vm.cpu == 1.0 and planned.vm.context.variables["ROLE"] == "front"
    assert planned.vm.nics[0].ip == "10.66.0.10" and planned.wanted == "RUNNING"
    carry_out(engine, plans)
    assert engine.hosts.info("node1").cpu_used == 3.0
    assert want(engine, dict(WEB, cpu=1, context={"ROLE": "front"}))[1] == {}


def test_memory_changes_at_the_next_start(engine):
    run(engine, WEB)
    outcomes, plans, _ = want(engine, dict(WEB, memory=256))
    assert outcomes[0].differs == () and plans["node1"].vms[0].waits
    assert outcomes[0].after.waits == [{"part": "MEMORY", "found": "128", "wanted": "256"}]
    carry_out(engine, plans)
    outcomes, plans, _ = want(engine, dict(WEB, memory=256))
    assert plans == {} and outcomes[0].before == outcomes[0].after and outcomes[0].after.waits != []
    run(engine, WEB)
    assert [record.waits for record in engine.vms.pool()] == [[], [], []]
    run(engine, dict(WEB, state="poweroff"))
    _, plans, _ = want(engine, dict(WEB, state="poweroff", memory=256))
    assert {p.vm.memory for p in plans["node1"].vms} == {256}
    assert engine.hosts.info("node1").memory_used == 3 * 256


def test_a_disk_that_differs_comes_with_the_next_start_or_is_made_anew(engine):
    run(engine, WEB)
    bigger = dict(WEB, disks=[{"IMAGE": "demo", "DEV_PREFIX": "sd", "SIZE": 64}])
    with pytest.raises(ValueError, match="not kept"), engine.attempt():
        outcomes, _warnings = reconcile(engine, [bigger])
        assert outcomes[0].after.waits == [
            {"part": "DISK 0", "found": "[ DEV_PREFIX = vd, TARGET = vda ]", "wanted": "[ DEV_PREFIX = sd ]"}
        ]
        raise ValueError("not kept")
    _, plans, _ = want(engine, dict(bigger, recreate=True))
    planned = plans["node1"].vms[0]
    assert (planned.operation, planned.vm.vm_id, planned.vm.disks[0].size) == ("recreate", 0, 64)
    assert planned.vm.nics[0].ip == "10.66.0.10" and not planned.waits
    carry_out(engine, plans)
    assert want(engine, dict(bigger, recreate=True))[1] == {}


@pytest.mark.parametrize("later", [{"state": "poweroff"}, {"state": "reboot"}, {"context": {"A": "b"}}])
def test_a_recreation_outlives_what_is_decided_before_its_host_is_back(engine, later):
    run(engine, dict(WEB, count=1))
    bigger = dict(WEB, count=1, disks=[{"IMAGE": "demo", "DEV_PREFIX": "sd", "SIZE": 64}])
    _, plans, _ = want(engine, dict(bigger, recreate=True))
    first = plans["node1"].vms[0]
    for _again in range(2):
        _, plans, _ = want(engine, dict(bigger, **later))
        planned = plans["node1"].vms[0]
        assert (planned.operation, planned.hard, planned.operated) == ("recreate", True, first.generation)
        # A host that made it anew, and could not say so, does not do it again.
        assert planned.is_due(0) and not planned.is_due(first.generation)
    _, plans, _ = want(engine, {"name": "web-%i", "state": "absent", "hard": True})
    assert [(p.wanted, p.operation) for p in plans["node1"].vms] == [("DONE", "")]


def test_check_mode_tells_and_keeps_nothing(engine, reopen):
    checked = reopen(check_mode=True)
    outcomes, plans, _ = want(checked, WEB)
    assert len(outcomes) == 3 and len(plans["node1"].vms) == 3
    assert machines(engine) == {} and engine.hosts.info("node1").memory_used == 0


def test_check_mode_tells_the_addresses_that_a_machine_made_anew_will_have(engine, reopen):
    run(engine, {"name": "a", "template": "web", "nics": [{"NETWORK": "Public"}] * 2})
    before = machines(engine)["a"].nics
    asked = [{"NETWORK": "Public", "IP": before[1]["ip"]}, {"NETWORK": "Public", "IP": "10.66.0.50"}]
    anew = {"name": "a", "template": "web", "recreate": True, "nics": asked}
    (told,), _, _ = want(reopen(check_mode=True), anew)
    assert told.after.nics[0] == before[1] and told.after.nics[1]["ip"] == "10.66.0.50"
    assert machines(engine)["a"].nics == before and engine.networks.info("Public").address_ranges[0].used == 2
    (outcome,), _, _ = want(engine, anew)
    assert outcome.after.nics == told.after.nics


def test_vnc_ports_follow_the_id_and_step_aside(engine):
    vnc = {"template": "web", "attributes": {"GRAPHICS": {"TYPE": "vnc"}}}
    node = Observed("node1", memory=4096, ports=(5901,))
    _, plans, _ = want(engine, dict(vnc, name="v-%i", count=3), observed=[node])
    assert [p.vm.graphics.port for p in plans["node1"].vms] == [5900, 5902, 5903]


def test_two_machines_and_one_persistent_image(engine):
    with engine.session():
        engine.images.update("demo", persistent=True)
    outcomes, plans, _ = want(engine, {"name": "a", "template": "web"}, {"name": "b", "template": "web"})
    assert len(plans["node1"].vms) == 1
    assert "demo" in failed(outcomes)[0] and "persistent" in failed(outcomes)[0]
    assert engine.images.info("demo").state.name == "USED_PERS"


def test_a_persistent_image_is_as_large_as_its_machine_made_it(engine):
    with engine.session():
        engine.images.update("demo", persistent=True)
    larger = {"name": "a", "template": "web", "disks": [{"IMAGE": "demo", "SIZE": 32}]}
    run(engine, larger, a=("PROLOG_FAILURE", {"kind": "NotFound", "asked": "its image", "found": "none"}))
    assert engine.images.info("demo").size == 16, "its disks were not made"
    run(engine, larger)
    assert engine.images.info("demo").size == 32
    run(engine, {"name": "a", "state": "absent", "hard": True})
    smaller = {"name": "b", "template": "web", "disks": [{"IMAGE": "demo", "SIZE": 20}]}
    assert "has 32 MB" in failed(want(engine, smaller)[0])[0]


@pytest.mark.parametrize("state", ["RUNNING", "POWEROFF"])
def test_a_recreation_that_is_refused_leaves_all_as_it_was(engine, state):
    """Nothing was made: its image is as large as before, and it is still to be made anew, and to run."""
    with engine.session():
        engine.images.update("demo", persistent=True)
    item = {"name": "a", "template": "web", "disks": [{"IMAGE": "demo", "SIZE": 32}]}
    run(engine, item)
    larger = dict(item, recreate=True, disks=[{"IMAGE": "demo", "SIZE": 64}], memory=256)
    run(engine, larger, a=(state, {"kind": "StorageFailed", "asked": "motd", "found": "it is not here"}))
    assert engine.images.info("demo").size == 32
    (machine,) = engine.vms.pool()
    assert (machine.wanted, machine.recreates) == ("RUNNING", True)


def test_an_image_that_is_not_persistent_keeps_its_size(engine):
    run(engine, {"name": "a", "template": "web", "disks": [{"IMAGE": "demo", "SIZE": 32}]})
    assert engine.images.info("demo").size == 16


def test_only_hosts_of_the_run_are_used(engine, edit):
    with engine.session():
        engine.hosts.allocate(edit(engine.hosts.info("node1"), id=None, name="node2", memory_used=0))
    _, plans, _ = want(engine, dict(WEB, count=4), hosts=["node2"])
    assert list(plans) == ["node2"]
    carry_out(engine, plans)
    _, plans, warnings = want(engine, dict(WEB, count=4, state="poweroff"), hosts=["node1"])
    assert plans == {} and "not part of this run" in warnings[0]


def test_machines_spread_over_hosts(engine, edit):
    with engine.session():
        engine.hosts.allocate(edit(engine.hosts.info("node1"), id=None, name="node2", memory_used=0))
    _, plans, _ = want(engine, dict(WEB, count=10))
    assert {host: len(plan.vms) for host, plan in plans.items()} == {"node1": 5, "node2": 5}


def test_history_tells_what_happened(engine):
    run(engine, dict(WEB, count=1))
    run(engine, dict(WEB, count=1, state="poweroff"))
    assert [(s["state"], s["action"]) for s in engine.vms.history(0)] == [
        ("PROLOG", "instantiate"),
        ("RUNNING", "deploy"),
        ("SHUTDOWN_POWEROFF", "poweroff"),
        ("POWEROFF", "deploy"),
    ]


def test_a_fixed_uuid_is_one_machines(engine):
    fixed = {"template": "web", "attributes": {"OS": {"UUID": "01234567-89ab-4cde-8f01-23456789ABCD"}}}
    outcomes, _, _ = want(engine, dict(fixed, name="u-%i", count=2))
    assert "01234567" in failed(outcomes)[0]
    run(engine, dict(fixed, name="a"))
    assert machines(engine)["a"].uuid == "01234567-89ab-4cde-8f01-23456789abcd"
    assert len(failed(want(engine, dict(fixed, name="b"))[0])) == 1
    run(engine, {"name": "a", "state": "absent"})
    run(engine, dict(fixed, name="b"))
    assert "b" in machines(engine)


def test_an_ending_that_the_guest_ignored_leaves_the_machine_as_it_was(engine):
    run(engine, WEB)
    error = {"kind": "TimedOut", "asked": "VM web-2: shutdown", "found": "still running", "remedy": "hard: true"}
    run(engine, dict(WEB, count=2), web_2=("RUNNING", error))
    record = machines(engine)["web-2"]
    assert (record.state, record.wanted) == ("RUNNING", "RUNNING") and "still running" in record.error
    _, plans, _ = want(engine, dict(WEB, count=2, hard=True))
    assert [(p.vm.name, p.wanted, p.hard) for p in plans["node1"].vms] == [("web-2", "DONE", True)]


def test_an_ending_that_failed_half_way_goes_on_with_its_orders(engine):
    run(engine, WEB)
    error = {"kind": "HypervisorError", "asked": "VM web-0: remove", "found": "busy", "remedy": ""}
    run(engine, {"name": "web-%i", "state": "absent", "hard": True}, web_0=("EPILOG_FAILURE", error))
    _, plans, _ = want(engine)
    assert [(p.vm.name, p.wanted, p.hard) for p in plans["node1"].vms] == [("web-0", "DONE", True)]
    assert "busy" in engine.vms.pool(ids=[0])[0].error
    carry_out(engine, plans)
    assert engine.vms.pool() == []


def test_a_plan_that_was_overtaken_records_nothing(engine):
    _, older, _ = want(engine, WEB)
    _, newer, _ = want(engine, WEB)
    stale = {
        "kind": "StalePlan",
        "asked": "VM",
        "found": "another run has brought this host a newer plan",
        "remedy": "",
    }
    carry_out(engine, older, web_0=("UNKNOWN", stale), web_1=("UNKNOWN", stale), web_2=("UNKNOWN", stale))
    carry_out(engine, newer)
    assert {(r.state, r.error) for r in engine.vms.pool()} == {("RUNNING", "")}


def test_a_console_port_that_a_stranger_took_is_left_to_it(engine):
    vnc = {"name": "v", "template": "web", "attributes": {"GRAPHICS": {"TYPE": "vnc"}}}
    error = {"kind": "NoCapacity", "asked": "VM v: port 5900", "found": "taken", "remedy": "Run again"}
    run(engine, vnc, v=("BOOT_FAILURE", error))
    _, plans, _ = want(engine, vnc, observed=[Observed("node1", memory=4096, ports=(5900,))])
    assert plans["node1"].vms[0].vm.graphics.port == 5901
    fixed = {"name": "f", "template": "web", "attributes": {"GRAPHICS": {"TYPE": "vnc", "PORT": "6000"}}}
    run(engine, fixed, f=("BOOT_FAILURE", error))
    _, plans, _ = want(engine, fixed, observed=[Observed("node1", memory=4096, ports=(6000,))])
    assert {p.vm.name: p.vm.graphics.port for p in plans["node1"].vms}["f"] == 6000


def test_a_live_change_that_failed_is_tried_again(engine):
    run(engine, WEB)
    error = {"kind": "HypervisorError", "asked": "VM web-0: context", "found": "busy", "remedy": ""}
    run(engine, dict(WEB, context={"ROLE": "a"}), web_0=("RUNNING", error))
    _, plans, _ = want(engine, dict(WEB, context={"ROLE": "a"}))
    assert [p.vm.name for p in plans["node1"].vms] == ["web-0"]
    carry_out(engine, plans)
    assert want(engine, dict(WEB, context={"ROLE": "a"}))[1] == {}


def test_another_host_than_asked_for_is_told(engine, edit):
    run(engine, dict(WEB, host="node1"))
    with engine.session():
        engine.hosts.allocate(edit(engine.hosts.info("node1"), id=None, name="node2", memory_used=0))
    outcomes, plans, _ = want(engine, dict(WEB, host="node2"))
    assert plans == {} and "it is on node1, the list says node2" in outcomes[0].differs[0]
    (difference,) = outcomes[0].differences
    assert (difference.attribute, difference.found, difference.wanted) == ("host", "node1", "node2")
    assert "state: absent" in difference.remedy


def test_a_lowered_count_leaves_machines_of_other_hosts_alone(engine, edit):
    with engine.session():
        engine.hosts.allocate(edit(engine.hosts.info("node1"), id=None, name="node2", memory_used=0))
    run(engine, dict(WEB, count=4))
    _, plans, warnings = want(engine, dict(WEB, count=0), hosts=["node1"])
    assert {p.vm.name for p in plans["node1"].vms} == {"web-0", "web-2"} and list(plans) == ["node1"]
    assert sum("not part of this run" in text for text in warnings) == 2
    assert {r.wanted for r in engine.vms.pool(names=["web-1", "web-3"])} == {"RUNNING"}


def test_what_a_network_says_anew_reaches_contexts(engine):
    run(engine, WEB)
    with engine.session():
        attributes = dict(engine.networks.info("Public").attributes, DNS="10.66.0.2")
        engine.networks.update("Public", attributes=attributes)
    _, plans, _ = want(engine, WEB)
    assert {p.vm.context.variables["ETH0_DNS"] for p in plans["node1"].vms} == {"10.66.0.2"}
    assert {p.vm.nics[0].ip for p in plans["node1"].vms} == {"10.66.0.10", "10.66.0.11", "10.66.0.12"}
    carry_out(engine, plans)
    assert want(engine, WEB)[1] == {}


def test_memory_and_poweroff_in_one_go(engine):
    run(engine, WEB)
    outcomes, plans, _ = want(engine, dict(WEB, state="poweroff", memory=256))
    assert not outcomes[0].differs
    assert {(p.wanted, p.vm.memory) for p in plans["node1"].vms} == {("POWEROFF", 256)}


@pytest.mark.parametrize(
    ("seen", "says"),
    [
        (Observed("node1", catalog="0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"), "marks of catalog 0b4c0e1f"),
        (Observed("node1", catalog="", plan_number=99), "it names plan 99"),
    ],
)
def test_a_lost_or_older_catalog_decides_nothing(engine, edit, seen, says):
    run(engine, WEB)
    seen = seen if seen.catalog else edit(seen, catalog=engine.catalog())
    with engine.session(), pytest.raises(NebulaError, match=says):
        engine.hosts.check([seen])
    engine.hosts.check([Observed("node1", catalog=engine.catalog(), plan_number=1)])


def test_a_poll_that_is_older_than_what_was_recorded_is_passed_over(engine, edit):
    """Another run was faster between this one's poll and its decision: what it recorded is newer."""
    poll = Observed("node1", catalog=engine.catalog(), plan_number=1, done_number=0)
    _outcomes, plans, _warnings = want(engine, {"name": "a", "template": "web"})
    (planned,) = plans["node1"].vms
    number, vm_id = plans["node1"].number, planned.vm.vm_id
    with engine.session():
        engine.vms.record("node1", [VmOutcome(vm_id, planned.generation, "RUNNING", True)], number)
    with engine.session():
        assert engine.vms.observe([poll]) == []
        assert [found.state for found in engine.vms.pool()] == ["RUNNING"]
        # A node that lost its file, and one that was polled afterwards, are believed.
        (moved,) = engine.vms.observe([edit(poll, catalog="")])
        assert moved.state == "UNKNOWN"
        seen = ObservedVm(vm_id, planned.vm.uuid, "RUNNING", planned.generation)
        (moved,) = engine.vms.observe([edit(poll, done_number=number, vms=(seen,))])
        assert moved.state == "RUNNING"


@pytest.mark.parametrize("gone", [False, True])
def test_a_host_that_is_given_up_goes_with_its_machines(engine, gone):
    run(engine, WEB)
    host = machines(engine)["web-0"].host
    before = {record.id for record in engine.vms.pool()}
    there = [record for record in engine.vms.pool() if record.host == host]
    kept = {record.name for record in engine.vms.pool()} - {record.name for record in there}
    with engine.session():
        engine.hosts.forget(host, gone)
    assert set(machines(engine)) == kept
    assert host not in {known.name for known in engine.hosts.pool()}
    ended = engine.vms.pool(ids=[there[0].id], done=True)
    assert [record.state for record in ended] == ["DONE"]
    assert engine.vms.history(there[0].id)[-1]["reason"] == f"host {host} was forgotten"
    assert engine.vms.plans([host]) == {}, "nobody is left to be told"
    with engine.session():
        engine.hosts.allocate(Host(None, "other", state=HostState.MONITORED, memory=8192, cpu=8.0))
    run(engine, WEB)
    again = machines(engine)
    # They may run there yet, unless somebody knows that they do not.
    addresses = [{record.nics[0]["ip"] for record in found} for found in (there, again.values())]
    assert addresses[0] == addresses[1] if gone else addresses[0].isdisjoint(addresses[1])
    assert before.isdisjoint(again[record.name].id for record in there), "an id was used twice"


def test_addresses_of_machines_that_are_being_ended_are_said_to_be_theirs_yet(cramped):
    engine = cramped
    run(engine, WEB)
    _outcomes, plans, _ = want(engine, {**WEB, "state": "absent"})
    (text,) = failed(want(engine, {"name": "new", "template": "web"})[0])
    assert "1 wanted, 0 free of 3; 3 are held by machines that are being ended. Run again when these are gone" in text
    carry_out(engine, plans)
    assert not failed(want(engine, {"name": "new", "template": "web"})[0])


def test_a_machine_comes_to_a_host_that_can_have_it(engine):
    """Its template says nothing of hypervisors, and one host's has no such machines."""
    pvh = {"OS": {"MACHINE": "xenpvh", "KERNEL": "/boot/vmlinuz"}}
    item = {"name": "pvh", "template": "web", "attributes": pvh}
    (text,) = failed(want(engine, item)[0])
    assert "VM pvh: OS" in text and "xenpvh" in text and "no such machine type" in text
    with engine.session():
        small = Host(None, "xen1", state=HostState.MONITORED, hypervisor="xen", memory=1024, cpu=8.0)
        engine.hosts.allocate(small)
    run(engine, item)
    assert machines(engine)["pvh"].host == "xen1"
    (text,) = failed(want(engine, {**item, "name": "pinned", "host": "node1"})[0])
    assert "VM pinned: OS" in text and "no such machine type" in text
    (text,) = failed(want(engine, {**item, "name": "here", "attributes": {**pvh, "HYPERVISOR": "kvm"}})[0])
    assert "no such machine type" in text
    (text,) = failed(want(engine, {**item, "name": "large", "memory": 2048})[0])
    assert "xen1 has" in text, "and it is not put where it can't be"


def test_a_machine_for_xen_comes_to_a_host_of_xen_by_whosever_hand(engine):
    """HYPERVISOR tells what machine it is, not by which of the drivers it is made; pinned or not."""
    xen = {"OS": {"MACHINE": "xenpvh", "KERNEL": "/boot/vmlinuz"}, "HYPERVISOR": "xen"}
    item = {"name": "pvh", "template": "web", "attributes": xen}
    with engine.session():
        engine.hosts.allocate(
            Host(None, "virsh1", state=HostState.MONITORED, hypervisor="xen_libvirt", memory=4096, cpu=8.0)
        )
    run(engine, item, {**item, "name": "pinned", "host": "virsh1"})
    assert {machines(engine)[name].host for name in ("pvh", "pinned")} == {"virsh1"}
    (text,) = failed(
        want(engine, {"name": "kvm", "template": "web", "host": "virsh1", "attributes": {"HYPERVISOR": "kvm"}})[0]
    )
    assert "xen_libvirt" in text


# -- owners -----------------------------------------------------------------------------------------------------------

ANN = {"name": "ann", "uid": 104, "attributes": {"SSH_PUBLIC_KEY": "ssh-rsa s3cr3t-1"}}
KEY = {"KEY": "$USER[SSH_PUBLIC_KEY]", "WHO": "$UNAME:$UID:$GNAME"}


def told(plans):
    return [{key: each.vm.context.variables.get(key) for key in KEY} for each in plans["node1"].vms]


def test_a_machine_is_its_owners_and_stays_so(engine):
    web = {"name": "a", "template": "web", "context": KEY, "owner": ANN}
    outcomes, plans, warnings = want(engine, web)
    assert failed(outcomes) == []
    assert told(plans) == [{"KEY": "ssh-rsa s3cr3t-1", "WHO": "ann:104:"}]
    # The group was not said, and that is told.
    assert len(warnings) == 1 and "WHO" in warnings[0] and "nebula_owner" in warnings[0]
    # No node needs what its context does not say.
    assert plans["node1"].vms[0].vm.owner.attributes == {}
    carry_out(engine, plans)
    for item in (web, {key: value for key, value in web.items() if key != "owner"}, {**web, "owner": {}}):
        outcomes, plans, _ = want(engine, item)
        assert plans == {} and all(o.before == o.after for o in outcomes)
    # What else changes leaves it its owner.
    _, plans, _ = want(engine, {"name": "a", "template": "web", "context": {**KEY, "MORE": "x"}})
    assert told(plans) == [{"KEY": "ssh-rsa s3cr3t-1", "WHO": "ann:104:"}]
    carry_out(engine, plans)
    _, plans, _ = want(engine, {"name": "a", "template": "web", "context": KEY, "memory": 256, "recreate": True})
    assert told(plans) == [{"KEY": "ssh-rsa s3cr3t-1", "WHO": "ann:104:"}]


def test_another_owner_changes_the_contexts_that_ask_for_one(engine):
    web = {"name": "a", "template": "web", "context": KEY, "owner": ANN}
    plain = {"name": "b", "template": "web", "owner": ANN}
    run(engine, web, plain)
    bob = {"name": "bob", "uid": 105, "group": "users", "attributes": {"SSH_PUBLIC_KEY": "ssh-rsa s3cr3t-2"}}
    (first, second), plans, _ = want(engine, {**web, "owner": bob}, {**plain, "owner": bob})
    assert told(plans) == [{"KEY": "ssh-rsa s3cr3t-2", "WHO": "bob:105:users"}]
    assert [(change.attribute, change.old, change.new, change.how) for change in first.changes] == [
        ("owner", "ann", "bob", "live")
    ]
    assert second.before == second.after
    carry_out(engine, plans)
    outcomes, plans, _ = want(engine, {**web, "owner": bob}, {**plain, "owner": bob})
    assert plans == {} and all(o.before == o.after for o in outcomes)


def test_a_context_on_a_disk_waits_for_another_owner_until_the_machine_is_off(engine):
    web = {"name": "a", "template": "web", "context": KEY, "context_device": "disk", "owner": ANN}
    run(engine, web)
    (outcome,), plans, _ = want(engine, {**web, "owner": {"name": "bob"}})
    assert outcome.after.waits == [{"part": "owner", "found": "ann", "wanted": "bob"}]
    carry_out(engine, plans)
    _, plans, _ = want(engine, web)
    assert engine.vms.pool()[0].waits == []
    carry_out(engine, plans)
    (outcome,), plans, _ = want(engine, {**web, "owner": {"name": "bob"}, "state": "poweroff"})
    assert not outcome.differs and told(plans)[0]["WHO"] == "bob::"


def test_what_an_owner_has_goes_with_the_machine(engine):
    run(engine, {"name": "a", "template": "web", "context": KEY, "owner": ANN})
    run(engine, {"name": "a", "state": "absent"})
    (record,) = engine.vms.pool(done=True)
    assert record.owner.name == "ann" and record.owner.attributes == {}


def test_an_owner_that_can_t_be_is_that_machines_error_alone(engine):
    run(engine, {"name": "old", "template": "web"})
    outcomes = run(engine, {"name": "old", "state": "absent", "owner": "ann"})
    assert failed(outcomes) == [] and machines(engine) == {}
    outcomes, plans, _ = want(
        engine, {"name": "a", "template": "web", "owner": "ann"}, {"name": "b", "template": "web"}
    )
    assert failed(outcomes) == ["VM a: owner: it is a str. Give a dict with name, uid, group, gid, attributes"]
    assert [each.vm.name for each in plans["node1"].vms] == ["b"]


# -- what is said for all NICs ----------------------------------------------------------------------------------------


def test_what_nic_default_says_is_in_the_machines_own_nics(engine):
    web = {"name": "a", "template": "web", "attributes": {"NIC_DEFAULT": {"MODEL": "e1000"}}}
    outcomes, plans, _ = want(engine, web)
    assert failed(outcomes) == []
    assert [nic.model for nic in plans["node1"].vms[0].vm.nics] == ["e1000"]
    carry_out(engine, plans)
    for again in (web, {"name": "a", "template": "web", "nics": [{"NETWORK": "Public", "MODEL": "e1000"}]}):
        outcomes, plans, _ = want(engine, again)
        assert plans == {} and not outcomes[0].differs and outcomes[0].before == outcomes[0].after
    other = {**web, "attributes": {"NIC_DEFAULT": {"MODEL": "rtl8139"}}}
    (outcome,), plans, _ = want(engine, other)
    assert outcome.after.waits == [
        {"part": "NIC 0", "found": "[ MODEL = e1000 ]", "wanted": "[ MODEL = rtl8139 ]"},
    ]
    (outcome,), plans, _ = want(engine, {**other, "recreate": True})
    assert [nic.model for nic in plans["node1"].vms[0].vm.nics] == ["rtl8139"]


def test_another_emulator_waits_until_the_machine_is_off(engine):
    web = {"name": "a", "template": "web"}
    run(engine, web)
    other = {**web, "attributes": {"EMULATOR": "/opt/qemu"}}
    (outcome,), plans, _ = want(engine, other)
    assert outcome.after.waits == [{"part": "EMULATOR", "found": "nothing", "wanted": "/opt/qemu"}]
    (outcome,), plans, _ = want(engine, {**other, "state": "poweroff"})
    assert not outcome.differs and plans["node1"].vms[0].vm.emulator == "/opt/qemu"


# -- a list as a whole -------------------------------------------------------------------------------------------------
SMALL = {"name": "small-%i", "count": 4, "template": "web", "memory": 1000, "cpu": 4}
BIG = {"name": "big-%i", "count": 2, "template": "web", "memory": 2000, "cpu": 8}
GONE = {"name": "small-%i", "state": "absent"}


def placed(engine):
    return {name: (record.memory, record.wanted) for name, record in machines(engine).items()}


@pytest.mark.parametrize("items", [(GONE, BIG), (BIG, GONE), (BIG, dict(SMALL, count=0))])
def test_machines_take_the_place_of_those_that_the_same_list_ends(engine, items):
    run(engine, SMALL)
    outcomes, plans, _ = want(engine, *items)
    assert failed(outcomes) == []
    (plan,) = plans.values()
    assert sorted((p.vm.name, p.wanted) for p in plan.vms) == [
        *(("big-0", "RUNNING"), ("big-1", "RUNNING")),
        *((f"small-{index}", "DONE") for index in range(4)),
    ]
    # What the node has to get back first: 4096 MiB and 16 CPU are promised to the small ones but for 96 MiB.
    assert (plan.lacking_memory, plan.lacking_cpu) == (3904, 16.0)
    carry_out(engine, plans)
    assert placed(engine) == {"big-0": (2000, "RUNNING"), "big-1": (2000, "RUNNING")}
    host = engine.hosts.info("node1")
    assert (host.memory_used, host.cpu_used, host.vms) == (4000, 16.0, 2)


def test_fewer_machines_that_are_larger_in_one_item(engine):
    run(engine, SMALL)
    outcomes, plans, _ = want(engine, dict(SMALL, count=2, memory=2000, cpu=8, recreate=True))
    assert failed(outcomes) == []
    carry_out(engine, plans)
    assert placed(engine) == {"small-0": (2000, "RUNNING"), "small-1": (2000, "RUNNING")}


@pytest.mark.parametrize("items", [(GONE, BIG), (BIG, GONE)])
def test_nothing_is_ended_where_the_rest_does_not_fit_all_the_same(engine, items):
    run(engine, SMALL)
    before = machines(engine)
    outcomes, plans, _ = want(engine, *(dict(item, memory=2100) if item is BIG else item for item in items))
    (text,) = failed(outcomes)
    assert "node1 has 1996 MiB left of 4096, once the machines that are being ended are gone" in text
    assert "nothing that it ends was ended: small-0, small-1, small-2, small-3" in text
    assert plans == {} and machines(engine) == before
    # They are shown as they are.
    assert {o.name: o.after for o in outcomes if o.after is not None} == before


def test_what_fits_without_any_end_is_made_where_nothing_is_ended(engine):
    run(engine, dict(SMALL, count=3))
    items = (dict(SMALL, count=0), dict(BIG, count=1, memory=9000), {"name": "web", "template": "web"})
    outcomes, plans, _ = want(engine, *items)
    assert len(failed(outcomes)) == 1
    carry_out(engine, plans)
    assert sorted(machines(engine)) == ["small-0", "small-1", "small-2", "web"]
    # One that had fitted in the place of those is told why it does not.
    outcomes, _, _ = want(engine, *items, dict(BIG, name="next", count=1, memory=3000))
    (first, second) = failed(outcomes)
    assert "9000 MiB" in first and "3000 MiB" in second
    assert all("nothing that it ends was ended: small-2, small-1, small-0" in text for text in (first, second))


def test_an_item_that_can_not_be_keeps_what_it_would_end_and_nobody_gets_that_place(engine):
    run(engine, SMALL)
    bad = dict(SMALL, count=1, recreate=True, nics=[{"NETWORK": "nosuch"}])
    outcomes, plans, _ = want(engine, bad, dict(BIG, count=1, memory=3000))
    (refused, without) = failed(outcomes)
    assert "network 'nosuch'" in refused and "3000 MiB" in without
    assert "was ended" not in refused + without
    assert plans == {} and sorted(machines(engine)) == [f"small-{index}" for index in range(4)]
    shown = [o.name for o in outcomes if o.after is not None]
    assert sorted(shown) == [f"small-{index}" for index in range(4)], "each once, as it is"


def test_a_machine_of_an_item_that_can_not_be_read_is_shown_as_it_is(engine):
    run(engine, WEB, {"name": "db", "template": "web"})
    outcomes, _, _ = want(engine, dict(WEB, template="nosuch"), {"name": "db", "template": 1.5}, {"name": "db"})
    assert len(failed(outcomes)) == 2
    assert sorted(o.name for o in outcomes if o.after is not None) == ["db", "web-0", "web-1", "web-2"]


def test_what_becomes_smaller_makes_room_wherever_it_stands(engine):
    items = [{"name": name, "template": "web", "state": "poweroff", "memory": 2000} for name in ("a", "b")]
    run(engine, *items)
    outcomes, plans, _ = want(engine, dict(items[0], memory=3000), dict(items[1], memory=1000))
    assert failed(outcomes) == []
    assert placed(engine) == {"a": (3000, "POWEROFF"), "b": (1000, "POWEROFF")}
    # Until b is done it holds what it had.
    assert (plans["node1"].lacking_memory, [p.gives_memory for p in plans["node1"].vms]) == (904, [0, 1000])
    carry_out(engine, plans)
    _, plans, _ = want(engine, {"name": "c", "template": "web", "memory": 64})
    assert [(p.vm.name, p.gives_memory) for p in plans["node1"].vms] == [("c", 0)]


def test_addresses_of_those_that_end_are_free_once_they_are_gone(cramped):
    """Another host might start the next machine before theirs has ended them."""
    engine = cramped
    run(engine, WEB)
    new = {"name": "new-%i", "count": 3, "template": "web"}
    outcomes, plans, _ = want(engine, new, dict(WEB, state="absent"))
    (text,) = failed(outcomes)
    assert "3 are held by machines that are being ended. Run again when these are gone" in text
    assert [p.wanted for p in plans["node1"].vms] == ["DONE"] * 3, "the next run is to go on"
    carry_out(engine, plans)
    assert failed(run(engine, new, dict(WEB, state="absent"))) == []
    assert sorted(machines(engine)) == ["new-0", "new-1", "new-2"]
    # Too few even then: the old ones stay.
    outcomes, plans, _ = want(engine, dict(WEB, count=4), dict(new, state="absent"))
    assert "nothing that it ends was ended: new-0, new-1, new-2" in failed(outcomes)[0] and plans == {}


def test_what_only_waits_for_an_end_of_its_own_item_lets_that_end(cramped):
    engine = cramped
    run(engine, WEB)
    two = dict(WEB, count=1, recreate=True, nics=[{"NETWORK": "Public"}, {"NETWORK": "Public"}, {"NETWORK": "Public"}])
    outcomes, plans, _ = want(engine, two)
    assert "are held by machines that are being ended" in failed(outcomes)[0]
    assert sorted(p.vm.name for p in plans["node1"].vms) == ["web-1", "web-2"]
    assert sorted(o.name for o in outcomes if o.after is not None) == ["web-0", "web-1", "web-2"]
    carry_out(engine, plans)
    assert failed(run(engine, two)) == []
    assert len(machines(engine)["web-0"].nics) == 3


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ({"nics": [{"NETWORK": "Public", "IP": "10.66.0.10"}]}, "VM old (id 0) has it, on NIC 0, and is being ended"),
        ({"attributes": {"GRAPHICS": {"TYPE": "vnc", "PORT": "6000"}}}, "VM old (id 0) has it, and is being ended"),
    ],
)
def test_an_address_or_port_that_is_asked_for_waits_for_the_end_of_who_has_it(engine, item, says):
    old = {"name": "old", "template": "web", **item}
    run(engine, old)
    items = (dict(old, name="new"), {"name": "old", "state": "absent"})
    outcomes, plans, _ = want(engine, *items)
    assert says in failed(outcomes)[0]
    assert [(p.vm.name, p.wanted) for p in plans["node1"].vms] == [("old", "DONE")]
    carry_out(engine, plans)
    assert failed(run(engine, *items)) == []
    assert sorted(machines(engine)) == ["new"]


def test_a_machine_whose_place_was_not_given_back_is_not_started_beside_what_stayed(engine):
    error = {"kind": "TimedOut", "asked": "the guest", "found": "it did not obey", "remedy": "Raise shutdown_timeout"}
    refused = {"kind": "NoCapacity", "asked": "virtual machine big-0", "found": "it stayed", "remedy": ""}
    old = {"name": "old", "template": "web", "memory": 3000}
    big = dict(BIG, count=1)
    run(engine, old)
    _, plans, _ = want(engine, big, dict(old, state="absent"))
    carry_out(engine, plans, old=("RUNNING", error), big_0=("PROLOG_FAILURE", refused))
    assert placed(engine) == {"old": (3000, "RUNNING"), "big-0": (2000, "RUNNING")}
    # The list has changed its mind: what is there by now is more than there is room for.
    (text,) = failed(want(engine, big, old)[0])
    assert "VM big-0" in text and "node1 were promised is more than it has, by 904 MiB and 0 CPU" in text
    assert failed(run(engine, big, dict(old, state="absent"))) == []
    assert placed(engine) == {"big-0": (2000, "RUNNING")}


def ips(engine):
    return {name: [nic["ip"] for nic in record.nics] for name, record in machines(engine).items()}


def test_addresses_that_a_machine_is_to_have_no_more_are_its_own_until_it_is_made_anew(engine):
    """Its domain uses them, and another host may be at the same list before its own is."""
    run(engine, {"name": "a", "template": "web"})
    anew = {"name": "a", "template": "web", "recreate": True, "nics": [{"NETWORK": "Public", "IP": "10.66.0.50"}]}
    asks = {"name": "c", "template": "web", "nics": [{"NETWORK": "Public", "IP": "10.66.0.10"}]}
    outcomes, plans, _ = want(engine, anew, {"name": "b", "template": "web"}, asks)
    assert ips(engine) == {"a": ["10.66.0.50"], "b": ["10.66.0.11"]}
    assert "VM a (id 0) has it until it is made anew, or was off. Run again when that is done" in failed(outcomes)[0]
    assert {finding.kind for finding in engine.ledger().findings} == {"machine-unfinished"}
    with engine.session():
        assert engine.repair() == []
    # It was not made anew: what runs is what ran before.
    error = {"kind": "HypervisorError", "asked": "VM a", "found": "it broke", "remedy": ""}
    carry_out(engine, plans, a=("RUNNING", error))
    assert "until it is made anew" in failed(want(engine, asks)[0])[0]
    # Back to what it had, and on again: nothing is lost on the way, and nothing held twice.
    back = dict(anew, nics=[{"NETWORK": "Public", "IP": "10.66.0.10"}])
    for item, there in ((back, "10.66.0.10"), (anew, "10.66.0.50"), (back, "10.66.0.10")):
        want(engine, item)
        assert ips(engine)["a"] == [there]
        assert engine.networks.info("Public").address_ranges[0].used == 3
    run(engine, back)
    assert engine.networks.info("Public").address_ranges[0].used == 2 and engine.ledger().findings == ()


def test_what_lacks_addresses_that_are_held_so_waits_for_them(cramped):
    engine = cramped
    run(engine, dict(WEB, count=2))
    anew = dict(WEB, count=2, recreate=True, nics=[])
    new = {"name": "new-%i", "count": 3, "template": "web"}
    outcomes, plans, _ = want(engine, anew, new)
    assert "3 wanted, 1 free of 3; 2 are held until machines are made anew. Run again then" in failed(outcomes)[0]
    carry_out(engine, plans)
    assert failed(run(engine, anew, new)) == []
    assert len(machines(engine)) == 5
    # One that ends before it was made anew holds nothing any more.
    want(engine, dict(new, recreate=True, nics=[]))
    run(engine, dict(new, state="absent"), dict(WEB, state="absent"))
    assert engine.networks.info("Public").address_ranges[0].used == 0
