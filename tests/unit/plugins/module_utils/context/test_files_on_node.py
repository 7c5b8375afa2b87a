# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What plans bring of the files of contexts is kept on a node, whole or not at all, and goes when no plan names it."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
import threading
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.context import files_on_node, iso9660
from ansible_collections.nebula.provision.plugins.module_utils.context.files_attribute import ContextFileParts, Entry
from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    NebulaError,
    NotFound,
    StorageFailed,
    TimedOut,
)
from ansible_collections.nebula.provision.plugins.module_utils.host import node_file
from ansible_collections.nebula.provision.plugins.module_utils.host.files import lock
from ansible_collections.nebula.provision.plugins.module_utils.model.context import ContextFile
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Plan, PlannedEntry, PlannedSource

CATALOG = "11111111-1111-1111-1111-111111111111"
SCRIPT, A, B = b"#!/bin/sh\n", b"A", b"B" * 5000
INIT = ContextFile("/srv/init.sh", "init.sh")
CERTIFICATES = ContextFile("/srv/certificates", "certs")
BOTH = [INIT, CERTIFICATES]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


def entry(path: str, data: bytes, executable: bool = False) -> PlannedEntry:
    return PlannedEntry(path, digest(data), len(data), executable)


SOURCES = {
    INIT.key: PlannedSource((entry("", SCRIPT, executable=True),)),
    CERTIFICATES.key: PlannedSource(
        (
            PlannedEntry("", directory=True),
            entry("a.pem", A),
            PlannedEntry("deep", directory=True),
            entry("deep/b.pem", B),
        )
    ),
}


def plan(*wanted: ContextFile, brings: tuple[bytes, ...] = (SCRIPT, A, B), number: int = 1) -> Plan:
    """What a front-end sends. brings: the contents that it counts as missing on the node."""
    return Plan(
        CATALOG,
        number,
        "node1",
        sources={file.key: SOURCES[file.key] for file in wanted},
        contents={digest(data): packed(data) for data in brings},
    )


@pytest.fixture
def root(tmp_path: Path) -> str:
    """Of a node that follows the catalog."""
    place = tmp_path / "node"
    place.mkdir()
    node_file.update(str(place), lambda before: before)
    node_file.accept(str(place), CATALOG, 1)
    return str(place)


def kept(root: str) -> list[str]:
    return sorted(os.listdir(files_on_node.place(root)))


# -- what is kept -----------------------------------------------------------------------------------------------------
def test_what_a_plan_brings_is_kept_by_its_digest(root: str) -> None:
    filled = files_on_node.keep_contents(root, plan(*BOTH))
    assert filled == files_on_node.KeptContents(new={digest(data) for data in (SCRIPT, A, B)})
    assert files_on_node.digests(root) == tuple(sorted(filled.new))
    for data in (SCRIPT, A, B):
        path = Path(files_on_node.path_of(root, digest(data)))
        assert path.read_bytes() == data
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(os.stat(files_on_node.place(root)).st_mode) == 0o711


def test_what_is_there_is_not_written_again(root: str) -> None:
    files_on_node.keep_contents(root, plan(*BOTH))
    path = files_on_node.path_of(root, digest(SCRIPT))
    before = os.stat(path)
    for brings in ((), (SCRIPT, A, B)):
        assert files_on_node.keep_contents(root, plan(*BOTH, brings=brings)) == files_on_node.KeptContents()
    assert os.stat(path).st_ino == before.st_ino


EMPTY = replace(plan(), sources={"x": PlannedSource((entry("", b""),))}, contents={digest(b""): packed(b"")})


def test_content_of_no_size_is_content_too(root: str) -> None:
    assert files_on_node.keep_contents(root, EMPTY).new == {digest(b"")}
    assert files_on_node.keep_contents(root, EMPTY) == files_on_node.KeptContents()
    # A pipe is as empty.
    path = files_on_node.path_of(root, digest(b""))
    os.unlink(path)
    os.mkfifo(path)
    assert files_on_node.keep_contents(root, EMPTY).new == {digest(b"")}
    assert stat.S_ISREG(os.lstat(path).st_mode)


def test_a_machine_without_files_makes_no_cache(root: str) -> None:
    assert files_on_node.keep_contents(root, Plan(CATALOG, 1, "node1")) == files_on_node.KeptContents()
    assert not os.path.exists(files_on_node.place(root))
    assert files_on_node.digests(root) == ()


def test_the_directory_is_noted_before_it_is_made_so_that_it_goes_with_the_node(root: str) -> None:
    files_on_node.keep_contents(root, plan(INIT))
    files_on_node.keep_contents(root, plan(*BOTH))
    assert node_file.read(root).directories == (files_on_node.place(root),)


def test_digests_are_told_by_names_alone(root: str) -> None:
    files_on_node.keep_contents(root, plan(INIT))
    for name in ("base-1", "context-short", f"context-{'g' * 64}", f"context-{digest(A)}.old", f"x-{digest(A)}"):
        Path(files_on_node.place(root), name).touch()
    assert files_on_node.digests(root) == (digest(SCRIPT),)
    Path(root, "file").touch()
    assert files_on_node.digests(os.path.join(root, "file")) == ()


# -- what is not kept -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text",
    [
        "",
        "no base64",
        base64.b64encode(b"no zlib").decode(),
        packed(SCRIPT[:-1]),
        packed(SCRIPT + b"x"),
        packed(SCRIPT.upper()),
        packed(b"x" * 10_000_000),
        "größe",
    ],
    ids=["nothing", "no base64", "no zlib", "short", "long", "other", "huge", "no ASCII"],
)
def test_what_a_plan_brings_is_looked_at(root: str, text: str) -> None:
    filled = files_on_node.keep_contents(root, replace(plan(INIT), contents={digest(SCRIPT): text}))
    assert filled == files_on_node.KeptContents(
        faults={digest(SCRIPT): "what the plan brought of it is not what was read"}
    )
    assert kept(root) == []


def test_of_what_a_plan_brings_no_more_is_unpacked_than_it_is_to_be(root: str) -> None:
    swollen = replace(plan(INIT), contents={digest(SCRIPT): packed(bytes(20_000_000))})
    tracemalloc.start()
    try:
        files_on_node.keep_contents(root, swollen)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 2_000_000


@pytest.mark.parametrize("name", ["../../etc/shadow", "x", "A" * 64, digest(A) + "\n"])
def test_a_digest_that_is_none_names_no_file(root: str, name: str) -> None:
    odd = replace(plan(), sources={"x": PlannedSource((PlannedEntry("", name, len(A)),))}, contents={name: packed(A)})
    assert files_on_node.keep_contents(root, odd) == files_on_node.KeptContents(faults={name: "its digest is none"})
    assert kept(root) == []


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path: path.write_bytes(b"#!/bin/rm\n"), "it was damaged on this node"),
        (lambda path: path.write_bytes(b""), "it was damaged on this node"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "it was damaged on this node"),
        (lambda path: (path.unlink(), path.symlink_to("/etc/hostname")), "it was damaged on this node"),
        (lambda path: (path.unlink(), path.symlink_to("nowhere")), "it was damaged on this node"),
        (lambda path: path.unlink(), "it is not on this node any more"),
    ],
    ids=["other", "empty", "pipe", "link", "dangling link", "gone"],
)
def test_what_is_damaged_goes_and_comes_with_the_next_plan(
    root: str, spoil: Callable[[Path], object], told: str
) -> None:
    files_on_node.keep_contents(root, plan(*BOTH))
    spoil(Path(files_on_node.path_of(root, digest(SCRIPT))))
    filled = files_on_node.keep_contents(root, plan(*BOTH, brings=()))
    assert filled == files_on_node.KeptContents(faults={digest(SCRIPT): told})
    assert digest(SCRIPT) not in files_on_node.digests(root)
    assert files_on_node.keep_contents(root, plan(*BOTH)).new == {digest(SCRIPT)}


def test_one_content_that_can_not_be_kept_does_not_stop_the_others(root: str) -> None:
    files_on_node.keep_contents(root, plan())
    os.makedirs(os.path.join(files_on_node.path_of(root, digest(SCRIPT)), "in the way"))
    before = len(os.listdir("/proc/self/fd"))
    filled = files_on_node.keep_contents(root, plan(*BOTH))
    assert filled.new == {digest(A), digest(B)}
    assert list(filled.faults) == [digest(SCRIPT)]
    assert filled.faults[digest(SCRIPT)].startswith("it can't be kept: ")
    assert len(os.listdir("/proc/self/fd")) == before


def test_where_the_directory_can_not_be_had_every_content_says_why(root: str) -> None:
    Path(files_on_node.place(root)).touch()
    filled = files_on_node.keep_contents(root, plan(*BOTH))
    assert set(filled.faults) == {digest(data) for data in (SCRIPT, A, B)}
    assert all(told.startswith("it can't be kept: ") for told in filled.faults.values())


def test_while_another_run_holds_the_directory_it_waits_and_says_so(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files_on_node.keep_contents(root, plan(INIT))
    monkeypatch.setattr(files_on_node, "LOCK_SECONDS", 0)
    with lock(os.path.join(files_on_node.place(root), ""), 0):
        filled = files_on_node.keep_contents(root, plan(*BOTH))
        with pytest.raises(TimedOut):
            files_on_node.remove(root)
    assert set(filled.faults) == {digest(data) for data in (SCRIPT, A, B)}
    assert kept(root) == [f"context-{digest(SCRIPT)}"]


def test_a_node_that_was_given_back_keeps_nothing(root: str) -> None:
    node_file.update(root, lambda before: replace(before, given_back=True))
    assert files_on_node.keep_contents(root, plan(*BOTH)) == files_on_node.KeptContents()
    assert not os.path.exists(files_on_node.place(root))
    assert node_file.read(root).directories == ()


@pytest.mark.parametrize("there", [False, True])
def test_an_older_plan_brings_nothing_any_more(root: str, there: bool) -> None:
    if there:
        files_on_node.keep_contents(root, plan(INIT))
    node_file.accept(root, CATALOG, 2)
    assert files_on_node.keep_contents(root, plan(*BOTH)) == files_on_node.KeptContents()
    assert files_on_node.digests(root) == ((digest(SCRIPT),) if there else ())


def test_plans_at_the_same_time_keep_all_of_theirs(root: str) -> None:
    threads = [threading.Thread(target=files_on_node.keep_contents, args=(root, plan(*BOTH))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kept(root) == sorted(f"context-{digest(data)}" for data in (SCRIPT, A, B))


# -- check mode -------------------------------------------------------------------------------------------------------
def test_check_mode_foresees_what_is_not_here_yet(root: str) -> None:
    missing = {digest(data): "it is not here yet" for data in (A, B)}
    files_on_node.keep_contents(root, plan(INIT))
    assert files_on_node.missing_contents(root, plan(*BOTH)) == files_on_node.KeptContents(faults=missing)
    assert files_on_node.missing_contents(root, plan(INIT)) == files_on_node.KeptContents()
    assert files_on_node.digests(root) == (digest(SCRIPT),)


# -- what is made of it -----------------------------------------------------------------------------------------------
def test_a_context_gets_its_files_from_the_cache(root: str) -> None:
    whole = plan(*BOTH)
    renamed = replace(INIT, target="start.sh")
    found = files_on_node.context_files(root, whole, [renamed, CERTIFICATES], files_on_node.keep_contents(root, whole))
    a, b, script = (files_on_node.path_of(root, digest(data)) for data in (A, B, SCRIPT))
    assert found == [
        ContextFileParts(INIT.source, "start.sh", entries=(Entry("start.sh", script, len(SCRIPT), executable=True),)),
        ContextFileParts(
            CERTIFICATES.source,
            "certs",
            entries=(
                Entry("certs", "", directory=True),
                Entry("certs/a.pem", a, 1),
                Entry("certs/deep", "", directory=True),
                Entry("certs/deep/b.pem", b, 5000),
            ),
        ),
    ]


def test_a_root_may_be_a_link_and_what_is_kept_may_not(root: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    whole = plan(INIT)
    filled = files_on_node.keep_contents(str(tmp_path / "link"), whole)
    iso9660.write_iso(
        str(tmp_path / "far.iso"),
        {"A": "1"},
        files_on_node.context_files(str(tmp_path / "link"), whole, [INIT], filled),
    )
    path = Path(files_on_node.path_of(root, digest(SCRIPT)))
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NebulaError):
        iso9660.write_iso(
            str(tmp_path / "other.iso"), {"A": "1"}, files_on_node.context_files(root, whole, [INIT], filled)
        )


def test_a_link_in_the_cache_is_never_followed_and_gives_way(root: str, tmp_path: Path) -> None:
    whole = plan(INIT)
    files_on_node.keep_contents(root, whole)
    (tmp_path / "elsewhere").write_bytes(SCRIPT)
    path = Path(files_on_node.path_of(root, digest(SCRIPT)))
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    assert files_on_node.keep_contents(root, whole) == files_on_node.KeptContents(new={digest(SCRIPT)})
    assert not path.is_symlink() and path.read_bytes() == SCRIPT
    assert (tmp_path / "elsewhere").read_bytes() == SCRIPT


# -- errors of those who need it --------------------------------------------------------------------------------------
def test_what_is_not_here_is_an_error_of_those_who_need_it(root: str) -> None:
    whole = plan(*BOTH, brings=(A, B))
    filled = files_on_node.keep_contents(root, whole)
    with pytest.raises(StorageFailed) as caught:
        files_on_node.context_files(root, whole, BOTH, filled)
    assert str(caught.value) == (
        "FILES: '/srv/init.sh': it is not on this node any more. Run again: it is sent again then"
    )
    assert len(files_on_node.context_files(root, whole, [CERTIFICATES], filled)) == 1


def test_what_the_plan_does_not_hold_is_named(root: str) -> None:
    url = ContextFile("https://ops:secret@example.org/init.sh", "init.sh", sha256=digest(A))
    with pytest.raises(StorageFailed) as caught:
        files_on_node.context_files(root, plan(INIT), [url], files_on_node.KeptContents())
    assert caught.value.found == "the plan does not hold it"
    assert "example.org/init.sh" in caught.value.asked and "secret" not in str(caught.value)


def told(**error: str) -> Plan:
    return replace(plan(), sources={INIT.key: PlannedSource(error=error)})


def test_what_the_front_end_found_is_told_as_its_error(root: str) -> None:
    error = NotFound("FILES: '/srv/init.sh'", "it is not there", "Put it there")
    with pytest.raises(NotFound) as caught:
        files_on_node.context_files(root, told(**error.as_dict()), [INIT], files_on_node.KeptContents())
    assert caught.value.as_dict() == error.as_dict()


@pytest.mark.parametrize("kind", ["", "OfALaterVersion", "harmless", "LONGEST", "__class__"])
def test_an_error_of_no_known_kind_is_told_all_the_same(root: str, kind: str) -> None:
    with pytest.raises(NebulaError) as caught:
        files_on_node.context_files(root, told(kind=kind, asked="a", found="b"), [INIT], files_on_node.KeptContents())
    assert type(caught.value) is NebulaError
    assert str(caught.value) == "a: b"


# -- what goes --------------------------------------------------------------------------------------------------------
LEFT = f".context-{'0' * 64}.abc.tmp"


def test_a_node_keeps_what_its_plan_names_and_leaves_the_rest_alone(root: str) -> None:
    files_on_node.keep_contents(root, plan(*BOTH))
    for name in ("base-1", LEFT, ".base-1.abc.tmp"):
        Path(files_on_node.place(root), name).touch()
    node_file.accept(root, CATALOG, 2)
    # An older run must not remove what a newer plan may count on.
    files_on_node.prune(root, plan(number=1))
    assert len(files_on_node.digests(root)) == 3
    files_on_node.prune(root, plan(INIT, number=2))
    assert kept(root) == [".base-1.abc.tmp", "base-1", f"context-{digest(SCRIPT)}"]


def test_nothing_is_pruned_where_nothing_was_kept(root: str) -> None:
    files_on_node.prune(root, plan())
    assert not os.path.exists(files_on_node.place(root))


def test_a_node_that_is_given_back_loses_all_that_is_ours(root: str) -> None:
    assert not files_on_node.remove(root)
    files_on_node.keep_contents(root, plan(*BOTH))
    for name in ("base-1", LEFT):
        Path(files_on_node.place(root), name).touch()
    assert files_on_node.remove(root)
    assert kept(root) == ["base-1"]
    assert not files_on_node.remove(root)


def test_a_directory_that_is_a_link_is_not_emptied(root: str, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / f"context-{digest(A)}").touch()
    os.symlink(tmp_path / "theirs", files_on_node.place(root))
    assert not files_on_node.remove(root)
    assert len(os.listdir(tmp_path / "theirs")) == 1
