# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The front-end stores a disk of another host: qemu-nbd shows it there, TLS leads to it, and QEMU's own programs read
it here, in their sandbox."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from move_pairs import Beside, free_port, key_pair

from ansible_collections.nebula.provision.plugins.module_utils.errors import NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.backups.giving import Giving
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.backups.taking import Activity, Taking
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.given_backup import (
    GivenBackup,
    GivenDisk,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import (
    BackupPassage,
    BackupRequest,
    MachineToBackUp,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.storage import backup_secrets
from ansible_collections.nebula.provision.plugins.module_utils.storage.backup_files import NbdSource, store_disk

MIB = 1 << 20
SIZE = 32 * MIB
EXPORT = "vda"
FIRST = ("new", "")
VM = Vm(3, "u-3", "web", "kvm", cpu=1.0, memory=64, disks=(Disk(0, "vda", size=SIZE // MIB),))


@contextlib.contextmanager
def shown(disk: Path, place: Path) -> Iterator[str]:
    """The export of a disk by qemu-nbd, as a host has it."""
    path = str(place / "nbd.sock")
    words = ["qemu-nbd", "--read-only", "--format=qcow2", "--persistent", "--shared=8", f"--export-name={EXPORT}"]
    server = subprocess.Popen([*words, f"--socket={path}", str(disk)])
    try:
        limit = time.monotonic() + 20
        while not os.path.exists(path):
            assert time.monotonic() < limit and server.poll() is None
            time.sleep(0.01)
        yield path
    finally:
        server.kill()
        server.wait()


@dataclass
class Shown:
    given: GivenBackup
    path: str
    files: dict[str, str]
    is_kept: bool = False

    @property
    def sources(self) -> dict[int, NbdSource]:
        return {0: NbdSource(self.path, EXPORT, SIZE)}

    def end_reading(self) -> None:
        pass

    def keep(self) -> None:
        self.is_kept = True

    def leave_open(self) -> None:
        pass


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    content, path = tmp_path / "content", tmp_path / "disk.0"
    content.write_bytes(os.urandom(5 * MIB) + bytes(20 * MIB) + os.urandom(MIB) + bytes(6 * MIB))
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", content, path], check=True)
    return path


@contextlib.contextmanager
def taking_of(given: Shown) -> Iterator[Taking]:
    """The front-end's side of a run with one host."""
    (own, own_key), (theirs, their_key) = key_pair("source"), key_pair("target")
    gives = BackupPassage("7d0c", True, "control", "", free_port(), own, theirs, their_key, 20)
    takes = replace(
        gives, gives=False, peer="node1", address="127.0.0.1", certificate=theirs, own_certificate=own, key=own_key
    )
    request = BackupRequest("c", "", "frontend", (MachineToBackUp(VM, 1, "node1"),))
    host = Beside(Giving(request, gives, lambda *_asked: contextlib.nullcontext(given)).serve)
    taking = Taking(takes, Activity())
    taking.meet()
    try:
        yield taking
    finally:
        taking.close()
        host.result()


@pytest.mark.parametrize("key", ["", "a key of the user's"])
def test_a_disk_of_another_host_is_stored_as_if_it_were_here(disk: Path, tmp_path: Path, key: str) -> None:
    given = GivenBackup("POWEROFF", "off", "by qemu-nbd", (GivenDisk(0, "vda", "qcow2", SIZE, EXPORT),))
    place = tmp_path / "backups"
    place.mkdir()
    with shown(disk, tmp_path) as path:
        host = Shown(given, path, {})
        with taking_of(host) as taking, taking.begin(MachineToBackUp(VM, 1, "node1"), *FIRST) as taken:
            stored = store_disk(str(place), "x.disk.0.qcow2", taken.sources[0], SIZE, key=key)
            taken.end_reading()
            taken.keep()
            sockets = os.path.dirname(taken.sources[0].path)
        assert host.is_kept
    assert not os.path.exists(sockets)
    assert [each.name for each in place.iterdir()] == [stored.name]
    # The end of it has random bytes, which do not shrink.
    assert 6 * MIB < stored.size < 12 * MIB
    if not key:
        words = ["qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", str(place / stored.name), str(disk)]
        assert "identical" in subprocess.run(words, check=True, capture_output=True, text=True).stdout


def test_what_another_host_has_beside_its_disks_is_encrypted_here(disk: Path, tmp_path: Path) -> None:
    content = b"state" * 999 + bytes(100)
    (tmp_path / "tpm").write_bytes(content)
    given = GivenBackup(
        "POWEROFF", "off", "by qemu-nbd", (GivenDisk(0, "vda", "qcow2", SIZE, EXPORT),), files={"tpm": len(content)}
    )
    place = tmp_path / "backups"
    place.mkdir()
    with shown(disk, tmp_path) as path:
        host = Shown(given, path, {"tpm": str(tmp_path / "tpm")})
        with taking_of(host) as taking, taking.begin(MachineToBackUp(VM, 1, "node1"), *FIRST) as taken:
            fetch = functools.partial(taken.fetch, "tpm")
            stored = backup_secrets.store_file(str(place), "x.tpm.luks", fetch, "key", "x")
            taken.end_reading()
            taken.keep()
    (found,) = place.iterdir()
    assert b"state" not in found.read_bytes()
    assert backup_secrets.content_of(str(found), stored, "key", MIB, "x") == content


def test_an_export_that_ends_meanwhile_leaves_nothing(disk: Path, tmp_path: Path) -> None:
    given = GivenBackup("POWEROFF", "off", "by qemu-nbd", (GivenDisk(0, "vda", "qcow2", SIZE, EXPORT),))
    place = tmp_path / "backups"
    place.mkdir()
    host = Shown(given, str(tmp_path / "gone.sock"), {})
    with taking_of(host) as taking, taking.begin(MachineToBackUp(VM, 1, "node1"), *FIRST) as taken:
        with pytest.raises(NebulaError):
            store_disk(str(place), "x.disk.0.qcow2", taken.sources[0], SIZE)
        # What it does not say is kept is none.
        taken.channel.end()
    assert list(place.iterdir()) == [] and not host.is_kept
