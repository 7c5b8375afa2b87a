# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""New machines: what is stored of them, and on which hosts they go."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.vms.instantiate import fixed_uuid
from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmOrders, VmRequest
from ansible_collections.nebula.provision.plugins.module_utils.errors import WrongState
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.vms.conftest import (
    PLAIN,
    record,
)


def test_of_no_requests_nothing_comes(inside):
    assert inside.vms.instantiate([]) == []
    assert inside.store.rows("SELECT * FROM sequences WHERE name = 'vms'") == []


def test_a_machine_is_stored_as_it_is_asked_for(inside):
    (made,) = inside.vms.instantiate(
        [VmRequest("a-3", PLAIN, template_name="plain", pattern="a-%i", position=3, wanted="POWEROFF")]
    )
    assert (made.id, made.name, made.template, made.pattern, made.position) == (0, "a-3", "plain", "a-%i", 3)
    assert (made.state, made.wanted, made.host, made.hypervisor) == ("PROLOG", "POWEROFF", "node1", "kvm")
    assert (made.cpu, made.memory, made.vcpu, made.generation) == (0.5, 128, None, 1)
    assert made.request == PLAIN
    assert made.disks[0]["image"] == "demo"
    assert (made.nics[0]["ip"], made.nics[0]["network"]) == ("10.66.0.10", "Public")
    # It has no context, and so is told nothing.
    assert (made.hostname, made.addresses) == ("", None)
    assert list(made.warnings) == []
    assert replace(made, warnings=()) == record(inside)
    host = inside.hosts.info("node1")
    assert (host.memory_used, host.cpu_used, host.vms) == (128, 0.5, 1)


def test_ids_that_a_host_has_for_somebody_else_are_passed_over(inside):
    inside.vms.observe([Observed("node1", foreign_ids=(0, 1, 3))])
    made = inside.vms.instantiate([VmRequest(name, PLAIN) for name in "ab"])
    assert [each.id for each in made] == [2, 4]
    assert [each.id for each in inside.vms.instantiate([VmRequest("c", PLAIN)])] == [5]


def test_machines_of_one_network_on_two_nodes_are_told_and_may_be_forbidden(inside):
    inside.hosts.allocate(Host(None, "node2", state=HostState.MONITORED, memory=4096, cpu=16.0))
    inside.vms.instantiate([VmRequest(name, PLAIN, host=host) for name, host in (("a", "node1"), ("b", "node2"))])
    inside.vms.instantiate([VmRequest("c", PLAIN, host="node2")])
    (spread,) = inside.networks.spread_out()
    assert (spread.network, spread.hosts) == ("Public", {"node1": 1, "node2": 2})
    assert str(spread).startswith("network Public: its machines are on 2 nodes (1 on node1, 2 on node2), whose bridges")
    # One that is to end counts no more.
    inside.vms.action(0, "DONE", VmOrders())
    assert inside.networks.spread_out() == []
    network = inside.networks.info("Public")
    inside.networks.update(network.id, attributes={**network.attributes, "ONE_NODE": "YES"})
    assert [each.host for each in inside.vms.instantiate([VmRequest(name, PLAIN) for name in "def"])] == ["node2"] * 3
    with pytest.raises(WrongState, match="network Public keeps to one node"), inside.attempt():
        inside.vms.instantiate([VmRequest("g", PLAIN, host="node1")])
    assert inside.networks.spread_out() == []


def test_a_network_that_keeps_to_one_node_does_so_from_its_first_batch(inside):
    inside.hosts.allocate(Host(None, "node2", state=HostState.MONITORED, memory=4096, cpu=16.0))
    network = inside.networks.info("Public")
    inside.networks.update(network.id, attributes={**network.attributes, "ONE_NODE": "YES"})
    assert len({each.host for each in inside.vms.instantiate([VmRequest(name, PLAIN) for name in "abcd"])}) == 1


@pytest.mark.parametrize(("given", "uuid"), [({"UUID": "ABCD"}, "abcd"), ({"ARCH": "x86_64"}, ""), (None, "")])
def test_a_template_may_fix_the_uuid(given, uuid):
    template = Template() if given is None else Template((("OS", tuple(given.items())),))
    assert fixed_uuid(template) == uuid
