# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts are known by their marks: a second name is refused, a rename needs the inventory's word, and what a node claims
alters nothing of another host."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.calls import host as call
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, InUse, InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.audit import Domain, Inventory
from ansible_collections.nebula.provision.plugins.module_utils.model.image_operations import Return, read, write
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.gather import consistency
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.host_identity import without_second_names
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.decided_list import decide

STRANGE = "f" * 32


class Site:
    """A catalog, with what nodes tell it."""

    def __init__(self, root: Any) -> None:
        self.root = str(root)
        self.engine = EmbeddedEngine(self.root, create=True)
        self.db = self.engine.store.db

    def marks(self, *names: str) -> dict[str, str]:
        return self.engine.hosts.offer_marks(names)

    def told(self, *items: dict[str, Any], nodes: Any = (), check_mode: bool = False) -> Any:
        params = {"hosts": list(items), "nodes": list(nodes), "engine": "embedded", "root": self.root}
        return call.run(params, check_mode)

    def machine(self, vm_id: int, host: str) -> None:
        host_id = self.engine.hosts.info(host).id
        self.db.execute(
            "INSERT INTO vms (id, name, uuid, state, lcm_state, host_id, wanted, settled, cpu, memory, request, body,"
            " stime) VALUES (?, ?, ?, 3, 3, ?, 'RUNNING', 1, 1, 64, '[]', '{}', 0)",
            (vm_id, f"vm{vm_id}", f"u{vm_id}", host_id),
        )
        self.db.execute("INSERT INTO history VALUES (?, 0, 0, ?, 'RUNNING', '', '')", (vm_id, host))
        self.db.execute("UPDATE hosts SET vms = vms + 1, memory_used = 64 WHERE id = ?", (host_id,))

    def whole(self, but: str = "") -> list[Any]:
        """All that the catalog has of hosts and their machines."""
        tables = ("hosts", "host_marks", "vms", "history", "given_up", "images")
        rows = [tuple(row) for table in tables for row in self.db.execute(f"SELECT * FROM {table}").fetchall()]
        return [row for row in rows if not but or but not in row]

    @property
    def names(self) -> list[str]:
        return [host.name for host in self.engine.hosts.pool()]


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    yield made
    made.engine.close()


def item(name: str, mark: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "memory": 4096, "cpu": 4, "mark": mark, **more}


def refused(result: Any, name: str, kind: type[Exception] = Conflict) -> str:
    (error,) = [each for each in result.errors if each.name == name]
    assert isinstance(error.error, kind), error.error
    return str(error.error)


def test_a_host_shows_its_own_mark_and_nothing_changes(site):
    marks = site.marks("node1", "node2")
    asked = [item(name, mark) for name, mark in marks.items()]
    assert site.told(*asked, check_mode=True).changed and not site.names
    assert site.told(*asked).changed
    for check_mode in (True, False):
        again = site.told(*asked, check_mode=check_mode)
        assert not again.changed and not again.errors and not again.warnings
    assert site.marks("node1", "node2") == marks


def test_a_second_name_is_refused_with_the_first_one_and_the_host_on_record_goes_on(site):
    mark = site.marks("kvm1", "kvm2")["kvm1"]
    site.told(item("kvm1", mark))
    before = site.whole()
    result = site.told(item("kvm2", mark), item("kvm1", mark, memory=8192))
    said = refused(result, "kvm2")
    assert "it carries the mark of host kvm1" in said and "nebula_renamed_from: kvm1" in said
    # Its capacity is there once, as the host on record has told it.
    assert [(host.name, host.memory) for host in site.engine.hosts.pool()] == [("kvm1", 8192)]
    site.told(item("kvm1", mark))
    assert site.whole() == before


@pytest.mark.parametrize("order", [("kvm1", "kvm2"), ("kvm2", "kvm1")])
def test_of_two_names_in_the_first_run_the_one_that_the_mark_was_given_to_is_kept(site, order):
    mark = site.marks(*order)["kvm1"]
    result = site.told(*(item(name, mark) for name in order))
    refused(result, "kvm2")
    assert site.names == ["kvm1"]


def test_a_claim_alters_nothing_of_the_host_on_record(site):
    """A node that was taken over shows whatever it likes, under its own name."""
    marks = site.marks("kvm1", "liar")
    site.told(item("kvm1", marks["kvm1"], machine_id="1"), item("liar", marks["liar"], machine_id="2"))
    site.machine(3, "kvm1")
    before = site.whole()
    for claim in (
        {"mark": marks["kvm1"], "machine_id": "1"},
        # Without the inventory's word, and with the word of another.
        {"mark": marks["kvm1"], "renamed_from": "other"},
        {"mark": "../../x", "machine_id": "1"},
        {"mark": marks["kvm1"].upper()},
        {"mark": marks["kvm1"][:-1]},
    ):
        result = site.told(item("liar", **claim))
        assert refused(result, "liar", (Conflict, InvalidValue)) and site.whole() == before
    # The same with a mark that nobody has alters what the catalog has of the liar alone.
    site.told(item("liar", STRANGE, machine_id="1"))
    assert site.whole(but="liar") == [row for row in before if "liar" not in row]


def test_without_the_mark_nobody_becomes_another_host_by_the_inventorys_word(site):
    marks = site.marks("kvm1", "new")
    site.told(item("kvm1", marks["kvm1"]))
    for mark in (marks["new"], STRANGE):
        said = refused(site.told(item("new", mark, renamed_from="kvm1"), nodes=["new"]), "new")
        assert "does not carry the mark that host kvm1 has" in said and site.names == ["kvm1"]


def test_a_host_is_renamed_once_with_all_that_it_has(site):
    marks = site.marks("old", "new")
    site.told(item("old", marks["old"], machine_id="1"))
    site.machine(3, "old")
    site.db.execute("INSERT INTO given_up VALUES (3, 'old', 0, '')")
    coming = write(Return("old", ran=False))
    site.db.execute(
        "INSERT INTO images (id, name, uuid, type, state, operation) VALUES (0, 'data', 'i', 0, 10, ?)", (coming,)
    )
    asked = item("new", marks["old"], machine_id="1", renamed_from="old")
    said = refused(site.told(asked, nodes=["old", "new"]), "new")
    assert "old is still in the inventory" in said and site.names == ["old"]
    assert site.told(asked, nodes=["new"], check_mode=True).changed and site.names == ["old"]
    done = site.told(asked, nodes=["new"])
    assert done.changed and not done.errors and not done.warnings
    (change,) = done.items
    assert (change.before["name"], change.after["name"], change.after["vms"]) == ("old", "new", 1)
    assert [site.db.execute(f"SELECT host FROM {table}").fetchone()[0] for table in ("history", "given_up")] == [
        "new",
        "new",
    ]
    assert read(site.db.execute("SELECT operation FROM images").fetchone()[0]) == Return("new", ran=False)
    assert site.engine.vms.pool()[0].host == "new" and site.names == ["new"]
    # The word may stay, and the former name may be another host's.
    assert site.marks("old")["old"] not in marks.values()
    for again in (site.told(asked, nodes=["new"]), site.told(asked, nodes=["old", "new"])):
        assert not again.changed and not again.errors
    another = item("old", site.marks("old")["old"])
    assert site.told(asked, another, nodes=["old", "new"]).errors == [] and site.names == ["new", "old"]


def test_a_name_that_has_no_machines_gives_way_to_the_host_that_is_renamed_to_it(site):
    marks = site.marks("old", "new")
    site.told(item("old", marks["old"]), item("new", marks["new"]))
    site.machine(3, "old")
    assert not site.told(item("new", marks["old"], renamed_from="old"), nodes=["new"]).errors
    assert site.names == ["new"] and site.engine.hosts.info("new").vms == 1


def test_the_word_of_a_catalog_that_was_lost_does_no_harm(site):
    mark = site.marks("new")["new"]
    assert not site.told(item("new", mark, renamed_from="old"), nodes=["new"]).errors and site.names == ["new"]


@pytest.mark.parametrize("shown", [True, False])
def test_machines_under_both_names_are_not_refused_if_they_were_there_before_hosts_had_marks(site, shown):
    marks = site.marks("kvm1", "kvm2")
    site.told(item("kvm1", marks["kvm1"]), {"name": "kvm2", "memory": 4096, "cpu": 4})
    if shown:
        site.told(item("kvm2", marks["kvm2"]))
    site.machine(3, "kvm1")
    site.machine(4, "kvm2")
    result = site.told(item("kvm1", marks["kvm1"]), item("kvm2", marks["kvm1"]))
    if shown:
        # It had a mark of its own: by now its name leads to another host.
        refused(result, "kvm2")
        return
    assert not result.errors and "both names are of one host" in result.warnings[0]
    # Nothing new comes to the second: its memory and processors count once.
    assert {host.name: host.state.name for host in site.engine.hosts.pool()} == {
        "kvm1": "MONITORED",
        "kvm2": "DISABLED",
    }
    assert not site.told(item("kvm1", marks["kvm1"]), item("kvm2", marks["kvm1"])).changed
    word = item("kvm2", marks["kvm1"], renamed_from="kvm1")
    refused(site.told(word, nodes=["kvm2"]), "kvm2", InUse)
    site.db.execute("UPDATE vms SET state = 6, wanted = 'DONE' WHERE id = 3")
    site.db.execute("UPDATE hosts SET vms = 0 WHERE name = 'kvm1'")
    assert not site.told(word, nodes=["kvm2"]).errors and site.names == ["kvm2"]
    assert site.marks("kvm2")["kvm2"] == marks["kvm1"]


@pytest.mark.parametrize("asked_first", ["kvm1", "kvm2"])
@pytest.mark.parametrize("order", [("kvm1", "kvm2"), ("kvm2", "kvm1")])
def test_at_an_update_the_name_with_the_machines_is_the_hosts(site, asked_first, order):
    """Whichever name the host was asked by first, and so has the mark of."""
    for name in ("kvm1", "kvm2"):
        site.told({"name": name, "memory": 4096, "cpu": 4})
    mark = site.marks("kvm1", "kvm2")[asked_first]
    site.machine(3, "kvm1")
    result = site.told(*(item(name, mark) for name in order))
    refused(result, "kvm2")
    assert site.marks("kvm1")["kvm1"] == mark and not result.warnings
    assert site.engine.hosts.info("kvm1").state.name == "MONITORED"
    again = site.told(*(item(name, mark) for name in order))
    refused(again, "kvm2")
    assert not again.changed


def test_equal_machine_ids_with_different_marks_warn_with_both_names(site):
    marks = site.marks("kvm1", "kvm2", "kvm3")
    asked = [item(name, marks[name], machine_id="same") for name in ("kvm1", "kvm2")]
    for attempt in (site.told(*asked), site.told(*asked), site.told(asked[0])):
        assert not attempt.errors
        (warning,) = attempt.warnings
        assert "Hosts kvm1 and kvm2 have the same machine id, and different marks" in warning
    assert not site.told(item("kvm3", marks["kvm3"], machine_id="own")).warnings
    assert not site.told(asked[0], item("kvm2", marks["kvm2"], machine_id="other")).warnings


def test_a_mark_of_a_host_that_is_gone_from_the_catalog_is_its_that_shows_it(site):
    marks = site.marks("kvm1", "kvm2")
    site.told(item("kvm1", marks["kvm1"]))
    site.told({"name": "kvm1", "state": "lost"})
    assert not site.told(item("kvm2", marks["kvm1"])).errors
    assert site.marks("kvm2")["kvm2"] == marks["kvm1"]
    refused(site.told(item("kvm1", marks["kvm1"])), "kvm1")


def test_without_a_mark_all_is_as_before(site):
    assert site.told({"name": "kvm1", "memory": 4096}).changed
    assert not site.told({"name": "kvm1", "memory": 4096, "mark": "", "machine_id": ""}).changed


def polled(host: str, mark: str, **more: Any) -> Observed:
    return Observed(host, mark=mark, **more)


def test_what_a_second_name_answers_is_no_answer(site):
    """Wherever it is asked: by machines' runs alone, and by the audit."""
    marks = site.marks("kvm1", "kvm2")
    site.told(item("kvm1", marks["kvm1"]), item("kvm2", marks["kvm2"]))
    answers = [polled("kvm1", marks["kvm1"]), polled("kvm2", marks["kvm1"]), polled("new", marks["kvm1"])]
    believed, why = without_second_names(site.engine, answers)
    assert [(node.host, node.reached) for node in believed] == [("kvm1", True), ("kvm2", False), ("new", False)]
    assert why.keys() == {"kvm2", "new"} and believed[0] is answers[0]
    assert all("it carries the mark of host kvm1" in each for each in why.values())
    # Their own, none, one that nobody has, and what is no mark at all.
    for mark in (marks["kvm2"], "", STRANGE, "../x"):
        assert without_second_names(site.engine, [polled("kvm2", mark)]) == ([polled("kvm2", mark)], {})


def test_the_audit_names_a_second_name_and_nothing_that_is_there(site):
    marks = site.marks("kvm1")
    site.told(item("kvm1", marks["kvm1"]))
    domain = Domain("one-3", site.engine.catalog(), 3, "u3", "RUNNING", forget="virsh destroy one-3")
    seen = Inventory(domains=(domain,))
    found = consistency(site.engine, [polled("kvm2", marks["kvm1"], inventory=seen)], {"root": site.root})
    second = [finding for finding in found if finding["host"] == "kvm2"]
    assert [finding["kind"] for finding in second] == ["host-unknown"]
    assert "both names are of one host" in second[0]["found"] and "virsh" not in str(found)


def test_a_run_of_machines_plans_nothing_for_a_second_name(site):
    """A name that leads to another host by now: what the catalog has under it is left as it is, and not made there."""
    marks = site.marks("kvm1", "kvm2")
    site.told(item("kvm1", marks["kvm1"]), item("kvm2", marks["kvm2"]))
    site.machine(4, "kvm2")
    site.db.execute("UPDATE vms SET settled = 0")
    for hosts in (None, ["kvm1", "kvm2"]):
        with site.engine.session():
            answers = [polled("kvm1", marks["kvm1"]), polled("kvm2", marks["kvm1"])]
            decided = decide(site.engine, [], answers, hosts, True, False)
        assert decided.plans == {}
        assert [each for each in decided.warnings if "Nothing was done under the name kvm2" in each]


def test_in_check_mode_later_tasks_take_the_host_as_renamed(site):
    marks = site.marks("old", "new")
    site.told(item("old", marks["old"]))
    forecast = site.told(item("new", marks["old"], renamed_from="old"), nodes=["new"], check_mode=True)
    with closing(EmbeddedEngine(site.root, check_mode=True)) as engine, engine.session():
        engine.declare({"hosts": forecast.payload["hosts"]})
        assert [host.name for host in engine.hosts.pool()] == ["new"]
        assert without_second_names(engine, [polled("new", marks["old"])])[1] == {}
    assert site.names == ["old"]
