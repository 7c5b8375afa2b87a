# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A block becomes one SVG element that says what it shows."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.plugin_utils.topology.geometry import Block, Box, Dot, Line, Mark
from ansible_collections.nebula.provision.plugins.plugin_utils.topology.svg import svg_of_block


def test_every_shape_has_its_element():
    block = Block("Network <a>", "10.0.0.0/24", 60)
    block.shapes += [
        Box(1, 2, 30.125, 4, "band", 3),
        Line(0, 1, 2, 1, 2),
        Dot(5, 5, 1),
        Mark(7, 8, "bad"),
        Mark(1, 1, "?"),
    ]
    block.write(10, 20, 100, "web", mono=True, bold=True, kind="name", right=True)
    block.write(10, 40, 25, "a long name")
    svg = svg_of_block(block, 1200, 7)
    assert svg.attrib == {
        "viewBox": "0 0 1200 60",
        "width": "1200",
        "height": "60",
        "role": "img",
        "aria-labelledby": "title-7 summary-7",
    }
    assert [child.tag for child in svg] == [
        *("title", "desc", "rect", "line", "circle", "path", "path", "text", "text"),
    ]
    assert (svg[0].text, svg[0].get("id"), svg[1].text) == ("Network <a>", "title-7", "10.0.0.0/24")
    assert svg[2].attrib == {"class": "band c3", "x": "1", "y": "2", "width": "30.12", "height": "4", "rx": "5"}
    assert svg[3].get("stroke-width") == "2" and svg[4].get("class") == "dot c1"
    assert svg[5].get("class") == "mark bad" and svg[5].get("transform") == "translate(7 8)"
    assert svg[7].attrib == {
        "class": "name mono bold",
        "x": "10",
        "y": "20",
        "font-size": "12",
        "text-anchor": "end",
    }
    assert svg[8][0].tag == "title" and svg[8][0].text == "a long name" and svg[8][0].tail == "a…"
