# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine has beside its disks comes along: the variables of its firmware; and encrypted disks, where the other
host has their secret."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from in_world import in_nodes

from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.move import (
    COLD,
    HAS_ARRIVED,
    HAS_LEFT,
    HAS_STAYED,
    LIVE,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import SYSTEM_CREATE, SYSTEM_REVERT, VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Os, Vm
from ansible_collections.nebula.provision.tests.integration.fleet import (
    COUNTING,
    ROOT,
    Fleet,
    a_fleet,
    outcomes_of,
    share,
)
from ansible_collections.nebula.provision.tests.integration.kvm_node import BOOTED, wait_for
from ansible_collections.nebula.provision.tests.integration.test_encrypted_disks import PHRASE, SECRET, encrypt
from ansible_collections.nebula.provision.tests.integration.test_system_snapshots import done, recorded, task

VARIABLES = "one-1_VARS.fd"
# Seconds for which a firmware writes nothing once it has done what it does first.
QUIET = 3.0
DEFINITION = f"<secret ephemeral='no' private='yes'><uuid>{SECRET}</uuid></secret>"


def move(fleet: Fleet, vm: Vm, way: str) -> tuple[VmOutcome, VmOutcome]:
    acting = fleet.act(fleet.moves("node1", "node2", vm, way=way, hard=way == COLD))
    left, came = (outcomes_of(acting[name].result())[0] for name in ("node1", "node2"))
    return left, came


def uefi(fleet: Fleet, secure: bool = False) -> Vm:
    vm = fleet.vm(1, memory=128, os=Os(machine="q35", firmware="UEFI", firmware_secure=secure))
    return replace(vm, context=replace(vm.context, target="sda"))


def written_by_its_firmware(path: Path) -> bytes:
    """What is in the file once the firmware has written to it, and is done with that."""
    first = path.read_bytes()
    wait_for(lambda: path.read_bytes() != first and time.time() - path.stat().st_mtime > QUIET, "its firmware", 90)
    return path.read_bytes()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", [LIVE, COLD])
@in_nodes(2)
def test_the_variables_of_its_firmware_come_along(way: str) -> None:
    with a_fleet() as fleet:
        vm = uefi(fleet)
        assert fleet.bring("node1", vm)[0].error is None
        variables = written_by_its_firmware(fleet.directory("node1", vm) / VARIABLES)
        left, came = move(fleet, vm, way)
        assert (left.error, left.moved) == (None, HAS_LEFT), (left, came)
        assert (came.error, came.moved, came.state) == (None, HAS_ARRIVED, "RUNNING"), came
        assert (fleet.directory("node2", vm) / VARIABLES).read_bytes() == variables
        assert not fleet.directory("node1", vm).exists()
        assert not fleet.bring("node2", vm)[0].changed


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", [LIVE, COLD])
@in_nodes(2)
def test_the_variables_on_a_shared_datastore_stay_where_they_are(way: str) -> None:
    """The old host forgets the machine, and not the file that is the new one's."""
    with a_fleet() as fleet:
        place = Path(os.environ["NEBULA_WORLD"], f"firmware-{way}")
        place.mkdir(mode=0o711)
        place.chmod(0o711)
        share(place, fleet.hosts.values(), f"{ROOT}/datastores/0")
        vm = uefi(fleet)
        assert fleet.bring("node1", vm)[0].error is None
        variables = written_by_its_firmware(place / "1" / VARIABLES)
        number = (place / "1" / VARIABLES).stat().st_ino
        left, came = move(fleet, vm, way)
        assert (left.error, left.moved) == (None, HAS_LEFT), (left, came)
        assert (came.error, came.moved, came.state) == (None, HAS_ARRIVED, "RUNNING"), came
        # Another one would have another number, and begin as libvirt's template.
        assert (place / "1" / VARIABLES).stat().st_ino == number
        assert way == COLD or (place / "1" / VARIABLES).read_bytes() == variables


@pytest.mark.timeout(300)
@in_nodes(2)
def test_snapshots_without_memory_come_along() -> None:
    """One with memory keeps the machine where it is (test_moving.py)."""
    with a_fleet() as fleet:
        vm = fleet.vm(1)
        vm = replace(vm, disks=(*vm.disks, Disk(2, "vdb", type="FS", format="qcow2", driver="qcow2", size=4)))

        def pattern(host: str, command: str) -> str:
            path = str(fleet.directory(host, vm) / "disk.2")
            done = subprocess.run(["qemu-io", "-f", "qcow2", "-c", command, path], check=True, capture_output=True)
            return done.stdout.decode()

        assert fleet.bring("node1", vm, wanted="POWEROFF")[0].error is None
        pattern("node1", "write -P 0x11 64k 64k")
        made = task(SYSTEM_CREATE, "1", memory=False)
        done(fleet.bring("node1", vm, wanted="POWEROFF", tasks=(made,))[0], "POWEROFF")
        pattern("node1", "write -P 0x22 64k 64k")
        vm = recorded(vm, 0, memory=False)
        plans = fleet.moves("node1", "node2", vm, way=COLD, wanted="POWEROFF", hard=True)
        (came,) = outcomes_of(fleet.act(plans)["node2"].result())
        assert (came.error, came.moved, came.state) == (None, HAS_ARRIVED, "POWEROFF"), came
        assert "failed" not in pattern("node2", "read -P 0x22 64k 64k")
        back = task(SYSTEM_REVERT, "2", memory=False)
        done(fleet.bring("node2", vm, wanted="POWEROFF", tasks=(back,))[0], "POWEROFF")
        assert "failed" not in pattern("node2", "read -P 0x11 64k 64k")
        done(fleet.bring("node2", vm)[0])


@contextmanager
def encrypted() -> Iterator[tuple[Fleet, Vm]]:
    """A fleet whose first host has the secret of a machine's disk."""
    with a_fleet() as fleet:
        place = Path(os.environ["NEBULA_WORLD"])
        plain, made = place / "plain.raw", place / "luks.qcow2"
        plain.write_bytes(COUNTING.ljust(1 << 20, b"\0"))
        encrypt(str(plain), str(made))
        path = f"{ROOT}/luks.qcow2"
        for host in fleet.hosts.values():
            host.run("cp", str(made), path)
            host.run("chown", "root:kvm", path)
            host.run("chmod", "0440", path)
        give_secret(fleet, "node1")
        vm = fleet.vm(1)
        disk = replace(vm.disks[0], image="luks", image_uuid="l", source=path, luks_secret=SECRET)
        yield fleet, replace(vm, disks=(disk,))


def give_secret(fleet: Fleet, host: str) -> None:
    fleet.hosts[host].run("virsh", "secret-define", "/dev/stdin", input=DEFINITION)
    fleet.hosts[host].run("virsh", "secret-set-value", SECRET, "--file", "/dev/stdin", "--plain", input=PHRASE)


@pytest.mark.timeout(300)
@in_nodes(2)
def test_an_encrypted_disk_comes_where_its_secret_is() -> None:
    with encrypted() as (fleet, vm):
        assert fleet.bring("node1", vm)[0].error is None
        fleet.wait_for_boot("node1", vm)
        for way in (LIVE, COLD):
            left, came = move(fleet, vm, way)
            assert left.moved == HAS_STAYED and came.error is not None
            assert came.error["found"].endswith(f"encrypted, and this host does not have its secret {SECRET}")
            assert "nebula_luks_secrets" in came.error["remedy"]
        give_secret(fleet, "node2")
        left, came = move(fleet, vm, LIVE)
        assert left.moved == HAS_STAYED and came.error is not None
        assert "such a disk is copied only while its machine is off" in came.error["found"]
        # It was not even powered off.
        assert fleet.console("node1", vm).count(BOOTED) == 1
        assert not fleet.directory("node2", vm).exists()
        left, came = move(fleet, vm, COLD)
        assert (left.error, left.moved) == (None, HAS_LEFT), (left, came)
        assert (came.error, came.moved, came.state) == (None, HAS_ARRIVED, "RUNNING"), came
        fleet.wait_for_boot("node2", vm, 2)
        assert PHRASE.encode() not in (fleet.directory("node2", vm) / "vm.log").read_bytes()


@pytest.mark.timeout(300)
@in_nodes(2)
def test_an_encrypted_disk_on_a_shared_datastore_moves_while_it_runs() -> None:
    with encrypted() as (fleet, vm):
        give_secret(fleet, "node2")
        place = Path(os.environ["NEBULA_WORLD"], "encrypted")
        place.mkdir(mode=0o711)
        place.chmod(0o711)
        share(place, fleet.hosts.values(), f"{ROOT}/datastores/0")
        assert fleet.bring("node1", vm)[0].error is None
        log = place / "1" / "console.log"
        wait_for(lambda: BOOTED in log.read_bytes(), "it to boot")
        left, came = move(fleet, vm, LIVE)
        assert (left.error, left.moved) == (None, HAS_LEFT), (left, came)
        assert (came.error, came.moved, came.state) == (None, HAS_ARRIVED, "RUNNING"), came
        before = log.stat().st_size
        wait_for(lambda: log.stat().st_size > before, "it to go on")
        assert log.read_bytes().count(BOOTED) == 1
