# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of a catalog: sound ones are told from others, and what comes back goes on above all that nodes have seen."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded import copies
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.schema import VERSION
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.store import CATALOG, Store
from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    CatalogError,
    Conflict,
    ForeignObject,
    InvalidValue,
    NotFound,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.audit import (
    Domain,
    Inventory,
    VmDirectory,
    VmFile,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.backup import Copy
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed, ObservedVm
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.conftest import furnish
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.conftest import (
    decide,
    obey,
)

NOW = 1_800_000_000
WEB = {"name": "web-%i", "count": 2, "template": "web"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with a catalog in which two machines run, and a copy of it."""
    root = tmp_path_factory.mktemp("place")
    with contextlib.closing(EmbeddedEngine(str(root), create=True)) as engine:
        furnish(engine)
        with engine.session():
            obey(engine, decide(engine, WEB))
        engine.copy(str(root / "copy"))
    return root


@pytest.fixture(scope="module")
def copy(place):
    return copies.look(str(place / "copy"))


# -- looking at one ----------------------------------------------------------------------------------------------------


def test_a_copy_tells_what_it_holds(place, copy):
    with contextlib.closing(EmbeddedEngine(str(place))) as engine:
        assert copy.catalog == engine.catalog()
        assert copy.known == {record.uuid for record in engine.vms.pool()}
        assert [image.uuid for image in copy.images] == [image.uuid for image in engine.images.pool()]
    assert (copy.plan, copy.schema, copy.machines, copy.restored) == (1, VERSION, 2, "")
    # The next range of network 0 among them.
    assert dict(copy.next_ids) == {"hosts": 1, "images": 1, "networks": 1, "ar/0": 1, "templates": 1, "vms": 2}


def test_a_copy_is_one_file_that_looking_leaves_alone(place, copy):
    before = (place / "copy").read_bytes()
    assert copies.look(str(place / "copy")) == copy
    assert (place / "copy").read_bytes() == before
    assert [name for name in os.listdir(place) if name.startswith("copy")] == ["copy"]


def test_a_copy_with_its_log_beside_it_is_read_with_that(tmp_path):
    with contextlib.closing(Store(str(tmp_path), create=True)) as store:
        with store.transaction():
            store.db.execute("UPDATE meta SET value = '41' WHERE key = 'plan'")
        assert (tmp_path / f"{CATALOG}-wal").stat().st_size
        assert copies.look(store.path).plan == 41


def spoiled(place, path, *statements):
    path.write_bytes((place / "copy").read_bytes())
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)
    return str(path)


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("DELETE FROM meta WHERE key = 'catalog'", "no catalog"),
        ("UPDATE meta SET value = 'many' WHERE key = 'plan'", "no catalog"),
        ("DROP TABLE sequences", "no such table"),
        ("DELETE FROM hosts", "a row of vms refers to a hosts that is not there"),
        ("PRAGMA user_version = 0", "it is empty"),
    ],
)
def test_a_copy_that_is_not_sound_is_told_and_left(place, tmp_path, statement, told):
    path = spoiled(place, tmp_path / "bad", statement)
    before = (tmp_path / "bad").read_bytes()
    with pytest.raises(CatalogError) as caught:
        copies.look(path)
    assert caught.value.asked == f"catalog {path}"
    assert "damaged" in caught.value.found and told in caught.value.found
    assert "this file was left as it is" in caught.value.remedy
    assert (tmp_path / "bad").read_bytes() == before


@pytest.mark.parametrize("content", [b"no catalog" * 1000, b"", b"SQLite format 3\0"])
def test_a_file_that_is_no_catalog_is_told(tmp_path, content):
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(CatalogError, match="damaged"):
        copies.look(str(tmp_path / "bad"))


def test_a_file_that_is_not_there_is_told_and_not_made(tmp_path):
    with pytest.raises(CatalogError, match="nosuch"):
        copies.look(str(tmp_path / "nosuch"))
    assert os.listdir(tmp_path) == []


def test_machines_that_ended_are_not_among_those_of_a_copy(place, copy, tmp_path):
    found = copies.look(spoiled(place, tmp_path / "ended", "UPDATE vms SET state = 6 WHERE id = 1"))
    assert found.machines == 1
    assert found.known < copy.known


def test_a_newer_copy_is_for_a_newer_collection(place, tmp_path):
    path = spoiled(place, tmp_path / "newer", f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(CatalogError) as caught:
        copies.look(path)
    assert caught.value.found == f"its schema is version {VERSION + 1}, this collection knows up to {VERSION}"
    assert "Use the newer" in caught.value.remedy


# -- what is in place --------------------------------------------------------------------------------------------------


def test_a_catalog_in_which_nothing_was_made_is_none(tmp_path, place, copy):
    assert copies.present(str(tmp_path)) is None
    (tmp_path / CATALOG).touch()
    assert copies.present(str(tmp_path)) is None
    Store(str(tmp_path), create=True).close()
    assert copies.present(str(tmp_path)) is None
    assert copies.present(str(place)) == copy


def test_what_is_in_place_and_damaged_is_told(tmp_path):
    (tmp_path / CATALOG).write_bytes(b"no catalog" * 1000)
    with pytest.raises(CatalogError, match="damaged, or no catalog"):
        copies.present(str(tmp_path))


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
        assert copies.replaceable(str(place), coming, "digest", catalog, force) == copy
        return
    with pytest.raises(error) as caught:
        copies.replaceable(str(place), coming, "digest", catalog, force)
    assert f"catalog {catalog} over {place}/{CATALOG}" in caught.value.asked
    assert found in caught.value.found
    assert "nebula_restore_force: true" in caught.value.remedy


def test_what_a_restore_left_that_did_not_come_to_its_end_gives_way_again(tmp_path, copy):
    with contextlib.closing(Store(str(tmp_path), create=True)) as store, store.transaction() as db:
        db.execute("INSERT INTO meta VALUES ('restored', 'digest 1005')")
        db.execute("UPDATE meta SET value = '1005' WHERE key = 'plan'")
        db.execute("UPDATE meta SET value = ? WHERE key = 'catalog'", (copy.catalog,))
    assert copies.replaceable(str(tmp_path), copy, "digest", copy.catalog, False).plan == 1005
    with pytest.raises(Conflict, match="it is newer"):
        copies.replaceable(str(tmp_path), copy, "another digest", copy.catalog, False)
    with contextlib.closing(Store(str(tmp_path))) as store, store.transaction() as db:
        # Something was decided in it since.
        db.execute("UPDATE meta SET value = '1006' WHERE key = 'plan'")
    with pytest.raises(Conflict, match="it is newer"):
        copies.replaceable(str(tmp_path), copy, "digest", copy.catalog, False)


# -- what the nodes follow ---------------------------------------------------------------------------------------------


def test_nodes_that_follow_another_catalog_are_refused():
    copies.refuse_others("c", [Observed("a", catalog="c"), Observed("b", catalog="")])
    with pytest.raises(ForeignObject) as caught:
        copies.refuse_others("c", [Observed("a", catalog="c"), Observed("b", catalog="d")])
    assert (caught.value.asked, caught.value.found) == (
        "restoring catalog c",
        "host b carries the marks of catalog d",
    )


def test_a_catalog_is_begun_anew_under_the_one_mark_of_all_nodes():
    nodes = [Observed("a", catalog="c"), Observed("b"), Observed("d", catalog="c")]
    assert copies.common(nodes) == "c"
    with pytest.raises(
        InvalidValue, match=r"no node carries the mark of a catalog\. Run playbook nebula\.provision\.site"
    ):
        copies.common([Observed("b")])
    with pytest.raises(InvalidValue, match=r"the nodes follow c and e\. Use inventories"):
        copies.common([Observed("f", catalog="e"), *nodes])


# -- above all that was seen -------------------------------------------------------------------------------------------


@pytest.fixture
def coming(place, copy, tmp_path):
    """The copy as it is put together to become the catalog."""
    with copies.candidate(str(tmp_path), str(place / "copy"), copy.catalog) as store:
        yield store


def node(copy, *machines, **values):
    """The host as an audit sees it, with these (id, uuid, generation) of the catalog."""
    domains = tuple(
        Domain(f"one-{vm_id}", copy.catalog, vm_id, uuid, "RUNNING", generation, macs=(f"02:00:0a:42:00:{vm_id:02x}",))
        for vm_id, uuid, generation in machines
    )
    values.setdefault("catalog", copy.catalog)
    values.setdefault("plan_number", 1)
    return Observed("node1", inventory=Inventory(domains=domains), **values)


def known(store):
    return [(each["id"], each["uuid"], each["generation"]) for each in store.rows("SELECT * FROM vms ORDER BY id")]


def raised(store, copy, *nodes, current=None, keep=False):
    return copies.raise_above(store, nodes, current, "digest", keep, NOW)


def test_a_copy_of_all_that_was_decided_goes_on_as_it_is(coming, copy):
    found = raised(coming, copy, node(copy, *known(coming)), current=copy)
    assert (found.catalog, found.plan, found.next_id, found.ahead) == (copy.catalog, 1, 2, False)
    assert (found.raised, found.missing, found.strangers, found.held) == ((), (), (), ())
    assert found.hosts == ("node1",)
    assert coming.meta("restored") == ""


@pytest.fixture
def unused(tmp_path):
    """A catalog that never had a machine, what is told of its copy, and the copy as it becomes the catalog."""
    (tmp_path / "unused").mkdir()
    path = str(tmp_path / "unused/copy")
    with contextlib.closing(EmbeddedEngine(str(tmp_path / "unused"), create=True)) as engine:
        furnish(engine)
        engine.copy(path)
    copy = copies.look(path)
    with copies.candidate(str(tmp_path), path, copy.catalog) as store:
        yield path, copy, store


def test_a_copy_without_machines_goes_on_as_it_is_too(unused):
    path, copy, store = unused
    found = raised(store, copy, node(copy, plan_number=0), current=copy)
    assert (found.ahead, found.next_id) == (False, 0)
    assert copies.digest(store.db) == copies.origin_of(path)


@pytest.mark.parametrize("seen", [1, 9])
def test_a_machine_that_was_lost_with_its_catalog_has_an_id_that_is_not_used_again(unused, seen):
    _path, copy, store = unused
    found = raised(store, copy, node(copy, plan_number=seen))
    assert found.next_id == copies.IDS_APART


def test_where_a_node_has_seen_a_newer_plan_numbers_and_ids_go_on_above_it(coming, copy):
    found = raised(coming, copy, node(copy, *known(coming), plan_number=9), current=copy)
    assert (found.ahead, found.plan) == (True, 9 + copies.PLANS_APART)
    assert found.next_id == 2 + copies.IDS_APART
    assert coming.meta("plan") == "1009"
    assert coming.meta("restored") == "digest 1009"


def test_no_disk_is_taken_for_one_that_came_after_the_copy_was_made(coming, copy):
    """Its file is on the host yet, and would be what a new disk of that id holds."""
    ids = [json.loads(row["body"])["next_disk"] for row in coming.rows("SELECT body FROM vms ORDER BY id")]
    raised(coming, copy, node(copy, *known(coming), plan_number=9), current=copy)
    after = [json.loads(row["body"])["next_disk"] for row in coming.rows("SELECT body FROM vms ORDER BY id")]
    assert after == [number + copies.IDS_APART for number in ids] and min(ids) > 0


def test_where_the_catalog_was_lost_somebody_may_have_decided_in_it(coming, copy):
    found = raised(coming, copy, node(copy, *known(coming)))
    assert (found.ahead, found.plan, found.next_id) == (False, 1 + copies.PLANS_APART, 2 + copies.IDS_APART)


def test_no_id_of_the_catalog_that_gives_way_is_used_again(coming, copy):
    before = replace(copy, plan=7, next_ids={**copy.next_ids, "images": 30, "vms": 12, "datastores": 101})
    found = raised(coming, copy, node(copy, *known(coming)), current=before)
    following = {each["name"]: each["next"] for each in coming.rows("SELECT * FROM sequences")}
    assert (found.ahead, found.plan, found.next_id) == (True, 7 + copies.PLANS_APART, 12 + copies.IDS_APART)
    assert (following["images"], following["datastores"]) == (30 + copies.IDS_APART, 101 + copies.IDS_APART)
    assert following["hosts"] == 1 + copies.IDS_APART


def test_another_catalog_that_gives_way_says_nothing(coming, copy):
    other = replace(copy, catalog="other", plan=70, next_ids={"vms": 900})
    found = raised(coming, copy, current=other)
    assert (found.ahead, found.plan, found.next_id) == (False, 1, 2)


def test_a_machine_whose_node_acted_on_a_newer_decision_is_left_as_it_is_there(coming, copy):
    (first, second) = known(coming)
    there = node(
        copy,
        (*first[:2], first[2] + 5),
        second,
        plan_number=3,
        vms=(ObservedVm(0, first[1], "POWEROFF"), ObservedVm(1, second[1], "RUNNING")),
    )
    found = raised(coming, copy, there, current=copy)
    assert found.raised == ("VM web-0 (id 0) on host node1",)
    row = coming.rows("SELECT * FROM vms WHERE id = 0")[0]
    assert (row["generation"], row["wanted"], row["settled"]) == (first[2] + 6, "POWEROFF", 0)
    last = coming.rows("SELECT * FROM history WHERE vm_id = 0 ORDER BY step DESC")[0]
    assert (last["action"], last["time"], last["state"]) == ("restore", NOW, "POWEROFF")
    assert known(coming)[1] == second


@pytest.mark.parametrize("plan_number", [1, 9])
def test_a_machine_that_its_host_does_not_have_is_not_made_by_itself(coming, copy, plan_number):
    (first, _second) = known(coming)
    found = raised(coming, copy, node(copy, first, plan_number=plan_number), current=copy)
    assert found.missing == ("VM web-1 (id 1) on host node1",)
    row = coming.rows("SELECT * FROM vms WHERE id = 1")[0]
    assert row["settled"] == 1
    # Only where something was decided that the copy does not know, it may have been ended.
    assert ("state: running makes it anew" in row["error"]) == (plan_number == 9)


def test_a_host_that_does_not_answer_says_nothing_of_its_machines(coming, copy):
    found = raised(coming, copy, Observed("node1", reached=False), current=copy)
    assert (found.missing, found.raised, found.plan) == ((), (), 1)


def test_a_machine_that_the_copy_does_not_know_keeps_its_id_and_address(coming, copy):
    there = node(copy, *known(coming), (20, "stranger", 3))
    found = raised(coming, copy, there, current=copy)
    (stranger,) = found.strangers
    assert (stranger.host, stranger.vm_id, stranger.uuid, stranger.known) == ("node1", 20, "stranger", False)
    assert (found.plan, found.next_id) == (1 + copies.PLANS_APART, 21 + copies.IDS_APART)
    # 02:00:0a:42:00:14 is 10.66.0.20 of the range that begins with .10.
    assert found.held == ("10.66.0.20 of network Public",)
    leases = [tuple(each) for each in coming.rows("SELECT offset, vm_id, nic_id FROM leases ORDER BY offset")]
    assert leases == [(0, 0, 0), (1, 1, 0), (10, None, 20)]
    assert coming.rows("SELECT used FROM address_ranges")[0][0] == 3


def test_one_that_the_catalog_that_gives_way_knows_is_told_from_others(coming, copy):
    current = replace(copy, known=copy.known | {"stranger"})
    found = raised(coming, copy, node(copy, *known(coming), (20, "stranger", 3), (21, "other", 1)), current=current)
    assert [each.known for each in found.strangers] == [True, False]


def test_what_is_of_another_catalog_is_no_stranger(coming, copy):
    domain = Domain("x", "other", 20, "u", "RUNNING")
    directory = VmDirectory("/d/30", "30", "other", 30)
    there = Observed(
        "node1", catalog=copy.catalog, inventory=Inventory(domains=(domain,), directories=(directory,)), reached=False
    )
    assert raised(coming, copy, there, current=copy).strangers == ()


def test_a_directory_without_a_domain_is_a_stranger_too(coming, copy):
    files = (VmFile("disk.0", backing="/srv/1/base"), VmFile("disk.1", target="/srv/1/data"), VmFile("x.cfg"))
    lone = VmDirectory("/d/30", "30", copy.catalog, 30, "lone", 2, files)
    both = VmDirectory("/d/20", "20", copy.catalog, 20, "stranger", 9)
    domain = Domain("s", copy.catalog, 20, "stranger", "RUNNING", 3, disks=("/d/20/disk.0",))
    inventory = Inventory(domains=(domain,), directories=(both, lone))
    found = raised(coming, copy, Observed("node2", catalog=copy.catalog, inventory=inventory), current=copy)
    assert [(each.vm_id, each.state, each.generation, each.files) for each in found.strangers] == [
        (20, "RUNNING", 9, {"disk.0"}),
        (30, "no domain", 2, {"base", "data", "x.cfg"}),
    ]


@pytest.mark.parametrize(("keep", "is_known"), [(True, False), (False, True), (False, False)])
@pytest.mark.parametrize("persistent", [True, False])
def test_an_image_that_a_stranger_uses_is_given_to_nobody(coming, copy, persistent, keep, is_known):
    coming.db.execute("UPDATE images SET state = 1, persistent = ?", (persistent,))
    source = coming.rows("SELECT source FROM images")[0][0]
    files = (VmFile("disk.0", target=f"/elsewhere/{os.path.basename(source)}"),)
    directory = VmDirectory("/d/30", "30", copy.catalog, 30, "lone", 2, files)
    there = Observed("node2", catalog=copy.catalog, inventory=Inventory(directories=(directory,)))
    current = replace(copy, known=copy.known | ({"lone"} if is_known else set()))
    rested = raised(coming, copy, there, current=current, keep=keep).rested
    state = coming.rows("SELECT state FROM images")[0][0]
    if not keep and not is_known:
        # It is going to be ended.
        assert (rested, state) == ((), ImageState.READY)
        return
    (sentence,) = rested
    assert sentence.startswith("image demo (id 0): ")
    assert state == (ImageState.DISABLED if persistent else ImageState.READY)
    assert ("state: enabled" if persistent else "keep it while they are there") in sentence


def test_an_image_that_a_machine_of_its_own_has_come_by_since_is_given_to_nobody_else(coming, copy):
    """The copy was made before the machine got that disk: it runs, and has the file open."""
    coming.db.execute("UPDATE images SET state = 1, persistent = 1")
    source = coming.rows("SELECT source FROM images")[0][0]
    (first, second) = known(coming)
    there = node(copy, first, second)
    domains = tuple(replace(each, disks=(source,)) for each in there.inventory.domains[:1])
    there = replace(there, inventory=Inventory(domains=(*domains, *there.inventory.domains[1:])))
    # In use by whom the catalog says, it is as it is.
    coming.db.execute("UPDATE images SET state = ?", (int(ImageState.USED_PERS),))
    assert raised(coming, copy, there, current=copy).rested == ()
    coming.db.execute("UPDATE images SET state = 1")
    (sentence,) = raised(coming, copy, there, current=copy).rested
    assert sentence.startswith("image demo (id 0): one-0 on host node1 writes to it, which this catalog does not know")
    assert coming.rows("SELECT state FROM images")[0][0] == ImageState.DISABLED


def test_one_that_was_to_be_made_anew_may_have_still_what_it_was_to_lose(coming, copy):
    """The copy is of a moment at which that was decided; whether it was done since, nothing tells."""
    orders = json.dumps({"operation": "recreate", "hard": True})
    coming.db.execute("UPDATE vms SET settled = 0, orders = ? WHERE id = 0", (orders,))
    ((first, uuid, generation), second) = known(coming)
    raised(coming, copy, node(copy, (first, uuid, generation + 1), second), current=copy)
    # It is not made anew by this, and gives nothing back before it was off.
    assert [row[0] for row in coming.rows("SELECT orders FROM vms ORDER BY id")] == ['{"refitted":true}', "{}"]


# -- taking its place --------------------------------------------------------------------------------------------------


def test_what_is_put_together_is_gone_at_the_end(place, copy, tmp_path):
    with copies.candidate(str(tmp_path), str(place / "copy"), copy.catalog) as store:
        assert store.meta("catalog") == copy.catalog
        assert (tmp_path / copies.CANDIDATE).stat().st_mode & 0o077 == 0
    assert os.listdir(tmp_path) == []
    with copies.candidate("", "", "01234567") as store:
        assert (store.meta("catalog"), store.meta("plan")) == ("01234567", "0")
        root = store.root
    assert not os.path.exists(root)


def test_the_origin_is_what_a_copy_says_and_not_how_it_lies_there(place, tmp_path):
    origin = copies.origin_of(str(place / "copy"))
    assert len(origin) == 64
    assert copies.origin_of(spoiled(place, tmp_path / "same", "VACUUM")) == origin
    assert copies.origin_of(spoiled(place, tmp_path / "other", "UPDATE hosts SET memory = 1")) != origin
    assert copies.origin_of("") == ""


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
        contextlib.closing(copies.Watch(str(old), act=True)) as watch,
        copies.candidate(str(old), str(place / "copy"), copy.catalog) as store,
    ):
        assert copies.differs(store, str(old))
        aside = copies.put(store, str(old), "then", watch)
        assert not copies.differs(store, str(old))
    assert aside == str(old / f"{CATALOG}.before-then")
    assert (names_in(aside), names_in(old / CATALOG)) == (["old"], ["demo"])
    assert os.stat(aside).st_mode & 0o077 == 0


def test_who_decides_meanwhile_is_not_overwritten(place, copy, old):
    with contextlib.closing(copies.Watch(str(old), act=True)) as watch:
        watch.check()
        with contextlib.closing(EmbeddedEngine(str(old))) as engine, engine.session():
            engine.images.allocate(Image(None, "newer"))
        with copies.candidate(str(old), str(place / "copy"), copy.catalog) as store, pytest.raises(Conflict) as caught:
            copies.put(store, str(old), "then", watch)
    assert "another run has changed it meanwhile" in caught.value.found
    assert "Nothing was changed" in caught.value.remedy
    assert names_in(old / CATALOG) == ["old", "newer"]
    assert [name for name in os.listdir(old) if "before" in name] == []


def test_a_catalog_that_is_begun_meanwhile_is_not_overwritten(tmp_path):
    with contextlib.closing(copies.Watch(str(tmp_path), act=True)) as watch:
        watch.check()
        Store(str(tmp_path), create=True).close()
        with pytest.raises(Conflict, match=f"restoring the catalog {tmp_path}/{CATALOG}"):
            watch.check()


@pytest.mark.parametrize("content", [None, b"", b"no catalog" * 1000])
def test_what_can_not_be_read_gives_way_whole(place, copy, tmp_path, content):
    if content is not None:
        (tmp_path / CATALOG).write_bytes(content)
    with (
        contextlib.closing(copies.Watch(str(tmp_path), act=True)) as watch,
        copies.candidate(str(tmp_path), str(place / "copy"), copy.catalog) as store,
    ):
        aside = copies.put(store, str(tmp_path), "then", watch)
    assert names_in(tmp_path / CATALOG) == ["demo"]
    assert (tmp_path / CATALOG).stat().st_mode & 0o077 == 0
    there = tmp_path / f"{CATALOG}.before-then"
    assert aside == (str(there) if content is not None else "")
    assert content is None or there.read_bytes() == content
    assert copies.REPLACEMENT not in os.listdir(tmp_path)


def test_a_copy_needs_a_place_that_can_be_written(place, tmp_path):
    with contextlib.closing(Store(str(place))) as store, pytest.raises(NotFound, match="nosuch/copy"):
        copies.take(store, str(tmp_path / "nosuch" / "copy"))


def test_a_copy_says_of_itself_what_it_says_to_others(place, tmp_path):
    with contextlib.closing(Store(str(place))) as store:
        taken = copies.take(store, str(tmp_path / "copy"))
    assert isinstance(taken, Copy)
    assert taken == copies.look(str(tmp_path / "copy"))
    assert os.listdir(tmp_path) == ["copy"]
