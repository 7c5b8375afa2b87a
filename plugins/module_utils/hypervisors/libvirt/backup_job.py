# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows the disks of a running QEMU machine, all as they are at one moment, to who backs them up: libvirt's backup in
pull mode. QEMU keeps aside what the guest writes over meanwhile, and by a checkpoint what it writes from then on."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import subprocess
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

from ...errors import ForeignObject, HypervisorError, NebulaError, NoSpace, NotFound
from ...host.files import explained, opened
from ...model.disk import Disk, DiskFiles
from ...model.machine_backup import CRASH_CONSISTENT, FROZEN
from ...storage import datastore_layout
from ...storage.backup_files import NbdSource
from ...storage.datastore_layout import MIB
from ..base import BackUp, RunningBackup
from . import backup_checkpoints, disk_jobs, socket_places
from .consistent_moment import ConsistentMoment
from .domains import message_of

# AppArmor's profiles of libvirt admit QEMU to this name.
_SOCKET = "nbd.tunnelmigrate.dest.{name}"
# What the bitmap of what was written is called where it is shown.
WRITTEN = "written"
_AGAIN = "See the machine's vm.log, then run again"
# QEMU measures how fast it is where it encrypts a file, and gives up if the clock did not tick meanwhile.
_UNLUCKY, _NO_TICK = 20, "accurate CPU usage"
# Bytes, besides those that are kept free anyway, that are to be free for what the guest writes over meanwhile; and that
# have to stay so: where QEMU can't keep it aside, the guest's own writes fail, and it stands still.
SCRATCH, LEAST = 256 * MIB, 64 * MIB
# Seconds between two looks at that.
_STEP = 0.25
# Watchdogs that were told to end.
_ended: list[subprocess.Popen[bytes]] = []
# Ends a job, as its words say: the connection's URI and the domain; whether it ran before; and what was kept aside.
# Once more after a while: the guest may stand still for want of room only by then.
_WATCHDOG = """
read -r word && exit
export LC_ALL=C
domain=$1 ran=$2
shift 2
virsh -q -c "$0" domjobabort "$domain"
rm -f "$@"
for turn in 1 2 3; do
    [ -n "$ran" ] || exit
    case $(virsh -q -c "$0" domstate --reason "$domain") in *"I/O error"*) virsh -q -c "$0" resume "$domain";; esac
    sleep 1
done
"""


class BackupJob(RunningBackup):
    """Is one such backup of a domain.
    disks: those that are shown, with their files.
    asked: what errors call the work."""

    def __init__(
        self,
        lv: Any,
        uri: str,
        domain: Any,
        disks: Sequence[tuple[Disk, DiskFiles]],
        order: BackUp,
        asked: str,
    ) -> None:
        self._lv = lv
        self._uri = uri
        self._domain = domain
        self._disks = disks
        self._order = order
        self._owner = 0
        self._asked = asked
        self._moment = ConsistentMoment(lv, uri, domain, asked)
        self._place, self._own_place = disk_jobs.places_of(domain.name())
        self._ran = self._crowded = False
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._made = self._kept = self._open = False
        self._incremental = self._traces = False
        self._reason = ""
        self._consistency = CRASH_CONSISTENT
        self._sources: Mapping[int, NbdSource] = {}

    @property
    def sources(self) -> Mapping[int, NbdSource]:
        return self._sources

    @property
    def incremental(self) -> bool:
        return self._incremental

    @property
    def reason(self) -> str:
        return self._reason

    @property
    def consistency(self) -> str:
        return self._consistency

    @property
    def checkpoint(self) -> str:
        return self._order.checkpoint if self._made else ""

    def keep(self) -> None:
        self._kept = True

    def leave_open(self) -> None:
        self._open = True

    @contextlib.contextmanager
    def running(self) -> Iterator[BackupJob]:
        """Have it for a block of code."""
        with self._of_living_machine():
            disk_jobs.end_left(self._lv, self._domain, self._asked, self._order.datastores)
            self._clear()
            shown = self._described()
            datastore_layout.require_space(
                self._order.directory, SCRATCH, f"{self._asked}: what the guest writes over meanwhile"
            )
            with contextlib.suppress(self._lv.libvirtError):
                self._ran = self._domain.state()[0] == self._lv.VIR_DOMAIN_RUNNING
            try:
                self._begin(shown)
                with self._watched_room():
                    yield self
            finally:
                try:
                    self._end()
                finally:
                    self._dismiss()

    def _leave_watchdog(self) -> None:
        """Have a process of its own end the job where this one is killed: QEMU would keep aside what the guest writes
        over, until there is no room for the guest itself."""
        scratch = [self._scratch(disk.target) for disk, _files in self._disks]
        words = ["sh", "-c", _WATCHDOG, self._uri, self._domain.UUIDString(), "resume" if self._ran else "", *scratch]
        with explained(self._own_place), opened(self._own_place, os.O_RDONLY | os.O_DIRECTORY) as held:
            # It has the lock after us: whoever works on the machine next waits for it (disk_jobs.end_left).
            fcntl.flock(held, fcntl.LOCK_EX)
            self._watchdog = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # Its own session: who ends us by our process group does not end it.
                start_new_session=True,
                pass_fds=(held,),
                cwd="/",
            )

    def _dismiss(self) -> None:
        """Have the watchdog end, and do not wait for it: on a busy host that takes longer than the rest."""
        watchdog = self._watchdog
        if watchdog is not None and watchdog.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                watchdog.stdin.write(b"t\n")
                watchdog.stdin.close()
            _ended.append(watchdog)
            _ended[:] = [each for each in _ended if each.poll() is None]

    @contextlib.contextmanager
    def _watched_room(self) -> Iterator[None]:
        """End the job before what is kept aside fills the file system; then the block fails. Raise NoSpace for it."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(_STEP):
                if datastore_layout.free_space(self._order.directory) < LEAST:
                    self._crowded = True
                    with contextlib.suppress(self._lv.libvirtError):
                        self._domain.abortJob()
                    return

        watching = threading.Thread(target=watch, name=f"room for {self._domain.name()}", daemon=True)
        watching.start()
        try:
            yield
        except NebulaError as error:
            if not self._crowded:
                raise
            raise NoSpace(
                self._asked,
                f"the guest writes faster than the backup is stored: what it wrote over had filled the file system of "
                f"{self._order.directory}",
                "Make room there, or back the machine up while it writes less, then run again",
            ) from error
        finally:
            over.set()
            watching.join()

    # -- its beginning ------------------------------------------------------------------------------------------------
    def _clear(self) -> None:
        """Remove what killed runs have left: checkpoints that no manifest names, sockets, what was kept aside."""
        order, known = self._order, backup_checkpoints.names(self._lv, self._domain)
        doomed = [name for name in known if name.startswith(order.prefix) and name != order.since]
        self._forget(doomed)
        self._remove_places()
        if order.since and order.since not in known:
            self._reason = (
                "the machine's hypervisor does not know the checkpoint of the backup before: the machine was made or "
                "defined anew, or has come from another host"
            )

    def _described(self) -> ET.Element:
        """Return the backup as libvirt takes it, without what it is incremental to. Raise NotFound if the running
        machine lacks a disk."""
        definition = ET.fromstring(self._domain.XMLDesc(0))
        self._owner = _user_of(definition)
        found = {
            target.get("dev", ""): each
            for each in definition.iterfind("./devices/disk")
            if (target := each.find("target")) is not None
        }
        wanted = {disk.target: disk for disk, _files in self._disks}
        for name, disk in wanted.items():
            if name not in found:
                raise NotFound(
                    f"{self._asked}: disk {disk.disk_id} ({name})",
                    "the running machine does not have it yet",
                    "Start the machine anew, then run again",
                )
        backup = ET.Element("domainbackup", {"mode": "pull"})
        ET.SubElement(backup, "server", {"transport": "unix", "socket": self._socket()})
        disks = ET.SubElement(backup, "disks")
        for name, each in found.items():
            if name in wanted:
                shown = {"name": name, "backup": "yes", "type": "file", "exportname": name}
                scratch = ET.SubElement(ET.SubElement(disks, "disk", shown), "scratch", {"file": self._scratch(name)})
                _encrypt_as(each, scratch)
            elif each.get("device") == "disk":
                ET.SubElement(disks, "disk", {"name": name, "backup": "no"})
        # Only these files have a place for what QEMU has to remember.
        formats = {
            name: (each.find("driver").get("type", "") if each.find("driver") is not None else "")  # type: ignore[union-attr]
            for name, each in found.items()
        }
        untraced = sorted(name for name in wanted if formats[name] != "qcow2")
        self._traces = not untraced
        if untraced:
            self._reason = (
                f"nothing can keep track of what is written to {_listed('disk', untraced)}: only files of format "
                "qcow2 have a place for that"
            )
        return backup

    def _begin(self, backup: ET.Element) -> None:
        socket_places.make(self._place, self._owner, self._asked)
        with explained(self._own_place):
            os.mkdir(self._own_place, 0o700)
        self._leave_watchdog()
        for disk, _files in self._disks:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._scratch(disk.target))

        def act() -> None:
            # Within one moment: a guest that is frozen is not frozen twice.
            if self._may_be_incremental() and self._try_incremental(backup):
                return
            with self._explained():
                self._start(backup, self._checkpoint(backup))
            self._made = self._traces

        frozen = self._moment.act(self._order.consistency, act, self._undo)
        self._consistency = FROZEN if frozen else CRASH_CONSISTENT
        if not self._incremental:
            backup_checkpoints.remove_orphans(self._lv, self._domain, self._order.prefix, self._asked)
        socket = self._own_socket()
        with self._explained():
            # While it is shown, it does not grow.
            self._sources = {
                disk.disk_id: NbdSource(
                    socket,
                    disk.target,
                    int(self._domain.blockInfo(disk.target)[0]),
                    WRITTEN if self._incremental else "",
                )
                for disk, _files in self._disks
            }

    def _own_socket(self) -> str:
        """Return a second name of the socket, in a directory of our own: in the first one QEMU's user may put anything
        else, which would be connected to by root."""
        path = os.path.join(self._own_place, "nbd")
        with explained(self._socket()):
            os.link(self._socket(), path, follow_symlinks=False)
            found = os.lstat(path)
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid not in (0, self._owner):
            raise ForeignObject(
                self._asked,
                f"{self._socket()} is not the socket of its QEMU",
                "Somebody has power over this QEMU: find out who has",
            )
        return path

    def _remove_places(self) -> None:
        for place in (self._place, self._own_place):
            shutil.rmtree(place, ignore_errors=True)

    def _may_be_incremental(self) -> bool:
        return bool(self._order.since) and not self._order.full and not self._reason

    def _try_incremental(self, full: ET.Element) -> bool:
        lv = self._lv
        backup = ET.fromstring(_text(full))
        incremental = ET.Element("incremental")
        incremental.text = self._order.since
        backup.insert(0, incremental)
        for each in backup.iterfind("./disks/disk[@backup='yes']"):
            each.set("exportbitmap", WRITTEN)
        try:
            self._start(backup, self._checkpoint(full))
        except lv.libvirtError as error:
            code = error.get_error_code()
            if code in (lv.VIR_ERR_OPERATION_TIMEOUT, lv.VIR_ERR_OPERATION_INVALID, lv.VIR_ERR_NO_DOMAIN):
                raise HypervisorError(self._asked, message_of(error), _AGAIN) from error
            self._reason = (
                "what was written since the backup before is not known any more, as after the end of a QEMU that was "
                f"killed, or a disk that was exchanged ({message_of(error)})"
            )
            return False
        self._incremental = self._made = True
        return True

    def _start(self, backup: ET.Element, checkpoint: str | None) -> None:
        for left in range(_UNLUCKY, 0, -1):
            try:
                self._domain.backupBegin(_text(backup), checkpoint, 0)
                return
            except self._lv.libvirtError as error:
                if left == 1 or _NO_TICK not in message_of(error):
                    raise

    def _checkpoint(self, backup: ET.Element) -> str | None:
        if not self._traces:
            return None
        checkpoint = ET.Element("domaincheckpoint")
        ET.SubElement(checkpoint, "name").text = self._order.checkpoint
        disks = ET.SubElement(checkpoint, "disks")
        for each in backup.iterfind("./disks/disk"):
            kind = "bitmap" if each.get("backup") == "yes" else "no"
            ET.SubElement(disks, "disk", {"name": each.get("name", ""), "checkpoint": kind})
        return _text(checkpoint)

    def _undo(self) -> None:
        """Undo what was begun at a moment that can't be trusted."""
        disk_jobs.end(self._lv, self._domain, self._asked)
        if self._made:
            self._forget([self._order.checkpoint])
        self._made = self._incremental = False

    # -- its end ------------------------------------------------------------------------------------------------------
    def _end(self) -> None:
        try:
            disk_jobs.end(self._lv, self._domain, self._asked)
        finally:
            self._remove_places()
            for disk, _files in self._disks:
                with contextlib.suppress(OSError):
                    os.unlink(self._scratch(disk.target))
            self._resume()
            order, known = self._order, self._known()
            doomed = [name for name in known if name.startswith(order.prefix)]
            if self._kept:
                doomed = [name for name in doomed if name != order.checkpoint]
            else:
                doomed = [
                    name for name in doomed if name != order.since and not (self._open and name == order.checkpoint)
                ]
            # The next run does what can't be done now.
            with contextlib.suppress(NebulaError, self._lv.libvirtError):
                self._forget(doomed)

    def _resume(self) -> None:
        """Have the guest go on whose writes could not be done as long as there was no room for what they overwrite."""
        lv = self._lv
        with contextlib.suppress(lv.libvirtError):
            if self._ran and tuple(self._domain.state()) == (lv.VIR_DOMAIN_PAUSED, lv.VIR_DOMAIN_PAUSED_IOERROR):
                self._domain.resume()

    def _known(self) -> list[str]:
        try:
            return backup_checkpoints.names(self._lv, self._domain)
        except self._lv.libvirtError:
            return []

    def _forget(self, doomed: Collection[str]) -> None:
        files = {disk.disk_id: files for disk, files in self._disks}
        backup_checkpoints.forget(self._lv, self._domain, doomed, files, self._asked)

    # -- what it has in common ----------------------------------------------------------------------------------------
    def _socket(self) -> str:
        return os.path.join(self._place, _SOCKET.format(name=self._domain.name()))

    def _scratch(self, target: str) -> str:
        # A plan removes what is called so, once it holds the lock of the directory.
        return os.path.join(self._order.directory, f".backup.{target}.tmp")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except self._lv.libvirtError as error:
            raise HypervisorError(self._asked, message_of(error), _AGAIN) from error

    @contextlib.contextmanager
    def _of_living_machine(self) -> Iterator[None]:
        """Say so where the machine has ended meanwhile, which is why the rest has failed."""
        try:
            with self._explained():
                yield
        except NebulaError as error:
            if self._is_running():
                raise
            raise HypervisorError(
                self._asked, "the machine ended while it was backed up", "Nothing of it was kept: run again"
            ) from error

    def _is_running(self) -> bool:
        try:
            return bool(self._domain.isActive())
        except self._lv.libvirtError:
            return False


def _user_of(definition: ET.Element) -> int:
    """Return the number of the user as whom the running domain's QEMU runs; root where nothing is said of that."""
    for label in definition.iterfind("./seclabel[@model='dac']"):
        found = re.match(r"\+(\d{1,10}):", label.findtext("label") or "")
        if found:
            return int(found[1])
    return 0


def _encrypt_as(disk: ET.Element, scratch: ET.Element) -> None:
    """Have what is kept aside of an encrypted disk be encrypted, too, by the same secret."""
    encryption = disk.find("./source/encryption")
    if encryption is None:
        encryption = disk.find("./encryption")
    if encryption is not None:
        copied = ET.SubElement(scratch, "encryption", {"format": "luks"})
        for secret in encryption.iterfind("./secret"):
            ET.SubElement(copied, "secret", dict(secret.attrib))


def _text(element: ET.Element) -> str:
    return ET.tostring(element, encoding="unicode")


def _listed(what: str, names: Sequence[str]) -> str:
    return f"{what}{'s' if len(names) > 1 else ''} {', '.join(names)}"
