# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's side of NICs whose machines are told an MTU above 1500, as real hypervisors make it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Nic
from ansible_collections.nebula.provision.tests.integration.kvm_node import a_node
from ansible_collections.nebula.provision.tests.integration.lxc_node import a_container_node
from ansible_collections.nebula.provision.tests.integration.node_namespaces import network
from ansible_collections.nebula.provision.tests.integration.test_switches import host
from ansible_collections.nebula.provision.tests.integration.test_switches import network as switched


def nic(vm_id: int, nic_id: int, mtu: int, **more: str) -> Nic:
    mac, values = f"02:00:0a:42:00:0{nic_id}", {"GUEST_MTU": str(mtu)} if mtu else {}
    target = f"one-{vm_id}-{nic_id}"
    return Nic(nic_id, 0, "net", "nbrtest", mac, f"10.66.0.{nic_id}", target=target, network_values=values, **more)


@contextmanager
def a_bridge(mtu: int) -> Iterator[None]:
    subprocess.run(["ip", "link", "add", "nbrtest", "type", "bridge"], check=True)
    try:
        # As a network with this MTU has it (network/bridge.py).
        subprocess.run(["ip", "link", "set", "nbrtest", "mtu", str(mtu)], check=True)
        yield
    finally:
        subprocess.run(["ip", "link", "delete", "nbrtest"], check=True)


def mtu_of(name: str) -> int:
    return int(Path(f"/sys/class/net/{name}/mtu").read_text())


@in_world
def test_kvm_gives_an_interface_that_of_its_definition() -> None:
    with a_node() as node, a_bridge(9000):
        vm = node.vm(1, nics=(nic(1, 0, 9000), nic(1, 1, 4000, model="e1000"), nic(1, 2, 0)))
        assert node.one(vm).error is None
        # libvirt gives one that says none the MTU of its bridge.
        assert [mtu_of(f"one-1-{number}") for number in range(3)] == [9000, 4000, 9000]
        # A guest with virtio is told by its NIC, too.
        assert b'"host_mtu":9000' in Path(f"/proc/{node.qemu(vm)}/cmdline").read_bytes()
        assert not node.one(vm).changed
        node.one(vm, "DONE", hard=True)


@in_world
def test_a_container_has_it_on_the_hosts_end_and_sets_its_own() -> None:
    with a_container_node() as node, a_bridge(9000):
        vm = node.vm(3, nics=(nic(3, 0, 9000), nic(3, 1, 0)))
        assert node.one(vm).error is None
        assert [mtu_of(f"one-3-{number}") for number in range(2)] == [9000, 1500]
        # One that comes while it runs, and one that libvirt alone has started.
        more = replace(vm, nics=(*vm.nics, nic(3, 2, 8000)))
        assert node.one(more, refitted=True).error is None
        assert mtu_of("one-3-2") == 8000
        subprocess.run(["ip", "link", "set", "one-3-0", "mtu", "1500"], check=True)
        assert node.one(more).error is None
        assert mtu_of("one-3-0") == 9000
        node.one(more, "DONE", hard=True)


@in_world
def test_bridges_of_open_vswitch_have_it_for_those_that_take_it_from_them() -> None:
    """As Xen's machines do. That of OVN is not ours, and has it all the same."""
    with host() as node:
        ours = [switched(1, 7, phydev="", GUEST_MTU="9000"), switched(2, 8, phydev="")]
        attributes = {"NETWORK_ADDRESS": "10.66.0.0", "NETWORK_MASK": "255.255.255.0"}
        ovn = network("Tenant", 3, "br-int", vn_mad="ovn", attributes={**attributes, "GUEST_MTU": "8942"})
        for each, name, mtu in ((ours, "ovsbr0", 9000), ([*ours, ovn], "br-int", 8942)):
            predicted, real = node.ok(*each, check=True), node.ok(*each)
            assert predicted["changed"] and (predicted["diff"], predicted["links"]) == (real["diff"], real["links"])
            assert mtu_of(name) == mtu
            assert not node.ok(*each)["changed"]
            if name == "ovsbr0":
                node.vsctl("add-br", "br-int", "--", "set", "Bridge", "br-int", "datapath_type=netdev")
        node.vsctl("add-port", "br-int", "narrow", "--", "set", "Interface", "narrow", "type=internal")
        assert not node.ok(*ours, ovn)["changed"]
        assert not node.ok({**ovn, "attributes": attributes}, *ours)["changed"]
        assert mtu_of("br-int") == 8942
        node.vsctl("del-br", "br-int")
        node.ok(*({**each, "state": "DONE"} for each in ours))
