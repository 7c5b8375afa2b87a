# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit on a real catalog, a real datastore, real domains and bridges: nothing is found where nothing is wrong, in
every state; each difference planted by hand is found by its kind, and gone once its remedy was followed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from auditor import assert_consistent_here, findings_here
from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.host import node_file
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.batch import Batch
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.kvm import KvmDriver
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.poll import poll
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.network import NEW_AR, AddressRange, Network
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState
from ansible_collections.nebula.provision.plugins.module_utils.network import bridge
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images import image_list_decision
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile
from ansible_collections.nebula.provision.plugins.module_utils.storage import datastore_layout
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse
from ansible_collections.nebula.provision.tests.integration.kvm_node import EMULATED, GUEST

NODE = "node1"
WEB = """
CPU = 0.1
MEMORY = 32
OS = [ MACHINE = "pc" ]
DISK = [ IMAGE = "base", DEV_PREFIX = "vd" ]
NIC = [ NETWORK = "Audited" ]
GRAPHICS = [ TYPE = "VNC", LISTEN = "127.0.0.1" ]
CONTEXT = [ NETWORK = "YES", HOSTNAME = "$NAME" ]
"""
# Every kind of disk that there is: an image of its own, a plain file, swap.
RICH = (
    WEB
    + """
DISK = [ IMAGE = "data", DEV_PREFIX = "vd" ]
DISK = [ IMAGE = "blank", DEV_PREFIX = "vd", DRIVER = "raw" ]
DISK = [ TYPE = "swap", SIZE = 4, DEV_PREFIX = "vd", FORMAT = "raw" ]
DISK = [ TYPE = "fs", SIZE = 8, FS = "ext4", FORMAT = "qcow2", DEV_PREFIX = "vd" ]
DISK = [ IMAGE = "cd", DEV_PREFIX = "hd" ]
"""
)


class Place:
    """A front-end and node in a world, without Ansible: what site.yml does, by the same functions."""

    def __init__(self) -> None:
        self.root = os.path.join(os.environ["NEBULA_WORLD"], f"audit-{uuid.uuid4().hex[:8]}")
        datastore_layout.prepare_directories(self.root, datastore_layout.SYSTEM, datastore_layout.IMAGES)
        node_file.update(self.root, lambda before: replace(before, accelerator=EMULATED))
        self.driver = KvmDriver()
        self.furnish()

    def furnish(self) -> None:
        raw = Path(self.root, "base.raw")
        raw.write_bytes(GUEST.ljust(1 << 20, b"\0"))
        qcow2 = Path(self.root, "base.qcow2")
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(qcow2)], check=True)
        iso = Path(self.root, "cd.iso")
        subprocess.run(["genisoimage", "-quiet", "-o", str(iso), str(raw)], check=True, capture_output=True)
        with contextlib.closing(EmbeddedEngine(self.root, create=True)) as engine:
            items = [
                {"name": "base", "path": str(qcow2), "remote_src": True},
                {"name": "cd", "path": str(iso), "remote_src": True, "type": "CDROM"},
                {"name": "data", "size": 8, "type": "DATABLOCK", "persistent": True, "format": "qcow2"},
                {"name": "blank", "size": 8, "type": "DATABLOCK", "format": "raw"},
            ]
            stored, _warnings = image_list_decision.apply(engine, items, image_list_decision.Settings())
            assert [item.error for item in stored] == [None] * 4
            with engine.session():
                engine.hosts.allocate(Host(None, NODE, state=HostState.MONITORED, memory=8192, cpu=16))
                engine.templates.allocate("web", parse(WEB))
                engine.templates.allocate("rich", parse(RICH))
                engine.networks.allocate(
                    Network(
                        None,
                        "Audited",
                        bridge="nbraud0",
                        nat=True,
                        attributes={
                            "NETWORK_ADDRESS": "10.66.7.0",
                            "NETWORK_MASK": "255.255.255.0",
                            "GATEWAY": "10.66.7.1",
                        },
                        address_ranges=(AddressRange(NEW_AR, "IP4", 8, ip="10.66.7.10"),),
                    )
                )
        for path in (raw, qcow2, iso):
            path.unlink()
        self.connect()

    def connect(self) -> None:
        with contextlib.closing(EmbeddedEngine(self.root)) as engine:
            networks = engine.networks.pool()
            done = bridge.Node(engine.catalog(), act=True).ensure(networks, [network.uuid for network in networks])
        assert [each.error for each in done] == [None] * len(done)

    def site(self, *vms: Mapping[str, Any]) -> None:
        """As role vm: observe, decide, act, record."""
        with contextlib.closing(EmbeddedEngine(self.root)) as engine:
            with engine.session():
                engine.vms.observe([poll(self.driver, self.root, NODE)])
                outcomes, _warnings = reconcile(engine, vms)
                plans = engine.vms.plans()
            assert [str(outcome.error) for outcome in outcomes if outcome.error] == []
            for plan in plans.values():
                done = Batch(plan, self.driver, self.root).apply()
                with engine.session():
                    engine.vms.record(NODE, done)
                assert [str(outcome.error) for outcome in done if outcome.error] == []

    def found(self) -> list[dict[str, Any]]:
        return findings_here(self.root, driver=self.driver)

    def kinds(self) -> list[str]:
        return sorted(each["kind"] for each in self.found())

    def clean(self) -> None:
        assert_consistent_here(self.root, driver=self.driver)

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(os.path.join(self.root, "nebula.db"), isolation_level=None)) as db:
            return db.execute(statement, values).fetchall()

    def directory(self, vm_id: int) -> Path:
        return Path(datastore_layout.vm_directory(self.root, vm_id))

    def domain(self, vm_id: int) -> Any:
        return self.driver._connection().lookupByName(f"one-{vm_id}")

    def source(self, image: str) -> Path:
        return Path(self.sql("SELECT source FROM images WHERE name = ?", image)[0][0])

    def repair(self) -> list[str]:
        with contextlib.closing(EmbeddedEngine(self.root)) as engine, engine.session():
            return engine.repair()

    def close(self) -> None:
        for domain in self.driver._connection().listAllDomains():
            persistent = domain.isPersistent()
            if domain.isActive():
                domain.destroy()
            if persistent:
                domain.undefine()
        catalogs = [row[0] for row in self.sql("SELECT value FROM meta WHERE key = 'catalog'")]
        self.driver.close()
        for catalog in catalogs:
            bridge.Node(catalog, act=True).remove(None)
        shutil.rmtree(self.root)


@contextlib.contextmanager
def a_place() -> Iterator[Place]:
    place = Place()
    try:
        yield place
    finally:
        place.close()


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


# -- where nothing is wrong ------------------------------------------------------------------------------------------
@in_world
def test_nothing_is_found_in_any_state() -> None:
    with a_place() as place:
        place.clean()
        web = {"name": "web-%i", "template": "web", "count": 2}
        rich = {"name": "rich", "template": "rich"}
        for vms in (
            [web, rich],
            [{**web, "state": "poweroff", "hard": True}, {**rich, "state": "suspended"}],
            [{**web, "state": "poweroff", "hard": True, "memory": 48}, rich],
            [{**web, "memory": 48}, {**rich, "recreate": True, "memory": 40}],
            [
                {**web, "count": 1, "hard": True, "memory": 48, "context": {"NEW": "x"}},
                {**rich, "state": "reset", "memory": 40},
            ],
            [{**web, "state": "absent", "hard": True}, {**rich, "state": "absent", "hard": True}],
        ):
            place.site(*vms)
            place.clean()


@in_world
def test_nothing_is_found_once_a_machine_has_another_name() -> None:
    with a_place() as place:
        web = {"name": "web-%i", "template": "web", "count": 2}
        place.site(web, {"name": "rich", "template": "rich"})
        running = place.domain(2).ID()
        for item in (
            {"name": "poor", "renamed_from": "rich", "template": "rich"},
            {"name": "poor", "renamed_from": "rich", "template": "rich"},
            {"name": "last", "renamed_from": "poor", "template": "rich", "state": "poweroff", "hard": True},
        ):
            place.site(web, item)
            place.clean()
            found = place.domain(2)
            assert found.XMLDesc(2).count(f"<title>{item['name']}</title>") == 1
            assert found.ID() == (running if item["name"] == "poor" else -1)
        assert place.sql("SELECT id, name FROM vms") == [(0, "web-0"), (1, "web-1"), (2, "last")]
        place.site({"name": "last", "state": "absent", "hard": True})
        place.clean()


# -- where something is ----------------------------------------------------------------------------------------------
# Each plants a difference, yields the kinds that the audit has to find, and follows the remedy that it was sent.
WEB_VMS = {"name": "web-%i", "template": "web", "count": 2}
RUNNING = [WEB_VMS, {"name": "off", "template": "web"}, {"name": "rich", "template": "rich"}]
OFF = {"name": "off", "template": "web", "state": "poweroff", "hard": True}
STANDING = [WEB_VMS, OFF, {"name": "rich", "template": "rich"}]
PLANTS: dict[str, Callable[[Place], Generator[set[str], list[dict[str, Any]], None]]] = {}


def plant(function: Any) -> Any:
    PLANTS[function.__name__] = function
    return function


def follow(found: Sequence[Mapping[str, Any]], start: str) -> None:
    """Run the commands that the remedy names, as they stand."""
    for finding in found:
        command = finding["remedy"][finding["remedy"].index(start) :]
        run("sh", "-c", command.partition("; then run")[0])


def define(place: Place, text: str) -> Any:
    """A domain of its own from another's text."""
    root = ElementTree.fromstring(text)
    root.find("uuid").text = str(uuid.uuid4())
    for name in ("interface", "graphics", "disk", "channel", "serial", "console"):
        for device in root.find("devices").findall(name):
            root.find("devices").remove(device)
    return place.driver._connection().defineXML(ElementTree.tostring(root, encoding="unicode"))


def restart(place: Place, name: str = "web-0") -> None:
    template = "rich" if name == "rich" else "web"
    for state in ({"state": "poweroff", "hard": True}, {"state": "running"}):
        place.site({"name": name, "template": template, **state})


@plant
def domain_undefined(place):
    place.domain(0).destroy()
    place.domain(0).undefine()
    yield {"domain-missing"}
    place.site(*STANDING)


@plant
def domain_undefined_while_it_runs(place):
    place.domain(0).undefine()
    yield {"domain-differs"}
    restart(place)


@plant
def domain_that_starts_with_its_host_the_other_way_round(place):
    place.domain(0).setAutostart(0)
    place.domain(2).setAutostart(1)
    found = yield {"domain-differs"}
    assert len(found) == 2
    follow(found, "virsh")


@plant
def domain_ended(place):
    place.domain(0).destroy()
    yield {"machine-state"}
    place.site(*STANDING)


@plant
def domain_of_an_id_that_never_was(place):
    text = place.domain(0).XMLDesc(0)
    define(place, text.replace('id="0"', 'id="77"').replace("one-0", "one-77"))
    found = yield {"domain-left"}
    assert "never heard" in found[0]["found"]
    follow(found, "virsh")


@plant
def domain_of_an_ended_machine(place):
    text = place.domain(0).XMLDesc(0)
    ended = place.sql("SELECT max(id) FROM vms WHERE state = 6")[0][0]
    define(place, text.replace('id="0"', f'id="{ended}"').replace("one-0", f"one-{ended}")).create()
    found = yield {"domain-left"}
    assert "DONE" in found[0]["found"] and "destroy" in found[0]["remedy"]
    follow(found, "virsh")


@plant
def domain_of_another_catalog(place):
    catalog = place.sql("SELECT value FROM meta WHERE key = 'catalog'")[0][0]
    text = place.domain(0).XMLDesc(0).replace(catalog, str(uuid.uuid4()))
    define(place, text.replace('id="0"', 'id="77"').replace("one-0", "one-77"))
    yield {"domain-foreign"}
    place.driver._connection().lookupByName("one-77").undefine()


@plant
def domain_twice(place):
    define(place, place.domain(0).XMLDesc(0).replace("<name>one-0<", "<name>other<"))
    found = yield {"domain-copied"}
    assert found[0]["object"] == "domain other" and "it is a copy" in found[0]["found"]
    before = place.domain(0).XMLDesc(0)
    unmark, _others, removal = found[0]["remedy"].partition("Else remove it, which leaves its disks: ")
    run("sh", "-c", unmark[unmark.index("virsh") : unmark.rindex(")")])
    assert place.kinds() == []
    follow([{"remedy": removal}], "virsh")
    assert place.domain(0).XMLDesc(0) == before


@plant
def domain_on_other_port_with_other_mac_and_disk(place):
    text = place.domain(0).XMLDesc(2)  # VIR_DOMAIN_XML_INACTIVE
    place.domain(0).destroy()
    text = text.replace('port="5900"', 'port="5999"').replace("port='5900'", "port='5999'")
    text = text.replace("02:00:0a:42:07:0a", "02:00:0a:42:07:99").replace("/disk.0'", "/disk.7'")
    shutil.copy(place.directory(0) / "disk.0", place.directory(0) / "disk.7")
    place.driver._connection().defineXML(text).create()
    found = yield {"domain-differs", "file-left"}
    assert len(found) == 4
    follow([each for each in found if each["kind"] == "domain-differs"][:1], "virsh")
    place.site(*STANDING)
    follow([each for each in found if each["kind"] == "file-left"], "rm")


@plant
def disk_removed(place):
    (place.directory(0) / "disk.0").unlink()
    yield {"disk-missing"}
    restart(place)


@plant
def disk_that_is_an_image_removed(place):
    (place.directory(3) / "disk.1").unlink()
    yield {"disk-missing"}
    restart(place, "rich")


@plant
def disks_of_each_kind_replaced(place):
    place.site(*STANDING[:2], {"name": "rich", "template": "rich", "state": "poweroff", "hard": True})
    directory = place.directory(3)
    names = [f"disk.{index}" for index in range(6)]
    for name in names:
        (directory / name).rename(directory / f"kept.{name}")
        (directory / name).write_bytes(b"something else")
    found = yield {"disk-differs", "file-left"}
    assert [each["object"].rpartition("disk ")[2] for each in found if each["kind"] == "disk-differs"] == list("012345")
    for name in names:
        (directory / f"kept.{name}").rename(directory / name)
    place.site(*STANDING)


@plant
def context_removed(place):
    (place.directory(0) / "disk.1").unlink()
    yield {"disk-missing"}
    restart(place)


@plant
def overlay_on_another_image(place):
    disk = place.directory(2) / "disk.0"
    run("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", str(place.source("blank")), str(disk))
    found = yield {"disk-differs"}
    assert str(place.source("base")) in found[0]["found"]
    disk.unlink()
    restart(place, "off")
    place.site(*STANDING)


@plant
def image_removed(place):
    kept = place.source("base").with_name("elsewhere")
    place.source("base").rename(kept)
    found = yield {"image-file", "disk-differs", "image-left"}
    assert sum(each["kind"] == "disk-differs" for each in found) == 4
    kept.rename(place.source("base"))


@plant
def image_truncated(place):
    for name in ("blank", "base", "cd"):
        source = place.source(name)
        kept = source.read_bytes()
        os.truncate(source, len(kept) // 2)
        found = yield {"image-file"}
        assert f"image {name}" in found[0]["object"]
        source.write_bytes(kept)
        yield set()


@plant
def image_with_another_byte(place):
    for name in ("base", "cd"):
        source = place.source(name)
        with source.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            byte = file.read(1)
            file.seek(-1, os.SEEK_END)
            file.write(bytes([byte[0] ^ 1]))
        found = yield {"image-file"}
        assert "SHA-256" in found[0]["found"]
        with source.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(byte)
        yield set()


@plant
def image_that_anybody_can_write(place):
    place.source("base").chmod(0o666)
    os.chown(place.source("cd"), 65534, 65534)
    found = yield {"image-file"}
    assert len(found) == 2
    follow(found, "chown")


@plant
def files_left_in_the_datastore(place):
    directory = place.source("base").parent
    for name in ("notes.txt", f".upload-{'0' * 32}", f"{place.source('base').name}.part"):
        (directory / name).write_text("x")
    found = yield {"image-left"}
    assert [each["severity"] for each in found] == ["difference", "unfinished", "unfinished"]
    follow(found, "rm ")


@plant
def image_that_was_not_stored(place):
    with contextlib.closing(EmbeddedEngine(place.root)) as engine:
        with engine.session():
            engine.images.allocate(image_list_decision.Image(None, "half"))
        yield {"image-unfinished"}
        image_list_decision.apply(
            engine, [{"name": "half", "path": "/nowhere", "remote_src": True}], image_list_decision.Settings()
        )
        yield {"image-unfinished"}
        image_list_decision.apply(engine, [{"name": "half", "size": 1}], image_list_decision.Settings())
        yield set()
        place.sql("UPDATE images SET state = 5, error = 'no room' WHERE name = 'half'")
        yield {"image-failed"}
        image_list_decision.apply(engine, [{"name": "half", "state": "absent"}], image_list_decision.Settings())


@plant
def lease_deleted(place):
    place.sql("DELETE FROM leases WHERE vm_id = 0")
    yield {"catalog-books"}
    assert len(place.repair()) == 1


@plant
def lease_added(place):
    place.sql(
        "INSERT INTO leases (network_id, ar_id, offset, vm_id, nic_id)"
        " SELECT network_id, ar_id, 7, 0, 5 FROM address_ranges"
    )
    yield {"catalog-books"}
    place.repair()


@plant
def lease_of_another(place):
    place.sql("UPDATE leases SET vm_id = 1 WHERE vm_id = 0")
    yield {"catalog-books"}
    place.repair()


@plant
def counters_wrong(place):
    place.sql("UPDATE address_ranges SET used = used + 1, first_free = 8")
    place.sql("UPDATE hosts SET memory_used = memory_used - 32, vms = vms + 1")
    place.sql("UPDATE images SET state = 1 WHERE name = 'base'")
    place.sql("UPDATE images SET state = 8 WHERE name = 'blank'")
    place.sql("UPDATE sequences SET next = 1 WHERE name = 'vms'")
    found = yield {"catalog-books"}
    assert len(found) == 5
    assert len(place.repair()) == 5


@plant
def ports_and_uses_wrong(place):
    place.sql("DELETE FROM vnc_ports WHERE vm_id = 0")
    place.sql("INSERT INTO vnc_ports SELECT host_id, 5999, id FROM vms WHERE id = 1")
    place.sql("DELETE FROM vm_images WHERE vm_id = 0")
    place.sql("INSERT INTO vm_images SELECT 1, 9, id, 0 FROM images WHERE name = 'cd'")
    found = yield {"catalog-books"}
    assert len(found) == 4
    place.repair()


@plant
def two_machines_with_one_address(place):
    place.site(*STANDING, {"name": "twin", "template": "web"})
    vm_id = place.sql("SELECT id FROM vms WHERE name = 'twin'")[0][0]
    own = json.loads(place.sql("SELECT body FROM vms WHERE id = ?", vm_id)[0][0])
    other = json.loads(place.sql("SELECT body FROM vms WHERE id = 0")[0][0])
    own["nics"][0]["mac"], own["nics"][0]["ip"] = other["nics"][0]["mac"], other["nics"][0]["ip"]
    own["graphics"]["port"] = other["graphics"]["port"]
    place.sql("UPDATE vms SET body = ? WHERE id = ?", json.dumps(own), vm_id)
    found = yield {"address-shared", "catalog-books", "domain-differs"}
    assert sum(each["kind"] == "address-shared" for each in found) == 2
    assert place.repair() == []
    place.site({"name": "twin", "state": "absent", "hard": True})
    place.repair()


@plant
def history_with_a_gap(place):
    step = place.sql("SELECT * FROM history WHERE vm_id = 0 AND step = 0")[0]
    place.sql("DELETE FROM history WHERE vm_id = 0 AND step = 0")
    yield {"history-gap"}
    place.sql(f"INSERT INTO history VALUES ({', '.join('?' * len(step))})", *step)


@plant
def decision_not_carried_out(place):
    with contextlib.closing(EmbeddedEngine(place.root)) as engine, engine.session():
        reconcile(engine, [{**OFF, "name": "web-0"}, {"name": "new", "template": "web"}])
    found = yield {"machine-unfinished"}
    assert len(found) == 2 and {each["severity"] for each in found} == {"unfinished"}
    place.site(*STANDING, {"name": "new", "state": "absent", "hard": True})


@plant
def machine_failed(place):
    place.sql("UPDATE vms SET state = 3, lcm_state = 36, error = 'no bridge' WHERE id = 2")
    found = yield {"machine-failed"}
    assert "no bridge" in found[0]["found"]
    place.site({"name": "off", "template": "web", "state": "recovered"})
    place.site(*STANDING)


@plant
def rows_that_refer_to_nothing(place):
    rows = place.sql("SELECT * FROM vms WHERE id = 0")
    place.sql("DELETE FROM vms WHERE id = 0")
    found = yield {"catalog-damaged"}
    assert len(found) == 1 and "leases" in found[0]["found"], found
    place.sql(f"INSERT INTO vms VALUES ({', '.join('?' * len(rows[0]))})", *rows[0])


@plant
def definition_that_cannot_be_read(place):
    """What the machine has must not be taken for what nobody has: its images, its address, its domain."""
    ((body,),) = place.sql("SELECT body FROM vms WHERE id = 0")
    leases = place.sql("SELECT * FROM leases")
    known = json.loads(body)
    for text in (body[:-9], json.dumps({**known, "vm_id": 1}), json.dumps({**known, "newer": 1})):
        place.sql("UPDATE vms SET body = ? WHERE id = 0", text)
        found = findings_here(place.root, driver=place.driver)
        assert [each["kind"] for each in found] == ["catalog-damaged"], found
        with contextlib.closing(EmbeddedEngine(place.root)) as engine, engine.session():
            assert engine.repair() == []
    assert place.sql("SELECT * FROM leases") == leases
    yield {"catalog-damaged"}
    place.sql("UPDATE vms SET body = ? WHERE id = 0", body)


@plant
def directory_without_a_mark(place):
    theirs = Path(place.root, "datastores", "0", "77")
    theirs.mkdir()
    (theirs / "disk.0").write_text("of another system")
    found = yield {"directory-left"}
    assert "left alone" in found[0]["remedy"] and "rm -r" not in found[0]["remedy"]
    shutil.rmtree(theirs)


@plant
def page_of_the_catalog_overwritten(place):
    place.sql("PRAGMA wal_checkpoint(TRUNCATE)")
    path = Path(place.root, "nebula.db")
    kept = path.read_bytes()
    size, first = (
        place.sql("PRAGMA page_size")[0][0],
        place.sql("SELECT rootpage FROM sqlite_master WHERE name = 'history'")[0][0],
    )
    for page in range(first, first + 1):
        with path.open("r+b") as file:
            file.seek((page - 1) * size)
            file.write(os.urandom(size))
    found = yield {"catalog-damaged"}
    assert len(found) == 1
    path.write_bytes(kept)
    for part in ("-wal", "-shm"):
        path.with_name(path.name + part).unlink(missing_ok=True)


@plant
def bridge_removed(place):
    run("ip", "link", "delete", "nbraud0")
    yield {"bridge-missing"}
    place.connect()
    found = yield {"bridge-differs"}
    assert len(found) == 3
    follow(found, "ip link set")


@plant
def bridge_down_without_its_address(place):
    run("ip", "link", "set", "nbraud0", "down")
    run("ip", "address", "flush", "dev", "nbraud0")
    found = yield {"bridge-differs"}
    assert len(found) == 2
    place.connect()


@plant
def bridge_that_believes_routers(place):
    Path("/proc/sys/net/ipv6/conf/nbraud0/disable_ipv6").write_text("0")
    Path("/proc/sys/net/ipv6/conf/nbraud0/accept_ra").write_text("1")
    found = yield {"bridge-differs"}
    assert ["net.ipv6.conf.nbraud0.accept_ra is 1, and is to be 0" in each["found"] for each in found] == [False, True]
    place.connect()


@plant
def bridge_of_somebody_else(place):
    alias = json.loads(run("ip", "-j", "link", "show", "nbraud0"))[0]["ifalias"]
    run("ip", "link", "set", "nbraud0", "alias", "")
    yield {"bridge-differs"}
    run("ip", "link", "set", "nbraud0", "alias", alias)


@plant
def bridge_of_no_network(place):
    catalog = place.sql("SELECT value FROM meta WHERE key = 'catalog'")[0][0]
    run("ip", "link", "add", "nbrleft", "type", "bridge")
    run("ip", "link", "set", "nbrleft", "alias", f"nebula:{catalog}:{uuid.uuid4()}")
    yield {"bridge-left"}
    place.connect()


@plant
def rules_removed(place):
    run("nft", "flush", "ruleset")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("0")
    found = yield {"rules-missing"}
    assert len(found) == 2
    place.connect()


@plant
def one_rule_removed(place):
    table = run("nft", "list", "tables").split()[-1]
    listed = json.loads(run("nft", "-j", "list", "chain", "inet", table, "postrouting"))["nftables"]
    handle = next(entry["rule"]["handle"] for entry in listed if "rule" in entry)
    run("nft", "delete", "rule", "inet", table, "postrouting", "handle", str(handle))
    yield {"rules-missing"}
    place.connect()


@plant
def rules_of_no_network(place):
    table = run("nft", "list", "tables").split()[-1]
    run("nft", "add", "rule", "inet", table, "forward", "counter", "comment", f'"nebula:{uuid.uuid4()}:0123456789ab"')
    yield {"rules-left"}
    place.connect()


@plant
def node_of_another_catalog(place):
    before = node_file.read(place.root)
    node_file.update(place.root, lambda node: replace(node, catalog=str(uuid.uuid4())))
    yield {"host-catalog"}
    node_file.update(place.root, lambda node: before)


@plant
def node_ahead_of_the_catalog(place):
    before = node_file.read(place.root)
    node_file.update(place.root, lambda node: replace(node, plan=node.plan + 1))
    yield {"host-catalog"}
    node_file.update(place.root, lambda node: before)


@plant
def node_file_that_cannot_be_read(place):
    path = Path(place.root, "nebula.node")
    kept = path.read_text()
    path.write_text("{")
    yield {"host-unseen"}
    path.write_text(kept)


@plant
def mark_of_a_directory_removed(place):
    path = place.directory(0) / "vm.json"
    kept = path.read_text()
    path.unlink()
    yield {"directory-mark"}
    path.write_text(kept)


@plant
def mark_of_another_machine(place):
    path = place.directory(0) / "vm.json"
    kept = path.read_text()
    path.write_text((place.directory(1) / "vm.json").read_text())
    yield {"directory-mark"}
    path.write_text(kept)


@plant
def directory_removed(place):
    shutil.rmtree(place.directory(2))
    yield {"directory-missing"}
    restart(place, "off")
    place.site(*STANDING)


@plant
def directories_of_nobody(place):
    ended = place.sql("SELECT max(id) FROM vms WHERE state = 6")[0][0]
    for name in (str(ended), "77", "notes"):
        (place.directory(0).parent / name).mkdir()
    shutil.copy(place.directory(0) / "vm.json", place.directory(77))
    found = yield {"directory-left"}
    assert len(found) == 3
    follow(found, "rm ")


@plant
def directory_of_another_catalog(place):
    place.directory(77).mkdir()
    record = json.loads((place.directory(0) / "vm.json").read_text())
    (place.directory(77) / "vm.json").write_text(json.dumps({**record, "catalog": str(uuid.uuid4()), "vm_id": 77}))
    found = yield {"directory-left"}
    assert "left alone" in found[0]["remedy"]
    shutil.rmtree(place.directory(77))


@plant
def files_left_in_a_directory(place):
    for name in (".disk.0.tmp", "disk.9", ".vm.json.abc.tmp"):
        (place.directory(0) / name).write_text("x")
    Path(place.root, ".nebula.node.abc.tmp").write_text("x")
    found = yield {"file-left"}
    assert len(found) == 4
    follow(found, "rm ")


@plant
def checkpoint_of_a_running_machine(place):
    (place.directory(0) / "checkpoint").write_text("x")
    found = yield {"checkpoint"}
    follow(found, "rm ")


@plant
def checkpoint_removed(place):
    place.site({"name": "web-0", "template": "web", "state": "suspended"})
    yield set()
    (place.directory(0) / "checkpoint").unlink()
    yield {"checkpoint"}
    place.site({"name": "web-0", "template": "web", "state": "poweroff", "hard": True})
    place.site(*STANDING)


@plant
def host_that_was_not_asked(place):
    with contextlib.closing(EmbeddedEngine(place.root)) as engine:
        with engine.session():
            engine.hosts.allocate(Host(None, "node2", state=HostState.MONITORED, memory=64, cpu=1))
        found = findings_here(place.root, {NODE: place.root, "node3": place.root}, place.driver)
        assert {(each["kind"], each["host"]) for each in found} >= {
            ("host-unknown", "node2"),
            ("host-unknown", "node3"),
        }
        with engine.session():
            engine.hosts.delete("node2")
    yield set()


_place: list[Place] = []


def standing() -> Place:
    """One place for all plants, as long as each leaves it as it found it."""
    if not _place:
        place = Place()
        _place.append(place)
        place.site(*RUNNING, {"name": "gone", "template": "web"})
        place.site({"name": "gone", "state": "absent", "hard": True})
        place.site(*STANDING)
    return _place[0]


@in_world
def cleared() -> None:
    while _place:
        _place.pop().close()


@pytest.fixture(scope="module", autouse=True)
def place_of_its_own() -> Iterator[None]:
    yield
    if os.geteuid() == 0:
        cleared()


@pytest.mark.parametrize("name", sorted(PLANTS))
@in_world
def test_what_was_planted_is_found_and_gone_with_its_remedy(name: str) -> None:
    place = standing()
    try:
        place.clean()
        steps = PLANTS[name](place)
        wanted = next(steps)
        with contextlib.suppress(StopIteration):
            while True:
                found = place.found()
                assert {each["kind"] for each in found} == wanted, found
                for each in found:
                    assert each["found"] and each["remedy"] and each["sentence"], each
                wanted = steps.send(found)
        place.clean()
    except BaseException:
        _place.clear()
        place.close()
        raise
