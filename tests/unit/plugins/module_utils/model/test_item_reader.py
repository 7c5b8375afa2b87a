# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Items of lists are read by their tables: keys, types, choices, ranges, and one wording for each mistake."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.item_reader import (
    check_choice,
    check_keys,
    duplicate_error,
    read_item,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.specification import Key

SPEC: dict[str, Key] = {
    "name": Key(),
    "size": Key(type="int", default=7),
    "hard": Key(type="bool", default=False),
    "state": Key(default="present", choices=("present", "absent")),
    "hosts": Key(type="list", elements="str"),
    "attributes": Key(type="dict"),
    "mode": Key(type="raw"),
    "disks": Key(type="list", elements="dict", options={"id": Key(type="int"), "file": Key(near=("path",))}),
    "share": Key(type="float"),
    "memory": Key(type="int", unit="MB", least=1, most=64),
    "count": Key(type="int", least=1),
    "bus": Key(choices=("virtio", "ide"), case="lower", empty=True),
    "passphrase": Key(secret=True),
}
DEFAULTS = {name: key.default for name, key in SPEC.items()}


def test_a_key_that_is_like_none_gets_no_guess() -> None:
    with pytest.raises(InvalidValue) as caught:
        check_keys({"colour": 1}, ["size", "name"], "image a")
    assert str(caught.value) == "image a: key 'colour': no such key. Known are name, size"
    check_keys({}, ["size"], "image a")


# --- types -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "meaning"),
    [
        ("name", "a", "a"),
        ("name", 5, "5"),
        ("name", 1.5, "1.5"),
        ("name", "", ""),
        ("size", 3, 3),
        ("size", " 3 ", 3),
        ("size", "-12", -12),
        ("size", 0, 0),
        ("hard", "yes", True),
        ("hard", False, False),
        ("state", "absent", "absent"),
        ("hosts", "a,b", ["a", "b"]),
        ("hosts", "", []),
        ("hosts", ("a", 1), ["a", "1"]),
        ("attributes", {"A": 1}, {"A": 1}),
        ("mode", 0o644, 0o644),
        ("disks", [{"id": "4"}], [{"id": 4, "file": None}]),
        ("share", "0.5", 0.5),
        ("share", 2, 2.0),
        ("memory", 64, 64),
        ("bus", "VirtIO", "virtio"),
        ("bus", "", ""),
        ("passphrase", "hunter2", "hunter2"),
    ],
)
def test_values_get_the_type_of_their_option(key: str, value: Any, meaning: Any) -> None:
    assert read_item({key: value}, SPEC, "image a") == {**DEFAULTS, key: meaning}


def test_what_is_not_set_has_its_default() -> None:
    assert read_item({}, SPEC, "image a") == DEFAULTS
    assert read_item(dict.fromkeys(SPEC), SPEC, "image a") == DEFAULTS


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("name", True, "image a: name: it is a bool. Give text, in quotes"),
        ("name", ["x"], "image a: name: it is a list. Give text, in quotes"),
        ("size", "3k", "image a: size '3k': it is not a whole number. Write digits only"),
        ("size", "--3", "image a: size '--3': it is not a whole number. Write digits only"),
        ("size", 1.5, "image a: size 1.5: it is not a whole number. Write digits only"),
        ("size", True, "image a: size True: it is not a whole number. Write digits only"),
        ("hard", "perhaps", "image a: hard 'perhaps': it is neither true nor false. Give true or false"),
        (
            "state",
            "abesnt",
            "image a: state 'abesnt': there is no such state. Did you mean 'absent'? Known are present, absent",
        ),
        ("state", "x", "image a: state 'x': there is no such state. Known are present, absent"),
        ("hosts", 5, "image a: hosts: it is a int. Give a list"),
        ("hosts", ["a", None], "image a: hosts: it is a NoneType. Give text, in quotes"),
        ("attributes", "x", "image a: attributes: it is a str. Give a dict"),
        ("disks", [{"id": 1}, {"fiel": "x"}], "image a: disks[1]: key 'fiel': no such key. Did you mean 'file'?"),
        ("disks", [{"id": "x"}], "image a: disks[0]: id 'x': it is not a whole number"),
        ("disks", ["x"], "image a: disks[0]: it is a str. Give a dict with id, file"),
        ("disks", [{"path": "x"}], "image a: disks[0]: key 'path': no such key. Did you mean 'file'?"),
        ("share", "half", "image a: share 'half': it is not a number. Write digits, with a point where there is one"),
        ("share", True, "image a: share True: it is not a number"),
        ("share", "nan", "image a: share 'nan': it is not a number"),
        ("memory", 65, "image a: memory 65: it is not a whole number of MB, 1 to 64. Write digits only"),
        ("memory", "much", "image a: memory 'much': it is not a whole number of MB, 1 to 64. Write digits only"),
        ("count", 0, "image a: count 0: it is not a whole number, 1 or more. Write digits only"),
        ("bus", "scsi", "image a: bus 'scsi': there is no such bus. Known are virtio, ide"),
        ("state", "", "image a: state '': there is no such state. Known are present, absent"),
        # It may be one.
        ("passphrase", 12345, "image a: passphrase: it is empty, or not text. Give text, in quotes"),
        ("passphrase", "", "image a: passphrase: it is empty, or not text. Give text, in quotes"),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_place(key: str, value: Any, text: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        read_item({key: value}, SPEC, "image a")
    assert str(caught.value).startswith(text)


@given(st.integers(min_value=-(10**17), max_value=10**17))
@settings(max_examples=50)
def test_a_number_and_its_digits_mean_the_same(number: int) -> None:
    spec = {"size": Key(type="int")}
    assert read_item({"size": str(number)}, spec, "x") == read_item({"size": number}, spec, "x") == {"size": number}


def test_a_word_of_others_for_a_key_names_the_key() -> None:
    with pytest.raises(InvalidValue) as caught:
        check_keys({"PATH": 1}, {"file": Key(near=("path",))}, "image a")
    assert str(caught.value) == "image a: key 'PATH': no such key. Did you mean 'file'? Known are file"


def test_a_choice_is_taken_or_refused_by_name() -> None:
    assert check_choice("a", ("a", "b"), "VM x", "state") == "a"
    with pytest.raises(InvalidValue, match=r"VM x: state 3: there is no such state\. Known are a, b"):
        check_choice(3, ("a", "b"), "VM x", "state")


def test_an_item_twice_is_named() -> None:
    assert str(duplicate_error("VM x")) == "VM x: the list has it twice. Keep one of the two"


@pytest.mark.parametrize(
    ("value", "number"), [(3277.0, 3277), ("3277.0", 3277), ("12.", 12), (" -4.00 ", -4), (0.0, 0)]
)
def test_a_whole_number_may_have_the_point_that_a_filter_gives_it(value: Any, number: int) -> None:
    assert read_item({"size": value}, SPEC, "image a")["size"] == number


@pytest.mark.parametrize("value", [0.5, "1.50", float("nan"), float("inf"), 1e300, "1_000", "+5", "1e3", ".0"])
def test_what_is_between_two_numbers_is_none_of_them(value: Any) -> None:
    with pytest.raises(InvalidValue, match="it is not a whole number"):
        read_item({"size": value}, SPEC, "image a")


def test_a_number_that_is_too_long_is_refused_for_that() -> None:
    with pytest.raises(InvalidValue) as caught:
        read_item({"size": 10**18}, SPEC, "image a")
    assert str(caught.value) == "image a: size: it has 19 digits. Write a number of at most 18 digits"


def test_a_word_is_shown_as_it_was_written() -> None:
    with pytest.raises(InvalidValue) as caught:
        read_item({"bus": "VIRTOI"}, SPEC, "image a")
    assert "bus 'VIRTOI': there is no such bus. Did you mean 'virtio'?" in str(caught.value)


def test_what_is_to_go_is_read_by_the_keys_that_removal_needs() -> None:
    removal = {"absent": ("name", "state")}
    wrong = {"name": "a", "size": "big", "disks": 5, "attributes": "x"}
    read = read_item({**wrong, "state": "absent"}, SPEC, "image a", removal=removal)
    assert read == {**DEFAULTS, "name": "a", "state": "absent"}
    for state in ("present", "abesnt", ["absent"], None):
        with pytest.raises(InvalidValue):
            read_item({**wrong, "state": state}, SPEC, "image a", removal=removal)


@pytest.mark.parametrize("text", ["a\0b", "\udc80", "\ud800x"])
def test_text_that_nothing_takes_is_refused_wherever_it_is_read(text: str) -> None:
    for as_given in ((), ("name",)):
        with pytest.raises(InvalidValue, match="image a: name: it holds a NUL character, or half of a surrogate pair"):
            read_item({"name": text}, SPEC, "image a", as_given)
