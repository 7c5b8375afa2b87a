# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets up three central hosts: each database is a cluster (Raft), of which every member keeps a copy.

northd runs on each member. It is active where the southbound server leads, since it connects to its own member's
socket, and leaves a server that does not lead; the northbound database, which another member may lead, it reaches
by TLS. So nobody needs a port of the southbound database at which everything may be written."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from ...dataclass import dataclass
from ...errors import CommandFailed, Conflict, InvalidValue, NebulaError
from ...host.command import run
from ...host.files import explained, make_directory, remove_file, sync_directory
from ...model.endpoint import endpoint
from .certificates import Files
from .paths import Places

PORTS = {"northbound": 6643, "southbound": 6644}
# Two have no majority without each other, so that they are worse than one; more than three are not tried by any test.
SIZE = 3
SCHEMAS = {"northbound": "/usr/share/ovn/ovn-nb.ovsschema", "southbound": "/usr/share/ovn/ovn-sb.ovsschema"}
NAMES = {"northbound": "OVN_Northbound", "southbound": "OVN_Southbound"}
_SHORT = {"northbound": "nb", "southbound": "sb"}
NONE, STANDALONE, CLUSTERED = "none", "standalone", "clustered"
TIMEOUT = 60.0
_MAGIC = b"OVSDB CLUSTER "
_SERVER = re.compile(r"\s+(?P<server>[0-9a-f]{4}) \([0-9a-f]{4} at (?P<address>[^)]+)\)(?P<own> \(self\))?")


@dataclass(frozen=True)
class Copy:
    """Describes a member's file of a database.
    cluster: its UUID, "" as long as the member has not got to know it
    address: by which the member is known in the cluster"""

    kind: str = NONE
    cluster: str = ""
    address: str = ""


@dataclass(frozen=True)
class Status:
    """Holds what a server of a cluster says of the cluster.
    led: whether it follows a leader, or is the leader
    servers: all others, as their short names and addresses"""

    led: bool = False
    words: str = ""
    servers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Member:
    name: str
    address: str
    copies: Mapping[str, Copy]


@dataclass(frozen=True)
class Cluster:
    """Describes the cluster as the member `name` sees it. members: the first begins the cluster where there is none."""

    name: str
    members: tuple[Member, ...]
    ports: Mapping[str, int]
    files: Mapping[str, Files]

    @property
    def begins(self) -> bool:
        return self.members[0].name == self.name

    @property
    def addresses(self) -> list[str]:
        """Return the addresses of all members, always in the same order."""
        return sorted((each.address for each in self.members), key=lambda each: (":" in each, ip_address(each)))

    def local(self, which: str) -> str:
        own = next(each for each in self.members if each.name == self.name)
        return connection(own.address, self.ports[which])

    def others(self, which: str) -> list[str]:
        return [connection(each.address, self.ports[which]) for each in self.members if each.name != self.name]

    def known(self, which: str) -> str:
        """Return the UUID of the cluster of that database, "" if there is none yet."""
        return next((each.copies[which].cluster for each in self.members if each.copies[which].cluster), "")


def connection(address: str, port: int) -> str:
    return f"ssl:{endpoint(address, port)}"


def read(
    name: str, given: Sequence[Mapping[str, Any]], ports: Mapping[str, int], files: Mapping[str, Files]
) -> Cluster | None:
    """Return what the option `cluster` says; None where there is one central host."""
    if not given:
        return None
    names = [str(each["name"]) for each in given]
    asked = f"OVN's databases on {', '.join(names)}"
    if len(given) != SIZE or len(set(names)) != SIZE or name not in names:
        raise InvalidValue(
            asked,
            f"these are {len(set(names))} hosts for {name}",
            "Name one, or three, of which this host is one: two do not outlive the loss of either",
        )
    members = tuple(
        Member(
            str(each["name"]),
            str(each["address"] or ""),
            {which: _copy((each["databases"] or {}).get(which, {})) for which in NAMES},
        )
        for each in given
    )
    for member in members:
        try:
            ip_address(member.address)
        except ValueError as error:
            raise InvalidValue(
                f"{asked}: address {member.address!r} of {member.name}",
                "members of a cluster know each other by their IP addresses",
                f"Give the one by which the others reach it (nebula_ovn_address of {member.name})",
            ) from error
    if len({member.address for member in members}) != SIZE:
        raise Conflict(
            asked,
            f"they have the addresses {', '.join(member.address for member in members)}",
            "Give each its own (nebula_ovn_address)",
        )
    for file in {path for each in files.values() for path in each.as_dict().values()}:
        if re.search(r"\s", file):
            raise InvalidValue(
                f"{asked}: file {file}",
                "the package's script takes no path with blanks",
                "Choose another directory (nebula_root)",
            )
    return Cluster(name, members, ports, files)


def _copy(given: Mapping[str, Any]) -> Copy:
    return Copy(
        *(str(given.get(key) or default) for key, default in (("kind", NONE), ("cluster", ""), ("address", "")))
    )


def refuse(found: Mapping[str, Copy], wanted: Cluster | None, mine: bool) -> None:
    """Raise Conflict for copies that would not become one cluster without losing something. mine: whether what is in
    the copies of this host carries this catalog's mark."""
    for which, copy in found.items():
        asked = f"OVN's {which} database"
        if wanted is None:
            if copy.kind == CLUSTERED:
                raise Conflict(
                    f"{asked} on one host",
                    f"this host is a member of its cluster, at {copy.address}",
                    "Name all three members in group nebula_ovn_central. To go back to one, take OVN back first",
                )
            continue
        names = sorted({each.copies[which].cluster for each in wanted.members if each.copies[which].cluster})
        if len(names) > 1:
            raise Conflict(
                f"{asked} on {', '.join(each.name for each in wanted.members)}",
                f"these hosts are members of different clusters ({', '.join(names)})",
                "Find out which one is in use, and remove the databases of the other",
            )
        if copy.kind == CLUSTERED and copy.address != wanted.local(which):
            raise Conflict(
                f"{asked} of {wanted.name} at {wanted.local(which)}",
                f"the cluster knows this member as {copy.address}",
                "Give it its former address (nebula_ovn_address) and port (nebula_ovn_cluster_ports)",
            )
        if copy.kind == STANDALONE and mine and not wanted.begins:
            raise Conflict(
                f"{asked} of {wanted.name} in a cluster with {wanted.members[0].name}",
                "both have databases of this catalog, of which one would be lost",
                f"See what is in it (ovn-nbctl show on {wanted.name}); if it can go, end the daemons there and "
                "remove it",
            )


def read_copy(path: str) -> Copy:
    """Return of which kind the file is, and whose."""
    try:
        with Path(path).open("rb") as file:
            if not file.readline(4096).startswith(_MAGIC):
                return Copy(STANDALONE)
            header: dict[str, Any] = json.loads(file.readline(1 << 20))
    except FileNotFoundError:
        return Copy()
    except (OSError, ValueError) as error:
        raise CommandFailed(f"read database {path}", str(error), "See whether its file system is whole") from error
    # Of one that has joined it is in a later record.
    done = run(["ovsdb-tool", "db-cid", path], timeout=TIMEOUT, check=False)
    return Copy(CLUSTERED, done.stdout.strip() if done.returncode == 0 else "", str(header.get("local_address", "")))


def status(places: Places, which: str) -> Status:
    argv = ["ovn-appctl", "-t", places.control(which), "cluster/status", NAMES[which]]
    return read_status(run(argv, timeout=TIMEOUT, env=places.environment, check=False).stdout)


def read_status(text: str) -> Status:
    keys = dict(line.split(": ", 1) for line in text.splitlines() if line[:1].strip() and ": " in line)
    member = keys.get("Status", "") == "cluster member"
    servers = []
    for line in text.partition("\nServers:")[2].splitlines():
        match = _SERVER.match(line)
        if match and not match["own"]:
            servers.append((match["server"], match["address"]))
    led = member and keys.get("Leader", "unknown") != "unknown"
    return Status(led, keys.get("Status", "no answer"), tuple(servers))


def former_servers(found: Status, cluster: Cluster, which: str) -> list[str]:
    """Return servers of members that are no more: such as this member's server before it lost its databases."""
    return [server for server, address in found.servers if address not in cluster.others(which)]


def kick(places: Places, which: str, server: str) -> None:
    argv = ["ovn-appctl", "-t", places.control(which), "cluster/kick", NAMES[which], server]
    run(argv, timeout=TIMEOUT, env=places.environment)


def begin(path: str, which: str, cluster: Cluster) -> None:
    """Make the first copy: of the database of a single host, or empty. Its server must not run."""
    make_directory(os.path.dirname(path), 0o755)
    contents = path if os.path.exists(path) else SCHEMAS[which]
    new = f"{path}.cluster"
    remove_file(new)
    run(["ovsdb-tool", "create-cluster", new, contents, cluster.local(which)], timeout=TIMEOUT)
    with explained(path):
        os.replace(new, path)
        sync_directory(os.path.dirname(path))
    remove_file(os.path.join(os.path.dirname(path), f".{os.path.basename(new)}.~lock~"))


def join(path: str, which: str, cluster: Cluster) -> None:
    """Make a copy that is filled by the others. Its server must not run."""
    make_directory(os.path.dirname(path), 0o755)
    remove_file(path)
    known = cluster.known(which)
    words = [f"--cid={known}"] if known else []
    argv = ["ovsdb-tool", *words, "join-cluster", path, NAMES[which], cluster.local(which), *cluster.others(which)]
    run(argv, timeout=TIMEOUT)


def as_standalone(path: str, directory: str) -> str:
    """Return the path of a database with what a copy holds, which can be read without a server."""
    made = os.path.join(directory, "copy.db")
    run(["ovsdb-tool", "cluster-to-standalone", made, path], timeout=TIMEOUT)
    return made


def temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="nebula-ovn-")


def server_options(which: str, tls: Files) -> list[str]:
    """Return options for ovn-ctl. They are not in the database, where the server would look for them: a member that is
    to join has no database yet."""
    begin_with = f"--ovn-{_SHORT[which]}-db-ssl"
    return [
        f"{begin_with}-key={tls.private_key}",
        f"{begin_with}-cert={tls.certificate}",
        f"{begin_with}-ca-cert={tls.ca_certificate}",
    ]


def northd_options(northbound: str, tls: Files) -> list[str]:
    return [
        f"--ovn-northd-nb-db={northbound}",
        f"--ovn-northd-ssl-key={tls.private_key}",
        f"--ovn-northd-ssl-cert={tls.certificate}",
        f"--ovn-northd-ssl-ca-cert={tls.ca_certificate}",
    ]


def options_of(pid: int) -> dict[str, str]:
    """Return with which options a daemon was started, as far as they are ours to say."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return {}
    given = dict(word[2:].split("=", 1) for word in words if word.startswith("--") and "=" in word)
    names = {
        "private-key": "private_key",
        "certificate": "certificate",
        "ca-cert": "ca_certificate",
        "ovnnb-db": "northbound",
    }
    return {ours: given[theirs] for theirs, ours in names.items() if not given.get(theirs, "db:").startswith("db:")}


def no_leader_error(which: str, found: Status) -> NebulaError:
    return CommandFailed(
        f"OVN's {which} database as a member of its cluster",
        f"it follows no leader ({found.words})",
        "See that two of three members run, and reach each other at nebula_ovn_cluster_ports",
    )
