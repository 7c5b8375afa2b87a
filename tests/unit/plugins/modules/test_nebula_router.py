# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against a real catalog; test_object_lists.py has what it shares with others."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.modules import nebula_network, nebula_router

POOL = [{"ip": "172.24.1.100", "end": "172.24.1.103"}]
NETWORKS = [
    {"name": "Tenant", "vn_mad": "ovn", "network_address": "192.168.0.0/24", "gateway": "192.168.0.1"},
    {"name": "Other", "vn_mad": "ovn", "network_address": "192.168.0.0/24", "gateway": "192.168.0.1"},
    {
        "name": "Public",
        "vn_mad": "ovn",
        "network_address": "172.24.1.0/24",
        "gateway": "172.24.1.1",
        "physical_network": "physnet1",
        "address_ranges": POOL,
    },
    {"name": "Plain", "network_address": "10.0.0.0/24"},
]
EDGE = {"name": "edge", "interfaces": [{"network": "Tenant"}], "gateway": {"network": "Public"}}


@pytest.fixture
def network(options, tmp_path):
    def run(**given):
        return nebula_network.call.run(options(nebula_network, root=str(tmp_path), **given), False)

    assert not run(networks=NETWORKS).errors
    return run


@pytest.fixture
def module(options, tmp_path, network):
    def run(check=False, **given):
        return nebula_router.call.run(options(nebula_router, root=str(tmp_path), **given), check)

    return run


def refusal(result):
    (item,) = result.errors
    return str(item.error)


def test_it_leases_the_lowest_free_addresses_and_keeps_them(module, network):
    made = module(**EDGE).payload["router"]
    assert made["interfaces"] == [{"network_id": 0, "ip": "192.168.0.1"}]
    assert (made["gateway"]["ip"], made["gateway"]["snat"]) == ("172.24.1.100", True)
    found = module(name="edge", floating=[{"vm": "web"}, {"vm": "db"}]).payload["router"]["floating"]
    assert [(each["vm"], each["ip"]) for each in found] == [("web", "172.24.1.101"), ("db", "172.24.1.102")]
    # Of those that stay, each keeps its own.
    found = module(name="edge", floating=[{"vm": "db"}, {"vm": "mail"}]).payload["router"]["floating"]
    assert [(each["vm"], each["ip"]) for each in found] == [("db", "172.24.1.102"), ("mail", "172.24.1.101")]
    (public,) = network(networks=[{"name": "Public"}]).payload["networks"]
    assert public["used"] == 3
    assert "none of its address ranges has a free one" in refusal(
        module(name="edge", floating=[{"vm": "db"}, {"vm": "mail"}, {"vm": "a"}, {"vm": "b"}])
    )
    module(name="edge", floating=[])
    module(name="edge", state="absent")
    (public,) = network(networks=[{"name": "Public"}]).payload["networks"]
    assert public["used"] == 0


def test_a_floating_address_moves_to_another_machine(module):
    module(**EDGE, floating=[{"ip": "172.24.1.103", "vm": "web"}])
    result = module(name="edge", floating=[{"ip": "172.24.1.103", "vm": "db"}])
    assert result.changed and result.payload["router"]["floating"][0]["vm"] == "db"


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"interfaces": [{"network": "nosuch"}]}, ["network 'nosuch'"]),
        ({"interfaces": [{"network": "Plain"}]}, ["network Plain", "its driver is bridge"]),
        ({"interfaces": [{"network": "Tenant"}, {"network": "0"}]}, ["interfaces[1]", "twice"]),
        ({"interfaces": [{"network": "Tenant", "ip": "192.168.1.1"}]}, ["ip 192.168.1.1", "192.168.0.0/24"]),
        ({"interfaces": [{"ip": "192.168.0.1"}]}, ["interfaces[0]", "network"]),
        ({"gateway": {"network": "Tenant"}}, ["network Tenant", "no external network"]),
        ({"gateway": {"ip": "172.24.1.5"}}, ["gateway", "says no network"]),
        ({"gateway": {"network": "Public", "hosts": ["nosuch"]}}, ["host 'nosuch'"]),
        ({"gateway": {"network": "Public", "next_hop": "10.0.0.1"}}, ["10.0.0.1", "172.24.1.0/24"]),
        ({"floating": [{"vm": "web"}]}, ["floating", "no gateway"]),
        ({"gateway": {"network": "Public"}, "floating": [{"ip": "172.24.2.5"}]}, ["ip 172.24.2.5", "172.24.1.0/24"]),
        ({"routes": [{"destination": "10.9.0.5/16", "next_hop": "192.168.0.9"}]}, ["destination '10.9.0.5/16'"]),
        ({"interface": []}, ["'interface'", "interfaces"]),
    ],
)
def test_what_can_not_be_is_refused_and_nothing_is_kept(module, given, parts):
    message = refusal(module(routers=[{"name": "edge", **given}]))
    for part in parts:
        assert part in message, message
    assert module(name="edge").changed


def test_two_routers_never_have_one_address(module):
    module(**EDGE)
    message = refusal(module(name="second", interfaces=[{"network": "Tenant"}]))
    assert "router second: 192.168.0.1 in network Tenant: router edge has that address there" in message
    message = refusal(module(name="second", gateway={"network": "Public", "ip": "172.24.1.100"}))
    assert "router edge has that address" in message
    # The same address in another tenant's network is another one.
    assert not module(name="second", interfaces=[{"network": "Other"}], gateway={"network": "Public"}).errors


def test_a_router_with_floating_addresses_and_the_networks_of_one_stay(module, network):
    module(**EDGE, floating=[{"vm": "web"}])
    assert "it has the floating addresses 172.24.1.101 of web" in refusal(module(name="edge", state="absent"))
    assert "172.24.1.101" in refusal(module(name="edge", gateway={}))
    assert "router edge has an address in it" in refusal(network(name="Tenant", state="absent"))
    assert "leased by router edge" in refusal(network(name="Public", state="absent"))
    shrunk = network(name="Public", address_ranges=[{"ip": "172.24.1.100", "size": 1}])
    assert "leased by router edge" in refusal(shrunk)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"interfaces": [{"network": "Tenant", "ip": "192.168.0.0"}]}, "the network or the broadcast address"),
        ({"gateway": {"network": "Public", "ip": "172.24.1.255"}}, "the network or the broadcast address"),
        ({"gateway": {"network": "Public", "ip": "172.24.1.1"}}, "it is the GATEWAY of that network"),
        ({"gateway": {"network": "Public"}, "floating": [{"ip": "172.24.1.1"}]}, "it is the GATEWAY of that network"),
        (
            {"gateway": {"network": "Public", "ip": "172.24.1.9"}, "floating": [{"ip": "172.24.1.9"}]},
            "it would have that address there twice",
        ),
    ],
)
def test_addresses_that_are_not_for_a_router_are_refused(module, given, words):
    for check in (True, False):
        assert words in refusal(module(check=check, name="edge", **given))
