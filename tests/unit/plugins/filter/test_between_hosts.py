# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A report names the machines that are on their way, and those that are away from their hosts."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.filter.between_hosts import SHOWN, FilterModule

between_hosts = FilterModule().filters()["between_hosts"]


def test_nothing_is_reported_where_each_is_where_it_belongs():
    assert between_hosts([]) == between_hosts(None) == []
    assert between_hosts([{"name": "a", "host": "node1", "moving": "", "away": ""}, {"name": "b"}]) == []


def test_those_on_their_way_and_those_away_are_named():
    machines = [
        {"name": "a", "host": "node1", "moving": "node2", "away": ""},
        {"name": "b", "host": "node2", "moving": "", "away": "node1"},
        {"name": "c", "host": "node3", "moving": "", "away": "node1"},
    ]
    assert between_hosts(machines) == [
        "1 on their way, until both hosts have said what became of it: a (node1 to node2)",
        "2 away from a host that was emptied for maintenance: b (node1), c (node1)",
    ]


def test_of_many_some_are_named():
    machines = [{"name": f"a{n}", "host": "node2", "away": "node1"} for n in range(SHOWN + 1)]
    (text,) = between_hosts(machines)
    assert text.startswith(f"{SHOWN + 1} away") and text.endswith("a19 (node1) and more")
