# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that are not taken over; reconcile/vms/test_adoptions.py has those that are."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmOrders, VmRequest
from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, NotFound
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.vms.conftest import (
    PLAIN,
    say,
)


def test_a_machine_of_a_known_id_is_not_adopted(web):
    with pytest.raises(Conflict, match="the catalog had given that id to VM web; "):
        web.vms.adopt(0, VmRequest("b", PLAIN))
    web.vms.action(0, "DONE", VmOrders())
    say(web, "DONE")
    with pytest.raises(Conflict, match="the catalog had given that id to VM web, and ended it; "):
        web.vms.adopt(0, VmRequest("b", PLAIN))


def test_a_machine_that_no_host_has_is_not_adopted(web):
    with pytest.raises(NotFound, match="no host of this run has it with the mark of catalog"):
        web.vms.adopt(7, VmRequest("b", PLAIN))
