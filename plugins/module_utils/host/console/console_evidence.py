# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads in a console that its guest is up and contextualised, by the demo guest's own lines, by cloud-init's, by a
login prompt, or by a pattern of the user's."""

from __future__ import annotations

import abc
import re
from dataclasses import field

from ...dataclass import dataclass
from ...errors import InvalidValue
from .console_log import GUEST_BOOTING, KERNEL_BANNER, harmless
from .expected_guest import CONSOLE, LOGIN, Wanted, what_differs

# Texts of firmware and boot loaders on a serial port: a login prompt before them belongs to an earlier boot.
LOADERS = (
    "SeaBIOS (version ",
    "BdsDxe: ",
    "iPXE ",
    "GNU GRUB ",
    "Welcome to GRUB",
    "ISOLINUX ",
    "SYSLINUX ",
    "EXTLINUX ",
)
# Other programs that write to the same console may continue the line.
_LOGIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9.-]{0,252}) login:(?:\s.*)?$")
PROMPT = "login: "


class Witness(abc.ABC):
    """Reads one kind of sign in a console that its guest is up and contextualised.
    kind: a word of KINDS."""

    kind = CONSOLE

    @abc.abstractmethod
    def take(self, line: str) -> None:
        """Read one line of the console."""

    def prompt(self, partial: str) -> None:  # noqa: B027 (not every guest has one)
        """Read the text behind the last line end. It is called at each look, with the same text again or with a longer
        text."""

    @abc.abstractmethod
    def heard(self) -> bool:
        """Return whether the guest prints such lines at all."""

    def alone(self) -> bool:
        """Return whether nothing else counts, since the guest also reports by it what went wrong."""
        return False

    def final(self) -> bool:
        """Return whether the guest reports nothing more this way until it boots again."""
        return False

    @abc.abstractmethod
    def missing(self, wanted: Wanted) -> list[str]:
        """Return what the guest has not shown yet, for messages; nothing if it convinces."""

    @abc.abstractmethod
    def evidence(self) -> str:
        """Return what convinced, for results."""


@dataclass
class DemoGuest(Witness):
    """Reads the lines of the demo guest (storage/demo_guest.py) since its last boot."""

    hostname: str = ""
    addresses: list[str] = field(default_factory=list)
    context: str = ""
    errors: list[str] = field(default_factory=list)
    booted: bool = False
    ready: bool = False

    def take(self, line: str) -> None:
        place = line.find("nebula-guest: ")
        if place < 0:
            return
        fact = line[place + len("nebula-guest: ") :].strip()
        if fact == "booting":
            self.hostname, self.addresses, self.context, self.errors = "", [], "", []
            self.booted, self.ready = True, False
        elif fact == "powering off":
            self.ready = False
        elif place > 0 or not self.booted or self.ready:
            return  # Somebody else typed or printed it, or it comes after the report.
        elif fact == "ready":
            self.ready = True
        elif fact.startswith("hostname="):
            self.hostname = fact[len("hostname=") :]
        elif fact.startswith("context="):
            self.context = fact[len("context=") :]
        elif fact.startswith("error "):
            self.errors = [*self.errors[:19], fact[len("error ") :]]
        elif " mac=" in fact:
            found = [word[3:] for word in fact.split() if word.startswith("ip=")]
            self.addresses = [*self.addresses, *found][:256]

    def heard(self) -> bool:
        return self.booted

    def alone(self) -> bool:
        return self.booted

    def final(self) -> bool:
        return self.ready

    def missing(self, wanted: Wanted) -> list[str]:
        if not self.ready:
            return ["nebula-guest: ready (it has begun to boot)"]
        problems = [f"no error ({harmless(text)})" for text in self.errors]
        if not self.context:
            problems.append("context (the guest found no context ISO)")
        return problems + what_differs(wanted, self.hostname, self.addresses)

    def evidence(self) -> str:
        return harmless(f"nebula-guest: {', '.join([self.hostname, *self.addresses])}")


# These functions look through a line once: a guest can write lines on which a regular expression with two stars would
# try all pairs of places.


def _row(line: str) -> list[str]:
    """Return the cells of a row in one of cloud-init's tables; none if the line is no such row."""
    _before, _mark, row = line.rstrip().partition("ci-info: |")
    return [cell.strip() for cell in row[:-1].split("|")] if row.endswith("|") else []


def _finished(line: str) -> str:
    """Return what follows the word Datasource in the line with which cloud-init ends; "" for another line."""
    before, _mark, after = line.partition(" finished at ")
    _before, mark, version = before.rpartition("Cloud-init v. ")
    if not mark or not version or " " in version:
        return ""
    return after.rpartition("Datasource ")[2] if "Datasource " in after else ""


@dataclass
class CloudInit(Witness):
    """Reads the lines of cloud-init: its ci-info tables, its closing line, and the login prompt with the host name."""

    hostname: str = ""
    addresses: list[str] = field(default_factory=list)
    datasource: str = ""
    # Whether it read a disk or CD: a seed may also be part of the image.
    read: bool = False
    # Whether its tables of addresses were seen.
    tables_seen: bool = False
    _heard: bool = False

    _OURS = ("DataSourceOpenNebula", "DataSourceConfigDrive", "DataSourceNoCloud")
    _SOURCE = re.compile(r"DataSource\w+")

    def take(self, line: str) -> None:
        if KERNEL_BANNER in line:
            self.hostname, self.addresses, self.datasource = "", [], ""
            self.read = self.tables_seen = self._heard = False
            return
        cells = _row(line)
        if cells:
            self._heard = self.tables_seen = True
            # Device, Up, Address, Mask, Scope, Hw-Address; the tables of routes and keys have other columns.
            if len(cells) == 6 and cells[1] == "True" and cells[0] != "lo" and cells[4] != "link":
                self.addresses = [*self.addresses, cells[2]][:256]
        source = self._SOURCE.match(_finished(line))
        if source:
            self._heard = True
            self.datasource = source.group()
            self.read = self.datasource in self._OURS and "=/dev/" in line
        self.prompt(line)

    def prompt(self, partial: str) -> None:
        self.hostname = prompted(partial) or self.hostname

    def heard(self) -> bool:
        return self._heard or bool(self.hostname)

    def missing(self, wanted: Wanted) -> list[str]:
        problems = what_differs(wanted, self.hostname, self.addresses)
        # A name alone may be the image's own.
        if not wanted.addresses and not self.read:
            problems.append(
                f"cloud-init's word that it read the context ISO ({self.datasource or 'it named no source'})"
            )
        if not self.hostname and not wanted.hostname:
            problems.append("a login prompt")
        return problems

    def evidence(self) -> str:
        return harmless(f"cloud-init: {', '.join([self.hostname, *self.addresses])}")


def prompted(line: str) -> str:
    """Return the name in a login prompt; "" if the line is none."""
    login = _LOGIN.match(line)
    return login.group(1) if login else ""


@dataclass
class Login(Witness):
    """Reads the login prompt of any system, with the name that the machine was given.
    table: what cloud-init printed of the same guest; if it printed addresses, these have to be right too."""

    table: CloudInit
    hostname: str = ""
    kind = LOGIN

    def take(self, line: str) -> None:
        if GUEST_BOOTING in line or KERNEL_BANNER in line or any(mark in line for mark in LOADERS):
            self.hostname = ""
        self.prompt(line)

    def prompt(self, partial: str) -> None:
        self.hostname = prompted(partial) or self.hostname

    def heard(self) -> bool:
        return bool(self.hostname)

    def missing(self, wanted: Wanted) -> list[str]:
        name = wanted.hostname or wanted.name
        if not self.hostname:
            return [f"no prompt {name} login:"]
        if not wanted.is_called(self.hostname):
            return [f"the prompt is that of {harmless(self.hostname)}, not of {name}"]
        contradicting = what_differs(wanted, self.hostname, self.table.addresses) if self.table.tables_seen else []
        return [f"the prompt is that of {name}, but its cloud-init lacks {text}" for text in contradicting]

    def evidence(self) -> str:
        return harmless(f"{PROMPT}{self.hostname}")


@dataclass
class Pattern(Witness):
    """Looks for a regular expression of the user's, which a line of the console since the last boot has to match."""

    expression: re.Pattern[str]
    match: str = ""

    def take(self, line: str) -> None:
        if GUEST_BOOTING in line or KERNEL_BANNER in line:
            self.match = ""
        self.prompt(line)

    def prompt(self, partial: str) -> None:
        if not self.match and self.expression.search(partial):
            self.match = partial

    def heard(self) -> bool:
        return True

    def alone(self) -> bool:
        return True

    def missing(self, wanted: Wanted) -> list[str]:
        return [] if self.match else [f"a line that matches {self.expression.pattern!r}"]

    def evidence(self) -> str:
        return harmless(f"pattern: {self.match}")


def compiled(wanted: Wanted) -> re.Pattern[str]:
    """Return the pattern of the machine with {name}, {hostname} and {ip} filled in. Raise InvalidValue for a wrong
    expression."""
    asked = f"VM {wanted.vm_id} ({wanted.name}): pattern {wanted.pattern!r}"
    text = wanted.pattern
    values = {"name": wanted.name, "hostname": wanted.hostname, "ip": next(iter(wanted.addresses), "")}
    for placeholder, value in values.items():
        if "{" + placeholder + "}" in text:
            if not value:
                raise InvalidValue(asked, f"the VM has no {placeholder} to put into it", "Give it a pattern of its own")
            meant = re.escape(value)
            if wanted.former and placeholder != "ip":
                meant = f"(?:{meant}|{re.escape(wanted.former)})"
            text = text.replace("{" + placeholder + "}", meant)
    try:
        return re.compile(text)
    except re.error as error:
        raise InvalidValue(
            asked, f"it is not a regular expression: {error}", "Escape what is meant literally"
        ) from None
