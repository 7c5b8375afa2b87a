# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Consoles are believed of the hosts that have the machines."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.filter.image_check import FilterModule

image_heard = FilterModule().filters()["image_heard"]
RECORDS = [{"name": "a", "host": "node1"}, {"name": "b", "host": "node2"}, {"name": "c", "host": ""}]


def test_each_of_its_own_host():
    assert image_heard([{"heard": {"a": "x"}}, {"heard": {"b": "y"}}, {}], ["node1", "node2", "node3"], RECORDS) == {
        "consoles": {"a": "x", "b": "y"},
        "refused": {},
    }


def test_a_host_that_tells_of_anothers_is_refused_alone():
    found = image_heard([{"heard": {"a": "x"}}, {"heard": {"a": "lie", "b": "y"}}], ["node1", "node2"], RECORDS)
    assert found["consoles"] == {"a": "x"}
    assert [*found["refused"]] == ["node2"] and "host node2" in found["refused"]["node2"]
