# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Neighbours of a machine that moves while it runs, in a network of bridges which a switch joins: they reach it at its
new place at once, also if it says nothing itself. test_ovn_migration.py has the same on OVN."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from typing import Any

import pytest
from in_world import in_nodes
from nodes import Node, plug

from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.neighbour_pings import MOST_SILENCE, Pings
from ansible_collections.nebula.provision.tests.integration.sent_site import Sent, hosts, root_of

SWITCH = "outside"
NETWORK = {
    "name": "lan",
    "phydev": "eth1",
    "network_address": "203.0.113.0",
    "network_mask": "255.255.255.0",
    "address_ranges": [{"type": "IP4", "ip": "203.0.113.60", "size": 10}],
}
TALKING = """
CPU = 0.1
MEMORY = 96
DISK = [ IMAGE = "demo", DEV_PREFIX = "vd" ]
NIC = [ NETWORK = "lan" ]
CONTEXT = [ NETWORK = "YES", SET_HOSTNAME = "$NAME" ]
"""
# A boot sector that halts: nothing in it ever sends a frame.
SILENT = """
CPU = 0.05
MEMORY = 32
OS = [ MACHINE = "pc" ]
DISK = [ IMAGE = "base", DEV_PREFIX = "vd" ]
NIC = [ NETWORK = "lan" ]
"""
BOOT_SECONDS = 120


class Places:
    """Watches since when a machine runs on a node, and since when the switch sends its frames there."""

    def __init__(self, vm: dict[str, Any], there: Node) -> None:
        self._vm, self._there = vm, there
        self.runs: float | None = None
        self.found: float | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Places:
        self._thread.start()
        return self

    def __exit__(self, *_problem: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        running = ("virsh", "-c", "qemu:///system", "list", "--name", "--state-running")
        while not self._ended.wait(0.05) and not (self.runs and self.found):
            if self.found is None and port_of(self._vm["mac"]) == plug(self._there.name, "eth1"):
                self.found = time.monotonic()
            if self.runs is None and self._vm["domain"] in self._there.run(*running).stdout.split():
                self.runs = time.monotonic()


def port_of(mac: str) -> str | None:
    """The port at which the switch has learned an address."""
    shown = subprocess.run(["bridge", "-json", "fdb", "show", "br", SWITCH], capture_output=True, text=True, check=True)
    return next((each["ifname"] for each in json.loads(shown.stdout) if each["mac"] == mac), None)


def machines(site: Sent) -> dict[str, dict[str, Any]]:
    code, output = site.execute(
        [
            str(site.programs / "ansible"), "-i", str(site.inventory()), "front", "-m",
            "nebula.provision.nebula_info", "-a", f"gather=vms root={site.root}",
        ]
    )  # fmt: skip
    assert code == 0, output
    return {vm["name"]: vm for vm in json.loads(output[output.index("{") :])["vms"]}


@pytest.mark.timeout(900)
@in_nodes(2)
def test_neighbours_reach_it_at_its_new_place(*, image: str) -> None:
    site = Sent()
    first, second = site.nodes
    site.variables |= {
        "nebula_images": [site.variables["nebula_images"][1], {"name": "demo", "path": image}],
        "nebula_networks": [NETWORK],
        "nebula_templates": [{"name": "talking", "template": TALKING}, {"name": "silent", "template": SILENT}],
        "nebula_move": "live",
    }

    def listed(**places: Node) -> list[dict[str, Any]]:
        return [{"name": name, "template": name, "host": node.name} for name, node in places.items()]

    with hosts(site):
        site.done("site.yml", nebula_vms=listed(talking=first, silent=first))
        found = machines(site)
        talking, silent = found["talking"], found["silent"]
        console = root_of(first) / f"datastores/0/{talking['id']}/console.log"
        wait_for(lambda: "nebula-guest: ready" in console.read_text(errors="replace"), "it is up", BOOT_SECONDS)

        assert port_of(silent["mac"]) is None
        with Places(silent, second) as places:
            site.done("site.yml", nebula_vms=listed(talking=first, silent=second))
        assert places.runs and places.found, vars(places)
        assert places.found - places.runs <= MOST_SILENCE, vars(places)

        # What is measured is what the move does, not how busy the machine is that all hosts of the test are on:
        # somebody else's work makes a pause longer, and nothing makes it shorter.
        pauses = []
        for there in (second, first, second):
            with Pings(talking["ip"]) as pings:
                site.done("site.yml", nebula_vms=listed(talking=there, silent=second))
            assert port_of(talking["mac"]) == plug(there.name, "eth1")
            pauses.append(pings.longest_pause())
            if pauses[-1] <= MOST_SILENCE:
                break
        assert min(pauses) <= MOST_SILENCE, (pauses, pings.text)
