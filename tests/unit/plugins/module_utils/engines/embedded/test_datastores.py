# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Datastores of a catalog: those that every catalog has stay, others come and go, and none with images in it goes."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.datastores import Datastores
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.images.image_verbs import Images
from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, InUse, InvalidValue, NotFound
from ansible_collections.nebula.provision.plugins.module_utils.model.datastore import FIRST, Datastore, DatastoreType
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image


@pytest.fixture
def datastores(undone):
    return Datastores(undone)


def test_what_is_stored_is_what_is_read(datastores):
    wanted = Datastore(None, "fast", DatastoreType.FILE, False, "of SSDs", attributes={"RACK": "7"})
    made = datastores.allocate(wanted)
    assert made == Datastore(FIRST, "fast", DatastoreType.FILE, False, "of SSDs", 0, {"RACK": "7"})
    assert datastores.info("fast") == datastores.info(FIRST) == datastores.info(str(FIRST)) == made
    assert [each.name for each in datastores.pool()] == ["system", "default", "files", "fast"]


def test_ids_begin_above_those_of_every_catalog_and_are_never_used_again(datastores):
    made = [datastores.allocate(Datastore(None, name)).id for name in ("a", "b")]
    datastores.delete("b")
    assert [*made, datastores.allocate(Datastore(None, "b")).id] == [FIRST, FIRST + 1, FIRST + 2]


@pytest.mark.parametrize("name", ["", "a/b", ".."])
def test_a_name_that_means_something_elsewhere_is_refused(datastores, name):
    with pytest.raises(InvalidValue, match="datastore"):
        datastores.allocate(Datastore(None, name))
    with pytest.raises(InvalidValue, match="datastore"):
        datastores.update("default", name=name)


def test_a_name_is_one_datastores(datastores):
    datastores.allocate(Datastore(None, "fast"))
    for change in (
        lambda: datastores.allocate(Datastore(None, "default")),
        lambda: datastores.update("fast", name="default"),
    ):
        with pytest.raises(Conflict, match=r"datastore default: id 1 has that name\. Choose another name"):
            change()


def test_a_host_has_one_of_the_system_and_no_other_is_made(datastores):
    with pytest.raises(InvalidValue) as caught:
        datastores.allocate(Datastore(None, "fast", DatastoreType.SYSTEM))
    assert caught.value.asked == "datastore fast: type SYSTEM"
    assert "datastore 0" in caught.value.found
    assert caught.value.remedy == "Choose IMAGE or FILE, or set shared: true"
    assert len(datastores.pool()) == 3


# -- changing ----------------------------------------------------------------------------------------------------------


def test_all_but_the_type_can_be_changed(datastores):
    datastores.allocate(Datastore(None, "fast", attributes={"A": "1"}))
    changed = {"name": "quick", "capacity_check": False, "description": "d", "attributes": {"B": "2"}}
    found = datastores.update("fast", **changed)
    assert found == Datastore(FIRST, **changed)
    assert datastores.info("quick") == found
    with pytest.raises(NotFound):
        datastores.info("fast")


def test_its_own_name_and_type_are_no_change(datastores):
    made = datastores.allocate(Datastore(None, "fast"))
    assert datastores.update("fast", name="fast", type=DatastoreType.IMAGE) == made


def test_a_datastore_keeps_its_type(datastores):
    datastores.allocate(Datastore(None, "fast"))
    with pytest.raises(Conflict) as caught:
        datastores.update("fast", type=DatastoreType.FILE)
    assert str(caught.value) == ("datastore fast: type FILE: it is IMAGE. A datastore keeps its type: make another one")


@pytest.mark.parametrize("change", [{"id": 5}, {"images": 3}])
def test_what_the_catalog_counts_is_not_changed_by_request(datastores, change):
    with pytest.raises(InvalidValue, match=f"datastore default: {next(iter(change))}: it is not changed by request"):
        datastores.update("default", **change)


def test_a_miss_names_the_nearest(datastores):
    for verb in (datastores.info, datastores.update, datastores.delete):
        with pytest.raises(NotFound, match=r"datastore 'defualt'.*Did you mean 'default'\?"):
            verb("defualt")


# -- removing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ref", ["system", "default", "files", 0, "2"])
def test_those_of_every_catalog_stay(datastores, ref):
    with pytest.raises(Conflict, match=r"delete: it is one of those that every catalog has"):
        datastores.delete(ref)
    assert len(datastores.pool()) == 3


@pytest.mark.parametrize(("count", "told"), [(1, "a0"), (5, "a0, a1, a2, a3, a4"), (6, "a0, a1, a2, a3, a4 …")])
def test_one_with_images_stays_and_names_them(datastores, store, count, told):
    made = datastores.allocate(Datastore(None, "fast"))
    images = Images(store)
    for number in range(count):
        images.allocate(Image(None, f"a{number}", datastore_id=made.id))
    images.allocate(Image(None, "elsewhere"))
    assert (datastores.info("fast").images, datastores.info("default").images) == (count, 1)
    with pytest.raises(InUse) as caught:
        datastores.delete("fast")
    assert caught.value.asked == f"datastore fast (id {FIRST}): delete"
    assert caught.value.found == f"{count} images lie in it: {told}"
    for number in range(count):
        images.delete(f"a{number}")
    assert datastores.delete("fast") == made
    with pytest.raises(NotFound):
        datastores.info("fast")


# -- check mode --------------------------------------------------------------------------------------------------------


def test_one_that_an_earlier_task_would_have_made_is_taken_as_given(datastores):
    datastores.declare({"name": "fast"})
    datastores.declare({"name": "kernels", "type": "FILE", "capacity_check": False})
    found = [(each.name, each.type, each.capacity_check) for each in datastores.pool()[3:]]
    assert found == [("fast", DatastoreType.IMAGE, True), ("kernels", DatastoreType.FILE, False)]


def test_one_that_is_there_stays_as_it_is(datastores):
    before = datastores.pool()
    datastores.declare({"name": "default", "type": "FILE", "capacity_check": False})
    assert datastores.pool() == before
