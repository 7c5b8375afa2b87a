# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the whole page: one file that needs no other, and for which a browser may load nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from .fact_tables import tables
from .layout import picture
from .site import Site, read_site
from .style import STYLE
from .svg import svg_of_block
from .text_width import number_of

_DOCTYPE = "<!DOCTYPE html>\n"
_AS_OF = "nebula-as-of"
_FOUND_BEFORE = re.compile(r'<meta name="nebula-as-of" content="([0-9]{1,12})"')
# Where a page that was written before says when that was.
_BEGINNING = 4000


def page(info: Any, earlier: str = "") -> str:
    """Return the page for a result of nebula_info. earlier: the page as it was written before, which is returned
    unchanged if only the time has changed since."""
    site = read_site(info)
    before = _FOUND_BEFORE.search(earlier[:_BEGINNING])
    # What was found at some time, and what is known from the last run only, say different things.
    if before and (int(before[1]) > 0) == (site.as_of > 0) and _rendered(site, int(before[1])) == earlier:
        return earlier
    return _rendered(site, site.as_of)


def _rendered(site: Site, as_of: int) -> str:
    html = Element("html", lang="en")
    html.append(_head(site, as_of))
    body = SubElement(html, "body")
    body.extend([_introduction(site, as_of), _main(site), Element("footer")])
    return _DOCTYPE + tostring(html, encoding="unicode", method="html") + "\n"


def _head(site: Site, as_of: int) -> Element:
    head = Element("head")
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    SubElement(head, "meta", charset="utf-8")
    SubElement(head, "meta", {"http-equiv": "Content-Security-Policy", "content": policy})
    for name, content in (
        ("referrer", "no-referrer"),
        ("viewport", "width=device-width, initial-scale=1"),
        ("color-scheme", "light dark"),
        (_AS_OF, str(as_of)),
    ):
        SubElement(head, "meta", name=name, content=content)
    SubElement(head, "title").text = f"Topology of catalog {site.catalog}".strip()
    SubElement(head, "style").text = STYLE
    return head


def _introduction(site: Site, as_of: int) -> Element:
    header = Element("header")
    SubElement(header, "h1").text = "Topology"
    SubElement(header, "p", {"class": "counts"}).text = ", ".join(_counts(site))
    if site.machines:
        states = ", ".join(f"{number} {state}" for state, number in site.states(site.machines))
        SubElement(header, "p", {"class": "counts"}).text = f"Machines: {states}"
    SubElement(header, "p").text = f"Catalog {site.catalog or '(none yet)'}. {_when(as_of)}"
    return header


def _when(as_of: int) -> str:
    try:
        time = datetime.fromtimestamp(as_of, timezone.utc) if as_of else None
    except (OverflowError, ValueError, OSError):
        time = None
    if time is None:
        return "No node was asked: states are those of the last run."
    return f"As found on {time:%Y-%m-%d %H:%M:%S} UTC; a later run that finds nothing else leaves this page as it is."


def _counts(site: Site) -> Iterator[str]:
    for number, what in (
        (len(site.tenants), "tenant"),
        (len(site.networks), "virtual network"),
        (len(site.routers), "router"),
        (len(site.nodes), "node"),
        (len(site.machines), "machine"),
    ):
        if number or what not in ("tenant", "router"):
            yield number_of(number, what)


def _main(site: Site) -> Element:
    main = Element("main")
    drawn = picture(site)
    section = SubElement(main, "section", {"class": "picture", "aria-label": "Picture"})
    for number, block in enumerate(drawn.blocks):
        svg = svg_of_block(block, drawn.width, number)
        if block.leads:
            svg.set("class", "leads")
        section.append(svg)
    main.extend(tables(site))
    return main
