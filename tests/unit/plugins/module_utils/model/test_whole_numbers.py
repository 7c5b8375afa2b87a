# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole numbers and modes of files as users write them, and what is none."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.model.whole_numbers import (
    MOST_DIGITS,
    file_mode,
    id_in,
    whole,
)

LARGEST = 10**MOST_DIGITS - 1


@pytest.mark.parametrize(
    ("value", "number"),
    [(0, 0), (7, 7), ("0", 0), ("007", 7), (" 12\n", 12), (LARGEST, LARGEST), (str(LARGEST), LARGEST)],
)
def test_plain_digits_are_a_number(value: Any, number: int) -> None:
    assert whole(value) == number


@pytest.mark.parametrize(
    "value",
    [
        *("", " ", "-1", "+1", "1.0", "1e3", "0x10", "1_000", "1 2", "٣", "²", "one"),
        *(-1, LARGEST + 1, str(LARGEST + 1), "0" * (MOST_DIGITS + 1), "9" * 100_000),
        *(True, False, None, 1.0, [1], b"1"),
    ],
)
def test_everything_else_is_none(value: Any) -> None:
    assert whole(value) is None


@pytest.mark.parametrize(("name", "number"), [("0", 0), ("7", 7), (str(LARGEST), LARGEST)])
def test_a_name_that_is_an_id(name: str, number: int) -> None:
    assert id_in(name) == number


@pytest.mark.parametrize(
    "name", ["", "00", "07", "-1", "1 ", "1\n", "٣", "²", "1²", "one", "1.tmp", str(LARGEST + 1), "9" * 100_000]
)
def test_a_name_that_is_none(name: str) -> None:
    assert id_in(name) is None


@given(st.integers(min_value=0, max_value=LARGEST))
@settings(max_examples=50)
def test_a_number_and_its_digits_are_the_same(number: int) -> None:
    assert whole(number) == whole(str(number)) == number


@given(st.text(max_size=30))
@settings(max_examples=50)
def test_any_text_is_a_number_or_none(text: str) -> None:
    number = whole(text)
    assert number is None or 0 <= number <= LARGEST


@pytest.mark.parametrize(
    ("value", "mode"),
    [("0644", 0o644), ("644", 0o644), ("0o644", 0o644), (" 0755\n", 0o755), (0o644, 0o644), ("04755", 0o4755), (0, 0)],
)
def test_a_mode_is_written_in_octal_digits_or_read_by_yaml(value: Any, mode: int) -> None:
    assert file_mode(value) == mode


@pytest.mark.parametrize(
    "value",
    [
        *("", "rw", "u=rw", "0648", "-1", "+644", "6_44", "0x1a4", "1.5", "10000", "0" * 100_000, "٦٤٤"),
        *(-1, 0o10000, True, False, None, 1.0, 1.5, float("inf"), float("nan"), [420], b"0644"),
    ],
)
def test_everything_else_is_no_mode(value: Any) -> None:
    assert file_mode(value) is None


@given(st.integers(0, 0o7777), st.integers(0, 0o7777))
@settings(max_examples=50)
def test_a_mode_is_at_most_the_largest(mode: int, largest: int) -> None:
    assert file_mode(mode, largest) == file_mode(f"{mode:04o}", largest) == (mode if mode <= largest else None)
