# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups of containers of OpenVZ, by a stand-in for vzctl (tests/tools/vzctl_stand_in.py): no container runs, and one
that stands still is a word in a file. Their private areas are real, with owners and device nodes of the host's root."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from backing_up import back_up_all
from in_world import in_bare_world

from ansible_collections.nebula.provision.plugins.module_utils.errors import InUse, Unsupported
from ansible_collections.nebula.provision.plugins.module_utils.host import processes
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors import standing_still
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out import (
    machine_backups,
    root_transfers,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.machine_record import Record, write_record
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.openvz import vzctl
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import (
    NODE,
    BackupRequest,
    MachineBackup,
    MachineToBackUp,
)
from ansible_collections.nebula.provision.plugins.module_utils.storage import roots
from ansible_collections.nebula.provision.plugins.module_utils.storage.backup_place import Place
from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.openvz_node import (
    CATALOG,
    CTID,
    MARK,
    UUID,
    Node,
    installed,
)

KEY = "a key"


@contextmanager
def running() -> Iterator[Node]:
    """A container that runs, on a kernel of OpenVZ."""
    with installed() as node:
        os.environ["VZ_STAND_IN_KERNEL"] = "vz"
        node.define()
        node.driver.start(MARK)
        write_record(str(node.directory), Record(CATALOG, 7, UUID, 3))
        world = Path(os.environ["NEBULA_WORLD"])
        (world / "nebula").mkdir()
        (world / "nebula/datastores").symlink_to(node.root)
        (world / "place").mkdir(0o700)
        try:
            yield node
        finally:
            os.unlink(world / "nebula/datastores")
            os.rmdir(world / "nebula")
            shutil.rmtree(world / "place")


def held() -> Path:
    return Path(vzctl.settings()["LOCKDIR"], f"{CTID}.held")


def backed_up(node: Node, **more: Any) -> dict[str, Any]:
    world = Path(os.environ["NEBULA_WORLD"])
    machines = (MachineToBackUp(node.vm(), 3, "node"),)
    request = BackupRequest(CATALOG, str(world / "place"), NODE, machines, **more)
    return back_up_all(request, node.driver, str(world / "nebula"))[0]


def newest(key: str = "") -> tuple[MachineBackup, str]:
    place = Place.open(f"{os.environ['NEBULA_WORLD']}/place", CATALOG, for_writing=False)
    with place.machine(7, CATALOG, key) as directory:
        found = directory.backups()
        assert directory.unreadable == []
        return found[-1], directory.directory


def restore(node: Node, backup: MachineBackup, directory: str, key: str = "") -> None:
    own = root_transfers.of_machine(node.vm(), str(node.directory), node.driver)[0]
    root_transfers.restore(own, node.vm(), node.driver, directory, backup.disks[0].file, "disk 0", key)
    roots.put_in_place(own.path)
    roots.remove_replaced(own.path)


@in_bare_world
def test_of_one_that_runs_and_one_that_is_off() -> None:
    with running() as node:
        written = node.private / "root/written"
        written.write_text("by the guest\n", encoding="utf-8")
        os.chown(written, 33, 34)
        os.mknod(node.private / "dev/own", 0o640 | stat.S_IFBLK, os.makedev(7, 9))
        outcome = backed_up(node)
        assert "nebula_machine_backup_stand_still: true" in outcome["error"]
        outcome = backed_up(node, stand_still=True)
        assert (outcome["error"], outcome["kind"], outcome["consistency"]) == ("", "full", "stood still"), outcome
        assert not held().exists() and not standing_still.is_left(str(node.directory))
        assert node.driver.state(MARK) == "RUNNING"
        of_running, directory = newest()

        node.driver.cancel(MARK)
        written.unlink()
        outcome = backed_up(node, key=KEY)
        assert (outcome["error"], outcome["consistency"]) == ("", "off")
        off, _directory = newest(KEY)

        restore(node, of_running, directory)
        found, device = written.stat(), (node.private / "dev/own").stat()
        assert (written.read_text(encoding="utf-8"), found.st_uid, found.st_gid) == ("by the guest\n", 33, 34)
        assert (stat.S_ISBLK(device.st_mode), device.st_rdev) == (True, os.makedev(7, 9))
        restore(node, off, directory, KEY)
        assert not written.exists() and (node.private / "dev/own").is_block_device()
        assert [name for name in os.listdir(node.private.parent) if name.startswith(f"{node.private.name}.")] == []
        node.driver.start(MARK)
        assert node.driver.state(MARK) == "RUNNING"


@in_bare_world
def test_somebody_lets_it_go_on_while_it_is_read() -> None:
    """Nothing shows that of a container of OpenVZ before it is to go on: by then all of it is stored."""
    with running() as node, pytest.MonkeyPatch.context() as patch:
        real = machine_backups.root_backups.store_root

        def store(*given: Any, **more: Any) -> Any:
            stored = real(*given, **more)
            vzctl.ask("going on", "chkpnt", str(CTID), "--resume")
            return stored

        patch.setattr(machine_backups.root_backups, "store_root", store)
        outcome = backed_up(node, stand_still=True)
        assert "somebody else has let the machine go on" in outcome["error"] and not outcome["id"]
        place = Place.open(f"{os.environ['NEBULA_WORLD']}/place", CATALOG, for_writing=False)
        with place.machine(7, CATALOG) as directory:
            assert directory.backups() == [] == [name for name in os.listdir(directory.directory) if "root" in name]
        assert node.driver.state(MARK) == "RUNNING" and not standing_still.is_left(str(node.directory))


def held_by_a_process(node: Node) -> tuple[int, int]:
    """Have the container stand still by another process. Return its number, and that of its watchdog."""
    child = os.fork()
    if child == 0:
        try:
            pausing = node.driver.pausing(MARK)
            assert pausing is not None
            with standing_still.held(pausing, str(node.directory), "a backup"):
                time.sleep(600)
        finally:
            os._exit(1)
    wait_for(held().exists, "it stands still")
    path = str(node.directory / standing_still.MARK).encode()
    (watchdog,) = [pid for pid, words in processes.of_root(lambda words: path in words)]
    return child, watchdog


@in_bare_world
def test_killed_while_it_stands_still() -> None:
    with running() as node:
        child, watchdog = held_by_a_process(node)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        wait_for(lambda: not held().exists(), "it goes on")
        wait_for(lambda: not standing_still.is_left(str(node.directory)), "the watchdog is through")
        wait_for(lambda: not Path(f"/proc/{watchdog}").exists(), "the watchdog has ended")

        # With its watchdog: the next backup, before it begins.
        child, watchdog = held_by_a_process(node)
        os.kill(watchdog, signal.SIGKILL)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert held().exists() and standing_still.is_left(str(node.directory))
        outcome = backed_up(node, stand_still=True)
        assert outcome["error"] == "", outcome
        assert not held().exists() and not standing_still.is_left(str(node.directory))

        pausing = node.driver.pausing(MARK)
        assert pausing is not None
        with pytest.raises(InUse, match="somebody else"), standing_still.held(pausing, str(node.directory), "a backup"):
            vzctl.ask("going on", "chkpnt", str(CTID), "--resume")
        # A kernel that is none of OpenVZ: vzctl would take the first step for a whole suspension.
        del os.environ["VZ_STAND_IN_KERNEL"]
        with pytest.raises(Unsupported, match="Power it off first"):
            node.driver.pausing(MARK)
