# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves that are broken off, wherever they are: afterwards the machine is on one host alone and runs, with all that its
disks held, and nothing of it is on the other one. QEMU's own locks of files, which would hide a second machine, are
off."""

from __future__ import annotations

import hashlib
import os
import signal
import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest
from in_world import in_nodes

from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.move import (
    COLD,
    HAS_ARRIVED,
    HAS_LEFT,
    HAS_STAYED,
    IS_ABSENT,
    LIVE,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Plan
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.tests.integration.fleet import (
    ROOT,
    Acting,
    Fleet,
    a_fleet,
    is_locked,
    outcomes_of,
    share,
    without_locks,
)
from ansible_collections.nebula.provision.tests.integration.kvm_node import BOOTED, wait_for

SOURCE, TARGET = "node1", "node2"
HOSTS = (SOURCE, TARGET)
MIB = 1 << 20
# So slow that a move takes some seconds, and each part of it can be hit.
RATE, DATA = "60mbit", 24
# Where in a move it is hit.
HALF, SWITCH = "half", "switch"


class Scene:
    """A machine that runs on the source, with a disk full of data, and its move over a slow link.
    shared: both hosts see the same files, where only QEMU's locks would keep a second machine from them."""

    def __init__(self, fleet: Fleet, way: str = LIVE, limit: int = 60, shared: bool = False) -> None:
        self.fleet = fleet
        self.shared: Path | None = None
        if shared:
            self.shared = Path(os.environ["NEBULA_WORLD"], f"shared-{uuid.uuid4().hex[:8]}")
            self.shared.mkdir(mode=0o711)
            self.shared.chmod(0o711)
        for host in HOSTS:
            self.set_up(host)
        data = Disk(1, "vdb", type="FS", size=DATA, format="raw", driver="raw")
        vm = fleet.vm(1)
        self.vm: Vm = fleet.vm(1, disks=(*vm.disks, data))
        fleet.bring(SOURCE, self.vm, wanted="POWEROFF")
        content = os.urandom(DATA * MIB)
        (self.directory(SOURCE) / "disk.1").write_bytes(content)
        self.digest = hashlib.sha256(content).hexdigest()
        assert fleet.bring(SOURCE, self.vm)[0].error is None
        wait_for(lambda: BOOTED in self.console(SOURCE), "it to boot")
        self.find_no_lock(SOURCE)
        slow = ("tbf", "rate", RATE, "burst", "64kb", "latency", "400ms")
        fleet.hosts[SOURCE].run("tc", "qdisc", "replace", "dev", "eth0", "root", *slow)
        self.plans: Mapping[str, Plan] = fleet.moves(SOURCE, TARGET, self.vm, way=way, limit=limit, hard=way == COLD)
        self.acting: dict[str, Acting] = {}

    def set_up(self, host: str) -> None:
        """What a host has forgotten that was without power."""
        node, place = self.fleet.hosts[host], f"{ROOT}/datastores/0"
        without_locks(node)
        if self.shared is not None and node.run("mountpoint", "-q", place, check=False).returncode != 0:
            share(self.shared, [node], place)

    def directory(self, host: str) -> Path:
        return self.shared / "1" if self.shared is not None else self.fleet.directory(host, self.vm)

    def console(self, host: str) -> bytes:
        return (self.directory(host) / "console.log").read_bytes()

    def running(self) -> list[str]:
        """The hosts on which its guest is not standing still."""
        up = [host for host in HOSTS if self.fleet.hosts[host].init is not None]
        lists = {host: self.fleet.hosts[host].run("virsh", "list", "--name", "--state-running") for host in up}
        return [host for host, done in lists.items() if "one-1" in done.stdout.split()]

    def find_no_lock(self, host: str) -> None:
        for disk in ("disk.0", "disk.1"):
            assert not is_locked(self.fleet.hosts[host], f"{ROOT}/datastores/0/1/{disk}")

    def begin(self, **environment: Mapping[str, str]) -> None:
        self.acting = self.fleet.act(self.plans, **environment)

    def wait_for(self, when: str) -> None:
        if when == HALF:
            disk = self.fleet.directory(TARGET, self.vm) / "disk.1"
            wait_for(lambda: disk.exists() and disk.stat().st_blocks * 512 > DATA * MIB // 2, "half of its data")
        else:
            qemu = self.fleet.hosts[SOURCE]
            pid = qemu.run("cat", "/run/libvirt/qemu/one-1.pid").stdout.strip()
            wait_for(
                lambda: qemu.run("test", "-e", f"/proc/{pid}", check=False).returncode != 0, "its end at the source"
            )

    def answers(self) -> dict[str, str]:
        """What both hosts say became of it, by host; nothing of one that was killed, or whose libvirtd was."""
        results = {name: acting.result() or {} for name, acting in self.acting.items()}
        return {name: outcomes_of(result)[0].moved for name, result in results.items() if "outcomes" in result}

    def end(self, boots: int | None = None) -> str:
        """The next run ends it. Return where the machine is."""
        for host in HOSTS:
            self.set_up(host)
        assert len(self.running()) < len(HOSTS)
        owner = self.fleet.settle(self.plans, self.vm)
        other = next(name for name in HOSTS if name != owner)
        assert self.fleet.states(owner) == {1: "RUNNING"}
        self.find_no_lock(owner)
        assert self.fleet.states(other) == {}
        assert self.running() == [owner]
        assert self.shared is not None or not self.fleet.directory(other, self.vm).exists()
        disk = self.directory(owner) / "disk.1"
        assert hashlib.sha256(disk.read_bytes()).hexdigest() == self.digest
        before = len(self.console(owner))
        wait_for(lambda: len(self.console(owner)) > before, "the machine to go on")
        if boots is not None:
            assert self.console(owner).count(BOOTED) == boots
        assert self.fleet.poll(other)["moves"] == []
        return owner


def kill(acting: Acting) -> None:
    os.killpg(acting.process.pid, signal.SIGKILL)


def kill_daemon(fleet: Fleet, host: str) -> None:
    fleet.hosts[host].run("pkill", "-KILL", "-x", "libvirtd")


def start_daemon(fleet: Fleet, host: str) -> None:
    fleet.hosts[host].run("libvirtd", "--daemon")


def kill_qemu(fleet: Fleet, host: str) -> None:
    fleet.hosts[host].run("sh", "-c", "kill -9 $(cat /run/libvirt/qemu/one-1.pid)")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", [LIVE, COLD])
@pytest.mark.parametrize("host", HOSTS)
@in_nodes(2)
def test_a_module_is_killed(host: str, way: str) -> None:
    with a_fleet() as fleet:
        scene = Scene(fleet, way)
        scene.begin()
        scene.wait_for(HALF)
        kill(scene.acting[host])
        answers = scene.answers()
        assert answers.get(SOURCE, "") in ("", HAS_STAYED)
        assert answers.get(TARGET, "") in ("", IS_ABSENT)
        assert scene.end() == SOURCE


@pytest.mark.timeout(300)
@pytest.mark.parametrize("host", HOSTS)
@in_nodes(2)
def test_a_module_is_killed_at_the_switch(host: str) -> None:
    with a_fleet() as fleet:
        scene = Scene(fleet)
        scene.begin()
        scene.wait_for(SWITCH)
        kill(scene.acting[host])
        scene.answers()
        assert scene.end(boots=1) == TARGET


@pytest.mark.timeout(300)
@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("what", ["libvirtd", "qemu"])
@in_nodes(2)
def test_a_process_is_killed(what: str, host: str) -> None:
    with a_fleet() as fleet:
        scene = Scene(fleet)
        scene.begin()
        scene.wait_for(HALF)
        if what == "qemu":
            kill_qemu(fleet, host)
        else:
            kill_daemon(fleet, host)
            start_daemon(fleet, host)
        answers = scene.answers()
        assert HAS_ARRIVED not in answers.values()
        assert HAS_LEFT not in answers.values()
        assert scene.end() == SOURCE


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", [LIVE, COLD])
@pytest.mark.parametrize("host", HOSTS)
@in_nodes(2)
def test_a_host_loses_its_power(host: str, way: str) -> None:
    with a_fleet() as fleet:
        scene = Scene(fleet, way)
        scene.begin()
        scene.wait_for(HALF)
        fleet.hosts[host].kill()
        answers = scene.answers()
        assert HAS_ARRIVED not in answers.values()
        fleet.hosts[host].start()
        assert scene.end() == SOURCE


@pytest.mark.timeout(300)
@in_nodes(2)
def test_a_machine_that_went_off_with_its_host_is_not_taken_for_one_that_its_guest_switched_off() -> None:
    """It starts with that host no more since it began to move, and nobody wanted it off."""
    with a_fleet() as fleet:
        scene = Scene(fleet)
        scene.begin()
        scene.wait_for(HALF)
        fleet.hosts[SOURCE].kill()
        scene.answers()
        fleet.hosts[SOURCE].start()
        scene.set_up(SOURCE)
        assert fleet.states(SOURCE) == {1: "POWEROFF"}
        found = fleet.ask(scene.plans)
        assert [(each.moved, each.state, each.error) for each in found[SOURCE]] == [(HAS_STAYED, "UNKNOWN", None)]
        assert [each["went_down"] for each in fleet.poll(SOURCE)["moves"]] == [True]
        assert scene.end(boots=2) == SOURCE


@pytest.mark.timeout(300)
@pytest.mark.parametrize("host", HOSTS)
@in_nodes(2)
def test_a_host_loses_its_power_at_the_switch(host: str) -> None:
    with a_fleet() as fleet:
        scene = Scene(fleet)
        scene.begin()
        scene.wait_for(SWITCH)
        fleet.hosts[host].kill()
        scene.answers()
        fleet.hosts[host].start()
        scene.end()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", [LIVE, COLD])
@in_nodes(2)
def test_the_link_is_cut(way: str) -> None:
    with a_fleet() as fleet:
        scene = Scene(fleet, way, limit=20)
        scene.begin()
        scene.wait_for(HALF)
        fleet.hosts[TARGET].unplug()
        answers = scene.answers()
        fleet.hosts[TARGET].plug()
        assert answers[SOURCE] == HAS_STAYED
        assert scene.end() == SOURCE


@pytest.mark.timeout(300)
@in_nodes(2)
def test_the_link_is_cut_at_the_switch() -> None:
    with a_fleet() as fleet:
        scene = Scene(fleet)
        scene.begin()
        scene.wait_for(SWITCH)
        fleet.hosts[TARGET].unplug()
        fleet.hosts[SOURCE].unplug()
        scene.answers()
        for host in HOSTS:
            fleet.hosts[host].plug()
        assert scene.end(boots=1) == TARGET


@pytest.mark.timeout(300)
@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("what", ["module", "power"])
@in_nodes(2)
def test_a_machine_of_shared_files_is_hit_at_the_switch(what: str, host: str) -> None:
    with a_fleet() as fleet:
        scene = Scene(fleet, shared=True)
        scene.begin()
        scene.wait_for(SWITCH)
        if what == "module":
            kill(scene.acting[host])
        else:
            fleet.hosts[host].kill()
        scene.answers()
        if what == "power":
            fleet.hosts[host].start()
        # A source without power may not have written yet that it has left.
        assert scene.end() == TARGET or (what, host) == ("power", SOURCE)


@pytest.mark.timeout(300)
@in_nodes(2)
def test_the_hosts_do_not_reach_each_other() -> None:
    with a_fleet() as fleet:
        scene = Scene(fleet)
        rules = "add table inet cut; add chain inet cut in { type filter hook input priority 0; }; add rule inet cut in"
        fleet.hosts[TARGET].run("nft", f"{rules} tcp dport 49152 drop")
        try:
            scene.begin()
            results = {name: outcomes_of(acting.result())[0] for name, acting in scene.acting.items()}
        finally:
            fleet.hosts[TARGET].run("nft", "delete table inet cut")
        assert {name: each.moved for name, each in results.items()} == {SOURCE: HAS_STAYED, TARGET: IS_ABSENT}
        assert "nebula_move_address" in (results[SOURCE].error or {})["remedy"]
        assert scene.end(boots=1) == SOURCE


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", [LIVE, COLD])
@in_nodes(2)
def test_the_disk_of_the_target_is_full(way: str) -> None:
    with a_fleet() as fleet:
        scene = Scene(fleet, way)
        host = fleet.hosts[TARGET]
        host.run("mkdir", "-p", f"{ROOT}/datastores")
        # 64 MiB are kept free, and so the room is looked for first.
        size = 64 + DATA // 2
        host.run("mount", "-t", "tmpfs", "-o", f"size={size}m,mode=0711", "tmpfs", f"{ROOT}/datastores")
        try:
            scene.begin()
            results = {name: outcomes_of(acting.result())[0] for name, acting in scene.acting.items()}
            assert {name: each.moved for name, each in results.items()} == {SOURCE: HAS_STAYED, TARGET: IS_ABSENT}
            assert "MiB are free" in (results[TARGET].error or {})["found"], results[TARGET].error
            assert "MiB are free" in (results[SOURCE].error or {})["found"]
            assert scene.end(boots=1) == SOURCE
        finally:
            host.run("umount", f"{ROOT}/datastores")


@pytest.mark.timeout(300)
@in_nodes(2)
def test_the_disk_of_the_target_fills_up_meanwhile() -> None:
    with a_fleet() as fleet:
        scene = Scene(fleet)
        host = fleet.hosts[TARGET]
        host.run("mkdir", "-p", f"{ROOT}/datastores")
        host.run("mount", "-t", "tmpfs", "-o", "size=160m,mode=0711", "tmpfs", f"{ROOT}/datastores")
        try:
            scene.begin()
            wait_for(lambda: host.run("test", "-e", f"{ROOT}/datastores/0/1/disk.1", check=False).returncode == 0, "it")
            host.run("sh", "-c", f"dd if=/dev/zero of={ROOT}/datastores/filler bs=1M 2>&1 || true")
            answers = scene.answers()
            assert answers[SOURCE] == HAS_STAYED
            host.run("rm", f"{ROOT}/datastores/filler")
            assert scene.end(boots=1) == SOURCE
        finally:
            host.run("umount", f"{ROOT}/datastores")


@pytest.mark.timeout(300)
@in_nodes(2)
def test_a_move_that_takes_too_long_is_given_up() -> None:
    with a_fleet() as fleet:
        scene = Scene(fleet, limit=1)
        scene.begin()
        results = {name: outcomes_of(acting.result())[0] for name, acting in scene.acting.items()}
        assert {name: each.moved for name, each in results.items()} == {SOURCE: HAS_STAYED, TARGET: IS_ABSENT}
        assert "within 1 s" in (results[SOURCE].error or {})["found"]
        assert scene.end(boots=1) == SOURCE
