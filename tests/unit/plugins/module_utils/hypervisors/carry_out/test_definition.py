# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks, context and definition of a machine are made as they are to be, and once."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from file_facts import facts
from memory_hypervisor import MemoryDriver
from memory_node import CATALOG, Node, machine, told

from ansible_collections.nebula.provision.plugins.module_utils.errors import StorageFailed, TimedOut
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk import file_injection
from ansible_collections.nebula.provision.plugins.module_utils.host import node_file
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import definition
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.batch import Batch
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.forecast import Forecast
from ansible_collections.nebula.provision.plugins.module_utils.model.context import Context, ContextFile
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.injected_files import Injected
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Plan
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import PlannedVm as Planned
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm


def changes(here: Node, planned: Planned) -> bool:
    plan = Plan(CATALOG, here.number, "node1", (planned,))
    return Forecast(plan, here.driver, str(here.root)).would_change(planned)


def test_a_running_machine_gets_its_new_definition_and_what_can_be_given_at_once(here: Node) -> None:
    here.one("RUNNING")
    here.driver.names()
    here.driver.adjusts = True
    assert told(here.one("RUNNING", 2, machine(memory=128))) == ("RUNNING", True, "")
    assert here.driver.names() == ["adjust", "define"]
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
        former.setattr(definition.iso9660, "PADDING", 0)
        here.one("RUNNING", 1, vm)
    iso = here.directory() / "disk.1"
    return vm, iso, iso.stat().st_size


@pytest.mark.parametrize("exact", [True, False])
def test_the_record_says_how_the_context_was_filled_in(here: Node, exact: bool) -> None:
    context = Context(1, "hda", variables={"A": "1"}, exact=exact)
    assert told(here.one("RUNNING", vm=machine(context=context))) == ("RUNNING", True, "")
    assert json.loads((here.directory() / "vm.json").read_text())["exact"] is exact
    assert told(here.one("RUNNING", vm=machine(context=context))) == ("RUNNING", False, "")


def test_a_machine_of_a_former_release_keeps_its_iso_until_it_boots(here: Node, unpadded: tuple[Vm, Path, int]) -> None:
    vm, iso, length = unpadded
    before = facts(iso), here.record()
    here.driver.names()
    planned = Planned(vm, 1, "RUNNING")
    plan = Plan(CATALOG, here.number, "node1", (planned,))
    assert not Forecast(plan, here.driver, str(here.root)).would_change(planned)
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
    assert changes(here, planned)
    outcome = here.one("POWEROFF", 3, changed, **orders)
    assert (told(outcome)[0], outcome.fitted) == ("POWEROFF", True)
    assert not (here.directory() / "disk.1").exists() and (here.directory() / "disk.0").stat().st_size == 2 << 20
    assert told(here.one("POWEROFF", 3, changed, **orders)) == ("POWEROFF", False, "")
    planned = replace(planned, wanted="POWEROFF")
    assert not Forecast(Plan(CATALOG, here.number, "node1", (planned,)), here.driver, str(here.root)).would_change(
        planned
    )


def test_a_machine_that_does_not_go_off_keeps_what_it_uses(here: Node) -> None:
    disks = tuple(Disk(number, f"vd{'ab'[number]}", type="FS", driver="raw", size=1) for number in (0, 1))
    here.one("RUNNING", 1, machine(disks=disks))
    here.driver.fails["shutdown"] = TimedOut("shutting down", "it runs on", "Ask it again")
    outcome = here.one("POWEROFF", 2, machine(disks=disks[:1]), detached=(1,), refitted=True)
    assert (outcome.state, outcome.fitted) == ("RUNNING", False)
    assert (here.directory() / "disk.1").exists()


def test_of_a_machine_whose_devices_stay_nothing_is_said_of_them(here: Node) -> None:
    assert here.one("RUNNING").fitted is None


def test_what_a_plan_holds_is_written_into_a_disk_as_it_is(here: Node) -> None:
    plan = Plan(CATALOG, 1, "node1", ())
    common = Batch(plan, here.driver, str(here.root))._common(node_file.read(str(here.root)))
    assert definition.content_of(common, Injected("/etc/a", "text", mode=0o600)) == file_injection.Entry(
        "/etc/a", b"text", 0o600
    )
    gone = ContextFile("/nowhere/a", "a")
    with pytest.raises(StorageFailed, match="FILES: '/nowhere/a': the plan does not hold it"):
        definition.content_of(common, Injected("/etc/a", file=gone))


def test_a_file_of_the_host_in_place_of_an_image_is_no_restricted_one(here: Node) -> None:
    disk = Disk(0, "sda", source="/etc/shadow", format="tar", driver="tar")
    outcome = here.one("RUNNING", 1, machine(disks=(disk,)))
    assert outcome.error is not None and "DISK/SOURCE = /etc/shadow" in outcome.error["asked"]
    assert outcome.state != "RUNNING"
    assert here.driver.names() == []
