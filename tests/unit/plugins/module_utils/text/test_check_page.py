# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A page that says what was found, runs nothing and asks for nothing, whatever an image's own words are."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from ansible_collections.nebula.provision.plugins.module_utils.text.check_page import render

HOSTILE = "<script>alert(1)</script>\x1b[31m"
POINT = {"point": "tmp", "title": "/tmp is empty", "result": "fail", "why": HOSTILE, "remedy": "a & b"}
NAME = '"><img src=x onerror=alert(1)>'
IMAGES = [
    {"name": "web", "path": None, "os": NAME, "points": [POINT, {**POINT, "result": "not tested"}]},
    {"name": None, "path": "/srv/x.qcow2", "error": "it is damaged: \ud800 <b>"},
]


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text.append(data)


def read(page):
    reader = Reader()
    reader.feed(page)
    return reader


def test_what_is_told_is_there_as_text():
    reader = read(render(IMAGES))
    text = " ".join(reader.text)
    assert "<script>alert(1)</script>\\x1b[31m" in text and "a & b" in text and "it is damaged: \\ud800 <b>" in text
    assert "\u2717 fail" in text and "? not tested" in text and "0 pass, 1 fail, 0 not applicable, 1 not tested" in text
    assert text.index("web") < text.index("/srv/x.qcow2")


def test_nothing_runs_and_nothing_is_asked_for():
    reader = read(render(IMAGES))
    known = "html head meta title style body h1 h2 p div table thead tbody tr th td span code br"
    assert set(reader.tags) <= set(known.split())
    names = {name for name, _value in reader.attributes}
    assert not [name for name in names if name in ("src", "href", "action") or name.startswith("on")]
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in reader.attributes
    assert not re.search(r"https?:|url\(|@import", render(IMAGES))


def test_the_same_again():
    """No date in it: a page that says the same is the same."""
    assert render(IMAGES) == render(IMAGES)
    render(IMAGES).encode("utf-8")
