# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is not ours is not touched, and what is too late does nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from file_facts import facts
from memory_hypervisor import MemoryDriver
from memory_node import CATALOG, OTHER, Node, machine, told

from ansible_collections.nebula.provision.plugins.module_utils.host import node_file
from ansible_collections.nebula.provision.plugins.module_utils.host.files import lock
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import fence
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.machine_record import RECORD
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import PlannedVm as Planned


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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives directories to others")
@pytest.mark.parametrize("is_known", [False, True])
def test_a_directory_of_another_user_is_not_touched(here: Node, is_known: bool) -> None:
    """Who owns it can exchange what is done there by name: disks, checkpoints, records."""
    if is_known:
        here.one("RUNNING")
        here.driver.names()
    here.directory().mkdir(parents=True, exist_ok=True)
    os.chown(here.directory(), 12345, 0)
    before = facts(here.directory())
    for wanted in ("RUNNING", "SUSPENDED", "DONE"):
        outcome = here.one(wanted, 2)
        assert outcome.error is not None and outcome.error["kind"] == "ForeignObject"
        assert "user 12345 owns it" in outcome.error["found"]
    assert facts(here.directory()) == before and here.driver.names() == []


def test_one_that_a_killed_run_has_just_made_is_opened_to_whoever_runs_machines(here: Node) -> None:
    here.directory().mkdir(parents=True)
    here.directory().chmod(0o700)
    assert told(here.one("RUNNING")) == ("RUNNING", True, "")
    assert here.directory().stat().st_mode & 0o777 == 0o711


@pytest.mark.parametrize("name", [".vm.json.abc.tmp", ".disk.0.tmp", ".disk.0.tmp.raw"])
def test_an_empty_directory_and_what_killed_writes_left_there_are_ours(here: Node, name: str) -> None:
    """Also where not even the first record was whole."""
    here.directory().mkdir(parents=True)
    (here.directory() / name).touch()
    assert told(here.one("RUNNING")) == ("RUNNING", True, "")
    assert not list(here.directory().glob(".*"))
    (here.directory() / name).touch()
    here.one("RUNNING")
    assert not list(here.directory().glob(".*"))


@pytest.mark.parametrize("name", [".vm.json.abc.tmp", ".disk.0.tmp", ".disk.0.tmp.raw"])
def test_what_killed_writes_left_goes_with_a_machine_that_has_no_record_yet(here: Node, name: str) -> None:
    here.directory().mkdir(parents=True)
    (here.directory() / name).touch()
    assert told(here.one("DONE", hard=True))[0] == "DONE"
    assert not here.directory().exists()


def test_a_node_that_acted_on_a_later_decision_does_nothing_for_an_earlier_one(here: Node) -> None:
    here.one("RUNNING", generation=5)
    here.driver.names()
    outcome = here.one("POWEROFF", generation=4)
    assert told(outcome) == ("RUNNING", False, "StalePlan")
    assert outcome.error is not None and "generation 5" in outcome.error["found"]
    assert here.driver.names() == [] and here.record().generation == 5


def test_a_newer_plan_that_comes_meanwhile_ends_what_is_left_of_this_one(here: Node) -> None:
    class Slow(MemoryDriver):
        def survey(self, catalog: str) -> Any:
            node_file.accept(str(here.root), CATALOG, 50)
            return super().survey(catalog)

    here.driver = Slow()
    outcome = here.apply(Planned(machine(), 1, "RUNNING"), memory=1000)[0]
    assert told(outcome)[2] == "StalePlan"
    assert outcome.error is not None
    assert "another run has brought this host a newer plan" in outcome.error["found"]
    assert "then run again" in outcome.error["remedy"]
    assert not here.directory().exists()


def test_a_run_that_is_out_of_date_does_not_wait_for_the_machine_of_a_newer_one(
    here: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(MemoryDriver):
        def survey(self, catalog: str) -> Any:
            node_file.accept(str(here.root), CATALOG, 50)
            return super().survey(catalog)

    here.one("RUNNING")
    monkeypatch.setattr(fence, "LOCK_SECONDS", 1)
    here.driver = Slow()
    with lock(f"{here.directory()}/"):
        outcome = here.apply(Planned(machine(), 2, "RUNNING"), memory=1000)[0]
    assert told(outcome)[2] == "StalePlan"
