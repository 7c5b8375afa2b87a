# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of an item is not as the list says, as data and as a sentence."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms.vm_outcome import Outcome
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.reconcile.vms.test_vm_update import VM, run


def test_what_is_left_as_it_is_says_what_to_do(engine):
    run(engine, VM)
    (record,) = engine.vms.pool()
    outcome = Outcome("web", record, record)
    outcome.left(
        record, "MEMORY", "128", "256", "differs in MEMORY: it has 128, the list says 256", "power it off", "it is off"
    )
    (found,) = outcome.differences
    assert (found.name, found.id, found.host, found.found, found.wanted) == ("web", 0, "node1", "128", "256")
    assert outcome.differs == (
        "VM web (id 0) differs in MEMORY: it has 128, the list says 256; left as it is: power it off",
    )


def test_what_is_as_listed_says_nothing():
    assert Outcome("web").differs == ()


def test_a_sentence_has_no_line_of_ansible(engine):
    run(engine, VM)
    (record,) = engine.vms.pool()
    outcome = Outcome("web", record, record)
    outcome.left(record, "MEMORY", "128", "256", "has a\x9b\nok: [kvm1]", "power it off", "it is off")
    assert outcome.differs == ("VM web (id 0) has a\\x9b\n    ok: [kvm1]; left as it is: power it off",)
