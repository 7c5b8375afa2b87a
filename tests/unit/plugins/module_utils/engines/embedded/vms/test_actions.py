# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""States that are wanted of machines."""

from __future__ import annotations

import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmOrders
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.conftest import row
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.vms.conftest import say


@pytest.mark.parametrize(
    ("before", "wanted", "way"),
    [
        ("POWEROFF", "RUNNING", "BOOT_POWEROFF"),
        ("SUSPENDED", "RUNNING", "BOOT_SUSPENDED"),
        ("UNKNOWN", "RUNNING", "BOOT_UNKNOWN"),
        ("BOOT_FAILURE", "RUNNING", "BOOT"),
        ("RUNNING", "POWEROFF", "SHUTDOWN_POWEROFF"),
        ("RUNNING", "SUSPENDED", "SAVE_SUSPEND"),
        ("POWEROFF", "DONE", "EPILOG"),
    ],
)
def test_a_machine_shows_on_which_way_it_is(web, before, wanted, way):
    web.vms.action(0, "POWEROFF", VmOrders())
    say(web, before)
    found = web.vms.action(0, wanted, VmOrders())
    assert (found.state, found.wanted) == (way, wanted)
    orders = json.loads(row(web)["orders"])
    assert (orders["found"], orders["previous"]) == (before, before)


def test_an_operation_leaves_a_machine_running(web):
    found = web.vms.action(0, "RUNNING", VmOrders(operation="reboot"))
    assert (found.state, found.wanted) == ("RUNNING", "RUNNING")
    assert web.vms.history(0)[-1]["action"] == "reboot"
