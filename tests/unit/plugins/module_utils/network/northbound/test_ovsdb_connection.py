# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to the database, with a library that stands in for python3-openvswitch; integration tests have the real one,
and a real database at its end."""

from __future__ import annotations

import errno
import json
from types import SimpleNamespace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import NetworkDatabaseError, TimedOut
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound import ovsdb_connection
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.ovsdb_connection import (
    ChangedMeanwhile,
    ConnectionLost,
    Database,
    Tls,
    whole_characters,
)

LEADER = {"model": "clustered", "connected": True, "leader": True}
FOLLOWER = {**LEADER, "leader": False}
ALONE = {**LEADER, "model": "standalone"}
WITHOUT = {**FOLLOWER, "connected": False}


class Server:
    """What each remote is, and what it answers to transactions."""

    def __init__(self):
        self.members = {}
        self.answers = []
        self.asked = []
        self.files = {}
        self.open = []
        self.silent = False
        self.talkative = False

    def open_stream(self, remote):
        if remote not in self.members:
            return errno.ECONNREFUSED, None
        return 0, SimpleNamespace(name=remote)

    def answer(self, remote, params):
        if params[0] == "_Server":
            rows = self.members[remote]
            return [{"rows": [rows.pop(0) if len(rows) > 1 else rows[0]] if rows else []}]
        self.asked.append((remote, params[1:]))
        return self.answers.pop(0)


class Connection:
    def __init__(self, stream):
        self.remote, self.server, self.pending = stream.name, SERVER[0], []
        self.server.open.append(self)

    def close(self):
        self.server.open.remove(self)

    def send(self, message):
        if message.type == "reply":
            self.server.asked.append((self.remote, "echo"))
            return 0
        if self.server.silent:
            return 0
        # Something else comes first: a question whether this client is alive, a reply to nobody, and nothing yet.
        self.pending = [
            (0, Message("request", "echo", [], None, None, "echo")),
            (0, Message("reply", None, None, [], None, "another")),
            (errno.EAGAIN, None),
            (0, Message("reply", None, None, self.server.answer(self.remote, message.params), None, message.id)),
        ]
        return 0

    def run(self):
        pass

    def recv(self):
        if self.server.talkative:
            return 0, Message("request", "echo", [], None, None, "echo")
        return self.pending.pop(0) if self.pending else (errno.EAGAIN, None)

    def wait(self, poller):
        pass

    recv_wait = wait


class Message:
    T_REQUEST = "request"

    def __init__(self, kind, method, params, result, error, number):
        self.type, self.method, self.params = kind, method, params
        self.result, self.error, self.id = result, error, number

    @staticmethod
    def create_reply(result, number):
        return Message("reply", None, None, result, None, number)


class Stream:
    def __init__(self, pieces):
        self.pieces = list(pieces)

    def recv(self, _size):
        return self.pieces.pop(0)


SERVER = [Server()]


@pytest.fixture
def server(monkeypatch):
    SERVER[0] = made = Server()
    opened = SimpleNamespace(
        is_valid_name=lambda name: name.split(":")[0] in ("unix", "tcp", "ssl"),
        open=made.open_stream,
        open_block=lambda result, _timeout: result,
        ssl_set_private_key_file=lambda path: made.files.update(key=path),
        ssl_set_certificate_file=lambda path: made.files.update(certificate=path),
        ssl_set_ca_cert_file=lambda path: made.files.update(ca=path),
    )
    poller = SimpleNamespace(timer_wait=lambda _ms: None, block=lambda: None)
    library = SimpleNamespace(
        stream=SimpleNamespace(Stream=opened),
        jsonrpc=SimpleNamespace(Connection=Connection, Message=Message, EOF=-1),
        poller=SimpleNamespace(Poller=lambda: poller),
    )
    monkeypatch.setattr(ovsdb_connection, "require", lambda name: library)
    return made


def test_one_read_is_one_transaction_of_all_tables(server):
    server.members["unix:a"] = [ALONE]
    server.answers = [[{"rows": [{"name": "blue"}]} for _table in range(len(ovsdb_connection.TABLES) + 1)]]
    with Database(["unix:a"]) as opened:
        found = opened.read()
    assert found["Logical_Switch"] == [{"name": "blue"}]
    questions = [each[1] for each in server.asked if each[1] != "echo"]
    assert len(questions) == 1
    assert {each["op"] for each in questions[0]} == {"select"}
    # Whether it is alive was answered meanwhile; nothing stays open.
    assert ("unix:a", "echo") in server.asked
    assert server.open == []


@pytest.mark.parametrize(
    ("members", "asked"),
    [
        ({"unix:a": [ALONE]}, "unix:a"),
        ({"unix:b": [LEADER]}, "unix:b"),
        ({"unix:a": [FOLLOWER], "unix:b": [LEADER]}, "unix:b"),
        ({"unix:a": [FOLLOWER]}, "unix:a"),
        # While a leader is chosen nobody is of use.
        ({"unix:a": [WITHOUT, WITHOUT, LEADER]}, "unix:a"),
        ({"unix:a": [WITHOUT, FOLLOWER], "unix:b": [WITHOUT, LEADER]}, "unix:b"),
    ],
)
def test_the_leader_of_a_cluster_is_asked_first(server, monkeypatch, members, asked):
    monkeypatch.setattr(ovsdb_connection, "_AGAIN_AFTER", 0.001)
    server.members, server.answers = members, [[{}]]
    with Database(["unix:a", "unix:b"]) as opened:
        opened.write([{"op": "comment"}])
    assert [each[0] for each in server.asked if each[1] != "echo"] == [asked]


@pytest.mark.parametrize(
    ("remotes", "members", "found"),
    [
        (["unix:a", "tcp:b:1"], {}, "unix:a: Connection refused; tcp:b:1: Connection refused"),
        (["http://a"], {}, "neither unix:PATH nor tcp:ADDRESS:PORT nor ssl:ADDRESS:PORT"),
        (["ssl:a:1"], {"ssl:a:1": [ALONE]}, "no key, certificate and CA were given"),
        (["unix:a"], {"unix:a": []}, "it has no database OVN_Northbound"),
        (["unix:a"], {"unix:a": [WITHOUT]}, "its cluster has no leader at the moment"),
    ],
)
def test_who_is_of_no_use_is_named_with_the_reason(server, remotes, members, found):
    server.members = members
    with pytest.raises(NetworkDatabaseError, match=found) as caught:
        Database(remotes, timeout=0.1).read()
    assert caught.value.remedy.startswith("Start ovn-central")
    assert server.open == []


def test_keys_are_given_to_the_library(server):
    server.members["ssl:a:1"], server.answers = [ALONE], [[{}]]
    with Database(["ssl:a:1"], Tls("/k", "/c", "/a")) as opened:
        opened.write([{"op": "comment"}])
    assert server.files == {"key": "/k", "certificate": "/c", "ca": "/a"}


def test_errors_of_tls_are_named(server, monkeypatch):
    server.members["ssl:a:1"] = [ALONE]

    def refused(_result, _timeout):
        raise OSError(1, "certificate verify failed")

    monkeypatch.setattr(ovsdb_connection.require("ovs").stream.Stream, "open_block", refused)
    with pytest.raises(NetworkDatabaseError, match="certificate verify failed"):
        Database(["ssl:a:1"], Tls("/k", "/c", "/a")).read()


@pytest.mark.parametrize(
    ("answers", "error", "found"),
    [
        ([{}, {"error": "timed out"}, None], ChangedMeanwhile, "^$"),
        (
            [{}, {"error": "constraint violation", "details": "two rows"}],
            NetworkDatabaseError,
            "insert ACL: constraint .*: two rows",
        ),
        ([{}, {}, {"error": "referential integrity violation"}], NetworkDatabaseError, r"commit: .*\(no details\)"),
    ],
)
def test_a_transaction_that_fails_has_its_reason(server, answers, error, found):
    server.members["unix:a"], server.answers = [ALONE], [answers]
    with Database(["unix:a"]) as opened, pytest.raises(error, match=found):
        opened.write([{"op": "wait", "table": "ACL"}, {"op": "insert", "table": "ACL"}])


@pytest.mark.parametrize("talkative", [False, True])
def test_one_that_does_not_answer_is_not_waited_for_for_ever(server, talkative):
    """It may say other things meanwhile."""
    server.members["unix:a"] = [ALONE]
    opened = Database(["unix:a"], timeout=0.05)
    server.answers = [[{}]]
    opened.write([])
    server.silent, server.talkative = True, talkative
    with pytest.raises(TimedOut, match=r"no answer within 0\.05 s"):
        opened.read()
    assert server.open == []


def test_one_that_ends_the_connection_is_asked_once_more_what_it_has(server, monkeypatch):
    server.members["unix:a"], server.answers = [ALONE], [[{}]]
    opened = Database(["unix:a"])
    opened.write([])
    recv, lost = Connection.recv, [(-1, None)]
    monkeypatch.setattr(Connection, "recv", lambda self: lost.pop() if lost else recv(self))
    everything = [{"rows": []} for _table in range(len(ovsdb_connection.TABLES) + 1)]
    server.answers = [everything, everything]
    assert opened.read()["ACL"] == []
    # Nobody knows whether it was written: that is not asked twice.
    lost.append((-1, None))
    server.answers = [[{}], [{}]]
    with pytest.raises(ConnectionLost, match="it ended the connection"):
        opened.write([])
    assert len(server.answers) == 1


@pytest.mark.parametrize(
    ("hosts", "column", "whom"), [(False, "sb_cfg", "ovn-northd"), (True, "hv_cfg", "ovn-controller")]
)
def test_what_was_written_is_waited_for(server, hosts, column, whom):
    server.members["unix:a"] = [ALONE]
    step = [{"count": 1}, {"rows": [{"nb_cfg": 5}]}]
    server.answers = [step, [{}], step, [{"error": "timed out"}], [{"count": 0}, {"rows": []}]]
    opened = Database(["unix:a"])
    opened.settle(hosts)
    condition = [each[1] for each in server.asked if each[1] != "echo"][1][0]
    assert condition["where"] == [[column, ">=", 5]]
    with pytest.raises(TimedOut, match=f"{whom} has not carried it out"):
        opened.settle(hosts)
    with pytest.raises(NetworkDatabaseError, match="no row in NB_Global"):
        opened.settle(hosts)


# --- characters -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("text", ["", "plain", "ä", "€", "😀", "aä€😀b"])
def test_pieces_end_between_characters(text):
    data = text.encode()
    for cut in range(len(data) + 1):
        end = whole_characters(data[:cut])
        assert data[:end].decode() == text[: len(data[:end].decode())]
        assert cut - end < 4


def test_a_stream_hands_on_whole_characters():
    text = json.dumps({"name": "ä€😀" * 5}, ensure_ascii=False)
    data = text.encode()
    pieces = [(0, data[index : index + 1]) for index in range(len(data))]
    stream = ovsdb_connection._WholeCharacters(Stream([*pieces, (errno.EAGAIN, b""), (0, b"")]))
    read = ""
    while True:
        error, piece = stream.recv(1)
        if error:
            break
        read += piece.decode()
    assert (read, error) == (text, errno.EAGAIN)
    assert stream.recv(1) == (0, b"")
