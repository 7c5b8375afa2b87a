# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be gathered of a real catalog, by name; and how an audit differs by what it was given."""

from __future__ import annotations

import json
import shutil
import sqlite3

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.model.audit_finding import KINDS
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.network import AddressRange, Network
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed, VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.router import Router
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState, ImageState
from ansible_collections.nebula.provision.plugins.module_utils.reconcile import gather as info
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

WEB = 'CPU = 0.5 MEMORY = 128 DISK = [ IMAGE = "demo" ] NIC = [ NETWORK = "Public" ] CONTEXT = [ PIN = "s3cr3t" ]'


@pytest.fixture(scope="module")
def furnished(tmp_path_factory):
    """A catalog with the machines a and b, and c, which has ended."""
    root = tmp_path_factory.mktemp("furnished")
    opened = EmbeddedEngine(str(root), create=True)
    with opened.session():
        opened.hosts.allocate(Host(None, "node1", state=HostState.MONITORED, memory=4096, cpu=8.0))
        opened.images.allocate(Image(None, "demo", dev_prefix="vd", state=ImageState.READY, size=16, format="qcow2"))
        ranges = (AddressRange(0, "IP4", 10, ip="10.66.0.10"),)
        opened.networks.allocate(Network(None, "Public", bridge="nbr0", address_ranges=ranges))
        opened.templates.allocate("web", parse(WEB))
        opened.routers.allocate(Router(None, "edge"))
    for items in ([{"name": name, "template": "web"} for name in "abc"], [{"name": "c", "state": "absent"}]):
        with opened.session():
            outcomes, _warnings = reconcile(opened, items)
            assert not [outcome.error for outcome in outcomes if outcome.error]
            for host, plan in opened.vms.plans().items():
                opened.vms.record(host, [VmOutcome(p.vm.vm_id, p.generation, p.wanted, True) for p in plan.vms])
    opened.close()
    return root


@pytest.fixture
def engine(furnished, tmp_path):
    shutil.copytree(furnished, tmp_path, dirs_exist_ok=True)
    opened = EmbeddedEngine(str(tmp_path))
    yield opened
    opened.close()


@pytest.fixture
def gather(engine, tmp_path):
    def named(what, **params):
        with engine.session():
            return info.GATHERERS[what](engine, {"root": str(tmp_path), **params})

    return named


@pytest.mark.parametrize("what", sorted(info.GATHERERS))
def test_all_that_is_gathered_is_plain_and_without_secrets(gather, what):
    found = json.dumps(gather(what, done=True))
    assert found not in ("[]", "{}")
    assert "s3cr3t" not in found


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("hosts", ["node1"]),
        ("datastores", ["system", "default", "files"]),
        ("images", ["demo"]),
        ("networks", ["Public"]),
        ("templates", ["web"]),
        ("vms", ["a", "b"]),
    ],
)
def test_objects_are_told_by_their_names(gather, what, names):
    assert [each["name"] for each in gather(what)] == names


@pytest.mark.parametrize(
    ("params", "names"),
    [
        ({}, ["a", "b"]),
        ({"done": True}, ["a", "b", "c"]),
        ({"vms": ["b"]}, ["b"]),
        ({"vms": ["c"]}, []),
        ({"vms": ["c"], "done": True}, ["c"]),
    ],
)
def test_machines_and_their_history_are_those_that_are_asked_for(gather, params, names):
    machines = gather("vms", **params)
    assert [each["name"] for each in machines] == names
    assert sorted(gather("history", **params)) == [str(each["id"]) for each in machines]


def test_a_lease_tells_whose_it_is_and_ends_with_its_machine(gather):
    leases = gather("leases", done=True)
    assert leases[0] == {
        "network": "Public",
        "ip": "10.66.0.10",
        "ip6": "",
        "mac": "02:00:0a:42:00:0a",
        "vm_id": 0,
        "vm": "a",
        "nic_id": 0,
        "held": "",
    }
    assert [(lease["vm"], lease["ip"]) for lease in leases] == [("a", "10.66.0.10"), ("b", "10.66.0.11")]


def held(leases):
    return [(each["ip"], each["vm"], each["vm_id"], each["held"]) for each in leases if each["held"]]


def test_who_holds_an_address_that_nobody_has_is_told(engine, gather):
    given_up = "it was given up with host node1"
    with engine.session():
        engine.hosts.forget("node1")
        # As a restored catalog holds it for a machine that was made after the backup.
        engine.store.db.execute(
            "INSERT INTO leases (network_id, ar_id, offset, vm_id, kind) VALUES (0, 0, 5, 77, 'unknown')"
        )
    leases = gather("leases")
    assert held(leases) == [
        ("10.66.0.10", "a", 0, given_up),
        ("10.66.0.11", "b", 1, given_up),
        ("10.66.0.15", "", 77, "the catalog does not know that machine"),
    ]
    assert len(leases) == 3 and leases[0]["mac"] == "02:00:0a:42:00:0a" and leases[0]["network"] == "Public"
    assert held(gather("leases", vms=["b"])) == [("10.66.0.11", "b", 1, given_up)]
    assert [(each["name"], each["held"]) for each in gather("networks")] == [("Public", 3)]


def test_an_address_of_a_machine_that_is_being_ended_is_told_as_held(engine, gather):
    with engine.session():
        reconcile(engine, [{"name": "a", "state": "absent"}])
    assert held(gather("leases")) == [("10.66.0.10", "a", 0, "it is being ended")]
    assert [each["held"] for each in gather("networks")] == [0]


def test_an_audit_warns_of_what_is_held(engine, tmp_path):
    with engine.session():
        engine.hosts.forget("node1")
    warnings = []
    info.consistency(engine, [], {"root": str(tmp_path)}, warnings)
    assert warnings[0] == "10.66.0.10 of network Public is held for VM a (id 0): it was given up with host node1"
    assert len(warnings) == 2


def test_history_is_told_step_by_step(gather):
    assert [step["state"] for step in gather("history")["0"]] == ["PROLOG", "RUNNING"]
    assert [step["state"] for step in gather("history", done=True)["2"]][-1] == "DONE"


# -- the audit --------------------------------------------------------------------------------------------------------
def kinds(found):
    assert {each["kind"] for each in found} <= set(KINDS)
    return [(each["kind"], each["host"]) for each in found]


def test_an_audit_names_hosts_that_were_not_asked_and_files_that_are_not_there(engine, tmp_path):
    found = info.consistency(engine, [], {"root": str(tmp_path)})
    assert ("host-unknown", "node1") in kinds(found)
    (image,) = [each for each in found if each["kind"] == "image-file"]
    assert "image demo (id 0)" in image["object"]
    assert image["sentence"].startswith(f"{image['object']}: {image['found']}")
    json.dumps(found)


def test_a_host_that_is_silent_is_told_as_such(engine, tmp_path):
    found = info.consistency(engine, [Observed("node1", reached=False)], {"root": str(tmp_path)})
    assert ("host-silent", "node1") in kinds(found)
    assert ("host-unknown", "node1") not in kinds(found)


def test_what_is_left_in_the_datastore_is_told(engine, tmp_path):
    place = tmp_path / "datastores" / "1"
    place.mkdir(parents=True, exist_ok=True)
    (place / "stranger").write_bytes(b"x")
    found = info.consistency(engine, [], {"root": str(tmp_path), "deep": True})
    (left,) = [each for each in found if each["kind"] == "image-left"]
    assert "stranger" in left["object"] + left["found"]


def test_of_a_damaged_catalog_nothing_else_is_told(engine, tmp_path):
    """Else each file would seem to belong to no image."""
    (tmp_path / "datastores" / "1").mkdir(parents=True, exist_ok=True)
    (tmp_path / "datastores" / "1" / "image").touch()
    with sqlite3.connect(tmp_path / "nebula.db") as db:
        db.execute("PRAGMA foreign_keys = OFF")
        db.execute("DROP TABLE images")
    db.close()
    found = info.consistency(engine, [], {"root": str(tmp_path)})
    assert {kind for kind, _host in kinds(found)} == {"catalog-damaged"}
