# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first of two hosts that tells whose a machine is settles its move, in whatever order and however often they
answer: exactly one host has it in the catalog, and the books are right."""

from __future__ import annotations

import itertools

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmOrders
from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject, InUse, WrongState
from ansible_collections.nebula.provision.plugins.module_utils.model.audit_finding import UNFINISHED
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host, Overhead
from ansible_collections.nebula.provision.plugins.module_utils.model.move import ABSENT as ABSENT_STAGE
from ansible_collections.nebula.provision.plugins.module_utils.model.move import (
    ANSWERS,
    COLD,
    COMING,
    LEAVING,
    LEFT,
    LIVE,
    OVER,
    SOURCE,
    TARGET,
    MoveSeen,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.move import ARRIVED as ARRIVED_STAGE
from ansible_collections.nebula.provision.plugins.module_utils.model.move import STAYED as STAYED_STAGE
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed, ObservedVm, VmOutcome
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
LITTLE = {**ERROR, "kind": "OtherHostFailed", "found": "the connection is lost: broken pipe"}
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
    [
        *((ERROR, LITTLE, "it broke"), (LITTLE, ERROR, "it broke"), (ERROR, dict(ERROR, found="no room"), "it broke")),
        # Which it is, its kind says, and not its words.
        (dict(ERROR, found="that host says no more than the other host does"), ERROR, "that host says no more"),
    ],
)
def test_the_error_that_says_why_is_kept(fleet, order, source, target, kept):
    begin(fleet)
    for host, moved, error in (("node1", "stayed", source), ("node2", "absent", target))[::order]:
        say(fleet, host, moved, "RUNNING" if host == "node1" else "UNKNOWN", error)
    assert kept in record(fleet).error


# -- two answers of one round, in either order -------------------------------------------------------------------------
OTHER = dict(ERROR, found="its disk is full")
EMPTY = {"kind": "HypervisorError", "asked": "", "found": "", "remedy": ""}
SILENT = object()
BROKE = "VM web: it broke. Mend it"
UNEXPLAINED = "it failed, and its host does not say why"
HAS_LEFT_IT = "it has left host node1, and host node2 "
AT_TARGET, AT_SOURCE = ("node2", "RUNNING", True), ("node1", "RUNNING", True)
BEING_STARTED, ASKED_FOR = ("node2", "BOOT_MIGRATE", False), ("node1", "UNKNOWN", False)
OPEN = ("node1", "MIGRATE", False)
ROUNDS = {
    "it arrives": (("left", None), ("arrived", None), AT_TARGET, ""),
    "it arrives, and not all went well": (("left", None), ("arrived", ERROR), AT_TARGET, BROKE),
    "it arrives, and its former host could not clear up": (("left", OTHER), ("arrived", None), AT_TARGET, ""),
    "both fail": (("stayed", ERROR), ("absent", OTHER), AT_SOURCE, BROKE),
    "the target knows why": (("stayed", LITTLE), ("absent", ERROR), AT_SOURCE, BROKE),
    "the source knows why": (("stayed", ERROR), ("absent", LITTLE), AT_SOURCE, BROKE),
    "the source does not say why": (("stayed", EMPTY), ("absent", ERROR), AT_SOURCE, BROKE),
    "the target does not say why": (("stayed", ERROR), ("absent", EMPTY), AT_SOURCE, BROKE),
    "nobody says why": (("stayed", EMPTY), ("absent", EMPTY), AT_SOURCE, UNEXPLAINED),
    "the target alone says that it failed": (("stayed", None), ("absent", ERROR), AT_SOURCE, BROKE),
    "it was never begun": (("stayed", None), ("absent", None), AT_SOURCE, ""),
    "it stays, and the target can't tell": (("stayed", ERROR), ("", OTHER), AT_SOURCE, BROKE),
    "it stays, and the target could not even begin": (("stayed", LITTLE), ("", ERROR), AT_SOURCE, BROKE),
    "it stays, and the target alone says why it could not begin": (("stayed", None), ("", ERROR), AT_SOURCE, BROKE),
    "it left, and the target can't tell": (
        *(("left", None), ("", ERROR), BEING_STARTED),
        f"{HAS_LEFT_IT}can't say yet what became of it ({BROKE})",
    ),
    "it left, and the target does not say why it can't tell": (
        *(("left", None), ("", EMPTY), BEING_STARTED),
        f"{HAS_LEFT_IT}can't say yet what became of it ({UNEXPLAINED})",
    ),
    "it left, and the target just can't tell": (
        *(("left", None), ("", None), BEING_STARTED),
        f"{HAS_LEFT_IT}can't say yet what became of it",
    ),
    "it is not there, and the source can't tell": (("", OTHER), ("absent", ERROR), ASKED_FOR, BROKE),
    "it is not there, and the source can't tell, but why": (
        *(("", ERROR), ("absent", LITTLE), ASKED_FOR),
        f"it has not moved to host node2, and host node1 can't say yet what became of it ({BROKE})",
    ),
    "both can't tell": (
        *(("", ERROR), ("", OTHER), OPEN),
        (
            f"started nowhere until both were asked: host node1 can't say yet what became of it ({BROKE}); "
            "host node2 can't say yet what became of it (VM web: its disk is full. Mend it)"
        ),
    ),
    "the source is silent, and it arrives": (SILENT, ("arrived", None), AT_TARGET, ""),
    "the source is silent, and it does not arrive": (SILENT, ("absent", ERROR), ASKED_FOR, BROKE),
    "the source is silent, and the target can't tell": (
        *(SILENT, ("", ERROR), OPEN),
        f"asked: host node1 did not answer; host node2 can't say yet what became of it ({BROKE})",
    ),
    "the target is silent, and it stays": (("stayed", ERROR), SILENT, AT_SOURCE, BROKE),
    "the target is silent, and it left": (("left", None), SILENT, BEING_STARTED, HAS_LEFT_IT),
    "the target is silent, and the source can't tell": (
        *(("", ERROR), SILENT, OPEN),
        f"asked: host node1 can't say yet what became of it ({BROKE}); host node2 did not answer",
    ),
    "both are silent": (SILENT, SILENT, OPEN, "asked: host node1 did not answer; host node2 did not answer"),
}


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("case", ROUNDS)
def test_the_order_of_two_answers_makes_no_difference(fleet, case, order):
    source, target, stands, error = ROUNDS[case]
    begin(fleet)
    for host, answer in (("node1", source), ("node2", target))[::order]:
        if answer is SILENT:
            fleet.vms.record(host, None)
        else:
            say(fleet, host, answer[0], "RUNNING" if answer[0] in ("stayed", "arrived") else "UNKNOWN", answer[1])
    host, state, _wanted, settled, moving = standing(fleet)
    assert (host, state, settled) == stands
    assert moving == ("" if settled else "node2")
    if error.startswith("VM") or not error:
        assert record(fleet).error == error
    else:
        assert error in record(fleet).error
    assert is_whole(fleet)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("error", [None, ERROR])
def test_that_it_had_not_answered_is_forgotten_once_the_target_has(fleet, error, order):
    begin(fleet, COLD)
    for host, *answer in (("node1", "left", "UNKNOWN"), ("node2", "arrived", "POWEROFF", error))[::order]:
        say(fleet, host, *answer)
    assert standing(fleet) == ("node2", "BOOT_MIGRATE", "RUNNING", False, "node2")
    assert record(fleet).error == (BROKE if error else "")


def test_a_failure_of_which_nobody_says_why_is_a_failure(fleet):
    begin(fleet)
    say(fleet, "node1", "stayed", "RUNNING", EMPTY)
    assert record(fleet).error == UNEXPLAINED


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


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("error", [None, ERROR])
def test_a_machine_that_its_guest_switched_off_while_it_was_to_move_live_stays_off(fleet, order, error):
    begin(fleet, LIVE)
    answers = [("node1", "stayed", "POWEROFF", error), ("node2", "absent", "UNKNOWN", LITTLE)]
    for answer in answers[::order]:
        generation = record(fleet).generation if answer[0] == "node1" else None
        say(fleet, *answer, generation=generation)
    # As if a poll had found it so.
    assert standing(fleet) == ("node1", "POWEROFF", "RUNNING", True, "")
    went_off = "it went off on host node1 while it was to move to host node2, and stays off there"
    assert record(fleet).error == (f"{went_off} ({BROKE})" if error else went_off)
    assert fleet.vms.plans() == {}
    fleet.vms.observe([poll("node1", 0, state="POWEROFF"), poll("node2")])
    assert (fleet.vms.plans(), promised(fleet)) == ({}, ALONE)
    assert fleet.ledger().findings == ()
    fleet.vms.action(0, "RUNNING", VmOrders())
    assert [each.wanted for each in fleet.vms.plans()["node1"].vms] == ["RUNNING"]


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("host", ["node1", "node2"])
@pytest.mark.parametrize("words", [{"found": ""}, {"asked": "", "found": ""}, {"asked": "", "found": "e"}])
def test_what_says_only_that_the_other_host_failed_hides_no_reason(fleet, order, host, words):
    """However little it says: nothing at all, or what is part of any sentence."""
    begin(fleet, LIVE)
    errors = {"node1": ERROR, "node2": ERROR, host: {**LITTLE, "remedy": "", **words}}
    answers = [("node1", "stayed", "RUNNING", errors["node1"]), ("node2", "absent", "UNKNOWN", errors["node2"])]
    for answer in answers[::order]:
        generation = record(fleet).generation if answer[0] == "node1" else None
        say(fleet, *answer, generation=generation)
    assert standing(fleet) == ("node1", "RUNNING", "RUNNING", True, "")
    assert record(fleet).error == BROKE


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("host", ["node1", "node2"])
def test_a_move_that_failed_without_a_reason_is_told_as_failed_all_the_same(fleet, order, host):
    begin(fleet, LIVE)
    nothing = {**LITTLE, "asked": "", "found": "", "remedy": ""}
    answers = [("node1", "stayed", "RUNNING"), ("node2", "absent", "UNKNOWN")]
    for name, moved, state in answers[::order]:
        generation = record(fleet).generation if name == "node1" else None
        say(fleet, name, moved, state, nothing if name == host else None, generation=generation)
    assert standing(fleet) == ("node1", "RUNNING", "RUNNING", True, "")
    assert UNEXPLAINED in record(fleet).error


@pytest.mark.parametrize("order", [1, -1])
def test_a_machine_whose_host_went_down_while_it_was_to_move_live_is_started_there(fleet, order):
    move = begin(fleet, LIVE)
    answers = [("node1", "stayed", "UNKNOWN", None), ("node2", "absent", "UNKNOWN", LITTLE)]
    for host, *answer in answers[::order]:
        say(fleet, host, *answer, generation=record(fleet).generation if host == "node1" else None)
    # Each of both was asked, and nobody starts it before a plan does.
    assert standing(fleet) == ("node1", "UNKNOWN", "RUNNING", False, "node2")
    seen = MoveSeen(0, move.token, STAYED_STAGE, went_down=True)
    fleet.vms.observe([poll("node1", 0, state="POWEROFF", moves=(seen,)), poll("node2")])
    plans = fleet.vms.plans(places=PLACES)
    assert {host: [(each.wanted, each.move) for each in plan.vms] for host, plan in plans.items() if plan.vms} == {
        "node1": [("RUNNING", None)]
    }
    obey(fleet, plans)
    assert standing(fleet) == ("node1", "RUNNING", "RUNNING", True, "")
    assert (fleet.vms.plans(), promised(fleet), fleet.ledger().findings) == ({}, ALONE, ())


@pytest.mark.parametrize(("way", "asks"), [(LIVE, True), (COLD, False)])
@pytest.mark.parametrize("noted", [True, False])
def test_a_machine_that_is_off_where_it_stays_is_started_only_if_the_move_powered_it_off(fleet, way, asks, noted):
    move = begin(fleet, way)
    say(fleet, "node2", "absent", error=ERROR)
    moves = (MoveSeen(0, move.token, STAYED_STAGE),) if noted else ()
    fleet.vms.observe([poll("node1", 0, state="POWEROFF", moves=moves), poll("node2")])
    (planned,) = fleet.vms.plans()["node1"].vms
    assert (planned.move is not None and planned.move.asks) == asks
    # One that runs needs no question, as nothing is left to be done about the move there.
    fleet.vms.observe([poll("node1", 0, moves=moves), poll("node2")])
    (planned,) = fleet.vms.plans()["node1"].vms
    assert planned.move is None


@pytest.mark.parametrize(
    ("stage", "there", "asks"),
    [(COMING, False, False), (ARRIVED_STAGE, False, False), (ABSENT_STAGE, False, True), (ABSENT_STAGE, True, True)],
)
def test_a_target_that_has_answered_that_it_will_not_have_it_makes_it_by_no_ordinary_plan(fleet, stage, there, asks):
    move = begin(fleet)
    say(fleet, "node1", "left")
    seen = poll("node2", *([0] if there else []), state="POWEROFF", moves=(MoveSeen(0, move.token, stage),))
    fleet.vms.observe([poll("node1"), seen])
    (planned,) = fleet.vms.plans()["node2"].vms
    assert (planned.move is not None) == asks


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("source", ["", "stayed"])
@pytest.mark.parametrize("says_so", [True, False])
def test_a_target_that_could_not_listen_leaves_it_running_and_says_why(fleet, order, source, says_so):
    """Before a host has begun it can't say what became of the move; in the rounds that follow both are asked."""
    move = begin(fleet)
    busy = {
        "kind": "HypervisorError",
        "asked": "port 4711, to which machines come from other hosts",
        "found": "this host can't listen there: Address already in use",
        "remedy": "Set nebula_move_port of this host to a free one",
    }
    state = "RUNNING" if source else "UNKNOWN"
    for answer in [("node1", source, state, LITTLE), ("node2", "", "UNKNOWN", busy)][::order]:
        say(fleet, *answer)
    if not source:
        assert standing(fleet) == ("node1", "MIGRATE", "RUNNING", False, "node2")
        fleet.vms.observe([poll("node1", 0), poll("node2")])
        plans = fleet.vms.plans(places=PLACES)
        assert all(each.move.asks and plan.moving == (move.token,) for plan in plans.values() for each in plan.vms)
        last = [("node1", "stayed", "RUNNING"), ("node2", "absent", "UNKNOWN")][::order]
        for host, moved, now in last:
            say(fleet, host, moved, now, LITTLE if says_so else None)
    assert standing(fleet) == ("node1", "RUNNING", "RUNNING", True, "")
    assert "can't listen there: Address already in use" in record(fleet).error
    assert "what became of it" not in record(fleet).error
    assert (fleet.vms.plans(), promised(fleet), fleet.ledger().findings) == ({}, ALONE, ())


@pytest.mark.parametrize(("answer", "kept"), [(None, True), ("left", True), ("absent", True), ("arrived", False)])
def test_the_answers_of_both_hosts_are_kept_there_until_it_is_known_how_it_is(fleet, answer, kept):
    move = begin(fleet)
    decide(fleet, dict(WEB, name="first", host="node1"), dict(WEB, name="second", host="node2"))
    if answer is not None:
        host = "node1" if answer == "left" else "node2"
        say(fleet, host, answer, "RUNNING" if answer == "arrived" else "UNKNOWN")
    plans = fleet.vms.plans(places=PLACES)
    assert {host: plan.moving for host, plan in plans.items()} == dict.fromkeys(
        ("node1", "node2"), (move.token,) if kept else ()
    )


# -- what an audit says of it ------------------------------------------------------------------------------------------
def test_an_open_move_is_unfinished_and_its_books_are_right(fleet):
    begin(fleet)
    (finding,) = fleet.ledger().findings
    assert (finding.kind, finding.host, finding.severity) == ("machine-unfinished", "node1", UNFINISHED)
    assert finding.found == "it moves from host node1 to host node2, and what became of that is not known yet"
    assert "with both hosts in the run" in finding.remedy
    fleet.vms.record("node2", None)
    (finding,) = fleet.ledger().findings
    assert finding.found.endswith("started nowhere until both were asked: host node2 did not answer)")
    assert [(vm.host, vm.moving) for vm in fleet.ledger().vms] == [("node1", "node2")]


@pytest.mark.parametrize(
    ("answer", "host", "found"),
    [
        (("node1", "left"), "node2", "it is to be RUNNING, and its host has not done that yet (it has left host node1"),
        (("node2", "absent"), "node1", "it is to be RUNNING, and its host has not done that yet (it has not moved to"),
    ],
)
def test_a_machine_of_which_it_is_not_known_how_it_is_there_is_unfinished_on_its_host(fleet, answer, host, found):
    begin(fleet)
    say(fleet, *answer)
    (finding,) = fleet.ledger().findings
    assert (finding.kind, finding.host, finding.severity) == ("machine-unfinished", host, UNFINISHED)
    assert finding.found.startswith(found)
    # Nothing of it is to be where it is not.
    assert [(vm.host, vm.moving) for vm in fleet.ledger().vms] == [(host, "")]


@pytest.mark.parametrize("answer", [None, ("node1", "left"), ("node2", "absent")])
def test_the_books_of_a_machine_that_moves_are_repaired_to_what_they_are_to_be(fleet, answer):
    begin(fleet)
    if answer is not None:
        say(fleet, *answer)
    rows = "SELECT host_id, port, vm_id FROM vnc_ports ORDER BY host_id, port"
    before = promised(fleet), [tuple(each) for each in fleet.store.rows(rows)]
    assert fleet.repair() == []
    fleet.store.db.execute("UPDATE hosts SET memory_used = 7, cpu_used = 7, vms = 7, overhead_used = 7")
    fleet.store.db.execute("DELETE FROM vnc_ports WHERE port > 0")
    fleet.store.drop()
    assert not is_whole(fleet)
    assert fleet.repair() != []
    assert (promised(fleet), [tuple(each) for each in fleet.store.rows(rows)]) == before
    assert is_whole(fleet)


@pytest.mark.parametrize(
    ("stage", "is_unknown"), [(COMING, False), (LEFT, False), (LEAVING, False), *((stage, True) for stage in OVER)]
)
def test_a_machine_that_a_host_has_after_its_move_has_ended_there_is_an_unknown_one(fleet, stage, is_unknown):
    move = begin(fleet)
    for answer in ARRIVES:
        say(fleet, *answer)
    seen = (ObservedVm(0, record(fleet).uuid, "POWEROFF"),)
    fleet.vms.observe([Observed("node1", vms=seen, moves=(MoveSeen(0, move.token, stage),)), poll("node2", 0)])
    assert bool(fleet.vms.polls.unknown["node1"]) == is_unknown


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
    # It has not moved, and that is why.
    assert record(fleet).error == BROKE
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


@pytest.mark.parametrize("gone", [True, False])
@pytest.mark.parametrize("settled", [True, False])
def test_what_has_left_for_a_host_that_is_given_up_is_its_former_hosts_again(fleet, gone, settled):
    fleet.vms.observe([poll("node1", 0), poll("node2", ports=(5900,))])
    move = begin(fleet, away="node1")
    say(fleet, "node1", "left")
    if settled:
        # It was to be started there, and could not.
        fleet.vms.observe([poll("node1"), poll("node2", moves=(MoveSeen(0, move.token, COMING),))])
        fleet.vms.record("node2", [VmOutcome(0, move.generation + 1, "BOOT_FAILURE", True, ERROR)])
    fleet.hosts.forget("node2", gone=gone)
    assert standing(fleet) == ("node1", "UNKNOWN", "RUNNING", True, "")
    found = record(fleet)
    assert "state: running starts it again from its disks on host node1" in found.error
    assert ("may run it" in found.error) != gone
    assert (found.away, found.graphics["port"]) == ("", 5900)
    assert promised(fleet) == {"node1": (128, 0, 0.5, 1)}
    assert fleet.ledger().findings == ()
    # Its disks are there, and nobody starts it from these unasked.
    fleet.vms.observe([poll("node1", moves=(MoveSeen(0, move.token, LEFT),))])
    assert fleet.vms.plans() == {}
    fleet.vms.action(0, "RUNNING", VmOrders())
    (planned,) = fleet.vms.plans()["node1"].vms
    assert (planned.move, planned.wanted) == (None, "RUNNING")


@pytest.mark.parametrize("found", [True, False])
def test_what_a_machine_has_left_outlives_a_host_that_never_had_it(fleet, found):
    """Its host is given up when both have ended: what the former one has may be all that there is of it."""
    move = begin(fleet)
    say(fleet, "node1", "left")
    fleet.hosts.allocate(Host(None, "node3", state=HostState.MONITORED, memory=1024, cpu=16.0))
    if found:
        say(fleet, "node2", "arrived", "RUNNING", generation=move.generation + 1)
        # That it does not answer at the end says nothing of whether it was there.
        fleet.vms.observe([poll("node1"), Observed("node2", reached=False)])
    else:
        # A former version has ended it so.
        fleet.store.db.execute("UPDATE vms SET state = 6, wanted = 'DONE', settled = 1, host_id = NULL")
        parts = "INSERT INTO history (vm_id, step, time, host, state, action, reason)"
        fleet.store.db.execute(
            f"{parts} SELECT 0, max(step) + 1, 0, 'node2', 'DONE', 'terminate', 'host node2 was forgotten' FROM history"
        )
    if found:
        fleet.hosts.forget("node2", gone=True)
    assert record(fleet).state == "DONE"
    fleet.vms.observe([poll("node1", moves=(MoveSeen(0, move.token, LEFT),))])
    leftovers = [each.token for plan in fleet.vms.plans().values() for each in plan.leftovers]
    assert leftovers == ([move.token] if found else [])
    # A copy that came somewhere else is of no use, and what stands where it has ended is left alone.
    fleet.vms.observe([poll("node3", moves=(MoveSeen(0, "e" * 32, COMING),))])
    assert list(fleet.vms.plans()) == ["node3"]
    if not found:
        fleet.vms.observe([poll("node2", moves=(MoveSeen(0, move.token, COMING),))])
        assert fleet.vms.plans() == {}


def test_a_machine_that_a_user_ended_on_its_way_ends_with_the_host_that_is_given_up(fleet):
    move = begin(fleet)
    say(fleet, "node1", "left")
    fleet.vms.action(0, "DONE", VmOrders())
    fleet.hosts.forget("node2", gone=True)
    assert record(fleet).state == "DONE"
    fleet.vms.observe([poll("node1", moves=(MoveSeen(0, move.token, LEFT),))])
    assert [each.token for each in fleet.vms.plans()["node1"].leftovers] == [move.token]


def test_a_host_that_machines_have_left_stays_until_they_were_found_where_they_went(fleet):
    move = begin(fleet)
    say(fleet, "node1", "left")
    with pytest.raises(InUse, match=r"have left it, and have not been found yet where they went: web \(id 0\)"):
        fleet.hosts.delete("node1")
    say(fleet, "node2", "arrived", "RUNNING", generation=move.generation + 1)
    fleet.hosts.delete("node1")
    assert standing(fleet) == ("node2", "RUNNING", "RUNNING", True, "")


def test_what_has_left_a_host_that_is_no_more_ends_with_the_host_that_is_given_up(fleet):
    begin(fleet)
    say(fleet, "node1", "left")
    fleet.hosts.forget("node1", gone=True)
    fleet.hosts.forget("node2", gone=True)
    assert record(fleet).state == "DONE"


def ports_of(engine, host_id):
    rows = engine.store.rows("SELECT port FROM vnc_ports WHERE host_id = ? ORDER BY port", host_id)
    return [each["port"] for each in rows]
