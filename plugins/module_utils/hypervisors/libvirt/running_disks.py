# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Works on disks of a running QEMU machine: copies of one moment, snapshots within their files, drives' trays."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any
from xml.etree import ElementTree as ET

from ...errors import HypervisorError, NebulaError, NotFound, TimedOut
from ...model.disk import Disk
from . import disk_jobs, qemu_monitor
from .consistent_moment import ConsistentMoment

STEP = 0.1
# A disk of any size is copied within a day, or something hangs.
LONGEST_COPY = 86_400.0


class RunningDisks:
    """Works on the disks of one running domain.
    domain: libvirt's object.
    asked: what errors call the work."""

    def __init__(self, libvirt: Any, uri: str, domain: Any, asked: str) -> None:
        self._libvirt = libvirt
        self._domain = domain
        self._asked = asked
        self._moment = ConsistentMoment(libvirt, uri, domain, asked)

    # -- a copy -------------------------------------------------------------------------------------------------------
    def copy(self, disk: Disk, path: str, format: str, consistency: str) -> None:
        """Write what the disk holds at one moment to the file `path`, which is an empty disk of its size."""
        disk_jobs.end_left(self._libvirt, self._domain, self._asked, os.path.dirname(os.path.dirname(path)))

        def begin() -> None:
            with self._explained():
                self._domain.backupBegin(
                    self._backup(disk, path, format), None, self._libvirt.VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL
                )

        self._moment.act(consistency, begin, self._abort)
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

    def _abort(self) -> None:
        disk_jobs.end(self._libvirt, self._domain, self._asked)

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
        self._moment.act(
            consistency,
            lambda: self._monitor("blockdev-snapshot-internal-sync", device=node, name=tag),
            lambda: self._monitor("blockdev-snapshot-delete-internal-sync", device=node, name=tag),
        )
        return True

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
        return qemu_monitor.ask(self._libvirt, self._domain, self._asked, command, **arguments)

    # -- a drive ------------------------------------------------------------------------------------------------------
    def open_tray(self, target: str) -> None:
        """Open the tray past libvirt, which has been seen to take a closed tray for an open one after a reset of the
        guest; then it opens none until the tray moves again."""
        self._monitor("blockdev-open-tray", id=self._part_of_disk(target, "alias").get("name"), force=True)

    # -- the moment ---------------------------------------------------------------------------------------------------
    def check_agent(self, consistency: str) -> None:
        """Raise Unsupported where an agent is needed, and none answers."""
        self._moment.check_agent(consistency)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except self._libvirt.libvirtError as error:
            text = " ".join(str(error.get_error_message() or error).split())
            raise HypervisorError(self._asked, text, "See the machine's vm.log, then run again") from error
