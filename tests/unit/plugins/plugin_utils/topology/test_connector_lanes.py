# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines that meet at a place are beside each other, and others share their place."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.plugin_utils.topology.connector_lanes import (
    assign_lanes,
    reach_of_lanes,
)
from ansible_collections.nebula.provision.plugins.plugin_utils.topology.site import Leg, Network, Router


def test_a_network_reaches_from_its_band_to_all_of_its_routers():
    order = [
        Network("out"),
        Router("r", legs=(Leg("out", "1"), Leg("a", "2"))),
        Network("a"),
        Network("alone"),
        Router("s", legs=(Leg("out", "3"), Leg("a", "4"))),
    ]
    assert reach_of_lanes(order) == {"out": (0, 4), "a": (1, 4)}


def test_lines_that_meet_have_different_places_and_short_ones_are_nearest():
    found = assign_lanes({"out": (0, 9), "a": (1, 2), "b": (3, 4), "c": (2, 5), "d": (4, 6)})
    assert found == {"a": 0, "b": 0, "d": 1, "c": 2, "out": 3}
    assert assign_lanes({}) == {}
