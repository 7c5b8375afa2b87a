# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry opens the engine that a module's options name, and passes on how it is to be opened."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines import registry
from ansible_collections.nebula.provision.plugins.module_utils.engines.base import Engine
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import NotFound


@pytest.mark.parametrize("named", [{}, {"engine": None}, {"engine": ""}, {"engine": "embedded"}])
def test_the_embedded_engine_is_the_one_without_a_name(named):
    assert registry.engine_of(named) is EmbeddedEngine


def test_an_engine_that_is_not_there_is_not_taken_for_another():
    with pytest.raises(KeyError, match="nosuch"):
        registry.engine_of({"engine": "nosuch"})


@pytest.mark.parametrize("name", sorted(registry.ENGINES))
def test_every_engine_has_all_that_base_asks_for(name):
    engine = registry.ENGINES[name]
    assert issubclass(engine, Engine)
    assert not engine.__abstractmethods__


@pytest.mark.parametrize("given", [{"check_mode": False, "create": True}, {"check_mode": True, "create": False}])
def test_check_mode_and_create_reach_the_engine(monkeypatch, given):
    """The registry's own table is given another engine, which only notes how it is opened."""
    heard = {}

    class Noting:
        @classmethod
        def from_params(cls, params, check_mode, create):
            heard.update(params=params, check_mode=check_mode, create=create)
            return "opened"

    monkeypatch.setitem(registry.ENGINES, "noting", Noting)
    assert registry.open_engine({"engine": "noting", "a": 1}, **given) == "opened"
    assert heard == {"params": {"engine": "noting", "a": 1}, **given}


def test_no_catalog_is_begun_without_being_asked_for(tmp_path):
    options = {"root": str(tmp_path)}
    with pytest.raises(NotFound, match="nebula_root"):
        registry.open_engine(options, False)
    assert list(tmp_path.iterdir()) == []
    registry.open_engine(options, False, create=True).close()
    registry.open_engine(options, False).close()
