# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every error a user can meet, one class per cause. Each says what was asked, what was found, and what to do."""

from __future__ import annotations

from .printable import BLOCK, printable

# Characters of each part of an error that are shown: users' values may be of any length.
LONGEST = 4000


class NebulaError(Exception):
    """The base of all errors of the collection.

    asked:  what was wanted, naming the object, the attribute and the value ("image demo: checksum sha256:ab…")
    found:  what is the case instead
    remedy: what the reader can do about it; may be empty where the first two say it
    None of the three may hold a secret: they reach logs and job events.
    """

    def __init__(self, asked: str, found: str, remedy: str = "") -> None:
        super().__init__(asked, found, remedy)
        self.asked = asked
        self.found = found
        self.remedy = remedy

    def __str__(self) -> str:
        asked, found, remedy = (harmless(part) for part in (self.asked, self.found, self.remedy))
        # What a program said may end with one by itself, and "did you mean …?" does.
        end = "" if found.endswith((".", "?")) else "."
        return f"{asked}: {found}{end} {remedy}" if remedy else f"{asked}: {found}"

    def as_dict(self) -> dict[str, str]:
        """The form in which errors travel in results and plans."""
        parts = {"asked": self.asked, "found": self.found, "remedy": self.remedy}
        return {"kind": type(self).__name__, **{name: harmless(part) for name, part in parts.items()}}


def harmless(text: str, longest: int = LONGEST, line_end: str = BLOCK) -> str:
    """The text as a terminal and a log may have it: printable, and of so many characters before that."""
    shown = text if len(text) <= longest else f"{text[: longest * 3 // 4]} … {text[-longest // 4 :]}"
    return printable(shown, line_end)


class InvalidValue(NebulaError):
    """An option or attribute has a value that can't be meant."""


class TemplateSyntaxError(InvalidValue):
    """Template text that can't be parsed; line and column count from 1."""

    def __init__(self, asked: str, found: str, remedy: str = "", line: int = 0, column: int = 0) -> None:
        super().__init__(asked, found, remedy)
        self.line = line
        self.column = column


class NotFound(NebulaError):
    """A name or id that the catalog, the host or the file system does not have."""


class Ambiguous(NebulaError):
    """A reference that fits several objects."""


class Conflict(NebulaError):
    """The object exists and differs in something that can't be changed on it."""


class InUse(NebulaError):
    """The object can't be changed or removed while others use it."""


class WrongState(NebulaError):
    """The object is in a state that does not allow the operation."""


class NoCapacity(NebulaError):
    """No host has the memory, CPU or port that was asked for."""


class NoLease(NebulaError):
    """The network has no free address, or not the one asked for."""


class TooManyDestroyed(NebulaError):
    """A list would destroy the disks of more machines than one run may."""


class BeingEnded(NebulaError):
    """What was asked for is held by machines that are being ended: it is free once they are gone."""


class NoSpace(NebulaError):
    """The file system has too little room."""


class StorageFailed(NebulaError):
    """A file system that can't be written: its device fails, or it is read-only."""


class ChecksumMismatch(NebulaError):
    """A file's content is not what its checksum says."""


class ImageRefused(NebulaError):
    """A disk image that is damaged, or that could read files of the host."""


class DownloadFailed(NebulaError):
    """A URL or an upload did not deliver its file."""


class CommandFailed(NebulaError):
    """A program ended with an error; found holds its last lines."""


class MissingDependency(NebulaError):
    """A program, library or service that the target lacks; remedy names the package."""


class HypervisorError(NebulaError):
    """The hypervisor refused or failed an operation."""


class Unsupported(NebulaError):
    """An operation that this hypervisor or engine does not have."""


class StalePlan(NebulaError):
    """A plan that is older than what the node has seen."""


class ForeignObject(NebulaError):
    """Something of the wanted name that is not marked as this catalog's."""


class CatalogError(NebulaError):
    """The catalog can't be opened, is newer than this collection, or is locked for too long."""


class Fault(NebulaError):
    """Something that no code of ours foresaw."""


class TimedOut(NebulaError):
    """A condition that did not come in time."""


class TrafficBlocked(NebulaError):
    """A firewall of the host drops what a network needs."""


class NetworkDatabaseError(NebulaError):
    """The database of a network engine can't be reached, or refuses what it was asked."""
