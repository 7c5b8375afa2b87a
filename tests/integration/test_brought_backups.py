# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks of machines restored in their places from backups that another host has and brings: byte for byte, refused, and
with either side killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from backing_up import back_up_all
from in_world import in_world
from made_backups import MadeBackups, altered
from move_pairs import Beside, free_port, key_pair

from ansible_collections.nebula.provision.plugins.module_utils.errors import ChecksumMismatch, NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.backups.bringing import bring
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.backups.receiving import Foreseen, receive
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import disk_restores
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.machine_record import read_record
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import (
    NODE,
    BackupPassage,
    BackupRequest,
    MachineBackup,
    MachineToBackUp,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_restore import (
    MachineRestored,
    MachineToRestore,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.storage.backup_place import Place
from ansible_collections.nebula.provision.tests.integration.kvm_node import GUEST, Node, a_node
from ansible_collections.nebula.provision.tests.integration.test_encrypted_disks import (
    PHRASE,
    SECRET,
    an_encrypted_node,
    first_sector,
    keep,
    open_options,
)
from ansible_collections.nebula.provision.tests.integration.test_machine_restore import (
    DISKS,
    MIB,
    backups,
    contents,
    machine,
    made_content,
    only_disks,
)


class Pair:
    """The two requests of one restore."""

    def __init__(self, node: Node, vm: Vm, place: MadeBackups, backup: MachineBackup) -> None:
        (ours, our_key), (theirs, their_key) = key_pair("source"), key_pair("target")
        port = free_port()
        receives = BackupPassage("7d0c", True, "front", "", port, ours, theirs, their_key, 20)
        brings = BackupPassage("7d0c", False, "node", "127.0.0.1", port, theirs, ours, our_key, 20)
        base = MachineToRestore(node.catalog, vm, node.number, str(place.directory), backup.id, key=place.key)
        self.node = node
        self.passphrases: dict[str, str] = {}
        self.bringing = replace(base, passage=brings)
        self.receiving = replace(base, directory="", key="", passage=receives, brought=replace(backup, template={}))

    def receive(self) -> MachineRestored:
        request, node = self.receiving, self.node
        assert request.passage is not None

        def restore(origin: Foreseen) -> MachineRestored:
            return disk_restores.restore(request, node.driver, node.root, False, origin, self.passphrases)

        return receive(request, request.passage, restore)

    def bring(self) -> None:
        assert self.bringing.passage is not None
        bring(self.bringing, self.bringing.passage, self.node.root)

    def here(self) -> MachineRestored:
        """The same where the host has the directory itself."""
        asked = replace(self.bringing, passage=None)
        return disk_restores.restore(asked, self.node.driver, self.node.root, passphrases=self.passphrases)

    def both(self) -> MachineRestored:
        host = Beside(self.receive)
        try:
            self.bring()
        except NebulaError:
            with pytest.raises(NebulaError):
                host.result()
            raise
        done: MachineRestored = host.result()
        return done


@pytest.mark.parametrize("key", ["", "a key of the user's"])
@in_world
def test_disks_are_what_they_were(key: str) -> None:
    with a_node() as node:
        vm, place = machine(node), backups(key)
        first = made_content(node, vm, "first")
        backup = place.full(7, node.catalog, first)
        # Zeroes where the image below has something, and where the backup before has.
        changes = [(65536, bytes(65536)), (2 * MIB, b"x" * 131072)]
        second = place.incremental(backup, {0: changes, 3: [(0, b"y" * 65536)]})
        pair, before = Pair(node, vm, place, second), contents(node, vm)
        foreseen = disk_restores.restore(pair.receiving, node.driver, node.root, True, Foreseen(pair.receiving))
        assert contents(node, vm) == before
        assert pair.both() == foreseen
        wanted = {number: bytearray(content) for number, content in first.items()}
        for offset, data in changes:
            wanted[0][offset : offset + len(data)] = data
        wanted[3][:65536] = b"y" * 65536
        assert contents(node, vm) == {number: bytes(content) for number, content in wanted.items()}
        assert only_disks(node, vm) <= DISKS
        record = read_record(str(node.directory(vm)))
        assert record is not None
        assert record.unchained == "it was restored"
        node.assert_consistent()
        assert node.one(vm).state == "RUNNING"
        node.wait_for_boots(vm, 1)
        with pytest.raises(NebulaError, match="it is RUNNING"):
            Pair(node, vm, place, second).both()
        # What is altered is told by both, and nothing has changed.
        assert node.one(vm, wanted="POWEROFF", hard=True).state == "POWEROFF"
        before = contents(node, vm)
        with altered(place.place(backup) / backup.disks[2].file.name), pytest.raises(ChecksumMismatch):
            Pair(node, vm, place, second).both()
        assert contents(node, vm) == before
        assert only_disks(node, vm) <= DISKS


@pytest.mark.parametrize("brought", [False, True])
@in_world
def test_an_encrypted_disk_comes_back_under_its_passphrase(brought: bool) -> None:
    with an_encrypted_node() as (node, vm):
        keep(node, {SECRET: PHRASE})
        assert node.one(vm).error is None
        node.wait_for_boots(vm, 1)
        place = backups("k")
        asked = BackupRequest(
            node.catalog, str(place.directory), NODE, (MachineToBackUp(vm, node.number, "node"),), key=place.key
        )
        (outcome,) = back_up_all(asked, node.driver, node.root)
        assert not outcome["error"], outcome["error"]
        assert node.one(vm, "POWEROFF", hard=True).state == "POWEROFF"
        with Place.open(str(place.directory), node.catalog, for_writing=False).machine(1, key="k") as held:
            backup = held.get(outcome["id"])
        disk = node.directory(vm) / "disk.0"
        subprocess.run(["qemu-io", "-c", "write -q -P 7 0 4k", *open_options(disk)], check=True)
        spoilt = disk.read_bytes()

        def restored(passphrases: dict[str, str]) -> MachineRestored:
            pair = Pair(node, vm, place, backup)
            pair.passphrases = passphrases
            return pair.both() if brought else pair.here()

        with pytest.raises(NebulaError, match="nebula_luks_secrets"):
            restored({})
        with pytest.raises(NebulaError, match="does not open it") as caught:
            restored({SECRET: "another passphrase"})
        assert "another passphrase" not in str(caught.value)
        assert disk.read_bytes() == spoilt
        assert restored({SECRET: PHRASE}).disks == (0,)
        assert GUEST[:64] not in disk.read_bytes()
        assert first_sector(disk, node.root) == GUEST
        assert only_disks(node, vm) <= DISKS and left_programs() == []
        assert node.one(vm).state == "RUNNING"
        node.wait_for_boots(vm, 2)


SIDE = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.backups.bringing import bring
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.backups.receiving import receive
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import disk_restores
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.kvm import KvmDriver
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import from_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_restore import MachineToRestore
request, root = from_plain(MachineToRestore, json.loads(sys.argv[2])), sys.argv[3]
if request.passage.gives:
    driver = KvmDriver()
    receive(request, request.passage, lambda origin: disk_restores.restore(request, driver, root, False, origin))
else:
    bring(request, request.passage, root)
"""


def begun(node: Node, wanted: MachineToRestore, environment: dict[str, str]) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", SIDE, json.dumps(sys.path), json.dumps(to_plain(wanted)), node.root]
    return subprocess.Popen(
        words,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def left_programs() -> list[str]:
    """Programs of QEMU that show or write disks."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if os.path.basename(words[0]) in (b"qemu-nbd", b"qemu-img"):
            found.append(b" ".join(words).decode())
    return found


def nothing_left(node: Node, vm: Vm) -> None:
    limit = time.monotonic() + 20
    while left_programs():
        assert time.monotonic() < limit, left_programs()
        time.sleep(0.05)
    assert only_disks(node, vm) <= DISKS


@pytest.mark.timeout(900)
@in_world
def test_the_host_is_killed_at_some_steps() -> None:
    from faults import IS_KILLED, Faults

    with a_node() as node:
        vm, place = machine(node), backups()
        old, new = made_content(node, vm, "old"), made_content(node, vm, "new")
        first, second = place.full(7, node.catalog, old), place.full(7, node.catalog, new)
        Pair(node, vm, place, first).both()
        faults = Faults(node.directory(vm), os.environ["NEBULA_WORLD"])

        def run(environment: dict[str, str]) -> tuple[int, str]:
            pair = Pair(node, vm, place, second)
            with begun(node, pair.receiving, environment) as host, begun(node, pair.bringing, {}) as front:
                output = host.communicate(timeout=120)[0] + front.communicate(timeout=120)[0]
            return host.returncode, output

        code, output = run(faults.environment())
        assert code == 0, output
        assert contents(node, vm) == new
        chosen = [
            number for number, call in enumerate(faults.calls, 1) if not call.startswith(("pwrite", "pwritev", "write"))
        ]
        # The last ones are those in which disks change places.
        chosen = sorted({*chosen[:: max(1, len(chosen) // 8)], *chosen[-12:]})
        seen = set()
        for step in chosen:
            disk_restores.restore(replace(Pair(node, vm, place, first).bringing, passage=None), node.driver, node.root)
            code, output = run(faults.environment(step, IS_KILLED))
            assert code in (0, -signal.SIGKILL, 1, 137), output
            # The next plan of the machine finishes it.
            assert node.one(vm, wanted="POWEROFF").error is None
            found = contents(node, vm)
            assert found in (old, new), step
            seen.add(found == new)
            nothing_left(node, vm)
        assert seen == {True, False}
        assert node.one(vm).state == "RUNNING"


@pytest.mark.timeout(900)
@in_world
def test_the_front_end_is_killed_at_some_moments() -> None:
    with a_node() as node:
        vm, place = machine(node), backups()
        old, new = made_content(node, vm, "old"), made_content(node, vm, "new")
        first, second = place.full(7, node.catalog, old), place.full(7, node.catalog, new)
        Pair(node, vm, place, first).both()
        seen = set()
        for moment in (".disk.0.restored", ".disk.2.restored", ".disk.3.restored"):
            pair = Pair(node, vm, place, second)
            host, front = Beside(pair.receive), begun(node, pair.bringing, {})
            limit = time.monotonic() + 60
            while not (node.directory(vm) / moment).exists() and front.poll() is None:
                assert time.monotonic() < limit
                time.sleep(0.001)
            os.killpg(front.pid, signal.SIGKILL)
            front.communicate()
            try:
                host.result()
                wanted = new
            except NebulaError:
                wanted = old
            # Without a further run.
            assert contents(node, vm) == wanted, moment
            seen.add(wanted is old)
            nothing_left(node, vm)
            if wanted is new:
                Pair(node, vm, place, first).both()
        assert True in seen
        Pair(node, vm, place, second).both()
        assert contents(node, vm) == new
