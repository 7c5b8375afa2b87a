# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A NIC as it reaches a node: with its lease, and what its network says."""

from __future__ import annotations

from carried import carried, unset

from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Alias, Nic, addresses_by_nic

NIC = Nic(
    nic_id=0,
    network_id=0,
    network="lan",
    bridge="onebr0",
    mac="02:00:c0:a8:46:96",
    ip="192.168.70.150",
    ip6="2001:db8::1",
    ip6_ula="fd00::1",
    model="virtio",
    target="one-1-0",
    ar_id=0,
    boot_order=1,
    options={"FILTER": "clean-traffic"},
    network_values={"DNS": "10.0.0.2"},
)


def test_a_nic_is_carried_with_all_it_has() -> None:
    assert unset(NIC) == set()
    assert carried(NIC) == NIC


def test_a_nic_without_a_lease_is_carried_too() -> None:
    bare = Nic(0, None, "", "br0", "02:00:00:00:00:01")
    assert carried(bare) == bare
    assert (bare.ar_id, bare.boot_order, bare.ip) == (None, 0, "")


def test_two_nics_do_not_share_what_they_set() -> None:
    first, second = Nic(0, 0, "lan", "br0", ""), Nic(1, 0, "lan", "br0", "")
    assert first.options is not second.options and first.network_values is not second.network_values


ALIAS = Alias(
    nic_id=2,
    network_id=0,
    network="lan",
    bridge="onebr0",
    mac="02:00:c0:a8:46:97",
    ip="192.168.70.151",
    ip6="2001:db8::2",
    ip6_ula="fd00::2",
    parent_id=1,
    alias_id=3,
    external=True,
    late=True,
    ar_id=0,
    options={"NAME": "more"},
    network_values={"DNS": "10.0.0.2"},
)


def test_an_alias_is_carried_with_all_it_has() -> None:
    assert unset(ALIAS) == set()
    assert carried(ALIAS) == ALIAS


def test_the_addresses_of_aliases_are_found_by_their_nic() -> None:
    own = {"parent_id": 1, "ip": "10.0.0.5", "ip6": "", "ip6_ula": "fd00::5", "external": False}
    external, other = {**own, "external": True}, {"parent_id": 0, "ip": "10.0.0.6"}
    assert addresses_by_nic([own, external, {**own, "ip": "10.0.0.7"}, other]) == {
        1: ("10.0.0.5", "fd00::5", "10.0.0.7", "fd00::5"),
        0: ("10.0.0.6",),
    }
