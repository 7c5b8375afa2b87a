# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is under way with an image: how it is kept as text, and what may begin, go on and follow."""

from __future__ import annotations

import itertools
import json
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import CatalogError
from ansible_collections.nebula.provision.plugins.module_utils.model.image_operations import (
    DIG,
    GROW,
    REWRITE,
    RULES,
    Clone,
    Operation,
    Prepare,
    Return,
    Rewrite,
    Save,
    read,
    returning_host,
    returns_from,
    why_refused,
    write,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState

READY, DISABLED, LOCKED = ImageState.READY, ImageState.DISABLED, ImageState.LOCKED
KINDS = typing.get_args(Operation)
ONE_OF_EACH: tuple[Operation, ...] = (
    Clone(7),
    Save("vm:u/disk.0"),
    Return("node1"),
    Prepare(READY),
    Rewrite(GROW, {"size": 9}, DISABLED),
)
NAMES = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=20)
OPERATIONS = st.one_of(
    st.builds(Clone, st.integers(0, 1 << 40)),
    st.builds(Save, NAMES),
    st.builds(Return, NAMES, st.booleans()),
    st.builds(Prepare, st.sampled_from([READY, DISABLED])),
    st.builds(
        Rewrite,
        st.sampled_from([REWRITE, GROW, DIG]),
        st.dictionaries(NAMES, st.one_of(st.integers(0, 99), NAMES, st.dictionaries(NAMES, st.integers(0, 9)))),
        st.sampled_from([READY, DISABLED]),
        st.booleans(),
    ),
)


@given(OPERATIONS)
def test_what_is_written_is_read(operation: Operation) -> None:
    assert read(write(operation)) == operation


@given(OPERATIONS)
def test_the_text_is_the_only_one_of_its_operation(operation: Operation) -> None:
    text = write(operation)
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert json.loads(text)["do"] == operation.do


@pytest.mark.parametrize(
    ("operation", "text"),
    [
        (None, ""),
        (Clone(7), '{"do":"clone","image_id":7}'),
        (Save("vm:u/disk.0"), '{"do":"save","origin":"vm:u/disk.0"}'),
        (Return("node1"), '{"do":"return","host":"node1","ran":true}'),
        (Return('a "b"\\', ran=False), '{"do":"return","host":"a \\"b\\"\\\\","ran":false}'),
        (Prepare(DISABLED), '{"do":"prepare","was":"DISABLED"}'),
        (Rewrite(GROW, {"size": 9}, READY), '{"do":"grow","to":{"size":9},"was":"READY","whole":false}'),
    ],
)
def test_how_an_operation_is_kept(operation: Operation | None, text: str) -> None:
    assert write(operation) == text
    assert read(text) == operation


def test_a_rewrite_that_an_earlier_version_noted_is_read() -> None:
    """It was JSON before, and the catalog's migration leaves its text as it is."""
    text = '{"do": "rewrite", "to": {"format": "qcow2"}, "was": "READY"}'
    assert read(text) == Rewrite(REWRITE, {"format": "qcow2"}, READY)
    assert read(text[:-1] + ', "whole": true}') == Rewrite(REWRITE, {"format": "qcow2"}, READY, whole=True)


@pytest.mark.parametrize(
    "text",
    ["clone 7", "return from node1", "{", "[]", "7", "{}", '{"do":"dance"}', '{"do":"clone"}', '{"do":"clone","x":1}',
     '{"do":"prepare","was":"GONE"}', '{"do":["clone"]}', '{"do":"clone","image_id":"7"}'],
)  # fmt: skip
def test_a_text_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(CatalogError, match="the catalog's operation of an image"):
        read(text)


@pytest.mark.parametrize("host", ["node1", "return from x", "a b", "10.0.0.1"])
def test_the_host_that_a_file_comes_from_is_told_by_its_operation(host: str) -> None:
    assert returning_host(Return(host)) == returning_host(Return(host, ran=False)) == host
    assert returns_from(host) == (write(Return(host, ran=True)), write(Return(host, ran=False)))


@pytest.mark.parametrize("operation", [None, *(each for each in ONE_OF_EACH if not isinstance(each, Return))])
def test_another_operation_is_no_way_back(operation: Operation | None) -> None:
    assert returning_host(operation) == ""


# -- what may begin, go on and follow ----------------------------------------------------------------------------------


def test_there_is_a_rule_for_each_kind() -> None:
    assert set(RULES) == set(KINDS) == {type(each) for each in ONE_OF_EACH}


def test_every_operation_may_end_in_every_state() -> None:
    for operation, state in itertools.product(ONE_OF_EACH, ImageState):
        assert why_refused(LOCKED, operation, state, None) == ""


@pytest.mark.parametrize("operation", ONE_OF_EACH, ids=lambda each: each.do)
def test_an_operation_begins_in_the_states_of_its_rule_alone(operation: Operation) -> None:
    may = {state for state in ImageState if not why_refused(state, None, LOCKED, operation)}
    assert may == RULES[type(operation)].begins


@pytest.mark.parametrize("operation", ONE_OF_EACH, ids=lambda each: each.do)
def test_an_image_has_the_states_of_the_rule_meanwhile(operation: Operation) -> None:
    may = {state for state in ImageState if not why_refused(LOCKED, operation, state, operation)}
    assert may == RULES[type(operation)].holds


@pytest.mark.parametrize(("was", "to"), list(itertools.product(ONE_OF_EACH, repeat=2)))
def test_only_what_was_saved_goes_on_as_another_operation(was: Operation, to: Operation) -> None:
    follows = type(was) is type(to) or (isinstance(was, Save) and isinstance(to, Return))
    assert (why_refused(LOCKED, was, LOCKED, to) == "") == follows


def test_a_refusal_names_what_is_under_way() -> None:
    assert why_refused(LOCKED, Clone(7), READY, Clone(7)) == "clone is under way, which state READY does not go with"
    assert why_refused(ImageState.USED, None, LOCKED, Prepare(READY)).startswith(
        "it is in state USED, in which prepare"
    )
    assert why_refused(LOCKED, Clone(7), LOCKED, Save("x")) == "clone is under way, which save does not follow"
