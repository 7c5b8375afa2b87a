# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine of KVM in a network of OVN goes to another node while it runs: its port is on that node's chassis, and
traffic goes on. A list moves it with its disks, and OVN has its port on both nodes meanwhile; an administrator
migrates it by virsh, and after the way back nothing differs."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from in_world import in_nodes
from nodes import Node

from ansible_collections.nebula.provision.plugins.module_utils.model.defaults import MOVE_PORT
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import interface_id
from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.neighbour_pings import (
    MOST_SILENCE,
    PING_EVERY,
    Pings,
    lost_in_a_row,
)
from ansible_collections.nebula.provision.tests.integration.sent_site import hosts, root_of, state_of
from ansible_collections.nebula.provision.tests.integration.site_runs import changed_tasks
from ansible_collections.nebula.provision.tests.integration.tenants_site import (
    BOOT_SECONDS,
    EXTERNAL,
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
# How often QEMU announces a machine without being asked, in less than a second.
OWN_ANNOUNCEMENTS = 5
# From the end of the migration until the others' packets arrive again.
SECONDS = 20


@pytest.mark.timeout(900)
@in_nodes(3)
def test_its_network_goes_with_it(*, image: str) -> None:
    site = Tenants(image)
    site.nodes = site.nodes[:2]
    before = [state_of(node) for node in site.nodes]
    with hosts(site), host_outside():
        site.variables |= {
            "nebula_networks": [tenant("blue"), EXTERNAL],
            "nebula_routers": [router("blue", floating=[{"ip": FLOATING, "vm": "blue-one"}])],
            "nebula_vms": [machine("blue-one", "node1"), machine("blue-two", "node2")],
        }
        site.done("site.yml")
        guests = site.guests()
        one, two = guests["blue-one"], guests["blue-two"]
        for guest in (one, two):
            guest.up()
        one.does("mkdir -p /run/www; hostname > /run/www/name; httpd -p 80 -h /run/www")
        first, second = site.nodes
        copied = see_its_files(one, second)
        assert goes_on(one, two, first)
        for there in (second, first):
            migrate(one, there)
            assert goes_on(one, two, there)
        shutil.rmtree(copied)
        again = site.done("site.yml")
        assert changed_tasks(again) == [], again
        site.done("playbooks/audit.yml")
        site.done("playbooks/teardown.yml")
        assert [state_of(node) for node in site.nodes] == before


@pytest.mark.timeout(1200)
@in_nodes(2)
def test_a_list_moves_it(*, image: str) -> None:
    site = Tenants(image)
    first, second = site.nodes
    before = [state_of(node) for node in site.nodes]
    with hosts(site), host_outside():
        site.variables |= {
            "nebula_networks": [tenant("blue"), EXTERNAL],
            "nebula_routers": [router("blue", floating=[{"ip": FLOATING, "vm": "blue-one"}])],
            "nebula_vms": [machine("blue-one", "node1"), machine("blue-two", "node2")],
        }
        site.done("site.yml")
        guests = site.guests()
        one, two = guests["blue-one"], guests["blue-two"]
        for guest in (one, two):
            guest.up()
        one.does("mkdir -p /run/www; hostname > /run/www/name; httpd -p 80 -h /run/www")
        port = interface_id(one.vm["uuid"], 0)
        assert goes_on(one, two, first)

        def listed(host: str, **values: Any) -> list[dict[str, Any]]:
            return [machine("blue-one", host, **values), machine("blue-two", "node2")]

        # Its target can't be met: it stays, and so does its port.
        with taken_port(second):
            code, output = site.run("site.yml", nebula_vms=listed("node2"), nebula_move="live")
        assert code != 0 and "VM blue-one" in output, output
        assert goes_on(one, two, first) and is_settled(port)

        for there, other in ((second, first), (first, second)):
            two.does(f"ping {one.ip} > /run/answers 2>&1 & echo $! > /run/ping")
            with Pings(FLOATING) as outside, Bindings(port) as bindings, Announcements(one, there) as announced:
                site.done("site.yml", nebula_vms=listed(there.name), nebula_move="live")
            one.node = there
            assert bindings.seen[0] == (other.name, "") and (other.name, there.name) in bindings.seen, bindings.seen
            # Neither node takes it from the other again.
            assert len(set(bindings.seen)) == len(bindings.seen), bindings.seen
            # A busy ovn-controller may have the port only then.
            assert len(announced.times) > OWN_ANNOUNCEMENTS, announced.times
            assert goes_on(one, two, there) and is_settled(port)
            assert outside.lost_in_a_row() * PING_EVERY <= MOST_SILENCE, outside.text
            _code, answers = two.does("kill $(cat /run/ping); sed -n 's/.*seq=\\([0-9]*\\).*/\\1/p' /run/answers")
            assert lost_in_a_row(map(int, answers.split())) <= MOST_SILENCE, answers
            assert changed_tasks(site.done("site.yml", nebula_vms=listed(there.name), nebula_move="live")) == []

        site.done("site.yml", nebula_vms=listed("node2", move="cold"))
        wait_for(lambda: chassis_of(port) == "node2", "OVN has its port on node2", SECONDS)
        wait_for(lambda: two.reaches(one.ip), "its neighbour reaches it", BOOT_SECONDS)
        assert is_settled(port)
        site.variables["nebula_vms"] = listed("node2")
        site.done("playbooks/audit.yml")
        site.done("playbooks/teardown.yml")
        assert [state_of(node) for node in site.nodes] == before


@contextlib.contextmanager
def taken_port(node: Node) -> Iterator[None]:
    """The port at which the node is met is somebody else's."""
    program = "import socket, sys; s = socket.create_server(('0.0.0.0', int(sys.argv[1]))); print(); sys.stdin.read()"
    command = node.within("/usr/bin/python3", "-uc", program, str(MOVE_PORT))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdin is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.stdin.close()


class Announcements:
    """Watches when a machine is announced at the node to which it comes (RARP)."""

    program = """
import contextlib, select, socket, sys, time
name = sys.argv[1]
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as frames:
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        try:
            frames.bind((name, 3))
            break
        except OSError:
            pass
    while sys.stdin not in select.select([sys.stdin, frames], [], [])[0]:
        # It may not be up yet, which is an error once.
        with contextlib.suppress(OSError):
            if frames.recv(2048)[12:14] == b"\\x80\\x35":
                print(time.monotonic(), flush=True)
"""

    def __init__(self, guest: Guest, there: Node) -> None:
        command = there.within("/usr/bin/python3", "-c", self.program, f"{guest.domain}-0")
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.times: list[float] = []

    def __enter__(self) -> Announcements:
        return self

    def __exit__(self, *_problem: object) -> None:
        self.times = [float(line) for line in self._process.communicate(timeout=30)[0].split()]


class Bindings:
    """Watches on which nodes OVN has a port: each pair of the chassis and what it has besides that follows another."""

    def __init__(self, port: str) -> None:
        rows = (row.split(",") for row in sbctl("--columns=_uuid,name", "list", "Chassis").split())
        self._names, self._port = dict(rows), port
        self.seen: list[tuple[str, str]] = []
        self._look()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Bindings:
        self._thread.start()
        return self

    def __exit__(self, *_problem: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.1):
            self._look()

    def _look(self) -> None:
        row = sbctl("--columns=chassis,additional_chassis", "find", "Port_Binding", f"logical_port={self._port}")
        found = tuple(self._names.get(each, each) for each in row.strip().split(","))
        if not self.seen or self.seen[-1] != found:
            self.seen.append((found[0], found[1]))


def sbctl(*words: str) -> str:
    command = ["ovn-sbctl", "--data=bare", "--format=csv", "--no-headings", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def is_settled(port: str) -> bool:
    """Whether nothing of a move is left in OVN."""
    command = ["ovn-nbctl", "--columns=options,external_ids", "list", "Logical_Switch_Port", port]
    row = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    ((_chassis, besides),) = Bindings(port).seen
    return not besides and not [word for word in ("chassis", "activation", "nebula-moving") if word in row]


def see_its_files(guest: Guest, there: Node) -> Path:
    """A copy stands for a shared file system: the guest has its root in its memory, and writes to no disk. What the
    disk is based on is in the other node's cache, too, since it has a machine of the same image."""
    name = f"datastores/0/{guest.vm['id']}"
    target = root_of(there) / name
    subprocess.run(["cp", "-a", str(root_of(guest.node) / name), str(target)], check=True)
    return target


def migrate(guest: Guest, there: Node) -> None:
    uri = f"qemu+ssh://root@{{}}/system?keyfile={there.world / 'key'}"
    command = ["virsh", "-c", uri.format(guest.node.name), "migrate", "--live", "--unsafe", guest.domain]
    done = subprocess.run([*command, uri.format(there.name)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    guest.node = there


def goes_on(one: Guest, two: Guest, there: Node) -> bool:
    """Its port is on this node alone, and who is in its network and outside of it reaches it there."""
    port = interface_id(one.vm["uuid"], 0)
    wait_for(lambda: chassis_of(port) == there.name, f"OVN has its port on {there.name}", SECONDS)
    wait_for(lambda: two.reaches(one.ip), "its neighbour reaches it", SECONDS)
    wait_for(lambda: outside_reaches(FLOATING), "its floating address leads to it", SECONDS)
    return one.reaches(OUTSIDE, tries=3) and outside_reads(FLOATING) == one.name


def chassis_of(port: str) -> str:
    """The name of the host that OVN has it on."""
    shown = subprocess.run(["ovn-sbctl", "show"], capture_output=True, text=True, check=True).stdout
    found = ""
    for block in re.split(r"^Chassis ", shown, flags=re.MULTILINE):
        if f'Port_Binding "{port}"' in block:
            found += block.split()[0].strip('"')
    return found
