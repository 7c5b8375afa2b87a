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
from ansible_collections.nebula.provision.plugins.module_utils.errors import InUse, InvalidValue, NotFound
from ansible_collections.nebula.provision.plugins.module_utils.model.network import AddressRange, Network
from ansible_collections.nebula.provision.plugins.module_utils.model.security_group import SecurityGroup
from ansible_collections.nebula.provision.plugins.module_utils.reconcile import networks
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.network_views import network_view

# What a new network on a Linux bridge says unless it is told otherwise.
FILTERED = {"FILTERS_ON_NODE": "YES", "FILTER_MAC_SPOOFING": "YES", "FILTER_IP_SPOOFING": "YES"}

RANGE = AddressRange(3, "IP4", 10, ip="10.66.0.10", mac="02:00:0a:42:00:0a", attributes={"DNS": "9.9.9.9", "A": "b"})


@pytest.fixture
def engine(tmp_path):
    opened = EmbeddedEngine(str(tmp_path), create=True)
    yield opened
    opened.close()


@pytest.fixture
def apply(engine):
    def some(*items, check=False, **given):
        with engine.session():
            return networks.apply_all(engine, items, check, **given)

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
        **FILTERED,
    }
    _done, (changed,), _warnings = apply({"name": "Public", "dns": "", "metric": None})
    assert changed["attributes"] == {key: value for key, value in made["attributes"].items() if key != "DNS"}


def test_a_vlan_does_not_keep_networks_of_one_plain_bridge_apart(apply):
    first, second, third = (on_bridge(name, n) for n, name in enumerate("abc", 1))
    _done, _views, warnings = apply({**first, "vlan_id": 5})
    assert not any("VLAN" in text for text in warnings), "it is alone"
    done, _views, warnings = apply({**first, "vlan_id": 5}, {**second, "vlan_id": 5}, {**third, "bridge": "br1"})
    assert not any(item.error for item in done) and not any("VLAN" in text for text in warnings)
    for other in ({**second, "vlan_id": 6}, {**second, "vlan_id": ""}):
        done, _views, warnings = apply(other, {**first, "vlan_id": 5})
        assert not any(item.error for item in done)
        assert any("network a: VLAN_ID = 5" in text and "are on one wire with those of b" in text for text in warnings)


def test_slips_in_an_address_range_are_told(apply):
    entry = {"ip": "10.0.0.10", "size": 2, "attributes": {"GATWAY": "10.0.0.1", "RACK": "7", "DNS": "9.9.9.9"}}
    done, _views, warnings = apply({"name": "a", "address_ranges": [entry]})
    assert done[0].error is None
    (said,) = [text for text in warnings if "did you mean" in text]
    assert "address range" in said and said.endswith("attribute GATWAY is kept as your own; did you mean GATEWAY?")
    done, _views, warnings = apply({"name": "b", "template": 'AR = [ TYP = "IP4", IP = "10.1.0.10", SIZE = "2" ]'})
    assert any("attribute TYP is kept as your own; did you mean TYPE?" in text for text in warnings)
    done, _views, warnings = apply({"name": "c", "template": 'AR = [ IP = "10.1.0.10", SZIE = "2" ]'})
    assert "SIZE = 0: not a size" in str(done[0].error)
    assert any("SZIE is kept as your own; did you mean SIZE?" in text for text in warnings)


def test_a_description_is_an_attribute_that_changes_at_any_time_and_can_be_taken_away(apply):
    described = {"name": "Public", "description": "Web servers of the shop"}
    _done, (made,), warnings = apply(described)
    assert made["attributes"] == {"DESCRIPTION": "Web servers of the shop", **FILTERED} and warnings == []
    (again,), _views, _warnings = apply(described)
    assert not again.is_changed
    _done, (changed,), _warnings = apply({**described, "description": "Of the other shop"})
    assert changed["attributes"] == {"DESCRIPTION": "Of the other shop", **FILTERED}
    _done, (bare,), _warnings = apply({**described, "description": ""})
    assert bare["attributes"] == FILTERED
    (refused,), _views, _warnings = apply({**described, "attributes": {"DESCRIPTION": "Of another"}})
    assert "attributes say DESCRIPTION = 'Of another'. Give one of the two" in str(refused.error)


@pytest.mark.parametrize(
    ("gateway", "doubted"), [("10.66.0.1", False), ("10.66.255.255", True), ("10.67.0.1", True), ("", False)]
)
def test_a_gateway_outside_of_its_network_is_doubted(gateway, doubted):
    attributes = {"NETWORK_ADDRESS": "10.66.0.0", "NETWORK_MASK": "255.255.255.0", "GATEWAY": gateway, **FILTERED}
    said = networks._doubts(Network(0, "Public", attributes=attributes))
    assert bool(said) == doubted
    if doubted:
        assert said[0].startswith(f"network Public: GATEWAY {gateway} is not in 10.66.0.0/24")
    assert networks._doubts(Network(0, "Public", attributes={"GATEWAY": gateway, **FILTERED})) == []


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
        engine.networks.allocate(Network(None, "Public", nat=True, attributes={**attributes, **FILTERED}))
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
    assert set(network.attributes) - set(values) == {"NODE_ACCESS", "ONE_NODE", *FILTERED}


# -- filters on nodes -------------------------------------------------------------------------------------------------
def of_filters(view):
    return {key: value for key, value in view["attributes"].items() if "FILTER" in key or "GROUPS" in key}


@pytest.mark.parametrize(
    ("given", "mac", "ip"),
    [
        ({}, "YES", "YES"),
        ({"filter_ip_spoofing": False}, "YES", "NO"),
        ({"filter_mac_spoofing": False}, "NO", "NO"),
        ({"template": "FILTER_IP_SPOOFING = NO"}, "YES", "NO"),
    ],
)
@pytest.mark.parametrize("driver", ["bridge", "dummy"])
def test_a_new_network_on_a_linux_bridge_is_filtered_unless_it_says_otherwise(apply, driver, given, mac, ip):
    item = {"name": "Public", "vn_mad": driver, "bridge": "nbr0", **given}
    (done,), (view,), warnings = apply(item)
    assert (done.error, warnings) == (None, [])
    assert of_filters(view) == {"FILTERS_ON_NODE": "YES", "FILTER_MAC_SPOOFING": mac, "FILTER_IP_SPOOFING": ip}
    (done,), _views, warnings = apply(item)
    assert (done.is_changed, warnings) == (False, [])


def test_one_that_is_older_than_filters_is_not_filtered_and_every_run_says_so(engine, apply):
    with engine.session():
        engine.networks.allocate(Network(None, "Public", bridge="nbr0", attributes={"SECURITY_GROUPS": "7 or so"}))
    for _run in range(2):
        (done,), (view,), warnings = apply({"name": "Public", "security_groups": [0]})
        assert not done.is_changed or _run == 0
        assert "FILTERS_ON_NODE" not in view["attributes"]
        assert "filter_mac_spoofing and filter_ip_spoofing to true, or to false to have it stay so" in warnings[-1]
    (done,), (view,), warnings = apply({"name": "Public", "filter_mac_spoofing": False, "filter_ip_spoofing": False})
    assert (done.error, "FILTERS_ON_NODE" in view["attributes"], warnings) == (None, False, [])
    (done,), (view,), warnings = apply({"name": "Public", "filter_mac_spoofing": True})
    assert (done.error, view["attributes"]["FILTERS_ON_NODE"], warnings) == (None, "YES", [])
    assert view["attributes"]["FILTER_IP_SPOOFING"] == "NO"


def test_what_only_an_older_version_kept_is_not_begun_by_saying_it_again(engine, apply):
    with engine.session():
        kept = Network(None, "Public", bridge="nbr0", attributes={"FILTER_MAC_SPOOFING": "YES"})
        engine.networks.allocate(kept)
    (done,), (view,), warnings = apply({"name": "Public", "filter_mac_spoofing": True})
    assert not done.is_changed and "FILTERS_ON_NODE" not in view["attributes"]
    assert any("FILTER_MAC_SPOOFING is kept, but its driver bridge does not act on it" in text for text in warnings)


def test_groups_act_on_a_linux_bridge_and_have_to_be_there(engine, apply):
    with engine.session():
        web = engine.security_groups.allocate(SecurityGroup(None, "web"))
    (refused,), _views, _warnings = apply({"name": "Public", "security_groups": ["nosuch"]})
    assert "nosuch" in str(refused.error)
    (done,), (view,), warnings = apply({"name": "Public", "security_groups": ["web"]})
    assert (done.error, warnings, view["attributes"]["SECURITY_GROUPS"]) == (None, [], str(web.id))
    with engine.session(), pytest.raises(InUse, match="network Public"):
        engine.security_groups.delete("web")
    (refused,), _views, _warnings = apply({"name": "Public", "dhcp": True})
    assert "DHCP = YES: its driver is bridge, and nothing would act on it" in str(refused.error)


def test_what_passes_besides_is_named_and_nowhere_where_nothing_is_filtered(apply):
    (done,), (view,), warnings = apply({"name": "Public", "ethertypes": ["PPPoE", "0x88B5", 35093]})
    assert (done.error, warnings, view["attributes"]["ETHERTYPES"]) == (None, [], "pppoe 0x88b5 0x8915")
    (done,), (view,), _warnings = apply({"name": "Public", "ethertypes": []})
    assert "ETHERTYPES" not in view["attributes"]
    for word, found in (("ip", "no such Ethernet type"), ("0x0800", "it is IPv4"), ("0x5dc", "no Ethernet type")):
        (refused,), _views, _warnings = apply({"name": "Public", "ethertypes": [word]})
        assert found in str(refused.error), word
    (refused,), _views, _warnings = apply({"name": "Trunk", "vn_mad": "ovswitch", "ethertypes": ["pppoe"]})
    assert "nothing is filtered there" in str(refused.error)


@pytest.mark.parametrize(
    ("driver", "attributes", "item", "told"),
    [
        ("bridge", FILTERED, {}, "vlan, qinq, llc]"),
        ("bridge", FILTERED, {"ethertypes": ["pppoe"]}, ""),
        ("bridge", {"FILTERS_ON_NODE": "YES", "FILTER_MAC_SPOOFING": "NO", "FILTER_IP_SPOOFING": "NO"}, {}, ""),
        ("ovn", {}, {}, "mpls, macsec]"),
        ("ovn", {"FILTER_MAC_SPOOFING": "NO", "FILTER_IP_SPOOFING": "NO"}, {}, ""),
    ],
)
def test_one_that_was_filtered_before_says_once_what_no_longer_passes(engine, apply, driver, attributes, item, told):
    with engine.session():
        values = {**attributes, "ETHERTYPES_UNTOLD": "YES"}
        engine.networks.allocate(Network(None, "Old", vn_mad=driver, bridge="nbr0", attributes=values))
    texts = []
    for _run in range(2):
        (done,), (view,), warnings = apply({"name": "Old", **item})
        assert done.error is None and "ETHERTYPES_UNTOLD" not in view["attributes"]
        texts.append([text for text in warnings if "PPPoE" in text])
    assert texts[1] == []
    if told:
        (text,) = texts[0]
        assert text.startswith("network Old: ") and "ethertypes: [pppoe, eapol" in text and told in text
    else:
        assert texts[0] == []


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


# -- static addresses of IPv6 -----------------------------------------------------------------------------------------
def test_a_static_range_of_ipv6_is_the_same_again_and_grows(apply):
    entry = {"type": "IP6_STATIC", "ip6": "2001:DB8::10", "prefix_length": 64, "end": "2001:db8::1f"}
    wanted = {"name": "six", "gateway6": "2001:db8::1", "address_ranges": [entry]}
    done, views, _warnings = apply(wanted)
    assert done[0].error is None
    (made,) = views[0]["address_ranges"]
    assert (made["ip6"], made["prefix_length"], made["size"]) == ("2001:db8::10", 64, 16)
    # By its first address or by its number, with what is given of it.
    for same in (entry, {"type": "IP6_STATIC", "ip6": "2001:db8::10"}, {"ar_id": 0, "prefix_length": 64}):
        done, _views, _warnings = apply({**wanted, "address_ranges": [same]})
        assert done[0].error is None and not done[0].is_changed, same
    done, views, _warnings = apply({**wanted, "address_ranges": [{"ar_id": 0, "size": 20, "prefix_length": 80}]})
    (grown,) = views[0]["address_ranges"]
    assert (grown["size"], grown["prefix_length"], grown["mac"]) == (20, 80, made["mac"])
    done, views, _warnings = apply({**wanted, "address_ranges": [{**entry, "state": "absent"}]})
    assert done[0].error is None and views[0]["address_ranges"] == []


@pytest.mark.parametrize(
    ("entry", "parts"),
    [
        ({"type": "IP6_STATIC", "ip6": "2001:db8::10", "size": 5}, ["PREFIX_LENGTH = none"]),
        ({"type": "IP6_STATIC", "end": "2001:db8::10", "prefix_length": 64}, ["there is no ip6"]),
        (
            {"type": "IP6_STATIC", "ip6": "2001:db8::10", "end": "2001:db8::9", "prefix_length": 64},
            ["it is before 2001:db8::10"],
        ),
        ({"ip6": "2001:db8::10", "prefix_length": 64}, ["TYPE IP4 has no static IPv6"]),
    ],
)
def test_a_static_range_that_is_not_said_whole_is_refused(apply, entry, parts):
    done, _views, _warnings = apply({"name": "six", "address_ranges": [entry]})
    for part in parts:
        assert part in str(done[0].error)


# -- numbers of a whole list ------------------------------------------------------------------------------------------
def tagged(name, number=None, **values):
    return {
        "name": name, "vn_mad": "802.1Q", "phydev": "eth1", **({} if number is None else {"vlan_id": number}), **values,
    }  # fmt: skip


def tags(views):
    return {view["name"]: view["attributes"]["VLAN_ID"] for view in views}


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        # Crosswise, passed on in either order, and in a circle.
        ([tagged("a", 20), tagged("b", 10)], {"a": "20", "b": "10"}),
        ([tagged("a", 20), tagged("b", 40)], {"a": "20", "b": "40"}),
        ([tagged("b", 40), tagged("a", 20)], {"a": "20", "b": "40"}),
        ([tagged("a", 20), tagged("b", 30), tagged("c", 10)], {"a": "20", "b": "30", "c": "10"}),
        # One that goes, or that leaves the device, leaves its number to another.
        ([tagged("a", 20), {"name": "b", "state": "absent"}], {"a": "20"}),
        ([tagged("a", 20), tagged("b", 20, phydev="eth2")], {"a": "20", "b": "20"}),
        ([tagged("a", 20), {"name": "b", "vn_mad": "bridge", "phydev": ""}], {"a": "20"}),
        # As a document of OpenNebula's says it.
        ([tagged("a", 20), {"name": "b", "template": "VLAN_ID = 10"}], {"a": "20", "b": "10"}),
    ],
)
def test_networks_of_a_list_exchange_their_numbers_in_one_run(apply, engine, wanted, expected, check):
    apply(tagged("a", 10), tagged("b", 20), tagged("c", 30))
    done, views, _warnings = apply(*wanted, check=check)
    assert [item.error for item in done] == [None] * len(wanted)
    assert tags(view for view in views if "VLAN_ID" in view["attributes"] and view["state"] != "DONE") == expected
    if check:
        return
    done, _views, _warnings = apply(*wanted)
    assert not any(item.error or item.is_changed for item in done)


def test_who_can_not_leave_a_number_keeps_it_and_nobody_else_has_it(apply, engine):
    apply(tagged("a", 10), tagged("b", 20), tagged("c", 30))
    done, _views, _warnings = apply(tagged("a", 20), tagged("b", 30), tagged("c", 10, mtu=9000, guest_mtu=9001))
    assert "GUEST_MTU = 9001" in str(done[2].error)
    assert "VLAN_ID = 30 on eth1: network c (id 2) has it" in str(done[1].error)
    assert "VLAN_ID = 20 on eth1: network b (id 1) has it" in str(done[0].error)
    with engine.session():
        assert tags(map(network_view, engine.networks.pool())) == {"a": "10", "b": "20", "c": "30"}


def test_two_of_a_list_never_get_the_same_number(apply):
    apply(tagged("a", 10), tagged("b", 20))
    done, views, _warnings = apply(tagged("a", 30), tagged("b", 30))
    assert done[0].error is None and "network a (id 0) has it" in str(done[1].error)
    assert tags(views) == {"a": "30"}


def test_a_number_that_is_chosen_is_none_that_another_of_the_list_names(apply):
    """By its id, the first would try 2."""
    done, views, _warnings = apply(tagged("a"), tagged("b", 2), tagged("c", vlan_ids="3-5"), tagged("d", 5))
    assert [item.error for item in done] == [None] * 4
    assert tags(views) == {"a": "3", "b": "2", "c": "4", "d": "5"}


def test_networks_outside_exchange_their_tags_too(apply):
    def outside(name, tag):
        return {"name": name, "vn_mad": "ovn", "physical_network": "physnet1", "vlan_id": tag}

    apply(outside("a", 10), outside("b", 20))
    done, views, _warnings = apply(outside("a", 20), outside("b", 10))
    assert [item.error for item in done] == [None, None] and tags(views) == {"a": "20", "b": "10"}


def test_an_exchange_is_foretold_to_later_tasks_and_undone(apply, engine):
    _done, before, _warnings = apply(tagged("a", 10), tagged("b", 20))
    wanted = (tagged("a", 20), tagged("b", 10))
    with pytest.raises(KeyboardInterrupt), engine.session():
        _done, foretold, _warnings = networks.apply_all(engine, wanted, True)
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), engine.session():
        engine.declare({"networks": foretold})
        assert tags(map(network_view, engine.networks.pool())) == {"a": "20", "b": "10"}
        raise KeyboardInterrupt
    _done, made, _warnings = apply(*wanted)
    with engine.session():
        entries = [{"network": after, "earlier": earlier} for after, earlier in zip(made, before)]
        _done, views, warnings = networks.undo_all(engine, entries, check_mode=False)
    assert tags(views) == {"a": "10", "b": "20"}
    assert all("in the catalog as it was before" in text for text in warnings)


# -- what tunnels leave for packets ------------------------------------------------------------------------------------
NARROW = {"node1": 1442, "node2": 1392}


def mtu(engine, name):
    with engine.session():
        return next(n.attributes.get("GUEST_MTU", "") for n in engine.networks.pool() if n.name == name)


@pytest.mark.parametrize("check", [False, True])
def test_what_tunnels_do_not_carry_is_refused_before_it_is_kept(apply, engine, check):
    apply({"name": "there", "vn_mad": "ovn", "guest_mtu": 1300}, {"name": "plain"})
    items = [
        {"name": "new", "vn_mad": "ovn", "guest_mtu": 1500},
        {
            "name": "by its range",
            "vn_mad": "ovn",
            "address_ranges": [{"type": "ETHER", "size": 2, "attributes": {"GUEST_MTU": 1400}}],
        },
        {"name": "there", "guest_mtu": 1393},
        {"name": "plain", "vn_mad": "ovn", "mtu": 1400},
        {"name": "fits", "vn_mad": "ovn", "guest_mtu": 1392},
        {"name": "outside", "vn_mad": "ovn", "guest_mtu": 9000, "physical_network": "physnet1"},
        {"name": "of another kind", "vn_mad": "bridge", "guest_mtu": 9000},
    ]
    done, _views, _warnings = apply(*items, check=check, left=NARROW)
    errors = {item.name: str(item.error) for item in done if item.error}
    assert sorted(errors) == ["by its range", "new", "plain", "there"]
    assert all("on host node2, the least of all" in error for error in errors.values())
    with engine.session():
        names = {network.name for network in engine.networks.pool()}
    assert names == {"there", "plain", "fits", "outside", "of another kind"}
    assert mtu(engine, "there") == "1300"


def test_what_a_network_has_already_stays_with_all_else_that_is_changed(apply, engine):
    apply({"name": "old", "vn_mad": "ovn", "guest_mtu": 1500})
    done, _views, _warnings = apply({"name": "old", "guest_mtu": 1500}, left=NARROW)
    assert not done[0].is_changed and done[0].error is None
    done, _views, _warnings = apply({"name": "old", "description": "of all"}, left=NARROW)
    assert done[0].is_changed and done[0].error is None
    done, _views, _warnings = apply({"name": "old", "guest_mtu": 1450}, left=NARROW)
    assert "GUEST_MTU = 1450" in str(done[0].error)
    done, _views, _warnings = apply({"name": "old", "guest_mtu": 1392}, left=NARROW)
    assert done[0].error is None and mtu(engine, "old") == "1392"


OLD = {"name": "old", "vn_mad": "bridge", "bridge": "br9", "phydev": "eth9"}


def test_what_machines_are_told_of_an_mtu_and_can_not_be_is_refused_when_it_is_new(apply, engine, monkeypatch):
    large = {"ip": "10.0.0.10", "size": 2, "attributes": {"GUEST_MTU": 9000}}
    six = {"type": "IP4_6", "ip": "10.0.1.10", "size": 2, "global_prefix": "2001:db8::"}
    items = [
        {**OLD, "name": "above", "bridge": "br8", "mtu": 1500, "address_ranges": [large]},
        {"name": "narrow", "vn_mad": "bridge", "guest_mtu": 1000, "address_ranges": [six]},
    ]
    done, _views, _warnings = apply(*items)
    assert "GUEST_MTU = 9000: the network has MTU = 1500" in str(done[0].error)
    assert "GUEST_MTU = 1000: its address range" in str(done[1].error)
    # As an earlier version has kept them.
    with monkeypatch.context() as patched:
        patched.setattr(networks.guest_mtu, "problems", lambda _network: {})
        done, _views, _warnings = apply({**OLD, "mtu": 1500, "address_ranges": [large]})
        assert done[0].error is None
    for more in ({}, {"description": "of all"}, {"address_ranges": [{**large, "size": 5}]}):
        done, _views, warnings = apply({**OLD, **more})
        assert done[0].error is None
        assert any("GUEST_MTU = 9000: the network has MTU = 1500" in text for text in warnings)
    done, _views, _warnings = apply({**OLD, "mtu": 1400})
    assert "MTU = 1400" in str(done[0].error)


def test_a_network_that_asks_for_nothing_gets_what_tunnels_leave_and_keeps_it(apply, engine):
    apply({"name": "first", "vn_mad": "ovn"}, {"name": "plain"})
    done, _views, _warnings = apply({"name": "new", "vn_mad": "ovn"}, {"name": "plain", "vn_mad": "ovn"}, left=NARROW)
    assert [item.error for item in done] == [None, None]
    assert (mtu(engine, "first"), mtu(engine, "new"), mtu(engine, "plain")) == ("1442", "1392", "1392")
    items = [{"name": name, "vn_mad": "ovn"} for name in ("first", "new", "plain")]
    for left in (NARROW, {"node1": 8942}, None):
        done, _views, _warnings = apply(*items, left=left)
        assert not any(item.is_changed or item.error for item in done)
    done, _views, _warnings = apply({"name": "first", "guest_mtu": ""}, left=NARROW)
    assert done[0].error is None and mtu(engine, "first") == "1392"


# -- networks of one bridge -------------------------------------------------------------------------------------------
def on_bridge(name, third, **values):
    return {"name": name, "bridge": "br0", "network_address": f"10.{third}.0.0/24", **values}


def test_networks_of_one_bridge_change_together_what_they_ask_of_it(apply):
    apply(on_bridge("a", 1), on_bridge("b", 2))
    wanted = [on_bridge(name, n, phydev="eth1", mtu=9000) for n, name in enumerate("abc", 1)]
    done, views, _warnings = apply(*wanted)
    assert [item.error for item in done] == [None, None, None]
    assert {view["attributes"]["PHYDEV"] for view in views} == {"eth1"}
    done, _views, _warnings = apply(*wanted)
    assert not any(item.error or item.is_changed for item in done)
    alone, _views, _warnings = apply(on_bridge("a", 1, phydev="eth2"))
    assert "network b" in str(alone[0].error) and "PHYDEV = eth1" in str(alone[0].error)


def test_one_that_can_not_change_with_the_others_keeps_them_from_it(apply, engine):
    apply(on_bridge("a", 1), on_bridge("b", 2))
    done, _views, _warnings = apply(on_bridge("a", 1, phydev="eth1"), on_bridge("b", 2, phydev="eth1", mtu="x"))
    assert "MTU" in str(done[1].error)
    assert "network a" in str(done[0].error) and "network b (id 1)" in str(done[0].error)
    with engine.session():
        assert ["PHYDEV" in network.attributes for network in engine.networks.pool()] == [False, False]


def test_networks_exchange_their_bridges_in_one_run(apply):
    def items(first, second):
        return {"name": "a", "bridge": first}, {"name": "b", "bridge": second}

    apply(*items("br0", "br1"))
    done, views, _warnings = apply(*items("br1", "br0"))
    assert [item.error for item in done] == [None, None]
    assert [view["bridge"] for view in views] == ["br1", "br0"]
