# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Items of a list of networks, applied to a real catalog: which range an entry means, which attributes it sets, and
what is doubted. tests/unit/plugins/modules/test_nebula_network.py shows the rest, as users meet it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, NotFound
from ansible_collections.nebula.provision.plugins.module_utils.model.network import AddressRange, Network
from ansible_collections.nebula.provision.plugins.module_utils.reconcile import networks

RANGE = AddressRange(3, "IP4", 10, ip="10.66.0.10", mac="02:00:0a:42:00:0a", attributes={"DNS": "9.9.9.9", "A": "b"})


@pytest.fixture
def engine(tmp_path):
    opened = EmbeddedEngine(str(tmp_path), create=True)
    yield opened
    opened.close()


@pytest.fixture
def apply(engine):
    def some(*items, check=False):
        with engine.session():
            return networks.apply_all(engine, items, check)

    return some


# -- which range is meant ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("entry", "fits"),
    [
        ({"ar_id": 3}, True),
        ({"ar_id": 0}, False),
        ({"ar_id": 3, "ip": "10.9.9.9"}, True),
        ({"ip": "10.66.0.10"}, True),
        ({"ip": "10.66.0.11"}, False),
        ({"ip": "10.66.0.10", "type": "IP4_6"}, False),
        ({"ip": "10.66.0.10", "type": "ip4"}, True),
        ({"ip": "10.66.0.10", "mac": "02:00:0A:42:00:0A"}, True),
        ({"ip": "10.66.0.10", "mac": "02:00:0a:42:00:0b"}, False),
        ({"ip": "10.66.0.10", "size": 5, "attributes": {"X": 1}}, True),
    ],
)
def test_an_entry_means_the_range_of_its_number_or_of_its_first_address(entry, fits):
    assert networks._Range.of("Public", entry).fits(RANGE) == fits


def test_an_entry_changes_what_it_sets_and_nothing_else():
    over = networks._Range.of("Public", {"ar_id": 3, "attributes": {"dns": "", "c": 1}}).over(RANGE)
    assert (over.size, over.ip, over.mac, over.type, over.ar_id) == (10, "10.66.0.10", RANGE.mac, "IP4", 3)
    assert over.attributes == {"A": "b", "C": "1"}
    assert networks._Range.of("Public", {"ar_id": 3, "size": 20}).over(RANGE).size == 20


def test_each_range_is_meant_once():
    network = Network(0, "Public", address_ranges=(RANGE,))
    entries = [networks._Range.of("Public", {"ip": "10.66.0.10", "size": 5}) for _time in range(2)]
    assert [there for _entry, there in networks._matched(network, entries)] == [RANGE, None]


ETHER = {"type": "ETHER", "size": 5}


@pytest.mark.parametrize(
    ("entries", "meant"),
    [
        ([ETHER, {**ETHER, "mac": "02:00:00:00:01:00"}], [None, 0]),
        ([{**ETHER, "mac": "02:00:00:00:01:00"}, ETHER], [0, None]),
        ([ETHER, {"ar_id": 0, "size": 6}], [None, 0]),
        ([ETHER], [0]),
    ],
)
def test_who_names_a_range_has_it_before_who_takes_any(entries, meant):
    network = Network(0, "Private", address_ranges=(AddressRange(0, "ETHER", 6, mac="02:00:00:00:01:00"),))
    wanted = [networks._Range.of("Private", entry) for entry in entries]
    found = networks._matched(network, wanted)
    assert [entry for entry, _there in found] == wanted
    assert [there and there.ar_id for _entry, there in found] == meant


def test_a_range_that_comes_before_another_leaves_that_as_it_is(apply):
    named = {**ETHER, "size": 6, "mac": "02:00:00:00:01:00"}
    apply({"name": "Private", "bridge": "br0", "address_ranges": [named]})
    done, views, _warnings = apply({"name": "Private", "bridge": "br0", "address_ranges": [ETHER, named]})
    assert done[0].error is None
    assert [(each["ar_id"], each["size"]) for each in views[0]["address_ranges"]] == [(0, 6), (1, 5)]
    done, _views, _warnings = apply({"name": "Private", "bridge": "br0", "address_ranges": [ETHER, named]})
    assert done[0].error is None and not done[0].is_changed


def test_a_number_that_is_not_there_names_those_that_are():
    network = Network(0, "Public", address_ranges=(RANGE,))
    with pytest.raises(NotFound) as caught:
        networks._matched(network, [networks._Range.of("Public", {"ar_id": 9, "size": 1})])
    for part in ("network Public: address range", "there is no range of that number", "10.66.0.10"):
        assert part in str(caught.value)
    gone = networks._Range.of("Public", {"ar_id": 9, "state": "absent"})
    assert networks._matched(network, [gone]) == [(gone, None)]


# -- what an item sets ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "YES"),
        (False, "NO"),
        (0, "0"),
        (1.5, "1.5"),
        (" a  b ", "a  b"),
        (["10.0.0.1", 2, True], "10.0.0.1 2 YES"),
        ([], ""),
        (("a", ["b", None]), "a b "),
    ],
)
def test_values_of_yaml_become_text(value, text):
    assert networks._text(value) == text


@given(st.text(max_size=20))
@settings(max_examples=30)
def test_text_stays_as_it_is_read_the_first_time(value):
    assert networks._text(networks._text(value)) == networks._text(value)


@pytest.mark.parametrize("key", networks.WITHOUT_EFFECT)
def test_what_nothing_acts_on_is_kept_and_said(apply, key):
    _done, (view,), warnings = apply({"name": "Public", "attributes": {key.lower(): "1"}})
    assert view["attributes"][key] == "1"
    assert warnings == [f"network Public: attribute {key} is kept, but nothing acts on it yet"]


@pytest.mark.parametrize("key", sorted(set(networks.OPTIONS)))
def test_options_are_not_set_as_attributes(apply, key):
    (done,), _views, _warnings = apply({"name": "Public", "attributes": {key.lower(): "1"}})
    assert isinstance(done.error, InvalidValue)
    assert f"network Public: attribute {key}: it is not set that way. Use the option of that name" in str(done.error)


def test_options_become_attributes_and_an_empty_one_takes_its_attribute_away(apply):
    options = {"guest_mtu": 1400, "metric": 5, "search_domain": ["a.example", "b.example"], "dns": "9.9.9.9"}
    _done, (made,), _warnings = apply({"name": "Public", "gateway_on_bridge": False, **options})
    assert made["attributes"] == {
        "GUEST_MTU": "1400",
        "METRIC": "5",
        "SEARCH_DOMAIN": "a.example b.example",
        "DNS": "9.9.9.9",
        "GATEWAY_ON_BRIDGE": "NO",
    }
    _done, (changed,), _warnings = apply({"name": "Public", "dns": "", "metric": None})
    assert changed["attributes"] == {key: value for key, value in made["attributes"].items() if key != "DNS"}


def test_a_description_is_an_attribute_that_changes_at_any_time_and_can_be_taken_away(apply):
    described = {"name": "Public", "description": "Web servers of the shop"}
    _done, (made,), warnings = apply(described)
    assert made["attributes"] == {"DESCRIPTION": "Web servers of the shop"} and warnings == []
    (again,), _views, _warnings = apply(described)
    assert not again.is_changed
    _done, (changed,), _warnings = apply({**described, "description": "Of the other shop"})
    assert changed["attributes"] == {"DESCRIPTION": "Of the other shop"}
    _done, (bare,), _warnings = apply({**described, "description": ""})
    assert bare["attributes"] == {}
    (refused,), _views, _warnings = apply({**described, "attributes": {"DESCRIPTION": "Of another"}})
    assert "attributes say DESCRIPTION = 'Of another'. Give one of the two" in str(refused.error)


@pytest.mark.parametrize(
    ("gateway", "doubted"), [("10.66.0.1", False), ("10.66.255.255", True), ("10.67.0.1", True), ("", False)]
)
def test_a_gateway_outside_of_its_network_is_doubted(gateway, doubted):
    attributes = {"NETWORK_ADDRESS": "10.66.0.0", "NETWORK_MASK": "255.255.255.0", "GATEWAY": gateway}
    said = networks._doubts(Network(0, "Public", attributes=attributes))
    assert bool(said) == doubted
    if doubted:
        assert said[0].startswith(f"network Public: GATEWAY {gateway} is not in 10.66.0.0/24")
    assert networks._doubts(Network(0, "Public", attributes={"GATEWAY": gateway})) == []


# -- what machines reach on their nodes -------------------------------------------------------------------------------
WHOLE = {"network_address": "10.66.0.0/24", "gateway": "10.66.0.1"}


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({}, "none"),
        ({"node_access": []}, "none"),
        ({"node_access": ["udp/53", "tcp/22", "icmp"]}, "icmp tcp/22 udp/53"),
        ({"node_access": ["all"]}, "all"),
        ({"attributes": {"node_access": "tcp/22, icmp"}}, "icmp tcp/22"),
        ({"attributes": {"node_access": ""}}, "none"),
        ({"template": "NODE_ACCESS = tcp/22"}, "tcp/22"),
    ],
)
@pytest.mark.parametrize("carries", [{"nat": True}, {"gateway_on_bridge": True}])
def test_a_new_network_says_what_its_machines_reach_on_a_node(apply, given, stored, carries):
    (done,), (view,), warnings = apply({"name": "Public", **WHOLE, **carries, **given})
    assert (done.error, view["attributes"]["NODE_ACCESS"], warnings) == (None, stored, [])
    (done,), (view,), warnings = apply({"name": "Public", **WHOLE, **carries, **given})
    assert (done.is_changed, warnings) == (False, [])


def test_one_whose_bridge_gets_an_address_later_says_it_then(apply):
    _done, (view,), _warnings = apply({"name": "Public", **WHOLE})
    assert "NODE_ACCESS" not in view["attributes"]
    _done, (view,), warnings = apply({"name": "Public", "nat": True})
    assert (view["attributes"]["NODE_ACCESS"], warnings) == ("none", [])


def test_one_that_is_older_keeps_what_it_had_and_every_run_warns(engine, apply):
    attributes = {"NETWORK_ADDRESS": "10.66.0.0", "NETWORK_MASK": "255.255.255.0", "GATEWAY": "10.66.0.1"}
    with engine.session():
        engine.networks.allocate(Network(None, "Public", nat=True, attributes=attributes))
    for _run in range(2):
        (done,), (view,), (warning,) = apply({"name": "Public", **WHOLE, "nat": True})
        assert not done.is_changed and "NODE_ACCESS" not in view["attributes"]
        assert warning.startswith("network Public: its machines reach every service of their nodes")
        assert "node_access: []" in warning
    (done,), (view,), warnings = apply({"name": "Public", "node_access": ["all"]})
    assert (done.is_changed, view["attributes"]["NODE_ACCESS"], warnings) == (True, "all", [])


@pytest.mark.parametrize(
    ("item", "told"),
    [
        ({"nat": True, "node_access": ["ssh"]}, "network Public: NODE_ACCESS: 'ssh': not something that a node has"),
        ({"nat": True, "node_access": ["tcp/0"]}, "network Public: NODE_ACCESS: 'tcp/0': not a port"),
        ({"nat": True, "node_access": ["all", "icmp"]}, "beside all there can be nothing else"),
        ({"node_access": ["tcp/22"]}, "network Public: NODE_ACCESS = tcp/22: its bridge carries no address of a node"),
        (
            {"vn_mad": "dummy", "bridge": "br0", "node_access": ["all"]},
            "network Public: NODE_ACCESS = all: its bridge carries no address of a node",
        ),
        ({"vn_mad": "dummy", "bridge": "br0", "one_node": True}, "network Public: ONE_NODE = YES: its bridge br0"),
        ({"attributes": {"one_node": "perhaps"}}, "network Public: ONE_NODE 'perhaps'"),
        (
            {"address_ranges": [{"ip": "10.66.0.10", "size": 5, "attributes": {"node_access": "all"}}]},
            "NODE_ACCESS: it is of the whole network",
        ),
    ],
)
def test_what_can_not_be_meant_of_nodes_is_refused_by_name(apply, item, told):
    (done,), _views, _warnings = apply({"name": "Public", **WHOLE, **item})
    assert isinstance(done.error, InvalidValue) and told in str(done.error), str(done.error)


def test_what_is_said_to_nodes_is_not_said_to_machines(engine, apply):
    ranges = [{"ip": "10.66.0.10", "size": 5}]
    apply({"name": "Public", **WHOLE, "nat": True, "one_node": True, "address_ranges": ranges})
    with engine.session():
        network = engine.networks.info("Public")
        values = engine.networks.nic_values(network, 0)
    assert network.attributes["ONE_NODE"] == "YES"
    assert set(network.attributes) - set(values) == {"NODE_ACCESS", "ONE_NODE"}


# -- what comes back --------------------------------------------------------------------------------------------------
def test_what_was_done_is_told_item_by_item(apply):
    apply({"name": "Old"})
    done, views, _warnings = apply(
        {"name": "New"}, {"name": "Old", "state": "absent"}, {"name": "None", "state": "absent"}, {"name": "New"}
    )
    assert [(item.name, item.is_changed) for item in done] == [
        ("New", True),
        ("Old", True),
        ("None", False),
        ("New", False),
    ]
    assert "the list has it twice. Keep one of the two" in str(done[3].error)
    assert [(view["name"], view["state"]) for view in views] == [("New", "READY"), ("Old", "DONE"), ("None", "DONE")]


def test_only_what_would_be_created_has_no_id_in_check_mode(apply):
    apply({"name": "Old"})
    _done, (old, new), _warnings = apply({"name": "Old", "metric": 1}, {"name": "New"}, check=True)
    assert (old["id"], new["id"], new["uuid"]) == (0, None, None)
    assert old["uuid"]


def test_sizes_and_leases_are_summed_over_the_ranges():
    ranges = (AddressRange(0, "IP4", 10, used=3, ip="10.0.0.1"), AddressRange(1, "ETHER", 5, used=1))
    view = networks.network_view(Network(0, "Public", address_ranges=ranges))
    assert (view["size"], view["used"]) == (15, 4)


def test_an_item_that_can_not_be_read_is_told_by_its_name(apply):
    done, views, _warnings = apply({"name": "web", "template": "BRIDGE = ["}, {"template": "BRIDGE = ["})
    assert [item.name for item in done] == ["web", "?"] and views == []
    assert all(item.error is not None and not item.is_changed for item in done)


def test_a_range_may_go_and_another_come_behind_it(engine, apply):
    network = {"name": "net", "bridge": "nbr9", "address_ranges": [{"type": "IP4", "ip": "10.9.0.10", "size": 4}]}
    apply(network)
    gone, come = {"ar_id": 0, "state": "absent"}, {"type": "IP4", "ip": "10.9.0.50", "size": 2}
    done, *_rest = apply({**network, "address_ranges": [gone, come]})
    assert [item.error for item in done] == [None]
    assert [each.ip for each in engine.networks.info("net").address_ranges] == ["10.9.0.50"]
