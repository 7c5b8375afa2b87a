# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine that ends leaves nothing, whatever was killed on the way."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from memory_hypervisor import Machine
from memory_node import CATALOG, OTHER, Node, machine, told

from ansible_collections.nebula.provision.plugins.module_utils.errors import HypervisorError
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Mark
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk


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


@pytest.mark.parametrize("hard", [False, True])
def test_a_machine_whose_directory_somebody_removed_ends_all_the_same(here: Node, hard: bool) -> None:
    here.one("RUNNING")
    shutil.rmtree(here.directory())
    assert told(here.one("DONE", 2, hard=hard)) == ("DONE", True, "")
    assert here.driver.machines == {} and not here.directory().exists()


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


def test_a_directory_that_was_exchanged_for_a_link_is_not_emptied(
    here: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = tmp_path / "others"
    others.mkdir()
    (others / "file").touch()
    here.one("RUNNING")

    remove = here.driver.remove

    def exchange(mark: Mark) -> bool:
        here.directory().rename(tmp_path / "away")
        here.directory().symlink_to(others)
        return remove(mark)

    monkeypatch.setattr(here.driver, "remove", exchange)
    outcome = here.one("DONE", 2)
    assert outcome.error is not None and (others / "file").exists()
