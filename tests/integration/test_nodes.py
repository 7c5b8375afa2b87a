# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests/tools/nodes.py promises to those who use it. That nothing stays of it, test_world.py shows."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nodes as program
import pytest
from in_world import in_nodes
from nodes import Node, nodes

from ansible_collections.nebula.provision.tests.integration.kvm_node import GUEST, wait_for
from ansible_collections.nebula.provision.tests.integration.site_runs import ROOT

NODES = [sys.executable, program.__file__]
ANSIBLE = str(Path(sys.executable).parent / "ansible")
CHECKED = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_HOST_KEY_CHECKING": "true"}
DOMAIN = """
<domain type='qemu'><name>twin</name><memory unit='MiB'>32</memory><os><type machine='pc'>hvm</type></os>
<devices><disk type='file'><driver name='qemu' type='raw' cache='none'/><source file='{disk}'/>
<target dev='vda' bus='virtio'/></disk>
<serial type='file'><source path='{console}'/></serial></devices></domain>
"""


def pings(inventory: str) -> set[str]:
    """The hosts that Ansible reaches."""
    done = subprocess.run(
        # Of one that is gone nothing says so: ssh waits.
        [ANSIBLE, "-i", inventory, "all", "-m", "ping", "-o", "-T", "4"],
        env=CHECKED,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return {line.split()[0] for line in done.stdout.splitlines() if "SUCCESS" in line}


def ping(node: Node, address: str) -> bool:
    return node.run("ping", "-c", "1", "-W", "1", address, check=False).returncode == 0


@in_nodes(3)
def test_ansible_reaches_all() -> None:
    assert pings(os.environ["NEBULA_INVENTORY"]) == {"front", "node1", "node2", "node3"}


@in_nodes(3)
def test_each_has_its_own() -> None:
    first, second, _third = nodes()
    for path in ("/etc", "/var/lib/nebula", "/var/log/openvswitch", "/run/ovn", "/root/.ssh", "/tmp"):
        first.run("mkdir", "-p", path)
        first.run("touch", f"{path}/of-node1")
        assert second.run("test", "-e", f"{path}/of-node1", check=False).returncode == 1
        assert not Path(path, "of-node1").exists()
    assert first.path("/var/lib/nebula/of-node1").exists() and first.path("/etc/of-node1").exists()
    for node in (first, second):
        assert node.run("hostname").stdout == node.run("cat", "/etc/hostname").stdout == f"{node.name}\n"
    for identity in ("/etc/machine-id", "/etc/ssh/ssh_host_ed25519_key.pub", "/etc/libvirt/libvirtd.conf"):
        assert len({node.run("cat", identity).stdout for node in nodes()}) == 3
    first.erase()
    assert not first.path("/var/lib/nebula").exists() and not first.path("/etc/of-node1").exists()
    assert ping(first, "node2")


@contextlib.contextmanager
def twins(*owners: Node) -> Iterator[Path]:
    """A machine of one name on each, which they could have from each other: all see its files."""
    place = Path(os.environ["NEBULA_WORLD"]) / "twins"
    place.mkdir(exist_ok=True)
    place.chmod(0o777)
    for node in owners:
        disk, console = place / f"{node}.raw", place / f"{node}.console"
        disk.write_bytes(GUEST.ljust(1 << 20, b"\0"))
        (place / f"{node}.xml").write_text(DOMAIN.format(disk=disk, console=console))
    try:
        for node in owners:
            node.run("virsh", "define", str(place / f"{node}.xml"))
            node.run("virsh", "start", "twin")
        yield place
    finally:
        for node in (each for each in nodes() if each.init is not None):
            node.run("virsh", "destroy", "twin", check=False)
            node.run("virsh", "undefine", "twin", check=False)


def booted(place: Path, node: Node) -> None:
    wait_for(lambda: (place / f"{node}.console").read_bytes().count(b"B") >= 1, f"the machine of {node} boots")


def states() -> list[str]:
    return [node.run("virsh", "list", "--all", "--name", "--state-running").stdout.strip() for node in nodes()]


@in_nodes(3)
def test_power_cut_and_start() -> None:
    first, second, third = nodes()
    with twins(first, second) as place:
        booted(place, first)
        booted(place, second)
        assert states() == ["twin", "twin", ""]
        second.run("ip", "link", "add", "nbr0", "type", "bridge")
        second.run("nft", "add", "table", "inet", "nebula")
        second.run("touch", "/run/lost", "/tmp/lost", "/var/lib/kept")
        pids = second.run("pidof", "qemu-system-x86_64").stdout.split()
        assert len(pids) == 1
        second.kill()
        assert second.init is None and not ping(first, "node2") and ping(first, "node3")
        assert pings(os.environ["NEBULA_INVENTORY"]) == {"front", "node1", "node3"}
        with pytest.raises(RuntimeError, match="node2 is down"):
            second.run("true")
        second.start()
        # It is the same host, to ssh as well.
        assert pings(os.environ["NEBULA_INVENTORY"]) == {"front", "node1", "node2", "node3"}
        assert second.run("ls", "/run/lost", "/tmp/lost", "/var/lib/kept", check=False).stdout == "/var/lib/kept\n"
        assert "nbr0" not in second.run("ip", "-brief", "link").stdout
        assert second.run("nft", "list", "ruleset").stdout == ""
        assert second.run("virsh", "list", "--all", "--name").stdout.strip() == "twin"
        assert states() == ["twin", "", ""]
        second.run("virsh", "start", "twin")
        third.kill()
        third.start()


@in_nodes(3)
def test_links() -> None:
    first, second, third = nodes()
    second.unplug("eth0")
    assert not ping(first, "node2") and ping(first, "node3")
    assert "NO-CARRIER" in second.run("ip", "link", "show", "eth0").stdout
    second.plug("eth0")
    wait_for(lambda: ping(first, "node2"), "node2 is back")
    # What a tunnel costs has its place: frames of 1500 go through a vxlan over the underlay.
    for number, node in enumerate((first, second), 1):
        to = {1: second, 2: first}[number].address
        vxlan = ["type", "vxlan", "id", "77", "dstport", "4789", "local", node.address, "remote", to]
        node.run("ip", "link", "add", "vx77", "mtu", "1500", *vxlan)
        node.run("ip", "address", "add", f"192.0.2.{number}/24", "dev", "vx77")
        node.run("ip", "link", "set", "vx77", "up")
    full = ["ping", "-c", "1", "-W", "2", "-M", "do", "-s", "1472"]
    assert first.run(*full, "192.0.2.2", check=False).returncode == 0
    # The network outside has no address of its own on a node.
    for number, node in enumerate((first, third), 11):
        node.run("ip", "address", "add", f"203.0.113.{number}/24", "dev", "eth1")
    assert ping(first, "203.0.113.12") and ping(first, "203.0.113.1")
    for node in (first, second):
        node.run("ip", "link", "delete", "vx77")
    for node in (first, third):
        node.run("ip", "address", "flush", "dev", "eth1")


@in_nodes(3)
def test_live_migration() -> None:
    first = nodes()[0]
    with twins(first) as place:
        booted(place, first)
        uri = f"qemu+ssh://root@{{}}/system?keyfile={first.world / 'key'}"
        migrate = ["virsh", "-c", uri.format("node1"), "migrate", "--live", "--unsafe", "twin", uri.format("node2")]
        done = subprocess.run(migrate, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert states() == ["", "twin", ""]


def test_a_world_that_outlives_the_command(tmp_path):
    place = tmp_path / "place"
    subprocess.run([*NODES, "up", str(place), "--nodes", "2"], check=True, timeout=120)
    try:
        hosts = json.loads((place / "inventory.json").read_text())
        inventory = tmp_path / "hosts.yml"
        inventory.write_text(json.dumps({"all": {"hosts": hosts}}))
        assert pings(str(inventory)) == {"front", "node1", "node2"}
        subprocess.run([*NODES, "do", str(place), "kill", "2"], check=True, timeout=60)
        assert pings(str(inventory)) == {"front", "node1"}
        world = Path(json.loads((place / "world.json").read_text())["world"])
    finally:
        subprocess.run([*NODES, "down", str(place)], check=True, timeout=60)
    assert not world.exists() and list(place.iterdir()) == []
    # Once more, as molecule does before it begins.
    subprocess.run([*NODES, "down", str(place)], check=True, timeout=60)
