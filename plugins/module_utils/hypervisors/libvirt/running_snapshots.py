# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes and deletes snapshots of a running QEMU machine with its memory, and has it go back to them. libvirt knows each
by its name, with the definition that the machine had, and QEMU keeps it in the files of the disks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any
from xml.etree import ElementTree as ET

from ...errors import HypervisorError, InUse, NotFound
from ...model.disk import Disk
from . import backup_checkpoints
from .running_disks import RunningDisks


class RunningSnapshots:
    """Works on the snapshots of one domain.
    domain: libvirt's object.
    asked: what errors call the work."""

    def __init__(self, libvirt: Any, uri: str, domain: Any, asked: str) -> None:
        self._libvirt = libvirt
        self._domain = domain
        self._asked = asked
        self._disks = RunningDisks(libvirt, uri, domain, asked)

    def check(self, tag: str = "", disks: Sequence[Disk] = ()) -> None:
        """Raise InUse for a backup that runs. With a tag, raise NotFound for one that libvirt does not know, or that a
        disk of the running machine does not hold, and Conflict for checkpoints of somebody else, which would keep the
        machine from going back."""
        self._refuse_backup()
        if tag:
            self._required(tag)
            for disk in disks if self._domain.isActive() else ():
                if not self._disks.has_snapshot(disk, tag):
                    raise NotFound(
                        f"{self._asked}: disk {disk.disk_id}",
                        f"it holds no snapshot {tag}: its file was exchanged since that was made",
                        "Delete the snapshot (state: absent), or take it out of the list",
                    )
            with self._explained():
                backup_checkpoints.refuse_foreign(self._libvirt, self._domain)

    def create(self, disks: Sequence[Disk], tag: str) -> None:
        self._refuse_backup()
        if self._found(tag) is not None and all(self._disks.has_snapshot(disk, tag) for disk in disks):
            return
        # What QEMU had not finished when it was killed.
        self.delete(disks, tag)
        snapshot = ET.Element("domainsnapshot")
        ET.SubElement(snapshot, "name").text = tag
        with self._explained():
            self._domain.snapshotCreateXML(ET.tostring(snapshot, encoding="unicode"), 0)

    def revert(self, tag: str) -> None:
        self.check(tag)
        with self._explained():
            # QEMU goes back with no disk of which something tells what was written since a backup.
            if self._domain.isActive():
                backup_checkpoints.forget_all(self._libvirt, self._domain, self._asked)
            self._domain.revertToSnapshot(self._required(tag), self._libvirt.VIR_DOMAIN_SNAPSHOT_REVERT_RUNNING)

    def delete(self, disks: Sequence[Disk], tag: str) -> None:
        self._refuse_backup()
        for disk in disks:
            self._disks.delete_snapshot(disk, tag)
        self.forget(tag)

    def forget(self, tag: str) -> None:
        """Have libvirt forget the snapshot; those that were made after it stay."""
        found = self._found(tag)
        if found is not None:
            with self._explained():
                found.delete(self._libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)

    def _found(self, tag: str) -> Any:
        lv = self._libvirt
        try:
            return self._domain.snapshotLookupByName(tag, 0)
        except lv.libvirtError as error:
            if error.get_error_code() == lv.VIR_ERR_NO_DOMAIN_SNAPSHOT:
                return None
            raise self._error(error) from error

    def _required(self, tag: str) -> Any:
        found = self._found(tag)
        if found is None:
            raise NotFound(
                self._asked,
                "libvirt of this host does not know it, as after it was installed anew",
                "Delete it (state: absent): nothing tells how to go back to it",
            )
        return found

    def _refuse_backup(self) -> None:
        lv = self._libvirt
        try:
            self._domain.backupGetXMLDesc(0)
        except lv.libvirtError as error:
            if error.get_error_code() in (lv.VIR_ERR_NO_DOMAIN_BACKUP, lv.VIR_ERR_OPERATION_INVALID):
                return
            raise self._error(error) from error
        raise InUse(self._asked, "the machine is being backed up", "Wait for that, then run again")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except self._libvirt.libvirtError as error:
            raise self._error(error) from error

    def _error(self, error: Any) -> HypervisorError:
        text = " ".join(str(error.get_error_message() or error).split())
        return HypervisorError(self._asked, text, "See the machine's vm.log, then run again")
