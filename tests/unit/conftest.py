# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What unit tests have in common: programs that stand in for others lie where no sandbox shows them, so that there is
none. What it does is tried in host/test_sandbox.py and in tests/integration/test_hostile_images.py. And nothing waits
for the disk: what a power cut leaves is tried in tests/integration/test_power_cut.py."""

from __future__ import annotations

import functools
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.open import appliance_qemu
from ansible_collections.nebula.provision.plugins.module_utils.host import command, sandbox, unsandboxed_programs

FSYNC = os.fsync


class UnsyncedConnection(sqlite3.Connection):
    """A catalog's, which asks for everything to be on the disk at each commit."""

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        if sql.startswith("PRAGMA journal_mode"):
            super().execute("PRAGMA synchronous = OFF")
        return super().execute("PRAGMA synchronous = OFF" if sql.startswith("PRAGMA synchronous") else sql, *arguments)


@pytest.fixture(autouse=True, scope="session")
def unsynced() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", functools.partial(sqlite3.connect, factory=UnsyncedConnection))
        patch.setattr(os, "fsync", lambda _fd: None)
        yield


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel drops no page of a file before it is on the disk."""
    monkeypatch.setattr(os, "fsync", FSYNC)


@pytest.fixture(autouse=True)
def no_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(
        argv: Sequence[str], _files: Mapping[str, str], end_with_us: bool = False, **options: Any
    ) -> command.Completed:
        return command.run(argv, **options)

    monkeypatch.setattr(sandbox, "run", run)
    monkeypatch.setattr(sandbox, "offline_words", list)
    # What ran without it is no matter of the next test.
    monkeypatch.setattr(unsandboxed_programs, "_without", {})
    monkeypatch.setattr(sandbox, "sandbox_words", lambda _program, _memory: [])
    monkeypatch.setattr(appliance_qemu, "why_unconfined", lambda: "this is a unit test")
