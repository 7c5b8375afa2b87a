# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How machines are found and shown."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.vms.vm_records import addresses_of
from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmOrders, VmRequest, VmsPort
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.vms.conftest import (
    PLAIN,
    record,
    say,
)


def test_a_name_is_the_machines_that_is_not_on_its_way_out(web):
    web.vms.action(0, "DONE", VmOrders())
    assert web.vms.pool(names=["web"]) == []
    assert [each.id for each in web.vms.pool(ids=[0])] == [0]
    assert [each.id for each in web.vms.pool()] == [0]
    # The port tells the same by the records; this engine reads the names alone.
    assert web.vms.names() == VmsPort.names(web.vms) == {0: "web"}
    say(web, "DONE")
    assert web.vms.names() == VmsPort.names(web.vms) == {}
    assert web.vms.pool() == web.vms.pool(ids=[0]) == web.vms.pool(names=["web"]) == []
    for selected in ({}, {"ids": [0]}, {"names": ["web"]}):
        assert [each.id for each in web.vms.pool(**selected, done=True)] == [0]


def test_a_machine_is_outdated_where_its_networks_say_something_else_by_now(web):
    assert not record(web).outdated
    attributes = web.networks.info("Public").attributes
    web.networks.update("Public", attributes={**attributes, "DNS": "10.66.0.2"})
    assert record(web).outdated
    web.networks.update("Public", attributes=attributes)
    assert not record(web).outdated


@pytest.mark.parametrize(
    ("context", "told"),
    [({"SET_HOSTNAME": "a", "HOSTNAME": "b"}, "a"), ({"HOSTNAME": "b"}, "b"), ({"HOSTNAME": ""}, "")],
)
def test_a_record_tells_what_the_guest_is_told_of_its_name(inside, context, told):
    template = PLAIN.with_vector("CONTEXT", context)
    (made,) = inside.vms.instantiate([VmRequest("a", template)])
    assert made.hostname == told
    assert made.addresses == []


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({}, []),
        ({"ETH0_IP": "10.0.0.1", "ETH0_METHOD": "", "ETH0_IP6": ""}, ["10.0.0.1"]),
        ({"ETH0_IP": "10.0.0.1", "ETH0_METHOD": "dhcp", "ETH1_IP": "10.0.1.1"}, ["10.0.1.1"]),
        ({"ETH0_IP6": "2001:db8::1", "ETH0_IP6_ULA": "fd00::1", "ETH0_METHOD": "DHCP"}, []),
        ({"ETH0_IP": "10.0.0.1", "ETH0_IP6": "2001:db8::1", "ETH0_METHOD": "skip", "ETH0_IP6_METHOD": ""}, []),
        (
            {"ETH0_IP6": "2001:db8::1", "ETH0_IP6_ULA": "fd00::1", "ETH0_METHOD": "skip", "ETH0_IP6_METHOD": "Static"},
            ["2001:db8::1", "fd00::1"],
        ),
        (
            {"ETH0_IP": "10.0.0.1", "ETH0_METHOD": "static", "ETH0_IP6": "2001:db8::1", "ETH0_IP6_METHOD": "auto"},
            ["10.0.0.1"],
        ),
        ({"ETH0_GATEWAY": "10.0.0.254", "ETH0_VROUTER_IP": "10.0.0.9", "MY_ETH0_IP": "10.0.0.8"}, []),
        # Of aliases, whatever becomes of the interface's own.
        ({"ETH0_ALIAS0_IP": "10.0.0.7", "ETH0_IP": "10.0.0.5"}, ["10.0.0.5", "10.0.0.7"]),
        ({"ETH0_ALIAS0_IP6": "fd00::7", "ETH0_METHOD": "dhcp", "ETH0_IP": "10.0.0.5"}, ["fd00::7"]),
        ({"ETH0_ALIAS0_IP": "10.0.0.7", "ETH0_ALIAS0_EXTERNAL": "YES", "ETH0_ALIAS1_IP": ""}, []),
    ],
)
def test_addresses_are_those_of_the_context(variables: dict[str, str], told: list[str]) -> None:
    assert addresses_of(variables) == told
