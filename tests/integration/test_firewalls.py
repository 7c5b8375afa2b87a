# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Firewalls that drop what a network needs: the real Docker, ufw, firewalld, iptables and nftables. The judge is always
a real TCP connection from a machine on the bridge, through the node, to a host beyond it and back."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from in_world import in_bare_world

from ansible_collections.nebula.provision.plugins.module_utils.network import (
    host_firewall,
    host_firewall_rules,
    host_firewall_tables,
    host_routes,
)
from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.node_namespaces import Namespace, made_namespaces, wire
from ansible_collections.nebula.provision.tests.integration.test_node_network import PRIVATE, WITH_NAT

SEED = int(os.environ.get("NEBULA_SEED", "20261120"))
WHOLE = "10.66.0.0/24"
# Keeps on until its input ends, so that a connection costs no start of a process.
SERVER = """
import socket, sys
server = socket.create_server(("192.0.2.2", 8000))
print("listening", flush=True)
while True:
    server.accept()[0].close()
"""
CLIENT = """
import socket, sys
print("ready", flush=True)
for line in sys.stdin:
    try:
        with socket.create_connection(("192.0.2.2", 8000), timeout=float(line)) as there:
            said = "through" if there.recv(1) == b"" else "odd"
    except OSError:
        said = "blocked"
    print(said, flush=True)
"""
# A node with what some firewalls write to as its own, so that they do not meet the machine's.
OWN_FILES = """
set -e
place=$1; shift
mkdir -p "$place/run" "$place/docker"
for path in /etc/ufw /etc/default/ufw /etc/firewalld; do
    cp -a "$path" "$place/$(echo $path | tr / _)"
    mount --bind "$place/$(echo $path | tr / _)" "$path"
done
mount --bind "$place/run" /run
mkdir -p /var/lib/docker /run/dbus
mount --bind "$place/docker" /var/lib/docker
exec "$@"
"""


class Place:
    """A node with a bridge and a machine on it, and a host beyond its uplink. A shell in the node's namespaces takes
    commands, so that firewalls find the files they left."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.node, self.machine, self.beyond = (Namespace(f"fw-{os.getpid()}-{n}") for n in ("n", "m", "b"))
        self.processes: list[subprocess.Popen[str]] = []

    def furnish(self) -> None:
        for space in (self.node, self.machine, self.beyond):
            subprocess.run(["ip", "netns", "add", space.name], check=True, timeout=60)
            space.run("ip", "link", "set", "lo", "up")
        wire(self.node, "uplink", self.beyond, "eth0")
        self.node.run("ip", "address", "add", "192.0.2.1/24", "dev", "uplink")
        self.node.run("ip", "route", "add", "default", "via", "192.0.2.2")
        self.beyond.run("ip", "address", "add", "192.0.2.2/24", "dev", "eth0")
        self.beyond.run("ip", "route", "add", WHOLE, "via", "192.0.2.1")
        self.node.forwarding(1)
        self.start(self.beyond.command(sys.executable, "-u", "-c", SERVER), "listening")

    def attach(self) -> None:
        """The machine onto the bridge, which is there by now; without our own module, one of the same name."""
        if self.node.link("nbr0") is None:
            self.node.run("ip", "link", "add", "nbr0", "type", "bridge")
            self.node.run("ip", "link", "set", "nbr0", "up")
            self.node.run("ip", "address", "add", "10.66.0.1/24", "dev", "nbr0")
        wire(self.node, "vnet0", self.machine, "eth0")
        self.node.run("ip", "link", "set", "vnet0", "master", "nbr0")
        self.machine.run("ip", "address", "add", "10.66.0.10/24", "dev", "eth0")
        self.machine.run("ip", "route", "add", "default", "via", "10.66.0.1")
        self.client = self.start(self.machine.command(sys.executable, "-u", "-c", CLIENT), "ready")

    def start(self, command: list[str], said: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.processes.append(process)
        assert process.stdout is not None and process.stdout.readline().strip() == said
        return process

    def through(self, seconds: float = 3.0) -> bool:
        assert self.client.stdin is not None and self.client.stdout is not None
        self.client.stdin.write(f"{seconds}\n")
        self.client.stdin.flush()
        said = self.client.stdout.readline().strip()
        assert said in ("through", "blocked")
        return said == "through"

    def close(self) -> None:
        for process in reversed(self.processes):
            process.kill()
            process.wait()
        for space in (self.node, self.machine, self.beyond):
            subprocess.run(["ip", "netns", "delete", space.name], check=False, timeout=60, capture_output=True)


@contextlib.contextmanager
def a_place() -> Iterator[Place]:
    directory = Path(os.environ["NEBULA_WORLD"], f"fw-{random.randrange(1 << 30)}")
    directory.mkdir()
    place = Place(directory)
    try:
        place.furnish()
        yield place
    finally:
        place.close()
        shutil.rmtree(directory, ignore_errors=True)


class Host:
    """The node's namespaces with files of its own: all that is run shares them, and ends with it."""

    def __init__(self, place: Place) -> None:
        self.place = place
        command = ["unshare", "--mount", "sh", "-c", OWN_FILES, "sh", str(place.directory), "sleep", "infinity"]
        self.keeper = subprocess.Popen(["ip", "netns", "exec", place.node.name, *command])
        self.daemons: list[subprocess.Popen[bytes]] = []
        docker = str(place.directory / "docker")
        wait_for(lambda: docker in self._mounts() or "/docker" in self._mounts(), "files of the node's own")

    def _mounts(self) -> str:
        return Path(f"/proc/{self.keeper.pid}/mountinfo").read_text() if self.keeper.poll() is None else ""

    def command(self, *argv: str) -> list[str]:
        return ["nsenter", f"--net=/proc/{self.keeper.pid}/ns/net", f"--mount=/proc/{self.keeper.pid}/ns/mnt", *argv]

    def run(self, script: str) -> str:
        done = subprocess.run(self.command("sh", "-ec", script), capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{script}: {done.stdout}{done.stderr}"
        return done.stdout

    def works(self, script: str) -> bool:
        return subprocess.run(self.command("sh", "-ec", script), capture_output=True, timeout=120).returncode == 0

    def daemon(self, *argv: str) -> None:
        with (self.place.directory / "log").open("ab") as log:
            self.daemons.append(subprocess.Popen(self.command(*argv), stdout=log, stderr=log))

    def close(self) -> None:
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(30)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self.keeper.kill()
        self.keeper.wait()


# What Docker 20.10 to 27 makes, by the commands it makes it with.
DOCKER = """
I -P FORWARD DROP
for chain in DOCKER DOCKER-ISOLATION-STAGE-1 DOCKER-ISOLATION-STAGE-2 DOCKER-USER; do I -N $chain; done
I -A DOCKER-USER -j RETURN
I -A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
I -A DOCKER-ISOLATION-STAGE-1 -j RETURN
I -A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
I -A DOCKER-ISOLATION-STAGE-2 -j RETURN
I -A FORWARD -j DOCKER-USER
I -A FORWARD -j DOCKER-ISOLATION-STAGE-1
I -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
I -A FORWARD -o docker0 -j DOCKER
I -A FORWARD -i docker0 ! -o docker0 -j ACCEPT
I -A FORWARD -i docker0 -o docker0 -j ACCEPT
"""


def by_commands(script: str) -> Any:
    return lambda host: host.run(script)


def dockerd(host: Host) -> None:
    # It drops what others forward where it was itself that let the host forward.
    host.place.node.forwarding(0)
    host.daemon("dockerd", "--host=unix:///run/docker.sock", "--exec-root=/run/docker", "--pidfile=/run/docker.pid")
    # It changes rules and routes until it answers.
    wait_for(lambda: host.works("docker -H unix:///run/docker.sock info"), "Docker's daemon")


def ufw(host: Host) -> None:
    host.run("ufw --force enable")


def firewalld(host: Host) -> None:
    host.daemon("dbus-daemon", "--system", "--nofork", "--nopidfile")
    wait_for(lambda: host.works("test -S /run/dbus/system_bus_socket"), "the bus")
    host.daemon("firewalld", "--nofork", "--nopid")
    wait_for(lambda: host.works("firewall-cmd --state"), "firewalld")


STRICT = """
add table inet site
add chain inet site fw { type filter hook forward priority 10; }
add chain inet site strict
add rule inet site fw ct state established accept
add rule inet site fw jump strict
add rule inet site strict iifname != lo counter drop comment "mine"
"""
FIREWALLS = {
    "docker by nftables": (
        by_commands(f"I() {{ iptables-nft \"$@\"; }}\n{DOCKER}"),
        "iptables-nft table ip filter, chain FORWARD, policy drop",
    ),
    "docker by iptables-legacy": (
        by_commands(f"I() {{ iptables-legacy \"$@\"; }}\n{DOCKER}"),
        "iptables-legacy table filter, chain FORWARD, policy drop",
    ),
    "dockerd": (dockerd, "iptables-nft table ip filter, chain FORWARD, policy drop"),
    "ufw": (ufw, "iptables-nft table ip filter, chain FORWARD, policy drop"),
    "firewalld": (
        firewalld,
        "nft table inet firewalld, chain filter_FWD_public, rule `reject with icmpx admin-prohibited`",
    ),
    "a rule of nftables": (
        by_commands(f"nft -f - <<'END'\n{STRICT}END"),
        'nft table inet site, chain strict, rule `iifname != "lo" counter drop comment "mine"`',
    ),
}  # fmt: skip


def commands_of(said: str) -> str:
    found = re.search(r"To let it through: (.*?) \(keep it", said)
    assert found, said
    return found[1]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", sorted(FIREWALLS))
@in_bare_world
def test_a_firewall_in_the_way(name: str) -> None:
    """Named with chain and rule and nothing made; its own commands let the machine through, and then it is made."""
    begin, place_named = FIREWALLS[name]
    if name in ("dockerd", "firewalld") and not shutil.which(name):
        pytest.skip(f"{name} is not here: requirements/firewalls.txt")
    with a_place() as place:
        host = Host(place)
        try:
            begin(host)
            said = place.node.refused(WITH_NAT)
            assert "network Public: forwarding: a firewall of the host is in the way: " in said
            assert place_named in said
            assert "what machines of nbr0 send" in said
            assert "nebula_ignore_forward_drop: true" in said
            assert place.node.link("nbr0") is None

            ignored = place.node.ok(WITH_NAT, ignore_forward_drop=True)
            assert place_named in str(ignored["warnings"])
            place.attach()
            assert not place.through(1.0)

            before = host.run("nft list ruleset; iptables-legacy-save 2>/dev/null || :")
            # What is there already is no reason to be silent: it does not work.
            again = place.node.module(WITH_NAT)
            assert again["failed"] and not again.get("changed") and place_named in again["msg"]
            host.run(commands_of(said))
            assert host.run("nft list ruleset; iptables-legacy-save 2>/dev/null || :") != before
            assert "warnings" not in place.node.ok(WITH_NAT)
            assert place.through()
        finally:
            host.close()


# -- the evaluation against the kernel's -----------------------------------------------------------------------------
SHAPES = {
    # Rules as an administrator writes them, in table t, and whether machines get through.
    "policy drop, both ways accepted": (
        """
        add chain ip t f { type filter hook forward priority 0; policy drop; }
        add rule ip t f iifname nbr0 accept
        add rule ip t f oifname nbr0 ct state established accept
        """,
        True,
    ),
    "only the way out": (
        """
        add chain ip t f { type filter hook forward priority 0; policy drop; }
        add rule ip t f iifname nbr0 accept
        """,
        False,
    ),
    "a verdict map": (
        """
        add chain inet t f { type filter hook forward priority 0; policy drop; }
        add rule inet t f ct state vmap { established : accept, related : accept, invalid : drop }
        add rule inet t f iifname vmap { lo : accept, nbr0 : accept }
        """,
        True,
    ),
    "a verdict map with a hole": (
        """
        add chain inet t f { type filter hook forward priority 0; policy drop; }
        add rule inet t f ct state vmap { established : accept }
        add rule inet t f iifname vmap { lo : accept, nbr1 : accept }
        """,
        False,
    ),
    "ICMP alone": (
        """
        add chain inet t f { type filter hook forward priority 0; policy drop; }
        add rule inet t f ct state established accept
        add rule inet t f meta l4proto icmp accept
        """,
        False,
    ),
    "Kubernetes' mark": (
        """
        add chain ip t f { type filter hook forward priority 0; policy drop; }
        add rule ip t f meta mark & 0x4000 == 0x4000 accept
        """,
        False,
    ),
    "a set of interfaces": (
        """
        add chain inet t f { type filter hook forward priority 0; }
        add rule inet t f iifname { nbr0, nbr1 } oifname "up*" drop
        """,
        False,
    ),
    "another's subnet": (
        """
        add chain ip t f { type filter hook forward priority 0; }
        add rule ip t f ip saddr 192.168.122.0/24 drop
        add rule ip t f ip daddr { 10.67.0.0/16, 10.66.1.0/24 } drop
        """,
        True,
    ),
    "our subnet within a range": (
        """
        add chain ip t f { type filter hook forward priority 0; }
        add rule ip t f ip saddr 10.60.0.0-10.70.255.255 drop
        """,
        False,
    ),
    "an earlier chain accepts, a later drops": (
        """
        add chain inet t a { type filter hook forward priority -10; }
        add rule inet t a accept
        add chain inet t b { type filter hook forward priority 10; policy drop; }
        """,
        False,
    ),
    "IPv6 is rejected": (
        """
        add chain inet t f { type filter hook forward priority 0; }
        add rule inet t f meta nfproto ipv6 reject
        add rule inet t f meta nfproto ipv6 reject with icmpv6 type no-route
        """,
        True,
    ),
    "IPv4 is rejected": (
        """
        add chain inet t f { type filter hook forward priority 0; }
        add rule inet t f meta nfproto ipv4 reject
        """,
        False,
    ),
    "TCP of IPv6 is reset": (
        """
        add chain inet t f { type filter hook forward priority 0; }
        add rule inet t f meta nfproto ipv6 meta l4proto tcp reject with tcp reset
        """,
        True,
    ),
    "TCP is reset and the rest rejected": (
        """
        add chain inet t f { type filter hook forward priority 0; }
        add rule inet t f meta l4proto tcp reject with tcp reset
        add rule inet t f reject
        """,
        False,
    ),
    "TCP of IPv4 alone is reset": (
        """
        add chain ip t f { type filter hook forward priority 0; }
        add rule ip t f meta l4proto tcp reject with tcp reset
        """,
        False,
    ),
    "who speaks IPv6 is noted and dropped": (
        """
        add set inet t s { type ipv6_addr; flags dynamic; }
        add chain inet t f { type filter hook forward priority 0; }
        add rule inet t f meta nfproto ipv6 add @s { ip6 saddr } drop
        """,
        True,
    ),
    "who speaks IPv4 is noted and dropped": (
        """
        add set inet t s { type ipv4_addr; flags dynamic; }
        add chain inet t f { type filter hook forward priority 0; }
        add rule inet t f meta nfproto ipv4 add @s { ip saddr } drop
        """,
        False,
    ),
    "IPv6's hops are set": (
        """
        add chain inet t f { type filter hook forward priority 0; }
        add rule inet t f ip6 hoplimit set 64 drop
        """,
        True,
    ),
    "extension headers of IPv6 alone are accepted": (
        """
        add chain inet t f { type filter hook forward priority 0; policy drop; }
        add rule inet t f exthdr frag exists accept
        """,
        False,
    ),
    "dropped after it is routed": (
        """
        add chain inet t f { type filter hook postrouting priority 0; }
        add rule inet t f oifname uplink drop
        """,
        False,
    ),
    "IPv6 is rejected before it is routed": (
        """
        add chain inet t f { type filter hook prerouting priority 0; }
        add rule inet t f meta nfproto ipv6 drop
        """,
        True,
    ),
    "goto does not come back": (
        """
        add chain ip t g
        add chain ip t f { type filter hook forward priority 0; policy drop; }
        add rule ip t g iifname lo accept
        add rule ip t f goto g
        add rule ip t f accept
        """,
        False,
    ),
    "return comes back": (
        """
        add chain ip t g
        add chain ip t f { type filter hook forward priority 0; policy drop; }
        add rule ip t g return
        add rule ip t g drop
        add rule ip t f jump g
        add rule ip t f accept
        """,
        True,
    ),
}


def blocked(place: Place) -> list[str]:
    """What the firewall of this place is said to do to the machine, in the node's network namespace."""
    said = subprocess.run(
        place.node.command(sys.executable, "-c", "import test_firewalls as t; t.tell()"),
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    return said.stdout.splitlines()


def tell() -> None:
    for drop in found():
        print(drop.place)


def found() -> list[host_firewall.Drop]:
    from ipaddress import IPv4Network

    # The judge is TCP.
    kinds = host_firewall.routed_packets(
        "nbr0", IPv4Network(WHOLE), host_routes.default_route_device(host_routes.observe())
    )
    tcp = [packets for packets in kinds if packets.protocol == host_firewall_rules.TCP]
    return host_firewall.find_drops(host_firewall_tables.observe("ours"), tcp)


@pytest.mark.timeout(600)
@in_bare_world
def test_rules_mean_what_the_kernel_makes_of_them() -> None:
    with a_place() as place:
        place.attach()
        assert place.through() and not blocked(place)
        for name, (rules, passes) in SHAPES.items():
            family = rules.split(" t ")[0].split()[-1]
            assert put(place, "nft", f"add table {family} t\n{rules}"), name
            assert place.through(3.0 if passes else 0.5) is passes, f"the test itself is wrong: {name}"
            assert (not blocked(place)) is passes, name
            place.node.run("nft", "flush", "ruleset")
        assert place.through()


CONDITIONS = {
    "nft": [
        "iifname nbr0", "iifname != nbr0", "oifname nbr0", "oifname != nbr0", 'iifname "nb*"', "iifname { lo, uplink }",
        "oifname uplink", "ct state new", "ct state established", "ct state { established, related }",
        "ct state != established", "ip saddr 10.66.0.0/24", "ip saddr != 10.66.0.0/16", "ip daddr 10.66.0.0/24",
        "ip saddr 10.99.0.0/16", "meta l4proto tcp", "meta l4proto { udp, icmp }", "meta mark 0x7", "meta mark 0",
        "meta nfproto ipv4", "ct status dnat", "counter", "meta mark & 0x10 == 0x10", "ip protocol udp",
    ],
    "iptables": [
        "-i nbr0", "! -i nbr0", "-o nbr0", "! -o nbr0", "-i nb+", "-o uplink", "-i docker0",
        "-m conntrack --ctstate NEW", "-m conntrack --ctstate RELATED,ESTABLISHED", "-m state --state ESTABLISHED",
        "-m conntrack ! --ctstate ESTABLISHED", "-s 10.66.0.0/24", "! -s 10.66.0.0/16", "-d 10.66.0.0/24",
        "-s 10.99.0.0/16", "-p tcp", "-p udp", "! -p icmp", "-m mark --mark 0x7", "-m mark ! --mark 0x4/0x4",
        "-m comment --comment 'a -j DROP in words'", "-m physdev ! --physdev-is-bridged",
    ],
}  # fmt: skip
# What some packets meet and others do not: then nothing may be said to be blocked that gets through.
UNSURE = {
    "nft": ["tcp dport 8000", "tcp dport 22", "ip daddr 192.0.2.2", "ip daddr 198.51.100.7", "limit rate 1/day"],
    "iptables": ["-p tcp --dport 8000", "-p tcp --dport 22", "-d 192.0.2.2", "-m addrtype --dst-type LOCAL"],
}


def random_rules(chance: random.Random, tool: str, sure: bool) -> str:
    """A script that makes chains f (the kernel's), g and h with rules; f calls g and h, g calls h."""
    kind = "nft" if tool == "nft" else "iptables"
    conditions = CONDITIONS[kind] + ([] if sure else UNSURE[kind] * 2)
    policy = chance.choice(["accept", "drop"])
    lines = []
    if kind == "nft":
        family = chance.choice(["ip", "inet"])
        lines += [f"add table {family} t", f"add chain {family} t h", f"add chain {family} t g"]
        lines += [f"add chain {family} t f {{ type filter hook forward priority 0; policy {policy}; }}"]
    else:
        lines += [f"{tool} -w -P FORWARD {policy.upper()}", f"{tool} -w -N g", f"{tool} -w -N h"]
    for chain, below in (("h", []), ("g", ["h"]), ("f", ["g", "h"])):
        for _ in range(chance.randint(1, 4)):
            verdicts = ["accept", "drop", "return", *(f"{how} {name}" for name in below for how in ("jump", "goto"))]
            verdict = chance.choice(verdicts)
            chosen = " ".join(chance.sample(conditions, chance.choice([0, 1, 1, 2])))
            if kind == "nft":
                lines.append(f"add rule {family} t {chain} {chosen} {verdict}")
                continue
            how, _blank, name = verdict.partition(" ")
            target = f"-{how[0]} {name}" if name else f"-j {how.upper()}"
            lines.append(f"{tool} -w -A {'FORWARD' if chain == 'f' else chain} {chosen} {target}")
    return "\n".join(lines) + "\n"


def put(place: Place, tool: str, script: str) -> bool:
    """False: the tool itself does not take what chance made (-p udp -p tcp)."""
    command = ["nft", "-f", "-"] if tool == "nft" else ["sh", "-e"]
    done = subprocess.run(place.node.command(*command), input=script, capture_output=True, text=True, timeout=60)
    return done.returncode == 0


def clear(place: Place, tool: str) -> None:
    place.node.run("nft", "flush", "ruleset")
    if tool == "iptables-legacy":
        place.node.run("sh", "-c", "iptables-legacy -P FORWARD ACCEPT; iptables-legacy -F; iptables-legacy -X")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("tool", ["nft", "iptables-nft", "iptables-legacy"])
def test_rules_made_by_chance_against_the_kernel(tool: str) -> None:
    told = by_chance(tool=tool, count=int(os.environ.get("NEBULA_RULESETS", "12")))
    assert min(told["through"], told["blocked"]) >= 1, told


@in_bare_world
def by_chance(tool: str, count: int) -> dict[str, int]:
    chance = random.Random(f"{SEED} {tool}")
    told = {"through": 0, "blocked": 0, "unsure": 0}
    with a_place() as place:
        place.attach()
        while sum(told.values()) < count:
            sure = chance.random() < 0.7
            script = random_rules(chance, tool, sure)
            if put(place, tool, script):
                drops = blocked(place)
                through = place.through(0.3) or (not drops and place.through(3.0))
                assert not (drops and through), f"said to be blocked, and is not: {drops}\n{script}"
                assert through or drops or not sure, f"said to get through, and does not:\n{script}"
                told["through" if through else "blocked" if drops else "unsure"] += 1
            clear(place, tool)
    return told


# -- on one bridge ---------------------------------------------------------------------------------------------------
@pytest.mark.timeout(600)
@in_bare_world
def test_machines_of_one_network_that_are_kept_apart() -> None:
    """Where the kernel shows iptables what bridges forward, and in nftables' own tables for bridges."""
    with a_place() as place:
        node = place.node
        setting = "/proc/sys/net/bridge/bridge-nf-call-iptables"
        if not Path(setting).exists():
            pytest.skip("this kernel has no br_netfilter")
        node.run("iptables-nft", "-P", "FORWARD", "DROP")
        node.run("sh", "-c", f"echo 1 > {setting}")
        said = node.refused(PRIVATE)
        assert "which drops what machines of nbr0 send each other" in said
        assert "iptables-nft -I FORWARD -i nbr0 -o nbr0 -j ACCEPT" in said
        node.run("sh", "-c", f"echo 0 > {setting}")
        node.ok(PRIVATE)
        node.ok(PRIVATE, state="absent")
        node.run("sh", "-c", f"echo 1 > {setting}")
        node.run("iptables-nft", "-I", "FORWARD", "-i", "nbr0", "-o", "nbr0", "-j", "ACCEPT")
        node.ok(PRIVATE)
        node.ok(PRIVATE, state="absent")
        node.run("nft", "flush ruleset; add table bridge b")
        node.run("nft", "add chain bridge b f { type filter hook forward priority 0; policy drop; }")
        said = node.refused(PRIVATE)
        assert "nft table bridge b, chain f, policy drop, which drops what machines of nbr0 send each" in said
        assert commands_of(said) == "nft insert rule bridge b f meta ibrname nbr0 accept"
        # Not every kernel has the match that this command needs.
        node.run("nft", "insert rule bridge b f accept")
        assert "warnings" not in node.ok(PRIVATE)


IPV6 = {**PRIVATE, "address_ranges": [{**PRIVATE["address_ranges"][0], "type": "IP4_6", "global_prefix": "2001:db8::"}]}
# Whose packets a rule drops, the switch by which it sees what is bridged, and the rule.
BETWEEN = {
    "raw": (4, "iptables-nft -t raw -A PREROUTING -i nbr0 -j DROP"),
    "mangle, before": (4, "iptables-nft -t mangle -A PREROUTING -j DROP"),
    "mangle, after": (4, "iptables-nft -t mangle -A POSTROUTING -o nbr0 -j DROP"),
    "mangle, between": (4, "iptables-nft -t mangle -P FORWARD DROP"),
    "raw of IPv6": (6, "ip6tables-nft -t raw -P PREROUTING DROP"),
    "mangle of IPv6": (6, "ip6tables-nft -t mangle -A POSTROUTING -j DROP"),
    "filter of IPv6": (6, "ip6tables-nft -P FORWARD DROP"),
    "older interface": (4, "iptables-legacy -t raw -A PREROUTING -j DROP"),
    "older interface of IPv6": (6, "ip6tables-legacy -P FORWARD DROP"),
    "nftables": (
        6,
        "nft add table ip6 t; add chain ip6 t c { type filter hook prerouting priority -300; policy drop; }",
    ),
}


@pytest.mark.timeout(300)
@in_bare_world
def test_what_drops_between_machines_in_either_family_and_any_table_is_found() -> None:
    """The judge is a ping between two machines on a bridge without NAT."""
    with made_namespaces() as make:
        if not Path("/proc/sys/net/bridge/bridge-nf-call-ip6tables").exists():
            pytest.skip("this kernel has no br_netfilter")
        for what, (family, rule) in BETWEEN.items():
            node, machines = make(), [make(), make()]
            switch = f"/proc/sys/net/bridge/bridge-nf-call-ip{'6' if family == 6 else ''}tables"
            node.ok(IPV6)
            for number, machine in enumerate(machines):
                wire(node, f"vnet{number}", machine, "eth0")
                node.run("ip", "link", "set", f"vnet{number}", "master", "nbr0")
                machine.run("ip", "address", "add", f"10.66.0.1{number}/24", "dev", "eth0")
                machine.run("ip", "address", "add", f"2001:db8::1{number}/64", "dev", "eth0", "nodad")
            target = "10.66.0.11" if family == 4 else "2001:db8::11"

            argv = machines[0].command("ping", "-c", "1", "-W", "0.3", target)
            assert succeeds(argv, 40), what
            assert "warnings" not in node.ok(IPV6)
            node.run("sh", "-c", f"echo 1 > {switch}")
            command = f"nft '{rule[4:]}'" if rule.startswith("nft ") else rule
            node.run("sh", "-c", command)
            assert not succeeds(argv), what
            # The bridge is there: whoever had it before this was looked for keeps it.
            asked = node.module(IPV6)
            said = asked.get("msg") or str(asked.get("warnings"))
            assert "which drops what machines of nbr0 send each other" in said, (what, asked)
            if what != "mangle, between":
                assert not asked.get("failed"), (what, asked)
            remedy = re.search(r"To let it through: (.*?) \(keep it", said)
            assert remedy is not None, said
            node.run("sh", "-c", remedy[1])
            assert succeeds(argv, 6), (what, remedy[1])
            assert "warnings" not in node.ok(IPV6), what
            # Without IPv6 its rules do not matter.
            if family == 6:
                node.run("sh", "-c", command)
            # A new network is refused.
            for number in range(2):
                node.run("ip", "link", "delete", f"vnet{number}")
            node.ok(IPV6, state="absent")
            node.run("sh", "-c", "nft flush ruleset")
            if "legacy" not in rule:
                node.run("sh", "-c", command)
                assert "which drops what machines of nbr0 send each other" in node.refused(IPV6), what
                if family == 6:
                    node.ok(PRIVATE)


def succeeds(argv: list[str], times: int = 1) -> bool:
    return any(subprocess.run(argv, capture_output=True).returncode == 0 for _try in range(times))


# What else machines need than TCP: the family of the ping that is the judge, the rules, what is said to be dropped, and
# whether a network is refused for it that is not there yet.
EACH = "which drops what machines of nbr0 send each other"
OTHERS = {
    "neighbour discovery": (
        6,
        """
        for kind in tcp udp "icmpv6 --icmpv6-type 128" "icmpv6 --icmpv6-type 129"; do
            ip6tables-nft -A FORWARD -p $kind -j ACCEPT
        done
        ip6tables-nft -P FORWARD DROP
        """,
        f"policy drop, {EACH} by IPv6 (neighbour discovery). To",
        True,
    ),
    "who answers": (
        6,
        """
        nft add table inet t
        nft 'add chain inet t c { type filter hook forward priority 0; }'
        nft add rule inet t c icmpv6 type nd-neighbor-advert drop
        """,
        f"{EACH} by IPv6 (neighbour discovery). To",
        True,
    ),
    "ping": (4, "iptables-nft -A FORWARD -p icmp -j DROP", f"-p icmp -j DROP`, {EACH} (ping). To", False),
    "interface": (
        4,
        """
        nft add table netdev t
        nft 'add chain netdev t c { type filter hook ingress device vnet1 priority 0; policy drop; }'
        """,
        f"nft table netdev t, chain c, of vnet1, policy drop, {EACH}, what",
        None,
    ),
    "interfaces": (
        6,
        """
        nft add table netdev t
        nft 'add chain netdev t c { type filter hook egress devices = { vnet0, vnet1 } priority 0; }'
        nft add rule netdev t c meta protocol ip6 drop
        """,
        f"nft table netdev t, chain c, of vnet0, vnet1, rule `meta protocol ip6 drop`, {EACH} by IPv6. To",
        None,
    ),
    "ARP": (
        4,
        """
        nft add table bridge t
        nft 'add chain bridge t c { type filter hook forward priority 0; policy drop; }'
        nft 'add rule bridge t c ether type { ip, ip6 } accept'
        """,
        f"policy drop, {EACH} (ARP). To",
        True,
    ),
}


def warning_of(result: Mapping[str, Any]) -> str:
    """The only one; ansible-core has written them in two ways."""
    (warning,) = result["warnings"]
    return str(warning if isinstance(warning, str) else warning["event"]["msg"])


@pytest.mark.timeout(300)
@in_bare_world
def test_what_machines_need_besides_tcp_is_looked_for() -> None:
    with made_namespaces() as make:
        if not Path("/proc/sys/net/bridge/bridge-nf-call-ip6tables").exists():
            pytest.skip("this kernel has no br_netfilter")
        for what, (family, rules, words, refused) in OTHERS.items():
            node, machines = make(), [make(), make()]
            node.ok(IPV6)
            for number, machine in enumerate(machines):
                wire(node, f"vnet{number}", machine, "eth0")
                node.run("ip", "link", "set", f"vnet{number}", "master", "nbr0")
                machine.run("ip", "address", "add", f"10.66.0.1{number}/24", "dev", "eth0")
                machine.run("ip", "address", "add", f"2001:db8::1{number}/64", "dev", "eth0", "nodad")
            for kind in ("ip", "ip6"):
                node.run("sh", "-c", f"echo 1 > /proc/sys/net/bridge/bridge-nf-call-{kind}tables")

            def pings(times: int, source: Namespace = machines[0], six: bool = family == 6) -> bool:
                # Nobody knows anybody from before.
                source.run("ip", "neigh", "flush", "all")
                target = "2001:db8::11" if six else "10.66.0.11"
                return succeeds(source.command("ping", "-c", "1", "-W", "0.5", target), times)

            assert pings(40), what
            assert "warnings" not in node.ok(IPV6), what
            node.run("sh", "-c", rules)
            assert not pings(1), what
            # The bridge is there: whoever had it before this was looked for keeps it.
            said = warning_of(node.ok(IPV6))
            assert words in said, (what, said)
            # Not every kernel has the match that the command for a table of bridges needs.
            command = "nft insert rule bridge t c accept" if what == "ARP" else commands_of(said)
            node.run("sh", "-c", command)
            assert pings(6), (what, command)
            assert "warnings" not in node.ok(IPV6), what
            for number in range(2):
                node.run("ip", "link", "delete", f"vnet{number}")
            node.ok(IPV6, state="absent")
            if refused is not None:
                node.run("sh", "-c", f"nft flush ruleset; {rules}")
                done = node.module(IPV6)
                assert bool(done.get("failed")) is refused, (what, done)
                told = done["msg"] if refused else warning_of(done)
                assert words in told, (what, told)


@in_bare_world
def test_a_rule_is_read_and_never_changed() -> None:
    """No table appears by asking, in particular none of iptables-legacy, whose very listing makes them."""
    with a_place() as place:
        assert blocked(place) == []
        assert place.node.run("nft", "list", "ruleset") == ""
        assert place.node.run("sh", "-c", "cat /proc/net/ip_tables_names") == ""
