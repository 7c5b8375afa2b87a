# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a page of what was found in images: one file that needs no other, and loads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

from ..printable import LINES, printable

# Light and dark, as the reader's own system is set; on paper too.
_STYLE = """
:root { color-scheme: light dark; --line: #d0d5dd; --soft: #f5f7fa; --dim: #5b6472; --pass: #16733a; --fail: #b3261e;
  --na: #5b6472; --nt: #8a5a00; --back: #ffffff; --text: #1a1f27 }
@media (prefers-color-scheme: dark) { :root { --line: #363d48; --soft: #1d222a; --dim: #9aa4b2; --pass: #5fd38d;
  --fail: #ff8a80; --na: #9aa4b2; --nt: #f2c14e; --back: #14181e; --text: #e6e9ee } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 76rem; padding: 2rem 1rem 4rem; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif }
h1 { font-size: 1.5rem; margin: 0 0 1rem } h2 { font-size: 1.15rem; margin: 2.5rem 0 .25rem; overflow-wrap: anywhere }
p { margin: .25rem 0 .75rem; color: var(--dim); overflow-wrap: anywhere }
p.error { color: var(--fail); white-space: pre-wrap }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .5rem .75rem; border-top: 1px solid var(--line) }
thead th { background: var(--soft); border-top: 0; font-weight: 600; white-space: nowrap }
td { overflow-wrap: anywhere; min-width: 8rem } td.point { min-width: 12rem } td.result { min-width: 7rem }
code { font: .85em ui-monospace, monospace; color: var(--dim) }
.pass, .fail, .na, .nt { font-weight: 600; white-space: nowrap }
.pass { color: var(--pass) } .fail { color: var(--fail) } .na { color: var(--na) } .nt { color: var(--nt) }
"""
# Said in words and signs, as not everybody sees the colours.
_SIGNS = {
    "pass": ("pass", "\u2713"),
    "fail": ("fail", "\u2717"),
    "not applicable": ("na", "\u2013"),
    "not tested": ("nt", "?"),
}
_HEADINGS = ("Point", "Result", "What was found", "What to do")


def render(images: Sequence[Mapping[str, Any]]) -> str:
    """Return the page. images: as results show them, with points, or with error if an image could not be read."""
    page = ET.Element("html", lang="en")
    head = ET.SubElement(page, "head")
    ET.SubElement(head, "meta", charset="utf-8")
    ET.SubElement(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    # Whatever an image's names hold, the page runs nothing and asks for nothing.
    policy = {"http-equiv": "Content-Security-Policy", "content": "default-src 'none'; style-src 'unsafe-inline'"}
    ET.SubElement(head, "meta", policy)
    _text(head, "title", "Are these images fit for a cloud?")
    _text(head, "style", _STYLE)
    body = ET.SubElement(page, "body")
    _text(body, "h1", "Are these images fit for a cloud?")
    for image in images:
        _image(body, image)
    return "<!DOCTYPE html>\n" + ET.tostring(page, encoding="unicode", method="html") + "\n"


def _image(body: ET.Element, image: Mapping[str, Any]) -> None:
    _text(body, "h2", str(image.get("name") or image.get("path") or ""))
    if image.get("error"):
        _text(body, "p", str(image["error"]), {"class": "error"})
        return
    points = image.get("points") or []
    counts = [f"{sum(point['result'] == result for point in points)} {result}" for result in _SIGNS]
    _text(body, "p", f"{image.get('os') or 'An unknown system'}. {', '.join(counts)}.")
    table = ET.SubElement(ET.SubElement(body, "div", {"class": "scroll"}), "table")
    row = ET.SubElement(ET.SubElement(table, "thead"), "tr")
    for heading in _HEADINGS:
        _text(row, "th", heading, {"scope": "col"})
    rows = ET.SubElement(table, "tbody")
    for point in points:
        row = ET.SubElement(rows, "tr")
        cell = ET.SubElement(row, "td", {"class": "point"})
        cell.text = printable(str(point["title"]), LINES)
        ET.SubElement(cell, "br")
        _text(cell, "code", point["point"])
        kind, sign = _SIGNS.get(point["result"], ("nt", "?"))
        _text(ET.SubElement(row, "td", {"class": "result"}), "span", f"{sign} {point['result']}", {"class": kind})
        _text(row, "td", point["why"])
        _text(row, "td", point["remedy"])


def _text(parent: ET.Element, tag: str, text: str, attributes: Mapping[str, str] | None = None) -> ET.Element:
    element = ET.SubElement(parent, tag, dict(attributes or {}))
    element.text = text if tag == "style" else printable(str(text), LINES)
    return element
