# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real processes of root, of others, and of containers, with the same arguments."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.host import processes

NOBODY = 65534
# It says that it runs, and ends with its input.
WAITS = "import sys; print('runs', flush=True); sys.stdin.read()"


@contextlib.contextmanager
def running(*argv: str, user: int | None = None, executable: str | None = None) -> Iterator[None]:
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, user=user, executable=executable, cwd="/"
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == b"runs\n"
        yield
        process.stdin.close()


def found(mark: str) -> list[list[bytes]]:
    return [words for _pid, words in processes.of_root(lambda words: mark.encode() in words)]


@pytest.fixture
def mark() -> str:
    return uuid.uuid4().hex


@pytest.mark.root
def test_one_of_roots_is_found_by_its_arguments(mark: str) -> None:
    assert found(mark) == []
    with running("/usr/bin/python3", "-I", "-c", WAITS, mark):
        assert found(mark) == [[b"/usr/bin/python3", b"-I", b"-c", WAITS.encode(), mark.encode()]]
    assert found(mark) == []


@pytest.mark.root
def test_anothers_with_the_same_arguments_is_not(mark: str) -> None:
    with running("/usr/bin/python3", "-I", "-c", WAITS, mark, user=NOBODY):
        assert found(mark) == []


@pytest.mark.root
@pytest.mark.parametrize("spaces", [["--pid"], ["--user", "--map-root-user"]])
def test_one_of_a_containers_root_is_not(mark: str, spaces: list[str]) -> None:
    with running("unshare", *spaces, "--fork", "/usr/bin/python3", "-I", "-c", WAITS, mark):
        # unshare itself is root's.
        assert [words for words in found(mark) if words[0] != b"unshare"] == []


@pytest.mark.root
def test_a_set_uid_program_is_whose_who_started_it(mark: str, tmp_path: Path) -> None:
    program = shutil.copy(os.path.realpath(sys.executable), tmp_path / "program")
    os.chmod(program, 0o4755)
    with running("/usr/bin/python3", "-I", "-c", WAITS, mark, executable=str(program)):
        assert found(mark) == []


@pytest.mark.root
def test_a_number_is_not_enough(mark: str) -> None:
    with running("/usr/bin/python3", "-I", "-c", WAITS, mark):
        (pid,) = (pid for pid, _words in processes.of_root(lambda words: mark.encode() in words))
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        assert processes.is_of_root(pid) and processes.is_of_root(pid, name) and not processes.is_of_root(pid, "other")
    assert not processes.is_of_root(pid) and processes.arguments(pid) == []


@pytest.mark.root
def test_a_number_is_not_enough_across_time(mark: str, tmp_path: Path) -> None:
    """What got it later began later, and has not open what it had."""
    log = tmp_path / "log"
    with log.open("w") as file, subprocess.Popen(["sleep", "60"], stdout=file) as process:
        began = processes.start_time(process.pid)
        assert began is not None
        assert processes.is_of_root(process.pid, began=began) and not processes.is_of_root(process.pid, began=began + 1)
        assert processes.writes_to(process.pid, log.stat())
        log.rename(tmp_path / "older")
        log.touch()
        assert not processes.writes_to(process.pid, log.stat())
        process.kill()
    assert not processes.is_of_root(process.pid, began=began) and not processes.writes_to(process.pid, log.stat())


def test_start_times_tell_processes_apart() -> None:
    own = processes.start_time(os.getpid())
    assert own is not None
    assert own > 0
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    # It has ended, though nobody has asked how.
    assert processes.start_time(child) is None
    os.waitpid(child, 0)
    assert processes.start_time(child) is None
