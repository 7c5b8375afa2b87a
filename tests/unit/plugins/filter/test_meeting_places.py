# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each node has an address and a port by which others bring machines to it."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.filter.meeting_places import FilterModule
from ansible_collections.nebula.provision.plugins.module_utils.model.meeting import read_places
from ansible_collections.nebula.provision.plugins.module_utils.model.move import MeetingPlace

meeting_places = FilterModule().filters()["meeting_places"]


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({"nebula_move_address": "10.9.0.1", "ansible_host": "192.0.2.1"}, "10.9.0.1"),
        ({"ansible_host": "192.0.2.1"}, "192.0.2.1"),
        ({"ansible_host": ""}, "node1"),
        ({"nebula_move_address": None}, "node1"),
        ({}, "node1"),
    ],
)
def test_the_address_is_the_first_that_is_given(variables, address):
    assert meeting_places([{"inventory_hostname": "node1", **variables}])["node1"]["address"] == address


@pytest.mark.parametrize(
    ("variables", "port"), [({"nebula_move_port": "50000"}, 50000), ({"nebula_move_port": None}, 49152), ({}, 49152)]
)
def test_the_port_is_a_number(variables, port):
    assert meeting_places([{"inventory_hostname": "node1", **variables}])["node1"]["port"] == port


def test_facts_of_a_host_are_no_places():
    facts = {"nebula_move_address": "198.51.100.9", "nebula_move_port": 1}
    host = {"inventory_hostname": "node1", "ansible_facts": facts, **facts}
    assert meeting_places([host]) == {"node1": {"address": "node1", "port": 49152}}


def test_the_module_takes_what_it_makes():
    hosts = [{"inventory_hostname": name, "ansible_host": f"{name}.example.org"} for name in ("b", "a")]
    places = meeting_places(hosts)
    assert list(places) == ["b", "a"]
    assert read_places(places)["a"] == MeetingPlace("a.example.org", 49152)
