# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A furnished catalog for tests of the embedded engine's parts, which leave it as they found it."""

from __future__ import annotations

import contextlib

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.store import Store
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.conftest import furnish


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    opened = Store(str(tmp_path_factory.mktemp("root")), create=True)
    yield opened
    opened.close()


@pytest.fixture
def undone(store):
    """A catalog of the test file in which nothing stays of what a test changes."""
    store.db.execute("BEGIN")
    yield store
    store.db.execute("ROLLBACK")
    store.drop()


@pytest.fixture(scope="session")
def furnished(tmp_path_factory):
    """The directory of a catalog in which is what furnish() makes."""
    root = tmp_path_factory.mktemp("furnished")
    with contextlib.closing(EmbeddedEngine(str(root), create=True)) as engine:
        furnish(engine)
    return root


@pytest.fixture
def inside(furnished):
    """An engine within a session, of which nothing stays when the test ends."""
    with contextlib.closing(EmbeddedEngine(str(furnished))) as engine:
        engine.store.db.execute("BEGIN IMMEDIATE")
        try:
            yield engine
        finally:
            engine.store.db.execute("ROLLBACK")


def decide(engine, *items, observed=(), hosts=None):
    """The plans for these items of a list; every item has to be as it is wanted."""
    engine.vms.observe(observed)
    outcomes, _warnings = reconcile(engine, items, hosts)
    assert [str(outcome.error) for outcome in outcomes if outcome.error] == []
    return engine.vms.plans(hosts)


def obey(engine, plans):
    """What nodes would report that do all that is planned."""
    for host, plan in plans.items():
        engine.vms.record(host, [VmOutcome(each.vm.vm_id, each.generation, each.wanted, True) for each in plan.vms])


def row(engine, vm_id=0):
    return engine.store.rows("SELECT * FROM vms WHERE id = ?", vm_id)[0]
