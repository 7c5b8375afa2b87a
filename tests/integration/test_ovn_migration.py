# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine of KVM in a network of OVN that an administrator migrates while it runs: its port is on the other node's
chassis, traffic goes on, and after the way back nothing differs. No list asks for a migration, so it is virsh's."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from in_world import in_nodes
from nodes import Node

from ansible_collections.nebula.provision.plugins.module_utils.model.nic import interface_id
from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.sent_site import hosts, root_of, state_of
from ansible_collections.nebula.provision.tests.integration.site_runs import changed_tasks
from ansible_collections.nebula.provision.tests.integration.tenants_site import (
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
