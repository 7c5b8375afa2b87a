# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives an appliance that fetches packages a way out, which does not lead back to this host.

QEMU's user network makes connections as QEMU itself, from this host, whose loopback is the appliance's 10.0.2.2. So
QEMU runs with a group of its own, and a table of nftables refuses that group whatever stays on the host, and
link-local addresses, where clouds tell machines their secrets. A namespace with NAT would need this host to forward
packets, and every other firewall of it to let them through."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ...errors import CommandFailed, InvalidValue, MissingDependency
from ...host import command, processes, sandbox

# No other process has it.
GROUP = sandbox.USER
RESOLV = "/etc/resolv.conf"
TIMEOUT = 60.0
_TABLE = "nebula_appliance_"
_REMEDY = "Give the packages as files (packages: [/srv/packages/x.deb]), which needs no network"


@contextlib.contextmanager
def outward_network(what: str) -> Iterator[list[str]]:
    """Yield the words that start a program whose connections may leave this host, but not reach the host."""
    asked = f"{what}: a network for fetching packages, which does not lead to this host"
    if os.geteuid() != 0:
        raise InvalidValue(asked, "only root can make it", f"Run this task with become: true. {_REMEDY}")
    _clear()
    table = f"{_TABLE}{os.getpid()}_{processes.start_time(os.getpid())}"
    try:
        command.run(["nft", "-f", "-"], input=rules(table, resolvers()), timeout=TIMEOUT)
    except MissingDependency as error:
        error.asked = asked
        error.remedy = f"{error.remedy}. {_REMEDY}"
        raise
    except CommandFailed as error:
        raise CommandFailed(asked, error.found, _REMEDY) from error
    try:
        yield [*_without_passt(), "setpriv", "--regid", str(GROUP), "--clear-groups", "--"]
    finally:
        _remove(table)


def _without_passt() -> list[str]:
    """Return words that hide passt: newer libguestfs has it make the connections, as a user of its own choice. Where
    it can't be started, QEMU makes them."""
    try:
        passt = command.find("passt")
    except MissingDependency:
        return []
    hide = 'mount -o bind /dev/null "$0" && exec "$@"'
    return ["unshare", "--mount", "--", "sh", "-c", hide, os.path.realpath(passt)]


def rules(table: str, resolvers: list[str]) -> str:
    """Return the rules of the table. resolvers: this host's, which may be on it; QEMU asks them for the appliance."""
    asks = "".join(
        f"    {'ip6' if ':' in address else 'ip'} daddr {address} meta l4proto {{ tcp, udp }} th dport 53 accept\n"
        for address in resolvers
    )
    return (
        f"table inet {table} {{\n"
        "  chain appliance {\n"
        f"{asks}"
        '    oifname "lo" reject\n'
        "    ip daddr { 0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/3 } reject\n"
        "    ip6 daddr { ::/127, fe80::/10, ff00::/8 } reject\n"
        "  }\n"
        "  chain output {\n"
        # Said of the group alone: of some packets of other programs nobody knows the group any more.
        f"    type filter hook output priority filter; policy accept;\n    meta skgid {GROUP} jump appliance\n"
        "  }\n"
        "}\n"
    )


def resolvers() -> list[str]:
    """Return the name servers that this host uses."""
    found = []
    with contextlib.suppress(OSError):
        text = Path(RESOLV).read_text(encoding="utf-8", errors="replace")
        for word in re.findall(r"^[ \t]*nameserver[ \t]+(\S+)", text, re.MULTILINE):
            with contextlib.suppress(ValueError):
                address = ipaddress.ip_address(word)
                if not (address.is_link_local or address.is_multicast):
                    found.append(str(address))
    return found


def _clear() -> None:
    """Remove the tables that killed runs have left: they concern no running program."""
    tables = command.run(["nft", "list", "tables"], timeout=TIMEOUT, check=False).stdout
    # Earlier versions named no start time.
    for name, number, began in re.findall(rf"^table inet ({_TABLE}(\d+)(?:_(\d+))?)$", tables, re.MULTILINE):
        # Another process may have got the number since.
        if not processes.is_of_root(int(number), began=int(began) if began else None):
            _remove(name)


def _remove(table: str) -> None:
    command.run(["nft", "delete", "table", "inet", table], timeout=TIMEOUT, check=False)
