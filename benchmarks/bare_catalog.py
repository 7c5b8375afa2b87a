#!/usr/bin/python3
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A peer: rows of a catalog by json and sqlite3, as short as it goes, with no decision at all. No line of ours.

usage: bare_catalog.py plan|record|again ASKED DATABASE BODY ANSWER HOSTS

ASKED is a file with what is asked as JSON. BODY, ANSWER: bytes of a machine's row, and of what is answered of it.
plan: each item becomes a row, and is dealt to one of HOSTS hosts; prints what each is to do. record: what the hosts say
becomes each row's state, with a line of history. again: each row is read, and compared with its item. All prints JSON.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TABLES = """
CREATE TABLE vms (id INTEGER PRIMARY KEY, name TEXT UNIQUE, state TEXT, body TEXT);
CREATE TABLE history (id INTEGER, step INTEGER, state TEXT, PRIMARY KEY (id, step)) WITHOUT ROWID;
"""


def filled(item: dict[str, Any], size: int) -> dict[str, Any]:
    """The item, with so many attributes that it has about that size as JSON."""
    each = len(json.dumps({"attribute-00": ["value", 0]}))
    missing = max(0, size - len(json.dumps(item))) // each
    return {**item, **{f"attribute-{number:02d}": ["value", number % 10] for number in range(missing)}}


def plan(db: sqlite3.Connection, asked: Any, body: int, answer: int, hosts: int) -> dict[str, Any]:
    db.executescript(TABLES)
    more = filled({}, body - len(json.dumps(asked[0])))
    rows = [(number, item["name"], "PENDING", json.dumps({**item, **more})) for number, item in enumerate(asked)]
    db.executemany("INSERT INTO vms VALUES (?, ?, ?, ?)", rows)
    more = filled({}, answer - len(json.dumps(asked[0])))
    plans: dict[str, list[Any]] = {}
    for number, item in enumerate(asked):
        plans.setdefault(f"host{number % hosts}", []).append({**item, **more})
    return {host: json.dumps(wanted) for host, wanted in plans.items()}


def record(db: sqlite3.Connection, asked: Any, _body: int, answer: int, _hosts: int) -> list[Any]:
    outcomes = [outcome for said in asked.values() for outcome in said["outcomes"]]
    db.executemany("UPDATE vms SET state = ? WHERE id = ?", [(each["state"], each["vm_id"]) for each in outcomes])
    db.executemany("INSERT INTO history VALUES (?, 0, ?)", [(each["vm_id"], each["state"]) for each in outcomes])
    more = filled({}, answer - len(json.dumps(outcomes[0])))
    return [{**each, **more} for each in outcomes]


def again(db: sqlite3.Connection, asked: Any, _body: int, answer: int, _hosts: int) -> list[Any]:
    found = {body["name"]: body for body in bodies(db)}
    same = [item for item in asked if item.items() <= found[item["name"]].items()]
    if len(same) != len(asked):
        raise SystemExit(f"{len(asked) - len(same)} rows are not as they were asked for")
    more = filled({}, answer - len(json.dumps(asked[0])))
    return [{**item, **more} for item in same]


def bodies(db: sqlite3.Connection) -> Iterator[dict[str, Any]]:
    for (body,) in db.execute("SELECT body FROM vms ORDER BY id"):
        yield json.loads(body)


def main(what: str, asked: str, database: str, body: str, answer: str, hosts: str) -> None:
    work = {"plan": plan, "record": record, "again": again}[what]
    with sqlite3.connect(database) as db:
        print(json.dumps(work(db, json.loads(Path(asked).read_bytes()), int(body), int(answer), int(hosts))))


if __name__ == "__main__":
    main(*sys.argv[1:])
