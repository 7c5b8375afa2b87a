# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two Xen hosts from one frozen memory, each with an identity of its own, a link between them, and a directory that the
first one exports and both have under the same path."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from emulated_host import linked
from xen_host import MoreXenHost

SHARED = "/srv/shared"
ADDRESSES = ("10.77.0.1", "10.77.0.2")
KEY = "/root/peer"


class Pair:
    def __init__(self, hosts: Sequence[MoreXenHost]) -> None:
        self.first, self.second = self.hosts = tuple(hosts)

    def login(self, number: int) -> str:
        """A command line that runs what is behind it on that one, as root."""
        options = ("BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR")
        words = ["ssh", "-i", KEY, *(word for option in options for word in ("-o", option))]
        return shlex.join([*words, f"{MoreXenHost.login}@{ADDRESSES[number]}", "sudo"])


@contextlib.contextmanager
def pair(directory: Path) -> Iterator[Pair]:
    with linked(MoreXenHost, directory) as hosts:
        for number, host in enumerate(hosts):
            _name(host, number)
        _share(*hosts)
        yield Pair(hosts)


def _name(host: MoreXenHost, number: int) -> None:
    commands = (
        f"echo 127.0.1.1 dom0-{number} >> /etc/hosts",
        f"hostnamectl set-hostname dom0-{number}",
        "rm -f /etc/machine-id && systemd-machine-id-setup",
        "ip link set eth1 down",
        f"ip link set eth1 address 52:54:00:77:00:0{number + 1}",
        f"ip address add {ADDRESSES[number]}/24 dev eth1",
        "ip link set eth1 up",
    )
    host.sudo(["sh", "-ec", "\n".join(commands)])
    host.put((host.place / "key").read_bytes(), ["sh", "-c", f"umask 077; cat > {KEY}"])


def _share(first: MoreXenHost, second: MoreXenHost) -> None:
    export = (
        f"mkdir -p {SHARED}; echo '{SHARED} {ADDRESSES[1]}(rw,sync,no_root_squash,no_subtree_check)' > /etc/exports"
    )
    first.sudo(["sh", "-ec", f"{export}; systemctl start nfs-server; exportfs -ra"], timeout=600)
    mount = f"mkdir -p {SHARED}; mount -t nfs -o vers=4.2 {ADDRESSES[0]}:{SHARED} {SHARED}"
    second.sudo(["sh", "-ec", mount], timeout=600)
