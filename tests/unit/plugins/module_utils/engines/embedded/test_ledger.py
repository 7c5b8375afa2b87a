# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a catalog's books are wrong it is told what and where, and repair writes what follows from its machines."""

from __future__ import annotations

import contextlib
import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded import store
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.ledger import SHOWN, Audit
from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmOrders
from ansible_collections.nebula.provision.plugins.module_utils.model.audit_finding import DIFFERENCE, UNFINISHED
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.network import (
    NEW_AR,
    RESERVED,
    AddressRange,
    Network,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.network_drivers import OVN
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.router import Router, RouterGateway
from ansible_collections.nebula.provision.plugins.module_utils.model.security_group import SecurityGroup
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState, ImageType
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.conftest import (
    decide,
    obey,
    row,
)

WEB = {"name": "web-%i", "count": 2, "template": "web", "attributes": {"GRAPHICS": {"TYPE": "vnc"}}}


@pytest.fixture
def books(inside):
    """Two machines that run, web-0 and web-1, each with a disk of image demo, an address and a port."""
    obey(inside, decide(inside, WEB))
    assert inside.ledger().findings == ()
    return inside


def sql(engine, *statements):
    for statement in statements:
        done = engine.store.db.execute(statement)
        assert done.rowcount != 0, statement


def told(engine):
    return [(each.kind, each.object, each.found) for each in engine.ledger().findings]


def test_the_ledger_is_what_the_catalog_holds(books):
    decide(books, dict(WEB, count=1))
    obey(books, books.vms.plans())
    ledger = books.ledger()
    assert (ledger.catalog, ledger.plan, ledger.begun, ledger.damaged) == (books.catalog(), 3, True, False)
    assert ledger.hosts == {"node1": "MONITORED"}
    (vm,) = ledger.vms
    assert (vm.vm.name, vm.host, vm.state, vm.wanted, vm.settled) == ("web-0", "node1", "RUNNING", "RUNNING", True)
    assert ledger.ended == {1}
    assert [image.name for image in ledger.images] == ["demo"]
    assert [network.name for network in ledger.networks] == ["Public"]
    assert ledger.findings == ()


# What is written into the catalog, what it is about, and what is found.
BOOKS = {
    "a lease is missing": (
        "DELETE FROM leases WHERE vm_id = 1",
        "network Public, range 0: lease at offset 1",
        "it is not noted, and it is of machine 1, NIC 0",
    ),
    "a lease is another's": (
        "UPDATE leases SET vm_id = 0, nic_id = 5 WHERE vm_id = 1",
        "network Public, range 0: lease at offset 1",
        "it is noted of machine 0, NIC 5, and it is of machine 1, NIC 0",
    ),
    "a lease is nobody's": (
        "INSERT INTO leases (network_id, ar_id, offset, vm_id, nic_id) VALUES (0, 0, 40, 0, 1)",
        "network Public, range 0: lease at offset 40",
        "it is noted of machine 0, NIC 1, and no machine has it",
    ),
    "the use of an image is missing": (
        "DELETE FROM vm_images WHERE vm_id = 0",
        "machine 0, disk 0: use of an image",
        "it is not noted, and it is of image demo",
    ),
    "a use is of one that is written to": (
        "UPDATE vm_images SET writable = 1 WHERE vm_id = 0",
        "machine 0, disk 0: use of an image",
        "it is noted of image demo, written to, and it is of image demo",
    ),
    "a use is nobody's": (
        "INSERT INTO vm_images VALUES (0, 7, 0, 0)",
        "machine 0, disk 7: use of an image",
        "it is noted of image demo, and no machine has it",
    ),
    "a port is missing": (
        "DELETE FROM vnc_ports WHERE vm_id = 0",
        "host node1: graphics port 5900",
        "it is not noted, and it is of machine 0",
    ),
    "a port is another's": (
        "UPDATE vnc_ports SET vm_id = 1 WHERE port = 5900",
        "host node1: graphics port 5900",
        "it is noted of machine 1, and it is of machine 0",
    ),
    "memory is promised that nobody has": (
        "UPDATE hosts SET memory_used = memory_used + 1",
        "host node1: what it has promised",
        "it says 257 MiB + 0 MiB overhead, 1 CPU to 2 machines, and it is 256 MiB + 0 MiB, 1 CPU to 2",
    ),
    "processors are promised that nobody has": (
        "UPDATE hosts SET cpu_used = 1.5",
        "host node1: what it has promised",
        "it says 256 MiB + 0 MiB overhead, 1.5 CPU to 2 machines, and it is 256 MiB + 0 MiB, 1 CPU to 2",
    ),
    "machines are counted that are not there": (
        "UPDATE hosts SET vms = 3",
        "host node1: what it has promised",
        "it says 256 MiB + 0 MiB overhead, 1 CPU to 3 machines, and it is 256 MiB + 0 MiB, 1 CPU to 2",
    ),
    "overhead is counted that nobody has": (
        "UPDATE hosts SET overhead_used = 9",
        "host node1: what it has promised",
        "it says 256 MiB + 9 MiB overhead, 1 CPU to 2 machines, and it is 256 MiB + 0 MiB, 1 CPU to 2",
    ),
    "a range has fewer leases": (
        "UPDATE address_ranges SET used = 5",
        "network Public, range 0: its leases",
        "it says 5, the first free one at offset 2 or above, and it is 2, the first free one at offset 2",
    ),
    "free addresses of a range are passed over": (
        "UPDATE address_ranges SET first_free = 9",
        "network Public, range 0: its leases",
        "it says 2, the first free one at offset 9 or above, and it is 2, the first free one at offset 2",
    ),
    "an image is not said to be used": (
        "UPDATE images SET state = 1",
        "image demo (id 0)",
        "it says READY, and it is USED: 2 disks use it",
    ),
    "an id would be used again": (
        "UPDATE sequences SET next = 1 WHERE name = 'vms'",
        "ids of vms",
        "the next one is 1, and 1 was used already",
    ),
    "ids are counted no more": (
        "DELETE FROM sequences WHERE name = 'images'",
        "ids of images",
        "the next one is 0, and 0 was used already",
    ),
}


@pytest.mark.parametrize("wrong", BOOKS)
def test_what_is_wrong_is_told_and_mended(books, wrong):
    statement, place, found = BOOKS[wrong]
    sql(books, statement)
    findings = books.ledger().findings
    assert ("catalog-books", place, found) in told(books)
    assert {(each.kind, each.severity, each.host) for each in findings} == {("catalog-books", DIFFERENCE, "")}
    assert all("nebula_audit_repair=true" in each.remedy for each in findings)
    before = [tuple(each) for each in books.store.rows("SELECT * FROM vms")]
    done = books.repair()
    assert len(done) == len(findings)
    assert any(sentence.startswith(f"{place}: ") for sentence in done)
    assert told(books) == []
    assert [tuple(each) for each in books.store.rows("SELECT * FROM vms")] == before
    assert books.repair() == []


def test_what_is_all_wrong_is_all_mended(books):
    for statement, _place, _found in BOOKS.values():
        with contextlib.suppress(store.sqlite3.IntegrityError):
            books.store.db.execute(statement)
    assert len(told(books)) > 6
    books.repair()
    assert told(books) == []
    # The next machine gets an id and an address that none had.
    obey(books, decide(books, dict(WEB, count=3)))
    assert [(each.id, each.nics[0]["ip"]) for each in books.vms.pool()][2:] == [(2, "10.66.0.12")]


@pytest.mark.parametrize(
    "right",
    [
        # The search for a free address begins there, and goes on.
        "UPDATE address_ranges SET first_free = 0",
        "UPDATE sequences SET next = next + 100",
        # Below what a sum of fractions may be off by.
        "UPDATE hosts SET cpu_used = cpu_used + 0.000001",
    ],
)
def test_what_is_right_in_another_way_is_not_told(books, right):
    sql(books, right)
    assert told(books) == []


def test_an_address_that_is_held_for_a_stranger_is_one_that_is_taken(books):
    """A restored catalog does not know the machine."""
    sql(
        books,
        "INSERT INTO leases (network_id, ar_id, offset, vm_id, kind) VALUES (0, 0, 2, 77, 'unknown')",
        "UPDATE address_ranges SET used = 3, first_free = 3",
    )
    assert told(books) == []
    sql(books, "UPDATE address_ranges SET used = 2")
    assert len(books.repair()) == 1
    assert books.networks.info("Public").address_ranges[0].used == 3


@pytest.mark.parametrize(
    ("persistent", "used", "state", "right"),
    [
        (True, True, ImageState.READY, ImageState.USED_PERS),
        (True, True, ImageState.USED, ImageState.USED_PERS),
        (False, False, ImageState.USED, ImageState.READY),
        (True, False, ImageState.USED_PERS, ImageState.READY),
        (False, False, ImageState.CLONE, ImageState.READY),
        # That a user, or a failure, made it so is nothing that follows from machines.
        (False, False, ImageState.DISABLED, None),
        (False, False, ImageState.ERROR, None),
        (False, False, ImageState.LOCKED, None),
    ],
)
def test_the_state_of_an_image_follows_from_its_machines(inside, persistent, used, state, right):
    inside.images.update("demo", persistent=persistent)
    if used:
        obey(inside, decide(inside, dict(WEB, count=1)))
    sql(inside, f"UPDATE images SET state = {int(state)}")
    assert len(told(inside)) == (right is not None)
    inside.repair()
    assert inside.images.info("demo").state == (right or state)


def test_an_image_is_being_cloned_as_long_as_its_clone_is_not_whole(inside):
    clone = inside.images.clone("demo", Image(None, "copy"))
    assert told(inside) == []
    sql(inside, f"DELETE FROM images WHERE id = {clone.id}")
    assert [found for _kind, _object, found in told(inside)] == ["it says CLONE, and it is READY: 0 disks use it"]


def test_what_a_machine_is_to_have_no_more_is_its_own_until_it_is_off(inside):
    kernel = inside.images.allocate(Image(None, "kernel", type=ImageType.KERNEL))
    data = inside.images.allocate(Image(None, "data", type=ImageType.DATABLOCK, persistent=True))
    for image in (kernel, data):
        inside.images.update(image.id, state=ImageState.READY, size=8)
    both = [{"IMAGE": "demo"}, {"IMAGE": "data"}]
    item = dict(WEB, count=1, disks=both, attributes={"OS": {"KERNEL": '$FILE[IMAGE="kernel"]'}})
    obey(inside, decide(inside, item))
    other = dict(item, disks=both[:1], nics=[{"NETWORK": "Public", "IP": "10.66.0.50"}], state="poweroff")
    (planned,) = decide(inside, other)["node1"].vms
    for fitted, found in ((False, (True, (1,))), (True, (False, ()))):
        assert {each.severity for each in inside.ledger().findings} == {UNFINISHED}
        assert inside.repair() == []
        inside.vms.record("node1", [VmOutcome(0, planned.generation, "RUNNING", fitted=fitted)])
        (vm,) = inside.ledger().vms
        assert (vm.awaits, vm.detached) == found
        assert inside.ledger().findings == ()
        assert inside.images.info("data").vms == int(not fitted)
        assert inside.networks.info("Public").address_ranges[0].used == 1 + int(not fitted)
        if not fitted:
            (planned,) = decide(inside, other)["node1"].vms


def test_kernels_are_images_that_are_used(inside):
    kernel = inside.images.allocate(Image(None, "kernel", type=ImageType.KERNEL))
    inside.images.update(kernel.id, state=ImageState.READY)
    decide(inside, dict(WEB, count=1, attributes={"OS": {"KERNEL": '$FILE[IMAGE="kernel"]'}}))
    obey(inside, inside.vms.plans())
    assert inside.images.info("kernel").vms == 1
    assert told(inside) == []
    sql(inside, "DELETE FROM vm_images WHERE image_id = 1")
    assert told(inside)[0][2] == "it is not noted, and it is of image kernel"
    inside.repair()
    assert inside.images.info("kernel").vms == 1


# -- what repair does not decide ---------------------------------------------------------------------------------------


def change_body(engine, vm_id, change):
    body = json.loads(row(engine, vm_id)["body"])
    change(body)
    engine.store.db.execute("UPDATE vms SET body = ? WHERE id = ?", (json.dumps(body), vm_id))


def test_two_machines_with_one_address_are_for_people_to_part(books):
    address = json.loads(row(books, 0)["body"])["nics"][0]
    change_body(books, 1, lambda body: body["nics"][0].update(mac=address["mac"], ip=address["ip"]))
    (shared,) = (each for each in books.ledger().findings if each.kind == "address-shared")
    assert shared.object == "VM web-1 (id 1), NIC 0"
    assert shared.found == "VM web-0 (id 0), NIC 0 has its address 10.66.0.10 too"
    assert shared.remedy.startswith("End one of the two (state: absent)")
    assert books.repair() == []


def test_two_machines_with_one_port_are_for_people_to_part(books):
    change_body(books, 1, lambda body: body["graphics"].update(port=5900))
    (shared,) = (each for each in books.ledger().findings if each.kind == "address-shared")
    assert (shared.object, shared.found) == ("VM web-1 (id 1)", "VM web-0 (id 0) has its graphics port 5900 too")
    assert books.repair() == []


@pytest.mark.parametrize(
    ("nic", "found"),
    [
        ({"network_id": 9}, "its address 10.66.0.11 is of a range that the catalog does not have"),
        ({"ar_id": 3}, "its address 10.66.0.11 is of a range that the catalog does not have"),
        ({"ar_id": None}, "its address 10.66.0.11 is of a range that the catalog does not have"),
        ({"mac": "02:00:0a:43:00:0b"}, "its address 10.66.0.11 is not in its range"),
    ],
)
def test_an_address_that_the_catalog_does_not_have_is_told(books, nic, found):
    change_body(books, 1, lambda body: body["nics"][0].update(nic))
    assert ("catalog-books", "VM web-1 (id 1), NIC 0", found) in told(books)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("{", "its definition can't be read"),
        ("[]", "its definition can't be read"),
        ('{"vm_id": 1}', "its definition can't be read"),
        (None, "its definition is that of machine 0"),
    ],
)
def test_a_machine_that_can_not_be_read_is_not_taken_for_one_that_has_nothing(books, body, found):
    """Else repair would give its address to another."""
    text = row(books, 0)["body"] if body is None else body
    books.store.db.execute("UPDATE vms SET body = ? WHERE id = 1", (text,))
    ledger = books.ledger()
    assert ledger.damaged
    assert [(each.kind, each.object, each.found) for each in ledger.findings] == [
        ("catalog-damaged", "VM web-1 (id 1)", found)
    ]
    assert (ledger.vms, ledger.images) == ((), ())
    assert books.repair() == []


def test_a_machine_on_no_host_is_told(books):
    sql(books, "UPDATE vms SET host_id = NULL WHERE id = 1")
    assert ("catalog-books", "VM web-1 (id 1)", "it is on no host") in told(books)


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("DELETE FROM history WHERE vm_id = 1 AND step = 0", "it has 1 steps, the last numbered 1"),
        ("DELETE FROM history WHERE vm_id = 1", "it has none"),
        ("UPDATE history SET step = 7 WHERE vm_id = 1 AND step = 1", "it has 2 steps, the last numbered 7"),
    ],
)
def test_steps_that_are_missing_are_told(books, statement, found):
    sql(books, statement)
    assert told(books) == [("history-gap", "history of VM web-1 (id 1)", found)]
    assert books.repair() == []


# -- what is not done yet ----------------------------------------------------------------------------------------------


def test_what_a_host_has_not_done_yet_is_no_difference(books):
    books.vms.action(0, "POWEROFF", VmOrders())
    (finding,) = books.ledger().findings
    assert (finding.kind, finding.severity, finding.host) == ("machine-unfinished", UNFINISHED, "node1")
    assert finding.found == "it is to be POWEROFF, and its host has not done that yet"
    books.vms.record("node1", None)
    assert books.ledger().findings[0].found.endswith("not done that yet (host node1 did not answer)")


def test_a_machine_that_failed_is_told_with_its_reason(inside):
    plans = decide(inside, dict(WEB, count=1))
    error = {"asked": "VM web-0: start", "found": "no room", "remedy": "Make some"}
    inside.vms.record("node1", [VmOutcome(0, plans["node1"].vms[0].generation, "BOOT_FAILURE", True, error)])
    (finding,) = inside.ledger().findings
    assert (finding.kind, finding.severity, finding.host) == ("machine-failed", UNFINISHED, "node1")
    assert finding.found == "it is BOOT_FAILURE (VM web-0: start: no room. Make some)"
    assert "state: recovered" in finding.remedy


def test_what_routers_and_networks_keep_is_noted_and_derived(tmp_path):
    with contextlib.closing(EmbeddedEngine(str(tmp_path), create=True)) as engine, engine.session():
        outside = Network(
            None,
            "Outside",
            vn_mad=OVN,
            attributes={
                "NETWORK_ADDRESS": "172.24.1.0",
                "NETWORK_MASK": "255.255.255.0",
                "GATEWAY": "172.24.1.1",
                "PHYSICAL_NETWORK": "p",
                RESERVED: "172.24.1.13",
            },
            address_ranges=(AddressRange(NEW_AR, "IP4", 5, ip="172.24.1.10"),),
        )
        network = engine.networks.allocate(outside)
        engine.security_groups.allocate(SecurityGroup(None, "web"))
        engine.routers.allocate(Router(None, "edge", gateway=RouterGateway(network.id, "")))
        before = engine.networks.pool()
        assert engine.ledger().findings == ()
        sql(
            engine,
            "DELETE FROM leases WHERE holder LIKE 'router%'",
            "UPDATE leases SET offset = 4 WHERE holder NOT LIKE 'router%'",
            "UPDATE address_ranges SET used = 9, first_free = 5",
            "UPDATE sequences SET next = 0 WHERE name IN ('routers', 'security_groups')",
        )
        place = "network Outside, range 0"
        wrong = [
            (f"{place}: lease at offset 0", "it is not noted, and router edge has it"),
            (f"{place}: lease at offset 3", "it is not noted, and the network itself (reserved) has it"),
            (f"{place}: lease at offset 4", "it is noted of the network itself (reserved), and nobody has it"),
        ]
        assert [(object, found) for _kind, object, found in told(engine)[:3]] == wrong
        assert {object for _kind, object, _found in told(engine)[3:]} == {
            f"{place}: its leases",
            "ids of routers",
            "ids of security_groups",
        }
        assert len(engine.repair()) == 6
        assert (engine.ledger().findings, engine.repair()) == ((), [])
        assert engine.networks.pool() == before


# -- a file that is damaged --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "{", '{"operation":"explode"}', '{"detached":{"files":[0]}}'])
def test_orders_that_no_release_wrote_are_damage_and_raise_nothing(books, text):
    books.store.db.execute("UPDATE vms SET orders = ? WHERE id = 1", (text,))
    ledger = books.ledger()
    assert ledger.damaged
    (finding,) = ledger.findings
    assert finding.kind == "catalog-damaged"
    assert "orders of a machine that this version of the collection does not know" in finding.found


def test_rows_that_refer_to_nothing_are_counted(books):
    """Of each table once, whatever the number of its rows."""
    books.store.db.execute("ROLLBACK")
    try:
        books.store.db.execute("PRAGMA foreign_keys = OFF")
        books.store.db.execute("BEGIN")
        books.store.db.execute("INSERT INTO history VALUES (8, 0, 0, '', '', '', ''), (9, 0, 0, '', '', '', '')")
        books.store.db.execute("INSERT INTO vnc_ports VALUES (0, 1, 9)")
        (finding,) = books.ledger().findings
    finally:
        books.store.db.execute("ROLLBACK")
        books.store.db.execute("BEGIN")
    assert finding.kind == "catalog-damaged"
    assert set(finding.found.split("; ")) == {
        "rows of history refer to vms that are not there: 2",
        "rows of vnc_ports refer to vms that are not there: 1",
    }
    assert "nebula.provision.restore" in finding.remedy


def test_of_much_damage_a_part_is_told(inside, monkeypatch):
    """SQLite's check of the file is replaced by one that finds much."""
    many = [f"fault {number}" for number in range(SHOWN + 3)]
    monkeypatch.setattr(Audit, "_damage", lambda _audit: many)
    (finding,) = inside.ledger().findings
    assert finding.found == "; ".join([*many[:SHOWN], "3 more"])


def test_a_file_that_was_overwritten_is_told_and_raises_nothing(tmp_path):
    with contextlib.closing(EmbeddedEngine(str(tmp_path), create=True)) as engine:
        (page,) = engine.store.rows("SELECT rootpage FROM sqlite_master WHERE name = 'hosts'")[0]
        (size,) = engine.store.rows("PRAGMA page_size")[0]
        assert engine.ledger().findings == ()
        assert not engine.store.db.in_transaction
    path = tmp_path / store.CATALOG
    with path.open("rb+") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    with contextlib.closing(EmbeddedEngine(str(tmp_path))) as engine:
        ledger = engine.ledger()
        assert not engine.store.db.in_transaction
    assert ledger.damaged
    assert [(each.kind, each.object) for each in ledger.findings] == [("catalog-damaged", f"catalog {path}")]
