# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""In which state an image is after the last of its uses, or of its copies, has ended."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.images import states_after_use
from ansible_collections.nebula.provision.plugins.module_utils.model.image import NOT_FINISHED, Image
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.images.conftest import (
    machine,
)


def test_an_image_rests_when_the_last_machine_is_gone(images, ready, store):
    ready()
    images.uses.acquire(machine(store, 1), 0, 0, writable=False)
    states_after_use.write_idle_state(store, 0)
    assert images.info(0).state == ImageState.USED
    store.db.execute("DELETE FROM vm_images")
    states_after_use.write_idle_state(store, 0)
    assert images.info(0).state == ImageState.READY


def test_an_unfinished_image_is_an_error(images, ready, store):
    ready()
    images.update(0, unfinished="installing")
    states_after_use.write_idle_state(store, 0)
    assert (images.info(0).state, images.info(0).error) == (ImageState.ERROR, NOT_FINISHED)


def test_the_source_of_a_clone_is_held_until_all_clones_are_made(images, ready, store):
    ready()
    images.clone(0, Image(id=None, name="copy"))
    assert states_after_use.is_being_cloned(store, 0) and states_after_use.being_cloned(store) == {0}
    states_after_use.write_idle_state(store, 0)
    assert images.info(0).state == ImageState.CLONE
    images.update("copy", state=ImageState.READY, operation=None)
    assert not states_after_use.is_being_cloned(store, 0) and not states_after_use.is_being_cloned(store, None)
    assert (images.info(0).state, states_after_use.being_cloned(store)) == (ImageState.READY, set())


def test_a_new_generation(images, ready, store):
    ready()
    states_after_use.raise_generation(store, 0, 1)
    assert images.info(0).generation == 1
