# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which machines of a real catalog are backed up, why others are not, and what each host is asked for."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.calls import machine_backup as call
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, NotFound
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import from_plain, to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.machine_backup import BackupRequest
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed, ObservedVm, VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState, ImageState
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.backup_choice import choose
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

WEB = """CPU = 0.5 MEMORY = 128 DISK = [ IMAGE = "demo" ] GRAPHICS = [ TYPE = "vnc", PASSWD = "hidden-c" ]
CONTEXT = [ PASSWORD = "hidden-password", SSH_PUBLIC_KEY = "ssh-ed25519 AAAA" ]"""
PLACES = {name: {"address": f"10.0.0.{number}", "port": 49152} for number, name in enumerate(("node1", "node2"), 1)}


@pytest.fixture(scope="module")
def furnished(tmp_path_factory):
    """A catalog with machines web-0 and web-1 on node1, db of somebody else on node2."""
    root = tmp_path_factory.mktemp("furnished")
    opened = EmbeddedEngine(str(root), create=True)
    with opened.session():
        for name in ("node1", "node2"):
            opened.hosts.allocate(Host(None, name, state=HostState.MONITORED, memory=4096, cpu=8.0))
        opened.images.allocate(Image(None, "demo", dev_prefix="vd", state=ImageState.READY, size=16, format="qcow2"))
        opened.templates.allocate("web", parse(WEB))
    items = [{"name": f"web-{number}", "template": "web", "host": "node1"} for number in range(2)]
    items += [{"name": "db", "template": "web", "host": "node2", "owner": {"name": "alice"}}]
    with opened.session():
        outcomes, _warnings = reconcile(opened, items)
        assert not [outcome.error for outcome in outcomes if outcome.error]
        for host, plan in opened.vms.plans().items():
            opened.vms.record(host, [VmOutcome(p.vm.vm_id, p.generation, p.wanted, True) for p in plan.vms])
    opened.close()
    return root


@pytest.fixture
def root(furnished, tmp_path):
    shutil.copytree(furnished, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def engine(root):
    opened = EmbeddedEngine(str(root))
    yield opened
    opened.close()


def seen(engine, **states: str) -> list[Observed]:
    """What both nodes answer. states: of machines that do not run, by their names with _ for -."""
    nodes: dict[str, list[ObservedVm]] = {"node1": [], "node2": []}
    for record in engine.vms.pool():
        state = states.get(record.name.replace("-", "_"), "RUNNING")
        nodes[record.host].append(ObservedVm(record.id, record.uuid, state, record.generation))
    return [Observed(name, catalog=engine.catalog(), vms=tuple(vms)) for name, vms in nodes.items()]


def ran(root, observed, **given: Any) -> dict[str, Any]:
    options = {name: spec.get("default") for name, spec in call.ARGUMENTS["argument_spec"].items()}
    options.update(root=str(root), frontend="node1", frontend_acts=True, state="chosen", at="node")
    options.update(meeting_places=json.dumps(PLACES), observed=json.dumps(to_plain(observed)))
    options.update(given)
    result = choose(options, False)
    assert not result.changed
    return result.payload


def requests_of(payload) -> dict[str, list[BackupRequest]]:
    return {
        host: [from_plain(BackupRequest, each) for each in json.loads(text)]
        for host, text in payload["requests"].items()
    }


def names_of(payload) -> dict[str, list[str]]:
    return {
        host: [machine.vm.name for request in requests for machine in request.machines]
        for host, requests in requests_of(payload).items()
    }


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({}, {"node1": ["web-0", "web-1"], "node2": ["db"]}),
        ({"vms": "web-*"}, {"node1": ["web-0", "web-1"]}),
        ({"vms": "web-1, db"}, {"node1": ["web-1"], "node2": ["db"]}),
        ({"owner": "alice"}, {"node2": ["db"]}),
        ({"of_hosts": ["node1"], "vms": ["web-1", "db"]}, {"node1": ["web-1"]}),
        ({"of_hosts": ["node*"]}, {"node1": ["web-0", "web-1"], "node2": ["db"]}),
    ],
)
def test_machines_are_those_that_are_asked_for(root, engine, given, names):
    assert names_of(ran(root, seen(engine), **given)) == names


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"vms": "wbe-0"}, NotFound, "vm wbe-0: the catalog has no machine of that name. Did you mean 'web-0'"),
        ({"owner": "alise"}, NotFound, "nebula_machine_backup_owner alise: .* Did you mean 'alice'"),
        ({"of_hosts": ["node3"]}, NotFound, "nebula_machine_backup_host node3: .* Did you mean 'node"),
        ({"directory": "backups"}, InvalidValue, "nebula_machine_backup_directory 'backups': the path is not absolute"),
        ({"rate": -1}, InvalidValue, "nebula_machine_backup_rate -1: it is below 0"),
        ({"keep": {"lst": 3}}, InvalidValue, "nebula_machine_backup_keep: lst: there is no such rule"),
        ({"at_once": 0}, InvalidValue, "nebula_machine_backup_at_once 0: no machine"),
        ({"datastore": "files"}, InvalidValue, "datastore files: it is a datastore of type FILE"),
        ({"datastore": "fast"}, NotFound, "fast"),
        ({"at": "frontend", "forks": 1}, InvalidValue, "Ansible acts on 1 host at a time"),
        ({"at": "frontend", "frontend_acts": False}, InvalidValue, "it is not part of this run"),
    ],
)
def test_what_can_not_be_meant_is_refused(root, engine, given, error, words):
    with pytest.raises(error, match=words):
        ran(root, seen(engine), **given)


def test_no_secret_is_in_what_is_asked_for_without_a_key(root, engine):
    payload = ran(root, seen(engine), at="frontend")
    assert "hidden" not in json.dumps(payload)
    machine = requests_of(payload)["node1"][0].machines[0]
    assert set(machine.secrets) == {"CONTEXT/PASSWORD", "GRAPHICS/PASSWD"}
    assert machine.template["CONTEXT"]["SSH_PUBLIC_KEY"] == "ssh-ed25519 AAAA"


def test_with_a_key_secrets_go_to_who_writes_the_backup_alone(root, engine):
    payload = ran(root, seen(engine), at="frontend", encrypted=True)
    assert "hidden" not in payload["requests"]["node2"] and "users-key" not in payload["requests"]["node2"]
    own, of_node2 = requests_of(payload)["node1"]
    for request in (own, of_node2):
        # Ansible would mask it in a result: who writes is given it beside the request.
        assert request.key == ""
        assert request.machines[0].secrets["CONTEXT/PASSWORD"] == "hidden-password"
        assert "hidden" not in json.dumps(to_plain(request.machines[0].vm))
    shown = {name: value for name, value in payload.items() if name != "requests"}
    assert "hidden" not in json.dumps(shown) and "users-key" not in json.dumps(shown)


def test_the_front_end_reads_machines_of_other_hosts_by_a_passage(root, engine):
    found = requests_of(ran(root, seen(engine), at="frontend"))
    own, takes = found["node1"]
    (gives,) = found["node2"]
    assert own.passage is None
    assert (takes.passage.token, takes.passage.gives, gives.passage.gives) == (gives.passage.token, False, True)
    assert (takes.passage.address, gives.passage.address) == ("10.0.0.2", "")
    assert takes.passage.certificate == gives.passage.own_certificate
    assert gives.passage.certificate == takes.passage.own_certificate
    assert "PRIVATE KEY" in gives.passage.key and gives.passage.key != takes.passage.key
    assert (gives.directory, takes.directory) == ("", "/var/backups/nebula-machines")


def test_a_front_end_that_is_no_node_takes_all(root, engine):
    found = requests_of(ran(root, seen(engine), at="frontend", frontend="control"))
    assert {host: [each.passage.peer for each in requests] for host, requests in found.items()} == {
        "node1": ["control"],
        "node2": ["control"],
        "control": ["node1", "node2"],
    }


def test_a_host_that_nobody_can_meet_is_named(root, engine):
    places = {"node2": {"address": "127.0.0.1", "port": 1}}
    payload = ran(root, seen(engine), at="frontend", meeting_places=json.dumps(places))
    assert names_of(payload) == {"node1": ["web-0", "web-1"]}
    (left,) = payload["left_out"]
    assert left["name"] == "db" and "Set nebula_move_address" in left["reason"]


def test_a_datastore_is_a_directory_of_the_front_end(root, engine):
    payload = ran(root, seen(engine), datastore="default")
    assert payload["directory"] == f"{root}/datastores/1/machine_backups"
    assert {request.at for requests in requests_of(payload).values() for request in requests} == {"frontend"}


# -- machines that are not backed up -----------------------------------------------------------------------------------
def why(payload) -> dict[str, str]:
    return {each["name"]: each["reason"] for each in payload["left_out"]}


def test_machines_that_are_saved_or_in_no_order_are_named(root, engine):
    payload = ran(root, seen(engine, web_0="SUSPENDED", db="POWEROFF", web_1="UNKNOWN"))
    assert names_of(payload) == {"node2": ["db"]}
    assert "it is SUSPENDED: its memory is in a file" in why(payload)["web-0"]
    assert why(payload)["web-1"].startswith("it is UNKNOWN")


def test_machines_of_hosts_that_do_not_answer_are_named(root, engine):
    observed = [seen(engine)[0], Observed("node2", reached=False, facts={"problem": "no route\nto it"})]
    payload = ran(root, observed)
    assert why(payload) == {"db": "host node2 did not answer (no route to it)"}
    assert why(ran(root, seen(engine), hosts=["node1"])) == {"db": "host node2 is not part of this run"}


def test_machines_that_move_are_named(root, engine):
    with engine.session():
        engine.vms.move(0, "node2")
    assert "it moves to host node2" in why(ran(root, seen(engine)))["web-0"]


def test_machines_of_which_something_else_is_still_to_be_done_are_named(root, engine):
    observed = seen(engine)
    with engine.session():
        reconcile(engine, [{"name": "web-0", "state": "absent"}, {"name": "web-1", "state": "poweroff"}])
    payload = ran(root, observed)
    assert why(payload)["web-0"] == "it is being ended"
    assert why(payload)["web-1"].startswith("what was decided about it is not done yet")


def test_an_encrypted_disk_is_backed_up_under_a_key_alone(root, engine):
    body = json.loads(engine.store.row("SELECT body FROM vms WHERE id = 0")["body"])
    body["disks"][0]["luks_secret"] = "5e8a4b0c-0000-0000-0000-000000000000"
    with engine.session():
        engine.store.db.execute("UPDATE vms SET body = ? WHERE id = 0", (json.dumps(body),))
    assert "its disk 0 is encrypted" in why(ran(root, seen(engine)))["web-0"]
    assert why(ran(root, seen(engine), encrypted=True)) == {}


def test_a_machine_that_is_being_installed_is_named(root, engine):
    body = json.loads(engine.store.row("SELECT body FROM vms WHERE id = 0")["body"])
    body["attributes"] = {"INSTALLS": "demo"}
    with engine.session():
        engine.store.db.execute("UPDATE vms SET body = ? WHERE id = 0", (json.dumps(body),))
        engine.store.db.execute("UPDATE images SET unfinished = 'installing'")
    assert "image demo is being installed in it" in why(ran(root, seen(engine)))["web-0"]


# -- what is read and compared -----------------------------------------------------------------------------------------
def test_all_that_lies_there_is_verified_if_nothing_is_chosen(root, engine):
    observed = seen(engine, web_0="SUSPENDED")
    found = requests_of(ran(root, observed, at="frontend", purpose="verified", forks=1))
    assert {host: [len(each.machines) for each in requests] for host, requests in found.items()} == {"node1": [0]}
    found = names_of(ran(root, observed, at="frontend", purpose="verified", vms="web-0"))
    assert found == {"node1": ["web-0"]}
    assert names_of(ran(root, observed, purpose="verified", hosts=["node1", "node2"])) == {"node1": [], "node2": []}
