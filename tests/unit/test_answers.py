# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each message of a node that the roles send on to the front-end, mutated: the host that sends it is refused or loses
its own, no other host's machines, leases, images and decisions are touched, and no error is another than ours.

NEBULA_FUZZ is the number of mutations of each message."""

from __future__ import annotations

import contextlib
import json
import os
import re
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filled_in import load, option, our_filters, tasks_of
from mutated_answers import mutations

from ansible_collections.nebula.provision.plugins.filter import (
    ovn_connection,
    ovn_members,
    ovn_parts,
    ovn_requests,
    ovn_unregistered,
)
from ansible_collections.nebula.provision.plugins.filter.backed_up import FilterModule as BackedUp
from ansible_collections.nebula.provision.plugins.filter.last_observed import FilterModule as LastObserved
from ansible_collections.nebula.provision.plugins.filter.observed import FilterModule as ObservedFilter
from ansible_collections.nebula.provision.plugins.filter.of_restores import FilterModule as OfRestores
from ansible_collections.nebula.provision.plugins.filter.peers import FilterModule as Peers
from ansible_collections.nebula.provision.plugins.filter.refused_everywhere import FilterModule as Refused
from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmOrders
from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject, InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.install.believed_answers import (
    answer_under,
    refuse_foreign,
)
from ansible_collections.nebula.provision.plugins.module_utils.install.installation import Settings, Work
from ansible_collections.nebula.provision.plugins.module_utils.model import image_deliveries, ovn_mtu
from ansible_collections.nebula.provision.plugins.module_utils.model.answers import (
    installations,
    looks,
    verified_guests,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.answers import outcomes as carried_out
from ansible_collections.nebula.provision.plugins.module_utils.model.audit import (
    Bridge,
    Domain,
    Inventory,
    SwitchBridge,
    UplinkDevice,
    VmDirectory,
    VmFile,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host, HostHardware, HostNode, PciDevice
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import (
    Comparison,
    Observed,
    ObservedVm,
    Plan,
    VmOutcome,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState
from ansible_collections.nebula.provision.plugins.module_utils.model.transfer import PlannedImage
from ansible_collections.nebula.provision.plugins.module_utils.reconcile import backups, gather, hosts, transfers
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms import decided_list, nodes_answers
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.adoptions import Adoptions
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded import conftest as embedded

ROOT = Path(__file__).resolve().parents[2]
COUNT = int(os.environ.get("NEBULA_FUZZ") or 120)
HONEST, LIAR = ("node1", "node3"), "node2"
UUID = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
MAC = "02:00:0a:42:00:0f"
OVN_FILTERS = (ovn_connection, ovn_members, ovn_parts, ovn_requests, ovn_unregistered)
# What takes something away.
ENDS = re.compile(r"\b(?:destroy|undefine|rm|stop|delete)\b")
furnished, inside = embedded.furnished, embedded.inside

# What nodes answer, as roles and playbooks register it and send it on: the test that mutates it, and what reads it.
OBSERVED, OUTCOMES, OVN = "answers/observed.py", "answers/outcomes.py", "plugin_utils/ovn_answers.py"
FUZZED = {
    "__nebula_observed": ("test_a_poll test_an_audit test_a_restore test_files_of_images test_status", OBSERVED),
    "__nebula_compared": ("test_what_was_compared", OBSERVED),
    "__nebula_install_observed": ("test_a_poll", OBSERVED),
    "__nebula_deployed": ("test_outcomes test_files_of_images", OUTCOMES),
    "__nebula_node": ("test_what_a_node_has", "answers/host_keys.py"),
    "__nebula_host": ("test_what_a_node_has", "answers/host_hardware.py"),
    "__nebula_node_networks": ("test_refused_networks", "answers/refused_networks.py"),
    "__nebula_node_look": ("test_a_look", "answers/looks.py"),
    "__nebula_install_waited": ("test_ends_of_installations", "answers/installations.py"),
    "__nebula_verified": ("test_guests_of_trials", "answers/verified_guests.py"),
    "__nebula_backup_made": ("test_backups_of_machines", "answers/backed_up_machines.py"),
    "__nebula_restore_listed_there": ("test_backups_that_nodes_have", "answers/restored_machines.py"),
    "__nebula_restore_done": ("test_a_machine_that_was_restored", "answers/restored_machines.py"),
    "__nebula_image_heard": ("test_consoles_of_checks", "answers/consoles.py"),
    "__nebula_image_said": ("test_consoles_of_checks", "answers/consoles.py"),
    "__nebula_ovn_host": ("test_widths_of_tunnels test_parts_in_ovn", "answers/tunnel_mtu.py"),
    "__nebula_ovn_request": ("test_parts_in_ovn", OVN),
    "__nebula_ovn_seen": ("test_parts_in_ovn", OVN),
    "__nebula_ovn_central_request": ("test_parts_in_ovn", OVN),
    "__nebula_ovn_central": ("test_parts_in_ovn", OVN),
    "__nebula_ovn_central_seen": ("test_parts_in_ovn", OVN),
}
# Of these nothing is read but whether the task failed, and with what words; and by whom that is told.
ONLY_FAILED = {
    "__nebula_given_back": "playbook teardown goes on with the hosts of which this task did not fail",
    "__nebula_moves_stopped": "whether anything of a round failed: no further machine moves then",
    "__nebula_moves_lost": "role vm reports with which words moves failed, in tasks/relocate.yml",
    "__nebula_answer": "playbook forget_host ends if the host answers, whatever it says",
    "__nebula_ovn_central_look": "what it found is read by answers/looks.py, and is of the host that has all of OVN",
    "__nebula_ovn_registered": "of the host that has all of OVN: why it keeps a chassis, as an error of the node",
    "__nebula_ovn_unchassised": "of the host that has all of OVN: why it keeps a chassis, in the report of forget_host",
}


@pytest.fixture
def site(inside):
    """Machine 0 on node1, machine 1 on the host that lies, machine 2 on node3; the first is to be switched off."""
    for name in ("node2", "node3"):
        inside.hosts.allocate(Host(None, name, state=HostState.MONITORED, memory=4096, cpu=16.0))
    for name in ("node1", "node2", "node3"):
        item = {"name": f"on-{name}", "template": "web", "host": name}
        embedded.obey(inside, embedded.decide(inside, item))
    inside.vms.action(0, "POWEROFF", VmOrders())
    inside.vms.action(1, "POWEROFF", VmOrders())
    return inside


def poll(engine: Any, name: str) -> dict[str, Any]:
    """What a node answers that does as it is asked."""
    number = ("node1", "node2", "node3").index(name)
    row = embedded.row(engine, number)
    seen = (ObservedVm(number, row["uuid"], "RUNNING", 1, 1.0, 128),)
    return to_plain(
        Observed(
            name, catalog=engine.catalog(), plan_number=1, done_number=1, memory=4096, cpu=4.0, vms=seen, as_of=1,
            facts={"problem": ""}, ports=(5900,), images=(f"{UUID}-1",), returns={f"{UUID}-0": 4096}, networks=None,
        )
    )  # fmt: skip


def honest_state(engine: Any) -> list[Any]:
    """All that the catalog has of machines of honest hosts, of their leases and of images."""
    machines = engine.store.rows(
        "SELECT vms.* FROM vms JOIN hosts ON hosts.id = host_id WHERE hosts.name != ? ORDER BY vms.id", LIAR
    )
    leases = engine.store.rows("SELECT * FROM leases WHERE vm_id IN (0, 2) ORDER BY vm_id")
    known = engine.store.rows("SELECT id, name, memory, cpu FROM hosts WHERE name != ?", LIAR)
    images = engine.store.rows("SELECT * FROM images")
    return [[tuple(each) for each in rows] for rows in (machines, leases, known, images)]


def undone(engine: Any, work: Any) -> Any:
    """What work returns, of which the catalog keeps nothing."""
    engine.store.db.execute("SAVEPOINT mutated")
    try:
        return work()
    finally:
        engine.store.db.execute("ROLLBACK TO mutated")
        engine.store.db.execute("RELEASE mutated")


def decision(engine: Any, answer: Any) -> Any:
    """What is decided about honest hosts, and what the catalog holds of them then, with this answer of the other."""
    results = [{"observed": poll(engine, "node1")}, {"observed": answer}, {"observed": poll(engine, "node3")}]
    observed = nodes_answers.polls_of(ObservedFilter().filters()["observed"](results, ["node1", LIAR, "node3"]))
    assert [node.host for node in observed] == ["node1", LIAR, "node3"]
    decided = decided_list.decide(
        engine, [{"name": "new", "template": "web", "host": "node3"}], observed, None, True, False
    )
    image_deliveries.images_to_send(decided.plans, decided.heard)
    assert set(nodes_answers.refused_answers(decided.heard)) <= {LIAR}
    plans = {
        host: [(p.vm.name, p.wanted, p.generation, [nic.ip for nic in p.vm.nics]) for p in decided.plans[host].vms]
        for host in HONEST
    }
    return plans, [o.error for o in decided.outcomes], honest_state(engine)[1:3]


def test_a_poll(site):
    real = poll(site, LIAR)
    expected = undone(site, lambda: decision(site, real))
    last = LastObserved().filters()["last_observed"]
    for mutated in mutations(real, COUNT, 1):
        site.vms.polls.foreign_ids.clear() if hasattr(site.vms, "polls") else None
        assert undone(site, lambda answer=mutated: decision(site, answer)) == expected, repr(mutated)[:2000]
        variables = {
            "inventory_hostname": LIAR,
            "__nebula_deployed": mutated,
            "__nebula_observed": {"observed": mutated},
        }
        (node,) = nodes_answers.polls_of(last([variables]))
        assert node.host == LIAR


def test_outcomes(site):
    outcomes = [VmOutcome(1, embedded.row(site, 1)["generation"], "POWEROFF", True, {"asked": "x"}, ("line",))]
    real = {"outcomes": to_plain(outcomes), "observed": {"done_number": 1}, "changed": True}
    before = honest_state(site)

    def recorded(answer: Any) -> Any:
        try:
            site.vms.record(LIAR, carried_out.read(LIAR, answer or {}), carried_out.done_number(LIAR, answer))
        except (InvalidValue, ForeignObject) as error:
            assert LIAR in str(error)
            site.vms.record(LIAR, None)
        return honest_state(site)

    assert undone(site, lambda: recorded(real)) == before
    for mutated in mutations(real, COUNT * 3, 2):
        assert undone(site, lambda answer=mutated: recorded(answer)) == before, repr(mutated)[:2000]


def test_what_a_node_has(site):
    hardware = HostHardware(
        (HostNode(0, 4096, ((0, 1),), {"2": 8}, (10,)),),
        True,
        (PciDevice("0000:01:00.0", "10de", "1eb8", "0302"),),
        ("SEV",),
    )
    has = {
        "memory": 4096,
        "cpu": 4.0,
        "overhead": {},
        "hardware": to_plain(hardware),
        "transfer": "shared",
        "catalog": "",
        "host_keys": ["ssh-rsa A"],
    }
    before = honest_state(site)
    for mutated in mutations({"node": has}, COUNT * 2, 3):
        found = Peers().filters()["peers"]([{"inventory_hostname": LIAR, "__nebula_node": mutated}])
        assert [*found] == [LIAR] and set(found[LIAR]["keys"]) <= {"ssh-rsa A"}
        node = mutated.get("node") if isinstance(mutated, dict) else None
        node = node if isinstance(node, dict) else {}
        keys = ("memory", "cpu", "overhead", "hardware", "transfer", "catalog")
        item = {"name": LIAR, **{key: node.get(key) for key in keys}}

        def kept(item: Any = item) -> Any:
            hosts.apply(site, item)
            return honest_state(site)

        assert undone(site, kept) == before, repr(mutated)[:2000]


def test_refused_networks():
    made = {"networks": [{"name": "a"}], "earlier": {"a": None}}
    for mutated in mutations({"refused": ["a"], "links": []}, COUNT * 2, 4):
        # What an honest node has is taken from nobody.
        assert Refused().filters()["refused_everywhere"](made, [{"refused": []}, mutated]) == []


@pytest.fixture
def roles():
    """A function that fills an option of a task in, where hosts have answered. The host that lies is the first."""
    with our_filters():

        def asked(file: str, task: str, name: str, answers: dict[str, dict[str, Any]], **more: Any) -> Any:
            hosts = [*answers]
            hostvars = {host: {"inventory_hostname": host, **answers[host], **more} for host in hosts}
            known = {"ansible_play_hosts_all": hosts, "ansible_play_hosts": hosts, "hostvars": hostvars}
            groups = {"nebula_frontend": ["front"], "nebula_nodes": hosts}
            return option(file, task, name, {"groups": groups, **known, **hostvars[hosts[0]]})

        yield asked


def of_each(register: str, mutated: Any, honest: Any) -> dict[str, dict[str, Any]]:
    """What each host has answered: the liar this, and others what honest makes of their names."""
    return {LIAR: {register: mutated}, **{host: {register: honest(host)} for host in HONEST}}


def works() -> list[Work]:
    """Installations by the names of the hosts that have their machines, and their trials."""
    machines = {host: SimpleNamespace(id=number, host=host) for number, host in enumerate((*HONEST, LIAR))}
    return [Work(host, record=machine, trial=machine) for host, machine in machines.items()]


def test_ends_of_installations(roles):
    def honest(host: str) -> Any:
        said = {"name": host, "vm_id": HONEST.index(host) if host in HONEST else 2, "installed": host in HONEST[:1]}
        return {"waited": [{**said, "how": "off", "seconds": 1.5, "percent": 3, "last_lines": ["x"]}], "changed": False}

    for mutated in mutations(honest(LIAR), COUNT * 2, 5):
        answers = of_each("__nebula_install_waited", mutated, honest)
        given = roles("roles/install_os/tasks/install.yml", "Record what is installed", "waited", answers)
        found, refused = installations.read(given)
        settings = Settings(waited=found, refused=refused)
        refuse_foreign(works(), settings)
        assert set(refused) <= {LIAR}
        assert [answer_under(settings.waited, host).installed for host in HONEST] == [True, False], repr(mutated)[:2000]


def test_guests_of_trials(roles):
    def honest(host: str) -> Any:
        said = {"name": f"verify-{host}", "vm_id": 0, "verified": host in HONEST[:1], "evidence": "login"}
        rest = {"seconds": 1, "said": "login:", "missing": [], "tried": {"agent": "none"}, "last_lines": []}
        return {"vms": [{**said, **rest}], "changed": False}

    for mutated in mutations(honest(LIAR), COUNT * 2, 6):
        answers = of_each("__nebula_verified", mutated, honest)
        given = roles("roles/install_os/tasks/trials.yml", "Record which are believed", "verified", answers)
        found, refused = verified_guests.read(given)
        settings = Settings(verified=found, refused=refused)
        refuse_foreign(works(), settings)
        assert set(refused) <= {LIAR}
        believed = [answer_under(settings.verified, f"verify-{host}").verified for host in HONEST]
        assert believed == [True, False], repr(mutated)[:2000]


def inventory(engine: Any, name: str) -> dict[str, Any]:
    """What a node answers to an audit that does as it is asked."""
    number = ("node1", "node2", "node3").index(name)
    uuid, catalog, path = embedded.row(engine, number)["uuid"], engine.catalog(), f"/n/datastores/0/{number}"
    commands = {"turn": f"virsh autostart one-{number}", "undefine": f"virsh undefine one-{number}"}
    domain = Domain(f"one-{number}", catalog, number, uuid, "RUNNING", 1, path, macs=(MAC,), disks=("d",), **commands)
    files = (VmFile("vm.json"), VmFile("disk.0", size=5, virtual_size=6, backing="/b"), VmFile("disk.1", "link"))
    seen = Inventory(
        place="/n/datastores/0", domains=(domain,), foreign=("x",), interfaces=("lo",), table="nebula", forwarding=True,
        directories=(VmDirectory(path, str(number), catalog, number, uuid, 1, files), VmDirectory("/n/y", "y")),
        bridges=(Bridge("onebr0", catalog, UUID, settings={"accept_ra": "0"}),), others=(Bridge("br0", "", ""),),
        devices=(UplinkDevice("eth0.1", catalog, UUID),), rules={"r": 1}, filters={"p": "d"}, left=("/n/.z",),
        unseen=(), switches=(SwitchBridge("ovs0", catalog, (UUID,), ports={"p": "VLAN 1"}),),
    )  # fmt: skip
    compared = (Comparison(number, uuid, 1, ("x",)),)
    return {**poll(engine, name), "inventory": to_plain(seen), "compared": to_plain(compared)}


def heard(engine: Any, answer: Any, of: Any = inventory) -> list[Observed]:
    results = [{"observed": of(engine, "node1")}, {"observed": answer}, {"observed": of(engine, "node3")}]
    return nodes_answers.polls_of(ObservedFilter().filters()["observed"](results, ["node1", LIAR, "node3"]))


def test_an_audit(site):
    def found(answer: Any) -> list[Any]:
        findings = gather.consistency(site, heard(site, answer), {"root": site.store.root})
        remedies = [each["remedy"] for each in findings if each["host"] == LIAR]
        assert not [text for text in remedies if ENDS.search(text) and re.search(r"\bone-[02]\b|0/[02]\b", text)]
        return [each for each in findings if each["host"] in (*HONEST, "")]

    real = inventory(site, LIAR)
    expected = undone(site, lambda: found(real))
    assert expected
    for mutated in mutations(real, COUNT * 2, 7):
        assert undone(site, lambda answer=mutated: found(answer)) == expected, repr(mutated)[:2000]


def test_a_restore(site, tmp_path):
    """Of a catalog that is lost. What hosts say of which catalog there is, and of numbers, all go by."""

    def found(answer: Any) -> Any:
        params = {"root": str(tmp_path), "file": None, "directory": "/b", "observed": [], "force": True}
        given = [to_plain(node) for node in heard(site, answer)]
        wanted = {**params, "observed": given, "unknown": "remove", "new_catalog": True}
        done = backups.restore(wanted, True)
        assert {*done.payload["refused_answers"]} <= {LIAR}
        unknown = [each for each in done.payload["restored"]["unknown"] if each["host"] in HONEST]
        plans = {host: json.loads(done.payload["plans"][host])["vms"] for host in HONEST}
        return unknown, plans

    real = inventory(site, LIAR)
    expected = found(real)
    assert [each["vm_id"] for each in expected[0]] == [0, 2]
    for mutated in mutations(real, max(COUNT // 4, 10), 8):
        try:
            assert found(mutated) == expected, repr(mutated)[:2000]
        except (InvalidValue, ForeignObject) as error:
            # Which of two catalogs is to be restored, nobody here can tell.
            assert "nodes follow" in str(error) or LIAR in str(error)


def test_what_was_compared(site):
    """A machine that the catalog does not know is adopted on an honest host, whatever another says of that id."""
    site.hosts.allocate(Host(None, "node4", state=HostState.MONITORED, memory=4096, cpu=16.0))
    uuid, catalog = UUID, site.catalog()
    domain = Domain("one-9", catalog, 9, uuid, "RUNNING", 3, macs=(MAC,))
    kept = VmDirectory("/n/9", "9", catalog, 9, uuid, 3, (VmFile("deployment.2"),))
    unknown = Observed(
        "node3", catalog=catalog, vms=(ObservedVm(9, uuid, "RUNNING", 3, memory=128),),
        inventory=Inventory(domains=(domain,), directories=(kept,)), compared=(Comparison(9, uuid, 3),),
    )  # fmt: skip

    def adopted(answer: Any) -> Any:
        results = [{"observed": answer}, {"observed": to_plain(unknown)}]
        observed = nodes_answers.polls_of(ObservedFilter().filters()["observed"](results, [LIAR, "node3"]))
        item = {"name": "old", "template": "web"}
        decided = decided_list.decide(site, [item], observed, None, True, False, Adoptions({"old": 9}))
        return [[(r.id, r.host) for r in decided.records], [str(o.error) for o in decided.outcomes if o.error]]

    real = inventory(site, LIAR)
    expected = undone(site, lambda: adopted(real))
    assert expected == [[(9, "node3")], []]
    for mutated in mutations(real, COUNT, 9):
        found = undone(site, lambda answer=mutated: adopted(answer))
        if found != expected:
            # Where both say that they have it, nobody here can tell which is right: it is left as it is.
            assert found[0] == [] and f"hosts {LIAR} and node3 have it" in found[1][0], repr(mutated)[:2000]


def test_files_of_images(site):
    """What is sent to honest hosts, and which files are fetched of them, is the same."""
    images = (PlannedImage("base", f"{UUID}-1", "demo", "/d/demo", "1" * 64),)
    plans = {name: Plan(site.catalog(), 9, name, transfer="ssh", images=images) for name in ("node1", LIAR, "node3")}
    last = LastObserved().filters()["last_observed"]

    def found(answer: Any) -> Any:
        said = {"node1": poll(site, "node1"), LIAR: answer, "node3": {**poll(site, "node3"), "images": []}}
        variables = [
            {"inventory_hostname": name, "__nebula_observed": {"observed": seen}, "__nebula_deployed": {}}
            for name, seen in said.items()
        ]
        observed = nodes_answers.polls_of(last(variables))
        wanted = image_deliveries.images_to_send(plans, observed)
        assert LIAR not in wanted or isinstance(wanted[LIAR]["room"], int)
        image_deliveries.has_images_to_fetch(site.images.pool(), observed)
        engine = SimpleNamespace(session=contextlib.nullcontext, images=site.images)
        fetched = transfers.fetch(engine, site.store.root, observed, {}, True)
        return {host: given for host, given in wanted.items() if host != LIAR}, fetched.payload

    expected = undone(site, lambda: found(poll(site, LIAR)))
    assert [*expected[0]] == ["node3"]
    for mutated in mutations(poll(site, LIAR), COUNT, 10):
        assert undone(site, lambda answer=mutated: found(answer)) == expected, repr(mutated)[:2000]


def test_status(site):
    for mutated in mutations({**poll(site, LIAR), "foreign_memory": 5}, COUNT, 11):
        found = gather.hosts_with_foreign(heard(site, mutated, poll), site.catalog())
        assert {each["host"] for each in found} <= {LIAR}
        assert all(isinstance(each["foreign_memory"], int) for each in found)


def test_a_look():
    names = ["__nebula_node", "__nebula_observed"]
    real = {"differs": "", "answers": {name: {"changed": False, "node": {}} for name in names}, "changed": False}
    for mutated in mutations(real, COUNT * 2, 12):
        answers, differs = looks.read(mutated, names)
        assert isinstance(differs, str) and all(isinstance(answer, dict) for answer in answers.values())
        # Where nothing differs, the roles do not ask again: then each answer is there.
        assert differs or [*answers] == names


@pytest.mark.parametrize("at", ["node", "frontend"])
def test_backups_of_machines(at):
    def honest(host: str) -> Any:
        outcome = {"vm_id": int(host[-1]), "name": "x", "id": "i", "kind": "full", "size": 1 << 20, "seconds": 1.0}
        return {"backups": [{**outcome, "removed": ["a"], "warnings": ["w"], "error": ""}], "changed": True}

    names = [HONEST[0], LIAR, HONEST[1]]
    machines = [{"vm_id": int(host[-1]), "name": f"on-{host}", "host": host} for host in names]
    chosen = {"machines": machines, "at": at, "purpose": "present"}

    def rows(answer: Any) -> list[Any]:
        answers = {host: answer if host == LIAR else honest(host) for host in names}
        if at == "frontend":
            # It writes all of them, and others say what they want.
            answers[HONEST[0]] = {"backups": [each for host in names for each in honest(host)["backups"]]}
        hosts = [{"inventory_hostname": host, "__nebula_backup_made": answers[host]} for host in names]
        found = BackedUp().filters()["backed_up"](hosts, chosen, HONEST[0])
        assert {each["name"] for each in found["rows"]} == {f"on-{host}" for host in names}
        assert {*found["errors"]} <= {LIAR}
        assert all(isinstance(each, str) for each in (*found["notes"], *chain(*found["errors"].values())))
        return [each for each in found["rows"] if each["host"] != LIAR]

    expected = rows(honest(LIAR))
    assert [each["id"] for each in expected] == ["i", "i"]
    for mutated in mutations(honest(LIAR), COUNT, 19):
        assert rows(mutated) == expected


def test_backups_that_nodes_have():
    def honest(host: str) -> Any:
        row = {"machine": f"on-{host}", "vm_id": 1, "id": "i", "kind": "full", "size": 3, "encrypted": True}
        return {"backups": [{**row, "host": host, "place": "p", "disks": "0: 3"}], "changed": False}

    def rows(answer: Any) -> list[Any]:
        answers = {host: answer if host == LIAR else honest(host) for host in (*HONEST, LIAR)}
        hosts = [{"inventory_hostname": host, "__nebula_restore_listed_there": answers[host]} for host in answers]
        found = OfRestores().filters()["of_restores"](hosts)
        assert all(isinstance(each, str) and LIAR in each for each in found["notes"])
        assert {each["at"] for each in found["rows"]} <= {*HONEST, LIAR}
        return [each for each in found["rows"] if each["at"] != LIAR]

    expected = rows(honest(LIAR))
    assert [each["machine"] for each in expected] == [f"on-{host}" for host in HONEST]
    for mutated in mutations(honest(LIAR), COUNT, 20):
        assert rows(mutated) == expected


def test_a_machine_that_was_restored():
    done = {"vm_id": 1, "name": "web", "backup": "b", "disks": [0, 2], "files": ["tpm"], "warnings": ["w"]}
    real = {"restored": done, "changed": True}

    def found(host: str, answer: Any) -> Any:
        hosts = [
            {"inventory_hostname": name, "__nebula_restore_done": answer if name == LIAR else real}
            for name in (*HONEST, LIAR)
        ]
        return OfRestores().filters()["of_restores"](hosts, host, "web")

    expected = found(HONEST[0], real)
    assert [(each["name"], each["at"], each["backup"]) for each in expected["rows"]] == [("web", HONEST[0], "b")]
    for mutated in mutations(real, COUNT, 21):
        assert found(HONEST[0], mutated) == expected
        its = found(LIAR, mutated)
        assert [(each["name"], each["at"]) for each in its["rows"]] in ([], [("web", LIAR)])
        assert all(isinstance(each, str) for each in its["notes"])


def test_consoles_of_checks(roles):
    def honest(host: str) -> Any:
        return {"heard": {f"image-check-{host}": f"{host} writes"}, "changed": False}

    records = [{"name": f"image-check-{host}", "host": host, "state": "RUNNING"} for host in (*HONEST, LIAR)]
    trials = [{"name": each["name"], "disks": [{}], "context": {}} for each in records]
    known = {
        "__nebula_image_records": records, "__nebula_vm_records": records, "__nebula_image_trials": trials,
        "__nebula_image_catalog": {"images": [{"name": host, "size": 1} for host in (*HONEST, LIAR)]},
        "__nebula_image_said": {}, "__nebula_image_wrong": [],
    }  # fmt: skip
    file, task = "roles/image_check/tasks/live.yml", "Put together what is known of each"
    for mutated in mutations(honest(LIAR), COUNT, 13):
        said = roles(file, task, "__nebula_image_said", of_each("__nebula_image_heard", mutated, honest), **known)
        assert [said[host]["console"] for host in HONEST] == [f"{host} writes" for host in HONEST]
        assert isinstance(said[LIAR]["console"], str)


def test_widths_of_tunnels(roles):
    def honest(host: str) -> Any:
        return {"host": {"inner_mtu": 1442 if host == "node1" else 1392}, "changed": False}

    file, task = "roles/network/tasks/main.yml", "Keep the networks in the catalog"
    for mutated in mutations(honest(LIAR), COUNT, 14):
        answers = of_each("__nebula_ovn_host", mutated, honest)
        given = roles(file, task, "inner_mtus", answers, nebula_ovn=True, nebula_ovn_remote={})
        read = ovn_mtu.read(given)
        assert {host: read[host] for host in HONEST} == {"node1": 1442, "node3": 1392}


def test_parts_in_ovn(roles):
    def honest(host: str) -> Any:
        place = {"kind": "none", "cluster": "", "address": "ssl:192.0.2.1:6643"}
        return {
            "request": {"request": f"request of {host}", "installed": {"northbound": "1" * 64}}, "changed": False,
            "member": {"databases": {"northbound": place, "southbound": place}, "rank": 2, "address": "192.0.2.1"},
            "connections": {"southbound": "ssl:192.0.2.1:6642"}, "part": {"state": "connected", "address": "x"},
            "host": {"held_by": "", "encap_ip": "192.0.2.1"},
            "consistency": [{"kind": "ovn-differs", "object": "x", "found": "y", "remedy": "z", "sentence": "s"}],
        }  # fmt: skip

    hosts = [LIAR, *HONEST]
    filters = {name: each for module in OVN_FILTERS for name, each in module.FilterModule().filters().items()}
    for mutated in mutations(honest(LIAR), COUNT * 2, 15):
        results = [mutated, *map(honest, HONEST)]
        asked = filters["ovn_requests"](results, hosts, "host")
        assert [each["request"] for each in asked if each["name"] != LIAR] == [f"request of {h}" for h in HONEST]
        members = filters["ovn_members"](results, hosts, ["", "", ""])
        assert {each["name"] for each in members} >= {*HONEST}
        assert filters["ovn_connection"](results, "southbound").startswith("ssl:")
        assert {*filters["ovn_unregistered"](results, hosts, ["192.0.2.7"] * 3)} <= {LIAR}
        found = filters["ovn_parts"]([], [], results, hosts)
        assert [row["host"] for row in found["parts"]] == hosts
        assert len([each for each in found["consistency"] if each["host"] in HONEST]) == 2
        assert all(isinstance(each["sentence"], str) for each in found["consistency"])
        # And as the role fills it in.
        answers = of_each("__nebula_ovn_request", mutated, honest)
        known = {"__nebula_ovn_central_request": {"results": []}, "__nebula_ovn_centrals": []}
        task = "Sign their certificates on the front-end"
        given = roles("roles/ovn/tasks/present.yml", task, "requests", answers, **known)
        assert [each["name"] for each in given if each["name"] != LIAR] == [*HONEST]


# -- none is forgotten --------------------------------------------------------------------------------------------
# They run on the front-end alone, or are for AWX, for this project itself, and for guests.
NOT_ON_NODES = ("frontend", "demo_image", "awx", "guest_context")
AT_FRONT = ("{{ groups['nebula_frontend'][0] }}", "localhost", "nebula_frontend")
PYTHON = ("filter", "plugin_utils", "action", "lookup", "test")


def texts(value: Any) -> Any:
    if isinstance(value, dict):
        for key, each in value.items():
            if key not in ("block", "rescue", "always", "tasks", "register", "name"):
                yield from texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts(each)
    elif isinstance(value, str):
        yield value


def named(text: str) -> set[str]:
    return set(re.findall(r"__nebula_\w+", text))


def sent_on(root: Path) -> dict[str, set[str]]:
    """By the name of each answer of a node that something else goes by than a task for that same node: the files where
    that is."""
    answers: set[str] = set()
    of_front: set[str] = set()
    used: list[tuple[str, str]] = []
    kept: list[tuple[str, str]] = []
    own: list[tuple[str, str]] = []
    # What one host has answered for all.
    shared: set[str] = set()
    for path in (*sorted(root.glob("roles/*/tasks/*.yml")), *sorted(root.glob("playbooks/*.yml"))):
        for task in tasks_of(path):
            place = task.get("delegate_to") or task.get("hosts")
            at_front = place in AT_FRONT or path.parts[-3] in NOT_ON_NODES
            at_front = at_front or (task.get("run_once") and not task.get("delegate_to"))
            if "register" in task:
                (of_front if at_front else answers).add(task["register"])
                shared |= {task["register"]} if task.get("run_once") else set()
            if not at_front:
                # What a look makes of its answers, others read by that name.
                found_by_look = task.get("nebula.provision.nebula_node_look", {}).get("found", {})
                kept += [(name, f"{{{{ {task['register']} }}}}") for name in found_by_look]
                for name, text in task.get("ansible.builtin.set_fact", {}).items():
                    by_name = [str(value) for key, value in task["vars"].items() if key in str(text)]
                    kept.append((name, " ".join([str(text), *by_name])))
            of_all = bool(task.get("run_once") or task.get("delegate_to") or place in AT_FRONT)
            used += [(text, path.name) for text in texts(task) if of_all or "hostvars" in text]
            own += [(text, path.name) for text in texts(task)]
    # A fact is an answer as well where it is made of one.
    while made := {name for name, text in kept if named(text) & answers} - answers:
        answers |= made
    for path in (*root.glob("roles/*/vars/*.yml"), *root.glob("roles/*/defaults/*.yml")):
        # Of a loop over hosts, the results of all.
        joined = [text for text in texts(load(path)) if "hostvars" in text or ".results" in text]
        used += [(text, path.parts[-3]) for text in joined]
    for path in (each for part in PYTHON for each in root.glob(f"plugins/{part}/**/*.py")):
        used += [(text, path.name) for text in re.findall(r'"(__nebula_\w+)"', path.read_text())]
    found: dict[str, set[str]] = {}
    for text, place in used:
        for name in named(text) & (answers - of_front):
            found.setdefault(name, set()).add(place)
    for text, place in own:
        for name in named(text) & (answers - of_front) & shared:
            found.setdefault(name, set()).add(place)
    for fact, text in kept:
        for name in named(text) & (answers - of_front) if fact in found else ():
            found.setdefault(name, set()).add(fact)
    return found


def test_every_answer_that_is_sent_on_has_a_reader_and_is_mutated():
    found = sent_on(ROOT)
    assert {name: places for name, places in found.items() if name not in FUZZED and name not in ONLY_FAILED} == {}, (
        "read it in plugins/module_utils/model/answers, mutate it here, and name both in FUZZED"
    )
    assert {*FUZZED, *ONLY_FAILED} - {*found} == set(), "nothing sends it on any more"
    for tests, reader in FUZZED.values():
        assert {test for test in tests.split() if test not in globals()} == set()
        assert [*ROOT.glob(f"plugins/**/{reader}")]
    readers = {path.name for path in (ROOT / "plugins/module_utils/model/answers").glob("*.py")}
    # By the last, observed.py reads the commands in what an audit answers.
    assert readers - {"__init__.py", "answer_bounds.py", "by_host.py", "admin_commands.py"} <= {
        Path(reader).name for _t, reader in FUZZED.values()
    }


NEW = """
- name: Ask a node
  nebula.provision.nebula_new: {}
  register: __nebula_news
- name: Go by it
  nebula.provision.nebula_info:
    observed: "%s"
  run_once: true
  delegate_to: "{{ groups['nebula_frontend'][0] }}"
"""


@pytest.mark.parametrize(
    "text", ["{{ hosts | map('extract', hostvars, '__nebula_news') }}", "{{ __nebula_news.told }}", "{{ other }}"]
)
def test_a_new_message_is_noticed(tmp_path, text):
    tasks, variables = tmp_path / "roles/new/tasks", tmp_path / "roles/new/vars"
    for place in (tasks, variables):
        place.mkdir(parents=True)
    (tasks / "main.yml").write_text(NEW % text)
    (variables / "main.yml").write_text("other: \"{{ hostvars['node1'].__nebula_news }}\"\n")
    assert "__nebula_news" in sent_on(tmp_path)
