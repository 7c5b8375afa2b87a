# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers move cold between two nodes of libvirt's LXC: their roots come with all that the machines wrote."""

from __future__ import annotations

import json
import os
import signal
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from in_world import in_nodes

from ansible_collections.nebula.provision.plugins.module_utils.model.container_user_ids import RANGES, id_range
from ansible_collections.nebula.provision.plugins.module_utils.model.context import Context
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.move import (
    COLD,
    HAS_ARRIVED,
    HAS_LEFT,
    HAS_STAYED,
    IS_ABSENT,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Plan, VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.storage import demo_container
from ansible_collections.nebula.provision.tests.integration.fleet import ROOT, Fleet, outcomes_of, share
from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for

SOURCE, TARGET = "node1", "node2"
HOSTS = (SOURCE, TARGET)
MIB = 1 << 20
# So slow that it takes some seconds.
RATE, DATA = "60mbit", 24

# What a machine may have in its root, by the host's own eyes: argv is the root and the first of its users.
_WRITE = """
import os, sys
root, first = sys.argv[1], int(sys.argv[2])
place = os.path.join(root, "data")
os.mkdir(place, 0o2750)
def made(name, mode, uid, content=b""):
    path = os.path.join(place, name)
    with open(path, "wb") as file:
        file.write(content)
    os.chown(path, first + uid, first + 2 * uid)
    os.chmod(path, mode)
    return path
made("plain", 0o640, 1000, b"what the machine wrote")
program = made("program", 0o4755, 7, b"#!/bin/sh")
os.link(program, os.path.join(place, "another name"))
os.setxattr(made("marked", 0o600, 0), "user.mark", b"\\0binary")
with open(made("sparse", 0o600, 0), "r+b") as file:
    file.truncate(1 << 30)
    file.seek(1 << 29)
    file.write(b"in the middle")
os.symlink("/etc/passwd", os.path.join(place, "link"))
os.mkfifo(os.path.join(place, "pipe"), 0o622)
for name in ("", "link", "pipe"):
    os.chown(os.path.join(place, name), first + 33, first + 33, follow_symlinks=False)
# Of the image, so that an overlay would have to say that it is gone.
os.unlink(os.path.join(root, "etc/group"))
"""
_LIST = """
import hashlib, json, os, stat, sys
root, first = sys.argv[1], int(sys.argv[2])
place = os.path.join(root, "data")
found = {"group": os.path.lexists(os.path.join(root, "etc/group"))}
for name in ("", *sorted(os.listdir(place))):
    path = os.path.join(place, name)
    at = os.lstat(path)
    found[name] = [stat.S_IFMT(at.st_mode), stat.S_IMODE(at.st_mode), at.st_uid - first, at.st_gid - first,
                   at.st_mtime_ns // 1000]
    if stat.S_ISLNK(at.st_mode):
        found[name].append(os.readlink(path))
    if stat.S_ISREG(at.st_mode):
        small = at.st_size if at.st_size < 1 << 26 else 0
        with open(path, "rb") as file:
            file.seek(0 if small else 1 << 29)
            found[name] += [at.st_nlink, at.st_size, hashlib.sha256(file.read(1 << 25)).hexdigest(),
                            at.st_blocks < 1 << 17,
                            {each: os.getxattr(path, each).hex() for each in os.listxattr(path)}]
print(json.dumps(found))
"""


class ContainerFleet(Fleet):
    """The machines are containers of the demo image."""

    hypervisor = "lxc"
    base = f"{ROOT}/base.tar"

    def __init__(self, place: Path) -> None:
        image = place / "base.tar"
        image.write_bytes(demo_container.archive(Path("/bin/busybox").read_bytes()))
        super().__init__(str(image), 2)
        for host in self.hosts.values():
            # libvirt starts no container where version 2 is mounted below version 1 (lxc_node.py).
            host.run("sh", "-c", "mountpoint -q /sys/fs/cgroup/unified && umount /sys/fs/cgroup/unified", check=False)

    def vm(self, vm_id: int, **changes: Any) -> Vm:
        base = Disk(0, "", image="base", image_uuid="b", source=self.base, format="tar", driver="tar", size=2)
        vm = Vm(
            vm_id,
            str(uuid.uuid5(uuid.UUID(self.catalog), str(vm_id))),
            f"web-{vm_id}",
            "lxc",
            cpu=0.5,
            memory=64,
            disks=(base,),
            context=Context(disk_id=9, target="", variables={"SET_HOSTNAME": f"web-{vm_id}"}),
        )
        return replace(vm, **changes)

    def inside(self, program: str, host: str, vm: Vm) -> str:
        # It is mounted there, and for nobody else.
        root = f"{ROOT}/datastores/0/{vm.vm_id}/disk.0"
        found = self.hosts[host].run(sys.executable, "-c", program, root, str(id_range(vm.vm_id).start))
        return str(found.stdout)

    def listed(self, host: str, vm: Vm) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.inside(_LIST, host, vm))
        return found

    def wait_for_boots(self, host: str, vm: Vm, count: int = 1) -> None:
        line = f"nebula-guest: hostname={vm.name}".encode()
        wait_for(
            lambda: self.console(host, vm).count(line) >= count,
            f"boot {count} of {vm.name} on {host}: {self.console(host, vm)!r}",
        )

    def mounts(self, host: str) -> list[str]:
        return [line for line in self.hosts[host].run("cat", "/proc/self/mounts").stdout.splitlines() if ROOT in line]

    def close(self) -> None:
        for host in self.hosts.values():
            if host.init is not None:
                names = host.run("virsh", "-c", "lxc:///system", "list", "--name", "--all").stdout.split()
                for name, verb in ((name, verb) for name in names for verb in ("destroy", "undefine")):
                    host.run("virsh", "-c", "lxc:///system", verb, name, check=False)
                for line in self.mounts(host.name):
                    host.run("umount", line.split()[1], check=False)
        super().close()


@contextmanager
def a_container_fleet() -> Iterator[ContainerFleet]:
    fleet = ContainerFleet(Path(os.environ["NEBULA_WORLD"]))
    try:
        yield fleet
    finally:
        fleet.close()


def outcomes(fleet: ContainerFleet, plans: Mapping[str, Plan]) -> dict[str, VmOutcome]:
    return {name: outcomes_of(acting.result())[0] for name, acting in fleet.act(plans).items()}


@pytest.mark.timeout(300)
@in_nodes(2)
def test_a_container_moves_with_all_that_is_in_its_root_and_returns() -> None:
    with a_container_fleet() as fleet:
        volume = Disk(1, "/mnt", type="FS", size=16, format="raw", driver="raw", fs="ext4")
        vm = fleet.vm(1)
        vm = replace(vm, disks=(*vm.disks, volume))
        assert fleet.bring(SOURCE, vm)[0].error is None
        fleet.wait_for_boots(SOURCE, vm)
        fleet.inside(_WRITE, SOURCE, vm)
        before = fleet.listed(SOURCE, vm)
        assert before["group"] is False and before["sparse"][8] is True
        for number, (source, target) in enumerate(((SOURCE, TARGET), (TARGET, SOURCE)), start=2):
            found = outcomes(fleet, fleet.moves(source, target, vm, way=COLD))
            assert (found[source].error, found[source].moved) == (None, HAS_LEFT), found
            assert (found[target].error, found[target].moved, found[target].state) == (None, HAS_ARRIVED, "RUNNING")
            assert (fleet.states(source), fleet.states(target)) == ({}, {1: "RUNNING"})
            assert not fleet.directory(source, vm).exists()
            assert fleet.mounts(source) == []
            fleet.wait_for_boots(target, vm, number)
            assert fleet.listed(target, vm) == before
            assert not fleet.bring(target, vm)[0].changed


@pytest.mark.timeout(300)
@in_nodes(2)
def test_a_container_that_is_off_moves_and_stays_off() -> None:
    with a_container_fleet() as fleet:
        vm = fleet.vm(1)
        assert fleet.bring(SOURCE, vm, wanted="POWEROFF")[0].error is None
        found = outcomes(fleet, fleet.moves(SOURCE, TARGET, vm, way=COLD, wanted="POWEROFF"))
        assert (found[SOURCE].error, found[SOURCE].moved) == (None, HAS_LEFT), found
        assert (found[TARGET].error, found[TARGET].moved, found[TARGET].state) == (None, HAS_ARRIVED, "POWEROFF")
        assert not fleet.directory(SOURCE, vm).exists()
        assert fleet.bring(TARGET, vm)[0].error is None
        fleet.wait_for_boots(TARGET, vm)


@pytest.mark.timeout(300)
@in_nodes(2)
def test_a_container_whose_users_another_one_has_at_the_target_stays() -> None:
    with a_container_fleet() as fleet:
        vm, twin = fleet.vm(1), fleet.vm(1 + RANGES)
        assert fleet.bring(SOURCE, vm)[0].error is None
        assert fleet.bring(TARGET, twin)[0].error is None
        found = outcomes(fleet, fleet.moves(SOURCE, TARGET, vm, way=COLD))
        assert (found[SOURCE].moved, found[TARGET].moved) == (HAS_STAYED, IS_ABSENT)
        assert found[TARGET].error is not None and f"machine {1 + RANGES} is on this host" in str(found[TARGET].error)
        assert (fleet.states(SOURCE), fleet.states(TARGET)) == ({1: "RUNNING"}, {1 + RANGES: "RUNNING"})


class Scene:
    """A container that runs on the source with much in its root, and its move over a slow link."""

    def __init__(self, fleet: ContainerFleet) -> None:
        self.fleet = fleet
        self.vm = fleet.vm(1)
        brought = fleet.bring(SOURCE, self.vm)[0]
        assert brought.error is None, brought
        fleet.wait_for_boots(SOURCE, self.vm)
        fleet.inside(_WRITE, SOURCE, self.vm)
        much = f"of={ROOT}/datastores/0/1/disk.0/data/much"
        fleet.hosts[SOURCE].run("dd", "if=/dev/urandom", much, "bs=1M", f"count={DATA}")
        self.before = fleet.listed(SOURCE, self.vm)
        slow = ("tbf", "rate", RATE, "burst", "64kb", "latency", "400ms")
        fleet.hosts[SOURCE].run("tc", "qdisc", "replace", "dev", "eth0", "root", *slow)
        self.plans = fleet.moves(SOURCE, TARGET, self.vm, way=COLD)
        self.acting = fleet.act(self.plans)

    def wait_for_half(self) -> None:
        much = self.fleet.directory(TARGET, self.vm) / "disk.0.unpacking" / "data" / "much"
        wait_for(lambda: much.exists() and much.stat().st_blocks * 512 > DATA * MIB // 2, "half of it")

    def end(self) -> None:
        """The next run ends it: the container runs at the source, and nothing of it is at the target."""
        assert self.fleet.settle(self.plans, self.vm) == SOURCE
        assert (self.fleet.states(SOURCE), self.fleet.states(TARGET)) == ({1: "RUNNING"}, {})
        assert not self.fleet.directory(TARGET, self.vm).exists()
        assert self.fleet.poll(TARGET)["moves"] == []
        assert self.fleet.listed(SOURCE, self.vm) == self.before
        self.fleet.wait_for_boots(SOURCE, self.vm, 2)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("host", HOSTS)
@in_nodes(2)
def test_a_module_is_killed_while_the_root_comes(host: str) -> None:
    with a_container_fleet() as fleet:
        scene = Scene(fleet)
        scene.wait_for_half()
        os.killpg(scene.acting[host].process.pid, signal.SIGKILL)
        for acting in scene.acting.values():
            acting.result()
        scene.end()


@pytest.mark.timeout(300)
@in_nodes(2)
def test_the_link_is_cut_while_the_root_comes() -> None:
    with a_container_fleet() as fleet:
        scene = Scene(fleet)
        scene.wait_for_half()
        fleet.hosts[TARGET].unplug("eth0")
        answers = {name: outcomes_of(acting.result())[0].moved for name, acting in scene.acting.items()}
        assert answers == {SOURCE: HAS_STAYED, TARGET: IS_ABSENT}
        # At once, without another run.
        assert fleet.states(SOURCE) == {1: "RUNNING"}
        assert not fleet.directory(TARGET, scene.vm).exists()
        fleet.hosts[TARGET].plug("eth0")
        scene.end()


@pytest.mark.timeout(300)
@in_nodes(2)
def test_a_container_moves_on_a_shared_datastore() -> None:
    """Its root is not copied, nor removed where it was, and nothing there holds it any more."""
    with a_container_fleet() as fleet:
        place = Path(os.environ["NEBULA_WORLD"], "shared")
        place.mkdir(mode=0o711)
        place.chmod(0o711)
        share(place, fleet.hosts.values(), f"{ROOT}/datastores/0")
        vm = fleet.vm(1)
        assert fleet.bring(SOURCE, vm)[0].error is None
        # It is mounted on the nodes, and not on their disks.
        console = place / "1" / "console.log"
        booted = b"nebula-guest: hostname=web-1"
        wait_for(lambda: booted in console.read_bytes(), "it to boot")
        fleet.inside(_WRITE, SOURCE, vm)
        before = fleet.listed(SOURCE, vm)
        found = outcomes(fleet, fleet.moves(SOURCE, TARGET, vm, way=COLD))
        assert (found[SOURCE].error, found[SOURCE].moved) == (None, HAS_LEFT), found
        assert (found[TARGET].error, found[TARGET].moved, found[TARGET].state) == (None, HAS_ARRIVED, "RUNNING")
        assert not [line for line in fleet.mounts(SOURCE) if "disk.0" in line]
        wait_for(lambda: console.read_bytes().count(booted) == 2, "it to boot again")
        assert fleet.listed(TARGET, vm) == before
