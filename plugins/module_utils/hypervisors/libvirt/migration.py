# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves a running QEMU machine by libvirt's own migration, peer to peer. Both libvirtds and both QEMUs speak through
UNIX sockets, whose other ends are at the passage between the two hosts: no libvirtd listens for another one, and no
host has a key to another."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any
from xml.etree import ElementTree as ET

from ...deps import require
from ...errors import HypervisorError, MissingDependency, NebulaError, OtherHostFailed, TimedOut
from ...model.vm import Vm
from ..base import Departure, Receiver
from ..moves.passage import CONTROL, DISKS, MEMORY, Channel, Stream, relay, tunnels
from . import arriving_definition, socket_places
from .migration_calls import Admitted, Calls

PLACE = "/run/libvirt/nebula-moves"
# Of QEMU's own daemon, where each driver has one, and of libvirtd.
SOCKETS = ("/run/libvirt/virtqemud-sock", "/run/libvirt/libvirt-sock")
# Seconds in which a migration that was given up has to end, and between two tries to end it.
ENDING_SECONDS = 60.0
_ANSWER_SECONDS = 10.0
_STEP = 0.05
# How QEMU announces a machine again (milliseconds): more and more seldom, for about 14 s in all.
_ANNOUNCEMENTS = {"initial": 100, "step": 100, "max": 500, "rounds": 30}
_LOST = "the other host is not there any more"
_AGAIN = 1.0


def path_of(token: str, channel: str, name: str) -> str:
    """Return the socket of a channel, on both hosts. AppArmor's profiles of libvirt admit QEMU to this name."""
    return f"{PLACE}/{token}/{channel}.tunnelmigrate.dest.{name}"


@contextlib.contextmanager
def _place(token: str, owner: int, asked: str) -> Iterator[None]:
    """Have the directory of the move's sockets, for nobody but root and the owner, who runs QEMU: it makes some of
    them. asked: how errors begin"""
    forget(token)
    socket_places.make(os.path.join(PLACE, token), owner, asked)
    try:
        yield
    finally:
        forget(token)


def forget(token: str) -> None:
    """Remove the sockets of a move, also those that a killed run has left."""
    shutil.rmtree(os.path.join(PLACE, token), ignore_errors=True)


def user_of_qemu(capabilities: str) -> int:
    """Return the number of the user as whom libvirt runs QEMU; root where it says nothing of that."""
    for model in ET.fromstring(capabilities).iterfind("host/secmodel"):
        if model.findtext("model") == "dac":
            labels = [each.text or "" for each in model.iterfind("baselabel") if each.get("type") in ("kvm", "qemu")]
            found = re.match(r"\+(\d{1,10}):", labels[0]) if labels else None
            return int(found[1]) if found else 0
    return 0


def flags_of(lv: Any, copies: bool) -> int:
    """Return the flags of a migration. It is unsafe to libvirt wherever it can't see that files are shared, or come."""
    flags: int = (
        lv.VIR_MIGRATE_LIVE
        | lv.VIR_MIGRATE_PEER2PEER
        | lv.VIR_MIGRATE_UNDEFINE_SOURCE
        | lv.VIR_MIGRATE_PAUSED
        | lv.VIR_MIGRATE_UNSAFE
    )
    return flags | (lv.VIR_MIGRATE_NON_SHARED_INC if copies else 0)


def _uris(token: str, name: str) -> dict[str, str]:
    return {
        "migrate_uri": f"unix://{path_of(token, MEMORY, name)}",
        "disks_uri": f"unix://{path_of(token, DISKS, name)}",
    }


def depart(lv: Any, domain: Any, vm: Vm, departure: Departure, owner: int, asked: str) -> None:
    """Move the domain. Raise HypervisorError or TimedOut where that failed, or was given up. owner: the user as whom
    QEMU runs."""
    if not hasattr(lv, "VIR_MIGRATE_PARAM_DISKS_URI"):
        raise MissingDependency(asked, "this host's libvirt is older than 6.8", "Bring a newer one, or move it cold")
    name, token = domain.name(), departure.token
    targets = [disk.target for disk in vm.disks if disk.disk_id in departure.copied]
    parameters: dict[str, Any] = {
        lv.VIR_MIGRATE_PARAM_URI: _uris(token, name)["migrate_uri"],
        lv.VIR_MIGRATE_PARAM_DEST_XML: departure.definition,
    }
    if targets:
        parameters[lv.VIR_MIGRATE_PARAM_DISKS_URI] = _uris(token, name)["disks_uri"]
        parameters[lv.VIR_MIGRATE_PARAM_MIGRATE_DISKS] = targets
    places = {channel: path_of(token, channel, name) for channel in (CONTROL, MEMORY, DISKS)}
    uri = f"qemu+unix:///system?socket={places[CONTROL]}"
    failed: list[Exception] = []

    def migrate() -> None:
        try:
            domain.migrateToURI3(uri, parameters, flags_of(lv, bool(targets)))
        except Exception as error:
            # Whatever it is: without an error the machine counts as gone.
            failed.append(error)

    with _place(token, owner, asked):
        with tunnels(places, departure.caller, owner):
            moving = threading.Thread(target=migrate, name="migration", daemon=True)
            moving.start()
            why = _watch(moving, departure)
            if why:
                _give_up(lv, domain, moving)
        # Without its connections it ends at the latest.
        moving.join(ENDING_SECONDS)
    if moving.is_alive():
        raise TimedOut(asked, f"{why}, and libvirt does not end it", "See both hosts, then run again")
    if failed and why:
        kind = OtherHostFailed if why == _LOST else TimedOut
        raise kind(asked, f"{why}; it was given up", "See the other host, or raise nebula_move_timeout; run again")
    if failed:
        raise failed[0]


def _watch(moving: threading.Thread, departure: Departure) -> str:
    """Wait for the end. Return why it is given up, "" if it has ended."""
    limit = time.monotonic() + departure.limit
    while moving.is_alive():
        moving.join(_STEP)
        if time.monotonic() > limit:
            return f"it was not done within {departure.limit} s"
        if departure.lost():
            return _LOST
    return ""


def _give_up(lv: Any, domain: Any, moving: threading.Thread) -> None:
    limit = time.monotonic() + ENDING_SECONDS / 4
    while moving.is_alive() and time.monotonic() < limit:
        with contextlib.suppress(lv.libvirtError):
            domain.abortJob()
        moving.join(_AGAIN)


class MigrationReceiver(Receiver):
    """Carries the connections of one migration that comes to this host's libvirtd and to its QEMU.
    disks: targets of those that are copied.
    owner: the user as whom QEMU runs."""

    def __init__(
        self, lv: Any, token: str, name: str, definition: str, disks: Collection[str], owner: int, asked: str
    ) -> None:
        self._token = token
        self._name = name
        self._owner = owner
        # One for the calls, one for the memory, and one for each disk.
        self._left = {CONTROL: 1, MEMORY: 1, DISKS: len(disks)}
        self._ending = threading.Event()
        self._errors: list[NebulaError] = []
        self._changed = threading.Condition()
        # Connections that are carried now.
        self._carried = 0
        self._admitted = Admitted(
            name=name,
            flags=flags_of(lv, copies=bool(disks)),
            uris={key: uri for key, uri in _uris(token, name).items() if disks or key != "disks_uri"},
            disks=frozenset(disks),
            check=lambda arriving: arriving_definition.check(arriving, definition, asked),
        )
        self._held = contextlib.ExitStack()
        self._held.enter_context(_place(token, owner, asked))

    def tunnels(self) -> Mapping[str, Callable[[Channel], None]]:
        return {
            CONTROL: self._control,
            MEMORY: lambda channel: self._carry(channel, MEMORY),
            DISKS: lambda channel: self._carry(channel, DISKS),
        }

    def close(self) -> NebulaError | None:
        self._ending.set()
        with self._changed:
            self._changed.wait_for(lambda: not self._carried, ENDING_SECONDS)
        self._held.close()
        return next(iter(self._errors), None)

    def _control(self, channel: Channel) -> None:
        calls = Calls(self._admitted)
        self._relay(channel, CONTROL, SOCKETS, calls.inspect)

    def _carry(self, channel: Channel, name: str) -> None:
        self._relay(channel, name, (path_of(self._token, name, self._name),), bytes)

    def _relay(self, channel: Channel, name: str, paths: Collection[str], inspect: Callable[[bytes], bytes]) -> None:
        with self._changed:
            self._carried += 1
            self._left[name] -= 1
            is_one_more = self._left[name] < 0
        try:
            local = None if is_one_more else self._connected(paths)
            if local is None:
                channel.close()
                return
            stream: Stream = channel.stream
            relay(stream, local, inspect, lambda: not self._ending.is_set(), (channel.early(), b""))
        except NebulaError as error:
            self._errors.append(error)
        finally:
            with self._changed:
                self._carried -= 1
                self._changed.notify_all()

    def _connected(self, paths: Collection[str]) -> socket.socket | None:
        """Return a connection to the first of these sockets that answers; None if none does."""
        for path in paths:
            local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            local.settimeout(_ANSWER_SECONDS)
            try:
                found = os.lstat(path)
                if stat.S_ISSOCK(found.st_mode) and found.st_uid in (0, self._owner):
                    local.connect(path)
                    return local
            except OSError:
                pass
            local.close()
        return None


def announce(domain: Any, asked: str) -> None:
    """Have QEMU announce (RARP) where the domain is, while this goes on. By itself it does so once the domain has come,
    and for less than a second."""
    command = json.dumps({"execute": "announce-self", "arguments": _ANNOUNCEMENTS})
    answer = json.loads(require("libvirt_qemu").qemuMonitorCommand(domain, command, 0))
    if "error" in answer:
        raise HypervisorError(asked, str(answer["error"].get("desc", answer["error"])))


def explain(error: NebulaError) -> NebulaError:
    """Return what libvirt's error of a migration means for those who asked for it."""
    found = error.found
    if "guest CPU" in found or "CPU feature" in found or "host doesn't provide" in found:
        error.remedy = "Set CPU_MODEL to a model that both hosts have (virsh domcapabilities), and start it anew"
    elif isinstance(error, HypervisorError) and not error.remedy:
        remedy = "It runs on where it was. See the other host, or move it cold (move: cold)"
        return OtherHostFailed(error.asked, found, remedy)
    return error
