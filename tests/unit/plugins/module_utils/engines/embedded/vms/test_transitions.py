# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes free when a node finds a machine off."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed, ObservedVm
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.conftest import decide, obey
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.vms.conftest import (
    ERROR,
    WEB,
    console,
    ports,
    record,
    say,
)


def test_a_port_of_one_that_is_to_be_off_is_free_once_it_is(inside):
    obey(inside, decide(inside, dict(WEB, **console(6000))))
    off = dict(WEB, **console(6001), state="poweroff")
    plans = decide(inside, off)
    say(inside, "RUNNING", ERROR)
    assert ports(inside) == [(-6000, 0), (6001, 0)]
    # By itself, as its guest may be told.
    inside.vms.observe([Observed("node1", vms=(ObservedVm(0, record(inside).uuid, "POWEROFF"),))])
    assert ports(inside) == [(6001, 0)] and plans["node1"].vms[0].wanted == "POWEROFF"
