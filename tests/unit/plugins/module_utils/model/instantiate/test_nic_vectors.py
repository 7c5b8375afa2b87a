# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NIC and NIC_DEFAULT."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.demands import demands
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.nic_vectors import doubts_of_nics
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Nic
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse


def test_nics_get_their_place_and_options(machine: Callable[..., Vm]) -> None:
    vm = machine("""MEMORY = 1 OS = [ BOOT = "nic1,disk0" ] DISK = [ IMAGE = debian ]
        NIC = [ NETWORK = a, MODEL = e1000, TARGET = tap7 ] NIC = [ NETWORK_ID = 0, DNS = "9.9.9.9", MTU = 1400 ]""")
    assert [(n.target, n.model, n.boot_order, n.options) for n in vm.nics] == [
        ("tap7", "e1000", 0, {}),
        ("one-20-1", "", 1, {"DNS": "9.9.9.9", "MTU": "1400"}),
    ]
    assert vm.disks[0].boot_order == 2


def test_nics_have_what_nic_default_says_and_they_do_not(machine: Callable[..., Vm]) -> None:
    text = "MEMORY = 1 DISK = [ IMAGE = debian ] NIC_DEFAULT = [ MODEL = e1000, IP = 10.0.0.7, FILTER = a ]"
    text += ' NIC = [ NETWORK = a, MODEL = rtl8139 ] NIC = [ NETWORK = a, IP = 10.0.0.8, FILTER = "" ]'
    assert [(nic.ip, nic.mac) for nic in demands(parse(text)).nics] == [("10.0.0.7", ""), ("10.0.0.8", "")]
    first, second = machine(text).nics
    assert (first.model, first.options["FILTER"]) == ("rtl8139", "a")
    assert (second.model, second.options["FILTER"]) == ("e1000", "")


def nic(driver: str = "", **options: str) -> Nic:
    values = {"VN_MAD": driver} if driver else {}
    return Nic(
        0, 7, "Plain", bridge="br0", mac="02:00:00:00:00:01", target="tap0", network_values=values, options=options
    )


def test_what_nothing_acts_on_is_said_of_networks_that_are_older() -> None:
    asks = {"SECURITY_GROUPS": "100", "FILTER_IP_SPOOFING": "YES"}
    doubts = doubts_of_nics([nic(**asks), nic(**asks)], ())
    assert [text.partition(":")[0] for text in doubts] == [
        f"NIC/{name} is kept, and nothing acts on it" for name in asks
    ]
    others = [nic("ovn", **asks), nic(SECURITY_GROUPS="0", FILTER_MAC_SPOOFING="NO"), nic()]
    assert doubts_of_nics(others, ()) == doubts_of_nics([nic(**asks)], (7,)) == []


def test_a_nic_that_no_rule_could_name_is_refused_where_its_node_filters() -> None:
    odd = replace(nic(), target='tap"*')
    assert doubts_of_nics([odd], ()) == []
    with pytest.raises(InvalidValue, match="NIC 0: TARGET = tap"):
        doubts_of_nics([odd], (7,))


@pytest.mark.parametrize("options", [{"SECURITY_GROUPS": "web"}, {"FILTER_IP_SPOOFING": "perhaps"}])
def test_what_ovn_could_not_act_on_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(InvalidValue, match=f"NIC 0: {next(iter(options))}"):
        doubts_of_nics([nic("ovn", **options)], ())
    with pytest.raises(InvalidValue, match=f"NIC 0: {next(iter(options))}"):
        doubts_of_nics([nic(**options)], (7,))


def test_a_trunk_is_for_networks_of_open_vswitch() -> None:
    assert doubts_of_nics([nic("ovswitch", VLAN_TAGGED_ID="10,20-29")], ()) == []
    (doubt,) = doubts_of_nics([nic(VLAN_TAGGED_ID="10")], ())
    assert doubt.startswith("NIC/VLAN_TAGGED_ID is kept, and nothing acts on it: network Plain")
    with pytest.raises(InvalidValue, match="NIC 0: VLAN_TAGGED_ID = '10;20': 10;20 is neither a VLAN id"):
        doubts_of_nics([nic("ovswitch", VLAN_TAGGED_ID="10;20")], ())
    with pytest.raises(InvalidValue, match="NIC 0: FILTER = clean-traffic: network Plain is one of Open vSwitch"):
        doubts_of_nics([nic("ovswitch", FILTER="clean-traffic")], ())
    (doubt,) = doubts_of_nics([nic("ovswitch", SECURITY_GROUPS="100")], ())
    assert doubt == (
        "NIC/SECURITY_GROUPS is kept, and nothing acts on it: network Plain is one of Open vSwitch. Use vn_mad ovn or "
        "bridge"
    )
