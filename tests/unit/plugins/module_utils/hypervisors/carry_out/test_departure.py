# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the source of a move does, with a real target beside it. That a machine of QEMU moves so is shown in
tests/integration/test_fleet.py, and that it does where either host fails, in test_move_faults.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from memory_hypervisor import Machine
from memory_node import CATALOG, OTHER
from moving_nodes import DATA, Pair, moved, token_of

from ansible_collections.nebula.provision.plugins.module_utils.errors import HypervisorError, ImageRefused
from ansible_collections.nebula.provision.plugins.module_utils.host import node_file
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import departure, state_changes
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.moves import node_moves, passage
from ansible_collections.nebula.provision.plugins.module_utils.model.move import (
    ABSENT,
    CLEARED,
    COLD,
    COMING,
    LEAVING,
    LEFT,
    LIVE,
    SOURCE,
    STAYED,
    TARGET,
    WAYS,
)
from ansible_collections.nebula.provision.plugins.module_utils.storage import machine_disks

pytestmark = pytest.mark.root


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    # A door looks that often whether it is to be closed.
    monkeypatch.setattr(passage, "_STEP", 0.02)
    return Pair(tmp_path)


def stays(pair: Pair, state: str = "RUNNING", target: str = ABSENT) -> None:
    """All is as it was before the move, on both hosts, and what was answered is not taken back. target: what its ledger
    has."""
    assert pair.on() == {SOURCE: state}
    assert pair.source.driver.machines[1].autostart is (state == "RUNNING")
    assert pair.directories() == [SOURCE]
    assert (pair.source.ledger(), pair.target.ledger()) == (STAYED, target)
    assert pair.content(pair.source) == DATA
    assert pair.ask(SOURCE)[SOURCE].moved == "stayed"
    # The same plan again, late: it moves nothing any more.
    pair.source.driver.names()
    assert pair.move(roles=(SOURCE,), meeting=0)[SOURCE].moved == "stayed"
    assert "depart" not in pair.source.driver.names()
    # And the next plan has nothing to do.
    outcome = pair.source.one(state, pair.generation, pair.vm)
    assert outcome.error is None and pair.on() == {SOURCE: state}


# -- it goes ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("way", WAYS)
def test_a_machine_that_runs_goes(pair: Pair, way: str) -> None:
    pair.begin()
    found = pair.move(way)
    assert moved(found[SOURCE]) == ("left", "UNKNOWN", "")
    assert moved(found[TARGET]) == ("arrived", "RUNNING", "")
    assert found[SOURCE].changed and found[TARGET].changed
    assert pair.on() == {TARGET: "RUNNING"}
    assert pair.directories() == [TARGET]
    assert pair.content(pair.target) == DATA
    assert pair.source.ledger() == CLEARED
    assert pair.source.driver.names() == (
        ["offer", "no autostart", "depart", "remove"]
        if way == LIVE
        else ["no autostart", "shutdown", "remove", "remove"]
    )


def test_one_that_is_to_end_without_being_asked_does(pair: Pair) -> None:
    pair.begin()
    assert moved(pair.move(COLD, orders={"hard": True})[SOURCE]) == ("left", "UNKNOWN", "")
    assert "shutdown" not in pair.source.driver.names()
    assert pair.on() == {TARGET: "RUNNING"}


def test_a_machine_that_is_off_goes_cold_and_stays_off(pair: Pair) -> None:
    pair.begin("POWEROFF")
    found = pair.move(COLD, wanted="POWEROFF")
    assert moved(found[SOURCE]) == ("left", "UNKNOWN", "")
    assert moved(found[TARGET]) == ("arrived", "POWEROFF", "")
    assert pair.on() == {TARGET: "POWEROFF"}
    assert pair.content(pair.target) == DATA
    assert {*pair.source.driver.names()} == {"remove"}


def test_nothing_of_it_is_removed_before_it_has_arrived(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.begin()
    steps: list[tuple[str, str, bool, dict[str, str]]] = []
    write = node_moves.write

    def written(root: str, entry: node_moves.NodeMove) -> None:
        write(root, entry)
        here = SOURCE if root == str(pair.source.root) else TARGET
        steps.append((here, entry.stage, pair.source.directory(1).exists(), pair.on()))

    monkeypatch.setattr(node_moves, "write", written)
    pair.move()
    assert [stage for here, stage, _there, _on in steps if here == SOURCE] == [LEAVING, LEFT, CLEARED]
    for here, stage, there, on in steps:
        assert there is (stage != CLEARED), (here, stage)
        if stage == LEFT:
            # It stands still, and nothing has started it.
            assert on == {TARGET: "UNKNOWN"}


def test_its_logs_come_along(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(departure, "MOST_LOG", 1000)
    pair.begin()
    (pair.source.directory(1) / "console.log").write_bytes(b"early" * 1000 + b"the end of what it said")
    pair.move(COLD)
    found = (pair.target.directory(1) / "console.log").read_bytes()
    assert b"the end of what it said" in found and len(found) < 2000
    assert "New VM state is BOOT" in pair.target.log(1)


def test_what_its_record_says_comes_along(pair: Pair) -> None:
    pair.begin()
    pair.source.one("RUNNING", pair.generation, pair.vm, operation="reboot")
    before = pair.source.record(1)
    assert before.operated == pair.generation
    pair.move()
    after = pair.target.record(1)
    assert (after.operated, after.coming, after.generation) == (before.operated, "", pair.generation)
    assert (after.uuid, after.catalog, after.vm_id) == ("uuid-1", CATALOG, 1)


# -- it stays ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("state", "way"),
    [("POWEROFF", LIVE), ("UNKNOWN", LIVE), ("SUSPENDED", LIVE), ("UNKNOWN", COLD), ("SUSPENDED", COLD)],
)
def test_one_that_is_in_another_state_than_it_was_stays(pair: Pair, state: str, way: str) -> None:
    """Its guest has ended it since the move was decided."""
    pair.begin()
    pair.source.driver.machines[1].state = state
    found = pair.move(way, roles=(SOURCE,))
    # The next run asks.
    assert moved(found[SOURCE]) == ("", state, "WrongState")
    assert pair.source.driver.names() == [] and pair.source.ledger() == ""
    assert pair.ask(SOURCE)[SOURCE].moved == "stayed"


def test_a_live_move_of_one_that_is_not_there(pair: Pair) -> None:
    pair.begin()
    del pair.source.driver.machines[1]
    assert moved(pair.move(LIVE, roles=(SOURCE,))[SOURCE])[::2] == ("", "WrongState")
    assert pair.ask(SOURCE)[SOURCE].moved == "stayed"


@pytest.mark.parametrize("way", WAYS)
def test_one_whose_target_does_not_come_stays(pair: Pair, way: str) -> None:
    pair.begin()
    found = pair.move(way, roles=(SOURCE,), meeting=0)
    assert moved(found[SOURCE]) == ("stayed", "RUNNING", "OtherHostFailed")
    assert "nebula_move_address" in (found[SOURCE].error or {})["remedy"]
    # It was not touched at all.
    assert pair.source.driver.names() == []
    stays(pair, target="")


@pytest.mark.parametrize("way", WAYS)
def test_one_that_the_target_refuses_stays(pair: Pair, way: str) -> None:
    pair.begin()
    pair.target.driver.machines[1] = Machine("another", CATALOG, "RUNNING")
    found = pair.move(way)
    assert moved(found[TARGET])[::2] == ("absent", "Conflict")
    assert moved(found[SOURCE]) == ("stayed", "RUNNING", "HypervisorError")
    # Both say the same, and the source says who does.
    assert (found[SOURCE].error or {})["found"] == (found[TARGET].error or {})["found"]
    assert "(host target)" in (found[SOURCE].error or {})["asked"]
    assert pair.source.driver.names() == (["offer"] if way == LIVE else [])
    assert pair.target.driver.machines.pop(1).uuid == "another"
    stays(pair)


def test_one_that_its_driver_can_not_bring_there_stays(pair: Pair) -> None:
    pair.begin()
    pair.source.driver.fails["depart"] = HypervisorError("it", "no such processor", "another one")
    found = pair.move()
    assert moved(found[SOURCE]) == ("stayed", "RUNNING", "HypervisorError")
    assert (found[SOURCE].error or {})["found"] == "no such processor"
    assert moved(found[TARGET])[0] == "absent"
    stays(pair)


def test_one_that_stands_still_after_that_goes_on(pair: Pair) -> None:
    """What libvirt paused for the last of its memory."""
    pair.begin()

    def stop() -> None:
        pair.source.driver.machines[1].state = "UNKNOWN"
        raise HypervisorError("it", "the connection is lost")

    pair.source.driver.during = stop
    found = pair.move()
    assert moved(found[SOURCE]) == ("stayed", "RUNNING", "HypervisorError")
    assert moved(found[TARGET])[0] == "absent"
    assert "start" in pair.source.driver.names()
    stays(pair)


def test_one_that_its_guest_switches_off_meanwhile_is_off(pair: Pair) -> None:
    pair.begin()

    def end() -> None:
        pair.source.driver.machines[1].state = "POWEROFF"
        raise HypervisorError("it", "the machine does not run any more")

    pair.source.driver.during = end
    found = pair.move()
    assert moved(found[SOURCE]) == ("stayed", "POWEROFF", "HypervisorError")
    assert moved(found[TARGET])[0] == "absent"
    assert (pair.on(), pair.directories(), pair.source.ledger()) == ({SOURCE: "POWEROFF"}, [SOURCE], STAYED)


def test_an_error_that_comes_when_it_is_gone_does_not_bring_it_back(pair: Pair) -> None:
    """libvirt forgets it only once all of it is on the other host."""
    pair.begin()

    def fail() -> None:
        raise HypervisorError("it", "the connection is lost")

    pair.source.driver.after = fail
    found = pair.move()
    assert found[SOURCE].moved == "left"
    assert pair.source.ledger() == LEFT
    assert moved(found[TARGET]) == ("arrived", "RUNNING", "")
    assert pair.on() == {TARGET: "RUNNING"}
    assert pair.ask(SOURCE)[SOURCE].moved == "left"
    assert pair.source.clear() == []
    assert pair.target.one("RUNNING", pair.generation, pair.vm).error is None
    assert pair.on() == {TARGET: "RUNNING"} and pair.directories() == [TARGET]
    assert pair.content(pair.target) == DATA


def test_one_that_was_ended_for_a_cold_move_runs_again(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.begin()

    def refuse(*_arguments: object) -> None:
        raise ImageRefused("disk 0", "its header says otherwise", "look at it")

    monkeypatch.setattr(machine_disks, "take_in", refuse)
    found = pair.move(COLD)
    assert moved(found[SOURCE]) == ("stayed", "RUNNING", "HypervisorError")
    assert moved(found[TARGET])[::2] == ("absent", "ImageRefused")
    assert "shutdown" in pair.source.driver.names()
    stays(pair)


def test_one_that_does_not_come_up_again_has_stayed_all_the_same(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.begin()

    def refuse(*_arguments: object) -> None:
        raise ImageRefused("disk 0", "its header says otherwise", "look at it")

    monkeypatch.setattr(machine_disks, "take_in", refuse)
    pair.source.driver.fails["start"] = HypervisorError("it", "no memory")
    found = pair.move(COLD)
    assert moved(found[SOURCE])[::2] == ("stayed", "HypervisorError")
    # What went wrong first is said.
    assert (found[SOURCE].error or {})["found"] == "its header says otherwise"
    assert pair.on() == {SOURCE: "POWEROFF"} and pair.source.ledger() == STAYED
    pair.source.driver.fails.clear()
    assert pair.source.one("RUNNING", pair.generation, pair.vm).state == "RUNNING"


def test_one_that_is_off_is_not_started_by_a_cold_move_that_fails(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.begin("POWEROFF")

    def refuse(*_arguments: object) -> None:
        raise ImageRefused("disk 0", "its header says otherwise", "look at it")

    monkeypatch.setattr(machine_disks, "take_in", refuse)
    assert moved(pair.move(COLD, wanted="POWEROFF")[SOURCE])[::2] == ("stayed", "HypervisorError")
    stays(pair, "POWEROFF")


def test_one_whose_guest_does_not_end_stays(pair: Pair) -> None:
    pair.begin()
    pair.source.driver.fails["shutdown"] = HypervisorError("it", "it does not obey")
    found = pair.move(COLD)
    assert moved(found[SOURCE]) == ("stayed", "RUNNING", "HypervisorError")
    assert moved(found[TARGET])[0] == "absent"
    stays(pair)


def test_a_newer_plan_ends_a_move_before_the_machine_has_left(pair: Pair) -> None:
    pair.begin()

    def overtake() -> None:
        node_file.accept(str(pair.source.root), CATALOG, 99, "")

    stop = pair.source.driver.shutdown

    def shutdown(mark: object, timeout: int) -> None:
        stop(mark, timeout)  # type: ignore[arg-type]
        overtake()

    pair.source.driver.shutdown = shutdown  # type: ignore[method-assign, assignment]
    found = pair.move(COLD)
    assert moved(found[SOURCE])[::2] == ("stayed", "StalePlan")
    assert moved(found[TARGET])[0] == "absent"
    assert (pair.source.ledger(), pair.target.ledger()) == (STAYED, ABSENT)
    assert pair.directories() == [SOURCE]


def test_a_ledger_that_can_not_be_written_keeps_it(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before LEFT is on the disk, it has not left."""
    pair.begin()
    write = node_moves.write

    def full(root: str, entry: node_moves.NodeMove) -> None:
        if entry.stage == LEFT:
            raise HypervisorError("ledger", "no room")
        write(root, entry)

    monkeypatch.setattr(node_moves, "write", full)
    found = pair.move(COLD)
    assert moved(found[SOURCE]) == ("stayed", "RUNNING", "HypervisorError")
    assert moved(found[TARGET])[0] == "absent"
    monkeypatch.undo()
    stays(pair)


def test_a_directory_of_somebody_elses_is_not_given_away(pair: Pair) -> None:
    pair.begin()
    record = pair.source.directory(1) / "vm.json"
    record.write_text(record.read_text(encoding="utf-8").replace(CATALOG, OTHER), encoding="utf-8")
    found = pair.move(LIVE, roles=(SOURCE,))
    assert moved(found[SOURCE])[::2] == ("", "ForeignObject")
    assert pair.source.driver.names() == [] and pair.source.ledger() == ""


# -- what it answers later --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("stage", "way", "state", "answer", "after", "ledger"),
    [
        ("", LIVE, "RUNNING", "stayed", "RUNNING", STAYED),
        ("", COLD, None, "stayed", "POWEROFF", STAYED),
        (STAYED, LIVE, "RUNNING", "stayed", "RUNNING", STAYED),
        # Somebody has ended it since.
        (STAYED, LIVE, None, "stayed", None, STAYED),
        (LEAVING, LIVE, "RUNNING", "stayed", "RUNNING", STAYED),
        # libvirt had it stand still when the run was killed.
        (LEAVING, LIVE, "UNKNOWN", "stayed", "RUNNING", STAYED),
        (LEAVING, LIVE, "POWEROFF", "stayed", "POWEROFF", STAYED),
        (LEAVING, LIVE, None, "left", None, LEFT),
        (LEAVING, COLD, "POWEROFF", "stayed", "POWEROFF", STAYED),
        (LEAVING, COLD, "RUNNING", "stayed", "RUNNING", STAYED),
        # It was about to be another host's: it is defined again, since nobody starts what is not there.
        (LEAVING, COLD, None, "stayed", "POWEROFF", STAYED),
        (STAYED, COLD, None, "stayed", "POWEROFF", STAYED),
        (STAYED, COLD, "RUNNING", "stayed", "RUNNING", STAYED),
        # The run was killed before it had it go on.
        (STAYED, LIVE, "UNKNOWN", "stayed", "RUNNING", STAYED),
        (LEFT, LIVE, None, "left", None, LEFT),
        (LEFT, COLD, "POWEROFF", "left", "POWEROFF", LEFT),
        (CLEARED, LIVE, None, "left", None, CLEARED),
    ],
)
def test_what_became_of_it(
    pair: Pair, stage: str, way: str, state: str | None, answer: str, after: str | None, ledger: str
) -> None:
    """As a run that was killed has left it. Asked twice, it says the same."""
    pair.begin()
    if state is None:
        del pair.source.driver.machines[1]
    else:
        pair.source.driver.machines[1].state = state
    if stage:
        pair.source.note(stage, way)
    for _each in range(2):
        found = pair.ask(SOURCE, way=way)[SOURCE]
        assert (found.moved, found.error) == (answer, None)
        assert found.state == ("UNKNOWN" if answer == "left" else after or "POWEROFF")
        assert pair.on() == ({} if after is None else {SOURCE: after})
        assert pair.source.ledger() == ledger
    assert pair.directories() == [SOURCE]


@pytest.mark.parametrize("stage", [LEAVING, STAYED])
@pytest.mark.parametrize(
    ("way", "boot", "starts", "went_down"),
    [
        (LIVE, "of another boot", False, True),
        # What still starts with its host was started at the boot, and has ended since.
        (LIVE, "of another boot", True, False),
        # Nobody but its guest has ended it.
        (LIVE, "", False, False),
        # It was ended for its move, which the catalog knows.
        (COLD, "of another boot", False, False),
    ],
)
def test_one_whose_host_went_down_while_it_was_to_move_is_not_taken_for_switched_off(
    pair: Pair, stage: str, way: str, boot: str, starts: bool, went_down: bool
) -> None:
    pair.begin()
    machine = pair.source.driver.machines[1]
    machine.state, machine.autostart = "POWEROFF", starts
    pair.source.note(stage, way, boot=boot)
    for _each in range(2):
        found = pair.ask(SOURCE, way=way)[SOURCE]
        assert moved(found) == ("stayed", "UNKNOWN" if went_down else "POWEROFF", "")
        (seen,) = node_moves.seen(str(pair.source.root), CATALOG)
        assert (seen.stage, seen.went_down) == (STAYED, went_down)
    # Nothing starts it before the catalog has said so, but its host starts it if it goes down again.
    assert pair.on() == {SOURCE: "POWEROFF"}
    assert machine.autostart
    machine.state = "RUNNING"
    assert moved(pair.ask(SOURCE, way=way)[SOURCE]) == ("stayed", "RUNNING", "")


@pytest.mark.parametrize("stage", [LEAVING, STAYED])
def test_what_is_not_there_is_not_made_anew(pair: Pair, stage: str) -> None:
    """Its disk was in use somewhere else, or somebody has removed it: an empty one is no substitute."""
    pair.begin()
    del pair.source.driver.machines[1]
    (pair.source.directory(1) / "disk.0").unlink()
    pair.source.note(stage, COLD)
    assert moved(pair.ask(SOURCE, way=COLD)[SOURCE]) == ("stayed", "POWEROFF", "")
    assert pair.on() == {} and not (pair.source.directory(1) / "disk.0").exists()


@pytest.mark.parametrize("stage", [LEAVING, STAYED])
def test_what_goes_on_starts_with_its_host_again(pair: Pair, stage: str) -> None:
    pair.begin()
    pair.source.driver.machines[1].autostart = False
    pair.source.note(stage, LIVE)
    assert moved(pair.ask(SOURCE, way=LIVE)[SOURCE]) == ("stayed", "RUNNING", "")
    assert pair.source.driver.machines[1].autostart


@pytest.mark.parametrize("stage", [LEAVING, LEFT, CLEARED, COMING])
def test_another_move_says_nothing_of_this_one(pair: Pair, stage: str) -> None:
    pair.begin()
    pair.source.note(stage, token="another")
    assert pair.ask(SOURCE)[SOURCE].moved == "stayed"


@pytest.mark.parametrize(("stage", "answer"), [(LEFT, "left"), (CLEARED, "left"), (LEAVING, "left"), ("", "stayed")])
def test_where_its_directory_is_gone(pair: Pair, stage: str, answer: str) -> None:
    if stage:
        pair.source.note(stage)
    assert pair.ask(SOURCE)[SOURCE].moved == answer
    assert pair.directories() == []


def test_a_ledger_that_can_not_be_read_decides_nothing(pair: Pair) -> None:
    pair.begin()
    pair.source.note(LEFT)
    (pair.source.root / "moves" / "1").write_text("{", encoding="ascii")
    found = pair.ask(SOURCE)[SOURCE]
    assert moved(found)[::2] == ("", "CatalogError")


def test_what_is_brought_back_is_what_it_was(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its tasks nor an operation are carried out by the way."""
    seen = []
    carry_out = state_changes.carry_out

    def carried(job: object) -> str:
        seen.append(job.planned)  # type: ignore[attr-defined]
        return carry_out(job)  # type: ignore[arg-type]

    def refuse(*_arguments: object) -> None:
        raise ImageRefused("disk 0", "its header says otherwise", "look at it")

    pair.begin()
    monkeypatch.setattr(state_changes, "carry_out", carried)
    monkeypatch.setattr(machine_disks, "take_in", refuse)
    pair.move(COLD, orders={"operation": "recreate"})
    assert [(each.operation, each.wanted, each.move) for each in seen] == [("", "RUNNING", None)]
    assert pair.content(pair.source) == DATA
    assert token_of(1) not in str(list(pair.source.directory(1).iterdir()))
