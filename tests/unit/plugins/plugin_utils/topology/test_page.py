# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page is one well-formed document that loads and runs nothing, and is the same for the same facts."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
import topologies
from hostile import corpus

from ansible_collections.nebula.provision.plugins.plugin_utils.topology.page import page
from ansible_collections.nebula.provision.plugins.plugin_utils.topology.text_width import printable_line

TAGS = {
    *("html", "head", "meta", "title", "style", "body", "header", "main", "footer", "section", "div", "h1", "h2", "p"),
    *("table", "thead", "tbody", "tr", "th", "td", "bdi"),
    *("svg", "desc", "rect", "line", "circle", "path", "text"),
}
EMPTY = {"meta"}


class Reader(HTMLParser):
    """What a browser would make of a page: its elements, and the text in them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.names: set[str] = set()
        self.texts: list[str] = []
        self.metas: list[dict[str, str | None]] = []
        self.style = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.names |= {name for name, _value in attrs}
        if tag in EMPTY:
            self.metas.append(dict(attrs))
        else:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            self.style += data
        else:
            self.texts.append(data)


@pytest.mark.parametrize("site", topologies.SITES)
def test_a_page_has_elements_of_ours_only(site):
    text = page(topologies.SITES[site]())
    # It can be written to a file, whatever others wrote.
    assert text.encode()
    found = Reader(text)
    assert found.open == [] and found.tags <= TAGS
    assert not any(name.startswith("on") or name in ("href", "src", "style", "xlink:href") for name in found.names)


def test_what_others_wrote_is_shown_and_no_more():
    for text in (*topologies.ODD, *corpus("word").values()):
        found = Reader(
            page({"vms": [topologies.machine(0, text, text, text, topologies.nic(text or "n", "10.0.0.1"))]})
        )
        assert found.open == [] and found.tags <= TAGS
        assert printable_line(text) in found.texts or not text, text


def test_the_browser_is_forbidden_to_load_anything():
    found = Reader(page(topologies.three()))
    (policy,) = (meta["content"] for meta in found.metas if meta.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(found.style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert not re.search(r"https?:|//[a-z]", page(topologies.thirty()))


@pytest.mark.parametrize("site", topologies.SITES)
def test_the_same_facts_give_the_same_page(site):
    given = topologies.SITES[site]()
    turned = {key: value[::-1] if isinstance(value, list) else value for key, value in given.items()}
    assert page(given) == page(given)
    # Two networks of one name are in the order of their ids, and those of the odd site have none that differ.
    if site != "odd":
        assert page(turned) == page(given)


def test_a_page_in_which_nothing_but_the_time_has_changed_stays_as_it_is():
    given = topologies.three()
    earlier = page(given)
    later = {**given, "as_of": given["as_of"] + 3600}
    assert page(later, earlier) == earlier and page(later) != earlier
    assert "As found on 2025-11-25 18:08:35 UTC" in earlier
    changed = {**later, "vms": given["vms"][:2]}
    assert page(changed, earlier) == page(changed)
    # Of what no node has said this time it is not claimed that it was found.
    unasked = {**given, "as_of": 0}
    assert "No node was asked" in page(unasked, earlier) and page(given, page(unasked)) == earlier


@pytest.mark.parametrize(
    "earlier", ["", "x", "<html>", '<meta name="nebula-as-of" content="999999999999">', "\x00" * 9]
)
def test_whatever_was_there_before_the_page_is_written(earlier):
    assert page(topologies.three(), earlier) == page(topologies.three())


def test_a_time_that_is_none_is_left_out():
    assert "No node was asked" in page({**topologies.three(), "as_of": 10**17})


def test_the_head_counts():
    texts = Reader(page(topologies.thirty())).texts
    assert "2 tenants, 5 virtual networks, 2 routers, 4 nodes, 30 machines" in texts
    assert any(text.startswith("Machines: 23 RUNNING, 2 PENDING") for text in texts)
