# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    InvalidValue,
    NebulaError,
    NoSpace,
    NotFound,
    TimedOut,
)
from ansible_collections.nebula.provision.plugins.module_utils.host import files, lock_files


def mode(path) -> int:
    return os.stat(path).st_mode & 0o7777


def test_write_then_unchanged_then_changed(tmp_path):
    path = tmp_path / "f"
    assert files.write_atomically(str(path), "one\n", mode=0o640) is True
    before = path.stat()
    assert files.write_atomically(str(path), b"one\n", mode=0o640) is False
    assert path.stat().st_ino == before.st_ino
    assert files.write_atomically(str(path), "two\n", mode=0o640) is True
    assert (path.read_text(), mode(path)) == ("two\n", 0o640)
    assert os.listdir(tmp_path) == ["f"]


def test_many_files_are_written_like_one(tmp_path):
    files.write_all(str(tmp_path), {"same": "1", "other": "2", "mode": "3"})
    (tmp_path / "mode").chmod(0o644)
    (tmp_path / "strange").write_text("kept")
    same, other = ((tmp_path / name).stat().st_ino for name in ("same", "other"))
    files.write_all(str(tmp_path), {"same": "1", "other": "4", "mode": "3", "new": "5"})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "same": "1",
        "other": "4",
        "mode": "3",
        "new": "5",
        "strange": "kept",
    }
    assert (tmp_path / "same").stat().st_ino == same
    assert (tmp_path / "other").stat().st_ino != other
    assert {mode(tmp_path / name) for name in ("same", "other", "mode", "new")} == {0o600}


def test_many_files_are_on_the_disk_before_one_has_its_name(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("old")
    settled = []

    def full(path):
        settled.append(path)
        if len(settled) == 3:
            raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(files, "settle", full)
    with pytest.raises(NoSpace, match=str(tmp_path)):
        files.write_all(str(tmp_path), {"a": "1", "b": "2", "c": "3"})
    assert (os.listdir(tmp_path), (tmp_path / "a").read_text()) == (["a"], "old")
    monkeypatch.undo()
    order = []
    really_settle, really_rename, really_sync = files.settle, os.rename, files.sync_directory
    monkeypatch.setattr(files, "settle", lambda path: (order.append("file"), really_settle(path)))
    monkeypatch.setattr(os, "rename", lambda old, new: (order.append("name"), really_rename(old, new)))
    monkeypatch.setattr(files, "sync_directory", lambda path: (order.append("directory"), really_sync(path)))
    files.write_all(str(tmp_path), {"a": "1", "b": "2", "c": "3"})
    assert order == ["file"] * 3 + ["name"] * 3 + ["directory"]
    files.write_all(str(tmp_path), {"a": "1"})
    assert len(order) == 7


def test_a_relative_path_is_refused():
    files.require_absolute("/srv/x", "directory '/srv/x'")
    with pytest.raises(InvalidValue, match=r"directory 'x': the path is not absolute\. Give the full path"):
        files.require_absolute("x", "directory 'x'")


def test_only_the_mode_differs(tmp_path):
    path = tmp_path / "f"
    files.write_atomically(str(path), "x", mode=0o600)
    inode = path.stat().st_ino
    assert files.write_atomically(str(path), "x", mode=0o644) is True
    assert (path.stat().st_ino, mode(path)) == (inode, 0o644)


def test_a_writer_function_is_compared_too(tmp_path):
    path = tmp_path / "f"
    assert files.write_atomically(str(path), lambda f: f.write(b"abc")) is True
    assert files.write_atomically(str(path), lambda f: f.write(b"abc")) is False
    assert files.write_atomically(str(path), lambda f: f.write(b"abd")) is True
    assert path.read_bytes() == b"abd"


def test_a_failing_writer_leaves_the_old_file_and_no_rubbish(tmp_path):
    path = tmp_path / "f"
    path.write_text("old")

    def broken(file):
        file.write(b"half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        files.write_atomically(str(path), broken)
    assert (path.read_text(), os.listdir(tmp_path)) == ("old", ["f"])


def test_a_link_is_replaced_and_not_written_through(tmp_path):
    target = tmp_path / "target"
    target.write_text("safe")
    link = tmp_path / "link"
    link.symlink_to(target)
    files.write_atomically(str(link), "new")
    assert (target.read_text(), link.read_text(), link.is_symlink()) == ("safe", "new", False)


def test_missing_directory_is_named(tmp_path):
    with pytest.raises(NotFound, match="nowhere"):
        files.write_atomically(str(tmp_path / "nowhere" / "f"), "x")


def test_full_file_system():
    with pytest.raises(NoSpace), files.explained("/dev/full"), Path("/dev/full").open("wb", buffering=0) as full:
        full.write(b"x")


def test_unknown_owner(tmp_path):
    with pytest.raises(NotFound, match="user nosuchuser"):
        files.write_atomically(str(tmp_path / "f"), "x", owner="nosuchuser")


def test_directories_with_their_parents(tmp_path):
    path = tmp_path / "a" / "b"
    assert files.make_directory(str(path), 0o711) is True
    assert (mode(path), mode(path.parent)) == (0o711, 0o711)
    assert files.make_directory(str(path), 0o711) is False
    assert files.make_directory(str(path), 0o700) is True
    assert (mode(path), mode(path.parent)) == (0o700, 0o711)


def test_directory_in_the_way_of_a_file(tmp_path):
    (tmp_path / "f").write_text("")
    with pytest.raises(InvalidValue):
        files.make_directory(str(tmp_path / "f" / "d"))


HOLDER = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
fcntl.flock(fd, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_lock_is_exclusive_between_processes_and_limited(tmp_path, kind):
    path = tmp_path / "lock"
    path.touch() if kind == "file" else path.mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(TimedOut, match="another run holds it"), files.lock(str(path), timeout=0):
            pass
        with pytest.raises(TimedOut, match=r"over 0\.2 s"), files.lock(str(path), timeout=0.2):
            pass
    finally:
        holder.communicate("")
    with files.lock(str(path), timeout=0):
        pass


def test_lock_waits_and_then_gets_it(tmp_path):
    path = str(tmp_path / "lock")
    held, release, order = threading.Event(), threading.Event(), []

    def first():
        with files.lock(path):
            held.set()
            release.wait(10)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    held.wait(10)
    threading.Timer(0.1, release.set).start()
    with files.lock(path, timeout=10):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]


def test_lock_of_a_file_that_was_replaced_meanwhile(tmp_path):
    """Who waited for what its holder removes gets the file that has its name by then."""
    path, found = tmp_path / "lock", []

    def second():
        with files.lock(str(path), timeout=10) as fd:
            found.append(os.fstat(fd).st_ino == path.stat().st_ino)

    with files.lock(str(path)):
        thread = threading.Thread(target=second)
        thread.start()
        path.unlink()
        path.write_text("another")
    thread.join()
    assert found == [True]


def test_lock_of_a_missing_directory(tmp_path):
    with pytest.raises(NotFound), files.lock(str(tmp_path / "no" / "lock")):
        pass


def test_read_limited(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"12345")
    assert files.read_limited(str(path), 5) == b"12345"
    with pytest.raises(InvalidValue, match="more than 4 bytes"):
        files.read_limited(str(path), 4)
    with pytest.raises(NotFound):
        files.read_limited(str(tmp_path / "none"), 5)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidValue, match="not a regular file"):
        files.read_limited(str(tmp_path / "pipe"), 5)
    with pytest.raises(InvalidValue, match="not a regular file"):
        files.read_limited(str(tmp_path), 5)


@pytest.mark.parametrize("buffering", [-1, 0])
def test_what_can_not_be_read_as_a_file_is_closed(tmp_path, buffering):
    (tmp_path / "f").write_bytes(b"12345")
    with files.reader(os.open(tmp_path / "f", os.O_RDONLY), buffering) as file:
        assert file.read() == b"12345"
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(IsADirectoryError):
        files.reader(os.open(tmp_path, os.O_RDONLY), buffering)
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_no_directory_keeps_its_mode(tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    file.chmod(0o640)
    for path in (file, file / "below"):
        with pytest.raises(NebulaError):
            files.make_directory(str(path), 0o711)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640 and file.read_text() == "mine"


def test_for_another_user_what_root_owns_is_in_trusted_hands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    files.refuse_exchangeable("/usr/bin")


def test_a_directory_that_is_believed_is_made_closed(tmp_path):
    place = tmp_path / "a/cache"
    assert files.make_own_directory(str(place)) and not files.make_own_directory(str(place))
    place.chmod(0o711)
    assert files.make_own_directory(str(place)) and stat.S_IMODE(place.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770])
def test_one_that_others_could_write_to_is_not_believed(tmp_path, mode):
    place = tmp_path / "cache"
    place.mkdir()
    place.chmod(mode)
    with pytest.raises(InvalidValue, match=r"cache: others may write to it, who could have put there .*rm -r"):
        files.make_own_directory(str(place))
    assert stat.S_IMODE(place.stat().st_mode) == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives directories to others")
def test_one_of_another_user_is_not_believed(tmp_path):
    place = tmp_path / "cache"
    place.mkdir(mode=0o700)
    os.chown(place, 12345, 0)
    with pytest.raises(InvalidValue, match="cache: user 12345 owns it, who could have put there"):
        files.make_own_directory(str(place))
    (tmp_path / "link").symlink_to(place)
    with pytest.raises(InvalidValue, match="link: user 12345 owns it"):
        files.make_own_directory(str(tmp_path / "link"))
    assert place.stat().st_uid == 12345


@pytest.mark.parametrize("error", [None, ZeroDivisionError])
def test_a_descriptor_is_closed_whatever_happens(tmp_path: Path, error: type[Exception] | None) -> None:
    with contextlib.suppress(ZeroDivisionError), files.closing_fd(os.open(tmp_path, os.O_RDONLY)) as fd:
        assert os.fstat(fd).st_mode
        if error is not None:
            raise error
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@pytest.mark.parametrize(("options", "synced"), [({}, True), ({"followed": True}, False), ({"sync": False}, False)])
def test_a_name_is_brought_to_the_disk_unless_another_one_is_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, bool], synced: bool
) -> None:
    directories: list[str] = []
    monkeypatch.setattr(files, "sync_directory", directories.append)
    assert files.write_atomically(str(tmp_path / "one"), "text", **options)
    assert directories == ([str(tmp_path)] if synced else [])
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 200000])
def test_a_file_is_read_up_to_a_limit(tmp_path: Path, size: int) -> None:
    (tmp_path / "file").write_bytes(bytes(range(256)) * (size // 256 + 1))
    os.truncate(tmp_path / "file", size)
    assert files.read_limited(str(tmp_path / "file"), size) == (tmp_path / "file").read_bytes()
    if size:
        with pytest.raises(InvalidValue, match=f"more than {size - 1} bytes"):
            files.read_limited(str(tmp_path / "file"), size - 1)
    # Files of the kernel's say that they have no size.
    assert files.read_limited("/proc/self/maps", 1 << 20).count(b"\n") > 10


def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with contextlib.suppress(OSError):
        files.settle(str(tmp_path / "pipe"))


def test_a_lock_whose_holder_no_kernel_here_names(tmp_path, monkeypatch):
    """It may be root of another machine. What is closed is waited for; what anybody can lock is not."""
    path = tmp_path / "lock"
    path.touch()
    monkeypatch.setattr(lock_files, "holders", lambda _fd: ())
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if os.geteuid() == 0:
            with files.lock(str(path), timeout=0):
                pass
        with pytest.raises(TimedOut), files.lock(str(path), timeout=0, is_closed=True):
            pass
