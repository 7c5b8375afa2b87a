# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every error says what was asked, what was found and what to do, in characters that a terminal and a log can have."""

from __future__ import annotations

import inspect
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils import errors
from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    LONGEST,
    CommandFailed,
    InvalidValue,
    NebulaError,
    NotFound,
    TemplateSyntaxError,
    harmless,
)
from ansible_collections.nebula.provision.plugins.module_utils.printable import ONE_LINE

CLASSES = [
    each for _name, each in inspect.getmembers(errors, inspect.isclass) if each.__module__ == NebulaError.__module__
]


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (("image a", "there is none", "Register it"), "image a: there is none. Register it"),
        (("image a", "there is none"), "image a: there is none"),
        (("qemu-img", "No space left.", "Make room"), "qemu-img: No space left. Make room"),
        (("qemu-img", "No space left."), "qemu-img: No space left."),
        (("DISK 0", "IMGAE: did you mean IMAGE?", "Name it"), "DISK 0: IMGAE: did you mean IMAGE? Name it"),
    ],
)
def test_the_three_parts_become_one_sentence_after_another(parts: tuple[str, ...], text: str) -> None:
    assert str(NebulaError(*parts)) == text


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_each_class_travels_by_its_own_name(kind: type[NebulaError]) -> None:
    error = kind("a", "b", "c")
    assert error.as_dict() == {"kind": kind.__name__, "asked": "a", "found": "b", "remedy": "c"}
    assert isinstance(error, NebulaError)
    assert inspect.getdoc(kind)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_each_class_survives_a_process_boundary(kind: type[NebulaError]) -> None:
    again = pickle.loads(pickle.dumps(kind("a", "b", "c")))
    assert type(again) is kind
    assert again.as_dict() == kind("a", "b", "c").as_dict()


def test_a_syntax_error_of_a_template_is_a_value_that_cannot_be_meant_and_has_a_place() -> None:
    error = TemplateSyntaxError("template a", "no equals sign", "Write one", line=3, column=7)
    assert isinstance(error, InvalidValue)
    assert (error.line, error.column) == (3, 7)
    assert (TemplateSyntaxError("a", "b").line, TemplateSyntaxError("a", "b").column) == (0, 0)


def test_what_does_not_print_is_an_escape_and_further_lines_are_a_block() -> None:
    assert harmless("a\x00\u202eb\nPLAY RECAP") == "a\\x00\\u202eb\n    PLAY RECAP"
    assert harmless("a\nb", line_end=ONE_LINE) == "a b"
    error = CommandFailed("command x", "it ended with code 1: a\nok: [kvm1]")
    assert str(error) == "command x: it ended with code 1: a\n    ok: [kvm1]"


def test_a_long_text_keeps_its_begin_and_its_end() -> None:
    shown = harmless("b" * 100 + "e" * 100, longest=40)
    assert shown == "b" * 30 + " … " + "e" * 10
    assert harmless("x" * 40, longest=40) == "x" * 40
    assert len(str(NotFound("a" * LONGEST * 3, "b" * LONGEST * 3, "c" * LONGEST * 3))) < 3 * LONGEST + 100


@given(st.text())
@settings(max_examples=50)
def test_whatever_is_in_an_error_can_be_written_and_is_harmless_twice(text: str) -> None:
    shown = harmless(text)
    assert all(character.isprintable() or character in "\n\t" for character in shown)
    shown.encode()
    assert harmless(shown) == shown


def test_the_form_that_travels_is_as_harmless_as_the_text() -> None:
    error = CommandFailed("mkfs\x07", "it said \x1b[2J", "Look\r")
    assert error.as_dict() == {
        "kind": "CommandFailed",
        "asked": r"mkfs\x07",
        "found": r"it said \x1b[2J",
        "remedy": r"Look\r",
    }
    assert "\x1b" not in str(error)
    # The object itself keeps what it was given: code asks for it.
    assert error.found == "it said \x1b[2J"
