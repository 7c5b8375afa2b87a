# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the program on a node asks an agent for. The agent here runs commands and opens files of this machine;
test_guest_connection.py asks a guest's own."""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from ansible_collections.nebula.provision.plugins.plugin_utils.guest import ask_agent
from ansible_collections.nebula.provision.plugins.plugin_utils.guest.ask_agent import LIMIT, PIECE, Problem


class Here(ask_agent.Agent):
    """Its sizes are those of the longest message, and of the longest answer."""

    def __init__(self) -> None:
        self.handles: dict[int, BinaryIO] = {}
        self.ended: subprocess.CompletedProcess[bytes] = subprocess.CompletedProcess([], 0)
        self.sizes = [0, 0]
        self.full = False

    def ask(self, command: str, **arguments: Any) -> Any:
        answer = getattr(self, command.replace("-", "_"))(**arguments)
        self.sizes = [max(self.sizes[0], len(str(arguments))), max(self.sizes[1], len(str(answer)))]
        return answer

    def guest_exec(self, path: str, arg: list[str], **more: Any) -> Any:
        given = base64.b64decode(more.get("input-data", ""))
        self.ended = subprocess.run([path, *arg], input=given, capture_output=True)
        return {"pid": 1}

    def guest_exec_status(self, pid: int) -> Any:
        code = self.ended.returncode
        outputs = {"out-data": self.ended.stdout, "err-data": self.ended.stderr}
        ended = {"exitcode": code} if code >= 0 else {"signal": -code}
        # An agent leaves out what is empty.
        return {"exited": bool(pid)} | ended | {key: text(value) for key, value in outputs.items() if value}

    def guest_file_open(self, path: str, mode: str) -> int:
        try:
            self.handles[7] = Path(path).open(f"{mode}b")  # noqa: SIM115
        except OSError as error:
            raise Problem("failed", str(error)) from None
        return 7

    def guest_file_write(self, **asked: Any) -> Any:
        if self.full:
            raise Problem("failed", "No space left on device")
        # Less than all of it, as an agent may.
        return {"count": self.handles[asked["handle"]].write(base64.b64decode(asked["buf-b64"])[:40000])}

    def guest_file_read(self, handle: int, count: int) -> Any:
        data = self.handles[handle].read(min(count, 30000))
        return {"buf-b64": text(data), "eof": not data}

    def guest_file_seek(self, handle: int, offset: int, whence: int) -> None:
        self.handles[handle].seek(offset, whence)

    def guest_file_flush(self, handle: int) -> None:
        self.handles[handle].flush()

    def guest_file_close(self, handle: int) -> None:
        self.handles.pop(handle).close()


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return Here()


def run(agent: Here, program: str, given: bytes = b"") -> tuple[int, bytes, bytes]:
    ended = agent.run({"command": ["/bin/sh", "-c", program], "input": text(given)})
    return ended["rc"], base64.b64decode(ended["out"]), base64.b64decode(ended["err"])


@pytest.mark.parametrize(
    ("program", "ended"),
    [
        ("true", (0, b"", b"")),
        ("echo a; echo b >&2; exit 7", (7, b"a\n", b"b\n")),
        ("kill -KILL $$", (137, b"", b"Killed\n")),
        ("printf '\\0\\377'", (0, b"\0\xff", b"")),
        ("/nowhere/there", (127, b"", b"/bin/sh: 1: /nowhere/there: not found\n")),
        ('printf "%s" "$0 $#"', (0, b"/bin/sh 0", b"")),
    ],
)
def test_what_a_command_ends_with(here: Here, program: str, ended: tuple[int, bytes, bytes]) -> None:
    assert run(here, program) == ended


def test_a_command_has_a_home_directory(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    assert run(here, "echo ~; cd && pwd")[1].split() == [Path("~root").expanduser().__fspath__().encode()] * 2


@pytest.mark.parametrize("size", [0, 1, PIECE, PIECE + 1, 10 * PIECE])
def test_input_goes_in_pieces_and_leaves_no_file(here: Here, tmp_path: Path, size: int) -> None:
    given = os.urandom(size)
    assert run(here, "cat; exit 3", given) == (3, given, b"")
    assert list(tmp_path.iterdir()) == [] and here.sizes[0] < 2 * PIECE


def test_input_that_finds_no_room_leaves_no_file(here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here.full = True
    with pytest.raises(Problem) as caught:
        run(here, "cat", os.urandom(2 * PIECE))
    assert caught.value.found == "No space left on device" and list(tmp_path.iterdir()) == []
    monkeypatch.setenv("TMPDIR", "/nowhere/there")
    with pytest.raises(Problem) as caught:
        run(here, "cat", os.urandom(2 * PIECE))
    assert caught.value.problem == "failed" and "/nowhere/there" in caught.value.found


@pytest.mark.parametrize("to", ["", " >&2"])
def test_a_command_that_prints_too_much_is_ended(here: Here, to: str) -> None:
    assert run(here, f"head -c {LIMIT} /dev/zero{to}")[0] == 0
    with pytest.raises(Problem) as caught:
        run(here, f"cat /dev/zero{to}")
    # libvirt's limit for one answer.
    assert caught.value.problem == "truncated" and here.sizes[1] < 4 * 1024 * 1024


def test_files_go_in_pieces_both_ways(here: Here, tmp_path: Path) -> None:
    path, content = tmp_path / "a file", os.urandom(5 * PIECE + 1)
    assert here.write({"path": str(path), "data": text(content), "append": False}) == {}
    here.write({"path": str(path), "data": text(b"more"), "append": True})
    assert path.read_bytes() == content + b"more"
    answer = here.read({"path": str(path), "offset": 1, "count": 2 * PIECE})
    assert base64.b64decode(answer["data"]) == content[1 : 1 + 2 * PIECE] and not answer["end"]
    answer = here.read({"path": str(path), "offset": len(content), "count": PIECE})
    assert base64.b64decode(answer["data"]) == b"more" and answer["end"]
    assert here.handles == {}
    with pytest.raises(Problem):
        here.read({"path": "/nowhere/there", "offset": 0, "count": 1})


@pytest.mark.parametrize(
    "pieces",
    [
        [("", False)] * 4,
        [("x", False), ("", False)],
        [("x" * 101, False)],
        [(5, False)],
    ],
)
def test_an_agent_that_gives_nothing_or_too_much_is_not_asked_again(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pieces: list[tuple[Any, bool]]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    left = [*pieces]

    def piece(handle: int, count: int) -> Any:
        data, end = left.pop(0)
        return {"buf-b64": text(data.encode()) if isinstance(data, str) else data, "eof": end}

    monkeypatch.setattr(here, "guest_file_read", piece)
    with pytest.raises(Problem) as caught:
        here.read({"path": str(tmp_path / "file"), "offset": 0, "count": 100})
    assert caught.value.problem == "failed" and here.handles == {}


@pytest.mark.parametrize("count", [0, -4, 5, "4", None, True])
def test_an_agent_that_wrote_what_it_was_not_given_is_not_asked_again(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: Any
) -> None:
    asked = []

    def written(**given: Any) -> Any:
        asked.append(given)
        assert len(asked) < 10
        return {"count": count}

    monkeypatch.setattr(here, "guest_file_write", written)
    with pytest.raises(Problem) as caught:
        here.put(str(tmp_path / "file"), b"data", append=False)
    assert caught.value.problem == "failed" and here.handles == {}


@pytest.mark.parametrize(
    "state",
    [{}, {"exited": True, "exitcode": "0"}, {"exited": True, "out-data": 5}, {"exited": True, "exitcode": 1 << 80}],
)
def test_an_agent_that_says_nonsense_of_a_command_is_named(
    here: Here, monkeypatch: pytest.MonkeyPatch, state: dict[str, Any]
) -> None:
    monkeypatch.setattr(here, "guest_exec_status", lambda pid: state)
    with pytest.raises(Problem) as caught:
        run(here, "true")
    assert caught.value.problem == "failed"
