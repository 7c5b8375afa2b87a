# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths that are longer than the kernel takes in one call."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.host import untrusted_trees
from ansible_collections.nebula.provision.plugins.module_utils.storage.long_paths import OpenPaths

NAME = b"n" * 200
DEEP = b"/".join([NAME] * 60)


@pytest.fixture
def top(tmp_path: Path) -> Iterator[int]:
    """A directory in which DEEP is a path of directories."""
    tree = tmp_path / "tree"
    tree.mkdir()
    fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    here = os.dup(fd)
    for name in DEEP.split(b"/"):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    yield fd
    os.close(fd)
    untrusted_trees.remove(str(tree))


def made(places: OpenPaths, path: bytes) -> None:
    place, name = places.at(path)
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, dir_fd=place))


def test_short_paths_go_by_the_top(top: int) -> None:
    places = OpenPaths(top)
    assert places.at(b"") == (top, b"") and places.at(NAME + b"/x") == (top, NAME + b"/x")


def test_long_ones_by_a_directory_that_is_kept_open(top: int) -> None:
    places, before = OpenPaths(top), len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="File name too long"):
        os.mkdir(DEEP + b"/x", dir_fd=top)
    for name in (b"one", b"two"):
        made(places, DEEP + b"/" + name)
    place, name = places.at(DEEP + b"/three")
    assert sorted(os.listdir(os.open(b".", os.O_RDONLY, dir_fd=place))) == ["one", "two"] and name == b"three"
    # Up, beside, and down again.
    for path in (DEEP[: 201 * 40 - 1] + b"/x", DEEP + b"/four", DEEP[: 201 * 30 - 1] + b"/y"):
        made(places, path)
    places.forget()
    assert len(os.listdir("/proc/self/fd")) == before + 1


@pytest.mark.parametrize("path", [DEEP + b"/none/x", b"none/" + DEEP, DEEP + b"/file/x", DEEP + b"/" + b"n" * 5000])
def test_what_is_not_there_is_an_error_and_nothing_stays_open(top: int, path: bytes) -> None:
    places = OpenPaths(top)
    made(places, DEEP + b"/file")
    places.forget()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError):
        made(places, path)
    places.forget()
    assert len(os.listdir("/proc/self/fd")) == before


def test_after_a_directory_was_replaced_nothing_goes_by_the_old_one(top: int) -> None:
    places = OpenPaths(top)
    made(places, DEEP + b"/old")
    os.rename(NAME, b"moved", src_dir_fd=top, dst_dir_fd=top)
    places.forget()
    with pytest.raises(FileNotFoundError):
        places.at(DEEP + b"/new")
