# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routers of the catalog: what they lease stays theirs, whatever is done with ranges, machines and books beside it."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.copies.raise_numbers import _hold
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    Conflict,
    InUse,
    NebulaError,
    NoLease,
    NotFound,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.lease import LeaseRequest
from ansible_collections.nebula.provision.plugins.module_utils.model.network import NEW_AR, AddressRange, Network
from ansible_collections.nebula.provision.plugins.module_utils.model.router import (
    FloatingIp,
    Router,
    RouterGateway,
    RouterInterface,
)

TENANT, OUTSIDE = 0, 1


def ranges(ip, size):
    return AddressRange(NEW_AR, "IP4", size, ip=ip)


def of_ovn(name, cidr, gateway, *address_ranges, **attributes):
    return Network(
        None,
        name,
        vn_mad="ovn",
        attributes={
            "NETWORK_ADDRESS": cidr.partition("/")[0],
            "NETWORK_MASK": "255.255.255.0",
            "GATEWAY": gateway,
            **attributes,
        },
        address_ranges=address_ranges,
    )


@contextlib.contextmanager
def opened(root):
    engine = EmbeddedEngine(str(root), create=True)
    with contextlib.closing(engine), engine.session():
        engine.networks.allocate(of_ovn("Tenant", "10.0.0.0/24", "10.0.0.1", ranges("10.0.0.10", 5)))
        engine.networks.allocate(
            of_ovn("Outside", "172.24.1.0/24", "172.24.1.1", ranges("172.24.1.10", 5), PHYSICAL_NETWORK="p")
        )
        engine.store.db.executemany(
            "INSERT INTO vms (id, name, uuid, state, lcm_state, wanted, cpu, memory, request, body, stime)"
            " VALUES (?, ?, ?, 3, 3, 'RUNNING', 1, 1, '', '', 0)",
            [(i, f"vm-{i}", str(i)) for i in range(20)],
        )
        yield engine


@pytest.fixture
def engine(tmp_path):
    with opened(tmp_path) as made:
        yield made


def edge(name="edge", gateway="", **values):
    return Router(
        None, name, interfaces=(RouterInterface(TENANT, "10.0.0.1"),), gateway=RouterGateway(OUTSIDE, gateway), **values
    )


def used(engine):
    return [r.used for network in engine.networks.pool() for r in network.address_ranges]


def test_addresses_are_leased_kept_and_given_back(engine):
    made = engine.routers.allocate(edge(floating=(FloatingIp(""), FloatingIp("172.24.1.14", "web"))))
    assert (made.gateway.ip, [each.ip for each in made.floating]) == ("172.24.1.10", ["172.24.1.11", "172.24.1.14"])
    assert engine.routers.info("edge") == made
    assert used(engine) == [0, 3]
    assert engine.routers.update("edge", floating=()).gateway == made.gateway
    assert used(engine) == [0, 1]
    assert engine.routers.delete("edge").name == "edge"
    assert used(engine) == [0, 0]
    with pytest.raises(NotFound, match="edge"):
        engine.routers.info("edge")


@pytest.mark.parametrize(
    ("router", "kind", "words"),
    [
        (edge(), Conflict, "id 0 has that name"),
        (edge("other"), Conflict, r"10\.0\.0\.1 in network Tenant: router edge has that address"),
        (Router(None, "x", gateway=RouterGateway(OUTSIDE, "172.24.1.10")), Conflict, "router edge has that address"),
        # Outside of all ranges, where nothing is leased.
        (Router(None, "x", gateway=RouterGateway(OUTSIDE, "172.24.1.99")), Conflict, "router edge has that address"),
        (
            Router(
                None, "x", gateway=RouterGateway(OUTSIDE, "172.24.1.12"), floating=(FloatingIp("172.24.1.12", "web"),)
            ),
            Conflict,
            "twice",
        ),
        (
            Router(None, "x", gateway=RouterGateway(OUTSIDE, ""), floating=tuple(FloatingIp("") for _ in range(9))),
            NoLease,
            "none of its address ranges has a free one",
        ),
    ],
)
def test_an_address_is_one_routers_and_there_once(engine, router, kind, words):
    engine.routers.allocate(edge(floating=(FloatingIp("172.24.1.99"),)))
    before = used(engine)
    with pytest.raises(kind, match=words), engine.attempt():
        engine.routers.allocate(router)
    assert used(engine) == before


def test_one_with_floating_addresses_stays(engine):
    engine.routers.allocate(edge(floating=tuple(FloatingIp("", f"vm-{i}") for i in range(2))))
    with pytest.raises(InUse, match=r"172\.24\.1\.11 of vm-0, 172\.24\.1\.12 of vm-1"):
        engine.routers.delete("edge")


def test_a_range_that_comes_over_an_address_of_a_router_never_leases_it(engine):
    """Else a machine would get it, and both would have it."""
    engine.routers.allocate(
        Router(None, "edge", interfaces=(RouterInterface(TENANT, "10.0.0.16"),), gateway=RouterGateway(OUTSIDE, ""))
    )
    engine.routers.update("edge", floating=(FloatingIp("172.24.1.20"),))
    there = engine.networks.info(TENANT).address_ranges[0]
    engine.networks.update_ar(TENANT, replace(there, size=8))
    engine.networks.add_ar(OUTSIDE, ranges("172.24.1.20", 2))
    assert used(engine) == [1, 1, 1]
    machines = [LeaseRequest(TENANT, number, 0) for number in range(7)]
    assert "10.0.0.16" not in [lease.ip for lease in engine.networks.leases.lease(machines)]
    with pytest.raises(InUse, match=r"leased by router edge.*Take the network or the address out of these routers"):
        engine.networks.rm_ar(OUTSIDE, 1)
    engine.routers.update("edge", floating=())
    assert used(engine) == [8, 1, 0]


def test_a_network_with_a_router_is_neither_removed_nor_given_another_driver(engine):
    engine.routers.allocate(edge())
    with pytest.raises(InUse, match="network Tenant: delete: router edge has an address in it"):
        engine.networks.delete(TENANT)
    with pytest.raises(InUse, match=r"network Tenant: VN_MAD = bridge, it is ovn: router edge has an address in it"):
        engine.networks.update(TENANT, vn_mad="bridge", bridge="nbr0")


def test_what_is_left_over_from_machines_is_no_routers(engine):
    engine.routers.allocate(edge(floating=(FloatingIp(""),)))
    assert engine.networks.held() == []
    engine.networks.held_leases.release_held((), complete=True)
    # When a copy of the catalog is restored.
    assert list(_hold(engine.store, ())) == []
    assert used(engine) == [0, 2]
    with pytest.raises(NoLease) as caught:
        engine.networks.leases.lease([LeaseRequest(OUTSIDE, number, 0) for number in range(4)])
    assert "does not know" not in str(caught.value)


class _Books:
    """What is leased, by a list of machines and routers that comes and goes."""

    def __init__(self, engine):
        self.engine = engine

    def do(self, what, number):
        name = f"r{number}"
        with contextlib.suppress(NebulaError), self.engine.attempt():
            if what == "lease":
                self.engine.networks.leases.lease([LeaseRequest(OUTSIDE, number, 0)])
            elif what == "release":
                self.engine.networks.leases.release([number])
            elif what == "give up":
                self.engine.networks.held_leases.give_up(number)
            elif what == "release held":
                self.engine.networks.held_leases.release_held((), complete=True)
            elif what == "have":
                self.engine.routers.allocate(Router(None, name, gateway=RouterGateway(OUTSIDE, "")))
            elif what == "float":
                ip = f"172.24.1.{10 + number}"
                self.engine.routers.update(f"r{number % 3}", floating=(FloatingIp(ip), FloatingIp("")))
            elif what == "drop":
                self.engine.routers.update(name, floating=())
            elif what == "delete":
                self.engine.routers.delete(name)
            elif what == "grow":
                there = self.engine.networks.info(OUTSIDE).address_ranges[0]
                self.engine.networks.update_ar(OUTSIDE, replace(there, size=3 + number))

    def check(self):
        (row,) = self.engine.store.rows("SELECT used, first_free, size FROM address_ranges WHERE network_id = 1")
        taken = {each[0] for each in self.engine.store.rows("SELECT offset FROM leases WHERE network_id = 1")}
        assert row["used"] == len(taken) <= row["size"]
        assert row["first_free"] <= min(offset for offset in range(len(taken) + 1) if offset not in taken)
        theirs = {
            int(ip.rpartition(".")[2]) - 10
            for router in self.engine.routers.pool()
            for network_id, ip in router.addresses()
            if network_id == OUTSIDE
        }
        leased = {each[0] for each in self.engine.store.rows("SELECT offset FROM leases WHERE holder != ''")}
        assert leased == {offset for offset in theirs if offset < row["size"]}


STEP = st.tuples(
    st.sampled_from(["lease", "release", "give up", "release held", "have", "float", "drop", "delete", "grow"]),
    st.integers(0, 7),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, max_size=30))
def test_after_anything_the_books_are_right(tmp_path_factory, steps):
    with opened(tmp_path_factory.mktemp("books")) as engine:
        books = _Books(engine)
        for what, number in steps:
            books.do(what, number)
            books.check()
