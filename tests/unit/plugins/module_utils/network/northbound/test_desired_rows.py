# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows while they are put together, and names that follow from others."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.module_utils.network.northbound.desired_rows import (
    Rows,
    safe_name,
    stable_mac,
)


def test_rows_carry_their_marks_and_grow_members():
    rows = Rows("c")
    switch = rows.add(rows.identity("Logical_Switch", network="n"), {"name": "blue", "ports": set()})
    port = rows.add(rows.identity("Logical_Switch_Port", port="p"), {"name": "p"}, "eth0 of web")
    rows.put(port, switch, "ports")
    assert rows.wanted[switch] == {
        "name": "blue",
        "ports": {port},
        "external_ids": {"nebula-catalog": "c", "nebula-network": "n"},
    }
    marks = {"nebula-catalog": "c", "nebula-port": "p", "nebula-name": "eth0 of web"}
    assert rows.wanted[port]["external_ids"] == marks


def test_a_mac_address_follows_from_names_and_is_nobody_elses():
    first = stable_mac("router", "r", "n")
    assert first == stable_mac("router", "r", "n")
    assert first.startswith("0a:")
    assert len({first, stable_mac("router", "r", "m"), stable_mac("router", "rn", ""), stable_mac("dhcp", "n")}) == 4


def test_names_that_expressions_can_hold():
    assert safe_name("group", "1a-2b") == "nebula_group_1a_2b"
