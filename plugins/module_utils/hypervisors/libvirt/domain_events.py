# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waits for what only events of libvirt tell: that a guest reboots, and that it lets go of a device, of a medium or of
memory."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any


class _Loop:
    """Runs libvirt's event loop, of which a process has one. It begins when it is first needed and never ends: once
    there is one, libvirtd ends each connection, of any use, whose keepalive nobody has answered for half a minute."""

    _lock = threading.Lock()
    _begun = False

    @classmethod
    def begin(cls, libvirt: Any) -> None:
        with cls._lock:
            if not cls._begun:
                libvirt.virEventRegisterDefaultImpl()
                threading.Thread(target=cls._run, args=(libvirt,), name="libvirt-events", daemon=True).start()
                cls._begun = True

    @staticmethod
    def _run(libvirt: Any) -> None:
        while True:
            libvirt.virEventRunDefaultImpl()


class Removal:
    """Holds what libvirt has said of a device that a guest is asked to let go.
    reported: something was said.
    refused: the guest keeps the device."""

    def __init__(self) -> None:
        self.reported = threading.Event()
        self.refused = False


class DomainEvents:
    """Waits for events of guests. It has a connection of its own, since libvirt gives events only to connections that
    were opened after the event loop was registered."""

    def __init__(self, libvirt: Any, connect: Callable[[], Any]) -> None:
        self._libvirt = libvirt
        self._rebooting: dict[str, threading.Event] = {}
        self._removing: dict[tuple[str, str], Removal] = {}
        self._changing: dict[str, threading.Event] = {}
        _Loop.begin(libvirt)
        self._connection = connect()
        for number, heard in (
            (libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, self._note_reboot),
            (libvirt.VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE, self._note_balloon),
            (libvirt.VIR_DOMAIN_EVENT_ID_TRAY_CHANGE, self._note_tray),
            (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, self._note_removed),
            (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED, self._note_kept),
        ):
            self._connection.domainEventRegisterAny(None, number, heard, None)

    def _note_reboot(self, _connection: Any, domain: Any, _opaque: Any) -> None:
        event = self._rebooting.get(domain.UUIDString())
        if event is not None:
            event.set()

    def _note_balloon(self, _connection: Any, domain: Any, _actual: int, _opaque: Any) -> None:
        self._note_change(domain)

    def _note_tray(self, _connection: Any, domain: Any, _alias: str, _reason: int, _opaque: Any) -> None:
        self._note_change(domain)

    def _note_change(self, domain: Any) -> None:
        event = self._changing.get(domain.UUIDString())
        if event is not None:
            event.set()

    def _note_removed(self, _connection: Any, domain: Any, alias: str, _opaque: Any) -> None:
        self._note_end(domain, alias, refused=False)

    def _note_kept(self, _connection: Any, domain: Any, alias: str, _opaque: Any) -> None:
        self._note_end(domain, alias, refused=True)

    def _note_end(self, domain: Any, alias: str, refused: bool) -> None:
        removal = self._removing.get((domain.UUIDString(), alias))
        if removal is not None:
            removal.refused = refused
            removal.reported.set()

    @contextlib.contextmanager
    def rebooted(self, uuid: str) -> Iterator[threading.Event]:
        event = self._rebooting[uuid] = threading.Event()
        try:
            yield event
        finally:
            del self._rebooting[uuid]

    @contextlib.contextmanager
    def changed(self, uuid: str) -> Iterator[threading.Event]:
        """Listen for a guest that gives back memory or takes it, and that moves the tray of a drive."""
        event = self._changing[uuid] = threading.Event()
        try:
            yield event
        finally:
            del self._changing[uuid]

    @contextlib.contextmanager
    def removed(self, uuid: str, alias: str) -> Iterator[Removal]:
        """Listen for what becomes of a device. alias: its name in the running definition."""
        removal = self._removing[uuid, alias] = Removal()
        try:
            yield removal
        finally:
            del self._removing[uuid, alias]

    def close(self) -> None:
        with contextlib.suppress(self._libvirt.libvirtError):
            self._connection.close()
