# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers of OpenVZ move between two nodes on which a stand-in for vzctl is (tests/tools/vzctl_stand_in.py): no
container runs, and what runs is a word in a file. Their private areas are real, with owners and device nodes of the
host's root."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import stat
import sys
import tarfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from in_world import in_nodes

from ansible_collections.nebula.provision.plugins.module_utils.model.context import Context
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.move import (
    COLD,
    HAS_ARRIVED,
    HAS_LEFT,
    HAS_STAYED,
    IS_ABSENT,
    LIVE,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Plan, VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.tests.integration.fleet import CHECKOUT, ROOT, Fleet, outcomes_of
from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for

SOURCE, TARGET = "node1", "node2"
HOSTS = (SOURCE, TARGET)
MIB = 1 << 20
# So slow that it takes some seconds.
RATE, DATA = "60mbit", 24
PLACE = "/var/lib/vz"
MEETING = 60
CTID = 100001

_FURNISH = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import vzctl_stand_in
vzctl_stand_in.furnish(Path("/etc/vz"), Path(sys.argv[2]))
vzctl_stand_in.install(Path(sys.argv[2], "bin"))
"""


class ContainersOfOpenvz(Fleet):
    hypervisor = "openvz"
    base = f"{ROOT}/base.tar"

    def __init__(self, place: Path, kernel: str) -> None:
        image = place / "base.tar"
        with tarfile.open(image, "w") as tar:
            for name in ("etc", "mnt", "dev"):
                entry = tarfile.TarInfo(name)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
            entry = tarfile.TarInfo("etc/issue")
            entry.size = 7
            tar.addfile(entry, io.BytesIO(b"welcome"))
        super().__init__(str(image), 2)
        # Where the programs of a node look for it.
        self._path = os.environ["PATH"]
        os.environ["VZ_STAND_IN_KERNEL"] = kernel
        os.environ["PATH"] = f"{PLACE}/bin:{self._path}"
        for host in self.hosts.values():
            host.run(sys.executable, "-c", _FURNISH, str(CHECKOUT / "tests/tools"), PLACE)

    def vm(self, vm_id: int, **changes: Any) -> Vm:
        root = Disk(
            0, "", image="debian-12", image_uuid="b", source=self.base, format="tar", driver="tar", by_hypervisor=True
        )
        swap = Disk(1, "", type="SWAP", size=32, format="raw", driver="raw", by_hypervisor=True)
        vm = Vm(
            vm_id,
            str(uuid.uuid5(uuid.UUID(self.catalog), str(vm_id))),
            f"web-{vm_id}",
            "openvz",
            cpu=0.5,
            memory=64,
            disks=(root, swap),
            context=Context(disk_id=9, target="", variables={"SET_HOSTNAME": f"web-{vm_id}"}),
        )
        return replace(vm, **changes)

    def moves(self, source: str, target: str, *vms: Vm, **values: Any) -> dict[str, Plan]:
        plans = super().moves(source, target, *vms, **values)
        # Both modules have to have begun by then, on a machine that has much else to do.
        patient = {
            name: tuple(replace(each, move=replace(each.move, meeting=MEETING)) for each in plan.vms if each.move)
            for name, plan in plans.items()
        }
        return {name: replace(plan, vms=patient[name]) for name, plan in plans.items()}

    def private(self, host: str, vm: Vm) -> Path:
        return self.directory(host, vm) / "images/private"

    def of_vzctl(self, host: str) -> list[str]:
        """What a host has of containers in /etc/vz, and which of them run."""
        etc = self.hosts[host].path("/etc/vz")
        places = (etc / "conf", etc / "names", self.hosts[host].path(f"{PLACE}/lock"))
        return sorted(name for place in places for name in os.listdir(place))

    def close(self) -> None:
        os.environ["PATH"] = self._path
        del os.environ["VZ_STAND_IN_KERNEL"]
        for host in self.hosts.values():
            host.run("rm", "-rf", "/etc/vz", PLACE, check=False)
        super().close()


@contextmanager
def a_fleet_of_openvz(kernel: str = "") -> Iterator[ContainersOfOpenvz]:
    """kernel: "vz" for one of OpenVZ, without which no container is saved and restored in steps."""
    fleet = ContainersOfOpenvz(Path(os.environ["NEBULA_WORLD"]), kernel)
    try:
        yield fleet
    finally:
        fleet.close()


def write(private: Path) -> None:
    """What a container may have in its root."""
    data = private / "data"
    data.mkdir(mode=0o2750)
    (data / "plain").write_bytes(b"what the machine wrote")
    os.chown(data / "plain", 1000, 3_000_000_000)
    (data / "program").write_bytes(b"#!/bin/sh")
    os.link(data / "program", data / "another name")
    os.setxattr(data / "program", "user.mark", b"\0binary")
    os.setxattr(data / "program", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    (data / "set-uid").write_bytes(b"#!/bin/sh")
    (data / "set-uid").chmod(0o4755)
    with (data / "sparse").open("wb") as file:
        file.truncate(1 << 30)
        file.seek(1 << 29)
        file.write(b"in the middle")
    (data / "link").symlink_to("/etc/passwd")
    os.mkfifo(data / "pipe")
    os.mknod(private / "dev/null", 0o20600, os.makedev(1, 3))
    (private / "dev/null").chmod(0o666)
    os.mknod(private / "dev/sda", 0o60600, os.makedev(8, 0))
    os.chown(private / "dev/sda", 0, 6)
    os.utime(private / "dev/sda", ns=(10**18, 10**18))
    os.utime(private / "dev", ns=(10**18, 10**18))
    (private / "etc/issue").unlink()


def listed(private: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in (private, *sorted(private.rglob("*"))):
        at = path.lstat()
        name = str(path.relative_to(private))
        found[name] = [at.st_mode, at.st_uid, at.st_gid, at.st_rdev, at.st_mtime_ns]
        if path.is_symlink():
            found[name].append(os.readlink(path))
        elif stat.S_ISREG(at.st_mode):
            marks = {each: os.getxattr(path, each).hex() for each in os.listxattr(path)}
            with path.open("rb") as file:
                file.seek(1 << 29 if at.st_size > 1 << 29 else 0)
                found[name] += [at.st_nlink, at.st_size, file.read(1 << 25).hex()[:100], at.st_blocks < 1 << 17, marks]
    # A context is written anew before each start.
    return {name: each for name, each in found.items() if name.split("/")[0] != "mnt"}


def outcomes(fleet: ContainersOfOpenvz, plans: Mapping[str, Plan]) -> dict[str, VmOutcome]:
    return {name: outcomes_of(acting.result())[0] for name, acting in fleet.act(plans).items()}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("wanted", ["RUNNING", "POWEROFF"])
@in_nodes(2)
def test_a_container_moves_with_all_of_its_private_area_and_returns(wanted: str) -> None:
    with a_fleet_of_openvz() as fleet:
        vm = fleet.vm(1)
        assert fleet.bring(SOURCE, vm)[0].error is None
        write(fleet.private(SOURCE, vm))
        before = listed(fleet.private(SOURCE, vm))
        assert stat.S_ISBLK(before["dev/sda"][0]) and before["data/plain"][1:3] == [1000, 3_000_000_000]
        if wanted == "POWEROFF":
            assert fleet.bring(SOURCE, vm, wanted=wanted)[0].error is None
        for source, target in ((SOURCE, TARGET), (TARGET, SOURCE)):
            found = outcomes(fleet, fleet.moves(source, target, vm, way=COLD, wanted=wanted))
            assert (found[source].error, found[source].moved) == (None, HAS_LEFT), found
            assert (found[target].error, found[target].moved, found[target].state) == (None, HAS_ARRIVED, wanted)
            assert (fleet.states(source), fleet.states(target)) == ({}, {1: wanted})
            assert not fleet.directory(source, vm).exists() and fleet.of_vzctl(source) == []
            assert listed(fleet.private(target, vm)) == before
            assert stat.S_IMODE(fleet.private(target, vm).parent.stat().st_mode) == 0o700
            written = fleet.private(target, vm).parent / "context.json"
            assert stat.S_IMODE(written.stat().st_mode) == 0o600 and "context.sh" in written.read_text(encoding="utf-8")
            assert fleet.bring(target, vm, wanted=wanted)[0].error is None
        assert fleet.bring(SOURCE, vm)[0].error is None
        assert fleet.states(SOURCE) == {1: "RUNNING"} and listed(fleet.private(SOURCE, vm)) == before


@pytest.mark.timeout(300)
@in_nodes(2)
def test_a_container_that_was_never_started_has_its_first_start_on_the_other_host() -> None:
    with a_fleet_of_openvz() as fleet:
        vm = fleet.vm(1)
        assert fleet.bring(SOURCE, vm, wanted="POWEROFF")[0].error is None
        assert not fleet.private(SOURCE, vm).exists()
        found = outcomes(fleet, fleet.moves(SOURCE, TARGET, vm, way=COLD, wanted="POWEROFF"))
        assert (found[SOURCE].error, found[SOURCE].moved) == (None, HAS_LEFT), found
        assert (found[TARGET].error, found[TARGET].moved) == (None, HAS_ARRIVED)
        assert fleet.bring(TARGET, vm)[0].error is None
        assert (fleet.private(TARGET, vm) / "etc/issue").read_bytes() == b"welcome"


class Scene:
    """A container that runs on the source with much in its root, and its move over a slow link."""

    def __init__(self, fleet: ContainersOfOpenvz, way: str = COLD) -> None:
        self.fleet = fleet
        self.vm = fleet.vm(1)
        brought = fleet.bring(SOURCE, self.vm)[0]
        assert brought.error is None, brought
        private = fleet.private(SOURCE, self.vm)
        write(private)
        (private / "data/much").write_bytes(os.urandom(DATA * MIB))
        self.before = listed(private)
        slow = ("tbf", "rate", RATE, "burst", "64kb", "latency", "400ms")
        fleet.hosts[SOURCE].run("tc", "qdisc", "replace", "dev", "eth0", "root", *slow)
        self.plans = fleet.moves(SOURCE, TARGET, self.vm, way=way)
        self.process = process_of(fleet, SOURCE)
        self.acting = fleet.act(self.plans)

    def wait_for_half(self) -> None:
        much = self.fleet.directory(TARGET, self.vm) / "images/private.unpacking/data/much"

        def is_there() -> bool:
            with contextlib.suppress(FileNotFoundError):
                return much.stat().st_blocks * 512 > DATA * MIB // 2
            return False

        wait_for(is_there, "half of it")

    def end(self) -> None:
        """The next run ends it: the container runs at the source, and nothing of it is at the target."""
        assert self.fleet.settle(self.plans, self.vm) == SOURCE
        assert (self.fleet.states(SOURCE), self.fleet.states(TARGET)) == ({1: "RUNNING"}, {})
        assert not self.fleet.directory(TARGET, self.vm).exists() and self.fleet.of_vzctl(TARGET) == []
        assert self.fleet.poll(TARGET)["moves"] == []
        assert listed(self.fleet.private(SOURCE, self.vm)) == self.before


@pytest.mark.timeout(300)
@pytest.mark.parametrize("host", HOSTS)
@in_nodes(2)
def test_a_module_is_killed_while_the_private_area_comes(host: str) -> None:
    with a_fleet_of_openvz() as fleet:
        scene = Scene(fleet)
        scene.wait_for_half()
        os.killpg(scene.acting[host].process.pid, signal.SIGKILL)
        for acting in scene.acting.values():
            acting.result()
        scene.end()


@pytest.mark.timeout(300)
@in_nodes(2)
def test_the_link_is_cut_while_the_private_area_comes() -> None:
    with a_fleet_of_openvz() as fleet:
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


# -- while it runs -----------------------------------------------------------------------------------------------------
def process_of(fleet: ContainersOfOpenvz, host: str) -> str:
    """By what the stand-in tells that the same container runs: it notes when it began. "" if none runs."""
    place = fleet.hosts[host].path(f"{PLACE}/lock")
    state = place / f"{CTID}.running"
    return state.read_text(encoding="ascii") if state.exists() and not (place / f"{CTID}.held").exists() else ""


def assert_runs_at(fleet: ContainersOfOpenvz, vm: Vm, host: str, process: str, before: Mapping[str, Any]) -> None:
    """The container runs on this host and nowhere else, as the same one, and nothing else is left of its move."""
    other = next(each for each in HOSTS if each != host)
    assert (fleet.states(host), fleet.states(other)) == ({1: "RUNNING"}, {})
    assert process_of(fleet, host) == process
    assert fleet.of_vzctl(host) == sorted([f"{CTID}.conf", "one-1", f"{CTID}.running"])
    assert fleet.of_vzctl(other) == [] and not fleet.directory(other, vm).exists()
    assert "move.dump" not in os.listdir(fleet.directory(host, vm))
    assert listed(fleet.private(host, vm)) == before
    assert fleet.audit([(vm, host)]) == []


@pytest.mark.timeout(300)
@in_nodes(2)
def test_a_container_moves_while_it_runs_and_returns_as_the_same() -> None:
    with a_fleet_of_openvz(kernel="vz") as fleet:
        vm = fleet.vm(1)
        assert fleet.bring(SOURCE, vm)[0].error is None
        write(fleet.private(SOURCE, vm))
        before, process = listed(fleet.private(SOURCE, vm)), process_of(fleet, SOURCE)
        assert process
        for source, target in ((SOURCE, TARGET), (TARGET, SOURCE)):
            found = outcomes(fleet, fleet.moves(source, target, vm, way=LIVE))
            assert (found[source].error, found[source].moved) == (None, HAS_LEFT), found
            assert (found[target].error, found[target].moved, found[target].state) == (None, HAS_ARRIVED, "RUNNING")
            assert_runs_at(fleet, vm, target, process, before)
            written = fleet.private(target, vm).parent / "context.json"
            assert "context.sh" in written.read_text(encoding="utf-8")
            assert fleet.bring(target, vm)[0].error is None
            assert_runs_at(fleet, vm, target, process, before)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("host", HOSTS)
@in_nodes(2)
def test_a_module_is_killed_while_the_private_area_comes_of_one_that_runs(host: str) -> None:
    with a_fleet_of_openvz(kernel="vz") as fleet:
        scene = Scene(fleet, LIVE)
        scene.wait_for_half()
        # It stands still there, and nobody takes it for one that is off.
        assert fleet.states(SOURCE) == {1: "UNKNOWN"}
        os.killpg(scene.acting[host].process.pid, signal.SIGKILL)
        for acting in scene.acting.values():
            acting.result()
        scene.end()
        assert_runs_at(fleet, scene.vm, SOURCE, scene.process, scene.before)


@pytest.mark.timeout(300)
@in_nodes(2)
def test_the_link_is_cut_while_the_private_area_comes_of_one_that_runs() -> None:
    with a_fleet_of_openvz(kernel="vz") as fleet:
        scene = Scene(fleet, LIVE)
        scene.wait_for_half()
        fleet.hosts[TARGET].unplug("eth0")
        answers = {name: outcomes_of(acting.result())[0].moved for name, acting in scene.acting.items()}
        assert answers == {SOURCE: HAS_STAYED, TARGET: IS_ABSENT}
        # At once, without another run.
        assert_runs_at(fleet, scene.vm, SOURCE, scene.process, scene.before)
        fleet.hosts[TARGET].plug("eth0")
        scene.end()


class Running:
    """A container that runs on the source, and the plans of its move."""

    def __init__(self, fleet: ContainersOfOpenvz) -> None:
        self.fleet = fleet
        self.vm = fleet.vm(1)
        assert fleet.bring(SOURCE, self.vm)[0].error is None
        write(fleet.private(SOURCE, self.vm))
        self.before, self.process = listed(fleet.private(SOURCE, self.vm)), process_of(fleet, SOURCE)
        self.plans = fleet.moves(SOURCE, TARGET, self.vm, way=LIVE)

    def runs_at(self, host: str) -> None:
        assert_runs_at(self.fleet, self.vm, host, self.process, self.before)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "host, environment, words",
    [
        (TARGET, {"VZ_STAND_IN_FAILS": "undump:17"}, "the other host can't restore it"),
        (TARGET, {"VZ_STAND_IN_LIES": "1"}, "it is not there"),
        (SOURCE, {"VZ_STAND_IN_FAILS": "suspend:16"}, "could not be saved"),
        (SOURCE, {"VZ_STAND_IN_FAILS": "dump:16"}, "could not be saved"),
        (SOURCE, {"VZ_STAND_IN_KERNEL": ""}, "kernel does not save and restore containers"),
        (TARGET, {"VZ_STAND_IN_KERNEL": ""}, "kernel does not save and restore containers"),
        (TARGET, {"VZ_STAND_IN_VERSION": "30"}, "CPT version 31 rejected"),
        (TARGET, {"VZ_STAND_IN_CAPS": "7"}, "Insufficient CPU capabilities"),
    ],
)
@in_nodes(2)
def test_a_container_goes_on_where_it_is_if_a_step_of_its_move_fails(
    host: str, environment: dict[str, str], words: str
) -> None:
    with a_fleet_of_openvz(kernel="vz") as fleet:
        scene = Running(fleet)
        acting = fleet.act(scene.plans, **{host: environment})
        found = {name: outcomes_of(each.result())[0] for name, each in acting.items()}
        assert {name: each.moved for name, each in found.items()} == {SOURCE: HAS_STAYED, TARGET: IS_ABSENT}
        assert words in str(found[SOURCE].error), found
        scene.runs_at(SOURCE)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "host, step, states, owner",
    [
        (SOURCE, "suspend:after", ["UNKNOWN", "POWEROFF"], SOURCE),
        (SOURCE, "dump:after", ["UNKNOWN", "POWEROFF"], SOURCE),
        (TARGET, "undump:before", ["UNKNOWN", "POWEROFF"], SOURCE),
        (TARGET, "undump:after", ["UNKNOWN", "UNKNOWN"], SOURCE),
        (SOURCE, "kill:before", [None, "UNKNOWN"], TARGET),
        (TARGET, "resume:before", [None, "UNKNOWN"], TARGET),
        (TARGET, "resume:after", [None, "UNKNOWN"], TARGET),
    ],
)
@in_nodes(2)
def test_a_module_is_killed_at_a_step_of_a_move(host: str, step: str, states: list[str], owner: str) -> None:
    with a_fleet_of_openvz(kernel="vz") as fleet:
        scene = Running(fleet)
        acting = fleet.act(scene.plans, **{host: {"VZ_STAND_IN_PAUSES": step}})
        pause = fleet.hosts[host].path(f"{PLACE}/lock/{CTID}.pause")
        wait_for(pause.exists, f"{step} at {host}")
        found = {name: fleet.states(name).get(1) for name in HOSTS}
        os.killpg(acting[host].process.pid, signal.SIGKILL)
        pause.unlink()
        for each in acting.values():
            each.result()
        # Nobody counted two of them as running.
        assert [found[SOURCE], found[TARGET]] == states, found
        assert fleet.settle(scene.plans, scene.vm) == owner
        scene.runs_at(owner)
