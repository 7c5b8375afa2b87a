# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans with moves in them: many at once, those that are only asked for, and what decided ones have left. What each
host does with one machine is in test_departure.py and test_arrival.py."""

from __future__ import annotations

import functools
import socket
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from memory_hypervisor import Machine, MemoryDriver
from memory_node import CATALOG, OTHER, machine, mark
from move_pairs import PATIENCE, Beside, caller, door, key_pair
from moving_nodes import DATA, MovingNode, Pair, moved, token_of

from ansible_collections.nebula.provision.plugins.module_utils.errors import CatalogError, HypervisorError
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import moves
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.arrival import Undecided
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.moves import Moves
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.moves import node_moves, passage
from ansible_collections.nebula.provision.plugins.module_utils.model.move import (
    ABSENT,
    ARRIVED,
    CLEARED,
    COLD,
    COMING,
    LEAVING,
    LEFT,
    LIVE,
    SOURCE,
    STAGES,
    STAYED,
    TARGET,
    WAYS,
    PlannedMove,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Plan, PlannedVm, VmOutcome

pytestmark = pytest.mark.root


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    # A door looks that often whether it is to be closed.
    monkeypatch.setattr(passage, "_STEP", 0.02)
    return Pair(tmp_path)


@pytest.fixture
def node(tmp_path: Path) -> MovingNode:
    return MovingNode(tmp_path / "node", "node")


# -- a plan that is not carried out ------------------------------------------------------------------------------------
STALE = HypervisorError("plan 7", "the node follows plan 8", "Run again")


def refused_plan(pair: Pair) -> Plan:
    certificate, key = key_pair(TARGET)
    planned = pair.planned(TARGET, LIVE, "RUNNING", {})
    return Plan(CATALOG, pair.source.number, "target", (planned,), certificate=certificate, key=key)


def test_a_host_whose_machine_is_not_taken_does_not_call_until_its_time_is_over(pair: Pair) -> None:
    pair.begin()
    refusing = Beside(lambda: moves.refuse(refused_plan(pair), str(pair.target.root), STALE))
    found = pair.move(roles=(SOURCE,))[SOURCE]
    refusing.result()
    assert moved(found) == ("stayed", "RUNNING", "HypervisorError")
    assert (found.error or {})["found"] == "the node follows plan 8"
    assert (pair.on(), pair.target.ledger()) == ({SOURCE: "RUNNING"}, "")


def test_a_host_that_comes_after_its_machine_was_refused_hears_why(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = threading.Event()
    connect = passage.Caller.connect

    def fail(*_arguments: object) -> str:
        failed.set()
        raise HypervisorError("it", "its disk is lost", "Mend it")

    def come_late(self: passage.Caller, name: str) -> passage.Channel:
        assert failed.wait(PATIENCE)
        return connect(self, name)

    pair.begin()
    monkeypatch.setattr(moves.arrival, "take_in", fail)
    monkeypatch.setattr(passage.Caller, "connect", come_late)
    found = pair.move()[SOURCE]
    assert moved(found)[:2] == ("stayed", "RUNNING")
    assert (found.error or {})["found"] == "its disk is lost"


@pytest.mark.parametrize("stage", [COMING, ARRIVED, ABSENT])
def test_a_move_that_was_begun_here_is_not_refused(pair: Pair, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_arguments: object) -> None:
        raise AssertionError("its door was opened")

    pair.target.note(stage)
    monkeypatch.setattr(moves, "Door", opened)
    moves.refuse(refused_plan(pair), str(pair.target.root), STALE)
    # Of another move of the same machine nothing was begun.
    pair.target.note(stage, token="another")
    with pytest.raises(AssertionError, match="its door was opened"):
        moves.refuse(refused_plan(pair), str(pair.target.root), STALE)


def test_nobody_is_refused_where_another_run_has_the_port(pair: Pair) -> None:
    with door({pair.token: passage.Meeting(key_pair(SOURCE)[0])}) as port:
        pair.port = port
        moves.refuse(refused_plan(pair), str(pair.target.root), STALE)
        channel = caller(port, token=pair.token).connect(passage.TALK)
        channel.close()


# -- plans ------------------------------------------------------------------------------------------------------------
def test_many_machines_move_at_once_both_ways(pair: Pair) -> None:
    """Live and cold, through one door of each host; and others of the plan do not mind."""
    vms = {number: machine(number) for number in range(1, 7)}
    ways = {number: WAYS[number % 2] for number in vms}
    for number, vm in vms.items():
        assert (pair.source if number < 5 else pair.target).one("RUNNING", 1, vm).error is None
    pair.source.one("RUNNING", 1, machine(9))
    ports = {SOURCE: pair.port, TARGET: Pair.port_beside(pair.port)}
    found: dict[str, list[VmOutcome]] = {}

    def planned(host: str, number: int) -> PlannedVm:
        goes = (host == SOURCE) == (number < 5)
        peer = TARGET if host == SOURCE else SOURCE
        move = PlannedMove(
            token_of(number),
            SOURCE if goes else TARGET,
            ways[number],
            peer,
            address="127.0.0.1" if goes else "",
            port=ports[peer if goes else host],
            certificate=key_pair(peer)[0],
            limit=60,
            meeting=int(PATIENCE),
        )
        return PlannedVm(vms[number], 2, "RUNNING", previous="RUNNING", move=move)

    def act(host: str) -> None:
        certificate, key = key_pair(host)
        node = pair.nodes[host]
        node.number = 50
        more = [PlannedVm(machine(9), 2, "POWEROFF")] if host == SOURCE else []
        found[host] = node.apply(
            *(planned(host, number) for number in vms),
            *more,
            certificate=certificate,
            key=key,
            moving=tuple(map(token_of, vms)),
        )

    for each in [Beside(functools.partial(act, host)) for host in (SOURCE, TARGET)]:
        each.result()
    assert {each.vm_id: moved(each)[::2] for each in found[SOURCE]} == {
        **dict.fromkeys(range(1, 5), ("left", "")),
        **dict.fromkeys((5, 6), ("arrived", "")),
        9: ("", ""),
    }
    assert {each.vm_id: moved(each) for each in found[TARGET]} == {
        **dict.fromkeys(range(1, 5), ("arrived", "RUNNING", "")),
        **dict.fromkeys((5, 6), ("left", "UNKNOWN", "")),
    }
    assert {number: each.state for number, each in pair.source.driver.machines.items()} == {
        5: "RUNNING",
        6: "RUNNING",
        9: "POWEROFF",
    }
    assert {*pair.target.driver.machines} == {1, 2, 3, 4}


def test_one_that_fails_keeps_no_other(pair: Pair) -> None:
    """A move that fails, beside one that does not."""
    pair.begin()
    pair.target.driver.machines[1] = Machine("another", CATALOG)
    assert pair.move()[SOURCE].moved == "stayed"
    del pair.target.driver.machines[1]
    pair.token = "the next"
    assert moved(pair.move()[TARGET]) == ("arrived", "RUNNING", "")


def test_a_port_that_somebody_else_has(pair: Pair) -> None:
    pair.begin()
    with socket.socket(socket.AF_INET6) as taken:
        taken.bind(("", pair.port))
        taken.listen()
        found = pair.move(roles=(TARGET,), meeting=0)
    assert moved(found[TARGET])[::2] == ("", "HypervisorError")
    assert "nebula_move_port" in (found[TARGET].error or {})["remedy"]


def test_a_source_with_another_certificate_is_not_let_in(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.begin()
    planned = pair.planned

    def other(role: str, *arguments: Any, **values: Any) -> PlannedVm:
        made = planned(role, *arguments, **values)
        assert made.move is not None
        return replace(made, move=replace(made.move, certificate=key_pair("stranger")[0])) if role == TARGET else made

    monkeypatch.setattr(pair, "planned", other)
    found = pair.move(meeting=1)
    assert moved(found[SOURCE]) == ("stayed", "RUNNING", "OtherHostFailed")
    assert moved(found[TARGET])[::2] == ("absent", "OtherHostFailed")


def test_a_source_that_came_before_something_failed_is_not_kept_waiting(pair: Pair) -> None:
    """The target has more to do, and its door is open all the time."""
    pair.begin()
    pair.target.note(COMING)
    found = pair.move()
    assert moved(found[TARGET])[::2] == ("", "OtherHostFailed")
    assert moved(found[SOURCE])[:2] == ("stayed", "RUNNING")


def test_a_driver_that_moves_nothing_says_so(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.begin()
    less = frozenset(MemoryDriver.OPTIONAL - {"depart"})
    monkeypatch.setattr(type(pair.source.driver), "capabilities", less, raising=False)
    found = pair.move(meeting=0)
    assert {role: moved(each)[::2] for role, each in found.items()} == {
        SOURCE: ("", "Unsupported"),
        TARGET: ("", "Unsupported"),
    }


def test_a_door_is_closed_with_its_plan(pair: Pair) -> None:
    pair.begin()
    pair.move()
    with pytest.raises(OSError, match="refused"):
        caller(pair.port).connect("talk")


def test_without_moves_there_is_no_door(node: MovingNode) -> None:
    plan = SimpleNamespace(vms=(), certificate="", key="", leftovers=())
    moves = Moves(plan)  # type: ignore[arg-type]
    assert moves._doors == []
    moves.close()


def test_asking_opens_no_door(pair: Pair) -> None:
    with socket.socket(socket.AF_INET6) as taken:
        taken.bind(("", pair.port))
        taken.listen()
        assert moved(pair.ask(TARGET)[TARGET])[::2] == ("absent", "")


# -- what is asked for ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("at_source", "at_target", "answers"),
    [
        ("", "", ("stayed", "absent")),
        (LEAVING, "", ("stayed", "absent")),
        (LEAVING, COMING, ("stayed", "")),
        (LEFT, COMING, ("left", "")),
        (LEFT, ARRIVED, ("left", "arrived")),
        (CLEARED, ARRIVED, ("left", "arrived")),
    ],
)
def test_both_hosts_never_contradict_each_other(
    pair: Pair, at_source: str, at_target: str, answers: tuple[str, str]
) -> None:
    """Wherever both runs were killed, the answers say that one host alone has it, or do not say it."""
    pair.begin()
    for node, stage in ((pair.source, at_source), (pair.target, at_target)):
        if stage:
            node.note(stage)
    found = pair.ask()
    assert (found[SOURCE].moved, found[TARGET].moved) == answers


@pytest.mark.parametrize("stage", ["", *STAGES])
@pytest.mark.parametrize("role", [SOURCE, TARGET])
@pytest.mark.parametrize("with_token", [True, False])
def test_what_is_answered_after_an_error(node: MovingNode, role: str, stage: str, with_token: bool) -> None:
    """Nothing that the ledger does not say."""
    if stage:
        node.note(stage, token="" if with_token else "another")
    answer = answer_after(node, role, HypervisorError("it", "it failed"))
    answers = {LEFT: "left", CLEARED: "left", STAYED: "stayed", ARRIVED: "arrived", ABSENT: "absent"}
    assert answer == (answers.get(stage, "") if with_token else "")
    assert answer_after(node, role, Undecided("it", "it is not known")) == ""


def answer_after(node: MovingNode, role: str, error: HypervisorError) -> str:
    move = PlannedMove(token_of(1), role, LIVE, "peer")
    job: Any = SimpleNamespace(
        planned=PlannedVm(machine(1), 1, "RUNNING", move=move),
        common=SimpleNamespace(root=str(node.root)),
        vm=machine(1),
    )
    return Moves.answer_after(job, error)


def test_a_ledger_that_can_not_be_read_answers_nothing(node: MovingNode) -> None:
    node.note(ARRIVED)
    (node.root / "moves" / "1").write_text("{", encoding="ascii")
    with pytest.raises(CatalogError):
        node.ledger()
    for role in (SOURCE, TARGET):
        assert answer_after(node, role, HypervisorError("it", "it failed")) == ""


# -- what decided moves have left -------------------------------------------------------------------------------------
def left_behind(node: MovingNode, stage: str, state: str | None, token: str = "", **record: Any) -> None:
    node.note(stage, token=token)
    mark(node.directory(1), **record)
    (node.directory(1) / "disk.0").write_bytes(DATA)
    if state is not None:
        node.driver.machines[1] = Machine("uuid-1", CATALOG, state)


@pytest.mark.parametrize(
    ("stage", "state"),
    [(LEAVING, None), *((stage, state) for stage in (LEFT, COMING) for state in (None, "POWEROFF", "UNKNOWN"))],
)
def test_what_is_left_goes(node: MovingNode, stage: str, state: str | None) -> None:
    record = {"coming": token_of(1)} if stage == COMING else {}
    left_behind(node, stage, state, **record)
    for _each in range(2):
        assert node.clear() == []
        assert (node.ledger(), node.driver.machines) == ("", {})
        assert not node.directory(1).exists()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("state", [None, "POWEROFF", "UNKNOWN", "RUNNING"])
def test_one_that_has_not_left_is_no_leftover(node: MovingNode, state: str | None, way: str) -> None:
    """Whether it has left is this host's own word, whatever the other one says."""
    left_behind(node, LEAVING, state)
    node.note(LEAVING, way)
    node.clear()
    if state is None and way == LIVE:
        assert not node.directory(1).exists()
        return
    # As it says now, it has stayed: the next poll shows the machine.
    assert node.ledger() == ""
    assert (node.directory(1) / "disk.0").read_bytes() == DATA
    assert (state is None) is (1 not in node.driver.machines)


@pytest.mark.parametrize("stage", [LEFT, COMING])
def test_one_that_runs_is_no_leftover(node: MovingNode, stage: str) -> None:
    left_behind(node, stage, "RUNNING", coming=token_of(1) if stage == COMING else "")
    node.clear()
    assert node.ledger() == stage
    assert node.driver.machines[1].state == "RUNNING"
    assert (node.directory(1) / "disk.0").read_bytes() == DATA


@pytest.mark.parametrize(
    "change",
    [
        {"token": "another"},
        {"uuid": "another"},
        {"catalog": OTHER},
    ],
)
def test_what_is_anothers_is_left_alone(node: MovingNode, change: dict[str, str]) -> None:
    left_behind(node, LEFT, "POWEROFF")
    entry = node_moves.read(str(node.root), 1)
    assert entry is not None
    node_moves.write(str(node.root), replace(entry, **change))
    node.clear()
    assert (node.directory(1) / "disk.0").read_bytes() == DATA
    assert node.driver.machines and node.ledger() == LEFT


def test_without_an_entry_nothing_is_removed(node: MovingNode) -> None:
    """A word of the plan alone removes no machine."""
    mark(node.directory(1))
    (node.directory(1) / "disk.0").write_bytes(DATA)
    node.driver.machines[1] = Machine("uuid-1", CATALOG, "POWEROFF")
    node.clear()
    assert (node.directory(1) / "disk.0").read_bytes() == DATA
    assert node.driver.machines


def test_a_directory_that_does_not_say_it_is_the_copy_stays(node: MovingNode) -> None:
    """It was made there after the copy was noted, or never was one."""
    left_behind(node, COMING, None)
    node.clear()
    assert (node.directory(1) / "disk.0").read_bytes() == DATA


def test_a_directory_of_somebody_elses_stays(node: MovingNode) -> None:
    left_behind(node, LEFT, None, catalog=OTHER)
    node.clear()
    assert (node.directory(1) / "disk.0").read_bytes() == DATA


def test_where_only_the_entry_is_left(node: MovingNode) -> None:
    for stage in (LEAVING, LEFT, COMING):
        node.note(stage)
        node.clear()
        assert node.ledger() == ""


def test_what_can_not_be_removed_hinders_nothing(node: MovingNode) -> None:
    left_behind(node, LEFT, "POWEROFF")
    node.driver.fails["remove"] = HypervisorError("it", "libvirt is away")
    node.note(LEFT)
    node_moves.write(str(node.root), node_moves.NodeMove(2, "uuid-2", token_of(2), LEFT, CATALOG, COLD))
    assert node.clear(1, 2) == []
    # The next poll says so, and the next plan tries again.
    assert node.ledger(1) == LEFT
    node.driver.fails.clear()
    node.clear(1, 2)
    assert node.ledger(1) == node.ledger(2) == ""


def test_entries_of_moves_that_are_over_are_forgotten(pair: Pair) -> None:
    pair.begin()
    pair.move()
    assert (pair.source.ledger(), pair.target.ledger()) == (CLEARED, ARRIVED)
    # While it is open by the catalog, they stay, whatever else is done.
    for node in (pair.source, pair.target):
        node.apply(PlannedVm(machine(5), 1, "POWEROFF"), moving=(token_of(1),))
    assert (pair.source.ledger(), pair.target.ledger()) == (CLEARED, ARRIVED)
    for node in (pair.source, pair.target):
        node.apply(PlannedVm(machine(5), 1, "POWEROFF"))
    assert (pair.source.ledger(), pair.target.ledger()) == ("", "")


@pytest.mark.parametrize("stage", [LEAVING, LEFT, COMING])
def test_a_machine_that_a_plan_has_brought_here_is_this_nodes(node: MovingNode, stage: str) -> None:
    """The catalog has decided, and whatever the ledger said is over."""
    node.note(stage)
    assert node.one("POWEROFF", 1, machine(1)).error is None
    assert node.ledger() == ""
