# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Spells what XenDriver asks in xl's words for `xm`, the tool of Xen before 4.5 where `xl` is not there, reads what it
prints in another way, and refuses what it can't do. Its daemon, xend, works without a lock that is seen."""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Mapping, Sequence
from typing import BinaryIO, Callable, Union

from ...errors import Unsupported
from ...host.command import Completed
from . import switch_ports, xenstore, xl
from .config import device_number
from .xl import ListedDomain, Tool

# xend writes this first into a saved machine, and nothing at its end.
SAVED = b"LinuxGuestRecord"
# How a machine is called while xend saves it.
_SAVING = "migrating-"
_PAUSED = "--p---"
# What xl's words are in xm's: those after the verb.
_SPELLED: Mapping[str, Callable[[Sequence[str]], Sequence[str]]] = {
    "block-attach": lambda words: (words[0], *re.sub(r"^qcow2:", "tap:qcow2:", words[1]).rsplit(",", 2)),
    "mem-set": lambda words: (words[0], words[1].rstrip("m")),
    "reboot": lambda words: words[-1:],
    # The saved file has the configuration.
    "restore": lambda words: words[-1:],
    # It takes no -c: that scheduler had no caps yet.
    "sched-credit2": lambda words: words[:4],
    "shutdown": lambda words: words[-1:],
}
# What xm would ignore silently, and start another machine than was asked for.
_REFUSED = (
    (r"^type = 'pvh'$", "OS/MACHINE = xenpvh: it makes machines of type PV and HVM"),
    (r"^bios = 'ovmf'$", "OS/FIRMWARE = UEFI: its machines have a BIOS"),
    (
        rf"^ {{4}}'.*\bscript={switch_ports.SCRIPT}\b",
        "a NIC in a network of Open vSwitch or OVN: its scripts are others",
    ),
    (r"^ {4}'qcow2:", "a disk in qcow2 as 'qcow2:': it reads them as 'tap:qcow2:'"),
)
_SERIAL = re.compile(r"^device_model_args = .*\blogfile=(?P<path>/[^\n]*),logappend=on'.*$", re.MULTILINE)
_TOKEN = re.compile(r"""[()]|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s()'"]+""", re.DOTALL)
_DEVICE = re.compile(r"(?:ioemu:)?(?P<device>(?:xvd|hd|sd)[a-z]{1,2})(?::.*)?")
_MAC = re.compile(r"(?P<index>\d+)\s.*?(?P<mac>[0-9a-f]{2}(?::[0-9a-f]{2}){5})\b.*")
Expression = Union[str, list["Expression"]]


def tool() -> Tool:
    """Return the tool that is there."""
    return Xm() if xl.program() == Xm.name else Tool()


# -- what it prints ----------------------------------------------------------------------------------------------------
def expressions(text: str) -> list[Expression]:
    """Return xend's s-expressions as lists and words. A text that was cut off ends where it does."""
    stack: list[list[Expression]] = [[]]
    for token in _TOKEN.findall(text):
        if token == "(":
            inner: list[Expression] = []
            stack[-1].append(inner)
            stack.append(inner)
        elif token != ")":
            stack[-1].append(_word(token))
        elif len(stack) > 1:
            stack.pop()
    return stack[0]


def _word(token: str) -> str:
    if token[0] not in "'\"":
        return token
    # As Python 2 shows a string of bytes.
    with contextlib.suppress(SyntaxError, ValueError):
        return str(ast.literal_eval(f"b{token}").decode("utf-8", "replace"))
    return token[1:-1]


def _children(of: Sequence[Expression], name: str) -> list[list[Expression]]:
    return [child for child in of if isinstance(child, list) and child[:1] == [name]]


def _value(of: Sequence[Expression], *names: str) -> str:
    """Return the value of the first of these names that has one, else ""."""
    values = (child[1] for name in names for child in _children(of, name) if len(child) > 1)
    return next((value for value in values if isinstance(value, str)), "")


def domains(text: str) -> dict[str, list[Expression]]:
    """Return the domains of `xm list -l`, by name, without those that xend only remembers: they have no number."""
    found = _children(expressions(text), "domain")
    return {_value(each, "name"): each for each in found if _value(each, "domid").isdigit() and _value(each, "name")}


def parse_list(text: str) -> list[ListedDomain]:
    """Return what xl.parsed() makes of `xl list -v`. A domain that xend saves, even for a run that was killed, counts
    neither as running nor as off."""
    return [
        ListedDomain(
            name=name.removeprefix(_SAVING),
            domid=int(_value(each, "domid")),
            memory=int(_value(each, "memory") or 0),
            vcpus=int(_value(each, "online_vcpus", "vcpus") or 0),
            flags=_PAUSED if name.startswith(_SAVING) else _value(each, "state"),
            seconds=float(_value(each, "cpu_time") or 0),
            uuid=_value(each, "uuid").lower(),
        )
        for name, each in domains(text).items()
    ]


def _devices(domain: Sequence[Expression], *kinds: str) -> list[list[Expression]]:
    return [each for device in _children(domain, "device") for kind in kinds for each in _children(device, kind)]


def blocks(domain: Sequence[Expression]) -> set[int]:
    """Return the numbers of the domain's disks. `xm block-list` leaves out disks that blktap reads."""
    names = (_DEVICE.fullmatch(_value(each, "dev")) for each in _devices(domain, "vbd", "tap", "tap2"))
    return {device_number(name["device"]) for name in names if name}


def macs(domain: Sequence[Expression]) -> set[str]:
    return {_value(each, "mac").lower() for each in _devices(domain, "vif")} - {""}


def indices(text: str) -> dict[str, str]:
    """Return the number of each NIC that `xm network-list` shows, by its MAC."""
    found = (_MAC.match(line) for line in text.lower().splitlines())
    return {match["mac"]: match["index"] for match in found if match}


# -- what it is asked --------------------------------------------------------------------------------------------------
def words_of_xm(words: Sequence[str]) -> list[str]:
    """Return xl's words in xm's."""
    verb, rest = words[0], words[1:]
    return [verb, *(_SPELLED[verb](rest) if verb in _SPELLED else rest)]


class Xm(Tool):
    name = "xm"
    log = "/var/log/xen/xend.log"
    emulators = ("/usr/lib*/xen*/bin/qemu-dm", "/usr/local/lib*/xen*/bin/qemu-dm")
    emulator_package = "xen-qemu-dm"

    def _domains(self) -> str:
        return super().ask("listing the machines of this node", "list", "-l").stdout

    def listed(self) -> list[ListedDomain]:
        return parse_list(self._domains())

    def named(self, name: str) -> ListedDomain | None:
        # A domain that is being saved has another name in xenstore.
        return next((domain for domain in self.listed() if domain.name == name), None)

    def information(self) -> dict[str, str]:
        answer = super().information()
        version = "{}.{}{}".format(*(answer.get(f"xen_{part}", "") for part in ("major", "minor", "extra")))
        return {"xen_version": version.strip("."), **answer}

    def blocks(self, asked: str, name: str) -> set[int]:
        return blocks(domains(self._domains()).get(name, []))

    def macs(self, asked: str, name: str) -> set[str]:
        return macs(domains(self._domains()).get(name, []))

    def insert(self, asked: str, name: str, device: str, path: str) -> bool:
        return False

    def require_migration(self, asked: str) -> None:
        raise Unsupported(
            asked,
            f"this host has no xl, only the older {self.name}, whose daemon migrates over a port that anybody may use",
            "Move it cold (move: cold)",
        )

    def written(self, text: str) -> str:
        """Return the file with what only xm has. Its QEMU can't log what is said on a terminal: the log file replaces
        the terminal. By default a machine that crashed would be started again."""
        mark, _end, rest = text.partition("\n")
        rest = re.sub(r"^( {4}')qcow2:", r"\g<1>tap:qcow2:", rest, flags=re.MULTILINE)
        rest = re.sub(r"^cap = ", "cpu_cap = ", rest, flags=re.MULTILINE)
        rest = _SERIAL.sub(r"serial = 'file:\g<path>'", rest)
        return f"{mark}\non_crash = 'destroy'\n{rest}"

    def refuse(self, asked: str, text: str) -> None:
        for pattern, what in _REFUSED:
            if re.search(pattern, text, re.MULTILINE):
                raise Unsupported(
                    asked,
                    f"this host has no xl, only the older {self.name}, which can't have {what}",
                    "Start it on a host with xl, or leave that out",
                )

    def ask(self, asked: str, *words: str, timeout: float = xl.SECONDS) -> Completed:
        words = tuple(words_of_xm(words))
        verb, name = words[0], words[1] if len(words) > 1 else ""
        if verb in ("shutdown", "reboot") and not self._has_drivers(name):
            # xend would pull the plug of a guest that does not hear it.
            if verb == "reboot":
                raise Unsupported(
                    asked,
                    f"its guest has no drivers of Xen's, and {self.name} can only press its power button",
                    "Shut it down and start it, or set hard: true",
                )
            words = ("trigger", name, "power")
        elif verb == "network-detach":
            answer = super().ask(asked, "network-list", name).stdout
            words = (verb, name, indices(answer).get(words[2], words[2]))
        return super().ask(asked, *words, timeout=timeout)

    def _has_drivers(self, name: str) -> bool:
        domain = domains(self._domains()).get(name)
        if domain is None or not any(_children(image[1:], "hvm") for image in _children(domain, "image")):
            return True
        # Its guest has drivers if it has connected a disk or a NIC.
        return xenstore.has_drivers(int(_value(domain, "domid")))

    def is_saved(self, file: BinaryIO) -> bool:
        # A domain goes only when all of it is written.
        return file.read(len(SAVED)) == SAVED
