# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How files are exchanged with another host: the commands, what its keys must be, and what rsync's ends mean.

A program that notes its calls stands in for `rsync`; the exchange over a real sshd is shown by the integration tests.
"""

from __future__ import annotations

import os
import shlex
import shutil
import stat
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from stand_ins import Programs

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    CommandFailed,
    InvalidValue,
    MissingDependency,
    NebulaError,
    NoSpace,
    NotFound,
    StorageFailed,
    TimedOut,
)
from ansible_collections.nebula.provision.plugins.module_utils.host import rsync
from ansible_collections.nebula.provision.plugins.module_utils.host.rsync import Exchange, Peer

PEER = Peer("node1", "192.0.2.7", 2222, keys=("ssh-ed25519 AAAA1", "ssh-rsa AAAA2"))


class Rsync:
    """A program that notes each of its words on a line of its own, and says what it was told to."""

    def __init__(self, programs: Programs, directory: Path) -> None:
        self._programs, self._noted, self._ends = programs, directory / "words", directory / "ends"
        programs.answer("ssh", "")
        self.ends()

    def ends(self, code: int = 0, out: str = "", err: str = "", later: str = "") -> None:
        """later: what it says, with code 0, when it is called for the second time."""
        script = (
            f"echo again >>{self._ends}; printf '%s\\n' \"$@\" >>{self._noted}; printf '%s\\n' == >>{self._noted}; "
        )
        if later:
            script += f"[ $(wc -l <{self._ends}) -lt 2 ] || {{ printf %s {shlex.quote(later)}; exit 0; }}; "
        script += f"printf %s {shlex.quote(out)}; printf %s {shlex.quote(err)} >&2; exit {code}"
        self._programs.script("rsync", script)

    @property
    def calls(self) -> list[list[str]]:
        if not self._noted.exists():
            return []
        return [call.split("\n")[:-1] for call in self._noted.read_text().split("==\n")[:-1]]


@pytest.fixture
def program(programs: Programs, tmp_path: Path) -> Rsync:
    return Rsync(programs, tmp_path)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the key is."""
    (tmp_path / "ssh").mkdir()
    return tmp_path / "ssh"


# -- the key ----------------------------------------------------------------------------------------------------------
@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs openssh-client")
def test_a_key_is_made_once(tmp_path: Path) -> None:
    directory = tmp_path / "ssh"
    made = rsync.key(str(directory))
    assert made.startswith("ssh-ed25519 ") and made.endswith(" nebula.provision")
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / rsync.KEY).stat().st_mode) == 0o600
    private = (directory / rsync.KEY).read_bytes()
    assert rsync.key(str(directory)) == made
    # Of a pair whose public half was never written, nothing is kept.
    (directory / "id_ed25519.pub").unlink()
    assert rsync.key(str(directory)) != made
    assert (directory / rsync.KEY).read_bytes() != private


def test_without_ssh_keygen_its_package_is_named(programs: Programs, tmp_path: Path) -> None:
    with pytest.raises(MissingDependency, match="openssh-client"):
        rsync.key(str(tmp_path / "ssh"))


def test_a_public_key_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "id_ed25519.pub").symlink_to(tmp_path / "secret")
    with pytest.raises(NebulaError) as caught:
        rsync.key(str(tmp_path))
    assert "id_ed25519.pub" in caught.value.asked


# -- ssh --------------------------------------------------------------------------------------------------------------
def shell(call: list[str]) -> list[str]:
    (found,) = [word for word in call if word.startswith("--rsh=")]
    return shlex.split(found[len("--rsh=") :])


def test_ssh_takes_one_key_and_asks_nobody(program: Rsync, place: Path) -> None:
    Exchange(str(place), PEER).pull("datastores/1/x", "/tmp/x")
    words = shell(program.calls[0])
    assert words[0].endswith("/ssh") and words[1:3] == ["-F", "/dev/null"]
    assert words[words.index("-i") + 1] == str(place / "id_ed25519")
    assert words[words.index("-p") + 1] == "2222"
    options = {words[n + 1] for n, word in enumerate(words) if word == "-o"}
    assert {"BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=yes", "HostKeyAlias=node1"} <= options
    assert {f'UserKnownHostsFile="{place}/known_hosts.node1"', "GlobalKnownHostsFile=/dev/null"} <= options


def test_the_host_keys_are_written_before_the_first_connection(program: Rsync, place: Path) -> None:
    Exchange(str(place), PEER).pull("x", "/tmp/x")
    known = place / "known_hosts.node1"
    assert known.read_text() == "node1 ssh-ed25519 AAAA1\nnode1 ssh-rsa AAAA2\n"
    assert stat.S_IMODE(known.stat().st_mode) == 0o600
    # One that was told nothing now counts on what was told before.
    Exchange(str(place), replace(PEER, keys=())).pull("x", "/tmp/x")
    assert known.read_text().startswith("node1 ssh-ed25519 AAAA1\n")
    assert len(program.calls) == 2


def test_a_host_whose_keys_nobody_told_is_not_connected_to(program: Rsync, place: Path) -> None:
    with pytest.raises(InvalidValue) as caught:
        Exchange(str(place), replace(PEER, keys=())).push(__file__, "a/b")
    assert caught.value.asked == "host node1: exchanging files over ssh"
    assert caught.value.found == "its host keys are not known"
    assert "nebula.provision.node" in caught.value.remedy
    assert program.calls == []


def test_a_directory_with_blanks_and_quotes_reaches_ssh_in_one_word(program: Rsync, tmp_path: Path) -> None:
    directory = tmp_path / "a b'c"
    directory.mkdir()
    Exchange(str(directory), PEER).pull("x", "/tmp/x")
    words = shell(program.calls[0])
    assert words[words.index("-i") + 1] == str(directory / "id_ed25519")


# -- rsync ------------------------------------------------------------------------------------------------------------
COPYING = ["--times", "--sparse", "--partial", "--compress", "--compress-level=1", "--chmod=F600"]


def rest(call: list[str]) -> list[str]:
    assert call[0] == "--timeout=120"
    return call[2:]


def test_a_file_is_sent_under_the_name_that_it_is_to_have(program: Rsync, place: Path, tmp_path: Path) -> None:
    (tmp_path / "image").write_text("x")
    Exchange(str(place), PEER).push(str(tmp_path / "image"), "datastores/1/demo")
    *options, copied, link, there = rest(program.calls[0])
    assert (options, copied) == (COPYING, "--copy-links")
    assert os.path.basename(link) == "demo"
    assert there == "nebula@192.0.2.7:datastores/1/"
    # The directory with the link went with the exchange.
    assert os.listdir(place) == ["known_hosts.node1"]


def test_a_file_that_is_not_there_is_not_sent(program: Rsync, place: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        Exchange(str(place), PEER).push(str(tmp_path / "none"), "a/b")
    assert str(tmp_path / "none") in str(caught.value)
    assert program.calls == []


@pytest.mark.parametrize(
    ("peer", "there"),
    [
        (PEER, "nebula@192.0.2.7:a/b"),
        (replace(PEER, user="root"), "root@192.0.2.7:a/b"),
        (replace(PEER, address="2001:db8::7"), "nebula@[2001:db8::7]:a/b"),
        (replace(PEER, address="node1.example"), "nebula@node1.example:a/b"),
    ],
)
def test_a_file_is_fetched_from_where_the_host_is_reached(program: Rsync, place: Path, peer: Peer, there: str) -> None:
    Exchange(str(place), peer).pull("a/b", "/srv/b", 5)
    assert rest(program.calls[0]) == [*COPYING, there, "/srv/b"]


def test_a_file_goes_there_once_it_is_the_same_here(program: Rsync, place: Path) -> None:
    Exchange(str(place), PEER).release("a/b", "/srv/b")
    assert rest(program.calls[0]) == [*COPYING, "--remove-source-files", "nebula@192.0.2.7:a/b", "/srv/b"]


LISTING = """drwx------          4,096 2026/11/20 10:00:00 .
-rw-------  1,073,741,824 2026/11/20 10:00:00 demo
-rw-------             17 2026/11/20 10:00:00 other
"""


@pytest.mark.parametrize(("name", "found"), [("a/demo", True), ("a/dem", False), ("a/emo", False), ("a/1", False)])
def test_whether_a_file_is_there(program: Rsync, place: Path, name: str, found: bool) -> None:
    program.ends(out=LISTING)
    assert Exchange(str(place), PEER).has(name) is found
    assert rest(program.calls[0]) == ["--list-only", "--dirs", "nebula@192.0.2.7:a/"]


def test_a_directory_that_can_not_be_listed_is_an_error(program: Rsync, place: Path) -> None:
    program.ends(23, err='rsync: [sender] change_dir "/a" failed: No such file or directory (2)\n')
    with pytest.raises(CommandFailed, match=r"looking for a/b on host node1: .*No such file") as caught:
        Exchange(str(place), PEER).has("a/b")
    assert caught.value.remedy == "Run again: it goes on where it was"


# -- what its ends mean -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("code", "said", "kind", "found", "remedy"),
    [
        (
            11,
            (
                'rsync: [receiver] write failed on "/x": No space left on device (28)\n'
                "rsync error: error in file IO (code 11) at receiver.c(380) [receiver=3.2.7]\n"
            ),
            NoSpace,
            'rsync: [receiver] write failed on "/x": No space left on device (28)',
            "Make room there, then run again: it goes on where it was",
        ),
        (11, "rsync: mkstemp failed: Disk quota exceeded (122)\n", NoSpace, "Disk quota exceeded", "Make room there"),
        (
            255,
            "@@@@@@@@@@@@@@@@@\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.\n",
            StorageFailed,
            "192.0.2.7 port 2222 has other host keys than host node1 told",
            "nebula_transfer_address and nebula_transfer_port say where",
        ),
        (
            255,
            "nebula@192.0.2.7: Permission denied (publickey).\nrsync: connection unexpectedly closed\n",
            StorageFailed,
            "nebula@192.0.2.7: Permission denied (publickey).",
            "The front-end has to reach sshd at 192.0.2.7 port 2222 as nebula",
        ),
        (
            12,
            "ssh: connect to host 192.0.2.7 port 2222: Connection refused\nrsync error: unexplained error (code 255)\n",
            StorageFailed,
            "ssh: connect to host 192.0.2.7 port 2222: Connection refused",
            "AllowUsers",
        ),
        (12, "Connection closed by 192.0.2.7 port 2222\n", StorageFailed, "Connection closed by", "AllowUsers"),
        (12, "kex_exchange_identification: read: reset\n", StorageFailed, "kex_exchange", "AllowUsers"),
        (
            30,
            "rsync error: timeout in data send/receive (code 30) at io.c(201)\n",
            StorageFailed,
            "no byte came for 120 s",
            "Run again: it goes on where it was",
        ),
        *(
            (
                code,
                f"{word}\nrsync: connection unexpectedly closed (0 bytes received so far) [sender]\n",
                CommandFailed,
                word,
                "Run again: it goes on where it was",
            )
            for code in (12, 255)
            for word in (
                "client_loop: send disconnect: Broken pipe",
                "Timeout, server 192.0.2.7 not responding.",
                "Connection to 192.0.2.7 closed by remote host.",
                "ssh_dispatch_run_fatal: Connection to 192.0.2.7 port 2222: Broken pipe",
            )
        ),
        (
            12,
            "rsync: connection unexpectedly closed (9 bytes received so far) [receiver]\n",
            CommandFailed,
            "unexpectedly closed",
            "Run again: it goes on where it was",
        ),
        (12, "rsync: [sender] write error: Broken pipe (32)\n", CommandFailed, "(32)", "Run again"),
        (10, "rsync: read error: Connection reset by peer (104)\n", CommandFailed, "104", "it goes on where it was"),
        (23, "rsync: [sender] read errors mapping\n", CommandFailed, "read errors", "it goes on where it was"),
        (12, "Connection to 192.0.2.7 closed by remote host.\n", CommandFailed, "closed by remote", "it goes on"),
        (12, "rsync: protocol version mismatch\nrsync error: x\n\n", CommandFailed, "rsync: protocol version", ""),
        (5, "rsync error: error starting client-server protocol (code 5)\n", CommandFailed, "rsync ended with 5", ""),
    ],
)
def test_what_an_end_of_rsync_means(
    program: Rsync, place: Path, code: int, said: str, kind: type[NebulaError], found: str, remedy: str
) -> None:
    program.ends(code, err=said)
    with pytest.raises(NebulaError) as caught:
        Exchange(str(place), PEER).pull("a/b", "/srv/b")
    error = caught.value
    assert type(error) is kind
    assert error.asked == "copying a/b from host node1"
    assert found in error.found and "rsync error" not in error.found
    assert remedy in error.remedy and bool(remedy) == bool(error.remedy)


def test_the_last_lines_of_many_are_shown(program: Rsync, place: Path) -> None:
    program.ends(23, err="".join(f"rsync: line {number}\n\n" for number in range(9)))
    with pytest.raises(CommandFailed) as caught:
        Exchange(str(place), PEER).release("a/b", "/srv/b")
    assert caught.value.asked == "removing a/b on host node1"
    assert caught.value.found == "rsync: line 6; rsync: line 7; rsync: line 8"


# -- one exchange at a time -------------------------------------------------------------------------------------------
TAKEN = "Another instance of rrsync is already accessing this directory.\n"


class Clock:
    """A clock of the test's own, by which a pause takes no time at all."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    own = Clock()
    monkeypatch.setattr(rsync, "time", SimpleNamespace(monotonic=lambda: own.now, sleep=own.sleep))
    return own


def test_while_another_exchange_is_at_work_it_waits(program: Rsync, place: Path, clock: Clock) -> None:
    program.ends(1, err=TAKEN, later=LISTING)
    assert Exchange(str(place), PEER).has("a/demo")
    assert clock.pauses == [0.2]
    assert len(program.calls) == 2


def test_it_does_not_wait_for_ever(program: Rsync, place: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rsync, "TAKEN_SECONDS", 30)
    program.ends(1, err=TAKEN)
    with pytest.raises(TimedOut) as caught:
        Exchange(str(place), PEER).pull("a/b", "/srv/b")
    assert caught.value.found == "another exchange with it has been at work for 30 s"
    assert caught.value.remedy == "Let the other run end, then run again"
    # Its pauses grow, up to one of five seconds.
    assert clock.pauses == sorted(clock.pauses) and clock.pauses[-1] == 5.0
    assert 30 < sum(clock.pauses) <= 35


def test_one_that_takes_too_long_names_the_host(program: Rsync, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The seam is the start of programs: the limit of a real one is an hour and more."""
    limits = []

    def run(argv: list[str], *, timeout: float, check: bool, before: list[str]) -> None:
        limits.append(timeout)
        raise TimedOut("command rsync", "not done", "")

    monkeypatch.setattr(rsync, "run", run)
    with pytest.raises(TimedOut) as caught:
        Exchange(str(place), PEER).pull("a/b", "/srv/b", 7_200_000_000)
    assert caught.value.asked == "copying a/b from host node1"
    assert limits == [3600 + 7200]
