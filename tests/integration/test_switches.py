# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks of Open vSwitch on a node of its own: the real module, the real Open vSwitch with its userspace datapath,
the real libvirt, and frames as machines and the physical network send and see them. No packet leaves the node."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
from pathlib import Path

from frames import SECONDS, Cable, datagram, tagged, vlan_of
from in_world import in_world

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Site, domain_name
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.domain_xml import render
from ansible_collections.nebula.provision.plugins.module_utils.model import vlan_trunks
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import from_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.network import openvswitch_state
from ansible_collections.nebula.provision.tests.integration.node_namespaces import CATALOG, OTHER_CATALOG, Namespace
from ansible_collections.nebula.provision.tests.integration.node_namespaces import network as any_network

PLACES = ("/etc/openvswitch", "/var/log/openvswitch")
BRIDGE = "ovsbr0"
FIXTURES = Path(__file__).parents[1] / "fixtures" / "deployment" / "kvm"


class Host(Namespace):
    """The world itself as the node."""

    def command(self, *argv, hidden=(), instead=None):
        return list(argv)

    def vsctl(self, *words):
        return self.run("ovs-vsctl", "--timeout=10", *words).strip()

    def snapshot(self):
        found = openvswitch_state.observe()
        bridges = {name: (dict(b.external_ids), sorted(b.ports)) for name, b in found.bridges.items()}
        return (*super().snapshot(), bridges, found.running)


@contextlib.contextmanager
def host():
    """With directories of Open vSwitch that are its own."""
    for place in PLACES:
        Path(place).mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    made = Host("here")
    try:
        yield made
    finally:
        if openvswitch_state.observe().running:
            subprocess.run(["/usr/share/openvswitch/scripts/ovs-ctl", "stop"], check=True, capture_output=True)
            Path("/etc/openvswitch/conf.db").unlink(missing_ok=True)
        for place in PLACES:
            subprocess.run(["umount", place], check=True)


def network(number, vlan="", bridge=BRIDGE, phydev="eth1", **attributes):
    values = {"PHYDEV": phydev, "VLAN_ID": str(vlan), "NETWORK_ADDRESS": "10.66.0.0", "NETWORK_MASK": "255.255.255.0"}
    values = {key: value for key, value in {**values, **attributes}.items() if value}
    return any_network(f"Net{number}", number, bridge, vn_mad="ovswitch", attributes=values)


def frame(number, data):
    return datagram(
        (f"02:00:00:00:00:{number:02x}", "ff:ff:ff:ff:ff:ff"), (f"10.66.0.{number}", "10.66.0.255"), (5000, 5001), data
    )


def _is(frame):
    return lambda other: frame[-12:] in other


class Machines:
    """Cables to ports as libvirt makes them of NICs, and one to the physical network."""

    def __init__(self, host, **ports):
        self.wire = Cable("eth1")
        self.cables = {}
        self.host = host
        self.ports = ports

    def attach(self):
        for number, (name, port) in enumerate(self.ports.items(), 1):
            cable = self.cables[name] = Cable(f"one-{number}-0")
            wanted = openvswitch_state.port_of(port)
            words = [f"tag={wanted.tag}"] if wanted.tag is not None else []
            words += [f"trunks={','.join(map(str, wanted.trunks))}"] if wanted.trunks else []
            words += [f"vlan_mode={wanted.mode}"] if wanted.mode else []
            self.host.vsctl("add-port", BRIDGE, cable.device, *words)

    def __getitem__(self, name):
        return self.wire if name == "wire" else self.cables[name]

    def heard(self, sender, what):
        """By each that hears it, the tag with which it does."""
        # Each has its place in the queues before a frame of which it is known who hears it.
        after, by = frame(99, b"then another"), "plain" if sender == "wire" else "wire"
        self[sender].send(what)
        self[sender].send(after)
        found = {}
        for name in sorted(("wire", *self.cables), key=lambda name: name != by):
            if name == sender:
                continue
            with contextlib.suppress(TimeoutError):
                fits = (lambda other: b"then another" in other or what[-12:] in other) if name == by else _is(what)
                heard = self[name].hear(fits, SECONDS if name == by else 0.05)
                if name == by and what[-12:] not in heard:
                    # Of frames that are taken up together, one that is asked about overtakes those that are known.
                    self[sender].send(after)
                    heard = self[name].hear(fits, SECONDS)
                if what[-12:] in heard:
                    found[name] = vlan_of(heard)
                    if name == by:
                        self[name].hear(_is(after))
        return found

    def close(self):
        for cable in (self.wire, *self.cables.values()):
            cable.close()


@in_world
def test_networks_on_one_bridge_are_kept_apart_by_their_vlans():
    with host() as node:
        machines = Machines(
            node,
            ten=vlan_trunks.Port(10),
            ten_too=vlan_trunks.Port(10),
            twenty=vlan_trunks.Port(20),
            plain=vlan_trunks.Port(),
            trunk=vlan_trunks.Port(10, (20, 30)),
        )
        try:
            life(node, machines)
        finally:
            machines.close()


def life(node, machines):
    before = node.snapshot()
    networks = [network(1, 10), network(2, 20), network(3)]
    predicted = node.ok(*networks, check=True)
    assert node.snapshot() == before
    made = node.ok(*networks)
    assert predicted["diff"] == made["diff"] and made["changed"]
    assert [each["created"] for each in made["links"]] == [True] * 3
    again = node.ok(*networks)
    assert not again["changed"], again["diff"]
    bridge = openvswitch_state.observe().bridges[BRIDGE]
    assert bridge.mark == CATALOG and set(bridge.networks) == {each["uuid"] for each in networks}
    assert list(bridge.ports) == ["eth1"] and bridge.ports["eth1"].everything
    assert "UP" not in node.link(BRIDGE)["flags"] and "UP" in node.link("eth1")["flags"]
    assert set(openvswitch_state.networks_here(CATALOG)) == set(
        bridge.networks
    ) and not openvswitch_state.networks_here(OTHER_CATALOG)

    machines.attach()
    assert not node.ok(*networks)["changed"]
    assert machines.heard("ten", frame(1, b"untagged of ten")) == {"wire": 10, "ten_too": 0, "trunk": 0}
    assert machines.heard("twenty", frame(3, b"untagged of twenty")) == {"wire": 20, "trunk": 20}
    assert machines.heard("plain", frame(4, b"untagged of plain")) == {"wire": 0}
    assert machines.heard("trunk", tagged(frame(5, b"trunk in twenty"), 20)) == {"wire": 20, "twenty": 0}
    assert machines.heard("trunk", tagged(frame(5, b"trunk in thirty"), 30)) == {"wire": 30}
    assert machines.heard("trunk", frame(5, b"trunk without tag")) == {"wire": 10, "ten": 0, "ten_too": 0}
    assert machines.heard("wire", tagged(frame(6, b"wire in twenty."), 20)) == {"twenty": 0, "trunk": 20}
    # What is not its own, a machine does not reach by tagging it itself.
    assert machines.heard("plain", tagged(frame(4, b"plain in twenty"), 20)) == {}
    assert machines.heard("ten", tagged(frame(1, b"ten as in twenty"), 20)) == {}
    assert machines.heard("trunk", tagged(frame(5, b"trunk in forty."), 40)) == {}

    libvirt(node)

    # Somebody else's bridge in the same Open vSwitch stays, and so does a bridge with machines.
    node.vsctl("add-br", "theirs", "--", "set", "Bridge", "theirs", "datapath_type=netdev")
    assert "one-1-0" in node.module(state="absent")["msg"]
    for cable in machines.cables.values():
        node.vsctl("del-port", cable.device)
    known = [each["uuid"] for each in networks[:2]]
    assert node.ok(*networks[:2], known=known)["changed"]
    assert set(openvswitch_state.observe().bridges[BRIDGE].networks) == set(known)
    assert not node.ok(*networks[:2], known=known)["changed"]
    # A port of a machine that went with the power keeps nothing.
    node.vsctl("add-port", BRIDGE, "one-9-0", "--", "set", "Interface", "one-9-0", "type=system")
    predicted = node.ok(state="absent", check=True)
    gone = node.ok(state="absent")
    assert gone["changed"] and gone["diff"] == predicted["diff"]
    assert list(openvswitch_state.observe().bridges) == ["theirs"] and openvswitch_state.observe().running
    assert not node.ok(state="absent")["changed"]
    node.vsctl("del-br", "theirs")

    # Without them, Open vSwitch itself goes as it came.
    subprocess.run(["/usr/share/openvswitch/scripts/ovs-ctl", "stop"], check=True, capture_output=True)
    Path("/etc/openvswitch/conf.db").unlink()
    node.ok(network(1, 10))
    node.ok({**network(1, 10), "state": "DONE"})
    assert not openvswitch_state.observe().there and not openvswitch_state.observe().running
    assert not [each.name for each in Path("/etc/openvswitch").iterdir() if each.name != "system-id.conf"]


def libvirt(node):
    """libvirt makes of a NIC the port that the audit looks for, and takes it away with the machine."""
    case = json.loads((FIXTURES / "nic_on_open_vswitch.json").read_text(encoding="utf-8"))
    vm = from_plain(Vm, case["vm"])
    wanted = {"one-7-0": ("10", ""), "one-7-1": ("", ""), "one-7-2": ("10", "20,30-31"), "one-7-3": ("", "40")}
    nics = tuple(
        dataclasses.replace(
            vm.nics[0],
            nic_id=number,
            bridge=BRIDGE,
            target=target,
            mac=f"02:00:00:00:07:{number:02x}",
            options={"VLAN_TAGGED_ID": trunk} if trunk else {},
            network_values={"VN_MAD": "ovswitch", "OUTBOUND_AVG_BW": "1000", **({"VLAN_ID": vlan} if vlan else {})},
        )
        for number, (target, (vlan, trunk)) in enumerate(wanted.items())
    )
    vm = dataclasses.replace(vm, nics=nics, disks=(), context=None, graphics=None)
    emulator = "/usr/bin/qemu-system-x86_64"
    site = Site(
        catalog=CATALOG,
        generation=1,
        directory=os.environ["NEBULA_WORLD"],
        accelerator="qemu",
        emulator=emulator,
        disks={},
        userspace_switch=True,
    )
    xml = render(vm, site).text
    virsh = ["virsh", "--quiet", "-c", "qemu:///system"]
    subprocess.run([*virsh, "create", "--paused", "/dev/stdin"], input=xml, text=True, check=True)
    ports = openvswitch_state.observe().bridges[BRIDGE].ports
    expected = {
        nic.target: str(openvswitch_state.port_of(vlan_trunks.port_of(nic.network_values, nic.options))) for nic in nics
    }
    assert {name: str(ports[name]) for name in wanted} == expected
    assert expected == {
        "one-7-0": "VLAN 10",
        "one-7-1": "VLAN none, trunk 0",
        "one-7-2": "VLAN 10, trunk 10,20,30,31 (native-untagged)",
        "one-7-3": "VLAN none, trunk 0,40",
    }
    subprocess.run([*virsh, "destroy", domain_name(vm.vm_id)], check=True)
    assert not set(wanted) & set(openvswitch_state.observe().bridges[BRIDGE].ports)
