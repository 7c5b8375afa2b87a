# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that modules share: lists of items, their keys and types, and JSON in place of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils import arguments
from ansible_collections.nebula.provision.plugins.module_utils.arguments import items_of, parse_json
from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue

# --- lists of items --------------------------------------------------------------------------------------------------


def test_the_modules_own_options_are_one_item_where_no_list_is_given() -> None:
    params = {"images": None, "name": "a", "size": 3, "root": "/x"}
    assert items_of(params, "images", ["name", "size", "state"], "image") == (
        [{"name": "a", "size": 3, "state": None}],
        [],
    )


@pytest.mark.parametrize("as_json", [False, True])
def test_items_of_a_list_have_every_key_with_its_default(as_json: bool) -> None:
    given_: Any = [{"name": "a"}, {"name": "b", "size": 0, "state": None}]
    params = {"images": json.dumps(given_) if as_json else given_}
    found, refused = items_of(params, "images", ["name", "size", "state"], "image", {"size": 5, "state": "present"})
    assert refused == []
    # What is set stays, also to nothing.
    assert found == [{"name": "a", "size": 5, "state": "present"}, {"name": "b", "size": 0, "state": None}]


def test_an_empty_list_is_no_item() -> None:
    assert items_of({"images": [], "name": "a"}, "images", ["name"], "image") == ([], [])


def test_an_item_that_is_none_is_refused_by_name_and_the_others_go_on() -> None:
    given_ = [{"name": "a", "szie": 1}, {"name": "b"}, "c", {"szie": 1}]
    found, refused = items_of({"images": given_}, "images", ["name", "size"], "image")
    assert found == [{"name": "b", "size": None}]
    assert [item.name for item in refused] == ["a", "images[2]", "images[3]"]
    assert not any(item.is_changed for item in refused)
    texts = [str(item.error) for item in refused]
    assert texts[0] == "image a: key 'szie': no such key. Did you mean 'size'? Known are name, size"
    assert texts[1] == "images[2]: it is a str. Give a dict with name, size"
    assert texts[2].startswith("images[3]: key 'szie'")


@pytest.mark.parametrize("given_", [{"name": "a"}, 5, '{"name": "a"}'])
def test_what_is_no_list_is_refused(given_: Any) -> None:
    with pytest.raises(InvalidValue, match=r"option images: it is a (dict|int)\. Give a list of dicts"):
        items_of({"images": given_}, "images", ["name"], "image")


# --- JSON ------------------------------------------------------------------------------------------------------------


def test_json_is_read() -> None:
    assert parse_json('[{"a": 1}]', "plans") == [{"a": 1}]


@pytest.mark.parametrize(
    ("text", "place"),
    [("[hunter2", "character 1 of 8"), ('{"a": "hunter2', "character 6 of 14"), ('["hunter2", NaN]', "NaN is no")],
)
def test_an_error_in_json_names_the_place_and_never_the_text(text: str, place: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        parse_json(text, "plans")
    assert caught.value.asked == "option plans"
    assert place in caught.value.found
    assert caught.value.remedy == "Give a list, or its JSON"
    assert "hunter2" not in str(caught.value)
    # Nor in what a traceback would show of it.
    assert caught.value.__suppress_context__


def test_json_that_is_too_long_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit itself is lowered: a text of its real length would take a quarter of a GiB."""
    monkeypatch.setattr(arguments, "LONGEST_JSON", 10)
    assert parse_json("[1, 2, 34]", "plans") == [1, 2, 34]
    with pytest.raises(InvalidValue, match=r"option plans: it has 11 characters, the limit is 10\. Give it in parts"):
        parse_json("[1, 2, 345]", "plans")


def test_every_option_that_is_shared_has_a_type() -> None:
    for shared in (arguments.ROOT, arguments.ENGINE, arguments.PROGRESS):
        assert all(option["type"] in {"path", "str"} for option in shared.values())
    assert set(arguments.ROOT) < set(arguments.ENGINE)
