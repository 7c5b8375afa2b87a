# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of lists of machines share: a list that is decided, and a node that does what it is told."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.module_utils.model.plan import VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile

VM = {"name": "web", "template": "web"}


def decided(engine, *items, hosts=None):
    """The outcomes of a list, what its plans have of machines, and the warnings."""
    with engine.session():
        outcomes, warnings = reconcile(engine, items, hosts)
        plans = engine.vms.plans(hosts)
    return outcomes, [planned for plan in plans.values() for planned in plan.vms], warnings


def want(engine, *items):
    return decided(engine, *items)[:2]


def failed(outcomes):
    return [str(outcome.error) for outcome in outcomes if outcome.error]


def record(engine, planned, state="", error=None):
    """What a node reports that obeys, or of which all come to that state."""
    with engine.session():
        for each in planned:
            outcome = VmOutcome(each.vm.vm_id, each.generation, state or each.wanted, True, error)
            engine.vms.record("node1", [outcome])


def run(engine, item, state="", error=None):
    outcomes, planned = want(engine, item)
    assert failed(outcomes) == []
    record(engine, planned, state, error)
    return planned


def refusal(engine, *items, hosts=None):
    """The error of the item that fails; of machines nothing is changed."""
    before = engine.vms.pool()
    outcomes, planned, _warnings = decided(engine, *items, hosts=hosts)
    assert (planned, engine.vms.pool()) == ([], before)
    (error,) = failed(outcomes)
    return error
