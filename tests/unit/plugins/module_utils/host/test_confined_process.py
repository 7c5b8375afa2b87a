# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job can reach, as whom it runs, and what becomes of its answers, its errors and its end."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from move_pairs import Beside

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    Fault,
    ImageRefused,
    InvalidValue,
    NoSpace,
    NotFound,
    TimedOut,
    Unsupported,
)
from ansible_collections.nebula.provision.plugins.module_utils.host import confined_process
from ansible_collections.nebula.provision.plugins.module_utils.host.confined_process import View
from ansible_collections.nebula.provision.plugins.module_utils.model.container_user_ids import IdRange
from ansible_collections.nebula.provision.tests.tools import confined_jobs

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes namespaces")
IDS, OTHERS = IdRange(0x24000000), IdRange(0x25000000, 100)
LEFT_OVER = 65534


@pytest.fixture
def tree(tmp_path: Path) -> str:
    path = tmp_path / "tree"
    path.mkdir()
    for name, uid in (("root", IDS.start), ("user", IDS.start + 1000), ("hosts", 0), ("other", OTHERS.start + 7)):
        (path / name).write_text(name)
        os.chown(path / name, uid, uid)
        (path / name).chmod(0o600)
    os.chown(path, IDS.start, IDS.start)
    return str(path)


def run(job, view: View, **arguments):
    return confined_process.run(job, arguments, view, "the task", timeout=60)


@needs_root
def test_its_root_is_the_tree_and_nothing_else_is_there(tree):
    found = run(confined_jobs.see, View([IDS], root=tree), paths=["/root", "/etc", "/proc", "/dev", "/usr", tree])
    assert found["root"] == ["hosts", "other", "root", "user"] and found["there"] == ["/root"]
    assert found["ids"] == [0, 0, [], 1]
    assert found["owners"] == {"root": 0, "user": 1000, "hosts": LEFT_OVER, "other": LEFT_OVER}
    # Its three streams and the channel for its answer.
    assert len(found["descriptors"]) == 4


@needs_root
def test_ranges_are_one_behind_another(tree):
    found = run(confined_jobs.see, View([IDS, OTHERS], root=tree), paths=[])
    assert found["owners"] == {"root": 0, "user": 1000, "hosts": LEFT_OVER, "other": 65536 + 7}


@needs_root
def test_what_it_may_do(tree):
    steps = [
        ["chown", "/root", 5, 6], ["chown", "/hosts", 5, 6], ["chmod", "/hosts", 0o777], ["unlink", "/hosts"],
        ["mkdir", "/new", 0o755], ["mknod", "/device", 0o60600, 0x800], ["open", "/hosts", os.O_RDONLY],
        ["setresuid", 70000, 70000, 70000], ["chroot", "/new"], ["open", "../../../../hosts", os.O_RDONLY],
    ]  # fmt: skip
    answers = run(confined_jobs.attempt, View([IDS], root=tree), steps=steps)["answers"]
    no = "Operation not permitted"
    # Its own directory's entries are its own, whoever owns the files.
    assert answers[:6] == ["None", no, no, "None", "None", no]
    assert answers[7:9] == ["Invalid argument", "None"] and "No such file" in answers[9]
    assert os.stat(f"{tree}/root").st_uid == IDS.start + 5 and os.stat(f"{tree}/new").st_gid == IDS.start


@needs_root
def test_what_only_reads_is_not_written(tree, tmp_path):
    (tmp_path / "target").mkdir()
    os.chown(tmp_path / "target", IDS.start, IDS.start)
    view = View([IDS], below=[("source", tree), ("target", str(tmp_path / "target"))], reads=[tree])
    steps = [["mkdir", "/source/new"], ["mkdir", "/target/new"], ["mkdir", "/new"], ["unlink", "/source/root"]]
    answers = run(confined_jobs.attempt, view, steps=steps)["answers"]
    assert answers == ["Read-only file system", "None", "Permission denied", "Read-only file system"]
    assert os.listdir(tmp_path / "target") == ["new"]


@needs_root
def test_what_is_mounted_below_is_not_there(tree):
    found = run(confined_jobs.attempt, View([IDS], root="/dev"), steps=[["listdir", "/shm"], ["listdir", "/pts"]])
    assert found["answers"] == ["[]", "[]"]


@needs_root
@pytest.mark.parametrize("what", ["link", "file", "nothing"])
def test_a_root_that_is_no_directory(what, tree, tmp_path):
    (tmp_path / "link").symlink_to(tree)
    (tmp_path / "file").write_text("x")
    with pytest.raises(Unsupported, match=r"Not a directory|No such file"):
        run(confined_jobs.see, View([IDS], root=str(tmp_path / what)), paths=[])


@needs_root
def test_it_reads_blocks_and_writes_to_a_file(tree, tmp_path):
    blocks = [b"x" * 3_000_000, b"", b"y" * 10]
    with (tmp_path / "out").open("wb") as file:
        view = View([IDS], root=tree)
        done = confined_process.run(
            confined_jobs.copy, {}, view, "the task", timeout=60, target=file.fileno(), blocks=(b for b in blocks)
        )
    assert done == {"bytes": 3_000_010} and (tmp_path / "out").read_bytes() == b"".join(blocks)


@needs_root
def test_one_that_does_not_read_on_and_blocks_that_fail(tree):
    closed = []

    def blocks(error: bool):
        try:
            yield b"x" * 100
            while not error:
                yield bytes(1 << 20)
            raise ImageRefused("the blocks", "are damaged")
        finally:
            closed.append(error)

    view = View([IDS], root=tree)
    done = confined_process.run(confined_jobs.take, {"count": 7}, view, "the task", timeout=60, blocks=blocks(False))
    assert done == {"bytes": 7}
    with pytest.raises(ImageRefused, match="are damaged"):
        confined_process.run(confined_jobs.copy, {}, view, "the task", timeout=60, blocks=blocks(True))
    assert closed == [False, True]


@needs_root
@pytest.mark.parametrize(
    ("how", "kind", "found"),
    [
        ("error", NoSpace, "what was asked .*: what was found. what to do"),
        ("system", NotFound, r"path /missing\n    : No such file"),
        ("memory", ImageRefused, "more than 512 MiB of memory"),
        ("end", Fault, "the task: the process that does it ended"),
        ("exit", Fault, "ended .7.: the last words"),
        ("fault", Fault, "ValueError: not foreseen"),
    ],
)
def test_errors(how, kind, found, tree):
    with pytest.raises(kind, match=found):
        run(confined_jobs.fail, View([IDS], root=tree), how=how)


@needs_root
def test_one_that_does_not_end_is_ended(tree):
    began = time.monotonic()
    with pytest.raises(TimedOut, match="the task: not done after 1 s"):
        confined_process.run(confined_jobs.fail, {"how": "never"}, View([IDS], root=tree), "the task", timeout=1)
    assert time.monotonic() - began < 15


@needs_root
@pytest.mark.parametrize(
    ("how", "found"),
    [
        ("flood", "its answer has more than .* MiB"),
        ("errors", "the process that does it ended"),
        ("held", "the process that does it ended"),
    ],
)
def test_one_that_answers_without_end_or_keeps_its_errors_open_is_ended(how, found, tree, monkeypatch):
    monkeypatch.setattr(confined_process, "_ERROR_SECONDS", 0.5, raising=False)
    began = time.monotonic()
    working = Beside(
        lambda: confined_process.run(confined_jobs.fail, {"how": how}, View([IDS], root=tree), "the task", timeout=600)
    )
    with pytest.raises(Fault, match=f"the task: {found}"):
        working.result()
    assert time.monotonic() - began < 25


@needs_root
def test_one_that_answers_bit_by_bit_is_ended(tree):
    began = time.monotonic()
    with pytest.raises(TimedOut, match="the task: not done after 2 s"):
        confined_process.run(confined_jobs.fail, {"how": "trickle"}, View([IDS], root=tree), "the task", timeout=2)
    assert time.monotonic() - began < 20


@needs_root
def test_ids_that_the_kernel_does_not_give(tree):
    with pytest.raises(Unsupported, match="a user namespace with ids of its own: Invalid argument"):
        run(confined_jobs.see, View([IDS, IDS], root=tree), paths=[])


def test_only_root_can(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(InvalidValue, match="become: true"):
        run(confined_jobs.see, View([IDS], root="/"), paths=[])
