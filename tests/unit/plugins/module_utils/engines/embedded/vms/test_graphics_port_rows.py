# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the port of a console stays a machine's."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmRequest
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.vms.conftest import (
    VNC,
    ports,
)


def test_a_port_is_held_below_zero_until_it_is_dropped(inside):
    inside.vms.instantiate([VmRequest(name, VNC) for name in "ab"])
    rows = inside.vms.port_rows
    rows.hold(0)
    assert ports(inside) == [(-5900, 0), (5901, 1)]
    rows.drop(0)
    assert ports(inside) == [(-5900, 0), (5901, 1)]
    rows.drop_held(0)
    rows.drop_held(1)
    assert ports(inside) == [(5901, 1)]
    rows.drop(1)
    assert ports(inside) == []


def test_a_machine_that_has_ended_has_no_port_of_either_kind(inside):
    inside.vms.instantiate([VmRequest("a", VNC)])
    inside.vms.port_rows.hold(0)
    inside.vms.ports.choose([])
    inside.vms.port_rows.drop_all(0)
    assert ports(inside) == []


def test_a_machine_that_moves_has_ports_on_two_hosts(fleet):
    first, second = (host.id for host in fleet.hosts.pool())
    rows, execute = fleet.vms.port_rows, fleet.store.db.execute
    execute("INSERT INTO vnc_ports VALUES (?, 5907, 0)", (second,))
    rows.hold(0, first)
    assert ports(fleet) == [(-5900, 0), (5907, 0)]
    # It has again what was held for it, and nothing elsewhere.
    assert rows.only_on(0, first) == 5900
    assert ports(fleet) == [(5900, 0)]
    execute("INSERT INTO vnc_ports VALUES (?, 5907, 0)", (second,))
    rows.drop_of_host(0, first)
    assert ports(fleet) == [(5907, 0)]
    rows.drop_of_host(0, None)
    assert ports(fleet) == [(5907, 0)]
    assert rows.only_on(0, first) == 0
