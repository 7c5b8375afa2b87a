# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How images are registered, found, changed and declared."""

from __future__ import annotations

import re

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.images.image_verbs import Images
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.store import Store
from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, NotFound
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.images.conftest import (
    machine,
)


def test_ids_begin_with_zero_and_are_never_used_again(images):
    first = images.allocate(Image(id=None, name="a"))
    assert (first.id, first.state, first.generation) == (0, ImageState.LOCKED, 0)
    images.delete(0)
    second = images.allocate(Image(id=None, name="a"))
    assert (second.id, second.uuid != first.uuid, second.source != first.source) == (1, True, True)


def test_the_file_is_called_as_opennebula_calls_it(images, store):
    image = images.allocate(Image(id=None, name="a"))
    assert re.fullmatch(re.escape(store.root) + r"/datastores/1/[0-9a-f]{32}", image.source)


@pytest.mark.parametrize("name", ["", "a/b", "..", "a\nb", " a", "x" * 129, None])
def test_names_that_can_not_be(images, name):
    with pytest.raises(InvalidValue):
        images.allocate(Image(id=None, name=name))
    assert images.pool() == []


def test_a_missing_image_names_the_nearest(images, ready):
    ready("debian")
    with pytest.raises(NotFound, match="debian"):
        images.info("debain")


def test_what_is_never_changed(images, ready):
    ready()
    with pytest.raises(InvalidValue):
        images.update(0, uuid="x")


def test_declared_images_can_be_used(tmp_path):
    store = Store(str(tmp_path / "none"), check_mode=True)
    images = Images(store)
    with store.transaction():
        images.declare(
            {"id": None, "name": "demo", "type": "OS", "state": "READY", "size": 8, "attributes": {"A": "1"}}
        )
        images.declare({"id": None, "name": "demo"})
        machine(store, 1)
        images.uses.acquire(1, 0, images.info("demo").id, writable=False)
        assert (images.info("demo").state, len(images.pool())) == (ImageState.USED, 1)
    store.close()
