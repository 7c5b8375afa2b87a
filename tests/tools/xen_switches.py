#!/usr/bin/env python3
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines of Xen in networks of OVN and of Open vSwitch. Runs in dom0, as root, where `demo` has the guest's kernel,
initrd and disk:

    PYTHONPATH=COLLECTIONS xen_switches.py DEMO DRIVER KIND...     a line of JSON for each: kind, operation, seconds,
                                                                   error; DRIVER: xen or xen_libvirt

dom0 is OVN's central host and its only node. In network `tenant` of OVN and behind a bridge of Open vSwitch with VLANs
is a namespace each, from which the guest is reached; what the guest does is typed at its console."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from xen_operations import CATALOG, KINDS, SECONDS, Guest, operations

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Adjustment
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.carry_out.bridges import Bridges
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.xen import switch_ports
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Nic, interface_id
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Plan

SWITCH, VLAN = "ovsbr0", 10
UNITS = ("openvswitch-switch", "ovn-central", "ovn-host")
SOUTHBOUND = "unix:/run/ovn/ovnsb_db.sock"
# In the network of OVN, and behind the switch: namespace, its interface, its address.
PEER, PEER_MAC, PEER_IP, TRUNK, TRUNK_IP = "peer", "02:00:0a:00:00:09", "10.0.0.9", "trunk", "10.1.0.9"
GUEST_IPS = {0: "10.0.0.5", 1: "10.1.0.5", 2: "10.0.0.6"}


def run(*argv: str, check: bool = True) -> str:
    done = subprocess.run(argv, capture_output=True, text=True)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def wait_for(what: str, condition: Callable[[], object], seconds: float = SECONDS) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.2)


class Switched(Guest):
    """NIC 0 is in the network of OVN, NIC 1 in a VLAN of Open vSwitch, and NIC 2, which comes and goes, in OVN."""

    def __init__(self, kind: str, demo: Path, directory: Path, vm_id: int, driver: str) -> None:
        super().__init__(kind, demo, directory, vm_id, driver)
        self.typed = 0
        self.vm = replace(self.vm, nics=(self.nic(0), self.nic(1)))
        for number in (0, 2):
            self.make_logical_port(number)

    def nic(self, number: int) -> Nic:
        nic = super().nic(number)
        if number == 1:
            return replace(nic, bridge=SWITCH, network_values={"VN_MAD": "ovswitch", "VLAN_ID": str(VLAN)})
        return replace(nic, bridge="br-int", network_values={"VN_MAD": "ovn"})

    def end(self) -> None:
        super().end()
        for number in (0, 2):
            run("ovn-nbctl", "--if-exists", "lsp-del", self.interface_id(number))

    def interface_id(self, number: int) -> str:
        return interface_id(self.vm.uuid, number)

    def make_logical_port(self, number: int) -> None:
        name, address = self.interface_id(number), f"{self.nic(number).mac} {GUEST_IPS[number]}"
        options = run("ovn-nbctl", "--bare", "--columns=_uuid", "find", "DHCP_Options", "cidr=10.0.0.0/24").split()[0]
        run(
            *("ovn-nbctl", "--may-exist", "lsp-add", "tenant", name, "--", "lsp-set-addresses", name, address),
            *("--", "lsp-set-port-security", name, address, "--", "lsp-set-dhcpv4-options", name, options),
        )

    # -- what Open vSwitch and OVN say ----------------------------------------------------------------------------
    def port(self, number: int, suffix: str = "") -> dict[str, Any] | None:
        """What its port is: bridge, tag, iface-id, whether Open vSwitch can use it; None if it has none."""
        name = f"{self.name}-{number}{suffix}"
        bridge = run("ovs-vsctl", "port-to-br", name, check=False)
        if not bridge:
            return None
        found = {column: run("ovs-vsctl", "get", "Interface", name, column) for column in ("ofport", "error", "mtu")}
        ids = run("ovs-vsctl", "get", "Interface", name, "external_ids")
        interface = re.search(r'iface-id="?([-\w]+)', ids)
        return {
            "bridge": bridge,
            "tag": run("ovs-vsctl", "get", "Port", name, "tag"),
            "iface-id": interface[1] if interface else "",
            "works": int(found["ofport"]) > 0 and found["error"] == "[]",
            "mtu": found["mtu"],
        }

    def bound(self, number: int) -> str:
        """Whether OVN has its logical port on a host, and that port is up."""
        where = f"logical_port={self.interface_id(number)}"
        return run("ovn-sbctl", "--bare", "--columns=chassis,up", "find", "Port_Binding", where)

    def check_ports(self) -> None:
        for nic in self.vm.nics:
            is_ovns = nic.bridge == "br-int"
            wanted = {
                "bridge": nic.bridge,
                "tag": "[]" if is_ovns else str(VLAN),
                "iface-id": self.interface_id(nic.nic_id),
                "works": True,
                "mtu": run("ovs-vsctl", "get", "Interface", nic.bridge, "mtu"),
            }
            self.wait_for(f"port {nic.nic_id}", lambda number=nic.nic_id: self.port(number))
            found = self.port(nic.nic_id)
            assert found == wanted, (found, wanted)
            if is_ovns:
                self.wait_for("OVN's binding", lambda number=nic.nic_id: "true" in self.bound(number))

    def check_no_ports(self) -> None:
        left = [name for name in run("ovs-vsctl", "--bare", "--columns=name", "list", "Port").split() if "one-" in name]
        assert left == [], left
        wait_for("OVN's end of the binding", lambda: not any("true" in self.bound(number) for number in (0, 2)))

    # -- what is typed at its console -----------------------------------------------------------------------------
    def enter(self, command: str) -> int:
        """Its exit code, as the guest's shell prints it."""
        self.typed += 1
        # What is typed is printed, too, and is not to be taken for the answer.
        self.press(f"{command}; echo ended''-{self.typed}=$?\n")
        answer = re.compile(rf"ended-{self.typed}=(\d+)")
        self.wait_for(command, lambda: answer.search(self.said()))
        found = answer.search(self.said())
        assert found is not None
        return int(found[1])

    def press(self, keys: str) -> None:
        domain = self.listed()
        assert domain is not None
        Path(run("xenstore-read", f"/local/domain/{domain.domid}/console/tty")).write_text(keys, encoding="ascii")

    def pings(self, address: str, options: str = "") -> bool:
        return self.enter(f"ping -c 2 -W 2 {options} {address} > /dev/null") == 0

    # -- operations -----------------------------------------------------------------------------------------------
    def deploy(self) -> None:
        assert not Bridges(Plan(CATALOG, 1, "dom0")).is_userspace(self.vm)
        super().deploy()
        self.check_ports()

    def lease(self) -> None:
        """By OVN's own DHCP."""
        assert self.enter("ip link set eth0 up; udhcpc -i eth0 -n -q -s /bin/true") == 0
        assert f"{GUEST_IPS[0]} obtained" in self.said(), self.said()[-2000:]

    def reach(self) -> None:
        """By OVN with TCP, and by the switch in a VLAN, whose frames have their tag on the other side."""
        for number, other in enumerate((PEER_IP, TRUNK_IP)):
            self.enter(f"ip addr add {GUEST_IPS[number]}/24 dev eth{number}; ip link set eth{number} up")
            self.wait_for(f"{other} from the guest", lambda other=other: self.pings(other))
        self.enter("(echo from-the-guest | nc -l -p 7000 > /dev/null &)")
        program = f"import socket; print(socket.create_connection(('{GUEST_IPS[0]}', 7000), 60).makefile().readline())"
        wait_for("TCP", lambda: "from-the-guest" in run(*inside(PEER, "python3", "-c", program), check=False), 120)

    def forge(self) -> None:
        """What says to come from somebody else does not leave the guest's port."""
        assert self.pings(PEER_IP)
        self.enter("ip addr add 10.0.0.77/24 dev eth0")
        assert not self.pings(PEER_IP, "-I 10.0.0.77") and self.pings(PEER_IP)
        self.enter("ip addr flush dev eth0; ip link set eth0 down; ip link set eth0 address 02:00:00:00:00:77")
        self.enter(f"ip link set eth0 up; ip addr add {GUEST_IPS[0]}/24 dev eth0")
        assert not self.pings(PEER_IP)

    def frames(self) -> None:
        """OVN passes on its own frames, and drops those that say to come from somebody else. A machine in hardware
        virtualisation has nobody who types: Open vSwitch says what becomes of a frame of its port."""
        for nic in (nic for nic in self.vm.nics if nic.bridge == "br-int"):
            own = (nic.mac, GUEST_IPS[nic.nic_id])
            assert self.passed(nic.nic_id, *own) != "drop"
            for other in (("02:00:00:00:00:77", own[1]), (own[0], "10.0.0.77")):
                assert self.passed(nic.nic_id, *other) == "drop", other

    def passed(self, number: int, mac: str, address: str) -> str:
        port = run("ovs-vsctl", "get", "Interface", f"{self.name}-{number}", "ofport")
        frame = f"icmp,in_port={port},dl_src={mac},dl_dst={PEER_MAC},nw_src={address},nw_dst={PEER_IP},nw_ttl=64"
        traced = run("ovs-appctl", "ofproto/trace", "br-int", f"{frame},icmp_type=8")
        return traced.rpartition("Datapath actions: ")[2]

    def attach(self) -> None:
        self.vm = replace(self.vm, nics=tuple(self.nic(number) for number in range(3)))
        self.define()
        assert self.driver.adjust(self.vm, self.site, self.mark, Adjustment(removes=True)).changed
        self.check_ports()
        assert self.port(2, "-emu") is None
        assert not self.driver.adjust(self.vm, self.site, self.mark, Adjustment(removes=True)).changed, "again"

    def detach(self) -> None:
        self.vm = replace(self.vm, nics=(self.nic(0), self.nic(1)))
        self.define()
        assert self.driver.adjust(self.vm, self.site, self.mark, Adjustment(removes=True)).changed
        self.wait_for("no third port", lambda: self.port(2) is None)
        self.check_ports()

    def reboot(self) -> None:
        super().reboot()
        self.check_ports()
        self.wait_until_typed()
        self.reach()

    def reboot_within(self) -> None:
        """The guest does it itself, and nobody asked Xen."""
        before, times = self.listed(), self.boots()
        self.press("reboot -f\n")
        self.wait_for_boot(times + 1)
        after = self.listed()
        assert before and after and before.domid != after.domid, (before, after)
        self.check_ports()

    def wait_until_typed(self) -> None:
        self.wait_for("its shell", lambda: self.enter("true") == 0)

    def restore(self) -> None:
        self.check_no_ports()
        boots = self.boots()
        self.driver.resume(self.mark, str(self.directory / "checkpoint"))
        self.check_ports()
        self.wait_for("its NICs", lambda: self.states("vif") == ["4", "4"])
        assert self.boots() == boots, "it booted instead"

    def emulated(self) -> None:
        """An emulated NIC is another port of the switch, in the same VLAN; OVN has one port of each."""
        assert self.port(0, "-emu") is None
        found = self.port(1, "-emu")
        assert found is not None
        assert (found["bridge"], found["tag"], found["iface-id"]) == (SWITCH, str(VLAN), ""), found

    def remove(self) -> None:
        super().remove()
        self.check_no_ports()
        assert not (switch_ports.PORTS / self.vm.uuid).exists()


WHOLE = (
    *("deploy", "lease", "reach", "attach", "detach", "reboot", "forge", "reboot_within", "save", "restore"),
    *("shutdown", "start", "remove"),
)
OPERATIONS = {"pv": WHOLE, "hvm": ("deploy", "emulated", "attach", "frames", "detach", "remove")}


def inside(namespace: str, *argv: str) -> tuple[str, ...]:
    return ("ip", "netns", "exec", namespace, *argv)


@contextmanager
def switches() -> Iterator[None]:
    """dom0 as OVN's only host, with the two namespaces."""
    run("systemctl", "start", *UNITS)
    run(
        *("ovs-vsctl", "set", "Open_vSwitch", ".", f'external_ids:ovn-remote="{SOUTHBOUND}"'),
        *("external_ids:ovn-encap-type=geneve", "external_ids:ovn-encap-ip=127.0.0.1"),
        *("--", "--may-exist", "add-br", SWITCH),
    )
    wait_for("br-int", lambda: Path("/sys/class/net/br-int").exists(), 120)
    run(
        *("ovn-nbctl", "--may-exist", "ls-add", "tenant", "--", "--may-exist", "lsp-add", "tenant", PEER),
        *("--", "lsp-set-addresses", PEER, f"{PEER_MAC} {PEER_IP}"),
    )
    run(
        *("ovn-nbctl", "create", "DHCP_Options", 'cidr="10.0.0.0/24"', "options:lease_time=3600"),
        *('options:server_id="10.0.0.1"', 'options:server_mac="02:00:0a:00:00:01"'),
    )
    run(
        *("ovs-vsctl", "add-port", "br-int", PEER, "--", "set", "Interface", PEER, "type=internal"),
        *(f'mac="{PEER_MAC}"', f"external_ids:iface-id={PEER}"),
        *("--", "add-port", SWITCH, TRUNK, "--", "set", "Interface", TRUNK, "type=internal"),
    )
    for name in (PEER, TRUNK):
        run("ip", "netns", "add", name)
        run("ip", "link", "set", name, "netns", name)
        run(*inside(name, "ip", "link", "set", name, "up"))
    run(*inside(PEER, "ip", "addr", "add", f"{PEER_IP}/24", "dev", PEER))
    run(*inside(TRUNK, "ip", "link", "add", "link", TRUNK, "name", "tagged", "type", "vlan", "id", str(VLAN)))
    run(*inside(TRUNK, "ip", "addr", "add", f"{TRUNK_IP}/24", "dev", "tagged"))
    run(*inside(TRUNK, "ip", "link", "set", "tagged", "up"))
    try:
        yield
    finally:
        run("ovs-vsctl", "--if-exists", "del-port", PEER, "--", "--if-exists", "del-port", TRUNK)
        for name in (PEER, TRUNK):
            run("ip", "netns", "delete", name)


def main(demo: str, driver: str, *kinds: str) -> None:
    """KIND, or KIND:OPERATION,OPERATION for some of them."""
    with switches():
        for word in kinds:
            kind, _colon, some = word.partition(":")
            directory = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir="/var/tmp"))
            try:
                guest = Switched(kind, Path(demo), directory, KINDS.index(kind) + 1, driver)
                for line in operations(guest, tuple(some.split(",")) if some else OPERATIONS[kind]):
                    print(json.dumps(line), flush=True)
            finally:
                shutil.rmtree(directory)


if __name__ == "__main__":
    main(*sys.argv[1:])
