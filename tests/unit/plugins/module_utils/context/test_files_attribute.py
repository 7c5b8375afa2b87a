# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import socket
import subprocess
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from odd_files import dig

from ansible_collections.nebula.provision.plugins.module_utils.context import files_attribute, iso9660
from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, NebulaError, NotFound
from ansible_collections.nebula.provision.plugins.module_utils.model.context import ContextFile


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n\t ", []),
        ("/a/init.sh", [("/a/init.sh", "init.sh")]),
        ("/a/b/ /c", [("/a/b/", "b"), ("/c", "c")]),
        ("/a\n   /b\t/c ", [("/a", "a"), ("/b", "b"), ("/c", "c")]),
        ("/a:b", [("/a", "b")]),
        ("/a:'two words'", [("/a", "two words")]),
        ("'/two words/x y':\"it's\"", [("/two words/x y", "it's")]),
        ("'/a:b'", [("/a:b", "a:b")]),
        ("/a:b:c", [("/a", "b:c")]),
        ("http://h/x/init.sh", [("http://h/x/init.sh", "init.sh")]),
        ("https://h/x/init.sh:start.sh", [("https://h/x/init.sh", "start.sh")]),
        ("http://h:8080/x/a%20b.sh?v=1", [("http://h:8080/x/a%20b.sh?v=1", "a b.sh")]),
        ("http://[::1]:8080/x:y /z", [("http://[::1]:8080/x", "y"), ("/z", "z")]),
        ("http://me:word@h:80/x", [("http://me:word@h:80/x", "x")]),
        ("'http://h/x?sig=a:b' 'http://h/x?sig=a:b':y", [("http://h/x?sig=a:b", "x"), ("http://h/x?sig=a:b", "y")]),
        ("/ds/2/06init:'init.sh' /ds/2/07x:'its.txt' ", [("/ds/2/06init", "init.sh"), ("/ds/2/07x", "its.txt")]),
    ],
)
def test_parse_files(text, expected):
    assert files_attribute.parse_files(text) == tuple(ContextFile(*pair) for pair in expected)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("relative/path", "not an absolute path"),
        ("ftp://example.org/init.sh", "URL of another kind"),
        ("http://example.org/", "no name of its own"),
        ("http://example.org", "no name of its own"),
        ("http://example.org/x:", "no name follows"),
        ("http://example.org/x /x", r"/x.*http://example.org/x has the same name"),
        ("/a:", "no name follows"),
        ("/a:'", "quote is not closed"),
        ('"/a', "quote is not closed"),
        ("/a:x/y", "holds no /"),
        ("/a:..", "no name of its own"),
        ("/", "no name of its own"),
        ("/a/..", "no name of its own"),
        ("/a:context.sh", "by itself"),
        ("/a/CONTEXT.SH", "by itself"),
        ("/a:'x\ny'", "control character"),
        ("/a:" + "n" * 251, "251 bytes"),
        ("/a/x /b/x", r"/b/x.*/a/x.*same name"),
        ("/a /b:a", r"/b.*/a.*same name"),
        ("http://h/x?sig=a:b", r"Quote the URL: 'http://h/x\?...'"),
        ("http://h/x#a:b", "Quote the URL: 'http://h/x'"),
    ],
)
def test_parse_files_refuses(text, problem):
    with pytest.raises(InvalidValue, match=problem):
        files_attribute.parse_files(text)


@pytest.mark.parametrize(
    "text",
    [
        "/a 'http://me:s3cret@h/x",
        "'http://h/x http://me:s3cret@h/y",
        "'http://h/x http://me:s3cret@h/y':",
        "'http://h/x http://me:s3cret@h/y':.",
        "http://h/x?sig=a:s3cret/y",
        "http://h/x?s3cret:",
        "http://h/x:a/s3cret",
        "ftp://me:s3cret@h/x?s3cret",
    ],
)
def test_errors_tell_no_secret_of_a_url(text):
    with pytest.raises(InvalidValue) as caught:
        files_attribute.parse_files(text)
    assert "s3cret" not in str(caught.value)


@given(st.text(st.sampled_from("/ab:'\" \n.")))
def test_parse_files_raises_nothing_else(text):
    try:
        found = files_attribute.parse_files(text)
    except InvalidValue:
        return
    assert all(file.source.startswith("/") and file.target for file in found)


def collect(*sources, **options):
    return files_attribute.entries_of_files(
        [files_attribute.context_file(str(source)) for source in sources], **options
    )


def test_collect_a_tree(tmp_path):
    top = tmp_path / "certificates"
    (top / "b" / "deep").mkdir(parents=True)
    (top / "b" / "deep" / "leaf").write_bytes(b"12345")
    (top / "a").write_bytes(b"")
    (top / "c.sh").write_bytes(b"#!/bin/sh\n")
    (top / "c.sh").chmod(0o700)
    (tmp_path / "init.sh").write_bytes(b"x")
    entries = collect(top, tmp_path / "init.sh")
    assert [(e.path, e.size, e.executable, e.directory) for e in entries] == [
        ("certificates", 0, False, True),
        ("certificates/a", 0, False, False),
        ("certificates/b", 0, False, True),
        ("certificates/b/deep", 0, False, True),
        ("certificates/b/deep/leaf", 5, False, False),
        ("certificates/c.sh", 10, True, False),
        ("init.sh", 1, False, False),
    ]


def test_links(tmp_path):
    """Those a user names are followed; one within a directory stays within it."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "x").write_text("x")
    (tmp_path / "real" / "y").symlink_to("x")
    (tmp_path / "named").symlink_to("real")
    assert [(e.path, e.size) for e in collect(tmp_path / "named")] == [("named", 0), ("named/x", 1), ("named/y", 1)]
    (tmp_path / "outside").write_text("not for the guest")
    (tmp_path / "real" / "z").symlink_to("../outside")
    with pytest.raises(InvalidValue, match="leads out of it"):
        collect(tmp_path / "real")


def swap(tmp_path):
    """A directory above becomes a link to what was not checked."""
    (tmp_path / "top").rename(tmp_path / "was")
    (tmp_path / "top").symlink_to("other")


@pytest.fixture
def twins(tmp_path):
    for name in ("top", "other"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "x").write_text(name)
    return tmp_path


def test_a_directory_above_a_file_that_becomes_a_link(twins):
    (entry,) = collect(twins / "top" / "deep" / "x")
    swap(twins)
    with pytest.raises(InvalidValue, match="changed while"):
        files_attribute.Content(entry).read()


def test_a_directory_above_a_directory_that_becomes_a_link(twins):
    with pytest.raises(InvalidValue, match="changed while"):
        collect(twins / "top" / "deep", check=lambda named, path: swap(twins))


def test_a_link_upwards_does_not_go_round_for_ever(tmp_path):
    (tmp_path / "top" / "sub").mkdir(parents=True)
    (tmp_path / "top" / "sub" / "again").symlink_to(".")
    with pytest.raises(InvalidValue, match="link to a directory"):
        collect(tmp_path / "top")


@pytest.mark.parametrize("dangling", ["file", "inside"])
def test_missing(tmp_path, dangling):
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "x").symlink_to("nothing")
    with pytest.raises(NotFound, match="not there"):
        collect(tmp_path / ("nothing" if dangling == "file" else "top"))


@pytest.mark.parametrize("kind", ["fifo", "socket", "device"])
@pytest.mark.parametrize("inside", [True, False])
def test_what_is_no_file_is_refused(tmp_path, kind, inside):
    top = tmp_path / "top"
    top.mkdir()
    place = top / "x"
    if kind == "fifo":
        os.mkfifo(place)
        words = "named pipe"
    elif kind == "socket":
        listener = socket.socket(socket.AF_UNIX)
        directory = os.open(top, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{directory}/x")
        listener.close()
        os.close(directory)
        words = "a socket"
    else:
        # A link to it, named by the user: making one takes rights that a test may not have.
        place.symlink_to("/dev/null")
        words = "leads out of it" if inside else "character device"
    with pytest.raises(InvalidValue, match=words):
        collect(top if inside else place)


def test_limit(tmp_path):
    for name in "abc":
        (tmp_path / name).write_bytes(b"1234")
    assert len(collect(tmp_path, limit=12)) == 4
    with pytest.raises(InvalidValue, match="more than 11 bytes"):
        collect(tmp_path, limit=11)


def test_number(tmp_path, monkeypatch):
    monkeypatch.setattr(files_attribute, "MOST", 3)
    for name in "abc":
        (tmp_path / name).touch()
    with pytest.raises(InvalidValue, match="over 3 files"):
        collect(tmp_path)


@pytest.mark.parametrize("name", [b"\xff", b"a\nb"])
def test_names_within_a_directory(tmp_path, name):
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / os.fsdecode(name)).touch()
    with pytest.raises(InvalidValue, match="Rename it"):
        collect(tmp_path / "top")


@pytest.mark.parametrize("change", ["shorter", "longer", "gone", "link", "fifo", "directory"])
def test_a_file_that_changes_meanwhile_is_an_error(tmp_path, change):
    place = tmp_path / "x"
    place.write_bytes(b"12345")
    (entry,) = collect(place)
    if change == "shorter":
        place.write_bytes(b"1234")
    elif change == "longer":
        place.write_bytes(b"123456")
    else:
        place.unlink()
        if change == "link":
            place.symlink_to("/etc/passwd")
        if change == "fifo":
            os.mkfifo(place)
        if change == "directory":
            place.mkdir()
    with pytest.raises((InvalidValue, NotFound)), files_attribute.Content(entry) as content:
        while content.read(3):
            pass


def test_content_is_open_only_while_it_is_read(tmp_path):
    (tmp_path / "x").write_bytes(b"12345")
    (entry,) = collect(tmp_path / "x")
    before = len(os.listdir("/proc/self/fd"))
    with files_attribute.Content(entry) as content:
        content.seek(0)
        assert content.read(2) == b"12"
        assert content.read(10) == b"345"
        assert len(os.listdir("/proc/self/fd")) == before
        content.seek(0)
        assert content.read() == b"12345"


@pytest.fixture
def removed(tmp_path):
    """Not left to pytest, which can't remove what is too deep."""
    yield tmp_path
    subprocess.run(["rm", "-rf", tmp_path], check=True)


@pytest.mark.parametrize("depth", [files_attribute.DEEPEST, 3000])
def test_a_tree_that_is_too_deep(removed, depth):
    dig(removed, depth)
    with pytest.raises(InvalidValue, match=r"nested more than 15 deep\. Pack them"):
        collect(removed)


def test_the_deepest_tree_that_is_taken(tmp_path):
    dig(tmp_path, files_attribute.DEEPEST - 1)
    (tmp_path / ("d/" * (files_attribute.DEEPEST - 1)) / "file").write_text("content")
    iso9660.write_iso(str(tmp_path / "iso"), {}, [ContextFile(str(tmp_path / "d"), "d")])
    assert iso9660.read_iso(str(tmp_path / "iso"))[1] == {"d/" * (files_attribute.DEEPEST - 1) + "file": 7}


def test_very_many_files_are_refused(removed):
    for number in range(20_000):
        os.close(os.open(removed / str(number), os.O_CREAT | os.O_WRONLY))
    with pytest.raises(InvalidValue, match="over 10000 files"):
        collect(removed)


@pytest.mark.parametrize(
    "path",
    [
        *("/dev/zero", "/dev/stdin", "/proc/kcore", "/proc/kmsg", "/proc/self/mem"),
        *("/proc", "/dev", "/sys/kernel", "/proc/self/root"),
    ],
)
def test_what_the_kernel_makes_up_is_refused_or_empty(tmp_path, path):
    if not os.path.exists(path):
        pytest.skip(f"there is no {path} here")
    began = time.process_time()
    try:
        iso9660.write_iso(str(tmp_path / "iso"), {}, [ContextFile(path, "x")])
    except NebulaError as error:
        # Named as it was given, or by the file in it that is the matter.
        assert path in str(error) or os.path.realpath(path) in str(error)
        assert not (tmp_path / "iso").exists()
    else:
        assert (tmp_path / "iso").stat().st_size < 1_000_000
    assert time.process_time() - began < 10
