# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which machines are started anew in which round."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.decided_list import vm_items
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.restarts import Batch, Restarts, batch_of
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.reconcile.vms.conftest import run

ERROR = {"kind": "TimedOut", "asked": "VM web-0", "found": "it did not obey", "remedy": ""}
WEB = {"name": "web-%i", "count": 3, "template": "web"}


@pytest.mark.parametrize("text", ["0", "150%", "0%", "-1", "", "many", "1.5", "5 %"])
def test_a_batch_that_is_none_is_refused(text):
    with pytest.raises(InvalidValue, match="restart_batch"):
        batch_of(text)


@pytest.mark.parametrize(("text", "machines", "size"), [("2", 9, 2), ("25%", 9, 2), ("1%", 9, 1), ("100%", 9, 9)])
def test_a_batch_is_a_number_or_a_share_of_the_list(text, machines, size):
    assert batch_of(text).of(machines) == size


@pytest.fixture
def waiting(engine):
    """Three machines that run, and wait for more memory."""
    run(engine, WEB)
    run(engine, dict(WEB, memory=64))
    return engine


def rounds(engine, item, batch, hosts=None):
    with engine.session():
        outcomes, _warnings = reconcile(engine, [item])
        return Restarts(batch_of(batch)).rounds(engine, [item], outcomes, hosts)


def begin(engine, *items, batch="1", hosts=None, errors=()):
    """Names of the machines that one round starts anew, on a node that obeys but for those."""
    with engine.session():
        outcomes, _warnings = Restarts(batch_of(batch)).begin(engine, items, hosts)
        planned = [each for plan in engine.vms.plans().values() for each in plan.vms]
        assert {(each.operation, each.wanted, each.waits) for each in planned} <= {("reboot", "RUNNING", True)}
        for each in planned:
            bad = each.vm.name in errors
            done = VmOutcome(each.vm.vm_id, each.generation, "RUNNING", True, ERROR if bad else None, waits=bad)
            engine.vms.record("node1", [done])
    return [outcome.name for outcome in outcomes]


def test_nobody_is_started_anew_whose_item_does_not_say_so(waiting):
    for word in ({}, {"restart": "never"}, {"restart": "all", "state": "poweroff"}):
        assert begin(waiting, dict(WEB, memory=64, **word)) == []
    assert rounds(waiting, dict(WEB, memory=64), "1") == 0


def test_a_round_takes_a_batch_in_the_order_of_the_list(waiting):
    item = dict(WEB, memory=64, restart="rolling")
    assert [rounds(waiting, item, batch) for batch in ("1", "2", "50%", "100%")] == [3, 2, 3, 1]
    assert begin(waiting, item, batch="2") == ["web-0", "web-1"]
    assert rounds(waiting, item, "2") == 1
    assert begin(waiting, item, batch="2") == ["web-2"]
    assert rounds(waiting, item, "2") == 0 and begin(waiting, item, batch="2") == []


def test_a_round_says_what_comes_with_it(waiting):
    with waiting.session():
        (outcome,), _warnings = Restarts(batch_of("1")).begin(waiting, [dict(WEB, memory=64, restart="rolling")], None)
    assert [(each.part, each.wanted, each.when) for each in outcome.parts] == [("MEMORY", "64", "restarted now")]


@pytest.mark.parametrize("batch", ["1", "50%", "100%"])
def test_there_are_as_many_rounds_as_batches(waiting, batch):
    """A share is of the machines that the list has, not of those that end with it."""
    item = dict(WEB, count=2, memory=64, restart="rolling")
    planned = rounds(waiting, item, batch)
    run(waiting, item)
    started = [begin(waiting, item, batch=batch) for _round in range(planned)]
    assert all(started) and sum(map(len, started)) == 2 and rounds(waiting, item, batch) == 0
    assert rounds(waiting, dict(item, memory=80), "1", hosts=["node2"]) == 0


@pytest.mark.parametrize(
    ("item", "check_mode", "told"),
    [
        ({"restart": "rolling"}, True, True),
        ({"restart": "all"}, True, True),
        ({}, True, False),
        # The rounds tell it themselves.
        ({"restart": "rolling"}, False, False),
        ({"state": "rebooted"}, False, True),
        ({"state": "rebooted"}, True, True),
        ({"restart": "rolling", "state": "poweroff"}, True, False),
    ],
)
def test_what_comes_with_a_start_that_this_run_makes_is_foretold(waiting, item, check_mode, told):
    with waiting.session():
        outcomes, _warnings = reconcile(waiting, [dict(WEB, memory=64, **item)])
    Restarts(Batch(1)).foretell(outcomes, ["node2"], check_mode)
    assert not any(outcome.parts for outcome in outcomes)
    Restarts(Batch(1)).foretell(outcomes, None, check_mode)
    parts = [[(each.part, each.found, each.wanted, each.when) for each in outcome.parts] for outcome in outcomes]
    assert parts == [[("MEMORY", "128", "64", "restarted now")] if told else []] * 3
    assert not told or all(item.is_changed for item in vm_items(outcomes))


def test_all_at_once_are_all_at_once(waiting):
    item = dict(WEB, memory=64, restart="all")
    assert rounds(waiting, item, "1") == 1 and begin(waiting, item) == ["web-0", "web-1", "web-2"]


def test_machines_of_other_hosts_and_those_with_an_error_are_left_alone(waiting):
    item = dict(WEB, memory=64, restart="rolling")
    assert begin(waiting, item, hosts=["node2"]) == []
    assert begin(waiting, item, errors=("web-0",)) == ["web-0"]
    assert begin(waiting, item, batch="3") == ["web-1", "web-2"]
    assert Batch(1).of(3) == 1
