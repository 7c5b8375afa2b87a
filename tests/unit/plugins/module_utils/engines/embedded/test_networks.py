# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks and leases of the catalog, in a real SQLite file."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.networks import LeaseRequest, Networks
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.store import Store
from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    BeingEnded,
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

PUBLIC = {"NETWORK_ADDRESS": "10.66.0.0", "NETWORK_MASK": "255.255.255.0", "GATEWAY": "10.66.0.1"}


def ip4(ip="10.66.0.10", size=5, ar_id=NEW_AR, **values):
    return AddressRange(ar_id, "IP4", size, ip=ip, **values)


class Catalog:
    """A catalog with machines that do nothing but lease."""

    def __init__(self, store):
        self.store = store
        self.networks = Networks(store)

    def machines(self, count, first=0):
        self.store.db.executemany(
            "INSERT INTO vms (id, name, uuid, state, lcm_state, wanted, cpu, memory, request, body, stime)"
            " VALUES (?, ?, ?, 3, 3, 'RUNNING', 1, 1, '', '', 0)",
            [(i, f"vm-{i}", str(i)) for i in range(first, first + count)],
        )

    def public(self, *ranges, **values):
        return self.networks.allocate(
            Network(None, "Public", address_ranges=ranges or (ip4(),), attributes=PUBLIC, **values)
        )

    def lease(self, network, *wanted):
        """wanted: VM ids, or (VM id, IP)."""
        requests = [LeaseRequest(network.id, *((w[0], 0, w[1]) if isinstance(w, tuple) else (w, 0))) for w in wanted]
        return [lease.ip for lease in self.networks.lease(requests)]

    def used(self):
        return [r.used for network in self.networks.pool() for r in network.address_ranges]


@pytest.fixture
def catalog(tmp_path):
    store = Store(str(tmp_path), create=True)
    with store.transaction():
        made = Catalog(store)
        made.machines(200)
        yield made
    store.close()


@contextmanager
def raises(kind, *parts):
    with pytest.raises(kind) as caught:
        yield
    for part in parts:
        assert part in str(caught.value)


# -- networks


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
    other = Network(None, "Other", bridge="nbr0")
    with raises(Conflict, "network Other", "BRIDGE = nbr0", "network Public (id 0)", "vn_mad: dummy"):
        catalog.networks.allocate(other)
    catalog.networks.allocate(replace(other, vn_mad="dummy"))


@pytest.mark.parametrize("name", ["", "a/b", "..", "a\nb", " a"])
def test_names_that_mean_something_elsewhere(catalog, name):
    with raises(InvalidValue, "network"):
        catalog.networks.allocate(Network(None, name))


def test_drivers_of_later_are_refused_by_name(catalog):
    with raises(Unsupported, "network v: VN_MAD = vxlan", "bridge, dummy"):
        catalog.networks.allocate(Network(None, "v", vn_mad="vxlan"))
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
    catalog.networks.release([7])
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
    catalog.networks.release(range(8))
    catalog.networks.delete("Public")
    with raises(NotFound, "network 'Public'"):
        catalog.networks.info("Public")


# -- ranges


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


# -- leases


def test_the_lowest_free_addresses_over_all_ranges(catalog):
    network = catalog.public(ip4(size=3), ip4("10.66.0.20", 3))
    assert catalog.lease(network, 0, 1) == ["10.66.0.10", "10.66.0.11"]
    assert catalog.lease(network, 2, 3) == ["10.66.0.12", "10.66.0.20"]
    catalog.networks.release([1])
    assert catalog.lease(network, 4, 5) == ["10.66.0.11", "10.66.0.21"]
    assert catalog.used() == [3, 2]


def test_what_a_nic_had_that_goes_is_held_until_it_is_gone(catalog):
    network = catalog.public(ip4(size=3))
    catalog.networks.lease([LeaseRequest(network.id, 7, number) for number in (0, 1)])
    catalog.networks.let_go(7, [0])
    assert catalog.used() == [2]
    with raises(BeingEnded, "has it until it is made anew, or was off"):
        catalog.lease(network, (8, "10.66.0.10"))
    catalog.networks.release_kept(7)
    assert catalog.used() == [1]
    assert catalog.lease(network, 8) == ["10.66.0.10"]


def test_addresses_asked_for_go_first(catalog):
    network = catalog.public()
    wanted = catalog.lease(network, 0, 1, (2, "10.66.0.11"), (3, "10.66.0.10"), 4)
    assert wanted == ["10.66.0.12", "10.66.0.13", "10.66.0.11", "10.66.0.10", "10.66.0.14"]


def test_a_lease_by_mac(catalog):
    network = catalog.public()
    made = catalog.networks.lease([LeaseRequest(network.id, 1, 0, mac="02:00:0A:42:00:0C")])[0]
    assert (made.ip, made.mac, made.offset, made.ar_id) == ("10.66.0.12", "02:00:0a:42:00:0c", 2, 0)
    both = LeaseRequest(network.id, 1, 1, ip="10.66.0.13", mac="02:00:00:00:00:01")
    with raises(NoLease, "10.66.0.13", "02:00:0a:42:00:0d", "not with 02:00:00:00:00:01"):
        catalog.networks.lease([both])
    assert catalog.networks.lease([replace(both, mac="02:00:0a:42:00:0d")])[0].ip == "10.66.0.13"


def test_a_lease_by_ipv6(catalog):
    both = AddressRange(-1, "IP4_6", 50, ip="10.66.0.10", global_prefix="2001:db8::", ula_prefix="fd00::")
    only = AddressRange(-1, "IP6", 9, mac="02:11:22:33:44:50", global_prefix="2001:db8:1::")
    network = catalog.networks.allocate(Network(None, "six", address_ranges=(both, only)))
    wanted = LeaseRequest(network.id, 1, 0, ip6="2001:DB8::aff:fe42:c")
    made = catalog.networks.lease([wanted])[0]
    assert (made.ip, made.ip6, made.mac) == ("10.66.0.12", "2001:db8::aff:fe42:c", "02:00:0a:42:00:0c")
    made = catalog.networks.lease([replace(wanted, ip6="fd00::aff:fe42:d")])[0]
    assert (made.ip, made.ip6_ula) == ("10.66.0.13", "fd00::aff:fe42:d")
    made = catalog.networks.lease([replace(wanted, ip6="2001:db8:1::11:22ff:fe33:4458")])[0]
    assert (made.ar_id, made.offset, made.ip) == (1, 8, "")
    same = replace(wanted, ip="10.66.0.14", ip6="2001:db8::aff:fe42:e", mac="02:00:0a:42:00:0e")
    assert catalog.networks.lease([same])[0].offset == 4
    with raises(NoLease, "2001:DB8::aff:fe42:c", "VM vm-1 (id 1) has it"):
        catalog.networks.lease([replace(wanted, vm_id=2)])
    with raises(NoLease, "10.66.0.15", "2001:db8::aff:fe42:f", "not with 2001:db8::aff:fe42:e"):
        catalog.networks.lease([replace(same, ip="10.66.0.15", mac="")])
    with raises(NoLease, "fd00::aff:fe42:10", "02:00:0a:42:00:10", "not with 02:00:0a:42:00:11"):
        catalog.networks.lease([replace(wanted, ip6="fd00::aff:fe42:10", mac="02:00:0a:42:00:11")])
    outside = ("2001:db8::7", "2001:db8:2::aff:fe42:11", "2001:db8::aff:fe42:3c", "2001:db8:1::aff:fe42:11")
    for ip6 in outside:
        with raises(NoLease, ip6, "2001:db8::aff:fe42:a to 2001:db8::aff:fe42:3b", "2001:db8:1:0:11:22ff:fe33:4450"):
            catalog.networks.lease([replace(wanted, ip6=ip6)])
    with raises(NoLease, "2001:db8::aff:fe42:a", "none of the network's address ranges: none"):
        catalog.networks.lease([replace(wanted, network_id=catalog.public().id, ip6="2001:db8::aff:fe42:a")])


def test_many_nics_of_one_machine_in_many_networks(catalog):
    public = catalog.public()
    other = catalog.networks.allocate(Network(None, "Other", address_ranges=(AddressRange(NEW_AR, "ETHER", 5),)))
    made = catalog.networks.lease([LeaseRequest(n.id, 1, nic) for nic, n in enumerate((public, other, public, other))])
    assert [(m.network_id, m.nic_id, m.offset, m.ip) for m in made] == [
        (0, 0, 0, "10.66.0.10"),
        (1, 1, 0, ""),
        (0, 2, 1, "10.66.0.11"),
        (1, 3, 1, ""),
    ]
    catalog.networks.release([1])
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
                catalog.networks.release([number])
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
    catalog.networks.lease([LeaseRequest(full.id, 1000 + i, 0) for i in range(10_000)])
    steps = {}
    for network, first in ((full, 11_000), (empty, 11_100)):
        ticks = []
        catalog.store.db.set_progress_handler(lambda ticks=ticks: ticks.append(1) and None, 100)
        catalog.networks.lease([LeaseRequest(network.id, first + i, 0) for i in range(100)])
        catalog.store.db.set_progress_handler(None, 0)
        steps[network.name] = len(ticks)
    assert steps["full"] <= steps["empty"] * 1.3 + 2


# -- check mode


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
    catalog.networks.release([1])
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
