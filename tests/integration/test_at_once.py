# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many runs at the same time on one front-end: real processes, each a module with its own connection to the catalog."""

from __future__ import annotations

import contextlib
import json
import os
import random
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import web_server
import yaml

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import InUse
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.network import AddressRange, Network
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState, ImageState
from ansible_collections.nebula.provision.plugins.module_utils.reconcile import frontends
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images import image_files_stored
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse
from ansible_collections.nebula.provision.plugins.modules import nebula_image
from ansible_collections.nebula.provision.tests.integration.kvm_node import GUEST, wait_for

ROOT = Path(__file__).resolve().parents[2]
MANY = 50
# A module as Ansible's wrapper starts it, but that it waits at the gate when all is imported. argv: module, arguments,
# the gate (a pipe that is closed when all are there), and how long it waits for the catalog.
PROCESS = """
import importlib, os, sys
from ansible.module_utils import basic
name, arguments, ready, gate, seconds = sys.argv[1:]
module = importlib.import_module("ansible_collections.nebula.provision.plugins.modules." + name)
store = importlib.import_module("ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.store")
store.BUSY_SECONDS = float(seconds)
basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = arguments.encode(), "legacy"
os.write(int(ready), b".")
os.read(int(gate), 1)
module.main()
"""
TEMPLATE = """
CPU = 0.1
MEMORY = 16
DISK = [ IMAGE = "demo", DEV_PREFIX = "vd" ]
NIC = [ NETWORK = "Public" ]
GRAPHICS = [ TYPE = "vnc" ]
CONTEXT = [ NETWORK = "YES" ]
"""
NETWORK = {"NETWORK_ADDRESS": "10.66.0.0", "NETWORK_MASK": "255.255.0.0"}

Call = tuple[str, Mapping[str, Any]]


def together(calls: Sequence[Call], seconds: float = 60) -> list[dict[str, Any]]:
    """The results of these modules, all started in the same moment."""
    ready_out, ready_in = os.pipe()
    gate_out, gate_in = os.pipe()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    processes = []
    try:
        for name, arguments in calls:
            text = json.dumps({"ANSIBLE_MODULE_ARGS": arguments})
            command = [sys.executable, "-c", PROCESS, name, text, str(ready_in), str(gate_out), str(seconds)]
            processes.append(
                subprocess.Popen(
                    command,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    env=environment,
                    pass_fds=(ready_in, gate_out),
                )
            )
        os.close(ready_in)
        for _ in calls:
            assert os.read(ready_out, 1), "a module ended before it began"
        os.close(gate_in)
        answers = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        for end in (ready_out, gate_out):
            os.close(end)
    results = []
    for (output, errors), (name, _arguments) in zip(answers, calls):
        assert output, f"{name} said nothing:\n{errors}"
        results.append(json.loads(output.splitlines()[-1]))
    return results


def opened(root: Path) -> contextlib.closing[EmbeddedEngine]:
    return contextlib.closing(EmbeddedEngine(str(root)))


def furnish(root: Path, leases: int, hosts: int = 2) -> None:
    with contextlib.closing(EmbeddedEngine(str(root), create=True)) as engine, engine.session():
        for number in range(hosts):
            engine.hosts.allocate(Host(None, f"node{number}", state=HostState.MONITORED, memory=1 << 20, cpu=1000.0))
        image = engine.images.allocate(Image(None, "demo", dev_prefix="vd"))
        engine.images.update(image.id, state=ImageState.READY, size=16, format="qcow2", sha256="0" * 64)
        ranges = (AddressRange(0, "IP4", leases, ip="10.66.0.10"),)
        engine.networks.allocate(Network(None, "Public", bridge="nbr0", attributes=NETWORK, address_ranges=ranges))
        engine.templates.allocate("web", parse(TEMPLATE))


def consistent(root: Path) -> dict[str, Any]:
    """Nothing of the catalog is used twice, and what it counts is what there is."""
    with contextlib.closing(sqlite3.connect(root / "nebula.db")) as db:
        db.row_factory = sqlite3.Row
        assert [row[0] for row in db.execute("PRAGMA integrity_check")] == ["ok"]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        vms = db.execute("SELECT * FROM vms WHERE state != 6").fetchall()
        nics = [nic for vm in vms for nic in json.loads(vm["body"])["nics"]]
        leases = db.execute("SELECT * FROM leases").fetchall()
        for what in ([nic["ip"] for nic in nics], [nic["mac"] for nic in nics], [vm["name"] for vm in vms]):
            assert [value for value, times in Counter(what).items() if times > 1] == []
        assert Counter(vm["id"] for vm in vms) == Counter(lease["vm_id"] for lease in leases), (
            "a lease for each machine, and none for others"
        )
        ports = [(vm["host_id"], json.loads(vm["body"])["graphics"]["port"]) for vm in vms]
        assert len(set(ports)) == len(ports)
        assert {tuple(row) for row in db.execute("SELECT host_id, port FROM vnc_ports")} == set(ports)
        for row in db.execute("SELECT * FROM address_ranges"):
            assert row["used"] == sum(lease["network_id"] == row["network_id"] for lease in leases)
        for host in db.execute("SELECT * FROM hosts"):
            own = [vm for vm in vms if vm["host_id"] == host["id"]]
            assert (host["vms"], host["memory_used"]) == (len(own), sum(vm["memory"] for vm in own))
            assert host["cpu_used"] == pytest.approx(sum(vm["cpu"] for vm in own))
        return {"vms": len(vms), "leases": len(leases), "ips": sorted(nic["ip"] for nic in nics)}


def test_fifty_allocations_share_what_there_is(tmp_path: Path) -> None:
    """More machines are asked for than the network has addresses: exactly as many get one, the others a sentence."""
    furnish(tmp_path, leases=70)
    calls: list[Call] = [
        ("nebula_vm", {"root": str(tmp_path), "name": f"web{number}-%i", "count": 2, "template": "web"})
        for number in range(MANY)
    ]
    results = together(calls)
    done = [result for result in results if not result.get("failed")]
    failed = [result for result in results if result.get("failed")]
    assert (len(done), len(failed)) == (35, 15)
    for result in failed:
        assert "leases in network Public" in result["msg"] and result["vms"] == [], result
    ids = [vm["id"] for result in done for vm in result["vms"]]
    assert len(set(ids)) == len(ids) == 70
    assert consistent(tmp_path)["vms"] == 70
    again = together(calls[:1] if not results[0].get("failed") else [calls[results.index(done[0])]])
    assert not again[0]["changed"], again


def test_fifty_runs_that_want_the_same(tmp_path: Path) -> None:
    """Whoever comes first makes it; the others find it."""
    furnish(tmp_path, leases=10)
    calls: list[Call] = [("nebula_vm", {"root": str(tmp_path), "name": "web-%i", "count": 5, "template": "web"})] * MANY
    results = together(calls)
    assert [result.get("msg") for result in results if result.get("failed")] == []
    assert sum(result["changed"] for result in results) == 1
    assert {tuple(vm["id"] for vm in result["vms"]) for result in results} == {(0, 1, 2, 3, 4)}
    assert consistent(tmp_path)["ips"] == [f"10.66.0.{10 + number}" for number in range(5)]


def test_fifty_runs_begin_a_catalog(tmp_path: Path) -> None:
    root = tmp_path / "nebula"
    results = together([("nebula_frontend", {"root": str(root)})] * MANY)
    assert [result.get("msg") for result in results if result.get("failed")] == []
    assert len({result["frontend"]["catalog"] for result in results}) == 1


@pytest.mark.parametrize("seed", [1])
def test_allocations_of_every_kind(tmp_path: Path, seed: int) -> None:
    """Images, networks, templates, hosts and machines are made, changed and ended in one moment."""
    furnish(tmp_path, leases=200)
    (tmp_path / "datastores" / "1").mkdir(parents=True)
    root = {"root": str(tmp_path)}
    with opened(tmp_path) as engine, engine.session():
        old = engine.networks.allocate(Network(None, "Old", bridge="nbr1"))
    together([("nebula_vm", {**root, "name": f"old-{number}", "template": "web"}) for number in range(5)])
    calls: list[Call] = []
    for number in range(5):
        network = {"name": f"net{number}", "bridge": f"nbr{number + 10}", "network_address": f"10.7{number}.0.0"}
        network.update(
            network_mask="255.255.255.0", address_ranges=[{"type": "IP4", "ip": f"10.7{number}.0.9", "size": 9}]
        )
        calls += [
            ("nebula_vm", {**root, "name": f"web{number}-%i", "count": 3, "template": "web"}),
            ("nebula_vm", {**root, "name": f"old-{number}", "state": "absent", "hard": True}),
            ("nebula_network", {**root, "networks": [network]}),
            ("nebula_template", {**root, "templates": json.dumps([{"name": f"t{number}", "template": TEMPLATE}])}),
            ("nebula_image", {**root, "images": json.dumps([{"name": f"i{number}", "size": 1, "type": "DATABLOCK"}])}),
            ("nebula_host", {**root, "hosts": [{"name": f"h{number}", "memory": 1000, "cpu": 1}]}),
        ]
    # Twice the same, at once, for each kind.
    calls += calls[:2] + calls[2:6]
    random.Random(seed).shuffle(calls)
    results = together(calls)
    assert [result.get("msg") for result in results if result.get("failed")] == []
    found = consistent(tmp_path)
    assert found["vms"] == 15 + 5, "what is to end keeps its lease until its node has ended it"
    with opened(tmp_path) as engine:
        assert sorted(image.name for image in engine.images.pool()) == ["demo", *(f"i{n}" for n in range(5))]
        assert {image.state for image in engine.images.pool()} <= {ImageState.READY, ImageState.USED}
        assert sorted(n.name for n in engine.networks.pool()) == ["Old", "Public", *(f"net{n}" for n in range(5))]
        assert len({network.id for network in engine.networks.pool()} | {old.id}) == 7
        assert sorted(stored.name for stored in engine.templates.pool()) == [*(f"t{n}" for n in range(5)), "web"]
        assert {f"h{n}" for n in range(5)} < {host.name for host in engine.hosts.pool()}
        for image in engine.images.pool()[1:]:
            assert Path(image.source).is_file()
    assert len(list((tmp_path / "datastores" / "1").iterdir())) == 5
    for result in together(calls):
        assert not result["changed"] and not result.get("failed"), result


@contextlib.contextmanager
def held(root: Path) -> Iterator[None]:
    """Somebody holds the catalog and does not let go."""
    with contextlib.closing(sqlite3.connect(root / "nebula.db", isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")


def test_a_catalog_that_is_held_for_too_long_is_told(tmp_path: Path) -> None:
    furnish(tmp_path, leases=10)
    call: Call = ("nebula_vm", {"root": str(tmp_path), "name": "web", "template": "web"})
    with held(tmp_path):
        results = together([call] * 3, seconds=0.5)
    told = f"catalog {tmp_path}/nebula.db: another run has held it for over 0.5 s. Wait for the other run to end, then"
    assert [result["msg"] for result in results] == [f"{told} run again"] * 3
    assert consistent(tmp_path)["vms"] == 0
    assert sum(result["changed"] for result in together([call] * 3)) == 1


@pytest.mark.parametrize("seed", range(2))
def test_a_catalog_that_ends_while_others_decide(tmp_path: Path, seed: int) -> None:
    """Either a machine is in the catalog, and the catalog stays; or the catalog is gone, and nobody was told that he
    has a machine."""
    root = tmp_path / "nebula"
    root.mkdir()
    furnish(root, leases=100)
    calls: list[Call] = [("nebula_vm", {"root": str(root), "name": f"web{n}", "template": "web"}) for n in range(12)]
    calls += [("nebula_frontend", {"root": str(root), "state": "absent"})] * 2
    random.Random(seed).shuffle(calls)
    results = list(zip((name for name, _arguments in calls), together(calls)))
    machines = [result for name, result in results if name == "nebula_vm" and not result.get("failed")]
    ends = [result for name, result in results if name == "nebula_frontend"]
    if (root / "nebula.db").exists():
        assert consistent(root)["vms"] == len(machines)
        assert all("machines: " in result["msg"] for result in ends if result.get("failed")), ends
    else:
        assert machines == []
        for name, result in results:
            told = (
                "there is none on this host",
                "removed or replaced it meanwhile",
                "it can't be opened",
                "state DELETE",
            )
            assert not result.get("failed") or any(part in result["msg"] for part in told), (name, result["msg"])


def download(root: Path, web: web_server.Site) -> Call:
    disk = {"name": "disk", "path": f"{web.url}/disk"}
    return "nebula_image", {"root": str(root), "images": json.dumps([disk]), "wait_timeout": 60}


@contextlib.contextmanager
def halfway() -> Iterator[web_server.Site]:
    """A download of an image comes to its half, until it is released."""
    with web_server.serve() as web:
        web.files["/disk"] = GUEST.ljust(1 << 20, b"\1")
        web.stall_after = 1 << 19
        yield web


def release(web: web_server.Site) -> None:
    web.stall_after = None
    web.release.set()


def image_states(root: Path) -> list[str]:
    with opened(root) as engine:
        return [image.state.name for image in engine.images.pool()]


def test_a_catalog_that_ends_while_an_image_is_stored(tmp_path: Path) -> None:
    """The end waits for who stores it, and of neither anything is left."""
    root = tmp_path / "nebula"
    together([("nebula_frontend", {"root": str(root)})])
    with halfway() as web, ThreadPoolExecutor() as pool:
        storing = pool.submit(together, [download(root, web)])
        wait_for(lambda: web.requests, "the download")
        ending = pool.submit(together, [("nebula_frontend", {"root": str(root), "state": "absent"})])
        wait_for(lambda: image_states(root) == ["DELETE"], "the end")
        assert not ending.done()
        release(web)
        (stored,), (ended,) = storing.result(), ending.result()
    assert stored["failed"] and "another run removed it meanwhile. Run again if it is wanted" in stored["msg"], stored
    assert not ended.get("failed"), ended
    assert not root.exists(), sorted(root.rglob("*"))


def image_files(root: Path) -> list[str]:
    """All that is in the datastore but the catalog's own name, which has to be there."""
    found = sorted(str(path) for path in (root / "datastores" / "1").iterdir())
    found.remove(str(root / "datastores" / "1" / ".nebula-catalog"))
    return found


def test_a_catalog_does_not_end_while_an_image_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "nebula"
    together([("nebula_frontend", {"root": str(root)})])
    monkeypatch.setattr(frontends, "IMPORT_SECONDS", 0.2)
    with halfway() as web, ThreadPoolExecutor() as pool:
        storing = pool.submit(together, [download(root, web)])
        wait_for(lambda: web.requests, "the download")
        told = r"another run has been storing image disk for over 0.2 s. Wait for it to end, then run again"
        with pytest.raises(InUse, match=told):
            frontends.absent({"engine": "embedded", "root": str(root)}, False)
        release(web)
        assert storing.result()[0]["failed"], "it was to be removed, and is stored anew by the next run"
    assert [path.name for path in root.iterdir() if not path.name.startswith("nebula.db")] == ["datastores"]
    assert image_files(root) == []
    with web_server.serve() as web:
        web.files["/disk"] = GUEST
        (again,) = together([download(root, web)])
    assert not again.get("failed") and image_states(root) == ["READY"], again
    assert image_files(root) == [again["images"][0]["source"]]


def test_an_image_that_is_removed_and_made_anew_while_it_is_stored(tmp_path: Path) -> None:
    root = tmp_path / "nebula"
    together([("nebula_frontend", {"root": str(root)})])
    with halfway() as web, ThreadPoolExecutor() as pool:
        storing = pool.submit(together, [download(root, web)])
        wait_for(lambda: web.requests, "the download")
        absent = {"root": str(root), "name": "disk", "state": "absent"}
        removing = pool.submit(together, [("nebula_image", absent)])
        wait_for(lambda: image_states(root) == ["DELETE"], "the removal")
        (anew,) = together([("nebula_image", {"root": str(root), "name": "disk", "size": 1, "type": "DATABLOCK"})])
        release(web)
        (stored,), (removed,) = storing.result(), removing.result()
    assert stored["failed"] and "another run removed it meanwhile" in stored["msg"], stored
    assert not removed.get("failed"), removed
    assert not anew.get("failed") and image_states(root) == ["READY"], anew
    assert image_files(root) == [anew["image"]["source"]]


@pytest.mark.parametrize("moment", ["before it has its place", "before it is told"])
def test_a_catalog_that_ends_just_before_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """At moments that no other process can be made to meet; the rest is as always."""
    root = tmp_path / "nebula"
    frontend = {"engine": "embedded", "root": str(root), "local": False, "allow_ephemeral": True}
    frontends.present(frontend, False)
    where, name = (
        (image_files_stored.files, "make_directory")
        if moment == "before it has its place"
        else (image_files_stored, "_tell")
    )
    real = getattr(where, name)

    def first(*arguments: Any) -> Any:
        monkeypatch.setattr(where, name, real)
        # Who stores it is this very process, which would wait for itself.
        monkeypatch.setattr(frontends, "_wait_for_imports", lambda *_: None)
        frontends.absent(frontend, False)
        return real(*arguments)

    monkeypatch.setattr(where, name, first)
    one = {"name": "disk", "size": 1, "type": "DATABLOCK"}
    documented = yaml.safe_load(nebula_image.DOCUMENTATION)["options"]
    options = {key: option.get("default") for key, option in documented.items()}
    options |= {"images": json.dumps([one]), "_upload": None, "_progress_file": None, "wait_timeout": 5}
    result = nebula_image.call.run({**options, **frontend}, False)
    assert [item.error.found for item in result.items if item.error] == [
        "another run has removed or replaced it meanwhile"
    ]
    assert not root.exists(), sorted(root.rglob("*"))
