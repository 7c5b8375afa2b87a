# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several networks of driver bridge on one bridge of a node: the real module with the real `ip` and `nft`, in network
namespaces made here."""

from __future__ import annotations

import itertools

import pytest

from ansible_collections.nebula.provision.tests.integration import test_boot
from ansible_collections.nebula.provision.tests.integration.node_namespaces import heard, network, wire

pytestmark = pytest.mark.root

FIRST = network(nat=True)


def second(**values):
    """Private, beside Public on nbr0."""
    addresses = {"NETWORK_ADDRESS": "10.67.0.0", "NETWORK_MASK": "255.255.255.0", "GATEWAY": "10.67.0.1"}
    attributes = {**addresses, **values.pop("attributes", {})}
    ranges = [{"ar_id": 0, "type": "IP4", "ip": "10.67.0.10", "size": 100, "mac": "02:00:0a:43:00:0a", "used": 0}]
    return network(**{"name": "Private", "number": 2, "attributes": attributes, "address_ranges": ranges, **values})


PLAIN, ROUTED, TRANSLATED = (
    second(), second(attributes={"GATEWAY_ON_BRIDGE": "YES"}), second(nat=True, attributes={"NODE_ACCESS": "tcp/8000"})
)  # fmt: skip
files = test_boot.files


def machine(namespaces, node, *addresses, gateway):
    """On nbr0, as a virtual machine would be; its first address is its NIC's and the others are aliases."""
    made = namespaces()
    port = f"vnet{machine.count.__next__()}"
    wire(node, port, made, "eth0")
    node.run("ip", "link", "set", port, "master", "nbr0")
    for address in addresses:
        made.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
    made.run("ip", "route", "add", "default", "via", gateway)
    return made


machine.count = itertools.count()


def as_predicted(node, *networks, **params):
    """The result; check mode foresees it, and a second run has nothing to do."""
    before = node.snapshot()
    predicted = node.ok(*networks, check=True, **params)
    assert node.snapshot() == before
    real = node.ok(*networks, **params)
    assert (predicted["changed"], predicted["diff"]) == (real["changed"], real["diff"])
    assert predicted["links"] == real["links"]
    assert not node.ok(*networks, **params)["changed"]
    return real


@pytest.mark.parametrize(
    ("other", "addresses", "forwarding"),
    [
        (PLAIN, ["10.66.0.1/24"], "1"),
        (ROUTED, ["10.66.0.1/24", "10.67.0.1/24"], "1"),
        (TRANSLATED, ["10.66.0.1/24", "10.67.0.1/24"], "1"),
    ],
)
def test_one_comes_to_the_bridge_of_another_and_each_may_go_first(node, other, addresses, forwarding):
    bare = node.snapshot()
    for going, staying in ((other, FIRST), (FIRST, other)):
        as_predicted(node, FIRST)
        alone = node.snapshot()
        mac = node.link("nbr0")["address"]
        real = as_predicted(node, FIRST, other)
        assert [(each["network"], each["created"]) for each in real["links"]] == [("Public", False), ("Private", True)]
        assert sorted(node.addresses("nbr0")) == addresses
        assert node.forwarding() == forwarding
        assert node.link("nbr0")["ifalias"].startswith(f"nebula:5c1de0d1-0000-4000-8000-000000000001:{FIRST['uuid']}")
        node.port()
        as_predicted(node, {**going, "state": "DONE"}, staying)
        assert node.link("nbr0")["address"] == mac
        assert node.link("vnet0")["master"] == "nbr0"
        assert staying["uuid"] in node.link("nbr0")["ifalias"]
        assert going["uuid"] not in node.run("nft", "list", "ruleset")
        node.run("ip", "link", "delete", "vnet0")
        if going is other:
            assert node.snapshot() == alone
        as_predicted(node, staying, state="absent")
        assert node.snapshot() == bare


def test_both_are_made_at_once_and_go_with_the_teardown(node):
    bare = node.snapshot()
    real = as_predicted(node, TRANSLATED, FIRST)
    assert [each["address"] for each in real["links"]] == ["10.67.0.1/24", "10.66.0.1/24"]
    node.port("one-1-0")
    said = node.module(state="absent")
    assert said["failed"] and "attached to nbr0 are one-1-0" in said["msg"]
    rules = node.run("nft", "list", "ruleset")
    assert FIRST["uuid"] in rules and TRANSLATED["uuid"] in rules
    node.run("ip", "link", "delete", "one-1-0")
    assert node.ok(state="absent")["changed"]
    assert node.snapshot() == bare


def test_a_run_of_one_of_them_alone_keeps_what_the_other_asks_for(node):
    as_predicted(node, FIRST, TRANSLATED)
    both = node.snapshot()
    for one, other in ((FIRST, TRANSLATED), (TRANSLATED, FIRST)):
        assert not node.ok({**one, "beside": [other]})["changed"]
    known = [FIRST["uuid"], TRANSLATED["uuid"]]
    assert not node.ok({**FIRST, "beside": [TRANSLATED]}, known=known)["changed"]
    assert node.snapshot() == both
    node.port()
    as_predicted(node, {**FIRST, "state": "DONE", "beside": [TRANSLATED]}, known=known[1:])
    assert node.addresses("nbr0") == ["10.67.0.1/24"]
    assert node.link("vnet0")["master"] == "nbr0"


@pytest.mark.parametrize("moved", [{"bridge": "nbr9"}, {"vn_mad": "dummy", "bridge": "nbr9"}])
def test_the_one_that_the_mark_names_gets_another_bridge(node, moved):
    node.run("ip", "link", "add", "br7", "type", "bridge")
    as_predicted(node, FIRST, PLAIN)
    node.port()
    changed = {**FIRST, "nat": False, **moved} if "vn_mad" in moved else {**FIRST, **moved}
    as_predicted(node, changed, PLAIN)
    assert PLAIN["uuid"] in node.link("nbr0")["ifalias"]
    assert node.addresses("nbr0") == []
    assert node.link("vnet0")["master"] == "nbr0"
    if "vn_mad" not in moved:
        assert node.addresses("nbr9") == ["10.66.0.1/24"]


def test_one_that_was_removed_by_another_run_leaves_the_bridge(node):
    node.ok(FIRST, TRANSLATED)
    node.port()
    node.ok(TRANSLATED, known=[TRANSLATED["uuid"]])
    assert node.addresses("nbr0") == ["10.67.0.1/24"]
    assert TRANSLATED["uuid"] in node.link("nbr0")["ifalias"]
    assert FIRST["uuid"] not in node.run("nft", "list", "ruleset")
    assert not node.ok(TRANSLATED, known=[TRANSLATED["uuid"]])["changed"]


def test_what_passes_is_what_each_of_them_says(namespaces, node, world):
    """Both have NAT; of the node one reaches a port, the other (of an older version) everything."""
    node.ok(FIRST, TRANSLATED)
    public = machine(namespaces, node, "10.66.0.10", gateway="10.66.0.1")
    private = machine(namespaces, node, "10.67.0.10", gateway="10.67.0.1")
    for one, gateway in ((public, "10.66.0.1"), (private, "10.67.0.1")):
        assert heard(world, "192.0.2.2", one, "192.0.2.2") == "192.0.2.1"
        assert heard(node, gateway, one, gateway) != "nobody"
    assert heard(public, "10.66.0.10", world, "10.66.0.10") == "nobody"
    assert heard(private, "10.67.0.10", world, "10.67.0.10") == "nobody"
    closed = {**TRANSLATED, "attributes": {**TRANSLATED["attributes"], "NODE_ACCESS": "none"}}
    node.ok(FIRST, closed)
    assert heard(node, "10.66.0.1", public, "10.66.0.1") == "10.66.0.10"
    assert heard(node, "10.67.0.1", private, "10.67.0.1") == "nobody"
    assert heard(world, "192.0.2.2", private, "192.0.2.2") == "192.0.2.1"


def test_one_is_routed_and_the_other_translated(namespaces, node, world):
    node.ok(FIRST, ROUTED)
    public = machine(namespaces, node, "10.66.0.10", gateway="10.66.0.1")
    private = machine(namespaces, node, "10.67.0.10", gateway="10.67.0.1")
    assert heard(world, "192.0.2.2", public, "192.0.2.2") == "192.0.2.1"
    assert heard(world, "192.0.2.2", private, "192.0.2.2") == "10.67.0.10"
    assert heard(private, "10.67.0.10", world, "10.67.0.10") == "192.0.2.2"
    assert heard(public, "10.66.0.10", world, "10.66.0.10") == "nobody"


def test_an_alias_of_a_network_without_gateway_reaches_its_machines_and_not_the_node(namespaces, node, world):
    """A NIC in Public with an alias in Private: each of its addresses has what its network has."""
    node.ok(FIRST, PLAIN)
    both = machine(namespaces, node, "10.66.0.10", "10.67.0.11", gateway="10.66.0.1")
    inner = machine(namespaces, node, "10.67.0.10", gateway="10.67.0.11")
    assert heard(inner, "10.67.0.10", both, "10.67.0.10", "10.67.0.11") == "10.67.0.11"
    assert heard(world, "192.0.2.2", both, "192.0.2.2", "10.66.0.10") == "192.0.2.1"
    assert heard(node, "10.66.0.1", both, "10.66.0.1", "10.66.0.10") == "10.66.0.10"
    inner.run("ip", "route", "add", "10.66.0.1", "dev", "eth0")
    node.run("ip", "route", "add", "10.67.0.0/24", "dev", "nbr0")
    assert heard(node, "10.66.0.1", inner, "10.66.0.1") == "nobody"
    assert heard(node, "10.66.0.1", both, "10.66.0.1", "10.67.0.11") == "nobody"


def test_both_are_attached_to_one_interface(namespaces, node):
    """PHYDEV of both: it is a port while one of them is there, and down again after that."""
    other = namespaces()
    node.run("ip", "link", "add", "eth7", "type", "veth", "peer", "name", "far", "netns", other.name)
    bare = node.snapshot()
    one, two = (
        {**each, "nat": False, "attributes": {**each["attributes"], "PHYDEV": "eth7"}} for each in (FIRST, PLAIN)
    )
    as_predicted(node, one, two)
    assert node.link("eth7")["master"] == "nbr0"
    as_predicted(node, {**one, "state": "DONE"}, two)
    assert node.link("eth7")["master"] == "nbr0" and "UP" in node.link("eth7")["flags"]
    as_predicted(node, two, state="absent")
    assert node.snapshot() == bare


def test_one_that_cannot_be_is_left_out_and_the_other_stays(node):
    node.ok(FIRST)
    node.run("ip", "link", "add", "elsewhere", "type", "bridge")
    node.run("ip", "link", "set", "elsewhere", "up")
    node.run("ip", "route", "add", "10.67.0.0/16", "dev", "elsewhere")
    before = node.snapshot()
    said = node.refused(FIRST, TRANSLATED)
    assert "network Private" in said and "10.67.0.0/16" in said
    assert node.snapshot() == before
    assert node.module(FIRST, TRANSLATED)["refused"] == ["Private"]


def test_of_those_that_have_it_none_is_changed_where_one_cannot_be(node):
    node.ok(FIRST, TRANSLATED)
    node.run("ip", "link", "add", "elsewhere", "type", "bridge")
    node.run("ip", "link", "set", "elsewhere", "up")
    node.run("ip", "route", "add", "10.68.0.0/16", "dev", "elsewhere")
    addresses = {"NETWORK_ADDRESS": "10.68.0.0", "GATEWAY": "10.68.0.1"}
    moved = {**TRANSLATED, "attributes": {**TRANSLATED["attributes"], **addresses}, "address_ranges": []}
    said = node.refused({**FIRST, "nat": False}, moved)
    assert "network Private: 10.68.0.0/24" in said
    assert "network Public: bridge nbr0: network Private, which has it, too, can't be as it says" in said
    assert node.module({**FIRST, "nat": False}, moved)["refused"] == ["Public", "Private"]


def test_networks_of_a_host_are_those_of_a_bridge_together(node, files):
    code = (
        "from ansible_collections.nebula.provision.plugins.module_utils.network import links;"
        f"print(*links.networks_here({test_boot.CATALOG!r}))"
    )
    node.ok(FIRST)
    assert node.python(code).split() == [FIRST["uuid"]]
    node.ok(FIRST, PLAIN)
    assert node.python(code).split() == [FIRST["uuid"], PLAIN["uuid"]]


def test_both_come_back_when_the_host_boots(node, files):
    node.ok(FIRST, TRANSLATED)
    rules, alias = node.run("nft", "--stateless", "list", "ruleset"), node.link("nbr0")["ifalias"]
    files.keep()
    files.lose_everything()
    assert files.boot().returncode == 0
    assert sorted(node.addresses("nbr0")) == ["10.66.0.1/24", "10.67.0.1/24"]
    assert (node.run("nft", "--stateless", "list", "ruleset"), node.link("nbr0")["ifalias"]) == (rules, alias)
    assert not node.ok(FIRST, TRANSLATED)["changed"]
    assert files.boot().returncode == 0
    assert node.run("nft", "--stateless", "list", "ruleset") == rules
