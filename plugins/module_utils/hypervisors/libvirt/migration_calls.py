# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Admits of what another host's libvirtd sends to this one's what brings one machine here, and nothing else: whoever
speaks with libvirtd is root. The form is that of libvirt's src/rpc/virnetprotocol.x and src/remote/remote_protocol.x.
Pure."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

from ...dataclass import dataclass
from ...errors import ForeignObject

# libvirt takes no longer ones.
LONGEST = 32 << 20
_HEADER = struct.Struct(">IIIiIII")
_REMOTE, _KEEPALIVE = 0x20008086, 0x6B656570
_CALL = 0
# Which calls a libvirtd makes for a migration by itself (peer to peer), by their numbers: who it is, what is there,
# notice of the connection's end, and the two that make the machine and finish it.
OPEN, CLOSE, SUPPORTS, AUTH_LIST, ON_CLOSE, NOT_ON_CLOSE = 1, 2, 60, 66, 360, 361
PREPARE, FINISH = 303, 306
_ADMITTED = frozenset((OPEN, CLOSE, SUPPORTS, AUTH_LIST, ON_CLOSE, NOT_ON_CLOSE, PREPARE, FINISH))
_NUMBERS = {1: 4, 2: 4, 3: 8, 4: 8, 5: 8, 6: 4}
_TEXT = 7
# VIR_MIGRATE_PAUSED: the machine stands still here until its source has given it away.
PAUSED = 1 << 5
# Those of which one machine's coming has one.
_ONCE = frozenset((OPEN, CLOSE, PREPARE, FINISH))
_OWN = "qemu:///system"
_URIS = ("migrate_uri", "disks_uri")
_KNOWN_PARAMETERS = frozenset(
    ("destination_name", "destination_xml", "migrate_uri", "disks_uri", "migrate_disks", "bandwidth")
)


@dataclass(frozen=True)
class Admitted:
    """Says what the calls of one machine's coming may name.
    name: of the domain.
    flags: those that are set.
    uris: by parameter, where QEMU is to listen.
    disks: targets of the disks that are copied.
    check: raises an error for a definition that is not the one that was agreed upon."""

    name: str
    flags: int
    uris: Mapping[str, str]
    disks: frozenset[str]
    check: Callable[[str], None]


class Calls:
    """Goes through what comes, piece by piece."""

    def __init__(self, admitted: Admitted) -> None:
        self._admitted = admitted
        self._buffer = bytearray()
        self._seen: set[int] = set()

    def inspect(self, block: bytes) -> bytes:
        """Return what may go on of what has come: whole calls. Raise ForeignObject for any other call."""
        self._buffer += block
        passed = bytearray()
        while len(self._buffer) >= 4:
            length = int.from_bytes(self._buffer[:4], "big")
            if not _HEADER.size <= length <= LONGEST:
                raise _refused(f"a message of {length} bytes")
            if len(self._buffer) < length:
                break
            message = bytes(self._buffer[:length])
            del self._buffer[:length]
            try:
                self._check(message)
            except (struct.error, UnicodeDecodeError, IndexError) as error:
                raise _refused(f"a call that can't be read ({error})") from error
            passed += message
        return bytes(passed)

    def _check(self, message: bytes) -> None:
        _length, program, version, procedure, kind, _serial, _status = _HEADER.unpack_from(message)
        reader = _Reader(message, _HEADER.size)
        if program != _KEEPALIVE:
            if program != _REMOTE or version != 1 or kind != _CALL or procedure not in _ADMITTED:
                raise _refused(f"call {procedure} of program {program:#x}")
            if procedure in _ONCE and procedure in self._seen:
                raise _refused(f"call {procedure} a second time")
            self._seen.add(procedure)
            if procedure == OPEN:
                # Any other name has libvirtd connect to elsewhere, by a program of the caller's choice.
                name = reader.text() if reader.number() else _OWN
                if name != _OWN or reader.number():
                    raise _refused(f"a connection to {name[:80]!r}")
            elif procedure == SUPPORTS:
                reader.number()
            elif procedure in (PREPARE, FINISH):
                self._check_arguments(reader, procedure)
        if not reader.is_at_end():
            raise _refused(f"call {procedure} with more than belongs to it")

    def _check_arguments(self, reader: _Reader, procedure: int) -> None:
        parameters = [(reader.text(), reader.value()) for _each in range(reader.number())]
        reader.opaque()
        flags = reader.number()
        if procedure == FINISH:
            # Whether it has failed at its old host.
            reader.number()
        if flags != self._admitted.flags or not flags & PAUSED:
            raise _refused(f"a migration with the flags {flags:#x}")
        singles = [name for name, _value in parameters if name != "migrate_disks"]
        if len(set(singles)) != len(singles):
            raise _refused("a migration with a parameter twice")
        for name, value in parameters:
            if name not in _KNOWN_PARAMETERS:
                raise _refused(f"a migration with {name[:40]!r}")
            if name == "destination_name" and value != self._admitted.name:
                raise _refused(f"domain {value[:40]!r}")
            if name in _URIS and value != self._admitted.uris.get(name):
                raise _refused(f"{name} {value[:120]!r}")
            if name == "migrate_disks" and value not in self._admitted.disks:
                raise _refused(f"disk {value[:40]!r}")
            if name == "destination_xml":
                self._admitted.check(value)
        if procedure == PREPARE and not {"destination_xml", *self._admitted.uris} <= set(singles):
            # libvirt would have QEMU listen for anybody.
            raise _refused("a migration that does not say how the machine comes")


class _Reader:
    """Reads values of XDR."""

    def __init__(self, data: bytes, place: int) -> None:
        self._data = data
        self._place = place

    def is_at_end(self) -> bool:
        return self._place == len(self._data)

    def number(self) -> int:
        found: int = struct.unpack_from(">I", self._data, self._place)[0]
        self._place += 4
        return found

    def opaque(self) -> bytes:
        length = self.number()
        end = self._place + length
        if end > len(self._data):
            raise IndexError("it is cut off")
        found = self._data[self._place : end]
        self._place = end + (-length % 4)
        return found

    def text(self) -> str:
        return self.opaque().decode()

    def value(self) -> str:
        """Return a typed parameter's value, "" for one that is no text."""
        kind = self.number()
        if kind == _TEXT:
            return self.text()
        self._place += _NUMBERS.get(kind) or _unknown(kind)
        return ""


def _unknown(kind: int) -> int:
    raise _refused(f"a value of type {kind}")


def _refused(what: str) -> ForeignObject:
    return ForeignObject(
        "a machine that comes from another host",
        f"that host asks this one's libvirtd for {what}, which belongs to no move",
        "Nothing of it reached libvirtd. Find out who else has power over that host before it is used again",
    )
