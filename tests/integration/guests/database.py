# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest of agent.py, with a database of SQLite on its ext4 that is written to all the time, too.

Its console has a line `row <number>` for each transaction that has come to its end. In each of them a row comes, and
the table total counts it: in whatever moment somebody copies the disk, both are equal, and rows of the console are
there."""

from __future__ import annotations

import re
import sqlite3
import subprocess
from pathlib import Path

from . import agent

SQLITE = "usr/bin/sqlite3"
PACKAGES = [*agent.PACKAGES, "sqlite3", "libsqlite3-0", "zlib1g"]
FILE = "data.db"
WRITER = r"""
writing() {
    # With less the end of a transaction can be lost with the power.
    echo "PRAGMA synchronous = EXTRA;"
    echo "CREATE TABLE IF NOT EXISTS entries(number INTEGER PRIMARY KEY, content TEXT);"
    echo "CREATE TABLE IF NOT EXISTS total(number INTEGER);"
    echo "INSERT INTO total SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM total);"
    while true; do
        echo "BEGIN; INSERT INTO entries(content) VALUES(hex(randomblob(400)));"
        echo "UPDATE total SET number = number + 1; COMMIT;"
        echo "SELECT 'row ' || max(number) FROM entries;"
        sleep 0.1
    done
}
[ -d /mnt/lost+found ] && writing | sqlite3 /mnt/data.db > /dev/console 2>&1 &
number=0
"""
BOOT = agent.BOOT.replace("\nnumber=0\n", WRITER)


def image() -> Path:
    return agent.made("database", PACKAGES, (agent.PROGRAM, *agent.TOOLS, SQLITE), BOOT)


def rows(console: str) -> int:
    """The number of the last row whose transaction has ended, as the guest says it."""
    return max((int(number) for number in re.findall(r"row (\d+)\r?\n", console)), default=0)


def rows_on(raw: str, place: Path) -> int:
    """How many rows the database has on this ext4, which is repaired first, as by the next boot. Its integrity is
    checked, and that it holds whole transactions alone."""
    repaired = subprocess.run(["e2fsck", "-f", "-p", raw], check=False, capture_output=True, text=True)
    assert repaired.returncode in (0, 1), repaired.stdout
    for name in (FILE, f"{FILE}-journal"):
        (place / name).unlink(missing_ok=True)
        subprocess.run(["debugfs", "-R", f"dump /{name} {place / name}", raw], check=True, capture_output=True)
        if (place / name).exists() and name != FILE and not (place / name).stat().st_size:
            (place / name).unlink()
    database = sqlite3.connect(place / FILE)
    try:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        (count,) = database.execute("SELECT count(*) FROM entries").fetchone()
        (total,) = database.execute("SELECT number FROM total").fetchone()
    finally:
        database.close()
    assert count == total
    return int(count)
