# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run whose controller was killed goes on by itself, and may come late: stopped in the middle of its work, overtaken
by a newer plan that ends its machines, and continued. It brings nothing back, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.host import node_file
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Plan
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.nodes import node_setup
from ansible_collections.nebula.provision.tests.integration.kvm_node import Node, a_node, wait_for

# What nebula_deploy does, stopping itself where it is told to: everything else is the real thing.
LATE = """
import json, signal, sys, threading
sys.path.append("/usr/lib/python3/dist-packages")
from ansible_collections.nebula.provision.plugins.module_utils.errors import NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import fence
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.batch import Batch
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.kvm import KvmDriver
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.plan_outcomes import plan_for

root, where = sys.argv[1:]

def stop(at):
    if at == where:
        # This very thread, so that it does no step more.
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)

class Late(Batch):
    def _common(self, known):
        stop("accepted")
        return super()._common(known)

def made(job, make=fence._make_directory):
    make(job)
    stop("directory made")

def owned(job, own=fence._take_record):
    stop("locked")
    own(job)

fence._make_directory, fence._take_record = made, owned

class LateDriver(KvmDriver):
    def define(self, *arguments):
        stop("before it is defined")
        super().define(*arguments)

    def start(self, mark):
        stop("before it is started")
        super().start(mark)
        stop("started")

plan = plan_for(sys.stdin.read(), "node")
stop("begun")
try:
    outcomes = Late(plan, LateDriver(), root, 1).apply()
    print(json.dumps([[o.state, o.error and o.error["kind"]] for o in outcomes]))
except NebulaError as error:
    print(json.dumps([["", type(error).__name__]]))
"""
# Where the older run holds a machine's lock, the newer one waits for it; where it does not, that finds nothing of its.
WITHOUT_LOCK = ("begun", "accepted", "directory made")
WITH_LOCK = ("locked", "before it is defined", "before it is started", "started")


@contextlib.contextmanager
def stopped(node: Node, plan: Plan, where: str) -> Iterator[subprocess.Popen[str]]:
    """A run that carries the plan out, as soon as it has stopped."""
    with subprocess.Popen(
        [sys.executable, "-c", LATE, node.root, where],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    ) as run:
        if run.stdin is None:
            raise RuntimeError("the run has no input")
        run.stdin.write(json.dumps(to_plain(plan)))
        run.stdin.close()
        run.stdin = None
        try:
            wait_for(lambda: state_of(run.pid) in ("T", "Z"), f"a run to stop: {where}", 300)
            assert state_of(run.pid) == "T"
            yield run
        finally:
            run.kill()


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]


def goes_on(run: subprocess.Popen[str]) -> list[Any]:
    run.send_signal(signal.SIGCONT)
    output, _errors = run.communicate(timeout=300)
    assert run.returncode == 0
    return json.loads(output)


def nothing_is_left(node: Node) -> None:
    assert node.states() == {}
    assert node.driver._connection().listAllDomains() == []
    assert list(Path(node.root, "datastores", "0").glob("*")) == []


@pytest.mark.parametrize("where", WITHOUT_LOCK)
@in_world
def test_overtaken_by_the_end_of_its_machines_it_brings_none_back(where: str) -> None:
    with a_node() as node:
        # One: whatever else another thread was at when all of them stopped is not what is looked at.
        vms = [node.vm(0)]
        with stopped(node, node.plan(*vms), where) as run:
            ended = node.carry_out(node.plan(*vms, wanted="DONE", hard=True))
            assert [outcome.state for outcome in ended] == ["DONE"]
            nothing_is_left(node)
            assert {error for _state, error in goes_on(run)} == {"StalePlan"}
            nothing_is_left(node)


@pytest.mark.parametrize("where", WITH_LOCK)
@in_world
def test_a_newer_plan_waits_for_the_machine_that_it_works_on_and_ends_it(where: str) -> None:
    with a_node() as node:
        vms = [node.vm(0)]
        with stopped(node, node.plan(*vms), where) as run:
            newer = node.plan(*vms, wanted="DONE", hard=True)
            outcomes: list[Any] = []
            other = threading.Thread(target=lambda: outcomes.extend(node.carry_out(newer)))
            other.start()
            wait_for(lambda: node_file.read(node.root).plan == newer.number, "the newer plan to be accepted")
            said = goes_on(run)
            other.join(300)
            assert [outcome.state for outcome in outcomes] == ["DONE"]
            assert said == [["RUNNING", None]]
            nothing_is_left(node)


@pytest.mark.parametrize("again", [False, True], ids=["given back", "made anew for another catalog"])
@pytest.mark.parametrize("where", WITHOUT_LOCK)
@in_world
def test_after_a_teardown_it_finds_no_node_of_its_catalog(where: str, again: bool) -> None:
    with a_node() as node:
        params = {"root": node.root, "hypervisor": "kvm", "accelerator": "qemu", "manage_services": True}
        vm = node.vm(0)
        with stopped(node, node.plan(vm), where) as run:
            node.bring(vm, wanted="DONE", hard=True)
            node_setup.absent({**params, "catalog": None}, False)
            if again:
                node_setup.present({**params, "catalog": str(uuid.uuid4())}, False)
            ((state, error),) = goes_on(run)
            assert error in ("StalePlan", "ForeignObject"), (state, error)
            nothing_is_left(node)
            assert Path(node.root, "nebula.node").exists() == again
            node_setup.absent({**params, "catalog": None}, False)
