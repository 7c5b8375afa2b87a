# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module on a front-end of its own: a catalog begun, looked after and removed, each with a true forecast."""

from __future__ import annotations

import contextlib

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import InUse
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.modules import nebula_frontend


@pytest.fixture
def module(main, tmp_path):
    def run(check=False, **given):
        return main(nebula_frontend, check, root=str(tmp_path / "nebula"), **given)

    return run


def test_begun_again_removed_and_again_as_predicted(module, tmp_path):
    for given, changes in [({}, True), ({}, False), ({"state": "absent"}, True), ({"state": "absent"}, False)]:
        there = (tmp_path / "nebula").exists()
        predicted = module(check=True, **given)
        assert (tmp_path / "nebula").exists() == there
        real = module(**given)
        assert (predicted.changed, real.changed) == (changes, changes), given
    assert list(tmp_path.iterdir()) == []


def test_a_sound_catalog_needs_no_repair(module):
    module()
    for check in (True, False):
        result = module(check, state="repaired")
        assert (result.changed, result.payload["repaired"]) == (False, [])


def test_what_does_not_follow_from_the_machines_is_made_right(module, tmp_path):
    module()
    with contextlib.closing(EmbeddedEngine(str(tmp_path / "nebula"))) as engine, engine.session():
        engine.hosts.allocate(Host(None, "node1", memory=1024))
        engine.store.db.execute("UPDATE hosts SET memory_used = 512")
    foreseen, real = module(True, state="repaired"), module(state="repaired")
    assert foreseen.changed and real.changed
    assert foreseen.payload["repaired"] == real.payload["repaired"]
    assert "node1" in real.payload["repaired"][0]
    assert not module(state="repaired").changed


def test_one_with_machines_stays(furnished, vm, obey, main):
    obey(furnished, vm(furnished, name="a", template="web"))
    with pytest.raises(InUse, match="a \\(id 0\\)"):
        main(nebula_frontend, root=furnished, state="absent")
    with contextlib.closing(EmbeddedEngine(furnished)) as engine:
        assert [record.name for record in engine.vms.pool()] == ["a"]
