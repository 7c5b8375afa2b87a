# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trees are removed and measured whatever is in them, and nothing beside them is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from odd_files import dig

from ansible_collections.nebula.provision.plugins.module_utils.errors import CommandFailed, NotFound
from ansible_collections.nebula.provision.plugins.module_utils.host import untrusted_trees

ROOT = Path(__file__).resolve().parents[5]


@pytest.fixture
def beside(tmp_path: Path):
    path = tmp_path / "beside"
    path.mkdir()
    (path / "file").write_text("content")
    yield path
    assert (path / "file").read_text() == "content" and sorted(os.listdir(tmp_path)) == ["beside"]


def test_what_is_in_it_is_removed_and_what_it_leads_to_is_not(tmp_path, beside):
    tree = tmp_path / "tree"
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/link").symlink_to(beside)
    (tree / "a/b/up").symlink_to("../../../beside/file")
    os.link(beside / "file", tree / "hard")
    os.mkfifo(tree / "fifo")
    (tree / "a/b").chmod(0)
    (tree / os.fsdecode(b"\xff\n")).write_text("x")
    assert untrusted_trees.remove(str(tree)) and not untrusted_trees.remove(str(tree))


def test_a_link_is_removed_itself(tmp_path, beside):
    (tmp_path / "tree").symlink_to(beside)
    assert untrusted_trees.remove(str(tmp_path / "tree"))


def test_a_file_is_removed(tmp_path, beside):
    (tmp_path / "tree").write_text("x")
    assert untrusted_trees.remove(str(tmp_path / "tree"))


def test_a_tree_in_nothing(tmp_path):
    with pytest.raises(NotFound):
        untrusted_trees.remove(str(tmp_path / "missing/tree"))


def test_many_names_and_many_directories(tmp_path, beside):
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(5000):
        (tree / f"f{number}").touch()
        if number % 10 == 0:
            (tree / f"d{number}").mkdir()
            (tree / f"d{number}/f").touch()
    assert untrusted_trees.remove(str(tree))


def test_deeper_than_a_path_can_say(tmp_path, beside):
    tree = tmp_path / "tree"
    tree.mkdir()
    dig(tree, 3000)
    assert untrusted_trees.remove(str(tree))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
@pytest.mark.parametrize("place", ["", "a", "a/b", "a/file"])
def test_what_is_mounted_is_not_gone_into(place, tmp_path, beside):
    """In a namespace of its own, where a tree and a file of the same file system are mounted in it."""
    tree = tmp_path / "tree"
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/file").write_text("x")
    source = beside / "file" if place == "a/file" else beside
    program = (
        "import subprocess, sys; sys.path.insert(0, sys.argv[1])\n"
        "from ansible_collections.nebula.provision.plugins.module_utils.host import untrusted_trees\n"
        "from ansible_collections.nebula.provision.plugins.module_utils.errors import InUse\n"
        "subprocess.run(['mount', '--bind', *sys.argv[2:4]], check=True)\n"
        "try:\n    untrusted_trees.remove(sys.argv[4])\n"
        "except InUse as error:\n    print(error)\n"
    )
    words = [sys.executable, "-c", program, str(ROOT / "collections"), str(source), str(tree / place), str(tree)]
    done = subprocess.run(["unshare", "-m", *words], check=True, capture_output=True, text=True)
    assert "something is mounted there" in done.stdout and "Unmount it" in done.stdout
    assert tree.is_dir() and untrusted_trees.remove(str(tree))


def test_taken(tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a").write_bytes(os.urandom(1 << 20))
    os.link(tree / "a", tree / "b")
    with (tree / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    (tree / "link").symlink_to("/usr")
    assert 1 << 20 <= untrusted_trees.bytes_on_disk(str(tree)) < (1 << 20) + 64 * 1024
    with pytest.raises(CommandFailed, match="No such file"):
        untrusted_trees.bytes_on_disk(str(tmp_path / "missing"))
