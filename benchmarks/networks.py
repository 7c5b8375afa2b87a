# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses of a very large network, and hundreds of VXLAN bridges, beside one `ip -batch` and loops of tasks.

Each round has a network namespace of its own, in which nothing of the round before is.

Of the bridges, the row with a target has on our side all that the call behind nebula_node_network does with its
arguments on a node: look at what is there, decide, make it. On the other side is one `ip -batch` for all links with
what makes the same of them: before they are up, `sysctl` sets what the kernel is to take from them (eight values for
each network), and `nft` loads the rules that keep their machines from the node. Without these the links are up sooner,
and open to everybody. Another row has the links alone, by one `ip -batch` and nothing else.

Ansible's own part of a module call is the same for no network as for hundreds: Python, its imports and ours. It has a
row of its own, and is in that of the whole call.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

from measure import MeasurementFailed, Row, run, take_turns
from payload import Payload, payloads, result
from setting import CHECKOUT, SYSTEM_PYTHON, playbook, world

sys.path.insert(0, str(CHECKOUT / "collections"))

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.model.lease import LeaseRequest
from ansible_collections.nebula.provision.plugins.module_utils.model.network import NEW_AR, AddressRange, Network

LEASES, LARGE, SMALL, MOST_TIMES_LEASES = 1000, 1_000_000, 1000, 1.2
# As large as a static range of IPv6 can be.
LARGEST = 1 << 32
BRIDGES, MOST_TIMES, LEAST_TIMES = 200, 1.3, 5
# Of nftables, for each of them.
RULES = 5
# Of the loop, so many are made; it takes the same for each, and what it takes for all of them is reckoned from these.
LOOPED = 5
# Tenths of a second, of which a busy moment of the machine makes half of one.
ROUNDS = 15
# Hundredths of a second, most of them for the disk.
ROUNDS_LEASES = 31
MODULE = "nebula.provision.nebula_node_network"
CATALOG, NAMESPACE = "00000000-0000-4000-8000-000000000098", "nebula-bench"


# --- addresses --------------------------------------------------------------------------------------------------------
def leases(size: int, static: bool = False) -> float:
    """Seconds for LEASES addresses of a new network of that size, until the catalog has them. static: of IPv6."""
    with (
        tempfile.TemporaryDirectory(dir=world()) as root,
        contextlib.closing(EmbeddedEngine(root, create=True)) as engine,
    ):
        with engine.session():
            wide = AddressRange(NEW_AR, "IP4", size, ip="10.64.0.10")
            if static:
                wide = AddressRange(NEW_AR, "IP6_STATIC", size, ip6="2001:db8::10", prefix_length=64)
            network = engine.networks.allocate(Network(None, "wide", bridge="br0", address_ranges=(wide,)))
            engine.store.db.executemany(
                "INSERT INTO vms (id, name, uuid, state, lcm_state, wanted, cpu, memory, request, body, stime)"
                " VALUES (?, ?, ?, 3, 3, 'RUNNING', 1, 1, '', '', 0)",
                [(number, f"vm-{number}", str(number)) for number in range(LEASES)],
            )
        requests = [LeaseRequest(network.id, number, 0) for number in range(LEASES)]
        start = time.perf_counter()
        with engine.session():
            found = engine.networks.leases.lease(requests)
        seconds = time.perf_counter() - start
    if len({lease.ip6 if static else lease.ip for lease in found}) != LEASES:
        raise MeasurementFailed(f"{LEASES} addresses were to be leased, {len(found)} were")
    return seconds


# --- bridges ----------------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def namespace() -> Iterator[list[str]]:
    """What a command begins with that runs in a namespace with an interface eth2, which has an address."""
    run(["ip", "netns", "add", NAMESPACE])
    inside = ["ip", "netns", "exec", NAMESPACE]
    try:
        for command in (
            "link set lo up",
            "link add eth2 type veth peer name far",
            "address add 192.0.2.1/24 dev eth2",
            "link set eth2 up",
            "link set far up",
        ):
            run([*inside, "ip", *command.split()])
        yield inside
    finally:
        run(["ip", "netns", "delete", NAMESPACE])


def networks(count: int = BRIDGES) -> list[dict[str, Any]]:
    """As nebula_network returns them."""
    return [
        {
            "id": number,
            "uuid": f"00000000-0000-4000-8000-{number:012d}",
            "name": f"net{number}",
            "bridge": f"nbr{number}",
            "vn_mad": "vxlan",
            "nat": False,
            "state": "READY",
            "attributes": {"PHYDEV": "eth2", "VLAN_ID": str(number)},
            "address_ranges": [],
        }
        for number in range(1, count + 1)
    ]


def expect(inside: Sequence[str], count: int = BRIDGES) -> None:
    """The end state is the same, whoever made it."""
    links = json.loads(run([*inside, "ip", "-json", "-details", "link", "show", "type", "vxlan"]).output)
    made = [each for each in links if each.get("master", "").startswith("nbr") and "UP" in each["flags"]]
    marked = [each for each in made if each.get("ifalias", "").startswith("nebula:")]
    if len(made) != count or len(marked) != count:
        raise MeasurementFailed(f"{count} VXLAN devices were to be ports of bridges, {len(made)} are")


CALL = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
from ansible_collections.nebula.provision.plugins.module_utils.calls.node_network import ARGUMENTS, run
given = json.load(sys.stdin)
params = {name: option.get("default") for name, option in ARGUMENTS["argument_spec"].items()}
start = time.perf_counter()
done = run({**params, **given}, False)
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "links": len(done.payload["links"]), "errors": len(done.errors)}))
"""


def arguments() -> dict[str, Any]:
    return {"networks": networks(), "catalog": CATALOG, "root": str(world() / "networks")}


def call() -> float:
    """Seconds for what the module does with its arguments, in a process of the target's Python."""
    given = world() / "networks-call.json"
    given.write_text(json.dumps(arguments()), encoding="utf-8")
    program = 'exec "$0" -c "$1" "$2" <"$3"'
    with namespace() as inside:
        done = run([*inside, "sh", "-c", program, SYSTEM_PYTHON, CALL, CHECKOUT / "collections", given])
        expect(inside)
        expect_closed(inside)
    found = json.loads(done.output)
    if (found["links"], found["errors"]) != (BRIDGES, 0):
        raise MeasurementFailed(f"{BRIDGES} bridges were to be made, {found['links']} were")
    return float(found["seconds"])


def start(payload: Payload) -> float:
    """Seconds of a call that has nothing to do, nor to look at."""
    file = world() / "networks-start.py"
    file.write_text(payload.with_arguments({**arguments(), "networks": [], "state": "kept", "moved": []}))
    with namespace() as inside:
        return run([*inside, SYSTEM_PYTHON, file]).seconds


def expect_closed(inside: Sequence[str]) -> None:
    """Nothing comes in by these bridges, whoever made them."""
    wanted = [setting.split("=") for setting in settings()]
    values = run([*inside, "cat", *(f"/proc/sys/{path}" for path, _value in wanted)]).output.split()
    loaded = run([*inside, "nft", "list", "ruleset"]).output.count(" drop comment ")
    if values != [value for _path, value in wanted] or loaded != RULES * BRIDGES:
        raise MeasurementFailed(
            f"{BRIDGES} bridges were to be closed by settings and {RULES * BRIDGES} rules: {loaded} are loaded"
        )


def ours(payload: Payload) -> float:
    file = world() / "networks-module.py"
    file.write_text(payload.with_arguments(arguments()), encoding="utf-8")
    with namespace() as inside:
        done = run([*inside, SYSTEM_PYTHON, file])
        expect(inside)
    if len(result(done)["links"]) != BRIDGES:
        raise MeasurementFailed(f"{BRIDGES} bridges were to be made")
    return done.seconds


def lines() -> tuple[list[str], list[str]]:
    """What `ip` is told to do: all links with their marks, and that they are ports and up."""
    making, upping = [f"# {BRIDGES} networks"], []
    for number in range(1, BRIDGES + 1):
        mark, bridge, device = f"nebula:{CATALOG}:net{number}", f"nbr{number}", f"eth2.{number}"
        making += [
            f"link add name {bridge} type bridge stp_state 0 forward_delay 0",
            f"link set dev {bridge} alias {mark}",
            f"link add name {device} type vxlan id {number} group 239.0.0.{number} dev eth2 ttl 16 dstport 8472",
            f"link set dev {device} alias {mark}",
        ]
        upping += [f"link set dev {bridge} up", f"link set dev {device} master {bridge}", f"link set dev {device} up"]
    return making, upping


def settings() -> list[str]:
    values = {
        "ipv6": ("disable_ipv6=1", "accept_ra=0", "autoconf=0", "accept_redirects=0"),
        "ipv4": ("accept_redirects=0", "send_redirects=0", "arp_ignore=8"),
    }
    found = [
        f"net/{family}/conf/nbr{number}/{setting}"
        for number in range(1, BRIDGES + 1)
        for family, given in values.items()
        for setting in given
    ]
    return [*found, *(f"net/ipv6/conf/eth2.{number}/disable_ipv6=1" for number in range(1, BRIDGES + 1))]


def rules() -> list[str]:
    found = [
        "add table inet bench",
        "add chain inet bench input { type filter hook input priority filter; policy accept; }",
        "add chain inet bench forward { type filter hook forward priority filter; policy accept; }",
    ]
    for number in range(1, BRIDGES + 1):
        bridge, comment = f'"nbr{number}"', f'comment "net{number}"'
        kept = "ether daddr 01:80:c2:00:00:00-01:80:c2:00:00:0f drop"
        for chain, rule in (
            ("input", kept),
            ("forward", kept),
            ("input", f"iifname {bridge} drop"),
            ("forward", f"iifname {bridge} oifname != {bridge} drop"),
            ("forward", f"oifname {bridge} iifname != {bridge} drop"),
        ):
            found.append(f"add rule inet bench {chain} {rule} {comment}")
    return found


def bare(everything: bool) -> float:
    """everything: with the kernel's settings and the rules that keep the machines from the node."""
    making, upping = lines()
    place = world()
    limit = f"net/ipv4/igmp_max_memberships={BRIDGES + 20}"
    for name, content in {
        "making": making,
        "upping": upping,
        "links": [*making, *upping],
        "settings": settings(),
        "rules": rules(),
    }.items():
        (place / f"bare-{name}").write_text("".join(f"{line}\n" for line in content), encoding="utf-8")
    script = f"sysctl -q -w {limit} && ip -batch bare-links"
    if everything:
        script = (
            f"sysctl -q -w {limit} && ip -batch bare-making && sysctl -q -p bare-settings && nft -f bare-rules"
            " && ip -batch bare-upping"
        )
    with namespace() as inside:
        done = run([*inside, "sh", "-c", f"cd {place} && {script}"])
        expect(inside)
        if everything:
            expect_closed(inside)
    return done.seconds


def loop() -> float:
    """Seconds of the tasks of a playbook that makes LOOPED of them by a loop for each step, as if it made all."""
    inside = f"ip netns exec {NAMESPACE} ip"
    steps = {
        "Make bridges": "link add name nbr{{ item }} type bridge stp_state 0 forward_delay 0",
        "Mark bridges": f"link set dev nbr{{{{ item }}}} alias nebula:{CATALOG}:net{{{{ item }}}}",
        "Make devices": "link add name eth2.{{ item }} type vxlan id {{ item }} group 239.0.0.{{ item }} dev eth2"
        " ttl 16 dstport 8472",
        "Mark devices": f"link set dev eth2.{{{{ item }}}} alias nebula:{CATALOG}:net{{{{ item }}}}",
        "Attach devices": "link set dev eth2.{{ item }} master nbr{{ item }}",
        "Set bridges up": "link set dev nbr{{ item }} up",
        "Set devices up": "link set dev eth2.{{ item }} up",
    }
    numbers = list(range(1, LOOPED + 1))
    tasks = [
        {"name": name, "ansible.builtin.command": {"cmd": f"{inside} {step}"}, "loop": numbers}
        for name, step in steps.items()
    ]
    written = world() / "networks-loop.yml"
    play = {
        "hosts": "world",
        "gather_facts": False,
        "tasks": [{"name": "the first", "ansible.builtin.ping": {}}, *tasks],
    }
    written.write_text(json.dumps([play]), encoding="utf-8")
    with namespace() as begun:
        done = playbook(written, {})
        expect(begun, LOOPED)
    return sum(task.seconds for task in done.profile if task.name in steps) * BRIDGES / LOOPED


def rows(rounds: int) -> Iterator[Row]:
    times = take_turns(max(rounds, ROUNDS_LEASES), {"large": lambda: leases(LARGE), "small": lambda: leases(SMALL)})
    yield Row.at_most(
        f"{LEASES:,} addresses of a range of {LARGE:,}, beside one of {SMALL:,}",
        times["large"],
        times["small"],
        "s",
        MOST_TIMES_LEASES,
    )
    contestants = {"large": lambda: leases(LARGEST, static=True), "small": lambda: leases(SMALL, static=True)}
    times = take_turns(max(rounds, ROUNDS_LEASES), contestants)
    yield Row.at_most(
        f"{LEASES:,} static addresses of IPv6 of a range of {LARGEST:,}, beside one of {SMALL:,}",
        times["large"],
        times["small"],
        "s",
        MOST_TIMES_LEASES,
    )
    payload = payloads([MODULE])[MODULE]
    # The first run keeps the code compiled, as on a target.
    ours(payload)
    contestants = {
        "call": call,
        "same": lambda: bare(True),
        "links": lambda: bare(False),
        "module": lambda: ours(payload),
        "start": lambda: start(payload),
    }
    times = take_turns(max(rounds, ROUNDS), contestants)
    what = f"{BRIDGES} VXLAN bridges by nebula_node_network"
    alike = "one ip -batch with the same settings and rules"
    yield Row.at_most(f"{what}, without Ansible's start, beside {alike}", times["call"], times["same"], "s", MOST_TIMES)
    yield Row.fact(f"{what}, without Ansible's start, beside bare links", times["call"], times["links"], "s")
    yield Row.fact(f"{what}, the whole call, beside {alike}", times["module"], times["same"], "s")
    yield Row.fact(f"{what}, the whole call, beside bare links", times["module"], times["links"], "s")
    yield Row.fact("nebula_node_network with nothing to do: the start of Python and Ansible", times["start"], None, "s")
    looped = take_turns(1, {f"a loop over {LOOPED}, reckoned for {BRIDGES}": loop})
    yield Row.at_least(
        f"{what}, beside loops of tasks ({LOOPED} made, the rest reckoned)",
        times["module"],
        next(iter(looped.values())),
        "s",
        LEAST_TIMES,
    )
