# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Defines all errors that a user can meet, one class per cause: what was asked, what was found, and what to do."""

from __future__ import annotations

from .printable import BLOCK, printable

# Characters of each part of an error that are shown: users' values may be of any length.
LONGEST = 4000


class NebulaError(Exception):
    """Is the base of all errors of the collection.

    asked:  what was wanted, naming the object, the attribute and the value ("image demo: checksum sha256:ab…")
    found:  what is the case instead
    remedy: what the reader can do about it; may be empty where the first two say it
    None of the three may hold a secret: they reach logs and job events."""

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
        """Return the form in which errors travel in results and plans."""
        parts = {"asked": self.asked, "found": self.found, "remedy": self.remedy}
        return {"kind": type(self).__name__, **{name: harmless(part) for name, part in parts.items()}}


def harmless(text: str, longest: int = LONGEST, line_end: str = BLOCK) -> str:
    """Return the text as a terminal and a log may have it: printable, after it was cut to so many characters."""
    shown = text if len(text) <= longest else f"{text[: longest * 3 // 4]} … {text[-longest // 4 :]}"
    return printable(shown, line_end)


class InvalidValue(NebulaError):
    """Says that an option or attribute has a value that can't be meant."""


class TemplateSyntaxError(InvalidValue):
    """Template text that can't be parsed; line and column count from 1."""

    def __init__(self, asked: str, found: str, remedy: str = "", line: int = 0, column: int = 0) -> None:
        super().__init__(asked, found, remedy)
        self.line = line
        self.column = column


class NotFound(NebulaError):
    """Says that the catalog, the host or the file system does not have a name or id."""


class Ambiguous(NebulaError):
    """Says that a reference fits several objects."""


class Conflict(NebulaError):
    """Says that the object exists and differs in something that can't be changed on it."""


class InUse(NebulaError):
    """Says that the object can't be changed or removed while others use it."""


class WrongState(NebulaError):
    """Says that the object is in a state that does not allow the operation."""


class NoCapacity(NebulaError):
    """Says that no host has the memory, CPU or port that was asked for."""


class NoLease(NebulaError):
    """Says that the network has no free address, or not the one asked for."""


class TooManyDestroyed(NebulaError):
    """Says that a list would destroy the disks of more machines than one run may."""


class BeingEnded(NebulaError):
    """Says that machines which are being ended hold what was asked for: it is free once they are gone."""


class NoSpace(NebulaError):
    """Says that the file system has too little room."""


class StorageFailed(NebulaError):
    """Says that a file system can't be written: its device fails, or it is read-only."""


class ChecksumMismatch(NebulaError):
    """Says that a file's content is not what its checksum says."""


class ImageRefused(NebulaError):
    """Says that a disk image is damaged, or could read files of the host."""


class DownloadFailed(NebulaError):
    """Says that a URL or an upload did not deliver its file."""


class CommandFailed(NebulaError):
    """Says that a program ended with an error; found holds its last lines."""


class MissingDependency(NebulaError):
    """Says that the target lacks a program, library or service; remedy names the package."""


class HypervisorError(NebulaError):
    """Says that the hypervisor refused or failed an operation."""


class OtherHostFailed(HypervisorError):
    """Says that a move failed on its other host, or that this did not answer: the error of that host says more."""


class Unsupported(NebulaError):
    """Says that this hypervisor or engine does not have an operation."""


class StalePlan(NebulaError):
    """Says that a plan is older than what the node has seen."""


class ForeignObject(NebulaError):
    """Says that something has the wanted name and is not marked as this catalog's."""


class CatalogError(NebulaError):
    """Says that the catalog can't be opened, is newer than this collection, or is locked for too long."""


class Fault(NebulaError):
    """Says that something happened which no code of ours foresaw."""


class TimedOut(NebulaError):
    """Says that a condition did not come in time."""


class TrafficBlocked(NebulaError):
    """Says that a firewall of the host drops what a network needs."""


class NetworkDatabaseError(NebulaError):
    """Says that the database of a network engine can't be reached, or refuses what it was asked."""
