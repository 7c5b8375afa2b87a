# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is printed of others' text obeys nobody, hides nothing, and is no line of Ansible's."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.printable import BLOCK, LINES, ONE_LINE, printable

LINE_ENDS = (BLOCK, LINES, ONE_LINE)
# Each kind of character that a terminal obeys or that nobody sees.
HIDDEN = (
    *("\x00", "\x07", "\x08", "\x0b", "\x0c", "\r", "\x1b", "\x1c", "\x7f", "\x85", "\x9b", "\xa0", "\xad"),
    *("\u034f", "\u061c", "\u115f", "\u200b", "\u200d", "\u200f", "\u2028", "\u2029", "\u202a", "\u202e", "\u2066"),
    *("\u2069", "\u2800", "\u3000", "\u3164", "\ue000", "\ufe00", "\ufeff", "\uffa0", "\ufffe", "\U000e0041"),
    *("\U000e0100", "\U0010ffff", "\ud800", "\udc80"),
)
# As Ansible begins its own lines.
FORGED = ("PLAY RECAP *****", "ok: [kvm1]", "fatal: [kvm1]: FAILED!", "[WARNING]: x", "kvm1 : ok=1", "\tok: [kvm1]")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("plain", "plain"),
        ("Zürich 日本 ✓ שלום", "Zürich 日本 ✓ שלום"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\x00b\rc", r"a\x00b\rc"),
        ("right\u202eleft", r"right\u202eleft"),
        ("half a pair \udcff", r"half a pair \udcff"),
        ("line\u2028separator", r"line\u2028separator"),
        ("tag\U000e0041", r"tag\U000e0041"),
        ("e\u0301\u0302", "e\u0301\u0302"),
        ("e" + 4 * "\u0301" + "e\u0301", "e\u0301\u0301" + 2 * r"\u0301" + "e\u0301"),
        ("\u2714\ufe0f", "\u2714\ufe0f"),
        (r"\x1b", r"\x1b"),
    ],
)
@pytest.mark.parametrize("line_end", LINE_ENDS)
def test_what_does_not_print_is_written_as_an_escape(text: str, shown: str, line_end: str) -> None:
    assert printable(text, line_end) == shown


@pytest.mark.parametrize("text", HIDDEN, ids=lambda text: f"{ord(text):x}")
@pytest.mark.parametrize("line_end", LINE_ENDS)
def test_nothing_is_hidden(text: str, line_end: str) -> None:
    shown = printable(f"a{text}b", line_end)
    assert shown.isascii() and shown.isprintable() and len(shown) > 3


@pytest.mark.parametrize(
    ("text", "block", "one_line"),
    [
        ("two\nlines\tand", "two\n    lines\tand", "two lines and"),
        ("two failed:\n- a\n- b\nc", "two failed:\n- a\n- b\n    c", "two failed: - a - b c"),
        ("last lines:\n    x\n  y", "last lines:\n    x\n      y", "last lines: x y"),
        ("a\n\nb\n", "a\n    \n    b\n    ", "a  b "),
        ("a\r\nb", "a\\r\n    b", r"a\r b"),
    ],
)
def test_a_block_is_told_from_the_lines_around_it(text: str, block: str, one_line: str) -> None:
    assert (printable(text), printable(text, ONE_LINE)) == (block, one_line)


@pytest.mark.parametrize("line", FORGED)
@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\n\n", "\x0b", "\x0c", "\x85", "\u2028", "\u2029"])
def test_no_line_of_a_text_can_be_one_of_ansible(line: str, end: str) -> None:
    shown = printable(f"it said{end}{line}")
    assert all(each.startswith("    ") for each in shown.splitlines()[1:])
    assert not f"{printable(f'it said{end}')}{line}".splitlines()[-1].startswith(line)
    assert len(printable(f"it said{end}{line}", ONE_LINE).splitlines()) == 1


def test_lines_are_kept_where_each_gets_a_mark() -> None:
    assert printable("a\n\tb\n\n\x1b", LINES) == "a\n\tb\n\n\\x1b"


@given(st.text())
@settings(max_examples=200)
def test_what_was_printable_stays_as_it_is(text: str) -> None:
    for line_end in LINE_ENDS:
        shown = printable(text, line_end)
        assert all(each.isprintable() or each in "\n\t" for each in shown)
        assert line_end != ONE_LINE or shown.isprintable()
        shown.encode()
        assert printable(shown, line_end) == shown
    # What went into a page or a difference as lines can go into an error afterwards.
    assert printable(printable(text, LINES)) == printable(text)


@given(st.text(st.characters(categories=("Mn", "Me", "Ll")), max_size=30))
@settings(max_examples=100)
def test_marks_do_not_grow_into_other_lines(text: str) -> None:
    marks = 0
    for character in printable(text):
        marks = marks + 1 if unicodedata.category(character) in ("Mn", "Me") else 0
        assert marks <= 2
