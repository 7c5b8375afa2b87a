# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of the marks by which hosts are known: one for each name, and one name for each."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.host_marks import HostMarks
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.schema import MIGRATIONS
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.store import Store


@pytest.fixture
def marks(tmp_path: Path):
    with contextlib.closing(Store(str(tmp_path), create=True)) as store, store.transaction():
        yield HostMarks(store)


def test_a_mark_is_made_once_for_each_name(marks: HostMarks) -> None:
    marks.make(["node1", "node2"])
    first = marks.of(["node1", "node2", "node3"])
    assert first.keys() == {"node1", "node2"} and len(set(first.values())) == 2
    marks.make(["node1", "node3"])
    assert marks.of(["node1"])["node1"] == first["node1"] and "node3" in marks.of(["node3"])
    assert marks.owner(first["node2"]) == "node2" and marks.owner("a" * 32) == ""


def test_what_a_host_shows_is_noted(marks: HostMarks) -> None:
    marks.make(["node1", "node2"])
    given = marks.of(["node1", "node2"])
    assert not marks.was_shown("node1")
    marks.keep("node1", given["node1"])
    assert marks.was_shown("node1") and not marks.was_shown("node2")
    # One of a catalog that was restored, or of a name that is on no record.
    marks.keep("node2", "a" * 32)
    assert marks.owner("a" * 32) == "node2" and marks.owner(given["node2"]) == "" and marks.was_shown("node2")


def test_a_mark_goes_with_its_host_to_another_name(marks: HostMarks) -> None:
    marks.make(["node1", "node2"])
    given = marks.of(["node1", "node2"])
    marks.keep("node1", given["node1"])
    marks.rename("node1", "node2")
    assert marks.of(["node1", "node2"]) == {"node2": given["node1"]} and marks.was_shown("node2")
    # A new host of the former name has another.
    marks.make(["node1"])
    assert marks.of(["node1"])["node1"] not in given.values()
    marks.forget("node2")
    assert marks.owner(given["node1"]) == ""


def test_hosts_of_an_older_catalog_get_marks_by_the_migration() -> None:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        before = next(number for number, step in enumerate(MIGRATIONS) if "TABLE host_marks" in step)
        for step in MIGRATIONS[:before]:
            db.executescript(step)
        for number in (1, 2):
            db.execute(f"INSERT INTO hosts (id, name, hypervisor, state) VALUES ({number}, 'node{number}', 'kvm', 2)")
        for step in MIGRATIONS[before:]:
            db.executescript(step)
        rows = db.execute("SELECT name, mark, shown FROM host_marks ORDER BY name").fetchall()
        assert [(name, len(mark), shown) for name, mark, shown in rows] == [("node1", 32, 0), ("node2", 32, 0)]
        assert rows[0][1] != rows[1][1]
