# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine of Xen moves while it is off, from a dom0 and to one. The dom0 is a stand-in (tests/tools/xl_stand_in.py),
and the other host of each move has its machines in memory; both speak with each other as hosts do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from libvirt_stand_in import Clock
from memory_node import CATALOG
from moving_nodes import DATA, MovingDriver, Pair, moved
from xl_stand_in import Dom0, Running

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.moves import passage
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen import driver as xen
from ansible_collections.nebula.provision.plugins.module_utils.model.move import COLD, SOURCE, TARGET
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Os

pytestmark = pytest.mark.root
UUID = "5bd0b2a1-7d1c-4a6e-8a44-0a8f6f2f9d01"


class Memory(MovingDriver):
    name = "xen"


class XenPair(Pair):
    """One host of both is a dom0."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch, of_xen: str) -> None:
        super().__init__(place)
        (place / "dom0").mkdir()
        self.dom0 = Dom0(place / "dom0", monkeypatch)
        monkeypatch.setattr(xen, "time", Clock())
        kernel = place / "vmlinuz"
        kernel.touch()
        self.vm = replace(self.vm, uuid=UUID, hypervisor="xen", memory=128, os=Os(kernel=str(kernel)))
        for role, node in self.nodes.items():
            driver: Any = xen.XenDriver() if role == of_xen else Memory()
            node.driver = driver
        self.dom0.then["create"] = lambda: self.dom0.domains.update({"one-1": Running(7, UUID)})
        for verb in ("shutdown", "destroy"):
            self.dom0.then[verb] = lambda: self.dom0.domains.pop("one-1", None)


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    # A door looks that often whether it is to be closed.
    monkeypatch.setattr(passage, "_STEP", 0.02)
    return lambda of_xen: XenPair(tmp_path, monkeypatch, of_xen)


def test_it_leaves_a_dom0(make: Any) -> None:
    pair = make(SOURCE)
    outcome = pair.source.one("RUNNING", pair.generation, pair.vm)
    assert outcome.error is None, outcome
    assert (pair.dom0.etc / "one-1.cfg").exists() and "one-1" in pair.dom0.domains
    (pair.source.directory(1) / "disk.0").write_bytes(DATA.ljust(1 << 20, b"\0"))
    found = pair.move(COLD)
    assert moved(found[SOURCE]) == ("left", "UNKNOWN", ""), found
    assert moved(found[TARGET]) == ("arrived", "RUNNING", ""), found
    assert pair.content(pair.target) == DATA
    assert not (pair.dom0.etc / "one-1.cfg").exists() and "one-1" not in pair.dom0.domains
    assert not list((pair.dom0.etc / "auto").glob("*"))
    assert pair.directories() == [TARGET]


def test_it_comes_to_a_dom0(make: Any) -> None:
    pair = make(TARGET)
    outcome = pair.source.one("RUNNING", pair.generation, pair.vm)
    assert outcome.error is None, outcome
    (pair.source.directory(1) / "disk.0").write_bytes(DATA.ljust(1 << 20, b"\0"))
    found = pair.move(COLD)
    assert moved(found[SOURCE]) == ("left", "UNKNOWN", ""), found
    assert moved(found[TARGET]) == ("arrived", "RUNNING", ""), found
    assert pair.content(pair.target) == DATA
    assert CATALOG in (pair.dom0.etc / "one-1.cfg").read_text(encoding="utf-8")
    assert pair.dom0.domains["one-1"].uuid == UUID
    assert pair.directories() == [TARGET]


def test_definitions_are_brought_to_the_disk(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no machine starts with the host, there is no directory of those."""
    pair = make(SOURCE)
    synced: list[str] = []
    real = xen.sync_directory

    def sync(path: str) -> None:
        real(path)
        synced.append(path)

    monkeypatch.setattr(xen, "sync_directory", sync)
    pair.source.driver.settle_definitions()
    assert synced == [str(pair.dom0.etc)]


def test_one_that_has_to_stay_runs_in_its_dom0_as_before(make: Any) -> None:
    pair = make(SOURCE)
    pair.source.one("RUNNING", pair.generation, pair.vm)
    (pair.target.directory(1)).mkdir(parents=True)
    found = pair.move(COLD)
    assert found[SOURCE].moved == "stayed" and found[TARGET].moved == "absent"
    assert "one-1" in pair.dom0.domains and (pair.dom0.etc / "one-1.cfg").exists()
    assert (pair.dom0.etc / "auto" / "one-1.cfg").is_symlink()
