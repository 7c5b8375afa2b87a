# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Datastores of a catalog: those that every catalog has stay, others come and go, and none with images in it goes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.datastores import Datastores
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.images.image_verbs import Images
from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, InUse, InvalidValue, NotFound
from ansible_collections.nebula.provision.plugins.module_utils.model.datastore import FIRST, Datastore, DatastoreType
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.conftest import (
    decide,
    obey,
)


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
    datastores.declare({"name": "nfs", "type": "system", "shared": True, "hosts": ["node1"]})
    datastores.declare({"name": "kernels", "type": "FILE", "capacity_check": False})
    found = [(each.name, each.type, each.capacity_check) for each in datastores.pool()[3:]]
    assert found == [("fast", DatastoreType.IMAGE, True), ("kernels", DatastoreType.FILE, False)]


@pytest.mark.parametrize(("kind", "checked"), [("image", "no"), ("File", "off"), ("file", None)])
def test_one_is_taken_as_given_however_a_list_writes_it(datastores, kind, checked):
    datastores.declare({"name": "slow", "type": kind, "capacity_check": checked})
    (made,) = datastores.pool()[3:]
    assert (made.type.name, made.capacity_check) == (kind.upper(), checked is None)
    # A result has more than a list.
    datastores.declare({"name": "shown", "type": "IMAGE", "id": None, "path": "", "free": None, "shared": False})
    datastores.declare({"name": "slow", "state": "absent"})
    assert [each.name for each in datastores.pool()[3:]] == ["shown"]


def test_one_that_is_there_stays_as_it_is(datastores):
    before = datastores.pool()
    datastores.declare({"name": "default", "type": "FILE", "capacity_check": False})
    assert datastores.pool() == before


# -- system datastores that hosts share --------------------------------------------------------------------------------
NFS = Datastore(None, "nfs", DatastoreType.SYSTEM, shared=True, hosts=("node1", "node2"))
CATALOG_MARK = "{}." + "a" * 32


@pytest.fixture
def web(inside):
    """A machine on node1."""
    obey(inside, decide(inside, {"name": "web", "template": "web", "host": "node1"}))
    return inside


@pytest.fixture
def hosts(inside):
    for name in ("node2", "node3"):
        inside.hosts.allocate(Host(None, name, state=HostState.MONITORED, memory=4096, cpu=16.0))
    return inside


def test_hosts_share_one_and_the_others_have_their_own(hosts):
    made = hosts.datastores.allocate(NFS)
    assert (made.shared, made.hosts, made.mark) == (True, ("node1", "node2"), "")
    assert hosts.datastores.shared() == [made]
    own = hosts.datastores.info("system")
    assert (own.shared, own.hosts) == (False, ("node3",))
    assert hosts.datastores.pool()[0] == own
    assert [each.hosts for each in hosts.datastores.pool()[1:]] == [(), (), made.hosts]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (replace(NFS, type=DatastoreType.IMAGE), "it is of type IMAGE"),
        (Datastore(None, "fast", hosts=("node1",)), "it is of type IMAGE"),
        (replace(NFS, shared=False), "it is datastore 0"),
    ],
)
def test_only_a_system_datastore_is_shared(hosts, wanted, found):
    with pytest.raises(InvalidValue, match=found):
        hosts.datastores.allocate(wanted)


def test_a_host_is_in_one_at_most(hosts):
    hosts.datastores.allocate(NFS)
    second = hosts.datastores.allocate(replace(NFS, name="san", hosts=("node3",)))
    for ask in (
        lambda: hosts.datastores.allocate(replace(NFS, name="third", hosts=("node2",))),
        lambda: hosts.datastores.update(second.id, hosts=("node3", "node2")),
    ):
        with pytest.raises(Conflict, match=r"node2: of shared datastore nfs already.*Take it out"):
            ask()


def test_one_that_is_shared_stays_so(hosts):
    hosts.datastores.allocate(NFS)
    for name, shared in (("nfs", False), ("system", True)):
        with pytest.raises(Conflict, match=f"datastore {name}: shared {str(shared).lower()}"):
            hosts.datastores.update(name, shared=shared)


def test_where_disks_of_machines_lie_nobody_leaves(web):
    web.datastores.allocate(replace(NFS, hosts=("node1",)))
    for ask in (lambda: web.datastores.update("nfs", hosts=()), lambda: web.datastores.delete("nfs")):
        with pytest.raises(InUse, match=r"the disks of machines lie there: web \(on node1\)"):
            ask()
    assert web.datastores.update("nfs", hosts=("node1", "node2")).hosts == ("node1", "node2")
    assert web.datastores.update("nfs", hosts=("node1",)).hosts == ("node1",)


def test_a_renamed_host_keeps_its_datastore(hosts):
    hosts.datastores.allocate(NFS)
    hosts.hosts.rename("node2", "moved")
    assert hosts.datastores.info("nfs").hosts == ("node1", "moved")


def test_the_first_mark_that_is_shown_counts(hosts):
    hosts.datastores.allocate(NFS)
    mark = CATALOG_MARK.format(hosts.catalog())
    other = f"{hosts.catalog()}.{'b' * 32}"
    assert set(hosts.datastores.hear({"node1": "", "node2": ""})) == {"node1", "node2"}
    assert set(hosts.datastores.hear({"node1": "", "node2": mark})) == {"node1"}
    assert hosts.datastores.info("nfs").mark == mark
    assert set(hosts.datastores.hear({"node1": other, "node2": mark})) == {"node1"}
    assert hosts.datastores.info("nfs").mark == mark


def test_an_empty_one_may_become_another_directory(hosts):
    hosts.datastores.allocate(NFS)
    first, second = (f"{hosts.catalog()}.{letter * 32}" for letter in "ab")
    hosts.datastores.hear({"node1": first, "node2": first})
    assert hosts.datastores.hear({"node1": second, "node2": second}) == {}
    assert hosts.datastores.info("nfs").mark == second


def test_one_with_machines_may_not(web):
    web.datastores.allocate(replace(NFS, hosts=("node1",)))
    first, second = (f"{web.catalog()}.{letter * 32}" for letter in "ab")
    assert web.datastores.hear({"node1": first}) == {}
    assert "another mark than the one by which that is known" in web.datastores.hear({"node1": second})["node1"]
    assert web.datastores.info("nfs").mark == first
