# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What polls change."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmRequest
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed, ObservedVm
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.conftest import decide
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.vms.conftest import (
    ERROR,
    PLAIN,
    WEB,
    record,
    say,
)


def test_the_reason_of_a_failure_outlives_a_poll_that_knows_less(inside):
    decide(inside, WEB)
    say(inside, "BOOT_FAILURE", ERROR)
    uuid = record(inside).uuid
    for seen in ((), (ObservedVm(0, uuid, "POWEROFF"),)):
        assert inside.vms.observe([Observed("node1", vms=seen)]) == []
    assert record(inside).error == "VM web: it broke. Mend it"
    (moved,) = inside.vms.observe([Observed("node1", vms=(ObservedVm(0, uuid, "RUNNING"),))])
    assert (moved.state, moved.error) == ("RUNNING", "")


def test_what_a_host_says_that_the_catalog_does_not_know_is_nothing(web):
    assert web.vms.observe([Observed("stranger", reached=False)]) == []
    assert record(web).state == "RUNNING"
    (_made,) = web.vms.instantiate([VmRequest("a", PLAIN)])
