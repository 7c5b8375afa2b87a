# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that is somebody's already: their domains, networks, bridges, rules, ports and files are byte for byte the
same after site.yml, again, and teardown; and nothing of ours is half there because of them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest
from auditor import findings
from in_world import in_world

from ansible_collections.nebula.provision.tests.integration.kvm_node import GUEST
from ansible_collections.nebula.provision.tests.integration.site_runs import NETWORK, Site, recap

DOMAIN = """<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid>{metadata}<memory unit='MiB'>64</memory>
<os><type arch='x86_64' machine='pc'>hvm</type></os>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<interface type='network'><source network='default'/></interface></devices></domain>"""
MARK = (
    "<metadata><nebula:vm xmlns:nebula='urn:nebula:provision:vm:1'"
    " catalog='aaaaaaaa-0000-4000-8000-000000000002' id='1' generation='7'/></metadata>"
)
DEFAULT = """<network><name>default</name><forward mode='nat'/><bridge name='virbr0' stp='on' delay='0'/>
<dns enable='no'/><ip address='192.168.122.1' netmask='255.255.255.0'/></network>"""
SHOP = """
table inet shop {
    set guests { type ipv4_addr; flags interval; elements = { 10.9.0.0/16, 172.20.1.7 } }
    chain forward { type filter hook forward priority 5; policy accept; ip saddr @guests oifname "shop*" drop; }
    chain nat { type nat hook postrouting priority 90; ip saddr 10.9.0.0/16 oifname "shop0" masquerade; }
}
"""
TEMPLATE = """
CPU = 0.1
MEMORY = 32
DISK = [ IMAGE = "halting", DEV_PREFIX = "vd" ]
NIC = [ NETWORK = "Public" ]
GRAPHICS = [ TYPE = "vnc", LISTEN = "0.0.0.0" ]
OS = [ MACHINE = "pc" ]
"""


def tell(*command: str, stdin: str = "") -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def defined(kind: str, xml: str, directory: Path) -> None:
    path = directory / f"{uuid.uuid4()}.xml"
    path.write_text(xml)
    tell("virsh", "-q", kind, str(path))
    path.unlink()


class Somebody:
    """What was on the host before."""

    def __init__(self, directory: Path, root: Path) -> None:
        self.directory, self.root = directory, root
        self.stack = contextlib.ExitStack()

    def move_in(self) -> None:
        # As the package makes it; a world has none.
        Path("/var/lib/libvirt/dnsmasq").mkdir(exist_ok=True)
        defined("net-define", DEFAULT, self.directory)
        tell("virsh", "-q", "net-start", "default")
        defined("define", DOMAIN.format(name="one-0", uuid=uuid.uuid4(), metadata=""), self.directory)
        tell("virsh", "-q", "start", "one-0")
        defined("define", DOMAIN.format(name="one-1", uuid=uuid.uuid4(), metadata=MARK), self.directory)
        defined("define", DOMAIN.format(name="one-05", uuid=uuid.uuid4(), metadata=""), self.directory)
        self.root.mkdir(mode=0o755)
        (self.root / "notes.txt").write_text("mine")
        disk = self.root / "datastores" / "0" / "2" / "disk.0"
        disk.parent.mkdir(parents=True)
        disk.write_bytes(os.urandom(4096))
        os.chown(disk, 64055, 64055)
        tell("virsh", "-q", "pool-define-as", "theirs", "dir", "--target", str(self.root / "datastores"))
        tell("nft", "-f", "-", stdin=SHOP)
        for line in ("name nbr9 type bridge", "name shop0 type veth peer name shop1"):
            tell("ip", "link", "add", *line.split())
        tell("ip", "link", "set", "shop1", "master", "nbr9")
        tell("ip", "address", "add", "10.9.0.1/16", "dev", "nbr9")
        for link in ("lo", "nbr9", "shop0", "shop1"):
            tell("ip", "link", "set", link, "up")
        tell("ip", "route", "add", "10.77.0.0/24", "dev", "nbr9", "table", "77")
        # The ports that machines 3, 4 and 5 would have.
        for port, address in ((5903, "127.0.0.1"), (5904, "0.0.0.0"), (5905, "::")):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            listener = self.stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            listener.bind((address, port))
            listener.listen()

    def snapshot(self) -> dict[str, Any]:
        """All that is theirs: what is ours by its mark or name is left out."""
        seen: dict[str, Any] = {}
        for name in ("one-0", "one-1", "one-05"):
            seen[name] = tell("virsh", "dumpxml", name), tell("virsh", "domstate", name)
        seen["network"] = tell("virsh", "net-dumpxml", "default")
        seen["pool"] = tell("virsh", "pool-dumpxml", "theirs"), tell("virsh", "-q", "pool-list", "--all")
        for table in tell("nft", "list", "tables").splitlines():
            if " nebula_" not in table:
                seen[table] = tell("nft", "--stateless", "list", *table.split())
        legacy = Path("/proc/net/ip_tables_names")
        seen["legacy"] = legacy.read_text() if legacy.exists() else ""
        # A bridge that runs the spanning tree protocol comes up by itself, seconds after its first port.
        seen["links"] = [
            re.sub(r" (valid|preferred)_lft \w+|^\d+: |NO-CARRIER,|,LOWER_UP| state \w+", "", line)
            for line in (tell("ip", "-o", "address", "show") + tell("ip", "-o", "link", "show")).splitlines()
            if " inet6 " not in line and not re.search(r"\b(nbr0|vnet[1-9]\d*)\b", line)
        ]
        routes = [r for r in tell("ip", "-4", "route", "show", "table", "all").splitlines() if "nbr0" not in r]
        seen["routes"] = sorted(route.replace(" linkdown", "").rstrip() for route in routes)
        for path in (self.root / "notes.txt", self.root / "datastores/0/2", self.root / "datastores/0/2/disk.0",
                     *sorted(Path("/etc/libvirt/qemu").glob("one-[01]*.xml"))):  # fmt: skip
            found = path.stat()
            content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else sorted(os.listdir(path))
            seen[str(path)] = found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns, content
        return seen

    def is_as_it_was(self, before: dict[str, Any]) -> None:
        now = self.snapshot()
        differing = {key: (before[key], now.get(key)) for key in before if now.get(key) != before[key]}
        assert not differing, differing

    def move_out(self) -> None:
        self.stack.close()
        for command in (
            "virsh destroy one-0", "virsh undefine one-0", "virsh undefine one-1", "virsh undefine one-05",
            "virsh pool-undefine theirs", "virsh net-destroy default", "virsh net-undefine default",
            "nft flush ruleset", "ip link delete nbr9", "ip link delete shop0",
        ):  # fmt: skip
            subprocess.run(command.split(), capture_output=True, timeout=120, check=False)


@pytest.mark.timeout(1200)
@in_world
def test_nothing_of_others_is_touched() -> None:
    directory = Path(os.environ["NEBULA_WORLD"])
    image = directory / "halting.raw"
    image.write_bytes(GUEST.ljust(1 << 20, b"\0"))
    site = Site(str(image))
    site.root = directory / "lived-in"
    vms = [{"name": "web-%i", "count": 2, "template": "web"}]
    site.variables.update(
        nebula_root=str(site.root),
        nebula_accelerator="qemu",
        nebula_verify=False,
        nebula_manage_services=False,
        nebula_images=[{"name": "halting", "path": str(image)}],
        nebula_templates=[{"name": "web", "template": TEMPLATE}],
        nebula_vms=vms,
    )
    somebody = Somebody(directory, site.root)
    try:
        somebody.move_in()
        before = somebody.snapshot()

        taken = {**NETWORK, "name": "Taken", "bridge": "nbr9", "network_address": "10.88.0.0", "gateway": "10.88.0.1"}
        overlapping = {**taken, "name": "Overlapping", "bridge": "nbr8", "network_address": "10.77.0.0"}
        ranges = [{"type": "IP4", "ip": "10.88.0.10", "size": 8}]
        bad = [{**taken, "address_ranges": ranges}, {**overlapping, "gateway": "10.77.0.1", "address_ranges": []}]
        code, output = site.run("site.yml", nebula_networks=bad)
        assert code != 0, output
        assert "network Taken: bridge nbr9: there is a bridge interface of that name" in output
        assert "the host has the route 10.77.0.0/24 on device nbr9 in table 77" in output
        somebody.is_as_it_was(before)
        for link in ("nbr8", "nbr0"):
            assert not Path(f"/sys/class/net/{link}").exists()
        assert " nebula_" not in tell("nft", "list", "tables")

        gone = [{**network, "state": "absent"} for network in bad]
        code, output = site.run("site.yml", nebula_networks=[*gone, NETWORK])
        assert code == 0, output
        somebody.is_as_it_was(before)
        # Neither a name, nor a directory, nor a port of somebody's is tried.
        assert re.search(r" 3  web-0 +node1 +RUNNING", output) and re.search(r" 4  web-1 +node1 +RUNNING", output), (
            output
        )
        displays = [tell("virsh", "vncdisplay", f"one-{vm_id}").strip().rpartition(":")[2] for vm_id in (3, 4)]
        assert displays == ["6", "7"]

        code, output = site.run("site.yml", nebula_networks=[NETWORK])
        assert code == 0 and recap(output)["changed"] == 0, output
        somebody.is_as_it_was(before)
        # An audit says what lies where machines do, and leaves it.
        assert [(found["kind"], found["object"].rpartition("/")[2]) for found in findings(site)] == [
            ("directory-left", "2")
        ]
        somebody.is_as_it_was(before)

        code, output = site.run("playbooks/teardown.yml", nebula_networks=[NETWORK])
        assert code == 0, output
        somebody.is_as_it_was(before)
        assert tell("virsh", "-q", "list", "--all", "--name").split() == ["one-0", "one-05", "one-1"]
        assert not Path("/sys/class/net/nbr0").exists()
        assert " nebula_" not in tell("nft", "list", "tables")
        left = {str(path.relative_to(site.root)) for path in site.root.rglob("*")}
        assert left == {"notes.txt", "datastores", "datastores/0", "datastores/0/2", "datastores/0/2/disk.0"}
    finally:
        somebody.move_out()
