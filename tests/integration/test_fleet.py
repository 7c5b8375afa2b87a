# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that move between two nodes as a site has them: off, several at once and back, and on a datastore that both
nodes see. test_moves.py is what this begins with."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from in_world import in_nodes

from ansible_collections.nebula.provision.plugins.module_utils.model.move import (
    COLD,
    HAS_ARRIVED,
    HAS_LEFT,
    HAS_STAYED,
    LIVE,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Plan, PlannedDatastore
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.tests.integration.fleet import ROOT, a_fleet, outcomes_of, share
from ansible_collections.nebula.provision.tests.integration.kvm_node import BOOTED, wait_for


@pytest.mark.timeout(300)
@in_nodes(2)
def test_a_machine_that_is_off_moves_and_stays_off() -> None:
    with a_fleet() as fleet:
        vm = fleet.vm(1)
        assert fleet.bring("node1", vm, wanted="POWEROFF")[0].error is None
        acting = fleet.act(fleet.moves("node1", "node2", vm, way=COLD, wanted="POWEROFF"))
        left, came = (outcomes_of(acting[name].result())[0] for name in ("node1", "node2"))
        assert (left.error, left.moved) == (None, HAS_LEFT)
        assert (came.error, came.moved, came.state) == (None, HAS_ARRIVED, "POWEROFF")
        assert (fleet.states("node1"), fleet.states("node2")) == ({}, {1: "POWEROFF"})
        assert not fleet.directory("node1", vm).exists()
        assert fleet.console("node2", vm) == b""
        assert fleet.bring("node2", vm)[0].error is None
        fleet.wait_for_boot("node2", vm)


@pytest.mark.timeout(300)
@in_nodes(2)
def test_several_machines_move_by_one_plan_and_one_returns() -> None:
    with a_fleet() as fleet:
        vms = [fleet.vm(number) for number in (1, 2, 3)]
        assert [each.error for each in fleet.bring("node1", *vms)] == [None] * 3
        for vm in vms:
            fleet.wait_for_boot("node1", vm)
        acting = fleet.act(fleet.moves("node1", "node2", *vms))
        for name, moved in (("node1", HAS_LEFT), ("node2", HAS_ARRIVED)):
            outcomes = outcomes_of(acting[name].result())
            assert [(each.vm_id, each.error, each.moved) for each in outcomes] == [(n, None, moved) for n in (1, 2, 3)]
        assert (fleet.states("node1"), fleet.states("node2")) == ({}, dict.fromkeys((1, 2, 3), "RUNNING"))
        acting = fleet.act(fleet.moves("node2", "node1", vms[1]))
        assert [outcomes_of(acting[name].result())[0].error for name in ("node2", "node1")] == [None] * 2
        assert (fleet.states("node1"), sorted(fleet.states("node2"))) == ({2: "RUNNING"}, [1, 3])
        # All of them run on.
        for host, vm in (("node2", vms[0]), ("node1", vms[1]), ("node2", vms[2])):
            assert fleet.console(host, vm).count(BOOTED) == 1


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", [LIVE, COLD])
@in_nodes(2)
def test_a_machine_moves_on_a_shared_datastore(way: str) -> None:
    """Its files are not copied, nor removed where it was."""
    with a_fleet() as fleet:
        place = Path(os.environ["NEBULA_WORLD"], f"shared-{way}")
        place.mkdir(mode=0o711)
        place.chmod(0o711)
        share(place, fleet.hosts.values(), f"{ROOT}/datastores/0")
        vm = fleet.vm(1)
        assert fleet.bring("node1", vm)[0].error is None
        wait_for(lambda: BOOTED in (place / "1" / "console.log").read_bytes(), "it to boot")
        number = (place / "1" / "disk.0").stat().st_ino
        acting = fleet.act(fleet.moves("node1", "node2", vm, way=way, hard=way == COLD))
        left, came = (outcomes_of(acting[name].result())[0] for name in ("node1", "node2"))
        assert (left.error, left.moved) == (None, HAS_LEFT)
        assert (came.error, came.moved, came.state) == (None, HAS_ARRIVED, "RUNNING")
        assert fleet.states("node1") == {}
        assert fleet.states("node2") == {1: "RUNNING"}
        assert (place / "1" / "disk.0").stat().st_ino == number
        before = (place / "1" / "console.log").stat().st_size
        wait_for(lambda: (place / "1" / "console.log").stat().st_size > before, "it to go on")
        assert (place / "1" / "console.log").read_bytes().count(BOOTED) == (1 if way == LIVE else 2)
        assert not list((place / "1").glob(".*"))
        assert not fleet.bring("node2", vm)[0].changed


@pytest.mark.timeout(300)
@in_nodes(2)
def test_a_shared_datastore_is_known_by_its_mark() -> None:
    """The host that has it mounted marks it, and the other one sees that; one that has not refuses its plan."""
    with a_fleet() as fleet:
        place = Path(os.environ["NEBULA_WORLD"], "shared-marked")
        place.mkdir(mode=0o711)
        place.chmod(0o711)
        share(place, [fleet.hosts["node1"]], f"{ROOT}/datastores/0")
        fleet.hosts["node2"].run("mkdir", "-p", "-m", "711", f"{ROOT}/datastores/0")
        assert [fleet.mark(name) for name in ("node2", "node1", "node1")] == [False, True, False]
        seen = fleet.poll("node1")["datastore"]
        assert seen.startswith(f"{fleet.catalog}.")
        assert fleet.poll("node2")["datastore"] == ""

        def plans(vm: Vm, **orders: Any) -> dict[str, Plan]:
            found = fleet.moves("node1", "node2", vm, **orders)
            return {name: replace(each, datastore=PlannedDatastore("nfs", seen)) for name, each in found.items()}

        vm = fleet.vm(1)
        assert fleet.bring("node1", vm)[0].error is None
        refused = fleet.act(plans(vm))
        answer = refused["node2"].result()
        assert answer is not None and answer["error"]["asked"] == "host node2: shared datastore nfs"
        stayed = outcomes_of(refused["node1"].result())[0]
        assert (stayed.moved, stayed.state) == (HAS_STAYED, "RUNNING")
        assert fleet.hosts["node2"].run("ls", "-A", f"{ROOT}/datastores/0").stdout == ""

        share(place, [fleet.hosts["node2"]], f"{ROOT}/datastores/0")
        assert fleet.poll("node2")["datastore"] == seen
        acting = fleet.act(plans(vm, shared=True))
        left, came = (outcomes_of(acting[name].result())[0] for name in ("node1", "node2"))
        assert (left.error, left.moved) == (None, HAS_LEFT)
        assert (came.error, came.moved, came.state) == (None, HAS_ARRIVED, "RUNNING")
        assert (fleet.states("node1"), fleet.states("node2")) == ({}, {1: "RUNNING"})
