# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine has beside its disks, in its backups: variables of UEFI, and the state of a TPM, which is a secret."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from backing_up import back_up_all
from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.errors import ChecksumMismatch
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import (
    disk_restores,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.tpm_state import STATES
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import (
    NODE,
    BackupRequest,
    MachineBackup,
    MachineToBackUp,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_restore import MachineToRestore
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Os, Tpm, Vm
from ansible_collections.nebula.provision.plugins.module_utils.storage import backup_verification
from ansible_collections.nebula.provision.plugins.module_utils.storage.backup_place import Place
from ansible_collections.nebula.provision.tests.integration.kvm_node import Node, a_node

pytestmark = pytest.mark.skipif(shutil.which("swtpm") is None, reason="needs swtpm")
KEY = "a key of the user's"
# It ends with zeroes, and within a sector; a part of it is zeroes, too.
STATE = b"known to this TPM alone" + bytes(70_000) + b"and this\n" + bytes(77)


@contextmanager
def a_machine() -> Iterator[tuple[Node, Vm, Path]]:
    """Off, with a state of its TPM."""
    with a_node() as node:
        vm = node.vm(1, memory=128, os=Os(machine="q35", firmware="UEFI"), tpm=Tpm("tpm-crb", "2.0"))
        vm = replace(vm, context=replace(vm.context, target="sda"))
        assert node.one(vm).error is None
        assert node.one(vm, "POWEROFF", hard=True).error is None
        state = Path(STATES, vm.uuid, "tpm2/tpm2-00.permall")
        assert state.stat().st_size > 0
        state.write_bytes(STATE)
        yield node, vm, state
        assert node.one(vm, "DONE", hard=True).error is None


def back_up(node: Node, vm: Vm, directory: str, key: str = "") -> str:
    machine = MachineToBackUp(vm, node.ledger[vm.vm_id].generation, "node", secrets={"CONTEXT/PASSWORD": "p"})
    wanted = BackupRequest(node.catalog, directory, NODE, (machine,), key=key)
    (outcome,) = back_up_all(wanted, node.driver, node.root)
    assert not outcome["error"], outcome["error"]
    return str(outcome["id"])


def of_machine(node: Node, vm: Vm, directory: str, id: str, key: str = "") -> tuple[Path, MachineBackup, list[str]]:
    """Where its backups are, the one of that id, and what is wrong with all of them."""
    place = Place.open(directory, node.catalog, for_writing=True)
    with place.machine(vm.vm_id, node.catalog, key) as held:
        faults = [text for each in backup_verification.verify(held) for text in each.faults]
        return Path(held.directory), held.get(id), faults


def is_in_the_clear(place: Path) -> list[str]:
    return [path.name for path in place.iterdir() if path.is_file() and STATE[:23] in path.read_bytes()]


@in_world
def test_without_a_key_the_state_of_the_tpm_is_left_out() -> None:
    with a_machine() as (node, vm, state):
        directory = f"{node.root}-plain"
        id = back_up(node, vm, directory)
        place, backup, faults = of_machine(node, vm, directory, id)
        assert (list(backup.files), faults, is_in_the_clear(place)) == (["nvram"], [], [])
        assert backup.left_out[-1] == (
            "the state of its TPM: it is a secret, and is kept under a key alone (nebula_machine_backup_key)"
        )
        variables = node.directory(vm) / "one-1_VARS.fd"
        before = variables.read_bytes()
        assert (place / backup.files["nvram"].name).read_bytes() == before
        variables.write_bytes(bytes(len(before)))
        done = disk_restores.restore(
            MachineToRestore(node.catalog, vm, node.number, directory, id), node.driver, node.root
        )
        assert (done.files, variables.read_bytes(), state.read_bytes()) == (("nvram",), before, STATE)
        assert any("the state of its TPM stays as it is" in each for each in done.warnings)


@in_world
def test_with_a_key_both_are_encrypted_and_come_back_to_the_last_byte() -> None:
    with a_machine() as (node, vm, state):
        directory = f"{node.root}-encrypted"
        id = back_up(node, vm, directory, KEY)
        place, backup, faults = of_machine(node, vm, directory, id, KEY)
        assert (sorted(backup.files), faults, is_in_the_clear(place)) == (["nvram", "tpm"], [], [])
        assert not any("TPM" in each for each in backup.left_out)
        variables = node.directory(vm) / "one-1_VARS.fd"
        before = variables.read_bytes()
        assert [backup.files[name].holds for name in ("nvram", "tpm")] == [len(before), len(STATE)]
        for file in backup.files.values():
            assert (place / file.name).read_bytes()[:4] == b"LUKS"
        by_hand(node, backup, place, before)
        wanted = MachineToRestore(node.catalog, vm, node.number, directory, id, key=KEY)
        # More than once: what was there goes, and what was restored stays.
        for _again in range(2):
            variables.write_bytes(bytes(len(before)))
            state.write_bytes(b"of another time")
            done = disk_restores.restore(wanted, node.driver, node.root)
            assert done.files == ("nvram", "tpm")
            assert (variables.read_bytes(), state.read_bytes()) == (before, STATE)
        altered(node, vm, directory, backup, place)


def by_hand(node: Node, backup: MachineBackup, place: Path, variables: bytes) -> None:
    target, key = Path(f"{node.root}-by-hand"), Path(f"{node.root}-key")
    key.write_text(KEY, encoding="ascii")
    script = "set -e\n" + "\n".join(backup.by_hand)
    surroundings = {**os.environ, "TO": str(target), "KEY_FILE": str(key)}
    for _attempt in range(20):
        done = subprocess.run(
            ["sh", "-c", script], cwd=place, env=surroundings, check=False, capture_output=True, text=True
        )
        if "accurate CPU usage" not in done.stderr:
            break
    assert done.returncode == 0, done.stderr
    assert (target / "tpm").read_bytes() == STATE
    assert (target / "nvram").read_bytes() == variables
    assert (target / "disk.0").exists()


def altered(node: Node, vm: Vm, directory: str, backup: MachineBackup, place: Path) -> None:
    """What is not what its manifest says is noticed: a file by anybody, and its content by who has the key."""
    tpm = backup.files["tpm"]
    with Place.open(directory, node.catalog, for_writing=True).machine(vm.vm_id, node.catalog, KEY) as held:
        held.write(replace(backup, files={**backup.files, "tpm": replace(tpm, holds=1000)}))
    faults = of_machine(node, vm, directory, backup.id)[2]
    assert faults == []
    faults = of_machine(node, vm, directory, backup.id, KEY)[2]
    assert len(faults) == 1 and "tpm.luks does not hold 1000 bytes" in faults[0], faults
    with (place / tpm.name).open("r+b") as file:
        file.seek(-512, os.SEEK_END)
        file.write(bytes(512))
    (fault,) = of_machine(node, vm, directory, backup.id)[2]
    assert "SHA-256" in fault
    wanted = MachineToRestore(node.catalog, vm, node.number, directory, backup.id, key=KEY)
    with pytest.raises(ChecksumMismatch):
        disk_restores.restore(wanted, node.driver, node.root)
