# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the catalog's tables hold of a secret, and how long."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.plan import VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile

SECRET = "s3cr3t-value"


def bring(engine, count):
    with engine.session():
        reconcile(engine, [{"name": "a-%i", "count": count, "template": "web", "context": {"PASSWORD": SECRET}}], None)
        for host, plan in engine.vms.plans().items():
            engine.vms.record(host, [VmOutcome(p.vm.vm_id, p.generation, p.wanted, True) for p in plan.vms])


def rows(engine):
    return "".join(str(tuple(row)) for row in engine.store.rows("SELECT * FROM vms"))


@pytest.mark.parametrize("engine_options", ["embedded"], indirect=True)
def test_secrets_end_with_the_machine(engine):
    bring(engine, 1)
    assert SECRET in rows(engine)
    bring(engine, 0)
    assert "a-0" in rows(engine)
    assert SECRET not in rows(engine)
