# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A front-end and two nodes that do not see its datastores: bare hosts, each a world of its own with its own libvirtd,
users and sshd, one bridge between them. Real guests boot from images that were sent there, and write."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.site_runs import ROOT, Site

WORLD = ROOT / "tests/tools/world.py"
# On each of the hosts a directory of its own, as roots of different hosts have one name. sshd's StrictModes wants that
# nobody else can write above it.
PLACE = Path("/srv")
BRIDGE = "nbsite"
# Its second sector becomes what its first is, by the BIOS; then it says B on the serial port, and halts.
WRITES = bytes.fromhex("31c08ec0b80103bb007cb90200b600cd13baf803b042eef4ebfd").ljust(510, b"\0") + b"\x55\xaa"
IMAGE = WRITES.ljust(1 << 20, b"\0")
TEMPLATE = """
CPU = 0.05
MEMORY = 32
OS = [ MACHINE = "pc" ]
DISK = [ IMAGE = "{image}", DEV_PREFIX = "{prefix}" ]
CONTEXT = [ TOKEN = "t" ]
"""
# What becomes a host of its own: its users and configuration, its root, its link, its server. SHLVL says that bash is
# below another shell: it would read the .bashrc of a login over ssh, and root's may hold anything.
NODE = """
set -e
cp -a /etc "$NEBULA_WORLD/etc"
mount --bind "$NEBULA_WORLD/etc" /etc
mkdir -m 755 "$NEBULA_WORLD/srv"
mount --bind "$NEBULA_WORLD/srv" {place}
echo "$NEBULA_WORLD" >{told}.new
mv {told}.new {told}
until ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done
ip address add 10.77.0.{number}/24 dev eth0
ip link set eth0 up
rm -f /etc/ssh/ssh_host_*
ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
install -m 600 {key}.pub /etc/ssh/root_keys
mkdir -p /run/sshd
cat >/etc/ssh/sshd_config <<EOF
ListenAddress 10.77.0.{number}
AuthorizedKeysFile /etc/ssh/root_keys .ssh/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
SetEnv SHLVL=2
PidFile none
EOF
exec /usr/sbin/sshd -D -e
"""


class Node:
    """outside: the directory that is its own /srv, as others see it."""

    def __init__(self, directory: Path, number: int) -> None:
        self.name, self.number = f"node{number}", number
        self.key, self.told = directory / "login", directory / f"node{number}.told"
        script = NODE.format(place=PLACE, told=self.told, number=number + 1, key=self.key)
        self.log = (directory / f"node{number}.log").open("wb")
        # A process of this world, and in it a world of its own.
        environment = {key: value for key, value in os.environ.items() if key != "NEBULA_WORLD"}
        self.process = subprocess.Popen(
            [sys.executable, str(WORLD), "--no-daemons", "--", "sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            env=environment,
        )
        wait_for(self.told.exists, f"{self.name}: its world")
        self.outside = Path(self.told.read_text().strip()) / "srv"
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ip("link", "add", f"nb{number}", "type", "veth", "peer", "name", "eth0", "netns", children[0])
        ip("link", "set", f"nb{number}", "master", BRIDGE, "up")

    @property
    def root(self) -> Path:
        return self.outside / "nebula"

    def host(self) -> dict[str, Any]:
        return {
            "ansible_connection": "ssh",
            "ansible_host": f"10.77.0.{self.number + 1}",
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.key),
            "ansible_ssh_common_args": (
                "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
                # A shared connection would outlive the test.
                " -o ControlMaster=no -o ControlPath=none"
            ),
        }

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        self.log.close()


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


class Sent(Site):
    def __init__(self) -> None:
        directory = Path(os.environ["NEBULA_WORLD"])
        images = {}
        for name in ("data", "base"):
            images[name] = directory / f"{name}.raw"
            images[name].write_bytes(IMAGE)
        super().__init__(str(images["base"]))
        self.root = PLACE / "nebula"
        self.nodes: list[Node] = []
        self.variables |= {
            "nebula_root": str(self.root),
            "nebula_accelerator": "qemu",
            "nebula_manage_packages": False,
            "nebula_verify": False,
            "nebula_networks": [],
            "nebula_images": [
                {"name": "data", "path": str(images["data"]), "persistent": True},
                {"name": "base", "path": str(images["base"])},
            ],
            "nebula_templates": [
                {"name": "data", "template": TEMPLATE.format(image="data", prefix="vd")},
                {"name": "base", "template": TEMPLATE.format(image="base", prefix="vd")},
            ],
            "nebula_vms": [
                {"name": "own", "template": "data", "host": "node1"},
                {"name": "shared-%i", "count": 2, "template": "base", "host": "node2"},
            ],
        }

    def inventory(self, **changes: Any) -> Path:
        variables = {**self.variables, **changes}
        connection = variables.pop("ansible_connection")
        nodes = {node.name: node.host() for node in self.nodes}
        inventory = self.directory / "hosts.yml"
        groups = {
            "nebula_frontend": {"hosts": {"front": {"ansible_connection": connection}}},
            "nebula_nodes": {"hosts": nodes},
        }
        inventory.write_text(json.dumps({"all": {"vars": variables, "children": groups}}))
        return inventory

    def done(self, playbook: str, *arguments: str, **changes: Any) -> str:
        code, output = self.run(playbook, *arguments, **changes)
        assert code == 0, output + "".join(Path(node.log.name).read_text() for node in self.nodes)
        return output

    def image(self, name: str) -> dict[str, Any]:
        code, output = self.execute(
            [
                str(self.programs / "ansible"), "-i", str(self.inventory()), "front", "-m",
                "nebula.provision.nebula_info", "-a", f"gather=images root={self.root}",
            ]
        )  # fmt: skip
        assert code == 0, output
        told = json.loads(output[output.index("{") :])
        return next(image for image in told["images"] if image["name"] == name)


@contextlib.contextmanager
def hosts(site: Sent) -> Iterator[None]:
    """This world as the front-end, and two nodes."""
    # The directory is that of other tests as well.
    own = site.directory / "transfer"
    place = own / "place"
    place.mkdir(parents=True)
    place.chmod(0o755)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(own / "login")], check=True)
    subprocess.run(["mount", "--bind", str(place), str(PLACE)], check=True)
    ip("link", "add", BRIDGE, "type", "bridge")
    try:
        ip("address", "add", "10.77.0.1/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")
        for number in (1, 2):
            site.nodes.append(Node(own, number))
        yield
    finally:
        for node in site.nodes:
            node.close()
        ip("link", "delete", BRIDGE)
        subprocess.run(["umount", str(PLACE)], check=True)


def wrote(path: Path) -> bool:
    return path.read_bytes()[512:1024] == WRITES
