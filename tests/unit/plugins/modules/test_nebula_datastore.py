# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against a real catalog and its directories; test_object_lists.py has what it shares with others."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, InUse
from ansible_collections.nebula.provision.plugins.modules import nebula_datastore

FAST = {"name": "fast", "description": "on flash", "attributes": {"TIER": 1}}


@pytest.fixture
def module(options, tmp_path):
    def run(check=False, **given):
        return nebula_datastore.call.run(options(nebula_datastore, root=str(tmp_path / "nebula"), **given), check)

    return run


def test_its_directory_comes_and_goes_with_it(module, tmp_path):
    place = tmp_path / "nebula" / "datastores" / "100"
    for given in (FAST, {"name": "fast", "state": "absent"}):
        there = place.exists()
        module(check=True, **given)
        assert place.exists() == there
        module(**given)
        assert place.exists() != there


def test_what_is_returned(module, tmp_path):
    made = module(**FAST).payload
    assert {key: made["datastore"][key] for key in ("id", "name", "type", "images", "attributes", "path")} == {
        "id": 100,
        "name": "fast",
        "type": "IMAGE",
        "images": 0,
        "attributes": {"TIER": "1"},
        "path": str(tmp_path / "nebula" / "datastores" / "100"),
    }
    assert module(check=True, name="fast", description="x").payload["datastore"]["id"] == 100


def test_the_catalogs_own_keeps_its_type(module):
    result = module(datastores=[{"name": "default", "type": "FILE"}, {"name": "good"}])
    assert isinstance(result.errors[0].error, Conflict)
    assert [view["name"] for view in result.payload["datastores"]] == ["good"]


def test_one_with_files_of_nobody_is_kept(module, tmp_path):
    module(**FAST)
    (tmp_path / "nebula" / "datastores" / "100" / "mine").touch()
    for check in (True, False):
        (item,) = module(check=check, name="fast", state="absent").errors
        assert isinstance(item.error, InUse)
        assert "mine" in str(item.error)
