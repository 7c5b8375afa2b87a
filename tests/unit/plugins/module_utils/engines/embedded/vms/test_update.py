# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that are changed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmOrders, VmRequest
from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, InvalidValue, Unsupported
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState, ImageState
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.conftest import (
    decide,
    obey,
    row,
)
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.vms.conftest import (
    PLAIN,
    record,
)


def test_a_nic_that_comes_later_keeps_to_the_node_of_its_network(inside):
    inside.hosts.allocate(Host(None, "node2", state=HostState.MONITORED, memory=4096, cpu=16.0))
    network = inside.networks.info("Public")
    inside.networks.update(network.id, attributes={**network.attributes, "ONE_NODE": "YES"})
    inside.vms.instantiate([VmRequest("a", PLAIN, host="node1")])
    bare = PLAIN.without("NIC")
    (made,) = inside.vms.instantiate([VmRequest("b", bare, host="node2", wanted="POWEROFF")])
    for change in (inside.vms.update, inside.vms.recreate):
        with pytest.raises(Conflict, match="network Public: one_node: its machines would be on 2"), inside.attempt():
            change(made.id, PLAIN)


def test_what_only_the_catalog_remembers_needs_no_node(web):
    before = record(web)
    described = replace(before.request, attributes=(*before.request.attributes, ("DESCRIPTION", "of the web")))
    after = web.vms.update(0, described)
    assert (after.request, after.generation, after.state) == (described, before.generation, "RUNNING")
    assert web.vms.plans() == {}


@pytest.mark.parametrize(
    ("wanted", "orders"),
    [
        ("POWEROFF", VmOrders(hard=True, shutdown_timeout=7)),
        ("RUNNING", VmOrders(operation="reset")),
        ("RUNNING", VmOrders(operation="reboot", shutdown_timeout=7)),
    ],
)
def test_what_another_run_decided_and_has_not_done_yet_stays_decided(web, wanted, orders):
    web.vms.action(0, wanted, orders)
    web.vms.update(0, record(web).request.merged(Template.from_mapping({"CPU": "0.5"})))
    (planned,) = web.vms.plans()["node1"].vms
    assert (planned.wanted, VmOrders(planned.hard, planned.shutdown_timeout, planned.operation)) == (wanted, orders)


def test_a_disk_that_is_there_stays_as_it_was_made(web):
    """Its image went on since."""
    before = json.loads(row(web)["body"])["disks"][0]
    web.images.update("demo", generation=5, format="raw", source="/elsewhere")
    web.vms.update(0, record(web).request.merged(Template.from_mapping({"CPU": "1"})))
    assert json.loads(row(web)["body"])["disks"][0] == before


def test_a_disk_grows_by_what_its_machine_asks_for_and_not_with_its_image(web):
    web.images.update("demo", size=500)
    before = record(web).disks[0]
    web.vms.update(0, record(web).request.merged(Template.from_mapping({"CPU": "1"})))
    assert record(web).disks[0] == before
    vector = record(web).request.vectors("DISK")[0]
    web.vms.update(0, record(web).request.with_vectors("DISK", [{**vector, "SIZE": "900"}]))
    assert [disk["size"] for disk in record(web).disks] == [900]
    assert json.loads(row(web)["orders"])["grown"] == [0]
    web.images.update("demo", size=2000)
    web.vms.update(0, record(web).request.merged(Template.from_mapping({"CPU": "2"})))
    assert [disk["size"] for disk in record(web).disks] == [900]
    # It keeps what it has where nothing is asked for any more.
    web.vms.update(0, record(web).request.with_vectors("DISK", [vector]))
    assert [disk["size"] for disk in record(web).disks] == [900]


@pytest.mark.parametrize(
    ("said", "target"),
    [({"TARGET": "sdc"}, "sdc"), ({"DEV_PREFIX": "sd"}, "sdb"), ({"DEV_PREFIX": "vd"}, "vda"), ({}, "vda")],
)
def test_a_disk_is_where_its_list_says_or_stays_where_it_is(web, said, target):
    web.vms.update(0, record(web).request.with_vectors("DISK", [{"IMAGE": "demo", **said}]))
    assert [(disk["disk_id"], disk["target"]) for disk in record(web).disks] == [(0, target)]


def test_what_a_machine_has_of_each_device_is_told_for_its_list(web):
    has = web.vms.devices(0)
    assert [(each.values["IMAGE"], each.own, each.boots) for each in has["DISK"]] == [("demo", True, True)]
    assert [each.values["IP"] for each in has["NIC"]] == ["10.66.0.10"]


def test_the_limit_of_a_root_is_what_the_list_says_now(inside):
    image = inside.images.allocate(Image(None, "root"))
    inside.images.update(image.id, state=ImageState.READY, size=16, format="tar")
    inside.hosts.allocate(Host(None, "vz1", "openvz", state=HostState.MONITORED, memory=4096, cpu=8.0))
    disks = [{"IMAGE": "root", "SIZE": "100"}]
    decide(inside, {"name": "box", "template": "web", "host": "vz1", "disks": disks, "memory": 32, "cpu": 0.1})
    vm = next(each for each in inside.vms.pool() if each.name == "box")
    vector = vm.request.vectors("DISK")[0]
    for size in ("200", "50", ""):
        inside.vms.update(vm.id, vm.request.with_vectors("DISK", [{**vector, "SIZE": size}]))
        assert [disk["size"] for disk in record(inside, vm.id).disks] == [int(size or 0)]
    orders = json.loads(row(inside, vm.id)["orders"])
    assert not orders.get("grown") and not orders.get("refitted")


LONG = "pvc-7286dfe6-7c44-4057-a"


def test_a_serial_number_that_is_cut_is_refused_for_a_disk_that_gets_it(web):
    disk = record(web).request.vectors("DISK")[0]
    for disks in ([{**disk, "SERIAL": LONG}], [disk, {"TYPE": "fs", "SIZE": "1", "DEV_PREFIX": "vd", "SERIAL": LONG}]):
        wanted = record(web).request.with_vectors("DISK", disks)
        for change in (web.vms.update, web.vms.recreate):
            with pytest.raises(InvalidValue, match=r"VM web: DISK [01]: SERIAL = .*24 characters"), web.attempt():
                change(0, wanted)
        with pytest.raises(InvalidValue, match=r"VM b: DISK [01]: SERIAL = .*24 characters"), web.attempt():
            web.vms.instantiate([VmRequest("b", wanted)])


def test_a_machine_with_a_serial_number_that_is_cut_goes_on(web):
    disk = record(web).request.vectors("DISK")[0]
    web.vms.update(0, record(web).request.with_vectors("DISK", [{**disk, "SERIAL": "SHORT"}]))
    # As an earlier version has made it.
    for column in ("body", "request"):
        web.store.db.execute(f"UPDATE vms SET {column} = replace({column}, 'SHORT', ?)", (LONG,))
    body = json.loads(row(web)["body"])
    assert body["disks"][0]["options"]["SERIAL"] == LONG
    wanted = record(web).request.merged(Template.from_mapping({"CPU": "1"}))
    for change in (web.vms.update, web.vms.recreate):
        (said,) = change(0, wanted).warnings
        assert "DISK 0: SERIAL" in said and "Give a SERIAL of up to 20 characters" in said
        assert json.loads(row(web)["body"])["disks"] == body["disks"]


@pytest.mark.parametrize("name", ["h" * 65, "$NAME-" + "h" * 64])
def test_a_host_name_that_no_kernel_has_is_refused_anew(web, name):
    wanted = record(web).request.merged(parse(f'CONTEXT = [ SET_HOSTNAME = "{name}" ]'))
    with pytest.raises(InvalidValue, match=r"VM b: CONTEXT/SET_HOSTNAME = .* a host name 64 at most"), web.attempt():
        web.vms.instantiate([VmRequest("b", wanted)])


def test_a_machine_with_such_a_host_name_goes_on(web):
    (made,) = web.vms.instantiate(
        [VmRequest("b", record(web).request.merged(parse('CONTEXT = [ SET_HOSTNAME = "xx" ]')))]
    )
    for column in ("body", "request"):
        web.store.db.execute(f"UPDATE vms SET {column} = replace({column}, 'xx', ?) WHERE id = ?", ("h" * 70, made.id))
    there = record(web, made.id)
    said = web.vms.update(made.id, there.request.merged(Template.from_mapping({"CPU": "1"}))).warnings
    assert len([text for text in said if "host name" in text]) == 1 and "Give a shorter name" in said[0]


def test_a_name_that_windows_cuts_is_refused_where_it_is_new(web):
    """What was made before its image was known to be a Windows goes on."""
    named = record(web).request.merged(parse('CONTEXT = [ SET_HOSTNAME = "windows-server-1" ]'))
    (there,) = web.vms.instantiate([VmRequest("there", named)])
    web.images.update("demo", attributes={"GUEST_OS": "windows"})
    with pytest.raises(InvalidValue, match=r"VM b: CONTEXT/SET_HOSTNAME = 'windows-server-1'.*16"), web.attempt():
        web.vms.instantiate([VmRequest("b", named)])
    for change in (web.vms.update, web.vms.recreate):
        said = change(there.id, named.merged(Template.from_mapping({"CPU": "1"}))).warnings
        assert any("Windows would be 'windows-server-'" in text for text in said)
        with pytest.raises(InvalidValue, match="windows-server-2"), web.attempt():
            change(there.id, named.merged(parse('CONTEXT = [ SET_HOSTNAME = "windows-server-2" ]')))


NAMED = 'CPU = 0.1 MEMORY = 32 DISK = [ IMAGE = "demo" ] NIC = [ NETWORK = "Public", TARGET = "{}" ]'


def test_an_interface_of_a_host_has_one_name(inside):
    """As a fixed port of graphics: each machine of one template would have it."""
    inside.hosts.allocate(Host(None, "node2", state=HostState.MONITORED, memory=4096, cpu=16.0))
    named = parse(NAMED.format("tap7"))
    there, other = (
        inside.vms.instantiate([VmRequest(name, named, host=host)])[0]
        for name, host in (("a", "node1"), ("c", "node2"))
    )
    refused = "VM b: NIC 0: TARGET = tap7: VM a has an interface of that name on the same host"
    with pytest.raises(Conflict, match=refused), inside.attempt():
        inside.vms.instantiate([VmRequest("b", named, host="node1")])
    with pytest.raises(Conflict, match="VM e: NIC 0: TARGET = tap8: VM d has"), inside.attempt():
        inside.vms.instantiate([VmRequest(name, parse(NAMED.format("tap8")), host="node1") for name in "de"])
    (made,) = inside.vms.instantiate([VmRequest("b", parse(NAMED.format("tap9")), host="node1")])
    # A disk has a target too.
    inside.vms.instantiate([VmRequest("f", parse(NAMED.format("vda")), host="node1")])
    for change in (inside.vms.update, inside.vms.recreate):
        with pytest.raises(Conflict, match=refused), inside.attempt():
            change(made.id, named)
    # What two have goes on.
    for column in ("body", "request"):
        inside.store.db.execute(f"UPDATE vms SET {column} = replace({column}, 'tap9', 'tap7') WHERE id = ?", (made.id,))
    for vm_id in (there.id, other.id, made.id):
        for change in (inside.vms.update, inside.vms.recreate):
            change(vm_id, record(inside, vm_id).request.merged(Template.from_mapping({"CPU": "0.2"})))


SHARED = {"TYPE": "FILESYSTEM", "SOURCE": "/srv/data", "MOUNT_TAG": "data"}


def shared(engine):
    return [disk for disk in json.loads(row(engine)["body"])["disks"] if disk["type"] == "FILESYSTEM"]


def test_a_directory_of_the_host_comes_changes_and_goes_at_the_next_start(web):
    disks = record(web).request.vectors("DISK")
    web.vms.update(0, record(web).request.with_vectors("DISK", [*disks, SHARED]))
    (disk,) = shared(web)
    assert (disk["source"], disk["target"], disk["by_hypervisor"]) == ("/srv/data", "", True)
    part = {"part": f"DISK {disk['disk_id']}", "found": "nothing", "wanted": "directory /srv/data"}
    assert record(web).waits == [part]
    (planned,) = web.vms.plans()["node1"].vms
    assert planned.refitted and planned.waits
    obey(web, web.vms.plans())
    # What waits for it does not have it yet.
    with pytest.raises(ZeroDivisionError), web.attempt():
        assert web.vms.action(0, "SUSPENDED", VmOrders()).wanted == "SUSPENDED" and 1 / 0
    waits = row(web)["waits"]
    web.store.db.execute("UPDATE vms SET waits = '{}'")
    with pytest.raises(Unsupported, match="QEMU saves no machine with one"), web.attempt():
        web.vms.action(0, "SUSPENDED", VmOrders())
    web.store.db.execute("UPDATE vms SET waits = ?", (waits,))
    with pytest.raises(Unsupported, match="directory /srv/data of the host, and no disk"), web.attempt():
        web.vms.disk_save_as(0, disk["disk_id"], Image(None, "saved"), "crash")
    with pytest.raises(Unsupported, match="directory /srv/data of the host, and no disk"), web.attempt():
        web.vms.disk_snapshot(0, disk["disk_id"], "before", "present")
    # Another place, under the same number.
    web.store.db.execute("UPDATE vms SET waits = '{}'")
    web.vms.update(0, record(web).request.with_vectors("DISK", [*disks, {**SHARED, "SOURCE": "/srv/other"}]))
    assert [(each["disk_id"], each["source"]) for each in shared(web)] == [(disk["disk_id"], "/srv/other")]
    assert [each["part"] for each in record(web).waits] == [f"DISK {disk['disk_id']}"]
    obey(web, web.vms.plans())
    web.store.db.execute("UPDATE vms SET waits = '{}'")
    web.vms.update(0, record(web).request.with_vectors("DISK", disks), agreed=True)
    assert shared(web) == []
    gone = {"part": f"DISK {disk['disk_id']}", "found": "directory /srv/other", "wanted": "nothing"}
    assert record(web).waits == [gone]
    # It has the directory until its next start.
    with pytest.raises(Unsupported, match="directory /srv/other of its host"), web.attempt():
        web.vms.action(0, "SUSPENDED", VmOrders())
    assert record(web).disks[0]["disk_id"] == 0
