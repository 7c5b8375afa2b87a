# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Central hosts are those that were asked, those first that have the databases."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.filter.ovn_members import FilterModule

ovn_members = FilterModule().filters()["ovn_members"]


def test_members_are_sorted_by_rank_and_named_by_the_inventory():
    given = [{"member": {"name": name, "address": "192.0.2.7", "rank": rank}} for name, rank in (("x", 2), ("x", 0))]
    found = ovn_members([*given, {"unreachable": True}], ["c1", "c2", "c3"], ["192.0.2.1", None, ""])
    assert [(each["name"], each["address"]) for each in found] == [("c2", "192.0.2.7"), ("c1", "192.0.2.1")]
