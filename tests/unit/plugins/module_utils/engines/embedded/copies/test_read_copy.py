# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of a catalog: sound ones are told from others, and say what they hold."""

from __future__ import annotations

import contextlib
import os

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.copies import read_copy
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.schema import VERSION
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.store import CATALOG, Store
from ansible_collections.nebula.provision.plugins.module_utils.errors import CatalogError, NotFound
from ansible_collections.nebula.provision.plugins.module_utils.model.catalog_backup import CatalogCopy
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.copies.conftest import (
    spoiled,
)


def test_a_copy_tells_what_it_holds(place, copy):
    with contextlib.closing(EmbeddedEngine(str(place))) as engine:
        assert copy.catalog == engine.catalog()
        assert copy.known == {record.uuid for record in engine.vms.pool()}
        assert [image.uuid for image in copy.images] == [image.uuid for image in engine.images.pool()]
    assert (copy.plan, copy.schema, copy.machines, copy.restored) == (1, VERSION, 2, "")
    # The next range of network 0 among them.
    assert dict(copy.next_ids) == {"hosts": 1, "images": 1, "networks": 1, "ar/0": 1, "templates": 1, "vms": 2}


def test_a_copy_is_one_file_that_looking_leaves_alone(place, copy):
    before = (place / "copy").read_bytes()
    assert read_copy.look(str(place / "copy")) == copy
    assert (place / "copy").read_bytes() == before
    assert [name for name in os.listdir(place) if name.startswith("copy")] == ["copy"]


def test_a_copy_with_its_log_beside_it_is_read_with_that(tmp_path):
    with contextlib.closing(Store(str(tmp_path), create=True)) as store:
        with store.transaction():
            store.db.execute("UPDATE meta SET value = '41' WHERE key = 'plan'")
        assert (tmp_path / f"{CATALOG}-wal").stat().st_size
        assert read_copy.look(store.path).plan == 41


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("DELETE FROM meta WHERE key = 'catalog'", "no catalog"),
        ("UPDATE meta SET value = 'many' WHERE key = 'plan'", "no catalog"),
        ("DROP TABLE sequences", "no such table"),
        ("DELETE FROM hosts", "a row of vms refers to a hosts that is not there"),
        ("PRAGMA user_version = 0", "it is empty"),
    ],
)
def test_a_copy_that_is_not_sound_is_told_and_left(place, tmp_path, statement, told):
    path = spoiled(place, tmp_path / "bad", statement)
    before = (tmp_path / "bad").read_bytes()
    with pytest.raises(CatalogError) as caught:
        read_copy.look(path)
    assert caught.value.asked == f"catalog {path}"
    assert "damaged" in caught.value.found and told in caught.value.found
    assert "this file was left as it is" in caught.value.remedy
    assert (tmp_path / "bad").read_bytes() == before


@pytest.mark.parametrize("content", [b"no catalog" * 1000, b"", b"SQLite format 3\0"])
def test_a_file_that_is_no_catalog_is_told(tmp_path, content):
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(CatalogError, match="damaged"):
        read_copy.look(str(tmp_path / "bad"))


def test_a_file_that_is_not_there_is_told_and_not_made(tmp_path):
    with pytest.raises(CatalogError, match="nosuch"):
        read_copy.look(str(tmp_path / "nosuch"))
    assert os.listdir(tmp_path) == []


def test_machines_that_ended_are_not_among_those_of_a_copy(place, copy, tmp_path):
    found = read_copy.look(spoiled(place, tmp_path / "ended", "UPDATE vms SET state = 6 WHERE id = 1"))
    assert found.machines == 1
    assert found.known < copy.known


def test_a_newer_copy_is_for_a_newer_collection(place, tmp_path):
    path = spoiled(place, tmp_path / "newer", f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(CatalogError) as caught:
        read_copy.look(path)
    assert caught.value.found == f"its schema is version {VERSION + 1}, this collection knows up to {VERSION}"
    assert "Use the newer" in caught.value.remedy


def test_a_catalog_in_which_nothing_was_made_is_none(tmp_path, place, copy):
    assert read_copy.present(str(tmp_path)) is None
    (tmp_path / CATALOG).touch()
    assert read_copy.present(str(tmp_path)) is None
    Store(str(tmp_path), create=True).close()
    assert read_copy.present(str(tmp_path)) is None
    assert read_copy.present(str(place)) == copy


def test_what_is_in_place_and_damaged_is_told(tmp_path):
    (tmp_path / CATALOG).write_bytes(b"no catalog" * 1000)
    with pytest.raises(CatalogError, match="damaged, or no catalog"):
        read_copy.present(str(tmp_path))


def test_the_origin_is_what_a_copy_says_and_not_how_it_lies_there(place, tmp_path):
    origin = read_copy.origin_of(str(place / "copy"))
    assert len(origin) == 64
    assert read_copy.origin_of(spoiled(place, tmp_path / "same", "VACUUM")) == origin
    assert read_copy.origin_of(spoiled(place, tmp_path / "other", "UPDATE hosts SET memory = 1")) != origin
    assert read_copy.origin_of("") == ""


def test_a_copy_needs_a_place_that_can_be_written(place, tmp_path):
    with contextlib.closing(Store(str(place))) as store, pytest.raises(NotFound, match="nosuch/copy"):
        read_copy.take(store, str(tmp_path / "nosuch" / "copy"))


def test_a_copy_says_of_itself_what_it_says_to_others(place, tmp_path):
    with contextlib.closing(Store(str(place))) as store:
        taken = read_copy.take(store, str(tmp_path / "copy"))
    assert isinstance(taken, CatalogCopy)
    assert taken == read_copy.look(str(tmp_path / "copy"))
    assert os.listdir(tmp_path) == ["copy"]
