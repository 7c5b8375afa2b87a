# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Others' text is legible, harmless and no wider than its place."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.plugin_utils.topology.text_width import (
    cut_to_width,
    natural_sort_key,
    number_of,
    printable_line,
    width,
)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("web-1", "web-1"),
        (None, ""),
        (0, "0"),
        ("שלום", "שלום"),
        ("a\u00a0b\u3000c", r"a\xa0b\u3000c"),
        ("\u202eevil\u202c", r"\u202eevil\u202c"),
        ("a\nb\x00\x1b\x85", r"a b\x00\x1b\x85"),
        ("\ud800\ufffe\u200b\u2028\ue000", r"\ud800\ufffe\u200b\u2028\ue000"),
        ("e\u0301\u0302\u0303", "e\u0301\u0302\\u0303"),
        ("<b>{{ x }}", "<b>{{ x }}"),
    ],
)
def test_what_does_not_print_is_written_as_an_escape(given, shown):
    assert printable_line(given) == shown


def test_widths_are_at_least_those_of_the_widest_usual_font():
    """Measured in DejaVu Sans and DejaVu Sans Mono, by the size of the font."""
    assert width("web-0.example.org", 10) >= 95.6 and width("MONITORED", 10) >= 62.3
    assert width("Wmw@", 10, bold=True) >= 40.7
    assert width("10.66.0.10", 12, mono=True) == pytest.approx(72.6)
    assert width("é", 10) == width("e", 10) and width("e\u0301", 10) == width("e", 10)
    assert width("一", 12, mono=True) >= 12


def test_text_is_cut_to_its_room_with_a_sign_that_it_is():
    assert cut_to_width("web-1", 100, 12) == "web-1"
    for text in ("x" * 200, "W" * 60, "数" * 30, "\ufdfd" * 9, "a b c d e f g h i j k l m"):
        for room in (0, 5, 20, 61, 130):
            shown = cut_to_width(text, room, 12)
            assert shown.endswith("…") and (width(shown, 12) <= room or shown == "…"), (text, room)
    assert cut_to_width("two words", width("two …", 12), 12) == "two…"


def test_names_are_in_the_order_in_which_people_count():
    names = ["web-10", "web-2", "Web-1", "web-02", "10", "9", "", "a²"]
    assert sorted(names, key=natural_sort_key) == ["9", "10", "", "a²", "Web-1", "web-02", "web-2", "web-10"]


def test_one_of_something_is_not_many():
    assert [number_of(n, "node") for n in (0, 1, 2)] == ["0 nodes", "1 node", "2 nodes"]
    assert number_of(2, "floating address", "es") == "2 floating addresses"


def test_a_number_may_have_more_digits_than_python_reads():
    assert natural_sort_key("9" * 6000) < natural_sort_key("1" + "0" * 6000)
