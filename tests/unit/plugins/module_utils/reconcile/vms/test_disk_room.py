# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks that would become larger than their file system has room for: nothing of the item is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.base import Engine
from ansible_collections.nebula.provision.plugins.module_utils.model.datastore import Datastore, DatastoreType
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed, ObservedVm
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.model.transfer import SHARED, SSH
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms import disk_room
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.reconcile.vms.conftest import (
    VM,
    failed,
    record,
    refusal,
    run,
    want,
)

OS = {"IMAGE": "demo"}
Has = Callable[..., None]


def own(size: int) -> dict[str, Any]:
    return {"TYPE": "fs", "SIZE": str(size)}


def item(*sizes: int, **more: Any) -> dict[str, Any]:
    return dict(VM, disks=[OS, *map(own, sizes)], **more)


@pytest.fixture(params=["running", "poweroff"])
def state(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def has_room(engine: Engine) -> Has:
    """Let the machine's host say how much room its machines' disks have."""

    def has_room(free: int | None, state: str = "running") -> None:
        with engine.session():
            (record,) = engine.vms.pool()
            seen = ObservedVm(record.id or 0, record.uuid, "RUNNING" if state == "running" else "POWEROFF")
            engine.vms.observe([Observed("node1", vms=(seen,), disk_room=free, room=70)])

    return has_room


def test_a_disk_that_its_host_has_no_room_for_stays_as_it_is(engine: Engine, has_room: Has, state: str) -> None:
    run(engine, item(4, 4, state=state))
    has_room(100, state)
    error = refusal(engine, item(4, 105, state=state))
    assert error == (
        "VM web (id 0): DISK 2: SIZE = 105: it has 4 MB, and 100 MB are free in datastore system of host node1. Give a "
        "smaller SIZE, or make room there. Where the same room may be promised twice, set capacity_check: false for "
        "datastore system (nebula_datastores)"
    )
    # What all of them grow by.
    error = refusal(engine, item(54, 55, state=state))
    assert (
        "DISK 2: SIZE = 55" in error
        and "100 MB are free in datastore system of host node1, of which this run has " in error
    )
    # An empty disk that comes.
    assert "DISK 3: SIZE = 101: 100 MB are free" in refusal(engine, item(4, 4, 101, state=state))
    # Another list is as good as if the former had never been.
    (planned,) = run(engine, item(54, 54, state=state))
    assert [disk.size for disk in planned.vm.disks][1:] == [54, 54]


def test_the_room_of_a_shared_datastore_is_that_of_all_its_hosts(engine: Engine, has_room: Has) -> None:
    run(engine, item(4))
    with engine.session():
        shared = Datastore(None, "nfs", DatastoreType.SYSTEM, shared=True, hosts=("node1",))
        made = engine.datastores.allocate(shared)
    has_room(100)
    error = refusal(engine, item(105))
    assert "100 MB are free in shared datastore nfs" in error and "for datastore nfs" in error
    with engine.session():
        engine.datastores.update(made.id or 0, capacity_check=False)
    assert len(run(engine, item(105))) == 1


def test_nothing_is_refused_of_a_host_that_tells_nothing(engine: Engine, has_room: Has) -> None:
    run(engine, item(4))
    assert engine.vms.disk_room("node1") is None
    has_room(None)
    assert len(run(engine, item(10**6))) == 1


def test_a_datastore_may_promise_its_room_twice(engine: Engine, has_room: Has) -> None:
    run(engine, item(4))
    has_room(1)
    with engine.session():
        engine.datastores.update("system", capacity_check=False)
    assert len(run(engine, item(10**6))) == 1


@pytest.mark.parametrize("transfer", [SHARED, SSH])
def test_the_file_of_a_persistent_image_grows_where_it_lies(
    engine: Engine, has_room: Has, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transfer: str
) -> None:
    with engine.session():
        kept = engine.images.allocate(Image(None, "kept", type=ImageType.DATABLOCK, persistent=True))
        engine.images.update(kept.id or 0, state=ImageState.READY, size=4, source=str(tmp_path / "kept"))
        engine.hosts.update("node1", transfer=transfer)
    disks = [OS, {"IMAGE": "kept", "SIZE": "4"}]
    run(engine, dict(VM, disks=disks))
    has_room(100)
    asked = []

    def room(directory: str) -> tuple[int, int]:
        asked.append(directory)
        return 50, 1000

    monkeypatch.setattr(disk_room.datastore_layout, "room", room)
    larger = dict(VM, disks=[OS, dict(disks[1], SIZE="80")])
    if transfer == SHARED:
        assert f"50 MB are free in {tmp_path}" in refusal(engine, larger)
        assert asked == [str(tmp_path)]
    else:
        # Its host keeps it, beside the disks of machines.
        assert "70 MB are free in nebula_root of host node1" in refusal(engine, larger)
        assert asked == []
    assert len(want(engine, dict(VM, disks=[OS, dict(disks[1], SIZE="54")]))[1]) == 1


def test_machines_of_one_list_do_not_get_the_same_room_twice(engine: Engine, has_room: Has) -> None:
    names = ("a", "b", "c")
    first = [dict(item(4), name=name) for name in names]
    _outcomes, planned = want(engine, *first)
    record(engine, planned)
    with engine.session():
        seen = tuple(ObservedVm(each.id or 0, each.uuid, "RUNNING") for each in engine.vms.pool())
        engine.vms.observe([Observed("node1", vms=seen, disk_room=100)])
    outcomes, planned = want(engine, *(dict(item(size), name=name) for name, size in zip(names, (54, 64, 44))))
    # The second one has no room, and leaves what there is to the third one.
    assert [planned_.vm.name for planned_ in planned] == ["a", "c"]
    (error,) = failed(outcomes)
    assert error.startswith("VM b (id 1): DISK 1: SIZE = 64: it has 4 MB, and 100 MB are free")


def test_what_is_left_as_it_is_takes_no_room(engine: Engine, has_room: Has) -> None:
    """Another machine would be refused for it."""
    run(engine, item(4))
    has_room(100)
    swapped = dict(VM, disks=[OS, {"TYPE": "swap", "SIZE": "90"}])
    outcomes, planned = want(engine, swapped)
    assert (failed(outcomes), planned) == ([], []) and outcomes[0].differs
    assert engine.vms.take_disk_room(7, "disks of node1", 100, 100) is None
    assert engine.vms.take_disk_room(8, "disks of node1", 1, 100) == 100
    assert engine.vms.take_disk_room(8, "disks of node1", 1, None) is None
