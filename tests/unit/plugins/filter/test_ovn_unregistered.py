# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that the southbound database does not have are named by the inventory."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.filter.ovn_unregistered import FilterModule

ovn_unregistered = FilterModule().filters()["ovn_unregistered"]


def test_only_who_is_held_up_is_named_with_the_inventorys_address():
    held = {"host": {"name": "forged", "held_by": "old_1", "encap_ip": "192.0.2.11"}}
    given = [
        held,
        held,
        {"host": {"held_by": "", "encap_ip": "192.0.2.12"}},
        {"host": {"held_by": "x", "encap_ip": "x y"}},
    ]
    assert ovn_unregistered(given, ["a", "b", "c", "d"], ["", "192.0.2.99", "", ""]) == {
        "a": "192.0.2.11",
        "b": "192.0.2.99",
    }


def test_addresses_are_in_the_one_form_that_ovn_has_them_in():
    held = {"host": {"held_by": "old", "encap_ip": "192.0.2.11"}}
    assert ovn_unregistered([held, held], ["a", "b"], ["2001:0DB8:0::1", ""]) == {"a": "2001:db8::1", "b": "192.0.2.11"}
