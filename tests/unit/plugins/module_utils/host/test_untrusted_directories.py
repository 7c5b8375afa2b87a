# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing outside of a directory is reached from it, whoever exchanges what in it, and however deep it is."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.host import untrusted_directories, untrusted_trees
from ansible_collections.nebula.provision.tests.tools.exchanging import exchanging, hostile_pair

DEEP = 1500
GUEST = 3_000_000
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has files of other users")


@contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.fixture(params=["openat2", "walk"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """As kernels with that call do it, and as others do."""
    monkeypatch.setattr(untrusted_directories, "_has_openat2", [request.param == "openat2"])
    return str(request.param)


def test_a_directory_below_is_opened_and_nothing_else_is(tmp_path: Path, way: str) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "host").mkdir()
    (tmp_path / "a/link").symlink_to(tmp_path / "host")
    (tmp_path / "a/file").touch()
    with opened(tmp_path / "a") as top:
        for path in ("b", "./b/"):
            fd = untrusted_directories.open_directory(top, path)
            assert os.fstat(fd).st_ino == (tmp_path / "a/b").stat().st_ino
            os.close(fd)
        for path in ("link", "link/x", "../host", "b/../../host", "/etc", "file", "none"):
            with pytest.raises(OSError):
                untrusted_directories.open_directory(top, path)


def test_another_mount_is_not_entered(way: str) -> None:
    with opened(Path("/")) as top, pytest.raises(OSError):
        untrusted_directories.open_directory(top, "proc")


def test_where_names_are_exchanged_the_host_is_never_reached(tmp_path: Path, way: str) -> None:
    host, place = tmp_path / "host", tmp_path / "place"
    (host / "inner").mkdir(parents=True)
    place.mkdir()
    inner, link = hostile_pair(place, host)
    (inner / "inner").unlink()
    (inner / "inner").mkdir()
    wrong = (host / "inner").stat().st_ino
    reached = 0
    with opened(place) as top, exchanging(inner, link):
        for _attempt in range(3000):
            try:
                fd = untrusted_directories.open_directory(top, "keys/inner")
            except OSError:
                continue
            assert os.fstat(fd).st_ino != wrong
            reached += 1
            os.close(fd)
    assert reached


def test_a_tree_is_gone_through_however_deep_it_is_with_few_descriptors(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    fd = os.open(tree, os.O_RDONLY)
    for level in range(DEEP):
        os.mkdir("d", dir_fd=fd)
        os.close(os.open(f"f{level}", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    before = len(os.listdir("/proc/self/fd"))
    most, found = 0, set()
    with opened(tree) as top:
        for number, (_place, name, _status) in enumerate(untrusted_directories.walk(top)):
            found.add(name)
            if number % 100 == 0:
                most = max(most, len(os.listdir("/proc/self/fd")))
    assert found == {"d", *(f"f{level}" for level in range(DEEP))}
    assert most <= before + 4 and len(os.listdir("/proc/self/fd")) == before
    assert untrusted_trees.remove(str(tree))


def test_many_names_and_many_directories_are_gone_through(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"d{number}").mkdir()
        (tmp_path / f"d{number}/f").touch()
    with opened(tmp_path) as top:
        assert len(list(untrusted_directories.walk(top))) == 600


def test_a_walk_that_is_given_up_leaves_nothing_open(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    before = len(os.listdir("/proc/self/fd"))
    with opened(tmp_path) as top:
        walk = untrusted_directories.walk(top)
        next(walk)
        walk.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_moved_during_a_walk_leads_nowhere_else(tmp_path: Path) -> None:
    tree, host = tmp_path / "tree", tmp_path / "host"
    (tree / "a/b/c").mkdir(parents=True)
    (tree / "z").mkdir()
    (tree / "z/last").touch()
    host.mkdir()
    (host / "secret").touch()
    found = set()
    with opened(tree) as top:
        for _place, name, _status in untrusted_directories.walk(top):
            found.add(name)
            if name == "c":
                # From then on, `..` of where the walk is leads to the host's directory.
                (tree / "a/b").rename(host / "b")
    assert "secret" not in found and {"a", "b", "c", "z"} <= found


def test_no_name_of_the_host_is_found_where_names_are_exchanged(tmp_path: Path) -> None:
    host, place = tmp_path / "host", tmp_path / "place"
    host.mkdir()
    for number in range(20):
        (host / f"file{number}").write_text("host's", encoding="utf-8")
    place.mkdir()
    inner, link = hostile_pair(place, host)
    inodes = {path.stat().st_ino for path in host.iterdir()}
    with opened(place) as top, exchanging(inner, link):
        for _attempt in range(200):
            assert not inodes & {found.st_ino for _place, _name, found in untrusted_directories.walk(top)}


@only_root
def test_what_is_taken_its_owner_of_before_may_read_and_not_change(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (place / "file").write_bytes(b"x")
    for path in (place, place / "file"):
        os.chown(path, GUEST, GUEST)
    with opened(place) as fd:
        untrusted_directories.take(fd, 0o500, GUEST)
        file = os.open("file", os.O_RDONLY, dir_fd=fd)
        untrusted_directories.take(file, 0o400, GUEST)
        before = [os.fstat(each).st_ctime_ns for each in (fd, file)]
        untrusted_directories.take(fd, 0o500, GUEST)
        untrusted_directories.take(file, 0o400, GUEST)
        assert [os.fstat(each).st_ctime_ns for each in (fd, file)] == before
        os.close(file)
    for path, mode in ((place, 0o550), (place / "file", 0o440)):
        assert (path.stat().st_uid, stat.S_IMODE(path.stat().st_mode)) == (0, mode)
    tmp_path.chmod(0o711)
    for user, readable in ((GUEST, True), (GUEST + 1, False)):
        child = os.fork()
        if child == 0:
            # The working directory first: who is tried gets through no directory of this test's above it.
            os.chdir(place)
            os.setgroups([])
            os.setresgid(user + 7, user + 7, user + 7)
            os.setresuid(user, user, user)
            wrong = 0
            try:
                wrong += Path("file").read_bytes() != b"x" or not readable
            except OSError:
                wrong += readable
            for attempt in (
                lambda: Path("new").touch(),
                lambda: Path("file").unlink(),
                lambda: os.chmod("file", 0o777),
            ):
                try:
                    attempt()
                    wrong += 10
                except OSError:
                    pass
            os._exit(int(wrong))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, user


@only_root
def test_without_lists_of_rights_the_group_of_that_number_may_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(untrusted_directories, "_grant", lambda *_arguments: False)
    with opened(tmp_path) as fd:
        untrusted_directories.take(fd, 0o500, GUEST)
        found = os.fstat(fd)
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (0, GUEST, 0o550)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    host = tmp_path / "host"
    host.write_bytes(b"host's")
    place = tmp_path / "place"
    place.mkdir()
    (place / "name").symlink_to(host)
    with opened(place) as fd:
        untrusted_directories.replace(fd, "name", b"new", lambda new: os.fchmod(new, 0o400))
        assert (place / "name").read_bytes() == b"new" and host.read_bytes() == b"host's"

        def fails(_file: object) -> None:
            raise OSError("no room")

        with pytest.raises(OSError, match="no room"):
            untrusted_directories.replace(fd, "name", fails, lambda _new: None)
    assert os.listdir(place) == ["name"] and (place / "name").read_bytes() == b"new"
