# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects of the model as JSON values and back: nothing is lost, and nothing is believed that is not of its type."""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import (
    from_plain,
    json_value,
    to_plain,
)

LARGEST = (1 << 63) - 1


class Color(enum.IntEnum):
    RED = 1
    BLUE = 4


@dataclass(frozen=True)
class Part:
    name: str
    size: int = 0


@dataclass(frozen=True)
class Whole:
    name: str
    size: int = 0
    share: float = 0.0
    on: bool = False
    color: Color = Color.RED
    parent: Optional[int] = None
    first: Optional[Part] = None
    parts: tuple[Part, ...] = ()
    pair: tuple[str, int] = ("", 0)
    chain: tuple[tuple[str, str], ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)
    by_name: Mapping[str, Part] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


FULL = Whole(
    name="a",
    size=LARGEST,
    share=0.5,
    on=True,
    color=Color.BLUE,
    parent=0,
    first=Part("x", 1),
    parts=(Part("y"), Part("z", 2)),
    pair=("p", 3),
    chain=(("/a", "raw"), ("/b", "qcow2")),
    words={"K": "v"},
    by_name={"q": Part("q")},
    facts={"list": [1, "two", None], "deep": {"a": 1.5}},
)

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
NUMBER = st.integers(min_value=-LARGEST, max_value=LARGEST)
PARTS = st.builds(Part, TEXT, NUMBER)
WHOLES = st.builds(
    Whole,
    name=TEXT,
    size=NUMBER,
    share=st.floats(allow_nan=False, allow_infinity=False),
    on=st.booleans(),
    color=st.sampled_from(Color),
    parent=st.none() | NUMBER,
    first=st.none() | PARTS,
    parts=st.lists(PARTS, max_size=3).map(tuple),
    pair=st.tuples(TEXT, NUMBER),
    chain=st.lists(st.tuples(TEXT, TEXT), max_size=2).map(tuple),
    words=st.dictionaries(TEXT, TEXT, max_size=2),
    by_name=st.dictionaries(TEXT, PARTS, max_size=2),
)


@given(WHOLES)
@settings(max_examples=50)
def test_an_object_comes_back_from_json_as_it_was(value: Whole) -> None:
    assert from_plain(Whole, json.loads(json.dumps(to_plain(value)))) == value


def test_every_kind_of_field_has_a_plain_form() -> None:
    plain = to_plain(FULL)
    assert plain["color"] == 4 and type(plain["color"]) is int
    assert plain["parts"] == [{"name": "y", "size": 0}, {"name": "z", "size": 2}]
    assert plain["pair"] == ["p", 3] and plain["chain"] == [["/a", "raw"], ["/b", "qcow2"]]
    assert from_plain(Whole, json.loads(json.dumps(plain))) == FULL


def test_keys_are_text_in_the_plain_form() -> None:
    assert to_plain({1: (Color.RED,), "a": {None: Part}}) == {"1": [1], "a": {"None": Part}}


def test_a_class_variable_is_no_field() -> None:
    @dataclass(frozen=True)
    class Step:
        word: ClassVar[str] = "go"
        number: int

    assert from_plain(Step, {"number": 1}) == Step(1)
    with pytest.raises(InvalidValue, match="word"):
        from_plain(Step, {"number": 1, "word": "stop"})


def test_fields_that_have_a_default_may_be_missing() -> None:
    assert from_plain(Whole, {"name": "a"}) == Whole("a")


def test_a_whole_number_stands_for_a_fraction_but_not_the_other_way_round() -> None:
    assert from_plain(Whole, {"name": "a", "share": 2}).share == 2
    with pytest.raises(InvalidValue, match="Whole: size: it is a float, not a int"):
        from_plain(Whole, {"name": "a", "size": 2.0})


REFUSED: dict[str, tuple[Any, str]] = {
    "no dict": (["a"], "Whole: it is a list, not a dict"),
    "nothing": (None, "Whole: it is a NoneType, not a dict"),
    "an unknown key": ({"name": "a", "hunter": 1}, "Whole: key 'hunter': not known to this version of the collection"),
    "a key that is no text": ({"name": "a", 5: 1}, "Whole: key '5': not known"),
    "a missing key": ({"size": 1}, "Whole: name: missing"),
    "a missing key within": ({"name": "a", "parts": [{"size": 1}]}, "Part: name: missing"),
    "a number for text": ({"name": 5}, "Whole: name: it is a int, not a str"),
    "text for a number": ({"name": "a", "size": "hunter2"}, "Whole: size: it is a str, not a int"),
    "a flag for a number": ({"name": "a", "size": True}, "Whole: size: it is a bool, not a int"),
    "a flag for a fraction": ({"name": "a", "share": True}, "Whole: share: it is a bool, not a float"),
    "a number for a flag": ({"name": "a", "on": 1}, "Whole: on: it is a int, not a bool"),
    "a NUL": ({"name": "hunter2\0"}, "Whole: name: it holds a NUL character"),
    "a large number": ({"name": "a", "size": 1 << 63}, "Whole: size: it is too large"),
    "a very negative number": ({"name": "a", "size": -(1 << 63)}, "Whole: size: it is too large"),
    "a large number for a fraction": ({"name": "a", "share": 1 << 63}, "Whole: share: it is a int, not a float"),
    "no finite number": ({"name": "a", "share": math.inf}, "Whole: share: it is not a finite number"),
    "no number": ({"name": "a", "share": math.nan}, "Whole: share: it is not a finite number"),
    "nothing for text": ({"name": None}, "Whole: name: it is a NoneType, not a str"),
    "another number of a choice": ({"name": "a", "color": 2}, "Whole: color: 2 is not a valid Color"),
    "text for a list": ({"name": "a", "parts": "hunter2"}, "Whole: parts: it is a str, not a list"),
    "too few of a pair": ({"name": "a", "pair": ["x"]}, "Whole: pair: it has 1 entries, not 2"),
    "too many of a pair": ({"name": "a", "pair": ["x", 1, 2]}, "Whole: pair: it has 3 entries, not 2"),
    "a list for a dict": ({"name": "a", "words": ["x"]}, "Whole: words: it is a list, not a dict"),
    "another value of a dict": ({"name": "a", "words": {"x": 1}}, "Whole: words: it is a int, not a str"),
    "a list for an object": ({"name": "a", "first": []}, "Part: it is a list, not a dict"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_of_another_type_is_refused_by_the_name_of_its_field(case: str) -> None:
    data, text = REFUSED[case]
    with pytest.raises(InvalidValue) as caught:
        from_plain(Whole, data)
    assert str(caught.value).startswith(text)
    assert caught.value.remedy == "Run the same version of nebula.provision on every host"
    assert "hunter2" not in str(caught.value)


def test_the_name_of_an_unknown_key_is_not_shown_at_any_length() -> None:
    with pytest.raises(InvalidValue) as caught:
        from_plain(Whole, {"name": "a", "k" * 10_000: 1})
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, 2.5, true, null, "ü"]}', {"a": [1, 2.5, True, None, "ü"]}),
        ('{"a": 1, "a": 2}', {"a": 2}),
        ('"\\ud83d\\ude00"', "\U0001f600"),
        ("9" * 4300, int("9" * 4300)),
        ('"\\\\ud800"', "\\ud800"),
    ],
)
def test_json_is_read(text: str, value: Any) -> None:
    assert json_value(text) == value


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("NaN", "NaN is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ("1e999", "too large"),
        ("9" * 4301, "too large"),
        ("-" + "9" * 4301, "too large"),
        ('"\\ud800"', "half a surrogate pair"),
        ('{"\\uDCFF": 1}', "half a surrogate pair"),
        ('"\udcff"', "half a surrogate pair"),
        ("[" * 200_000, "nested too deeply"),
        ("", "Expecting value"),
        ("[1,]", "."),
        ("{'a': 1}", "."),
    ],
)
def test_what_python_alone_reads_is_no_json(text: str, found: str) -> None:
    with pytest.raises(ValueError, match=found):
        json_value(text)


@given(st.recursive(st.none() | st.booleans() | NUMBER | TEXT, lambda inner: st.lists(inner, max_size=3), max_leaves=8))
@settings(max_examples=50)
def test_what_json_writes_is_read_as_it_was(value: Any) -> None:
    assert json_value(json.dumps(value)) == json_value(json.dumps(value, ensure_ascii=False)) == value
