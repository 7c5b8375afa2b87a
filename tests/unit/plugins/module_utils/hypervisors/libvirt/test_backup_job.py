# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What libvirt is asked for. What comes of it, tests/integration/test_machine_backups.py has."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock
from xml.etree import ElementTree as ET

import pytest
from move_pairs import wait_until

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    ForeignObject,
    HypervisorError,
    NoSpace,
    NotFound,
    OtherHostFailed,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import BackUp
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import (
    backup_job,
    disk_jobs,
    qemu_monitor,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk, DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import CRASH
from ansible_collections.nebula.provision.plugins.module_utils.storage import datastore_layout

NEW, OLD = "nebula-0123abcd-20261130T120001Z-bbbbbb", "nebula-0123abcd-20261130T120000Z-aaaaaa"
LEFT, OTHERS = "nebula-0123abcd-20261130T110000Z-cccccc", "nebula-ffffffff-20261130T110000Z-dddddd"
DISK = "<disk device='{kind}'><driver name='qemu' type='{format}'/><target dev='{target}'/></disk>"
LABEL = "<seclabel type='dynamic' model='dac'><label>+{uid}:+{uid}</label></seclabel>"


class LibvirtError(Exception):
    def __init__(self, code: int, text: str = "it is so") -> None:
        super().__init__(text)
        self.code = code

    def get_error_code(self) -> int:
        return self.code

    def get_error_message(self) -> str:
        return str(self)


LIBVIRT = mock.Mock(
    libvirtError=LibvirtError,
    VIR_ERR_NO_DOMAIN_BACKUP=104,
    VIR_ERR_OPERATION_INVALID=55,
    VIR_ERR_OPERATION_TIMEOUT=68,
    VIR_ERR_NO_DOMAIN=42,
    VIR_ERR_NO_DOMAIN_CHECKPOINT=101,
    VIR_DOMAIN_JOB_NONE=0,
    VIR_DOMAIN_RUNNING=1,
    VIR_DOMAIN_PAUSED=3,
    VIR_DOMAIN_PAUSED_IOERROR=5,
)


class Domain:
    """Has these disks and checkpoints, and remembers what was begun. refuses: what an incremental backup ends with."""

    def __init__(self, *disks: tuple[str, str], names: tuple[str, ...] = ()) -> None:
        self.disks, self.names = disks, list(names)
        self.begun: list[tuple[str, str | None]] = []
        self.refuses: LibvirtError | None = None
        self.unlucky = 0
        self.active = True
        self.elsewhere = ""
        self.states = [(1, 1)]
        self.done: list[str] = []

    def name(self) -> str:
        return "one-1"

    def UUIDString(self) -> str:
        return "0b0b0b0b-0000-4000-8000-000000000001"

    def isActive(self) -> bool:
        return self.active

    def XMLDesc(self, _flags: int) -> str:
        devices = [DISK.format(kind="disk", format=format, target=target) for target, format in self.disks]
        devices.append(DISK.format(kind="cdrom", format="raw", target="hda"))
        return f"<domain><devices>{''.join(devices)}</devices>{LABEL.format(uid=os.getuid())}</domain>"

    def backupGetXMLDesc(self, _flags: int) -> str:
        raise LibvirtError(104)

    def backupBegin(self, backup: str, checkpoint: str | None, _flags: int) -> None:
        self.unlucky -= 1
        if self.unlucky >= 0:
            raise LibvirtError(1, "failed to format image: 'Unable to get accurate CPU usage'")
        if self.refuses is not None and "<incremental>" in backup:
            raise self.refuses
        self.begun.append((backup, checkpoint))
        path = str(ET.fromstring(backup).find("server").get("socket"))  # type: ignore[union-attr]
        if self.elsewhere:
            os.symlink(self.elsewhere, path)
        else:
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(path)
        if checkpoint is not None:
            self.names.append(str(ET.fromstring(checkpoint).findtext("name")))

    def blockInfo(self, _target: str) -> tuple[int, int, int]:
        return 1 << 20, 0, 0

    def state(self) -> tuple[int, int]:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def resume(self) -> None:
        self.done.append("resumed")

    def abortJob(self) -> None:
        self.done.append("aborted")

    def jobStats(self, _flags: int = 0) -> dict[str, int]:
        return {"type": 0}

    def listAllCheckpoints(self) -> list[Any]:
        return [mock.Mock(getName=lambda name=name: name) for name in self.names]

    def checkpointLookupByName(self, name: str) -> Any:
        return mock.Mock(delete=lambda *_flags: self.names.remove(name))


@pytest.fixture(autouse=True)
def sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Names of sockets are short.
    with tempfile.TemporaryDirectory() as place:
        monkeypatch.setattr(disk_jobs, "SOCKETS", f"{place}/s")
        monkeypatch.setattr(qemu_monitor, "ask", lambda *_arguments, **_named: [])
        yield


def job(domain: Domain, tmp_path: Path, since: str = "", *targets: str) -> backup_job.BackupJob:
    disks = [
        (Disk(disk_id=number, target=target), DiskFiles(f"/disk.{number}", "qcow2"))
        for number, target in enumerate(targets or ("vda",))
    ]
    order = BackUp(NEW, since, "nebula-0123abcd-", CRASH, str(tmp_path), "/datastores")
    return backup_job.BackupJob(LIBVIRT, "qemu:///system", domain, disks, order, "backing web up")


def test_a_full_one(tmp_path: Path) -> None:
    domain = Domain(("vda", "qcow2"), ("vdb", "qcow2"), names=(LEFT, OTHERS))
    with job(domain, tmp_path).running() as running:
        assert (running.incremental, running.checkpoint, running.consistency) == (False, NEW, "crash-consistent")
        assert running.sources[0].bitmap == ""
        # What a killed run left is gone; another directory's stays.
        assert domain.names == [OTHERS, NEW]
    backup, checkpoint = (ET.fromstring(text or "") for text in domain.begun[0])
    assert {each.get("name"): each.get("backup") for each in backup.iter("disk")} == {"vda": "yes", "vdb": "no"}
    assert {each.get("name"): each.get("checkpoint") for each in checkpoint.iter("disk")} == {
        "vda": "bitmap",
        "vdb": "no",
    }
    # Nobody has kept it.
    assert domain.names == [OTHERS]
    assert os.listdir(disk_jobs.SOCKETS) == []


def test_an_incremental_one_that_is_kept(tmp_path: Path) -> None:
    domain = Domain(("vda", "qcow2"), names=(OLD, OTHERS))
    with job(domain, tmp_path, OLD).running() as running:
        assert (running.incremental, running.reason) == (True, "")
        assert running.sources[0].bitmap == backup_job.WRITTEN
        assert domain.names == [OLD, OTHERS, NEW]
        running.keep()
    assert domain.names == [OTHERS, NEW]
    assert ET.fromstring(domain.begun[0][0]).findtext("incremental") == OLD


def test_a_clock_that_did_not_tick_is_no_reason(tmp_path: Path) -> None:
    domain = Domain(("vda", "qcow2"), names=(OLD,))
    domain.unlucky = 2
    with job(domain, tmp_path, OLD).running() as running:
        assert (running.incremental, running.reason) == (True, "")
    domain.unlucky = 99
    with pytest.raises(HypervisorError, match="accurate CPU usage"), job(domain, tmp_path).running():
        pass


def test_one_that_fails_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    domain = Domain(("vda", "qcow2"), names=(OLD,))
    with pytest.raises(HypervisorError, match="no room"), job(domain, tmp_path, OLD).running():
        raise HypervisorError("storing", "no room")
    assert domain.names == [OLD]


@pytest.mark.parametrize(
    ("domain", "since", "reason", "checkpoint"),
    [
        (Domain(("vda", "qcow2")), OLD, "does not know the checkpoint", NEW),
        (Domain(("vda", "raw"), names=(OLD,)), OLD, "written to disk vda", ""),
    ],
)
def test_why_it_is_full(tmp_path: Path, domain: Domain, since: str, reason: str, checkpoint: str) -> None:
    with job(domain, tmp_path, since).running() as running:
        assert (running.incremental, running.checkpoint) == (False, checkpoint)
        assert reason in running.reason


def test_libvirt_does_not_know_what_was_written(tmp_path: Path) -> None:
    domain = Domain(("vda", "qcow2"), names=(OLD,))
    domain.refuses = LibvirtError(109, "missing or broken bitmap")
    with job(domain, tmp_path, OLD).running() as running:
        assert not running.incremental and "missing or broken bitmap" in running.reason
    domain.refuses = LibvirtError(68, "cannot acquire state change lock")
    with pytest.raises(HypervisorError, match="state change lock"), job(domain, tmp_path, OLD).running():
        pass


def test_a_disk_that_comes_with_the_next_start(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="does not have it yet"), job(Domain(), tmp_path).running():
        pass


def test_the_machine_ends_meanwhile(tmp_path: Path) -> None:
    domain = Domain(("vda", "qcow2"))
    with pytest.raises(HypervisorError, match="ended while it was backed up"), job(domain, tmp_path).running():
        domain.active = False
        raise HypervisorError("reading", "connection refused")


def test_nobody_knows_whether_it_is_whole(tmp_path: Path) -> None:
    domain = Domain(("vda", "qcow2"), names=(OLD,))
    with pytest.raises(OtherHostFailed), job(domain, tmp_path, OLD).running() as running:
        running.leave_open()
        raise OtherHostFailed("backup", "the connection is lost")
    assert domain.names == [OLD, NEW]
    with job(domain, tmp_path, OLD).running():
        pass
    assert domain.names == [OLD]


def test_a_socket_that_leads_elsewhere_is_not_connected_to(tmp_path: Path) -> None:
    """Its directory is QEMU's own."""
    domain = Domain(("vda", "qcow2"))
    with job(domain, tmp_path).running() as running:
        path = running.sources[0].path
        assert stat.S_ISSOCK(os.lstat(path).st_mode) and stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
    domain.elsewhere = "/run/libvirt/libvirt-sock"
    with pytest.raises(ForeignObject, match="is not the socket of its QEMU"), job(domain, tmp_path).running():
        pass
    assert os.listdir(disk_jobs.SOCKETS) == []


def test_there_has_to_be_room_for_what_is_kept_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = [backup_job.SCRATCH - 1]
    monkeypatch.setattr(datastore_layout, "free_space", lambda _directory: free[0])
    domain = Domain(("vda", "qcow2"))
    with pytest.raises(NoSpace, match="what the guest writes over meanwhile"), job(domain, tmp_path).running():
        pass
    assert not domain.begun
    free[0] += 1
    domain.states = [(1, 1), (3, 5)]
    with pytest.raises(NoSpace, match="the guest writes faster than"), job(domain, tmp_path).running():
        free[0] = backup_job.LEAST - 1
        wait_until(lambda: "aborted" in domain.done)
        raise HypervisorError("reading", "connection refused")
    # It stood still for want of room, which is there again.
    assert domain.done[-1] == "resumed"


@pytest.mark.parametrize("states", [[(3, 1), (3, 5)], [(1, 1), (3, 1)], [(1, 1)]])
def test_what_somebody_else_has_paused_stays_so(tmp_path: Path, states: list[tuple[int, int]]) -> None:
    domain = Domain(("vda", "qcow2"))
    domain.states = states
    with job(domain, tmp_path).running():
        pass
    assert "resumed" not in domain.done


def test_what_is_kept_aside_of_an_encrypted_disk_is_encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "<encryption format='luks'><secret type='passphrase' uuid='u'/></encryption>"
    monkeypatch.setitem(globals(), "DISK", DISK.replace("<target", f"<source file='/d'>{secret}</source><target"))
    domain = Domain(("vda", "qcow2"))
    with job(domain, tmp_path).running():
        pass
    found = ET.fromstring(domain.begun[0][0]).find("./disks/disk/scratch/encryption/secret")
    assert found is not None and found.attrib == {"type": "passphrase", "uuid": "u"}
