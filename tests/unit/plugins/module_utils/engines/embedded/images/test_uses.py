# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What follows when a machine begins and ends to use an image."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InUse, WrongState
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState, ImageType
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.images.conftest import (
    machine,
)


def test_use_by_several_machines(images, ready, store):
    ready()
    for vm_id in (machine(store, 1), machine(store, 2)):
        images.uses.acquire(vm_id, 0, 0, writable=False)
    image = images.info("demo")
    assert (image.state, image.vms, image.sha256) == (ImageState.USED, 2, "ab" * 32)
    images.uses.release(1, written=True)
    assert images.info("demo").state == ImageState.USED
    images.uses.release(2, written=True)
    image = images.info("demo")
    assert (image.state, image.vms, image.generation, image.sha256) == (ImageState.READY, 0, 0, "ab" * 32)


def test_an_image_that_no_machine_may_have_names_the_machine_and_the_disk(images, ready, store):
    ready()
    image = images.info("demo")
    images.update("demo", state=ImageState.DISABLED)
    with pytest.raises(WrongState, match="VM web, disk 3: image demo"):
        images.uses.acquire_all(machine(store, 1), "web", {3: image})


def test_one_machine_with_two_disks_of_one_image(images, ready, store):
    ready()
    machine(store, 1)
    images.uses.acquire(1, 0, 0, writable=False)
    images.uses.acquire(1, 1, 0, writable=False)
    assert images.info(0).vms == 1
    images.uses.release(1, written=True)
    assert images.info(0).state == ImageState.READY


def test_a_persistent_image_serves_one_machine(images, ready, store):
    ready(persistent=True)
    machine(store, 1, "first")
    machine(store, 2, "second")
    images.uses.acquire(1, 0, 0, writable=True)
    image = images.info(0)
    assert (image.state, image.sha256) == (ImageState.USED_PERS, "")
    with pytest.raises(InUse) as caught:
        images.uses.acquire(2, 0, 0, writable=True)
    assert "machine second (id 2), disk 0" in caught.value.asked
    assert "first (id 1)" in caught.value.found
    images.uses.release(1, written=True)
    assert (images.info(0).state, images.info(0).generation) == (ImageState.READY, 1)
    images.uses.acquire(2, 0, 0, writable=True)
    images.uses.release(2, written=False)
    assert images.info(0).generation == 1


def test_nobody_writes_into_what_is_not_persistent(images, ready, store):
    ready()
    machine(store, 1)
    with pytest.raises(WrongState, match="not persistent"):
        images.uses.acquire(1, 0, 0, writable=True)


@pytest.mark.parametrize(
    ("state", "remedy"),
    [(ImageState.ERROR, "Remove its cause"), (ImageState.DISABLED, "state: enabled"), (ImageState.LOCKED, "wait")],
)
def test_states_in_which_no_machine_gets_it(images, ready, store, state, remedy):
    ready()
    if state == ImageState.LOCKED:
        images.allocate(Image(id=None, name="other"))
    else:
        images.update(0, state=state, error="it broke")
    machine(store, 1)
    with pytest.raises(WrongState, match=remedy) as caught:
        images.uses.acquire(1, 0, 1 if state == ImageState.LOCKED else 0, writable=False)
    assert state.name in caught.value.found


def test_a_batch_costs_what_it_is(images, ready, store):
    """Statements, not seconds: the number for one machine does not depend on how many use the image."""
    ready()
    counts = []
    for vm_id in range(1, 60):
        machine(store, vm_id)
        seen: list[str] = []
        store.db.set_trace_callback(seen.append)
        images.uses.acquire(vm_id, 0, 0, writable=False)
        store.db.set_trace_callback(None)
        counts.append((len(seen), sum("count(" in text for text in seen)))
    assert set(counts[1:]) == {(2, 0)}


def test_a_use_that_is_kept_has_no_disk_and_ends_with_the_machine_made_anew(images, ready, store):
    ready("old")
    ready("new")
    machine(store, 1)
    images.uses.acquire(1, 0, 0, writable=False)
    images.uses.acquire(1, 1, 1, writable=False)
    assert images.uses.keep(1, {1}) == [1]
    assert [row["disk_id"] for row in store.rows("SELECT disk_id FROM vm_images ORDER BY disk_id")] == [-1, 1]
    assert images.info("old").state == ImageState.USED
    images.uses.release_kept(1)
    assert (images.info("old").state, images.info("new").state) == (ImageState.READY, ImageState.USED)


def test_an_image_grows_with_the_disk_that_is_its_file(images, ready, store):
    ready(persistent=True)
    machine(store, 1)
    images.uses.acquire(1, 0, 0, writable=True)
    assert images.uses.written_by(1) == [0]
    for size in (5, 20):
        images.uses.grow(1, lambda size=size: {0: size})
    assert images.info(0).size == 20


@pytest.mark.parametrize("files_only", [True, False])
def test_an_image_to_which_a_machine_wrote_only_files_is_still_trusted(images, ready, store, files_only: bool) -> None:
    ready(persistent=True, type=ImageType.DATABLOCK, attributes={"TRUSTED": "YES"})
    for vm_id in (1, 2):
        machine(store, vm_id)
        images.uses.acquire(vm_id, 0, 0, writable=True)
        images.uses.release(vm_id, written=True, files_only=files_only)
        image = images.info(0)
        assert (image.generation, image.is_trusted) == (vm_id, files_only)


def test_an_image_that_is_not_trusted_does_not_become_so(images, ready, store) -> None:
    ready(persistent=True, type=ImageType.DATABLOCK)
    machine(store, 1)
    images.uses.acquire(1, 0, 0, writable=True)
    images.uses.release(1, written=True, files_only=True)
    assert not images.info(0).is_trusted
