# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tree of a disk's snapshots, by OpenNebula's rules."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, NotFound, WrongState
from ansible_collections.nebula.provision.plugins.module_utils.model.disk_snapshots import (
    Snapshot,
    Tree,
    active,
    children,
    find,
    next_id,
    text_of,
    tree_of,
    with_active,
    with_snapshot,
    without_snapshot,
)


def grown(*names: str) -> Tree:
    tree: Tree = ()
    for number, name in enumerate(names):
        tree = with_snapshot(tree, Snapshot(number, name, date=number, size=8))
    return tree


def test_each_is_the_child_of_the_one_that_was_active() -> None:
    tree = grown("a", "b")
    assert [(each.name, each.parent, each.active) for each in tree] == [("a", None, False), ("b", 0, True)]
    tree = with_snapshot(with_active(tree, 0), Snapshot(next_id(tree), "c"))
    assert [(each.name, each.parent, each.active) for each in tree] == [
        ("a", None, False),
        ("b", 0, False),
        ("c", 0, True),
    ]
    assert [each.name for each in children(tree, 0)] == ["b", "c"]
    found = active(tree)
    assert found is not None
    assert found.tag == "nebula-2"


def test_what_others_rest_on_is_not_deleted() -> None:
    tree = grown("a", "b")
    with pytest.raises(WrongState, match="it has children: b"):
        without_snapshot(tree, 0)
    with pytest.raises(WrongState, match="it is the active one"):
        without_snapshot(tree, 1)
    left = without_snapshot(with_active(tree, 0), 1)
    assert [(each.name, each.active) for each in left] == [("a", True)]
    assert next_id(left) == 1
    with pytest.raises(NotFound):
        without_snapshot(tree, 7)
    with pytest.raises(NotFound):
        with_active(tree, 7)


def test_names_are_unique_and_text_loses_nothing() -> None:
    tree = grown("before upgrade", 'ü "quoted"')
    with pytest.raises(Conflict):
        with_snapshot(tree, Snapshot(5, "before upgrade"))
    assert tree_of(text_of(tree)) == tree
    assert (text_of(()), tree_of("")) == ("", ())
    assert find(tree, "nosuch") is None
    assert active(()) is None
    assert next_id(()) == 0
