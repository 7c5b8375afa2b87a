# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A copy of the embedded catalog becomes the catalog again, above all that nodes have seen."""

from __future__ import annotations

import contextlib
import os

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.context.context_downloads import download_context_file
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.copies import raise_numbers
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.copies.embedded_copies import (
    EmbeddedCopies,
)
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.store import CATALOG
from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    Conflict,
    ForeignObject,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed

COPIES = EmbeddedCopies()


def opened(root, create=True):
    return contextlib.closing(EmbeddedEngine(str(root), create=create))


@pytest.fixture
def place(tmp_path):
    """A catalog with one image, and a copy of it from before a second one came."""
    root = tmp_path / "root"
    root.mkdir()
    with opened(root) as engine:
        engine.decide(lambda: engine.images.allocate(Image(None, "kept")), download_context_file)
        COPIES.take(engine, str(tmp_path / "copy"))
        engine.decide(lambda: engine.images.allocate(Image(None, "later")), download_context_file)
    return root


def restore(place, check_mode=False, path=None, observed=(), force=False):
    path = str(place.parent / "copy") if path is None else path
    return COPIES.restore({"root": str(place), "unknown": "keep"}, check_mode, path, observed, force)


def names(place):
    with opened(place, create=False) as engine:
        return [image.name for image in engine.images.pool()]


def test_a_copy_becomes_the_catalog_and_what_was_there_is_kept(place):
    restored, changed, aside = restore(place)
    assert changed
    assert os.path.basename(aside).startswith(f"{CATALOG}.before-")
    assert [image.name for image in COPIES.look_at(aside).images] == ["kept", "later"]
    assert names(place) == ["kept"]
    assert COPIES.look_at(str(place.parent / "copy")).catalog == restored.catalog
    # Again there is nothing to do.
    assert restore(place)[1:] == (False, "")


def test_check_mode_tells_what_would_come_of_it_and_changes_nothing(place):
    before = sorted(os.listdir(place))
    _restored, changed, aside = restore(place, check_mode=True)
    assert (changed, aside) == (True, "")
    assert sorted(os.listdir(place)) == before
    assert names(place) == ["kept", "later"]


def test_check_mode_restores_to_a_place_that_is_not_there_yet(place, tmp_path):
    restored, changed, aside = restore(tmp_path / "nosuch", check_mode=True, path=str(tmp_path / "copy"))
    assert (changed, aside, len(restored.catalog)) == (True, "", 36)
    assert not (tmp_path / "nosuch").exists()


def test_nothing_is_restored_against_a_node_of_another_catalog(place):
    with pytest.raises(ForeignObject, match="host a carries the marks of catalog other"):
        restore(place, observed=[Observed("a", catalog="other")])
    assert names(place) == ["kept", "later"]


def test_without_a_copy_one_is_begun_that_the_nodes_follow(tmp_path):
    node = Observed("a", catalog="01234567-89ab-4cde-8f01-23456789abcd", plan_number=7)
    restored, changed, aside = restore(tmp_path, path="", observed=[node])
    assert (restored.catalog, restored.plan, changed, aside) == (node.catalog, 7 + raise_numbers.PLANS_APART, True, "")
    with opened(tmp_path, create=False) as engine:
        assert engine.catalog() == node.catalog
        engine.hosts.check([node])


def test_a_sound_catalog_does_not_give_way_to_an_empty_one_unless_forced(place):
    with opened(place, create=False) as engine:
        node = Observed("a", catalog=engine.catalog())
    with pytest.raises(Conflict, match="it is there, and sound"):
        restore(place, path="", observed=[node])
    assert names(place) == ["kept", "later"]
    assert restore(place, path="", observed=[node], force=True)[1]
    assert names(place) == []
