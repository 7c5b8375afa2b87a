# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns a block of the picture into an SVG element."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement

from .geometry import Block, Box, Dot, Line, Mark, Shape, Text
from .state_signs import BAD, GOOD, MOVING, OFF

# The sign of each state, around its middle: they differ where their colours do not.
_SIGNS = {
    GOOD: "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0z",
    OFF: "M-4,-4h8v8h-8z",
    MOVING: "M0,-5.5l5.5,9.5h-11z",
    BAD: "M-4.5,-4.5l9,9m0,-9l-9,9",
    "router": "M-8,0a8,8 0 1,0 16,0a8,8 0 1,0 -16,0zM-5,0h10m-3,-3l3,3l-3,3M0,-5v10",
    "plain": "M0,-5l5,5l-5,5l-5,-5z",
}


def svg_of_block(block: Block, width: float, number: int) -> Element:
    """Return the block as an element. number: the block's number in the picture."""
    svg = Element(
        "svg",
        {
            "viewBox": f"0 0 {_number(width)} {_number(block.height)}",
            "width": _number(width),
            "height": _number(block.height),
            "role": "img",
            "aria-labelledby": f"title-{number} summary-{number}",
        },
    )
    SubElement(svg, "title", id=f"title-{number}").text = block.title
    SubElement(svg, "desc", id=f"summary-{number}").text = block.summary
    for shape in block.shapes:
        svg.append(_drawn(shape))
    return svg


def _drawn(shape: Shape) -> Element:
    if isinstance(shape, Text):
        return _text(shape)
    if isinstance(shape, Box):
        place = {"x": shape.x, "y": shape.y, "width": shape.width, "height": shape.height, "rx": shape.round}
        return _element("rect", _class(shape.kind, shape.colour), **place)
    if isinstance(shape, Line):
        ends = {"x1": shape.x1, "y1": shape.y1, "x2": shape.x2, "y2": shape.y2, "stroke-width": shape.wide}
        return _element("line", _class("", shape.colour), **ends)
    if isinstance(shape, Dot):
        return _element("circle", _class("dot", shape.colour), cx=shape.x, cy=shape.y, r=4)
    return _mark(shape)


def _text(shape: Text) -> Element:
    classes = " ".join(filter(None, (shape.kind, "mono" if shape.mono else "", "bold" if shape.bold else "")))
    text = _element("text", classes, x=shape.x, y=shape.y, **{"font-size": shape.size})
    if shape.right:
        text.set("text-anchor", "end")
    if shape.whole:
        title = SubElement(text, "title")
        title.text, title.tail = shape.whole, shape.text
    else:
        text.text = shape.text
    return text


def _mark(shape: Mark) -> Element:
    path = _element("path", f"mark {shape.mood}")
    path.set("transform", f"translate({_number(shape.x)} {_number(shape.y)})")
    path.set("d", _SIGNS.get(shape.mood, _SIGNS["plain"]))
    return path


def _class(kind: str, colour: int) -> str:
    return " ".join(filter(None, (kind, f"c{colour}" if colour >= 0 else "")))


def _element(tag: str, classes: str, **numbers: float) -> Element:
    element = Element(tag, {"class": classes} if classes else {})
    for name, value in numbers.items():
        element.set(name, _number(value))
    return element


def _number(value: float) -> str:
    """Return a length with at most two decimals, and without decimals that are zero."""
    return f"{value:.2f}".rstrip("0").rstrip(".") or "0"
