# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine leases, and what it can't, in a real SQLite file."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.store import Store
from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, InUse, InvalidValue, NoLease
from ansible_collections.nebula.provision.plugins.module_utils.model.lease import LeaseRequest
from ansible_collections.nebula.provision.plugins.module_utils.model.network import NEW_AR, AddressRange, Network
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.networks.conftest import (
    Catalog,
    ip4,
    raises,
)


def test_the_lowest_free_addresses_over_all_ranges(catalog):
    network = catalog.public(ip4(size=3), ip4("10.66.0.20", 3))
    assert catalog.lease(network, 0, 1) == ["10.66.0.10", "10.66.0.11"]
    assert catalog.lease(network, 2, 3) == ["10.66.0.12", "10.66.0.20"]
    catalog.networks.leases.release([1])
    assert catalog.lease(network, 4, 5) == ["10.66.0.11", "10.66.0.21"]
    assert catalog.used() == [3, 2]


def test_addresses_asked_for_go_first(catalog):
    network = catalog.public()
    wanted = catalog.lease(network, 0, 1, (2, "10.66.0.11"), (3, "10.66.0.10"), 4)
    assert wanted == ["10.66.0.12", "10.66.0.13", "10.66.0.11", "10.66.0.10", "10.66.0.14"]


def test_a_lease_by_mac(catalog):
    network = catalog.public()
    made = catalog.networks.leases.lease([LeaseRequest(network.id, 1, 0, mac="02:00:0A:42:00:0C")])[0]
    assert (made.ip, made.mac, made.offset, made.ar_id) == ("10.66.0.12", "02:00:0a:42:00:0c", 2, 0)
    both = LeaseRequest(network.id, 1, 1, ip="10.66.0.13", mac="02:00:00:00:00:01")
    with raises(NoLease, "10.66.0.13", "02:00:0a:42:00:0d", "not with 02:00:00:00:00:01"):
        catalog.networks.leases.lease([both])
    assert catalog.networks.leases.lease([replace(both, mac="02:00:0a:42:00:0d")])[0].ip == "10.66.0.13"


def test_a_lease_by_ipv6(catalog):
    both = AddressRange(-1, "IP4_6", 50, ip="10.66.0.10", global_prefix="2001:db8::", ula_prefix="fd00::")
    only = AddressRange(-1, "IP6", 9, mac="02:11:22:33:44:50", global_prefix="2001:db8:1::")
    network = catalog.networks.allocate(Network(None, "six", address_ranges=(both, only)))
    wanted = LeaseRequest(network.id, 1, 0, ip6="2001:DB8::aff:fe42:c")
    made = catalog.networks.leases.lease([wanted])[0]
    assert (made.ip, made.ip6, made.mac) == ("10.66.0.12", "2001:db8::aff:fe42:c", "02:00:0a:42:00:0c")
    made = catalog.networks.leases.lease([replace(wanted, ip6="fd00::aff:fe42:d")])[0]
    assert (made.ip, made.ip6_ula) == ("10.66.0.13", "fd00::aff:fe42:d")
    made = catalog.networks.leases.lease([replace(wanted, ip6="2001:db8:1::11:22ff:fe33:4458")])[0]
    assert (made.ar_id, made.offset, made.ip) == (1, 8, "")
    same = replace(wanted, ip="10.66.0.14", ip6="2001:db8::aff:fe42:e", mac="02:00:0a:42:00:0e")
    assert catalog.networks.leases.lease([same])[0].offset == 4
    with raises(NoLease, "2001:DB8::aff:fe42:c", "VM vm-1 (id 1) has it"):
        catalog.networks.leases.lease([replace(wanted, vm_id=2)])
    with raises(NoLease, "10.66.0.15", "2001:db8::aff:fe42:f", "not with 2001:db8::aff:fe42:e"):
        catalog.networks.leases.lease([replace(same, ip="10.66.0.15", mac="")])
    with raises(NoLease, "fd00::aff:fe42:10", "02:00:0a:42:00:10", "not with 02:00:0a:42:00:11"):
        catalog.networks.leases.lease([replace(wanted, ip6="fd00::aff:fe42:10", mac="02:00:0a:42:00:11")])
    outside = ("2001:db8::7", "2001:db8:2::aff:fe42:11", "2001:db8::aff:fe42:3c", "2001:db8:1::aff:fe42:11")
    for ip6 in outside:
        with raises(NoLease, ip6, "2001:db8::aff:fe42:a to 2001:db8::aff:fe42:3b", "2001:db8:1:0:11:22ff:fe33:4450"):
            catalog.networks.leases.lease([replace(wanted, ip6=ip6)])
    with raises(NoLease, "2001:db8::aff:fe42:a", "none of the network's address ranges: none"):
        catalog.networks.leases.lease([replace(wanted, network_id=catalog.public().id, ip6="2001:db8::aff:fe42:a")])


def test_many_nics_of_one_machine_in_many_networks(catalog):
    public = catalog.public()
    other = catalog.networks.allocate(Network(None, "Other", address_ranges=(AddressRange(NEW_AR, "ETHER", 5),)))
    made = catalog.networks.leases.lease(
        [LeaseRequest(n.id, 1, nic) for nic, n in enumerate((public, other, public, other))]
    )
    assert [(m.network_id, m.nic_id, m.offset, m.ip) for m in made] == [
        (0, 0, 0, "10.66.0.10"),
        (1, 1, 0, ""),
        (0, 2, 1, "10.66.0.11"),
        (1, 3, 1, ""),
    ]
    catalog.networks.leases.release([1])
    assert catalog.used() == [0, 0]


def test_the_same_address_asked_twice(catalog):
    network = catalog.public()
    with raises(NoLease, "10.66.0.12 in network Public for VM vm-2 (id 2), NIC 0", "VM vm-1 (id 1), NIC 0 asks for"):
        catalog.lease(network, (1, "10.66.0.12"), (2, "10.66.0.12"))


def test_an_address_that_another_has(catalog):
    network = catalog.public()
    catalog.lease(network, (1, "10.66.0.12"))
    with raises(NoLease, "10.66.0.12 in network Public for VM vm-2 (id 2)", "VM vm-1 (id 1) has it, on NIC 0"):
        catalog.lease(network, (2, "10.66.0.12"))


def test_an_address_out_of_the_ranges(catalog):
    network = catalog.public(ip4(), ip4("10.66.0.20"))
    with raises(NoLease, "10.66.0.99", "VM vm-1 (id 1)", "0 [10.66.0.10-10.66.0.14], 1 [10.66.0.20-10.66.0.24]"):
        catalog.lease(network, (1, "10.66.0.99"))
    with raises(InvalidValue, "VM vm-1 (id 1), NIC 0: IP = '10.66.0'"):
        catalog.lease(network, (1, "10.66.0"))


def test_too_few_free_leases_keep_nothing(tmp_path):
    store = Store(str(tmp_path), create=True)
    catalog = Catalog(store)
    with store.transaction():
        catalog.machines(20)
        network = catalog.public(ip4(size=5), ip4("10.66.0.20", 5))
        catalog.lease(network, 0, 1, 2)
    wanted = [*range(3, 10), (10, "10.66.0.24")]
    with (
        raises(NoLease, "network Public", "VM vm-3 (id 3), NIC 0 and 7 more", "8 wanted, 7 free of 10"),
        store.transaction(),
    ):
        catalog.lease(network, *wanted)
    assert catalog.used() == [3, 0]
    assert store.row("SELECT COUNT(*) FROM leases")[0] == 3
    with store.transaction():
        catalog.lease(network, *wanted[1:])
    assert catalog.used() == [5, 5]
    store.close()


def test_a_network_without_ranges_says_so(catalog):
    network = catalog.networks.allocate(Network(None, "Bare"))
    with raises(NoLease, "network Bare", "no address range"):
        catalog.lease(network, 1)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=3),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("lease"), st.integers(1, 6)),
            st.tuples(st.just("claim"), st.integers(0, 40)),
            st.tuples(st.just("release"), st.integers(0, 60)),
        ),
        max_size=30,
    ),
)
def test_any_sequence_gives_what_a_plain_list_would(tmp_path_factory, sizes, steps):
    """Against a model that looks at every address: the lowest free ones, no address twice, none lost."""
    store = Store(str(tmp_path_factory.mktemp("catalog")), create=True)
    catalog = Catalog(store)
    with store.transaction():
        catalog.machines(100)
        network = catalog.public(*(ip4(f"10.66.0.{10 + 50 * i}", size) for i, size in enumerate(sizes)))
        everything = [f"10.66.0.{10 + 50 * i + offset}" for i, size in enumerate(sizes) for offset in range(size)]
        held, machine = {}, 0
        for verb, number in steps:
            free = [ip for ip in everything if ip not in held]
            if verb == "release":
                catalog.networks.leases.release([number])
                held = {ip: vm for ip, vm in held.items() if vm != number}
                continue
            if machine >= 90:
                break
            vms = list(range(machine, machine + (number if verb == "lease" else 1)))
            machine = vms[-1] + 1
            expected = [everything[number % len(everything)]] if verb == "claim" else free[: len(vms)]
            wanted = [(vms[0], expected[0])] if verb == "claim" else vms
            if len(expected) < len(vms) or any(ip in held for ip in expected):
                with pytest.raises(NoLease):
                    catalog.lease(network, *wanted)
                continue
            assert catalog.lease(network, *wanted) == expected
            held.update(zip(expected, vms))
        assert sum(catalog.used()) == len(held)
    store.close()


def test_leases_cost_the_same_in_a_full_network(catalog):
    """Counted in steps of SQLite's machine, not in seconds: 10,000 used ones may not be walked over."""
    catalog.machines(11_000, first=1000)
    ranges = AddressRange(NEW_AR, "ETHER", 60_000)
    full, empty = (
        catalog.networks.allocate(Network(None, name, address_ranges=(ranges,))) for name in ("full", "empty")
    )
    catalog.networks.leases.lease([LeaseRequest(full.id, 1000 + i, 0) for i in range(10_000)])
    steps = {}
    for network, first in ((full, 11_000), (empty, 11_100)):
        ticks = []
        catalog.store.db.set_progress_handler(lambda ticks=ticks: ticks.append(1) and None, 100)
        catalog.networks.leases.lease([LeaseRequest(network.id, first + i, 0) for i in range(100)])
        catalog.store.db.set_progress_handler(None, 0)
        steps[network.name] = len(ticks)
    assert steps["full"] <= steps["empty"] * 1.3 + 2


STATIC = AddressRange(NEW_AR, "IP6_STATIC", 1 << 32, ip6="2001:db8::10", prefix_length=64)


def static(catalog, *ranges, **attributes):
    return catalog.networks.allocate(
        Network(None, "six", address_ranges=ranges or (STATIC,), attributes={"GATEWAY6": "2001:db8::1", **attributes})
    )


def six(catalog, network, *wanted):
    """wanted: VM ids, or (VM id, IP6)."""
    asked = [w if isinstance(w, tuple) else (w, "") for w in wanted]
    requests = [LeaseRequest(network.id, vm_id, 0, ip6=ip6) for vm_id, ip6 in asked]
    return [lease.ip6 for lease in catalog.networks.leases.lease(requests)]


def test_static_addresses_of_ipv6_are_leased_as_others_are(catalog):
    network = static(catalog, RESERVED="2001:db8::11 2001:db8::1:0:0-2001:db8::1:0:1")
    wanted = six(catalog, network, 0, (1, "2001:DB8::13"), 2, 3, (4, "2001:db8::1:0:f"))
    assert wanted == ["2001:db8::10", "2001:db8::13", "2001:db8::12", "2001:db8::14", "2001:db8::1:0:f"]
    catalog.networks.leases.release([2])
    assert six(catalog, network, 5, 6) == ["2001:db8::12", "2001:db8::15"]
    with raises(NoLease, "2001:db8::13 in network six", "VM vm-1 (id 1) has it, on NIC 0"):
        six(catalog, network, (7, "2001:db8::13"))
    with raises(NoLease, "2001:db8::11 in network six", "the network itself (reserved) has it"):
        six(catalog, network, (7, "2001:db8::11"))
    for outside in ("2001:db8::f", "2001:db8::1:0:10", "2001:db8:1::10"):
        with raises(NoLease, outside, "in none of", "2001:db8::10 to 2001:db8::1:0:f"):
            six(catalog, network, (7, outside))
    again = catalog.networks.info(network.id)
    assert (again.address_ranges[0].ip6, again.address_ranges[0].prefix_length) == ("2001:db8::10", 64)
    assert (again.address_ranges[0].attributes, again.address_ranges[0].used) == ({}, 9)
    assert catalog.networks.nic_values(again, 0)["PREFIX_LENGTH"] == "64"
    # What is reserved no more is leased again.
    catalog.networks.update(network.id, attributes={"GATEWAY6": "2001:db8::1"})
    assert six(catalog, network, 7) == ["2001:db8::11"]


def test_a_lease_of_both_families_is_one(catalog):
    both = AddressRange(NEW_AR, "IP4_6_STATIC", 50, ip="10.66.0.10", ip6="2001:db8::10", prefix_length=48)
    network = static(catalog, both)
    asked = LeaseRequest(network.id, 1, 0, ip6="2001:db8::12")
    made = catalog.networks.leases.lease([asked])[0]
    assert (made.ip, made.ip6, made.mac) == ("10.66.0.12", "2001:db8::12", "02:00:0a:42:00:0c")
    with raises(NoLease, "10.66.0.13", "it goes with 2001:db8::13 there, not with 2001:db8::14"):
        catalog.networks.leases.lease([replace(asked, ip="10.66.0.13", ip6="2001:db8::14")])
    assert catalog.networks.leases.lease([replace(asked, ip="10.66.0.13", ip6="2001:db8::13")])[0].offset == 3


def test_a_static_range_grows_and_shrinks_as_far_as_nothing_is_leased(catalog):
    network = static(catalog, replace(STATIC, size=10))
    six(catalog, network, (1, "2001:db8::18"))
    there = network.address_ranges[0]
    with raises(InUse, "2001:db8::10-2001:db8::19", "SIZE = 8", "leased by VM vm-1"):
        catalog.networks.update_ar(network.id, replace(there, size=8))
    assert catalog.networks.update_ar(network.id, replace(there, size=9)).address_ranges[0].size == 9
    with raises(Conflict, "IP6 = 2001:db8::11", "it is 2001:db8::10", "never moves"):
        catalog.networks.update_ar(network.id, replace(there, ip6="2001:db8::11"))
    longer = catalog.networks.update_ar(network.id, replace(there, prefix_length=80)).address_ranges[0]
    assert (longer.prefix_length, longer.ip6) == (80, "2001:db8::10")


def test_a_machine_that_was_given_up_holds_its_static_address(catalog):
    network = static(catalog)
    lease = catalog.networks.leases.lease([LeaseRequest(network.id, 1, 0)])[0]
    catalog.networks.leases.release([1])
    nic = {"network_id": network.id, "ar_id": 0, "mac": lease.mac}
    assert catalog.networks.held_leases.hold(1, nic) is None
    assert [each.ip6 for each in catalog.networks.held()] == ["2001:db8::10"]
    assert six(catalog, network, 2) == ["2001:db8::11"]
