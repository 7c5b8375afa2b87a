# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks and their address ranges, in a real SQLite file."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.store import Store
from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    Conflict,
    InUse,
    InvalidValue,
    NoLease,
    NotFound,
    Unsupported,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.network import (
    NEW_AR,
    AddressRange,
    Network,
    to_item,
)
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.networks.conftest import (
    PUBLIC,
    Catalog,
    ip4,
    raises,
)


def test_what_is_stored_is_what_is_read(catalog):
    made = catalog.public(ip4(attributes={"DNS": "10.66.0.2"}), nat=True)
    assert (made.id, made.bridge, made.vn_mad, made.nat, made.state.name) == (0, "onebr0", "bridge", True, "READY")
    assert made.address_ranges == (
        AddressRange(0, "IP4", 5, ip="10.66.0.10", mac="02:00:0a:42:00:0a", attributes={"DNS": "10.66.0.2"}),
    )
    assert catalog.networks.info("Public") == catalog.networks.info(0) == catalog.networks.info("0") == made
    assert catalog.networks.pool() == [made]


def test_ids_are_never_used_again(catalog):
    catalog.public()
    catalog.networks.delete("Public")
    assert catalog.public().id == 1
    catalog.networks.add_ar("Public", ip4("10.66.0.50"))
    catalog.networks.rm_ar("Public", 1)
    assert [r.ar_id for r in catalog.networks.add_ar("Public", ip4("10.66.0.50")).address_ranges] == [0, 2]


def test_a_random_mac_differs_from_range_to_range(catalog):
    ether = AddressRange(NEW_AR, "ETHER", 10)
    macs = {
        catalog.networks.allocate(Network(None, f"n{i}", address_ranges=(ether,))).address_ranges[0].mac for i in "ab"
    }
    assert len(macs) == 2
    assert all(mac.startswith("02:00:") for mac in macs)


def test_a_name_or_a_bridge_is_had_once(catalog):
    catalog.public(bridge="nbr0")
    with raises(Conflict, "network Public", "network 0 has that name"):
        catalog.public(bridge="nbr1")
    vlan = {"PHYDEV": "eth1", "VLAN_ID": "7"}
    other = Network(None, "Other", bridge="nbr0", vn_mad="802.1Q", attributes=vlan)
    with raises(Conflict, "network Other", "BRIDGE = nbr0", "network Public (id 0)", "vn_mad: dummy"):
        catalog.networks.allocate(other)
    catalog.networks.allocate(replace(other, vn_mad="dummy"))
    catalog.networks.allocate(replace(other, name="Tagged", bridge="nbr1"))
    for vn_mad in ("802.1Q", "vxlan"):
        again = replace(other, name="Again", bridge="nbr1", vn_mad=vn_mad, attributes={**vlan, "VLAN_ID": "8"})
        with raises(Conflict, "network Again", "BRIDGE = nbr1", "network Tagged", "several address_ranges"):
            catalog.networks.allocate(again)


def test_networks_of_driver_bridge_have_one_bridge_together(catalog):
    public = catalog.public(bridge="nbr0")
    attributes = {"NETWORK_ADDRESS": "10.67.0.0", "NETWORK_MASK": "255.255.255.0", "GATEWAY": "10.67.0.1"}
    private = Network(
        None, "Private", bridge="nbr0", nat=True, attributes=attributes, address_ranges=(ip4("10.67.0.9"),)
    )
    made = catalog.networks.allocate(private)
    assert (made.bridge, public.bridge) == ("nbr0", "nbr0")
    with raises(Conflict, "network Private", "PHYDEV = eth1", "network Public (id 0)", "PHYDEV = (none)"):
        catalog.networks.update("Private", nat=False, attributes={**attributes, "PHYDEV": "eth1"})
    with raises(Conflict, "network Private", "network Public (id 0)", "the same MAC addresses"):
        catalog.networks.add_ar("Private", AddressRange(NEW_AR, "ETHER", 2, mac=public.address_ranges[0].mac))
    second = catalog.networks.add_ar("Private", ip4("10.67.0.99", size=1))
    catalog.networks.update_ar("Private", replace(second.address_ranges[1], size=2))
    catalog.networks.delete("Public")
    assert catalog.networks.info("Private").bridge == "nbr0"


@pytest.mark.parametrize("name", ["", "a/b", "..", "a\nb", " a"])
def test_names_that_mean_something_elsewhere(catalog, name):
    with raises(InvalidValue, "network"):
        catalog.networks.allocate(Network(None, name))


def test_drivers_of_later_are_refused_by_name(catalog):
    with raises(Unsupported, "network v: VN_MAD = fw", "bridge, dummy"):
        catalog.networks.allocate(Network(None, "v", vn_mad="fw"))
    with raises(InvalidValue, "network d: VN_MAD = dummy", "no BRIDGE"):
        catalog.networks.allocate(Network(None, "d", vn_mad="dummy"))


def test_what_can_be_changed_while_addresses_are_leased(catalog):
    network = catalog.public()
    catalog.lease(network, 7)
    changed = catalog.networks.update("Public", name="Office", nat=True, attributes={**PUBLIC, "DNS": "10.66.0.2"})
    assert catalog.networks.info("Office") == replace(changed, address_ranges=catalog.networks.info(0).address_ranges)
    for field, value in (("bridge", "other"), ("vn_mad", "dummy")):
        with raises(InUse, f"{field.upper()} = {value}", "VM vm-7 (id 7)"):
            catalog.networks.update("Office", nat=False, **{field: value})
    catalog.networks.leases.release([7])
    assert catalog.networks.update("Office", bridge="other").bridge == "other"
    with raises(InvalidValue, "uuid"):
        catalog.networks.update("Office", uuid="x")
    with raises(InvalidValue, "leaves 10.67.0.0/24"):
        catalog.networks.update("Office", nat=False, attributes={**PUBLIC, "NETWORK_ADDRESS": "10.67.0.0"})


def test_a_network_in_use_stays(catalog):
    network = catalog.public(ip4(size=50))
    catalog.lease(network, *range(8))
    with raises(InUse, "network Public: delete", "VM vm-0 (id 0)", "VM vm-4 (id 4) …", "End these machines first"):
        catalog.networks.delete("Public")
    catalog.networks.leases.release(range(8))
    catalog.networks.delete("Public")
    with raises(NotFound, "network 'Public'"):
        catalog.networks.info("Public")


def test_a_range_grows_and_shrinks_but_never_below_a_lease(catalog):
    network = catalog.public(ip4(size=5))
    assert catalog.lease(network, 1, 2, 3) == ["10.66.0.10", "10.66.0.11", "10.66.0.12"]
    catalog.networks.update_ar("Public", ip4(size=50, ar_id=0))
    assert catalog.networks.info("Public").address_ranges[0].size == 50
    with raises(InUse, "10.66.0.10-10.66.0.59", "SIZE = 2, it is 50", "VM vm-3 (id 3)"):
        catalog.networks.update_ar("Public", ip4(size=2, ar_id=0))
    catalog.networks.update_ar("Public", ip4(size=3, ar_id=0))
    with raises(NoLease):
        catalog.lease(network, 4)
    with raises(InvalidValue, "it leaves 10.66.0.0/24"):
        catalog.networks.update_ar("Public", ip4("10.66.0.10", 5000, ar_id=0, attributes={}))


@pytest.mark.parametrize("moved", [{"ip": "10.66.0.11"}, {"mac": "02:00:00:00:00:01"}, {"type": "ETHER", "ip": ""}])
def test_a_range_never_moves(catalog, moved):
    catalog.public()
    with raises(Conflict, "never moves", "remove this one"):
        catalog.networks.update_ar("Public", replace(ip4(ar_id=0), **moved))


def test_a_range_in_use_stays(catalog):
    network = catalog.public(ip4(), ip4("10.66.0.20"))
    catalog.lease(network, (5, "10.66.0.22"))
    with raises(InUse, "remove address range 1 [10.66.0.20-10.66.0.24]", "VM vm-5 (id 5)"):
        catalog.networks.rm_ar("Public", 1)
    assert [r.ar_id for r in catalog.networks.rm_ar("Public", 0).address_ranges] == [1]
    with raises(NotFound, "address range 0", "There are: 1 [10.66.0.20-10.66.0.24]"):
        catalog.networks.rm_ar("Public", 0)


def test_a_second_range_that_overlaps(catalog):
    catalog.public()
    with raises(InvalidValue, "10.66.0.12-10.66.0.13", "shares addresses"):
        catalog.networks.add_ar("Public", ip4("10.66.0.12", 2))
    assert len(catalog.networks.info("Public").address_ranges) == 1


def test_what_a_nic_takes_from_its_network(catalog):
    network = catalog.public(ip4(attributes={"GATEWAY": "10.66.0.2", "OWN": "x"}), ip4("10.66.0.20"))
    assert catalog.networks.nic_values(network, 0) == {**PUBLIC, "GATEWAY": "10.66.0.2", "OWN": "x"}
    assert catalog.networks.nic_values(network, 1) == PUBLIC


def test_what_an_earlier_task_would_have_made_is_taken_as_given(catalog):
    item = {**to_item(Network(None, "Public", bridge="nbr0", attributes=PUBLIC)), "address_ranges": [
        {"ar_id": 0, "type": "IP4", "ip": "10.66.0.10", "size": 5, "mac": "02:00:0a:42:00:0a"}]}  # fmt: skip
    catalog.networks.declare(item)
    network = catalog.networks.info("Public")
    assert catalog.lease(network, 1) == ["10.66.0.10"]
    grown = [
        {"ar_id": 0, "type": "IP4", "ip": "10.66.0.10", "size": 50},
        {"type": "IP4", "ip": "10.66.0.100", "size": 1},
    ]
    catalog.networks.declare({**item, "nat": True, "address_ranges": grown})
    network = catalog.networks.info("Public")
    assert (network.nat, [r.size for r in network.address_ranges]) == (True, [50, 1])
    catalog.networks.leases.release([1])
    catalog.networks.declare({"name": "Public", "state": "DONE"})
    catalog.networks.declare({"name": "Public", "state": "DONE"})
    assert catalog.networks.pool() == []


def test_check_mode_keeps_nothing(tmp_path):
    store = Store(str(tmp_path), create=True)
    store.close()
    store = Store(str(tmp_path), check_mode=True)
    catalog = Catalog(store)
    with store.transaction():
        catalog.public()
        assert len(catalog.networks.pool()) == 1
    assert catalog.networks.pool() == []
    assert sqlite3.connect(store.path).execute("SELECT COUNT(*) FROM networks").fetchone()[0] == 0
    store.close()


def test_a_network_that_is_declared_has_the_security_groups_that_there_are(catalog):
    """In check mode those of an earlier task are gone with its session."""
    groups = {"SECURITY_GROUPS": "100,0"}
    item = {"id": None, "name": "red", "vn_mad": "ovn", "bridge": "br-int", "attributes": groups, "address_ranges": []}
    catalog.networks.declare(item)
    assert catalog.networks.info("red").attributes["SECURITY_GROUPS"] == "0"
    catalog.networks.declare({**item, "name": "blue", "attributes": {"SECURITY_GROUPS": "100"}})
    assert "SECURITY_GROUPS" not in catalog.networks.info("blue").attributes
