# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against a real catalog that was lost: it comes back from its backup, or that is foreseen."""

from __future__ import annotations

import contextlib

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, NotFound
from ansible_collections.nebula.provision.plugins.modules import nebula_backup, nebula_restore


@pytest.fixture
def module(main, furnished, tmp_path):
    place = str(tmp_path / "backups")

    def run(check=False, **given):
        given.setdefault("observed", [])
        return main(nebula_restore, check, root=furnished, directory=place, **given)

    main(nebula_backup, root=furnished, directory=place)
    return run


def test_a_lost_catalog_comes_back_and_check_mode_only_foresees_it(module, furnished, tmp_path, vm):
    (tmp_path / "nebula.db").unlink()
    foreseen = module(check=True)
    assert foreseen.changed
    assert not (tmp_path / "nebula.db").exists()
    real = module()
    assert real.changed
    assert foreseen.payload["restored"]["catalog"] == real.payload["restored"]["catalog"]
    assert vm(furnished, name="a", template="web").payload["vm"]["host"] == "node1"


def test_a_node_that_is_silent_stops_it(module, tmp_path):
    (tmp_path / "nebula.db").unlink()
    with pytest.raises(InvalidValue, match="node1 did not answer"):
        module(observed=[{"host": "node1", "reached": False}])
    assert not (tmp_path / "nebula.db").exists()


def test_a_node_that_answers_nonsense_is_named_and_counts_as_silent(module, tmp_path):
    (tmp_path / "nebula.db").unlink()
    seen = [{"host": "node1", "reached": True, "inventory": {"domains": 5}}]
    with pytest.raises(InvalidValue, match="host node1: what it answered when it was looked at"):
        module(observed=seen)
    assert not (tmp_path / "nebula.db").exists()
    forced = module(observed=seen, force=True)
    assert [*forced.payload["refused_answers"]] == ["node1"]
    assert [text for text in forced.warnings if "host node1: what it answered" in text]


def test_a_copy_of_a_domain_is_no_unknown_machine(module, furnished):
    """Nothing that ends the machine of its id is planned or named for it."""
    uuid = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
    with contextlib.closing(EmbeddedEngine(furnished)) as engine:
        catalog = engine.catalog()
    domain = {"catalog": catalog, "vm_id": 5, "state": "RUNNING"}
    domains = [{**domain, "name": "one-5", "uuid": uuid}, {**domain, "name": "copy", "uuid": uuid.replace("0", "1")}]
    seen = [{"host": "node1", "catalog": catalog, "inventory": {"domains": domains}}]
    told = module(observed=seen, unknown="remove", check=True).payload
    assert [(each["vm_id"], each["uuid"]) for each in told["restored"]["unknown"]] == [(5, uuid)]


def test_a_backup_that_is_not_there_is_named(module, tmp_path):
    with pytest.raises(NotFound, match="none"):
        module(observed=[{"host": "node1", "catalog": "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"}], force=True)
