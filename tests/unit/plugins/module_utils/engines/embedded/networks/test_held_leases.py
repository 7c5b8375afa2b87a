# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases that nobody else gets, although no NIC has them."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.vms.given_up import GivenUps
from ansible_collections.nebula.provision.plugins.module_utils.errors import BeingEnded, NoLease
from ansible_collections.nebula.provision.plugins.module_utils.model.lease import LeaseRequest
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.networks.conftest import (
    ip4,
    raises,
)


def given_up(catalog, vm_id):
    catalog.store.db.execute("INSERT INTO given_up (vm_id, host) VALUES (?, 'node1')", (vm_id,))


def test_what_a_nic_had_that_goes_is_held_until_it_is_gone(catalog):
    network = catalog.public(ip4(size=3))
    catalog.networks.leases.lease([LeaseRequest(network.id, 7, number) for number in (0, 1)])
    catalog.networks.held_leases.let_go(7, [0])
    assert catalog.used() == [2]
    with raises(BeingEnded, "has it until it is made anew, or was off"):
        catalog.lease(network, (8, "10.66.0.10"))
    catalog.networks.held_leases.release_kept(7)
    assert catalog.used() == [1]
    assert catalog.lease(network, 8) == ["10.66.0.10"]


def test_what_a_machine_is_to_have_no_more_is_held_while_it_is_made_anew(catalog):
    network = catalog.public(ip4(size=3))
    catalog.lease(network, 7)
    held = catalog.networks.held_leases
    held.let_go(7, [0])
    places = held.held_by(7)
    assert places == [(network.id, 0, 0)]
    held.release_kept(7)
    assert (held.held_by(7), catalog.used()) == ([], [0])
    held.keep(7, places)
    held.keep(7, places)
    assert (held.held_by(7), catalog.used()) == (places, [1])


def test_leases_of_a_machine_that_was_given_up(catalog):
    network = catalog.public(ip4(size=3))
    catalog.lease(network, 7)
    held = catalog.networks.held_leases
    given_up(catalog, 7)
    held.give_up(7)
    (lease,) = catalog.networks.held()
    assert (lease.network, lease.ip, lease.vm_id) == ("Public", "10.66.0.10", 7)
    assert lease.held == "it was given up with host node1"
    assert held.release_given_up(7) == ["10.66.0.10 of network Public"]
    assert (catalog.networks.held(), catalog.used()) == ([], [0])


def test_the_address_of_a_machine_that_comes_back_is_held_unless_another_has_it(catalog):
    network = catalog.public(ip4(size=3))
    nic = {"network_id": network.id, "ar_id": 0, "mac": "02:00:0a:42:00:0b"}
    held = catalog.networks.held_leases
    given_up(catalog, 7)
    assert held.hold(7, nic) is None and held.hold(7, nic) is None
    assert catalog.used() == [1]
    with raises(NoLease, "VM vm-7 (id 7), given up with host node1, has it"):
        catalog.lease(network, (8, "10.66.0.11"))
    catalog.lease(network, (9, "10.66.0.12"))
    assert held.hold(501, {**nic, "mac": "02:00:0a:42:00:0c"}) == (9, "vm-9")
    assert held.hold(502, {**nic, "mac": "02:00:0a:42:00:ff"}) is None
    assert held.hold(503, {**nic, "ar_id": 5}) is None


def test_what_is_held_for_an_unknown_machine_is_held_on_once_it_is_one_that_was_given_up(catalog):
    network = catalog.public(ip4(size=3))
    catalog.store.db.execute(
        "INSERT INTO leases (network_id, ar_id, offset, vm_id, kind) VALUES (?, 0, 0, 7, 'unknown')", (network.id,)
    )
    GivenUps(catalog.store, catalog.networks).give_up(7, "node1")
    catalog.networks.held_leases.release_held(set(), True)
    (lease,) = catalog.networks.held()
    assert (lease.vm, lease.held) == ("vm-7", "it was given up with host node1")


def test_what_is_held_for_unknown_machines_is_free_once_no_node_has_them(catalog):
    network = catalog.public(ip4(size=3))
    held = catalog.networks.held_leases
    catalog.store.db.execute(
        "INSERT INTO leases (network_id, ar_id, offset, vm_id, kind) VALUES (?, 0, 0, 500, 'unknown')", (network.id,)
    )
    catalog.store.db.execute("UPDATE address_ranges SET used = 1")
    (lease,) = catalog.networks.held()
    assert (lease.vm_id, lease.vm, lease.held) == (500, "", "the catalog does not know that machine")
    held.release_held({500}, True)
    held.release_held(set(), False)
    assert catalog.used() == [1]
    held.release_held(set(), True)
    assert catalog.used() == [0]
