# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each decision writes."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmOrders
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.vms.conftest import (
    ERROR,
    record,
    say,
)


def test_each_decision_is_a_generation_and_clears_the_error(web):
    web.vms.action(0, "POWEROFF", VmOrders())
    say(web, "RUNNING", ERROR)
    before = record(web)
    assert before.error == "VM web: it broke. Mend it"
    after = web.vms.action(0, "POWEROFF", VmOrders())
    assert (after.generation, after.error) == (before.generation + 1, "")
