# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of a catalog: what their rules keep, and that each version leads to the next and loses nothing."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.schema import MIGRATIONS, VERSION
from ansible_collections.nebula.provision.plugins.module_utils.model.datastore import DatastoreType
from ansible_collections.nebula.provision.plugins.module_utils.model.image import checksums_of
from ansible_collections.nebula.provision.plugins.module_utils.model.transfer import SHARED

# A catalog as the first version of the collection wrote it.
VERSION_1 = Path(__file__).resolve().parents[5] / "fixtures" / "catalog" / "version_1.sql"
# What came to SQLite after 3.34.
NEWER = r"\b(RETURNING|STRICT|DROP\s+COLUMN|RIGHT\s+JOIN|FULL\s+JOIN|IS\s+(NOT\s+)?DISTINCT|->>?|jsonb?_\w*)\b"
VM = "INSERT INTO vms (id, name, uuid, state, lcm_state, wanted, cpu, memory, request, body, stime) VALUES"


@pytest.fixture
def db():
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as opened:
        opened.execute("PRAGMA foreign_keys = ON")
        yield opened


@pytest.fixture
def newest(db):
    for step in MIGRATIONS:
        db.executescript(step)
    return db


def tables(db):
    """The names of all tables and indexes to the columns that they have."""
    named = db.execute("SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'").fetchall()
    return {
        (kind, name): [row[1:] for row in db.execute(f"PRAGMA {'table' if kind == 'table' else 'index'}_info({name})")]
        for kind, name in named
    }


def test_the_version_counts_the_migrations():
    assert len(MIGRATIONS) == VERSION


def test_the_first_step_makes_what_the_first_version_wrote(db):
    db.executescript(MIGRATIONS[0])
    with contextlib.closing(sqlite3.connect(":memory:")) as written:
        written.executescript(VERSION_1.read_text(encoding="utf-8"))
        assert tables(db) == tables(written)


@pytest.mark.parametrize("step", range(len(MIGRATIONS)))
def test_steps_hold_no_semicolon_but_between_statements(step):
    """They are cut there, since they run within one transaction."""
    for part in MIGRATIONS[step].split(";"):
        assert not part.strip() or sqlite3.complete_statement(part + ";")
    assert not re.search(r"\b(BEGIN|COMMIT|PRAGMA|TRIGGER)\b", MIGRATIONS[step])


@pytest.mark.parametrize("step", range(len(MIGRATIONS)))
def test_steps_have_nothing_that_an_older_sqlite_lacks(step):
    assert not re.search(NEWER, MIGRATIONS[step], re.IGNORECASE)


def test_what_an_old_catalog_says_is_there_after_all_steps(db, newest):
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as old:
        old.executescript(VERSION_1.read_text(encoding="utf-8"))
        before = {
            name: old.execute(f"SELECT * FROM {name}").fetchall() for kind, name in tables(old) if kind == "table"
        }
        # Of checksums it has none.
        before["images"] = [(*row[:12], "{}", *row[13:]) for row in before["images"]]
        for step in MIGRATIONS[1:]:
            old.executescript(step)
        for name, rows in before.items():
            after = old.execute(f"SELECT * FROM {name}").fetchall()
            if name == "meta":
                after = [row for row in after if not row[0].startswith("plan_key")]
            assert [row[: len(rows[0])] for row in after] == rows if rows else after == []
        assert tables(old) == tables(newest)
        assert old.execute("SELECT overhead, overhead_used, transfer FROM hosts").fetchall() == [("{}", 0, SHARED)]
        assert old.execute("SELECT operation, notes, unfinished FROM images").fetchall() == [("", "{}", "")]
        assert old.execute("PRAGMA foreign_key_check").fetchall() == []


def test_a_catalog_that_made_plans_without_proofs_notes_the_last_of_them():
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        last = next(number for number, step in enumerate(MIGRATIONS) if "plan_key" in step)
        for step in MIGRATIONS[:last]:
            db.executescript(step)
        db.execute("INSERT INTO meta VALUES ('plan', '7')")
        db.executescript(MIGRATIONS[last])
        key, since = (
            db.execute("SELECT value FROM meta WHERE key = ?", (name,)).fetchone()[0]
            for name in ("plan_key", "plan_key_since")
        )
    assert re.fullmatch(r"[0-9a-f]{64}", key) and since == "7"


def test_networks_that_are_filtered_are_told_once_what_no_longer_passes():
    filtered = '{"FILTERS_ON_NODE": "YES", "GATEWAY": "10.0.0.1"}'
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        last = next(number for number, step in enumerate(MIGRATIONS) if "ETHERTYPES_UNTOLD" in step)
        for step in MIGRATIONS[:last]:
            db.executescript(step)
        for number, (driver, text) in enumerate([("bridge", filtered), ("bridge", "{}"), ("ovn", "{}")]):
            db.execute(
                "INSERT INTO networks (id, name, uuid, vn_mad, bridge, state, attributes)"
                " VALUES (?, ?, ?, ?, 'b', 1, ?)",
                (number, f"n{number}", f"u{number}", driver, text),
            )
        db.executescript(MIGRATIONS[last])
        found = [json.loads(text) for (text,) in db.execute("SELECT attributes FROM networks ORDER BY id")]
    untold = {"ETHERTYPES_UNTOLD": "YES"}
    assert found == [{**untold, "FILTERS_ON_NODE": "YES", "GATEWAY": "10.0.0.1"}, {}, untold]


def test_leases_say_what_holds_them():
    before = [(0, 0, 7, 2, ""), (0, 1, 7, None, ""), (0, 2, None, 8, ""), (0, 3, None, 99, "")]
    before.append((0, 4, None, None, "router/3"))
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        db.execute("PRAGMA foreign_keys = ON")
        last = next(number for number, step in enumerate(MIGRATIONS) if "kind" in step)
        for step in MIGRATIONS[:last]:
            db.executescript(step)
        db.execute(
            "INSERT INTO networks (id, name, uuid, vn_mad, bridge, state) VALUES (0, 'n', 'u', 'bridge', 'b', 1)"
        )
        db.execute("INSERT INTO address_ranges (network_id, ar_id, type, size, mac) VALUES (0, 0, 'IP4', 9, 'm')")
        db.execute(machine(7))
        db.execute(machine(8, name="lost", state=6, wanted="DONE"))
        db.execute("INSERT INTO given_up (vm_id, host) VALUES (8, 'node1')")
        db.executemany("INSERT INTO leases VALUES (0, ?, ?, ?, ?, ?)", before)
        db.execute("BEGIN")
        for statement in MIGRATIONS[last].split(";"):
            db.execute(statement)
        db.execute("COMMIT")
        assert db.execute("SELECT offset, kind, vm_id, nic_id, holder FROM leases").fetchall() == [
            (0, "nic", 7, 2, ""),
            (1, "leaving", 7, None, ""),
            (2, "given_up", 8, None, ""),
            (3, "unknown", 99, None, ""),
            (4, "reserved", None, None, "router/3"),
        ]
        with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
            db.execute("DELETE FROM address_ranges")


def test_checksums_of_images_are_kept_by_their_algorithms():
    before = ["", "sha256:ab", "md5:12 sha256:ab"]
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        last = next(number for number, step in enumerate(MIGRATIONS) if "checksums" in step)
        for step in MIGRATIONS[:last]:
            db.executescript(step)
        for number, text in enumerate(before):
            values = (number, f"i{number}", f"u{number}", text)
            db.execute("INSERT INTO images (id, name, uuid, type, state, checksum) VALUES (?, ?, ?, 0, 1, ?)", values)
        db.executescript(MIGRATIONS[last])
        found = [json.loads(text) for (text,) in db.execute("SELECT checksums FROM images ORDER BY id")]
    assert found == [{}, {"sha256": "ab"}, {"md5": "12", "sha256": "ab"}]
    assert [list(each) for each in found] == [list(checksums_of(text)) for text in before]


def test_a_catalog_begins_with_its_three_datastores(newest):
    found = newest.execute("SELECT id, name, type, capacity_check FROM datastores ORDER BY id").fetchall()
    assert found == [
        (0, "system", DatastoreType.SYSTEM, 1),
        (1, "default", DatastoreType.IMAGE, 1),
        (2, "files", DatastoreType.FILE, 1),
    ]


def machine(number, name="web", uuid="", state=3, wanted="RUNNING"):
    return f"{VM} ({number}, '{name}', '{uuid or number}', {state}, 3, '{wanted}', 1, 64, '[]', '', 0)"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"wanted": "DONE"}, {}),
        ({"name": "a", "uuid": "u", "state": 6, "wanted": "DONE"}, {"name": "b", "uuid": "u"}),
        ({"uuid": "u", "state": 6, "wanted": "DONE"}, {"uuid": "u"}),
    ],
)
def test_what_an_ending_machine_had_is_free_for_the_next(newest, first, second):
    newest.execute(machine(0, **first))
    newest.execute(machine(1, **second))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {}),
        # Its name is another's from the decision on; its uuid only once it has ended.
        ({"name": "a", "uuid": "u", "wanted": "DONE"}, {"name": "b", "uuid": "u"}),
        ({"name": "a", "uuid": "u"}, {"name": "b", "uuid": "u"}),
    ],
)
def test_a_name_and_a_uuid_are_one_machines(newest, first, second):
    newest.execute(machine(0, **first))
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        newest.execute(machine(1, **second))


@pytest.mark.parametrize("table", ["images", "networks", "templates", "hosts", "datastores"])
def test_the_name_of_an_object_is_its_own(newest, table):
    needed = [row[1] for row in newest.execute(f"PRAGMA table_info({table})") if row[3] and row[4] is None]
    columns = ["id", *(column for column in needed if column != "id")]
    insert = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
    values = ["x" if column == "name" else "1" for column in columns[1:]]
    newest.execute(insert, [7, *values])
    with pytest.raises(sqlite3.IntegrityError, match=f"{table}.name"):
        newest.execute(insert, [8, *("2" if value == "1" else value for value in values)])


def test_ranges_go_with_their_network_and_not_while_an_address_is_leased(newest):
    newest.execute(
        "INSERT INTO networks (id, name, uuid, vn_mad, bridge, state) VALUES (0, 'n', 'u', 'bridge', 'b', 1)"
    )
    newest.execute("INSERT INTO address_ranges (network_id, ar_id, type, size, mac) VALUES (0, 0, 'IP4', 4, 'm')")
    # A lease of no machine holds its address too.
    newest.execute("INSERT INTO leases (network_id, ar_id, offset, kind) VALUES (0, 0, 1, 'reserved')")
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        newest.execute("DELETE FROM networks")
    newest.execute("DELETE FROM leases")
    newest.execute("DELETE FROM networks")
    assert newest.execute("SELECT count(*) FROM address_ranges").fetchone() == (0,)


@pytest.mark.parametrize(
    "insert",
    [
        "INSERT INTO leases (network_id, ar_id, offset) VALUES (0, 0, 0)",
        "INSERT INTO vm_images VALUES (9, 0, 0, 0)",
        "INSERT INTO vnc_ports VALUES (0, 5900, 9)",
        "INSERT INTO history VALUES (9, 0, 0, 'node1', 'RUNNING', '', '')",
    ],
)
def test_nothing_is_had_by_a_machine_or_in_a_range_that_is_not_there(newest, insert):
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        newest.execute(insert)
