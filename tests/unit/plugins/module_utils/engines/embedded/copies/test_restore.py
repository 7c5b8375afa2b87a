# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A copy that becomes the catalog: what gives way to it, and what of that is kept."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.copies import read_copy, restore
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.store import CATALOG, Store
from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, ForeignObject, InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed


@pytest.mark.parametrize(
    ("given", "force", "error", "found"),
    [
        ({}, False, None, ""),
        ({"plan": 5}, False, None, ""),
        ({"plan": 0}, False, Conflict, "it is newer: its newest plan is 1"),
        ({"plan": 0}, True, None, ""),
        ({"catalog": "other"}, False, ForeignObject, "is there, with 2 machines"),
        ({"catalog": "other"}, True, None, ""),
        (None, False, Conflict, "it is there, and sound: its newest plan is 1"),
        (None, True, None, ""),
    ],
)
def test_a_catalog_gives_way_to_one_that_knows_as_much(place, copy, given, force, error, found):
    coming = None if given is None else replace(copy, **given)
    catalog = copy.catalog if coming is None else coming.catalog
    if error is None:
        assert restore.replaceable(str(place), coming, "digest", catalog, force) == copy
        return
    with pytest.raises(error) as caught:
        restore.replaceable(str(place), coming, "digest", catalog, force)
    assert f"catalog {catalog} over {place}/{CATALOG}" in caught.value.asked
    assert found in caught.value.found
    assert "nebula_restore_force: true" in caught.value.remedy


def test_what_a_restore_left_that_did_not_come_to_its_end_gives_way_again(tmp_path, copy):
    with contextlib.closing(Store(str(tmp_path), create=True)) as store, store.transaction() as db:
        db.execute("INSERT INTO meta VALUES ('restored', 'digest 1005')")
        db.execute("UPDATE meta SET value = '1005' WHERE key = 'plan'")
        db.execute("UPDATE meta SET value = ? WHERE key = 'catalog'", (copy.catalog,))
    assert restore.replaceable(str(tmp_path), copy, "digest", copy.catalog, False).plan == 1005
    with pytest.raises(Conflict, match="it is newer"):
        restore.replaceable(str(tmp_path), copy, "another digest", copy.catalog, False)
    with contextlib.closing(Store(str(tmp_path))) as store, store.transaction() as db:
        # Something was decided in it since.
        db.execute("UPDATE meta SET value = '1006' WHERE key = 'plan'")
    with pytest.raises(Conflict, match="it is newer"):
        restore.replaceable(str(tmp_path), copy, "digest", copy.catalog, False)


def test_nodes_that_follow_another_catalog_are_refused():
    restore.refuse_others("c", [Observed("a", catalog="c"), Observed("b", catalog="")])
    with pytest.raises(ForeignObject) as caught:
        restore.refuse_others("c", [Observed("a", catalog="c"), Observed("b", catalog="d")])
    assert (caught.value.asked, caught.value.found) == ("restoring catalog c", "host b carries the marks of catalog d")


def test_a_catalog_is_begun_anew_under_the_one_mark_of_all_nodes():
    nodes = [Observed("a", catalog="c"), Observed("b"), Observed("d", catalog="c")]
    assert restore.common(nodes) == "c"
    with pytest.raises(
        InvalidValue, match=r"no node carries the mark of a catalog\. Run playbook nebula\.provision\.site"
    ):
        restore.common([Observed("b")])
    with pytest.raises(InvalidValue, match=r"the nodes follow c and e\. Use inventories"):
        restore.common([Observed("f", catalog="e"), *nodes])


def test_what_is_put_together_is_gone_at_the_end(place, copy, tmp_path):
    with restore.candidate(str(tmp_path), str(place / "copy"), copy.catalog) as store:
        assert store.meta("catalog") == copy.catalog
        assert (tmp_path / restore.CANDIDATE).stat().st_mode & 0o077 == 0
    assert os.listdir(tmp_path) == []
    with restore.candidate("", "", "01234567") as store:
        assert (store.meta("catalog"), store.meta("plan")) == ("01234567", "0")
        root = store.root
    assert not os.path.exists(root)


@pytest.fixture
def old(tmp_path):
    """A catalog that is in the way, and its image."""
    with contextlib.closing(EmbeddedEngine(str(tmp_path), create=True)) as engine, engine.session():
        engine.images.allocate(Image(None, "old"))
    return tmp_path


def names_in(path):
    with contextlib.closing(sqlite3.connect(path)) as db:
        return [row[0] for row in db.execute("SELECT name FROM images ORDER BY id")]


def test_what_was_there_is_kept_beside_what_takes_its_place(place, copy, old):
    with (
        contextlib.closing(restore.Watch(str(old), act=True)) as watch,
        restore.candidate(str(old), str(place / "copy"), copy.catalog) as store,
    ):
        assert read_copy.differs(store, str(old))
        aside = restore.put(store, str(old), "then", watch)
        assert not read_copy.differs(store, str(old))
    assert aside == str(old / f"{CATALOG}.before-then")
    assert (names_in(aside), names_in(old / CATALOG)) == (["old"], ["demo"])
    assert os.stat(aside).st_mode & 0o077 == 0


def test_who_decides_meanwhile_is_not_overwritten(place, copy, old):
    with contextlib.closing(restore.Watch(str(old), act=True)) as watch:
        watch.check()
        with contextlib.closing(EmbeddedEngine(str(old))) as engine, engine.session():
            engine.images.allocate(Image(None, "newer"))
        with restore.candidate(str(old), str(place / "copy"), copy.catalog) as store, pytest.raises(Conflict) as caught:
            restore.put(store, str(old), "then", watch)
    assert "another run has changed it meanwhile" in caught.value.found
    assert "Nothing was changed" in caught.value.remedy
    assert names_in(old / CATALOG) == ["old", "newer"]
    assert [name for name in os.listdir(old) if "before" in name] == []


def test_a_catalog_that_is_begun_meanwhile_is_not_overwritten(tmp_path):
    with contextlib.closing(restore.Watch(str(tmp_path), act=True)) as watch:
        watch.check()
        Store(str(tmp_path), create=True).close()
        with pytest.raises(Conflict, match=f"restoring the catalog {tmp_path}/{CATALOG}"):
            watch.check()


@pytest.mark.parametrize("content", [None, b"", b"no catalog" * 1000])
def test_what_can_not_be_read_gives_way_whole(place, copy, tmp_path, content):
    if content is not None:
        (tmp_path / CATALOG).write_bytes(content)
    with (
        contextlib.closing(restore.Watch(str(tmp_path), act=True)) as watch,
        restore.candidate(str(tmp_path), str(place / "copy"), copy.catalog) as store,
    ):
        aside = restore.put(store, str(tmp_path), "then", watch)
    assert names_in(tmp_path / CATALOG) == ["demo"]
    assert (tmp_path / CATALOG).stat().st_mode & 0o077 == 0
    there = tmp_path / f"{CATALOG}.before-then"
    assert aside == (str(there) if content is not None else "")
    assert content is None or there.read_bytes() == content
    assert restore.REPLACEMENT not in os.listdir(tmp_path)
