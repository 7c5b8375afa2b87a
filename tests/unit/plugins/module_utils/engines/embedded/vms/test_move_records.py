# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first of two hosts that tells whose a machine is settles its move, in whatever order and however often they
answer: exactly one host has it in the catalog, and the books are right."""

from __future__ import annotations

import itertools

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmOrders
from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject, WrongState
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host, Overhead
from ansible_collections.nebula.provision.plugins.module_utils.model.move import (
    ANSWERS,
    COLD,
    COMING,
    LEAVING,
    LEFT,
    LIVE,
    SOURCE,
    TARGET,
    MoveSeen,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.conftest import (
    decide,
    obey,
    row,
)
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.vms.conftest import (
    ERROR,
    FIRST,
    PLACES,
    WEB,
    everything,
    move_of,
    poll,
    promised,
    record,
)

STALE = {"kind": "StalePlan", "asked": "plan 2", "found": "the node follows plan 3", "remedy": ""}
LITTLE = dict(ERROR, found="the connection to the other host is lost: broken pipe")
ALONE = {"node1": (128, 0, 0.5, 1), "node2": (0, 0, 0.0, 0)}
THERE = {"node1": (0, 0, 0.0, 0), "node2": (128, 0, 0.5, 1)}


def begin(engine, way=LIVE, **values):
    """The machine's move, of which plans have gone out."""
    engine.vms.move(0, "node2", way, **values)
    engine.vms.plans(places=PLACES)
    return move_of(engine)


def say(engine, host, moved="", state="UNKNOWN", error=None, generation=None, **values):
    """What a host answers of the move."""
    generation = move_of(engine).generation if generation is None else generation
    return engine.vms.record(host, [VmOutcome(0, generation, state, True, error, moved=moved, **values)])


def standing(engine):
    """Where the machine is by the catalog, and as what."""
    found = record(engine)
    return found.host, found.state, found.wanted, bool(row(engine)["settled"]), found.moving


def is_whole(engine):
    """Whether the catalog's books are right."""
    return [each for each in engine.ledger().findings if each.kind != "machine-unfinished"] == []


# -- it arrives --------------------------------------------------------------------------------------------------------
ARRIVES = [("node1", "left", "UNKNOWN"), ("node2", "arrived", "RUNNING")]


@pytest.mark.parametrize("answers", list(itertools.permutations(ARRIVES)))
@pytest.mark.parametrize("again", [1, 2])
@pytest.mark.parametrize("way", [LIVE, COLD])
def test_a_machine_that_has_arrived_is_the_targets(fleet, answers, again, way):
    fleet.hosts.update("node2", overhead=Overhead(fixed=20))
    begin(fleet, way)
    for host, moved, state in answers * again:
        say(fleet, host, moved, state)
    assert standing(fleet) == ("node2", "RUNNING", "RUNNING", True, "")
    assert record(fleet).error == ""
    assert promised(fleet) == {"node1": (0, 0, 0.0, 0), "node2": (128, 20, 0.5, 1)}
    assert fleet.ledger().findings == ()
    assert fleet.vms.plans() == {}
    step = fleet.vms.history(0)[-1]
    assert (step["host"], step["state"]) == ("node2", "RUNNING")


def test_its_console_is_where_the_target_has_it(fleet):
    fleet.vms.observe([poll("node1", 0), poll("node2", ports=(5900,))])
    begin(fleet)
    say(fleet, "node1", "left")
    # Nobody else gets its port where it was before it was found where it went.
    (source,) = [host.id for host in fleet.hosts.pool() if host.name == "node1"]
    assert ports_of(fleet, source) == [-5900]
    say(fleet, "node2", "arrived", "RUNNING")
    assert record(fleet).graphics["port"] == 5901
    assert ports_of(fleet, source) == []


def test_a_machine_that_was_off_arrives_and_stays_off(fleet):
    obey(fleet, decide(fleet, dict(FIRST, state="poweroff")))
    begin(fleet, COLD)
    say(fleet, "node1", "left")
    assert standing(fleet) == ("node2", "PROLOG_MIGRATE_POWEROFF", "POWEROFF", False, "node2")
    say(fleet, "node2", "arrived", "POWEROFF")
    assert standing(fleet) == ("node2", "POWEROFF", "POWEROFF", True, "")


def test_a_machine_that_runs_on_waits_for_what_it_waited_for(fleet):
    decide(fleet, dict(FIRST, memory=192))
    obey(fleet, fleet.vms.plans())
    waits = record(fleet).waits
    assert [each["part"] for each in waits] == ["MEMORY"]
    begin(fleet)
    for answer in ARRIVES:
        say(fleet, *answer)
    assert record(fleet).waits == waits
    assert promised(fleet) == {"node1": (0, 0, 0.0, 0), "node2": (192, 0, 0.5, 1)}


def test_a_machine_that_was_started_anew_there_waits_for_nothing(fleet):
    decide(fleet, dict(FIRST, memory=64))
    obey(fleet, fleet.vms.plans())
    assert promised(fleet)["node1"] == (128, 0, 0.5, 1)
    begin(fleet, COLD)
    assert promised(fleet)["node2"] == (128, 0, 0.5, 1)
    for answer in ARRIVES:
        say(fleet, *answer)
    assert record(fleet).waits == []
    assert promised(fleet) == {"node1": (0, 0, 0.0, 0), "node2": (64, 0, 0.5, 1)}
    assert is_whole(fleet)


def test_what_is_decided_after_a_move_is_a_decision_as_any(fleet):
    begin(fleet)
    for answer in ARRIVES:
        say(fleet, *answer)
    fleet.vms.observe([poll("node1"), poll("node2", 0)])
    fleet.vms.action(0, "POWEROFF", VmOrders())
    assert standing(fleet) == ("node2", "SHUTDOWN_POWEROFF", "POWEROFF", False, "")
    fleet.vms.action(0, "RUNNING", VmOrders(operation="reboot"))
    fleet.vms.observe([poll("node1"), poll("node2")])
    assert [each.move for each in fleet.vms.plans()["node2"].vms] == [None]


# -- it is known to have left ------------------------------------------------------------------------------------------
def test_a_machine_that_has_left_is_brought_up_where_it_went(fleet):
    move = begin(fleet)
    say(fleet, "node1", "left")
    assert standing(fleet) == ("node2", "BOOT_MIGRATE", "RUNNING", False, "node2")
    assert "it has left host node1, and host node2 has not answered" in record(fleet).error
    assert promised(fleet) == THERE
    assert is_whole(fleet)
    fleet.vms.observe([poll("node1"), poll("node2", moves=(MoveSeen(0, move.token, COMING),))])
    plans = fleet.vms.plans()
    assert {host: [(each.move, each.generation) for each in plan.vms] for host, plan in plans.items()} == {
        "node2": [(None, move.generation + 1)]
    }
    assert plans["node2"].moving == (move.token,)
    obey(fleet, plans)
    assert standing(fleet) == ("node2", "RUNNING", "RUNNING", True, "")
    assert record(fleet).error == ""
    assert fleet.ledger().findings == ()


@pytest.mark.parametrize("state", ["POWEROFF", "UNKNOWN"])
def test_a_machine_that_has_arrived_in_another_state_is_brought_to_its_own(fleet, state):
    move = begin(fleet, COLD)
    say(fleet, "node2", "arrived", state)
    assert standing(fleet) == ("node2", "BOOT_MIGRATE", "RUNNING", False, "node2")
    # The same again, and what its former host says, changes nothing of that.
    say(fleet, "node2", "arrived", state)
    say(fleet, "node1", "left")
    assert standing(fleet) == ("node2", "BOOT_MIGRATE", "RUNNING", False, "node2")
    fleet.vms.observe([poll("node1"), poll("node2", 0, state="POWEROFF")])
    (planned,) = fleet.vms.plans()["node2"].vms
    assert (planned.move, planned.generation, planned.wanted) == (None, move.generation + 1, "RUNNING")


def test_a_target_that_could_not_say_whether_it_had_left_is_overruled_by_the_source(fleet):
    begin(fleet)
    for first, second in (("node2", "node1"), ("node1", "node2")):
        fleet.store.db.execute("SAVEPOINT order_of_answers")
        for host in (first, second):
            say(fleet, host, "left" if host == "node1" else "", error=None if host == "node1" else ERROR)
        assert standing(fleet) == ("node2", "BOOT_MIGRATE", "RUNNING", False, "node2")
        fleet.store.db.execute("ROLLBACK TO order_of_answers")
        fleet.store.drop()


@pytest.mark.parametrize("there", [False, True])
def test_a_target_on_which_nothing_of_it_was_seen_is_asked_and_not_told_to_start_it(fleet, there):
    move = begin(fleet)
    say(fleet, "node1", "left")
    if there:
        fleet.vms.observe([poll("node1"), poll("node2")])
    (planned,) = fleet.vms.plans()["node2"].vms
    assert (planned.move.role, planned.move.asks, planned.move.token) == (TARGET, True, move.token)
    # It has it all the same.
    say(fleet, "node2", "arrived", "RUNNING", generation=move.generation + 1)
    assert standing(fleet) == ("node2", "RUNNING", "RUNNING", True, "")
    assert is_whole(fleet)


def test_a_target_that_does_not_know_settles_nothing(fleet):
    move = begin(fleet)
    say(fleet, "node1", "left")
    say(fleet, "node2", "", error=ERROR, generation=move.generation + 1)
    assert standing(fleet) == ("node2", "BOOT_MIGRATE", "RUNNING", False, "node2")
    assert "it broke" in record(fleet).error


def test_a_machine_that_is_nowhere_is_started_by_nobody(fleet):
    fleet.vms.observe([poll("node1", 0), poll("node2", ports=(5900,))])
    move = begin(fleet)
    say(fleet, "node1", "left")
    say(fleet, "node2", "absent", generation=move.generation + 1)
    assert standing(fleet) == ("node1", "UNKNOWN", "RUNNING", True, "")
    assert "state: running starts it again from its disks on host node1" in record(fleet).error
    # Its disks stay where they are, and all that it had there is its own again.
    assert promised(fleet) == ALONE
    assert record(fleet).graphics["port"] == 5900
    assert fleet.ledger().findings == ()
    fleet.vms.observe([poll("node1", moves=(MoveSeen(0, move.token, LEFT),)), poll("node2")])
    assert fleet.vms.plans() == {}
    fleet.vms.action(0, "RUNNING", VmOrders())
    assert list(fleet.vms.plans()) == ["node1"]


# -- it stays ----------------------------------------------------------------------------------------------------------
STAYS = [("node1", "stayed", "RUNNING", ERROR), ("node2", "absent", "UNKNOWN", LITTLE)]


@pytest.mark.parametrize("answers", list(itertools.permutations(STAYS)))
@pytest.mark.parametrize("again", [1, 2])
@pytest.mark.parametrize("way", [LIVE, COLD])
def test_a_move_that_failed_leaves_the_machine_where_it_was(fleet, answers, again, way):
    begin(fleet, way)
    for answer in answers * again:
        say(fleet, *answer)
    assert standing(fleet) == ("node1", "RUNNING", "RUNNING", True, "")
    assert record(fleet).error == "VM web: it broke. Mend it"
    assert promised(fleet) == ALONE
    assert fleet.ledger().findings == ()
    assert fleet.vms.plans() == {}
    assert fleet.vms.move(0, "node2").moving == "node2"


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("source", "target", "kept"),
    [(ERROR, LITTLE, "it broke"), (LITTLE, ERROR, "it broke"), (ERROR, dict(ERROR, found="no room"), "it broke")],
)
def test_the_error_that_says_why_is_kept(fleet, order, source, target, kept):
    begin(fleet)
    for host, moved, error in (("node1", "stayed", source), ("node2", "absent", target))[::order]:
        say(fleet, host, moved, "RUNNING" if host == "node1" else "UNKNOWN", error)
    assert kept in record(fleet).error


def test_a_machine_that_no_target_will_ever_have_is_asked_for_at_its_source(fleet):
    move = begin(fleet)
    say(fleet, "node2", "absent", error=ERROR)
    fleet.vms.record("node1", None)
    assert standing(fleet) == ("node1", "UNKNOWN", "RUNNING", False, "node2")
    assert promised(fleet) == ALONE
    # What it has noted of the move, its source brings to an end before anything else.
    fleet.vms.observe([poll("node1", 0, moves=(MoveSeen(0, move.token, LEAVING),)), poll("node2")])
    plans = fleet.vms.plans()
    assert {host: [(each.move.role, each.move.asks) for each in plan.vms] for host, plan in plans.items()} == {
        "node1": [(SOURCE, True)]
    }
    say(fleet, "node1", "stayed", "RUNNING", generation=move.generation + 1)
    assert standing(fleet) == ("node1", "RUNNING", "RUNNING", True, "")
    assert record(fleet).error == "VM web: it broke. Mend it"


@pytest.mark.parametrize("error", [None, ERROR])
def test_a_machine_that_was_off_for_its_move_is_started_again_where_it_stays(fleet, error):
    move = begin(fleet, COLD)
    say(fleet, "node1", "stayed", "POWEROFF", error)
    assert standing(fleet) == ("node1", "UNKNOWN", "RUNNING", False, "node2")
    fleet.vms.observe([poll("node1", 0, state="POWEROFF"), poll("node2")])
    plans = fleet.vms.plans()
    (planned,) = plans["node1"].vms
    assert (planned.move, planned.wanted, planned.generation) == (None, "RUNNING", move.generation + 1)
    obey(fleet, plans)
    assert standing(fleet) == ("node1", "RUNNING", "RUNNING", True, "")
    # That it runs does not mean that it has moved.
    assert record(fleet).error == ("VM web: it broke. Mend it" if error else "")


def test_a_source_that_has_lost_it_is_not_told_to_make_it_anew(fleet):
    begin(fleet)
    say(fleet, "node2", "absent")
    fleet.vms.observe([poll("node1"), poll("node2")])
    (planned,) = fleet.vms.plans()["node1"].vms
    assert planned.move.asks


def test_a_machine_that_has_left_for_a_host_that_never_had_it_is_started_by_nobody(fleet):
    move = begin(fleet)
    say(fleet, "node2", "absent")
    say(fleet, "node1", "left", generation=move.generation + 1)
    assert standing(fleet) == ("node1", "UNKNOWN", "RUNNING", True, "")
    assert (promised(fleet), fleet.ledger().findings) == (ALONE, ())


# -- nobody knows ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("host", ["node1", "node2"])
@pytest.mark.parametrize("silent", [True, False])
def test_a_move_stays_open_as_long_as_no_host_can_tell(fleet, host, silent):
    before = begin(fleet)
    held = promised(fleet)
    touched = fleet.vms.record(host, None) if silent else say(fleet, host, "", error=ERROR)
    assert [each.id for each in touched] == [0]
    assert standing(fleet) == ("node1", "MIGRATE", "RUNNING", False, "node2")
    why = f"host {host} did not answer" if silent else "it broke"
    assert "it is not known whether it has moved from host node1 to host node2" in record(fleet).error
    assert "it is started nowhere until both were asked" in record(fleet).error
    assert why in record(fleet).error
    assert (promised(fleet), is_whole(fleet)) == (held, True)
    # Both are asked by the same token and generation.
    asked = [(each.move.token, each.generation, each.move.asks) for p in fleet.vms.plans().values() for each in p.vms]
    assert asked == [(before.token, before.generation, True)] * 2
    # It is told once.
    assert (fleet.vms.record(host, None) if silent else say(fleet, host, "", error=ERROR)) == []


def test_a_silent_host_says_nothing_of_moves_of_others(fleet):
    fleet.hosts.allocate(Host(None, "node3", state=HostState.MONITORED, memory=1024, cpu=16.0))
    begin(fleet)
    assert fleet.vms.record("node3", None) == []


def test_what_both_say_when_they_are_asked_settles_it(fleet):
    begin(fleet)
    fleet.vms.record("node1", None)
    say(fleet, "node2", "", error=ERROR)
    fleet.vms.plans()
    say(fleet, "node2", "", error=ERROR)
    say(fleet, "node1", "stayed", "RUNNING")
    assert standing(fleet) == ("node1", "RUNNING", "RUNNING", True, "")
    assert record(fleet).error == ""
    assert promised(fleet) == ALONE


@pytest.mark.parametrize("moved", ["stayed", "left", ""])
def test_a_plan_that_a_newer_one_has_overtaken_says_nothing(fleet, moved):
    begin(fleet)
    before = everything(fleet)
    assert say(fleet, "node1", moved, error=STALE) == []
    assert everything(fleet) == before


# -- other answers -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("moved", [each for each in ANSWERS if each])
@pytest.mark.parametrize("host", ["node1", "node2"])
@pytest.mark.parametrize("step", [-1, 1])
def test_an_answer_of_another_decision_settles_nothing(fleet, moved, host, step):
    move = begin(fleet)
    before = everything(fleet)
    role_says = moved in (("stayed", "left") if host == "node1" else ("arrived", "absent"))
    if step > 0 or not role_says:
        with pytest.raises(ForeignObject, match="machine 0"):
            say(fleet, host, moved, "RUNNING", generation=move.generation + step)
    else:
        assert say(fleet, host, moved, "RUNNING", generation=move.generation + step) == []
    assert everything(fleet) == before


@pytest.mark.parametrize(
    ("host", "moved"), [("node1", "arrived"), ("node1", "absent"), ("node2", "left"), ("node2", "stayed")]
)
def test_a_host_can_not_say_what_only_the_other_one_knows(fleet, host, moved):
    begin(fleet)
    before = everything(fleet)
    with pytest.raises(ForeignObject, match=f"'{moved}', which only the other host of its move can say"):
        say(fleet, host, moved, "RUNNING")
    assert everything(fleet) == before


@pytest.mark.parametrize("moved", ANSWERS)
def test_a_third_host_can_say_nothing_of_it(fleet, moved):
    fleet.hosts.allocate(Host(None, "node3", state=HostState.MONITORED, memory=1024, cpu=16.0))
    begin(fleet)
    before = everything(fleet)
    with pytest.raises(ForeignObject, match="machine 0"):
        say(fleet, "node3", moved, "RUNNING")
    assert everything(fleet) == before


@pytest.mark.parametrize("moved", [each for each in ANSWERS if each])
def test_a_host_can_not_say_that_a_machine_moved_of_which_that_was_not_decided(fleet, moved):
    fleet.vms.action(0, "POWEROFF", VmOrders())
    before = everything(fleet)
    with pytest.raises(ForeignObject, match="it has no part in a move of it"):
        fleet.vms.record("node1", [VmOutcome(0, record(fleet).generation, "POWEROFF", moved=moved)])
    assert everything(fleet) == before


def test_a_former_host_says_nothing_of_later_decisions(fleet):
    move = begin(fleet)
    for answer in ARRIVES:
        say(fleet, *answer)
    fleet.vms.action(0, "POWEROFF", VmOrders())
    before = everything(fleet)
    assert say(fleet, "node1", "left", generation=move.generation) == []
    assert fleet.vms.record("node1", [VmOutcome(0, move.generation - 1, "RUNNING")]) == []
    with pytest.raises(ForeignObject, match="which is on host node2"):
        fleet.vms.record("node1", [VmOutcome(0, move.generation + 1, "DONE")])
    assert everything(fleet) == before
    obey(fleet, fleet.vms.plans())
    assert standing(fleet) == ("node2", "POWEROFF", "POWEROFF", True, "")


STAYED, ARRIVED = ("node1", "stayed"), ("node2", "arrived")


@pytest.mark.parametrize(("first", "second"), [(STAYED, ARRIVED), (ARRIVED, STAYED)])
def test_two_hosts_that_both_claim_it_are_told(fleet, first, second):
    begin(fleet)
    say(fleet, *first, "RUNNING")
    before = standing(fleet)
    say(fleet, *second, "RUNNING")
    assert standing(fleet) == before
    assert before[0] == first[0]
    assert "both say that they have it" in record(fleet).error


# -- until it is known how it is there ---------------------------------------------------------------------------------
def test_it_may_only_be_ended_before_it_was_found_where_it_went(fleet):
    move = begin(fleet)
    say(fleet, "node1", "left")
    with pytest.raises(WrongState, match="it is not known yet what became of that"):
        fleet.vms.action(0, "POWEROFF", VmOrders())
    fleet.vms.action(0, "DONE", VmOrders())
    fleet.vms.observe([poll("node1", moves=(MoveSeen(0, move.token, LEFT),)), poll("node2")])
    obey(fleet, {"node2": fleet.vms.plans()["node2"]})
    assert record(fleet).state == "DONE"
    # Now nobody needs what is at its old host.
    assert [each.token for each in fleet.vms.plans()["node1"].leftovers] == [move.token]
    assert promised(fleet) == {"node1": (0, 0, 0.0, 0), "node2": (0, 0, 0.0, 0)}
    assert fleet.ledger().findings == ()


# -- a host that is gone for good --------------------------------------------------------------------------------------
def test_a_source_that_is_gone_for_good_leaves_what_has_come_to_a_users_word(fleet):
    begin(fleet)
    obey(fleet, decide(fleet, dict(WEB, name="other", host="node1"), hosts=["node1"]))
    fleet.hosts.forget("node1", gone=True)
    assert record(fleet, 1).state == "DONE"
    assert standing(fleet) == ("node2", "UNKNOWN", "RUNNING", True, "")
    assert "may not be whole; state: running starts it from that" in record(fleet).error
    assert {host.name for host in fleet.hosts.pool()} == {"node2"}
    assert promised(fleet) == {"node2": (128, 0, 0.5, 1)}
    assert fleet.ledger().findings == ()


def test_a_target_that_is_gone_for_good_leaves_the_machine_where_it_was(fleet):
    begin(fleet)
    fleet.hosts.forget("node2", gone=True)
    assert standing(fleet)[:4] == ("node1", "UNKNOWN", "RUNNING", False)
    assert promised(fleet) == {"node1": (128, 0, 0.5, 1)}
    assert is_whole(fleet)
    fleet.vms.observe([poll("node1", 0)])
    obey(fleet, fleet.vms.plans())
    assert standing(fleet) == ("node1", "RUNNING", "RUNNING", True, "")


def ports_of(engine, host_id):
    rows = engine.store.rows("SELECT port FROM vnc_ports WHERE host_id = ? ORDER BY port", host_id)
    return [each["port"] for each in rows]
