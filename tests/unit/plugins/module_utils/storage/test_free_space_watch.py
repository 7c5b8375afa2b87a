# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Room is looked at again and again, and not with each file."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import NoSpace
from ansible_collections.nebula.provision.plugins.module_utils.storage.free_space_watch import Room

MIB = 1024 * 1024


@pytest.fixture
def found(monkeypatch):
    """What the file system answers, and how often it was asked."""
    state = SimpleNamespace(f_bavail=1000, f_frsize=MIB, f_files=10000, f_favail=5000, asked=0)

    def statvfs(_place):
        state.asked += 1
        return state

    monkeypatch.setattr(os, "statvfs", statvfs)
    return state


def test_it_is_looked_at_at_once_and_after_so_much(found):
    room = Room("image demo", ".", 100 * MIB)
    room.take(made=1)
    assert found.asked == 1
    for _file in range(511):
        room.take(1000, 1)
    assert found.asked == 1
    room.take(made=1)
    assert found.asked == 2
    room.take(31 * MIB)
    assert found.asked == 2
    room.take(MIB)
    assert found.asked == 3


def test_bytes_and_files_that_are_left(found):
    room = Room("image demo", ".", 100 * MIB)
    room.take(40 * MIB)
    found.f_bavail = 99
    with pytest.raises(NoSpace, match="image demo: 99 MiB are left of the file system after 80 MiB of it; 100 MiB"):
        room.take(40 * MIB)
    found.f_bavail, found.f_favail = 1000, 1000
    with pytest.raises(NoSpace, match="can have 1000 files more, after 600 of it"):
        room.take(made=600)
    # One that does not count them, as btrfs.
    found.f_files = 0
    room.take(made=600)


def test_a_real_file_system(tmp_path):
    Room("image demo", str(tmp_path), 0).take(made=1)
    with pytest.raises(NoSpace):
        Room("image demo", str(tmp_path), 1 << 62).take(made=1)
