# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans for containers killed at any moment: the next one finishes them, and nothing is shared, lost or left over. A
sample, chosen by a seed that TORTURE_SEED replaces; tests/torture kills whole playbooks, with machines of KVM."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.batch import Batch
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.lxc.driver import LxcDriver
from ansible_collections.nebula.provision.plugins.module_utils.model.container_user_ids import id_range
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Plan
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.storage import roots
from ansible_collections.nebula.provision.tests.integration.lxc_node import LxcNode, a_container_node

# What is wanted of three machines, one plan after another. The first one of a kind is not killed, which shows how long
# it takes.
STEPS = ("RUNNING", "SUSPENDED", "RUNNING", "POWEROFF", "RUNNING", "DONE")
ROUNDS = 3


def killed(node: LxcNode, plan: Plan, seconds: float) -> bool:
    """Carry the plan out in a process that is killed after so long; whether that was before its end."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            # A connection does not outlive a fork.
            Batch(plan, LxcDriver(), node.root).apply()
            status = 0
        finally:
            os._exit(status)
    timer = threading.Timer(seconds, os.kill, (child, signal.SIGKILL))
    timer.start()
    _pid, status = os.waitpid(child, 0)
    timer.cancel()
    timer.join()
    return os.WIFSIGNALED(status)


def check(node: LxcNode, vms: Sequence[Vm], wanted: str) -> None:
    place = Path(node.root, "datastores", "0")
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()]
    mounted = sorted(path for path in mounted if path.startswith(node.root + "/"))
    if wanted == "DONE":
        assert (node.states(), os.listdir(place), mounted) == ({}, [], [])
        return
    assert node.states() == {vm.vm_id: wanted for vm in vms}
    trees = [node.directory(vm) / "disk.0" for vm in vms]
    # Each once, and nothing beside them.
    assert mounted == sorted(map(str, trees))
    for vm, tree in zip(vms, trees):
        assert (tree / "bin/busybox").stat().st_uid == id_range(vm.vm_id).start
        assert {path.name for path in (tree / "etc").glob("kept-*")} == {f"kept-{vm.vm_id}"}
    assert sorted(path.name for path in place.iterdir()) == sorted([".unpacked", *(str(vm.vm_id) for vm in vms)])
    assert len(os.listdir(place / ".unpacked")) == 1
    node.assert_consistent()


@in_world
def carried_out_with_kills(seed: int) -> None:
    chance = random.Random(seed)
    with a_container_node() as node:
        vms = [node.vm(vm_id) for vm_id in (30, 31, 32)]
        lasts: dict[str, float] = {}
        kills = 0
        for number in range(ROUNDS):
            for step, wanted in enumerate(STEPS):
                what = f"{wanted} {step}"
                orders = {"shutdown_timeout": 60, "hard": wanted == "DONE"}
                if number:
                    done = killed(node, node.plan(*vms, wanted=wanted, **orders), chance.uniform(0, lasts[what]))
                    kills += done
                    print(f"round {number}: {what}: killed: {done}", file=sys.stderr)
                began = time.monotonic()
                outcomes = node.carry_out(node.plan(*vms, wanted=wanted, **orders))
                lasts.setdefault(what, time.monotonic() - began)
                assert [outcome.error for outcome in outcomes] == [None] * 3, (what, outcomes)
                if step == 0:
                    for vm in vms:
                        (node.directory(vm) / f"disk.0/etc/kept-{vm.vm_id}").touch()
                if wanted == "RUNNING":
                    for vm in vms:
                        node.wait_for_line(vm, "nebula-guest: ready")
                check(node, vms, wanted)
            assert not roots.prune(node.root)
        assert kills


@pytest.mark.timeout(900)
def test_a_sample_of_kills() -> None:
    carried_out_with_kills(seed=int(os.environ.get("TORTURE_SEED", "1")))
