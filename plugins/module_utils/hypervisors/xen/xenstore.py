# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads xenstore, where Xen's tools and drivers tell each other what there is, by its own protocol (Xen's public
header io/xs_wire.h): a program for each question takes seconds on a busy dom0."""

from __future__ import annotations

import contextlib
import os
import select
import struct
from collections.abc import Iterator

from ...errors import HypervisorError

# The second: of kernels that are as old as xm.
DEVICES = ("/dev/xen/xenbus", "/proc/xen/xenbus")
SECONDS = 60.0
DOMAINS = "/local/domain"
BACKENDS = f"{DOMAINS}/0/backend"
# What backends beside disks there are.
_OTHERS = frozenset(("vif", "vfb", "vkbd", "console", "pci", "vusb", "qusb", "9pfs"))
# What is asked, whose answer it is, of which transaction, and how many bytes follow.
_HEADER = struct.Struct("=IIII")
_DIRECTORY, _READ, _ERROR = 1, 2, 16
_CONNECTED = "4"


class Store:
    """Reads over one connection, for one thread at a time. It raises HypervisorError."""

    def __init__(self, file: int) -> None:
        self._file = file

    def read(self, path: str) -> str | None:
        """Return the value at the path; None if there is none."""
        answer = self._ask(_READ, path)
        return None if answer is None else os.fsdecode(answer)

    def names(self, path: str) -> list[str]:
        """Return the names right below the path; nothing if the path is not there."""
        return [os.fsdecode(name) for name in (self._ask(_DIRECTORY, path) or b"").split(b"\0") if name]

    def _ask(self, kind: int, path: str) -> bytes | None:
        asked = os.fsencode(path) + b"\0"
        try:
            os.write(self._file, _HEADER.pack(kind, 0, 0, len(asked)) + asked)
            found, _request, _transaction, length = _HEADER.unpack(self._receive(_HEADER.size, path))
            answer = self._receive(length, path)
        except OSError as error:
            raise _read_error(path, str(error)) from error
        if found == _ERROR and answer == b"ENOENT\0":
            return None
        if found != kind:
            raise _read_error(path, answer.rstrip(b"\0").decode("ascii", "replace"))
        return answer

    def _receive(self, count: int, path: str) -> bytes:
        found = b""
        while len(found) < count:
            # It is a daemon's answer, and that may be gone.
            if not select.select([self._file], [], [], SECONDS)[0]:
                raise _read_error(path, f"no answer within {SECONDS:g} s")
            part = os.read(self._file, count - len(found))
            if not part:
                raise _read_error(path, "the connection ended")
            found += part
        return found


def _read_error(path: str, found: str) -> HypervisorError:
    return HypervisorError(f"reading {path} in xenstore", found, "See whether xenstored runs: service xen status")


@contextlib.contextmanager
def open_store() -> Iterator[Store]:
    path = next(filter(os.path.exists, DEVICES), DEVICES[0])
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise _read_error("/", str(error)) from error
    try:
        yield Store(file)
    finally:
        os.close(file)


def read(path: str) -> str | None:
    with open_store() as store:
        return store.read(path)


def is_named(name: str) -> bool:
    """Return whether there is a domain of this name: xl takes its names from here."""
    with open_store() as store:
        return any(store.read(f"{DOMAINS}/{domid}/name") == name for domid in store.names(DOMAINS))


def disks_in_use() -> list[tuple[int, str, bool]]:
    """Return all disks that dom0 serves: the domain, its disk, and whether it may write to it."""
    with open_store() as store:
        return [(domid, path, writes) for domid, _number, path, writes in _disks(store)]


def _disks(store: Store) -> Iterator[tuple[int, int, str, bool]]:
    for kind in sorted(set(store.names(BACKENDS)) - _OTHERS):
        for domid in store.names(f"{BACKENDS}/{kind}"):
            for device in store.names(f"{BACKENDS}/{kind}/{domid}"):
                place = f"{BACKENDS}/{kind}/{domid}/{device}"
                # QEMU's have the format before the path.
                params = store.read(f"{place}/params") or ""
                if "/" in params and device.isdigit():
                    yield int(domid), int(device), params[params.find("/") :], store.read(f"{place}/mode") != "r"


def devices_of(domid: int) -> tuple[dict[int, str], dict[str, str]]:
    """Return what dom0 serves the domain: the files of its disks by their numbers, and the names of its NICs here by
    their MAC addresses."""
    with open_store() as store:
        place = f"{BACKENDS}/vif/{domid}"
        nics = [
            [store.read(f"{place}/{device}/{key}") or "" for key in ("mac", "vifname")] for device in store.names(place)
        ]
        disks = {number: path for other, number, path, _writes in _disks(store) if other == domid}
        return disks, {mac.lower(): name for mac, name in nics}


def has_drivers(domid: int) -> bool:
    """Return whether the domain's guest has connected a disk or a NIC of Xen's own."""
    place = f"{DOMAINS}/{domid}/device"
    with open_store() as store:
        return any(
            store.read(f"{place}/{kind}/{device}/state") == _CONNECTED
            for kind in ("vbd", "vif")
            for device in store.names(f"{place}/{kind}")
        )
