# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The interface with a node's own addresses as the port of a bridge: the real module in network namespaces made here,
and ssh over that very interface (last test)."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.network.host_address_move import PLACE
from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.node_namespaces import (
    CATALOG,
    TABLE,
    made_namespaces,
    network,
    wire,
)

pytestmark = pytest.mark.root

BRIDGE = f"nbf{os.getpid() % 100000}"


def forced(bridge=BRIDGE, **attributes):
    values = {"PHYDEV": "eth0", "PHYDEV_FORCED": "YES", "NODE_ACCESS": "all", **attributes}
    return network("Lan", 1, bridge, attributes={key: value for key, value in values.items() if value})


@pytest.fixture
def site():
    """A node with addresses and routes on eth0, and the host at its other end."""
    with made_namespaces() as make:
        node, other = make(), make()
        wire(other, "eth0", node, "eth0")
        other.run("ip", "address", "add", "192.0.2.254/24", "dev", "eth0")
        other.run("ip", "-6", "address", "add", "2001:db8:9::254/64", "dev", "eth0", "nodad")
        for words in (
            "address add 192.0.2.1/24 dev eth0 broadcast +",
            "address add 198.51.100.7/32 dev eth0",
            "-6 address add 2001:db8:9::1/64 dev eth0 nodad",
            "route add 203.0.113.9 dev eth0 proto static",
            "route add default via 192.0.2.254 proto static metric 5",
            "route add 203.0.113.64/26 via 192.0.2.253 src 198.51.100.7 table 33",
            "-6 route add default via 2001:db8:9::254",
        ):
            node.run("ip", *words.split())
        yield node, other


def places(node):
    """Where the node has its addresses, and its routes by any interface."""
    addresses = {
        link["ifname"]: sorted(f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a["scope"] != "link")
        for link in node.show("address")
        if link["ifname"] != "lo"
    }
    routes = [
        sorted(line.strip() for line in node.run("ip", family, "route", "show", "table", "all").splitlines())
        for family in ("-4", "-6")
    ]
    return addresses, [[line for line in lines if "fe80::" not in line and "ff00::" not in line] for lines in routes]


def reached(other, address="192.0.2.1"):
    words = ("ping", "-c", "1", "-W", "1", address)
    return subprocess.run(other.command(*words), capture_output=True, timeout=60, check=False).returncode == 0


def waiting():
    """The processes that would put addresses back."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and f"{PLACE}/{BRIDGE}".encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def test_addresses_and_routes_move_and_come_back(site):
    node, other = site
    before, there = places(node), node.snapshot()
    predicted = node.ok(forced(), check=True)
    made = node.ok(forced())
    assert predicted["diff"] == made["diff"] and made["moved"] == [BRIDGE] and waiting()
    after = places(node)
    assert after[0] == {"eth0": [], BRIDGE: before[0]["eth0"]}
    assert after[1] == [[line.replace("dev eth0", f"dev {BRIDGE}") for line in lines] for lines in before[1]]
    assert reached(other) and reached(other, "2001:db8:9::1")
    # The second word: nothing of the program stays, and nothing changes any more.
    node.ok(state="kept", moved=[BRIDGE])
    assert not waiting() and not os.path.exists(f"{PLACE}/{BRIDGE}")
    again = node.ok(forced())
    assert not again["changed"] and again["moved"] == [] and places(node) == after
    # A machine on the bridge is where the node is.
    node.port("vnet0", BRIDGE)
    assert "ip daddr 169.254.0.0/16 drop" in node.run("nft", "list", "table", "inet", TABLE)
    assert "vnet0" in node.module(state="absent")["msg"] and places(node)[0][BRIDGE]
    node.run("ip", "link", "delete", "vnet0")
    node.ok(state="absent")
    assert places(node) == before and node.snapshot() == there and reached(other)


def test_without_a_second_word_the_node_puts_everything_back(site):
    node, other = site
    before, there = places(node), node.snapshot()
    node.ok(forced())
    # As after a minute.
    Path(PLACE, BRIDGE, "at-once").touch()
    wait_for(lambda: not waiting(), "the end of those that would put addresses back", 15)
    assert places(node) == before and node.snapshot() == there and reached(other)
    late = node.module(state="kept", moved=[BRIDGE])
    assert late["failed"] and "no second word came within 60 s" in late["msg"]
    assert not os.path.exists(f"{PLACE}/{BRIDGE}")
    # And what was there of the network, without the interface, is there again.
    node.ok(network("Lan", 1, BRIDGE, attributes={}))
    there = node.snapshot()
    node.ok(forced())
    Path(PLACE, BRIDGE, "at-once").touch()
    wait_for(lambda: not waiting(), "the end of those that would put addresses back", 15)
    assert node.snapshot() == there and places(node)[0] == {**before[0], BRIDGE: []}
    assert not node.ok(network("Lan", 1, BRIDGE, attributes={}))["changed"]
    node.ok(state="absent")
    assert places(node) == before


def test_what_fails_midway_is_put_back_at_once(site, tmp_path):
    node, other = site
    before, there = places(node), node.snapshot()
    # An `ip` that does not make it a port.
    shutil.copy(shutil.which("ip"), tmp_path / "real")
    fake = tmp_path / "ip"
    fake.write_text(
        f'#!/bin/sh\ncase "$*" in "-batch -") ;; *) exec {tmp_path}/real "$@" ;; esac\n'
        f'text=$(cat); case "$text" in *"master {BRIDGE}"*) exit 1 ;; esac\n'
        f'printf "%s\\n" "$text" | {tmp_path}/real "$@"\n'
    )
    fake.chmod(0o755)
    failed = node.module(forced(), instead={os.path.realpath(shutil.which("ip")): str(fake)})
    assert failed["failed"] and "-batch" in failed["msg"], failed
    assert places(node) == before and node.snapshot() == there and reached(other) and not waiting()


def test_what_would_not_stay_is_refused(site):
    node, _other = site
    plain = forced(PHYDEV_FORCED="", NODE_ACCESS="")
    assert "phydev_forced: true moves the addresses to the bridge" in node.refused(plain)
    node.run("ip", "address", "add", "192.0.2.77/24", "dev", "eth0", "valid_lft", "900", "preferred_lft", "900")
    assert "eth0 has 192.0.2.77/24 for a while only" in node.refused(forced())
    node.run("ip", "address", "delete", "192.0.2.77/24", "dev", "eth0")
    node.ok(forced())
    node.ok(state="kept", moved=[BRIDGE])
    message = node.refused(plain)
    assert f"{BRIDGE} has the host's own addresses, which came with eth0" in message and "Remove the network" in message
    node.ok(network("Lan", 1, BRIDGE, state="DONE"))
    assert CATALOG not in node.run("ip", "-details", "link", "show")
