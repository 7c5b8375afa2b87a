# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A name or an id leads to one row of the catalog, and a miss tells what is there instead."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.references import (
    KINDS,
    find,
    is_id,
    missing,
    resolve,
)
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.store import Store
from ansible_collections.nebula.provision.plugins.module_utils.errors import NotFound


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    store = Store(str(tmp_path_factory.mktemp("empty")), create=True)
    yield store
    store.close()


@pytest.fixture
def store(empty):
    """One whose templates go again at the test's end."""
    empty.db.execute("BEGIN")
    yield empty
    empty.db.execute("ROLLBACK")


def put(store, *names):
    for number, name in enumerate(names):
        store.db.execute("INSERT INTO templates VALUES (?, ?, '[]', 0)", (number, name))


def found(store, ref):
    row = find(store, "templates", ref)
    return None if row is None else row["name"]


@pytest.mark.parametrize(
    ("ref", "name"),
    [("web", "web"), ("0", "web"), (0, "web"), (1, "db"), ("1", "db"), ("Web", None), (2, None), (-1, None)],
)
def test_a_reference_is_a_name_or_an_id(store, ref, name):
    put(store, "web", "db")
    assert found(store, ref) == name


def test_a_name_of_digits_goes_before_the_id(store):
    put(store, "web", "0", "db")
    assert found(store, "0") == "0"
    assert found(store, 0) == "web"
    assert found(store, "2") == "db"


def test_resolve_gives_the_row(store):
    put(store, "web")
    assert tuple(resolve(store, "templates", "web")) == (0, "web", "[]", 0)


@pytest.mark.parametrize("ref", ["", True, False])
def test_what_is_neither_a_name_nor_an_id_says_so(store, ref):
    put(store, "a", "b")
    with pytest.raises(NotFound) as caught:
        find(store, "templates", ref)
    assert str(caught.value) == (f"template {ref!r}: that is neither a name nor an id. Give the template's name or id")


@pytest.mark.parametrize(
    ("ref", "told"),
    [
        (0, True),
        (2**63 - 1, True),
        (2**63, False),
        (-1, False),
        ("0", True),
        ("007", True),
        ("9" * 18, True),
        ("9" * 19, False),
        ("-1", False),
        ("1.0", False),
        (" 1", False),
        ("²", False),
        ("٣", False),
        ("", False),
    ],
)
def test_an_id_is_plain_digits_that_sqlite_can_have(ref, told):
    assert is_id(ref) is told


@given(st.one_of(st.integers(), st.text(alphabet="0123456789-٣² a", max_size=30)))
@settings(max_examples=50, deadline=None)
def test_no_reference_upsets_the_database(empty, ref):
    """Numbers that are larger than SQLite's integers would raise OverflowError there."""
    if ref == "":
        return
    assert find(empty, "templates", ref) is None
    with pytest.raises(NotFound):
        resolve(empty, "templates", ref)


@pytest.mark.parametrize(("table", "kind"), sorted(KINDS.items()))
def test_each_kind_is_told_by_its_word(empty, table, kind):
    error = missing(empty, table, "nosuch")
    assert str(error).startswith(f"{kind} 'nosuch': the catalog has none of that name or id. ")
    # Of these, every catalog has some.
    if table not in ("datastores", "security_groups"):
        assert error.remedy == f"There is no {kind} at all; create it first"


@pytest.mark.parametrize(
    ("names", "ref", "remedy"),
    [
        (["debian", "alpine"], "debain", "Did you mean 'debian'?"),
        (["debian"], "zzz", "There is debian"),
        (["a", "b"], "zzz", "There are a, b"),
        (["a", "b", "c", "d", "e"], "zzz", "There are a, b, c, d, e"),
        (["a", "b", "c", "d", "e", "f", "g"], "zzz", "There are a, b, c, d, e and 2 more"),
        (["a", "b"], 4711, "There are a, b"),
    ],
)
def test_a_miss_names_the_nearest_or_what_there_is(store, names, ref, remedy):
    put(store, *names)
    with pytest.raises(NotFound) as caught:
        resolve(store, "templates", ref)
    assert caught.value.asked == f"template {ref!r}"
    assert caught.value.remedy == remedy
