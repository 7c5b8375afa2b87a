# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the target of a move does, beside a real source, and beside one that says what a test has it say."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from memory_hypervisor import Machine, MemoryDriver
from memory_node import CATALOG, OTHER, mark, told
from move_pairs import PATIENCE, Beside, caller
from moving_nodes import DATA, MovingNode, Pair, moved, token_of

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    ForeignObject,
    HypervisorError,
    NebulaError,
    Unsupported,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import (
    arrival,
    arriving_disks,
    bridges,
    departure,
    fence,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.moves import node_moves, passage
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.moves.passage import Channel
from ansible_collections.nebula.provision.plugins.module_utils.model.context import Context
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.move import (
    ABSENT,
    ARRIVED,
    CLEARED,
    COLD,
    COMING,
    HAS_ARRIVED,
    LEAVING,
    LEFT,
    LIVE,
    SOURCE,
    STAYED,
    TARGET,
    WAYS,
    Leftover,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.network_drivers import OVN
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Nic
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.network.links import Link
from ansible_collections.nebula.provision.plugins.module_utils.storage import machine_disks

pytestmark = pytest.mark.root
MIB = 1 << 20


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    # A door looks that often whether it is to be closed.
    monkeypatch.setattr(passage, "_STEP", 0.02)
    return Pair(tmp_path)


def is_empty(pair: Pair) -> None:
    """Nothing of the machine is on the target but the word that there is nothing, which is not taken back."""
    assert 1 not in pair.target.driver.machines
    assert not pair.target.directory(1).exists()
    assert pair.target.ledger() == ABSENT


# -- it comes ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("way", WAYS)
def test_a_machine_that_has_come_is_like_any_other(pair: Pair, way: str) -> None:
    pair.begin()
    pair.move(way)
    assert pair.target.ledger() == ARRIVED
    assert pair.target.record(1).coming == ""
    pair.target.driver.names()
    outcome = pair.target.one("RUNNING", pair.generation, pair.vm)
    assert (outcome.error, outcome.changed, outcome.state) == (None, False, "RUNNING")
    # A plan without a move has settled it.
    assert pair.target.ledger() == ""
    assert pair.target.one("DONE", pair.generation + 1, pair.vm).error is None
    assert pair.directories() == [] and pair.on() == {}


def test_one_that_runs_goes_on_before_anything_else(pair: Pair) -> None:
    pair.begin()
    pair.move()
    names = pair.target.driver.names()
    assert names[:3] == ["accept", "receive", "start"]
    assert names.count("start") == 1


@pytest.mark.parametrize(
    ("driver", "way", "count"), [(OVN, LIVE, 1), (OVN, COLD, 0), ("bridge", LIVE, 0), ("vxlan", LIVE, 0)]
)
def test_one_on_ovn_is_announced_again(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, driver: str, way: str, count: int
) -> None:
    monkeypatch.setattr(MemoryDriver, "switches", frozenset((OVN,)))
    monkeypatch.setattr(bridges.links, "observe", lambda with_settings: {"br-x": Link("br-x")})
    nic = Nic(0, 0, "net", "br-x", "02:00:00:00:00:01", network_values={"VN_MAD": driver})
    pair.vm = replace(pair.vm, nics=(nic,))
    pair.begin()
    # It is here and runs, whatever becomes of that.
    pair.target.driver.fails["announce"] = HypervisorError("announcing machine 1", "QEMU does not know how")
    outcomes = pair.move(way)
    assert moved(outcomes[TARGET]) == (HAS_ARRIVED, "RUNNING", "")
    names = pair.target.driver.names()
    assert names.count("announce") == count and "announce" not in names[: names.index("start")]
    assert "".join(outcomes[TARGET].log).count("QEMU does not know how") == count


def test_a_copy_is_known_as_one_from_its_first_moment(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is killed after that: the directory says so itself, and so does the ledger."""
    pair.begin()
    seen: list[tuple[str, str]] = []
    receive = arrival.file_streams.receive

    def look(*arguments: Any) -> None:
        seen.append((pair.target.record(1).coming, pair.target.ledger()))
        receive(*arguments)

    monkeypatch.setattr(arrival.file_streams, "receive", look)
    pair.move(COLD)
    assert seen and {*seen} == {(token_of(1), COMING)}


def test_its_context_comes_with_one_that_runs_and_is_made_anew_for_one_that_does_not(pair: Pair) -> None:
    pair.vm = type(pair.vm)(**{**vars(pair.vm), "context": Context(disk_id=1, target="hda", variables={"A": "1"})})
    pair.begin()
    content = (pair.source.directory(1) / "disk.1").read_bytes()
    pair.move(LIVE)
    assert (pair.target.directory(1) / "disk.1").read_bytes() == content
    assert "change_medium" not in pair.target.driver.names()


def test_a_move_that_has_come_already_is_not_begun_again(pair: Pair) -> None:
    pair.begin()
    pair.move()
    pair.target.driver.names()
    pair.target.note(ARRIVED)
    found = pair.move(roles=(TARGET,), meeting=0)
    assert moved(found[TARGET]) == ("arrived", "RUNNING", "")
    assert pair.target.driver.names() == []


def test_one_that_has_come_and_does_not_start_is_here(pair: Pair) -> None:
    """It has left the other host: whatever goes wrong now is this one's."""
    pair.begin()
    pair.target.driver.fails["start"] = HypervisorError("it", "no memory")
    found = pair.move(COLD)
    assert moved(found[SOURCE]) == ("left", "UNKNOWN", "")
    assert moved(found[TARGET])[::2] == ("arrived", "HypervisorError")
    assert pair.target.ledger() == ARRIVED and pair.directories() == [TARGET]
    pair.target.driver.fails.clear()
    assert pair.target.one("RUNNING", pair.generation, pair.vm).state == "RUNNING"
    assert pair.content(pair.target) == DATA


# -- what is refused --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("way", WAYS)
def test_what_is_there_already_is_left_alone(pair: Pair, way: str) -> None:
    pair.begin()
    place = pair.target.directory(1)
    mark(place)
    (place / "disk.0").write_text("mine", encoding="ascii")
    found = pair.move(way)
    assert moved(found[TARGET])[::2] == ("absent", "Conflict")
    assert moved(found[SOURCE])[::2] == ("stayed", "HypervisorError")
    assert (place / "disk.0").read_text(encoding="ascii") == "mine"
    assert pair.target.ledger() == ABSENT


@pytest.mark.parametrize("catalog", [CATALOG, OTHER])
def test_a_domain_that_is_there_already_is_left_alone(pair: Pair, catalog: str) -> None:
    pair.begin()
    pair.target.driver.machines[1] = Machine("another", catalog, "RUNNING")
    found = pair.move()
    assert found[TARGET].moved == "absent" and found[SOURCE].moved == "stayed"
    assert pair.target.driver.machines[1] == Machine("another", catalog, "RUNNING")
    assert "remove" not in pair.target.driver.names()


def test_a_link_in_its_place_is_left_alone(pair: Pair, tmp_path: Path) -> None:
    pair.begin()
    (tmp_path / "elsewhere").mkdir()
    pair.target.directory(1).parent.mkdir(parents=True)
    pair.target.directory(1).symlink_to(tmp_path / "elsewhere")
    assert moved(pair.move()[TARGET])[::2] == ("absent", "Conflict")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_one_whose_source_does_not_come(pair: Pair) -> None:
    found = pair.move(roles=(TARGET,), meeting=0)
    assert moved(found[TARGET]) == ("absent", "UNKNOWN", "OtherHostFailed")
    is_empty(pair)
    # The same plan again, late: what was answered is not taken back.
    pair.begin()
    found = pair.move()
    assert (found[TARGET].moved, found[SOURCE].moved) == ("absent", "stayed")
    is_empty(pair)


def test_one_that_has_no_room(pair: Pair) -> None:
    pair.begin()
    # Of others, since the move was decided.
    pair.target.driver.foreign_memory = 30
    found = pair.move(plans={TARGET: {"memory": 100}})
    assert found[TARGET].moved == "absent" and found[SOURCE].moved == "stayed"
    assert (found[SOURCE].error or {})["found"] == (found[TARGET].error or {})["found"]
    is_empty(pair)
    assert pair.on() == {SOURCE: "RUNNING"}


@pytest.mark.parametrize("way", WAYS)
def test_one_for_which_its_host_lacks_hardware(pair: Pair, way: str) -> None:
    """Nothing of it has come by then, and it was not powered off."""
    pair.begin()
    pair.target.driver.fails["require_hardware"] = Unsupported("it", "it lacks feature avx2", "Set CPU_MODEL")
    found = pair.move(way)
    assert moved(found[TARGET])[::2] == ("absent", "Unsupported")
    assert moved(found[SOURCE])[:2] == ("stayed", "RUNNING")
    assert (found[SOURCE].error or {})["remedy"] == "Set CPU_MODEL"
    assert not {"depart", "shutdown", "cancel"}.intersection(pair.source.driver.names())
    is_empty(pair)
    assert pair.on() == {SOURCE: "RUNNING"}


def test_one_that_runs_is_looked_at_by_what_its_host_offers(pair: Pair) -> None:
    pair.begin()
    pair.move()
    assert pair.target.driver.hardware == [("definition of 1", "processor of definition of 1")]


def test_one_that_does_not_is_looked_at_by_its_own_plan(pair: Pair) -> None:
    pair.begin()
    pair.move(COLD)
    assert pair.target.driver.hardware == [("", "")]


@pytest.mark.parametrize("way", WAYS)
def test_one_whose_disk_is_larger_than_by_its_plan(pair: Pair, way: str) -> None:
    pair.begin()
    with (pair.source.directory(1) / "disk.0").open("ab") as file:
        file.truncate(MIB + 512)
    found = pair.move(way)
    assert moved(found[TARGET])[::2] == ("absent", "Conflict")
    assert (found[SOURCE].error or {})["found"] == "its disk 0 has 1.0 MiB on its host, and 1.0 by its plan"
    is_empty(pair)
    assert pair.on() == {SOURCE: "RUNNING"}


def test_an_encrypted_disk_is_not_copied_while_its_machine_runs(pair: Pair) -> None:
    encrypted = type(pair.vm.disks[0])(**{**vars(pair.vm.disks[0]), "luks_secret": "s"})
    pair.vm = type(pair.vm)(**{**vars(pair.vm), "disks": (encrypted,)})
    pair.begin()
    found = pair.move()
    assert moved(found[TARGET])[::2] == ("absent", "Unsupported")
    is_empty(pair)
    pair.token = "the next"
    assert moved(pair.move(COLD)[TARGET]) == ("arrived", "RUNNING", "")


def test_what_comes_is_counted_until_it_is_here(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines of one plan do not get the same bytes: arriving_disks.py."""
    taken: list[Any] = []
    monkeypatch.setattr(arriving_disks.ArrivingRoom, "take", lambda _room, *asked: taken.append(asked))
    monkeypatch.setattr(arriving_disks.ArrivingRoom, "give_back", lambda _room, place: taken.append(place))
    pair.begin()
    blocks = (pair.source.directory(1) / "disk.0").stat().st_blocks * 512
    pair.move()
    place = str(pair.target.directory(1))
    assert taken == [(place, blocks, pair.vm.name), place]


def test_what_its_guest_has_changed_beside_its_disks_comes_along(pair: Pair) -> None:
    pair.begin()
    (pair.source.directory(1) / "VARS").write_bytes(b"variables")
    for node in pair.nodes.values():
        node.driver.beside["VARS"] = 16
    assert moved(pair.move(COLD)[TARGET]) == ("arrived", "RUNNING", "")
    assert (pair.target.directory(1) / "VARS").read_bytes() == b"variables"
    assert 1 in pair.source.driver.disowned


def test_what_never_ran_lacks_it(pair: Pair) -> None:
    pair.begin()
    for node in pair.nodes.values():
        node.driver.beside["VARS"] = 16
    assert moved(pair.move(COLD)[TARGET]) == ("arrived", "RUNNING", "")
    assert not (pair.target.directory(1) / "VARS").exists()


def test_it_is_bounded(pair: Pair) -> None:
    def says(channel: Channel) -> None:
        begins(channel)
        sends(channel, "VARS", 17)

    pair.target.driver.beside["VARS"] = 16
    found, _heard = facing(pair, says)
    assert moved(found)[::2] == ("absent", "ForeignObject")
    is_empty(pair)


@pytest.fixture
def with_state(pair: Pair) -> Pair:
    """Its source has a state of it in a place of its own."""
    pair.begin()
    for name, node in pair.nodes.items():
        node.driver.elsewhere = node.root / f"state-{name}"
    place_of(pair.source).write_bytes(b"state")
    return pair


def place_of(node: MovingNode) -> Path:
    assert node.driver.elsewhere is not None
    return node.driver.elsewhere


def test_a_state_in_a_place_of_the_hosts_comes_along(with_state: Pair) -> None:
    assert moved(with_state.move(COLD)[TARGET]) == ("arrived", "RUNNING", "")
    assert place_of(with_state.target).read_bytes() == b"state"
    assert not place_of(with_state.source).exists()


def test_a_machine_that_stays_keeps_it_and_none_is_on_the_other_host(with_state: Pair) -> None:
    """The source fails when the target has all of it."""
    with_state.source.driver.fails["disown"] = HypervisorError("undefining it", "no")
    found = with_state.move(COLD)
    assert (found[SOURCE].moved, found[TARGET].moved) == ("stayed", "absent")
    assert place_of(with_state.source).read_bytes() == b"state"
    assert not place_of(with_state.target).exists()


def test_a_state_that_stays_with_another_domain_is_in_the_log(with_state: Pair) -> None:
    with_state.source.driver.fails["disown"] = HypervisorError("undefining it", "no")
    with_state.target.driver.stays = "state of the TPM: it stays, as domain renamed has the same UUID"
    found = with_state.move(COLD)[TARGET]
    assert found.moved == "absent" and place_of(with_state.target).exists()
    assert any(line.endswith(f"[LCM] [W]: {with_state.target.driver.stays}") for line in found.log)


def test_a_machine_that_never_ran_has_none(with_state: Pair) -> None:
    place_of(with_state.source).unlink()
    assert moved(with_state.move(COLD)[TARGET]) == ("arrived", "RUNNING", "")
    assert not place_of(with_state.target).exists()


def test_a_state_of_the_same_machine_is_not_written_over(with_state: Pair) -> None:
    place_of(with_state.target).write_bytes(b"whose?")
    found = with_state.move(COLD)
    assert (found[SOURCE].moved, moved(found[TARGET])[::2]) == ("stayed", ("absent", "Conflict"))
    assert place_of(with_state.target).read_bytes() == b"whose?"
    assert place_of(with_state.source).read_bytes() == b"state"


@pytest.mark.parametrize(("sizes", "kind"), [((17,), "ForeignObject"), ((4, 4), "Conflict")])
def test_a_state_is_bounded_and_comes_once(pair: Pair, sizes: tuple[int, ...], kind: str) -> None:
    def says(channel: Channel) -> None:
        begins(channel)
        for size in sizes:
            sends(channel, "tpm", size)

    pair.target.driver.elsewhere = pair.target.root / "state"
    found, _heard = facing(pair, says)
    assert moved(found)[::2] == ("absent", kind)
    assert not place_of(pair.target).exists()


def test_one_whose_state_could_not_be_kept_is_not_even_powered_off(with_state: Pair) -> None:
    with_state.source.driver.fails["state_elsewhere"] = Unsupported("it", "this host's libvirt is older")
    found = with_state.move(COLD)
    assert (found[SOURCE].error or {})["found"] == "this host's libvirt is older"
    assert with_state.on() == {SOURCE: "RUNNING"}
    assert "shutdown" not in with_state.source.driver.names()


def test_one_that_its_driver_does_not_take(pair: Pair) -> None:
    pair.begin()
    pair.target.driver.fails["accept"] = Unsupported("it", "it has a device of kind hostdev", "move: cold")
    found = pair.move()
    assert moved(found[TARGET])[::2] == ("absent", "Unsupported")
    assert (found[SOURCE].error or {})["found"] == "it has a device of kind hostdev"
    assert "depart" not in pair.source.driver.names()
    is_empty(pair)
    assert pair.on() == {SOURCE: "RUNNING"}


def test_one_whose_disks_are_others(pair: Pair) -> None:
    pair.begin()
    disk = Disk(1, "vdb", type="FS", size=1, driver="raw", format="raw")
    both = {SOURCE: pair.vm, TARGET: type(pair.vm)(**{**vars(pair.vm), "disks": (*pair.vm.disks, disk)})}
    planned = pair.planned

    def other(role: str, *arguments: Any, **values: Any) -> Any:
        made = planned(role, *arguments, **values)
        return type(made)(**{**vars(made), "vm": both[role]})

    pair.planned = other  # type: ignore[method-assign]
    found = pair.move()
    assert moved(found[TARGET])[::2] == ("absent", "Conflict")
    assert "the disks 0 of its own, and by its plan 0, 1" in (found[TARGET].error or {})["found"]
    is_empty(pair)


def test_a_machine_that_does_not_stand_still_has_not_arrived_as_agreed(pair: Pair) -> None:
    """It is nowhere else, though: only its old host can say what it is."""
    pair.begin()
    pair.target.driver.arrives_as = "RUNNING"
    found = pair.move()
    assert found[TARGET].moved == ""
    assert pair.target.ledger() == COMING
    assert found[SOURCE].moved == "left"


# -- what an earlier move has left ------------------------------------------------------------------------------------
def copy_of(pair: Pair, token: str = "earlier", state: str | None = "POWEROFF") -> None:
    """As a killed run has left it."""
    pair.target.note(COMING, token=token)
    mark(pair.target.directory(1), coming=token)
    (pair.target.directory(1) / "disk.0").write_bytes(b"half of it")
    if state is not None:
        pair.target.driver.machines[1] = Machine("uuid-1", CATALOG, state)


@pytest.mark.parametrize("state", [None, "POWEROFF", "UNKNOWN"])
@pytest.mark.parametrize("way", WAYS)
def test_a_copy_of_an_earlier_move_is_settled_first(pair: Pair, way: str, state: str | None) -> None:
    pair.begin()
    copy_of(pair, state=state)
    found = pair.move(way)
    assert moved(found[TARGET])[::2] == ("", "Conflict")
    # The source came, and is not kept waiting.
    assert moved(found[SOURCE])[:2] == ("stayed", "RUNNING")
    assert (found[SOURCE].error or {})["found"] == "another move of it is not settled here"
    assert (pair.target.directory(1) / "disk.0").read_bytes() == b"half of it"
    assert pair.ask(TARGET)[TARGET].moved == "absent"
    assert pair.target.ledger() == COMING
    pair.target.clear(token="earlier")
    pair.token = "the next"
    assert moved(pair.move(way)[TARGET]) == ("arrived", "RUNNING", "")
    assert pair.content(pair.target) == DATA


def test_an_earlier_copy_that_runs_is_none(pair: Pair) -> None:
    copy_of(pair, state="RUNNING")
    pair.target.clear(token="earlier")
    assert pair.on() == {TARGET: "RUNNING"} and pair.target.ledger() == COMING
    assert (pair.target.directory(1) / "disk.0").read_bytes() == b"half of it"


def test_a_machine_that_comes_back_finds_its_old_files_gone(pair: Pair) -> None:
    """It left this host, which was not told to clear what it had; it is, by the plan of the move."""
    pair.begin()
    pair.target.note(LEFT, token="earlier")
    mark(pair.target.directory(1))
    (pair.target.directory(1) / "disk.0").write_bytes(b"what it was")
    left = (Leftover(1, "uuid-1", "earlier"),)
    assert moved(pair.move(plans={TARGET: {"leftovers": left}})[TARGET]) == ("arrived", "RUNNING", "")
    assert pair.content(pair.target) == DATA


@pytest.mark.parametrize("stage", [CLEARED, ARRIVED, STAYED, ABSENT])
def test_moves_that_are_over_are_no_hindrance(pair: Pair, stage: str) -> None:
    pair.begin()
    pair.target.note(stage, token="earlier")
    assert moved(pair.move()[TARGET]) == ("arrived", "RUNNING", "")


@pytest.mark.parametrize("stage", [COMING, LEAVING, LEFT])
def test_the_same_move_is_not_begun_twice(pair: Pair, stage: str) -> None:
    copy_of(pair, token_of(1))
    pair.target.note(stage)
    found = pair.move(roles=(TARGET,), meeting=0)
    assert moved(found[TARGET])[::2] == ("", "OtherHostFailed")
    assert pair.directories() == [TARGET] and pair.target.ledger() == stage
    assert pair.target.driver.names() == []


# -- what it answers later --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("stage", "answer", "error"),
    [("", "absent", ""), (COMING, "", "OtherHostFailed"), (ARRIVED, "arrived", "")],
)
@pytest.mark.parametrize("with_files", [False, True])
def test_what_became_of_it(pair: Pair, stage: str, answer: str, error: str, with_files: bool) -> None:
    if with_files and stage:
        copy_of(pair, token_of(1), "UNKNOWN")
    if stage:
        pair.target.note(stage)
    for _each in range(2):
        found = pair.ask(TARGET)[TARGET]
        assert moved(found)[::2] == (answer, error)
        assert pair.target.ledger() == (stage or ABSENT)
    # Nothing that stands still is started by a question.
    assert pair.on() == ({TARGET: "UNKNOWN"} if with_files and stage else {})


@pytest.mark.parametrize("stage", [COMING, ARRIVED])
def test_another_move_says_nothing_of_this_one(pair: Pair, stage: str) -> None:
    """And one that is not settled is not forgotten for it."""
    pair.target.note(stage, token="another")
    assert pair.ask(TARGET)[TARGET].moved == "absent"
    assert pair.target.ledger() == (COMING if stage == COMING else ABSENT)


@pytest.mark.parametrize("left", ["", ".vm.json.abc.tmp"])
def test_of_a_directory_that_a_killed_run_has_just_made_nothing_stays(pair: Pair, left: str) -> None:
    """Killed before it could write whose it is."""
    pair.target.note(COMING, token=token_of(1))
    pair.target.directory(1).mkdir(parents=True)
    if left:
        (pair.target.directory(1) / left).touch()
    assert pair.ask(TARGET)[TARGET].moved == ""
    pair.target.clear(token=token_of(1))
    assert not pair.target.directory(1).exists() and pair.target.ledger() == ""


# -- a source that says what a test has it say ------------------------------------------------------------------------
Says = Callable[[Channel], None]


def facing(pair: Pair, says: Says, way: str = COLD) -> tuple[VmOutcome, list[dict[str, Any]]]:
    """Return the target's outcome, and what it said last."""
    acting = Beside(lambda: pair.move(way, roles=(TARGET,)))
    channel = caller(pair.port, token=token_of(1)).meet(PATIENCE)
    heard: list[dict[str, Any]] = []
    try:
        with contextlib.suppress(NebulaError):
            says(channel)
        with contextlib.suppress(NebulaError):
            while True:
                heard.append(channel.receive(PATIENCE))
    finally:
        channel.close()
    found = acting.result()
    assert isinstance(found, dict)
    return found[TARGET], heard


def offer(way: str = COLD, **changes: Any) -> dict[str, Any]:
    record = {"catalog": CATALOG, "vm_id": 1, "uuid": "uuid-1"}
    disks = [{"id": 0, "size": MIB, "length": MIB, "bytes": 4096}]
    return {"way": way, "definition": "x", "record": record, "disks": disks, **changes}


def begins(channel: Channel, **changes: Any) -> None:
    channel.send(**offer(**changes))
    assert channel.receive(PATIENCE) == {"shared": False}
    channel.send(go=True)


def sends(channel: Channel, name: str = "disk.0", size: int = MIB) -> None:
    channel.send(file=name, size=size)
    channel.send(at=0, length=4)
    channel.send_bytes(b"data")
    channel.send(end=name)


def test_a_source_that_does_as_it_should(pair: Pair) -> None:
    """Else what follows shows nothing."""

    def says(channel: Channel) -> None:
        begins(channel)
        sends(channel)
        channel.send(sent=True, moved=True)
        assert channel.receive(PATIENCE) == {"kept": True}
        channel.send(left=True)
        assert channel.receive(PATIENCE) == {"arrived": True}

    found, _heard = facing(pair, says)
    assert moved(found) == ("arrived", "RUNNING", "")
    assert (pair.target.directory(1) / "disk.0").read_bytes() == b"data".ljust(MIB, b"\0")


STRANGE: list[Any] = [-1, 1 << 50, 10**400, 1.5, "1", None, True, [], {}]


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"refused": "x"},
        offer(LIVE),
        offer("other"),
        offer(disks=None),
        offer(disks=[]),
        offer(disks="x"),
        offer(disks=[1]),
        offer(disks=[{}]),
        offer(disks=[{**offer()["disks"][0], "length": 1 << 49}]),
        offer(disks=[*offer()["disks"], {"id": 7, "size": 1, "length": 1, "bytes": 1}]),
        *(
            offer(disks=[{**offer()["disks"][0], key: value}])
            for key in ("size", "length", "bytes")
            for value in STRANGE
        ),
        *(offer(disks=[{**offer()["disks"][0], "id": value}]) for value in (*STRANGE, 1)),
    ],
)
def test_an_offer_that_is_none_is_refused(pair: Pair, message: dict[str, Any]) -> None:
    found, heard = facing(pair, lambda channel: channel.send(**message))
    assert moved(found)[0] == "absent"
    assert found.error is not None and found.error["kind"] in ("ForeignObject", "Conflict")
    assert [list(each) for each in heard] == [["refused"]]
    is_empty(pair)


@pytest.mark.parametrize(
    "name", ["../../evil", "/etc/evil", "vm.json", "disk.1", ".disk.0.tmp", "disk.0/x", "", "disk.00"]
)
def test_files_of_other_names_are_refused(pair: Pair, name: str, tmp_path: Path) -> None:
    def says(channel: Channel) -> None:
        begins(channel)
        sends(channel, name)

    before = set(tmp_path.rglob("evil"))
    found, _heard = facing(pair, says)
    assert moved(found)[::2] == ("absent", "ForeignObject")
    assert set(tmp_path.rglob("evil")) == before
    is_empty(pair)


@pytest.mark.parametrize(
    "says",
    [
        lambda channel: channel.send(go=False),
        lambda channel: channel.send(sent=True),
        lambda channel: sends(channel, size=MIB + 1),
        lambda channel: (sends(channel), sends(channel)),
        lambda channel: (sends(channel, "vm.log"), sends(channel, "vm.log")),
        lambda channel: (sends(channel), channel.send(moved=True)),
        lambda channel: (sends(channel), channel.send(file=["disk.0"], size=1)),
        lambda channel: sends(channel, "console.log", departure.MOST_LOG + 1),
        lambda channel: channel.send_bytes(b"\0" * 100 + b"\n"),
        lambda channel: channel.close(),
        lambda channel: (channel.send(file="disk.0", size=MIB), channel.close()),
    ],
)
def test_files_that_do_not_come_as_they_were_offered_are_refused(pair: Pair, says: Says) -> None:
    def all_of_it(channel: Channel) -> None:
        channel.send(**offer())
        channel.receive(PATIENCE)
        if says.__code__.co_consts and False in says.__code__.co_consts:
            says(channel)
            return
        channel.send(go=True)
        says(channel)

    found, _heard = facing(pair, all_of_it)
    assert found.moved == "absent" and found.error is not None
    is_empty(pair)


@pytest.mark.parametrize("record", [1, "x", {"operated": "x"}, {"unknown": 1}, {"catalog": 5}])
def test_a_record_that_is_none_is_refused(pair: Pair, record: Any) -> None:
    def says(channel: Channel) -> None:
        begins(channel, record=record)
        sends(channel)
        channel.send(sent=True, moved=True)

    found, _heard = facing(pair, says)
    assert found.moved == "absent"
    is_empty(pair)


def test_a_record_makes_it_nobody_elses(pair: Pair) -> None:
    """Of what the source says the node takes over what it has done, and not whose it is, nor what it rests on."""
    strange = {
        "catalog": OTHER,
        "vm_id": 2,
        "uuid": "other",
        "generation": 99,
        "operated": 7,
        "images": ["x"],
        "port": 9,
    }

    def says(channel: Channel) -> None:
        begins(channel, record=strange)
        sends(channel)
        channel.send(sent=True, moved=True)
        channel.receive(PATIENCE)
        channel.send(left=True)

    facing(pair, says)
    found = pair.target.record(1)
    assert (found.catalog, found.vm_id, found.uuid, found.operated) == (CATALOG, 1, "uuid-1", 7)
    assert (found.generation, list(found.images), found.port) == (pair.generation, [], 0)


@pytest.mark.parametrize(
    "last",
    [
        lambda channel: channel.close(),
        lambda channel: channel.send(left=False),
        lambda channel: channel.send(moved=True),
        lambda channel: channel.send_bytes(b"x\n"),
    ],
)
def test_without_the_sources_last_word_nothing_is_started_nor_removed(pair: Pair, last: Says) -> None:
    def says(channel: Channel) -> None:
        begins(channel)
        sends(channel)
        channel.send(sent=True, moved=True)
        assert channel.receive(PATIENCE) == {"kept": True}
        last(channel)

    found, _heard = facing(pair, says)
    assert moved(found)[::2] == ("", "OtherHostFailed")
    assert pair.on() == {} and pair.directories() == [TARGET]
    assert pair.target.ledger() == COMING
    # Only a decided move ends that: here it is, or it is not.
    assert pair.ask(TARGET)[TARGET].moved == ""
    pair.target.clear()
    assert (pair.directories(), pair.target.ledger()) == ([], "")


def test_one_that_stays_in_the_last_moment(pair: Pair) -> None:
    def says(channel: Channel) -> None:
        begins(channel)
        sends(channel)
        channel.send(sent=True, moved=True)
        channel.receive(PATIENCE)
        channel.send(stays=True)

    found, _heard = facing(pair, says)
    assert found.moved == "absent"
    is_empty(pair)


@pytest.mark.parametrize("message", [{"moved": True}, {"left": True}, {"stays": True}, {}])
def test_a_machine_is_not_here_because_somebody_says_so(pair: Pair, message: dict[str, Any]) -> None:
    def says(channel: Channel) -> None:
        begins(channel, way=LIVE)
        channel.send(sent=True)
        assert "definition" in channel.receive(PATIENCE)
        channel.send(**message)

    found, _heard = facing(pair, says, LIVE)
    assert found.moved == "absent"
    is_empty(pair)


def test_a_live_machine_of_which_the_source_says_nothing_more(pair: Pair) -> None:
    """It came as a whole, and then its host was gone: it may be nowhere else."""

    def says(channel: Channel) -> None:
        begins(channel, way=LIVE)
        channel.send(sent=True)
        channel.receive(PATIENCE)
        pair.target.driver.machines[1] = Machine("uuid-1", CATALOG, "UNKNOWN")
        channel.close()

    found, _heard = facing(pair, says, LIVE)
    assert moved(found)[::2] == ("", "OtherHostFailed")
    assert pair.on() == {TARGET: "UNKNOWN"} and pair.target.ledger() == COMING


def test_what_a_source_tried_is_named(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that belongs to no move, on a tunnel of this one."""
    receive = pair.target.driver.receive
    error = ForeignObject("it", "call 10", "look at that host")

    def refusing(*arguments: Any) -> Any:
        made = receive(*arguments)
        made.error = error
        return made

    monkeypatch.setattr(pair.target.driver, "receive", refusing)

    def says(channel: Channel) -> None:
        begins(channel, way=LIVE)
        channel.send(sent=True)
        channel.receive(PATIENCE)
        channel.send(stays=True)

    found, _heard = facing(pair, says, LIVE)
    assert moved(found)[::2] == ("absent", "ForeignObject")
    is_empty(pair)


# -- a directory that both hosts see ----------------------------------------------------------------------------------
@pytest.fixture
def shared(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """Each host has locks of its own, of which one process has one."""
    (tmp_path / "both").mkdir()
    for node in (pair.source, pair.target):
        (node.root / "datastores").mkdir()
        (node.root / "datastores" / "0").symlink_to(tmp_path / "both")
    monkeypatch.setattr(fence, "lock", lambda *_arguments: contextlib.nullcontext())
    return pair


def test_a_container_with_a_root_that_both_hosts_see_does_not_move_while_it_runs(shared: Pair) -> None:
    shared.begin()
    for node in shared.nodes.values():
        node.driver.holds_departing_roots = True
    found = shared.move(LIVE)
    assert moved(found[TARGET])[::2] == ("absent", "Unsupported")
    assert "move: cold" in str(found[TARGET].error) and shared.on() == {SOURCE: "RUNNING"}
    assert shared.content(shared.source) == DATA


@pytest.mark.parametrize("way", WAYS)
def test_files_that_both_hosts_see_stay_where_they_are(shared: Pair, way: str) -> None:
    shared.begin()
    number = (shared.source.directory(1) / "disk.0").stat().st_ino
    found = shared.move(way)
    assert moved(found[SOURCE]) == ("left", "UNKNOWN", "")
    assert moved(found[TARGET]) == ("arrived", "RUNNING", "")
    assert shared.on() == {TARGET: "RUNNING"}
    assert (shared.target.directory(1) / "disk.0").stat().st_ino == number
    assert shared.content(shared.target) == DATA
    assert not list(shared.target.directory(1).glob(".*"))


def written_by_a_machine(shared: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Give the machine a persistent image. Return its files, of which its former host's libvirt took back some."""
    monkeypatch.setattr(machine_disks, "hypervisor_group", lambda: os.getgid() + 1)
    image, other = tmp_path / "image", tmp_path / "readonly"
    for file in (image, other):
        file.write_bytes(b"an image")
    disks = (
        *shared.vm.disks,
        Disk(1, "vdb", source=str(image), clone=False),
        Disk(2, "vdc", source=str(other), clone=False, readonly=True),
        Disk(3, "hda", type="CDROM", source=str(other), clone=False),
    )
    shared.vm = type(shared.vm)(**{**vars(shared.vm), "disks": disks})
    shared.begin()
    files = [shared.target.directory(1) / "disk.0", image, other]
    for file in files:
        file.chmod(0o600)
    return files


def opened(files: list[Path]) -> list[tuple[int, int]]:
    return [(stat.S_IMODE(file.stat().st_mode), file.stat().st_gid - os.getgid()) for file in files]


def test_files_that_both_hosts_see_are_open_to_what_runs_the_machine(
    shared: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = written_by_a_machine(shared, tmp_path, monkeypatch)
    assert moved(shared.move()[TARGET]) == ("arrived", "RUNNING", "")
    assert opened(files) == [(0o660, 1), (0o660, 1), (0o600, 0)]


@pytest.mark.parametrize("stage", [COMING, ARRIVED])
def test_they_are_open_where_a_later_run_brings_it_up(
    shared: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """The run that moved it was killed after it had come, and before it went on."""
    files = written_by_a_machine(shared, tmp_path, monkeypatch)
    shared.target.note(stage, shared=True)
    shared.target.driver.machines[1] = Machine("uuid-1", CATALOG, "UNKNOWN")
    assert told(shared.target.one("RUNNING", 9, shared.vm))[::2] == ("RUNNING", "")
    assert opened(files) == [(0o660, 1), (0o660, 1), (0o600, 0)]


@pytest.mark.parametrize("way", WAYS)
def test_hosts_that_are_to_see_the_same_directory_and_do_not(pair: Pair, way: str) -> None:
    """Nothing is copied into another directory than the catalog takes it for."""
    pair.begin()
    found = pair.move(way, shared=True)
    assert (found[SOURCE].moved, found[TARGET].moved) == ("stayed", "absent")
    assert "does not see its files" in str(found[TARGET].error)
    assert pair.on() == {SOURCE: "RUNNING"}
    is_empty(pair)


@pytest.mark.parametrize("way", WAYS)
def test_they_stay_where_a_move_fails(shared: Pair, way: str) -> None:
    shared.begin()
    shared.target.driver.fails["accept"] = Unsupported("it", "a device", "no")
    shared.source.driver.fails["shutdown"] = HypervisorError("it", "it does not obey")
    found = shared.move(way)
    assert (found[SOURCE].moved, found[TARGET].moved) == ("stayed", "absent")
    assert shared.on() == {SOURCE: "RUNNING"}
    assert shared.content(shared.source) == DATA
    assert json.loads((shared.source.directory(1) / "vm.json").read_text(encoding="utf-8"))["coming"] == ""


@pytest.mark.parametrize("stage", [LEFT, LEAVING, COMING])
def test_they_stay_where_what_is_left_is_cleared(shared: Pair, stage: str) -> None:
    shared.begin()
    del shared.source.driver.machines[1]
    for node in (shared.source, shared.target):
        node.note(stage, shared=True)
        node.clear()
        assert node.ledger() == ""
    assert shared.content(shared.source) == DATA


def test_the_ledger_has_no_more_than_it_needs(pair: Pair) -> None:
    pair.begin()
    pair.move()
    entry = node_moves.read(str(pair.target.root), 1)
    assert entry is not None
    assert (entry.vm_id, entry.uuid, entry.token, entry.catalog) == (1, "uuid-1", token_of(1), CATALOG)
