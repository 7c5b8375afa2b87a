# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the connection asks a node for. test_guest_connection.py has a real node and a real guest."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible import constants
from ansible.errors import AnsibleConnectionFailure, AnsibleError, AnsibleFileNotFound
from ansible.playbook.play_context import PlayContext

from ansible_collections.nebula.provision.plugins.connection import guest
from ansible_collections.nebula.provision.plugins.module_utils.model import defaults
from ansible_collections.nebula.provision.plugins.plugin_utils.guest import ask_agent

MACHINE = {"id": 3, "host": "kvm1", "catalog": "c"}
NODE = {"ansible_host": "192.0.2.1"}


class Answering:
    """In the node's place."""

    asked: list[Mapping[str, Any]]
    answers: list[Mapping[str, Any]]

    def __init__(self, name: str, variables: Mapping[str, Any]) -> None:
        assert (name, variables) == ("kvm1", NODE)

    def answer(self, program: object, request: Mapping[str, Any]) -> Mapping[str, Any]:
        assert program is ask_agent
        self.asked.append(request)
        return self.answers.pop(0)

    def close(self) -> None: ...


def connection(monkeypatch: pytest.MonkeyPatch, *answers: Mapping[str, Any], **variables: Any) -> guest.Connection:
    monkeypatch.setattr(guest, "NodeShell", Answering)
    Answering.asked, Answering.answers = [], list(answers)
    options = yaml.safe_load(guest.DOCUMENTATION)["options"]
    constants.config.initialize_plugin_configuration_definitions("connection", "guest", options)
    found = guest.Connection(PlayContext(), None)
    found._load_name, found._original_path = "guest", guest.__file__
    found.set_options(var_options={"nebula_machine": MACHINE, "nebula_guest_node": NODE, **variables})
    return found


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    found = connection(monkeypatch, {"rc": 3, "out": coded(b"o"), "err": coded(b"e")})
    assert found.exec_command("id", in_data=b"given") == (3, b"o", b"e")
    (asked,) = Answering.asked
    assert (asked["domain"], asked["catalog"], asked["command"]) == ("one-3", "c", ["/bin/sh", "-c", "id"])
    assert base64.b64decode(asked["input"]) == b"given"


def test_an_agent_is_root_whoever_logs_in_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a task that becomes this user would stay root."""
    assert connection(monkeypatch, ansible_user="debian").get_option("remote_user") == "root"
    found = connection(monkeypatch, ansible_user="debian", nebula_guest_way="console")
    assert found.get_option("remote_user") == "debian"


@pytest.mark.parametrize("size", [0, 3, 4, 9])
def test_files_go_in_pieces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, size: int) -> None:
    monkeypatch.setattr(guest, "PIECE", 4)
    path, content = tmp_path / "file", bytes(range(size))
    path.write_bytes(content)
    connection(monkeypatch, {}, {}, {}, {}).put_file(str(path), "/there")
    assert b"".join(base64.b64decode(asked["data"]) for asked in Answering.asked) == content
    # The first one begins the file anew.
    assert [asked["append"] for asked in Answering.asked] == [False, True, True][: max(1, -(-size // 4))]
    pieces = [content[place : place + 4] for place in range(0, size, 4)]
    answers = [{"data": coded(piece), "end": False} for piece in pieces] + [{"data": "", "end": True}]
    connection(monkeypatch, *answers).fetch_file("/there", str(path))
    assert path.read_bytes() == content


def test_what_fails_in_the_guest_is_the_tasks_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(AnsibleFileNotFound):
        connection(monkeypatch).put_file(str(tmp_path / "none"), "/there")
    with pytest.raises(AnsibleError, match="Reading /there of guest one-3 on node kvm1: it failed") as caught:
        connection(monkeypatch, {"problem": "failed", "found": "no"}).fetch_file("/there", str(tmp_path / "x"))
    assert not isinstance(caught.value, AnsibleConnectionFailure)
    with pytest.raises(AnsibleConnectionFailure, match="the machine does not run"):
        connection(monkeypatch, {"problem": "off", "found": ""}).exec_command("id")


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"nebula_guest_node": {}}, "variable nebula_guest_node is empty"),
        ({"nebula_machine": {"id": 0}}, "has no host"),
        ({"nebula_machine": {"host": "kvm1"}}, "has no id"),
        ({"nebula_machine": {}}, "variable nebula_machine is not set.*nebula_machine: {id: 7, host: NODE}"),
    ],
)
def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, variables: dict[str, Any], words: str) -> None:
    with pytest.raises(AnsibleConnectionFailure, match=words):
        connection(monkeypatch, **variables).exec_command("id")


def endless(piece: bytes) -> Iterator[Mapping[str, Any]]:
    while True:
        yield {"data": coded(piece), "end": False}


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (endless(b"abcd"), "more than 1 MiB.*nebula_guest_max_fetch"),
        (endless(b""), "gave nothing, and did not say that the file has ended"),
        (endless(b"abcde"), "5 bytes, and 4 were asked for"),
    ],
)
def test_a_guest_does_not_fill_the_control_node(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answers: Iterator[Mapping[str, Any]], words: str
) -> None:
    monkeypatch.setattr(guest, "PIECE", 4)
    monkeypatch.setattr(guest, "MIB", 8)
    found = connection(monkeypatch, nebula_guest_max_fetch=1)
    monkeypatch.setattr(Answering, "answer", lambda *_asked: next(answers))
    with pytest.raises(AnsibleError, match=f"Reading /there of guest one-3 on node kvm1: .*{words}") as caught:
        found.fetch_file("/there", str(tmp_path / "here"))
    assert not isinstance(caught.value, AnsibleConnectionFailure)
    # Nothing is left of it.
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_the_largest_size_is_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(guest, "PIECE", 4)
    monkeypatch.setattr(guest, "MIB", 8)
    answers = [
        {"data": coded(b"abcd"), "end": False},
        {"data": coded(b"efgh"), "end": False},
        {"data": "", "end": True},
    ]
    connection(monkeypatch, *answers, nebula_guest_max_fetch=1).fetch_file("/there", str(tmp_path / "here"))
    assert (tmp_path / "here").read_bytes() == b"abcdefgh"
    assert connection(monkeypatch).get_option("max_fetch") == defaults.GUEST_MAX_FETCH
