# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against a real catalog: it reads, takes what polls say into account, and changes nothing."""

from __future__ import annotations

import re
from contextlib import closing

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.gather import GATHERERS
from ansible_collections.nebula.provision.plugins.module_utils.text.packed_json import unpack
from ansible_collections.nebula.provision.plugins.modules import nebula_info


def test_info_shows_polls_without_recording_them(furnished, vm, obey, options):
    obey(furnished, vm(furnished, name="a", template="web"))
    gather = ["hosts", "images", "networks", "leases", "templates", "vms", "history"]
    seen = {"host": "node1", "vms": [{"vm_id": 0, "uuid": "", "state": "POWEROFF"}], "as_of": 1700000000}
    info = nebula_info.call.run(options(nebula_info, root=furnished, gather=gather, observed=[seen]), False)
    assert not info.changed and info.payload["as_of"] == 1700000000
    assert info.payload["vms"][0]["state"] == "POWEROFF"
    assert info.payload["leases"][0]["ip"] == "10.66.0.10" and info.payload["leases"][0]["vm"] == "a"
    assert [step["state"] for step in info.payload["history"]["0"]] == ["PROLOG", "RUNNING", "POWEROFF"]
    later = nebula_info.call.run(options(nebula_info, root=furnished, gather=["vms"]), False)
    assert later.payload["vms"][0]["state"] == "RUNNING"


def test_info_can_name_machines_and_show_those_that_ended(furnished, vm, obey, options):
    obey(furnished, vm(furnished, name="a", template="web"))
    obey(furnished, vm(furnished, name="b", template="web"))
    obey(furnished, vm(furnished, name="a", state="absent"))

    def names(**given):
        info = nebula_info.call.run(options(nebula_info, root=furnished, gather=["vms"], **given), False)
        return [view["name"] for view in info.payload["vms"]]

    assert names() == ["b"] and names(done=True) == ["a", "b"] and names(vms=["b"]) == ["b"]


ALWAYS = ("as_of", "catalog", "foreign", "refused_answers")


def info(options, root, **given):
    return nebula_info.call.run(options(nebula_info, root=root, **given), False)


def test_all_of_it_is_one_text_where_that_is_asked_for(furnished, vm, obey, options):
    obey(furnished, vm(furnished, name="a", template="web"))
    told = info(options, furnished, gather=["networks", "vms"], _packed=True)
    assert [*told.payload] == ["packed"]
    assert unpack(told.payload["packed"]) == info(options, furnished, gather=["networks", "vms"]).payload


def test_what_is_gathered_unless_something_is_asked_for(furnished, options):
    told = info(options, furnished)
    assert sorted(told.payload) == sorted([*ALWAYS, "hosts", "images", "networks", "vms"])
    assert told.payload["as_of"] == 0
    assert not told.changed
    for what in GATHERERS:
        assert what in info(options, furnished, gather=[what]).payload


def test_an_audit_is_told_beside_what_else_is_gathered(furnished, options):
    told = info(options, furnished, gather=["consistency", "hosts"])
    assert [host["name"] for host in told.payload["hosts"]] == ["node1"]
    assert ("host-unknown", "node1") in [(each["kind"], each["host"]) for each in told.payload["consistency"]]
    alone = info(options, furnished, gather=["consistency"])
    assert sorted(alone.payload) == sorted([*ALWAYS, "consistency"])


@pytest.mark.parametrize("gather", [["hosts"], ["consistency"], []])
def test_a_host_that_answered_nonsense_is_named(furnished, options, gather):
    seen = [{"host": "node1", "vms": 5}, {"host": "node2", "reached": False}, {"host": "node3"}]
    told = info(options, furnished, gather=gather, observed=seen)
    assert [*told.payload["refused_answers"]] == ["node1"]
    assert [text for text in told.warnings if "host node1: what it answered" in text]
    assert told.payload["refused_answers"]["node1"].startswith("host node1: ")


def test_hosts_with_something_of_others_are_told(furnished, options):
    other = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
    seen = [
        {"host": "node1", "catalog": other},
        {"host": "node2", "foreign_memory": 5},
        {"host": "node3"},
        {"host": "node4", "foreign_memory": "5"},
    ]
    assert info(options, furnished, gather=[], observed=seen).payload["foreign"] == [
        {"host": "node1", "catalog": other, "foreign_memory": 0},
        {"host": "node2", "catalog": "", "foreign_memory": 5},
    ]


def test_a_host_that_gave_no_answer_is_in_error_with_the_words_of_its_hypervisor(furnished, options):
    words = "connecting to qemu:///system:\n  Failed to connect socket to '/run/libvirt/virtqemud-sock'"

    def told(**seen):
        return info(options, furnished, gather=["hosts"], observed=[{"host": "node1", **seen}]).payload["hosts"][0]

    stopped = told(reached=False, facts={"problem": words})
    assert (stopped["state"], stopped["error"]) == ("ERROR", " ".join(words.split()))
    dead = told(reached=False)
    assert (dead["state"], dead["error"]) == ("ERROR", "it did not answer")
    well = told()
    assert (well["state"], well["error"]) == ("MONITORED", "")
    unasked = info(options, furnished, gather=["hosts"]).payload["hosts"][0]
    assert (unasked["state"], unasked["error"]) == ("MONITORED", "")
    with closing(EmbeddedEngine(furnished)) as engine, engine.session():
        engine.hosts.update("node1", state=HostState.DISABLED)
    disabled = told(reached=False, facts={"problem": words})
    assert disabled["state"] == "DISABLED" and "Failed to connect" in disabled["error"]


def test_a_machine_that_was_given_up_and_is_there_again_is_named(furnished, vm, obey, options):
    obey(furnished, vm(furnished, name="a", template="web"))
    with closing(EmbeddedEngine(furnished)) as engine, engine.session():
        uuid = engine.vms.pool()[0].uuid
        engine.hosts.forget("node1")
        catalog = engine.catalog()
    seen = {"host": "node1", "catalog": catalog, "vms": [{"vm_id": 0, "uuid": uuid, "state": "RUNNING"}]}
    told = info(options, furnished, gather=["vms", "leases"], observed=[seen])
    assert "Host node1 has VM a (id 0), RUNNING, which was given up" in told.warnings[0]
    assert told.payload["leases"][0]["held"] == "it was given up with host node1"
    # What an audit warned of is not lost by what else is gathered.
    both = info(options, furnished, gather=["consistency", "vms"], observed=[seen])
    assert len(both.warnings) == 2


def test_the_oldest_poll_of_those_that_were_answered_says_how_old_all_is(furnished, options):
    seen = [
        {"host": "node1", "as_of": 200},
        {"host": "node2", "as_of": 100},
        {"host": "node3", "as_of": 5, "reached": False},
    ]
    assert info(options, furnished, observed=seen).payload["as_of"] == 100


def test_of_no_catalog_everything_is_empty_and_nothing_is_made(tmp_path, options):
    told = info(options, str(tmp_path / "none"), gather=[*GATHERERS, "consistency"])
    assert told.payload["vms"] == told.payload["hosts"] == []
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_poll_is_refused(furnished, options):
    with pytest.raises(InvalidValue, match="what a node observed"):
        info(options, furnished, observed=[{"observed": "x"}])


def test_machines_of_a_host_that_nobody_asked_are_unknown_as_of_when_it_was(furnished, vm, obey, options):
    """Its host may have left the inventory, and nobody knows what became of it."""
    obey(furnished, vm(furnished, name="a", template="web"))
    told = info(options, furnished, gather=["hosts", "vms"], observed=[{"host": "another", "vms": []}])
    (machine,) = told.payload["vms"]
    assert machine["state"] == "UNKNOWN" and machine["wanted"] == "RUNNING"
    assert re.search(r"host node1 was not asked in this run.*; RUNNING as of 20\d\d-\S+ \S+ UTC$", machine["error"])
    assert told.payload["hosts"][0]["error"] == "it was not asked in this run"
    # Where no host is to be asked, it is what the catalog has.
    assert info(options, furnished, gather=["vms"]).payload["vms"][0]["state"] == "RUNNING"
