# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of a machine's TPM comes along, and is on one host alone when the move is over."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import struct
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from in_world import in_nodes

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.tpm_state import STATES
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.move import (
    COLD,
    HAS_ARRIVED,
    HAS_LEFT,
    HAS_STAYED,
    LIVE,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Tpm, Vm
from ansible_collections.nebula.provision.tests.integration.fleet import ROOT, Fleet, a_fleet, outcomes_of, share
from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for

pytestmark = pytest.mark.skipif(shutil.which("swtpm") is None, reason="needs swtpm")

# The owner's hierarchy, its empty password, and a place of the owner's in the TPM's memory that lasts.
OWNER, PASSWORD, INDEX = 0x40000001, struct.pack(">IHBH", 0x40000009, 0, 0, 0), 0x01500001
SESSIONS, DEFINE, WRITE, READ = 0x8002, 0x12A, 0x137, 0x14E
# Its owner reads and writes it.
ATTRIBUTES = 0x02060006
VALUE = b"known to this TPM alone"


def request(code: int, handles: bytes, parameters: bytes) -> bytes:
    body = handles + struct.pack(">I", len(PASSWORD)) + PASSWORD + parameters
    return struct.pack(">HII", SESSIONS, 10 + len(body), code) + body


class Tpm2:
    """A TPM that runs beside no machine, on the state that a machine has which is off."""

    def __init__(self, state: Path) -> None:
        self.socket = Path(os.environ["NEBULA_WORLD"], "swtpm")
        self.process = subprocess.Popen(
            ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--server", f"type=unixio,path={self.socket}",
             "--flags", "not-need-init,startup-clear"],
        )  # fmt: skip

    def __enter__(self) -> Tpm2:
        wait_for(self.socket.is_socket, "swtpm to listen")
        self.connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.connection.connect(str(self.socket))
        return self

    def __exit__(self, *_error: object) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.wait(30)
        self.socket.unlink(missing_ok=True)

    def ask(self, code: int, handles: bytes, parameters: bytes) -> bytes:
        self.connection.sendall(request(code, handles, parameters))
        answer = self.connection.recv(4096)
        result = struct.unpack(">HII", answer[:10])[2]
        assert result == 0, f"{code:#x}: {result:#x}"
        return answer[14:]

    def keep(self, value: bytes) -> None:
        public = struct.pack(">IHIHH", INDEX, 0x000B, ATTRIBUTES, 0, len(value))
        self.ask(DEFINE, struct.pack(">I", OWNER), struct.pack(">HH", 0, len(public)) + public)
        written = struct.pack(">H", len(value)) + value + struct.pack(">H", 0)
        self.ask(WRITE, struct.pack(">II", OWNER, INDEX), written)

    def kept(self, length: int) -> bytes:
        answer = self.ask(READ, struct.pack(">II", OWNER, INDEX), struct.pack(">HH", length, 0))
        (size,) = struct.unpack(">H", answer[:2])
        return answer[2 : 2 + size]


def state(fleet: Fleet, host: str, vm: Vm) -> Path:
    return fleet.hosts[host].path(f"{STATES}/{vm.uuid}/tpm2/tpm2-00.permall")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def move(fleet: Fleet, vm: Vm, way: str, **orders: Any) -> tuple[VmOutcome, VmOutcome]:
    acting = fleet.act(fleet.moves("node1", "node2", vm, way=way, hard=way == COLD, **orders))
    left, came = (outcomes_of(acting[name].result())[0] for name in ("node1", "node2"))
    return left, came


def with_a_value(fleet: Fleet, wanted: str = "RUNNING", disks: int = 0) -> Vm:
    """A machine on the first node, with a value in its TPM. disks: MiB of a disk full of data, 0 for none."""
    vm = fleet.vm(1, tpm=Tpm())
    if disks:
        vm = replace(vm, disks=(*vm.disks, Disk(1, "vdb", type="FS", size=disks, format="raw", driver="raw")))
    assert fleet.bring("node1", vm)[0].error is None
    assert fleet.bring("node1", vm, wanted="POWEROFF", hard=True)[0].error is None
    if disks:
        (fleet.directory("node1", vm) / "disk.1").write_bytes(os.urandom(disks << 20))
    with Tpm2(state(fleet, "node1", vm).parent) as tpm:
        tpm.keep(VALUE)
    if wanted == "RUNNING":
        assert fleet.bring("node1", vm)[0].error is None
        fleet.wait_for_boot("node1", vm)
    return vm


def value_at(fleet: Fleet, host: str, vm: Vm) -> bytes:
    assert fleet.bring(host, vm, wanted="POWEROFF", hard=True)[0].error is None
    with Tpm2(state(fleet, host, vm).parent) as tpm:
        return tpm.kept(len(VALUE))


def has_state(fleet: Fleet, host: str, vm: Vm) -> bool:
    return fleet.hosts[host].path(f"{STATES}/{vm.uuid}").exists()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", [LIVE, COLD])
@in_nodes(2)
def test_the_state_of_a_tpm_comes_along(way: str) -> None:
    with a_fleet() as fleet:
        vm = with_a_value(fleet)
        left, came = move(fleet, vm, way)
        assert (left.error, left.moved) == (None, HAS_LEFT), (left, came)
        assert (came.error, came.moved, came.state) == (None, HAS_ARRIVED, "RUNNING"), came
        assert not has_state(fleet, "node1", vm)
        assert value_at(fleet, "node2", vm) == VALUE
        # It ends with the machine.
        assert fleet.bring("node2", vm, wanted="DONE", hard=True)[0].error is None
        assert not has_state(fleet, "node2", vm)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("shared", [False, True])
@in_nodes(2)
def test_the_state_of_a_machine_that_is_off_comes_as_it_is(shared: bool) -> None:
    """Where both hosts see the machine's directory, too: it is not in there."""
    with a_fleet() as fleet:
        if shared:
            place = Path(os.environ["NEBULA_WORLD"], "datastore")
            place.mkdir(mode=0o711)
            place.chmod(0o711)
            share(place, fleet.hosts.values(), f"{ROOT}/datastores/0")
        vm = with_a_value(fleet, "POWEROFF")
        known = digest(state(fleet, "node1", vm))
        left, came = move(fleet, vm, COLD, wanted="POWEROFF")
        assert (left.error, left.moved, came.error, came.state) == (None, HAS_LEFT, None, "POWEROFF"), (left, came)
        assert digest(state(fleet, "node2", vm)) == known
        for path, mode in ((state(fleet, "node2", vm), 0o600), (state(fleet, "node2", vm).parent, 0o700)):
            # Root's alone until the machine starts, and swtpm's user's from then on.
            assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (0, mode)
        assert not has_state(fleet, "node1", vm)
        assert fleet.bring("node2", vm)[0].error is None
        assert value_at(fleet, "node2", vm) == VALUE


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", [LIVE, COLD])
@in_nodes(2)
def test_a_move_that_fails_leaves_the_state_where_it_was(way: str) -> None:
    with a_fleet() as fleet:
        vm = with_a_value(fleet, disks=64)
        # By this link it takes more than a minute.
        slow = ("tbf", "rate", "8mbit", "burst", "64kb", "latency", "400ms")
        fleet.hosts["node1"].run("tc", "qdisc", "replace", "dev", "eth0", "root", *slow)
        plans = fleet.moves("node1", "node2", vm, way=way, hard=True, limit=15)
        acting = fleet.act(plans)
        wait_for(lambda: has_state(fleet, "node2", vm), "the state to come, or libvirt to make room for it", 30)
        left, _came = (outcomes_of(acting[name].result())[0] for name in ("node1", "node2"))
        assert left.moved == HAS_STAYED and left.error is not None
        fleet.hosts["node1"].run("tc", "qdisc", "delete", "dev", "eth0", "root")
        assert fleet.settle(plans, vm) == "node1"
        assert not has_state(fleet, "node2", vm)
        assert (fleet.states("node1"), fleet.states("node2")) == ({1: "RUNNING"}, {})
        assert value_at(fleet, "node1", vm) == VALUE


@pytest.mark.timeout(300)
@in_nodes(2)
def test_a_host_that_has_a_state_of_it_takes_none() -> None:
    with a_fleet() as fleet:
        vm = with_a_value(fleet, "POWEROFF")
        known = fleet.hosts["node2"].path(f"{STATES}/{vm.uuid}")
        known.mkdir(parents=True)
        left, came = move(fleet, vm, COLD, wanted="POWEROFF")
        assert left.moved == HAS_STAYED and came.error is not None
        assert f"has the state of a TPM of a machine with UUID {vm.uuid} already" in came.error["found"]
        # It is somebody else's.
        assert known.is_dir() and has_state(fleet, "node1", vm)
