# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan is carried out on a directory of the test's own, by a driver that has its machines in memory: each state is
reached from each other, done once, and what fails is told of the machine that it failed for. The disks that machines
have here are files that are theirs in place; overlays and copies are the subject of storage/test_disks.py."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import pytest
from memory_hypervisor import WHOLE, Machine, MemoryDriver

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    ForeignObject,
    HypervisorError,
    StalePlan,
    StorageFailed,
    TimedOut,
)
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk import inject
from ansible_collections.nebula.provision.plugins.module_utils.host import node
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors import carry_out
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import (
    CHECKPOINT,
    PARTIAL,
    RECORD,
    Batch,
    Record,
    read_record,
)
from ansible_collections.nebula.provision.plugins.module_utils.install.next_step import MARK
from ansible_collections.nebula.provision.plugins.module_utils.model.context import Context, ContextFile
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.inject import Injected
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Nic
from ansible_collections.nebula.provision.plugins.module_utils.model.plain import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import CREATE, DELETE, DiskTask, Plan
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import PlannedVm as Planned
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import VmOutcome as Outcome
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Graphics, Vm
from ansible_collections.nebula.provision.plugins.module_utils.network import links

CATALOG = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
OTHER = "77777777-8c55-4b0e-9d6a-2f1f3c7d9a10"


def machine(vm_id: int = 0, **values: Any) -> Vm:
    values = {"memory": 64, **values}
    return Vm(vm_id, f"uuid-{vm_id}", f"web-{vm_id}", "memory", 1.0, **values)


class Node:
    """A node with its driver. What is applied is one plan after another, each with the next number."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.driver = MemoryDriver()
        self.number = 0
        node.update(str(root), lambda before: before)

    def apply(self, *planned: Planned, **values: Any) -> list[Outcome]:
        self.number += 1
        plan = Plan(CATALOG, self.number, "node1", planned, **values)
        return Batch(plan, self.driver, str(self.root)).apply()

    def one(self, wanted: str, generation: int = 1, vm: Optional[Vm] = None, **orders: Any) -> Outcome:
        (outcome,) = self.apply(Planned(vm or machine(), generation, wanted, **orders))
        return outcome

    def directory(self, vm_id: int = 0) -> Path:
        return self.root / "datastores" / "0" / str(vm_id)

    def record(self, vm_id: int = 0) -> Record:
        found = read_record(str(self.directory(vm_id)))
        assert found is not None
        return found

    def log(self, vm_id: int = 0) -> str:
        return (self.directory(vm_id) / "vm.log").read_text(encoding="utf-8")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """Without waiting for the disk: no power cut is shown here, and every machine would take a tenth of a second."""
    monkeypatch.setattr(os, "fsync", lambda _fd: None)
    return Node(tmp_path)


def told(outcome: Outcome) -> tuple[str, bool, str]:
    return outcome.state, outcome.changed, outcome.error["kind"] if outcome.error else ""


def facts(path: Path) -> tuple[int, ...]:
    """What changes with a file. Looking at it moves the time of its last use, if that takes more than a moment."""
    found = os.lstat(path)
    return found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


# -- towards RUNNING ---------------------------------------------------------------------------------------------------
def test_a_new_machine_is_defined_and_is_to_start_with_its_host_before_it_starts(here: Node) -> None:
    outcome = here.one("RUNNING", seq=3)
    assert told(outcome) == ("RUNNING", True, "")
    assert here.driver.names() == ["define", "autostart", "start"]
    assert outcome.log and outcome.log[-1].endswith("[LCM] [I]: New VM state is RUNNING")
    deployment = here.directory() / "deployment.3"
    assert deployment.read_text(encoding="utf-8") == here.driver.machines[0].definition
    assert deployment.stat().st_mode & 0o777 == 0o600
    assert (here.directory() / RECORD).stat().st_mode & 0o777 == 0o600
    assert here.directory().stat().st_mode & 0o777 == 0o711
    record = here.record()
    assert (record.catalog, record.vm_id, record.uuid, record.generation) == (CATALOG, 0, "uuid-0", 1)


def test_the_same_again_asks_the_hypervisor_for_nothing(here: Node) -> None:
    here.one("RUNNING")
    here.driver.names()
    before = (here.directory() / RECORD).read_bytes(), here.log()
    assert told(here.one("RUNNING")) == ("RUNNING", False, "")
    assert here.driver.names() == ["adjust"]
    assert ((here.directory() / RECORD).read_bytes(), here.log()) == before


def test_what_is_rendered_knows_the_node_and_the_machine(here: Node) -> None:
    here.one("RUNNING", generation=4)
    site = here.driver.sites[-1]
    assert (site.directory, site.catalog, site.generation) == (str(here.directory()), CATALOG, 4)
    assert (site.accelerator, site.cpu_shares) == ("memory", node.cpu_shares())
    assert node.read(str(here.root)).accelerator["accelerator"] == "memory"


def test_a_running_machine_gets_its_new_definition_and_what_can_be_given_at_once(here: Node) -> None:
    here.one("RUNNING")
    here.driver.names()
    here.driver.adjusts = True
    assert told(here.one("RUNNING", 2, machine(memory=128))) == ("RUNNING", True, "")
    assert here.driver.names() == ["define", "adjust"]
    assert json.loads(here.driver.machines[0].definition)["memory"] == 128
    assert told(here.one("RUNNING", 2, machine(memory=128))) == ("RUNNING", True, "")
    here.driver.adjusts = False
    assert told(here.one("RUNNING", 2, machine(memory=128))) == ("RUNNING", False, "")


def test_a_driver_that_can_not_adjust_is_not_asked_to(here: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here.driver, "capabilities", MemoryDriver.OPTIONAL - {"adjust"}, raising=False)
    here.one("RUNNING")
    here.driver.names()
    here.one("RUNNING", 2, machine(memory=128))
    assert here.driver.names() == ["define"]


def test_a_machine_that_is_only_paused_goes_on(here: Node) -> None:
    here.one("RUNNING")
    here.driver.machines[0].state = "UNKNOWN"
    here.driver.names()
    assert told(here.one("RUNNING")) == ("RUNNING", True, "")
    assert here.driver.names() == ["start"]


def test_a_machine_that_lost_its_definition_is_defined_anew(here: Node) -> None:
    here.one("RUNNING")
    here.driver.machines.clear()
    here.driver.names()
    assert told(here.one("RUNNING")) == ("RUNNING", True, "")
    assert here.driver.names() == ["define", "autostart", "start"]


@pytest.mark.parametrize("at_once", [True, False])
def test_a_running_machine_reads_its_context_anew_where_that_has_changed(here: Node, at_once: bool) -> None:
    first, second = (machine(context=Context(1, "hda", variables={"A": value})) for value in ("1", "2"))
    here.driver.reads_at_once = at_once
    here.one("RUNNING", 1, first)
    assert "change_medium" not in here.driver.names()
    digest, iso = here.record().context, (here.directory() / "disk.1").read_bytes()
    assert len(digest) == 64 and b"CD001" in iso
    assert told(here.one("RUNNING", 2, second)) == ("RUNNING", True, "")
    assert "change_medium" in here.driver.names()
    assert here.record().context not in ("", digest) and (here.directory() / "disk.1").read_bytes() != iso
    assert ("has it when it is started the next time" in here.log()) is not at_once
    assert told(here.one("RUNNING", 2, second)) == ("RUNNING", False, "")
    assert "change_medium" not in here.driver.names()


@pytest.fixture
def unpadded(here: Node, monkeypatch: pytest.MonkeyPatch) -> tuple[Vm, Path, int]:
    """A machine that runs, made by a release that did not pad its ISO; the ISO, and its length."""
    vm = machine(context=Context(1, "hda", variables={"A": "1"}))
    with monkeypatch.context() as former:
        former.setattr(carry_out.iso9660, "PADDING", 0)
        here.one("RUNNING", 1, vm)
    iso = here.directory() / "disk.1"
    return vm, iso, iso.stat().st_size


def test_a_machine_of_a_former_release_keeps_its_iso_until_it_boots(here: Node, unpadded: tuple[Vm, Path, int]) -> None:
    vm, iso, length = unpadded
    before = facts(iso), here.record()
    here.driver.names()
    planned = Planned(vm, 1, "RUNNING")
    plan = Plan(CATALOG, here.number, "node1", (planned,))
    assert not Batch(plan, here.driver, str(here.root)).would_change(planned)
    assert told(here.one("RUNNING", 1, vm)) == ("RUNNING", False, "")
    assert here.driver.names() == ["adjust"]
    assert (facts(iso), here.record()) == before
    # Off, too: nothing is changed by a run that leaves it as it is.
    here.one("POWEROFF", 2, vm)
    assert told(here.one("POWEROFF", 2, vm)) == ("POWEROFF", False, "")
    assert facts(iso) == before[0]
    here.one("RUNNING", 3, vm)
    assert iso.stat().st_size == length + 150 * 2048
    # To the records it is the same, so that nothing else follows from it.
    assert here.record().context == before[1].context
    assert told(here.one("RUNNING", 3, vm)) == ("RUNNING", False, "")


def test_a_paused_machine_of_a_former_release_goes_on_with_its_iso(here: Node, unpadded: tuple[Vm, Path, int]) -> None:
    vm, iso, length = unpadded
    here.driver.machines[0].state = "UNKNOWN"
    assert told(here.one("RUNNING", 1, vm)) == ("RUNNING", True, "")
    assert iso.stat().st_size == length


def test_a_port_that_another_program_has_taken_is_said_before_the_start(here: Node) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        vm = machine(graphics=Graphics(port=port))
        outcome = here.one("RUNNING", 1, vm)
        assert told(outcome) == ("BOOT_FAILURE", True, "NoCapacity")
        assert outcome.error is not None and f"port {port} on 127.0.0.1" in outcome.error["asked"]
        assert "another program listens" in outcome.error["found"] and "GRAPHICS PORT" in outcome.error["remedy"]
        assert "start" not in here.driver.names()
    assert told(here.one("RUNNING", 2, vm)) == ("RUNNING", True, "")
    assert here.record().port == port


def test_files_of_detached_disks_go_and_those_of_others_stay(here: Node, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"an image")
    disks = tuple(Disk(number, f"vd{'ab'[number]}", source=str(image), clone=False) for number in (0, 1))
    here.one("RUNNING", 1, machine(disks=disks))
    assert {"disk.0", "disk.1"} <= set(os.listdir(here.directory()))
    here.one("RUNNING", 2, machine(disks=disks[:1]), detached=(0, 1))
    # A disk that it has again was not detached.
    assert "disk.0" in os.listdir(here.directory()) and "disk.1" not in os.listdir(here.directory())
    assert image.read_bytes() == b"an image"


@pytest.mark.parametrize("state", ["RUNNING", "UNKNOWN"])
def test_what_a_machine_uses_while_it_runs_stays_until_it_is_off(
    here: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """By a driver that changes no disks of machines that run. Its disk is neither taken away nor made larger."""
    monkeypatch.setattr(here.driver, "capabilities", MemoryDriver.OPTIONAL - {"adjust"}, raising=False)
    disks = tuple(Disk(number, f"vd{'ab'[number]}", type="FS", driver="raw", size=1) for number in (0, 1))
    here.one("RUNNING", 1, machine(disks=disks))
    here.driver.machines[0].state = state
    changed = machine(disks=(replace(disks[0], size=2),))
    orders = {"detached": (1,), "grown": (0,), "refitted": True}
    planned = Planned(changed, 2, "RUNNING", **orders)
    outcome = here.one("RUNNING", 2, changed, **orders)
    assert (told(outcome)[0], outcome.error, outcome.fitted) == ("RUNNING", None, False)
    assert (here.directory() / "disk.1").exists() and (here.directory() / "disk.0").stat().st_size == 1 << 20
    assert Batch(Plan(CATALOG, here.number, "node1", (planned,)), here.driver, str(here.root)).would_change(planned)
    outcome = here.one("POWEROFF", 3, changed, **orders)
    assert (told(outcome)[0], outcome.fitted) == ("POWEROFF", True)
    assert not (here.directory() / "disk.1").exists() and (here.directory() / "disk.0").stat().st_size == 2 << 20
    assert told(here.one("POWEROFF", 3, changed, **orders)) == ("POWEROFF", False, "")
    planned = replace(planned, wanted="POWEROFF")
    assert not Batch(Plan(CATALOG, here.number, "node1", (planned,)), here.driver, str(here.root)).would_change(planned)


def test_a_machine_that_does_not_go_off_keeps_what_it_uses(here: Node) -> None:
    disks = tuple(Disk(number, f"vd{'ab'[number]}", type="FS", driver="raw", size=1) for number in (0, 1))
    here.one("RUNNING", 1, machine(disks=disks))
    here.driver.fails["shutdown"] = TimedOut("shutting down", "it runs on", "Ask it again")
    outcome = here.one("POWEROFF", 2, machine(disks=disks[:1]), detached=(1,), refitted=True)
    assert (outcome.state, outcome.fitted) == ("RUNNING", False)
    assert (here.directory() / "disk.1").exists()


def test_of_a_machine_whose_devices_stay_nothing_is_said_of_them(here: Node) -> None:
    assert here.one("RUNNING").fitted is None


# -- operations --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("operation", ["reboot", "reset"])
def test_an_operation_is_carried_out_once(here: Node, operation: str) -> None:
    here.one("RUNNING")
    here.driver.names()
    assert told(here.one("RUNNING", 2, operation=operation, shutdown_timeout=7)) == ("RUNNING", True, "")
    assert here.driver.names() == ["adjust", operation]
    assert here.driver.timeouts == ([7] if operation == "reboot" else [])
    assert told(here.one("RUNNING", 2, operation=operation)) == ("RUNNING", False, "")
    # A later decision that took it along is no new one.
    assert told(here.one("RUNNING", 3, operation=operation, decided=2)) == ("RUNNING", False, "")
    assert operation not in here.driver.names()
    assert told(here.one("RUNNING", 4, operation=operation)) == ("RUNNING", True, "")
    assert operation in here.driver.names()


def test_a_machine_that_was_off_is_started_and_not_rebooted_besides(here: Node) -> None:
    here.one("RUNNING", 1, operation="reboot")
    assert here.driver.names() == ["define", "autostart", "start"]
    assert told(here.one("RUNNING", 1, operation="reboot")) == ("RUNNING", False, "")
    assert "reboot" not in here.driver.names()


def test_an_operation_that_failed_is_still_to_be_done(here: Node) -> None:
    here.one("RUNNING")
    here.driver.fails["reboot"] = TimedOut("rebooting it", "it did not obey")
    assert told(here.one("RUNNING", 2, operation="reboot")) == ("RUNNING", False, "TimedOut")
    assert here.record().operated == 0
    del here.driver.fails["reboot"]
    assert told(here.one("RUNNING", 2, operation="reboot")) == ("RUNNING", True, "")
    assert here.record().operated == 2


def test_a_machine_is_made_anew_once(here: Node) -> None:
    here.one("RUNNING")
    here.driver.names()
    assert told(here.one("RUNNING", 2, operation="recreate")) == ("RUNNING", True, "")
    assert here.driver.names() == ["remove", "define", "autostart", "start"]
    assert told(here.one("RUNNING", 2, operation="recreate")) == ("RUNNING", False, "")
    assert "remove" not in here.driver.names()


def test_a_machine_whose_new_start_fails_is_not_unmade_a_second_time(here: Node) -> None:
    here.one("RUNNING")
    here.driver.fails["start"] = HypervisorError("starting it", "no")
    assert told(here.one("RUNNING", 2, operation="recreate"))[0] == "BOOT_FAILURE"
    here.driver.fails.clear()
    here.driver.names()
    assert told(here.one("RUNNING", 2, operation="recreate")) == ("RUNNING", True, "")
    assert "remove" not in here.driver.names()


# -- towards SUSPENDED -------------------------------------------------------------------------------------------------
def test_a_machine_is_suspended_and_goes_on(here: Node) -> None:
    here.one("RUNNING")
    here.driver.names()
    assert told(here.one("SUSPENDED", 2)) == ("SUSPENDED", True, "")
    # A host that boots in between must not start it over its memory.
    assert here.driver.names() == ["no autostart", "suspend"]
    saved = here.directory() / CHECKPOINT
    assert saved.read_bytes() == WHOLE and saved.stat().st_mode & 0o777 == 0o600
    assert not (here.directory() / PARTIAL).exists()
    assert told(here.one("SUSPENDED", 2)) == ("SUSPENDED", False, "")
    assert told(here.one("RUNNING", 3)) == ("RUNNING", True, "")
    assert here.driver.names() == ["resume", "adjust", "autostart"]
    assert not saved.exists()


def test_what_a_killed_run_saved_completely_is_not_lost(here: Node) -> None:
    here.one("RUNNING")
    (here.directory() / PARTIAL).write_bytes(WHOLE)
    here.driver.machines[0].state = "POWEROFF"
    assert told(here.one("SUSPENDED", 2)) == ("SUSPENDED", True, "")
    assert "suspend" not in here.driver.names() and (here.directory() / CHECKPOINT).read_bytes() == WHOLE


@pytest.mark.parametrize(("state", "words"), [("POWEROFF", "it is POWEROFF"), ("UNKNOWN", "it is UNKNOWN")])
def test_only_a_running_machine_is_suspended(here: Node, state: str, words: str) -> None:
    here.one("RUNNING")
    here.driver.machines[0].state = state
    (here.directory() / PARTIAL).write_bytes(WHOLE[:5])
    outcome = here.one("SUSPENDED", 2)
    assert told(outcome)[::2] == (state, "WrongState")
    assert outcome.error is not None and words in outcome.error["found"] and "Start it" in outcome.error["remedy"]
    assert not (here.directory() / CHECKPOINT).exists()


def test_a_start_throws_away_what_was_saved_half(here: Node) -> None:
    here.one("POWEROFF")
    (here.directory() / PARTIAL).write_bytes(b"half")
    here.one("RUNNING", 2)
    assert not (here.directory() / PARTIAL).exists()


def test_a_machine_that_could_not_be_saved_runs_on_and_starts_with_its_host(here: Node) -> None:
    here.one("RUNNING")
    here.driver.fails["suspend"] = HypervisorError("suspending it", "no room")
    assert told(here.one("SUSPENDED", 2))[::2] == ("RUNNING", "HypervisorError")
    assert here.driver.machines[0].autostart


def suspended(here: Node, vm: Optional[Vm] = None) -> Path:
    here.one("RUNNING", 1, vm)
    here.one("SUSPENDED", 2, vm)
    here.driver.names()
    return here.directory() / CHECKPOINT


def test_an_incomplete_checkpoint_is_refused_and_kept(here: Node) -> None:
    saved = suspended(here)
    saved.write_bytes(WHOLE[:3])
    outcome = here.one("RUNNING", 3)
    assert told(outcome) == ("SUSPENDED", False, "WrongState")
    assert outcome.error is not None and f"{saved} is not complete" in outcome.error["found"]
    assert "Power it off hard" in outcome.error["remedy"]
    assert here.driver.names() == [] and saved.exists()


@pytest.mark.parametrize(("readonly", "state"), [(False, "SUSPENDED"), (True, "RUNNING")])
def test_a_machine_does_not_go_on_over_a_disk_that_was_written_since(
    here: Node, tmp_path: Path, readonly: bool, state: str
) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"before")
    vm = machine(disks=(Disk(0, "vda", source=str(image), clone=False, readonly=readonly),))
    saved = suspended(here, vm)
    later = saved.stat().st_mtime + 10
    os.utime(image, (later, later))
    outcome = here.one("RUNNING", 3, vm)
    assert outcome.state == state
    if not readonly:
        assert outcome.error is not None and "disk 0 was written after" in outcome.error["found"]
        assert saved.exists() and "resume" not in here.driver.names()


# -- towards POWEROFF and DONE -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("was", "hard", "asked"),
    [
        ("RUNNING", False, ["no autostart", "shutdown"]),
        ("RUNNING", True, ["no autostart", "cancel"]),
        # One that is paused can't obey.
        ("UNKNOWN", False, ["no autostart", "start", "shutdown"]),
        ("UNKNOWN", True, ["no autostart", "cancel"]),
    ],
)
def test_a_machine_is_ended_as_the_plan_says(here: Node, was: str, hard: bool, asked: list[str]) -> None:
    here.one("RUNNING")
    here.driver.machines[0].state = was
    here.driver.names()
    assert told(here.one("POWEROFF", 2, hard=hard, shutdown_timeout=9)) == ("POWEROFF", True, "")
    assert here.driver.names() == asked
    assert here.driver.timeouts == ([] if hard else [9])
    assert told(here.one("POWEROFF", 2, hard=hard)) == ("POWEROFF", False, "")
    assert here.driver.names() == []


def test_a_machine_that_never_ran_is_made_and_not_started(here: Node) -> None:
    assert told(here.one("POWEROFF")) == ("POWEROFF", True, "")
    assert here.driver.names() == ["define"]


@pytest.mark.parametrize(("hard", "asked"), [(True, []), (False, ["resume", "shutdown"])])
def test_a_suspended_machine_is_ended_with_or_without_its_guest(here: Node, hard: bool, asked: list[str]) -> None:
    saved = suspended(here)
    assert told(here.one("POWEROFF", 3, hard=hard)) == ("POWEROFF", True, "")
    assert here.driver.names() == asked
    assert not saved.exists()


def test_a_guest_that_does_not_obey_runs_on_and_starts_with_its_host(here: Node) -> None:
    here.one("RUNNING")
    here.driver.names()
    here.driver.fails["shutdown"] = TimedOut("shutting it down", "it did not obey", "hard: true")
    assert told(here.one("POWEROFF", 2))[::2] == ("RUNNING", "TimedOut")
    assert here.driver.names() == ["no autostart", "shutdown", "autostart"]


def test_a_machine_that_ended_before_something_failed_does_not_start_with_its_host(here: Node) -> None:
    here.one("RUNNING")
    here.driver.fails["define"] = HypervisorError("defining it", "no")
    assert told(here.one("POWEROFF", 2, machine(memory=128)))[2] == "HypervisorError"
    assert not here.driver.machines[0].autostart


@pytest.mark.parametrize(("hard", "asked"), [(False, ["shutdown", "remove"]), (True, ["remove"])])
def test_a_machine_that_ends_leaves_nothing(here: Node, tmp_path: Path, hard: bool, asked: list[str]) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"an image")
    vm = machine(disks=(Disk(0, "vda", source=str(image), clone=False),))
    here.one("RUNNING", 1, vm)
    here.driver.names()
    assert told(here.one("DONE", 2, vm, hard=hard)) == ("DONE", True, "")
    assert here.driver.names() == asked
    assert not here.directory().exists() and here.driver.machines == {}
    assert image.read_bytes() == b"an image"
    assert told(here.one("DONE", 2, vm, hard=hard)) == ("DONE", False, "")
    assert here.driver.names() == [] and not here.directory().exists()


class Killed(BaseException):
    """What no code of ours catches, like a signal."""


def test_a_machine_whose_removal_was_killed_is_removed_by_the_next_run(
    here: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before each file in turn: what is left is still known for ours, whatever the order of the directory."""

    def listed(remove: Any) -> Any:
        def killed_at(path: Any, **values: Any) -> None:
            left.append(path)
            if len(left) == at:
                raise Killed
            remove(path, **values)

        return killed_at

    reached = []
    for at in range(1, 40):
        left: list[Any] = []
        here.one("RUNNING", 2 * at)
        for name in ("a", "console.log", "zz"):
            (here.directory() / name).write_text("x", encoding="ascii")
        (here.directory() / "nvram").mkdir()
        (here.directory() / "nvram" / "vars").write_text("x", encoding="ascii")
        with monkeypatch.context() as patch:
            patch.setattr(os, "unlink", listed(os.unlink))
            patch.setattr(os, "rmdir", listed(os.rmdir))
            try:
                here.one("DONE", 2 * at + 1, hard=True)
            except Killed:
                reached.append(at)
        assert told(here.one("DONE", 2 * at + 1, hard=True))[::2] == ("DONE", "")
        assert not here.directory().exists()
    assert 8 < len(reached) < 39


def test_the_directory_goes_where_the_name_is_somebody_elses_by_now(here: Node) -> None:
    here.one("RUNNING")
    here.driver.machines[0] = Machine("another", OTHER, "RUNNING")
    here.driver.names()
    assert told(here.one("DONE", 2)) == ("DONE", True, "")
    assert here.driver.names() == [] and here.driver.machines[0].state == "RUNNING"
    assert not here.directory().exists()


def test_a_machine_that_can_not_be_removed_keeps_its_directory(here: Node) -> None:
    here.one("RUNNING")
    here.driver.fails["remove"] = HypervisorError("undefining it", "no")
    outcome = here.one("DONE", 2, hard=True)
    assert told(outcome)[::2] == ("RUNNING", "HypervisorError")
    here.driver.machines[0].state = "POWEROFF"
    assert here.one("DONE", 3, hard=True).state == "EPILOG_FAILURE"
    assert here.record().catalog == CATALOG


# -- what is not ours, and what is too late ----------------------------------------------------------------------------
def _files(directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / "disk.0").write_text("somebody's", encoding="ascii")


def _record(directory: Path) -> None:
    directory.mkdir(parents=True)
    text = json.dumps({"catalog": OTHER, "vm_id": 0, "uuid": "uuid-0"})
    (directory / RECORD).write_text(text, encoding="ascii")


def _damaged(directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / RECORD).write_text("{", encoding="ascii")


def _link(directory: Path) -> None:
    directory.parent.mkdir(parents=True)
    (directory.parent / "elsewhere").mkdir()
    directory.symlink_to(directory.parent / "elsewhere")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_files, "holds files, and no mark of ours"),
        (_record, f"belongs to machine 0 (uuid-0) of catalog {OTHER}"),
        (_damaged, "it can't be read"),
        (_link, "is a symbolic link"),
    ],
)
@pytest.mark.parametrize("wanted", ["RUNNING", "DONE"])
def test_a_directory_that_is_not_ours_is_not_touched(here: Node, make: Any, words: str, wanted: str) -> None:
    make(here.directory())
    before = sorted(path.name for path in here.directory().iterdir())
    outcome = here.one(wanted, hard=True)
    assert told(outcome) == ("PROLOG_FAILURE", False, "ForeignObject")
    assert outcome.error is not None and words in outcome.error["found"] and outcome.error["remedy"]
    assert sorted(path.name for path in here.directory().iterdir()) == before
    assert here.driver.names() == []


def _file(place: Path) -> None:
    place.write_text("somebody's", encoding="ascii")


def _to_a_file(place: Path) -> None:
    _file(place.parent / "elsewhere")
    place.symlink_to("elsewhere")


NO_DIRECTORIES = {
    "file": (_file, "it is no directory"),
    "pipe": (os.mkfifo, "it is no directory"),
    "dangling link": (lambda place: place.symlink_to("nowhere"), "it is a symbolic link, to "),
    "link to a file": (_to_a_file, "it is a symbolic link, to "),
}


@pytest.mark.parametrize("kind", NO_DIRECTORIES)
@pytest.mark.parametrize("wanted", ["RUNNING", "POWEROFF", "SUSPENDED"])
@pytest.mark.timeout(60, method="thread")
def test_what_is_no_directory_is_not_touched_and_keeps_no_other_machine(here: Node, kind: str, wanted: str) -> None:
    """With a limit of time: nobody waits for it to become one."""
    make, words = NO_DIRECTORIES[kind]
    here.directory().parent.mkdir(parents=True)
    make(here.directory())
    before = facts(here.directory())
    outcome, other = here.apply(Planned(machine(), 1, wanted), Planned(machine(1), 1, "RUNNING"))
    assert told(outcome) == ("PROLOG_FAILURE", False, "ForeignObject")
    assert outcome.error is not None and words in outcome.error["found"] and outcome.error["remedy"]
    assert outcome.error["asked"] == f"virtual machine web-0: directory {here.directory()}"
    assert facts(here.directory()) == before
    assert told(other) == ("RUNNING", True, "")


@pytest.mark.parametrize("kind", NO_DIRECTORIES)
def test_a_machine_ends_whatever_is_in_the_place_of_its_directory(here: Node, kind: str) -> None:
    here.directory().parent.mkdir(parents=True)
    NO_DIRECTORIES[kind][0](here.directory())
    before = facts(here.directory())
    assert told(here.one("DONE", hard=True)) == ("DONE", False, "")
    assert facts(here.directory()) == before


def test_an_empty_directory_and_what_killed_writes_left_there_are_ours(here: Node) -> None:
    here.directory().mkdir(parents=True)
    (here.directory() / ".vm.json.abc.tmp").touch()
    assert told(here.one("RUNNING")) == ("RUNNING", True, "")
    (here.directory() / ".disk.0.tmp").touch()
    here.one("RUNNING")
    assert not [name for name in os.listdir(here.directory()) if name.endswith(".tmp")]


def test_a_node_that_acted_on_a_later_decision_does_nothing_for_an_earlier_one(here: Node) -> None:
    here.one("RUNNING", generation=5)
    here.driver.names()
    outcome = here.one("POWEROFF", generation=4)
    assert told(outcome) == ("RUNNING", False, "StalePlan")
    assert outcome.error is not None and "generation 5" in outcome.error["found"]
    assert here.driver.names() == [] and here.record().generation == 5


def test_a_plan_that_is_too_old_is_refused_as_a_whole(here: Node) -> None:
    here.one("RUNNING")
    here.driver.names()
    old = Plan(CATALOG, 0, "node1", (Planned(machine(1), 1, "RUNNING"),))
    with pytest.raises(StalePlan, match="accepted plan 1 already"):
        Batch(old, here.driver, str(here.root)).apply()
    other = Plan(OTHER, 9, "node1", (Planned(machine(1), 1, "RUNNING"),))
    with pytest.raises(ForeignObject, match=f"follows catalog {CATALOG}"):
        Batch(other, here.driver, str(here.root)).apply()
    assert here.driver.names() == [] and not here.directory(1).exists()


def test_a_plan_without_machines_is_not_even_accepted(here: Node) -> None:
    assert here.apply() == []
    assert node.read(str(here.root)).plan == 0


def test_a_newer_plan_that_comes_meanwhile_ends_what_is_left_of_this_one(here: Node) -> None:
    class Slow(MemoryDriver):
        def survey(self, catalog: str) -> Any:
            node.accept(str(here.root), CATALOG, 50)
            return super().survey(catalog)

    here.driver = Slow()
    outcome = here.apply(Planned(machine(), 1, "RUNNING"), memory=1000)[0]
    assert told(outcome)[2] == "StalePlan"
    assert outcome.error is not None and "newer plan does what is left" in outcome.error["remedy"]
    assert not here.directory().exists()


def test_a_plan_that_was_carried_out_is_noted_as_done(here: Node) -> None:
    here.one("RUNNING")
    found = node.read(str(here.root))
    assert (found.plan, found.done) == (1, 1)


# -- many at once, and what fails --------------------------------------------------------------------------------------
def test_each_machine_has_an_outcome_in_the_order_of_the_plan(here: Node, tmp_path: Path) -> None:
    lost = machine(1, disks=(Disk(0, "vda", source=str(tmp_path / "none"), clone=False, image="base"),))
    seen: list[tuple[int, int, int]] = []
    planned = (Planned(machine(2), 1, "RUNNING"), Planned(lost, 1, "RUNNING"), Planned(machine(0), 1, "POWEROFF"))
    outcomes = Batch(Plan(CATALOG, 1, "node1", planned), here.driver, str(here.root)).apply(
        lambda *numbers: seen.append(numbers)
    )
    assert [each.vm_id for each in outcomes] == [2, 1, 0]
    assert [told(each) for each in outcomes] == [
        ("RUNNING", True, ""),
        ("PROLOG_FAILURE", False, "NotFound"),
        ("POWEROFF", True, ""),
    ]
    assert outcomes[1].error is not None and "web-1" in outcomes[1].error["asked"]
    assert "base" in outcomes[1].error["asked"] and "disk 0" in outcomes[1].error["asked"]
    assert [total for _done, _failed, total in seen] == [3, 3, 3]
    assert [done + failed for done, failed, _total in seen] == [1, 2, 3] and seen[-1] == (2, 1, 3)


@pytest.mark.parametrize(
    ("operation", "problem", "state", "kind"),
    [
        ("define", HypervisorError("defining it", "no"), "BOOT_FAILURE", "HypervisorError"),
        ("start", HypervisorError("starting it", "no"), "BOOT_FAILURE", "HypervisorError"),
        ("start", OSError(28, "No space left on device", "/x"), "BOOT_FAILURE", "NoSpace"),
        ("start", ZeroDivisionError("by zero"), "BOOT_FAILURE", "HypervisorError"),
        ("state", HypervisorError("asking for it", "no"), "PROLOG_FAILURE", "HypervisorError"),
    ],
)
def test_the_stage_tells_what_failed(here: Node, operation: str, problem: BaseException, state: str, kind: str) -> None:
    here.driver.fails[operation] = problem
    outcome = here.one("RUNNING")
    assert told(outcome)[::2] == (state, kind)
    assert f"New VM state is {state}" in here.log()
    if isinstance(problem, ZeroDivisionError):
        assert outcome.error is not None and "ZeroDivisionError: by zero" in outcome.error["found"]
        assert "web-0" in outcome.error["asked"] and "report it" in outcome.error["remedy"]
    here.driver.fails.clear()
    assert told(here.one("RUNNING")) == ("RUNNING", True, "")


# -- room --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("foreign", "started"),
    [
        # As when it was decided: the front-end has counted.
        (100, 3),
        (101, 2),
        (320, 0),
    ],
)
def test_what_others_took_since_the_plan_was_made_is_not_given_twice(here: Node, foreign: int, started: int) -> None:
    """Each takes 64 + 10 MiB, and there are 322."""
    here.driver.foreign_memory = foreign
    outcomes = here.apply(
        *(Planned(machine(number), 1, "RUNNING") for number in range(3)), memory=322, foreign_memory=100
    )
    assert sum(each.state == "RUNNING" for each in outcomes) == started
    for each in outcomes:
        if each.error is not None:
            assert each.error["kind"] == "NoCapacity" and "64 MiB + 10 MiB overhead" in each.error["asked"]
            assert "host node1 has " in each.error["found"] and each.state == "PROLOG_FAILURE"


def test_what_others_held_already_when_it_was_decided_is_not_counted_again(here: Node) -> None:
    here.driver.foreign_memory = 100
    (outcome,) = here.apply(Planned(machine(), 1, "RUNNING"), memory=110, foreign_memory=100)
    assert told(outcome) == ("RUNNING", True, "")


def ending(vm_id: int, generation: int = 2, **orders: Any) -> Planned:
    return Planned(machine(vm_id), generation, "DONE", gives_memory=74, gives_cpu=1.0, previous="RUNNING", **orders)


@pytest.mark.parametrize("workers", [1, 8])
def test_machines_start_in_the_place_of_others_once_these_are_gone(
    here: Node, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(carry_out, "WAITING", workers)
    first = here.apply(*(Planned(machine(number), 1, "RUNNING") for number in (5, 6)))
    assert [told(outcome) for outcome in first] == [("RUNNING", True, "")] * 2, first
    here.driver.names()
    new = [Planned(machine(number), 1, "RUNNING", previous="PROLOG") for number in range(2)]
    outcomes = here.apply(*new, ending(5), ending(6), lacking_memory=100)
    assert [told(outcome) for outcome in outcomes] == [("RUNNING", True, "")] * 2 + [("DONE", True, "")] * 2
    asked = here.driver.names()
    assert asked.index("define") > max(place for place, name in enumerate(asked) if name == "remove")


def test_a_machine_is_not_begun_where_one_stays_whose_place_it_was_to_have(here: Node) -> None:
    here.one("RUNNING", vm=machine(5))
    here.driver.fails["shutdown"] = TimedOut("the guest", "it did not obey")
    new = [Planned(machine(number), 1, "RUNNING", previous="PROLOG") for number in range(2)]
    outcomes = here.apply(*new, ending(5), lacking_memory=50, lacking_cpu=0.5)
    assert [told(outcome) for outcome in outcomes] == [
        ("RUNNING", True, ""),
        ("PROLOG_FAILURE", False, "NoCapacity"),
        ("RUNNING", False, "TimedOut"),
    ]
    assert outcomes[1].error is not None and "what web-5 (id 5) held of host node1" in outcomes[1].error["found"]
    assert sorted(here.driver.machines) == [0, 5] and not (here.directory(1) / "disk.0").exists()
    # The next plan has both again.
    del here.driver.fails["shutdown"]
    outcomes = here.apply(Planned(machine(1), 2, "RUNNING", previous="PROLOG_FAILURE"), ending(5, 3), lacking_memory=50)
    assert [outcome.state for outcome in outcomes] == ["RUNNING", "DONE"]


def test_a_saved_machine_stays_saved_where_it_has_no_place(here: Node) -> None:
    here.one("RUNNING", vm=machine(5))
    here.one("RUNNING")
    here.one("SUSPENDED", 2)
    here.driver.fails["remove"] = HypervisorError("domain one-5", "it can't be removed")
    for wanted in ("RUNNING", "POWEROFF"):
        resumed = Planned(machine(), 3, wanted, previous="SUSPENDED")
        outcomes = here.apply(resumed, ending(5), lacking_memory=50)
        expected = ("SUSPENDED", False, "NoCapacity") if wanted == "RUNNING" else ("POWEROFF", True, "")
        assert told(outcomes[0]) == expected


def test_what_is_given_back_counts_where_others_took_memory_meanwhile(here: Node) -> None:
    here.one("RUNNING", vm=machine(5, memory=64))
    here.driver.machines[5].memory = 64
    here.driver.foreign_memory = 20
    new = Planned(machine(), 1, "RUNNING", previous="PROLOG")
    outcomes = here.apply(new, ending(5), memory=100, foreign_memory=10, lacking_memory=48)
    assert [outcome.state for outcome in outcomes] == ["RUNNING", "DONE"]


def test_a_newer_plan_has_the_machine_that_waited_for_its_place(here: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    here.one("RUNNING", vm=machine(5))
    remove = here.driver.remove

    def overtaken(mark: Any) -> bool:
        here.number += 1
        node.accept(str(here.root), CATALOG, here.number)
        return remove(mark)

    monkeypatch.setattr(here.driver, "remove", overtaken)
    new = Planned(machine(), 1, "RUNNING", previous="PROLOG")
    outcomes = here.apply(new, ending(5), lacking_memory=50)
    assert outcomes[0].error is not None and outcomes[0].error["kind"] == "StalePlan"
    assert outcomes[1].state == "DONE" and here.driver.machines == {}


def test_a_machine_that_is_made_anew_has_room_where_it_was(here: Node) -> None:
    here.one("RUNNING")
    here.driver.machines[0].memory = 64
    here.driver.foreign_memory = 20
    orders: dict[str, Any] = {"memory": 100, "foreign_memory": 10}
    (outcome,) = here.apply(Planned(machine(), 2, "RUNNING", operation="recreate"), **orders)
    assert told(outcome) == ("RUNNING", True, "")


def test_a_machine_for_which_there_is_no_room_anew_keeps_what_it_has(here: Node) -> None:
    here.one("RUNNING")
    here.driver.machines[0].memory = 64
    here.driver.foreign_memory = 80
    here.driver.names()
    (outcome,) = here.apply(Planned(machine(), 2, "RUNNING", operation="recreate"), memory=100, foreign_memory=10)
    assert told(outcome) == ("RUNNING", False, "NoCapacity")
    assert here.driver.names() == []


def test_a_machine_whose_bridge_is_not_there_keeps_what_it_has(here: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "observe", dict)
    here.one("RUNNING")
    here.driver.names()
    vm = replace(machine(), nics=(Nic(0, 0, "Public", "nbr0", "02:00:00:00:00:01"),))
    (outcome,) = here.apply(Planned(vm, 2, "RUNNING", operation="recreate"), bridges={"nbr0": "a-network"})
    assert told(outcome) == ("RUNNING", False, "NotFound")
    assert here.driver.names() == []


# -- installations -----------------------------------------------------------------------------------------------------
def test_a_machine_that_installs_is_started_once_by_one_decision(here: Node) -> None:
    vm = machine(attributes={MARK: "debian"})
    assert told(here.one("RUNNING", 1, vm)) == ("RUNNING", True, "")
    assert here.driver.names() == ["define", "start"] and here.record().started == 1
    here.driver.machines[0].state = "POWEROFF"
    assert told(here.one("RUNNING", 1, vm)) == ("POWEROFF", False, "")
    assert here.driver.names() == []
    assert told(here.one("RUNNING", 2, vm)) == ("RUNNING", True, "")
    assert "start" in here.driver.names() and here.record().started == 2


def test_the_start_of_an_installer_is_on_the_disk_before_it_is_begun(here: Node) -> None:
    class Watched(MemoryDriver):
        def start(self, mark: Any) -> None:
            assert here.record().started == 1
            raise HypervisorError("starting it", "the host dies here")

    here.driver = Watched()
    outcome = here.one("RUNNING", 1, machine(attributes={MARK: "debian"}))
    assert outcome.error is not None and "host dies" in outcome.error["found"]


# -- disks -------------------------------------------------------------------------------------------------------------
@pytest.fixture
def with_disk(here: Node, tmp_path: Path) -> Iterator[Vm]:
    image = tmp_path / "image"
    image.write_bytes(b"an image")
    yield machine(disks=(Disk(0, "vda", source=str(image), clone=False, format="qcow2"),))


def test_each_task_of_a_running_machine_is_done_once(here: Node, with_disk: Vm) -> None:
    here.one("RUNNING", 1, with_disk)
    here.driver.names()
    tasks = (
        DiskTask(CREATE, "t1", 0, "crash", snapshot_id=1, name="one", mark="m"),
        DiskTask(DELETE, "t2", 0, snapshot_id=0, name="old", mark="n"),
    )
    first = here.one("RUNNING", 2, with_disk, tasks=tasks)
    assert told(first) == ("RUNNING", True, "") and [each.token for each in first.tasks] == ["t1", "t2"]
    assert here.driver.names() == ["adjust", "snapshot nebula-1-m crash", "delete nebula-0-n"]
    again = here.one("RUNNING", 2, with_disk, tasks=tasks)
    assert told(again) == ("RUNNING", False, "") and again.tasks == first.tasks
    assert here.driver.names() == ["adjust"]
    here.one("RUNNING", 3, with_disk, tasks=tasks[1:])
    # Only what plans still name is remembered.
    assert [each.token for each in here.record().tasks] == ["t2"]


def test_a_task_that_fails_is_told_and_the_others_go_on(here: Node, with_disk: Vm) -> None:
    here.one("RUNNING", 1, with_disk)
    here.driver.fails["delete nebula-0-n"] = HypervisorError("deleting it", "no such snapshot")
    tasks = (
        DiskTask(DELETE, "t1", 0, snapshot_id=0, name="old", mark="n"),
        DiskTask(CREATE, "t2", 0, snapshot_id=1, name="one", mark="m"),
    )
    outcome = here.one("RUNNING", 2, with_disk, tasks=tasks)
    assert told(outcome) == ("RUNNING", True, "HypervisorError")
    assert [(each.token, each.error is None) for each in outcome.tasks] == [("t1", False), ("t2", True)]
    assert [each.token for each in here.record().tasks] == ["t2"]
    here.driver.fails.clear()
    here.driver.names()
    assert here.one("RUNNING", 2, with_disk, tasks=tasks).error is None
    assert here.driver.names() == ["adjust", "delete nebula-0-n"]


def test_a_machine_whose_disk_could_not_be_reverted_is_not_started(here: Node, with_disk: Vm) -> None:
    vm = replace(with_disk, disks=(replace(with_disk.disks[0], readonly=True),))
    task = DiskTask("snapshot-revert", "t1", 0, snapshot_id=0, name="old", mark="n")
    outcome = here.one("RUNNING", 1, vm, tasks=(task,))
    assert told(outcome)[::2] == ("POWEROFF", "Unsupported")
    assert "start" not in here.driver.names()
    assert [each.token for each in outcome.tasks] == ["t1"]


# -- images of the node's own ------------------------------------------------------------------------------------------
def test_what_machines_rest_on_is_read_from_their_own_directories(here: Node) -> None:
    here.one("RUNNING")
    record = replace(here.record(), images=("an image",))
    text = json.dumps(to_plain(record))
    (here.directory() / RECORD).write_text(text, encoding="utf-8")
    # An administrator's copy, of which no machine is.
    (here.directory().parent / "0.old").mkdir()
    (here.directory().parent / "0.old" / RECORD).write_text(text.replace("an image", "another"), encoding="utf-8")
    (here.directory().parent / "1").mkdir()
    assert carry_out._images_in_use(str(here.root)) == {"an image"}


# -- files of disks ----------------------------------------------------------------------------------------------------
def test_what_a_plan_holds_is_written_into_a_disk_as_it_is(here: Node) -> None:
    made = Batch(Plan(CATALOG, 1, "node1", ()), here.driver, str(here.root))
    assert made._content_of(Injected("/etc/a", "text", mode=0o600)) == inject.Entry("/etc/a", b"text", 0o600)
    gone = ContextFile("/nowhere/a", "a")
    with pytest.raises(StorageFailed, match="FILES: '/nowhere/a': the plan does not hold it"):
        made._content_of(Injected("/etc/a", file=gone))
