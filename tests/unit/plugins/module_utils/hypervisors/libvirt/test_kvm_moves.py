# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the driver says of machines that move, with a stand-in for libvirt, whose numbers are those of
libvirt-domain.h."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from libvirt_stand_in import Clock, Connection, Domain, LibvirtError, install, libvirt, metadata

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    HypervisorError,
    MissingDependency,
    NotFound,
    TimedOut,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Departure, Mark, Site
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import (
    arriving_belongings,
    arriving_hardware,
    kvm,
    migration,
    qemu_logs,
    tpm_state,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.kvm import KvmDriver
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Os, Tpm, Vm

CATALOG, UUID = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10", "5bd0b2a1-7d1c-4a6e-8a44-0a8f6f2f9d01"
MARK = Mark(CATALOG, 1, UUID, 1)
VM = Vm(1, UUID, "web", "kvm", 1.0, 64)
RUNNING, PAUSED, SHUTOFF = 1, 3, 5
BY_USER, MIGRATING, OF_MIGRATION = 1, 2, 6
MIGRATABLE = 8


class Moving(Domain):
    """job: of what type it has one; it ends once it was aborted so many times."""

    def __init__(self, state: int = RUNNING, reason: int = 0) -> None:
        super().__init__("one-1", UUID, metadata(CATALOG, 1, 1, "/d/1"), state, reason)
        self.job, self.stubborn = 0, 0

    def jobInfo(self) -> list[int]:
        return [self.job]

    def abortJob(self) -> None:
        self._do("abortJob")
        self.stubborn -= 1
        if self.stubborn <= 0:
            self.job = 0

    def XMLDesc(self, flags: int) -> str:
        return f"<domain flags='{flags}'/>"


class World:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.domain = Moving()
        self.connection = Connection(self.domain)
        self.connection.getCapabilities = lambda: "<capabilities/>"  # type: ignore[attr-defined]
        self.clock = Clock()
        self.forgotten: list[str] = []
        library = libvirt(lambda _uri: self.connection)
        library.VIR_DOMAIN_XML_MIGRATABLE = MIGRATABLE
        library.VIR_DOMAIN_SHUTOFF_MIGRATED = OF_MIGRATION
        library.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA = 2
        library.VIR_DOMAIN_UNDEFINE_NVRAM = 4
        library.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM = 8
        library.VIR_DOMAIN_UNDEFINE_KEEP_TPM = 64
        self.library = library
        install(monkeypatch, library)
        monkeypatch.setattr(kvm, "time", self.clock)
        monkeypatch.setattr(kvm, "PROFILES", tmp_path)
        monkeypatch.setattr(qemu_logs, "remove", self.forgotten.append)
        monkeypatch.setattr(migration, "forget", self.forgotten.append)
        self.driver = KvmDriver()

    def gone(self) -> None:
        self.connection.domains.clear()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    return World(monkeypatch, tmp_path)


def departure() -> Departure:
    caller: Any = None
    return Departure("token", "<domain/>", (), caller, 60, lambda: False)


# -- at the source ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("call", "with_state"), [("remove", 4), ("disown", 8 | 64)])
def test_what_may_be_another_hosts_is_kept(world: World, call: str, with_state: int) -> None:
    world.domain.become(SHUTOFF, 1)
    assert getattr(world.driver, call)(MARK) is True
    ((flags,),) = [each[1:] for each in world.domain.did if each[0] == "undefineFlags"]
    assert flags & (4 | 8 | 64) == with_state
    world.gone()
    assert getattr(world.driver, call)(MARK) is False


def test_what_is_left_of_a_tpm_ends_with_its_machine(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not libvirt knows the machine; one that is another host's keeps it until it has arrived there."""
    removed: list[str] = []
    monkeypatch.setattr(tpm_state, "remove", removed.append)
    world.domain.become(SHUTOFF, 1)
    world.domain.undefineFlags = lambda _flags: world.gone()  # type: ignore[method-assign]
    world.driver.remove(MARK)
    assert removed == [UUID]
    world.driver.remove(MARK)
    assert removed == [UUID, UUID]
    world.driver.disown(MARK)
    assert removed == [UUID, UUID]


@pytest.mark.parametrize("call", ["remove", "remove_state_elsewhere"])
def test_the_tpm_of_a_domain_that_somebody_has_made_of_it_stays(
    world: World, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Renamed, or defined anew without our mark, it has the machine's UUID, by which its state is found."""
    removed: list[str] = []
    monkeypatch.setattr(tpm_state, "remove", removed.append)
    world.connection.domains[:] = [Domain("renamed", UUID, "", SHUTOFF, 1)]
    found = getattr(world.driver, call)(MARK)
    stays = "state of the TPM of virtual machine 1: it stays, as domain renamed of this host has the same UUID"
    assert found is False if call == "remove" else found == f"{stays} ({UUID})"
    assert removed == []
    # Who can't be asked has said nothing of it.
    world.connection.domains.clear()
    world.connection.fails["lookupByUUIDString"] = LibvirtError("Cannot recv data", 38)
    with pytest.raises(HypervisorError, match="Cannot recv data"):
        getattr(world.driver, call)(MARK)
    assert removed == []


@pytest.mark.parametrize(
    ("firmware", "files"), [("", []), ("BIOS", []), ("UEFI", ["one-1_VARS.fd"]), ("/f", ["one-1_VARS.fd"])]
)
def test_the_variables_of_a_firmware_are_a_file_of_its_own(world: World, firmware: str, files: list[str]) -> None:
    vm = replace(VM, os=Os(firmware=firmware))
    assert list(world.driver.state_files(vm)) == files
    text = world.driver.render(vm, Site("/d/1", CATALOG, 1, {})).text
    assert all(f"/d/1/{name}</nvram>" in text for name in files) and ("nvram" in text) is bool(files)


def test_the_state_of_a_tpm_is_in_a_place_of_its_own(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert world.driver.state_elsewhere(VM) is None
    found = world.driver.state_elsewhere(replace(VM, tpm=Tpm()))
    assert (found.name, found.most) == ("tpm", tpm_state.MOST)
    of_machine: list[str] = []
    monkeypatch.setattr(tpm_state, "is_there", lambda uuid: of_machine.append(uuid) or True)
    monkeypatch.setattr(tpm_state, "remove", of_machine.append)
    assert world.driver.has_state_elsewhere(MARK)
    world.gone()
    assert world.driver.remove_state_elsewhere(MARK) == ""
    assert of_machine == [UUID, UUID]


def test_a_libvirt_that_removes_it_with_the_definition_moves_none(world: World) -> None:
    del world.library.VIR_DOMAIN_UNDEFINE_KEEP_TPM
    with pytest.raises(MissingDependency, match=r"it has a TPM, and this host's libvirt is older than 8\.9"):
        world.driver.state_elsewhere(replace(VM, tpm=Tpm()))
    assert world.driver.state_elsewhere(VM) is None
    # It can be told nothing of the kind.
    world.domain.become(SHUTOFF, 1)
    assert world.driver.disown(MARK)
    ((flags,),) = [each[1:] for each in world.domain.did if each[0] == "undefineFlags"]
    assert flags & 64 == 0


def test_what_a_machine_is_to_go_on_with_is_looked_at(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs by what is offered, and what is off by its own plan: arriving_hardware.py, arriving_belongings.py."""
    seen: list[Any] = []
    monkeypatch.setattr(arriving_hardware, "require", lambda _lv, _connection, hardware, *rest: seen.append(hardware))
    monkeypatch.setattr(arriving_belongings, "require", lambda _lv, _connection, vm, *rest: seen.append(vm))
    site = Site("", CATALOG, 1, {})
    offered = "<domain><os><type arch='x86_64' machine='pc-q35-7.1'>hvm</type></os></domain>"
    for one in (offered, ""):
        world.driver.require_hardware(VM, site, one, "")
    first, vm, second, again = seen
    assert (first.machine, first.runs, second.machine, second.runs) == ("pc-q35-7.1", True, "q35", False)
    assert vm is again is VM


def test_what_is_offered_holds_no_secret(world: World) -> None:
    """The password of its console is in the new host's own definition."""
    assert world.driver.offer(MARK) == f"<domain flags='{MIGRATABLE}'/>"
    world.gone()
    with pytest.raises(NotFound):
        world.driver.offer(MARK)


def test_a_departure_has_a_connection_of_its_own(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / f"libvirt-{UUID}").write_text("x", encoding="ascii")
    seen = []

    def depart(_lv: Any, domain: Any, vm: Vm, _departure: Departure, owner: int, _asked: str) -> None:
        seen.append((domain.name(), vm, owner))
        world.gone()

    monkeypatch.setattr(migration, "depart", depart)
    world.driver.depart(VM, MARK, departure())
    assert seen == [("one-1", VM, 0)]
    assert world.connection.closed == 1
    # What libvirt keeps of a machine that it does not know any more.
    assert world.forgotten == ["one-1"] and list(tmp_path.iterdir()) == []


def test_what_libvirt_could_not_forget_is_forgotten(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def depart(*_arguments: Any) -> None:
        world.domain.become(SHUTOFF, OF_MIGRATION)

    monkeypatch.setattr(migration, "depart", depart)
    world.driver.depart(VM, MARK, departure())
    assert "undefineFlags" in world.domain.names()


def test_one_that_runs_is_not_forgotten(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever libvirt said."""
    monkeypatch.setattr(migration, "depart", lambda *_arguments: None)
    world.driver.depart(VM, MARK, departure())
    assert world.domain.did == []


def test_a_departure_that_fails_says_what_to_do(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / f"libvirt-{UUID}").write_text("x", encoding="ascii")

    def depart(*_arguments: Any) -> None:
        raise LibvirtError("operation failed: disks")

    monkeypatch.setattr(migration, "depart", depart)
    with pytest.raises(HypervisorError, match=r"operation failed: disks.*move: cold"):
        world.driver.depart(VM, MARK, departure())
    assert world.connection.closed == 1
    assert world.forgotten == [] and list(tmp_path.iterdir()) != []


@pytest.mark.parametrize(
    ("state", "reason", "found"),
    [
        (RUNNING, 1, "RUNNING"),
        (PAUSED, BY_USER, "UNKNOWN"),
        (PAUSED, MIGRATING, "UNKNOWN"),
        (SHUTOFF, 1, "POWEROFF"),
    ],
)
def test_where_nothing_moves_it_there_is_nothing_to_wait_for(world: World, state: int, reason: int, found: str) -> None:
    world.domain.become(state, reason)
    assert world.driver.settle_departure(MARK, "token") == found
    assert world.domain.did == [] and world.forgotten == ["token"]


def test_one_that_is_gone_is_gone(world: World) -> None:
    world.gone()
    assert world.driver.settle_departure(MARK, "token") is None


def test_one_that_has_gone_is_forgotten(world: World) -> None:
    """libvirt was killed between the two."""
    world.domain.become(SHUTOFF, OF_MIGRATION)
    assert world.driver.settle_departure(MARK, "token") is None
    assert "undefineFlags" in world.domain.names()


def test_what_a_killed_run_has_begun_is_ended(world: World) -> None:
    world.domain.job, world.domain.stubborn = 2, 3
    assert world.driver.settle_departure(MARK, "token") == "RUNNING"
    assert world.domain.names() == ["abortJob"] * 3


def test_it_may_end_meanwhile(world: World) -> None:
    world.domain.job = 2
    world.domain.fails["abortJob"] = LibvirtError("no job is active")
    world.clock.then = lambda _seconds: world.gone()
    assert world.driver.settle_departure(MARK, "token") is None


def test_what_does_not_end_is_named(world: World) -> None:
    world.domain.job, world.domain.stubborn = 2, 1 << 30
    with pytest.raises(TimedOut, match="virsh domjobabort one-1"):
        world.driver.settle_departure(MARK, "token")


# -- at the target ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("state", "reason", "arrived"),
    [
        (PAUSED, BY_USER, True),
        (PAUSED, MIGRATING, False),
        (PAUSED, 11, False),
        (RUNNING, 1, False),
        (SHUTOFF, 0, False),
    ],
)
def test_a_machine_has_arrived_once_it_stands_still_as_a_whole(
    world: World, state: int, reason: int, arrived: bool
) -> None:
    world.domain.become(state, reason)
    assert world.driver.has_arrived(MARK) is arrived


def test_one_that_is_not_there_has_not_arrived(world: World) -> None:
    world.gone()
    assert world.driver.has_arrived(MARK) is False


@pytest.mark.parametrize("answer", [{"return": {}}, {"error": {"class": "CommandNotFound", "desc": "not found"}}])
def test_it_is_announced_for_a_while_by_qemu(
    world: World, monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]
) -> None:
    asked: list[dict[str, Any]] = []

    def monitor(domain: Any, command: str, flags: int) -> str:
        assert (domain, flags) == (world.domain, 0)
        asked.append(json.loads(command))
        return json.dumps(answer)

    install(monkeypatch, world.library, libvirt_qemu=SimpleNamespace(qemuMonitorCommand=monitor))
    fails = pytest.raises(HypervisorError, match=r"announcing .*: not found") if "error" in answer else nullcontext()
    with fails:
        KvmDriver().announce(MARK)
    # QEMU's own limits of these numbers; it refuses others.
    ((command, arguments),) = ((each["execute"], each["arguments"]) for each in asked)
    assert command == "announce-self" and 1 <= arguments["rounds"] <= 1000 and 1 <= arguments["step"] <= 10000
    assert arguments["initial"] <= arguments["max"] <= 500


def test_a_receiver_is_for_the_machine_of_the_mark(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(migration, "MigrationReceiver", lambda *arguments: seen.extend(arguments[1:]))
    world.driver.receive(MARK, "token", "<domain/>", ["vda"])
    assert seen[:5] == ["token", "one-1", "<domain/>", ["vda"], 0]


def test_definitions_are_brought_to_the_disk(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where no machine starts with the host, libvirt has made no directory of those."""
    synced: list[str] = []
    monkeypatch.setattr(kvm, "DEFINITIONS", (str(tmp_path), str(tmp_path / "away")))
    real = kvm.sync_directory

    def sync(path: str) -> None:
        real(path)
        synced.append(path)

    monkeypatch.setattr(kvm, "sync_directory", sync)
    world.driver.settle_definitions()
    assert synced == [str(tmp_path)]
