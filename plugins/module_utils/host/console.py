# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What guests say on their serial consoles: read while it is written, through rotation, and weighed as evidence, beside
what others can find out of them.

All of it is untrusted text: bounded, and made harmless before anybody sees it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
import stat
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, Protocol, Union

from ..errors import InvalidValue, NebulaError, TimedOut
from .files import read_limited, reader, remove_file, write_atomically
from .node import boot_id

# In a machine's directory.
NAME = "console.log"
# Beside it: what was wanted of a guest and believed since the node last started it. A guest that says much has its boot
# report rotated away in the end, and never says it again.
VERIFIED = ".verified"
# virtlogd's own: console.log at 2 MiB becomes console.log.0, that .1, that .2.
ROTATED = (".0", ".1", ".2")
# What can be believed of a guest: what its console says, the login prompt there, its agent, and its address.
CONSOLE, LOGIN, AGENT, ADDRESS = "console", "login", "agent", "address"
KINDS = (CONSOLE, LOGIN, AGENT, ADDRESS)
# Put there by the node before it starts a machine: nothing above it counts, whatever the guest is.
NODE_STARTING = "nebula-node: starting"
GUEST_BOOTING = "nebula-guest: booting"
KERNEL_BANNER = "[    0.000000] Linux version "
# What firmware and boot loaders write on a serial port: a login prompt before it is of another boot.
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
SHOWN_LINES = 20
SHOWN_LENGTH = 300
# What another source found may name each address of a machine.
LONGEST_FOUND = 2000
# A line that is longer is taken in pieces.
LINE_LIMIT = 4096
# One guest that floods its console holds up no other: so much is read of it at each look, each line counting as so many
# bytes more, as the short ones take as long as others.
READ_LIMIT = 4 << 20
LINE_COST = 128
POLL_INTERVAL = 0.2
# What looking may take of a host that has guests to boot: a tenth of its time, unless that were a look in two seconds.
SHARE = 10
LONGEST_INTERVAL = 2.0
# Seconds of silence after which a guest that is ready, but not as wanted, is not waited for any longer.
SETTLED_AFTER = 30.0

_CHUNK = 64 * 1024
# A cursor that is set elsewhere ends a line, too: what draws on a whole screen writes no other ends.
_ENDS = re.compile(rb"(?:[\r\n]|\x1b\[\d{0,4}(?:;\d{0,4})?[Hf])+")
# Of a sequence whose end is not there yet.
_BEGUN = re.compile(rb"\x1b(?:\[[0-?]{0,32}[ -/]{0,8})?$")
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]{0,256}(?:\x07|\x1b\\)|[@-Z\\-_])")

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]


def harmless(text: str, longest: int = SHOWN_LENGTH) -> str:
    """The text without terminal sequences, and with whatever else does not print written as an escape."""
    plain = _ESCAPE.sub("", text)
    shown = "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in plain)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


# --- reading


@dataclass
class ConsoleLog:
    """Follows a console file from the guest's last boot on. Keeps a place, not an open file: a node has many guests."""

    path: str
    inode: int | None = None
    offset: int = 0
    # What follows the last line end: a login prompt has none after it.
    partial: str = ""
    # Whether the log holds the beginning of a boot: after enough rotations it does not.
    has_boot: bool = False
    _rest: bytes = b""

    def read(self, take: Callable[[str], None], restart: Callable[[], None]) -> bool:
        """Hand what is new, line by line, to `take`; True if there was something. restart: the log was begun anew."""
        chain = self._chain()
        if not chain:
            return False
        if self.inode is None:
            self.inode, self.offset = self._last_boot(chain)
        places = [inode for _path, inode, _size in chain]
        if self.inode not in places or (self.inode == places[0] and chain[0][2] < self.offset):
            restart()
            self.inode, self.offset, self._rest, self.partial = places[-1], 0, b"", ""
        left = READ_LIMIT
        for path, inode, size in reversed(chain[: places.index(self.inode) + 1]):
            if inode != self.inode:
                self.inode, self.offset = inode, 0
            if size > self.offset:
                left -= self._read_file(path, left, take)
            if left <= 0:
                break
        return left < READ_LIMIT

    def _chain(self) -> list[tuple[str, int, int]]:
        """(path, inode, size) of the files that there are, the newest first."""
        found = []
        for suffix in ("", *ROTATED):
            try:
                status = os.lstat(self.path + suffix)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise unreadable(self.path, error) from error
            if not stat.S_ISREG(status.st_mode):
                raise InvalidValue(f"console {self.path}", "it is not a regular file", "Name the console's log")
            found.append((self.path + suffix, status.st_ino, status.st_size))
            # Most polls find nothing new, and need no look at the older files.
            if suffix == "" and status.st_ino == self.inode:
                break
        return found

    def _last_boot(self, chain: Sequence[tuple[str, int, int]]) -> tuple[int, int]:
        """(inode, offset) where reading starts: where the node last started the machine.

        Without such a place, the older of those where our guest and a kernel last began to boot: dmesg prints the
        banner too, so that the newer may be no boot.
        """
        newest: dict[str, tuple[int, int]] = {}
        for age, (path, inode, size) in enumerate(chain):
            for mark in (NODE_STARTING, GUEST_BOOTING, KERNEL_BANNER):
                place = None if mark in newest else last_place(path, size, mark.encode())
                if place is None:
                    continue
                self.has_boot = True
                if mark == NODE_STARTING:
                    return inode, place
                newest[mark] = (-age, place)
        age, place = min(newest.values(), default=(1 - len(chain), 0))
        return chain[-age][1], place

    def _read_file(self, path: str, limit: int, take: Callable[[str], None]) -> int:
        """Read on in this file; returns what that took of the limit."""
        taken = 0
        try:
            with _opened(path) as source:
                if os.fstat(source.fileno()).st_ino != self.inode:
                    return 0  # rotated just now: next time
                source.seek(self.offset)
                while taken < limit:
                    chunk = source.read(_CHUNK)
                    if not chunk:
                        break
                    taken += len(chunk)
                    self.offset += len(chunk)
                    taken += LINE_COST * self._split(chunk, take)
        except FileNotFoundError:
            return taken
        except OSError as error:
            raise unreadable(path, error) from error
        return taken

    def _split(self, chunk: bytes, take: Callable[[str], None]) -> int:
        """Returns how many lines it was."""
        lines = _ENDS.split(self._rest + chunk)
        self._rest = lines.pop()
        while len(self._rest) > LINE_LIMIT:
            lines.append(self._rest[:LINE_LIMIT])
            self._rest = self._rest[LINE_LIMIT:]
        for line in lines:
            for start in range(0, len(line), LINE_LIMIT):
                take(plain(line[start : start + LINE_LIMIT]))
        self.partial = plain(_BEGUN.sub(b"", self._rest))
        return len(lines)


def plain(line: bytes) -> str:
    return _ESCAPE.sub("", line.decode("utf-8", "backslashreplace"))


def last_place(path: str, size: int, mark: bytes) -> int | None:
    """Offset of the last occurrence of `mark` in the file, read backwards in pieces; None if there is none."""
    try:
        with _opened(path) as source:
            end = size
            while end > 0:
                begin = max(0, end - _CHUNK)
                source.seek(begin)
                found = source.read(min(_CHUNK, size - begin) + len(mark)).rfind(mark)
                if found >= 0:
                    return begin + found
                end = begin
    except FileNotFoundError:
        pass
    except OSError as error:
        raise unreadable(path, error) from error
    return None


def _opened(path: str) -> BinaryIO:
    return reader(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), buffering=0)


def unreadable(path: str, error: OSError) -> NebulaError:
    return InvalidValue(f"console {path}", error.strerror or str(error), "Run this task with become: true")


def mark_start(path: str) -> None:
    """Part what a machine says from now on from what it said before, if it has said anything; what was believed of
    it is void."""
    remove_file(path + VERIFIED)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        os.write(fd, f"\n{NODE_STARTING}\n".encode())
    finally:
        os.close(fd)


# --- weighing


@dataclass(frozen=True)
class Wanted:
    """One machine and what its guest has to say. pattern: decides alone where it is given. by: which of KINDS count.
    former: the host name that it goes by until it is started anew, "" if that is the same."""

    vm_id: int
    name: str
    console: str
    hostname: str = ""
    addresses: tuple[str, ...] = ()
    pattern: str = ""
    by: tuple[str, ...] = KINDS
    former: str = ""

    def is_called(self, hostname: str) -> bool:
        """Whether the guest may go by this name."""
        names = (self.hostname or self.name, self.former)
        return any(same_host(name, hostname) for name in names if name)

    def counts(self, kind: str) -> bool:
        return kind == CONSOLE if self.pattern else kind in self.by


def remember(wanted: Wanted, evidence: str) -> None:
    # Whoever may read the console need not be allowed to write beside it: then it is read again each time.
    with contextlib.suppress(NebulaError, OSError):
        write_atomically(wanted.console + VERIFIED, _remembered(wanted, evidence), mode=0o600, sync=False)


def recall(wanted: Wanted) -> str:
    """What convinced when just this was wanted, since the node last started the machine; "" if nothing did."""
    try:
        text = read_limited(wanted.console + VERIFIED, READ_LIMIT, follow=False).decode()
        evidence = str(json.loads(text)["evidence"])
        if text == _remembered(wanted, evidence) or _is_of_former(json.loads(text), wanted, evidence):
            return evidence
    except (NebulaError, ValueError, KeyError, TypeError, IndexError):
        pass
    return ""


def _is_of_former(data: Any, wanted: Wanted, evidence: str) -> bool:
    """Whether that convinced when the machine had another name, which its guest still goes by."""
    if not wanted.former or data["wanted"][3] != wanted.former:
        return False
    before = replace(wanted, name=str(data["wanted"][1]), hostname=wanted.former)
    return bool(data == json.loads(_remembered(before, evidence)))


def _remembered(wanted: Wanted, evidence: str) -> str:
    asked = (wanted.vm_id, wanted.name, wanted.console, wanted.hostname, wanted.addresses, wanted.pattern)
    # A host that was booted has started its machines by itself.
    return json.dumps({"wanted": asked, "evidence": evidence, "boot": boot_id()}) + "\n"


class Witness(Protocol):
    """One way in which a guest can say that it is up and contextualised. kind: of KINDS."""

    kind: str

    def take(self, line: str) -> None: ...

    def prompt(self, partial: str) -> None: ...

    def heard(self) -> bool:
        """Whether the guest speaks this way at all."""

    def alone(self) -> bool:
        """Whether nothing else counts, since the guest tells by it also what went wrong."""

    def final(self) -> bool:
        """Whether the guest has said its last word until it boots again."""

    def missing(self, wanted: Wanted) -> list[str]: ...

    def evidence(self) -> str: ...


class Source(Protocol):
    """What can be found out of guests by other means than their consoles, of all of them together. kind: of KINDS."""

    kind: str

    def look(self, waiting: Collection[int], now: float) -> None:
        """Find out about the machines of these ids; called at each look but the first, and takes no time to speak of.
        now: seconds since waiting began."""

    def evidence(self, vm_id: int) -> str:
        """What convinces as of the last look, "" if nothing does."""

    def found(self, vm_id: int) -> str:
        """What was found instead, for the error."""

    def close(self) -> None: ...


@dataclass
class DemoGuest:
    """Our own guest's lines (storage/demo_guest.py) since its last boot."""

    hostname: str = ""
    addresses: list[str] = field(default_factory=list)
    context: str = ""
    errors: list[str] = field(default_factory=list)
    booted: bool = False
    ready: bool = False
    kind: str = CONSOLE

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
            return  # typed or printed by somebody else, or after the report
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

    def prompt(self, partial: str) -> None:
        pass

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
        return problems + unlike(wanted, self.hostname, self.addresses)

    def evidence(self) -> str:
        return harmless(f"nebula-guest: {', '.join([self.hostname, *self.addresses])}")


# A guest may write a line so that a regular expression with two stars tries all pairs of places in it. These look
# through it once.


def _row(line: str) -> list[str]:
    """The cells of a row in one of cloud-init's tables, none if it is no such row."""
    _before, _mark, row = line.rstrip().partition("ci-info: |")
    return [cell.strip() for cell in row[:-1].split("|")] if row.endswith("|") else []


def _finished(line: str) -> str:
    """What follows the word Datasource in the line with which cloud-init ends, "" if it is another one."""
    before, _mark, after = line.partition(" finished at ")
    _before, mark, version = before.rpartition("Cloud-init v. ")
    if not mark or not version or " " in version:
        return ""
    return after.rpartition("Datasource ")[2] if "Datasource " in after else ""


@dataclass
class CloudInit:
    """Debian's own cloud-init: its ci-info tables, its closing line, and the login prompt with the host's name."""

    hostname: str = ""
    addresses: list[str] = field(default_factory=list)
    datasource: str = ""
    # From a disk or CD: an image may bring a seed of its own.
    read: bool = False
    # Whether its tables of addresses were seen.
    told: bool = False
    kind: str = CONSOLE
    _heard: bool = False

    _OURS = ("DataSourceOpenNebula", "DataSourceConfigDrive", "DataSourceNoCloud")
    _SOURCE = re.compile(r"DataSource\w+")

    def take(self, line: str) -> None:
        if KERNEL_BANNER in line:
            self.hostname, self.addresses, self.datasource = "", [], ""
            self.read = self.told = self._heard = False
            return
        cells = _row(line)
        if cells:
            self._heard = self.told = True
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

    def alone(self) -> bool:
        return False

    def final(self) -> bool:
        return False

    def missing(self, wanted: Wanted) -> list[str]:
        problems = unlike(wanted, self.hostname, self.addresses)
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


# Whatever writes to the same console next may go on behind it.
_LOGIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9.-]{0,252}) login:(?:\s.*)?$")
_PROMPT = "login: "


def prompted(line: str) -> str:
    """The name in a login prompt; "" if the line is none."""
    login = _LOGIN.match(line)
    return login.group(1) if login else ""


@dataclass
class Login:
    """The login prompt of any system, with the name that the machine was given. table: of the same guest; where it was
    told of addresses, they have to be right too."""

    table: CloudInit
    hostname: str = ""
    kind: str = LOGIN

    def take(self, line: str) -> None:
        if GUEST_BOOTING in line or KERNEL_BANNER in line or any(mark in line for mark in LOADERS):
            self.hostname = ""
        self.prompt(line)

    def prompt(self, partial: str) -> None:
        self.hostname = prompted(partial) or self.hostname

    def heard(self) -> bool:
        return bool(self.hostname)

    def alone(self) -> bool:
        return False

    def final(self) -> bool:
        return False

    def missing(self, wanted: Wanted) -> list[str]:
        name = wanted.hostname or wanted.name
        if not self.hostname:
            return [f"no prompt {name} login:"]
        if not wanted.is_called(self.hostname):
            return [f"the prompt is that of {harmless(self.hostname)}, not of {name}"]
        contradicting = unlike(wanted, self.hostname, self.table.addresses) if self.table.told else []
        return [f"the prompt is that of {name}, but its cloud-init lacks {text}" for text in contradicting]

    def evidence(self) -> str:
        return harmless(f"{_PROMPT}{self.hostname}")


@dataclass
class Pattern:
    """A regular expression of the user's: one line of the console since the last boot."""

    expression: re.Pattern[str]
    match: str = ""
    kind: str = CONSOLE

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

    def final(self) -> bool:
        return False

    def missing(self, wanted: Wanted) -> list[str]:
        return [] if self.match else [f"a line that matches {self.expression.pattern!r}"]

    def evidence(self) -> str:
        return harmless(f"pattern: {self.match}")


def compiled(wanted: Wanted) -> re.Pattern[str]:
    """The pattern with its placeholders {name}, {hostname} and {ip} filled in; InvalidValue."""
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


def unlike(wanted: Wanted, hostname: str, addresses: Sequence[str]) -> list[str]:
    """What of the wanted name and addresses the guest does not have."""
    problems = []
    if wanted.hostname and not wanted.is_called(hostname):
        problems.append(f"hostname {wanted.hostname} ({f'it says {harmless(hostname)}' if hostname else 'none said'})")
    has = {found for found in map(address, addresses) if found is not None}
    for text in wanted.addresses:
        if address(text) not in has:
            said = ", ".join(str(item) for item in sorted(has, key=str))
            problems.append(f"address {text} ({f'it has {said}' if said else 'none said'})")
    return problems


def same_host(wanted: str, found: str) -> bool:
    """Equal, or one is the other without its domain."""
    first, second = wanted.lower().rstrip("."), found.lower().rstrip(".")
    if "." in first and "." in second:
        return first == second
    return first.split(".")[0] == second.split(".")[0]


def address(text: str) -> Address | None:
    try:
        return ipaddress.ip_interface(text).ip
    except ValueError:
        return None


# --- waiting


@dataclass(frozen=True)
class Verdict:
    """seconds: until it was believed, or given up. evidence: which of KINDS convinced, or "". said: its own words.
    missing: what its console did not say. tried: what was found instead, by kind."""

    wanted: Wanted
    verified: bool
    seconds: float
    evidence: str = ""
    said: str = ""
    missing: tuple[str, ...] = ()
    tried: Mapping[str, str] = field(default_factory=dict)
    last_lines: tuple[str, ...] = ()
    error: NebulaError | None = None


OPTIONS = (
    "Mend the guest or its context. Else nebula_verify_pattern says which line of its console is enough (for one "
    "machine nebula_verify_patterns), nebula_verify_by what counts, nebula_verify_timeout how long to wait; with "
    "nebula_verify: false the hypervisor is believed"
)


class Guest:
    """One machine that is waited for."""

    def __init__(self, wanted: Wanted, sources: Sequence[Source] = ()) -> None:
        self.wanted = wanted
        self.sources = [source for source in sources if wanted.counts(source.kind)]
        self.log = ConsoleLog(wanted.console)
        self.last: deque[str] = deque(maxlen=SHOWN_LINES)
        self.changed_at = 0.0
        self.witnesses: list[Witness] = []
        self._begun = False

    def _restart(self) -> None:
        self._begun = True
        self.last.clear()
        if self.wanted.pattern:
            self.witnesses = [Pattern(compiled(self.wanted))]
            return
        table = CloudInit()
        known: list[Witness] = [DemoGuest(), table, Login(table)]
        self.witnesses = [witness for witness in known if self.wanted.counts(witness.kind)]

    def _take(self, line: str) -> None:
        if NODE_STARTING in line:
            self._restart()
        if line.strip():
            self.last.append(line)
        for witness in self.witnesses:
            witness.take(line)

    def asks(self, kind: str) -> bool:
        """Whether what a source of this kind finds would count."""
        return self.wanted.counts(kind) and not any(witness.alone() for witness in self.witnesses)

    def look(self, now: float) -> Verdict | None:
        """Read what is new; a verdict when there is one. now: seconds since waiting began."""
        if not self._begun:
            self._restart()
        if self.log.read(self._take, self._restart):
            self.changed_at = now
        if self.log.inode is not None and not self.log.has_boot:
            said = recall(self.wanted)
            kind = LOGIN if said.startswith(_PROMPT) else CONSOLE
            if said and self.wanted.counts(kind):
                return Verdict(self.wanted, True, now, kind, said)
        for witness in self.witnesses:
            witness.prompt(self.log.partial)
        # Whoever tells what goes wrong is not passed over by what its system does besides.
        alone = [witness for witness in self.witnesses if witness.alone()]
        for witness in alone or self.witnesses:
            if witness.heard() and not witness.missing(self.wanted):
                return Verdict(self.wanted, True, now, witness.kind, witness.evidence())
        for source in () if alone else self.sources:
            said = source.evidence(self.wanted.vm_id)
            if said:
                return Verdict(self.wanted, True, now, source.kind, said)
        if now - self.changed_at >= SETTLED_AFTER and any(witness.final() for witness in self.witnesses):
            return self.given_up(now)
        return None

    def given_up(self, now: float) -> Verdict:
        tried = self.tried()
        heard = [*self.last, self.log.partial] if self.log.partial.strip() else list(self.last)
        lines = [harmless(line) for line in heard[-SHOWN_LINES:]]
        shown = "".join(f"\n    {line}" for line in lines)
        error = TimedOut(
            f"VM {self.wanted.vm_id} ({self.wanted.name}): its guest is up and contextualised",
            f"nothing said so within {now:.0f} s; {'; '.join(f'{kind}: {found}' for kind, found in tried.items())}",
            f"{OPTIONS}. "
            + (f"Last lines of {self.wanted.console}:{shown}" if lines else f"{self.wanted.console} is empty"),
        )
        missing = self.missing() if self.wanted.counts(CONSOLE) else list(tried.values())
        return Verdict(
            self.wanted, False, now, missing=tuple(missing), tried=tried, last_lines=tuple(lines), error=error
        )

    def tried(self) -> dict[str, str]:
        """What was found by each way that counts."""
        found = {}
        if self.wanted.counts(CONSOLE):
            found[CONSOLE] = f"missing {'; '.join(self.missing())}"
        if any(witness.alone() for witness in self.witnesses):
            return found
        for witness in self.witnesses:
            if witness.kind == LOGIN:
                found[LOGIN] = "; ".join(witness.missing(self.wanted))
        for source in self.sources:
            found[source.kind] = harmless(source.found(self.wanted.vm_id), LONGEST_FOUND)
        return found

    def missing(self) -> list[str]:
        if self.log.inode is None:
            return ["a console log"]
        said = [witness for witness in self.witnesses if witness.kind == CONSOLE]
        heard = [witness for witness in said if witness.heard()]
        if heard:
            return heard[0].missing(self.wanted)
        return unlike(self.wanted, "", ()) or ["a word of its context"]


def wait(
    machines: Sequence[Wanted],
    timeout: float,
    report: Callable[[int, int, int], None] = lambda *_counts: None,
    keep: bool = True,
    sources: Sequence[Source] = (),
) -> list[Verdict]:
    """Wait until every guest is believed or given up; one verdict each, in the order given.

    timeout: seconds for all of them together. report(done, failed, total) is called at every look, about each 0.2 s;
    each 2 s at most where a look takes long (many machines, a slow host).
    keep: remember who was believed, for the time when the console has rotated its report away.
    sources: what else can tell. They are asked only of machines whose consoles have not told at the first look.
    """
    began = time.monotonic()
    verdicts: dict[int, Verdict] = {}
    waiting = {index: Guest(wanted, sources) for index, wanted in enumerate(machines)}
    first = True
    while True:
        now = time.monotonic() - began
        for source in () if first else sources:
            source.look({guest.wanted.vm_id for guest in waiting.values() if guest.asks(source.kind)}, now)
        first = False
        # Consoles are read after that: a guest that has begun to tell of itself is heard before what it does meanwhile.
        for index, guest in list(waiting.items()):
            verdict = attempt(guest, now)
            if verdict is None and now >= timeout:
                verdict = guest.given_up(now)
            if verdict is not None:
                verdicts[index] = verdict
                del waiting[index]
                # An address that answers, and an agent, are asked again the next time.
                if keep and verdict.evidence in (CONSOLE, LOGIN):
                    remember(verdict.wanted, verdict.said)
        done = sum(verdict.verified for verdict in verdicts.values())
        report(done, len(verdicts) - done, len(machines))
        if not waiting:
            return [verdicts[index] for index in range(len(machines))]
        cost = time.monotonic() - began - now
        time.sleep(min(max(cost * SHARE, POLL_INTERVAL), LONGEST_INTERVAL))


def attempt(guest: Guest, now: float) -> Verdict | None:
    try:
        return guest.look(now)
    except NebulaError as error:
        return failed(guest.wanted, error, now)


def failed(wanted: Wanted, error: NebulaError, now: float) -> Verdict:
    called = f"VM {wanted.vm_id} ({wanted.name})"
    asked = error.asked if error.asked.startswith(called) else f"{called}: {error.asked}"
    return Verdict(wanted, False, now, missing=(error.found,), error=type(error)(asked, error.found, error.remedy))
