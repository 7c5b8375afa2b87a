# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Works on disks of a running QEMU machine: copies of one moment, snapshots within their files, drives' trays."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any
from xml.etree import ElementTree as ET

from ...deps import require
from ...errors import HypervisorError, InUse, NebulaError, NotFound, TimedOut, Unsupported
from ...model.disk import Disk
from ...model.plan import AGENT, CRASH
from ...storage.final_names import NEW
from . import quiesce

STEP = 0.1
# How often it is begun anew where somebody else thaws the guest, and after how many seconds.
TRIES, PAUSE = 4, 2.0
# A disk of any size is copied within a day, or something hangs.
LONGEST_COPY = 86_400.0


class RunningDisks:
    """Works on the disks of one running domain.
    domain: libvirt's object.
    asked: what errors call the work."""

    def __init__(self, libvirt: Any, uri: str, domain: Any, asked: str) -> None:
        self._libvirt = libvirt
        self._uri = uri
        self._domain = domain
        self._asked = asked

    # -- a copy -------------------------------------------------------------------------------------------------------
    def copy(self, disk: Disk, path: str, format: str, consistency: str) -> None:
        """Write what the disk holds at one moment to the file `path`, which is an empty disk of its size."""
        self._abort_left_copy(path)

        def begin() -> None:
            with self._explained():
                self._domain.backupBegin(
                    self._backup(disk, path, format), None, self._libvirt.VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL
                )

        self._act_consistently(consistency, begin, self._abort)
        try:
            # QEMU keeps what the guest writes over from now on.
            self._wait()
        except BaseException:
            # Else it would go on to write into what is thrown away, and keep the next one from being begun.
            with contextlib.suppress(NebulaError):
                self._abort()
            raise

    def _backup(self, disk: Disk, path: str, format: str) -> str:
        backup = ET.Element("domainbackup", {"mode": "push"})
        disks = ET.SubElement(backup, "disks")
        for target in self._targets():
            if target != disk.target:
                ET.SubElement(disks, "disk", {"name": target, "backup": "no"})
        element = ET.SubElement(disks, "disk", {"name": disk.target, "backup": "yes", "type": "file"})
        ET.SubElement(element, "driver", {"type": format})
        ET.SubElement(element, "target", {"file": path})
        return ET.tostring(backup, encoding="unicode")

    def _targets(self) -> list[str]:
        found = ET.fromstring(self._domain.XMLDesc(0)).iterfind("./devices/disk")
        return [
            target.get("dev", "")
            for each in found
            if each.get("device") == "disk" and (target := each.find("target")) is not None
        ]

    def _abort_left_copy(self, path: str) -> None:
        """Abort a copy of ours that a killed run left behind. Raise InUse for a backup of somebody else."""
        lv = self._libvirt
        try:
            text = self._domain.backupGetXMLDesc(0)
        except lv.libvirtError as error:
            if error.get_error_code() == lv.VIR_ERR_NO_DOMAIN_BACKUP:
                return
            raise HypervisorError(self._asked, str(error)) from error
        files = [each.get("file", "") for each in ET.fromstring(text).iterfind("./disks/disk/target")]
        if not files or not all(self._is_ours(file, path) for file in files):
            raise InUse(
                self._asked, f"the machine is being backed up to {', '.join(files)}", "Wait for that, then run again"
            )
        self._abort()

    def _is_ours(self, file: str, path: str) -> bool:
        """Return whether the file is an image that was being made in one of the datastores, as `path` is."""
        datastores, file = os.path.dirname(os.path.dirname(path)), os.path.normpath(file)
        return file == path or (file.endswith(NEW) and os.path.dirname(os.path.dirname(file)) == datastores)

    def _abort(self) -> None:
        lv = self._libvirt
        with contextlib.suppress(lv.libvirtError):
            # It may have come to its end meanwhile.
            self._domain.abortJob()
        self._wait_while(lambda: self._job() is not None)
        with contextlib.suppress(lv.libvirtError):
            # The result of that job must not be read as the next one's.
            self._domain.jobStats(lv.VIR_DOMAIN_JOB_STATS_COMPLETED)

    def _wait(self) -> None:
        lv = self._libvirt
        self._wait_while(lambda: self._job() is not None)
        with self._explained():
            done = self._domain.jobStats(lv.VIR_DOMAIN_JOB_STATS_COMPLETED)
        if done.get("type") != lv.VIR_DOMAIN_JOB_COMPLETED:
            why = done.get(lv.VIR_DOMAIN_JOB_ERRMSG) or "it was broken off"
            raise HypervisorError(self._asked, f"copying the disk failed: {why}", "Run again: it is begun anew")

    def _job(self) -> Any:
        with self._explained():
            found = self._domain.jobStats()
        return None if found.get("type") == self._libvirt.VIR_DOMAIN_JOB_NONE else found

    def _wait_while(self, busy: Callable[[], bool]) -> None:
        limit = time.monotonic() + LONGEST_COPY
        while busy():
            if time.monotonic() > limit:
                raise TimedOut(self._asked, "it is not done after a day", "Look at it with virsh domjobinfo")
            time.sleep(STEP)

    # -- snapshots ----------------------------------------------------------------------------------------------------
    def create_snapshot(self, disk: Disk, tag: str, consistency: str) -> bool:
        node = self._node(disk)
        if tag in self._tags(node):
            return False
        self._act_consistently(
            consistency,
            lambda: self._monitor("blockdev-snapshot-internal-sync", device=node, name=tag),
            lambda: self._monitor("blockdev-snapshot-delete-internal-sync", device=node, name=tag),
        )
        return True

    def has_snapshot(self, disk: Disk, tag: str) -> bool:
        return tag in self._tags(self._node(disk))

    def delete_snapshot(self, disk: Disk, tag: str) -> bool:
        node = self._node(disk)
        if tag not in self._tags(node):
            return False
        self._monitor("blockdev-snapshot-delete-internal-sync", device=node, name=tag)
        return True

    def _node(self, disk: Disk) -> str:
        """Return QEMU's name of the disk, which has libvirt's number of it."""
        return f"libvirt-{self._part_of_disk(disk.target, 'source').get('index', '')}-format"

    def _part_of_disk(self, name: str, part: str) -> ET.Element:
        """Return this part of the running machine's disk with that target. Raise NotFound if it has none."""
        for each in ET.fromstring(self._domain.XMLDesc(0)).iterfind("./devices/disk"):
            target, found = each.find("target"), each.find(part)
            if target is not None and found is not None and target.get("dev") == name:
                return found
        raise NotFound(f"{self._asked}: {name}", "the running machine has none", "Run again")

    def _tags(self, node: str) -> list[str]:
        for each in self._monitor("query-named-block-nodes", flat=True):
            if each.get("node-name") == node:
                return [str(snapshot["name"]) for snapshot in each.get("image", {}).get("snapshots", ())]
        raise NotFound(f"{self._asked}: {node}", "QEMU has no such disk", "Run again")

    def _monitor(self, command: str, **arguments: Any) -> Any:
        text = json.dumps({"execute": command, "arguments": arguments})
        with self._explained():
            answer = json.loads(require("libvirt_qemu").qemuMonitorCommand(self._domain, text, 0))
        if "error" in answer:
            raise HypervisorError(f"{self._asked}: {command}", str(answer["error"].get("desc", answer["error"])))
        return answer.get("return")

    # -- a drive ------------------------------------------------------------------------------------------------------
    def open_tray(self, target: str) -> None:
        """Open the tray past libvirt, which has been seen to take a closed tray for an open one after a reset of the
        guest; then it opens none until the tray moves again."""
        self._monitor("blockdev-open-tray", id=self._part_of_disk(target, "alias").get("name"), force=True)

    # -- the moment ---------------------------------------------------------------------------------------------------
    def _act_consistently(self, consistency: str, act: Callable[[], None], undo: Callable[[], None]) -> None:
        """Act while the guest is as consistent as is wanted, and try again where somebody else thaws it. undo: undoes
        what was done at a moment that can't be trusted."""
        for left in range(TRIES, 0, -1):
            done = False
            try:
                with self._consistent_moment(consistency):
                    act()
                    done = True
                return
            except NebulaError as error:
                if done:
                    undo()
                if not isinstance(error, quiesce.ThawedTooEarly):
                    raise
                if left == 1:
                    raise HypervisorError(error.asked, error.found, error.remedy) from error
                time.sleep(PAUSE)

    def check_agent(self, consistency: str) -> None:
        """Raise Unsupported where an agent is needed, and none answers."""
        if consistency == AGENT:
            quiesce.ping(self._libvirt, self._domain, self._asked)

    @contextlib.contextmanager
    def _consistent_moment(self, consistency: str) -> Iterator[None]:
        with contextlib.ExitStack() as held:
            if consistency != CRASH:
                try:
                    held.enter_context(quiesce.freeze(self._libvirt, self._uri, self._domain, self._asked))
                except Unsupported:
                    if consistency == AGENT:
                        raise
            yield

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except self._libvirt.libvirtError as error:
            text = " ".join(str(error.get_error_message() or error).split())
            raise HypervisorError(self._asked, text, "See the machine's vm.log, then run again") from error
