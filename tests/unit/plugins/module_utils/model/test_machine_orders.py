# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The orders of a machine: how they are kept as text, which of them are in force, and which follow what event."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.schema import MIGRATIONS
from ansible_collections.nebula.provision.plugins.module_utils.errors import CatalogError
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_orders import (
    EMPTY,
    NONE,
    OPERATIONS,
    REBOOT,
    RECREATE,
    RESET,
    Decision,
    HeldResources,
    LastingOrders,
    Orders,
    after_adoption,
    after_decision,
    after_outcome,
    after_restore,
    is_done,
    lost_tasks,
    orders_in_force,
    read,
    with_devices,
    write,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import (
    ADOPT,
    CREATE,
    DELETE,
    REVERT,
    SAVE_AS,
    DiskTask,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.states import LcmState, VmState

SAVE = DiskTask(SAVE_AS, "5.0", 0, image_id=3, image="copy", target="/ds/copy", format="qcow2")
SNAPSHOT = DiskTask(CREATE, "5.1", 1, snapshot_id=1, name="s", mark="ab")
LEFT = LastingOrders((1, 4), (0,), True)
STATES = [*VmState.__members__, *LcmState.__members__]
IDS = st.lists(st.integers(0, 99), max_size=4).map(tuple)
ORDERS = st.builds(
    Orders,
    operation=st.sampled_from(OPERATIONS),
    hard=st.booleans(),
    shutdown_timeout=st.integers(0, 9999),
    previous=st.sampled_from(["", *STATES]),
    found=st.sampled_from(["", *STATES]),
    decided=st.integers(0, 1 << 40),
    tasks=st.lists(
        st.builds(DiskTask, st.sampled_from([SAVE_AS, CREATE, REVERT, DELETE]), st.text("0.1", max_size=4), st.just(0)),
        max_size=3,
    ).map(tuple),
    detached=IDS,
    detached_nics=IDS,
    grown=IDS,
    refitted=st.booleans(),
    gives=st.builds(HeldResources, st.integers(0, 9999), st.integers(0, 64).map(lambda number: number / 4)),
)


def kept(lasting=LEFT, **values):
    return Orders(detached=lasting.detached, grown=lasting.grown, refitted=lasting.refitted, **values)


def decided(before=NONE, wanted="RUNNING", generation=4, **values):
    return after_decision(before, generation, Decision(wanted, "POWEROFF", "POWEROFF", **values))


# -- as the catalog keeps them -----------------------------------------------------------------------------------------


@given(ORDERS)
def test_what_is_written_is_read(orders):
    assert read(write(orders)) == orders


@given(ORDERS)
def test_equal_orders_are_equal_texts(orders):
    text = write(orders)
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert (text == EMPTY) is (orders == NONE)


def test_the_table_gives_a_new_machine_the_text_of_no_orders():
    assert f"orders TEXT NOT NULL DEFAULT '{EMPTY}'" in " ".join(MIGRATIONS)


def test_what_is_as_by_default_is_left_out():
    assert write(Orders(hard=True, detached=(1,))) == '{"detached":[1],"hard":true}'


@pytest.mark.parametrize(
    ("text", "orders"),
    [
        # As the releases before wrote a decision: with the defaults.
        (
            '{"hard":false,"shutdown_timeout":120,"operation":"","previous":"PROLOG","found":"RUNNING"}',
            Orders(previous="PROLOG", found="RUNNING"),
        ),
        (
            '{"hard":true,"shutdown_timeout":9,"operation":"recreate","previous":"PROLOG_FAILURE","decided":7}',
            Orders(RECREATE, True, 9, "PROLOG_FAILURE", decided=7),
        ),
        ('{"gives":{"memory":64,"cpu":0.5}}', Orders(gives=HeldResources(64, 0.5))),
        ('{"gives":{"memory":64,"cpu":1}}', Orders(gives=HeldResources(64, 1.0))),
        ('{"operation":"adopt","found":"SUSPENDED"}', Orders(ADOPT, found="SUSPENDED")),
        ('{"refitted": true}', Orders(refitted=True)),
        ('{"detached":[1],"grown":[0]}', Orders(detached=(1,), grown=(0,))),
        # Before disks and NICs of machines that are off came and went.
        ('{"detached":{"disks":[1],"nics":[0]}}', Orders(detached=(1,), detached_nics=(0,))),
        ('{"detached":{"nics":[0]}}', Orders(detached_nics=(0,))),
        ('{"detached":{}}', NONE),
        (
            '{"tasks":[{"kind":"snapshot-create","token":"5.1","disk_id":1,"snapshot_id":1,"name":"s","mark":"ab"}]}',
            Orders(tasks=(SNAPSHOT,)),
        ),
        # A number of a newer OpenNebula's state.
        ('{"previous":"99"}', Orders(previous="99")),
    ],
)
def test_what_former_releases_wrote_is_read(text, orders):
    assert read(text) == orders


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Expecting value"),
        ("{", "Expecting"),
        ("[]", "a list, not a dict"),
        ("null", "not a dict"),
        ("7", "not a dict"),
        ("[" * 100_000, "nested too deeply"),
        ('{"gives":{"cpu":NaN}}', "no number"),
        ('{"grown":[' + "9" * 5000 + "]}", "too large"),
        ('{"found":"\\ud800"}', "surrogate"),
        ('{"operation":"explode"}', "operation 'explode' is not known"),
        ('{"operation":7}', "operation"),
        ('{"hard":1}', "hard"),
        ('{"shutdown_timeout":"120"}', "shutdown_timeout"),
        ('{"shutdown_timeout":-1}', "below 0"),
        ('{"decided":-1}', "below 0"),
        ('{"decided":true}', "decided"),
        ('{"gives":{"memory":-1}}', "below 0"),
        ('{"gives":{"disk":1}}', "'disk'"),
        ('{"found":"ASLEEP"}', "found: state 'ASLEEP'"),
        ('{"previous":"running"}', "previous: state 'running'"),
        ('{"detached":1}', "detached"),
        ('{"detached":["1"]}', "detached"),
        ('{"detached":[-1]}', "below 0"),
        ('{"detached":{"disks":[0],"files":[]}}', "detached: 'files'"),
        ('{"detached":{"nics":0}}', "detached_nics"),
        ('{"grown":[null]}', "grown"),
        ('{"refitted":"yes"}', "refitted"),
        ('{"tasks":[{"kind":"format","token":"1","disk_id":0}]}', "tasks: 'format'"),
        ('{"tasks":[{"kind":"saveas","disk_id":0}]}', "token: missing"),
        ('{"tasks":[{"kind":"saveas","token":"1","disk_id":-1}]}', "below 0"),
        ('{"newer":1}', "'newer'"),
    ],
)
def test_a_text_that_no_release_wrote_is_refused(text, why):
    with pytest.raises(CatalogError) as error:
        read(text)
    assert why in error.value.found
    assert "backup" in error.value.remedy


# -- which are in force ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settled", [False, True])
def test_what_is_decided_and_not_done_is_known(settled):
    """Also after something else of the machine was recorded."""
    assert orders_in_force(write(kept(hard=True)), settled).lasting == LEFT
    assert orders_in_force(EMPTY, settled) == NONE


@given(ORDERS)
def test_of_a_settled_machine_only_what_lasts_is_in_force(orders):
    assert orders_in_force(write(orders), False) == orders
    there = orders_in_force(write(orders), True)
    assert (there.lasting, there.detached_nics, there.recreates) == (
        orders.lasting,
        orders.detached_nics,
        orders.recreates,
    )
    assert (there.found, there.previous, there.tasks, there.gives) == ("", "", (), HeldResources())
    assert there.operation in ("", RECREATE)


@pytest.mark.parametrize(
    ("settled", "orders", "awaits"),
    [
        (True, Orders(refitted=True), True),
        (True, NONE, False),
        (False, Orders(refitted=True, found="RUNNING"), True),
        # Its start is decided, or that it stays off.
        (False, Orders(refitted=True, found="POWEROFF"), False),
        (False, Orders(found="RUNNING"), False),
    ],
)
def test_a_machine_may_run_with_others_than_it_is_to_have(settled, orders, awaits):
    assert orders_in_force(write(orders), settled).awaits(settled) is awaits


# -- which follow what event: a decision -------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["", REBOOT, RESET])
def test_a_decision_replaces_what_was_under_way(operation):
    before = Orders(RESET, True, 9, "BOOT", "RUNNING", 3)
    assert decided(before, operation=operation, shutdown_timeout=7) == Orders(
        operation, False, 7, "POWEROFF", "POWEROFF"
    )


@pytest.mark.parametrize("wanted", ["RUNNING", "POWEROFF", "SUSPENDED", "DONE"])
def test_what_lasts_is_taken_along_by_every_decision(wanted):
    assert decided(kept(), wanted).lasting == LEFT


def test_other_devices_replace_what_was_decided_about_these():
    assert decided(kept(), lasting=LastingOrders((1,))).lasting == LastingOrders((1,))


@pytest.mark.parametrize(("before", "number"), [(0, 4), (3, 3)])
@pytest.mark.parametrize("operation", ["", REBOOT, RESET])
def test_a_machine_that_is_to_be_made_anew_stays_so_by_the_number_of_that_decision(before, number, operation):
    after = decided(Orders(RECREATE, True, decided=before), operation=operation)
    assert (after.operation, after.hard, after.decided) == (RECREATE, True, number)


@pytest.mark.parametrize("hard", [True, False])
def test_a_machine_that_is_to_be_made_anew_and_ends_is_ended_as_asked(hard):
    after = decided(Orders(RECREATE, True), "DONE", hard=hard)
    assert (after.operation, after.hard, after.decided) == (RECREATE, hard, 4)


def test_a_recreation_leaves_nothing_of_what_was_before():
    before = kept(operation=RECREATE, decided=2, tasks=(SAVE, SNAPSHOT))
    after = decided(before, operation=RECREATE, hard=True)
    assert after == Orders(RECREATE, True, previous="POWEROFF", found="POWEROFF")
    assert lost_tasks(before, after) == (SAVE, SNAPSHOT)


def test_a_task_comes_to_those_that_are_not_done():
    before = Orders(tasks=(SAVE,))
    after = decided(before, task=SNAPSHOT)
    assert (after.tasks, lost_tasks(before, after)) == ((SAVE, SNAPSHOT), ())


def test_a_task_leaves_a_recreation_as_it_was_decided():
    before = Orders(RECREATE, True, decided=2, tasks=(SAVE,))
    after = decided(before, operation=RECREATE, hard=True, task=SNAPSHOT)
    assert (after.operation, after.decided, after.tasks) == (RECREATE, 2, (SAVE, SNAPSHOT))


def test_the_tasks_of_a_machine_that_is_to_end_are_lost():
    before = Orders(tasks=(SAVE, SNAPSHOT))
    after = decided(before, "DONE")
    assert (after.tasks, lost_tasks(before, after)) == ((), (SAVE, SNAPSHOT))


def test_the_tasks_of_a_disk_that_goes_are_lost():
    before = Orders(tasks=(SAVE, SNAPSHOT))
    after = decided(before, lasting=LastingOrders((1,)))
    assert (after.tasks, lost_tasks(before, after)) == ((SAVE,), (SNAPSHOT,))


def test_what_a_machine_gives_back_is_added_up_until_it_is_done():
    after = decided(Orders(gives=HeldResources(64, 0.5)), gives=HeldResources(16, 1.0))
    assert after.gives == HeldResources(80, 1.5)


def test_leases_that_a_former_release_left_are_of_no_later_decision():
    assert decided(Orders(detached_nics=(0,))).detached_nics == ()


@given(ORDERS, st.sampled_from(["RUNNING", "DONE"]), st.sampled_from(["", REBOOT, RECREATE]), st.integers(1, 99))
def test_what_follows_a_decision_can_be_kept(before, wanted, operation, generation):
    after = decided(before, wanted, generation, operation=operation)
    assert read(write(after)) == after
    assert set(after.tasks) | set(lost_tasks(before, after)) == set(before.tasks)


# -- … a report, a restored catalog, an adoption -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failed", "fitted", "done"),
    [
        (False, None, True),
        (False, True, True),
        (False, False, False),
        (True, None, False),
        (True, False, False),
        (True, True, True),
    ],
)
def test_whether_a_machine_has_the_devices_that_it_is_to_have(failed, fitted, done):
    assert is_done(kept(), failed, fitted) is done
    # After a recreation that failed, the domain may be the old one.
    assert is_done(Orders(RECREATE), failed, fitted) is (done and not failed)


@pytest.mark.parametrize("failed", [False, True])
def test_what_is_done_is_owed_no_more(failed):
    before = kept(operation=REBOOT, hard=True, found="RUNNING", tasks=(SAVE,), gives=HeldResources(64))
    assert after_outcome(before, 4, failed, done=True) == NONE
    assert after_outcome(before, 4, failed, done=False) == kept()


@pytest.mark.parametrize(("before", "number"), [(0, 4), (3, 3)])
def test_a_recreation_that_failed_is_still_owed(before, number):
    orders = kept(operation=RECREATE, hard=False, decided=before)
    assert after_outcome(orders, 4, failed=True, done=False) == kept(operation=RECREATE, hard=True, decided=number)
    assert after_outcome(orders, 4, failed=False, done=True) == NONE


def test_a_restored_catalog_keeps_what_lasts():
    assert after_restore(kept(operation=REBOOT, found="RUNNING", tasks=(SAVE,))) == kept()
    assert after_restore(Orders(REBOOT)) == NONE


def test_a_restored_catalog_makes_no_machine_anew():
    assert after_restore(Orders(RECREATE, True, decided=2, detached=(1,))) == Orders(detached=(1,), refitted=True)


def test_an_adopted_machine_is_to_be_compared_once():
    assert after_adoption("RUNNING", compared=True) == NONE
    assert after_adoption("RUNNING", compared=False) == Orders(ADOPT, found="RUNNING")


# -- other devices -----------------------------------------------------------------------------------------------------


def test_what_goes_and_grows_now_does_so_besides_what_is_to_already():
    # Which is gone need not grow.
    assert with_devices(LastingOrders((1,), (0, 2)), (2,), (), True) == LastingOrders((1, 2), (0,), True, True)
    assert with_devices(LastingOrders(), (), {4: 9, 3: 1}, False) == LastingOrders((), (3, 4), False)
    assert with_devices(LastingOrders(refitted=True), (), (), False) == LastingOrders(refitted=True)


def test_where_nothing_goes_or_grows_nothing_is_noted():
    assert with_devices(LastingOrders(), (), (), False) == LastingOrders()
