# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong with containers, as test_kvm.py has it of KVM's machines: each is told with what to do, the others of
the plan are done, nothing of somebody else is touched, and the next plan does what is left once the reason is gone."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.errors import HypervisorError
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.lxc import init_process
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.lxc.driver import LxcDriver
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Nic
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.storage import datastore_layout
from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.lxc_node import LxcNode, a_container_node

pytestmark = pytest.mark.timeout(600)
READY = "nebula-guest: ready"


def error_of(outcome: Any) -> dict[str, str]:
    assert outcome.error is not None, outcome
    found: dict[str, str] = outcome.error
    return found


def of_image(node: LxcNode, vm_id: int, content: bytes, name: str = "other.tar") -> Vm:
    """A machine of another image."""
    path = Path(node.root) / name
    path.write_bytes(content)
    vm = node.vm(vm_id)
    # The same words of the catalog about another file are another image's.
    disk = replace(vm.disks[0], source=str(path), image=name, image_uuid=name, size=-(-len(content) >> 20) or 1)
    return replace(vm, disks=(disk,))


def changed_archive(node: LxcNode, without: str = "", **files: bytes) -> bytes:
    """The image's, without what begins so, and with these files."""
    output = io.BytesIO()
    with tarfile.open(node.base) as source, tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as target:
        for entry in source:
            if not without or not entry.name.startswith(f"./{without}"):
                target.addfile(entry, source.extractfile(entry) if entry.isfile() else None)
        for name, content in files.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size, entry.mode = len(content), 0o755
            target.addfile(entry, io.BytesIO(content))
    return output.getvalue()


def nic(vm_id: int, bridge: str) -> Nic:
    return Nic(0, 0, "net", bridge, "02:00:0a:42:00:01", "10.66.0.1", target=f"one-{vm_id}-0")


@in_world
def test_one_failure_does_not_stop_the_others() -> None:
    with a_container_node() as node:
        no_image = node.vm(2, disks=(replace(node.vm(2).disks[0], source=node.root + "/nosuch"),))
        no_bridge = node.vm(3, nics=(nic(3, "nosuch0"),))
        whole = Path(node.base).read_bytes()
        damaged = of_image(node, 4, whole[: len(whole) // 2], "damaged.tar")
        malformed = node.vm(5, raw={"lxc": "<devices>"})
        no_init = of_image(node, 6, changed_archive(node, without="sbin/init"), "no_init.tar")
        vms = (node.vm(1), no_image, no_bridge, damaged, malformed, no_init, node.vm(7))
        outcomes = {outcome.vm_id: outcome for outcome in node.bring(*vms)}
        assert {vm_id: outcome.state for vm_id, outcome in outcomes.items()} == {
            1: "RUNNING",
            2: "PROLOG_FAILURE",
            3: "BOOT_FAILURE",
            4: "PROLOG_FAILURE",
            5: "BOOT_FAILURE",
            6: "BOOT_FAILURE",
            7: "RUNNING",
        }
        assert "nosuch" in str(error_of(outcomes[2]))
        assert "role nebula.provision.network" in error_of(outcomes[3])["remedy"]
        assert "damaged.tar" in error_of(outcomes[4])["asked"], error_of(outcomes[4])
        assert "RAW" in str(error_of(outcomes[5]))
        assert "no init that can be started" in error_of(outcomes[6])["remedy"], error_of(outcomes[6])
        assert {vm_id for vm_id, state in node.states().items() if state == "RUNNING"} == {1, 7}
        assert not (node.directory(damaged) / "disk.0").exists(), "half of an image is no root"
        # The next plan does what is left, once the reasons are gone.
        (Path(node.root) / "damaged.tar").write_bytes(whole)
        for vm_id in (3, 6):
            assert node.one(node.vm(vm_id), "DONE", hard=True).error is None
        again = node.bring(node.vm(2), node.vm(3), damaged, node.vm(5), node.vm(6))
        assert [(outcome.state, outcome.error) for outcome in again] == [("RUNNING", None)] * 5
        for vm_id in (1, 2, 3, 4, 5, 6, 7):
            node.wait_for_line(node.vm(vm_id), READY)


@in_world
def test_a_bridge_that_comes_back() -> None:
    with a_container_node() as node:
        vm = node.vm(1, nics=(nic(1, "nbrtest"),))
        subprocess.run(["ip", "link", "add", "nbrtest", "type", "bridge"], check=True)
        try:
            assert node.one(vm).error is None
            assert Path("/sys/class/net/one-1-0/master").resolve().name == "nbrtest"
            assert node.one(vm, "POWEROFF", hard=True).error is None
            assert not Path("/sys/class/net/one-1-0").exists()
            subprocess.run(["ip", "link", "delete", "nbrtest"], check=True)
            outcome = node.one(vm)
            assert "role nebula.provision.network" in error_of(outcome)["remedy"]
            assert node.states() == {1: "POWEROFF"}
            # Of a start that failed nothing is left that would keep the next from succeeding.
            assert not list(Path("/sys/class/net").glob("one-1-*"))
        finally:
            subprocess.run(["ip", "link", "add", "nbrtest", "type", "bridge"], capture_output=True, check=False)
        try:
            assert node.one(vm).error is None
            assert Path("/sys/class/net/one-1-0/master").resolve().name == "nbrtest"
            assert node.one(vm, "DONE", hard=True).error is None
        finally:
            subprocess.run(["ip", "link", "delete", "nbrtest"], check=True)


@in_world
def test_no_room_for_a_root() -> None:
    """One does not fit, which is told before or when it happens; with room it is made."""
    with a_container_node() as node:
        place = Path(node.root) / "datastores"
        place.mkdir(mode=0o711)
        place.chmod(0o711)
        # What is kept free, both roots' programs, and less than the large file.
        size = ["-o", f"size={(datastore_layout.RESERVE >> 20) + 24}m,mode=711"]
        subprocess.run(["mount", "-t", "tmpfs", *size, "tmpfs", str(place)], check=True)
        try:
            large = of_image(node, 1, changed_archive(node, large=os.urandom(40 << 20)), "large.tar")
            assert node.one(node.vm(2)).error is None
            outcome = node.one(large)
            assert (outcome.state, error_of(outcome)["kind"]) == ("PROLOG_FAILURE", "NoSpace"), outcome
            assert "large.tar" in str(error_of(outcome)), outcome
            assert not (node.directory(large) / "disk.0").exists()
            # Whoever was there before is as it was.
            assert node.states()[2] == "RUNNING"
            subprocess.run(
                ["mount", "-o", f"remount,size={(datastore_layout.RESERVE >> 20) + 100}m", str(place)], check=True
            )
            assert node.one(large).error is None
            node.wait_for_line(large, READY)
            assert (node.directory(large) / "disk.0/large").stat().st_size == 40 << 20
            for vm in (large, node.vm(2)):
                assert node.one(vm, "DONE", hard=True).error is None
        finally:
            subprocess.run(["umount", "--lazy", str(place)], check=True)


@in_world
def test_killed_or_undefined_behind_our_back_it_comes_back() -> None:
    with a_container_node() as node:
        vm = node.vm(1)
        node.one(vm)
        node.wait_for_line(vm, READY)
        kept = node.directory(vm) / "disk.0/etc/kept"
        kept.touch()
        # The container's init, and what libvirt has beside it: of the latter libvirt does not always notice the end.
        for times in range(1, 7):
            controller = node.domain(vm).ID()
            init = init_process.init_of_controller(controller)
            assert init is not None
            os.kill(init if times % 2 else controller, signal.SIGKILL)
            wait_for(lambda: node.states() == {1: "POWEROFF"}, "the end is seen")
            assert node.one(vm).changed
            assert node.domain(vm).ID() != controller
            node.wait_for_line(vm, READY, times + 1)
        node.domain(vm).destroy()
        node.domain(vm).undefine()
        assert node.observed().vms == ()
        assert node.one(vm).state == "RUNNING"
        node.wait_for_line(vm, READY, 8)
        # What the container has written is not made anew.
        assert kept.exists()


@in_world
def test_a_container_that_does_not_obey_runs_on() -> None:
    with a_container_node() as node:
        # As process 1 a shell gets no signal that it does not ask for, but those that nobody can refuse.
        deaf = changed_archive(
            node, without="sbin/init", **{"sbin/init": b"#!/bin/busybox sh\nwhile :; do read x; done\n"}
        )
        vm = of_image(node, 1, deaf)
        assert node.one(vm).error is None
        outcome = node.one(vm, "POWEROFF", shutdown_timeout=1)
        assert (outcome.state, error_of(outcome)["kind"]) == ("RUNNING", "TimedOut")
        assert "hard: true" in error_of(outcome)["remedy"]
        outcome = node.one(vm, "DONE", shutdown_timeout=1)
        assert (outcome.state, error_of(outcome)["kind"]) == ("RUNNING", "TimedOut")
        assert node.directory(vm).exists() and node.states() == {1: "RUNNING"}
        assert node.one(vm, "DONE", hard=True).error is None


@in_world
def test_no_libvirtd_is_told_with_the_remedy() -> None:
    with pytest.raises(HypervisorError, match=r"role nebula\.provision\.node"):
        LxcDriver("lxc+unix:///system?socket=/nonexistent")


@in_world
def test_a_container_without_our_mark_is_not_touched() -> None:
    with a_container_node() as node, a_container_node() as other:
        xml = (
            "<domain type='lxc'><name>one-1</name><memory unit='MiB'>32</memory>"
            "<os><type>exe</type><init>/bin/sh</init></os><devices><console type='pty'/>"
            f"<filesystem type='mount'><source dir='{node.root}'/><target dir='/'/></filesystem></devices></domain>"
        )
        foreign = node.driver._connection().defineXML(xml)
        for wanted in ("RUNNING", "POWEROFF"):
            assert error_of(node.one(node.vm(1), wanted, hard=True))["kind"] == "ForeignObject"
        assert node.observed().foreign_ids == (1,)
        # What is ours of it, its directory, goes all the same.
        assert node.one(node.vm(1), "DONE", hard=True).state == "DONE"
        assert not node.directory(node.vm(1)).exists()
        assert foreign.isPersistent() and node.observed().vms == ()
        # The mark of another catalog is no mark of ours.
        other.one(other.vm(2))
        assert node.one(node.vm(2), "DONE", hard=True).state == "DONE"
        assert other.states() == {2: "RUNNING"}


@in_world
def test_a_directory_without_our_mark_is_not_touched() -> None:
    with a_container_node() as node:
        node.one(node.vm(1))
        root = node.directory(node.vm(2)) / "disk.0"
        root.mkdir(parents=True)
        (root / "notes").write_text("somebody's")
        for wanted in ("RUNNING", "DONE"):
            assert error_of(node.one(node.vm(2), wanted, hard=True))["kind"] == "ForeignObject"
        assert (root / "notes").read_text() == "somebody's"
        assert [entry.name for entry in root.parent.iterdir()] == ["disk.0"]


APPLY = """
import json, sys
sys.path.append("/usr/lib/python3/dist-packages")
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.batch import Batch
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.lxc.driver import LxcDriver
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.plan_outcomes import plan_for
print("begun", flush=True)
Batch(plan_for(sys.stdin.read(), "node"), LxcDriver(), sys.argv[1], 2).apply()
"""


@pytest.mark.parametrize("done", [0, 2])
@in_world
def test_killed_half_way_it_is_finished_by_the_next_plan(done: int) -> None:
    with a_container_node() as node:
        vms = [node.vm(vm_id) for vm_id in range(6)]
        node.one(vms[5])
        plan = node.plan(*vms)
        run = subprocess.Popen(
            [sys.executable, "-c", APPLY, node.root],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        assert run.stdin is not None and run.stdout is not None
        run.stdin.write(json.dumps(to_plain(plan)).encode())
        run.stdin.close()
        assert run.stdout.readline() == b"begun\n"
        wait_for(lambda: len(list(Path(node.root, "datastores/0").glob("*"))) > 1, "the first directory")
        wait_for(lambda: sum(state == "RUNNING" for state in node.states().values()) > done, f"{done} more running")
        run.kill()
        run.wait()
        run.stdout.close()
        # No forecast: what the killed run asked for goes on in libvirtd.
        outcomes = node.carry_out(node.plan(*vms))
        assert [(o.state, o.error) for o in outcomes] == [("RUNNING", None)] * 6, outcomes
        for vm in vms:
            node.wait_for_line(vm, READY)
            assert not list(node.directory(vm).glob(".*"))
