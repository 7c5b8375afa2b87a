# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine is saved, and goes on from there or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from memory_hypervisor import WHOLE
from memory_node import Node, machine, suspended, told

from ansible_collections.nebula.provision.plugins.module_utils.errors import HypervisorError, WrongState
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors import registry
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import suspension
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.machine_record import CHECKPOINT, PARTIAL
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import PlannedDatastore, PlannedVm


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


@pytest.mark.parametrize("name", [CHECKPOINT, PARTIAL])
def test_a_link_in_the_place_of_saved_memory_is_never_followed(here: Node, tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"host's")
    secret.chmod(0o640)
    here.one("RUNNING")
    (here.directory() / name).symlink_to(secret)
    assert told(here.one("SUSPENDED", 2)) == ("SUSPENDED", True, "")
    saved = here.directory() / CHECKPOINT
    assert not saved.is_symlink() and saved.read_bytes() == WHOLE
    assert secret.read_bytes() == b"host's" and secret.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("name", sorted(registry.DRIVERS))
def test_nobody_but_root_writes_where_machines_are_saved(name: str) -> None:
    mode, _group = registry.DRIVERS[name].access(7)
    assert mode & 0o700 == 0o700 and not mode & 0o022


def test_what_a_killed_run_saved_completely_is_not_lost(here: Node) -> None:
    here.one("RUNNING")
    (here.directory() / PARTIAL).write_bytes(WHOLE)
    here.driver.machines[0].state = "POWEROFF"
    assert told(here.one("SUSPENDED", 2)) == ("SUSPENDED", True, "")
    assert "suspend" not in here.driver.names() and (here.directory() / CHECKPOINT).read_bytes() == WHOLE


def test_where_nothing_is_saved_a_machine_stands_still_and_goes_on(here: Node) -> None:
    here.driver.suspends_in_memory = True
    here.one("RUNNING")
    here.driver.names()
    assert told(here.one("SUSPENDED", 2)) == ("SUSPENDED", True, "")
    # After a boot of its host there is no memory that it could go on with.
    assert here.driver.names() == ["no autostart", "suspend"]
    assert not {CHECKPOINT, PARTIAL} & {path.name for path in here.directory().iterdir()}
    assert told(here.one("SUSPENDED", 2)) == ("SUSPENDED", False, "")
    assert told(here.one("RUNNING", 3)) == ("RUNNING", True, "")
    assert here.driver.names() == ["resume", "adjust", "autostart"]
    assert "New VM state is BOOT_SUSPENDED" in here.log()
    # What runs beside it is looked after whenever it is found running.
    assert here.driver.attended == [0]
    here.one("RUNNING", 4)
    assert here.driver.attended == [0, 0]


@pytest.mark.parametrize(
    ("wanted", "hard", "asked"),
    [
        ("POWEROFF", False, ["resume", "shutdown"]),
        ("POWEROFF", True, ["cancel"]),
        ("DONE", False, ["resume", "shutdown", "remove"]),
        ("DONE", True, ["remove"]),
    ],
)
def test_a_machine_that_stands_still_is_ended(here: Node, wanted: str, hard: bool, asked: list[str]) -> None:
    here.driver.suspends_in_memory = True
    suspended(here)
    assert told(here.one(wanted, 3, hard=hard)) == (wanted, True, "")
    assert [name for name in here.driver.names() if name != "adjust"] == asked


def test_a_machine_that_can_not_go_on_is_still_suspended(here: Node) -> None:
    here.driver.suspends_in_memory = True
    suspended(here)
    here.driver.fails["resume"] = HypervisorError("thawing it", "no")
    assert told(here.one("RUNNING", 3)) == ("SUSPENDED", False, "HypervisorError")


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize(("state", "words"), [("POWEROFF", "it is POWEROFF"), ("UNKNOWN", "it is UNKNOWN")])
def test_only_a_running_machine_is_suspended(here: Node, state: str, words: str, in_memory: bool) -> None:
    here.driver.suspends_in_memory = in_memory
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


def test_a_disk_that_was_last_written_as_the_machine_was_saved_is_no_newer(tmp_path: Path) -> None:
    disk, checkpoint = tmp_path / "disk.0", tmp_path / "checkpoint"
    job: Any = SimpleNamespace(
        directory=str(tmp_path), vm=SimpleNamespace(name="web", disks=[SimpleNamespace(disk_id=0, readonly=False)])
    )
    for path in (disk, checkpoint):
        path.write_bytes(b"x")
        os.utime(path, ns=(10**18, 10**18))
    suspension._check_disks_unchanged(job, str(checkpoint))
    os.utime(disk, ns=(10**18, 10**18 + 10**6))
    with pytest.raises(WrongState, match="disk 0 was written after"):
        suspension._check_disks_unchanged(job, str(checkpoint))


@pytest.mark.parametrize("is_link", [False, True])
def test_nothing_is_saved_on_a_shared_datastore_or_gone_on_with_there(
    here: Node, tmp_path: Path, is_link: bool
) -> None:
    shared = {"datastore": PlannedDatastore("nfs", "mark")}
    here.apply(PlannedVm(machine(), 1, "RUNNING"), **shared)
    here.driver.names()
    (refused,) = here.apply(PlannedVm(machine(), 2, "SUSPENDED"), **shared)
    assert refused.state == "RUNNING" and "shared datastore nfs" in (refused.error or {})["found"]
    assert "suspend" not in here.driver.names()
    here.apply(PlannedVm(machine(), 3, "POWEROFF"), **shared)
    # As root of another host puts it there.
    (tmp_path / "saved").write_bytes(WHOLE)
    checkpoint = here.directory() / CHECKPOINT
    checkpoint.symlink_to(tmp_path / "saved") if is_link else checkpoint.write_bytes(WHOLE)
    (started,) = here.apply(PlannedVm(machine(), 4, "RUNNING"), **shared)
    assert (started.state, started.error) == ("RUNNING", None)
    names = here.driver.names()
    assert "start" in names and "resume" not in names
