# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which machines move in which round, where to, and what is told of those that do not."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmOrders
from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, NotFound, Unsupported
from ansible_collections.nebula.provision.plugins.module_utils.model.datastore import Datastore, DatastoreType
from ansible_collections.nebula.provision.plugins.module_utils.model.move import (
    COLD,
    HAS_ARRIVED,
    HAS_LEFT,
    HAS_STAYED,
    IS_ABSENT,
    LIVE,
    SOURCE,
    TARGET,
    MeetingPlace,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed, ObservedVm, VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms import decided_list
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.move_rounds import (
    Maintenance,
    Moves,
    Terms,
    WantedMove,
    read_moves,
)
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.restarts import batch_of
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.conftest import furnish

HOSTS = ["node1", "node2", "node3"]
ERROR = {"kind": "HypervisorError", "asked": "VM web: move", "found": "it did not get there", "remedy": ""}
WEB = {"name": "web", "template": "web", "host": "node1"}
MANY = {"name": "web-%i", "count": 4, "template": "web", "host": "node1"}
# Everything but the differences, which tests give with the items.
PLACES = {host: MeetingPlace(f"10.9.0.{number}") for number, host in enumerate(HOSTS, 1)}


@pytest.fixture
def site(bare):
    return furnish(bare, hosts=HOSTS)


def moves(batch="2", forks=5, hosts=HOSTS, places=None, maintenance=None, check=False):
    terms = Terms(batch_of(batch, "move_batch"), forks, hosts, PLACES if places is None else places)
    return Moves(terms, maintenance or Maintenance(), check)


def decide(engine, *items, check=False, **terms):
    """What a decision of the list comes to, with its plans carried out by nodes that obey."""
    with engine.session():
        decided = decided_list.decide(engine, items, [], HOSTS, True, False, moves=moves(check=check, **terms))
        for host, plan in decided.plans.items():
            for each in plan.vms:
                answer(engine, host, each)
    return decided


def answer(engine, host, planned, fails=()):
    moved, error, state = "", None, planned.wanted
    if planned.move is not None:
        bad = planned.vm.name in fails
        moved = {SOURCE: HAS_STAYED if bad else HAS_LEFT, TARGET: IS_ABSENT if bad else HAS_ARRIVED}[planned.move.role]
        error = ERROR if bad else None
        state = "UNKNOWN" if moved in (HAS_LEFT, IS_ABSENT) else planned.wanted
    outcome = VmOutcome(planned.vm.vm_id, planned.generation, state, True, error, moved=moved)
    engine.vms.record(host, [outcome])


def round_of(engine, wanted, fails=(), silent=(), **terms):
    """Names of the machines that one round moves, and the hosts that act in it."""
    with engine.session():
        decided = decided_list.move(engine, wanted, [], HOSTS, True, False, moves(**terms))
        begun = [each.name for each in decided.outcomes if each.before != each.after]
        for host, plan in reversed(decided.plans.items()):
            for each in plan.vms if host not in silent else ():
                answer(engine, host, each, fails)
    return begun, sorted(decided.plans), [str(each.error) for each in decided.outcomes if each.error]


def places(engine):
    return {record.name: record.host for record in engine.vms.pool()}


def switch(engine, host, state):
    with engine.session():
        engine.hosts.update(host, state=state)


def sentences(decided):
    return [each.sentence for outcome in decided.outcomes for each in outcome.differences]


# -- what a list wants -------------------------------------------------------------------------------------------------
def test_another_host_is_a_difference_where_nothing_is_said_of_moves(site):
    decide(site, WEB)
    decided = decide(site, dict(WEB, host="node2"))
    assert decided.moves == [] and moves().rounds(decided.moves) == 0
    (text,) = sentences(decided)
    assert "it is on node1, the list says node2; left as it is: set move: live (nebula_move: live for all)" in text
    assert "move: cold" in text and "or remove it (state: absent)" in text


@pytest.mark.parametrize(
    ("item", "there", "way"),
    [
        ({"move": "live", "host": "node2"}, "running", LIVE),
        ({"move": "all", "host": "node2"}, "running", LIVE),
        ({"move": "cold", "host": "node2"}, "running", COLD),
        ({"move": "all", "host": "node2", "state": "poweroff"}, "poweroff", COLD),
        ({"move": "all", "host": "node2", "state": "present"}, "poweroff", COLD),
        ({"move": "cold", "host": "node2", "state": "poweroff"}, "poweroff", COLD),
        # The list starts it before.
        ({"move": "live", "host": "node2"}, "poweroff", LIVE),
        ({"state": "migrated", "host": "node2"}, "running", LIVE),
        ({"state": "migrated", "host": "node2", "move": "never"}, "running", LIVE),
        ({"state": "migrated", "host": "node2", "move": "cold"}, "running", COLD),
        ({"state": "migrated", "host": "node2"}, "poweroff", COLD),
        ({"state": "migrated", "host": "node2", "move": "live"}, "poweroff", COLD),
    ],
)
def test_a_machine_moves_as_its_item_says(site, item, there, way):
    decide(site, dict(WEB, state=there))
    decided = decide(site, {**WEB, **item})
    assert [(each.host, each.to, each.target, each.way) for each in decided.moves] == [("node1", "node2", "node2", way)]
    assert places(site) == {"web": "node1"} and sentences(decided) == []
    assert round_of(site, decided.moves) == (["web"], ["node1", "node2"], [])
    assert places(site) == {"web": "node2"}
    (record,) = site.vms.pool()
    runs = item.get("state", "running") == "running" or there == "running"
    assert (record.state, record.wanted, record.moving) == (*["RUNNING" if runs else "POWEROFF"] * 2, "")
    again = decide(site, {**WEB, **item})
    assert again.moves == [] and sentences(again) == [] and again.plans == {}


def test_without_a_host_migrated_moves_by_the_scheduler_s_choice_each_time(site):
    decide(site, WEB)
    item = {"name": "web", "template": "web", "state": "migrated"}
    first = decide(site, item)
    assert [(each.to, each.target) for each in first.moves] == [("", "node2")]
    round_of(site, first.moves)
    assert places(site) == {"web": "node2"}
    # The rounds of one decision move it once.
    assert round_of(site, first.moves) == ([], [], [])
    assert [each.host for each in decide(site, item).moves] == ["node2"]


def test_what_is_new_is_made_where_it_is_to_be(site):
    assert decide(site, dict(WEB, state="migrated")).moves == [] and places(site) == {"web": "node1"}


def test_a_machine_that_the_same_list_changes_moves_once_that_is_done(site):
    decide(site, WEB)
    decided = decide(site, dict(WEB, host="node2", move="cold", cpu=1))
    assert [(each.target, each.way) for each in decided.moves] == [("node2", COLD)]
    assert round_of(site, decided.moves)[0] == ["web"] and places(site) == {"web": "node2"}


def test_a_machine_that_the_list_powers_off_moves_as_one_that_is_off(site):
    decide(site, WEB)
    decided = decide(site, dict(WEB, host="node2", move="all", state="poweroff"))
    assert [each.way for each in decided.moves] == [COLD]
    assert round_of(site, decided.moves)[0] == ["web"]


OFF = "it is off, and move: live moves machines that run; left as it is: set move: all (nebula_move: all for all)"


@pytest.mark.parametrize(
    ("there", "state"), [("poweroff", "poweroff"), ("poweroff", "present"), ("running", "poweroff")]
)
def test_a_machine_that_is_off_stays_where_only_those_move_that_run(site, there, state):
    decide(site, dict(WEB, state=there), dict(WEB, name="runs"))
    items = [dict(WEB, host="node2", move="live", state=state), dict(WEB, name="runs", host="node2", move="live")]
    decided = decide(site, *items)
    assert [each.name for each in decided.moves] == ["runs"]
    (text,) = sentences(decided)
    assert OFF in text and "or move: cold, and it moves as it is and stays off" in text
    round_of(site, decided.moves)
    assert places(site) == {"web": "node1", "runs": "node2"}


def test_a_machine_that_was_switched_off_before_its_round_is_told(site):
    decide(site, WEB)
    moving = decide(site, dict(WEB, host="node2", move="live")).moves
    with site.session():
        site.vms.observe([Observed("node1", vms=(ObservedVm(0, "", "POWEROFF"),))])
    begun, _hosts, errors = round_of(site, moving)
    assert begun == [] and "it is off, and move: live moves machines that run" in errors[0]


@pytest.mark.parametrize("state", ["poweroff", "present"])
def test_the_remedy_of_one_that_is_off_and_of_whose_moves_nothing_is_said_moves_it(site, state):
    decide(site, dict(WEB, state="poweroff"))
    (text,) = sentences(decide(site, dict(WEB, host="node2", state=state)))
    assert "set move: all (nebula_move: all for all), and it moves there and stays off, or remove it" in text
    assert "move: live" not in text


@pytest.mark.parametrize("move", ["cold", "all"])
def test_a_machine_is_powered_off_for_its_move_as_its_item_says(site, move):
    decide(site, WEB)
    wanted = decide(site, dict(WEB, host="node2", move=move, hard=True, shutdown_timeout=7)).moves
    assert [(each.hard, each.shutdown_timeout) for each in read_moves([each.view() for each in wanted])] == [(True, 7)]
    with site.session():
        plans = decided_list.move(site, wanted, [], HOSTS, True, False, moves()).plans
    assert [(p.hard, p.shutdown_timeout) for plan in plans.values() for p in plan.vms] == [(True, 7)] * 2


def test_maintenance_powers_machines_off_in_the_usual_way(site):
    decide(site, WEB)
    wanted = relocate(site, empty=["node1"], is_cold=True).moves
    assert [each.orders for each in wanted] == [VmOrders()]


def test_what_is_refused_before_a_host_is_chosen_is_an_error_of_its_round(site):
    decide(site, WEB)
    wanted = decide(site, dict(WEB, host="node2", move="live")).moves
    begun, hosts, errors = round_of(site, wanted, places={})
    assert (begun, hosts) == ([], []) and "nothing says where node2 is met" in errors[0]


def test_what_an_earlier_run_did_not_end_moves_once_this_one_has(site):
    decide(site, WEB)
    with site.session():
        # Nobody carries that plan out.
        decided_list.decide(site, [dict(WEB, cpu=0.25)], [], HOSTS, True, False)
    assert [(each.state, each.settled) for each in site.vms.pool()] == [("RUNNING", False)]
    decided = decide(site, dict(WEB, cpu=0.25, host="node2", move="live"))
    assert sentences(decided) == [] and [(each.target, each.way) for each in decided.moves] == [("node2", LIVE)]
    assert moves().rounds(decided.moves) == 1
    assert round_of(site, decided.moves) == (["web"], ["node1", "node2"], []) and places(site) == {"web": "node2"}


def test_what_this_run_does_not_end_either_does_not_move(site):
    decide(site, WEB)
    item = dict(WEB, cpu=0.25)
    with site.session():
        decided_list.decide(site, [item], [], HOSTS, True, False)
    with site.session():
        item.update(host="node2", move="live")
        wanted = decided_list.decide(site, [item], [], HOSTS, True, False, moves=moves()).moves
    begun, _hosts, errors = round_of(site, wanted)
    assert begun == [] and "what was decided about it is not done yet" in errors[0]
    assert places(site) == {"web": "node1"}


def test_what_somebody_decided_since_does_not_move(site):
    decide(site, WEB)
    moving = decide(site, dict(WEB, host="node2", move="live")).moves
    decide(site, dict(WEB, cpu=1))
    assert round_of(site, moving) == ([], [], [])


# -- check mode --------------------------------------------------------------------------------------------------------
def test_a_forecast_says_where_to_how_and_how_much(site):
    decide(site, WEB, dict(WEB, name="off", state="poweroff"))
    items = [dict(WEB, host="node2", move="live"), dict(WEB, name="off", host="node3", move="all", state="poweroff")]
    decided = decide(site, *items, check=True)
    assert [(each.name, each.target, each.way, each.size) for each in decided.moves] == [
        # Its disk and its memory.
        ("web", "node2", LIVE, 16 + 128),
        ("off", "node3", COLD, 16),
    ]
    first, second = decided_list.vm_items(decided.outcomes)
    assert first.is_changed and second.is_changed
    assert (first.before["host"], first.after["host"]) == ("node1", "node2, live, with at most 144 MiB copied")
    assert set(places(site).values()) == {"node1"}


def test_of_disks_in_a_shared_datastore_nothing_is_copied(site):
    with site.session():
        hosts = ("node1", "node2")
        site.datastores.allocate(Datastore(None, "nfs", DatastoreType.SYSTEM, shared=True, hosts=hosts))
    decide(site, MANY)
    for target, name, size in (("node2", "nfs", 128), ("node3", "", 128 + 16)):
        decided = decide(site, dict(MANY, host=target, move="live"), check=True)
        assert {(each.target, each.datastore, each.size) for each in decided.moves} == {(target, name, size)}
    decided = decide(site, dict(MANY, host="node2", move="cold"), check=True)
    assert {(each.datastore, each.size) for each in decided.moves} == {("nfs", 0)}


def test_a_decision_itself_changes_nothing(site):
    decide(site, WEB)
    decided = decide(site, dict(WEB, host="node2", move="live"))
    assert not any(item.is_changed for item in decided_list.vm_items(decided.outcomes)) and decided.plans == {}


# -- what can't be -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("item", "terms", "reason"),
    [
        (
            {"host": "node9"},
            {},
            "host node9 is not part of this run; left as it is: did you mean 'node3'? Known are node1, node2, node3",
        ),
        ({"host": "nodee2"}, {}, "did you mean 'node2'?"),
        ({"host": "node2"}, {"forks": 1}, "Ansible acts on 1 host at a time; left as it is: set forks to 2 or more"),
        ({"host": "node2"}, {"places": {}}, "nothing says where node2 is met; left as it is: set nebula_move_address"),
        (
            {"host": "node2"},
            {"places": {"node2": MeetingPlace("127.0.1.1")}},
            "other hosts do not reach host node2 by 127.0.1.1",
        ),
        ({"state": "migrated", "host": ""}, {"places": {}}, "can't: nothing says where node2 is met"),
        ({"state": "migrated", "host": ""}, {"hosts": ["node1"]}, "no other host is part of this run"),
        ({"host": "node3"}, {}, "host node3 is DISABLED"),
    ],
)
def test_what_can_t_move_is_a_difference_with_its_remedy(site, item, terms, reason):
    decide(site, WEB)
    switch(site, "node3", HostState.DISABLED)
    engine = site
    with engine.session():
        given = dict(WEB, move="live", **{key: value for key, value in item.items() if value})
        given = given if item.get("host") != "" else {**given, "host": None}
        limits = {"hosts": HOSTS, **terms}
        decided = decided_list.decide(engine, [given], [], limits["hosts"], True, False, moves=moves(**limits))
    assert decided.moves == [] and moves().rounds(decided.moves) == 0
    (text,) = sentences(decided)
    assert reason in text and text.startswith("VM web (id 0) is on host node1, is to move to ")
    assert places(engine) == {"web": "node1"}


def test_a_machine_for_which_there_is_no_room_stays(bare):
    site = furnish(bare, memory=600, hosts=HOSTS[:2])
    decide(site, WEB, dict(WEB, name="large", memory=500, host="node2"))
    (text,) = sentences(decide(site, dict(WEB, host="node2", move="live")))
    assert "can't" in text and places(site)["web"] == "node1"


def test_two_machines_that_have_each_other_s_room_are_not_refused_before_they_were_tried(bare):
    """The first to go makes room for the other."""
    site = furnish(bare, memory=600, hosts=HOSTS)
    decide(site, dict(WEB, memory=300), dict(WEB, name="large", memory=500, host="node2"))
    items = [dict(WEB, memory=300, host="node2", move="live")]
    items.append(dict(WEB, name="large", memory=500, host="node3", move="live"))
    decided = decide(site, *items)
    assert [(each.name, each.target) for each in decided.moves] == [("web", "node2"), ("large", "node3")]
    assert round_of(site, decided.moves) == (["large"], ["node2", "node3"], [])
    assert round_of(site, decided.moves) == (["web"], ["node1", "node2"], [])


def test_what_has_no_place_when_its_turn_comes_is_an_error_of_that_round(bare):
    site = furnish(bare, memory=600, hosts=HOSTS[:2])
    decide(site, WEB)
    decided = decide(site, dict(WEB, host="node2", move="live"))
    decide(site, dict(WEB, name="large", memory=500, host="node2"))
    begun, hosts, errors = round_of(site, decided.moves)
    assert (begun, hosts) == ([], []) and "VM web" in errors[0]


# -- rounds ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("batch", "forks", "expected"),
    [("1", 5, 4), ("2", 5, 2), ("3", 5, 2), ("100%", 5, 1), ("50%", 5, 2), ("1%", 5, 4), ("4", 2, 1)],
)
def test_there_are_as_many_rounds_as_batches(site, batch, forks, expected):
    decide(site, MANY)
    decided = decide(site, dict(MANY, host="node2", move="live"))
    terms = {"batch": batch, "forks": forks}
    assert moves(**terms).rounds(decided.moves) == expected
    begun = [round_of(site, decided.moves, **terms)[0] for _round in range(expected)]
    assert all(begun) and sorted(name for names in begun for name in names) == ["web-0", "web-1", "web-2", "web-3"]
    assert set(places(site).values()) == {"node2"} and round_of(site, decided.moves, **terms)[0] == []


def test_a_round_has_no_more_hosts_than_ansible_acts_on_at_a_time(site):
    decide(site, *(dict(WEB, name=f"web-{host}", host=host) for host in HOSTS))
    swap = dict(zip(HOSTS, (*HOSTS[1:], HOSTS[0])))
    decided = decide(site, *(dict(WEB, name=f"web-{host}", host=to, move="live") for host, to in swap.items()))
    assert [moves(batch="9", forks=forks).rounds(decided.moves) for forks in (2, 3, 9)] == [3, 1, 1]
    for _round in HOSTS:
        begun, acting, _errors = round_of(site, decided.moves, batch="9", forks=2)
        assert len(begun) == 1 and len(acting) == 2


def test_the_scheduler_chooses_among_the_hosts_of_the_round_where_there_may_be_no_others(site):
    decide(site, MANY)
    wanted = decide(site, {"name": "web-%i", "count": 4, "template": "web", "state": "migrated"}).moves
    assert {each.target for each in wanted} == {"node2", "node3"}
    _begun, acting, _errors = round_of(site, wanted, batch="4", forks=2)
    assert len(acting) == 2
    # With more forks there may be more of them.
    _begun, acting, _errors = round_of(site, wanted, batch="4", forks=3)
    assert _begun == [] and moves(batch="4", forks=2).rounds(wanted) >= 2


def test_one_that_fails_stays_and_is_not_tried_again_by_that_decision(site):
    decide(site, MANY)
    decided = decide(site, dict(MANY, host="node2", move="live"))
    assert round_of(site, decided.moves, fails=("web-0",))[0] == ["web-0", "web-1"]
    assert places(site)["web-0"] == "node1"
    (failed,) = [record for record in site.vms.pool() if record.error]
    assert (failed.name, failed.state, failed.moving) == ("web-0", "RUNNING", "")
    assert round_of(site, decided.moves)[0] == ["web-2", "web-3"]
    assert round_of(site, decided.moves)[0] == []
    # The next decision does.
    again = decide(site, dict(MANY, host="node2", move="live"))
    assert [each.name for each in again.moves] == ["web-0"]
    assert round_of(site, again.moves)[0] == ["web-0"] and set(places(site).values()) == {"node2"}


def test_of_a_machine_whose_hosts_are_silent_it_is_asked_and_nothing_else_is_decided(site):
    decide(site, WEB)
    item = dict(WEB, host="node2", move="live")
    decided = decide(site, item)
    assert round_of(site, decided.moves, silent=("node1", "node2"))[0] == ["web"]
    (record,) = site.vms.pool()
    assert (record.host, record.moving) == ("node1", "node2")
    with site.session():
        asked = decided_list.move(site, decided.moves, [], HOSTS, True, False, moves())
        assert [(each.name, each.before == each.after) for each in asked.outcomes] == [("web", True)]
        assert {host: plan.vms[0].move.asks for host, plan in asked.plans.items()} == {"node1": True, "node2": True}
    with site.session():
        listed = decided_list.decide(site, [dict(item, cpu=2)], [], HOSTS, True, False, moves=moves())
        assert [each.error for each in listed.outcomes] == [None]
        (text,) = listed.warnings
        assert text.startswith("VM web is on its way from host node1 to node2, and what became of that is not known")
        for host, plan in listed.plans.items():
            for each in plan.vms:
                answer(site, host, each, fails=("web",))
    assert places(site) == {"web": "node1"}


def test_a_list_says_how_far_a_machine_has_come_that_moves(site):
    """Whose it is may be known before it is known how it is there."""
    decide(site, WEB, dict(WEB, name="db"))
    items = [dict(WEB, host="node2", move="live"), dict(WEB, name="db", host="node2", move="live")]
    wanted = decide(site, *items).moves
    with site.session():
        plans = decided_list.move(site, wanted, [], HOSTS, True, False, moves()).plans
        web, db = plans["node1"].vms
        site.vms.record("node1", [VmOutcome(web.vm.vm_id, web.generation, "UNKNOWN", True, moved=HAS_LEFT)])
        site.vms.record("node2", [VmOutcome(db.vm.vm_id, db.generation, "UNKNOWN", True, ERROR, moved=IS_ABSENT)])
    with site.session():
        listed = decided_list.decide(site, items, [], HOSTS, True, False, moves=moves())
    again = "Run again for what the list says of it"
    assert [text for text in listed.warnings if text.startswith("VM")] == [
        (
            "VM web has moved to host node2, which has not said yet that it has it as it is to be (it has left host "
            f"node1, and host node2 has not answered that it has it): it is asked. {again}"
        ),
        (
            "VM db stays on host node1 and does not move to node2, and host node1 has not said yet that it has it as "
            f"it is to be (VM web: move: it did not get there): it is asked. {again}"
        ),
    ]
    # Each has one host that is asked.
    assert {host: [each.vm.name for each in plan.vms] for host, plan in listed.plans.items()} == {
        "node1": ["db"],
        "node2": ["web"],
    }


# -- maintenance -------------------------------------------------------------------------------------------------------
def relocate(engine, check=False, **maintenance):
    with engine.session():
        terms = moves(maintenance=Maintenance(**maintenance), check=check)
        return decided_list.decide(engine, [], [], HOSTS, True, False, moves=terms)


def test_a_host_is_emptied_and_filled_again(site):
    decide(site, MANY, dict(WEB, name="off", state="poweroff"), dict(WEB, name="other", host="node2"))
    switch(site, "node1", HostState.DISABLED)
    decided = relocate(site, empty=["node1"])
    assert [(each.name, each.way, each.away) for each in decided.moves] == [
        *((f"web-{number}", LIVE, "node1") for number in range(4)),
        ("off", COLD, "node1"),
    ]
    for _round in range(moves().rounds(decided.moves)):
        assert round_of(site, decided.moves)[2] == []
    assert "node1" not in places(site).values()
    away = {record.name: record.away for record in site.vms.pool()}
    assert away == {**{f"web-{number}": "node1" for number in range(4)}, "off": "node1", "other": ""}
    # A list that pins them leaves them where they are, whatever it says of moves.
    listed = decide(site, dict(MANY, move="live"), dict(WEB, name="off", state="poweroff"))
    stays = [text for text in listed.warnings if "stays on host" in text]
    assert (listed.moves, sentences(listed)) == ([], []) and len(stays) == 5
    assert stays[0].startswith("VM web-0 stays on host") and "it is away from host node1" in stays[0]
    switch(site, "node1", HostState.MONITORED)
    back = relocate(site, fill=["node1"])
    assert {(each.to, each.away) for each in back.moves} == {("node1", "")} and len(back.moves) == 5
    for _round in range(moves().rounds(back.moves)):
        assert round_of(site, back.moves)[2] == []
    assert {record.away for record in site.vms.pool()} == {""}
    assert sorted(places(site).values()) == ["node1"] * 5 + ["node2"]
    assert relocate(site, fill=["node1"]).moves == []


def test_a_user_s_word_ends_that_a_machine_is_away(site):
    decide(site, WEB)
    switch(site, "node1", HostState.DISABLED)
    round_of(site, relocate(site, empty=["node1"]).moves)
    switch(site, "node1", HostState.MONITORED)
    decided = decide(site, dict(WEB, host="node3", state="migrated"))
    assert [each.to for each in decided.moves] == ["node3"] and decided.warnings == []
    round_of(site, decided.moves)
    (record,) = site.vms.pool()
    assert (record.host, record.away) == ("node3", "")


def test_a_machine_that_is_away_may_be_said_to_stay(site):
    decide(site, WEB)
    round_of(site, relocate(site, empty=["node1"]).moves)
    (record,) = site.vms.pool()
    decided = decide(site, dict(WEB, host=record.host, state="migrated"))
    assert decided.moves == [] and decided.plans == {} and site.vms.pool()[0].away == ""
    assert relocate(site, fill=["node1"]).moves == []


def test_a_machine_that_is_away_is_away_from_where_it_belongs(site):
    decide(site, WEB)
    round_of(site, relocate(site, empty=["node1"]).moves)
    (record,) = site.vms.pool()
    (again,) = relocate(site, empty=[record.host]).moves
    assert again.away == "node1"


def test_in_check_mode_no_machine_is_expected_on_a_host_that_is_emptied(bare):
    site = furnish(bare, hosts=HOSTS[:2])
    decide(site, WEB, dict(WEB, name="db", host="node2"))
    decided = relocate(site, check=True, empty=["node1", "node2"])
    assert decided.moves == [] and len(sentences(decided)) == 2


def test_a_machine_that_can_t_move_live_keeps_its_host_from_being_empty_unless_it_may_be_powered_off(site, monkeypatch):
    real = site.vms.move

    def move(vm_id, target="", way="", *more):
        if way == LIVE:
            raise Unsupported("VM web: move", "its disk 0 has snapshots", "Delete them first")
        return real(vm_id, target, way, *more)

    monkeypatch.setattr(site.vms, "move", move)
    decide(site, WEB)
    decided = relocate(site, empty=["node1"])
    (text,) = sentences(decided)
    assert decided.moves == [] and text.endswith("can't: its disk 0 has snapshots; left as it is: delete them first")
    decided = relocate(site, empty=["node1"], is_cold=True)
    assert [each.way for each in decided.moves] == [COLD] and sentences(decided) == []
    assert round_of(site, decided.moves)[0] == ["web"]


def test_a_host_that_is_not_there_is_refused(site):
    with site.session(), pytest.raises(NotFound, match="the catalog has no such host"):
        moves(maintenance=Maintenance(empty=["nodel"])).foresee(site, [])


# -- options -----------------------------------------------------------------------------------------------------------
MOVE = WantedMove(3, "web", "node1", 4, "node2", LIVE, "", "node2", LIVE, 144, True, 7)


def test_moves_are_read_as_they_are_shown():
    assert read_moves([MOVE.view()]) == [MOVE]


@pytest.mark.parametrize(
    "given",
    [
        {},
        ["web"],
        [{"id": 3}],
        [{**MOVE.view(), "more": 1}],
        [{**MOVE.view(), "id": "3"}],
        [{**MOVE.view(), "id": True}],
        [{**MOVE.view(), "hard": 1}],
        [{**MOVE.view(), "shutdown_timeout": "7"}],
        [{**MOVE.view(), "host": None}],
        [{**MOVE.view(), "word": "never"}],
    ],
)
def test_what_no_decision_has_returned_is_refused(given):
    with pytest.raises(InvalidValue, match="option moves"):
        read_moves(given)
