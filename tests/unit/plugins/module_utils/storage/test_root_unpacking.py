# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of entries. That none of it leaves the tree is in tests/integration/test_hostile_roots.py, as it is the
namespaces' doing."""

from __future__ import annotations

import io
import json
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import ImageRefused, NoSpace
from ansible_collections.nebula.provision.plugins.module_utils.host import confined_process, untrusted_trees
from ansible_collections.nebula.provision.plugins.module_utils.storage import device_nodes
from ansible_collections.nebula.provision.plugins.module_utils.storage.long_paths import OpenPaths
from ansible_collections.nebula.provision.plugins.module_utils.storage.root_unpacking import Tree
from ansible_collections.nebula.provision.plugins.module_utils.storage.roots import Limits
from ansible_collections.nebula.provision.plugins.module_utils.storage.tar_reader import CHARACTER, Entry, Reader

MIB = 1024 * 1024


def entry(name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", **attributes):
    found = tarfile.TarInfo(name)
    found.type, found.size, found.mode = kind, len(content), 0o640
    # Whoever runs the tests may not give files away.
    found.mtime = 1_000_000_000
    for key, value in attributes.items():
        setattr(found, key, value)
    return found, content


def unpack(*entries, limits: Limits | None = None, reserve: int = 0, **wanted: Any) -> Tree:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for found, content in entries:
            tar.addfile(found, io.BytesIO(content))
    file.seek(0)
    tree = Tree("image demo", (limits or Limits()).as_dict(), reserve, **wanted)
    reader = Reader(file.read, "image demo")
    for found in reader:
        tree.add(found, reader)
    tree.finish()
    return tree


@pytest.fixture(autouse=True)
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "tree"
    place.mkdir()
    monkeypatch.chdir(place)
    before = os.umask(0)
    yield place
    os.umask(before)
    # What removes temporary directories can't, where they are deep.
    monkeypatch.chdir("/")
    untrusted_trees.remove(str(place))


def test_modes_and_times_are_those_of_the_archive(tree):
    done = unpack(
        entry("./", tarfile.DIRTYPE, mode=0o751), entry("d", tarfile.DIRTYPE, mode=0o1777),
        entry("d/f", content=b"x" * 5000), entry("d/s", mode=0o4755, content=b"y"),
        entry("d/l", tarfile.SYMTYPE, linkname="f"), entry("d/h", tarfile.LNKTYPE, linkname="d/f"),
    )  # fmt: skip
    modes = {name: stat.S_IMODE((tree / name).stat().st_mode) for name in ("", "d", "d/f", "d/s")}
    assert modes == {"": 0o751, "d": 0o1777, "d/f": 0o640, "d/s": 0o4755}
    # That of a directory is its own, and not of the last file that was made in it.
    assert {(tree / name).lstat().st_mtime for name in ("", "d", "d/f", "d/s", "d/l", "d/h")} == {1_000_000_000}
    assert (tree / "d/h").read_text() == "x" * 5000 and (tree / "d/h").stat().st_nlink == 2
    assert (done.entries, done.devices, done.lost) == (6, 0, 0) and done.size >= 5001


def test_directories_that_no_entry_names(tree):
    unpack(entry("a/b/c", content=b"x"), entry("a/b", tarfile.DIRTYPE, mode=0o700))
    assert [stat.S_IMODE((tree / name).stat().st_mode) for name in ("", "a", "a/b")] == [0o755, 0o755, 0o700]


def test_what_comes_twice_is_as_the_last_says(tree):
    unpack(
        entry("a", content=b"first"), entry("b", tarfile.LNKTYPE, linkname="a"), entry("a", content=b"second"),
        entry("l", tarfile.SYMTYPE, linkname="a"), entry("l", content=b"third"),
        entry("d", tarfile.DIRTYPE), entry("d", tarfile.DIRTYPE, mode=0o711),
    )  # fmt: skip
    # A name that is made anew does not write to what others have by theirs.
    assert [(tree / name).read_text() for name in "abl"] == ["second", "first", "third"]
    assert stat.S_IMODE((tree / "d").stat().st_mode) == 0o711


def test_large_files_come_in_pieces(tree):
    content = os.urandom(3 * MIB + 17)
    unpack(entry("large", content=content), entry("after", content=b"x"))
    assert (tree / "large").read_bytes() == content and (tree / "after").read_text() == "x"


def test_devices_are_counted(tree):
    assert unpack(entry("sda", tarfile.BLKTYPE), entry("null", tarfile.CHRTYPE)).devices == 2
    assert os.listdir(tree) == []


def test_devices_are_told_to_whoever_makes_them(tree):
    marks = {"SCHILY.xattr.user.a": "1", "SCHILY.xattr.security.selinux": "x"}
    done = unpack(
        entry("./dev/sda", tarfile.BLKTYPE, devmajor=8, devminor=1), entry("dev/sda", tarfile.BLKTYPE, devmajor=8),
        entry("null", tarfile.CHRTYPE, devmajor=1, devminor=3, pax_headers=marks),
        devices=True,
    )  # fmt: skip
    assert (done.devices, done.lost) == (0, 1)
    # What comes twice is as the last says.
    found = {name: (e.kind, e.major, e.minor, e.xattrs) for name, e in done.nodes.items()}
    assert found == {b"dev/sda": ("4", 8, 0, {}), b"null": ("3", 1, 3, {b"user.a": b"1"})}
    assert os.listdir(tree) == ["dev"] and os.listdir(tree / "dev") == []


@pytest.mark.parametrize(("most", "length"), [("MOST", 1), ("MOST_BYTES", 3)])
def test_devices_without_end(monkeypatch, most, length):
    monkeypatch.setattr(device_nodes, most, 2)
    with pytest.raises(ImageRefused, match=r"it has more than .* device nodes"):
        unpack(*(entry(str(n) * length, tarfile.CHRTYPE) for n in range(3)), devices=True)


@pytest.mark.parametrize(("length", "refused"), [(89, False), (90, True)])
def test_attributes_of_devices_count_with_their_names(monkeypatch, length, refused):
    """A name of three bytes, and an attribute with one of eight."""
    monkeypatch.setattr(device_nodes, "MOST_BYTES", 100)
    node = entry("abc", tarfile.CHRTYPE, pax_headers={"SCHILY.xattr.user.abc": "x" * length})
    if refused:
        with pytest.raises(ImageRefused, match=r"more than 100 bytes of their names and attributes.* 'abc'"):
            unpack(node, devices=True)
    else:
        assert len(unpack(node, devices=True).nodes) == 1


def test_as_many_devices_as_may_be_fit_into_the_answer():
    """Each byte of names and attributes, and each number, as long as JSON can have it."""

    def length(name: bytes, **attributes: bytes) -> int:
        node = Entry(CHARACTER, name, b"")
        node.major = node.minor = node.mode = node.uid = node.gid = node.mtime = (1 << 63) - 1
        node.xattrs = {key.encode() + b"\xff": value for key, value in attributes.items()}
        return len(json.dumps(device_nodes.described(node))) + len(", ")

    bare = length(b"")
    byte = length(b"\xff") - bare
    assert length(b"", **{"user.": b""}) - bare + len(", ") <= 6 * byte
    assert length(b"", **{"user.": bytes(9)}) - length(b"", **{"user.": b""}) <= 9 * byte
    assert device_nodes.MOST * bare + device_nodes.MOST_BYTES * byte < confined_process.LONGEST_ANSWER


def test_a_root_that_is_a_device():
    with pytest.raises(ImageRefused, match="its root is no directory"):
        unpack(entry("./", tarfile.CHRTYPE), devices=True)


def test_as_many_users_as_the_machine_has():
    with pytest.raises(ImageRefused, match="a machine has 0 to 9"):
        unpack(entry("f", uid=10), users=10)


LIMITS = Limits(size=MIB, entries=10, depth=3, length=50)


@pytest.mark.parametrize(
    ("entries", "found"),
    [
        ([entry("a", content=bytes(MIB + 1))], "more than 1 MiB"),
        ([entry(f"f{number}") for number in range(11)], "more than 10 entries"),
        ([entry("a/b/c/d")], "deeper than 3 directories"),
        ([entry("x" * 51)], "51 bytes; the limit is 50"),
        ([entry("a", tarfile.LNKTYPE, linkname="x" * 51)], "51 bytes; the limit is 50"),
        ([entry("a", uid=65536)], "belongs to user 65536"),
        ([entry("../a")], "leads out"),
        ([entry("a/..")], "leads out"),
        ([entry("a", tarfile.LNKTYPE, linkname="b/../../c")], "leads out"),
        ([entry("a", tarfile.LNKTYPE, linkname="b")], "which it does not have before it"),
        ([entry(".", tarfile.SYMTYPE, linkname="b")], "its root is no directory"),
    ],
)
def test_refused(entries, found):
    with pytest.raises(ImageRefused, match=found):
        unpack(*entries, limits=LIMITS)


def test_a_root_of_a_machine_is_bounded_by_the_room_that_there_was():
    """It is no image, and nobody can name a smaller one."""
    entries = [entry("a", content=b"x" * MIB), entry("b", content=b"x" * MIB)]
    with pytest.raises(NoSpace) as refused:
        unpack(*entries, limits=Limits(size=MIB, is_room=True))
    assert str(refused.value) == (
        "image demo: room for its root: it takes more than the 1 MiB that were free, besides 0 MiB that are kept so; "
        "2 MiB of it have come. Make room on that file system, or name a host with more; then run again"
    )
    with pytest.raises(ImageRefused, match=r"it has more than 1 entries. Remove files of the machine"):
        unpack(*entries, limits=Limits(entries=1, is_room=True))


def test_room_is_left():
    with pytest.raises(NoSpace, match="are kept free"):
        unpack(entry("a"), reserve=1 << 62)


def test_what_is_deeper_than_a_path_of_the_kernel(tree):
    place = "d/" * 3000
    unpack(
        entry(place + "f", content=b"x"), entry(place + "h", tarfile.LNKTYPE, linkname=place + "f"),
        entry(place + "l", tarfile.SYMTYPE, linkname="f"), entry(place + "p", tarfile.FIFOTYPE),
        entry(place + "p", content=b"in its place"), entry("d/" * 2500, tarfile.DIRTYPE, mode=0o700),
    )  # fmt: skip
    places = OpenPaths(os.open(tree, os.O_RDONLY))
    fd, name = places.at((place + "f").encode())
    found = {each: os.stat(each, dir_fd=fd, follow_symlinks=False) for each in ("f", "h", "l", "p")}
    assert found["f"].st_ino == found["h"].st_ino and stat.S_ISLNK(found["l"].st_mode) and found["p"].st_size == 12
    fd, name = places.at(("d/" * 2500)[:-1].encode())
    assert stat.S_IMODE(os.stat(name, dir_fd=fd).st_mode) == 0o700
    places.forget()
