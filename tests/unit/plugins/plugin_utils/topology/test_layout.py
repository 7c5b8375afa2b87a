# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing is over anything else, nothing is outside, and everything is there."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import pytest
import topologies

from ansible_collections.nebula.provision.plugins.plugin_utils.topology.geometry import (
    Block,
    Box,
    Dot,
    Line,
    Mark,
    Picture,
    Shape,
    Text,
)
from ansible_collections.nebula.provision.plugins.plugin_utils.topology.layout import picture
from ansible_collections.nebula.provision.plugins.plugin_utils.topology.site import Machine, Network, Router, read_site

Area = tuple[float, float, float, float]
# What others are within. Stripes and heads are parts of these.
CONTAINERS = ("card", "band", "router", "void")


def area(shape: Shape) -> Area:
    if isinstance(shape, Text):
        return shape.area
    if isinstance(shape, Box):
        return shape.x, shape.y, shape.x + shape.width, shape.y + shape.height
    if isinstance(shape, Line):
        return min(shape.x1, shape.x2), min(shape.y1, shape.y2), max(shape.x1, shape.x2), max(shape.y1, shape.y2)
    reach = 4 if isinstance(shape, Dot) else 6
    return shape.x - reach, shape.y - reach, shape.x + reach, shape.y + reach


def meet(one: Area, other: Area, by: float = 0.1) -> bool:
    return one[0] < other[2] - by and other[0] < one[2] - by and one[1] < other[3] - by and other[1] < one[3] - by


def within(one: Area, other: Area) -> bool:
    return (
        one[0] >= other[0] - 0.1 and one[1] >= other[1] - 0.1 and one[2] <= other[2] + 0.1 and one[3] <= other[3] + 0.1
    )


def faults(block: Block, width: float) -> Iterator[str]:
    texts = [shape for shape in block.shapes if isinstance(shape, Text)]
    boxes = [shape for shape in block.shapes if isinstance(shape, Box) and shape.kind.split()[0] in CONTAINERS]
    whole = (0.0, 0.0, width, block.height)
    for shape in block.shapes:
        if not within(area(shape), whole):
            yield f"outside of its block: {shape}"
    for one, other in combinations(texts, 2):
        if meet(one.area, other.area):
            yield f"{one.text!r} is over {other.text!r}"
    for one, other in combinations(boxes, 2):
        if meet(area(one), area(other)):
            yield f"{one} is over {other}"
    for text in texts:
        for box in boxes:
            if meet(text.area, area(box)) and not within(text.area, area(box)):
                yield f"{text.text!r} is on the border of {box}"
        for line in block.shapes:
            if isinstance(line, (Line, Mark)) and meet(text.area, area(line), 0):
                yield f"{line} is on {text.text!r}"
    for line in block.shapes:
        for box in boxes:
            if isinstance(line, Line) and meet(area(line), area(box), 0.6):
                yield f"{line} goes through {box}"


@pytest.fixture(scope="module", params=topologies.SITES)
def drawn(request: pytest.FixtureRequest) -> tuple[dict, Picture]:
    given = topologies.SITES[request.param]()
    return given, picture(read_site(given))


def test_nothing_is_over_anything_else_or_outside(drawn) -> None:
    _given, whole = drawn
    assert [fault for block in whole.blocks for fault in faults(block, whole.width)] == []


def test_an_overlap_is_seen() -> None:
    block = Block("", "", 50)
    block.write(10, 20, 100, "one")
    block.write(20, 22, 100, "two")
    block.write(-5, 40, 100, "three")
    block.shapes += [Box(0, 12, 15, 20, "card"), Line(12, 0, 12, 50, 0)]
    assert len(list(faults(block, 100))) >= 5


def test_every_block_begins_where_the_one_before_ends(drawn) -> None:
    _given, whole = drawn
    top = 0.0
    for block in whole.blocks:
        assert block.top == top and block.height > 0 and block.title
        top += block.height
    assert whole.height == top


def test_every_machine_is_in_each_of_its_networks(drawn) -> None:
    given, whole = drawn
    site = read_site(given)
    written = [text.whole or text.text for block in whole.blocks for text in block.shapes if isinstance(text, Text)]
    for machine in site.machines:
        shown = sum(text in (machine.name, f"{machine.name}: {machine.error}") for text in written)
        assert shown >= max(1, len(machine.networks)), machine.name
    for network in site.networks:
        assert network.name in written
    for router in site.routers:
        assert f"Router {router.name}" in written


def connections(whole: Picture, colour: int) -> int:
    """How many lines of that colour end at the bands' and routers' edge."""
    left = next(s.x for b in whole.blocks for s in b.shapes if isinstance(s, Box) and s.kind.startswith("band"))
    lines = [s for block in whole.blocks for s in block.shapes if isinstance(s, Line) and s.colour == colour]
    return sum(line.x2 == left and line.y1 == line.y2 for line in lines)


def test_a_network_is_connected_with_its_routers() -> None:
    whole = picture(read_site(topologies.thirty()))
    # The band and both routers; a band and its router; and what nobody routes.
    assert [connections(whole, colour) for colour in range(5)] == [3, 2, 2, 2, 0]


def test_outer_networks_come_first_and_what_is_of_no_tenant_last() -> None:
    titles = [block.title for block in picture(read_site(topologies.thirty())).blocks]
    order = [title for title in titles if not title.startswith("Machines")]
    assert order == [
        *("Legend", "External networks", "External network internet"),
        *("Tenant blue", "Router blue-router", "Network blue"),
        *("Tenant red", "Router red-router", "Network red-back", "Network red-front"),
        *("Of no tenant", "Network storage", "In no network", "Nodes", "Nodes", "Nodes"),
        *("Security groups", "Security groups"),
    ]
    summaries = {block.title: block.summary for block in picture(read_site(topologies.thirty())).blocks}
    assert summaries["Tenant red"] == "2 networks, 1 router, 18 machines"
    assert summaries["Network storage"] == "172.16.9.0/24, 802.1Q id 120 onebr4 on eth2, 7 machines"


def test_no_block_of_machines_is_higher_than_a_page() -> None:
    """A4 across has room for so much of a picture that is 1200 wide."""
    given = topologies.three_hundred()
    blocks = picture(read_site(given)).blocks
    assert max(block.height for block in blocks if block.title.startswith("Machines")) < 1200 * 190 / 277


def test_many_lines_make_the_picture_wider_and_leave_the_bands_their_width() -> None:
    whole = picture(read_site(topologies.crowded()))
    band = next(s for b in whole.blocks for s in b.shapes if isinstance(s, Box) and s.kind.startswith("band"))
    assert band.width >= 900 and whole.width >= 1200


def test_two_networks_of_one_name_are_both_there() -> None:
    twice = [topologies.network(n, "same", f"10.{n}.0") for n in range(2)]
    leg = {"network": "same", "network_id": 1, "ip": "10.1.0.1"}
    machine = topologies.machine(0, "a", "RUNNING", "", topologies.nic("same", "10.1.0.9", network_id=1))
    site = read_site({"networks": twice, "vms": [machine], "routers": [{"name": "r", "interfaces": [leg]}] * 2})
    whole = picture(site)
    titles = [block.title for block in whole.blocks]
    assert titles == [
        *("Legend", "Router r", "Network same (id 1)", "Machines of network same (id 1)", "Router r"),
        "Network same (id 0)",
    ]
    assert [fault for block in whole.blocks for fault in faults(block, whole.width)] == []
    # Of which one somebody means who says no more, nobody knows.
    vague = read_site(
        {"networks": twice, "vms": [topologies.machine(0, "a", "", "", topologies.nic("same", "10.1.0.9"))]}
    )
    assert [network.name for network in vague.networks] == ["same", "same (id 0)", "same (id 1)"]


def test_a_machine_of_a_tenant_counts_there() -> None:
    machine = {**topologies.machine(0, "a", "RUNNING", ""), "tenant": "red"}
    site = read_site({"vms": [machine], "networks": [{"name": "n", "tenant": "red"}]})
    assert isinstance(site.machines[0], Machine) and isinstance(site.networks[0], Network) and not site.routers
    assert [b.summary for b in picture(site).blocks if b.title == "Tenant red"] == ["1 network, 0 routers, 1 machine"]
    assert Router("r").legs == ()
