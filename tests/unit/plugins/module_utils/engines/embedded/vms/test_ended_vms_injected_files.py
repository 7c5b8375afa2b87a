# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the catalog keeps of files for disks."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.module_utils.model.plan import VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_list_decision import reconcile


def run(engine, item):
    with engine.session():
        reconcile(engine, [item])
        for host, plan in engine.vms.plans().items():
            engine.vms.record(host, [VmOutcome(each.vm.vm_id, each.generation, each.wanted, True) for each in plan.vms])


def test_what_is_written_ends_with_the_machine(engine):
    run(engine, {"name": "web", "template": "web", "inject": [{"path": "/etc/motd", "content": "geheim"}]})
    run(engine, {"name": "web", "state": "absent"})
    assert [record.state for record in engine.vms.pool(done=True)] == ["DONE"]
    text = "\n".join(str(tuple(row)) for row in engine.store.db.execute("SELECT request, body FROM vms"))
    assert "geheim" not in text
