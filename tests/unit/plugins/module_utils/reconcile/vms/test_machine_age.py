# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an older machine has nothing of is in each view of it, until it has that."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.machine_age import doubts_of_age
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_results import vm_view
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.reconcile.vms.conftest import run

WEB = {"name": "web", "template": "web", "attributes": {"MEMORY_MAX": "256", "VIDEO": [{"TYPE": "vga"}]}}


def test_what_an_older_machine_lacks_is_named(engine):
    run(engine, WEB)
    (record,) = engine.vms.pool()
    assert doubts_of_age(record) == [] and vm_view(record, "/nebula")["lacks"] == []
    engine.store.db.execute("UPDATE vms SET body = json_remove(body, '$.growth', '$.hardware_version')")
    (record,) = engine.vms.pool()
    lacks = vm_view(record, "/nebula")["lacks"]
    assert lacks == doubts_of_age(record)
    assert lacks[0].startswith("VM web: MEMORY_MAX does not act on it: it was made before that did")
    assert "VIDEO" in lacks[1] and len(lacks) == 2
