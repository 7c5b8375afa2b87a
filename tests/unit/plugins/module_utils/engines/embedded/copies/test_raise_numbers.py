# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes back from a copy goes on above all that nodes have seen."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.copies import (
    raise_numbers,
    read_copy,
    restore,
)
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.plan_numbers import PlanNumbers
from ansible_collections.nebula.provision.plugins.module_utils.model.audit import Domain, Inventory, VmDirectory, VmFile
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.move import Move, MoveSeen
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed, ObservedVm
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.conftest import furnish

NOW = 1_800_000_000


@pytest.fixture
def coming(place, copy, tmp_path):
    """The copy as it is put together to become the catalog."""
    with restore.candidate(str(tmp_path), str(place / "copy"), copy.catalog) as store:
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
    return raise_numbers.raise_above(store, nodes, current, "digest", keep, NOW)


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
        read_copy.take(engine.store, path)
    copy = read_copy.look(path)
    with restore.candidate(str(tmp_path), path, copy.catalog) as store:
        yield path, copy, store


def test_a_copy_without_machines_goes_on_as_it_is_too(unused):
    path, copy, store = unused
    found = raised(store, copy, node(copy, plan_number=0), current=copy)
    assert (found.ahead, found.next_id) == (False, 0)
    assert read_copy.digest(store.db) == read_copy.origin_of(path)


@pytest.mark.parametrize("seen", [1, 9])
def test_a_machine_that_was_lost_with_its_catalog_has_an_id_that_is_not_used_again(unused, seen):
    _path, copy, store = unused
    found = raised(store, copy, node(copy, plan_number=seen))
    assert found.next_id == raise_numbers.IDS_APART


def test_where_a_node_has_seen_a_newer_plan_numbers_and_ids_go_on_above_it(coming, copy):
    found = raised(coming, copy, node(copy, *known(coming), plan_number=9), current=copy)
    assert (found.ahead, found.plan) == (True, 9 + raise_numbers.PLANS_APART)
    assert found.next_id == 2 + raise_numbers.IDS_APART
    assert coming.meta("plan") == "1009"
    assert coming.meta("restored") == "digest 1009"


def test_numbers_that_a_node_made_up_use_up_nothing(coming, copy):
    """The greatest that can be said would leave none for what is decided next."""
    most = (1 << 31) - 1
    found = raised(coming, copy, node(copy, *known(coming), (most, "stranger", 1), plan_number=most), current=copy)
    assert (found.ahead, found.plan) == (False, 1 + raise_numbers.PLANS_APART)
    assert found.next_id == 2 + raise_numbers.IDS_APART
    assert [each.vm_id for each in found.strangers] == [most]


def test_the_proofs_that_nodes_have_go_on_to_count(coming, copy):
    current = replace(copy, plan_key="of the one that gives way", plan_key_since=1)
    found = raised(coming, copy, node(copy, *known(coming), plan_number=9), current=current)
    assert (coming.meta("plan_key"), coming.meta("plan_key_since")) == ("of the one that gives way", "1")
    assert found.proof == PlanNumbers(coming).proof(found.plan)


def test_no_disk_is_taken_for_one_that_came_after_the_copy_was_made(coming, copy):
    """Its file is on the host yet, and would be what a new disk of that id holds."""
    ids = [json.loads(row["body"])["next_disk"] for row in coming.rows("SELECT body FROM vms ORDER BY id")]
    raised(coming, copy, node(copy, *known(coming), plan_number=9), current=copy)
    after = [json.loads(row["body"])["next_disk"] for row in coming.rows("SELECT body FROM vms ORDER BY id")]
    assert after == [number + raise_numbers.IDS_APART for number in ids] and min(ids) > 0


def test_where_the_catalog_was_lost_somebody_may_have_decided_in_it(coming, copy):
    found = raised(coming, copy, node(copy, *known(coming)))
    assert (found.ahead, found.plan, found.next_id) == (
        False,
        1 + raise_numbers.PLANS_APART,
        2 + raise_numbers.IDS_APART,
    )


def test_no_id_of_the_catalog_that_gives_way_is_used_again(coming, copy):
    before = replace(copy, plan=7, next_ids={**copy.next_ids, "images": 30, "vms": 12, "datastores": 101})
    found = raised(coming, copy, node(copy, *known(coming)), current=before)
    following = {each["name"]: each["next"] for each in coming.rows("SELECT * FROM sequences")}
    assert (found.ahead, found.plan, found.next_id) == (
        True,
        7 + raise_numbers.PLANS_APART,
        12 + raise_numbers.IDS_APART,
    )
    assert (following["images"], following["datastores"]) == (
        30 + raise_numbers.IDS_APART,
        101 + raise_numbers.IDS_APART,
    )
    assert following["hosts"] == 1 + raise_numbers.IDS_APART


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
    assert (found.plan, found.next_id) == (1 + raise_numbers.PLANS_APART, 21 + raise_numbers.IDS_APART)
    # 02:00:0a:42:00:14 is 10.66.0.20 of the range that begins with .10.
    assert found.held == ("10.66.0.20 of network Public",)
    leases = [tuple(each) for each in coming.rows("SELECT offset, vm_id, kind FROM leases ORDER BY offset")]
    assert leases == [(0, 0, "nic"), (1, 1, "nic"), (10, 20, "unknown")]
    assert coming.rows("SELECT used FROM address_ranges")[0][0] == 3


def test_the_catalogs_own_machine_under_another_host_is_no_stranger(coming, copy):
    """A backup from before the host had its new name."""
    renamed = replace(node(copy, *known(coming)), host="node1-new")
    domains = tuple(replace(each, forget="virsh destroy one-0") for each in renamed.inventory.domains)
    found = raised(coming, copy, replace(renamed, inventory=Inventory(domains=domains)), current=copy)
    assert [(each.host, each.elsewhere, each.forget) for each in found.strangers] == [("node1-new", "node1", "")] * 2
    assert (found.missing, found.held, found.rested) == ((), (), ())


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


# -- machines that moved -----------------------------------------------------------------------------------------------
@pytest.fixture
def pair(coming):
    """The same copy, with a second host."""
    coming.db.execute("INSERT INTO hosts (id, name, hypervisor, state) VALUES (1, 'node2', 'kvm', 2)")
    return coming


def on_second(copy, machine, port=0, **values):
    there = node(copy, machine, **values)
    domains = tuple(replace(each, port=port) for each in there.inventory.domains)
    return replace(there, host="node2", inventory=Inventory(domains=domains))


def moves_to_second(store, generation):
    """The first machine is on its way, as the copy has it."""
    move = Move("f" * 32, "node1", "node2", "live", generation, True, 0, 9)
    text = json.dumps(to_plain(move))
    store.db.execute(
        "UPDATE vms SET move = ?, move_host = 1, settled = 0, generation = ? WHERE id = 0", (text, generation)
    )
    store.db.execute("UPDATE hosts SET memory_used = 128, overhead_used = 9, cpu_used = 0.5, vms = 1 WHERE id = 1")


def homes(store):
    rows = store.rows(
        "SELECT vms.id, hosts.name, settled, move_host FROM vms JOIN hosts ON hosts.id = host_id ORDER BY 1"
    )
    return [tuple(each) for each in rows]


def held(store):
    rows = store.rows("SELECT memory_used, cpu_used, vms FROM hosts ORDER BY id")
    return [tuple(each) for each in rows]


def test_a_machine_that_has_moved_since_is_where_it_is_found(pair, copy):
    (first, second) = known(pair)
    polled = (ObservedVm(0, first[1], "RUNNING"),)
    there = on_second(copy, (*first[:2], first[2] + 3), plan_number=4, vms=polled)
    found = raised(pair, copy, node(copy, second, plan_number=4), there, current=copy)
    assert (found.strangers, found.missing) == ((), ())
    assert found.raised == ("VM web-0 (id 0) on host node2",)
    # Its next plan is that of the host that has it, and the other one's never makes it anew.
    assert homes(pair) == [(0, "node2", 0, None), (1, "node1", 1, None)]
    assert held(pair) == [(128, 0.5, 1), (128, 0.5, 1)]


def test_a_machine_that_is_on_two_hosts_stays_where_the_copy_has_it(pair, copy):
    (first, second) = known(pair)
    found = raised(pair, copy, node(copy, first, second), on_second(copy, first), current=copy)
    assert [(each.host, each.elsewhere) for each in found.strangers] == [("node2", "node1")]
    assert homes(pair) == [(0, "node1", 1, None), (1, "node1", 1, None)]


def test_a_machine_of_a_host_that_does_not_answer_is_not_taken_from_it(pair, copy):
    first = known(pair)[0]
    found = raised(pair, copy, Observed("node1", reached=False), on_second(copy, first), current=copy)
    assert [(each.host, each.elsewhere) for each in found.strangers] == [("node2", "node1")]
    assert homes(pair)[0] == (0, "node1", 1, None)


@pytest.mark.parametrize("host", ["node1", "node2"])
def test_a_move_that_a_host_still_knows_is_asked_for_as_in_any_run(pair, copy, host):
    (first, second) = known(pair)
    moves_to_second(pair, first[2] + 1)
    seen = (MoveSeen(0, "f" * 32, "leaving" if host == "node1" else "coming"),)
    here = node(copy, first, second, plan_number=4, moves=seen if host == "node1" else ())
    there = on_second(copy, (*first[:2], first[2] + 7), plan_number=4, moves=seen if host == "node2" else ())
    found = raised(pair, copy, here, there, current=copy)
    assert (found.strangers, found.missing) == ((), ())
    assert homes(pair)[0] == (0, "node1", 0, 1)
    assert held(pair) == [(256, 1.0, 2), (128, 0.5, 1)]
    # The decision is above all that they have seen, and it is that of the move.
    row = pair.rows("SELECT * FROM vms WHERE id = 0")[0]
    assert row["generation"] == json.loads(row["move"])["generation"] == first[2] + 8


@pytest.mark.parametrize("host", ["node1", "node2", ""])
def test_a_move_of_which_no_host_knows_any_more_was_decided(pair, copy, host):
    (first, second) = known(pair)
    moves_to_second(pair, first[2] + 1)
    here = node(copy, *([first] if host == "node1" else []), second, plan_number=4)
    there = on_second(copy, first, plan_number=4) if host == "node2" else Observed("node2", inventory=Inventory())
    found = raised(pair, copy, here, there, current=copy)
    assert found.strangers == ()
    assert found.missing == (() if host else ("VM web-0 (id 0) on host node1",))
    assert homes(pair)[0][1:] == (host or "node1", 0 if host else 1, None)
    assert held(pair) == [(256, 1.0, 2), (0, 0.0, 0)] if host != "node2" else [(128, 0.5, 1), (128, 0.5, 1)]
