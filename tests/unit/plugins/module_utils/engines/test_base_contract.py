# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What engines/base.py promises of every engine, beside machines (reconcile/vms/test_vm_list_decision.py): beginning
and ending, what stays and what is undone, and the life of each kind of object."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils import arguments
from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmRequest
from ansible_collections.nebula.provision.plugins.module_utils.engines.registry import ENGINES, engine_of, open_engine
from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    CatalogError,
    Conflict,
    InUse,
    InvalidValue,
    NotFound,
    WrongState,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.datastore import Datastore, DatastoreType
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.network import NEW_AR, AddressRange, Network
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState, ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

WEB = parse('CPU = 0.5\nMEMORY = 128\nDISK = [ IMAGE = "demo" ]\nNIC = [ NETWORK = "Public" ]\n')
NETWORK = Network(None, "net", bridge="nbr1", address_ranges=(AddressRange(NEW_AR, "IP4", 5, ip="10.67.0.10"),))

# One of each kind: how it is made, found, changed and deleted; `changed` is what it has after the change.
KINDS = {
    "image": (
        lambda engine: engine.images.allocate(Image(None, "it")),
        lambda engine: engine.images.update("it", state=ImageState.ERROR, error="no room"),
        {"error": "no room"},
    ),
    "network": (
        lambda engine: engine.networks.allocate(replace(NETWORK, name="it")),
        lambda engine: engine.networks.update("it", attributes={"DNS": "10.67.0.1"}),
        {"attributes": {"DNS": "10.67.0.1"}},
    ),
    "template": (
        lambda engine: engine.templates.allocate("it", WEB),
        lambda engine: engine.templates.update("it", parse("CPU = 2\nMEMORY = 64\n")),
        {"template": parse("CPU = 2\nMEMORY = 64\n")},
    ),
    "host": (
        lambda engine: engine.hosts.allocate(Host(None, "it", state=HostState.MONITORED, memory=64, cpu=1)),
        lambda engine: engine.hosts.update("it", state=HostState.DISABLED),
        {"state": HostState.DISABLED},
    ),
}
each_kind = pytest.mark.parametrize("kind", sorted(KINDS))


def verb(engine, kind, what):
    return getattr(getattr(engine, f"{kind}s"), what)


def names(engine, kind):
    return [found.name for found in verb(engine, kind, "pool")()]


def request(name="a", **changes):
    return VmRequest(name=name, template=WEB, **changes)


def test_every_engine_is_tested_and_offered(openers):
    assert set(openers) == set(ENGINES) == set(arguments.ENGINE["engine"]["choices"])


# -- the catalog ------------------------------------------------------------------------------------------------------


def test_a_catalog_is_begun_once_and_ended(engine_options, bare, reopen):
    catalog = bare.catalog()
    assert len(catalog) == 36
    assert engine_of(engine_options).begun(engine_options)
    assert reopen().catalog() == reopen(create=True).catalog() == catalog
    other = reopen()
    with pytest.raises(InUse):
        bare.end(refuse)
    assert engine_of(engine_options).begun(engine_options) and bare.catalog() == catalog
    bare.end(lambda: None)
    assert not engine_of(engine_options).begun(engine_options)
    with pytest.raises(NotFound):
        open_engine(engine_options, check_mode=False)
    with pytest.raises(CatalogError), other.session():
        KINDS["image"][0](other)


def refuse():
    raise InUse("ending it", "a machine is in it")


def test_check_mode_needs_no_catalog_and_begins_none(engine_options):
    assert not engine_of(engine_options).begun(engine_options)
    engine = open_engine(engine_options, check_mode=True)
    with engine.session():
        KINDS["image"][0](engine)
        assert names(engine, "image") == ["it"]
    engine.close()
    assert not engine_of(engine_options).begun(engine_options)


# -- what stays -------------------------------------------------------------------------------------------------------


@each_kind
def test_a_session_that_raises_leaves_nothing(bare, reopen, kind):
    with pytest.raises(NotFound), bare.session():
        KINDS[kind][0](bare)
        assert names(bare, kind) == ["it"]
        verb(bare, kind, "info")("nosuch")
    assert names(bare, kind) == names(reopen(), kind) == []


@each_kind
def test_an_attempt_is_undone_alone(bare, kind):
    make = KINDS[kind][0]
    with bare.session():
        kept = bare.hosts.allocate(Host(None, "kept", state=HostState.MONITORED))
        with pytest.raises(NotFound), bare.attempt():
            make(bare)
            verb(bare, kind, "info")("nosuch")
        assert "it" not in names(bare, kind)
        with bare.attempt():
            make(bare)
    assert "it" in names(bare, kind)
    assert bare.hosts.info("kept") == kept


@each_kind
def test_an_attempt_that_raises_undoes_those_within_it(bare, kind):
    make = KINDS[kind][0]
    with bare.session():
        with pytest.raises(NotFound), bare.attempt():
            with bare.attempt():
                make(bare)
            with pytest.raises(NotFound), bare.attempt():
                bare.hosts.allocate(Host(None, "inner", state=HostState.MONITORED))
                verb(bare, kind, "info")("nosuch")
            assert "it" in names(bare, kind) and "inner" not in [host.name for host in bare.hosts.pool()]
            verb(bare, kind, "info")("nosuch")
        assert "it" not in names(bare, kind)
    assert names(bare, kind) == []


@each_kind
def test_check_mode_sees_what_it_did_and_keeps_nothing(bare, reopen, kind):
    make, change, changed = KINDS[kind]
    checked = reopen(check_mode=True)
    with checked.session():
        make(checked)
        found = change(checked)
        assert {name: getattr(found, name) for name in changed} == changed
        assert found == verb(checked, kind, "info")("it")
    assert names(checked, kind) == names(bare, kind) == []


def test_a_machine_of_an_attempt_that_raises_gives_everything_back(engine):
    before = (engine.hosts.info("node1"), engine.networks.info("Public"), engine.images.info("demo"))
    with engine.session():
        with pytest.raises(NotFound), engine.attempt():
            engine.vms.instantiate([request()])
            assert engine.networks.info("Public").address_ranges[0].used == 1
            engine.vms.instantiate([request("b", host="nosuch")])
        assert engine.vms.pool() == []
    assert (engine.hosts.info("node1"), engine.networks.info("Public"), engine.images.info("demo")) == before


def test_declared_objects_can_be_used_in_check_mode(engine_options):
    engine = open_engine(engine_options, check_mode=True)
    network = {"name": "Public", "bridge": "nbr0", "address_ranges": [{"type": "IP4", "ip": "10.66.0.10", "size": 4}]}
    with engine.session():
        engine.declare(
            {
                "hosts": [{"name": "node1", "hypervisor": "kvm", "state": "MONITORED", "memory": 4096, "cpu": 4}],
                "images": [{"name": "demo", "type": "OS", "state": "READY", "size": 16, "format": "qcow2"}],
                "networks": [network],
                "templates": [{"name": "web", "attributes": {"CPU": "1", "MEMORY": "64"}}],
            }
        )
        made = engine.vms.instantiate([request()])
        assert (made[0].host, made[0].nics[0]["ip"]) == ("node1", "10.66.0.10")
        assert engine.templates.info("web").template == parse("CPU = 1\nMEMORY = 64\n")
    engine.close()


# -- each kind of object ----------------------------------------------------------------------------------------------


@each_kind
def test_made_found_changed_and_deleted(bare, reopen, kind):
    make, change, changed = KINDS[kind]
    with bare.session():
        made = make(bare)
    info, delete = verb(bare, kind, "info"), verb(bare, kind, "delete")
    assert info("it") == info(made.id) == info(str(made.id)) == made
    assert verb(reopen(), kind, "pool")() == [made]
    with bare.session():
        change(bare)
    found = info("it")
    assert {name: getattr(found, name) for name in changed} == changed
    assert found.id == made.id
    with bare.session():
        delete(made.id)
    with pytest.raises(NotFound, match="it"):
        info("it")
    with bare.session():
        assert make(bare).id > made.id


@each_kind
def test_a_name_is_one_objects(bare, kind):
    with bare.session():
        KINDS[kind][0](bare)
        with pytest.raises(Conflict, match="it"), bare.attempt():
            KINDS[kind][0](bare)
    assert names(bare, kind) == ["it"]


@each_kind
def test_a_miss_names_what_was_asked(bare, kind):
    for ref in ("nosuch", 4711):
        for what in ("info", "delete"):
            with pytest.raises(NotFound, match=str(ref)), bare.session():
                verb(bare, kind, what)(ref)


def test_what_a_machine_uses_is_not_deleted(engine):
    with engine.session():
        engine.vms.instantiate([request()])
    for kind, ref in (("image", "demo"), ("network", "Public"), ("host", "node1")):
        with pytest.raises(InUse, match=ref), engine.session():
            verb(engine, kind, "delete")(ref)
    with engine.session():
        engine.templates.delete("web")


def test_an_image_begins_locked_with_a_place_for_its_file(bare):
    with bare.session():
        image = bare.images.allocate(Image(None, "it"))
    assert image.state == ImageState.LOCKED
    assert image.source and image.uuid


def test_an_image_keeps_to_the_rules(engine):
    with engine.session():
        engine.vms.instantiate([request()])
        with pytest.raises(InUse, match="persistent"), engine.attempt():
            engine.images.update("demo", persistent=True)
    assert engine.images.info("demo").state == ImageState.USED
    assert engine.images.info("demo").vms == 1


def test_an_image_that_is_made_of_another_holds_that_meanwhile(engine, reopen):
    with engine.session():
        clone = engine.images.clone("demo", Image(None, "copy"))
    assert (clone.state, engine.images.info("demo").state) == (ImageState.LOCKED, ImageState.CLONE)
    for change in ({"persistent": True}, {"type": ImageType.DATABLOCK}, {"state": ImageState.DISABLED}):
        with pytest.raises(WrongState, match="cloned"), reopen().session():
            engine.images.update("demo", **change)
    with engine.session():
        # Machines may rest on what is not written to.
        engine.vms.instantiate([request()])
        assert engine.images.info("demo").state == ImageState.USED
        again = engine.images.clone("demo", Image(None, "other"))
        engine.images.update(clone.id, state=ImageState.READY, operation=None)
        assert engine.images.info("demo").state == ImageState.USED
        engine.images.delete(again.id)
    assert engine.images.info("demo").state == ImageState.USED


@pytest.mark.parametrize("end", ["ready", "error", "deleted"])
def test_an_image_is_ready_again_after_its_last_clone(engine, end):
    with engine.session():
        first, second = (engine.images.clone("demo", Image(None, name)) for name in ("a", "b"))
        for clone in (first, second):
            assert engine.images.info("demo").state == ImageState.CLONE
            if end == "deleted":
                engine.images.delete(clone.id)
            else:
                engine.images.update(clone.id, state=ImageState[end.upper()], operation=None, error="x")
    assert engine.images.info("demo").state == ImageState.READY
    assert not engine.ledger().findings


def test_what_is_unfinished_stays_for_one_machine(engine):
    with engine.session():
        engine.images.update("demo", unfinished="installing", persistent=False)
        for change in ({"persistent": True}, {"type": ImageType.DATABLOCK}):
            with pytest.raises(WrongState, match="is not finished"), engine.attempt():
                engine.images.update("demo", **change)
        engine.vms.instantiate([request()])
        with pytest.raises(InUse, match="is not finished"), engine.attempt():
            engine.vms.instantiate([request("b")])
        with pytest.raises(WrongState, match="is not finished"), engine.attempt():
            engine.images.clone("demo", Image(None, "copy"))
        # Done: the next may have it.
        engine.images.update("demo", unfinished="")
        engine.vms.instantiate([request("b")])


def test_every_catalog_has_its_datastores_and_others_from_100_on(bare, reopen):
    assert [(each.id, each.name, each.type.name) for each in bare.datastores.pool()] == [
        (0, "system", "SYSTEM"), (1, "default", "IMAGE"), (2, "files", "FILE"),
    ]  # fmt: skip
    with bare.session():
        made = bare.datastores.allocate(Datastore(None, "fast", attributes={"A": "1"}))
        assert (made.id, made.type, made.capacity_check) == (100, DatastoreType.IMAGE, True)
        with pytest.raises(Conflict, match="fast"), bare.attempt():
            bare.datastores.allocate(Datastore(None, "fast"))
        with pytest.raises(InvalidValue, match="datastore 0"), bare.attempt():
            bare.datastores.allocate(Datastore(None, "more", DatastoreType.SYSTEM))
        with pytest.raises(Conflict, match="keeps its type"), bare.attempt():
            bare.datastores.update("fast", type=DatastoreType.FILE)
        bare.datastores.update("fast", capacity_check=False, description="d", attributes={"B": "2"})
        image = bare.images.allocate(Image(None, "it", datastore_id=100))
    assert "/100/" in image.source
    found = reopen().datastores.info("100")
    assert (found.capacity_check, found.description, found.attributes, found.images) == (False, "d", {"B": "2"}, 1)
    for ref, error in (("system", Conflict), ("default", Conflict), ("2", Conflict), ("fast", InUse), ("x", NotFound)):
        with pytest.raises(error, match=ref if ref != "2" else "files"), bare.session():
            bare.datastores.delete(ref)
    with bare.session():
        bare.images.delete("it")
        bare.datastores.delete("fast")
        assert bare.datastores.allocate(Datastore(None, "fast")).id == 101


def test_address_ranges_come_and_go(bare):
    more = AddressRange(NEW_AR, "IP4", 3, ip="10.67.0.50")
    with bare.session():
        bare.networks.allocate(NETWORK)
        assert [r.ar_id for r in bare.networks.add_ar("net", more).address_ranges] == [0, 1]
        assert bare.networks.update_ar("net", replace(more, ar_id=1, size=4)).address_ranges[1].size == 4
        assert [r.ar_id for r in bare.networks.rm_ar("net", 0).address_ranges] == [1]
        with pytest.raises(InvalidValue), bare.attempt():
            bare.networks.add_ar("net", replace(more, ip="10.67.0.52"))


def test_machines_are_selected_by_name_and_id(engine):
    with engine.session():
        engine.vms.instantiate([request(name, pattern="a-%i") for name in ("a-0", "a-1")])
        engine.vms.instantiate([request("b")])
    ids = {record.name: record.id for record in engine.vms.pool()}
    assert list(ids) == ["a-0", "a-1", "b"]

    def found(**selectors):
        return [record.name for record in engine.vms.pool(**selectors)]

    assert found(names=["b", "nosuch"]) == ["b"]
    assert found(patterns=["a-%i"]) == ["a-0", "a-1"]
    assert found(ids=[ids["a-1"]], names=["b"]) == ["a-1", "b"]
    assert found(ids=[]) == []


def test_records_hold_no_secrets_in_what_is_printed(engine):
    secret = parse('CPU = 1\nMEMORY = 64\nDISK = [ IMAGE = "demo" ]\nCONTEXT = [ PASSWORD = "s3cr3t" ]\n')
    with engine.session():
        engine.vms.instantiate([replace(request(), template=secret)])
    assert "s3cr3t" not in repr(engine.vms.pool())
