# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the front-end decided for a node and what the node answers, as they travel; and when an operation is due."""

from __future__ import annotations

import pytest
from carried import carried, unset

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.audit import Inventory
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import from_plain, to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.move import (
    HAS_STAYED,
    LEFT,
    LIVE,
    SOURCE,
    Leftover,
    MoveSeen,
    PlannedMove,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.nic_filter_rules import Guard, GuardRule
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import (
    AGENT,
    CREATE,
    FORMAT,
    SAVE_AS,
    Comparison,
    DiskTask,
    GivenUp,
    Observed,
    ObservedVm,
    Plan,
    PlannedDatastore,
    PlannedEntry,
    PlannedSource,
    PlannedVm,
    TaskOutcome,
    VmOutcome,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.transfer import BASE, SSH, PlannedImage
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm

VM = Vm(0, "u", "web", "kvm", 1.0, 64)
ERROR = {"kind": "NotFound", "asked": "a", "found": "b", "remedy": "c"}
TASK = DiskTask(SAVE_AS, "t1", 0, AGENT, 0, "copy", "/srv/copy", "qcow2", 1, "first", "ab", True)
MOVE = PlannedMove("f" * 32, SOURCE, LIVE, "node2", True, "10.0.0.2", 4711, "PEM", 60, 5)
PLANNED = PlannedVm(
    VM,
    7,
    "RUNNING",
    "reboot",
    True,
    30,
    2,
    "POWEROFF",
    (TASK, DiskTask(CREATE, "t2", 1)),
    5,
    (3, 4),
    64,
    0.5,
    (1,),
    True,
    True,
    True,
    MOVE,
)
GIVEN_UP = GivenUp(2, "v", "old", "node1", "RUNNING", ("10.66.0.10",), ("web",))
SOURCE = PlannedSource((PlannedEntry("", directory=True), PlannedEntry("a", "ab", 5, True, True)), ERROR)
PLAN = Plan(
    catalog="c",
    number=9,
    host="node1",
    vms=(PLANNED,),
    format=FORMAT + 1,
    memory=4096,
    foreign_memory=512,
    sources={"/srv/a": SOURCE},
    contents={"ab": "hunter2"},
    transfer=SSH,
    images=(PlannedImage(BASE, "n", "debian", "/srv/d", "ab"),),
    current=("n",),
    taken=("own-n",),
    lacking_memory=64,
    lacking_cpu=0.5,
    given_up=(GIVEN_UP,),
    bridges={"nbr0": "u"},
    switches={"4": "u"},
    guards=(
        Guard(
            3,
            1,
            "one-3-1",
            "02:00:0a:42:00:0a",
            ("10.66.0.10",),
            True,
            True,
            (GuardRule("inbound", "ICMP", ((1, 2),), ("10.0.0.0/8",), 8),),
            (GuardRule("inbound", "ALL"),),
        ),
    ),
    machines=(3,),
    guarded_at=1.5,
    guards_since=8.5,
    proof="ab",
    leftovers=(Leftover(4, "w", "e" * 32),),
    moving=("f" * 32,),
    certificate="PEM",
    datastore=PlannedDatastore("nfs", "mark"),
    key="hunter2",
)
OUTCOME = VmOutcome(
    0,
    7,
    "BOOT_FAILURE",
    True,
    ERROR,
    ("a", "b"),
    (TaskOutcome("t1", 64, "raw", ERROR),),
    False,
    True,
    ("NIC 1",),
    True,
    ("n",),
    HAS_STAYED,
)
OBSERVED = Observed(
    host="node1",
    hypervisor="xen",
    reached=False,
    catalog="c",
    plan_number=9,
    plan_proof="ab",
    done_number=8,
    memory=4096,
    cpu=4.0,
    foreign_memory=512,
    foreign_ids=(3,),
    ports=(5900,),
    vms=(ObservedVm(0, "u", "POWEROFF", 7, 1.5, 64, "guest", True, True),),
    as_of=1700000000,
    facts={"kernel": "6.1", "deep": {"list": [1, None]}},
    inventory=Inventory(place="/srv"),
    contents=("ab",),
    images=("n",),
    returns={"own-n": 5},
    lengths={"own-n": 6},
    room=100,
    networks=("u",),
    compared=(Comparison(0, "u", 1, ("its memory is another",)),),
    mark="m",
    disk_room=64,
    moves=(MoveSeen(4, "f" * 32, LEFT),),
    has_ovn=True,
    datastore="mark",
)


@pytest.mark.parametrize(
    "value",
    [PLAN, PLANNED, GIVEN_UP, TASK, SOURCE, OUTCOME, OUTCOME.tasks[0], OBSERVED, OBSERVED.vms[0], PLAN.images[0]],
    ids=lambda value: type(value).__name__,
)
def test_what_travels_between_front_end_and_node_arrives_with_all_it_has(value: object) -> None:
    assert unset(value) == set()
    assert carried(value) == value


@pytest.mark.parametrize(
    "value", [Plan("c", 1, "node"), Observed("node"), PlannedVm(VM, 1, "DONE"), VmOutcome(1, 1, "DONE")]
)
def test_what_says_nothing_arrives_as_that(value: object) -> None:
    assert carried(value) == value


def test_a_plan_of_another_version_with_more_in_it_is_refused() -> None:
    with pytest.raises(InvalidValue, match="PlannedVm: key 'priority': not known to this version"):
        from_plain(Plan, {**to_plain(PLAN), "vms": [{**to_plain(PLANNED), "priority": 1}]})


def test_the_contents_of_files_are_not_shown_with_a_plan() -> None:
    assert "hunter2" not in repr(PLAN)
    assert "node1" in repr(PLAN)


# --- when an operation is due ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "generation", "decided", "operated", "due"),
    [
        ("", 7, 0, 0, False),
        ("reboot", 7, 0, 0, True),
        ("reboot", 7, 0, 6, True),
        ("reboot", 7, 0, 7, False),
        # A later decision took it along: it is the one of generation 5 still.
        ("reboot", 7, 5, 0, True),
        ("reboot", 7, 5, 4, True),
        ("reboot", 7, 5, 5, False),
        ("recreate", 1, 0, 0, True),
    ],
)
def test_an_operation_is_carried_out_once(
    operation: str, generation: int, decided: int, operated: int, due: bool
) -> None:
    assert PlannedVm(VM, generation, "RUNNING", operation, decided=decided).is_due(operated) is due


@pytest.mark.parametrize("decided", [0, 3])
def test_an_operation_that_was_carried_out_is_due_no_more(decided: int) -> None:
    planned = PlannedVm(VM, 7, "RUNNING", "reset", decided=decided)
    assert planned.is_due(0)
    assert not planned.is_due(planned.operated)
