# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each host's width is that of its own answer, and of no other's."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.filter.inner_mtus import FilterModule

inner_mtus = FilterModule().filters()["inner_mtus"]


def test_by_the_names_of_the_hosts():
    results = [{"host": {"inner_mtu": 1392}}, {"host": {"inner_mtu": "x"}}, {}, {"host": {"name": "a"}}]
    assert inner_mtus(results, ["a", "b", "c", "d"]) == {"a": 1392, "b": 0, "c": 0, "d": 0}
