# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine moves between two nodes, live with copied disks and cold. test_fleet.py has more of it."""

from __future__ import annotations

import pytest
from in_world import in_nodes

from ansible_collections.nebula.provision.plugins.module_utils.model.move import COLD, HAS_ARRIVED, HAS_LEFT
from ansible_collections.nebula.provision.tests.integration.fleet import a_fleet, outcomes_of
from ansible_collections.nebula.provision.tests.integration.kvm_node import BOOTED, wait_for


@pytest.mark.timeout(300)
@in_nodes(2)
def test_a_running_machine_moves() -> None:
    with a_fleet() as fleet:
        vm = fleet.vm(1)
        assert fleet.bring("node1", vm)[0].error is None
        fleet.wait_for_boot("node1", vm)
        plans = fleet.moves("node1", "node2", vm)
        acting = fleet.act(plans)
        left, came = (outcomes_of(acting[name].result())[0] for name in ("node1", "node2"))
        assert (left.error, left.moved) == (None, HAS_LEFT)
        assert (came.error, came.moved, came.state) == (None, HAS_ARRIVED, "RUNNING")
        assert fleet.states("node1") == {}
        assert fleet.states("node2") == {1: "RUNNING"}
        assert not fleet.directory("node1", vm).exists()
        # It goes on: what it says now is not what it says when it boots.
        before = len(fleet.console("node2", vm))
        wait_for(lambda: len(fleet.console("node2", vm)) > before, "the machine to go on")
        assert fleet.console("node2", vm).count(BOOTED) == 1
        assert not fleet.bring("node2", vm)[0].changed


@pytest.mark.timeout(300)
@in_nodes(2)
def test_a_machine_moves_cold() -> None:
    with a_fleet() as fleet:
        vm = fleet.vm(1)
        fleet.bring("node1", vm)
        fleet.wait_for_boot("node1", vm)
        plans = fleet.moves("node1", "node2", vm, way=COLD, hard=True)
        acting = fleet.act(plans)
        left, came = (outcomes_of(acting[name].result())[0] for name in ("node1", "node2"))
        assert (left.error, left.moved) == (None, HAS_LEFT)
        assert (came.error, came.moved, came.state) == (None, HAS_ARRIVED, "RUNNING")
        assert fleet.states("node1") == {}
        fleet.wait_for_boot("node2", vm, 2)
        assert not fleet.bring("node2", vm)[0].changed
