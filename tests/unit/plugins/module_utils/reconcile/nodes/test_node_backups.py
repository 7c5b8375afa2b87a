# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host does of what the front-end has chosen. What it stores is tried with real disks in tests/integration."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_backups import MadeBackups
from move_pairs import Beside, free_port, key_pair, wait_until

from ansible_collections.nebula.provision.plugins.module_utils.calls import machine_backup as call
from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, NotFound, WrongState
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import (
    machine_backups,
    machine_reading,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.answers import backed_up_machines
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.given_backup import GivenBackup
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import (
    BackupPassage,
    BackupRequest,
    MachineToBackUp,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.nodes import node_backups
from ansible_collections.nebula.provision.plugins.module_utils.storage import datastore_layout

CATALOG = "0f0e0d0c-0000-4000-8000-000000000001"
GIVEN = GivenBackup("RUNNING", "frozen", "by libvirt", ())


def machines(host: str, *ids: int) -> tuple[MachineToBackUp, ...]:
    return tuple(MachineToBackUp(Vm(n, f"u-{n}", f"vm-{n}", "kvm", cpu=1.0, memory=1), 1, host) for n in ids)


def params(*requests: BackupRequest, **given: Any) -> dict[str, Any]:
    options = {name: spec.get("default") for name, spec in call.ARGUMENTS["argument_spec"].items()}
    return {**options, "requests": json.dumps(to_plain(requests)), **given}


def passages() -> tuple[BackupPassage, BackupPassage]:
    """That of the host with the machines, and that of the front-end."""
    (own, own_key), (theirs, their_key) = key_pair("source"), key_pair("target")
    gives = BackupPassage("7d0c", True, "front", "", free_port(), own, theirs, their_key, 20)
    takes = replace(
        gives, gives=False, peer="node2", address="127.0.0.1", certificate=theirs, own_certificate=own, key=own_key
    )
    return gives, takes


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What would be stored: by machine, what is said of it; and how many were at work at once."""
    found: dict[str, Any] = {"given": {}, "most": 0}
    lock, now = threading.Lock(), [0]

    def back_up(request: BackupRequest, _place: Any, begin: Any, machine: MachineToBackUp) -> dict[str, Any]:
        with lock:
            now[0] += 1
            found["most"] = max(found["most"], now[0])
        error = ""
        try:
            with begin(machine, "new", "") as readable:
                found["given"][machine.vm.name] = (request.directory, readable.given.state)
                time.sleep(0.05)
                readable.keep()
        except Exception as problem:
            error = str(problem)
        with lock:
            now[0] -= 1
        return node_backups._outcome_of(machine, id="" if error else "i", error=error)

    monkeypatch.setattr(machine_backups, "back_up", back_up)
    monkeypatch.setattr(machine_backups, "open_place", lambda request, _root: request.directory)
    monkeypatch.setattr(machine_reading, "readable", reading)
    monkeypatch.setattr(node_backups, "driver_if_there", lambda *_asked: contextlib.nullcontext(object()))
    return found


@contextlib.contextmanager
def reading(
    _request: BackupRequest, _driver: Any, _root: str, machine: MachineToBackUp, _checkpoint: str, _since: str
) -> Iterator[Any]:
    if machine.vm.vm_id == 13:
        raise WrongState("backup of vm-13", "it is being saved")

    class Shown:
        given, sources, files = GIVEN, {}, {}

        def keep(self) -> None: ...

    yield Shown()


def test_own_machines_are_backed_up_so_many_at_a_time(stored: dict[str, Any]) -> None:
    request = BackupRequest(CATALOG, "/of/the/run", "node", machines("node1", 3, 13, 1, 2), at_once=2)
    result = node_backups.back_up(params(request, directory="/own"), False)
    found = [(each["name"], each["id"], each["error"]) for each in result.payload["backups"]]
    assert found == [
        ("vm-1", "i", ""),
        ("vm-2", "i", ""),
        ("vm-3", "i", ""),
        ("vm-13", "", "backup of vm-13: it is being saved"),
    ]
    assert (stored["most"], result.changed, result.errors) == (2, True, [])
    # At a node, its own directory counts.
    assert {place for place, _state in stored["given"].values()} == {"/own"}


def test_what_is_no_longer_kept_goes_with_each_new_one(stored: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    pruned: list[tuple[str, Any]] = []

    def prune(_place: Any, _request: Any, machine: MachineToBackUp, keep: Any) -> dict[str, Any]:
        pruned.append((machine.vm.name, keep["last"]))
        return {"removed": ["old"]}

    monkeypatch.setattr(node_backups, "_pruned", prune)
    request = BackupRequest(CATALOG, "/of/the/run", "node", machines("node1", 13, 1))
    result = node_backups.back_up(params(request, keep={"last": 3}), False)
    assert [each.get("removed") for each in result.payload["backups"]] == [["old"], None]
    assert pruned == [("vm-1", 3)]


def test_the_front_end_takes_those_of_others_beside_its_own(stored: dict[str, Any]) -> None:
    gives, takes = passages()
    own = BackupRequest(CATALOG, "/b", "frontend", machines("front", 1, 2))
    of_other = replace(own, machines=machines("node2", 4, 13))
    node = Beside(lambda: node_backups.back_up(params(replace(of_other, directory="", passage=gives)), False))
    result = node_backups.back_up(params(own, replace(of_other, passage=takes)), False)
    errors = {each["name"]: each["error"] for each in result.payload["backups"]}
    assert errors.pop("vm-13") == "backup of vm-13 (host node2): it is being saved"
    assert errors == {"vm-1": "", "vm-2": "", "vm-4": ""}
    assert stored["given"]["vm-4"] == ("/b", "RUNNING")
    assert node.result().payload == {"backups": []}
    assert stored["most"] <= 2


def test_a_host_that_does_not_come_costs_its_own_machines_alone(stored: dict[str, Any]) -> None:
    takes = replace(passages()[1], meeting=0)
    own = BackupRequest(CATALOG, "/b", "frontend", machines("front", 1))
    other = replace(own, machines=machines("node2", 4), passage=takes)
    result = node_backups.back_up(params(own, other), False)
    errors = [each["error"] for each in result.payload["backups"]]
    assert errors[0] == "" and "the host of the machine was not met at 127.0.0.1" in errors[1]


def test_a_directory_that_can_not_be_used_is_the_error_of_each_machine(
    stored: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_request: BackupRequest, _root: str) -> None:
        raise InvalidValue("directory /b", "it is foreign")

    monkeypatch.setattr(machine_backups, "open_place", refuse)
    result = node_backups.back_up(params(BackupRequest(CATALOG, "/b", "frontend", machines("front", 1, 2))), False)
    assert [each["error"] for each in result.payload["backups"]] == ["directory /b: it is foreign"] * 2


def test_check_mode_says_what_would_be_backed_up(tmp_path: Path) -> None:
    gives, takes = passages()
    request = BackupRequest(CATALOG, str(tmp_path / "a/b"), "frontend", machines("node2", 4))
    result = node_backups.back_up(params(replace(request, passage=takes)), True)
    assert [(each["name"], each["kind"]) for each in result.payload["backups"]] == [("vm-4", "would")]
    assert result.changed
    assert node_backups.back_up(params(replace(request, passage=gives)), True).payload == {"backups": []}
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        ("open to all", "everybody may write to"),
        ("foreign", "it is somebody else's"),
        ("nested", "which is a directory of backups itself"),
        ("below the root", "which is the nebula_root of a front-end or a node"),
        ("a link", "is a link, to"),
        ("a broken mark", "it can't be read"),
        ("full", "are free, besides"),
    ],
)
def test_check_mode_refuses_the_directories_that_a_run_refuses(
    refused: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, root = tmp_path / "a/b", tmp_path / "root"
    (tmp_path / "a").mkdir()
    if refused == "open to all":
        place.mkdir()
        place.chmod(0o777)
    elif refused == "foreign":
        place.mkdir()
        (place / "theirs").write_text("")
    elif refused == "nested":
        MadeBackups(tmp_path / "a")
    elif refused == "below the root":
        place = root / "b"
    elif refused == "a link":
        place.symlink_to(tmp_path)
    elif refused == "a broken mark":
        MadeBackups(place)
        (place / "nebula-machine-backups.json").write_text("{")
    else:
        monkeypatch.setattr(datastore_layout, "free_space", lambda _directory: 0)
    before = sorted(tmp_path.rglob("*"))
    given = params(BackupRequest(CATALOG, str(place), "frontend", machines("node2", 4, 5)), root=str(root))
    result = node_backups.back_up(given, True)
    assert not result.changed and sorted(tmp_path.rglob("*")) == before
    foreseen = [(each["id"], each["kind"], each["error"]) for each in result.payload["backups"]]
    assert [(id, kind) for id, kind, _error in foreseen] == [("", "")] * 2
    assert words in foreseen[0][2]
    monkeypatch.setattr(node_backups, "driver_if_there", lambda *_asked: contextlib.nullcontext(object()))
    outcomes = node_backups.back_up(given, False).payload["backups"]
    assert [each["error"] for each in outcomes] == [error for _id, _kind, error in foreseen]


def test_who_reads_no_machines_needs_no_libraries() -> None:
    gives, takes = passages()
    request = BackupRequest(CATALOG, "/b", "frontend", machines("node2", 4))
    assert call.libraries(params(request)) == ["libvirt"]
    assert call.libraries(params(replace(request, passage=gives))) == ["libvirt"]
    assert call.libraries(params(replace(request, passage=takes))) == []
    assert call.libraries(params(request, state="pruned")) == []
    assert call.libraries({**params(), "requests": "{"}) == []


@pytest.mark.parametrize("given", ["{}", "no json", '[{"a": 1}]', "[1]"])
def test_what_is_no_request_is_refused(given: str) -> None:
    with pytest.raises(InvalidValue):
        node_backups.requests_of({**params(), "requests": given})


def test_rules_that_keep_nothing_are_refused(tmp_path: Path) -> None:
    request = BackupRequest(CATALOG, str(tmp_path / "b"), "frontend", machines("node1", 1))
    for keep, words in (({"lst": 1}, "there is no such rule"), ({"last": 0}, "no backup would be kept")):
        with pytest.raises(InvalidValue, match=f"nebula_machine_backup_keep.*{words}"):
            node_backups.prune(params(request, keep=keep), False)


def test_where_there_are_no_backups_none_are_read(tmp_path: Path) -> None:
    request = BackupRequest(CATALOG, str(tmp_path / "b"), "frontend", ())
    on_node = replace(request, at="node")
    assert node_backups.verify(params(on_node, directory=str(tmp_path / "b")), False).payload == {"backups": []}
    with pytest.raises(NotFound, match=r"there is no nebula-machine-backups\.json in it"):
        node_backups.verify(params(request), False)
    node_backups.prune(params(request, keep={}), False)
    assert node_backups.verify(params(request), False).payload == {"backups": []}


def test_what_another_catalog_has_there_is_read_where_all_is_meant(tmp_path: Path) -> None:
    other = "1b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
    made = MadeBackups(tmp_path / "b")
    own, theirs = (made.full(7, catalog, {0: b"x" * 65536}) for catalog in (CATALOG, other))
    with (made.place(theirs) / theirs.disks[0].file.name).open("r+b") as file:
        file.seek(70_000)
        file.write(b"y")
    request = BackupRequest(CATALOG, str(made.directory), "frontend", ())

    def found(request: BackupRequest) -> list[tuple[str, str, str, bool]]:
        outcomes = node_backups.verify(params(request), False).payload["backups"]
        return [(each["name"], each["catalog"], each["id"], "altered" in each["error"]) for each in outcomes]

    of_others = (f"7-{other}", other, theirs.id, True)
    assert found(request) == [("web-7", "", own.id, False), of_others]
    assert found(replace(request, machines=machines("node1", 7))) == [("web-7", "", own.id, False)]
    # On a site that has nothing but the directory, all of it is of another catalog.
    assert of_others in found(replace(request, catalog="2b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"))
    # What can't be read as a backup at all has a row as well.
    (made.place(theirs) / f"{theirs.id}.json").write_text("{")
    (row,) = (each for each in node_backups.verify(params(request), False).payload["backups"] if each["catalog"])
    assert (row["name"], row["id"]) == (f"7-{other}", "") and row["error"]


def test_what_is_too_long_is_cut(stored: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """One answer that is refused would hide all others."""

    def back_up(_request: Any, _place: Any, _begin: Any, machine: MachineToBackUp) -> dict[str, Any]:
        what = {"error": "b" * 9000 + "the end", "warnings": ["w" * 5000] * 3000}
        return node_backups._outcome_of(machine, **what)

    monkeypatch.setattr(machine_backups, "back_up", back_up)
    result = node_backups.back_up(params(BackupRequest(CATALOG, "/b", "node", machines("n", 1))), False)
    (found,) = backed_up_machines.read("n", result.payload) or ()
    assert len(found.error) == 4000 and found.error.startswith("bbb") and found.error.endswith("the end")
    assert (len(found.warnings), found.warnings[-1]) == (101, "2900 warnings more")


def test_one_host_does_not_keep_the_others_waiting() -> None:
    shares, order = node_backups.Shares(2), []
    ends = [threading.Event(), threading.Event()]

    def stalled(number: int) -> None:
        with shares.taken(1):
            order.append("stalled")
            ends[number].wait(20)

    def other() -> None:
        with shares.taken(2):
            order.append("other")

    first = Beside(lambda: stalled(0))
    wait_until(lambda: len(order) == 1)
    second = Beside(lambda: stalled(1))
    wait_until(lambda: len(order) == 2)
    third, fourth = Beside(lambda: stalled(1)), Beside(other)
    wait_until(lambda: len(shares._waiting) == 2)
    ends[1].set()
    for each in (second, fourth):
        each.result()
    # It waited for less than those of the other one.
    assert order[2] == "other"
    ends[0].set()
    for each in (first, third):
        each.result()
    assert not shares._waiting and not shares._at_work
