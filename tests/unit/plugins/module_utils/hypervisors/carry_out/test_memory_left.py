# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What others took since a plan was made is not given twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from memory_node import CATALOG, Node, machine, told

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    HypervisorError,
    NoCapacity,
    TimedOut,
)
from ansible_collections.nebula.provision.plugins.module_utils.host import node_file
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import batch
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.memory_left import Room
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Nic
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Plan
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import PlannedVm as Planned
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Growth
from ansible_collections.nebula.provision.plugins.module_utils.network import links


@pytest.mark.parametrize(
    ("foreign", "started"),
    [
        # As when it was decided: the front-end has counted.
        (100, 3),
        (101, 2),
        (320, 0),
    ],
)
def test_what_others_took_since_the_plan_was_made_is_not_given_twice(here: Node, foreign: int, started: int) -> None:
    """Each takes 64 + 10 MiB, and there are 322."""
    here.driver.foreign_memory = foreign
    outcomes = here.apply(
        *(Planned(machine(number), 1, "RUNNING") for number in range(3)), memory=322, foreign_memory=100
    )
    assert sum(each.state == "RUNNING" for each in outcomes) == started
    for each in outcomes:
        if each.error is not None:
            assert each.error["kind"] == "NoCapacity" and "64 MiB + 10 MiB overhead" in each.error["asked"]
            assert "host node1 has " in each.error["found"] and each.state == "PROLOG_FAILURE"


def test_a_machine_that_may_grow_needs_room_for_all_of_that(here: Node) -> None:
    here.driver.foreign_memory = 101
    growing = replace(machine(0), growth=Growth(memory=500))
    (outcome,) = here.apply(Planned(growing, 1, "RUNNING"), memory=322, foreign_memory=100)
    assert outcome.error is not None and "500 MiB + 10 MiB overhead" in outcome.error["asked"]


def test_what_others_held_already_when_it_was_decided_is_not_counted_again(here: Node) -> None:
    here.driver.foreign_memory = 100
    (outcome,) = here.apply(Planned(machine(), 1, "RUNNING"), memory=110, foreign_memory=100)
    assert told(outcome) == ("RUNNING", True, "")


def ending(vm_id: int, generation: int = 2, **orders: Any) -> Planned:
    return Planned(machine(vm_id), generation, "DONE", gives_memory=74, gives_cpu=1.0, previous="RUNNING", **orders)


@pytest.mark.parametrize("workers", [1, 8])
def test_machines_start_in_the_place_of_others_once_these_are_gone(
    here: Node, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(batch, "WAITING", workers)
    first = here.apply(*(Planned(machine(number), 1, "RUNNING") for number in (5, 6)))
    assert [told(outcome) for outcome in first] == [("RUNNING", True, "")] * 2, first
    here.driver.names()
    new = [Planned(machine(number), 1, "RUNNING", previous="PROLOG") for number in range(2)]
    outcomes = here.apply(*new, ending(5), ending(6), lacking_memory=100)
    assert [told(outcome) for outcome in outcomes] == [("RUNNING", True, "")] * 2 + [("DONE", True, "")] * 2
    asked = here.driver.names()
    assert asked.index("define") > max(place for place, name in enumerate(asked) if name == "remove")


def test_a_machine_is_not_begun_where_one_stays_whose_place_it_was_to_have(here: Node) -> None:
    here.one("RUNNING", vm=machine(5))
    here.driver.fails["shutdown"] = TimedOut("the guest", "it did not obey")
    new = [Planned(machine(number), 1, "RUNNING", previous="PROLOG") for number in range(2)]
    outcomes = here.apply(*new, ending(5), lacking_memory=50, lacking_cpu=0.5)
    assert [told(outcome) for outcome in outcomes] == [
        ("RUNNING", True, ""),
        ("PROLOG_FAILURE", False, "NoCapacity"),
        ("RUNNING", False, "TimedOut"),
    ]
    assert outcomes[1].error is not None and "what web-5 (id 5) held of host node1" in outcomes[1].error["found"]
    assert sorted(here.driver.machines) == [0, 5] and not (here.directory(1) / "disk.0").exists()
    # The next plan has both again.
    del here.driver.fails["shutdown"]
    outcomes = here.apply(Planned(machine(1), 2, "RUNNING", previous="PROLOG_FAILURE"), ending(5, 3), lacking_memory=50)
    assert [outcome.state for outcome in outcomes] == ["RUNNING", "DONE"]


def test_a_saved_machine_stays_saved_where_it_has_no_place(here: Node) -> None:
    here.one("RUNNING", vm=machine(5))
    here.one("RUNNING")
    here.one("SUSPENDED", 2)
    here.driver.fails["remove"] = HypervisorError("domain one-5", "it can't be removed")
    for wanted in ("RUNNING", "POWEROFF"):
        resumed = Planned(machine(), 3, wanted, previous="SUSPENDED")
        outcomes = here.apply(resumed, ending(5), lacking_memory=50)
        expected = ("SUSPENDED", False, "NoCapacity") if wanted == "RUNNING" else ("POWEROFF", True, "")
        assert told(outcomes[0]) == expected


def test_what_is_given_back_counts_where_others_took_memory_meanwhile(here: Node) -> None:
    here.one("RUNNING", vm=machine(5, memory=64))
    here.driver.machines[5].memory = 64
    here.driver.foreign_memory = 20
    new = Planned(machine(), 1, "RUNNING", previous="PROLOG")
    outcomes = here.apply(new, ending(5), memory=100, foreign_memory=10, lacking_memory=48)
    assert [outcome.state for outcome in outcomes] == ["RUNNING", "DONE"]


def test_a_newer_plan_has_the_machine_that_waited_for_its_place(here: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    here.one("RUNNING", vm=machine(5))
    remove = here.driver.remove

    def overtaken(mark: Any) -> bool:
        here.number += 1
        node_file.accept(str(here.root), CATALOG, here.number)
        return remove(mark)

    monkeypatch.setattr(here.driver, "remove", overtaken)
    new = Planned(machine(), 1, "RUNNING", previous="PROLOG")
    outcomes = here.apply(new, ending(5), lacking_memory=50)
    assert outcomes[0].error is not None and outcomes[0].error["kind"] == "StalePlan"
    assert outcomes[1].state == "DONE" and here.driver.machines == {}


ANEW: list[dict[str, Any]] = [{"operation": "recreate"}, {"operation": "reboot", "waits": True, "hard": True}]


@pytest.mark.parametrize("order", ANEW)
def test_a_machine_that_is_made_or_started_anew_has_room_where_it_was(here: Node, order: dict[str, Any]) -> None:
    here.one("RUNNING")
    here.driver.machines[0].memory = 64
    here.driver.foreign_memory = 20
    orders: dict[str, Any] = {"memory": 100, "foreign_memory": 10}
    (outcome,) = here.apply(Planned(machine(), 2, "RUNNING", **order), **orders)
    assert told(outcome) == ("RUNNING", True, "")


@pytest.mark.parametrize("order", ANEW)
def test_what_a_machine_holds_until_it_ends_is_given_to_no_other(here: Node, order: dict[str, Any]) -> None:
    here.one("RUNNING")
    here.driver.machines[0].memory = 64
    here.driver.foreign_memory = 20
    old, new = Planned(machine(), 2, "RUNNING", **order), Planned(machine(1, memory=60), 2, "RUNNING")
    both = Plan(CATALOG, 2, "node1", (old, new), memory=130, foreign_memory=10)
    room = Room(both, here.driver, str(here.root), "")
    with pytest.raises(NoCapacity, match="has 36 MiB left of 130"):
        room.take(new.vm)
    # It comes back smaller, and holds all that it has until it has ended.
    assert room.take(replace(old.vm, memory=16))
    with pytest.raises(NoCapacity, match="has 36 MiB left of 130"):
        room.take(new.vm)
    room.give_back(0)
    assert room.take(new.vm)


@pytest.mark.parametrize("order", ANEW)
def test_a_machine_for_which_there_is_no_room_anew_keeps_what_it_has(here: Node, order: dict[str, Any]) -> None:
    here.one("RUNNING")
    here.driver.machines[0].memory = 64
    here.driver.foreign_memory = 80
    here.driver.names()
    (outcome,) = here.apply(Planned(machine(), 2, "RUNNING", **order), memory=100, foreign_memory=10)
    assert told(outcome) == ("RUNNING", False, "NoCapacity")
    assert here.driver.names() == []


def test_a_machine_whose_bridge_is_not_there_keeps_what_it_has(here: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "observe", lambda with_settings: {})
    here.one("RUNNING")
    here.driver.names()
    vm = replace(machine(), nics=(Nic(0, 0, "Public", "nbr0", "02:00:00:00:00:01"),))
    (outcome,) = here.apply(Planned(vm, 2, "RUNNING", operation="recreate"), bridges={"nbr0": "a-network"})
    assert told(outcome) == ("RUNNING", False, "NotFound")
    assert here.driver.names() == []


def test_room_is_not_looked_for_where_the_plan_tells_none(here: Node) -> None:
    here.driver.foreign_memory = 1 << 30
    (outcome,) = here.apply(Planned(machine(), 1, "RUNNING"), memory=0, foreign_memory=1)
    assert outcome.state == "RUNNING"
