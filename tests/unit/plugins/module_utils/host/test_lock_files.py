# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject, TimedOut
from ansible_collections.nebula.provision.plugins.module_utils.host import files, lock_files

as_root = pytest.mark.root
# Holds what it may open; with "orphan" by a child whose parent, which took the lock, is gone.
STRANGER = """
import fcntl, os, sys
if sys.argv[1] == "stranger":
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
held = []
for path in sys.argv[3:]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except PermissionError:
        continue
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    held.append(fd)
if sys.argv[2] == "orphan" and os.fork():
    os._exit(0)
print(len(held), flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def held_by(who, how, *paths):
    """The number of those paths that it could lock."""
    program = [sys.executable, "-c", STRANGER, who, how, *map(str, paths)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        yield int(holder.stdout.readline())
        holder.stdin.close()


def refused(path, match=None, timeout=0.0, shared=False):
    with pytest.raises(TimedOut, match=match), files.lock(str(path), timeout, shared):
        pass


@pytest.fixture
def place():
    """A directory that everybody may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@as_root
@pytest.mark.parametrize("how", ["itself", "orphan"])
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_another_user_keeps_nobody_waiting(place, kind, how):
    path = place / "thing"
    path.touch(0o644) if kind == "file" else path.mkdir(0o755)
    with held_by("stranger", how, path) as count:
        assert count == 1
        with files.lock(str(path), timeout=0):
            # And our own runs are apart all the same.
            refused(path, match=rf"process {os.getpid()} ")
            refused(path, shared=True)
        with files.lock(str(path), 0, shared=True), files.lock(str(path), 0, shared=True):
            refused(path)
        if kind == "file":
            fd = os.open(path, os.O_RDONLY)
            with files.shared(fd, str(path)), files.shared(fd, str(path)):
                refused(path)
            os.close(fd)
    assert not os.path.exists(lock_files.file_of(str(path)))


@as_root
def test_a_run_of_a_version_before_is_waited_for(place):
    """It locks the thing itself, and knows no other file."""
    (place / "thing").mkdir(0o755)
    with held_by("root", "itself", place / "thing"):
        refused(place / "thing", match=r"held it for over 0\.1 s: process \d+ \(python", timeout=0.1)


@as_root
def test_what_another_user_is_told_of_lock_files(place):
    path = str(place / "thing")
    with files.lock(path):
        name = lock_files.file_of(path)
        assert stat.S_IMODE(os.stat(name).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(lock_files.PLACE).st_mode) == 0o700
        with held_by("stranger", "itself", name, lock_files.PLACE) as count:
            assert count == 0


@as_root
def test_one_lock_by_whatever_path(place):
    (place / "thing").mkdir()
    (place / "link").symlink_to("thing")
    with files.lock(f"{place}/thing/"):
        for other in (f"{place}/thing", f"{place}/link", f"{place}/./thing/"):
            assert lock_files.file_of(other) == lock_files.file_of(f"{place}/thing/")
            refused(other)
    # What differs only in signs that no file name has, or is too long for one.
    assert len({lock_files.file_of(path) for path in ("/a/b", "/a_b", "/a%b", "/" + "a" * 300, "/b" + "a" * 300)}) == 5
    assert max(len(os.path.basename(lock_files.file_of("/" + "é" * 300))), 0) < 256


@as_root
def test_many_at_once_are_one_at_a_time_and_leave_nothing(place, monkeypatch):
    monkeypatch.setattr(lock_files, "PLACE", str(place / "locks"))
    path, inside, most = str(place / "thing"), [], []

    def work():
        for _ in range(30):
            with files.lock(path, timeout=30):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (max(most), len(most)) == (1, 180)
    assert not os.path.exists(place / "locks")


@as_root
@pytest.mark.parametrize("what", ["file", "link", "given"])
def test_something_else_in_the_place_of_lock_files(place, monkeypatch, what):
    monkeypatch.setattr(lock_files, "PLACE", str(place / "locks"))
    if what == "file":
        (place / "locks").touch()
    elif what == "link":
        (place / "locks").symlink_to(place)
    else:
        (place / "locks").mkdir()
        os.chown(place / "locks", 65534, 65534)
    with pytest.raises(ForeignObject, match="did not make"), files.lock(str(place / "thing")):
        pass


@as_root
def test_a_wider_mode_of_their_place_is_taken_back(place, monkeypatch):
    monkeypatch.setattr(lock_files, "PLACE", str(place / "locks"))
    (place / "locks").mkdir(0o755)
    with files.lock(str(place / "thing")):
        assert stat.S_IMODE((place / "locks").stat().st_mode) == 0o700


def test_another_user_than_root_has_none(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(lock_files, "PLACE", str(tmp_path / "locks"))
    with files.lock(str(tmp_path / "thing")):
        refused(tmp_path / "thing")
    assert os.listdir(tmp_path) == ["thing"]


def test_who_holds_a_lock(tmp_path, monkeypatch):
    path = tmp_path / "thing"
    path.touch()
    with path.open() as file, path.open() as other:
        assert lock_files.holders(file.fileno()) == ()
        assert lock_files.take(file.fileno(), shared=True) and lock_files.take(other.fileno(), shared=True)
        assert lock_files.holders(file.fileno()) == (os.getpid(),)
        found = os.fstat(file.fileno())
        lines = (
            f"1: POSIX  ADVISORY  WRITE 11 00:01:{found.st_ino} 0 EOF\n"
            f"2: FLOCK  ADVISORY  WRITE 12 00:01:{found.st_ino} 0 EOF\n"
            f"2: -> FLOCK  ADVISORY  WRITE 13 00:01:{found.st_ino} 0 EOF\n"
            f"3: FLOCK  ADVISORY  READ  14 00:01:{found.st_ino + 1} 0 EOF\n"
            "4: FLOCK\n"
        )
        (tmp_path / "locks").write_text(lines)
        monkeypatch.setattr(lock_files, "LOCKS", str(tmp_path / "locks"))
        # A file system whose numbers are others there.
        assert lock_files.holders(file.fileno()) == (12,)
        exact = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
        (tmp_path / "locks").write_text(lines + f"5: FLOCK  ADVISORY  READ 15 {exact} 0 EOF\n")
        assert lock_files.holders(file.fileno()) == (15,)
        monkeypatch.setattr(lock_files, "LOCKS", str(tmp_path / "none"))
        assert lock_files.holders(file.fileno()) == ()


def test_processes_that_are_trusted():
    assert lock_files.is_trusted(os.getpid()) and lock_files.is_trusted(1)
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert not lock_files.is_trusted(ended.pid)
    assert lock_files.process_text(ended.pid) == f"process {ended.pid}"
    assert lock_files.process_text(os.getpid()).startswith(f"process {os.getpid()} (")


@as_root
def test_a_set_uid_program_of_another_user_is_not_trusted():
    program = "import os, sys; os.setresuid(65534, 0, 0); print(1, flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "1\n"
        assert not lock_files.is_trusted(process.pid)
        process.stdin.close()


def test_waiting_has_an_end(monkeypatch):
    waiting, began = lock_files.Waiting("/x", 0.05), time.monotonic()
    with pytest.raises(TimedOut, match=r"lock of /x: another run has held it for over 0\.05 s\. Wait"):
        while True:
            waiting.pause(())
    assert time.monotonic() - began >= 0.05
    with pytest.raises(TimedOut, match="another run holds it: process 1 "):
        lock_files.Waiting("/x", 0).pause((1,))
