# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A large answer as one short text. Others are refused: a host that was taken over may have made them."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.text import packed_json
from ansible_collections.nebula.provision.plugins.module_utils.text.packed_json import pack, unpack

# What can be written as UTF-8.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner))


@given(VALUES)
def test_what_is_packed_comes_out_again(value: Any) -> None:
    packed = pack(value)
    assert unpack(packed) == value and packed.isascii() and packed.isprintable()


def test_what_many_machines_share_is_packed_once() -> None:
    assert len(pack([{"state": "RUNNING", "host": "node1"}] * 1000)) < 1000


def test_half_of_a_character_is_packed_as_a_whole_one() -> None:
    assert unpack(pack({"name": "a\ud800"})) == {"name": "a?"}


def of(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "\u00fc",
        base64.b64encode(b"{}").decode(),
        pack({"a": list(range(100))})[:40],
        of(b"no JSON"),
        of(b"\xff"),
        of(json.dumps({"name": "\ud800"}).encode()),
        of(b"[" * 100_000 + b"]" * 100_000),
    ],
)
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        unpack(text)


def test_few_bytes_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_json, "LONGEST", 1000)
    assert unpack(of(b'"' + b"a" * 998 + b'"')) == "a" * 998
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        unpack(of(b'"' + b"a" * 999 + b'"'))
