#!/usr/bin/env python3
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups of a real machine of Xen, running, off, and brought back, and kills while it stands still. Runs in dom0,
as root, beside xen_operations.py:

    PYTHONPATH=COLLECTIONS xen_backups.py DEMO DRIVER KIND [STEP...]     a line of JSON for each step: step, seconds,
                                                            error"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import replace
from pathlib import Path

from backing_up import back_up_all
from xen_operations import CATALOG, Guest, bridge

from ansible_collections.nebula.provision.plugins.module_utils.errors import NebulaError, WrongState
from ansible_collections.nebula.provision.plugins.module_utils.host import processes
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors import standing_still, still_disks
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import BackUp
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.machine_record import Record, write_record
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.registry import open_driver
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk, DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import (
    NODE,
    BackupRequest,
    MachineToBackUp,
)
from ansible_collections.nebula.provision.plugins.module_utils.storage import backup_files
from ansible_collections.nebula.provision.plugins.module_utils.storage.backup_place import Place

STEPS = (
    "deploy",
    "refuse",
    "back_up",
    "kill_run",
    "kill_all",
    "pause_by_hand",
    "shutdown",
    "back_up_off",
    "bring_back",
)
MIB = 1 << 20


class BackedUp(Guest):
    """One whose disk holds something, and which is at the place of a node's machines."""

    def __init__(self, kind: str, demo: Path, root: Path, driver: str) -> None:
        self.root, self._name_of_driver = root, driver
        directory = root / "datastores/0/9"
        directory.mkdir(parents=True)
        super().__init__(kind, demo, directory, 9, driver)
        os.mkdir(f"{root}-place", 0o700)
        self.disk = directory / "disk.0"
        with self.disk.open("r+b") as file:
            file.seek(3 * MIB)
            file.write(b"what was there" * 9999)
        self.content = self.disk.read_bytes()
        disk = replace(self.vm.disks[0], driver="raw", size=8)
        self.vm = replace(self.vm, disks=(disk,), hypervisor=driver)
        write_record(str(directory), Record(CATALOG, 9, self.mark.uuid, 1))

    def order(self) -> BackUp:
        return BackUp("", "", "", "", str(self.directory), str(self.root / "datastores"), stand_still=True)

    def disks(self) -> list[tuple[Disk, DiskFiles]]:
        return [(self.vm.disks[0], DiskFiles(str(self.disk), "raw"))]

    def flags(self) -> str:
        domain = self.listed()
        assert domain is not None
        return domain.flags

    def run(self, **more: bool) -> dict[str, object]:
        machines = (MachineToBackUp(self.vm, 1, "node"),)
        request = BackupRequest(CATALOG, f"{self.root}-place", NODE, machines, **more)
        return back_up_all(request, self.driver, str(self.root))[0]

    def restored(self) -> bytes:
        """What the newest backup holds."""
        place = Place.open(f"{self.root}-place", CATALOG, for_writing=False)
        with place.machine(9, CATALOG) as directory:
            stored, path = directory.backups()[-1].disks[0].file, directory.directory
        raw = Path(f"{self.root}-raw")
        words = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", f"{path}/{stored.name}", str(raw)]
        subprocess.run(words, check=True)
        return raw.read_bytes()

    # -- steps ----------------------------------------------------------------------------------------------------
    def refuse(self) -> None:
        outcome = self.run()
        assert "nebula_machine_backup_stand_still: true" in str(outcome["error"]), outcome
        try:
            self.driver.back_up(self.mark, self.disks(), replace(self.order(), stand_still=False)).__enter__()
        except WrongState:
            pass
        else:
            raise AssertionError("it stood still")
        assert "p" not in self.flags()

    def back_up(self) -> None:
        with self.driver.back_up(self.mark, self.disks(), self.order()) as backup:
            assert "p" in self.flags() and backup.way == still_disks.AS_LONG and backup.consistency == "stood still"
            backup_files.store_disk(f"{self.root}-place", "by-hand.qcow2", backup.sources[0], 8 * MIB, what="by hand")
        os.unlink(f"{self.root}-place/by-hand.qcow2")
        assert "p" not in self.flags()
        outcome = self.run(stand_still=True)
        assert (outcome["error"], outcome["kind"], outcome["consistency"]) == ("", "full", "stood still"), outcome
        assert "p" not in self.flags() and self.restored() == self.content

    def _held_by_a_process(self) -> tuple[int, int]:
        child = os.fork()
        if child == 0:
            try:
                pausing = open_driver(self._name_of_driver).pausing(self.mark)
                assert pausing is not None
                with standing_still.held(pausing, str(self.directory), "a backup"):
                    time.sleep(600)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        self.wait_for("it stands still", lambda: "p" in self.flags())
        path = str(self.directory / standing_still.MARK).encode()
        (watchdog,) = [pid for pid, words in processes.of_root(lambda words: path in words)]
        return child, watchdog

    def kill_run(self) -> None:
        child, _watchdog = self._held_by_a_process()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        self.wait_for("it goes on", lambda: "p" not in self.flags())
        self.wait_for("the watchdog is through", lambda: not standing_still.is_left(str(self.directory)))

    def kill_all(self) -> None:
        child, watchdog = self._held_by_a_process()
        os.kill(watchdog, signal.SIGKILL)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert "p" in self.flags() and standing_still.is_left(str(self.directory))
        self.driver.settle_standing_still(self.mark, str(self.directory))
        assert "p" not in self.flags() and not standing_still.is_left(str(self.directory))

    def pause_by_hand(self) -> None:
        subprocess.run(["xl", "pause", self.name], check=True)
        pausing = self.driver.pausing(self.mark)
        assert pausing is not None
        with standing_still.held(pausing, str(self.directory), "a backup"):
            pass
        assert "p" in self.flags()
        subprocess.run(["xl", "unpause", self.name], check=True)
        assert "p" not in self.flags()

    def back_up_off(self) -> None:
        outcome = self.run()
        assert (outcome["error"], outcome["consistency"]) == ("", "off"), outcome
        assert self.restored() == self.content

    def bring_back(self) -> None:
        self.disk.write_bytes(b"other".ljust(8 * MIB, b"\0"))
        self.disk.write_bytes(self.restored())
        assert self.disk.read_bytes() == self.content
        self.start()
        self.cancel()


def main(demo: str, driver: str, kind: str, *steps: str) -> None:
    directory = Path(tempfile.mkdtemp(prefix="backups-", dir="/var/tmp"))
    root = directory / "node"
    with bridge():
        guest = BackedUp(kind, Path(demo), root, driver)
        try:
            for step in steps or STEPS:
                began, error = time.monotonic(), ""
                try:
                    getattr(guest, step)()
                except (NebulaError, AssertionError, TimeoutError, OSError, subprocess.CalledProcessError) as problem:
                    error = f"{type(problem).__name__}: {problem}"
                print(json.dumps({"step": step, "seconds": round(time.monotonic() - began, 1), "error": error}))
                sys.stdout.flush()
                if error and step == "deploy":
                    return
        finally:
            guest.end()
            shutil.rmtree(directory)


if __name__ == "__main__":
    main(*sys.argv[1:])
