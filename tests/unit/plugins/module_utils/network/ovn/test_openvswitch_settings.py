# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Open vSwitch is to have, compared with what it has."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn import openvswitch_settings
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn.certificates import Files
from ansible_collections.nebula.provision.plugins.module_utils.network.ovn.openvswitch_settings import (
    Bridge,
    BridgeMapping,
    Switch,
    Wanted,
    read_mappings,
)

CATALOG = "5c1de0d1-0000-4000-8000-000000000001"
EXTERNAL = BridgeMapping(bridge="br-ex", network="physnet1", interface="eth1", address="198.51.100.1/24")


def wanted(**values):
    given = {
        "name": "node1",
        "catalog": CATALOG,
        "remote": "ssl:192.0.2.1:6642",
        "encap_type": "geneve",
        "encap_ip": "192.0.2.11",
        "datapath": "system",
        **values,
    }
    return Wanted(**given)


def as_wanted(whole):
    """Open vSwitch that has all of it."""
    view = openvswitch_settings.desired_view(whole)
    bridges = {
        name: Bridge(
            name,
            {"nebula-catalog": CATALOG, **({openvswitch_settings.ADDRESS: each["address"]} if each["address"] else {})},
            each["datapath"],
            each["fail_mode"],
            dict.fromkeys(each["interfaces"], CATALOG),
        )
        for name, each in view["bridges"].items()
    }
    return Switch(True, view["external_ids"], bridges, view["tls"], CATALOG if view["tls"] else "")


def test_nothing_is_said_where_all_is_as_it_should_be():
    whole = wanted(mappings=(EXTERNAL,), tls=Files("/k", "/c", "/a"))
    assert openvswitch_settings.view(as_wanted(whole), CATALOG) == openvswitch_settings.desired_view(whole)
    assert openvswitch_settings.commands(as_wanted(whole), whole, {}, (), made="") == []


def test_a_bare_host_gets_all_in_one_transaction():
    whole = wanted(mappings=(EXTERNAL,), tls=Files("/k", "/c", "/a"))
    found = Switch(True, {"system-id": "11111111-0000-4000-8000-000000000001"})
    words = " ".join(openvswitch_settings.commands(found, whole, {EXTERNAL.address: "eth1"}, ("eth1",), made="unit"))
    assert 'external_ids:system-id="node1"' in words
    assert 'external_ids:nebula-former-system-id="11111111-0000-4000-8000-000000000001"' in words
    assert 'external_ids:ovn-bridge-mappings="physnet1:br-ex"' in words
    assert 'external_ids:nebula-made="unit"' in words
    assert "--may-exist add-br br-int -- set Bridge br-int datapath_type=system fail_mode=secure" in words
    assert "external_ids:nebula-address-from=eth1" in words
    assert "external_ids:nebula-was-down=eth1" in words
    assert "--may-exist add-port br-ex eth1" in words
    assert "--id=@ssl create SSL" in words


def test_what_is_no_longer_wanted_goes_and_the_rest_stays():
    before = as_wanted(wanted(mappings=(EXTERNAL,), datapath="netdev", tls=Files("/k", "/c", "/a")))
    words = " ".join(openvswitch_settings.commands(before, wanted(datapath="netdev"), {}, (), made=""))
    assert "--if-exists del-br br-ex" in words
    assert "remove Open_vSwitch . external_ids ovn-bridge-mappings" in words
    assert "clear Open_vSwitch . ssl" in words
    assert "set Open_vSwitch" not in words
    assert "br-int" not in words
    without = BridgeMapping(bridge="br-ex", network="physnet1")
    words = " ".join(
        openvswitch_settings.commands(before, wanted(datapath="netdev", mappings=(without,)), {}, (), made="")
    )
    assert "del-port br-ex eth1" in words
    assert "remove Bridge br-ex external_ids nebula-address" in words


def test_removal_names_what_is_ours_alone():
    found = as_wanted(wanted(mappings=(EXTERNAL,)))
    found.external_ids = {**found.external_ids, openvswitch_settings.FORMER_ID: "theirs", "hostname": "h"}
    found.bridges = {**found.bridges, "theirs": Bridge("theirs")}
    words = " ".join(openvswitch_settings.removal_commands(found, CATALOG))
    assert "del-br br-ex" in words
    assert "del-br br-int" in words
    assert "theirs" not in words.replace('system-id="theirs"', "")
    assert "hostname" not in words
    assert openvswitch_settings.removal_commands(Switch(True, {"ovn-remote": "x"}, {"b": Bridge("b")}), CATALOG) == []


@pytest.mark.parametrize(
    ("items", "told"),
    [
        ([{"bridge": ""}], "is no name of an interface"),
        ([{"bridge": "br-int"}], "OVN's own bridge"),
        ([{"bridge": "b" * 16}], "is no name of an interface"),
        ([{"bridge": "br-ex", "network": "a,b"}], "is no name for one"),
        ([{"bridge": "br-ex", "interface": "br-ex"}], "can't be in it"),
        ([{"bridge": "br-ex", "address": "198.51.100.1"}], "has no prefix length"),
        ([{"bridge": "br-ex", "address": "198.51.100.1/33"}], "198.51.100.1/33"),
        ([{"bridge": "br-ex", "network": "a"}, {"bridge": "br-2", "network": "a"}], "network a: it is there twice"),
        ([{"bridge": "br-ex"}, {"bridge": "br-ex"}], "bridge br-ex: it is there twice"),
    ],
)
def test_a_mapping_that_can_not_be_meant_is_named(items, told):
    with pytest.raises(InvalidValue, match="bridge_mappings") as caught:
        read_mappings(items)
    assert told in str(caught.value)


def test_mappings_are_read():
    items = [{"bridge": "br-ex", "network": "physnet1", "interface": "eth1", "address": None}]
    assert read_mappings(items) == (BridgeMapping("br-ex", "physnet1", "eth1", ""),)
