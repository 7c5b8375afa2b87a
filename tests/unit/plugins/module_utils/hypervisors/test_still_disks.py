# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read of a machine that stands still: copies where its file system shares content, else its disks."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from types import SimpleNamespace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InUse, WrongState
from ansible_collections.nebula.provision.plugins.module_utils.host import files
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors import standing_still, still_disks
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import BackUp, Mark
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.still_disks import Disks
from ansible_collections.nebula.provision.plugins.module_utils.model.container_user_ids import id_range
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import DIRECTORY, Disk, DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.storage import disk_exports, roots

MARK = Mark("0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10", 7, "uuid")
ASKED = "a backup"


class Machine:
    """still: it stands still now. paused: how often it did."""

    def __init__(self, directory):
        self.directory, self.still, self.paused = directory, False, 0
        (directory / "disk.0").write_bytes(b"content")
        (directory / "disk.1").mkdir()
        self.disk = DiskFiles(str(directory / "disk.0"), "raw")
        self.pausing = standing_still.Pausing("run", ["true"], self._pause, self._go_on, lambda: self.still)

    def _pause(self):
        self.still, self.paused = True, self.paused + 1

    def _go_on(self):
        was, self.still = self.still, False
        return was

    def reading(self, disks):
        return still_disks.reading(self.pausing, str(self.directory), disks, ASKED)


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.fixture
def sharing(monkeypatch):
    """A file system that shares content; of a root, it is a tree that is made."""

    def share(directory, new, ids, what):
        os.mkdir(new)
        return True

    def clone(source, target):
        os.write(target, os.pread(source, 100, 0))
        return True

    monkeypatch.setattr(files, "clone", clone)
    monkeypatch.setattr(roots, "can_share", lambda path, directory: True)
    monkeypatch.setattr(roots, "share", share)


def test_where_nothing_is_shared_it_stands_still_until_all_is_read(machine, monkeypatch):
    monkeypatch.setattr(roots, "can_share", lambda path, directory: False)
    before = sorted(os.listdir(machine.directory))
    with machine.reading(Disks({0: machine.disk})) as still:
        assert (still.files, still.copied, machine.still) == ({0: machine.disk}, False, True)
    assert not machine.still and sorted(os.listdir(machine.directory)) == before


def test_copies_are_read_while_it_goes_on(machine, sharing):
    disks = Disks({0: replace(machine.disk, backing=(("/base", "raw"),))}, {1: str(machine.directory / "disk.1")})
    with machine.reading(replace(disks, ids=id_range(7))) as still:
        assert (still.copied, machine.still, machine.paused) == (True, False, 1)
        copy = still.files[0]
        assert (copy.format, copy.backing) == ("raw", (("/base", "raw"),))
        assert copy.path.startswith(f"{machine.directory}/{standing_still.COPIES}/")
        with open(copy.path, "rb") as file:  # noqa: PTH123 (a text)
            assert file.read() == b"content"
        assert os.path.isdir(still.roots[1])
    assert not (machine.directory / standing_still.COPIES).exists()


def test_an_error_while_copies_are_read(machine, sharing):
    with pytest.raises(ValueError, match="x"), machine.reading(Disks({0: machine.disk})):
        raise ValueError("x")
    assert not (machine.directory / standing_still.COPIES).exists() and not machine.still


def test_a_root_that_can_not_be_shared_after_all(machine, sharing, monkeypatch):
    monkeypatch.setattr(roots, "share", lambda *_words: False)
    disks = Disks({0: machine.disk}, {1: str(machine.directory / "disk.1")}, id_range(7))
    with machine.reading(disks) as still:
        assert (still.copied, still.roots, machine.still, machine.paused) == (False, disks.roots, True, 2)
        assert not (machine.directory / standing_still.COPIES).exists()


def test_roots_of_which_no_copies_are_tried(machine, sharing):
    path = machine.directory / "disk.1"
    with machine.reading(Disks(roots={1: str(path)})) as still:
        assert (still.copied, machine.paused) == (False, 1)
    (machine.directory / "disk.1.layers").mkdir()
    with machine.reading(Disks(roots={1: str(path)}, ids=id_range(7))) as still:
        assert (still.copied, machine.paused) == (False, 2)


def test_what_a_killed_run_has_left_goes_first(machine, monkeypatch):
    monkeypatch.setattr(roots, "can_share", lambda path, directory: False)
    (machine.directory / standing_still.COPIES).mkdir()
    (machine.directory / standing_still.COPIES / "disk.0").touch()
    with machine.reading(Disks({0: machine.disk})):
        assert not (machine.directory / standing_still.COPIES).exists()
    assert not standing_still.remove_copies(str(machine.directory))


def test_a_backup(machine, monkeypatch):
    shown = []

    @contextlib.contextmanager
    def exports(name, files, bitmap="", what="", shared=False):
        shown.append((name, dict(files), shared))
        yield dict.fromkeys(files, "a source")

    monkeypatch.setattr(disk_exports, "shown", exports)
    monkeypatch.setattr(roots, "can_share", lambda path, directory: False)
    driver = SimpleNamespace(name="xen", pausing=lambda mark: machine.pausing)
    disks = [
        (Disk(0, "xvda"), machine.disk),
        (Disk(1, "", format="tar"), DiskFiles(str(machine.directory / "disk.1"), DIRECTORY)),
    ]
    order = BackUp("", "", "", "", str(machine.directory), "")
    with pytest.raises(WrongState, match="nebula_machine_backup_stand_still: true"):
        still_disks.back_up(driver, MARK, disks, order).__enter__()
    assert machine.paused == 0
    order = replace(order, stand_still=True)
    with still_disks.back_up(driver, MARK, disks, order) as backup:
        assert (backup.sources, backup.roots) == ({0: "a source"}, {1: str(machine.directory / "disk.1")})
        assert (backup.way, backup.consistency, machine.still) == (still_disks.AS_LONG, "stood still", True)
        assert (backup.incremental, backup.checkpoint) == (False, "") and "does not know" in backup.reason
        backup.end_reading()
        # Nothing of it is read any more.
        assert not machine.still
    with (
        pytest.raises(InUse, match="somebody else"),
        still_disks.back_up(driver, MARK, disks, order) as backup,
    ):
        # Somebody lets it go on for a while.
        machine.still = False
        backup.end_reading()
    assert shown == [(f"7-{MARK.catalog}", {0: machine.disk}, True)] * 2
    with still_disks.back_up(driver, MARK, disks[1:], order) as backup:
        assert backup.sources == {}
    assert len(shown) == 2
    # Whoever serves such a file may have some of it in memory.
    qcow2 = [(disks[0][0], replace(machine.disk, format="qcow2"))]
    with still_disks.back_up(driver, MARK, qcow2, order) as backup:
        assert backup.consistency == "crash-consistent"
    driver.pausing = lambda mark: None
    with pytest.raises(WrongState, match="does not run"):
        still_disks.back_up(driver, MARK, disks, order).__enter__()
