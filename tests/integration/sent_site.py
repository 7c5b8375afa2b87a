# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A front-end and two nodes that do not see its datastores (tests/tools/nodes.py), with the root that the roles choose.
Real guests boot from images that were sent there, and write."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nodes import Node, nodes

from ansible_collections.nebula.provision.tests.integration.site_runs import Site

DEFAULT_ROOT = Path("/var/lib/nebula")
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


def root_of(node: Node) -> Path:
    """Its nebula_root, as it is seen from here."""
    return node.path(str(DEFAULT_ROOT))


class Sent(Site):
    def __init__(self) -> None:
        directory = Path(os.environ["NEBULA_WORLD"])
        images = {}
        for name in ("data", "base"):
            images[name] = directory / f"{name}.raw"
            images[name].write_bytes(IMAGE)
        super().__init__(str(images["base"]))
        self.root = DEFAULT_ROOT
        self.nodes = nodes()[:2]
        del self.variables["nebula_root"]
        self.variables |= {
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
        # What each host is reached by.
        del variables["ansible_connection"]
        inventory: dict[str, Any] = json.loads(Path(os.environ["NEBULA_INVENTORY"]).read_text())
        inventory["all"]["vars"] = variables
        reached = inventory["all"]["children"]["nebula_nodes"]["hosts"]
        inventory["all"]["children"]["nebula_nodes"]["hosts"] = {node.name: reached[node.name] for node in self.nodes}
        path = self.directory / "hosts.yml"
        path.write_text(json.dumps(inventory))
        return path

    def done(self, playbook: str, *arguments: str, **changes: Any) -> str:
        code, output = self.run(playbook, *arguments, **changes)
        assert code == 0, output
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


def state_of(node: Node) -> dict[str, Any]:
    """What a teardown has to leave as it was."""
    files = [
        str(path.relative_to(node.path("/")))
        for place in ("/etc", "/var/lib", "/root")
        for path in node.path(place).rglob("*")
        # libvirt's own, Ansible's, and what useradd locks with and copies before.
        if not {"libvirt", ".ansible", ".pwd.lock"} & set(path.parts) and not path.name.endswith("-")
    ]
    return {
        "files": sorted(files),
        "users": node.path("/etc/passwd").read_text(),
        "links": [link["ifname"] for link in json.loads(node.run("ip", "-json", "link").stdout)],
        "nft": node.run("nft", "--stateless", "--terse", "list", "ruleset").stdout,
        "forward": node.run("cat", "/proc/sys/net/ipv4/ip_forward").stdout,
    }


@contextlib.contextmanager
def hosts(site: Sent) -> Iterator[None]:
    """They are bare afterwards, too: the next test has the same."""
    these = list(site.nodes)
    try:
        yield
    finally:
        for node in these:
            node.erase()
        shutil.rmtree(site.root, ignore_errors=True)


def wrote(path: Path) -> bool:
    return path.read_bytes()[512:1024] == WRITES
