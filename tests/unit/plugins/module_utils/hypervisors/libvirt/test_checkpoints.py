# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checkpoints of backups are dropped, those of others never. libvirt is a stand-in by the reference of its API."""

from __future__ import annotations

from typing import Any

import pytest
from libvirt_stand_in import LibvirtError, install, libvirt

from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import checkpoints


class Checkpoint:
    def __init__(self, domain: Machine, name: str, error: LibvirtError | None = None) -> None:
        self.domain, self.name, self.error = domain, name, error

    def getName(self) -> str:
        return self.name

    def delete(self, flags: int) -> None:
        self.domain.told.append((self.name, flags))
        if self.error is not None and not flags:
            raise self.error


class Machine:
    def __init__(self, *names: str, active: bool = True, error: LibvirtError | None = None) -> None:
        self.told: list[tuple[str, int]] = []
        self.checkpoints = [Checkpoint(self, name, error) for name in names]
        self.active = active

    def name(self) -> str:
        return "one-1"

    def isActive(self) -> bool:
        return self.active

    def listAllCheckpoints(self, _flags: int) -> list[Any]:
        return self.checkpoints


@pytest.fixture(autouse=True)
def _library(monkeypatch: pytest.MonkeyPatch) -> None:
    library = libvirt()
    library.VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL = 2
    library.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY = 2
    library.VIR_ERR_NO_DOMAIN_CHECKPOINT = 102
    install(monkeypatch, library)


def test_those_of_a_machine_that_runs_go_with_their_bitmaps_the_newest_first() -> None:
    machine = Machine("nebula-1", "nebula-2")
    assert checkpoints.drop_checkpoints(machine) == ["nebula-2", "nebula-1"]
    assert machine.told == [("nebula-2", 0), ("nebula-1", 0)]


def test_of_a_machine_that_is_off_libvirt_forgets_them() -> None:
    machine = Machine("nebula-1", active=False)
    checkpoints.drop_checkpoints(machine)
    assert machine.told == [("nebula-1", 2)]


@pytest.mark.parametrize(("code", "told"), [(1, [("nebula-1", 0), ("nebula-1", 2)]), (102, [("nebula-1", 0)])])
def test_one_whose_bitmap_has_gone_is_forgotten(code: int, told: list[tuple[str, int]]) -> None:
    machine = Machine("nebula-1", error=LibvirtError("missing bitmap", code))
    checkpoints.drop_checkpoints(machine)
    assert machine.told == told


def test_somebody_elses_are_named_before_anything_is_dropped() -> None:
    machine = Machine("nebula-1", "theirs")
    with pytest.raises(Conflict, match="somebody else has made some: theirs") as caught:
        checkpoints.drop_checkpoints(machine)
    assert "virsh checkpoint-delete one-1 theirs" in caught.value.remedy
    assert machine.told == []


def test_without_any_nothing_is_done() -> None:
    assert checkpoints.drop_checkpoints(Machine()) == []
