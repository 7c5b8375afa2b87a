# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads and writes OVN's northbound database, by Debian's python3-openvswitch: each in one transaction for all tables.

Of the ways in, this is the one that costs least and can compare and set: its 1,000 ports are written in a seventh
of what one transaction of ovn-nbctl takes, and read in as much time. ovsdbapp keeps a copy of the database first,
and neither of the two has `wait` operations. The library brings connections (Unix, TCP, TLS) and JSON-RPC."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ...dataclass import dataclass
from ...deps import require
from ...errors import NetworkDatabaseError, TimedOut
from .ovsdb_tables import DATABASE, TABLES, columns_read
from .row_differences import GLOBAL

LIBRARY = "ovs"
TIMEOUT = 30.0
# While the members of a cluster choose a leader they refuse everybody.
_AGAIN_AFTER = 0.2
_NOT_NOW = ("timed out",)
_NO_LEADER, _FOLLOWS = "its cluster has no leader at the moment", "it follows another member"


class ChangedMeanwhile(Exception):
    """Says that something is not as it was when it was read; nothing was written."""


class ConnectionLost(NetworkDatabaseError):
    """Says that the connection ended before the answer came: what was to be written is written, or it is not."""


@dataclass(frozen=True)
class Tls:
    """Holds paths of PEM files: the client's key and certificate, and the authorities' certificates."""

    private_key: str
    certificate: str
    ca_certificate: str


class Database:
    """Is one of OVN's databases. As a context manager, it closes the connection at the end.
    remotes: one or several, as unix:/run/ovn/ovnnb_db.sock, tcp:192.0.2.1:6641 or ssl:192.0.2.1:6641; for a cluster
    its members, of which the leader is asked
    name: the database's; another than the northbound database is only read"""

    def __init__(
        self, remotes: Sequence[str], tls: Tls | None = None, timeout: float = TIMEOUT, name: str = DATABASE
    ) -> None:
        self.remotes, self.tls, self.timeout, self.name = tuple(remotes), tls, timeout, name
        self._connection: Any = None
        self._number = 0

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_problem: object) -> None:
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # -- transactions -------------------------------------------------------------------------------------------------
    def read(self) -> dict[str, list[dict[str, Any]]]:
        """Return all rows of the tables that matter here, as they are at one moment, in OVSDB's JSON."""
        tables = {table: columns_read(table) for table in TABLES}
        return self.select({GLOBAL: ["_uuid", "external_ids", "options"], **tables})

    def select(self, asked: Mapping[str, Sequence[str]], where: Sequence[Any] = ()) -> dict[str, list[dict[str, Any]]]:
        """Return all rows of these tables with these columns, in the same way; with all columns, where none is named.
        where: conditions of OVSDB."""
        operations = [
            {"op": "select", "table": table, "where": [*where], **({"columns": list(columns)} if columns else {})}
            for table, columns in asked.items()
        ]
        try:
            answers = self._transact(self.name, operations)
        except ConnectionLost:
            # A cluster's leader ends with its node, and another one follows it.
            answers = self._transact(self.name, operations)
        return {table: answer["rows"] for table, answer in zip(asked, answers)}

    def write(self, operations: Sequence[Mapping[str, Any]]) -> None:
        """Carry out all operations, or none. Raise ChangedMeanwhile if a `wait` operation does not find what it names,
        and ConnectionLost if nobody knows whether they were carried out."""
        self._transact(DATABASE, operations)

    def settle(self, hosts: bool = False) -> None:
        """Return when the southbound database has what was written; with hosts, when all hosts have it."""
        reached = "hv_cfg" if hosts else "sb_cfg"
        step: dict[str, Any] = {"op": "mutate", "table": GLOBAL, "where": [], "mutations": [["nb_cfg", "+=", 1]]}
        read: dict[str, Any] = {"op": "select", "table": GLOBAL, "where": [], "columns": ["nb_cfg"]}
        rows = self._transact(DATABASE, [step, read])[1]["rows"]
        if not rows:
            raise NetworkDatabaseError(self._named(), "it has no row in NB_Global", "Start ovn-northd on it")
        where, until = [[reached, ">=", rows[0]["nb_cfg"]]], {"columns": ["_uuid"], "until": "!=", "rows": []}
        condition = {"op": "wait", "table": GLOBAL, "where": where, **until, "timeout": int(self.timeout * 1000)}
        try:
            self._transact(DATABASE, [condition], self.timeout + _AGAIN_AFTER)
        except ChangedMeanwhile:
            whom = "a host's ovn-controller" if hosts else "ovn-northd"
            raise TimedOut(
                f"{self._named()}: what was written",
                f"{whom} has not carried it out after {self.timeout:g} s",
                f"Look whether {whom} runs, and at its log",
            ) from None

    def _transact(
        self, name: str, operations: Sequence[Mapping[str, Any]], timeout: float | None = None
    ) -> list[dict[str, Any]]:
        if self._connection is None:
            self._connect()
        answers = self._ask(name, operations, time.monotonic() + (timeout or self.timeout))
        for number, answer in enumerate(answers):
            # An operation after one that failed has no answer; one more than there are operations is of the commit.
            if not answer or "error" not in answer:
                continue
            if answer["error"] in _NOT_NOW:
                raise ChangedMeanwhile
            operation = operations[number] if number < len(operations) else {}
            what = f"{operation.get('op', 'commit')} {operation.get('table', '')}".strip()
            raise NetworkDatabaseError(
                f"{self._named()}: {what}",
                f"{answer['error']}: {answer.get('details', '(no details)')}",
                "Nothing was written",
            )
        return answers

    # -- the connection -----------------------------------------------------------------------------------------------
    def _connect(self) -> None:
        """Connect with the first remote that answers and does not follow another."""
        ovs = require(LIBRARY)
        if self.tls is not None:
            ovs.stream.Stream.ssl_set_private_key_file(self.tls.private_key)
            ovs.stream.Stream.ssl_set_certificate_file(self.tls.certificate)
            ovs.stream.Stream.ssl_set_ca_cert_file(self.tls.ca_certificate)
        deadline = time.monotonic() + self.timeout
        while True:
            found: dict[str, str] = {}
            for remote in self.remotes:
                found[remote] = self._try_remote(ovs, remote, deadline)
                if not found[remote]:
                    return
                self.close()
            # A member that follows passes on what is written. What it has may be older, which `wait` finds out.
            following = next((remote for remote, problem in found.items() if problem == _FOLLOWS), None)
            if following is not None and self._try_remote(ovs, following, deadline) == _FOLLOWS:
                return
            self.close()
            # One that is not there will not be there soon; one that has no leader yet will.
            if time.monotonic() + _AGAIN_AFTER > deadline or not {_FOLLOWS, _NO_LEADER} & set(found.values()):
                break
            time.sleep(_AGAIN_AFTER)
        raise NetworkDatabaseError(
            self._named(),
            "; ".join(f"{remote}: {problem}" for remote, problem in found.items()),
            "Start ovn-central there, or name where it is; for ssl: give key, certificate and CA",
        )

    def _try_remote(self, ovs: Any, remote: str, deadline: float) -> str:
        """Connect with a remote. Return why the connection is of no use, "" if it is of use."""
        if not ovs.stream.Stream.is_valid_name(remote):
            return "neither unix:PATH nor tcp:ADDRESS:PORT nor ssl:ADDRESS:PORT"
        if remote.startswith("ssl:") and self.tls is None:
            return "no key, certificate and CA were given"
        left = max(0, int((deadline - time.monotonic()) * 1000))
        try:
            error, stream = ovs.stream.Stream.open_block(ovs.stream.Stream.open(remote), left)
        except OSError as problem:
            # TLS's errors are of this kind, too: a file that can't be read, a certificate that is not accepted.
            return f"{problem.strerror or problem}"
        except ValueError:
            return "it names no address and port, as in tcp:192.0.2.1:6641 or ssl:[2001:db8::1]:6641"
        if error:
            return os.strerror(error)
        self._connection = ovs.jsonrpc.Connection(_WholeCharacters(stream))
        question = {
            "op": "select",
            "table": "Database",
            "where": [["name", "==", self.name]],
            "columns": ["model", "connected", "leader"],
        }
        try:
            rows = self._ask("_Server", [question], deadline)[0]["rows"]
        except (NetworkDatabaseError, TimedOut) as problem:
            return problem.found
        if not rows:
            return f"it has no database {self.name}"
        if not rows[0]["connected"]:
            return _NO_LEADER
        return "" if rows[0]["model"] != "clustered" or rows[0]["leader"] else _FOLLOWS

    def _ask(self, name: str, operations: Sequence[Mapping[str, Any]], deadline: float) -> list[dict[str, Any]]:
        ovs = require(LIBRARY)
        connection = self._connection
        self._number += 1
        request = ovs.jsonrpc.Message(
            ovs.jsonrpc.Message.T_REQUEST, "transact", [name, *operations], None, None, self._number
        )
        error, reply = connection.send(request), None
        while not error:
            connection.run()
            error, reply = connection.recv()
            # Also where it says other things all the time; an answer that is there is taken, however late.
            if time.monotonic() > deadline and (reply is None or reply.id != self._number):
                self.close()
                raise TimedOut(self._named(), f"no answer within {self.timeout:g} s", "Look at ovsdb-server's log")
            if error == errno.EAGAIN:
                error = 0
                poller = ovs.poller.Poller()
                connection.wait(poller)
                connection.recv_wait(poller)
                poller.timer_wait(max(1, int((deadline - time.monotonic()) * 1000)))
                poller.block()
            elif reply is not None and reply.type == ovs.jsonrpc.Message.T_REQUEST and reply.method == "echo":
                connection.send(ovs.jsonrpc.Message.create_reply(reply.params, reply.id))
            elif reply is not None and reply.id == self._number:
                break
        if error or reply is None:
            self.close()
            text = "it ended the connection" if error == ovs.jsonrpc.EOF else os.strerror(error)
            raise ConnectionLost(self._named(), text, "Run it again; if that stays so, look at ovsdb-server's log")
        if reply.error is not None:
            raise NetworkDatabaseError(self._named(), str(reply.error), "Nothing was written")
        answers: list[dict[str, Any]] = reply.result
        return answers

    def _named(self) -> str:
        which = "northbound" if self.name == DATABASE else "southbound"
        return f"OVN's {which} database at {', '.join(self.remotes)}"


class _WholeCharacters:
    """Is a stream whose pieces end between characters: the library decodes each piece by itself."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._rest = stream, b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def recv(self, size: int) -> tuple[int, bytes]:
        while True:
            error, data = self._stream.recv(size)
            if error or not data:
                return error, data
            data = self._rest + data
            end = whole_characters(data)
            data, self._rest = data[:end], data[end:]
            if data:
                return 0, data


def whole_characters(data: bytes) -> int:
    """Return how many of the bytes are whole characters of UTF-8."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte < 0x80:
            break
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(data) - back if back < length else len(data)
    return len(data)
