# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mark of the catalog in its image datastore."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.storage import datastore_mark

CATALOG = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "datastores" / "1").mkdir(parents=True)
    return tmp_path


# -- shared or ssh ----------------------------------------------------------------------------------------------------
def test_the_catalogs_mark_is_written_once_and_taken_away_with_what_kills_left(root):
    assert datastore_mark.write(str(root), CATALOG)
    assert not datastore_mark.write(str(root), CATALOG)
    place = root / "datastores" / "1"
    mark = place / ".nebula-catalog"
    assert str(mark) == datastore_mark.path(str(root))
    assert mark.read_text() == f"{CATALOG}\n"
    assert mark.stat().st_mode & 0o777 == 0o444
    (place / ".nebula-catalog.tmp").touch()
    (place / "..nebula-catalog.x1.tmp").touch()
    datastore_mark.remove(str(root))
    assert [path.name for path in place.iterdir()] == [".nebula-catalog.tmp"]
    datastore_mark.remove(str(root))


def test_a_catalog_without_a_name_marks_nothing(root):
    assert not datastore_mark.write(str(root), "")
    assert list((root / "datastores" / "1").iterdir()) == []


def test_where_there_is_no_datastore_no_mark_is_taken_away(tmp_path):
    datastore_mark.remove(str(tmp_path / "none"))
    assert list(tmp_path.iterdir()) == []
