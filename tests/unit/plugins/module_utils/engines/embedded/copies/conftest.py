# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A catalog with two machines, and a copy of it."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.copies import read_copy
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.conftest import furnish
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.conftest import decide, obey

WEB = {"name": "web-%i", "count": 2, "template": "web"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with a catalog in which two machines run, and a copy of it."""
    root = tmp_path_factory.mktemp("place")
    with contextlib.closing(EmbeddedEngine(str(root), create=True)) as engine:
        furnish(engine)
        with engine.session():
            obey(engine, decide(engine, WEB))
        read_copy.take(engine.store, str(root / "copy"))
    return root


@pytest.fixture(scope="module")
def copy(place):
    return read_copy.look(str(place / "copy"))


def spoiled(place, path, *statements):
    path.write_bytes((place / "copy").read_bytes())
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)
    return str(path)
