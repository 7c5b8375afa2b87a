# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against a real catalog and its directories: {create, again, update, absent, again} × {real, check}."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, InUse, InvalidValue
from ansible_collections.nebula.provision.plugins.modules import nebula_datastore

FAST = {"name": "fast", "description": "on flash", "attributes": {"TIER": 1}}


@pytest.fixture
def module(options, tmp_path):
    def run(check=False, **given):
        return nebula_datastore.call.run(options(nebula_datastore, root=str(tmp_path / "nebula"), **given), check)

    return run


def test_the_list_goes_with_the_options_of_one_or_with_none(options):
    assert "mutually exclusive" in options(nebula_datastore, refused=True, name="a", datastores=[])
    assert "one of the following is required: name, datastores" in options(nebula_datastore, refused=True)
    assert "value of type must be one of" in options(nebula_datastore, refused=True, name="a", type="TAPE")


def test_created_again_updated_absent_and_absent_again_as_predicted(module, tmp_path):
    steps = [
        (FAST, True),
        (FAST, False),
        ({"name": "fast"}, False),
        ({"name": "fast", "capacity_check": False}, True),
        ({"name": "fast", "capacity_check": False}, False),
        ({"name": "fast", "state": "absent"}, True),
        ({"name": "fast", "state": "absent"}, False),
    ]
    place = tmp_path / "nebula" / "datastores" / "100"
    for given, changes in steps:
        there = place.exists()
        predicted = module(check=True, **given)
        assert place.exists() == there
        real = module(**given)
        assert (predicted.changed, real.changed) == (changes, changes), given
        assert not real.errors
        assert place.exists() == (given.get("state") != "absent")


def test_a_bare_front_end_in_check_mode(module, tmp_path):
    (made,) = module(check=True, **FAST).payload["datastores"]
    assert (made["name"], made["id"], made["path"], made["free"], made["total"]) == ("fast", None, "", None, None)
    assert list(tmp_path.iterdir()) == []


def test_what_is_returned(module, tmp_path):
    made = module(**FAST).payload
    assert made["datastore"] == made["datastores"][0]
    assert {key: made["datastore"][key] for key in ("id", "name", "type", "images", "attributes", "path")} == {
        "id": 100,
        "name": "fast",
        "type": "IMAGE",
        "images": 0,
        "attributes": {"TIER": "1"},
        "path": str(tmp_path / "nebula" / "datastores" / "100"),
    }
    assert len(made["catalog"]) == 36
    many = module(datastores=[FAST])
    assert "datastore" not in many.payload and not many.changed
    assert module(check=True, name="fast", description="x").payload["datastore"]["id"] == 100


def test_one_bad_item_does_not_keep_the_others(module):
    result = module(
        datastores=["fast", {"name": "a", "tpye": "FILE"}, {"name": "default", "type": "FILE"}, {"name": "good"}]
    )
    texts = [str(item.error) for item in result.errors]
    assert "datastores[0]: it is a str" in texts[0]
    assert "datastore a: key 'tpye'" in texts[1] and "Did you mean 'type'?" in texts[1]
    assert isinstance(result.errors[0].error, InvalidValue)
    assert isinstance(result.errors[2].error, Conflict)
    assert [view["name"] for view in result.payload["datastores"]] == ["good"]


def test_one_with_files_of_nobody_is_kept(module, tmp_path):
    module(**FAST)
    (tmp_path / "nebula" / "datastores" / "100" / "mine").touch()
    for check in (True, False):
        (item,) = module(check=check, name="fast", state="absent").errors
        assert isinstance(item.error, InUse)
        assert "mine" in str(item.error)
