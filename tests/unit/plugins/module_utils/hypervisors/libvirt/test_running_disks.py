# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies and snapshots of a running machine's disks: what libvirt and QEMU are asked, at which moment, and what becomes
of a moment that can't be believed. libvirt and QEMU's monitor are stand-ins by the references of their APIs
(virDomainBackupBegin, QMP's block commands); quiesce.frozen, which would start a process, is put in its place by a note
of when it was entered and left, and the module's clock is the test's own."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from libvirt_stand_in import Clock, LibvirtError, install, libvirt

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    HypervisorError,
    NotFound,
    TimedOut,
    Unsupported,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import (
    consistent_moment,
    disk_jobs,
    quiesce,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import running_disks as libvirt_disks
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.running_disks import RunningDisks
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import AGENT, CRASH

NEW = "/var/lib/nebula/datastores/1/abc.new"
XML = """\
<domain><devices>
  <disk type='file' device='disk'>
    <source file='/x/disk.0' index='2'/><target dev='vda'/><alias name='virtio-disk0'/>
  </disk>
  <disk type='file' device='disk'><source file='/x/disk.2' index='1'/><target dev='vdb'/></disk>
  <disk type='file' device='cdrom'>
    <source file='/x/disk.1' index='3'/><target dev='hda'/><alias name='ide0-0-0'/>
  </disk>
</devices></domain>"""


class Machine:
    """A domain whose disk vda QEMU calls libvirt-2-format; tags: the snapshots in its file. job: what jobStats()
    answers, one after another; done: what it says of the last one that ended."""

    def __init__(self) -> None:
        self.tags = ["nebula-0-old"]
        self.told: list[Any] = []
        self.job: list[dict[str, Any]] = [{"type": 2}, {"type": 2}, {"type": 0}]
        self.done: dict[str, Any] = {"type": 3}
        self.refuses: LibvirtError | None = None
        self.answer: dict[str, Any] | None = None

    def XMLDesc(self, _flags: int) -> str:
        return XML

    def backupGetXMLDesc(self, _flags: int) -> str:
        raise LibvirtError("Domain backup job id not found", 104)

    def backupBegin(self, backup: str, checkpoint: Any, flags: int) -> None:
        self.told.append(("backup", backup, checkpoint, flags))
        if self.refuses is not None:
            raise self.refuses

    def jobStats(self, flags: int = 0) -> dict[str, Any]:
        if flags:
            return self.done
        return self.job.pop(0) if len(self.job) > 1 else self.job[0]

    def abortJob(self) -> None:
        self.told.append("abort")
        self.job = [{"type": 0}]

    def monitor(self, domain: Machine, text: str, flags: int) -> str:
        """As libvirt_qemu.qemuMonitorCommand()."""
        assert domain is self and flags == 0
        asked = json.loads(text)
        arguments = asked["arguments"]
        if self.answer is not None:
            return json.dumps(self.answer)
        if asked["execute"] == "query-named-block-nodes":
            image = {"snapshots": [{"id": "1", "name": tag} for tag in self.tags]} if self.tags else {}
            nodes = [{"node-name": "libvirt-1-format", "image": {}}, {"node-name": "libvirt-2-format", "image": image}]
            return json.dumps({"return": nodes})
        self.told.append((asked["execute"], arguments))
        if asked["execute"] == "blockdev-snapshot-internal-sync":
            self.tags.append(arguments["name"])
        if asked["execute"] == "blockdev-snapshot-delete-internal-sync":
            self.tags.remove(arguments["name"])
        return json.dumps({"return": {}})


class Guest:
    """In place of quiesce.frozen. agent: whether one answers. thawed: how often somebody else thaws it meanwhile."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.agent, self.thawed = machine, True, 0

    @contextlib.contextmanager
    def frozen(self, libvirt: Any, uri: str, domain: Any, asked: str) -> Iterator[None]:
        assert (uri, domain, asked) == ("qemu:///system", self.machine, "disk 0 of virtual machine 1")
        if not self.agent:
            raise Unsupported(asked, "no guest agent answers", "Start qemu-guest-agent")
        self.machine.told.append("freeze")
        yield
        self.machine.told.append("thaw")
        if self.thawed:
            self.thawed -= 1
            raise quiesce.ThawedTooEarly(asked, "somebody else has thawed its file systems meanwhile", "Run again")


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def guest(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Guest:
    found = Guest(machine)
    monkeypatch.setattr(quiesce, "freeze", found.frozen)
    return found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    for each in (libvirt_disks, consistent_moment, disk_jobs):
        monkeypatch.setattr(each, "time", found)
    return found


@pytest.fixture
def disks(machine: Machine, guest: Guest, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> RunningDisks:
    library = libvirt()
    install(monkeypatch, library, libvirt_qemu=SimpleNamespace(qemuMonitorCommand=machine.monitor))
    return RunningDisks(library, "qemu:///system", machine, "disk 0 of virtual machine 1")


DISK = Disk(0, "vda")


def names(machine: Machine) -> list[str]:
    return [each if isinstance(each, str) else each[0] for each in machine.told]


# -- a copy ------------------------------------------------------------------------------------------------------------
def test_only_the_disk_that_is_meant_is_copied_to_the_file_that_is_there(disks: RunningDisks, machine: Machine) -> None:
    disks.copy(DISK, NEW, "qcow2", CRASH)
    ((_verb, text, checkpoint, flags),) = machine.told
    assert (checkpoint, flags) == (None, 1)
    backup = ET.fromstring(text)
    assert backup.tag == "domainbackup" and backup.get("mode") == "push"
    found = {each.get("name"): each for each in backup.iterfind("disks/disk")}
    # A drive is no disk that libvirt would copy.
    assert len(backup.findall("disks/disk")) == len(found)
    assert {name: each.get("backup") for name, each in found.items()} == {"vda": "yes", "vdb": "no"}
    driver, target = found["vda"].find("driver"), found["vda"].find("target")
    assert driver is not None and driver.get("type") == "qcow2"
    assert target is not None and target.get("file") == NEW and found["vda"].get("type") == "file"


def test_a_guest_is_frozen_only_while_the_copy_is_begun(disks: RunningDisks, machine: Machine) -> None:
    disks.copy(DISK, NEW, "raw", "")
    assert names(machine) == ["freeze", "backup", "thaw"]


def test_a_copy_is_waited_for(disks: RunningDisks, machine: Machine, clock: Clock) -> None:
    disks.copy(DISK, NEW, "raw", CRASH)
    assert clock.now == pytest.approx(1000.0 + 2 * libvirt_disks.STEP)


@pytest.mark.parametrize(
    ("done", "why"),
    [({"type": 4, "errmsg": "No space left on device"}, "No space left on device"), ({"type": 5}, "it was broken off")],
)
def test_a_copy_that_did_not_come_to_its_end_says_why(
    disks: RunningDisks, machine: Machine, done: dict[str, Any], why: str
) -> None:
    machine.done = done
    with pytest.raises(HypervisorError, match=f"disk 0 of virtual machine 1: copying the disk failed: {why}.*anew"):
        disks.copy(DISK, NEW, "raw", CRASH)


def test_a_copy_that_libvirt_refuses_is_explained(disks: RunningDisks, machine: Machine) -> None:
    machine.refuses = LibvirtError("Operation not supported:\n  no backup here")
    with pytest.raises(HypervisorError, match=r"Operation not supported: no backup here.*vm\.log"):
        disks.copy(DISK, NEW, "raw", CRASH)
    assert "abort" not in names(machine)


def test_a_copy_that_hangs_is_ended(disks: RunningDisks, machine: Machine, clock: Clock) -> None:
    machine.job = [{"type": 2}]
    # A day in a few steps.
    clock.then = lambda _since: setattr(clock, "now", clock.now + 30_000)
    with pytest.raises(TimedOut, match=r"not done after a day.*virsh domjobinfo"):
        disks.copy(DISK, NEW, "raw", CRASH)
    assert names(machine) == ["backup", "abort"]


# -- snapshots ---------------------------------------------------------------------------------------------------------
def test_a_snapshot_is_made_once_and_deleted_once(disks: RunningDisks, machine: Machine) -> None:
    assert disks.create_snapshot(DISK, "nebula-1-new", CRASH)
    assert machine.told == [("blockdev-snapshot-internal-sync", {"device": "libvirt-2-format", "name": "nebula-1-new"})]
    assert not disks.create_snapshot(DISK, "nebula-1-new", CRASH)
    assert disks.delete_snapshot(DISK, "nebula-1-new")
    assert not disks.delete_snapshot(DISK, "nebula-1-new")
    assert names(machine) == ["blockdev-snapshot-internal-sync", "blockdev-snapshot-delete-internal-sync"]
    assert machine.tags == ["nebula-0-old"]


def test_the_first_snapshot_of_a_disk_is_made(disks: RunningDisks, machine: Machine) -> None:
    machine.tags = []
    assert disks.create_snapshot(DISK, "nebula-0-new", CRASH) and machine.tags == ["nebula-0-new"]


def test_a_disk_that_the_running_machine_does_not_have_is_named(disks: RunningDisks, machine: Machine) -> None:
    with pytest.raises(NotFound, match="disk 0 of virtual machine 1: vdz: the running machine has none"):
        disks.create_snapshot(Disk(5, "vdz"), "t", CRASH)
    machine.answer = {"return": []}
    with pytest.raises(NotFound, match="libvirt-2-format: QEMU has no such disk"):
        disks.create_snapshot(DISK, "t", CRASH)


@pytest.mark.parametrize(
    ("error", "words"),
    [({"class": "GenericError", "desc": "Device is busy"}, "Device is busy"), ({"class": "Odd"}, "Odd")],
)
def test_an_error_of_qemu_is_told_with_what_it_was_asked(
    disks: RunningDisks, machine: Machine, error: dict[str, str], words: str
) -> None:
    machine.answer = {"error": error}
    with pytest.raises(HypervisorError, match=f"query-named-block-nodes: .*{words}"):
        disks.delete_snapshot(DISK, "nebula-0-old")


def test_a_tray_is_opened_past_libvirt(disks: RunningDisks, machine: Machine) -> None:
    disks.open_tray("hda")
    assert machine.told == [("blockdev-open-tray", {"id": "ide0-0-0", "force": True})]


# -- the moment --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("consistency", "agent", "steps"),
    [
        (AGENT, True, ["freeze", "blockdev-snapshot-internal-sync", "thaw"]),
        ("", True, ["freeze", "blockdev-snapshot-internal-sync", "thaw"]),
        ("", False, ["blockdev-snapshot-internal-sync"]),
        (CRASH, True, ["blockdev-snapshot-internal-sync"]),
        (CRASH, False, ["blockdev-snapshot-internal-sync"]),
    ],
)
def test_file_systems_are_frozen_where_that_was_asked_for_or_can_be(
    disks: RunningDisks, machine: Machine, guest: Guest, consistency: str, agent: bool, steps: list[str]
) -> None:
    guest.agent = agent
    assert disks.create_snapshot(DISK, "t", consistency)
    assert names(machine) == steps


def test_without_an_agent_nothing_is_done_where_one_was_asked_for(
    disks: RunningDisks, machine: Machine, guest: Guest
) -> None:
    guest.agent = False
    with pytest.raises(Unsupported, match="no guest agent answers"):
        disks.create_snapshot(DISK, "t", AGENT)
    assert machine.told == []


@pytest.mark.parametrize("consistency", [AGENT, "", CRASH])
def test_whether_an_agent_answers_is_asked_alone_where_one_is_needed(
    disks: RunningDisks, machine: Machine, monkeypatch: pytest.MonkeyPatch, consistency: str
) -> None:
    def ping(_libvirt: Any, domain: Any, asked: str) -> None:
        assert (domain, asked) == (machine, "disk 0 of virtual machine 1")
        raise Unsupported(asked, "no guest agent answers", "Start qemu-guest-agent")

    monkeypatch.setattr(quiesce, "ping", ping)
    needed = consistency == AGENT
    with pytest.raises(Unsupported) if needed else contextlib.nullcontext():
        disks.check_agent(consistency)
    assert machine.told == []


@pytest.mark.parametrize("thawed", [1, consistent_moment.TRIES - 1])
def test_what_was_done_while_somebody_else_thawed_the_guest_is_done_anew(
    disks: RunningDisks, machine: Machine, guest: Guest, clock: Clock, thawed: int
) -> None:
    guest.thawed = thawed
    assert disks.create_snapshot(DISK, "t", AGENT)
    made, undone = "blockdev-snapshot-internal-sync", "blockdev-snapshot-delete-internal-sync"
    assert names(machine) == ["freeze", made, "thaw", undone] * thawed + ["freeze", made, "thaw"]
    assert machine.tags == ["nebula-0-old", "t"]
    assert clock.now == 1000.0 + thawed * consistent_moment.PAUSE


def test_a_guest_that_is_thawed_each_time_has_no_snapshot(disks: RunningDisks, machine: Machine, guest: Guest) -> None:
    guest.thawed = consistent_moment.TRIES
    with pytest.raises(HypervisorError, match="somebody else has thawed") as caught:
        disks.create_snapshot(DISK, "t", AGENT)
    assert type(caught.value) is HypervisorError and caught.value.remedy == "Run again"
    assert machine.tags == ["nebula-0-old"]


def test_a_copy_whose_moment_can_not_be_believed_is_broken_off_and_begun_anew(
    disks: RunningDisks, machine: Machine, guest: Guest
) -> None:
    guest.thawed = 1
    disks.copy(DISK, NEW, "raw", AGENT)
    assert names(machine) == ["freeze", "backup", "thaw", "abort", "freeze", "backup", "thaw"]
