# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides which vertical line on the left a network gets, if a router above or below its band is connected with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .site import Network, Router


def reach_of_lanes(order: Sequence[Network | Router]) -> dict[str, tuple[int, int]]:
    """Return the first and the last place of the order that the line of each network with a router has to reach."""
    bands = {item.name: place for place, item in enumerate(order) if isinstance(item, Network)}
    found: dict[str, tuple[int, int]] = {}
    for place, item in enumerate(order):
        for leg in item.legs if isinstance(item, Router) else ():
            first, last = found.get(leg.network, (bands[leg.network], bands[leg.network]))
            found[leg.network] = min(first, place), max(last, place)
    return found


def assign_lanes(reach: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """Return the number of each network's line, counted from the bands to the left. Lines that meet at a place have
    different numbers; short lines are nearest to the bands."""
    lanes: list[list[tuple[int, int]]] = []
    found: dict[str, int] = {}
    for name, (first, last) in sorted(reach.items(), key=lambda pair: (pair[1][1] - pair[1][0], pair[1], pair[0])):
        free = (n for n, taken in enumerate(lanes) if all(last < start or end < first for start, end in taken))
        number = next(free, len(lanes))
        if number == len(lanes):
            lanes.append([])
        lanes[number].append((first, last))
        found[name] = number
    return found
