# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tenants on OVN by site.yml, from lists of variables to guests on three nodes, and back to bare hosts: what guests
reach and what they do not, as they themselves see it."""

from __future__ import annotations

import copy
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from in_world import in_nodes

from ansible_collections.nebula.provision.plugins.module_utils.model.nic import interface_id
from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.sent_site import hosts, state_of
from ansible_collections.nebula.provision.tests.integration.site_runs import changed_tasks
from ansible_collections.nebula.provision.tests.integration.tenants_site import (
    EXTERNAL,
    GATEWAY,
    LEASE,
    MTU,
    OUTSIDE,
    Guest,
    Tenants,
    host_outside,
    machine,
    outside_reaches,
    outside_reads,
    router,
    tenant,
)

FLOATING = "203.0.113.110"
PINGS = {"rule_type": "inbound", "protocol": "ICMP"}
OUT = {"rule_type": "outbound"}


def variables() -> dict[str, Any]:
    """Two tenants with the same addresses, and machines of both on three nodes."""
    return {
        "nebula_security_groups": [{"name": "pings", "rules": [OUT, PINGS]}],
        "nebula_networks": [tenant("blue"), tenant("red", security_groups=["pings"]), EXTERNAL],
        "nebula_routers": [
            # The third node carries its gateway, as long as it is there.
            router(
                "blue",
                gateway={"network": "outside", "hosts": ["node3", "node2", "node1"]},
                floating=[{"ip": FLOATING, "vm": "blue-one"}],
            ),
            router("red"),
        ],
        "nebula_vms": [
            machine("blue-one", "node1"),
            machine("blue-two", "node2"),
            machine("red-one", "node2", nics=[{"NETWORK": "red", "IP": "192.168.0.10"}]),
            machine("red-two", "node3", nics=[{"NETWORK": "red", "IP": "192.168.0.30"}]),
        ],
    }


def begin(site: Tenants) -> None:
    site.variables |= variables()
    site.done("site.yml", "--check")
    site.done("site.yml")
    again = site.done("site.yml")
    assert changed_tasks(again) == [], again


def apart(guests: dict[str, Guest]) -> None:
    """Within a network, across nodes, and with its router; never into the other, which has the same addresses."""
    blue, blue_two, red, red_two = (guests[name] for name in ("blue-one", "blue-two", "red-one", "red-two"))
    assert (blue.ip, blue_two.ip, red.ip, red_two.ip) == (
        *("192.168.0.10", "192.168.0.11"),
        *("192.168.0.10", "192.168.0.30"),
    )
    assert blue.reaches(blue_two.ip, tries=10) and red.reaches(red_two.ip, tries=10)
    assert blue.reaches(GATEWAY, tries=3) and red.reaches(GATEWAY, tries=3)
    assert not blue.reaches(red_two.ip, tries=2)
    assert not red.reaches(blue_two.ip, tries=2)
    # By broadcast neither.
    heard = {guest: received(guest) for guest in (blue_two, red_two)}
    blue.does("for try in $(seq 20); do ping -b -c 1 -W 0 192.168.0.255; arping -c 1 -w 0 192.168.0.30; done")
    assert received(blue_two) >= heard[blue_two] + 20
    assert received(red_two) < heard[red_two] + 10


def received(guest: Guest) -> int:
    return int(guest.does("cat /sys/class/net/eth0/statistics/rx_packets")[1])


def as_leased(guests: dict[str, Guest]) -> None:
    """What DHCP gives is what the catalog has, and what the guest has by its context."""
    for guest in guests.values():
        code, text = guest.does(LEASE)
        assert code == 0, text
        assert text.split() == ["lease", guest.ip, "255.255.255.0", GATEWAY, "9.9.9.9", str(MTU)]
        _code, text = guest.does("ip address show eth0; ip route; cat /etc/resolv.conf")
        for part in (f"inet {guest.ip}/24 ", guest.mac, f"mtu {MTU} ", f"default via {GATEWAY} ", "nameserver 9.9.9.9"):
            assert part in text


def out(site: Tenants, guests: dict[str, Guest], server: socket.socket) -> None:
    """Who is outside sees the router, or the machine's own floating address."""
    gateways = {each["name"]: each["gateway"]["ip"] for each in site.info("routers")["routers"]}
    assert len({*gateways.values(), FLOATING}) == 3
    for name, source in (
        ("blue-one", FLOATING),
        ("blue-two", gateways["blue-router"]),
        ("red-one", gateways["red-router"]),
        ("red-two", gateways["red-router"]),
    ):
        assert guests[name].reaches(OUTSIDE, tries=10), name
        assert comes_from(guests[name], server) == source, name
    # The external network gives no machine an address, and the router's answers to those who are in it.
    assert all(outside_reaches(each, tries=3) for each in gateways.values())


def comes_from(guest: Guest, server: socket.socket) -> str:
    """The address that a connection of the guest has outside; what it sends arrives."""
    # The program stays until the other side has closed.
    guest.does(f"(hostname | nc -w 5 {OUTSIDE} 7777 &)")
    connection, (address, _port) = server.accept()
    with connection:
        connection.settimeout(10)
        assert connection.recv(100).decode().strip() == guest.name
    return str(address)


def floats(site: Tenants, guests: dict[str, Guest]) -> None:
    """A floating address leads to a machine from outside, and then to another, while both run."""
    for name in ("blue-one", "blue-two"):
        guests[name].does("mkdir -p /run/www; hostname > /run/www/name; httpd -p 80 -h /run/www")
    assert outside_reads(FLOATING) == "blue-one"
    with_floating(site, "blue-two")
    output = site.done("site.yml")
    # OVN alone is told; no machine is.
    assert changed_tasks(output) == ["Keep the networks in the catalog", "Tell OVN what the catalog has"], output
    wait_for(lambda: outside_reads(FLOATING) == "blue-two", "the floating address has moved", 10)
    assert guests["blue-one"].reaches(OUTSIDE, tries=3)
    assert site.done("site.yml").count("changed: [") == 0


def with_floating(site: Tenants, name: str) -> None:
    routers = copy.deepcopy(site.variables["nebula_routers"])
    routers[0]["floating"][0]["vm"] = name
    site.variables["nebula_routers"] = routers


def held_to_its_addresses(guests: dict[str, Guest]) -> None:
    """What a guest sends as if it were another is dropped."""
    one, two = guests["blue-one"], guests["blue-two"]
    assert one.reaches(two.ip, tries=3)
    one.does("ip address add 192.168.0.77/24 dev eth0")
    assert not one.reaches(f"-I 192.168.0.77 {two.ip}", tries=2)
    one.does("ip address delete 192.168.0.77/24 dev eth0")
    change = (
        "ip link set eth0 down; ip link set eth0 address {}; ip link set eth0 up; ip route add default via " + GATEWAY
    )
    one.does(change.format("02:00:c0:a8:00:4d"))
    assert not one.reaches(two.ip, tries=2)
    one.does(change.format(one.mac))
    assert one.reaches(two.ip, tries=5)


def opens_and_closes(site: Tenants, guests: dict[str, Guest]) -> None:
    """A security group, while traffic runs."""
    one, two = guests["red-one"], guests["red-two"]
    # It ends when its file is gone.
    pings = f"ping -c 1 -W 1 {one.ip} > /dev/null && echo a >> /run/answers; usleep 200000"
    two.does(f"touch /run/answers; (while [ -e /run/answers ]; do {pings}; done &)")

    def answers() -> int:
        return int(two.does("wc -l < /run/answers")[1])

    wait_for(lambda: answers() > 2, "pings are answered")
    site.variables["nebula_security_groups"] = [{"name": "pings", "rules": [OUT]}]
    site.done("site.yml")
    before = answers()
    assert not two.reaches(one.ip, tries=2)
    assert answers() == before
    site.variables["nebula_security_groups"] = [{"name": "pings", "rules": [OUT, PINGS]}]
    site.done("site.yml")
    wait_for(lambda: answers() > before, "pings are answered again")
    two.does("rm /run/answers")


def without_central(site: Tenants, guests: dict[str, Guest]) -> None:
    """Traffic goes on while OVN's central side is away, and the next run starts it again."""
    files = [Path("/run/ovn") / name for name in ("ovn-northd.pid", "ovnsb_db.pid", "ovnnb_db.pid")]
    for pid in [pid for file in files for pid in with_monitor(int(file.read_text()))]:
        os.kill(pid, signal.SIGKILL)
    assert guests["blue-one"].reaches(guests["blue-two"].ip, tries=2)
    assert guests["blue-two"].reaches(OUTSIDE, tries=2)
    assert outside_reaches(FLOATING, tries=2)
    output = site.done("site.yml")
    assert changed_tasks(output) == ["Start the databases"], output
    assert guests["blue-one"].reaches(OUTSIDE, tries=5)


def with_monitor(pid: int) -> list[int]:
    """First the process that would start it again."""
    parent = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return [parent, pid] if parent > 1 else [pid]


def without_gateways_node(site: Tenants, guests: dict[str, Guest]) -> None:
    """Another node takes over; the dead one is as before after the next run."""
    third = site.by_name["node3"]
    third.kill()
    wait_for(lambda: outside_reaches(FLOATING), "traffic goes on without the gateway's node", 10)
    assert guests["blue-one"].reaches(OUTSIDE, tries=3)
    third.start()
    site.done("site.yml")
    again = site.guests()["red-two"]
    again.up()
    assert again.reaches(guests["red-one"].ip, tries=10)


def ended(site: Tenants, guests: dict[str, Guest]) -> None:
    """OVN knows a machine no more when it is gone, and its address is another's."""
    listed = [each for each in site.variables["nebula_vms"] if each["name"] != "blue-one"]
    site.done("site.yml", nebula_vms=[*listed, {"name": "blue-one", "state": "absent", "hard": True}])
    ports = subprocess.run(["ovn-nbctl", "show"], capture_output=True, text=True, check=True).stdout
    assert interface_id(guests["blue-one"].vm["uuid"], 0) not in ports
    site.variables["nebula_vms"] = [*listed, machine("blue-new", "node3")]
    site.done("site.yml")
    assert changed_tasks(site.done("site.yml")) == []
    new = site.guests()["blue-new"]
    assert new.ip == guests["blue-one"].ip
    new.up()
    assert new.reaches(guests["blue-two"].ip, tries=10)


@pytest.mark.timeout(1800)
@in_nodes(3)
def test_tenants_are_apart_and_reach_out(*, image: str) -> None:
    site = Tenants(image)
    before = [state_of(node) for node in site.nodes]
    with hosts(site), host_outside() as server:
        begin(site)
        guests = site.guests()
        for guest in guests.values():
            guest.up()
        apart(guests)
        as_leased(guests)
        out(site, guests, server)
        floats(site, guests)
        held_to_its_addresses(guests)
        opens_and_closes(site, guests)
        without_central(site, guests)
        without_gateways_node(site, guests)
        ended(site, guests)
        site.done("playbooks/teardown.yml")
        assert not site.root.exists(), list(site.root.rglob("*"))
        assert [state_of(node) for node in site.nodes] == before
