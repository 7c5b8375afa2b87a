# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
import uuid

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.images import Images
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.store import Store
from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    Conflict,
    InUse,
    InvalidValue,
    NotFound,
    WrongState,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState, ImageType


@pytest.fixture
def store(tmp_path):
    opened = Store(str(tmp_path), create=True)
    yield opened
    opened.close()


@pytest.fixture
def images(store):
    return Images(store)


@pytest.fixture
def ready(images):
    """Registers an image and makes it READY, as if it had been stored."""

    def make(name="demo", **values) -> Image:
        image = images.allocate(Image(id=None, name=name, **values))
        return images.update(image.id, state=ImageState.READY, sha256="ab" * 32, size=8)

    return make


def machine(store, vm_id, name=None):
    store.db.execute(
        "INSERT INTO vms (id, name, uuid, state, lcm_state, wanted, cpu, memory, request, body, stime) "
        "VALUES (?, ?, ?, 3, 1, 'RUNNING', 1, 64, '', '', 0)",
        (vm_id, name or f"vm{vm_id}", str(uuid.uuid4())),
    )
    return vm_id


def test_ids_begin_with_zero_and_are_never_used_again(images):
    first = images.allocate(Image(id=None, name="a"))
    assert (first.id, first.state, first.generation) == (0, ImageState.LOCKED, 0)
    images.delete(0)
    second = images.allocate(Image(id=None, name="a"))
    assert (second.id, second.uuid != first.uuid, second.source != first.source) == (1, True, True)


def test_the_file_is_called_as_opennebula_calls_it(images, store):
    image = images.allocate(Image(id=None, name="a"))
    assert re.fullmatch(re.escape(store.root) + r"/datastores/1/[0-9a-f]{32}", image.source)


def test_everything_is_kept(images):
    image = images.allocate(
        Image(
            id=None, name="a", type=ImageType.DATABLOCK, persistent=True, format="qcow2", size=5, sha256="x",
            checksum="y", origin="z", dev_prefix="vd", target="vdb", description="d", attributes={"A": "1", "Ü": "ö"},
        )
    )  # fmt: skip
    assert images.info("a") == images.info(image.id) == images.info("0") == images.pool()[0] == image
    assert (image.attributes, image.persistent, image.type) == ({"A": "1", "Ü": "ö"}, True, ImageType.DATABLOCK)


@pytest.mark.parametrize("name", ["", "a/b", "..", "a\nb", " a", "x" * 129, None])
def test_names_that_can_not_be(images, name):
    with pytest.raises(InvalidValue):
        images.allocate(Image(id=None, name=name))
    assert images.pool() == []


def test_a_name_is_taken_once(images, ready):
    ready("a")
    ready("b")
    with pytest.raises(Conflict, match="id 0 has that name"):
        images.allocate(Image(id=None, name="a"))
    with pytest.raises(Conflict):
        images.update("b", name="a")
    assert images.update("b", name="c").name == "c"


def test_a_missing_image_names_the_nearest(images, ready):
    ready("debian")
    with pytest.raises(NotFound, match="debian"):
        images.info("debain")


def test_use_by_several_machines(images, ready, store):
    ready()
    for vm_id in (machine(store, 1), machine(store, 2)):
        images.acquire(vm_id, 0, 0, writable=False)
    image = images.info("demo")
    assert (image.state, image.vms, image.sha256) == (ImageState.USED, 2, "ab" * 32)
    images.release(1, written=True)
    assert images.info("demo").state == ImageState.USED
    images.release(2, written=True)
    image = images.info("demo")
    assert (image.state, image.vms, image.generation, image.sha256) == (ImageState.READY, 0, 0, "ab" * 32)


def test_one_machine_with_two_disks_of_one_image(images, ready, store):
    ready()
    machine(store, 1)
    images.acquire(1, 0, 0, writable=False)
    images.acquire(1, 1, 0, writable=False)
    assert images.info(0).vms == 1
    images.release(1, written=True)
    assert images.info(0).state == ImageState.READY


def test_a_persistent_image_serves_one_machine(images, ready, store):
    ready(persistent=True)
    machine(store, 1, "first")
    machine(store, 2, "second")
    images.acquire(1, 0, 0, writable=True)
    image = images.info(0)
    assert (image.state, image.sha256) == (ImageState.USED_PERS, "")
    with pytest.raises(InUse) as caught:
        images.acquire(2, 0, 0, writable=True)
    assert "machine second (id 2), disk 0" in caught.value.asked
    assert "first (id 1)" in caught.value.found
    images.release(1, written=True)
    assert (images.info(0).state, images.info(0).generation) == (ImageState.READY, 1)
    images.acquire(2, 0, 0, writable=True)
    images.release(2, written=False)
    assert images.info(0).generation == 1


def test_nobody_writes_into_what_is_not_persistent(images, ready, store):
    ready()
    machine(store, 1)
    with pytest.raises(WrongState, match="not persistent"):
        images.acquire(1, 0, 0, writable=True)


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
        images.acquire(1, 0, 1 if state == ImageState.LOCKED else 0, writable=False)
    assert state.name in caught.value.found


def test_what_is_refused_while_it_is_used(images, ready, store):
    ready()
    images.acquire(machine(store, 7, "web"), 0, 0, writable=False)
    for change in ({"type": ImageType.DATABLOCK}, {"persistent": True}, {"state": ImageState.DISABLED}):
        with pytest.raises(InUse, match=r"web \(id 7\)"):
            images.update(0, **change)
    with pytest.raises(InUse, match=r"web \(id 7\)"):
        images.delete("demo")
    assert images.update(0, description="d", dev_prefix="vd").description == "d"
    images.release(7, written=True)
    assert images.update(0, type=ImageType.DATABLOCK, persistent=True).persistent is True
    images.delete("demo")


def test_types_change_within_their_family(images, ready):
    ready("disk")
    ready("file", type=ImageType.KERNEL)
    assert images.update("disk", type=ImageType.CDROM).type == ImageType.CDROM
    assert images.update("file", type=ImageType.CONTEXT).type == ImageType.CONTEXT
    with pytest.raises(Conflict, match="DATABLOCK, OS only"):
        images.update("disk", type=ImageType.KERNEL)
    with pytest.raises(Conflict, match="KERNEL, RAMDISK only"):
        images.update("file", type=ImageType.OS)


@pytest.mark.parametrize("kind", [ImageType.CDROM, ImageType.KERNEL, ImageType.RAMDISK, ImageType.CONTEXT])
def test_what_can_not_be_persistent(images, kind):
    with pytest.raises(InvalidValue, match="Only OS and DATABLOCK"):
        images.allocate(Image(id=None, name="x", type=kind, persistent=True))


def test_a_persistent_disk_does_not_become_a_cdrom(images, ready):
    ready(persistent=True)
    with pytest.raises(InvalidValue):
        images.update(0, type=ImageType.CDROM)


def test_disabling_and_enabling(images, ready):
    ready()
    assert images.update(0, state=ImageState.DISABLED).state == ImageState.DISABLED
    assert images.update(0, state=ImageState.READY).state == ImageState.READY
    images.allocate(Image(id=None, name="other"))
    with pytest.raises(WrongState, match="LOCKED"):
        images.update("other", state=ImageState.DISABLED)
    with pytest.raises(InvalidValue, match="by use"):
        images.update(0, state=ImageState.USED)


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
        images.acquire(1, 0, images.info("demo").id, writable=False)
        assert (images.info("demo").state, len(images.pool())) == (ImageState.USED, 1)
    store.close()


def test_a_batch_costs_what_it_is(images, ready, store):
    """Statements, not seconds: the number for one machine does not depend on how many use the image."""
    ready()
    counts = []
    for vm_id in range(1, 60):
        machine(store, vm_id)
        seen: list[str] = []
        store.db.set_trace_callback(seen.append)
        images.acquire(vm_id, 0, 0, writable=False)
        store.db.set_trace_callback(None)
        counts.append((len(seen), sum("count(" in text for text in seen)))
    assert set(counts[1:]) == {(2, 0)}
