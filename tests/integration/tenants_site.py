# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A site of tenants on OVN: a front-end with its databases and nodes (tests/tools/nodes.py), guests that do what is
typed on their consoles, and a host outside, which is the front-end's end of the network `outside`."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nodes import Node, nodes

from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.sent_site import Sent, root_of

# Both tenants have the same.
CIDR, GATEWAY = "192.168.0.0/24", "192.168.0.1"
# The front-end, in the network outside.
OUTSIDE = "203.0.113.1"
TUNNELS = "10.78.0"
# The underlay's 1600 without what a tunnel needs leave more.
MTU = 1442
TEMPLATE = """
CPU = 0.1
MEMORY = 96
DISK = [ IMAGE = "demo", DEV_PREFIX = "vd" ]
CONTEXT = [ NETWORK = "YES", SET_HOSTNAME = "$NAME" ]
"""
BOOT_SECONDS, ANSWER_SECONDS = 90, 30
# Whoever has the terminal open is heard, and sees what comes from then on.
TYPE = """
import os, re, select, sys, termios, time, tty
path, line, end, seconds = sys.argv[1:]
terminal = os.open(path, os.O_RDWR | os.O_NOCTTY)
tty.setraw(terminal)
termios.tcflush(terminal, termios.TCIFLUSH)
os.write(terminal, line.encode())
text, limit = b"", time.monotonic() + float(seconds)
while not re.search(end.encode(), text) and time.monotonic() < limit:
    if select.select([terminal], [], [], 0.5)[0]:
        text += os.read(terminal, 4096)
sys.stdout.buffer.write(text)
"""


def tenant(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "vn_mad": "ovn",
        "network_address": CIDR,
        "gateway": GATEWAY,
        "dns": ["9.9.9.9"],
        "guest_mtu": MTU,
        "dhcp": True,
        "address_ranges": [{"type": "IP4", "ip": "192.168.0.10", "size": 40}],
        **changes,
    }


EXTERNAL = {
    "name": "outside",
    "vn_mad": "ovn",
    "physical_network": "physnet",
    "network_address": "203.0.113.0/24",
    "gateway": OUTSIDE,
    "dhcp": False,
    "address_ranges": [{"type": "IP4", "ip": "203.0.113.100", "size": 20}],
}


def router(tenant_name: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": f"{tenant_name}-router",
        "interfaces": [{"network": tenant_name}],
        "gateway": {"network": "outside"},
        **changes,
    }


def machine(name: str, host: str, **changes: Any) -> dict[str, Any]:
    """Its network is called as its name begins."""
    network = name.partition("-")[0]
    return {"name": name, "template": "web", "host": host, "nics": [{"NETWORK": network}], **changes}


class Tenants(Sent):
    def __init__(self, image: str) -> None:
        super().__init__()
        self.nodes = nodes()
        self.by_name = {node.name: node for node in self.nodes}
        self._number = itertools.count()
        self.variables |= {
            "nebula_ovn": True,
            "nebula_ovn_datapath": "netdev",
            "nebula_images": [{"name": "demo", "path": image}],
            "nebula_templates": [{"name": "web", "template": TEMPLATE}],
            "nebula_networks": [tenant("blue"), EXTERNAL],
            "nebula_routers": [router("blue")],
            "nebula_vms": [],
        }

    def inventory(self, **changes: Any) -> Path:
        path = super().inventory(**changes)
        inventory = json.loads(path.read_text())
        groups = inventory["all"]["children"]
        for members in groups["nebula_frontend"]["hosts"].values():
            members["nebula_ovn_address"] = "10.77.0.254"
        for node in self.nodes:
            groups["nebula_nodes"]["hosts"][node.name] |= {
                "nebula_ovn_encap_ip": f"{TUNNELS}.{node.number}",
                "nebula_ovn_bridge_mappings": [
                    {"bridge": "br-phy", "interface": "eth2", "address": f"{TUNNELS}.{node.number}/24"},
                    {"bridge": "br-ex", "interface": "eth1", "network": "physnet"},
                ],
            }
        path.write_text(json.dumps(inventory))
        return path

    def info(self, *kinds: str) -> dict[str, Any]:
        code, output = self.execute(
            [
                *(str(self.programs / "ansible"), "-i", str(self.inventory()), "front"),
                *("-m", "nebula.provision.nebula_info", "-a", f"gather={','.join(kinds)} root={self.root}"),
            ]
        )
        assert code == 0, output
        found: dict[str, Any] = json.loads(output[output.index("{") :])
        return found

    def guests(self) -> dict[str, Guest]:
        return {vm["name"]: Guest(self, vm) for vm in self.info("vms")["vms"]}


class Guest:
    """A machine, by its console."""

    boot_seconds = BOOT_SECONDS

    def __init__(self, site: Tenants, vm: dict[str, Any]) -> None:
        self.name, self.ip, self.mac, self.vm = vm["name"], vm["ip"], vm["mac"], vm
        self.node: Node = site.by_name[vm["host"]]
        self.console = root_of(self.node) / f"datastores/0/{vm['id']}/console.log"
        self.domain = vm["domain"]
        self.number = site._number

    def said(self) -> str:
        return self.console.read_text(errors="replace") if self.console.exists() else ""

    def up(self) -> None:
        """It is ready, and its shell waits: what is typed before that is lost."""
        prompt = re.compile(r"nebula-guest: ready.*# ", re.DOTALL)
        # What it showed before its node was booted is still there.
        wait_for(
            lambda: prompt.search(self.said().rpartition("nebula-node: starting")[2]),
            f"{self.name} is up",
            self.boot_seconds,
        )

    def terminal(self) -> str:
        return self.node.run("virsh", "-c", "qemu:///system", "ttyconsole", self.domain).stdout.strip()

    def does(self, command: str, seconds: float = ANSWER_SECONDS) -> tuple[int, str]:
        """The status of what is typed on its console, and what it prints."""
        mark = f"m{next(self.number)}x"
        # The shell shows what is typed, too: only in the answer the mark and what follows are one word.
        line = f"echo {mark}'begin'; {command}; echo {mark}'end'$?\n"
        argv = ("/usr/bin/python3", "-c", TYPE, self.terminal(), line, rf"{mark}end\d+\r?\n", str(seconds))
        text = self.node.run(*argv).stdout
        found = re.search(rf"{mark}begin\r?\n(.*?){mark}end(\d+)\r?\n", text, re.DOTALL)
        assert found, f"{self.name}: {command}: {text}"
        return int(found[2]), found[1]

    def reaches(self, address: str, tries: int = 1) -> bool:
        """Whether one of so many pings is answered, of which each is waited for a second."""
        ping = f"for try in $(seq {tries}); do ping -c 1 -W 1 {address} > /dev/null && break; done"
        return self.does(ping, ANSWER_SECONDS + 2 * tries)[0] == 0


# What a DHCP server has given it, as its own client tells a script.
LEASE = """printf '#!/bin/sh\\n[ "$1" = bound ] && echo "lease $ip $subnet $router $dns $mtu"\\n' > /run/lease; \
chmod +x /run/lease; udhcpc -i eth0 -n -q -t 5 -T 1 -s /run/lease 2> /dev/null"""


def outside_reaches(address: str, tries: int = 1) -> bool:
    argv = ["ping", "-c", "1", "-W", "1", "-I", OUTSIDE, address]
    return any(subprocess.run(argv, stdout=subprocess.DEVNULL, check=False).returncode == 0 for _ in range(tries))


def outside_reads(address: str) -> str:
    """What the web server of a machine at this address says: its name."""
    with socket.create_connection((address, 80), timeout=10) as client:
        client.sendall(b"GET /name HTTP/1.0\r\n\r\n")
        answer = b""
        while chunk := client.recv(4096):
            answer += chunk
    return answer.decode().rpartition("\r\n\r\n")[2].strip()


@contextlib.contextmanager
def host_outside() -> Iterator[socket.socket]:
    """A server that machines may come to, whose kernel makes the checksums of its packets: Open vSwitch in userspace
    passes on what it gets."""
    subprocess.run(["ethtool", "-K", "outside", "tx", "off"], check=True, capture_output=True)
    with socket.create_server((OUTSIDE, 7777)) as server:
        server.settimeout(ANSWER_SECONDS)
        yield server
