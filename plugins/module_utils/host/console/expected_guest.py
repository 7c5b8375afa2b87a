# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says which name and addresses a machine's guest has to have, and what counts as evidence of it."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Union

from ...dataclass import dataclass
from .console_log import harmless

# The kinds of evidence: what the console shows, the login prompt there, the guest's agent, and its address.
CONSOLE, LOGIN, AGENT, ADDRESS = "console", "login", "agent", "address"
KINDS = (CONSOLE, LOGIN, AGENT, ADDRESS)
Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]


@dataclass(frozen=True)
class Wanted:
    """Describes one machine, and what its guest has to report.
    console: the path of its log.
    pattern: a regular expression of the user's, which decides alone if it is given.
    by: which of KINDS count.
    former: the host name that the guest has until it is started again, "" if it is the same."""

    vm_id: int
    name: str
    console: str
    hostname: str = ""
    addresses: tuple[str, ...] = ()
    pattern: str = ""
    by: tuple[str, ...] = KINDS
    former: str = ""

    def is_called(self, hostname: str) -> bool:
        """Return whether the guest may have this host name."""
        names = (self.hostname or self.name, self.former)
        return any(same_host(name, hostname) for name in names if name)

    def counts(self, kind: str) -> bool:
        return kind == CONSOLE if self.pattern else kind in self.by


def what_differs(wanted: Wanted, hostname: str, addresses: Sequence[str]) -> list[str]:
    """Return which of the wanted name and addresses the guest does not have, for messages."""
    problems = []
    if wanted.hostname and not wanted.is_called(hostname):
        problems.append(f"hostname {wanted.hostname} ({f'it says {harmless(hostname)}' if hostname else 'none said'})")
    has = {found for found in map(address, addresses) if found is not None}
    for text in wanted.addresses:
        if address(text) not in has:
            shown = ", ".join(str(item) for item in sorted(has, key=str))
            problems.append(f"address {text} ({f'it has {shown}' if shown else 'none said'})")
    return problems


def same_host(wanted: str, found: str) -> bool:
    """Return whether the host names are equal, or one is the other without its domain."""
    first, second = wanted.lower().rstrip("."), found.lower().rstrip(".")
    if "." in first and "." in second:
        return first == second
    return first.split(".")[0] == second.split(".")[0]


def address(text: str) -> Address | None:
    """Return the address in the text, which may have a prefix length behind it; None if there is none."""
    try:
        return ipaddress.ip_interface(text).ip
    except ValueError:
        return None
