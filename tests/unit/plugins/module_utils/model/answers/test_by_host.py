# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who has told something is who was asked, and what one host tells in no form concerns no other."""

from __future__ import annotations

from collections import UserDict
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.answers import answer_bounds, by_host


def words(_host: str, given: list[Any], what: str) -> tuple[str, ...]:
    if not all(isinstance(each, str) for each in given):
        raise answer_bounds.refusal(what, "it has what is no text")
    return tuple(given)


def read(*answers: Any) -> Any:
    return by_host.read(answers, "said", words)


def test_what_each_host_told():
    found, refused = read({"host": "a", "said": ["x"]}, {"host": "b", "said": []})
    assert (found, refused) == ({"a": ("x",), "b": ()}, {})


@pytest.mark.parametrize("said", [5, "x", {"a": 1}, None, [5], ["x" * 70_000], True])
def test_what_one_tells_in_no_form_is_its_own_error(said):
    found, refused = read({"host": "a", "said": ["x"]}, {"host": "b", "said": said})
    assert found == {"a": ("x",)} and [*refused] == ["b"]
    assert refused["b"].startswith("host b: what it answered as said: ")


def test_two_answers_of_one_host_are_none():
    found, refused = read(*[{"host": "a", "said": ["x"]}] * 3)
    assert found == {} and "two answers" in refused["a"]


def test_what_no_host_is_named_for_is_read_as_it_is():
    assert by_host.read([{"a": 1}], "said", lambda host, given, what: (host, *given)) == ({"": ("", {"a": 1})}, {})
    with pytest.raises(InvalidValue, match="option said"):
        by_host.read([{"a": 1}], "said", words)


@pytest.mark.parametrize("host", [None, "", 5, ["a"]])
def test_a_host_without_a_name_is_the_callers_mistake(host):
    with pytest.raises(InvalidValue, match="option said: its host is"):
        read({"host": host, "said": []})


def test_the_option_has_the_name_that_was_asked():
    assert by_host.as_option("a", "said", UserDict(said=["x"])) == {"host": "a", "said": ["x"]}
    assert by_host.as_option("a", "said", {"said": {"host": "b"}, "host": "b"}) == {"host": "a", "said": {"host": "b"}}


@pytest.mark.parametrize("answer", [None, "x", 5, {}, {"msg": "no route to host"}])
def test_a_host_that_did_not_answer_has_told_nothing(answer):
    assert by_host.as_option("a", "said", answer) == {"host": "a", "said": []}


def test_what_can_not_be_handed_on_is_refused_by_its_hosts_name():
    nested: Any = []
    for _each in range(3000):
        nested = [nested]
    option = by_host.as_option("a", "said", {"said": nested})
    assert [*option] == ["host", "refused"] and "host a" in option["refused"]
    assert read(option) == ({}, {"a": option["refused"]})
