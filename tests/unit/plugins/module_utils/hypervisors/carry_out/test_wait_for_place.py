# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who waits for whom in a plan, and who starts if those that were to end stay."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import NoCapacity
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.wait_for_place import PlaceQueue
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Plan
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import PlannedVm as Planned
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm


def planned(vm_id: int, wanted: str = "RUNNING", memory: int = 100, cpu: float = 1.0, **values: Any) -> Planned:
    return Planned(Vm(vm_id, f"uuid-{vm_id}", f"web-{vm_id}", "memory", cpu, memory), 1, wanted, **values)


def ending(vm_id: int, memory: int = 100, cpu: float = 1.0) -> Planned:
    return planned(vm_id, "DONE", memory, cpu, gives_memory=memory, gives_cpu=cpu)


def successors(*machines: Planned, memory: int = 0, cpu: float = 0.0) -> PlaceQueue:
    plan = Plan("catalog", 1, "node1", machines, lacking_memory=memory, lacking_cpu=cpu)
    return PlaceQueue(plan, lambda vm: vm.memory)


def ids(found: PlaceQueue) -> list[int]:
    return [each.vm.vm_id for each in found.in_turn()]


def test_where_nothing_is_lacking_nobody_waits_and_the_order_is_the_plans() -> None:
    new, old = planned(0), ending(1)
    found = successors(new, old)
    assert ids(found) == [0, 1]
    assert not found.wait(new)
    found.done(old, False)
    assert not found.wait(new)


@pytest.mark.parametrize(("memory", "cpu"), [(50, 0.0), (0, 0.5), (150, 2.0)])
def test_what_starts_waits_until_enough_is_given_back(memory: int, cpu: float) -> None:
    new, old, other = planned(0), ending(1), ending(2)
    found = successors(new, old, other, memory=memory, cpu=cpu)
    assert ids(found) == [1, 2, 0], "those that others wait for come first"
    waited: list[bool] = []
    thread = threading.Thread(target=lambda: waited.append(found.wait(new)))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    found.done(old, True)
    if memory == 150:
        thread.join(0.05)
        assert thread.is_alive()
        found.done(other, True)
    thread.join(10)
    assert waited == [True]
    assert found.wait(new), "there is a place by now, and it still was that of others"


def test_each_has_its_turn_once_whatever_is_done_meanwhile() -> None:
    found = successors(planned(0), ending(1), planned(2), ending(3), memory=100)
    turns = []
    for each in found.in_turn():
        turns.append(each.vm.vm_id)
        found.done(each, True)
    assert turns == [1, 3, 0, 2]


def test_who_is_waited_for_waits_for_nobody() -> None:
    smaller = planned(0, gives_memory=50, operation="recreate")
    found = successors(smaller, ending(1), memory=100)
    assert not found.wait(smaller)


def test_of_those_that_start_the_youngest_have_no_place_if_others_stay() -> None:
    old, first, second, third, running = (
        ending(0, 150),
        planned(1),
        planned(2),
        planned(3),
        planned(9, previous="RUNNING"),
    )
    found = successors(old, first, second, third, running, memory=150)
    found.done(old, False)
    assert found.wait(first) and found.wait(running)
    for each in (second, third):
        with pytest.raises(NoCapacity) as caught:
            found.wait(each)
        assert str(caught.value) == (
            f"virtual machine {each.vm.name}: 100 MiB of memory and 1 CPU: it was to have what web-0 (id 0) held of "
            "host node1, and that was not given back. Nothing of this machine was begun. See why that did not end or "
            "change, then run again"
        )


def test_processors_that_are_not_given_back_keep_others_from_starting_too() -> None:
    old, kept, new = ending(0), ending(1), planned(2, operation="recreate", previous="RUNNING")
    found = successors(old, kept, new, cpu=1.5)
    found.done(old, True)
    found.done(kept, False)
    with pytest.raises(NoCapacity, match=r"what web-1 \(id 1\) held of host node1"):
        found.wait(new)


def test_one_that_nobody_waits_for_may_end_as_it_likes() -> None:
    new, old = planned(0), ending(1)
    found = successors(new, old, memory=100)
    found.done(new, False)
    found.done(old, True)
    found.done(old, False)
    assert found.wait(new)
